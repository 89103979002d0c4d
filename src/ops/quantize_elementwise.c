/* quantize_elementwise.c - of com.microsoft: QLinearAdd, QLinearMul, QLinearLeakyRelu, QLinearSigmoid, QLinearSoftmax,
 * QLinearWhere, QLinearConcat.
 *
 * Each is the float operator on dequantised inputs, rounded to codes of the output's scale. Scales and zero points are
 * one number for a tensor. Ratios of scales are often 1/2 or 3/2, and then many results are ties but for the rounding
 * in f32: QLinearAdd and QLinearMul take ONNX Runtime's order of operations, which decides to which side they fall. */
#include <math.h>

#include "ops/facts.h"
#include "ops/params.h"
#include "ops/quant.h"

/* Scale and zero point of one operand. */
typedef struct codes {
    double scale, zero;
} codes;

static codes codes_of(const ps_kernel_ctx *ctx, size_t scale) {
    return (codes) { ps_quant_at(ctx->in[scale], 0, 1), ps_quant_at(ps_in_tensor(ctx, scale + 1), 0, 0) };
}

/* ---- Add, Mul, Where: two operands that broadcast, and a condition ---- */

typedef enum binary_kind { BINARY_ADD, BINARY_MUL, BINARY_WHERE } binary_kind;

typedef struct binary_job {
    binary_kind kind;
    ps_bcast a, b, condition;
    codes ca, cb, cy;
    const ps_code_range *range; /* or NULL */
    ps_tensor *y;
} binary_job;

enum { BLOCK = 256 };

static void binary_piece(const binary_job *j, double *a, const double *b, const double *condition, int64_t n) {
    const float sa = (float)j->ca.scale, sb = (float)j->cb.scale, sy = (float)j->cy.scale;
    const float za = (float)j->ca.zero, zb = (float)j->cb.zero, zy = (float)j->cy.zero;
    const float ratio_a = sa / sy, ratio_b = sb / sy, product = sa * sb / sy;
    const float shift = zy - (ratio_a * za + ratio_b * zb); /* zero points as one summand */
    for (int64_t i = 0; i < n; i++) {
        const float x = (float)a[i], y = (float)b[i];
        switch (j->kind) {
        case BINARY_ADD: a[i] = (double)fmaf(x, ratio_a, fmaf(y, ratio_b, shift)); break;
        case BINARY_MUL: a[i] = (double)fmaf((x - za) * (y - zb), product, zy); break;
        case BINARY_WHERE: a[i] = (double)(rintf((condition[i] != 0 ? (x - za) * sa : (y - zb) * sb) / sy) + zy); break;
        }
    }
    ps_quant_round(a, n, j->y->dtype, 0);
    if (j->range) ps_code_clamp(a, n, j->range);
}

static void binary_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const binary_job *j = ctx;
    double a[BLOCK], b[BLOCK], condition[BLOCK];
    (void)thread;
    for (int64_t at = begin; at < end; at += BLOCK) {
        int64_t n = end - at < BLOCK ? end - at : BLOCK;
        ps_bcast_load(&j->a, at, n, a);
        ps_bcast_load(&j->b, at, n, b);
        if (j->kind == BINARY_WHERE) ps_bcast_load(&j->condition, at, n, condition);
        binary_piece(j, a, b, condition, n);
        ps_row_store(j->y->data, j->y->dtype, at, 1, a, n);
    }
}

/* first: the input that holds the left operand; its scale and zero point, and those of the right one, follow. */
static ps_status binary_run(const ps_kernel_ctx *ctx, binary_kind kind, size_t first, ps_error *err) {
    binary_job j = { .kind = kind, .range = ctx->params, .y = ctx->out[0] };
    const ps_shape *y = &j.y->shape;
    bool ok = ps_bcast_init(&j.a, ctx->in[first], y) && ps_bcast_init(&j.b, ctx->in[first + 3], y);
    if (kind == BINARY_WHERE) ok = ok && ps_bcast_init(&j.condition, ctx->in[0], y);
    PS_NODE_FAIL_IF(!ok, ctx->node, err, SHAPE, "the inputs do not broadcast to %s", PS_SHAPE_TEXT(y));
    j.ca = codes_of(ctx, first + 1);
    j.cb = codes_of(ctx, first + 4);
    j.cy = codes_of(ctx, first + 6);
    ps_parallel_for((int64_t)ps_tensor_count(j.y), 1 << 13, ctx->threads, binary_range, &j);
    return PS_OK;
}

