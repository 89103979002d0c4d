/* quantized_operator.c - operators that say themselves that they compute on codes, in the form that quantised graphs
 * take here.
 *
 *     QGemm, MatMulIntegerToFloat, DynamicQuantizeMatMul        "polestar" QLinearMatMul
 *     Cast(MatMulInteger(a, W)) * scale, and of ConvInteger     the same, QLinearConv, with a result in f32
 *     that + bias                                               its bias
 *     QLinearMul by a number, QLinearSigmoid                    Lookup
 *     QLinearMatMul of two activations, QLinearConcat           DequantizeLinear, MatMul, QuantizeLinear: and on from
 * there */
#include "passes/quantized.h"

static bool is_ms(const ps_node *n, const char *op) {
    return strcmp(n->op_type, op) == 0 && strcmp(n->domain, "com.microsoft") == 0;
}

static bool is_code_value(const ps_value *v) {
    return v && (v->dtype == PS_DTYPE_U8 || v->dtype == PS_DTYPE_I8);
}

static bool is_matrix(const ps_value *v) {
    return v && ps_const(v) && is_code_value(v) && v->shape.rank == 2;
}

/* One number, or a list. */
static bool is_list(const ps_value *v, int64_t n) {
    return !v || ps_one_number(v) || (v->shape.rank == 1 && v->shape.dims[0] == n);
}

static bool is_float(const ps_value *v) {
    return v && v->dtype == PS_DTYPE_F32;
}

static ps_status replace_by_ours(ps_rw *rw, ps_node *n, const char *op, ps_value *const in[9], const ps_node *attrs) {
    ps_node *made;
    PS_TRY(ps_rw_begin(rw, n, op, "polestar", in, 9, &made));
    if (attrs) PS_TRY(ps_node_copy_attrs(made, attrs, rw->err));
    made->fused = NULL;
    PS_TRY(ps_rw_commit(rw, made, n));
    return ps_rw_finish(rw, made, 0);
}

/* ---- com.microsoft ---- */

static ps_status gemm(ps_rw *rw, ps_node *n) {
    const ps_gemm_params *p = n->params;
    ps_value *in[9], *c = ps_in(n, 6);
    if (!is_ms(n, "QGemm") || p->alpha != 1 || p->transA || !is_matrix(n->in[3])) return PS_OK;
    if (!ps_codes_suit(rw, n->in[1], n->in[2]) || !ps_codes_suit(rw, ps_in(n, 7), ps_in(n, 8))) return PS_OK;
    const int64_t columns = n->in[3]->shape.dims[p->transB ? 0 : 1];
    if (c && (!ps_const(c) || c->shape.rank != 1 || c->shape.dims[0] != columns)) return PS_OK;
    for (size_t i = 0; i < 6; i++)
        in[i] = n->in[i];
    in[PS_Q_Y_SCALE] = ps_in(n, 7);
    in[PS_Q_Y_ZERO] = ps_in(n, 8);
    in[PS_Q_BIAS] = c;
    if (p->transB) {
        ps_node *turned;
        PS_TRY(ps_rw_insert(rw, n, "Transpose", "", &in[PS_Q_W], 1, &turned));
        PS_TRY(ps_node_set_ints(turned, "perm", (int64_t[]) { 1, 0 }, 2, rw->err));
        PS_TRY(ps_rw_finish(rw, turned, 13));
        in[PS_Q_W] = turned->out[0];
    }
    return replace_by_ours(rw, n, "QLinearMatMul", in, NULL);
}

