/* call.h - one call: from its arrival until grpc core has sent the reply.
 *
 * A thread of the front end takes the call and runs the method's handler, which answers (ps_call_finish), or leaves
 * that to a thread of a pool. From ps_call_finish on the call belongs to grpc core, until a thread of the front end
 * frees it. */
#ifndef PS_SERVER_GRPC_CALL_H
#define PS_SERVER_GRPC_CALL_H

#include <grpc/grpc.h>
#include <stdatomic.h>

#include "base/thread.h"
#include "server/grpc/grpc.h"

typedef struct ps_call ps_call;
typedef struct ps_stream ps_stream;

/* What grpc core hands back when something has happened. */
typedef struct ps_tag ps_tag;
struct ps_tag {
    void (*happened)(ps_tag *tag, bool ok); /* on a thread of the front end */
};

typedef struct ps_method {
    const char *path;
    void (*handle)(ps_call *c); /* the message has been read */
    int posted;                 /* calls that grpc core can hand over before we have taken one */
    bool stream;                /* the handler reads the messages itself */
    bool health;                /* answered while the server drains too */
} ps_method;

extern const ps_method ps_methods[];
extern const size_t ps_method_count;

struct ps_grpc {
    ps_front_options options;
    ps_alloc_state *alloc;
    grpc_completion_queue *queue;
    grpc_server *server;
    void **registered; /* one per method */
    int port;
    ps_thread *threads;
    int n_threads;
    ps_tag stopped;                        /* the server has shut down */
    atomic_bool ready, draining, stopping; /* draining: new calls are refused; stopping: none comes any more */
    atomic_llong last_call;                /* ps_clock_ns of the last arrival */
    int64_t drain_ns;                      /* when draining began */
    ps_mutex lock;
    ps_cond idle;   /* no call is active, or the server has stopped */
    size_t active;  /* calls in progress; guarded by lock, like all below */
    ps_call *spare; /* calls to use again */
    ps_stream *streams;
};

/* One message as bytes. */
typedef struct ps_message {
    grpc_byte_buffer *buffer; /* as it came; may be NULL */
    char *block;              /* our copy, or NULL */
    const void *data;
    size_t size, held; /* held: of the budget */
} ps_message;

struct ps_call {
    ps_tag tag;    /* first: of the arrival, then of the reply */
    ps_tag closed; /* of the end, where ps_call_watch asked for it */
    ps_grpc *grpc;
    const ps_method *method; /* NULL: a path that nothing serves */
    grpc_call *call;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_call_details details; /* of unknown paths */
    ps_message message;
    int64_t arrived_ns;
    char trace_id[33], parent_id[17]; /* of the traceparent, or "" */
    const grpc_metadata *traceparent; /* in `metadata`, or NULL */

    int code; /* grpc_status_code of the reply */
    grpc_byte_buffer *reply;
    size_t reply_size;
    bool watched, failed; /* failed: the reply could not be sent */
    atomic_int pending;   /* of the two tags, those that have not come back; 0: none is awaited */
    int cancelled;        /* set by grpc core when the call is over */
    ps_status (*describe)(ps_call *c, const ps_served *served, ps_error *err); /* of a model, when it is loaded */
    bool other_shape;  /* of load and unload: see repository.c */
    bool post_again;   /* memory for the next call was short */
    const char *model; /* its name in the request, in the arena; or NULL */

    ps_infer infer; /* its arena is the call's, its error the reply's text */
    ps_job job;     /* of load and unload */
    ps_call *next;  /* of the spare ones */
};

/* ---- life (call.c) ---- */

/* Lets grpc core hand over one more call; false: out of memory. */
bool ps_call_post(ps_grpc *grpc, const ps_method *method);
void ps_call_free_spare(ps_grpc *grpc);
/* Asks to hear at once when the client gives the call up: then a request that waits leaves the queue. */
void ps_call_watch(ps_call *c);
/* Answers: with c->reply, or with an error (nothing if OK). The call must not be touched any more. */
void ps_call_finish(ps_call *c);
void ps_call_fail(ps_call *c, ps_status status); /* with c->infer.error */
/* Gives all memory back; the call may be used again. */
void ps_call_release(ps_call *c);
/* The call is over: counted and in the log. */
void ps_call_ended(ps_call *c);
void ps_call_log(const ps_call *c, const char *model, const ps_infer *infer, int code, size_t in, size_t out,
                 bool aborted);
/* The first of that key in what the client sent, its value copied to text and cut off to fit; NULL: none. */
const grpc_metadata *ps_call_find_metadata(const ps_call *c, const char *key, char *text, size_t room);
/* Initial metadata of the reply: the traceparent as it came. Returns their number, at most 1. */
size_t ps_call_metadata(const ps_call *c, grpc_metadata *ret);
/* `code` of the reply as the name of its constant. */
const char *ps_call_code_name(int code);

/* ---- messages (message.c) ---- */

/* Makes m->buffer bytes: in place if it is one piece, else copied so that raw tensors are aligned; unpacked if it is
 * compressed. PS_LIMIT over the message limit, PS_NO_MEMORY when all requests together hold too much. */
ps_status ps_message_read(ps_grpc *grpc, ps_message *m, ps_error *err);
void ps_message_release(ps_grpc *grpc, ps_message *m);
/* A buffer for `size` bytes that are written to *ret_data before it is sent. NULL: out of memory. */
grpc_byte_buffer *ps_message_create(ps_alloc_state *alloc, size_t size, uint8_t **ret_data);

/* ---- inference (infer.c) ---- */

/* Reads the message and queues the run, now or when the model is loaded; infer->ctx is the call. On failure
 * infer->status and infer->error are set and nothing was queued.
 * *model is set before the request is: it is the name in the request. */
ps_status ps_grpc_submit(ps_grpc *grpc, ps_infer *infer, const ps_message *m, const char **ret_model);
/* The client is gone: as ps_runner_give_up, also for a request that waits for its model. */
bool ps_grpc_give_up(ps_grpc *grpc, ps_infer *infer);
void ps_grpc_end_given_up(ps_grpc *grpc, ps_infer *infer);
/* The reply to an inference; for a stream inside of ModelStreamInferResponse. */
ps_status ps_grpc_encode(ps_infer *infer, bool stream, grpc_byte_buffer **ret, size_t *ret_size, ps_error *err);
/* A loaded model; version "" for whichever. PS_INVALID for a version that is neither a number nor a label. */
ps_status ps_grpc_check_target(const char *name, const char *version, ps_error *err);
ps_status ps_grpc_peek(ps_grpc *grpc, const char *name, const char *version, ps_served **ret, ps_error *err);
/* The model of infer->model_name and version_name. PS_OK with *ret NULL: it is being loaded, and infer->wait.over will
 * be called; the call must not be touched until then. */
ps_status ps_grpc_acquire(ps_grpc *grpc, ps_infer *infer, ps_served **ret, ps_error *err);
/* The client's deadline in time of ps_clock_ns; 0: none. */
int64_t ps_grpc_deadline(gpr_timespec deadline);

/* ---- streams (stream.c) ---- */

/* Streams read no more and end when they have answered. */
void ps_streams_drain(ps_grpc *grpc);

#endif
