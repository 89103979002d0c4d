/* profile_filter.c - what is known of the sizes' times, and how well, when the machine's speed changes under way.
 *
 * A Kalman filter (Kalman, ASME Journal of Basic Engineering 82, 1960). Its state is the logarithm of each measured
 * size's time. They wander together, as the machine's pace does: the more alike they are the more so, because a small
 * batch may be bound by memory and a large one by computing; and each a little by itself. What one size shows is
 * therefore learnt by all, as far as it says something of them. If each had to find out by itself, those that
 * ran last while a neighbour had the machine would stay slow in the table for as long as others look better, and so are
 * not run: the luckiest size would win, not the best. For the same reason the doubt about which of two is faster is
 * not that about how fast either is: the pace cancels. */
#include <math.h>

#include "sched/profile.h"

#define SIGNAL 0.2f      /* weight of an error in the tracking signal */
#define LEAST_GAIN 0.25f /* of the filter of the pace */
#define MOST_GAIN 0.5f
#define ALONE 0.001f  /* variance by which a size wanders by itself, each run, as a share of the noise's */
#define ALIKE 16      /* octaves^2 apart, by which sizes share half of what the pace does */
#define BETWEEN 0.05f /* deviation of a size's time from the line between its neighbours' */
#define BEYOND 0.1f   /* more of it, for each octave beyond the sizes that were measured */
#define GUESS 0.3f    /* deviation of what another shape tells */
#define FAR 0.4       /* a jump so far says that it is not known how even runs will be */
#define JUMP 9        /* square of the noise's deviations, beyond which the pace may have changed all at once */
enum { FEW = 2 };

static float *row(const ps_profile *p, uint32_t i) {
    return p->covariance + (size_t)i * p->n_points;
}

static float noise(const ps_profile *p) {
    float least = 1e-3f;
    return p->spread > least ? p->spread * p->spread : least * least;
}

void ps_profile_set(ps_profile *p, uint32_t i, double log_ns, float samples, float doubt) {
    for (uint32_t j = 0; j < p->n_points; j++)
        row(p, i)[j] = row(p, j)[i] = 0;
    row(p, i)[i] = noise(p) / samples + doubt;
    p->points[i].log_ns = log_ns;
    p->points[i].known = true;
}

/* How far a size's time may be from what a line tells that leaves the measured sizes: batching may gain nothing from
 * there on. */
static float doubt_beyond(const ps_profile *p, uint32_t i, uint32_t nearest, double log_ns) {
    float octaves = p->octave[i] - p->octave[nearest], least = BEYOND * fabsf(octaves);
    float gain = (float)(p->points[nearest].log_ns + M_LN2 * (double)octaves - log_ns);
    return octaves > 0 && gain > least ? gain : least;
}

/* What the neighbours' errors have in common with others', that of a size between them has as well. A size that stood
 * for itself instead would be judged by the pace of the machine in its first run. */
void ps_profile_expect(ps_profile *p, uint32_t i, double log_ns, float doubt) {
    uint32_t left = i, right = i;
    while (left > 0 && !p->points[left].known)
        left--;
    while (right + 1 < p->n_points && !p->points[right].known)
        right++;
    float far = 0, w = 0;
    if (!p->points[left].known || !p->points[right].known) {
        left = right = p->points[left].known ? left : right;
        far = doubt_beyond(p, i, left, log_ns);
    } else {
        w = (p->octave[i] - p->octave[left]) / (p->octave[right] - p->octave[left]);
    }
    for (uint32_t j = 0; j < p->n_points; j++)
        row(p, i)[j] = row(p, j)[i] = (1 - w) * row(p, left)[j] + w * row(p, right)[j];
    row(p, i)[i] = (1 - w) * row(p, left)[i] + w * row(p, right)[i];
    row(p, i)[i] += BETWEEN * BETWEEN + far * far + doubt;
    p->points[i].log_ns = log_ns;
    p->points[i].known = true;
}

void ps_profile_widen(ps_profile *p, uint32_t i, float doubt) {
    row(p, i)[i] += doubt;
}

