/* emit.c - static INT8 onto the opened file: QuantizeLinear and DequantizeLinear pairs, coded weights and biases. */
#include "compress/compress_int.h"

/* ---- names and constants ---- */

ps_status ps_emit_name(ps_job *job, ps_onnx_edit *edit, const char *stem, const char *suffix, const char **ret) {
    const size_t room = strlen(stem) + strlen(suffix) + 24;
    char *name = ps_arena_alloc(&job->graph->arena, room);
    if (!name) return PS_FAIL_NOMEM(job->err, "a name");
    ps_snprintf(name, room, "%s_%s", stem, suffix);
    for (unsigned k = 2; ps_onnx_edit_is_defined(edit, name) || ps_graph_find(job->graph, name); k++)
        ps_snprintf(name, room, "%s_%s_%u", stem, suffix, k);
    *ret = name;
    return PS_OK;
}

static ps_status add_tensor(ps_job *job, ps_onnx_edit *edit, const char *stem, const char *suffix, ps_tensor *t,
                            const char **ret) {
    PS_TRY(ps_emit_name(job, edit, stem, suffix, ret));
    return ps_onnx_edit_add_initializer(edit, *ret, t, job->err);
}

static ps_status add_filled(ps_job *job, ps_onnx_edit *edit, const char *stem, const char *suffix, ps_dtype dtype,
                            int64_t n, const void *data, const char **ret) {
    const int64_t dims[] = { n };
    const ps_shape shape = ps_shape_make(n > 0 ? 1 : 0, dims);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(job->alloc, dtype, &shape, &t, job->err));
    if (data) memcpy(t->data, data, t->bytes);
    ps_status status = add_tensor(job, edit, stem, suffix, t, ret);
    ps_tensor_release(t);
    return status;
}

size_t ps_emit_find(const ps_onnx_edit *edit, const char *output) {
    const size_t n = ps_onnx_edit_node_count(edit);
    for (size_t i = 0; i < n; i++) {
        const ps_onnx_node_view v = ps_onnx_edit_node(edit, i);
        for (size_t k = 0; k < v.n_out; k++)
            if (strcmp(v.out[k], output) == 0) return i;
    }
    return SIZE_MAX;
}

void ps_emit_drop(ps_onnx_edit *edit, const char *name) {
    if (ps_onnx_edit_is_read(edit, name) || ps_onnx_edit_remove_initializer(edit, name)) return;
    const size_t at = ps_emit_find(edit, name);
    if (at == SIZE_MAX) return;
    const ps_onnx_node_view v = ps_onnx_edit_node(edit, at);
    if (strcmp(v.op_type, "Constant") == 0 && !*v.domain) ps_onnx_edit_remove_node(edit, at);
}

static ps_status add_node(ps_job *job, ps_onnx_edit *edit, size_t *at, const char *op, const char *const *in,
                          size_t n_in, const char *out, int64_t axis) {
    const ps_onnx_attr_spec attr = { .name = "axis", .type = PS_ATTR_INT, .i = axis };
    const ps_onnx_node_spec spec = { .op_type = op,
                                     .name = out,
                                     .in = in,
                                     .n_in = n_in,
                                     .out = &out,
                                     .n_out = 1,
                                     .attrs = &attr,
                                     .n_attrs = axis >= 0 ? 1 : 0 };
    PS_TRY(ps_onnx_edit_insert_node(edit, *at, &spec, job->err));
    ++*at;
    return PS_OK;
}

/* The node that makes this value of the graph; the file has it, for the value is of the root graph. */
static ps_status node_of(ps_job *job, const ps_onnx_edit *edit, const ps_node *n, size_t *ret) {
    *ret = SIZE_MAX;
    for (size_t k = 0; k < n->n_out && *ret == SIZE_MAX; k++)
        if (n->out[k]) *ret = ps_emit_find(edit, n->out[k]->name);
    PS_FAIL_IF(*ret == SIZE_MAX, job->err, INTERNAL, "%s is not in the file", ps_node_label(n, (char[160]) { 0 }, 160));
    return PS_OK;
}

