/* graph_run.h - runs a graph by reference kernels, one node after the other: the oracle for rewrites. For tests. */
#ifndef PS_TEST_GRAPH_RUN_H
#define PS_TEST_GRAPH_RUN_H

#include <math.h>

#include "ops/ops.h"

typedef struct graph_run {
    ps_graph *root;
    ps_tensor **values; /* by value id; retained */
    ps_error *err;
} graph_run;

static ps_status graph_run_graph(graph_run *r, const ps_graph *g);

static void graph_run_set(graph_run *r, const ps_value *v, ps_tensor *t) {
    ps_tensor_release(r->values[v->id]);
    r->values[v->id] = t ? ps_tensor_retain(t) : NULL;
}

static ps_tensor *graph_run_get(const graph_run *r, const ps_value *v) {
    return r->values[v->id] ? r->values[v->id] : v->constant;
}

static ps_status graph_run_if(graph_run *r, const ps_node *n) {
    int64_t cond;
    size_t count;
    const ps_tensor *c = graph_run_get(r, n->in[0]);
    PS_FAIL_IF(!c || !ps_tensor_get_ints(c, &cond, 1, &count), r->err, INTERNAL, "If without a condition");
    const ps_graph *branch = ps_node_attr(n, cond ? "then_branch" : "else_branch")->u.graph;
    PS_TRY(graph_run_graph(r, branch));
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i]) graph_run_set(r, n->out[i], graph_run_get(r, branch->outputs[i]));
    }
    return PS_OK;
}

static ps_status graph_run_node(graph_run *r, ps_node *n) {
    const ps_tensor *in[64] = { NULL };
    ps_tensor *out[64] = { NULL };
    ps_status status = PS_OK;
    PS_FAIL_IF(n->n_in > 64 || n->n_out > 64, r->err, LIMIT, "too many inputs");
    if (n->op->traits & PS_OP_CONTROL) return graph_run_if(r, n);
    for (uint32_t i = 0; i < n->n_in; i++)
        in[i] = n->in[i] ? graph_run_get(r, n->in[i]) : NULL;
    for (uint32_t i = 0; i < n->n_out; i++) {
        const ps_value *v = n->out[i];
        ps_shape empty = ps_shape_make(1, (int64_t[]) { 0 });
        if (!v) continue;
        bool known = ps_shape_fixed(&v->shape) && v->dtype;
        PS_TRY_OUT(known ? ps_tensor_new(r->root->alloc, v->dtype, &v->shape, &out[i], r->err)
                         : ps_tensor_new_view(r->root->alloc, PS_DTYPE_U8, &empty, NULL, NULL, &out[i], r->err));
        if (!known) {
            out[i]->dtype = PS_DTYPE_UNDEFINED;
            out[i]->shape = ps_shape_unknown();
        }
    }
    PS_TRY_OUT(ps_ops_run_ref(n, in, out, r->root->alloc, 1, r->err));
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i]) graph_run_set(r, n->out[i], out[i]);
    }
out:
    for (uint32_t i = 0; i < n->n_out; i++)
        ps_tensor_release(out[i]);
    return status;
}

static ps_status graph_run_graph(graph_run *r, const ps_graph *g) {
    for (ps_node *n = g->first; n; n = n->next)
        PS_TRY(graph_run_node(r, n));
    return PS_OK;
}

/* inputs: by position; ret_outputs: retained tensors, one per graph output. The graph must be resolved and inferred. */
static ps_status graph_run_all(ps_graph *root, ps_tensor *const *inputs, ps_tensor **ret_outputs, ps_error *err) {
    graph_run r = { .root = root, .err = err };
    r.values = ps_alloc_zero(root->alloc, (root->n_ids + 1) * sizeof *r.values);
    if (!r.values) return PS_FAIL_NOMEM(err, "a run");
    for (size_t i = 0; i < root->n_inputs; i++)
        graph_run_set(&r, root->inputs[i], inputs[i]);
    ps_status status = graph_run_graph(&r, root);
    for (size_t i = 0; i < root->n_outputs && status == PS_OK; i++) {
        ret_outputs[i] = ps_tensor_retain(graph_run_get(&r, root->outputs[i]));
    }
    for (uint32_t i = 0; i < root->n_ids; i++)
        ps_tensor_release(r.values[i]);
    ps_free(root->alloc, r.values);
    return status;
}

/* Random numbers of any type for an input: floats in [-2, 2), integers 0 or 1. */
static inline void graph_run_fill(ps_tensor *t, uint64_t *seed) {
    for (size_t i = 0; i < ps_tensor_count(t); i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        double u = (double)(*seed >> 40) / (1 << 24);
        if (t->dtype == PS_DTYPE_F32)
            ((float *)t->data)[i] = (float)(4 * u - 2);
        else if (t->dtype == PS_DTYPE_I64)
            ((int64_t *)t->data)[i] = u < 0.5;
        else if (t->dtype == PS_DTYPE_I32)
            ((int32_t *)t->data)[i] = u < 0.5;
        else if (t->dtype == PS_DTYPE_BOOL)
            ((uint8_t *)t->data)[i] = u < 0.5;
    }
}

/* Largest |a - b| / (atol / rtol + |a|) over two f32 tensors; INFINITY if they differ in shape. Other types: 0 or
 * INFINITY. */
static inline double graph_run_difference(const ps_tensor *a, const ps_tensor *b, double floor) {
    double worst = 0;
    if (a->dtype != b->dtype || !ps_shape_equal(&a->shape, &b->shape)) return INFINITY;
    if (a->dtype != PS_DTYPE_F32) return memcmp(a->data, b->data, a->bytes) ? INFINITY : 0;
    for (size_t i = 0; i < ps_tensor_count(a); i++) {
        double x = ((const float *)a->data)[i], y = ((const float *)b->data)[i];
        double d = fabs(x - y) / (floor + fabs(x));
        if (!(d <= worst)) worst = d;
    }
    return worst;
}

#endif
