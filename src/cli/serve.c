/* serve.c - the server in the foreground, until SIGTERM or SIGINT. */
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "serve_log.h"

/* Of the memory of devices. */
typedef struct serve_limits {
    ps_server_device_limit *list;
    size_t n;
} serve_limits;

/* ---- models ---- */

/* Those of the command line; only without any, those of the configuration. Free the list; names and paths belong to
 * `config`. */
static size_t list_models(const cli_args *args, cli_config *config, ps_server_model **ret) {
    for (size_t i = 0; i < config->n_models && args->n_words; i++)
        cli_config_model_release(&config->models[i]);
    if (args->n_words) {
        config->models = cli_realloc(config->models, args->n_words, sizeof *config->models);
        config->n_models = args->n_words;
        for (size_t i = 0; i < args->n_words; i++)
            cli_config_model_split(args->words[i], &config->models[i]);
    }
    *ret = cli_alloc(config->n_models, sizeof **ret);
    for (size_t i = 0; i < config->n_models; i++) {
        const cli_config_model *m = &config->models[i];
        (*ret)[i] = (ps_server_model) { .name = m->name, .path = m->path, .states = m->states };
    }
    return config->n_models;
}

/* A mistyped path is an error here; the server itself goes on without a model that does not load, and says so. */
static int check_paths(const cli_args *args, const ps_server_options *o) {
    for (size_t i = 0; i < o->model_count; i++)
        if (!cli_is_file(o->models[i].path) && !cli_is_dir(o->models[i].path))
            return cli_fail(args, "model '%s' does not exist", o->models[i].path);
    if (o->model_repository && !cli_is_dir(o->model_repository))
        return cli_fail(args, "model repository '%s' is no folder", o->model_repository);
    return CLI_OK;
}

static bool read_grpc(const cli_args *args, ps_server_options *o) {
    if (!cli_get_int(args, "grpc-port", -1, 65535, &o->grpc_port) ||
        !cli_get_int(args, "grpc-threads", 1, 256, &o->grpc_threads))
        return false;
#ifndef PS_WITH_GRPC
    if (cli_get(args, "grpc-port") && o->grpc_port >= 0) {
        (void)cli_usage(args, "--grpc-port: this polestar was built without gRPC");
        return false;
    }
#endif
    return true;
}

static bool read_batching(const cli_args *args, ps_server_options *o) {
    const char *target = cli_get(args, "latency-target");
    bool automatic = !target || strcmp(target, "auto") == 0;
    o->batch_policy = cli_get(args, "batch-policy");
    o->tenants = cli_get(args, "tenants");
    return (automatic || cli_get_int(args, "latency-target", 1, 1 << 20, &o->latency_target_ms)) &&
           cli_get_int(args, "max-batch", 1, 1024, &o->max_batch) &&
           cli_get_int(args, "batch-size", 1, 1024, &o->batch_size) &&
           cli_get_int(args, "batch-delay", 0, 1 << 20, &o->batch_delay_ms) &&
           cli_get_int(args, "queue-timeout", 1, 1 << 20, &o->queue_timeout_ms);
}

static bool read_load_timeout(const cli_args *args, ps_server_options *o) {
    if (!cli_get_int(args, "load-timeout", 0, 86400, &o->load_seconds)) return false;
    if (cli_get(args, "load-timeout") && o->load_seconds == 0) o->load_seconds = -1;
    return true;
}

/* Is it a name in the list of --device? */
static bool is_used(const char *devices, const char *name, size_t size) {
    while (*devices) {
        const size_t n = strcspn(devices, ",");
        if (n == size && memcmp(devices, name, n) == 0) return true;
        devices += n + (devices[n] == ',');
    }
    return false;
}

static void add_limit(serve_limits *l, const char *device, size_t n, size_t bytes) {
    l->list = cli_realloc(l->list, l->n + 1, sizeof *l->list);
    l->list[l->n++] = (ps_server_device_limit) { cli_format("%.*s", (int)n, device), bytes };
}

