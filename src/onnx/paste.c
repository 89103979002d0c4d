/* Writes an edited model: protobuf-c packs the structure, and the payloads go where cut.c took them out. Two walks over
 * the packed structure: one measures every message, one writes. */
#include <string.h>

#include "base/str.h"
#include "base/wire.h"
#include "onnx/edit_int.h"

enum { FIELD_RAW = 9, FIELD_EXTERNAL = 13, FIELD_LOCATION = 14, FILE_ALIGN = 4096, ENTRY_ROOM = 64 };

/* A tensor that goes into the file of external data. */
typedef struct outside {
    const uint8_t *data;
    size_t size;
    uint64_t offset;
} outside;

typedef struct paster {
    ps_onnx_edit *edit;
    const ps_onnx_write_options *options;
    const uint8_t *packed;
    size_t n_packed;
    PS_VEC(uint64_t) sizes; /* of nested messages, in the order of the walk */
    PS_VEC(outside) out;    /* in the order of the walk */
    size_t next_size, next_out;
    ps_onnx_sink sink;
    bool writing;
    ps_error *err;
} paster;

/* Measures or writes. *total grows by size. */
static ps_status put(paster *p, const void *data, size_t size, uint64_t *total) {
    *total += size;
    return p->writing ? ps_onnx_sink_put(&p->sink, data, size, p->err) : PS_OK;
}

static ps_status put_head(paster *p, uint32_t number, uint64_t size, uint64_t *total) {
    uint8_t head[20];
    uint8_t *end = ps_wire_put_varint(ps_wire_put_tag(head, number, PS_WIRE_LEN), size);
    return put(p, head, (size_t)(end - head), total);
}

/* ---- payloads ---- */

static bool is_payload(uint32_t number) {
    return number == 4 || number == 5 || number == 7 || (number >= 9 && number <= 11);
}

/* The fields of elements of a TensorProto in the source: their first number, and raw_data if it is the only one. */
static ps_status inspect_body(const ps_onnx_payload *load, uint32_t *ret_first, const uint8_t **ret_raw,
                              size_t *ret_bytes, ps_error *err) {
    ps_wire w;
    ps_wire_field f = { 0 };
    bool more;
    size_t count = 0;
    *ret_first = FIELD_RAW;
    *ret_raw = NULL;
    ps_wire_init(&w, load->body, load->bytes);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, err));
        if (!more) break;
        if (!is_payload(f.number)) continue;
        if (count++ == 0) *ret_first = f.number;
        if (f.number != FIELD_RAW || f.type != PS_WIRE_LEN) continue;
        *ret_raw = f.data;
        *ret_bytes = f.size;
    }
    if (count != 1) *ret_raw = NULL;
    return PS_OK;
}

static ps_status put_body(paster *p, const ps_onnx_payload *load, uint64_t *total) {
    ps_wire w;
    ps_wire_field f = { 0 };
    bool more;
    ps_wire_init(&w, load->body, load->bytes);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, p->err));
        if (!more) return PS_OK;
        if (is_payload(f.number)) PS_TRY(put(p, f.start, (size_t)(w.at - f.start), total));
    }
}

/* One entry of external_data: { key, value }. */
static ps_status put_entry(paster *p, const char *key, const char *value, uint64_t *total) {
    size_t n_key = strlen(key), n_value = strlen(value);
    PS_TRY(put_head(p, FIELD_EXTERNAL, ps_wire_len_size(1, n_key) + ps_wire_len_size(2, n_value), total));
    PS_TRY(put_head(p, 1, n_key, total));
    PS_TRY(put(p, key, n_key, total));
    PS_TRY(put_head(p, 2, n_value, total));
    return put(p, value, n_value, total);
}