/* ---- activations ---- */

/* An input that the file's node reads, whatever its position: a node of the file has the inputs of the graph's. */
static ps_status rewire(ps_job *job, ps_onnx_edit *edit, const ps_node *n, size_t index, const char *name) {
    size_t at;
    PS_TRY(node_of(job, edit, n, &at));
    PS_FAIL_IF(index >= ps_onnx_edit_node(edit, at).n_in, job->err, INTERNAL, "%s has other inputs in the file",
               ps_node_label(n, (char[160]) { 0 }, 160));
    return ps_onnx_edit_set_input(edit, at, index, name, job->err);
}

static ps_status emit_pair(ps_job *job, ps_onnx_edit *edit, size_t site, const char **ret) {
    const ps_value *v = job->sites.data[site].value;
    const ps_site *range = ps_site_range(job, site);
    const uint8_t zero = (uint8_t)range->zero;
    const char *scale_name, *zero_name, *coded;
    PS_TRY(add_filled(job, edit, v->name, "scale", PS_DTYPE_F32, 0, &range->scale, &scale_name));
    PS_TRY(add_filled(job, edit, v->name, "zero_point", PS_DTYPE_U8, 0, &zero, &zero_name));
    PS_TRY(ps_emit_name(job, edit, v->name, "quantized", &coded));
    PS_TRY(ps_emit_name(job, edit, v->name, "dequantized", ret));
    size_t at = v->producer ? ps_emit_find(edit, v->name) : 0;
    PS_FAIL_IF(at == SIZE_MAX, job->err, INTERNAL, "'%s' is not in the file", v->name);
    if (v->producer) at++;
    const char *q[] = { v->name, scale_name, zero_name }, *dq[] = { coded, scale_name, zero_name };
    PS_TRY(add_node(job, edit, &at, "QuantizeLinear", q, 3, coded, -1));
    return add_node(job, edit, &at, "DequantizeLinear", dq, 3, *ret, -1);
}

static ps_status emit_site(ps_job *job, ps_onnx_edit *edit, size_t site) {
    const ps_value *v = job->sites.data[site].value;
    const char *pair = NULL;
    for (uint32_t u = 0; u < v->n_uses; u++) {
        if (!ps_site_reader(job, v->uses[u].node, v->uses[u].index)) continue;
        if (!pair) PS_TRY(emit_pair(job, edit, site, &pair));
        PS_TRY(rewire(job, edit, v->uses[u].node, v->uses[u].index, pair));
    }
    return PS_OK;
}

/* ---- weights ---- */

static ps_status emit_decoded(ps_job *job, ps_onnx_edit *edit, const char *before, const char *stem, ps_tensor *codes,
                              const float *scales, int64_t n, int axis, const char **ret) {
    const char *in[3];
    size_t at = ps_emit_find(edit, before);
    PS_TRY(add_tensor(job, edit, stem, "quantized", codes, &in[0]));
    PS_TRY(add_filled(job, edit, stem, "scale", PS_DTYPE_F32, axis < 0 ? 0 : n, scales, &in[1]));
    PS_TRY(add_filled(job, edit, stem, "zero_point", codes->dtype, axis < 0 ? 0 : n, NULL, &in[2]));
    PS_TRY(ps_emit_name(job, edit, stem, "dequantized", ret));
    return add_node(job, edit, &at, "DequantizeLinear", in, 3, *ret, axis);
}

static const char *first_output(const ps_node *n) {
    for (size_t k = 0; k < n->n_out; k++)
        if (n->out[k]) return n->out[k]->name;
    return "";
}

/* What the file calls a constant of the graph. */
static const char *file_name(const ps_job *job, const ps_node *n, size_t index) {
    for (size_t i = 0; i < job->rewires.size; i++)
        if (job->rewires.data[i].node == n && job->rewires.data[i].index == index) return job->rewires.data[i].old;
    return n->in[index]->name;
}

