/* bench.c - latency of a model on this machine. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { MAX_LIST = 32, MIN_RUNS = 5, WARMUP_RUNS = 3 };

/* One batch size and thread count. */
typedef struct measurement {
    int batch, threads; /* 0: as the file or the machine says */
    double first_ms, min_ms, median_ms, p90_ms, p99_ms, runs_per_s;
    size_t runs;
    ps_session_stats stats;
    json_t *steps; /* NULL without --profile */
} measurement;

/* ---- statistics ---- */

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of sorted values: the smallest that at least that share of them does not exceed. */
static double percentile(const double *sorted, size_t n, double share) {
    const size_t rank = (size_t)ceil(share * (double)n);
    return sorted[rank ? rank - 1 : 0];
}

static void summarize(measurement *m, double *times, size_t n, double seconds) {
    qsort(times, n, sizeof *times, by_size);
    m->runs = n;
    m->min_ms = times[0];
    m->median_ms = n % 2 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2;
    m->p90_ms = percentile(times, n, 0.9);
    m->p99_ms = percentile(times, n, 0.99);
    m->runs_per_s = (double)n / seconds;
}

/* ---- profile ---- */

typedef struct step {
    ps_step_info info;
    double ms; /* per run */
} step;

static int by_time(const void *a, const void *b) {
    const step *x = a, *y = b;
    return (x->ms < y->ms) - (x->ms > y->ms);
}

static step *sorted_steps(const ps_session *session, size_t runs, size_t *ret_n, double *ret_total) {
    step *steps = cli_alloc(1, sizeof *steps);
    ps_step_info info = { .size = sizeof info };
    size_t n = 0;
    *ret_total = 0;
    for (; ps_session_step(session, n, &info) == PS_OK; n++) {
        steps = cli_realloc(steps, n + 1, sizeof *steps);
        steps[n] = (step) { info, (double)info.total_ns / 1e6 / (double)runs };
        *ret_total += steps[n].ms;
    }
    qsort(steps, n, sizeof *steps, by_time);
    *ret_n = n;
    return steps;
}

static json_t *steps_json(const step *steps, size_t n, double total) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const ps_step_info *s = &steps[i].info;
        json_array_append_new(list,
                              json_pack("{s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:I, s:I}", "node", cli_json_text(s->node),
                                        "op", cli_json_text(s->op), "kernel", cli_json_text(s->kernel), "device",
                                        cli_json_text(s->device), "shape", cli_json_shape(NULL, &s->shape), "ms",
                                        steps[i].ms, "share", total > 0 ? steps[i].ms / total : 0, "calls",
                                        (json_int_t)s->calls, "macs", (json_int_t)s->macs));
    }
    return list;
}

static void print_steps(const step *steps, size_t n, double total) {
    char shape[128];
    printf("%7s %9s %8s  %-28s %-20s %-22s %s\n", "share", "ms", "GMAC/s", "node", "operator", "output", "kernel");
    for (size_t i = 0; i < n; i++) {
        const ps_step_info *s = &steps[i].info;
        printf("%6.1f%% %9.4f ", total > 0 ? 100 * steps[i].ms / total : 0, steps[i].ms);
        if (s->macs && steps[i].ms > 0)
            printf("%8.1f", (double)s->macs / steps[i].ms / 1e6);
        else
            printf("%8s", "-");
        printf("  %-28.28s %-20.20s %-22s %s\n", s->node, s->op, cli_shape_text(NULL, &s->shape, shape, sizeof shape),
               s->kernel);
    }
}

/* ---- measuring ---- */

typedef struct bench {
    const cli_args *args;
    cli_model m;
    double seconds;
    bool profile;
    cli_test_set set; /* --inputs */
} bench;

static ps_status run_timed(ps_session *session, ps_tensor **in, size_t n_in, ps_tensor **out, size_t n_out,
                           double *ret_ms, ps_error *err) {
    memset(out, 0, n_out * sizeof *out);
    const int64_t start = cli_now_ns();
    const ps_status status = ps_session_run(session, (const ps_tensor *const *)in, n_in, out, n_out, NULL, err);
    *ret_ms = (double)(cli_now_ns() - start) / 1e6;
    return status;
}

