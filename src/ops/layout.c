/* layout.c - operators that put elements somewhere else by a rule on indices: Transpose, Concat, Split, Slice, Expand,
 * Tile, DepthToSpace, SpaceToDepth, Trilu. (Pad is in pad.c, indices that are data in gather.c.)
 *
 * Source: ONNX operator specs, ai.onnx opsets 1 to 23. */
#include "ops/kernel_util.h"
#include "ops/move.h"
#include "ops/params.h"

enum { MAX_PARTS = 1024 }; /* of one Split whose sizes are listed */

/* ---- Transpose ---- */
static const ps_attr_def transpose_attrs[] = { PS_A_INTS(ps_transpose_params, perm), PS_ATTRS_END };

static ps_status transpose_perm(const ps_node *node, int rank, int perm[PS_MAX_RANK], ps_error *err) {
    const ps_transpose_params *p = node->params;
    bool seen[PS_MAX_RANK] = { false };
    if (p->perm.n == 0)
        for (int d = 0; d < rank; d++)
            perm[d] = rank - 1 - d;
    if (p->perm.n == 0) return PS_OK;
    PS_FAIL_IF(p->perm.n != (size_t)rank, err, SHAPE, "%s: perm has %zu entries, the input %d dims", PS_LABEL(node),
               p->perm.n, rank);
    PS_TRY(ps_axes_mark(node, p->perm.data, p->perm.n, rank, seen, err));
    for (int d = 0; d < rank; d++)
        ps_axis_normalize(p->perm.data[d], rank, &perm[d]);
    return PS_OK;
}

static ps_status transpose_infer(const ps_node *node, ps_error *err) {
    const ps_transpose_params *p = node->params;
    const ps_shape *in = &node->in[0]->shape;
    ps_shape out = ps_shape_unknown();
    int perm[PS_MAX_RANK];
    if (in->rank >= 0) {
        PS_TRY(transpose_perm(node, in->rank, perm, err));
        out.rank = in->rank;
        for (int d = 0; d < in->rank; d++)
            out.dims[d] = in->dims[perm[d]];
    } else if (p->perm.n > 0 && p->perm.n <= PS_MAX_RANK) {
        out.rank = (int32_t)p->perm.n;
        for (int d = 0; d < out.rank; d++)
            out.dims[d] = PS_DIM_UNKNOWN;
    }
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

static ps_status transpose_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, transpose_ref, err);
    const ps_tensor *in = ctx->in[0];
    int perm[PS_MAX_RANK];
    PS_TRY(transpose_perm(ctx->node, in->shape.rank, perm, err));
    ps_shape out = in->shape;
    int64_t src[PS_MAX_RANK], dst[PS_MAX_RANK];
    for (int d = 0; d < out.rank; d++)
        out.dims[d] = in->shape.dims[perm[d]];
    ps_shape_strides(&in->shape, src);
    ps_shape_strides(&out, dst);
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &out, &m, err));
    ps_walk walk = { .rank = 0 };
    for (int d = 0; d < out.rank; d++)
        ps_walk_add(&walk, out.dims[d], dst[d], src[perm[d]]);
    ps_walk_copy(&walk, m.size, m.dst, in->data, ctx->threads);
    return ps_move_end(&m, PS_OK, err);
}

/* ---- Concat ---- */
static const ps_attr_def concat1_attrs[] = { PS_A_INT(ps_axis_params, axis, 1), PS_ATTRS_END };
static const ps_attr_def concat4_attrs[] = { PS_A_INT_REQ(ps_axis_params, axis), PS_ATTRS_END };

/* One more input joins: dims off the axis must agree, the axis adds up (unknown as soon as one part is). */
static ps_status concat_join(const ps_node *node, ps_shape *out, const ps_shape *in, int axis, size_t i,
                             ps_error *err) {
    PS_FAIL_IF(in->rank != out->rank, err, SHAPE, "%s: input %zu has rank %d, the ones before %d", PS_LABEL(node), i,
               in->rank, out->rank);
    for (int d = 0; d < out->rank; d++) {
        int64_t a = out->dims[d], b = in->dims[d];
        if (d == axis) {
            bool zero_plus = a == 0, plus_zero = b == 0;
            if (a >= 0 && b >= 0)
                PS_FAIL_IF(__builtin_add_overflow(a, b, &out->dims[d]), err, LIMIT,
                           "%s: axis %d overflows at input %zu", PS_LABEL(node), axis, i);
            else
                out->dims[d] = zero_plus ? b : plus_zero ? a : PS_DIM_UNKNOWN;
            continue;
        }
        PS_FAIL_IF(a >= 0 && b >= 0 && a != b, err, SHAPE,
                   "%s: input %zu has %lld elements in dim %d, the ones before %lld", PS_LABEL(node), i, (long long)b,
                   d, (long long)a);
        if (a == PS_DIM_UNKNOWN || b >= 0) out->dims[d] = b;
    }
    return PS_OK;
}

