/* The oracle is the C library: strtod and strtof round correctly (glibc), and "%.*e" finds the shortest length. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/json_number.h"

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static bool same_bits64(double a, double b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

static bool same_bits32(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

static void check_read(const char *text) {
    ps_number n;
    double d, want = strtod(text, NULL);
    float f, want_f = strtof(text, NULL);
    const char *end = text + strlen(text);
    if (ps_number_scan(text, end, &n) != end) fail_msg("'%s' is not scanned", text);
    if (ps_number_f64(&n, &d) != (isfinite(want) != 0)) fail_msg("'%s': wrong range answer", text);
    if (isfinite(want) && !same_bits64(d, want)) fail_msg("'%s' read as %.17g", text, d);
    if (ps_number_f32(&n, &f) != (isfinite(want_f) != 0)) fail_msg("'%s': wrong f32 range answer", text);
    if (isfinite(want_f) && !same_bits32(f, want_f)) fail_msg("'%s' read as f32 %.9g, not %.9g", text, f, want_f);
}

static void test_read_cases(void **state) {
    static const char *const cases[] = {
        "0",
        "-0",
        "-0.0",
        "0e5",
        "1",
        "-1",
        "0.1",
        "0.3",
        "123456789012345678",
        "1e22",
        "1e23",
        "1e-22",
        "1e-23",
        "1.5e3",
        "1E+2",
        "9007199254740993",
        "9007199254740993.0",
        "9007199254740992.5",
        "16777217",
        "16777219",
        "16777216.999999999",
        "3.4028234663852886e38",
        "3.4028235677973366e38",
        "3.4028235677973365e38",
        "1e39",
        "1e308",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "1e309",
        "1e-45",
        "7e-46",
        "1e-46",
        "4.9e-324",
        "2e-324",
        "1e-400",
        "2.2250738585072011e-308",
        "0.000000000000000000000000000000000000000000001",
        "10000000000000000000000",
        "18446744073709551615",
        "18446744073709551616",
        "0.1000000000000000055511151231257827021181583404541015625",
        "1e99999999999",
        "1e-99999999999",
        "1.00000005960464477539062500000000000000000000000000001",
        "1.000000059604644775390625",
        "0e99999999999",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_read(cases[i]);
}

static void test_read_random(void **state) {
    static const char *const formats[] = { "%.3g", "%.9g", "%.15g", "%.16g", "%.17g", "%.17e", "%.8f", "%.25g" };
    uint64_t seed = 88172645463325252u;
    char buf[512];
    for (int i = 0; i < 400000; i++) {
        uint64_t bits = next_random(&seed);
        double v;
        if (i % 2) {
            v = ldexp((double)(int64_t)bits, -63 + (int)(next_random(&seed) % 60) - 30);
        } else {
            memcpy(&v, &bits, sizeof v);
            if (!isfinite(v) || (fabs(v) > 1e200 && i % 8 == 6)) continue;
        }
        if (i % 3 == 0) v = (float)v;
        if (!isfinite(v)) continue;
        snprintf(buf, sizeof buf, formats[bits >> 20 & 7], v);
        check_read(buf);
    }
}

static void test_read_halfway(void **state) { /* decimals at and next to the middle of two neighbouring floats */
    uint64_t seed = 4101842887655102017u;
    char buf[128];
    for (int i = 0; i < 100000; i++) {
        uint32_t bits = (uint32_t)(next_random(&seed) % 0x20000000u) + 0x30000000u;
        float a, b;
        memcpy(&a, &bits, sizeof a);
        b = nextafterf(a, INFINITY);
        snprintf(buf, sizeof buf, "%.*f", 17 + i % 30, ((double)a + (double)b) / 2);
        check_read(buf);
    }
}

static void test_strictness(void **state) {
    static const char *const bad[] = { "",     "-",  "+1",  "01",  "-01",      ".5", "1.",
                                       "1.e3", "1e", "1e+", "NaN", "Infinity", "x",  "--1" };
    ps_number n;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (ps_number_scan(bad[i], bad[i] + strlen(bad[i]), &n)) fail_msg("'%s' is accepted", bad[i]);
    char longest[PS_NUMBER_MAX_CHARS + 2];
    memset(longest, '7', sizeof longest);
    assert_non_null(ps_number_scan(longest, longest + PS_NUMBER_MAX_CHARS, &n));
    assert_null(ps_number_scan(longest, longest + PS_NUMBER_MAX_CHARS + 1, &n));
    const char *hex = "0x10";
    assert_ptr_equal(ps_number_scan(hex, hex + 4, &n), hex + 1);
}

static bool read_i64(const char *text, int64_t *ret) {
    ps_number n;
    return ps_number_scan(text, text + strlen(text), &n) && ps_number_i64(&n, ret);
}

static bool read_u64(const char *text, uint64_t *ret) {
    ps_number n;
    return ps_number_scan(text, text + strlen(text), &n) && ps_number_u64(&n, ret);
}

