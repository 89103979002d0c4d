/* json_number_int.h - what reading and writing of numbers share. */
#ifndef PS_SERVER_JSON_NUMBER_INT_H
#define PS_SERVER_JSON_NUMBER_INT_H

#include <stdint.h>

__extension__ typedef unsigned __int128 ps_u128;

#define PS_POW5_MAX 27 /* 5^27 < 2^63 */
extern const uint64_t ps_pow5[PS_POW5_MAX + 1];

static inline int ps_u128_bits(ps_u128 v) {
    uint64_t high = (uint64_t)(v >> 64), low = (uint64_t)v;
    if (high) return 128 - __builtin_clzll(high);
    return low ? 64 - __builtin_clzll(low) : 0;
}

#endif
