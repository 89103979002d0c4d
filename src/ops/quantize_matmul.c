/* quantize_matmul.c - products of quantised matrices: MatMulInteger, QLinearMatMul, and of com.microsoft QGemm,
 * DynamicQuantizeMatMul, MatMulIntegerToFloat, MatMulInteger16.
 *
 * Operands become f32 differences q - zero, which is exact; the float product sums them in double, which is exact too
 * up to 2^53; so what comes out is the integer sum. An epilogue turns it into the result. */
#include <math.h>

#include "ops/facts.h"
#include "ops/params.h"
#include "ops/quant.h"

/* Input numbers of what an operator may have; 0: it has none (input 0 is always a). */
typedef struct product_inputs {
    size_t a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero;
} product_inputs;

typedef struct product_job {
    ps_widened a, b, sum; /* sum: f64 */
    ps_bcast a_scale, b_scale, y_scale, y_zero, bias;
    ps_tensor views[5];
    float factor;
    const ps_code_range *range; /* or NULL */
    ps_tensor *y;
    double *scratch;
} product_job;

static const ps_tensor *input(const ps_kernel_ctx *ctx, size_t i) {
    return i ? ps_in_tensor(ctx, i) : NULL;
}

static void job_release(product_job *j) {
    ps_widened_release(&j->a);
    ps_widened_release(&j->b);
    ps_widened_release(&j->sum);
}

/* A parameter as it broadcasts to the product; `axis` from its end. Absent: data stays NULL. */
static ps_status bind(const ps_kernel_ctx *ctx, ps_bcast *b, ps_tensor *view, const ps_tensor *t, int from_end,
                      ps_error *err) {
    if (!t) return PS_OK;
    const ps_shape *y = &ctx->out[0]->shape;
    *view = ps_quant_param(t, y->rank, y->rank - from_end);
    PS_NODE_FAIL_IF(!ps_bcast_init(b, view, y), ctx->node, err, SHAPE,
                    "a parameter of shape %s does not fit a result of shape %s", PS_SHAPE_TEXT(&t->shape),
                    PS_SHAPE_TEXT(y));
    return PS_OK;
}

/* Runs the float row on the widened operands, into job->sum. */
static ps_status multiply(const ps_kernel_ctx *ctx, product_job *j, const char *op, const void *params, ps_error *err) {
    ps_stand_in s;
    PS_TRY(ps_widen_room(&j->sum, ctx, PS_DTYPE_F64, &ctx->out[0]->shape, err));
    ps_stand_in_init(&s, ctx->node, op, 13, params);
    ps_stand_in_tensor(&s, &j->a.t);
    ps_stand_in_tensor(&s, &j->b.t);
    ps_tensor *out = &j->sum.t;
    return ps_stand_in_run(&s, ctx, &out, 1, err);
}

static void finish_row(const product_job *j, double *acc, double *p, int64_t first, int64_t n) {
    const ps_dtype scale_type = j->a_scale.data ? j->a_scale.dtype : PS_DTYPE_F32;
    double *a = p, *b = p + n, *y = p + 2 * n, *zero = p + 3 * n, *bias = p + 4 * n;
    for (int64_t i = 0; i < n; i++)
        a[i] = b[i] = y[i] = 1, zero[i] = bias[i] = 0;
    if (j->a_scale.data) ps_bcast_load(&j->a_scale, first, n, a);
    if (j->b_scale.data) ps_bcast_load(&j->b_scale, first, n, b);
    if (j->y_scale.data) ps_bcast_load(&j->y_scale, first, n, y);
    if (j->y_zero.data) ps_bcast_load(&j->y_zero, first, n, zero);
    if (j->bias.data) ps_bcast_load(&j->bias, first, n, bias);
    for (int64_t i = 0; i < n; i++) {
        float scale = ps_round_to(scale_type, (double)(j->factor * (float)a[i] * (float)b[i]));
        if (j->y_scale.data) scale = ps_round_to(scale_type, (double)(scale / (float)y[i]));
        if (j->bias.dtype == PS_DTYPE_I32) {
            acc[i] += bias[i];
            bias[i] = 0;
        }
        if (j->y_scale.data) bias[i] = (double)((float)bias[i] / (float)y[i]);
        acc[i] = (double)((float)acc[i] * scale + (float)bias[i]);
        if (j->y_scale.data) ps_quant_round(&acc[i], 1, j->y->dtype, zero[i]);
        if (j->y_scale.data && j->range) ps_code_clamp(&acc[i], 1, j->range);
    }
}

