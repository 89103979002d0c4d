/* einsum.c - Einsum: sums of products over labelled dims, as numpy.einsum has them.
 *
 * Operands are contracted from left to right, two at a time: each step keeps the labels that later operands or the
 * output still need and sums over the rest. Equal labels within an operand walk its diagonal. Floats are computed in
 * double and rounded once, integers modulo 2^64. Source: ONNX operator spec Einsum-12/28. */
#include "ops/einsum.h"

#include <ctype.h>

#include "ops/kernel_util.h"
#include "ops/move.h"
#include "tensor/convert.h"

enum { MAX_OPERANDS = 64 };

typedef struct einsum_params {
    const char *equation;
} einsum_params;

static const ps_attr_def einsum_attrs[] = {
    { "equation", PS_ATTR_STRING, offsetof(einsum_params, equation), 0, 0, NULL, PS_ATTR_REQUIRED },
    PS_ATTRS_END,
};

/* ---- the equation ---- */
static const char *equation_of(const ps_node *node) {
    return ((const einsum_params *)node->params)->equation;
}

static int label_of(char c) {
    return c >= 'a' && c <= 'z' ? c - 'a' : c >= 'A' && c <= 'Z' ? c - 'A' + 26 : -1;
}

/* What stands between two commas, or behind the arrow; ends at `end`. */
typedef struct span {
    const char *at, *end;
} span;

static span output_span(const char *equation, bool *ret_explicit) {
    const char *arrow = strstr(equation, "->");
    *ret_explicit = arrow != NULL;
    return arrow ? (span) { arrow + 2, arrow + strlen(arrow) } : (span) { NULL, NULL };
}

/* false if there is no term i. */
static bool operand_span(const char *equation, size_t i, span *ret) {
    const char *arrow = strstr(equation, "->"), *end = arrow ? arrow : equation + strlen(equation);
    for (const char *at = equation;; i--) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        *ret = (span) { at, comma ? comma : end };
        if (i == 0) return true;
        if (!comma) return false;
        at = comma + 1;
    }
}

/* Letters and the ellipsis of a term in order; `dims` is how many dims the ellipsis stands for, -1: cannot be. */
static ps_status read_term(const ps_node *node, span s, int rank, ps_einsum_term *ret, int *ret_dims, ps_error *err) {
    int letters = 0, dots = 0;
    for (const char *c = s.at; c < s.end; c++) {
        bool ellipsis = *c == '.' && s.end - c >= 3 && c[1] == '.' && c[2] == '.';
        PS_FAIL_IF(!ellipsis && label_of(*c) < 0 && *c != ' ', err, INVALID,
                   "%s: equation '%s' holds '%c' where a letter or an ellipsis must stand", PS_LABEL(node),
                   equation_of(node), isprint((unsigned char)*c) ? *c : '?');
        letters += label_of(*c) >= 0;
        dots += ellipsis;
        if (ellipsis) c += 2;
    }
    PS_FAIL_IF(dots > 1, err, INVALID, "%s: equation '%s' has two ellipses in one term", PS_LABEL(node),
               equation_of(node));
    if (rank < 0) rank = letters; /* of the output: as many as there are */
    int dims = dots ? rank - letters : 0;
    PS_FAIL_IF(dims < 0 || letters + dims != rank || rank > PS_MAX_RANK, err, SHAPE,
               "%s: a term of equation '%s' has %d labels, its operand has rank %d", PS_LABEL(node), equation_of(node),
               letters, rank);
    ret->rank = 0;
    for (const char *c = s.at; c < s.end; c++) {
        if (label_of(*c) >= 0) ret->labels[ret->rank++] = (uint8_t)label_of(*c);
        if (*c != '.') continue;
        for (int k = dims - 1; k >= 0; k--)
            ret->labels[ret->rank++] = (uint8_t)(PS_EINSUM_ELLIPSIS + k);
        c += 2;
    }
    *ret_dims = dims;
    return PS_OK;
}

