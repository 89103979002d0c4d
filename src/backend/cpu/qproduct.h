/* qproduct.h - what the products of codes share (qproduct.c, qmatmul.c): scales and zero points of a node at run time.
 */
#ifndef PS_BACKEND_CPU_QPRODUCT_H
#define PS_BACKEND_CPU_QPRODUCT_H

#include "backend/cpu/cpu_int.h"
#include "backend/cpu/int8.h"

/* What of a QLinearConv's or QLinearMatMul's inputs is there, and how codes of the result are made. */
typedef struct q_params {
    ps_dtype x, w, y;                                                      /* y: U8, I8 or F32 */
    bool x_zero, w_zero, y_scale, bias, bias_f32, many_scales, many_zeros; /* many: one for each column */
    ps_code_range range;
} q_params;

/* false: something that the kernels do not do. */
bool q_params_of(const ps_node *n, q_params *ret);

/* The numbers of one run. */
typedef struct q_run {
    float x_scale, y_scale;
    int32_t x_zero, y_zero; /* x_zero as of u8 codes */
    const float *w_scale, *bias_f32;
    const int32_t *bias;
    const void *w_zero;
} q_run;

q_run q_run_of(const q_params *p, void *const *in);
/* The zero point of column c, for weights as i8. */
int32_t q_column_zero(const q_params *p, const q_run *r, int64_t c);
/* The tail's scalars; the arrays are the caller's. */
ps_q8_tail q_tail_of(const q_params *p, const q_run *r);

/* Scale and zero point of an operand. */
typedef struct q_linear {
    float scale, zero;
} q_linear;

/* Of two operands and their result, in f32 as the reference kernels compute them. */
ps_q8_pair q_pair_of(bool is_signed, q_linear a, q_linear b, q_linear y, ps_code_range range, bool multiply);

#endif
