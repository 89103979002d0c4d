/* session.c - one runner's side of a model: checks inputs, binds the ends, runs, tells about steps. */
#include "base/os.h"
#include "runtime/runtime_int.h"

/* ---- life ---- */

static ps_status fill(ps_session *s, ps_error *err) {
    size_t n_in = s->model->n_inputs, n_out = s->model->n_outputs;
    s->staging = ps_alloc_zero(s->alloc, (n_in + 1) * sizeof *s->staging);
    s->outputs = ps_alloc_zero(s->alloc, (n_out + 1) * sizeof *s->outputs);
    s->ends = ps_alloc_zero(s->alloc, (n_in + n_out + 1) * sizeof *s->ends);
    s->end_ptrs = ps_alloc_zero(s->alloc, (n_in + n_out + 1) * sizeof(ps_slot *));
    if (!s->staging || !s->outputs || !s->ends || !s->end_ptrs) return PS_FAIL_NOMEM(err, "the session");
    PS_TRY(ps_pool_init(&s->pool, s->alloc, err));
    const ps_memory_ops *memory = s->model->device->ops->memory;
    if (memory) PS_TRY(memory->stream_new(s->model->device, s->threads, &s->stream, err));
    ps_shape empty = { 1, { 0 } };
    for (size_t i = 0; i < n_in + n_out; i++)
        s->end_ptrs[i] = &s->ends[i];
    for (size_t i = 0; i < n_out; i++) {
        s->ends[n_in + i].output = s->model->outputs[i].name;
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
    ps_model *on;
    PS_TRY(ps_model_take_on(model, o->device, &on, err));
    ps_session *s = ps_alloc_zero(on->alloc, sizeof *s);
    if (!s) {
        ps_model_release(on);
        return PS_FAIL_NOMEM(err, "the session");
    }
    s->face = ps_model_retain(model);
    s->model = on;
    s->alloc = s->pool.alloc = on->alloc;
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

bool ps_session_lost(const ps_session *s) {
    return s && ps_model_lost(s->model);
}

void ps_session_free(ps_session *s) {
    if (!s) return;
    ps_model *m = s->model, *face = s->face;
    ps_state_list_clear(s, &s->states);
    const ps_memory_ops *memory = m->device->ops->memory;
    if (memory) memory->stream_free(s->stream);
    if (memory) memory->buffer_free(m->device, s->device_arena.data);
    atomic_fetch_sub(&m->device_bytes, s->device_arena.size);
    ps_free(s->alloc, s->arena.data);
    ps_free(s->alloc, s->key.data);
    for (size_t i = 0; s->staging && i < m->n_inputs; i++)
        ps_free(s->alloc, s->staging[i].data);
    for (size_t i = 0; s->outputs && i < m->n_outputs; i++)
        ps_tensor_release(s->outputs[i]);
    for (size_t i = 0; s->ends && i < m->n_inputs + m->n_outputs; i++)
        ps_slot_clear(&s->pool, &s->ends[i]);
    ps_pool_clear(&s->pool);
    void *blocks[] = { s->staging, s->outputs, s->ends, s->end_ptrs };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ps_free(s->alloc, blocks[i]);
    ps_free(s->alloc, s);
    ps_model_release(m);
    ps_model_release(face);
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
    /* What is declared optional may be given as it is, without the container. */
    if (info->dtype == PS_DTYPE_OPTIONAL && t->dtype != PS_DTYPE_OPTIONAL) return PS_OK;
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
        const ps_buffer *own = &s->ends[s->model->n_inputs + k].buffer;
        if (!given && meets(t->data, t->bytes, own->data, own->size)) return true;
    }
    return false;
}

/* Strings and containers are kept alive for the run: they may be what the last run made, which this one drops. */
static ps_status bind_object(ps_slot *slot, const ps_tensor *t) {
    ps_slot_borrow(slot, t->dtype, &t->shape, t->data);
    if (t->owned && t->alloc) slot->object = ps_tensor_retain((ps_tensor *)(uintptr_t)t);
    return PS_OK;
}

static ps_status bind_input(ps_session *s, size_t i, const ps_tensor *t, ps_tensor *const *outputs, ps_error *err) {
    size_t size = ps_dtype_size(t->dtype);
    bool aligned = size == 0 || (uintptr_t)t->data % (size < 8 ? size : 8) == 0;
    if (ps_dtype_is_object(t->dtype)) return bind_object(&s->ends[i], t);
    ps_slot_borrow(&s->ends[i], t->dtype, &t->shape, t->data);
    if (!t->strides && aligned && !will_be_overwritten(s, t, outputs)) return PS_OK;
    PS_FAIL_IF(ps_buffer_fit(s->alloc, &s->staging[i], t->bytes, NULL) != PS_OK, err, NO_MEMORY,
               "input '%s': out of memory for a packed copy of %zu bytes", s->model->inputs[i].name, t->bytes);
    ps_tensor_copy_packed(t, s->staging[i].data);
    s->ends[i].data = s->staging[i].data;
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
    }
    return PS_OK;
}

