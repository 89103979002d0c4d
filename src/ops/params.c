/* params.c - post-ops, and the arithmetic of windows and resize coordinates. */
#include "ops/params.h"

#include <math.h>

/* ---- post-ops ---- */

static const struct {
    const char *name;
    bool binary;
} posts[PS_POST_COUNT] = {
    [PS_POST_RELU] = { "Relu", false },
    [PS_POST_LEAKY_RELU] = { "LeakyRelu", false },
    [PS_POST_CLIP] = { "Clip", false },
    [PS_POST_SIGMOID] = { "Sigmoid", false },
    [PS_POST_TANH] = { "Tanh", false },
    [PS_POST_HARD_SIGMOID] = { "HardSigmoid", false },
    [PS_POST_HARD_SWISH] = { "HardSwish", false },
    [PS_POST_SWISH] = { "Swish", false },
    [PS_POST_GELU] = { "Gelu", false },
    [PS_POST_GELU_TANH] = { "GeluTanh", false },
    [PS_POST_EXP] = { "Exp", false },
    [PS_POST_SQRT] = { "Sqrt", false },
    [PS_POST_ABS] = { "Abs", false },
    [PS_POST_ERF] = { "Erf", false },
    [PS_POST_RECIPROCAL] = { "Reciprocal", false },
    [PS_POST_LINEAR] = { "Linear", false },
    [PS_POST_POW] = { "Pow", false },
    [PS_POST_ADD] = { "Add", true },
    [PS_POST_SUB] = { "Sub", true },
    [PS_POST_RSUB] = { "RSub", true },
    [PS_POST_MUL] = { "Mul", true },
    [PS_POST_DIV] = { "Div", true },
    [PS_POST_RDIV] = { "RDiv", true },
    [PS_POST_MAX] = { "Max", true },
    [PS_POST_MIN] = { "Min", true },
};

const char *ps_post_name(ps_post_kind kind) {
    return (unsigned)kind < PS_POST_COUNT ? posts[kind].name : "?";
}

bool ps_post_is_binary(ps_post_kind kind) {
    return (unsigned)kind < PS_POST_COUNT && posts[kind].binary;
}

/* Malformed attributes (a hand-written file may claim our domain) count as none: the shape rules refuse them by name.
 */
size_t ps_node_posts(const ps_node *node, ps_post ret[PS_MAX_POSTS]) {
    const ps_attr *op = ps_node_attr(node, "post_op"), *arg = ps_node_attr(node, "post_arg");
    if (!op || !arg || op->type != PS_ATTR_INTS || arg->type != PS_ATTR_FLOATS || op->n % 2 || op->n != arg->n)
        return 0;
    size_t n = op->n / 2;
    if (n > PS_MAX_POSTS) return 0;
    for (size_t i = 0; i < n; i++) {
        int64_t kind = op->u.ints[2 * i], operand = op->u.ints[2 * i + 1];
        if (kind < 0 || kind >= PS_POST_COUNT || operand < -1 || operand >= (int64_t)node->n_in) return 0;
        if (posts[kind].binary && (operand < 0 || !node->in[operand])) return 0;
        ret[i] = (ps_post) { (ps_post_kind)kind, (int32_t)operand, arg->u.floats[2 * i], arg->u.floats[2 * i + 1] };
    }
    return n;
}

ps_status ps_node_add_post(ps_node *node, ps_post_kind kind, float alpha, float beta, ps_value *operand,
                           ps_error *err) {
    char label[160];
    ps_post list[PS_MAX_POSTS];
    int64_t ops[2 * PS_MAX_POSTS];
    float args[2 * PS_MAX_POSTS];
    size_t n = ps_node_posts(node, list);
    PS_FAIL_IF(n == PS_MAX_POSTS, err, LIMIT, "%s: more than %d post-operations",
               ps_node_label(node, label, sizeof label), PS_MAX_POSTS);
    list[n++] = (ps_post) { kind, operand ? (int32_t)node->n_in : -1, alpha, beta };
    if (operand) {
        PS_TRY(ps_node_resize_inputs(node, node->n_in + 1, err));
        PS_TRY(ps_node_set_input(node, node->n_in - 1, operand, err));
    }
    for (size_t i = 0; i < n; i++) {
        ops[2 * i] = list[i].kind;
        ops[2 * i + 1] = list[i].operand;
        args[2 * i] = list[i].alpha;
        args[2 * i + 1] = list[i].beta;
    }
    PS_TRY(ps_node_set_ints(node, "post_op", ops, 2 * n, err));
    return ps_node_set_floats(node, "post_arg", args, 2 * n, err);
}

