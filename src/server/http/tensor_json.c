#include "server/http/tensor_json.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "server/json_number.h"
#include "server/json_text.h"

/* Where the next element goes. */
typedef struct cursor {
    ps_json *r;
    const ps_infer_tensor *t;
    char *data;
    size_t at; /* elements stored */
} cursor;

typedef ps_status (*element_fn)(cursor *c, ps_error *err);

static ps_status bad_element(const cursor *c, const char *rule, ps_error *err) {
    return PS_FAIL(err, FORMAT, "input '%s', JSON byte %zu: element %zu %s %s", c->t->name, ps_json_offset(c->r), c->at,
                   rule, ps_dtype_v2_name(c->t->dtype));
}

/* ---- elements ---- */

static bool special_float(const ps_string *s, double *ret) {
    if (ps_json_key_is(s, "NaN"))
        *ret = NAN;
    else if (ps_json_key_is(s, "Infinity"))
        *ret = INFINITY;
    else if (ps_json_key_is(s, "-Infinity"))
        *ret = -INFINITY;
    else
        return false;
    return true;
}

static ps_status read_special(cursor *c, double *ret, ps_error *err) {
    ps_string s;
    if (ps_json_peek(c->r) != '"') return bad_element(c, "is no", err);
    PS_TRY(ps_json_string(c->r, &s, err));
    return special_float(&s, ret) ? PS_OK : bad_element(c, "is no", err);
}

static ps_status read_f32(cursor *c, ps_error *err) {
    ps_number n;
    float *to = (float *)c->data + c->at;
    double special;
    if (!ps_number_scan(c->r->p, c->r->end, &n)) {
        PS_TRY(read_special(c, &special, err));
        *to = (float)special;
        return PS_OK;
    }
    if (!ps_number_f32(&n, to)) return bad_element(c, "is too large for", err);
    c->r->p = n.end;
    return PS_OK;
}

static ps_status read_f64(cursor *c, ps_error *err) {
    ps_number n;
    double *to = (double *)c->data + c->at;
    if (!ps_number_scan(c->r->p, c->r->end, &n)) return read_special(c, to, err);
    if (!ps_number_f64(&n, to)) return bad_element(c, "is too large for", err);
    c->r->p = n.end;
    return PS_OK;
}

static ps_status read_signed(cursor *c, int64_t min, int64_t max, int64_t *ret, ps_error *err) {
    ps_number n;
    if (!ps_number_scan(c->r->p, c->r->end, &n) || !n.integer) return bad_element(c, "is no", err);
    if (!ps_number_i64(&n, ret) || *ret < min || *ret > max) return bad_element(c, "is out of range for", err);
    c->r->p = n.end;
    return PS_OK;
}

static ps_status read_unsigned(cursor *c, uint64_t max, uint64_t *ret, ps_error *err) {
    ps_number n;
    if (!ps_number_scan(c->r->p, c->r->end, &n) || !n.integer) return bad_element(c, "is no", err);
    if (!ps_number_u64(&n, ret) || *ret > max) return bad_element(c, "is out of range for", err);
    c->r->p = n.end;
    return PS_OK;
}

#define SIGNED(name, type, min, max)                                                                                   \
    static ps_status name(cursor *c, ps_error *err) {                                                                  \
        int64_t v;                                                                                                     \
        PS_TRY(read_signed(c, min, max, &v, err));                                                                     \
        ((type *)c->data)[c->at] = (type)v;                                                                            \
        return PS_OK;                                                                                                  \
    }
#define UNSIGNED(name, type, max)                                                                                      \
    static ps_status name(cursor *c, ps_error *err) {                                                                  \
        uint64_t v;                                                                                                    \
        PS_TRY(read_unsigned(c, max, &v, err));                                                                        \
        ((type *)c->data)[c->at] = (type)v;                                                                            \
        return PS_OK;                                                                                                  \
    }
SIGNED(read_i8, int8_t, INT8_MIN, INT8_MAX)
SIGNED(read_i16, int16_t, INT16_MIN, INT16_MAX)
SIGNED(read_i32, int32_t, INT32_MIN, INT32_MAX)
SIGNED(read_i64, int64_t, INT64_MIN, INT64_MAX)
UNSIGNED(read_u8, uint8_t, UINT8_MAX)
UNSIGNED(read_u16, uint16_t, UINT16_MAX)
UNSIGNED(read_u32, uint32_t, UINT32_MAX)
UNSIGNED(read_u64, uint64_t, UINT64_MAX)
#undef SIGNED
#undef UNSIGNED

