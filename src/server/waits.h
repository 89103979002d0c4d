/* waits.h - requests that wait outside of the scheduler, each up to a time of its own, and then ask again: for a model
 * that is being loaded, or until there is time to read them.
 *
 * What a request waits for is a key. Whoever changes what requests wait for does so under a lock of its
 * own, adds under the same lock those that find the old state, and calls ps_waits_end after it: so none misses the
 * change. */
#ifndef PS_SERVER_WAITS_H
#define PS_SERVER_WAITS_H

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/error.h"

typedef struct ps_waits ps_waits;

/* Embedded in the request; zero-initialised but for `over`. */
typedef struct ps_wait ps_wait;
struct ps_wait {
    /* Called once for each ps_waits_add, without a lock, on any thread: it waits no longer, and asks again. */
    void (*over)(ps_wait *w);
    int64_t until_ns; /* of ps_clock_ns; 0: it never waited */
    int64_t most_ns;  /* the latest until_ns that makes sense; 0: none is too late */
    const atomic_bool *given_up; /* NULL, or set before ps_waits_remove by whoever does not want it to wait */
    bool in_order;               /* not before those that wait for the same, if they are just being told */
    const void *key;  /* guarded by the lock, like all below; NULL: it does not wait */
    bool joined;
    ps_wait *previous, *next;
};

ps_status ps_waits_create(ps_alloc_state *alloc, ps_waits **ret, ps_error *err);
void ps_waits_free(ps_waits *waits); /* nothing waits any more; NULL is allowed */

/* Until ps_waits_end for the key, or w->until_ns, which is set. False: it is given up, and does not wait. */
bool ps_waits_add(ps_waits *waits, const void *key, ps_wait *w);
/* The same, if others wait for the key, or have not all been told yet that the wait is over: then it is told after
 * them. False: there are none, and it does not wait. */
bool ps_waits_join(ps_waits *waits, const void *key, ps_wait *w);
/* Does anybody wait, or is being told? Without a lock: of those that came before on the calling thread it is true. */
bool ps_waits_any(const ps_waits *waits);
size_t ps_waits_count(ps_waits *waits, const void *key); /* that wait for it */
/* True: it waits no longer, and `over` is not called. */
bool ps_waits_remove(ps_waits *waits, ps_wait *w);
/* Those of the key (NULL: all) wait no longer: their `over` is called on this thread, in order, and that of those that
 * join meanwhile. */
void ps_waits_end(ps_waits *waits, const void *key);
/* The same for the first `most` of them only, and not for those that join. */
void ps_waits_end_some(ps_waits *waits, const void *key, size_t most);

#endif
