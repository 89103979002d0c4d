/* rewrite.c - matching and changing graphs. */
#include "passes/rewrite.h"

static ps_status each_in(ps_rw *rw, ps_graph *g, ps_rw_fn fn) {
    for (ps_node *n = g->first, *next; n; n = next) {
        next = n->next;
        if (n->n_out && n->out[0]) PS_TRY(fn(rw, n)); /* nobody wants the others' main result */
    }
    return PS_OK;
}

ps_status ps_rw_each(ps_rw *rw, ps_rw_fn fn) {
    PS_TRY(each_in(rw, rw->root, fn));
    for (ps_graph *g = rw->root->all_graphs; g; g = g->next_all)
        PS_TRY(each_in(rw, g, fn));
    return PS_OK;
}

/* ---- matching ---- */

bool ps_is(const ps_node *n, const char *op) {
    return n && n->op_type[0] == op[0] && strcmp(n->op_type, op) == 0 &&
           (!n->domain[0] || strcmp(n->domain, "ai.onnx") == 0);
}

bool ps_is_ours(const ps_node *n, const char *op) {
    return n && n->op_type[0] == op[0] && strcmp(n->op_type, op) == 0 && strcmp(n->domain, "polestar") == 0;
}

bool ps_is_any(const ps_node *n, const char *op) {
    return ps_is(n, op) || ps_is_ours(n, op);
}

bool ps_is_view(const ps_node *n) {
    /* Dropout is one in inference only, which the identity pass looks into. */
    return n && n->op && (n->op->traits & PS_OP_VIEW) && n->n_out == 1 && n->n_in >= 1 && !ps_is(n, "Dropout");
}

const ps_tensor *ps_const(const ps_value *v) {
    return v && v->constant && !v->is_input ? v->constant : NULL;
}

const ps_tensor *ps_const_floats(const ps_value *v) {
    const ps_tensor *t = ps_const(v);
    return t && t->dtype == PS_DTYPE_F32 && !t->strides ? t : NULL;
}

bool ps_const_f32(const ps_value *v, float *ret) {
    const ps_tensor *t = ps_const_floats(v);
    if (!t || ps_tensor_count(t) != 1) return false;
    *ret = *(const float *)t->data;
    return true;
}

bool ps_weight_only(const ps_value *v) {
    static const char *const products[] = { "Conv", "ConvTranspose", "Gemm", "MatMul" };
    for (uint32_t i = 0; i < v->n_uses; i++) {
        size_t k = 0;
        while (k < 4 && !ps_is_any(v->uses[i].node, products[k]))
            k++;
        if (k == 4 || v->uses[i].index != 1) return false;
    }
    return v->n_uses && !v->n_outputs;
}

ps_node *ps_sole_producer(const ps_value *v, const ps_graph *g) {
    return v && v->producer && v->producer->graph == g && v->n_uses == 1 && v->n_outputs == 0 ? v->producer : NULL;
}

bool ps_node_axes(const ps_node *n, int rank, int ret[PS_MAX_RANK], size_t *ret_n) {
    int64_t axes[PS_MAX_RANK];
    const ps_attr *a = ps_node_attr(n, "axes");
    *ret_n = 0;
    if (a && a->type == PS_ATTR_INTS) {
        if (a->n > PS_MAX_RANK) return false;
        memcpy(axes, a->u.ints, a->n * sizeof *axes);
        *ret_n = a->n;
    } else if (ps_has_in(n, 1) && !ps_const_ints(n, 1, axes, PS_MAX_RANK, ret_n)) {
        return false;
    }
    for (size_t i = 0; i < *ret_n; i++) {
        if (!ps_axis_normalize(axes[i], rank, &ret[i])) return false;
    }
    return true;
}

int64_t ps_attr_int(const ps_node *n, const char *name, int64_t def) {
    const ps_attr *a = ps_node_attr(n, name);
    return a && a->type == PS_ATTR_INT ? a->u.i : def;
}

bool ps_shapes_agree(const ps_shape *a, const ps_shape *b) {
    if (a->rank < 0 || a->rank != b->rank) return false;
    for (int d = 0; d < a->rank; d++) {
        if (a->dims[d] == PS_DIM_UNKNOWN || a->dims[d] != b->dims[d]) return false;
    }
    return true;
}

bool ps_shape_fits(const ps_shape *narrow, const ps_shape *wide) {
    if (narrow->rank < 0 || wide->rank < narrow->rank) return false;
    for (int d = 0; d < narrow->rank; d++) {
        int64_t a = narrow->dims[d], b = wide->dims[wide->rank - narrow->rank + d];
        if (a != 1 && (a == PS_DIM_UNKNOWN || a != b)) return false;
    }
    return true;
}

ps_value *ps_other_input(const ps_node *n, const ps_value *v) {
    return n->in[0] == v ? n->in[1] : n->in[0];
}

/* ---- changing ---- */

enum { MAX_PRUNE_DEPTH = 64 }; /* what hangs deeper is left to the dead-code pass */

