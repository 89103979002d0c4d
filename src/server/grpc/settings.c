/* TraceSetting, LogSettings: settings to change, if any, and all of them in the reply. */
#include <inttypes.h>
#include <string.h>

#include "server/grpc/control.h"
#include "server/json_number.h"

static ps_status unknown_key(const char *key, const char *there_are, ps_error *err) {
    return PS_FAIL(err, INVALID, "there is no setting '%.64s': there are %s", key, there_are);
}

/* Settings of files and formats have one value here. */
static ps_status only(const char *name, const char *got, const char *value, const char *why, ps_error *err) {
    PS_FAIL_IF(strcmp(got, value) != 0, err, UNSUPPORTED, "%s can only be '%s': %s", name, value, why);
    return PS_OK;
}

/* ---- trace ---- */

static ps_status set_level(const Oip__TraceValue *v, ps_trace_change *change, ps_error *err) {
    change->values.timestamps = false;
    for (size_t i = 0; i < v->n_value; i++) {
        bool on = strcmp(v->value[i], "TIMESTAMPS") == 0;
        PS_FAIL_IF(strcmp(v->value[i], "TENSORS") == 0, err, UNSUPPORTED,
                   "trace_level TENSORS: tensor data is never logged");
        PS_FAIL_IF(!on && strcmp(v->value[i], "OFF") != 0, err, INVALID,
                   "trace_level '%.32s' is neither OFF nor TIMESTAMPS", v->value[i]);
        change->values.timestamps |= on;
    }
    return PS_OK;
}

static ps_status set_number(const char *name, const Oip__TraceValue *v, int64_t min, int64_t *ret, ps_error *err) {
    const char *text = v->value[0], *end = text + strlen(text);
    ps_number n;
    PS_FAIL_IF(v->n_value != 1 || ps_number_scan(text, end, &n) != end || !ps_number_i64(&n, ret), err, INVALID,
               "%s is not an integer", name);
    PS_FAIL_IF(*ret < min, err, INVALID, "%s is %" PRId64 ", below %" PRId64, name, *ret, min);
    return PS_OK;
}

/* No value gives a setting back to the global ones. */
static ps_status set_trace(const Oip__TraceEntry *e, ps_trace_change *change, ps_error *err) {
    static const struct {
        const char *name, *value, *why;
    } fixed[] = { { "trace_file", "", "traces go to the server's log" },
                  { "log_frequency", "0", "there is no trace file" },
                  { "trace_mode", "triton", "there is no other" } };
    static const char *const names[] = { "trace_level", "trace_rate", "trace_count" };
    const Oip__TraceValue *v = e->value;
    bool none = !v || v->n_value == 0;
    for (size_t i = 0; i < 3; i++)
        if (strcmp(e->key, fixed[i].name) == 0)
            return none ? PS_OK : only(fixed[i].name, v->value[0], fixed[i].value, fixed[i].why, err);
    for (unsigned i = 0; i < 3; i++) {
        if (strcmp(e->key, names[i]) != 0) continue;
        *(none ? &change->clear : &change->set) |= 1u << i;
        if (none) return PS_OK;
        if (i == 0) return set_level(v, change, err);
        return i == 1 ? set_number(names[i], v, 1, &change->values.rate, err)
                      : set_number(names[i], v, -1, &change->values.count, err);
    }
    return unknown_key(e->key, "trace_level, trace_rate, trace_count, trace_file, log_frequency, trace_mode", err);
}

/* *ret_model: whose settings, NULL for the global ones. A model must be loaded. */
static ps_status change_trace(ps_call *c, const char **ret_model, ps_error *err) {
    Oip__TraceRequest *request;
    ps_trace_change change = { 0 };
    ps_served *served;
    PS_TRY(ps_control_read(c, &oip__trace_request__descriptor, (void **)&request, err));
    *ret_model = NULL;
    if (*request->model_name) {
        PS_TRY(ps_grpc_peek(c->grpc, request->model_name, "", &served, err));
        ps_served_release(served);
        *ret_model = request->model_name;
    }
    for (size_t i = 0; i < request->n_settings; i++)
        PS_TRY(set_trace(request->settings[i], &change, err));
    if (!change.set && !change.clear) return PS_OK;
    return ps_trace_update(c->grpc->options.trace, *ret_model, &change, err);
}

/* One setting of the reply. */
typedef struct trace_item {
    Oip__TraceEntry entry;
    Oip__TraceValue value;
    char *text;
} trace_item;

static void put_trace(trace_item *item, const char *key, const char *text) {
    oip__trace_entry__init(&item->entry);
    oip__trace_value__init(&item->value);
    item->text = (char *)text;
    item->entry.key = (char *)key;
    item->entry.value = &item->value;
    item->value.n_value = 1;
    item->value.value = &item->text;
}

static void reply_trace(ps_call *c, const char *model) {
    enum { ITEMS = 6 };
    Oip__TraceReply reply = OIP__TRACE_REPLY__INIT;
    Oip__TraceEntry *list[ITEMS];
    trace_item items[ITEMS];
    char rate[24], count[24];
    ps_trace_settings s;
    ps_trace_get(c->grpc->options.trace, model, &s);
    ps_snprintf(rate, sizeof rate, "%" PRId64, s.rate);
    ps_snprintf(count, sizeof count, "%" PRId64, s.count);
    put_trace(&items[0], "trace_file", "");
    put_trace(&items[1], "trace_level", s.timestamps ? "TIMESTAMPS" : "OFF");
    put_trace(&items[2], "trace_rate", rate);
    put_trace(&items[3], "trace_count", count);
    put_trace(&items[4], "log_frequency", "0");
    put_trace(&items[5], "trace_mode", "triton");
    for (int i = 0; i < ITEMS; i++)
        list[i] = &items[i].entry;
    reply.n_settings = ITEMS;
    reply.settings = list;
    ps_control_reply(c, &reply.base);
}

