/* facts.c - see facts.h. */
#include "ops/facts.h"

/* The tensor of a graph input is a default that a run may replace, so it is no fact. */
const ps_tensor *ps_facts_tensor(const ps_facts *f, size_t i) {
    if (f->ctx) return i < f->ctx->n_in ? f->ctx->in[i] : NULL;
    return ps_has_in(f->node, i) && !f->node->in[i]->is_input ? f->node->in[i]->constant : NULL;
}

bool ps_facts_has(const ps_facts *f, size_t i) {
    return f->ctx ? i < f->ctx->n_in && f->ctx->in[i] : ps_has_in(f->node, i);
}

ps_dtype ps_facts_dtype(const ps_facts *f, size_t i) {
    if (!ps_facts_has(f, i)) return PS_DTYPE_UNDEFINED;
    return f->ctx ? f->ctx->in[i]->dtype : f->node->in[i]->dtype;
}

ps_shape ps_facts_shape(const ps_facts *f, size_t i) {
    if (!ps_facts_has(f, i)) return ps_shape_unknown();
    return f->ctx ? f->ctx->in[i]->shape : f->node->in[i]->shape;
}

ps_status ps_facts_ints(const ps_facts *f, size_t i, const char *what, int64_t *ret, size_t max, size_t *ret_n,
                        bool *ret_known, ps_error *err) {
    *ret_known = false;
    if (!ps_facts_has(f, i)) return PS_OK;
    ps_dtype dtype = ps_facts_dtype(f, i);
    PS_FAIL_IF(dtype != PS_DTYPE_UNDEFINED && !ps_dtype_is_int(dtype), err, TYPE,
               "%s: %s has element type %s, not an integer", PS_LABEL(f->node), what, ps_dtype_name(dtype));
    int64_t n = ps_facts_length(f, i);
    PS_FAIL_IF(n >= 0 && (uint64_t)n > max, err, SHAPE, "%s: %s has %lld entries, more than the %zu that are possible",
               PS_LABEL(f->node), what, (long long)n, max);
    const ps_tensor *t = ps_facts_tensor(f, i);
    if (!t) return PS_OK;
    PS_FAIL_IF(!ps_tensor_get_ints(t, ret, max, ret_n), err, TYPE, "%s: %s is not a list of at most %zu integers",
               PS_LABEL(f->node), what, max);
    *ret_known = true;
    return PS_OK;
}

int64_t ps_facts_length(const ps_facts *f, size_t i) {
    ps_shape s = ps_facts_shape(f, i);
    int64_t n;
    return ps_shape_fixed(&s) && ps_shape_elements(&s, &n) ? n : -1;
}

bool ps_facts_double(const ps_facts *f, size_t i, double *ret) {
    const ps_tensor *t = ps_facts_tensor(f, i);
    return t && ps_tensor_count(t) == 1 && ps_tensor_get_double(t, 0, ret);
}

ps_status ps_axis_check(const ps_node *node, int64_t axis, int rank, int *ret, ps_error *err) {
    PS_FAIL_IF(!ps_axis_normalize(axis, rank, ret), err, SHAPE, "%s: axis %lld is outside [-%d, %d)", PS_LABEL(node),
               (long long)axis, rank, rank);
    return PS_OK;
}

ps_status ps_axes_mark(const ps_node *node, const int64_t *axes, size_t n, int rank, bool ret[PS_MAX_RANK],
                       ps_error *err) {
    for (size_t i = 0; i < n; i++) {
        int axis;
        PS_TRY(ps_axis_check(node, axes[i], rank, &axis, err));
        PS_FAIL_IF(ret[axis], err, SHAPE, "%s: axis %d is given twice", PS_LABEL(node), axis);
        ret[axis] = true;
    }
    return PS_OK;
}

ps_status ps_infer_checked(const ps_node *node, size_t i, ps_dtype dtype, const ps_shape *shape, ps_error *err) {
    int64_t n;
    size_t bytes;
    if (ps_shape_fixed(shape)) {
        bool fits = ps_shape_elements(shape, &n) && (dtype == PS_DTYPE_UNDEFINED || ps_dtype_bytes(dtype, n, &bytes));
        PS_FAIL_IF(!fits || n < 0, err, LIMIT, "%s: output shape %s is too large to address", PS_LABEL(node),
                   PS_SHAPE_TEXT(shape));
    }
    ps_infer_set(node, i, dtype, shape);
    return PS_OK;
}
