#include "server/trace.h"

#include <inttypes.h>
#include <string.h>

#include "base/map.h"
#include "base/vec.h"

static const ps_trace_settings initial = { .timestamps = false, .rate = 1000, .count = -1 };

/* The settings of all models, or those of one that differ. */
typedef struct scope {
    char *model;
    unsigned own; /* bits of members that are its own */
    ps_trace_settings values;
    uint64_t seen; /* requests since the last change */
} scope;

struct ps_trace {
    ps_alloc_state *alloc;
    ps_log log;
    atomic_bool on; /* some scope has timestamps */
    ps_mutex lock;
    scope global;        /* guarded by lock, like the next two */
    ps_map by_model;     /* of scope */
    PS_VEC(scope *) all; /* models that ever had settings of their own: bounded by the models there are */
};

ps_status ps_trace_create(ps_alloc_state *alloc, const ps_log *log, ps_trace **ret, ps_error *err) {
    ps_trace *trace = ps_alloc_zero(alloc, sizeof *trace);
    if (!trace) return PS_FAIL_NOMEM(err, "trace settings");
    if (!ps_mutex_init(&trace->lock)) {
        ps_free(alloc, trace);
        return PS_FAIL_NOMEM(err, "trace settings");
    }
    trace->alloc = alloc;
    trace->log = *log;
    trace->global.values = initial;
    ps_map_init(&trace->by_model, alloc);
    *ret = trace;
    return PS_OK;
}

static void scope_free(ps_trace *trace, scope *s) {
    if (!s) return;
    ps_free(trace->alloc, s->model);
    ps_free(trace->alloc, s);
}

void ps_trace_free(ps_trace *trace) {
    if (!trace) return;
    for (size_t i = 0; i < trace->all.size; i++)
        scope_free(trace, trace->all.data[i]);
    ps_vec_release(trace->alloc, &trace->all);
    ps_map_release(&trace->by_model);
    ps_mutex_destroy(&trace->lock);
    ps_free(trace->alloc, trace);
}

/* ---- settings; the lock is held ---- */

static void copy_members(ps_trace_settings *to, const ps_trace_settings *from, unsigned members) {
    if (members & PS_TRACE_LEVEL) to->timestamps = from->timestamps;
    if (members & PS_TRACE_RATE) to->rate = from->rate;
    if (members & PS_TRACE_COUNT) to->count = from->count;
}

static ps_trace_settings effective(const ps_trace *trace, const scope *s) {
    ps_trace_settings values = trace->global.values;
    if (s != &trace->global) copy_members(&values, &s->values, s->own);
    return values;
}

static scope *find(ps_trace *trace, const char *model) {
    scope *s = model ? ps_map_get(&trace->by_model, model) : NULL;
    return s ? s : &trace->global;
}

static scope *add(ps_trace *trace, const char *model) {
    scope *s = ps_alloc_zero(trace->alloc, sizeof *s);
    if (!s) return NULL;
    s->model = ps_strdup(trace->alloc, model);
    if (!s->model || !ps_vec_push(trace->alloc, &trace->all, s)) {
        scope_free(trace, s);
        return NULL;
    }
    if (ps_map_put(&trace->by_model, s->model, s)) return s;
    trace->all.size--;
    scope_free(trace, s);
    return NULL;
}

static void see_whether_on(ps_trace *trace) {
    bool on = trace->global.values.timestamps;
    for (size_t i = 0; i < trace->all.size && !on; i++)
        on = effective(trace, trace->all.data[i]).timestamps;
    atomic_store_explicit(&trace->on, on, memory_order_relaxed);
}

static void change_scope(ps_trace *trace, scope *s, const ps_trace_change *change) {
    if (s == &trace->global) copy_members(&s->values, &initial, change->clear);
    s->own &= ~change->clear;
    copy_members(&s->values, &change->values, change->set);
    s->own |= change->set;
    s->seen = 0;
    see_whether_on(trace);
}

/* ---- for everyone ---- */

void ps_trace_get(ps_trace *trace, const char *model, ps_trace_settings *ret) {
    ps_mutex_lock(&trace->lock);
    *ret = effective(trace, find(trace, model));
    ps_mutex_unlock(&trace->lock);
}

ps_status ps_trace_update(ps_trace *trace, const char *model, const ps_trace_change *change, ps_error *err) {
    ps_mutex_lock(&trace->lock);
    scope *s = find(trace, model);
    if (model && s == &trace->global) s = add(trace, model);
    if (s) change_scope(trace, s, change);
    ps_mutex_unlock(&trace->lock);
    return s ? PS_OK : PS_FAIL_NOMEM(err, "trace settings");
}

/* Called with the lock held: is it this request's turn? */
static bool is_sampled(ps_trace *trace, const char *model) {
    scope *s = find(trace, model);
    ps_trace_settings now = effective(trace, s);
    scope *counting = s->own & PS_TRACE_COUNT ? s : &trace->global;
    if (!now.timestamps || now.count == 0 || ++s->seen % (uint64_t)now.rate != 0) return false;
    if (now.count > 0) counting->values.count--;
    return true;
}

void ps_trace_request(ps_trace *trace, const ps_infer *infer, const ps_stats_sample *sample) {
    char model[PS_MODEL_NAME_MAX + 8], id[136];
    const ps_served *served = infer->served;
    if (!atomic_load_explicit(&trace->on, memory_order_relaxed)) return;
    ps_mutex_lock(&trace->lock);
    bool sampled = is_sampled(trace, served->name);
    ps_mutex_unlock(&trace->lock);
    if (!sampled) return;
    ps_log_line(&trace->log, PS_LOG_INFO,
                "event=trace model=%s version=%s id=%s status=%s total_us=%" PRId64 " queue_us=%" PRId64
                " input_us=%" PRId64 " infer_us=%" PRId64 " output_us=%" PRId64,
                ps_log_quote(served->name, model, sizeof model), served->version,
                ps_log_quote(infer->id, id, sizeof id), ps_status_name(infer->status), sample->total / 1000,
                sample->queue / 1000, sample->input / 1000, sample->infer / 1000, sample->output / 1000);
}
