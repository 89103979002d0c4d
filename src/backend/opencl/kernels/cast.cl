/* FROM to TO. f16 needs no arithmetic of that type: it is read and written as float. */
__kernel void cast(__global const FROM *x, ulong xo, __global TO *y, ulong yo, int n) {
    const int o = get_global_id(0);
    if (o >= n) return;
    x = ATC(FROM, x, xo);
    y = AT(TO, y, yo);
#if FROM_HALF
    y[o] = vload_half(o, x);
#elif TO_HALF
    vstore_half_rte(x[o], o, y);
#elif TO_BOOL
    y[o] = x[o] != 0;
#else
    y[o] = (TO)x[o];
#endif
}
