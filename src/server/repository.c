#include "server/repository.h"

#include <string.h>

#include "base/error.h"
#include "base/map.h"
#include "base/os.h"
#include "server/json_text.h"
#include "server/repository_path.h"

/* One known name. Entries live as long as the repository. */
typedef struct entry {
    char *name, *path, *states;          /* states NULL: a file beside the model may name them */
    ps_model_state state;                /* guarded by the repository's lock, like the two below */
    ps_served *served;                   /* not NULL in state READY, and while a loaded model is reloaded */
    ps_error reason;                     /* of state FAILED, and of READY when a reload failed; else empty */
    char version[PS_MODEL_VERSION_TEXT]; /* loaded last, or "" */
} entry;

struct ps_repository {
    ps_engine *engine;
    ps_alloc_state *alloc;
    ps_log log;
    char *dir, *device;
    ps_served_options served;
    ps_load_waits *waits; /* keys are entries */
    int64_t load_timeout_ns;
    atomic_bool stop_loading;
    ps_mutex load_lock; /* one load or unload at a time; taken before lock */
    ps_mutex lock;
    ps_cond gone;           /* an unloaded model has been freed */
    ps_map by_name;         /* guarded by lock */
    PS_VEC(entry *) sorted; /* by name; guarded by lock */
};

bool ps_model_name_valid(const char *name) {
    size_t size = strlen(name);
    if (size == 0 || size > PS_MODEL_NAME_MAX || name[0] == '.') return false;
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '/' || *p == '\\') return false;
    return ps_utf8_valid(name, size);
}

static void entry_free(ps_repository *repo, entry *e) {
    if (!e) return;
    ps_served_release(e->served);
    ps_free(repo->alloc, e->name);
    ps_free(repo->alloc, e->path);
    ps_free(repo->alloc, e->states);
    ps_free(repo->alloc, e);
}

/* Called with the lock held, or before the repository is shared. The name must be new. */
static ps_status add_entry(ps_repository *repo, const char *name, const char *path, const char *states, ps_error *err) {
    entry *e = ps_alloc_zero(repo->alloc, sizeof *e);
    if (!e) return PS_FAIL_NOMEM(err, "a model's entry");
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
    status = add_entry(repo, name, m->path, m->states, err);
out:
    ps_free(repo->alloc, name);
    return status;
}

static entry *find(ps_repository *repo, const char *name) {
    return ps_map_get(&repo->by_name, name);
}

/* Adds one item of the folder if it is a model that is not known yet. */
static ps_status scan_item(ps_repository *repo, const char *item, ps_error *err) {
    char *path = ps_path_join(repo->alloc, repo->dir, item), *name = NULL;
    ps_status status = PS_OK;
    if (!path) return PS_FAIL_NOMEM(err, "a model's path");
    if (!ps_model_path_plausible(repo->alloc, path)) goto out;
    name = ps_model_name_of_path(repo->alloc, path);
    if (!name) PS_FAIL_OUT(err, NO_MEMORY, "out of memory for a model's name");
    if (!ps_model_name_valid(name)) goto out;
    ps_mutex_lock(&repo->lock);
    if (!find(repo, name)) status = add_entry(repo, name, path, NULL, err);
    ps_mutex_unlock(&repo->lock);
out:
    ps_free(repo->alloc, path);
    ps_free(repo->alloc, name);
    return status;
}

