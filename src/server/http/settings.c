/* settings.c - the routes of the trace and logging extensions. */
#include <inttypes.h>
#include <string.h>

#include "server/http/handlers.h"
#include "server/json_number.h"
#include "server/json_reader.h"

/* The body: an object. */
static ps_status read_body(ps_exchange *x, ps_json_member member, void *to, ps_error *err) {
    ps_json r;
    ps_arena arena;
    ps_arena_init(&arena, x->http->alloc);
    ps_json_init(&r, ps_exchange_body(x), x->body_size, &arena);
    ps_status status = ps_json_object(&r, member, to, err);
    if (status == PS_OK) status = ps_json_finish(&r, err);
    ps_arena_release(&arena);
    return status;
}

static ps_status unknown_key(const ps_string *key, const char *there_are, ps_error *err) {
    return PS_FAIL(err, INVALID, "there is no setting '%.*s': there are %s", (int)(key->size < 64 ? key->size : 64),
                   key->data, there_are);
}

/* Settings of files and formats have one value here. */
static ps_status only(ps_json *r, const char *name, const char *value, const char *why, ps_error *err) {
    const char *text;
    if (ps_json_peek(r) == 'n') return ps_json_skip(r, err); /* null */
    PS_TRY(ps_json_cstring(r, &text, err));
    PS_FAIL_IF(strcmp(text, value) != 0, err, UNSUPPORTED, "%s can only be '%s': %s", name, value, why);
    return PS_OK;
}

/* ---- trace ---- */

static ps_status read_level_word(ps_json *r, bool *ret_on, ps_error *err) {
    const char *word;
    PS_TRY(ps_json_cstring(r, &word, err));
    PS_FAIL_IF(strcmp(word, "TENSORS") == 0, err, UNSUPPORTED, "trace_level TENSORS: tensor data is never logged");
    *ret_on |= strcmp(word, "TIMESTAMPS") == 0;
    PS_FAIL_IF(strcmp(word, "TIMESTAMPS") != 0 && strcmp(word, "OFF") != 0, err, INVALID,
               "trace_level '%.32s' is neither OFF nor TIMESTAMPS", word);
    return PS_OK;
}

/* A word or a list of them. */
static ps_status read_level(ps_json *r, bool *ret_on, ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    *ret_on = false;
    if (ps_json_peek(r) != '[') return read_level_word(r, ret_on, err);
    PS_TRY(ps_json_enter(r, '[', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(r, &it, &key, &more, err));
        if (!more) return PS_OK;
        PS_TRY(read_level_word(r, ret_on, err));
    }
}

/* A number, or a text that is one. */
static ps_status read_number(ps_json *r, const char *name, int64_t min, int64_t *ret, ps_error *err) {
    ps_string text;
    ps_number n;
    if (ps_json_peek(r) == '"') {
        PS_TRY(ps_json_string(r, &text, err));
        const char *end = text.data + text.size;
        PS_FAIL_IF(ps_number_scan(text.data, end, &n) != end || !ps_number_i64(&n, ret), err, INVALID,
                   "%s is not an integer", name);
    } else {
        PS_TRY(ps_json_int(r, ret, err));
    }
    PS_FAIL_IF(*ret < min, err, INVALID, "%s is %" PRId64 ", below %" PRId64, name, *ret, min);
    return PS_OK;
}

static ps_status read_trace_member(ps_json *r, const ps_string *key, void *to, ps_error *err) {
    static const char *const names[] = { "trace_level", "trace_rate", "trace_count" };
    ps_trace_change *change = to;
    if (ps_json_key_is(key, "trace_file")) return only(r, "trace_file", "", "traces go to the server's log", err);
    if (ps_json_key_is(key, "log_frequency")) return only(r, "log_frequency", "0", "there is no trace file", err);
    if (ps_json_key_is(key, "trace_mode")) return only(r, "trace_mode", "triton", "there is no other", err);
    for (unsigned i = 0; i < 3; i++) {
        if (!ps_json_key_is(key, names[i])) continue;
        if (ps_json_peek(r) == 'n') {
            change->clear |= 1u << i;
            return ps_json_skip(r, err);
        }
        change->set |= 1u << i;
        if (i == 0) return read_level(r, &change->values.timestamps, err);
        return i == 1 ? read_number(r, names[i], 1, &change->values.rate, err)
                      : read_number(r, names[i], -1, &change->values.count, err);
    }
    return unknown_key(key, "trace_level, trace_rate, trace_count, trace_file, log_frequency, trace_mode", err);
}

