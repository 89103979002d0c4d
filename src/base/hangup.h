/* hangup.h - tells one thread when the other ends of sockets have closed. Costs nothing while they live. */
#ifndef PS_BASE_HANGUP_H
#define PS_BASE_HANGUP_H

#include "base/alloc.h"
#include "base/error.h"

typedef struct ps_hangups ps_hangups;

ps_status ps_hangups_create(ps_alloc_state *alloc, ps_hangups **ret, ps_error *err);
void ps_hangups_free(ps_hangups *h); /* NULL is allowed */

/* ps_hangups_wait returns ctx, once, when the peer has closed its side, or has already. ctx is not NULL; fd stays open
 * until ps_hangups_remove. Any thread. false: out of resources, and it is not watched. */
bool ps_hangups_add(ps_hangups *h, int fd, void *ctx);
/* No later ps_hangups_wait returns it; one that runs may. Any thread. */
void ps_hangups_remove(ps_hangups *h, int fd);
/* Sleeps until there is one, until_ns (of ps_clock_ns; 0: no end) or ps_hangups_wake. Returns how many of *ret are set.
 * One thread. */
size_t ps_hangups_wait(ps_hangups *h, int64_t until_ns, void **ret, size_t max);
/* The wait that runs, or the next one, returns. Any thread. */
void ps_hangups_wake(ps_hangups *h);

#endif
