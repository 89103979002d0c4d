/* repository_traffic.c - traffic.c's rules over the versions of the repository: who gets a request, what is told of its
 * end, and what of that outlives the server. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "server/json_text.h"
#include "server/repository_int.h"

#define MAX_KEPT ((size_t)1 << 20) /* bytes of a model's file in the state folder */

/* What has happened to a rollout, to be logged without the lock. */
typedef struct news {
    const char *model; /* NULL: nothing; lives as long as the repository */
    int64_t version;
    ps_rollout_phase phase;
    double percent;
    char reason[sizeof((ps_rollout *)0)->reason];
} news;

static void tell(const ps_repository *repo, const news *n) {
    char quoted[2 * PS_MODEL_NAME_MAX], why[sizeof n->reason + 16];
    bool aborted = n->phase == PS_ROLLOUT_ABORTED;
    if (!n->model) return;
    ps_log_line(&repo->log, aborted ? PS_LOG_WARN : PS_LOG_INFO,
                "event=rollout model=%s version=%" PRId64 " phase=%s percent=%g%s%s",
                ps_log_quote(n->model, quoted, sizeof quoted), n->version, ps_rollout_phase_name(n->phase), n->percent,
                aborted ? " reason=" : "", aborted ? ps_log_quote(n->reason, why, sizeof why) : "");
}

/* ---- the rules; the lock is held ---- */

static ps_model_version *served_version(const ps_entry *e, int64_t number) {
    ps_model_version *v = number ? ps_entry_version(e, number) : NULL;
    return v && v->served ? v : NULL;
}

static ps_model_version *loadable_version(const ps_repository *repo, const ps_entry *e, int64_t number) {
    ps_model_version *v = number ? ps_entry_version(e, number) : NULL;
    return v && ps_version_there(v) && ps_version_loadable(repo, e, v) ? v : NULL;
}

ps_model_version *ps_entry_main(const ps_repository *repo, const ps_entry *e) {
    int64_t most = ps_traffic_main(e->traffic), stable = ps_traffic_stable(e->traffic);
    ps_model_version *v = served_version(e, most);
    if (!v) v = served_version(e, stable);
    if (!v) v = loadable_version(repo, e, most);
    return v ? v : loadable_version(repo, e, stable);
}

static bool is_there(void *ctx, int64_t number) {
    const ps_model_version *v = ps_entry_version(ctx, number);
    return v && (v->present || v->served);
}

/* One that was loaded and then evicted is as good as loaded. */
static bool is_ready(void *ctx, int64_t number) {
    const ps_model_version *v = ps_entry_version(ctx, number);
    return v && (v->served || (v->state == PS_MODEL_EVICTED && v->was_loaded));
}

static ps_traffic_model model_of(ps_entry *e, bool waits) {
    const ps_model_version *v = ps_entry_default(e);
    return (ps_traffic_model) {
        .name = e->name, .there = is_there, .ready = is_ready, .latest = v ? v->number : 0, .waits = waits, .ctx = e
    };
}

static ps_status make_traffic(ps_repository *repo, ps_entry *e, ps_error *err) {
    if (!e->traffic) e->traffic = ps_alloc_zero(repo->alloc, sizeof *e->traffic);
    return e->traffic ? PS_OK : PS_FAIL_NOMEM(err, "the rules of a model's traffic");
}

/* Versions that rules name are served, whatever the policy says. */
static void want_named(ps_entry *e) {
    for (size_t i = 0; e->traffic && i < e->versions.size; i++) {
        ps_model_version *v = e->versions.data[i];
        v->wanted |= v->present && ps_traffic_names(e->traffic, v->number);
    }
}

static void want_kept(ps_repository *repo, ps_entry *e) {
    e->unkept = true;
    if (!repo->state || !repo->keeper || repo->keep_queued) return;
    repo->keep_queued = ps_pool_submit(repo->keeper, &repo->keep, NULL) == PS_OK; /* else with the next change */
}

static void advance(ps_repository *repo, ps_entry *e, news *ret) {
    ps_traffic *t = e->traffic;
    if (!ps_traffic_advance(t, ps_clock_ns())) return;
    *ret = (news) { e->name, t->rollout.to, t->rollout.phase, ps_traffic_percent(t), "" };
    memcpy(ret->reason, t->rollout.reason, sizeof ret->reason);
    want_named(e);
    want_kept(repo, e);
}

/* ---- a request ---- */