void ps_grpc_handle_trace(ps_call *c) {
    const char *model;
    ps_status status = change_trace(c, &model, &c->infer.error);
    if (status == PS_OK)
        reply_trace(c, model);
    else
        ps_call_fail(c, status);
}

/* ---- log ---- */

typedef struct log_change {
    bool set[3], on[3]; /* info, warning, error */
    bool set_verbose;
    uint32_t verbose;
} log_change;

static const char *const log_names[] = { "log_info", "log_warning", "log_error" };

static ps_status set_log(const Oip__LogEntry *e, log_change *change, ps_error *err) {
    const Oip__LogValue *v = e->value;
    Oip__LogValue__ParameterChoiceCase kind = v ? v->parameter_choice_case : OIP__LOG_VALUE__PARAMETER_CHOICE__NOT_SET;
    bool none = kind == OIP__LOG_VALUE__PARAMETER_CHOICE__NOT_SET;
    const char *text = kind == OIP__LOG_VALUE__PARAMETER_CHOICE_STRING_PARAM ? v->string_param : "?";
    if (strcmp(e->key, "log_file") == 0)
        return none ? PS_OK : only("log_file", text, "", "the log goes to standard error", err);
    if (strcmp(e->key, "log_format") == 0)
        return none ? PS_OK : only("log_format", text, "default", "there is no other", err);
    if (strcmp(e->key, "log_verbose_level") == 0) {
        PS_FAIL_IF(kind != OIP__LOG_VALUE__PARAMETER_CHOICE_UINT32_PARAM, err, INVALID,
                   "log_verbose_level is not a number");
        PS_FAIL_IF(v->uint32_param > PS_LOG_MAX_VERBOSE, err, INVALID, "log_verbose_level is above %d",
                   PS_LOG_MAX_VERBOSE);
        change->set_verbose = true;
        change->verbose = v->uint32_param;
        return PS_OK;
    }
    for (int i = 0; i < 3; i++) {
        if (strcmp(e->key, log_names[i]) != 0) continue;
        PS_FAIL_IF(kind != OIP__LOG_VALUE__PARAMETER_CHOICE_BOOL_PARAM, err, INVALID, "%s is not a bool", log_names[i]);
        change->set[i] = true;
        change->on[i] = v->bool_param;
        return PS_OK;
    }
    return unknown_key(e->key, "log_info, log_warning, log_error, log_verbose_level, log_file, log_format", err);
}

static ps_status change_log(ps_call *c, ps_error *err) {
    Oip__LogSettings *request;
    ps_log_filter *f = c->grpc->options.log_filter;
    atomic_bool *const flags[] = { &f->info, &f->warning, &f->error };
    log_change change = { 0 };
    PS_TRY(ps_control_read(c, &oip__log_settings__descriptor, (void **)&request, err));
    for (size_t i = 0; i < request->n_settings; i++)
        PS_TRY(set_log(request->settings[i], &change, err));
    for (int i = 0; i < 3; i++)
        if (change.set[i]) atomic_store(flags[i], change.on[i]);
    if (change.set_verbose) atomic_store(&f->verbose, (int)change.verbose);
    return PS_OK;
}

typedef struct log_item {
    Oip__LogEntry entry;
    Oip__LogValue value;
} log_item;

static Oip__LogValue *put_log(log_item *item, const char *key) {
    oip__log_entry__init(&item->entry);
    oip__log_value__init(&item->value);
    item->entry.key = (char *)key;
    item->entry.value = &item->value;
    return &item->value;
}

static void put_log_text(log_item *item, const char *key, const char *text) {
    Oip__LogValue *v = put_log(item, key);
    v->parameter_choice_case = OIP__LOG_VALUE__PARAMETER_CHOICE_STRING_PARAM;
    v->string_param = (char *)text;
}

static void reply_log(ps_call *c) {
    enum { ITEMS = 6 };
    Oip__LogSettings reply = OIP__LOG_SETTINGS__INIT;
    Oip__LogEntry *list[ITEMS];
    log_item items[ITEMS];
    ps_log_filter *f = c->grpc->options.log_filter;
    const bool on[] = { atomic_load(&f->info), atomic_load(&f->warning), atomic_load(&f->error) };
    for (int i = 0; i < 3; i++) {
        Oip__LogValue *v = put_log(&items[i], log_names[i]);
        v->parameter_choice_case = OIP__LOG_VALUE__PARAMETER_CHOICE_BOOL_PARAM;
        v->bool_param = on[i];
    }
    Oip__LogValue *verbose = put_log(&items[3], "log_verbose_level");
    verbose->parameter_choice_case = OIP__LOG_VALUE__PARAMETER_CHOICE_UINT32_PARAM;
    verbose->uint32_param = (uint32_t)atomic_load(&f->verbose);
    put_log_text(&items[4], "log_file", "");
    put_log_text(&items[5], "log_format", "default");
    for (int i = 0; i < ITEMS; i++)
        list[i] = &items[i].entry;
    reply.n_settings = ITEMS;
    reply.settings = list;
    ps_control_reply(c, &reply.base);
}

void ps_grpc_handle_log(ps_call *c) {
    ps_status status = change_log(c, &c->infer.error);
    if (status == PS_OK)
        reply_log(c);
    else
        ps_call_fail(c, status);
}