static void test_integers(void **state) {
    int64_t i;
    uint64_t u;
    assert_true(read_i64("9223372036854775807", &i) && i == INT64_MAX);
    assert_true(read_i64("-9223372036854775808", &i) && i == INT64_MIN);
    assert_false(read_i64("9223372036854775808", &i));
    assert_false(read_i64("-9223372036854775809", &i));
    assert_true(read_i64("1000000000000000000", &i) && i == 1000000000000000000);
    assert_true(read_u64("18446744073709551615", &u) && u == UINT64_MAX);
    assert_true(read_u64("10000000000000000000", &u) && u == UINT64_C(10000000000000000000));
    assert_false(read_u64("18446744073709551616", &u));
    assert_false(read_u64("100000000000000000000", &u));
    assert_false(read_u64("-1", &u));
    assert_true(read_u64("-0", &u) && u == 0);
    assert_false(read_i64("1.0", &i));
    assert_false(read_i64("1e3", &i));
}

static int shortest_digits(double v, bool is_float) {
    char buf[64];
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(buf, sizeof buf, "%.*e", precision - 1, v);
        if (is_float ? strtof(buf, NULL) == (float)v : strtod(buf, NULL) == v) return precision;
    }
    return 17;
}

static int count_digits(const char *text) { /* significant ones, without trailing zeros */
    int n = 0, zeros = 0;
    for (const char *p = text; *p && *p != 'e'; p++) {
        if (*p < '0' || *p > '9') continue;
        if (*p == '0' && n == 0) continue;
        zeros = *p == '0' ? zeros + 1 : 0;
        n++;
    }
    return n - zeros;
}

static void check_write(double v, bool is_float) {
    char buf[PS_NUMBER_TEXT + 1];
    ps_number n;
    size_t size = is_float ? ps_number_write_f32(buf, (float)v) : ps_number_write_f64(buf, v);
    assert_true(size < PS_NUMBER_TEXT);
    buf[size] = '\0';
    if (ps_number_scan(buf, buf + size, &n) != buf + size) fail_msg("'%s' is not JSON", buf);
    if (is_float ? !same_bits32(strtof(buf, NULL), (float)v) : !same_bits64(strtod(buf, NULL), v))
        fail_msg("%.17g written as '%s'", v, buf);
    if (v != 0 && count_digits(buf) > shortest_digits(v, is_float))
        fail_msg("%.17g written as '%s', not shortest", v, buf);
}

static void test_write(void **state) {
    static const double cases[] = { 0.0,  -0.0,           1.0,   -1.0,     0.5,       0.1,   1.0 / 3, 100.0,
                                    1e15, 1e16,           1e17,  123456.0, 1e-4,      1e-5,  1.5e-7,  16777216,
                                    3e38, 1.17549435e-38, 1e-45, 65504.0,  8388608.0, 0.001, 9.5,     1e21 };
    uint64_t seed = 1181783497276652981u;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_write(cases[i], false);
        check_write((float)cases[i], true);
    }
    for (int e = -149; e < 128; e++)
        check_write(ldexp(1, e), true);
    for (int e = -1074; e < 1024; e++)
        check_write(ldexp(1, e), false);
    for (int i = 0; i < 200000; i++) {
        uint64_t bits = next_random(&seed);
        uint32_t low = (uint32_t)bits;
        double d;
        float f;
        memcpy(&d, &bits, sizeof d);
        memcpy(&f, &low, sizeof f);
        if (i % 4 && isfinite(f)) check_write(f, true);
        if (i % 4 == 0 && isfinite(d)) check_write(d, false);
        check_write((double)(int64_t)bits / 9223372036854775808.0, i % 2);
        if (i % 2) check_write((float)((double)(int64_t)bits / 9223372036854775808.0), true);
    }
}

static void test_layout(void **state) {
    static const struct {
        double value;
        const char *text;
    } cases[] = { { 1, "1.0" },           { 0.001, "0.001" },     { 1e-5, "1e-5" },
                  { 1.25e-5, "1.25e-5" }, { 12345.5, "12345.5" }, { 1e15, "1000000000000000.0" },
                  { 1e16, "1e16" },       { -2.5e20, "-2.5e20" }, { 0.0001, "0.0001" } };
    char buf[PS_NUMBER_TEXT + 1];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf[ps_number_write_f64(buf, cases[i].value)] = '\0';
        assert_string_equal(buf, cases[i].text);
    }
    buf[ps_number_write_i64(buf, INT64_MIN)] = '\0';
    assert_string_equal(buf, "-9223372036854775808");
    buf[ps_number_write_u64(buf, UINT64_MAX)] = '\0';
    assert_string_equal(buf, "18446744073709551615");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_cases), cmocka_unit_test(test_read_random), cmocka_unit_test(test_read_halfway),
        cmocka_unit_test(test_strictness), cmocka_unit_test(test_integers),    cmocka_unit_test(test_write),
        cmocka_unit_test(test_layout),
    };
    return cmocka_run_group_tests_name("server_json_number", tests, NULL, NULL);
}
