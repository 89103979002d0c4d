/* io_fixture.h - an allocator and the files of tests/data/io, for the tests of src/io. */
#ifndef TESTS_IO_FIXTURE_H
#define TESTS_IO_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"
#include "io/io.h"

static ps_alloc_state heap;

static inline int io_setup(void **state) {
    ps_alloc_state_init(&heap, NULL);
    return 0;
}

/* Everything that a test took must be back. */
static inline int io_teardown(void **state) {
    return atomic_load(&heap.bytes) == 0 ? 0 : -1;
}

static inline const char *data_path(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/io/%s", PS_TEST_DATA, name);
    return path;
}

static inline char *read_data(const char *name, size_t *size) {
    char *data = NULL;
    ps_error err = PS_ERROR_INIT;
    if (ps_file_read(&heap, data_path(name), 1 << 24, &data, size, &err) != PS_OK) fail_msg("%s", err.msg);
    return data;
}

static inline ps_tensor *load_npy(const char *name) {
    size_t size;
    ps_tensor *t = NULL;
    ps_error err = PS_ERROR_INIT;
    char *data = read_data(name, &size);
    if (ps_npy_read(&heap, data, size, &t, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
    ps_free(&heap, data);
    return t;
}

#endif
