/* TensorProto ↔ ps_tensor. Elements may sit in raw_data (little-endian, packed), in one of five typed fields, in
 * string_data, or in another file. All but strings are read straight from the file's bytes (see cut.c).
 * Source: onnx.proto, message TensorProto, comments of its fields. */
#include <string.h>

#include "base/wire.h"
#include "onnx/onnx_int.h"
#include "tensor/convert.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "raw_data is little-endian and is copied as it is: a big-endian host needs a byte swap here"
#endif

enum {
    FIELD_DIMS = 1,
    FIELD_DATA_TYPE = 2,
    FIELD_FLOAT = 4,
    FIELD_INT32 = 5,
    FIELD_STRING = 6,
    FIELD_INT64 = 7,
    FIELD_NAME = 8,
    FIELD_RAW = 9,
    FIELD_DOUBLE = 10,
    FIELD_UINT64 = 11,
};

/* What a TensorProto's bulk fields hold. Only one may be in use. */
typedef struct payload {
    ps_onnx_span span;
    uint32_t field; /* 0: none */
    size_t count;   /* numbers of a typed field, bytes of raw_data */
    const uint8_t *raw;
} payload;

static const char *field_name(uint32_t field) {
    switch (field) {
    case FIELD_FLOAT: return "float_data";
    case FIELD_INT32: return "int32_data";
    case FIELD_STRING: return "string_data";
    case FIELD_INT64: return "int64_data";
    case FIELD_RAW: return "raw_data";
    case FIELD_DOUBLE: return "double_data";
    case FIELD_UINT64: return "uint64_data";
    default: return "no field";
    }
}

ps_status ps_onnx_dims(const int64_t *dims, size_t n, const char *label, ps_shape *ret, ps_error *err) {
    PS_FAIL_IF(n > PS_MAX_RANK, err, LIMIT, "%s: rank %zu is more than the %d dims that polestar handles", label, n,
               PS_MAX_RANK);
    ps_shape shape = { .rank = (int32_t)n };
    for (size_t i = 0; i < n; i++) {
        PS_FAIL_IF(dims[i] < 0, err, FORMAT, "%s: dim %zu is %lld, a dim is at least 0", label, i, (long long)dims[i]);
        shape.dims[i] = dims[i];
    }
    *ret = shape;
    return PS_OK;
}

ps_status ps_onnx_tensor_header(const Onnx__TensorProto *t, const char *label, ps_dtype *ret_dtype, ps_shape *ret_shape,
                                size_t *ret_bytes, ps_error *err) {
    PS_FAIL_IF(!t->has_data_type || t->data_type == 0, err, FORMAT, "%s: has no element type", label);
    PS_FAIL_IF(!ps_dtype_valid(t->data_type), err, UNSUPPORTED, "%s: element type %d is not known", label,
               (int)t->data_type);
    PS_FAIL_IF(t->segment, err, UNSUPPORTED, "%s: is stored in segments", label);
    PS_TRY(ps_onnx_dims(t->dims, t->n_dims, label, ret_shape, err));
    int64_t elements;
    PS_FAIL_IF(!ps_shape_elements(ret_shape, &elements), err, LIMIT, "%s: the number of elements overflows", label);
    *ret_dtype = (ps_dtype)t->data_type;
    PS_FAIL_IF(!ps_dtype_bytes(*ret_dtype, elements, ret_bytes), err, LIMIT, "%s: the size in bytes overflows", label);
    return PS_OK;
}

/* ---- the payload's extent ---- */

/* Numbers in one occurrence of a typed field, packed or not. */
static bool count_numbers(const ps_wire_field *f, size_t *ret) {
    size_t width = f->number == FIELD_FLOAT ? 4 : f->number == FIELD_DOUBLE ? 8 : 0;
    *ret = 1;
    if (f->type != PS_WIRE_LEN) {
        return f->type == (width == 4 ? PS_WIRE_I32 : width == 8 ? PS_WIRE_I64 : PS_WIRE_VARINT);
    }
    if (!width) return ps_wire_count_varints(f->data, f->size, ret);
    *ret = f->size / width;
    return f->size % width == 0;
}

