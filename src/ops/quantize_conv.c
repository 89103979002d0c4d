/* quantize_conv.c - convolutions of quantised numbers: ConvInteger, QLinearConv, com.microsoft's QLinearConv with
 * channels last, and the QLinearConv that passes make of a convolution between DequantizeLinear and QuantizeLinear.
 *
 * As for the products: the float kernel on exact differences q - zero gives the exact integer sum. Padding is the zero
 * point, whose difference is 0. */
#include "ops/facts.h"
#include "ops/params.h"
#include "ops/quant.h"

#define WINDOW_ATTRS                                                                                                   \
    PS_A_STR(ps_conv_params, auto_pad, "NOTSET"), PS_A_INTS(ps_conv_params, kernel_shape),                             \
        PS_A_INTS(ps_conv_params, strides), PS_A_INTS(ps_conv_params, pads), PS_A_INTS(ps_conv_params, dilations),     \
        PS_A_INT(ps_conv_params, group, 1)
static const ps_attr_def conv_attrs[] = { WINDOW_ATTRS, PS_ATTRS_END };
static const ps_attr_def last_attrs[] = { WINDOW_ATTRS, PS_A_INT(ps_qconv_params, channels_last, 0), PS_ATTRS_END };
static const ps_attr_def ours_attrs[] = {
    WINDOW_ATTRS,
    { "low", PS_ATTR_INT, offsetof(ps_qconv_params, range.low), PS_CODE_LOW, 0, NULL, 0 },
    { "high", PS_ATTR_INT, offsetof(ps_qconv_params, range.high), PS_CODE_HIGH, 0, NULL, 0 },
    { "sum_low", PS_ATTR_INT, offsetof(ps_qconv_params, sum.low), PS_CODE_LOW, 0, NULL, 0 },
    { "sum_high", PS_ATTR_INT, offsetof(ps_qconv_params, sum.high), PS_CODE_HIGH, 0, NULL, 0 },
    PS_A_INT(ps_qconv_params, second, 0),
    PS_ATTRS_END,
};

enum {
    X = PS_Q_X,
    X_SCALE = PS_Q_X_SCALE,
    X_ZERO = PS_Q_X_ZERO,
    W = PS_Q_W,
    W_SCALE = PS_Q_W_SCALE,
    W_ZERO = PS_Q_W_ZERO,
    Y_SCALE = PS_Q_Y_SCALE,
    Y_ZERO = PS_Q_Y_ZERO,
    BIAS = PS_Q_BIAS
};

static bool channels_last(const ps_node *node) {
    return ((const ps_qconv_params *)node->params)->channels_last != 0;
}

/* ---- shape rules ---- */

/* The float rule on stand-ins; w: the input that holds the weights. */
static ps_status conv_shape(const ps_node *node, size_t w, ps_shape *ret, ps_error *err) {
    ps_stand_in s;
    ps_shape x = node->in[X]->shape;
    PS_NODE_FAIL_IF(x.rank >= 0 && x.rank < 3, node, err, SHAPE,
                    "the input has rank %d, a convolution needs batch, channels and at least one spatial dim", x.rank);
    PS_NODE_FAIL_IF(x.rank >= 0 && ps_in_known(node, w) && node->in[w]->shape.rank != x.rank, node, err, SHAPE,
                    "the weights have shape %s, the input has rank %d", PS_SHAPE_TEXT(&node->in[w]->shape), x.rank);
    if (channels_last(node)) x = ps_channels_first(&x);
    ps_stand_in_init(&s, node, "Conv", 11, node->params);
    ps_stand_in_add(&s, PS_DTYPE_F32, &x);
    ps_stand_in_add(&s, PS_DTYPE_F32, &node->in[w]->shape);
    PS_TRY(ps_stand_in_infer(&s, ret, err));
    return PS_OK;
}

static int64_t out_channels(const ps_shape *y) {
    return y->rank > 1 ? y->dims[1] : PS_DIM_UNKNOWN;
}

static ps_status infer_integer(const ps_node *node, ps_error *err) {
    ps_shape y = ps_shape_unknown();
    PS_TRY(ps_check_8bit(node, 0, err));
    PS_TRY(ps_check_8bit(node, 1, err));
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    PS_TRY(ps_check_same_type(node, 3, 1, err));
    PS_TRY(ps_check_param(node, 2, 1, err));
    PS_TRY(conv_shape(node, 1, &y, err));
    PS_TRY(ps_check_param(node, 3, out_channels(&y), err));
    ps_infer_set(node, 0, PS_DTYPE_I32, &y);
    return PS_OK;
}