/* One [DEV=]SIZE of a list; false after an error. */
static bool read_limit(const cli_args *args, const char *item, ps_server_options *o, serve_limits *limits) {
    const char *size = strchr(item, '='), *devices = o->device ? o->device : "cpu";
    const size_t n = size ? (size_t)(size - item) : 0;
    const bool host = !size || (n == 3 && memcmp(item, "cpu", 3) == 0);
    const bool known = host || is_used(devices, item, n);
    size_t bytes = 0;
    if (!known)
        (void)cli_usage(args, "--memory-limit '%s': models run on device '%s', whose name it has to be, or cpu", item,
                        devices);
    else if (!cli_size_parse(size ? size + 1 : item, &bytes) || !bytes)
        (void)cli_usage(args, "--memory-limit is a size such as 500M, cpu=2GiB or gpu=6G, not '%s'", item);
    if (!bytes) return false;
    if (host)
        o->memory_limit = bytes;
    else
        add_limit(limits, item, n, bytes);
    return true;
}

static bool read_memory(const cli_args *args, ps_server_options *o, serve_limits *limits) {
    const char *text = cli_get(args, "memory-limit");
    bool ok = true;
    while (ok && text && *text) {
        const size_t n = strcspn(text, ",");
        char *item = cli_format("%.*s", (int)n, text);
        ok = read_limit(args, item, o, limits);
        free(item);
        text += n + (text[n] == ',');
    }
    o->device_limits = limits->list;
    o->device_limit_count = limits->n;
    return ok;
}

static void release_limits(serve_limits *l) {
    for (size_t i = 0; i < l->n; i++)
        free((char *)(uintptr_t)l->list[i].device);
    free(l->list);
}

static bool read_device_tries(const cli_args *args, ps_server_options *o) {
    if (!cli_get_int(args, "device-tries", 0, 1000, &o->device_tries)) return false;
    if (cli_get(args, "device-tries") && o->device_tries == 0) o->device_tries = -1;
    return true;
}

static bool read_models(const cli_args *args, ps_server_options *o, serve_limits *limits) {
    o->model_repository = cli_get(args, "model-repository");
    o->model_control = cli_get(args, "model-control");
    if (!read_memory(args, o, limits) || !cli_get_int(args, "max-models", 0, 1000000, &o->max_models)) return false;
    if (cli_get(args, "max-models") && o->max_models == 0) o->max_models = -1;
    return true;
}

static bool read_options(const cli_args *args, ps_server_options *o, serve_limits *limits) {
    o->host = cli_get(args, "host");
    o->device = cli_get(args, "device");
    o->activations = cli_activations(args);
    o->shared_memory = cli_get(args, "shared-memory");
    return read_models(args, o, limits) && cli_get_int(args, "http-port", 0, 65535, &o->http_port) &&
           read_grpc(args, o) && read_batching(args, o) &&
           cli_get_int(args, "max-connections", 1, 1 << 20, &o->max_connections) &&
           cli_get_int(args, "http-threads", 1, 256, &o->http_threads) &&
           cli_get_int(args, "runners", 1, 1024, &o->runners) &&
           cli_get_int(args, "client-seconds", 1, 86400, &o->client_seconds) &&
           cli_get_int(args, "drain-seconds", 1, 86400, &o->drain_seconds) && read_load_timeout(args, o) &&
           read_device_tries(args, o) && cli_get_size(args, "max-body", &o->max_body_bytes);
}

/* ---- life ---- */

/* Blocked in every thread made from here on; wait_for_stop takes them. */
static void block_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigprocmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    setenv("GRPC_VERBOSITY", "NONE", 0); /* grpc core would write lines of its own between ours */
}