static ps_status place_outside(paster *p, const uint8_t *data, size_t size, outside *ret) {
    if (p->writing) {
        *ret = p->out.data[p->next_out++];
        return PS_OK;
    }
    uint64_t at = 0;
    if (p->out.size) {
        const outside *last = &p->out.data[p->out.size - 1];
        at = (last->offset + last->size + FILE_ALIGN - 1) / FILE_ALIGN * FILE_ALIGN;
    }
    *ret = (outside) { data, size, at };
    if (!ps_vec_push(p->edit->alloc, &p->out, *ret)) return PS_FAIL_NOMEM(p->err, "the list of weights");
    return PS_OK;
}

static ps_status put_outside(paster *p, const uint8_t *data, size_t size, uint64_t *total) {
    outside o;
    char text[ENTRY_ROOM];
    uint8_t location[4];
    PS_TRY(place_outside(p, data, size, &o));
    PS_TRY(put_entry(p, "location", p->options->external, total));
    ps_snprintf(text, sizeof text, "%llu", (unsigned long long)o.offset);
    PS_TRY(put_entry(p, "offset", text, total));
    ps_snprintf(text, sizeof text, "%zu", size);
    PS_TRY(put_entry(p, "length", text, total));
    uint8_t *end = ps_wire_put_varint(ps_wire_put_tag(location, FIELD_LOCATION, PS_WIRE_VARINT), 1);
    return put(p, location, (size_t)(end - location), total);
}

/* How a tensor's elements are written. */
typedef struct form {
    uint32_t field; /* which field comes first: fields are written in the order of their numbers */
    const uint8_t *raw;
    size_t bytes;
    bool outside;
} form;

static ps_status choose_form(paster *p, const ps_onnx_payload *load, form *ret) {
    size_t least = p->options->external_bytes ? p->options->external_bytes : 1024;
    *ret = (form) { .field = FIELD_RAW, .raw = load->raw, .bytes = load->bytes };
    if (load->tensor) ret->raw = load->tensor->data;
    if (load->body) PS_TRY(inspect_body(load, &ret->field, &ret->raw, &ret->bytes, p->err));
    ret->outside = p->options->external && ret->raw && ret->bytes >= least;
    if (ret->outside) ret->field = FIELD_EXTERNAL;
    return PS_OK;
}

static ps_status put_payload(paster *p, const ps_onnx_payload *load, const form *f, uint64_t *total) {
    if (f->outside) return put_outside(p, f->raw, f->bytes, total);
    if (load->body) return put_body(p, load, total);
    PS_TRY(put_head(p, FIELD_RAW, f->bytes, total));
    return put(p, f->raw, f->bytes, total);
}

/* A TensorProto whose raw_data is a number of ours. */
static ps_status put_tensor(paster *p, const uint8_t *data, size_t size, const ps_onnx_payload *load, uint64_t *total) {
    ps_wire w;
    ps_wire_field f = { 0 };
    form how;
    bool more, done = false;
    PS_TRY(choose_form(p, load, &how));
    ps_wire_init(&w, data, size);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, p->err));
        if (!done && (!more || f.number > how.field)) {
            PS_TRY(put_payload(p, load, &how, total));
            done = true;
        }
        if (!more) return PS_OK;
        if (f.number != FIELD_RAW) PS_TRY(put(p, f.start, (size_t)(w.at - f.start), total));
    }
}

static ps_status find_payload(paster *p, const uint8_t *data, size_t size, const ps_onnx_payload **ret) {
    ps_wire w;
    ps_wire_field f = { 0 };
    bool more;
    *ret = NULL;
    ps_wire_init(&w, data, size);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, p->err));
        if (!more) return PS_OK;
        if (f.number == FIELD_RAW && f.type == PS_WIRE_LEN) *ret = ps_onnx_edit_payload(p->edit, f.data, f.size);
    }
}

/* ---- messages ---- */

static ps_status put_message(paster *p, const ProtobufCMessageDescriptor *kind, const uint8_t *data, size_t size,
                             uint64_t *total);

