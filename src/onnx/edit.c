/* edit.c - see edit.h; paste.c writes. */
#include <string.h>

#include "base/wire.h"
#include "onnx/edit_int.h"

/* ---- all graphs of a model ---- */

typedef struct walk {
    ps_onnx_edit *edit;
    ps_error *err;
} walk;

static ps_status visit_graph(walk *w, Onnx__GraphProto *g);

static ps_status visit_nodes(walk *w, Onnx__NodeProto **nodes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < nodes[i]->n_attribute; k++) {
            Onnx__AttributeProto *a = nodes[i]->attribute[k];
            if (a->g) PS_TRY(visit_graph(w, a->g));
            for (size_t j = 0; j < a->n_graphs; j++)
                PS_TRY(visit_graph(w, a->graphs[j]));
        }
    }
    return PS_OK;
}

/* Recursion: bounded by the depth of messages that cut.c allows. */
static ps_status visit_graph(walk *w, Onnx__GraphProto *g) {
    for (size_t i = 0; i < g->n_initializer; i++) {
        if (!ps_vec_push(w->edit->alloc, &w->edit->tensors, g->initializer[i]))
            return PS_FAIL_NOMEM(w->err, "the list of weights");
    }
    return visit_nodes(w, g->node, g->n_node);
}

/* ---- payloads ---- */

static ps_status add_payload(ps_onnx_edit *e, ps_onnx_payload p, size_t *ret_index, ps_error *err) {
    *ret_index = e->payloads.size;
    if (!ps_vec_push(e->alloc, &e->payloads, p)) return PS_FAIL_NOMEM(err, "the list of weights");
    return PS_OK;
}

/* Puts the number of a payload where the elements were; every other field of elements is emptied. */
static ps_status set_token(ps_onnx_edit *e, Onnx__TensorProto *t, size_t index, ps_error *err) {
    uint8_t varint[10];
    size_t n = (size_t)(ps_wire_put_varint(varint, index) - varint);
    uint8_t *data = ps_alloc(e->alloc, n);
    if (!data) return PS_FAIL_NOMEM(err, "a tensor");
    memcpy(data, varint, n);
    if (t->has_raw_data) ps_free(e->alloc, t->raw_data.data);
    t->has_raw_data = 1;
    t->raw_data.data = data;
    t->raw_data.len = n;
    return PS_OK;
}

static void drop_external(ps_onnx_edit *e, Onnx__TensorProto *t) {
    ProtobufCAllocator allocator;
    ps_onnx_proto_allocator(e->alloc, &allocator);
    for (size_t i = 0; i < t->n_external_data; i++)
        protobuf_c_message_free_unpacked(&t->external_data[i]->base, &allocator);
    ps_free(e->alloc, t->external_data);
    t->external_data = NULL;
    t->n_external_data = 0;
    t->has_data_location = 0;
    t->data_location = 0;
}

static ps_status take_external(ps_onnx_edit *e, Onnx__TensorProto *t, ps_error *err) {
    char label[PS_ONNX_LABEL];
    ps_dtype dtype;
    ps_shape shape;
    size_t bytes, offset, index;
    ps_tensor *file;
    if (!t->has_data_location || t->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) return PS_OK;
    ps_snprintf(label, sizeof label, "tensor '%.120s'", ps_onnx_text(t->name));
    PS_TRY(ps_onnx_tensor_header(t, label, &dtype, &shape, &bytes, err));
    PS_TRY(ps_onnx_external_find(&e->external, t, label, bytes, &file, &offset, err));
    PS_TRY(
        add_payload(e, (ps_onnx_payload) { .raw = (const uint8_t *)file->data + offset, .bytes = bytes }, &index, err));
    PS_TRY(set_token(e, t, index, err));
    drop_external(e, t);
    return PS_OK;
}

static ps_status take_message(ps_onnx_edit *e, ProtobufCMessage *m, ps_error *err);

static ps_status take_field(ps_onnx_edit *e, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, ps_error *err) {
    char *at = (char *)m + f->offset;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n = *(const size_t *)(const void *)((const char *)m + f->quantifier_offset);
        ProtobufCMessage **children = *(ProtobufCMessage ***)(void *)at;
        for (size_t i = 0; i < n; i++)
            PS_TRY(take_message(e, children[i], err));
        return PS_OK;
    }
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        if (*(const uint32_t *)(const void *)((const char *)m + f->quantifier_offset) != f->id) return PS_OK;
    }
    ProtobufCMessage *child = *(ProtobufCMessage **)(void *)at;
    return child ? take_message(e, child, err) : PS_OK;
}

/* Every TensorProto below m: external data becomes a payload like others. */
static ps_status take_message(ps_onnx_edit *e, ProtobufCMessage *m, ps_error *err) {
    if (m->descriptor == &onnx__tensor_proto__descriptor) PS_TRY(take_external(e, (Onnx__TensorProto *)m, err));
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (f->type == PROTOBUF_C_TYPE_MESSAGE) PS_TRY(take_field(e, m, f, err));
    }
    return PS_OK;
}

/* ---- life ---- */

static ps_status fill(ps_onnx_edit *e, const char *path, ps_error *err) {
    ps_status status = ps_onnx_proto_open_file(e->alloc, &onnx__model_proto__descriptor, path, &e->proto, err);
    if (status == PS_FORMAT) ps_error_prefix(err, "this is no ONNX model, or a damaged one");
    PS_TRY(status);
    Onnx__ModelProto *m = (Onnx__ModelProto *)e->proto.message;
    PS_FAIL_IF(!m->graph, err, FORMAT, "the model has no graph");
    PS_TRY(ps_onnx_external_init(&e->external, e->alloc, path, err));
    for (size_t i = 0; i < e->proto.cut.n_spans; i++) {
        const ps_onnx_span *s = &e->proto.cut.spans[i];
        size_t index;
        PS_TRY(add_payload(e, (ps_onnx_payload) { .body = e->proto.data + s->offset, .bytes = s->size }, &index, err));
    }
    PS_TRY(take_message(e, e->proto.message, err));
    walk w = { e, err };
    return visit_graph(&w, m->graph);
}

