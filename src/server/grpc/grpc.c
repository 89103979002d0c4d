#include "server/grpc/grpc.h"

#include <grpc/grpc_security.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "server/address.h"
#include "server/grpc/abseil.h"
#include "server/grpc/call.h"

/* Core holds a message until it is whole, and only then sees that it is too large. Its memory is bounded by a quota:
 * beyond that it reads less and then cancels calls. */
#define QUOTA_MORE ((size_t)64 << 20)
#define QUIET_NS INT64_C(200000000)      /* without a call before the server shuts down … */
#define MAX_QUIET_NS INT64_C(1000000000) /* … but no longer than that after the drain began */

enum {
    MAX_STREAMS = 1000,      /* calls at once on one connection */
    MAX_METADATA = 32 << 10, /* bytes of a call's headers */
    PING_MS = 10000,         /* clients may ask that often whether the connection is alive */
    IDLE_PATIENCE = 20,      /* times a client's patience: a connection without a call */
    TURN = 32,               /* events taken at once */
    UNKNOWN_POSTED = 4,      /* calls of unknown paths */
    MAX_CLIENT_SECONDS = INT_MAX / 1000 / IDLE_PATIENCE
};

/* ---- threads ---- */

/* Waits for one event and takes with it what else is there by then: all that arrived is read before any of it is
 * answered. One after the other, each request would push core's code out of the cache for the next, and wake its client
 * alone. With more requests waiting than the next run takes, it also gives others the time to arrive, if it kept up. */
static size_t take_events(ps_grpc *g, bool kept_up, grpc_event events[TURN]) {
    size_t n = 0;
    gpr_timespec until = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    do {
        events[n] = grpc_completion_queue_next(g->queue, until, NULL);
        if (events[n].type == GRPC_QUEUE_TIMEOUT) break;
        if (n == 0 && kept_up && ps_runner_is_crowded(g->options.runner)) ps_sleep_ns(PS_GATHER_NS);
        until = gpr_inf_past(GPR_CLOCK_MONOTONIC);
    } while (events[n++].type == GRPC_OP_COMPLETE && n < TURN);
    return n;
}

static void work(void *arg) {
    ps_grpc *g = arg;
    grpc_event events[TURN];
    for (size_t n = 0;;) {
        n = take_events(g, n < TURN, events);
        for (size_t i = 0; i < n; i++) {
            if (events[i].type == GRPC_QUEUE_SHUTDOWN) return; /* always the last */
            ps_tag *tag = events[i].tag;
            tag->happened(tag, events[i].success != 0);
        }
    }
}

static ps_status start_threads(ps_grpc *g, ps_error *err) {
    int n = g->options.threads;
    g->threads = ps_alloc_zero(g->alloc, (size_t)n * sizeof *g->threads);
    if (!g->threads) return PS_FAIL_NOMEM(err, "the threads of the gRPC front end");
    for (; g->n_threads < n; g->n_threads++)
        PS_FAIL_IF(!ps_thread_start(&g->threads[g->n_threads], "ps-grpc", work, g), err, NO_MEMORY,
                   "cannot start thread %d of %d (ps-grpc)", g->n_threads + 1, n);
    return PS_OK;
}

/* ---- start ---- */

static grpc_arg integer(const char *key, int value) {
    return (grpc_arg) { .type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value };
}

static grpc_arg pointer(const char *key, void *value, const grpc_arg_pointer_vtable *vtable) {
    return (grpc_arg) { .type = GRPC_ARG_POINTER, .key = (char *)key, .value.pointer = { value, vtable } };
}

/* What core would do beyond carrying messages is off: it unpacks without our limits, it would look at the size of a
 * message only when it holds all of it, where ps_message_read looks too, and at deadlines that the client keeps as well
 * (it cancels) and the scheduler knows. Each of these is a step of every call; the two last were an eighth of its
 * instructions. */
