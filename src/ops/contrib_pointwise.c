/* contrib_pointwise.c - activations of domain com.microsoft with something added before or multiplied after: BiasGelu,
 * FastGelu, BiasSplitGelu, BiasAdd, BiasDropout (inference), BiasSoftmax.
 *
 * Source: the operator schemas of ONNX Runtime 1.32. */
#include <math.h>

#include "ops/facts.h"
#include "ops/kernel_util.h"
#include "ops/params.h"
#include "ops/softmax.h"

static const ps_tensor *input(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_in ? ctx->in[i] : NULL;
}

/* Input i broadcasts to input 0 without changing it. */
static ps_status check_fits(const ps_node *node, size_t i, ps_error *err) {
    PS_TRY(ps_check_same_type(node, i, 0, err));
    if (!ps_in_known(node, i) || !ps_in_known(node, 0)) return PS_OK;
    const ps_shape *s = &node->in[i]->shape, *x = &node->in[0]->shape;
    ps_shape both;
    bool fits = s->rank <= x->rank && ps_shape_broadcast(s, x, &both);
    for (int d = 0; fits && d < x->rank; d++)
        fits = x->dims[d] < 0 || both.dims[d] < 0 || both.dims[d] == x->dims[d];
    PS_NODE_FAIL_IF(!fits, node, err, SHAPE, "input %zu of shape %s does not broadcast to the input's %s", i,
                    PS_SHAPE_TEXT(s), PS_SHAPE_TEXT(x));
    return PS_OK;
}

static ps_status sum_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    for (size_t i = 1; i < node->n_in; i++)
        PS_TRY(check_fits(node, i, err));
    return ps_infer_same(node, err);
}

static double identity(double x) {
    return x;
}

static double gelu(double x) {
    return 0.5 * x * (1 + erf(x * 0.70710678118654752));
}

/* The constants are the schema's. */
static double fast_gelu(double x) {
    return 0.5 * x * (1 + tanh(0.797885 * x + 0.035677 * x * x * x));
}

enum { MAX_SUMMANDS = 2, CHUNK = 1024 };

typedef struct sum_job {
    const ps_tensor *x;
    ps_bcast summands[MAX_SUMMANDS];
    size_t n;
    double (*fn)(double);
    ps_tensor *y;
    int64_t total;
    double *scratch;
} sum_job;

static void sum_chunks(void *ctx, int64_t begin, int64_t end, int thread) {
    sum_job *j = ctx;
    double *x = j->scratch + (int64_t)thread * 2 * CHUNK, *add = x + CHUNK;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        int64_t first = chunk * CHUNK, n = j->total - first < CHUNK ? j->total - first : CHUNK;
        ps_row_load(x, j->x->dtype, j->x->data, first, 1, n);
        for (size_t k = 0; k < j->n; k++) {
            ps_bcast_load(&j->summands[k], first, n, add);
            for (int64_t i = 0; i < n; i++)
                x[i] += add[i];
        }
        for (int64_t i = 0; i < n; i++)
            x[i] = j->fn(x[i]);
        ps_row_store(j->y->data, j->y->dtype, first, 1, x, n);
    }
}

/* out[0] = fn(in[0] + in[1] + in[2]), the latter two where given. */
static ps_status run_sum(const ps_kernel_ctx *ctx, double (*fn)(double), ps_error *err) {
    sum_job j = { .x = ctx->in[0], .fn = fn, .y = ctx->out[0], .total = (int64_t)ps_tensor_count(ctx->in[0]) };
    for (size_t i = 1; i <= MAX_SUMMANDS; i++) {
        if (!input(ctx, i)) continue;
        if (!ps_bcast_init(&j.summands[j.n++], ctx->in[i], &j.x->shape))
            return PS_NODE_FAIL(ctx->node, err, SHAPE, "input %zu does not broadcast to the input's shape", i);
    }
    return ps_parallel_scratch(ctx, (j.total + CHUNK - 1) / CHUNK, 4, 2 * CHUNK, &j.scratch, sum_chunks, &j, err);
}

static ps_status bias_gelu_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_sum(ctx, gelu, err);
}

static ps_status fast_gelu_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_sum(ctx, fast_gelu, err);
}

static ps_status bias_add_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_sum(ctx, identity, err);
}

/* ---- BiasDropout: inputs data, bias, residual, ratio, training_mode ---- */

static ps_status dropout_infer(const ps_node *node, ps_error *err) {
    double training = 1;
    PS_NODE_FAIL_IF(ps_has_in(node, 4) && !(ps_const_double(node, 4, &training) && training == 0), node, err,
                    UNSUPPORTED, "training_mode must be constant and off: only inference is supported");
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(check_fits(node, 1, err));
    PS_TRY(check_fits(node, 2, err));
    if (ps_has_out(node, 1)) ps_infer_set(node, 1, PS_DTYPE_BOOL, &node->in[0]->shape);
    return ps_infer_same(node, err);
}

