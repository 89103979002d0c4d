/* server.h - serves models over the Open Inference Protocol (KServe v2).
 *
 * ps_server_start returns once the sockets listen; models load behind it (ps_server_wait_ready). Requests are answered
 * by threads of the server. Any thread may call the other functions; ps_server_free waits for requests in flight. */
#ifndef POLESTAR_SERVER_H
#define POLESTAR_SERVER_H

#include "polestar/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ps_server ps_server;

typedef struct ps_server_model {
    const char *name; /* NULL: derived from the path */
    const char *path; /* model.onnx or model.pt2, or a folder that holds one */
    /* What would stand in MODEL.state.json (docs/serving.md, Sequences), as JSON text; NULL: that file, if there is
     * one. */
    const char *states;
} ps_server_model;

/* A device with memory of its own, and the most of it that models may take. */
typedef struct ps_server_device_limit {
    const char *device;
    uint64_t bytes;
} ps_server_device_limit;

typedef struct ps_server_options {
    size_t size;
    const char *host; /* NULL: 127.0.0.1 */
    int http_port;    /* 0: any free one, see ps_server_http_port */
    const ps_server_model *models;
    size_t model_count;
    const char *model_repository; /* DIR/<model>/<version>/model.onnx; may be NULL */
    size_t max_body_bytes;        /* 0: 64 MiB */
    int max_connections;          /* 0: 1024 */
    int http_threads;             /* 0: 1 */
    int runners;                  /* concurrent runs; 0: 2 a device if all have memory of their own, else 1 per core */
    int drain_seconds;            /* time for requests in flight on stop; 0: 30 */
    /* As ps_model_options.device: on a list each model is on all of them, unless its configuration says otherwise. */
    const char *device;
    /* "on": clients may register POSIX shared memory of this machine, which the server then reads and writes for them;
     * "off"; NULL or "auto": on if host is this machine only */
    const char *shared_memory;
    /* Patience with slow clients; 0: 30. A body or a reply may take so long and the time it takes at 8 KiB/s; a
     * connection may be silent for twice, headers may take three times as long. */
    int client_seconds;
    int grpc_port;    /* 0: any free one, see ps_server_grpc_port; -1: no gRPC. Without effect in builds without gRPC */
    int grpc_threads; /* 0: 1 */
    int max_batch;    /* rows that may share a run, of models whose rows are independent; 0: 32, 1: no batching */
    /* Milliseconds that every request may take: what cannot be answered in time is refused. 0: automatic, the larger of
     * 100 and twice the time of one row alone, which steers the size of batches and refuses nothing. */
    int latency_target_ms;
    /* "deadline" (NULL), or, for comparison, "fixed", "triton", "aimd" or "linear": docs/scheduling.md */
    const char *batch_policy;
    int batch_size;       /* fixed, triton: the size; 0: max_batch */
    int batch_delay_ms;   /* fixed, triton: longest wait for it */
    int queue_timeout_ms; /* fixed, triton: what waits for longer is answered with an error; 0: no end */
    /* What is loaded when: "on-demand" (NULL: at the start while there is room, the rest by its first request), "all"
     * at the start, "explicit" (of the repository what the repository extension asks for) or "poll" (as on-demand, and
     * changes of the repository are taken up): docs/repository.md. */
    const char *model_control;
    /* Bytes that the engine may hold while it serves: models that were not used for longest go to make room. 0: three
     * quarters of what the process may use. */
    uint64_t memory_limit;
    /* The same of each device that has memory of its own: for weights and what sessions compute with. 0: three
     * quarters of what it has. */
    uint64_t device_memory_limit;
    int max_models;   /* models loaded at once; 0: 10, -1: no end */
    int load_seconds; /* how long a request waits for a model that is being loaded; 0: 30, -1: not at all */
    const ps_server_device_limit *device_limits; /* of some devices; may be NULL */
    size_t device_limit_count;
    int device_tries; /* to open a device that was lost anew, before its models are given up; 0: 10, -1: none */
    ps_dtype activations; /* of all models, as ps_model_options.activations */
    /* "NAME=WEIGHT,...", weights from 1 to 1000: what requests with the parameter `tenant` get of the device beside
     * each other, those with none or another name together as one of weight 1. NULL: all are alike. */
    const char *tenants;
} ps_server_options;

#define PS_SERVER_OPTIONS_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(ps_server_options), 0, 8000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8001, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0, 0, PS_DTYPE_UNDEFINED, 0                                                                             \
    }

PS_API ps_status ps_server_start(ps_engine *engine, const ps_server_options *options, ps_server **ret_server,
                                 ps_error *reterr);
PS_API int ps_server_http_port(const ps_server *server);
PS_API int ps_server_grpc_port(const ps_server *server); /* -1: it does not speak gRPC */
/* true once every model named at the start has been loaded or refused; false after `milliseconds` (0: ask only). */
PS_API bool ps_server_wait_ready(ps_server *server, int milliseconds);
/* Stops accepting, answers what is in flight (at most drain_seconds), closes. Blocks. */
PS_API void ps_server_stop(ps_server *server);
PS_API void ps_server_free(ps_server *server); /* stops first; NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
