/* fuzz_json.c - any bytes as a JSON document, beside jansson: both accept it or both refuse it, and numbers of an array
 * have the same value. */
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/tensor_json.h"
#include "server/json_number.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What we refuse and jansson does not: deep nesting and numbers that are an attack, and a NUL behind the document. */
static bool beyond_limits(const char *text, size_t size) {
    int depth = 0;
    size_t run = 0;
    if (memchr(text, '\0', size)) return true;
    for (size_t i = 0; i < size; i++) { /* brackets in strings count too: a few documents are not compared */
        depth += text[i] == '[' || text[i] == '{';
        run = strchr("+-.eE0123456789", text[i]) ? run + 1 : 0;
        if (depth > PS_JSON_MAX_DEPTH || run > PS_NUMBER_MAX_CHARS) return true;
    }
    return false;
}

static ps_status read_document(const char *text, size_t size, ps_arena *arena, ps_error *err) {
    ps_json r;
    ps_json_init(&r, text, size, arena);
    ps_status status = ps_json_skip(&r, err);
    return status == PS_OK ? ps_json_finish(&r, err) : status;
}

static ps_status read_array(const char *text, size_t size, ps_dtype dtype, size_t n, ps_arena *arena,
                            const void **ret) {
    ps_json r;
    ps_infer_tensor t = { .name = "x", .dtype = dtype, .shape = { 1, { (int64_t)n } }, .elements = n };
    ps_json_init(&r, text, size, arena);
    ps_status status = ps_tensor_json_read(&r, &t, NULL);
    *ret = t.data;
    return status;
}

/* Every number of a flat array, read as double, as float and as integer. */
static void compare_numbers(const char *text, size_t size, const json_t *reals, ps_arena *arena) {
    size_t n = json_array_size(reals);
    const double *d;
    const float *f;
    const int64_t *i;
    for (size_t k = 0; k < n; k++)
        if (!json_is_real(json_array_get(reals, k))) return;
    if (read_array(text, size, PS_DTYPE_F64, n, arena, (const void **)&d) != PS_OK) abort();
    for (size_t k = 0; k < n; k++) {
        double want = json_real_value(json_array_get(reals, k));
        if (memcmp(&want, &d[k], sizeof want) != 0) abort();
    }
    if (read_array(text, size, PS_DTYPE_F32, n, arena, (const void **)&f) == PS_OK)
        for (size_t k = 0; k < n; k++) /* the nearest float is the double's, or its neighbour where that is a tie */
            if (f[k] != (float)d[k] && fabs((double)f[k] - d[k]) > fabs((double)(float)d[k] - d[k])) abort();
    json_t *whole = json_loadb(text, size, 0, NULL);
    bool integers = whole != NULL;
    for (size_t k = 0; k < n; k++)
        integers = integers && json_is_integer(json_array_get(whole, k));
    if (integers && read_array(text, size, PS_DTYPE_I64, n, arena, (const void **)&i) != PS_OK) abort();
    for (size_t k = 0; k < n && integers; k++)
        if (i[k] != json_integer_value(json_array_get(whole, k))) abort();
    json_decref(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state alloc;
    ps_arena arena;
    ps_error error = PS_ERROR_INIT;
    json_error_t why;
    char *text = malloc(size ? size : 1); /* of its exact size, so that a sanitizer sees a step beyond the end */
    if (!text) return 0;
    memcpy(text, data, size);
    ps_alloc_state_init(&alloc, NULL);
    ps_arena_init(&arena, &alloc);
    bool ours = read_document(text, size, &arena, &error) == PS_OK;
    if (!ours && !error.msg[0]) abort();
    json_t *theirs = json_loadb(text, size, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &why);
    if (theirs && !ours && !beyond_limits(text, size)) abort();
    if (ours && !theirs && json_error_code(&why) != json_error_numeric_overflow) abort();
    if (ours && json_is_array(theirs)) compare_numbers(text, size, theirs, &arena);
    json_decref(theirs);
    ps_arena_release(&arena);
    free(text);
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
