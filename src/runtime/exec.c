/* exec.c - running a plan: resolve pointers when an end moved, run the steps, then the tail. */
#include "base/os.h"
#include "runtime/runtime_int.h"

#define KEPT_BYTES ((size_t)64 << 20) /* of one buffer, however little the present run needs */

/* One huge run must not hold its memory for the session's life; where less is at stake, what there is stays. */
static bool much_too_large(const ps_buffer *b, size_t size) {
    return b->size > KEPT_BYTES && size < b->size / 8;
}

ps_status ps_buffer_fit(ps_alloc_state *alloc, ps_buffer *b, size_t size, ps_error *err) {
    if (size <= b->size && b->data && !much_too_large(b, size)) return PS_OK;
    void *data = ps_alloc_data(alloc, size ? size : PS_ALIGN);
    if (!data) return PS_FAIL(err, NO_MEMORY, "out of memory for a buffer of %zu bytes", size);
    ps_free(alloc, b->data);
    b->data = data;
    b->size = size ? size : PS_ALIGN;
    return PS_OK;
}

/* ---- state: what a session keeps of one plan ---- */

static size_t count_args(const ps_plan *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->n_steps; i++)
        n += p->steps[i].n_in + p->steps[i].n_out;
    return n;
}

static size_t max_of(size_t a, size_t b) {
    return a > b ? a : b;
}

static ps_status alloc_tail(ps_alloc_state *a, ps_state *st, ps_error *err) {
    const ps_plan *p = st->plan;
    const ps_tail *t = p->tail;
    size_t inputs = max_of(t->n_rest_inputs, max_of(t->branch[0].n_inputs, t->branch[1].n_inputs));
    size_t n_out = t->node->n_out, n_rest = t->rest ? t->rest->n_outputs : 0;
    st->tail_buffers = ps_alloc_zero(a, (n_out + 1) * sizeof *st->tail_buffers);
    st->tail_binds = ps_alloc_zero(a, (n_out + 1) * sizeof *st->tail_binds);
    st->rest_binds = ps_alloc_zero(a, (n_rest + 1) * sizeof *st->rest_binds);
    st->child_inputs = ps_alloc_zero(a, (inputs + 1) * sizeof *st->child_inputs);
    if (!st->tail_buffers || !st->tail_binds || !st->rest_binds || !st->child_inputs)
        return PS_FAIL_NOMEM(err, "a plan's state");
    return PS_OK;
}

static ps_status fill_state(ps_session *s, ps_state *st, ps_error *err) {
    ps_plan *p = st->plan;
    st->ptrs = ps_alloc_zero(s->alloc, (p->n_storages + 1) * sizeof *st->ptrs);
    st->args = ps_alloc_zero(s->alloc, (count_args(p) + 1) * sizeof *st->args);
    st->kernel_states = ps_alloc_zero(s->alloc, (p->n_steps + 1) * sizeof *st->kernel_states);
    st->resolved_ends = ps_alloc_zero(s->alloc, (p->n_inputs + p->n_outputs + 1) * sizeof *st->resolved_ends);
    st->step_ns = ps_alloc_zero(s->alloc, (p->n_steps + 1) * sizeof *st->step_ns);
    st->step_calls = ps_alloc_zero(s->alloc, (p->n_steps + 1) * sizeof *st->step_calls);
    if (!st->ptrs || !st->args || !st->kernel_states || !st->resolved_ends || !st->step_ns || !st->step_calls) {
        return PS_FAIL_NOMEM(err, "a plan's state");
    }
    for (size_t i = 0; i < p->n_steps; i++) {
        const ps_kernel *k = p->steps[i].kernel;
        if (k->ops->state_new) PS_TRY(k->ops->state_new(k, s->alloc, &st->kernel_states[i], err));
    }
    return p->tail ? alloc_tail(s->alloc, st, err) : PS_OK;
}

