#include "server/address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
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

void ps_address_why_not(const struct sockaddr_storage *a, char *buf, size_t size) {
    socklen_t n = a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int fd = socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    bool bad = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
               bind(fd, (const struct sockaddr *)a, n) != 0 || listen(fd, 1) != 0;
    snprintf(buf, size, "%s", bad ? strerror(errno) : "refused");
    ps_listener_close(fd);
}

void ps_listener_refuse(int fd) {
    if (fd >= 0) (void)shutdown(fd, SHUT_RDWR);
}

void ps_listener_close(int fd) {
    if (fd >= 0) (void)close(fd);
}
