/* reduce.c - reductions over axes, ArgMax and ArgMin, CumSum and CumProd.
 *
 * Floats accumulate in double and round once. Integers accumulate in 64 bits and wrap, except in the reductions that
 * need real numbers (L2, LogSum, LogSumExp). Reducing nothing gives the neutral element: 0, 1, -inf or the smallest
 * integer … */
#include <float.h>
#include <math.h>

#include "ops/kernel_util.h"
#include "ops/params.h"
#include "ops/pointwise.h"
#include "tensor/convert.h"

typedef enum reduce_kind { SUM, MEAN, PROD, MAX, MIN, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP } reduce_kind;

/* How elements are held while they are reduced. */
typedef enum acc_type { ACC_REAL, ACC_SIGNED, ACC_UNSIGNED } acc_type;

typedef union acc {
    double r;
    int64_t i;
    uint64_t u;
} acc;

enum { BLOCK = 256, GRAIN_ELEMENTS = 32768 };

static acc_type acc_type_of(ps_dtype t) {
    if (ps_dtype_is_float(t)) return ACC_REAL;
    return t == PS_DTYPE_U8 || t == PS_DTYPE_U16 || t == PS_DTYPE_U32 || t == PS_DTYPE_U64 || t == PS_DTYPE_BOOL
               ? ACC_UNSIGNED
               : ACC_SIGNED;
}

static ps_dtype acc_dtype(acc_type a) {
    return a == ACC_REAL ? PS_DTYPE_F64 : a == ACC_SIGNED ? PS_DTYPE_I64 : PS_DTYPE_U64;
}

/* n consecutive elements from element `first` on, widened. */
static void load_block(acc *dst, acc_type type, ps_dtype from, const void *src, int64_t first, int64_t n) {
    const char *at = (const char *)src + (size_t)first * ps_dtype_size(from);
    if (from == PS_DTYPE_F32) {
        for (int64_t i = 0; i < n; i++) {
            float f;
            memcpy(&f, at + i * 4, 4);
            dst[i].r = (double)f;
        }
    } else {
        ps_convert(at, from, dst, acc_dtype(type), (size_t)n, false);
    }
}

static void store_block(void *dst, ps_dtype to, int64_t first, const acc *src, acc_type type, int64_t n) {
    ps_convert(src, acc_dtype(type), (char *)dst + (size_t)first * ps_dtype_size(to), to, (size_t)n, false);
}

/* ---- folding: a[0 or i] takes in x[i] ----
 * step 0 folds a block into one accumulator, step 1 element by element. */

#define FOLD(expr_r, expr_i, expr_u)                                                                                   \
    if (type == ACC_REAL)                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const double s = a[i * step].r, v = x[i].r;                                                                \
            a[i * step].r = (expr_r);                                                                                  \
        }                                                                                                              \
    else if (type == ACC_SIGNED)                                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const int64_t s = a[i * step].i, v = x[i].i;                                                               \
            a[i * step].i = (int64_t)(expr_i);                                                                         \
        }                                                                                                              \
    else                                                                                                               \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const uint64_t s = a[i * step].u, v = x[i].u;                                                              \
            a[i * step].u = (expr_u);                                                                                  \
        }                                                                                                              \
    break

static inline uint64_t magnitude(int64_t v) {
    return v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
}

static void fold(reduce_kind kind, acc_type type, acc *a, int step, const acc *x, int64_t n) {
    switch (kind) {
    case SUM:
    case MEAN:
    case LOG_SUM: FOLD(s + v, (uint64_t)s + (uint64_t)v, s + v);
    case PROD: FOLD(s * v, (uint64_t)s * (uint64_t)v, s * v);
    case MAX: FOLD(v > s || v != v ? v : s, v > s ? v : s, v > s ? v : s);
    case MIN: FOLD(v < s || v != v ? v : s, v < s ? v : s, v < s ? v : s);
    case L1: FOLD(s + fabs(v), (uint64_t)s + magnitude(v), s + v);
    case L2:
    case SUM_SQUARE: FOLD(s + v * v, (uint64_t)s + (uint64_t)v * (uint64_t)v, s + v * v);
    case LOG_SUM_EXP: /* real, and by now relative to the largest element */
        for (int64_t i = 0; i < n; i++)
            a[i * step].r += exp(x[i].r);
    }
}