ps_status ps_einsum_operand(const ps_node *node, size_t i, int rank, ps_einsum_term *ret, ps_error *err) {
    span s;
    int dims;
    PS_FAIL_IF(!operand_span(equation_of(node), i, &s), err, INVALID, "%s: equation '%s' has no term for operand %zu",
               PS_LABEL(node), equation_of(node), i);
    return read_term(node, s, rank, ret, &dims, err);
}

/* Counts of all labels, and the largest ellipsis. */
static ps_status count_labels(const ps_node *node, const int *ranks, size_t n, int count[PS_EINSUM_LABELS],
                              int *ret_dims, ps_error *err) {
    span s;
    *ret_dims = 0;
    memset(count, 0, PS_EINSUM_LABELS * sizeof *count);
    PS_FAIL_IF(operand_span(equation_of(node), n, &s), err, INVALID, "%s: equation '%s' has more than %zu terms",
               PS_LABEL(node), equation_of(node), n);
    for (size_t i = 0; i < n; i++) {
        ps_einsum_term t;
        int dims = 0;
        PS_TRY(ps_einsum_operand(node, i, ranks[i], &t, err));
        for (int d = 0; d < t.rank; d++) {
            count[t.labels[d]]++;
            dims += t.labels[d] >= PS_EINSUM_ELLIPSIS;
        }
        if (dims > *ret_dims) *ret_dims = dims;
    }
    return PS_OK;
}

/* Implicit output: the ellipsis, then in the order of the alphabet (capitals first) what occurs once. */
static ps_status implicit_output(const ps_node *node, const int count[PS_EINSUM_LABELS], int dims, ps_einsum_term *ret,
                                 ps_error *err) {
    uint8_t labels[PS_EINSUM_LABELS];
    int n = 0;
    for (int k = dims - 1; k >= 0; k--)
        labels[n++] = (uint8_t)(PS_EINSUM_ELLIPSIS + k);
    for (int k = 0; k < 52; k++) {
        int label = (k + 26) % 52;
        if (count[label] == 1) labels[n++] = (uint8_t)label;
    }
    PS_FAIL_IF(n > PS_MAX_RANK, err, LIMIT, "%s: the output has rank %d, at most %d is supported", PS_LABEL(node), n,
               PS_MAX_RANK);
    ret->rank = n;
    memcpy(ret->labels, labels, (size_t)n);
    return PS_OK;
}

ps_status ps_einsum_output(const ps_node *node, const int *ranks, size_t n, ps_einsum_term *ret, ps_error *err) {
    int count[PS_EINSUM_LABELS], dims, letters = 0, seen[PS_EINSUM_LABELS] = { 0 };
    bool is_explicit;
    span s = output_span(equation_of(node), &is_explicit);
    PS_TRY(count_labels(node, ranks, n, count, &dims, err));
    if (!is_explicit) return implicit_output(node, count, dims, ret, err);
    for (const char *c = s.at; c < s.end; c++)
        letters += label_of(*c) >= 0;
    bool dots = memchr(s.at, '.', (size_t)(s.end - s.at)) != NULL;
    PS_FAIL_IF(letters + (dots ? dims : 0) > PS_MAX_RANK, err, LIMIT,
               "%s: the output has rank %d, at most %d is supported", PS_LABEL(node), letters + dims, PS_MAX_RANK);
    PS_TRY(read_term(node, s, letters + (dots ? dims : 0), ret, &dims, err));
    for (int d = 0; d < ret->rank; d++)
        PS_FAIL_IF(!count[ret->labels[d]] || seen[ret->labels[d]]++, err, INVALID,
                   "%s: the output of equation '%s' has a label twice, or one that no operand has", PS_LABEL(node),
                   equation_of(node));
    return PS_OK;
}

