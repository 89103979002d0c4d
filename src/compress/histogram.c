/* histogram.c - see histogram.h. */
#include "compress/histogram.h"

#include <math.h>
#include <string.h>

#include "base/thread.h"
#include "compress/loops.h"

enum { BINS = PS_HISTOGRAM_BINS, MOST_COUNTED = 65536, TABLES = 2, AT_ONCE = 256, GRAIN = 16384, MOST_PARTS = 16 };

/* Twice the range, upwards or downwards: neighbours become one bin. */
static void widen(ps_histogram *h, bool down) {
    uint64_t *b = h->bins;
    if (down) {
        for (int i = BINS - 1; i >= BINS / 2; i--)
            b[i] = b[2 * i - BINS] + b[2 * i - BINS + 1];
        memset(b, 0, BINS / 2 * sizeof *b);
        h->low -= h->width * BINS;
    } else {
        for (int i = 0; i < BINS / 2; i++)
            b[i] = b[2 * i] + b[2 * i + 1];
        memset(b + BINS / 2, 0, BINS / 2 * sizeof *b);
    }
    h->width *= 2;
}

/* Makes [min, max] fall into the bins. */
static bool cover(ps_alloc_state *alloc, ps_histogram *h, double min, double max) {
    if (!h->bins) {
        const double span = max - min, size = fabs(max) > fabs(min) ? fabs(max) : fabs(min);
        h->bins = ps_alloc_zero(alloc, BINS * sizeof *h->bins);
        if (!h->bins) return false;
        h->low = min;
        h->width = (span > 0 ? span * 1.0009765625 : size > 0 ? size : 1) / BINS;
    }
    while (min < h->low)
        widen(h, true);
    while (max >= h->low + h->width * BINS)
        widen(h, false);
    return true;
}

/* The finite values' ends; *ret_odd: how many others there are. */
static void finite_ends(const float *x, size_t n, float *ret_min, float *ret_max, uint64_t *ret_odd) {
    float min = INFINITY, max = -INFINITY;
    uint64_t odd = 0;
    for (size_t i = 0; i < n; i++) {
        odd += !isfinite(x[i]);
        if (!isfinite(x[i])) continue;
        min = fminf(min, x[i]);
        max = fmaxf(max, x[i]);
    }
    *ret_min = min;
    *ret_max = max;
    *ret_odd = odd;
}

/* ---- one tensor, in parts ---- */

typedef struct part {
    float min, max;
    bool finite;
    uint32_t tables[TABLES][BINS];
} part;

typedef struct adding {
    ps_histogram_values v;
    const ps_loops *loops;
    size_t first, step, counted; /* of the values in row-major order, those that are counted */
    float low, per;              /* of the bins */
    bool look, count;            /* what is to be done */
    part *parts;
    size_t n_parts;
} adding;

/* Neighbours go to tables of their own: many values are equal, and one count after the other in the same place would
 * wait for it. */
static void count_some(const adding *a, part *p, const float *x, size_t n) {
    int32_t bins[AT_ONCE];
    a->loops->bins(x, (int64_t)n, a->low, a->per, BINS - 1, bins);
    for (size_t i = 0; i < n; i++)
        p->tables[i % TABLES][bins[i]]++;
}

/* Those from begin to end of the values that are counted. */
static void count_rows(const adding *a, part *p, size_t begin, size_t end) {
    float some[AT_ONCE];
    for (size_t i = begin; i < end; i += AT_ONCE) {
        const size_t n = end - i < AT_ONCE ? end - i : AT_ONCE;
        const float *x = a->v.x + a->first + i * a->step;
        for (size_t k = 0; a->step > 1 && k < n; k++)
            some[k] = x[k * a->step];
        count_some(a, p, a->step > 1 ? some : x, n);
    }
}

/* The same where channels lie innermost. */
static void count_last(const adding *a, part *p, size_t begin, size_t end) {
    const size_t channels = a->v.channels, pixels = a->v.pixels, i = a->first + begin * a->step;
    size_t image = i / (channels * pixels), channel = i / pixels % channels, pixel = i % pixels, k = 0;
    float some[AT_ONCE];
    for (size_t left = end - begin; left; left--) {
        some[k++] = a->v.x[(image * pixels + pixel) * channels + channel];
        if (k == AT_ONCE || left == 1) {
            count_some(a, p, some, k);
            k = 0;
        }
        for (pixel += a->step; pixel >= pixels; pixel -= pixels) {
            if (++channel < channels) continue;
            channel = 0;
            image++;
        }
    }
}