/* ---- run ---- */

static void show(const ps_slot *slot, ps_tensor *t) {
    ps_tensor view;
    ps_slot_view(slot, &view);
    t->dtype = view.dtype;
    t->shape = view.shape;
    t->bytes = view.bytes;
    t->data = view.data;
}

/* Numbers lie in the slot's buffer: the session's own tensor shows them. Strings and containers are one already. */
static void give_outputs(ps_session *s, ps_tensor **outputs) {
    for (size_t i = 0; i < s->model->n_outputs && i < s->model->shown_from; i++) {
        const ps_slot *slot = &s->ends[s->model->n_inputs + i];
        if (outputs[i]) continue;
        outputs[i] = slot->object ? slot->object : s->outputs[i];
        if (!slot->object) show(slot, s->outputs[i]);
    }
}

/* The caller's tensors are the caller's again. */
static void let_go(ps_session *s) {
    static const ps_shape empty = { 1, { 0 } };
    for (size_t i = 0; i < s->model->n_inputs; i++)
        ps_slot_borrow(&s->ends[i], PS_DTYPE_U8, &empty, NULL);
    for (size_t i = 0; i < s->model->n_outputs; i++)
        s->ends[s->model->n_inputs + i].given = NULL;
}

ps_status ps_session_run(ps_session *s, const ps_tensor *const *inputs, size_t n_inputs, ps_tensor **outputs,
                         size_t n_outputs, const ps_run_options *options, ps_error *err) {
    PS_FAIL_IF(!s || (!inputs && n_inputs) || (!outputs && n_outputs), err, INVALID,
               "ps_session_run: an argument is NULL");
    ps_device *d = s->model->host;
    PS_FAIL_IF(n_outputs != s->model->n_outputs, err, INVALID, "%zu outputs are asked for, the model makes %zu",
               n_outputs, s->model->n_outputs);
    PS_FAIL_IF(options && options->size != sizeof *options, err, INVALID,
               "ps_run_options.size is %zu, this library expects %zu", options->size, sizeof *options);
    PS_TRY(take_inputs(s, inputs, n_inputs, outputs, err));
    for (size_t i = 0; i < n_outputs; i++)
        s->ends[n_inputs + i].given = outputs[i];
    s->options = options;
    ps_session_forget_shown(s);
    int token = d->ops->enter ? d->ops->enter(d, s->threads) : 0;
    ps_status status = ps_unit_run(s, &s->model->unit, &s->states, s->end_ptrs, s->end_ptrs + n_inputs, 0, err);
    if (status == PS_OK) status = ps_session_show_rest(s, err);
    if (d->ops->leave) d->ops->leave(d, token);
    s->options = NULL;
    if (status == PS_OK) give_outputs(s, outputs);
    let_go(s);
    ps_pool_trim(&s->pool);
    return status;
}

/* ---- profile: the steps of plans and the dynamic nodes of the programs that ran last, in order ---- */

typedef struct step_ref {
    const ps_plan_state *plan; /* or NULL: a dynamic node */
    size_t index;
    const ps_item *item;
    const ps_item_state *state;
} step_ref;

/* Counts down *index until it is 0. Of a unit's programs, all that the session keeps are told: a loop's body may have
 * run in several. */
static bool locate(const ps_state *st, size_t *index, step_ref *ret);

