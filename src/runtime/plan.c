/* plan.c - from a graph of fixed shapes to steps over storages.
 *
 * Walks the nodes in order. Each value gets a place: a storage, the memory and the form in which it lies there (and,
 * once somebody asked for it, copies in the other memory and other forms). Views share their source's storage.
 *
 * A node runs on the model's device if that takes it, else on the CPU device; copies between their memories are steps
 * like others. They go on while the host does, so what they read stays until the host next waits, and a step of the
 * host that reads what one of them brings waits first.
 */
#include "runtime/runtime_int.h"

#define FORMS 4

/* By memory and form; PS_NONE if it does not lie there. */
typedef struct place {
    uint32_t storage[PS_SPACES][FORMS];
    ps_space space; /* memory and form it was produced in */
    ps_form home;
    bool known;
} place;

static const ps_form plain = { PS_LAYOUT_PLAIN, false };

static int index_of(ps_form f) {
    return (int)f.layout + 2 * f.half;
}

static ps_form form_at(int index) {
    return (ps_form) { (ps_layout)(index & 1), index >> 1 };
}

typedef struct compiler {
    ps_plan *plan;
    ps_alloc_state *alloc;
    ps_device *device; /* of the model */
    ps_device *host;   /* where the rest runs; device itself if that works in the host's memory */
    place *places;     /* by value id */
    bool *wide;        /* by value id: not to be stored as halves (halves.c); NULL: none is */
    size_t shown_from; /* outputs of the graph: see ps_plan_show */
    PS_VEC(ps_plan_show) shows;
    PS_VEC(ps_step) steps;
    PS_VEC(ps_storage) storages;
    bool frugal, roomy; /* as ps_lowering; roomy: some kernel is */
    ps_error *err;
} compiler;

/* ---- storages and places ---- */

static ps_status new_storage(compiler *c, ps_storage_kind kind, ps_space space, uint32_t index, size_t bytes,
                             const void *data, uint32_t *ret) {
    ps_storage s = { kind, space, index, PS_NONE, PS_NONE, bytes, 0, (void *)data, INT32_MAX, -1, -1 };
    *ret = (uint32_t)c->storages.size;
    if (!ps_vec_push(c->alloc, &c->storages, s)) return PS_FAIL_NOMEM(c->err, "a plan");
    return PS_OK;
}

static ps_device *device_of(const compiler *c, ps_space space) {
    return space == PS_SPACE_DEVICE ? c->device : c->host;
}

static ps_status value_bytes(compiler *c, const ps_value *v, ps_space space, bool half, size_t *ret) {
    int64_t n;
    char text[128];
    const ps_dtype stored = half ? PS_DTYPE_F16 : v->dtype;
    PS_FAIL_IF(!ps_shape_elements(&v->shape, &n) || !ps_dtype_bytes(stored, n, ret), c->err, LIMIT,
               "value '%s' of shape %s is too large to address", v->name, ps_shape_text(&v->shape, text, sizeof text));
    const ps_device *device = device_of(c, space);
    uint64_t memory = device->info.memory; /* 0: unknown */
    PS_FAIL_IF(memory && *ret > memory, c->err, LIMIT, "value '%s' of shape %s takes %zu bytes, device '%s' has %llu",
               v->name, ps_shape_text(&v->shape, text, sizeof text), *ret, device->name, (unsigned long long)memory);
    return PS_OK;
}

static place *place_of(compiler *c, const ps_value *v) {
    return &c->places[v->id];
}

static void put(place *p, const ps_value *v, ps_space space, ps_form form, uint32_t storage) {
    const int at = index_of(form);
    p->storage[space][at] = storage;
    if (ps_layout_same(&v->shape)) p->storage[space][at ^ 1] = storage;
}

static void settle(compiler *c, const ps_value *v, ps_space space, ps_form form, uint32_t storage) {
    place *p = place_of(c, v);
    *p = (place) { .space = space, .home = form, .known = true };
    for (int i = 0; i < FORMS; i++)
        p->storage[PS_SPACE_HOST][i] = p->storage[PS_SPACE_DEVICE][i] = PS_NONE;
    put(p, v, space, form, storage);
}

