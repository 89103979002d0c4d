/* A chain of post-operations over a broadcast shape, VEC neighbours an item. START: the chain's first values at o, c. */
__kernel void pointwise(__global const float *x, ulong xo, __global float *y, ulong yo, int n, int columns, int8 xdims,
                        int8 xs POST_PARAMS) {
    const int o = get_global_id(0) * VEC;
    if (o >= n) return;
    const int c = o % columns;
    x = ATC(float, x, xo);
    y = AT(float, y, yo);
    POST_BEGIN
    FLOATS v = START;
    FINISH(v);
    STORE(v, y + o);
}
