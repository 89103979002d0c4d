/* sequence.c - operators on sequences of tensors.
 *
 * A sequence is a tensor of rank 1 whose elements are tensors (polestar/tensor.h). Elements are never written to, so
 * sequences share them: inserting into a sequence of n elements copies one tensor and n references.
 *
 * Source: ONNX operator specs SequenceConstruct … ConcatFromSequence (opset 11), SplitToSequence (11, 24). */
#include "ops/kernel_util.h"
#include "ops/move.h"
#include "ops/params.h"

static ps_status check_sequence(const ps_node *node, size_t i, ps_error *err) {
    ps_dtype t = node->in[i]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_SEQUENCE, node, err, TYPE,
                    "input %zu is %s, a sequence is needed", i, ps_dtype_name(t));
    return PS_OK;
}

/* Type of the elements of a sequence. A container says nothing: these operators are for tensors, and a value that was
 * an optional of a sequence in one iteration of a loop may be the sequence itself in the next. */
static ps_dtype known_elem(const ps_node *node, size_t i) {
    ps_dtype t = node->in[i]->elem;
    return ps_dtype_is_container(t) ? PS_DTYPE_UNDEFINED : t;
}

/* Number of elements of a sequence that is an input, or -1. */
static int64_t known_length(const ps_node *node, size_t i) {
    const ps_shape *s = &node->in[i]->shape;
    return s->rank == 1 && s->dims[0] >= 0 ? s->dims[0] : -1;
}

static ps_status check_position(const ps_node *node, size_t i, ps_error *err) {
    if (!ps_has_in(node, i)) return PS_OK;
    ps_dtype t = node->in[i]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_I32 && t != PS_DTYPE_I64, node, err, TYPE,
                    "the position is %s, i32 or i64 is needed", ps_dtype_name(t));
    return PS_OK;
}

/* The position that input i gives among `places`, negative ones counted from the end; `otherwise` if it is omitted. */
static ps_status position(const ps_kernel_ctx *ctx, size_t i, int64_t places, int64_t otherwise, int64_t *ret,
                          ps_error *err) {
    const ps_tensor *t = i < ctx->n_in ? ctx->in[i] : NULL;
    int64_t at = otherwise;
    size_t n = 1;
    PS_NODE_FAIL_IF(t && (!ps_tensor_get_ints(t, &at, 1, &n) || n != 1), ctx->node, err, INVALID,
                    "the position is not one integer");
    PS_NODE_FAIL_IF(at < -places || at >= places, ctx->node, err, INVALID, "position %lld is outside [-%lld, %lld)",
                    (long long)at, (long long)places, (long long)places);
    *ret = at < 0 ? at + places : at;
    return PS_OK;
}

static ps_status new_sequence(const ps_kernel_ctx *ctx, int64_t n, ps_error *err) {
    ps_shape shape = { 1, { n } };
    return ps_move_output(ctx, 0, PS_DTYPE_SEQUENCE, &shape, err);
}

/* Elements [from, to) of the first input become elements of the output from `place` on. */
static ps_status share(const ps_kernel_ctx *ctx, int64_t from, int64_t to, int64_t place, ps_error *err) {
    for (int64_t k = from; k < to; k++) {
        const ps_tensor *e = ps_tensor_element(ctx->in[0], (size_t)k);
        PS_NODE_FAIL_IF(!e, ctx->node, err, INVALID, "element %lld of the sequence is missing", (long long)k);
        PS_TRY(ps_move_element(ctx, ctx->out[0], (size_t)(place + k - from), e, true, err));
    }
    return PS_OK;
}

/* ---- SequenceEmpty, SequenceConstruct ---- */
typedef struct empty_params {
    int64_t dtype;
} empty_params;

static const ps_attr_def empty_attrs[] = { PS_A_INT(empty_params, dtype, PS_DTYPE_F32), PS_ATTRS_END };

static ps_status empty_infer(const ps_node *node, ps_error *err) {
    int64_t t = ((const empty_params *)node->params)->dtype;
    PS_NODE_FAIL_IF(t < 0 || t > INT32_MAX || !ps_dtype_valid((int)t), node, err, FORMAT,
                    "dtype is %lld, which is no element type", (long long)t);
    ps_infer_container(node, 0, PS_DTYPE_SEQUENCE, (ps_dtype)t, 0);
    return PS_OK;
}

