/* Number formats against tables of numpy, ml_dtypes and exact arithmetic (tests/gen/convert_table.py).
 * All comparisons are of bits: a conversion has one right answer. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tensor/convert.h"

#include "convert_table.h"

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint64_t fnv(const void *data, size_t n) {
    const uint8_t *p = data;
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

/* f16 by its definition, through ldexp. */
static void test_f16_all(void **state) {
    for (uint32_t h = 0; h < 65536; h++) {
        int exponent = (int)(h >> 10) & 31, mantissa = (int)h & 1023;
        float f = ps_f16_to_f32((uint16_t)h);
        if (exponent == 31 && mantissa) {
            assert_true(isnan(f));
        } else {
            double want = exponent == 31 ? INFINITY
                          : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                         : ldexp(mantissa, -24);
            assert_int_equal(bits_of(f), bits_of((float)(h >> 15 ? -want : want)));
        }
        assert_int_equal(ps_f32_to_f16(f), h); /* NaN payloads too */
    }
}

static void test_bf16_all(void **state) {
    for (uint32_t h = 0; h < 65536; h++) {
        assert_int_equal(bits_of(ps_bf16_to_f32((uint16_t)h)), h << 16);
        assert_int_equal(ps_f32_to_bf16(ps_bf16_to_f32((uint16_t)h)), h);
    }
    assert_true(isnan(ps_bf16_to_f32(ps_f32_to_bf16(float_of(0x7F800001)))));
    assert_true(isnan(ps_f16_to_f32(ps_f32_to_f16(float_of(0xFF800001)))));
}

static bool is_small(ps_dtype dtype) {
    return dtype == PS_DTYPE_F4E2M1 || dtype == PS_DTYPE_F6E2M3 || dtype == PS_DTYPE_F6E3M2;
}

static float widen(uint8_t code, ps_dtype dtype) {
    if (dtype == PS_DTYPE_F4E2M1) return ps_f4_to_f32(code);
    return is_small(dtype) ? ps_f6_to_f32(code, dtype) : ps_f8_to_f32(code, dtype);
}

static int narrow(float f, ps_dtype dtype, bool saturate);

static void check_decode(ps_dtype dtype, const uint32_t *table, int n) {
    for (int v = 0; v < n; v++) {
        float f = widen((uint8_t)v, dtype);
        if (isnan(float_of(table[v]))) {
            assert_true(isnan(f));
            continue;
        }
        assert_int_equal(bits_of(f), table[v]);
        assert_int_equal(narrow(f, dtype, false), v);
    }
}

static void test_small_decode(void **state) {
    check_decode(PS_DTYPE_F8E4M3FN, decode_f8e4m3fn, 256);
    check_decode(PS_DTYPE_F8E4M3FNUZ, decode_f8e4m3fnuz, 256);
    check_decode(PS_DTYPE_F8E5M2, decode_f8e5m2, 256);
    check_decode(PS_DTYPE_F8E5M2FNUZ, decode_f8e5m2fnuz, 256);
    check_decode(PS_DTYPE_F8E8M0, decode_f8e8m0, 256);
    check_decode(PS_DTYPE_F4E2M1, decode_f4e2m1, 16);
    check_decode(PS_DTYPE_F6E2M3, decode_f6e2m3, 64);
    check_decode(PS_DTYPE_F6E3M2, decode_f6e3m2, 64);
}

/* Every f16 and bf16 value, its halfway point to the next with both neighbours, and random bits: as in the generator.
 */
enum { PATTERNS = 9 * 65536 };

static float *make_patterns(void) {
    static const uint32_t f16_steps[] = { 0, 0xFFF, 0x1000, 0x1001 }, bf16_steps[] = { 0, 0x7FFF, 0x8000, 0x8001 };
    float *f = malloc(PATTERNS * sizeof *f);
    assert_non_null(f);
    uint32_t random = 1;
    for (uint32_t h = 0; h < 65536; h++) {
        for (int i = 0; i < 4; i++) {
            f[(uint32_t)i * 65536 + h] = float_of(bits_of(ps_f16_to_f32((uint16_t)h)) + f16_steps[i]);
            f[(uint32_t)(i + 4) * 65536 + h] = float_of((h << 16) + bf16_steps[i]);
        }
        random = random * 1664525 + 1013904223;
        f[8 * 65536 + h] = float_of(random);
    }
    return f;
}

static int narrow(float f, ps_dtype dtype, bool saturate) {
    switch (dtype) {
    case PS_DTYPE_F16: return ps_f32_to_f16(f);
    case PS_DTYPE_BF16: return ps_f32_to_bf16(f);
    case PS_DTYPE_F4E2M1: return ps_f32_to_f4(f);
    case PS_DTYPE_F6E2M3:
    case PS_DTYPE_F6E3M2: return ps_f32_to_f6(f, dtype);
    default: return ps_f32_to_f8(f, dtype, saturate);
    }
}

