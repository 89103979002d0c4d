/* infer_read.c - ModelInferRequest. Field numbers are the protocol's. */
#include <inttypes.h>
#include <string.h>

#include "server/grpc/infer_wire.h"
#include "server/grpc/infer_wire_int.h"
#include "server/infer_request.h"
#include "server/json_text.h"
#include "server/tensor_raw.h"

enum { MODEL_NAME = 1, MODEL_VERSION = 2, ID = 3, PARAMETERS = 4, INPUTS = 5, OUTPUTS = 6, RAW = 7 };
enum { INPUT_NAME = 1, INPUT_DATATYPE = 2, INPUT_SHAPE = 3, INPUT_PARAMETERS = 4 };
enum { OUTPUT_NAME = 1, OUTPUT_PARAMETERS = 2 };
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2 };

/* An InferParameter. */
typedef enum param_kind { PARAM_NONE, PARAM_BOOL, PARAM_INT64, PARAM_STRING, PARAM_DOUBLE, PARAM_UINT64 } param_kind;

typedef struct param {
    ps_string key;
    param_kind kind;
    uint64_t bits;
    ps_string text;
} param;

typedef struct input {
    ps_infer_tensor tensor;
    ps_shm_place place;
    ps_wire message;
    bool has_contents;
} input;

typedef struct reader {
    ps_infer *infer;
    ps_infer_wire_target *target;
    input *inputs;
    ps_string *raw;
    size_t n_inputs, n_wants, n_raw;
} reader;

/* Reads fields until `field` has seen all of them. */
typedef ps_status (*field_fn)(reader *r, const ps_wire_field *f, void *to, ps_error *err);

static ps_status each_field(reader *r, const void *data, size_t size, field_fn field, void *to, ps_error *err) {
    ps_wire w;
    ps_wire_field f;
    bool more;
    ps_wire_init(&w, data, size);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, err));
        if (!more) return PS_OK;
        PS_TRY(field(r, &f, to, err));
    }
}

/* The content of a field that must be a string or a message. */
static ps_status check_len(const ps_wire_field *f, const char *what, ps_error *err) {
    PS_FAIL_IF(f->type != PS_WIRE_LEN, err, FORMAT, "%s has wire type %d, not 2", what, (int)f->type);
    return PS_OK;
}

static ps_status read_text(reader *r, const ps_wire_field *f, const char *what, const char **ret, ps_error *err) {
    PS_TRY(check_len(f, what, err));
    PS_FAIL_IF(memchr(f->data, '\0', f->size) || !ps_utf8_valid((const char *)f->data, f->size), err, FORMAT,
               "%s is not UTF-8 without NULs", what);
    *ret = ps_arena_text(&r->infer->arena, f->data, f->size);
    return *ret ? PS_OK : PS_FAIL_NOMEM(err, "a request");
}

/* ---- parameters ---- */

static bool key_is(const param *p, const char *name) {
    return p->key.size == strlen(name) && memcmp(p->key.data, name, p->key.size) == 0;
}

static ps_status read_param_value(reader *r, const ps_wire_field *f, void *to, ps_error *err) {
    static const ps_wire_type types[] = { PS_WIRE_VARINT, PS_WIRE_VARINT, PS_WIRE_VARINT,
                                          PS_WIRE_LEN,    PS_WIRE_I64,    PS_WIRE_VARINT };
    param *p = to;
    if (f->number > PARAM_UINT64) return PS_OK;
    PS_FAIL_IF(f->type != types[f->number], err, FORMAT, "a parameter's value has wire type %d", (int)f->type);
    p->kind = (param_kind)f->number;
    p->bits = f->value;
    if (f->type == PS_WIRE_LEN) p->text = (ps_string) { (const char *)f->data, f->size };
    return PS_OK;
}

static ps_status read_param_field(reader *r, const ps_wire_field *f, void *to, ps_error *err) {
    param *p = to;
    if (f->number != ENTRY_KEY && f->number != ENTRY_VALUE) return PS_OK;
    PS_TRY(check_len(f, "a parameter", err));
    if (f->number == ENTRY_VALUE) return each_field(r, f->data, f->size, read_param_value, p, err);
    p->key = (ps_string) { (const char *)f->data, f->size };
    return PS_OK;
}

static ps_status read_param(reader *r, const ps_wire_field *f, param *ret, ps_error *err) {
    *ret = (param) { .key = { "", 0 } };
    PS_TRY(check_len(f, "a parameter", err));
    return each_field(r, f->data, f->size, read_param_field, ret, err);
}

