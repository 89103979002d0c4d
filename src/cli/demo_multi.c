/* demo_multi.c - `polestar demo multi-model`: several models behind a server without a memory limit, and behind one
 * that all but one of them fit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

enum { SERVERS = 2, FOUND = 3 };
#define WARM_S 0.3
#define LONGEST_S 10.0 /* of one run */
#define BUSY 0.3       /* share of the time that requests and loads are to take */
#define LEAST_RATE 5.0 /* requests a second */
#define MOST_RATE 300.0
#define ZIPF 1.5        /* the k-th most popular model is asked for as often as 1 / k^1.5 says */
#define PATIENCE_S 10.0 /* with the last answers */
#define LOADS_LEAVE 16  /* of the limit, a sixteenth is for requests: docs/repository.md */
#define ALMOST 0.98     /* of all: where the smallest is too small to matter */
#define LEAST_LIMIT 16777216.0

typedef struct member {
    char *name, *path;
    const char *shape; /* of its input, where we know a sensible one; else NULL */
    bool made;
    cli_model m; /* its engine, for the right answer */
    demo_request request;
    double run_s, load_s;
} member;

typedef struct multi {
    const cli_args *args;
    double seconds;
    char *folder; /* of the models that we made, or NULL */
    member members[DEMO_MODELS];
    size_t n;
    bool *used; /* of the arguments, the shapes that are some model's */
    demo_multi_server all[SERVERS];
} multi;

/* ---- which models ---- */

static member *add_member(multi *d, char *name, char *path) {
    member *m = &d->members[d->n++];
    *m = (member) { .name = name, .path = path };
    return m;
}

/* "a/resnet.onnx" and "a/resnet/model.onnx" are resnet; a name that is taken gets a number. */
static char *name_of(const multi *d, const char *word) {
    char *copy = cli_format("%s", word), *slash;
    while ((slash = strrchr(copy, '/')) != NULL && (!slash[1] || strncmp(slash, "/model.", 7) == 0) && slash != copy)
        *slash = '\0';
    char *name = cli_safe_name(cli_base_name(copy)), *dot = strstr(name, ".onnx");
    if (!dot) dot = strstr(name, ".pt2");
    if (dot && dot != name) *dot = '\0';
    free(copy);
    for (size_t i = 0; i < d->n; i++) {
        if (strcmp(d->members[i].name, name) != 0) continue;
        char *other = cli_format("%s-%zu", name, d->n + 1);
        free(name);
        return other;
    }
    return name;
}

/* What tools/fetch-models has fetched for `make demo`, if it has. */
static bool find_models(multi *d) {
    static const char *const names[FOUND] = { "ppocr-rec", "ppocr-det", "magika" };
    static const char *const shapes[FOUND] = { "x=1x3x48x160", "x=1x3x160x160", "bytes=1x2048" };
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *files[FOUND], *folder = cache && *cache ? cli_format("%s/polestar-build/models", cache)
                                                  : cli_format("%s/.cache/polestar-build/models", home ? home : "");
    bool all = true;
    for (size_t i = 0; i < FOUND; i++) {
        files[i] = cli_format("%s/%s/model.onnx", folder, names[i]);
        all &= cli_is_file(files[i]);
    }
    for (size_t i = 0; i < FOUND; i++) {
        if (all)
            add_member(d, cli_format("%s", names[i]), files[i])->shape = shapes[i];
        else
            free(files[i]);
    }
    free(folder);
    return all;
}

static int make_models(multi *d) {
    static const uint32_t widths[FOUND][DEMO_LAYERS + 1] = { { 1024, 2048, 2048, 16 },
                                                             { 768, 1536, 1536, 16 },
                                                             { 512, 1280, 1280, 16 } };
    static const char *const names[FOUND] = { "large", "medium", "small" };
    d->folder = demo_folder_make(d->args);
    if (!d->folder) return CLI_FAILED;
    for (size_t i = 0; i < FOUND; i++) {
        member *m = add_member(d, cli_format("%s", names[i]), cli_format("%s/%s.onnx", d->folder, names[i]));
        m->made = true;
        if (!demo_model_write(m->path, widths[i])) return cli_fail(d->args, "%s cannot be written", m->path);
    }
    return CLI_OK;
}

