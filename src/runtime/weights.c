/* weights.c - which constants the runs of a plan read as they are. */
#include "runtime/runtime_int.h"

static ps_status keep_inputs(const ps_node *n, uint64_t taken, ps_error *err) {
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (i < 64 && taken >> i & 1) continue;
        if (n->in[i] && n->in[i]->constant) PS_TRY(ps_weights_keep(n->in[i]->constant, err));
    }
    return PS_OK;
}

ps_status ps_plan_weights(ps_plan *p, ps_error *err) {
    const ps_graph *g = p->graph;
    size_t s = 0;
    for (const ps_node *n = g->first; n; n = n->next) {
        while (s < p->n_steps && !p->steps[s].node) /* copies */
            s++;
        bool runs = s < p->n_steps && p->steps[s].node == n;
        PS_TRY(keep_inputs(n, runs ? p->steps[s].kernel->taken : 0, err));
        s += runs;
    }
    for (size_t i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i]->constant) PS_TRY(ps_weights_keep(g->outputs[i]->constant, err));
    }
    ps_weights_settle(p->model->weights);
    return PS_OK;
}
