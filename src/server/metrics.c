#include "server/metrics.h"

#include <inttypes.h>
#include <math.h>

#include "polestar/engine.h"

/* Bounds of durations are powers of two of a millisecond, which are bounds of buckets: 31.25 us to 32.768 s. */
enum { LEAST_POWER = -5, MOST_POWER = 15, TEXT = 64 };

/* What one scrape sees. */
typedef struct scrape {
    ps_str *out;
    ps_counted *counted; /* references */
    ps_stats_values *stats;
    size_t n_counted;
    ps_traffic_copy *traffic;
    size_t n_traffic;
} scrape;

static void begin(ps_str *out, const char *name, const char *type, const char *help) {
    ps_str_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: names have no control characters. */
static void write_text(ps_str *out, const char *text) {
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') ps_str_char(out, '\\');
        ps_str_char(out, *text);
    }
}

/* name{model="…",version="…" */
static void write_labels(ps_str *out, const char *name, const char *model, const char *version) {
    ps_str_append(out, name);
    ps_str_append(out, "{model=\"");
    write_text(out, model);
    ps_str_append(out, "\",version=\"");
    write_text(out, version);
    ps_str_char(out, '"');
}

static void write_count(ps_str *out, const char *more, uint64_t value) {
    ps_str_printf(out, "%s} %" PRIu64 "\n", more, value);
}

/* Of the i-th version. */
static void version_labels(const scrape *s, const char *name, size_t i) {
    write_labels(s->out, name, s->counted[i].of.name, s->counted[i].of.version);
}

/* ---- the process ---- */

