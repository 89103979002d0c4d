/* watch.h - shuts connections of clients that take too long.
 *
 * libmicrohttpd closes a connection on which nothing moves. A client that keeps it moving, a byte now and then, would
 * stay for ever: so whoever waits for a client says how long it may take. One thread looks once a second; saying it
 * costs one store. */
#ifndef PS_SERVER_HTTP_WATCH_H
#define PS_SERVER_HTTP_WATCH_H

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"

typedef struct ps_watch ps_watch;
typedef struct ps_watched ps_watched; /* one connection */

ps_status ps_watch_create(ps_alloc_state *alloc, const ps_log *log, ps_watch **ret, ps_error *err);
void ps_watch_free(ps_watch *watch); /* when no connection is watched any more; NULL is allowed */

/* fd must stay open until ps_watch_remove. NULL: out of memory; the connection is not watched then. */
ps_watched *ps_watch_add(ps_watch *watch, int fd);
void ps_watch_remove(ps_watched *w); /* NULL is allowed, here and below */
/* The client has until then (ps_clock_ns); 0: it is not the client that we wait for. */
void ps_watch_until(ps_watched *w, int64_t deadline_ns);

#endif
