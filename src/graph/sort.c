/* sort.c - topological order by depth-first search over the present order, without recursion inside one graph. */
#include "base/vec.h"
#include "graph/graph.h"

enum { UNSEEN, OPEN, DONE };

typedef struct frame {
    ps_node *node;
    size_t next; /* dependency to look at next: inputs first, then captures */
    ps_value **captures;
    size_t n_captures;
} frame;

typedef struct sorter {
    ps_alloc_state *alloc;
    uint8_t *state; /* by node id */
    PS_VEC(frame) stack;
} sorter;

static ps_status open_node(sorter *s, ps_node *n, ps_error *err) {
    frame f = { .node = n };
    if (ps_node_has_subgraph(n)) PS_TRY(ps_node_captures(n, &f.captures, &f.n_captures, err));
    s->state[n->id] = OPEN;
    if (!ps_vec_push(s->alloc, &s->stack, f)) return PS_FAIL_NOMEM(err, "sorting a graph");
    return PS_OK;
}

static ps_value *dependency(const frame *f, size_t i) {
    return i < f->node->n_in ? f->node->in[i] : f->captures[i - f->node->n_in];
}

static void append(ps_graph *g, ps_node *n) {
    n->prev = g->last;
    n->next = NULL;
    *(g->last ? &g->last->next : &g->first) = n;
    g->last = n;
}

static ps_status emit(sorter *s, ps_graph *g, ps_node *start, ps_error *err) {
    char label[160];
    PS_TRY(open_node(s, start, err));
    while (s->stack.size) {
        frame *f = &s->stack.data[s->stack.size - 1];
        if (f->next == f->node->n_in + f->n_captures) {
            s->state[f->node->id] = DONE;
            append(g, f->node);
            s->stack.size--;
            continue;
        }
        ps_value *v = dependency(f, f->next++);
        ps_node *producer = v ? v->producer : NULL;
        if (!producer || producer->graph != g || s->state[producer->id] == DONE) continue;
        PS_FAIL_IF(s->state[producer->id] == OPEN, err, FORMAT, "graph '%s': %s is on a cycle", g->name,
                   ps_node_label(producer, label, sizeof label));
        PS_TRY(open_node(s, producer, err));
    }
    return PS_OK;
}

static ps_status sort_graph(sorter *s, ps_graph *g, ps_error *err) {
    ps_node **nodes = ps_alloc_array(s->alloc, g->n_nodes ? g->n_nodes : 1, sizeof *nodes);
    if (!nodes) return PS_FAIL_NOMEM(err, "sorting a graph");
    size_t n = 0;
    for (ps_node *node = g->first; node; node = node->next)
        nodes[n++] = node;
    g->first = g->last = NULL;
    ps_status status = PS_OK;
    for (size_t i = 0; i < n; i++) {
        if (status == PS_OK && s->state[nodes[i]->id] == UNSEEN) status = emit(s, g, nodes[i], err);
        /* After a failure the rest is appended as it stood, so that the graph stays whole for its owner to free. */
        if (status != PS_OK && s->state[nodes[i]->id] != DONE) append(g, nodes[i]);
    }
    ps_free(s->alloc, nodes);
    return status;
}

ps_status ps_graph_sort(ps_graph *root, ps_error *err) {
    sorter s = { .alloc = root->alloc };
    s.state = ps_alloc_zero(root->alloc, root->n_node_ids ? root->n_node_ids : 1);
    if (!s.state) return PS_FAIL_NOMEM(err, "sorting a graph");
    ps_status status = sort_graph(&s, root, err);
    for (ps_graph *g = root->all_graphs; g && status == PS_OK; g = g->next_all) {
        if (g->parent) status = sort_graph(&s, g, err);
    }
    ps_vec_release(root->alloc, &s.stack);
    ps_free(root->alloc, s.state);
    return status;
}
