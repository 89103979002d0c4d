/* norm.c - normalisations: per channel (BatchNormalization, InstanceNormalization, GroupNormalization), over trailing
 * dims (LayerNormalization, RMSNormalization), across channels (LRN).
 *
 * Variances are population variances of the centred values (two passes over a row in double). */
#include <math.h>

#include "ops/kernel_util.h"
#include "ops/params.h"

typedef struct lrn_params {
    float alpha, beta, bias;
    int64_t size;
} lrn_params;

static const ps_attr_def batchnorm_attrs[] = {
    PS_A_FLOAT(ps_batchnorm_params, epsilon, 1e-5f),
    PS_A_FLOAT(ps_batchnorm_params, momentum, 0.9f),
    PS_A_INT(ps_batchnorm_params, training_mode, 0),
    PS_A_INT(ps_batchnorm_params, spatial, 1),
    PS_ATTRS_END,
};
static const ps_attr_def batchnorm_1_attrs[] = {
    PS_A_FLOAT(ps_batchnorm_params, epsilon, 1e-5f),
    PS_A_FLOAT(ps_batchnorm_params, momentum, 0.9f),
    PS_A_INT(ps_batchnorm_params, is_test, 0),
    PS_A_INT(ps_batchnorm_params, spatial, 1),
    PS_ATTRS_END,
};
static const ps_attr_def instancenorm_attrs[] = { PS_A_FLOAT(ps_epsilon_params, epsilon, 1e-5f), PS_ATTRS_END };
static const ps_attr_def groupnorm_attrs[] = {
    PS_A_FLOAT(ps_groupnorm_params, epsilon, 1e-5f),
    PS_A_INT_REQ(ps_groupnorm_params, num_groups),
    PS_A_INT(ps_groupnorm_params, stash_type, 1),
    PS_ATTRS_END,
};
static const ps_attr_def layernorm_attrs[] = {
    PS_A_INT(ps_layernorm_params, axis, -1),
    PS_A_FLOAT(ps_layernorm_params, epsilon, 1e-5f),
    PS_A_INT(ps_layernorm_params, stash_type, 1),
    PS_ATTRS_END,
};
static const ps_attr_def lrn_attrs[] = {
    PS_A_FLOAT(lrn_params, alpha, 1e-4f),
    PS_A_FLOAT(lrn_params, beta, 0.75f),
    PS_A_FLOAT(lrn_params, bias, 1.0f),
    PS_A_INT_REQ(lrn_params, size),
    PS_ATTRS_END,
};

static double row_mean(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

/* Mean of squared distances from `center`. */
static double row_variance(const double *x, int64_t n, double center) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (x[i] - center) * (x[i] - center);
    return sum / (double)n;
}

/* x = [N, C, ...]: one (batch, channel) plane at a time is widened, changed and stored. */
typedef struct plane_job {
    const ps_tensor *x;
    ps_tensor *y;
    int64_t batch, channels, plane;
    const double *a, *b; /* per channel: factor and addend, or scale and bias */
    double *params;      /* memory behind a and b */
    double epsilon;
    int64_t group_channels; /* GroupNormalization */
    double *scratch;
} plane_job;

static void plane_job_init(plane_job *job, const ps_kernel_ctx *ctx) {
    const ps_shape *s = &ctx->in[0]->shape;
    *job =
        (plane_job) { .x = ctx->in[0], .y = ctx->out[0], .batch = s->rank ? s->dims[0] : 1, .channels = 1, .plane = 1 };
    if (s->rank >= 2) job->channels = s->dims[1];
    if (s->rank > 2) job->plane = ps_shape_product(s, 2, s->rank);
}

static bool plane_job_empty(const plane_job *job) {
    return job->batch == 0 || job->channels == 0 || job->plane == 0;
}

