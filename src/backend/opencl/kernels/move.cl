/* Elements to other places: dims are the last of eight, in the destination's order. Of type T, as they lie; without, IN
 * to OUT. */
#ifdef T
#define FROM T
#define TO T
#define COPY(x, y) *(y) = *(x)
#else
#define FROM IN
#define TO OUT
#define COPY(x, y) PUT1(IN1(x), y)
#endif

__kernel void move(__global const FROM *x, ulong xo, __global TO *y, ulong yo, int n, int8 dims, int8 src, int8 dst,
                   int src_at, int dst_at) {
    const int o = get_global_id(0);
    if (o >= n) return;
    x = ATC(FROM, x, xo);
    y = AT(TO, y, yo);
    COPY(x + (src_at + strided(o, dims, src)), y + (dst_at + strided(o, dims, dst)));
}

#ifdef T
union any {
    uint2 bits;
    uchar b1;
    ushort b2;
    uint b4;
    ulong b8;
};

/* n elements of one value, whose bits are low and high. */
__kernel void fill(__global T *y, ulong yo, int n, int low, int high) {
    const int o = get_global_id(0);
    union any v;
    if (o >= n) return;
    y = AT(T, y, yo);
    v.bits = (uint2)((uint)low, (uint)high);
    y[o] = *(T *)&v;
}
#endif
