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
#include "server/json_number_int.h"

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

static void test_read_middle_of_doubles(void **state) { /* long double holds their middle exactly */
    uint64_t seed = 88172645463325252u;
    char buf[128];
    for (int i = 0; i < 300000; i++) {
        uint64_t bits = next_random(&seed) >> 1;
        double a;
        memcpy(&a, &bits, sizeof a);
        if (!isfinite(a)) continue;
        long double middle = ((long double)a + (long double)nextafter(a, INFINITY)) / 2;
        if (!isfinite((double)middle)) continue;
        snprintf(buf, sizeof buf, "%.*Le", 15 + i % 12, middle);
        check_read(buf);
    }
}

static void test_read_all_exponents(void **state) { /* up to 19 digits by every power that matters, and some beyond */
    uint64_t seed = 2685821657736338717u;
    char buf[64];
    for (int q = -370; q <= 330; q++)
        for (int i = 0; i < 600; i++) {
            uint64_t digits = next_random(&seed) >> (i % 64);
            snprintf(buf, sizeof buf, "%llue%d", (unsigned long long)digits, q);
            check_read(buf);
            digits = digits % 1000000000 * 10000000 + 1; /* 16 digits with a run of zeros */
            snprintf(buf, sizeof buf, "%llu.%llue%d", (unsigned long long)(digits / 1000),
                     (unsigned long long)(digits % 1000), q);
            check_read(buf);
        }
}

static void
test_read_digits(void **state) { /* every count of digits on both sides of the point, at the end of memory */
    uint64_t seed = 9746347772161u;
    for (int whole = 1; whole <= 24; whole++)
        for (int fraction = 0; fraction <= 24; fraction++)
            for (int i = 0; i < 20; i++) {
                char buf[64];
                size_t n = 0;
                for (int k = 0; k < whole; k++)
                    buf[n++] = (char)('0' + (k || whole == 1 ? next_random(&seed) % 10 : 1 + next_random(&seed) % 9));
                if (fraction) buf[n++] = '.';
                for (int k = 0; k < fraction; k++)
                    buf[n++] = (char)('0' + (i < 10 && k < i ? 0 : next_random(&seed) % 10));
                buf[n] = '\0';
                check_read(buf);
                char *exact = malloc(n); /* so that a sanitizer sees a step beyond the end */
                assert_non_null(exact);
                memcpy(exact, buf, n);
                double d, want = strtod(buf, NULL);
                assert_ptr_equal(ps_number_read_f64(exact, exact + n, &d), exact + n);
                assert_true(same_bits64(d, want));
                free(exact);
            }
}

/* Numbers of LIMBS 64-bit words, lowest first. */
enum { LIMBS = 16 };

static void multiply(uint64_t *n, uint64_t by) {
    ps_u128 carry = 0;
    for (int i = 0; i < LIMBS; i++) {
        carry += (ps_u128)n[i] * by;
        n[i] = (uint64_t)carry;
        carry >>= 64;
    }
    assert_true(carry == 0);
}

static int bit_length(const uint64_t *n) {
    int i = LIMBS - 1;
    while (i > 0 && !n[i])
        i--;
    return 64 * i + 64 - __builtin_clzll(n[i]);
}

static int compare(const uint64_t *a, const uint64_t *b) {
    for (int i = LIMBS - 1; i >= 0; i--)
        if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
    return 0;
}

static void shift_to(uint64_t *ret, const uint64_t *n, int bits) { /* up */
    memset(ret, 0, LIMBS * sizeof *ret);
    for (int i = 0; i + bits / 64 < LIMBS; i++) {
        ret[i + bits / 64] |= n[i] << bits % 64;
        if (bits % 64 && i + bits / 64 + 1 < LIMBS) ret[i + bits / 64 + 1] |= n[i] >> (64 - bits % 64);
    }
}

/* bits * five, as a long number */
static void product(uint64_t *ret, const uint64_t *five, ps_u128 bits) {
    uint64_t high[LIMBS], shifted[LIMBS];
    memcpy(high, five, sizeof high);
    multiply(high, (uint64_t)(bits >> 64));
    shift_to(shifted, high, 64);
    memcpy(ret, five, LIMBS * sizeof *ret);
    multiply(ret, (uint64_t)bits);
    unsigned carry = 0;
    for (int i = 0; i < LIMBS; i++) {
        ps_u128 sum = (ps_u128)ret[i] + shifted[i] + carry;
        ret[i] = (uint64_t)sum;
        carry = (unsigned)(sum >> 64);
    }
}