/* Constants get their place when somebody asks. */
static ps_status ensure_known(compiler *c, const ps_value *v) {
    uint32_t s;
    if (place_of(c, v)->known) return PS_OK;
    PS_FAIL_IF(!v->constant, c->err, INTERNAL, "value '%s' is read before it is made", v->name);
    PS_TRY(new_storage(c, PS_ST_CONST, PS_SPACE_HOST, 0, v->constant->bytes, v->constant->data, &s));
    settle(c, v, PS_SPACE_HOST, plain, s);
    return PS_OK;
}

/* ---- steps ---- */

static ps_status push_step(compiler *c, ps_step *step) {
    ps_kernel *k = step->kernel;
    step->workspace = PS_NONE;
    ps_status status = PS_OK;
    ps_space space = step->device->ops->memory ? PS_SPACE_DEVICE : PS_SPACE_HOST;
    if (k->workspace) status = new_storage(c, PS_ST_ARENA, space, 0, k->workspace, NULL, &step->workspace);
    if (status == PS_OK && !ps_vec_push(c->alloc, &c->steps, *step)) status = PS_FAIL_NOMEM(c->err, "a plan");
    if (status != PS_OK) {
        ps_kernel_free(k);
        return status;
    }
    return PS_OK;
}

typedef struct transfer_kernel {
    ps_kernel base;
    ps_device *device;
    size_t bytes;
} transfer_kernel;

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

/* ---- copies between memories ---- */

static ps_status upload_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const ps_memory_ops *memory = ((const transfer_kernel *)kernel)->device->ops->memory;
    return memory->upload(args->stream, args->out[0], args->in[0], ((const transfer_kernel *)kernel)->bytes, err);
}

static ps_status download_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const ps_memory_ops *memory = ((const transfer_kernel *)kernel)->device->ops->memory;
    return memory->download(args->stream, args->out[0], args->in[0], ((const transfer_kernel *)kernel)->bytes, err);
}

static ps_status new_transfer(compiler *c, ps_space to, size_t bytes, ps_kernel **ret) {
    static const ps_kernel_ops up = { upload_run, copy_free, NULL, NULL };
    static const ps_kernel_ops down = { download_run, copy_free, NULL, NULL };
    bool upload = to == PS_SPACE_DEVICE;
    transfer_kernel *k;
    PS_TRY(ps_kernel_new(c->alloc, sizeof *k, upload ? &up : &down, upload ? "upload" : "download", &k, c->err));
    k->device = c->device;
    k->bytes = bytes;
    *ret = &k->base;
    return PS_OK;
}

/* ---- where a value lies, and in which form ---- */

typedef struct spot {
    ps_space space;
    ps_form form; /* the same on both sides of a copy between memories, and not of halves */
    uint32_t storage;
} spot;

static const char *conversion(ps_form from, ps_form to) {
    if (from.half == to.half) return "reorder";
    return to.half ? "narrow" : "widen";
}

static ps_status copy_kernel_for(compiler *c, const ps_value *v, const spot *from, const spot *to, ps_step *s) {
    size_t bytes;
    PS_TRY(value_bytes(c, v, to->space, to->form.half, &bytes));
    if (from->space != to->space) {
        s->op = to->space == PS_SPACE_DEVICE ? "upload" : "download";
        s->transfer = to->space == PS_SPACE_DEVICE ? PS_TRANSFER_UPLOAD : PS_TRANSFER_DOWNLOAD;
        s->device = c->device;
        c->plan->n_transfers++;
        return new_transfer(c, to->space, bytes, &s->kernel);
    }
    s->device = device_of(c, to->space);
    s->reorder = index_of(from->form) != index_of(to->form);
    s->op = s->reorder ? conversion(from->form, to->form) : "copy";
    if (!s->reorder) return new_copy(c->alloc, bytes, &s->kernel, c->err); /* in host memory only: claim_output */
    c->plan->n_reorders++;
    return s->device->ops->reorder(s->device, v->dtype, &v->shape, from->form, to->form, c->plan->threads, c->alloc,
                                   &s->kernel, c->err);
}

static ps_status push_copy(compiler *c, const ps_value *v, const spot *from, const spot *to) {
    ps_step s = { 0 };
    s.args = ps_arena_array(&c->plan->arena, 2, sizeof *s.args);
    if (!s.args) return PS_FAIL_NOMEM(c->err, "a plan");
    s.args[0] = from->storage;
    s.args[1] = to->storage;
    s.n_in = s.n_out = 1;
    s.inplace = -1;
    s.name = v->name;
    s.shape = v->shape;
    s.stored = to->form.half ? PS_DTYPE_F16 : v->dtype;
    PS_TRY(copy_kernel_for(c, v, from, to, &s));
    return push_step(c, &s);
}