static ps_status scan(ps_repository *repo, ps_error *err) {
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

static ps_status fill(ps_repository *repo, const ps_repository_options *o, ps_error *err) {
    if (o->dir && !(repo->dir = ps_strdup(repo->alloc, o->dir))) return PS_FAIL_NOMEM(err, "the repository's path");
    if (o->served.device && !(repo->device = ps_strdup(repo->alloc, o->served.device)))
        return PS_FAIL_NOMEM(err, "a device's name");
    repo->served = o->served;
    repo->served.device = repo->device;
    repo->load_timeout_ns = o->load_timeout_ns;
    PS_TRY(ps_load_waits_create(repo->alloc, &repo->waits, err));
    PS_FAIL_IF(o->dir && !ps_dir_exists(o->dir), err, NOT_FOUND, "model repository '%s' is no folder", o->dir);
    for (size_t i = 0; i < o->model_count; i++)
        PS_TRY(add_explicit(repo, &o->models[i], err));
    return scan(repo, err);
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
    ps_load_waits_free(repo->waits);
    for (size_t i = 0; i < repo->sorted.size; i++)
        entry_free(repo, repo->sorted.data[i]);
    ps_vec_release(repo->alloc, &repo->sorted);
    ps_map_release(&repo->by_name);
    ps_cond_destroy(&repo->gone);
    ps_mutex_destroy(&repo->lock);
    ps_mutex_destroy(&repo->load_lock);
    ps_free(repo->alloc, repo->dir);
    ps_free(repo->alloc, repo->device);
    ps_free(repo->alloc, repo);
}

/* ---- loading ---- */

static void set_state(ps_repository *repo, entry *e, ps_model_state state) {
    ps_mutex_lock(&repo->lock);
    e->state = state;
    ps_mutex_unlock(&repo->lock);
}

/* Puts `served` in place of the entry's and lets go of the old one. */
static void replace(ps_repository *repo, entry *e, ps_served *served) {
    ps_mutex_lock(&repo->lock);
    ps_served *old = e->served;
    e->served = served;
    e->state = PS_MODEL_READY;
    e->reason = (ps_error)PS_ERROR_INIT;
    ps_snprintf(e->version, sizeof e->version, "%s", served->version);
    ps_mutex_unlock(&repo->lock);
    ps_load_waits_end(repo->waits, e);
    if (old) ps_served_retire(old);
    ps_served_release(old);
}

static void load_failed(ps_repository *repo, entry *e, const ps_error *reason) {
    ps_mutex_lock(&repo->lock);
    e->state = e->served ? PS_MODEL_READY : PS_MODEL_FAILED;
    e->reason = *reason;
    ps_mutex_unlock(&repo->lock);
    ps_load_waits_end(repo->waits, e);
}

static ps_status load_file(ps_repository *repo, entry *e, ps_served **ret, ps_error *err) {
    char *file = NULL, version[PS_MODEL_VERSION_TEXT];
    PS_TRY(ps_model_path_resolve(repo->alloc, e->path, &file, version, err));
    ps_served_options options = repo->served;
    options.name = e->name;
    options.version = version;
    options.path = file;
    options.states = e->states;
    ps_status status = ps_served_load(repo->engine, &options, ret, err);
    ps_free(repo->alloc, file);
    return status;
}

/* Called with load_lock held. */
static ps_status load_entry(ps_repository *repo, entry *e, ps_error *err) {
    ps_error reason = PS_ERROR_INIT;
    ps_served *served = NULL;
    char quoted[2 * PS_MODEL_NAME_MAX], why[sizeof reason.msg + 16];
    int64_t start = ps_clock_ns();
    set_state(repo, e, PS_MODEL_LOADING);
    ps_status status = load_file(repo, e, &served, &reason);
    double ms = (double)(ps_clock_ns() - start) / 1e6;
    const char *name = ps_log_quote(e->name, quoted, sizeof quoted);
    if (status == PS_OK) {
        ps_log_line(&repo->log, PS_LOG_INFO, "event=load model=%s version=%s ms=%.1f max_batch=%u", name,
                    served->version, ms, served->max_batch);
        replace(repo, e, served);
        return PS_OK;
    }
    load_failed(repo, e, &reason);
    ps_log_line(&repo->log, PS_LOG_ERROR, "event=load_failed model=%s ms=%.1f reason=%s", name, ms,
                ps_log_quote(reason.msg, why, sizeof why));
    if (err) *err = reason;
    return status;
}

static entry *find_locked(ps_repository *repo, const char *name) {
    ps_mutex_lock(&repo->lock);
    entry *e = find(repo, name);
    ps_mutex_unlock(&repo->lock);
    return e;
}

ps_status ps_repository_load(ps_repository *repo, const char *name, ps_error *err) {
    ps_status status;
    entry *e = find_locked(repo, name);
    if (!e) {
        PS_TRY(scan(repo, err));
        e = find_locked(repo, name);
    }
    PS_FAIL_IF(!e, err, NOT_FOUND, "model '%.255s' is not in the repository", name);
    ps_mutex_lock(&repo->load_lock);
    status = load_entry(repo, e, err);
    ps_mutex_unlock(&repo->load_lock);
    return status;
}

/* Those say LOADING from now on. */
void ps_repository_expect_all(ps_repository *repo) {
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; i < repo->sorted.size; i++)
        if (repo->sorted.data[i]->state == PS_MODEL_KNOWN) repo->sorted.data[i]->state = PS_MODEL_LOADING;
    ps_mutex_unlock(&repo->lock);
}

