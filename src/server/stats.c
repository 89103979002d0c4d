#include "server/stats.h"

#include <inttypes.h>

#include "base/os.h"
#include "server/json_text.h"

bool ps_stats_init(ps_stats *stats) {
    stats->values = (ps_stats_values) { 0 };
    return ps_mutex_init(&stats->lock);
}

void ps_stats_destroy(ps_stats *stats) {
    ps_mutex_destroy(&stats->lock);
}

static void add(ps_duration *d, int64_t ns) {
    d->count++;
    d->ns += ns > 0 ? (uint64_t)ns : 0;
}

static void add_run(ps_stats_values *v, const ps_stats_sample *sample) {
    size_t i = 0;
    while (i < PS_STATS_SIZES - 1 && v->sizes[i].items && v->sizes[i].items != sample->batch)
        i++;
    ps_stats_size *size = &v->sizes[i];
    size->items = sample->batch;
    v->executions++;
    add(&size->input, sample->input);
    add(&size->infer, sample->infer);
    add(&size->output, sample->output);
}

void ps_stats_success(ps_stats *stats, const ps_stats_sample *sample) {
    uint64_t now_ms = (uint64_t)ps_clock_wall_ns() / 1000000;
    ps_mutex_lock(&stats->lock);
    ps_stats_values *v = &stats->values;
    v->last_inference_ms = now_ms;
    v->inferences += sample->items;
    if (sample->batch) add_run(v, sample);
    add(&v->success, sample->total);
    add(&v->queue, sample->queue);
    add(&v->input, sample->input);
    add(&v->infer, sample->infer);
    add(&v->output, sample->output);
    ps_mutex_unlock(&stats->lock);
}

void ps_stats_fail(ps_stats *stats, int64_t total_ns) {
    ps_mutex_lock(&stats->lock);
    add(&stats->values.fail, total_ns);
    ps_mutex_unlock(&stats->lock);
}

ps_stats_values ps_stats_get(ps_stats *stats) {
    ps_mutex_lock(&stats->lock);
    ps_stats_values v = stats->values;
    ps_mutex_unlock(&stats->lock);
    return v;
}

void ps_stats_resume(ps_stats *stats, const ps_stats_values *values) {
    ps_mutex_lock(&stats->lock);
    stats->values = *values;
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

void ps_stats_write(ps_stats *stats, const char *name, const char *version, const char *device, size_t bytes,
                    ps_str *out) {
    static const ps_duration none = { 0, 0 };
    ps_stats_values v = ps_stats_get(stats);
    ps_str_append(out, "{\"name\":");
    ps_json_write_string(out, name);
    ps_str_append(out, ",\"version\":");
    ps_json_write_string(out, version);
    ps_str_printf(out, ",\"last_inference\":%" PRIu64 ",\"inference_count\":%" PRIu64 ",\"execution_count\":%" PRIu64,
                  v.last_inference_ms, v.inferences, v.executions);
    ps_str_printf(out, ",\"inference_stats\":{\"success\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64 "}", v.success.count,
                  v.success.ns);
    write_duration(out, "fail", v.fail);
    write_duration(out, "queue", v.queue);
    write_duration(out, "compute_input", v.input);
    write_duration(out, "compute_infer", v.infer);
    write_duration(out, "compute_output", v.output);
    write_duration(out, "cache_hit", none);
    write_duration(out, "cache_miss", none);
    ps_str_append(out, "},\"response_stats\":{},\"batch_stats\":[");
    write_batches(out, &v);
    ps_str_append(out, "],\"memory_usage\":[{\"type\":");
    ps_json_write_string(out, device);
    ps_str_printf(out, ",\"id\":0,\"byte_size\":%zu}]", bytes);
}
