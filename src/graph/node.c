/* node.c - nodes: making, linking, attributes, captures. */
#include <stdlib.h>

#include "base/vec.h"
#include "graph/graph.h"
#include "graph/graph_int.h"

#define MAX_ARITY (1u << 20)

static void link_before(ps_graph *g, ps_node *n, ps_node *before) {
    n->next = before;
    n->prev = before ? before->prev : g->last;
    *(n->prev ? &n->prev->next : &g->first) = n;
    *(before ? &before->prev : &g->last) = n;
    g->n_nodes++;
}

static ps_status check_outputs(const ps_graph *g, const char *op_type, ps_value *const *out, size_t n_out,
                               ps_error *err) {
    for (size_t i = 0; i < n_out; i++) {
        ps_value *v = out[i];
        if (!v) continue;
        PS_FAIL_IF(v->producer != NULL, err, FORMAT, "graph '%s': value '%s' is produced by two nodes", g->name,
                   v->name);
        PS_FAIL_IF(v->is_input, err, FORMAT, "graph '%s': input '%s' is also produced by a node", g->name, v->name);
        PS_FAIL_IF(v->graph != g, err, FORMAT, "graph '%s': %s writes '%s' of another graph", g->name, op_type,
                   v->name);
        for (size_t k = 0; k < i; k++) {
            PS_FAIL_IF(out[k] == v, err, FORMAT, "graph '%s': %s has output '%s' twice", g->name, op_type, v->name);
        }
    }
    return PS_OK;
}

static ps_status check_node(const ps_graph *g, const char *op_type, ps_value *const *in, size_t n_in,
                            ps_value *const *out, size_t n_out, ps_error *err) {
    PS_FAIL_IF(n_in > MAX_ARITY || n_out > 1024, err, LIMIT, "graph '%s': %s has %zu inputs and %zu outputs", g->name,
               op_type, n_in, n_out);
    for (size_t i = 0; i < n_in; i++) {
        PS_FAIL_IF(in[i] && !ps__graph_encloses(in[i]->graph, g), err, FORMAT,
                   "graph '%s': %s reads '%s', which is not visible here", g->name, op_type, in[i]->name);
    }
    return check_outputs(g, op_type, out, n_out, err);
}

ps_status ps_graph_add_node(ps_graph *g, ps_node *before, const char *op_type, const char *domain, const char *name,
                            ps_value *const *in, size_t n_in, ps_value *const *out, size_t n_out, ps_node **ret,
                            ps_error *err) {
    ps_graph *root = g->root;
    PS_TRY(check_node(g, op_type, in, n_in, out, n_out, err));
    ps_node *n = PS_ARENA_NEW(&root->arena, ps_node);
    if (!n) return PS_FAIL_NOMEM(err, "a node");
    n->op_type = ps_arena_strdup(&root->arena, op_type);
    n->domain = domain && domain[0] ? ps_arena_strdup(&root->arena, domain) : "";
    n->name = name && name[0] ? ps_arena_strdup(&root->arena, name) : "";
    n->in = ps_arena_array(&root->arena, n_in ? n_in : 1, sizeof *n->in);
    n->slots = ps_arena_array(&root->arena, n_in ? n_in : 1, sizeof *n->slots);
    n->out = ps_arena_array(&root->arena, n_out ? n_out : 1, sizeof *n->out);
    if (!n->op_type || !n->domain || !n->name || !n->in || !n->slots || !n->out) return PS_FAIL_NOMEM(err, "a node");
    n->graph = g;
    for (; n->n_in < n_in; n->n_in++) {
        ps_status status = in[n->n_in] ? ps__value_add_use(in[n->n_in], n, n->n_in, err) : PS_OK;
        if (status != PS_OK) {
            while (n->n_in--) {
                if (in[n->n_in]) ps__value_drop_use(in[n->n_in], n, n->n_in);
            }
            return status;
        }
        n->in[n->n_in] = in[n->n_in];
    }
    for (size_t i = 0; i < n_out; i++) {
        n->out[i] = out[i];
        if (!out[i]) continue;
        out[i]->producer = n;
        out[i]->producer_index = (uint32_t)i;
    }
    n->n_out = (uint32_t)n_out;
    n->id = root->n_node_ids++;
    link_before(g, n, before);
    if (ret) *ret = n;
    return PS_OK;
}

