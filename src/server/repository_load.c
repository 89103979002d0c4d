/* repository_load.c - which versions there are, loading them, and unloading. */
#include <string.h>

#include "base/error.h"
#include "server/repository_int.h"

#define ANOTHER_TRY 16 /* a load that found too little memory tries again with this share of the limit more */

#define CROWDED_NS INT64_C(100000000) /* between attempts to make room for requests */

/* ---- the folder ---- */

typedef struct folder {
    ps_arena arena;
    ps_model_config config;
    char *config_file; /* NULL: none */
    ps_version_files files;
    uint64_t *stamps; /* of each version, where the folder is watched */
    char *kept;       /* what an earlier server kept; NULL: nothing, or it was looked for */
} folder;

static ps_status check_rules(ps_repository *repo, const folder *f, ps_error *err) {
    const char *rules = ps_model_config_parameter(&f->config, "traffic");
    ps_traffic_change c;
    if (!rules) return PS_OK;
    ps_status status = ps_traffic_read(rules, strlen(rules), false, repo->alloc, &c, err);
    if (status != PS_OK) ps_error_prefix(err, "%s: the parameter traffic", f->config_file);
    return status;
}

static ps_status read_folder(ps_repository *repo, const ps_entry *e, folder *f, ps_error *err) {
    PS_TRY(ps_model_path_config(repo->alloc, e->path, &f->config_file, err));
    PS_TRY(ps_model_config_load(f->config_file, &f->arena, &f->config, err));
    PS_TRY(check_rules(repo, f, err));
    PS_TRY(ps_model_path_versions(repo->alloc, e->path, f->config.file, &f->files, err));
    if (repo->options.control != PS_CONTROL_POLL) return PS_OK;
    f->stamps = ps_arena_array(&f->arena, f->files.size, sizeof *f->stamps);
    if (!f->stamps) return PS_FAIL_NOMEM(err, "a model's versions");
    for (size_t i = 0; i < f->files.size; i++)
        f->stamps[i] = ps_version_stamp(repo, e, f->files.data[i].file, f->config_file);
    return PS_OK;
}

static void folder_clear(ps_repository *repo, folder *f) {
    ps_version_files_clear(repo->alloc, &f->files);
    ps_free(repo->alloc, f->config_file);
    ps_free(repo->alloc, f->kept);
    ps_arena_release(&f->arena);
}

/* i counts from the oldest of n. */
static bool is_wanted(const ps_model_config *c, int64_t number, size_t i, size_t n) {
    if (c->policy == PS_VERSIONS_ALL) return true;
    if (c->policy == PS_VERSIONS_LATEST) return (int64_t)(n - i) <= c->latest;
    for (size_t k = 0; k < c->n_versions; k++)
        if (c->versions[k] == number) return true;
    return false;
}

/* With the lock held. */
static ps_model_version *add_version(ps_repository *repo, ps_entry *e, int64_t number) {
    ps_model_version *v = ps_alloc_zero(repo->alloc, sizeof *v);
    size_t room = repo->n_versions + 1;
    repo->residents.size = repo->resident_of.size = 0;
    if (!v || !ps_vec_reserve(repo->alloc, &repo->residents, room) ||
        !ps_vec_reserve(repo->alloc, &repo->resident_of, room) || !ps_vec_push(repo->alloc, &e->versions, v)) {
        ps_free(repo->alloc, v);
        return NULL;
    }
    repo->n_versions++;
    v->number = number;
    ps_snprintf(v->text, sizeof v->text, "%lld", (long long)number);
    size_t i = e->versions.size - 1;
    for (; i > 0 && e->versions.data[i - 1]->number > number; i--)
        e->versions.data[i] = e->versions.data[i - 1];
    e->versions.data[i] = v;
    return v;
}

/* Rules that the configuration has, unless they have been taken up before. */
static ps_status take_rules(ps_repository *repo, ps_entry *e, const folder *f, ps_error *err) {
    const char *rules = ps_model_config_parameter(&f->config, "traffic");
    char *copy = rules ? ps_strdup(repo->alloc, rules) : NULL;
    if (rules && !copy) return PS_FAIL_NOMEM(err, "the rules of a model's traffic");
    ps_free(repo->alloc, e->rules);
    e->rules = copy;
    ps_entry_take_rules(repo, e, f->kept);
    return PS_OK;
}