static ps_status empty_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return new_sequence(ctx, 0, err);
}

static ps_status construct_infer(const ps_node *node, ps_error *err) {
    ps_dtype elem = PS_DTYPE_UNDEFINED;
    for (uint32_t i = 0; i < node->n_in; i++) {
        PS_NODE_FAIL_IF(!node->in[i], node, err, FORMAT, "input %u is missing", i);
        PS_TRY(ps_check_same_type(node, i, 0, err));
        if (elem == PS_DTYPE_UNDEFINED) elem = node->in[i]->dtype;
    }
    ps_infer_container(node, 0, PS_DTYPE_SEQUENCE, elem, node->n_in);
    return PS_OK;
}

static ps_status construct_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    PS_TRY(new_sequence(ctx, (int64_t)ctx->n_in, err));
    for (size_t k = 0; k < ctx->n_in; k++)
        PS_TRY(ps_move_element(ctx, ctx->out[0], k, ctx->in[k], false, err));
    return PS_OK;
}

/* ---- SequenceLength, SequenceAt ---- */
static ps_status length_infer(const ps_node *node, ps_error *err) {
    ps_shape scalar = { 0 };
    PS_TRY(check_sequence(node, 0, err));
    ps_infer_set(node, 0, PS_DTYPE_I64, &scalar);
    return PS_OK;
}

static ps_status length_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    *(int64_t *)ctx->out[0]->data = (int64_t)ps_tensor_count(ctx->in[0]);
    return PS_OK;
}

static ps_status at_infer(const ps_node *node, ps_error *err) {
    ps_shape unknown = ps_shape_unknown();
    PS_TRY(check_sequence(node, 0, err));
    PS_TRY(check_position(node, 1, err));
    ps_infer_set(node, 0, known_elem(node, 0), &unknown);
    return PS_OK;
}

static ps_status at_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    int64_t at;
    PS_TRY(position(ctx, 1, (int64_t)ps_tensor_count(ctx->in[0]), 0, &at, err));
    const ps_tensor *e = ps_tensor_element(ctx->in[0], (size_t)at);
    PS_NODE_FAIL_IF(!e, ctx->node, err, INVALID, "element %lld of the sequence is missing", (long long)at);
    return ps_move_tensor(ctx, 0, e, err);
}

/* ---- SequenceInsert, SequenceErase ---- */
static ps_status insert_infer(const ps_node *node, ps_error *err) {
    ps_dtype elem = known_elem(node, 0), t = node->in[1]->dtype;
    int64_t n = known_length(node, 0);
    PS_TRY(check_sequence(node, 0, err));
    PS_TRY(check_position(node, 2, err));
    PS_NODE_FAIL_IF(elem != t && elem != PS_DTYPE_UNDEFINED && t != PS_DTYPE_UNDEFINED, node, err, TYPE,
                    "a tensor of %s is inserted into a sequence of %s", ps_dtype_name(t), ps_dtype_name(elem));
    ps_infer_container(node, 0, PS_DTYPE_SEQUENCE, elem != PS_DTYPE_UNDEFINED ? elem : t,
                       n >= 0 && n < INT64_MAX ? n + 1 : -1);
    return PS_OK;
}

static ps_status insert_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    int64_t n = (int64_t)ps_tensor_count(ctx->in[0]), at;
    const ps_tensor *first = ps_tensor_element(ctx->in[0], 0);
    PS_NODE_FAIL_IF(first && first->dtype != ctx->in[1]->dtype, ctx->node, err, TYPE,
                    "a tensor of %s is inserted into a sequence of %s", ps_dtype_name(ctx->in[1]->dtype),
                    ps_dtype_name(first->dtype));
    /* Behind the last element is a place too; -1 stands before the last element, not behind it. */
    const ps_tensor *given = ctx->n_in > 2 ? ctx->in[2] : NULL;
    double value = 0;
    bool negative = given && ps_tensor_get_double(given, 0, &value) && value < 0;
    PS_TRY(position(ctx, 2, negative ? n : n + 1, n, &at, err));
    PS_TRY(new_sequence(ctx, n + 1, err));
    PS_TRY(share(ctx, 0, at, 0, err));
    PS_TRY(ps_move_element(ctx, ctx->out[0], (size_t)at, ctx->in[1], false, err));
    return share(ctx, at, n, at + 1, err);
}

