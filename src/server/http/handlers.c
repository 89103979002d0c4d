#include "server/http/handlers.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "server/http/infer_json.h"
#include "server/http/routes.h"
#include "server/infer_request.h"
#include "server/json_number.h"
#include "server/json_reader.h"
#include "server/json_text.h"
#include "server/runner.h"
#include "server/schedule.h"

#define SHARED_NS INT64_C(1000000) /* so long after a change of connections the daemon's thread counts as shared */

/* NULL: none is asked for. */
static const char *version_of(const ps_exchange *x) {
    return *x->version ? x->version : NULL;
}

/* ---- health and descriptions ---- */

void ps_handle_live(ps_exchange *x) {
    ps_str_append(&x->reply, "{\"live\":true}");
    ps_exchange_ok(x);
}

void ps_handle_ready(ps_exchange *x) {
    if (atomic_load(&x->http->ready) && !atomic_load(&x->http->draining)) {
        ps_str_append(&x->reply, "{\"ready\":true}");
        ps_exchange_ok(x);
        return;
    }
    x->code = 503;
    ps_str_printf(&x->reply, "{\"ready\":false,\"error\":\"the server is %s\"}",
                  atomic_load(&x->http->draining) ? "shutting down" : "loading its models");
}

void ps_handle_server(ps_exchange *x) {
    ps_core_write_server(ps_shm_allowed(x->http->options.shm), &x->reply);
    ps_exchange_ok(x);
}

/* ---- statistics ---- */

static void write_stats(ps_exchange *x, const ps_counted *counted) {
    const ps_stats_version *of = &counted->of;
    ps_stats_write(counted->stats, of, &x->reply);
    if (counted->scheduled) ps_schedule_write_stats(&counted->sched, &x->reply);
    ps_repository_write_version_traffic(x->http->options.repository, of->name, of->version, &x->reply);
    ps_str_char(&x->reply, '}');
}

/* model NULL: of all. */
static void write_all_stats(ps_exchange *x, const char *model, const char *version) {
    ps_error err = PS_ERROR_INIT;
    ps_counted *all;
    size_t n;
    ps_status status = ps_repository_counted(x->http->options.repository, model, version, x->http->options.runner, &all,
                                             &n, &err);
    if (status != PS_OK) {
        ps_exchange_fail(x, status, &err);
        return;
    }
    ps_str_append(&x->reply, "{\"model_stats\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) ps_str_char(&x->reply, ',');
        write_stats(x, &all[i]);
    }
    ps_str_append(&x->reply, "]}");
    ps_counted_free(x->http->options.repository, all, n);
    ps_exchange_ok(x);
}

void ps_handle_stats(ps_exchange *x) {
    write_all_stats(x, x->model, version_of(x));
}

void ps_handle_all_stats(ps_exchange *x) {
    write_all_stats(x, NULL, NULL);
}

/* ---- inference ---- */

/* A part of a reply is none, and keeps no memory. */
static ps_status pack(ps_exchange *x, ps_status status) {
    if (status == PS_OK)
        ps_exchange_pack(x);
    else
        ps_str_release(&x->reply);
    return status;
}

static ps_status encode(ps_infer *infer, ps_error *err) {
    ps_exchange *x = infer->ctx;
    return pack(x, ps_infer_json_write(infer, &x->reply, &x->reply_json_size, err));
}

static bool give_up(void *ctx) {
    ps_exchange *x = ctx;
    atomic_store(&x->infer.abandoned, true); /* first: it may be about to wait */
    return ps_repository_leave(x->http->options.repository, &x->infer.wait) ||
           ps_runner_give_up(x->http->options.runner, &x->infer);
}

/* It failed before it got its model. */
static void count_unserved(const ps_exchange *x, ps_status status) {
    if (x->handler == ps_handle_infer) /* not a request for a description */
        ps_core_count_unserved(x->http->options.repository, x->model, version_of(x), status, x->arrived_ns);
}

