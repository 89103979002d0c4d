/* profile.c - latency by batch size.
 *
 * Two rules are those of StarPU's performance models: the first sample of a size is discarded, and samples far from the
 * mean are rejected. Several rejections in a row on the same side are no outliers but a new truth: of whatever sizes,
 * of the machine; of one size between others that are as expected, of that size. */
#include "sched/profile.h"

#include <math.h>
#include <string.h>

enum { FIRST = 1, STRIKES = 2, OWN_STRIKES = 5, WINDOW = 32, TRUSTED = 3, WHILE = 16 };

#define Z 2.0f           /* deviations above the mean that a deadline must survive */
#define NEW_SPREAD 0.10f /* assumed deviation of a size with few samples, as a share of its mean */
#define FAR_SPREAD 0.05f /* more of it for each doubling beyond the sizes that were measured */
#define LEAN_LOSS 0.97
#define STILL 0.03f /* a size that moved by less, as a share of its mean, leaves the table as it is for a while */
#define SURE 3.0    /* deviations beyond which a run is not what was expected */
#define FAR_OFF 0.4 /* logarithm: what is nearer than 1.5 times is no outlier */
#define DOUBT 1.0   /* deviations by which a size that was run little may be better than it looks */

/* ---- points ---- */

uint32_t ps_profile_point_of(uint32_t size) {
    if (size <= PS_PROFILE_EXACT) return size - 1;
    uint32_t octave = 0;
    while ((size - 1) >> (octave + 1) >= PS_PROFILE_EXACT)
        octave++;
    uint32_t step = PS_PROFILE_EXACT >> 3 << octave;
    return PS_PROFILE_EXACT + octave * 8 + (size - (PS_PROFILE_EXACT << octave) + step - 1) / step - 1;
}

uint32_t ps_profile_size_of(uint32_t point) {
    if (point < PS_PROFILE_EXACT) return point + 1;
    uint32_t octave = (point - PS_PROFILE_EXACT) / 8, step = PS_PROFILE_EXACT >> 3 << octave;
    return (PS_PROFILE_EXACT << octave) + ((point - PS_PROFILE_EXACT) % 8 + 1) * step;
}

static float size_at(const ps_profile *p, uint32_t point) {
    uint32_t size = ps_profile_size_of(point);
    return (float)(size < p->max_batch ? size : p->max_batch);
}

bool ps_profile_init(ps_profile *p, ps_alloc_state *alloc, uint32_t max_batch) {
    memset(p, 0, sizeof *p);
    p->max_batch = max_batch;
    p->n_points = ps_profile_point_of(max_batch) + 1;
    size_t n = p->n_points;
    char *block = ps_alloc_zero(alloc, n * (sizeof *p->points + (n + 3) * sizeof(float) + 2 * sizeof(uint16_t)));
    if (!block) return false;
    p->spread = NEW_SPREAD;
    p->points = (ps_profile_point *)(void *)block;
    p->octave = (float *)(void *)(p->points + n);
    p->covariance = p->octave + n;
    p->mean = p->covariance + n * n;
    p->high = p->mean + n;
    p->best = (uint16_t *)(void *)(p->high + n);
    p->lean = p->best + n;
    for (uint32_t i = 0; i < n; i++)
        p->octave[i] = log2f(size_at(p, i));
    return true;
}

void ps_profile_clear(ps_profile *p, ps_alloc_state *alloc) {
    ps_free(alloc, p->points);
    memset(p, 0, sizeof *p);
}

/* ---- the table ---- */

static float mean_at(const ps_profile *p, uint32_t i) {
    return (float)exp(p->points[i].log_ns);
}

/* ns an item of a straight line through the known sizes; < 0: there is none, because only one is. */
static double slope(const ps_profile *p) {
    double s[5] = { 0 };
    for (uint32_t i = 0; i < p->n_points; i++) {
        const ps_profile_point *pt = &p->points[i];
        if (!pt->known) continue;
        double x = (double)size_at(p, i), t = (double)mean_at(p, i);
        double w = pt->samples < WINDOW ? 1 + pt->samples : WINDOW;
        const double terms[5] = { 1, x, t, x * x, x * t };
        for (int k = 0; k < 5; k++)
            s[k] += w * terms[k];
    }
    double spread = s[3] * s[0] - s[1] * s[1];
    if (spread <= 1e-6 * s[3] * s[0]) return -1;
    double a = (s[4] * s[0] - s[1] * s[2]) / spread;
    return a > 0 ? a : 0;
}