static ps_status erase_infer(const ps_node *node, ps_error *err) {
    int64_t n = known_length(node, 0);
    PS_TRY(check_sequence(node, 0, err));
    PS_TRY(check_position(node, 1, err));
    ps_infer_container(node, 0, PS_DTYPE_SEQUENCE, known_elem(node, 0), n > 0 ? n - 1 : -1);
    return PS_OK;
}

static ps_status erase_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    int64_t n = (int64_t)ps_tensor_count(ctx->in[0]), at;
    PS_TRY(position(ctx, 1, n, n - 1, &at, err));
    PS_TRY(new_sequence(ctx, n - 1, err));
    PS_TRY(share(ctx, 0, at, 0, err));
    return share(ctx, at + 1, n, at, err);
}

/* ---- SplitToSequence ---- */
typedef struct split_params {
    int64_t axis, keepdims;
} split_params;

static const ps_attr_def split_attrs[] = { PS_A_INT(split_params, axis, 0), PS_A_INT(split_params, keepdims, 1),
                                           PS_ATTRS_END };

static ps_status split_infer(const ps_node *node, ps_error *err) {
    const split_params *p = node->params;
    const ps_value *in = node->in[0];
    int axis;
    int64_t n = -1;
    PS_TRY(check_position(node, 1, err));
    if (in->shape.rank >= 0) {
        PS_TRY(ps_axis_check(node, p->axis, in->shape.rank, &axis, err));
        if (!ps_has_in(node, 1)) n = in->shape.dims[axis];
    }
    if (ps_has_in(node, 1) && node->in[1]->shape.rank == 1) n = node->in[1]->shape.dims[0];
    ps_infer_container(node, 0, PS_DTYPE_SEQUENCE, in->dtype, n);
    return PS_OK;
}

typedef struct split_plan {
    int axis;
    bool keep;
    int64_t n, each; /* pieces, and the extent of each if `sizes` is NULL */
    int64_t *sizes;  /* n of them */
} split_plan;

static ps_status split_sizes(const ps_kernel_ctx *ctx, int64_t extent, split_plan *plan, ps_error *err) {
    const ps_tensor *split = ctx->in[1];
    size_t n = ps_tensor_count(split);
    int64_t sum = 0;
    plan->sizes = ps_alloc_array(ctx->alloc, n, sizeof *plan->sizes);
    if (!plan->sizes) return PS_FAIL_NOMEM(err, "the sizes of SplitToSequence");
    PS_NODE_FAIL_IF(!ps_tensor_get_ints(split, plan->sizes, n, &n), ctx->node, err, TYPE, "split is no integer list");
    for (size_t k = 0; k < n; k++)
        PS_NODE_FAIL_IF(plan->sizes[k] < 0 || __builtin_add_overflow(sum, plan->sizes[k], &sum), ctx->node, err,
                        INVALID, "size %lld of piece %zu is negative or too large", (long long)plan->sizes[k], k);
    PS_NODE_FAIL_IF(sum != extent, ctx->node, err, SHAPE, "the sizes add up to %lld, the axis has %lld", (long long)sum,
                    (long long)extent);
    plan->n = (int64_t)n;
    return PS_OK;
}

static ps_status split_plan_make(const ps_kernel_ctx *ctx, split_plan *plan, ps_error *err) {
    const split_params *p = ctx->params;
    const ps_tensor *split = ctx->n_in > 1 ? ctx->in[1] : NULL;
    size_t one = 1;
    PS_TRY(ps_axis_check(ctx->node, p->axis, ctx->in[0]->shape.rank, &plan->axis, err));
    int64_t extent = ctx->in[0]->shape.dims[plan->axis];
    plan->keep = split || p->keepdims;
    plan->each = 1;
    if (split && split->shape.rank > 0) return split_sizes(ctx, extent, plan, err);
    PS_NODE_FAIL_IF(split && (!ps_tensor_get_ints(split, &plan->each, 1, &one) || plan->each < 1), ctx->node, err,
                    INVALID, "split is not a positive integer");
    plan->n = extent / plan->each + (extent % plan->each != 0);
    return PS_OK;
}