ps_status ps_onnx_edit_open(ps_alloc_state *alloc, const char *path, ps_onnx_edit **ret, ps_error *err) {
    ps_onnx_edit *e = ps_alloc_zero(alloc, sizeof *e);
    if (!e) return PS_FAIL_NOMEM(err, "a model");
    e->alloc = alloc;
    ps_status status = fill(e, path, err);
    if (status != PS_OK) {
        ps_onnx_edit_close(e);
        return status;
    }
    *ret = e;
    return PS_OK;
}

void ps_onnx_edit_close(ps_onnx_edit *e) {
    if (!e) return;
    for (size_t i = 0; i < e->payloads.size; i++)
        ps_tensor_release(e->payloads.data[i].tensor);
    ps_vec_release(e->alloc, &e->payloads);
    ps_vec_release(e->alloc, &e->tensors);
    ps_onnx_external_release(&e->external);
    ps_onnx_proto_close(&e->proto);
    ps_free(e->alloc, e);
}

Onnx__ModelProto *ps_onnx_edit_message(ps_onnx_edit *e) {
    return (Onnx__ModelProto *)e->proto.message;
}

/* ---- initializers ---- */

size_t ps_onnx_edit_tensors(const ps_onnx_edit *e) {
    return e->tensors.size;
}

const ps_onnx_payload *ps_onnx_edit_payload(const ps_onnx_edit *e, const uint8_t *token, size_t size) {
    ps_wire w;
    uint64_t index;
    ps_wire_init(&w, token, size);
    return ps_wire_varint(&w, &index) && index < e->payloads.size ? &e->payloads.data[index] : NULL;
}

static ps_status read_raw(ps_onnx_edit *e, const Onnx__TensorProto *t, const ps_onnx_payload *p, const char *label,
                          ps_tensor **ret, ps_error *err) {
    ps_dtype dtype;
    ps_shape shape;
    size_t bytes;
    PS_TRY(ps_onnx_tensor_header(t, label, &dtype, &shape, &bytes, err));
    PS_FAIL_IF(bytes != p->bytes, err, FORMAT, "%s: its type or shape was changed, its %zu bytes were not", label,
               p->bytes);
    PS_TRY(ps_tensor_new(e->alloc, dtype, &shape, ret, err));
    if (bytes) memcpy((*ret)->data, p->raw, bytes);
    return PS_OK;
}

ps_status ps_onnx_edit_tensor(ps_onnx_edit *e, size_t index, const char **ret_name, ps_tensor **ret, ps_error *err) {
    char label[PS_ONNX_LABEL];
    PS_FAIL_IF(index >= e->tensors.size, err, NOT_FOUND, "the model has %zu initializers, %zu is asked for",
               e->tensors.size, index);
    const Onnx__TensorProto *t = e->tensors.data[index];
    ps_snprintf(label, sizeof label, "initializer '%.120s'", ps_onnx_text(t->name));
    const ps_onnx_payload *p = t->has_raw_data ? ps_onnx_edit_payload(e, t->raw_data.data, t->raw_data.len) : NULL;
    if (ret_name) *ret_name = ps_onnx_text(t->name);
    if (p && p->tensor)
        *ret = ps_tensor_retain(p->tensor);
    else if (p && p->raw)
        return read_raw(e, t, p, label, ret, err);
    else
        return ps_onnx_tensor_decode(&e->proto, NULL, t, label, ret, err);
    return PS_OK;
}

static ps_status set_dims(ps_onnx_edit *e, Onnx__TensorProto *t, const ps_shape *shape, ps_error *err) {
    int64_t *dims = NULL;
    if (shape->rank) {
        dims = ps_alloc_array(e->alloc, (size_t)shape->rank, sizeof *dims);
        if (!dims) return PS_FAIL_NOMEM(err, "a tensor");
        memcpy(dims, shape->dims, (size_t)shape->rank * sizeof *dims);
    }
    ps_free(e->alloc, t->dims);
    t->dims = dims;
    t->n_dims = (size_t)shape->rank;
    return PS_OK;
}

ps_status ps_onnx_edit_replace(ps_onnx_edit *e, size_t index, ps_tensor *tensor, ps_error *err) {
    PS_FAIL_IF(index >= e->tensors.size, err, NOT_FOUND, "the model has %zu initializers, %zu is asked for",
               e->tensors.size, index);
    Onnx__TensorProto *t = e->tensors.data[index];
    PS_FAIL_IF(!ps_dtype_bits(tensor->dtype) || tensor->dtype == PS_DTYPE_STRING || t->n_string_data, err, UNSUPPORTED,
               "initializer '%.120s': strings cannot be replaced", ps_onnx_text(t->name));
    size_t payload;
    PS_TRY(set_dims(e, t, &tensor->shape, err));
    PS_TRY(add_payload(e, (ps_onnx_payload) { .tensor = tensor, .bytes = tensor->bytes }, &payload, err));
    ps_tensor_retain(tensor);
    t->has_data_type = 1;
    t->data_type = (int32_t)tensor->dtype;
    return set_token(e, t, payload, err);
}