/* max/min that keep a NaN of either side, as ONNX's Max, Min and Relu do. */
static float max_nan(float a, float b) {
    return a > b || a != a ? a : b;
}

static float min_nan(float a, float b) {
    return a < b || a != a ? a : b;
}

static float clamp(float x, float lo, float hi) {
    return min_nan(max_nan(x, lo), hi);
}

float ps_post_apply(ps_post_kind kind, float x, float alpha, float beta, float operand) {
    switch (kind) {
    case PS_POST_RELU: return max_nan(x, 0);
    case PS_POST_LEAKY_RELU: return x < 0 ? alpha * x : x;
    case PS_POST_CLIP: return min_nan(max_nan(x, alpha), beta);
    case PS_POST_SIGMOID: return 1 / (1 + expf(-x));
    case PS_POST_TANH: return tanhf(x);
    case PS_POST_HARD_SIGMOID: return clamp(alpha * x + beta, 0, 1);
    case PS_POST_HARD_SWISH: return x * clamp(alpha * x + beta, 0, 1);
    case PS_POST_SWISH: return x / (1 + expf(-alpha * x));
    case PS_POST_GELU: return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
    case PS_POST_GELU_TANH: return 0.5f * x * (1 + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case PS_POST_EXP: return expf(x);
    case PS_POST_SQRT: return sqrtf(x);
    case PS_POST_ABS: return fabsf(x);
    case PS_POST_ERF: return erff(x);
    case PS_POST_RECIPROCAL: return 1 / x;
    case PS_POST_LINEAR: return alpha * x + beta;
    case PS_POST_POW: return powf(x, alpha);
    case PS_POST_ADD: return x + operand;
    case PS_POST_SUB: return x - operand;
    case PS_POST_RSUB: return operand - x;
    case PS_POST_MUL: return x * operand;
    case PS_POST_DIV: return x / operand;
    case PS_POST_RDIV: return operand / x;
    case PS_POST_MAX: return max_nan(x, operand);
    case PS_POST_MIN: return min_nan(x, operand);
    case PS_POST_COUNT: break;
    }
    return x;
}

/* ---- windows ---- */

/* The window attributes that convolutions and pools share. */
typedef struct window_attrs {
    const char *auto_pad;
    ps_ints kernel, strides, pads, dilations;
    bool ceil_mode;
} window_attrs;

#define MAX_EXTENT (INT64_C(1) << 40) /* keeps sums and products of two below int64 */

static int64_t attr_at(ps_ints list, size_t i, int64_t def) {
    return i < list.n ? list.data[i] : def;
}

static ps_status check_list(const ps_node *node, const char *name, ps_ints list, size_t n, int64_t min, ps_error *err) {
    char label[160];
    PS_FAIL_IF(list.n && list.n != n, err, SHAPE, "%s: %s has %zu entries, must have %zu",
               ps_node_label(node, label, sizeof label), name, list.n, n);
    for (size_t i = 0; i < list.n; i++) {
        PS_FAIL_IF(list.data[i] < min || list.data[i] > MAX_EXTENT, err, SHAPE,
                   "%s: %s[%zu] is %lld, must be at least %lld", ps_node_label(node, label, sizeof label), name, i,
                   (long long)list.data[i], (long long)min);
    }
    return PS_OK;
}

static bool spatial_fixed(const ps_shape *s) {
    for (int d = 2; d < s->rank; d++)
        if (s->dims[d] < 0) return false;
    return true;
}

/* Number of spatial dims of an input [N, C, ...]; these must be fixed, N and C need not. */
static ps_status spatial_dims(const ps_node *node, const window_attrs *a, int *ret_n, ps_error *err) {
    char label[160], text[96];
    const ps_shape *x = &node->in[0]->shape;
    ps_node_label(node, label, sizeof label);
    PS_FAIL_IF(x->rank < 3 || !spatial_fixed(x), err, SHAPE,
               "%s: input of shape %s, must be [N, C, ...] of rank 3 or more", label,
               ps_shape_text(x, text, sizeof text));
    int n = x->rank - 2;
    PS_TRY(check_list(node, "kernel_shape", a->kernel, (size_t)n, 1, err));
    PS_TRY(check_list(node, "strides", a->strides, (size_t)n, 1, err));
    PS_TRY(check_list(node, "dilations", a->dilations, (size_t)n, 1, err));
    PS_TRY(check_list(node, "pads", a->pads, 2 * (size_t)n, -MAX_EXTENT, err));
    for (int d = 0; d < n; d++) {
        PS_FAIL_IF(x->dims[2 + d] > MAX_EXTENT, err, LIMIT, "%s: input of shape %s is too large", label,
                   ps_shape_text(x, text, sizeof text));
    }
    *ret_n = n;
    return PS_OK;
}

/* Everything but `out`; explicit pads as given. */
static ps_window start_window(const ps_node *node, const window_attrs *a, int n, int d, int64_t kernel) {
    return (ps_window) { .in = node->in[0]->shape.dims[2 + d],
                         .kernel = attr_at(a->kernel, (size_t)d, kernel),
                         .stride = attr_at(a->strides, (size_t)d, 1),
                         .dilation = attr_at(a->dilations, (size_t)d, 1),
                         .pad_begin = attr_at(a->pads, (size_t)d, 0),
                         .pad_end = attr_at(a->pads, (size_t)(n + d), 0) };
}

static ps_status check_auto_pad(const ps_node *node, const char *auto_pad, ps_error *err) {
    char label[160];
    static const char *const known[] = { "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID" };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(auto_pad, known[i]) == 0) return PS_OK;
    }
    return PS_FAIL(err, FORMAT, "%s: auto_pad is '%s', must be NOTSET, SAME_UPPER, SAME_LOWER or VALID",
                   ps_node_label(node, label, sizeof label), auto_pad);
}

