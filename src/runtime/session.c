/* session.c - one runner's side of a model: checks inputs, finds the plan, binds the ends, runs. */
#include "base/os.h"
#include "runtime/runtime_int.h"

/* ---- life ---- */

static ps_status fill(ps_session *s, ps_error *err) {
    size_t n_in = s->model->n_inputs, n_out = s->model->n_outputs;
    s->staging = ps_alloc_zero(s->alloc, (n_in + 1) * sizeof *s->staging);
    s->input_ptrs = ps_alloc_zero(s->alloc, (n_in + 1) * sizeof *s->input_ptrs);
    s->input_shapes = ps_alloc_zero(s->alloc, (n_in + 1) * sizeof *s->input_shapes);
    s->key = ps_alloc_array(s->alloc, 1 + n_in * (1 + PS_MAX_RANK), sizeof *s->key);
    s->outputs = ps_alloc_zero(s->alloc, (n_out + 1) * sizeof *s->outputs);
    s->output_buffers = ps_alloc_zero(s->alloc, (n_out + 1) * sizeof *s->output_buffers);
    s->user_outputs = ps_alloc_zero(s->alloc, (n_out + 1) * sizeof *s->user_outputs);
    s->binds = ps_alloc_zero(s->alloc, (n_out + 1) * sizeof *s->binds);
    if (!s->staging || !s->input_ptrs || !s->input_shapes || !s->key || !s->outputs || !s->output_buffers ||
        !s->user_outputs || !s->binds) {
        return PS_FAIL_NOMEM(err, "the session");
    }
    ps_shape empty = { 1, { 0 } };
    for (size_t i = 0; i < n_out; i++) {
        PS_TRY(ps_tensor_new_view(s->alloc, PS_DTYPE_F32, &empty, NULL, NULL, &s->outputs[i], err));
    }
    return PS_OK;
}

ps_status ps_session_create(ps_model *model, const ps_session_options *options, ps_session **ret, ps_error *err) {
    static const ps_session_options defaults = PS_SESSION_OPTIONS_INIT;
    const ps_session_options *o = options ? options : &defaults;
    PS_FAIL_IF(!model || !ret, err, INVALID, "ps_session_create: an argument is NULL");
    PS_FAIL_IF(o->size != sizeof *o, err, INVALID, "ps_session_options.size is %zu, this library expects %zu", o->size,
               sizeof *o);
    PS_FAIL_IF(o->threads < 0 || o->threads > 1024, err, INVALID, "threads is %d: it must lie in 0 … 1024", o->threads);
    ps_session *s = ps_alloc_zero(model->alloc, sizeof *s);
    if (!s) return PS_FAIL_NOMEM(err, "the session");
    s->model = ps_model_retain(model);
    s->alloc = model->alloc;
    s->threads = o->threads ? o->threads : model->threads;
    s->profile = o->profile;
    ps_status status = fill(s, err);
    if (status != PS_OK) {
        ps_session_free(s);
        return status;
    }
    *ret = s;
    return PS_OK;
}

static void drop_state(ps_session *s, ps_state *st) {
    *(st->newer ? &st->newer->older : &s->newest) = st->older;
    *(st->older ? &st->older->newer : &s->oldest) = st->newer;
    s->n_states--;
    ps_state_free(s, st);
}

void ps_session_free(ps_session *s) {
    if (!s) return;
    ps_model *m = s->model;
    while (s->newest)
        drop_state(s, s->newest);
    for (size_t i = 0; i < PS_MAX_DEPTH; i++)
        ps_free(s->alloc, s->arenas[i].data);
    for (size_t i = 0; s->staging && i < m->n_inputs; i++)
        ps_free(s->alloc, s->staging[i].data);
    for (size_t i = 0; s->outputs && i < m->n_outputs; i++)
        ps_tensor_release(s->outputs[i]);
    for (size_t i = 0; s->output_buffers && i < m->n_outputs; i++)
        ps_free(s->alloc, s->output_buffers[i].data);
    void *blocks[] = { s->staging, s->input_ptrs,     s->input_shapes, s->key,
                       s->outputs, s->output_buffers, s->user_outputs, s->binds };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ps_free(s->alloc, blocks[i]);
    ps_free(s->alloc, s);
    ps_model_release(m);
}

