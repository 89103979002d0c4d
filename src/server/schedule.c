#include "server/schedule.h"

#include <inttypes.h>
#include <string.h>

#include "base/map.h"
#include "base/os.h"
#include "polestar/polestar.h"
#include "server/batch.h"

static const char *const reason_names[PS_SCHED_REASONS] = {
    [PS_SCHED_OK] = "none",
    [PS_SCHED_FULL] = "queue_full",
    [PS_SCHED_TOO_LATE] = "too_late",
    [PS_SCHED_TIMEOUT] = "timeout",
    [PS_SCHED_NOT_LOADED] = "not_loaded",
    [PS_SCHED_REMOVED] = "removed",
    [PS_SCHED_NO_MEMORY] = "no_memory",
    [PS_SCHED_CANCELLED] = "cancelled",
};

/* ---- requests ---- */

void ps_schedule_fill(ps_infer *infer, int64_t target_ns, const ps_tenants *tenants) {
    ps_sched_request *r = &infer->request; /* its state may be looked at, under the runner's lock */
    r->arrival_ns = infer->loaded_ns ? infer->loaded_ns : infer->arrived_ns; /* a load counts against no target */
    r->priority = infer->priority;
    r->tenant = ps_tenants_find(tenants, infer->tenant);
    if (!infer->deadline_ns && target_ns) infer->deadline_ns = r->arrival_ns + target_ns;
    r->deadline_ns = infer->deadline_ns;
    r->shape = ps_batch_shape(infer);
    r->items = ps_batch_items(infer, &r->work);
}

static long long allowed_us(const ps_infer *infer) {
    return (long long)((infer->deadline_ns - infer->arrived_ns) / 1000);
}

ps_status ps_schedule_refused(ps_infer *infer, const ps_sched_verdict *verdict, ps_error *err) {
    const char *name = infer->served->name;
    infer->retry_after_ns = verdict->retry_after_ns;
    infer->refused = verdict->reason;
    switch (verdict->reason) {
    case PS_SCHED_FULL: return PS_FAIL(err, UNAVAILABLE, "model '%s': the queue of requests is full", name);
    case PS_SCHED_TOO_LATE:
        PS_FAIL_IF(ps_clock_ns() >= infer->deadline_ns, err, DEADLINE,
                   "model '%s': the request's timeout of %lld microseconds had passed before it could wait", name,
                   allowed_us(infer));
        return PS_FAIL(err, UNAVAILABLE,
                       "model '%s': an answer would take about %lld microseconds, the request allows %lld", name,
                       (long long)((verdict->finish_ns - infer->arrived_ns) / 1000), allowed_us(infer));
    case PS_SCHED_NO_MEMORY: return PS_FAIL_NOMEM(err, "the profile of a new shape");
    default: return PS_FAIL(err, UNAVAILABLE, "the server is shutting down");
    }
}

ps_status ps_schedule_dropped(ps_infer *infer, ps_error *err) {
    const char *name = infer->served->name;
    infer->refused = infer->request.reason;
    switch (infer->request.reason) {
    case PS_SCHED_TOO_LATE:
        return PS_FAIL(err, DEADLINE,
                       "model '%s': the request waited for too long to be answered within its timeout of %lld "
                       "microseconds",
                       name, allowed_us(infer));
    case PS_SCHED_FULL:
        return PS_FAIL(err, UNAVAILABLE, "model '%s': the queue of requests is full, and others are due earlier", name);
    case PS_SCHED_TIMEOUT:
        return PS_FAIL(err, DEADLINE, "model '%s': the request waited for longer than the queue's timeout", name);
    default: return PS_FAIL(err, UNAVAILABLE, "model '%s' is not loaded", name);
    }
}

ps_status ps_schedule_given_up(const ps_infer *infer, ps_error *err) {
    return PS_FAIL(err, CANCELLED, "model '%s': the client gave the request up", infer->served->name);
}

/* ---- models ---- */

static ps_cache_key profile_key(const ps_served *s, char *target, size_t size) {
    ps_snprintf(target, size, "%016" PRIx64 " %s%s", s->setup, s->device, s->activations == PS_DTYPE_F16 ? " f16" : "");
    return (ps_cache_key) { "latency", s->digest, sizeof s->digest, ps_version(), target };
}

