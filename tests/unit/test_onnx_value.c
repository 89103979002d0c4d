/* Files of sequences, optionals and maps. The bytes are what the ONNX project's numpy_helper writes (fuzz/corpus/value,
 * made by tests/gen/fuzz_seeds.py; the first byte there tells the kind). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "onnx/onnx.h"
#include "test_alloc_fail.h"

static size_t read_seed(const char *name, uint8_t *data, size_t room) {
    char path[512];
    snprintf(path, sizeof path, "%s/../../fuzz/corpus/value/%s", PS_TEST_DATA, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t n = fread(data, 1, room, f);
    fclose(f);
    assert_true(n > 0 && n < room);
    return n;
}

static ps_tensor *load(ps_alloc_state *a, const char *name, ps_dtype kind) {
    uint8_t data[4096];
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t = NULL;
    const size_t n = read_seed(name, data, sizeof data);
    if (ps_onnx_value_read(a, data + 1, n - 1, kind, &t, &err) != PS_OK) print_error("%s\n", err.msg);
    assert_non_null(t);
    assert_int_equal(t->dtype, kind);
    return t;
}

static void assert_string(const ps_tensor *t, size_t i, const char *want) {
    const ps_string *s = (const ps_string *)t->data + i;
    assert_int_equal(s->size, strlen(want));
    assert_memory_equal(s->data, want, s->size);
}

static void test_sequences(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    ps_tensor *t = load(&a, "sequence.pb", PS_DTYPE_SEQUENCE);
    assert_int_equal(ps_tensor_count(t), 2);
    assert_int_equal(ps_tensor_element(t, 0)->dtype, PS_DTYPE_F32);
    assert_true(((const float *)ps_tensor_element(t, 0)->data)[2] == 2);
    assert_int_equal(ps_tensor_count(ps_tensor_element(t, 1)), 0);
    ps_tensor_release(t);
    t = load(&a, "nested.pb", PS_DTYPE_SEQUENCE);
    const ps_tensor *inner = ps_tensor_element(t, 1);
    assert_int_equal(inner->dtype, PS_DTYPE_SEQUENCE);
    assert_int_equal(ps_tensor_count(inner), 2);
    assert_string(ps_tensor_element(inner, 1), 1, "bc");
    ps_tensor_release(t);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_optionals_and_maps(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    ps_tensor *t = load(&a, "optional.pb", PS_DTYPE_OPTIONAL);
    assert_int_equal(ps_tensor_count(t), 1);
    assert_int_equal(ps_tensor_count(ps_tensor_element(t, 0)), 3);
    ps_tensor_release(t);
    t = load(&a, "none.pb", PS_DTYPE_OPTIONAL);
    assert_int_equal(ps_tensor_count(t), 0);
    ps_tensor_release(t);
    t = load(&a, "map.pb", PS_DTYPE_MAP);
    assert_string(ps_tensor_element(t, 0), 1, "b");
    assert_int_equal(ps_tensor_element(t, 1)->dtype, PS_DTYPE_I64);
    assert_int_equal(((const int64_t *)ps_tensor_element(t, 1)->data)[1], 2);
    ps_tensor_release(t);
    t = load(&a, "maps.pb", PS_DTYPE_SEQUENCE);
    assert_int_equal(((const int64_t *)ps_tensor_element(ps_tensor_element(t, 1), 0)->data)[0], 3);
    ps_tensor_release(t);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_written_is_read(void **state) {
    static const char *const names[] = { "sequence.pb", "nested.pb", "maps.pb", "optional.pb", "none.pb", "map.pb" };
    static const ps_dtype kinds[] = { PS_DTYPE_SEQUENCE, PS_DTYPE_SEQUENCE, PS_DTYPE_SEQUENCE,
                                      PS_DTYPE_OPTIONAL, PS_DTYPE_OPTIONAL, PS_DTYPE_MAP };
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ps_tensor *t = load(&a, names[i], kinds[i]), *again = NULL;
        void *data = NULL;
        size_t size = 0;
        assert_int_equal(ps_onnx_value_write(&a, t, "v", &data, &size, NULL), PS_OK);
        assert_int_equal(ps_onnx_value_read(&a, data, size, kinds[i], &again, NULL), PS_OK);
        assert_true(ps_tensor_hash(t) == ps_tensor_hash(again));
        ps_free(&a, data);
        ps_tensor_release(again);
        ps_tensor_release(t);
    }
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void assert_refused(ps_dtype kind, const char *bytes, size_t size, ps_status want, const char *part) {
    ps_alloc_state a;
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t = NULL;
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(ps_onnx_value_read(&a, bytes, size, kind, &t, &err), want);
    assert_null(t);
    if (!strstr(err.msg, part)) print_error("'%s' does not say '%s'\n", err.msg, part);
    assert_non_null(strstr(err.msg, part));
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_what_is_refused(void **state) {
    char deep[64] = { 0 };
    size_t n = 0;
    /* empty sequences in each other: 2a 00, around it 2a 02 … */
    for (char inner = 0; n < 40; inner += 2, n += 2) {
        memmove(deep + 2, deep, n);
        deep[0] = 0x2a;
        deep[1] = inner;
    }
    assert_refused(PS_DTYPE_SEQUENCE, deep, n, PS_LIMIT, "containers in each other");
    assert_refused(PS_DTYPE_SEQUENCE, "\x1a\x05", 2, PS_FORMAT, "");            /* cut short */
    assert_refused(PS_DTYPE_SEQUENCE, "\x18\x01", 2, PS_FORMAT, "no message");  /* a number for a tensor */
    assert_refused(PS_DTYPE_SEQUENCE, "\x22\x00", 2, PS_UNSUPPORTED, "sparse"); /* a sparse tensor */
    assert_refused(PS_DTYPE_SEQUENCE, "\x2a\x00\x3a\x00", 4, PS_FORMAT, "different kinds");
    assert_refused(PS_DTYPE_OPTIONAL, "\x2a\x00\x2a\x00", 4, PS_FORMAT, "holds 2 values");
    assert_refused(PS_DTYPE_MAP, "\x18\x01\x22\x01\x61", 5, PS_FORMAT, "both kinds");
    assert_refused(PS_DTYPE_MAP, "\x18\x01", 2, PS_FORMAT, "1 keys and 0 values");
    assert_refused(PS_DTYPE_MAP, "\x1a\x01\x80", 3, PS_FORMAT, "cut short");
}

/* ctx: name of a seed; its kind is its first byte. */
static ps_status read_and_write(ps_alloc_state *a, void *ctx) {
    static const ps_dtype kinds[] = { PS_DTYPE_SEQUENCE, PS_DTYPE_OPTIONAL, PS_DTYPE_MAP };
    uint8_t bytes[4096];
    ps_tensor *t = NULL;
    void *data = NULL;
    size_t size, n = read_seed(ctx, bytes, sizeof bytes);
    PS_TRY(ps_onnx_value_read(a, bytes + 1, n - 1, kinds[bytes[0]], &t, NULL));
    const ps_status status = ps_onnx_value_write(a, t, "v", &data, &size, NULL);
    ps_free(a, data);
    ps_tensor_release(t);
    return status;
}

static void test_failing_allocations(void **state) {
    assert_true(ps_test_sweep(read_and_write, "nested.pb") > 10);
    assert_true(ps_test_sweep(read_and_write, "maps.pb") > 10);
    assert_true(ps_test_sweep(read_and_write, "map.pb") > 5);
    assert_true(ps_test_sweep(read_and_write, "optional.pb") > 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequences),           cmocka_unit_test(test_optionals_and_maps),
        cmocka_unit_test(test_written_is_read),     cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