static ps_status put_child(paster *p, const ProtobufCMessageDescriptor *kind, const ps_wire_field *f, uint64_t *total) {
    uint64_t size = 0;
    if (p->writing) {
        PS_TRY(put_head(p, f->number, p->sizes.data[p->next_size++], total));
        return put_message(p, kind, f->data, f->size, total);
    }
    size_t at = p->sizes.size;
    if (!ps_vec_push(p->edit->alloc, &p->sizes, size)) return PS_FAIL_NOMEM(p->err, "writing a model");
    PS_TRY(put_message(p, kind, f->data, f->size, &size));
    p->sizes.data[at] = size;
    *total += size;
    return put_head(p, f->number, size, total);
}

/* Recursion: as deep as the message, which cut.c has bounded. */
static ps_status put_message(paster *p, const ProtobufCMessageDescriptor *kind, const uint8_t *data, size_t size,
                             uint64_t *total) {
    ps_wire w;
    ps_wire_field f = { 0 };
    bool more;
    const ps_onnx_payload *load = NULL;
    if (kind == &onnx__tensor_proto__descriptor) PS_TRY(find_payload(p, data, size, &load));
    if (load) return put_tensor(p, data, size, load, total);
    ps_wire_init(&w, data, size);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, p->err));
        if (!more) return PS_OK;
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(kind, f.number);
        if (field && field->type == PROTOBUF_C_TYPE_MESSAGE)
            PS_TRY(put_child(p, field->descriptor, &f, total));
        else
            PS_TRY(put(p, f.start, (size_t)(w.at - f.start), total));
    }
}

/* ---- files ---- */

static ps_status write_outside(paster *p, const char *path) {
    static const uint8_t zeros[FILE_ALIGN];
    const char *slash = strrchr(path, '/');
    ps_str name;
    ps_str_init(&name, p->edit->alloc);
    ps_str_printf(&name, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, p->options->external);
    ps_file_writer file = { 0 };
    ps_status status = name.failed ? PS_FAIL_NOMEM(p->err, "a path") : PS_OK;
    if (status == PS_OK) status = ps_file_writer_open(&file, p->edit->alloc, name.data, 0666, p->err);
    uint64_t at = 0;
    for (size_t i = 0; i < p->out.size && status == PS_OK; i++) {
        const outside *o = &p->out.data[i];
        status = ps_file_writer_append(&file, zeros, (size_t)(o->offset - at), p->err);
        if (status == PS_OK) status = ps_file_writer_append(&file, o->data, o->size, p->err);
        at = o->offset + o->size;
    }
    if (status == PS_OK) status = ps_file_writer_commit(&file, p->err);
    ps_file_writer_abort(&file);
    ps_str_release(&name);
    return status;
}

static ps_status write_model(paster *p, const char *path, uint64_t size) {
    ps_file_writer file = { 0 };
    uint64_t written = 0;
    PS_TRY(ps_file_writer_open(&file, p->edit->alloc, path, 0666, p->err));
    ps_status status = ps_onnx_sink_open(&p->sink, p->edit->alloc, &file, p->options->zstd_level, size, p->err);
    p->writing = true;
    if (status == PS_OK) status = put_message(p, p->edit->proto.message->descriptor, p->packed, p->n_packed, &written);
    if (status == PS_OK) status = ps_onnx_sink_finish(&p->sink, p->err);
    ps_onnx_sink_close(&p->sink);
    if (status == PS_OK && written != size) status = PS_FAIL(p->err, INTERNAL, "a model was measured wrongly");
    if (status == PS_OK) status = ps_file_writer_commit(&file, p->err);
    ps_file_writer_abort(&file);
    return status;
}

static ps_status write_all(paster *p, const char *path) {
    uint64_t size = 0;
    PS_TRY(put_message(p, p->edit->proto.message->descriptor, p->packed, p->n_packed, &size));
    PS_FAIL_IF(size > PS_ONNX_MAX_FILE, p->err, LIMIT,
               "the model would have %llu bytes, protobuf's limit is %zu: write its weights as external data",
               (unsigned long long)size, PS_ONNX_MAX_FILE);
    if (p->out.size) PS_TRY(write_outside(p, path));
    return write_model(p, path, size);
}