static void gauge(ps_str *out, const char *name, const char *help, uint64_t value) {
    begin(out, name, "gauge", help);
    ps_str_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void write_process(ps_str *out, const ps_engine *engine, size_t limit) {
    size_t peak = 0, now = ps_engine_memory(engine, &peak);
    begin(out, "polestar_build_info", "gauge", "1.");
    ps_str_printf(out, "polestar_build_info{version=\"%s\"} 1\n", ps_version());
    gauge(out, "polestar_memory_bytes", "Memory of all models and requests.", now);
    gauge(out, "polestar_memory_peak_bytes", "The most that was.", peak);
    if (limit) gauge(out, "polestar_memory_limit_bytes", "The most that it may be.", limit);
}

/* ---- devices ---- */

static void device_label(ps_str *out, const char *name, const ps_used_device *d) {
    ps_str_printf(out, "%s{device=\"%s\"} ", name, d->name);
}

static void device_memory(ps_str *out, const ps_used_devices *d, const char *name, const char *help, bool limit) {
    begin(out, name, "gauge", help);
    for (size_t i = 0; i < d->n; i++) {
        size_t held, most;
        if (!d->all[i].own_memory) continue;
        ps_used_device_memory(d, i, &held, &most);
        device_label(out, name, &d->all[i]);
        ps_str_printf(out, "%zu\n", limit ? most : held);
    }
}

static void write_devices(ps_str *out, const ps_used_devices *d) {
    static const char runs[] = "polestar_device_runs_total", busy[] = "polestar_device_busy_seconds_total",
                      now[] = "polestar_device_running";
    if (ps_used_devices_have_memory(d)) {
        device_memory(out, d, "polestar_device_memory_bytes", "Memory of the device that models hold.", false);
        device_memory(out, d, "polestar_device_memory_limit_bytes", "The most that it may be.", true);
    }
    begin(out, now, "gauge", "Sessions on the device that run.");
    for (size_t i = 0; i < d->n; i++) {
        device_label(out, now, &d->all[i]);
        ps_str_printf(out, "%d\n", atomic_load(&d->all[i].running));
    }
    begin(out, runs, "counter", "Runs on the device.");
    for (size_t i = 0; i < d->n; i++) {
        device_label(out, runs, &d->all[i]);
        ps_str_printf(out, "%llu\n", atomic_load(&d->all[i].runs));
    }
    begin(out, busy, "counter", "Time that they took, all together, with reading inputs and writing replies.");
    for (size_t i = 0; i < d->n; i++) {
        device_label(out, busy, &d->all[i]);
        ps_str_printf(out, "%.9f\n", (double)atomic_load(&d->all[i].busy_ns) / 1e9);
    }
}

/* ---- versions ---- */

static void requests(scrape *s) {
    static const char name[] = "polestar_requests_total";
    begin(s->out, name, "counter", "Inference requests that were answered.");
    for (size_t i = 0; i < s->n_counted; i++) {
        version_labels(s, name, i);
        write_count(s->out, ",outcome=\"success\"", s->stats[i].success.count);
        version_labels(s, name, i);
        write_count(s->out, ",outcome=\"failure\"", s->stats[i].fail.count);
    }
}

static void failures(scrape *s) {
    static const char name[] = "polestar_request_failures_total";
    begin(s->out, name, "counter", "Of them, those that failed, by reason.");
    for (size_t i = 0; i < s->n_counted; i++)
        for (int k = 0; k < PS_FAILURES; k++) {
            version_labels(s, name, i);
            ps_str_printf(s->out, ",reason=\"%s\"} %" PRIu64 "\n", ps_failure_name((ps_failure)k),
                          s->stats[i].failures[k]);
        }
}

/* A counter at that place of the statistics. */
static void counter(scrape *s, const char *name, const char *help, size_t offset) {
    begin(s->out, name, "counter", help);
    for (size_t i = 0; i < s->n_counted; i++) {
        version_labels(s, name, i);
        write_count(s->out, "", *(const uint64_t *)((const char *)&s->stats[i] + offset));
    }
}

static void write_seconds(ps_str *out, const char *more, uint64_t ns) {
    ps_str_printf(out, "%s} %" PRIu64 ".%09" PRIu64 "\n", more, ns / 1000000000, ns % 1000000000);
}

/* Buckets of one version; `more`: further labels. */
static void write_histogram(scrape *s, const char *name, size_t i, const char *more, const ps_durations *h) {
    char part[TEXT];
    ps_snprintf(part, sizeof part, "%s_bucket", name);
    for (int power = LEAST_POWER; power <= MOST_POWER; power++) {
        version_labels(s, part, i);
        ps_str_printf(s->out, "%s,le=\"%.9g\"} %" PRIu64 "\n", more, ldexp(1e-3, power),
                      ps_durations_at_most(h, power));
    }
    version_labels(s, part, i);
    ps_str_printf(s->out, "%s,le=\"+Inf\"} %" PRIu64 "\n", more, h->count);
    ps_snprintf(part, sizeof part, "%s_sum", name);
    version_labels(s, part, i);
    write_seconds(s->out, more, h->ns);
    ps_snprintf(part, sizeof part, "%s_count", name);
    version_labels(s, part, i);
    write_count(s->out, more, h->count);
}

static void latency(scrape *s, const char *name, const char *help, ps_latency which) {
    ps_durations h;
    begin(s->out, name, "histogram", help);
    for (size_t i = 0; i < s->n_counted; i++) {
        ps_stats_latency(s->counted[i].stats, which, &h);
        write_histogram(s, name, i, "", &h);
    }
}

/* Those that found their model, and those that waited for it. */
static void request_latency(scrape *s) {
    static const char name[] = "polestar_request_duration_seconds";
    ps_durations h;
    begin(s->out, name, "histogram", "From arrival to the answer, of those that succeeded.");
    for (size_t i = 0; i < s->n_counted; i++) {
        ps_stats_latency(s->counted[i].stats, PS_LATENCY_HIT, &h);
        write_histogram(s, name, i, ",residency=\"hit\"", &h);
        ps_stats_latency(s->counted[i].stats, PS_LATENCY_MISS, &h);
        write_histogram(s, name, i, ",residency=\"miss\"", &h);
    }
}

static void batches(scrape *s) {
    static const char name[] = "polestar_batch_size";
    begin(s->out, name, "histogram", "Rows of a run.");
    for (size_t i = 0; i < s->n_counted; i++) {
        const ps_stats_values *v = &s->stats[i];
        uint64_t sum = 0;
        for (int k = 0; k < PS_STATS_BATCHES; k++) {
            sum += v->batches[k];
            version_labels(s, "polestar_batch_size_bucket", i);
            if (k + 1 < PS_STATS_BATCHES)
                ps_str_printf(s->out, ",le=\"%d\"} %" PRIu64 "\n", 1 << k, sum);
            else
                write_count(s->out, ",le=\"+Inf\"", sum);
        }
        version_labels(s, "polestar_batch_size_sum", i);
        write_count(s->out, "", v->batch_rows);
        version_labels(s, "polestar_batch_size_count", i);
        write_count(s->out, "", sum);
    }
}

static void loads(scrape *s) {
    static const char name[] = "polestar_model_loads_total", took[] = "polestar_model_load_duration_seconds";
    begin(s->out, name, "counter", "Loads that succeeded.");
    for (size_t i = 0; i < s->n_counted; i++) {
        version_labels(s, name, i);
        write_count(s->out, ",source=\"file\"", s->stats[i].load.count - s->stats[i].cached_loads);
        version_labels(s, name, i);
        write_count(s->out, ",source=\"cache\"", s->stats[i].cached_loads);
    }
    begin(s->out, took, "summary", "What they took, without waiting for room.");
    for (size_t i = 0; i < s->n_counted; i++) {
        version_labels(s, "polestar_model_load_duration_seconds_sum", i);
        write_seconds(s->out, "", s->stats[i].load.ns);
        version_labels(s, "polestar_model_load_duration_seconds_count", i);
        write_count(s->out, "", s->stats[i].load.count);
    }
}

static void memory(scrape *s, const char *name, const char *help, bool peak) {
    begin(s->out, name, "gauge", help);
    for (size_t i = 0; i < s->n_counted; i++) {
        const ps_stats_version of = s->counted[i].of;
        const uint64_t before = s->stats[i].peak_bytes;
        version_labels(s, name, i);
        ps_str_append(s->out, ",device=\"");
        write_text(s->out, of.device);
        write_count(s->out, "\"", !peak ? of.bytes : of.peak_bytes > before ? of.peak_bytes : before);
    }
}

static void loaded(scrape *s) {
    static const char name[] = "polestar_model_loaded", used[] = "polestar_last_request_timestamp_seconds";
    begin(s->out, name, "gauge", "1 where the version is loaded, else 0.");
    for (size_t i = 0; i < s->n_counted; i++) {
        version_labels(s, name, i);
        write_count(s->out, "", s->counted[i].loaded);
    }
    begin(s->out, used, "gauge", "When the last request ended, since 1970; 0: there was none.");
    for (size_t i = 0; i < s->n_counted; i++) {
        const uint64_t ms = s->stats[i].last_used_ms;
        version_labels(s, used, i);
        ps_str_printf(s->out, "} %" PRIu64 ".%03" PRIu64 "\n", ms / 1000, ms % 1000);
    }
}

static void write_counted(scrape *s) {
    requests(s);
    failures(s);
    counter(s, "polestar_inferences_total", "Rows that were inferred.", offsetof(ps_stats_values, inferences));
    counter(s, "polestar_executions_total", "Runs, of one request or several.", offsetof(ps_stats_values, executions));
    request_latency(s);
    latency(s, "polestar_queue_duration_seconds", "Of it, waiting for a runner.", PS_LATENCY_QUEUE);
    latency(s, "polestar_compute_duration_seconds", "Of it, the run of the model.", PS_LATENCY_COMPUTE);
    batches(s);
    loaded(s);
    loads(s);
    counter(s, "polestar_model_load_failures_total", "Loads that failed.", offsetof(ps_stats_values, failed_loads));
    counter(s, "polestar_model_evictions_total", "How often the version had to make room.",
            offsetof(ps_stats_values, evictions));
    memory(s, "polestar_model_bytes", "Memory that the version holds.", false);
    memory(s, "polestar_model_peak_bytes", "The most that the version held.", true);
}

/* ---- traffic ---- */

static void number_labels(ps_str *out, const char *name, const char *model, int64_t version) {
    char text[24];
    ps_snprintf(text, sizeof text, "%" PRId64, version);
    write_labels(out, name, model, text);
}

static void labels(scrape *s) {
    static const char name[] = "polestar_version_label";
    begin(s->out, name, "gauge", "1 where the label is.");
    for (size_t i = 0; i < s->n_traffic; i++)
        for (size_t k = 0; k < s->traffic[i].traffic.n_labels; k++) {
            const ps_traffic_label *l = &s->traffic[i].traffic.labels[k];
            number_labels(s->out, name, s->traffic[i].model, l->version);
            ps_str_printf(s->out, ",label=\"%s\"} 1\n", l->name);
        }
}

static void routed(scrape *s, const char *name, const char *help, size_t offset) {
    begin(s->out, name, "counter", help);
    for (size_t i = 0; i < s->n_traffic; i++) {
        const ps_traffic_count *c = s->traffic[i].traffic.counts;
        for (size_t k = 0; k < PS_TRAFFIC_VERSIONS && c[k].version; k++) {
            number_labels(s->out, name, s->traffic[i].model, c[k].version);
            write_count(s->out, "", *(const uint64_t *)((const char *)&c[k] + offset));
        }
    }
}

static void rollouts(scrape *s) {
    static const char percent[] = "polestar_rollout_percent", phase[] = "polestar_rollout_phase";
    begin(s->out, percent, "gauge", "Share of the traffic that the version has by its rollout.");
    for (size_t i = 0; i < s->n_traffic; i++) {
        const ps_traffic *t = &s->traffic[i].traffic;
        if (t->rollout.phase == PS_ROLLOUT_NONE) continue;
        number_labels(s->out, percent, s->traffic[i].model, t->rollout.to);
        ps_str_printf(s->out, "} %g\n", ps_traffic_percent(t));
    }
    begin(s->out, phase, "gauge", "1 for the phase that the rollout of the version is in.");
    for (size_t i = 0; i < s->n_traffic; i++) {
        const ps_rollout *r = &s->traffic[i].traffic.rollout;
        for (int p = PS_ROLLOUT_PROGRESSING; r->phase != PS_ROLLOUT_NONE && p <= PS_ROLLOUT_ABORTED; p++) {
            number_labels(s->out, phase, s->traffic[i].model, r->to);
            ps_str_printf(s->out, ",phase=\"%s\"} %d\n", ps_rollout_phase_name((ps_rollout_phase)p),
                          p == (int)r->phase);
        }
    }
}

static void shadow_count(scrape *s, const char *name, const ps_traffic_copy *t, const char *outcome, uint64_t count) {
    number_labels(s->out, name, t->model, t->traffic.shadow.to.version);
    ps_str_printf(s->out, ",outcome=\"%s\"} %" PRIu64 "\n", outcome, count);
}

static void shadows(scrape *s) {
    static const char copies[] = "polestar_shadow_requests_total", answers[] = "polestar_shadow_answers_total";
    begin(s->out, copies, "counter", "Requests that were to be copied to the shadow.");
    for (size_t i = 0; i < s->n_traffic; i++) {
        const ps_traffic_copy *t = &s->traffic[i];
        if (!t->traffic.shadow.on) continue;
        shadow_count(s, copies, t, "copied", t->traffic.shadow_count.copied);
        shadow_count(s, copies, t, "dropped", t->traffic.shadow_count.dropped);
    }
    begin(s->out, answers, "counter", "Answers of the shadow beside those that were sent.");
    for (size_t i = 0; i < s->n_traffic; i++) {
        const ps_traffic_copy *t = &s->traffic[i];
        const ps_shadow_count *c = &t->traffic.shadow_count;
        if (!t->traffic.shadow.on) continue;
        shadow_count(s, answers, t, "agreed", c->agreed);
        shadow_count(s, answers, t, "disagreed", c->compared - c->agreed - c->failed);
        shadow_count(s, answers, t, "failed", c->failed);
    }
}

static void write_traffic(scrape *s) {
    labels(s);
    routed(s, "polestar_routed_requests_total", "Requests that rules of traffic sent to the version.",
           offsetof(ps_traffic_count, requests));
    routed(s, "polestar_routed_errors_total", "Of them, those that it failed.", offsetof(ps_traffic_count, errors));
    routed(s, "polestar_routed_fallbacks_total", "Those meant for it that another version answered.",
           offsetof(ps_traffic_count, fallbacks));
    rollouts(s);
    shadows(s);
}

ps_status ps_metrics_write(ps_repository *repo, ps_engine *engine, ps_str *out, ps_error *err) {
    ps_alloc_state *alloc = ps_engine_alloc(engine);
    scrape s = { .out = out };
    ps_status status = PS_OK;
    PS_TRY(ps_repository_counted(repo, NULL, NULL, NULL, &s.counted, &s.n_counted, err));
    s.stats = ps_alloc_array(alloc, s.n_counted + 1, sizeof *s.stats);
    if (!s.stats) PS_FAIL_OUT(err, NO_MEMORY, "out of memory for the metrics");
    for (size_t i = 0; i < s.n_counted; i++)
        s.stats[i] = ps_stats_get(s.counted[i].stats);
    PS_TRY_OUT(ps_repository_copy_traffic(repo, &s.traffic, &s.n_traffic, err));
    write_process(out, engine, atomic_load(&alloc->limit));
    write_devices(out, ps_repository_devices(repo));
    write_counted(&s);
    write_traffic(&s);
out:
    ps_counted_free(repo, s.counted, s.n_counted);
    ps_free(alloc, s.stats);
    ps_free(alloc, s.traffic);
    return status;
}