static ps_status concat_shape(const ps_facts *f, size_t n, ps_shape *out, int *axis, ps_error *err) {
    const ps_axis_params *p = f->node->params;
    *out = ps_shape_unknown();
    bool partial = false;
    for (size_t i = 0; i < n; i++) {
        PS_FAIL_IF(!ps_facts_has(f, i), err, INVALID, "%s: input %zu is missing", PS_LABEL(f->node), i);
        ps_shape in = ps_facts_shape(f, i);
        if (in.rank < 0) {
            partial = true;
        } else if (out->rank < 0) {
            *out = in;
            PS_TRY(ps_axis_check(f->node, p->axis, in.rank, axis, err));
        } else {
            PS_TRY(concat_join(f->node, out, &in, *axis, i, err));
        }
    }
    if (partial && out->rank >= 0) out->dims[*axis] = PS_DIM_UNKNOWN;
    return PS_OK;
}

static ps_status concat_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_shape out;
    int axis;
    PS_TRY(concat_shape(&f, node->n_in, &out, &axis, err));
    for (size_t i = 1; i < node->n_in; i++)
        PS_TRY(ps_check_same_type(node, i, 0, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

static ps_status concat_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, concat_ref, err);
    ps_facts f = ps_facts_ctx(ctx);
    ps_shape shape;
    int axis;
    PS_TRY(concat_shape(&f, ctx->n_in, &shape, &axis, err));
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, ctx->in[0]->dtype, &shape, &m, err));
    int64_t outer = ps_shape_product(&shape, 0, axis), inner = ps_shape_product(&shape, axis + 1, shape.rank), at = 0;
    for (size_t i = 0; i < ctx->n_in; i++) {
        int64_t run = ctx->in[i]->shape.dims[axis] * inner;
        ps_walk walk = { .rank = 0 };
        ps_walk_add(&walk, outer, shape.dims[axis] * inner, run);
        ps_walk_add(&walk, run, 1, 1);
        ps_walk_copy(&walk, m.size, m.dst + (size_t)at * m.size, ctx->in[i]->data, ctx->threads);
        at += run;
    }
    return ps_move_end(&m, PS_OK, err);
}

/* ---- Split ---- */
typedef struct split_params {
    int64_t axis, num_outputs;
    ps_ints split;
} split_params;

static const ps_attr_def split2_attrs[] = { PS_A_INT(split_params, axis, 0), PS_A_INTS(split_params, split),
                                            PS_ATTRS_END };
static const ps_attr_def split18_attrs[] = { PS_A_INT(split_params, axis, 0), PS_A_INT(split_params, num_outputs, 0),
                                             PS_ATTRS_END };

static ps_status split_listed(const ps_node *node, const int64_t *parts, size_t n, int64_t extent, ps_error *err) {
    PS_FAIL_IF(n != node->n_out, err, SHAPE, "%s: %zu sizes for %u outputs", PS_LABEL(node), n, node->n_out);
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        PS_FAIL_IF(parts[i] < 0 || __builtin_add_overflow(sum, parts[i], &sum), err, SHAPE,
                   "%s: size %lld of output %zu is negative or too large", PS_LABEL(node), (long long)parts[i], i);
    PS_FAIL_IF(extent >= 0 && sum != extent, err, SHAPE, "%s: the sizes add up to %lld, the axis has %lld",
               PS_LABEL(node), (long long)sum, (long long)extent);
    return PS_OK;
}

