/* The public object: options, start, drain, stop. */
#include "polestar/server.h"

#include <inttypes.h>
#include <string.h>

#include "base/map.h"
#include "base/os.h"
#include "base/thread.h"
#ifdef PS_WITH_GRPC
#include "server/grpc/grpc.h"
#endif
#include "server/http/http.h"
#include "server/repository.h"
#include "server/runner.h"
#include "server/shadow.h"
#include "server/shared_memory.h"

#define DEFAULT_BODY ((size_t)64 << 20)
#define MAX_BODY ((size_t)4 << 30)
#define DEFAULT_BATCH 32
#define DEFAULT_MODELS 10
#define DEFAULT_DEVICE_TRIES 10
#define LEAST_MEMORY ((uint64_t)16 << 20) /* less is no limit that anything could be served within */
#define MAX_BATCH 1024
#define LOADER_QUEUE 256
#define KEEPER_QUEUE 256
#define STATE_PATH 1024
#define DEFAULT_LOAD_SECONDS 30
#define OTHER_FILES 256 /* than connections: models, devices, the log */
/* bodies of all requests together, and their inputs in shared memory: this, or four of the largest body */
#define LEAST_SHARED ((size_t)256 << 20)
#define LAST_REPLIES_NS (2 * INT64_C(1000000000)) /* for replies to requests that the drain cut short */

struct ps_server {
    ps_engine *engine;
    ps_alloc_state *alloc;
    ps_log log; /* through the filter */
    ps_log_filter log_filter;
    ps_trace *trace;
    ps_cache *cache; /* NULL: none */
    ps_shm_table *shm;
    ps_used_devices *devices;
    int drain_seconds;
    ps_repository *repository;
    ps_runner *runner;
    ps_shadow *shadow;        /* NULL: not yet, or not any more */
    ps_repository_poll *poll; /* may be NULL */
    ps_pool *loader;          /* one thread: loads and unloads, in order */
    ps_pool *keeper;          /* one thread: changes of traffic, and writing them down */
    ps_http *http;
#ifdef PS_WITH_GRPC
    ps_grpc *grpc;
#endif
    ps_budget bodies;
    ps_job load_all;
    size_t limit_before; /* of the engine's memory */
    int port, grpc_port; /* grpc_port -1: none */
    atomic_bool stopped;
    ps_mutex lock;
    ps_cond changed;
    bool starting, ready; /* guarded by lock */
};

static ps_front_options front_options(ps_server *s, const ps_server_options *o, int port, int threads) {
    return (ps_front_options) {
        .engine = s->engine,
        .log = s->log,
        .repository = s->repository,
        .runner = s->runner,
        .loader = s->loader,
        .keeper = s->keeper,
        .trace = s->trace,
        .shm = s->shm,
        .log_filter = &s->log_filter,
        .bodies = &s->bodies,
        .host = o->host ? o->host : "127.0.0.1",
        .port = port,
        .max_body_bytes = o->max_body_bytes ? o->max_body_bytes : DEFAULT_BODY,
        .threads = threads ? threads : 1,
        .max_connections = o->max_connections ? o->max_connections : 1024,
        .client_seconds = o->client_seconds ? o->client_seconds : 30,
    };
}

/* ---- gRPC, in builds that have it ---- */

#ifdef PS_WITH_GRPC
static ps_status start_grpc(ps_server *s, const ps_server_options *o, ps_error *err) {
    ps_front_options grpc = front_options(s, o, o->grpc_port, o->grpc_threads);
    if (o->grpc_port < 0) return PS_OK;
    PS_TRY(ps_grpc_start(&grpc, &s->grpc, err));
    s->grpc_port = ps_grpc_port(s->grpc);
    ps_log_line(&s->log, PS_LOG_INFO, "event=listen protocol=grpc host=%s port=%d", grpc.host, s->grpc_port);
    return PS_OK;
}

static void set_grpc_ready(ps_server *s) {
    if (s->grpc) ps_grpc_set_ready(s->grpc, true);
}

static void drain_grpc(ps_server *s) {
    if (s->grpc) ps_grpc_drain(s->grpc);
}

static bool wait_grpc_idle(ps_server *s, int64_t deadline_ns) {
    return !s->grpc || ps_grpc_wait_idle(s->grpc, deadline_ns);
}

static void free_grpc(ps_server *s) {
    ps_grpc_free(s->grpc);
    s->grpc = NULL;
}
#else
static ps_status start_grpc(ps_server *s, const ps_server_options *o, ps_error *err) {
    if (o->grpc_port >= 0) ps_log_line(&s->log, PS_LOG_INFO, "event=no_grpc reason=\"built without it\"");
    return PS_OK;
}

