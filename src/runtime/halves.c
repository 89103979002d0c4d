/* halves.c - which f32 values of a plan a device may store as f16: those that no one reads in another way.
 *
 * Inputs and outputs of the graph are f32 (an output's source is written so where it is made), and so is what a node
 * reads that the device has no such kernel for, or that runs on the host. Views are the memory of what they look at. */
#include "runtime/runtime_int.h"

static bool may_store(const ps_device *device, const ps_node *n, const ps_value *v) {
    return device->ops->halves(device, n, v);
}

static void look_at_inputs(const ps_node *n, const ps_device *device, bool *wide) {
    const bool view = n->op->traits & PS_OP_VIEW;
    for (uint32_t i = 0; i < n->n_in; i++) {
        const ps_value *v = n->in[i];
        if (v) wide[v->id] |= view ? i || wide[n->out[0]->id] : !may_store(device, n, v);
    }
}

/* Of a view it is told by what it looks at. */
static void look_at_outputs(const ps_node *n, const ps_device *device, bool *wide) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        const ps_value *v = n->out[i];
        if (!v) continue;
        wide[v->id] |= v->dtype != PS_DTYPE_F32 || v->constant || v->n_outputs;
        if (!(n->op->traits & PS_OP_VIEW)) wide[v->id] |= !may_store(device, n, v);
    }
}

ps_status ps_plan_halves(const ps_graph *g, const ps_device *device, ps_alloc_state *alloc, bool **ret, ps_error *err) {
    bool *wide = ps_alloc_zero(alloc, (g->n_ids + 1) * sizeof *wide);
    if (!wide) return PS_FAIL_NOMEM(err, "a plan");
    for (const ps_node *n = g->last; n; n = n->prev) { /* readers before makers */
        if (ps_node_is_folded(n)) continue;
        look_at_outputs(n, device, wide);
        look_at_inputs(n, device, wide);
    }
    *ret = wide;
    return PS_OK;
}
