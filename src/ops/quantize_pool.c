/* quantize_pool.c - of com.microsoft: QLinearAveragePool, QLinearGlobalAveragePool, QLinearReduceMean, NhwcMaxPool.
 *
 * Each is the float operator on dequantised input (NhwcMaxPool: on the codes), with channels brought to the front and
 * back again, rounded to codes of the output's scale. Scales of input and output are often equal, and then averages of
 * a few codes are often ties but for the rounding in f32: the averages take ONNX Runtime's order of operations. */
#include <math.h>

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

typedef struct pool_job pool_job;
typedef void (*finish_fn)(const pool_job *j, double *v, int64_t n);

/* Which float operator, and how its tensors relate to the node's. */
typedef struct pool_def {
    const char *op;
    int64_t version;
    bool has_scales;  /* inputs 1 to 4 are scales and zero points */
    bool dequantized; /* the operator sees s (q - z), else q - z, or q where there are no scales */
    finish_fn finish; /* from its result to codes */
} pool_def;

struct pool_job {
    const pool_def *def;
    ps_widened x, y; /* channels first; y: f64 */
    float x_scale, y_scale;
    double y_zero;
    ps_dtype to;
};

static void finish_average(const pool_job *j, double *v, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        v[i] = (double)((float)v[i] / j->y_scale + (float)j->y_zero);
    ps_quant_round(v, n, j->to, 0);
}

/* A mean of codes: one factor for the sum. */
static void finish_global(const pool_job *j, double *v, int64_t n) {
    const ps_shape *s = &j->x.t.shape;
    const int64_t count = ps_shape_product(s, 2, s->rank);
    const float factor = j->x_scale / (j->y_scale * (float)count);
    for (int64_t i = 0; i < n; i++)
        v[i] = (double)((float)rint(v[i] * (double)count) * factor);
    ps_quant_round(v, n, j->to, j->y_zero);
}

static void finish_mean(const pool_job *j, double *v, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        v[i] /= (double)j->y_scale;
    ps_quant_round(v, n, j->to, j->y_zero);
}

static const pool_def average_def = { "AveragePool", 11, true, true, finish_average };
static const pool_def global_def = { "GlobalAveragePool", 1, true, false, finish_global };
static const pool_def mean_def = { "ReduceMean", 13, true, true, finish_mean };
static const pool_def max_def = { "MaxPool", 12, false, false, NULL };

/* ---- shape rules ---- */

static ps_status infer(const ps_node *node, const pool_def *def, bool last, ps_error *err) {
    ps_stand_in s;
    ps_shape x = node->in[0]->shape, y = ps_shape_unknown();
    PS_TRY(ps_check_8bit(node, 0, err));
    if (def->has_scales) {
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

/* ---- AveragePool: sums in f32, row-major over the window ---- */

static float window_sum(const float *x, const int64_t *lo, const int64_t *hi, const int64_t *strides, int n) {
    float sum = 0;
    if (n == 1) {
        for (int64_t i = lo[0]; i < hi[0]; i++)
            sum += x[i];
        return sum;
    }
    int64_t at[PS_MAX_SPATIAL];
    for (int d = 0; d < n; d++) {
        if (lo[d] >= hi[d]) return 0;
        at[d] = lo[d];
    }
    for (;;) {
        int64_t offset = 0;
        for (int d = 0; d < n; d++)
            offset += at[d] * strides[d];
        sum += x[offset];
        int d = n - 1;
        while (d >= 0 && ++at[d] == hi[d]) {
            at[d] = lo[d];
            d--;
        }
        if (d < 0) return sum;
    }
}

typedef struct average_job {
    ps_window win[PS_MAX_SPATIAL];
    int n;
    bool include_pad;
    int64_t strides[PS_MAX_SPATIAL], x_plane, y_plane;
    const float *x;
    double *y;
} average_job;

/* Items are planes. */
static void average_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    const average_job *j = ctx;
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        int64_t pos[PS_MAX_SPATIAL] = { 0 };
        for (int64_t i = 0; i < j->y_plane; i++) {
            int64_t lo[PS_MAX_SPATIAL], hi[PS_MAX_SPATIAL], inside = 1, padded = 1;
            for (int d = 0; d < j->n; d++) {
                const ps_window *w = &j->win[d];
                const int64_t start = pos[d] * w->stride - w->pad_begin, stop = start + w->kernel;
                lo[d] = start > 0 ? start : 0;
                hi[d] = stop < w->in ? stop : w->in;
                inside *= hi[d] > lo[d] ? hi[d] - lo[d] : 0;
                const int64_t edge = stop < w->in + w->pad_end ? stop : w->in + w->pad_end;
                padded *= edge > start ? edge - start : 0;
            }
            const float sum = window_sum(j->x + item * j->x_plane, lo, hi, j->strides, j->n);
            const int64_t count = j->include_pad ? padded : inside;
            j->y[item * j->y_plane + i] = count ? (double)(sum / (float)count) : 0;
            for (int d = j->n - 1; d >= 0 && ++pos[d] == j->win[d].out; d--)
                pos[d] = 0;
        }
    }
}