/* ---- inputs ---- */

typedef struct symbol_binding {
    int64_t symbol, value;
    const char *input;
} symbol_binding;

#define MAX_SYMBOLS 64

static ps_status check_dim(const ps_model *m, const ps_value_info *info, int axis, int64_t have, symbol_binding *bound,
                           size_t *n_bound, ps_error *err) {
    int64_t want = info->shape.dims[axis];
    if (want == PS_DIM_UNKNOWN) return PS_OK;
    PS_FAIL_IF(want >= 0 && want != have, err, SHAPE, "input '%s': dim %d is %lld, the model takes %lld", info->name,
               axis, (long long)have, (long long)want);
    if (want >= 0) return PS_OK;
    for (size_t i = 0; i < *n_bound; i++) {
        if (bound[i].symbol != want) continue;
        PS_FAIL_IF(bound[i].value != have, err, SHAPE, "input '%s': dim %d ('%s') is %lld, but input '%s' says %lld",
                   info->name, axis, ps_model_symbol(m, want), (long long)have, bound[i].input,
                   (long long)bound[i].value);
        return PS_OK;
    }
    if (*n_bound < MAX_SYMBOLS) bound[(*n_bound)++] = (symbol_binding) { want, have, info->name };
    return PS_OK;
}

static ps_status check_input(const ps_session *s, size_t i, const ps_tensor *t, symbol_binding *bound, size_t *n_bound,
                             ps_error *err) {
    const ps_value_info *info = &s->model->inputs[i];
    char text[128];
    PS_FAIL_IF(!t, err, INVALID, "input '%s' is missing", info->name);
    PS_FAIL_IF(info->dtype && t->dtype != info->dtype, err, TYPE, "input '%s' is %s, the model takes %s", info->name,
               ps_dtype_name(t->dtype), ps_dtype_name(info->dtype));
    if (info->shape.rank < 0) return PS_OK;
    PS_FAIL_IF(t->shape.rank != info->shape.rank, err, SHAPE,
               "input '%s' has shape %s of rank %d, the model takes rank %d", info->name,
               ps_shape_text(&t->shape, text, sizeof text), t->shape.rank, info->shape.rank);
    for (int d = 0; d < t->shape.rank; d++)
        PS_TRY(check_dim(s->model, info, d, t->shape.dims[d], bound, n_bound, err));
    return PS_OK;
}

static bool meets(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    return (uintptr_t)a < (uintptr_t)b + b_bytes && (uintptr_t)b < (uintptr_t)a + a_bytes;
}

/* Will this run write where the input lies: the last run's output given back as an input (recurrent models), or one
 * tensor given as input and output? */
static bool will_be_overwritten(const ps_session *s, const ps_tensor *t, ps_tensor *const *outputs) {
    for (size_t k = 0; k < s->model->n_outputs; k++) {
        const ps_tensor *given = outputs[k];
        if (given && !given->strides && meets(t->data, t->bytes, given->data, given->bytes)) return true;
        if (!given && meets(t->data, t->bytes, s->output_buffers[k].data, s->output_buffers[k].size)) return true;
    }
    return false;
}