/* What the folder says now. The lock is held; files' names move over. */
static ps_status take_versions(ps_repository *repo, ps_entry *e, folder *f, ps_error *err) {
    size_t n = f->files.size, n_wanted = 0;
    for (size_t i = 0; i < n; i++)
        if (!ps_entry_version(e, f->files.data[i].number) && !add_version(repo, e, f->files.data[i].number))
            return PS_FAIL_NOMEM(err, "a model's versions");
    for (size_t i = 0; i < e->versions.size; i++)
        e->versions.data[i]->wanted = e->versions.data[i]->present = false;
    for (size_t i = 0; i < n; i++) {
        ps_version_file *file = &f->files.data[i];
        ps_model_version *v = ps_entry_version(e, file->number);
        v->stamp = f->stamps ? f->stamps[i] : 0;
        ps_free(repo->alloc, v->file);
        v->file = file->file;
        file->file = NULL;
        v->present = true;
        v->wanted = is_wanted(&f->config, v->number, i, n);
    }
    e->resolved = true;
    PS_TRY(take_rules(repo, e, f, err));
    for (size_t i = 0; i < e->versions.size; i++)
        n_wanted += e->versions.data[i]->wanted;
    PS_FAIL_IF(!n_wanted, err, NOT_FOUND,
               "model '%s': none of its %zu versions is one of those that its "
               "version_policy names",
               e->name, n);
    return PS_OK;
}

ps_status ps_entry_resolve(ps_repository *repo, ps_entry *e, ps_error *err) {
    ps_error reason = PS_ERROR_INIT;
    folder f = { 0 };
    ps_arena_init(&f.arena, repo->alloc);
    ps_model_config_init(&f.config);
    ps_status status = read_folder(repo, e, &f, &reason);
    if (status == PS_OK && !e->restored) f.kept = ps_entry_read_kept(repo, e);
    e->restored |= status == PS_OK;
    ps_mutex_lock(&repo->lock);
    if (status == PS_OK) status = take_versions(repo, e, &f, &reason);
    e->reason = reason;
    ps_mutex_unlock(&repo->lock);
    folder_clear(repo, &f);
    if (status != PS_OK && err) *err = reason;
    return status;
}

/* ---- loading one version; load_lock is held ---- */

static void set_state(ps_repository *repo, ps_model_version *v, ps_model_state state) {
    ps_mutex_lock(&repo->lock);
    v->state = state;
    ps_mutex_unlock(&repo->lock);
}

/* Puts `served` in place of the version's and lets go of the old one. */
static void replace(ps_repository *repo, ps_entry *e, ps_model_version *v, ps_served *served, int64_t load_ns) {
    ps_mutex_lock(&repo->lock);
    ps_served *old = v->served;
    ps_stats_loaded(served->stats, load_ns, ps_served_was_kept(served));
    v->served = served;
    v->state = PS_MODEL_READY;
    v->reason = (ps_error)PS_ERROR_INIT;
    ps_version_forget_loss(v);
    ps_snprintf(v->device, sizeof v->device, "%s", served->device);
    v->load_ns = load_ns;
    v->was_loaded = true;
    v->queued = 0;
    (void)ps_served_memory(served, &v->bytes);
    ps_mutex_unlock(&repo->lock);
    ps_waits_end(repo->waits, e);
    if (old) ps_served_retire(old);
    ps_served_release(old);
}

/* A model that only lacks room now is asked for again by the next request. */
static void load_failed(ps_repository *repo, ps_entry *e, ps_model_version *v, ps_status status,
                        const ps_error *reason) {
    ps_mutex_lock(&repo->lock);
    bool later = status == PS_UNAVAILABLE && ps_repository_on_demand(repo);
    v->state = v->served ? PS_MODEL_READY : later ? PS_MODEL_EVICTED : PS_MODEL_FAILED;
    v->reason = *reason;
    v->queued = 0;
    ps_stats *stats = ps_version_stats(repo, e, v);
    if (stats) ps_stats_load_failed(stats);
    ps_mutex_unlock(&repo->lock);
    ps_waits_end(repo->waits, e);
}

/* What a load will take, before it is known: the weights, and some for the rest. A packed file unpacks to more. */
static uint64_t estimate(const ps_model_version *v) {
    if (v->bytes) return v->bytes;
    uint64_t size = ps_file_size(v->file);
    return size + size / 8 + ((uint64_t)1 << 20);
}