/* Deviation as a share of the mean, over all sizes that were measured often enough to tell. */
static float common_spread(const ps_profile *p) {
    float sum = 0, weight = 0;
    for (uint32_t i = 0; i < p->n_points; i++) {
        const ps_profile_point *pt = &p->points[i];
        float w = (float)(pt->samples < WINDOW ? pt->samples : WINDOW);
        if (pt->samples <= TRUSTED) continue;
        sum += w * sqrtf(pt->var);
        weight += w;
    }
    return weight > 0 ? sum / weight : NEW_SPREAD;
}

/* ns. A size with few samples is taken to be as noisy as the others. */
static float spread_of(const ps_profile *p, uint32_t i) {
    const ps_profile_point *pt = &p->points[i];
    float deviation = sqrtf(pt->var), least = pt->samples ? p->spread : 2 * NEW_SPREAD;
    return mean_at(p, i) * (pt->samples <= TRUSTED && deviation < least ? least : deviation);
}

static void put(ps_profile *p, uint32_t i, float mean, float deviation) {
    p->mean[i] = mean;
    p->high[i] = mean + Z * deviation;
}

/* Below the smallest measured size: along the fit, but never cheaper than an even share. */
static void fill_below(ps_profile *p, uint32_t seen, double a) {
    float m = p->mean[seen], d = spread_of(p, seen), size = size_at(p, seen);
    for (uint32_t i = 0; i < seen; i++) {
        float guess = a < 0 ? m : m - (float)a * (size - size_at(p, i)), share = m * size_at(p, i) / size;
        put(p, i, guess > share ? guess : share, d + FAR_SPREAD * m);
    }
}

static void fill_between(ps_profile *p, uint32_t left, uint32_t right) {
    float x0 = size_at(p, left), x1 = size_at(p, right);
    float d0 = spread_of(p, left), d1 = spread_of(p, right);
    for (uint32_t i = left + 1; i < right; i++) {
        float w = (size_at(p, i) - x0) / (x1 - x0);
        put(p, i, p->mean[left] + w * (p->mean[right] - p->mean[left]), d0 > d1 ? d0 : d1);
    }
}

/* Above the largest measured size: along the fit; with one size known, as if batching gained nothing. */
static void fill_above(ps_profile *p, uint32_t seen, double a) {
    float m = p->mean[seen], d = spread_of(p, seen), size = size_at(p, seen), share = m / size;
    float up = a < 0 || a > (double)share ? share : (float)a;
    for (uint32_t i = seen + 1; i < p->n_points; i++) {
        float x = size_at(p, i), far = (x - size) / size;
        put(p, i, m + up * (x - size), d * (1 + far) + FAR_SPREAD * m * far);
    }
}

/* Items a ns, with the benefit of the doubt beside the size that is known best: one that was slow by chance, or when
 * all were, is run again. */
static double hoped_rate(const ps_profile *p, uint32_t i, uint32_t surest) {
    double doubt = p->points[i].samples ? DOUBT * (double)ps_profile_doubt(p, i, surest) : 0;
    return (double)size_at(p, i) / ((double)p->mean[i] + p->turn) * (1 + doubt);
}

static void fill_best(ps_profile *p) {
    double most = 0;
    uint32_t best = 0, lean = 0, surest = ps_profile_surest(p);
    double hoped[PS_PROFILE_MAX_POINTS], most_items = 0;
    for (uint32_t i = 0; i < p->n_points; i++) {
        double rate = hoped[i] = hoped_rate(p, i, surest);
        if (rate > most) {
            most = rate;
            best = i;
        }
        double items = (double)size_at(p, i) / ((double)p->mean[i] + p->turn);
        if (i > 0 && (items <= most_items || ps_profile_size_of(i) > p->largest)) items = most_items; /* no measure */
        most_items = items;
        while (hoped[lean] < LEAN_LOSS * most)
            lean++;
        p->best[i] = (uint16_t)size_at(p, best);
        p->lean[i] = (uint16_t)size_at(p, lean);
    }
    p->unit = 1 / most_items;
}

static void rebuild(ps_profile *p) {
    double a = slope(p);
    p->unbuilt = 0;
    uint32_t last = UINT32_MAX;
    p->spread = common_spread(p);
    for (uint32_t i = 0; i < p->n_points; i++) {
        if (!p->points[i].known) continue;
        put(p, i, mean_at(p, i), spread_of(p, i));
        if (last == UINT32_MAX)
            fill_below(p, i, a);
        else
            fill_between(p, last, i);
        last = i;
    }
    if (last == UINT32_MAX) return;
    fill_above(p, last, a);
    fill_best(p);
    p->known = true;
}