ps_status ps_state_new(ps_session *s, ps_plan *plan, ps_state **ret, ps_error *err) {
    ps_state *st = ps_alloc_zero(s->alloc, sizeof *st);
    if (!st) return PS_FAIL_NOMEM(err, "a plan's state");
    st->plan = ps_plan_retain(plan);
    ps_status status = fill_state(s, st, err);
    if (status != PS_OK) {
        ps_state_free(s, st);
        return status;
    }
    *ret = st;
    return PS_OK;
}

void ps_state_free(ps_session *s, ps_state *st) {
    if (!st) return;
    ps_plan *p = st->plan;
    for (size_t i = 0; st->kernel_states && i < p->n_steps; i++) {
        const ps_kernel *k = p->steps[i].kernel;
        if (st->kernel_states[i]) k->ops->state_free(k, s->alloc, st->kernel_states[i]);
    }
    for (int b = 0; b < 2; b++)
        ps_state_free(s, st->branch[b]);
    for (int r = 0; r < PS_MAX_RESTS; r++)
        ps_state_free(s, st->rests[r]);
    for (size_t i = 0; p->tail && st->tail_buffers && i < p->tail->node->n_out; i++)
        ps_free(s->alloc, st->tail_buffers[i].data);
    void *blocks[] = { st->ptrs,       st->args,         st->kernel_states, st->resolved_ends, st->step_ns,
                       st->step_calls, st->tail_buffers, st->tail_binds,    st->rest_binds,    st->child_inputs };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ps_free(s->alloc, blocks[i]);
    ps_plan_release(p);
    ps_free(s->alloc, st);
}

/* ---- ends ---- */

static ps_status check_user_output(const ps_session *s, size_t i, ps_dtype dtype, const ps_shape *shape,
                                   ps_error *err) {
    const ps_tensor *t = s->user_outputs[i];
    const char *name = s->model->outputs[i].name;
    char have[128], want[128];
    PS_FAIL_IF(t->dtype != dtype, err, TYPE, "output '%s': the given tensor is %s, the model makes %s", name,
               ps_dtype_name(t->dtype), ps_dtype_name(dtype));
    PS_FAIL_IF(!ps_shape_equal(&t->shape, shape), err, SHAPE,
               "output '%s': the given tensor has shape %s, the model makes %s", name,
               ps_shape_text(&t->shape, have, sizeof have), ps_shape_text(shape, want, sizeof want));
    PS_FAIL_IF(t->strides, err, INVALID, "output '%s': the given tensor must be row-major", name);
    return PS_OK;
}

static ps_status own_output(ps_session *s, size_t i, ps_dtype dtype, const ps_shape *shape, void **ret, ps_error *err) {
    int64_t n;
    size_t bytes;
    PS_FAIL_IF(!ps_shape_elements(shape, &n) || !ps_dtype_bytes(dtype, n, &bytes), err, LIMIT,
               "output '%s' is too large", s->model->outputs[i].name);
    PS_TRY(ps_buffer_fit(s->alloc, &s->output_buffers[i], bytes, err));
    ps_tensor *t = s->outputs[i];
    t->dtype = dtype;
    t->shape = *shape;
    t->bytes = bytes;
    t->data = s->output_buffers[i].data;
    *ret = t->data;
    return PS_OK;
}

ps_status ps_bind_resolve(ps_session *s, ps_bind *b, ps_dtype dtype, const ps_shape *shape, ps_error *err) {
    b->dtype = dtype;
    b->shape = *shape;
    if (b->output >= 0 && s->user_outputs[b->output]) {
        PS_TRY(check_user_output(s, (size_t)b->output, dtype, shape, err));
        b->ptr = s->user_outputs[b->output]->data;
        return PS_OK;
    }
    if (b->output >= 0) return own_output(s, (size_t)b->output, dtype, shape, &b->ptr, err);
    int64_t n;
    size_t bytes;
    PS_FAIL_IF(!ps_shape_elements(shape, &n) || !ps_dtype_bytes(dtype, n, &bytes), err, LIMIT, "a value is too large");
    PS_TRY(ps_buffer_fit(s->alloc, b->buffer, bytes, err));
    b->ptr = b->buffer->data;
    return PS_OK;
}

