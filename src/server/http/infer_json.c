#include "server/http/infer_json.h"

#include <inttypes.h>
#include <string.h>

#include "server/http/tensor_json.h"
#include "server/infer_request.h"
#include "server/json_number.h"
#include "server/json_reader.h"
#include "server/json_text.h"
#include "server/tensor_raw.h"

/* One input as it stands in the request, before its data is read. */
typedef struct raw_input {
    ps_infer_tensor tensor;
    bool has_shape, has_dtype, has_data, binary;
    int64_t binary_size;
    ps_shm_place memory;
    const char *data_at; /* position of the value of "data" */
} raw_input;

typedef struct parser {
    ps_json json;
    ps_infer *infer;
    const char *tail, *end; /* raw bytes not yet taken by an input */
    bool has_inputs, has_outputs;
    size_t input_room, want_room;
} parser;

static ps_status once(bool *seen, const char *key, const ps_json *r, ps_error *err) {
    PS_FAIL_IF(*seen, err, FORMAT, "JSON byte %zu: \"%s\" twice in one object", ps_json_offset(r), key);
    *seen = true;
    return PS_OK;
}

/* ---- inputs ---- */

static ps_status read_shape(ps_json *r, ps_infer_tensor *t, ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    int64_t dim, elements = 1;
    PS_TRY(ps_json_enter(r, '[', &it, err));
    for (t->shape.rank = 0;; t->shape.rank++) {
        PS_TRY(ps_json_next(r, &it, &key, &more, err));
        if (!more) break;
        PS_FAIL_IF(t->shape.rank == PS_MAX_RANK, err, SHAPE, "JSON byte %zu: a shape has more than %d dims",
                   ps_json_offset(r), PS_MAX_RANK);
        PS_TRY(ps_json_int(r, &dim, err));
        PS_FAIL_IF(dim < 0, err, SHAPE, "JSON byte %zu: dim %" PRId64 " of a shape is negative", ps_json_offset(r),
                   dim);
        PS_FAIL_IF(__builtin_mul_overflow(elements, dim, &elements), err, SHAPE,
                   "JSON byte %zu: a shape has too many elements", ps_json_offset(r));
        t->shape.dims[t->shape.rank] = dim;
    }
    t->elements = (size_t)elements;
    return PS_OK;
}

static ps_status read_dtype(ps_json *r, ps_infer_tensor *t, ps_error *err) {
    const char *name;
    PS_TRY(ps_json_cstring(r, &name, err));
    t->dtype = ps_dtype_parse(name);
    PS_FAIL_IF(t->dtype == PS_DTYPE_UNDEFINED || strcmp(ps_dtype_v2_name(t->dtype), name) != 0, err, TYPE,
               "JSON byte %zu: datatype \"%.32s\" is not one of the protocol's", ps_json_offset(r), name);
    return PS_OK;
}

/* *ret_known: the key is one of them. */
static ps_status read_memory(ps_json *r, const ps_string *key, ps_shm_place *m, bool *ret_known, ps_error *err) {
    *ret_known = true;
    if (ps_json_key_is(key, "shared_memory_region")) return ps_json_cstring(r, &m->region, err);
    if (ps_json_key_is(key, "shared_memory_offset")) return ps_json_uint(r, &m->offset, err);
    if (ps_json_key_is(key, "shared_memory_byte_size")) {
        m->has_size = true;
        return ps_json_uint(r, &m->size, err);
    }
    *ret_known = false;
    return PS_OK;
}

static ps_status read_input_parameters(ps_json *r, raw_input *in, ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    PS_TRY(ps_json_enter(r, '{', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(r, &it, &key, &more, err));
        if (!more) return PS_OK;
        bool known;
        PS_TRY(read_memory(r, &key, &in->memory, &known, err));
        if (known) continue;
        if (ps_json_key_is(&key, "binary_data_size")) {
            PS_TRY(once(&in->binary, "binary_data_size", r, err));
            PS_TRY(ps_json_int(r, &in->binary_size, err));
            PS_FAIL_IF(in->binary_size < 0, err, INVALID, "JSON byte %zu: binary_data_size is negative",
                       ps_json_offset(r));
        } else {
            PS_TRY(ps_json_skip(r, err));
        }
    }
}

