/* Large inputs and outputs that go through pinned memory (ocl_device.test_staging), piece by piece: values are whole
 * and in place, whatever their size, also where one session has several and runs again and again.
 *
 * Tolerance: none; the operators are exact. */
#include "opencl_compare.h"

static ocl_device *device(void) {
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    return ocl_of(d);
}

static void fill(float *x, size_t n, int round) {
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((i * 2654435761u + (unsigned)round * 977u) >> 8 & 0xffff);
}

static void run(ps_session *s, size_t rows, size_t columns, int round) {
    const size_t n = rows * columns;
    float *x = malloc(n * sizeof *x), *r = malloc(n * sizeof *r);
    ps_tensor *out[2] = { NULL };
    ps_error err = PS_ERROR_INIT;
    fill(x, n, round);
    fill(r, n, round + 1);
    ps_tensor *in[2] = { fixture_wrap(cmp_engine, PS_DTYPE_F32, 2, DIMS((int64_t)rows, (int64_t)columns), x),
                         fixture_wrap(cmp_engine, PS_DTYPE_F32, 2, DIMS((int64_t)rows, (int64_t)columns), r) };
    if (ps_session_run(s, (const ps_tensor *const *)in, 2, out, 2, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    const float *sum = ps_tensor_data(out[0]), *turned = ps_tensor_data(out[1]);
    for (size_t i = 0; i < n; i++) {
        if (sum[i] != x[i] + r[i]) fail_msg("sum %zu of %zu x %zu, round %d", i, rows, columns, round);
        if (turned[i % columns * rows + i / columns] != x[i]) fail_msg("element %zu of %zu x %zu", i, rows, columns);
    }
    ps_tensor_release(in[0]);
    ps_tensor_release(in[1]);
    free(x);
    free(r);
}

static void run_all(int threads, int way) {
    static const size_t shapes[][2] = { { 1, 65536 }, { 1, 65535 }, { 257, 1021 }, { 64, 4096 }, { 3, 5 },
                                        { 911, 1741 }, { 1024, 1024 } };
    device()->test_staging = way;
    device()->base.shares_memory = false; /* else nothing would be copied */
    ps_model *m = fixture_model(cmp_engine,
                                "graph (x: f32[n,m], r: f32[n,m]) -> (y, t) opset 17 {\n  y = Add(x, r)\n"
                                "  t = Transpose(x) {perm=[1,0]}\n}",
                                cmp_device);
    ps_session *s = fixture_session(m, threads);
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            run(s, shapes[i][0], shapes[i][1], round);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_staged(void **state) {
    run_all(1, 1);
    run_all(3, 1);
}

static void test_unstaged(void **state) {
    run_all(2, -1);
}

/* A run that ends early leaves copies under way; the session goes on with the next one. */
static void test_after_a_stop(void **state) {
    device()->test_staging = 1;
    device()->base.shares_memory = false;
    ps_model *m = fixture_model(cmp_engine,
                                "graph (x: f32[n,m], r: f32[n,m]) -> (y, t) opset 17 {\n  y = Add(x, r)\n"
                                "  t = Transpose(x) {perm=[1,0]}\n}",
                                cmp_device);
    ps_session *s = fixture_session(m, 1);
    run(s, 700, 900, 0);
    for (int us = 0; us < 3000; us += 300) {
        float *x = calloc(700 * 900, sizeof *x);
        ps_tensor *in = fixture_wrap(cmp_engine, PS_DTYPE_F32, 2, DIMS(700, 900), x), *out[2] = { NULL };
        ps_run_options o = PS_RUN_OPTIONS_INIT;
        o.deadline_ns = ps_clock_ns() + us * 1000;
        const ps_status status = ps_session_run(s, (const ps_tensor *[]) { in, in }, 2, out, 2, &o, NULL);
        assert_true(status == PS_OK || status == PS_DEADLINE);
        ps_tensor_release(in);
        free(x);
        run(s, 700, 900, us);
    }
    ps_session_free(s);
    ps_model_release(m);
}

int main(void) {
    const struct CMUnitTest tests[] = { CMP_TEST(test_staged), CMP_TEST(test_unstaged), CMP_TEST(test_after_a_stop) };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