/* Said when a client's first request will be answered: models are loaded or refused. A signal ends the wait. */
static void say_ready(ps_server *server, const char *host, const sigset_t *signals) {
    const bool six = strchr(host, ':') != NULL;
    sigset_t pending;
    while (!ps_server_wait_ready(server, 100)) {
        sigpending(&pending);
        if (sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT)) return;
    }
    printf("polestar: ready on http://%s%s%s:%d", six ? "[" : "", host, six ? "]" : "", ps_server_http_port(server));
    if (ps_server_grpc_port(server) >= 0)
        printf(" grpc://%s%s%s:%d", six ? "[" : "", host, six ? "]" : "", ps_server_grpc_port(server));
    putchar('\n');
    fflush(stdout);
}

static int serve(ps_engine *engine, const ps_server_options *o, const sigset_t *signals, serve_log *log,
                 ps_error *err) {
    ps_server *server = NULL;
    char line[128];
    int signal_number = 0;
    if (ps_server_start(engine, o, &server, err) != PS_OK) return CLI_FAILED;
    say_ready(server, o->host ? o->host : "127.0.0.1", signals);
    sigwait(signals, &signal_number);
    snprintf(line, sizeof line, "event=stop signal=%s", signal_number == SIGINT ? "SIGINT" : "SIGTERM");
    serve_log_line(log, PS_LOG_INFO, line);
    sigprocmask(SIG_UNBLOCK, signals, NULL); /* a second signal ends the process at once */
    ps_server_stop(server);
    ps_server_free(server);
    return CLI_OK;
}

static int check_and_serve(const cli_args *args, ps_server_options *o, serve_limits *limits) {
    ps_engine *engine = NULL;
    ps_error err = PS_ERROR_INIT;
    sigset_t signals;
    if (!read_options(args, o, limits)) return CLI_USAGE;
    if (!o->model_count && !o->model_repository)
        return cli_usage(args, "needs a MODEL, --model-repository DIR or a --config that names either");
    int code = check_paths(args, o);
    block_signals(&signals);
    serve_log *log = code == CLI_OK ? serve_log_start() : NULL;
    if (code == CLI_OK && !log) code = cli_fail(args, "no thread or memory for the log");
    if (code == CLI_OK) code = cli_engine_open(args, serve_log_line, log, &engine);
    if (code == CLI_OK && cli_has(args, "check-config"))
        printf("polestar: the configuration is valid\n");
    else if (code == CLI_OK)
        code = serve(engine, o, &signals, log, &err);
    ps_engine_free(engine);
    serve_log_stop(log);
    if (err.status != PS_OK) (void)cli_fail_error(args, &err); /* the last word, behind the lines of the log */
    return code;
}

/* Blocks of that size lie in pages of their own and go back to the system when they are freed. Left to itself, glibc
 * takes ever larger ones from its heaps once one was freed, and what comes and goes with models leaves holes there. */
static void settle_memory(void) {
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, 256 << 10);
#endif
}

static int run_serve(const cli_args *args) {
    settle_memory();
    ps_server_options o = PS_SERVER_OPTIONS_INIT;
    ps_server_model *models = NULL;
    serve_limits limits = { NULL, 0 };
    cli_args merged;
    cli_config config;
    int code = cli_config_apply(args, &merged, &config);
    if (code != CLI_OK) return code;
    o.model_count = list_models(args, &config, &models);
    o.models = models;
    code = check_and_serve(&merged, &o, &limits);
    release_limits(&limits);
    free(models);
    free(merged.values);
    cli_config_release(&config);
    return code;
}