static ps_status emit_bias(ps_job *job, ps_onnx_edit *edit, const ps_layer *l, bool coded) {
    const ps_node *n = l->bias_node;
    const bool there = l->bias_index < n->n_in && n->in[l->bias_index];
    const char *old = there ? file_name(job, n, l->bias_index) : first_output(l->node), *name;
    ps_tensor *codes, *scales;
    size_t at;
    if (!coded) {
        if (there && l->bias == n->in[l->bias_index]->constant && old == n->in[l->bias_index]->name) return PS_OK;
        PS_TRY(add_tensor(job, edit, old, "corrected", l->bias, &name));
    } else {
        PS_TRY(ps_layer_bias(job, l, &codes, &scales, NULL));
        ps_status status = emit_decoded(job, edit, first_output(n), there ? old : l->weight_name, codes, scales->data,
                                        l->channels, 0, &name);
        ps_tensor_release(codes);
        ps_tensor_release(scales);
        PS_TRY(status);
    }
    PS_TRY(node_of(job, edit, n, &at));
    PS_TRY(ps_onnx_edit_set_input(edit, at, l->bias_index, name, job->err));
    if (there) ps_emit_drop(edit, old);
    return PS_OK;
}

static ps_status emit_layer(ps_job *job, ps_onnx_edit *edit, size_t index, const char **decoded) {
    ps_layer *l = &job->layers.data[index];
    const char *old = l->weight_name;
    if (!decoded[l->shared]) {
        const ps_layer *from = &job->layers.data[l->shared];
        PS_TRY(emit_decoded(job, edit, first_output(l->node), old, from->codes, from->scales, from->channels,
                            from->axis, &decoded[l->shared]));
    }
    PS_TRY(rewire(job, edit, l->node, 1, decoded[l->shared]));
    ps_emit_drop(edit, old);
    return l->bias ? emit_bias(job, edit, l, l->bias_node == l->node) : PS_OK;
}

static const ps_layer *coded_layer(const ps_job *job, const ps_rewire *r) {
    for (size_t i = 0; i < job->layers.size; i++) {
        const ps_layer *l = &job->layers.data[i];
        const bool weight = l->node == r->node && r->index == 1,
                   bias = l->bias_node == r->node && l->bias_index == r->index;
        if (l->quantized && (weight || (bias && l->bias))) return l;
    }
    return NULL;
}

/* Constants that equalisation changed, where no coded weight or bias takes their place. The last change of an input
 * holds them all; the first knows the file's name. */
static ps_status emit_rewire(ps_job *job, ps_onnx_edit *edit, size_t index) {
    const ps_rewire *r = &job->rewires.data[index];
    const char *name;
    for (size_t i = 0; i < index; i++)
        if (job->rewires.data[i].node == r->node && job->rewires.data[i].index == r->index) return PS_OK;
    if (coded_layer(job, r)) return PS_OK;
    PS_TRY(add_tensor(job, edit, r->old, "equalized", r->node->in[r->index]->constant, &name));
    PS_TRY(rewire(job, edit, r->node, r->index, name));
    ps_emit_drop(edit, r->old);
    return PS_OK;
}

ps_status ps_emit_static(ps_job *job, ps_onnx_edit *edit) {
    const char **decoded = ps_alloc_zero(job->alloc, (job->layers.size + 1) * sizeof *decoded);
    if (!decoded) return PS_FAIL_NOMEM(job->err, "a list of layers");
    ps_status status = PS_OK;
    for (size_t i = 0; i < job->rewires.size && status == PS_OK; i++)
        status = emit_rewire(job, edit, i);
    for (size_t i = 0; i < job->layers.size && status == PS_OK; i++)
        if (job->layers.data[i].quantized) status = emit_layer(job, edit, i, decoded);
    ps_free(job->alloc, decoded);
    for (size_t i = 0; i < job->sites.size && status == PS_OK; i++)
        if (job->sites.data[i].used) status = emit_site(job, edit, i);
    return status;
}
