/* control.c - operators with subgraphs: If, Loop, Scan, SequenceMap. The runtime runs them; here are their tables and
 * shape rules.
 *
 * Source: ONNX operator specs If, Loop (opsets 1 to 23), Scan (9 to 23), SequenceMap (17). */
#include "ops/facts.h"
#include "ops/params.h"

/* ---- If ---- */
static const ps_attr_def if_attrs[] = { PS_A_GRAPH_REQ(ps_if_params, then_branch),
                                        PS_A_GRAPH_REQ(ps_if_params, else_branch), PS_ATTRS_END };

static ps_status check_arity(const ps_node *node, const ps_graph *g, const char *what, size_t n_in, size_t n_out,
                             ps_error *err) {
    PS_FAIL_IF(g->n_inputs != n_in, err, FORMAT, "%s: %s has %zu inputs, %zu are given", PS_LABEL(node), what,
               g->n_inputs, n_in);
    PS_FAIL_IF(g->n_outputs != n_out, err, FORMAT, "%s: %s has %zu outputs, %zu are used", PS_LABEL(node), what,
               g->n_outputs, n_out);
    return PS_OK;
}

/* An output is what either branch gives; of a branch only, if the condition is constant. */
static ps_status if_infer(const ps_node *node, ps_error *err) {
    const ps_if_params *p = node->params;
    const ps_graph *a = p->then_branch, *b = p->else_branch;
    PS_TRY(check_arity(node, a, "then_branch", 0, node->n_out, err));
    PS_TRY(check_arity(node, b, "else_branch", 0, node->n_out, err));
    ps_dtype t = node->in[0]->dtype;
    PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_BOOL, err, TYPE,
               "%s: the condition has element type %s, not bool", PS_LABEL(node), ps_dtype_name(t));
    double condition;
    bool known = ps_const_double(node, 0, &condition);
    for (size_t i = 0; i < node->n_out; i++) {
        const ps_value *x = a->outputs[i], *y = b->outputs[i];
        if (known) x = y = condition != 0 ? x : y;
        PS_FAIL_IF(x->dtype != y->dtype && x->dtype != PS_DTYPE_UNDEFINED && y->dtype != PS_DTYPE_UNDEFINED, err, TYPE,
                   "%s: output %zu is %s in one branch and %s in the other", PS_LABEL(node), i, ps_dtype_name(x->dtype),
                   ps_dtype_name(y->dtype));
        ps_shape shape = ps_infer_join(&x->shape, &y->shape);
        ps_infer_set(node, i, x->dtype != PS_DTYPE_UNDEFINED ? x->dtype : y->dtype, &shape);
        ps_infer_elem(node, i, x->elem != PS_DTYPE_UNDEFINED ? x->elem : y->elem);
    }
    return PS_OK;
}

/* ---- what Loop and Scan share ---- */
/* Tells a body's input what holds in every iteration; keeps what is known already. */
static void body_input(const ps_graph *body, size_t i, ps_dtype dtype, ps_dtype elem, const ps_shape *shape) {
    ps_value *v = body->inputs[i];
    if (v->dtype == PS_DTYPE_UNDEFINED) v->dtype = dtype;
    if (v->elem == PS_DTYPE_UNDEFINED) v->elem = elem;
    if (v->shape.rank < 0 && shape) v->shape = *shape;
}

/* A value carried from iteration to iteration may change its shape, so the body knows its type only. What comes out is
 * what went in (no iteration) or what the body gives. */
static ps_status carried_output(const ps_node *node, size_t out, const ps_value *initial, const ps_value *result,
                                ps_error *err) {
    ps_dtype a = initial->dtype, b = result->dtype;
    if (a == PS_DTYPE_OPTIONAL && b != PS_DTYPE_UNDEFINED) a = b; /* what an optional holds stands for it */
    PS_FAIL_IF(a != b && a != PS_DTYPE_UNDEFINED && b != PS_DTYPE_UNDEFINED, err, TYPE,
               "%s: carried value '%s' starts as %s and becomes %s", PS_LABEL(node), result->name, ps_dtype_name(a),
               ps_dtype_name(b));
    ps_shape shape = ps_infer_join(&initial->shape, &result->shape);
    ps_infer_set(node, out, a != PS_DTYPE_UNDEFINED ? a : b, &shape);
    ps_infer_elem(node, out, initial->elem != PS_DTYPE_UNDEFINED ? initial->elem : result->elem);
    return PS_OK;
}

