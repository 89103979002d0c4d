/* repository.h - the models a server knows, by name.
 *
 * A model is known through an explicit path or because it lies in the repository folder:
 *     DIR/NAME/VERSION/model.onnx   VERSION is a positive integer; DIR/NAME/config.pbtxt says which are served, else
 * the highest DIR/NAME/model.onnx           version 1 DIR/NAME.onnx                 version 1 and the same with .pt2;
 * model.onnx is taken where both are there A model that fails to load stays known, with the reason; the others serve.
 * What is not loaded, or was evicted to make room, is loaded by the request that asks for it, if the control mode
 * allows that. Loads and unloads happen on the loader's thread and the caller's, one at a time. All functions may be
 * called from any thread; load blocks for as long as the model takes. */
#ifndef PS_SERVER_REPOSITORY_H
#define PS_SERVER_REPOSITORY_H

#include "base/log.h"
#include "polestar/server.h"
#include "sched/sched.h"
#include "server/waits.h"
#include "server/pool.h"
#include "server/served.h"
#include "server/traffic.h"

#define PS_MODEL_NAME_MAX 255 /* bytes */

typedef struct ps_repository ps_repository;

/* KNOWN: never loaded. LOADING with a served model: it is being replaced, and serves until then. UNLOADED: by hand, or
 * because a newer version serves. EVICTED: it had to make room, or found none. */
typedef enum ps_model_state {
    PS_MODEL_KNOWN,
    PS_MODEL_LOADING,
    PS_MODEL_READY,
    PS_MODEL_FAILED,
    PS_MODEL_UNLOADING,
    PS_MODEL_UNLOADED,
    PS_MODEL_EVICTED
} ps_model_state;

/* What is loaded when. ON_DEMAND: at the start in order of name until there is little room left, the rest by its first
 * request. ALL: all at the start. EXPLICIT: what was listed at the start, the rest by the repository extension. POLL:
 * as ON_DEMAND, and changes of the folder are taken up. Only ON_DEMAND and POLL evict. */
typedef enum ps_model_control {
    PS_CONTROL_ON_DEMAND,
    PS_CONTROL_ALL,
    PS_CONTROL_EXPLICIT,
    PS_CONTROL_POLL
} ps_model_control;

typedef struct ps_repository_options {
    ps_engine *engine;
    ps_log log;
    const ps_server_model *models; /* explicit ones; a name twice is refused */
    size_t model_count;
    const char *dir;         /* may be NULL */
    int64_t load_timeout_ns; /* how long a request waits for its model to be loaded; 0: not at all */
    ps_model_control control;
    size_t memory_limit; /* bytes of the engine that loads keep within; 0: none */
    size_t max_models;   /* versions loaded at once; 0: no end */
    int device_tries;    /* to open a lost device anew */
    const char *state;   /* folder of what outlives the server; NULL: nothing does */
    ps_served_options served;
} ps_repository_options;

/* Learns the names; loads nothing. Options are copied. */
ps_status ps_repository_create(const ps_repository_options *options, ps_repository **ret, ps_error *err);
void ps_repository_free(ps_repository *repo); /* NULL is allowed */

/* From now on requests may have models loaded, by jobs of this pool, which has one thread and is freed before the
 * repository. */
void ps_repository_use_loader(ps_repository *repo, ps_pool *loader);

/* With control POLL: watches the folder from now on. *ret is NULL with any other. Stop it before the loader. */
typedef struct ps_repository_poll ps_repository_poll;
ps_status ps_repository_poll_start(ps_repository *repo, ps_repository_poll **ret, ps_error *err);
void ps_repository_poll_stop(ps_repository_poll *poll); /* NULL is allowed */

/* Those that models run on. */
const ps_used_devices *ps_repository_devices(const ps_repository *repo);

/* Loads (or reloads) the versions of one model that its policy names. When a reload fails, the loaded one keeps
 * serving. PS_NOT_FOUND if nothing has that name. */
