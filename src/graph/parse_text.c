/* parse_text.c - names, numbers, types, tensors and attribute values of the graph text. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/vec.h"
#include "graph/graph.h"
#include "graph/text_int.h"
#include "tensor/convert.h"

#define MAX_PARSED_ELEMENTS (1 << 26)

char ps__parse_peek_raw(ps_parser *p) {
    for (; isspace((unsigned char)*p->at); p->at++)
        p->line += *p->at == '\n';
    return *p->at;
}

char ps__parse_peek(ps_parser *p) {
    while (ps__parse_peek_raw(p) == '#') {
        while (*p->at && *p->at != '\n')
            p->at++;
    }
    return *p->at;
}

bool ps__parse_take(ps_parser *p, char c) {
    if (ps__parse_peek(p) != c) return false;
    p->at++;
    return true;
}

ps_status ps__parse_expect(ps_parser *p, char c) {
    if (ps__parse_take(p, c)) return PS_OK;
    return PS_FAIL(p->err, FORMAT, "line %d: expected '%c' before \"%.20s\"", p->line, c, p->at);
}

static bool name_char(char c) {
    return isalnum((unsigned char)c) || (c && strchr("_./$%-", c));
}

static size_t bare_length(const char *s) {
    size_t n = 0;
    while (name_char(s[n]) && !(s[n] == '-' && s[n + 1] == '>'))
        n++;
    return n;
}

bool ps__parse_word(ps_parser *p, const char *word) {
    ps__parse_peek(p);
    size_t n = strlen(word);
    if (bare_length(p->at) != n || strncmp(p->at, word, n) != 0) return false;
    p->at += n;
    return true;
}

/* One character of a quoted string: \" \\ \n \xHH. */
static int quoted_char(ps_parser *p) {
    if (*p->at != '\\') return (unsigned char)*p->at++;
    char c = *++p->at;
    if (c == 'x' && isxdigit((unsigned char)p->at[1]) && isxdigit((unsigned char)p->at[2])) {
        char hex[3] = { p->at[1], p->at[2], 0 };
        p->at += 3;
        return (int)strtol(hex, NULL, 16);
    }
    if (!c) return 0;
    p->at++;
    return c == 'n' ? '\n' : (unsigned char)c;
}

static ps_status parse_quoted(ps_parser *p, char **ret, size_t *ret_size) {
    const char *start = ++p->at;
    char *buf = ps_arena_alloc(&p->root->arena, strcspn(start, "\"") + 2);
    size_t n = 0, room = strcspn(start, "\"") + 1;
    while (buf && *p->at && *p->at != '"') {
        if (n == room) { /* an escaped quote was inside: the next stretch ends at the next quote */
            room = n + strcspn(p->at + 1, "\"") + 2;
            char *grown = ps_arena_alloc(&p->root->arena, room + 1);
            if (grown) memcpy(grown, buf, n);
            buf = grown;
            continue;
        }
        p->line += *p->at == '\n';
        buf[n++] = (char)quoted_char(p);
    }
    if (!buf) return PS_FAIL_NOMEM(p->err, "a string");
    if (!ps__parse_take(p, '"')) return PS_FAIL(p->err, FORMAT, "line %d: a string has no end", p->line);
    *ret = buf;
    *ret_size = n;
    return PS_OK;
}

ps_status ps__parse_name(ps_parser *p, char **ret) {
    size_t n;
    p->quoted = ps__parse_peek(p) == '"';
    if (p->quoted) return parse_quoted(p, ret, &n);
    n = bare_length(p->at);
    PS_FAIL_IF(n == 0, p->err, FORMAT, "line %d: expected a name before \"%.20s\"", p->line, p->at);
    *ret = ps_arena_strndup(&p->root->arena, p->at, n);
    if (!*ret) return PS_FAIL_NOMEM(p->err, "a name");
    p->at += n;
    return PS_OK;
}

ps_status ps__parse_int(ps_parser *p, int64_t *ret) {
    char *end;
    ps__parse_peek(p);
    errno = 0;
    *ret = strtoll(p->at, &end, 10);
    PS_FAIL_IF(end == p->at || errno, p->err, FORMAT, "line %d: expected an integer before \"%.20s\"", p->line, p->at);
    p->at = end;
    return PS_OK;
}

/* ---- types ---- */

