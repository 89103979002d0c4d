/* move.c - what only moves elements: Transpose, Concat, Split, Slice, Expand, Pad, Gather, and reorders. */
#include "backend/opencl/opencl_int.h"
#include "tensor/convert.h"

#include <math.h>

/* ---- n-dimensional copies ---- */

void ocl_move_add(ocl_move *m, int64_t dim, int64_t dst, int64_t src) {
    m->dims[m->rank] = dim;
    m->dst[m->rank] = dst;
    m->src[m->rank++] = src;
}

bool ocl_move_merge(ocl_move *m) {
    int n = 0;
    for (int i = 0; i < m->rank; i++) {
        if (m->dims[i] == 1) continue;
        if (n && m->src[n - 1] == m->dims[i] * m->src[i] && m->dst[n - 1] == m->dims[i] * m->dst[i]) {
            m->dims[n - 1] *= m->dims[i];
            m->src[n - 1] = m->src[i];
            m->dst[n - 1] = m->dst[i];
            continue;
        }
        m->dims[n] = m->dims[i];
        m->src[n] = m->src[i];
        m->dst[n++] = m->dst[i];
    }
    m->rank = n;
    if (!n) ocl_move_add(m, 1, 1, 1);
    return m->rank <= 8;
}

/* The last of eight. */
static void eight(ocl_launch *l, const ocl_move *m, const int64_t *v, int64_t pad) {
    int64_t all[8];
    for (int i = 0; i < 8; i++)
        all[i] = i < 8 - m->rank ? pad : v[i - (8 - m->rank)];
    ocl_arg_ints(l, all, 8);
}

static const char *type_option(size_t size) {
    switch (size) {
    case 1: return "-DT=uchar";
    case 2: return "-DT=ushort";
    case 4: return "-DT=uint";
    case 8: return "-DT=ulong";
    case 16: return "-DT=uint4";
    default: return NULL;
    }
}

/* As they lie, or to the other storage. */
static const char *copy_option(ocl_element e) {
    if (e.from_half != e.to_half) return ocl_halves(e.from_half, e.to_half);
    return type_option(e.from_half ? sizeof(cl_half) : e.size);
}

ps_status ocl_move_launch(ocl_kernel *k, int i, const ocl_move *m, ocl_element e, uint32_t in, uint32_t out,
                          ps_error *err) {
    ocl_launch *l;
    int64_t n = 1;
    for (int d = 0; d < m->rank; d++)
        n *= m->dims[d];
    PS_TRY(ocl_launch_init(k, i, "move", copy_option(e), "", "move", &l, err));
    ocl_arg_in(l, in);
    ocl_arg_out(l, out);
    ocl_arg_int(l, n);
    eight(l, m, m->dims, 1);
    eight(l, m, m->src, 0);
    eight(l, m, m->dst, 0);
    ocl_arg_int(l, m->src_at);
    ocl_arg_int(l, m->dst_at);
    ocl_launch_size(l, n, 1, 1, 64, 1);
    return PS_OK;
}

static ps_status fill_launch(ocl_kernel *k, int i, size_t size, uint64_t bits, int64_t n, uint32_t out, ps_error *err) {
    ocl_launch *l;
    PS_TRY(ocl_launch_init(k, i, "move", type_option(size), "", "fill", &l, err));
    ocl_arg_out(l, out);
    ocl_arg_int(l, n);
    ocl_arg_int(l, (int64_t)(int32_t)(uint32_t)bits);
    ocl_arg_int(l, (int64_t)(int32_t)(uint32_t)(bits >> 32));
    ocl_launch_size(l, n, 1, 1, 64, 1);
    return PS_OK;
}

/* A whole number of bytes an element, and no size out of range. */
static bool movable(ps_lowering *l, size_t *ret_size) {
    const ps_dtype t = l->node->in[0]->dtype;
    *ret_size = ps_dtype_is_object(t) ? 0 : ps_dtype_size(t);
    if (!type_option(*ret_size)) {
        l->why = "elements that are no whole bytes";
        return false;
    }
    return ocl_sizes_fit(l);
}

static ocl_element element_of(const ps_lowering *l, size_t size, uint32_t in, uint32_t out) {
    return (ocl_element) { size, l->in_half[in], l->out_half[out] };
}

/* ---- reorder, Transpose ---- */

