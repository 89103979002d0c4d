/* y[outer][i][inner] = x[outer][index[i]][inner]. An index out of range sets the flag and reads element 0. */
__kernel void gather(__global const T *x, ulong xo, __global const INDEX *index, ulong io, __global T *y, ulong yo,
                     int n, int extent, int count, int inner, __global int *flag) {
    const int o = get_global_id(0);
    if (o >= n) return;
    const int i = o % inner, k = o / inner % count, outer = o / inner / count;
    x = ATC(T, x, xo);
    index = ATC(INDEX, index, io);
    y = AT(T, y, yo);
    INDEX at = index[k];
    at = at < 0 ? at + extent : at;
    if (at < 0 || at >= extent) {
        *flag = 1;
        at = 0;
    }
    y[o] = x[(outer * extent + (int)at) * inner + i];
}
