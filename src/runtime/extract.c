/* extract.c - a part of a graph as a graph of its own: branches, bodies of loops, what lies between dynamic nodes. */
#include "runtime/runtime_int.h"

typedef struct extraction {
    ps_graph *to;
    ps_value **map; /* old id → new value */
    ps_error *err;
} extraction;

static ps_status copy_node(extraction *x, ps_graph *to, const ps_node *n, int depth);

static ps_status map_value(extraction *x, const ps_value *v, ps_value **ret) {
    if (!v || x->map[v->id]) {
        *ret = v ? x->map[v->id] : NULL;
        return PS_OK;
    }
    PS_FAIL_IF(!v->constant, x->err, INTERNAL, "value '%s' is read outside of the part that defines it", v->name);
    ps_value *n;
    PS_TRY(ps_graph_add_constant(x->to, NULL, v->constant, &n, x->err));
    x->map[v->id] = n;
    *ret = n;
    return PS_OK;
}

static ps_status add_value(extraction *x, ps_graph *g, const ps_value *v, ps_value **ret) {
    const char *name = ps_graph_find(g, v->name) ? NULL : v->name;
    PS_TRY(ps_graph_add_value(g, name, ret, x->err));
    (*ret)->dtype = v->dtype;
    (*ret)->elem = v->elem;
    (*ret)->shape = v->shape;
    x->map[v->id] = *ret;
    return PS_OK;
}

static ps_status copy_subgraph(extraction *x, ps_node *owner, const ps_graph *from, ps_graph **ret, int depth) {
    ps_graph *g;
    PS_FAIL_IF(depth > 64, x->err, LIMIT, "subgraphs are nested more than 64 deep");
    PS_TRY(ps_graph_new_sub(owner->graph, owner, from->name, &g, x->err));
    for (size_t i = 0; i < from->n_inputs; i++) {
        ps_value *v;
        PS_TRY(add_value(x, g, from->inputs[i], &v));
        PS_TRY(ps_graph_add_input(g, v, x->err));
    }
    for (const ps_node *n = from->first; n; n = n->next)
        PS_TRY(copy_node(x, g, n, depth + 1));
    for (size_t i = 0; i < from->n_outputs; i++) {
        ps_value *v;
        PS_TRY(map_value(x, from->outputs[i], &v));
        PS_TRY(ps_graph_add_output(g, v, x->err));
    }
    *ret = g;
    return PS_OK;
}

static ps_status copy_attr(extraction *x, ps_node *n, const ps_attr *a, int depth) {
    ps_attr c = *a;
    ps_arena *arena = &x->to->root->arena;
    const char *name = ps_arena_strdup(arena, a->name);
    const void *payload = NULL;
    size_t size = 0;
    c.name = name;
    switch (a->type) {
    case PS_ATTR_GRAPH: PS_TRY(copy_subgraph(x, n, a->u.graph, &c.u.graph, depth)); break;
    case PS_ATTR_STRING: payload = a->u.s, size = a->n + 1; break;
    case PS_ATTR_INTS: payload = a->u.ints, size = a->n * sizeof *a->u.ints; break;
    case PS_ATTR_FLOATS: payload = a->u.floats, size = a->n * sizeof *a->u.floats; break;
    case PS_ATTR_STRINGS: payload = a->u.strings, size = a->n * sizeof *a->u.strings; break;
    case PS_ATTR_GRAPHS:
    case PS_ATTR_TENSORS:
        return PS_FAIL(x->err, UNSUPPORTED, "attribute '%s' holds a list of graphs or tensors", a->name);
    default: break;
    }
    if (payload) {
        c.u.s = ps_arena_memdup(arena, payload, size);
        if (!c.u.s) return PS_FAIL_NOMEM(x->err, "an attribute");
    }
    if (a->type == PS_ATTR_STRINGS) {
        for (size_t i = 0; i < c.n; i++) {
            c.u.strings[i] = ps_arena_strdup(arena, c.u.strings[i]);
            if (!c.u.strings[i]) return PS_FAIL_NOMEM(x->err, "an attribute");
        }
    }
    if (!name) return PS_FAIL_NOMEM(x->err, "an attribute");
    return ps_node_set_attr(n, &c, x->err);
}

