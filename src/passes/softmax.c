/* softmax.c - exp(x - max(x)) / sum(exp(x - max(x))) along one axis becomes Softmax. */
#include <math.h>

#include "passes/rewrite.h"

/* max(x, -inf) is x: some exporters start the maximum there. */
static bool keeps_all(const ps_node *n, const ps_node **ret_next) {
    float c;
    if (!ps_is(n, "Max") || n->n_in != 2) return false;
    size_t k = ps_const_f32(n->in[0], &c) ? 0 : 1;
    if (!ps_const_f32(n->in[k], &c) || !(c < 0) || !isinf(c)) return false;
    *ret_next = n->in[1 - k]->producer;
    return true;
}

/* A reduction over one axis; looks through what only puts the lost dim back (a Reshape, Unsqueeze or Expand). */
static const ps_node *reduction(const ps_value *v, const char *op, const ps_value *of, int *ret_axis) {
    const ps_node *n = v->producer;
    int axes[PS_MAX_RANK];
    size_t count;
    for (int i = 0; i < 4 && n && n->op; i++) {
        if (ps_is_view(n) || ps_is(n, "Expand"))
            n = n->in[0]->producer;
        else if (!keeps_all(n, &n))
            break;
    }
    if (!ps_is(n, op) || n->in[0] != of || !ps_node_axes(n, of->shape.rank, axes, &count) || count != 1) return NULL;
    /* Where dims were put back by hand their place must be checked: [.., 1 at the axis, ..]. */
    ps_shape kept = of->shape;
    kept.dims[axes[0]] = 1;
    if (!ps_shapes_agree(&v->shape, &kept)) return NULL;
    *ret_axis = axes[0];
    return n;
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    int sum_axis, max_axis;
    if (!ps_is(n, "Div") || n->out[0]->dtype != PS_DTYPE_F32) return PS_OK;
    ps_value *e = n->in[0];
    if (!ps_is(e->producer, "Exp") || e->producer->graph != n->graph) return PS_OK;
    if (!reduction(n->in[1], "ReduceSum", e, &sum_axis)) return PS_OK;
    const ps_node *sub = e->producer->in[0]->producer;
    if (!ps_is(sub, "Sub") || sub->graph != n->graph) return PS_OK;
    ps_value *x = sub->in[0];
    if (!reduction(sub->in[1], "ReduceMax", x, &max_axis) || max_axis != sum_axis) return PS_OK;
    if (!ps_shapes_agree(&x->shape, &n->out[0]->shape)) return PS_OK;
    ps_node *made;
    PS_TRY(ps_rw_replace(rw, n, "Softmax", "", &x, 1, &made));
    PS_TRY(ps_node_set_int(made, "axis", sum_axis, rw->err));
    return ps_rw_finish(rw, made, 13);
}

ps_status ps_pass_softmax(ps_rw *rw) {
    return rw->caps->fuse_norm ? ps_rw_each(rw, rewrite) : PS_OK;
}
