/* pool.c - windowed pools channels-last; global pools and reductions over neighbouring axes; Softmax and norms, which
 * reduce rows. */
#include "backend/opencl/opencl_int.h"

/* ---- windows ---- */

static ps_status pool_launch(ps_lowering *l, ocl_kernel *k, const ps_window *w, bool max, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *out = &n->out[0]->shape;
    ocl_launch *launch;
    const int64_t items = ps_shape_product(out, 0, out->rank), channels = out->dims[1];
    const int64_t each = channels % 4 == 0 ? 4 : 1;
    char options[96];
    const int64_t image[8] = { w[0].in, w[1].in, w[2].in, channels, w[0].out, w[1].out, w[2].out };
    const int64_t window[8] = { w[0].stride, w[1].stride, w[2].stride, w[0].pad_begin, w[1].pad_begin, w[2].pad_begin };
    const int64_t taps[8] = { w[0].kernel, w[1].kernel, w[2].kernel, w[0].dilation, w[1].dilation, w[2].dilation };
    const int64_t ends[8] = { w[0].in + w[0].pad_end, w[1].in + w[1].pad_end, w[2].in + w[2].pad_end };
    const bool padded = !max && ((const ps_pool_params *)n->params)->count_include_pad;
    ps_snprintf(options, sizeof options, "-DMAX=%d -DPADDED=%d -DVEC=%d -DBIAS=0%s", max, padded, (int)each,
                ocl_halves(l->in_half[0], l->out_half[0]));
    PS_TRY(ocl_launch_init(k, 0, "pool", options, "", "pool", &launch, err));
    ocl_arg_in(launch, 0);
    ocl_arg_out(launch, 0);
    ocl_arg_int(launch, items);
    ocl_arg_ints(launch, image, 8);
    ocl_arg_ints(launch, window, 8);
    ocl_arg_ints(launch, taps, 8);
    ocl_arg_ints(launch, ends, 8);
    ocl_launch_size(launch, items / each, 1, 1, 64, 1);
    return PS_OK;
}

ps_status ocl_lower_pool(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    ps_window w[PS_MAX_SPATIAL], all[3];
    int count;
    ocl_kernel *k;
    const bool max = strcmp(n->op_type, "MaxPool") == 0;
    if (n->in[0]->dtype != PS_DTYPE_F32 || n->out[0]->dtype != PS_DTYPE_F32) return ocl_decline(l, "not f32");
    if (ps_has_out(n, 1)) return ocl_decline(l, "the places of the largest are wanted");
    if (n->in[0]->shape.rank > 5 || !ocl_sizes_fit(l)) return PS_OK;
    PS_TRY(ps_pool_windows(n, w, &count, err));
    if (!ocl_windows_take(l, w, count, all) || !ocl_taps_fit(l, all)) return PS_OK;
    PS_TRY(ocl_kernel_new(device, l, 1, max ? "opencl.maxpool" : "opencl.avgpool", &k, err));
    l->in_layout[0] = l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    return ocl_kernel_done(l, k, pool_launch(l, k, all, max, err));
}

/* ---- reductions: y[outer][inner] of x[outer][n][inner] ---- */

typedef enum reduce_kind { SUM, MEAN, MAX, MIN, PROD } reduce_kind;

static ps_status lower_reduction(ps_device *device, ps_lowering *l, reduce_kind kind, int64_t outer, int64_t n,
                                 int64_t inner, ps_error *err) {
    char options[64];
    ocl_kernel *k;
    ocl_launch *launch;
    const bool group = inner < 64 && n >= 64; /* few results of many elements: a work-group each */
    ps_snprintf(options, sizeof options, "-DKIND=%d%s", (int)kind, ocl_halves(l->in_half[0], false));
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.reduce", &k, err));
    ps_status status = ocl_launch_init(k, 0, "reduce", options, "", group ? "reduce_group" : "reduce", &launch, err);
    if (status == PS_OK) {
        ocl_arg_in(launch, 0);
        ocl_arg_out(launch, 0);
        ocl_arg_int(launch, outer * inner);
        ocl_arg_int(launch, n);
        ocl_arg_int(launch, inner);
        ocl_launch_size(launch, outer * inner * (group ? 64 : 1), 1, 1, 64, 1);
    }
    return ocl_kernel_done(l, k, status);
}

