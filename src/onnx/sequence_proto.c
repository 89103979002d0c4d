/* SequenceProto, OptionalProto and MapProto ↔ containers. These messages stand in files of test data, never in models,
 * and the schema that the build compiles (onnx.proto) lacks them, so they are read and written by tags and lengths
 * alone. Source: onnx-data.proto of the ONNX project. */
#include <string.h>

#include "base/vec.h"
#include "base/wire.h"
#include "onnx/onnx.h"
#include "onnx/onnx_int.h"

enum { /* fields of SequenceProto and, but for the plural, of OptionalProto */
       NAME = 1,
       ELEM_TYPE = 2,
       TENSORS = 3,
       SPARSE_TENSORS = 4,
       SEQUENCES = 5,
       MAPS = 6,
       OPTIONALS = 7
};
enum { MAP_KEY_TYPE = 2, MAP_KEYS = 3, MAP_STRING_KEYS = 4, MAP_VALUES = 5 };
enum { KIND_TENSOR = 1, KIND_SEQUENCE = 3, KIND_MAP = 4, KIND_OPTIONAL = 5 }; /* values of elem_type */

/* ---- reading ---- */

typedef struct reader {
    ps_alloc_state *alloc;
    int depth;
    ps_error *err;
} reader;

static ps_status read_kind(reader *r, ps_dtype kind, const uint8_t *data, size_t size, ps_tensor **ret);

static ps_status read_element(reader *r, const ps_wire_field *f, ps_tensor **ret) {
    PS_FAIL_IF(f->type != PS_WIRE_LEN, r->err, FORMAT, "an element is no message");
    PS_FAIL_IF(f->number == SPARSE_TENSORS, r->err, UNSUPPORTED, "an element is a sparse tensor");
    ps_dtype kind = f->number == SEQUENCES   ? PS_DTYPE_SEQUENCE
                    : f->number == MAPS      ? PS_DTYPE_MAP
                    : f->number == OPTIONALS ? PS_DTYPE_OPTIONAL
                                             : PS_DTYPE_UNDEFINED;
    return read_kind(r, kind, f->data, f->size, ret);
}

static bool is_element(const ps_wire_field *f) {
    return f->number >= TENSORS && f->number <= OPTIONALS;
}

static ps_status count_elements(reader *r, const uint8_t *data, size_t size, size_t *ret) {
    ps_wire w;
    ps_wire_field f = { 0 };
    bool more;
    *ret = 0;
    ps_wire_init(&w, data, size);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, r->err));
        if (!more) return PS_OK;
        *ret += is_element(&f);
    }
}

/* Elements in the order of the file; those of one kind only, as the format says. */
static ps_status read_elements(reader *r, const uint8_t *data, size_t size, ps_tensor *into) {
    ps_wire w;
    ps_wire_field f = { 0 };
    bool more;
    uint32_t kind = 0;
    ps_wire_init(&w, data, size);
    for (size_t k = 0;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, r->err));
        if (!more) return PS_OK;
        if (!is_element(&f)) continue;
        PS_FAIL_IF(kind && kind != f.number, r->err, FORMAT, "the elements are of different kinds");
        kind = f.number;
        ps_tensor *element = NULL;
        PS_TRY(read_element(r, &f, &element));
        ps_status status = ps_container_take(into, k++, element, r->err);
        if (status != PS_OK) {
            ps_tensor_release(element);
            return status;
        }
    }
}

static ps_status read_list(reader *r, ps_dtype kind, const uint8_t *data, size_t size, ps_tensor **ret) {
    size_t n;
    PS_TRY(count_elements(r, data, size, &n));
    PS_FAIL_IF(kind == PS_DTYPE_OPTIONAL && n > 1, r->err, FORMAT, "an optional holds %zu values", n);
    PS_TRY(ps_container_new(r->alloc, kind, n, ret, r->err));
    return read_elements(r, data, size, *ret);
}

/* ---- maps ---- */

typedef struct map_keys {
    PS_VEC(int64_t) ints;
    PS_VEC(ps_string) strings; /* into the message */
    const uint8_t *values;
    size_t values_size;
} map_keys;

