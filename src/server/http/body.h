/* body.h - collects the body of a request under the limits of the front end. */
#ifndef PS_SERVER_HTTP_BODY_H
#define PS_SERVER_HTTP_BODY_H

#include "server/http/exchange.h"

/* Reads the headers that say what the body will be; sets an error reply if it cannot be served. */
void ps_body_expect(ps_exchange *x);
/* Takes a piece. Memory grows with what arrives, not with what was announced. A body over the limits is dropped and
 * gets its error reply at the end; false: the client is so slow or sends so much that the connection should be closed.
 */
bool ps_body_take(ps_exchange *x, const char *data, size_t size);
/* The body has arrived: unpacks one that is compressed, under the same limits. Sets an error reply, and the handler to
 * NULL, if that fails. */
void ps_body_finish(ps_exchange *x);
void ps_body_release(ps_exchange *x);
/* The same, but a small block stays for the exchange's next body. */
void ps_body_spare(ps_exchange *x, size_t max_bytes);
/* Gives back memory of earlier bodies that was not needed for a while, or that others need now: a ps_watch_chore's run
 * of a ps_http. */
bool ps_bodies_fade(void *http);

#endif
