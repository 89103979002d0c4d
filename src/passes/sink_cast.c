/* sink_cast.c - Gather(Cast(W), i) becomes Cast(Gather(W, i)) for constant W, so that only the rows read are converted.
 * The same for DequantizeLinear with one scale for the whole tensor. */
#include "passes/rewrite.h"

static bool converts_weights(const ps_node *p) {
    if (!p || !ps_const(ps_in(p, 0))) return false;
    if (ps_is(p, "Cast")) return true;
    if (!ps_is(p, "DequantizeLinear") || ps_attr_int(p, "block_size", 0)) return false;
    const ps_tensor *scale = ps_const(ps_in(p, 1));
    return scale && scale->shape.rank == 0 && (!ps_in(p, 2) || ps_const(p->in[2]));
}

static ps_status sink(ps_rw *rw, ps_node *n) {
    if (!ps_is(n, "Gather") || !n->in[0]->producer) return PS_OK;
    ps_node *p = n->in[0]->producer;
    if (p->graph != n->graph || !converts_weights(p)) return PS_OK;
    ps_value *in[] = { p->in[0], n->in[1] };
    ps_node *gather, *convert;
    PS_TRY(ps_rw_insert(rw, n, "Gather", "", in, 2, &gather));
    PS_TRY(ps_node_copy_attrs(gather, n, rw->err));
    gather->op = n->op;
    PS_TRY(ps_rw_finish(rw, gather, 0));
    ps_value *args[3] = { gather->out[0], ps_in(p, 1), ps_in(p, 2) };
    const ps_op *op = p->op;
    const ps_attr *attrs = p->attrs;
    uint32_t n_attrs = p->n_attrs, n_in = p->n_in;
    const char *type = p->op_type;
    PS_TRY(ps_rw_replace(rw, n, type, "", args, n_in, &convert));
    convert->op = op;
    for (uint32_t i = 0; i < n_attrs; i++)
        PS_TRY(ps_node_set_attr(convert, &attrs[i], rw->err));
    return ps_rw_finish(rw, convert, 0);
}

ps_status ps_pass_sink_cast(ps_rw *rw) {
    return ps_rw_each(rw, sink);
}
