/* core.h - the v2 protocol without a wire: requests, replies and descriptions as the server's core sees them.
 *
 * A front end (http/, grpc/) turns bytes into a ps_infer, submits it, and turns the results into bytes in
 * `encode`. The core checks the request against the model, runs it, and counts. Life of a ps_infer:
 *
 *     ps_infer_init → front end fills the request → ps_core_submit ─ error ─────────────────────► ps_infer_release
 *                                                       └ OK → queue → runner: run, encode, done ─► ps_infer_release
 *
 * `encode` is called on a runner's thread after a run that succeeded; the result tensors are the session's own memory
 * and valid only until it returns. `done` is called exactly once, on the same thread, with status and error set; from
 * then on the core does not touch the request, and `served` is NULL already.
 *
 * A request that is known to take at most `here_ns` may be run by ps_core_submit itself, on the thread that calls it:
 * then `encode` and `done` have been called when it returns. Every other request changes threads, and `park` is called
 * before. */
#ifndef PS_SERVER_CORE_H
#define PS_SERVER_CORE_H

#include "base/arena.h"
#include "base/str.h"
#include "sched/sched.h"
#include "server/pool.h"
#include "server/repository.h"
#include "server/shared_memory.h"

#define PS_INFER_MAX_TENSORS 1024 /* inputs or requested outputs of one request */
#define PS_INFER_MAX_TIMEOUT_US (INT64_C(366) * 86400 * 1000000)
#define PS_INFER_MAX_KEY 256        /* bytes of a routing key */
#define PS_INFER_MAX_CLASSES 100000 /* of the classification extension */

/* A row-major tensor; for BYTES data is an array of ps_string. */
typedef struct ps_infer_tensor {
    const char *name;
    ps_dtype dtype;
    ps_shape shape;
    size_t elements;
    const void *data;
} ps_infer_tensor;

/* One requested output. */
typedef struct ps_infer_want {
    const char *name;
    int64_t classes;    /* > 0: the classification extension: the k highest as BYTES "value:index[:label]" */
    bool says_form;     /* for the front end: the request says for this output … */
    bool binary;        /* … raw bytes rather than JSON */
    ps_shm_region *shm; /* a reference: the raw bytes go to [shm_offset, + shm_size) of it */
    size_t shm_offset, shm_size;
} ps_infer_want;

typedef struct ps_runner ps_runner;
typedef struct ps_infer ps_infer;
struct ps_infer {
    ps_sched_request request; /* first; the runner's */
    ps_engine *engine;
    ps_arena arena;
    const char *id; /* "" if there is none */
    /* For front ends that need them after they have read the request, in the arena. */
    const char *model_name, *version_name;
    ps_infer_tensor *inputs;
    size_t n_inputs;
    ps_infer_want *wants; /* none: all outputs, in the model's order */
    size_t n_wants;
    /* The sequence extension: "" for none, else 'i' and a number or 's' and a text, which are different ids. */
    const char *sequence_id;
    bool sequence_start, sequence_end;
    const char *routing_key; /* NULL: none; requests with equal keys go to one version, where versions share traffic */
    const char *tenant;      /* NULL: none */
    uint32_t priority;       /* 1 runs first; 0, for none, runs after all others */
    int64_t timeout_us;      /* from arrival until the run must end; 0: none */
    bool want_binary;        /* `binary` of outputs that are not listed */
    ps_shm_table *shm;       /* regions that the request may name; NULL: none */
    size_t shm_bytes;        /* reserved in it */
    int64_t arrived_ns;      /* of ps_clock_ns; the start of the request for statistics */
    int64_t deadline_ns;   /* of ps_clock_ns; 0: none. The front end may set one; a timeout can only make it earlier */
    atomic_bool abandoned; /* any thread, at any time (ps_runner_give_up): a run that has not begun is not begun */
    /* NULL, or called before `encode`, before the run: fills slots of `tensors` that are costly to make */
    ps_status (*prepare)(ps_infer *infer, ps_error *err);
    /* PS_NO_MEMORY leaves nothing behind: it is called again once there is room */
    ps_status (*encode)(ps_infer *infer, ps_error *err);
    void (*done)(ps_infer *infer);
    int64_t here_ns;               /* 0, PS_QUICK_SHARED_NS or PS_QUICK_ALONE_NS */
    void (*park)(ps_infer *infer); /* NULL, or called once at most, on the submitting thread, before another has it */
    ps_wait wait;                  /* `over`: NULL, or the request may wait for its model (ps_core_acquire) */
    uint32_t form;                 /* of the reply: requests whose encoding takes another time differ in it */
    void *ctx;                     /* of the front end */

