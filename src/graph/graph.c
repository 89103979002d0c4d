/* graph.c - life of graphs, their inputs and outputs, opsets and symbols. */
#include "graph/graph.h"

#include "graph/graph_int.h"

ps_status ps__arena_grow(ps_arena *arena, void **data, size_t size, size_t *room, size_t elem, ps_error *err) {
    if (size < *room) return PS_OK;
    size_t n = *room ? *room * 2 : 4;
    void *grown = ps_arena_array(arena, n, elem);
    if (!grown) return PS_FAIL_NOMEM(err, "a graph");
    if (size) memcpy(grown, *data, size * elem);
    *data = grown;
    *room = n;
    return PS_OK;
}

bool ps__graph_encloses(const ps_graph *outer, const ps_graph *inner) {
    while (inner && inner != outer)
        inner = inner->parent ? inner->parent->graph : NULL;
    return inner != NULL;
}

ps_status ps_graph_new(ps_alloc_state *alloc, const char *name, ps_graph **ret, ps_error *err) {
    ps_graph *g = ps_alloc_zero(alloc, sizeof *g);
    if (!g) return PS_FAIL_NOMEM(err, "a graph");
    ps_arena_init(&g->arena, alloc);
    ps_map_init(&g->values, alloc);
    ps_map_init(&g->symbol_ids, alloc);
    g->alloc = alloc;
    g->root = g;
    g->name = ps_arena_strdup(&g->arena, name ? name : "");
    if (!g->name) {
        ps_graph_free(g);
        return PS_FAIL_NOMEM(err, "a graph");
    }
    *ret = g;
    return PS_OK;
}

ps_status ps_graph_new_sub(ps_graph *outer, ps_node *parent, const char *name, ps_graph **ret, ps_error *err) {
    ps_graph *root = outer->root;
    PS_FAIL_IF(outer->depth >= PS_MAX_SUBGRAPH_DEPTH, err, LIMIT, "graph '%s': subgraphs are nested more than %d deep",
               root->name, PS_MAX_SUBGRAPH_DEPTH);
    ps_graph *g = PS_ARENA_NEW(&root->arena, ps_graph);
    if (!g) return PS_FAIL_NOMEM(err, "a subgraph");
    g->name = ps_arena_strdup(&root->arena, name ? name : "");
    if (!g->name) return PS_FAIL_NOMEM(err, "a subgraph");
    ps_map_init(&g->values, root->alloc);
    g->root = root;
    g->parent = parent;
    g->depth = outer->depth + 1;
    g->next_all = root->all_graphs;
    root->all_graphs = g;
    *ret = g;
    return PS_OK;
}

void ps_graph_free(ps_graph *root) {
    if (!root) return;
    for (ps_value *v = root->all_values; v; v = v->next_all)
        ps_tensor_release(v->constant);
    for (size_t i = 0; i < root->n_held; i++)
        ps_tensor_release(root->held[i]);
    for (ps_graph *g = root->all_graphs; g; g = g->next_all)
        ps_map_release(&g->values);
    ps_map_release(&root->values);
    ps_map_release(&root->symbol_ids);
    ps_arena_release(&root->arena);
    ps_free(root->alloc, root);
}

ps_status ps__graph_hold(ps_graph *g, ps_tensor *t, ps_error *err) {
    ps_graph *root = g->root;
    PS_TRY(ps__arena_grow(&root->arena, (void **)&root->held, root->n_held, &root->held_room, sizeof *root->held, err));
    root->held[root->n_held++] = ps_tensor_retain(t);
    return PS_OK;
}

/* ---- inputs and outputs ---- */

ps_status ps_graph_add_input(ps_graph *g, ps_value *v, ps_error *err) {
    PS_FAIL_IF(v->graph != g, err, FORMAT, "graph '%s': input '%s' belongs to another graph", g->name, v->name);
    PS_FAIL_IF(v->is_input, err, FORMAT, "graph '%s': input '%s' is listed twice", g->name, v->name);
    PS_FAIL_IF(v->producer != NULL, err, FORMAT, "graph '%s': input '%s' is also produced by a node", g->name, v->name);
    PS_TRY(ps__arena_grow(&g->root->arena, (void **)&g->inputs, g->n_inputs, &g->inputs_room, sizeof *g->inputs, err));
    g->inputs[g->n_inputs++] = v;
    v->is_input = true;
    return PS_OK;
}

ps_status ps_graph_add_output(ps_graph *g, ps_value *v, ps_error *err) {
    PS_TRY(
        ps__arena_grow(&g->root->arena, (void **)&g->outputs, g->n_outputs, &g->outputs_room, sizeof *g->outputs, err));
    g->outputs[g->n_outputs++] = v;
    v->n_outputs++;
    return PS_OK;
}

void ps_graph_set_output(ps_graph *g, size_t index, ps_value *v) {
    g->outputs[index]->n_outputs--;
    g->outputs[index] = v;
    v->n_outputs++;
}

/* ---- opsets ---- */

static const char *canonical_domain(const char *domain) {
    return !domain || strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

ps_status ps_graph_set_opset(ps_graph *root, const char *domain, int64_t version, ps_error *err) {
    root = root->root;
    domain = canonical_domain(domain);
    for (size_t i = 0; i < root->n_opsets; i++) {
        if (strcmp(root->opsets[i].domain, domain) == 0) {
            root->opsets[i].version = version;
            return PS_OK;
        }
    }
    ps_opset *grown = ps_arena_array(&root->arena, root->n_opsets + 1, sizeof *grown);
    char *copy = ps_arena_strdup(&root->arena, domain);
    if (!grown || !copy) return PS_FAIL_NOMEM(err, "a graph");
    if (root->n_opsets) memcpy(grown, root->opsets, root->n_opsets * sizeof *grown);
    grown[root->n_opsets] = (ps_opset) { copy, version };
    root->opsets = grown;
    root->n_opsets++;
    return PS_OK;
}

int64_t ps_graph_opset(const ps_graph *g, const char *domain) {
    const ps_graph *root = g->root;
    domain = canonical_domain(domain);
    for (size_t i = 0; i < root->n_opsets; i++) {
        if (strcmp(canonical_domain(root->opsets[i].domain), domain) == 0) return root->opsets[i].version;
    }
    return 0;
}

/* ---- symbols ---- */

int64_t ps_graph_symbol(ps_graph *g, const char *name) {
    ps_graph *root = g->root;
    uintptr_t known = (uintptr_t)ps_map_get(&root->symbol_ids, name);
    if (known) return -1 - (int64_t)known;
    char *copy = ps_arena_strdup(&root->arena, name);
    if (!copy ||
        ps__arena_grow(&root->arena, (void **)&root->symbols, root->n_symbols, &root->symbols_room,
                       sizeof *root->symbols, NULL) != PS_OK ||
        !ps_map_put(&root->symbol_ids, copy, (void *)(uintptr_t)(root->n_symbols + 1))) {
        return 0;
    }
    root->symbols[root->n_symbols] = copy;
    return -2 - (int64_t)root->n_symbols++;
}

const char *ps_graph_symbol_name(const ps_graph *g, int64_t dim) {
    const ps_graph *root = g->root;
    if (dim > -2 || (uint64_t)(-2 - dim) >= root->n_symbols) return NULL;
    return root->symbols[-2 - dim];
}
