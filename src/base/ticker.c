#include "base/ticker.h"

#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/os.h"
#include "base/thread.h"

struct ps_ticker {
    ps_alloc_state *alloc;
    int fd; /* an eventfd: each write is an edge for whoever watches it, read or not */
    ps_thread thread;
    ps_mutex lock;
    ps_cond changed;
    int64_t interval_ns; /* guarded by lock, like the next */
    bool stopping;
    atomic_bool slow;
};

static void tick(const ps_ticker *t) {
    const uint64_t one = 1;
    ssize_t written = write(t->fd, &one, sizeof one);
    (void)written; /* at 2^64 - 2 ticks it would be full */
}

static int64_t pace(const ps_ticker *t) {
    return atomic_load_explicit(&t->slow, memory_order_relaxed) ? PS_TICKER_SLOW : 1;
}

static void ticker_main(void *arg) {
    ps_ticker *t = arg;
    ps_mutex_lock(&t->lock);
    while (!t->stopping) {
        if (t->interval_ns == 0) {
            ps_cond_wait(&t->changed, &t->lock);
            continue;
        }
        (void)ps_cond_wait_until(&t->changed, &t->lock, ps_clock_ns() + pace(t) * t->interval_ns);
        if (t->interval_ns) tick(t); /* it may have been set to none meanwhile */
    }
    ps_mutex_unlock(&t->lock);
}

ps_status ps_ticker_create(ps_alloc_state *alloc, ps_ticker **ret, ps_error *err) {
    ps_ticker *t = ps_alloc_zero(alloc, sizeof *t);
    if (!t) return PS_FAIL_NOMEM(err, "a ticker");
    t->alloc = alloc;
    t->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bool lock = t->fd >= 0 && ps_mutex_init(&t->lock), both = lock && ps_cond_init(&t->changed);
    if (both && ps_thread_start(&t->thread, "ps-tick", ticker_main, t)) {
        *ret = t;
        return PS_OK;
    }
    if (both) ps_cond_destroy(&t->changed);
    if (lock) ps_mutex_destroy(&t->lock);
    if (t->fd >= 0) close(t->fd);
    ps_free(alloc, t);
    return PS_FAIL_NOMEM(err, "a ticker");
}

void ps_ticker_free(ps_ticker *t) {
    if (!t) return;
    ps_mutex_lock(&t->lock);
    t->stopping = true;
    ps_cond_broadcast(&t->changed);
    ps_mutex_unlock(&t->lock);
    ps_thread_join(t->thread);
    ps_cond_destroy(&t->changed);
    ps_mutex_destroy(&t->lock);
    close(t->fd);
    ps_free(t->alloc, t);
}

void ps_ticker_set(ps_ticker *t, int64_t interval_ns) {
    ps_mutex_lock(&t->lock);
    t->interval_ns = interval_ns;
    ps_cond_signal(&t->changed);
    ps_mutex_unlock(&t->lock);
}

void ps_ticker_slow(ps_ticker *t, bool slow) {
    if (atomic_load_explicit(&t->slow, memory_order_relaxed) != slow)
        atomic_store_explicit(&t->slow, slow, memory_order_relaxed);
}

void ps_ticker_join(const ps_ticker *t, int epoll_fd) {
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = NULL };
    if (epoll_fd >= 0) (void)epoll_ctl(epoll_fd, EPOLL_CTL_ADD, t->fd, &event);
}