static ps_status binary_infer(const ps_node *node, size_t first, const char *rule, ps_error *err) {
    ps_shape y = ps_shape_unknown();
    ps_stand_in s;
    /* left, scale, -, right, scale, -, scale of the result */
    PS_TRY(ps_check_required(node, 0x5Bu << first, err));
    PS_TRY(ps_check_8bit(node, first, err));
    PS_TRY(ps_check_same_type(node, first + 3, first, err));
    PS_TRY(ps_check_scale_zero(node, first + 1, first, err));
    PS_TRY(ps_check_scale_zero(node, first + 4, first, err));
    PS_TRY(ps_check_scale_zero(node, first + 6, first, err));
    ps_stand_in_init(&s, node, rule, 16, NULL);
    if (first) ps_stand_in_add(&s, PS_DTYPE_BOOL, &node->in[0]->shape);
    ps_stand_in_add(&s, PS_DTYPE_F32, &node->in[first]->shape);
    ps_stand_in_add(&s, PS_DTYPE_F32, &node->in[first + 3]->shape);
    PS_TRY(ps_stand_in_infer(&s, &y, err));
    ps_infer_set(node, 0, node->in[first]->dtype, &y);
    return PS_OK;
}

static ps_status add_infer(const ps_node *node, ps_error *err) {
    return binary_infer(node, 0, "Add", err);
}

static ps_status add_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return binary_run(ctx, BINARY_ADD, 0, err);
}

static ps_status mul_infer(const ps_node *node, ps_error *err) {
    return binary_infer(node, 0, "Mul", err);
}

static ps_status mul_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return binary_run(ctx, BINARY_MUL, 0, err);
}

static ps_status where_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_type(node, 0, PS_DTYPE_BOOL, err));
    return binary_infer(node, 1, "Where", err);
}

static ps_status where_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return binary_run(ctx, BINARY_WHERE, 1, err);
}

/* With a range, as passes make them. */
static const ps_attr_def range_attrs[] = {
    PS_A_INT(ps_code_range, low, PS_CODE_LOW),
    PS_A_INT(ps_code_range, high, PS_CODE_HIGH),
    PS_ATTRS_END,
};

/* ---- Lookup: what a chain of operators makes of each code, in a table that passes compute ---- */

static ps_status lookup_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_8bit(node, 0, err));
    PS_TRY(ps_check_8bit(node, 1, err));
    PS_TRY(ps_check_rank(node, 1, 1, err));
    PS_TRY(ps_check_dim(node, 1, 0, 256, "one for each code", err));
    ps_infer_set(node, 0, node->in[1]->dtype, &node->in[0]->shape);
    return PS_OK;
}

/* Codes as bytes: 255 is -1 of i8. */
static ps_status lookup_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const uint8_t *x = ctx->in[0]->data, *table = ctx->in[1]->data;
    uint8_t *y = ctx->out[0]->data;
    (void)err;
    for (size_t i = 0, n = ps_tensor_count(ctx->in[0]); i < n; i++)
        y[i] = table[x[i]];
    return PS_OK;
}

/* ---- LeakyRelu, Sigmoid: one operand, at most 256 different results ---- */

static const ps_attr_def leaky_attrs[] = { PS_A_FLOAT(ps_alpha_params, alpha, 0.01f), PS_ATTRS_END };

typedef float (*unary_fn)(const void *params, float x);

static float leaky(const void *params, float x) {
    return x < 0 ? ((const ps_alpha_params *)params)->alpha * x : x;
}

static float sigmoid(const void *params, float x) {
    (void)params;
    return (float)(1 / (1 + exp(-(double)x)));
}

static ps_status unary_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_required(node, 0xB, err)); /* x, scale, -, scale of the result */
    PS_TRY(ps_check_8bit(node, 0, err));
    PS_TRY(ps_check_scale_zero(node, 1, 0, err));
    PS_TRY(ps_check_scale_zero(node, 3, 0, err));
    return ps_infer_same(node, err);
}

static ps_status unary_run(const ps_kernel_ctx *ctx, unary_fn fn) {
    const ps_tensor *x = ctx->in[0];
    ps_tensor *y = ctx->out[0];
    const codes cx = codes_of(ctx, 1), cy = codes_of(ctx, 3);
    uint8_t table[256];
    for (int code = 0; code < 256; code++) {
        const uint8_t byte = (uint8_t)code;
        double v;
        ps_row_load(&v, x->dtype, &byte, 0, 1, 1);
        v = (double)(fn(ctx->params, (float)(v - cx.zero) * (float)cx.scale) / (float)cy.scale);
        ps_quant_round(&v, 1, y->dtype, cy.zero);
        ps_row_store(table, y->dtype, code, 1, &v, 1);
    }
    for (size_t i = 0, n = ps_tensor_count(x); i < n; i++)
        ((uint8_t *)y->data)[i] = table[((const uint8_t *)x->data)[i]];
    return PS_OK;
}

