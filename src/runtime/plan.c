/* plan.c - from a graph of fixed shapes to steps over storages.
 *
 * Walks the nodes in order. Each value gets a place: a storage and the layout in which it lies there (and, once
 * somebody asked for it, a copy in the other layout). Views share their source's storage.
 */
#include "runtime/runtime_int.h"

typedef struct place {
    uint32_t storage[2]; /* by layout; PS_NONE if it does not lie there */
    ps_layout home;      /* layout it was produced in */
    bool known;
} place;

typedef struct compiler {
    ps_plan *plan;
    ps_alloc_state *alloc;
    ps_device *device;
    place *places; /* by value id */
    PS_VEC(ps_step) steps;
    PS_VEC(ps_storage) storages;
    ps_error *err;
} compiler;

/* ---- storages and places ---- */

static ps_status new_storage(compiler *c, ps_storage_kind kind, uint32_t index, size_t bytes, const void *data,
                             uint32_t *ret) {
    ps_storage s = { kind, index, PS_NONE, bytes, 0, (void *)data, INT32_MAX, -1 };
    *ret = (uint32_t)c->storages.size;
    if (!ps_vec_push(c->alloc, &c->storages, s)) return PS_FAIL_NOMEM(c->err, "a plan");
    return PS_OK;
}

static ps_status value_bytes(compiler *c, const ps_value *v, size_t *ret) {
    int64_t n;
    char text[128];
    PS_FAIL_IF(!ps_shape_elements(&v->shape, &n) || !ps_dtype_bytes(v->dtype, n, ret), c->err, LIMIT,
               "value '%s' of shape %s is too large to address", v->name, ps_shape_text(&v->shape, text, sizeof text));
    uint64_t memory = c->device->info.memory; /* 0: unknown */
    PS_FAIL_IF(memory && *ret > memory, c->err, LIMIT, "value '%s' of shape %s takes %zu bytes, device '%s' has %llu",
               v->name, ps_shape_text(&v->shape, text, sizeof text), *ret, c->device->name, (unsigned long long)memory);
    return PS_OK;
}

static place *place_of(compiler *c, const ps_value *v) {
    return &c->places[v->id];
}

static void settle(compiler *c, const ps_value *v, ps_layout layout, uint32_t storage) {
    place *p = place_of(c, v);
    p->known = true;
    p->home = layout;
    p->storage[0] = p->storage[1] = PS_NONE;
    p->storage[layout] = storage;
    if (ps_layout_same(&v->shape)) p->storage[0] = p->storage[1] = storage;
}

/* Constants get their place when somebody asks. */
static ps_status ensure_known(compiler *c, const ps_value *v) {
    uint32_t s;
    if (place_of(c, v)->known) return PS_OK;
    PS_FAIL_IF(!v->constant, c->err, INTERNAL, "value '%s' is read before it is made", v->name);
    PS_TRY(new_storage(c, PS_ST_CONST, 0, v->constant->bytes, v->constant->data, &s));
    settle(c, v, PS_LAYOUT_PLAIN, s);
    return PS_OK;
}

/* ---- steps ---- */

static ps_status push_step(compiler *c, ps_step *step) {
    ps_kernel *k = step->kernel;
    step->workspace = PS_NONE;
    ps_status status = PS_OK;
    if (k->workspace) status = new_storage(c, PS_ST_ARENA, 0, k->workspace, NULL, &step->workspace);
    if (status == PS_OK && !ps_vec_push(c->alloc, &c->steps, *step)) status = PS_FAIL_NOMEM(c->err, "a plan");
    if (status != PS_OK) {
        ps_kernel_free(k);
        return status;
    }
    return PS_OK;
}

/* ---- copies: a graph output that is an input, a constant, or another output ---- */

typedef struct copy_kernel {
    ps_kernel base;
    size_t bytes;
} copy_kernel;

static ps_status copy_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    size_t n = ((const copy_kernel *)kernel)->bytes;
    if (n && args->in[0] != args->out[0]) memcpy(args->out[0], args->in[0], n);
    return PS_OK;
}

static void copy_free(ps_kernel *kernel) {
    ps_free(kernel->alloc, kernel);
}

static ps_status new_copy(ps_alloc_state *alloc, size_t bytes, ps_kernel **ret, ps_error *err) {
    static const ps_kernel_ops ops = { copy_run, copy_free, NULL, NULL };
    copy_kernel *k;
    PS_TRY(ps_kernel_new(alloc, sizeof *k, &ops, "copy", &k, err));
    k->bytes = bytes;
    *ret = &k->base;
    return PS_OK;
}

