#include "server/warmup.h"

#include <string.h>

#include "base/os.h"
#include "base/str.h"
#include "server/probe.h"
#include "server/tensor_raw.h"

#define MAX_FILE ((size_t)1 << 30)

typedef struct warmup {
    ps_served *served;
    ps_engine *engine;
    const char *folder;
    const ps_warmup *config;
    ps_arena arena; /* data of inputs */
    ps_tensor **in, **out;
    size_t number; /* of inputs that were filled, to fill each with other numbers */
} warmup;

/* The configuration's dims come without the batch's where max_batch_size is not 0. */
static ps_status whole_shape(const warmup *w, const ps_warmup_input *in, ps_shape *ret, ps_error *err) {
    *ret = in->shape;
    if (!w->served->config.max_batch) return PS_OK;
    PS_FAIL_IF(ret->rank == PS_MAX_RANK, err, LIMIT, "input '%.128s' has more than %d dims", in->name, PS_MAX_RANK);
    memmove(ret->dims + 1, ret->dims, (size_t)ret->rank * sizeof *ret->dims);
    ret->dims[0] = w->config->batch > 0 ? w->config->batch : 1;
    ret->rank++;
    return PS_OK;
}

static ps_status read_raw(warmup *w, const ps_warmup_input *in, const ps_shape *shape, const char *data, size_t size,
                          ps_tensor **ret, ps_error *err) {
    ps_infer_tensor t = { .name = in->name, .dtype = in->dtype, .shape = *shape, .elements = 1 };
    for (int d = 0; d < shape->rank; d++)
        PS_FAIL_IF(ps_mul_overflow_size(t.elements, (size_t)shape->dims[d], &t.elements), err, LIMIT,
                   "input '%.128s' has too many elements", in->name);
    PS_TRY(ps_tensor_raw_read(&w->arena, &t, data, size, err));
    return ps_tensor_wrap(w->engine, in->dtype, shape, NULL, (void *)(uintptr_t)t.data, ret, err);
}

static ps_status read_file(warmup *w, const ps_warmup_input *in, const ps_shape *shape, ps_tensor **ret,
                           ps_error *err) {
    char *text, *path = ps_arena_printf(&w->arena, "%s/warmup/%s", w->folder, in->file);
    size_t size;
    if (!path) return PS_FAIL_NOMEM(err, "a path");
    PS_TRY(ps_file_read(w->served->alloc, path, MAX_FILE, &text, &size, err));
    char *kept = ps_arena_text(&w->arena, text, size);
    ps_free(w->served->alloc, text);
    if (!kept) return PS_FAIL_NOMEM(err, "the input of a warm-up");
    return read_raw(w, in, shape, kept, size, ret, err);
}

static ps_status make_input(warmup *w, const ps_warmup_input *in, ps_error *err) {
    ps_shape shape;
    int i = ps_served_find_input(w->served, in->name);
    PS_FAIL_IF(i < 0, err, INVALID, "the model has no input '%.128s'", in->name);
    PS_FAIL_IF(w->in[i], err, INVALID, "input '%.128s' is given twice", in->name);
    PS_TRY(whole_shape(w, in, &shape, err));
    if (in->data == PS_WARMUP_FILE) return read_file(w, in, &shape, &w->in[i], err);
    PS_TRY(ps_tensor_create(w->engine, in->dtype, &shape, &w->in[i], err));
    if (in->data == PS_WARMUP_RANDOM) ps_probe_fill(w->in[i], ++w->number);
    return PS_OK;
}

static ps_status run(warmup *w, ps_session *session, ps_error *err) {
    ps_served *s = w->served;
    for (size_t i = 0; i < w->config->n_inputs; i++)
        PS_TRY(make_input(w, &w->config->inputs[i], err));
    for (int64_t k = 0; k < w->config->count; k++) {
        memset(w->out, 0, s->n_outputs * sizeof *w->out);
        PS_TRY(ps_session_run(session, (const ps_tensor *const *)w->in, s->n_inputs, w->out, s->n_outputs, NULL, err));
    }
    return PS_OK;
}

static ps_status run_on(warmup *w, ps_session *session, ps_error *err) {
    ps_served *s = w->served;
    ps_arena_init(&w->arena, s->alloc);
    w->in = ps_arena_array(&w->arena, s->n_inputs + 1, sizeof *w->in);
    w->out = ps_arena_array(&w->arena, s->n_outputs + 1, sizeof *w->out);
    ps_status status = w->in && w->out ? run(w, session, err) : PS_FAIL_NOMEM(err, "a warm-up");
    for (size_t i = 0; w->in && i < s->n_inputs; i++)
        ps_tensor_release(w->in[i]);
    ps_arena_release(&w->arena);
    return status;
}

/* On one of the model's devices. The session stays for the first request. */
static ps_status warm(ps_served *s, size_t place, ps_engine *engine, const char *folder, const ps_warmup *config,
                      ps_error *err) {
    warmup w = { .served = s, .engine = engine, .folder = folder, .config = config };
    ps_served_session taken;
    PS_TRY(ps_served_take_session_on(s, place, PS_SESSION_WIDE, &taken, err));
    ps_status status = run_on(&w, taken.session, err);
    (void)ps_served_put_session(s, &taken);
    if (status != PS_OK) ps_error_prefix(err, "model '%s': warm-up '%.64s'", s->name, config->name);
    return status;
}

ps_status ps_warmup_run(ps_served *s, ps_engine *engine, const char *folder, ps_error *err) {
    for (size_t place = 0; place < s->n_places; place++)
        for (size_t i = 0; i < s->config.n_warmups; i++)
            PS_TRY(warm(s, place, engine, folder, &s->config.warmups[i], err));
    return PS_OK;
}
