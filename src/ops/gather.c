/* gather.c - operators whose indices are data: Gather, GatherElements, GatherND, ScatterElements (and its old name
 * Scatter), ScatterND. Indices are int32 or int64; negative ones count from the end; one outside its dim fails with a
 * sentence.
 *
 * Source: ONNX operator specs, ai.onnx opsets 1 to 23. */
#include "ops/kernel_util.h"
#include "ops/move.h"
#include "ops/params.h"

/* ---- indices ---- */
static ps_status check_index_type(const ps_node *node, size_t i, ps_error *err) {
    ps_dtype t = ps_has_in(node, i) ? node->in[i]->dtype : PS_DTYPE_UNDEFINED;
    PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_I32 && t != PS_DTYPE_I64, err, TYPE,
               "%s: indices have element type %s, i32 or i64 is needed", PS_LABEL(node), ps_dtype_name(t));
    return PS_OK;
}

/* Index k of an index tensor, wrapped into [0, extent). */
static ps_status index_at(const ps_kernel_ctx *ctx, const ps_tensor *t, int64_t k, int64_t extent, int64_t *ret,
                          ps_error *err) {
    int64_t v = t->dtype == PS_DTYPE_I32 ? ((const int32_t *)t->data)[k] : ((const int64_t *)t->data)[k];
    PS_FAIL_IF(v < -extent || v >= extent, err, INVALID,
               "%s: index %lld (number %lld of the indices) is outside [-%lld, %lld)", PS_LABEL(ctx->node),
               (long long)v, (long long)k, (long long)extent, (long long)extent);
    *ret = v < 0 ? v + extent : v;
    return PS_OK;
}

/* ---- Gather ---- */
static const ps_attr_def axis0_attrs[] = { PS_A_INT(ps_axis_params, axis, 0), PS_ATTRS_END };

static ps_status gather_shape(const ps_facts *f, ps_shape *out, int *axis, ps_error *err) {
    const ps_axis_params *p = f->node->params;
    ps_shape in = ps_facts_shape(f, 0), at = ps_facts_shape(f, 1);
    *out = ps_shape_unknown();
    if (in.rank < 0) return PS_OK;
    PS_TRY(ps_axis_check(f->node, p->axis, in.rank, axis, err));
    if (at.rank < 0) return PS_OK;
    int rank = in.rank - 1 + at.rank, n = 0;
    PS_FAIL_IF(rank > PS_MAX_RANK, err, LIMIT, "%s: output rank %d is over %d", PS_LABEL(f->node), rank, PS_MAX_RANK);
    for (int d = 0; d < *axis; d++)
        out->dims[n++] = in.dims[d];
    for (int d = 0; d < at.rank; d++)
        out->dims[n++] = at.dims[d];
    for (int d = *axis + 1; d < in.rank; d++)
        out->dims[n++] = in.dims[d];
    out->rank = n;
    return PS_OK;
}

