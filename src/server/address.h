/* address.h - the few socket calls that the libraries of the front ends leave to their user. */
#ifndef PS_SERVER_ADDRESS_H
#define PS_SERVER_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>

#include "base/error.h"

/* First address of host (name or number) with the port set. */
ps_status ps_address_resolve(const char *host, int port, struct sockaddr_storage *ret, ps_error *err);
/* What the system says against listening there, for a library that does not tell; buf is filled. */
void ps_address_why_not(const struct sockaddr_storage *address, char *buf, size_t size);
/* Refuses connections to a listening socket from now on; it stays open. */
void ps_listener_refuse(int fd);
void ps_listener_close(int fd); /* -1 is allowed */

#endif