static void detach_graph(ps_graph *g);

static void detach_node(ps_node *n) {
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i]) ps__value_drop_use(n->in[i], n, i);
    }
    for (uint32_t i = 0; i < n->n_attrs; i++) {
        if (n->attrs[i].type == PS_ATTR_GRAPH) detach_graph(n->attrs[i].u.graph);
        for (size_t k = 0; n->attrs[i].type == PS_ATTR_GRAPHS && k < n->attrs[i].n; k++) {
            detach_graph(n->attrs[i].u.graphs[k]);
        }
    }
}

/* Gives up everything that a subgraph reads from outside. */
static void detach_graph(ps_graph *g) {
    for (ps_node *n = g->first; n; n = n->next)
        detach_node(n);
    for (size_t i = 0; i < g->n_outputs; i++)
        g->outputs[i]->n_outputs--;
    g->n_outputs = 0;
    g->first = g->last = NULL;
    g->n_nodes = 0;
    g->parent = NULL;
}

static void unlink_node(ps_node *n) {
    ps_graph *g = n->graph;
    *(n->prev ? &n->prev->next : &g->first) = n->next;
    *(n->next ? &n->next->prev : &g->last) = n->prev;
    n->prev = n->next = NULL;
    g->n_nodes--;
}

void ps_node_remove(ps_node *n) {
    detach_node(n);
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i]) n->out[i]->producer = NULL;
    }
    unlink_node(n);
}

void ps_node_move(ps_node *n, ps_node *before) {
    unlink_node(n);
    link_before(n->graph, n, before);
}

/* ---- inlining ---- */

/* Moves a value to another graph; its name changes if that graph has it already. */
static ps_status adopt_value(ps_graph *g, ps_value *v, ps_error *err) {
    const char *name = v->name;
    char buf[32];
    while (ps_graph_find(g, name)) {
        ps_snprintf(buf, sizeof buf, "_%u", g->root->n_fresh++);
        name = buf;
    }
    if (name == buf && !(name = ps_arena_strdup(&g->root->arena, buf))) return PS_FAIL_NOMEM(err, "a value");
    if (!ps_map_put(&g->values, name, v)) return PS_FAIL_NOMEM(err, "a value");
    v->name = name;
    v->graph = g;
    return PS_OK;
}

static void lower_depth(ps_node *n) {
    for (uint32_t i = 0; i < n->n_attrs; i++) {
        const ps_attr *a = &n->attrs[i];
        size_t count = a->type == PS_ATTR_GRAPHS ? a->n : a->type == PS_ATTR_GRAPH;
        for (size_t k = 0; k < count; k++) {
            ps_graph *g = a->type == PS_ATTR_GRAPH ? a->u.graph : a->u.graphs[k];
            g->depth = n->graph->depth + 1;
            for (ps_node *inner = g->first; inner; inner = inner->next)
                lower_depth(inner);
        }
    }
}

static ps_status adopt_reads(ps_graph *g, const ps_graph *sub, ps_node *n, ps_error *err) {
    ps_value **captures = NULL;
    size_t n_captures = 0;
    if (ps_node_has_subgraph(n)) PS_TRY(ps_node_captures(n, &captures, &n_captures, err));
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] && n->in[i]->graph == sub) PS_TRY(adopt_value(g, n->in[i], err));
    }
    for (size_t i = 0; i < n_captures; i++) {
        if (captures[i]->graph == sub) PS_TRY(adopt_value(g, captures[i], err));
    }
    return PS_OK;
}