static ps_status read_int_keys(reader *r, const ps_wire_field *f, map_keys *keys) {
    ps_wire w;
    uint64_t v = f->value;
    if (f->type == PS_WIRE_VARINT)
        return ps_vec_push(r->alloc, &keys->ints, (int64_t)v) ? PS_OK : PS_FAIL_NOMEM(r->err, "the keys of a map");
    PS_FAIL_IF(f->type != PS_WIRE_LEN, r->err, FORMAT, "the keys of a map are no integers");
    ps_wire_init(&w, f->data, f->size);
    while (w.at < w.end) {
        PS_FAIL_IF(!ps_wire_varint(&w, &v), r->err, FORMAT, "a key of a map is cut short");
        if (!ps_vec_push(r->alloc, &keys->ints, (int64_t)v)) return PS_FAIL_NOMEM(r->err, "the keys of a map");
    }
    return PS_OK;
}

static ps_status read_map_fields(reader *r, const uint8_t *data, size_t size, map_keys *keys) {
    ps_wire w;
    ps_wire_field f = { 0 };
    bool more;
    ps_wire_init(&w, data, size);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, r->err));
        if (!more) return PS_OK;
        if (f.number == MAP_KEYS) PS_TRY(read_int_keys(r, &f, keys));
        if (f.number != MAP_STRING_KEYS && f.number != MAP_VALUES) continue;
        PS_FAIL_IF(f.type != PS_WIRE_LEN, r->err, FORMAT, "a key or the values of a map are malformed");
        if (f.number == MAP_VALUES) {
            keys->values = f.data;
            keys->values_size = f.size;
        } else {
            ps_string s = { (const char *)f.data, f.size };
            if (!ps_vec_push(r->alloc, &keys->strings, s)) return PS_FAIL_NOMEM(r->err, "the keys of a map");
        }
    }
}

static ps_status make_keys(reader *r, const map_keys *keys, ps_tensor **ret) {
    bool strings = keys->strings.size > 0;
    ps_shape shape = { 1, { (int64_t)(strings ? keys->strings.size : keys->ints.size) } };
    PS_FAIL_IF(strings && keys->ints.size, r->err, FORMAT, "a map has keys of both kinds");
    PS_TRY(ps_tensor_new(r->alloc, strings ? PS_DTYPE_STRING : PS_DTYPE_I64, &shape, ret, r->err));
    if (!strings && keys->ints.size) memcpy((*ret)->data, keys->ints.data, (*ret)->bytes);
    for (size_t k = 0; k < keys->strings.size; k++)
        PS_TRY(ps_tensor_set_string(*ret, k, keys->strings.data[k].data, keys->strings.data[k].size, r->err));
    return PS_OK;
}

/* One number or string each: a plain list of them. Anything else stays a sequence. */
static bool is_plain(const ps_tensor *values) {
    const ps_tensor *first = ps_tensor_element(values, 0);
    for (size_t k = 0, n = ps_tensor_count(values); k < n; k++) {
        const ps_tensor *e = ps_tensor_element(values, k);
        if (ps_dtype_is_container(e->dtype) || e->dtype != first->dtype || ps_tensor_count(e) != 1 ||
            ps_dtype_size(e->dtype) == 0)
            return false;
    }
    return first != NULL;
}

static ps_status flatten(reader *r, const ps_tensor *values, ps_tensor **ret) {
    ps_dtype dtype = ps_tensor_element(values, 0)->dtype;
    PS_TRY(ps_tensor_new(r->alloc, dtype, &values->shape, ret, r->err));
    for (size_t k = 0, n = ps_tensor_count(values); k < n; k++) {
        const ps_tensor *e = ps_tensor_element(values, k);
        if (dtype == PS_DTYPE_STRING) {
            const ps_string *s = e->data;
            PS_TRY(ps_tensor_set_string(*ret, k, s->data, s->size, r->err));
        } else {
            memcpy((uint8_t *)(*ret)->data + k * e->bytes, e->data, e->bytes);
        }
    }
    return PS_OK;
}

static ps_status make_values(reader *r, const map_keys *keys, size_t n, ps_tensor **ret) {
    ps_tensor *values = NULL;
    ps_status status = read_kind(r, PS_DTYPE_SEQUENCE, keys->values, keys->values_size, &values);
    if (status == PS_OK && ps_tensor_count(values) != n)
        status = PS_FAIL(r->err, FORMAT, "a map has %zu keys and %zu values", n, ps_tensor_count(values));
    if (status == PS_OK && is_plain(values))
        status = flatten(r, values, ret);
    else if (status == PS_OK)
        *ret = ps_tensor_retain(values);
    ps_tensor_release(values);
    return status;
}