/* Equal parts; since opset 18 the last may be smaller. parts[i] = PS_DIM_UNKNOWN where the extent is. */
static ps_status split_equal(const ps_node *node, int64_t *parts, int64_t extent, ps_error *err) {
    const split_params *p = node->params;
    int64_t n = node->n_out;
    bool uneven = node->op->since >= 18;
    PS_FAIL_IF(uneven && p->num_outputs != 0 && p->num_outputs != n, err, INVALID,
               "%s: num_outputs is %lld for %lld outputs", PS_LABEL(node), (long long)p->num_outputs, (long long)n);
    PS_FAIL_IF(!uneven && extent >= 0 && extent % n != 0, err, SHAPE,
               "%s: %lld elements do not split into %lld equal parts", PS_LABEL(node), (long long)extent, (long long)n);
    int64_t part = extent / n + (extent % n != 0);
    PS_FAIL_IF(extent >= 0 && part * (n - 1) > extent, err, SHAPE,
               "%s: %lld elements are too few for %lld parts of %lld", PS_LABEL(node), (long long)extent, (long long)n,
               (long long)part);
    for (int64_t i = 0; i < n; i++)
        parts[i] = extent < 0 ? PS_DIM_UNKNOWN : i < n - 1 ? part : extent - part * (n - 1);
    return PS_OK;
}

/* Sizes of all outputs along the axis; PS_DIM_UNKNOWN where not known. */
static ps_status split_parts(const ps_facts *f, int64_t parts[MAX_PARTS], int *axis, ps_error *err) {
    const ps_node *node = f->node;
    const split_params *p = node->params;
    ps_shape in = ps_facts_shape(f, 0);
    PS_FAIL_IF(node->n_out > MAX_PARTS, err, LIMIT, "%s: %u outputs are more than %d", PS_LABEL(node), node->n_out,
               MAX_PARTS);
    int64_t extent = PS_DIM_UNKNOWN;
    *axis = 0;
    if (in.rank >= 0) {
        PS_TRY(ps_axis_check(node, p->axis, in.rank, axis, err));
        extent = in.dims[*axis];
    }
    if (p->split.n > 0) {
        PS_TRY(split_listed(node, p->split.data, p->split.n, extent, err));
        memcpy(parts, p->split.data, p->split.n * sizeof *parts);
        return PS_OK;
    }
    if (!ps_facts_has(f, 1)) return split_equal(node, parts, extent, err);
    size_t n;
    bool known;
    PS_TRY(ps_facts_ints(f, 1, "the list of sizes", parts, MAX_PARTS, &n, &known, err));
    if (known) return split_listed(node, parts, n, extent, err);
    for (size_t i = 0; i < node->n_out; i++)
        parts[i] = PS_DIM_UNKNOWN;
    return PS_OK;
}

static ps_status split_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    int64_t parts[MAX_PARTS];
    int axis;
    PS_TRY(split_parts(&f, parts, &axis, err));
    ps_shape out = node->in[0]->shape;
    for (size_t i = 0; i < node->n_out; i++) {
        if (out.rank >= 0) out.dims[axis] = parts[i];
        if (node->n_out == 1 && out.rank >= 0 && parts[0] == PS_DIM_UNKNOWN) out = node->in[0]->shape;
        PS_TRY(ps_infer_checked(node, i, node->in[0]->dtype, &out, err));
    }
    return PS_OK;
}

static ps_status split_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, split_ref, err);
    ps_facts f = ps_facts_ctx(ctx);
    int64_t parts[MAX_PARTS], at = 0;
    int axis;
    PS_TRY(split_parts(&f, parts, &axis, err));
    const ps_tensor *in = ctx->in[0];
    ps_shape shape = in->shape;
    int64_t outer = ps_shape_product(&shape, 0, axis), inner = ps_shape_product(&shape, axis + 1, shape.rank);
    int64_t src_run = shape.dims[axis] * inner;
    for (size_t i = 0; i < ctx->n_out; i++) {
        int64_t run = parts[i] * inner;
        shape.dims[axis] = parts[i];
        if (ctx->out[i]) {
            ps_move m;
            PS_TRY(ps_move_begin(ctx, i, in->dtype, &shape, &m, err));
            ps_walk walk = { .rank = 0 };
            ps_walk_add(&walk, outer, run, src_run);
            ps_walk_add(&walk, run, 1, 1);
            ps_walk_copy(&walk, m.size, m.dst, (const uint8_t *)in->data + (size_t)at * m.size, ctx->threads);
            PS_TRY(ps_move_end(&m, PS_OK, err));
        }
        at += run;
    }
    return PS_OK;
}

/* ---- Slice ---- */
typedef struct slice_params {
    ps_ints starts, ends, axes; /* opset 1; inputs later */
} slice_params;

