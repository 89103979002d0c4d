/* Winograd's minimal filtering F(TILE x TILE, 3 x 3) (Lavin and Gray 2016, arXiv:1509.09308): what stands before and
 * behind the products. A tile of TILE x TILE results comes of EDGE x EDGE pixels; each of the EDGE * EDGE places in the
 * transform is a product of its own. Channels-last, one channel of one tile an item.
 *
 * image: height, width, channels of the input, tiles along height and width, height, width, channels of the output
 * more: padding above and to the left, tiles in all */
#define EDGE (TILE + 2)

#if TILE == 2
#define TO_PRODUCTS(r, d)                                                                                              \
    r[0] = d[0] - d[2];                                                                                                \
    r[1] = d[1] + d[2];                                                                                                \
    r[2] = d[2] - d[1];                                                                                                \
    r[3] = d[1] - d[3];
#define FROM_PRODUCTS(r, m)                                                                                            \
    r[0] = m[0] + m[1] + m[2];                                                                                         \
    r[1] = m[1] - m[2] - m[3];
#else
#define TO_PRODUCTS(r, d)                                                                                              \
    {                                                                                                                  \
        const float even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1];                                               \
        const float even2 = d[4] - d[2], odd2 = 2.0f * (d[3] - d[1]);                                                  \
        r[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];                                                                       \
        r[1] = even + odd;                                                                                             \
        r[2] = even - odd;                                                                                             \
        r[3] = even2 + odd2;                                                                                           \
        r[4] = even2 - odd2;                                                                                           \
        r[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];                                                                       \
    }
#define FROM_PRODUCTS(r, m)                                                                                            \
    {                                                                                                                  \
        const float even = m[1] + m[2], odd = m[1] - m[2], even2 = m[3] + m[4], odd2 = m[3] - m[4];                    \
        r[0] = m[0] + even + even2;                                                                                    \
        r[1] = odd + 2.0f * odd2;                                                                                      \
        r[2] = even + 4.0f * even2;                                                                                    \
        r[3] = odd + 8.0f * odd2 + m[5];                                                                               \
    }
#endif

#ifdef BIAS
/* y = post(A^T m A + bias) */
__kernel void from_products(__global const float *m, ulong mo, __global OUT *y, ulong yo, int8 image, int8 more
#if BIAS
                            , __global const float *bias, ulong bias_o
#endif
                                POST_PARAMS) {
    const int channels = image.s7, item = get_global_id(0), all = more.s2 * channels;
    if (item >= all) return;
    const int c = item % channels, tile = item / channels;
    const int w0 = tile % image.s4 * TILE, h0 = tile / image.s4 % image.s3 * TILE, n = tile / image.s4 / image.s3;
    float column[EDGE], half_way[EDGE][TILE], turned[EDGE], result[TILE];
    m = ATC(float, m, mo) + item;
    y = AT(OUT, y, yo);
#if BIAS
    bias = ATC(float, bias, bias_o);
#endif
    POST_BEGIN
#pragma unroll
    for (int j = 0; j < EDGE; j++) {
#pragma unroll
        for (int i = 0; i < EDGE; i++)
            column[i] = m[(i * EDGE + j) * all];
        FROM_PRODUCTS(half_way[j], column)
    }
#pragma unroll
    for (int i = 0; i < TILE; i++) {
#pragma unroll
        for (int j = 0; j < EDGE; j++)
            turned[j] = half_way[j][i];
        FROM_PRODUCTS(result, turned)
#pragma unroll
        for (int j = 0; j < TILE; j++) {
            const int h = h0 + i, w = w0 + j, o = ((n * image.s5 + h) * image.s6 + w) * channels + c;
            if (h >= image.s5 || w >= image.s6) continue;
            float v = result[j];
#if BIAS
            v += bias[c];
#endif
            POST(v, o, c);
            PUT1(v, y + o);
        }
    }
}
#else
/* v = B^T d B of the pixels d of each tile, zeros outside of the image. */
__kernel void to_products(__global const IN *x, ulong xo, __global float *v, ulong vo, int8 image, int8 more) {
    const int channels = image.s2, item = get_global_id(0), all = more.s2 * channels;
    if (item >= all) return;
    const int c = item % channels, tile = item / channels;
    const int w0 = tile % image.s4 * TILE - more.s1, h0 = tile / image.s4 % image.s3 * TILE - more.s0;
    const int n = tile / image.s4 / image.s3;
    float column[EDGE], half_way[EDGE][EDGE], turned[EDGE], result[EDGE];
    x = ATC(IN, x, xo) + n * image.s0 * image.s1 * channels + c;
    v = AT(float, v, vo) + item;
#pragma unroll
    for (int j = 0; j < EDGE; j++) {
        const int w = w0 + j;
#pragma unroll
        for (int i = 0; i < EDGE; i++) {
            const int h = h0 + i;
            const bool inside = h >= 0 && h < image.s0 && w >= 0 && w < image.s1;
            column[i] = inside ? IN1(x + (h * image.s1 + w) * channels) : 0.0f;
        }
        TO_PRODUCTS(half_way[j], column)
    }
#pragma unroll
    for (int i = 0; i < EDGE; i++) {
#pragma unroll
        for (int j = 0; j < EDGE; j++)
            turned[j] = half_way[j][i];
        TO_PRODUCTS(result, turned)
#pragma unroll
        for (int j = 0; j < EDGE; j++)
            v[(i * EDGE + j) * all] = result[j];
    }
}
#endif