/* Items are rows of the result. */
static void finish_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const product_job *j = ctx;
    const ps_shape *s = &j->y->shape;
    int64_t n = s->rank ? s->dims[s->rank - 1] : 1;
    for (int64_t row = begin; row < end; row++) {
        double *acc = (double *)j->sum.t.data + row * n;
        finish_row(j, acc, j->scratch + (int64_t)thread * 5 * n, row * n, n);
        ps_row_store(j->y->data, j->y->dtype, row * n, 1, acc, n);
    }
}

static ps_status finish(const ps_kernel_ctx *ctx, product_job *j, ps_error *err) {
    j->y = ctx->out[0];
    const ps_shape *s = &j->y->shape;
    int64_t n = s->rank ? s->dims[s->rank - 1] : 1, total = (int64_t)ps_tensor_count(j->y);
    if (!total) return PS_OK;
    return ps_parallel_scratch(ctx, total / n, 1 + 1024 / n, 5 * (size_t)n, &j->scratch, finish_rows, j, err);
}

/* Integers modulo 2^32, as the accumulators of every implementation. */
static void store_i32(const product_job *j, ps_tensor *y) {
    const double *sum = j->sum.t.data;
    for (size_t i = 0, n = ps_tensor_count(y); i < n; i++)
        ((uint32_t *)y->data)[i] = (uint32_t)(uint64_t)(int64_t)sum[i];
}

static ps_status bind_all(const ps_kernel_ctx *ctx, product_job *j, const product_inputs *in, ps_error *err) {
    PS_TRY(bind(ctx, &j->a_scale, &j->views[0], input(ctx, in->a_scale), 2, err));
    PS_TRY(bind(ctx, &j->b_scale, &j->views[1], input(ctx, in->b_scale), 1, err));
    PS_TRY(bind(ctx, &j->y_scale, &j->views[2], input(ctx, in->y_scale), 2, err));
    PS_TRY(bind(ctx, &j->y_zero, &j->views[3], input(ctx, in->y_zero), 2, err));
    return bind(ctx, &j->bias, &j->views[4], input(ctx, in->bias), 1, err);
}

/* Whether the result holds what the epilogue made of the sum, or the sum itself. */
static ps_status ranged_product(const ps_kernel_ctx *ctx, const product_inputs *in, bool sum_only,
                                const ps_code_range *range, ps_error *err) {
    product_job j = { .factor = 1, .range = range };
    const ps_tensor *a = ctx->in[0], *b = ctx->in[in->b];
    ps_status status = PS_OK;
    PS_TRY_OUT(bind_all(ctx, &j, in, err));
    PS_TRY_OUT(ps_widen(&j.a, ctx, a, NULL, input(ctx, in->a_zero), a->shape.rank - 2, err));
    PS_TRY_OUT(ps_widen(&j.b, ctx, b, NULL, input(ctx, in->b_zero), b->shape.rank - 1, err));
    PS_TRY_OUT(multiply(ctx, &j, "MatMul", NULL, err));
    if (sum_only)
        store_i32(&j, ctx->out[0]);
    else
        status = finish(ctx, &j, err);
out:
    job_release(&j);
    return status;
}

static ps_status product(const ps_kernel_ctx *ctx, const product_inputs *in, bool sum_only, ps_error *err) {
    return ranged_product(ctx, in, sum_only, NULL, err);
}

/* ---- shape rules ---- */

static ps_status matmul_shape(const ps_node *node, size_t b, ps_shape *ret, ps_error *err) {
    ps_stand_in s;
    ps_stand_in_init(&s, node, "MatMul", 13, NULL);
    ps_stand_in_add(&s, PS_DTYPE_F32, &node->in[0]->shape);
    ps_stand_in_add(&s, PS_DTYPE_F32, &node->in[b]->shape);
    return ps_stand_in_infer(&s, ret, err);
}

/* One number, or one for each row or column of operand `of` (from_end 2 or 1); N-d parameters broadcast, which bind and
 * ps_widen check. */