static void set_grpc_ready(ps_server *s) {}

static void drain_grpc(ps_server *s) {}

static bool wait_grpc_idle(ps_server *s, int64_t deadline_ns) {
    return true;
}

static void free_grpc(ps_server *s) {}
#endif

/* ---- start ---- */

static bool find_control(const char *word, ps_model_control *ret) {
    static const char *const words[] = { [PS_CONTROL_ON_DEMAND] = "on-demand",
                                         [PS_CONTROL_ALL] = "all",
                                         [PS_CONTROL_EXPLICIT] = "explicit",
                                         [PS_CONTROL_POLL] = "poll" };
    *ret = PS_CONTROL_ON_DEMAND;
    for (size_t i = 0; word && i < sizeof words / sizeof *words; i++) {
        *ret = (ps_model_control)i;
        if (strcmp(words[i], word) == 0) return true;
    }
    return !word;
}

static ps_status check_options(const ps_server_options *o, ps_error *err) {
    PS_FAIL_IF(o->size != sizeof *o, err, INVALID, "ps_server_options.size is %zu, this library expects %zu", o->size,
               sizeof *o);
    PS_FAIL_IF(o->http_port < 0 || o->http_port > 65535, err, INVALID, "HTTP port %d is not between 0 and 65535",
               o->http_port);
    PS_FAIL_IF(o->grpc_port < -1 || o->grpc_port > 65535, err, INVALID, "gRPC port %d is not between -1 and 65535",
               o->grpc_port);
    PS_FAIL_IF(o->grpc_threads < 0 || o->grpc_threads > 256, err, INVALID, "%d gRPC threads are not between 0 and 256",
               o->grpc_threads);
    PS_FAIL_IF(o->max_body_bytes > MAX_BODY, err, INVALID, "the body limit of %zu bytes is above %zu",
               o->max_body_bytes, MAX_BODY);
    PS_FAIL_IF(o->max_connections < 0 || o->max_connections > 1000000, err, INVALID,
               "%d connections are not between 0 and 1000000", o->max_connections);
    PS_FAIL_IF(o->http_threads < 0 || o->http_threads > 256, err, INVALID, "%d HTTP threads are not between 0 and 256",
               o->http_threads);
    PS_FAIL_IF(o->runners < 0 || o->runners > 1024, err, INVALID, "%d runners are not between 0 and 1024", o->runners);
    PS_FAIL_IF(o->shared_memory && strcmp(o->shared_memory, "auto") != 0 && strcmp(o->shared_memory, "on") != 0 &&
                   strcmp(o->shared_memory, "off") != 0,
               err, INVALID, "shared memory is '%.32s', not auto, on or off", o->shared_memory);
    PS_FAIL_IF(o->client_seconds < 0 || o->client_seconds > 86400, err, INVALID,
               "client_seconds is %d, not between 0 and 86400", o->client_seconds);
    PS_FAIL_IF(o->max_batch < 0 || o->max_batch > MAX_BATCH, err, INVALID, "max_batch is %d, not between 0 and %d",
               o->max_batch, MAX_BATCH);
    PS_FAIL_IF(o->batch_size < 0 || o->batch_size > MAX_BATCH, err, INVALID, "batch_size is %d, not between 0 and %d",
               o->batch_size, MAX_BATCH);
    PS_FAIL_IF(o->latency_target_ms < 0 || o->batch_delay_ms < 0 || o->queue_timeout_ms < 0, err, INVALID,
               "a time of the scheduler is negative");
    PS_FAIL_IF(o->load_seconds < -1 || o->load_seconds > 86400, err, INVALID,
               "load_seconds is %d, not between -1 and 86400", o->load_seconds);
    ps_model_control control;
    PS_FAIL_IF(!find_control(o->model_control, &control), err, INVALID,
               "model control is '%.32s', not on-demand, all, explicit or poll", o->model_control);
    PS_FAIL_IF(o->max_models < -1 || o->max_models > 1000000, err, INVALID,
               "max_models is %d, not between -1 and 1000000", o->max_models);
    PS_FAIL_IF(o->memory_limit && o->memory_limit < LEAST_MEMORY, err, INVALID,
               "the memory limit of %" PRIu64 " bytes is below %" PRIu64, o->memory_limit, LEAST_MEMORY);
    PS_FAIL_IF(o->device_tries < -1 || o->device_tries > 1000, err, INVALID,
               "device_tries is %d, not between -1 and 1000", o->device_tries);
    PS_FAIL_IF(o->drain_seconds < 0, err, INVALID, "drain_seconds is %d, which is negative", o->drain_seconds);
    return PS_OK;
}

