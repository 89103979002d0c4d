#include "server/http/watch.h"

#include <stdatomic.h>

#include "base/hangup.h"
#include "base/os.h"
#include "base/thread.h"
#include "server/address.h"

#define LOOK_NS INT64_C(1000000000)
#define LOOK_FULL_NS INT64_C(100000000) /* while there are too many */
#define SPARED_NS INT64_C(1000000000)   /* so long after it was due a connection can be spared */
#define MAX_SPARED 64                   /* in one look */
#define MAX_GONE 64                     /* clients that hung up, in one wait */

struct ps_watched {
    ps_watch *watch;
    int fd;
    bool shut;               /* guarded by the watch's lock */
    atomic_llong due, until; /* ps_clock_ns; 0: nothing is expected. Each decision looks at one of them */
    ps_watched *previous, *next;
    ps_mutex lock;        /* taken alone, or before those that give_up takes */
    bool listed;          /* in the watch's hangups: from the first owner on; guarded by lock, like the two below */
    bool gone;            /* the client is */
    ps_watch_owner owner; /* give_up NULL: none */
};

struct ps_watch {
    ps_alloc_state *alloc;
    ps_log log;
    size_t limit;
    ps_watch_chore chore;
    ps_hangups *hangups;
    ps_thread thread;
    ps_mutex lock;
    ps_watched *first; /* guarded by lock, like all below */
    ps_watched *dead;  /* removed; for the thread to free, which may just have been told of them */
    size_t open;       /* those that were not shut */
    bool changed;      /* look at once */
    bool stopping;
};

/* Called with the lock held, so that no descriptor is closed in between. */
static void shut(ps_watched *w) {
    w->shut = true;
    w->watch->open--;
    ps_listener_refuse(w->fd); /* both directions; the daemon sees an end and closes */
}

static void shut_slow(ps_watch *watch, int64_t now) {
    for (ps_watched *w = watch->first; w; w = w->next) {
        int64_t until = atomic_load_explicit(&w->until, memory_order_relaxed);
        if (w->shut || until == 0 || until > now) continue;
        shut(w);
        ps_log_line(&watch->log, PS_LOG_DEBUG, "event=slow_client");
    }
}

/* Puts w, which is due earlier than the last of the full list, to its place by due time. */
static size_t insert(ps_watched *list[MAX_SPARED], int64_t dues[MAX_SPARED], size_t n, size_t max, ps_watched *w,
                     int64_t due) {
    size_t i = n < max ? n : max - 1;
    for (; i > 0 && dues[i - 1] > due; i--) {
        list[i] = list[i - 1];
        dues[i] = dues[i - 1];
    }
    list[i] = w;
    dues[i] = due;
    return n < max ? n + 1 : max;
}

/* Those that have been due for longest make room, as many as there are too many. */
static void shut_spared(ps_watch *watch, int64_t now) {
    ps_watched *list[MAX_SPARED];
    int64_t dues[MAX_SPARED];
    size_t n = 0, max = watch->open - watch->limit < MAX_SPARED ? watch->open - watch->limit : MAX_SPARED;
    for (ps_watched *w = watch->first; w; w = w->next) {
        int64_t due = atomic_load_explicit(&w->due, memory_order_relaxed);
        if (w->shut || due == 0 || due + SPARED_NS > now || (n == max && due >= dues[max - 1])) continue;
        n = insert(list, dues, n, max, w, due);
    }
    for (size_t i = 0; i < n; i++)
        shut(list[i]);
    if (n) ps_log_line(&watch->log, PS_LOG_DEBUG, "event=connections_full limit=%zu closed_idle=%zu", watch->limit, n);
}

static bool is_full(const ps_watch *watch) {
    return watch->open > watch->limit;
}

static void free_watched(ps_watched *w) {
    ps_mutex_destroy(&w->lock);
    ps_free(w->watch->alloc, w);
}

static void free_dead(ps_watched *w) {
    for (ps_watched *next; w; w = next) {
        next = w->next;
        free_watched(w);
    }
}

/* The client of w hung up. The lock is free again when the request is answered: answering takes it. */
static void hung_up(ps_watched *w) {
    ps_mutex_lock(&w->lock);
    ps_watch_owner owner = w->owner;
    w->gone = true;
    w->owner.give_up = NULL;
    bool left = owner.give_up && owner.give_up(owner.ctx);
    ps_mutex_unlock(&w->lock);
    if (left) owner.left(owner.ctx);
}

/* With the lock held, when it is time or something changed. Sets when to look next; 0: there is nothing to look at. */
static void look(ps_watch *watch, int64_t *next_ns) {
    int64_t now = ps_clock_ns();
    if (!watch->changed && *next_ns && now < *next_ns) return;
    watch->changed = false;
    shut_slow(watch, now);
    if (is_full(watch)) shut_spared(watch, now);
    *next_ns = watch->first ? now + (is_full(watch) ? LOOK_FULL_NS : LOOK_NS) : 0;
}

