/* infer_contents.c - InferTensorContents: elements of a tensor as repeated fields of protocol buffers. */
#include <inttypes.h>
#include <string.h>

#include "server/grpc/infer_wire_int.h"
#include "server/tensor_raw.h"

/* Which field carries a type, and how it is encoded there. */
typedef struct form {
    ps_dtype dtype;
    uint32_t field;
    ps_wire_type type; /* of one element */
    int64_t min;       /* of integers that travel in a wider type; 0, 0: all values */
    int64_t max;
} form;

static const form forms[] = {
    { PS_DTYPE_BOOL, 1, PS_WIRE_VARINT, 0, 1 },
    { PS_DTYPE_I8, 2, PS_WIRE_VARINT, INT8_MIN, INT8_MAX },
    { PS_DTYPE_I16, 2, PS_WIRE_VARINT, INT16_MIN, INT16_MAX },
    { PS_DTYPE_I32, 2, PS_WIRE_VARINT, INT32_MIN, INT32_MAX },
    { PS_DTYPE_I64, 3, PS_WIRE_VARINT, 0, 0 },
    { PS_DTYPE_U8, 4, PS_WIRE_VARINT, 0, UINT8_MAX },
    { PS_DTYPE_U16, 4, PS_WIRE_VARINT, 0, UINT16_MAX },
    { PS_DTYPE_U32, 4, PS_WIRE_VARINT, 0, UINT32_MAX },
    { PS_DTYPE_U64, 5, PS_WIRE_VARINT, 0, 0 },
    { PS_DTYPE_F32, 6, PS_WIRE_I32, 0, 0 },
    { PS_DTYPE_F64, 7, PS_WIRE_I64, 0, 0 },
    { PS_DTYPE_STRING, 8, PS_WIRE_LEN, 0, 0 },
};

static const char *const field_names[] = { "",
                                           "bool_contents",
                                           "int_contents",
                                           "int64_contents",
                                           "uint_contents",
                                           "uint64_contents",
                                           "fp32_contents",
                                           "fp64_contents",
                                           "bytes_contents" };
enum { LAST_FIELD = sizeof field_names / sizeof *field_names - 1 };

static const form *find_form(ps_dtype dtype) {
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (forms[i].dtype == dtype) return &forms[i];
    return NULL;
}

typedef struct sink {
    const form *form;
    const ps_infer_tensor *t;
    char *data; /* NULL: only count */
    size_t at;
} sink;

static ps_status out_of_range(const sink *s, ps_error *err) {
    return PS_FAIL(err, INVALID, "input '%s': element %zu is out of range for %s", s->t->name, s->at,
                   ps_dtype_v2_name(s->t->dtype));
}

/* ---- elements ---- */

static ps_status put_varint(sink *s, uint64_t bits, ps_error *err) {
    const form *f = s->form;
    int64_t v = (int64_t)bits;
    if (f->field == 2) v = (int32_t)(uint32_t)bits; /* int32: readers take the low half */
    if (f->field == 4) v = (int64_t)(uint32_t)bits;
    if (f->field == 1) v = bits != 0;
    if ((f->min || f->max) && (v < f->min || v > f->max)) return out_of_range(s, err);
    switch (ps_tensor_raw_element(f->dtype)) {
    case 1: ((uint8_t *)s->data)[s->at] = (uint8_t)v; break;
    case 2: ((uint16_t *)s->data)[s->at] = (uint16_t)v; break;
    case 4: ((uint32_t *)s->data)[s->at] = (uint32_t)v; break;
    default: ((uint64_t *)s->data)[s->at] = (uint64_t)v;
    }
    s->at++;
    return PS_OK;
}