static ps_status gather_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_shape out;
    int axis;
    PS_TRY(check_index_type(node, 1, err));
    PS_TRY(gather_shape(&f, &out, &axis, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

static ps_status gather_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    const ps_tensor *in = ctx->in[0], *at = ctx->in[1];
    ps_shape shape;
    int axis;
    PS_TRY(gather_shape(&f, &shape, &axis, err));
    int64_t outer = ps_shape_product(&in->shape, 0, axis), n = (int64_t)ps_tensor_count(at);
    int64_t extent = in->shape.dims[axis], inner = ps_shape_product(&in->shape, axis + 1, in->shape.rank);
    if (ps_move_splits(in, inner)) return ps_move_unpacked(ctx, gather_ref, err);
    size_t run;
    ps_move m;
    PS_TRY(ps_move_begin_rows(ctx, 0, in->dtype, &shape, inner, &m, &run, err));
    ps_status status = PS_OK;
    for (int64_t k = 0; k < n && status == PS_OK; k++) {
        int64_t row;
        status = index_at(ctx, at, k, extent, &row, err);
        for (int64_t o = 0; o < outer && status == PS_OK && run > 0; o++)
            memcpy(m.dst + (size_t)(o * n + k) * run, (const uint8_t *)in->data + (size_t)(o * extent + row) * run,
                   run);
    }
    return ps_move_end(&m, status, err);
}

/* ---- GatherElements ---- */
/* indices: as many dims as data, and none longer off the axis. */
static ps_status elements_check(const ps_facts *f, int *axis, ps_error *err) {
    const ps_axis_params *p = f->node->params;
    ps_shape in = ps_facts_shape(f, 0), at = ps_facts_shape(f, 1);
    *axis = 0;
    if (in.rank < 0) return PS_OK;
    PS_TRY(ps_axis_check(f->node, p->axis, in.rank, axis, err));
    if (at.rank < 0) return PS_OK;
    PS_FAIL_IF(at.rank != in.rank, err, SHAPE, "%s: indices %s and data %s differ in rank", PS_LABEL(f->node),
               PS_SHAPE_TEXT(&at), PS_SHAPE_TEXT(&in));
    for (int d = 0; d < in.rank; d++)
        PS_FAIL_IF(d != *axis && in.dims[d] >= 0 && at.dims[d] > in.dims[d], err, SHAPE,
                   "%s: indices %s reach beyond data %s in dim %d", PS_LABEL(f->node), PS_SHAPE_TEXT(&at),
                   PS_SHAPE_TEXT(&in), d);
    return PS_OK;
}

static ps_status gather_elements_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    int axis;
    PS_TRY(check_index_type(node, 1, err));
    PS_TRY(elements_check(&f, &axis, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &node->in[1]->shape, err);
}

/* Goes through the indices in row-major order; `base` is the offset in data of the position with the axis at 0. */
typedef struct elements_walk {
    const ps_shape *shape; /* of the indices */
    int axis;
    int64_t strides[PS_MAX_RANK]; /* of data */
    int64_t at[PS_MAX_RANK], base;
} elements_walk;

static void elements_step(elements_walk *w) {
    for (int d = w->shape->rank - 1; d >= 0; d--) {
        int64_t stride = d == w->axis ? 0 : w->strides[d];
        w->base += stride;
        if (++w->at[d] < w->shape->dims[d]) return;
        w->base -= stride * w->shape->dims[d];
        w->at[d] = 0;
    }
}

static ps_status gather_elements_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, gather_elements_ref, err);
    ps_facts f = ps_facts_ctx(ctx);
    const ps_tensor *in = ctx->in[0], *at = ctx->in[1];
    elements_walk w = { .shape = &at->shape };
    PS_TRY(elements_check(&f, &w.axis, err));
    ps_shape_strides(&in->shape, w.strides);
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &at->shape, &m, err));
    int64_t n = (int64_t)ps_tensor_count(at);
    ps_status status = PS_OK;
    for (int64_t k = 0; k < n && status == PS_OK; k++, elements_step(&w)) {
        int64_t pick;
        status = index_at(ctx, at, k, in->shape.dims[w.axis], &pick, err);
        if (status != PS_OK) break;
        int64_t from = w.base + pick * w.strides[w.axis];
        memcpy(m.dst + (size_t)k * m.size, (const uint8_t *)in->data + (size_t)from * m.size, m.size);
    }
    return ps_move_end(&m, status, err);
}

/* ---- GatherND ---- */
typedef struct gather_nd_params {
    int64_t batch_dims;
} gather_nd_params;

static const ps_attr_def gather_nd_attrs[] = { PS_A_INT(gather_nd_params, batch_dims, 0), PS_ATTRS_END };

