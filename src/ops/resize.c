/* resize.c - Resize and Upsample.
 *
 * Sampling is separable: every dim has a table that says, for each output position, which input positions count and
 * with what weight. nearest has one position of weight 1 and moves elements of any type; linear and cubic run dim by
 * dim in double.
 *
 * align_corners takes the length that the scale asks for, fractions included, as the official cases do; ONNX Runtime
 * takes the whole one. They differ where scales are given that do not divide.
 *
 * Source: ONNX operator specs Upsample 7 and 9, Resize 10 to 19; where Resize 10 is silent about rounding (nearest),
 * what ONNX Runtime does: down to the whole number, but up when the dim shrinks. Cubic weights: Keys, "Cubic
 * convolution interpolation for digital image processing", 1981. */
#include <math.h>

#include "ops/kernel_util.h"
#include "ops/move.h"
#include "ops/params.h"

typedef struct upsample_params {
    ps_resize_params resize; /* first, so that node->params is a ps_resize_params for all rows */
    ps_floats scales;        /* opset 7 */
} upsample_params;

#define RESIZE_ATTRS(coordinates, rounding)                                                                            \
    PS_A_STR(ps_resize_params, mode, "nearest"),                                                                       \
        PS_A_STR(ps_resize_params, coordinate_transformation_mode, coordinates),                                       \
        PS_A_STR(ps_resize_params, nearest_mode, rounding),                                                            \
        PS_A_STR(ps_resize_params, keep_aspect_ratio_policy, "stretch"),                                               \
        PS_A_FLOAT(ps_resize_params, cubic_coeff_a, -0.75f), PS_A_FLOAT(ps_resize_params, extrapolation_value, 0),     \
        PS_A_INT(ps_resize_params, exclude_outside, 0), PS_A_INT(ps_resize_params, antialias, 0),                      \
        PS_A_INTS(ps_resize_params, axes)

static const ps_attr_def upsample7_attrs[] = { RESIZE_ATTRS("asymmetric", "floor"),
                                               PS_A_FLOATS(upsample_params, scales), PS_ATTRS_END };
static const ps_attr_def upsample9_attrs[] = { RESIZE_ATTRS("asymmetric", "floor"), PS_ATTRS_END };
static const ps_attr_def resize10_attrs[] = { RESIZE_ATTRS("asymmetric", "simple"), PS_ATTRS_END };
static const ps_attr_def resize11_attrs[] = { RESIZE_ATTRS("half_pixel", "round_prefer_floor"), PS_ATTRS_END };

/* ---- the plan: sizes and scales of all dims ---- */
typedef struct resize_plan {
    int rank;
    bool known;
    ps_resize_axis dim[PS_MAX_RANK];
} resize_plan;

static bool is_one_of(const char *s, const char *const *names) {
    for (; *names; names++)
        if (strcmp(s, *names) == 0) return true;
    return false;
}

static ps_status check_modes(const ps_node *node, ps_error *err) {
    static const char *const modes[] = { "nearest", "linear", "bilinear", "cubic", NULL };
    static const char *const coordinates[] = { "half_pixel",         "half_pixel_symmetric",
                                               "pytorch_half_pixel", "align_corners",
                                               "asymmetric",         "tf_half_pixel_for_nn",
                                               "tf_crop_and_resize", NULL };
    static const char *const roundings[] = {
        "round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple", NULL
    };
    static const char *const policies[] = { "stretch", "not_larger", "not_smaller", NULL };
    const ps_resize_params *p = node->params;
    PS_FAIL_IF(!is_one_of(p->mode, modes), err, INVALID, "%s: mode '%s' is not known", PS_LABEL(node), p->mode);
    PS_FAIL_IF(!is_one_of(p->coordinate_transformation_mode, coordinates), err, INVALID,
               "%s: coordinate_transformation_mode '%s' is not known", PS_LABEL(node),
               p->coordinate_transformation_mode);
    PS_FAIL_IF(!is_one_of(p->nearest_mode, roundings), err, INVALID, "%s: nearest_mode '%s' is not known",
               PS_LABEL(node), p->nearest_mode);
    PS_FAIL_IF(!is_one_of(p->keep_aspect_ratio_policy, policies), err, INVALID,
               "%s: keep_aspect_ratio_policy '%s' is not known", PS_LABEL(node), p->keep_aspect_ratio_policy);
    return PS_OK;
}