static ps_status parse_dim(ps_parser *p, int64_t *ret) {
    char *name;
    char c = ps__parse_peek(p);
    if (isdigit((unsigned char)c)) return ps__parse_int(p, ret);
    *ret = PS_DIM_UNKNOWN;
    if (ps__parse_take(p, '?')) return PS_OK;
    PS_TRY(ps__parse_name(p, &name));
    *ret = ps_graph_symbol(p->root, name);
    return *ret ? PS_OK : PS_FAIL_NOMEM(p->err, "a symbol");
}

/* No brackets at all: rank 0. */
static ps_status parse_shape(ps_parser *p, ps_shape *s) {
    *s = ps_shape_make(0, NULL);
    if (!ps__parse_take(p, '[')) return PS_OK;
    ps__parse_peek(p);
    if (strncmp(p->at, "...]", 4) == 0) {
        p->at += 4;
        *s = ps_shape_unknown();
        return PS_OK;
    }
    while (!ps__parse_take(p, ']')) {
        if (s->rank) PS_TRY(ps__parse_expect(p, ','));
        PS_FAIL_IF(s->rank == PS_MAX_RANK, p->err, LIMIT, "line %d: more than %d dims", p->line, PS_MAX_RANK);
        PS_TRY(parse_dim(p, &s->dims[s->rank]));
        s->rank++;
    }
    return PS_OK;
}

ps_status ps__parse_type(ps_parser *p, ps_dtype *ret_dtype, ps_shape *ret_shape) {
    char *name;
    *ret_dtype = PS_DTYPE_UNDEFINED;
    if (!ps__parse_take(p, '?')) {
        PS_TRY(ps__parse_name(p, &name));
        *ret_dtype = ps_dtype_parse(name);
        PS_FAIL_IF(*ret_dtype == PS_DTYPE_UNDEFINED, p->err, FORMAT, "line %d: '%s' is no element type", p->line, name);
    }
    return parse_shape(p, ret_shape);
}

/* ---- tensors ---- */

static ps_status parse_string_element(ps_parser *p, ps_tensor *t, size_t i) {
    char *s;
    size_t n;
    PS_FAIL_IF(ps__parse_peek(p) != '"', p->err, FORMAT, "line %d: expected a string", p->line);
    PS_TRY(parse_quoted(p, &s, &n));
    return ps_tensor_set_string(t, i, s, n, p->err);
}

static void set_packed(ps_tensor *t, size_t i, double v, bool *ok) {
    int q = v >= -8 && v <= 15 ? (int)v : 0; /* out of range has no meaning in four bits */
    uint8_t *d = t->data;
    if (t->dtype == PS_DTYPE_U4 || t->dtype == PS_DTYPE_I4)
        ps_u4_set(d, i, q);
    else if (t->dtype == PS_DTYPE_U2 || t->dtype == PS_DTYPE_I2)
        ps_u2_set(d, i, q);
    else if (t->dtype == PS_DTYPE_F4E2M1)
        ps_u4_set(d, i, ps_f32_to_f4((float)v));
    else if (t->dtype == PS_DTYPE_F6E2M3 || t->dtype == PS_DTYPE_F6E3M2)
        ps_packed_set(d, i, 6, ps_f32_to_f6((float)v, t->dtype));
    else
        *ok = false;
}

static ps_status parse_number(ps_parser *p, ps_tensor *t, size_t i) {
    char *end;
    size_t size = ps_dtype_size(t->dtype);
    bool ok = true;
    ps__parse_peek(p);
    double d = strtod(p->at, &end);
    PS_FAIL_IF(end == p->at, p->err, FORMAT, "line %d: expected a number before \"%.20s\"", p->line, p->at);
    if (t->dtype == PS_DTYPE_I64)
        ((int64_t *)t->data)[i] = strtoll(p->at, NULL, 10);
    else if (t->dtype == PS_DTYPE_U64)
        ((uint64_t *)t->data)[i] = strtoull(p->at, NULL, 10);
    else if (size)
        ok = ps_convert(&d, PS_DTYPE_F64, (uint8_t *)t->data + i * size, t->dtype, 1, true);
    else
        set_packed(t, i, d, &ok);
    p->at = end;
    PS_FAIL_IF(!ok, p->err, UNSUPPORTED, "line %d: no literals of type %s", p->line, ps_dtype_name(t->dtype));
    return PS_OK;
}

