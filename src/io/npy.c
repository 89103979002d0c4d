/* npy.c - numpy's .npy format, versions 1.0 to 3.0.
 *
 *   offset 0  "\x93NUMPY"
 *          6  major, minor version
 *          8  length of the header: u16 (version 1) or u32 (2 and 3), little-endian
 *         10  header: a Python dict literal, {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
 *             then the elements
 *
 * Source: numpy.lib.format (NEP 1). The header is untrusted text: it is read by a small parser of exactly that grammar.
 */
#include "io/io.h"

#include <ctype.h>
#include <stdio.h>

enum { MAX_HEADER = 1 << 20, MAGIC_SIZE = 8, WRITE_ALIGN = 64 };

static const uint8_t magic[6] = { 0x93, 'N', 'U', 'M', 'P', 'Y' };

/* ---- types ---- */
static const struct {
    char kind, size;
    ps_dtype dtype;
} types[] = {
    { 'b', '1', PS_DTYPE_BOOL }, { 'i', '1', PS_DTYPE_I8 },  { 'u', '1', PS_DTYPE_U8 },  { 'i', '2', PS_DTYPE_I16 },
    { 'u', '2', PS_DTYPE_U16 },  { 'f', '2', PS_DTYPE_F16 }, { 'i', '4', PS_DTYPE_I32 }, { 'u', '4', PS_DTYPE_U32 },
    { 'f', '4', PS_DTYPE_F32 },  { 'i', '8', PS_DTYPE_I64 }, { 'u', '8', PS_DTYPE_U64 }, { 'f', '8', PS_DTYPE_F64 },
    { 'c', '8', PS_DTYPE_C64 },
};
enum { N_TYPES = sizeof types / sizeof *types };

/* "<f4", "|b1", "|u1" … ; "?" alone is numpy's short name of bool. */
static ps_status parse_descr(const char *s, size_t n, ps_dtype *ret, ps_error *err) {
    char order = n > 0 && strchr("<>=|", s[0]) ? s[0] : 0;
    const char *p = s + (order != 0);
    size_t rest = n - (order != 0);
    if (rest == 1 && *p == '?') p = "b1", rest = 2;
    if (rest == 3 && memcmp(p, "c16", 3) == 0) *ret = PS_DTYPE_C128;
    for (size_t k = 0; k < N_TYPES; k++)
        if (rest == 2 && p[0] == types[k].kind && p[1] == types[k].size) *ret = types[k].dtype;
    PS_FAIL_IF(*ret == PS_DTYPE_UNDEFINED, err, UNSUPPORTED,
               "npy: element type '%.*s' is not bool, an integer, a float or complex", (int)(n > 32 ? 32 : n), s);
    PS_FAIL_IF(order == '>' && ps_dtype_size(*ret) > 1, err, UNSUPPORTED, "npy: '%.*s' is big-endian", (int)n, s);
    return PS_OK;
}

/* ---- the header ---- */
typedef struct scanner {
    const char *at, *end;
} scanner;

typedef struct npy_header {
    ps_dtype dtype;
    bool fortran, has_order, has_shape;
    ps_shape shape;
} npy_header;

static void skip_space(scanner *s) {
    while (s->at < s->end && isspace((unsigned char)*s->at))
        s->at++;
}

static bool take(scanner *s, char c) {
    skip_space(s);
    if (s->at == s->end || *s->at != c) return false;
    s->at++;
    return true;
}

static bool take_word(scanner *s, const char *word) {
    skip_space(s);
    size_t n = strlen(word);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0) return false;
    s->at += n;
    return true;
}

/* A string in either quote; there is nothing to escape in what numpy writes. */
static bool take_string(scanner *s, const char **ret, size_t *ret_n) {
    skip_space(s);
    if (s->at == s->end || (*s->at != '\'' && *s->at != '"')) return false;
    char quote = *s->at++;
    *ret = s->at;
    while (s->at < s->end && *s->at != quote && *s->at != '\\')
        s->at++;
    if (s->at == s->end || *s->at != quote) return false;
    *ret_n = (size_t)(s->at++ - *ret);
    return true;
}

static bool take_number(scanner *s, int64_t *ret) {
    skip_space(s);
    if (s->at == s->end || !isdigit((unsigned char)*s->at)) return false;
    for (*ret = 0; s->at < s->end && isdigit((unsigned char)*s->at); s->at++)
        if (__builtin_mul_overflow(*ret, 10, ret) || __builtin_add_overflow(*ret, *s->at - '0', ret)) return false;
    if (s->at < s->end && *s->at == 'L') s->at++; /* Python 2 */
    return true;
}

