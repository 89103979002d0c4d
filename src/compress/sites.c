/* sites.c - which tensors become 8 bits wide, and for which operators.
 *
 * A tensor is quantised where an operator with weights reads it, not where one writes it: activations and biases stay
 * inside of the operator before, as runtimes fuse them. Backwards from there, operators that only move or average
 * values (pooling, Concat, Reshape, residual Add …) take 8 bits as well, so that they stay 8 bits between layers. */
#include "compress/compress_int.h"

enum { LEAST_WEIGHTS = 64 }; /* what is smaller is not worth a scale */

static bool is(const ps_node *n, const char *op) {
    return n && !*n->domain && strcmp(n->op_type, op) == 0;
}

static bool is_any(const ps_node *n, const char *const *ops, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (is(n, ops[i])) return true;
    return false;
}
#define IS_ANY(n, list) is_any((n), (list), sizeof(list) / sizeof *(list))

static bool constant_f32(const ps_value *v) {
    return v && v->constant && !v->is_input && v->dtype == PS_DTYPE_F32;
}

static bool activation(const ps_job *job, const ps_value *v) {
    return v && !v->constant && v->dtype == PS_DTYPE_F32 && v->graph == job->graph;
}

/* ---- layers ---- */

static int64_t attr_int(const ps_node *n, const char *name, int64_t absent) {
    const ps_attr *a = ps_node_attr(n, name);
    return a && a->type == PS_ATTR_INT ? a->u.i : absent;
}

static float attr_float(const ps_node *n, const char *name, float absent) {
    const ps_attr *a = ps_node_attr(n, name);
    return a && a->type == PS_ATTR_FLOAT ? a->u.f : absent;
}

/* The Add of a constant vector behind a MatMul. */
static void find_bias(const ps_job *job, ps_layer *l) {
    ps_node *n = l->node;
    l->bias_node = n;
    l->bias_index = 2;
    l->can_bias = true;
    if (is(n, "Gemm") && (attr_float(n, "alpha", 1) != 1 || attr_float(n, "beta", 1) != 1)) l->can_bias = false;
    if (!is(n, "MatMul")) return;
    ps_node *add = ps_value_only_consumer(n->out[0]);
    l->can_bias = false;
    if (!is(add, "Add") || !ps_job_in_file(job, add)) return;
    for (size_t i = 0; i < 2; i++) {
        const ps_value *v = add->in[i];
        if (add->in[1 - i] != n->out[0] || !constant_f32(v) || v->shape.rank != 1) continue;
        if (v->shape.dims[0] != l->channels) continue;
        l->bias_node = add;
        l->bias_index = i;
        l->can_bias = true;
    }
}

static int channel_axis(const ps_node *n) {
    const ps_shape *s = &n->in[1]->constant->shape;
    if (is(n, "Conv")) return 0;
    if (is(n, "ConvTranspose")) return attr_int(n, "group", 1) == 1 ? 1 : -1;
    if (is(n, "Gemm")) return attr_int(n, "transB", 0) ? 0 : 1;
    return s->rank == 2 ? 1 : -1; /* MatMul: batched weights get one scale */
}

static bool is_layer(const ps_job *job, const ps_node *n) {
    static const char *const ops[] = { "Conv", "ConvTranspose", "Gemm", "MatMul" };
    if (!IS_ANY(n, ops) || !ps_job_in_file(job, n) || n->n_in < 2 || !activation(job, n->in[0]) ||
        !constant_f32(n->in[1]))
        return false;
    const ps_shape *s = &n->in[1]->constant->shape;
    if (s->rank < 2 || ps_tensor_count(n->in[1]->constant) < LEAST_WEIGHTS) return false;
    if (is(n, "Gemm") && attr_int(n, "transA", 0)) return false;
    return n->n_in < 3 || !n->in[2] || constant_f32(n->in[2]);
}

static size_t first_with(const ps_job *job, const ps_value *weight) {
    for (size_t i = 0; i < job->layers.size; i++)
        if (job->layers.data[i].node->in[1] == weight) return i;
    return job->layers.size;
}

static ps_status add_site(ps_job *job, ps_value *v, size_t *ret) {
    *ret = job->site_of[v->id];
    if (*ret != PS_NO_SITE) return PS_OK;
    *ret = job->sites.size;
    ps_site s = { .value = v, .group = *ret, .method = "", .scale = 1 };
    if (!ps_vec_push(job->alloc, &job->sites, s)) return PS_FAIL_NOMEM(job->err, "the list of tensors");
    job->site_of[v->id] = *ret;
    return PS_OK;
}