/* The last dim of the indices, `depth`, tells how many dims of data each tuple addresses (after the batch dims). */
static ps_status gather_nd_shape(const ps_facts *f, ps_shape *out, int *batch, int *depth, ps_error *err) {
    const gather_nd_params *p = f->node->params;
    ps_shape in = ps_facts_shape(f, 0), at = ps_facts_shape(f, 1);
    *out = ps_shape_unknown();
    if (in.rank < 0 || at.rank < 0) return PS_OK;
    PS_FAIL_IF(in.rank < 1 || at.rank < 1, err, SHAPE, "%s: data %s and indices %s need at least one dim",
               PS_LABEL(f->node), PS_SHAPE_TEXT(&in), PS_SHAPE_TEXT(&at));
    PS_FAIL_IF(p->batch_dims < 0 || p->batch_dims >= in.rank || p->batch_dims >= at.rank, err, SHAPE,
               "%s: batch_dims %lld does not fit data %s and indices %s", PS_LABEL(f->node), (long long)p->batch_dims,
               PS_SHAPE_TEXT(&in), PS_SHAPE_TEXT(&at));
    *batch = (int)p->batch_dims;
    for (int d = 0; d < *batch; d++)
        PS_FAIL_IF(in.dims[d] >= 0 && at.dims[d] >= 0 && in.dims[d] != at.dims[d], err, SHAPE,
                   "%s: batch dim %d is %lld in data and %lld in indices", PS_LABEL(f->node), d, (long long)in.dims[d],
                   (long long)at.dims[d]);
    int64_t last = at.dims[at.rank - 1];
    if (last < 0) return PS_OK;
    PS_FAIL_IF(last > in.rank - *batch, err, SHAPE, "%s: tuples of %lld indices are too long for data %s",
               PS_LABEL(f->node), (long long)last, PS_SHAPE_TEXT(&in));
    *depth = (int)last;
    int rank = at.rank - 1 + in.rank - *batch - *depth;
    PS_FAIL_IF(rank > PS_MAX_RANK, err, LIMIT, "%s: output rank %d is over %d", PS_LABEL(f->node), rank, PS_MAX_RANK);
    out->rank = 0;
    for (int d = 0; d < at.rank - 1; d++)
        out->dims[out->rank++] = at.dims[d];
    for (int d = *batch + *depth; d < in.rank; d++)
        out->dims[out->rank++] = in.dims[d];
    return PS_OK;
}

static ps_status gather_nd_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_shape out;
    int batch, depth;
    PS_TRY(check_index_type(node, 1, err));
    PS_TRY(gather_nd_shape(&f, &out, &batch, &depth, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

/* Offset, in elements of data, of tuple k: `dims` are the depth dims it addresses. */
static ps_status tuple_offset(const ps_kernel_ctx *ctx, const ps_tensor *at, int64_t k, int depth, const int64_t *dims,
                              const int64_t *strides, int64_t *ret, ps_error *err) {
    *ret = 0;
    for (int d = 0; d < depth; d++) {
        int64_t v;
        PS_TRY(index_at(ctx, at, k * depth + d, dims[d], &v, err));
        *ret += v * strides[d];
    }
    return PS_OK;
}

static ps_status gather_nd_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, gather_nd_ref, err);
    ps_facts f = ps_facts_ctx(ctx);
    const ps_tensor *in = ctx->in[0], *at = ctx->in[1];
    ps_shape shape;
    int batch = 0, depth = 0;
    PS_TRY(gather_nd_shape(&f, &shape, &batch, &depth, err));
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &shape, &m, err));
    int64_t strides[PS_MAX_RANK];
    ps_shape_strides(&in->shape, strides);
    int64_t tuples = ps_shape_product(&at->shape, 0, at->shape.rank - 1),
            batches = ps_shape_product(&in->shape, 0, batch);
    int64_t per_batch = batches ? tuples / batches : 0, slab = ps_shape_product(&in->shape, batch, in->shape.rank);
    size_t run = (size_t)ps_shape_product(&in->shape, batch + depth, in->shape.rank) * m.size;
    ps_status status = PS_OK;
    for (int64_t k = 0; k < tuples && status == PS_OK; k++) {
        int64_t from;
        status = tuple_offset(ctx, at, k, depth, in->shape.dims + batch, strides + batch, &from, err);
        if (status != PS_OK || run == 0) continue;
        from += k / per_batch * slab;
        memcpy(m.dst + (size_t)k * run, (const uint8_t *)in->data + (size_t)from * m.size, run);
    }
    return ps_move_end(&m, status, err);
}

