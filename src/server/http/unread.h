/* unread.h - requests whose bodies are left in their sockets until there is time for them.
 *
 * A request that says nothing of its time is never refused for it: where more come than can be answered in time, those
 * that will be late wait. With a body of a photo's size each that waits here costs memory, and reading it the time that
 * others need who can still be in time. Unread, its bytes stay where TCP keeps them, most of them with the client. */
#ifndef PS_SERVER_HTTP_UNREAD_H
#define PS_SERVER_HTTP_UNREAD_H

#include "server/http/exchange.h"

#define PS_UNREAD_LEAST ((size_t)64 << 10) /* smaller bodies are read */

/* With a piece of the body, on the daemon's thread. True: the connection is suspended, and nothing of the piece was
 * taken: it comes again. */
bool ps_unread_leave(ps_exchange *x, const char *data, size_t size);
/* Its body is there. */
void ps_unread_came(ps_exchange *x);
/* It ends, before what it holds is cleared. */
void ps_unread_end(ps_exchange *x);

#endif