/* "data" can come before "datatype" and "shape": it is only passed over here. */
static ps_status read_input_member(parser *p, const ps_string *key, raw_input *in, ps_error *err) {
    ps_json *r = &p->json;
    bool named = in->tensor.name != NULL;
    if (ps_json_key_is(key, "name")) {
        PS_TRY(once(&named, "name", r, err));
        return ps_json_cstring(r, &in->tensor.name, err);
    }
    if (ps_json_key_is(key, "shape")) {
        PS_TRY(once(&in->has_shape, "shape", r, err));
        return read_shape(r, &in->tensor, err);
    }
    if (ps_json_key_is(key, "datatype")) {
        PS_TRY(once(&in->has_dtype, "datatype", r, err));
        return read_dtype(r, &in->tensor, err);
    }
    if (ps_json_key_is(key, "parameters")) return read_input_parameters(r, in, err);
    if (!ps_json_key_is(key, "data")) return ps_json_skip(r, err);
    PS_TRY(once(&in->has_data, "data", r, err));
    (void)ps_json_peek(r);
    in->data_at = r->p;
    if (in->tensor.name && in->has_shape && in->has_dtype) return ps_tensor_json_read(r, &in->tensor, err);
    return ps_json_skip(r, err);
}

static ps_status take_tail(parser *p, raw_input *in, ps_error *err) {
    size_t left = (size_t)(p->end - p->tail);
    PS_FAIL_IF((uint64_t)in->binary_size > left, err, INVALID,
               "input '%s': binary_data_size is %" PRId64 ", but only %zu bytes follow the JSON", in->tensor.name,
               in->binary_size, left);
    PS_TRY(ps_tensor_raw_read(&p->infer->arena, &in->tensor, p->tail, (size_t)in->binary_size, err));
    p->tail += in->binary_size;
    return PS_OK;
}

static ps_status finish_input(parser *p, raw_input *in, ps_error *err) {
    ps_infer_tensor *t = &in->tensor;
    PS_FAIL_IF(!t->name, err, INVALID, "input %zu of the request has no \"name\"", p->infer->n_inputs);
    PS_FAIL_IF(!in->has_shape, err, INVALID, "input '%s' has no \"shape\"", t->name);
    PS_FAIL_IF(!in->has_dtype, err, INVALID, "input '%s' has no \"datatype\"", t->name);
    PS_FAIL_IF(in->has_data && in->binary, err, INVALID, "input '%s' has both \"data\" and binary_data_size", t->name);
    if (in->memory.region) {
        PS_FAIL_IF(in->has_data || in->binary, err, INVALID, "input '%s' has data and is in shared memory", t->name);
        return ps_infer_read_memory(p->infer, &in->memory, t, err);
    }
    PS_FAIL_IF(!in->has_data && !in->binary, err, INVALID, "input '%s' has neither \"data\" nor binary_data_size",
               t->name);
    if (in->binary) return take_tail(p, in, err);
    if (t->data) return PS_OK;
    ps_json again = p->json; /* back to where "data" stands */
    again.p = in->data_at;
    return ps_tensor_json_read(&again, t, err);
}

static ps_status read_input(parser *p, ps_error *err) {
    raw_input in = { 0 };
    ps_infer *infer = p->infer;
    ps_json_iter it;
    ps_string key;
    bool more;
    PS_FAIL_IF(infer->n_inputs == PS_INFER_MAX_TENSORS, err, INVALID, "the request has more than %d inputs",
               PS_INFER_MAX_TENSORS);
    PS_TRY(ps_json_enter(&p->json, '{', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(&p->json, &it, &key, &more, err));
        if (!more) break;
        PS_TRY(read_input_member(p, &key, &in, err));
    }
    PS_TRY(finish_input(p, &in, err));
    if (!ps_infer_grow(&infer->arena, (void **)&infer->inputs, infer->n_inputs, &p->input_room, sizeof *infer->inputs))
        return PS_FAIL_NOMEM(err, "the inputs of a request");
    infer->inputs[infer->n_inputs++] = in.tensor;
    return PS_OK;
}

/* ---- outputs ---- */

typedef struct raw_want {
    const char *name;
    bool has_binary, binary;
    int64_t classes;
    ps_shm_place memory;
} raw_want;

static ps_status read_want_parameters(ps_json *r, raw_want *w, ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    PS_TRY(ps_json_enter(r, '{', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(r, &it, &key, &more, err));
        if (!more) return PS_OK;
        bool known;
        PS_TRY(read_memory(r, &key, &w->memory, &known, err));
        if (known) continue;
        if (ps_json_key_is(&key, "binary_data")) {
            PS_TRY(once(&w->has_binary, "binary_data", r, err));
            PS_TRY(ps_json_bool(r, &w->binary, err));
        } else if (ps_json_key_is(&key, "classification")) {
            PS_TRY(ps_json_int(r, &w->classes, err));
        } else {
            PS_TRY(ps_json_skip(r, err));
        }
    }
}