/* ---- scatter: the reductions ---- */
typedef struct scatter_params {
    int64_t axis;
    const char *reduction; /* none add mul; max min since opset 18 */
} scatter_params;

static const ps_attr_def scatter_attrs[] = { PS_A_INT(scatter_params, axis, 0),
                                             PS_A_STR(scatter_params, reduction, "none"), PS_ATTRS_END };

typedef enum scatter_kind { SCATTER_NONE, SCATTER_ADD, SCATTER_MUL, SCATTER_MAX, SCATTER_MIN } scatter_kind;

static ps_status scatter_kind_of(const ps_node *node, scatter_kind *ret, ps_error *err) {
    static const char *const names[] = { "none", "add", "mul", "max", "min" };
    const char *reduction = ((const scatter_params *)node->params)->reduction;
    for (int k = 0; k < 5; k++) {
        if (strcmp(reduction, names[k]) != 0) continue;
        *ret = (scatter_kind)k;
        return PS_OK;
    }
    return PS_FAIL(err, INVALID, "%s: reduction '%s' is none of none, add, mul, max and min", PS_LABEL(node),
                   reduction);
}

static double reduce_double(scatter_kind kind, double a, double b) {
    switch (kind) {
    case SCATTER_ADD: return a + b;
    case SCATTER_MUL: return a * b;
    case SCATTER_MAX: return b > a || b != b ? b : a; /* NaN stays NaN */
    case SCATTER_MIN: return b < a || b != b ? b : a;
    default: return b;
    }
}

/* Wraps around as two's complement does. */
static int64_t reduce_int(scatter_kind kind, int64_t a, int64_t b, bool is_unsigned) {
    bool less = is_unsigned ? (uint64_t)a < (uint64_t)b : a < b;
    switch (kind) {
    case SCATTER_ADD: return (int64_t)((uint64_t)a + (uint64_t)b);
    case SCATTER_MUL: return (int64_t)((uint64_t)a * (uint64_t)b);
    case SCATTER_MAX: return less ? b : a;
    case SCATTER_MIN: return less ? a : b;
    default: return b;
    }
}

/* Whole elements of an integer tensor, sign-extended; the store keeps the low bits, which is wrap-around. */
static int64_t int_load(const void *data, ps_dtype t, int64_t k) {
    switch (t) {
    case PS_DTYPE_I8: return ((const int8_t *)data)[k];
    case PS_DTYPE_U8: return ((const uint8_t *)data)[k];
    case PS_DTYPE_I16: return ((const int16_t *)data)[k];
    case PS_DTYPE_U16: return ((const uint16_t *)data)[k];
    case PS_DTYPE_I32: return ((const int32_t *)data)[k];
    case PS_DTYPE_U32: return ((const uint32_t *)data)[k];
    default: return ((const int64_t *)data)[k];
    }
}

static void int_store(void *data, ps_dtype t, int64_t k, int64_t v) {
    switch (ps_dtype_size(t)) {
    case 1: ((uint8_t *)data)[k] = (uint8_t)v; break;
    case 2: ((uint16_t *)data)[k] = (uint16_t)v; break;
    case 4: ((uint32_t *)data)[k] = (uint32_t)v; break;
    default: ((int64_t *)data)[k] = v; break;
    }
}