/* Extent [first, first + extent) along the axis as a tensor of its own. */
static ps_status split_piece(const ps_kernel_ctx *ctx, const split_plan *plan, int64_t first, int64_t extent,
                             ps_tensor **ret, ps_error *err) {
    const ps_tensor *in = ctx->in[0];
    ps_shape whole = in->shape, shape = whole;
    int64_t outer = ps_shape_product(&whole, 0, plan->axis);
    int64_t inner = ps_shape_product(&whole, plan->axis + 1, whole.rank), step = whole.dims[plan->axis] * inner;
    shape.dims[plan->axis] = extent;
    if (!plan->keep) {
        for (int d = plan->axis; d + 1 < shape.rank; d++)
            shape.dims[d] = shape.dims[d + 1];
        shape.rank--;
    }
    PS_TRY(ps_tensor_new(ctx->alloc, in->dtype, &shape, ret, err));
    for (int64_t o = 0; o < outer; o++)
        PS_TRY(ps_move_run(*ret, o * extent * inner, in, o * step + first * inner, extent * inner, err));
    return PS_OK;
}

static ps_status split_run(const ps_kernel_ctx *ctx, const split_plan *plan, ps_error *err) {
    const ps_tensor *in = ctx->in[0];
    int64_t left = in->shape.dims[plan->axis], first = 0;
    PS_NODE_FAIL_IF(ps_dtype_size(in->dtype) == 0, ctx->node, err, UNSUPPORTED,
                    "element type %s is packed below one byte and cannot be split", ps_dtype_name(in->dtype));
    PS_TRY(new_sequence(ctx, plan->n, err));
    for (int64_t k = 0; k < plan->n; k++) {
        int64_t extent = plan->sizes ? plan->sizes[k] : left < plan->each ? left : plan->each;
        ps_tensor *piece = NULL;
        ps_status status = split_piece(ctx, plan, first, extent, &piece, err);
        if (status == PS_OK) status = ps_container_take(ctx->out[0], (size_t)k, piece, err);
        if (status != PS_OK) {
            ps_tensor_release(piece);
            return status;
        }
        first += extent;
        left -= extent;
    }
    return PS_OK;
}

static ps_status split_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    split_plan plan = { 0 };
    ps_status status = split_plan_make(ctx, &plan, err);
    if (status == PS_OK) status = split_run(ctx, &plan, err);
    ps_free(ctx->alloc, plan.sizes);
    return status;
}

/* ---- ConcatFromSequence ---- */
typedef struct concat_params {
    int64_t axis, new_axis;
} concat_params;

static const ps_attr_def concat_attrs[] = { PS_A_INT_REQ(concat_params, axis), PS_A_INT(concat_params, new_axis, 0),
                                            PS_ATTRS_END };

static ps_status concat_infer(const ps_node *node, ps_error *err) {
    ps_shape unknown = ps_shape_unknown();
    PS_TRY(check_sequence(node, 0, err));
    ps_infer_set(node, 0, known_elem(node, 0), &unknown);
    return PS_OK;
}

/* One more element joins the shape; with new_axis all must be equal. */
static ps_status concat_join(const ps_kernel_ctx *ctx, ps_shape *sum, const ps_tensor *e, int axis, size_t k,
                             ps_error *err) {
    bool stack = ((const concat_params *)ctx->params)->new_axis != 0, same = e->shape.rank == sum->rank;
    for (int d = 0; same && d < sum->rank; d++)
        same = (d == axis && !stack) || e->shape.dims[d] == sum->dims[d];
    PS_NODE_FAIL_IF(!same, ctx->node, err, SHAPE,
                    "element %zu is %s and does not fit the ones before, %s, along axis %d", k,
                    PS_SHAPE_TEXT(&e->shape), PS_SHAPE_TEXT(sum), axis);
    PS_NODE_FAIL_IF(!stack && __builtin_add_overflow(sum->dims[axis], e->shape.dims[axis], &sum->dims[axis]), ctx->node,
                    err, LIMIT, "axis %d overflows at element %zu", axis, k);
    return PS_OK;
}