static ps_status make_copy(compiler *c, const ps_value *v, const spot *from, ps_space space, ps_form form) {
    size_t bytes;
    spot to = { space, form, PS_NONE };
    PS_TRY(value_bytes(c, v, space, form.half, &bytes));
    PS_TRY(new_storage(c, PS_ST_ARENA, space, 0, bytes, NULL, &to.storage));
    PS_TRY(push_copy(c, v, from, &to));
    put(place_of(c, v), v, space, form, to.storage);
    return PS_OK;
}

/* Weights are brought once a model, not once a run. */
static ps_status bring_constant(compiler *c, const ps_value *v) {
    uint32_t s;
    void *buffer = NULL;
    PS_TRY(ps_weights_plain_on(c->plan->model->weights, c->device, v->constant, &buffer, c->err));
    PS_TRY(new_storage(c, PS_ST_CONST, PS_SPACE_DEVICE, 0, v->constant->bytes, buffer, &s));
    put(place_of(c, v), v, PS_SPACE_DEVICE, plain, s);
    return PS_OK;
}

/* Where the value lies in this memory, in the form wanted or one near to it: halves last where f32 is wanted, for they
 * are less exact. Its storage is PS_NONE where it lies nowhere. */
static spot nearest(compiler *c, const ps_value *v, ps_space space, ps_form form) {
    const uint32_t *there = place_of(c, v)->storage[space];
    const int at = index_of(form), order[FORMS] = { at, at ^ 1, at ^ 2, at ^ 3 };
    for (int i = 0; i < FORMS; i++)
        if (there[order[i]] != PS_NONE) return (spot) { space, form_at(order[i]), there[order[i]] };
    return (spot) { space, form, PS_NONE };
}

static ps_status want(compiler *c, const ps_value *v, ps_space space, ps_form form, uint32_t *ret);

/* Something of the value into this memory, from the other one, as f32. What has to be reordered, narrowed or widened is
 * so on the device. */
static ps_status bring(compiler *c, const ps_value *v, ps_space space, ps_form form) {
    const ps_form wide = { form.layout, false };
    spot from = { PS_SPACE_DEVICE, wide, PS_NONE };
    if (space == PS_SPACE_DEVICE && v->constant) return bring_constant(c, v);
    if (space == PS_SPACE_HOST)
        PS_TRY(want(c, v, PS_SPACE_DEVICE, wide, &from.storage));
    else
        from = nearest(c, v, PS_SPACE_HOST, wide);
    return make_copy(c, v, &from, space, from.form);
}

/* The value's storage in this memory and form, copying it if nobody has yet. */
static ps_status want(compiler *c, const ps_value *v, ps_space space, ps_form form, uint32_t *ret) {
    PS_TRY(ensure_known(c, v));
    if (nearest(c, v, space, form).storage == PS_NONE) PS_TRY(bring(c, v, space, form));
    const spot from = nearest(c, v, space, form);
    if (index_of(from.form) != index_of(form)) PS_TRY(make_copy(c, v, &from, space, form));
    *ret = place_of(c, v)->storage[space][index_of(form)];
    return PS_OK;
}

/* ---- nodes ---- */

/* A view that only regroups the spatial dims is the same memory in channels-last too. */
static bool regroups_spatial(const ps_shape *in, const ps_shape *out) {
    return in->rank >= 3 && out->rank >= 3 && in->dims[0] == out->dims[0] && in->dims[1] == out->dims[1];
}

static ps_status lower_view(compiler *c, const ps_node *n) {
    uint32_t s;
    ps_form form = place_of(c, n->in[0])->home;
    ps_space space = place_of(c, n->in[0])->space;
    if (!regroups_spatial(&n->in[0]->shape, &n->out[0]->shape)) form.layout = PS_LAYOUT_PLAIN;
    PS_TRY(want(c, n->in[0], space, form, &s));
    settle(c, n->out[0], space, form, s);
    return PS_OK;
}