static ps_status parse_shape(scanner *s, ps_shape *ret, ps_error *err) {
    ret->rank = 0;
    PS_FAIL_IF(!take(s, '('), err, FORMAT, "npy: shape is not a tuple");
    while (!take(s, ')')) {
        int64_t dim;
        PS_FAIL_IF(!take_number(s, &dim), err, FORMAT, "npy: dim %d of the shape is not a number that fits", ret->rank);
        PS_FAIL_IF(ret->rank == PS_MAX_RANK, err, LIMIT, "npy: the shape has more than %d dims", PS_MAX_RANK);
        ret->dims[ret->rank++] = dim;
        if (take(s, ',')) continue;
        PS_FAIL_IF(!take(s, ')'), err, FORMAT, "npy: the shape is not closed");
        break;
    }
    return PS_OK;
}

static ps_status parse_entry(scanner *s, const char *key, size_t n, npy_header *h, ps_error *err) {
    if (n == 5 && memcmp(key, "descr", n) == 0 && h->dtype == PS_DTYPE_UNDEFINED) {
        const char *text;
        size_t size;
        PS_FAIL_IF(!take_string(s, &text, &size), err, UNSUPPORTED, "npy: descr is no string (a structured type)");
        return parse_descr(text, size, &h->dtype, err);
    }
    if (n == 13 && memcmp(key, "fortran_order", n) == 0 && !h->has_order) {
        h->fortran = take_word(s, "True");
        h->has_order = true;
        PS_FAIL_IF(!h->fortran && !take_word(s, "False"), err, FORMAT, "npy: fortran_order is neither True nor False");
        return PS_OK;
    }
    if (n == 5 && memcmp(key, "shape", n) == 0 && !h->has_shape) {
        h->has_shape = true;
        return parse_shape(s, &h->shape, err);
    }
    return PS_FAIL(err, FORMAT, "npy: unexpected or repeated key '%.*s' in the header", (int)(n > 32 ? 32 : n), key);
}

static ps_status parse_header(const char *text, size_t size, npy_header *h, ps_error *err) {
    scanner s = { text, text + size };
    PS_FAIL_IF(!take(&s, '{'), err, FORMAT, "npy: the header is not a dict");
    while (!take(&s, '}')) {
        const char *key;
        size_t n;
        PS_FAIL_IF(!take_string(&s, &key, &n) || !take(&s, ':'), err, FORMAT, "npy: the header has no key at byte %zu",
                   (size_t)(s.at - text));
        PS_TRY(parse_entry(&s, key, n, h, err));
        if (take(&s, ',')) continue;
        PS_FAIL_IF(!take(&s, '}'), err, FORMAT, "npy: the header is not closed");
        break;
    }
    skip_space(&s);
    PS_FAIL_IF(s.at != s.end, err, FORMAT, "npy: the header has text after its dict");
    PS_FAIL_IF(h->dtype == PS_DTYPE_UNDEFINED || !h->has_order || !h->has_shape, err, FORMAT,
               "npy: the header lacks descr, fortran_order or shape");
    return PS_OK;
}

/* Finds the header's text and where the elements start. */
static ps_status locate_header(const uint8_t *p, size_t size, const char **text, size_t *n, ps_error *err) {
    PS_FAIL_IF(size < MAGIC_SIZE || memcmp(p, magic, sizeof magic) != 0, err, FORMAT, "npy: this is no .npy file");
    PS_FAIL_IF(p[6] < 1 || p[6] > 3 || p[7] != 0, err, UNSUPPORTED, "npy: format %d.%d is not 1.0, 2.0 or 3.0", p[6],
               p[7]);
    size_t length_size = p[6] == 1 ? 2 : 4;
    PS_FAIL_IF(size < MAGIC_SIZE + length_size, err, FORMAT, "npy: the file ends within its header");
    *n = 0;
    for (size_t k = 0; k < length_size; k++)
        *n |= (size_t)p[MAGIC_SIZE + k] << 8 * k;
    PS_FAIL_IF(*n > MAX_HEADER, err, LIMIT, "npy: a header of %zu bytes is over %d", *n, MAX_HEADER);
    PS_FAIL_IF(*n > size - MAGIC_SIZE - length_size, err, FORMAT, "npy: the file ends within its header");
    *text = (const char *)p + MAGIC_SIZE + length_size;
    return PS_OK;
}