static ps_status push_copy(compiler *c, const ps_value *v, ps_layout from_layout, uint32_t from, ps_layout to_layout,
                           uint32_t to) {
    ps_step s = { 0 };
    size_t bytes;
    PS_TRY(value_bytes(c, v, &bytes));
    s.args = ps_arena_array(&c->plan->arena, 2, sizeof *s.args);
    if (!s.args) return PS_FAIL_NOMEM(c->err, "a plan");
    s.args[0] = from;
    s.args[1] = to;
    s.n_in = s.n_out = 1;
    s.inplace = -1;
    s.name = v->name;
    s.shape = v->shape;
    s.reorder = from_layout != to_layout;
    s.op = s.reorder ? "reorder" : "copy";
    if (s.reorder) {
        PS_TRY(c->device->ops->reorder(c->device, v->dtype, &v->shape, from_layout, to_layout, c->plan->threads,
                                       c->alloc, &s.kernel, c->err));
        c->plan->n_reorders++;
    } else {
        PS_TRY(new_copy(c->alloc, bytes, &s.kernel, c->err));
    }
    return push_step(c, &s);
}

/* The value's storage in this layout, converting it if nobody has yet. */
static ps_status want(compiler *c, const ps_value *v, ps_layout layout, uint32_t *ret) {
    PS_TRY(ensure_known(c, v));
    place *p = place_of(c, v);
    if (p->storage[layout] == PS_NONE) {
        size_t bytes;
        uint32_t s;
        PS_TRY(value_bytes(c, v, &bytes));
        PS_TRY(new_storage(c, PS_ST_ARENA, 0, bytes, NULL, &s));
        PS_TRY(push_copy(c, v, p->home, p->storage[p->home], layout, s));
        place_of(c, v)->storage[layout] = s;
    }
    *ret = place_of(c, v)->storage[layout];
    return PS_OK;
}

/* ---- nodes ---- */

/* A view that only regroups the spatial dims is the same memory in channels-last too. */
static bool regroups_spatial(const ps_shape *in, const ps_shape *out) {
    return in->rank >= 3 && out->rank >= 3 && in->dims[0] == out->dims[0] && in->dims[1] == out->dims[1];
}

static ps_status lower_view(compiler *c, const ps_node *n) {
    uint32_t s;
    ps_layout layout = place_of(c, n->in[0])->home;
    if (!regroups_spatial(&n->in[0]->shape, &n->out[0]->shape)) layout = PS_LAYOUT_PLAIN;
    PS_TRY(want(c, n->in[0], layout, &s));
    settle(c, n->out[0], layout, s);
    return PS_OK;
}

static ps_status finish_node(compiler *c, const ps_node *n, ps_lowering *l) {
    ps_step s = { 0 };
    ps_status status = PS_OK;
    s.kernel = l->kernel;
    s.node = n;
    s.op = n->fused ? n->fused : n->op_type;
    s.name = n->name;
    s.n_in = n->n_in;
    s.n_out = n->n_out;
    s.inplace = l->inplace;
    s.macs = ps_node_macs(n);
    s.args = ps_arena_array(&c->plan->arena, (size_t)n->n_in + n->n_out + 1, sizeof *s.args);
    if (!s.args) status = PS_FAIL_NOMEM(c->err, "a plan");
    for (uint32_t i = 0; i < n->n_in && status == PS_OK; i++) {
        s.args[i] = PS_NONE;
        if (n->in[i]) status = want(c, n->in[i], l->in_layout[i], &s.args[i]);
    }
    for (uint32_t i = 0; i < n->n_out && status == PS_OK; i++) {
        size_t bytes;
        uint32_t *arg = &s.args[n->n_in + i];
        *arg = PS_NONE;
        if (!n->out[i]) continue;
        if (i == 0) s.shape = n->out[i]->shape;
        status = value_bytes(c, n->out[i], &bytes);
        if (status == PS_OK) status = new_storage(c, PS_ST_ARENA, 0, bytes, NULL, arg);
        if (status == PS_OK) settle(c, n->out[i], l->out_layout[i], *arg);
    }
    if (status != PS_OK) {
        ps_kernel_free(l->kernel);
        return status;
    }
    c->plan->macs += s.macs;
    return push_step(c, &s);
}

