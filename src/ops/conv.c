/* conv.c - Conv and ConvTranspose in one to six spatial dims.
 *
 * Both walk the same pairs of indices. Along one spatial dim, kernel position k ties index s of the "small" side to
 * index s * stride + k * dilation - pad of the "large" side; Conv reads the large side and writes the small one,
 * ConvTranspose the other way round. The range of s whose partner exists is computed once per kernel position
 * (window_span), so that inner loops carry no bounds checks. */
#include "ops/conv.h"

#include "ops/kernel_util.h"
#include "ops/params.h"

const ps_attr_def ps_conv_attrs[] = {
    PS_A_STR(ps_conv_params, auto_pad, "NOTSET"),
    PS_A_INTS(ps_conv_params, kernel_shape),
    PS_A_INTS(ps_conv_params, strides),
    PS_A_INTS(ps_conv_params, pads),
    PS_A_INTS(ps_conv_params, dilations),
    PS_A_INT(ps_conv_params, group, 1),
    PS_ATTRS_END,
};

const ps_attr_def ps_deconv_attrs[] = {
    PS_A_STR(ps_conv_params, auto_pad, "NOTSET"),
    PS_A_INTS(ps_conv_params, kernel_shape),
    PS_A_INTS(ps_conv_params, strides),
    PS_A_INTS(ps_conv_params, pads),
    PS_A_INTS(ps_conv_params, dilations),
    PS_A_INT(ps_conv_params, group, 1),
    PS_A_INTS(ps_conv_params, output_padding),
    PS_A_INTS(ps_conv_params, output_shape),
    PS_ATTRS_END,
};

/* ---- shape rules ---- */

/* Types, ranks and the channel arithmetic that both operators share. c_in_dim: the dim of w counted in input channels;
 * ret_channels: output channels, or unknown. */
static ps_status check_operands(const ps_node *node, bool transposed, int64_t *ret_channels, ps_error *err) {
    const ps_conv_params *p = node->params;
    *ret_channels = PS_DIM_UNKNOWN;
    PS_TRY(ps_check_floats(node, 3, err));
    PS_TRY(ps_check_rank(node, 2, 1, err));
    PS_NODE_FAIL_IF(p->group < 1, node, err, SHAPE, "group is %lld, it must be at least 1", (long long)p->group);
    if (ps_in_known(node, 0)) {
        int rank = node->in[0]->shape.rank;
        PS_NODE_FAIL_IF(rank < 3, node, err, SHAPE,
                        "the input has rank %d, a convolution needs batch, channels and at least "
                        "one spatial dim",
                        rank);
        PS_TRY(ps_check_rank(node, 1, rank, err));
    }
    if (!ps_in_known(node, 1)) return PS_OK;
    const ps_shape *w = &node->in[1]->shape;
    PS_NODE_FAIL_IF(w->rank < 3, node, err, SHAPE, "the weights have rank %d, they must have at least 3", w->rank);
    int64_t out = w->dims[0], in = w->dims[1];
    if (transposed) { /* [C, M / group, ...] */
        if (out >= 0)
            PS_NODE_FAIL_IF(out % p->group, node, err, SHAPE,
                            "group %lld does not divide the %lld input channels of the "
                            "weights",
                            (long long)p->group, (long long)out);
        PS_TRY(ps_check_dim(node, 0, 1, out, "the first dim of the weights", err));
        PS_NODE_FAIL_IF(in >= 0 && __builtin_mul_overflow(in, p->group, ret_channels), node, err, LIMIT,
                        "%lld output channels a group times %lld groups overflow", (long long)in, (long long)p->group);
    } else { /* [M, C / group, ...] */
        int64_t channels = 0;
        PS_NODE_FAIL_IF(in >= 0 && __builtin_mul_overflow(in, p->group, &channels), node, err, LIMIT,
                        "%lld input channels a group times %lld groups overflow", (long long)in, (long long)p->group);
        if (in >= 0) PS_TRY(ps_check_dim(node, 0, 1, channels, "input channels of the weights times group", err));
        if (out >= 0)
            PS_NODE_FAIL_IF(out % p->group, node, err, SHAPE, "group %lld does not divide the %lld output channels",
                            (long long)p->group, (long long)out);
        *ret_channels = out >= 0 ? out : PS_DIM_UNKNOWN;
    }
    return ps_check_dim(node, 2, 0, *ret_channels, "the number of output channels", err);
}