static int choose_models(multi *d) {
    const cli_args *args = d->args;
    if (args->n_words == 2)
        return cli_usage(args, "multi-model takes two models or more, not '%s' alone", args->words[1]);
    if (args->n_words == 1) return find_models(d) ? CLI_OK : make_models(d);
    for (size_t i = 1; i < args->n_words; i++)
        add_member(d, name_of(d, args->words[i]), cli_model_path(args->words[i]));
    return CLI_OK;
}

/* ---- requests ---- */

static bool is_input(const ps_model *model, const char *shape) {
    const size_t length = cli_name_length(shape);
    return !length || cli_input_index(model, shape, length) != SIZE_MAX;
}

/* The arguments as the one model sees them: of the shapes those of its inputs, else the one we know. */
static cli_args args_of(multi *d, const member *m) {
    cli_args args = *d->args;
    const cli_option *option = d->args->command->options;
    bool given = false;
    while (strcmp(option->name, "shape") != 0)
        option++;
    args.values = cli_alloc(d->args->n_values + 1, sizeof *args.values);
    args.n_values = 0;
    for (size_t i = 0; i < d->args->n_values; i++) {
        const cli_value *v = &d->args->values[i];
        const bool shape = v->option == option, use = !shape || is_input(m->m.model, v->text);
        if (use) args.values[args.n_values++] = *v;
        given |= shape && use;
        d->used[i] |= use;
    }
    if (m->shape && !given) args.values[args.n_values++] = (cli_value) { option, m->shape };
    return args;
}

static int make_request(multi *d, member *m) {
    const demo_question question = { m->path, m->name, 0, true };
    int code = cli_model_open(d->args, m->path, &m->m);
    if (code != CLI_OK) return code;
    cli_args args = args_of(d, m);
    code = demo_request_make(&args, &m->m, &question, &m->request);
    free(args.values);
    ps_model_release(m->m.model);
    m->m.model = NULL;
    return code;
}

static int make_requests(multi *d) {
    int code = CLI_OK;
    for (size_t i = 0; i < d->n && code == CLI_OK; i++)
        code = make_request(d, &d->members[i]);
    for (size_t i = 0; i < d->args->n_values && code == CLI_OK; i++)
        if (strcmp(d->args->values[i].option->name, "shape") == 0 && !d->used[i])
            code = cli_usage(d->args, "--shape %s: no model has such an input", d->args->values[i].text);
    return code;
}

/* ---- one server ---- */

typedef struct running {
    ps_engine *engine;
    ps_server *server;
    demo_client *client;
} running;

static void stop(running *r) {
    demo_client_close(r->client);
    ps_server_free(r->server);
    ps_engine_free(r->engine);
}

static int start(const multi *d, double limit, running *ret) {
    ps_server_options o = PS_SERVER_OPTIONS_INIT;
    ps_server_model models[DEMO_MODELS] = { { 0 } };
    ps_error err = PS_ERROR_INIT;
    *ret = (running) { 0 };
    const int code = cli_engine_open(d->args, NULL, NULL, &ret->engine);
    if (code != CLI_OK) return code;
    for (size_t i = 0; i < d->n; i++)
        models[i] = (ps_server_model) { .name = d->members[i].name, .path = d->members[i].path };
    o.http_port = 0;
    o.grpc_port = -1;
    o.models = models;
    o.model_count = d->n;
    o.device = cli_get(d->args, "device");
    o.memory_limit = (uint64_t)limit;
    o.max_models = -1;
    o.runners = 1;   /* so that what a model holds is the same in both, however requests meet */
    o.max_batch = 2; /* for the same reason few; the trial of batching packs weights, so that loads are all they take */
    if (ps_server_start(ret->engine, &o, &ret->server, &err) != PS_OK) return cli_fail_error(d->args, &err);
    while (!ps_server_wait_ready(ret->server, 1000))
        continue;
    ret->client = demo_client_open(ps_server_http_port(ret->server), &err);
    return ret->client ? CLI_OK : cli_fail_error(d->args, &err);
}