static void prune(ps_node *n, int depth) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] && !ps_value_unused(n->out[i])) return;
    }
    uint32_t n_in = n->n_in;
    ps_value **in = n->in;
    ps_graph *g = n->graph;
    ps_node_remove(n);
    for (uint32_t i = 0; i < n_in && depth < MAX_PRUNE_DEPTH; i++) {
        ps_node *p = in[i] ? in[i]->producer : NULL;
        if (p && p->graph == g) prune(p, depth + 1);
    }
}

void ps_rw_prune(ps_node *n) {
    prune(n, 0);
}

ps_status ps_rw_insert(ps_rw *rw, ps_node *before, const char *op, const char *domain, ps_value *const *in, size_t n_in,
                       ps_node **ret) {
    ps_value *out;
    PS_TRY(ps_graph_add_value(before->graph, NULL, &out, rw->err));
    return ps_graph_add_node(before->graph, before, op, domain, NULL, in, n_in, &out, 1, ret, rw->err);
}

ps_status ps_rw_begin(ps_rw *rw, ps_node *n, const char *op, const char *domain, ps_value *const *in, size_t n_in,
                      ps_node **ret) {
    ps_node *made;
    PS_TRY(ps_graph_add_node(n->graph, n, op, domain, n->name, in, n_in, NULL, 0, &made, rw->err));
    made->out = ps_arena_array(&rw->root->arena, 1, sizeof *made->out);
    if (!made->out) return PS_FAIL_NOMEM(rw->err, "a node");
    made->n_out = 1;
    made->fused = n->fused;
    *ret = made;
    return PS_OK;
}

ps_status ps_rw_commit(ps_rw *rw, ps_node *made, ps_node *n) {
    ps_value *out = n->out[0];
    PS_TRY(ps_node_set_output(n, 0, NULL, rw->err));
    PS_TRY(ps_node_set_output(made, 0, out, rw->err));
    ps_rw_prune(n);
    rw->changes++;
    return PS_OK;
}

ps_status ps_rw_replace(ps_rw *rw, ps_node *n, const char *op, const char *domain, ps_value *const *in, size_t n_in,
                        ps_node **ret) {
    PS_TRY(ps_rw_begin(rw, n, op, domain, in, n_in, ret));
    return ps_rw_commit(rw, *ret, n);
}

ps_status ps_rw_finish(ps_rw *rw, ps_node *n, int version) {
    if (version && !n->domain[0]) {
        n->op = ps_ops_find(n->op_type, "", version);
        PS_FAIL_IF(!n->op, rw->err, INTERNAL, "no operator %s of version %d", n->op_type, version);
    }
    PS_TRY(ps_ops_resolve_node(n, rw->err));
    return ps_ops_infer_node(n, rw->err);
}

ps_status ps_rw_bypass(ps_rw *rw, ps_node *n, ps_value *v, bool *ret_done) {
    ps_value *out = n->out[0];
    bool bound = v->is_input || v->constant || v->graph != out->graph || v->n_outputs;
    *ret_done = !(out->n_outputs && bound);
    if (!*ret_done) return PS_OK;
    PS_TRY(ps_value_replace(out, v, rw->err));
    ps_rw_prune(n);
    rw->changes++;
    return PS_OK;
}

ps_status ps_rw_constant(ps_rw *rw, ps_graph *g, ps_tensor *take_t, ps_value **ret) {
    ps_status status = ps_graph_add_constant(g, NULL, take_t, ret, rw->err);
    ps_tensor_release(take_t);
    return status;
}

ps_status ps_rw_set_constant(ps_rw *rw, ps_node *n, uint32_t index, ps_tensor *take_t) {
    ps_value *old = n->in[index], *v;
    PS_TRY(ps_rw_constant(rw, n->graph, take_t, &v));
    PS_TRY(ps_node_set_input(n, index, v, rw->err));
    if (old && old->constant && !old->is_input && ps_value_unused(old)) ps_value_set_constant(old, NULL);
    return PS_OK;
}

ps_status ps_rw_ints(ps_rw *rw, ps_graph *g, const int64_t *v, size_t n, ps_value **ret) {
    ps_tensor *t;
    ps_shape shape = ps_shape_make(1, (int64_t[]) { (int64_t)n });
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_I64, &shape, &t, rw->err));
    if (n) memcpy(t->data, v, n * sizeof *v);
    return ps_rw_constant(rw, g, t, ret);
}

ps_status ps_rw_floats(ps_rw *rw, ps_graph *g, const ps_shape *shape, const float *v, ps_value **ret) {
    ps_tensor *t;
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, shape, &t, rw->err));
    memcpy(t->data, v, t->bytes);
    return ps_rw_constant(rw, g, t, ret);
}

ps_status ps_rw_fused(ps_rw *rw, ps_node *n, const char *text) {
    n->fused = ps_arena_printf(&rw->root->arena, "%s+%s", n->fused ? n->fused : n->op_type, text);
    return n->fused ? PS_OK : PS_FAIL_NOMEM(rw->err, "a node");
}
