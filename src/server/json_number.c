/* Reading: Clinger's fast path ("How to read floating point numbers accurately", 1990) for short decimals; exact
 * 128-bit integer arithmetic for up to 19 digits and |exponent| <= 27, which covers what programs print for float32 and
 * most float64; the C library for the rest. Writing is in json_number_write.c. */
#include "server/json_number.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/json_number_int.h"

#define MAX_DIGITS 19 /* 10^19 - 1 < 2^64 */
#define EXP_CLAMP 100000

const uint64_t ps_pow5[PS_POW5_MAX + 1] = {
    1,
    5,
    25,
    125,
    625,
    3125,
    15625,
    78125,
    390625,
    1953125,
    9765625,
    48828125,
    244140625,
    1220703125,
    UINT64_C(6103515625),
    UINT64_C(30517578125),
    UINT64_C(152587890625),
    UINT64_C(762939453125),
    UINT64_C(3814697265625),
    UINT64_C(19073486328125),
    UINT64_C(95367431640625),
    UINT64_C(476837158203125),
    UINT64_C(2384185791015625),
    UINT64_C(11920928955078125),
    UINT64_C(59604644775390625),
    UINT64_C(298023223876953125),
    UINT64_C(1490116119384765625),
    UINT64_C(7450580596923828125),
};

static const double pow10_exact[23] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

static bool is_digit(char c) {
    return (unsigned char)(c - '0') < 10;
}

/* Adds a run of digits; `count` is of significant ones so far. Returns the position after the run. */
static const char *scan_digits(const char *p, const char *end, ps_number *n, int *count, int64_t *dropped) {
    for (; p < end && is_digit(*p); p++) {
        if (*count < MAX_DIGITS) {
            n->digits = n->digits * 10 + (uint64_t)(*p - '0');
            *count += n->digits != 0;
        } else {
            n->truncated |= *p != '0';
            ++*dropped;
        }
    }
    return p;
}

static const char *scan_exponent(const char *p, const char *end, int64_t *exp10) {
    bool negative = false;
    int64_t value = 0;
    if (p < end && (*p == '+' || *p == '-')) negative = *p++ == '-';
    if (p == end || !is_digit(*p)) return NULL;
    for (; p < end && is_digit(*p); p++)
        if (value < EXP_CLAMP) value = value * 10 + (*p - '0');
    *exp10 += negative ? -value : value;
    return p;
}

const char *ps_number_scan(const char *p, const char *end, ps_number *ret) {
    ps_number n = { .begin = p, .integer = true };
    int count = 0;
    int64_t dropped = 0;
    if (p < end && *p == '-') {
        n.negative = true;
        p++;
    }
    if (p == end || !is_digit(*p)) return NULL;
    if (*p == '0') {
        p++;
        if (p < end && is_digit(*p)) return NULL; /* leading zero */
    } else {
        p = scan_digits(p, end, &n, &count, &dropped);
        n.exp10 = dropped;
    }
    if (p < end && *p == '.') {
        const char *first = ++p;
        int64_t ignored = 0;
        n.integer = false;
        p = scan_digits(p, end, &n, &count, &ignored);
        if (p == first) return NULL;
        n.exp10 -= (p - first) - ignored;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        n.integer = false;
        p = scan_exponent(p + 1, end, &n.exp10);
        if (!p) return NULL;
    }
    if (p - n.begin > PS_NUMBER_MAX_CHARS) return NULL;
    n.end = p;
    *ret = n;
    return p;
}

/* digits * 10^exp10, correctly rounded (ties to even) to a mantissa of `bits` bits: value = mant * 2^exp with
 * 2^(bits-1) <= mant < 2^bits. Needs digits != 0 and |exp10| <= PS_POW5_MAX. */
static uint64_t round_exact(uint64_t digits, int exp10, int bits, int *ret_exp) {
    ps_u128 n, rest, half;
    bool sticky = false;
    int exp, drop;
    uint64_t mant;
    if (exp10 >= 0) {
        n = (ps_u128)digits * ps_pow5[exp10];
        exp = exp10;
    } else { /* the quotient has at least 64 bits, as the divisor is below 2^63 */
        int shift = __builtin_clzll(digits) + 64;
        ps_u128 dividend = (ps_u128)digits << shift;
        n = dividend / ps_pow5[-exp10];
        sticky = n * ps_pow5[-exp10] != dividend;
        exp = exp10 - shift;
    }
    drop = ps_u128_bits(n) - bits;
    *ret_exp = exp + drop;
    if (drop <= 0) return (uint64_t)(n << -drop);
    mant = (uint64_t)(n >> drop);
    rest = n & (((ps_u128)1 << drop) - 1);
    half = (ps_u128)1 << (drop - 1);
    if (rest > half || (rest == half && (sticky || (mant & 1)))) mant++;
    if (mant >> bits) {
        mant >>= 1;
        ++*ret_exp;
    }
    return mant;
}

