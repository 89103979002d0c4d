/* ModelStreamInfer: each message of the client is an inference, and its reply goes back when all before it have.
 *
 * One read and one write are under way at most. Requests run at the same time, up to MAX_ITEMS of them: then nothing is
 * read until a reply is away, and flow control holds the client. A request that fails is an error_message; the stream
 * lives on. It ends when the client has half-closed it, or the server drains, and all is answered. */
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <string.h>

#include "base/os.h"
#include "base/wire.h"
#include "server/grpc/handlers.h"

enum { MAX_ITEMS = 64, ERROR_MESSAGE = 1 };

typedef struct item item;
struct item {
    ps_infer infer; /* first */
    ps_stream *stream;
    ps_message message;
    grpc_byte_buffer *reply;
    size_t reply_size;
    const char *model; /* in the request's arena, or NULL */
    int code;
    bool ready; /* the reply is there; guarded by the stream's lock */
    item *next, *next_given_up;
};

struct ps_stream {
    ps_call *c;
    ps_tag opened, did_read, did_write, did_end; /* `opened` completes when the call is over */
    grpc_byte_buffer *received;
    ps_mutex lock;
    item *first, **last; /* in order of arrival; guarded by lock, like all below */
    item *writing;       /* taken from the list */
    size_t items;        /* listed or being written */
    uint64_t messages;
    bool reading, no_more;      /* a message is read or taken; none is read after */
    bool ending, ended;         /* the status is being sent; it was or is */
    bool over;                  /* `opened` has completed */
    ps_stream *previous, *next; /* of the front end's; guarded by its lock */
};

#define STREAM_OF(tag, member) ((ps_stream *)((char *)(tag)-offsetof(ps_stream, member)))

/* ---- items ---- */

static void item_free(item *i) {
    ps_grpc *g = i->stream->c->grpc;
    ps_infer_release(&i->infer);
    ps_message_release(g, &i->message);
    if (i->reply) grpc_byte_buffer_destroy(i->reply);
    ps_free(g->alloc, i);
}

/* ModelStreamInferResponse with an error_message. */
static void encode_error(item *i) {
    uint8_t *p;
    const char *text = i->infer.error.msg;
    i->code = ps_status_grpc(i->infer.status);
    if (i->reply) grpc_byte_buffer_destroy(i->reply);
    i->reply_size = ps_wire_len_size(ERROR_MESSAGE, strlen(text));
    i->reply = ps_message_create(i->stream->c->grpc->alloc, i->reply_size, &p); /* small: never NULL */
    ps_wire_put_len(p, ERROR_MESSAGE, text, strlen(text));
}

/* ---- the stream; the lock is held ---- */

static void start(ps_stream *s, grpc_op *op, ps_tag *tag) {
    grpc_call_error rc = grpc_call_start_batch(s->c->call, op, 1, tag, NULL);
    (void)rc; /* one read, one write and one end at a time: never refused */
}

static void start_read(ps_stream *s) {
    grpc_op op = { .op = GRPC_OP_RECV_MESSAGE };
    op.data.recv_message.recv_message = &s->received;
    s->reading = true;
    start(s, &op, &s->did_read);
}

static void start_write(ps_stream *s) {
    grpc_op op = { .op = GRPC_OP_SEND_MESSAGE };
    item *i = s->writing = s->first;
    s->first = i->next;
    if (!s->first) s->last = &s->first;
    op.data.send_message.send_message = i->reply;
    start(s, &op, &s->did_write);
}

static void start_end(ps_stream *s) {
    grpc_op op = { .op = GRPC_OP_SEND_STATUS_FROM_SERVER };
    bool drains = atomic_load(&s->c->grpc->draining);
    grpc_slice details = grpc_slice_from_static_string("the server is shutting down");
    s->c->code = drains ? GRPC_STATUS_UNAVAILABLE : GRPC_STATUS_OK;
    op.data.send_status_from_server.status = (grpc_status_code)s->c->code;
    op.data.send_status_from_server.status_details = drains ? &details : NULL;
    s->ending = s->ended = true;
    start(s, &op, &s->did_end);
}

