/* Shortest text of floats by the method of R. Giulietti, "The Schubfach way to render doubles" (2020): the ends of the
 * interval of reals that round to the value are scaled by one power of ten to integers; at most two decimals of that
 * scale and of the next coarser one are candidates. Of the shortest texts it finds the one nearest to the value. */
#include <string.h>

#include "server/json_number.h"
#include "server/json_number_int.h"

/* digits * 10^exp10 */
typedef struct decimal {
    uint64_t digits;
    int exp10;
} decimal;

/* ---- integers ---- */

static const char pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
    "49505152535455565758596061626364656667686970717273747576777879808182838485868788899091929394959697"
    "9899";

static int count_digits(uint64_t v) {
    static const uint64_t tens[20] = { 0,
                                       10,
                                       100,
                                       1000,
                                       10000,
                                       100000,
                                       1000000,
                                       10000000,
                                       100000000,
                                       1000000000,
                                       UINT64_C(10000000000),
                                       UINT64_C(100000000000),
                                       UINT64_C(1000000000000),
                                       UINT64_C(10000000000000),
                                       UINT64_C(100000000000000),
                                       UINT64_C(1000000000000000),
                                       UINT64_C(10000000000000000),
                                       UINT64_C(100000000000000000),
                                       UINT64_C(1000000000000000000),
                                       UINT64_C(10000000000000000000) };
    int n = ((64 - __builtin_clzll(v | 1)) * 1233) >> 12; /* 1233 / 4096 ≈ log10(2): right, or one too small */
    return n + (v >= tens[n]);
}

/* The last n digits of v. */
static void put_digits(char *buf, uint64_t v, int n) {
    for (; n >= 2; v /= 100)
        memcpy(buf + (n -= 2), pairs + 2 * (v % 100), 2);
    if (n) *buf = (char)('0' + v % 10);
}

size_t ps_number_write_u64(char *buf, uint64_t value) {
    int n = value ? count_digits(value) : 1;
    put_digits(buf, value, n);
    return (size_t)n;
}

size_t ps_number_write_i64(char *buf, int64_t value) {
    if (value >= 0) return ps_number_write_u64(buf, (uint64_t)value);
    buf[0] = '-';
    return 1 + ps_number_write_u64(buf + 1, 0 - (uint64_t)value);
}

/* ---- shortest decimals ---- */

/* floor(log10(2^exp)), or of 3/4 * 2^exp; exact for the exponents of doubles. */
static int floor_log10(int exp, bool three_quarters) {
    return (int)((exp * INT64_C(1262611) - (three_quarters ? 524031 : 0)) >> 22);
}

/* The paper's g: 10^q / 2^(p - 127), rounded up to an integer above it. */
static ps_u128 above_pow10(int q) {
    const ps_pow10_bits *ten = ps_pow10_of(q);
    return ((ps_u128)ten->high << 64 | ten->low) + (q >= 0 || q < -27);
}