/* All spatial axes, in the layout the input has; [N, C, 1 …] is the same memory in either. */
static ps_status lower_spatial(ps_device *device, ps_lowering *l, reduce_kind kind, ps_error *err) {
    const ps_shape *s = &l->node->in[0]->shape;
    const int64_t pixels = ps_shape_product(s, 2, s->rank);
    if (l->in_layout[0] == PS_LAYOUT_PLAIN)
        return lower_reduction(device, l, kind, s->dims[0] * s->dims[1], pixels, 1, err);
    return lower_reduction(device, l, kind, s->dims[0], pixels, s->dims[1], err);
}

ps_status ocl_lower_global_pool(ps_device *device, ps_lowering *l, ps_error *err) {
    const bool max = strcmp(l->node->op_type, "GlobalMaxPool") == 0;
    if (l->node->in[0]->dtype != PS_DTYPE_F32) return ocl_decline(l, "not f32");
    if (l->node->in[0]->shape.rank < 3 || !ocl_sizes_fit(l)) return PS_OK;
    return lower_spatial(device, l, max ? MAX : MEAN, err);
}

static reduce_kind kind_of(const char *op) {
    static const struct {
        const char *op;
        reduce_kind kind;
    } table[] = { { "ReduceMean", MEAN }, { "ReduceMax", MAX }, { "ReduceMin", MIN }, { "ReduceProd", PROD } };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(op, table[i].op) == 0) return table[i].kind;
    return SUM;
}

ps_status ocl_lower_reduce(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *s = &n->in[0]->shape;
    const reduce_kind kind = kind_of(n->op_type);
    uint32_t mask;
    int first = 0, last = s->rank - 1;
    if (n->in[0]->dtype != PS_DTYPE_F32 || s->rank == 0) return ocl_decline(l, "not f32");
    if (!ocl_sizes_fit(l)) return PS_OK;
    if (!ps_reduce_axes(n, &mask)) return ocl_decline(l, "axes made at run time");
    ocl_skip_inputs(l, 1);
    if (s->rank >= 3 && mask == (((1u << s->rank) - 1) & ~3u)) return lower_spatial(device, l, kind, err);
    while (first < s->rank && !(mask >> first & 1))
        first++;
    while (last >= 0 && !(mask >> last & 1))
        last--;
    for (int i = first; i <= last; i++) {
        if (!(mask >> i & 1)) return ocl_decline(l, "axes that are no neighbours");
    }
    if (first > last) return PS_OK;
    l->in_layout[0] = PS_LAYOUT_PLAIN;
    return lower_reduction(device, l, kind, ps_shape_product(s, 0, first), ps_shape_product(s, first, last + 1),
                           ps_shape_product(s, last + 1, s->rank), err);
}

/* ---- rows ---- */

ps_status ocl_lower_softmax(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *s = &n->in[0]->shape;
    int axis;
    ocl_kernel *k;
    ocl_launch *launch;
    if (n->in[0]->dtype != PS_DTYPE_F32 || s->rank == 0) return ocl_decline(l, "not f32");
    if (!ocl_sizes_fit(l) || !ps_axis_normalize(((const ps_axis_params *)n->params)->axis, s->rank, &axis))
        return PS_OK;
    /* From 13 on the axis alone is normalised; before, everything from it on. */
    const bool alone = n->op->since >= 13;
    const int64_t size = alone ? s->dims[axis] : ps_shape_product(s, axis, s->rank);
    const int64_t inner = alone ? ps_shape_product(s, axis + 1, s->rank) : 1;
    const int64_t rows = ps_shape_product(s, 0, s->rank) / size;
    char options[64];
    ps_snprintf(options, sizeof options, "-DLOG=%d%s", strcmp(n->op_type, "LogSoftmax") == 0,
                ocl_halves(l->in_half[0], l->out_half[0]));
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.softmax", &k, err));
    ps_status status = ocl_launch_init(k, 0, "softmax", options, "", "softmax", &launch, err);
    if (status == PS_OK) {
        ocl_arg_in(launch, 0);
        ocl_arg_out(launch, 0);
        ocl_arg_int(launch, size);
        ocl_arg_int(launch, inner);
        ocl_launch_size(launch, rows * 64, 1, 1, 64, 1);
    }
    l->in_layout[0] = PS_LAYOUT_PLAIN;
    l->inplace = 0;
    return ocl_kernel_done(l, k, status);
}