/* After every change. true: nothing is under way any more, and the caller frees the stream once the lock is free. */
static bool advance(ps_stream *s) {
    if (s->over) {
        while (s->first && s->first->ready) { /* nobody to tell */
            item *i = s->first;
            s->first = i->next;
            if (!s->first) s->last = &s->first;
            s->items--;
            item_free(i);
        }
        return s->items == 0 && !s->reading && !s->ending;
    }
    if (!s->writing && s->first && s->first->ready) start_write(s);
    if (!s->reading && !s->no_more && s->items < MAX_ITEMS) start_read(s);
    if (s->no_more && s->items == 0 && !s->ended) start_end(s);
    return false;
}

/* ---- the end ---- */

static void stream_free(ps_stream *s) {
    ps_call *c = s->c;
    ps_grpc *g = c->grpc;
    ps_mutex_lock(&g->lock);
    *(s->previous ? &s->previous->next : &g->streams) = s->next;
    if (s->next) s->next->previous = s->previous;
    ps_mutex_unlock(&g->lock);
    if (s->received) grpc_byte_buffer_destroy(s->received);
    ps_log_line(&g->options.log, PS_LOG_INFO, "event=stream status=%s messages=%llu ms=%.3f%s",
                ps_call_code_name(c->code), (unsigned long long)s->messages,
                (double)(ps_clock_ns() - c->arrived_ns) / 1e6, c->cancelled ? " aborted=true" : "");
    ps_mutex_destroy(&s->lock);
    ps_free(g->alloc, s);
    ps_call_ended(c);
}

static void unlock_after(ps_stream *s, bool unused) {
    ps_mutex_unlock(&s->lock);
    if (unused) stream_free(s);
}

/* ---- what happens ---- */

static void infer_done(ps_infer *infer) {
    item *i = (item *)infer; /* its first member */
    ps_stream *s = i->stream;
    if (infer->status != PS_OK) encode_error(i);
    ps_mutex_lock(&s->lock);
    i->ready = true;
    unlock_after(s, advance(s));
}

static ps_status encode(ps_infer *infer, ps_error *err) {
    item *i = (item *)infer;
    return ps_grpc_encode(infer, true, &i->reply, &i->reply_size, err);
}

static item *item_create(ps_stream *s) {
    ps_call *c = s->c;
    item *i = ps_alloc_zero(c->grpc->alloc, sizeof *i);
    if (!i) return NULL;
    i->stream = s;
    ps_infer_init(&i->infer, c->grpc->options.engine);
    i->infer.arrived_ns = ps_clock_ns();
    i->infer.deadline_ns = ps_grpc_deadline(c->deadline);
    i->infer.ctx = c;
    i->infer.encode = encode;
    i->infer.done = infer_done;
    i->infer.here_ns = PS_QUICK_SHARED_NS;
    i->message.buffer = s->received;
    s->received = NULL;
    return i;
}

/* A message is here. Without memory even for its item the stream ends. */
static void take_message(ps_stream *s) {
    ps_grpc *g = s->c->grpc;
    item *i = item_create(s);
    if (i) {
        ps_mutex_lock(&s->lock);
        *s->last = i;
        s->last = &i->next;
        s->items++;
        s->messages++;
        ps_mutex_unlock(&s->lock);
        i->infer.status = ps_message_read(g, &i->message, &i->infer.error);
        if (i->infer.status != PS_OK || ps_grpc_submit(g, &i->infer, &i->message, &i->model) != PS_OK)
            infer_done(&i->infer);
    }
    ps_mutex_lock(&s->lock);
    s->reading = false; /* only now: requests of a sequence are queued in their order, and the stream is held */
    s->no_more |= !i;
    unlock_after(s, advance(s));
}

