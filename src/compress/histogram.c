/* histogram.c - see histogram.h. */
#include "compress/histogram.h"

#include <math.h>
#include <string.h>

enum { BINS = PS_HISTOGRAM_BINS, LANES = 16, MOST_COUNTED = 65536 };

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

/* The finite values' ends; *ret_odd of the others. */
static void ends(const float *x, size_t n, float *ret_min, float *ret_max, uint64_t *ret_odd) {
    float min = INFINITY, max = -INFINITY, low[LANES], high[LANES], wrong[LANES];
    uint64_t odd = 0;
    size_t i = 0;
    for (int k = 0; k < LANES; k++) {
        low[k] = INFINITY;
        high[k] = -INFINITY;
        wrong[k] = 0;
    }
    for (; i + LANES <= n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            const float v = x[i + (size_t)k];
            low[k] = v < low[k] ? v : low[k];
            high[k] = v > high[k] ? v : high[k];
            wrong[k] += v - v; /* NaN once a value is no finite number */
        }
    }
    for (int k = 0; k < LANES; k++) {
        min = low[k] < min ? low[k] : min;
        max = high[k] > max ? high[k] : max;
        odd += !(wrong[k] == 0);
    }
    for (; i < n; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
        odd += !isfinite(x[i]);
    }
    if (odd) {
        min = INFINITY;
        max = -INFINITY;
        odd = 0;
        for (i = 0; i < n; i++) {
            odd += !isfinite(x[i]);
            if (!isfinite(x[i])) continue;
            min = fminf(min, x[i]);
            max = fmaxf(max, x[i]);
        }
    }
    *ret_min = min;
    *ret_max = max;
    *ret_odd = odd;
}

/* Every step-th value from x[first] on; all are finite. Neighbours go to tables of their own: many values are equal,
 * and one count after the other in the same place would wait for it. */
static void count_values(ps_histogram *h, const float *x, size_t n, size_t first, size_t step) {
    enum { TABLES = 2, AT_ONCE = 16 };
    uint32_t tables[TABLES][BINS] = { { 0 } };
    const float low = (float)h->low, per = (float)(1 / h->width);
    size_t i = first;
    while (i < n) {
        int bins[AT_ONCE];
        const size_t left = (n - i + step - 1) / step, count = left < AT_ONCE ? left : AT_ONCE;
        for (size_t k = 0; k < count; k++) {
            const int bin = (int)((x[i + k * step] - low) * per);
            bins[k] = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
        }
        for (size_t k = 0; k < count; k++)
            tables[k % TABLES][bins[k]]++;
        i += count * step;
        h->counted += count;
    }
    for (int b = 0; b < BINS; b++)
        h->bins[b] += (uint64_t)tables[0][b] + tables[1][b];
}

static void count_finite(ps_histogram *h, const float *x, size_t n, size_t first, size_t step) {
    float some[1024];
    size_t k = 0;
    for (size_t i = first; i < n; i += step) {
        if (isfinite(x[i])) some[k++] = x[i];
        if (k < sizeof some / sizeof *some) continue;
        count_values(h, some, k, 0, 1);
        k = 0;
    }
    count_values(h, some, k, 0, 1);
}

bool ps_histogram_add(ps_alloc_state *alloc, ps_histogram *h, const float *x, size_t n) {
    float min, max;
    uint64_t odd;
    ends(x, n, &min, &max, &odd);
    h->count += n;
    h->odd += odd;
    if (min > max) return true;
    if (!h->bins || min < h->min) h->min = min;
    if (!h->bins || max > h->max) h->max = max;
    if (!cover(alloc, h, min, max)) return false;
    const size_t step = n / MOST_COUNTED + 1; /* the ends are exact, what lies between is sampled */
    (odd ? count_finite : count_values)(h, x, n, (size_t)(h->count % step), step);
    return true;
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