/* Room for `count` rows of one double a channel; the first two are a and b. */
static ps_status plane_job_params(plane_job *job, const ps_kernel_ctx *ctx, size_t count, ps_error *err) {
    job->params = ps_alloc_array(ctx->alloc, (size_t)job->channels, count * sizeof(double));
    if (!job->params) return PS_FAIL_NOMEM(err, "normalisation parameters");
    job->a = job->params;
    job->b = job->params + job->channels;
    return PS_OK;
}

/* ---- BatchNormalization ---- */

static ps_status infer_channel_vectors(const ps_node *node, size_t from, size_t to, ps_error *err) {
    int64_t channels = PS_DIM_UNKNOWN;
    if (ps_in_known(node, 0)) channels = node->in[0]->shape.rank >= 2 ? node->in[0]->shape.dims[1] : 1;
    for (size_t i = from; i < to; i++) {
        PS_TRY(ps_check_float(node, i, err));
        PS_TRY(ps_check_rank(node, i, 1, err));
        PS_TRY(ps_check_dim(node, i, 0, channels, "the number of channels", err));
    }
    return PS_OK;
}

static ps_status infer_batchnorm(const ps_node *node, bool has_training, ps_error *err) {
    const ps_batchnorm_params *p = node->params;
    PS_TRY(ps_check_float(node, 0, err));
    PS_NODE_FAIL_IF(ps_in_known(node, 0) && node->in[0]->shape.rank < 1, node, err, SHAPE,
                    "the input is a scalar, it must have a batch dim");
    PS_NODE_FAIL_IF(!p->spatial, node, err, UNSUPPORTED, "spatial = 0 (statistics per activation) is not supported");
    bool training = has_training && p->training_mode;
    for (size_t i = 1; i < node->n_out; i++)
        PS_NODE_FAIL_IF(!training && ps_has_out(node, i), node, err, UNSUPPORTED,
                        "output %zu exists in training mode only, which %s", i,
                        has_training ? "is switched off (training_mode = 0)" : "is not supported before opset 14");
    PS_TRY(infer_channel_vectors(node, 1, 5, err));
    for (size_t i = 1; i < 3; i++)
        if (ps_has_out(node, i)) ps_infer_set(node, i, node->in[i + 2]->dtype, &node->in[i + 2]->shape);
    return ps_infer_same(node, err);
}

/* Versions 1 and 6 train unless told not to. */
static ps_status infer_batchnorm_1(const ps_node *node, ps_error *err) {
    const ps_batchnorm_params *p = node->params;
    PS_NODE_FAIL_IF(!p->is_test, node, err, UNSUPPORTED, "is_test = 0 (training) is not supported before opset 7");
    return infer_batchnorm(node, false, err);
}

static ps_status infer_batchnorm_7(const ps_node *node, ps_error *err) {
    return infer_batchnorm(node, false, err);
}

static ps_status infer_batchnorm_14(const ps_node *node, ps_error *err) {
    return infer_batchnorm(node, true, err);
}

static void affine_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    plane_job *job = ctx;
    double *x = job->scratch + (int64_t)thread * job->plane;
    for (int64_t item = begin; item < end; item++) {
        double a = job->a[item % job->channels], b = job->b[item % job->channels];
        ps_row_load(x, job->x->dtype, job->x->data, item * job->plane, 1, job->plane);
        for (int64_t i = 0; i < job->plane; i++)
            x[i] = x[i] * a + b;
        ps_row_store(job->y->data, job->y->dtype, item * job->plane, 1, x, job->plane);
    }
}