static ps_status put_one(sink *s, const ps_wire_field *f, ps_error *err) {
    if (!s->data) {
        s->at++;
        return PS_OK;
    }
    if (f->type == PS_WIRE_VARINT) return put_varint(s, f->value, err);
    if (f->type == PS_WIRE_LEN)
        ((ps_string *)s->data)[s->at] = (ps_string) { (const char *)f->data, f->size };
    else
        memcpy(s->data + s->at * f->size, f->data, f->size);
    s->at++;
    return PS_OK;
}

static ps_status broken(const sink *s, ps_error *err) {
    return PS_FAIL(err, FORMAT, "input '%s': its %s are broken", s->t->name, field_names[s->form->field]);
}

static ps_status put_packed_varints(sink *s, const ps_wire_field *f, ps_error *err) {
    ps_wire w;
    uint64_t v;
    size_t n;
    if (!s->data) {
        if (!ps_wire_count_varints(f->data, f->size, &n)) return broken(s, err);
        s->at += n;
        return PS_OK;
    }
    ps_wire_init(&w, f->data, f->size);
    while (w.at < w.end) {
        if (!ps_wire_varint(&w, &v)) return broken(s, err);
        PS_TRY(put_varint(s, v, err));
    }
    return PS_OK;
}

static ps_status put_packed(sink *s, const ps_wire_field *f, ps_error *err) {
    if (s->form->type == PS_WIRE_VARINT) return put_packed_varints(s, f, err);
    size_t width = s->form->type == PS_WIRE_I64 ? 8 : 4;
    if (f->size % width != 0) return broken(s, err);
    if (s->data && f->size) memcpy(s->data + s->at * width, f->data, f->size);
    s->at += f->size / width;
    return PS_OK;
}

/* ---- messages ---- */

static ps_status walk_contents(sink *s, const ps_wire_field *contents, ps_error *err) {
    ps_wire w;
    ps_wire_field f;
    bool more;
    ps_wire_init(&w, contents->data, contents->size);
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, err));
        if (!more) return PS_OK;
        if (f.number > LAST_FIELD) continue;
        PS_FAIL_IF(f.number != s->form->field, err, INVALID, "input '%s' is %s, but its contents have %s", s->t->name,
                   ps_dtype_v2_name(s->t->dtype), field_names[f.number]);
        if (f.type == s->form->type)
            PS_TRY(put_one(s, &f, err));
        else if (f.type == PS_WIRE_LEN)
            PS_TRY(put_packed(s, &f, err));
        else
            return broken(s, err);
    }
}

static ps_status walk_input(sink *s, const ps_wire *input, ps_error *err) {
    ps_wire w = *input;
    ps_wire_field f;
    bool more;
    for (;;) {
        PS_TRY(ps_wire_next(&w, &f, &more, err));
        if (!more) return PS_OK;
        if (f.number == PS_WIRE_INPUT_CONTENTS && f.type == PS_WIRE_LEN) PS_TRY(walk_contents(s, &f, err));
    }
}

ps_status ps_infer_wire_contents(ps_arena *arena, ps_infer_tensor *t, const ps_wire *input, ps_error *err) {
    sink s = { .form = find_form(t->dtype), .t = t };
    size_t bytes;
    PS_FAIL_IF(!s.form, err, INVALID, "input '%s': %s has no form in contents, send it in raw_input_contents", t->name,
               ps_dtype_v2_name(t->dtype));
    PS_TRY(walk_input(&s, input, err));
    PS_FAIL_IF(s.at != t->elements, err, SHAPE, "input '%s' has %zu elements in %s, its shape says %zu", t->name, s.at,
               field_names[s.form->field], t->elements);
    PS_FAIL_IF(ps_mul_overflow_size(t->elements, ps_tensor_raw_element(t->dtype), &bytes), err, LIMIT,
               "input '%s' is too large", t->name);
    s.data = ps_arena_alloc(arena, bytes ? bytes : 1);
    if (!s.data) return PS_FAIL_NOMEM(err, "an input of the request");
    s.at = 0;
    t->data = s.data;
    return walk_input(&s, input, err);
}