/* Slices of all iterations stacked along a new dim. */
static ps_status stacked_output(const ps_node *node, size_t out, const ps_value *slice, int64_t axis, int64_t count,
                                ps_error *err) {
    ps_shape shape = ps_shape_unknown();
    int at, rank = slice->shape.rank;
    if (rank >= 0) {
        PS_FAIL_IF(rank + 1 > PS_MAX_RANK, err, LIMIT, "%s: output %zu has rank %d, over %d", PS_LABEL(node), out,
                   rank + 1, PS_MAX_RANK);
        PS_TRY(ps_axis_check(node, axis, rank + 1, &at, err));
        shape.rank = rank + 1;
        for (int d = 0, from = 0; d <= rank; d++)
            shape.dims[d] = d == at ? count : slice->shape.dims[from++];
    }
    return ps_infer_checked(node, out, slice->dtype, &shape, err);
}

/* ---- Loop ---- */
static const ps_attr_def loop_attrs[] = { PS_A_GRAPH_REQ(ps_loop_params, body), PS_ATTRS_END };

static ps_status loop_infer(const ps_node *node, ps_error *err) {
    static const ps_shape scalar = { 0, { 0 } };
    ps_graph *body = ((const ps_loop_params *)node->params)->body;
    size_t carried = node->n_in > 2 ? node->n_in - 2 : 0;
    PS_FAIL_IF(body->n_inputs != carried + 2 || body->n_outputs != node->n_out + 1 || node->n_out < carried, err,
               FORMAT, "%s: %zu carried values and %u outputs do not fit a body of %zu inputs and %zu outputs",
               PS_LABEL(node), carried, node->n_out, body->n_inputs, body->n_outputs);
    body_input(body, 0, PS_DTYPE_I64, PS_DTYPE_UNDEFINED, &scalar);
    body_input(body, 1, PS_DTYPE_BOOL, PS_DTYPE_UNDEFINED, &scalar);
    for (size_t k = 0; k < carried; k++) {
        PS_FAIL_IF(!node->in[k + 2], err, FORMAT, "%s: carried value %zu has no initial value", PS_LABEL(node), k);
        body_input(body, k + 2, node->in[k + 2]->dtype, node->in[k + 2]->elem, NULL);
    }
    PS_TRY(ps_ops_infer_graph(body, err));
    for (size_t k = 0; k < node->n_out; k++) {
        const ps_value *result = body->outputs[k + 1];
        if (k < carried)
            PS_TRY(carried_output(node, k, node->in[k + 2], result, err));
        else
            PS_TRY(stacked_output(node, k, result, 0, PS_DIM_UNKNOWN, err));
    }
    return PS_OK;
}

/* ---- Scan ---- */
static const ps_attr_def scan_attrs[] = { PS_A_GRAPH_REQ(ps_scan_params, body),
                                          PS_A_INT_REQ(ps_scan_params, num_scan_inputs),
                                          PS_A_INTS(ps_scan_params, scan_input_axes),
                                          PS_A_INTS(ps_scan_params, scan_input_directions),
                                          PS_A_INTS(ps_scan_params, scan_output_axes),
                                          PS_A_INTS(ps_scan_params, scan_output_directions),
                                          PS_ATTRS_END };

/* One scan input: its slice is what the body gets; its extent is the number of iterations. */
static ps_status scan_input(const ps_node *node, const ps_graph *body, size_t i, int64_t axis, int64_t *count,
                            ps_error *err) {
    const ps_value *v = node->in[i];
    int at;
    if (!v || v->shape.rank < 0) {
        body_input(body, i, v ? v->dtype : PS_DTYPE_UNDEFINED, PS_DTYPE_UNDEFINED, NULL);
        return PS_OK;
    }
    PS_TRY(ps_axis_check(node, axis, v->shape.rank, &at, err));
    int64_t extent = v->shape.dims[at];
    PS_FAIL_IF(extent >= 0 && *count >= 0 && extent != *count, err, SHAPE,
               "%s: input %zu has %lld slices, the ones before %lld", PS_LABEL(node), i, (long long)extent,
               (long long)*count);
    if (*count < 0) *count = extent;
    ps_shape slice = { v->shape.rank - 1, { 0 } };
    for (int d = 0, to = 0; d < v->shape.rank; d++)
        if (d != at) slice.dims[to++] = v->shape.dims[d];
    body_input(body, i, v->dtype, PS_DTYPE_UNDEFINED, &slice);
    return PS_OK;
}