/* Numbers of a float list input: n == 0 if absent or empty. */
typedef struct float_list {
    float v[2 * PS_MAX_RANK];
    size_t n;
    bool known;
} float_list;

static ps_status read_floats(const ps_facts *f, size_t i, const char *what, float_list *ret, ps_error *err) {
    *ret = (float_list) { .known = !ps_facts_has(f, i) || ps_facts_length(f, i) == 0 };
    if (ret->known) return PS_OK;
    const ps_tensor *t = ps_facts_tensor(f, i);
    if (!t) return PS_OK;
    ret->n = ps_tensor_count(t);
    PS_FAIL_IF(ret->n > 2 * PS_MAX_RANK, err, SHAPE, "%s: %s has %zu entries", PS_LABEL(f->node), what, ret->n);
    for (size_t k = 0; k < ret->n; k++) {
        double v;
        PS_FAIL_IF(!ps_tensor_get_double(t, k, &v), err, TYPE, "%s: %s has element type %s, not a number",
                   PS_LABEL(f->node), what, ps_dtype_name(t->dtype));
        ret->v[k] = (float)v;
    }
    ret->known = true;
    return PS_OK;
}

/* The dims that scales, sizes and roi speak of, in their order: `axes`, or all. */
static ps_status resize_dims(const ps_node *node, int rank, int dims[PS_MAX_RANK], size_t *ret_n, ps_error *err) {
    const ps_resize_params *p = node->params;
    bool seen[PS_MAX_RANK] = { false };
    *ret_n = p->axes.n ? p->axes.n : (size_t)rank;
    PS_TRY(ps_axes_mark(node, p->axes.data, p->axes.n, rank, seen, err));
    for (size_t k = 0; k < *ret_n; k++) {
        dims[k] = (int)k;
        if (p->axes.n) ps_axis_normalize(p->axes.data[k], rank, &dims[k]);
    }
    return PS_OK;
}

static ps_status check_count(const ps_node *node, const char *what, size_t n, size_t want, ps_error *err) {
    PS_FAIL_IF(n != want, err, SHAPE, "%s: %s has %zu entries, %zu are needed", PS_LABEL(node), what, n, want);
    return PS_OK;
}

static ps_status apply_scale(const ps_node *node, ps_resize_axis *a, float scale, bool round, ps_error *err) {
    PS_FAIL_IF(!(scale > 0 && scale < INFINITY), err, INVALID, "%s: scale %g is not positive", PS_LABEL(node),
               (double)scale);
    a->scale = scale;
    if (a->in < 0) {
        a->out = scale == 1 ? a->in : PS_DIM_UNKNOWN;
        return PS_OK;
    }
    float size = round ? roundf(scale * (float)a->in) : floorf(scale * (float)a->in);
    if (scale == 1) size = 0; /* exact also beyond 2^24 */
    PS_FAIL_IF(!(size < 0x1p62f), err, LIMIT, "%s: a dim of %lld times %g is too large", PS_LABEL(node),
               (long long)a->in, (double)scale);
    a->out = scale == 1 ? a->in : (int64_t)size;
    return PS_OK;
}

/* sizes: each dim gets its own scale, or with an aspect policy the least or greatest of them all. */
static ps_status apply_sizes(const ps_node *node, resize_plan *plan, const int64_t *sizes, const int *dims, size_t n,
                             ps_error *err) {
    const ps_resize_params *p = node->params;
    bool stretch = strcmp(p->keep_aspect_ratio_policy, "stretch") == 0, unknown = false;
    bool least = strcmp(p->keep_aspect_ratio_policy, "not_larger") == 0;
    float common = 0;
    for (size_t k = 0; k < n; k++) {
        ps_resize_axis *a = &plan->dim[dims[k]];
        PS_FAIL_IF(sizes[k] < 0, err, INVALID, "%s: size %lld is negative", PS_LABEL(node), (long long)sizes[k]);
        a->out = sizes[k];
        a->scale = a->in > 0 ? (float)a->out / (float)a->in : 1;
        unknown |= a->in < 0;
        common = k == 0 || (least ? a->scale < common : a->scale > common) ? a->scale : common;
    }
    for (size_t k = 0; k < n && !stretch; k++) {
        if (unknown)
            plan->dim[dims[k]].out = PS_DIM_UNKNOWN;
        else
            PS_TRY(apply_scale(node, &plan->dim[dims[k]], common, true, err));
    }
    return PS_OK;
}