static ps_status read_want(parser *p, ps_error *err) {
    ps_infer *infer = p->infer;
    raw_want w = { 0 };
    ps_json_iter it;
    ps_string key;
    bool more;
    PS_FAIL_IF(infer->n_wants == PS_INFER_MAX_TENSORS, err, INVALID, "the request has more than %d outputs",
               PS_INFER_MAX_TENSORS);
    PS_TRY(ps_json_enter(&p->json, '{', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(&p->json, &it, &key, &more, err));
        if (!more) break;
        if (ps_json_key_is(&key, "name"))
            PS_TRY(ps_json_cstring(&p->json, &w.name, err));
        else if (ps_json_key_is(&key, "parameters"))
            PS_TRY(read_want_parameters(&p->json, &w, err));
        else
            PS_TRY(ps_json_skip(&p->json, err));
    }
    PS_FAIL_IF(!w.name, err, INVALID, "output %zu of the request has no \"name\"", infer->n_wants);
    if (!ps_infer_grow(&infer->arena, (void **)&infer->wants, infer->n_wants, &p->want_room, sizeof *infer->wants))
        return PS_FAIL_NOMEM(err, "the outputs of a request");
    ps_infer_want *want = &infer->wants[infer->n_wants];
    *want = (ps_infer_want) { .name = w.name, .says_form = w.has_binary, .binary = w.binary };
    PS_TRY(ps_infer_set_classes(want, w.classes, err));
    if (w.memory.region) PS_TRY(ps_infer_want_memory(infer, &w.memory, want, err));
    infer->n_wants++;
    return PS_OK;
}

/* ---- the request ---- */

static ps_status read_array(parser *p, ps_status (*item)(parser *, ps_error *), ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    PS_TRY(ps_json_enter(&p->json, '[', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(&p->json, &it, &key, &more, err));
        if (!more) return PS_OK;
        PS_TRY(item(p, err));
    }
}

static ps_status read_sequence_id(parser *p, ps_error *err) {
    const char *text;
    uint64_t number;
    if (ps_json_peek(&p->json) == '"') {
        PS_TRY(ps_json_cstring(&p->json, &text, err));
        return ps_infer_set_sequence_text(p->infer, text, err);
    }
    PS_TRY(ps_json_uint(&p->json, &number, err));
    return ps_infer_set_sequence_number(p->infer, number, err);
}

/* The schedule policy and the sequence extension; *ret_known: it is one of theirs. */
static ps_status read_schedule(parser *p, const ps_string *key, bool *ret_known, ps_error *err) {
    ps_infer *infer = p->infer;
    const char *text;
    uint64_t number;
    *ret_known = true;
    if (ps_json_key_is(key, "sequence_id")) return read_sequence_id(p, err);
    if (ps_json_key_is(key, "sequence_start")) return ps_json_bool(&p->json, &infer->sequence_start, err);
    if (ps_json_key_is(key, "sequence_end")) return ps_json_bool(&p->json, &infer->sequence_end, err);
    if (ps_json_key_is(key, "routing_key")) {
        PS_TRY(ps_json_cstring(&p->json, &text, err));
        return ps_infer_set_routing_key(infer, text, err);
    }
    if (ps_json_key_is(key, "tenant")) {
        PS_TRY(ps_json_cstring(&p->json, &text, err));
        return ps_infer_set_tenant(infer, text, err);
    }
    if (ps_json_key_is(key, "priority")) {
        PS_TRY(ps_json_uint(&p->json, &number, err));
        return ps_infer_set_priority(infer, number, err);
    }
    if (ps_json_key_is(key, "timeout")) {
        PS_TRY(ps_json_uint(&p->json, &number, err));
        return ps_infer_set_timeout(infer, number, err);
    }
    *ret_known = false;
    return PS_OK;
}

static ps_status read_parameters(parser *p, ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    PS_TRY(ps_json_enter(&p->json, '{', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(&p->json, &it, &key, &more, err));
        if (!more) return PS_OK;
        bool known;
        PS_TRY(read_schedule(p, &key, &known, err));
        if (known) continue;
        if (ps_json_key_is(&key, "binary_data_output"))
            PS_TRY(ps_json_bool(&p->json, &p->infer->want_binary, err));
        else
            PS_TRY(ps_json_skip(&p->json, err));
    }
}

static ps_status read_member(parser *p, const ps_string *key, ps_error *err) {
    if (ps_json_key_is(key, "inputs")) {
        PS_TRY(once(&p->has_inputs, "inputs", &p->json, err));
        return read_array(p, read_input, err);
    }
    if (ps_json_key_is(key, "outputs")) {
        PS_TRY(once(&p->has_outputs, "outputs", &p->json, err));
        return read_array(p, read_want, err);
    }
    if (ps_json_key_is(key, "id")) return ps_json_cstring(&p->json, &p->infer->id, err);
    if (ps_json_key_is(key, "parameters")) return read_parameters(p, err);
    return ps_json_skip(&p->json, err);
}