ps_status ps_repository_load(ps_repository *repo, const char *name, ps_error *err);
/* Loads every model that is to be loaded at the start; failures are logged and kept as the model's reason. */
void ps_repository_load_all(ps_repository *repo);
/* From now on requests for models that were never loaded wait for ps_repository_load_all. */
void ps_repository_expect_all(ps_repository *repo);
/* ps_repository_load_all returns after the model it is at. No request waits for a load any more. */
void ps_repository_stop_loading(ps_repository *repo);
/* No request can have the model from now on; those that have it, queued or running, finish. Returns when they have and
 * its memory is given back. Unknown or unloaded names are fine. */
void ps_repository_unload(ps_repository *repo, const char *name);

/* A reference to the loaded model (ps_served_release it). version: digits, or a label; NULL: the one that gets most of
 * the model's traffic, else the highest that is ready. PS_NOT_FOUND: unknown name or version, or unloaded;
 * PS_UNAVAILABLE: loading, or failed (with its reason). What is not loaded and may be is loaded from now on.
 * *ret_routed: the model has rules of traffic, and ps_repository_route is to say where a request without a version
 * goes. */
ps_status ps_repository_acquire(ps_repository *repo, const char *name, const char *version, ps_served **ret,
                                bool *ret_routed, ps_error *err);
/* The same for a request that may wait: PS_OK with *ret NULL while the model is loaded; w->over is called when that has
 * changed, or after the load timeout, and is to ask again. PS_UNAVAILABLE if w has waited for that long. */
ps_status ps_repository_await(ps_repository *repo, const char *name, const char *version, ps_wait *w,
                              ps_served **ret, bool *ret_routed, ps_error *err);
/* True: it waits no longer, and `over` is not called. */
bool ps_repository_leave(ps_repository *repo, ps_wait *w);
/* Is there a request that waits for a model, or has not been told yet that it is there? Without a lock. */
bool ps_repository_waits(const ps_repository *repo);
/* As ps_repository_acquire, but loads nothing. */
ps_status ps_repository_peek(ps_repository *repo, const char *name, const char *version, ps_served **ret,
                             ps_error *err);
/* PS_OK for what ps_repository_acquire finds, now or once it is loaded; loads nothing. */
ps_status ps_repository_ready(ps_repository *repo, const char *name, const char *version, ps_error *err);
/* Versions of a model that can be asked for, ascending, in the arena; returns how many. *ret NULL: out of memory. */
size_t ps_repository_versions(ps_repository *repo, const char *name, ps_arena *arena, const char ***ret);
/* ---- traffic: repository_traffic.c ---- */

/* Where a request went, from ps_repository_route to ps_routed_done. Zero: nowhere, no rules hold for it. */
typedef struct ps_routed {
    ps_repository *repo; /* NULL: no rules */
    struct ps_entry *entry;
    int64_t version;
    bool again;        /* another version failed it */
    ps_served *shadow; /* a reference: the version that a copy goes to, or NULL */
    int64_t shadow_version;
    double rtol, atol;
} ps_routed;

/* What of a request decides. */
typedef struct ps_route_key {
    const char *key;         /* NULL: none */
    const char *sequence_id; /* "": none */
    bool sequence_start;
} ps_route_key;

/* Changes are kept by jobs of this pool, which has one thread and is freed before the repository. */
void ps_repository_use_keeper(ps_repository *repo, ps_pool *keeper);
/* Of a copy of the request: whether there is one, and how its answer compares. */
void ps_routed_copied(const ps_routed *route, bool copied);
void ps_routed_compared(const ps_routed *route, const ps_shadow_result *result);
/* From the version `held` (a reference, which is taken) to the one the request is routed to (a reference). Never fails,
 * never waits: where the chosen version is not ready the stable one answers, else `held` does. */
