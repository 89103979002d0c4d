/* json_number_int.h - what reading and writing of numbers share. */
#ifndef PS_SERVER_JSON_NUMBER_INT_H
#define PS_SERVER_JSON_NUMBER_INT_H

#include <stdint.h>

__extension__ typedef unsigned __int128 ps_u128;

/* 10^q = 2^(p - 127) * (high * 2^64 + low), p = ps_pow10_exponent(q): exact for 0 <= q <= 55, rounded up for
 * -27 <= q <= -1, else cut off. high has its highest bit set. */
typedef struct ps_pow10_bits {
    uint64_t high, low;
} ps_pow10_bits;

#define PS_POW10_LEAST (-342)
#define PS_POW10_MOST 324
extern const ps_pow10_bits ps_pow10[PS_POW10_MOST - PS_POW10_LEAST + 1];

static inline const ps_pow10_bits *ps_pow10_of(int q) {
    return &ps_pow10[q - PS_POW10_LEAST];
}

/* floor(q * log2(10)), exact for |q| <= 1233. */
static inline int ps_pow10_exponent(int q) {
    return (int)((q * INT64_C(1741647)) >> 19);
}

#endif