/* Training mode: the batch's own mean and variance replace the given ones, which move towards them. */
static ps_status batch_statistics(const ps_kernel_ctx *ctx, const plane_job *job, double *mean, double *var,
                                  ps_error *err) {
    const ps_batchnorm_params *p = ctx->params;
    double *row = ps_alloc_array(ctx->alloc, (size_t)job->plane, sizeof(double)),
           count = (double)(job->batch * job->plane);
    if (!row) return PS_FAIL_NOMEM(err, "batch statistics");
    for (int64_t c = 0; c < job->channels; c++) {
        double sum = 0, squares = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t n = 0; n < job->batch; n++) {
                ps_row_load(row, job->x->dtype, job->x->data, (n * job->channels + c) * job->plane, 1, job->plane);
                if (pass == 0)
                    sum += row_mean(row, job->plane) * (double)job->plane;
                else
                    squares += row_variance(row, job->plane, sum / count) * (double)job->plane;
            }
        double now[2] = { sum / count, squares / count }, *state[2] = { &mean[c], &var[c] };
        for (size_t i = 0; i < 2; i++) {
            double running = *state[i] * (double)p->momentum + now[i] * (1.0 - (double)p->momentum);
            ps_tensor *out = i + 1 < ctx->n_out ? ctx->out[i + 1] : NULL;
            if (out) ps_row_store(out->data, out->dtype, c, 1, &running, 1);
            *state[i] = now[i];
        }
    }
    ps_free(ctx->alloc, row);
    return PS_OK;
}

static ps_status run_batchnorm(const ps_kernel_ctx *ctx, bool training, ps_error *err) {
    const ps_batchnorm_params *p = ctx->params;
    plane_job job;
    plane_job_init(&job, ctx);
    if (plane_job_empty(&job)) return PS_OK;
    PS_TRY(plane_job_params(&job, ctx, 4, err));
    int64_t channels = job.channels;
    double *scale = job.params, *bias = scale + channels, *mean = bias + channels, *var = mean + channels;
    for (size_t i = 0; i < 4; i++)
        ps_row_load(scale + (int64_t)i * channels, ctx->in[i + 1]->dtype, ctx->in[i + 1]->data, 0, 1, channels);
    ps_status status = PS_OK;
    if (training) PS_TRY_OUT(batch_statistics(ctx, &job, mean, var, err));
    for (int64_t c = 0; c < channels; c++) {
        scale[c] /= sqrt(var[c] + (double)p->epsilon);
        bias[c] -= mean[c] * scale[c];
    }
    status =
        ps_parallel_scratch(ctx, job.batch * channels, 1, (size_t)job.plane, &job.scratch, affine_planes, &job, err);
out:
    ps_free(ctx->alloc, job.params);
    return status;
}

static ps_status batchnorm_ref_7(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_batchnorm(ctx, false, err);
}

static ps_status batchnorm_ref_14(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_batchnorm(ctx, ((const ps_batchnorm_params *)ctx->params)->training_mode != 0, err);
}

/* ---- InstanceNormalization, GroupNormalization ---- */

static ps_status infer_instancenorm(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    PS_NODE_FAIL_IF(ps_in_known(node, 0) && node->in[0]->shape.rank < 3, node, err, SHAPE,
                    "the input has rank %d, it must have batch, channels and spatial dims", node->in[0]->shape.rank);
    PS_TRY(infer_channel_vectors(node, 1, 3, err));
    return ps_infer_same(node, err);
}

static ps_status infer_groupnorm(const ps_node *node, bool per_group, ps_error *err) {
    const ps_groupnorm_params *p = node->params;
    PS_TRY(ps_check_float(node, 0, err));
    PS_NODE_FAIL_IF(p->num_groups < 1, node, err, SHAPE, "num_groups is %lld, it must be at least 1",
                    (long long)p->num_groups);
    if (ps_in_known(node, 0)) {
        const ps_shape *s = &node->in[0]->shape;
        PS_NODE_FAIL_IF(s->rank < 2, node, err, SHAPE, "the input has rank %d, it must have batch and channels",
                        s->rank);
        PS_NODE_FAIL_IF(s->dims[1] >= 0 && s->dims[1] % p->num_groups, node, err, SHAPE,
                        "num_groups %lld does not divide the %lld channels", (long long)p->num_groups,
                        (long long)s->dims[1]);
    }
    if (!per_group) {
        PS_TRY(infer_channel_vectors(node, 1, 3, err));
        return ps_infer_same(node, err);
    }
    for (size_t i = 1; i < 3; i++) {
        PS_TRY(ps_check_float(node, i, err));
        PS_TRY(ps_check_rank(node, i, 1, err));
        PS_TRY(ps_check_dim(node, i, 0, p->num_groups, "num_groups", err));
    }
    return ps_infer_same(node, err);
}

