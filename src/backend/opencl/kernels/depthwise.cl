/* A depthwise convolution, channels-last, weights [taps][channels].
 *
 * PIXELS 0: VEC channels of one output pixel an item
 * PIXELS n: of n neighbours along the width, in two dims, where ACROSS taps of the width lie STRIDE apart in the output: what
 *     an item reads of a row serves all of its pixels */
#if PIXELS == 0
__kernel void depthwise(__global const IN *x, ulong xo, __global const float *weights, ulong wo, __global OUT *y,
                        ulong yo, int n, int8 image, int8 window, int8 taps
#if BIAS
                        , __global const float *bias, ulong bias_o
#endif
                            POST_PARAMS) {
    const int item = get_global_id(0), channels = image.s7, o = item * VEC;
    if (item >= n) return;
    const int c = o % channels, pixel = o / channels;
    const int w0 = pixel % image.s6 * window.s2 - window.s5;
    const int h0 = pixel / image.s6 % image.s5 * window.s1 - window.s4;
    const int d0 = pixel / image.s6 / image.s5 % image.s4 * window.s0 - window.s3;
    const int picture = pixel / image.s6 / image.s5 / image.s4;
    x = ATC(IN, x, xo) + picture * image.s0 * image.s1 * image.s2 * image.s3 + c / window.s7;
    weights = ATC(float, weights, wo) + c;
    y = AT(OUT, y, yo);
#if BIAS
    bias = ATC(float, bias, bias_o);
#endif
    POST_BEGIN
    FLOATS sum = (FLOATS)(0.0f);
    for (int a = 0; a < taps.s0; a++) {
        const int d = d0 + a * taps.s3;
        for (int b = 0; b < taps.s1; b++) {
            const int h = h0 + b * taps.s4;
            for (int e = 0; e < taps.s2; e++, weights += window.s6) {
                const int w = w0 + e * taps.s5;
                if (d < 0 || d >= image.s0 || h < 0 || h >= image.s1 || w < 0 || w >= image.s2) continue;
                sum = LOAD_IN(x + ((d * image.s1 + h) * image.s2 + w) * image.s3) * LOAD(weights) + sum;
            }
        }
    }
    ADD_BIAS(sum);
    FINISH(sum);
    STORE(sum, y + o);
}
#else
#define SPAN ((PIXELS - 1) * STRIDE + ACROSS)

__kernel void depthwise(__global const IN *x, ulong xo, __global const float *weights, ulong wo, __global OUT *y,
                        ulong yo, int n, int8 image, int8 window, int8 taps
#if BIAS
                        , __global const float *bias, ulong bias_o
#endif
                            POST_PARAMS) {
    const int item = get_global_id(0), channels = image.s7, fours = channels / VEC, groups = taps.s7;
    if (item >= n) return;
    const int c = item % fours * VEC, w_out = item / fours % groups * PIXELS, row = item / fours / groups;
    const int h0 = row % image.s5 * window.s1 - window.s4, w0 = w_out * STRIDE - window.s5;
    x = ATC(IN, x, xo) + row / image.s5 * image.s1 * image.s2 * image.s3 + c;
    weights = ATC(float, weights, wo) + c;
    y = AT(OUT, y, yo);
#if BIAS
    bias = ATC(float, bias, bias_o);
#endif
    POST_BEGIN
    FLOATS sum[PIXELS], pixel[SPAN];
    for (int p = 0; p < PIXELS; p++)
        sum[p] = (FLOATS)(0.0f);
    for (int b = 0; b < taps.s1; b++) {
        const int h = h0 + b * taps.s4;
        if (h >= 0 && h < image.s1) {
#pragma unroll
            for (int i = 0; i < SPAN; i++) {
                const int w = w0 + i;
                pixel[i] = w >= 0 && w < image.s2 ? LOAD_IN(x + (h * image.s2 + w) * image.s3) : (FLOATS)(0.0f);
            }
#pragma unroll
            for (int e = 0; e < ACROSS; e++) {
                const FLOATS weight = LOAD(weights + (b * ACROSS + e) * window.s6);
#pragma unroll
                for (int p = 0; p < PIXELS; p++)
                    sum[p] = pixel[p * STRIDE + e] * weight + sum[p];
            }
        }
    }
#pragma unroll
    for (int p = 0; p < PIXELS; p++) {
        const int o = (row * image.s6 + w_out + p) * channels + c;
        if (w_out + p < image.s6) {
            ADD_BIAS(sum[p]);
            FINISH(sum[p]);
            STORE(sum[p], y + o);
        }
    }
}
#endif