/* The value that changes nothing; of MAX and MIN of integers, the end of the type's range. */
static acc neutral(reduce_kind kind, acc_type type, ps_dtype from) {
    const unsigned spare = 64 - (from == PS_DTYPE_BOOL ? 1 : (unsigned)ps_dtype_bits(from));
    acc a = { .u = 0 };
    if (kind == PROD) {
        if (type == ACC_REAL)
            a.r = 1;
        else
            a.u = 1;
    } else if (kind == MAX || kind == MIN) {
        if (type == ACC_REAL)
            a.r = kind == MAX ? -INFINITY : INFINITY;
        else if (type == ACC_SIGNED)
            a.i = kind == MAX ? INT64_MIN >> spare : INT64_MAX >> spare;
        else
            a.u = kind == MAX ? 0 : UINT64_MAX >> spare;
    }
    return a;
}

static acc finish(reduce_kind kind, acc_type type, acc a, int64_t count) {
    switch (kind) {
    case MEAN:
        if (type == ACC_REAL)
            a.r /= (double)count;
        else if (count && type == ACC_SIGNED)
            a.i /= count;
        else if (count)
            a.u /= (uint64_t)count;
        break;
    case L2: a.r = sqrt(a.r); break;
    case LOG_SUM:
    case LOG_SUM_EXP: a.r = log(a.r); break;
    default: break;
    }
    return a;
}

/* ---- the loop nest ----
 * Dims of extent 1 are dropped and neighbours of the same fate merged. If the innermost dim is reduced, each output
 * folds runs of it; if it is kept, a block of outputs advances together, so that memory is read in order either way. */

typedef struct reduction {
    reduce_kind kind;
    acc_type type;
    ps_dtype from, to;
    const void *in;
    void *out;
    int n_kept, n_reduced; /* dims, innermost first */
    int64_t kept[PS_MAX_RANK], kept_stride[PS_MAX_RANK], reduced[PS_MAX_RANK], reduced_stride[PS_MAX_RANK];
    bool inner_reduced;
    int64_t outputs, count; /* count: elements that meet in one output */
} reduction;

static void plan_dims(reduction *r, const ps_shape *s, const bool *is_reduced) {
    int64_t strides[PS_MAX_RANK];
    int last = -1; /* dim added last */
    ps_shape_strides(s, strides);
    r->outputs = r->count = 1;
    for (int d = s->rank - 1; d >= 0; d--) {
        const int64_t n = s->dims[d];
        *(is_reduced[d] ? &r->count : &r->outputs) *= n;
        if (n == 1) continue;
        int64_t *dims = is_reduced[d] ? r->reduced : r->kept,
                *steps = is_reduced[d] ? r->reduced_stride : r->kept_stride;
        int *rank = is_reduced[d] ? &r->n_reduced : &r->n_kept;
        if (last >= 0 && is_reduced[last] == is_reduced[d]) {
            dims[*rank - 1] *= n;
            continue;
        }
        if (last < 0) r->inner_reduced = is_reduced[d];
        dims[*rank] = n;
        steps[(*rank)++] = strides[d];
        last = d;
    }
}

/* Element offset of the index-th item over dims [from, rank). */
static int64_t offset_of(const int64_t *dims, const int64_t *strides, int from, int rank, int64_t index) {
    int64_t offset = 0;
    for (int d = from; d < rank; d++) {
        offset += index % dims[d] * strides[d];
        index /= dims[d];
    }
    return offset;
}

/* Folds all elements of one output (n == 1, the inner dim is reduced) or of n neighbouring outputs into a[0..n). */
static void fold_all(const reduction *r, reduce_kind kind, acc *a, int64_t base, int64_t n, const acc *shift) {
    acc x[BLOCK];
    const int inner = r->inner_reduced ? 1 : 0;
    const int64_t run = r->inner_reduced ? r->reduced[0] : n, runs = r->inner_reduced ? r->count / run : r->count;
    for (int64_t k = 0; k < runs; k++) {
        const int64_t first = base + offset_of(r->reduced, r->reduced_stride, inner, r->n_reduced, k);
        for (int64_t at = 0; at < run; at += BLOCK) {
            const int64_t m = run - at < BLOCK ? run - at : BLOCK;
            load_block(x, r->type, r->from, r->in, first + at, m);
            for (int64_t i = 0; shift && i < m; i++)
                x[i].r -= shift[inner ? 0 : i].r;
            fold(kind, r->type, a, inner ? 0 : 1, x, m);
        }
    }
}

