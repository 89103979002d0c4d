/* shape.c - operators that read or change only the shape: Reshape, Flatten, Squeeze, Unsqueeze, Shape, Size, Identity.
 *
 * Source: ONNX operator specs, ai.onnx opsets 1 to 23. */
#include "ops/move.h"
#include "ops/params.h"

/* ---- Reshape ---- */
typedef struct reshape_params {
    ps_ints shape; /* opset 1: the target is an attribute */
    int64_t allowzero;
} reshape_params;

static const ps_attr_def reshape1_attrs[] = { PS_A_INTS(reshape_params, shape), PS_ATTRS_END };
static const ps_attr_def reshape14_attrs[] = { PS_A_INT(reshape_params, allowzero, 0), PS_ATTRS_END };

/* Takes one dim equal to `dim` out of the list of those not yet matched. */
static bool cancel_dim(int64_t *dims, int *n, int64_t dim) {
    for (int i = 0; i < *n; i++) {
        if (dims[i] != dim) continue;
        dims[i] = dims[--*n];
        return true;
    }
    return false;
}

/* The dim that -1 stands for: product of the input's dims over product of the others. Dims that the target copies
 * cancel, so that an empty batch stays an empty batch, and so do symbols that stand on both sides. */
static ps_status reshape_rest(const ps_node *node, const ps_shape *in, ps_shape *out, int rest,
                              const bool copied[PS_MAX_RANK], ps_error *err) {
    out->dims[rest] = PS_DIM_UNKNOWN;
    if (in->rank < 0) return PS_OK;
    int64_t open[PS_MAX_RANK], have = 1, need = 1;
    int n_open = 0;
    bool too_large = false;
    for (int d = 0; d < in->rank; d++) {
        if (copied[d]) continue;
        if (in->dims[d] == PS_DIM_UNKNOWN) return PS_OK;
        if (in->dims[d] < 0)
            open[n_open++] = in->dims[d];
        else
            too_large |= __builtin_mul_overflow(have, in->dims[d], &have);
    }
    for (int d = 0; d < out->rank; d++) {
        if (d == rest || copied[d]) continue;
        if (out->dims[d] >= 0)
            too_large |= __builtin_mul_overflow(need, out->dims[d], &need);
        else if (!cancel_dim(open, &n_open, out->dims[d]))
            return PS_OK;
    }
    PS_FAIL_IF(too_large, err, LIMIT, "%s: the number of elements of %s or of %s does not fit", PS_LABEL(node),
               PS_SHAPE_TEXT(in), PS_SHAPE_TEXT(out));
    if (n_open == 1 && have == need && have != 0) out->dims[rest] = open[0];
    if (n_open > 0) return PS_OK;
    PS_FAIL_IF(need == 0 || have % need != 0, err, SHAPE, "%s: input %s cannot be divided into %s", PS_LABEL(node),
               PS_SHAPE_TEXT(in), PS_SHAPE_TEXT(out));
    out->dims[rest] = have / need;
    return PS_OK;
}

static ps_status reshape_target(const ps_facts *f, const int64_t *target, size_t n, ps_shape *out, ps_error *err) {
    const reshape_params *p = f->node->params;
    bool keep_zero = p && p->allowzero, copied[PS_MAX_RANK] = { false };
    ps_shape in = ps_facts_shape(f, 0);
    int rest = -1;
    out->rank = (int32_t)n;
    for (size_t d = 0; d < n; d++) {
        PS_FAIL_IF(target[d] < -1, err, SHAPE, "%s: target dim %lld is below -1", PS_LABEL(f->node),
                   (long long)target[d]);
        out->dims[d] = target[d];
        if (target[d] == -1) {
            PS_FAIL_IF(rest >= 0, err, SHAPE, "%s: the target has more than one -1", PS_LABEL(f->node));
            rest = (int)d;
        } else if (target[d] == 0 && !keep_zero) {
            PS_FAIL_IF(in.rank >= 0 && (int)d >= in.rank, err, SHAPE,
                       "%s: target dim %zu is 0 (copy) but the input is %s", PS_LABEL(f->node), d, PS_SHAPE_TEXT(&in));
            out->dims[d] = in.rank >= 0 ? in.dims[d] : PS_DIM_UNKNOWN;
            copied[d] = true;
        }
    }
    if (rest >= 0) PS_TRY(reshape_rest(f->node, &in, out, rest, copied, err));
    int64_t have, want;
    PS_FAIL_IF(ps_shape_fixed(out) && !ps_shape_elements(out, &want), err, LIMIT,
               "%s: output shape %s is too large to address", PS_LABEL(f->node), PS_SHAPE_TEXT(out));
    bool known = ps_shape_fixed(&in) && ps_shape_elements(&in, &have) && ps_shape_fixed(out);
    PS_FAIL_IF(known && have != want, err, SHAPE, "%s: input %s cannot be reshaped to %s: %lld elements against %lld",
               PS_LABEL(f->node), PS_SHAPE_TEXT(&in), PS_SHAPE_TEXT(out), (long long)have, (long long)want);
    return PS_OK;
}