static void log_config(const ps_repository *repo, const ps_served *s) {
    char quoted[2 * PS_MODEL_NAME_MAX], key[256];
    const char *name = ps_log_quote(s->name, quoted, sizeof quoted);
    if (s->elsewhere)
        ps_log_line(&repo->log, PS_LOG_WARN, "event=config_devices model=%s used=%s reason=%s", name, s->device,
                    "\"none that instance_group names is one of --device\"");
    for (size_t i = 0; i < s->config.n_unsupported; i++)
        ps_log_line(&repo->log, PS_LOG_WARN, "event=config_unsupported model=%s key=%s", name,
                    ps_log_quote(s->config.unsupported[i], key, sizeof key));
    if (s->config.name && strcmp(s->config.name, s->name) != 0)
        ps_log_line(&repo->log, PS_LOG_WARN, "event=config_name model=%s name=%s", name,
                    ps_log_quote(s->config.name, key, sizeof key));
}

static bool relieve(void *ctx) {
    return ps_repository_relieve(ctx);
}

/* Of a run. */
static bool relieve_run(void *ctx) {
    return ps_repository_await_relief(ctx);
}

static ps_status load_file(ps_repository *repo, ps_entry *e, ps_model_version *v, ps_served **ret, ps_error *err) {
    char *config;
    PS_TRY(ps_model_path_config(repo->alloc, e->path, &config, err));
    ps_served_options options = repo->options.served;
    options.name = e->name;
    options.version = v->text;
    ps_mutex_lock(&repo->lock);
    options.stats = ps_version_stats(repo, e, v);
    ps_mutex_unlock(&repo->lock);
    options.path = v->file;
    options.states = e->states;
    options.config = config;
    options.relieve = relieve;
    options.relieve_ctx = repo;
    ps_status status = options.stats ? ps_served_load(repo->engine, &options, ret, err)
                                     : PS_FAIL_NOMEM(err, "the statistics of a model");
    ps_free(repo->alloc, config);
    return status;
}

/* A load that found too little memory: it takes more than there was. Then all that may go goes, and what is left is
 * asked for when it is less. Waiting for room is no part of what a load takes: it says nothing of the next one. */
static ps_status load_with_room(ps_repository *repo, ps_entry *e, ps_model_version *v, ps_served **ret,
                                int64_t *ret_load_ns, ps_error *err) {
    uint64_t bytes = estimate(v), limit = repo->options.memory_limit;
    for (;;) {
        *err = (ps_error)PS_ERROR_INIT;
        PS_TRY(ps_repository_make_room(repo, e, bytes, !v->served, err));
        uint64_t used = ps_engine_memory(repo->engine, NULL), room = limit > used ? limit - used : 0;
        const int64_t start = ps_clock_ns();
        atomic_store(&repo->filling, true);
        ps_status status = load_file(repo, e, v, ret, err);
        atomic_store(&repo->filling, false);
        *ret_load_ns = ps_clock_ns() - start;
        if (status != PS_NO_MEMORY) return status;
        if (ps_used_devices_have_memory(repo->options.served.devices)) { /* it may be the device's that was too little:
                                                                            what it says is the error then */
            if (!ps_repository_evict(repo, 0, 1)) return status;
            continue;
        }
        if (!limit) return status;
        bytes = (room > bytes ? room : bytes) + limit / ANOTHER_TRY;
        ps_mutex_lock(&repo->lock);
        v->bytes = bytes; /* the next load asks for as much at once */
        ps_mutex_unlock(&repo->lock);
    }
}