ps_served *ps_repository_route(ps_repository *repo, ps_served *held, const ps_route_key *key, ps_routed *ret);
/* Does the end of a request say anything of the version? Not if the client or the server ended it. */
bool ps_routed_is_outcome(ps_status status);
/* A request that was routed has its answer. latency_ns below 0: it says nothing of the version's. */
void ps_routed_done(ps_routed *route, ps_status status, int64_t latency_ns);
/* The version failed the request: another one to try instead, once (a reference), or NULL. Counts the failure. */
ps_served *ps_routed_again(ps_routed *route, ps_status status);
/* On the keeper's thread: changes what ps_traffic_read made, and keeps it. */
ps_status ps_repository_change_traffic(ps_repository *repo, const char *name, const ps_traffic_change *change,
                                       ps_error *err);
/* A JSON object of the model's traffic. PS_NOT_FOUND: no such model. */
ps_status ps_repository_write_traffic(ps_repository *repo, const char *name, ps_str *out, ps_error *err);
/* Of all models that have any, in order of name; ps_free it. Names live as long as the repository. */
typedef struct ps_traffic_copy {
    const char *model;
    ps_traffic traffic;
} ps_traffic_copy;
ps_status ps_repository_copy_traffic(ps_repository *repo, ps_traffic_copy **ret, size_t *ret_count, ps_error *err);
/* ,"labels":[…],"traffic":{…} of one version; nothing for a model without rules. */
void ps_repository_write_version_traffic(ps_repository *repo, const char *name, const char *version, ps_str *out);

/* A run found no memory: makes an idle model go. False: none can. */
bool ps_repository_relieve(ps_repository *repo);
/* The same; or a load is under way, which may give some back: it has been waited for a moment. */
bool ps_repository_await_relief(ps_repository *repo);
/* Memory for a request: as ps_realloc, or as ps_alloc_data if block is NULL, of the engine's allocator, and idle models
 * go for it. NULL: there is none all the same. */
void *ps_repository_alloc(ps_repository *repo, void *block, size_t bytes);

/* ---- statistics: repository_stats.c ---- */

/* One version that something has happened to: that was loaded once, or was to be. A copy, and no reference to the
 * model: who asks for statistics keeps none from making room. */
typedef struct ps_counted {
    ps_stats_version of; /* names live as long as the repository */
    ps_stats *stats;     /* a reference */
    bool loaded, scheduled;
    ps_sched_stats sched; /* if scheduled */
} ps_counted;

/* In order of name and version. name NULL: of all models; version NULL: all, else digits or a label. runner: fills in
 * what it counts; NULL: nobody needs it. Loads nothing. PS_NOT_FOUND: there is no such model or version. */
ps_status ps_repository_counted(ps_repository *repo, const char *name, const char *version, ps_runner *runner,
                                ps_counted **ret, size_t *ret_count, ps_error *err);
void ps_counted_free(ps_repository *repo, ps_counted *counted, size_t n);
/* A request for inference failed that has no model: counted where the model, and the version, are known. UNAVAILABLE
 * is told apart: what could not be loaded, and what was not in time. */
void ps_repository_count_failure(ps_repository *repo, const char *name, const char *version, ps_failure failure,
                                 int64_t total_ns);
/* One version of the index. A model that no request loads and nobody has loaded yet has only its name: the others are
 * NULL, as in Triton's. */
typedef struct ps_index_entry {
    const char *name, *version, *state, *reason;
} ps_index_entry;

/* All models in order of name and version; only loaded ones if ready_only. Looks for new models in the folder first.
 * `visit` is called under the repository's lock. */
void ps_repository_visit(ps_repository *repo, bool ready_only, void (*visit)(void *ctx, const ps_index_entry *e),
                         void *ctx);
/* The same as a JSON array. */
void ps_repository_write_index(ps_repository *repo, bool ready_only, ps_str *out);

/* Not empty, at most PS_MODEL_NAME_MAX bytes of UTF-8 without '/', '\' and control characters, not starting with '.'.
 */
bool ps_model_name_valid(const char *name);

/* Of the memory limit, what no model gets: a request's body and its reply find room while a load fills up the rest. */
#define PS_REQUESTS_SHARE 32

#endif
