/* range.c - the range of an activation from its histogram, by four methods; the best is the one whose codes lose least.
 *
 * Sources: percentile and entropy: Migacz, 8-bit inference with TensorRT (2017); mean squared error: Nagel et al., A
 * white paper on neural network quantization (2021), section 3.1. */
#include "compress/compress_int.h"

enum { BINS = PS_HISTOGRAM_BINS, CODES = 256 };

typedef struct range {
    double low, high;
} range;

/* Zero must have a code of its own: padding and ReLU make exact zeros. */
static range with_zero(range r) {
    return (range) { r.low > 0 ? 0 : r.low, r.high < 0 ? 0 : r.high };
}

/* Mean squared error of coding with the range. Values spread evenly over their bin. */
static double squared_error(const ps_histogram *h, range r) {
    r = with_zero(r);
    const double scale = (r.high - r.low) / (CODES - 1);
    if (!(scale > 0)) return INFINITY;
    const double zero = nearbyint(-r.low / scale), low = -zero * scale, high = (CODES - 1 - zero) * scale;
    const double spread = h->width * h->width / 12;
    double sum = 0;
    for (int i = 0; i < BINS; i++) {
        if (!h->bins[i]) continue;
        const double x = h->low + (i + 0.5) * h->width;
        double d = x < low ? low - x : x > high ? x - high : 0;
        if (d == 0) {
            /* A bin wider than a step holds all phases of it. */
            d = h->width >= scale ? 0 : x - nearbyint(x / scale) * scale;
            sum += (double)h->bins[i] * (h->width >= scale ? scale * scale / 12 : d * d + spread);
        } else {
            sum += (double)h->bins[i] * (d * d + spread);
        }
    }
    return sum;
}

static range percentile(const ps_histogram *h, double outside) {
    const double limit = outside * (double)h->counted;
    range r = { h->min, h->max };
    double sum = 0;
    for (int i = 0; i < BINS; i++) {
        sum += (double)h->bins[i];
        if (sum <= limit) continue;
        if (i) r.low = h->low + i * h->width;
        break;
    }
    sum = 0;
    for (int i = BINS - 1; i >= 0; i--) {
        sum += (double)h->bins[i];
        if (sum <= limit) continue;
        r.high = fmin(h->max, h->low + (i + 1) * h->width);
        break;
    }
    r.low = fmax(r.low, h->min);
    return r;
}

/* KL divergence of bins [from, to) with what is outside added to the ends, against the same in CODES steps. */
static double divergence(const ps_histogram *h, int from, int to) {
    double p[BINS], total = 0, sum = 0;
    const int n = to - from;
    for (int i = 0; i < n; i++)
        p[i] = (double)h->bins[from + i];
    for (int i = 0; i < from; i++)
        p[0] += (double)h->bins[i];
    for (int i = to; i < BINS; i++)
        p[n - 1] += (double)h->bins[i];
    for (int i = 0; i < n; i++)
        total += p[i];
    for (int c = 0; c < CODES; c++) {
        const int begin = (int)((int64_t)c * n / CODES), end = (int)((int64_t)(c + 1) * n / CODES);
        double mass = 0;
        int filled = 0;
        for (int i = begin; i < end; i++) {
            mass += (double)h->bins[from + i]; /* without what was clipped: that is the loss */
            filled += h->bins[from + i] > 0;
        }
        for (int i = begin; i < end; i++) {
            if (p[i] <= 0) continue;
            const double q = filled && h->bins[from + i] ? mass / filled : 1e-4;
            sum += p[i] / total * log(p[i] / total / (q / total));
        }
    }
    return sum;
}

static range entropy(const ps_histogram *h) {
    range best = { h->min, h->max };
    double least = INFINITY;
    const int zero = (int)fmin(fmax(-h->low / h->width, 0), BINS - 1);
    const int first = (int)fmax(0, (h->min - h->low) / h->width),
              last = (int)fmin(BINS, (h->max - h->low) / h->width + 1);
    for (int step = 0; step < 96; step++) {
        const double keep = 1 - step / 100.0;
        const int from = zero - (int)((zero - first) * keep), to = zero + (int)ceil((last - zero) * keep);
        if (to - from < CODES / 2) break;
        const double d = divergence(h, from < 0 ? 0 : from, to > BINS ? BINS : to);
        if (d >= least) continue;
        least = d;
        best = (range) { fmax(h->min, h->low + from * h->width), fmin(h->max, h->low + to * h->width) };
    }
    return best;
}

/* Shrinks either end in turn as long as that helps. */
static range least_squares(const ps_histogram *h) {
    range best = with_zero((range) { h->min, h->max });
    double least = squared_error(h, best);
    for (int round = 0; round < 3; round++) {
        const range start = best;
        for (int end = 0; end < 2; end++) {
            const range from = best;
            for (int step = 1; step < 100; step++) {
                range r = from;
                if (end)
                    r.low *= 1 - step / 100.0;
                else
                    r.high *= 1 - step / 100.0;
                const double e = squared_error(h, r);
                if (e >= least) continue;
                least = e;
                best = r;
            }
        }
        if (best.low == start.low && best.high == start.high) break;
    }
    return best;
}

static void set_range(ps_site *s, range r, const char *method) {
    r = with_zero(r);
    double scale = (r.high - r.low) / (CODES - 1);
    if (!(scale > 1e-30)) scale = 1; /* nothing but zeros */
    s->scale = (float)scale;
    s->zero = (int)nearbyint(-r.low / scale);
    s->zero = s->zero < 0 ? 0 : s->zero > 255 ? 255 : s->zero;
    s->low = (float)-s->zero * s->scale;
    s->high = (float)(255 - s->zero) * s->scale;
    s->method = method;
}

void ps_site_choose(ps_site *s, ps_compress_range how) {
    static const char *const names[] = { "minmax", "percentile", "entropy", "mse" };
    const ps_histogram *h = &s->seen;
    if (!h->bins) {
        set_range(s, (range) { 0, 0 }, "none");
        return;
    }
    const range all = { h->min, h->max };
    if (how == PS_RANGE_MINMAX) {
        set_range(s, all, names[0]);
    } else if (how == PS_RANGE_PERCENTILE) {
        set_range(s, percentile(h, 1e-4), names[1]);
    } else if (how == PS_RANGE_ENTROPY) {
        set_range(s, entropy(h), names[2]);
    } else if (how == PS_RANGE_MSE) {
        set_range(s, least_squares(h), names[3]);
    } else {
        const range candidates[] = { all, percentile(h, 1e-4), entropy(h), least_squares(h) };
        double least = INFINITY;
        int best = 0;
        for (int k = 0; k < 4; k++) {
            const double e = squared_error(h, candidates[k]);
            if (e >= least) continue; /* of equals the simplest */
            least = e;
            best = k;
        }
        set_range(s, candidates[best], names[best]);
    }
}

static void choose_some(void *ctx, int64_t begin, int64_t end, int thread) {
    ps_job *job = ctx;
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        const int64_t i = ps_turn(k, job->sites.size, job->engine->threads);
        if (i >= 0 && job->sites.data[i].group == (size_t)i)
            ps_site_choose(&job->sites.data[i], job->options.range);
    }
}

void ps_ranges_choose(ps_job *job) {
    const int threads = job->engine->threads;
    ps_parallel_for(ps_turns(job->sites.size, threads), 1, threads, choose_some, job);
}
