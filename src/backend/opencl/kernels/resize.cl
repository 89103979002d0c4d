/* Resize, channels-last. taps: of each output row, then of each column: position, the next, the share of the next. */
float mix_of(float a, float b, float share) { return (b - a) * share + a; }

__kernel void resize(__global const float *x, ulong xo, __global float *y, ulong yo, __global const int4 *taps,
                     ulong taps_o, int n, int8 sizes) {
    const int o = get_global_id(0), channels = sizes.s0;
    if (o >= n) return;
    const int c = o % channels, w = o / channels % sizes.s4, h = o / channels / sizes.s4 % sizes.s3;
    const int picture = o / channels / sizes.s4 / sizes.s3;
    taps = ATC(int4, taps, taps_o);
    const int4 row = taps[h], column = taps[sizes.s3 + w];
    x = ATC(float, x, xo) + picture * sizes.s1 * sizes.s2 * channels + c;
    y = AT(float, y, yo);
#if LINEAR
    __global const float *top = x + row.x * sizes.s2 * channels, *bottom = x + row.y * sizes.s2 * channels;
    const int left = column.x * channels, right = column.y * channels;
    const float across = as_float(column.z);
    y[o] = mix_of(mix_of(top[left], top[right], across), mix_of(bottom[left], bottom[right], across), as_float(row.z));
#else
    y[o] = x[(row.x * sizes.s2 + column.x) * channels];
#endif
}
