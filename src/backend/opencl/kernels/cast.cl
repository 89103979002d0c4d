/* FROM to TO. f16 needs no arithmetic of that type: it is read and written as float. */
#if FROM_HALF
#define VALUE vload_half(o, x)
#else
#define VALUE x[o]
#endif

__kernel void cast(__global const FROM *x, ulong xo, __global TO *y, ulong yo, int n) {
    const int o = get_global_id(0);
    if (o >= n) return;
    x = ATC(FROM, x, xo);
    y = AT(TO, y, yo);
#if TO_HALF
    vstore_half_rte(VALUE, o, y);
#elif TO_BOOL
    y[o] = VALUE != 0;
#else
    y[o] = (TO)VALUE;
#endif
}