    /* set by the core */
    ps_served *served; /* a reference */
    ps_routed route;   /* from ps_core_acquire on, if the model has rules of traffic */
    ps_status (*prepare_again)(ps_infer *infer, ps_error *err); /* `prepare`, for another version */
    bool wants_all, encoding;                                   /* `wants` are the model's; `encode` has been called */
    ps_tensor **tensors; /* one per model input, over the memory of `inputs`; NULL where the request has none */
    size_t n_tensors;
    int *selected; /* model output of each want */
    ps_runner *runner;
    int64_t loaded_ns; /* if it waited for its model: since when that is loaded */
    int64_t queued_ns;
    uint64_t quick_key;         /* 0: may not run on the submitting thread */
    ps_sequence *sequence;      /* from ps_sequence_enter to ps_sequence_leave */
    ps_infer *next_of_sequence; /* of those that wait for their turn */
    bool behind;                /* it waits for its turn; guarded by the runner's lock */
    ps_sched_reason refused;    /* why it was not admitted, or PS_SCHED_OK */

    ps_infer_tensor *results; /* one per want, for `encode` */
    ps_stats_sample sample;
    ps_status status; /* for `done` */
    ps_error error;
    int64_t retry_after_ns; /* of a refusal: when the request would have been taken, from then; 0: not known */
};

void ps_infer_init(ps_infer *infer, ps_engine *engine);
void ps_infer_release(ps_infer *infer);
/* The same, but keeps some memory for the next request, at most so many bytes; as after ps_infer_init. */
void ps_infer_recycle(ps_infer *infer, size_t max_bytes);
/* Gives the reference to the model back before the request is released: an unload waits for it. */
void ps_infer_drop_served(ps_infer *infer);

/* ps_repository_acquire for a request. PS_OK with *ret NULL: it has been parked and waits for the model; when
 * infer->wait.over is called, it is to ask again. */
ps_status ps_core_acquire(ps_repository *repo, ps_infer *infer, const char *name, const char *version, ps_served **ret,
                          ps_error *err);
/* Checks the request against `served` (takes over the reference, also on failure; infer->served may become another
 * version's) and queues it. PS_NOT_FOUND,
 * PS_INVALID, PS_TYPE, PS_SHAPE for a bad request, PS_UNAVAILABLE when the queue is full. */
ps_status ps_core_submit(ps_runner *runner, ps_infer *infer, ps_served *take_served, ps_error *err);
/* Finds the model's input of that name and checks type and shape. */
ps_status ps_core_check_input(const ps_infer *infer, const ps_infer_tensor *t, int *ret_index, ps_error *err);
/* Why the request failed, for the statistics. */
ps_failure ps_core_failure(const ps_infer *infer, ps_status status);
/* For requests that fail in ps_core_acquire or while they wait for a load, before ps_core_submit, and in it or in the
 * queue. */
void ps_core_count_unserved(ps_repository *repo, const char *name, const char *version, ps_status status,
                            int64_t arrived_ns);
void ps_core_count_failure(ps_served *served, ps_status status, int64_t arrived_ns);
void ps_core_count_refusal(ps_infer *infer, ps_status status);
/* A request that ends with infer->status, not encoded yet: true if that is a failure that another version of the model
 * may not share; the request is that version's now, checked, and is to be queued again. */
bool ps_core_try_again(ps_infer *infer);

/* JSON documents of the protocol, appended to out. */
void ps_core_write_server(bool shared_memory, ps_str *out);
/* versions: those of the model that can be asked for; none: only this one. */
void ps_core_write_metadata(const ps_served *served, const char *const *versions, size_t n_versions, ps_str *out);
/* Does the configuration state a max_batch_size? Not of a model that has an input of the batch's dim alone, though
 * requests share runs: no dims would be left, which clients take for an error (Triton has `reshape` for it). */
bool ps_core_config_batched(const ps_served *served);
/* Dims of an input or output as the configuration states them: a batched model's without the first. */
ps_shape ps_core_config_shape(const ps_served *served, const ps_shape *shape);
void ps_core_write_config(const ps_served *served, ps_str *out);

/* The names of the protocol extensions; returns how many. */
#define PS_CORE_EXTENSIONS 11
size_t ps_core_extensions(bool shared_memory, const char *ret[PS_CORE_EXTENSIONS]);
extern const char ps_core_platform[], ps_core_backend[];

/* The HTTP status and the gRPC status code for an error: the one table. */
int ps_status_http(ps_status status);
int ps_status_grpc(ps_status status);

#endif