static ps_status lower_node(compiler *c, const ps_node *n) {
    char label[160];
    ps_lowering l;
    PS_FAIL_IF(n->n_in > PS_LOWER_MAX || n->n_out > PS_LOWER_MAX, c->err, LIMIT,
               "%s has more than %d inputs or outputs", ps_node_label(n, label, sizeof label), PS_LOWER_MAX);
    memset(&l, 0, sizeof l);
    l.node = n;
    l.threads = c->plan->threads;
    l.weights = c->plan->model->weights;
    l.alloc = c->alloc;
    l.inplace = -1;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        PS_TRY(ensure_known(c, n->in[i]));
        l.in_layout[i] = place_of(c, n->in[i])->home;
    }
    if (n->op->traits & PS_OP_VIEW) return lower_view(c, n);
    PS_TRY(c->device->ops->lower(c->device, &l, c->err));
    if (l.alias) {
        uint32_t s;
        PS_TRY(want(c, n->in[0], l.in_layout[0], &s));
        settle(c, n->out[0], l.out_layout[0], s);
        return PS_OK;
    }
    PS_FAIL_IF(!l.kernel, c->err, UNSUPPORTED, "%s: no kernel for operator '%s' on device '%s'",
               ps_node_label(n, label, sizeof label), n->op_type, c->device->name);
    return finish_node(c, n, &l);
}

/* ---- outputs ---- */

/* Gives output i the storage of its value, or a copy where that memory is somebody else's. */
static ps_status claim_output(compiler *c, const ps_value *v, uint32_t i) {
    uint32_t s;
    place *p;
    size_t bytes;
    PS_TRY(ensure_known(c, v));
    p = place_of(c, v);
    s = p->storage[PS_LAYOUT_PLAIN];
    if (s == PS_NONE || c->storages.data[s].kind != PS_ST_ARENA) {
        PS_TRY(value_bytes(c, v, &bytes));
        ps_layout from = s == PS_NONE ? p->home : PS_LAYOUT_PLAIN;
        uint32_t source = p->storage[from];
        PS_TRY(new_storage(c, PS_ST_OUTPUT, i, bytes, NULL, &s));
        PS_TRY(push_copy(c, v, from, source, PS_LAYOUT_PLAIN, s));
    }
    c->storages.data[s].kind = PS_ST_OUTPUT;
    c->storages.data[s].index = i;
    c->plan->outputs[i] = (ps_plan_output) { s, v->dtype, v->shape };
    return PS_OK;
}

static ps_status make_outputs(compiler *c) {
    ps_plan *p = c->plan;
    p->n_outputs = p->graph->n_outputs;
    p->outputs = ps_arena_array(&p->arena, p->n_outputs + 1, sizeof *p->outputs);
    if (!p->outputs) return PS_FAIL_NOMEM(c->err, "a plan");
    for (uint32_t i = 0; i < p->n_outputs; i++)
        PS_TRY(claim_output(c, p->graph->outputs[i], i));
    return PS_OK;
}

static ps_status make_inputs(compiler *c) {
    ps_plan *p = c->plan;
    p->n_inputs = p->graph->n_inputs;
    p->inputs = ps_arena_array(&p->arena, p->n_inputs + 1, sizeof *p->inputs);
    if (!p->inputs) return PS_FAIL_NOMEM(c->err, "a plan");
    for (uint32_t i = 0; i < p->n_inputs; i++) {
        size_t bytes;
        const ps_value *v = p->graph->inputs[i];
        PS_TRY(value_bytes(c, v, &bytes));
        PS_TRY(new_storage(c, PS_ST_INPUT, i, bytes, NULL, &p->inputs[i]));
        if (!v->constant) settle(c, v, PS_LAYOUT_PLAIN, p->inputs[i]);
    }
    return PS_OK;
}

/* ---- lifetimes, and the whole ---- */

static void touch(ps_plan *p, uint32_t s, int32_t step) {
    if (s == PS_NONE) return;
    ps_storage *st = &p->storages[s];
    if (step < st->first) st->first = step;
    if (step > st->last) st->last = step;
}

static void lifetimes(ps_plan *p) {
    int32_t end = (int32_t)p->n_steps;
    for (int32_t i = 0; i < end; i++) {
        const ps_step *s = &p->steps[i];
        for (uint32_t k = 0; k < s->n_in + s->n_out; k++)
            touch(p, s->args[k], i);
        touch(p, s->workspace, i);
    }
}