static ps_status check_list(const ps_node *node, size_t i, size_t of, int from_end, ps_error *err) {
    if (!ps_in_known(node, i) || !ps_in_known(node, of) || node->in[i]->shape.rank > 1) return PS_OK;
    const ps_shape *s = &node->in[of]->shape;
    return ps_check_param(node, i, s->rank > 1 ? s->dims[s->rank - from_end] : 1, err);
}

static ps_status check_rows(const ps_node *node, size_t i, size_t a, ps_error *err) {
    return check_list(node, i, a, 2, err);
}

static ps_status check_columns(const ps_node *node, size_t i, size_t b, ps_error *err) {
    return check_list(node, i, b, 1, err);
}

static ps_status infer_integer(const ps_node *node, ps_error *err) {
    ps_shape y = ps_shape_unknown();
    PS_TRY(ps_check_8bit(node, 0, err));
    PS_TRY(ps_check_8bit(node, 1, err));
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    PS_TRY(ps_check_same_type(node, 3, 1, err));
    PS_TRY(check_rows(node, 2, 0, err));
    PS_TRY(check_columns(node, 3, 1, err));
    PS_TRY(matmul_shape(node, 1, &y, err));
    ps_infer_set(node, 0, PS_DTYPE_I32, &y);
    return PS_OK;
}

static const product_inputs integer_inputs = { .b = 1, .a_zero = 2, .b_zero = 3 };

static ps_status integer_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return product(ctx, &integer_inputs, true, err);
}

static bool is_i16(ps_dtype t) {
    return t == PS_DTYPE_I16 || t == PS_DTYPE_U16;
}

static ps_status infer_integer16(const ps_node *node, ps_error *err) {
    ps_shape y = ps_shape_unknown();
    ps_dtype a = node->in[0]->dtype, b = node->in[1]->dtype;
    bool known = a != PS_DTYPE_UNDEFINED && b != PS_DTYPE_UNDEFINED;
    PS_NODE_FAIL_IF(known && (!is_i16(a) || !is_i16(b)), node, err, TYPE, "inputs are %s and %s, they must be i16, u16",
                    ps_dtype_name(a), ps_dtype_name(b));
    PS_TRY(matmul_shape(node, 1, &y, err));
    ps_dtype to = !known ? PS_DTYPE_UNDEFINED : a == PS_DTYPE_U16 && b == PS_DTYPE_U16 ? PS_DTYPE_U32 : PS_DTYPE_I32;
    ps_infer_set(node, 0, to, &y);
    return PS_OK;
}

static const product_inputs integer16_inputs = { .b = 1 };

static ps_status integer16_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return product(ctx, &integer16_inputs, true, err);
}

/* ---- QLinearMatMul ---- */

static bool is_code(ps_dtype t) {
    return t == PS_DTYPE_UNDEFINED || ps_quant_is_8bit(t) || (t >= PS_DTYPE_F8E4M3FN && t <= PS_DTYPE_F8E5M2FNUZ);
}

static ps_status infer_qlinear(const ps_node *node, ps_error *err) {
    static const size_t codes[] = { 0, 3, 7 };
    static const size_t of_rows[] = { 1, 2, 6, 7 };
    ps_shape y = ps_shape_unknown();
    for (size_t k = 0; k < 3; k++) {
        ps_dtype t = node->in[codes[k]]->dtype;
        PS_NODE_FAIL_IF(!is_code(t), node, err, TYPE, "input %zu ('%s') is %s, the operator takes u8, i8 and f8 here",
                        codes[k], node->in[codes[k]]->name, ps_dtype_name(t));
    }
    PS_TRY(ps_check_float(node, 1, err));
    PS_TRY(ps_check_same_type(node, 4, 1, err));
    PS_TRY(ps_check_same_type(node, 6, 1, err));
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    PS_TRY(ps_check_same_type(node, 5, 3, err));
    for (size_t k = 0; k < sizeof of_rows / sizeof of_rows[0]; k++)
        PS_TRY(check_rows(node, of_rows[k], 0, err));
    PS_TRY(check_columns(node, 4, 3, err));
    PS_TRY(check_columns(node, 5, 3, err));
    PS_TRY(matmul_shape(node, 3, &y, err));
    ps_infer_set(node, 0, node->in[7]->dtype, &y);
    return PS_OK;
}