static grpc_server *create_server(const ps_front_options *o) {
    grpc_resource_quota *quota = grpc_resource_quota_create("polestar");
    grpc_resource_quota_resize(quota, o->bodies->max + QUOTA_MORE);
    int patience_ms = (o->client_seconds > MAX_CLIENT_SECONDS ? MAX_CLIENT_SECONDS : o->client_seconds) * 1000;
    grpc_arg args[] = {
        integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, -1),
        integer(GRPC_ARG_ENABLE_DEADLINE_CHECKS, 0),
        pointer(GRPC_ARG_RESOURCE_QUOTA, quota, grpc_resource_quota_arg_vtable()),
        integer(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1),
        integer(GRPC_ARG_MAX_CONCURRENT_STREAMS, MAX_STREAMS),
        integer(GRPC_ARG_MAX_METADATA_SIZE, MAX_METADATA),
        integer(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
        integer(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0),
        integer(GRPC_ARG_ENABLE_CHANNELZ, 0),
        integer(GRPC_ARG_ENABLE_CENSUS, 0),
        integer(GRPC_ARG_HTTP2_BDP_PROBE, 0),
        integer(GRPC_ARG_ALLOW_REUSEPORT, 0),
        integer(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, patience_ms),
        integer(GRPC_ARG_MAX_CONNECTION_IDLE_MS, patience_ms * IDLE_PATIENCE),
        integer(GRPC_ARG_KEEPALIVE_TIME_MS, patience_ms),
        integer(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, patience_ms),
        integer(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        integer(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, PING_MS),
    };
    grpc_channel_args list = { sizeof args / sizeof *args, args };
    grpc_server *server = grpc_server_create(&list, NULL);
    grpc_resource_quota_unref(quota);
    return server;
}

/* "ADDRESS:PORT" in numbers, as grpc core wants it. */
static ps_status resolve(const ps_front_options *o, struct sockaddr_storage *ret, char *text, size_t size,
                         ps_error *err) {
    char host[INET6_ADDRSTRLEN + 16];
    PS_TRY(ps_address_resolve(o->host, o->port, ret, err));
    bool six = ret->ss_family == AF_INET6;
    int rc = getnameinfo((const struct sockaddr *)ret, six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
                         host, sizeof host, NULL, 0, NI_NUMERICHOST);
    PS_FAIL_IF(rc != 0, err, INVALID, "host '%s': %s", o->host, gai_strerror(rc));
    ps_snprintf(text, size, six ? "[%s]:%d" : "%s:%d", host, o->port);
    return PS_OK;
}

static ps_status listen_on(ps_grpc *g, ps_error *err) {
    struct sockaddr_storage address;
    char text[INET6_ADDRSTRLEN + 32], why[128];
    PS_TRY(resolve(&g->options, &address, text, sizeof text, err));
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    g->port = grpc_server_add_http2_port(g->server, text, plain);
    grpc_server_credentials_release(plain);
    if (g->port > 0) return PS_OK;
    ps_address_why_not(&address, why, sizeof why);
    return PS_FAIL(err, IO, "cannot listen on %s:%d for gRPC: %s", g->options.host, g->options.port, why);
}

static ps_status register_methods(ps_grpc *g, ps_error *err) {
    g->registered = ps_alloc_zero(g->alloc, ps_method_count * sizeof *g->registered);
    if (!g->registered) return PS_FAIL_NOMEM(err, "the methods of the gRPC front end");
    for (size_t i = 0; i < ps_method_count; i++) {
        const ps_method *m = &ps_methods[i];
        g->registered[i] = grpc_server_register_method(
            g->server, m->path, NULL, m->stream ? GRPC_SRM_PAYLOAD_NONE : GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
        PS_FAIL_IF(!g->registered[i], err, INTERNAL, "grpc core refuses the method %s", m->path);
    }
    return PS_OK;
}

static ps_status post_calls(ps_grpc *g, ps_error *err) {
    bool ok = true;
    for (size_t i = 0; i < ps_method_count; i++)
        for (int n = 0; n < ps_methods[i].posted; n++)
            ok = ok && ps_call_post(g, &ps_methods[i]);
    for (int n = 0; n < UNKNOWN_POSTED; n++)
        ok = ok && ps_call_post(g, NULL);
    return ok ? PS_OK : PS_FAIL_NOMEM(err, "the calls of the gRPC front end");
}

static void did_stop(ps_tag *tag, bool ok) {
    ps_grpc *g = (ps_grpc *)((char *)tag - offsetof(ps_grpc, stopped));
    grpc_completion_queue_shutdown(g->queue);
}

static ps_status start(ps_grpc *g, ps_error *err) {
    g->queue = grpc_completion_queue_create_for_next(NULL);
    g->server = create_server(&g->options);
    g->stopped.happened = did_stop;
    grpc_server_register_completion_queue(g->server, g->queue, NULL);
    PS_TRY(register_methods(g, err));
    PS_TRY(listen_on(g, err));
    grpc_server_start(g->server);
    PS_TRY(post_calls(g, err));
    return start_threads(g, err);
}

ps_status ps_grpc_start(const ps_front_options *options, ps_grpc **ret, ps_error *err) {
    ps_alloc_state *alloc = ps_engine_alloc(options->engine);
    ps_grpc *g = ps_alloc_zero(alloc, sizeof *g);
    if (!g) return PS_FAIL_NOMEM(err, "the gRPC front end");
    g->options = *options;
    g->alloc = alloc;
    bool lock = ps_mutex_init(&g->lock);
    if (!lock || !ps_cond_init(&g->idle)) {
        if (lock) ps_mutex_destroy(&g->lock);
        ps_free(alloc, g);
        return PS_FAIL_NOMEM(err, "the gRPC front end");
    }
    ps_abseil_quiet();
    grpc_init();
    ps_status status = start(g, err);
    if (status != PS_OK) {
        ps_grpc_free(g);
        return status;
    }
    *ret = g;
    return PS_OK;
}

int ps_grpc_port(const ps_grpc *g) {
    return g->port;
}

void ps_grpc_set_ready(ps_grpc *g, bool ready) {
    atomic_store(&g->ready, ready);
}

/* ---- stop ---- */

void ps_grpc_drain(ps_grpc *g) {
    if (atomic_exchange(&g->draining, true)) return;
    g->drain_ns = ps_clock_ns();
    ps_streams_drain(g);
}

/* When grpc core shuts down, calls that come in the same moment are cancelled, which no client takes for a reason to
 * ask another server. So that they come before, and are refused, clients get the time to hear of it. Called with the
 * lock held. */
static bool is_idle(const ps_grpc *g, int64_t *ret_look_again) {
    int64_t now = ps_clock_ns(), quiet = atomic_load_explicit(&g->last_call, memory_order_relaxed) + QUIET_NS;
    int64_t until = quiet < g->drain_ns + MAX_QUIET_NS ? quiet : g->drain_ns + MAX_QUIET_NS;
    *ret_look_again = g->active ? INT64_MAX : until;
    return g->active == 0 && now >= until;
}

bool ps_grpc_wait_idle(ps_grpc *g, int64_t deadline_ns) {
    int64_t again;
    bool idle;
    ps_mutex_lock(&g->lock);
    while (!(idle = is_idle(g, &again)) && ps_clock_ns() < deadline_ns)
        (void)ps_cond_wait_until(&g->idle, &g->lock, again < deadline_ns ? again : deadline_ns);
    ps_mutex_unlock(&g->lock);
    return idle;
}

/* Calls that come from now on would be cancelled one by one; as connections are closed in the same moment, clients
 * learn instead that the server is away. */
static void stop(ps_grpc *g) {
    ps_grpc_drain(g);
    atomic_store(&g->stopping, true);
    grpc_server_shutdown_and_notify(g->server, g->queue, &g->stopped);
    grpc_server_cancel_all_calls(g->server);
}

/* The server's end is the last event: it shuts the queue down, and the threads end. Where the start failed before there
 * were threads, this one takes the events. */
void ps_grpc_free(ps_grpc *g) {
    if (!g) return;
    stop(g);
    if (g->n_threads == 0) work(g);
    for (int i = 0; i < g->n_threads; i++)
        ps_thread_join(g->threads[i]);
    grpc_server_destroy(g->server);
    grpc_completion_queue_destroy(g->queue);
    grpc_shutdown_blocking();
    ps_call_free_spare(g);
    ps_free(g->alloc, g->registered);
    ps_free(g->alloc, g->threads);
    ps_cond_destroy(&g->idle);
    ps_mutex_destroy(&g->lock);
    ps_free(g->alloc, g);
}