/* ---- shape rule ---- */
/* Joins the extent of a label in one more place: equal, or one of them 1. */
static ps_status join_extent(const ps_node *node, bool *known, int64_t *extent, int64_t more, ps_error *err) {
    if (!*known || *extent == 1) {
        *extent = more;
    } else if (more != 1) {
        PS_FAIL_IF(*extent >= 0 && more >= 0 && *extent != more, err, SHAPE,
                   "%s: a label of equation '%s' stands for %lld and for %lld", PS_LABEL(node), equation_of(node),
                   (long long)*extent, (long long)more);
        *extent = ps_dim_merge(*extent, more);
    }
    *known = true;
    return PS_OK;
}

/* Equal labels within an operand must have equal extents: there is no broadcasting along a diagonal. */
static ps_status check_diagonal(const ps_node *node, const ps_shape *x, const ps_einsum_term *t, ps_error *err) {
    for (int d = 1; d < t->rank; d++) {
        for (int e = 0; e < d; e++) {
            bool differ =
                t->labels[d] == t->labels[e] && x->dims[d] >= 0 && x->dims[e] >= 0 && x->dims[d] != x->dims[e];
            PS_FAIL_IF(differ, err, SHAPE, "%s: operand %s has no diagonal that equation '%s' asks for", PS_LABEL(node),
                       PS_SHAPE_TEXT(x), equation_of(node));
        }
    }
    return PS_OK;
}

static ps_status label_extents(const ps_node *node, const ps_shape *shapes, size_t n, int64_t extents[PS_EINSUM_LABELS],
                               ps_error *err) {
    bool known[PS_EINSUM_LABELS] = { false };
    for (size_t i = 0; i < n; i++) {
        ps_einsum_term t;
        PS_TRY(ps_einsum_operand(node, i, shapes[i].rank, &t, err));
        PS_TRY(check_diagonal(node, &shapes[i], &t, err));
        for (int d = 0; d < t.rank; d++)
            PS_TRY(join_extent(node, &known[t.labels[d]], &extents[t.labels[d]], shapes[i].dims[d], err));
    }
    return PS_OK;
}

static ps_status einsum_infer(const ps_node *node, ps_error *err) {
    ps_shape shapes[MAX_OPERANDS], y = ps_shape_unknown();
    int ranks[MAX_OPERANDS];
    size_t n = node->n_in;
    bool known = true;
    PS_FAIL_IF(n > MAX_OPERANDS, err, LIMIT, "%s: has %zu operands, at most %d are supported", PS_LABEL(node), n,
               MAX_OPERANDS);
    for (size_t i = 0; i < n; i++) {
        PS_FAIL_IF(!node->in[i], err, FORMAT, "%s: operand %zu is missing", PS_LABEL(node), i);
        ps_dtype t = node->in[i]->dtype;
        PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && !ps_dtype_is_float(t) && !ps_dtype_is_int(t), err, TYPE,
                   "%s: operand %zu is %s, it must be a number", PS_LABEL(node), i, ps_dtype_name(t));
        PS_TRY(ps_check_same_type(node, i, 0, err));
        shapes[i] = node->in[i]->shape;
        ranks[i] = shapes[i].rank;
        known = known && ranks[i] >= 0;
    }
    if (known) {
        int64_t extents[PS_EINSUM_LABELS];
        ps_einsum_term out;
        PS_TRY(ps_einsum_output(node, ranks, n, &out, err));
        PS_TRY(label_extents(node, shapes, n, extents, err));
        y.rank = out.rank;
        for (int d = 0; d < out.rank; d++)
            y.dims[d] = extents[out.labels[d]];
    }
    return ps_infer_checked(node, 0, node->in[0]->dtype, &y, err);
}

/* ---- contraction ---- */
typedef union element {
    double real;
    uint64_t whole;
} element;

/* A tensor over labels: element = data[sum of index[label] * strides[label]]. Label extents are the einsum's own, so a
 * dim of 1 that is broadcast has stride 0. */
typedef struct operand {
    bool has[PS_EINSUM_LABELS];
    int64_t strides[PS_EINSUM_LABELS];
    element *data, *owned;
} operand;