static const char *reorder_label(ps_form from, ps_form to) {
    if (from.layout == to.layout) return to.half ? "opencl.narrow" : "opencl.widen";
    return to.layout == PS_LAYOUT_PLAIN ? "opencl.reorder plain" : "opencl.reorder channels-last";
}

ps_status ocl_reorder(ps_device *device, ps_dtype dtype, const ps_shape *shape, ps_form from, ps_form to, int threads,
                      ps_alloc_state *alloc, ps_kernel **ret, ps_error *err) {
    int order[PS_MAX_RANK];
    int64_t src[PS_MAX_RANK], dst[PS_MAX_RANK];
    ps_lowering l = { .alloc = alloc };
    ocl_move m = { 0 };
    ocl_kernel *k;
    const ocl_element e = { ps_dtype_size(dtype), from.half, to.half };
    PS_FAIL_IF((shape->rank < 3 && from.layout != to.layout) || !type_option(e.size), err, INTERNAL,
               "a reorder of %s rank %d makes no sense", ps_dtype_name(dtype), shape->rank);
    ps_layout_strides(shape, from.layout, src);
    ps_layout_strides(shape, to.layout, dst);
    ps_layout_axes(shape->rank, to.layout, order);
    for (int i = 0; i < shape->rank; i++)
        ocl_move_add(&m, shape->dims[order[i]], dst[order[i]], src[order[i]]);
    PS_FAIL_IF(!ocl_move_merge(&m), err, INTERNAL, "a reorder over too many dims");
    PS_TRY(ocl_kernel_new(device, &l, 1, reorder_label(from, to), &k, err));
    PS_TRY(ocl_kernel_done(&l, k, ocl_move_launch(k, 0, &m, e, 0, 0, err)));
    *ret = l.kernel;
    return PS_OK;
}

static bool is_dense(const ps_shape *s, const int64_t *strides, ps_layout layout) {
    int64_t wanted[PS_MAX_RANK];
    if (layout == PS_LAYOUT_CHANNELS_LAST && s->rank < 3) return false;
    ps_layout_strides(s, layout, wanted);
    for (int i = 0; i < s->rank; i++)
        if (s->dims[i] != 1 && strides[i] != wanted[i]) return false;
    return true;
}

static void transposed_strides(const ps_lowering *l, int64_t *src) {
    const ps_transpose_params *p = l->node->params;
    const ps_shape *in = &l->node->in[0]->shape;
    int64_t strides[PS_MAX_RANK];
    ps_layout_strides(in, l->in_layout[0], strides);
    for (int i = 0; i < in->rank; i++) {
        int64_t axis = p->perm.n ? p->perm.data[i] : in->rank - 1 - i;
        src[i] = strides[axis < 0 ? axis + in->rank : axis];
    }
}

ps_status ocl_lower_transpose(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_shape *out = &l->node->out[0]->shape;
    int64_t src[PS_MAX_RANK], dst[PS_MAX_RANK];
    size_t size;
    ocl_move m = { 0 };
    ocl_kernel *k;
    if (!movable(l, &size)) return PS_OK;
    transposed_strides(l, src);
    for (int layout = 0; layout < 2 && !l->alias; layout++) {
        l->alias = is_dense(out, src, (ps_layout)layout);
        l->out_layout[0] = l->alias ? (ps_layout)layout : PS_LAYOUT_PLAIN;
    }
    if (l->alias) return PS_OK;
    ps_shape_strides(out, dst);
    for (int i = 0; i < out->rank; i++)
        ocl_move_add(&m, out->dims[i], dst[i], src[i]);
    if (!ocl_move_merge(&m)) return ocl_decline(l, "too many dims");
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.transpose", &k, err));
    return ocl_kernel_done(l, k, ocl_move_launch(k, 0, &m, element_of(l, size, 0, 0), 0, 0, err));
}

/* ---- Concat, Split ---- */

static void dense_strides(const ps_shape *s, ps_layout layout, int64_t *ret) {
    ps_layout_strides(s, layout, ret);
}