static ps_status qlinear_shape(const ps_node *node, bool ours, ps_error *err) {
    ps_shape y = ps_shape_unknown();
    PS_TRY(ps_check_required(node, ours ? 0x1B : 0xFF, err));
    PS_TRY(ps_check_8bit(node, X, err));
    PS_TRY(ps_check_8bit(node, W, err));
    PS_TRY(ps_check_8bit(node, Y_ZERO, err));
    PS_TRY(ps_check_scale_zero(node, X_SCALE, X, err));
    if (ps_has_in(node, Y_ZERO)) PS_TRY(ps_check_scale_zero(node, Y_SCALE, Y_ZERO, err));
    PS_TRY(ps_check_type(node, W_SCALE, PS_DTYPE_F32, err));
    PS_TRY(ps_check_same_type(node, W_ZERO, W, err));
    PS_TRY(ours ? ps_check_quantized_bias(node, err) : ps_check_type(node, BIAS, PS_DTYPE_I32, err));
    PS_TRY(conv_shape(node, W, &y, err));
    int64_t m = out_channels(&y);
    PS_TRY(ps_check_param(node, W_SCALE, m, err));
    PS_TRY(ps_check_param(node, W_ZERO, m, err));
    PS_TRY(ps_check_rank(node, BIAS, 1, err));
    PS_TRY(ps_check_dim(node, BIAS, 0, m, "the number of output channels", err));
    if (channels_last(node)) y = ps_channels_last(&y);
    ps_infer_set(node, 0, ps_has_in(node, Y_ZERO) ? node->in[Y_ZERO]->dtype : PS_DTYPE_F32, &y);
    return PS_OK;
}

static ps_status infer_qlinear(const ps_node *node, ps_error *err) {
    return qlinear_shape(node, false, err);
}

/* What is added: all there or nothing, of the result's type and shape. */
static ps_status check_sum(const ps_node *node, const ps_code_range *range, ps_error *err) {
    if (!ps_has_in(node, PS_Q_OTHER)) return PS_OK;
    PS_TRY(ps_check_required(node, 0x1F << PS_Q_OTHER | 1 << Y_ZERO, err));
    PS_TRY(ps_check_same_type(node, PS_Q_OTHER, Y_ZERO, err));
    PS_TRY(ps_check_scale_zero(node, PS_Q_OTHER_SCALE, PS_Q_OTHER, err));
    PS_TRY(ps_check_scale_zero(node, PS_Q_SUM_SCALE, PS_Q_OTHER, err));
    PS_NODE_FAIL_IF(range->low > range->high, node, err, INVALID, "the sum's range [%lld, %lld] is empty",
                    (long long)range->low, (long long)range->high);
    const ps_shape *y = &node->out[0]->shape, *other = &node->in[PS_Q_OTHER]->shape;
    PS_NODE_FAIL_IF(ps_shape_fixed(y) && ps_shape_fixed(other) && !ps_shape_equal(y, other), node, err, SHAPE,
                    "the result has shape %s, what is added %s", PS_SHAPE_TEXT(y), PS_SHAPE_TEXT(other));
    return PS_OK;
}

static ps_status infer_ours(const ps_node *node, ps_error *err) {
    const ps_qconv_params *p = node->params;
    PS_TRY(ps_check_quantized_result(node, &p->range, err));
    PS_TRY(qlinear_shape(node, true, err));
    return check_sum(node, &p->sum, err);
}

/* ---- kernels ---- */

typedef struct qconv_job {
    ps_widened x, w, sum; /* sum: f64, channels first */
    const ps_tensor *w_scale, *bias;
    float x_scale, y_scale;
    double y_zero;
    const ps_code_range *range; /* or NULL */
    bool last;
    int64_t channels, plane;
    ps_tensor *y;
} qconv_job;

static void job_release(qconv_job *j) {
    ps_widened_release(&j->x);
    ps_widened_release(&j->w);
    ps_widened_release(&j->sum);
}

/* The integer sums, in j->sum. */
static ps_status convolve(const ps_kernel_ctx *ctx, qconv_job *j, size_t w, size_t x_zero, size_t w_zero,
                          ps_error *err) {
    ps_stand_in s;
    PS_TRY(ps_widen(&j->x, ctx, ctx->in[0], NULL, ps_in_tensor(ctx, x_zero), 0, err));
    if (j->last) PS_TRY(ps_widened_channels_first(&j->x, ctx, err));
    PS_TRY(ps_widen(&j->w, ctx, ctx->in[w], NULL, ps_in_tensor(ctx, w_zero), 0, err));
    ps_shape y = j->last ? ps_channels_first(&ctx->out[0]->shape) : ctx->out[0]->shape;
    PS_TRY(ps_widen_room(&j->sum, ctx, PS_DTYPE_F64, &y, err));
    j->channels = y.dims[1];
    j->plane = ps_shape_product(&y, 2, y.rank);
    ps_stand_in_init(&s, ctx->node, "Conv", 11, ctx->params);
    ps_stand_in_tensor(&s, &j->x.t);
    ps_stand_in_tensor(&s, &j->w.t);
    ps_tensor *out = &j->sum.t;
    return ps_stand_in_run(&s, ctx, &out, 1, err);
}