static bool is_nan_code(int code, ps_dtype dtype) {
    switch (dtype) {
    case PS_DTYPE_F16: return isnan(ps_f16_to_f32((uint16_t)code));
    case PS_DTYPE_BF16: return isnan(ps_bf16_to_f32((uint16_t)code));
    case PS_DTYPE_F4E2M1:
    case PS_DTYPE_F6E2M3:
    case PS_DTYPE_F6E3M2: return false;
    default: return isnan(ps_f8_to_f32((uint8_t)code, dtype));
    }
}

static void test_narrow(void **state) {
    float *f = make_patterns();
    uint8_t *codes = malloc(PATTERNS * 2);
    assert_non_null(codes);
    for (size_t t = 0; t < sizeof narrow_table / sizeof *narrow_table; t++) {
        ps_dtype dtype = narrow_table[t].dtype;
        size_t size = ps_dtype_bits(dtype) == 16 ? 2 : 1;
        for (size_t i = 0; i < PATTERNS; i++) {
            int code = narrow(f[i], dtype, narrow_table[t].saturate);
            if (isnan(f[i]) && !is_small(dtype)) assert_true(is_nan_code(code, dtype));
            if (is_nan_code(code, dtype)) code = 0xFFFF;
            codes[i * size] = (uint8_t)code;
            if (size == 2) codes[i * 2 + 1] = (uint8_t)(code >> 8);
        }
        if (fnv(codes, PATTERNS * size) != narrow_table[t].hash) {
            fail_msg("f32 to %s, saturate %d differs", ps_dtype_name(dtype), narrow_table[t].saturate);
        }
    }
    free(codes);
    free(f);
}

static void test_rows(void **state) {
    float *f = make_patterns();
    uint16_t *h = malloc(PATTERNS * sizeof *h);
    float *back = malloc(PATTERNS * sizeof *back);
    assert_true(h && back);
    ps_f32_to_f16_row(f, h, PATTERNS);
    ps_f16_to_f32_row(h, back, PATTERNS);
    for (size_t i = 0; i < PATTERNS; i++) {
        assert_int_equal(h[i], ps_f32_to_f16(f[i]));
        assert_int_equal(bits_of(back[i]), bits_of(ps_f16_to_f32(h[i])));
    }
    ps_bf16_to_f32_row(h, back, PATTERNS);
    for (size_t i = 0; i < PATTERNS; i++)
        assert_int_equal(bits_of(back[i]), (uint32_t)h[i] << 16);
    free(back);
    free(h);
    free(f);
}

static void test_e8m0(void **state) {
    for (int v = 1; v < 254; v++) {
        float f = ps_f8_to_f32((uint8_t)v, PS_DTYPE_F8E8M0);
        float above = nextafterf(f, INFINITY), half = f * 1.5f, below_half = nextafterf(half, 0);
        assert_int_equal(ps_f32_to_e8m0(above, PS_E8M0_UP, true), v + 1);
        assert_int_equal(ps_f32_to_e8m0(above, PS_E8M0_DOWN, true), v);
        assert_int_equal(ps_f32_to_e8m0(below_half, PS_E8M0_NEAREST, true), v);
        assert_int_equal(ps_f32_to_e8m0(half, PS_E8M0_NEAREST, true), v + 1);
        assert_int_equal(ps_f32_to_e8m0(f, PS_E8M0_NEAREST, true), v);
    }
    assert_int_equal(ps_f32_to_e8m0(0, PS_E8M0_UP, true), 0);
    assert_int_equal(ps_f32_to_e8m0(0, PS_E8M0_UP, false), 255);
    assert_int_equal(ps_f32_to_e8m0(INFINITY, PS_E8M0_UP, true), 254);
    assert_int_equal(ps_f32_to_e8m0(INFINITY, PS_E8M0_NEAREST, false), 255);
    assert_int_equal(ps_f32_to_e8m0(NAN, PS_E8M0_UP, true), 255);
    assert_int_equal(ps_f32_to_e8m0(-1, PS_E8M0_UP, true), 255);
    assert_int_equal(ps_f32_to_e8m0(1e-45f, PS_E8M0_UP, true), 0);
}

static void test_sub_byte(void **state) {
    uint8_t data[4] = { 0xA5, 0x3C, 0x0F, 0xFF };
    static const int i4[] = { 5, -6, -4, 3, -1, 0, -1, -1 }, u2[] = { 1, 1, 2, 2, 0, 3, 3, 0 };
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(ps_i4_get(data, i), i4[i]);
        assert_int_equal(ps_u4_get(data, i), i4[i] & 15);
        assert_int_equal(ps_u2_get(data, i), u2[i]);
        assert_int_equal(ps_i2_get(data, i), u2[i] >= 2 ? u2[i] - 4 : u2[i]);
    }
    ps_u4_set(data, 1, -3);
    ps_u4_set(data, 2, 9);
    ps_u2_set(data, 12, 2);
    assert_memory_equal(data, "\xD5\x39\x0F\xFE", 4);
    /* Six bits: four elements in three bytes, and what lies beside one stays. */
    uint8_t six[6] = { 0xFF, 0, 0, 0xFF, 0xFF, 0xFF };
    static const int codes[] = { 0x15, 0x3E, 0x01, 0x20 };
    for (size_t i = 0; i < 4; i++)
        ps_packed_set(six, i, 6, codes[i]);
    assert_memory_equal(six, "\x95\x1F\x80\xFF\xFF\xFF", 6);
    ps_packed_set(six, 5, 6, 0);
    assert_memory_equal(six, "\x95\x1F\x80\x3F\xF0\xFF", 6);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(ps_packed_get(six, i, 6), codes[i]);
}

