/* patches.c - see patches.h. */
#include "compress/patches.h"

#include "ops/params.h"

enum { SPATIAL = PS_MAX_RANK };

static bool is_op(const ps_layer *l, const char *op) {
    return strcmp(l->node->op_type, op) == 0;
}

static int64_t group_of(const ps_layer *l) {
    const ps_conv_params *p = l->node->params;
    return p->group > 0 ? p->group : 1;
}

ps_weight_view ps_weight_view_of(const ps_layer *l) {
    const ps_shape *s = &l->weight->shape;
    ps_weight_view v = { .groups = 1, .rows_per_scale = l->axis < 0 ? 0 : 1, .col_stride = 1 };
    if (is_op(l, "Conv")) {
        v.groups = group_of(l);
        v.rows = s->dims[0] / v.groups;
        v.cols = ps_shape_product(s, 1, s->rank);
        v.row_stride = v.cols;
        v.group_stride = v.rows * v.cols;
    } else if (is_op(l, "ConvTranspose")) { /* each input pixel gives rows outputs, which overlap elsewhere */
        v.groups = group_of(l);
        v.cols = s->dims[0] / v.groups;
        v.rows = ps_shape_product(s, 1, s->rank);
        v.row_stride = 1;
        v.col_stride = v.rows;
        v.group_stride = v.cols * v.rows;
        if (l->axis >= 0) v.rows_per_scale = v.rows / s->dims[1];
    } else if (l->axis == 0) { /* Gemm, transposed */
        v.rows = s->dims[0];
        v.cols = s->dims[1];
        v.row_stride = v.cols;
    } else { /* the last two dims; what is before them are groups */
        v.groups = ps_shape_product(s, 0, s->rank - 2);
        v.cols = s->dims[s->rank - 2];
        v.rows = s->dims[s->rank - 1];
        v.row_stride = 1;
        v.col_stride = v.rows;
        v.group_stride = v.cols * v.rows;
    }
    return v;
}

/* ---- convolutions ---- */

typedef struct window {
    int n;
    int64_t in[SPATIAL], out[SPATIAL], kernel[SPATIAL], stride[SPATIAL], dilation[SPATIAL], begin[SPATIAL];
} window;

static int64_t at(const ps_ints *list, int i, int64_t absent) {
    return (size_t)i < list->n ? list->data[i] : absent;
}

static bool window_of(const ps_layer *l, const ps_shape *x, window *w) {
    const ps_conv_params *p = l->node->params;
    const ps_shape *s = &l->weight->shape;
    w->n = s->rank - 2;
    if (x->rank != s->rank || w->n < 1) return false;
    for (int d = 0; d < w->n; d++) {
        w->in[d] = x->dims[2 + d];
        w->kernel[d] = s->dims[2 + d];
        w->stride[d] = at(&p->strides, d, 1);
        w->dilation[d] = at(&p->dilations, d, 1);
        const int64_t reach = (w->kernel[d] - 1) * w->dilation[d] + 1;
        w->begin[d] = at(&p->pads, d, 0);
        int64_t pads = w->begin[d] + at(&p->pads, d + w->n, 0);
        if (p->auto_pad && strncmp(p->auto_pad, "SAME", 4) == 0) {
            const int64_t out = (w->in[d] + w->stride[d] - 1) / w->stride[d];
            pads = (out - 1) * w->stride[d] + reach - w->in[d];
            pads = pads < 0 ? 0 : pads;
            w->begin[d] = strcmp(p->auto_pad, "SAME_UPPER") == 0 ? pads / 2 : pads - pads / 2;
        } else if (p->auto_pad && strcmp(p->auto_pad, "VALID") == 0) {
            pads = w->begin[d] = 0;
        }
        if (w->in[d] + pads < reach || w->stride[d] < 1) return false;
        w->out[d] = (w->in[d] + pads - reach) / w->stride[d] + 1;
    }
    return true;
}

/* Positions of the first tap along each dim. */
static void first_tap(const window *w, int64_t index, int64_t *tap) {
    for (int d = w->n - 1; d >= 0; d--) {
        tap[d] = index % w->out[d] * w->stride[d] - w->begin[d];
        index /= w->out[d];
    }
}

/* The kernel's taps of one channel. Recursion over spatial dims. */
static float *read_taps(const window *w, int d, const float *plane, int64_t offset, const int64_t *tap, float *out) {
    for (int64_t k = 0; k < w->kernel[d]; k++) {
        const int64_t i = tap[d] + k * w->dilation[d];
        const bool inside = i >= 0 && i < w->in[d] && plane;
        if (d == w->n - 1)
            *out++ = inside ? plane[offset + i] : 0;
        else
            out = read_taps(w, d + 1, inside ? plane : NULL, inside ? (offset + i) * w->in[d + 1] : 0, tap, out);
    }
    return out;
}

static void read_conv(const ps_layer *l, const ps_tensor *x, int64_t index, float *out, int64_t stride) {
    window w = { 0 };
    int64_t tap[SPATIAL], places = 1, plane = 1;
    if (!window_of(l, &x->shape, &w)) return;
    for (int d = 0; d < w.n; d++) {
        places *= w.out[d];
        plane *= w.in[d];
    }
    first_tap(&w, index % places, tap);
    const int64_t channels = x->shape.dims[1], groups = group_of(l), each = channels / groups;
    const float *image = (const float *)x->data + index / places * channels * plane;
    for (int64_t g = 0; g < groups; g++) {
        float *at_group = out + g * stride;
        for (int64_t c = 0; c < each; c++)
            at_group = read_taps(&w, 0, image + (g * each + c) * plane, 0, tap, at_group);
    }
}

/* ---- the others ---- */

static void read_pixel(const ps_layer *l, const ps_tensor *x, int64_t index, float *out, int64_t stride) {
    const int64_t channels = x->shape.dims[1], plane = ps_shape_product(&x->shape, 2, x->shape.rank);
    const int64_t groups = group_of(l), each = channels / groups;
    const float *image = (const float *)x->data + index / plane * channels * plane + index % plane;
    for (int64_t c = 0; c < channels; c++)
        out[c / each * stride + c % each] = image[c * plane];
}

int64_t ps_patch_count(const ps_layer *l, const ps_shape *x) {
    const ps_shape *s = &l->weight->shape;
    window w = { 0 };
    int64_t n = 1;
    if (is_op(l, "Conv")) {
        if (!window_of(l, x, &w) || x->dims[1] != s->dims[1] * group_of(l)) return 0;
        for (int d = 0; d < w.n; d++)
            n *= w.out[d];
        return n * x->dims[0];
    }
    if (is_op(l, "ConvTranspose"))
        return x->rank == s->rank && x->dims[1] == s->dims[0] ? x->dims[0] * ps_shape_product(x, 2, x->rank) : 0;
    const int64_t cols = is_op(l, "Gemm") && l->axis == 0 ? s->dims[1] : s->dims[s->rank - 2];
    if (x->rank < 1 || x->dims[x->rank - 1] != cols || s->rank != 2) return 0;
    return ps_shape_product(x, 0, x->rank - 1);
}

void ps_patch_read(const ps_layer *l, const ps_tensor *x, int64_t index, float *out, int64_t stride) {
    if (is_op(l, "Conv")) {
        read_conv(l, x, index, out, stride);
    } else if (is_op(l, "ConvTranspose")) {
        read_pixel(l, x, index, out, stride);
    } else {
        const int64_t cols = x->shape.dims[x->shape.rank - 1];
        memcpy(out, (const float *)x->data + index * cols, (size_t)cols * sizeof *out);
    }
}
