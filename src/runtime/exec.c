/* exec.c - running a plan: resolve pointers when an end moved, then run the steps. */
#include "base/os.h"
#include "runtime/runtime_int.h"

/* ---- state: what a session keeps of one plan ---- */

static size_t count_args(const ps_plan *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->n_steps; i++)
        n += p->steps[i].n_in + p->steps[i].n_out;
    return n;
}

static ps_status fill_state(ps_session *s, ps_plan_state *st, ps_error *err) {
    const ps_plan *p = st->plan;
    st->ptrs = ps_alloc_zero(s->alloc, (p->n_storages + 1) * sizeof *st->ptrs);
    st->args = ps_alloc_zero(s->alloc, (count_args(p) + 1) * sizeof *st->args);
    st->kernel_states = ps_alloc_zero(s->alloc, (p->n_steps + 1) * sizeof *st->kernel_states);
    st->resolved_ends = ps_alloc_zero(s->alloc, (p->n_inputs + p->n_outputs + 1) * sizeof *st->resolved_ends);
    st->regions = ps_alloc_zero(s->alloc, (s->stream ? p->n_storages + 1 : 1) * sizeof *st->regions);
    st->step_ns = ps_alloc_zero(s->alloc, (p->n_steps + 1) * sizeof *st->step_ns);
    st->step_calls = ps_alloc_zero(s->alloc, (p->n_steps + 1) * sizeof *st->step_calls);
    if (!st->ptrs || !st->args || !st->kernel_states || !st->resolved_ends || !st->step_ns || !st->step_calls ||
        !st->regions) {
        return PS_FAIL_NOMEM(err, "a plan's state");
    }
    for (size_t i = 0; i < p->n_steps; i++) {
        const ps_kernel *k = p->steps[i].kernel;
        if (k->ops->state_new) PS_TRY(k->ops->state_new(k, s->alloc, &st->kernel_states[i], err));
    }
    return PS_OK;
}

ps_status ps_plan_state_new(ps_session *s, const ps_plan *plan, ps_plan_state **ret, ps_error *err) {
    ps_plan_state *st = ps_alloc_zero(s->alloc, sizeof *st);
    if (!st) return PS_FAIL_NOMEM(err, "a plan's state");
    st->plan = plan;
    ps_status status = fill_state(s, st, err);
    if (status != PS_OK) {
        ps_plan_state_free(s, st);
        return status;
    }
    *ret = st;
    return PS_OK;
}

void ps_plan_state_free(ps_session *s, ps_plan_state *st) {
    if (!st) return;
    const ps_plan *p = st->plan;
    for (size_t i = 0; st->kernel_states && i < p->n_steps; i++) {
        const ps_kernel *k = p->steps[i].kernel;
        if (st->kernel_states[i]) k->ops->state_free(k, s->alloc, st->kernel_states[i]);
    }
    ps_ends_free(s, st);
    void *blocks[] = { st->ptrs,          st->args,    st->kernel_states, st->regions,
                       st->resolved_ends, st->step_ns, st->step_calls };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ps_free(s->alloc, blocks[i]);
    ps_free(s->alloc, st);
}

/* ---- pointers ---- */

/* Where the rows of a slice lie: of input i, or of output i - n_inputs. */
static void *end_data(const ps_plan *p, ps_slot *const *in, ps_slot *const *out, size_t i, int64_t slice) {
    bool input = i < p->n_inputs;
    char *data = input ? in[i]->data : out[i - p->n_inputs]->data;
    uint32_t storage = input ? p->inputs[i] : p->outputs[i - p->n_inputs].storage;
    return slice ? data + (size_t)slice * p->storages[storage].bytes : data;
}

static bool still_resolved(const ps_session *s, const ps_plan_state *st, ps_slot *const *in, ps_slot *const *out,
                           int64_t slice) {
    const ps_plan *p = st->plan;
    if (!st->resolved_arena || st->resolved_arena != s->arena.data) return false;
    if (st->resolved_device != s->device_arena.data) return false;
    for (size_t i = 0; i < p->n_inputs + p->n_outputs; i++) {
        if (st->resolved_ends[i] != end_data(p, in, out, i, slice)) return false;
    }
    return true;
}

/* Storage i of the device's memory, as kernels see it. */
static void *resolve_region(const ps_session *session, ps_plan_state *st, const ps_storage *s, uint32_t i) {
    if (s->kind == PS_ST_CONST)
        st->regions[i] = (ps_region) { s->data, 0 };
    else
        st->regions[i] = (ps_region) { session->device_arena.data, s->offset };
    return &st->regions[i];
}