static const product_inputs qlinear_inputs = {
    .a_scale = 1, .a_zero = 2, .b = 3, .b_scale = 4, .b_zero = 5, .y_scale = 6, .y_zero = 7
};

static ps_status qlinear_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return product(ctx, &qlinear_inputs, false, err);
}

/* ---- the QLinearMatMul that passes make: codes or f32 as its result, a bias, a range ---- */

static const ps_attr_def range_attrs[] = {
    PS_A_INT(ps_code_range, low, PS_CODE_LOW),
    PS_A_INT(ps_code_range, high, PS_CODE_HIGH),
    PS_ATTRS_END,
};

static ps_status infer_ours(const ps_node *node, ps_error *err) {
    ps_shape y = ps_shape_unknown();
    PS_TRY(ps_check_required(node, 0x1B, err));
    PS_TRY(ps_check_8bit(node, PS_Q_X, err));
    PS_TRY(ps_check_8bit(node, PS_Q_W, err));
    PS_TRY(ps_check_8bit(node, PS_Q_Y_ZERO, err));
    PS_TRY(ps_check_scale_zero(node, PS_Q_X_SCALE, PS_Q_X, err));
    PS_TRY(ps_check_type(node, PS_Q_W_SCALE, PS_DTYPE_F32, err));
    PS_TRY(ps_check_same_type(node, PS_Q_W_ZERO, PS_Q_W, err));
    PS_TRY(check_columns(node, PS_Q_W_SCALE, PS_Q_W, err));
    PS_TRY(check_columns(node, PS_Q_W_ZERO, PS_Q_W, err));
    PS_TRY(ps_check_quantized_result(node, node->params, err));
    if (ps_has_in(node, PS_Q_Y_ZERO)) PS_TRY(ps_check_scale_zero(node, PS_Q_Y_SCALE, PS_Q_Y_ZERO, err));
    PS_TRY(ps_check_quantized_bias(node, err));
    PS_TRY(check_columns(node, PS_Q_BIAS, PS_Q_W, err));
    PS_TRY(matmul_shape(node, PS_Q_W, &y, err));
    ps_infer_set(node, 0, ps_has_in(node, PS_Q_Y_ZERO) ? node->in[PS_Q_Y_ZERO]->dtype : PS_DTYPE_F32, &y);
    return PS_OK;
}

static ps_status ours_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const product_inputs in = { .a_scale = PS_Q_X_SCALE,
                                       .a_zero = PS_Q_X_ZERO,
                                       .b = PS_Q_W,
                                       .b_scale = PS_Q_W_SCALE,
                                       .b_zero = PS_Q_W_ZERO,
                                       .y_scale = PS_Q_Y_SCALE,
                                       .y_zero = PS_Q_Y_ZERO,
                                       .bias = PS_Q_BIAS };
    return ranged_product(ctx, &in, false, ctx->params, err);
}

/* ---- MatMulIntegerToFloat ---- */

/* f32, or f16 where `half`. */
static ps_status check_result(const ps_node *node, size_t i, bool half, ps_error *err) {
    ps_dtype t = node->in[i]->dtype;
    bool ok = t == PS_DTYPE_UNDEFINED || t == PS_DTYPE_F32 || (half && t == PS_DTYPE_F16);
    PS_NODE_FAIL_IF(!ok, node, err, TYPE, "input %zu ('%s') is %s, the operator takes f32%s", i, node->in[i]->name,
                    ps_dtype_name(t), half ? " and f16" : "");
    return PS_OK;
}

static ps_status infer_to_float(const ps_node *node, ps_error *err) {
    ps_shape y = ps_shape_unknown();
    PS_TRY(ps_check_8bit(node, 0, err));
    PS_TRY(ps_check_8bit(node, 1, err));
    PS_TRY(check_result(node, 2, true, err));
    PS_TRY(ps_check_same_type(node, 3, 2, err));
    PS_TRY(ps_check_same_type(node, 4, 0, err));
    PS_TRY(ps_check_same_type(node, 5, 1, err));
    PS_TRY(ps_check_same_type(node, 6, 2, err));
    PS_TRY(ps_check_param(node, 2, 1, err));
    PS_TRY(ps_check_param(node, 4, 1, err));
    PS_TRY(check_columns(node, 3, 1, err));
    PS_TRY(check_columns(node, 5, 1, err));
    PS_TRY(check_columns(node, 6, 1, err));
    PS_TRY(matmul_shape(node, 1, &y, err));
    ps_infer_set(node, 0, node->in[2]->dtype, &y);
    return PS_OK;
}

