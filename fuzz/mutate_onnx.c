/* mutate_onnx.c - how libFuzzer changes models: as messages, so that most of what it tries gets past the parser. Bytes
 * that are no message, and one try in eight, are changed as bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "onnx.pb-c.h"
#include "ops/ops.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

static uint32_t state;

/* A xorshift generator (Marsaglia 2003). */
static uint32_t draw(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return below ? state % below : 0;
}

static int64_t odd_int(void) {
    static const int64_t known[] = { 0, 1,  -1,  2,     3,         -2,        4,         7,
                                     8, 64, 255, 65536, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN };
    return known[draw(sizeof known / sizeof *known)];
}

static void set_text(char **at, const char *text) {
    char *copy = strdup(text);
    if (!copy) return;
    free(*at);
    *at = copy;
}

static const ps_op *draw_row(void) {
    size_t n;
    const ps_op_family *const *families = ps_ops_families(&n);
    const ps_op_family *f = families[draw((uint32_t)n)];
    return &f->ops[draw((uint32_t)f->n)];
}

/* ---- parts ---- */

static void change_tensor(Onnx__TensorProto *t) {
    switch (draw(4)) {
    case 0:
        if (t->n_dims) t->dims[draw((uint32_t)t->n_dims)] = odd_int();
        break;
    case 1: t->data_type = 1 + (int32_t)draw(26); break;
    case 2:
        if (t->has_raw_data && t->raw_data.len) LLVMFuzzerMutate(t->raw_data.data, t->raw_data.len, t->raw_data.len);
        break;
    default:
        if (t->n_int64_data) t->int64_data[draw((uint32_t)t->n_int64_data)] = odd_int();
        if (t->n_dims > 1 && draw(2)) t->n_dims--;
    }
}

static void change_graph(Onnx__GraphProto *g);

static void change_attribute(Onnx__AttributeProto *a) {
    a->i = a->has_i ? odd_int() : a->i;
    if (a->has_f) a->f = (float)odd_int() / 4;
    if (a->n_ints) a->ints[draw((uint32_t)a->n_ints)] = odd_int();
    if (a->n_ints && draw(4) == 0) a->n_ints--;
    if (a->n_floats) a->floats[draw((uint32_t)a->n_floats)] = (float)odd_int() / 4;
    if (a->t) change_tensor(a->t);
    if (a->g) change_graph(a->g);
}

/* An integer attribute that the operator knows. */
static void add_attribute(Onnx__NodeProto *n) {
    const ps_op *op = n->op_type ? ps_ops_find(n->op_type, n->domain ? n->domain : "", 28) : NULL;
    size_t count = 0;
    for (const ps_attr_def *d = op ? op->attrs : NULL; d && d->name; d++)
        count++;
    if (!count) return;
    const ps_attr_def *d = &op->attrs[draw((uint32_t)count)];
    Onnx__AttributeProto *a = malloc(sizeof *a), **bigger;
    if (!a || d->type != PS_ATTR_INT) {
        free(a);
        return;
    }
    bigger = realloc(n->attribute, (n->n_attribute + 1) * sizeof(void *));
    if (!bigger) {
        free(a);
        return;
    }
    onnx__attribute_proto__init(a);
    set_text(&a->name, d->name);
    a->has_type = a->has_i = 1;
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    a->i = odd_int();
    n->attribute = bigger;
    n->attribute[n->n_attribute++] = a;
}

static const char *draw_name(const Onnx__GraphProto *g) {
    const Onnx__NodeProto *n;
    switch (draw(3)) {
    case 0:
        if (g->n_input) return g->input[draw((uint32_t)g->n_input)]->name;
        break;
    case 1:
        if (g->n_initializer) return g->initializer[draw((uint32_t)g->n_initializer)]->name;
        break;
    default: break;
    }
    n = g->n_node ? g->node[draw((uint32_t)g->n_node)] : NULL;
    return n && n->n_output ? n->output[draw((uint32_t)n->n_output)] : "";
}

static void change_node(const Onnx__GraphProto *g, Onnx__NodeProto *n) {
    const char *name;
    switch (draw(6)) {
    case 0: set_text(&n->op_type, draw_row()->name); break;
    case 1:
    case 2:
        name = draw_name(g);
        if (n->n_input && name) set_text(&n->input[draw((uint32_t)n->n_input)], draw(8) ? name : "");
        break;
    case 3: add_attribute(n); break;
    case 4:
        if (n->n_attribute) change_attribute(n->attribute[draw((uint32_t)n->n_attribute)]);
        break;
    default:
        if (n->n_input > 1 && draw(2)) free(n->input[--n->n_input]);
    }
}

static void change_input(Onnx__ValueInfoProto *v) {
    if (!v->type || v->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) return;
    Onnx__TypeProto__Tensor *t = v->type->tensor_type;
    if (draw(3) == 0) t->elem_type = 1 + (int32_t)draw(26);
    if (!t->shape || !t->shape->n_dim) return;
    Onnx__TensorShapeProto__Dimension *d = t->shape->dim[draw((uint32_t)t->shape->n_dim)];
    if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE)
        d->dim_value = draw(8) ? (int64_t)draw(6) : odd_int();
}

static void change_graph(Onnx__GraphProto *g) {
    switch (draw(6)) {
    case 0:
        if (g->n_initializer) change_tensor(g->initializer[draw((uint32_t)g->n_initializer)]);
        break;
    case 1:
        if (g->n_input) change_input(g->input[draw((uint32_t)g->n_input)]);
        break;
    case 2:
        if (g->n_node > 1) {
            Onnx__NodeProto **a = &g->node[draw((uint32_t)g->n_node)], **b = &g->node[draw((uint32_t)g->n_node)],
                            *t = *a;
            *a = *b;
            *b = t;
        }
        break;
    case 3:
        if (g->n_output) {
            const char *name = draw_name(g);
            if (name) set_text(&g->output[draw((uint32_t)g->n_output)]->name, name);
        }
        break;
    default:
        if (g->n_node) change_node(g, g->node[draw((uint32_t)g->n_node)]);
    }
}

static void change_model(Onnx__ModelProto *m) {
    uint32_t how = draw(12);
    if (how == 0 && m->n_opset_import)
        m->opset_import[draw((uint32_t)m->n_opset_import)]->version = 1 + draw(28);
    else if (how == 1 && m->n_functions && m->functions[0]->n_node)
        change_node(m->graph, m->functions[0]->node[draw((uint32_t)m->functions[0]->n_node)]);
    else
        change_graph(m->graph);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
    state = seed | 1;
    Onnx__ModelProto *m = draw(8) ? onnx__model_proto__unpack(NULL, size, data) : NULL;
    size_t packed = 0;
    if (m && m->graph) {
        for (uint32_t i = 1 + draw(3); i > 0; i--)
            change_model(m);
        packed = onnx__model_proto__get_packed_size(m);
        if (packed <= max)
            onnx__model_proto__pack(m, data);
        else
            packed = 0;
    }
    if (m) onnx__model_proto__free_unpacked(m, NULL);
    return packed ? packed : LLVMFuzzerMutate(data, size, max);
}
