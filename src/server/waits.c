#include "server/waits.h"

#include "base/os.h"
#include "base/thread.h"

/* A key whose waiters are just being told; on the stack of whoever does. */
typedef struct telling {
    const void *key;
    struct telling *next;
} telling;

struct ps_waits {
    ps_alloc_state *alloc;
    atomic_size_t n; /* that wait or are being told */
    ps_thread thread; /* ends the wait of those that waited for too long */
    ps_mutex lock;
    ps_cond changed;
    ps_wait *first, *last; /* in order of arrival; guarded by lock, like all below */
    telling *told;
    int64_t awake_ns; /* when the thread looks again */
    bool stopping;
};

/* ---- the list; the lock is held ---- */

static void unlink_wait(ps_waits *waits, ps_wait *w) {
    *(w->previous ? &w->previous->next : &waits->first) = w->next;
    *(w->next ? &w->next->previous : &waits->last) = w->previous;
    w->previous = w->next = NULL;
    w->key = NULL;
}

/* Takes those out that wait for key (NULL: any) and were to wait until then at most; or of these those that joined.
 * Returns them linked by `next`. */
static ps_wait *take(ps_waits *waits, const void *key, int64_t until_ns, bool joined, size_t most) {
    ps_wait *taken = NULL, **end = &taken;
    for (ps_wait *w = waits->first, *next; w && most > 0; w = next) {
        next = w->next;
        if ((key && w->key != key) || w->until_ns > until_ns || (joined && !w->joined)) continue;
        unlink_wait(waits, w);
        *end = w;
        end = &w->next;
        most--;
    }
    return taken;
}

static int64_t first_end(const ps_waits *waits) {
    int64_t first = INT64_MAX;
    for (const ps_wait *w = waits->first; w; w = w->next)
        if (w->until_ns < first) first = w->until_ns;
    return first;
}

/* ---- without the lock ---- */

static void end_all(ps_waits *waits, ps_wait *w) {
    for (ps_wait *next; w; w = next) {
        next = w->next;
        w->next = NULL;
        w->over(w);
        atomic_fetch_sub(&waits->n, 1);
    }
}

static void watch_time(void *arg) {
    ps_waits *waits = arg;
    ps_mutex_lock(&waits->lock);
    while (!waits->stopping) {
        ps_wait *late = take(waits, NULL, ps_clock_ns(), false, SIZE_MAX);
        if (late) {
            ps_mutex_unlock(&waits->lock);
            end_all(waits, late);
            ps_mutex_lock(&waits->lock);
        } else if ((waits->awake_ns = first_end(waits)) < INT64_MAX) {
            (void)ps_cond_wait_until(&waits->changed, &waits->lock, waits->awake_ns);
        } else {
            ps_cond_wait(&waits->changed, &waits->lock);
        }
    }
    ps_mutex_unlock(&waits->lock);
}

ps_status ps_waits_create(ps_alloc_state *alloc, ps_waits **ret, ps_error *err) {
    ps_waits *waits = ps_alloc_zero(alloc, sizeof *waits);
    if (!waits) return PS_FAIL_NOMEM(err, "the requests that wait for a load");
    waits->alloc = alloc;
    bool lock = ps_mutex_init(&waits->lock), both = lock && ps_cond_init(&waits->changed);
    if (both && ps_thread_start(&waits->thread, "ps-load-wait", watch_time, waits)) {
        *ret = waits;
        return PS_OK;
    }
    if (both) ps_cond_destroy(&waits->changed);
    if (lock) ps_mutex_destroy(&waits->lock);
    ps_free(alloc, waits);
    return PS_FAIL_NOMEM(err, "the requests that wait for a load");
}

void ps_waits_free(ps_waits *waits) {
    if (!waits) return;
    ps_mutex_lock(&waits->lock);
    waits->stopping = true;
    ps_cond_broadcast(&waits->changed);
    ps_mutex_unlock(&waits->lock);
    ps_thread_join(waits->thread);
    ps_cond_destroy(&waits->changed);
    ps_mutex_destroy(&waits->lock);
    ps_free(waits->alloc, waits);
}

/* Called with the lock held. */
static void link_wait(ps_waits *waits, const void *key, ps_wait *w, bool joined) {
    w->key = key;
    w->joined = joined;
    w->next = NULL;
    w->previous = waits->last;
    *(waits->last ? &waits->last->next : &waits->first) = w;
    waits->last = w;
    atomic_fetch_add(&waits->n, 1);
    if (w->until_ns < waits->awake_ns) {
        waits->awake_ns = w->until_ns;
        ps_cond_signal(&waits->changed);
    }
}

static bool is_given_up(const ps_wait *w) {
    return w->given_up && atomic_load_explicit(w->given_up, memory_order_relaxed); /* the lock orders it */
}

bool ps_waits_add(ps_waits *waits, const void *key, ps_wait *w) {
    ps_mutex_lock(&waits->lock);
    const bool wanted = !is_given_up(w);
    if (wanted) link_wait(waits, key, w, false);
    ps_mutex_unlock(&waits->lock);
    return wanted;
}

/* Called with the lock held. */
static bool has_others(const ps_waits *waits, const void *key) {
    for (const telling *t = waits->told; t; t = t->next)
        if (!t->key || t->key == key) return true;
    for (const ps_wait *w = waits->first; w; w = w->next)
        if (w->key == key) return true;
    return false;
}

bool ps_waits_join(ps_waits *waits, const void *key, ps_wait *w) {
    ps_mutex_lock(&waits->lock);
    const bool joins = has_others(waits, key) && !is_given_up(w);
    if (joins) link_wait(waits, key, w, true);
    ps_mutex_unlock(&waits->lock);
    return joins;
}

bool ps_waits_any(const ps_waits *waits) {
    return atomic_load(&waits->n) > 0;
}

size_t ps_waits_count(ps_waits *waits, const void *key) {
    size_t n = 0;
    ps_mutex_lock(&waits->lock);
    for (const ps_wait *w = waits->first; w; w = w->next)
        n += w->key == key;
    ps_mutex_unlock(&waits->lock);
    return n;
}

bool ps_waits_remove(ps_waits *waits, ps_wait *w) {
    ps_mutex_lock(&waits->lock);
    bool waited = w->key != NULL;
    if (waited) {
        unlink_wait(waits, w);
        atomic_fetch_sub(&waits->n, 1);
    }
    ps_mutex_unlock(&waits->lock);
    return waited;
}

void ps_waits_end(ps_waits *waits, const void *key) {
    telling mine = { .key = key };
    ps_mutex_lock(&waits->lock);
    mine.next = waits->told;
    waits->told = &mine;
    ps_wait *taken = take(waits, key, INT64_MAX, false, SIZE_MAX);
    while (taken) { /* who is told may wait anew at once: only those that joined are next */
        ps_mutex_unlock(&waits->lock);
        end_all(waits, taken);
        ps_mutex_lock(&waits->lock);
        taken = take(waits, key, INT64_MAX, true, SIZE_MAX);
    }
    telling **at = &waits->told;
    while (*at != &mine)
        at = &(*at)->next;
    *at = mine.next;
    ps_mutex_unlock(&waits->lock);
}

void ps_waits_end_some(ps_waits *waits, const void *key, size_t most) {
    ps_mutex_lock(&waits->lock);
    ps_wait *taken = take(waits, key, INT64_MAX, false, most);
    ps_mutex_unlock(&waits->lock);
    end_all(waits, taken);
}
