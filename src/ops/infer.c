/* infer.c - drives the shape rules over a graph, and what rules share. */
#include "ops/ops.h"

/* Keeps what was known about a dim when the rule says less: facts are sound, so both hold. */
void ps_infer_set(const ps_node *node, size_t i, ps_dtype dtype, const ps_shape *shape) {
    if (!ps_has_out(node, i)) return;
    ps_value *v = node->out[i];
    if (dtype != PS_DTYPE_UNDEFINED) v->dtype = dtype;
    if (shape->rank < 0) return;
    if (v->shape.rank != shape->rank) {
        v->shape = *shape;
        return;
    }
    for (int d = 0; d < shape->rank; d++) {
        int64_t now = shape->dims[d], old = v->shape.dims[d];
        if (now >= 0 || (now != PS_DIM_UNKNOWN && old < 0)) v->shape.dims[d] = now;
    }
}

void ps_infer_container(const ps_node *node, size_t i, ps_dtype kind, ps_dtype elem, int64_t n) {
    ps_shape shape = { 1, { n >= 0 ? n : PS_DIM_UNKNOWN } };
    ps_infer_set(node, i, kind, &shape);
    ps_infer_elem(node, i, elem);
}

void ps_infer_elem(const ps_node *node, size_t i, ps_dtype elem) {
    if (ps_has_out(node, i) && elem != PS_DTYPE_UNDEFINED) node->out[i]->elem = elem;
}

ps_status ps_infer_same(const ps_node *node, ps_error *err) {
    (void)err;
    ps_infer_set(node, 0, node->in[0]->dtype, &node->in[0]->shape);
    ps_infer_elem(node, 0, node->in[0]->elem);
    return PS_OK;
}

ps_status ps_infer_broadcast(const ps_node *node, ps_error *err) {
    char label[160], a[96], b[96];
    ps_dtype dtype = PS_DTYPE_UNDEFINED;
    ps_shape shape = ps_shape_make(0, NULL);
    for (uint32_t i = 0; i < node->n_in; i++) {
        const ps_value *v = node->in[i];
        if (!v) continue;
        if (dtype == PS_DTYPE_UNDEFINED) dtype = v->dtype;
        if (shape.rank < 0) continue;
        if (v->shape.rank < 0) {
            shape = ps_shape_unknown();
            continue;
        }
        ps_shape sum;
        PS_FAIL_IF(!ps_shape_broadcast(&shape, &v->shape, &sum), err, SHAPE, "%s: %s and %s do not broadcast",
                   ps_node_label(node, label, sizeof label), ps_shape_text(&shape, a, sizeof a),
                   ps_shape_text(&v->shape, b, sizeof b));
        shape = sum;
    }
    ps_infer_set(node, 0, dtype, &shape);
    return PS_OK;
}

ps_shape ps_infer_join(const ps_shape *a, const ps_shape *b) {
    if (a->rank < 0 || a->rank != b->rank) return ps_shape_unknown();
    ps_shape r = *a;
    for (int d = 0; d < r.rank; d++) {
        if (a->dims[d] != b->dims[d]) r.dims[d] = PS_DIM_UNKNOWN;
    }
    return r;
}

bool ps_const_ints(const ps_node *node, size_t i, int64_t *ret, size_t max, size_t *ret_n) {
    if (!ps_has_in(node, i) || !node->in[i]->constant || node->in[i]->is_input) return false;
    return ps_tensor_get_ints(node->in[i]->constant, ret, max, ret_n);
}

bool ps_const_double(const ps_node *node, size_t i, double *ret) {
    if (!ps_has_in(node, i) || !node->in[i]->constant || node->in[i]->is_input) return false;
    const ps_tensor *t = node->in[i]->constant;
    return ps_tensor_count(t) == 1 && ps_tensor_get_double(t, 0, ret);
}

/* ---- driver ---- */

/* A branch that contradicts the present shapes is no error of the model: exporters guard what only fits some shapes by
 * an If. Its values stay as unknown as they were; running it would fail with the sentence that is dropped here. */
static ps_status infer_branches(ps_node *node, ps_error *err) {
    for (uint32_t i = 0; i < node->n_attrs; i++) {
        const ps_attr *a = &node->attrs[i];
        if (a->type != PS_ATTR_GRAPH || a->u.graph->n_inputs) continue;
        ps_error inner = PS_ERROR_INIT;
        ps_status status = ps_ops_infer_graph(a->u.graph, &inner);
        if (status == PS_OK || status == PS_SHAPE || status == PS_TYPE) continue;
        if (err) *err = inner;
        return status;
    }
    return PS_OK;
}

static ps_status check_sizes(const ps_node *node, ps_error *err) {
    char label[160], text[96];
    for (uint32_t i = 0; i < node->n_out; i++) {
        int64_t n;
        size_t bytes;
        const ps_value *v = node->out[i];
        if (!v || !ps_shape_fixed(&v->shape)) continue;
        PS_FAIL_IF(!ps_shape_elements(&v->shape, &n) || !ps_dtype_bytes(v->dtype, n, &bytes), err, LIMIT,
                   "%s: an output of shape %s is too large", ps_node_label(node, label, sizeof label),
                   ps_shape_text(&v->shape, text, sizeof text));
    }
    return PS_OK;
}

/* A container's memory is references to its elements. Whatever moves or computes with the bytes of its inputs must not
 * get one. */
static ps_status check_containers(const ps_node *node, ps_error *err) {
    char label[160];
    if (node->op->traits & (PS_OP_CONTAINERS | PS_OP_CONTROL)) return PS_OK;
    for (uint32_t i = 0; i < node->n_in; i++) {
        const ps_value *v = node->in[i];
        PS_FAIL_IF(v && ps_dtype_is_container(v->dtype), err, TYPE, "%s: input %u ('%s') is %s %s, not a tensor",
                   ps_node_label(node, label, sizeof label), i, v->name, v->dtype == PS_DTYPE_OPTIONAL ? "an" : "a",
                   ps_dtype_name(v->dtype));
    }
    return PS_OK;
}

ps_status ps_ops_infer_node(ps_node *node, ps_error *err) {
    char label[160];
    PS_FAIL_IF(!node->op, err, INTERNAL, "%s: is not resolved", ps_node_label(node, label, sizeof label));
    PS_TRY(check_containers(node, err));
    if (node->n_attrs) PS_TRY(infer_branches(node, err));
    PS_TRY(node->op->infer(node, err));
    return check_sizes(node, err);
}

ps_status ps_ops_infer_graph(ps_graph *g, ps_error *err) {
    for (ps_node *n = g->first; n; n = n->next)
        PS_TRY(ps_ops_infer_node(n, err));
    return PS_OK;
}

ps_status ps_ops_infer(ps_graph *root, ps_error *err) {
    return ps_ops_infer_graph(root, err);
}
