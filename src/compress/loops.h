/* loops.h - the loops that take the time of a compression, compiled once per instruction set from loops_kernels.inc.
 *
 * All of them give the same numbers on every instruction set: products are not fused with sums, and sums are made in an
 * order that does not depend on the width of vectors. */
#ifndef PS_COMPRESS_LOOPS_H
#define PS_COMPRESS_LOOPS_H

#include <stdbool.h>
#include <stdint.h>

enum { PS_LOOPS_SCALES = 24, PS_LOOPS_ROWS = 8, PS_LOOPS_DEPTH = 32, PS_LOOPS_CHANNELS = 16 };
#define PS_LOOPS_PAIRS(taps) ((taps) * ((taps) + 1) / 2)

typedef struct ps_loops {
    /* Lowers *low and raises *high to what is there; false: some value is no finite number. */
    bool (*ends)(const float *x, int64_t n, float *low, float *high);
    /* ret[i] = the bin of x[i], (x[i] - low) * per cut to [0, last] */
    void (*bins)(const float *x, int64_t n, float low, float per, int32_t last, int32_t *ret);
    /* Element by element: low and high as above, squares[i] += x[i] * x[i]. */
    void (*extend)(const float *x, int64_t n, float *low, float *high, float *squares);
    /* before[i] += x[i]; x[i] coded in 8 bits and decoded; after[i] += x[i] */
    void (*code)(float *x, int64_t n, float scale, int32_t zero, double *before, double *after);
    /* Sums of x * x and of (x - y) * (x - y) */
    void (*noise)(const float *x, const float *y, int64_t n, double *signal, double *noise);
    /* sums[k] += (x[i] - its code of scales[k])^2, one i after the other */
    void (*code_errors)(const float *x, int64_t n, const double scales[PS_LOOPS_SCALES], double max,
                        double sums[PS_LOOPS_SCALES]);
    /* `rows` rows, at most PS_LOOPS_ROWS: carry[r][j] += e[r][i] * u[i][j], one i < depth after the other; row i of u
     * lies i * step floats from u on. */
    void (*carry)(float *carry, int64_t ldc, int64_t rows, int64_t n, const float *e, const float *u, int64_t step,
                  int64_t depth);
    /* Second moments of n channels, at most PS_LOOPS_CHANNELS, each of its own taps: x[b][tap][channel], `count` of
     * them `patch` floats apart, taps `tap` floats apart. h[(i * (i + 1) / 2 + k) * groups + c] += the sum of
     * x[b][i][c] * x[b][k][c], k <= i, made in the order of b as the CPU device's gemm_small makes it. sums: room for
     * PS_LOOPS_PAIRS(taps) * PS_LOOPS_CHANNELS floats. */
    void (*moments)(const float *x, int64_t n, int64_t count, int64_t patch, int64_t taps, int64_t tap, float *h,
                    int64_t groups, float *sums);
    /* Rows of a Cholesky factor, `rows` of them one after the other, elements [from, to): solved against rows
     * [from, to) of l, which are done. */
    void (*solve)(const float *l, int64_t n, float *x, int64_t rows, int64_t from, int64_t to);
} ps_loops;

const ps_loops *ps_loops_pick(void);
/* Sum of a[i] * b[i] as `solve` makes it. */
double ps_loops_dot(const float *a, const float *b, int64_t n);

#endif