/* Labels in an order, with the strides of both operands. */
typedef struct loops {
    int n;
    int64_t dims[PS_EINSUM_LABELS], a[PS_EINSUM_LABELS], b[PS_EINSUM_LABELS];
} loops;

typedef struct contraction {
    const element *a, *b;
    bool real;
    loops out, sum;
    int64_t out_count, sum_count;
    element *result;
} contraction;

static void loops_add(loops *l, int64_t dim, int64_t a, int64_t b) {
    if (dim == 1) return;
    l->dims[l->n] = dim;
    l->a[l->n] = a;
    l->b[l->n++] = b;
}

/* Steps an odometer over dims [0, n) of l. */
static void loops_next(const loops *l, int n, int64_t *at, int64_t *a, int64_t *b) {
    for (int d = n - 1; d >= 0; d--) {
        *a += l->a[d];
        *b += l->b[d];
        if (++at[d] < l->dims[d]) return;
        *a -= l->a[d] * l->dims[d];
        *b -= l->b[d] * l->dims[d];
        at[d] = 0;
    }
}

static element sum_products(const contraction *c, int64_t a, int64_t b) {
    const loops *l = &c->sum;
    int64_t at[PS_EINSUM_LABELS] = { 0 }, last = l->n ? l->dims[l->n - 1] : 1;
    int64_t step_a = l->n ? l->a[l->n - 1] : 0, step_b = l->n ? l->b[l->n - 1] : 0;
    element sum = { .whole = 0 }; /* zero of both kinds */
    for (int64_t k = 0; k < c->sum_count; k += last) {
        const element *x = c->a + a, *y = c->b + b;
        if (c->real)
            for (int64_t i = 0; i < last; i++)
                sum.real += x[i * step_a].real * y[i * step_b].real;
        else
            for (int64_t i = 0; i < last; i++)
                sum.whole += x[i * step_a].whole * y[i * step_b].whole;
        loops_next(l, l->n - 1, at, &a, &b);
    }
    return sum;
}

static void contract_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const contraction *c = ctx;
    int64_t at[PS_EINSUM_LABELS] = { 0 }, a = 0, b = 0, rest = begin;
    (void)thread;
    for (int d = c->out.n - 1; d >= 0; d--) {
        at[d] = rest % c->out.dims[d];
        rest /= c->out.dims[d];
        a += at[d] * c->out.a[d];
        b += at[d] * c->out.b[d];
    }
    for (int64_t k = begin; k < end; k++) {
        c->result[k] = sum_products(c, a, b);
        loops_next(&c->out, c->out.n, at, &a, &b);
    }
}

typedef struct einsum_job {
    const ps_kernel_ctx *ctx;
    bool real;
    int64_t extents[PS_EINSUM_LABELS];
} einsum_job;

static ps_status too_large(const ps_kernel_ctx *ctx, ps_error *err) {
    return PS_FAIL(err, LIMIT, "%s: a product of operands is too large to address", PS_LABEL(ctx->node));
}

