/* pool.c - MaxPool, AveragePool, LpPool and the global pools.
 *
 * One item is one plane (batch x channel): it is widened to double, every output position visits the taps of its window
 * that lie inside the input (their range is computed per dim, so a hostile kernel size costs nothing), and the result
 * is narrowed back. */
#include <math.h>

#include "ops/kernel_util.h"
#include "ops/params.h"

/* LpPool: the window part must come first, ps_pool_windows reads it. */
typedef struct lppool_params {
    ps_pool_params pool;
    int64_t p;
} lppool_params;

static const ps_attr_def pool_attrs[] = {
    PS_A_STR(ps_pool_params, auto_pad, "NOTSET"),
    PS_A_INTS(ps_pool_params, kernel_shape),
    PS_A_INTS(ps_pool_params, strides),
    PS_A_INTS(ps_pool_params, pads),
    PS_A_INTS(ps_pool_params, dilations),
    PS_A_INT(ps_pool_params, ceil_mode, 0),
    PS_A_INT(ps_pool_params, count_include_pad, 0),
    PS_A_INT(ps_pool_params, storage_order, 0),
    PS_ATTRS_END,
};
static const ps_attr_def lppool_attrs[] = {
    PS_A_STR(ps_pool_params, auto_pad, "NOTSET"),
    PS_A_INTS(ps_pool_params, kernel_shape),
    PS_A_INTS(ps_pool_params, strides),
    PS_A_INTS(ps_pool_params, pads),
    PS_A_INTS(ps_pool_params, dilations),
    PS_A_INT(ps_pool_params, ceil_mode, 0),
    PS_A_INT(lppool_params, p, 2),
    PS_ATTRS_END,
};
static const ps_attr_def global_lp_attrs[] = { PS_A_INT(lppool_params, p, 2), PS_ATTRS_END };

/* ---- shape rules ---- */

