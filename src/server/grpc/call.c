#include "server/grpc/call.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stddef.h>
#include <string.h>

#include "base/os.h"
#include "server/access_log.h"
#include "server/trace_context.h"

#define KEPT_MEMORY ((size_t)16 << 10) /* of a call, for the next one */

/* ---- arrival ---- */

static ps_call *take_spare(ps_grpc *g) {
    ps_mutex_lock(&g->lock);
    ps_call *c = g->spare;
    if (c) g->spare = c->next;
    ps_mutex_unlock(&g->lock);
    return c ? c : ps_alloc_zero(g->alloc, sizeof *c);
}

const grpc_metadata *ps_call_find_metadata(const ps_call *c, const char *key, char *text, size_t room) {
    for (size_t i = 0; i < c->metadata.count; i++) {
        const grpc_metadata *m = &c->metadata.metadata[i];
        if (grpc_slice_str_cmp(m->key, key) != 0) continue;
        size_t n = GRPC_SLICE_LENGTH(m->value);
        if (n >= room) n = room - 1;
        if (n) memcpy(text, GRPC_SLICE_START_PTR(m->value), n);
        text[n] = '\0';
        return m;
    }
    return NULL;
}

static void read_traceparent(ps_call *c) {
    char text[128];
    const grpc_metadata *m = ps_call_find_metadata(c, "traceparent", text, sizeof text);
    if (m && GRPC_SLICE_LENGTH(m->value) < sizeof text && ps_trace_context_parse(text, c->trace_id, c->parent_id))
        c->traceparent = m;
}

static void begin(ps_call *c) {
    ps_grpc *g = c->grpc;
    c->arrived_ns = ps_clock_ns();
    atomic_store_explicit(&g->last_call, c->arrived_ns, memory_order_relaxed);
    if (!c->infer.engine) ps_infer_init(&c->infer, g->options.engine);
    read_traceparent(c);
    ps_mutex_lock(&g->lock);
    c->infer.here_ns = g->active++ ? PS_QUICK_SHARED_NS : PS_QUICK_ALONE_NS;
    ps_mutex_unlock(&g->lock);
}

static void refuse(ps_call *c) {
    ps_call_fail(c, PS_FAIL(&c->infer.error, UNAVAILABLE, "the server is shutting down"));
}

static void no_method(ps_call *c) {
    char path[200];
    size_t n = GRPC_SLICE_LENGTH(c->details.method);
    if (n >= sizeof path) n = sizeof path - 1;
    if (n) memcpy(path, GRPC_SLICE_START_PTR(c->details.method), n);
    path[n] = '\0';
    (void)PS_FAIL(&c->infer.error, UNSUPPORTED, "there is no method %s", path);
    ps_call_fail(c, PS_UNSUPPORTED);
}

static void arrived(ps_tag *tag, bool ok) {
    ps_call *c = (ps_call *)tag; /* its first member */
    if (!ok) {                   /* the server shuts down */
        ps_call_release(c);
        return;
    }
    c->post_again = !ps_call_post(c->grpc, c->method);
    begin(c);
    if (!c->method) {
        no_method(c);
        return;
    }
    if (atomic_load(&c->grpc->draining) && !c->method->health) {
        refuse(c);
        return;
    }
    ps_status status = c->method->stream ? PS_OK : ps_message_read(c->grpc, &c->message, &c->infer.error);
    if (status == PS_OK)
        c->method->handle(c);
    else
        ps_call_fail(c, status);
}

bool ps_call_post(ps_grpc *g, const ps_method *method) {
    if (atomic_load(&g->stopping)) return true;
    ps_call *c = take_spare(g);
    if (!c) return false;
    c->tag.happened = arrived;
    c->grpc = g;
    c->method = method;
    grpc_metadata_array_init(&c->metadata);
    grpc_call_error rc;
    if (method) {
        rc = grpc_server_request_registered_call(g->server, g->registered[method - ps_methods], &c->call, &c->deadline,
                                                 &c->metadata, method->stream ? NULL : &c->message.buffer, g->queue,
                                                 g->queue, c);
    } else {
        grpc_call_details_init(&c->details);
        rc = grpc_server_request_call(g->server, &c->call, &c->details, &c->metadata, g->queue, g->queue, c);
    }
    if (rc != GRPC_CALL_OK) ps_call_release(c);
    return true;
}

/* ---- end ---- */

const char *ps_call_code_name(int code) {
    static const char *const names[] = {
        "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE"
    };
    return code >= 0 && (size_t)code < sizeof names / sizeof *names ? names[code] : "UNKNOWN";
}

void ps_call_log(const ps_call *c, const char *model, const ps_infer *infer, int code, size_t in, size_t out,
                 bool aborted) {
    ps_access access = {
        .method = "gRPC",
        .path = c->method ? c->method->path : "?",
        .status = ps_call_code_name(code),
        .model = model ? model : "",
        .id = infer->id,
        .trace_id = c->trace_id,
        .parent_id = c->parent_id,
        .in = in,
        .out = out,
        .ns = ps_clock_ns() - infer->arrived_ns,
        .aborted = aborted,
    };
    ps_access_log(&c->grpc->options.log, &access);
}

