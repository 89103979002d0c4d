/* Windowed pools, channels-last: VEC channels of one output pixel an item. PADDED: padding counts for an average. */
#if VEC == 4
#define LARGER(v, z) select(z, v, (v > z) | (v != v))
#else
#define LARGER(v, z) post_max(v, z)
#endif

__kernel void pool(__global const IN *x, ulong xo, __global OUT *y, ulong yo, int n, int8 image, int8 window,
                   int8 taps, int8 ends) {
    const int o = get_global_id(0) * VEC, channels = image.s3;
    if (o >= n) return;
    const int c = o % channels, pixel = o / channels;
    const int w0 = pixel % image.s6 * window.s2 - window.s5;
    const int h0 = pixel / image.s6 % image.s5 * window.s1 - window.s4;
    const int d0 = pixel / image.s6 / image.s5 % image.s4 * window.s0 - window.s3;
    const int picture = pixel / image.s6 / image.s5 / image.s4;
    x = ATC(IN, x, xo) + picture * image.s0 * image.s1 * image.s2 * channels + c;
    y = AT(OUT, y, yo);
    FLOATS v = (FLOATS)(MAX ? -INFINITY : 0.0f);
    int count = 0;
    for (int a = 0; a < taps.s0; a++) {
        const int d = d0 + a * taps.s3;
        for (int b = 0; b < taps.s1; b++) {
            const int h = h0 + b * taps.s4;
            for (int e = 0; e < taps.s2; e++) {
                const int w = w0 + e * taps.s5;
                const bool inside = d >= 0 && d < image.s0 && h >= 0 && h < image.s1 && w >= 0 && w < image.s2;
#if PADDED
                count += d < ends.s0 && h < ends.s1 && w < ends.s2;
#else
                count += inside;
#endif
                if (!inside) continue;
                const FLOATS z = LOAD_IN(x + ((d * image.s1 + h) * image.s2 + w) * channels);
                v = MAX ? LARGER(v, z) : v + z;
            }
        }
    }
    STORE(MAX ? v : v / (float)max(count, 1), y + o); /* 0: all of it is padding, and v is 0 */
}