void ps_schedule_recall(ps_served *s) {
    ps_error ignored = PS_ERROR_INIT; /* what is not there is learnt again */
    char target[256];
    void *text;
    ps_cache_key key = profile_key(s, target, sizeof target);
    if (ps_cache_get(s->cache, &key, &text, &s->profiles_size, &ignored) == PS_OK) s->profiles = text;
}

/* As many as its configuration allows, and all models together may have. */
static uint32_t most_queued(const ps_served *s) {
    return s->config.queue_size < PS_RUNNER_MAX_QUEUE ? (uint32_t)s->config.queue_size : PS_RUNNER_MAX_QUEUE;
}

ps_status ps_schedule_model(ps_sched *sched, int64_t target_ns, ps_runner *runner, ps_served *s, ps_error *err) {
    ps_sched_model_options options = { .max_batch = s->max_batch,
                                       .target_ns = target_ns,
                                       .max_queue = most_queued(s),
                                       .weight = s->weight,
                                       .knobs = s->config.knobs };
    ps_error ignored = PS_ERROR_INIT;
    if (s->schedule) return PS_OK;
    PS_TRY(ps_sched_add_model(sched, &options, &s->schedule, err));
    s->runner = runner;
    s->unschedule = ps_runner_forget;
    if (s->profiles) (void)ps_sched_read_profiles(sched, s->schedule, s->profiles, s->profiles_size, &ignored);
    ps_free(s->alloc, s->profiles);
    s->profiles = NULL;
    return PS_OK;
}

void ps_schedule_keep(ps_served *s, ps_mutex *lock) {
    ps_error ignored = PS_ERROR_INIT;
    char target[256];
    ps_str text;
    if (!s->cache) return;
    ps_str_init(&text, s->alloc);
    ps_mutex_lock(lock);
    ps_sched_write_profiles(s->schedule, &text);
    ps_mutex_unlock(lock);
    ps_cache_key key = profile_key(s, target, sizeof target);
    if (!text.failed) (void)ps_cache_put(s->cache, &key, text.data, text.size, &ignored); /* only a cache */
    ps_str_release(&text);
}

/* ---- statistics ---- */

static void write_reasons(const char *name, const uint64_t *counts, ps_str *out) {
    bool any = false;
    ps_str_printf(out, ",\"%s\":{", name);
    for (int i = PS_SCHED_OK + 1; i < PS_SCHED_REASONS; i++) {
        if (!counts[i]) continue;
        ps_str_printf(out, "%s\"%s\":%" PRIu64, any ? "," : "", reason_names[i], counts[i]);
        any = true;
    }
    ps_str_char(out, '}');
}

/* Sizes of batches as a list of {up_to, count}. */
static void write_sizes(const uint64_t *sizes, ps_str *out) {
    bool any = false;
    ps_str_append(out, ",\"batch_sizes\":[");
    for (int i = 0; i < PS_SCHED_HISTOGRAM; i++) {
        if (!sizes[i]) continue;
        ps_str_printf(out, "%s{\"up_to\":%d,\"count\":%" PRIu64 "}", any ? "," : "", 1 << i, sizes[i]);
        any = true;
    }
    ps_str_char(out, ']');
}

void ps_schedule_write_stats(const ps_sched_stats *s, ps_str *out) {
    ps_str_printf(out,
                  ",\"scheduler\":{\"queued\":%u,\"unread\":%u,\"running\":%u,\"admitted\":%" PRIu64
                  ",\"completed\":%" PRIu64 ",\"on_time\":%" PRIu64 ",\"late\":%" PRIu64 ",\"batches\":%" PRIu64
                  ",\"items\":%" PRIu64,
                  s->queued, s->deferred, s->running, s->admitted, s->completed, s->on_time, s->late, s->batches,
                  s->items);
    ps_str_printf(out,
                  ",\"weight\":%g,\"queue_ns\":%" PRIu64 ",\"run_ns\":%" PRIu64 ",\"target_ns\":%" PRId64
                  ",\"prediction_error\":%.4f,\"guard\":%.4f,\"stretch\":%.4f,\"transit_ns\":%" PRId64,
                  s->weight, s->queue_ns, s->run_ns, s->target_ns, s->error, s->guard, s->stretch, s->transit_ns);
    write_reasons("refused", s->refused, out);
    write_reasons("dropped", s->dropped, out);
    write_sizes(s->sizes, out);
    ps_str_char(out, '}');
}