static ps_status infer_groupnorm_18(const ps_node *node, ps_error *err) {
    return infer_groupnorm(node, true, err);
}

static ps_status infer_groupnorm_21(const ps_node *node, ps_error *err) {
    return infer_groupnorm(node, false, err);
}

/* Items are groups of channels (InstanceNormalization: groups of one). */
static void normalize_groups(void *ctx, int64_t begin, int64_t end, int thread) {
    plane_job *job = ctx;
    int64_t size = job->group_channels * job->plane, groups = job->channels / job->group_channels;
    double *x = job->scratch + (int64_t)thread * size;
    for (int64_t item = begin; item < end; item++) {
        ps_row_load(x, job->x->dtype, job->x->data, item * size, 1, size);
        double mean = row_mean(x, size), inv = 1 / sqrt(row_variance(x, size, mean) + job->epsilon);
        for (int64_t c = 0; c < job->group_channels; c++) {
            int64_t channel = item % groups * job->group_channels + c;
            double *plane = x + c * job->plane;
            for (int64_t i = 0; i < job->plane; i++)
                plane[i] = (plane[i] - mean) * inv * job->a[channel] + job->b[channel];
        }
        ps_row_store(job->y->data, job->y->dtype, item * size, 1, x, size);
    }
}

/* `repeat` channels share one entry of scale and bias. */
static ps_status run_groups(const ps_kernel_ctx *ctx, int64_t groups, int64_t repeat, float epsilon, ps_error *err) {
    plane_job job;
    plane_job_init(&job, ctx);
    if (plane_job_empty(&job)) return PS_OK;
    job.epsilon = (double)epsilon;
    job.group_channels = job.channels / groups;
    PS_TRY(plane_job_params(&job, ctx, 2, err));
    for (int64_t c = 0; c < job.channels; c++)
        for (size_t i = 0; i < 2; i++)
            ps_row_load(job.params + (int64_t)i * job.channels + c, ctx->in[i + 1]->dtype, ctx->in[i + 1]->data,
                        c / repeat, 1, 1);
    ps_status status = ps_parallel_scratch(ctx, job.batch * groups, 1, (size_t)(job.group_channels * job.plane),
                                           &job.scratch, normalize_groups, &job, err);
    ps_free(ctx->alloc, job.params);
    return status;
}

static ps_status instancenorm_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_epsilon_params *p = ctx->params;
    return run_groups(ctx, ctx->in[0]->shape.dims[1], 1, p->epsilon, err);
}

static ps_status groupnorm_ref_18(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_groupnorm_params *p = ctx->params;
    int64_t per_group = ctx->in[0]->shape.dims[1] / p->num_groups;
    return run_groups(ctx, p->num_groups, per_group ? per_group : 1, p->epsilon, err);
}

static ps_status groupnorm_ref_21(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_groupnorm_params *p = ctx->params;
    return run_groups(ctx, p->num_groups, 1, p->epsilon, err);
}

/* ---- LayerNormalization, RMSNormalization ---- */