/* ret = a b summed over what is not in `keep` (n labels, in the order of the result). a and b stay. */
static ps_status contract(const einsum_job *job, const operand *a, const operand *b, const uint8_t *keep, int n,
                          operand *ret, ps_error *err) {
    bool kept[PS_EINSUM_LABELS] = { false };
    contraction c = { .a = a->data, .b = b->data, .real = job->real, .out_count = 1, .sum_count = 1 };
    *ret = (operand) { .owned = NULL };
    for (int k = 0; k < n; k++) {
        int64_t dim = job->extents[keep[k]];
        kept[keep[k]] = ret->has[keep[k]] = true;
        loops_add(&c.out, dim, a->strides[keep[k]], b->strides[keep[k]]);
        if (__builtin_mul_overflow(c.out_count, dim, &c.out_count)) return too_large(job->ctx, err);
    }
    for (int l = 0; l < PS_EINSUM_LABELS; l++) {
        if (kept[l] || (!a->has[l] && !b->has[l])) continue;
        loops_add(&c.sum, job->extents[l], a->strides[l], b->strides[l]);
        if (__builtin_mul_overflow(c.sum_count, job->extents[l], &c.sum_count)) return too_large(job->ctx, err);
    }
    int64_t stride = 1;
    for (int k = n - 1; k >= 0; k--) {
        ret->strides[keep[k]] = job->extents[keep[k]] == 1 ? 0 : stride;
        stride *= job->extents[keep[k]];
    }
    c.result = ret->data = ret->owned = ps_alloc_array(job->ctx->alloc, (size_t)c.out_count, sizeof(element));
    if (!c.result) return PS_FAIL_NOMEM(err, "a product of operands");
    int64_t grain = c.sum_count < 4096 ? 4096 / (c.sum_count + 1) + 1 : 1;
    ps_parallel_for(c.out_count, grain, job->ctx->threads, contract_range, &c);
    return PS_OK;
}

/* Input i as doubles or 64-bit integers, with the strides of equal labels added up. */
static ps_status load_operand(const einsum_job *job, size_t i, operand *ret, ps_error *err) {
    const ps_tensor *x = job->ctx->in[i];
    bool is_unsigned = x->dtype == PS_DTYPE_U64;
    ps_einsum_term t;
    int64_t strides[PS_MAX_RANK];
    *ret = (operand) { .owned = NULL };
    PS_TRY(ps_einsum_operand(job->ctx->node, i, x->shape.rank, &t, err));
    ps_shape_strides(&x->shape, strides);
    for (int d = 0; d < t.rank; d++) {
        ret->has[t.labels[d]] = true;
        if (x->shape.dims[d] != 1) ret->strides[t.labels[d]] += strides[d];
    }
    size_t n = ps_tensor_count(x);
    ret->data = ret->owned = ps_alloc_array(job->ctx->alloc, n, sizeof(element));
    if (!ret->data) return PS_FAIL_NOMEM(err, "an operand in full width");
    ps_convert(x->data, x->dtype, ret->data,
               job->real     ? PS_DTYPE_F64
               : is_unsigned ? PS_DTYPE_U64
                             : PS_DTYPE_I64,
               n, false);
    return PS_OK;
}

static void release_operand(const einsum_job *job, operand *o) {
    ps_free(job->ctx->alloc, o->owned);
    o->owned = NULL;
}

/* Labels of a that `next` or anything later needs; sums of a alone are done before products are. */
static int labels_wanted(const operand *a, const operand *next, const bool later[PS_EINSUM_LABELS], uint8_t *ret) {
    int n = 0;
    for (int l = 0; l < PS_EINSUM_LABELS; l++)
        if (a->has[l] && ((next && next->has[l]) || later[l])) ret[n++] = (uint8_t)l;
    return n;
}

static bool sums_alone(const operand *a, const operand *next, const bool later[PS_EINSUM_LABELS]) {
    for (int l = 0; l < PS_EINSUM_LABELS; l++)
        if (a->has[l] && !next->has[l] && !later[l]) return true;
    return false;
}

static ps_status reduce_alone(const einsum_job *job, operand *a, const operand *next,
                              const bool later[PS_EINSUM_LABELS], ps_error *err) {
    static const element real_one = { .real = 1 }, whole_one = { .whole = 1 };
    uint8_t keep[PS_EINSUM_LABELS];
    operand sum, one = { .data = NULL };
    element value = job->real ? real_one : whole_one;
    one.data = &value;
    if (!sums_alone(a, next, later)) return PS_OK;
    int n = labels_wanted(a, next, later, keep);
    ps_status status = contract(job, a, &one, keep, n, &sum, err);
    if (status != PS_OK) return status;
    release_operand(job, a);
    *a = sum;
    return PS_OK;
}