static const ps_attr_def slice1_attrs[] = { PS_A_INTS(slice_params, starts), PS_A_INTS(slice_params, ends),
                                            PS_A_INTS(slice_params, axes), PS_ATTRS_END };

typedef struct slice_list {
    int64_t v[PS_MAX_RANK];
    size_t n;
    bool given, known;
} slice_list;

/* Which of starts, ends, axes, steps: from the attribute (opset 1) or the input. */
static ps_status slice_read(const ps_facts *f, size_t i, const char *what, const ps_ints *attr, slice_list *ret,
                            ps_error *err) {
    if (!attr) {
        ret->given = ps_facts_has(f, i);
        PS_TRY(ps_facts_ints(f, i, what, ret->v, PS_MAX_RANK, &ret->n, &ret->known, err));
        ret->known |= !ret->given;
        return PS_OK;
    }
    PS_FAIL_IF(attr->n > PS_MAX_RANK, err, LIMIT, "%s: %s has %zu entries, more than %d", PS_LABEL(f->node), what,
               attr->n, PS_MAX_RANK);
    *ret = (slice_list) { .n = attr->n, .given = attr->n > 0, .known = true };
    if (attr->n) memcpy(ret->v, attr->data, attr->n * sizeof *ret->v);
    return PS_OK;
}

/* What is taken of each dim: count elements from start in steps; count PS_DIM_UNKNOWN where it cannot be told. */
typedef struct slice_plan {
    int64_t start[PS_MAX_RANK], step[PS_MAX_RANK], count[PS_MAX_RANK];
} slice_plan;

/* Extents fit in int64 and are >= 0, so nothing here overflows once start and end are clamped. */
static void slice_dim(int64_t extent, int64_t start, int64_t end, int64_t step, int64_t *ret_start,
                      int64_t *ret_count) {
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? extent : extent - 1;
    if (start < 0) start = start < -extent ? low : start + extent;
    if (end < 0) end = end < -extent ? low : end + extent;
    if (start > high) start = high;
    if (end > high) end = high;
    int64_t span = step > 0 ? end - start : start - end;
    uint64_t pace = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    *ret_start = start;
    *ret_count = span <= 0 ? 0 : (int64_t)(((uint64_t)span - 1) / pace) + 1;
}

static void slice_one(const ps_shape *in, int d, int64_t start, int64_t end, int64_t step, slice_plan *plan) {
    int64_t extent = in->dims[d];
    if (extent < 0) { /* symbolic: the whole dim stays itself, the rest is unknown */
        bool whole = step == 1 && start == 0 && end == INT64_MAX;
        bool reversed = step == -1 && start == -1 && end <= INT64_MIN + 1;
        plan->count[d] = whole || reversed ? extent : PS_DIM_UNKNOWN;
        return;
    }
    slice_dim(extent, start, end, step, &plan->start[d], &plan->count[d]);
    plan->step[d] = plan->count[d] > 1 ? step : 1;
}

/* The spec's way to say "to the end" of a dim of unknown size is the greatest or least number of either integer type.
 */
static int64_t widen_end(int64_t end) {
    if (end == INT32_MAX) return INT64_MAX;
    return end == INT32_MIN || end == -INT32_MAX ? INT64_MIN : end;
}

static ps_status slice_lists(const ps_facts *f, slice_list lists[4], ps_error *err) {
    static const char *const names[4] = { "starts", "ends", "axes", "steps" };
    const slice_params *p = f->node->op->since < 10 ? f->node->params : NULL;
    const ps_ints *attrs[4] = { p ? &p->starts : NULL, p ? &p->ends : NULL, p ? &p->axes : NULL, NULL };
    for (size_t k = 0; k < 4; k++)
        PS_TRY(slice_read(f, k + 1, names[k], attrs[k], &lists[k], err));
    if (p) lists[3] = (slice_list) { .known = true };
    return PS_OK;
}

static ps_status slice_check(const ps_node *node, const slice_list lists[4], ps_error *err) {
    size_t n = lists[0].n;
    bool agree = lists[1].n == n && (!lists[2].given || lists[2].n == n) && (!lists[3].given || lists[3].n == n);
    PS_FAIL_IF(!agree, err, SHAPE, "%s: starts, ends, axes and steps have %zu, %zu, %zu and %zu entries",
               PS_LABEL(node), n, lists[1].n, lists[2].n, lists[3].n);
    for (size_t k = 0; k < lists[3].n; k++)
        PS_FAIL_IF(lists[3].v[k] == 0, err, INVALID, "%s: step %zu is 0", PS_LABEL(node), k);
    return PS_OK;
}

