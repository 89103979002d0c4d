/* inline_if.c - an If whose condition is constant becomes the nodes of its branch. */
#include "passes/rewrite.h"

static ps_status inline_if(ps_rw *rw, ps_node *n) {
    int64_t cond;
    size_t count;
    if (!ps_is(n, "If") || !ps_const_ints(n, 0, &cond, 1, &count) || count != 1) return PS_OK;
    const ps_attr *a = ps_node_attr(n, cond ? "then_branch" : "else_branch");
    if (!a || a->type != PS_ATTR_GRAPH || a->u.graph->n_outputs != n->n_out) return PS_OK;
    ps_graph *branch = a->u.graph;
    PS_TRY(ps_graph_inline(n, branch, rw->err));
    for (uint32_t i = 0; i < n->n_out; i++) {
        ps_value *out = n->out[i];
        ps_node *identity;
        if (!out) continue;
        PS_TRY(ps_node_set_output(n, i, NULL, rw->err));
        PS_TRY(
            ps_graph_add_node(n->graph, n, "Identity", "", NULL, &branch->outputs[i], 1, &out, 1, &identity, rw->err));
        PS_TRY(ps_rw_finish(rw, identity, 0));
    }
    ps_node_remove(n);
    rw->changes++;
    return PS_OK;
}

ps_status ps_pass_inline_if(ps_rw *rw) {
    return ps_rw_each(rw, inline_if);
}