/* dst[to + i] = reduce(dst[to + i], src[from + i]), i < n */
static void scatter_run(scatter_kind kind, ps_dtype t, size_t size, void *dst, int64_t to, const void *src,
                        int64_t from, int64_t n) {
    if (kind == SCATTER_NONE) {
        memcpy((uint8_t *)dst + (size_t)to * size, (const uint8_t *)src + (size_t)from * size, (size_t)n * size);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        if (ps_dtype_is_int(t)) {
            bool is_unsigned = t == PS_DTYPE_U64;
            int_store(dst, t, to + i,
                      reduce_int(kind, int_load(dst, t, to + i), int_load(src, t, from + i), is_unsigned));
            continue;
        }
        double a, b;
        ps_row_load(&a, t, dst, to + i, 1, 1);
        ps_row_load(&b, t, src, from + i, 1, 1);
        a = reduce_double(kind, a, b);
        ps_row_store(dst, t, to + i, 1, &a, 1);
    }
}

static ps_status scatter_types(const ps_node *node, ps_error *err) {
    scatter_kind kind;
    PS_TRY(scatter_kind_of(node, &kind, err));
    PS_TRY(check_index_type(node, 1, err));
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    ps_dtype t = node->in[0]->dtype;
    bool number = t == PS_DTYPE_UNDEFINED || ps_dtype_is_float(t) || ps_dtype_is_int(t);
    PS_FAIL_IF(kind != SCATTER_NONE && !number, err, TYPE, "%s: a reduction of %s elements has no meaning",
               PS_LABEL(node), ps_dtype_name(t));
    return PS_OK;
}

/* out = data, then the caller writes the updates over it. */
static ps_status scatter_begin(const ps_kernel_ctx *ctx, ps_move *m, scatter_kind *kind, ps_error *err) {
    const ps_tensor *in = ctx->in[0];
    PS_TRY(scatter_kind_of(ctx->node, kind, err));
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &in->shape, m, err));
    size_t bytes = ps_tensor_count(in) * m->size;
    if (bytes && m->dst != in->data) memcpy(m->dst, in->data, bytes);
    return PS_OK;
}

/* ---- ScatterElements ---- */
static ps_status scatter_elements_check(const ps_facts *f, int *axis, ps_error *err) {
    PS_TRY(elements_check(f, axis, err));
    ps_shape at = ps_facts_shape(f, 1), up = ps_facts_shape(f, 2);
    bool clash = at.rank >= 0 && up.rank >= 0 && at.rank != up.rank;
    for (int d = 0; d < at.rank && up.rank == at.rank; d++)
        clash |= at.dims[d] >= 0 && up.dims[d] >= 0 && at.dims[d] != up.dims[d];
    PS_FAIL_IF(clash, err, SHAPE, "%s: indices %s and updates %s differ", PS_LABEL(f->node), PS_SHAPE_TEXT(&at),
               PS_SHAPE_TEXT(&up));
    return PS_OK;
}

static ps_status scatter_elements_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    int axis;
    PS_TRY(scatter_types(node, err));
    PS_TRY(scatter_elements_check(&f, &axis, err));
    return ps_infer_same(node, err);
}

static ps_status scatter_elements_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    const ps_tensor *in = ctx->in[0], *at = ctx->in[1], *updates = ctx->in[2];
    elements_walk w = { .shape = &at->shape };
    scatter_kind kind;
    PS_TRY(scatter_elements_check(&f, &w.axis, err));
    ps_shape_strides(&in->shape, w.strides);
    ps_move m;
    PS_TRY(scatter_begin(ctx, &m, &kind, err));
    int64_t n = (int64_t)ps_tensor_count(at);
    ps_status status = PS_OK;
    for (int64_t k = 0; k < n && status == PS_OK; k++, elements_step(&w)) {
        int64_t pick;
        status = index_at(ctx, at, k, in->shape.dims[w.axis], &pick, err);
        if (status != PS_OK) break;
        scatter_run(kind, in->dtype, m.size, m.dst, w.base + pick * w.strides[w.axis], updates->data, k, 1);
    }
    return ps_move_end(&m, status, err);
}