/* ---- statistics ---- */

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void read_one(const json_t *s, demo_model_stats *to) {
    const json_t *latency = json_object_get(s, "latency"), *hit = json_object_get(latency, "hit");
    const json_t *miss = json_object_get(latency, "miss"), *loads = json_object_get(s, "loads");
    const json_t *memory = json_array_get(json_object_get(s, "memory_usage"), 0);
    *to = (demo_model_stats) {
        .requests = (uint64_t)number(json_object_get(latency, "total"), "count"),
        .failed = (uint64_t)number(json_object_get(json_object_get(s, "inference_stats"), "fail"), "count"),
        .loads = (uint64_t)number(loads, "count"),
        .cached_loads = (uint64_t)number(loads, "from_cache"),
        .evictions = (uint64_t)number(s, "evictions"),
        .hit = { (uint64_t)number(hit, "count"), number(hit, "p50_ns") / 1e6, number(hit, "p99_ns") / 1e6 },
        .miss = { (uint64_t)number(miss, "count"), number(miss, "p50_ns") / 1e6, number(miss, "p99_ns") / 1e6 },
        .bytes = number(memory, "byte_size"),
        .peak_bytes = number(memory, "peak_byte_size"),
    };
    if (to->loads) to->load_ms = number(loads, "ns") / 1e6 / (double)to->loads;
}

/* Failures of all models by reason, those that there are. */
static void add_failures(json_t *sums, json_t *failures) {
    const char *reason;
    json_t *n;
    json_object_foreach(failures, reason, n) {
        const json_int_t before = json_integer_value(json_object_get(sums, reason)), more = json_integer_value(n);
        if (more > 0) json_object_set_new(sums, reason, json_integer(before + more));
    }
}

static int read_stats(const multi *d, running *r, demo_multi_server *to) {
    to->failures = json_object();
    json_t *root = demo_client_get(r->client, "/v2/models/stats");
    const json_t *list = json_object_get(root, "model_stats"), *s;
    size_t at, found = 0;
    json_array_foreach(list, at, s) {
        const char *name = json_string_value(json_object_get(s, "name"));
        for (size_t i = 0; name && i < d->n; i++) {
            if (strcmp(name, d->members[i].name) != 0) continue;
            read_one(s, &to->models[i]);
            add_failures(to->failures, json_object_get(s, "failures"));
            found++;
        }
    }
    json_decref(root);
    return found ? CLI_OK : cli_fail(d->args, "the server of the demo has no statistics");
}

/* ---- the load ---- */

static double share_of(const multi *d, size_t model, int step) {
    double sum = 0;
    for (size_t k = 1; k <= d->n; k++)
        sum += pow((double)k, -ZIPF);
    return pow((double)((model + (size_t)step) % d->n + 1), -ZIPF) / sum;
}

/* As many requests as keep the server busy for some of the time, loads from the cache included. */
static void set_steps(multi *d) {
    double seconds = 0;
    for (size_t i = 0; i < d->n; i++)
        seconds += (d->members[i].run_s + d->members[i].load_s / 8) / (double)d->n;
    for (int k = 0; k < SERVERS; k++) {
        for (int s = 0; s < DEMO_STEPS; s++) {
            demo_count *step = &d->all[k].c.result.step[s];
            step->rate = fmin(fmax(BUSY / seconds, LEAST_RATE), MOST_RATE);
            step->seconds = d->seconds;
            for (size_t i = 0; i < d->n; i++)
                step->share[i] = share_of(d, i, s);
        }
    }
}

static int time_run(const multi *d, demo_client *c, member *m) {
    double rate = 0, seconds = WARM_S;
    for (; !(rate > 0) && seconds < LONGEST_S; seconds *= 5)
        rate = demo_client_saturate(c, &m->request, 1, seconds);
    m->run_s = 1 / rate;
    return rate > 0 ? CLI_OK : cli_fail(d->args, "%s answers nothing within %g s", m->name, seconds / 5);
}

/* What runs and loads take, on a server that is for nothing else. */
static int measure(multi *d) {
    running r;
    demo_multi_server alone = { .limit = 0 };
    int code = start(d, 0, &r);
    for (size_t i = 0; i < d->n && code == CLI_OK; i++)
        code = time_run(d, r.client, &d->members[i]);
    if (code == CLI_OK) code = read_stats(d, &r, &alone);
    for (size_t i = 0; i < d->n; i++)
        d->members[i].load_s = alone.models[i].load_ms / 1e3;
    json_decref(alone.failures);
    stop(&r);
    if (code != CLI_OK) return code;
    set_steps(d);
    if (d->args->json) return CLI_OK;
    printf("%.0f requests/s for %zu models, the most popular one of which changes every %g s\n",
           d->all[0].c.result.step[0].rate, d->n, d->seconds);
    fflush(stdout);
    return CLI_OK;
}