static ps_status load_version(ps_repository *repo, ps_entry *e, ps_model_version *v, ps_error *err) {
    ps_error reason = PS_ERROR_INIT;
    ps_served *served = NULL;
    char quoted[2 * PS_MODEL_NAME_MAX], why[sizeof reason.msg + 16];
    int64_t start = ps_clock_ns(), load_ns = 0;
    set_state(repo, v, PS_MODEL_LOADING);
    v->tried = v->stamp;
    ps_load_mark mark;
    ps_status status = ps_load_mark_set(repo, e, v->file, &mark, &reason);
    if (status == PS_OK) status = load_with_room(repo, e, v, &served, &load_ns, &reason);
    ps_load_mark_clear(repo, &mark);
    int64_t took = ps_clock_ns() - start;
    const char *name = ps_log_quote(e->name, quoted, sizeof quoted);
    if (status == PS_OK) {
        if (served->relieve) served->relieve = relieve_run;
        served->on_lost = ps_repository_lost;
        served->lost_ctx = repo;
        log_config(repo, served);
        ps_log_line(&repo->log, PS_LOG_INFO,
                    "event=load model=%s version=%s ms=%.1f max_batch=%u bytes=%zu from=%s room_ms=%.1f", name,
                    served->version, (double)load_ns / 1e6, served->max_batch, ps_served_memory(served, NULL),
                    ps_served_was_kept(served) ? "cache" : "file", (double)(took - load_ns) / 1e6);
        replace(repo, e, v, served, load_ns);
        return PS_OK;
    }
    load_failed(repo, e, v, status, &reason);
    ps_log_line(&repo->log, PS_LOG_ERROR, "event=load_failed model=%s version=%s ms=%.1f reason=%s", name, v->text,
                (double)took / 1e6, ps_log_quote(reason.msg, why, sizeof why));
    if (err) *err = reason;
    return status;
}

/* ---- loading a model; load_lock is held ---- */

/* Those that the policy does not want any more go once one that it wants serves. A failure of a newer one is told with
 * them. */
static void drop_unwanted(ps_repository *repo, ps_entry *e, const ps_error *failure) {
    for (size_t i = 0; i < e->versions.size; i++) {
        ps_model_version *v = e->versions.data[i];
        ps_served *old = NULL;
        bool one_serves = false;
        ps_mutex_lock(&repo->lock);
        for (size_t k = 0; k < e->versions.size; k++)
            one_serves |= e->versions.data[k]->wanted && e->versions.data[k]->served;
        if (!v->wanted && v->served && one_serves) {
            old = v->served;
            v->served = NULL;
            v->state = PS_MODEL_UNLOADED;
        } else if (!v->wanted && v->served && failure->msg[0]) {
            v->reason = *failure;
        }
        ps_mutex_unlock(&repo->lock);
        if (old) ps_served_retire(old);
        ps_served_release(old);
    }
}

typedef enum load_which {
    LOAD_ALL,     /* that the policy wants */
    LOAD_MISSING, /* of them, what is not loaded */
    LOAD_CHANGED, /* of them, what changed since it was loaded last, or never was */
} load_which;

static bool is_meant(const ps_model_version *v, load_which which) {
    if (!v->wanted || (which == LOAD_MISSING && v->served)) return false;
    return which != LOAD_CHANGED || v->tried != v->stamp;
}

/* *err has the first failure. */
static ps_status load_wanted(ps_repository *repo, ps_entry *e, load_which which, ps_error *err) {
    ps_error failure = PS_ERROR_INIT;
    ps_status first = PS_OK;
    for (size_t i = e->versions.size; i-- > 0;) { /* the newest first, which most requests want */
        ps_model_version *v = e->versions.data[i];
        ps_error reason = PS_ERROR_INIT;
        if (!is_meant(v, which)) continue;
        ps_status status = load_version(repo, e, v, &reason);
        if (status == PS_OK || first != PS_OK) continue;
        first = status;
        failure = reason;
    }
    ps_mutex_lock(&repo->lock);
    ps_entry_take_rules(repo, e, NULL); /* what waited for a version to be ready */
    ps_mutex_unlock(&repo->lock);
    drop_unwanted(repo, e, &failure);
    if (first != PS_OK && err) *err = failure;
    return first;
}

static void say_unresolved(ps_repository *repo, ps_entry *e, const ps_error *reason) {
    char quoted[2 * PS_MODEL_NAME_MAX], why[sizeof reason->msg + 16];
    ps_log_line(&repo->log, PS_LOG_ERROR, "event=load_failed model=%s reason=%s",
                ps_log_quote(e->name, quoted, sizeof quoted), ps_log_quote(reason->msg, why, sizeof why));
}

static ps_status load_entry(ps_repository *repo, ps_entry *e, load_which which, ps_error *err) {
    ps_error reason = PS_ERROR_INIT;
    if (repo->options.control == PS_CONTROL_POLL) e->taken = ps_entry_stamp(repo, e); /* before it is read */
    ps_status status = ps_entry_resolve(repo, e, &reason);
    if (status == PS_OK)
        status = load_wanted(repo, e, which, &reason);
    else
        say_unresolved(repo, e, &reason);
    ps_mutex_lock(&repo->lock);
    e->pending = false;
    ps_mutex_unlock(&repo->lock);
    ps_waits_end(repo->waits, e);
    if (status != PS_OK && err) *err = reason;
    return status;
}