/* Where each operator version keeps its inputs. */
static size_t scales_input(const ps_node *node) {
    return node->op->since >= 11 ? 2 : 1;
}

static ps_status read_scales(const ps_facts *f, float_list *ret, ps_error *err) {
    if (f->node->op->since != 7) return read_floats(f, scales_input(f->node), "scales", ret, err);
    const upsample_params *p = f->node->params;
    PS_FAIL_IF(p->scales.n > PS_MAX_RANK, err, LIMIT, "%s: %zu scales", PS_LABEL(f->node), p->scales.n);
    *ret = (float_list) { .n = p->scales.n, .known = true };
    if (p->scales.n) memcpy(ret->v, p->scales.data, p->scales.n * sizeof *ret->v);
    return PS_OK;
}

static ps_status apply_roi(const ps_facts *f, resize_plan *plan, const int *dims, size_t n, ps_error *err) {
    const ps_resize_params *p = f->node->params;
    float_list roi;
    if (f->node->op->since < 11 || strcmp(p->coordinate_transformation_mode, "tf_crop_and_resize") != 0) return PS_OK;
    PS_TRY(read_floats(f, 1, "roi", &roi, err));
    if (!roi.known) return PS_OK; /* the output's shape does not depend on it */
    PS_TRY(check_count(f->node, "roi", roi.n, 2 * n, err));
    for (size_t k = 0; k < n; k++) {
        plan->dim[dims[k]].roi_start = roi.v[k];
        plan->dim[dims[k]].roi_end = roi.v[k + n];
    }
    return PS_OK;
}

static ps_status check_samples(const ps_node *node, const resize_plan *plan, ps_error *err) {
    for (int d = 0; d < plan->rank; d++)
        PS_FAIL_IF(plan->dim[d].in == 0 && plan->dim[d].out > 0, err, SHAPE,
                   "%s: dim %d is empty and has nothing to sample", PS_LABEL(node), d);
    return PS_OK;
}

static ps_status apply_targets(const ps_facts *f, resize_plan *plan, const int *dims, size_t n, ps_error *err) {
    const ps_node *node = f->node;
    int64_t sizes[PS_MAX_RANK];
    size_t n_sizes = 0;
    bool sizes_known = true, has_sizes = node->op->since >= 11 && ps_facts_has(f, 3) && ps_facts_length(f, 3) != 0;
    float_list scales;
    PS_TRY(read_scales(f, &scales, err));
    if (has_sizes) PS_TRY(ps_facts_ints(f, 3, "sizes", sizes, PS_MAX_RANK, &n_sizes, &sizes_known, err));
    plan->known = scales.known && sizes_known;
    for (size_t k = 0; k < n && !plan->known; k++)
        plan->dim[dims[k]].out = PS_DIM_UNKNOWN;
    if (!plan->known) return PS_OK;
    PS_FAIL_IF((scales.n > 0) == has_sizes, err, INVALID, "%s: exactly one of scales and sizes must be given",
               PS_LABEL(node));
    if (has_sizes) {
        PS_TRY(check_count(node, "sizes", n_sizes, n, err));
        PS_TRY(apply_sizes(node, plan, sizes, dims, n, err));
        return check_samples(node, plan, err);
    }
    PS_TRY(check_count(node, "scales", scales.n, n, err));
    for (size_t k = 0; k < n; k++)
        PS_TRY(apply_scale(node, &plan->dim[dims[k]], scales.v[k], false, err));
    return check_samples(node, plan, err);
}