static ps_status scan_lists(const ps_node *node, size_t scans, size_t outs, ps_error *err) {
    const ps_scan_params *p = node->params;
    bool fits = (!p->scan_input_axes.n || p->scan_input_axes.n == scans) &&
                (!p->scan_input_directions.n || p->scan_input_directions.n == scans) &&
                (!p->scan_output_axes.n || p->scan_output_axes.n == outs) &&
                (!p->scan_output_directions.n || p->scan_output_directions.n == outs);
    PS_FAIL_IF(!fits, err, FORMAT, "%s: axes and directions do not fit %zu scan inputs and %zu scan outputs",
               PS_LABEL(node), scans, outs);
    return PS_OK;
}

static ps_status scan_infer(const ps_node *node, ps_error *err) {
    const ps_scan_params *p = node->params;
    ps_graph *body = p->body;
    PS_TRY(check_arity(node, body, "body", node->n_in, node->n_out, err));
    PS_FAIL_IF(p->num_scan_inputs < 1 || p->num_scan_inputs > node->n_in, err, FORMAT,
               "%s: num_scan_inputs is %lld of %u inputs", PS_LABEL(node), (long long)p->num_scan_inputs, node->n_in);
    size_t scans = (size_t)p->num_scan_inputs, states = node->n_in - scans;
    PS_FAIL_IF(states > node->n_out, err, FORMAT, "%s: %zu states and only %u outputs", PS_LABEL(node), states,
               node->n_out);
    PS_TRY(scan_lists(node, scans, node->n_out - states, err));
    int64_t count = PS_DIM_UNKNOWN;
    for (size_t k = 0; k < states; k++) {
        PS_FAIL_IF(!node->in[k], err, FORMAT, "%s: state %zu has no initial value", PS_LABEL(node), k);
        body_input(body, k, node->in[k]->dtype, node->in[k]->elem, NULL);
    }
    for (size_t k = 0; k < scans; k++)
        PS_TRY(scan_input(node, body, states + k, p->scan_input_axes.n ? p->scan_input_axes.data[k] : 0, &count, err));
    PS_TRY(ps_ops_infer_graph(body, err));
    for (size_t k = 0; k < node->n_out; k++) {
        const ps_value *result = body->outputs[k];
        if (k < states)
            PS_TRY(carried_output(node, k, node->in[k], result, err));
        else
            PS_TRY(stacked_output(node, k, result, p->scan_output_axes.n ? p->scan_output_axes.data[k - states] : 0,
                                  count, err));
    }
    return PS_OK;
}

/* ---- SequenceMap ---- */
static const ps_attr_def sequence_map_attrs[] = { PS_A_GRAPH_REQ(ps_loop_params, body), PS_ATTRS_END };

/* The body sees one element of each sequence; what is no sequence it sees whole, every time. */
static ps_status sequence_map_infer(const ps_node *node, ps_error *err) {
    ps_graph *body = ((const ps_loop_params *)node->params)->body;
    PS_TRY(check_arity(node, body, "body", node->n_in, node->n_out, err));
    ps_dtype first = node->in[0]->dtype;
    PS_FAIL_IF(first != PS_DTYPE_UNDEFINED && first != PS_DTYPE_SEQUENCE, err, TYPE,
               "%s: the first input is %s, not a sequence", PS_LABEL(node), ps_dtype_name(first));
    for (size_t k = 0; k < node->n_in; k++) {
        const ps_value *v = node->in[k];
        PS_FAIL_IF(!v, err, FORMAT, "%s: input %zu is missing", PS_LABEL(node), k);
        if (v->dtype == PS_DTYPE_SEQUENCE)
            body_input(body, k, v->elem, PS_DTYPE_UNDEFINED, NULL);
        else
            body_input(body, k, v->dtype, v->elem, &v->shape);
    }
    PS_TRY(ps_ops_infer_graph(body, err));
    for (size_t k = 0; k < node->n_out; k++)
        ps_infer_container(node, k, PS_DTYPE_SEQUENCE, body->outputs[k]->dtype,
                           node->in[0]->shape.rank == 1 ? node->in[0]->shape.dims[0] : -1);
    return PS_OK;
}