static void add_parts(void *ctx, int64_t begin, int64_t end, int thread) {
    const adding *a = ctx;
    (void)thread;
    for (size_t k = (size_t)begin; k < (size_t)end; k++) {
        part *p = &a->parts[k];
        const size_t from = a->v.n / a->n_parts * k, to = k + 1 < a->n_parts ? from + a->v.n / a->n_parts : a->v.n;
        const size_t share = a->counted / a->n_parts, first = share * k;
        const size_t last = k + 1 < a->n_parts ? first + share : a->counted;
        if (a->look) {
            p->min = INFINITY;
            p->max = -INFINITY;
            p->finite = a->loops->ends(a->v.x + from, (int64_t)(to - from), &p->min, &p->max);
        }
        if (!a->count) continue;
        memset(p->tables, 0, sizeof p->tables);
        /* Where all of them are counted, their order does not matter. */
        (a->v.channels && a->step > 1 ? count_last : count_rows)(a, p, first, last);
    }
}

static void run_parts(adding *a, const ps_histogram *h, bool look, bool count) {
    a->look = look;
    a->count = count;
    a->low = (float)h->low;
    a->per = count ? (float)(1 / h->width) : 0;
    ps_parallel_for((int64_t)a->n_parts, 1, (int)a->n_parts, add_parts, a);
}

static void take_counts(ps_histogram *h, const adding *a) {
    for (size_t k = 0; k < a->n_parts; k++)
        for (int t = 0; t < TABLES; t++)
            for (int b = 0; b < BINS; b++)
                h->bins[b] += a->parts[k].tables[t][b];
    h->counted += a->counted;
}

/* Row-major values some of which are no finite numbers: one part, of those that are. */
static void count_finite(adding *a, ps_histogram *h) {
    float some[AT_ONCE];
    size_t k = 0;
    a->low = (float)h->low;
    a->per = (float)(1 / h->width);
    memset(a->parts->tables, 0, sizeof a->parts->tables);
    const size_t channels = a->v.channels ? a->v.channels : 1, pixels = a->v.channels ? a->v.pixels : a->v.n;
    uint64_t counted = 0;
    for (size_t i = a->first; i < a->v.n; i += a->step) {
        const float x = a->v.x[(i / (channels * pixels) * pixels + i % pixels) * channels + i / pixels % channels];
        if (isfinite(x)) some[k++] = x;
        if (k < AT_ONCE) continue;
        count_some(a, a->parts, some, k);
        counted += k;
        k = 0;
    }
    count_some(a, a->parts, some, k);
    a->n_parts = 1;
    a->counted = counted + k;
    take_counts(h, a);
}

static bool add(ps_alloc_state *alloc, ps_histogram *h, adding *a) {
    float min = INFINITY, max = -INFINITY;
    uint64_t odd = 0;
    bool finite = true;
    const bool known = h->bins != NULL; /* mostly the bins that are there will do */
    run_parts(a, h, true, known);
    for (size_t k = 0; k < a->n_parts; k++) {
        min = a->parts[k].min < min ? a->parts[k].min : min;
        max = a->parts[k].max > max ? a->parts[k].max : max;
        finite &= a->parts[k].finite;
    }
    if (!finite) finite_ends(a->v.x, a->v.n, &min, &max, &odd);
    h->odd += odd;
    if (min > max) return true;
    if (!known || min < h->min) h->min = min;
    if (!known || max > h->max) h->max = max;
    const double low = h->low, width = h->width;
    if (!cover(alloc, h, (double)min, (double)max)) return false;
    if (odd) {
        count_finite(a, h);
        return true;
    }
    if (!known || low != h->low || width != h->width) run_parts(a, h, false, true);
    take_counts(h, a);
    return true;
}

bool ps_histogram_add(ps_alloc_state *alloc, ps_histogram *h, ps_histogram_values v, int threads) {
    if (!v.n) return true;
    adding a = { .v = v, .loops = ps_loops_pick(), .step = v.n / MOST_COUNTED + 1 };
    h->count += v.n;
    a.first = (size_t)(h->count % a.step); /* the ends are exact, what lies between is sampled */
    a.counted = v.n > a.first ? (v.n - a.first + a.step - 1) / a.step : 0;
    a.n_parts = (size_t)ps_parallel_ranges((int64_t)v.n, GRAIN, threads < MOST_PARTS ? threads : MOST_PARTS);
    a.parts = ps_alloc_array(alloc, a.n_parts, sizeof *a.parts);
    if (!a.parts) return false;
    const bool done = add(alloc, h, &a);
    ps_free(alloc, a.parts);
    return done;
}

bool ps_histogram_merge(ps_alloc_state *alloc, ps_histogram *h, const ps_histogram *from) {
    if (!from->bins) return true;
    if (!h->bins || from->min < h->min) h->min = from->min;
    if (!h->bins || from->max > h->max) h->max = from->max;
    if (!cover(alloc, h, from->min, from->max)) return false;
    h->count += from->count;
    h->counted += from->counted;
    h->odd += from->odd;
    for (int i = 0; i < BINS; i++) {
        const double x = from->low + (i + 0.5) * from->width;
        int bin = (int)((x - h->low) / h->width);
        bin = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
        h->bins[bin] += from->bins[i];
    }
    return true;
}

void ps_histogram_release(ps_alloc_state *alloc, ps_histogram *h) {
    ps_free(alloc, h->bins);
    h->bins = NULL;
}
