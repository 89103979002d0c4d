/* quantize.c - QuantizeLinear, DequantizeLinear (ai.onnx and com.microsoft) and DynamicQuantizeLinear.
 *
 * One scale for the tensor, one for each index of an axis, or one for each block of an axis. Both kernels walk runs of
 * elements whose scales lie side by side (or are one), so a big weight costs one pass whatever its granularity.
 *
 * Source: ONNX operator specs 10 to 28 and their reference implementation; what these leave open follows ONNX
 * Runtime: NaN becomes the lower end of an integer type, and the scale of an all-zero tensor is 1. */
#include <math.h>

#include "ops/facts.h"
#include "ops/quant.h"
#include "tensor/convert.h"

enum { IN_X, IN_SCALE, IN_ZERO, BLOCK = 256 };

typedef struct quantize_params {
    int64_t axis, block_size, output_dtype, precision, saturate;
} quantize_params;

static const ps_attr_def attrs10[] = {
    PS_A_INT(quantize_params, axis, 1),
    PS_A_INT(quantize_params, saturate, 1),
    PS_ATTRS_END,
};
static const ps_attr_def quantize_attrs[] = {
    PS_A_INT(quantize_params, axis, 1),         PS_A_INT(quantize_params, block_size, 0),
    PS_A_INT(quantize_params, output_dtype, 0), PS_A_INT(quantize_params, precision, 0),
    PS_A_INT(quantize_params, saturate, 1),     PS_ATTRS_END,
};
static const ps_attr_def dequantize_attrs[] = {
    PS_A_INT(quantize_params, axis, 1),
    PS_A_INT(quantize_params, block_size, 0),
    PS_A_INT(quantize_params, output_dtype, 0),
    PS_ATTRS_END,
};

/* ---- types ---- */

static bool is_f8(ps_dtype t) {
    return t == PS_DTYPE_F8E4M3FN || t == PS_DTYPE_F8E4M3FNUZ || t == PS_DTYPE_F8E5M2 || t == PS_DTYPE_F8E5M2FNUZ;
}

static bool is_quantized(ps_dtype t) {
    double lo, hi;
    return is_f8(t) || t == PS_DTYPE_F4E2M1 || t == PS_DTYPE_F6E2M3 || t == PS_DTYPE_F6E3M2 ||
           ps_quant_range(t, &lo, &hi);
}

static bool is_real(ps_dtype t) {
    return t == PS_DTYPE_F32 || t == PS_DTYPE_F16 || t == PS_DTYPE_BF16;
}

static ps_status check_types(const ps_node *node, bool quantize, ps_error *err) {
    ps_dtype x = node->in[IN_X]->dtype, s = node->in[IN_SCALE]->dtype;
    bool x_ok = x == PS_DTYPE_UNDEFINED || x == PS_DTYPE_I32 || (quantize ? is_real(x) : is_quantized(x));
    PS_NODE_FAIL_IF(!x_ok, node, err, TYPE, "input 0 ('%s') is %s, the operator takes %s", node->in[IN_X]->name,
                    ps_dtype_name(x), quantize ? "f32, f16, bf16 or i32" : "i32 and quantised types");
    bool s_ok = s == PS_DTYPE_UNDEFINED || is_real(s) || s == PS_DTYPE_F8E8M0 || (quantize && s == PS_DTYPE_I32);
    PS_NODE_FAIL_IF(!s_ok, node, err, TYPE, "the scale is %s, it must be f32, f16, bf16 or f8e8m0", ps_dtype_name(s));
    return PS_OK;
}

static ps_status type_attr(const ps_node *node, const char *name, int64_t value, ps_dtype *ret, ps_error *err) {
    *ret = PS_DTYPE_UNDEFINED;
    if (!value) return PS_OK;
    PS_NODE_FAIL_IF(value < 0 || value >= PS_DTYPE_COUNT, node, err, UNSUPPORTED,
                    "%s is %lld, which is no element type that polestar knows", name, (long long)value);
    *ret = (ps_dtype)value;
    return PS_OK;
}