/* The step's storages: its inputs where and how it wants them, then its outputs. */
static ps_status bind_args(compiler *c, const ps_node *n, const ps_lowering *l, ps_space space, ps_step *s) {
    s->args = ps_arena_array(&c->plan->arena, (size_t)n->n_in + n->n_out + 1, sizeof *s->args);
    if (!s->args) return PS_FAIL_NOMEM(c->err, "a plan");
    for (uint32_t i = 0; i < n->n_in; i++) {
        bool taken = i < 64 && l->kernel->taken >> i & 1;
        s->args[i] = PS_NONE;
        if (!n->in[i] || (taken && space == PS_SPACE_DEVICE)) continue; /* the kernel has it already */
        PS_TRY(want(c, n->in[i], space, (ps_form) { l->in_layout[i], l->in_half[i] }, &s->args[i]));
        if (space == PS_SPACE_DEVICE && n->in[i]->constant && i < 64) l->kernel->taken |= UINT64_C(1) << i;
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        size_t bytes;
        uint32_t *arg = &s->args[n->n_in + i];
        *arg = PS_NONE;
        if (!n->out[i]) continue;
        if (i == 0) s->shape = n->out[i]->shape;
        if (i == 0) s->stored = l->out_half[i] ? PS_DTYPE_F16 : n->out[i]->dtype;
        PS_TRY(value_bytes(c, n->out[i], space, l->out_half[i], &bytes));
        PS_TRY(new_storage(c, PS_ST_ARENA, space, 0, bytes, NULL, arg));
        settle(c, n->out[i], space, (ps_form) { l->out_layout[i], l->out_half[i] }, *arg);
    }
    return PS_OK;
}

static ps_status finish_node(compiler *c, const ps_node *n, ps_lowering *l, ps_device *device) {
    ps_step s = { 0 };
    s.kernel = l->kernel;
    s.device = device;
    s.node = n;
    s.op = n->fused ? n->fused : n->op_type;
    s.name = n->name;
    s.n_in = n->n_in;
    s.n_out = n->n_out;
    s.inplace = l->inplace;
    s.macs = ps_node_macs(n);
    s.why = device == c->device ? NULL : l->why;
    ps_status status = bind_args(c, n, l, device->ops->memory ? PS_SPACE_DEVICE : PS_SPACE_HOST, &s);
    if (status != PS_OK) {
        ps_kernel_free(l->kernel);
        return status;
    }
    c->plan->macs += s.macs;
    return push_step(c, &s);
}

/* Halves lie in the device's memory, and are made for the device alone. */
static void ask_for_halves(compiler *c, const ps_node *n, ps_lowering *l) {
    for (uint32_t i = 0; i < n->n_in; i++)
        l->in_half[i] = n->in[i] && place_of(c, n->in[i])->home.half;
    for (uint32_t i = 0; i < n->n_out; i++)
        l->out_half[i] = n->out[i] && !c->wide[n->out[i]->id];
}

static ps_status ask(compiler *c, const ps_node *n, ps_device *device, ps_lowering *l) {
    const char *why = l->why;
    memset(l, 0, sizeof *l);
    l->node = n;
    l->threads = c->plan->threads;
    l->weights = c->plan->model->weights;
    l->alloc = c->alloc;
    l->tuning = c->plan->model->tuning.until_ns ? &c->plan->model->tuning : NULL;
    l->inplace = -1;
    l->frugal = c->frugal;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i]) l->in_layout[i] = place_of(c, n->in[i])->home.layout;
    }
    if (c->wide && device == c->device) ask_for_halves(c, n, l);
    const ps_status status = device->ops->lower(device, l, c->err);
    c->roomy |= l->roomy;
    if (status != PS_OK) return status;
    if (!l->why) l->why = why;
    return PS_OK;
}

#define LIGHT_BYTES 4096

/* Shape arithmetic and the like: numbers that lie in host memory, are few and are no floats. A copy would cost more. */
static bool stays_on_host(compiler *c, const ps_node *n) {
    size_t sum = 0;
    bool moves = false;
    for (uint32_t i = 0; i < n->n_in + n->n_out; i++) {
        const ps_value *v = i < n->n_in ? n->in[i] : n->out[i - n->n_in];
        size_t bytes;
        int64_t elements;
        if (!v) continue;
        if (v->dtype == PS_DTYPE_F32 || !ps_shape_elements(&v->shape, &elements)) return false;
        if (i < n->n_in && place_of(c, v)->space != PS_SPACE_HOST) return false;
        if (!ps_dtype_bytes(v->dtype, elements, &bytes) || bytes > LIGHT_BYTES) return false;
        sum += bytes;
        moves |= i < n->n_in;
    }
    return moves && sum <= LIGHT_BYTES;
}