static ps_status fill_map(reader *r, const map_keys *keys, ps_tensor *map) {
    ps_tensor *parts[2] = { NULL, NULL };
    ps_status status = make_keys(r, keys, &parts[0]);
    if (status == PS_OK) status = make_values(r, keys, ps_tensor_count(parts[0]), &parts[1]);
    for (size_t k = 0; k < 2; k++) {
        if (status == PS_OK) status = ps_tensor_set_element(map, k, parts[k], r->err);
        ps_tensor_release(parts[k]);
    }
    return status;
}

static ps_status read_map(reader *r, const uint8_t *data, size_t size, ps_tensor **ret) {
    map_keys keys = { 0 };
    ps_status status = read_map_fields(r, data, size, &keys);
    if (status == PS_OK) status = ps_container_new(r->alloc, PS_DTYPE_MAP, 2, ret, r->err);
    if (status == PS_OK) status = fill_map(r, &keys, *ret);
    ps_vec_release(r->alloc, &keys.ints);
    ps_vec_release(r->alloc, &keys.strings);
    return status;
}

static ps_status read_kind(reader *r, ps_dtype kind, const uint8_t *data, size_t size, ps_tensor **ret) {
    if (!ps_dtype_is_container(kind)) return ps_onnx_tensor_read(r->alloc, data, size, ret, NULL, r->err);
    PS_FAIL_IF(r->depth >= PS_MAX_NESTING, r->err, LIMIT, "more than %d containers in each other", PS_MAX_NESTING);
    ps_tensor *made = NULL;
    r->depth++;
    ps_status status = kind == PS_DTYPE_MAP ? read_map(r, data, size, &made) : read_list(r, kind, data, size, &made);
    r->depth--;
    if (status != PS_OK) {
        ps_tensor_release(made);
        return status;
    }
    *ret = made;
    return PS_OK;
}

ps_status ps_onnx_value_read(ps_alloc_state *alloc, const void *data, size_t size, ps_dtype kind, ps_tensor **ret,
                             ps_error *err) {
    reader r = { alloc, 0, err };
    return read_kind(&r, kind, data, size, ret);
}

/* ---- writing ---- */

static void put_varint(ps_str *out, uint64_t v) {
    uint8_t bytes[10];
    ps_str_append_n(out, bytes, (size_t)(ps_wire_put_varint(bytes, v) - bytes));
}

static void put_number(ps_str *out, uint32_t field, uint64_t v) {
    put_varint(out, field << 3 | PS_WIRE_VARINT);
    put_varint(out, v);
}

static void put_bytes(ps_str *out, uint32_t field, const void *data, size_t size) {
    put_varint(out, field << 3 | PS_WIRE_LEN);
    put_varint(out, size);
    ps_str_append_n(out, data, size);
}

static ps_status write_kind(ps_alloc_state *alloc, const ps_tensor *t, const char *name, ps_str *out, ps_error *err);

/* As a field of the message around it. */
static ps_status write_part(ps_alloc_state *alloc, const ps_tensor *t, uint32_t field, ps_str *out, ps_error *err) {
    ps_str part;
    ps_str_init(&part, alloc);
    ps_status status = write_kind(alloc, t, NULL, &part, err);
    if (status == PS_OK && part.failed) status = PS_FAIL_NOMEM(err, "a file of tensors");
    if (status == PS_OK) put_bytes(out, field, part.data, part.size);
    ps_str_release(&part);
    return status;
}

static uint32_t kind_of(const ps_tensor *t) {
    switch (t->dtype) {
    case PS_DTYPE_SEQUENCE: return KIND_SEQUENCE;
    case PS_DTYPE_MAP: return KIND_MAP;
    case PS_DTYPE_OPTIONAL: return KIND_OPTIONAL;
    default: return KIND_TENSOR;
    }
}

static uint32_t field_of(const ps_tensor *t) {
    switch (t->dtype) {
    case PS_DTYPE_SEQUENCE: return SEQUENCES;
    case PS_DTYPE_MAP: return MAPS;
    case PS_DTYPE_OPTIONAL: return OPTIONALS;
    default: return TENSORS;
    }
}