static void at_tick(void *ctx, demo_count *tick) {
    tick->bytes = (double)ps_engine_memory(ctx, NULL);
}

static int let_run(multi *d, demo_multi_server *to) {
    running r;
    size_t peak = 0;
    demo_request requests[DEMO_MODELS];
    int code = start(d, to->limit, &r);
    for (size_t i = 0; i < d->n; i++)
        requests[i] = d->members[i].request;
    const demo_load load = {
        .requests = requests, .n_requests = d->n, .patience_s = PATIENCE_S, .at_tick = at_tick, .ctx = r.engine
    };
    if (code == CLI_OK) {
        demo_client_run(r.client, &load, &to->c.result);
        code = read_stats(d, &r, to);
        to->held = (double)ps_engine_memory(r.engine, &peak);
        to->peak = (double)peak;
    }
    stop(&r);
    return code;
}

/* ---- the limit ---- */

/* All but the smallest fit, all do not: halfway between, by what they held when there was no limit. Of the limit a part
 * is for requests, which loads leave; and the load of each must fit where nothing else is loaded, which takes more than
 * the model for a moment. */
static double limit_of(const multi *d) {
    const demo_multi_server *s = &d->all[0];
    const double leave = (double)LOADS_LEAVE / (LOADS_LEAVE - 1);
    double smallest = INFINITY, largest = 0, own = s->held;
    for (size_t i = 0; i < d->n; i++) {
        smallest = fmin(smallest, s->models[i].bytes);
        largest = fmax(largest, s->models[i].peak_bytes);
        own -= s->models[i].bytes;
    }
    const double fits = fmin((s->held - smallest) * leave, ALMOST * s->held);
    return fmax(fmax((fits + s->held) / 2, (own + largest) * leave), LEAST_LIMIT);
}

/* ---- what it says ---- */

static void print_latency(uint64_t count, double ms) {
    if (count)
        printf(" %8.1f", ms);
    else
        printf(" %8s", "-");
}

static void print_server(const multi *d, const demo_multi_server *s) {
    printf("\n%s: at most %.1f MB held\n", s->c.name, s->peak / 1e6);
    printf("%-16s %8s %8s %8s %7s %8s %8s %6s %6s %8s\n", "model", "requests", "hit p50", "p99 ms", "misses", "p50",
           "p99 ms", "loads", "evict.", "MB");
    for (size_t i = 0; i < d->n; i++) {
        const demo_model_stats *m = &s->models[i];
        printf("%-16.16s %8llu", d->members[i].name, (unsigned long long)m->requests);
        print_latency(m->hit.count, m->hit.p50_ms);
        print_latency(m->hit.count, m->hit.p99_ms);
        printf(" %7llu", (unsigned long long)m->miss.count);
        print_latency(m->miss.count, m->miss.p50_ms);
        print_latency(m->miss.count, m->miss.p99_ms);
        printf(" %6llu %6llu %8.1f\n", (unsigned long long)m->loads, (unsigned long long)m->evictions,
               m->peak_bytes / 1e6);
    }
    const char *reason;
    json_t *n;
    json_object_foreach(s->failures, reason, n) printf("failed, %s: %lld\n", reason, (long long)json_integer_value(n));
}

static json_t *latency_json(uint64_t count, double p50_ms, double p99_ms) {
    return json_pack("{s:I, s:o, s:o}", "count", (json_int_t)count, "p50_ms", cli_json_real(count ? p50_ms : NAN),
                     "p99_ms", cli_json_real(count ? p99_ms : NAN));
}

static json_t *model_json(const member *m, const demo_model_stats *s) {
    return json_pack("{s:o, s:I, s:I, s:o, s:o, s:I, s:I, s:o, s:I, s:o, s:o}", "model", cli_json_text(m->name),
                     "requests", (json_int_t)s->requests, "failed", (json_int_t)s->failed, "hit",
                     latency_json(s->hit.count, s->hit.p50_ms, s->hit.p99_ms), "miss",
                     latency_json(s->miss.count, s->miss.p50_ms, s->miss.p99_ms), "loads", (json_int_t)s->loads,
                     "loads_from_cache", (json_int_t)s->cached_loads, "load_ms", cli_json_real(s->load_ms), "evictions",
                     (json_int_t)s->evictions, "bytes", cli_json_real(s->bytes), "peak_bytes",
                     cli_json_real(s->peak_bytes));
}

