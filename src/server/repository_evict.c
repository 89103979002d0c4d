/* repository_evict.c - room for models: who goes, and when there is none. */
#include <string.h>

#include "base/error.h"
#include "server/repository_int.h"

/* What is taken at once when a run finds no memory: a share of the limit, so that the next run does too. */
#define RELIEF_SHARE 16
#define HEADROOM_SHARE 16                     /* of the limit that loads leave for requests */
#define PATIENCE_NS (5 * INT64_C(1000000000)) /* with models that are in use */
#define RESERVE_NS (2 * INT64_C(1000000000))  /* of it, for models in use that are known to take more than they have */
#define RELIEF_TRIES 50                       /* of a request's body: others wait for the same thread */
#define LOOK_AGAIN_NS 2000000                 /* each look goes through all models under the lock that requests take */

static size_t limit_of(const ps_repository *repo) {
    return repo->options.memory_limit;
}

/* ---- who goes; the lock is held ---- */

static bool is_kept(const ps_model_version *v) {
    const ps_served *s = v->served;
    const char *pinned = ps_model_config_parameter(&s->config, "pinned");
    return v->state != PS_MODEL_READY || (pinned && strcmp(pinned, "true") == 0) || atomic_load(&s->refs) > 1 ||
           ps_sequences_live(s->sequences);
}

static void list_residents(ps_repository *repo) {
    repo->residents.size = repo->resident_of.size = 0;
    for (size_t i = 0; i < repo->sorted.size; i++) {
        const ps_entry *e = repo->sorted.data[i];
        for (size_t k = 0; k < e->versions.size; k++) {
            ps_model_version *v = e->versions.data[k];
            if (!v->served) continue;
            repo->residents.data[repo->residents.size++] = (ps_resident) { .bytes = ps_served_memory(v->served, NULL),
                                                                           .used_ns = ps_served_used(v->served),
                                                                           .reload_ns = v->load_ns,
                                                                           .kept = is_kept(v) };
            repo->resident_of.data[repo->resident_of.size++] = v;
        }
    }
}

/* Out of the version, which a request may load again. */
static ps_served *detach(ps_model_version *v) {
    ps_served *s = v->served;
    v->held = ps_served_memory(s, &v->bytes);
    v->served = NULL;
    v->state = PS_MODEL_EVICTED;
    v->reason = (ps_error)PS_ERROR_INIT;
    ps_stats_evicted(s->stats);
    return s;
}

/* ---- making them go ---- */

/* A busy machine may come to this line late: it says when the choice was made. */
static void say(const ps_repository *repo, ps_served *s, double idle_s, int64_t chosen_ns) {
    char quoted[2 * PS_MODEL_NAME_MAX];
    ps_log_line(&repo->log, PS_LOG_INFO, "event=evict model=%s version=%s bytes=%zu idle_s=%.3f ago_s=%.3f",
                ps_log_quote(s->name, quoted, sizeof quoted), s->version, ps_served_memory(s, NULL), idle_s,
                (double)(ps_clock_ns() - chosen_ns) / 1e9);
}

static void let_go(ps_served *s) {
    ps_served_retire(s);
    ps_served_keep(s);
    ps_served_release(s); /* the last reference: it was not in use, and nobody finds it any more */
}

/* One of those that were chosen, taken out; NULL: none is left. With the lock held. */
static ps_served *take_chosen(ps_repository *repo, int64_t now, double *ret_idle_s) {
    for (size_t i = 0; i < repo->residents.size; i++) {
        ps_resident *m = &repo->residents.data[i];
        if (!m->chosen) continue;
        m->chosen = false;
        *ret_idle_s = (double)(now - m->used_ns) / 1e9;
        return detach(repo->resident_of.data[i]);
    }
    return NULL;
}

bool ps_repository_evict(ps_repository *repo, uint64_t bytes, size_t count) {
    enum { AT_ONCE = 16 };
    ps_served *gone[AT_ONCE];
    double idle_s[AT_ONCE];
    size_t n = 0;
    ps_mutex_lock(&repo->lock);
    const int64_t now = ps_clock_ns();
    list_residents(repo);
    bool ok = ps_repository_on_demand(repo) &&
              ps_eviction_choose(repo->residents.data, repo->residents.size, bytes, count, now);
    for (; ok && n < AT_ONCE; n++)
        if (!(gone[n] = take_chosen(repo, now, &idle_s[n]))) break;
    ps_mutex_unlock(&repo->lock);
    for (size_t i = 0; i < n; i++) /* before any of them is written to the cache, while others may be chosen */
        say(repo, gone[i], idle_s[i], now);
    for (size_t i = 0; i < n; i++)
        let_go(gone[i]);
    return ok; /* more than AT_ONCE are for the next call */
}

bool ps_repository_relieve(ps_repository *repo) {
    return ps_repository_evict(repo, limit_of(repo) / RELIEF_SHARE, 1) || ps_repository_evict(repo, 0, 1);
}

/* What a load holds only for a moment, or gives back because it was too little, is worth waiting for. */
bool ps_repository_await_relief(ps_repository *repo) {
    if (ps_repository_relieve(repo)) return true;
    if (!atomic_load(&repo->filling)) return false;
    ps_sleep_ns(LOOK_AGAIN_NS);
    return true;
}