static void split_pad(ps_window *w, int64_t total, bool upper) {
    if (total < 0) total = 0;
    w->pad_begin = upper ? total / 2 : total - total / 2;
    w->pad_end = total - w->pad_begin;
}

/* Output size of a forward window (convolution, pool); resolves auto_pad. */
static ps_status finish_window(const ps_node *node, const window_attrs *a, ps_window *w, ps_error *err) {
    char label[160];
    bool same = strncmp(a->auto_pad, "SAME", 4) == 0;
    PS_FAIL_IF(w->kernel > MAX_EXTENT / w->dilation, err, LIMIT, "%s: dilated kernel of %lld x %lld is too large",
               ps_node_label(node, label, sizeof label), (long long)w->kernel, (long long)w->dilation);
    int64_t extent = (w->kernel - 1) * w->dilation + 1;
    if (strcmp(a->auto_pad, "VALID") == 0) w->pad_begin = w->pad_end = 0;
    if (same) {
        w->out = (w->in + w->stride - 1) / w->stride;
        split_pad(w, (w->out - 1) * w->stride + extent - w->in, strcmp(a->auto_pad, "SAME_UPPER") == 0);
        return PS_OK;
    }
    int64_t room = w->in + w->pad_begin + w->pad_end - extent;
    PS_FAIL_IF(room < 0, err, SHAPE, "%s: a window of %lld does not fit into %lld padded elements",
               ps_node_label(node, label, sizeof label), (long long)extent, (long long)(room + extent));
    w->out = (a->ceil_mode ? (room + w->stride - 1) / w->stride : room / w->stride) + 1;
    /* A window that would start in the right padding is dropped. */
    if (a->ceil_mode && (w->out - 1) * w->stride >= w->in + w->pad_begin) w->out--;
    return PS_OK;
}

