/* A depthwise convolution, channels-last: VEC channels of one output pixel an item. Weights [taps][channels]. */
#if VEC == 4
#define FLOATS float4
#define LOAD(p) vload4(0, p)
#else
#define FLOATS float
#define LOAD(p) (*(p))
#endif

#if BIAS
#define ADD_BIAS(v, c) v += bias[c]
#else
#define ADD_BIAS(v, c)
#endif

#define FINISH(part, j)                                                                                                \
    {                                                                                                                  \
        float v = part;                                                                                                \
        ADD_BIAS(v, c + j);                                                                                            \
        POST(v, o + j, c + j);                                                                                         \
        part = v;                                                                                                      \
    }

__kernel void depthwise(__global const float *x, ulong xo, __global const float *weights, ulong wo, __global float *y,
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
    x = ATC(float, x, xo) + picture * image.s0 * image.s1 * image.s2 * image.s3 + c / window.s7;
    weights = ATC(float, weights, wo) + c;
    y = AT(float, y, yo);
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
                sum = LOAD(x + ((d * image.s1 + h) * image.s2 + w) * image.s3) * LOAD(weights) + sum;
            }
        }
    }
#if VEC == 4
    FINISH(sum.x, 0)
    FINISH(sum.y, 1)
    FINISH(sum.z, 2)
    FINISH(sum.w, 3)
    vstore4(sum, 0, y + o);
#else
    FINISH(sum, 0)
    y[o] = sum;
#endif
}
