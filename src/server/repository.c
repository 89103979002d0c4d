#include "server/repository.h"

#include <string.h>

#include "base/error.h"
#include "server/json_text.h"
#include "server/repository_int.h"

bool ps_model_name_valid(const char *name) {
    size_t size = strlen(name);
    if (size == 0 || size > PS_MODEL_NAME_MAX || name[0] == '.') return false;
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '/' || *p == '\\') return false;
    return ps_utf8_valid(name, size);
}

bool ps_repository_on_demand(const ps_repository *repo) {
    return repo->options.control == PS_CONTROL_ON_DEMAND || repo->options.control == PS_CONTROL_POLL;
}

const ps_used_devices *ps_repository_devices(const ps_repository *repo) {
    return repo->options.served.devices;
}

/* ---- names ---- */

static void version_free(ps_repository *repo, ps_model_version *v) {
    ps_served_release(v->served);
    ps_stats_release(v->stats);
    ps_free(repo->alloc, v->file);
    ps_free(repo->alloc, v);
}

static void entry_free(ps_repository *repo, ps_entry *e) {
    if (!e) return;
    for (size_t i = 0; i < e->versions.size; i++)
        version_free(repo, e->versions.data[i]);
    ps_vec_release(repo->alloc, &e->versions);
    ps_free(repo->alloc, e->traffic);
    ps_free(repo->alloc, e->rules);
    ps_free(repo->alloc, e->name);
    ps_free(repo->alloc, e->path);
    ps_free(repo->alloc, e->states);
    ps_free(repo->alloc, e);
}

/* Called with the lock held, or before the repository is shared. The name must be new. */
static ps_status add_entry(ps_repository *repo, const char *name, const char *path, const ps_server_model *listed,
                           ps_error *err) {
    const char *states = listed ? listed->states : NULL;
    ps_entry *e = ps_alloc_zero(repo->alloc, sizeof *e);
    if (!e) return PS_FAIL_NOMEM(err, "a model's entry");
    e->listed = listed != NULL;
    e->name = ps_strdup(repo->alloc, name);
    e->path = ps_strdup(repo->alloc, path);
    e->states = states ? ps_strdup(repo->alloc, states) : NULL;
    if (!e->name || !e->path || (states && !e->states) || !ps_vec_push(repo->alloc, &repo->sorted, e)) {
        entry_free(repo, e);
        return PS_FAIL_NOMEM(err, "a model's entry");
    }
    size_t i = --repo->sorted.size;
    if (!ps_map_put(&repo->by_name, e->name, e)) {
        entry_free(repo, e);
        return PS_FAIL_NOMEM(err, "a model's entry");
    }
    repo->sorted.size++;
    for (; i > 0 && strcmp(repo->sorted.data[i - 1]->name, e->name) > 0; i--)
        repo->sorted.data[i] = repo->sorted.data[i - 1];
    repo->sorted.data[i] = e;
    return PS_OK;
}

static ps_status add_explicit(ps_repository *repo, const ps_server_model *m, ps_error *err) {
    char *name = NULL;
    ps_status status = PS_OK;
    PS_FAIL_IF(!m->path, err, INVALID, "a model to serve has no path");
    name = m->name ? ps_strdup(repo->alloc, m->name) : ps_model_name_of_path(repo->alloc, m->path);
    if (!name) return PS_FAIL_NOMEM(err, "a model's name");
    if (!ps_model_name_valid(name))
        PS_FAIL_OUT(
            err, INVALID,
            "model name '%.80s' is not allowed: 1 to %d bytes of UTF-8 without '/', '\\' and control characters, not "
            "starting with '.'",
            name, PS_MODEL_NAME_MAX);
    if (ps_map_get(&repo->by_name, name)) PS_FAIL_OUT(err, INVALID, "two models are named '%s'", name);
    status = add_entry(repo, name, m->path, m, err);
out:
    ps_free(repo->alloc, name);
    return status;
}

ps_entry *ps_repository_find(ps_repository *repo, const char *name) {
    return ps_map_get(&repo->by_name, name);
}