/* Kernel extents come from the weight [M, C/group, k...], which kernel_shape must repeat if it is given. */
static ps_status weight_kernel(const ps_node *node, ps_ints kernel_shape, int n, int64_t ret[PS_MAX_SPATIAL],
                               ps_error *err) {
    char label[160], text[96];
    const ps_shape *w = &node->in[1]->shape;
    ps_node_label(node, label, sizeof label);
    PS_FAIL_IF(w->rank != n + 2 || !spatial_fixed(w), err, SHAPE, "%s: weight of shape %s, must be of rank %d", label,
               ps_shape_text(w, text, sizeof text), n + 2);
    for (int d = 0; d < n; d++) {
        ret[d] = w->dims[2 + d];
        PS_FAIL_IF(ret[d] < 1 || ret[d] > MAX_EXTENT, err, SHAPE, "%s: weight of shape %s has an empty window", label,
                   ps_shape_text(w, text, sizeof text));
        PS_FAIL_IF((size_t)d < kernel_shape.n && kernel_shape.data[d] != ret[d], err, SHAPE,
                   "%s: kernel_shape[%d] is %lld, the weight has shape %s", label, d, (long long)kernel_shape.data[d],
                   ps_shape_text(w, text, sizeof text));
    }
    return PS_OK;
}

static window_attrs conv_attrs(const ps_conv_params *p) {
    return (window_attrs) { p->auto_pad, p->kernel_shape, p->strides, p->pads, p->dilations, false };
}

ps_status ps_conv_windows(const ps_node *node, ps_window ret[PS_MAX_SPATIAL], int *ret_n, ps_error *err) {
    window_attrs a = conv_attrs(node->params);
    int64_t kernel[PS_MAX_SPATIAL];
    PS_TRY(check_auto_pad(node, a.auto_pad, err));
    PS_TRY(spatial_dims(node, &a, ret_n, err));
    PS_TRY(weight_kernel(node, a.kernel, *ret_n, kernel, err));
    for (int d = 0; d < *ret_n; d++) {
        ret[d] = start_window(node, &a, *ret_n, d, kernel[d]);
        PS_TRY(finish_window(node, &a, &ret[d], err));
    }
    return PS_OK;
}

ps_status ps_qconv_windows(const ps_node *node, ps_window ret[PS_MAX_SPATIAL], int *ret_n, ps_error *err) {
    ps_value *in[2] = { node->in[PS_Q_X], node->in[PS_Q_W] };
    ps_node conv = *node; /* as its float form stands */
    conv.in = in;
    conv.n_in = 2;
    return ps_conv_windows(&conv, ret, ret_n, err);
}

ps_status ps_pool_windows(const ps_node *node, ps_window ret[PS_MAX_SPATIAL], int *ret_n, ps_error *err) {
    const ps_pool_params *p = node->params;
    window_attrs a = { p->auto_pad, p->kernel_shape, p->strides, p->pads, p->dilations, p->ceil_mode != 0 };
    char label[160];
    PS_TRY(check_auto_pad(node, a.auto_pad, err));
    PS_FAIL_IF(!a.kernel.n, err, FORMAT, "%s: attribute 'kernel_shape' is missing",
               ps_node_label(node, label, sizeof label));
    PS_TRY(spatial_dims(node, &a, ret_n, err));
    for (int d = 0; d < *ret_n; d++) {
        ret[d] = start_window(node, &a, *ret_n, d, 1);
        PS_TRY(finish_window(node, &a, &ret[d], err));
    }
    return PS_OK;
}

/* out = stride * (in - 1) + output_padding + dilated kernel - pads; output_shape or SAME_* determine the pads instead.
 */
