#include "server/http/http.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "server/access_log.h"
#include "server/address.h"
#include "server/http/body.h"
#include "server/http/routes.h"
#include "server/http/unread.h"
#include "server/json_number.h"
#include "server/trace_context.h"

#define CONNECTION_MEMORY ((size_t)16 << 10) /* of one connection: bounds the headers; cleared for each request */
#define BACKLOG 1024u
/* times a client's patience: silence on a connection, and from one reply, or the start, to the next headers */
#define IDLE_PATIENCE 2u
#define HEADERS_PATIENCE 3
#define STALLED_NS INT64_C(2000000000) /* a drain does not wait for bodies of which nothing came for so long */

#define MAX_SPARE 256u                 /* exchanges kept for the next requests */
#define SPARE_BYTES ((size_t)16 << 10) /* of reply, of request and of its body that each keeps, at most */

/* ---- life of an exchange ---- */

static ps_watched *watched_of(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* An exchange of zeros but for what a previous request left in `reply` and `infer`: empty, with some memory. It counts
 * as active from now on. */
static ps_exchange *take_spare(ps_http *http) {
    ps_mutex_lock(&http->lock);
    ps_exchange *x = http->spare;
    if (x) {
        http->spare = x->next_spare;
        http->n_spare--;
    }
    http->active++;
    ps_mutex_unlock(&http->lock);
    if (x) {
        ps_str reply = x->reply;
        ps_infer infer = x->infer;
        *x = (ps_exchange) {
            .reply = reply, .infer = infer, .spare_block = x->spare_block, .spare_size = x->spare_size
        };
        return x;
    }
    x = ps_alloc_zero(http->alloc, sizeof *x);
    if (x) {
        ps_str_init(&x->reply, http->alloc);
        ps_infer_init(&x->infer, http->options.engine);
        return x;
    }
    ps_mutex_lock(&http->lock);
    http->active--;
    ps_mutex_unlock(&http->lock);
    return NULL;
}

static void spare_free(ps_http *http, ps_exchange *x) {
    ps_free(http->alloc, x->spare_block);
    ps_str_release(&x->reply);
    ps_infer_release(&x->infer);
    ps_free(http->alloc, x);
}

static void read_traceparent(ps_exchange *x) {
    const char *text = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "traceparent");
    if (text && ps_trace_context_parse(text, x->trace_id, x->parent_id)) x->traceparent = text;
}

static void copy_cut(char *to, size_t room, const char *text) {
    size_t n = strnlen(text, room - 1);
    memcpy(to, text, n);
    to[n] = '\0';
}

static ps_exchange *exchange_create(ps_http *http, struct MHD_Connection *connection, const char *method,
                                    const char *path) {
    ps_exchange *x = take_spare(http);
    if (!x) return NULL;
    x->http = http;
    x->connection = connection;
    x->watched = watched_of(connection);
    x->arrived_ns = ps_clock_ns();
    ps_watch_expect(x->watched, x->arrived_ns, http->patience_ns);
    copy_cut(x->method, sizeof x->method, method);
    copy_cut(x->path, sizeof x->path, path);
    read_traceparent(x);
    return x;
}

static void exchange_free(ps_exchange *x) {
    ps_http *http = x->http;
    bool answering = x->called;
    ps_unread_end(x);
    ps_infer_recycle(&x->infer, SPARE_BYTES);
    ps_body_spare(x, SPARE_BYTES);
    if (x->reply.room > SPARE_BYTES)
        ps_str_release(&x->reply);
    else
        ps_str_clear(&x->reply);
    ps_mutex_lock(&http->lock);
    bool keep = http->n_spare < MAX_SPARE;
    if (keep) {
        x->next_spare = http->spare;
        http->spare = x;
        http->n_spare++;
    }
    http->active--;
    http->answering -= answering;
    if (http->answering == 0) ps_cond_broadcast(&http->idle);
    ps_mutex_unlock(&http->lock);
    if (!keep) spare_free(http, x);
}