static ps_status reshape_resolve(const ps_facts *f, ps_shape *out, ps_error *err) {
    const reshape_params *p = f->node->params;
    if (f->node->op->since < 5) {
        PS_FAIL_IF(p->shape.n > PS_MAX_RANK, err, LIMIT, "%s: target rank %zu is over %d", PS_LABEL(f->node),
                   p->shape.n, PS_MAX_RANK);
        return reshape_target(f, p->shape.data, p->shape.n, out, err);
    }
    int64_t target[PS_MAX_RANK];
    size_t n;
    bool known;
    PS_TRY(ps_facts_ints(f, 1, "the target shape", target, PS_MAX_RANK, &n, &known, err));
    if (known) return reshape_target(f, target, n, out, err);
    *out = ps_shape_unknown();
    int64_t length = ps_facts_length(f, 1);
    if (length < 0) return PS_OK;
    out->rank = (int32_t)length;
    for (int d = 0; d < out->rank; d++)
        out->dims[d] = PS_DIM_UNKNOWN;
    return PS_OK;
}

/* ---- Flatten ---- */
static const ps_attr_def flatten_attrs[] = { PS_A_INT(ps_axis_params, axis, 1), PS_ATTRS_END };

/* Product of dims [from, to), unknown unless all are fixed; one symbol among ones stays itself. */
static ps_status flat_dim(const ps_node *node, const ps_shape *s, int from, int to, int64_t *ret, ps_error *err) {
    int64_t product = 1, symbol = 0;
    int n_open = 0;
    for (int d = from; d < to; d++) {
        if (s->dims[d] < 0) {
            symbol = s->dims[d];
            n_open++;
            continue;
        }
        PS_FAIL_IF(__builtin_mul_overflow(product, s->dims[d], &product), err, LIMIT,
                   "%s: the elements of %s do not fit", PS_LABEL(node), PS_SHAPE_TEXT(s));
    }
    *ret = n_open == 0 ? product : n_open == 1 && product == 1 ? symbol : PS_DIM_UNKNOWN;
    return PS_OK;
}

static ps_status flatten_resolve(const ps_facts *f, ps_shape *out, ps_error *err) {
    const ps_axis_params *p = f->node->params;
    ps_shape in = ps_facts_shape(f, 0);
    *out = (ps_shape) { 2, { PS_DIM_UNKNOWN, PS_DIM_UNKNOWN } };
    if (in.rank < 0) return PS_OK;
    int64_t axis = p->axis < 0 ? p->axis + in.rank : p->axis;
    PS_FAIL_IF(axis < 0 || axis > in.rank, err, SHAPE, "%s: axis %lld is outside [-%d, %d]", PS_LABEL(f->node),
               (long long)p->axis, in.rank, in.rank);
    PS_TRY(flat_dim(f->node, &in, 0, (int)axis, &out->dims[0], err));
    return flat_dim(f->node, &in, (int)axis, in.rank, &out->dims[1], err);
}

/* ---- Squeeze, Unsqueeze ---- */
typedef struct axes_params {
    ps_ints axes; /* before opset 13 */
} axes_params;

static const ps_attr_def axes_attrs[] = { PS_A_INTS(axes_params, axes), PS_ATTRS_END };

/* Since 13, and in com.microsoft's ExpandDims. */
static bool axes_are_input(const ps_node *node) {
    return node->op->since >= 13 || node->op->domain[0];
}

/* Axes from the attribute or the input. *ret_known is false if they depend on data that is not constant; *ret_given
 * tells whether there are any. */
