/* codes.c - QLinearAdd, QLinearMul, Lookup and pools of 8-bit codes: what lies between products of codes, so that they
 * stay codes on the device. In the arithmetic of the reference kernels. */
#include "backend/opencl/opencl_int.h"

static bool is_code(const ps_value *v) {
    return v->dtype == PS_DTYPE_U8 || v->dtype == PS_DTYPE_I8;
}

static const char *code_option(const ps_value *v) {
    return v->dtype == PS_DTYPE_I8 ? "-DCODE=char -DCODE4=char4" : "-DCODE=uchar -DCODE4=uchar4";
}

static const char run_time_scale[] = "a scale made at run time";

/* Inputs from `first` on are constants that the kernel does not read. */
static void read_no_others(ps_lowering *l, uint32_t first) {
    for (uint32_t i = first; i < l->node->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    ocl_skip_inputs(l, first);
}

static ps_status numbers_arg(ocl_kernel *k, ocl_launch *launch, const float *numbers, size_t n, ps_error *err) {
    void *table;
    PS_TRY(ocl_kernel_table(k, numbers, n * sizeof *numbers, &table, err));
    ocl_arg_buffer(launch, table);
    return PS_OK;
}

/* ---- Add, Mul ---- */

enum { A, A_SCALE, B = 3, B_SCALE, Y_SCALE = 6 };

typedef struct pair {
    bool multiply, same; /* same: both operands lie as the result does */
    int rank;
    int64_t n, dims[8], a[8], b[8]; /* the last of eight, in memory order */
    float numbers[8];
} pair;

static bool pair_numbers(const ps_node *n, pair *p) {
    const ps_code_range all = { PS_CODE_LOW, PS_CODE_HIGH };
    const ps_code_range range =
        n->params && strcmp(n->domain, "polestar") == 0 ? *(const ps_code_range *)n->params : all;
    ocl_linear a, b, y;
    if (!ocl_linear_at(n, A_SCALE, &a) || !ocl_linear_at(n, B_SCALE, &b) || !ocl_linear_at(n, Y_SCALE, &y))
        return false;
    const ocl_code_sum s = ocl_code_sum_of(a, b, y, n->out[0]->dtype, range);
    const float numbers[8] = {
        s.fa,  s.fb,  (float)a.zero, (float)b.zero, a.scale * b.scale / y.scale, p->multiply ? (float)y.zero : s.shift,
        s.low, s.high
    };
    memcpy(p->numbers, numbers, sizeof numbers);
    return true;
}

/* false: they do not broadcast plainly, or have more than eight dims. */
static bool pair_strides(const ps_lowering *l, ps_layout layout, pair *p) {
    const ps_node *n = l->node;
    const ps_shape *y = &n->out[0]->shape;
    int64_t a[PS_MAX_RANK] = { 0 }, b[PS_MAX_RANK] = { 0 };
    const int skip = 8 - y->rank;
    if (skip < 0 || !ps_broadcast_strides(&n->in[A]->shape, l->in_layout[A], y, a) ||
        !ps_broadcast_strides(&n->in[B]->shape, l->in_layout[B], y, b))
        return false;
    for (int i = 0; i < 8; i++) {
        int d = i - skip;
        if (layout == PS_LAYOUT_CHANNELS_LAST && d > 0) d = d + 1 < y->rank ? d + 1 : 1;
        p->dims[i] = d < 0 ? 1 : y->dims[d];
        p->a[i] = d < 0 ? 0 : a[d];
        p->b[i] = d < 0 ? 0 : b[d];
    }
    p->n = ps_shape_product(y, 0, y->rank);
    p->same = p->n % 4 == 0 && ps_shape_equal(&n->in[A]->shape, y) && ps_shape_equal(&n->in[B]->shape, y);
    return true;
}

static ps_status pair_launch(const ps_lowering *l, ocl_kernel *k, const pair *p, ps_error *err) {
    const int each = p->same ? 4 : 1;
    char options[128];
    ocl_launch *launch;
    ps_snprintf(options, sizeof options, "-DENTRY=0 -DVEC=%d -DBIAS=0 -DMULTIPLY=%d %s", each, p->multiply,
                code_option(l->node->out[0]));
    PS_TRY(ocl_launch_init(k, 0, "codes", options, "", "pair", &launch, err));
    ocl_arg_in(launch, A);
    ocl_arg_in(launch, B);
    ocl_arg_out(launch, 0);
    PS_TRY(numbers_arg(k, launch, p->numbers, 8, err));
    ocl_arg_int(launch, p->n);
    ocl_arg_ints(launch, p->dims, 8);
    ocl_arg_ints(launch, p->a, 8);
    ocl_arg_ints(launch, p->b, 8);
    ocl_launch_size(launch, p->n / each, 1, 1, 64, 1);
    return PS_OK;
}

static ps_status lower_pair(ps_device *device, ps_lowering *l, bool multiply, ps_error *err) {
    const ps_node *n = l->node;
    pair p = { .multiply = multiply };
    ocl_kernel *k;
    if (!device->caps.int8) return ocl_decline(l, ocl_no_dot);
    if (!is_code(n->out[0]) || n->in[A]->dtype != n->out[0]->dtype || n->in[B]->dtype != n->out[0]->dtype)
        return ocl_decline(l, "operands of several types");
    if (!pair_numbers(n, &p)) return ocl_decline(l, run_time_scale);
    if (!ocl_sizes_fit(l)) return PS_OK;
    const ps_layout layout = ps_chain_layout(l);
    for (uint32_t i = 0; i < n->n_in; i++)
        if (i != A && i != B) l->taken |= UINT64_C(1) << i;
    if (!pair_strides(l, layout, &p)) return ocl_decline(l, "operands do not broadcast plainly");
    PS_TRY(ocl_kernel_new(device, l, 1, multiply ? "opencl.int8 mul" : "opencl.int8 add", &k, err));
    l->out_layout[0] = layout;
    return ocl_kernel_done(l, k, pair_launch(l, k, &p, err));
}

ps_status ocl_lower_qadd(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower_pair(device, l, false, err);
}

ps_status ocl_lower_qmul(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower_pair(device, l, true, err);
}

/* ---- Lookup ---- */

ps_status ocl_lower_lookup(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_shape *s = &l->node->in[0]->shape;
    ocl_kernel *k;
    ocl_launch *launch;
    if (!device->caps.int8) return ocl_decline(l, ocl_no_dot);
    if (!ocl_sizes_fit(l)) return PS_OK;
    const int64_t n = ps_shape_product(s, 0, s->rank);
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.int8 lookup", &k, err));
    const ps_status status = ocl_launch_init(k, 0, "codes", "-DENTRY=1", "", "lookup", &launch, err);
    if (status == PS_OK) {
        ocl_arg_in(launch, 0);
        ocl_arg_in(launch, 1);
        ocl_arg_out(launch, 0);
        ocl_arg_int(launch, n);
        ocl_launch_size(launch, (n + 3) / 4, 1, 1, 64, 1);
    }
    l->out_layout[0] = l->in_layout[0];
    l->in_layout[1] = PS_LAYOUT_PLAIN;
    l->inplace = 0;
    return ocl_kernel_done(l, k, status);
}

/* ---- pools ---- */

static bool has_channels_last(const ps_node *n) {
    const ps_attr *a = ps_node_attr(n, "channels_last");
    return a && a->type == PS_ATTR_INT && a->u.i;
}

static const char *check_mean(const ps_node *n, ocl_linear *x, ocl_linear *y) {
    if (!is_code(n->in[0]) || n->in[0]->dtype != n->out[0]->dtype) return "codes of several types";
    if (has_channels_last(n) || n->in[0]->shape.rank < 3) return "another layout";
    return ocl_linear_at(n, 1, x) && ocl_linear_at(n, 3, y) ? NULL : run_time_scale;
}

static void ends_of(const ps_value *v, float *ret) {
    ocl_code_ends(v->dtype, (ps_code_range) { PS_CODE_LOW, PS_CODE_HIGH }, &ret[0], &ret[1]);
}

static ps_status global_launch(const ps_lowering *l, ocl_kernel *k, bool first, const float numbers[5], ps_error *err) {
    const ps_shape *s = &l->node->in[0]->shape;
    char options[96];
    ocl_launch *launch;
    ps_snprintf(options, sizeof options, "-DENTRY=2 -DPIXELS_FIRST=%d %s", first, code_option(l->node->in[0]));
    PS_TRY(ocl_launch_init(k, 0, "codes", options, "", "mean", &launch, err));
    ocl_arg_in(launch, 0);
    ocl_arg_out(launch, 0);
    PS_TRY(numbers_arg(k, launch, numbers, 5, err));
    ocl_arg_int(launch, ps_shape_product(s, 2, s->rank));
    ocl_arg_int(launch, s->dims[1]);
    ocl_launch_size(launch, 64 * (first ? (s->dims[1] + 15) / 16 : s->dims[1]), s->dims[0], 1, 64, 1);
    return PS_OK;
}

ps_status ocl_lower_qglobal_pool(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *s = &n->in[0]->shape;
    ocl_linear x, y;
    ocl_kernel *k;
    l->why = device->caps.int8 ? check_mean(n, &x, &y) : ocl_no_dot;
    if (l->why || !ocl_sizes_fit(l)) return PS_OK;
    const int64_t pixels = ps_shape_product(s, 2, s->rank);
    if (pixels > INT32_MAX / 512) return ocl_decline(l, "sums too long for 32 bits");
    float numbers[5] = { (float)x.zero, x.scale / (y.scale * (float)pixels), (float)y.zero };
    ends_of(n->out[0], numbers + 3);
    const bool first = l->in_layout[0] == PS_LAYOUT_CHANNELS_LAST;
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.int8 globalavgpool", &k, err));
    read_no_others(l, 1);
    return ocl_kernel_done(l, k, global_launch(l, k, first, numbers, err));
}

static ps_status pool_launch(const ps_lowering *l, ocl_kernel *k, const ps_window *w, bool max, const float numbers[7],
                             ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *out = &n->out[0]->shape;
    const int64_t items = ps_shape_product(out, 0, out->rank);
    const int64_t image[8] = { w[0].in, w[1].in, w[2].in, out->dims[1], w[0].out, w[1].out, w[2].out };
    const int64_t window[8] = { w[0].stride, w[1].stride, w[2].stride, w[0].pad_begin, w[1].pad_begin, w[2].pad_begin };
    const int64_t taps[8] = { w[0].kernel, w[1].kernel, w[2].kernel, w[0].dilation, w[1].dilation, w[2].dilation };
    const int64_t ends[8] = { w[0].in + w[0].pad_end, w[1].in + w[1].pad_end, w[2].in + w[2].pad_end };
    const bool padded = !max && ((const ps_pool_params *)n->params)->count_include_pad;
    char options[128];
    ocl_launch *launch;
    ps_snprintf(options, sizeof options, "-DENTRY=3 -DMAX=%d -DPADDED=%d %s", max, padded, code_option(n->in[0]));
    PS_TRY(ocl_launch_init(k, 0, "codes", options, "", "pool", &launch, err));
    ocl_arg_in(launch, 0);
    ocl_arg_out(launch, 0);
    PS_TRY(numbers_arg(k, launch, numbers, 7, err));
    ocl_arg_int(launch, items);
    ocl_arg_ints(launch, image, 8);
    ocl_arg_ints(launch, window, 8);
    ocl_arg_ints(launch, taps, 8);
    ocl_arg_ints(launch, ends, 8);
    ocl_launch_size(launch, items, 1, 1, 64, 1);
    return PS_OK;
}

ps_status ocl_lower_qpool(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const bool max = strcmp(n->op_type, "MaxPool") == 0;
    ps_window w[PS_MAX_SPATIAL], all[3];
    ocl_linear x, y;
    ocl_kernel *k;
    int count;
    float numbers[7] = { 0 };
    if (!device->caps.int8) return ocl_decline(l, ocl_no_dot);
    if (!max) l->why = check_mean(n, &x, &y);
    if (max && (!is_code(n->in[0]) || ps_has_out(n, 1))) return ocl_decline(l, "not f32 or codes of 8 bits alone");
    if (l->why && !max) return PS_OK;
    if (n->in[0]->shape.rank > 5 || !ocl_sizes_fit(l)) return PS_OK;
    PS_TRY(ps_pool_windows(n, w, &count, err));
    if (!ocl_windows_take(l, w, count, all) || !ocl_taps_fit(l, all)) return PS_OK;
    if (!max) {
        const float of[] = { (float)x.zero, x.scale, y.scale, (float)y.zero };
        memcpy(numbers, of, sizeof of);
        ends_of(n->out[0], numbers + 4);
    }
    PS_TRY(ocl_kernel_new(device, l, 1, max ? "opencl.int8 maxpool" : "opencl.int8 avgpool", &k, err));
    l->in_layout[0] = l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    read_no_others(l, 1);
    return ocl_kernel_done(l, k, pool_launch(l, k, all, max, numbers, err));
}
