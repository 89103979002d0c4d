/* Elements of type T to other places: dims are the last of eight, in the destination's order. */
__kernel void move(__global const T *x, ulong xo, __global T *y, ulong yo, int n, int8 dims, int8 src, int8 dst,
                   int src_at, int dst_at) {
    const int o = get_global_id(0);
    if (o >= n) return;
    x = ATC(T, x, xo);
    y = AT(T, y, yo);
    y[dst_at + strided(o, dims, dst)] = x[src_at + strided(o, dims, src)];
}

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