/* Where its sequence is in progress; NULL: nowhere, or it begins anew. */
static ps_model_version *of_sequence(const ps_entry *e, const ps_route_key *key) {
    for (size_t i = 0; i < e->versions.size; i++) {
        ps_model_version *v = e->versions.data[i];
        if (!v->served || !ps_sequences_has(v->served->sequences, key->sequence_id)) continue;
        if (!key->sequence_start || !ps_sequences_end(v->served->sequences, key->sequence_id)) return v;
    }
    return NULL;
}

static int64_t choose(const ps_entry *e, const ps_route_key *key) {
    ps_model_version *v = *key->sequence_id ? of_sequence(e, key) : NULL;
    const char *text = key->key ? key->key : *key->sequence_id ? key->sequence_id : NULL;
    if (v) return v->number;
    return ps_traffic_choose(e->traffic, text, text ? ps_hash_bytes(text, strlen(text), 0) : 0);
}

/* The chosen version if it is ready, else the stable one; NULL: neither is. */
static ps_model_version *pick(ps_repository *repo, ps_entry *e, int64_t chosen) {
    ps_model_version *v = served_version(e, chosen), *missing = v ? NULL : loadable_version(repo, e, chosen);
    if (missing) (void)ps_repository_queue(repo, e, missing); /* the next ones find it */
    return v ? v : served_version(e, ps_traffic_stable(e->traffic));
}

static void choose_shadow(ps_repository *repo, ps_routed *route) {
    ps_entry *e = route->entry;
    int64_t number = ps_traffic_shadow_choose(e->traffic, route->version);
    ps_model_version *v = served_version(e, number), *missing = v ? NULL : loadable_version(repo, e, number);
    if (missing) (void)ps_repository_queue(repo, e, missing);
    if (!v) return;
    ps_served_use(v->served);
    route->shadow = ps_served_retain(v->served);
    route->shadow_version = number;
    route->rtol = e->traffic->shadow.rtol;
    route->atol = e->traffic->shadow.atol;
}

ps_served *ps_repository_route(ps_repository *repo, ps_served *held, const ps_route_key *key, ps_routed *ret) {
    news what = { .model = NULL };
    ps_mutex_lock(&repo->lock);
    ps_entry *e = ps_repository_find(repo, held->name);
    if (!e || e->unloaded || !e->traffic) {
        ps_mutex_unlock(&repo->lock);
        return held;
    }
    advance(repo, e, &what);
    int64_t chosen = choose(e, key);
    ps_model_version *v = pick(repo, e, chosen);
    ps_served *to = v && v->served != held ? ps_served_retain(v->served) : NULL;
    int64_t number = v ? v->number : strtoll(held->version, NULL, 10);
    if (to) ps_served_use(to);
    ps_traffic_routed(e->traffic, chosen, number, ps_clock_ns());
    *ret = (ps_routed) { .repo = repo, .entry = e, .version = number };
    if (!*key->sequence_id) choose_shadow(repo, ret);
    ps_mutex_unlock(&repo->lock);
    tell(repo, &what);
    if (!to) return held;
    ps_served_release(held);
    return to;
}

bool ps_routed_is_outcome(ps_status status) {
    return status != PS_CANCELLED && status != PS_UNAVAILABLE;
}

void ps_routed_done(ps_routed *route, ps_status status, int64_t latency_ns) {
    ps_repository *repo = route->repo;
    ps_entry *e = route->entry;
    news what = { .model = NULL };
    int64_t version = route->version;
    ps_served_release(route->shadow);
    *route = (ps_routed) { 0 };
    if (!ps_routed_is_outcome(status)) return;
    ps_mutex_lock(&repo->lock);
    if (e->traffic) {
        ps_traffic_answered(e->traffic, version, status != PS_OK, latency_ns, ps_clock_ns());
        advance(repo, e, &what);
    }
    ps_mutex_unlock(&repo->lock);
    tell(repo, &what);
}

ps_served *ps_routed_again(ps_routed *route, ps_status status) {
    ps_repository *repo = route->repo;
    ps_entry *e = route->entry;
    ps_served *other = NULL;
    news what = { .model = NULL };
    if (route->again || !ps_routed_is_outcome(status) || status == PS_DEADLINE) return NULL;
    ps_mutex_lock(&repo->lock);
    ps_model_version *v = e->traffic && !e->unloaded ? served_version(e, ps_traffic_stable(e->traffic)) : NULL;
    if (!v && e->traffic && !e->unloaded) v = served_version(e, ps_traffic_main(e->traffic));
    if (v && v->number != route->version) {
        int64_t now = ps_clock_ns();
        ps_traffic_answered(e->traffic, route->version, true, -1, now);
        ps_traffic_routed(e->traffic, route->version, v->number, now);
        advance(repo, e, &what);
        other = ps_served_retain(v->served);
        route->version = v->number;
        route->again = true;
    }
    ps_mutex_unlock(&repo->lock);
    tell(repo, &what);
    return other;
}

