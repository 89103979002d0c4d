/* verify.c - checks the invariants at the top of graph.h. */
#include "graph/graph.h"
#include "graph/graph_int.h"

typedef struct checker {
    uint8_t *defined; /* by value id */
    uint32_t *uses;   /* by value id, counted anew */
    uint32_t *outputs;
    ps_error *err;
} checker;

static ps_status check_graph(checker *c, const ps_graph *g);

static ps_status check_read(checker *c, const ps_graph *g, const ps_value *v, const char *reader) {
    PS_FAIL_IF(v->id >= g->root->n_ids, c->err, INTERNAL, "graph '%s': %s reads '%s' of another model", g->name, reader,
               v->name);
    PS_FAIL_IF(!ps__graph_encloses(v->graph, g), c->err, FORMAT, "graph '%s': %s reads '%s', which is not visible here",
               g->name, reader, v->name);
    PS_FAIL_IF(!c->defined[v->id] && !(v->constant && !v->producer), c->err, FORMAT,
               "graph '%s': %s reads '%s', which %s", g->name, reader, v->name,
               v->producer ? "is produced later" : "nothing defines");
    return PS_OK;
}

static ps_status check_use(checker *c, const ps_node *n, uint32_t i) {
    const ps_value *v = n->in[i];
    char label[160];
    uint32_t slot = n->slots[i];
    if (slot < v->n_uses && v->uses[slot].node == n && v->uses[slot].index == i) return PS_OK;
    return PS_FAIL(c->err, INTERNAL, "%s: input %u is missing from the use list of '%s'",
                   ps_node_label(n, label, sizeof label), i, v->name);
}

static ps_status check_inputs(checker *c, const ps_node *n, const char *label) {
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        PS_TRY(check_read(c, n->graph, n->in[i], label));
        PS_TRY(check_use(c, n, i));
        c->uses[n->in[i]->id]++;
    }
    return PS_OK;
}

static ps_status check_outputs(checker *c, const ps_node *n, const char *label) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        ps_value *v = n->out[i];
        if (!v) continue;
        PS_FAIL_IF(c->defined[v->id], c->err, FORMAT, "%s: '%s' has a producer already", label, v->name);
        PS_FAIL_IF(v->producer != n || v->producer_index != i, c->err, INTERNAL, "%s: '%s' names another producer",
                   label, v->name);
        PS_FAIL_IF(v->graph != n->graph, c->err, INTERNAL, "%s: output '%s' is of another graph", label, v->name);
        PS_FAIL_IF(v->is_input, c->err, FORMAT, "%s: output '%s' is also a graph input", label, v->name);
        c->defined[v->id] = 1;
    }
    return PS_OK;
}

static ps_status check_subgraph(checker *c, const ps_node *n, const ps_graph *g, const char *label) {
    PS_FAIL_IF(g->parent != n || g->root != n->graph->root, c->err, INTERNAL, "%s: subgraph '%s' has another parent",
               label, g->name);
    return check_graph(c, g);
}

static ps_status check_node(checker *c, const ps_node *n) {
    char label[160];
    ps_node_label(n, label, sizeof label);
    PS_TRY(check_inputs(c, n, label));
    for (uint32_t i = 0; i < n->n_attrs; i++) {
        const ps_attr *a = &n->attrs[i];
        if (a->type == PS_ATTR_GRAPH) PS_TRY(check_subgraph(c, n, a->u.graph, label));
        for (size_t k = 0; a->type == PS_ATTR_GRAPHS && k < a->n; k++) {
            PS_TRY(check_subgraph(c, n, a->u.graphs[k], label));
        }
    }
    return check_outputs(c, n, label);
}

static ps_status check_graph(checker *c, const ps_graph *g) {
    for (size_t i = 0; i < g->n_inputs; i++) {
        const ps_value *v = g->inputs[i];
        PS_FAIL_IF(v->graph != g || !v->is_input || v->producer, c->err, INTERNAL,
                   "graph '%s': '%s' is listed as an input but is none", g->name, v->name);
        c->defined[v->id] = 1;
    }
    size_t n_nodes = 0;
    const ps_node *prev = NULL;
    for (const ps_node *n = g->first; n; prev = n, n = n->next, n_nodes++) {
        PS_FAIL_IF(n->graph != g || n->prev != prev, c->err, INTERNAL, "graph '%s': broken node list at %s", g->name,
                   n->op_type);
        PS_TRY(check_node(c, n));
    }
    PS_FAIL_IF(n_nodes != g->n_nodes || g->last != prev, c->err, INTERNAL, "graph '%s': %zu nodes, counted %zu",
               g->name, g->n_nodes, n_nodes);
    for (size_t i = 0; i < g->n_outputs; i++) {
        PS_TRY(check_read(c, g, g->outputs[i], "an output"));
        c->outputs[g->outputs[i]->id]++;
    }
    return PS_OK;
}

static ps_status check_counts(const checker *c, const ps_graph *root) {
    for (const ps_value *v = root->all_values; v; v = v->next_all) {
        PS_FAIL_IF(c->uses[v->id] != v->n_uses || c->outputs[v->id] != v->n_outputs, c->err, INTERNAL,
                   "value '%s': %u uses and %u outputs, counted %u and %u", v->name, v->n_uses, v->n_outputs,
                   c->uses[v->id], c->outputs[v->id]);
    }
    return PS_OK;
}

ps_status ps_graph_verify(const ps_graph *root, ps_error *err) {
    size_t n = (size_t)root->n_ids + 1;
    checker c = { .err = err };
    uint32_t *counts = ps_alloc_zero(root->alloc, n * (2 * sizeof *counts + 1));
    if (!counts) return PS_FAIL_NOMEM(err, "checking a graph");
    c.uses = counts;
    c.outputs = counts + n;
    c.defined = (uint8_t *)(counts + 2 * n);
    ps_status status = check_graph(&c, root);
    if (status == PS_OK) status = check_counts(&c, root);
    ps_free(root->alloc, counts);
    return status;
}