/* g * v / 2^128; an odd result tells that something was cut off. */
static uint64_t scale64(ps_u128 g, uint64_t v) {
    ps_u128 low = (ps_u128)(uint64_t)g * v, high = (ps_u128)(uint64_t)(g >> 64) * v + (uint64_t)(low >> 64);
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

/* The same on 32 bits: g * v / 2^64. */
static uint64_t scale32(uint64_t g, uint32_t v) {
    ps_u128 product = (ps_u128)g * v;
    return (uint64_t)(product >> 64) | ((uint32_t)(product >> 32) > 1);
}

/* The value and the ends of its interval, four times and scaled by 10^-k. `open`: the ends round to neighbours. */
static decimal choose(uint64_t low, uint64_t mid, uint64_t high, bool open, int k) {
    uint64_t lower = low + open, upper = high - open, s = mid / 4, coarse = s / 10;
    if (s >= 10) {
        bool below = lower <= 40 * coarse, above = 40 * coarse + 40 <= upper;
        if (below != above) return (decimal) { coarse + above, k + 1 };
    }
    bool below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    if (below != above) return (decimal) { s + above, k };
    return (decimal) { s + (mid > 4 * s + 2 || (mid == 4 * s + 2 && (s & 1))), k };
}

/* Of mant * 2^exp, mant != 0. `lowest`: mant is the smallest of its binade, where the gap below is half of that above.
 */
static decimal shortest64(uint64_t mant, int exp, bool lowest) {
    int k = floor_log10(exp, lowest), shift = exp + ps_pow10_exponent(-k) + 1;
    ps_u128 g = above_pow10(-k);
    return choose(scale64(g, (4 * mant - 2 + lowest) << shift), scale64(g, 4 * mant << shift),
                  scale64(g, (4 * mant + 2) << shift), mant & 1, k);
}

static decimal shortest32(uint32_t mant, int exp, bool lowest) {
    int k = floor_log10(exp, lowest), shift = exp + ps_pow10_exponent(-k) + 1;
    uint64_t g = ps_pow10_of(-k)->high + 1;
    return choose(scale32(g, (4 * mant - 2 + lowest) << shift), scale32(g, 4 * mant << shift),
                  scale32(g, (4 * mant + 2) << shift), mant & 1, k);
}

static decimal drop_zeros(decimal d) {
    static const struct {
        uint64_t power;
        int zeros;
    } steps[] = { { 100000000, 8 }, { 10000, 4 }, { 100, 2 }, { 10, 1 } };
    if (d.digits % 10) return d;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        for (; d.digits % steps[i].power == 0; d.exp10 += steps[i].zeros)
            d.digits /= steps[i].power;
    return d;
}

/* ---- layout ---- */

/* "1.5", "0.001", "12.0"; exponents outside [-4, 16) as "1.5e-7". */
static size_t layout(char *buf, decimal d) {
    char digits[20];
    int n = (int)ps_number_write_u64(digits, d.digits);
    int point = n + d.exp10; /* digits before the decimal point */
    char *p = buf;
    if (point > 16 || point < -3) {
        *p++ = digits[0];
        if (n > 1) {
            *p++ = '.';
            memcpy(p, digits + 1, (size_t)n - 1);
            p += n - 1;
        }
        *p++ = 'e';
        return (size_t)(p - buf) + ps_number_write_i64(p, point - 1);
    }
    if (point <= 0) {
        *p++ = '0';
        *p++ = '.';
        for (int i = point; i < 0; i++)
            *p++ = '0';
        memcpy(p, digits, (size_t)n);
        return (size_t)(p + n - buf);
    }
    for (int i = 0; i < point; i++)
        *p++ = i < n ? digits[i] : '0';
    *p++ = '.';
    if (point >= n) {
        *p++ = '0';
        return (size_t)(p - buf);
    }
    memcpy(p, digits + point, (size_t)(n - point));
    return (size_t)(p + (n - point) - buf);
}

static size_t write_zero(char *buf, bool negative) {
    memcpy(buf, "-0.0", 4);
    if (!negative) memcpy(buf, "0.0", 3);
    return negative ? 4 : 3;
}

size_t ps_number_write_f32(char *buf, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t exp = bits >> 23 & 0xff, frac = bits & 0x7fffff;
    size_t sign = bits >> 31;
    if ((bits & 0x7fffffff) == 0) return write_zero(buf, sign);
    if (sign) buf[0] = '-';
    bool subnormal = exp == 0;
    decimal d = shortest32(subnormal ? frac : frac | 0x800000, subnormal ? -149 : (int)exp - 150, frac == 0 && exp > 1);
    return sign + layout(buf + sign, drop_zeros(d));
}

size_t ps_number_write_f64(char *buf, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t frac = bits & ((UINT64_C(1) << 52) - 1);
    int exp = (int)(bits >> 52 & 0x7ff);
    size_t sign = bits >> 63;
    if (bits << 1 == 0) return write_zero(buf, sign);
    if (sign) buf[0] = '-';
    bool subnormal = exp == 0;
    decimal d =
        shortest64(subnormal ? frac : frac | UINT64_C(1) << 52, subnormal ? -1074 : exp - 1075, frac == 0 && exp > 1);
    return sign + layout(buf + sign, drop_zeros(d));
}
