/* Reading. Digits are taken eight at a time; the value is the decimal times a power of ten of 128 bits, which rounds
 * correctly for up to 19 digits (Lemire, "Number parsing at a gigabyte per second", 2021; Mushtak and Lemire, "Fast
 * number parsing without fallback", 2023). More digits are tried as the two decimals around them; where these differ,
 * the C library decides. Writing is in json_number_write.c. */
#include "server/json_number.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/json_number_int.h"

#define MAX_DIGITS 19 /* 10^19 - 1 < 2^64 */
#define EXP_CLAMP 100000
#define ALWAYS_INLINE static inline __attribute__((always_inline))

static bool is_digit(char c) {
    return (unsigned char)(c - '0') < 10;
}

/* ---- scanning ---- */

/* Eight characters, the first in the lowest byte. */
ALWAYS_INLINE uint64_t load8(const char *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

/* Reads up to eight digits at p, which has eight characters, onto *value. Returns how many there were. */
ALWAYS_INLINE int take_digits(const char *p, uint64_t *value) {
    static const uint32_t scale[9] = { 1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000 };
    uint64_t v = load8(p) ^ UINT64_C(0x3030303030303030); /* digits are 0 to 9 now, nothing else is */
    uint64_t other = (v | (v + UINT64_C(0x7676767676767676))) & UINT64_C(0x8080808080808080);
    int n = other ? __builtin_ctzll(other) / 8 : 8; /* a carry spoils only what is above the lowest */
    if (n == 0) return 0;
    v <<= 64 - 8 * n; /* leading zeros */
    v = ((v & UINT64_C(0x0f0f0f0f0f0f0f0f)) * (10 * 256 + 1) >> 8) & UINT64_C(0x00ff00ff00ff00ff);
    v = (v * (100 * 65536 + 1) >> 16) & UINT64_C(0x0000ffff0000ffff);
    v = v * ((UINT64_C(10000) << 32) + 1) >> 32;
    *value = *value * scale[n] + v;
    return n;
}

/* A run of digits; *value wraps around beyond 19. Returns the position after the run. */
ALWAYS_INLINE const char *scan_digits(const char *p, const char *end, uint64_t *value) {
    while (end - p >= 8) {
        int n = take_digits(p, value);
        p += n;
        if (n < 8) return p;
    }
    for (; p < end && is_digit(*p); p++)
        *value = *value * 10 + (uint64_t)(*p - '0');
    return p;
}

/* Behind the 'e'; NULL: no digits. */
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

static ptrdiff_t leading_zeros(const char *p, const char *end) {
    ptrdiff_t count = 0;
    for (; p < end && (*p == '0' || *p == '.'); p++)
        count += *p == '0';
    return count;
}

/* Digits and exponent again for a token of more than 19 digits: the first 19 that count, and whether others do. */
static void scan_long(ps_number *n, const char *digits_end) {
    int count = 0;
    bool fraction = false;
    n->digits = 0;
    n->exp10 = 0;
    for (const char *p = n->begin + n->negative; p < digits_end; p++) {
        if (*p == '.') {
            fraction = true;
        } else if (count < MAX_DIGITS) {
            n->digits = n->digits * 10 + (uint64_t)(*p - '0');
            count += n->digits != 0;
            n->exp10 -= fraction;
        } else {
            n->truncated |= *p != '0';
            n->exp10 += !fraction;
        }
    }
}

ALWAYS_INLINE const char *scan(const char *p, const char *end, ps_number *n) {
    *n = (ps_number) { .begin = p, .integer = true };
    if (p < end && *p == '-') {
        n->negative = true;
        p++;
    }
    const char *first = p;
    int64_t exp10 = 0;
    if (p == end || !is_digit(*p)) return NULL;
    if (*p == '0') {
        p++;
        if (p < end && is_digit(*p)) return NULL; /* leading zero */
    } else {
        p = scan_digits(p, end, &n->digits);
    }
    ptrdiff_t count = p - first;
    if (p < end && *p == '.') {
        const char *fraction = ++p;
        n->integer = false;
        p = scan_digits(p, end, &n->digits);
        if (p == fraction) return NULL;
        n->exp10 = fraction - p;
        count += p - fraction;
    }
    const char *digits_end = p;
    if (p < end && (*p | 0x20) == 'e') {
        n->integer = false;
        p = scan_exponent(p + 1, end, &exp10);
        if (!p) return NULL;
    }
    if (p - n->begin > PS_NUMBER_MAX_CHARS) return NULL;
    if (count > MAX_DIGITS && count - leading_zeros(first, digits_end) > MAX_DIGITS) scan_long(n, digits_end);
    n->exp10 += exp10;
    n->end = p;
    return p;
}

const char *ps_number_scan(const char *p, const char *end, ps_number *ret) {
    ps_number n;
    p = scan(p, end, &n);
    if (p) *ret = n;
    return p;
}

/* ---- floats ---- */

/* A binary format; values are mant * 2^exp. */
typedef struct format {
    int mant_bits; /* stored ones */
    int exp_bias, exp_inf;
    int least10, most10;       /* 10^q beyond is 0 or infinity with any 19 digits */
    int least_half, most_half; /* q for which a decimal can lie in the middle of two values */
} format;

static const format format64 = { 52, 1023, 0x7ff, PS_POW10_LEAST, 308, -4, 23 };
static const format format32 = { 23, 127, 0xff, -65, 38, -17, 10 };

/* w * 10^q, rounded to the nearest (ties to even); infinity where it is too large. */
ALWAYS_INLINE uint64_t round_decimal(uint64_t w, int64_t q64, const format f) {
    if (w == 0 || q64 < f.least10) return 0;
    if (q64 > f.most10) return (uint64_t)f.exp_inf << f.mant_bits;
    int q = (int)q64, zeros = __builtin_clzll(w);
    const ps_pow10_bits *ten = ps_pow10_of(q);
    ps_u128 product = (ps_u128)(w << zeros) * ten->high;
    product += ((ps_u128)(w << zeros) * ten->low) >> 64;
    uint64_t upper = (uint64_t)(product >> 64), lower = (uint64_t)product;
    int top = (int)(upper >> 63), shift = top + 61 - f.mant_bits; /* leaves the mantissa and a bit for rounding */
    uint64_t mant = upper >> shift;
    int exp = ps_pow10_exponent(q) + 63 + top - zeros + f.exp_bias;
    if (exp <= 0) { /* subnormal, where nothing lies in the middle of two values */
        mant = exp > -62 ? mant >> (1 - exp) : 0;
        return (mant + (mant & 1)) >> 1; /* the smallest normal value, if it comes to that */
    }
    bool half = lower <= 1 && q >= f.least_half && q <= f.most_half && mant << shift == upper;
    mant += (mant & 1) & ~(uint64_t)(half && (mant & 3) == 1);
    mant >>= 1;
    exp += (int)(mant >> (f.mant_bits + 1)); /* rounded up to the next power of two: all other bits are 0 */
    if (exp >= f.exp_inf) return (uint64_t)f.exp_inf << f.mant_bits;
    return (uint64_t)exp << f.mant_bits | (mant & ((UINT64_C(1) << f.mant_bits) - 1));
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

static bool slow_f64(const ps_number *n, double *ret) {
    char buf[PS_NUMBER_MAX_CHARS + 16];
    copy_for_libc(n, buf, sizeof buf);
    *ret = strtod(buf, NULL);
    return isfinite(*ret);
}

static bool slow_f32(const ps_number *n, float *ret) {
    char buf[PS_NUMBER_MAX_CHARS + 16];
    copy_for_libc(n, buf, sizeof buf);
    *ret = strtof(buf, NULL);
    return isfinite(*ret);
}

ALWAYS_INLINE bool to_f64(const ps_number *n, double *ret) {
    uint64_t bits = round_decimal(n->digits, n->exp10, format64);
    if (n->truncated && bits != round_decimal(n->digits + 1, n->exp10, format64)) return slow_f64(n, ret);
    bits |= (uint64_t)n->negative << 63;
    memcpy(ret, &bits, sizeof bits);
    return (bits >> 52 & 0x7ff) != 0x7ff;
}

ALWAYS_INLINE bool to_f32(const ps_number *n, float *ret) {
    uint64_t wide = round_decimal(n->digits, n->exp10, format32);
    if (n->truncated && wide != round_decimal(n->digits + 1, n->exp10, format32)) return slow_f32(n, ret);
    uint32_t bits = (uint32_t)wide | (uint32_t)n->negative << 31;
    memcpy(ret, &bits, sizeof bits);
    return (bits >> 23 & 0xff) != 0xff;
}

bool ps_number_f64(const ps_number *n, double *ret) {
    return to_f64(n, ret);
}

bool ps_number_f32(const ps_number *n, float *ret) {
    return to_f32(n, ret);
}

const char *ps_number_read_f64(const char *p, const char *end, double *ret) {
    ps_number n;
    p = scan(p, end, &n);
    return p && to_f64(&n, ret) ? p : NULL;
}

const char *ps_number_read_f32(const char *p, const char *end, float *ret) {
    ps_number n;
    p = scan(p, end, &n);
    return p && to_f32(&n, ret) ? p : NULL;
}

/* ---- integers ---- */

/* Magnitude of an integer token; false if it has a fraction or needs more than 64 bits. */
ALWAYS_INLINE bool magnitude(const ps_number *n, uint64_t *ret) {
    uint64_t value = 0;
    if (!n->integer) return false;
    if (n->exp10 == 0 && !n->truncated) { /* at most 19 digits: exact */
        *ret = n->digits;
        return true;
    }
    for (const char *p = n->begin + n->negative; p < n->end; p++)
        if (__builtin_mul_overflow(value, 10u, &value) || __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    *ret = value;
    return true;
}

ALWAYS_INLINE bool to_i64(const ps_number *n, int64_t *ret) {
    uint64_t m;
    if (!magnitude(n, &m) || m > (uint64_t)INT64_MAX + n->negative) return false;
    *ret = n->negative ? (int64_t)(0 - m) : (int64_t)m;
    return true;
}

bool ps_number_i64(const ps_number *n, int64_t *ret) {
    return to_i64(n, ret);
}

bool ps_number_u64(const ps_number *n, uint64_t *ret) {
    return magnitude(n, ret) && (!n->negative || *ret == 0);
}

const char *ps_number_read_i64(const char *p, const char *end, int64_t *ret) {
    ps_number n;
    p = scan(p, end, &n);
    return p && to_i64(&n, ret) ? p : NULL;
}

const char *ps_number_read_u64(const char *p, const char *end, uint64_t *ret) {
    ps_number n;
    p = scan(p, end, &n);
    return p && ps_number_u64(&n, ret) ? p : NULL;
}
