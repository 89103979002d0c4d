/* watch.h - shuts connections: of clients that take too long, and, when there are too many, those that can be spared.
 *
 * libmicrohttpd closes a connection on which nothing moves. A client that keeps it moving, a byte now and then, would
 * stay for ever: so whoever waits for a client says how long it may take. And connections that idle, or live off the
 * patience they are given, must not lock others out: above the limit the one that was due first goes. One thread looks
 * once a second, and at once above the limit; saying what is expected costs two stores.
 *
 * The same thread tells whoever has a request that waits when its client hangs up: libmicrohttpd looks at no socket
 * whose connection is suspended. A client that closes only its sending side counts as one that is gone, as elsewhere:
 * what is left of its connection cannot be told from a dead one. */
#ifndef PS_SERVER_HTTP_WATCH_H
#define PS_SERVER_HTTP_WATCH_H

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"

typedef struct ps_watch ps_watch;
typedef struct ps_watched ps_watched; /* one connection */

/* Something else to do on the watch's thread, about once a second while connections are watched or it returns true. */
typedef struct ps_watch_chore {
    bool (*run)(void *ctx);
    void *ctx;
} ps_watch_chore;

/* limit: connections that may be open while some of them can be spared. */
ps_status ps_watch_create(ps_alloc_state *alloc, const ps_log *log, size_t limit, const ps_watch_chore *chore,
                          ps_watch **ret, ps_error *err);
void ps_watch_free(ps_watch *watch); /* when no connection is watched any more; NULL is allowed */

/* fd must stay open until ps_watch_remove. NULL: out of memory; the connection is not watched then. */
ps_watched *ps_watch_add(ps_watch *watch, int fd);
void ps_watch_remove(ps_watched *w); /* NULL is allowed, here and below */
/* Something is due from the client at `due_ns` (of ps_clock_ns), and it is shut `patience_ns` later. A second after it
 * was due, the connection can be spared. */
void ps_watch_expect(ps_watched *w, int64_t due_ns, int64_t patience_ns);
void ps_watch_rest(ps_watched *w); /* it is not the client that we wait for */

/* Who has a request of the connection. */
typedef struct ps_watch_owner {
    /* On the watch's thread, once, when the client is gone. True: nobody else has the request any more; then `left`
     * follows, in which it is answered. Must not call ps_watch_disown. */
    bool (*give_up)(void *ctx);
    void (*left)(void *ctx);
    void *ctx;
} ps_watch_owner;

/* Until ps_watch_disown. false: the client is gone already, and nothing will be called. */
bool ps_watch_own(ps_watched *w, const ps_watch_owner *owner);
/* give_up does not run when this returns, and is not called any more. */
void ps_watch_disown(ps_watched *w);

#endif
