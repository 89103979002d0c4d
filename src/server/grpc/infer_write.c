/* infer_write.c - ModelInferResponse, its sizes first, then its bytes. Outputs always go to raw_output_contents, one
 * for each output, as clients pair them by position. */
#include <limits.h>
#include <string.h>

#include "base/wire.h"
#include "server/grpc/infer_wire.h"
#include "server/infer_request.h"
#include "server/tensor_raw.h"

enum { MODEL_NAME = 1, MODEL_VERSION = 2, ID = 3, PARAMETERS = 4, OUTPUTS = 5, RAW = 6 };
enum { OUTPUT_NAME = 1, OUTPUT_DATATYPE = 2, OUTPUT_SHAPE = 3, OUTPUT_PARAMETERS = 4 };
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2, PARAM_BOOL = 1, PARAM_INT64 = 2, PARAM_STRING = 3 };

static const char final_key[] = "triton_final_response";
static const char region_key[] = "shared_memory_region", offset_key[] = "shared_memory_offset",
                  size_key[] = "shared_memory_byte_size";

struct ps_infer_wire_output {
    size_t shape, message; /* bytes of the packed shape and of the whole message */
    size_t raw;            /* bytes of raw_output_contents; in shared memory: none */
    size_t stored;         /* bytes in shared memory */
};

/* ---- parameters: map entries of a text and an InferParameter ---- */

static size_t varint_field_size(uint32_t number, uint64_t v) {
    return ps_wire_varint_size((uint64_t)number << 3) + ps_wire_varint_size(v);
}

static size_t entry_size(const char *key, size_t value) {
    return ps_wire_len_size(ENTRY_KEY, strlen(key)) + ps_wire_len_size(ENTRY_VALUE, value);
}

/* Up to where the value's own bytes begin. */
static uint8_t *put_entry(uint8_t *p, uint32_t number, const char *key, size_t value) {
    p = ps_wire_put_tag(p, number, PS_WIRE_LEN);
    p = ps_wire_put_varint(p, entry_size(key, value));
    p = ps_wire_put_len(p, ENTRY_KEY, key, strlen(key));
    p = ps_wire_put_tag(p, ENTRY_VALUE, PS_WIRE_LEN);
    return ps_wire_put_varint(p, value);
}

static size_t text_param_size(uint32_t number, const char *key, const char *text) {
    return ps_wire_len_size(number, entry_size(key, ps_wire_len_size(PARAM_STRING, strlen(text))));
}

static uint8_t *put_text_param(uint8_t *p, uint32_t number, const char *key, const char *text) {
    p = put_entry(p, number, key, ps_wire_len_size(PARAM_STRING, strlen(text)));
    return ps_wire_put_len(p, PARAM_STRING, text, strlen(text));
}

static size_t number_param_size(uint32_t number, const char *key, uint32_t kind, uint64_t v) {
    return ps_wire_len_size(number, entry_size(key, varint_field_size(kind, v)));
}

static uint8_t *put_number_param(uint8_t *p, uint32_t number, const char *key, uint32_t kind, uint64_t v) {
    p = put_entry(p, number, key, varint_field_size(kind, v));
    p = ps_wire_put_tag(p, kind, PS_WIRE_VARINT);
    return ps_wire_put_varint(p, v);
}

/* ---- outputs ---- */

static size_t place_size(const ps_infer_want *w, size_t stored) {
    return text_param_size(OUTPUT_PARAMETERS, region_key, ps_shm_region_name(w->shm)) +
           number_param_size(OUTPUT_PARAMETERS, offset_key, PARAM_INT64, w->shm_offset) +
           number_param_size(OUTPUT_PARAMETERS, size_key, PARAM_INT64, stored);
}

static uint8_t *put_place(uint8_t *p, const ps_infer_want *w, size_t stored) {
    p = put_text_param(p, OUTPUT_PARAMETERS, region_key, ps_shm_region_name(w->shm));
    p = put_number_param(p, OUTPUT_PARAMETERS, offset_key, PARAM_INT64, w->shm_offset);
    return put_number_param(p, OUTPUT_PARAMETERS, size_key, PARAM_INT64, stored);
}