static ps_status add_layer(ps_job *job, ps_node *n) {
    ps_layer l = { .node = n, .axis = channel_axis(n), .shared = first_with(job, n->in[1]), .quantized = true };
    l.reason = "";
    l.weight_name = n->in[1]->name;
    l.alone = NAN;
    l.channels = l.axis < 0 ? 1 : n->in[1]->constant->shape.dims[l.axis];
    find_bias(job, &l);
    PS_TRY(add_site(job, n->in[0], &l.site));
    PS_TRY(ps_vec_push(job->alloc, &job->layers, l) ? PS_OK : PS_FAIL_NOMEM(job->err, "the list of layers"));
    return ps_layer_prepare(job, &job->layers.data[job->layers.size - 1]);
}

/* ---- operators without weights ---- */

/* Zeros around have a code; what is repeated of the tensor itself has one too. */
static bool pads_with_codes(const ps_node *n) {
    const ps_value *value = n->n_in > 2 ? n->in[2] : NULL;
    double v = (double)attr_float(n, "value", 0);
    if (!is(n, "Pad")) return false;
    return (!value || (value->constant && ps_tensor_get_double(value->constant, 0, &v))) && v == 0;
}

/* Values come out as they went in, or a largest of them: codes can take their place. */
static bool moves(const ps_node *n) {
    static const char *const ops[] = { "MaxPool",      "Reshape", "Flatten", "Squeeze",  "Unsqueeze",
                                       "Transpose",    "Slice",   "Split",   "Identity", "DepthToSpace",
                                       "SpaceToDepth", "Concat",  "Gather" };
    const ps_attr *mode = ps_node_attr(n, "mode");
    if (pads_with_codes(n)) return true;
    if (IS_ANY(n, ops)) return n->n_out == 1 || !is(n, "MaxPool");
    if (is(n, "Resize") || is(n, "Upsample"))
        return !mode || mode->type != PS_ATTR_STRING || strcmp(mode->u.s, "cubic");
    return false;
}

static bool averages(const ps_node *n) {
    return is(n, "AveragePool") || is(n, "GlobalAveragePool");
}

static bool adds(const ps_job *job, const ps_node *n) {
    return is(n, "Add") && activation(job, n->in[0]) && activation(job, n->in[1]);
}

static bool fuses(const ps_node *n) {
    static const char *const ops[] = { "Relu", "Clip", "LeakyRelu", "HardSwish", "BatchNormalization" };
    return IS_ANY(n, ops);
}

/* Is the value, or what an activation makes of it, a site? (or, with used, one in use) */
static bool leads_to_site(const ps_job *job, const ps_value *v, bool used) {
    for (int hops = 0; hops < 3; hops++) {
        const size_t s = job->site_of[v->id];
        if (s != PS_NO_SITE && (!used || job->sites.data[s].used)) return true;
        const ps_node *next = ps_value_only_consumer(v);
        if (!next || !fuses(next) || next->in[0] != v || next->graph != v->graph) return false;
        v = next->out[0];
    }
    return false;
}

static bool layer_node(const ps_job *job, const ps_node *n) {
    for (size_t i = 0; i < job->layers.size; i++)
        if (job->layers.data[i].node == n) return true;
    return false;
}

/* Would the operator that makes it write 8 bits at no cost? */
static bool made_in_8_bits(const ps_job *job, const ps_value *v) {
    for (int hops = 0; hops < 8; hops++) {
        if (job->site_of[v->id] != PS_NO_SITE) return true;
        const ps_node *n = v->producer;
        if (!n) return v->is_input; /* it comes in once, whatever reads it */
        if (n->graph != job->graph) return false;
        if (layer_node(job, n)) return true;
        const bool bias = is(n, "Add") && (constant_f32(n->in[0]) || constant_f32(n->in[1]));
        if (adds(job, n)) return made_in_8_bits(job, n->in[0]) && made_in_8_bits(job, n->in[1]);
        if (!fuses(n) && !bias && !moves(n) && !averages(n)) return false;
        v = bias && constant_f32(n->in[0]) ? n->in[1] : n->in[0];
        if (!v || v->constant) return false;
    }
    return false;
}

static bool any_out_site(const ps_job *job, const ps_node *n, bool through, bool used) {
    for (size_t i = 0; i < n->n_out; i++) {
        const ps_value *v = n->out[i];
        if (!v) continue;
        const size_t s = job->site_of[v->id];
        if (s != PS_NO_SITE && (!used || job->sites.data[s].used)) return true;
        if (through && leads_to_site(job, v, used)) return true;
    }
    return false;
}

