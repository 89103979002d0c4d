/* cse.c - two nodes of one graph that compute the same from the same become one.
 *
 * Small constants are compared by content, so that chains of shape arithmetic which only differ in whose "1" they add
 * meet as well. */
#include "base/map.h"
#include "passes/rewrite.h"

#define MAX_COMPARED_BYTES 256

typedef struct table {
    ps_node **slots;
    size_t mask;
} table;

static bool small_tensor(const ps_tensor *t) {
    return t && t->bytes <= MAX_COMPARED_BYTES && t->dtype != PS_DTYPE_STRING && !t->strides;
}

static bool small_const(const ps_value *v) {
    return small_tensor(ps_const(v));
}

static bool same_tensor(const ps_tensor *a, const ps_tensor *b) {
    if (a == b) return true;
    return small_tensor(a) && small_tensor(b) && a->dtype == b->dtype && ps_shape_equal(&a->shape, &b->shape) &&
           memcmp(a->data, b->data, a->bytes) == 0;
}

static uint64_t hash_tensor(const ps_tensor *t, uint64_t h) {
    if (!small_tensor(t)) return ps_hash_bytes(&t, sizeof t, h);
    return ps_hash_bytes(t->data, t->bytes, h + (uint64_t)t->dtype);
}

static uint64_t hash_input(const ps_value *v, uint64_t h) {
    if (!v) return h * 31 + 1;
    if (!small_const(v)) return ps_hash_bytes(&v->id, sizeof v->id, h);
    return hash_tensor(v->constant, h);
}

static bool same_input(const ps_value *a, const ps_value *b) {
    if (a == b) return true;
    return a && b && small_const(a) && small_const(b) && same_tensor(a->constant, b->constant);
}

static bool same_attr(const ps_attr *a, const ps_attr *b) {
    if (a->type == PS_ATTR_TENSOR && b->type == PS_ATTR_TENSOR)
        return strcmp(a->name, b->name) == 0 && same_tensor(a->u.tensor, b->u.tensor);
    return ps_attr_equal(a, b);
}

static bool same_node(const ps_node *a, const ps_node *b) {
    if (a->op != b->op || a->n_in != b->n_in || a->n_out != b->n_out || a->n_attrs != b->n_attrs) return false;
    for (uint32_t i = 0; i < a->n_in; i++) {
        if (!same_input(a->in[i], b->in[i])) return false;
    }
    for (uint32_t i = 0; i < a->n_out; i++) {
        if (!a->out[i] != !b->out[i]) return false;
    }
    /* Attributes in another order count as different: a miss, not an error. */
    for (uint32_t i = 0; i < a->n_attrs; i++) {
        if (!same_attr(&a->attrs[i], &b->attrs[i])) return false;
    }
    return true;
}

static uint64_t hash_attr(const ps_attr *a, uint64_t h) {
    switch (a->type) {
    case PS_ATTR_INT: return ps_hash_bytes(&a->u.i, sizeof a->u.i, h);
    case PS_ATTR_FLOAT: return ps_hash_bytes(&a->u.f, sizeof a->u.f, h);
    case PS_ATTR_STRING: return ps_hash_bytes(a->u.s, a->n, h);
    case PS_ATTR_INTS: return ps_hash_bytes(a->u.ints, a->n * sizeof *a->u.ints, h);
    case PS_ATTR_FLOATS: return ps_hash_bytes(a->u.floats, a->n * sizeof *a->u.floats, h);
    case PS_ATTR_TENSOR: return hash_tensor(a->u.tensor, h);
    default: return h + 1;
    }
}

static uint64_t hash_node(const ps_node *n) {
    uint64_t h = ps_hash_bytes(&n->op, sizeof n->op, n->n_in);
    for (uint32_t i = 0; i < n->n_in; i++)
        h = hash_input(n->in[i], h);
    for (uint32_t i = 0; i < n->n_attrs; i++)
        h = hash_attr(&n->attrs[i], h);
    return h;
}

/* `twin` came first; its outputs take over unless both are graph outputs. */
static ps_status merge(ps_rw *rw, ps_node *n, ps_node *twin) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] && n->out[i]->n_outputs && twin->out[i]->n_outputs) return PS_OK;
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i]) PS_TRY(ps_value_replace(n->out[i], twin->out[i], rw->err));
    }
    ps_node_remove(n);
    rw->changes++;
    return PS_OK;
}

static bool mergeable(const ps_node *n) {
    return n->op && n->n_in && n->n_out && !(n->op->traits & (PS_OP_RANDOM | PS_OP_CONTROL)) &&
           !ps_node_has_subgraph(n);
}

static ps_status merge_graph(ps_rw *rw, ps_graph *g) {
    table t = { .mask = 15 };
    while (t.mask < 2 * g->n_nodes)
        t.mask = 2 * t.mask + 1;
    if (g->n_nodes < 2) return PS_OK;
    t.slots = ps_alloc_zero(rw->root->alloc, (t.mask + 1) * sizeof *t.slots);
    if (!t.slots) return PS_FAIL_NOMEM(rw->err, "finding common subexpressions");
    ps_status status = PS_OK;
    for (ps_node *n = g->first, *next; n && status == PS_OK; n = next) {
        next = n->next;
        if (!mergeable(n)) continue;
        size_t i = hash_node(n) & t.mask;
        while (t.slots[i] && !same_node(t.slots[i], n))
            i = (i + 1) & t.mask;
        if (t.slots[i])
            status = merge(rw, n, t.slots[i]);
        else
            t.slots[i] = n;
    }
    ps_free(rw->root->alloc, t.slots);
    return status;
}

ps_status ps_pass_cse(ps_rw *rw) {
    PS_TRY(merge_graph(rw, rw->root));
    for (ps_graph *g = rw->root->all_graphs; g; g = g->next_all)
        PS_TRY(merge_graph(rw, g));
    return PS_OK;
}
