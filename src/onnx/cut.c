/* The walk over a message's structure. It follows protobuf-c's own descriptors, so it knows every nested message of the
 * schema that the build uses, and it runs before protobuf-c: what protobuf-c unpacks afterwards is known to nest no
 * deeper than PS_ONNX_MAX_MESSAGE_DEPTH (protobuf-c recurses without a limit), to hold at most PS_ONNX_MAX_FIELDS
 * fields, and never to repeat a singular message (its merging code stays unused). */
#include <assert.h>
#include <string.h>

#include "base/wire.h"
#include "onnx/onnx_int.h"

enum {
    TENSOR_RAW_DATA = 9,
    CUT_MAX_FIELDS = 32,  /* fields of one message type in the schema */
    CUT_LENGTH_BYTES = 5, /* lengths are written in this fixed width, then filled in */
    CUT_TOKEN_ROOM = 2 + 10,
};

typedef struct path_step {
    const char *field;
    size_t index;
    bool repeated;
} path_step;

typedef struct cutter {
    ps_alloc_state *alloc;
    const ProtobufCMessageDescriptor *kind;
    const uint8_t *base;
    PS_VEC(uint8_t) out;
    PS_VEC(ps_onnx_span) spans;
    size_t fields;
    int depth;
    path_step path[PS_ONNX_MAX_MESSAGE_DEPTH];
} cutter;

/* "ModelProto.graph.node[12].attribute[0]": where the walk stands; deep paths lose their middle. */
static void path_text(const cutter *c, char *buf, size_t size) {
    enum { SHOWN = 7 };
    int from = c->depth > SHOWN ? c->depth - SHOWN : 0;
    ps_snprintf(buf, size, "%s%s", c->kind->short_name, from ? "..." : "");
    for (int i = from; i < c->depth; i++) {
        size_t at = strlen(buf);
        const path_step *s = &c->path[i];
        if (s->repeated) {
            ps_snprintf(buf + at, size - at, ".%s[%zu]", s->field, s->index);
        } else {
            ps_snprintf(buf + at, size - at, ".%s", s->field);
        }
    }
}

static ps_status fail_at(const cutter *c, ps_status status, ps_error *err) {
    char path[200];
    path_text(c, path, sizeof path);
    ps_error_prefix(err, "%s", path);
    return status;
}

static ps_status append(cutter *c, const void *data, size_t size, ps_error *err) {
    PS_FAIL_IF(c->out.size + size > PS_ONNX_MAX_STRUCTURE, err, LIMIT,
               "the model without its weights is larger than %zu bytes", PS_ONNX_MAX_STRUCTURE);
    if (!ps_vec_reserve(c->alloc, &c->out, size)) return PS_FAIL_NOMEM(err, "the model's structure");
    if (size) memcpy(c->out.data + c->out.size, data, size);
    c->out.size += size;
    return PS_OK;
}

/* Fields of TensorProto that hold elements, apart from string_data. */
static bool is_payload(uint32_t number) {
    return number == 4 || number == 5 || number == 7 || (number >= 9 && number <= 11);
}

static ps_status cut_message(cutter *c, const ProtobufCMessageDescriptor *kind, const uint8_t *data, size_t size,
                             ps_error *err);

static ps_status cut_child(cutter *c, const ProtobufCFieldDescriptor *field, const ps_wire_field *f, uint32_t seen,
                           ps_error *err) {
    bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    PS_FAIL_IF(f->type != PS_WIRE_LEN, err, FORMAT, "field '%s' is no message", field->name);
    PS_FAIL_IF(!repeated && seen, err, FORMAT, "field '%s' appears twice", field->name);
    PS_FAIL_IF(c->depth + 1 >= PS_ONNX_MAX_MESSAGE_DEPTH, err, LIMIT, "messages nest deeper than %d levels",
               PS_ONNX_MAX_MESSAGE_DEPTH);

    uint8_t head[16];
    uint8_t *end = ps_wire_put_tag(head, f->number, PS_WIRE_LEN);
    PS_TRY(append(c, head, (size_t)(end - head), err));
    size_t length_at = c->out.size;
    memset(head, 0, CUT_LENGTH_BYTES);
    PS_TRY(append(c, head, CUT_LENGTH_BYTES, err));

    c->path[c->depth++] = (path_step) { field->name, seen, repeated };
    PS_TRY(cut_message(c, field->descriptor, f->data, f->size, err));
    c->depth--;

    size_t length = c->out.size - length_at - CUT_LENGTH_BYTES;
    for (int i = 0; i < CUT_LENGTH_BYTES; i++, length >>= 7) {
        c->out.data[length_at + (size_t)i] = (uint8_t)((length & 0x7f) | (i + 1 < CUT_LENGTH_BYTES ? 0x80 : 0));
    }
    return PS_OK;
}

