#include "server/durations.h"

#include <math.h>
#include <stddef.h>

/* Durations are counted in units of 2^-14 ms, 15625/256 ns: 16 of them are the lowest octave's bound, 2^-10 ms. */
#define UNIT_NS 15625
#define UNITS 256
#define LOG_SPLIT 4
#define SPLIT (1 << LOG_SPLIT) /* buckets of an octave */
#define LOWEST_POWER (-10)
#define LONGEST_NS (INT64_C(1000000) << 20)

/* Bounds belong to the bucket below them, as those of Prometheus do. */
static size_t bucket_of(uint64_t ns) {
    const uint64_t units = ns ? (ns * UNITS - 1) / UNIT_NS : 0;
    if (units < SPLIT) return (size_t)units;
    const int octave = 63 - __builtin_clzll(units) - LOG_SPLIT;
    return ((size_t)octave + 1) * SPLIT + (size_t)((units >> octave) & (SPLIT - 1));
}

static double middle_of(size_t bucket) {
    if (bucket < SPLIT) return ((double)bucket + 0.5) * UNIT_NS / UNITS;
    const int octave = (int)(bucket / SPLIT) - 1;
    return ldexp((double)(SPLIT + bucket % SPLIT) + 0.5, octave) * UNIT_NS / UNITS;
}

void ps_durations_add(ps_durations *h, int64_t ns) {
    const uint64_t value = ns < 0 ? 0 : (uint64_t)ns;
    h->count++;
    h->ns += value;
    h->bucket[bucket_of(value < LONGEST_NS ? value : LONGEST_NS)]++;
}

void ps_durations_merge(ps_durations *h, const ps_durations *other) {
    h->count += other->count;
    h->ns += other->ns;
    for (size_t i = 0; i < PS_DURATIONS_BUCKETS; i++)
        h->bucket[i] += other->bucket[i];
}

int64_t ps_durations_quantile(const ps_durations *h, double q) {
    const double rank = ceil(q * (double)h->count);
    uint64_t seen = 0;
    for (size_t i = 0; i < PS_DURATIONS_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen && (double)seen >= rank) return (int64_t)middle_of(i);
    }
    return 0;
}

uint64_t ps_durations_at_most(const ps_durations *h, int power) {
    const size_t end = (size_t)(power - LOWEST_POWER + 1) * SPLIT;
    uint64_t sum = 0;
    for (size_t i = 0; i < end && i < PS_DURATIONS_BUCKETS; i++)
        sum += h->bucket[i];
    return sum;
}