void ps_call_ended(ps_call *c) {
    ps_grpc *g = c->grpc;
    const ps_method *again = c->post_again ? c->method : NULL;
    ps_call_release(c);
    if (again) (void)ps_call_post(g, again); /* it takes what was released */
    ps_mutex_lock(&g->lock);
    if (--g->active == 0) ps_cond_broadcast(&g->idle);
    ps_mutex_unlock(&g->lock);
}

/* One of the tags that were out is back. */
static void came_back(ps_call *c) {
    if (atomic_fetch_sub_explicit(&c->pending, 1, memory_order_acq_rel) != 1) return;
    c->infer.arrived_ns = c->arrived_ns;
    ps_call_log(c, c->model, &c->infer, c->code, c->message.size, c->reply_size, c->cancelled || c->failed);
    ps_call_ended(c);
}

static void finished(ps_tag *tag, bool ok) {
    ps_call *c = (ps_call *)tag;
    c->failed = !ok;
    if (c->watched) ps_runner_sent(c->grpc->options.runner, &c->infer, ps_clock_ns());
    came_back(c);
}

static void closed(ps_tag *tag, bool ok) {
    ps_call *c = (ps_call *)((char *)tag - offsetof(ps_call, closed));
    if (c->cancelled && ps_grpc_give_up(c->grpc, &c->infer)) ps_grpc_end_given_up(c->grpc, &c->infer);
    came_back(c);
}

void ps_call_watch(ps_call *c) {
    grpc_op op = { .op = GRPC_OP_RECV_CLOSE_ON_SERVER };
    op.data.recv_close_on_server.cancelled = &c->cancelled;
    c->closed.happened = closed;
    c->watched = true;
    atomic_store_explicit(&c->pending, 2, memory_order_relaxed);
    if (grpc_call_start_batch(c->call, &op, 1, &c->closed, NULL) == GRPC_CALL_OK) return;
    c->watched = false;
}

size_t ps_call_metadata(const ps_call *c, grpc_metadata *ret) {
    if (!c->traceparent) return 0;
    *ret = (grpc_metadata) { .key = c->traceparent->key, .value = c->traceparent->value };
    return 1;
}

/* One batch for the whole reply, and with it the end of the call. */
void ps_call_finish(ps_call *c) {
    grpc_metadata metadata;
    grpc_op ops[4] = { { .op = GRPC_OP_SEND_INITIAL_METADATA } };
    size_t n = 1;
    grpc_slice details = grpc_empty_slice();
    ops[0].data.send_initial_metadata.count = ps_call_metadata(c, &metadata);
    ops[0].data.send_initial_metadata.metadata = &metadata;
    if (c->code == GRPC_STATUS_OK) {
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = c->reply;
    } else {
        details = grpc_slice_from_copied_string(c->infer.error.msg);
    }
    ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[n].data.send_status_from_server.status = (grpc_status_code)c->code;
    ops[n++].data.send_status_from_server.status_details = c->code == GRPC_STATUS_OK ? NULL : &details;
    if (!c->watched) {
        atomic_store_explicit(&c->pending, 1, memory_order_relaxed);
        ops[n].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
        ops[n++].data.recv_close_on_server.cancelled = &c->cancelled;
    }
    c->tag.happened = finished;
    grpc_call_error rc = grpc_call_start_batch(c->call, ops, n, c, NULL);
    grpc_slice_unref(details);
    if (rc != GRPC_CALL_OK) finished(&c->tag, false); /* only ever our own mistake */
}

void ps_call_fail(ps_call *c, ps_status status) {
    c->code = ps_status_grpc(status);
    if (c->reply) grpc_byte_buffer_destroy(c->reply);
    c->reply = NULL;
    c->reply_size = 0;
    ps_call_finish(c);
}

void ps_call_release(ps_call *c) {
    ps_grpc *g = c->grpc;
    if (c->infer.engine) ps_infer_recycle(&c->infer, KEPT_MEMORY);
    ps_message_release(g, &c->message);
    if (c->reply) grpc_byte_buffer_destroy(c->reply);
    if (!c->method) grpc_call_details_destroy(&c->details);
    grpc_metadata_array_destroy(&c->metadata); /* its texts are the call's */
    if (c->call) grpc_call_unref(c->call);
    *c = (ps_call) { .infer = c->infer };
    ps_mutex_lock(&g->lock);
    c->next = g->spare;
    g->spare = c;
    ps_mutex_unlock(&g->lock);
}

void ps_call_free_spare(ps_grpc *g) {
    while (g->spare) {
        ps_call *c = g->spare;
        g->spare = c->next;
        if (c->infer.engine) ps_infer_release(&c->infer);
        ps_free(g->alloc, c);
    }
}