ps_status ps_infer_json_read(ps_infer *infer, const char *body, size_t size, size_t json_size, ps_error *err) {
    parser p = { .infer = infer, .tail = body + json_size, .end = body + size };
    ps_json_iter it;
    ps_string key;
    bool more;
    ps_json_init(&p.json, body, json_size, &infer->arena);
    PS_TRY(ps_json_enter(&p.json, '{', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(&p.json, &it, &key, &more, err));
        if (!more) break;
        PS_TRY(read_member(&p, &key, err));
    }
    PS_TRY(ps_json_finish(&p.json, err));
    PS_FAIL_IF(!p.has_inputs, err, INVALID, "the request has no \"inputs\"");
    PS_FAIL_IF(p.tail != p.end, err, INVALID, "%zu bytes follow the JSON that belong to no input",
               (size_t)(p.end - p.tail));
    for (size_t i = 0; i < infer->n_wants; i++)
        if (!infer->wants[i].says_form) infer->wants[i].binary = infer->want_binary;
    return PS_OK;
}

/* ---- the reply ---- */

/* The data goes to shared memory, and where it lies into the reply. */
static ps_status write_memory(const ps_infer_want *w, const ps_infer_tensor *t, ps_str *out, ps_error *err) {
    size_t size;
    PS_TRY(ps_infer_write_memory(w, t, out->alloc, &size, err));
    ps_str_append(out, "],\"parameters\":{\"shared_memory_region\":");
    ps_json_write_string(out, ps_shm_region_name(w->shm));
    ps_str_printf(out, ",\"shared_memory_offset\":%zu,\"shared_memory_byte_size\":%zu}}", w->shm_offset, size);
    return PS_OK;
}

static void write_int(ps_str *out, const char *before, int64_t value) {
    char text[PS_NUMBER_TEXT];
    ps_str_append(out, before);
    ps_str_append_n(out, text, ps_number_write_i64(text, value));
}

static ps_status write_output(const ps_infer_want *w, const ps_infer_tensor *t, ps_str *out, ps_error *err) {
    size_t size;
    ps_str_append(out, "{\"name\":");
    ps_json_write_string(out, t->name);
    ps_str_append(out, ",\"datatype\":\"");
    ps_str_append(out, ps_dtype_v2_name(t->dtype));
    ps_str_append(out, "\",\"shape\":[");
    for (int i = 0; i < t->shape.rank; i++)
        write_int(out, i ? "," : "", t->shape.dims[i]);
    if (w->shm) return write_memory(w, t, out, err);
    if (w->binary) {
        PS_FAIL_IF(!ps_tensor_raw_size(t, &size), err, LIMIT, "output '%s' is too large", t->name);
        write_int(out, "],\"parameters\":{\"binary_data_size\":", (int64_t)size);
        ps_str_append(out, "}}");
        return PS_OK;
    }
    ps_str_append(out, "],\"data\":");
    PS_TRY(ps_tensor_json_write(t, out, err));
    ps_str_char(out, '}');
    return PS_OK;
}

static ps_status write_head(const ps_infer *infer, ps_str *out, ps_error *err) {
    (void)ps_str_reserve(out, 512); /* most replies in JSON need no more */
    ps_str_append(out, "{\"model_name\":");
    ps_json_write_string(out, infer->served->name);
    ps_str_append(out, ",\"model_version\":");
    ps_json_write_string(out, infer->served->version);
    if (*infer->id) {
        ps_str_append(out, ",\"id\":");
        ps_json_write_string(out, infer->id);
    }
    ps_str_append(out, ",\"outputs\":[");
    for (size_t i = 0; i < infer->n_wants; i++) {
        if (i) ps_str_char(out, ',');
        PS_TRY(write_output(&infer->wants[i], &infer->results[i], out, err));
    }
    ps_str_append(out, "]}");
    return PS_OK;
}

/* Does the output lie behind the JSON? */
static bool is_raw(const ps_infer_want *w) {
    return w->binary && !w->shm;
}

static bool reserve_tail(const ps_infer *infer, ps_str *out) {
    size_t total = 0, size;
    for (size_t i = 0; i < infer->n_wants; i++) {
        if (!is_raw(&infer->wants[i])) continue;
        if (!ps_tensor_raw_size(&infer->results[i], &size) || ps_add_overflow_size(total, size, &total)) return false;
    }
    return ps_str_reserve(out, total);
}

ps_status ps_infer_json_write(const ps_infer *infer, ps_str *out, size_t *ret_json_size, ps_error *err) {
    size_t start = out->size;
    *ret_json_size = 0;
    PS_TRY(write_head(infer, out, err));
    size_t json_size = out->size - start;
    if (!reserve_tail(infer, out)) return PS_FAIL_NOMEM(err, "a reply");
    for (size_t i = 0; i < infer->n_wants; i++) {
        if (!is_raw(&infer->wants[i])) continue;
        *ret_json_size = json_size;
        ps_tensor_raw_write(&infer->results[i], out);
    }
    return out->failed ? PS_FAIL_NOMEM(err, "a reply") : PS_OK;
}