static ps_status to_float(ps_rw *rw, ps_node *n) {
    if (!is_ms(n, "MatMulIntegerToFloat") || !is_matrix(n->in[1]) || !is_float(n->in[2])) return PS_OK;
    const int64_t columns = n->in[1]->shape.dims[1];
    if (n->in[0]->shape.rank < 2 || !ps_one_number(n->in[2]) || !ps_codes_suit(rw, n->in[2], ps_in(n, 4))) return PS_OK;
    if (!is_list(n->in[3], columns) || !is_list(ps_in(n, 5), columns) || !is_list(ps_in(n, 6), columns)) return PS_OK;
    if (ps_in(n, 6) && n->in[6]->shape.rank != 1) return PS_OK;
    ps_value *in[9] = { n->in[0], n->in[2], ps_in(n, 4), n->in[1], n->in[3], ps_in(n, 5), NULL, NULL, ps_in(n, 6) };
    return replace_by_ours(rw, n, "QLinearMatMul", in, NULL);
}

static ps_status dynamic(ps_rw *rw, ps_node *n) {
    ps_value *codes[3];
    ps_node *q;
    if (rw->caps->fixed_int8) return PS_OK;
    if (!is_ms(n, "DynamicQuantizeMatMul") || !is_matrix(n->in[1]) || !is_float(n->in[0])) return PS_OK;
    const int64_t columns = n->in[1]->shape.dims[1];
    if (n->in[0]->shape.rank < 2 || !is_list(n->in[2], columns) || !is_list(ps_in(n, 3), columns)) return PS_OK;
    if (ps_in(n, 4) && (n->in[4]->shape.rank != 1 || n->in[4]->shape.dims[0] != columns)) return PS_OK;
    for (int i = 0; i < 3; i++)
        PS_TRY(ps_graph_add_value(n->graph, NULL, &codes[i], rw->err));
    PS_TRY(ps_graph_add_node(n->graph, n, "DynamicQuantizeLinear", "", NULL, n->in, 1, codes, 3, &q, rw->err));
    PS_TRY(ps_rw_finish(rw, q, 11));
    ps_value *in[9] = { codes[0], codes[1], codes[2], n->in[1], n->in[2], ps_in(n, 3), NULL, NULL, ps_in(n, 4) };
    return replace_by_ours(rw, n, "QLinearMatMul", in, NULL);
}

/* ---- dynamic quantisation as it is exported: integer product, Cast, Mul by both scales, Add ---- */

/* The scale of the left side, and that of the weights: a product of the two, in either order. */
static bool split_scales(const ps_value *v, ps_value **ret_x, ps_value **ret_w) {
    const ps_node *mul = v->producer;
    if (!ps_is(mul, "Mul")) return false;
    for (int i = 0; i < 2; i++) {
        if (!ps_const(mul->in[i]) || ps_const(mul->in[1 - i])) continue;
        *ret_w = mul->in[i];
        *ret_x = mul->in[1 - i];
        return ps_one_number(*ret_x) && is_float(*ret_x) && is_float(*ret_w);
    }
    return false;
}

static ps_node *integer_product(const ps_value *v, const ps_graph *g) {
    ps_node *cast = ps_sole_producer(v, g);
    if (!ps_is(cast, "Cast") || cast->out[0]->dtype != PS_DTYPE_F32) return NULL;
    ps_node *n = ps_sole_producer(cast->in[0], g);
    if (!ps_is(n, "MatMulInteger") && !ps_is(n, "ConvInteger")) return NULL;
    const ps_value *w = n->in[1];
    if (!ps_const(w) || !is_code_value(w) || !is_code_value(n->in[0])) return NULL;
    if (ps_is(n, "MatMulInteger") && (w->shape.rank != 2 || n->in[0]->shape.rank < 2)) return NULL;
    if (ps_in(n, 2) && !ps_one_number(n->in[2])) return NULL;
    const int64_t columns = ps_is(n, "ConvInteger") ? w->shape.dims[0] : w->shape.dims[1];
    return is_list(ps_in(n, 3), columns) ? n : NULL;
}