static ps_status infer_windows(const ps_node *node, ps_error *err) {
    ps_shape y = ps_shape_unknown();
    if (ps_in_known(node, 0)) {
        const ps_shape *x = &node->in[0]->shape;
        PS_NODE_FAIL_IF(x->rank < 3, node, err, SHAPE,
                        "the input has rank %d, a pool needs batch, channels and at least one spatial dim", x->rank);
        y = *x;
        bool fixed = true;
        for (int d = 2; d < x->rank; d++) {
            y.dims[d] = PS_DIM_UNKNOWN;
            fixed = fixed && x->dims[d] >= 0;
        }
        if (fixed) {
            ps_window win[PS_MAX_SPATIAL];
            int n;
            PS_TRY(ps_pool_windows(node, win, &n, err));
            for (int d = 0; d < n; d++)
                y.dims[2 + d] = win[d].out;
        }
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    if (ps_has_out(node, 1)) ps_infer_set(node, 1, PS_DTYPE_I64, &y);
    return PS_OK;
}

static ps_status infer_maxpool(const ps_node *node, ps_error *err) {
    ps_dtype t = node->in[0]->dtype;
    if (t != PS_DTYPE_I8 && t != PS_DTYPE_U8) PS_TRY(ps_check_float(node, 0, err));
    return infer_windows(node, err);
}

static ps_status infer_float_pool(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    return infer_windows(node, err);
}

static ps_status infer_lppool(const ps_node *node, ps_error *err) {
    const lppool_params *p = node->params;
    PS_NODE_FAIL_IF(p->p < 1, node, err, INVALID, "p is %lld, it must be at least 1", (long long)p->p);
    return infer_float_pool(node, err);
}

static ps_status infer_global(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    ps_shape y = ps_shape_unknown();
    if (ps_in_known(node, 0)) {
        y = node->in[0]->shape;
        PS_NODE_FAIL_IF(y.rank < 2, node, err, SHAPE, "the input has rank %d, a global pool needs batch and channels",
                        y.rank);
        for (int d = 2; d < y.rank; d++)
            y.dims[d] = 1;
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

static ps_status infer_global_lp(const ps_node *node, ps_error *err) {
    const lppool_params *p = node->params;
    PS_NODE_FAIL_IF(p->p < 1, node, err, INVALID, "p is %lld, it must be at least 1", (long long)p->p);
    return infer_global(node, err);
}

/* ---- kernels ---- */

typedef enum pool_kind { POOL_MAX, POOL_AVERAGE, POOL_LP } pool_kind;

typedef struct pool_job {
    pool_kind kind;
    ps_window win[PS_MAX_SPATIAL];
    int64_t in_strides[PS_MAX_SPATIAL], index_strides[PS_MAX_SPATIAL];
    int n_sp;
    bool include_pad;
    int64_t p, x_plane, y_plane;
    const ps_tensor *x;
    ps_tensor *y;
    int64_t *indices; /* or NULL */
    double *scratch;
} pool_job;

/* One output position while its window is visited. */
typedef struct window_state {
    const double *x;
    int64_t lo[PS_MAX_SPATIAL], n[PS_MAX_SPATIAL]; /* first input index and number of taps inside the input */
    double value;
    int64_t index, count;
} window_state;

static void visit(const pool_job *job, window_state *s, int d, int64_t offset, int64_t index) {
    int64_t step = job->win[d].dilation, i = s->lo[d];
    for (int64_t k = 0; k < s->n[d]; k++, i += step) {
        int64_t at = offset + i * job->in_strides[d], at_index = index + i * job->index_strides[d];
        if (d < job->n_sp - 1) {
            visit(job, s, d + 1, at, at_index);
            continue;
        }
        double v = s->x[at];
        switch (job->kind) {
        case POOL_MAX:
            if (s->count == 0 || v > s->value || isnan(v)) {
                s->value = v;
                s->index = at_index;
            }
            break;
        case POOL_AVERAGE: s->value += v; break;
        case POOL_LP: s->value += job->p == 1 ? fabs(v) : job->p == 2 ? v * v : pow(fabs(v), (double)job->p); break;
        }
        s->count++;
    }
}

/* Number of taps k of [0, kernel) with start + k * dilation < end. */
static int64_t taps_below(const ps_window *w, int64_t start, int64_t end) {
    if (start >= end) return 0;
    int64_t k = (end - 1 - start) / w->dilation + 1;
    return k < w->kernel ? k : w->kernel;
}

/* Prepares the window at output position pos; the number of taps that an average divides by (padding included). */
static int64_t place_window(const pool_job *job, window_state *s, const int64_t *pos) {
    int64_t padded = 1;
    s->count = 0;
    s->index = 0;
    s->value = 0;
    for (int d = 0; d < job->n_sp; d++) {
        const ps_window *w = &job->win[d];
        int64_t start = pos[d] * w->stride - w->pad_begin;
        int64_t before = taps_below(w, start, 0); /* taps in the padding in front */
        s->lo[d] = start + before * w->dilation;
        s->n[d] = taps_below(w, start, w->in) - before;
        padded *= taps_below(w, start, w->in + w->pad_end);
    }
    return padded;
}

static double pool_result(const pool_job *job, const window_state *s, int64_t padded) {
    switch (job->kind) {
    case POOL_MAX: break;
    case POOL_AVERAGE: {
        int64_t divisor = job->include_pad ? padded : s->count;
        return divisor ? s->value / (double)divisor : 0;
    }
    case POOL_LP: return job->p == 1 ? s->value : job->p == 2 ? sqrt(s->value) : pow(s->value, 1.0 / (double)job->p);
    }
    if (s->count) return s->value;
    return ps_dtype_is_float(job->x->dtype) ? -INFINITY : job->x->dtype == PS_DTYPE_I8 ? -128 : 0;
}

static void pool_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    pool_job *job = ctx;
    double *x = job->scratch + (int64_t)thread * (job->x_plane + job->y_plane), *y = x + job->x_plane;
    window_state s = { .x = x };
    for (int64_t item = begin; item < end; item++) {
        ps_row_load(x, job->x->dtype, job->x->data, item * job->x_plane, 1, job->x_plane);
        int64_t pos[PS_MAX_SPATIAL] = { 0 };
        for (int64_t i = 0; i < job->y_plane; i++) {
            int64_t padded = place_window(job, &s, pos);
            visit(job, &s, 0, 0, 0);
            y[i] = pool_result(job, &s, padded);
            if (job->indices) job->indices[item * job->y_plane + i] = item * job->x_plane + s.index;
            for (int d = job->n_sp - 1; d >= 0 && ++pos[d] == job->win[d].out; d--)
                pos[d] = 0;
        }
        ps_row_store(job->y->data, job->y->dtype, item * job->y_plane, 1, y, job->y_plane);
    }
}

static ps_status run_job(const ps_kernel_ctx *ctx, pool_job *job, bool column_major, ps_error *err) {
    job->x = ctx->in[0];
    job->y = ctx->out[0];
    job->indices = ctx->n_out > 1 && ctx->out[1] ? ctx->out[1]->data : NULL;
    const ps_shape *xs = &job->x->shape;
    job->x_plane = ps_shape_product(xs, 2, xs->rank);
    job->y_plane = ps_shape_product(&job->y->shape, 2, job->y->shape.rank);
    int64_t planes = ps_shape_product(xs, 0, 2), row_major = 1, column = 1;
    for (int d = job->n_sp - 1; d >= 0; d--) {
        job->in_strides[d] = job->index_strides[d] = row_major;
        row_major *= job->win[d].in;
    }
    for (int d = 0; column_major && d < job->n_sp; d++) {
        job->index_strides[d] = column;
        column *= job->win[d].in;
    }
    if (planes == 0 || job->y_plane == 0) return PS_OK;
    size_t room = (size_t)(job->x_plane + job->y_plane);
    return ps_parallel_scratch(ctx, planes, 1, room, &job->scratch, pool_planes, job, err);
}

static ps_status run_windows(const ps_kernel_ctx *ctx, pool_kind kind, int64_t p, ps_error *err) {
    const ps_pool_params *params = ctx->params;
    pool_job job = { .kind = kind, .include_pad = params->count_include_pad != 0, .p = p };
    PS_TRY(ps_pool_windows(ctx->node, job.win, &job.n_sp, err));
    return run_job(ctx, &job, params->storage_order != 0, err);
}

static ps_status run_global(const ps_kernel_ctx *ctx, pool_kind kind, int64_t p, ps_error *err) {
    pool_job job = { .kind = kind, .p = p, .n_sp = 1 };
    const ps_shape *s = &ctx->in[0]->shape;
    int64_t plane = ps_shape_product(s, 2, s->rank);
    job.win[0] = (ps_window) { plane, 1, plane, 1, 1, 0, 0 };
    return run_job(ctx, &job, false, err);
}

static ps_status max_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_windows(ctx, POOL_MAX, 0, err);
}

static ps_status average_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_windows(ctx, POOL_AVERAGE, 0, err);
}