static ps_status leaky_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    (void)err;
    return unary_run(ctx, leaky);
}

static ps_status sigmoid_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    (void)err;
    return unary_run(ctx, sigmoid);
}

/* ---- Softmax ---- */

typedef struct qsoftmax_params {
    ps_axis_params axis; /* must come first: what the float operator reads */
    int64_t opset;       /* below 13 rows are all dims from the axis on */
} qsoftmax_params;

static const ps_attr_def softmax_attrs[] = {
    PS_A_INT(ps_axis_params, axis, -1),
    PS_A_INT_REQ(qsoftmax_params, opset),
    PS_ATTRS_END,
};

static ps_status softmax_infer(const ps_node *node, ps_error *err) {
    const qsoftmax_params *p = node->params;
    ps_stand_in s;
    ps_shape y = ps_shape_unknown();
    PS_TRY(ps_check_required(node, 0x1B, err)); /* x, scale, -, scale and zero point of the result */
    PS_NODE_FAIL_IF(p->opset < 1, node, err, INVALID, "opset is %lld, it must be at least 1", (long long)p->opset);
    PS_TRY(ps_check_8bit(node, 0, err));
    PS_TRY(ps_check_scale_zero(node, 1, 0, err));
    PS_TRY(ps_check_scale_zero(node, 3, 0, err));
    ps_stand_in_init(&s, node, "Softmax", p->opset, p);
    ps_stand_in_add(&s, PS_DTYPE_F32, &node->in[0]->shape);
    PS_TRY(ps_stand_in_infer(&s, &y, err));
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

static void store_codes(ps_tensor *y, double *v, const codes *c) {
    const int64_t n = (int64_t)ps_tensor_count(y);
    for (int64_t i = 0; i < n; i++)
        v[i] /= c->scale;
    ps_quant_round(v, n, y->dtype, c->zero);
    ps_row_store(y->data, y->dtype, 0, 1, v, n);
}

static ps_status softmax_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const qsoftmax_params *p = ctx->params;
    const codes cy = codes_of(ctx, 3);
    ps_widened x = { 0 }, y = { 0 };
    ps_stand_in s;
    ps_status status = PS_OK;
    PS_TRY_OUT(ps_widen(&x, ctx, ctx->in[0], ctx->in[1], ctx->in[2], 0, err));
    PS_TRY_OUT(ps_widen_room(&y, ctx, PS_DTYPE_F64, &x.t.shape, err));
    ps_stand_in_init(&s, ctx->node, "Softmax", p->opset, p);
    ps_stand_in_tensor(&s, &x.t);
    ps_tensor *out = &y.t;
    PS_TRY_OUT(ps_stand_in_run(&s, ctx, &out, 1, err));
    store_codes(ctx->out[0], y.t.data, &cy);
out:
    ps_widened_release(&x);
    ps_widened_release(&y);
    return status;
}

/* ---- Concat: scale and zero point of the result, then (tensor, scale, zero point) for each part ---- */

static const ps_attr_def concat_attrs[] = { PS_A_INT_REQ(ps_axis_params, axis), PS_ATTRS_END };

enum { FIRST_PART = 2, PART = 3 };

static ps_status concat_join(const ps_node *node, ps_shape *y, const ps_shape *part, int axis, size_t i,
                             ps_error *err) {
    PS_NODE_FAIL_IF(part->rank != y->rank, node, err, SHAPE, "input %zu has rank %d, the ones before %d", i, part->rank,
                    y->rank);
    for (int d = 0; d < y->rank; d++) {
        int64_t a = y->dims[d], b = part->dims[d];
        if (d != axis) {
            PS_NODE_FAIL_IF(a >= 0 && b >= 0 && a != b, node, err, SHAPE,
                            "input %zu has %lld elements in dim %d, the ones before %lld", i, (long long)b, d,
                            (long long)a);
            y->dims[d] = ps_dim_merge(a, b);
        } else if (a < 0 || b < 0) {
            y->dims[d] = PS_DIM_UNKNOWN;
        } else {
            PS_NODE_FAIL_IF(__builtin_add_overflow(a, b, &y->dims[d]), node, err, LIMIT,
                            "axis %d overflows at input %zu", axis, i);
        }
    }
    return PS_OK;
}