/* ---- pointers ---- */

static bool still_resolved(const ps_state *st, const void *arena, void *const *in_ptrs, const ps_bind *binds) {
    const ps_plan *p = st->plan;
    if (!st->resolved_arena || st->resolved_arena != arena) return false;
    for (size_t i = 0; i < p->n_inputs; i++) {
        if (st->resolved_ends[i] != in_ptrs[i]) return false;
    }
    for (size_t i = 0; i < p->n_outputs; i++) {
        if (p->outputs[i].from.kind == PS_FROM_STORAGE && st->resolved_ends[p->n_inputs + i] != binds[i].ptr)
            return false;
    }
    return true;
}

static void resolve(ps_state *st, char *arena, void *const *in_ptrs, const ps_bind *binds) {
    const ps_plan *p = st->plan;
    for (uint32_t i = 0; i < p->n_storages; i++) {
        const ps_storage *s = &p->storages[ps_storage_find(p, i)];
        switch (s->kind) {
        case PS_ST_ARENA: st->ptrs[i] = s->last >= 0 ? arena + s->offset : NULL; break;
        case PS_ST_INPUT: st->ptrs[i] = in_ptrs[s->index]; break;
        case PS_ST_OUTPUT: st->ptrs[i] = binds[s->index].ptr; break;
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
    for (size_t i = 0; i < p->n_inputs; i++)
        st->resolved_ends[i] = in_ptrs[i];
    for (size_t i = 0; i < p->n_outputs; i++)
        st->resolved_ends[p->n_inputs + i] = binds[i].ptr;
}

/* ---- steps ---- */

static ps_status check_stop(const ps_session *s, ps_error *err) {
    const ps_run_options *o = s->options;
    if (!o) return PS_OK;
    PS_FAIL_IF(o->cancel && __atomic_load_n(o->cancel, __ATOMIC_RELAXED), err, CANCELLED, "the run was cancelled");
    PS_FAIL_IF(o->deadline_ns && ps_clock_ns() >= o->deadline_ns, err, DEADLINE, "the run's deadline has passed");
    return PS_OK;
}

static ps_status run_steps(ps_session *s, ps_state *st, ps_error *err) {
    const ps_plan *p = st->plan;
    void **arg = st->args;
    for (size_t i = 0; i < p->n_steps; i++) {
        const ps_step *step = &p->steps[i];
        ps_kernel_args args = { arg, arg + step->n_in, step->workspace == PS_NONE ? NULL : st->ptrs[step->workspace],
                                st->kernel_states[i], s->alloc };
        PS_TRY(check_stop(s, err));
        int64_t start = s->profile ? ps_clock_ns() : 0;
        PS_TRY(step->kernel->ops->run(step->kernel, &args, err));
        if (s->profile) {
            st->step_ns[i] += ps_clock_ns() - start;
            st->step_calls[i]++;
        }
        arg += step->n_in + step->n_out;
    }
    return PS_OK;
}

/* ---- the tail ---- */

static ps_status child_state(ps_session *s, ps_state **slot, ps_plan *plan, ps_error *err) {
    if (*slot && (*slot)->plan == plan) return PS_OK;
    ps_state_free(s, *slot);
    *slot = NULL;
    return ps_state_new(s, plan, slot, err);
}

static ps_status run_if(ps_session *s, ps_state *st, int depth, ps_error *err) {
    ps_tail *t = st->plan->tail;
    char label[160];
    PS_FAIL_IF(ps_tensor_count(&(ps_tensor) { .shape = t->node->in[0]->shape }) != 1, err, SHAPE,
               "%s: the condition must hold one element", ps_node_label(t->node, label, sizeof label));
    int which = *(const uint8_t *)st->ptrs[t->args[0]] ? 0 : 1;
    ps_branch *b = &t->branch[which];
    ps_plan *plan;
    PS_TRY(ps_plan_branch(st->plan, which, &plan, err));
    PS_TRY(child_state(s, &st->branch[which], plan, err));
    for (size_t i = 0; i < b->n_inputs; i++)
        st->child_inputs[i] = st->ptrs[b->inputs[i]];
    return ps_exec(s, st->branch[which], st->child_inputs, st->tail_binds, depth + 1, err);
}

static void view_of(ps_tensor *t, const ps_value *v, void *data) {
    memset(t, 0, sizeof *t);
    if (ps_shape_fixed(&v->shape)) {
        ps_tensor_init_view(t, v->dtype, &v->shape, data);
    } else {
        t->dtype = v->dtype;
        t->shape = v->shape;
    }
}

/* A kernel that makes its outputs itself: their shapes depend on data. */
static ps_status run_dynamic(ps_session *s, ps_state *st, ps_error *err) {
    const ps_node *n = st->plan->tail->node;
    ps_tensor in_views[PS_LOWER_MAX], out_views[PS_LOWER_MAX];
    const ps_tensor *in[PS_LOWER_MAX];
    ps_tensor *out[PS_LOWER_MAX];
    char label[160];
    PS_FAIL_IF(n->n_in > PS_LOWER_MAX || n->n_out > PS_LOWER_MAX, err, LIMIT, "%s has more than %d inputs or outputs",
               ps_node_label(n, label, sizeof label), PS_LOWER_MAX);
    for (uint32_t i = 0; i < n->n_in; i++) {
        in[i] = n->in[i] ? &in_views[i] : NULL;
        if (n->in[i]) view_of(&in_views[i], n->in[i], st->ptrs[st->plan->tail->args[i]]);
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        out[i] = n->out[i] ? &out_views[i] : NULL;
        if (n->out[i]) view_of(&out_views[i], n->out[i], NULL);
    }
    ps_status status = ps_ops_run_ref(n, in, out, s->alloc, st->plan->threads, err);
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (!out[i]) continue;
        if (status == PS_OK) status = ps_bind_resolve(s, &st->tail_binds[i], out[i]->dtype, &out[i]->shape, err);
        if (status == PS_OK && out[i]->bytes) memcpy(st->tail_binds[i].ptr, out[i]->data, out[i]->bytes);
        ps_free(s->alloc, out[i]->owned);
    }
    return status;
}

/* A rest that this session ran before needs no lock, behind which another plan may be compiling. */
static ps_state *known_rest(const ps_state *st, const ps_dtype *dtypes, const ps_shape *shapes) {
    for (size_t i = 0; i < PS_MAX_RESTS; i++) {
        if (st->rests[i] && ps_rest_matches(st->rests[i]->plan, st->plan->tail, dtypes, shapes)) return st->rests[i];
    }
    return NULL;
}

/* Lets go of rests that their plan has let go of; takes a free slot, or the last. */
static ps_status rest_state(ps_session *s, ps_state *st, ps_plan *plan, ps_state **ret, ps_error *err) {
    size_t slot = 0;
    for (size_t i = 0; i < PS_MAX_RESTS; i++) {
        if (!st->rests[i] || !atomic_load_explicit(&st->rests[i]->plan->evicted, memory_order_relaxed)) continue;
        ps_state_free(s, st->rests[i]);
        st->rests[i] = NULL;
    }
    while (slot < PS_MAX_RESTS - 1 && st->rests[slot])
        slot++;
    PS_TRY(child_state(s, &st->rests[slot], plan, err));
    *ret = st->rests[slot];
    return PS_OK;
}

static ps_status new_rest_state(ps_session *s, ps_state *st, const ps_dtype *dtypes, const ps_shape *shapes,
                                ps_state **ret, ps_error *err) {
    ps_plan *plan;
    PS_TRY(ps_plan_rest(st->plan, dtypes, shapes, &plan, err));
    ps_status status = rest_state(s, st, plan, ret, err);
    ps_plan_release(plan); /* the state holds it */
    return status;
}

static ps_status run_rest(ps_session *s, ps_state *st, int depth, ps_error *err) {
    ps_tail *t = st->plan->tail;
    ps_dtype dtypes[PS_LOWER_MAX];
    ps_shape shapes[PS_LOWER_MAX];
    for (uint32_t i = 0; i < t->node->n_out && i < PS_LOWER_MAX; i++) {
        dtypes[i] = st->tail_binds[i].dtype;
        shapes[i] = st->tail_binds[i].shape;
    }
    ps_state *child = known_rest(st, dtypes, shapes);
    if (!child) PS_TRY(new_rest_state(s, st, dtypes, shapes, &child, err));
    for (size_t i = 0; i < t->n_rest_inputs; i++) {
        const ps_source *from = &t->rest_inputs[i];
        st->child_inputs[i] = from->kind == PS_FROM_TAIL ? st->tail_binds[from->index].ptr : st->ptrs[from->index];
    }
    return ps_exec(s, child, st->child_inputs, st->rest_binds, depth + 1, err);
}

/* Outputs of the plan that come from the tail or from behind it are bound straight to where they go. */
static void bind_tail(ps_state *st, ps_bind *binds) {
    const ps_plan *p = st->plan;
    for (uint32_t i = 0; i < p->tail->node->n_out; i++) {
        st->tail_binds[i] = (ps_bind) { .output = -1, .buffer = &st->tail_buffers[i] };
    }
    for (size_t i = p->n_outputs; i-- > 0;) { /* the first of several outputs that are one value wins */
        const ps_source *from = &p->outputs[i].from;
        if (from->kind == PS_FROM_TAIL) st->tail_binds[from->index] = binds[i];
        if (from->kind == PS_FROM_REST) st->rest_binds[from->index] = binds[i];
    }
}

static ps_status unbind_tail(ps_session *s, ps_state *st, ps_bind *binds, ps_error *err) {
    const ps_plan *p = st->plan;
    for (size_t i = 0; i < p->n_outputs; i++) {
        const ps_source *from = &p->outputs[i].from;
        if (from->kind == PS_FROM_REST) binds[i] = st->rest_binds[from->index];
        if (from->kind != PS_FROM_TAIL) continue;
        const ps_bind *b = &st->tail_binds[from->index];
        bool same = b->output == binds[i].output && b->buffer == binds[i].buffer;
        if (same) {
            binds[i] = *b;
            continue;
        }
        int64_t n;
        size_t bytes;
        PS_TRY(ps_bind_resolve(s, &binds[i], b->dtype, &b->shape, err));
        if (ps_shape_elements(&b->shape, &n) && ps_dtype_bytes(b->dtype, n, &bytes) && bytes)
            memcpy(binds[i].ptr, b->ptr, bytes);
    }
    return PS_OK;
}

static ps_status run_tail(ps_session *s, ps_state *st, ps_bind *binds, int depth, ps_error *err) {
    ps_tail *t = st->plan->tail;
    PS_FAIL_IF(depth + 1 >= PS_MAX_DEPTH, err, LIMIT, "control flow that depends on data is nested more than %d deep",
               PS_MAX_DEPTH);
    bind_tail(st, binds);
    PS_TRY(check_stop(s, err));
    PS_TRY(t->is_if ? run_if(s, st, depth, err) : run_dynamic(s, st, err));
    if (t->rest) PS_TRY(run_rest(s, st, depth, err));
    return unbind_tail(s, st, binds, err);
}

ps_status ps_exec(ps_session *s, ps_state *st, void *const *in_ptrs, ps_bind *binds, int depth, ps_error *err) {
    ps_plan *p = st->plan;
    PS_TRY(ps_buffer_fit(s->alloc, &s->arenas[depth], p->arena_bytes, err));
    for (size_t i = 0; i < p->n_outputs; i++) {
        const ps_plan_output *o = &p->outputs[i];
        if (o->from.kind == PS_FROM_STORAGE) PS_TRY(ps_bind_resolve(s, &binds[i], o->dtype, &o->shape, err));
    }
    if (!still_resolved(st, s->arenas[depth].data, in_ptrs, binds)) resolve(st, s->arenas[depth].data, in_ptrs, binds);
    PS_TRY(run_steps(s, st, err));
    return p->tail ? run_tail(s, st, binds, depth, err) : PS_OK;
}