/* true, false, and what some clients send for them: 1 and 0. */
static ps_status read_bool(cursor *c, ps_error *err) {
    uint64_t v;
    bool b;
    char first = ps_json_peek(c->r);
    if (first == '0' || first == '1') {
        PS_TRY(read_unsigned(c, 1, &v, err));
        b = v;
    } else if (ps_json_bool(c->r, &b, NULL) != PS_OK) {
        return bad_element(c, "is no", err);
    }
    c->data[c->at] = b;
    return PS_OK;
}

static ps_status read_string(cursor *c, ps_error *err) {
    if (ps_json_peek(c->r) != '"') return bad_element(c, "is no string for", err);
    return ps_json_string(c->r, (ps_string *)c->data + c->at, err);
}

/* ---- arrays ---- */

/* Reads one element without a say in what is wrong with it: NULL then. */
typedef const char *(*fast_fn)(const char *p, const char *end, char *to);

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE const char *skip_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
        p++;
    return p;
}

/* Elements of one innermost array, at most up to `limit` in all. The reader stands behind '['. `read` is asked where
 * `fast` has no answer. */
ALWAYS_INLINE ps_status read_row(cursor *c, fast_fn fast, element_fn read, size_t size, size_t limit, ps_error *err) {
    const char *p = skip_space(c->r->p, c->r->end), *const end = c->r->end;
    size_t at = c->at;
    if (p < end && *p == ']') {
        c->r->p = p + 1;
        return PS_OK;
    }
    for (;;) {
        p = skip_space(p, end);
        const char *next = at < limit ? fast(p, end, c->data + at * size) : NULL;
        if (!next) {
            c->r->p = p;
            c->at = at;
            PS_FAIL_IF(at == limit, err, SHAPE, "input '%s', JSON byte %zu: more elements than its shape has",
                       c->t->name, ps_json_offset(c->r));
            PS_TRY(read(c, err));
            next = c->r->p;
        }
        at++;
        p = skip_space(next, end);
        char separator = p < end ? *p : '\0';
        if (separator == ',') {
            p++;
            continue;
        }
        c->r->p = p;
        c->at = at;
        PS_FAIL_IF(separator != ']', err, FORMAT, "input '%s', JSON byte %zu: expected ',' or ']'", c->t->name,
                   ps_json_offset(c->r));
        c->r->p++;
        return PS_OK;
    }
}

ALWAYS_INLINE const char *fast_f32(const char *p, const char *end, char *to) {
    return ps_number_read_f32(p, end, (float *)(void *)to);
}

ALWAYS_INLINE const char *fast_f64(const char *p, const char *end, char *to) {
    return ps_number_read_f64(p, end, (double *)(void *)to);
}

ALWAYS_INLINE const char *fast_none(const char *p, const char *end, char *to) {
    return NULL;
}

#define FAST_INT(name, type, wide, read, min, max)                                                                     \
    ALWAYS_INLINE const char *name(const char *p, const char *end, char *to) {                                         \
        wide v;                                                                                                        \
        p = read(p, end, &v);                                                                                          \
        if (!p || v < (min) || v > (max)) return NULL;                                                                 \
        *(type *)(void *)to = (type)v;                                                                                 \
        return p;                                                                                                      \
    }
FAST_INT(fast_i8, int8_t, int64_t, ps_number_read_i64, INT8_MIN, INT8_MAX)
FAST_INT(fast_i16, int16_t, int64_t, ps_number_read_i64, INT16_MIN, INT16_MAX)
FAST_INT(fast_i32, int32_t, int64_t, ps_number_read_i64, INT32_MIN, INT32_MAX)
FAST_INT(fast_i64, int64_t, int64_t, ps_number_read_i64, INT64_MIN, INT64_MAX)
FAST_INT(fast_u8, uint8_t, int64_t, ps_number_read_i64, 0, UINT8_MAX)
FAST_INT(fast_u16, uint16_t, int64_t, ps_number_read_i64, 0, UINT16_MAX)
FAST_INT(fast_u32, uint32_t, int64_t, ps_number_read_i64, 0, UINT32_MAX)
FAST_INT(fast_u64, uint64_t, uint64_t, ps_number_read_u64, 0, UINT64_MAX)
#undef FAST_INT

typedef ps_status (*row_fn)(cursor *c, size_t limit, ps_error *err);

#define ROW(name, fast, read, type)                                                                                    \
    static ps_status name(cursor *c, size_t limit, ps_error *err) {                                                    \
        return read_row(c, fast, read, sizeof(type), limit, err);                                                      \
    }