/* Whoever reaches the server can make it read and write shared memory of its user: by default not other machines. */
static bool allows_shared_memory(const ps_server_options *o) {
    const char *host = o->host ? o->host : "127.0.0.1", *word = o->shared_memory ? o->shared_memory : "auto";
    if (strcmp(word, "auto") != 0) return strcmp(word, "on") == 0;
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

/* The loader's first job. What it loads later takes what the runners leave. */
static void run_load_all(ps_job *job) {
    ps_server *s = (ps_server *)((char *)job - offsetof(ps_server, load_all));
    ps_repository_load_all(s->repository);
    ps_thread_yield_to_others();
    ps_mutex_lock(&s->lock);
    while (s->starting)
        ps_cond_wait(&s->changed, &s->lock);
    ps_mutex_unlock(&s->lock);
    ps_http_set_ready(s->http, true);
    set_grpc_ready(s);
    ps_mutex_lock(&s->lock);
    s->ready = true;
    ps_cond_broadcast(&s->changed);
    ps_mutex_unlock(&s->lock);
    ps_log_line(&s->log, PS_LOG_INFO, "event=ready");
}

/* As many connections as the process may have files open, and files are needed for other things as well. */
static int allowed_connections(const ps_server *s, int want) {
    uint64_t need = (uint64_t)want + (uint64_t)ps_http_spare_connections(want) + OTHER_FILES;
    uint64_t files = ps_open_files_allow(need);
    if (files >= need) return want;
    int fit = files > 2 * OTHER_FILES ? (int)(files - OTHER_FILES) / 17 * 16 : OTHER_FILES / 2;
    if (fit > want) fit = want;
    ps_log_line(&s->log, PS_LOG_WARN, "event=open_files limit=%" PRIu64 " connections=%d wanted=%d", files, fit, want);
    return fit;
}

static ps_status start_http(ps_server *s, const ps_server_options *o, ps_error *err) {
    ps_front_options http = front_options(s, o, o->http_port, o->http_threads);
    http.max_connections = allowed_connections(s, http.max_connections);
    if (http.max_connections < http.threads) http.max_connections = http.threads;
    PS_TRY(ps_http_start(&http, &s->http, err));
    s->port = ps_http_port(s->http);
    ps_log_line(&s->log, PS_LOG_INFO, "event=listen protocol=http host=%s port=%d", http.host, s->port);
    return PS_OK;
}

static int runner_threads(const ps_server *s, const ps_server_options *o) {
    return o->runners ? o->runners : ps_used_devices_runs(s->devices);
}

/* Another card, or processor, and runs that share it with others take other times: what was learnt is not theirs. */
static uint64_t setup_of(const ps_server *s, const ps_server_options *o) {
    const int counts[] = { runner_threads(s, o), ps_engine_threads(s->engine), ps_cpu_count() };
    uint64_t hash = ps_hash_bytes(counts, sizeof counts, 0);
    for (size_t i = 0; i < s->devices->n; i++) {
        ps_device_info info = { .size = sizeof info };
        if (ps_engine_find_device(s->engine, s->devices->all[i].name, &info, NULL) != PS_OK) continue;
        hash = ps_hash_bytes(info.hardware, strlen(info.hardware), hash);
        hash = ps_hash_bytes(info.driver, strlen(info.driver), hash);
    }
    return hash;
}

static ps_served_options served_options(const ps_server *s, const ps_server_options *o) {
    return (ps_served_options) { .devices = s->devices,
                                 .activations = o->activations,
                                 .max_batch = (uint32_t)(o->max_batch ? o->max_batch : DEFAULT_BATCH),
                                 .cache = s->cache,
                                 .setup = setup_of(s, o) };
}

static ps_status start_runner(ps_server *s, const ps_server_options *o, ps_error *err) {
    ps_runner_options options = { .threads = runner_threads(s, o),
                                  .policy = o->batch_policy,
                                  .tenants = o->tenants,
                                  .target_ns = o->latency_target_ms * INT64_C(1000000),
                                  .trace = s->trace,
                                  .shadow = s->shadow };
    int size = o->batch_size ? o->batch_size : o->max_batch ? o->max_batch : DEFAULT_BATCH;
    options.knobs.batch = options.knobs.preferred[0] = (uint32_t)size;
    options.knobs.delay_ns = o->batch_delay_ms * INT64_C(1000000);
    options.knobs.timeout_ns = o->queue_timeout_ms * INT64_C(1000000);
    return ps_runner_create(s->alloc, &options, &s->runner, err);
}

/* Without a cache the server learns models' times anew after each start: nothing to stop for. */
static void open_cache(ps_server *s) {
    ps_error err = PS_ERROR_INIT;
    if (ps_engine_cache(s->engine, &s->cache, &err) == PS_OK) return;
    char why[sizeof err.msg + 16];
    ps_log_line(&s->log, PS_LOG_WARN, "event=no_cache reason=%s", ps_log_quote(err.msg, why, sizeof why));
}

/* By the XDG base directory specification, which has relative paths ignored. NULL: nothing outlives the server. */
static const char *state_folder(char *buf, size_t size) {
    const char *xdg = ps_env_get("XDG_STATE_HOME"), *home = ps_env_get("HOME");
    bool by_home = !xdg || xdg[0] != '/';
    if (by_home && (!home || home[0] != '/')) return NULL;
    ps_snprintf(buf, size, "%s%s/polestar", by_home ? home : xdg, by_home ? "/.local/state" : "");
    return strlen(buf) + 1 < size ? buf : NULL;
}

static int64_t load_timeout_ns(const ps_server_options *o) {
    if (o->load_seconds < 0) return 0;
    return (o->load_seconds ? o->load_seconds : DEFAULT_LOAD_SECONDS) * INT64_C(1000000000);
}

/* Nothing of the engine goes beyond: what a load or a run finds no room for makes other models go. */
static size_t limit_memory(ps_server *s, const ps_server_options *o) {
    uint64_t total = ps_memory_total(), limit = o->memory_limit;
    if (!limit && total != UINT64_MAX) limit = total / 4 * 3;
    if (s->limit_before && (!limit || s->limit_before < limit)) limit = s->limit_before;
    if (limit > SIZE_MAX) limit = SIZE_MAX;
    atomic_store(&s->alloc->limit, (size_t)limit);
    atomic_store(&ps_engine_models_alloc(s->engine)->limit, (size_t)(limit - limit / PS_REQUESTS_SHARE));
    return (size_t)limit;
}

static size_t model_count(const ps_server_options *o) {
    return o->max_models < 0 ? 0 : o->max_models ? (size_t)o->max_models : DEFAULT_MODELS;
}

static int device_tries(const ps_server_options *o) {
    return o->device_tries < 0 ? 0 : o->device_tries ? o->device_tries : DEFAULT_DEVICE_TRIES;
}

static ps_status start(ps_server *s, const ps_server_options *o, ps_error *err) {
    char state[STATE_PATH];
    open_cache(s);
    PS_TRY(ps_used_devices_create(s->engine, o, &s->devices, err));
    ps_repository_options repository = { .engine = s->engine,
                                         .log = s->log,
                                         .models = o->models,
                                         .model_count = o->model_count,
                                         .dir = o->model_repository,
                                         .load_timeout_ns = load_timeout_ns(o),
                                         .memory_limit = limit_memory(s, o),
                                         .max_models = model_count(o),
                                         .device_tries = device_tries(o),
                                         .state = state_folder(state, sizeof state),
                                         .served = served_options(s, o) };
    (void)find_control(o->model_control, &repository.control);
    PS_TRY(ps_repository_create(&repository, &s->repository, err));
    size_t body = o->max_body_bytes ? o->max_body_bytes : DEFAULT_BODY;
    size_t shared = body > LEAST_SHARED / 4 ? 4 * body : LEAST_SHARED;
    s->bodies.max = shared;
    PS_TRY(ps_shm_table_create(s->alloc, allows_shared_memory(o), shared, &s->shm, err));
    PS_TRY(ps_trace_create(s->alloc, &s->log, &s->trace, err));
    PS_TRY(ps_shadow_create(s->engine, &s->shadow, err));
    PS_TRY(start_runner(s, o, err));
    PS_TRY(ps_pool_create(s->alloc, "ps-load", 1, LOADER_QUEUE, &s->loader, err));
    ps_repository_use_loader(s->repository, s->loader);
    PS_TRY(ps_pool_create(s->alloc, "ps-keep", 1, KEEPER_QUEUE, &s->keeper, err));
    ps_repository_use_keeper(s->repository, s->keeper);
    ps_repository_expect_all(s->repository); /* before the first request can come */
    PS_TRY(start_http(s, o, err));
    s->load_all.run = run_load_all;
    s->starting = true;
    PS_TRY(ps_pool_submit(s->loader, &s->load_all, err));
    ps_status status = start_grpc(s, o, err); /* while the first model loads */
    if (status == PS_OK) status = ps_repository_poll_start(s->repository, &s->poll, err);
    ps_mutex_lock(&s->lock);
    s->starting = false;
    ps_cond_broadcast(&s->changed);
    ps_mutex_unlock(&s->lock);
    return status;
}

ps_status ps_server_start(ps_engine *engine, const ps_server_options *options, ps_server **ret_server,
                          ps_error *reterr) {
    static const ps_server_options defaults = PS_SERVER_OPTIONS_INIT;
    const ps_server_options *o = options ? options : &defaults;
    PS_TRY(check_options(o, reterr));
    ps_alloc_state *alloc = ps_engine_alloc(engine);
    ps_server *s = ps_alloc_zero(alloc, sizeof *s);
    if (!s) return PS_FAIL_NOMEM(reterr, "the server");
    if (!ps_mutex_init(&s->lock) || !ps_cond_init(&s->changed)) { /* neither holds memory of its own on Linux */
        ps_free(alloc, s);
        return PS_FAIL_NOMEM(reterr, "a lock");
    }
    s->engine = engine;
    s->alloc = alloc;
    s->log = ps_log_filter_init(&s->log_filter, ps_engine_log(engine));
    s->limit_before = atomic_load(&alloc->limit);
    s->port = s->grpc_port = -1;
    s->drain_seconds = o->drain_seconds ? o->drain_seconds : 30;
    ps_status status = start(s, o, reterr);
    if (status != PS_OK) {
        ps_server_free(s);
        return status;
    }
    *ret_server = s;
    return PS_OK;
}

bool ps_server_wait_ready(ps_server *s, int milliseconds) {
    int64_t deadline = ps_clock_ns() + milliseconds * INT64_C(1000000);
    ps_mutex_lock(&s->lock);
    while (!s->ready && milliseconds > 0 && ps_cond_wait_until(&s->changed, &s->lock, deadline))
        continue;
    bool ready = s->ready;
    ps_mutex_unlock(&s->lock);
    return ready;
}

int ps_server_http_port(const ps_server *server) {
    return server->port;
}

int ps_server_grpc_port(const ps_server *server) {
    return server->grpc_port;
}

static bool wait_idle(ps_server *s, int64_t deadline_ns) {
    bool http = ps_http_wait_idle(s->http, deadline_ns);
    return wait_grpc_idle(s, deadline_ns) && http;
}

/* Pools first: they resume every suspended connection, which the daemon needs before it can stop. */
void ps_server_stop(ps_server *s) {
    if (atomic_exchange(&s->stopped, true)) return;
    if (s->http) {
        ps_log_line(&s->log, PS_LOG_INFO, "event=drain seconds=%d", s->drain_seconds);
        ps_http_drain(s->http);
        drain_grpc(s);
        ps_repository_stop_loading(s->repository);
        if (!wait_idle(s, ps_clock_ns() + s->drain_seconds * INT64_C(1000000000))) {
            ps_log_line(&s->log, PS_LOG_WARN, "event=drain_timeout seconds=%d", s->drain_seconds);
            ps_runner_cancel(s->runner);
            (void)wait_idle(s, ps_clock_ns() + LAST_REPLIES_NS);
        }
    }
    ps_repository_poll_stop(s->poll);
    ps_pool_free(s->loader);
    if (s->repository) ps_repository_use_keeper(s->repository, NULL);
    ps_pool_free(s->keeper);
    if (s->runner) ps_runner_stop(s->runner);
    ps_http_free(s->http);
    free_grpc(s);
    ps_shadow_free(s->shadow); /* requests may have been copied up to here */
    s->shadow = NULL;
    s->loader = NULL;
    s->keeper = NULL;
    s->poll = NULL;
    s->http = NULL;
    ps_log_line(&s->log, PS_LOG_INFO, "event=stopped");
}

void ps_server_free(ps_server *s) {
    if (!s) return;
    ps_server_stop(s);
    ps_repository_free(s->repository);
    ps_runner_free(s->runner);
    ps_trace_free(s->trace);
    atomic_store(&s->alloc->limit, s->limit_before);
    atomic_store(&ps_engine_models_alloc(s->engine)->limit, 0);
    ps_used_devices_free(s->devices);
    ps_shm_table_free(s->shm);
    ps_cond_destroy(&s->changed);
    ps_mutex_destroy(&s->lock);
    ps_free(s->alloc, s);
}