void *ps_repository_alloc(ps_repository *repo, void *block, size_t bytes) {
    for (int tries = 0;; tries++) {
        void *made = block ? ps_realloc(repo->alloc, block, bytes) : ps_alloc_data(repo->alloc, bytes);
        if (made || tries == RELIEF_TRIES || !ps_repository_await_relief(repo)) return made;
    }
}

/* ---- room ---- */

static size_t count_residents(ps_repository *repo) {
    size_t n = 0;
    ps_mutex_lock(&repo->lock);
    list_residents(repo);
    n = repo->residents.size;
    ps_mutex_unlock(&repo->lock);
    return n;
}

/* What is held; and what models that have just been loaded will take for their sessions, as they did before. */
static uint64_t used_of(ps_repository *repo, bool reserve) {
    uint64_t due = 0;
    if (!reserve) return ps_engine_memory(repo->engine, NULL);
    ps_mutex_lock(&repo->lock);
    list_residents(repo);
    for (size_t i = 0; i < repo->residents.size; i++) {
        const uint64_t now = repo->residents.data[i].bytes, held = repo->resident_of.data[i]->held;
        due += held > now ? held - now : 0;
    }
    ps_mutex_unlock(&repo->lock);
    return ps_engine_memory(repo->engine, NULL) + due;
}

/* What a load asks for. */
typedef struct want {
    uint64_t bytes;
    bool one_more; /* it adds to the number of models */
    bool reserve;  /* what others will take is left to them */
} want;

/* Bytes and models too many if another came with so much. */
static bool is_room(ps_repository *repo, const want *w, uint64_t *ret_bytes, size_t *ret_count) {
    uint64_t limit = limit_of(repo), used = used_of(repo, w->reserve), most = limit - limit / HEADROOM_SHARE;
    size_t residents = w->one_more ? count_residents(repo) + 1 : 0, max = repo->options.max_models;
    *ret_bytes = limit && used + w->bytes > most ? used + w->bytes - most : 0;
    *ret_count = max && residents > max ? residents - max : 0;
    return !*ret_bytes && !*ret_count;
}

bool ps_repository_is_crowded(const ps_repository *repo) {
    size_t limit = limit_of(repo);
    return limit && ps_engine_memory(repo->engine, NULL) > limit - limit / HEADROOM_SHARE / 2;
}

void ps_repository_restore_room(ps_repository *repo) {
    const want nothing = { 0, false, false };
    uint64_t much;
    size_t many;
    while (!is_room(repo, &nothing, &much, &many))
        if (!ps_repository_evict(repo, much, 0) && !ps_repository_evict(repo, 0, 1)) return;
}

static double mb(uint64_t bytes) {
    return (double)bytes / 1e6;
}

/* Idle models make room, and the room that is left for requests is the last resort. */
static bool find_room(ps_repository *repo, const want *w) {
    uint64_t much;
    size_t many;
    while (!is_room(repo, w, &much, &many)) {
        if (ps_repository_evict(repo, much, many)) continue;
        if (many) return false;
        const uint64_t most = limit_of(repo) - limit_of(repo) / PS_REQUESTS_SHARE;
        if (used_of(repo, w->reserve) + w->bytes <= most) return true;
        if (!ps_repository_evict(repo, 0, 1)) return false;
    }
    return true;
}

/* Nothing is loaded, and still there is too little. */
static ps_status never(ps_repository *repo, const ps_entry *e, uint64_t bytes, ps_error *err) {
    return PS_FAIL(err, NO_MEMORY,
                   "model '%s' takes about %.1f MB, and the memory limit of all models together is %.1f MB, of which "
                   "%.1f MB are the server's own",
                   e->name, mb(bytes), mb(limit_of(repo)), mb(ps_engine_memory(repo->engine, NULL)));
}

static ps_status no_room(ps_repository *repo, const ps_entry *e, uint64_t bytes, bool one_more, ps_error *err) {
    size_t max = repo->options.max_models;
    PS_FAIL_IF(one_more && max && count_residents(repo) >= max, err, UNAVAILABLE,
               "model '%s' has to wait: %zu models are loaded and stay or are in use, as many as may be", e->name, max);
    return PS_FAIL(
        err, UNAVAILABLE,
        "model '%s' has to wait: it takes about %.1f MB, and %.1f MB of the memory limit of %.1f MB are held "
        "by requests and by models that stay or are in use",
        e->name, mb(bytes), mb(ps_engine_memory(repo->engine, NULL)), mb(limit_of(repo)));
}

ps_status ps_repository_make_room(ps_repository *repo, const ps_entry *e, uint64_t bytes, bool one_more,
                                  ps_error *err) {
    const int64_t start = ps_clock_ns(), until = start + (ps_repository_on_demand(repo) ? PATIENCE_NS : 0);
    want w = { bytes, one_more, ps_repository_on_demand(repo) };
    PS_FAIL_IF(limit_of(repo) && bytes > limit_of(repo), err, NO_MEMORY,
               "model '%s' takes about %.1f MB, and the memory limit of all models together is %.1f MB", e->name,
               mb(bytes), mb(limit_of(repo)));
    while (!find_room(repo, &w)) { /* models in use are idle in a moment */
        if (!count_residents(repo)) return never(repo, e, bytes, err);
        w.reserve &= ps_clock_ns() < start + RESERVE_NS; /* they may not take it at all */
        if (ps_clock_ns() >= until || atomic_load(&repo->stop_loading)) return no_room(repo, e, bytes, one_more, err);
        ps_sleep_ns(LOOK_AGAIN_NS);
    }
    return PS_OK;
}