static ps_status param_uint(const param *p, const char *name, uint64_t *ret, ps_error *err) {
    PS_FAIL_IF(p->kind != PARAM_INT64 && p->kind != PARAM_UINT64, err, INVALID, "parameter %s is not an integer", name);
    PS_FAIL_IF(p->kind == PARAM_INT64 && p->bits > INT64_MAX, err, INVALID,
               "parameter %s is %" PRId64 ", which is negative", name, (int64_t)p->bits);
    *ret = p->bits;
    return PS_OK;
}

static ps_status param_bool(const param *p, const char *name, bool *ret, ps_error *err) {
    PS_FAIL_IF(p->kind != PARAM_BOOL, err, INVALID, "parameter %s is not a bool", name);
    *ret = p->bits != 0;
    return PS_OK;
}

static ps_status param_text(reader *r, const param *p, const char *name, const char **ret, ps_error *err) {
    PS_FAIL_IF(p->kind != PARAM_STRING || memchr(p->text.data, '\0', p->text.size) ||
                   !ps_utf8_valid(p->text.data, p->text.size),
               err, INVALID, "parameter %s is not a text", name);
    *ret = ps_arena_text(&r->infer->arena, p->text.data, p->text.size);
    return *ret ? PS_OK : PS_FAIL_NOMEM(err, "a request");
}

static ps_status set_sequence_id(reader *r, const param *p, ps_error *err) {
    const char *text;
    uint64_t number;
    if (p->kind == PARAM_STRING) {
        PS_TRY(param_text(r, p, "sequence_id", &text, err));
        return ps_infer_set_sequence_text(r->infer, text, err);
    }
    PS_TRY(param_uint(p, "sequence_id", &number, err));
    return ps_infer_set_sequence_number(r->infer, number, err);
}

static ps_status set_request_param(reader *r, const param *p, ps_error *err) {
    ps_infer *infer = r->infer;
    const char *text;
    uint64_t number;
    if (key_is(p, "sequence_id")) return set_sequence_id(r, p, err);
    if (key_is(p, "sequence_start")) return param_bool(p, "sequence_start", &infer->sequence_start, err);
    if (key_is(p, "sequence_end")) return param_bool(p, "sequence_end", &infer->sequence_end, err);
    if (key_is(p, "routing_key")) {
        PS_TRY(param_text(r, p, "routing_key", &text, err));
        return ps_infer_set_routing_key(infer, text, err);
    }
    if (key_is(p, "tenant")) {
        PS_TRY(param_text(r, p, "tenant", &text, err));
        return ps_infer_set_tenant(infer, text, err);
    }
    if (key_is(p, "priority")) {
        PS_TRY(param_uint(p, "priority", &number, err));
        return ps_infer_set_priority(infer, number, err);
    }
    if (key_is(p, "timeout")) {
        PS_TRY(param_uint(p, "timeout", &number, err));
        return ps_infer_set_timeout(infer, number, err);
    }
    return PS_OK;
}

/* *ret_known: it is one of them. */
static ps_status set_place(reader *r, const param *p, ps_shm_place *place, bool *ret_known, ps_error *err) {
    *ret_known = true;
    if (key_is(p, "shared_memory_region")) return param_text(r, p, "shared_memory_region", &place->region, err);
    if (key_is(p, "shared_memory_offset")) return param_uint(p, "shared_memory_offset", &place->offset, err);
    if (key_is(p, "shared_memory_byte_size")) {
        place->has_size = true;
        return param_uint(p, "shared_memory_byte_size", &place->size, err);
    }
    *ret_known = false;
    return PS_OK;
}

/* ---- inputs ---- */

static ps_status add_dim(ps_infer_tensor *t, uint64_t bits, ps_error *err) {
    int64_t dim = (int64_t)bits;
    PS_FAIL_IF(t->shape.rank == PS_MAX_RANK, err, SHAPE, "a shape has more than %d dims", PS_MAX_RANK);
    PS_FAIL_IF(dim < 0, err, SHAPE, "dim %" PRId64 " of a shape is negative", dim);
    t->shape.dims[t->shape.rank++] = dim;
    return PS_OK;
}

static ps_status read_shape(const ps_wire_field *f, ps_infer_tensor *t, ps_error *err) {
    ps_wire w;
    uint64_t dim;
    if (f->type == PS_WIRE_VARINT) return add_dim(t, f->value, err);
    PS_TRY(check_len(f, "a shape", err));
    ps_wire_init(&w, f->data, f->size);
    while (w.at < w.end) {
        PS_FAIL_IF(!ps_wire_varint(&w, &dim), err, FORMAT, "a shape is broken");
        PS_TRY(add_dim(t, dim, err));
    }
    return PS_OK;
}