/* Without the lock. Once more after there is nothing to look at any more: what is to be done may have come since. */
static void do_chore(const ps_watch *watch, int64_t *chore_ns, int64_t *next_ns) {
    const int64_t now = ps_clock_ns();
    bool more = true;
    if (now >= *chore_ns) {
        *chore_ns = now + LOOK_NS;
        more = watch->chore.run(watch->chore.ctx);
    }
    if (more && *next_ns == 0) *next_ns = *chore_ns;
}

static void watch_main(void *arg) {
    ps_watch *watch = arg;
    void *gone[MAX_GONE];
    int64_t next_ns = 0, chore_ns = 0;
    ps_mutex_lock(&watch->lock);
    while (!watch->stopping) {
        ps_watched *dead = watch->dead;
        watch->dead = NULL;
        look(watch, &next_ns);
        ps_mutex_unlock(&watch->lock);
        free_dead(dead);
        do_chore(watch, &chore_ns, &next_ns);
        size_t n = ps_hangups_wait(watch->hangups, next_ns, gone, MAX_GONE);
        for (size_t i = 0; i < n; i++)
            hung_up(gone[i]);
        ps_mutex_lock(&watch->lock);
    }
    ps_mutex_unlock(&watch->lock);
}

ps_status ps_watch_create(ps_alloc_state *alloc, const ps_log *log, size_t limit, const ps_watch_chore *chore,
                          ps_watch **ret, ps_error *err) {
    ps_watch *watch = ps_alloc_zero(alloc, sizeof *watch);
    if (!watch) return PS_FAIL_NOMEM(err, "the watch over connections");
    watch->alloc = alloc;
    watch->log = *log;
    watch->limit = limit;
    watch->chore = *chore;
    bool hangups = ps_hangups_create(alloc, &watch->hangups, NULL) == PS_OK;
    bool both = hangups && ps_mutex_init(&watch->lock);
    if (both && ps_thread_start(&watch->thread, "ps-watch", watch_main, watch)) {
        *ret = watch;
        return PS_OK;
    }
    if (both) ps_mutex_destroy(&watch->lock);
    ps_hangups_free(watch->hangups);
    ps_free(alloc, watch);
    return PS_FAIL_NOMEM(err, "the watch over connections");
}

void ps_watch_free(ps_watch *watch) {
    if (!watch) return;
    ps_mutex_lock(&watch->lock);
    watch->stopping = true;
    ps_mutex_unlock(&watch->lock);
    ps_hangups_wake(watch->hangups);
    ps_thread_join(watch->thread);
    free_dead(watch->dead);
    ps_hangups_free(watch->hangups);
    ps_mutex_destroy(&watch->lock);
    ps_free(watch->alloc, watch);
}

ps_watched *ps_watch_add(ps_watch *watch, int fd) {
    ps_watched *w = ps_alloc_zero(watch->alloc, sizeof *w);
    if (!w) return NULL;
    if (!ps_mutex_init(&w->lock)) {
        ps_free(watch->alloc, w);
        return NULL;
    }
    w->watch = watch;
    w->fd = fd;
    ps_mutex_lock(&watch->lock);
    w->next = watch->first;
    if (w->next) w->next->previous = w;
    watch->open++;
    bool changed = !watch->first || watch->open == watch->limit + 1;
    watch->changed |= changed;
    watch->first = w;
    ps_mutex_unlock(&watch->lock);
    if (changed) ps_hangups_wake(watch->hangups);
    return w;
}

void ps_watch_remove(ps_watched *w) {
    if (!w) return;
    ps_watch *watch = w->watch;
    ps_mutex_lock(&w->lock);
    bool listed = w->listed;
    ps_mutex_unlock(&w->lock);
    if (listed) ps_hangups_remove(watch->hangups, w->fd);
    ps_mutex_lock(&watch->lock);
    *(w->previous ? &w->previous->next : &watch->first) = w->next;
    if (w->next) w->next->previous = w->previous;
    watch->open -= !w->shut;
    if (listed) {
        w->next = watch->dead;
        watch->dead = w;
    }
    ps_mutex_unlock(&watch->lock);
    if (!listed) free_watched(w);
}

void ps_watch_expect(ps_watched *w, int64_t due_ns, int64_t patience_ns) {
    if (!w) return;
    atomic_store_explicit(&w->due, due_ns, memory_order_relaxed);
    atomic_store_explicit(&w->until, due_ns + patience_ns, memory_order_relaxed);
}

void ps_watch_rest(ps_watched *w) {
    if (!w) return;
    atomic_store_explicit(&w->due, 0, memory_order_relaxed);
    atomic_store_explicit(&w->until, 0, memory_order_relaxed);
}

bool ps_watch_own(ps_watched *w, const ps_watch_owner *owner) {
    if (!w) return true;
    ps_mutex_lock(&w->lock);
    if (!w->listed) w->listed = ps_hangups_add(w->watch->hangups, w->fd, w);
    bool gone = w->gone;
    if (!gone) w->owner = *owner;
    ps_mutex_unlock(&w->lock);
    return !gone;
}

void ps_watch_disown(ps_watched *w) {
    if (!w) return;
    ps_mutex_lock(&w->lock);
    w->owner.give_up = NULL;
    ps_mutex_unlock(&w->lock);
}
