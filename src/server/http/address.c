#include "server/http/address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

ps_status ps_address_resolve(const char *host, int port, struct sockaddr_storage *ret, ps_error *err) {
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *list = NULL;
    char service[8];
    PS_FAIL_IF(port < 0 || port > 65535, err, INVALID, "port %d is not between 0 and 65535", port);
    snprintf(service, sizeof service, "%d", port);
    int rc = getaddrinfo(host, service, &hints, &list);
    PS_FAIL_IF(rc != 0, err, INVALID, "host '%s': %s", host, gai_strerror(rc));
    memset(ret, 0, sizeof *ret);
    memcpy(ret, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    return PS_OK;
}

void ps_listener_refuse(int fd) {
    if (fd >= 0) (void)shutdown(fd, SHUT_RDWR);
}

void ps_listener_close(int fd) {
    if (fd >= 0) (void)close(fd);
}