void ps_routed_copied(const ps_routed *route, bool copied) {
    ps_repository *repo = route->repo;
    ps_mutex_lock(&repo->lock);
    if (route->entry->traffic) ps_traffic_copied(route->entry->traffic, copied);
    ps_mutex_unlock(&repo->lock);
}

void ps_routed_compared(const ps_routed *route, const ps_shadow_result *result) {
    ps_repository *repo = route->repo;
    ps_entry *e = route->entry;
    news what = { .model = NULL };
    ps_mutex_lock(&repo->lock);
    if (e->traffic) {
        ps_traffic_compared(e->traffic, route->shadow_version, result);
        advance(repo, e, &what);
    }
    ps_mutex_unlock(&repo->lock);
    tell(repo, &what);
}

/* ---- what outlives the server ---- */

/* The model's file in the state folder; ps_free it. NULL: out of memory. */
static char *kept_path(ps_repository *repo, const ps_entry *e) {
    return ps_repository_kept_path(repo, "traffic", e->path);
}

char *ps_entry_read_kept(ps_repository *repo, const ps_entry *e) {
    char *path = repo->state ? kept_path(repo, e) : NULL, *text = NULL, quoted[512];
    ps_error err = PS_ERROR_INIT;
    size_t size;
    if (path && ps_file_exists(path) && ps_file_read(repo->alloc, path, MAX_KEPT, &text, &size, &err) != PS_OK) {
        ps_log_line(&repo->log, PS_LOG_WARN, "event=state_unread reason=%s",
                    ps_log_quote(err.msg, quoted, sizeof quoted));
        text = NULL;
    }
    ps_free(repo->alloc, path);
    return text;
}

static bool is_empty(const ps_traffic *t) {
    return !ps_traffic_decides(t) && t->rollout.phase == PS_ROLLOUT_NONE && !t->source;
}

static ps_status write_kept(ps_repository *repo, const ps_entry *e, const ps_str *text, ps_error *err) {
    char *path = kept_path(repo, e);
    if (!path || text->failed) {
        ps_free(repo->alloc, path);
        return PS_FAIL_NOMEM(err, "a model's state");
    }
    ps_status status = PS_OK;
    if (!text->size)
        (void)ps_file_remove(path);
    else if ((status = ps_dir_create(repo->state, 0700, err)) == PS_OK)
        status = ps_file_write(path, text->data, text->size, 0600, err);
    ps_free(repo->alloc, path);
    return status;
}

/* On the keeper's thread, so that the last written is the latest. */
static void keep_entry(ps_repository *repo, ps_entry *e) {
    ps_str text;
    ps_error err = PS_ERROR_INIT;
    char why[sizeof err.msg + 16];
    ps_str_init(&text, repo->alloc);
    ps_mutex_lock(&repo->lock);
    bool unkept = e->unkept && e->traffic;
    e->unkept = false;
    if (unkept && !is_empty(e->traffic)) {
        ps_str_append(&text, "{\"model\":");
        ps_json_write_string(&text, e->name);
        ps_str_char(&text, ',');
        ps_traffic_write(e->traffic, false, 0, &text);
        ps_str_append(&text, "}\n");
    }
    ps_mutex_unlock(&repo->lock);
    if (unkept && write_kept(repo, e, &text, &err) != PS_OK) {
        ps_log_line(&repo->log, PS_LOG_WARN, "event=state_unwritten reason=%s", ps_log_quote(err.msg, why, sizeof why));
        ps_mutex_lock(&repo->lock);
        e->unkept = true; /* the next change tries again */
        ps_mutex_unlock(&repo->lock);
    }
    ps_str_release(&text);
}

/* Entries are only added, and by name: one that moves is found the next time, as whoever adds it marks it then. */
static void keep_all(ps_job *job) {
    ps_repository *repo = (ps_repository *)((char *)job - offsetof(ps_repository, keep));
    ps_mutex_lock(&repo->lock);
    repo->keep_queued = false;
    for (size_t i = 0; i < repo->sorted.size; i++) {
        ps_entry *e = repo->sorted.data[i];
        if (!e->unkept) continue;
        ps_mutex_unlock(&repo->lock);
        keep_entry(repo, e);
        ps_mutex_lock(&repo->lock);
    }
    ps_mutex_unlock(&repo->lock);
}

