#include "server/tensor_raw.h"

#include <string.h>

size_t ps_tensor_raw_element(ps_dtype dtype) {
    return *ps_dtype_v2_name(dtype) ? ps_dtype_bits(dtype) / 8 : 0;
}

static uint32_t load_u32(const uint8_t *p) { /* little-endian */
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static ps_status read_strings(ps_arena *arena, ps_infer_tensor *t, const uint8_t *data, size_t size, ps_error *err) {
    const uint8_t *p = data, *end = data + size;
    PS_FAIL_IF(t->elements > size / 4, err, SHAPE, "input '%s': %zu bytes are too few for %zu elements of BYTES",
               t->name, size, t->elements);
    ps_string *s = ps_arena_array(arena, t->elements + 1, sizeof *s);
    if (!s) return PS_FAIL_NOMEM(err, "an input of the request");
    for (size_t i = 0; i < t->elements; i++) {
        PS_FAIL_IF(end - p < 4 || load_u32(p) > (size_t)(end - p) - 4, err, SHAPE,
                   "input '%s': element %zu of BYTES reaches beyond the %zu bytes of the input", t->name, i, size);
        s[i] = (ps_string) { (const char *)p + 4, load_u32(p) };
        p += 4 + s[i].size;
    }
    PS_FAIL_IF(p != end, err, SHAPE, "input '%s': %zu bytes are left behind its last element", t->name,
               (size_t)(end - p));
    t->data = s;
    return PS_OK;
}

/* Kernels rely on 0 and 1, but perf_analyzer sends any byte for a BOOL: all but 0 is true, as in C. NULL: the bytes are
 * what they should be; else a copy that is. *ret_failed: out of memory. */
static const uint8_t *clean_bools(ps_arena *arena, const uint8_t *data, size_t size, bool *ret_failed) {
    uint8_t any = 0, *clean;
    *ret_failed = false;
    for (size_t i = 0; i < size; i++)
        any |= data[i];
    if (any <= 1) return NULL;
    clean = ps_arena_memdup(arena, data, size);
    *ret_failed = !clean;
    for (size_t i = 0; clean && i < size; i++)
        clean[i] = clean[i] != 0;
    return clean;
}

ps_status ps_tensor_raw_read(ps_arena *arena, ps_infer_tensor *t, const void *data, size_t size, ps_error *err) {
    size_t bytes, element = ps_tensor_raw_element(t->dtype);
    if (t->dtype == PS_DTYPE_STRING) return read_strings(arena, t, data, size, err);
    PS_FAIL_IF(element == 0, err, UNSUPPORTED, "input '%s' has an element type that the protocol does not have",
               t->name);
    PS_FAIL_IF(ps_mul_overflow_size(t->elements, element, &bytes) || bytes != size, err, SHAPE,
               "input '%s' has %zu bytes of raw data, but %zu elements of %s take %zu bytes", t->name, size,
               t->elements, ps_dtype_v2_name(t->dtype), t->elements * element);
    if (t->dtype == PS_DTYPE_BOOL) {
        bool failed;
        const uint8_t *clean = clean_bools(arena, data, size, &failed);
        if (failed) return PS_FAIL_NOMEM(err, "an input of the request");
        if (clean) data = clean;
    }
    t->data = (uintptr_t)data % element == 0 ? data : ps_arena_memdup(arena, data, size); /* not NULL for no bytes */
    return t->data ? PS_OK : PS_FAIL_NOMEM(err, "an input of the request");
}

bool ps_tensor_raw_size(const ps_infer_tensor *t, size_t *ret) {
    size_t size = 0, element = ps_tensor_raw_element(t->dtype);
    if (element == 0) return false;
    if (t->dtype != PS_DTYPE_STRING) return !ps_mul_overflow_size(t->elements, element, ret);
    const ps_string *s = t->data;
    for (size_t i = 0; i < t->elements; i++)
        if (s[i].size > UINT32_MAX || ps_add_overflow_size(size, s[i].size + 4, &size)) return false;
    *ret = size;
    return true;
}

uint8_t *ps_tensor_raw_put(const ps_infer_tensor *t, uint8_t *p) {
    if (t->dtype != PS_DTYPE_STRING) {
        size_t size = t->elements * ps_tensor_raw_element(t->dtype);
        if (size) memcpy(p, t->data, size);
        return p + size;
    }
    const ps_string *s = t->data;
    for (size_t i = 0; i < t->elements; i++) {
        uint32_t n = (uint32_t)s[i].size;
        for (int b = 0; b < 4; b++)
            *p++ = (uint8_t)(n >> (8 * b));
        if (n) memcpy(p, s[i].data, n);
        p += n;
    }
    return p;
}

void ps_tensor_raw_write(const ps_infer_tensor *t, ps_str *out) {
    size_t size;
    if (!ps_tensor_raw_size(t, &size) || !ps_str_reserve(out, size)) return;
    ps_tensor_raw_put(t, (uint8_t *)out->data + out->size);
    out->size += size;
    out->data[out->size] = '\0';
}