/* n outputs (1, or up to BLOCK neighbours along the innermost kept dim) from output element `at`. */
static void reduce_outputs(const reduction *r, int64_t at, int64_t n) {
    acc a[BLOCK], largest[BLOCK];
    const int64_t base = offset_of(r->kept, r->kept_stride, 0, r->n_kept, at);
    const bool shifted = r->kind == LOG_SUM_EXP;
    for (int64_t i = 0; i < n; i++) {
        a[i] = neutral(r->kind, r->type, r->from);
        largest[i] = neutral(MAX, r->type, r->from);
    }
    if (r->count && shifted) {
        fold_all(r, MAX, largest, base, n, NULL);
        for (int64_t i = 0; i < n; i++)
            if (!isfinite(largest[i].r)) largest[i].r = 0; /* inf - inf would be NaN */
    }
    if (r->count) fold_all(r, r->kind, a, base, n, shifted ? largest : NULL);
    for (int64_t i = 0; i < n; i++) {
        a[i] = finish(r->kind, r->type, a[i], r->count);
        if (shifted && r->count) a[i].r += largest[i].r;
    }
    store_block(r->out, r->to, at, a, r->type, n);
}

static void reduce_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const reduction *r = ctx;
    for (int64_t at = begin; at < end;) {
        int64_t n = 1;
        if (!r->inner_reduced && r->n_kept) {
            n = r->kept[0] - at % r->kept[0];
            if (n > BLOCK) n = BLOCK;
            if (n > end - at) n = end - at;
        }
        reduce_outputs(r, at, n);
        at += n;
    }
}

/* ---- axes ---- */

/* Marks the axes to reduce; axes == NULL: all. false if one is outside the rank or repeated. */
static bool mark_axes(bool *reduced, int rank, const int64_t *axes, size_t n) {
    for (int d = 0; d < PS_MAX_RANK; d++)
        reduced[d] = !axes && d < rank;
    for (size_t i = 0; axes && i < n; i++) {
        int d;
        if (!ps_axis_normalize(axes[i], rank, &d) || reduced[d]) return false;
        reduced[d] = true;
    }
    return true;
}

/* No axes mean all, unless noop_with_empty_axes. */
static const int64_t *effective_axes(const ps_reduce_params *p, const int64_t *axes, size_t n) {
    static const int64_t none[1] = { 0 };
    return n ? axes : p->noop_with_empty_axes ? none : NULL;
}

static bool is_real_only(reduce_kind kind) {
    return kind == L2 || kind == LOG_SUM || kind == LOG_SUM_EXP;
}

static ps_status reduce_ref(const ps_kernel_ctx *ctx, reduce_kind kind, ps_error *err) {
    const ps_reduce_params *p = ctx->params;
    const ps_tensor *x = ctx->in[0];
    reduction r = { .kind = kind, .from = x->dtype, .to = ctx->out[0]->dtype, .in = x->data, .out = ctx->out[0]->data };
    int64_t list[PS_MAX_RANK];
    const int64_t *axes = p->axes.data;
    size_t n = p->axes.n;
    bool reduced[PS_MAX_RANK];
    if (ctx->n_in > 1 && ctx->in[1]) {
        PS_NODE_FAIL_IF(!ps_tensor_get_ints(ctx->in[1], list, PS_MAX_RANK, &n), ctx->node, err, SHAPE, "too many axes");
        axes = list;
    }
    PS_NODE_FAIL_IF(!mark_axes(reduced, x->shape.rank, effective_axes(p, axes, n), n), ctx->node, err, SHAPE,
                    "an axis is outside the input's rank %d or repeated", x->shape.rank);
    if (!ctx->out[0]->data) { /* the axes became known just now */
        ps_shape out = { 0 };
        for (int d = 0; d < x->shape.rank; d++)
            if (!reduced[d] || p->keepdims) out.dims[out.rank++] = reduced[d] ? 1 : x->shape.dims[d];
        PS_TRY(ps_kernel_output(ctx, 0, x->dtype, &out, err));
        r.out = ctx->out[0]->data;
    }
    r.type = is_real_only(kind) ? ACC_REAL : acc_type_of(x->dtype);
    plan_dims(&r, &x->shape, reduced);
    if (!r.outputs) return PS_OK;
    ps_parallel_for(r.outputs, 1 + GRAIN_ELEMENTS / (r.count + 1), ctx->threads, reduce_range, &r);
    return PS_OK;
}

/* ---- shape rule ---- */

