/* run.c - what a session keeps of a program, and running its items in order. */
#include "base/os.h"
#include "runtime/runtime_int.h"

/* ---- states ---- */

static size_t max_of(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t unit_ends(const ps_unit *u) {
    return u ? u->graph->n_inputs + u->graph->n_outputs : 0;
}

/* A dynamic node's view of its own ends: values with the types of this run, tensors over the slots. */
static ps_status prepare_kernel(ps_session *s, const ps_item *item, ps_item_state *is, ps_error *err) {
    size_t n = (size_t)item->n_in + item->n_out;
    is->values = ps_alloc_zero(s->alloc, (n + 1) * sizeof *is->values);
    is->pointers = ps_alloc_zero(s->alloc, (n + 1) * sizeof *is->pointers);
    is->views = ps_alloc_zero(s->alloc, (n + 1) * sizeof *is->views);
    is->tensors = ps_alloc_zero(s->alloc, (n + 1) * sizeof *is->tensors);
    if (!is->values || !is->pointers || !is->views || !is->tensors) return PS_FAIL_NOMEM(err, "a program's state");
    for (size_t i = 0; i < n; i++) {
        const ps_value *v = i < item->n_in ? item->node->in[i] : item->node->out[i - item->n_in];
        if (!v) continue;
        is->values[i] = *v;
        is->pointers[i] = &is->values[i];
    }
    return PS_OK;
}

static ps_status prepare_item(ps_session *s, const ps_item *item, ps_item_state *is, ps_error *err) {
    size_t ends = max_of((size_t)item->n_in + item->n_out, unit_ends(item->unit));
    ends = max_of(ends, max_of(unit_ends(item->body[0].unit), unit_ends(item->body[1].unit)));
    is->ends = ps_alloc_zero(s->alloc, (ends + 1) * sizeof(ps_slot *));
    if (!is->ends) return PS_FAIL_NOMEM(err, "a program's state");
    if (item->kind == PS_ITEM_PLAN) return ps_plan_state_new(s, item->plan, &is->plan, err);
    return item->kind == PS_ITEM_KERNEL ? prepare_kernel(s, item, is, err) : PS_OK;
}

static void state_free(ps_session *s, ps_state *st) {
    if (!st) return;
    const ps_program *p = st->program;
    for (size_t i = 0; st->items && i < p->n_items; i++) {
        ps_item_state *is = &st->items[i];
        ps_plan_state_free(s, is->plan);
        ps_state_list_clear(s, &is->children[0]);
        ps_state_list_clear(s, &is->children[1]);
        for (size_t k = 0; k < is->n_locals; k++)
            ps_slot_clear(&s->pool, &is->locals[k]);
        void *blocks[] = { is->ends, is->locals, is->scan_ends, is->values, is->pointers, is->views, is->tensors };
        for (size_t k = 0; k < sizeof blocks / sizeof *blocks; k++)
            ps_free(s->alloc, blocks[k]);
    }
    for (size_t i = 0; st->locals && i < p->n_slots; i++)
        ps_slot_clear(&s->pool, &st->locals[i]);
    ps_free(s->alloc, st->items);
    ps_free(s->alloc, st->locals);
    ps_free(s->alloc, st->slots);
    ps_program_release(st->program);
    ps_free(s->alloc, st);
}

static ps_status fill_state(ps_session *s, ps_state *st, ps_error *err) {
    const ps_program *p = st->program;
    st->slots = ps_alloc_zero(s->alloc, ((size_t)p->n_slots + 1) * sizeof *st->slots);
    st->locals = ps_alloc_zero(s->alloc, ((size_t)p->n_slots + 1) * sizeof *st->locals);
    st->items = ps_alloc_zero(s->alloc, (p->n_items + 1) * sizeof *st->items);
    if (!st->slots || !st->locals || !st->items) return PS_FAIL_NOMEM(err, "a program's state");
    for (size_t i = 0; i < p->n_slots; i++)
        st->slots[i] = &st->locals[i];
    for (size_t i = 0; i < p->n_constants; i++) {
        const ps_tensor *t = p->constants[i].tensor;
        ps_slot_borrow(&st->locals[p->constants[i].slot], t->dtype, &t->shape, t->data);
    }
    for (size_t i = 0; i < p->n_items; i++)
        PS_TRY(prepare_item(s, &p->items[i], &st->items[i], err));
    return PS_OK;
}

static ps_status state_new(ps_session *s, ps_program *program, ps_state **ret, ps_error *err) {
    ps_state *st = ps_alloc_zero(s->alloc, sizeof *st);
    if (!st) return PS_FAIL_NOMEM(err, "a program's state");
    st->program = ps_program_retain(program);
    ps_status status = fill_state(s, st, err);
    if (status != PS_OK) {
        state_free(s, st);
        return status;
    }
    *ret = st;
    return PS_OK;
}

/* ---- lists of states, most recently used first ---- */

static void push_state(ps_state_list *l, ps_state *st) {
    st->newer = NULL;
    st->older = l->newest;
    if (l->newest) l->newest->newer = st;
    l->newest = st;
    if (!l->oldest) l->oldest = st;
    l->n++;
}

static void unlink_state(ps_state_list *l, ps_state *st) {
    *(st->newer ? &st->newer->older : &l->newest) = st->older;
    *(st->older ? &st->older->newer : &l->oldest) = st->newer;
    l->n--;
}

static void drop_state(ps_session *s, ps_state_list *l, ps_state *st) {
    unlink_state(l, st);
    state_free(s, st);
}

void ps_state_list_clear(ps_session *s, ps_state_list *l) {
    while (l->newest)
        drop_state(s, l, l->newest);
}

/* A state keeps its program alive: without this, sessions would hold many more than the cache's limit allows. */
static void drop_evicted(ps_session *s, ps_state_list *l) {
    for (ps_state *st = l->newest, *older; st; st = older) {
        older = st->older;
        if (atomic_load_explicit(&st->program->evicted, memory_order_relaxed)) drop_state(s, l, st);
    }
}

/* The state for these inputs: from the list, or around a program of the unit. */
static ps_status find_state(ps_session *s, ps_unit *u, ps_state_list *l, ps_slot *const *in, ps_state **ret,
                            ps_error *err) {
    ps_program *program;
    PS_TRY(ps_buffer_fit(s->alloc, &s->key, ps_key_room(u->graph->n_inputs) * sizeof(int64_t), err));
    int64_t *key = s->key.data;
    size_t words = ps_key_fill(key, u, s->threads, in);
    for (ps_state *st = l->newest; st; st = st->older) {
        ps_program *p = st->program;
        if (p->key_words != words || memcmp(p->key, key, words * sizeof *key) != 0) continue;
        if (l->newest != st) {
            unlink_state(l, st);
            push_state(l, st);
        }
        if (!atomic_load_explicit(&p->used, memory_order_relaxed))
            atomic_store_explicit(&p->used, true, memory_order_relaxed);
        *ret = st;
        return PS_OK;
    }
    PS_TRY(ps_unit_program(u, in, key, words, s->threads, &program, err));
    drop_evicted(s, l);
    ps_status status = state_new(s, program, ret, err);
    ps_program_release(program); /* the state holds it */
    if (status != PS_OK) return status;
    push_state(l, *ret);
    if (l->n > (u->owner ? PS_MAX_CHILDREN : PS_MAX_STATES)) drop_state(s, l, l->oldest);
    return PS_OK;
}

/* ---- dynamic nodes ---- */

static ps_dtype element_type(const ps_slot *slot, ps_dtype known) {
    ps_tensor view;
    if (!ps_dtype_is_container(slot->dtype)) return PS_DTYPE_UNDEFINED;
    ps_slot_view(slot, &view);
    const ps_tensor *first = ps_tensor_element(&view, slot->dtype == PS_DTYPE_MAP ? 1 : 0);
    return first ? first->dtype : known;
}

static void set_types(const ps_state *st, const ps_item *item, ps_item_state *is) {
    for (uint32_t i = 0; i < item->n_in; i++) {
        const ps_slot *slot = ps_state_slot(st, item->in[i]);
        ps_value *v = &is->values[i];
        if (!slot || v->constant) continue;
        v->dtype = slot->dtype;
        v->shape = slot->shape;
        v->elem = element_type(slot, item->node->in[i]->elem);
    }
    for (uint32_t i = 0; i < item->n_out; i++) {
        ps_value *v = &is->values[item->n_in + i];
        v->dtype = PS_DTYPE_UNDEFINED;
        v->shape = ps_shape_unknown();
    }
}

/* Numbers of known shape go straight to the slot. Everything else is a tensor that the kernel fills. */
static ps_status prepare_output(ps_session *s, ps_slot *slot, const ps_value *v, ps_tensor *view, ps_tensor **ret,
                                ps_error *err) {
    ps_shape empty = { 1, { 0 } };
    if (v->dtype && !ps_dtype_is_object(v->dtype) && ps_shape_fixed(&v->shape)) {
        PS_TRY(ps_slot_resolve(&s->pool, slot, v->dtype, &v->shape, err));
        ps_slot_view(slot, view);
        if (view->bytes) memset(view->data, 0, view->bytes);
        *ret = view;
        return PS_OK;
    }
    PS_TRY(ps_tensor_new_view(s->alloc, PS_DTYPE_U8, &empty, NULL, NULL, ret, err));
    (*ret)->dtype = v->dtype;
    (*ret)->shape = v->shape;
    return PS_OK;
}

static ps_status run_kernel(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, ps_error *err) {
    ps_node probe = *item->node; /* the shape rule sees the types of this run */
    ps_tensor **out = is->tensors + item->n_in;
    probe.in = is->pointers;
    probe.out = is->pointers + item->n_in;
    set_types(st, item, is);
    PS_TRY(ps_ops_infer_node(&probe, err));
    for (uint32_t i = 0; i < item->n_in; i++) {
        const ps_slot *slot = ps_state_slot(st, item->in[i]);
        is->tensors[i] = slot ? &is->views[i] : NULL;
        if (slot) ps_slot_view(slot, &is->views[i]);
    }
    for (uint32_t i = 0; i < item->n_out; i++) {
        ps_slot *slot = ps_state_slot(st, item->out[i]);
        if (slot)
            PS_TRY(prepare_output(s, slot, &is->values[item->n_in + i], &is->views[item->n_in + i], &out[i], err));
    }
    return ps_ops_run_ref(&probe, (const ps_tensor *const *)is->tensors, out, s->alloc, st->program->threads, err);
}

static ps_status item_kernel(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, ps_error *err) {
    ps_tensor **out = is->tensors + item->n_in;
    for (uint32_t i = 0; i < item->n_out; i++)
        out[i] = NULL;
    ps_status status = run_kernel(s, st, item, is, err);
    for (uint32_t i = 0; i < item->n_out; i++) {
        if (!out[i] || out[i] == &is->views[item->n_in + i]) continue;
        if (status == PS_OK)
            status = ps_slot_take(&s->pool, ps_state_slot(st, item->out[i]), out[i], err);
        else
            ps_tensor_release(out[i]);
    }
    return status;
}

/* ---- items ---- */

/* The ends of a plan or a unit as slots: inputs, then outputs. */
static void gather_ends(const ps_state *st, const ps_item *item, ps_item_state *is) {
    for (uint32_t i = 0; i < item->n_in; i++)
        is->ends[i] = st->slots[item->in[i]];
    for (uint32_t i = 0; i < item->n_out; i++)
        is->ends[item->n_in + i] = st->slots[item->out[i]];
}

static ps_status run_item(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, int depth,
                          ps_error *err) {
    switch (item->kind) {
    case PS_ITEM_PLAN:
        gather_ends(st, item, is);
        return ps_plan_exec(s, is->plan, is->ends, is->ends + item->n_in, err);
    case PS_ITEM_UNIT:
        gather_ends(st, item, is);
        return ps_unit_run(s, item->unit, &is->children[0], is->ends, is->ends + item->n_in, depth + 1, err);
    case PS_ITEM_KERNEL: return item_kernel(s, st, item, is, err);
    case PS_ITEM_COPY: return ps_slot_copy(&s->pool, st->slots[item->out[0]], st->slots[item->in[0]], err);
    case PS_ITEM_IF: return ps_item_if(s, st, item, is, depth, err);
    case PS_ITEM_LOOP: return ps_item_loop(s, st, item, is, depth, err);
    case PS_ITEM_SCAN: return ps_item_scan(s, st, item, is, depth, err);
    case PS_ITEM_SEQUENCE_MAP: return ps_item_sequence_map(s, st, item, is, depth, err);
    }
    return PS_FAIL(err, INTERNAL, "a program holds an item of kind %d", (int)item->kind);
}

ps_status ps_unit_run(ps_session *s, ps_unit *unit, ps_state_list *list, ps_slot *const *in, ps_slot *const *out,
                      int depth, ps_error *err) {
    ps_state *st;
    PS_FAIL_IF(depth >= PS_MAX_DEPTH, err, LIMIT, "control flow that depends on data is nested more than %d deep",
               PS_MAX_DEPTH);
    PS_TRY(find_state(s, unit, list, in, &st, err));
    const ps_program *p = st->program;
    for (size_t i = 0; i < unit->graph->n_inputs; i++)
        st->slots[i] = in[i];
    for (size_t i = 0; i < p->n_outputs; i++)
        st->slots[p->outputs[i]] = out[i];
    for (size_t i = 0; i < p->n_items; i++) {
        ps_item_state *is = &st->items[i];
        bool timed = s->profile && p->items[i].kind == PS_ITEM_KERNEL;
        int64_t start = timed ? ps_clock_ns() : 0;
        if (p->items[i].kind != PS_ITEM_PLAN) PS_TRY(ps_check_stop(s, err));
        PS_TRY(run_item(s, st, &p->items[i], is, depth, err));
        for (uint32_t k = 0; k < p->items[i].n_done; k++)
            ps_slot_clear(&s->pool, st->slots[p->items[i].done[k]]);
        if (timed) {
            is->ns += ps_clock_ns() - start;
            is->calls++;
        }
    }
    return PS_OK;
}