static ps_status measure_field(payload *p, const ps_wire_field *f, const char *label, ps_error *err) {
    size_t n;
    if (f->number == FIELD_RAW) {
        PS_FAIL_IF(f->type != PS_WIRE_LEN, err, FORMAT, "%s: raw_data holds no bytes", label);
        PS_FAIL_IF(p->raw, err, FORMAT, "%s: raw_data appears twice", label);
        p->raw = f->data;
        n = f->size;
    } else {
        PS_FAIL_IF(!count_numbers(f, &n), err, FORMAT, "%s: %s is malformed", label, field_name(f->number));
    }
    if (n == 0) return PS_OK;
    PS_FAIL_IF(p->field && p->field != f->number, err, FORMAT, "%s: has data in both %s and %s", label,
               field_name(p->field), field_name(f->number));
    p->field = f->number;
    p->count += n;
    return PS_OK;
}

static bool is_bulk(uint32_t number) {
    return number == FIELD_FLOAT || number == FIELD_INT32 || number == FIELD_INT64 ||
           (number >= FIELD_RAW && number <= FIELD_UINT64);
}

static ps_status measure(const ps_onnx_proto *proto, const Onnx__TensorProto *t, const char *label, payload *ret,
                         ps_error *err) {
    memset(ret, 0, sizeof *ret);
    if (!t->has_raw_data) return PS_OK;
    /* What stands in raw_data is our own note, written by cut.c. */
    ps_wire w;
    uint64_t index;
    ps_wire_init(&w, t->raw_data.data, t->raw_data.len);
    PS_FAIL_IF(!ps_wire_varint(&w, &index) || index >= proto->cut.n_spans, err, INTERNAL, "%s: lost its data", label);
    ret->span = proto->cut.spans[index];

    ps_wire_field f = { 0 };
    bool more;
    ps_wire_init(&w, proto->data + ret->span.offset, ret->span.size);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, err));
        if (!more) return PS_OK;
        if (is_bulk(f.number)) PS_TRY(measure_field(ret, &f, label, err));
    }
}

/* The typed field that holds elements of a dtype, and how many of its numbers n elements take. */
static uint32_t typed_field(ps_dtype dtype, size_t n, size_t bytes, size_t *ret_numbers) {
    *ret_numbers = n;
    switch (dtype) {
    case PS_DTYPE_F32: return FIELD_FLOAT;
    case PS_DTYPE_C64: *ret_numbers = bytes / 4; return FIELD_FLOAT;
    case PS_DTYPE_F64: return FIELD_DOUBLE;
    case PS_DTYPE_C128: *ret_numbers = bytes / 8; return FIELD_DOUBLE;
    case PS_DTYPE_I64: return FIELD_INT64;
    case PS_DTYPE_U32:
    case PS_DTYPE_U64: return FIELD_UINT64;
    case PS_DTYPE_STRING: return FIELD_STRING;
    default:
        /* Sub-byte elements: one number holds one byte of the packed form, or one element if that has six bits. */
        if (ps_dtype_bits(dtype) < 8 && ps_dtype_bits(dtype) != 6) *ret_numbers = bytes;
        return FIELD_INT32;
    }
}

static ps_status check_payload(const payload *p, ps_dtype dtype, const ps_shape *shape, size_t bytes, const char *label,
                               ps_error *err) {
    char text[128];
    size_t n = (size_t)ps_shape_product(shape, 0, shape->rank), numbers;
    ps_shape_text(shape, text, sizeof text);
    if (p->field == FIELD_RAW) {
        PS_FAIL_IF(p->count != bytes, err, FORMAT, "%s: raw_data has %zu bytes, %s %s needs %zu", label, p->count,
                   ps_dtype_name(dtype), text, bytes);
        return PS_OK;
    }
    uint32_t field = typed_field(dtype, n, bytes, &numbers);
    PS_FAIL_IF(p->field && p->field != field, err, TYPE, "%s: %s elements stand in %s instead of %s", label,
               ps_dtype_name(dtype), field_name(p->field), field_name(field));
    PS_FAIL_IF(!p->field && numbers, err, FORMAT, "%s: has no data, %s %s needs %zu elements", label,
               ps_dtype_name(dtype), text, n);
    PS_FAIL_IF(p->count != numbers, err, FORMAT, "%s: %s has %zu numbers, %s %s needs %zu", label, field_name(field),
               p->count, ps_dtype_name(dtype), text, numbers);
    return PS_OK;
}

