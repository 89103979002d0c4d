/* ticker.h - a thread that wakes others, which wait in epoll sets of their own, at intervals. */
#ifndef PS_BASE_TICKER_H
#define PS_BASE_TICKER_H

#include "base/alloc.h"
#include "base/error.h"

typedef struct ps_ticker ps_ticker;

ps_status ps_ticker_create(ps_alloc_state *alloc, ps_ticker **ret, ps_error *err); /* does not tick yet */
void ps_ticker_free(ps_ticker *t);                                                 /* NULL is allowed */
/* Ticks from now on; 0: no more. Any thread. */
void ps_ticker_set(ps_ticker *t, int64_t interval_ns);
/* Ticks come PS_TICKER_SLOW times as seldom, or as set again, from the one after the next on. Costs next to nothing.
 * Any thread. */
#define PS_TICKER_SLOW 4
void ps_ticker_slow(ps_ticker *t, bool slow);
/* Each tick is one event of the set, with data.ptr NULL. A set that has it already keeps it. Any thread. */
void ps_ticker_join(const ps_ticker *t, int epoll_fd);

#endif