static ps_status lower_node(compiler *c, const ps_node *n) {
    char label[160];
    ps_lowering l = { .why = NULL };
    ps_device *device = c->device;
    PS_FAIL_IF(n->n_in > PS_LOWER_MAX || n->n_out > PS_LOWER_MAX, c->err, LIMIT,
               "%s has more than %d inputs or outputs", ps_node_label(n, label, sizeof label), PS_LOWER_MAX);
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i]) PS_TRY(ensure_known(c, n->in[i]));
    }
    if (n->op->traits & PS_OP_VIEW) return lower_view(c, n);
    if (device != c->host && stays_on_host(c, n)) {
        l.why = "few numbers, which lie in host memory";
        device = c->host;
    }
    PS_TRY(ask(c, n, device, &l));
    if (!l.kernel && !l.alias && device != c->host) {
        if (!l.why) l.why = "not in this form";
        device = c->host;
        PS_TRY(ask(c, n, device, &l));
    }
    if (l.alias) {
        uint32_t s;
        ps_space space = device->ops->memory ? PS_SPACE_DEVICE : PS_SPACE_HOST;
        PS_TRY(want(c, n->in[0], space, (ps_form) { l.in_layout[0], l.in_half[0] }, &s));
        settle(c, n->out[0], space, (ps_form) { l.out_layout[0], l.in_half[0] }, s);
        return PS_OK;
    }
    PS_FAIL_IF(!l.kernel, c->err, UNSUPPORTED, "%s: no kernel for operator '%s' on device '%s'",
               ps_node_label(n, label, sizeof label), n->op_type, device->name);
    return finish_node(c, n, &l, device);
}

/* ---- outputs ---- */

/* Some place of the value to copy an output from; a plain one if it has any. */
static ps_status output_source(compiler *c, const ps_value *v, spot *ret) {
    const place *p = place_of(c, v);
    *ret = (spot) { PS_SPACE_HOST, plain, p->storage[PS_SPACE_HOST][index_of(plain)] };
    if (ret->storage != PS_NONE) return PS_OK;
    ret->space = p->space;
    if (p->space == PS_SPACE_DEVICE) return want(c, v, PS_SPACE_DEVICE, plain, &ret->storage);
    ret->form = p->home;
    ret->storage = p->storage[PS_SPACE_HOST][index_of(p->home)];
    return PS_OK;
}

/* Gives output i the storage of its value, or a copy where that memory is somebody else's. */
static ps_status claim_output(compiler *c, const ps_value *v, uint32_t i) {
    spot from, to = { PS_SPACE_HOST, plain, PS_NONE };
    size_t bytes;
    PS_TRY(ensure_known(c, v));
    PS_TRY(output_source(c, v, &from));
    to.storage = from.storage;
    bool own = from.space == PS_SPACE_HOST && from.form.layout == PS_LAYOUT_PLAIN &&
               c->storages.data[from.storage].kind == PS_ST_ARENA;
    if (!own) {
        PS_TRY(value_bytes(c, v, PS_SPACE_HOST, false, &bytes));
        PS_TRY(new_storage(c, PS_ST_OUTPUT, PS_SPACE_HOST, i, bytes, NULL, &to.storage));
        PS_TRY(push_copy(c, v, &from, &to));
    }
    c->storages.data[to.storage].kind = PS_ST_OUTPUT;
    c->storages.data[to.storage].index = i;
    c->plan->outputs[i] = (ps_plan_output) { to.storage, v->dtype, v->shape };
    return PS_OK;
}

/* v lies where it is from here on until the next step: what is to be shown of it is. */
static ps_status note_shows(compiler *c, const ps_value *v) {
    const ps_graph *g = c->plan->graph;
    if (!v || !v->n_outputs) return PS_OK;
    for (size_t i = c->shown_from; i < g->n_outputs; i++) {
        if (g->outputs[i] != v) continue;
        PS_TRY(ensure_known(c, v));
        const place *p = place_of(c, v);
        const ps_plan_show show = { p->storage[PS_SPACE_HOST][index_of(p->home)],
                                    (uint32_t)i,
                                    (int32_t)c->steps.size - 1,
                                    v->dtype,
                                    v->shape,
                                    p->home.layout };
        if (!ps_vec_push(c->alloc, &c->shows, show)) return PS_FAIL_NOMEM(c->err, "a plan");
    }
    return PS_OK;
}