static ps_status concat_shape(const ps_kernel_ctx *ctx, ps_shape *ret, int *axis, ps_error *err) {
    const concat_params *p = ctx->params;
    size_t n = ps_tensor_count(ctx->in[0]);
    const ps_tensor *first = ps_tensor_element(ctx->in[0], 0);
    PS_NODE_FAIL_IF(!first, ctx->node, err, INVALID, "the sequence is empty");
    PS_NODE_FAIL_IF(first->shape.rank + (p->new_axis != 0) > PS_MAX_RANK, ctx->node, err, LIMIT,
                    "the result has rank %d, over %d", first->shape.rank + 1, PS_MAX_RANK);
    PS_NODE_FAIL_IF(ps_dtype_size(first->dtype) == 0 || ps_dtype_is_container(first->dtype), ctx->node, err,
                    UNSUPPORTED, "elements of type %s cannot be joined", ps_dtype_name(first->dtype));
    ps_shape shape = first->shape;
    PS_TRY(ps_axis_check(ctx->node, p->axis, shape.rank + (p->new_axis != 0), axis, err));
    for (size_t k = 1; k < n; k++) {
        const ps_tensor *e = ps_tensor_element(ctx->in[0], k);
        PS_NODE_FAIL_IF(!e || e->dtype != first->dtype, ctx->node, err, TYPE,
                        "element %zu is missing or not of type %s", k, ps_dtype_name(first->dtype));
        PS_TRY(concat_join(ctx, &shape, e, *axis, k, err));
    }
    if (p->new_axis) {
        for (int d = shape.rank; d > *axis; d--)
            shape.dims[d] = shape.dims[d - 1];
        shape.dims[*axis] = (int64_t)n;
        shape.rank++;
    }
    *ret = shape;
    return PS_OK;
}

static ps_status concat_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    bool stack = ((const concat_params *)ctx->params)->new_axis != 0;
    ps_shape shape;
    int axis;
    PS_TRY(concat_shape(ctx, &shape, &axis, err));
    PS_TRY(ps_move_output(ctx, 0, ps_tensor_element(ctx->in[0], 0)->dtype, &shape, err));
    int64_t outer = ps_shape_product(&shape, 0, axis), inner = ps_shape_product(&shape, axis + 1, shape.rank);
    int64_t step = shape.dims[axis] * inner, at = 0;
    for (size_t k = 0, n = ps_tensor_count(ctx->in[0]); k < n; k++) {
        const ps_tensor *e = ps_tensor_element(ctx->in[0], k);
        int64_t run = (stack ? 1 : e->shape.dims[axis]) * inner;
        for (int64_t o = 0; o < outer; o++)
            PS_TRY(ps_move_run(ctx->out[0], o * step + at, e, o * run, run, err));
        at += run;
    }
    return PS_OK;
}

#define DATA PS_OP_DATA_SHAPE
#define BOTH (PS_OP_CONTAINERS | PS_OP_DATA_SHAPE)

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits */
    { "SequenceEmpty", "", 11, 0, 0, 1, 1, empty_attrs, sizeof(empty_params), empty_infer, empty_ref, 0 },
    { "SequenceConstruct", "", 11, 1, PS_VARIADIC, 1, 1, NULL, 0, construct_infer, construct_ref, 0 },
    { "SequenceLength", "", 11, 1, 1, 1, 1, NULL, 0, length_infer, length_ref, PS_OP_CONTAINERS },
    { "SequenceAt", "", 11, 2, 2, 1, 1, NULL, 0, at_infer, at_ref, BOTH },
    { "SequenceInsert", "", 11, 2, 3, 1, 1, NULL, 0, insert_infer, insert_ref, BOTH },
    { "SequenceErase", "", 11, 1, 2, 1, 1, NULL, 0, erase_infer, erase_ref, BOTH },
    { "SplitToSequence", "", 11, 1, 2, 1, 1, split_attrs, sizeof(split_params), split_infer, split_ref, DATA },
    { "ConcatFromSequence", "", 11, 1, 1, 1, 1, concat_attrs, sizeof(concat_params), concat_infer, concat_ref, BOTH },
};

const ps_op_family ps_ops_sequence = PS_OP_FAMILY("sequence", ops);
