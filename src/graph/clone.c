/* clone.c - deep copies. */
#include "graph/graph.h"

typedef struct cloner {
    ps_graph *root;
    ps_value **map; /* old value id → new value */
    ps_error *err;
} cloner;

static ps_status clone_graph(cloner *c, const ps_graph *from, ps_graph *to);

static ps_status clone_value(cloner *c, const ps_value *from, ps_graph *to) {
    ps_value *v;
    PS_TRY(ps_graph_add_value(to, from->name, &v, c->err));
    if (from->constant) ps_value_set_constant(v, from->constant);
    v->dtype = from->dtype;
    v->elem = from->elem;
    v->shape = from->shape;
    v->declared_dtype = from->declared_dtype;
    v->declared_shape = from->declared_shape;
    c->map[from->id] = v;
    return PS_OK;
}

static ps_status clone_sub(cloner *c, const ps_graph *from, ps_node *parent, ps_graph **ret) {
    PS_TRY(ps_graph_new_sub(parent->graph, parent, from->name, ret, c->err));
    return clone_graph(c, from, *ret);
}

static ps_status clone_list(cloner *c, const void *data, size_t n, size_t size, void *ret) {
    void *copy = n ? ps_arena_memdup(&c->root->arena, data, n * size) : NULL;
    if (n && !copy) return PS_FAIL_NOMEM(c->err, "an attribute");
    *(void **)ret = copy;
    return PS_OK;
}

static ps_status clone_strings(cloner *c, ps_attr *a) {
    PS_TRY(clone_list(c, a->u.strings, a->n, sizeof *a->u.strings, &a->u.strings));
    for (size_t i = 0; i < a->n; i++) {
        a->u.strings[i] = ps_arena_strdup(&c->root->arena, a->u.strings[i]);
        if (!a->u.strings[i]) return PS_FAIL_NOMEM(c->err, "an attribute");
    }
    return PS_OK;
}

static ps_status clone_graphs(cloner *c, ps_attr *a, ps_node *n) {
    ps_graph **old = a->u.graphs;
    PS_TRY(clone_list(c, old, a->n, sizeof *old, &a->u.graphs));
    for (size_t i = 0; i < a->n; i++)
        PS_TRY(clone_sub(c, old[i], n, &a->u.graphs[i]));
    return PS_OK;
}

static ps_status clone_attr(cloner *c, const ps_attr *from, ps_node *n) {
    ps_attr a = *from;
    switch (a.type) {
    case PS_ATTR_STRING:
        a.u.s = ps_arena_text(&c->root->arena, from->u.s, from->n);
        if (!a.u.s) return PS_FAIL_NOMEM(c->err, "an attribute");
        break;
    case PS_ATTR_INTS: PS_TRY(clone_list(c, a.u.ints, a.n, sizeof *a.u.ints, &a.u.ints)); break;
    case PS_ATTR_FLOATS: PS_TRY(clone_list(c, a.u.floats, a.n, sizeof *a.u.floats, &a.u.floats)); break;
    case PS_ATTR_TENSORS: PS_TRY(clone_list(c, a.u.tensors, a.n, sizeof *a.u.tensors, &a.u.tensors)); break;
    case PS_ATTR_STRINGS: PS_TRY(clone_strings(c, &a)); break;
    case PS_ATTR_GRAPH: PS_TRY(clone_sub(c, from->u.graph, n, &a.u.graph)); break;
    case PS_ATTR_GRAPHS: PS_TRY(clone_graphs(c, &a, n)); break;
    default: break;
    }
    return ps_node_set_attr(n, &a, c->err);
}

/* Looks up inputs or outputs; `list` is scratch in the new arena. */
static ps_status map_values(cloner *c, ps_value *const *from, size_t n, ps_value ***list) {
    *list = ps_arena_array(&c->root->arena, n ? n : 1, sizeof **list);
    if (!*list) return PS_FAIL_NOMEM(c->err, "a node");
    for (size_t i = 0; i < n; i++)
        (*list)[i] = from[i] ? c->map[from[i]->id] : NULL;
    return PS_OK;
}

/* Values of the clone are made where they are first met. `v` is of the graph that `to` copies or of one around it. */
static ps_status define(cloner *c, const ps_value *v, ps_graph *to) {
    if (!v || c->map[v->id]) return PS_OK;
    while (to->depth > v->graph->depth)
        to = to->parent->graph;
    return clone_value(c, v, to);
}

static ps_status clone_node(cloner *c, const ps_node *from, ps_graph *to) {
    for (uint32_t i = 0; i < from->n_in; i++)
        PS_TRY(define(c, from->in[i], to));
    for (uint32_t i = 0; i < from->n_out; i++)
        PS_TRY(define(c, from->out[i], to));
    ps_value **in, **out;
    PS_TRY(map_values(c, from->in, from->n_in, &in));
    PS_TRY(map_values(c, from->out, from->n_out, &out));
    ps_node *n;
    PS_TRY(ps_graph_add_node(to, NULL, from->op_type, from->domain, from->name, in, from->n_in, out, from->n_out, &n,
                             c->err));
    n->op = from->op;
    n->note = from->note;
    if (from->fused) {
        n->fused = ps_arena_strdup(&c->root->arena, from->fused);
        if (!n->fused) return PS_FAIL_NOMEM(c->err, "a node");
    }
    for (uint32_t i = 0; i < from->n_attrs; i++)
        PS_TRY(clone_attr(c, &from->attrs[i], n));
    return PS_OK;
}

static ps_status clone_graph(cloner *c, const ps_graph *from, ps_graph *to) {
    for (size_t i = 0; i < from->n_inputs; i++) {
        PS_TRY(define(c, from->inputs[i], to));
        PS_TRY(ps_graph_add_input(to, c->map[from->inputs[i]->id], c->err));
    }
    for (const ps_node *n = from->first; n; n = n->next)
        PS_TRY(clone_node(c, n, to));
    for (size_t i = 0; i < from->n_outputs; i++) {
        PS_TRY(define(c, from->outputs[i], to));
        PS_TRY(ps_graph_add_output(to, c->map[from->outputs[i]->id], c->err));
    }
    return PS_OK;
}

static ps_status clone_root(cloner *c, const ps_graph *root) {
    for (size_t i = 0; i < root->n_opsets; i++) {
        PS_TRY(ps_graph_set_opset(c->root, root->opsets[i].domain, root->opsets[i].version, c->err));
    }
    for (size_t i = 0; i < root->n_symbols; i++) {
        if (!ps_graph_symbol(c->root, root->symbols[i])) return PS_FAIL_NOMEM(c->err, "a symbol");
    }
    c->root->n_fresh = root->n_fresh;
    c->map = ps_arena_array(&c->root->arena, root->n_ids ? root->n_ids : 1, sizeof *c->map);
    if (!c->map) return PS_FAIL_NOMEM(c->err, "a clone");
    return clone_graph(c, root, c->root);
}

ps_status ps_graph_clone(const ps_graph *root, ps_graph **ret, ps_value ***ret_map, ps_error *err) {
    cloner c = { .err = err };
    PS_TRY(ps_graph_new(root->alloc, root->name, &c.root, err));
    ps_status status = clone_root(&c, root);
    if (status != PS_OK) {
        ps_graph_free(c.root);
        return status;
    }
    if (ret_map) *ret_map = c.map;
    *ret = c.root;
    return PS_OK;
}