static ps_status resize_resolve(const ps_facts *f, resize_plan *plan, ps_error *err) {
    ps_shape in = ps_facts_shape(f, 0);
    int dims[PS_MAX_RANK];
    size_t n;
    *plan = (resize_plan) { .rank = in.rank };
    PS_TRY(check_modes(f->node, err));
    if (in.rank < 0) return PS_OK;
    for (int d = 0; d < in.rank; d++)
        plan->dim[d] = (ps_resize_axis) { in.dims[d], in.dims[d], 1, 0, 1 };
    PS_TRY(resize_dims(f->node, in.rank, dims, &n, err));
    PS_TRY(apply_targets(f, plan, dims, n, err));
    return apply_roi(f, plan, dims, n, err);
}

static ps_shape plan_shape(const resize_plan *plan) {
    ps_shape s = { plan->rank, { 0 } };
    for (int d = 0; d < plan->rank; d++)
        s.dims[d] = plan->dim[d].out;
    return s;
}

static ps_status resize_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    resize_plan plan;
    PS_TRY(resize_resolve(&f, &plan, err));
    ps_dtype t = node->in[0]->dtype;
    bool nearest = strcmp(((const ps_resize_params *)node->params)->mode, "nearest") == 0;
    bool number = t == PS_DTYPE_UNDEFINED || ps_dtype_is_float(t) || ps_dtype_is_int(t);
    PS_FAIL_IF(!nearest && !number, err, TYPE, "%s: elements of type %s cannot be interpolated", PS_LABEL(node),
               ps_dtype_name(t));
    ps_shape out = plan_shape(&plan);
    return ps_infer_checked(node, 0, t, &out, err);
}

ps_status ps_resize_axes(const ps_node *node, ps_resize_axis ret[PS_MAX_RANK], ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    resize_plan plan;
    PS_TRY(resize_resolve(&f, &plan, err));
    ps_shape out = plan_shape(&plan);
    PS_FAIL_IF(!plan.known || !ps_shape_fixed(&out) || !ps_shape_fixed(&node->in[0]->shape), err, UNSUPPORTED,
               "%s: the output size is not known", PS_LABEL(node));
    memcpy(ret, plan.dim, sizeof plan.dim);
    return PS_OK;
}

/* ---- nearest ---- */
float ps_resize_coordinate(const ps_resize_params *p, const ps_resize_axis *a, int64_t at) {
    bool crop = strcmp(p->coordinate_transformation_mode, "tf_crop_and_resize") == 0;
    if (a->scale == 1 && a->in == a->out && !crop) return (float)at;
    return ps_resize_source(p, at, a->in, a->out, a->scale, a->roi_start, a->roi_end);
}

static int64_t clamp_index(double x, int64_t n) {
    return !(x > 0) ? 0 : x >= (double)n ? n - 1 : (int64_t)x;
}

static int64_t nearest_index(const char *rounding, float x, const ps_resize_axis *a) {
    float whole = floorf(x);
    if (strcmp(rounding, "floor") == 0)
        x = whole;
    else if (strcmp(rounding, "ceil") == 0)
        x = ceilf(x);
    else if (strcmp(rounding, "simple") == 0)
        x = a->scale < 1 ? ceilf(x) : whole;
    else if (strcmp(rounding, "round_prefer_ceil") == 0)
        x = x - whole >= 0.5f ? whole + 1 : whole;
    else
        x = x - whole > 0.5f ? whole + 1 : whole;
    return clamp_index((double)x, a->in);
}

/* Taps of one dim: n per output position. index -1 in the first tap: outside, gets the extrapolation value. */
typedef struct taps {
    int64_t n;
    int64_t *index;
    double *weight; /* NULL for nearest */
} taps;

static bool is_outside(const ps_resize_params *p, const ps_resize_axis *a, float x) {
    return strcmp(p->coordinate_transformation_mode, "tf_crop_and_resize") == 0 && (x < 0 || x > (float)(a->in - 1));
}