static ps_status read_datatype(reader *r, const ps_wire_field *f, ps_dtype *ret, ps_error *err) {
    char name[16];
    PS_TRY(check_len(f, "a datatype", err));
    size_t n = f->size < sizeof name - 1 ? f->size : sizeof name - 1;
    if (n) memcpy(name, f->data, n);
    name[n] = '\0';
    *ret = ps_dtype_parse(name);
    PS_FAIL_IF(n != f->size || *ret == PS_DTYPE_UNDEFINED || strcmp(ps_dtype_v2_name(*ret), name) != 0, err, TYPE,
               "datatype '%.15s' is not one of the protocol's", name);
    return PS_OK;
}

static ps_status read_input_param(reader *r, const ps_wire_field *f, input *in, ps_error *err) {
    param p;
    bool known;
    PS_TRY(read_param(r, f, &p, err));
    return set_place(r, &p, &in->place, &known, err);
}

static ps_status read_input_field(reader *r, const ps_wire_field *f, void *to, ps_error *err) {
    input *in = to;
    switch (f->number) {
    case INPUT_NAME: return read_text(r, f, "an input's name", &in->tensor.name, err);
    case INPUT_DATATYPE: return read_datatype(r, f, &in->tensor.dtype, err);
    case INPUT_SHAPE: return read_shape(f, &in->tensor, err);
    case INPUT_PARAMETERS: return read_input_param(r, f, in, err);
    case PS_WIRE_INPUT_CONTENTS: in->has_contents = true; return check_len(f, "contents", err);
    default: return PS_OK;
    }
}

static ps_status count_elements(ps_infer_tensor *t, ps_error *err) {
    int64_t elements = 1;
    for (int i = 0; i < t->shape.rank; i++)
        PS_FAIL_IF(__builtin_mul_overflow(elements, t->shape.dims[i], &elements), err, SHAPE,
                   "input '%s': its shape has too many elements", t->name);
    t->elements = (size_t)elements;
    return PS_OK;
}

static ps_status read_input(reader *r, const ps_wire_field *f, ps_error *err) {
    PS_TRY(check_len(f, "an input", err));
    input *in = &r->inputs[r->n_inputs];
    ps_wire_init(&in->message, f->data, f->size);
    PS_TRY(each_field(r, f->data, f->size, read_input_field, in, err));
    PS_FAIL_IF(!in->tensor.name || !*in->tensor.name, err, INVALID, "input %zu of the request has no name",
               r->n_inputs);
    PS_FAIL_IF(in->tensor.dtype == PS_DTYPE_UNDEFINED, err, INVALID, "input '%s' has no datatype", in->tensor.name);
    r->n_inputs++;
    return count_elements(&in->tensor, err);
}

/* ---- outputs ---- */

typedef struct output {
    const char *name;
    ps_shm_place place;
    uint64_t classes;
} output;

static ps_status read_output_field(reader *r, const ps_wire_field *f, void *to, ps_error *err) {
    output *out = to;
    param p;
    bool known;
    if (f->number == OUTPUT_NAME) return read_text(r, f, "an output's name", &out->name, err);
    if (f->number != OUTPUT_PARAMETERS) return PS_OK;
    PS_TRY(read_param(r, f, &p, err));
    if (key_is(&p, "classification")) return param_uint(&p, "classification", &out->classes, err);
    return set_place(r, &p, &out->place, &known, err);
}

static ps_status read_output(reader *r, const ps_wire_field *f, ps_error *err) {
    output out = { 0 };
    ps_infer *infer = r->infer;
    PS_TRY(check_len(f, "an output", err));
    PS_TRY(each_field(r, f->data, f->size, read_output_field, &out, err));
    PS_FAIL_IF(!out.name || !*out.name, err, INVALID, "output %zu of the request has no name", infer->n_wants);
    ps_infer_want *want = &infer->wants[infer->n_wants];
    *want = (ps_infer_want) { .name = out.name, .says_form = true, .binary = true };
    PS_TRY(ps_infer_set_classes(want, out.classes > INT64_MAX ? INT64_MAX : (int64_t)out.classes, err));
    if (out.place.region) PS_TRY(ps_infer_want_memory(infer, &out.place, want, err));
    infer->n_wants++;
    return PS_OK;
}

/* ---- the request ---- */

static ps_status count_field(reader *r, const ps_wire_field *f, void *to, ps_error *err) {
    size_t *counts = to;
    if (f->number <= RAW) counts[f->number]++;
    return PS_OK;
}