/* ---- learning ---- */

static bool count_strike(int8_t *strikes, bool slow, int most) {
    *strikes = (int8_t)(slow ? (*strikes > 0 ? *strikes + 1 : 1) : (*strikes < 0 ? *strikes - 1 : -1));
    return *strikes >= most || *strikes <= -most;
}

static void learn_spread(ps_profile_point *pt, double off) {
    float n = (float)(pt->samples < WINDOW ? pt->samples : WINDOW);
    pt->var += ((float)(off * off) * n / (n + 1) - pt->var) / n;
}

/* Is it so far from what was expected that it says nothing of the mean, unless it comes again? */
static bool is_outlier(ps_profile *p, uint32_t i, double log_ns) {
    ps_profile_point *pt = &p->points[i];
    double off = log_ns - pt->log_ns, limit = SURE * (double)ps_profile_uncertainty(p, i);
    if (fabs(off) <= limit) {
        p->strikes = pt->strikes = 0;
        return false;
    }
    bool all = count_strike(&p->strikes, off > 0, STRIKES), own = count_strike(&pt->strikes, off > 0, OWN_STRIKES);
    if (all || own) {
        pt->strikes = p->strikes = 0;
        if (all)
            ps_profile_jump(p, i, log_ns);
        else
            ps_profile_set(p, i, log_ns, 1, 0);
        return false;
    }
    if (fabs(off) <= FAR_OFF) learn_spread(pt, limit);
    p->rejected++;
    return true;
}

/* The first run that tells of a size, far from what the others let expect, may have met a moment when the machine was
 * slow: it counts once another is like it. */
static bool is_surprise(ps_profile *p, uint32_t i, double log_ns) {
    double off = log_ns - log((double)p->mean[i]);
    return fabs(off) > FAR_OFF && !count_strike(&p->points[i].strikes, off > 0, STRIKES);
}

/* Of two sizes the second tells what batching gains; from the third on it is known what to expect, which log_ns is
 * `off` away from. True: its first run is still to be learnt. */
static bool enter(ps_profile *p, uint32_t i, double log_ns, double off, float doubt) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < p->n_points && n < 2; k++)
        n += p->points[k].known;
    p->points[i].strikes = 0; /* those of is_surprise */
    if (n < 2)
        ps_profile_set(p, i, log_ns, 1, (float)(off * off));
    else
        ps_profile_expect(p, i, log_ns - off, doubt);
    return n >= 2;
}

static void learn(ps_profile *p, uint32_t i, double log_ns) {
    ps_profile_point *pt = &p->points[i];
    if (pt->samples) learn_spread(pt, log_ns - pt->log_ns);
    if (pt->samples < UINT32_MAX) pt->samples++;
    const double off = pt->known || !p->known ? 0 : log_ns - log((double)p->mean[i]);
    const float doubt = fabs(off) > FAR_OFF ? (float)(off * off) : 0;
    if (!pt->known && !enter(p, i, log_ns, off, doubt)) return;
    ps_profile_may_jump(p, i, log_ns);
    ps_profile_correct(p, i, log_ns);
    if (doubt > 0) ps_profile_widen(p, i, doubt); /* the more of a surprise the sooner it is run again */
}

/* What the table says of a size known well is near enough what it would say now: requests of microseconds do not pay
 * for a new one each. */
static bool is_in_table(const ps_profile *p, uint32_t i) {
    float mean = mean_at(p, i), most = STILL * mean;
    return p->known && p->unbuilt < WHILE && p->points[i].samples > WINDOW && fabsf(mean - p->mean[i]) <= most &&
           fabsf(mean + Z * spread_of(p, i) - p->high[i]) <= most;
}

bool ps_profile_add(ps_profile *p, uint32_t size, int64_t ns) {
    if (size < 1 || size > p->max_batch || ns <= 0) return false;
    uint32_t i = ps_profile_point_of(size);
    ps_profile_point *pt = &p->points[i];
    if (pt->first < FIRST) {
        pt->first++;
        return false;
    }
    float t = (float)ns;
    const double log_ns = log((double)ns);
    if (p->known) p->error += (fabs((double)(t - p->mean[i])) / (double)p->mean[i] - p->error) / WINDOW;
    if (pt->samples && is_outlier(p, i, log_ns)) return false;
    if (p->known && !pt->known && is_surprise(p, i, log_ns)) return false;
    if (size > p->largest) p->largest = size;
    learn(p, i, log_ns);
    p->unbuilt++;
    if (!is_in_table(p, i)) rebuild(p);
    return true;
}

