/* C[m] = post(A[m] B + bias), where of B only blocks that hold something are there: DEPTH rows of a strip of BN columns, 64
 * or 32 (sparse.c). A tile of 64 x BN by a wave of 64, 8 x BN/8 results an item, in steps of BK rows; zero blocks are not
 * read and not multiplied.
 *
 * index: for each strip where its blocks begin in the list, and the list's end; then each block's first row of B.
 * WIDE_A, WIDE_C 1: fours of neighbours begin at multiples of four, and their number is one of four
 * PARTS 1: each strip's blocks are shared out among the groups in z; C is [part][M][N], added up by sum_parts.cl
 *
 * As in gemm.cl the next step is under way to registers while one is multiplied from local memory. */
#define BM 64
#define DEPTH 16
#define BK 8
#define STEPS (DEPTH / BK) /* of a block */
#define ITEMS 64
#define A_LOADS (BM * BK / 4 / ITEMS)
#define B_LOADS (BN * BK / 4 / ITEMS)
#define A_STRIDE (BM + 4)
#define FOURS (BN / 32) /* of columns an item */

#define A_K(at) ((at) % (BK / 4) * 4)
#define A_M(at) ((at) / (BK / 4))

float4 load4(__global const IN *p, int n) {
    if (n >= 4) return IN4_ANYWHERE(p);
    float4 v = (float4)(0.0f);
    if (n > 0) v.x = IN1(p);
    if (n > 1) v.y = IN1(p + 1);
    if (n > 2) v.z = IN1(p + 2);
    return v;
}

#if WIDE_A
#define LOAD_A(p) IN4(p)
#else
#define LOAD_A(p) IN4_ANYWHERE(p)
#endif

#define ROW(at) (rows[(at) / STEPS] + (at) % STEPS * BK)

/* Step number `at` of all: what of A meets it, and itself. `check` is 0 where its rows lie before K. */
#define FETCH(at, check)                                                                                               \
    {                                                                                                                  \
        const int row = ROW(at);                                                                                       \
        for (int i = 0; i < A_LOADS; i++)                                                                              \
            ra[i] = check ? load4(a + pa[i] + row, K - row - A_K(lid + i * ITEMS)) : LOAD_A(a + pa[i] + row);          \
        for (int i = 0; i < B_LOADS; i++)                                                                              \
            rb[i] = weights4(b, (at) * (BK * BN) + 4 * (lid + i * ITEMS));                                             \
    }

#define PUT                                                                                                            \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                                      \
    for (int i = 0; i < A_LOADS; i++) {                                                                                \
        __local float *in = (__local float *)as + A_K(lid + i * ITEMS) * A_STRIDE + A_M(lid + i * ITEMS);              \
        in[0] = ra[i].x;                                                                                               \
        in[A_STRIDE] = ra[i].y;                                                                                        \
        in[2 * A_STRIDE] = ra[i].z;                                                                                    \
        in[3 * A_STRIDE] = ra[i].w;                                                                                    \
    }                                                                                                                  \
    for (int i = 0; i < B_LOADS; i++)                                                                                  \
        bs[lid + i * ITEMS] = rb[i];                                                                                   \
    barrier(CLK_LOCAL_MEM_FENCE);

#if FOURS == 2
#define MAC(r, v)                                                                                                      \
    acc[r][0] = (v) * y0 + acc[r][0];                                                                                  \
    acc[r][1] = (v) * y1 + acc[r][1];
#define LOAD_Y(k) const float4 y0 = bs[(k) * (BN / 4) + tx], y1 = bs[(k) * (BN / 4) + 8 + tx];
#else
#define MAC(r, v) acc[r][0] = (v) * y0 + acc[r][0];
#define LOAD_Y(k) const float4 y0 = bs[(k) * (BN / 4) + tx];
#endif
#define MULTIPLY(k)                                                                                                    \
    {                                                                                                                  \
        const float4 x0 = as[(k) * (A_STRIDE / 4) + ty], x1 = as[(k) * (A_STRIDE / 4) + BM / 8 + ty];                  \
        LOAD_Y(k)                                                                                                      \
        MAC(0, x0.x)                                                                                                   \
        MAC(1, x0.y)                                                                                                   \
        MAC(2, x0.z)                                                                                                   \
        MAC(3, x0.w)                                                                                                   \
        MAC(4, x1.x)                                                                                                   \
        MAC(5, x1.y)                                                                                                   \
        MAC(6, x1.z)                                                                                                   \
        MAC(7, x1.w)                                                                                                   \
    }

