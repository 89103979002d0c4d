/* value.c - values: names, constants, use lists. */
#include "graph/graph.h"
#include "graph/graph_int.h"

static const char *fresh_name(ps_graph *g) {
    char buf[32];
    do {
        ps_snprintf(buf, sizeof buf, "_%u", g->root->n_fresh++);
    } while (ps_graph_lookup(g, buf));
    return ps_arena_strdup(&g->root->arena, buf);
}

ps_status ps_graph_add_value(ps_graph *g, const char *name, ps_value **ret, ps_error *err) {
    ps_graph *root = g->root;
    PS_FAIL_IF(name && ps_graph_find(g, name), err, FORMAT, "graph '%s': value '%s' is defined twice", g->name, name);
    PS_FAIL_IF(root->n_ids == UINT32_MAX, err, LIMIT, "graph '%s': too many values", root->name);
    ps_value *v = PS_ARENA_NEW(&root->arena, ps_value);
    if (!v) return PS_FAIL_NOMEM(err, "a value");
    v->name = name ? ps_arena_strdup(&root->arena, name) : fresh_name(g);
    if (!v->name || !ps_map_put(&g->values, v->name, v)) return PS_FAIL_NOMEM(err, "a value");
    v->id = root->n_ids++;
    v->graph = g;
    v->shape = v->declared_shape = ps_shape_unknown();
    v->next_all = root->all_values;
    root->all_values = v;
    *ret = v;
    return PS_OK;
}

ps_status ps_graph_add_constant(ps_graph *g, const char *name, ps_tensor *tensor, ps_value **ret, ps_error *err) {
    PS_TRY(ps_graph_add_value(g, name, ret, err));
    ps_value_set_constant(*ret, tensor);
    return PS_OK;
}

ps_status ps_value_rename(ps_value *v, const char *name, ps_error *err) {
    ps_graph *g = v->graph;
    PS_FAIL_IF(ps_graph_find(g, name), err, FORMAT, "graph '%s': value '%s' is defined twice", g->name, name);
    const char *copy = ps_arena_strdup(&g->root->arena, name);
    if (!copy || !ps_map_put(&g->values, copy, v)) return PS_FAIL_NOMEM(err, "a value");
    ps_map_remove(&g->values, v->name);
    v->name = copy;
    return PS_OK;
}

ps_value *ps_graph_find(const ps_graph *g, const char *name) {
    return ps_map_get(&g->values, name);
}

ps_value *ps_graph_lookup(const ps_graph *g, const char *name) {
    for (; g; g = g->parent ? g->parent->graph : NULL) {
        ps_value *v = ps_graph_find(g, name);
        if (v) return v;
    }
    return NULL;
}

void ps_value_set_constant(ps_value *v, ps_tensor *tensor) {
    ps_tensor *old = v->constant;
    v->constant = tensor ? ps_tensor_retain(tensor) : NULL;
    if (tensor) {
        v->dtype = tensor->dtype;
        v->shape = tensor->shape;
    }
    ps_tensor_release(old);
}

ps_status ps__value_add_use(ps_value *v, ps_node *node, uint32_t index, ps_error *err) {
    size_t room = v->uses_room;
    PS_TRY(ps__arena_grow(&v->graph->root->arena, (void **)&v->uses, v->n_uses, &room, sizeof *v->uses, err));
    v->uses_room = (uint32_t)room;
    node->slots[index] = v->n_uses;
    v->uses[v->n_uses++] = (ps_use) { node, index };
    return PS_OK;
}

void ps__value_drop_use(ps_value *v, const ps_node *node, uint32_t index) {
    uint32_t slot = node->slots[index];
    ps_use last = v->uses[--v->n_uses];
    v->uses[slot] = last;
    last.node->slots[last.index] = slot;
}

static void replace_outputs(ps_graph *g, ps_value *from, ps_value *to) {
    for (size_t i = 0; i < g->n_outputs && from->n_outputs; i++) {
        if (g->outputs[i] == from) ps_graph_set_output(g, i, to);
    }
}

ps_status ps_value_replace(ps_value *from, ps_value *to, ps_error *err) {
    if (from == to) return PS_OK;
    while (from->n_uses) {
        ps_use use = from->uses[from->n_uses - 1];
        PS_TRY(ps__value_add_use(to, use.node, use.index, err));
        use.node->in[use.index] = to;
        from->n_uses--;
    }
    if (from->n_outputs) replace_outputs(from->graph, from, to);
    for (ps_graph *g = from->graph->root->all_graphs; g && from->n_outputs; g = g->next_all) {
        replace_outputs(g, from, to);
    }
    return PS_OK;
}

bool ps_value_unused(const ps_value *v) {
    return v->n_uses == 0 && v->n_outputs == 0;
}

ps_node *ps_value_only_consumer(const ps_value *v) {
    return v->n_uses == 1 && v->n_outputs == 0 ? v->uses[0].node : NULL;
}