/* How many of its first inputs a node reads in 8 bits; 0: it is no mover. */
static size_t mover_inputs(const ps_job *job, const ps_node *n) {
    if ((!moves(n) && !averages(n) && !adds(job, n)) || !ps_job_in_file(job, n)) return 0;
    const size_t n_in = is(n, "Concat") ? n->n_in : adds(job, n) ? 2 : 1;
    if (!any_out_site(job, n, !moves(n), false)) return 0;
    for (size_t i = 0; i < n_in; i++)
        if (!activation(job, n->in[i]) || !made_in_8_bits(job, n->in[i])) return 0;
    return n_in;
}

static size_t root_of(const ps_job *job, size_t s) {
    while (job->sites.data[s].group != s)
        s = job->sites.data[s].group;
    return s;
}

/* Both have one scale afterwards. */
static void unite(ps_job *job, size_t a, size_t b) {
    a = root_of(job, a);
    b = root_of(job, b);
    if (a != b) job->sites.data[a > b ? a : b].group = a < b ? a : b;
}

static ps_status add_mover(ps_job *job, ps_node *n, size_t n_in) {
    ps_mover m = { .node = n, .n_in = n_in };
    for (size_t i = 0; i < n_in; i++) {
        size_t s;
        PS_TRY(add_site(job, n->in[i], &s));
        /* What is concatenated and read elsewhere too keeps its own scale. */
        const bool own = is(n, "Concat") && !ps_value_only_consumer(n->in[i]);
        for (size_t k = 0; moves(n) && !own && k < n->n_out; k++)
            if (n->out[k] && job->site_of[n->out[k]->id] != PS_NO_SITE) unite(job, s, job->site_of[n->out[k]->id]);
    }
    return ps_vec_push(job->alloc, &job->movers, m) ? PS_OK : PS_FAIL_NOMEM(job->err, "the list of operators");
}

static bool mover_node(const ps_job *job, const ps_node *n) {
    for (size_t i = 0; i < job->movers.size; i++)
        if (job->movers.data[i].node == n) return true;
    return false;
}

/* Backwards, so that one that feeds another is found after it. */
static ps_status find_movers(ps_job *job) {
    for (size_t before = SIZE_MAX; before != job->movers.size;) {
        before = job->movers.size;
        for (ps_node *n = job->graph->last; n; n = n->prev) {
            const size_t n_in = mover_node(job, n) ? 0 : mover_inputs(job, n);
            if (n_in) PS_TRY(add_mover(job, n, n_in));
        }
    }
    return PS_OK;
}

/* ---- for the others ---- */

ps_status ps_sites_find(ps_job *job) {
    job->site_of = ps_alloc_array(job->alloc, job->graph->n_ids + 1, sizeof *job->site_of);
    if (!job->site_of) return PS_FAIL_NOMEM(job->err, "the list of tensors");
    for (size_t i = 0; i <= job->graph->n_ids; i++)
        job->site_of[i] = PS_NO_SITE;
    for (ps_node *n = job->graph->first; n; n = n->next)
        if (is_layer(job, n)) PS_TRY(add_layer(job, n));
    PS_TRY(find_movers(job));
    for (size_t i = 0; i < job->sites.size; i++)
        job->sites.data[i].group = root_of(job, i);
    ps_sites_refresh(job);
    return PS_OK;
}

size_t ps_site_at(const ps_job *job, const ps_value *v) {
    return job->site_of[v->id];
}

void ps_sites_refresh(ps_job *job) {
    for (size_t i = 0; i < job->sites.size; i++)
        job->sites.data[i].used = false;
    for (size_t i = 0; i < job->layers.size; i++)
        if (job->layers.data[i].quantized) job->sites.data[job->layers.data[i].site].used = true;
    for (size_t i = 0; i < job->movers.size; i++) /* in an order in which readers come first */
        job->movers.data[i].active = false;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < job->movers.size; i++) {
            ps_mover *m = &job->movers.data[i];
            if (m->active || !any_out_site(job, m->node, !moves(m->node), true)) continue;
            m->active = changed = true;
            for (size_t k = 0; k < m->n_in; k++)
                job->sites.data[job->site_of[m->node->in[k]->id]].used = true;
        }
    }
}

bool ps_site_reader(const ps_job *job, const ps_node *node, size_t index) {
    for (size_t i = 0; i < job->layers.size; i++)
        if (job->layers.data[i].node == node) return job->layers.data[i].quantized && index == 0;
    for (size_t i = 0; i < job->movers.size; i++)
        if (job->movers.data[i].node == node) return job->movers.data[i].active && index < job->movers.data[i].n_in;
    return false;
}

ps_site *ps_site_range(ps_job *job, size_t site) {
    return &job->sites.data[job->sites.data[site].group];
}