/* The body is complete. */
static void exchange_call(ps_exchange *x) {
    x->called = true;
    ps_unread_came(x);
    ps_watch_rest(x->watched);
    ps_mutex_lock(&x->http->lock);
    x->http->answering++;
    ps_mutex_unlock(&x->http->lock);
    ps_body_finish(x);
    if (x->handler) x->handler(x);
}

static void call_again(ps_exchange *x) {
    x->again = x->suspended = false;
    x->handler(x);
}

static void log_exchange(const ps_exchange *x, int64_t now, bool complete) {
    char status[8];
    ps_access access = { .method = x->method, .path = x->path, .status = status, .model = x->model, .id = x->infer.id };
    access.trace_id = x->trace_id;
    access.parent_id = x->parent_id;
    access.in = x->body_total;
    access.out = x->reply.size;
    access.ns = now - x->arrived_ns;
    access.aborted = !complete;
    status[ps_number_write_u64(status, (uint64_t)x->code % 1000)] = '\0';
    ps_access_log(&x->http->options.log, &access);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode how) {
    ps_exchange *x = *slot;
    *slot = NULL;
    if (!x) return;
    int64_t now = ps_clock_ns();
    log_exchange(x, now, how == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    ps_watch_expect(x->watched, now, HEADERS_PATIENCE * x->http->patience_ns);
    exchange_free(x);
}

/* ---- replies ---- */

static void add_headers(const ps_exchange *x, struct MHD_Response *response) {
    char number[24];
    bool raw = x->reply_json_size > 0;
    if (x->reply.size)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                x->type ? x->type
                                : raw   ? "application/octet-stream"
                                        : "application/json");
    if (raw) {
        snprintf(number, sizeof number, "%zu", x->reply_json_size);
        MHD_add_response_header(response, "Inference-Header-Content-Length", number);
    }
    if (x->reply_coding != PS_CODING_IDENTITY) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_ENCODING, ps_coding_name(x->reply_coding));
        MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ACCEPT_ENCODING);
    }
    if (x->traceparent) MHD_add_response_header(response, "traceparent", x->traceparent);
    if (x->allow) MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, x->allow);
    if (x->code == 503) {
        int64_t seconds = (x->retry_after_ns + 999999999) / 1000000000; /* the header knows whole ones only */
        snprintf(number, sizeof number, "%lld", (long long)(seconds > 1 ? seconds : 1));
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, number);
    }
    if (atomic_load(&x->http->draining)) MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
}

/* The reply stays in the exchange, which outlives the response. */
static enum MHD_Result send_reply(ps_exchange *x) {
    struct MHD_Response *response =
        MHD_create_response_from_buffer(x->reply.size, x->reply.data, MHD_RESPMEM_PERSISTENT);
    if (!response) return MHD_NO;
    add_headers(x, response);
    ps_watch_expect(x->watched, ps_clock_ns() + ps_slow_ns(x->reply.size), x->http->patience_ns);
    enum MHD_Result result = MHD_queue_response(x->connection, (unsigned)x->code, response);
    MHD_destroy_response(response);
    return result;
}

/* ---- the daemon's callbacks ---- */

/* Headers are here. A body that is announced as too large is answered without reading it; everything else after its
 * body. */