/* The model of the path, which must be loaded; *ret stays NULL for the global settings. */
static ps_status trace_scope(ps_exchange *x, const char **ret, ps_error *err) {
    ps_served *served;
    *ret = NULL;
    if (!*x->model) return PS_OK;
    PS_TRY(ps_repository_peek(x->http->options.repository, x->model, NULL, &served, err));
    ps_served_release(served);
    *ret = x->model;
    return PS_OK;
}

static void write_trace(ps_exchange *x, const char *model) {
    ps_trace_settings s;
    ps_trace_get(x->http->options.trace, model, &s);
    ps_str_printf(&x->reply,
                  "{\"trace_file\":\"\",\"trace_level\":[\"%s\"],\"trace_rate\":\"%" PRId64
                  "\",\"trace_count\":\"%" PRId64 "\",\"log_frequency\":\"0\",\"trace_mode\":\"triton\"}",
                  s.timestamps ? "TIMESTAMPS" : "OFF", s.rate, s.count);
    ps_exchange_ok(x);
}

void ps_handle_trace(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    const char *model;
    ps_status status = trace_scope(x, &model, &err);
    if (status == PS_OK)
        write_trace(x, model);
    else
        ps_exchange_fail(x, status, &err);
}

void ps_handle_trace_update(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    const char *model;
    ps_trace_change change = { 0 };
    ps_status status = trace_scope(x, &model, &err);
    if (status == PS_OK) status = read_body(x, read_trace_member, &change, &err);
    if (status == PS_OK) status = ps_trace_update(x->http->options.trace, model, &change, &err);
    if (status == PS_OK)
        write_trace(x, model);
    else
        ps_exchange_fail(x, status, &err);
}

/* ---- logging ---- */

typedef struct log_change {
    bool set[3], on[3]; /* info, warning, error */
    bool set_verbose;
    int64_t verbose;
} log_change;

static ps_status read_log_member(ps_json *r, const ps_string *key, void *to, ps_error *err) {
    static const char *const names[] = { "log_info", "log_warning", "log_error" };
    log_change *change = to;
    if (ps_json_key_is(key, "log_file")) return only(r, "log_file", "", "the log goes to standard error", err);
    if (ps_json_key_is(key, "log_format")) return only(r, "log_format", "default", "there is no other", err);
    if (ps_json_key_is(key, "log_verbose_level")) {
        change->set_verbose = true;
        PS_TRY(read_number(r, "log_verbose_level", 0, &change->verbose, err));
        PS_FAIL_IF(change->verbose > PS_LOG_MAX_VERBOSE, err, INVALID, "log_verbose_level is above %d",
                   PS_LOG_MAX_VERBOSE);
        return PS_OK;
    }
    for (int i = 0; i < 3; i++) {
        if (!ps_json_key_is(key, names[i])) continue;
        change->set[i] = true;
        return ps_json_bool(r, &change->on[i], err);
    }
    return unknown_key(key, "log_info, log_warning, log_error, log_verbose_level, log_file, log_format", err);
}

void ps_handle_logging(ps_exchange *x) {
    const ps_log_filter *f = x->http->options.log_filter;
    ps_str_printf(&x->reply,
                  "{\"log_file\":\"\",\"log_info\":%s,\"log_warning\":%s,\"log_error\":%s,\"log_verbose_level\":%d,"
                  "\"log_format\":\"default\"}",
                  atomic_load(&f->info) ? "true" : "false", atomic_load(&f->warning) ? "true" : "false",
                  atomic_load(&f->error) ? "true" : "false", atomic_load(&f->verbose));
    ps_exchange_ok(x);
}

void ps_handle_logging_update(ps_exchange *x) {
    ps_log_filter *f = x->http->options.log_filter;
    ps_error err = PS_ERROR_INIT;
    log_change change = { 0 };
    ps_status status = read_body(x, read_log_member, &change, &err);
    if (status != PS_OK) {
        ps_exchange_fail(x, status, &err);
        return;
    }
    if (change.set[0]) atomic_store(&f->info, change.on[0]);
    if (change.set[1]) atomic_store(&f->warning, change.on[1]);
    if (change.set[2]) atomic_store(&f->error, change.on[2]);
    if (change.set_verbose) atomic_store(&f->verbose, (int)change.verbose);
    ps_handle_logging(x);
}
