/* layernorm.c - decomposed LayerNormalization over the last dim.
 *
 *     d = x - mean(x);  d / sqrt(mean(d^2) + eps) [* gamma [+ beta]]
 *
 * with mean a ReduceMean over the last axis that keeps it and d^2 a Pow or a Mul. */
#include "passes/rewrite.h"

static bool mean_of_last(const ps_node *n) {
    int axes[PS_MAX_RANK];
    size_t count;
    int rank = n ? n->in[0]->shape.rank : -1;
    return ps_is(n, "ReduceMean") && ps_attr_int(n, "keepdims", 1) && rank >= 1 &&
           ps_node_axes(n, rank, axes, &count) && count == 1 && axes[0] == rank - 1;
}

/* v^2 of some v: *ret. */
static bool square_of(const ps_value *v, ps_value **ret) {
    const ps_node *n = v->producer;
    float two;
    if (ps_is(n, "Mul") && n->in[0] == n->in[1]) {
        *ret = n->in[0];
        return true;
    }
    if (!ps_is(n, "Pow") || !ps_const_f32(n->in[1], &two) || two != 2) return false;
    *ret = n->in[0];
    return true;
}

/* div = (x - mean) / sqrt(var + eps) */
static bool match_div(const ps_node *div, ps_value **ret_x, float *ret_eps) {
    if (!ps_is(div, "Div") || div->out[0]->dtype != PS_DTYPE_F32) return false;
    const ps_node *sub = div->in[0]->producer, *root = div->in[1]->producer;
    if (!ps_is(sub, "Sub") || !ps_is(root, "Sqrt") || !mean_of_last(sub->in[1]->producer)) return false;
    if (sub->in[1]->producer->in[0] != sub->in[0]) return false;
    const ps_node *add = root->in[0]->producer;
    if (!ps_is(add, "Add")) return false;
    size_t c = ps_const_f32(add->in[1], ret_eps) ? 1 : 0;
    if (!ps_const_f32(add->in[c], ret_eps)) return false;
    const ps_node *var = add->in[1 - c]->producer;
    ps_value *d;
    if (!mean_of_last(var) || !square_of(var->in[0], &d) || d != sub->out[0]) return false;
    *ret_x = sub->in[0];
    return true;
}

/* A constant [n], n the last dim of x if that is known. */
static bool is_vector(const ps_value *v, const ps_value *x) {
    const ps_tensor *t = ps_const_floats(v);
    int64_t last = x->shape.rank >= 1 ? x->shape.dims[x->shape.rank - 1] : -1;
    return t && t->shape.rank == 1 && (last < 0 ? t->shape.dims[0] > 1 : t->shape.dims[0] == last);
}

/* n = m op constant vector; *ret_m and *ret_c. */
static bool times_vector(const ps_node *n, const char *op, ps_value **ret_m, ps_value **ret_c) {
    if (!ps_is(n, op) || n->n_in != 2) return false;
    size_t c = is_vector(n->in[1], n->out[0]) ? 1 : 0;
    *ret_m = n->in[1 - c];
    *ret_c = n->in[c];
    return is_vector(*ret_c, n->out[0]);
}

static bool followed_by(const ps_node *n, const char *op) {
    ps_value *m, *c;
    const ps_node *next = ps_value_only_consumer(n->out[0]);
    return next && next->graph == n->graph && times_vector(next, op, &m, &c);
}

static ps_status ones(ps_rw *rw, ps_graph *g, int64_t n, ps_value **ret) {
    ps_shape shape = ps_shape_make(1, &n);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &shape, &t, rw->err));
    for (int64_t i = 0; i < n; i++)
        ((float *)t->data)[i] = 1;
    return ps_rw_constant(rw, g, t, ret);
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    ps_value *in[3] = { NULL }, *m, *gamma = NULL, *beta = NULL, *x;
    const ps_node *div = n;
    float eps;
    ps_node *made;
    /* Anchored at the last of Div, Mul, Add that is there. */
    if (ps_is(n, "Add")) {
        if (!times_vector(n, "Add", &m, &beta)) return PS_OK;
        div = ps_sole_producer(m, n->graph);
        if (!ps_is(div, "Mul")) return PS_OK;
    }
    if (ps_is(div, "Mul")) {
        if (!times_vector(div, "Mul", &m, &gamma) || (!beta && followed_by(div, "Add"))) return PS_OK;
        div = ps_sole_producer(m, n->graph);
    }
    if (!div || !match_div(div, &x, &eps) || (!gamma && followed_by(div, "Mul"))) return PS_OK;
    int64_t last = x->shape.dims[x->shape.rank - 1];
    if (!gamma && last < 1) return PS_OK;
    if (!gamma) PS_TRY(ones(rw, n->graph, last, &gamma));
    in[0] = x;
    in[1] = gamma;
    in[2] = beta;
    PS_TRY(ps_rw_replace(rw, n, "LayerNormalization", "", in, beta ? 3 : 2, &made));
    PS_TRY(ps_node_set_int(made, "axis", -1, rw->err));
    PS_TRY(ps_node_set_float(made, "epsilon", eps, rw->err));
    return ps_rw_finish(rw, made, 17);
}

ps_status ps_pass_layernorm(ps_rw *rw) {
    return rw->caps->fuse_norm ? ps_rw_each(rw, rewrite) : PS_OK;
}