/* ---- copying elements ---- */

typedef struct sink {
    uint8_t *at;
    size_t width; /* bytes an element takes, at least 1 */
    ps_dtype dtype;
    size_t n; /* elements of six bits so far; `at` stays */
} sink;

/* Low bytes of a varint. Negative numbers and bit patterns both occur for narrow types: either reading must fit. */
static bool put_integer(sink *s, uint64_t v) {
    if (s->dtype == PS_DTYPE_BOOL) {
        *s->at++ = v != 0;
        return true;
    }
    if (ps_dtype_bits(s->dtype) == 6) {
        if (v > 0x3F) return false;
        ps_packed_set(s->at, s->n++, 6, (int)v);
        return true;
    }
    if (s->width < 8) {
        int64_t i = (int64_t)v, limit = (int64_t)1 << (8 * s->width);
        if (i < -(limit / 2) || i >= limit) return false;
    }
    memcpy(s->at, &v, s->width);
    s->at += s->width;
    return true;
}

static bool put_field(sink *s, const ps_wire_field *f) {
    if (f->number == FIELD_FLOAT || f->number == FIELD_DOUBLE) {
        memcpy(s->at, f->data, f->size);
        s->at += f->size;
        return true;
    }
    if (f->type == PS_WIRE_VARINT) return put_integer(s, f->value);
    ps_wire w;
    uint64_t v;
    ps_wire_init(&w, f->data, f->size);
    while (w.at < w.end) {
        if (!ps_wire_varint(&w, &v) || !put_integer(s, v)) return false;
    }
    return true;
}

static ps_status copy_typed(const ps_onnx_proto *proto, const payload *p, ps_tensor *t, const char *label,
                            ps_error *err) {
    size_t width = ps_dtype_size(t->dtype);
    sink s = { t->data, width ? width : 1, t->dtype, 0 };
    ps_wire w;
    ps_wire_field f = { 0 };
    bool more;
    ps_wire_init(&w, proto->data + p->span.offset, p->span.size);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, err));
        if (!more) return PS_OK;
        if (f.number != p->field || (f.type == PS_WIRE_LEN && f.size == 0)) continue;
        PS_FAIL_IF(!put_field(&s, &f), err, FORMAT, "%s: %s holds a number that does not fit into %s", label,
                   field_name(f.number), ps_dtype_name(t->dtype));
    }
}

static ps_status copy_strings(const Onnx__TensorProto *p, ps_tensor *t, ps_error *err) {
    for (size_t i = 0; i < p->n_string_data; i++) {
        const ProtobufCBinaryData *s = &p->string_data[i];
        PS_TRY(ps_tensor_set_string(t, i, (const char *)s->data, s->len, err));
    }
    return PS_OK;
}

/* One stored form per value, so that equal tensors compare equal: bools are 0 or 1, unused bits of the last byte are 0.
 */
static void normalize(ps_tensor *t) {
    uint8_t *p = t->data;
    size_t bits = ps_dtype_bits(t->dtype);
    if (t->dtype == PS_DTYPE_BOOL) {
        for (size_t i = 0; i < t->bytes; i++)
            p[i] = p[i] != 0;
    }
    if (bits < 8 && t->bytes) {
        size_t used = ps_tensor_count(t) * bits % 8;
        if (used) p[t->bytes - 1] &= (uint8_t)((1u << used) - 1);
    }
}