/* SimplifiedLayerNormalization: the output has the type of the scale, output 1 is the inverse deviation. */
static ps_status infer_layernorm(const ps_node *node, ps_error *err) {
    const ps_layernorm_params *p = node->params;
    PS_TRY(ps_check_floats(node, 1, err));
    for (size_t i = 1; i < node->n_in; i++)
        PS_TRY(ps_check_float(node, i, err));
    ps_dtype stash = (ps_dtype)p->stash_type;
    bool stash_ok = p->stash_type == PS_DTYPE_F32 || p->stash_type == PS_DTYPE_BF16 || p->stash_type == PS_DTYPE_F16 ||
                    p->stash_type == PS_DTYPE_F64;
    PS_NODE_FAIL_IF(!stash_ok, node, err, TYPE, "stash_type %lld is no float type", (long long)p->stash_type);
    ps_shape stat = ps_shape_unknown();
    if (ps_in_known(node, 0)) {
        stat = node->in[0]->shape;
        int axis;
        PS_NODE_FAIL_IF(!ps_axis_normalize(p->axis, stat.rank, &axis), node, err, SHAPE,
                        "axis %lld is outside of the input's rank %d", (long long)p->axis, stat.rank);
        for (size_t i = 1; i < node->n_in; i++) {
            ps_shape both;
            char want[128], have[128];
            PS_NODE_FAIL_IF(ps_in_known(node, i) && (node->in[i]->shape.rank > stat.rank ||
                                                     !ps_shape_broadcast(&node->in[i]->shape, &stat, &both)),
                            node, err, SHAPE, "input %zu has shape %s, it must broadcast to the input's %s", i,
                            ps_shape_text(&node->in[i]->shape, have, sizeof have),
                            ps_shape_text(&stat, want, sizeof want));
        }
        for (int d = axis; d < stat.rank; d++)
            stat.dims[d] = 1;
    }
    for (size_t i = 1; i < node->n_out; i++)
        if (ps_has_out(node, i)) ps_infer_set(node, i, stash, &stat);
    ps_dtype t = node->op->name[0] == 'S' ? node->in[1]->dtype : node->in[0]->dtype;
    ps_infer_set(node, 0, t, &node->in[0]->shape);
    return PS_OK;
}

typedef struct row_norm_job {
    const ps_tensor *x;
    ps_tensor *y, *mean, *inv; /* mean, inv: may be NULL */
    ps_bcast scale, bias;
    bool has_bias, center;
    int64_t n;
    double epsilon;
    double *scratch;
} row_norm_job;

static void normalize_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    row_norm_job *job = ctx;
    double *x = job->scratch + (int64_t)thread * 3 * job->n, *scale = x + job->n, *bias = scale + job->n;
    for (int64_t item = begin; item < end; item++) {
        int64_t first = item * job->n;
        ps_row_load(x, job->x->dtype, job->x->data, first, 1, job->n);
        double mean = job->center ? row_mean(x, job->n) : 0;
        double inv = 1 / sqrt(row_variance(x, job->n, mean) + job->epsilon);
        ps_bcast_load(&job->scale, first, job->n, scale);
        for (int64_t i = 0; i < job->n; i++)
            x[i] = (x[i] - mean) * inv * scale[i];
        if (job->has_bias) {
            ps_bcast_load(&job->bias, first, job->n, bias);
            for (int64_t i = 0; i < job->n; i++)
                x[i] += bias[i];
        }
        ps_row_store(job->y->data, job->y->dtype, first, 1, x, job->n);
        if (job->mean) ps_row_store(job->mean->data, job->mean->dtype, item, 1, &mean, 1);
        if (job->inv) ps_row_store(job->inv->data, job->inv->dtype, item, 1, &inv, 1);
    }
}

/* inv_out: the output that receives the inverse deviation. */
static ps_status run_rows(const ps_kernel_ctx *ctx, bool center, size_t inv_out, ps_error *err) {
    const ps_layernorm_params *p = ctx->params;
    const ps_shape *s = &ctx->in[0]->shape;
    row_norm_job job = { .x = ctx->in[0], .y = ctx->out[0], .center = center, .epsilon = (double)p->epsilon };
    job.mean = center && ctx->n_out > 1 ? ctx->out[1] : NULL;
    job.inv = ctx->n_out > inv_out ? ctx->out[inv_out] : NULL;
    const ps_tensor *bias = ctx->n_in > 2 ? ctx->in[2] : NULL;
    job.has_bias = bias != NULL;
    int axis;
    if (!ps_axis_normalize(p->axis, s->rank, &axis) || !ps_bcast_init(&job.scale, ctx->in[1], s) ||
        (bias && !ps_bcast_init(&job.bias, bias, s)))
        return PS_NODE_FAIL(ctx->node, err, SHAPE, "scale or bias do not broadcast to the input's shape");
    int64_t rows = ps_shape_product(s, 0, axis);
    job.n = ps_shape_product(s, axis, s->rank);
    if (rows == 0 || job.n == 0) return PS_OK;
    size_t room;
    if (ps_mul_overflow_size((size_t)job.n, 3, &room)) return PS_FAIL_NOMEM(err, "normalised rows");
    return ps_parallel_scratch(ctx, rows, 1 + 1024 / job.n, room, &job.scratch, normalize_rows, &job, err);
}

