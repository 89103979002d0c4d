/* A model on several devices that every machine has: lists, sessions on each, and no memory at every allocation. What
 * cards do: test_opencl_devices.c. */
#include "runtime_fixture.h"

#include "test_alloc_fail.h"

#define NET "graph (x: f32[2,70]) -> (y) opset 17 {\n  w: f32[70,40] = random(3)\n  t = MatMul(x, w)\n  y = Relu(t)\n}"

static ps_status run_on(ps_engine *e, ps_model *m, const char *device, float ret[80], ps_error *err) {
    ps_session_options o = PS_SESSION_OPTIONS_INIT;
    ps_session *s = NULL;
    ps_tensor *in = NULL, *out = NULL;
    float x[140];
    ps_shape shape = ps_shape_make(2, (int64_t[]) { 2, 70 });
    for (int i = 0; i < 140; i++)
        x[i] = (float)(i % 11) - 5;
    o.device = device;
    PS_TRY(ps_tensor_wrap(e, PS_DTYPE_F32, &shape, NULL, x, &in, err));
    ps_status status = ps_session_create(m, &o, &s, err);
    if (status == PS_OK) status = ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, err);
    if (status == PS_OK) memcpy(ret, ps_tensor_data(out), 80 * sizeof *ret);
    ps_session_free(s);
    ps_tensor_release(in);
    return status;
}

/* Sums of 70 products of numbers up to 5, in another order: 1e-4 is some twenty roundings of sums up to 350. */
static void must_agree(const float a[80], const float b[80]) {
    for (int i = 0; i < 80; i++)
        assert_true(a[i] - b[i] < 1e-4f && b[i] - a[i] < 1e-4f);
}

static void test_sessions(void **state) {
    float first[80], second[80];
    ps_error err = PS_ERROR_INIT;
    ps_model_device_info info = { .size = sizeof info };
    ps_engine *e = fixture_engine(1, NULL);
    ps_model *m = fixture_model(e, NET, "cpu,ref");
    assert_int_equal(run_on(e, m, "ref", second, &err), PS_OK);
    assert_int_equal(run_on(e, m, NULL, first, &err), PS_OK);
    must_agree(first, second);
    assert_int_equal(run_on(e, m, "gpu", first, &err), PS_NOT_FOUND);
    assert_string_equal(err.msg, "the model is not on device 'gpu': it is on cpu, ref");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(ps_model_device(m, i, &info), PS_OK);
        assert_string_equal(info.name, i ? "ref" : "cpu");
        assert_true(!info.lost && !info.memory);
    }
    assert_int_equal(ps_model_device(m, 2, &info), PS_NOT_FOUND);
    assert_int_equal(ps_model_reopen(m, NULL, &err), PS_OK); /* nothing was lost */
    assert_int_equal(ps_model_reopen(m, "opencl:0", &err), PS_NOT_FOUND);
    ps_model_release(m);
    ps_engine_free(e);
}

static void test_lists(void **state) {
    static const char *const wrong[] = { "", "cpu,", ",cpu", "cpu,cpu", "auto,cpu", "cpu,,ref" };
    ps_engine *e = fixture_engine(1, NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ps_model *m = NULL;
        ps_error err = PS_ERROR_INIT;
        assert_int_equal(fixture_model_status(e, NET, wrong[i], &m, &err), PS_INVALID);
    }
    ps_engine_free(e);
}

static void test_find(void **state) {
    ps_error err = PS_ERROR_INIT;
    ps_device_info info = { .size = sizeof info };
    ps_engine *e = fixture_engine(1, NULL);
    assert_int_equal(ps_engine_find_device(e, NULL, &info, &err), PS_OK);
    assert_string_equal(info.name, "cpu");
    assert_int_equal(ps_engine_find_device(e, "ref", &info, &err), PS_OK);
    assert_string_equal(info.name, "ref");
    assert_int_equal(ps_engine_find_device(e, "cpu,ref", &info, &err), PS_NOT_FOUND);
    ps_engine_free(e);
}

/* Everything is given back, whichever allocation fails. */
static void test_no_memory(void **state) {
    for (long nth = 0;; nth++) {
        ps_test_alloc t;
        ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
        ps_engine *e = NULL;
        ps_model *m = NULL;
        ps_error err = PS_ERROR_INIT;
        float got[80];
        ps_test_alloc_init(&t, -1);
        o.allocator = &t.allocator;
        o.threads = 1;
        o.cache_dir = "";
        assert_int_equal(ps_engine_create(&o, &e, &err), PS_OK);
        atomic_store(&t.left, nth);
        ps_status status = fixture_model_status(e, NET, "cpu,ref", &m, &err);
        if (status == PS_OK) status = run_on(e, m, "cpu", got, &err);
        if (status == PS_OK) status = run_on(e, m, "ref", got, &err);
        const bool failed = atomic_load(&t.failed);
        atomic_store(&t.left, -1);
        if (status != (failed ? PS_NO_MEMORY : PS_OK)) fail_msg("allocation %ld: %s", nth, err.msg);
        ps_model_release(m);
        ps_engine_free(e);
        assert_int_equal(atomic_load(&t.live), 0);
        if (!failed) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_sessions), cmocka_unit_test(test_lists),
                                        cmocka_unit_test(test_find), cmocka_unit_test(test_no_memory) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