void ps_repository_use_keeper(ps_repository *repo, ps_pool *keeper) {
    repo->keep.run = keep_all;
    ps_mutex_lock(&repo->lock);
    repo->keeper = keeper;
    ps_mutex_unlock(&repo->lock);
}

/* ---- taking up rules; the lock is held ---- */

static void say_refused(const ps_repository *repo, const ps_entry *e, const ps_error *err) {
    char quoted[2 * PS_MODEL_NAME_MAX], why[sizeof err->msg + 16];
    ps_log_line(&repo->log, PS_LOG_WARN, "event=traffic_refused model=%s reason=%s",
                ps_log_quote(e->name, quoted, sizeof quoted), ps_log_quote(err->msg, why, sizeof why));
}

static void take_part(ps_repository *repo, ps_entry *e, const ps_traffic_change *part) {
    ps_traffic_model m = model_of(e, true);
    ps_error err = PS_ERROR_INIT;
    if (ps_traffic_apply(e->traffic, part, &m, ps_clock_ns(), &err) != PS_OK) say_refused(repo, e, &err);
}

/* Part by part: versions that are gone since take only what names them along. */
static void restore(ps_repository *repo, ps_entry *e, const ps_traffic_change *c) {
    ps_traffic_change part;
    for (size_t i = 0; i < c->n_moves; i++) {
        part = (ps_traffic_change) { .n_moves = 1 };
        part.moves[0] = c->moves[i];
        take_part(repo, e, &part);
    }
    part = *c;
    part.n_moves = 0;
    part.set_shadow = false;
    part.action = PS_ROLLOUT_KEEP;
    take_part(repo, e, &part);
    part.set_split = false;
    part.set_shadow = c->set_shadow;
    take_part(repo, e, &part);
    part.set_shadow = false;
    part.action = c->action;
    take_part(repo, e, &part);
    e->traffic->source = c->source;
}

static void take_kept(ps_repository *repo, ps_entry *e, const char *kept) {
    ps_traffic_change c;
    ps_error err = PS_ERROR_INIT;
    if (ps_traffic_read(kept, strlen(kept), true, repo->alloc, &c, &err) == PS_OK &&
        make_traffic(repo, e, &err) == PS_OK)
        restore(repo, e, &c);
    else
        say_refused(repo, e, &err);
}

/* Those of a text are taken up once: what the API changes later stays, until the text is another. */
static void take_rules(ps_repository *repo, ps_entry *e) {
    ps_traffic_change c;
    ps_error err = PS_ERROR_INIT;
    uint64_t source = ps_hash_bytes(e->rules, strlen(e->rules), 1) | 1;
    ps_status status = PS_OK;
    if (!e->traffic || e->traffic->source != source) {
        ps_traffic_model m = model_of(e, true);
        status = ps_traffic_read(e->rules, strlen(e->rules), false, repo->alloc, &c, &err);
        if (status == PS_OK) status = make_traffic(repo, e, &err);
        if (status == PS_OK) status = ps_traffic_apply(e->traffic, &c, &m, ps_clock_ns(), &err);
        if (status == PS_OK) e->traffic->source = source;
        if (status == PS_OK) want_kept(repo, e);
    }
    if (status != PS_OK) {
        say_refused(repo, e, &err);
        return;
    }
    ps_free(repo->alloc, e->rules);
    e->rules = NULL;
}

void ps_entry_drop_rules(ps_repository *repo, ps_entry *e) {
    if (!e->traffic) return;
    *e->traffic = (ps_traffic) { 0 };
    want_kept(repo, e);
}

void ps_entry_take_rules(ps_repository *repo, ps_entry *e, const char *kept) {
    if (kept) take_kept(repo, e, kept);
    if (e->rules) take_rules(repo, e);
    want_named(e);
}

/* ---- by hand ---- */

static ps_status find(ps_repository *repo, const char *name, ps_entry **ret, ps_error *err) {
    *ret = ps_repository_find(repo, name);
    PS_FAIL_IF(!*ret || (*ret)->gone, err, NOT_FOUND, "model '%.255s' is not known", name);
    return PS_OK;
}