static ps_status finish_deconv(const ps_node *node, const ps_conv_params *p, int n, int d, ps_window *w,
                               ps_error *err) {
    char label[160];
    int64_t extra = attr_at(p->output_padding, (size_t)d, 0);
    PS_FAIL_IF(w->kernel > MAX_EXTENT / w->dilation || (w->in && w->stride > MAX_EXTENT / w->in), err, LIMIT,
               "%s: the output is too large", ps_node_label(node, label, sizeof label));
    int64_t full = w->stride * (w->in - 1) + extra + (w->kernel - 1) * w->dilation + 1;
    bool same = strncmp(p->auto_pad, "SAME", 4) == 0;
    if (strcmp(p->auto_pad, "VALID") == 0) w->pad_begin = w->pad_end = 0;
    if (p->output_shape.n || same) {
        size_t at = p->output_shape.n == (size_t)n + 2 ? (size_t)d + 2 : (size_t)d;
        int64_t wanted = p->output_shape.n ? p->output_shape.data[at] : w->in * w->stride, total = full - wanted;
        /* The spec puts the odd element at the end for SAME_UPPER and at the beginning otherwise. SAME_* never pads by
         * less than nothing: a kernel shorter than the stride gives less than in * stride (ONNX's own shape inference).
         */
        split_pad(w, total, strcmp(p->auto_pad, "SAME_UPPER") == 0);
        if (total < 0 && p->output_shape.n) w->pad_end = total;
    }
    w->out = full - w->pad_begin - w->pad_end;
    PS_FAIL_IF(w->out < 0, err, SHAPE, "%s: pads of %lld and %lld exceed an output of %lld",
               ps_node_label(node, label, sizeof label), (long long)w->pad_begin, (long long)w->pad_end,
               (long long)full);
    return PS_OK;
}

ps_status ps_deconv_windows(const ps_node *node, ps_window ret[PS_MAX_SPATIAL], int *ret_n, ps_error *err) {
    const ps_conv_params *p = node->params;
    window_attrs a = conv_attrs(p);
    int64_t kernel[PS_MAX_SPATIAL];
    PS_TRY(check_auto_pad(node, a.auto_pad, err));
    PS_TRY(spatial_dims(node, &a, ret_n, err));
    PS_TRY(weight_kernel(node, a.kernel, *ret_n, kernel, err));
    size_t n = (size_t)*ret_n;
    PS_TRY(check_list(node, "output_padding", p->output_padding, n, 0, err));
    PS_TRY(check_list(node, "output_shape", p->output_shape, p->output_shape.n == n + 2 ? n + 2 : n, 0, err));
    for (int d = 0; d < *ret_n; d++) {
        ret[d] = start_window(node, &a, *ret_n, d, kernel[d]);
        PS_TRY(finish_deconv(node, p, *ret_n, d, &ret[d], err));
    }
    return PS_OK;
}

/* ---- resize ---- */

float ps_resize_source(const ps_resize_params *p, int64_t out_index, int64_t in_size, int64_t out_size, float scale,
                       float roi_start, float roi_end) {
    float x = (float)out_index;
    const char *mode = p->coordinate_transformation_mode;
    if (strcmp(mode, "asymmetric") == 0) return x / scale;
    if (strcmp(mode, "align_corners") == 0) {
        /* The length is what the scale asks for, not what is left of it in whole elements: the conformance suite has
         * it so at every opset. Where sizes were given both are the same but for rounding. */
        double length = (double)scale * (double)in_size;
        if (fabs(length - (double)out_size) < 1e-4) length = (double)out_size;
        return out_size == 1 ? 0 : (float)((double)x * (double)(in_size - 1) / (length - 1));
    }
    if (strcmp(mode, "pytorch_half_pixel") == 0) return out_size == 1 ? 0 : (x + 0.5f) / scale - 0.5f;
    if (strcmp(mode, "tf_half_pixel_for_nn") == 0) return (x + 0.5f) / scale;
    if (strcmp(mode, "tf_crop_and_resize") == 0) {
        float last = (float)(in_size - 1);
        return out_size == 1 ? 0.5f * (roi_start + roi_end) * last
                             : roi_start * last + x * (roi_end - roi_start) * last / (float)(out_size - 1);
    }
    if (strcmp(mode, "half_pixel_symmetric") == 0) {
        /* Shifts the samples so that rounding of the output size leaves both borders alike. */
        float adjust = (float)out_size / (scale * (float)in_size);
        float offset = 0.5f * (float)in_size * (1 - adjust);
        return offset + (x + 0.5f) / scale - 0.5f;
    }
    return (x + 0.5f) / scale - 0.5f; /* half_pixel */
}