/* Adds one item of the folder if it is a model that is not known yet. */
static ps_status scan_item(ps_repository *repo, const char *item, ps_error *err) {
    char *path = ps_path_join(repo->alloc, repo->dir, item), *name = NULL;
    ps_status status = PS_OK;
    if (!path) return PS_FAIL_NOMEM(err, "a model's path");
    name = ps_model_name_of_path(repo->alloc, path);
    if (!name) PS_FAIL_OUT(err, NO_MEMORY, "out of memory for a model's name");
    ps_mutex_lock(&repo->lock);
    bool known = ps_repository_find(repo, name);
    ps_mutex_unlock(&repo->lock);
    if (known || !ps_model_name_valid(name) || !ps_model_path_plausible(repo->alloc, path)) goto out;
    ps_mutex_lock(&repo->lock);
    if (!ps_repository_find(repo, name)) status = add_entry(repo, name, path, NULL, err);
    ps_mutex_unlock(&repo->lock);
out:
    ps_free(repo->alloc, path);
    ps_free(repo->alloc, name);
    return status;
}

ps_status ps_repository_scan(ps_repository *repo, ps_error *err) {
    char **items;
    size_t n;
    ps_status status = PS_OK;
    if (!repo->dir) return PS_OK;
    PS_TRY(ps_dir_list(repo->alloc, repo->dir, &items, &n, err));
    for (size_t i = 0; i < n && status == PS_OK; i++)
        status = scan_item(repo, items[i], err);
    ps_dir_free(repo->alloc, items, n);
    return status;
}

/* ---- life ---- */

static ps_status fill(ps_repository *repo, const ps_repository_options *o, ps_error *err) {
    if (o->dir && !(repo->dir = ps_strdup(repo->alloc, o->dir))) return PS_FAIL_NOMEM(err, "the repository's path");
    if (o->state && !(repo->state = ps_strdup(repo->alloc, o->state))) return PS_FAIL_NOMEM(err, "the state's path");
    repo->options = *o;
    PS_TRY(ps_waits_create(repo->alloc, &repo->waits, err));
    PS_FAIL_IF(o->dir && !ps_dir_exists(o->dir), err, NOT_FOUND, "model repository '%s' is no folder", o->dir);
    for (size_t i = 0; i < o->model_count; i++)
        PS_TRY(add_explicit(repo, &o->models[i], err));
    PS_TRY(ps_repository_scan(repo, err));
    ps_repository_recall(repo);
    return PS_OK;
}

ps_status ps_repository_create(const ps_repository_options *o, ps_repository **ret, ps_error *err) {
    ps_alloc_state *alloc = ps_engine_alloc(o->engine);
    ps_repository *repo = ps_alloc_zero(alloc, sizeof *repo);
    if (!repo) return PS_FAIL_NOMEM(err, "the model repository");
    repo->engine = o->engine;
    repo->alloc = alloc;
    repo->log = o->log;
    ps_map_init(&repo->by_name, alloc);
    bool locks = ps_mutex_init(&repo->load_lock);
    bool both = locks && ps_mutex_init(&repo->lock);
    if (!both || !ps_cond_init(&repo->gone)) {
        if (both) ps_mutex_destroy(&repo->lock);
        if (locks) ps_mutex_destroy(&repo->load_lock);
        ps_free(alloc, repo);
        return PS_FAIL_NOMEM(err, "the model repository");
    }
    ps_status status = fill(repo, o, err);
    if (status != PS_OK) {
        ps_repository_free(repo);
        return status;
    }
    *ret = repo;
    return PS_OK;
}

void ps_repository_free(ps_repository *repo) {
    if (!repo) return;
    if (repo->waits) (void)ps_waits_remove(repo->waits, &repo->reopen_timer);
    ps_waits_free(repo->waits);
    for (size_t i = 0; i < repo->sorted.size; i++)
        entry_free(repo, repo->sorted.data[i]);
    ps_vec_release(repo->alloc, &repo->sorted);
    ps_vec_release(repo->alloc, &repo->residents);
    ps_vec_release(repo->alloc, &repo->resident_of);
    ps_map_release(&repo->by_name);
    ps_cond_destroy(&repo->gone);
    ps_mutex_destroy(&repo->lock);
    ps_mutex_destroy(&repo->load_lock);
    ps_free(repo->alloc, repo->dir);
    ps_free(repo->alloc, repo->state);
    ps_free(repo->alloc, repo);
}

/* ---- use; the lock is held ---- */

bool ps_version_there(const ps_model_version *v) {
    return v->wanted || v->served;
}

/* One that was loaded and then evicted is as good as loaded: its first request brings it back. */
ps_model_version *ps_entry_default(const ps_entry *e) {
    ps_model_version *found = NULL;
    int best = 0;
    for (size_t i = 0; i < e->versions.size; i++) { /* the highest number of the best kind */
        ps_model_version *v = e->versions.data[i];
        bool ready = v->served || (v->state == PS_MODEL_EVICTED && v->was_loaded);
        int kind = !ps_version_there(v) ? 0 : ready && v->wanted ? 3 : ready ? 2 : 1;
        if (kind && kind >= best) found = v;
        if (kind > best) best = kind;
    }
    return found;
}

