/* y[outer][i][inner] = x[outer][index[i]][inner]. An index out of range sets the flag and reads element 0. T: what is
 * copied as it lies; without, IN to OUT. */
#ifdef T
#define FROM T
#define TO T
#define COPY(x, y) *(y) = *(x)
#else
#define FROM IN
#define TO OUT
#define COPY(x, y) PUT1(IN1(x), y)
#endif

__kernel void gather(__global const FROM *x, ulong xo, __global const INDEX *index, ulong io, __global TO *y, ulong yo,
                     int n, int extent, int count, int inner, __global int *flag) {
    const int o = get_global_id(0);
    if (o >= n) return;
    const int i = o % inner, k = o / inner % count, outer = o / inner / count;
    x = ATC(FROM, x, xo);
    index = ATC(INDEX, index, io);
    y = AT(TO, y, yo);
    INDEX at = index[k];
    at = at < 0 ? at + extent : at;
    if (at < 0 || at >= extent) {
        *flag = 1;
        at = 0;
    }
    COPY(x + ((outer * extent + (int)at) * inner + i), y + o);
}
