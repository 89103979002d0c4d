/* slice.c - a batch that runs in slices, because its values would not fit into the cache together.
 *
 * The first layers of a network for photos make megabytes an image and read few weights: at batch 8 every value goes
 * out to memory and comes back, at batch 1 it is still in the cache when the next layer wants it. So a plan for a
 * smaller batch runs several times, each time over the next rows of inputs and outputs, where two things hold:
 *
 *   it pays          by the bytes that move: weights once a slice against values that do not fit
 *   it is the same   every operator computes a row of its output from the same row of its inputs, and the graph for
 *                    the slice is the graph for the whole batch, node by node, with constants of the same content:
 *                    what a model computes from the size of its batch would show there. */
#include "ops/params.h"
#include "runtime/runtime_int.h"

#define CACHE_BYTES (8.0 * (1 << 20)) /* of values that stay near a core: about its share of the last cache */
#define GAIN 1.5                      /* by which traffic must shrink; less is lost again in smaller steps */
#define BUSY 16.0 /* multiply-accumulates a byte of values, from which on arithmetic hides the traffic */

/* ---- does it pay ---- */

static double value_bytes(const ps_value *v) {
    int64_t n;
    size_t bytes;
    return ps_shape_elements(&v->shape, &n) && ps_dtype_bytes(v->dtype, n, &bytes) ? (double)bytes : 0;
}

typedef struct traffic {
    double weights, values; /* bytes read or written by all steps */
    double alive;           /* most that one step reads and writes: about what must stay in the cache */
    double macs;
} traffic;

static traffic count_traffic(const ps_graph *g) {
    traffic t = { 0, 0, 0, 0 };
    for (const ps_node *n = g->first; n; n = n->next) {
        double here = 0;
        if (n->op->traits & PS_OP_VIEW) continue;
        for (uint32_t i = 0; i < n->n_in; i++) {
            if (n->in[i] && n->in[i]->constant) t.weights += value_bytes(n->in[i]);
            if (n->in[i] && !n->in[i]->constant) here += value_bytes(n->in[i]);
        }
        for (uint32_t i = 0; i < n->n_out; i++)
            here += n->out[i] && !n->out[i]->constant ? value_bytes(n->out[i]) : 0;
        t.values += here;
        t.macs += (double)ps_node_macs(n);
        if (here > t.alive) t.alive = here;
    }
    return t;
}

/* Bytes through memory for the whole batch, in slices of `part` rows. */
static double cost(const traffic *t, int64_t batch, int64_t part) {
    double share = (double)part / (double)batch;
    return t->weights / share + (t->alive * share <= CACHE_BYTES ? 0 : t->values);
}

/* ---- is it the same ---- */

/* Operators, not pointwise and no view, whose output row depends on the same row of inputs that are not constant.
 * Where an axis could be the first one, shapes tell: it would not keep the batch in both graphs. */
static bool keeps_rows(const ps_node *n) {
    static const char *const names[] = {
        "Conv",
        "ConvTranspose",
        "MaxPool",
        "AveragePool",
        "LpPool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "BatchNormalization",
        "LRN",
        "DepthToSpace",
        "SpaceToDepth",
        "InstanceNormalization",
        "Gemm",
        "MatMul",
        "Concat",
        "Transpose",
        "ReduceMean",
        "ReduceMax",
        "ReduceSum",
        "ReduceMin",
        "QLinearConv",
        "QLinearMatMul",
        "QLinearAdd",
        "QLinearGlobalAveragePool",
        "QuantizeLinear",
        "DequantizeLinear",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(n->op_type, names[i]) == 0) return true;
    }
    if (strcmp(n->op_type, "Softmax") != 0 && strcmp(n->op_type, "LogSoftmax") != 0) return false;
    int64_t axis = ((const ps_axis_params *)n->params)->axis; /* shapes do not tell this one */
    return axis > 0 || (axis < 0 && axis + n->in[0]->shape.rank > 0);
}

static bool has_batch(const ps_value *v, int64_t batch) {
    return !v->constant && v->shape.rank > 0 && v->shape.dims[0] == batch;
}

/* Values computed from inputs all have the batch in front, and products only weights on their other side. */
static bool node_keeps_rows(const ps_node *n, int64_t batch) {
    bool product = strcmp(n->op_type, "Gemm") == 0 || strcmp(n->op_type, "MatMul") == 0;
    for (uint32_t i = 1; i < n->n_out; i++)
        if (n->out[i]) return false;
    if (n->n_out < 1 || !n->out[0] || !has_batch(n->out[0], batch)) return false;
    if (n->op->traits & (PS_OP_RANDOM | PS_OP_CONTROL)) return false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        const ps_value *v = n->in[i];
        if (!v || v->constant) continue;
        if (!has_batch(v, batch) || (product && i == 1)) return false;
        if ((n->op->traits & PS_OP_POINTWISE || i > 0) && v->shape.rank != n->out[0]->shape.rank) return false;
    }
    return (n->op->traits & (PS_OP_POINTWISE | PS_OP_VIEW)) || keeps_rows(n);
}