static ps_status bind_input(ps_session *s, size_t i, const ps_tensor *t, ps_tensor *const *outputs, ps_error *err) {
    size_t size = ps_dtype_size(t->dtype);
    bool aligned = size == 0 || (uintptr_t)t->data % (size < 8 ? size : 8) == 0;
    s->input_ptrs[i] = t->data;
    if (!t->strides && aligned && !will_be_overwritten(s, t, outputs)) return PS_OK;
    PS_FAIL_IF(ps_buffer_fit(s->alloc, &s->staging[i], t->bytes, NULL) != PS_OK, err, NO_MEMORY,
               "input '%s': out of memory for a packed copy of %zu bytes", s->model->inputs[i].name, t->bytes);
    if (t->strides)
        ps_tensor_copy_packed(t, s->staging[i].data);
    else
        memcpy(s->staging[i].data, t->data, t->bytes);
    s->input_ptrs[i] = s->staging[i].data;
    return PS_OK;
}

static ps_status take_inputs(ps_session *s, const ps_tensor *const *inputs, size_t n, ps_tensor *const *outputs,
                             ps_error *err) {
    symbol_binding bound[MAX_SYMBOLS];
    size_t n_bound = 0;
    PS_FAIL_IF(n != s->model->n_inputs, err, INVALID, "%zu inputs are given, the model takes %zu", n,
               s->model->n_inputs);
    for (size_t i = 0; i < n; i++) {
        PS_TRY(check_input(s, i, inputs[i], bound, &n_bound, err));
        PS_TRY(bind_input(s, i, inputs[i], outputs, err));
        s->input_shapes[i] = &inputs[i]->shape;
    }
    return PS_OK;
}

/* ---- plans ---- */

static void push_state(ps_session *s, ps_state *st) {
    st->newer = NULL;
    st->older = s->newest;
    if (s->newest) s->newest->newer = st;
    s->newest = st;
    if (!s->oldest) s->oldest = st;
    s->n_states++;
}

static void touch_state(ps_session *s, ps_state *st) {
    if (s->newest == st) return;
    *(st->newer ? &st->newer->older : &s->newest) = st->older;
    *(st->older ? &st->older->newer : &s->oldest) = st->newer;
    s->n_states--;
    push_state(s, st);
}

/* A state keeps its plan alive: without this, sessions would hold many more plans than the cache's limit allows. */
static void drop_evicted(ps_session *s) {
    for (ps_state *st = s->newest, *next; st; st = next) {
        next = st->older;
        if (atomic_load_explicit(&st->plan->evicted, memory_order_relaxed)) drop_state(s, st);
    }
}

/* The state for the present input shapes: from the session's list, or around a plan of the model. */
static ps_status find_state(ps_session *s, ps_state **ret, ps_error *err) {
    size_t words = ps_key_fill(s->key, s->threads, s->input_shapes, s->model->n_inputs);
    ps_plan *plan;
    for (ps_state *st = s->newest; st; st = st->older) {
        if (st->plan->key_words != words || memcmp(st->plan->key, s->key, words * sizeof *s->key) != 0) continue;
        touch_state(s, st);
        if (!atomic_load_explicit(&st->plan->used, memory_order_relaxed))
            atomic_store_explicit(&st->plan->used, true, memory_order_relaxed);
        *ret = st;
        return PS_OK;
    }
    PS_TRY(ps_model_plan(s->model, s->input_shapes, s->threads, &plan, err));
    drop_evicted(s);
    ps_status status = ps_state_new(s, plan, ret, err);
    ps_plan_release(plan); /* the state holds it */
    if (status != PS_OK) return status;
    push_state(s, *ret);
    if (s->n_states > PS_MAX_STATES) drop_state(s, s->oldest);
    return PS_OK;
}

/* ---- run ---- */