static ps_status parse_elements(ps_parser *p, ps_tensor *t, size_t n) {
    size_t i = 0;
    while (!ps__parse_take(p, '}')) {
        if (i) PS_TRY(ps__parse_expect(p, ','));
        ps__parse_peek(p);
        size_t size = ps_dtype_size(t->dtype);
        if (i && size && strncmp(p->at, "...", 3) == 0 && t->dtype != PS_DTYPE_STRING) {
            p->at += 3;
            for (; i < n; i++)
                memcpy((char *)t->data + i * size, (char *)t->data + (i - 1) * size, size);
            continue;
        }
        PS_FAIL_IF(i == n, p->err, FORMAT, "line %d: more than %zu elements", p->line, n);
        PS_TRY(t->dtype == PS_DTYPE_STRING ? parse_string_element(p, t, i) : parse_number(p, t, i));
        i++;
    }
    PS_FAIL_IF(i != n, p->err, FORMAT, "line %d: %zu elements, the shape has %zu", p->line, i, n);
    return PS_OK;
}

/* The xorshift64* generator (Vigna, arXiv:1402.6246). */
static uint64_t next_random(uint64_t *s) {
    *s ^= *s >> 12;
    *s ^= *s << 25;
    *s ^= *s >> 27;
    return *s * 2685821657736338717u;
}

/* Weights for tests: floats uniform in [-1, 1), integers and packed types of any bits. */
static ps_status parse_random(ps_parser *p, ps_tensor *t, size_t n) {
    int64_t seed;
    PS_TRY(ps__parse_expect(p, '('));
    PS_TRY(ps__parse_int(p, &seed));
    uint64_t s = (uint64_t)seed * 2654435761u + 88172645463325252u;
    const size_t size = ps_dtype_size(t->dtype);
    const bool bits = size == 0 || ps_dtype_is_int(t->dtype);
    for (size_t i = 0; i < (bits ? t->bytes : n); i++) {
        const uint64_t r = next_random(&s);
        const double v = (double)(r >> 40) / (1 << 23) - 1.0;
        if (bits) {
            ((uint8_t *)t->data)[i] = (uint8_t)(r >> 56);
            continue;
        }
        PS_FAIL_IF(!ps_dtype_is_float(t->dtype) ||
                       !ps_convert(&v, PS_DTYPE_F64, (uint8_t *)t->data + i * size, t->dtype, 1, true),
                   p->err, FORMAT, "line %d: random() makes float and integer tensors only", p->line);
    }
    const size_t used = size ? 0 : n * ps_dtype_bits(t->dtype) % 8;
    if (used) ((uint8_t *)t->data)[t->bytes - 1] &= (uint8_t)((1u << used) - 1);
    return ps__parse_expect(p, ')');
}

ps_status ps__parse_content(ps_parser *p, ps_dtype dtype, const ps_shape *shape, ps_tensor **ret) {
    int64_t n;
    PS_FAIL_IF(ps__parse_peek_raw(p) == '#', p->err, FORMAT, "line %d: a digest cannot be read back", p->line);
    PS_FAIL_IF(dtype == PS_DTYPE_UNDEFINED || !ps_shape_elements(shape, &n) || n > MAX_PARSED_ELEMENTS, p->err, FORMAT,
               "line %d: a constant needs a type and a fixed shape", p->line);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(p->alloc, dtype, shape, &t, p->err));
    ps_status status = ps__parse_take(p, '{') ? parse_elements(p, t, (size_t)n) : parse_random(p, t, (size_t)n);
    if (status != PS_OK) {
        ps_tensor_release(t);
        return status;
    }
    *ret = t;
    return PS_OK;
}

ps_status ps__parse_tensor(ps_parser *p, const char *dtype, ps_tensor **ret) {
    ps_dtype t = ps_dtype_parse(dtype);
    ps_shape shape;
    PS_FAIL_IF(t == PS_DTYPE_UNDEFINED, p->err, FORMAT, "line %d: '%s' is no element type", p->line, dtype);
    PS_TRY(parse_shape(p, &shape));
    return ps__parse_content(p, t, &shape, ret);
}

/* ---- attribute values ---- */

typedef struct list {
    PS_VEC(int64_t) ints;
    PS_VEC(float) floats;
    PS_VEC(const char *) strings;
    size_t n;
} list;

static bool scan_number(ps_parser *p, double *d, int64_t *i, bool *is_float) {
    char *end;
    ps__parse_peek(p);
    *d = strtod(p->at, &end);
    if (end == p->at) return false;
    *i = strtoll(p->at, NULL, 10);
    *is_float = false;
    for (const char *c = p->at; c < end; c++)
        *is_float |= !isdigit((unsigned char)*c) && *c != '-' && *c != '+';
    p->at = end;
    return true;
}