/* Arrays of the right size: the message is walked once for its frame only. */
static ps_status prepare(reader *r, const void *data, size_t size, ps_error *err) {
    size_t counts[RAW + 1] = { 0 };
    ps_arena *arena = &r->infer->arena;
    PS_TRY(each_field(r, data, size, count_field, counts, err));
    PS_FAIL_IF(counts[INPUTS] > PS_INFER_MAX_TENSORS, err, INVALID, "the request has more than %d inputs",
               PS_INFER_MAX_TENSORS);
    PS_FAIL_IF(counts[OUTPUTS] > PS_INFER_MAX_TENSORS, err, INVALID, "the request has more than %d outputs",
               PS_INFER_MAX_TENSORS);
    PS_FAIL_IF(counts[RAW] > counts[INPUTS], err, INVALID, "the request has %zu raw_input_contents for %zu inputs",
               counts[RAW], counts[INPUTS]);
    r->inputs = ps_arena_array(arena, counts[INPUTS] + 1, sizeof *r->inputs);
    r->raw = ps_arena_array(arena, counts[RAW] + 1, sizeof *r->raw);
    r->infer->inputs = ps_arena_array(arena, counts[INPUTS] + 1, sizeof *r->infer->inputs);
    r->infer->wants = ps_arena_array(arena, counts[OUTPUTS] + 1, sizeof *r->infer->wants);
    return r->inputs && r->raw && r->infer->inputs && r->infer->wants ? PS_OK : PS_FAIL_NOMEM(err, "a request");
}

static ps_status read_field(reader *r, const ps_wire_field *f, void *to, ps_error *err) {
    param p;
    switch (f->number) {
    case MODEL_NAME: return read_text(r, f, "model_name", &r->target->model_name, err);
    case MODEL_VERSION: return read_text(r, f, "model_version", &r->target->model_version, err);
    case ID: return read_text(r, f, "id", &r->infer->id, err);
    case PARAMETERS: PS_TRY(read_param(r, f, &p, err)); return set_request_param(r, &p, err);
    case INPUTS: return read_input(r, f, err);
    case OUTPUTS: return read_output(r, f, err);
    case RAW:
        PS_TRY(check_len(f, "raw_input_contents", err));
        r->raw[r->n_raw++] = (ps_string) { (const char *)f->data, f->size };
        return PS_OK;
    default: return PS_OK;
    }
}

static ps_status read_data(reader *r, input *in, size_t *next_raw, ps_error *err) {
    ps_infer_tensor *t = &in->tensor;
    bool raw = r->n_raw > 0;
    if (in->place.region) {
        PS_FAIL_IF(in->has_contents, err, INVALID, "input '%s' has data and is in shared memory", t->name);
        return ps_infer_read_memory(r->infer, &in->place, t, err);
    }
    PS_FAIL_IF(raw && in->has_contents, err, INVALID,
               "input '%s' has contents, but the request has raw_input_contents: they exclude each other", t->name);
    if (!raw) {
        PS_FAIL_IF(!in->has_contents && t->elements, err, INVALID,
                   "input '%s' has no data: neither contents nor raw_input_contents", t->name);
        return ps_infer_wire_contents(&r->infer->arena, t, &in->message, err);
    }
    PS_FAIL_IF(*next_raw == r->n_raw, err, INVALID, "input '%s' has no raw_input_contents: the request has only %zu",
               t->name, r->n_raw);
    const ps_string *bytes = &r->raw[(*next_raw)++];
    return ps_tensor_raw_read(&r->infer->arena, t, bytes->data, bytes->size, err);
}

static ps_status read_all(reader *r, const void *data, size_t size, ps_error *err) {
    size_t next_raw = 0;
    PS_TRY(prepare(r, data, size, err));
    PS_TRY(each_field(r, data, size, read_field, NULL, err));
    for (size_t i = 0; i < r->n_inputs; i++) {
        PS_TRY(read_data(r, &r->inputs[i], &next_raw, err));
        r->infer->inputs[r->infer->n_inputs++] = r->inputs[i].tensor;
    }
    PS_FAIL_IF(next_raw != r->n_raw, err, INVALID, "%zu raw_input_contents belong to no input", r->n_raw - next_raw);
    return PS_OK;
}

ps_status ps_infer_wire_read(ps_infer *infer, const void *data, size_t size, ps_infer_wire_target *ret, ps_error *err) {
    reader r = { .infer = infer, .target = ret };
    *ret = (ps_infer_wire_target) { "", "" };
    ps_status status = read_all(&r, data, size, err);
    if (status == PS_FORMAT) ps_error_prefix(err, "the message is no ModelInferRequest");
    return status;
}

size_t ps_infer_wire_raw_offset(const void *data, size_t size) {
    ps_wire w;
    uint64_t tag, value;
    ps_wire_init(&w, data, size);
    while (w.at < w.end && ps_wire_varint(&w, &tag) && (tag & 7) == PS_WIRE_LEN && ps_wire_varint(&w, &value)) {
        if (tag >> 3 == RAW) return (size_t)(w.at - (const uint8_t *)data);
        if (value > (uint64_t)(w.end - w.at)) return 0;
        w.at += value;
    }
    return 0;
}