/* Copies a part: `part` dense in one of the two, at `at` along `axis` of the other. */
static ps_status part_launch(ocl_kernel *k, int i, const ps_shape *part, const ps_shape *whole, int axis, int64_t at,
                             ps_layout layout, ocl_element e, bool into, uint32_t in, uint32_t out, ps_error *err) {
    int order[PS_MAX_RANK];
    int64_t p[PS_MAX_RANK], w[PS_MAX_RANK];
    ocl_move m = { 0 };
    dense_strides(part, layout, p);
    dense_strides(whole, layout, w);
    ps_layout_axes(part->rank, layout, order);
    for (int d = 0; d < part->rank; d++)
        ocl_move_add(&m, part->dims[order[d]], into ? w[order[d]] : p[order[d]], into ? p[order[d]] : w[order[d]]);
    *(into ? &m.dst_at : &m.src_at) = at * w[axis];
    ocl_move_merge(&m); /* at most PS_MAX_RANK dims */
    return ocl_move_launch(k, i, &m, e, in, out, err);
}

static int count_parts(ps_value *const *values, uint32_t n) {
    int count = 0;
    for (uint32_t i = 0; i < n; i++)
        count += values[i] != NULL;
    return count;
}

ps_status ocl_lower_concat(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *out = &n->out[0]->shape;
    ps_layout layout = PS_LAYOUT_PLAIN;
    ps_status status = PS_OK;
    size_t size;
    ocl_kernel *k;
    int axis;
    int64_t at = 0;
    if (!movable(l, &size) || !ps_axis_normalize(((const ps_axis_params *)n->params)->axis, out->rank, &axis))
        return PS_OK;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (l->in_layout[i] == PS_LAYOUT_CHANNELS_LAST && !ps_layout_same(&n->in[i]->shape))
            layout = PS_LAYOUT_CHANNELS_LAST;
    }
    PS_TRY(ocl_kernel_new(device, l, (int)n->n_in, "opencl.concat", &k, err));
    for (uint32_t i = 0; i < n->n_in && status == PS_OK; i++) {
        const ps_shape *part = &n->in[i]->shape;
        l->in_layout[i] = layout;
        status = part_launch(k, (int)i, part, out, axis, at, layout, element_of(l, size, i, 0), true, i, 0, err);
        at += part->dims[axis];
    }
    l->out_layout[0] = layout;
    return ocl_kernel_done(l, k, status);
}

ps_status ocl_lower_split(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *in = &n->in[0]->shape;
    const ps_layout layout = l->in_layout[0];
    ps_status status = PS_OK;
    size_t size;
    ocl_kernel *k;
    int axis = 0, launch = 0;
    int64_t at = 0;
    const ps_attr *a = ps_node_attr(n, "axis");
    if (!movable(l, &size) || !ps_axis_normalize(a ? a->u.i : 0, in->rank, &axis)) return PS_OK;
    if (count_parts(n->out, n->n_out) != (int)n->n_out) return ocl_decline(l, "an output is left out");
    PS_TRY(ocl_kernel_new(device, l, (int)n->n_out, "opencl.split", &k, err));
    for (uint32_t i = 0; i < n->n_out && status == PS_OK; i++) {
        const ps_shape *part = &n->out[i]->shape;
        l->out_layout[i] = layout;
        status = part_launch(k, launch++, part, in, axis, at, layout, element_of(l, size, 0, i), false, 0, i, err);
        at += part->dims[axis];
    }
    ocl_skip_inputs(l, 1);
    return ocl_kernel_done(l, k, status);
}

/* ---- Slice ---- */

static int64_t clamp(int64_t v, int64_t low, int64_t high) {
    return v < low ? low : v > high ? high : v;
}

/* Start and step of every axis; false where they are made at run time. */
static bool slice_steps(const ps_node *n, int64_t *start, int64_t *step) {
    const ps_shape *in = &n->in[0]->shape;
    int64_t starts[PS_MAX_RANK], axes[PS_MAX_RANK], steps[PS_MAX_RANK];
    size_t n_starts, n_axes, n_steps;
    if (!ps_const_ints(n, 1, starts, PS_MAX_RANK, &n_starts)) return false;
    if (ps_has_in(n, 3) && (!ps_const_ints(n, 3, axes, PS_MAX_RANK, &n_axes) || n_axes != n_starts)) return false;
    if (ps_has_in(n, 4) && (!ps_const_ints(n, 4, steps, PS_MAX_RANK, &n_steps) || n_steps != n_starts)) return false;
    for (int d = 0; d < in->rank; d++) {
        start[d] = 0;
        step[d] = 1;
    }
    for (size_t i = 0; i < n_starts; i++) {
        int d = (int)i;
        if (ps_has_in(n, 3) && !ps_axis_normalize(axes[i], in->rank, &d)) return false;
        if (d >= in->rank) return false;
        const int64_t extent = in->dims[d], s = starts[i] < 0 ? starts[i] + extent : starts[i];
        step[d] = ps_has_in(n, 4) ? steps[i] : 1;
        start[d] = step[d] > 0 ? clamp(s, 0, extent) : clamp(s, -1, extent - 1);
    }
    return true;
}