static ps_status concat_infer(const ps_node *node, ps_error *err) {
    const ps_axis_params *p = node->params;
    ps_shape y = ps_shape_unknown();
    bool complete = true;
    int axis = 0;
    PS_NODE_FAIL_IF((node->n_in - FIRST_PART) % PART, node, err, FORMAT,
                    "%u inputs, there must be two and then three for each part", node->n_in);
    PS_TRY(ps_check_8bit(node, 1, err));
    PS_TRY(ps_check_scale_zero(node, 0, 1, err));
    for (size_t i = FIRST_PART; i < node->n_in; i += PART) {
        PS_NODE_FAIL_IF(!node->in[i] || !node->in[i + 1], node, err, FORMAT, "input %zu is required",
                        node->in[i] ? i + 1 : i);
        PS_TRY(ps_check_same_type(node, i, 1, err));
        PS_TRY(ps_check_scale_zero(node, i + 1, 1, err));
        const ps_shape *part = &node->in[i]->shape;
        if (part->rank < 0) {
            complete = false;
        } else if (y.rank < 0) {
            y = *part;
            PS_TRY(ps_axis_check(node, p->axis, y.rank, &axis, err));
        } else {
            PS_TRY(concat_join(node, &y, part, axis, i, err));
        }
    }
    if (!complete && y.rank >= 0) y.dims[axis] = PS_DIM_UNKNOWN;
    return ps_infer_checked(node, 0, node->in[1]->dtype, &y, err);
}

static void concat_part(const ps_tensor *x, ps_tensor *y, int axis, int64_t at, const codes *cx, const codes *cy) {
    double v[BLOCK];
    const int64_t outer = ps_shape_product(&x->shape, 0, axis), row = ps_shape_product(&x->shape, axis, x->shape.rank);
    const int64_t y_row = ps_shape_product(&y->shape, axis, y->shape.rank);
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t i = 0; i < row; i += BLOCK) {
            int64_t n = row - i < BLOCK ? row - i : BLOCK;
            ps_row_load(v, x->dtype, x->data, o * row + i, 1, n);
            for (int64_t k = 0; k < n; k++)
                v[k] = (double)((float)(v[k] - cx->zero) * (float)cx->scale / (float)cy->scale);
            ps_quant_round(v, n, y->dtype, cy->zero);
            ps_row_store(y->data, y->dtype, o * y_row + at + i, 1, v, n);
        }
    }
}

static ps_status concat_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_tensor *y = ctx->out[0];
    const codes cy = codes_of(ctx, 0);
    int axis;
    int64_t at = 0;
    PS_TRY(ps_axis_check(ctx->node, ((const ps_axis_params *)ctx->params)->axis, y->shape.rank, &axis, err));
    for (size_t i = FIRST_PART; i < ctx->n_in; i += PART) {
        const codes cx = codes_of(ctx, i + 1);
        concat_part(ctx->in[i], y, axis, at, &cx, &cy);
        at += ps_shape_product(&ctx->in[i]->shape, axis, y->shape.rank);
    }
    return PS_OK;
}

#define MS "com.microsoft"
static const ps_op ops[] = {
    { "QLinearAdd", MS, 1, 2, 8, 1, 1, NULL, 0, add_infer, add_ref, 0 },
    { "QLinearMul", MS, 1, 2, 8, 1, 1, NULL, 0, mul_infer, mul_ref, 0 },
    { "QLinearAdd", "polestar", 1, 8, 8, 1, 1, range_attrs, sizeof(ps_code_range), add_infer, add_ref, 0 },
    { "QLinearMul", "polestar", 1, 8, 8, 1, 1, range_attrs, sizeof(ps_code_range), mul_infer, mul_ref, 0 },
    { "Lookup", "polestar", 1, 2, 2, 1, 1, NULL, 0, lookup_infer, lookup_ref, 0 },
    { "QLinearWhere", MS, 1, 9, 9, 1, 1, NULL, 0, where_infer, where_ref, 0 },
    { "QLinearLeakyRelu", MS, 1, 2, 5, 1, 1, leaky_attrs, sizeof(ps_alpha_params), unary_infer, leaky_ref, 0 },
    { "QLinearSigmoid", MS, 1, 2, 5, 1, 1, NULL, 0, unary_infer, sigmoid_ref, 0 },
    { "QLinearSoftmax", MS, 1, 2, 5, 1, 1, softmax_attrs, sizeof(qsoftmax_params), softmax_infer, softmax_ref, 0 },
    { "QLinearConcat", MS, 1, 5, PS_VARIADIC, 1, 1, concat_attrs, sizeof(ps_axis_params), concat_infer, concat_ref, 0 },
};
const ps_op_family ps_ops_quantize_elementwise = PS_OP_FAMILY("quantize_elementwise", ops);