static ps_status integer_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    qconv_job j = { 0 };
    ps_status status = convolve(ctx, &j, 1, 2, 3, err);
    const double *sum = j.sum.t.data;
    for (size_t i = 0, n = status == PS_OK ? ps_tensor_count(ctx->out[0]) : 0; i < n; i++)
        ((uint32_t *)ctx->out[0]->data)[i] = (uint32_t)(uint64_t)(int64_t)sum[i]; /* modulo 2^32 */
    job_release(&j);
    return status;
}

/* Items are planes of one batch element and channel. */
static void requantize_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    const qconv_job *j = ctx;
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        int64_t m = item % j->channels;
        double *sum = (double *)j->sum.t.data + item * j->plane, bias = ps_quant_at(j->bias, m, 0);
        float scale = j->x_scale * (float)ps_quant_at(j->w_scale, m, 1) / j->y_scale, add = 0;
        if (j->bias && j->bias->dtype == PS_DTYPE_F32) {
            add = (float)bias / j->y_scale;
            bias = 0;
        }
        for (int64_t i = 0; i < j->plane; i++)
            sum[i] = (double)((float)(sum[i] + bias) * scale + add);
        ps_quant_round(sum, j->plane, j->y->dtype, j->y_zero);
        if (j->range) ps_code_clamp(sum, j->plane, j->range);
        int64_t first = j->last ? item / j->channels * j->plane * j->channels + m : item * j->plane;
        ps_row_store(j->y->data, j->y->dtype, first, j->last ? j->channels : 1, sum, j->plane);
    }
}

static ps_status run_qlinear(const ps_kernel_ctx *ctx, const ps_code_range *range, ps_error *err) {
    qconv_job j = { .w_scale = ctx->in[W_SCALE], .bias = ps_in_tensor(ctx, BIAS), .range = range, .y = ctx->out[0] };
    j.x_scale = (float)ps_quant_at(ctx->in[X_SCALE], 0, 1);
    j.y_scale = (float)ps_quant_at(ps_in_tensor(ctx, Y_SCALE), 0, 1);
    j.y_zero = ps_quant_at(ps_in_tensor(ctx, Y_ZERO), 0, 0);
    j.last = channels_last(ctx->node);
    ps_status status = convolve(ctx, &j, W, X_ZERO, W_ZERO, err);
    if (status == PS_OK) ps_parallel_for(j.y->shape.dims[0] * j.channels, 1, ctx->threads, requantize_planes, &j);
    job_release(&j);
    return status;
}

static ps_status qlinear_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_qlinear(ctx, NULL, err);
}

/* The row of QLinearAdd, over the codes that are there. */
static ps_status add_other(const ps_kernel_ctx *ctx, const ps_qconv_params *p, ps_error *err) {
    static const size_t other[3] = { PS_Q_OTHER, PS_Q_OTHER_SCALE, PS_Q_OTHER_ZERO };
    const ps_op *op = ps_ops_find("QLinearAdd", "polestar", 1);
    const ps_tensor *in[8] = { ctx->out[0], ctx->in[Y_SCALE],        ctx->in[Y_ZERO],       NULL, NULL,
                               NULL,        ctx->in[PS_Q_SUM_SCALE], ctx->in[PS_Q_SUM_ZERO] };
    for (int i = 0; i < 3; i++) {
        in[3 + i] = p->second ? in[i] : ctx->in[other[i]];
        if (p->second) in[i] = ctx->in[other[i]];
    }
    PS_NODE_FAIL_IF(!op, ctx->node, err, INTERNAL, "QLinearAdd is missing from the table");
    ps_kernel_ctx sum = { ctx->node, &p->sum, in, 8, ctx->out, 1, ctx->alloc, ctx->threads };
    return op->ref(&sum, err);
}

static ps_status ours_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_qconv_params *p = ctx->params;
    PS_TRY(run_qlinear(ctx, ctx->out[0]->dtype == PS_DTYPE_F32 ? NULL : &p->range, err));
    return ps_in_tensor(ctx, PS_Q_OTHER) ? add_other(ctx, p, err) : PS_OK;
}

static const ps_op ops[] = {
    { "ConvInteger", "", 10, 2, 4, 1, 1, conv_attrs, sizeof(ps_qconv_params), infer_integer, integer_ref, 0 },
    { "QLinearConv", "", 10, 8, 9, 1, 1, conv_attrs, sizeof(ps_qconv_params), infer_qlinear, qlinear_ref, 0 },
    { "QLinearConv", "com.microsoft", 1, 8, 9, 1, 1, last_attrs, sizeof(ps_qconv_params), infer_qlinear, qlinear_ref,
      0 },
    { "QLinearConv", "polestar", 1, 5, 14, 1, 1, ours_attrs, sizeof(ps_qconv_params), infer_ours, ours_ref, 0 },
};
const ps_op_family ps_ops_quantize_conv = PS_OP_FAMILY("quantize_conv", ops);
