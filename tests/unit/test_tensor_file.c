/* test_tensor_file.c - .npy and .pb files through the public functions. */
#include "io_fixture.h"

#include <unistd.h>

static ps_engine *engine;

static int setup(void **state) {
    io_setup(state);
    return ps_engine_create(NULL, &engine, NULL) == PS_OK ? 0 : -1;
}

static int teardown(void **state) {
    ps_engine_free(engine);
    return 0;
}

static void round_trips(void **state) {
    static const char *const endings[] = { ".npy", ".pb", ".NPY" };
    float values[6] = { 0, 1, 2, 3, 4, 5 };
    const ps_shape shape = { 2, { 3, 2 } };
    const int64_t strides[2] = { 1, 3 }; /* the transposed view of a 2 x 3 array */
    char folder[] = "/tmp/polestar-tensor-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    for (size_t k = 0; k < 3; k++) {
        ps_tensor *t, *back;
        ps_error err = PS_ERROR_INIT;
        snprintf(path, sizeof path, "%s/x%s", folder, endings[k]);
        assert_int_equal(ps_tensor_wrap(engine, PS_DTYPE_F32, &shape, strides, values, &t, &err), PS_OK);
        if (ps_tensor_save(engine, t, path, "x", &err) != PS_OK) fail_msg("%s", err.msg);
        if (ps_tensor_load(engine, path, &back, &err) != PS_OK) fail_msg("%s", err.msg);
        assert_true(ps_shape_equal(ps_tensor_shape(back), &shape));
        for (int i = 0; i < 6; i++)
            assert_true(((const float *)ps_tensor_data_const(back))[i] == values[i / 2 + i % 2 * 3]);
        ps_tensor_release(back);
        ps_tensor_release(t);
        unlink(path);
    }
    rmdir(folder);
}

static void names_what_is_wrong(void **state) {
    ps_tensor *t;
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(ps_tensor_load(engine, "x.txt", &t, &err), PS_INVALID);
    assert_non_null(strstr(err.msg, "x.txt"));
    assert_int_equal(ps_tensor_load(engine, "/nonexistent/x.npy", &t, &err), PS_NOT_FOUND);
    assert_int_equal(ps_tensor_load(engine, data_path("text.npy"), &t, &err), PS_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "text.npy: npy:"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(round_trips, setup, teardown),
        cmocka_unit_test_setup_teardown(names_what_is_wrong, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