ps_model_version *ps_entry_version(const ps_entry *e, int64_t number) {
    for (size_t i = 0; i < e->versions.size; i++)
        if (e->versions.data[i]->number == number) return e->versions.data[i];
    return NULL;
}

static ps_model_version *pick_label(const ps_entry *e, const char *label) {
    int64_t number = e->traffic ? ps_traffic_label_version(e->traffic, label) : 0;
    ps_model_version *v = number ? ps_entry_version(e, number) : NULL;
    return v && ps_version_there(v) ? v : NULL;
}

ps_model_version *ps_entry_pick(const ps_repository *repo, const ps_entry *e, const char *version) {
    ps_model_version *main = !version && e->traffic ? ps_entry_main(repo, e) : NULL;
    if (!version) return main ? main : ps_entry_default(e);
    if (ps_label_valid(version, strlen(version))) return pick_label(e, version);
    for (size_t i = 0; i < e->versions.size; i++)
        if (ps_version_there(e->versions.data[i]) && strcmp(e->versions.data[i]->text, version) == 0)
            return e->versions.data[i];
    return NULL;
}

bool ps_version_loading(const ps_entry *e, const ps_model_version *v) {
    if (e->unloaded) return false;
    if (!v) return e->pending && !e->resolved;
    return v->state == PS_MODEL_LOADING || (e->pending && v->state != PS_MODEL_READY && v->state != PS_MODEL_FAILED);
}

bool ps_version_loadable(const ps_repository *repo, const ps_entry *e, const ps_model_version *v) {
    if (e->unloaded || !ps_repository_on_demand(repo)) return false;
    return v ? v->state == PS_MODEL_KNOWN || v->state == PS_MODEL_EVICTED : !e->resolved && !e->reason.msg[0];
}

ps_status ps_entry_no_version(const ps_entry *e, const char *version, ps_error *err) {
    const ps_model_version *other = ps_entry_default(e);
    PS_FAIL_IF(e->reason.msg[0], err, UNAVAILABLE, "model '%s' could not be loaded: %.200s", e->name, e->reason.msg);
    PS_FAIL_IF(!version || !other, err, NOT_FOUND, "model '%s' is not loaded", e->name);
    return PS_FAIL(err, NOT_FOUND, "model '%s' has no version '%.32s': version %s is %s", e->name, version, other->text,
                   other->served ? "loaded" : "there");
}

/* Why there is nothing to have now. What can be loaded is asked for, if `load`. */
static ps_status refuse(ps_repository *repo, ps_entry *e, ps_model_version *v, const char *version, bool load,
                        ps_error *err) {
    bool loading = ps_version_loading(e, v) ||
                   (load && ps_version_loadable(repo, e, v) && ps_repository_queue(repo, e, v));
    PS_FAIL_IF(loading, err, UNAVAILABLE, "model '%s' is being loaded", e->name);
    PS_FAIL_IF(e->unloaded, err, NOT_FOUND, "model '%s' is not loaded", e->name);
    if (!v) return ps_entry_no_version(e, version, err);
    PS_FAIL_IF(v->state == PS_MODEL_FAILED, err, UNAVAILABLE, "model '%s' could not be loaded: %.200s", e->name,
               v->reason.msg);
    return PS_FAIL(err, NOT_FOUND, "model '%s' is not loaded", e->name);
}

/* *ret_loading: what it waits for is being loaded. */
static ps_status acquire(ps_repository *repo, const char *name, const char *version, bool load, ps_served **ret,
                         ps_entry **ret_loading, bool *ret_routed, ps_error *err) {
    ps_entry *e = ps_repository_find(repo, name);
    *ret_loading = NULL;
    *ret_routed = false;
    PS_FAIL_IF(!e || e->gone, err, NOT_FOUND, "model '%.255s' is not known", name);
    ps_model_version *v = ps_entry_pick(repo, e, version);
    PS_FAIL_IF(v && v->served && v->all_lost && !e->unloaded, err, UNAVAILABLE,
               "model '%s' waits for device '%.200s', which was lost, to be opened again", e->name, v->served->device);
    if (v && v->served && !e->unloaded) {
        if (load) ps_served_use(v->served);
        if (load) ps_repository_watch_room(repo);
        *ret = ps_served_retain(v->served);
        *ret_routed = e->traffic && !version && ps_traffic_decides(e->traffic);
        return PS_OK;
    }
    ps_status status = refuse(repo, e, v, version, load, err);
    if (ps_version_loading(e, v)) *ret_loading = e;
    return status;
}