static ps_status taps_alloc(const ps_kernel_ctx *ctx, taps *t, int64_t outs, int64_t per_out, bool weights,
                            ps_error *err) {
    size_t n;
    *t = (taps) { .n = per_out };
    bool fits = !ps_mul_overflow_size((size_t)outs, (size_t)per_out, &n);
    t->index = fits ? ps_alloc_array(ctx->alloc, n, sizeof *t->index) : NULL;
    t->weight = fits && weights ? ps_alloc_array(ctx->alloc, n, sizeof *t->weight) : NULL;
    if (!t->index || (weights && !t->weight)) return PS_FAIL_NOMEM(err, "resize tables");
    return PS_OK;
}

static void taps_release(const ps_kernel_ctx *ctx, taps t[PS_MAX_RANK]) {
    for (int d = 0; d < PS_MAX_RANK; d++) {
        ps_free(ctx->alloc, t[d].index);
        ps_free(ctx->alloc, t[d].weight);
    }
}

int64_t ps_resize_nearest(const ps_resize_params *p, const ps_resize_axis *a, int64_t at) {
    float x = ps_resize_coordinate(p, a, at);
    return is_outside(p, a, x) ? -1 : nearest_index(p->nearest_mode, x, a);
}

static ps_status nearest_taps(const ps_kernel_ctx *ctx, const ps_resize_axis *a, taps *t, ps_error *err) {
    const ps_resize_params *p = ctx->params;
    PS_TRY(taps_alloc(ctx, t, a->out, 1, false, err));
    for (int64_t k = 0; k < a->out; k++)
        t->index[k] = ps_resize_nearest(p, a, k);
    return PS_OK;
}

/* Row-major over the output; rows along the last dim. */
static void nearest_copy(const resize_plan *plan, const taps t[PS_MAX_RANK], const ps_move *m, const ps_tensor *in,
                         const uint8_t *fill) {
    int last = plan->rank - 1;
    int64_t strides[PS_MAX_RANK], at[PS_MAX_RANK] = { 0 }, rows = 1, n = plan->dim[last].out;
    ps_shape_strides(&in->shape, strides);
    for (int d = 0; d < last; d++)
        rows *= plan->dim[d].out;
    uint8_t *dst = m->dst;
    for (int64_t r = 0; r < rows; r++) {
        int64_t base = 0;
        bool outside = false;
        for (int d = 0; d < last; d++) {
            outside |= t[d].index[at[d]] < 0;
            base += t[d].index[at[d]] * strides[d];
        }
        for (int64_t k = 0; k < n; k++, dst += m->size) {
            int64_t i = t[last].index[k];
            memcpy(dst, outside || i < 0 ? fill : (const uint8_t *)in->data + (size_t)(base + i) * m->size, m->size);
        }
        for (int d = last - 1; d >= 0 && ++at[d] == plan->dim[d].out; d--)
            at[d] = 0;
    }
}

static ps_status resize_nearest(const ps_kernel_ctx *ctx, const resize_plan *plan, ps_error *err) {
    const ps_resize_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    ps_shape shape = plan_shape(plan);
    taps t[PS_MAX_RANK] = { 0 };
    uint8_t fill[16] = { 0 };
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &shape, &m, err));
    ps_status status = PS_OK;
    for (int d = 0; d < plan->rank && status == PS_OK; d++)
        status = nearest_taps(ctx, &plan->dim[d], &t[d], err);
    ps_number_store(fill, in->dtype, p->extrapolation_value);
    if (status == PS_OK && ps_tensor_count(m.out) > 0) nearest_copy(plan, t, &m, in, fill);
    taps_release(ctx, t);
    return ps_move_end(&m, status, err);
}

/* ---- linear and cubic ---- */
static double kernel_linear(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double kernel_cubic(double x, double a) {
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    return 0;
}

/* Weights of the taps first … first + n - 1 around x. Taps outside the dim count as its border, or not at all; the rest
 * is normalised where the filter does not sum to one by itself. `squeeze` < 1 stretches the filter (antialias). */
static void fill_taps(const ps_resize_params *p, const ps_resize_axis *a, double x, int64_t first, double squeeze,
                      bool cubic, int64_t n, int64_t *index, double *weight) {
    bool drop = cubic && p->exclude_outside, normalise = drop || squeeze < 1;
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t at = first + k;
        double distance = ((double)at - x) * squeeze;
        weight[k] = cubic ? kernel_cubic(distance, p->cubic_coeff_a) : kernel_linear(distance);
        if (drop && (at < 0 || at >= a->in)) weight[k] = 0;
        index[k] = at < 0 ? 0 : at >= a->in ? a->in - 1 : at;
        sum += weight[k];
    }
    for (int64_t k = 0; k < n && normalise && sum != 0; k++)
        weight[k] /= sum;
}

