/* C[m] = post(A[m] B + bias) for ROWS rows of A, a few, with B as in sparse.cl: each block that is there is read once.
 *
 * A work-group has a strip. A wave reads a block at a time, an item four neighbouring columns of EACH rows; the WAVES
 * take turns along the strip's list and are added up through local memory, and parts of the list in z by sum_parts.cl
 * (PARTS 1; C is [part][M][N]). */
#define BK 16
#define WAVE 64
#define LANES (BN / 4)
#define EACH (BK * LANES / WAVE) /* rows of a block an item: 4 or 2 */

#if BIAS
#define ADD_BIAS(x, col) x += bias[col]
#else
#define ADD_BIAS(x, col)
#endif

#define FINISH(x, j)                                                                                                   \
    if (n + j < N) {                                                                                                   \
        float v = x;                                                                                                   \
        ADD_BIAS(v, n + j);                                                                                            \
        POST(v, o + j, n + j);                                                                                         \
        PUT1(v, c + (o + j));                                                                                          \
    }

__kernel __attribute__((reqd_work_group_size(WAVE, WAVES, 1))) void sparse_rows(__global const IN *a, ulong ao,
                                                                               __global const WEIGHT *b, ulong bo,
                                                                               __global OUT *c, ulong co,
                                                                               __global const int *index,
                                                                               ulong index_o, int8 sizes
#if BIAS
                                                                               , __global const float *bias,
                                                                               ulong bias_o
#endif
                                                                                   POST_PARAMS) {
    __local float4 sums[WAVES * WAVE];
    const int N = sizes.s1, K = sizes.s2, lda = sizes.s3, strips = sizes.s4, parts = sizes.s5;
    const int item = get_local_id(0), wave = get_local_id(1), lane = item % LANES, slice = item / LANES;
    float4 acc[ROWS];
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
    const int each = (end - at + parts - 1) / parts;
    at = min(end, at + (int)get_group_id(2) * each);
    end = min(end, at + each);
#endif
    POST_BEGIN
    for (int r = 0; r < ROWS; r++)
        acc[r] = (float4)(0.0f);

#if UNROLL && ROWS < 3 /* blocks under way at once, as registers allow */
#pragma unroll 4
#elif UNROLL
#pragma unroll 2
#endif
    for (int i = at + wave; i < end; i += WAVES) {
        const int k = rows[i] + slice * EACH, from = (i * BK + slice * EACH) * BN + 4 * lane;
        for (int j = 0; j < EACH; j++) {
            const float4 w = weights4(b, from + j * BN);
            for (int r = 0; r < ROWS; r++)
                acc[r] = (k + j < K ? IN1(a + (r * lda + k + j)) : 0.0f) * w + acc[r];
        }
    }

    for (int r = 0; r < ROWS; r++) {
        sums[wave * WAVE + item] = acc[r];
        barrier(CLK_LOCAL_MEM_FENCE);
        if (wave == 0 && slice == 0) {
            float4 v4 = sums[lane];
            for (int s = 1; s < WAVES * WAVE / LANES; s++)
                v4 += sums[s * LANES + lane];
            const int n = get_group_id(0) * BN + 4 * lane, o = (get_group_id(2) * ROWS + r) * N + n;
            FINISH(v4.x, 0)
            FINISH(v4.y, 1)
            FINISH(v4.z, 2)
            FINISH(v4.w, 3)
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}
