/* report.c - what the requests of a run add up to. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "open_loop.h"

enum { STATUSES = 1000 };

typedef struct sums {
    size_t offered, ok, good, late, wrong, refused, lost, no_connection, unanswered, unreadable;
    size_t by_status[STATUSES]; /* other than 200 */
    double *ms;                 /* of 200s, sorted */
    double max_behind_ms;       /* the most that a request was sent after its time */
} sums;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double latency_ms(const ol_request *r) {
    return (double)(r->done - r->due) / 1e6;
}

static void count_failure(sums *s, int status) {
    if (status == OL_UNANSWERED)
        s->unanswered++;
    else if (status == OL_LOST)
        s->lost++;
    else if (status == OL_NO_CONNECTION)
        s->no_connection++;
    else if (status == OL_WRONG)
        s->wrong++;
    else if (status < 0 || status >= STATUSES)
        s->unreadable++;
    else
        s->by_status[status]++;
    s->refused += status == 503 || status == 429;
}

static void count(const ol_run *run, const ol_request *r, double late_ms, sums *s) {
    const double target = run->models[r->model].target_ms;
    const double end_ms = (run->warmup + run->duration + run->drain) * 1e3, due_ms = (double)r->due / 1e6;
    const double behind = (r->sent ? (double)r->sent / 1e6 : end_ms) - due_ms;
    s->offered++;
    s->late += behind > late_ms;
    if (behind > s->max_behind_ms) s->max_behind_ms = behind;
    if (r->status != 200) {
        count_failure(s, r->status);
        return;
    }
    s->ms[s->ok++] = latency_ms(r);
    s->good += target <= 0 || latency_ms(r) <= target;
}

/* Of one model, or of all (model == n_models). The warm-up does not count. */
static sums add_up(const ol_run *run, size_t model, double late_ms) {
    sums s = { .ms = ol_alloc(run->n_requests, sizeof *s.ms) };
    const int64_t from = (int64_t)(run->warmup * 1e9);
    for (size_t i = 0; i < run->n_requests; i++) {
        const ol_request *r = &run->requests[i];
        if (r->due >= from && (model == run->n_models || r->model == model)) count(run, r, late_ms, &s);
    }
    qsort(s.ms, s.ok, sizeof *s.ms, by_value);
    return s;
}

/* The smallest latency that so many percent do not exceed. */
static double percentile(const sums *s, double percent) {
    if (!s->ok) return NAN;
    size_t rank = (size_t)ceil((double)s->ok * percent / 100);
    return s->ms[rank ? rank - 1 : 0];
}

/* ---- table ---- */

static void print_failures(const sums *s) {
    static const char *const names[] = { "wrong answer", "connection lost", "no connection", "unanswered",
                                         "unreadable" };
    const size_t counts[] = { s->wrong, s->lost, s->no_connection, s->unanswered, s->unreadable };
    for (int status = 0; status < STATUSES; status++)
        if (s->by_status[status]) printf("    HTTP %d: %zu\n", status, s->by_status[status]);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i]) printf("    %s: %zu\n", names[i], counts[i]);
}

static void print_line(const ol_run *run, const char *name, const sums *s) {
    const double offered = s->offered ? (double)s->offered : 1;
    printf("%-20.20s %9.1f %9.1f %6.1f%% %8.3f %8.3f %8.3f %8.3f %8.1f%%\n", name, (double)s->offered / run->duration,
           (double)s->good / run->duration, 100 * (double)s->good / offered, percentile(s, 50), percentile(s, 90),
           percentile(s, 99), percentile(s, 99.9), 100 * (double)s->late / offered);
    print_failures(s);
}

static void print_table(const ol_run *run, const ol_output *o) {
    printf("%-20s %9s %9s %7s %8s %8s %8s %8s %9s\n", "model", "offered/s", "good/s", "good", "p50 ms", "p90", "p99",
           "p99.9", "sent late");
    for (size_t m = 0; m < run->n_models + (run->n_models > 1); m++) {
        sums s = add_up(run, m, o->late_ms);
        print_line(run, m < run->n_models ? run->models[m].name : "all", &s);
        if (m + 1 >= run->n_models && s.late * 100 > s.offered)
            printf("    sent late: more than %g ms behind, at most %.1f ms; %s\n", o->late_ms, s.max_behind_ms,
                   run->peak_connections == run->connections ? "the server kept every connection busy"
                                                             : "this driver had too little of a CPU");
        free(s.ms);
    }
    printf("connections: %zu of %zu\n", run->peak_connections, run->connections);
}