/* What is there before the first step. */
static ps_status note_first_shows(compiler *c) {
    const ps_graph *g = c->plan->graph;
    for (size_t i = c->shown_from; i < g->n_outputs; i++) {
        bool seen = g->outputs[i]->producer && !g->outputs[i]->constant;
        for (size_t k = c->shown_from; k < i; k++)
            seen |= g->outputs[k] == g->outputs[i];
        if (!seen) PS_TRY(note_shows(c, g->outputs[i]));
    }
    return PS_OK;
}

static ps_status make_outputs(compiler *c) {
    ps_plan *p = c->plan;
    p->n_outputs = p->graph->n_outputs < c->shown_from ? p->graph->n_outputs : c->shown_from;
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
        PS_TRY(value_bytes(c, v, PS_SPACE_HOST, false, &bytes));
        PS_TRY(new_storage(c, PS_ST_INPUT, PS_SPACE_HOST, i, bytes, NULL, &p->inputs[i]));
        if (!v->constant) settle(c, v, PS_SPACE_HOST, plain, p->inputs[i]);
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

/* Which steps of the host wait for the device: those that read what a download brings. */
static void find_waits(ps_plan *p) {
    int32_t waited = -1; /* last step before which the host waits */
    for (int32_t i = 0; i < (int32_t)p->n_steps; i++) {
        ps_step *s = &p->steps[i];
        if (s->transfer || s->device->ops->memory) continue;
        for (uint32_t k = 0; k < s->n_in && !s->wait; k++) {
            const ps_storage *st = s->args[k] == PS_NONE ? NULL : &p->storages[s->args[k]];
            s->wait = st && st->last_download >= waited && st->last_download >= 0;
        }
        if (s->wait) waited = i;
    }
}

/* Copies read host memory until the host waits: it is not used for anything else before. */
static void hold_uploads(ps_plan *p) {
    int32_t next = (int32_t)p->n_steps; /* step before which the host next waits */
    for (int32_t i = (int32_t)p->n_steps - 1; i >= 0; i--) {
        const ps_step *s = &p->steps[i];
        if (s->transfer == PS_TRANSFER_UPLOAD) touch(p, s->args[0], next - 1);
        if (s->wait) next = i;
    }
}

static void find_transfers(ps_plan *p) {
    for (int32_t i = 0; i < (int32_t)p->n_steps; i++) {
        const ps_step *s = &p->steps[i];
        if (s->transfer == PS_TRANSFER_DOWNLOAD) p->storages[s->args[1]].last_download = i;
    }
    find_waits(p);
    hold_uploads(p);
}

static ps_status lower_graph(compiler *c) {
    PS_TRY(make_inputs(c));
    PS_TRY(note_first_shows(c));
    for (const ps_node *n = c->plan->graph->first; n; n = n->next) {
        if (ps_node_is_folded(n)) continue;
        PS_TRY(lower_node(c, n));
        for (uint32_t i = 0; i < n->n_out; i++)
            PS_TRY(note_shows(c, n->out[i]));
    }
    return make_outputs(c);
}

static size_t plan_bytes(const ps_plan *p) {
    size_t n = sizeof *p + p->arena.bytes + p->graph->arena.bytes + p->n_steps * sizeof *p->steps;
    for (size_t i = 0; i < p->n_steps; i++)
        n += p->steps[i].kernel->bytes;
    return n;
}

static ps_status check_sum(compiler *c, size_t sum, const ps_device *device) {
    uint64_t memory = device->info.memory; /* 0: unknown */
    PS_FAIL_IF(memory && sum > memory, c->err, LIMIT,
               "with these input shapes the model needs %zu bytes for values and outputs, device '%s' has %llu", sum,
               device->name, (unsigned long long)memory);
    return PS_OK;
}

/* Said before anything runs: asking for such an amount may get the process killed rather than an answer. */
static ps_status check_memory(compiler *c) {
    const ps_plan *p = c->plan;
    size_t sum = p->arena_bytes[PS_SPACE_HOST];
    for (size_t i = 0; i < p->n_storages; i++) {
        const ps_storage *s = &p->storages[i];
        if (s->kind != PS_ST_OUTPUT || s->same != PS_NONE) continue;
        if (ps_add_overflow_size(sum, s->bytes, &sum)) sum = SIZE_MAX;
    }
    PS_TRY(check_sum(c, p->arena_bytes[PS_SPACE_DEVICE], c->device));
    return check_sum(c, sum, c->host);
}

static ps_status finish(compiler *c) {
    ps_plan *p = c->plan;
    p->n_steps = c->steps.size;
    p->n_storages = c->storages.size;
    p->n_shows = c->shows.size;
    p->storages = ps_arena_memdup(&p->arena, c->storages.data, (p->n_storages + 1) * sizeof *p->storages);
    if (p->n_shows) p->shows = ps_arena_memdup(&p->arena, c->shows.data, p->n_shows * sizeof *p->shows);
    if (!p->storages || (p->n_shows && !p->shows)) return PS_FAIL_NOMEM(c->err, "a plan");
    lifetimes(p);
    find_transfers(p);
    PS_TRY(ps_plan_ends(p, c->err));
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
    if (c->plan->model->halves) PS_TRY(ps_plan_halves(c->plan->graph, c->device, c->alloc, &c->wide, c->err));
    int token = c->host->ops->enter ? c->host->ops->enter(c->host, c->plan->threads) : 0;
    status = lower_graph(c);
    if (c->host->ops->leave) c->host->ops->leave(c->host, token);
    /* From here on the plan owns the steps, whole or not. */
    if (status == PS_OK && !ps_vec_reserve(c->alloc, &c->storages, 1)) status = PS_FAIL_NOMEM(c->err, "a plan");
    c->plan->steps = c->steps.data;
    c->plan->n_steps = c->steps.size;
    if (status == PS_OK) status = finish(c);
    return status;
}

/* The graph is the plan's if it succeeds. */
static ps_status attempt(ps_model *model, ps_graph *g, int threads, size_t shown_from, bool frugal, bool *ret_roomy,
                         ps_plan **ret, ps_error *err) {
    ps_plan *p = ps_alloc_zero(model->alloc, sizeof *p);
    if (!p) return PS_FAIL_NOMEM(err, "a plan");
    p->model = model;
    p->graph = g;
    p->threads = threads;
    p->slices = 1;
    ps_arena_init(&p->arena, model->alloc);
    compiler c = { .plan = p,
                   .alloc = model->alloc,
                   .device = model->device,
                   .host = model->host,
                   .shown_from = shown_from,
                   .frugal = frugal,
                   .err = err };
    ps_status status = compile(&c);
    ps_free(c.alloc, c.places);
    ps_free(c.alloc, c.wide);
    ps_vec_release(c.alloc, &c.shows);
    ps_vec_release(c.alloc, &c.storages);
    *ret_roomy = c.roomy;
    if (status != PS_OK) {
        p->graph = NULL;
        ps_plan_free(p);
        return status;
    }
    *ret = p;
    return PS_OK;
}

/* Would the device give the memory for the plan's values? Asked only where less would do. */
static ps_status try_arena(const ps_plan *p, ps_error *err) {
    ps_device *d = p->model->device;
    void *buffer = NULL;
    PS_TRY(d->ops->memory->buffer_new(d, p->arena_bytes[PS_SPACE_DEVICE], NULL, &buffer, err));
    d->ops->memory->buffer_free(d, buffer);
    return PS_OK;
}

/* Kernels that take memory for speed do not where the plan would fail for it. */
ps_status ps_plan_compile(ps_model *model, ps_graph *g, int threads, size_t shown_from, ps_plan **ret, ps_error *err) {
    ps_error why = PS_ERROR_INIT;
    ps_plan *p = NULL;
    bool roomy = false;
    ps_status status = attempt(model, g, threads, shown_from, false, &roomy, &p, &why);
    ps_status fits = status == PS_OK && roomy ? try_arena(p, &why) : status;
    if (roomy && (fits == PS_NO_MEMORY || fits == PS_LIMIT)) {
        if (p) p->graph = NULL;
        ps_plan_free(p);
        why = (ps_error)PS_ERROR_INIT;
        status = attempt(model, g, threads, shown_from, true, &roomy, &p, &why);
    }
    if (status != PS_OK) {
        ps_graph_free(g);
        if (err) *err = why;
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