static ps_status fill(const ps_onnx_proto *proto, const payload *p, const Onnx__TensorProto *from, ps_tensor *t,
                      const char *label, ps_error *err) {
    if (t->dtype == PS_DTYPE_STRING) return copy_strings(from, t, err);
    if (p->field == FIELD_RAW) {
        ps_pages_expect(t->data, p->count);
        memcpy(t->data, p->raw, p->count);
        ps_onnx_proto_drop(proto, p->raw, p->count);
    } else if (p->field) {
        PS_TRY(copy_typed(proto, p, t, label, err));
        ps_onnx_proto_drop(proto, proto->data + p->span.offset, p->span.size);
    }
    normalize(t);
    return PS_OK;
}

/* May kernels read these bytes where the file has them? Types that normalize() may change are copied, and so is what
 * is too small to be worth a page. */
static bool usable_as_is(ps_dtype dtype, const uint8_t *at, size_t bytes) {
    return bytes > PS_TENSOR_SMALL && (uintptr_t)at % PS_ALIGN == 0 && ps_dtype_size(dtype) && dtype != PS_DTYPE_BOOL;
}

static ps_status decode_external(ps_onnx_external *ext, const Onnx__TensorProto *t, const char *label, ps_dtype dtype,
                                 const ps_shape *shape, size_t bytes, ps_tensor **ret, ps_error *err) {
    PS_FAIL_IF(dtype == PS_DTYPE_STRING, err, FORMAT, "%s: strings cannot be stored as external data", label);
    PS_FAIL_IF(!ext, err, UNSUPPORTED, "%s: refers to external data, which needs a model file beside it", label);
    ps_tensor *file, *tensor;
    size_t offset;
    PS_TRY(ps_onnx_external_find(ext, t, label, bytes, &file, &offset, err));
    uint8_t *at = (uint8_t *)file->data + (bytes ? offset : 0);
    if (usable_as_is(dtype, at, bytes)) return ps_tensor_new_view(ext->alloc, dtype, shape, at, file, ret, err);
    PS_TRY(ps_tensor_new(ext->alloc, dtype, shape, &tensor, err));
    if (bytes) {
        ps_file_map map = { file->data, file->bytes };
        ps_pages_expect(tensor->data, bytes);
        memcpy(tensor->data, at, bytes);
        ps_file_map_drop(&map, offset, bytes);
    }
    normalize(tensor);
    *ret = tensor;
    return PS_OK;
}

ps_status ps_onnx_tensor_decode(const ps_onnx_proto *proto, ps_onnx_external *ext, const Onnx__TensorProto *t,
                                const char *label, ps_tensor **ret, ps_error *err) {
    ps_dtype dtype;
    ps_shape shape;
    size_t bytes;
    payload p;
    PS_TRY(ps_onnx_tensor_header(t, label, &dtype, &shape, &bytes, err));
    PS_TRY(measure(proto, t, label, &p, err));
    PS_FAIL_IF(t->n_string_data && p.field, err, FORMAT, "%s: has data in both string_data and %s", label,
               field_name(p.field));
    if (t->n_string_data) {
        p.field = FIELD_STRING;
        p.count = t->n_string_data;
    }
    if (t->has_data_location && t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        PS_FAIL_IF(p.field, err, FORMAT, "%s: has data in both %s and another file", label, field_name(p.field));
        return decode_external(ext, t, label, dtype, &shape, bytes, ret, err);
    }
    PS_FAIL_IF(p.field == FIELD_RAW && dtype == PS_DTYPE_STRING, err, FORMAT, "%s: strings cannot stand in raw_data",
               label);
    /* Checked before anything is allocated: the tensor is never larger than what the file really holds. */
    PS_TRY(check_payload(&p, dtype, &shape, bytes, label, err));
    ps_tensor *tensor;
    PS_TRY(ps_tensor_new(proto->alloc, dtype, &shape, &tensor, err));
    ps_status status = fill(proto, &p, t, tensor, label, err);
    if (status != PS_OK) {
        ps_tensor_release(tensor);
        return status;
    }
    *ret = tensor;
    return PS_OK;
}

/* ---- TensorProto files ---- */