/* Output shape where the axes are not known: every dim may have become 1, or gone. */
static void infer_unknown_axes(const ps_node *node, const ps_reduce_params *p) {
    ps_shape out = ps_shape_unknown();
    const int rank = node->in[0]->shape.rank;
    if (p->keepdims && rank >= 0) {
        out.rank = rank;
        for (int d = 0; d < rank; d++)
            out.dims[d] = node->in[0]->shape.dims[d] == 1 ? 1 : PS_DIM_UNKNOWN;
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &out);
}

static ps_status infer_axes(const ps_node *node, const int64_t *axes, size_t n, ps_error *err) {
    const ps_reduce_params *p = node->params;
    const ps_shape *s = &node->in[0]->shape;
    bool reduced[PS_MAX_RANK];
    ps_shape out = { 0 };
    if (s->rank < 0) {
        out = ps_shape_unknown();
        if (!effective_axes(p, axes, n) && !p->keepdims) out.rank = 0;
        ps_infer_set(node, 0, node->in[0]->dtype, &out);
        return PS_OK;
    }
    PS_NODE_FAIL_IF(!mark_axes(reduced, s->rank, effective_axes(p, axes, n), n), node, err, SHAPE,
                    "an axis is outside the input's rank %d or repeated", s->rank);
    for (int d = 0; d < s->rank; d++)
        if (!reduced[d] || p->keepdims) out.dims[out.rank++] = reduced[d] ? 1 : s->dims[d];
    ps_infer_set(node, 0, node->in[0]->dtype, &out);
    return PS_OK;
}

static ps_status infer_reduce(const ps_node *node, ps_error *err) {
    const ps_reduce_params *p = node->params;
    int64_t list[PS_MAX_RANK];
    size_t n = 0;
    PS_TRY(ps_pw_check_types(node, 0, 1, PS_PW_NUMBER | PS_PW_BOOL, err));
    if (node->op->max_in < 2) return infer_axes(node, p->axes.data, p->axes.n, err);
    if (!ps_has_in(node, 1)) return infer_axes(node, NULL, 0, err);
    if (ps_const_ints(node, 1, list, PS_MAX_RANK, &n)) return infer_axes(node, list, n, err);
    const ps_shape *axes = &node->in[1]->shape; /* no elements: as if it were absent */
    if (axes->rank == 1 && axes->dims[0] == 0) return infer_axes(node, NULL, 0, err);
    infer_unknown_axes(node, p);
    return PS_OK;
}

static const ps_attr_def reduce_attrs[] = {
    PS_A_INTS(ps_reduce_params, axes),
    PS_A_INT(ps_reduce_params, keepdims, 1),
    PS_ATTRS_END,
};
static const ps_attr_def reduce_input_attrs[] = {
    PS_A_INT(ps_reduce_params, keepdims, 1),
    PS_A_INT(ps_reduce_params, noop_with_empty_axes, 0),
    PS_ATTRS_END,
};

#define REDUCE_REF(name, kind)                                                                                         \
    static ps_status name##_ref(const ps_kernel_ctx *ctx, ps_error *err) {                                             \
        return reduce_ref(ctx, kind, err);                                                                             \
    }
REDUCE_REF(sum, SUM)
REDUCE_REF(mean, MEAN)
REDUCE_REF(prod, PROD)
REDUCE_REF(max, MAX)
REDUCE_REF(min, MIN)
REDUCE_REF(l1, L1)
REDUCE_REF(l2, L2)
REDUCE_REF(sum_square, SUM_SQUARE)
REDUCE_REF(log_sum, LOG_SUM)
REDUCE_REF(log_sum_exp, LOG_SUM_EXP)

/* ---- ArgMax, ArgMin: the first (or last) index of the extreme; a NaN is the extreme ---- */

typedef struct arg_params {
    int64_t axis, keepdims, select_last_index;
} arg_params;

static const ps_attr_def arg_attrs[] = {
    PS_A_INT(arg_params, axis, 0),
    PS_A_INT(arg_params, keepdims, 1),
    PS_A_INT(arg_params, select_last_index, 0),
    PS_ATTRS_END,
};

typedef struct arg_search {
    bool smallest, last;
    acc_type type;
    ps_dtype from;
    const void *in;
    int64_t *out;
    int64_t extent, inner;
} arg_search;

/* Does v take the place of best? */
static bool beats(const arg_search *s, acc v, acc best) {
    if (s->type == ACC_REAL) {
        if (isnan(best.r)) return s->last && isnan(v.r);
        if (isnan(v.r)) return true;
        return s->smallest ? v.r < best.r || (s->last && v.r == best.r) : v.r > best.r || (s->last && v.r == best.r);
    }
    if (v.u == best.u) return s->last;
    const bool less = s->type == ACC_SIGNED ? v.i < best.i : v.u < best.u;
    return s->smallest ? less : !less;
}

