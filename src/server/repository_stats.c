/* repository_stats.c - counters of versions, loaded or not. */
#include <string.h>

#include "base/error.h"
#include "server/repository_int.h"
#include "server/runner.h"

/* ---- the lock is held ---- */

ps_stats *ps_version_stats(ps_repository *repo, ps_entry *e, ps_model_version *v) {
    if (v->stats) return v->stats;
    v->stats = ps_stats_create(repo->alloc);
    if (!v->stats) return NULL;
    ps_stats_fail_before(v->stats, e->early);
    memset(e->early, 0, sizeof e->early);
    return v->stats;
}

void ps_entry_forget_stats(ps_entry *e) {
    memset(e->early, 0, sizeof e->early);
    for (size_t i = 0; i < e->versions.size; i++) {
        ps_stats_release(e->versions.data[i]->stats);
        e->versions.data[i]->stats = NULL;
    }
}

/* v NULL: nobody has looked for the model's versions yet. */
static ps_failure refine(const ps_entry *e, const ps_model_version *v, ps_failure failure) {
    if (failure != PS_FAILURE_UNAVAILABLE) return failure;
    if (v ? v->state == PS_MODEL_FAILED : e->reason.msg[0] != '\0') return PS_FAILURE_LOAD_FAILED;
    return ps_version_loading(e, v) ? PS_FAILURE_LOAD_TIMEOUT : PS_FAILURE_UNAVAILABLE;
}

static void count(ps_repository *repo, ps_entry *e, const char *version, ps_failure failure, int64_t total_ns) {
    ps_model_version *v = ps_entry_pick(repo, e, version);
    const ps_failure reason = refine(e, v, failure);
    ps_stats *stats = v ? ps_version_stats(repo, e, v) : NULL;
    if (stats) {
        ps_stats_fail(stats, reason, total_ns);
    } else if (!v && !e->resolved) {
        e->early[reason].count++;
        e->early[reason].ns += total_ns > 0 ? (uint64_t)total_ns : 0;
    }
}

/* Versions that the policy does not name any more still have their counters. */
static const ps_model_version *find(const ps_repository *repo, const ps_entry *e, const char *version) {
    const ps_model_version *v = ps_entry_pick(repo, e, version);
    for (size_t i = 0; !v && i < e->versions.size; i++)
        if (e->versions.data[i]->stats && strcmp(e->versions.data[i]->text, version) == 0) v = e->versions.data[i];
    return v;
}

/* Lives as long as the repository. */
static const char *device_of(const ps_repository *repo, const ps_model_version *v) {
    return v->device[0] ? v->device : repo->options.served.devices->list;
}

static void list(const ps_repository *repo, const ps_entry *e, const ps_model_version *only, ps_runner *runner,
                 ps_counted *to, size_t *ret_count) {
    for (size_t i = 0; i < e->versions.size; i++) {
        const ps_model_version *v = e->versions.data[i];
        if (!v->stats || (only && v != only)) continue;
        ps_counted *c = &to[(*ret_count)++];
        *c = (ps_counted) { .of = { .name = e->name,
                                    .version = v->text,
                                    .state = ps_version_state(e, v),
                                    .device = device_of(repo, v) },
                            .stats = ps_stats_retain(v->stats),
                            .loaded = v->served != NULL };
        if (v->served) c->of.bytes = ps_served_memory(v->served, &c->of.peak_bytes);
        if (v->served && runner) c->scheduled = ps_runner_stats(runner, v->served, &c->sched);
    }
}

static ps_status list_one(ps_repository *repo, const char *name, const char *version, ps_runner *runner, ps_counted *to,
                          size_t *ret_count, ps_error *err) {
    const ps_entry *e = ps_repository_find(repo, name);
    PS_FAIL_IF(!e || e->gone, err, NOT_FOUND, "model '%.255s' is not known", name);
    const ps_model_version *only = version ? find(repo, e, version) : NULL;
    if (version && !only && e->resolved) return ps_entry_no_version(e, version, err);
    list(repo, e, only, runner, to, ret_count);
    return PS_OK;
}

/* ---- without it ---- */

ps_status ps_repository_counted(ps_repository *repo, const char *name, const char *version, ps_runner *runner,
                                ps_counted **ret, size_t *ret_count, ps_error *err) {
    ps_status status = PS_OK;
    *ret_count = 0;
    ps_mutex_lock(&repo->lock);
    *ret = ps_alloc_array(repo->alloc, repo->n_versions + 1, sizeof **ret);
    if (!*ret) status = PS_FAIL_NOMEM(err, "a list of models");
    if (*ret && name) status = list_one(repo, name, version, runner, *ret, ret_count, err);
    for (size_t i = 0; *ret && !name && i < repo->sorted.size; i++)
        list(repo, repo->sorted.data[i], NULL, runner, *ret, ret_count);
    ps_mutex_unlock(&repo->lock);
    if (status == PS_OK) return status;
    ps_free(repo->alloc, *ret);
    return status;
}

void ps_counted_free(ps_repository *repo, ps_counted *counted, size_t n) {
    for (size_t i = 0; i < n; i++)
        ps_stats_release(counted[i].stats);
    ps_free(repo->alloc, counted);
}

void ps_repository_count_failure(ps_repository *repo, const char *name, const char *version, ps_failure failure,
                                 int64_t total_ns) {
    ps_mutex_lock(&repo->lock);
    ps_entry *e = ps_repository_find(repo, name);
    if (e && !e->gone) count(repo, e, version, failure, total_ns);
    ps_mutex_unlock(&repo->lock);
}