ps_status ps_onnx_tensor_read(ps_alloc_state *alloc, const void *data, size_t size, ps_tensor **ret,
                              const char **ret_name, ps_error *err) {
    ps_onnx_proto proto;
    ps_tensor *tensor = NULL;
    PS_TRY(ps_onnx_proto_open_memory(alloc, &onnx__tensor_proto__descriptor, data, size, &proto, err));
    const Onnx__TensorProto *t = (const Onnx__TensorProto *)proto.message;
    ps_status status = ps_onnx_tensor_decode(&proto, NULL, t, "tensor", &tensor, err);
    if (status == PS_OK && ret_name) {
        *ret_name = ps_strdup(alloc, ps_onnx_text(t->name));
        if (!*ret_name) status = PS_FAIL_NOMEM(err, "a tensor's name");
    }
    if (status != PS_OK) {
        ps_tensor_release(tensor);
        tensor = NULL;
    }
    if (tensor) *ret = tensor;
    ps_onnx_proto_close(&proto);
    return status;
}

/* Bytes of the whole message; false on overflow. Fields in the order of their numbers and dims unpacked, as every other
 * writer of this proto2 message does. */
static bool encoded_size(const ps_tensor *t, size_t name_size, size_t *ret) {
    size_t size = 1 + ps_wire_varint_size((uint64_t)t->dtype);
    for (int i = 0; i < t->shape.rank; i++)
        size += 1 + ps_wire_varint_size((uint64_t)t->shape.dims[i]);
    if (name_size) size += ps_wire_len_size(FIELD_NAME, name_size);
    if (t->dtype == PS_DTYPE_STRING) {
        const ps_string *s = t->data;
        for (size_t i = 0; i < ps_tensor_count(t); i++) {
            if (ps_add_overflow_size(size, ps_wire_len_size(FIELD_STRING, s[i].size), &size)) return false;
        }
    } else if (ps_add_overflow_size(size, ps_wire_len_size(FIELD_RAW, t->bytes), &size)) {
        return false;
    }
    *ret = size;
    return size <= PS_ONNX_MAX_FILE;
}

static uint8_t *put_header(uint8_t *p, const ps_tensor *t) {
    for (int i = 0; i < t->shape.rank; i++) {
        p = ps_wire_put_tag(p, FIELD_DIMS, PS_WIRE_VARINT);
        p = ps_wire_put_varint(p, (uint64_t)t->shape.dims[i]);
    }
    p = ps_wire_put_tag(p, FIELD_DATA_TYPE, PS_WIRE_VARINT);
    return ps_wire_put_varint(p, (uint64_t)t->dtype);
}

static uint8_t *put_strings(uint8_t *p, const ps_tensor *t) {
    const ps_string *s = t->data;
    for (size_t i = 0; i < ps_tensor_count(t); i++)
        p = ps_wire_put_len(p, FIELD_STRING, s[i].data, s[i].size);
    return p;
}

static void put_raw(uint8_t *p, const ps_tensor *t) {
    p = ps_wire_put_tag(p, FIELD_RAW, PS_WIRE_LEN);
    p = ps_wire_put_varint(p, t->bytes);
    ps_tensor_copy_packed(t, p);
}

ps_status ps_onnx_tensor_write(ps_alloc_state *alloc, const ps_tensor *t, const char *name, void **ret_data,
                               size_t *ret_size, ps_error *err) {
    size_t name_size = name ? strlen(name) : 0, size;
    bool strings = t->dtype == PS_DTYPE_STRING;
    PS_FAIL_IF(!encoded_size(t, name_size, &size), err, LIMIT,
               "tensor '%s': %zu bytes exceed the 2 GiB of a protobuf file", ps_onnx_text(name), t->bytes);
    uint8_t *data = ps_alloc(alloc, size);
    if (!data) return PS_FAIL_NOMEM(err, "a tensor file");
    uint8_t *p = put_header(data, t);
    if (strings) p = put_strings(p, t);
    if (name_size) p = ps_wire_put_len(p, FIELD_NAME, name, name_size);
    if (!strings) put_raw(p, t);
    *ret_data = data;
    *ret_size = size;
    return PS_OK;
}