static void left(void *ctx) {
    ps_exchange *x = ctx;
    if (x->infer.served) {
        ps_runner_end_given_up(x->http->options.runner, &x->infer);
        return;
    }
    count_unserved(x, PS_CANCELLED);
    ps_exchange_error(x, ps_status_http(PS_CANCELLED), "the client gave the request up");
    ps_exchange_resume(x);
}

static void park(ps_infer *infer) {
    ps_exchange *x = infer->ctx;
    ps_exchange_suspend(x);
    if (!ps_watch_own(x->watched, &(ps_watch_owner) { give_up, left, x }))
        atomic_store_explicit(&infer->abandoned, true, memory_order_relaxed);
}

/* Back to the daemon, if it was parked. */
static void unpark(ps_exchange *x) {
    if (!x->suspended) return;
    ps_watch_disown(x->watched);
    ps_exchange_resume(x);
}

/* The model that was waited for may be there: the daemon's thread looks. */
static void loaded(ps_wait *w) {
    ps_exchange *x = (ps_exchange *)((char *)w - offsetof(ps_exchange, infer.wait));
    x->again = true;
    unpark(x);
}

static void infer_done(ps_infer *infer) {
    ps_exchange *x = infer->ctx;
    if (infer->status == PS_OK)
        ps_exchange_ok(x);
    else
        ps_exchange_fail(x, infer->status, &infer->error);
    unpark(x);
}

static ps_status read_tensors(ps_exchange *x, ps_error *err) {
    size_t json_size = x->has_json_size ? x->json_size : x->body_size;
    PS_FAIL_IF(json_size > x->body_size, err, INVALID, "Inference-Header-Content-Length is %zu, the body has %zu bytes",
               json_size, x->body_size);
    return ps_infer_json_read(&x->infer, ps_exchange_body(x), x->body_size, json_size, err);
}

/* ---- photos ---- */

static ps_status prepare_photo(ps_infer *infer, ps_error *err) {
    const ps_exchange *x = infer->ctx;
    return ps_photo_prepare(infer, ps_exchange_body(x), x->body_size, err);
}

static ps_status encode_photo(ps_infer *infer, ps_error *err) {
    ps_exchange *x = infer->ctx;
    return pack(x, ps_photo_write(infer, x->top, &x->reply, err));
}

static const char *query(const ps_exchange *x, const char *name) {
    return MHD_lookup_connection_value(x->connection, MHD_GET_ARGUMENT_KIND, name);
}

static ps_status read_top(ps_exchange *x, ps_error *err) {
    const char *text = query(x, "top");
    ps_number n;
    x->top = PS_PHOTO_DEFAULT_TOP;
    if (!text) return PS_OK;
    PS_FAIL_IF(ps_number_scan(text, text + strlen(text), &n) != text + strlen(text) || !ps_number_i64(&n, &x->top) ||
                   x->top < 1 || x->top > PS_PHOTO_MAX_TOP,
               err, INVALID, "top is '%.32s', not a number from 1 to %d", text, PS_PHOTO_MAX_TOP);
    return PS_OK;
}

/* The body is a photo; ?top=K and ?output=NAME say what the reply holds. */
static ps_status read_photo(ps_exchange *x, const ps_served *served, ps_error *err) {
    char name[PS_MODEL_NAME_MAX + 1];
    const char *output = query(x, "output");
    PS_TRY(read_top(x, err));
    PS_FAIL_IF(!served->n_outputs, err, UNSUPPORTED, "model '%s' has no output", served->name);
    PS_FAIL_IF(output && !ps_percent_decode(output, strlen(output), name, sizeof name), err, INVALID,
               "the query's output is not a name");
    x->infer.wants = ps_arena_array(&x->infer.arena, 1, sizeof *x->infer.wants);
    const char *wanted = ps_arena_strdup(&x->infer.arena, output ? name : served->outputs[0].name);
    if (!x->infer.wants || !wanted) return PS_FAIL_NOMEM(err, "the output of a request");
    x->infer.wants[0] = (ps_infer_want) { .name = wanted };
    x->infer.n_wants = 1;
    x->infer.here_ns = 0; /* decoding takes what it takes */
    x->infer.prepare = prepare_photo;
    x->infer.encode = encode_photo;
    return PS_OK;
}