/* Leaves a note in raw_data where the tensor's payload is to be found. */
static ps_status put_token(cutter *c, const uint8_t *data, size_t size, ps_error *err) {
    uint8_t token[CUT_TOKEN_ROOM], varint[10];
    size_t n = (size_t)(ps_wire_put_varint(varint, c->spans.size) - varint);
    uint8_t *end = ps_wire_put_len(token, TENSOR_RAW_DATA, varint, n);
    ps_onnx_span span = { (size_t)(data - c->base), size };
    if (!ps_vec_push(c->alloc, &c->spans, span)) return PS_FAIL_NOMEM(err, "the list of tensors");
    return append(c, token, (size_t)(end - token), err);
}

static ps_status cut_field(cutter *c, const ProtobufCMessageDescriptor *kind, const ps_wire *w, const ps_wire_field *f,
                           uint32_t *seen, ps_error *err) {
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(kind, f->number);
    if (!field || field->type != PROTOBUF_C_TYPE_MESSAGE) {
        return append(c, f->start, (size_t)(w->at - f->start), err);
    }
    size_t index = (size_t)(field - kind->fields);
    return cut_child(c, field, f, seen[index]++, err);
}

/* On failure c->depth is left where the walk stopped, for the path in the message. */
static ps_status cut_message(cutter *c, const ProtobufCMessageDescriptor *kind, const uint8_t *data, size_t size,
                             ps_error *err) {
    assert(kind->n_fields <= CUT_MAX_FIELDS);
    bool is_tensor = kind == &onnx__tensor_proto__descriptor, payload = false, more;
    uint32_t seen[CUT_MAX_FIELDS] = { 0 };
    ps_wire_field f = { 0 };
    ps_wire w;
    ps_wire_init(&w, data, size);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, err));
        if (!more) break;
        if (is_tensor && is_payload(f.number)) {
            payload = true;
            continue;
        }
        PS_FAIL_IF(++c->fields > PS_ONNX_MAX_FIELDS, err, LIMIT,
                   "the model has more than %zu fields outside of weights", PS_ONNX_MAX_FIELDS);
        PS_TRY(cut_field(c, kind, &w, &f, seen, err));
    }
    return payload ? put_token(c, data, size, err) : PS_OK;
}

ps_status ps_onnx_cut_message(ps_alloc_state *alloc, const ProtobufCMessageDescriptor *kind, const void *data,
                              size_t size, ps_onnx_cut *ret, ps_error *err) {
    memset(ret, 0, sizeof *ret);
    PS_FAIL_IF(size > PS_ONNX_MAX_FILE, err, LIMIT,
               "%zu bytes are more than a protobuf's 2 GiB - 1: such a model keeps its weights in external data", size);
    cutter c = { .alloc = alloc, .kind = kind, .base = data };
    ps_status status = cut_message(&c, kind, data, size, err);
    if (status != PS_OK) {
        if (status != PS_NO_MEMORY) fail_at(&c, status, err);
        ps_vec_release(alloc, &c.out);
        ps_vec_release(alloc, &c.spans);
        return status;
    }
    *ret = (ps_onnx_cut) { c.out.data, c.out.size, c.spans.data, c.spans.size };
    return PS_OK;
}

void ps_onnx_cut_release(ps_alloc_state *alloc, ps_onnx_cut *cut) {
    ps_free(alloc, cut->data);
    ps_free(alloc, cut->spans);
    memset(cut, 0, sizeof *cut);
}
