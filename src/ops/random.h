/* random.h - random numbers that any thread may draw in any order.
 *
 * The generator is Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): number k is
 * a function of the key and k, so there is no state to share. A node with a seed attribute draws the same numbers in
 * every run; one without gets a new key from the operating system in every run. Element k of an output uses block k of
 * the stream, whatever its type or shape; two nodes with equal seeds draw equal numbers. */
#ifndef PS_OPS_RANDOM_H
#define PS_OPS_RANDOM_H

#include "base/error.h"
#include "ops/ops.h"

typedef struct ps_random {
    uint32_t key[2], high[2]; /* high: the upper half of the counter */
} ps_random;

/* Block `counter` (words low to high) under `key`: four words. */
void ps_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t ret[4]);

/* From the node's attribute "seed", a float or an integer, else a fresh one. */
ps_status ps_random_init(ps_random *r, const ps_node *node, ps_error *err);
/* Number k of the stream: evenly in [0, 1), with 53 bits. */
double ps_random_uniform(const ps_random *r, uint64_t k);
/* Of mean 0 and deviation 1. */
double ps_random_normal(const ps_random *r, uint64_t k);

#endif