/* ---- JSON ---- */

static json_t *ms_or_null(double value) {
    return isnan(value) ? json_null() : json_real(round(value * 1e6) / 1e6);
}

static json_t *json_of(const ol_run *run, const char *name, double target_ms, const sums *s) {
    json_t *statuses = json_object();
    char key[16];
    for (int i = 0; i < STATUSES; i++) {
        if (!s->by_status[i]) continue;
        snprintf(key, sizeof key, "%d", i);
        json_object_set_new(statuses, key, json_integer((json_int_t)s->by_status[i]));
    }
    json_t *latency = json_pack("{s:o, s:o, s:o, s:o, s:o}", "p50", ms_or_null(percentile(s, 50)), "p90",
                                ms_or_null(percentile(s, 90)), "p99", ms_or_null(percentile(s, 99)), "p99.9",
                                ms_or_null(percentile(s, 99.9)), "max", ms_or_null(percentile(s, 100)));
    json_t *counts = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "offered", (json_int_t)s->offered,
                               "ok", (json_int_t)s->ok, "good", (json_int_t)s->good, "sent_late", (json_int_t)s->late,
                               "refused", (json_int_t)s->refused, "wrong", (json_int_t)s->wrong, "lost",
                               (json_int_t)s->lost, "no_connection", (json_int_t)s->no_connection, "unanswered",
                               (json_int_t)s->unanswered, "unreadable", (json_int_t)s->unreadable);
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:o, s:o, s:o, s:f}", "model", name, "target_ms", target_ms,
                     "offered_per_second", (double)s->offered / run->duration, "goodput_per_second",
                     (double)s->good / run->duration, "good_share",
                     s->offered ? (double)s->good / (double)s->offered : 0.0, "counts", counts, "errors_by_status",
                     statuses, "latency_ms", latency, "max_sent_late_ms", s->max_behind_ms);
}

static void print_json(const ol_run *run, const ol_output *o) {
    json_t *models = json_array(), *all = NULL;
    for (size_t m = 0; m <= run->n_models; m++) {
        sums s = add_up(run, m, o->late_ms);
        if (m < run->n_models)
            json_array_append_new(models, json_of(run, run->models[m].name, run->models[m].target_ms, &s));
        else
            all = json_of(run, "all", run->n_models == 1 ? run->models[0].target_ms : 0.0, &s);
        free(s.ms);
    }
    json_t *root = json_pack("{s:s, s:f, s:f, s:I, s:I, s:o, s:o}", "command", o->note, "seconds", run->duration,
                             "warmup_seconds", run->warmup, "connections", (json_int_t)run->connections,
                             "peak_connections", (json_int_t)run->peak_connections, "models", models, "all", all);
    if (!root) ol_die("out of memory");
    json_dumpf(root, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(root);
}

/* ---- CSV ---- */

/* Times in seconds and milliseconds; an empty latency has no reply. */
static bool write_csv(const ol_run *run, const char *path) {
    FILE *file = fopen(path, "w");
    bool ok = file != NULL;
    if (ok) fprintf(file, "model,due_s,sent_late_ms,latency_ms,status\n");
    for (size_t i = 0; ok && i < run->n_requests; i++) {
        const ol_request *r = &run->requests[i];
        fprintf(file, "\"%s\",%.6f,", run->models[r->model].name, (double)r->due / 1e9);
        if (r->sent) fprintf(file, "%.4f", (double)(r->sent - r->due) / 1e6);
        fprintf(file, ",");
        if (r->done) fprintf(file, "%.4f", latency_ms(r));
        fprintf(file, ",%d\n", r->status);
    }
    if (file && fclose(file) != 0) ok = false;
    if (!ok) fprintf(stderr, "open_loop: %s: %s\n", path, strerror(errno));
    return ok;
}

bool ol_report(const ol_run *run, const ol_output *output) {
    if (output->json)
        print_json(run, output);
    else
        print_table(run, output);
    return !output->csv || write_csv(run, output->csv);
}