#if BIAS
#define ADD_BIAS(x, col) x += bias[col]
#define ADD_BIAS4(v, col) v += FLOAT4(bias + (col))
#else
#define ADD_BIAS(x, col)
#define ADD_BIAS4(v, col)
#endif

#define FINISH(x, j)                                                                                                   \
    if (n + j < N) {                                                                                                   \
        float v = x;                                                                                                   \
        ADD_BIAS(v, n + j);                                                                                            \
        POST(v, o + j, n + j);                                                                                         \
        PUT1(v, c + (o + j));                                                                                          \
    }

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void sparse(__global const IN *a, ulong ao,
                                                                        __global const WEIGHT *b, ulong bo,
                                                                        __global OUT *c, ulong co,
                                                                        __global const int *index, ulong index_o,
                                                                        int8 sizes
#if BIAS
                                                                        , __global const float *bias, ulong bias_o
#endif
                                                                            POST_PARAMS) {
    __local float4 as[BK * A_STRIDE / 4], bs[BK * BN / 4];
    const int M = sizes.s0, N = sizes.s1, K = sizes.s2, lda = sizes.s3, strips = sizes.s4, parts = sizes.s5;
    const int lid = get_local_id(0), tx = lid % 8, ty = lid / 8;
    const int n0 = get_group_id(0) * BN, m0 = get_group_id(1) * BM;
    float4 acc[8][FOURS], ra[A_LOADS], rb[B_LOADS];
    int pa[A_LOADS];
    a = ATC(IN, a, ao);
    b = ATC(WEIGHT, b, bo);
    c = AT(OUT, c, co);
    index = ATC(int, index, index_o);
#if BIAS
    bias = ATC(float, bias, bias_o);
#endif
    __global const int *rows = index + strips + 1;
    int at = index[get_group_id(0)], end = index[get_group_id(0) + 1];
#if PARTS
    const int each = (end - at + parts - 1) / parts, c_at = get_group_id(2) * M * N;
    at = min(end, at + (int)get_group_id(2) * each);
    end = min(end, at + each);
#else
    const int c_at = 0;
#endif
    at *= STEPS;
    end *= STEPS;
    POST_BEGIN
    for (int i = 0; i < A_LOADS; i++)
        pa[i] = min(m0 + A_M(lid + i * ITEMS), M - 1) * lda + A_K(lid + i * ITEMS);
    for (int r = 0; r < 8; r++)
        for (int f = 0; f < FOURS; f++)
            acc[r][f] = (float4)(0.0f);

    /* Only the last block of a list may end behind K. */
    int whole = end;
    if (at < end && ROW(end - 1) + BK > K) whole -= STEPS;
    if (at < end) FETCH(at, 1)
    for (; at + 1 < whole; at++) {
        PUT
        FETCH(at + 1, 0)
#if UNROLL
#pragma unroll
#endif
        for (int k = 0; k < BK; k++)
            MULTIPLY(k)
    }
    for (; at < end; at++) {
        PUT
        if (at + 1 < end) FETCH(at + 1, 1)
#if UNROLL
#pragma unroll
#endif
        for (int k = 0; k < BK; k++)
            MULTIPLY(k)
    }

    for (int r = 0; r < 8; r++) {
        const int m = m0 + r / 4 * (BM / 2) + ty * 4 + r % 4;
        if (m >= M) continue;
        for (int f = 0; f < FOURS; f++) {
            const int n = n0 + f * 32 + tx * 4, o = c_at + m * N + n;
            if (n >= N) continue;
            float4 v4 = acc[r][f];
#if WIDE_C
            ADD_BIAS4(v4, n);
            POST4(v4, o, n);
            PUT4(v4, c + o);
#else
            FINISH(v4.x, 0)
            FINISH(v4.y, 1)
            FINISH(v4.z, 2)
            FINISH(v4.w, 3)
#endif
        }
    }
}