/* ---- ScatterND ---- */
/* updates: indices' dims but the last, then the dims of data that a tuple leaves open. */
static ps_status scatter_nd_check(const ps_facts *f, ps_error *err) {
    ps_shape in = ps_facts_shape(f, 0), at = ps_facts_shape(f, 1), up = ps_facts_shape(f, 2);
    if (in.rank < 0 || at.rank < 0) return PS_OK;
    PS_FAIL_IF(in.rank < 1 || at.rank < 1, err, SHAPE, "%s: data %s and indices %s need at least one dim",
               PS_LABEL(f->node), PS_SHAPE_TEXT(&in), PS_SHAPE_TEXT(&at));
    int64_t depth = at.dims[at.rank - 1];
    if (depth < 0) return PS_OK;
    PS_FAIL_IF(depth > in.rank, err, SHAPE, "%s: tuples of %lld indices are too long for data %s", PS_LABEL(f->node),
               (long long)depth, PS_SHAPE_TEXT(&in));
    if (up.rank < 0) return PS_OK;
    bool clash = up.rank != at.rank - 1 + in.rank - (int)depth;
    for (int d = 0; d < up.rank && !clash; d++) {
        int64_t want = d < at.rank - 1 ? at.dims[d] : in.dims[d - (at.rank - 1) + depth];
        clash = up.dims[d] >= 0 && want >= 0 && up.dims[d] != want;
    }
    PS_FAIL_IF(clash, err, SHAPE, "%s: updates %s do not fit data %s and indices %s", PS_LABEL(f->node),
               PS_SHAPE_TEXT(&up), PS_SHAPE_TEXT(&in), PS_SHAPE_TEXT(&at));
    return PS_OK;
}

static ps_status scatter_nd_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    PS_TRY(scatter_types(node, err));
    PS_TRY(scatter_nd_check(&f, err));
    return ps_infer_same(node, err);
}

static ps_status scatter_nd_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    const ps_tensor *in = ctx->in[0], *at = ctx->in[1], *updates = ctx->in[2];
    scatter_kind kind;
    PS_TRY(scatter_nd_check(&f, err));
    ps_move m;
    PS_TRY(scatter_begin(ctx, &m, &kind, err));
    int64_t strides[PS_MAX_RANK];
    ps_shape_strides(&in->shape, strides);
    int depth = (int)at->shape.dims[at->shape.rank - 1];
    int64_t tuples = ps_shape_product(&at->shape, 0, at->shape.rank - 1);
    int64_t run = ps_shape_product(&in->shape, depth, in->shape.rank);
    ps_status status = PS_OK;
    for (int64_t k = 0; k < tuples && status == PS_OK; k++) {
        int64_t to;
        status = tuple_offset(ctx, at, k, depth, in->shape.dims, strides, &to, err);
        if (status == PS_OK) scatter_run(kind, in->dtype, m.size, m.dst, to, updates->data, k * run, run);
    }
    return ps_move_end(&m, status, err);
}

/* ---- ReverseSequence: the first sequence_lens[b] steps of batch entry b in reverse order ---- */
typedef struct reverse_params {
    int64_t batch_axis, time_axis;
} reverse_params;

static const ps_attr_def reverse_attrs[] = { PS_A_INT(reverse_params, batch_axis, 1),
                                             PS_A_INT(reverse_params, time_axis, 0), PS_ATTRS_END };

static ps_status reverse_check(const ps_node *node, const ps_shape *in, const ps_shape *lens, ps_error *err) {
    const reverse_params *p = node->params;
    bool axes = p->batch_axis + p->time_axis == 1 && p->batch_axis * p->time_axis == 0;
    PS_FAIL_IF(!axes, err, INVALID, "%s: batch_axis %lld and time_axis %lld are not 0 and 1", PS_LABEL(node),
               (long long)p->batch_axis, (long long)p->time_axis);
    PS_FAIL_IF((in->rank >= 0 && in->rank < 2) || (lens->rank >= 0 && lens->rank != 1), err, SHAPE,
               "%s: input %s and lengths %s are not [time, batch, ...] and [batch]", PS_LABEL(node), PS_SHAPE_TEXT(in),
               PS_SHAPE_TEXT(lens));
    bool clash = in->rank >= 0 && lens->rank >= 0 && in->dims[p->batch_axis] >= 0 && lens->dims[0] >= 0 &&
                 in->dims[p->batch_axis] != lens->dims[0];
    PS_FAIL_IF(clash, err, SHAPE, "%s: %lld lengths for a batch of %lld", PS_LABEL(node), (long long)lens->dims[0],
               (long long)in->dims[p->batch_axis]);
    return PS_OK;
}

