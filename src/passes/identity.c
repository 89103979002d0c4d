/* identity.c - nodes that do nothing, and pairs that undo or merge with each other.
 *
 * "Nothing" is decided on inferred shapes: equal dims, symbols included. */
#include "passes/rewrite.h"

/* Constant input, or attribute of older opsets; absent is "all zero" (or all one), which the caller names. */
static bool all_ints_are(const ps_node *n, size_t input, const char *attr, int64_t want) {
    int64_t v[4 * PS_MAX_RANK];
    size_t count = 0;
    const ps_attr *a = ps_node_attr(n, attr);
    if (a && a->type == PS_ATTR_INTS) {
        for (size_t i = 0; i < a->n; i++) {
            if (a->u.ints[i] != want) return false;
        }
        return true;
    }
    if (!ps_has_in(n, input)) return true;
    if (!ps_const_ints(n, input, v, 4 * PS_MAX_RANK, &count)) return false;
    for (size_t i = 0; i < count; i++) {
        if (v[i] != want) return false;
    }
    return true;
}

static bool pads_nothing(const ps_node *n) {
    const ps_attr *a = ps_node_attr(n, "pads");
    return (a || ps_has_in(n, 1)) && all_ints_are(n, 1, "pads", 0);
}

static bool keeps_order(const ps_node *n) {
    const ps_transpose_params *p = n->params;
    if (!p->perm.n) return n->in[0]->shape.rank == 0 || n->in[0]->shape.rank == 1;
    for (size_t i = 0; i < p->perm.n; i++) {
        if (p->perm.data[i] != (int64_t)i) return false;
    }
    return true;
}

static bool drops_nothing(const ps_node *n) {
    if (n->op->since < 7 && !ps_attr_int(n, "is_test", 0)) return false;
    if (ps_has_out(n, 1) && !ps_value_unused(n->out[1])) return false;
    return all_ints_are(n, 2, "", 0); /* training_mode */
}

/* x * 1, x / 1, x ^ 1, x + 0, x - 0, with a constant that broadcasts into x. *ret is x. */
static bool neutral(const ps_node *n, ps_value **ret) {
    bool mul = ps_is(n, "Mul"), add = ps_is(n, "Add"), right = ps_is(n, "Div") || ps_is(n, "Pow"),
         sub = ps_is(n, "Sub");
    if (!mul && !add && !right && !sub) return false;
    for (size_t i = 0; i < 2; i++) {
        double c;
        const ps_tensor *t = ps_const(n->in[i]);
        if ((i == 0 && !mul && !add) || !t || !ps_tensor_count(t) || !ps_tensor_uniform(t, &c)) continue;
        if (c != (mul || right ? 1.0 : 0.0)) continue;
        *ret = n->in[1 - i];
        return (*ret)->dtype == n->out[0]->dtype && ps_shapes_agree(&(*ret)->shape, &n->out[0]->shape);
    }
    return false;
}

/* The value that n's output equals, or NULL. */
static ps_value *same_as(const ps_node *n) {
    ps_value *x = ps_in(n, 0);
    if (!x || n->domain[0] || !n->out[0]) return NULL;
    ps_value *other;
    if (ps_is(n, "Identity")) return x;
    if (ps_is(n, "Dropout")) return drops_nothing(n) ? x : NULL;
    if (ps_is(n, "Cast")) {
        return n->op->since >= 6 && x->dtype && ((const ps_cast_params *)n->params)->to == (int64_t)x->dtype ? x : NULL;
    }
    if (ps_is(n, "Transpose")) return keeps_order(n) ? x : NULL;
    if (n->n_in == 1 &&
        (ps_is(n, "Concat") || ps_is(n, "Sum") || ps_is(n, "Max") || ps_is(n, "Min") || ps_is(n, "Mean"))) {
        return x;
    }
    if (neutral(n, &other)) return other;
    bool agree = x->dtype == n->out[0]->dtype && ps_shapes_agree(&x->shape, &n->out[0]->shape);
    if (!agree) {
        const ps_node *p = x->producer;
        bool undone = ps_is_view(n) && ps_is_view(p) && p->graph == n->graph &&
                      ps_shapes_agree(&p->in[0]->shape, &n->out[0]->shape);
        return undone ? p->in[0] : NULL;
    }
    if (ps_is_view(n) || ps_is(n, "Expand")) return x;
    if (ps_is(n, "Slice")) return all_ints_are(n, 4, "steps", 1) ? x : NULL;
    if (ps_is(n, "Pad")) return pads_nothing(n) ? x : NULL;
    return NULL;
}