static ps_status scaled_product(ps_rw *rw, ps_node *n) {
    if (!ps_is(n, "Mul")) return PS_OK;
    for (int i = 0; i < 2; i++) {
        ps_node *p = integer_product(n->in[i], n->graph);
        ps_value *x, *w;
        if (!p || !split_scales(n->in[1 - i], &x, &w)) continue;
        if (!ps_codes_suit(rw, x, ps_in(p, 2))) return PS_OK;
        const bool conv = ps_is(p, "ConvInteger");
        const int64_t columns = p->in[1]->shape.dims[conv ? 0 : 1];
        if (conv ? !ps_one_number(w) : !is_list(w, columns)) return PS_OK;
        ps_value *in[9] = { p->in[0], x, ps_in(p, 2), p->in[1], w, ps_in(p, 3) };
        return replace_by_ours(rw, n, conv ? "QLinearConv" : "QLinearMatMul", in, conv ? p : NULL);
    }
    return PS_OK;
}

/* A list along the channels of a result of `rank` dims, whose channels are dim `axis`. */
static bool along(const ps_value *v, int64_t channels, int rank, int axis) {
    const ps_tensor *t = ps_const_floats(v);
    if (!t || (int64_t)ps_tensor_count(t) != channels || t->shape.rank > rank) return false;
    const int d = axis - (rank - t->shape.rank);
    return d >= 0 && t->shape.dims[d] == channels;
}

static ps_status bias_behind(ps_rw *rw, ps_node *n) {
    if (!ps_is(n, "Add") || n->n_in != 2) return PS_OK;
    for (int i = 0; i < 2; i++) {
        ps_node *p = ps_sole_producer(n->in[i], n->graph);
        ps_value *v = n->in[1 - i];
        const bool conv = ps_is_ours(p, "QLinearConv");
        bool done;
        if ((!conv && !ps_is_ours(p, "QLinearMatMul")) || p->out[0]->dtype != PS_DTYPE_F32) continue;
        if (ps_in(p, PS_Q_BIAS)) continue;
        const ps_shape *w = &p->in[PS_Q_W]->shape, *y = &p->out[0]->shape;
        const int64_t channels = conv ? w->dims[0] : w->dims[w->rank - 1];
        if (y->rank < 2 || !along(v, channels, y->rank, conv ? 1 : y->rank - 1)) continue;
        const ps_shape list = ps_shape_make(1, &channels);
        PS_TRY(ps_rw_floats(rw, n->graph, &list, v->constant->data, &v));
        if (p->n_in <= PS_Q_BIAS) PS_TRY(ps_node_resize_inputs(p, PS_Q_BIAS + 1, rw->err));
        PS_TRY(ps_node_set_input(p, PS_Q_BIAS, v, rw->err));
        PS_TRY(ps_rw_fused(rw, p, "Bias"));
        PS_TRY(ps_rw_bypass(rw, n, p->out[0], &done));
        return ps_rw_finish(rw, p, 0);
    }
    return PS_OK;
}

/* ---- what has no kernel: as floats between codes ---- */

static ps_status dequantized(ps_rw *rw, ps_node *n, size_t at, ps_value **ret) {
    ps_value *in[3] = { n->in[at], n->in[at + 1], ps_in(n, at + 2) };
    ps_node *made;
    PS_TRY(ps_rw_insert(rw, n, "DequantizeLinear", "", in, in[2] ? 3 : 2, &made));
    *ret = made->out[0];
    return ps_rw_finish(rw, made, 13);
}