static ps_status layernorm_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_rows(ctx, true, 2, err);
}

static ps_status rmsnorm_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_rows(ctx, false, 1, err);
}

/* ---- LRN ---- */

static ps_status infer_lrn(const ps_node *node, ps_error *err) {
    const lrn_params *p = node->params;
    PS_TRY(ps_check_float(node, 0, err));
    PS_NODE_FAIL_IF(p->size < 1, node, err, SHAPE, "size is %lld, it must be at least 1", (long long)p->size);
    PS_NODE_FAIL_IF(ps_in_known(node, 0) && node->in[0]->shape.rank < 2, node, err, SHAPE,
                    "the input has rank %d, it must have batch and channels", node->in[0]->shape.rank);
    return ps_infer_same(node, err);
}

typedef struct lrn_job {
    const lrn_params *p;
    const ps_tensor *x;
    ps_tensor *y;
    int64_t channels, plane;
    double *scratch;
} lrn_job;

/* Items are positions (batch x plane); a row of channels is `plane` apart. */
static void lrn_columns(void *ctx, int64_t begin, int64_t end, int thread) {
    lrn_job *job = ctx;
    double *x = job->scratch + (int64_t)thread * 2 * job->channels, *y = x + job->channels;
    int64_t size = job->p->size, before = (size - 1) / 2, after = size - 1 - before;
    for (int64_t item = begin; item < end; item++) {
        int64_t first = item / job->plane * job->channels * job->plane + item % job->plane;
        ps_row_load(x, job->x->dtype, job->x->data, first, job->plane, job->channels);
        for (int64_t c = 0; c < job->channels; c++) {
            int64_t lo = c > before ? c - before : 0,
                    hi = job->channels - 1 - c > after ? c + after : job->channels - 1;
            double sum = 0;
            for (int64_t i = lo; i <= hi; i++)
                sum += x[i] * x[i];
            double base = (double)job->p->bias + (double)job->p->alpha / (double)size * sum;
            y[c] = x[c] / pow(base, (double)job->p->beta);
        }
        ps_row_store(job->y->data, job->y->dtype, first, job->plane, y, job->channels);
    }
}

static ps_status lrn_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_shape *s = &ctx->in[0]->shape;
    lrn_job job = { .p = ctx->params, .x = ctx->in[0], .y = ctx->out[0], .channels = s->dims[1] };
    job.plane = ps_shape_product(s, 2, s->rank);
    int64_t columns = s->dims[0] * job.plane;
    if (columns == 0 || job.channels == 0) return PS_OK;
    return ps_parallel_scratch(ctx, columns, 16, 2 * (size_t)job.channels, &job.scratch, lrn_columns, &job, err);
}

/* ---- MeanVarianceNormalization, LpNormalization: rows over any set of axes ---- */

typedef struct mvn_params {
    ps_ints axes;
} mvn_params;

typedef struct lpnorm_params {
    int64_t axis, p;
} lpnorm_params;

static const ps_attr_def mvn_attrs[] = { PS_A_INTS(mvn_params, axes), PS_ATTRS_END };
static const ps_attr_def lpnorm_attrs[] = {
    PS_A_INT(lpnorm_params, axis, -1),
    PS_A_INT(lpnorm_params, p, 2),
    PS_ATTRS_END,
};

typedef void (*axes_row_fn)(double *x, int64_t n);