static ps_status axes_list(const ps_facts *f, int64_t axes[PS_MAX_RANK], size_t *ret_n, bool *ret_given,
                           bool *ret_known, ps_error *err) {
    *ret_n = 0;
    if (axes_are_input(f->node)) {
        *ret_given = ps_facts_has(f, 1);
        PS_TRY(ps_facts_ints(f, 1, "axes", axes, PS_MAX_RANK, ret_n, ret_known, err));
        *ret_known |= !*ret_given;
        return PS_OK;
    }
    const axes_params *p = f->node->params;
    PS_FAIL_IF(p->axes.n > PS_MAX_RANK, err, LIMIT, "%s: %zu axes are more than %d", PS_LABEL(f->node), p->axes.n,
               PS_MAX_RANK);
    *ret_n = p->axes.n;
    *ret_given = p->axes.n > 0;
    *ret_known = true;
    if (p->axes.n) memcpy(axes, p->axes.data, p->axes.n * sizeof *axes);
    return PS_OK;
}

static ps_status squeeze_resolve(const ps_facts *f, ps_shape *out, ps_error *err) {
    int64_t axes[PS_MAX_RANK];
    size_t n;
    bool given = false, known = false, drop[PS_MAX_RANK] = { false };
    PS_TRY(axes_list(f, axes, &n, &given, &known, err));
    ps_shape in = ps_facts_shape(f, 0);
    *out = ps_shape_unknown();
    if (in.rank < 0 || !known) return PS_OK;
    if (given) PS_TRY(ps_axes_mark(f->node, axes, n, in.rank, drop, err));
    ps_shape r = { 0, { 0 } };
    for (int d = 0; d < in.rank; d++) {
        if (!given && in.dims[d] < 0) return PS_OK; /* whether it is 1 is not known: neither is the rank */
        if (!given) drop[d] = in.dims[d] == 1;
        PS_FAIL_IF(drop[d] && in.dims[d] >= 0 && in.dims[d] != 1, err, SHAPE,
                   "%s: axis %d of %s has %lld elements, only 1 can be squeezed", PS_LABEL(f->node), d,
                   PS_SHAPE_TEXT(&in), (long long)in.dims[d]);
        if (!drop[d]) r.dims[r.rank++] = in.dims[d];
    }
    *out = r;
    return PS_OK;
}

static ps_status unsqueeze_resolve(const ps_facts *f, ps_shape *out, ps_error *err) {
    int64_t axes[PS_MAX_RANK];
    size_t n;
    bool given = false, known = false, fresh[PS_MAX_RANK] = { false };
    PS_TRY(axes_list(f, axes, &n, &given, &known, err));
    PS_FAIL_IF(!given && axes_are_input(f->node), err, INVALID, "%s: the input axes is missing", PS_LABEL(f->node));
    ps_shape in = ps_facts_shape(f, 0);
    *out = ps_shape_unknown();
    int64_t count = known ? (int64_t)n : ps_facts_length(f, 1);
    if (in.rank < 0 || count < 0) return PS_OK;
    PS_FAIL_IF(in.rank + count > PS_MAX_RANK, err, LIMIT, "%s: output rank %lld is over %d", PS_LABEL(f->node),
               (long long)(in.rank + count), PS_MAX_RANK);
    out->rank = in.rank + (int32_t)count;
    if (known) PS_TRY(ps_axes_mark(f->node, axes, n, out->rank, fresh, err));
    for (int d = 0, from = 0; d < out->rank; d++)
        out->dims[d] = !known ? PS_DIM_UNKNOWN : fresh[d] ? 1 : in.dims[from++];
    return PS_OK;
}

/* ---- all views ---- */
typedef ps_status (*view_fn)(const ps_facts *f, ps_shape *out, ps_error *err);