void ps_profile_seed(ps_profile *p, uint32_t size, uint32_t samples, double mean_ns, double deviation_ns) {
    if (size < 1 || size > p->max_batch || samples < 1 || !(mean_ns >= 1) || !(deviation_ns >= 0)) return;
    uint32_t i = ps_profile_point_of(size);
    float deviation = deviation_ns < mean_ns ? (float)(deviation_ns / mean_ns) : 1;
    for (uint32_t k = 0; k < p->n_points; k++)
        p->points[k].known = p->points[k].samples > 0; /* no guesses beside it */
    p->points[i] = (ps_profile_point) { .var = deviation * deviation, .samples = samples };
    ps_profile_set(p, i, log(mean_ns), (float)(samples < WINDOW ? samples : WINDOW), 0);
    if (size > p->largest) p->largest = size;
    rebuild(p);
}

void ps_profile_guess(ps_profile *p, const ps_profile *other, double scale) {
    if (!other->known || p->known) return;
    scale = scale < 0.125 ? 0.125 : scale > 8 ? 8 : scale;
    p->largest = other->largest < p->max_batch ? other->largest : p->max_batch;
    for (uint32_t i = 0; i < p->n_points; i++) {
        uint32_t size = (uint32_t)size_at(p, i), from = size < other->max_batch ? size : other->max_batch;
        double mean = scale * (double)ps_profile_mean(other, from) * size / from;
        p->points[i].log_ns = log(mean > 1 ? mean : 1);
        p->points[i].known = true;
    }
    ps_profile_set_guessed(p);
    rebuild(p);
}

/* ---- predicting ---- */

#define LONGEST_NS 1e15f /* 11 days: what lies beyond is as good as never, and sums with it do not overflow */

static int64_t look_up(const ps_profile *p, const float *table, uint32_t size) {
    if (!p->known) return 0;
    uint32_t i = ps_profile_point_of(size);
    float top = size_at(p, i), t = table[i];
    if (i > 0 && (float)size < top) {
        float below = size_at(p, i - 1);
        t = table[i - 1] + (t - table[i - 1]) * ((float)size - below) / (top - below);
    }
    return (int64_t)(t < LONGEST_NS ? t : LONGEST_NS);
}

int64_t ps_profile_mean(const ps_profile *p, uint32_t size) {
    return look_up(p, p->mean, size);
}

int64_t ps_profile_high(const ps_profile *p, uint32_t size) {
    return look_up(p, p->high, size);
}

double ps_profile_occupied(const ps_profile *p, uint32_t size) {
    return (double)ps_profile_mean(p, size) + p->turn;
}

uint32_t ps_profile_fits(const ps_profile *p, int64_t ns, uint32_t cap) {
    if (cap > p->max_batch) cap = p->max_batch;
    if (cap == 0 || ns <= 0) return 0;
    if (!p->known || ps_profile_high(p, cap) <= ns) return cap;
    uint32_t i = ps_profile_point_of(cap);
    while (i-- > 0) { /* not a binary search: a larger batch may take less time than a smaller one */
        if (p->high[i] <= (float)ns) return (uint32_t)size_at(p, i);
    }
    return 0;
}

/* The last point whose sizes are all within cap. */
static uint32_t point_within(const ps_profile *p, uint32_t cap) {
    uint32_t i = ps_profile_point_of(cap);
    return i > 0 && size_at(p, i) > (float)cap ? i - 1 : i;
}

static uint32_t most_efficient(const ps_profile *p, const uint16_t *table, uint32_t cap) {
    if (cap > p->max_batch) cap = p->max_batch;
    if (!p->known || cap == 0) return cap;
    uint32_t size = table[point_within(p, cap)];
    /* Between two points: cap itself may be better than the point below it. */
    if (cap > PS_PROFILE_EXACT && size != cap &&
        cap * ps_profile_occupied(p, size) > size * ps_profile_occupied(p, cap))
        size = cap;
    return size;
}

uint32_t ps_profile_best(const ps_profile *p, uint32_t cap) {
    return most_efficient(p, p->best, cap);
}

uint32_t ps_profile_lean(const ps_profile *p, uint32_t cap) {
    return most_efficient(p, p->lean, cap);
}