ps_status ocl_lower_slice(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *out = &n->out[0]->shape;
    const ps_layout layout = l->in_layout[0];
    int order[PS_MAX_RANK];
    int64_t start[PS_MAX_RANK], step[PS_MAX_RANK], src[PS_MAX_RANK], dst[PS_MAX_RANK];
    size_t size;
    ocl_move m = { 0 };
    ocl_kernel *k;
    if (n->op->since < 10 || !movable(l, &size)) return PS_OK;
    if (!slice_steps(n, start, step)) return ocl_decline(l, "bounds made at run time");
    ps_layout_strides(&n->in[0]->shape, layout, src);
    ps_layout_strides(out, layout, dst);
    ps_layout_axes(out->rank, layout, order);
    for (int i = 0; i < out->rank; i++) {
        const int d = order[i];
        ocl_move_add(&m, out->dims[d], dst[d], src[d] * step[d]);
        m.src_at += start[d] * src[d];
    }
    ocl_move_merge(&m);
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.slice", &k, err));
    l->out_layout[0] = layout;
    ocl_skip_inputs(l, 1);
    return ocl_kernel_done(l, k, ocl_move_launch(k, 0, &m, element_of(l, size, 0, 0), 0, 0, err));
}

/* ---- Expand, Tile ---- */

/* Both, for the output's shape says how often each axis is repeated. */
ps_status ocl_lower_expand(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *in = &n->in[0]->shape, *out = &n->out[0]->shape;
    const int shift = out->rank - in->rank;
    int64_t src[PS_MAX_RANK], dst[PS_MAX_RANK];
    size_t size;
    ocl_move m = { 0 };
    ocl_kernel *k;
    if (!movable(l, &size)) return PS_OK;
    ps_shape_strides(in, src);
    ps_shape_strides(out, dst);
    for (int d = 0; d < out->rank; d++) {
        const int64_t extent = d < shift ? 1 : in->dims[d - shift];
        if (out->dims[d] % extent) return ocl_decline(l, "no whole number of repetitions");
        ocl_move_add(&m, out->dims[d] / extent, dst[d] * extent, 0);
        if (d >= shift) ocl_move_add(&m, extent, dst[d], src[d - shift]);
    }
    if (!ocl_move_merge(&m)) return ocl_decline(l, "too many dims");
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.expand", &k, err));
    l->in_layout[0] = PS_LAYOUT_PLAIN;
    ocl_skip_inputs(l, 1);
    return ocl_kernel_done(l, k, ocl_move_launch(k, 0, &m, element_of(l, size, 0, 0), 0, 0, err));
}

/* ---- Pad with a constant ---- */

typedef struct pads {
    int64_t begin[PS_MAX_RANK];
    uint64_t bits; /* of the value */
} pads;

/* As kernels store it (common.cl, within_half). */
static uint16_t half_of(float f) {
    const float most = 65504;
    return ps_f32_to_f16(!isfinite(f) ? f : f > most ? most : f < -most ? -most : f);
}

static bool pad_value(const ps_node *n, size_t size, bool half, uint64_t *ret) {
    *ret = 0;
    if (size > sizeof *ret) return false;
    if (!ps_has_in(n, 2)) return true;
    const ps_tensor *t = n->in[2]->constant;
    if (!t || t->bytes != size) return false;
    memcpy(ret, t->data, size);
    if (half) {
        float f;
        memcpy(&f, t->data, sizeof f);
        *ret = half_of(f);
        size = sizeof(uint16_t);
    }
    if (size < 4) *ret *= size == 1 ? 0x01010101u : 0x00010001u;
    return true;
}