/* As load_lock is held, a model without `served` that says LOADING is one that ps_repository_expect_all marked. */
static entry *next_pending(ps_repository *repo) {
    entry *found = NULL;
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; !found && i < repo->sorted.size; i++) {
        entry *e = repo->sorted.data[i];
        if (e->state == PS_MODEL_LOADING && !e->served) found = e;
    }
    ps_mutex_unlock(&repo->lock);
    return found;
}

void ps_repository_load_all(ps_repository *repo) {
    ps_mutex_lock(&repo->load_lock);
    ps_repository_expect_all(repo);
    for (entry *e; !atomic_load(&repo->stop_loading) && (e = next_pending(repo));)
        (void)load_entry(repo, e, NULL);
    ps_mutex_unlock(&repo->load_lock);
}

void ps_repository_stop_loading(ps_repository *repo) {
    ps_mutex_lock(&repo->lock); /* for ps_repository_await */
    atomic_store(&repo->stop_loading, true);
    ps_mutex_unlock(&repo->lock);
    ps_load_waits_end(repo->waits, NULL);
}

/* Waits on the unloading thread's stack; guarded by the repository's lock. */
typedef struct departure {
    ps_repository *repo;
    bool gone;
} departure;

static void say_gone(void *ctx) {
    departure *d = ctx;
    ps_repository *repo = d->repo; /* `d` may end with the wait as soon as the lock is free */
    ps_mutex_lock(&repo->lock);
    d->gone = true;
    ps_cond_broadcast(&repo->gone);
    ps_mutex_unlock(&repo->lock);
}

/* Called with load_lock held. false: nothing was loaded. */
static bool unload_entry(ps_repository *repo, entry *e) {
    departure d = { repo, false };
    ps_mutex_lock(&repo->lock);
    ps_served *old = e->served;
    e->served = NULL;
    e->reason = (ps_error)PS_ERROR_INIT;
    e->state = old ? PS_MODEL_UNLOADING : e->state == PS_MODEL_KNOWN ? PS_MODEL_KNOWN : PS_MODEL_UNLOADED;
    ps_mutex_unlock(&repo->lock);
    ps_load_waits_end(repo->waits, e);
    if (!old) return false;
    old->on_gone = say_gone;
    old->gone_ctx = &d;
    ps_served_retire(old);
    ps_served_release(old);
    ps_mutex_lock(&repo->lock);
    while (!d.gone)
        ps_cond_wait(&repo->gone, &repo->lock);
    e->state = PS_MODEL_UNLOADED;
    ps_mutex_unlock(&repo->lock);
    return true;
}

void ps_repository_unload(ps_repository *repo, const char *name) {
    char quoted[2 * PS_MODEL_NAME_MAX];
    int64_t start = ps_clock_ns();
    entry *e = find_locked(repo, name);
    if (!e) return;
    ps_mutex_lock(&repo->load_lock);
    bool was_loaded = unload_entry(repo, e);
    ps_mutex_unlock(&repo->load_lock);
    if (was_loaded)
        ps_log_line(&repo->log, PS_LOG_INFO, "event=unload model=%s ms=%.1f",
                    ps_log_quote(e->name, quoted, sizeof quoted), (double)(ps_clock_ns() - start) / 1e6);
}

/* ---- use ---- */