ps_status ps_graph_inline(ps_node *holder, ps_graph *sub, ps_error *err) {
    ps_graph *g = holder->graph;
    while (sub->first) {
        ps_node *n = sub->first;
        PS_TRY(adopt_reads(g, sub, n, err));
        for (uint32_t i = 0; i < n->n_out; i++) {
            if (n->out[i]) PS_TRY(adopt_value(g, n->out[i], err));
        }
        unlink_node(n);
        n->graph = g;
        link_before(g, n, holder);
        lower_depth(n);
    }
    for (size_t i = 0; i < sub->n_outputs; i++) {
        if (sub->outputs[i]->graph == sub) PS_TRY(adopt_value(g, sub->outputs[i], err));
    }
    return PS_OK;
}

ps_status ps_node_set_input(ps_node *n, size_t index, ps_value *v, ps_error *err) {
    ps_value *old = n->in[index];
    uint32_t old_slot = n->slots[index], new_slot;
    if (old == v) return PS_OK;
    if (v) PS_TRY(ps__value_add_use(v, n, (uint32_t)index, err));
    new_slot = n->slots[index];
    n->slots[index] = old_slot;
    if (old) ps__value_drop_use(old, n, (uint32_t)index);
    n->slots[index] = new_slot;
    n->in[index] = v;
    return PS_OK;
}

ps_status ps_node_set_output(ps_node *n, size_t index, ps_value *v, ps_error *err) {
    if (n->out[index] == v) return PS_OK;
    if (v) PS_TRY(check_outputs(n->graph, n->op_type, &v, 1, err));
    if (n->out[index]) n->out[index]->producer = NULL;
    n->out[index] = v;
    if (v) {
        v->producer = n;
        v->producer_index = (uint32_t)index;
    }
    return PS_OK;
}

ps_status ps_node_resize_inputs(ps_node *n, size_t n_in, ps_error *err) {
    PS_FAIL_IF(n_in > MAX_ARITY, err, LIMIT, "%s: %zu inputs", n->op_type, n_in);
    for (size_t i = n_in; i < n->n_in; i++) {
        if (n->in[i]) ps__value_drop_use(n->in[i], n, (uint32_t)i);
    }
    if (n_in > n->n_in) {
        ps_value **grown = ps_arena_array(&n->graph->root->arena, n_in, sizeof *grown);
        uint32_t *slots = ps_arena_array(&n->graph->root->arena, n_in, sizeof *slots);
        if (!grown || !slots) return PS_FAIL_NOMEM(err, "a node");
        memcpy(grown, n->in, n->n_in * sizeof *grown);
        memcpy(slots, n->slots, n->n_in * sizeof *slots);
        n->in = grown;
        n->slots = slots;
    }
    n->n_in = (uint32_t)n_in;
    return PS_OK;
}

/* ---- attributes ---- */

const ps_attr *ps_node_attr(const ps_node *n, const char *name) {
    for (uint32_t i = 0; i < n->n_attrs; i++) {
        if (strcmp(n->attrs[i].name, name) == 0) return &n->attrs[i];
    }
    return NULL;
}

static ps_status adopt_payload(ps_node *n, const ps_attr *attr, ps_error *err) {
    if (attr->type == PS_ATTR_TENSOR) return ps__graph_hold(n->graph, attr->u.tensor, err);
    if (attr->type == PS_ATTR_GRAPH) attr->u.graph->parent = n;
    for (size_t i = 0; attr->type == PS_ATTR_TENSORS && i < attr->n; i++) {
        PS_TRY(ps__graph_hold(n->graph, attr->u.tensors[i], err));
    }
    for (size_t i = 0; attr->type == PS_ATTR_GRAPHS && i < attr->n; i++)
        attr->u.graphs[i]->parent = n;
    return PS_OK;
}