ps_status ps_repository_load(ps_repository *repo, const char *name, ps_error *err) {
    ps_mutex_lock(&repo->lock);
    ps_entry *e = ps_repository_find(repo, name);
    ps_mutex_unlock(&repo->lock);
    if (!e) {
        PS_TRY(ps_repository_scan(repo, err));
        ps_mutex_lock(&repo->lock);
        e = ps_repository_find(repo, name);
        ps_mutex_unlock(&repo->lock);
    }
    PS_FAIL_IF(!e, err, NOT_FOUND, "model '%.255s' is not in the repository", name);
    ps_mutex_lock(&repo->load_lock);
    ps_mutex_lock(&repo->lock);
    e->unloaded = e->gone = false;
    e->loaded = repo->options.control == PS_CONTROL_EXPLICIT;
    e->pending = e->by_hand = true;
    ps_mutex_unlock(&repo->lock);
    ps_status status = load_entry(repo, e, LOAD_ALL, err);
    e->by_hand = false;
    ps_repository_keep(repo);
    ps_mutex_unlock(&repo->load_lock);
    ps_memory_trim();
    return status;
}

/* ---- at the start ---- */

static bool wanted_at_start(const ps_repository *repo, const ps_entry *e) {
    return !e->resolved && !e->reason.msg[0] && !e->unloaded &&
           (e->listed || e->loaded || repo->options.control != PS_CONTROL_EXPLICIT);
}

void ps_repository_expect_all(ps_repository *repo) {
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; i < repo->sorted.size; i++)
        repo->sorted.data[i]->pending |= wanted_at_start(repo, repo->sorted.data[i]);
    ps_mutex_unlock(&repo->lock);
}

static ps_entry *next_pending(ps_repository *repo) {
    ps_entry *found = NULL;
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; !found && i < repo->sorted.size; i++)
        if (repo->sorted.data[i]->pending) found = repo->sorted.data[i];
    ps_mutex_unlock(&repo->lock);
    return found;
}

/* The rest comes with its first requests. */
static bool is_full(ps_repository *repo) {
    const ps_repository_options *o = &repo->options;
    size_t loaded = 0;
    if (!ps_repository_on_demand(repo)) return false;
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; i < repo->sorted.size; i++)
        for (size_t k = 0; k < repo->sorted.data[i]->versions.size; k++)
            loaded += repo->sorted.data[i]->versions.data[k]->served != NULL;
    ps_mutex_unlock(&repo->lock);
    return (o->max_models && loaded >= o->max_models) || ps_used_devices_full(o->served.devices) ||
           (o->memory_limit && ps_engine_memory(repo->engine, NULL) >= o->memory_limit / 5 * 4);
}

static void stop_expecting(ps_repository *repo) {
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; i < repo->sorted.size; i++)
        repo->sorted.data[i]->pending = false;
    ps_mutex_unlock(&repo->lock);
    ps_waits_end(repo->waits, NULL);
}

void ps_repository_load_all(ps_repository *repo) {
    ps_mutex_lock(&repo->load_lock);
    ps_repository_expect_all(repo);
    for (ps_entry *e; !atomic_load(&repo->stop_loading) && !is_full(repo) && (e = next_pending(repo));)
        (void)load_entry(repo, e, LOAD_MISSING, NULL);
    stop_expecting(repo);
    ps_mutex_unlock(&repo->load_lock);
    ps_memory_trim();
}

void ps_repository_stop_loading(ps_repository *repo) {
    ps_mutex_lock(&repo->lock); /* for ps_repository_await */
    atomic_store(&repo->stop_loading, true);
    ps_mutex_unlock(&repo->lock);
    ps_waits_end(repo->waits, NULL);
}

/* ---- changes of the folder ---- */

/* Out of the version, as if nobody had ever loaded it; NULL: nobody has. */
static ps_served *forget(ps_repository *repo, ps_model_version *v) {
    ps_mutex_lock(&repo->lock);
    ps_served *old = v->served;
    v->served = NULL;
    v->wanted = false;
    v->queued = 0;
    v->state = PS_MODEL_KNOWN;
    v->tried = 0;
    v->held = 0;
    ps_mutex_unlock(&repo->lock);
    return old;
}

