/* How a shadow's answer is compared: values by hand, of every type of the protocol that has numbers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/shadow.h"

static ps_engine *engine;

static ps_tensor *wrap(ps_dtype dtype, int rank, int64_t rows, int64_t columns, const void *data) {
    ps_shape shape = { .rank = rank, .dims = { rows, columns } };
    ps_tensor *t;
    ps_error err = PS_ERROR_INIT;
    if (rank == 1) shape.dims[0] = rows * columns;
    if (ps_tensor_wrap(engine, dtype, &shape, NULL, (void *)data, &t, &err) != PS_OK) fail_msg("%s", err.msg);
    return t;
}

static ps_shadow_result compare(ps_dtype dtype, int64_t rows, int64_t columns, const void *got, const void *want,
                                double rtol, double atol) {
    ps_shadow_result result = PS_SHADOW_SAME;
    ps_tensor *a = wrap(dtype, 2, rows, columns, got), *b = wrap(dtype, 2, rows, columns, want);
    ps_shadow_compare(a, b, rtol, atol, &result);
    ps_tensor_release(a);
    ps_tensor_release(b);
    return result;
}

static void test_tolerance(void **s) {
    float want[] = { 100, -1, 0, 2 }, got[] = { 100.5f, -1, 0, 2 };
    ps_shadow_result r = compare(PS_DTYPE_F32, 1, 4, got, want, 0.004, 0.05); /* 0.45 are allowed */
    assert_false(r.close);
    assert_true(r.largest == 0.5 && r.has_argmax && r.argmax_same);
    assert_true(compare(PS_DTYPE_F32, 1, 4, got, want, 0.004, 0.1).close);
    assert_true(compare(PS_DTYPE_F32, 1, 4, want, want, 0, 0).close);
}

static void test_what_is_not_finite(void **s) {
    float a[] = { NAN, INFINITY, -INFINITY, 1 }, b[] = { NAN, INFINITY, -INFINITY, 1.0000001f },
          c[] = { 0, INFINITY, -INFINITY, 1 }, d[] = { NAN, -INFINITY, -INFINITY, 1 };
    assert_true(compare(PS_DTYPE_F32, 1, 4, a, b, 1e-3, 0).close);
    assert_false(compare(PS_DTYPE_F32, 1, 4, a, c, 1e9, 1e9).close);
    assert_false(compare(PS_DTYPE_F32, 1, 4, c, a, 1e9, 1e9).close);
    assert_false(compare(PS_DTYPE_F32, 1, 4, a, d, 1e9, 1e9).close);
}

static void test_argmax_by_rows(void **s) {
    double want[] = { 1, 2, 3, 9, 8, 7 }, close[] = { 1, 2, 3.5, 9, 8.9, 7 }, other[] = { 1, 2, 3, 9, 9.5, 7 };
    ps_shadow_result r = compare(PS_DTYPE_F64, 2, 3, close, want, 0, 0.1);
    assert_true(!r.close && r.has_argmax && r.argmax_same);
    r = compare(PS_DTYPE_F64, 2, 3, other, want, 0, 10);
    assert_true(r.close && r.has_argmax && !r.argmax_same);
    assert_false(compare(PS_DTYPE_F64, 6, 1, other, want, 0, 10).has_argmax); /* no choice */
}

static void test_shapes_and_types(void **s) {
    int32_t data[6] = { 0 };
    ps_tensor *a = wrap(PS_DTYPE_I32, 2, 2, 3, data),
              *others[] = { wrap(PS_DTYPE_I32, 2, 3, 2, data), wrap(PS_DTYPE_I32, 1, 2, 3, data),
                            wrap(PS_DTYPE_F32, 2, 2, 3, data) };
    for (size_t i = 0; i < 3; i++) {
        ps_shadow_result r = PS_SHADOW_SAME;
        ps_shadow_compare(a, others[i], 1e9, 1e9, &r);
        assert_false(r.close);
        ps_tensor_release(others[i]);
    }
    ps_shadow_result r = PS_SHADOW_SAME;
    ps_shadow_compare(a, a, 0, 0, &r);
    assert_true(r.close && !r.has_argmax);
    ps_tensor_release(a);
}

/* 3 beside 4 in each type, within 1 but not within 0.5. */
static void test_types(void **s) {
    static const struct {
        ps_dtype dtype;
        uint64_t three, four;
    } cases[] = { { PS_DTYPE_U8, 3, 4 },
                  { PS_DTYPE_I8, 3, 4 },
                  { PS_DTYPE_U16, 3, 4 },
                  { PS_DTYPE_I16, 3, 4 },
                  { PS_DTYPE_U32, 3, 4 },
                  { PS_DTYPE_I32, 3, 4 },
                  { PS_DTYPE_U64, 3, 4 },
                  { PS_DTYPE_I64, 3, 4 },
                  { PS_DTYPE_F16, 0x4200, 0x4400 },
                  { PS_DTYPE_BF16, 0x4040, 0x4080 },
                  { PS_DTYPE_F32, 0x40400000, 0x40800000 },
                  { PS_DTYPE_F64, UINT64_C(0x4008000000000000), UINT64_C(0x4010000000000000) } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ps_shadow_result r = compare(cases[i].dtype, 1, 1, &cases[i].three, &cases[i].four, 0, 1);
        assert_true(r.close && r.largest == 1);
        assert_false(compare(cases[i].dtype, 1, 1, &cases[i].three, &cases[i].four, 0, 0.5).close);
    }
    uint16_t small[] = { 0x0001, 0x7c00 }, negative[] = { 0x8001, 0x7c00 }; /* subnormal and infinite halves */
    assert_true(compare(PS_DTYPE_F16, 1, 2, small, negative, 0, 0x1p-23).largest == 0x1p-23);
    uint16_t nan[] = { 0x7e00 }, other_nan[] = { 0x7e01 };
    assert_true(compare(PS_DTYPE_F16, 1, 1, nan, other_nan, 0, 0).close);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tolerance),      cmocka_unit_test(test_what_is_not_finite),
        cmocka_unit_test(test_argmax_by_rows), cmocka_unit_test(test_shapes_and_types),
        cmocka_unit_test(test_types),
    };
    ps_engine_options options = PS_ENGINE_OPTIONS_INIT;
    if (ps_engine_create(&options, &engine, NULL) != PS_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ps_engine_free(engine);
    return failed;
}