ps_status ps_node_set_attr(ps_node *n, const ps_attr *attr, ps_error *err) {
    ps_arena *arena = &n->graph->root->arena;
    ps_attr *slot = (ps_attr *)ps_node_attr(n, attr->name);
    if (!slot) {
        ps_attr *grown = ps_arena_array(arena, n->n_attrs + 1, sizeof *grown);
        char *name = ps_arena_strdup(arena, attr->name);
        if (!grown || !name) return PS_FAIL_NOMEM(err, "an attribute");
        if (n->n_attrs) memcpy(grown, n->attrs, n->n_attrs * sizeof *grown);
        PS_TRY(adopt_payload(n, attr, err));
        n->attrs = grown;
        slot = &n->attrs[n->n_attrs++];
        *slot = *attr;
        slot->name = name;
        return PS_OK;
    }
    PS_TRY(adopt_payload(n, attr, err));
    const char *name = slot->name;
    *slot = *attr;
    slot->name = name;
    return PS_OK;
}

ps_status ps_node_set_int(ps_node *n, const char *name, int64_t v, ps_error *err) {
    ps_attr a = { .name = name, .type = PS_ATTR_INT, .u.i = v };
    return ps_node_set_attr(n, &a, err);
}

ps_status ps_node_set_float(ps_node *n, const char *name, float v, ps_error *err) {
    ps_attr a = { .name = name, .type = PS_ATTR_FLOAT, .u.f = v };
    return ps_node_set_attr(n, &a, err);
}

ps_status ps_node_set_string(ps_node *n, const char *name, const char *v, ps_error *err) {
    ps_attr a = { .name = name, .type = PS_ATTR_STRING, .n = strlen(v) };
    a.u.s = ps_arena_strdup(&n->graph->root->arena, v);
    if (!a.u.s) return PS_FAIL_NOMEM(err, "an attribute");
    return ps_node_set_attr(n, &a, err);
}

ps_status ps_node_set_ints(ps_node *n, const char *name, const int64_t *v, size_t count, ps_error *err) {
    ps_attr a = { .name = name, .type = PS_ATTR_INTS, .n = count };
    a.u.ints = ps_arena_array(&n->graph->root->arena, count ? count : 1, sizeof *v);
    if (!a.u.ints) return PS_FAIL_NOMEM(err, "an attribute");
    if (count) memcpy(a.u.ints, v, count * sizeof *v);
    return ps_node_set_attr(n, &a, err);
}

ps_status ps_node_set_floats(ps_node *n, const char *name, const float *v, size_t count, ps_error *err) {
    ps_attr a = { .name = name, .type = PS_ATTR_FLOATS, .n = count };
    a.u.floats = ps_arena_array(&n->graph->root->arena, count ? count : 1, sizeof *v);
    if (!a.u.floats) return PS_FAIL_NOMEM(err, "an attribute");
    if (count) memcpy(a.u.floats, v, count * sizeof *v);
    return ps_node_set_attr(n, &a, err);
}

ps_status ps_node_copy_attrs(ps_node *n, const ps_node *from, ps_error *err) {
    ps_attr *attrs = ps_arena_array(&n->graph->root->arena, from->n_attrs ? from->n_attrs : 1, sizeof *attrs);
    if (!attrs) return PS_FAIL_NOMEM(err, "attributes");
    /* Payloads lie in the arena and are never changed in place, so nodes of one root may share them. */
    if (from->n_attrs) memcpy(attrs, from->attrs, from->n_attrs * sizeof *attrs);
    n->attrs = attrs;
    n->n_attrs = from->n_attrs;
    n->fused = from->fused;
    return PS_OK;
}

/* ---- subgraphs ---- */

bool ps_node_has_subgraph(const ps_node *n) {
    for (uint32_t i = 0; i < n->n_attrs; i++) {
        if (n->attrs[i].type == PS_ATTR_GRAPH || (n->attrs[i].type == PS_ATTR_GRAPHS && n->attrs[i].n)) return true;
    }
    return false;
}

typedef PS_VEC(ps_value *) value_vec;

typedef struct capture_walk {
    ps_alloc_state *alloc;
    const ps_graph *scope; /* the graph of the node: it and its enclosing graphs are outside */
    value_vec found;
} capture_walk;

static bool walk_node(capture_walk *w, const ps_node *n);

static bool note(capture_walk *w, ps_value *v) {
    return !v || !ps__graph_encloses(v->graph, w->scope) || ps_vec_push(w->alloc, &w->found, v);
}