void ps_profile_set_guessed(ps_profile *p) {
    for (uint32_t i = 0; i < p->n_points; i++) {
        for (uint32_t j = 0; j < p->n_points; j++)
            row(p, i)[j] = GUESS * GUESS;
        row(p, i)[i] += BETWEEN * BETWEEN;
    }
}

/* The variance by which the pace wanders, each run: little while errors cancel, much while they have one sign (the
 * tracking signal of Trigg and Leach, Operational Research Quarterly 18, 1967). As a filter's gain g for a random walk
 * it is g^2 / (1 - g) of the noise. */
static float wandering(ps_profile *p, float off) {
    p->bias += SIGNAL * (off - p->bias);
    p->miss += SIGNAL * (fabsf(off) - p->miss);
    float signal = p->miss > 0 ? p->bias / p->miss : 0, gain = MOST_GAIN * signal * signal;
    if (gain < LEAST_GAIN) gain = LEAST_GAIN;
    return gain * gain / (1 - gain);
}

/* How much of what the pace does to one size it does to the other: a rational quadratic kernel. */
static float alike(const ps_profile *p, uint32_t i, uint32_t j) {
    float octaves = p->octave[i] - p->octave[j];
    return ALIKE / (ALIKE + octaves * octaves);
}

static void wander(ps_profile *p, float together, float alone) {
    for (uint32_t i = 0; i < p->n_points; i++) {
        if (!p->points[i].known) continue;
        for (uint32_t j = 0; j < p->n_points; j++)
            row(p, i)[j] += together * alike(p, i, j);
        row(p, i)[i] += alone;
    }
}

/* As one vector, not by alike() between all: a smooth kernel goes on with a slope, and what is far from i would be
 * moved the other way. */
void ps_profile_may_jump(ps_profile *p, uint32_t i, double log_ns) {
    const float off = (float)(log_ns - p->points[i].log_ns);
    float jump[PS_PROFILE_MAX_POINTS];
    if (off * off <= JUMP * noise(p)) return;
    for (uint32_t j = 0; j < p->n_points; j++)
        jump[j] = p->points[j].known ? off * alike(p, i, j) : 0;
    for (uint32_t j = 0; j < p->n_points; j++) {
        for (uint32_t k = 0; k < p->n_points; k++)
            row(p, j)[k] += jump[j] * jump[k];
    }
}

void ps_profile_correct(ps_profile *p, uint32_t i, double log_ns) {
    const float off = (float)(log_ns - p->points[i].log_ns);
    float gains[PS_PROFILE_MAX_POINTS];
    wander(p, wandering(p, off) * noise(p), ALONE * noise(p));
    float all = row(p, i)[i] + noise(p);
    for (uint32_t j = 0; j < p->n_points; j++)
        gains[j] = row(p, i)[j] / all;
    for (uint32_t j = 0; j < p->n_points; j++) {
        if (!p->points[j].known) continue;
        p->points[j].log_ns += (double)(gains[j] * off);
        for (uint32_t k = 0; k < p->n_points; k++)
            row(p, j)[k] -= gains[j] * gains[k] * all;
    }
}

void ps_profile_jump(ps_profile *p, uint32_t i, double log_ns) {
    const double off = log_ns - p->points[i].log_ns;
    for (uint32_t j = 0; j < p->n_points; j++) {
        if (!p->points[j].known) continue;
        p->points[j].log_ns += off * (double)alike(p, i, j);
        if (fabs(off) > FAR && p->points[j].samples > FEW) p->points[j].samples = FEW;
    }
    wander(p, noise(p), ALONE * noise(p));
    p->bias = p->miss = 0;
}

float ps_profile_uncertainty(const ps_profile *p, uint32_t i) {
    float own = p->points[i].var;
    return sqrtf(row(p, i)[i] + (own > noise(p) ? own : noise(p)));
}

uint32_t ps_profile_surest(const ps_profile *p) {
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < p->n_points; i++) {
        if (p->points[i].known && (least == UINT32_MAX || row(p, i)[i] < row(p, least)[least])) least = i;
    }
    return least == UINT32_MAX ? 0 : least;
}

float ps_profile_doubt(const ps_profile *p, uint32_t i, uint32_t j) {
    float variance = row(p, i)[i] + row(p, j)[j] - 2 * row(p, i)[j];
    return variance > 0 ? sqrtf(variance) : 0;
}
