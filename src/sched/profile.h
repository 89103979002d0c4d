/* profile.h - how long a batch takes, by its size: learned from what was measured, guessed where nothing was.
 *
 * One profile belongs to one model, device and shape. The caller holds the scheduler's lock. Times are nanoseconds. A
 * prediction is a look into a table that ps_profile_add rebuilds, so it costs the same however much was learned. */
#ifndef PS_SCHED_PROFILE_H
#define PS_SCHED_PROFILE_H

#include "base/alloc.h"

#define PS_PROFILE_MAX_BATCH 2048
#define PS_PROFILE_EXACT 32 /* every size up to here has a point of its own; above, there are eight an octave */
#define PS_PROFILE_MAX_POINTS 80

typedef struct ps_profile_point {
    double log_ns;    /* natural logarithm of the mean; where `known` */
    float var;        /* of a run's logarithm around what was expected of it */
    uint32_t samples; /* accepted */
    uint8_t first;    /* discarded so far, as the first of this size */
    int8_t strikes;   /* rejected in a row: > 0 too slow, < 0 too fast */
    bool known;       /* measured, or guessed from another shape */
} ps_profile_point;

typedef struct ps_profile {
    uint32_t max_batch, n_points;
    uint32_t largest; /* size that was measured; 0: none */
    uint32_t unbuilt; /* samples that the table does not hold yet */
    bool known;       /* a sample was accepted, or read from text */
    int8_t strikes;   /* rejected in a row, of whatever size */
    ps_profile_point *points;
    float *octave;         /* of each point's size, the logarithm to base 2 */
    float *covariance;     /* [n_points][n_points], of the errors of log_ns */
    float *mean, *high;    /* predicted at each point: mean, and mean + z deviations */
    uint16_t *best, *lean; /* the size of most items a second up to each point; the least within 3 % of that */
    float spread;          /* deviation as a share of the mean, of all sizes */
    float bias, miss;      /* means of the latest errors, and of their magnitudes */
    double turn;           /* ns between two runs while others wait, as the caller says: they pass once a batch */
    double unit;           /* ns an item at the most efficient size, turn included: its cost where batches are full */
    double error;          /* mean of |measured - predicted| / predicted */
    uint64_t rejected;     /* outliers, the first samples of a size not among them */
} ps_profile;

/* max_batch from 1 to PS_PROFILE_MAX_BATCH. False: out of memory. */
bool ps_profile_init(ps_profile *p, ps_alloc_state *alloc, uint32_t max_batch);
void ps_profile_clear(ps_profile *p, ps_alloc_state *alloc);

/* A batch of that size ran for so long. False: the sample was not used (the first of its size, an outlier). */
bool ps_profile_add(ps_profile *p, uint32_t size, int64_t ns);
/* What somebody else measured, as `samples` samples at once: a warm-up at load, or text. */
void ps_profile_seed(ps_profile *p, uint32_t size, uint32_t samples, double mean_ns, double deviation_ns);

/* 0 as long as nothing is known. size from 1 to max_batch. */
int64_t ps_profile_mean(const ps_profile *p, uint32_t size);
int64_t ps_profile_high(const ps_profile *p, uint32_t size);
/* ns by which a batch keeps others waiting: its mean, and the turn after it. */
double ps_profile_occupied(const ps_profile *p, uint32_t size);
/* The largest size up to `cap` that takes at most ns with confidence (`high`); 0: none does. */
uint32_t ps_profile_fits(const ps_profile *p, int64_t ns, uint32_t cap);
/* The size up to `cap` that gives most items a second; lean: the smallest one that gives nearly as many. */
uint32_t ps_profile_best(const ps_profile *p, uint32_t cap);
uint32_t ps_profile_lean(const ps_profile *p, uint32_t cap);
/* Point of a size, and the size that a point stands for: the largest of those it covers. */
uint32_t ps_profile_point_of(uint32_t size);
uint32_t ps_profile_size_of(uint32_t point);

/* Takes over what another shape of the model taught, as a guess: `scale` is this shape's work by the other's. Nothing
 * counts as measured here, and the first samples replace it. */
void ps_profile_guess(ps_profile *p, const ps_profile *other, double scale);

/* ---- profile_filter.c ---- */

/* Point i is known by so many samples, whatever was known before; doubt: variance beyond their noise. */
void ps_profile_set(ps_profile *p, uint32_t i, double log_ns, float samples, float doubt);
/* Nothing was measured of point i: that much is expected, and is as sure as the nearest sizes that were measured let it
 * be; doubt: variance beyond that. Some point is known. */
void ps_profile_expect(ps_profile *p, uint32_t i, double log_ns, float doubt);
/* Point i is less sure by that variance, whatever the others are. */
void ps_profile_widen(ps_profile *p, uint32_t i, float doubt);
/* All points are guesses, which may be off together by a lot and by themselves by a little. */
void ps_profile_set_guessed(ps_profile *p);
/* A run of a known point: it and the others learn from it. */
void ps_profile_correct(ps_profile *p, uint32_t i, double log_ns);
/* Before a run is learnt that is a surprise: it may be the machine's new pace even where little was known of the size.
 * Else the size would be taken for the only one that became slow, or fast, and hardly be compared with the others
 * again. */
void ps_profile_may_jump(ps_profile *p, uint32_t i, double log_ns);
/* The machine became another: all points move with point i, the more the more they are like it. */
void ps_profile_jump(ps_profile *p, uint32_t i, double log_ns);
/* Deviation of a run of a known point from what is expected. */
float ps_profile_uncertainty(const ps_profile *p, uint32_t i);
/* The known point of the least error. */
uint32_t ps_profile_surest(const ps_profile *p);
/* Deviation of the difference of two points' errors. */
float ps_profile_doubt(const ps_profile *p, uint32_t i, uint32_t j);

#endif