/* The quantised type: output_dtype, else that of the zero point, else u8. */
static ps_status quantized_type(const ps_node *node, ps_dtype *ret, ps_error *err) {
    const quantize_params *p = node->params;
    PS_TRY(type_attr(node, "output_dtype", p->output_dtype, ret, err));
    if (ps_has_in(node, IN_ZERO)) {
        ps_dtype zero = node->in[IN_ZERO]->dtype;
        PS_NODE_FAIL_IF(*ret != PS_DTYPE_UNDEFINED && zero != PS_DTYPE_UNDEFINED && zero != *ret, node, err, TYPE,
                        "output_dtype is %s, the zero point is %s", ps_dtype_name(*ret), ps_dtype_name(zero));
        if (*ret == PS_DTYPE_UNDEFINED) *ret = zero;
        if (*ret == PS_DTYPE_UNDEFINED) return PS_OK;
    } else if (*ret == PS_DTYPE_UNDEFINED) {
        *ret = PS_DTYPE_U8;
    }
    PS_NODE_FAIL_IF(!is_quantized(*ret), node, err, TYPE, "the result would be %s, which is no quantised type",
                    ps_dtype_name(*ret));
    return PS_OK;
}

/* Where the division rounds: `precision`, else the type of the scale (f32 for f8e8m0). UNDEFINED: not at all. */
static ps_status precision_type(const ps_node *node, ps_dtype scale, ps_dtype *ret, ps_error *err) {
    const quantize_params *p = node->params;
    PS_TRY(type_attr(node, "precision", p->precision, ret, err));
    PS_NODE_FAIL_IF(*ret != PS_DTYPE_UNDEFINED && !is_real(*ret), node, err, TYPE,
                    "precision is %s, it must be f32, f16 or bf16", ps_dtype_name(*ret));
    if (*ret == PS_DTYPE_UNDEFINED && scale != PS_DTYPE_I32) *ret = is_real(scale) ? scale : PS_DTYPE_F32;
    return PS_OK;
}

/* ---- granularity ---- */

typedef enum granularity { PER_TENSOR, PER_AXIS, PER_BLOCK } granularity;

/* Blocked: every dim of the scale is that of x, but the axis, which is divided by block_size and rounded up. */
static ps_status check_blocks(const ps_node *node, const ps_shape *x, const ps_shape *s, int axis, ps_error *err) {
    const quantize_params *p = node->params;
    PS_NODE_FAIL_IF(s->rank != x->rank, node, err, SHAPE,
                    "the scale has shape %s, with block_size %lld it must have the input's rank %d", PS_SHAPE_TEXT(s),
                    (long long)p->block_size, x->rank);
    for (int d = 0; d < x->rank; d++) {
        int64_t want = x->dims[d];
        if (want < 0 || s->dims[d] < 0) continue;
        if (d == axis) want = want / p->block_size + (want % p->block_size != 0);
        PS_NODE_FAIL_IF(s->dims[d] != want, node, err, SHAPE,
                        "the scale has shape %s; an input of %s in blocks of %lld along axis %d needs %lld in dim %d",
                        PS_SHAPE_TEXT(s), PS_SHAPE_TEXT(x), (long long)p->block_size, axis, (long long)want, d);
    }
    return PS_OK;
}

static bool is_one(const ps_shape *s) {
    int64_t n;
    return ps_shape_fixed(s) && ps_shape_elements(s, &n) && n == 1;
}

/* Both ranks are known. *ret_axis is set unless per tensor. */
static ps_status granularity_of(const ps_node *node, const ps_shape *x, const ps_shape *s, granularity *ret,
                                int *ret_axis, ps_error *err) {
    const quantize_params *p = node->params;
    PS_NODE_FAIL_IF(p->block_size < 0, node, err, INVALID, "block_size is %lld, it must be at least 0",
                    (long long)p->block_size);
    *ret = PER_TENSOR;
    *ret_axis = 0;
    if (s->rank == 0 || (is_one(s) && (!p->block_size || s->rank != x->rank))) return PS_OK;
    PS_TRY(ps_axis_check(node, p->axis, x->rank, ret_axis, err));
    if (p->block_size) {
        *ret = PER_BLOCK;
        return check_blocks(node, x, s, *ret_axis, err);
    }
    *ret = PER_AXIS;
    PS_NODE_FAIL_IF(s->rank != 1, node, err, SHAPE,
                    "the scale has shape %s, without block_size it must be one number or a list", PS_SHAPE_TEXT(s));
    int64_t want = x->dims[*ret_axis];
    PS_NODE_FAIL_IF(s->dims[0] >= 0 && want >= 0 && s->dims[0] != want, node, err, SHAPE,
                    "%lld scales for %lld elements in dim %d of the input", (long long)s->dims[0], (long long)want,
                    *ret_axis);
    return PS_OK;
}

