#include "server/stats.h"

#include <inttypes.h>

#include "base/os.h"
#include "server/json_text.h"

static const char *const failure_names[PS_FAILURES] = {
    [PS_FAILURE_INVALID] = "invalid_argument", [PS_FAILURE_QUEUE_FULL] = "queue_full",
    [PS_FAILURE_TOO_LATE] = "too_late",        [PS_FAILURE_DEADLINE] = "deadline_exceeded",
    [PS_FAILURE_MEMORY] = "out_of_memory",     [PS_FAILURE_LOAD_TIMEOUT] = "load_timeout",
    [PS_FAILURE_LOAD_FAILED] = "load_failed",  [PS_FAILURE_UNAVAILABLE] = "unavailable",
    [PS_FAILURE_CANCELLED] = "cancelled",      [PS_FAILURE_INTERNAL] = "internal",
};

const char *ps_failure_name(ps_failure failure) {
    return failure_names[failure];
}

ps_failure ps_failure_of(ps_status status) {
    switch (status) {
    case PS_NO_MEMORY: return PS_FAILURE_MEMORY;
    case PS_DEADLINE: return PS_FAILURE_DEADLINE;
    case PS_CANCELLED: return PS_FAILURE_CANCELLED;
    case PS_UNAVAILABLE: return PS_FAILURE_UNAVAILABLE;
    case PS_INTERNAL:
    case PS_IO: return PS_FAILURE_INTERNAL;
    default: return PS_FAILURE_INVALID;
    }
}

/* ---- life ---- */

ps_stats *ps_stats_create(ps_alloc_state *alloc) {
    ps_stats *stats = ps_alloc_zero(alloc, sizeof *stats);
    if (!stats) return NULL;
    atomic_init(&stats->refs, 1);
    stats->alloc = alloc;
    if (ps_mutex_init(&stats->lock)) return stats;
    ps_free(alloc, stats);
    return NULL;
}

ps_stats *ps_stats_retain(ps_stats *stats) {
    atomic_fetch_add_explicit(&stats->refs, 1, memory_order_relaxed);
    return stats;
}

void ps_stats_release(ps_stats *stats) {
    if (!stats || atomic_fetch_sub_explicit(&stats->refs, 1, memory_order_acq_rel) != 1) return;
    ps_mutex_destroy(&stats->lock);
    ps_free(stats->alloc, stats);
}

/* ---- counting ---- */

static void add(ps_duration *d, int64_t ns) {
    d->count++;
    d->ns += ns > 0 ? (uint64_t)ns : 0;
}

static uint64_t wall_ms(void) {
    return (uint64_t)ps_clock_wall_ns() / 1000000;
}

static void add_run(ps_stats_values *v, const ps_stats_sample *sample) {
    size_t i = 0, k = 0;
    while (i < PS_STATS_SIZES - 1 && v->sizes[i].items && v->sizes[i].items != sample->batch)
        i++;
    while (k < PS_STATS_BATCHES - 1 && sample->batch > 1u << k)
        k++;
    ps_stats_size *size = &v->sizes[i];
    size->items = sample->batch;
    v->batches[k]++;
    v->batch_rows += sample->batch;
    v->executions++;
    add(&size->input, sample->input);
    add(&size->infer, sample->infer);
    add(&size->output, sample->output);
}

void ps_stats_success(ps_stats *stats, const ps_stats_sample *sample) {
    uint64_t now_ms = wall_ms();
    ps_mutex_lock(&stats->lock);
    ps_stats_values *v = &stats->values;
    v->last_inference_ms = v->last_used_ms = now_ms;
    v->inferences += sample->items;
    if (sample->batch) add_run(v, sample);
    add(&v->success, sample->total);
    add(&v->queue, sample->queue);
    add(&v->input, sample->input);
    add(&v->infer, sample->infer);
    add(&v->output, sample->output);
    ps_durations_add(&stats->latency[PS_LATENCY_QUEUE], sample->queue);
    ps_durations_add(&stats->latency[PS_LATENCY_COMPUTE], sample->infer);
    ps_durations_add(&stats->latency[sample->missed ? PS_LATENCY_MISS : PS_LATENCY_HIT], sample->total);
    ps_mutex_unlock(&stats->lock);
}

void ps_stats_fail(ps_stats *stats, ps_failure failure, int64_t total_ns) {
    uint64_t now_ms = wall_ms();
    ps_mutex_lock(&stats->lock);
    stats->values.last_used_ms = now_ms;
    stats->values.failures[failure]++;
    add(&stats->values.fail, total_ns);
    ps_mutex_unlock(&stats->lock);
}

void ps_stats_fail_before(ps_stats *stats, const ps_duration failures[PS_FAILURES]) {
    ps_mutex_lock(&stats->lock);
    for (int i = 0; i < PS_FAILURES; i++) {
        stats->values.failures[i] += failures[i].count;
        stats->values.fail.count += failures[i].count;
        stats->values.fail.ns += failures[i].ns;
    }
    ps_mutex_unlock(&stats->lock);
}

void ps_stats_loaded(ps_stats *stats, int64_t ns, bool from_cache) {
    ps_mutex_lock(&stats->lock);
    add(&stats->values.load, ns);
    stats->values.cached_loads += from_cache;
    ps_mutex_unlock(&stats->lock);
}

void ps_stats_load_failed(ps_stats *stats) {
    ps_mutex_lock(&stats->lock);
    stats->values.failed_loads++;
    ps_mutex_unlock(&stats->lock);
}

void ps_stats_evicted(ps_stats *stats) {
    ps_mutex_lock(&stats->lock);
    stats->values.evictions++;
    ps_mutex_unlock(&stats->lock);
}

