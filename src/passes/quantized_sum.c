/* quantized_sum.c - a QLinearAdd of what a QLinearConv makes becomes its last step: residual connections.
 *
 *     QLinearAdd(QLinearConv(x, W, b), other)   →   "polestar" QLinearConv with inputs PS_Q_OTHER to PS_Q_SUM_ZERO
 *
 * The codes in between are made as before, rounded and clamped, but stay in registers. */
#include "passes/quantized.h"

/* The convolution whose codes operand i (0 or 1) of the addition are, if it can take the addition over. */
static ps_node *conv_of(const ps_node *n, uint32_t i) {
    ps_node *conv = ps_sole_producer(n->in[3 * i], n->graph);
    if (!ps_is_any(conv, "QLinearConv") || !conv->op || conv->n_in > PS_Q_OTHER) return NULL;
    if (!ps_in(conv, PS_Q_Y_ZERO) || ps_attr_int(conv, "group", 1) != 1) return NULL;
    const bool same = ps_same_number(conv->in[PS_Q_Y_SCALE], n->in[3 * i + 1]) &&
                      ps_same_number(conv->in[PS_Q_Y_ZERO], n->in[3 * i + 2]);
    return same ? conv : NULL;
}

static ps_status add_attrs(ps_rw *rw, ps_node *made, const ps_node *n, uint32_t conv_at) {
    const int64_t low = ps_attr_int(n, "low", PS_CODE_LOW), high = ps_attr_int(n, "high", PS_CODE_HIGH);
    if (low > PS_CODE_LOW) PS_TRY(ps_node_set_int(made, "sum_low", low, rw->err));
    if (high < PS_CODE_HIGH) PS_TRY(ps_node_set_int(made, "sum_high", high, rw->err));
    return conv_at ? ps_node_set_int(made, "second", 1, rw->err) : PS_OK;
}

static ps_status take(ps_rw *rw, ps_node *n, ps_node *conv, uint32_t conv_at) {
    const uint32_t other = 3 * (1 - conv_at);
    ps_value *in[PS_Q_SUM_ZERO + 1] = { NULL };
    ps_node *made;
    for (uint32_t i = 0; i < conv->n_in; i++)
        in[i] = conv->in[i];
    for (uint32_t i = 0; i < 3; i++)
        in[PS_Q_OTHER + i] = n->in[other + i];
    in[PS_Q_SUM_SCALE] = n->in[6];
    in[PS_Q_SUM_ZERO] = n->in[7];
    PS_TRY(ps_rw_begin(rw, n, "QLinearConv", "polestar", in, PS_Q_SUM_ZERO + 1, &made));
    PS_TRY(ps_node_copy_attrs(made, conv, rw->err));
    made->fused = conv->fused ? conv->fused : conv->op_type;
    made->name = conv->name;
    PS_TRY(add_attrs(rw, made, n, conv_at));
    PS_TRY(ps_rw_fused(rw, made, "Add"));
    PS_TRY(ps_rw_commit(rw, made, n));
    return ps_rw_finish(rw, made, 0);
}

/* Of two convolutions that are added the second takes the sum. */
static ps_status rewrite(ps_rw *rw, ps_node *n) {
    if (!ps_is_ours(n, "QLinearAdd") || n->n_in < 8 || n->in[0] == n->in[3]) return PS_OK;
    if (!ps_shapes_agree(&n->in[0]->shape, &n->in[3]->shape)) return PS_OK;
    for (uint32_t i = 2; i-- > 0;) {
        ps_node *conv = conv_of(n, i);
        if (conv) return take(rw, n, conv, i);
    }
    return PS_OK;
}

ps_status ps_pass_quantized_sum(ps_rw *rw) {
    return rw->caps->int8 ? ps_rw_each(rw, rewrite) : PS_OK;
}