static ps_status weighted_taps(const ps_kernel_ctx *ctx, const ps_resize_axis *a, taps *t, ps_error *err) {
    const ps_resize_params *p = ctx->params;
    bool cubic = strcmp(p->mode, "cubic") == 0;
    double squeeze = p->antialias && a->scale < 1 ? (double)a->scale : 1, reach = (cubic ? 2 : 1) / squeeze;
    PS_FAIL_IF(!(reach < 0x1p31), err, LIMIT, "%s: scale %g is too small", PS_LABEL(ctx->node), (double)a->scale);
    int64_t half = (int64_t)ceil(reach);
    PS_TRY(taps_alloc(ctx, t, a->out, 2 * half, true, err));
    for (int64_t k = 0; k < a->out; k++) {
        float x = ps_resize_coordinate(p, a, k);
        int64_t *index = t->index + k * t->n;
        double *weight = t->weight + k * t->n;
        if (is_outside(p, a, x) || !(fabsf(x) < 0x1p62f)) {
            memset(weight, 0, (size_t)t->n * sizeof *weight);
            memset(index, 0, (size_t)t->n * sizeof *index);
            index[0] = -1;
        } else {
            fill_taps(p, a, (double)x, (int64_t)floorf(x) - half + 1, squeeze, cubic, t->n, index, weight);
        }
    }
    return PS_OK;
}

typedef struct pass {
    const double *src;
    double *dst;
    const taps *t;
    int64_t in, out, inner;
} pass;

static void run_pass(void *ctx, int64_t begin, int64_t end, int thread) {
    const pass *p = ctx;
    for (int64_t row = begin; row < end; row++) {
        const int64_t *index = p->t->index + row % p->out * p->t->n;
        const double *weight = p->t->weight + row % p->out * p->t->n, *src = p->src + row / p->out * p->in * p->inner;
        double *dst = p->dst + row * p->inner;
        memset(dst, 0, (size_t)p->inner * sizeof *dst);
        for (int64_t k = 0; k < p->t->n; k++) {
            if (weight[k] == 0) continue;
            const double *line = src + index[k] * p->inner;
            for (int64_t i = 0; i < p->inner; i++)
                dst[i] += weight[k] * line[i];
        }
    }
}

/* Resizes dim d of `*data` (shape `shape`, updated) into a fresh block that replaces it. */
static ps_status resize_dim(const ps_kernel_ctx *ctx, const resize_plan *plan, int d, taps *t, ps_shape *shape,
                            double **data, ps_error *err) {
    PS_TRY(weighted_taps(ctx, &plan->dim[d], t, err));
    int64_t outer = ps_shape_product(shape, 0, d), inner = ps_shape_product(shape, d + 1, shape->rank), n;
    pass p = { *data, NULL, t, shape->dims[d], plan->dim[d].out, inner };
    shape->dims[d] = plan->dim[d].out;
    PS_FAIL_IF(!ps_shape_elements(shape, &n), err, LIMIT, "%s: %s is too large", PS_LABEL(ctx->node),
               PS_SHAPE_TEXT(shape));
    p.dst = ps_alloc_array(ctx->alloc, (size_t)n, sizeof *p.dst);
    if (!p.dst) return PS_FAIL_NOMEM(err, "resize rows");
    ps_parallel_for(outer * p.out, 1 + 4096 / (inner * t->n + 1), ctx->threads, run_pass, &p);
    ps_free(ctx->alloc, *data);
    *data = p.dst;
    return PS_OK;
}

/* Positions outside the crop, and the store: integers are clamped to their range; antialiased ones round, as image
 * libraries do, others truncate, as the spec's reference does. */
