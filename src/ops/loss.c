/* loss.c - NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.
 *
 * Both look at scores [N, C, d...] and class indices [N, d...]. The second takes the logarithm of a softmax over the
 * classes first, and gives it away as an optional output. Source: ONNX operator specs, opsets 12 to 22. */
#include <math.h>

#include "ops/kernel_util.h"
#include "ops/move.h"

typedef struct loss_params {
    const char *reduction;
    int64_t ignore_index;
} loss_params;

static const ps_attr_def loss_attrs[] = {
    PS_A_STR(loss_params, reduction, "mean"),
    PS_A_INT(loss_params, ignore_index, INT64_MIN), /* no class has this index */
    PS_ATTRS_END,
};

typedef enum reduction { REDUCE_NONE, REDUCE_SUM, REDUCE_MEAN } reduction;

static ps_status loss_reduction(const ps_node *node, reduction *ret, ps_error *err) {
    static const char *const names[] = { "none", "sum", "mean" };
    const loss_params *p = node->params;
    int k = 0;
    while (k < 3 && strcmp(p->reduction, names[k]) != 0)
        k++;
    PS_FAIL_IF(k == 3, err, INVALID, "%s: reduction is '%s', must be none, sum or mean", PS_LABEL(node), p->reduction);
    *ret = (reduction)k;
    return PS_OK;
}

/* Scores and indices must agree in all dims but the classes. */
static ps_status loss_check(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    ps_dtype t = node->in[1]->dtype;
    PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_I32 && t != PS_DTYPE_I64, err, TYPE,
               "%s: the classes are %s, they must be i32 or i64", PS_LABEL(node), ps_dtype_name(t));
    PS_TRY(ps_check_rank(node, 2, 1, err));
    if (!ps_in_known(node, 0)) return PS_OK;
    const ps_shape *x = &node->in[0]->shape;
    PS_FAIL_IF(x->rank < 2, err, SHAPE, "%s: scores %s must have at least two dims", PS_LABEL(node), PS_SHAPE_TEXT(x));
    PS_TRY(ps_check_rank(node, 1, x->rank - 1, err));
    for (int d = 0; d < x->rank - 1; d++)
        PS_TRY(ps_check_dim(node, 1, d, x->dims[d ? d + 1 : 0], "the scores' extent", err));
    return ps_check_dim(node, 2, 0, x->dims[1], "the number of classes", err);
}

static ps_status loss_infer(const ps_node *node, ps_error *err) {
    reduction r;
    PS_TRY(loss_reduction(node, &r, err));
    PS_TRY(loss_check(node, err));
    ps_shape y = ps_shape_make(0, NULL);
    if (r == REDUCE_NONE) {
        y = node->in[1]->shape;
        if (ps_in_known(node, 0)) {
            const ps_shape *x = &node->in[0]->shape;
            ps_shape known = ps_shape_make(x->rank - 1, x->dims);
            for (int d = 1; d < known.rank; d++)
                known.dims[d] = x->dims[d + 1];
            for (int d = 0; y.rank >= 0 && d < known.rank; d++)
                known.dims[d] = ps_dim_merge(known.dims[d], y.dims[d]);
            y = known;
        }
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    ps_infer_set(node, 1, node->in[0]->dtype, &node->in[0]->shape);
    return PS_OK;
}

/* ---- kernel ---- */
typedef struct loss_job {
    const ps_kernel_ctx *ctx;
    bool softmax;
    reduction reduction;
    int64_t classes, inner; /* scores [N, classes, inner] */
    double total, weight;   /* of all samples */
} loss_job;

static int64_t class_at(const ps_tensor *t, int64_t i) {
    return t->dtype == PS_DTYPE_I32 ? ((const int32_t *)t->data)[i] : ((const int64_t *)t->data)[i];
}

/* row: the scores of one sample, becomes their log-probabilities. */
static void log_softmax(double *row, int64_t n) {
    double top = -INFINITY, sum = 0;
    for (int64_t c = 0; c < n; c++)
        top = row[c] > top || isnan(row[c]) ? row[c] : top;
    for (int64_t c = 0; c < n; c++)
        sum += exp(row[c] - top);
    sum = log(sum);
    for (int64_t c = 0; c < n; c++)
        row[c] -= top + sum;
}

static ps_status loss_sample(loss_job *job, int64_t sample, double *row, ps_error *err) {
    const ps_kernel_ctx *ctx = job->ctx;
    const loss_params *p = ctx->params;
    const ps_tensor *x = ctx->in[0], *w = ctx->n_in > 2 ? ctx->in[2] : NULL, *y = ctx->out[0];
    int64_t first = sample / job->inner * job->classes * job->inner + sample % job->inner;
    int64_t class = class_at(ctx->in[1], sample);
    ps_row_load(row, x->dtype, x->data, first, job->inner, job->classes);
    if (job->softmax) {
        log_softmax(row, job->classes);
        if (ctx->n_out > 1 && ctx->out[1])
            ps_row_store(ctx->out[1]->data, x->dtype, first, job->inner, row, job->classes);
    }
    double loss = 0, weight = 0;
    if (class != p->ignore_index) {
        PS_FAIL_IF(class < 0 || class >= job->classes, err, INVALID,
                   "%s: class %lld of sample %lld is outside [0, %lld)", PS_LABEL(ctx->node), (long long)class,
                   (long long)sample, (long long)job->classes);
        weight = 1;
        if (w) ps_row_load(&weight, w->dtype, w->data, class, 1, 1);
        loss = -row[class] * weight;
    }
    if (job->reduction == REDUCE_NONE) ps_row_store(y->data, y->dtype, sample, 1, &loss, 1);
    job->total += loss;
    job->weight += weight;
    return PS_OK;
}

static ps_status loss_run(const ps_kernel_ctx *ctx, bool softmax, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    loss_job job = { .ctx = ctx, .softmax = softmax, .classes = x->shape.dims[1] };
    job.inner = ps_shape_product(&x->shape, 2, x->shape.rank);
    PS_TRY(loss_reduction(ctx->node, &job.reduction, err));
    double *row = ps_alloc_array(ctx->alloc, (size_t)job.classes, sizeof(double));
    if (!row) return PS_FAIL_NOMEM(err, "the scores of a sample");
    ps_status status = PS_OK;
    int64_t samples = x->shape.dims[0] * job.inner;
    for (int64_t i = 0; i < samples && status == PS_OK; i++)
        status = loss_sample(&job, i, row, err);
    ps_free(ctx->alloc, row);
    if (status != PS_OK || job.reduction == REDUCE_NONE) return status;
    if (job.reduction == REDUCE_MEAN) job.total /= job.weight;
    ps_row_store(ctx->out[0]->data, ctx->out[0]->dtype, 0, 1, &job.total, 1);
    return PS_OK;
}

static ps_status nll_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return loss_run(ctx, false, err);
}

static ps_status cross_entropy_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return loss_run(ctx, true, err);
}

static const ps_op ops[] = {
    { "NegativeLogLikelihoodLoss", "", 12, 2, 3, 1, 1, loss_attrs, sizeof(loss_params), loss_infer, nll_ref, 0 },
    { "SoftmaxCrossEntropyLoss", "", 12, 2, 3, 1, 2, loss_attrs, sizeof(loss_params), loss_infer, cross_entropy_ref,
      0 },
};
const ps_op_family ps_ops_loss = PS_OP_FAMILY("loss", ops);