/* What the output and the operands after i need. */
static ps_status wanted_later(const einsum_job *job, size_t i, const ps_einsum_term *out, bool ret[PS_EINSUM_LABELS],
                              ps_error *err) {
    memset(ret, 0, PS_EINSUM_LABELS * sizeof *ret);
    for (int d = 0; d < out->rank; d++)
        ret[out->labels[d]] = true;
    for (size_t k = i + 1; k < job->ctx->n_in; k++) {
        ps_einsum_term t;
        PS_TRY(ps_einsum_operand(job->ctx->node, k, job->ctx->in[k]->shape.rank, &t, err));
        for (int d = 0; d < t.rank; d++)
            ret[t.labels[d]] = true;
    }
    return PS_OK;
}

/* *a takes in operand i; the last one leaves the labels in the output's order. */
static ps_status take_operand(const einsum_job *job, operand *a, size_t i, const ps_einsum_term *out, ps_error *err) {
    bool later[PS_EINSUM_LABELS];
    uint8_t keep[PS_EINSUM_LABELS];
    operand b, product = { .owned = NULL };
    ps_status status = load_operand(job, i, &b, err);
    if (status == PS_OK) status = wanted_later(job, i, out, later, err);
    if (status == PS_OK) status = reduce_alone(job, a, &b, later, err);
    if (status == PS_OK) status = reduce_alone(job, &b, a, later, err);
    if (status == PS_OK) {
        bool last = i + 1 == job->ctx->n_in;
        int n = last ? out->rank : 0;
        memcpy(keep, out->labels, (size_t)n);
        for (int l = 0; !last && l < PS_EINSUM_LABELS; l++)
            if ((a->has[l] || b.has[l]) && later[l]) keep[n++] = (uint8_t)l;
        status = contract(job, a, &b, keep, n, &product, err);
    }
    release_operand(job, &b);
    release_operand(job, a);
    *a = product;
    return status;
}

static ps_status einsum_run(const einsum_job *job, const ps_einsum_term *out, ps_error *err) {
    const ps_kernel_ctx *ctx = job->ctx;
    operand a = { .owned = ps_alloc(ctx->alloc, sizeof(element)) };
    if (!a.owned) return PS_FAIL_NOMEM(err, "a product of operands");
    a.data = a.owned;
    if (job->real)
        a.data->real = 1;
    else
        a.data->whole = 1;
    ps_status status = PS_OK;
    for (size_t i = 0; i < ctx->n_in && status == PS_OK; i++)
        status = take_operand(job, &a, i, out, err);
    if (status == PS_OK)
        ps_convert(a.data, job->real ? PS_DTYPE_F64 : PS_DTYPE_I64, ctx->out[0]->data, ctx->out[0]->dtype,
                   ps_tensor_count(ctx->out[0]), false);
    release_operand(job, &a);
    return status;
}

static ps_status einsum_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    einsum_job job = { .ctx = ctx, .real = ps_dtype_is_float(ctx->in[0]->dtype) };
    ps_shape shapes[MAX_OPERANDS], y = { 0, { 0 } };
    int ranks[MAX_OPERANDS];
    ps_einsum_term out;
    for (size_t i = 0; i < ctx->n_in; i++) {
        shapes[i] = ctx->in[i]->shape;
        ranks[i] = shapes[i].rank;
    }
    PS_TRY(ps_einsum_output(ctx->node, ranks, ctx->n_in, &out, err));
    PS_TRY(label_extents(ctx->node, shapes, ctx->n_in, job.extents, err));
    for (int d = 0; d < out.rank; d++)
        y.dims[y.rank++] = job.extents[out.labels[d]];
    PS_TRY(ps_move_output(ctx, 0, ctx->in[0]->dtype, &y, err));
    return einsum_run(&job, &out, err);
}

static const ps_op ops[] = {
    { "Einsum", "", 12, 1, PS_VARIADIC, 1, 1, einsum_attrs, sizeof(einsum_params), einsum_infer, einsum_ref, 0 },
};
const ps_op_family ps_ops_einsum = PS_OP_FAMILY("einsum", ops);
