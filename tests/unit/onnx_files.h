/* onnx_files.h - reading tests/data/onnx (written by tests/gen/onnx_files.py) in the tests of src/onnx. */
#ifndef PS_TEST_ONNX_FILES_H
#define PS_TEST_ONNX_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/str.h"
#include "onnx/onnx.h"

static inline char *onnx_file(ps_alloc_state *a, const char *name, size_t *ret_size) {
    char path[512], *data;
    ps_error err = PS_ERROR_INIT;
    ps_snprintf(path, sizeof path, "%s/onnx/%s", PS_TEST_DATA, name);
    if (ps_file_read(a, path, 1u << 24, &data, ret_size, &err) != PS_OK) fail_msg("%s", err.msg);
    return data;
}

/* Calls fn for each entry of a folder below tests/data/onnx whose name ends in suffix; returns how many there were. */
static inline size_t onnx_each(ps_alloc_state *a, const char *folder, const char *suffix,
                               void (*fn)(ps_alloc_state *a, const char *name)) {
    char path[512], **names;
    size_t n, count = 0;
    ps_error err = PS_ERROR_INIT;
    ps_snprintf(path, sizeof path, "%s/onnx/%s", PS_TEST_DATA, folder);
    if (ps_dir_list(a, path, &names, &n, &err) != PS_OK) fail_msg("%s", err.msg);
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(names[i]);
        if (length < strlen(suffix) || strcmp(names[i] + length - strlen(suffix), suffix) != 0) continue;
        ps_snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        fn(a, path);
        count++;
    }
    ps_dir_free(a, names, n);
    return count;
}

/* xorshift64*: the same mutations in every run. */
static inline uint64_t onnx_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

/* Between one and four bytes become something else: a flipped bit, a varint's extremes, any byte. */
static inline void onnx_mutate(uint8_t *data, size_t size, uint64_t *state) {
    static const uint8_t extremes[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
    for (uint64_t n = 1 + onnx_random(state) % 4; n > 0 && size > 0; n--) {
        uint64_t r = onnx_random(state);
        uint8_t *p = &data[(r >> 16) % size];
        switch (r % 3) {
        case 0: *p ^= (uint8_t)(1u << (r >> 8) % 8); break;
        case 1: *p = extremes[(r >> 8) % sizeof extremes]; break;
        default: *p = (uint8_t)(r >> 8);
        }
    }
}

#endif
