/* C[m] = post(A[m] B + bias) for ROWS rows of A, a few: each weight is read once. B is panels in any storage.
 *
 * An item sums WIDTH float4s of neighbouring columns, down the rows of B of its slice; the SLICES of a work-group are
 * added up through local memory, and the parts of the depth in z by sum_parts.cl (PARTS 1; C is [part][M][N]).
 * WIDE_A 1: rows of A begin at multiples of four elements. */
#define LANES 64
#define STEP 8

#if BIAS
#define ADD_BIAS(x, col) x += bias[col]
#else
#define ADD_BIAS(x, col)
#endif

#define FINISH(x, j)                                                                                                   \
    if (col + j < N) {                                                                                                 \
        float v = x;                                                                                                   \
        ADD_BIAS(v, col + j);                                                                                          \
        POST(v, o + j, col + j);                                                                                       \
        PUT1(v, c + (o + j));                                                                                          \
    }

/* Row k of B times A's column k. */
#define ONE_ROW(sum, k, factor)                                                                                        \
    {                                                                                                                  \
        float4 w[WIDTH];                                                                                               \
        weights_wide(b, (k) * ldb + n, w);                                                                             \
        for (int i = 0; i < WIDTH; i++) {                                                                              \
            w[i] = LESS_ZERO(w[i], zero[i]);                                                                           \
            for (int r = 0; r < ROWS; r++)                                                                             \
                sum[r][i] = (factor) * w[i] + sum[r][i];                                                               \
        }                                                                                                              \
    }

#if !BLOCKED
#define sum acc /* no scale between them */
#endif

#if WIDE_A
#define LOAD_A(p) IN4(p)
#else
#define LOAD_A(p) IN4_ANYWHERE(p)
#endif

__kernel __attribute__((reqd_work_group_size(LANES, SLICES, 1))) void gemv(__global const IN *a, ulong ao,
                                                                          __global const WEIGHT *b, ulong bo,
                                                                          __global OUT *c, ulong co, int8 sizes
#if BIAS
                                                                          , __global const float *bias, ulong bias_o
#endif
                                                                              WEIGHT_PARAMS POST_PARAMS) {
    const int N = sizes.s0, K = sizes.s1, lda = sizes.s2, ldb = sizes.s3, depth = sizes.s4;
    const int lane = get_local_id(0), slice = get_local_id(1), n = (get_group_id(0) * LANES + lane) * 4 * WIDTH;
    const int first = (get_group_id(2) * SLICES + slice) * depth, last = min(K, first + depth);
    float4 acc[ROWS][WIDTH], zero[WIDTH];
    a = ATC(IN, a, ao);
    b = ATC(WEIGHT, b, bo);
    c = AT(OUT, c, co);
#if BIAS
    bias = ATC(float, bias, bias_o);
#endif
    WEIGHT_BEGIN(0)
    POST_BEGIN
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < WIDTH; i++)
            acc[r][i] = (float4)(0.0f);

    if (n < ldb) {
        for (int k = first; k < last;) {
            const int at = k / BLOCK * ldb + n;
#if BLOCKED
            const int end = min(last, k + BLOCK);
            float4 sum[ROWS][WIDTH];
            for (int r = 0; r < ROWS; r++)
                for (int i = 0; i < WIDTH; i++)
                    sum[r][i] = (float4)(0.0f);
#else
            const int end = last;
#endif
            for (int i = 0; i < WIDTH; i++)
                zero[i] = ZERO4(at + 4 * i);
            for (; k + STEP <= end; k += STEP) {
                float4 x[ROWS][STEP / 4];
                for (int r = 0; r < ROWS; r++)
                    for (int j = 0; j < STEP / 4; j++)
                        x[r][j] = LOAD_A(a + r * lda + k + 4 * j);
#if UNROLL
#pragma unroll
#endif
                for (int j = 0; j < STEP / 4; j++) {
                    ONE_ROW(sum, k + 4 * j, x[r][j].x)
                    ONE_ROW(sum, k + 4 * j + 1, x[r][j].y)
                    ONE_ROW(sum, k + 4 * j + 2, x[r][j].z)
                    ONE_ROW(sum, k + 4 * j + 3, x[r][j].w)
                }
            }
            for (; k < end; k++)
                ONE_ROW(sum, k, IN1(a + (r * lda + k)))
#if BLOCKED
            for (int i = 0; i < WIDTH; i++) {
                const float4 scale = SCALE4(at + 4 * i);
                for (int r = 0; r < ROWS; r++)
                    acc[r][i] = sum[r][i] * scale + acc[r][i];
            }
#endif
        }
    }

#if SLICES > 1
    __local float4 others[(SLICES - 1) * WIDTH * LANES];
    for (int r = 0; r < ROWS; r++) {
        if (slice > 0) {
            for (int i = 0; i < WIDTH; i++)
                others[((slice - 1) * WIDTH + i) * LANES + lane] = acc[r][i];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (slice == 0) {
            for (int s = 0; s < SLICES - 1; s++)
                for (int i = 0; i < WIDTH; i++)
                    acc[r][i] += others[(s * WIDTH + i) * LANES + lane];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (slice > 0) return;
#endif
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < WIDTH; i++) {
            const int col = n + 4 * i, o = (get_group_id(2) * ROWS + r) * N + col;
            if (col >= N) continue;
            const float4 v4 = FACTORED(acc[r][i], col);
            FINISH(v4.x, 0)
            FINISH(v4.y, 1)
            FINISH(v4.z, 2)
            FINISH(v4.w, 3)
        }
    }
}