/* (x - mean) / sqrt(variance + epsilon) scale + bias of rows of `size`; of entry e(row, i) =
 * (row % groups * per_group + i / step) / repeat. */
typedef struct norm {
    int64_t rows, size, groups, per_group, step, repeat;
    float epsilon;
    bool has_scale, has_bias;
} norm;

static ps_status lower_norm(ps_device *device, ps_lowering *l, const norm *r, const char *label, ps_error *err) {
    char options[64];
    ocl_kernel *k;
    ocl_launch *launch;
    const int64_t entry[8] = { r->groups, r->per_group, r->step, r->repeat };
    ps_snprintf(options, sizeof options, "-DSCALE=%d -DSHIFT=%d%s", r->has_scale, r->has_bias,
                ocl_halves(l->in_half[0], l->out_half[0]));
    PS_TRY(ocl_kernel_new(device, l, 1, label, &k, err));
    ps_status status = ocl_launch_init(k, 0, "norm", options, "", "norm", &launch, err);
    if (status == PS_OK) {
        ocl_arg_in(launch, 0);
        ocl_arg_out(launch, 0);
        ocl_arg_int(launch, r->size);
        ocl_arg_float(launch, r->epsilon);
        ocl_arg_ints(launch, entry, 8);
        if (r->has_scale) ocl_arg_in(launch, 1);
        if (r->has_bias) ocl_arg_in(launch, 2);
        ocl_launch_size(launch, r->rows * 64, 1, 1, 64, 1);
    }
    for (uint32_t i = 0; i < l->node->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    l->in_half[1] = l->in_half[2] = false;
    l->inplace = 0;
    return ocl_kernel_done(l, k, status);
}

static bool all_f32(const ps_lowering *l, uint32_t n) {
    for (uint32_t i = 0; i < n && i < l->node->n_in; i++)
        if (l->node->in[i] && l->node->in[i]->dtype != PS_DTYPE_F32) return false;
    return true;
}

ps_status ocl_lower_layernorm(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_layernorm_params *p = n->params;
    const ps_shape *s = &n->in[0]->shape;
    int axis;
    if (!all_f32(l, 3)) return ocl_decline(l, "not f32");
    if (ps_has_out(n, 1) || ps_has_out(n, 2)) return ocl_decline(l, "mean or deviation is wanted");
    if (!ocl_sizes_fit(l) || !ps_axis_normalize(p->axis, s->rank, &axis)) return PS_OK;
    const int64_t row = ps_shape_product(s, axis, s->rank);
    for (uint32_t i = 1; i < n->n_in && i < 3; i++) {
        if (n->in[i] && !ps_shape_is_tail(&n->in[i]->shape, s, axis))
            return ocl_decline(l, "a scale that broadcasts");
    }
    const norm r = { ps_shape_product(s, 0, axis), row, 1, 0, 1, 1, p->epsilon, ps_has_in(n, 1), ps_has_in(n, 2) };
    return lower_norm(device, l, &r, "opencl.layernorm", err);
}

ps_status ocl_lower_groupnorm(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *s = &n->in[0]->shape;
    const bool instance = strcmp(n->op_type, "InstanceNormalization") == 0;
    if (!all_f32(l, 3)) return ocl_decline(l, "not f32");
    if (s->rank < 2 || !ocl_sizes_fit(l)) return PS_OK;
    const int64_t groups = instance ? s->dims[1] : ((const ps_groupnorm_params *)n->params)->num_groups;
    const int64_t pixels = ps_shape_product(s, 2, s->rank), per_group = s->dims[1] / groups;
    const norm r = { s->dims[0] * groups,
                     per_group * pixels,
                     groups,
                     per_group,
                     pixels,
                     !instance && n->op->since < 21 ? per_group : 1,
                     instance ? ((const ps_epsilon_params *)n->params)->epsilon
                              : ((const ps_groupnorm_params *)n->params)->epsilon,
                     true,
                     true };
    return lower_norm(device, l, &r, instance ? "opencl.instancenorm" : "opencl.groupnorm", err);
}
