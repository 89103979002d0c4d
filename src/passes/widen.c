/* widen.c - f16 and bf16 become f32 where the device computes nothing narrower: inputs are converted once, weights when
 * the model is loaded, outputs at the end. Results are as exact as the model's own or more: they are not rounded in
 * between. Tables that are only looked up stay as they are: a Cast behind them is sunk below the Gather (sink_cast.c).
 *
 * Done once for the whole tree, before any other pass. Types between inputs and outputs are inferred anew. */
#include "passes/rewrite.h"
#include "tensor/convert.h"

static bool is_half(ps_dtype t) {
    return t == PS_DTYPE_F16 || t == PS_DTYPE_BF16;
}

/* Attributes that name the type of a result, by ONNX's numbers, which are ours. */
static bool names_type(const ps_attr *a) {
    static const char *const names[] = {
        "to", "dtype", "output_dtype", "output_datatype", "precision", "softmax_precision", "stash_type"
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (a->type == PS_ATTR_INT && strcmp(a->name, names[i]) == 0) return is_half((ps_dtype)a->u.i);
    }
    return false;
}

/* ---- what is there ---- */

static bool only_cast(const ps_value *v) {
    for (uint32_t i = 0; i < v->n_uses; i++) {
        if (!ps_is(v->uses[i].node, "Cast")) return false;
    }
    return !v->n_outputs;
}

/* A constant from which rows are gathered, and nothing else. */
static bool is_table(const ps_value *v) {
    if (!v->constant || v->is_input || v->n_outputs || !v->n_uses) return false;
    for (uint32_t i = 0; i < v->n_uses; i++) {
        if (!ps_is(v->uses[i].node, "Gather") || v->uses[i].index != 0) return false;
    }
    return true;
}

/* A constant that only Casts read, or of which only Casts read the rows: what sink_cast.c makes of a table. */
static bool read_by_casts(const ps_value *v) {
    if (!v->constant || v->is_input || !v->n_uses) return false;
    if (!is_table(v)) return only_cast(v);
    for (uint32_t i = 0; i < v->n_uses; i++) {
        const ps_value *rows = v->uses[i].node->out[0]; /* NULL: nobody named it */
        if (rows && !only_cast(rows)) return false;
    }
    return true;
}

/* Such a constant, or rows of it. */
static bool stays_narrow(const ps_value *v) {
    const ps_value *table = ps_is(v->producer, "Gather") ? v->producer->in[0] : NULL;
    return read_by_casts(v) || (table && read_by_casts(table));
}

/* A value that has to change. The input of a model stays, and so does what a Cast makes of f32 for an output. */
static bool to_be_widened(const ps_rw *rw, const ps_value *v) {
    if (!is_half(v->dtype) || stays_narrow(v)) return false;
    if (v->is_input && v->graph == rw->root) return !only_cast(v);
    const ps_node *p = v->producer;
    if (!p && !v->constant) return v->is_input;
    return !ps_is(p, "Cast") || v->n_uses || !v->n_outputs || is_half(p->in[0]->dtype);
}

/* Bits of a half may be looked at, and containers have element types that nothing here follows. */
static bool can_widen(const ps_rw *rw) {
    for (const ps_value *v = rw->root->all_values; v; v = v->next_all) {
        if (is_half(v->elem)) return false;
        if (is_half(v->dtype) && ps_is(v->producer, "BitCast")) return false;
        for (uint32_t i = 0; is_half(v->dtype) && i < v->n_uses; i++) {
            if (ps_is(v->uses[i].node, "BitCast")) return false;
        }
    }
    return true;
}

static bool anything_to_widen(const ps_rw *rw) {
    for (const ps_value *v = rw->root->all_values; v; v = v->next_all) {
        if (to_be_widened(rw, v)) return true;
    }
    return false;
}

/* ---- changing it ---- */

static ps_status widen_tensor(ps_rw *rw, const ps_tensor *t, ps_tensor **ret) {
    PS_TRY(ps_tensor_need(t, rw->err));
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &t->shape, ret, rw->err));
    ps_convert(t->data, t->dtype, (*ret)->data, PS_DTYPE_F32, ps_tensor_count(t), true);
    return PS_OK;
}

