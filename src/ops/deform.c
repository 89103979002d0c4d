/* deform.c - DeformConv: a convolution whose taps read the input at learned, fractional positions.
 *
 * For each output position the taps of all input channels are gathered once, by linear interpolation with zeros outside
 * the input; an output channel is then a dot product with its weights. Sources: Dai et al. (arXiv:1703.06211), Zhu et
 * al. (arXiv:1811.11168), ONNX operator spec DeformConv-19/22. */
#include <math.h>

#include "ops/facts.h"
#include "ops/kernel_util.h"
#include "ops/params.h"

/* The window part must come first, ps_conv_windows reads it. */
typedef struct deform_params {
    ps_conv_params conv;
    int64_t offset_group;
} deform_params;

static const ps_attr_def deform_attrs[] = {
    PS_A_STR(ps_conv_params, auto_pad, "NOTSET"), /* the operator has none; the window arithmetic asks for it */
    PS_A_INTS(ps_conv_params, kernel_shape),
    PS_A_INTS(ps_conv_params, strides),
    PS_A_INTS(ps_conv_params, pads),
    PS_A_INTS(ps_conv_params, dilations),
    PS_A_INT(ps_conv_params, group, 1),
    PS_A_INT(deform_params, offset_group, 1),
    PS_ATTRS_END,
};

static bool fixed_from(const ps_node *node, size_t i, int from) {
    if (!ps_in_known(node, i)) return false;
    for (int d = from; d < node->in[i]->shape.rank; d++)
        if (node->in[i]->shape.dims[d] < 0) return false;
    return true;
}

static ps_status check_groups(const ps_node *node, ps_error *err) {
    const deform_params *p = node->params;
    const ps_shape *x = &node->in[0]->shape, *w = &node->in[1]->shape;
    PS_FAIL_IF(p->conv.group < 1 || p->offset_group < 1, err, INVALID, "%s: group is %lld, offset_group %lld",
               PS_LABEL(node), (long long)p->conv.group, (long long)p->offset_group);
    if (!ps_in_known(node, 0) || !ps_in_known(node, 1)) return PS_OK;
    int64_t in = x->dims[1], out = w->dims[0], depth = w->dims[1], all;
    bool fits = (in < 0 || (in % p->conv.group == 0 && in % p->offset_group == 0)) &&
                (out < 0 || out % p->conv.group == 0) &&
                (in < 0 || depth < 0 || (!__builtin_mul_overflow(depth, p->conv.group, &all) && all == in));
    PS_FAIL_IF(!fits, err, SHAPE, "%s: input %s and weights %s do not fit %lld groups and %lld offset groups",
               PS_LABEL(node), PS_SHAPE_TEXT(x), PS_SHAPE_TEXT(w), (long long)p->conv.group,
               (long long)p->offset_group);
    return PS_OK;
}

/* offsets [N, offset_group * taps * n, out...] and mask [N, offset_group * taps, out...] */
static ps_status check_offsets(const ps_node *node, const ps_window *win, int n, ps_error *err) {
    const deform_params *p = node->params;
    int64_t channels = p->offset_group, offsets;
    for (int d = 0; d < n; d++)
        PS_FAIL_IF(__builtin_mul_overflow(channels, win[d].kernel, &channels), err, LIMIT,
                   "%s: the number of offsets overflows", PS_LABEL(node));
    PS_FAIL_IF(__builtin_mul_overflow(channels, n, &offsets), err, LIMIT, "%s: the number of offsets overflows",
               PS_LABEL(node));
    for (size_t i = 2; i <= 4; i += 2) {
        PS_TRY(ps_check_rank(node, i, n + 2, err));
        PS_TRY(ps_check_dim(node, i, 0, node->in[0]->shape.dims[0], "the batch", err));
        PS_TRY(ps_check_dim(node, i, 1, i == 2 ? offsets : channels, "what groups and kernel need", err));
        for (int d = 0; d < n; d++)
            PS_TRY(ps_check_dim(node, i, d + 2, win[d].out, "the output's extent", err));
    }
    return PS_OK;
}

static ps_status deform_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_floats(node, 5, err));
    ps_shape y = ps_shape_unknown();
    if (ps_in_known(node, 0)) {
        const ps_shape *x = &node->in[0]->shape;
        PS_FAIL_IF(x->rank < 3, err, SHAPE, "%s: input %s must have batch, channels and a spatial dim", PS_LABEL(node),
                   PS_SHAPE_TEXT(x));
        PS_TRY(ps_check_rank(node, 1, x->rank, err));
        PS_TRY(ps_check_rank(node, 3, 1, err));
        PS_TRY(check_groups(node, err));
        y = *x;
        for (int d = 1; d < y.rank; d++)
            y.dims[d] = PS_DIM_UNKNOWN;
        if (ps_in_known(node, 1)) {
            y.dims[1] = node->in[1]->shape.dims[0];
            PS_TRY(ps_check_dim(node, 3, 0, y.dims[1], "the number of output channels", err));
        }
    }
    if (fixed_from(node, 0, 2) && fixed_from(node, 1, 2)) {
        ps_window win[PS_MAX_SPATIAL];
        int n;
        PS_TRY(ps_conv_windows(node, win, &n, err));
        PS_TRY(check_offsets(node, win, n, err));
        for (int d = 0; d < n; d++)
            y.dims[2 + d] = win[d].out;
    }
    return ps_infer_checked(node, 0, node->in[0]->dtype, &y, err);
}

/* ---- kernel ---- */
typedef struct deform_job {
    const ps_kernel_ctx *ctx;
    ps_window win[PS_MAX_SPATIAL];
    int n;
    ps_operand x, w, offset, bias, mask;
    int64_t channels, out_channels, group, offset_group, taps;
    int64_t x_plane, points; /* of one plane of the input, of the output */
    int64_t strides[PS_MAX_SPATIAL];
    double *scratch; /* channels x taps a thread */
} deform_job;

