/* Shortest text of floats: the interval of reals that round to the value is scaled by a power of ten to integers
 * (exactly, in 128 bits), then digits are dropped while the interval still holds a shorter number: the idea of Steele
 * and White ("How to print floating-point numbers accurately", 1990) on machine integers. Very large and very small
 * magnitudes go through the C library. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/json_number.h"
#include "server/json_number_int.h"

/* digits * 10^exp10 */
typedef struct decimal {
    uint64_t digits;
    int exp10;
} decimal;

/* floor(x * 5^k * 2^shift); *ret_exact tells whether nothing was cut off. false if it does not fit 64 bits. */
static bool scale(uint64_t x, int k, int shift, uint64_t *ret, bool *ret_exact) {
    ps_u128 n = x;
    *ret_exact = true;
    if (k >= 0) {
        n *= ps_pow5[k]; /* x < 2^56, 5^27 < 2^63 */
        if (shift < 0) {
            if (shift <= -128) return false;
            *ret_exact = (n & (((ps_u128)1 << -shift) - 1)) == 0;
            n >>= -shift;
        } else if (shift + ps_u128_bits(n) > 127) {
            return false;
        } else {
            n <<= shift;
        }
    } else {
        if (shift < 0 || shift + ps_u128_bits(n) > 127) return false;
        n <<= shift;
        *ret_exact = n % ps_pow5[-k] == 0;
        n /= ps_pow5[-k];
    }
    *ret = (uint64_t)n;
    return n >> 64 == 0;
}

/* Shortest decimal for mant * 2^exp, mant != 0. `lowest` tells that mant is the smallest of its binade, where the gap
 * below is half of that above. `scale10` is the number of digits after the first to start from. false: out of the fast
 * range. */
static bool shortest(uint64_t mant, int exp, bool lowest, int scale10, decimal *ret) {
    int log2 = exp + 63 - __builtin_clzll(mant);
    int k = scale10 - ((log2 * 1233) >> 12); /* 1233 / 4096 ≈ log10(2): at most one digit more than planned */
    int shift = exp - 2 + k, dropped = 0;
    uint64_t low, mid, high, last = 0;
    bool exact;
    if (k < -PS_POW5_MAX || k > PS_POW5_MAX) return false;
    /* the ends of the interval round to an even mantissa */
    if (!scale(4 * mant - (lowest ? 1 : 2), k, shift, &low, &exact)) return false;
    if (!exact || mant & 1) low++;
    if (!scale(4 * mant, k, shift, &mid, &exact)) return false;
    if (!scale(4 * mant + 2, k, shift, &high, &exact)) return false;
    if (exact && mant & 1) high--;
    if (mid < low || mid > high) return false;
    for (;;) {
        uint64_t l = low / 10 + (low % 10 != 0), h = high / 10;
        if (l > h) break;
        low = l;
        high = h;
        last = mid % 10;
        mid /= 10;
        dropped++;
    }
    if (last >= 5) mid++;
    ret->digits = mid < low ? low : mid > high ? high : mid;
    ret->exp10 = dropped - k;
    return true;
}

/* Through the C library: digits of "%.*e", whatever its decimal point looks like. */
static decimal parse_scientific(const char *text) {
    decimal d = { 0, 0 };
    const char *p = text;
    int after_first = -1;
    for (; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') {
            d.digits = d.digits * 10 + (uint64_t)(*p - '0');
            after_first++;
        }
    d.exp10 = (int)strtol(p + 1, NULL, 10) - after_first;
    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.exp10++;
    }
    return d;
}

static decimal shortest_libc(double value, bool is_float) {
    char buf[64];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(buf, sizeof buf, "%.*e", precision, value);
        if (is_float ? strtof(buf, NULL) == (float)value : strtod(buf, NULL) == value) break;
    }
    return parse_scientific(buf);
}

size_t ps_number_write_u64(char *buf, uint64_t value) {
    char tmp[20];
    size_t n = 0;
    do {
        tmp[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    for (size_t i = 0; i < n; i++)
        buf[i] = tmp[n - 1 - i];
    return n;
}

size_t ps_number_write_i64(char *buf, int64_t value) {
    if (value >= 0) return ps_number_write_u64(buf, (uint64_t)value);
    buf[0] = '-';
    return 1 + ps_number_write_u64(buf + 1, 0 - (uint64_t)value);
}

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
    decimal d;
    memcpy(&bits, &value, sizeof bits);
    uint32_t exp = bits >> 23 & 0xff, frac = bits & 0x7fffff;
    size_t sign = bits >> 31;
    if ((bits & 0x7fffffff) == 0) return write_zero(buf, sign);
    if (sign) buf[0] = '-';
    if (exp == 0 || !shortest(frac | 0x800000, (int)exp - 150, frac == 0, 11, &d))
        d = shortest_libc(fabs((double)value), true);
    return sign + layout(buf + sign, d);
}

size_t ps_number_write_f64(char *buf, double value) {
    uint64_t bits;
    decimal d;
    memcpy(&bits, &value, sizeof bits);
    uint64_t frac = bits & ((UINT64_C(1) << 52) - 1);
    int exp = (int)(bits >> 52 & 0x7ff);
    size_t sign = bits >> 63;
    if (bits << 1 == 0) return write_zero(buf, sign);
    if (sign) buf[0] = '-';
    if (exp == 0 || !shortest(frac | UINT64_C(1) << 52, exp - 1075, frac == 0, 17, &d))
        d = shortest_libc(fabs(value), false);
    return sign + layout(buf + sign, d);
}
