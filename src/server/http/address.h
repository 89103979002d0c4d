/* address.h - the few socket calls that libmicrohttpd leaves to its user. */
#ifndef PS_SERVER_HTTP_ADDRESS_H
#define PS_SERVER_HTTP_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>

#include "base/error.h"

/* First address of host (name or number) with the port set. */
ps_status ps_address_resolve(const char *host, int port, struct sockaddr_storage *ret, ps_error *err);
/* Refuses connections to a listening socket from now on; it stays open. */
void ps_listener_refuse(int fd);
void ps_listener_close(int fd); /* -1 is allowed */

#endif
