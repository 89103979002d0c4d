#include "server/metrics.h"

#include <inttypes.h>

#include "polestar/engine.h"

/* What one scrape sees. */
typedef struct scrape {
    ps_str *out;
    ps_served **served; /* references */
    ps_stats_values *stats;
    size_t n_served;
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

/* ---- versions that are loaded ---- */

static void requests(scrape *s) {
    static const char name[] = "polestar_requests_total";
    begin(s->out, name, "counter", "Inference requests that were answered.");
    for (size_t i = 0; i < s->n_served; i++) {
        write_labels(s->out, name, s->served[i]->name, s->served[i]->version);
        write_count(s->out, ",outcome=\"success\"", s->stats[i].success.count);
        write_labels(s->out, name, s->served[i]->name, s->served[i]->version);
        write_count(s->out, ",outcome=\"failure\"", s->stats[i].fail.count);
    }
}

/* A counter at that place of the statistics. */
static void counter(scrape *s, const char *name, const char *help, size_t offset) {
    begin(s->out, name, "counter", help);
    for (size_t i = 0; i < s->n_served; i++) {
        write_labels(s->out, name, s->served[i]->name, s->served[i]->version);
        write_count(s->out, "", *(const uint64_t *)((const char *)&s->stats[i] + offset));
    }
}

static void duration(scrape *s, const char *name, const char *help, size_t offset) {
    char part[64];
    begin(s->out, name, "summary", help);
    for (size_t i = 0; i < s->n_served; i++) {
        const ps_duration *d = (const ps_duration *)((const char *)&s->stats[i] + offset);
        ps_snprintf(part, sizeof part, "%s_sum", name);
        write_labels(s->out, part, s->served[i]->name, s->served[i]->version);
        ps_str_printf(s->out, "} %" PRIu64 ".%09" PRIu64 "\n", d->ns / 1000000000, d->ns % 1000000000);
        ps_snprintf(part, sizeof part, "%s_count", name);
        write_labels(s->out, part, s->served[i]->name, s->served[i]->version);
        write_count(s->out, "", d->count);
    }
}

static void memory(scrape *s) {
    static const char name[] = "polestar_model_bytes";
    begin(s->out, name, "gauge", "Memory that the version holds.");
    for (size_t i = 0; i < s->n_served; i++) {
        write_labels(s->out, name, s->served[i]->name, s->served[i]->version);
        ps_str_append(s->out, ",device=\"");
        write_text(s->out, s->served[i]->device);
        write_count(s->out, "\"", ps_served_memory(s->served[i], NULL));
    }
}

static void write_served(scrape *s) {
    requests(s);
    counter(s, "polestar_inferences_total", "Rows that were inferred.", offsetof(ps_stats_values, inferences));
    counter(s, "polestar_executions_total", "Runs, of one request or several.", offsetof(ps_stats_values, executions));
    duration(s, "polestar_request_duration_seconds", "From arrival to the answer, of those that succeeded.",
             offsetof(ps_stats_values, success));
    duration(s, "polestar_queue_duration_seconds", "Of it, waiting for a runner.", offsetof(ps_stats_values, queue));
    duration(s, "polestar_compute_duration_seconds", "Of it, the run of the model.", offsetof(ps_stats_values, infer));
    memory(s);
}

/* ---- traffic ---- */

static void version_labels(ps_str *out, const char *name, const char *model, int64_t version) {
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
            version_labels(s->out, name, s->traffic[i].model, l->version);
            ps_str_printf(s->out, ",label=\"%s\"} 1\n", l->name);
        }
}

static void routed(scrape *s, const char *name, const char *help, size_t offset) {
    begin(s->out, name, "counter", help);
    for (size_t i = 0; i < s->n_traffic; i++) {
        const ps_traffic_count *c = s->traffic[i].traffic.counts;
        for (size_t k = 0; k < PS_TRAFFIC_VERSIONS && c[k].version; k++) {
            version_labels(s->out, name, s->traffic[i].model, c[k].version);
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
        version_labels(s->out, percent, s->traffic[i].model, t->rollout.to);
        ps_str_printf(s->out, "} %g\n", ps_traffic_percent(t));
    }
    begin(s->out, phase, "gauge", "1 for the phase that the rollout of the version is in.");
    for (size_t i = 0; i < s->n_traffic; i++) {
        const ps_rollout *r = &s->traffic[i].traffic.rollout;
        for (int p = PS_ROLLOUT_PROGRESSING; r->phase != PS_ROLLOUT_NONE && p <= PS_ROLLOUT_ABORTED; p++) {
            version_labels(s->out, phase, s->traffic[i].model, r->to);
            ps_str_printf(s->out, ",phase=\"%s\"} %d\n", ps_rollout_phase_name((ps_rollout_phase)p),
                          p == (int)r->phase);
        }
    }
}

static void shadow_count(scrape *s, const char *name, const ps_traffic_copy *t, const char *outcome, uint64_t count) {
    version_labels(s->out, name, t->model, t->traffic.shadow.to.version);
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

ps_status ps_metrics_write(ps_repository *repo, ps_alloc_state *alloc, ps_str *out, ps_error *err) {
    scrape s = { .out = out };
    ps_status status = PS_OK;
    PS_TRY(ps_repository_acquire_all(repo, &s.served, &s.n_served, err));
    s.stats = ps_alloc_array(alloc, s.n_served + 1, sizeof *s.stats);
    if (!s.stats) PS_FAIL_OUT(err, NO_MEMORY, "out of memory for the metrics");
    for (size_t i = 0; i < s.n_served; i++)
        s.stats[i] = ps_stats_get(&s.served[i]->stats);
    PS_TRY_OUT(ps_repository_copy_traffic(repo, &s.traffic, &s.n_traffic, err));
    begin(out, "polestar_build_info", "gauge", "1.");
    ps_str_printf(out, "polestar_build_info{version=\"%s\"} 1\n", ps_version());
    write_served(&s);
    write_traffic(&s);
out:
    for (size_t i = 0; i < s.n_served; i++)
        ps_served_release(s.served[i]);
    ps_free(alloc, s.served);
    ps_free(alloc, s.stats);
    ps_free(alloc, s.traffic);
    return status;
}
