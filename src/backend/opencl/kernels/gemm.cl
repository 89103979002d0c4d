/* C[z] = post(A[z] B[z] + bias), a tile of BM x BN by one work-group of BM/8 x BN/8 items, 8 x 8 results an item.
 *
 * A_MODE 0: A[m][k]   1: A[k][m]   2: windows of a convolution   3: windows of a transposed convolution
 * B_MODE 0: B[k][n]   1: B[n][k]   2: panels in any storage: k rounded up to BK, n to 4, zeros behind
 * PARTS 1: of the depth, sizes.s7 rows of B to each of the groups in z; C is [part][M][N], added up by sum_parts.cl
 * An item's results are four rows and columns in either half of the tile, so that neighbours read neighbouring float4s
 * of local memory and write neighbouring float4s. */
#define ITEMS ((BM / 8) * (BN / 8))
#define A_LOADS (BM * BK / 4 / ITEMS)
#define B_LOADS (BN * BK / 4 / ITEMS)

float4 load4(__global const float *p, int n) {
    if (n >= 4) return vload4(0, p);
    float4 v = (float4)(0.0f);
    if (n > 0) v.x = p[0];
    if (n > 1) v.y = p[1];
    if (n > 2) v.z = p[2];
    return v;
}

#if A_MODE >= 2
/* Where the window of an output position begins: image and place. */
typedef struct spot {
    int base, d, h, w;
} spot;

spot spot_of(int m, int M, int8 image, int8 window) {
    spot s;
    const int w = m % image.s6, h = m / image.s6 % image.s5, d = m / image.s6 / image.s5 % image.s4;
    const int n = m / image.s6 / image.s5 / image.s4;
    s.base = n * image.s0 * image.s1 * image.s2 * image.s3;
#if A_MODE == 2
    s.d = d * window.s0 - window.s3;
    s.h = h * window.s1 - window.s4;
    s.w = w * window.s2 - window.s5;
#else
    s.d = d + window.s3;
    s.h = h + window.s4;
    s.w = w + window.s5;
#endif
    if (m >= M) s.d = -(1 << 28);
    return s;
}

/* Offset of a tap, or -1 outside of the image. */
int tap_at(const spot *s, int4 tap, int8 image, int8 window) {
#if A_MODE == 2
    const int d = s->d + tap.x, h = s->h + tap.y, w = s->w + tap.z;
#else
    const int td = s->d - tap.x, th = s->h - tap.y, tw = s->w - tap.z;
    if (td < 0 || th < 0 || tw < 0) return -1;
    const int d = td / window.s0, h = th / window.s1, w = tw / window.s2;
    if (d * window.s0 != td || h * window.s1 != th || w * window.s2 != tw) return -1;
#endif
    if (d < 0 || d >= image.s0 || h < 0 || h >= image.s1 || w < 0 || w >= image.s2) return -1;
    return s->base + ((d * image.s1 + h) * image.s2 + w) * image.s3 + tap.w;
}

/* Four rows of B from k on: with FOUR they are channels of one tap. */
float4 window4(__global const float *a, const spot *s, __global const int4 *taps, int k, int8 image, int8 window) {
#if FOUR
    const int at = tap_at(s, taps[k], image, window);
    return at < 0 ? (float4)(0.0f) : vload4(0, a + at);
#else
    const int x = tap_at(s, taps[k], image, window), y = tap_at(s, taps[k + 1], image, window);
    const int z = tap_at(s, taps[k + 2], image, window), w = tap_at(s, taps[k + 3], image, window);
    return (float4)(x < 0 ? 0.0f : a[x], y < 0 ? 0.0f : a[y], z < 0 ? 0.0f : a[z], w < 0 ? 0.0f : a[w]);
#endif
}
#endif

#define MAC(r, v)                                                                                                      \
    acc[r][0] = (v) * y0 + acc[r][0];                                                                                  \
    acc[r][1] = (v) * y1 + acc[r][1];

#if BIAS
#define ADD_BIAS(x, col) x += bias[col]
#else
#define ADD_BIAS(x, col)
#endif