static bool walk_graph(capture_walk *w, const ps_graph *g) {
    for (const ps_node *n = g->first; n; n = n->next) {
        for (uint32_t i = 0; i < n->n_in; i++) {
            if (!note(w, n->in[i])) return false;
        }
        if (n->n_attrs && !walk_node(w, n)) return false;
    }
    for (size_t i = 0; i < g->n_outputs; i++) {
        if (!note(w, g->outputs[i])) return false;
    }
    return true;
}

static bool walk_node(capture_walk *w, const ps_node *n) {
    for (uint32_t i = 0; i < n->n_attrs; i++) {
        const ps_attr *a = &n->attrs[i];
        if (a->type == PS_ATTR_GRAPH && !walk_graph(w, a->u.graph)) return false;
        for (size_t k = 0; a->type == PS_ATTR_GRAPHS && k < a->n; k++) {
            if (!walk_graph(w, a->u.graphs[k])) return false;
        }
    }
    return true;
}

static int by_id(const void *a, const void *b) {
    uint32_t x = (*(ps_value *const *)a)->id, y = (*(ps_value *const *)b)->id;
    return (x > y) - (x < y);
}

ps_status ps_node_captures(const ps_node *n, ps_value ***ret, size_t *ret_n, ps_error *err) {
    ps_graph *root = n->graph->root;
    capture_walk w = { .alloc = root->alloc, .scope = n->graph };
    ps_status status = PS_OK;
    *ret = NULL;
    *ret_n = 0;
    if (!walk_node(&w, n)) PS_FAIL_OUT(err, NO_MEMORY, "out of memory for captured values");
    if (w.found.size == 0) goto out;
    qsort(w.found.data, w.found.size, sizeof *w.found.data, by_id);
    size_t unique = 1;
    for (size_t i = 1; i < w.found.size; i++) {
        if (w.found.data[i] != w.found.data[unique - 1]) w.found.data[unique++] = w.found.data[i];
    }
    *ret = ps_arena_memdup(&root->arena, w.found.data, unique * sizeof **ret);
    if (!*ret) PS_FAIL_OUT(err, NO_MEMORY, "out of memory for captured values");
    *ret_n = unique;
out:
    ps_vec_release(root->alloc, &w.found);
    return status;
}

const char *ps_node_label(const ps_node *n, char *buf, size_t size) {
    const char *dot = n->domain[0] ? "." : "";
    if (n->name[0]) {
        ps_snprintf(buf, size, "%s%s%s '%s'", n->domain, dot, n->op_type, n->name);
        return buf;
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (!n->out[i]) continue;
        ps_snprintf(buf, size, "%s%s%s producing '%s'", n->domain, dot, n->op_type, n->out[i]->name);
        return buf;
    }
    ps_snprintf(buf, size, "%s%s%s", n->domain, dot, n->op_type);
    return buf;
}

/* ---- comparing ---- */

bool ps_node_is_folded(const ps_node *n) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] && !n->out[i]->constant) return false;
    }
    return true;
}

bool ps_attr_equal(const ps_attr *a, const ps_attr *b) {
    if (a->type != b->type || a->n != b->n || strcmp(a->name, b->name) != 0) return false;
    switch (a->type) {
    case PS_ATTR_INT: return a->u.i == b->u.i;
    case PS_ATTR_FLOAT: return memcmp(&a->u.f, &b->u.f, sizeof a->u.f) == 0;
    case PS_ATTR_STRING: return memcmp(a->u.s, b->u.s, a->n) == 0;
    case PS_ATTR_TENSOR: return a->u.tensor == b->u.tensor;
    case PS_ATTR_GRAPH: return a->u.graph == b->u.graph;
    case PS_ATTR_INTS: return !a->n || memcmp(a->u.ints, b->u.ints, a->n * sizeof *a->u.ints) == 0;
    case PS_ATTR_FLOATS: return !a->n || memcmp(a->u.floats, b->u.floats, a->n * sizeof *a->u.floats) == 0;
    default: return false;
    }
}