static ps_status infer_view(const ps_node *node, view_fn resolve, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_shape out;
    PS_TRY(resolve(&f, &out, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

static ps_status run_view(const ps_kernel_ctx *ctx, view_fn resolve, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    ps_shape out;
    PS_TRY(resolve(&f, &out, err));
    return ps_move_view(ctx, &out, err);
}

#define VIEW(name)                                                                                                     \
    static ps_status name##_infer(const ps_node *node, ps_error *err) {                                                \
        return infer_view(node, name##_resolve, err);                                                                  \
    }                                                                                                                  \
    static ps_status name##_ref(const ps_kernel_ctx *ctx, ps_error *err) {                                             \
        return run_view(ctx, name##_resolve, err);                                                                     \
    }

VIEW(reshape)
VIEW(flatten)
VIEW(squeeze)
VIEW(unsqueeze)

static ps_status identity_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return ps_move_view(ctx, &ctx->in[0]->shape, err);
}

/* ---- Shape, Size ---- */
typedef struct shape_params {
    int64_t start, end;
} shape_params;

static const ps_attr_def shape15_attrs[] = { PS_A_INT(shape_params, start, 0), PS_A_INT(shape_params, end, INT64_MAX),
                                             PS_ATTRS_END };

static int clamp_axis(int64_t axis, int rank) {
    if (axis < 0) axis = axis < -rank ? 0 : axis + rank;
    return axis > rank ? rank : (int)axis;
}

static void shape_range(const ps_node *node, int rank, int *from, int *to) {
    const shape_params *p = node->params;
    *from = p ? clamp_axis(p->start, rank) : 0;
    *to = p ? clamp_axis(p->end, rank) : rank;
    if (*to < *from) *to = *from;
}

static ps_status shape_infer(const ps_node *node, ps_error *err) {
    const ps_shape *in = &node->in[0]->shape;
    ps_shape out = { 1, { PS_DIM_UNKNOWN } };
    if (in->rank >= 0) {
        int from, to;
        shape_range(node, in->rank, &from, &to);
        out.dims[0] = to - from;
    }
    ps_infer_set(node, 0, PS_DTYPE_I64, &out);
    return PS_OK;
}

static ps_status shape_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_shape *in = &ctx->in[0]->shape;
    int from, to;
    shape_range(ctx->node, in->rank, &from, &to);
    ps_shape out = { 1, { to - from } };
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_I64, &out, err));
    if (to > from) memcpy(ctx->out[0]->data, in->dims + from, (size_t)(to - from) * sizeof(int64_t));
    return PS_OK;
}

static ps_status size_infer(const ps_node *node, ps_error *err) {
    ps_shape scalar = { 0, { 0 } };
    ps_infer_set(node, 0, PS_DTYPE_I64, &scalar);
    return PS_OK;
}

static ps_status size_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_shape scalar = { 0, { 0 } };
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_I64, &scalar, err));
    *(int64_t *)ctx->out[0]->data = (int64_t)ps_tensor_count(ctx->in[0]);
    return PS_OK;
}

static const ps_op ops[] = {
    { "Reshape", "", 1, 1, 1, 1, 1, reshape1_attrs, sizeof(reshape_params), reshape_infer, reshape_ref, PS_OP_VIEW },
    { "Reshape", "", 5, 2, 2, 1, 1, NULL, 0, reshape_infer, reshape_ref, PS_OP_VIEW },
    { "Reshape", "", 14, 2, 2, 1, 1, reshape14_attrs, sizeof(reshape_params), reshape_infer, reshape_ref, PS_OP_VIEW },
    { "Flatten", "", 1, 1, 1, 1, 1, flatten_attrs, sizeof(ps_axis_params), flatten_infer, flatten_ref, PS_OP_VIEW },
    { "Squeeze", "", 1, 1, 1, 1, 1, axes_attrs, sizeof(axes_params), squeeze_infer, squeeze_ref, PS_OP_VIEW },
    { "Squeeze", "", 13, 1, 2, 1, 1, NULL, 0, squeeze_infer, squeeze_ref, PS_OP_VIEW },
    { "Unsqueeze", "", 1, 1, 1, 1, 1, axes_attrs, sizeof(axes_params), unsqueeze_infer, unsqueeze_ref, PS_OP_VIEW },
    { "Unsqueeze", "", 13, 2, 2, 1, 1, NULL, 0, unsqueeze_infer, unsqueeze_ref, PS_OP_VIEW },
    { "ExpandDims", "com.microsoft", 1, 2, 2, 1, 1, NULL, 0, unsqueeze_infer, unsqueeze_ref, PS_OP_VIEW },
    { "Identity", "", 1, 1, 1, 1, 1, NULL, 0, ps_infer_same, identity_ref, PS_OP_VIEW | PS_OP_CONTAINERS },
    { "Shape", "", 1, 1, 1, 1, 1, NULL, 0, shape_infer, shape_ref, PS_OP_SHAPE_ONLY },
    { "Shape", "", 15, 1, 1, 1, 1, shape15_attrs, sizeof(shape_params), shape_infer, shape_ref, PS_OP_SHAPE_ONLY },
    { "Size", "", 1, 1, 1, 1, 1, NULL, 0, size_infer, size_ref, PS_OP_SHAPE_ONLY },
};

const ps_op_family ps_ops_shape = PS_OP_FAMILY("shape", ops);