/* Copies the token with the decimal point of the current locale, which is what strtod expects. */
static void copy_for_libc(const ps_number *n, char *buf, size_t room) {
    const char *point = localeconv()->decimal_point;
    size_t used = 0;
    for (const char *p = n->begin; p < n->end; p++) {
        size_t len = *p == '.' ? strlen(point) : 1;
        if (used + len >= room) break;
        memcpy(buf + used, *p == '.' ? point : p, len);
        used += len;
    }
    buf[used] = '\0';
}

static bool exact_range(const ps_number *n) {
    return !n->truncated && n->exp10 >= -PS_POW5_MAX && n->exp10 <= PS_POW5_MAX;
}

static bool clinger_range(const ps_number *n) {
    return !n->truncated && n->digits <= (UINT64_C(1) << 53) && n->exp10 >= -22 && n->exp10 <= 22;
}

static double clinger(const ps_number *n) {
    double v = (double)n->digits;
    return n->exp10 < 0 ? v / pow10_exact[-n->exp10] : v * pow10_exact[n->exp10];
}

bool ps_number_f64(const ps_number *n, double *ret) {
    double v;
    if (n->digits == 0 && !n->truncated) {
        v = 0.0;
    } else if (clinger_range(n)) {
        v = clinger(n);
    } else if (exact_range(n)) {
        int exp;
        uint64_t mant = round_exact(n->digits, (int)n->exp10, 53, &exp);
        uint64_t bits = ((uint64_t)(exp + 52 + 1023) << 52) | (mant & ((UINT64_C(1) << 52) - 1));
        memcpy(&v, &bits, sizeof v);
    } else {
        char buf[PS_NUMBER_MAX_CHARS + 16];
        copy_for_libc(n, buf, sizeof buf);
        *ret = strtod(buf, NULL); /* has the sign */
        return isfinite(*ret);
    }
    *ret = n->negative ? -v : v;
    return true;
}

/* A double that was correctly rounded may be rounded again to float unless it lies exactly between two floats: only
 * then can the lost digits matter. Holds for doubles in the normal range of float. */
static bool between_floats(double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return (bits & 0x1fffffff) == 0x10000000;
}

bool ps_number_f32(const ps_number *n, float *ret) {
    float v;
    if (n->digits == 0 && !n->truncated) {
        *ret = n->negative ? -0.0f : 0.0f;
        return true;
    }
    if (clinger_range(n)) {
        double d = clinger(n); /* within [1e-22, 1e38] */
        if (!between_floats(d)) {
            *ret = (float)(n->negative ? -d : d);
            return true;
        }
    }
    if (exact_range(n)) {
        int exp;
        uint64_t mant = round_exact(n->digits, (int)n->exp10, 24, &exp);
        uint32_t bits;
        if (exp + 24 > 128) return false;
        bits = ((uint32_t)(exp + 23 + 127) << 23) | (uint32_t)(mant & 0x7fffff);
        memcpy(&v, &bits, sizeof v);
        *ret = n->negative ? -v : v;
        return true;
    }
    char buf[PS_NUMBER_MAX_CHARS + 16];
    copy_for_libc(n, buf, sizeof buf);
    *ret = strtof(buf, NULL);
    return isfinite(*ret);
}

/* Magnitude of an integer token; false if it has a fraction or needs more than 64 bits. */
static bool magnitude(const ps_number *n, uint64_t *ret) {
    uint64_t value = 0;
    if (!n->integer) return false;
    if (n->exp10 == 0) { /* at most 19 digits: exact */
        *ret = n->digits;
        return true;
    }
    for (const char *p = n->begin + n->negative; p < n->end; p++)
        if (__builtin_mul_overflow(value, 10u, &value) || __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    *ret = value;
    return true;
}

bool ps_number_i64(const ps_number *n, int64_t *ret) {
    uint64_t m;
    if (!magnitude(n, &m) || m > (uint64_t)INT64_MAX + n->negative) return false;
    *ret = n->negative ? (int64_t)(0 - m) : (int64_t)m;
    return true;
}

bool ps_number_u64(const ps_number *n, uint64_t *ret) {
    return magnitude(n, ret) && (!n->negative || *ret == 0);
}
