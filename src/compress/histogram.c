/* histogram.c - see histogram.h. */
#include "compress/histogram.h"

#include <math.h>
#include <string.h>

#include "base/thread.h"
#include "compress/loops.h"

enum { BINS = PS_HISTOGRAM_BINS, MOST_COUNTED = 65536, TABLES = 4, AT_ONCE = 256, GRAIN = 16384, MOST_PARTS = 16,
       BLOCK_VALUES = 16384 };

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

/* Where channels lie innermost, pixels are taken as they come, and of each the channels that are counted: element
 * channel * pixels + pixel of an image is the first one plus a multiple of step. So channel * pixels must be some
 * number modulo step, and that decides the first channel; NO_CHANNEL: none is. After step pixels it begins again: in
 * those each channel is counted once. */
enum { MOST_CHANNELS = 4096 };
#define NO_CHANNEL SIZE_MAX

typedef struct lattice {
    uint64_t common;  /* divisor of step and pixels: only its multiples have a channel */
    uint64_t every;   /* of the channels: step / common */
    uint64_t inverse; /* of pixels / common, modulo every */
} lattice;

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    while (b) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Of a modulo m, to which it is prime; m > 1. */
static uint64_t inverse_of(uint64_t a, uint64_t m) {
    int64_t x = 0, next = 1;
    uint64_t r = m, rest = a % m;
    while (rest) {
        const uint64_t q = r / rest, t = r % rest;
        const int64_t y = x - (int64_t)q * next;
        r = rest;
        rest = t;
        x = next;
        next = y;
    }
    return x < 0 ? (uint64_t)(x + (int64_t)m) : (uint64_t)x;
}

static lattice lattice_of(const adding *a) {
    lattice l = { common_divisor(a->step, a->v.pixels), 1, 0 };
    l.every = a->step / l.common;
    if (l.every > 1) l.inverse = inverse_of(a->v.pixels / l.common, l.every);
    return l;
}

/* Of pixel q, counted through all images. */
static size_t first_channel(const adding *a, const lattice *l, size_t q) {
    const size_t place = q / a->v.pixels * a->v.pixels * a->v.channels + q % a->v.pixels;
    const uint64_t number = (a->first + a->step - place % a->step) % a->step;
    return number % l->common ? NO_CHANNEL : number / l->common * l->inverse % l->every;
}

static void count_pixels(const adding *a, const lattice *l, part *p, size_t begin, size_t end) {
    float some[AT_ONCE];
    size_t k = 0;
    for (size_t q = begin; q < end; q++) {
        const float *x = a->v.x + q * a->v.channels;
        for (size_t c = first_channel(a, l, q); c < a->v.channels; c += l->every) {
            some[k++] = x[c];
            if (k < AT_ONCE) continue;
            count_some(a, p, some, k);
            k = 0;
        }
    }
    count_some(a, p, some, k);
}

/* The same of `periods` times step pixels of one image, from q on. */
static void count_periods(const adding *a, const lattice *l, part *p, size_t q, size_t periods) {
    const size_t channels = a->v.channels;
    uint32_t offsets[MOST_CHANNELS];
    float some[AT_ONCE];
    size_t n = 0;
    for (size_t s = 0; s < a->step; s++)
        for (size_t c = first_channel(a, l, q + s); c < channels; c += l->every)
            offsets[n++] = (uint32_t)(s * channels + c);
    for (size_t period = 0; period < periods; period++) {
        const float *x = a->v.x + (q + period * a->step) * channels;
        for (size_t i = 0; i < n; i += AT_ONCE) {
            const size_t count = n - i < AT_ONCE ? n - i : AT_ONCE;
            for (size_t k = 0; k < count; k++)
                some[k] = x[offsets[i + k]];
            count_some(a, p, some, count);
        }
    }
}

/* Pixels from q on that are looked at together, so that they are in the cache when they are counted: whole periods of
 * one image, or what it has left. */
static size_t some_pixels(const adding *a, size_t q, size_t end, size_t *ret_periods) {
    const size_t left = a->v.pixels - q % a->v.pixels, here = left < end - q ? left : end - q;
    const size_t each = BLOCK_VALUES / (a->v.channels * a->step) + 1, periods = here / a->step;
    *ret_periods = a->v.channels > MOST_CHANNELS || a->step > BLOCK_VALUES ? 0 : periods < each ? periods : each;
    if (*ret_periods) return *ret_periods * a->step;
    const size_t most = BLOCK_VALUES / a->v.channels + 1;
    return here < most ? here : most;
}

static void add_pixels(const adding *a, part *p, size_t begin, size_t end) {
    const lattice l = lattice_of(a);
    for (size_t q = begin, n; q < end; q += n) {
        size_t periods;
        n = some_pixels(a, q, end, &periods);
        if (a->look)
            p->finite &= a->loops->ends(a->v.x + q * a->v.channels, (int64_t)(n * a->v.channels), &p->min, &p->max);
        if (a->count && periods) count_periods(a, &l, p, q, periods);
        if (a->count && !periods) count_pixels(a, &l, p, q, q + n);
    }
}

/* Share k of n things among the parts. */
static void share(const adding *a, size_t k, size_t n, size_t *ret_begin, size_t *ret_end) {
    *ret_begin = n / a->n_parts * k;
    *ret_end = k + 1 < a->n_parts ? *ret_begin + n / a->n_parts : n;
}

static void add_parts(void *ctx, int64_t begin, int64_t end, int thread) {
    const adding *a = ctx;
    (void)thread;
    for (size_t k = (size_t)begin; k < (size_t)end; k++) {
        part *p = &a->parts[k];
        size_t from, to;
        if (a->look) {
            p->min = INFINITY;
            p->max = -INFINITY;
            p->finite = true;
        }
        if (a->count) memset(p->tables, 0, sizeof p->tables);
        if (a->v.channels && a->step > 1) {
            share(a, k, a->v.n / a->v.channels, &from, &to);
            add_pixels(a, p, from, to);
            continue;
        }
        share(a, k, a->v.n, &from, &to);
        if (a->look) p->finite = a->loops->ends(a->v.x + from, (int64_t)(to - from), &p->min, &p->max);
        share(a, k, a->counted, &from, &to); /* where all values are counted, how they lie does not matter */
        if (a->count) count_rows(a, p, from, to);
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