/* The float operator's kernel adds in double; this one is AveragePool as the integer operator's peers add. */
static ps_status average(const ps_kernel_ctx *ctx, pool_job *job, const ps_node *node, ps_error *err) {
    const ps_shape *x = &job->x.t.shape, *y = &job->y.t.shape;
    average_job j = { .x = job->x.t.data, .y = job->y.t.data };
    PS_TRY(ps_pool_windows(node, j.win, &j.n, err));
    j.include_pad = ((const ps_pool_params *)ctx->params)->count_include_pad != 0;
    j.x_plane = ps_shape_product(x, 2, x->rank);
    j.y_plane = ps_shape_product(y, 2, y->rank);
    int64_t stride = 1;
    for (int d = j.n - 1; d >= 0; d--) {
        j.strides[d] = stride;
        stride *= j.win[d].in;
    }
    ps_parallel_for(y->dims[0] * y->dims[1], 1, ctx->threads, average_planes, &j);
    return PS_OK;
}

static void read_scales(const ps_kernel_ctx *ctx, pool_job *j) {
    j->x_scale = (float)ps_quant_at(ctx->in[1], 0, 1);
    j->y_scale = (float)ps_quant_at(ctx->in[3], 0, 1);
    j->y_zero = ps_quant_at(ps_in_tensor(ctx, 4), 0, 0);
}

static ps_status run_float(const ps_kernel_ctx *ctx, pool_job *j, ps_error *err) {
    ps_stand_in s;
    ps_tensor *out = &j->y.t;
    ps_stand_in_init(&s, ctx->node, j->def->op, j->def->version, ctx->params);
    ps_stand_in_tensor(&s, &j->x.t);
    if (j->def == &average_def) return average(ctx, j, &s.node, err);
    return ps_stand_in_run(&s, ctx, &out, 1, err);
}

static ps_status run(const ps_kernel_ctx *ctx, const pool_def *def, bool last, ps_error *err) {
    ps_tensor *to = ctx->out[0];
    pool_job j = { .def = def, .to = to->dtype };
    const ps_shape shape = last ? ps_channels_first(&to->shape) : to->shape;
    const ps_tensor *scale = def->dequantized ? ctx->in[1] : NULL;
    ps_status status = PS_OK;
    if (def->has_scales) read_scales(ctx, &j);
    PS_TRY_OUT(ps_widen(&j.x, ctx, ctx->in[0], scale, def->has_scales ? ps_in_tensor(ctx, 2) : NULL, 0, err));
    if (last) PS_TRY_OUT(ps_widened_channels_first(&j.x, ctx, err));
    PS_TRY_OUT(ps_widen_room(&j.y, ctx, PS_DTYPE_F64, &shape, err));
    PS_TRY_OUT(run_float(ctx, &j, err));
    const int64_t n = (int64_t)ps_tensor_count(&j.y.t);
    if (def->finish) def->finish(&j, j.y.t.data, n);
    if (last)
        store_channels_last(&j.y.t, to);
    else
        ps_row_store(to->data, to->dtype, 0, 1, j.y.t.data, n);
out:
    ps_widened_release(&j.x);
    ps_widened_release(&j.y);
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