static ps_status lp_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_windows(ctx, POOL_LP, ((const lppool_params *)ctx->params)->p, err);
}

static ps_status global_max_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_global(ctx, POOL_MAX, 0, err);
}

static ps_status global_average_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_global(ctx, POOL_AVERAGE, 0, err);
}

static ps_status global_lp_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run_global(ctx, POOL_LP, ((const lppool_params *)ctx->params)->p, err);
}

static const ps_op ops[] = {
    { "MaxPool", "", 1, 1, 1, 1, 2, pool_attrs, sizeof(ps_pool_params), infer_maxpool, max_ref, 0 },
    { "AveragePool", "", 1, 1, 1, 1, 1, pool_attrs, sizeof(ps_pool_params), infer_float_pool, average_ref, 0 },
    { "LpPool", "", 2, 1, 1, 1, 1, lppool_attrs, sizeof(lppool_params), infer_lppool, lp_ref, 0 },
    { "GlobalMaxPool", "", 1, 1, 1, 1, 1, NULL, 0, infer_global, global_max_ref, 0 },
    { "GlobalAveragePool", "", 1, 1, 1, 1, 1, NULL, 0, infer_global, global_average_ref, 0 },
    { "GlobalLpPool", "", 2, 1, 1, 1, 1, global_lp_attrs, sizeof(lppool_params), infer_global_lp, global_lp_ref, 0 },
};
const ps_op_family ps_ops_pool = PS_OP_FAMILY("pool", ops);