static ps_status check_options(const ps_onnx_write_options *o, ps_error *err) {
    PS_FAIL_IF(o->zstd_level < 0 || o->zstd_level > 19, err, INVALID, "zstd level %d does not lie in 0 … 19",
               o->zstd_level);
    if (!o->external) return PS_OK;
    PS_FAIL_IF(!o->external[0] || strchr(o->external, '/') || o->external[0] == '.', err, INVALID,
               "external data '%s' is no name of a file beside the model", o->external);
    return ps_onnx_check_name("external data name", o->external, err);
}

static ps_status pack_all(paster *p, int level) {
    uint64_t size = 0, written = 0;
    const ProtobufCMessageDescriptor *kind = p->edit->proto.message->descriptor;
    PS_TRY(put_message(p, kind, p->packed, p->n_packed, &size));
    PS_FAIL_IF(size > PS_ONNX_MAX_FILE, p->err, LIMIT, "the model would have %llu bytes, protobuf's limit is %zu",
               (unsigned long long)size, PS_ONNX_MAX_FILE);
    PS_TRY(ps_onnx_sink_open(&p->sink, p->edit->alloc, NULL, level, size, p->err));
    p->writing = true;
    PS_TRY(put_message(p, kind, p->packed, p->n_packed, &written));
    PS_FAIL_IF(written != size, p->err, INTERNAL, "a model was measured wrongly");
    return level ? ps_onnx_sink_finish(&p->sink, p->err) : PS_OK;
}

static ps_status pack_structure(paster *p, uint8_t **ret) {
    p->n_packed = protobuf_c_message_get_packed_size(p->edit->proto.message);
    *ret = ps_alloc(p->edit->alloc, p->n_packed ? p->n_packed : 1);
    if (!*ret) return PS_FAIL_NOMEM(p->err, "writing a model");
    protobuf_c_message_pack(p->edit->proto.message, *ret);
    p->packed = *ret;
    return PS_OK;
}

/* The sink is the caller's to close. */
static ps_status pack_into(ps_onnx_edit *e, int level, paster *p) {
    uint8_t *packed = NULL;
    ps_status status = pack_structure(p, &packed);
    if (status == PS_OK) status = pack_all(p, level);
    ps_free(e->alloc, packed);
    ps_vec_release(e->alloc, &p->sizes);
    ps_vec_release(e->alloc, &p->out);
    return status;
}

ps_status ps_onnx_edit_pack(ps_onnx_edit *e, void **ret_data, size_t *ret_size, ps_error *err) {
    static const ps_onnx_write_options defaults;
    paster p = { .edit = e, .options = &defaults, .err = err };
    ps_status status = pack_into(e, 0, &p);
    if (status == PS_OK) {
        *ret_data = p.sink.buffer;
        *ret_size = p.sink.used;
        p.sink.buffer = NULL;
    }
    ps_onnx_sink_close(&p.sink);
    return status;
}

ps_status ps_onnx_edit_packed_bytes(ps_onnx_edit *e, int zstd_level, uint64_t *ret, ps_error *err) {
    static const ps_onnx_write_options defaults;
    paster p = { .edit = e, .options = &defaults, .err = err };
    ps_status status = pack_into(e, zstd_level, &p);
    if (status == PS_OK) *ret = p.sink.length;
    ps_onnx_sink_close(&p.sink);
    return status;
}

ps_status ps_onnx_edit_write(ps_onnx_edit *e, const char *path, const ps_onnx_write_options *options, ps_error *err) {
    static const ps_onnx_write_options defaults;
    paster p = { .edit = e, .options = options ? options : &defaults, .err = err };
    PS_TRY(check_options(p.options, err));
    uint8_t *packed = NULL;
    ps_status status = pack_structure(&p, &packed);
    if (status == PS_OK) status = write_all(&p, path);
    ps_free(e->alloc, packed);
    ps_vec_release(e->alloc, &p.sizes);
    ps_vec_release(e->alloc, &p.out);
    return status;
}