#define FINISH(x, j)                                                                                                   \
    if (n + j < N) {                                                                                                   \
        float v = x;                                                                                                   \
        ADD_BIAS(v, col0 + n + j);                                                                                     \
        POST(v, o + j, col0 + n + j);                                                                                  \
        x = v;                                                                                                         \
    }

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void gemm(__global const float *a, ulong ao,
                                                                     __global const WEIGHT *b, ulong bo,
                                                                     __global float *c, ulong co, int8 sizes,
                                                                     int8 step
#if BIAS
                                                                     , __global const float *bias, ulong bias_o
#endif
#if A_MODE >= 2
                                                                     , __global const int4 *taps, ulong taps_o,
                                                                     int8 image, int8 window
#endif
                                                                         WEIGHT_PARAMS POST_PARAMS) {
    __local float4 as[BK * BM / 4], bs[BK * BN / 4];
    const int M = sizes.s0, N = sizes.s1, lda = sizes.s3, ldb = sizes.s4, ldc = sizes.s5;
#if PARTS
    const int first = get_group_id(2) * sizes.s7, K = min(sizes.s2, first + sizes.s7), zi = 0, zo = 0;
    const int c_at = get_group_id(2) * M * N, col0 = 0;
#else
    const int first = 0, K = sizes.s2, zi = get_group_id(2) % sizes.s6, zo = get_group_id(2) / sizes.s6;
    const int c_at = zo * step.s4 + zi * step.s5, col0 = zo * step.s6 + zi * step.s7;
#endif
    const int lid = get_local_id(0), tx = lid % (BN / 8), ty = lid / (BN / 8);
    const int n0 = get_group_id(0) * BN, m0 = get_group_id(1) * BM;
    float4 acc[8][2];
    a = ATC(float, a, ao) + zo * step.s0 + zi * step.s1;
    b = ATC(WEIGHT, b, bo) + WEIGHT_STEP(zo * step.s2 + zi * step.s3);
    WEIGHT_BEGIN(zi)
    c = AT(float, c, co);
#if BIAS
    bias = ATC(float, bias, bias_o);
#endif
#if A_MODE >= 2
    spot spots[A_LOADS];
    taps = ATC(int4, taps, taps_o);
    for (int i = 0; i < A_LOADS; i++)
        spots[i] = spot_of(m0 + (lid + i * ITEMS) / (BK / 4), M, image, window);
#endif
    POST_BEGIN
    for (int r = 0; r < 8; r++)
        acc[r][0] = acc[r][1] = (float4)(0.0f);

    for (int k0 = first; k0 < K; k0 += BK) {
        float4 ra[A_LOADS], rb[B_LOADS];
        for (int i = 0; i < A_LOADS; i++) {
            const int at = lid + i * ITEMS;
#if A_MODE == 1
            const int k = k0 + at / (BM / 4), m = m0 + at % (BM / 4) * 4;
            ra[i] = k < K ? load4(a + k * lda + m, M - m) : (float4)(0.0f);
#else
            const int m = m0 + at / (BK / 4), k = k0 + at % (BK / 4) * 4;
#if A_MODE == 0
            ra[i] = m < M ? load4(a + m * lda + k, K - k) : (float4)(0.0f);
#else
            ra[i] = window4(a, &spots[i], taps, k, image, window);
#endif
#endif
        }
        for (int i = 0; i < B_LOADS; i++) {
            const int at = lid + i * ITEMS;
#if B_MODE == 1
            const int n = n0 + at / (BK / 4), k = k0 + at % (BK / 4) * 4;
            rb[i] = n < N ? load4(b + n * ldb + k, K - k) : (float4)(0.0f);
#else
            const int k = k0 + at / (BN / 4), n = n0 + at % (BN / 4) * 4;
#if B_MODE == 0
            rb[i] = k < K ? load4(b + k * ldb + n, N - n) : (float4)(0.0f);
#else
            rb[i] = n < ldb ? DECODED(weights4(b, k * ldb + n), k0 / BLOCK * ldb + n) : (float4)(0.0f);
#endif
#endif
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = 0; i < A_LOADS; i++) {
            const int at = lid + i * ITEMS;
#if A_MODE == 1
            as[at] = ra[i];
#else
            __local float *to = (__local float *)as + at % (BK / 4) * 4 * BM + at / (BK / 4);
            to[0] = ra[i].x;
            to[BM] = ra[i].y;
            to[2 * BM] = ra[i].z;
            to[3 * BM] = ra[i].w;
#endif
        }
        for (int i = 0; i < B_LOADS; i++) {
            const int at = lid + i * ITEMS;
#if B_MODE == 1
            __local float *to = (__local float *)bs + at % (BK / 4) * 4 * BN + at / (BK / 4);
            to[0] = rb[i].x;
            to[BN] = rb[i].y;
            to[2 * BN] = rb[i].z;
            to[3 * BN] = rb[i].w;
#else
            bs[at] = rb[i];
#endif
        }
        barrier(CLK_LOCAL_MEM_FENCE);
#if UNROLL
#pragma unroll
#endif
        for (int k = 0; k < BK; k++) {
            const float4 x0 = as[k * (BM / 4) + ty], x1 = as[k * (BM / 4) + BM / 8 + ty];
            const float4 y0 = bs[k * (BN / 4) + tx], y1 = bs[k * (BN / 4) + BN / 8 + tx];
            MAC(0, x0.x)
            MAC(1, x0.y)
            MAC(2, x0.z)
            MAC(3, x0.w)
            MAC(4, x1.x)
            MAC(5, x1.y)
            MAC(6, x1.z)
            MAC(7, x1.w)
        }
    }

    for (int r = 0; r < 8; r++) {
        const int m = m0 + r / 4 * (BM / 2) + ty * 4 + r % 4;
        if (m >= M) continue;
        for (int half_of = 0; half_of < 2; half_of++) {
            const int n = n0 + half_of * (BN / 2) + tx * 4, o = c_at + m * ldc + n;
            float4 v4 = n < N ? FACTORED(acc[r][half_of], n) : acc[r][half_of];
            FINISH(v4.x, 0)
            FINISH(v4.y, 1)
            FINISH(v4.z, 2)
            FINISH(v4.w, 3)
            if (n + 3 < N) {
                vstore4(v4, 0, c + o);
            } else {
                if (n < N) c[o] = v4.x;
                if (n + 1 < N) c[o + 1] = v4.y;
                if (n + 2 < N) c[o + 2] = v4.z;
            }
        }
    }
}