/* ---- use ---- */

ps_status ps_repository_acquire(ps_repository *repo, const char *name, const char *version, ps_served **ret,
                                bool *ret_routed, ps_error *err) {
    ps_entry *loading;
    ps_mutex_lock(&repo->lock);
    ps_status status = acquire(repo, name, version, true, ret, &loading, ret_routed, err);
    ps_mutex_unlock(&repo->lock);
    return status;
}

ps_status ps_repository_peek(ps_repository *repo, const char *name, const char *version, ps_served **ret,
                             ps_error *err) {
    ps_entry *loading;
    bool routed;
    ps_mutex_lock(&repo->lock);
    ps_status status = acquire(repo, name, version, false, ret, &loading, &routed, err);
    ps_mutex_unlock(&repo->lock);
    return status;
}

static void set_end(ps_wait *w, int64_t until_ns) {
    if (w->until_ns) return; /* it has waited before */
    w->until_ns = w->most_ns && w->most_ns < until_ns ? w->most_ns : until_ns;
}

/* Behind earlier ones that wait for the model still, though it may be there. */
static bool join(ps_repository *repo, const char *name, ps_wait *w) {
    const ps_entry *e = ps_repository_find(repo, name);
    if (!e || !w->in_order || w->until_ns) return false;
    set_end(w, ps_clock_ns() + repo->options.load_timeout_ns);
    const bool joins = ps_waits_join(repo->waits, e, w); /* then it may be another thread's already */
    if (!joins) w->until_ns = 0;
    return joins;
}

/* Called with the lock held: the model's state does not change in between. */
static ps_status await(ps_repository *repo, const ps_entry *e, ps_wait *w, ps_error *err) {
    int64_t now = ps_clock_ns(), timeout_ns = repo->options.load_timeout_ns;
    PS_FAIL_IF(atomic_load(&repo->stop_loading), err, UNAVAILABLE, "the server is shutting down");
    set_end(w, now + timeout_ns);
    PS_FAIL_IF(now >= w->until_ns, err, UNAVAILABLE,
               "model '%s' is still being loaded after %lld s, which is as long as a request waits for that", e->name,
               (long long)(timeout_ns / 1000000000));
    PS_FAIL_IF(!ps_waits_add(repo->waits, e, w), err, CANCELLED, "the client gave the request up");
    return PS_OK;
}

ps_status ps_repository_await(ps_repository *repo, const char *name, const char *version, ps_wait *w,
                              ps_served **ret, bool *ret_routed, ps_error *err) {
    ps_entry *loading;
    ps_error reason = PS_ERROR_INIT;
    *ret = NULL;
    *ret_routed = false;
    ps_mutex_lock(&repo->lock);
    if (join(repo, name, w)) {
        ps_mutex_unlock(&repo->lock);
        return PS_OK;
    }
    ps_status status = acquire(repo, name, version, true, ret, &loading, ret_routed, &reason);
    if (loading && repo->options.load_timeout_ns) {
        reason = (ps_error)PS_ERROR_INIT;
        status = await(repo, loading, w, &reason);
    }
    ps_mutex_unlock(&repo->lock);
    if (status != PS_OK && err) *err = reason;
    return status;
}

bool ps_repository_waits(const ps_repository *repo) {
    return ps_waits_any(repo->waits);
}

bool ps_repository_leave(ps_repository *repo, ps_wait *w) {
    return ps_waits_remove(repo->waits, w);
}

ps_status ps_repository_ready(ps_repository *repo, const char *name, const char *version, ps_error *err) {
    ps_served *served = NULL;
    ps_entry *loading;
    bool routed;
    ps_mutex_lock(&repo->lock);
    const ps_entry *e = ps_repository_find(repo, name);
    bool ready = e && !e->gone && ps_version_loadable(repo, e, ps_entry_pick(repo, e, version));
    ps_status status = ready ? PS_OK : acquire(repo, name, version, false, &served, &loading, &routed, err);
    ps_mutex_unlock(&repo->lock);
    ps_served_release(served);
    return status;
}

size_t ps_repository_versions(ps_repository *repo, const char *name, ps_arena *arena, const char ***ret) {
    size_t n = 0;
    ps_mutex_lock(&repo->lock);
    const ps_entry *e = ps_repository_find(repo, name);
    const char **list = ps_arena_array(arena, (e ? e->versions.size : 0) + 1, sizeof *list);
    for (size_t i = 0; e && list && i < e->versions.size; i++)
        if (ps_version_there(e->versions.data[i])) list[n++] = e->versions.data[i]->text; /* entries stay */
    ps_mutex_unlock(&repo->lock);
    *ret = list;
    return n;
}