static ps_status slice_resolve(const ps_facts *f, slice_plan *plan, ps_shape *out, ps_error *err) {
    slice_list lists[4] = { 0 };
    ps_shape in = ps_facts_shape(f, 0);
    PS_TRY(slice_lists(f, lists, err));
    *out = in;
    if (in.rank < 0) return PS_OK;
    for (int d = 0; d < in.rank; d++)
        plan->start[d] = 0, plan->step[d] = 1, plan->count[d] = in.dims[d];
    bool touched[PS_MAX_RANK] = { false }, known = lists[0].known && lists[1].known && lists[3].known && lists[2].known;
    if (known) PS_TRY(slice_check(f->node, lists, err));
    size_t n = lists[2].given ? lists[2].n : known ? lists[0].n : (size_t)in.rank;
    for (size_t k = 0; k < n && lists[2].known && !lists[2].given; k++)
        lists[2].v[k] = (int64_t)k;
    if (!lists[2].known) n = 0;
    PS_TRY(ps_axes_mark(f->node, lists[2].v, n, in.rank, touched, err));
    for (size_t k = 0; k < n && known; k++) {
        int d;
        ps_axis_normalize(lists[2].v[k], in.rank, &d);
        slice_one(&in, d, lists[0].v[k], widen_end(lists[1].v[k]), lists[3].given ? lists[3].v[k] : 1, plan);
    }
    for (int d = 0; d < in.rank; d++)
        out->dims[d] = known ? plan->count[d] : lists[2].known && !touched[d] ? in.dims[d] : PS_DIM_UNKNOWN;
    return PS_OK;
}

static ps_status slice_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    slice_plan plan;
    ps_shape out;
    PS_TRY(slice_resolve(&f, &plan, &out, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

static ps_status slice_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, slice_ref, err);
    ps_facts f = ps_facts_ctx(ctx);
    slice_plan plan;
    ps_shape shape;
    PS_TRY(slice_resolve(&f, &plan, &shape, err));
    const ps_tensor *in = ctx->in[0];
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &shape, &m, err));
    int64_t src[PS_MAX_RANK], dst[PS_MAX_RANK], at = 0;
    ps_shape_strides(&in->shape, src);
    ps_shape_strides(&shape, dst);
    bool empty = ps_tensor_count(ctx->out[0]) == 0;
    ps_walk walk = { .rank = 0 };
    for (int d = 0; d < shape.rank && !empty; d++) {
        at += plan.start[d] * src[d];
        ps_walk_add(&walk, shape.dims[d], dst[d], plan.step[d] * src[d]);
    }
    if (!empty) ps_walk_copy(&walk, m.size, m.dst, (const uint8_t *)in->data + at * (int64_t)m.size, ctx->threads);
    return ps_move_end(&m, PS_OK, err);
}

/* ---- Expand ---- */
static ps_status expand_shape(const ps_facts *f, ps_shape *out, ps_error *err) {
    ps_shape in = ps_facts_shape(f, 0), target = { 0, { 0 } };
    size_t n;
    bool known;
    PS_TRY(ps_facts_ints(f, 1, "the target shape", target.dims, PS_MAX_RANK, &n, &known, err));
    int64_t length = known ? (int64_t)n : ps_facts_length(f, 1);
    *out = ps_shape_unknown();
    if (length < 0) return PS_OK;
    target.rank = (int32_t)length;
    for (int d = 0; d < target.rank; d++) {
        if (!known) target.dims[d] = PS_DIM_UNKNOWN;
        PS_FAIL_IF(known && target.dims[d] < 0, err, SHAPE, "%s: target dim %lld is negative", PS_LABEL(f->node),
                   (long long)target.dims[d]);
    }
    if (in.rank < 0) return PS_OK;
    PS_FAIL_IF(!ps_shape_broadcast(&in, &target, out), err, SHAPE, "%s: %s and %s do not broadcast", PS_LABEL(f->node),
               PS_SHAPE_TEXT(&in), PS_SHAPE_TEXT(&target));
    return PS_OK;
}

