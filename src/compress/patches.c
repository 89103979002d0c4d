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
    ps_weight_view v = { .groups = 1, .rows_per_scale = l->axis < 0 ? 0 : 1, .col_stride = 1, .taps = 1 };
    if (is_op(l, "Conv")) {
        v.groups = group_of(l);
        v.rows = s->dims[0] / v.groups;
        v.cols = ps_shape_product(s, 1, s->rank);
        v.taps = ps_shape_product(s, 2, s->rank);
        if (v.taps < 1) v.taps = 1; /* an empty kernel has no columns */
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

/* Where the input lies, and which channels of it are wanted. */
typedef struct source {
    const float *x;
    int64_t strides[PS_MAX_RANK];
    int64_t channels, begin, end;
} source;

/* The channels of one pixel, `step` apart; x NULL: outside. Returns where the next pixel's go. */
static float *read_channels(const source *s, const float *x, int64_t step, float *out) {
    const int64_t n = s->end - s->begin;
    float *to = out + s->begin;
    if (!x)
        memset(to, 0, (size_t)n * sizeof *to);
    else if (step == 1)
        memcpy(to, x + s->begin, (size_t)n * sizeof *to);
    else
        for (int64_t c = 0; c < n; c++)
            to[c] = x[(s->begin + c) * step];
    return out + s->channels;
}

/* The kernel's taps, the channels of each. Recursion over spatial dims. */
static float *read_taps(const window *w, int d, const source *s, const float *x, const int64_t *tap, float *out) {
    for (int64_t k = 0; k < w->kernel[d]; k++) {
        const int64_t i = tap[d] + k * w->dilation[d];
        const float *at_tap = x && i >= 0 && i < w->in[d] ? x + i * s->strides[2 + d] : NULL;
        if (d == w->n - 1)
            out = read_channels(s, at_tap, s->strides[1], out);
        else
            out = read_taps(w, d + 1, s, at_tap, tap, out);
    }
    return out;
}

static void read_conv(const ps_layer *l, const ps_shape *x, const source *s, int64_t index, float *out) {
    window w = { 0 };
    int64_t tap[SPATIAL], places = 1;
    if (!window_of(l, x, &w)) return;
    for (int d = 0; d < w.n; d++)
        places *= w.out[d];
    first_tap(&w, index % places, tap);
    read_taps(&w, 0, s, s->x + index / places * s->strides[0], tap, out);
}

/* ---- the others ---- */

/* The channels along `axis` at one of the places that the other dims make. */
static void read_place(const ps_shape *x, const source *s, int axis, int64_t index, float *out) {
    const float *from = s->x;
    for (int d = x->rank - 1; d >= 0; d--) {
        if (d == axis) continue;
        from += index % x->dims[d] * s->strides[d];
        index /= x->dims[d];
    }
    read_channels(s, from, s->strides[axis], out);
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

void ps_patch_read(const ps_layer *l, const ps_tensor *x, int64_t index, int64_t begin, int64_t end, float *out) {
    const bool conv = is_op(l, "Conv");
    const int axis = conv || is_op(l, "ConvTranspose") ? 1 : x->shape.rank - 1;
    source s = { .x = x->data, .channels = x->shape.dims[axis], .begin = begin, .end = end };
    if (x->strides)
        memcpy(s.strides, x->strides, (size_t)x->shape.rank * sizeof *s.strides);
    else
        ps_shape_strides(&x->shape, s.strides);
    if (conv)
        read_conv(l, &x->shape, &s, index, out);
    else
        read_place(&x->shape, &s, axis, index, out);
}
