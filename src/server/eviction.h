/* eviction.h - which loaded models make room for another.
 *
 * The model that has been idle for longest goes first, idle time counted in units of what its reload costs: a model
 * that is back in 50 ms may go after one second what one that takes 2 s may after forty. Models that are pinned or
 * in use never go. What turns out not to be needed, because a larger one had to go as well, stays.
 *
 * Pure: no clock, no lock, no memory of its own. */
#ifndef PS_SERVER_EVICTION_H
#define PS_SERVER_EVICTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ps_resident {
    uint64_t bytes;    /* that come free with it */
    int64_t used_ns;   /* when it was last used, or loaded */
    int64_t reload_ns; /* what its load took */
    bool kept;         /* pinned, or in use */
    bool chosen;       /* set: it is to go */
    double rank;       /* set: idle time over reload time; the highest goes first */
} ps_resident;

/* Marks models until at least `bytes` come free and at least `count` models go. False, and none marked: it cannot be
 * done. now_ns is of the clock of used_ns. */
bool ps_eviction_choose(ps_resident *models, size_t n, uint64_t bytes, size_t count, int64_t now_ns);

#endif