/* First run, warm-up, then runs until the time is up. */
static ps_status measure(const bench *b, ps_session *session, ps_tensor **in, measurement *m, cli_progress *bar,
                         ps_error *err) {
    const size_t n_in = ps_model_input_count(b->m.model), n_out = ps_model_output_count(b->m.model);
    ps_tensor **out = cli_alloc(n_out, sizeof *out);
    double *times = NULL, ms = 0;
    size_t n = 0, room = 0;
    ps_status status = run_timed(session, in, n_in, out, n_out, &m->first_ms, err);
    for (int i = 0; i < WARMUP_RUNS && status == PS_OK; i++)
        status = run_timed(session, in, n_in, out, n_out, &ms, err);
    ps_session_profile_reset(session);
    const int64_t start = cli_now_ns();
    double elapsed = 0;
    while (status == PS_OK && (n < MIN_RUNS || elapsed < b->seconds)) {
        if (n == room) times = cli_realloc(times, room = room ? 2 * room : 1024, sizeof *times);
        status = run_timed(session, in, n_in, out, n_out, &times[n], err);
        n++;
        elapsed = (double)(cli_now_ns() - start) / 1e9;
        cli_progress_set(bar, fmin(1, elapsed / b->seconds), "");
    }
    if (status == PS_OK) {
        summarize(m, times, n, elapsed);
        status = ps_session_statistics(session, &m->stats);
    }
    free(times);
    free(out);
    return status;
}

static int bench_one(const bench *b, measurement *m) {
    const size_t n_in = ps_model_input_count(b->m.model);
    ps_tensor **in = cli_alloc(n_in, sizeof *in);
    ps_session_options o = PS_SESSION_OPTIONS_INIT;
    ps_session *session = NULL;
    ps_error err = PS_ERROR_INIT;
    cli_progress bar;
    int code = CLI_OK;
    o.threads = m->threads;
    o.profile = b->profile;
    m->stats.size = sizeof m->stats;
    if (b->set.path) {
        for (size_t i = 0; i < n_in && i < b->set.n_inputs; i++)
            in[i] = ps_tensor_retain(b->set.inputs[i]);
    } else {
        code = cli_random_inputs(b->args, &b->m, m->batch, in);
    }
    cli_progress_start(&bar, b->args, "bench");
    if (code == CLI_OK) {
        ps_status status = ps_session_create(b->m.model, &o, &session, &err);
        if (status == PS_OK) status = measure(b, session, in, m, &bar, &err);
        cli_progress_end(&bar);
        if (status != PS_OK) code = cli_fail_error(b->args, &err);
    }
    if (code == CLI_OK && b->profile) {
        size_t n;
        double total;
        step *steps = sorted_steps(session, m->runs, &n, &total);
        m->steps = steps_json(steps, n, total);
        if (!b->args->json) print_steps(steps, n, total);
        free(steps);
    }
    ps_session_free(session);
    cli_tensors_release(in, n_in);
    free(in);
    return code;
}

/* ---- report ---- */

static void print_head(const bench *b) {
    ps_model_summary s = { .size = sizeof s };
    char bytes[32];
    ps_model_summarize(b->m.model, &s);
    printf("model %s, loaded in %.1f ms, %s of weights\n", b->args->words[0], (double)b->m.load_ns / 1e6,
           cli_bytes_text((double)s.weight_bytes, bytes, sizeof bytes));
}

static void print_row_head(void) {
    printf("%6s %7s %10s %10s %10s %10s %10s %10s %10s %8s\n", "batch", "threads", "first ms", "median ms", "p90 ms",
           "p99 ms", "min ms", "runs/s", "arena", "GMAC/s");
}

static void print_row(const measurement *m) {
    char batch[16] = "-", threads[16] = "-", bytes[32];
    if (m->batch) snprintf(batch, sizeof batch, "%d", m->batch);
    if (m->threads) snprintf(threads, sizeof threads, "%d", m->threads);
    printf("%6s %7s %10.2f %10.3f %10.3f %10.3f %10.3f %10.1f %10s %8.1f\n", batch, threads, m->first_ms, m->median_ms,
           m->p90_ms, m->p99_ms, m->min_ms, m->runs_per_s,
           cli_bytes_text((double)m->stats.arena_bytes, bytes, sizeof bytes),
           m->median_ms > 0 ? (double)m->stats.macs / m->median_ms / 1e6 : 0);
}

static json_t *row_json(measurement *m) {
    json_t *j = json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I}", "batch", m->batch,
                          "threads", m->threads, "first_ms", m->first_ms, "median_ms", m->median_ms, "p90_ms",
                          m->p90_ms, "p99_ms", m->p99_ms, "min_ms", m->min_ms, "runs_per_s", m->runs_per_s, "runs",
                          (json_int_t)m->runs, "arena_bytes", (json_int_t)m->stats.arena_bytes, "steps_count",
                          (json_int_t)m->stats.steps, "macs", (json_int_t)m->stats.macs, "reorders",
                          (json_int_t)m->stats.reorders, "no_reuse_bytes", (json_int_t)m->stats.no_reuse_bytes);
    if (m->steps) json_object_set_new(j, "steps", m->steps);
    return j;
}