static ps_status check_zero_shape(const ps_node *node, ps_error *err) {
    if (!ps_in_known(node, IN_SCALE) || !ps_in_known(node, IN_ZERO)) return PS_OK;
    const ps_shape *s = &node->in[IN_SCALE]->shape, *z = &node->in[IN_ZERO]->shape;
    bool fixed = ps_shape_fixed(s) && ps_shape_fixed(z);
    PS_NODE_FAIL_IF(fixed && !ps_shape_equal(s, z) && !(is_one(s) && is_one(z)), node, err, SHAPE,
                    "the zero point has shape %s, the scale %s", PS_SHAPE_TEXT(z), PS_SHAPE_TEXT(s));
    return PS_OK;
}

static ps_status check_shapes(const ps_node *node, ps_error *err) {
    granularity g;
    int axis;
    PS_TRY(check_zero_shape(node, err));
    if (!ps_in_known(node, IN_X) || !ps_in_known(node, IN_SCALE)) return PS_OK;
    return granularity_of(node, &node->in[IN_X]->shape, &node->in[IN_SCALE]->shape, &g, &axis, err);
}

/* ---- runs ---- */

typedef struct linear_job {
    const ps_tensor *x, *scale, *zero; /* zero may be NULL */
    ps_tensor *y;
    granularity kind;
    int64_t n, inner, blocks, block; /* of the axis: elements, what lies behind one, blocks, block size */
    int64_t rows, len, total;
    ps_dtype precision;
    bool saturate;
} linear_job;

/* Elements [first, first + n) with scales scale, scale + step, ... */
typedef struct run {
    int64_t first, n, scale, step;
} run;

static void job_layout(linear_job *j, const quantize_params *p, int axis) {
    const ps_shape *s = &j->x->shape;
    j->total = (int64_t)ps_tensor_count(j->x);
    j->len = 1 << 14; /* even: no two ranges share a byte */
    j->rows = (j->total + j->len - 1) / j->len;
    if (j->kind == PER_TENSOR || !j->total) return;
    int64_t outer = ps_shape_product(s, 0, axis);
    j->n = s->dims[axis];
    j->inner = ps_shape_product(s, axis + 1, s->rank);
    j->block = j->kind == PER_BLOCK ? p->block_size : 1;
    j->blocks = (j->n - 1) / j->block + 1;
    j->rows = outer * (j->inner > 1 ? j->n : j->kind == PER_AXIS ? 1 : j->blocks);
    j->len = j->inner > 1 ? j->inner : j->n;
}

static run run_at(const linear_job *j, int64_t row) {
    if (j->kind == PER_TENSOR) {
        int64_t first = row * j->len, rest = j->total - first;
        return (run) { first, rest < j->len ? rest : j->len, 0, 0 };
    }
    if (j->kind == PER_AXIS)
        return j->inner > 1 ? (run) { row * j->len, j->len, row % j->n, 0 } : (run) { row * j->len, j->len, 0, 1 };
    if (j->inner > 1)
        return (run) { row * j->len, j->len, (row / j->n * j->blocks + row % j->n / j->block) * j->inner, 1 };
    int64_t block = row % j->blocks, first = block * j->block, rest = j->n - first;
    return (run) { row / j->blocks * j->n + first, rest < j->block ? rest : j->block, row, 0 };
}