static ps_status expand_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_shape out;
    PS_TRY(expand_shape(&f, &out, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

static ps_status expand_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, expand_ref, err);
    ps_facts f = ps_facts_ctx(ctx);
    ps_shape shape;
    PS_TRY(expand_shape(&f, &shape, err));
    const ps_tensor *in = ctx->in[0];
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &shape, &m, err));
    int64_t src[PS_MAX_RANK], dst[PS_MAX_RANK];
    ps_shape_strides(&in->shape, src);
    ps_shape_strides(&shape, dst);
    ps_walk walk = { .rank = 0 };
    for (int d = 0, k = in->shape.rank - shape.rank; d < shape.rank; d++, k++)
        ps_walk_add(&walk, shape.dims[d], dst[d], k >= 0 && in->shape.dims[k] != 1 ? src[k] : 0);
    ps_walk_copy(&walk, m.size, m.dst, in->data, ctx->threads);
    return ps_move_end(&m, PS_OK, err);
}

/* ---- Tile ---- */
/* Repeats of every dim: opset 1 repeats one axis (inputs tiles, axis), opset 6 has a list. */
static ps_status tile_repeats(const ps_facts *f, int rank, int64_t reps[PS_MAX_RANK], bool *known, ps_error *err) {
    size_t n;
    if (f->node->op->since >= 6) {
        PS_TRY(ps_facts_ints(f, 1, "repeats", reps, PS_MAX_RANK, &n, known, err));
        PS_FAIL_IF(*known && n != (size_t)rank, err, SHAPE, "%s: %zu repeats for an input of rank %d",
                   PS_LABEL(f->node), n, rank);
        return PS_OK;
    }
    double tiles, number;
    int axis;
    *known = ps_facts_double(f, 1, &tiles) && ps_facts_double(f, 2, &number);
    if (!*known) return PS_OK;
    PS_FAIL_IF(!(number >= -rank && number < rank && tiles >= 0 && tiles < 0x1p53), err, SHAPE,
               "%s: cannot repeat axis %g %g times", PS_LABEL(f->node), number, tiles);
    PS_TRY(ps_axis_check(f->node, (int64_t)number, rank, &axis, err));
    for (int d = 0; d < rank; d++)
        reps[d] = d == axis ? (int64_t)tiles : 1;
    return PS_OK;
}

static ps_status tile_shape(const ps_facts *f, ps_shape *out, int64_t reps[PS_MAX_RANK], ps_error *err) {
    ps_shape in = ps_facts_shape(f, 0);
    bool known;
    *out = in;
    if (in.rank < 0) return PS_OK;
    PS_TRY(tile_repeats(f, in.rank, reps, &known, err));
    for (int d = 0; d < in.rank; d++) {
        PS_FAIL_IF(known && reps[d] < 0, err, SHAPE, "%s: repeat %lld of dim %d is negative", PS_LABEL(f->node),
                   (long long)reps[d], d);
        if (!known || (in.dims[d] < 0 && reps[d] > 1))
            out->dims[d] = PS_DIM_UNKNOWN;
        else if (reps[d] == 0)
            out->dims[d] = 0;
        else if (in.dims[d] >= 0)
            PS_FAIL_IF(__builtin_mul_overflow(in.dims[d], reps[d], &out->dims[d]), err, LIMIT, "%s: dim %d overflows",
                       PS_LABEL(f->node), d);
    }
    return PS_OK;
}

static ps_status tile_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_shape out;
    int64_t reps[PS_MAX_RANK];
    PS_TRY(tile_shape(&f, &out, reps, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

static ps_status tile_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, tile_ref, err);
    ps_facts f = ps_facts_ctx(ctx);
    ps_shape shape;
    int64_t reps[PS_MAX_RANK], src[PS_MAX_RANK], dst[PS_MAX_RANK];
    PS_TRY(tile_shape(&f, &shape, reps, err));
    const ps_tensor *in = ctx->in[0];
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &shape, &m, err));
    ps_shape_strides(&in->shape, src);
    ps_shape_strides(&shape, dst);
    ps_walk walk = { .rank = 0 };
    for (int d = 0; d < shape.rank; d++) {
        ps_walk_add(&walk, reps[d], in->shape.dims[d] * dst[d], 0);
        ps_walk_add(&walk, in->shape.dims[d], dst[d], src[d]);
    }
    ps_walk_copy(&walk, m.size, m.dst, in->data, ctx->threads);
    return ps_move_end(&m, PS_OK, err);
}

/* ---- DepthToSpace, SpaceToDepth ---- */
typedef struct block_params {
    int64_t blocksize;
    const char *mode; /* DCR (default) or CRD; DepthToSpace only */
} block_params;