static ps_status widen_attrs(ps_rw *rw, ps_node *n) {
    for (uint32_t i = 0; i < n->n_attrs; i++) {
        ps_attr a = n->attrs[i];
        if (names_type(&a)) {
            PS_TRY(ps_node_set_int(n, a.name, PS_DTYPE_F32, rw->err));
        } else if (a.type == PS_ATTR_TENSOR && is_half(a.u.tensor->dtype)) {
            ps_tensor *wide;
            PS_TRY(widen_tensor(rw, a.u.tensor, &wide));
            a.u.tensor = wide;
            const ps_status status = ps_node_set_attr(n, &a, rw->err);
            ps_tensor_release(wide);
            PS_TRY(status);
        }
    }
    return PS_OK;
}

static ps_status widen_nodes(ps_rw *rw, ps_graph *g) {
    for (ps_node *n = g->first; n; n = n->next) {
        PS_TRY(widen_attrs(rw, n));
        PS_TRY(ps_ops_resolve_node(n, rw->err));
    }
    return PS_OK;
}

static ps_status cast(ps_rw *rw, ps_graph *g, ps_node *before, ps_value *from, ps_value *to, ps_dtype dtype) {
    ps_node *made;
    PS_TRY(ps_graph_add_node(g, before, "Cast", "", NULL, &from, 1, &to, 1, &made, rw->err));
    PS_TRY(ps_node_set_int(made, "to", dtype, rw->err));
    return ps_rw_finish(rw, made, 13);
}

/* Every reader reads the conversion. */
static ps_status convert_value(ps_rw *rw, ps_value *v) {
    ps_graph *g = v->graph;
    ps_value *wide;
    PS_TRY(ps_graph_add_value(g, NULL, &wide, rw->err));
    PS_TRY(ps_value_replace(v, wide, rw->err));
    return cast(rw, g, g->first, v, wide, PS_DTYPE_F32);
}

static ps_status widen_inputs(ps_rw *rw) {
    ps_graph *g = rw->root;
    for (size_t i = 0; i < g->n_inputs; i++)
        if (to_be_widened(rw, g->inputs[i])) PS_TRY(convert_value(rw, g->inputs[i]));
    return PS_OK;
}

/* types: of the outputs, as they were. */
static ps_status narrow_outputs(ps_rw *rw, const ps_dtype *types) {
    ps_graph *g = rw->root;
    for (size_t i = 0; i < g->n_outputs; i++) {
        ps_value *narrow, *v = g->outputs[i];
        if (!is_half(types[i]) || v->dtype == types[i]) continue;
        PS_TRY(ps_graph_add_value(g, NULL, &narrow, rw->err));
        PS_TRY(cast(rw, g, NULL, v, narrow, types[i]));
        ps_graph_set_output(g, i, narrow);
    }
    return PS_OK;
}

static ps_status widen_values(ps_rw *rw) {
    for (ps_value *v = rw->root->all_values; v; v = v->next_all) {
        ps_tensor *wide;
        if (!is_half(v->dtype) || stays_narrow(v) || (v->is_input && v->graph == rw->root)) continue;
        if (is_table(v)) {
            PS_TRY(convert_value(rw, v));
            continue;
        }
        v->dtype = PS_DTYPE_UNDEFINED;
        if (!v->constant) continue;
        if (ps_weight_only(v))
            PS_TRY(ps_tensor_widened(rw->root->alloc, v->constant, &wide, rw->err));
        else
            PS_TRY(widen_tensor(rw, v->constant, &wide));
        ps_value_set_constant(v, wide);
        ps_tensor_release(wide);
        v->dtype = PS_DTYPE_F32;
    }
    return PS_OK;
}

ps_status ps_pass_widen(ps_rw *rw) {
    ps_graph *g = rw->root;
    if (!rw->caps->widen_half || !anything_to_widen(rw) || !can_widen(rw)) return PS_OK;
    ps_dtype *types = ps_arena_array(&g->arena, g->n_outputs + 1, sizeof *types);
    if (!types) return PS_FAIL_NOMEM(rw->err, "types of outputs");
    for (size_t i = 0; i < g->n_outputs; i++)
        types[i] = g->outputs[i]->dtype;
    PS_TRY(widen_inputs(rw));
    PS_TRY(widen_values(rw));
    PS_TRY(widen_nodes(rw, g));
    for (ps_graph *sub = g->all_graphs; sub; sub = sub->next_all)
        PS_TRY(widen_nodes(rw, sub));
    PS_TRY(ps_ops_infer(g, rw->err));
    PS_TRY(narrow_outputs(rw, types));
    rw->changes++;
    return PS_OK;
}