/* ---- ps_convert, all pairs ---- */

static void from_hex(const char *hex, uint8_t *out) {
    for (size_t i = 0; hex[2 * i]; i++) {
        unsigned v;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
        out[i] = (uint8_t)v;
    }
}

/* Writes every NaN of packed float data as all ones, as the table has it. */
static void ones_for_nan(uint8_t *data, ps_dtype dtype, size_t n) {
    size_t size = ps_dtype_size(dtype);
    if (size == 0) return;
    for (size_t i = 0; i < n; i++) {
        double d;
        assert_true(ps_convert(data + i * size, dtype, &d, PS_DTYPE_F64, 1, false));
        if (isnan(d)) memset(data + i * size, 0xFF, size);
    }
}

static const convert_source *source_of(ps_dtype dtype) {
    for (size_t i = 0; i < sizeof convert_sources / sizeof *convert_sources; i++) {
        if (convert_sources[i].dtype == dtype) return &convert_sources[i];
    }
    return NULL;
}

static void check_pair(const convert_expected *e, bool saturate, size_t misalign) {
    const convert_source *s = source_of(e->from);
    uint8_t in[2064 + 8], out[2064 + 8];
    size_t bytes;
    from_hex(s->hex, in + misalign);
    memset(out, 0xCC, sizeof out);
    assert_true(ps_convert(in + misalign, e->from, out + misalign, e->to, (size_t)s->n, saturate));
    assert_true(ps_dtype_bytes(e->to, s->n, &bytes));
    assert_int_equal(out[misalign + bytes], 0xCC); /* nothing written beyond */
    ones_for_nan(out + misalign, e->to, (size_t)s->n);
    if (fnv(out + misalign, bytes) != (saturate ? e->saturate : e->plain)) {
        fail_msg("%s to %s, saturate %d, misaligned by %zu", ps_dtype_name(e->from), ps_dtype_name(e->to), saturate,
                 misalign);
    }
}

static void test_all_pairs(void **state) {
    size_t n = sizeof convert_table / sizeof *convert_table;
    assert_int_equal(n, 25 * 25);
    for (size_t i = 0; i < n; i++) {
        check_pair(&convert_table[i], true, 0);
        check_pair(&convert_table[i], false, 0);
        check_pair(&convert_table[i], true, 1);
    }
}

/* Long rows cross the inner blocks: they must agree with converting piece by piece. */
static void test_long_rows(void **state) {
    enum { N = 1003 };
    static float f[N];
    static uint8_t whole[N * 8], part[8];
    for (int i = 0; i < N; i++)
        f[i] = (float)(i % 16) - 8;
    static const ps_dtype types[] = { PS_DTYPE_I4, PS_DTYPE_I2, PS_DTYPE_I64, PS_DTYPE_F16, PS_DTYPE_F4E2M1,
                                      PS_DTYPE_F6E3M2 };
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        size_t bits = ps_dtype_bits(types[t]);
        assert_true(ps_convert(f, PS_DTYPE_F32, whole, types[t], N, true));
        for (size_t i = 0; i < N; i += 4) { /* four elements fill whole bytes of every type */
            size_t count = N - i < 4 ? N - i : 4, bytes = (count * bits + 7) / 8;
            uint8_t four[32];
            assert_true(ps_convert(f + i, PS_DTYPE_F32, four, types[t], count, true));
            assert_memory_equal(four, whole + i * bits / 8, bytes);
        }
    }
    assert_true(ps_convert(f, PS_DTYPE_F32, part, PS_DTYPE_I8, 0, true));
}

static void test_unsupported(void **state) {
    uint8_t data[16] = { 0 }, out[16];
    assert_false(ps_convert(data, PS_DTYPE_STRING, out, PS_DTYPE_F32, 1, true));
    assert_false(ps_convert(data, PS_DTYPE_F32, out, PS_DTYPE_C64, 1, true));
    assert_false(ps_convert(data, PS_DTYPE_UNDEFINED, out, PS_DTYPE_F32, 1, true));
    uint8_t odd_bool[2] = { 2, 0 };
    assert_true(ps_convert(odd_bool, PS_DTYPE_BOOL, out, PS_DTYPE_BOOL, 2, true));
    assert_memory_equal(out, "\1\0", 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_all),     cmocka_unit_test(test_bf16_all),  cmocka_unit_test(test_small_decode),
        cmocka_unit_test(test_narrow),      cmocka_unit_test(test_rows),      cmocka_unit_test(test_e8m0),
        cmocka_unit_test(test_sub_byte),    cmocka_unit_test(test_all_pairs), cmocka_unit_test(test_long_rows),
        cmocka_unit_test(test_unsupported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