static bool pads_of(const ps_node *n, size_t size, bool half, pads *ret) {
    const int rank = n->in[0]->shape.rank;
    int64_t list[2 * PS_MAX_RANK], axes[PS_MAX_RANK];
    size_t count, n_axes = (size_t)rank;
    if (!ps_const_ints(n, 1, list, 2 * PS_MAX_RANK, &count)) return false;
    if (ps_has_in(n, 3) && !ps_const_ints(n, 3, axes, PS_MAX_RANK, &n_axes)) return false;
    if (count != 2 * n_axes) return false;
    for (int d = 0; d < rank; d++)
        ret->begin[d] = 0;
    for (size_t i = 0; i < n_axes; i++) {
        int d = (int)i;
        if (ps_has_in(n, 3) && !ps_axis_normalize(axes[i], rank, &d)) return false;
        ret->begin[d] = list[i];
        if (list[i] < 0 || list[i + n_axes] < 0) return false; /* crops */
    }
    return pad_value(n, size, half, &ret->bits);
}

ps_status ocl_lower_pad(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *in = &n->in[0]->shape, *out = &n->out[0]->shape;
    const ps_layout layout = l->in_layout[0];
    int order[PS_MAX_RANK];
    int64_t src[PS_MAX_RANK], dst[PS_MAX_RANK];
    const ps_attr *mode = ps_node_attr(n, "mode");
    size_t size;
    pads p;
    ocl_move m = { 0 };
    ocl_kernel *k;
    if (n->op->since < 11 || !movable(l, &size)) return PS_OK;
    if ((mode && strcmp(mode->u.s, "constant") != 0) || !pads_of(n, size, l->out_half[0], &p))
        return ocl_decline(l, "pads other than a constant, or made at run time");
    ps_layout_strides(in, layout, src);
    ps_layout_strides(out, layout, dst);
    ps_layout_axes(in->rank, layout, order);
    for (int i = 0; i < in->rank; i++) {
        ocl_move_add(&m, in->dims[order[i]], dst[order[i]], src[order[i]]);
        m.dst_at += p.begin[i] * dst[i];
    }
    ocl_move_merge(&m);
    PS_TRY(ocl_kernel_new(device, l, 2, "opencl.pad", &k, err));
    const size_t stored = l->out_half[0] ? sizeof(cl_half) : size;
    ps_status status = fill_launch(k, 0, stored, p.bits, ps_shape_product(out, 0, out->rank), 0, err);
    if (status == PS_OK) status = ocl_move_launch(k, 1, &m, element_of(l, size, 0, 0), 0, 0, err);
    l->out_layout[0] = layout;
    ocl_skip_inputs(l, 1);
    return ocl_kernel_done(l, k, status);
}

/* ---- Gather ---- */

/* Indices of f32 weights and the like; out of range is found while it runs, as where indices are data. */
ps_status ocl_lower_gather(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *in = &n->in[0]->shape, *index = &n->in[1]->shape;
    char options[64];
    size_t size;
    int axis;
    ocl_kernel *k;
    ocl_launch *launch;
    if (!movable(l, &size) || !ps_axis_normalize(((const ps_axis_params *)n->params)->axis, in->rank, &axis))
        return PS_OK;
    const bool wide = n->in[1]->dtype == PS_DTYPE_I64;
    if (!wide && n->in[1]->dtype != PS_DTYPE_I32) return ocl_decline(l, "indices of another type");
    const int64_t inner = ps_shape_product(in, axis + 1, in->rank), count = ps_shape_product(index, 0, index->rank);
    const int64_t total = ps_shape_product(in, 0, axis) * count * inner;
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.gather", &k, err));
    ps_snprintf(options, sizeof options, "%s -DINDEX=%s", copy_option(element_of(l, size, 0, 0)),
                wide ? "long" : "int");
    ps_status status = ocl_launch_init(k, 0, "gather", options, "", "gather", &launch, err);
    if (status == PS_OK) {
        ocl_arg_in(launch, 0);
        ocl_arg_in(launch, 1);
        ocl_arg_out(launch, 0);
        ocl_arg_int(launch, total);
        ocl_arg_int(launch, in->dims[axis]);
        ocl_arg_int(launch, count);
        ocl_arg_int(launch, inner);
        ocl_arg_flag(launch);
        ocl_launch_size(launch, total, 1, 1, 64, 1);
    }
    l->in_layout[0] = l->in_layout[1] = PS_LAYOUT_PLAIN;
    return ocl_kernel_done(l, k, status);
}