/* ---- reading ---- */
/* A Fortran-order file is the C-order file of the transposed array. */
static void copy_elements(ps_tensor *t, const void *data, bool fortran) {
    if (t->bytes == 0) return;
    if (!fortran || t->shape.rank < 2) {
        memcpy(t->data, data, t->bytes);
        return;
    }
    ps_tensor view;
    ps_tensor_init_view(&view, t->dtype, &t->shape, (void *)(uintptr_t)data);
    int64_t stride = 1;
    for (int d = 0; d < t->shape.rank; d++) {
        view.own_strides[d] = stride;
        stride *= t->shape.dims[d];
    }
    view.strides = view.own_strides;
    ps_tensor_copy_packed(&view, t->data);
}

ps_status ps_npy_read(ps_alloc_state *a, const void *data, size_t size, ps_tensor **ret, ps_error *err) {
    const char *text;
    size_t n, bytes;
    int64_t count;
    npy_header h = { .dtype = PS_DTYPE_UNDEFINED };
    char shape[200];
    PS_TRY(locate_header(data, size, &text, &n, err));
    PS_TRY(parse_header(text, n, &h, err));
    ps_shape_text(&h.shape, shape, sizeof shape);
    PS_FAIL_IF(!ps_shape_elements(&h.shape, &count) || !ps_dtype_bytes(h.dtype, count, &bytes), err, LIMIT,
               "npy: shape %s is too large to address", shape);
    size_t have = size - (size_t)((const uint8_t *)text + n - (const uint8_t *)data);
    PS_FAIL_IF(have != bytes, err, FORMAT, "npy: %zu bytes of elements, %s of %s has %zu", have, shape,
               ps_dtype_name(h.dtype), bytes);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(a, h.dtype, &h.shape, &t, err));
    copy_elements(t, text + n, h.fortran);
    uint8_t *flags = t->data;
    for (size_t k = 0; h.dtype == PS_DTYPE_BOOL && k < bytes; k++)
        flags[k] = flags[k] != 0; /* kernels rely on 0 and 1 */
    *ret = t;
    return PS_OK;
}

/* ---- writing ---- */
static ps_status descr_of(ps_dtype t, char *buf, size_t size, ps_error *err) {
    if (t == PS_DTYPE_C128) {
        ps_snprintf(buf, size, "<c16");
        return PS_OK;
    }
    for (size_t k = 0; k < N_TYPES; k++) {
        if (types[k].dtype != t) continue;
        ps_snprintf(buf, size, "%c%c%c", types[k].size == '1' ? '|' : '<', types[k].kind, types[k].size);
        return PS_OK;
    }
    return PS_FAIL(err, UNSUPPORTED, "npy: numpy has no element type %s; a .pb file can hold it", ps_dtype_name(t));
}

/* The dict, padded with spaces and a newline so that the elements start at a multiple of 64 bytes. */
static size_t print_header(char *buf, size_t size, const char *descr, const ps_shape *s) {
    size_t n = (size_t)snprintf(buf, size, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int d = 0; d < s->rank; d++)
        n += (size_t)snprintf(buf + n, size - n,
                              d + 1 < s->rank ? "%lld, "
                              : s->rank == 1  ? "%lld,"
                                              : "%lld",
                              (long long)s->dims[d]);
    n += (size_t)snprintf(buf + n, size - n, "), }");
    while ((MAGIC_SIZE + 2 + n + 1) % WRITE_ALIGN != 0)
        buf[n++] = ' ';
    buf[n++] = '\n';
    return n;
}

ps_status ps_npy_write(ps_alloc_state *a, const ps_tensor *t, void **ret_data, size_t *ret_size, ps_error *err) {
    char header[512], descr[8];
    PS_TRY(descr_of(t->dtype, descr, sizeof descr, err));
    size_t n = print_header(header, sizeof header - WRITE_ALIGN, descr, &t->shape), size;
    PS_FAIL_IF(ps_add_overflow_size(MAGIC_SIZE + 2 + n, t->bytes, &size), err, LIMIT, "npy: the tensor is too large");
    uint8_t *p = ps_alloc(a, size);
    if (!p) return PS_FAIL_NOMEM(err, "a .npy file");
    memcpy(p, magic, sizeof magic);
    p[6] = 1;
    p[7] = 0;
    p[8] = (uint8_t)(n & 255);
    p[9] = (uint8_t)(n >> 8);
    memcpy(p + MAGIC_SIZE + 2, header, n);
    if (t->bytes) ps_tensor_copy_packed(t, p + MAGIC_SIZE + 2 + n);
    *ret_data = p;
    *ret_size = size;
    return PS_OK;
}
