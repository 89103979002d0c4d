/* durations.h - durations counted in buckets of nearly equal relative width: percentiles without keeping what was
 * counted.
 *
 * Each octave of time is cut into 16 buckets of equal width, so that a quantile, told as the middle of its bucket, is
 * within 1/32 (3.2 %) of a duration that was counted, from 1 us to 2^20 ms (17 minutes); below 1 us it is within 31 ns,
 * and what is longer counts as 2^20 ms. Powers of two of a millisecond are bounds of buckets, so counts up to one of
 * them are exact. Fixed size, no memory of its own, no lock: the caller's guards it. */
#ifndef PS_SERVER_DURATIONS_H
#define PS_SERVER_DURATIONS_H

#include <stdint.h>

#define PS_DURATIONS_BUCKETS 496 /* 16 below 2^-10 ms, and 16 for each octave above */

typedef struct ps_durations {
    uint64_t count, ns; /* of all, and their sum */
    uint64_t bucket[PS_DURATIONS_BUCKETS];
} ps_durations;

void ps_durations_add(ps_durations *h, int64_t ns); /* below 0 counts as 0 */
void ps_durations_merge(ps_durations *h, const ps_durations *other);
/* The duration in nanoseconds that the share q (above 0, at most 1) of all do not exceed; 0: there are none. */
int64_t ps_durations_quantile(const ps_durations *h, double q);
/* How many took at most 2^power ms; power -10 to 20. */
uint64_t ps_durations_at_most(const ps_durations *h, int power);

#endif
