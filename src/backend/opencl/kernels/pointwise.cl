/* A chain of post-operations over a broadcast shape, VEC neighbours an item. START: the chain's first values at o, c. */
__kernel void pointwise(__global const IN *x, ulong xo, __global OUT *y, ulong yo, int n, int columns, int8 xdims,
                        int8 xs POST_PARAMS) {
    const int o = get_global_id(0) * VEC;
    if (o >= n) return;
    const int c = o % columns;
    x = ATC(IN, x, xo);
    y = AT(OUT, y, yo);
    POST_BEGIN
    FLOATS v = START;
    FINISH(v);
    STORE(v, y + o);
}