/* One outer index, inner elements [first, first + n), n <= BLOCK. */
static void search_block(const arg_search *s, int64_t outer, int64_t first, int64_t n) {
    acc best[BLOCK], x[BLOCK];
    int64_t *out = s->out + outer * s->inner + first;
    for (int64_t k = 0; k < s->extent; k++) {
        load_block(x, s->type, s->from, s->in, (outer * s->extent + k) * s->inner + first, n);
        for (int64_t i = 0; i < n; i++)
            if (k == 0 || beats(s, x[i], best[i])) {
                best[i] = x[i];
                out[i] = k;
            }
    }
}

/* Inner extent 1: the axis itself lies in memory order. */
static void search_row(const arg_search *s, int64_t outer) {
    acc best = { .u = 0 }, x[BLOCK];
    for (int64_t at = 0; at < s->extent; at += BLOCK) {
        const int64_t n = s->extent - at < BLOCK ? s->extent - at : BLOCK;
        load_block(x, s->type, s->from, s->in, outer * s->extent + at, n);
        for (int64_t i = 0; i < n; i++)
            if (at + i == 0 || beats(s, x[i], best)) {
                best = x[i];
                s->out[outer] = at + i;
            }
    }
}

static void search_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const arg_search *s = ctx;
    for (int64_t outer = begin; outer < end; outer++) {
        if (s->inner == 1) {
            search_row(s, outer);
            continue;
        }
        for (int64_t at = 0; at < s->inner; at += BLOCK)
            search_block(s, outer, at, s->inner - at < BLOCK ? s->inner - at : BLOCK);
    }
}

static ps_status arg_ref(const ps_kernel_ctx *ctx, bool smallest, ps_error *err) {
    const arg_params *p = ctx->params;
    const ps_tensor *x = ctx->in[0];
    int axis = 0;
    ps_axis_normalize(p->axis, x->shape.rank, &axis); /* checked by the shape rule */
    arg_search s = { .smallest = smallest,
                     .last = p->select_last_index != 0,
                     .type = acc_type_of(x->dtype),
                     .from = x->dtype,
                     .in = x->data,
                     .out = ctx->out[0]->data };
    s.extent = x->shape.dims[axis];
    s.inner = ps_shape_product(&x->shape, axis + 1, x->shape.rank);
    const int64_t outer = ps_shape_product(&x->shape, 0, axis);
    if (!s.inner || !outer) return PS_OK;
    PS_NODE_FAIL_IF(s.extent == 0, ctx->node, err, SHAPE, "axis %d has no elements to choose from", axis);
    ps_parallel_for(outer, 1 + GRAIN_ELEMENTS / (s.extent * s.inner), ctx->threads, search_range, &s);
    return PS_OK;
}

static ps_status arg_max_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return arg_ref(ctx, false, err);
}

static ps_status arg_min_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return arg_ref(ctx, true, err);
}

static ps_status infer_arg(const ps_node *node, ps_error *err) {
    const arg_params *p = node->params;
    const ps_shape *s = &node->in[0]->shape;
    ps_shape out = ps_shape_unknown();
    int axis;
    PS_TRY(ps_pw_check_types(node, 0, 1, PS_PW_NUMBER, err));
    if (s->rank >= 0) {
        PS_NODE_FAIL_IF(!ps_axis_normalize(p->axis, s->rank, &axis), node, err, SHAPE, "axis %lld is outside rank %d",
                        (long long)p->axis, s->rank);
        out.rank = 0;
        for (int d = 0; d < s->rank; d++)
            if (d != axis || p->keepdims) out.dims[out.rank++] = d == axis ? 1 : s->dims[d];
    }
    ps_infer_set(node, 0, PS_DTYPE_I64, &out);
    return PS_OK;
}

/* ---- CumSum, CumProd ---- */

typedef struct cumulate_params {
    int64_t exclusive, reverse;
} cumulate_params;

static const ps_attr_def cumulate_attrs[] = {
    PS_A_INT(cumulate_params, exclusive, 0),
    PS_A_INT(cumulate_params, reverse, 0),
    PS_ATTRS_END,
};

