/* simulate.c - the compressed model before it is written: the graph with QuantizeLinear and DequantizeLinear behind
 * every tensor in use, and weights as their codes mean them, in float. Runs anywhere, and any value can be looked at.
 */
#include "compress/compress_int.h"

typedef struct builder {
    ps_job *job;
    ps_graph *graph;
    ps_value **values; /* by id of job->graph */
    ps_node **nodes;   /* by id of job->graph */
} builder;

static ps_status map_nodes(builder *b) {
    ps_job *job = b->job;
    b->nodes = ps_alloc_zero(job->alloc, (job->graph->n_node_ids + 1) * sizeof *b->nodes);
    if (!b->nodes) return PS_FAIL_NOMEM(job->err, "a copy of the graph");
    ps_node *copy = b->graph->first;
    for (ps_node *n = job->graph->first; n && copy; n = n->next, copy = copy->next)
        b->nodes[n->id] = copy;
    return PS_OK;
}

static ps_status add_scalar(builder *b, ps_dtype dtype, const void *data, ps_value **ret) {
    const ps_shape scalar = ps_shape_make(0, NULL);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(b->job->alloc, dtype, &scalar, &t, b->job->err));
    memcpy(t->data, data, t->bytes);
    ps_status status = ps_graph_add_constant(b->graph, NULL, t, ret, b->job->err);
    ps_tensor_release(t);
    if (status == PS_OK) (*ret)->dtype = dtype;
    return status;
}

static ps_status add_op(builder *b, ps_node *before, const char *op, ps_value *const in[3], ps_value **ret) {
    ps_node *made;
    PS_TRY(ps_graph_add_value(b->graph, NULL, ret, b->job->err));
    return ps_graph_add_node(b->graph, before, op, "", NULL, in, 3, ret, 1, &made, b->job->err);
}

/* v, coded and decoded, before all its readers. */
static ps_status add_pair(builder *b, const ps_site *range, ps_value *v, ps_value **ret) {
    ps_node *before = v->producer ? v->producer->next : b->graph->first;
    const uint8_t zero = (uint8_t)range->zero;
    ps_value *in[3] = { v, NULL, NULL };
    PS_TRY(add_scalar(b, PS_DTYPE_F32, &range->scale, &in[1]));
    PS_TRY(add_scalar(b, PS_DTYPE_U8, &zero, &in[2]));
    ps_value *codes;
    PS_TRY(add_op(b, before, "QuantizeLinear", in, &codes));
    in[0] = codes;
    return add_op(b, before, "DequantizeLinear", in, ret);
}

static bool reads(const ps_job *job, size_t only, const ps_node *n, size_t index) {
    if (only == PS_NO_SITE) return ps_site_reader(job, n, index);
    return n == job->layers.data[only].node && index == 0;
}

static ps_status quantize_site(builder *b, size_t site, size_t only) {
    const ps_job *job = b->job;
    const ps_value *v = job->sites.data[site].value;
    ps_value *pair = NULL;
    for (uint32_t u = 0; u < v->n_uses; u++) {
        if (!reads(job, only, v->uses[u].node, v->uses[u].index)) continue;
        if (!pair) PS_TRY(add_pair(b, ps_site_range(b->job, site), b->values[v->id], &pair));
        PS_TRY(ps_node_set_input(b->nodes[v->uses[u].node->id], v->uses[u].index, pair, job->err));
    }
    return PS_OK;
}

static ps_status set_tensor(builder *b, ps_node *n, size_t index, ps_tensor *take) {
    ps_value *v;
    ps_status status = ps_graph_add_constant(b->graph, NULL, take, &v, b->job->err);
    ps_tensor_release(take);
    PS_TRY(status);
    v->dtype = PS_DTYPE_F32;
    v->shape = v->constant->shape;
    if (index >= n->n_in) PS_TRY(ps_node_resize_inputs(n, (uint32_t)index + 1, b->job->err));
    return ps_node_set_input(n, index, v, b->job->err);
}

