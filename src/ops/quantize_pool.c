/* quantize_pool.c - of com.microsoft: QLinearAveragePool, QLinearGlobalAveragePool, QLinearReduceMean, NhwcMaxPool.
 *
 * Each is the float operator on dequantised input (NhwcMaxPool: on the codes), with channels brought to the front and
 * back again, rounded to codes of the output's scale. */
#include "ops/params.h"
#include "ops/quant.h"

typedef struct qpool_params {
    ps_pool_params pool; /* must come first: what the float operator reads */
    int64_t channels_last;
} qpool_params;

static const ps_attr_def average_attrs[] = {
    PS_A_STR(ps_pool_params, auto_pad, "NOTSET"), PS_A_INTS(ps_pool_params, kernel_shape),
    PS_A_INTS(ps_pool_params, strides),           PS_A_INTS(ps_pool_params, pads),
    PS_A_INT(ps_pool_params, ceil_mode, 0),       PS_A_INT(ps_pool_params, count_include_pad, 0),
    PS_A_INT(qpool_params, channels_last, 0),     PS_ATTRS_END,
};
static const ps_attr_def max_attrs[] = {
    PS_A_STR(ps_pool_params, auto_pad, "NOTSET"), PS_A_INTS(ps_pool_params, kernel_shape),
    PS_A_INTS(ps_pool_params, strides),           PS_A_INTS(ps_pool_params, pads),
    PS_A_INTS(ps_pool_params, dilations),         PS_A_INT(ps_pool_params, ceil_mode, 0),
    PS_ATTRS_END,
};
static const ps_attr_def global_attrs[] = { PS_A_INT(qpool_params, channels_last, 0), PS_ATTRS_END };
static const ps_attr_def mean_attrs[] = {
    PS_A_INTS(ps_reduce_params, axes),
    PS_A_INT(ps_reduce_params, keepdims, 1),
    PS_ATTRS_END,
};

/* Which float operator, and how its tensors relate to the node's. */
typedef struct pool_def {
    const char *op;
    int64_t version;
    bool codes; /* on codes: no scales, no rounding */
} pool_def;

static const pool_def average_def = { "AveragePool", 11, false };
static const pool_def global_def = { "GlobalAveragePool", 1, false };
static const pool_def mean_def = { "ReduceMean", 13, false };
static const pool_def max_def = { "MaxPool", 12, true };

/* ---- shape rules ---- */

static ps_status infer(const ps_node *node, const pool_def *def, bool last, ps_error *err) {
    ps_stand_in s;
    ps_shape x = node->in[0]->shape, y = ps_shape_unknown();
    PS_TRY(ps_check_8bit(node, 0, err));
    if (!def->codes) {
        PS_TRY(ps_check_required(node, 0xB, err)); /* x, scale, -, scale of the result */
        PS_TRY(ps_check_scale_zero(node, 1, 0, err));
        PS_TRY(ps_check_scale_zero(node, 3, 0, err));
    }
    if (last) x = ps_channels_first(&x);
    ps_stand_in_init(&s, node, def->op, def->version, node->params);
    ps_stand_in_add(&s, PS_DTYPE_F32, &x);
    PS_TRY(ps_stand_in_infer(&s, &y, err));
    if (last) y = ps_channels_last(&y);
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

static bool is_last(const void *params) {
    return ((const qpool_params *)params)->channels_last != 0;
}

static ps_status average_infer(const ps_node *node, ps_error *err) {
    return infer(node, &average_def, is_last(node->params), err);
}

static ps_status global_infer(const ps_node *node, ps_error *err) {
    return infer(node, &global_def, is_last(node->params), err);
}

static ps_status mean_infer(const ps_node *node, ps_error *err) {
    return infer(node, &mean_def, false, err);
}

static ps_status max_infer(const ps_node *node, ps_error *err) {
    return infer(node, &max_def, true, err);
}

/* ---- kernels ---- */

/* Planes of [N, C, ...] into y, which is [N, ..., C]. */
static void store_channels_last(const ps_tensor *from, ps_tensor *y) {
    const ps_shape *s = &from->shape;
    const int64_t c = s->dims[1], plane = ps_shape_product(s, 2, s->rank);
    for (int64_t i = 0; i < s->dims[0] * c; i++) {
        int64_t first = i / c * plane * c + i % c;
        ps_row_store(y->data, y->dtype, first, c, (const double *)from->data + i * plane, plane);
    }
}

static ps_status run(const ps_kernel_ctx *ctx, const pool_def *def, bool last, ps_error *err) {
    ps_widened x = { 0 }, y = { 0 };
    ps_stand_in s;
    ps_tensor *to = ctx->out[0], *out = &y.t;
    const ps_tensor *scale = def->codes ? NULL : ctx->in[1], *zero = def->codes ? NULL : ps_in_tensor(ctx, 2);
    const ps_shape shape = last ? ps_channels_first(&to->shape) : to->shape;
    ps_status status = PS_OK;
    PS_TRY_OUT(ps_widen(&x, ctx, ctx->in[0], scale, zero, 0, err));
    if (last) PS_TRY_OUT(ps_widened_channels_first(&x, ctx, err));
    PS_TRY_OUT(ps_widen_room(&y, ctx, PS_DTYPE_F64, &shape, err));
    ps_stand_in_init(&s, ctx->node, def->op, def->version, ctx->params);
    ps_stand_in_tensor(&s, &x.t);
    PS_TRY_OUT(ps_stand_in_run(&s, ctx, &out, 1, err));
    const int64_t n = (int64_t)ps_tensor_count(&y.t);
    double *v = y.t.data, y_scale = def->codes ? 1 : ps_quant_at(ctx->in[3], 0, 1);
    for (int64_t i = 0; i < n; i++)
        v[i] /= y_scale;
    if (!def->codes) ps_quant_round(v, n, to->dtype, ps_quant_at(ps_in_tensor(ctx, 4), 0, 0));
    if (last)
        store_channels_last(&y.t, to);
    else
        ps_row_store(to->data, to->dtype, 0, 1, v, n);
out:
    ps_widened_release(&x);
    ps_widened_release(&y);
    return status;
}

static ps_status average_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run(ctx, &average_def, is_last(ctx->params), err);
}

static ps_status global_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run(ctx, &global_def, is_last(ctx->params), err);
}

static ps_status mean_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run(ctx, &mean_def, false, err);
}

static ps_status max_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run(ctx, &max_def, true, err);
}

#define MS "com.microsoft"
static const ps_op ops[] = {
    { "QLinearAveragePool", MS, 1, 2, 5, 1, 1, average_attrs, sizeof(qpool_params), average_infer, average_ref, 0 },
    { "QLinearGlobalAveragePool", MS, 1, 2, 5, 1, 1, global_attrs, sizeof(qpool_params), global_infer, global_ref, 0 },
    { "QLinearReduceMean", MS, 1, 2, 5, 1, 1, mean_attrs, sizeof(ps_reduce_params), mean_infer, mean_ref, 0 },
    { "NhwcMaxPool", MS, 1, 1, 1, 1, 1, max_attrs, sizeof(qpool_params), max_infer, max_ref, 0 },
};
const ps_op_family ps_ops_quantize_pool = PS_OP_FAMILY("quantize_pool", ops);