/* Two views in a row: one Reshape to the final shape. */
static ps_status merge_views(ps_rw *rw, ps_node *n) {
    ps_node *p = n->in[0]->producer, *made;
    const ps_shape *shape = &n->out[0]->shape;
    if (!ps_is_view(n) || !ps_is_view(p) || p->graph != n->graph || !ps_shape_fixed(shape)) return PS_OK;
    bool zero = false;
    for (int d = 0; d < shape->rank; d++)
        zero |= shape->dims[d] == 0;
    ps_value *in[2] = { p->in[0] };
    PS_TRY(ps_rw_ints(rw, n->graph, shape->dims, (size_t)shape->rank, &in[1]));
    PS_TRY(ps_rw_replace(rw, n, "Reshape", "", in, 2, &made));
    if (zero) PS_TRY(ps_node_set_int(made, "allowzero", 1, rw->err));
    return ps_rw_finish(rw, made, 14);
}

/* The rank, or 0 if it is unknown or perm is none (with an unknown rank nobody has checked it). */
static size_t permutation(const ps_node *n, int64_t perm[PS_MAX_RANK]) {
    const ps_transpose_params *p = n->params;
    size_t rank = p->perm.n ? p->perm.n : n->in[0]->shape.rank > 0 ? (size_t)n->in[0]->shape.rank : 0;
    unsigned seen = 0;
    if (rank > PS_MAX_RANK) return 0;
    for (size_t i = 0; i < rank; i++) {
        int axis;
        if (!ps_axis_normalize(p->perm.n ? p->perm.data[i] : (int64_t)(rank - 1 - i), (int)rank, &axis)) return 0;
        perm[i] = axis;
        seen |= 1u << axis;
    }
    return seen + 1 == 1u << rank ? rank : 0;
}

static ps_status merge_transposes(ps_rw *rw, ps_node *n) {
    ps_node *p = n->in[0]->producer, *made;
    int64_t outer[PS_MAX_RANK], inner[PS_MAX_RANK], perm[PS_MAX_RANK];
    if (!ps_is(n, "Transpose") || !ps_is(p, "Transpose") || p->graph != n->graph) return PS_OK;
    size_t rank = permutation(n, outer);
    if (rank == 0 || permutation(p, inner) != rank) return PS_OK;
    for (size_t i = 0; i < rank; i++)
        perm[i] = inner[outer[i]];
    PS_TRY(ps_rw_replace(rw, n, "Transpose", "", &p->in[0], 1, &made));
    PS_TRY(ps_node_set_ints(made, "perm", perm, rank, rw->err));
    return ps_rw_finish(rw, made, 13);
}

static ps_status simplify(ps_rw *rw, ps_node *n) {
    if (!n->op || !ps_has_in(n, 0)) return PS_OK;
    ps_value *v = same_as(n);
    if (v) {
        bool done;
        PS_TRY(ps_rw_bypass(rw, n, v, &done));
        if (done) return PS_OK;
    }
    if (v && ps_is(n, "Identity")) return PS_OK;
    if (ps_is(n, "Transpose")) return merge_transposes(rw, n);
    return v ? PS_OK : merge_views(rw, n);
}

ps_status ps_pass_identity(ps_rw *rw) {
    return ps_rw_each(rw, simplify);
}
