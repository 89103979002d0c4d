/* softmax.c - Softmax, LogSoftmax, Hardmax.
 *
 * Before opset 13 the input is flattened to a matrix at `axis` (default 1) and rows are whole matrix rows; since 13
 * rows run along `axis` (default -1) alone. Either way the data is [outer, n, inner] with rows of n elements `inner`
 * apart. */
#include "ops/softmax.h"

#include <math.h>

#include "ops/kernel_util.h"
#include "ops/params.h"
#include "tensor/convert.h"

static const ps_attr_def flat_attrs[] = { PS_A_INT(ps_axis_params, axis, 1), PS_ATTRS_END };
static const ps_attr_def axis_attrs[] = { PS_A_INT(ps_axis_params, axis, -1), PS_ATTRS_END };

static ps_status infer_axis(const ps_node *node, bool flat, ps_error *err) {
    const ps_axis_params *p = node->params;
    PS_TRY(ps_check_float(node, 0, err));
    int axis;
    if (ps_in_known(node, 0)) {
        int rank = node->in[0]->shape.rank;
        bool end = flat && p->axis == rank; /* flattened at its end: every element is a row */
        bool scalar = rank == 0 && (p->axis == 0 || p->axis == -1 || flat);
        PS_NODE_FAIL_IF(!end && !scalar && !ps_axis_normalize(p->axis, rank, &axis), node, err, SHAPE,
                        "axis %lld is outside of the input's rank %d", (long long)p->axis, rank);
    }
    return ps_infer_same(node, err);
}

static ps_status infer_flat(const ps_node *node, ps_error *err) {
    return infer_axis(node, true, err);
}

static ps_status infer_since_13(const ps_node *node, ps_error *err) {
    return infer_axis(node, false, err);
}

typedef void (*row_fn)(double *x, int64_t n);

void ps_softmax_row(double *x, int64_t n) {
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] = exp(x[i] - max);
    for (int64_t i = 0; i < n; i++)
        x[i] /= sum;
}

static double to_f16(double x) {
    return (double)ps_f16_to_f32(ps_f32_to_f16((float)x));
}

void ps_softmax_row_as(ps_dtype type, double *x, int64_t n) {
    if (type != PS_DTYPE_F16) {
        ps_softmax_row(x, n);
        return;
    }
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] = to_f16(exp(to_f16(x[i] - max)));
    if (sum < 65504) sum = to_f16(sum);
    for (int64_t i = 0; i < n; i++)
        x[i] = to_f16(x[i] / sum);
}

static void softmax_row_f16(double *x, int64_t n) {
    ps_softmax_row_as(PS_DTYPE_F16, x, n);
}

static void log_softmax_row(double *x, int64_t n) {
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i++)
        sum += exp(x[i] - max);
    sum = log(sum);
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] - max - sum;
}

/* One at the first maximum, zero elsewhere. */
static void hardmax_row(double *x, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    for (int64_t i = 0; i < n; i++)
        x[i] = i == best;
}

typedef struct row_job {
    const ps_tensor *x;
    ps_tensor *y;
    int64_t n, inner;
    row_fn fn;
    double *scratch;
} row_job;

static void do_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    row_job *job = ctx;
    double *row = job->scratch + (int64_t)thread * job->n;
    for (int64_t item = begin; item < end; item++) {
        int64_t first = item / job->inner * job->n * job->inner + item % job->inner;
        ps_row_load(row, job->x->dtype, job->x->data, first, job->inner, job->n);
        job->fn(row, job->n);
        ps_row_store(job->y->data, job->y->dtype, first, job->inner, row, job->n);
    }
}

static ps_status run(const ps_kernel_ctx *ctx, bool flat, row_fn fn, ps_error *err) {
    const ps_axis_params *p = ctx->params;
    const ps_shape *s = &ctx->in[0]->shape;
    row_job job = { .x = ctx->in[0], .y = ctx->out[0], .n = 1, .inner = 1, .fn = fn };
    if (fn == ps_softmax_row && job.x->dtype == PS_DTYPE_F16) job.fn = softmax_row_f16;
    int axis = 0;
    if (!ps_axis_normalize(p->axis, s->rank, &axis)) axis = s->rank;
    int row_end = flat || axis == s->rank ? s->rank : axis + 1;
    job.n = ps_shape_product(s, axis, row_end);
    job.inner = ps_shape_product(s, row_end, s->rank);
    int64_t rows = ps_shape_product(s, 0, axis) * job.inner;
    if (rows == 0 || job.n == 0) return PS_OK;
    int64_t grain = 1 + 4096 / job.n;
    return ps_parallel_scratch(ctx, rows, grain, (size_t)job.n, &job.scratch, do_rows, &job, err);
}

#define DEFINE_PAIR(name, row)                                                                                         \
    static ps_status name##_flat(const ps_kernel_ctx *ctx, ps_error *err) {                                            \
        return run(ctx, true, row, err);                                                                               \
    }                                                                                                                  \
    static ps_status name##_axis(const ps_kernel_ctx *ctx, ps_error *err) {                                            \
        return run(ctx, false, row, err);                                                                              \
    }
DEFINE_PAIR(softmax, ps_softmax_row)
DEFINE_PAIR(log_softmax, log_softmax_row)
DEFINE_PAIR(hardmax, hardmax_row)

#define FLAT flat_attrs, sizeof(ps_axis_params), infer_flat
#define AXIS axis_attrs, sizeof(ps_axis_params), infer_since_13
static const ps_op ops[] = {
    { "Softmax", "", 1, 1, 1, 1, 1, FLAT, softmax_flat, PS_OP_INPLACE },
    { "Softmax", "", 13, 1, 1, 1, 1, AXIS, softmax_axis, PS_OP_INPLACE },
    { "LogSoftmax", "", 1, 1, 1, 1, 1, FLAT, log_softmax_flat, PS_OP_INPLACE },
    { "LogSoftmax", "", 13, 1, 1, 1, 1, AXIS, log_softmax_axis, PS_OP_INPLACE },
    { "Hardmax", "", 1, 1, 1, 1, 1, FLAT, hardmax_flat, PS_OP_INPLACE },
    { "Hardmax", "", 13, 1, 1, 1, 1, AXIS, hardmax_axis, PS_OP_INPLACE },
};
const ps_op_family ps_ops_softmax = PS_OP_FAMILY("softmax", ops);