/* One outer index, inner elements [first, first + n): running sums or products along the axis. */
static void cumulate_block(const ps_kernel_ctx *ctx, reduce_kind kind, int64_t base, int64_t extent, int64_t inner,
                           int64_t n) {
    const ps_tensor *x = ctx->in[0];
    ps_tensor *z = ctx->out[0];
    const cumulate_params *p = ctx->params;
    const acc_type type = acc_type_of(x->dtype);
    acc sum[BLOCK], v[BLOCK];
    for (int64_t i = 0; i < n; i++)
        sum[i] = neutral(kind, type, x->dtype);
    for (int64_t k = 0; k < extent; k++) {
        const int64_t at = base + (p->reverse ? extent - 1 - k : k) * inner;
        load_block(v, type, x->dtype, x->data, at, n);
        if (p->exclusive) store_block(z->data, z->dtype, at, sum, type, n);
        fold(kind, type, sum, 1, v, n);
        if (!p->exclusive) store_block(z->data, z->dtype, at, sum, type, n);
    }
}

static ps_status cumulate(const ps_kernel_ctx *ctx, reduce_kind kind, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    int64_t value = 0;
    size_t n = 0;
    int axis;
    PS_NODE_FAIL_IF(!ps_tensor_get_ints(ctx->in[1], &value, 1, &n) || n != 1, ctx->node, err, SHAPE,
                    "axis must be one integer");
    PS_NODE_FAIL_IF(!ps_axis_normalize(value, x->shape.rank, &axis), ctx->node, err, SHAPE,
                    "axis %lld is outside rank %d", (long long)value, x->shape.rank);
    const int64_t extent = x->shape.dims[axis], inner = ps_shape_product(&x->shape, axis + 1, x->shape.rank);
    const int64_t outer = ps_shape_product(&x->shape, 0, axis);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t at = 0; at < inner; at += BLOCK)
            cumulate_block(ctx, kind, o * extent * inner + at, extent, inner, inner - at < BLOCK ? inner - at : BLOCK);
    return PS_OK;
}

static ps_status cumsum_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return cumulate(ctx, SUM, err);
}

static ps_status cumprod_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return cumulate(ctx, PROD, err);
}

static ps_status infer_cumulate(const ps_node *node, ps_error *err) {
    int64_t axis;
    size_t n;
    int normal;
    PS_TRY(ps_pw_check_types(node, 0, 1, PS_PW_NUMBER, err));
    PS_NODE_FAIL_IF(node->in[0]->shape.rank >= 0 && ps_const_ints(node, 1, &axis, 1, &n) && n == 1 &&
                        !ps_axis_normalize(axis, node->in[0]->shape.rank, &normal),
                    node, err, SHAPE, "axis %lld is outside rank %d", (long long)axis, node->in[0]->shape.rank);
    return ps_infer_same(node, err);
}

/* ---- table ---- */

/* The axes are an attribute before opset `moved`, an optional input from it on. */
#define REDUCE(name, moved, ref)                                                                                       \
    { name, "", 1, 1, 1, 1, 1, reduce_attrs, sizeof(ps_reduce_params), infer_reduce, ref, 0 }, {                       \
        name, "", moved, 1, 2, 1, 1, reduce_input_attrs, sizeof(ps_reduce_params), infer_reduce, ref, 0                \
    }

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits */
    REDUCE("ReduceSum", 13, sum_ref),
    REDUCE("ReduceMean", 18, mean_ref),
    REDUCE("ReduceProd", 18, prod_ref),
    REDUCE("ReduceMax", 18, max_ref),
    REDUCE("ReduceMin", 18, min_ref),
    REDUCE("ReduceL1", 18, l1_ref),
    REDUCE("ReduceL2", 18, l2_ref),
    REDUCE("ReduceSumSquare", 18, sum_square_ref),
    REDUCE("ReduceLogSum", 18, log_sum_ref),
    REDUCE("ReduceLogSumExp", 18, log_sum_exp_ref),
    { "ArgMax", "", 1, 1, 1, 1, 1, arg_attrs, sizeof(arg_params), infer_arg, arg_max_ref, 0 },
    { "ArgMin", "", 1, 1, 1, 1, 1, arg_attrs, sizeof(arg_params), infer_arg, arg_min_ref, 0 },
    { "CumSum", "", 11, 2, 2, 1, 1, cumulate_attrs, sizeof(cumulate_params), infer_cumulate, cumsum_ref, 0 },
    { "CumProd", "", 26, 2, 2, 1, 1, cumulate_attrs, sizeof(cumulate_params), infer_cumulate, cumprod_ref, 0 },
};

const ps_op_family ps_ops_reduce = PS_OP_FAMILY("reduce", ops);
