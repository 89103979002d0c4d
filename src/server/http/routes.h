/* routes.h - which handler serves which method and path. */
#ifndef PS_SERVER_HTTP_ROUTES_H
#define PS_SERVER_HTTP_ROUTES_H

#include "server/http/exchange.h"

/* Finds the handler for x and fills x->model and x->version from the path. On failure the reply is set (404, 405) and
 * x->handler stays NULL. `path` is as it came in the request line, without the query. HEAD is served as GET. */
void ps_route(ps_exchange *x, const char *method, const char *path);

/* Decodes %XX of text[0, size) into buf with NUL. false: bad escape, NUL inside, or too long. */
bool ps_percent_decode(const char *text, size_t size, char *buf, size_t room);

#endif