static void did_read(ps_tag *tag, bool ok) {
    ps_stream *s = STREAM_OF(tag, did_read);
    if (ok && s->received) {
        take_message(s);
        return;
    }
    ps_mutex_lock(&s->lock);
    s->reading = false;
    s->no_more = true;
    unlock_after(s, advance(s));
}

static void did_write(ps_tag *tag, bool ok) {
    ps_stream *s = STREAM_OF(tag, did_write);
    ps_mutex_lock(&s->lock);
    item *i = s->writing;
    s->writing = NULL;
    s->items--;
    ps_call_log(s->c, i->model, &i->infer, i->code, i->message.size, i->reply_size, !ok);
    item_free(i);
    unlock_after(s, advance(s));
}

static void did_end(ps_tag *tag, bool ok) {
    ps_stream *s = STREAM_OF(tag, did_end);
    ps_mutex_lock(&s->lock);
    s->ending = false;
    unlock_after(s, advance(s));
}

/* Returns those that waited, to be ended without the lock: nobody else has them now. */
static item *give_up(ps_stream *s) {
    item *first = NULL, **end = &first;
    for (item *i = s->first; i; i = i->next) {
        if (i->ready || !ps_grpc_give_up(s->c->grpc, &i->infer)) continue;
        i->next_given_up = NULL;
        *end = i;
        end = &i->next_given_up;
    }
    return first;
}

/* The call is over: ended by us, or cancelled. */
static void opened(ps_tag *tag, bool ok) {
    ps_stream *s = STREAM_OF(tag, opened);
    ps_grpc *g = s->c->grpc;
    ps_mutex_lock(&s->lock);
    s->over = true;
    s->no_more = true;
    item *given_up = give_up(s);
    unlock_after(s, advance(s));
    for (item *i = given_up, *next; i; i = next) { /* with the last of them the stream may go */
        next = i->next_given_up;
        ps_grpc_end_given_up(g, &i->infer);
    }
}

/* ---- start and drain ---- */

static ps_stream *stream_create(ps_call *c) {
    ps_grpc *g = c->grpc;
    ps_stream *s = ps_alloc_zero(g->alloc, sizeof *s);
    if (!s) return NULL;
    if (!ps_mutex_init(&s->lock)) {
        ps_free(g->alloc, s);
        return NULL;
    }
    s->c = c;
    s->last = &s->first;
    s->opened.happened = opened;
    s->did_read.happened = did_read;
    s->did_write.happened = did_write;
    s->did_end.happened = did_end;
    ps_mutex_lock(&g->lock);
    s->next = g->streams;
    if (s->next) s->next->previous = s;
    g->streams = s;
    ps_mutex_unlock(&g->lock);
    return s;
}

void ps_grpc_handle_stream(ps_call *c) {
    grpc_metadata metadata;
    grpc_op ops[2] = { { .op = GRPC_OP_SEND_INITIAL_METADATA }, { .op = GRPC_OP_RECV_CLOSE_ON_SERVER } };
    ps_stream *s = stream_create(c);
    if (!s) {
        ps_call_fail(c, PS_FAIL_NOMEM(&c->infer.error, "a stream"));
        return;
    }
    ops[0].data.send_initial_metadata.count = ps_call_metadata(c, &metadata);
    ops[0].data.send_initial_metadata.metadata = &metadata;
    ops[1].data.recv_close_on_server.cancelled = &c->cancelled;
    ps_mutex_lock(&s->lock);
    grpc_call_error rc = grpc_call_start_batch(c->call, ops, 2, &s->opened, NULL);
    (void)rc; /* the first of its call: never refused */
    unlock_after(s, advance(s));
}

void ps_streams_drain(ps_grpc *g) {
    ps_mutex_lock(&g->lock);
    for (ps_stream *s = g->streams; s; s = s->next) {
        ps_mutex_lock(&s->lock);
        s->no_more = true;
        (void)advance(s);
        ps_mutex_unlock(&s->lock);
    }
    ps_mutex_unlock(&g->lock);
}