static ps_status write_list(ps_alloc_state *alloc, const ps_tensor *t, ps_str *out, ps_error *err) {
    const ps_tensor *first = ps_tensor_element(t, 0);
    put_number(out, ELEM_TYPE, first ? kind_of(first) : 0);
    for (size_t k = 0, n = ps_tensor_count(t); k < n; k++) {
        const ps_tensor *e = ps_tensor_element(t, k);
        if (e) PS_TRY(write_part(alloc, e, field_of(e), out, err));
    }
    return PS_OK;
}

/* The values of a map are a sequence of scalars in the file. */
static ps_status write_scalars(ps_alloc_state *alloc, const ps_tensor *values, ps_str *out, ps_error *err) {
    ps_shape scalar = { 0 };
    ps_str sequence;
    ps_status status = PS_OK;
    ps_str_init(&sequence, alloc);
    put_number(&sequence, ELEM_TYPE, KIND_TENSOR);
    for (size_t k = 0, n = ps_tensor_count(values); k < n && status == PS_OK; k++) {
        ps_tensor one;
        ps_tensor_init_view(&one, values->dtype, &scalar, (uint8_t *)values->data + k * ps_dtype_size(values->dtype));
        status = write_part(alloc, &one, TENSORS, &sequence, err);
    }
    if (status == PS_OK && sequence.failed) status = PS_FAIL_NOMEM(err, "a file of tensors");
    if (status == PS_OK) put_bytes(out, MAP_VALUES, sequence.data, sequence.size);
    ps_str_release(&sequence);
    return status;
}

static ps_status write_map(ps_alloc_state *alloc, const ps_tensor *t, ps_str *out, ps_error *err) {
    const ps_tensor *keys = ps_tensor_element(t, 0), *values = ps_tensor_element(t, 1);
    PS_FAIL_IF(!keys || !values, err, INVALID, "a map lacks its keys or its values");
    PS_FAIL_IF(keys->dtype != PS_DTYPE_I64 && keys->dtype != PS_DTYPE_STRING, err, UNSUPPORTED,
               "a map with keys of %s cannot be written", ps_dtype_name(keys->dtype));
    put_number(out, MAP_KEY_TYPE, keys->dtype);
    for (size_t k = 0, n = ps_tensor_count(keys); k < n; k++) {
        if (keys->dtype == PS_DTYPE_I64) {
            put_number(out, MAP_KEYS, (uint64_t)((const int64_t *)keys->data)[k]);
        } else {
            const ps_string *s = (const ps_string *)keys->data + k;
            put_bytes(out, MAP_STRING_KEYS, s->data, s->size);
        }
    }
    if (values->dtype == PS_DTYPE_SEQUENCE) return write_part(alloc, values, MAP_VALUES, out, err);
    return write_scalars(alloc, values, out, err);
}

static ps_status write_tensor(ps_alloc_state *alloc, const ps_tensor *t, const char *name, ps_str *out, ps_error *err) {
    void *data = NULL;
    size_t size;
    PS_TRY(ps_onnx_tensor_write(alloc, t, name, &data, &size, err));
    ps_str_append_n(out, data, size);
    ps_free(alloc, data);
    return PS_OK;
}

static ps_status write_kind(ps_alloc_state *alloc, const ps_tensor *t, const char *name, ps_str *out, ps_error *err) {
    if (!ps_dtype_is_container(t->dtype)) return write_tensor(alloc, t, name, out, err);
    if (name && name[0]) put_bytes(out, NAME, name, strlen(name));
    PS_TRY(t->dtype == PS_DTYPE_MAP ? write_map(alloc, t, out, err) : write_list(alloc, t, out, err));
    PS_FAIL_IF(out->size > PS_ONNX_MAX_FILE, err, LIMIT, "%zu bytes exceed the 2 GiB of a protobuf file", out->size);
    return out->failed ? PS_FAIL_NOMEM(err, "a file of tensors") : PS_OK;
}

ps_status ps_onnx_value_write(ps_alloc_state *alloc, const ps_tensor *t, const char *name, void **ret_data,
                              size_t *ret_size, ps_error *err) {
    if (!ps_dtype_is_container(t->dtype)) return ps_onnx_tensor_write(alloc, t, name, ret_data, ret_size, err);
    ps_str out;
    ps_str_init(&out, alloc);
    ps_status status = write_kind(alloc, t, name, &out, err);
    *ret_size = out.size;
    *ret_data = status == PS_OK ? ps_str_take(&out) : NULL;
    ps_str_release(&out);
    if (status == PS_OK && !*ret_data) return PS_FAIL_NOMEM(err, "a file of tensors");
    return status;
}