/* ---- the index ---- */

static const char on_first[] = "not loaded yet: its first request loads it",
                  on_next[] = "evicted: its next request loads it";

static const char *reason_of(const ps_repository *repo, const ps_entry *e, const ps_model_version *v) {
    switch (v->state) {
    case PS_MODEL_KNOWN: return ps_version_loadable(repo, e, v) ? on_first : "not loaded";
    case PS_MODEL_EVICTED: return e->unloaded ? "unloaded" : v->reason.msg[0] ? v->reason.msg : on_next;
    case PS_MODEL_UNLOADED: return "unloaded"; /* Triton's word */
    case PS_MODEL_FAILED:
    case PS_MODEL_READY: return v->reason.msg;
    default: return "";
    }
}

const char *ps_version_state(const ps_entry *e, const ps_model_version *v) {
    static const char *const states[] = {
        [PS_MODEL_KNOWN] = "UNAVAILABLE",  [PS_MODEL_LOADING] = "LOADING",     [PS_MODEL_READY] = "READY",
        [PS_MODEL_FAILED] = "UNAVAILABLE", [PS_MODEL_UNLOADING] = "UNLOADING", [PS_MODEL_UNLOADED] = "UNAVAILABLE",
        [PS_MODEL_EVICTED] = "UNAVAILABLE"
    };
    if (v->served && v->all_lost) return "UNAVAILABLE";
    return !v->served && ps_version_loading(e, v) ? "LOADING" : states[v->state];
}

static ps_index_entry index_version(const ps_repository *repo, const ps_entry *e, const ps_model_version *v) {
    const bool loading = !v->served && ps_version_loading(e, v);
    return (ps_index_entry) { e->name, v->text, ps_version_state(e, v), loading ? "" : reason_of(repo, e, v) };
}

/* A model whose versions are not known. */
static ps_index_entry index_name(const ps_repository *repo, const ps_entry *e) {
    if (e->reason.msg[0]) return (ps_index_entry) { e->name, "1", "UNAVAILABLE", e->reason.msg };
    if (ps_version_loading(e, NULL)) return (ps_index_entry) { e->name, "1", "LOADING", "" };
    if (ps_version_loadable(repo, e, NULL)) return (ps_index_entry) { e->name, "", "UNAVAILABLE", on_first };
    return (ps_index_entry) { .name = e->name };
}

typedef struct visitor {
    void (*visit)(void *ctx, const ps_index_entry *e);
    void *ctx;
    bool ready_only;
} visitor;

static void visit_entry(const ps_repository *repo, const ps_entry *e, const visitor *to) {
    bool any = false;
    for (size_t i = 0; i < e->versions.size; i++) {
        const ps_model_version *v = e->versions.data[i];
        if (!ps_version_there(v) && v->state != PS_MODEL_UNLOADING) continue;
        any = true;
        ps_index_entry item = index_version(repo, e, v);
        if (v->served || !to->ready_only) to->visit(to->ctx, &item);
    }
    if (any || to->ready_only) return;
    ps_index_entry item = index_name(repo, e);
    to->visit(to->ctx, &item);
}

void ps_repository_visit(ps_repository *repo, bool ready_only, void (*visit)(void *ctx, const ps_index_entry *e),
                         void *ctx) {
    visitor to = { visit, ctx, ready_only };
    (void)ps_repository_scan(repo, NULL); /* an unreadable folder leaves the index as it was */
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; i < repo->sorted.size; i++)
        if (!repo->sorted.data[i]->gone) visit_entry(repo, repo->sorted.data[i], &to);
    ps_mutex_unlock(&repo->lock);
}

static void write_entry(void *ctx, const ps_index_entry *e) {
    ps_str *out = ctx;
    if (out->data[out->size - 1] != '[') ps_str_char(out, ',');
    ps_str_append(out, "{\"name\":");
    ps_json_write_string(out, e->name);
    if (e->version) {
        ps_str_append(out, ",\"version\":");
        ps_json_write_string(out, e->version);
        ps_str_printf(out, ",\"state\":\"%s\",\"reason\":", e->state);
        ps_json_write_string(out, e->reason);
    }
    ps_str_char(out, '}');
}

void ps_repository_write_index(ps_repository *repo, bool ready_only, ps_str *out) {
    ps_str_char(out, '[');
    if (!out->failed) ps_repository_visit(repo, ready_only, write_entry, out);
    ps_str_char(out, ']');
}