static const ps_attr_def block1_attrs[] = { PS_A_INT_REQ(block_params, blocksize), PS_A_STR(block_params, mode, "DCR"),
                                            PS_ATTRS_END };

static bool is_depth_to_space(const ps_node *node) {
    return node->op->name[0] == 'D';
}

/* dim * num / den with symbols: only the exact and known is kept. */
static ps_status block_dim(const ps_node *node, int64_t dim, int64_t num, int64_t den, int64_t *ret, ps_error *err) {
    *ret = dim;
    if (dim < 0) {
        *ret = num == den ? dim : PS_DIM_UNKNOWN;
        return PS_OK;
    }
    PS_FAIL_IF(dim % den != 0, err, SHAPE, "%s: %lld elements are no multiple of %lld", PS_LABEL(node), (long long)dim,
               (long long)den);
    PS_FAIL_IF(__builtin_mul_overflow(dim / den, num, ret), err, LIMIT, "%s: dim %lld overflows", PS_LABEL(node),
               (long long)dim);
    return PS_OK;
}

static ps_status block_shape(const ps_node *node, const ps_shape *in, ps_shape *out, ps_error *err) {
    const block_params *p = node->params;
    int64_t b = p->blocksize;
    PS_FAIL_IF(b < 1 || b > INT32_MAX, err, INVALID, "%s: blocksize %lld is not positive or too large", PS_LABEL(node),
               (long long)b);
    bool crd = strcmp(p->mode, "CRD") == 0;
    PS_FAIL_IF(!crd && strcmp(p->mode, "DCR") != 0, err, INVALID, "%s: mode '%s' is neither DCR nor CRD",
               PS_LABEL(node), p->mode);
    *out = (ps_shape) { 4, { PS_DIM_UNKNOWN, PS_DIM_UNKNOWN, PS_DIM_UNKNOWN, PS_DIM_UNKNOWN } };
    if (in->rank < 0) return PS_OK;
    PS_FAIL_IF(in->rank != 4, err, SHAPE, "%s: input %s is not [N,C,H,W]", PS_LABEL(node), PS_SHAPE_TEXT(in));
    bool deep = is_depth_to_space(node);
    out->dims[0] = in->dims[0];
    PS_TRY(block_dim(node, in->dims[1], deep ? 1 : b * b, deep ? b * b : 1, &out->dims[1], err));
    PS_TRY(block_dim(node, in->dims[2], deep ? b : 1, deep ? 1 : b, &out->dims[2], err));
    return block_dim(node, in->dims[3], deep ? b : 1, deep ? 1 : b, &out->dims[3], err);
}

static ps_status block_infer(const ps_node *node, ps_error *err) {
    ps_shape out;
    PS_TRY(block_shape(node, &node->in[0]->shape, &out, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

/* With b the block, the deep side is [N, b*b*C, h, w] and the wide side [N, C, h*b, w*b]; element (n, c, y, x, i, j) of
 * the block row i and column j lies in depth at channel (i*b + j)*C + c (DCR) or c*b*b + i*b + j (CRD). */
static ps_status block_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, block_ref, err);
    const block_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    ps_shape shape;
    PS_TRY(block_shape(ctx->node, &in->shape, &shape, err));
    bool to_space = is_depth_to_space(ctx->node), crd = strcmp(p->mode, "CRD") == 0;
    const ps_shape *wide = to_space ? &shape : &in->shape, *deep = to_space ? &in->shape : &shape;
    int64_t b = p->blocksize, c = wide->dims[1], h = deep->dims[2], w = deep->dims[3];
    int64_t dims[6] = { wide->dims[0], c, h, b, w, b };
    int64_t ws[6] = { c * h * b * w * b, h * b * w * b, b * w * b, w * b, b, 1 };
    int64_t plane = h * w;
    int64_t ds[6] = { b * b * c * plane, plane, w, b * c * plane, 1, c * plane };
    if (crd) ds[1] = b * b * plane, ds[3] = b * plane, ds[5] = plane;
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &shape, &m, err));
    ps_walk walk = { .rank = 0 };
    for (int d = 0; d < 6; d++)
        ps_walk_add(&walk, dims[d], to_space ? ws[d] : ds[d], to_space ? ds[d] : ws[d]);
    ps_walk_copy(&walk, m.size, m.dst, in->data, ctx->threads);
    return ps_move_end(&m, PS_OK, err);
}