static bool locate_in(const ps_state_list *l, size_t *index, step_ref *ret) {
    for (const ps_state *st = l->newest; st; st = st->older) {
        if (locate(st, index, ret)) return true;
    }
    return false;
}

static bool locate(const ps_state *st, size_t *index, step_ref *ret) {
    for (size_t i = 0; i < st->program->n_items; i++) {
        const ps_item *item = &st->program->items[i];
        const ps_item_state *is = &st->items[i];
        size_t n = item->plan ? item->plan->n_steps : item->kind == PS_ITEM_KERNEL;
        *ret = (step_ref) { is->plan, *index, item, is };
        if (*index < n) return true;
        *index -= n;
        for (int k = 0; k < 2; k++) {
            if (locate_in(&is->children[k], index, ret)) return true;
        }
    }
    return false;
}

ps_status ps_session_step(const ps_session *s, size_t index, ps_step_info *ret) {
    step_ref r;
    if (!s->states.newest || !locate(s->states.newest, &index, &r)) return PS_NOT_FOUND;
    if (!r.plan) {
        const ps_node *n = r.item->node;
        const ps_shape *shape = r.item->n_out && n->out[0] ? &r.state->values[r.item->n_in].shape : NULL;
        *ret = (ps_step_info) { sizeof *ret,    n->name,     n->fused ? n->fused : n->op_type,
                                "ref",          "ref",       shape ? *shape : ps_shape_unknown(),
                                r.state->calls, r.state->ns, 0,
                                n->note,        NULL };
        if (s->model->device->ops->memory) ret->fallback = "its shapes depend on data";
        return PS_OK;
    }
    const ps_step *p = &r.plan->plan->steps[r.index];
    *ret = (ps_step_info) { sizeof *ret,
                            p->name ? p->name : "",
                            p->op,
                            p->kernel->label,
                            p->device->name,
                            p->shape,
                            r.plan->step_calls[r.index],
                            r.plan->step_ns[r.index],
                            p->macs,
                            p->node ? p->node->note : NULL,
                            p->why,
                            p->stored };
    return PS_OK;
}

static void reset(ps_state *st) {
    for (size_t i = 0; i < st->program->n_items; i++) {
        ps_item_state *is = &st->items[i];
        is->ns = is->calls = 0;
        if (is->plan) memset(is->plan->step_ns, 0, is->plan->plan->n_steps * sizeof *is->plan->step_ns);
        if (is->plan) memset(is->plan->step_calls, 0, is->plan->plan->n_steps * sizeof *is->plan->step_calls);
        for (int k = 0; k < 2; k++) {
            for (ps_state *child = is->children[k].newest; child; child = child->older)
                reset(child);
        }
    }
}

void ps_session_profile_reset(ps_session *s) {
    for (ps_state *st = s->states.newest; st; st = st->older)
        reset(st);
}

static void add_plan(const ps_plan *p, ps_session_stats *ret) {
    size_t arena = p->arena_bytes[PS_SPACE_HOST] + p->arena_bytes[PS_SPACE_DEVICE];
    if (arena > ret->arena_bytes) ret->arena_bytes = arena; /* one after the other in one arena */
    ret->no_reuse_bytes += p->no_reuse_bytes;
    ret->steps += p->n_steps;
    ret->reorders += p->n_reorders;
    ret->transfers += p->n_transfers;
    ret->macs += p->macs * p->slices;
}

static void add_statistics(const ps_state *st, ps_session_stats *ret) {
    for (size_t i = 0; i < st->program->n_items; i++) {
        const ps_item_state *is = &st->items[i];
        if (is->plan) add_plan(is->plan->plan, ret);
        ret->steps += st->program->items[i].kind == PS_ITEM_KERNEL;
        for (int k = 0; k < 2; k++) {
            for (const ps_state *child = is->children[k].newest; child; child = child->older)
                add_statistics(child, ret);
        }
    }
}

ps_status ps_session_statistics(const ps_session *s, ps_session_stats *ret) {
    *ret = (ps_session_stats) { .size = sizeof *ret };
    if (s->states.newest) add_statistics(s->states.newest, ret);
    ps_mutex_lock(&s->model->lock);
    ret->plans = s->model->plans_made;
    ps_mutex_unlock(&s->model->lock);
    return PS_OK;
}