/* ---- the command ---- */

static int bench_all(const bench *b, const int *batches, size_t n_batches, const int *threads, size_t n_threads) {
    json_t *rows = json_array();
    int code = CLI_OK;
    if (!b->args->json) print_head(b);
    if (!b->args->json && !b->profile) print_row_head();
    for (size_t i = 0; i < n_batches && code == CLI_OK; i++)
        for (size_t k = 0; k < n_threads && code == CLI_OK; k++) {
            measurement m = { .batch = batches[i], .threads = threads[k] };
            code = bench_one(b, &m);
            if (code != CLI_OK) break;
            if (!b->args->json && b->profile) print_row_head();
            if (!b->args->json) print_row(&m);
            fflush(stdout);
            json_array_append_new(rows, row_json(&m));
        }
    if (code == CLI_OK && b->args->json)
        code = cli_json_print(json_pack("{s:o, s:f, s:i, s:O}", "model", cli_json_text(b->args->words[0]), "load_ms",
                                        (double)b->m.load_ns / 1e6, "engine_threads", ps_engine_threads(b->m.engine),
                                        "results", rows));
    json_decref(rows);
    return code;
}

static int open_model(const cli_args *args, cli_model *ret) {
    ps_error err = PS_ERROR_INIT;
    *ret = (cli_model) { 0 };
    if (ps_engine_create(NULL, &ret->engine, &err) != PS_OK) return cli_fail_error(args, &err);
    char *file = cli_model_path(args->words[0]);
    const int64_t start = cli_now_ns();
    const ps_status status = cli_model_load(args, ret->engine, file, &ret->model, &err);
    ret->load_ns = cli_now_ns() - start;
    free(file);
    return status == PS_OK ? CLI_OK : cli_fail_error(args, &err);
}

static int run_bench(const cli_args *args) {
    bench b = { .args = args, .seconds = 3, .profile = cli_has(args, "profile") };
    int batches[MAX_LIST] = { 0 }, threads[MAX_LIST] = { 0 };
    size_t n_batches = 1, n_threads = 1;
    ps_error err = PS_ERROR_INIT;
    if (!cli_get_double(args, "seconds", 0.01, 3600, &b.seconds)) return CLI_USAGE;
    if (!cli_get_ints(args, "batch", batches, MAX_LIST, &n_batches)) return CLI_USAGE;
    if (!cli_get_ints(args, "threads", threads, MAX_LIST, &n_threads)) return CLI_USAGE;
    for (size_t i = 0; i < n_threads; i++)
        if (threads[i] > 1024) return cli_usage(args, "--threads is 1 to 1024, not %d", threads[i]);
    if (cli_has(args, "inputs") && (cli_has(args, "batch") || cli_has(args, "shape")))
        return cli_usage(args, "--inputs settles the shapes: leave out --batch and --shape");
    int code = open_model(args, &b.m);
    if (code == CLI_OK && cli_has(args, "inputs") &&
        cli_test_set_load(b.m.engine, b.m.model, cli_get(args, "inputs"), &b.set, &err) != PS_OK)
        code = cli_fail_error(args, &err);
    if (code == CLI_OK && b.set.path && !b.set.n_inputs) code = cli_fail(args, "'%s' holds no input_0.pb", b.set.path);
    if (code == CLI_OK) code = bench_all(&b, batches, n_batches, threads, n_threads);
    cli_test_set_release(&b.set);
    cli_model_close(&b.m);
    return code;
}

static const cli_option options[] = {
    { "batch", CLI_TEXT, "N,N", "first dim of every input, one measurement each", "what the file says, else 1" },
    { "threads", CLI_TEXT, "N,N", "threads of one run, one measurement each",
      "what the cgroup and the affinity mask allow" },
    { "seconds", CLI_TEXT, "S", "time for each measurement, after three runs to warm up", "3" },
    { "inputs", CLI_DIR, "DIR", "run on the input_*.pb of a test_data_set instead of random data", NULL },
    { "profile", CLI_FLAG, NULL, "list the steps by their share of the time", NULL },
    CLI_OPT_SHAPE,
    CLI_OPT_DEVICE,
    CLI_OPT_ACTIVATIONS,
    CLI_OPT_PRECISION,
    CLI_OPT_NO_FUSION,
    CLI_OPT_JSON,
    CLI_OPT_END,
};

const cli_command cli_bench = {
    "bench",
    "MODEL",
    CLI_FILE,
    "measure how fast a model runs here",
    "Times are of whole runs, wall clock, in milliseconds: the first run (it makes the plan), then median, percentiles "
    "and "
    "minimum of all runs after the warm-up. arena is the memory of activations.",
    options,
    1,
    1,
    run_bench,
};