/* Version 8: a batch dim in front of everything, lengths in the first input, scans along dim 1. */
static const ps_attr_def scan8_attrs[] = { PS_A_GRAPH_REQ(ps_scan_params, body),
                                           PS_A_INT_REQ(ps_scan_params, num_scan_inputs),
                                           { "directions", PS_ATTR_INTS,
                                             offsetof(ps_scan_params, scan_input_directions), 0, 0, NULL, 0 },
                                           PS_ATTRS_END };

static ps_shape without_front(const ps_value *v, int dims) {
    ps_shape s = ps_shape_unknown();
    if (!v || v->shape.rank < dims) return s;
    s.rank = v->shape.rank - dims;
    for (int d = 0; d < s.rank; d++)
        s.dims[d] = v->shape.dims[d + dims];
    return s;
}

static ps_status scan8_infer(const ps_node *node, ps_error *err) {
    const ps_scan_params *p = node->params;
    PS_FAIL_IF(p->num_scan_inputs < 1 || p->num_scan_inputs >= node->n_in, err, FORMAT,
               "%s: num_scan_inputs is %lld of %u inputs", PS_LABEL(node), (long long)p->num_scan_inputs, node->n_in);
    size_t scans = (size_t)p->num_scan_inputs, states = node->n_in - 1 - scans;
    PS_TRY(check_arity(node, p->body, "body", node->n_in - 1, node->n_out, err));
    PS_FAIL_IF(states > node->n_out, err, FORMAT, "%s: %zu states and only %u outputs", PS_LABEL(node), states,
               node->n_out);
    PS_FAIL_IF(p->scan_input_directions.n && p->scan_input_directions.n != scans, err, FORMAT,
               "%s: %zu directions for %zu scan inputs", PS_LABEL(node), p->scan_input_directions.n, scans);
    for (size_t k = 0; k < states + scans; k++) {
        const ps_value *v = node->in[1 + k];
        PS_FAIL_IF(!v, err, FORMAT, "%s: input %zu is missing", PS_LABEL(node), 1 + k);
        ps_shape item = without_front(v, k < states ? 1 : 2);
        body_input(p->body, k, v->dtype, PS_DTYPE_UNDEFINED, k < states ? NULL : &item);
    }
    PS_TRY(ps_ops_infer_graph(p->body, err));
    for (size_t k = 0; k < node->n_out; k++) {
        ps_shape unknown = ps_shape_unknown();
        ps_infer_set(node, k, p->body->outputs[k]->dtype, &unknown);
    }
    return PS_OK;
}

static const ps_op ops[] = {
    { "If", "", 1, 1, 1, 1, PS_VARIADIC, if_attrs, sizeof(ps_if_params), if_infer, NULL, PS_OP_CONTROL },
    { "Loop", "", 1, 0, PS_VARIADIC, 1, PS_VARIADIC, loop_attrs, sizeof(ps_loop_params), loop_infer, NULL,
      PS_OP_CONTROL },
    { "Scan", "", 8, 0, PS_VARIADIC, 1, PS_VARIADIC, scan8_attrs, sizeof(ps_scan_params), scan8_infer, NULL,
      PS_OP_CONTROL },
    { "Scan", "", 9, 1, PS_VARIADIC, 1, PS_VARIADIC, scan_attrs, sizeof(ps_scan_params), scan_infer, NULL,
      PS_OP_CONTROL },
    { "SequenceMap", "", 17, 1, PS_VARIADIC, 1, PS_VARIADIC, sequence_map_attrs, sizeof(ps_loop_params),
      sequence_map_infer, NULL, PS_OP_CONTROL },
};

const ps_op_family ps_ops_control = PS_OP_FAMILY("control", ops);