/* Neighbours of a fractional position, as offsets into a plane, and their weights; those outside are left out. */
typedef struct neighbours {
    int count;
    int64_t at[1 << PS_MAX_SPATIAL];
    double weight[1 << PS_MAX_SPATIAL];
} neighbours;

static void find_neighbours(const deform_job *job, const double *position, neighbours *ret) {
    ret->count = 0;
    for (int corner = 0; corner < 1 << job->n; corner++) {
        int64_t at = 0;
        double weight = 1;
        bool inside = true;
        for (int d = 0; d < job->n && inside; d++) {
            double low = floor(position[d]), i = low + (corner >> d & 1);
            inside = i >= 0 && i < (double)job->win[d].in;
            if (!inside) break;
            weight *= corner >> d & 1 ? position[d] - low : 1 - (position[d] - low);
            at += (int64_t)i * job->strides[d];
        }
        if (!inside || weight == 0) continue;
        ret->at[ret->count] = at;
        ret->weight[ret->count++] = weight;
    }
}

/* The taps of offset group g at one output position, for the channels of that group. */
static void gather_group(const deform_job *job, int64_t batch, int64_t g, int64_t point, double *columns) {
    int64_t depth = job->channels / job->offset_group, out_at[PS_MAX_SPATIAL], rest = point;
    for (int d = job->n - 1; d >= 0; d--) {
        out_at[d] = rest % job->win[d].out;
        rest /= job->win[d].out;
    }
    for (int64_t t = 0; t < job->taps; t++) {
        double position[PS_MAX_SPATIAL], mask = 1;
        neighbours near;
        int64_t tap = t, first = (batch * job->offset_group + g) * job->taps + t;
        for (int d = job->n - 1; d >= 0; d--) {
            const ps_window *w = &job->win[d];
            double moved = ps_operand_at(&job->offset, (first * job->n + d) * job->points + point);
            position[d] = (double)(out_at[d] * w->stride - w->pad_begin + tap % w->kernel * w->dilation) + moved;
            tap /= w->kernel;
        }
        if (job->mask.data) mask = ps_operand_at(&job->mask, first * job->points + point);
        find_neighbours(job, position, &near);
        for (int64_t c = g * depth; c < (g + 1) * depth; c++) {
            double sum = 0;
            for (int k = 0; k < near.count; k++)
                sum += near.weight[k] * ps_operand_at(&job->x, (batch * job->channels + c) * job->x_plane + near.at[k]);
            columns[c * job->taps + t] = sum * mask;
        }
    }
}

/* Items are output positions of all batches. */
static void deform_points(void *ctx, int64_t begin, int64_t end, int thread) {
    const deform_job *job = ctx;
    const ps_tensor *y = job->ctx->out[0];
    int64_t size = job->channels * job->taps, part = size / job->group, outs = job->out_channels / job->group;
    double *columns = job->scratch + (int64_t)thread * size;
    for (int64_t i = begin; i < end; i++) {
        int64_t batch = i / job->points, point = i % job->points;
        for (int64_t g = 0; g < job->offset_group; g++)
            gather_group(job, batch, g, point, columns);
        for (int64_t m = 0; m < job->out_channels; m++) {
            double v = job->bias.data ? ps_operand_at(&job->bias, m) : 0;
            const double *column = columns + m / outs * part;
            for (int64_t k = 0; k < part; k++)
                v += column[k] * ps_operand_at(&job->w, m * part + k);
            ps_row_store(y->data, y->dtype, (batch * job->out_channels + m) * job->points + point, 1, &v, 1);
        }
    }
}

static ps_status run_points(deform_job *job, ps_error *err) {
    const ps_kernel_ctx *ctx = job->ctx;
    ps_operand *const operands[5] = { &job->x, &job->w, &job->offset, &job->bias, &job->mask };
    ps_status status = PS_OK;
    for (size_t i = 0; i < 5 && status == PS_OK; i++)
        status = ps_operand_init(operands[i], i < ctx->n_in ? ctx->in[i] : NULL, ctx->alloc, err);
    if (status == PS_OK)
        status = ps_parallel_scratch(ctx, ctx->in[0]->shape.dims[0] * job->points, 1,
                                     (size_t)(job->channels * job->taps), &job->scratch, deform_points, job, err);
    for (size_t i = 0; i < 5; i++)
        ps_operand_release(operands[i]);
    return status;
}

static ps_status deform_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const deform_params *p = ctx->params;
    const ps_shape *x = &ctx->in[0]->shape, *w = &ctx->in[1]->shape;
    deform_job job = { .ctx = ctx,
                       .channels = x->dims[1],
                       .out_channels = w->dims[0],
                       .group = p->conv.group,
                       .offset_group = p->offset_group };
    PS_TRY(ps_conv_windows(ctx->node, job.win, &job.n, err));
    job.x_plane = ps_shape_product(x, 2, x->rank);
    job.points = ps_shape_product(&ctx->out[0]->shape, 2, x->rank);
    job.taps = ps_shape_product(w, 2, w->rank);
    int64_t stride = 1;
    for (int d = job.n - 1; d >= 0; d--) {
        job.strides[d] = stride;
        stride *= job.win[d].in;
    }
    if (ps_tensor_count(ctx->out[0]) == 0) return PS_OK;
    return run_points(&job, err);
}

static const ps_op ops[] = {
    { "DeformConv", "", 19, 3, 5, 1, 1, deform_attrs, sizeof(deform_params), deform_infer, deform_ref, 0 },
};
const ps_op_family ps_ops_deform = PS_OP_FAMILY("deform", ops);