void ps_stats_held(ps_stats *stats, size_t peak_bytes) {
    ps_mutex_lock(&stats->lock);
    if (peak_bytes > stats->values.peak_bytes) stats->values.peak_bytes = peak_bytes;
    ps_mutex_unlock(&stats->lock);
}

/* ---- reading ---- */

ps_stats_values ps_stats_get(ps_stats *stats) {
    ps_mutex_lock(&stats->lock);
    ps_stats_values v = stats->values;
    ps_mutex_unlock(&stats->lock);
    return v;
}

void ps_stats_latency(ps_stats *stats, ps_latency which, ps_durations *ret) {
    ps_mutex_lock(&stats->lock);
    *ret = stats->latency[which == PS_LATENCY_TOTAL ? PS_LATENCY_HIT : which];
    if (which == PS_LATENCY_TOTAL) ps_durations_merge(ret, &stats->latency[PS_LATENCY_MISS]);
    ps_mutex_unlock(&stats->lock);
}

static void write_duration(ps_str *out, const char *key, ps_duration d) {
    ps_str_printf(out, ",\"%s\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64 "}", key, d.count, d.ns);
}

static void write_batches(ps_str *out, const ps_stats_values *v) {
    for (size_t i = 0; i < PS_STATS_SIZES && v->sizes[i].items; i++) {
        const ps_stats_size *size = &v->sizes[i];
        ps_str_printf(out, "%s{\"batch_size\":%" PRIu64, i ? "," : "", size->items);
        write_duration(out, "compute_input", size->input);
        write_duration(out, "compute_infer", size->infer);
        write_duration(out, "compute_output", size->output);
        ps_str_char(out, '}');
    }
}

static void write_head(const ps_stats_version *of, const ps_stats_values *v, ps_str *out) {
    ps_str_append(out, "{\"name\":");
    ps_json_write_string(out, of->name);
    ps_str_append(out, ",\"version\":");
    ps_json_write_string(out, of->version);
    ps_str_printf(out, ",\"state\":\"%s\",\"last_inference\":%" PRIu64 ",\"last_used\":%" PRIu64, of->state,
                  v->last_inference_ms, v->last_used_ms);
    ps_str_printf(out, ",\"inference_count\":%" PRIu64 ",\"execution_count\":%" PRIu64, v->inferences, v->executions);
}

static void write_inferences(const ps_stats_values *v, ps_str *out) {
    static const ps_duration none = { 0, 0 };
    ps_str_printf(out, ",\"inference_stats\":{\"success\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64 "}", v->success.count,
                  v->success.ns);
    write_duration(out, "fail", v->fail);
    write_duration(out, "queue", v->queue);
    write_duration(out, "compute_input", v->input);
    write_duration(out, "compute_infer", v->infer);
    write_duration(out, "compute_output", v->output);
    write_duration(out, "cache_hit", none); /* of a cache of answers, which there is not */
    write_duration(out, "cache_miss", none);
    ps_str_append(out, "},\"response_stats\":{},\"batch_stats\":[");
    write_batches(out, v);
    ps_str_char(out, ']');
}

static void write_failures(const ps_stats_values *v, ps_str *out) {
    ps_str_append(out, ",\"failures\":{");
    for (int i = 0; i < PS_FAILURES; i++)
        ps_str_printf(out, "%s\"%s\":%" PRIu64, i ? "," : "", failure_names[i], v->failures[i]);
    ps_str_char(out, '}');
}

static void write_latencies(ps_stats *stats, ps_str *out) {
    static const char *const names[] = {
        [PS_LATENCY_QUEUE] = "queue", [PS_LATENCY_COMPUTE] = "compute", [PS_LATENCY_HIT] = "hit",
        [PS_LATENCY_MISS] = "miss",   [PS_LATENCY_TOTAL] = "total",
    };
    ps_durations h;
    ps_str_append(out, ",\"latency\":{");
    for (int i = 0; i <= PS_LATENCY_TOTAL; i++) {
        ps_stats_latency(stats, (ps_latency)i, &h);
        ps_str_printf(out, "%s\"%s\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64, i ? "," : "", names[i], h.count, h.ns);
        ps_str_printf(out, ",\"p50_ns\":%" PRId64 ",\"p90_ns\":%" PRId64 ",\"p99_ns\":%" PRId64 "}",
                      ps_durations_quantile(&h, 0.5), ps_durations_quantile(&h, 0.9), ps_durations_quantile(&h, 0.99));
    }
    ps_str_char(out, '}');
}

static void write_residency(const ps_stats_version *of, const ps_stats_values *v, ps_str *out) {
    ps_str_printf(out, ",\"loads\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64 ",\"from_cache\":%" PRIu64, v->load.count,
                  v->load.ns, v->cached_loads);
    ps_str_printf(out,
                  ",\"failed\":%" PRIu64 "},\"evictions\":%" PRIu64 ",\"memory_usage\":[{\"type\":", v->failed_loads,
                  v->evictions);
    ps_json_write_string(out, of->device);
    const uint64_t peak = of->peak_bytes > v->peak_bytes ? of->peak_bytes : v->peak_bytes;
    ps_str_printf(out, ",\"id\":0,\"byte_size\":%zu,\"peak_byte_size\":%" PRIu64 "}]", of->bytes, peak);
}

void ps_stats_write(ps_stats *stats, const ps_stats_version *of, ps_str *out) {
    ps_stats_values v = ps_stats_get(stats);
    write_head(of, &v, out);
    write_inferences(&v, out);
    write_failures(&v, out);
    write_latencies(stats, out);
    write_residency(of, &v, out);
}