static const cli_option options[] = {
    { "config", CLI_FILE, "FILE", "JSON file with these options as keys (docs/config.md)", NULL },
    { "check-config", CLI_FLAG, NULL, "check options, configuration and paths, load nothing, and end", NULL },
    { "model-repository", CLI_DIR, "DIR", "serve every model of DIR/<model>/<version>/model.onnx", NULL },
    { "model-control", CLI_WORDS, "on-demand|all|explicit|poll",
      "what is loaded when: while there is room and at the first request; all at the start; when a client "
      "says so; on demand and when files change (docs/repository.md)",
      "on-demand" },
    { "memory-limit", CLI_TEXT, "[DEV=]SIZE,...", "memory of models and requests, and a device's; idle models go",
      "75% of what the process may use" },
    { "max-models", CLI_TEXT, "N", "models loaded at once; 0: no end", "10" },
    { "cache-size", CLI_TEXT, "SIZE",
      "disk space for packed forms of evicted models and for what was learnt and compiled, in "
      "~/.cache/polestar; 0: nothing is kept",
      "1G" },
    { "host", CLI_TEXT, "ADDRESS", "address to listen on", "127.0.0.1" },
    { "http-port", CLI_TEXT, "PORT", "port for HTTP; 0: any free one", "8000" },
    { "grpc-port", CLI_TEXT, "PORT", "port for gRPC; 0: any free one, -1: no gRPC", "8001" },
    { "max-connections", CLI_TEXT, "N", "connections at once", "1024" },
    { "max-body", CLI_TEXT, "SIZE", "largest request body", "64M" },
    { "http-threads", CLI_TEXT, "N", "threads that read and write HTTP requests", "1" },
    { "grpc-threads", CLI_TEXT, "N", "threads that take gRPC calls", "1" },
    { "runners", CLI_TEXT, "N", "models running at once", "one for each core, on graphics cards two each" },
    { "latency-target", CLI_TEXT, "auto|MS",
      "milliseconds a request may take, what would be late is refused; auto: steers batches only", "auto" },
    { "max-batch", CLI_TEXT, "N", "requests that may share a run; 1: no batching", "32" },
    { "batch-policy", CLI_WORDS, "deadline|fixed|triton|aimd|linear",
      "how batches are made; all but the first are for comparison (docs/scheduling.md)", "deadline" },
    { "batch-size", CLI_TEXT, "N", "policies fixed and triton: the size", "--max-batch" },
    { "batch-delay", CLI_TEXT, "MS", "policies fixed and triton: longest wait for a full batch", "0" },
    { "queue-timeout", CLI_TEXT, "MS", "policies fixed and triton: longest wait in the queue", "none" },
    { "tenants", CLI_TEXT, "NAME=WEIGHT,...",
      "shares of the device for requests whose parameter 'tenant' says so; weights from 1 to 1000", "none" },
    { "load-timeout", CLI_TEXT, "S", "how long a request waits for its model to be loaded; 0: it is refused", "30" },
    { "client-seconds", CLI_TEXT, "S", "patience with slow clients", "30" },
    { "shared-memory", CLI_WORDS, "auto|on|off",
      "may clients register POSIX shared memory; auto: if only this machine reaches the server", "auto" },
    { "drain-seconds", CLI_TEXT, "S", "time for requests in flight when stopping", "30" },
    { "device", CLI_DEVICE, "auto|cpu|gpu|ref",
      "where to run: auto is the CPU, gpu the first OpenCL device, opencl:N another one of 'polestar devices'; several "
      "with commas between: each model is on all of them, and a run goes to the one that has least to do",
      "auto" },
    CLI_OPT_ACTIVATIONS,
    { "device-tries", CLI_TEXT, "N",
      "how often a device that was lost is opened again, until its models are given up; 0: not at all", "10" },
    CLI_OPT_THREADS,
    CLI_OPT_END,
};

const cli_command cli_serve = {
    "serve",
    "[MODEL | NAME=MODEL]...",
    CLI_FILE,
    "serve models over HTTP and gRPC (Open Inference Protocol, KServe v2)",
    "Prints one line with the addresses when all models have been tried, log lines (key=value) on standard error. "
    "SIGTERM or SIGINT stop accepting, answer what is in flight and end with code 0; a second one ends at once.",
    options,
    0,
    -1,
    run_serve,
};