/* Without saturation overflow becomes NaN or infinity, which ps_row_store does not do. */
static void store_piece(const linear_job *j, int64_t first, const double *x, int64_t n) {
    if (j->saturate || !is_f8(j->y->dtype)) {
        ps_row_store(j->y->data, j->y->dtype, first, 1, x, n);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        ((uint8_t *)j->y->data)[first + i] = ps_f32_to_f8((float)x[i], j->y->dtype, false);
}

typedef void (*piece_fn)(const linear_job *j, double *x, const double *scale, const double *zero, int64_t n);

static void each_piece(const linear_job *j, int64_t begin, int64_t end, piece_fn fn) {
    double x[BLOCK], scale[BLOCK], zero[BLOCK] = { 0 };
    for (int64_t row = begin; row < end; row++) {
        const run r = run_at(j, row);
        for (int64_t at = 0; at < r.n; at += BLOCK) {
            int64_t n = r.n - at < BLOCK ? r.n - at : BLOCK, s = r.scale + at * r.step;
            ps_row_load(x, j->x->dtype, j->x->data, r.first + at, 1, n);
            ps_row_load(scale, j->scale->dtype, j->scale->data, s, r.step, n);
            if (j->zero) ps_row_load(zero, j->zero->dtype, j->zero->data, s, r.step, n);
            fn(j, x, scale, zero, n);
            store_piece(j, r.first + at, x, n);
        }
    }
}

static void quantize_piece(const linear_job *j, double *x, const double *scale, const double *zero, int64_t n) {
    const ps_dtype p = j->precision;
    for (int64_t i = 0; i < n; i++) {
        if (p == PS_DTYPE_UNDEFINED)
            x[i] = x[i] / scale[i];
        else
            x[i] = (double)ps_round_to(p, (double)(ps_round_to(p, x[i]) / ps_round_to(p, scale[i])));
        ps_quant_round(&x[i], 1, j->y->dtype, zero[i]);
    }
}

static void dequantize_piece(const linear_job *j, double *x, const double *scale, const double *zero, int64_t n) {
    (void)j;
    for (int64_t i = 0; i < n; i++)
        x[i] = (double)((float)(x[i] - zero[i]) * (float)scale[i]);
}

static void quantize_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    each_piece(ctx, begin, end, quantize_piece);
}

static void dequantize_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    each_piece(ctx, begin, end, dequantize_piece);
}

static ps_status linear_run(const ps_kernel_ctx *ctx, linear_job *j, ps_parallel_fn fn, ps_error *err) {
    int axis;
    j->x = ctx->in[IN_X];
    j->scale = ctx->in[IN_SCALE];
    j->zero = ps_in_tensor(ctx, IN_ZERO);
    j->y = ctx->out[0];
    PS_TRY(granularity_of(ctx->node, &j->x->shape, &j->scale->shape, &j->kind, &axis, err));
    PS_NODE_FAIL_IF(j->zero && ps_tensor_count(j->zero) != ps_tensor_count(j->scale), ctx->node, err, SHAPE,
                    "%zu zero points for %zu scales", ps_tensor_count(j->zero), ps_tensor_count(j->scale));
    job_layout(j, ctx->params, axis);
    if (!j->total) return PS_OK;
    /* Rows of a packed type may share a byte. */
    int threads = ps_dtype_size(j->y->dtype) ? ctx->threads : 1;
    ps_parallel_for(j->rows, 1 + 4096 / j->len, threads, fn, j);
    return PS_OK;
}

/* ---- QuantizeLinear ---- */

static ps_status quantize_infer(const ps_node *node, ps_error *err) {
    ps_dtype to, precision;
    PS_TRY(check_types(node, true, err));
    PS_TRY(check_shapes(node, err));
    PS_TRY(quantized_type(node, &to, err));
    PS_TRY(precision_type(node, node->in[IN_SCALE]->dtype, &precision, err));
    ps_infer_set(node, 0, to, &node->in[IN_X]->shape);
    return PS_OK;
}

static ps_status quantize_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const quantize_params *p = ctx->params;
    linear_job j = { .saturate = p->saturate != 0 };
    PS_TRY(precision_type(ctx->node, ctx->in[IN_SCALE]->dtype, &j.precision, err));
    return linear_run(ctx, &j, quantize_rows, err);
}

