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
    float mean, var;  /* of the accepted samples; ns, ns^2 */
    uint32_t samples; /* accepted */
    uint8_t first;    /* discarded so far, as the first of this size */
    int8_t strikes;   /* rejected in a row: > 0 too slow, < 0 too fast */
} ps_profile_point;

typedef struct ps_profile {
    uint32_t max_batch, n_points;
    uint32_t largest; /* size that was measured; 0: none */
    uint32_t unbuilt; /* samples that the table does not hold yet */
    bool known;       /* a sample was accepted, or read from text */
    ps_profile_point *points;
    float *mean, *high;    /* predicted at each point: mean, and mean + z deviations */
    uint16_t *best, *lean; /* the size of most items a second up to each point; the least within 3 % of that */
    float spread;          /* deviation as a share of the mean, of all sizes */
    double unit;           /* ns an item at the most efficient size: what an item costs where batches are full */
    double fit[5];         /* decayed sums 1, x, t, xx, xt of the affine fit */
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

#endif