static ps_status expand(ps_rw *rw, ps_node *n, const char *op, int n_operands, size_t result) {
    ps_value *in[2] = { NULL };
    ps_node *middle, *made;
    for (int i = 0; i < n_operands; i++) {
        if (!ps_one_number(n->in[3 * i + 1]) || (n->in[3 * i + 2] && !ps_one_number(n->in[3 * i + 2]))) return PS_OK;
        if (!is_code_value(n->in[3 * i]) || !is_float(n->in[3 * i + 1])) return PS_OK;
    }
    if (!ps_one_number(n->in[result]) || (ps_in(n, result + 1) && !ps_one_number(n->in[result + 1]))) return PS_OK;
    if (!ps_in(n, result + 1) && n->out[0]->dtype != PS_DTYPE_U8) return PS_OK;
    for (int i = 0; i < n_operands; i++)
        PS_TRY(dequantized(rw, n, 3 * (size_t)i, &in[i]));
    PS_TRY(ps_rw_insert(rw, n, op, "", in, (size_t)n_operands, &middle));
    if (n->op->attrs && n_operands == 1) PS_TRY(ps_node_copy_attrs(middle, n, rw->err));
    middle->fused = NULL;
    middle->name = n->name;
    PS_TRY(ps_rw_finish(rw, middle, 13));
    ps_value *out[3] = { middle->out[0], n->in[result], ps_in(n, result + 1) };
    PS_TRY(ps_rw_replace(rw, n, "QuantizeLinear", "", out, out[2] ? 3 : 2, &made));
    made->fused = NULL;
    return ps_rw_finish(rw, made, 13);
}

/* Concat of dequantised parts, quantised. */
static ps_status concat(ps_rw *rw, ps_node *n) {
    const size_t parts = (n->n_in - 2) / 3;
    ps_node *middle, *made;
    ps_value **in = ps_arena_array(&rw->root->arena, parts + 1, sizeof *in);
    if (!in) return PS_FAIL_NOMEM(rw->err, "a node");
    for (size_t i = 0; i < parts; i++)
        if (!ps_one_number(n->in[3 + 3 * i]) || !n->in[4 + 3 * i] || !ps_one_number(n->in[4 + 3 * i])) return PS_OK;
    if (!ps_one_number(n->in[0]) || !ps_one_number(n->in[1])) return PS_OK;
    for (size_t i = 0; i < parts; i++)
        PS_TRY(dequantized(rw, n, 2 + 3 * i, &in[i]));
    PS_TRY(ps_rw_insert(rw, n, "Concat", "", in, parts, &middle));
    PS_TRY(ps_node_copy_attrs(middle, n, rw->err));
    middle->name = n->name;
    PS_TRY(ps_rw_finish(rw, middle, 13));
    ps_value *out[3] = { middle->out[0], n->in[0], n->in[1] };
    PS_TRY(ps_rw_replace(rw, n, "QuantizeLinear", "", out, 3, &made));
    made->fused = NULL;
    return ps_rw_finish(rw, made, 13);
}

static ps_status without_kernel(ps_rw *rw, ps_node *n) {
    if (ps_is(n, "QLinearMatMul"))
        return is_matrix(n->in[3]) && n->in[0]->shape.rank >= 2 ? PS_OK : expand(rw, n, "MatMul", 2, 6);
    if (is_ms(n, "QLinearSigmoid") || is_ms(n, "QLinearLeakyRelu")) return ps_quantize_lookup_of(rw, n, 0);
    if (is_ms(n, "QLinearReduceMean")) return expand(rw, n, "ReduceMean", 1, 3);
    if (is_ms(n, "QLinearSoftmax") && ps_attr_int(n, "opset", 0) >= 13) return expand(rw, n, "Softmax", 1, 3);
    if (is_ms(n, "QLinearConcat")) return concat(rw, n);
    for (int i = 0; i < 2 && (is_ms(n, "QLinearAdd") || is_ms(n, "QLinearMul")); i++) /* with a number: a Lookup */
        if (ps_const(n->in[3 * i]) && ps_one_number(n->in[3 * i])) return ps_quantize_lookup_of(rw, n, 3 - 3 * i);
    return PS_OK;
}

ps_status ps_quantize_operator(ps_rw *rw, ps_node *n) {
    static const ps_rw_fn rewrites[] = { gemm, to_float, dynamic, scaled_product, bias_behind, without_kernel };
    const size_t before = rw->changes;
    for (size_t i = 0; i < sizeof rewrites / sizeof *rewrites && rw->changes == before; i++)
        PS_TRY(rewrites[i](rw, n));
    return PS_OK;
}