/* ---- DequantizeLinear ---- */

static ps_status dequantize_infer(const ps_node *node, ps_error *err) {
    const quantize_params *p = node->params;
    ps_dtype to, scale = node->in[IN_SCALE]->dtype;
    PS_TRY(check_types(node, false, err));
    PS_TRY(check_shapes(node, err));
    PS_TRY(ps_check_same_type(node, IN_ZERO, IN_X, err));
    PS_TRY(type_attr(node, "output_dtype", p->output_dtype, &to, err));
    if (to == PS_DTYPE_UNDEFINED) to = scale;
    PS_NODE_FAIL_IF(to != PS_DTYPE_UNDEFINED && !is_real(to), node, err, TYPE,
                    "the result would be %s, it must be f32, f16 or bf16 (attribute output_dtype)", ps_dtype_name(to));
    ps_infer_set(node, 0, to, &node->in[IN_X]->shape);
    return PS_OK;
}

static ps_status dequantize_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    linear_job j = { .saturate = true };
    return linear_run(ctx, &j, dequantize_rows, err);
}

/* ---- DynamicQuantizeLinear ---- */

static ps_status dynamic_infer(const ps_node *node, ps_error *err) {
    const ps_shape scalar = ps_shape_make(0, NULL);
    PS_TRY(ps_check_type(node, 0, PS_DTYPE_F32, err));
    ps_infer_set(node, 0, PS_DTYPE_U8, &node->in[0]->shape);
    ps_infer_set(node, 1, PS_DTYPE_F32, &scalar);
    ps_infer_set(node, 2, PS_DTYPE_U8, &scalar);
    return PS_OK;
}

typedef struct dynamic_job {
    const float *x;
    uint8_t *y;
    float scale;
    uint8_t zero;
} dynamic_job;

static void dynamic_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const dynamic_job *j = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        double q = (double)(j->x[i] / j->scale);
        ps_quant_round(&q, 1, PS_DTYPE_U8, j->zero);
        j->y[i] = (uint8_t)q;
    }
}

static ps_status dynamic_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    dynamic_job j = { .x = ctx->in[0]->data, .y = ctx->out[0] ? ctx->out[0]->data : NULL };
    const int64_t n = (int64_t)ps_tensor_count(ctx->in[0]);
    (void)err;
    ps_dynamic_params(j.x, n, &j.scale, &j.zero);
    if (j.y) ps_parallel_for(n, 1 << 14, ctx->threads, dynamic_range, &j);
    if (ctx->n_out > 1 && ctx->out[1]) memcpy(ctx->out[1]->data, &j.scale, sizeof j.scale);
    if (ctx->n_out > 2 && ctx->out[2]) memcpy(ctx->out[2]->data, &j.zero, sizeof j.zero);
    return PS_OK;
}

/* ---- table ---- */

#define QUANTIZE(domain, since, attributes)                                                                            \
    { "QuantizeLinear", domain, since, 2, 3, 1, 1, attributes, sizeof(quantize_params), quantize_infer,                \
      quantize_ref, 0 }
#define DEQUANTIZE(domain, since, attributes)                                                                          \
    { "DequantizeLinear", domain, since, 2, 3, 1, 1, attributes, sizeof(quantize_params), dequantize_infer,            \
      dequantize_ref, PS_OP_EXPANDS }

static const ps_op ops[] = {
    QUANTIZE("", 10, attrs10),
    QUANTIZE("", 21, quantize_attrs),
    QUANTIZE("com.microsoft", 1, attrs10),
    DEQUANTIZE("", 10, attrs10),
    DEQUANTIZE("", 21, dequantize_attrs),
    DEQUANTIZE("com.microsoft", 1, attrs10),
    { "DynamicQuantizeLinear", "", 11, 1, 1, 3, 3, NULL, 0, dynamic_infer, dynamic_ref, 0 },
};
const ps_op_family ps_ops_quantize = PS_OP_FAMILY("quantize", ops);