static ps_status measure_output(ps_infer *infer, size_t i, struct ps_infer_wire_output *ret, ps_error *err) {
    const ps_infer_tensor *t = &infer->results[i];
    const ps_infer_want *w = &infer->wants[i];
    *ret = (struct ps_infer_wire_output) { 0 };
    if (w->shm)
        PS_TRY(ps_infer_write_memory(w, t, infer->arena.alloc, &ret->stored, err));
    else
        PS_FAIL_IF(!ps_tensor_raw_size(t, &ret->raw), err, LIMIT, "output '%s' is too large", t->name);
    for (int d = 0; d < t->shape.rank; d++)
        ret->shape += ps_wire_varint_size((uint64_t)t->shape.dims[d]);
    ret->message = ps_wire_len_size(OUTPUT_NAME, strlen(t->name)) +
                   ps_wire_len_size(OUTPUT_DATATYPE, strlen(ps_dtype_v2_name(t->dtype))) +
                   (t->shape.rank ? ps_wire_len_size(OUTPUT_SHAPE, ret->shape) : 0) +
                   (w->shm ? place_size(w, ret->stored) : 0);
    return PS_OK;
}

static uint8_t *put_output(uint8_t *p, const ps_infer_want *w, const ps_infer_tensor *t,
                           const struct ps_infer_wire_output *o) {
    const char *type = ps_dtype_v2_name(t->dtype);
    p = ps_wire_put_tag(p, OUTPUTS, PS_WIRE_LEN);
    p = ps_wire_put_varint(p, o->message);
    p = ps_wire_put_len(p, OUTPUT_NAME, t->name, strlen(t->name));
    p = ps_wire_put_len(p, OUTPUT_DATATYPE, type, strlen(type));
    if (t->shape.rank) {
        p = ps_wire_put_tag(p, OUTPUT_SHAPE, PS_WIRE_LEN);
        p = ps_wire_put_varint(p, o->shape);
        for (int d = 0; d < t->shape.rank; d++)
            p = ps_wire_put_varint(p, (uint64_t)t->shape.dims[d]);
    }
    return w->shm ? put_place(p, w, o->stored) : p;
}

/* ---- the reply ---- */

static size_t text_size(uint32_t number, const char *text) {
    return *text ? ps_wire_len_size(number, strlen(text)) : 0;
}

static uint8_t *put_text(uint8_t *p, uint32_t number, const char *text) {
    return *text ? ps_wire_put_len(p, number, text, strlen(text)) : p;
}

ps_status ps_infer_wire_measure(ps_infer *infer, bool final, ps_infer_wire_reply *ret, ps_error *err) {
    *ret = (ps_infer_wire_reply) { .infer = infer, .final = final };
    ret->outputs = ps_arena_array(&infer->arena, infer->n_wants + 1, sizeof *ret->outputs);
    if (!ret->outputs) return PS_FAIL_NOMEM(err, "a reply");
    ret->size = text_size(MODEL_NAME, infer->served->name) + text_size(MODEL_VERSION, infer->served->version) +
                text_size(ID, infer->id) + (final ? number_param_size(PARAMETERS, final_key, PARAM_BOOL, 1) : 0);
    for (size_t i = 0; i < infer->n_wants; i++) {
        struct ps_infer_wire_output *o = &ret->outputs[i];
        PS_TRY(measure_output(infer, i, o, err));
        size_t more = ps_wire_len_size(OUTPUTS, o->message) + ps_wire_len_size(RAW, o->raw);
        PS_FAIL_IF(o->raw > INT_MAX || more > INT_MAX - ret->size, err, LIMIT,
                   "the outputs take more than the %d bytes that a message can have", INT_MAX);
        ret->size += more;
    }
    return PS_OK;
}

uint8_t *ps_infer_wire_put(const ps_infer_wire_reply *reply, uint8_t *p) {
    const ps_infer *infer = reply->infer;
    p = put_text(p, MODEL_NAME, infer->served->name);
    p = put_text(p, MODEL_VERSION, infer->served->version);
    p = put_text(p, ID, infer->id);
    if (reply->final) p = put_number_param(p, PARAMETERS, final_key, PARAM_BOOL, 1);
    for (size_t i = 0; i < infer->n_wants; i++)
        p = put_output(p, &infer->wants[i], &infer->results[i], &reply->outputs[i]);
    for (size_t i = 0; i < infer->n_wants; i++) {
        p = ps_wire_put_tag(p, RAW, PS_WIRE_LEN);
        p = ps_wire_put_varint(p, reply->outputs[i].raw);
        if (!infer->wants[i].shm) p = ps_tensor_raw_put(&infer->results[i], p);
    }
    return p;
}
