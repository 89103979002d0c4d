/* http.h - the HTTP front end: one libmicrohttpd daemon over the core.
 *
 * Threads: the daemon's own threads read requests, parse them and send replies; runs and loads happen on the pools,
 * while the connection is suspended. */
#ifndef PS_SERVER_HTTP_HTTP_H
#define PS_SERVER_HTTP_HTTP_H

#include "server/front.h"

typedef struct ps_http ps_http;

/* So many connections are open for a moment above max_connections: until idle ones have made room. */
int ps_http_spare_connections(int max_connections);
/* Listens and serves from now on. */
ps_status ps_http_start(const ps_front_options *options, ps_http **ret, ps_error *err);
int ps_http_port(const ps_http *http);
/* What /v2/health/ready answers; false at first. */
void ps_http_set_ready(ps_http *http, bool ready);
/* No new connections, ready is false for good, every reply closes its connection. Requests on open connections are
 * served. */
void ps_http_drain(ps_http *http);
/* Waits until no request is in progress (but for bodies that stall); false if the deadline (of ps_clock_ns) came first.
 */
bool ps_http_wait_idle(ps_http *http, int64_t deadline_ns);
/* Closes all connections. No request may be queued or running any more. NULL is allowed. */
void ps_http_free(ps_http *http);

#endif
