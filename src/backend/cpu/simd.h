/* simd.h - vector loops over contiguous f32, compiled once per instruction set from simd_kernels.inc.
 *
 * The table is chosen when the device is made: the best the CPU has, capped by ONEDNN_MAX_CPU_ISA so that a cap covers
 * our own kernels as well as oneDNN's. All functions allow dst == src and n == 0; no alignment is needed. */
#ifndef PS_BACKEND_CPU_SIMD_H
#define PS_BACKEND_CPU_SIMD_H

#include "backend/cpu/winograd.h"
#include "ops/params.h"

typedef struct ps_simd {
    const char *name; /* "sse4", "avx2", "avx512", "generic" */
    int lanes;
    /* dst = post(src), unary kinds */
    void (*unary)(ps_post_kind kind, const float *src, float *dst, int64_t n, float alpha, float beta);
    /* dst = src op operand[i] / op operand[0] */
    void (*binary)(ps_post_kind kind, const float *src, const float *operand, float *dst, int64_t n);
    void (*binary_scalar)(ps_post_kind kind, const float *src, float operand, float *dst, int64_t n);
    void (*fill)(float *dst, float value, int64_t n);
    float (*sum)(const float *x, int64_t n);
    float (*max)(const float *x, int64_t n); /* NaN if there is one */
    /* acc[i] += x[i]; acc[i] = max(acc[i], x[i]) */
    void (*add_to)(float *acc, const float *x, int64_t n);
    void (*max_to)(float *acc, const float *x, int64_t n);
    void (*scale)(float *x, float factor, int64_t n);
    /* One row: dst = softmax(src * factor + mask); mask may be NULL. log: logarithm of it. */
    void (*softmax_row)(const float *src, float factor, const float *mask, float *dst, int64_t n, bool log);
    /* One row: dst = (src - mean) / sqrt(var + eps) * gamma + beta; gamma and beta may be NULL. mean and var in two
     * passes. */
    void (*layernorm_row)(const float *src, const float *gamma, const float *beta, float *dst, int64_t n, float eps);
    /* One LSTM step of H units from gate sums i, o, f, c (ONNX order iofc, sigmoid / tanh / tanh): c and h in place. */
    void (*lstm_cell)(const float *gates, float *c, float *h, int64_t hidden);
    /* c[m][n] = a[m][k] b[k][n] + init[n] (init may be NULL: 0), b row-major: small and skinny products */
    void (*gemm_small)(const float *a, int64_t lda, const float *b, int64_t ldb, const float *init, float *c,
                       int64_t ldc, int64_t m, int64_t n, int64_t k);
    /* c[m][n] = a[m][k] panel + init[n], n <= panel_width: one panel of packed weights, [k][panel_width], zero-padded.
     * next: the panel of the following call, which is fetched meanwhile; or NULL. */
    int64_t panel_width;
    void (*gemm_panel)(const float *a, int64_t lda, const float *panel, const float *init, float *c, int64_t ldc,
                       int64_t m, int64_t n, int64_t k, const float *next);
    /* The same with a panel of 16-bit floats, f16 or bf16, which become f32 as they are read. */
    void (*gemm_panel_half)(const float *a, int64_t lda, const uint16_t *panel, bool bf16, const float *init, float *c,
                            int64_t ldc, int64_t m, int64_t n, int64_t k);
    /* Transforms of one tile of F(m x m, 3 x 3), m 4 or 2. In: n >= lanes channels of a tile of the images x into
     * (m+2)^2 rows of v, `step` floats apart. Out: the products in such rows, readable up to whole vectors, to n
     * channels of those m x m pixels of the images y that exist; y may be post->add. */
    void (*wino_in)(int m, const float *x, const ps_wino_tile *tile, float *v, int64_t step, int64_t n);
    void (*wino_out)(int m, const float *v, int64_t step, const ps_wino_post *post, const ps_wino_tile *tile, float *y,
                     int64_t n);
} ps_simd;

const ps_simd *ps_simd_pick(void);

#endif