/* Requests that have it finish. With load_lock held. */
static void drop_all(ps_repository *repo, ps_entry *e) {
    char quoted[2 * PS_MODEL_NAME_MAX];
    ps_mutex_lock(&repo->lock);
    e->gone = true;
    e->resolved = e->pending = false;
    e->reason = (ps_error)PS_ERROR_INIT;
    ps_entry_drop_rules(repo, e);
    ps_entry_forget_stats(e);
    ps_mutex_unlock(&repo->lock);
    for (size_t i = 0; i < e->versions.size; i++) {
        ps_served *old = forget(repo, e->versions.data[i]);
        if (old) ps_served_retire(old);
        ps_served_release(old);
    }
    ps_log_line(&repo->log, PS_LOG_INFO, "event=model_gone model=%s", ps_log_quote(e->name, quoted, sizeof quoted));
}

static bool is_resident(ps_repository *repo, const ps_entry *e) {
    bool any = false;
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; i < e->versions.size; i++)
        any |= e->versions.data[i]->served != NULL;
    ps_mutex_unlock(&repo->lock);
    return any;
}

/* A changed file is a new chance; what is not loaded now, its next request loads. */
static void forgive(ps_repository *repo, ps_entry *e) {
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; i < e->versions.size; i++) {
        ps_model_version *v = e->versions.data[i];
        if (!v->wanted || v->served || v->tried == v->stamp) continue;
        v->state = PS_MODEL_KNOWN;
        v->reason = (ps_error)PS_ERROR_INIT;
    }
    ps_mutex_unlock(&repo->lock);
}

static void take_up(ps_repository *repo, ps_entry *e) {
    ps_error reason = PS_ERROR_INIT;
    ps_mutex_lock(&repo->lock);
    e->gone = false;
    ps_mutex_unlock(&repo->lock);
    if (ps_entry_resolve(repo, e, &reason) != PS_OK) {
        say_unresolved(repo, e, &reason);
        return;
    }
    forgive(repo, e);
    if (!e->unloaded && (is_resident(repo, e) || !is_full(repo))) (void)load_wanted(repo, e, LOAD_CHANGED, NULL);
}

void ps_repository_take_up(ps_repository *repo, ps_entry *e, bool gone) {
    ps_mutex_lock(&repo->load_lock);
    if (gone)
        drop_all(repo, e);
    else
        take_up(repo, e);
    ps_mutex_unlock(&repo->load_lock);
    ps_waits_end(repo->waits, e);
    ps_memory_trim();
}

/* ---- on demand ---- */

/* Whose turn it is: a version that a request asked for, or a model whose versions nobody has looked for; before them,
 * one that is to be loaded on a lost device again (*ret_reopen). */
static ps_entry *next_queued(ps_repository *repo, ps_model_version **ret, bool *ret_reopen) {
    ps_entry *found = NULL;
    uint64_t first = UINT64_MAX;
    const int64_t now = ps_clock_ns();
    *ret = NULL;
    *ret_reopen = false;
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; i < repo->sorted.size; i++) {
        ps_entry *e = repo->sorted.data[i];
        if (e->pending && e->turn < first) {
            found = e;
            first = e->turn;
            *ret = NULL;
        }
        for (size_t k = 0; k < e->versions.size; k++) {
            ps_model_version *v = e->versions.data[k];
            const bool due = ps_version_reopen_due(v, now);
            if (!due && (!v->queued || v->queued >= first)) continue;
            found = e;
            first = due ? 0 : v->queued;
            *ret = v;
            *ret_reopen = due;
        }
    }
    if (!found) repo->job_queued = false;
    ps_mutex_unlock(&repo->lock);
    return found;
}

static void give_up_queued(ps_repository *repo) {
    ps_model_version *v;
    bool reopen;
    for (ps_entry *e; (e = next_queued(repo, &v, &reopen));) {
        ps_mutex_lock(&repo->lock);
        if (v && v->state == PS_MODEL_LOADING && !v->served) v->state = PS_MODEL_EVICTED;
        if (v) v->queued = 0;
        if (v) v->reopen_ns = 0;
        e->pending = false;
        ps_mutex_unlock(&repo->lock);
    }
}

static void make_room_again(ps_repository *repo) {
    ps_mutex_lock(&repo->lock);
    bool crowded = repo->crowded;
    repo->crowded = false;
    ps_mutex_unlock(&repo->lock);
    if (crowded) ps_repository_restore_room(repo);
}

