/* A chain of post-operations over a broadcast shape. START: where its first value lies, of o or col. */
__kernel void pointwise(__global const float *x, ulong xo, __global float *y, ulong yo, int n, int columns, int8 xdims,
                        int8 xs POST_PARAMS) {
    const int o = get_global_id(0);
    if (o >= n) return;
    const int col = o % columns;
    x = ATC(float, x, xo);
    y = AT(float, y, yo);
    POST_BEGIN
    float v = x[START];
    POST(v, o, col);
    y[o] = v;
}