static enum MHD_Result begin(ps_http *http, struct MHD_Connection *connection, const char *method, const char *path,
                             void **slot) {
    ps_exchange *x = exchange_create(http, connection, method, path);
    if (!x) return MHD_NO;
    *slot = x;
    ps_route(x, method, path);
    if (x->handler) ps_body_expect(x);
    if (x->handler) ps_gather(http, connection);
    return x->code == 413 ? send_reply(x) : MHD_YES;
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                                 const char *version, const char *data, size_t *size, void **slot) {
    ps_exchange *x = *slot;
    if (!x) return begin(arg, connection, method, path, slot);
    if (*size) {
        if (ps_unread_leave(x, data, *size)) return MHD_YES;
        bool ok = ps_body_take(x, data, *size);
        *size = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    if (!x->called || x->again) {
        if (!x->called)
            exchange_call(x);
        else
            call_again(x);
        if (x->suspended) return MHD_YES; /* another thread has it; we are called again when it is done */
    }
    if (x->suspended) {
        ps_gather(x->http, connection);
        ps_runner_sent(x->http->options.runner, &x->infer, ps_clock_ns());
    }
    return send_reply(x);
}

/* libmicrohttpd takes its events in portions of 128. After a full one it asks for more, and waits for it, before it
 * handles those that it has: where exactly 128, or a multiple, are there at once, and no other follows, all of them
 * would hang until a connection times out. Ticks end that wait. They begin before 128 connections, as a thread has
 * events beside theirs: the listening socket, its own wake-ups, clients that go. */
#define TICK_FROM 96u
#define TICK_NS INT64_C(2000000)

/* One more; NULL: one less. */
static void count_connection(ps_http *http, struct MHD_Connection *connection) {
    ps_mutex_lock(&http->lock);
    size_t before = http->open;
    http->open = connection ? before + 1 : before - 1;
    if (connection ? http->open == TICK_FROM : before == TICK_FROM)
        ps_ticker_set(http->ticker, connection ? TICK_NS : 0);
    bool join = connection && http->open >= TICK_FROM;
    ps_mutex_unlock(&http->lock);
    if (!join) return;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_DAEMON);
    const union MHD_DaemonInfo *set = info ? MHD_get_daemon_info(info->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (set) ps_ticker_join(http->ticker, set->epoll_fd); /* of the thread that has this connection */
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **slot,
                          enum MHD_ConnectionNotificationCode what) {
    ps_http *http = arg;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    int fd = info ? info->connect_fd : -1; /* the next question about the connection may overwrite *info */
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        ps_watch_remove(*slot);
        *slot = NULL;
        count_connection(http, NULL);
    } else if (fd >= 0) {
        count_connection(http, connection);
        *slot = ps_watch_add(http->watch, fd);
        ps_watch_expect(*slot, ps_clock_ns(), HEADERS_PATIENCE * http->patience_ns);
    }
}

/* Paths stay as they came: they are decoded segment by segment, so that %2F cannot make a new segment. */
static size_t keep_escapes(void *arg, struct MHD_Connection *connection, char *text) {
    return strlen(text);
}

static void log_daemon(void *arg, const char *fmt, va_list ap) {
    const ps_http *http = arg;
    char line[256], quoted[300];
    vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    ps_log_line(&http->options.log, PS_LOG_DEBUG, "event=http text=%s", ps_log_quote(line, quoted, sizeof quoted));
}

/* ---- start and stop ---- */

/* Once a second. */
static bool tidy(void *arg) {
    const ps_http *http = arg;
    ps_runner_read_if_idle(http->options.runner);
    return ps_bodies_fade(arg);
}

/* A newcomer is let in above the limit, so that an idle connection makes room for it (ps_watch). */
int ps_http_spare_connections(int max_connections) {
    int spare = max_connections / 16;
    return spare < 4 ? 4 : spare > 256 ? 256 : spare;
}

static ps_status start_daemon(ps_http *http, ps_error *err) {
    const ps_front_options *o = &http->options;
    struct sockaddr_storage address;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    PS_TRY(ps_address_resolve(o->host, o->port, &address, err));
    if (address.ss_family == AF_INET6) flags |= MHD_USE_IPv6;
    struct MHD_OptionItem pool[] = { { MHD_OPTION_THREAD_POOL_SIZE, o->threads, NULL }, { MHD_OPTION_END, 0, NULL } };
    errno = 0;
    http->daemon = MHD_start_daemon(
        flags, (uint16_t)o->port, NULL, NULL, on_access, http, MHD_OPTION_EXTERNAL_LOGGER, log_daemon, http,
        MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, http, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(o->max_connections + ps_http_spare_connections(o->max_connections)), MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, http, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_PATIENCE * (unsigned)o->client_seconds,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, MHD_OPTION_LISTEN_BACKLOG_SIZE, BACKLOG,
        MHD_OPTION_ARRAY, o->threads > 1 ? pool : pool + 1, MHD_OPTION_END);
    PS_FAIL_IF(!http->daemon, err, IO, "cannot listen on %s:%d: %s", o->host, o->port,
               errno ? strerror(errno) : "refused");
    return PS_OK;
}