static const product_inputs to_float_inputs = {
    .b = 1, .a_scale = 2, .b_scale = 3, .a_zero = 4, .b_zero = 5, .bias = 6
};

static ps_status to_float_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return product(ctx, &to_float_inputs, false, err);
}

/* ---- DynamicQuantizeMatMul: a is quantised to u8 by its own range ---- */

static ps_status infer_dynamic(const ps_node *node, ps_error *err) {
    ps_shape y = ps_shape_unknown();
    PS_TRY(check_result(node, 0, false, err));
    PS_TRY(ps_check_8bit(node, 1, err));
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    PS_TRY(ps_check_same_type(node, 3, 1, err));
    PS_TRY(ps_check_same_type(node, 4, 0, err));
    for (size_t i = 2; i < 5; i++)
        PS_TRY(check_columns(node, i, 1, err));
    PS_TRY(matmul_shape(node, 1, &y, err));
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

static const product_inputs dynamic_inputs = { .b = 1, .b_scale = 2, .b_zero = 3, .bias = 4 };

/* x becomes its codes minus the zero point, in place of w. */
static void quantize_dynamic(ps_widened *w, float *ret_scale) {
    float *x = w->t.data;
    const int64_t n = (int64_t)ps_tensor_count(&w->t);
    uint8_t zero;
    ps_dynamic_params(x, n, ret_scale, &zero);
    for (int64_t i = 0; i < n; i++) {
        double q = (double)(x[i] / *ret_scale);
        ps_quant_round(&q, 1, PS_DTYPE_U8, zero);
        x[i] = (float)(q - zero);
    }
}

static ps_status dynamic_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    product_job j = { .factor = 1 };
    const ps_tensor *b = ctx->in[1];
    ps_status status = PS_OK;
    PS_TRY_OUT(bind_all(ctx, &j, &dynamic_inputs, err));
    PS_TRY_OUT(ps_widen(&j.a, ctx, ctx->in[0], NULL, NULL, 0, err));
    quantize_dynamic(&j.a, &j.factor);
    PS_TRY_OUT(ps_widen(&j.b, ctx, b, NULL, input(ctx, 3), b->shape.rank - 1, err));
    PS_TRY_OUT(multiply(ctx, &j, "MatMul", NULL, err));
    status = finish(ctx, &j, err);
out:
    job_release(&j);
    return status;
}

/* ---- QGemm: y = alpha a_scale b_scale (a b + C), float, or quantised where y_scale is given ---- */

enum { G_A, G_A_SCALE, G_A_ZERO, G_B, G_B_SCALE, G_B_ZERO, G_C, G_Y_SCALE, G_Y_ZERO };

static const ps_attr_def qgemm_attrs[] = {
    PS_A_FLOAT(ps_gemm_params, alpha, 1),
    PS_A_INT(ps_gemm_params, transA, 0),
    PS_A_INT(ps_gemm_params, transB, 0),
    PS_ATTRS_END,
};

static ps_status qgemm_shape(const ps_node *node, ps_shape *ret, ps_error *err) {
    ps_stand_in s;
    ps_stand_in_init(&s, node, "Gemm", 13, node->params);
    ps_stand_in_add(&s, PS_DTYPE_F32, &node->in[G_A]->shape);
    ps_stand_in_add(&s, PS_DTYPE_F32, &node->in[G_B]->shape);
    ps_stand_in_add(&s, PS_DTYPE_F32, ps_has_in(node, G_C) ? &node->in[G_C]->shape : NULL);
    return ps_stand_in_infer(&s, ret, err);
}