static void check_positive_power(int q, const uint64_t *five) { /* the table's bits are the highest of 5^q */
    const ps_pow10_bits *got = ps_pow10_of(q);
    uint64_t bits[LIMBS] = { got->low, got->high }, want[LIMBS];
    int length = bit_length(five);
    assert_int_equal(bit_length(bits), 128);
    assert_int_equal(ps_pow10_exponent(q), q + length - 1);
    if (length <= 128) {
        shift_to(want, five, 128 - length);
        assert_int_equal(compare(want, bits), 0);
    } else { /* bits << k <= 5^q < (bits + 1) << k */
        shift_to(want, bits, length - 128);
        assert_true(compare(want, five) <= 0);
        ps_u128 next = ((ps_u128)got->high << 64 | got->low) + 1;
        uint64_t next_bits[LIMBS] = { (uint64_t)next, (uint64_t)(next >> 64), next == 0 };
        shift_to(want, next_bits, length - 128);
        assert_true(compare(want, five) > 0);
    }
}

static void check_negative_power(int q, const uint64_t *five) { /* the reciprocal of 5^-q to 128 bits */
    const ps_pow10_bits *got = ps_pow10_of(q);
    ps_u128 bits = (ps_u128)got->high << 64 | got->low, floor = bits - (q >= -27);
    uint64_t one[LIMBS] = { 1 }, power[LIMBS], below[LIMBS], above[LIMBS];
    int length = bit_length(five);
    assert_true(got->high >> 63);
    assert_int_equal(ps_pow10_exponent(q), q - length);
    shift_to(power, one, length + 127);
    product(below, five, floor);
    product(above, five, floor + 1);
    assert_true(compare(below, power) < 0 && compare(above, power) > 0);
    assert_true(q < -27 || got->low != 0); /* so that its high half is cut off, as writing of float wants it */
}

static void test_powers(void **state) {
    uint64_t five[LIMBS] = { 1 };
    for (int q = 0; q <= -PS_POW10_LEAST; q++) {
        if (q <= PS_POW10_MOST) check_positive_power(q, five);
        if (q > 0) check_negative_power(-q, five);
        multiply(five, 5);
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
    if (is_float) v = (float)v;
    size_t size = is_float ? ps_number_write_f32(buf, (float)v) : ps_number_write_f64(buf, v);
    assert_true(size < PS_NUMBER_TEXT);
    buf[size] = '\0';
    if (ps_number_scan(buf, buf + size, &n) != buf + size) fail_msg("'%s' is not JSON", buf);
    if (is_float ? !same_bits32(strtof(buf, NULL), (float)v) : !same_bits64(strtod(buf, NULL), v))
        fail_msg("%.17g written as '%s'", v, buf);
    if (v == 0) return;
    int digits = shortest_digits(v, is_float);
    if (count_digits(buf) > digits) fail_msg("%.17g written as '%s', not shortest", v, buf);
    /* Some powers of two have a shorter text than the C library's, whose nearest of that length is not inside. */
    if (count_digits(buf) < digits) return;
    char nearest[64];
    snprintf(nearest, sizeof nearest, "%.*e", digits - 1, v);
    if (is_float ? strtof(nearest, NULL) == (float)v : strtod(nearest, NULL) == v)
        if (strtold(nearest, NULL) != strtold(buf, NULL)) fail_msg("'%s' is not the nearest, %s is", buf, nearest);
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
        cmocka_unit_test(test_read_cases),
        cmocka_unit_test(test_read_random),
        cmocka_unit_test(test_read_halfway),
        cmocka_unit_test(test_read_middle_of_doubles),
        cmocka_unit_test(test_read_all_exponents),
        cmocka_unit_test(test_read_digits),
        cmocka_unit_test(test_powers),
        cmocka_unit_test(test_strictness),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_layout),
    };
    return cmocka_run_group_tests_name("server_json_number", tests, NULL, NULL);
}