static ps_status parse_list_items(ps_parser *p, list *l, bool *any_float) {
    do {
        bool ok, f = false;
        double d = 0;
        int64_t i = 0;
        if (ps__parse_peek(p) == '"') {
            char *s;
            size_t n;
            PS_TRY(parse_quoted(p, &s, &n));
            ok = ps_vec_push(p->alloc, &l->strings, s);
        } else {
            PS_FAIL_IF(!scan_number(p, &d, &i, &f), p->err, FORMAT, "line %d: expected a number before \"%.20s\"",
                       p->line, p->at);
            *any_float |= f;
            ok = ps_vec_push(p->alloc, &l->ints, i) && ps_vec_push(p->alloc, &l->floats, (float)d);
        }
        if (!ok) return PS_FAIL_NOMEM(p->err, "an attribute");
        l->n++;
    } while (ps__parse_take(p, ','));
    PS_FAIL_IF(l->strings.size && l->ints.size, p->err, FORMAT, "line %d: a list mixes strings and numbers", p->line);
    return ps__parse_expect(p, ']');
}

static ps_status keep_list(ps_parser *p, const list *l, bool any_float, ps_attr *a) {
    ps_arena *arena = &p->root->arena;
    a->n = l->n;
    if (l->strings.size) {
        a->type = PS_ATTR_STRINGS;
        a->u.strings = ps_arena_memdup(arena, l->strings.data, l->n * sizeof *l->strings.data);
    } else if (any_float) {
        a->type = PS_ATTR_FLOATS;
        a->u.floats = ps_arena_memdup(arena, l->floats.data, l->n * sizeof *l->floats.data);
    } else {
        a->type = PS_ATTR_INTS;
        a->u.ints = ps_arena_memdup(arena, l->ints.data, l->n * sizeof *l->ints.data);
    }
    return a->u.ints ? PS_OK : PS_FAIL_NOMEM(p->err, "an attribute");
}

static ps_status parse_list(ps_parser *p, ps_attr *a) {
    list l = { 0 };
    bool any_float = false;
    ps_status status = parse_list_items(p, &l, &any_float);
    if (status == PS_OK) status = keep_list(p, &l, any_float, a);
    ps_vec_release(p->alloc, &l.ints);
    ps_vec_release(p->alloc, &l.floats);
    ps_vec_release(p->alloc, &l.strings);
    return status;
}

static bool parse_empty_list(ps_parser *p, ps_attr *a) {
    static const struct {
        const char *text;
        ps_attr_type type;
    } kinds[] = { { "ints[]", PS_ATTR_INTS },
                  { "floats[]", PS_ATTR_FLOATS },
                  { "strings[]", PS_ATTR_STRINGS },
                  { "graphs[]", PS_ATTR_GRAPHS },
                  { "tensors[]", PS_ATTR_TENSORS } };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t n = strlen(kinds[i].text);
        if (strncmp(p->at, kinds[i].text, n) != 0) continue;
        p->at += n;
        a->type = kinds[i].type;
        return true;
    }
    return false;
}

ps_status ps__parse_attr_value(ps_parser *p, ps_attr *a, bool *ret_graphs) {
    *ret_graphs = false;
    char c = ps__parse_peek(p);
    double d;
    bool is_float;
    if (c == '"') {
        char *s;
        PS_TRY(parse_quoted(p, &s, &a->n));
        a->type = PS_ATTR_STRING;
        a->u.s = s;
        return PS_OK;
    }
    if (ps__parse_take(p, '[')) {
        ps__parse_peek(p);
        *ret_graphs = strncmp(p->at, "graph", 5) == 0;
        return *ret_graphs ? PS_OK : parse_list(p, a);
    }
    if (parse_empty_list(p, a)) return PS_OK;
    int64_t i;
    if (scan_number(p, &d, &i, &is_float)) {
        a->type = is_float ? PS_ATTR_FLOAT : PS_ATTR_INT;
        if (is_float)
            a->u.f = (float)d;
        else
            a->u.i = i;
        return PS_OK;
    }
    char *dtype;
    PS_TRY(ps__parse_name(p, &dtype));
    a->type = PS_ATTR_TENSOR;
    return ps__parse_tensor(p, dtype, &a->u.tensor);
}
