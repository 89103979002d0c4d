#include "base/hangup.h"

#include <limits.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/os.h"

#define MOST 64u /* events of one wait */

struct ps_hangups {
    ps_alloc_state *alloc;
    int set, bell; /* epoll; an eventfd in it, with data.ptr NULL */
};

static bool open_all(ps_hangups *h) {
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
    h->set = epoll_create1(EPOLL_CLOEXEC);
    h->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return h->set >= 0 && h->bell >= 0 && epoll_ctl(h->set, EPOLL_CTL_ADD, h->bell, &event) == 0;
}

ps_status ps_hangups_create(ps_alloc_state *alloc, ps_hangups **ret, ps_error *err) {
    ps_hangups *h = ps_alloc_zero(alloc, sizeof *h);
    if (!h) return PS_FAIL_NOMEM(err, "a watch over sockets");
    h->alloc = alloc;
    if (!open_all(h)) {
        ps_hangups_free(h);
        return PS_FAIL_NOMEM(err, "a watch over sockets");
    }
    *ret = h;
    return PS_OK;
}

void ps_hangups_free(ps_hangups *h) {
    if (!h) return;
    if (h->bell >= 0) close(h->bell);
    if (h->set >= 0) close(h->set);
    ps_free(h->alloc, h);
}

/* Data that arrives is no event here, so a set of busy connections sleeps. */
bool ps_hangups_add(ps_hangups *h, int fd, void *ctx) {
    struct epoll_event event = { .events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = ctx };
    return epoll_ctl(h->set, EPOLL_CTL_ADD, fd, &event) == 0;
}

void ps_hangups_remove(ps_hangups *h, int fd) {
    (void)epoll_ctl(h->set, EPOLL_CTL_DEL, fd, NULL);
}

/* Rounded up, so that nothing is looked at too early again and again. */
static int wait_ms(int64_t until_ns) {
    if (!until_ns) return -1;
    int64_t left = until_ns - ps_clock_ns();
    if (left <= 0) return 0;
    return left / 1000000 < INT_MAX ? (int)((left + 999999) / 1000000) : INT_MAX;
}

size_t ps_hangups_wait(ps_hangups *h, int64_t until_ns, void **ret, size_t max) {
    struct epoll_event events[MOST];
    size_t n = 0;
    uint64_t rings;
    int got = epoll_wait(h->set, events, (int)(max < MOST ? max : MOST), wait_ms(until_ns));
    for (int i = 0; i < got; i++) {
        if (events[i].data.ptr) {
            ret[n++] = events[i].data.ptr;
        } else {
            ssize_t size = read(h->bell, &rings, sizeof rings);
            (void)size; /* it was rung, or somebody else's signal ended the read: then it rings again */
        }
    }
    return n;
}

void ps_hangups_wake(ps_hangups *h) {
    const uint64_t one = 1;
    ssize_t size = write(h->bell, &one, sizeof one);
    (void)size; /* it fails only while it rings already */
}