/* ---- Trilu: the upper or lower triangle of the last two dims ---- */
typedef struct trilu_params {
    int64_t upper;
} trilu_params;

static const ps_attr_def trilu_attrs[] = { PS_A_INT(trilu_params, upper, 1), PS_ATTRS_END };

static ps_status trilu_infer(const ps_node *node, ps_error *err) {
    const ps_shape *in = &node->in[0]->shape;
    PS_FAIL_IF(in->rank >= 0 && in->rank < 2, err, SHAPE, "%s: input %s is no matrix", PS_LABEL(node),
               PS_SHAPE_TEXT(in));
    return ps_infer_same(node, err);
}

static ps_status trilu_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, trilu_ref, err);
    const trilu_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    const ps_shape *s = &in->shape;
    ps_facts f = ps_facts_ctx(ctx);
    int64_t k = 0;
    size_t n;
    bool known;
    PS_TRY(ps_facts_ints(&f, 1, "k", &k, 1, &n, &known, err));
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, s, &m, err));
    int64_t rows = s->dims[s->rank - 2], cols = s->dims[s->rank - 1], matrices = ps_shape_product(s, 0, s->rank - 2);
    for (int64_t r = 0; r < matrices * rows; r++) {
        /* the first column on or above diagonal k, clamped to [0, cols] without overflow */
        int64_t row = rows ? r % rows : 0, split = k > cols - row ? cols : k < -row ? 0 : row + k;
        if (!p->upper) split = split < cols && k >= -row ? split + 1 : split;
        size_t from = p->upper ? (size_t)split : 0, to = p->upper ? (size_t)cols : (size_t)split;
        size_t line = (size_t)(r * cols);
        memset(m.dst + line * m.size, 0, (size_t)cols * m.size);
        memcpy(m.dst + (line + from) * m.size, (const uint8_t *)in->data + (line + from) * m.size,
               (to - from) * m.size);
    }
    return ps_move_end(&m, PS_OK, err);
}

static const ps_op ops[] = {
    { "Transpose", "", 1, 1, 1, 1, 1, transpose_attrs, sizeof(ps_transpose_params), transpose_infer, transpose_ref, 0 },
    { "Concat", "", 1, 1, PS_VARIADIC, 1, 1, concat1_attrs, sizeof(ps_axis_params), concat_infer, concat_ref, 0 },
    { "Concat", "", 4, 1, PS_VARIADIC, 1, 1, concat4_attrs, sizeof(ps_axis_params), concat_infer, concat_ref, 0 },
    { "Split", "", 1, 1, 2, 1, PS_VARIADIC, split2_attrs, sizeof(split_params), split_infer, split_ref, 0 },
    { "Split", "", 13, 1, 2, 1, PS_VARIADIC, split18_attrs, sizeof(split_params), split_infer, split_ref, 0 },
    { "Split", "", 18, 1, 2, 1, PS_VARIADIC, split18_attrs, sizeof(split_params), split_infer, split_ref, 0 },
    { "Slice", "", 1, 1, 1, 1, 1, slice1_attrs, sizeof(slice_params), slice_infer, slice_ref, 0 },
    { "Slice", "", 10, 3, 5, 1, 1, NULL, 0, slice_infer, slice_ref, 0 },
    { "Expand", "", 8, 2, 2, 1, 1, NULL, 0, expand_infer, expand_ref, PS_OP_EXPANDS },
    { "Tile", "", 1, 3, 3, 1, 1, NULL, 0, tile_infer, tile_ref, PS_OP_EXPANDS },
    { "Tile", "", 6, 2, 2, 1, 1, NULL, 0, tile_infer, tile_ref, PS_OP_EXPANDS },
    { "DepthToSpace", "", 1, 1, 1, 1, 1, block1_attrs, sizeof(block_params), block_infer, block_ref, 0 },
    { "SpaceToDepth", "", 1, 1, 1, 1, 1, block1_attrs, sizeof(block_params), block_infer, block_ref, 0 },
    { "Trilu", "", 14, 1, 2, 1, 1, trilu_attrs, sizeof(trilu_params), trilu_infer, trilu_ref, 0 },
    { "Trilu", "com.microsoft", 1, 1, 2, 1, 1, trilu_attrs, sizeof(trilu_params), trilu_infer, trilu_ref, 0 },
};

const ps_op_family ps_ops_layout = PS_OP_FAMILY("layout", ops);