static void resolve(const ps_session *session, ps_plan_state *st, ps_slot *const *in, ps_slot *const *out,
                    int64_t slice) {
    const ps_plan *p = st->plan;
    char *arena = session->arena.data;
    for (size_t i = 0; i < p->n_inputs + p->n_outputs; i++)
        st->resolved_ends[i] = end_data(p, in, out, i, slice);
    for (uint32_t i = 0; i < p->n_storages; i++) {
        const ps_storage *s = &p->storages[ps_storage_find(p, i)];
        if (s->space == PS_SPACE_DEVICE) {
            st->ptrs[i] = resolve_region(session, st, s, i);
            continue;
        }
        switch (s->kind) {
        case PS_ST_ARENA: st->ptrs[i] = s->last >= 0 ? arena + s->offset : NULL; break;
        case PS_ST_INPUT: st->ptrs[i] = st->resolved_ends[s->index]; break;
        case PS_ST_OUTPUT: st->ptrs[i] = st->resolved_ends[p->n_inputs + s->index]; break;
        case PS_ST_CONST: st->ptrs[i] = s->data; break;
        }
    }
    void **arg = st->args;
    for (size_t i = 0; i < p->n_steps; i++) {
        const ps_step *s = &p->steps[i];
        for (uint32_t k = 0; k < s->n_in + s->n_out; k++)
            *arg++ = s->args[k] == PS_NONE ? NULL : st->ptrs[s->args[k]];
    }
    st->resolved_arena = arena;
    st->resolved_device = session->device_arena.data;
}

/* ---- steps ---- */

ps_status ps_check_stop(const ps_session *s, ps_error *err) {
    const ps_run_options *o = s->options;
    if (!o) return PS_OK;
    PS_FAIL_IF(o->cancel && __atomic_load_n(o->cancel, __ATOMIC_RELAXED), err, CANCELLED, "the run was cancelled");
    PS_FAIL_IF(o->deadline_ns && ps_clock_ns() >= o->deadline_ns, err, DEADLINE, "the run's deadline has passed");
    return PS_OK;
}

static ps_status sync(const ps_session *s, ps_error *err) {
    return s->stream ? s->model->device->ops->memory->sync(s->stream, err) : PS_OK;
}

static ps_status run_step(ps_session *s, ps_plan_state *st, size_t i, void **arg, ps_error *err) {
    const ps_step *step = &st->plan->steps[i];
    ps_kernel_args args = {
        arg,      arg + step->n_in, step->workspace == PS_NONE ? NULL : st->ptrs[step->workspace], st->kernel_states[i],
        s->alloc, s->stream
    };
    if (step->wait) PS_TRY(sync(s, err));
    int64_t start = s->profile ? ps_clock_ns() : 0;
    PS_TRY(step->kernel->ops->run(step->kernel, &args, err));
    if (!s->profile) return PS_OK;
    PS_TRY(sync(s, err)); /* a device's steps are timed one by one */
    st->step_ns[i] += ps_clock_ns() - start;
    st->step_calls[i]++;
    return PS_OK;
}

static ps_status run_steps(ps_session *s, ps_plan_state *st, ps_error *err) {
    const ps_plan *p = st->plan;
    void **arg = st->args;
    size_t shown = 0;
    if (p->n_shows) PS_TRY(ps_plan_show_step(s, st, -1, &shown, err));
    for (size_t i = 0; i < p->n_steps; i++) {
        PS_TRY(ps_check_stop(s, err));
        PS_TRY(run_step(s, st, i, arg, err));
        if (shown < p->n_shows) PS_TRY(ps_plan_show_step(s, st, (int32_t)i, &shown, err));
        arg += p->steps[i].n_in + p->steps[i].n_out;
    }
    return PS_OK;
}

/* The device's arena; nothing is under way, for every plan's run ends with a wait. */
static ps_status fit_device_arena(ps_session *s, size_t bytes, ps_error *err) {
    const ps_memory_ops *memory = s->model->device->ops->memory;
    ps_buffer *b = &s->device_arena;
    if (bytes <= b->size) return PS_OK;
    memory->buffer_free(s->model->device, b->data);
    atomic_fetch_sub(&s->model->device_bytes, b->size);
    *b = (ps_buffer) { NULL, 0 };
    PS_TRY(memory->buffer_new(s->model->device, bytes, NULL, &b->data, err));
    b->size = bytes;
    atomic_fetch_add(&s->model->device_bytes, bytes);
    return PS_OK;
}

ps_status ps_plan_exec(ps_session *s, ps_plan_state *st, ps_slot *const *in, ps_slot *const *out, ps_error *err) {
    const ps_plan *p = st->plan;
    PS_TRY(ps_buffer_fit(s->alloc, &s->arena, p->arena_bytes[PS_SPACE_HOST], err));
    if (s->stream) PS_TRY(fit_device_arena(s, p->arena_bytes[PS_SPACE_DEVICE], err));
    for (size_t i = 0; i < p->n_outputs; i++)
        PS_TRY(ps_slot_resolve(&s->pool, out[i], p->outputs[i].dtype, &p->outputs[i].shape, err));
    ps_status status = PS_OK;
    for (int64_t slice = 0; slice < p->slices && status == PS_OK; slice++) {
        if (!still_resolved(s, st, in, out, slice)) resolve(s, st, in, out, slice);
        status = ps_ends_aim(s, st, err);
        if (status == PS_OK) status = run_steps(s, st, err);
    }
    if (!s->stream) return status;
    /* What is under way uses memory of the caller, whatever happened. */
    ps_status end = sync(s, status == PS_OK ? err : NULL);
    ps_ends_let_go(s, st);
    return status == PS_OK ? end : status;
}