static double limit_value(ps_dtype t, double v, bool round) {
    if (!ps_dtype_is_int(t)) return v;
    double bits = (double)ps_dtype_bits(t);
    bool is_signed = t == PS_DTYPE_I8 || t == PS_DTYPE_I16 || t == PS_DTYPE_I32 || t == PS_DTYPE_I64;
    double low = is_signed ? -ldexp(1, (int)bits - 1) : 0;
    double high = ldexp(1, (int)bits - is_signed) - (bits > 53 ? 2048 : 1); /* the greatest double below 2^63 or 2^64 */
    if (round) v = floor(v + 0.5);
    return v < low ? low : v > high ? high : v;
}

static void store_result(const ps_kernel_ctx *ctx, const resize_plan *plan, const taps t[PS_MAX_RANK], double *data) {
    const ps_resize_params *p = ctx->params;
    ps_tensor *out = ctx->out[0];
    int64_t n = (int64_t)ps_tensor_count(out), strides[PS_MAX_RANK];
    bool crop = strcmp(p->coordinate_transformation_mode, "tf_crop_and_resize") == 0;
    ps_shape_strides(&out->shape, strides);
    for (int64_t k = 0; k < n; k++) {
        for (int d = 0; crop && d < plan->rank; d++)
            if (t[d].index && t[d].index[k / strides[d] % plan->dim[d].out * t[d].n] < 0)
                data[k] = p->extrapolation_value;
        data[k] = limit_value(out->dtype, data[k], p->antialias != 0);
    }
    ps_row_store(out->data, out->dtype, 0, 1, data, n);
}

static ps_status resize_weighted(const ps_kernel_ctx *ctx, const resize_plan *plan, ps_error *err) {
    const ps_resize_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    ps_shape shape = plan_shape(plan), now = in->shape;
    PS_TRY(ps_move_output(ctx, 0, in->dtype, &shape, err));
    size_t n = ps_tensor_count(in);
    if (ps_tensor_count(ctx->out[0]) == 0) return PS_OK;
    taps t[PS_MAX_RANK] = { 0 };
    bool crop = strcmp(p->coordinate_transformation_mode, "tf_crop_and_resize") == 0;
    double *data = ps_alloc_array(ctx->alloc, n, sizeof *data);
    if (!data) return PS_FAIL_NOMEM(err, "resize rows");
    ps_row_load(data, in->dtype, in->data, 0, 1, (int64_t)n);
    ps_status status = PS_OK;
    for (int d = plan->rank - 1; d >= 0 && status == PS_OK; d--) {
        const ps_resize_axis *a = &plan->dim[d];
        bool same = a->in == a->out && a->scale == 1 && (!crop || (a->roi_start == 0 && a->roi_end == 1));
        if (!same) status = resize_dim(ctx, plan, d, &t[d], &now, &data, err);
    }
    if (status == PS_OK) store_result(ctx, plan, t, data);
    taps_release(ctx, t);
    ps_free(ctx->alloc, data);
    return status;
}

static ps_status resize_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    resize_plan plan;
    PS_TRY(resize_resolve(&f, &plan, err));
    if (plan.rank == 0) return ps_move_view(ctx, &ctx->in[0]->shape, err);
    bool nearest = strcmp(((const ps_resize_params *)ctx->params)->mode, "nearest") == 0;
    return nearest ? resize_nearest(ctx, &plan, err) : resize_weighted(ctx, &plan, err);
}

static const ps_op ops[] = {
    { "Upsample", "", 7, 1, 1, 1, 1, upsample7_attrs, sizeof(upsample_params), resize_infer, resize_ref, 0 },
    { "Upsample", "", 9, 2, 2, 1, 1, upsample9_attrs, sizeof(ps_resize_params), resize_infer, resize_ref, 0 },
    { "Resize", "", 10, 2, 2, 1, 1, resize10_attrs, sizeof(ps_resize_params), resize_infer, resize_ref, 0 },
    { "Resize", "", 11, 1, 4, 1, 1, resize11_attrs, sizeof(ps_resize_params), resize_infer, resize_ref, 0 },
};

const ps_op_family ps_ops_resize = PS_OP_FAMILY("resize", ops);