/* Versions of a model that nobody has asked for yet. */
static ps_status resolve(ps_repository *repo, const char *name, ps_error *err) {
    ps_entry *e;
    ps_status status = PS_OK;
    ps_mutex_lock(&repo->lock);
    status = find(repo, name, &e, err);
    bool resolved = status != PS_OK || e->resolved;
    ps_mutex_unlock(&repo->lock);
    if (resolved) return status;
    ps_mutex_lock(&repo->load_lock);
    if (!e->resolved) status = ps_entry_resolve(repo, e, err);
    ps_mutex_unlock(&repo->load_lock);
    return status;
}

ps_status ps_repository_change_traffic(ps_repository *repo, const char *name, const ps_traffic_change *change,
                                       ps_error *err) {
    ps_entry *e;
    news what = { .model = NULL };
    PS_TRY(resolve(repo, name, err));
    ps_mutex_lock(&repo->lock);
    ps_status status = find(repo, name, &e, err);
    if (status == PS_OK) status = make_traffic(repo, e, err);
    if (status == PS_OK) {
        ps_traffic_model m = model_of(e, false);
        advance(repo, e, &what);
        status = ps_traffic_apply(e->traffic, change, &m, ps_clock_ns(), err);
    }
    if (status == PS_OK) {
        const ps_rollout *r = &e->traffic->rollout;
        if (change->action > PS_ROLLOUT_KEEP && change->action < PS_ROLLOUT_FORGET) {
            what = (news) { e->name, r->to, r->phase, ps_traffic_percent(e->traffic), "" };
            memcpy(what.reason, r->reason, sizeof what.reason);
        }
        want_named(e);
        e->unkept = true;
    }
    ps_mutex_unlock(&repo->lock);
    tell(repo, &what);
    if (status == PS_OK && repo->state) keep_entry(repo, e);
    return status;
}

ps_status ps_repository_write_traffic(ps_repository *repo, const char *name, ps_str *out, ps_error *err) {
    static const ps_traffic none;
    ps_entry *e;
    news what = { .model = NULL };
    ps_mutex_lock(&repo->lock);
    ps_status status = find(repo, name, &e, err);
    if (status == PS_OK) {
        if (e->traffic) advance(repo, e, &what);
        ps_str_append(out, "{\"model\":");
        ps_json_write_string(out, e->name);
        ps_str_printf(out, ",\"kept\":%s,", repo->state && !e->unkept ? "true" : "false");
        ps_traffic_write(e->traffic ? e->traffic : &none, true, ps_clock_ns(), out);
        ps_str_char(out, '}');
    }
    ps_mutex_unlock(&repo->lock);
    tell(repo, &what);
    return status;
}

static void write_version(const ps_traffic *t, int64_t number, ps_str *out) {
    bool any = false;
    ps_str_append(out, ",\"labels\":[");
    for (size_t i = 0; i < t->n_labels; i++) {
        if (t->labels[i].version != number) continue;
        ps_str_printf(out, "%s\"%s\"", any ? "," : "", t->labels[i].name);
        any = true;
    }
    ps_str_char(out, ']');
    for (size_t i = 0; i < PS_TRAFFIC_VERSIONS; i++) {
        const ps_traffic_count *c = &t->counts[i];
        if (c->version != number) continue;
        ps_str_printf(out, ",\"traffic\":{\"requests\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"fallbacks\":%" PRIu64 "}",
                      c->requests, c->errors, c->fallbacks);
    }
}

void ps_repository_write_version_traffic(ps_repository *repo, const char *name, const char *version, ps_str *out) {
    ps_mutex_lock(&repo->lock);
    const ps_entry *e = ps_repository_find(repo, name);
    if (e && e->traffic) write_version(e->traffic, strtoll(version, NULL, 10), out);
    ps_mutex_unlock(&repo->lock);
}

ps_status ps_repository_copy_traffic(ps_repository *repo, ps_traffic_copy **ret, size_t *ret_count, ps_error *err) {
    size_t n = 0, room = 0;
    ps_mutex_lock(&repo->lock);
    for (size_t i = 0; i < repo->sorted.size; i++)
        room += repo->sorted.data[i]->traffic != NULL;
    ps_traffic_copy *all = ps_alloc_array(repo->alloc, room + 1, sizeof *all);
    for (size_t i = 0; all && i < repo->sorted.size; i++) {
        const ps_entry *e = repo->sorted.data[i];
        if (e->traffic && !e->gone) all[n++] = (ps_traffic_copy) { e->name, *e->traffic };
    }
    ps_mutex_unlock(&repo->lock);
    *ret = all;
    *ret_count = n;
    return all ? PS_OK : PS_FAIL_NOMEM(err, "a list of models");
}
