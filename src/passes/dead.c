/* dead.c - removes nodes whose outputs nobody reads, and lets go of constants nobody reads. */
#include "passes/rewrite.h"

static void sweep(ps_rw *rw, ps_graph *g) {
    for (ps_node *n = g->last, *prev; n; n = prev) {
        prev = n->prev;
        bool used = false;
        for (uint32_t i = 0; i < n->n_out; i++)
            used |= n->out[i] && !ps_value_unused(n->out[i]);
        if (used) continue;
        ps_node_remove(n);
        rw->changes++;
    }
}

ps_status ps_pass_dead(ps_rw *rw) {
    sweep(rw, rw->root);
    for (ps_graph *g = rw->root->all_graphs; g; g = g->next_all)
        sweep(rw, g);
    for (ps_value *v = rw->root->all_values; v; v = v->next_all) {
        if (v->constant && !v->is_input && ps_value_unused(v)) ps_value_set_constant(v, NULL);
    }
    return PS_OK;
}