/* Called with the lock held. */
static ps_status acquire(entry *e, const char *name, const char *version, ps_served **ret, ps_error *err) {
    PS_FAIL_IF(!e, err, NOT_FOUND, "model '%.255s' is not known", name);
    if (e->served) {
        PS_FAIL_IF(version && strcmp(version, e->served->version) != 0, err, NOT_FOUND,
                   "model '%s' has no version '%.32s': version %s is loaded", name, version, e->served->version);
        *ret = ps_served_retain(e->served);
        return PS_OK;
    }
    PS_FAIL_IF(e->state == PS_MODEL_LOADING, err, UNAVAILABLE, "model '%s' is being loaded", name);
    PS_FAIL_IF(e->state == PS_MODEL_FAILED, err, UNAVAILABLE, "model '%s' could not be loaded: %.200s", name,
               e->reason.msg);
    return PS_FAIL(err, NOT_FOUND, "model '%s' is not loaded", name);
}

/* Called with the lock held: the model's state does not change in between. */
static ps_status await(ps_repository *repo, const entry *e, ps_load_wait *w, ps_error *err) {
    int64_t now = ps_clock_ns();
    PS_FAIL_IF(atomic_load(&repo->stop_loading), err, UNAVAILABLE, "the server is shutting down");
    if (!w->until_ns) w->until_ns = now + repo->load_timeout_ns;
    PS_FAIL_IF(now >= w->until_ns, err, UNAVAILABLE,
               "model '%s' is still being loaded after %lld s, which is as long as a request waits for that", e->name,
               (long long)(repo->load_timeout_ns / 1000000000));
    ps_load_waits_add(repo->waits, e, w);
    return PS_OK;
}

ps_status ps_repository_await(ps_repository *repo, const char *name, const char *version, ps_load_wait *w,
                              ps_served **ret, ps_error *err) {
    *ret = NULL;
    ps_mutex_lock(&repo->lock);
    entry *e = find(repo, name);
    bool waits = e && !e->served && e->state == PS_MODEL_LOADING && repo->load_timeout_ns;
    ps_status status = waits ? await(repo, e, w, err) : acquire(e, name, version, ret, err);
    ps_mutex_unlock(&repo->lock);
    return status;
}

bool ps_repository_leave(ps_repository *repo, ps_load_wait *w) {
    return ps_load_waits_remove(repo->waits, w);
}

static const char *reason_of(const entry *e) {
    if (e->state == PS_MODEL_UNLOADED) return "unloaded"; /* Triton's word */
    return e->state == PS_MODEL_FAILED || e->state == PS_MODEL_READY ? e->reason.msg : "";
}

ps_status ps_repository_acquire(ps_repository *repo, const char *name, const char *version, ps_served **ret,
                                ps_error *err) {
    ps_mutex_lock(&repo->lock);
    ps_status status = acquire(find(repo, name), name, version, ret, err);
    ps_mutex_unlock(&repo->lock);
    return status;
}

ps_status ps_repository_acquire_all(ps_repository *repo, ps_served ***ret, size_t *ret_count, ps_error *err) {
    size_t n = 0;
    ps_mutex_lock(&repo->lock);
    ps_served **all = ps_alloc_array(repo->alloc, repo->sorted.size + 1, sizeof *all);
    for (size_t i = 0; all && i < repo->sorted.size; i++)
        if (repo->sorted.data[i]->served) all[n++] = ps_served_retain(repo->sorted.data[i]->served);
    ps_mutex_unlock(&repo->lock);
    if (!all) return PS_FAIL_NOMEM(err, "a list of models");
    *ret = all;
    *ret_count = n;
    return PS_OK;
}

static ps_index_entry index_entry(const entry *e) {
    static const char *const states[] = { "", "LOADING", "READY", "UNAVAILABLE", "UNLOADING", "UNAVAILABLE" };
    if (e->state == PS_MODEL_KNOWN) return (ps_index_entry) { .name = e->name };
    return (ps_index_entry) { e->name, *e->version ? e->version : "1", states[e->state], reason_of(e) };
}

void ps_repository_visit(ps_repository *repo, bool ready_only, void (*visit)(void *ctx, const ps_index_entry *e),
                         void *ctx) {
    (void)scan(repo, NULL); /* an unreadable folder leaves the index as it was */
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; i < repo->sorted.size; i++) {
        if (ready_only && !repo->sorted.data[i]->served) continue;
        ps_index_entry e = index_entry(repo->sorted.data[i]);
        visit(ctx, &e);
    }
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