ROW(row_f32, fast_f32, read_f32, float)
ROW(row_f64, fast_f64, read_f64, double)
ROW(row_i8, fast_i8, read_i8, int8_t)
ROW(row_i16, fast_i16, read_i16, int16_t)
ROW(row_i32, fast_i32, read_i32, int32_t)
ROW(row_i64, fast_i64, read_i64, int64_t)
ROW(row_u8, fast_u8, read_u8, uint8_t)
ROW(row_u16, fast_u16, read_u16, uint16_t)
ROW(row_u32, fast_u32, read_u32, uint32_t)
ROW(row_u64, fast_u64, read_u64, uint64_t)
ROW(row_bool, fast_none, read_bool, uint8_t)
ROW(row_string, fast_none, read_string, ps_string)
#undef ROW

static const struct {
    ps_dtype dtype;
    size_t size;
    row_fn row; /* NULL: no JSON form */
} forms[] = {
    { PS_DTYPE_F32, 4, row_f32 },   { PS_DTYPE_F64, 8, row_f64 },
    { PS_DTYPE_I8, 1, row_i8 },     { PS_DTYPE_I16, 2, row_i16 },
    { PS_DTYPE_I32, 4, row_i32 },   { PS_DTYPE_I64, 8, row_i64 },
    { PS_DTYPE_U8, 1, row_u8 },     { PS_DTYPE_U16, 2, row_u16 },
    { PS_DTYPE_U32, 4, row_u32 },   { PS_DTYPE_U64, 8, row_u64 },
    { PS_DTYPE_BOOL, 1, row_bool }, { PS_DTYPE_F16, 2, NULL },
    { PS_DTYPE_BF16, 2, NULL },     { PS_DTYPE_STRING, sizeof(ps_string), row_string },
};

/* Index into forms, or -1 for a type that the protocol does not have. */
static int find_form(ps_dtype dtype) {
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (forms[i].dtype == dtype) return (int)i;
    return -1;
}

/* The array at nesting level `level`, which must have dims[level] items. Recursion is bounded by the rank. */
static ps_status read_nested(cursor *c, row_fn read, int level, ps_error *err) {
    const ps_shape *s = &c->t->shape;
    ps_string key;
    ps_json_iter it;
    bool more;
    PS_TRY(ps_json_enter(c->r, '[', &it, err));
    if (level == s->rank - 1) {
        size_t start = c->at, n = (size_t)s->dims[level];
        PS_TRY(read(c, start + n, err));
        c->r->depth--;
        PS_FAIL_IF(c->at != start + n, err, SHAPE,
                   "input '%s', JSON byte %zu: a row has %zu elements, the shape says %zu", c->t->name,
                   ps_json_offset(c->r), c->at - start, n);
        return PS_OK;
    }
    int64_t n = 0;
    for (;; n++) {
        PS_TRY(ps_json_next(c->r, &it, &key, &more, err));
        if (!more) break;
        PS_FAIL_IF(n == s->dims[level], err, SHAPE, "input '%s', JSON byte %zu: more than %" PRId64 " items in dim %d",
                   c->t->name, ps_json_offset(c->r), s->dims[level], level);
        PS_TRY(read_nested(c, read, level + 1, err));
    }
    PS_FAIL_IF(n != s->dims[level], err, SHAPE,
               "input '%s', JSON byte %zu: %" PRId64 " items in dim %d, the shape says %" PRId64, c->t->name,
               ps_json_offset(c->r), n, level, s->dims[level]);
    return PS_OK;
}

static ps_status read_flat(cursor *c, row_fn read, ps_error *err) {
    ps_json_iter it;
    PS_TRY(ps_json_enter(c->r, '[', &it, err));
    PS_TRY(read(c, c->t->elements, err));
    c->r->depth--;
    PS_FAIL_IF(c->at != c->t->elements, err, SHAPE, "input '%s' has %zu elements, its shape says %zu", c->t->name,
               c->at, c->t->elements);
    return PS_OK;
}

/* Is the array at the reader's position one of arrays? */
static bool is_nested(const ps_json *r) {
    ps_json ahead = *r;
    if (ps_json_peek(&ahead) != '[') return false;
    ahead.p++;
    return ps_json_peek(&ahead) == '[';
}