typedef struct axes_job {
    const ps_tensor *x;
    ps_tensor *y;
    bool reduced[PS_MAX_RANK];
    int64_t n;        /* elements of a row */
    int64_t *offsets; /* of the row's elements from its first */
    axes_row_fn fn;
    double *scratch;
} axes_job;

/* Marks the axes in ret; PS_SHAPE for one outside of the rank. No axes: 0, 2, 3, … as the operator's default. */
static ps_status mark_axes(const ps_node *node, ps_ints axes, int rank, bool *ret, ps_error *err) {
    for (int d = 0; d < rank; d++)
        ret[d] = !axes.n && d != 1;
    for (size_t i = 0; i < axes.n; i++) {
        int axis;
        PS_NODE_FAIL_IF(!ps_axis_normalize(axes.data[i], rank, &axis), node, err, SHAPE,
                        "axis %lld is outside of the input's rank %d", (long long)axes.data[i], rank);
        ret[axis] = true;
    }
    return PS_OK;
}

static ps_status infer_axes(const ps_node *node, ps_ints axes, ps_error *err) {
    bool reduced[PS_MAX_RANK];
    PS_TRY(ps_check_float(node, 0, err));
    if (ps_in_known(node, 0)) PS_TRY(mark_axes(node, axes, node->in[0]->shape.rank, reduced, err));
    return ps_infer_same(node, err);
}

static ps_status infer_mvn(const ps_node *node, ps_error *err) {
    return infer_axes(node, ((const mvn_params *)node->params)->axes, err);
}

static ps_status infer_lpnorm(const ps_node *node, ps_error *err) {
    const lpnorm_params *p = node->params;
    PS_NODE_FAIL_IF(p->p != 1 && p->p != 2, node, err, INVALID, "p is %lld, it must be 1 or 2", (long long)p->p);
    return infer_axes(node, (ps_ints) { &p->axis, 1 }, err);
}

/* Offset of the index-th combination of the dims whose mark is `reduced`. */
static int64_t axes_offset(const axes_job *job, bool reduced, int64_t index) {
    const ps_shape *s = &job->x->shape;
    int64_t offset = 0, stride = 1;
    for (int d = s->rank - 1; d >= 0; stride *= s->dims[d--]) {
        if (job->reduced[d] != reduced) continue;
        offset += index % s->dims[d] * stride;
        index /= s->dims[d];
    }
    return offset;
}

static void axes_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    axes_job *job = ctx;
    double *row = job->scratch + (int64_t)thread * job->n;
    for (int64_t item = begin; item < end; item++) {
        int64_t first = axes_offset(job, false, item);
        for (int64_t i = 0; i < job->n; i++)
            ps_row_load(row + i, job->x->dtype, job->x->data, first + job->offsets[i], 1, 1);
        job->fn(row, job->n);
        for (int64_t i = 0; i < job->n; i++)
            ps_row_store(job->y->data, job->y->dtype, first + job->offsets[i], 1, row + i, 1);
    }
}

static ps_status run_axes(const ps_kernel_ctx *ctx, ps_ints axes, axes_row_fn fn, ps_error *err) {
    axes_job job = { .x = ctx->in[0], .y = ctx->out[0], .fn = fn, .n = 1 };
    const ps_shape *s = &job.x->shape;
    int64_t rows = 1;
    PS_TRY(mark_axes(ctx->node, axes, s->rank, job.reduced, err));
    for (int d = 0; d < s->rank; d++)
        *(job.reduced[d] ? &job.n : &rows) *= s->dims[d];
    if (rows == 0 || job.n == 0) return PS_OK;
    job.offsets = ps_alloc_array(ctx->alloc, (size_t)job.n, sizeof *job.offsets);
    if (!job.offsets) return PS_FAIL_NOMEM(err, "offsets of a row");
    for (int64_t i = 0; i < job.n; i++)
        job.offsets[i] = axes_offset(&job, true, i);
    ps_status status = ps_parallel_scratch(ctx, rows, 1, (size_t)job.n, &job.scratch, axes_rows, &job, err);
    ps_free(ctx->alloc, job.offsets);
    return status;
}

