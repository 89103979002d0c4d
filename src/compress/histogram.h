/* histogram.h - what a tensor's values look like, in bounded memory: equal bins over a range that doubles whenever a
 * value falls outside. The outcome depends on the order of the data only. */
#ifndef PS_COMPRESS_HISTOGRAM_H
#define PS_COMPRESS_HISTOGRAM_H

#include <stdint.h>

#include "base/alloc.h"

enum { PS_HISTOGRAM_BINS = 2048 };

typedef struct ps_histogram {
    uint64_t *bins;    /* PS_HISTOGRAM_BINS, or NULL before the first value */
    double low, width; /* of bin 0, of a bin */
    float min, max;
    uint64_t count, odd; /* values, and those among them that are NaN or infinite (in no bin) */
    uint64_t counted;    /* in the bins: of large tensors some 65,536, evenly spread */
} ps_histogram;

/* Values as they lie in memory. channels > 0: n images of [pixels][channels], which count as if they were
 * [channels][pixels]; which of a large tensor's values are counted does not depend on how they lie. */
typedef struct ps_histogram_values {
    const float *x;
    size_t n;
    size_t channels, pixels;
} ps_histogram_values;

/* false: out of memory */
bool ps_histogram_add(ps_alloc_state *alloc, ps_histogram *h, ps_histogram_values v, int threads);
/* Adds what `from` has seen. */
bool ps_histogram_merge(ps_alloc_state *alloc, ps_histogram *h, const ps_histogram *from);
void ps_histogram_release(ps_alloc_state *alloc, ps_histogram *h);

#endif