static ps_status reverse_infer(const ps_node *node, ps_error *err) {
    PS_TRY(reverse_check(node, &node->in[0]->shape, &node->in[1]->shape, err));
    PS_TRY(check_index_type(node, 1, err));
    return ps_infer_same(node, err);
}

static ps_status reverse_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, reverse_ref, err);
    const reverse_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0], *lens = ctx->in[1];
    const ps_shape *s = &in->shape;
    int64_t strides[PS_MAX_RANK], batch = s->dims[p->batch_axis], time = s->dims[p->time_axis];
    PS_TRY(reverse_check(ctx->node, s, &lens->shape, err));
    ps_shape_strides(s, strides);
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, s, &m, err));
    size_t run = (size_t)ps_shape_product(s, 2, s->rank) * m.size, element = m.size;
    ps_status status = PS_OK;
    for (int64_t b = 0; b < batch && status == PS_OK && run > 0; b++) {
        int64_t n = lens->dtype == PS_DTYPE_I32 ? ((const int32_t *)lens->data)[b] : ((const int64_t *)lens->data)[b];
        bool fits = n >= 0 && n <= time;
        if (!fits)
            status = PS_FAIL(err, INVALID, "%s: length %lld of batch entry %lld is outside [0, %lld]",
                             PS_LABEL(ctx->node), (long long)n, (long long)b, (long long)time);
        for (int64_t t = 0; t < time && fits; t++) {
            int64_t from = t < n ? n - 1 - t : t, row = b * strides[p->batch_axis];
            memcpy(m.dst + (size_t)(row + t * strides[p->time_axis]) * element,
                   (const uint8_t *)in->data + (size_t)(row + from * strides[p->time_axis]) * element, run);
        }
    }
    return ps_move_end(&m, status, err);
}

static const ps_op ops[] = {
    { "Gather", "", 1, 2, 2, 1, 1, axis0_attrs, sizeof(ps_axis_params), gather_infer, gather_ref, 0 },
    { "GatherElements", "", 11, 2, 2, 1, 1, axis0_attrs, sizeof(ps_axis_params), gather_elements_infer,
      gather_elements_ref, 0 },
    { "GatherND", "", 11, 2, 2, 1, 1, gather_nd_attrs, sizeof(gather_nd_params), gather_nd_infer, gather_nd_ref, 0 },
    { "GatherND", "com.microsoft", 1, 2, 2, 1, 1, gather_nd_attrs, sizeof(gather_nd_params), gather_nd_infer,
      gather_nd_ref, 0 },
    { "Scatter", "", 9, 3, 3, 1, 1, scatter_attrs, sizeof(scatter_params), scatter_elements_infer, scatter_elements_ref,
      PS_OP_INPLACE },
    { "ScatterElements", "", 11, 3, 3, 1, 1, scatter_attrs, sizeof(scatter_params), scatter_elements_infer,
      scatter_elements_ref, PS_OP_INPLACE },
    { "ScatterND", "", 11, 3, 3, 1, 1, scatter_attrs, sizeof(scatter_params), scatter_nd_infer, scatter_nd_ref,
      PS_OP_INPLACE },
    { "ReverseSequence", "", 10, 2, 2, 1, 1, reverse_attrs, sizeof(reverse_params), reverse_infer, reverse_ref, 0 },
};

const ps_op_family ps_ops_gather = PS_OP_FAMILY("gather", ops);