ps_status ps_tensor_json_read(ps_json *r, ps_infer_tensor *t, ps_error *err) {
    int form = find_form(t->dtype);
    size_t bytes;
    PS_FAIL_IF(form < 0 || !forms[form].row, err, UNSUPPORTED,
               "input '%s': %s has no JSON form, send it with binary_data_size", t->name, ps_dtype_v2_name(t->dtype));
    /* every element but the last takes two characters: a shape cannot make us allocate more than a multiple of the text
     */
    PS_FAIL_IF(t->elements > (size_t)(r->end - r->p) / 2 + 1, err, SHAPE,
               "input '%s': its shape says %zu elements, \"data\" has fewer", t->name, t->elements);
    PS_FAIL_IF(ps_mul_overflow_size(t->elements, forms[form].size, &bytes), err, LIMIT, "input '%s' is too large",
               t->name);
    cursor c = { r, t, ps_arena_alloc(r->arena, bytes ? bytes : 1), 0 };
    if (!c.data) return PS_FAIL_NOMEM(err, "an input of the request");
    t->data = c.data;
    if (is_nested(r) && t->shape.rank > 1) return read_nested(&c, forms[form].row, 0, err);
    return read_flat(&c, forms[form].row, err);
}

/* ---- writing ---- */

static size_t write_special(char *buf, double v) {
    const char *text = isnan(v) ? "\"NaN\"" : v > 0 ? "\"Infinity\"" : "\"-Infinity\"";
    size_t n = strlen(text);
    memcpy(buf, text, n);
    return n;
}

static size_t write_bool(char *buf, bool v) {
    memcpy(buf, v ? "true" : "false", 5);
    return v ? 4 : 5;
}

static size_t write_element(char *buf, const ps_infer_tensor *t, size_t i) {
    switch (t->dtype) {
    case PS_DTYPE_F32: {
        float v = ((const float *)t->data)[i];
        return isfinite(v) ? ps_number_write_f32(buf, v) : write_special(buf, (double)v);
    }
    case PS_DTYPE_F64: {
        double v = ((const double *)t->data)[i];
        return isfinite(v) ? ps_number_write_f64(buf, v) : write_special(buf, v);
    }
    case PS_DTYPE_I8: return ps_number_write_i64(buf, ((const int8_t *)t->data)[i]);
    case PS_DTYPE_I16: return ps_number_write_i64(buf, ((const int16_t *)t->data)[i]);
    case PS_DTYPE_I32: return ps_number_write_i64(buf, ((const int32_t *)t->data)[i]);
    case PS_DTYPE_I64: return ps_number_write_i64(buf, ((const int64_t *)t->data)[i]);
    case PS_DTYPE_U8: return ps_number_write_u64(buf, ((const uint8_t *)t->data)[i]);
    case PS_DTYPE_U16: return ps_number_write_u64(buf, ((const uint16_t *)t->data)[i]);
    case PS_DTYPE_U32: return ps_number_write_u64(buf, ((const uint32_t *)t->data)[i]);
    case PS_DTYPE_U64: return ps_number_write_u64(buf, ((const uint64_t *)t->data)[i]);
    default: return write_bool(buf, ((const uint8_t *)t->data)[i]);
    }
}

static ps_status write_strings(const ps_infer_tensor *t, ps_str *out, ps_error *err) {
    const ps_string *s = t->data;
    for (size_t i = 0; i < t->elements; i++) {
        PS_FAIL_IF(!ps_utf8_valid(s[i].data, s[i].size), err, INVALID,
                   "output '%s': element %zu is not UTF-8, which JSON cannot carry: ask for binary_data", t->name, i);
        if (i) ps_str_char(out, ',');
        ps_json_write_string_n(out, s[i].data, s[i].size);
    }
    return PS_OK;
}

/* Blocks of elements are written straight into the string's memory. */
static bool write_numbers(const ps_infer_tensor *t, ps_str *out) {
    enum { BLOCK = 256 };
    for (size_t i = 0; i < t->elements;) {
        size_t stop = t->elements - i > BLOCK ? i + BLOCK : t->elements;
        if (!ps_str_reserve(out, BLOCK * (PS_NUMBER_TEXT + 1))) return false;
        char *p = out->data + out->size;
        for (; i < stop; i++) {
            if (i) *p++ = ',';
            p += write_element(p, t, i);
        }
        *p = '\0';
        out->size = (size_t)(p - out->data);
    }
    return true;
}

ps_status ps_tensor_json_write(const ps_infer_tensor *t, ps_str *out, ps_error *err) {
    int form = find_form(t->dtype);
    PS_FAIL_IF(form < 0 || !forms[form].row, err, INVALID, "output '%s': %s has no JSON form, ask for binary_data",
               t->name, ps_dtype_v2_name(t->dtype));
    ps_str_char(out, '[');
    if (t->dtype == PS_DTYPE_STRING)
        PS_TRY(write_strings(t, out, err));
    else if (!write_numbers(t, out))
        return PS_FAIL_NOMEM(err, "a reply");
    ps_str_char(out, ']');
    return PS_OK;
}