static void load_queued(ps_job *job) {
    ps_repository *repo = (ps_repository *)((char *)job - offsetof(ps_repository, job));
    ps_model_version *v;
    bool reopen;
    ps_mutex_lock(&repo->load_lock);
    make_room_again(repo);
    for (ps_entry *e; !atomic_load(&repo->stop_loading) && (e = next_queued(repo, &v, &reopen));) {
        if (reopen)
            ps_repository_reopen(repo, e, v);
        else if (v)
            (void)load_version(repo, e, v, NULL);
        else
            (void)load_entry(repo, e, LOAD_MISSING, NULL);
    }
    if (atomic_load(&repo->stop_loading))
        give_up_queued(repo);
    else
        ps_repository_set_reopen_timer(repo);
    ps_mutex_unlock(&repo->load_lock);
    ps_memory_trim();
}

void ps_repository_use_loader(ps_repository *repo, ps_pool *loader) {
    repo->job.run = load_queued;
    ps_mutex_lock(&repo->lock);
    repo->loader = loader;
    ps_mutex_unlock(&repo->lock);
}

bool ps_repository_wake_loader(ps_repository *repo) {
    if (!repo->loader || atomic_load(&repo->stop_loading)) return false;
    if (!repo->job_queued && ps_pool_submit(repo->loader, &repo->job, NULL) != PS_OK) return false;
    repo->job_queued = true;
    return true;
}

bool ps_repository_queue(ps_repository *repo, ps_entry *e, ps_model_version *v) {
    if (!ps_repository_wake_loader(repo)) return false;
    if (v) {
        v->queued = ++repo->turns;
        v->state = PS_MODEL_LOADING;
    } else {
        e->turn = ++repo->turns;
        e->pending = true;
    }
    return true;
}

void ps_repository_watch_room(ps_repository *repo) {
    if (!ps_repository_on_demand(repo) || !ps_repository_is_crowded(repo)) return;
    int64_t now = ps_clock_ns();
    if (now - repo->looked_ns < CROWDED_NS) return; /* all may be in use */
    repo->looked_ns = now;
    repo->crowded = ps_repository_wake_loader(repo);
}

/* ---- unloading ---- */

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

/* Called with load_lock held. false: it was not loaded. */
static bool unload_version(ps_repository *repo, ps_model_version *v) {
    departure d = { repo, false };
    ps_mutex_lock(&repo->lock);
    ps_served *old = v->served;
    v->served = NULL;
    v->queued = 0;
    v->reason = (ps_error)PS_ERROR_INIT;
    v->state = old ? PS_MODEL_UNLOADING : v->state == PS_MODEL_KNOWN ? PS_MODEL_KNOWN : PS_MODEL_UNLOADED;
    ps_mutex_unlock(&repo->lock);
    if (!old) return false;
    old->on_gone = say_gone;
    old->gone_ctx = &d;
    ps_served_retire(old);
    ps_served_release(old);
    ps_mutex_lock(&repo->lock);
    while (!d.gone)
        ps_cond_wait(&repo->gone, &repo->lock);
    v->state = PS_MODEL_UNLOADED;
    ps_mutex_unlock(&repo->lock);
    return true;
}

void ps_repository_unload(ps_repository *repo, const char *name) {
    char quoted[2 * PS_MODEL_NAME_MAX];
    int64_t start = ps_clock_ns();
    bool was_loaded = false;
    ps_mutex_lock(&repo->load_lock);
    ps_mutex_lock(&repo->lock);
    ps_entry *e = ps_repository_find(repo, name);
    if (e) e->unloaded = true;
    if (e) e->pending = e->loaded = false;
    ps_mutex_unlock(&repo->lock);
    for (size_t i = 0; e && i < e->versions.size; i++)
        was_loaded |= unload_version(repo, e->versions.data[i]);
    if (e) ps_repository_keep(repo);
    ps_mutex_unlock(&repo->load_lock);
    if (e) ps_waits_end(repo->waits, e);
    if (!was_loaded) return;
    ps_memory_trim();
    ps_log_line(&repo->log, PS_LOG_INFO, "event=unload model=%s ms=%.1f", ps_log_quote(e->name, quoted, sizeof quoted),
                (double)(ps_clock_ns() - start) / 1e6);
}