/* The operator is a function of ONNX, whose epsilon is 1e-9 beside the deviation. */
static void mvn_row(double *x, int64_t n) {
    double mean = row_mean(x, n), deviation = sqrt(row_variance(x, n, mean)) + 1e-9;
    for (int64_t i = 0; i < n; i++)
        x[i] = (x[i] - mean) / deviation;
}

/* A row of zeros stays zero. */
static void divide_row(double *x, int64_t n, double norm) {
    for (int64_t i = 0; norm > 0 && i < n; i++)
        x[i] /= norm;
}

static void l1_row(double *x, int64_t n) {
    double norm = 0;
    for (int64_t i = 0; i < n; i++)
        norm += fabs(x[i]);
    divide_row(x, n, norm);
}

static void l2_row(double *x, int64_t n) {
    double norm = 0;
    for (int64_t i = 0; i < n; i++)
        norm += x[i] * x[i];
    divide_row(x, n, sqrt(norm));
}

static ps_status mvn_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_axes(ctx, ((const mvn_params *)ctx->params)->axes, mvn_row, err);
}

static ps_status lpnorm_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const lpnorm_params *p = ctx->params;
    return run_axes(ctx, (ps_ints) { &p->axis, 1 }, p->p == 1 ? l1_row : l2_row, err);
}

#define BATCHNORM batchnorm_attrs, sizeof(ps_batchnorm_params)
#define LAYERNORM layernorm_attrs, sizeof(ps_layernorm_params), infer_layernorm
#define GROUPNORM groupnorm_attrs, sizeof(ps_groupnorm_params)
static const ps_op ops[] = {
    { "BatchNormalization", "", 1, 5, 5, 1, 5, batchnorm_1_attrs, sizeof(ps_batchnorm_params), infer_batchnorm_1,
      batchnorm_ref_7, 0 },
    { "BatchNormalization", "", 7, 5, 5, 1, 5, BATCHNORM, infer_batchnorm_7, batchnorm_ref_7, 0 },
    { "BatchNormalization", "", 14, 5, 5, 1, 3, BATCHNORM, infer_batchnorm_14, batchnorm_ref_14, 0 },
    { "InstanceNormalization", "", 1, 3, 3, 1, 1, instancenorm_attrs, sizeof(ps_epsilon_params), infer_instancenorm,
      instancenorm_ref, 0 },
    { "GroupNormalization", "", 18, 3, 3, 1, 1, GROUPNORM, infer_groupnorm_18, groupnorm_ref_18, 0 },
    { "GroupNormalization", "", 21, 3, 3, 1, 1, GROUPNORM, infer_groupnorm_21, groupnorm_ref_21, 0 },
    { "LayerNormalization", "", 1, 2, 3, 1, 3, LAYERNORM, layernorm_ref, 0 }, /* ONNX Runtime's, before ONNX had it */
    { "LayerNormalization", "", 17, 2, 3, 1, 3, LAYERNORM, layernorm_ref, 0 },
    { "SimplifiedLayerNormalization", "", 1, 2, 2, 1, 2, LAYERNORM, rmsnorm_ref, 0 },
    { "RMSNormalization", "", 23, 2, 2, 1, 1, LAYERNORM, rmsnorm_ref, 0 },
    { "MeanVarianceNormalization", "", 9, 1, 1, 1, 1, mvn_attrs, sizeof(mvn_params), infer_mvn, mvn_ref, 0 },
    { "LpNormalization", "", 1, 1, 1, 1, 1, lpnorm_attrs, sizeof(lpnorm_params), infer_lpnorm, lpnorm_ref, 0 },
    { "LRN", "", 1, 1, 1, 1, 1, lrn_attrs, sizeof(lrn_params), infer_lrn, lrn_ref, 0 },
};
const ps_op_family ps_ops_norm = PS_OP_FAMILY("norm", ops);
