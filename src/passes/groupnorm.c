/* groupnorm.c - group normalisation as exporters spell it for opsets that lack it.
 *
 *     Reshape(InstanceNormalization(Reshape(x, [N, groups, rest])), shape of x) * gamma + beta
 *
 * gamma and beta have one number a channel. Beside convolutions the one operator stays channels-last, which the
 * reshapes could not. */
#include "passes/rewrite.h"

/* A constant with `channels` numbers that lie along axis 1 of x. */
static const float *per_channel(const ps_value *v, const ps_shape *x) {
    const ps_tensor *t = ps_const_floats(v);
    const int64_t channels = x->dims[1];
    if (!t || t->shape.rank > x->rank || t->shape.rank < x->rank - 1) return NULL;
    for (int d = 0; d < t->shape.rank; d++) {
        if (t->shape.dims[d] != (d + x->rank - t->shape.rank == 1 ? channels : 1)) return NULL;
    }
    return t->data;
}

/* n = m op constant per channel. */
static const float *channel_operand(const ps_node *n, const char *op, ps_value **ret_m) {
    if (!ps_is(n, op) || n->n_in != 2 || n->out[0]->shape.rank < 3 || n->out[0]->shape.dims[1] < 1) return NULL;
    for (size_t c = 0; c < 2; c++) {
        const float *data = per_channel(n->in[c], &n->out[0]->shape);
        *ret_m = n->in[1 - c];
        if (data) return data;
    }
    return NULL;
}

/* back = Reshape(InstanceNormalization(Reshape(x))) with x of back's shape, and channels in whole groups. */
static const ps_node *match_norm(const ps_node *back, ps_value **ret_x) {
    if (!ps_is(back, "Reshape")) return NULL;
    const ps_node *norm = ps_sole_producer(back->in[0], back->graph);
    if (!ps_is(norm, "InstanceNormalization") || !ps_const_floats(norm->in[1]) || !ps_const_floats(norm->in[2]))
        return NULL;
    const ps_node *there = norm->in[0]->producer;
    if (!ps_is(there, "Reshape")) return NULL;
    const ps_shape *x = &there->in[0]->shape, *folded = &there->out[0]->shape;
    *ret_x = there->in[0];
    if (!ps_shapes_agree(x, &back->out[0]->shape) || folded->rank != 3 || folded->dims[0] != x->dims[0]) return NULL;
    const int64_t groups = folded->dims[1];
    return groups >= 1 && ps_const(norm->in[1])->shape.dims[0] == groups && x->dims[1] % groups == 0 ? norm : NULL;
}

/* [channels]: gamma * what its group has [+ beta] */
static ps_status joined(ps_rw *rw, ps_graph *g, int64_t channels, const float *gamma, const ps_tensor *of_group,
                        const float *beta, ps_value **ret) {
    const int64_t per_group = channels / of_group->shape.dims[0];
    const ps_shape shape = ps_shape_make(1, &channels);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &shape, &t, rw->err));
    for (int64_t c = 0; c < channels; c++) {
        const double v = (double)gamma[c] * (double)((const float *)of_group->data)[c / per_group];
        ((float *)t->data)[c] = (float)(beta ? v + (double)beta[c] : v);
    }
    return ps_rw_constant(rw, g, t, ret);
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    ps_value *product, *normed, *in[3];
    ps_node *made;
    const float *beta = channel_operand(n, "Add", &product);
    const ps_node *mul = beta ? ps_sole_producer(product, n->graph) : NULL;
    const float *gamma = mul ? channel_operand(mul, "Mul", &normed) : NULL;
    const ps_node *back = gamma ? ps_sole_producer(normed, n->graph) : NULL;
    const ps_node *norm = back ? match_norm(back, &in[0]) : NULL;
    if (!norm || in[0]->dtype != PS_DTYPE_F32) return PS_OK;
    const int64_t channels = in[0]->shape.dims[1], groups = ps_const(norm->in[1])->shape.dims[0];
    const float epsilon = ((const ps_epsilon_params *)norm->params)->epsilon;
    PS_TRY(joined(rw, n->graph, channels, gamma, ps_const(norm->in[1]), NULL, &in[1]));
    PS_TRY(joined(rw, n->graph, channels, gamma, ps_const(norm->in[2]), beta, &in[2]));
    PS_TRY(ps_rw_replace(rw, n, "GroupNormalization", "", in, 3, &made));
    PS_TRY(ps_node_set_int(made, "num_groups", groups, rw->err));
    PS_TRY(ps_node_set_float(made, "epsilon", epsilon, rw->err));
    return ps_rw_finish(rw, made, 21);
}

ps_status ps_pass_groupnorm(ps_rw *rw) {
    return rw->caps->fuse_norm ? ps_rw_each(rw, rewrite) : PS_OK;
}