static ps_status infer_qgemm(const ps_node *node, ps_error *err) {
    ps_shape y = ps_shape_unknown();
    PS_TRY(ps_check_8bit(node, G_A, err));
    PS_TRY(ps_check_8bit(node, G_B, err));
    PS_TRY(ps_check_8bit(node, G_Y_ZERO, err));
    PS_TRY(ps_check_scale_zero(node, G_A_SCALE, G_A, err));
    PS_TRY(ps_check_type(node, G_B_SCALE, PS_DTYPE_F32, err));
    PS_TRY(ps_check_same_type(node, G_B_ZERO, G_B, err));
    PS_TRY(ps_check_type(node, G_C, PS_DTYPE_I32, err));
    PS_TRY(ps_check_type(node, G_Y_SCALE, PS_DTYPE_F32, err));
    PS_TRY(ps_check_param(node, G_Y_SCALE, 1, err));
    PS_TRY(ps_check_param(node, G_Y_ZERO, 1, err));
    PS_NODE_FAIL_IF(ps_has_in(node, G_Y_SCALE) != ps_has_in(node, G_Y_ZERO), node, err, INVALID,
                    "the output needs both scale and zero point, or neither");
    PS_TRY(qgemm_shape(node, &y, err));
    int64_t columns = y.rank == 2 ? y.dims[1] : PS_DIM_UNKNOWN;
    PS_TRY(ps_check_param(node, G_B_SCALE, columns, err));
    PS_TRY(ps_check_param(node, G_B_ZERO, columns, err));
    ps_infer_set(node, 0, ps_has_in(node, G_Y_ZERO) ? node->in[G_Y_ZERO]->dtype : PS_DTYPE_F32, &y);
    return PS_OK;
}

static ps_status add_c(const ps_kernel_ctx *ctx, product_job *j, ps_error *err) {
    ps_bcast c;
    double value[1];
    const ps_tensor *t = ps_in_tensor(ctx, G_C);
    if (!t) return PS_OK;
    PS_NODE_FAIL_IF(!ps_bcast_init(&c, t, &ctx->out[0]->shape), ctx->node, err, SHAPE,
                    "C does not broadcast to the product's shape");
    for (size_t i = 0, n = ps_tensor_count(&j->sum.t); i < n; i++) {
        ps_bcast_load(&c, (int64_t)i, 1, value);
        ((double *)j->sum.t.data)[i] += value[0];
    }
    return PS_OK;
}

static ps_status qgemm_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const product_inputs in = {
        .a_scale = G_A_SCALE, .b = G_B, .b_scale = G_B_SCALE, .y_scale = G_Y_SCALE, .y_zero = G_Y_ZERO
    };
    const ps_gemm_params *p = ctx->params;
    const ps_gemm_params plain = { .alpha = 1, .beta = 1, .transA = p->transA, .transB = p->transB };
    product_job j = { .factor = p->alpha };
    ps_status status = PS_OK;
    PS_TRY_OUT(bind_all(ctx, &j, &in, err));
    PS_TRY_OUT(ps_widen(&j.a, ctx, ctx->in[G_A], NULL, ctx->in[G_A_ZERO], 0, err));
    PS_TRY_OUT(ps_widen(&j.b, ctx, ctx->in[G_B], NULL, ctx->in[G_B_ZERO], p->transB ? 0 : 1, err));
    PS_TRY_OUT(multiply(ctx, &j, "Gemm", &plain, err));
    PS_TRY_OUT(add_c(ctx, &j, err));
    status = finish(ctx, &j, err);
out:
    job_release(&j);
    return status;
}

static const ps_op ops[] = {
    { "MatMulInteger", "", 10, 2, 4, 1, 1, NULL, 0, infer_integer, integer_ref, 0 },
    { "QLinearMatMul", "", 10, 8, 8, 1, 1, NULL, 0, infer_qlinear, qlinear_ref, 0 },
    { "QLinearMatMul", "polestar", 1, 5, 9, 1, 1, range_attrs, sizeof(ps_code_range), infer_ours, ours_ref, 0 },
    { "QGemm", "com.microsoft", 1, 6, 9, 1, 1, qgemm_attrs, sizeof(ps_gemm_params), infer_qgemm, qgemm_ref, 0 },
    { "DynamicQuantizeMatMul", "com.microsoft", 1, 3, 5, 1, 1, NULL, 0, infer_dynamic, dynamic_ref, 0 },
    { "MatMulIntegerToFloat", "com.microsoft", 1, 4, 7, 1, 1, NULL, 0, infer_to_float, to_float_ref, 0 },
    { "MatMulInteger16", "com.microsoft", 1, 2, 2, 1, 1, NULL, 0, infer_integer16, integer16_ref, 0 },
};
const ps_op_family ps_ops_quantize_matmul = PS_OP_FAMILY("quantize_matmul", ops);