ps_status ps_session_run(ps_session *s, const ps_tensor *const *inputs, size_t n_inputs, ps_tensor **outputs,
                         size_t n_outputs, const ps_run_options *options, ps_error *err) {
    ps_state *st;
    PS_FAIL_IF(!s || (!inputs && n_inputs) || (!outputs && n_outputs), err, INVALID,
               "ps_session_run: an argument is NULL");
    ps_device *d = s->model->device;
    PS_FAIL_IF(n_outputs != s->model->n_outputs, err, INVALID, "%zu outputs are asked for, the model makes %zu",
               n_outputs, s->model->n_outputs);
    PS_FAIL_IF(options && options->size != sizeof *options, err, INVALID,
               "ps_run_options.size is %zu, this library expects %zu", options->size, sizeof *options);
    PS_TRY(take_inputs(s, inputs, n_inputs, outputs, err));
    PS_TRY(find_state(s, &st, err));
    for (size_t i = 0; i < n_outputs; i++) {
        s->user_outputs[i] = outputs[i];
        s->binds[i] = (ps_bind) { .output = (int64_t)i };
    }
    s->options = options;
    int token = d->ops->enter ? d->ops->enter(d, s->threads) : 0;
    ps_status status = ps_exec(s, st, s->input_ptrs, s->binds, 0, err);
    if (d->ops->leave) d->ops->leave(d, token);
    s->options = NULL;
    if (status != PS_OK) return status;
    for (size_t i = 0; i < n_outputs; i++) {
        if (!outputs[i]) outputs[i] = s->outputs[i];
    }
    return PS_OK;
}

/* ---- profile ---- */

typedef struct step_ref {
    const ps_state *state;
    size_t index;
} step_ref;

/* The steps of a state, of the branches and rests it ran last, in that order. Counts down *index until it is 0. */
static bool locate(const ps_state *st, size_t *index, step_ref *ret) {
    if (!st) return false;
    if (*index < st->plan->n_steps) {
        *ret = (step_ref) { st, *index };
        return true;
    }
    *index -= st->plan->n_steps;
    for (int b = 0; b < 2; b++) {
        if (locate(st->branch[b], index, ret)) return true;
    }
    for (int r = 0; r < PS_MAX_RESTS; r++) {
        if (locate(st->rests[r], index, ret)) return true;
    }
    return false;
}

ps_status ps_session_step(const ps_session *s, size_t index, ps_step_info *ret) {
    step_ref r;
    if (!locate(s->newest, &index, &r)) return PS_NOT_FOUND;
    const ps_step *p = &r.state->plan->steps[r.index];
    *ret = (ps_step_info) { sizeof *ret,
                            p->name ? p->name : "",
                            p->op,
                            p->kernel->label,
                            s->model->device->name,
                            p->shape,
                            r.state->step_calls[r.index],
                            r.state->step_ns[r.index],
                            p->macs };
    return PS_OK;
}

static void reset(ps_state *st) {
    if (!st) return;
    memset(st->step_ns, 0, st->plan->n_steps * sizeof *st->step_ns);
    memset(st->step_calls, 0, st->plan->n_steps * sizeof *st->step_calls);
    for (int b = 0; b < 2; b++)
        reset(st->branch[b]);
    for (int r = 0; r < PS_MAX_RESTS; r++)
        reset(st->rests[r]);
}

void ps_session_profile_reset(ps_session *s) {
    for (ps_state *st = s->newest; st; st = st->older)
        reset(st);
}

static void add_statistics(const ps_state *st, ps_session_stats *ret) {
    if (!st) return;
    const ps_plan *p = st->plan;
    ret->arena_bytes += p->arena_bytes;
    ret->no_reuse_bytes += p->no_reuse_bytes;
    ret->steps += p->n_steps;
    ret->reorders += p->n_reorders;
    ret->macs += p->macs;
    for (int b = 0; b < 2; b++)
        add_statistics(st->branch[b], ret);
    for (int r = 0; r < PS_MAX_RESTS; r++)
        add_statistics(st->rests[r], ret);
}

ps_status ps_session_statistics(const ps_session *s, ps_session_stats *ret) {
    *ret = (ps_session_stats) { .size = sizeof *ret };
    add_statistics(s->newest, ret);
    ps_mutex_lock(&s->model->lock);
    ret->plans = s->model->plans_made;
    ps_mutex_unlock(&s->model->lock);
    return PS_OK;
}