ps_status ps_http_start(const ps_front_options *options, ps_http **ret, ps_error *err) {
    ps_alloc_state *alloc = ps_engine_alloc(options->engine);
    ps_http *http = ps_alloc_zero(alloc, sizeof *http);
    if (!http) return PS_FAIL_NOMEM(err, "the HTTP front end");
    http->options = *options;
    http->alloc = alloc;
    http->listen_fd = -1;
    bool lock = ps_mutex_init(&http->lock);
    if (!lock || !ps_blocks_init(&http->blocks, alloc) || !ps_cond_init(&http->idle)) {
        ps_blocks_release(&http->blocks);
        if (lock) ps_mutex_destroy(&http->lock);
        ps_free(alloc, http);
        return PS_FAIL_NOMEM(err, "the HTTP front end");
    }
    http->patience_ns = options->client_seconds * INT64_C(1000000000);
    ps_status status = ps_ticker_create(alloc, &http->ticker, err);
    if (status == PS_OK)
        status = ps_watch_create(alloc, &http->options.log, (size_t)options->max_connections,
                                 &(ps_watch_chore) { tidy, http }, &http->watch, err);
    if (status == PS_OK) status = start_daemon(http, err);
    if (status != PS_OK) {
        ps_http_free(http);
        return status;
    }
    *ret = http;
    return PS_OK;
}

int ps_http_port(const ps_http *http) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info ? info->port : http->options.port;
}

void ps_http_set_ready(ps_http *http, bool ready) {
    atomic_store(&http->ready, ready);
}

void ps_http_drain(ps_http *http) {
    if (atomic_exchange(&http->draining, true)) return;
    http->listen_fd = MHD_quiesce_daemon(http->daemon);
    ps_listener_refuse(http->listen_fd);
    ps_runner_read_all(http->options.runner);
}

/* Called with the lock held. With edge-triggered epoll libmicrohttpd can miss that a client hung up in the middle of a
 * body: such a request would stay active until its connection times out. */
static bool is_idle(const ps_http *http, int64_t *ret_stalled_at) {
    *ret_stalled_at = atomic_load_explicit(&http->last_upload, memory_order_relaxed) + STALLED_NS;
    return http->active == 0 || (http->answering == 0 && ps_clock_ns() >= *ret_stalled_at);
}

bool ps_http_wait_idle(ps_http *http, int64_t deadline_ns) {
    int64_t stalled_at;
    bool idle;
    ps_mutex_lock(&http->lock);
    while (!(idle = is_idle(http, &stalled_at)) && ps_clock_ns() < deadline_ns) {
        int64_t until = http->answering == 0 && stalled_at < deadline_ns ? stalled_at : deadline_ns;
        (void)ps_cond_wait_until(&http->idle, &http->lock, until);
    }
    ps_mutex_unlock(&http->lock);
    return idle;
}

void ps_http_free(ps_http *http) {
    if (!http) return;
    if (http->daemon) MHD_stop_daemon(http->daemon);
    for (ps_exchange *x = http->spare, *next; x; x = next) {
        next = x->next_spare;
        spare_free(http, x);
    }
    ps_ticker_free(http->ticker);
    ps_watch_free(http->watch); /* its thread looks at the blocks */
    ps_blocks_release(&http->blocks);
    ps_listener_close(http->listen_fd);
    ps_cond_destroy(&http->idle);
    ps_mutex_destroy(&http->lock);
    ps_free(http->alloc, http);
}
