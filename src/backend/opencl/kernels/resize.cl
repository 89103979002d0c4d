/* Resize, channels-last. taps: of each output row, then of each column: position, the next, the share of the next. */
#if CODES /* of 8 bits, which only move */
#undef IN
#undef OUT
#undef IN1
#undef PUT1
#define IN uchar
#define OUT uchar
#define IN1(p) (*(p))
#define PUT1(v, p) *(p) = v
#endif
float mix_of(float a, float b, float share) { return (b - a) * share + a; }

__kernel void resize(__global const IN *x, ulong xo, __global OUT *y, ulong yo, __global const int4 *taps,
                     ulong taps_o, int n, int8 sizes) {
    const int o = get_global_id(0), channels = sizes.s0;
    if (o >= n) return;
    const int c = o % channels, w = o / channels % sizes.s4, h = o / channels / sizes.s4 % sizes.s3;
    const int picture = o / channels / sizes.s4 / sizes.s3;
    taps = ATC(int4, taps, taps_o);
    const int4 row = taps[h], column = taps[sizes.s3 + w];
    x = ATC(IN, x, xo) + picture * sizes.s1 * sizes.s2 * channels + c;
    y = AT(OUT, y, yo);
#if LINEAR
    __global const IN *top = x + row.x * sizes.s2 * channels, *bottom = x + row.y * sizes.s2 * channels;
    const int left = column.x * channels, right = column.y * channels;
    const float across = as_float(column.z);
    const float above = mix_of(IN1(top + left), IN1(top + right), across);
    const float below = mix_of(IN1(bottom + left), IN1(bottom + right), across);
    PUT1(mix_of(above, below, as_float(row.z)), y + o);
#else
    PUT1(IN1(x + (row.x * sizes.s2 + column.x) * channels), y + o);
#endif
}