static bool dims_fixed(const ps_shape *s, int from) {
    for (int d = from; d < s->rank; d++)
        if (s->dims[d] < 0) return false;
    return true;
}

typedef ps_status (*windows_fn)(const ps_node *node, ps_window *ret, int *ret_n, ps_error *err);

static ps_status infer(const ps_node *node, bool transposed, windows_fn windows, ps_error *err) {
    int64_t channels;
    PS_TRY(check_operands(node, transposed, &channels, err));
    const ps_shape *known = ps_in_known(node, 0)   ? &node->in[0]->shape
                            : ps_in_known(node, 1) ? &node->in[1]->shape
                                                   : NULL;
    ps_shape y = ps_shape_unknown();
    if (known) {
        y.rank = known->rank;
        for (int d = 0; d < y.rank; d++)
            y.dims[d] = PS_DIM_UNKNOWN;
        y.dims[1] = channels;
    }
    if (ps_in_known(node, 0)) {
        const ps_shape *x = &node->in[0]->shape;
        y.dims[0] = x->dims[0];
        if (dims_fixed(x, 2) && ps_in_known(node, 1) && dims_fixed(&node->in[1]->shape, 2)) {
            ps_window win[PS_MAX_SPATIAL];
            int n;
            PS_TRY(windows(node, win, &n, err));
            for (int d = 0; d < n; d++)
                y.dims[2 + d] = win[d].out;
        }
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

ps_status ps_conv_infer(const ps_node *node, ps_error *err) {
    return infer(node, false, ps_conv_windows, err);
}

ps_status ps_deconv_infer(const ps_node *node, ps_error *err) {
    return infer(node, true, ps_deconv_windows, err);
}

/* ---- kernels ---- */

typedef struct conv_job {
    ps_operand x, w, b;
    ps_window win[PS_MAX_SPATIAL];
    int n_sp;
    bool transposed;
    int64_t group, c_in, c_out, c_in_group, c_out_group;
    int64_t x_plane, y_plane, taps; /* elements of one channel's plane, kernel positions */
    int64_t small_strides[PS_MAX_SPATIAL], large_strides[PS_MAX_SPATIAL];
    ps_tensor *y;
    double *scratch;
} conv_job;

/* Indices s in [lo, hi) of the small side whose partner s * stride + base lies inside the large side. */
typedef struct span {
    int64_t lo, hi, base;
} span;

static span window_span(const conv_job *job, int d, int64_t k) {
    const ps_window *w = &job->win[d];
    int64_t small = job->transposed ? w->in : w->out, large = job->transposed ? w->out : w->in;
    span s = { 0, 0, k * w->dilation - w->pad_begin };
    if (s.base < 0) s.lo = (-s.base + w->stride - 1) / w->stride;
    if (s.base < large) s.hi = (large - 1 - s.base) / w->stride + 1;
    if (s.hi > small) s.hi = small;
    return s;
}

/* acc += weight * x over all index pairs of one kernel position, from spatial dim d on. */
static void walk(const conv_job *job, const span *spans, int d, double *acc, int64_t x, int64_t y, double weight) {
    const span *s = &spans[d];
    int64_t n = s->hi - s->lo;
    if (n <= 0) return;
    int64_t stride = job->win[d].stride, small = job->small_strides[d], large = job->large_strides[d];
    int64_t first_large = (s->lo * stride + s->base) * large, first_small = s->lo * small;
    int64_t x_step = job->transposed ? small : stride * large, y_step = job->transposed ? stride * large : small;
    x += job->transposed ? first_small : first_large;
    y += job->transposed ? first_large : first_small;
    if (d == job->n_sp - 1) {
        ps_operand_axpy(acc + y, y_step, &job->x, x, x_step, weight, n);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        walk(job, spans, d + 1, acc, x + i * x_step, y + i * y_step, weight);
}

/* Adds one input channel's contribution to one output channel's plane. w: first weight of the pair. */
static void channel_pair(const conv_job *job, double *acc, int64_t x, int64_t w) {
    int64_t k[PS_MAX_SPATIAL] = { 0 };
    span spans[PS_MAX_SPATIAL];
    for (int d = 0; d < job->n_sp; d++)
        spans[d] = window_span(job, d, 0);
    for (int64_t tap = 0; tap < job->taps; tap++) {
        walk(job, spans, 0, acc, x, 0, ps_operand_at(&job->w, w + tap));
        for (int d = job->n_sp - 1; d >= 0; d--) {
            bool carry = ++k[d] == job->win[d].kernel;
            if (carry) k[d] = 0;
            spans[d] = window_span(job, d, k[d]);
            if (!carry) break;
        }
    }
}

/* Items are output planes (batch x output channel). */
static void conv_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    conv_job *job = ctx;
    double *acc = job->scratch + (int64_t)thread * job->y_plane;
    for (int64_t item = begin; item < end; item++) {
        int64_t batch = item / job->c_out, m = item % job->c_out, g = m / job->c_out_group,
                m_in_group = m % job->c_out_group;
        double bias = job->b.data ? ps_operand_at(&job->b, m) : 0;
        for (int64_t i = 0; i < job->y_plane; i++)
            acc[i] = bias;
        for (int64_t c = 0; c < job->c_in_group; c++) {
            int64_t c_abs = g * job->c_in_group + c;
            int64_t w = job->transposed ? c_abs * job->c_out_group + m_in_group : m * job->c_in_group + c;
            channel_pair(job, acc, (batch * job->c_in + c_abs) * job->x_plane, w * job->taps);
        }
        ps_row_store(job->y->data, job->y->dtype, item * job->y_plane, 1, acc, job->y_plane);
    }
}

/* A 1x1 kernel without padding treats the plane as one long row. */
static void collapse_pointwise(conv_job *job) {
    for (int d = 0; d < job->n_sp; d++) {
        const ps_window *w = &job->win[d];
        if (w->kernel != 1 || w->stride != 1 || w->pad_begin || w->in != w->out) return;
    }
    job->win[0] = (ps_window) { job->x_plane, job->y_plane, 1, 1, 1, 0, 0 };
    job->n_sp = 1;
}

static void job_strides(conv_job *job) {
    int64_t small = 1, large = 1;
    for (int d = job->n_sp - 1; d >= 0; d--) {
        const ps_window *w = &job->win[d];
        job->small_strides[d] = small;
        job->large_strides[d] = large;
        small *= job->transposed ? w->in : w->out;
        large *= job->transposed ? w->out : w->in;
    }
}

static ps_status run(const ps_kernel_ctx *ctx, bool transposed, windows_fn windows, ps_error *err) {
    const ps_conv_params *p = ctx->params;
    const ps_tensor *x = ctx->in[0], *w = ctx->in[1], *b = ctx->n_in > 2 ? ctx->in[2] : NULL;
    ps_tensor *y = ctx->out[0];
    conv_job job = { .transposed = transposed, .group = p->group, .y = y };
    PS_TRY(windows(ctx->node, job.win, &job.n_sp, err));
    job.c_in = x->shape.dims[1];
    job.c_out = y->shape.dims[1];
    job.c_in_group = job.c_in / job.group;
    job.c_out_group = job.c_out / job.group;
    int64_t planes = y->shape.dims[0] * job.c_out;
    job.y_plane = ps_shape_product(&y->shape, 2, y->shape.rank);
    if (planes == 0 || job.y_plane == 0) return PS_OK;
    job.x_plane = ps_shape_product(&x->shape, 2, x->shape.rank);
    job.taps = ps_shape_product(&w->shape, 2, w->shape.rank);
    collapse_pointwise(&job);
    job_strides(&job);

    ps_status status;
    PS_TRY_OUT(ps_operand_init(&job.x, x, ctx->alloc, err));
    PS_TRY_OUT(ps_operand_init(&job.w, w, ctx->alloc, err));
    PS_TRY_OUT(ps_operand_init(&job.b, b, ctx->alloc, err));
    status = ps_parallel_scratch(ctx, planes, 1, (size_t)job.y_plane, &job.scratch, conv_planes, &job, err);
out:
    ps_operand_release(&job.x);
    ps_operand_release(&job.w);
    ps_operand_release(&job.b);
    return status;
}

ps_status ps_conv_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run(ctx, false, ps_conv_windows, err);
}

ps_status ps_deconv_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return run(ctx, true, ps_deconv_windows, err);
}

static const ps_op ops[] = {
    { "Conv", "", 1, 2, 3, 1, 1, ps_conv_attrs, sizeof(ps_conv_params), ps_conv_infer, ps_conv_ref, 0 },
    { "ConvTranspose", "", 1, 2, 3, 1, 1, ps_deconv_attrs, sizeof(ps_conv_params), ps_deconv_infer, ps_deconv_ref, 0 },
};
const ps_op_family ps_ops_conv = PS_OP_FAMILY("conv", ops);
