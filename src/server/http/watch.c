#include "server/http/watch.h"

#include <stdatomic.h>

#include "base/os.h"
#include "base/thread.h"
#include "server/http/address.h"

#define LOOK_NS INT64_C(1000000000)

struct ps_watched {
    ps_watch *watch;
    int fd;
    atomic_llong until; /* ps_clock_ns; 0: no limit */
    ps_watched *previous, *next;
};

struct ps_watch {
    ps_alloc_state *alloc;
    ps_log log;
    ps_thread thread;
    ps_mutex lock;
    ps_cond changed;
    ps_watched *first; /* guarded by lock, like the next */
    bool stopping;
};

/* Called with the lock held, so that no descriptor is closed in between. */
static void look(ps_watch *watch) {
    int64_t now = ps_clock_ns();
    for (ps_watched *w = watch->first; w; w = w->next) {
        int64_t until = atomic_load_explicit(&w->until, memory_order_relaxed);
        if (until == 0 || until > now) continue;
        atomic_store_explicit(&w->until, 0, memory_order_relaxed);
        ps_listener_refuse(w->fd); /* both directions; the daemon sees an end and closes */
        ps_log_line(&watch->log, PS_LOG_DEBUG, "event=slow_client");
    }
}

static void watch_main(void *arg) {
    ps_watch *watch = arg;
    ps_mutex_lock(&watch->lock);
    while (!watch->stopping) {
        if (watch->first)
            (void)ps_cond_wait_until(&watch->changed, &watch->lock, ps_clock_ns() + LOOK_NS);
        else
            ps_cond_wait(&watch->changed, &watch->lock);
        look(watch);
    }
    ps_mutex_unlock(&watch->lock);
}

ps_status ps_watch_create(ps_alloc_state *alloc, const ps_log *log, ps_watch **ret, ps_error *err) {
    ps_watch *watch = ps_alloc_zero(alloc, sizeof *watch);
    if (!watch) return PS_FAIL_NOMEM(err, "the watch over connections");
    watch->alloc = alloc;
    watch->log = *log;
    bool lock = ps_mutex_init(&watch->lock), both = lock && ps_cond_init(&watch->changed);
    if (both && ps_thread_start(&watch->thread, "ps-watch", watch_main, watch)) {
        *ret = watch;
        return PS_OK;
    }
    if (both) ps_cond_destroy(&watch->changed);
    if (lock) ps_mutex_destroy(&watch->lock);
    ps_free(alloc, watch);
    return PS_FAIL_NOMEM(err, "the watch over connections");
}

void ps_watch_free(ps_watch *watch) {
    if (!watch) return;
    ps_mutex_lock(&watch->lock);
    watch->stopping = true;
    ps_cond_broadcast(&watch->changed);
    ps_mutex_unlock(&watch->lock);
    ps_thread_join(watch->thread);
    ps_cond_destroy(&watch->changed);
    ps_mutex_destroy(&watch->lock);
    ps_free(watch->alloc, watch);
}

ps_watched *ps_watch_add(ps_watch *watch, int fd) {
    ps_watched *w = ps_alloc_zero(watch->alloc, sizeof *w);
    if (!w) return NULL;
    w->watch = watch;
    w->fd = fd;
    ps_mutex_lock(&watch->lock);
    w->next = watch->first;
    if (w->next) w->next->previous = w;
    if (!watch->first) ps_cond_signal(&watch->changed);
    watch->first = w;
    ps_mutex_unlock(&watch->lock);
    return w;
}

void ps_watch_remove(ps_watched *w) {
    if (!w) return;
    ps_watch *watch = w->watch;
    ps_mutex_lock(&watch->lock);
    *(w->previous ? &w->previous->next : &watch->first) = w->next;
    if (w->next) w->next->previous = w->previous;
    ps_mutex_unlock(&watch->lock);
    ps_free(watch->alloc, w);
}

void ps_watch_until(ps_watched *w, int64_t deadline_ns) {
    if (w) atomic_store_explicit(&w->until, deadline_ns, memory_order_relaxed);
}