static ps_status copy_node(extraction *x, ps_graph *to, const ps_node *n, int depth) {
    ps_arena *arena = &x->to->arena;
    ps_value **in = ps_arena_array(arena, (size_t)n->n_in + 1, sizeof *in);
    ps_value **out = ps_arena_array(arena, (size_t)n->n_out + 1, sizeof *out);
    ps_node *c;
    if (!in || !out) return PS_FAIL_NOMEM(x->err, "a node");
    for (uint32_t i = 0; i < n->n_in; i++)
        PS_TRY(map_value(x, n->in[i], &in[i]));
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i]) PS_TRY(add_value(x, to, n->out[i], &out[i]));
    }
    PS_TRY(ps_graph_add_node(to, NULL, n->op_type, n->domain, n->name, in, n->n_in, out, n->n_out, &c, x->err));
    for (uint32_t i = 0; i < n->n_attrs; i++)
        PS_TRY(copy_attr(x, c, &n->attrs[i], depth));
    if (n->fused) {
        c->fused = ps_arena_strdup(arena, n->fused);
        if (!c->fused) return PS_FAIL_NOMEM(x->err, "a node");
    }
    c->op = n->op; /* a pass may have chosen a row that is newer than the model's version */
    return ps_ops_resolve_node(c, x->err);
}

static ps_status copy_header(ps_graph *to, const ps_graph *root, ps_error *err) {
    to->opsets = ps_arena_array(&to->arena, root->n_opsets + 1, sizeof *to->opsets);
    if (!to->opsets) return PS_FAIL_NOMEM(err, "a graph");
    for (size_t i = 0; i < root->n_opsets; i++) {
        to->opsets[i] = root->opsets[i];
        to->opsets[i].domain = ps_arena_strdup(&to->arena, root->opsets[i].domain);
        if (!to->opsets[i].domain) return PS_FAIL_NOMEM(err, "a graph");
    }
    to->n_opsets = root->n_opsets;
    for (size_t i = 0; i < root->n_symbols; i++) {
        if (!ps_graph_symbol(to, root->symbols[i])) return PS_FAIL_NOMEM(err, "a graph");
    }
    return PS_OK;
}

ps_status ps_graph_extract(const ps_graph *src, ps_node *const *nodes, size_t n_nodes, ps_value *const *inputs,
                           size_t n_inputs, ps_value *const *outputs, size_t n_outputs, ps_graph **ret, ps_error *err) {
    ps_graph *to = NULL;
    ps_status status = PS_OK;
    extraction x = { NULL, NULL, err };
    PS_TRY(ps_graph_new(src->root->alloc, src->name, &to, err));
    x.to = to;
    x.map = ps_alloc_zero(to->alloc, (src->root->n_ids + 1) * sizeof *x.map);
    if (!x.map) {
        status = PS_FAIL_NOMEM(err, "a graph");
        goto out;
    }
    PS_TRY_OUT(copy_header(to, src->root, err));
    for (size_t i = 0; i < n_inputs; i++) {
        ps_value *v;
        PS_TRY_OUT(add_value(&x, to, inputs[i], &v));
        PS_TRY_OUT(ps_graph_add_input(to, v, err));
    }
    for (size_t i = 0; i < n_nodes; i++)
        PS_TRY_OUT(copy_node(&x, to, nodes[i], 0));
    for (size_t i = 0; i < n_outputs; i++) {
        ps_value *v;
        PS_TRY_OUT(map_value(&x, outputs[i], &v));
        PS_TRY_OUT(ps_graph_add_output(to, v, err));
    }
    *ret = to;
out:
    ps_free(src->root->alloc, x.map);
    if (status != PS_OK) ps_graph_free(to);
    return status;
}
