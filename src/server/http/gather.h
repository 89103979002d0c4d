/* gather.h - the pauses in which a crowd's requests arrive, so that the daemon's threads read them in groups.
 *
 * Where the next run is full anyway (ps_runner_is_crowded), a thread that had nothing to do sleeps for PS_GATHER_NS
 * before it handles what woke it: a request, or an answer that goes out. Whether it had nothing to do is the time
 * that passed since the last pause and was not spent on a processor. */
#ifndef PS_SERVER_HTTP_GATHER_H
#define PS_SERVER_HTTP_GATHER_H

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdint.h>

#define PS_MAX_GATHERERS 64 /* threads; more never pause */

typedef struct ps_http ps_http;

/* One of the daemon's threads. */
typedef struct ps_gatherer {
    atomic_uintptr_t daemon;  /* that thread's; 0: free */
    int64_t wall_ns, cpu_ns; /* of the end of its last pause; its own */
} ps_gatherer;

/* The calling thread is the connection's. */
void ps_gather(ps_http *http, struct MHD_Connection *connection);

#endif