static ps_status dropout_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ctx->n_out > 1 && ctx->out[1] && ctx->out[1]->bytes) memset(ctx->out[1]->data, 1, ctx->out[1]->bytes);
    return run_sum(ctx, identity, err);
}

/* ---- BiasSplitGelu: left half times GELU of the right half, after the bias ---- */

static ps_status split_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(ps_check_rank(node, 0, 3, err));
    PS_TRY(ps_check_rank(node, 1, 1, err));
    PS_TRY(check_fits(node, 1, err));
    ps_shape y = node->in[0]->shape;
    if (y.rank == 3 && y.dims[2] >= 0) {
        PS_NODE_FAIL_IF(y.dims[2] % 2, node, err, SHAPE, "%lld columns cannot be halved", (long long)y.dims[2]);
        PS_TRY(ps_check_dim(node, 1, 0, y.dims[2], "the width of the input", err));
        y.dims[2] /= 2;
    } else if (y.rank == 3) {
        y.dims[2] = PS_DIM_UNKNOWN;
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

static ps_status split_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    ps_tensor *y = ctx->out[0];
    int64_t width = x->shape.dims[2], half = width / 2, rows = x->shape.dims[0] * x->shape.dims[1];
    double *row = ps_alloc_array(ctx->alloc, (size_t)width, 2 * sizeof(double)), *bias = row + width;
    if (!row) return PS_FAIL_NOMEM(err, "a row");
    ps_row_load(bias, ctx->in[1]->dtype, ctx->in[1]->data, 0, 1, width);
    for (int64_t r = 0; r < rows; r++) {
        ps_row_load(row, x->dtype, x->data, r * width, 1, width);
        for (int64_t i = 0; i < half; i++)
            row[i] = (row[i] + bias[i]) * gelu(row[half + i] + bias[half + i]);
        ps_row_store(y->data, y->dtype, r * half, 1, row, half);
    }
    ps_free(ctx->alloc, row);
    return PS_OK;
}

/* ---- BiasSoftmax: rows are all dims from the axis on ---- */

typedef struct bias_softmax_params {
    int64_t axis, is_inner_broadcast;
} bias_softmax_params;

static const ps_attr_def bias_softmax_attrs[] = {
    PS_A_INT(bias_softmax_params, axis, 1),
    PS_A_INT_REQ(bias_softmax_params, is_inner_broadcast),
    PS_ATTRS_END,
};

static ps_status bias_softmax_infer(const ps_node *node, ps_error *err) {
    const bias_softmax_params *p = node->params;
    int axis;
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(check_fits(node, 1, err));
    if (ps_in_known(node, 0)) PS_TRY(ps_axis_check(node, p->axis, node->in[0]->shape.rank, &axis, err));
    return ps_infer_same(node, err);
}

static ps_status bias_softmax_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    const ps_shape *s = &x->shape;
    ps_tensor *y = ctx->out[0];
    ps_bcast bias;
    int axis;
    PS_TRY(ps_axis_check(ctx->node, ((const bias_softmax_params *)ctx->params)->axis, s->rank, &axis, err));
    if (!ps_bcast_init(&bias, ctx->in[1], s))
        return PS_NODE_FAIL(ctx->node, err, SHAPE, "the bias does not broadcast to the input's shape");
    int64_t rows = ps_shape_product(s, 0, axis), n = ps_shape_product(s, axis, s->rank);
    if (rows == 0 || n == 0) return PS_OK;
    double *row = ps_alloc_array(ctx->alloc, (size_t)n, 2 * sizeof(double)), *add = row + n;
    if (!row) return PS_FAIL_NOMEM(err, "a row of the softmax");
    for (int64_t r = 0; r < rows; r++) {
        ps_row_load(row, x->dtype, x->data, r * n, 1, n);
        ps_bcast_load(&bias, r * n, n, add);
        for (int64_t i = 0; i < n; i++)
            row[i] += add[i];
        ps_softmax_row(row, n);
        ps_row_store(y->data, y->dtype, r * n, 1, row, n);
    }
    ps_free(ctx->alloc, row);
    return PS_OK;
}

#define MS "com.microsoft"
static const ps_op ops[] = {
    { "BiasGelu", MS, 1, 2, 2, 1, 1, NULL, 0, sum_infer, bias_gelu_ref, 0 },
    { "FastGelu", MS, 1, 1, 2, 1, 1, NULL, 0, sum_infer, fast_gelu_ref, 0 },
    { "BiasAdd", MS, 1, 3, 3, 1, 1, NULL, 0, sum_infer, bias_add_ref, 0 },
    { "BiasDropout", MS, 1, 2, 5, 1, 2, NULL, 0, dropout_infer, dropout_ref, 0 },
    { "BiasSplitGelu", MS, 1, 2, 2, 1, 1, NULL, 0, split_infer, split_ref, 0 },
    { "BiasSoftmax", MS, 1, 2, 2, 1, 1, bias_softmax_attrs, sizeof(bias_softmax_params), bias_softmax_infer,
      bias_softmax_ref, 0 },
};
const ps_op_family ps_ops_contrib_pointwise = PS_OP_FAMILY("contrib_pointwise", ops);
