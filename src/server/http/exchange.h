/* exchange.h - one request and its reply, from the end of the headers until the reply is sent.
 *
 * The daemon's thread collects the body and calls the handler, which sets the reply, or suspends the connection: then a
 * thread of a pool owns the exchange until it resumes the connection. The daemon's thread sends the reply and frees the
 * exchange. */
#ifndef PS_SERVER_HTTP_EXCHANGE_H
#define PS_SERVER_HTTP_EXCHANGE_H

#include <microhttpd.h>

#include "base/ticker.h"
#include "server/coding.h"
#include "server/http/blocks.h"
#include "server/http/gather.h"
#include "server/http/http.h"
#include "server/http/watch.h"

#define PS_HTTP_VERSION_MAX PS_LABEL_MAX /* bytes of a model version in a path, which may be a label */

struct ps_http {
    ps_front_options options;
    ps_alloc_state *alloc;
    struct MHD_Daemon *daemon;
    ps_watch *watch;
    ps_ticker *ticker;
    size_t open;         /* connections; guarded by lock */
    int64_t patience_ns; /* with slow clients */
    int listen_fd;       /* ours to close after ps_http_drain, else -1 */
    atomic_bool ready, draining;
    ps_mutex lock;
    ps_cond idle;
    size_t active;             /* exchanges; guarded by lock, like the next three */
    size_t answering;          /* of them, those whose body has arrived */
    struct ps_exchange *spare; /* ended ones, kept for their memory */
    unsigned n_spare;
    ps_blocks blocks;                 /* of bodies that were too large for those */
    atomic_llong last_upload;         /* ps_clock_ns of the last piece of any body */
    ps_gatherer gatherers[PS_MAX_GATHERERS];
    atomic_uintptr_t last_connection; /* of the last inference, only to be compared */
    atomic_llong shared_at; /* ps_clock_ns of the last one that came over another connection than the one before */
};

typedef struct ps_exchange ps_exchange;
typedef void (*ps_handler)(ps_exchange *x);

struct ps_exchange {
    ps_http *http;
    ps_exchange *next_spare;
    struct MHD_Connection *connection;
    ps_watched *watched; /* the connection; may be NULL */
    bool called,
        suspended;      /* the handler was; it left the reply to another thread. Touched by the daemon's thread only */
    bool again;         /* it is to be called once more: set by that other thread */
    ps_handler handler; /* NULL: the reply is decided already */
    const char *allow;  /* for 405 */
    int64_t retry_after_ns; /* for 503 */
    int64_t arrived_ns;

    char method[12], path[160];                                          /* for the log, cut off */
    char model[PS_MODEL_NAME_MAX + 1], version[PS_HTTP_VERSION_MAX + 1]; /* of the path, decoded; "" if it has none */

    const char *traceparent;          /* the header, if it is valid, else NULL; the connection's memory */
    char trace_id[33], parent_id[17]; /* of it, or "" */

    /* Of unread.h, the daemon's thread's but for `unread` */
    ps_coming coming;           /* while its large body is being read */
    bool counted;               /* it may be in the list of those */
    ps_wait unread;             /* while its body is left in the socket */
    const void *left_for;       /* its model, only to be compared */
    int64_t left_ns, unread_ns; /* since when it was left; for how long; 0: never */

    char *block; /* the body lies at block + body_pad, so that the raw tensors behind the JSON are aligned */
    size_t body_pad, body_size, body_room, body_total; /* body_total: bytes that arrived, kept or not */
    size_t block_size;
    char *spare_block; /* of an earlier body: the next may use it */
    size_t spare_size;
    uint64_t content_length;                           /* UINT64_MAX: not said */
    ps_coding coding;                                  /* of the body */
    bool has_json_size;
    size_t json_size; /* Inference-Header-Content-Length; of the unpacked body */

    int code;
    const char *type; /* of the reply; NULL: by what it holds */
    ps_str reply;
    size_t reply_json_size;          /* JSON part of a reply with raw tensors, else 0 */
    ps_coding accepts, reply_coding; /* what the client prefers, what the reply has */

    ps_infer infer; /* of the infer route */
    int64_t top;    /* of a photo: classes in the reply */
    ps_job job;     /* of load and unload */
};

static inline const char *ps_exchange_body(const ps_exchange *x) {
    return x->block + x->body_pad;
}

/* How long `size` bytes take a client that is as slow as we expect; on top of that it is given the patience. */
#define PS_SLOW_BYTES_PER_SECOND 8192
static inline int64_t ps_slow_ns(size_t size) {
    return (int64_t)(size / PS_SLOW_BYTES_PER_SECOND) * 1000000000;
}

/* The reply is `code` and what was appended to x->reply. */
void ps_exchange_ok(ps_exchange *x);
/* Is the body a photo, by its Content-Type? ret_known: of a kind that can be read. */
bool ps_exchange_is_photo(const ps_exchange *x, bool *ret_known);
/* Packs a reply that is worth it, if the client accepts that. Slow: not on the daemon's thread. */
void ps_exchange_pack(ps_exchange *x);
/* The reply is an error object; what was in x->reply is dropped. */
void ps_exchange_error(ps_exchange *x, int code, const char *text);
void ps_exchange_fail(ps_exchange *x, ps_status status, const ps_error *err);

/* Suspends the connection, in a handler: from the hand-over on only the thread that will call ps_exchange_resume may
 * touch the exchange. */
void ps_exchange_suspend(ps_exchange *x);
/* The reply is ready. */
void ps_exchange_resume(ps_exchange *x);

#endif