static ps_status quantize_layer(builder *b, ps_layer *l) {
    ps_tensor *t;
    PS_TRY(ps_layer_decoded(b->job, l, &t));
    PS_TRY(set_tensor(b, b->nodes[l->node->id], 1, t));
    if (!l->bias) return PS_OK;
    if (l->bias_node == l->node) {
        PS_TRY(ps_layer_bias(b->job, l, NULL, NULL, &t));
        return set_tensor(b, b->nodes[l->node->id], l->bias_index, t);
    }
    return set_tensor(b, b->nodes[l->bias_node->id], l->bias_index, ps_tensor_retain(l->bias));
}

static ps_status quantize_graph(builder *b, size_t only) {
    ps_job *job = b->job;
    for (size_t i = 0; i < job->sites.size; i++)
        if (only == PS_NO_SITE ? job->sites.data[i].used : job->layers.data[only].site == i)
            PS_TRY(quantize_site(b, i, only));
    for (size_t i = 0; i < job->layers.size; i++)
        if (only == PS_NO_SITE ? job->layers.data[i].quantized : only == i)
            PS_TRY(quantize_layer(b, &job->layers.data[i]));
    return ps_graph_opset(b->graph, "") < 13 ? ps_graph_set_opset(b->graph, "", 13, job->err) : PS_OK;
}

/* Nodes keep the row of the operator table that they have; only those made here look for one, in opset 13 or later. */
static ps_status build(builder *b, bool quantize, size_t only, ps_value *const *extra, size_t n_extra) {
    ps_job *job = b->job;
    PS_TRY(ps_graph_clone(job->graph, &b->graph, &b->values, job->err));
    PS_TRY(map_nodes(b));
    for (size_t i = 0; i < n_extra; i++)
        PS_TRY(ps_graph_add_output(b->graph, b->values[extra[i]->id], job->err));
    return quantize ? quantize_graph(b, only) : PS_OK;
}

ps_status ps_sim_open(ps_job *job, bool quantize, size_t only, ps_value *const *extra, size_t n_extra, ps_sim *ret) {
    builder b = { .job = job };
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.device = "cpu";
    *ret = (ps_sim) {
        .alloc = job->alloc, .n_in = job->graph->n_inputs, .n_out = job->graph->n_outputs, .n_extra = n_extra
    };
    ps_status status = build(&b, quantize, only, extra, n_extra);
    ps_free(job->alloc, b.nodes);
    if (status == PS_OK)
        status = ps_model_from_graph(job->engine, b.graph, &o, &ret->model, job->err);
    else
        ps_graph_free(b.graph);
    if (status == PS_OK && n_extra) ret->model->shown_from = ret->n_out;
    if (status == PS_OK) status = ps_session_create(ret->model, NULL, &ret->session, job->err);
    if (status == PS_OK) {
        ret->out = ps_alloc_zero(job->alloc, (ret->n_out + n_extra + 1) * sizeof *ret->out);
        if (!ret->out) status = PS_FAIL_NOMEM(job->err, "outputs");
    }
    if (status != PS_OK) {
        ps_sim_close(ret);
        *ret = (ps_sim) { 0 };
    }
    return status;
}

static ps_status show_extra(void *ctx, size_t index, const ps_tensor *value, ps_error *err) {
    const ps_sim *sim = ctx;
    return sim->look(sim->ctx, index - sim->n_out, value, err);
}

ps_status ps_sim_run(ps_job *job, ps_sim *sim, ps_tensor *const *in, ps_show_fn look, void *ctx) {
    ps_run_options o = PS_RUN_OPTIONS_INIT;
    o.cancel = job->options.cancel;
    sim->look = look;
    sim->ctx = ctx;
    ps_session_show(sim->session, look ? show_extra : NULL, sim);
    for (size_t i = 0; i < sim->n_out + sim->n_extra; i++)
        sim->out[i] = NULL;
    return ps_session_run(sim->session, (const ps_tensor *const *)in, sim->n_in, sim->out, sim->n_out + sim->n_extra,
                          &o, job->err);
}

void ps_sim_close(ps_sim *sim) {
    ps_session_free(sim->session);
    if (sim->alloc) ps_free(sim->alloc, sim->out);
    ps_model_release(sim->model);
    *sim = (ps_sim) { 0 };
}