static int print_json(const multi *d) {
    json_t *servers = json_array();
    for (int k = 0; k < SERVERS; k++) {
        const demo_multi_server *s = &d->all[k];
        json_t *models = json_array();
        size_t offered = 0;
        for (int i = 0; i < DEMO_STEPS; i++)
            offered += s->c.result.step[i].offered;
        for (size_t i = 0; i < d->n; i++)
            json_array_append_new(models, model_json(&d->members[i], &s->models[i]));
        json_array_append_new(servers,
                              json_pack("{s:s, s:o, s:o, s:I, s:I, s:I, s:O, s:o}", "server", s->c.name, "limit_bytes",
                                        s->limit > 0 ? cli_json_real(s->limit) : json_null(), "peak_bytes",
                                        cli_json_real(s->peak), "requests", (json_int_t)offered, "failed",
                                        (json_int_t)s->c.result.failed, "wrong", (json_int_t)s->c.result.wrong,
                                        "failures", s->failures, "models", models));
    }
    return cli_json_print(json_pack("{s:o}", "servers", servers));
}

static int write_page(const multi *d) {
    const char *path = cli_get(d->args, "html");
    char *names[DEMO_MODELS];
    ps_error err = PS_ERROR_INIT;
    if (!path) path = "polestar-demo-multi-model.html";
    for (size_t i = 0; i < d->n; i++)
        names[i] = d->members[i].name;
    if (*path && !demo_multi_page(path, names, d->n, d->all, SERVERS, &err)) return cli_fail_error(d->args, &err);
    if (*path && !d->args->json) printf("plots: %s\n", path);
    return CLI_OK;
}

static int tell(const multi *d) {
    size_t wrong = 0, failed = 0;
    for (int k = 0; k < SERVERS; k++) {
        if (!d->args->json) print_server(d, &d->all[k]);
        wrong += d->all[k].c.result.wrong;
        failed += d->all[k].c.result.failed;
    }
    if (!d->args->json)
        printf(
            "\nhit: the model was there; miss: the request waited for its load. Failed requests: %zu; wrong answers: "
            "%zu\n",
            failed, wrong);
    int code = write_page(d);
    if (code == CLI_OK && d->args->json) code = print_json(d);
    return code == CLI_OK && wrong ? cli_fail(d->args, "%zu answers are wrong", wrong) : code;
}

static int run_all(multi *d) {
    char limited[64];
    int code = choose_models(d);
    if (code == CLI_OK) code = make_requests(d);
    if (code == CLI_OK) code = measure(d);
    d->all[0].c.name = "no limit";
    d->all[0].c.color = "#36c";
    if (code == CLI_OK) code = let_run(d, &d->all[0]);
    if (code != CLI_OK) return code;
    d->all[1].limit = limit_of(d);
    snprintf(limited, sizeof limited, "limit %.1f MB", d->all[1].limit / 1e6);
    d->all[1].c.name = limited;
    d->all[1].c.color = "#0a6";
    code = let_run(d, &d->all[1]);
    return code == CLI_OK ? tell(d) : code;
}

static void release(multi *d) {
    for (int k = 0; k < SERVERS; k++) {
        free(d->all[k].c.result.tick);
        json_decref(d->all[k].failures);
    }
    for (size_t i = 0; i < d->n; i++) {
        demo_request_release(&d->members[i].request);
        cli_model_close(&d->members[i].m);
    }
    demo_folder_remove(d->folder);
    for (size_t i = 0; i < d->n; i++) {
        free(d->members[i].name);
        free(d->members[i].path);
    }
}

int demo_multi_model(const cli_args *args, double seconds) {
    multi *d = cli_alloc(1, sizeof *d);
    d->args = args;
    d->used = cli_alloc(args->n_values, sizeof *d->used);
    d->seconds = seconds;
    const int code = run_all(d);
    release(d);
    free(d->used);
    free(d);
    return code;
}
