/* ps_tensor_create and ps_tensor_wrap, as a user of the library calls them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "polestar/polestar.h"
#include "tensor/tensor.h"

static int setup(void **state) {
    ps_engine_options options = PS_ENGINE_OPTIONS_INIT;
    options.cache_dir = "";
    return ps_engine_create(&options, (ps_engine **)state, NULL) == PS_OK ? 0 : -1;
}

static int teardown(void **state) {
    ps_engine_free(*state);
    return 0;
}

static void test_create(void **state) {
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t = NULL;
    ps_shape s = ps_shape_make(2, (int64_t[]) { 2, 3 }), open = ps_shape_make(1, (int64_t[]) { PS_DIM_UNKNOWN });
    size_t before = ps_engine_memory(*state, NULL);
    assert_int_equal(ps_tensor_create(*state, PS_DTYPE_I64, &s, &t, &err), PS_OK);
    assert_int_equal(ps_tensor_bytes(t), 48);
    assert_true(ps_engine_memory(*state, NULL) >= before + 48);
    ps_tensor_release(t);
    assert_int_equal(ps_engine_memory(*state, NULL), before);
    assert_int_equal(ps_tensor_create(*state, PS_DTYPE_I64, &open, &t, &err), PS_INVALID);
    assert_int_equal(ps_tensor_create(NULL, PS_DTYPE_I64, &s, &t, &err), PS_INVALID);
    assert_int_equal(ps_tensor_create(*state, PS_DTYPE_I64, NULL, &t, &err), PS_INVALID);
}

static void test_wrap(void **state) {
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t = NULL;
    float a[6] = { 1, 2, 3, 4, 5, 6 }, b[6] = { 0 }, packed[6];
    ps_shape s = ps_shape_make(2, (int64_t[]) { 2, 3 }), none = ps_shape_make(1, (int64_t[]) { 0 });
    assert_int_equal(ps_tensor_wrap(*state, PS_DTYPE_F32, &s, (int64_t[]) { 3, 1 }, a, &t, &err), PS_OK);
    assert_null(t->strides); /* row-major anyway */
    assert_ptr_equal(ps_tensor_data(t), a);
    assert_int_equal(ps_tensor_set_data(t, b), PS_OK);
    assert_ptr_equal(ps_tensor_data(t), b);
    assert_int_equal(ps_tensor_set_data(t, NULL), PS_INVALID);
    ps_tensor_release(t);
    int64_t strides[2] = { 1, 2 };
    assert_int_equal(ps_tensor_wrap(*state, PS_DTYPE_F32, &s, strides, a, &t, &err), PS_OK);
    strides[0] = strides[1] = 1000; /* the tensor has its own copy */
    ps_tensor_copy_packed(t, packed);
    assert_memory_equal(packed, ((float[]) { 1, 3, 5, 2, 4, 6 }), sizeof packed);
    ps_tensor_release(t);
    assert_int_equal(ps_tensor_wrap(*state, PS_DTYPE_F32, &none, NULL, NULL, &t, &err), PS_OK);
    ps_tensor_release(t);
    assert_int_equal(ps_tensor_wrap(*state, PS_DTYPE_F32, &s, NULL, NULL, &t, &err), PS_INVALID);
}

static void test_bad_strides(void **state) {
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t = NULL;
    char data[64] = { 0 };
    ps_shape s = ps_shape_make(2, (int64_t[]) { 2, 3 });
    assert_int_equal(ps_tensor_wrap(*state, PS_DTYPE_I4, &s, (int64_t[]) { 1, 2 }, data, &t, &err), PS_UNSUPPORTED);
    assert_int_equal(ps_tensor_wrap(*state, PS_DTYPE_STRING, &s, (int64_t[]) { 1, 2 }, data, &t, &err), PS_UNSUPPORTED);
    static const int64_t far[][2] = { { INT64_MAX, 1 }, { INT64_MIN, 1 }, { INT64_MAX / 4, 0 }, { 1, INT64_MIN / 8 } };
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(ps_tensor_wrap(*state, PS_DTYPE_F32, &s, far[i], data, &t, &err), PS_LIMIT);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_bad_strides),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