/* Did another connection send a request lately? */
static bool shares_thread(const ps_exchange *x) {
    ps_http *http = x->http;
    uintptr_t here = (uintptr_t)x->connection;
    uintptr_t last = atomic_exchange_explicit(&http->last_connection, here, memory_order_relaxed);
    if (last != here) atomic_store_explicit(&http->shared_at, x->arrived_ns, memory_order_relaxed);
    return x->arrived_ns - atomic_load_explicit(&http->shared_at, memory_order_relaxed) < SHARED_NS;
}

static ps_status read_request(ps_exchange *x, const ps_served *served, ps_error *err) {
    bool known;
    x->accepts =
        ps_coding_choose(MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT_ENCODING));
    x->infer.arrived_ns = x->arrived_ns;
    x->infer.encode = encode;
    x->infer.done = infer_done;
    x->infer.here_ns = shares_thread(x) ? PS_QUICK_SHARED_NS : PS_QUICK_ALONE_NS;
    x->infer.form = x->accepts;
    x->infer.shm = x->http->options.shm;
    if (!ps_exchange_is_photo(x, &known)) return read_tensors(x, err);
    PS_FAIL_IF(!known, err, UNSUPPORTED, "photos are image/jpeg or image/png");
    return read_photo(x, served, err);
}

/* False: the exchange waits for its model, or has its reply. */
static bool acquire_or_wait(ps_exchange *x, ps_served **ret) {
    ps_error err = PS_ERROR_INIT;
    x->infer.ctx = x;
    x->infer.park = park;
    x->infer.wait.over = loaded;
    ps_status status = ps_core_acquire(x->http->options.repository, &x->infer, x->model, version_of(x), ret, &err);
    if (status == PS_OK && (!*ret || !x->suspended)) return *ret != NULL;
    if (status == PS_OK) { /* it was loaded between the first look and the second */
        ps_served_release(*ret);
        x->again = true;
    } else {
        count_unserved(x, status);
        ps_exchange_fail(x, status, &err);
    }
    unpark(x);
    return false;
}

/* ---- descriptions ---- */

/* A reply that `write` makes from the model of the path, which is loaded for it if need be. */
static void describe(ps_exchange *x, void (*write)(ps_exchange *x, const ps_served *served)) {
    ps_served *served;
    if (!acquire_or_wait(x, &served)) return;
    write(x, served);
    ps_served_release(served);
    ps_exchange_ok(x);
}

static void write_metadata(ps_exchange *x, const ps_served *served) {
    const char **versions;
    size_t n = ps_repository_versions(x->http->options.repository, served->name, &x->infer.arena, &versions);
    ps_core_write_metadata(served, versions, n, &x->reply);
}

void ps_handle_metadata(ps_exchange *x) {
    describe(x, write_metadata);
}

static void write_config(ps_exchange *x, const ps_served *served) {
    ps_core_write_config(served, &x->reply);
}

void ps_handle_config(ps_exchange *x) {
    describe(x, write_config);
}

void ps_handle_model_ready(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    ps_status status = ps_repository_ready(x->http->options.repository, x->model, version_of(x), &err);
    if (status == PS_OK)
        ps_exchange_ok(x);
    else
        ps_exchange_fail(x, status, &err);
}

/* ---- inference: the request ---- */

static ps_status read_routing_key(ps_exchange *x, ps_error *err) {
    const char *key = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "X-Routing-Key");
    return key ? ps_infer_set_routing_key(&x->infer, key, err) : PS_OK;
}

void ps_handle_infer(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    ps_served *served;
    if (!acquire_or_wait(x, &served)) return;
    ps_status status = read_request(x, served, &err);
    if (status == PS_OK && x->infer.route.repo && !x->infer.routing_key) status = read_routing_key(x, &err);
    if (status != PS_OK) {
        ps_core_count_failure(served, status, x->arrived_ns);
        ps_served_release(served);
        ps_exchange_fail(x, status, &err);
        return;
    }
    status = ps_core_submit(x->http->options.runner, &x->infer, served, &err);
    if (status == PS_OK) return;              /* answered, or the exchange belongs to the runner now */
    ps_core_count_refusal(&x->infer, status); /* x->infer holds the reference */
    x->retry_after_ns = x->infer.retry_after_ns;
    ps_infer_drop_served(&x->infer);
    ps_exchange_fail(x, status, &err);
    unpark(x);
}

