/* unit.c - the programs of all units of a model: found by key, made when missing, let go when there are too many. */
#include "runtime/runtime_int.h"

/* ---- keys: threads, then of every input its type, shape, and content where that decides shapes ---- */

#define VALUE_WORDS (PS_BY_VALUE / sizeof(int64_t))

size_t ps_key_room(size_t n_inputs) {
    return 1 + n_inputs * (3 + PS_MAX_RANK + VALUE_WORDS);
}

static size_t add_content(int64_t *key, const ps_slot *end) {
    ps_tensor view;
    ps_slot_view(end, &view);
    if (view.bytes > PS_BY_VALUE) return 0;
    size_t words = (view.bytes + sizeof *key - 1) / sizeof *key;
    memset(key, 0, words * sizeof *key);
    if (view.bytes) memcpy(key, view.data, view.bytes);
    return words;
}

size_t ps_key_fill(int64_t *key, const ps_unit *unit, int threads, ps_slot *const *ends) {
    size_t w = 0;
    key[w++] = threads;
    for (size_t i = 0; i < unit->graph->n_inputs; i++) {
        const ps_slot *end = ends[i];
        key[w++] = end->dtype;
        if (ps_dtype_is_object(end->dtype)) continue; /* nothing is planned on its shape */
        key[w++] = end->shape.rank;
        for (int d = 0; d < end->shape.rank; d++)
            key[w++] = end->shape.dims[d];
        if (unit->by_value && unit->by_value[i]) w += add_content(key + w, end);
    }
    return w;
}

/* ---- the cache: a list over all units of the model, and one for each unit. Called with the model's lock held. ---- */

static void push_newest(ps_model *m, ps_program *p) {
    p->newer = NULL;
    p->older = m->newest;
    if (m->newest) m->newest->newer = p;
    m->newest = p;
    if (!m->oldest) m->oldest = p;
}

static void unlink_order(ps_model *m, ps_program *p) {
    *(p->newer ? &p->newer->older : &m->newest) = p->older;
    *(p->older ? &p->older->newer : &m->oldest) = p->newer;
    p->newer = p->older = NULL;
}

static void link_program(ps_model *m, ps_program *p) {
    push_newest(m, p);
    p->next = p->unit->programs;
    p->unit->programs = p;
    p->linked = true;
    m->cache_bytes += p->bytes;
    m->plans_made++;
}

/* The cache's reference goes to the caller. */
static void unlink_program(ps_model *m, ps_program *p) {
    ps_program **at = &p->unit->programs;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    unlink_order(m, p);
    p->linked = false;
    m->cache_bytes -= p->bytes;
    atomic_store_explicit(&p->evicted, true, memory_order_relaxed);
}

static bool holds(const ps_program *p, const ps_program *keep) {
    for (; keep; keep = keep->unit->owner) {
        if (keep == p) return true;
    }
    return false;
}

/* Takes programs out, oldest first, until the cache is within its limit, but never `keep` nor what holds it; returns
 * them as a list. A session runs its own programs without asking the cache: those it used since the last time go only
 * if nothing else can. */
static ps_program *evict(ps_model *m, const ps_program *keep) {
    ps_program *evicted = NULL;
    for (int spare_used = 1; spare_used >= 0; spare_used--) {
        for (ps_program *p = m->oldest, *newer; p && m->cache_bytes > m->cache_limit; p = newer) {
            newer = p->newer;
            bool used = atomic_exchange_explicit(&p->used, false, memory_order_relaxed);
            if (holds(p, keep) || (used && spare_used)) continue;
            unlink_program(m, p);
            p->next = evicted;
            evicted = p;
        }
    }
    return evicted;
}

/* Without the lock: the last reference to a program frees its units, which takes it. */
static void release_list(ps_program *list) {
    while (list) {
        ps_program *next = list->next;
        list->next = NULL;
        ps_program_release(list);
        list = next;
    }
}

static ps_program *find_program(ps_unit *u, const int64_t *key, size_t words, uint64_t hash) {
    ps_model *m = u->model;
    ps_mutex_lock(&m->lock);
    ps_program *p = u->programs;
    while (p && !(p->key_hash == hash && p->key_words == words && memcmp(p->key, key, words * sizeof *key) == 0))
        p = p->next;
    if (p) {
        unlink_order(m, p);
        push_newest(m, p);
        ps_program_retain(p);
    }
    ps_mutex_unlock(&m->lock);
    return p;
}

/* The cache keeps the newest program whatever its size, and older ones while they fit. */
static void cache_program(ps_program *p) {
    ps_model *m = p->unit->model;
    ps_mutex_lock(&m->lock);
    ps_program_retain(p);
    link_program(m, p);
    ps_program *evicted = evict(m, p);
    ps_mutex_unlock(&m->lock);
    release_list(evicted);
}

void ps_unit_clear(ps_unit *u) {
    ps_program *list = NULL;
    if (!u->model) return; /* of a model that failed early */
    ps_mutex_lock(&u->model->lock);
    while (u->programs) {
        ps_program *p = u->programs;
        unlink_program(u->model, p);
        p->next = list;
        list = p;
    }
    ps_mutex_unlock(&u->model->lock);
    release_list(list);
}

/* ---- making programs ---- */

static ps_status make_program(ps_unit *u, ps_slot *const *ends, const int64_t *key, size_t words, uint64_t hash,
                              int threads, ps_program **ret, ps_error *err) {
    ps_program *p = find_program(u, key, words, hash); /* somebody else may have made it while we waited */
    if (p) {
        *ret = p;
        return PS_OK;
    }
    PS_TRY(ps_program_compile(u, ends, threads, &p, err));
    p->key = ps_alloc(u->model->alloc, words * sizeof *key);
    if (!p->key) {
        ps_program_release(p);
        return PS_FAIL_NOMEM(err, "a program's key");
    }
    memcpy(p->key, key, words * sizeof *key);
    p->key_words = words;
    p->key_hash = hash;
    p->bytes += words * sizeof *key;
    cache_program(p);
    *ret = p;
    return PS_OK;
}

ps_status ps_unit_program(ps_unit *u, ps_slot *const *ends, const int64_t *key, size_t words, int threads,
                          ps_program **ret, ps_error *err) {
    uint64_t hash = ps_hash_bytes(key, words * sizeof *key, 0);
    ps_program *p = find_program(u, key, words, hash);
    if (p) {
        *ret = p;
        return PS_OK;
    }
    ps_mutex_lock(u->model->compile_lock);
    ps_status status = make_program(u, ends, key, words, hash, threads, ret, err);
    ps_mutex_unlock(u->model->compile_lock);
    return status;
}