static bool same_constant(const ps_tensor *a, const ps_tensor *b) {
    if (a == b) return true;
    return a->dtype == b->dtype && ps_shape_equal(&a->shape, &b->shape) && a->data && b->data && !a->strides &&
           !b->strides && !ps_dtype_is_object(a->dtype) && memcmp(a->data, b->data, a->bytes) == 0;
}

/* The same dims but for the batch. */
static bool same_rows(const ps_value *whole, const ps_value *part, int64_t batch, int64_t rows) {
    if (whole->dtype != part->dtype || whole->shape.rank != part->shape.rank) return false;
    if (!has_batch(whole, batch) || !has_batch(part, rows)) return false;
    for (int d = 1; d < whole->shape.rank; d++) {
        if (whole->shape.dims[d] != part->shape.dims[d]) return false;
    }
    return true;
}

typedef struct twins {
    const ps_value **of; /* by id of a value of the whole graph: the value of the part that is its slice */
    int64_t batch, rows;
} twins;

static bool same_input(const twins *t, const ps_node *a, const ps_node *b, uint32_t i) {
    const ps_value *v = a->in[i], *w = b->in[i];
    if (!v || !w) return v == w;
    if (!v->constant) return t->of[v->id] == w;
    /* A shape holds the batch itself; that the rows are those of the input is checked by the shapes it leads to. */
    if ((a->op->traits & PS_OP_VIEW) && i > 0) return w->constant;
    return w->constant && same_constant(v->constant, w->constant);
}

static bool same_node(const twins *t, const ps_node *a, const ps_node *b) {
    if (a->op != b->op || a->n_in != b->n_in || a->n_out != b->n_out || a->n_attrs != b->n_attrs) return false;
    for (uint32_t i = 0; i < a->n_attrs; i++) {
        if (!ps_attr_equal(&a->attrs[i], &b->attrs[i])) return false;
    }
    for (uint32_t i = 0; i < a->n_in; i++) {
        if (!same_input(t, a, b, i)) return false;
    }
    return b->out[0] && same_rows(a->out[0], b->out[0], t->batch, t->rows);
}

static const ps_node *skip_constant(const ps_node *n) {
    while (n && ps_node_is_folded(n))
        n = n->next;
    return n;
}

static bool same_graph(twins *t, const ps_graph *whole, const ps_graph *part) {
    if (whole->n_inputs != part->n_inputs || whole->n_outputs != part->n_outputs) return false;
    for (size_t i = 0; i < whole->n_inputs; i++) {
        if (!same_rows(whole->inputs[i], part->inputs[i], t->batch, t->rows)) return false;
        t->of[whole->inputs[i]->id] = part->inputs[i];
    }
    const ps_node *a = skip_constant(whole->first), *b = skip_constant(part->first);
    for (; a && b; a = skip_constant(a->next), b = skip_constant(b->next)) {
        if (!same_node(t, a, b)) return false;
        t->of[a->out[0]->id] = b->out[0];
    }
    for (size_t i = 0; i < whole->n_outputs; i++) {
        if (whole->outputs[i]->constant || t->of[whole->outputs[i]->id] != part->outputs[i]) return false;
    }
    return !a && !b;
}

bool ps_slice_is_same(const ps_graph *whole, const ps_graph *part, int64_t batch, int64_t rows) {
    twins t = { ps_alloc_zero(whole->alloc, ((size_t)whole->n_ids + 1) * sizeof *t.of), batch, rows };
    bool same = t.of && same_graph(&t, whole, part);
    ps_free(whole->alloc, t.of);
    return same;
}

/* ---- which slice ---- */

/* The batch of a graph that keeps rows; 0: it is none, or has just one row. */
static int64_t batch_of(const ps_graph *g) {
    if (!g->n_inputs || !g->n_outputs || g->inputs[0]->shape.rank < 1) return 0;
    int64_t batch = g->inputs[0]->shape.dims[0];
    if (batch < 2) return 0;
    for (size_t i = 0; i < g->n_inputs; i++) {
        if (!has_batch(g->inputs[i], batch)) return 0;
    }
    for (const ps_node *n = g->first; n; n = n->next) {
        if (!ps_node_is_folded(n) && !node_keeps_rows(n, batch)) return 0;
    }
    return batch;
}

int64_t ps_slice_rows(const ps_graph *g, int threads, int64_t *ret_batch) {
    int64_t batch = batch_of(g), best = 0;
    if (!batch) return 0;
    traffic t = count_traffic(g);
    if (t.macs > BUSY * t.values) return 0;
    double least = cost(&t, batch, batch) / GAIN;
    for (int64_t rows = batch / 2; rows >= 1 && rows * 2 >= threads; rows--) {
        if (batch % rows || cost(&t, batch, rows) >= least) continue;
        least = cost(&t, batch, rows);
        best = rows;
    }
    *ret_batch = batch;
    return best;
}