/* ---- repository ---- */

static ps_status read_index_member(ps_json *r, const ps_string *key, void *ready_only, ps_error *err) {
    return ps_json_key_is(key, "ready") ? ps_json_bool(r, ready_only, err) : ps_json_skip(r, err);
}

/* The body: an object, or nothing. */
static ps_status read_optional(ps_exchange *x, ps_json_member member, void *ctx, ps_error *err) {
    ps_json r;
    ps_arena arena;
    ps_arena_init(&arena, x->http->alloc);
    ps_json_init(&r, ps_exchange_body(x), x->body_size, &arena);
    if (!ps_json_peek(&r) && r.p == r.end) return PS_OK;
    ps_status status = ps_json_object(&r, member, ctx, err);
    if (status == PS_OK) status = ps_json_finish(&r, err);
    ps_arena_release(&arena);
    return status;
}

void ps_handle_index(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    bool ready_only = false;
    ps_status status = read_optional(x, read_index_member, &ready_only, &err);
    if (status != PS_OK) {
        ps_exchange_fail(x, status, &err);
        return;
    }
    ps_repository_write_index(x->http->options.repository, ready_only, &x->reply);
    ps_exchange_ok(x);
}

/* Of "parameters": a model's configuration or files in the request are refused rather than ignored. No model depends on
 * another here, so unload_dependents says nothing. */
static ps_status read_load_parameter(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    bool dependents;
    PS_FAIL_IF(ps_json_key_is(key, "config") || (key->size >= 5 && strncmp(key->data, "file:", 5) == 0), err,
               UNSUPPORTED, "the load parameter '%.*s' is not supported", (int)(key->size < 64 ? key->size : 64),
               key->data);
    return ps_json_key_is(key, "unload_dependents") ? ps_json_bool(r, &dependents, err) : ps_json_skip(r, err);
}

static ps_status read_load_member(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    return ps_json_key_is(key, "parameters") ? ps_json_object(r, read_load_parameter, NULL, err) : ps_json_skip(r, err);
}

static ps_exchange *exchange_of(ps_job *job) {
    return (ps_exchange *)((char *)job - offsetof(ps_exchange, job));
}

static void load_job(ps_job *job) {
    ps_exchange *x = exchange_of(job);
    ps_error err = PS_ERROR_INIT;
    ps_status status = ps_repository_load(x->http->options.repository, x->model, &err);
    if (status == PS_OK)
        ps_exchange_ok(x);
    else
        ps_exchange_fail(x, status, &err);
    ps_exchange_resume(x);
}

static void unload_job(ps_job *job) {
    ps_exchange *x = exchange_of(job);
    ps_repository_unload(x->http->options.repository, x->model);
    ps_exchange_ok(x);
    ps_exchange_resume(x);
}

/* Loads and unloads wait for each other, so they run on the loader's thread, not on the daemon's. */
static void submit_repository_job(ps_exchange *x, void (*run)(ps_job *job)) {
    ps_error err = PS_ERROR_INIT;
    ps_status status = read_optional(x, read_load_member, NULL, &err);
    if (status != PS_OK) {
        ps_exchange_fail(x, status, &err);
        return;
    }
    x->job.run = run;
    ps_exchange_suspend(x);
    status = ps_pool_submit(x->http->options.loader, &x->job, &err);
    if (status == PS_OK) return;
    ps_exchange_fail(x, status, &err);
    ps_exchange_resume(x);
}

void ps_handle_load(ps_exchange *x) {
    submit_repository_job(x, load_job);
}

void ps_handle_unload(ps_exchange *x) {
    submit_repository_job(x, unload_job);
}