static ps_status lower_graph(compiler *c) {
    PS_TRY(make_inputs(c));
    for (const ps_node *n = c->plan->graph->first; n; n = n->next) {
        if (!ps_node_is_folded(n)) PS_TRY(lower_node(c, n));
    }
    return make_outputs(c);
}

static size_t plan_bytes(const ps_plan *p) {
    size_t n = sizeof *p + p->arena.bytes + p->graph->arena.bytes + p->n_steps * sizeof *p->steps;
    for (size_t i = 0; i < p->n_steps; i++)
        n += p->steps[i].kernel->bytes;
    return n;
}

/* Said before anything runs: asking for such an amount may get the process killed rather than an answer. */
static ps_status check_memory(compiler *c) {
    const ps_plan *p = c->plan;
    size_t sum = p->arena_bytes;
    uint64_t memory = c->device->info.memory; /* 0: unknown */
    for (size_t i = 0; i < p->n_storages; i++) {
        const ps_storage *s = &p->storages[i];
        if (s->kind != PS_ST_OUTPUT || s->same != PS_NONE) continue;
        if (ps_add_overflow_size(sum, s->bytes, &sum)) sum = SIZE_MAX;
    }
    PS_FAIL_IF(memory && sum > memory, c->err, LIMIT,
               "with these input shapes the model needs %zu bytes for values and outputs, device '%s' has %llu", sum,
               c->device->name, (unsigned long long)memory);
    return PS_OK;
}

static ps_status finish(compiler *c) {
    ps_plan *p = c->plan;
    p->n_steps = c->steps.size;
    p->n_storages = c->storages.size;
    p->storages = ps_arena_memdup(&p->arena, c->storages.data, (p->n_storages + 1) * sizeof *p->storages);
    if (!p->storages) return PS_FAIL_NOMEM(c->err, "a plan");
    lifetimes(p);
    PS_TRY(ps_plan_memory(p, c->alloc, c->err));
    PS_TRY(check_memory(c));
    PS_TRY(ps_plan_weights(p, c->err));
    p->bytes = plan_bytes(p);
    return PS_OK;
}

static ps_status compile(compiler *c) {
    ps_status status = PS_OK;
    c->places = ps_alloc_zero(c->alloc, (c->plan->graph->n_ids + 1) * sizeof *c->places);
    if (!c->places) return PS_FAIL_NOMEM(c->err, "a plan");
    int token = c->device->ops->enter ? c->device->ops->enter(c->device, c->plan->threads) : 0;
    status = lower_graph(c);
    if (c->device->ops->leave) c->device->ops->leave(c->device, token);
    /* From here on the plan owns the steps, whole or not. */
    if (status == PS_OK && !ps_vec_reserve(c->alloc, &c->storages, 1)) status = PS_FAIL_NOMEM(c->err, "a plan");
    c->plan->steps = c->steps.data;
    c->plan->n_steps = c->steps.size;
    if (status == PS_OK) status = finish(c);
    return status;
}

ps_status ps_plan_compile(ps_model *model, ps_graph *g, int threads, ps_plan **ret, ps_error *err) {
    ps_plan *p = ps_alloc_zero(model->alloc, sizeof *p);
    if (!p) {
        ps_graph_free(g);
        return PS_FAIL_NOMEM(err, "a plan");
    }
    p->model = model;
    p->graph = g;
    p->threads = threads;
    p->slices = 1;
    ps_arena_init(&p->arena, model->alloc);
    compiler c = { .plan = p, .alloc = model->alloc, .device = model->device, .err = err };
    ps_status status = compile(&c);
    ps_free(c.alloc, c.places);
    ps_vec_release(c.alloc, &c.storages);
    if (status != PS_OK) {
        ps_plan_free(p);
        return status;
    }
    *ret = p;
    return PS_OK;
}

void ps_plan_slice(ps_plan *p, int64_t slices) {
    p->slices = slices;
    for (size_t i = 0; i < p->n_outputs; i++)
        p->outputs[i].shape.dims[0] *= slices;
}

void ps_plan_free(ps_plan *p) {
    if (!p) return;
    ps_alloc_state *alloc = p->model->alloc;
    for (size_t i = 0; i < p->n_steps; i++)
        ps_kernel_free(p->steps[i].kernel);
    ps_free(alloc, p->steps);
    ps_graph_free(p->graph);
    ps_arena_release(&p->arena);
    ps_free(alloc, p);
}
