/* quantized_product.c - Conv, MatMul and Gemm of dequantised operands → "polestar" QLinearConv and QLinearMatMul. */
#include <math.h>

#include "passes/quantized.h"

typedef struct product {
    ps_coded x, w;
    ps_value *bias; /* i32 in units of the sums, f32, or NULL */
    ps_node *pad;   /* whose padding goes into the convolution, or NULL */
} product;

/* ---- bias ---- */

/* A constant i32 with constant scales, as quantisers write a bias. */
static bool coded_bias(const ps_value *v, const ps_tensor **codes, const ps_tensor **scale) {
    const ps_node *n = v->producer;
    if (!ps_is(n, "DequantizeLinear") || ps_attr_int(n, "block_size", 0)) return false;
    *codes = ps_const(n->in[0]);
    *scale = ps_const(n->in[1]);
    const ps_tensor *zero = ps_const(ps_in(n, 2));
    if (!*codes || (*codes)->dtype != PS_DTYPE_I32 || (*codes)->shape.rank != 1 || !*scale) return false;
    if ((*scale)->dtype != PS_DTYPE_F32 || (ps_in(n, 2) && !zero)) return false;
    for (size_t i = 0; zero && i < ps_tensor_count(zero); i++)
        if (zero->dtype != PS_DTYPE_I32 || ps_code_at(zero, (int64_t)i)) return false;
    const size_t n_scales = ps_tensor_count(*scale);
    return n_scales == 1 || n_scales == ps_tensor_count(*codes);
}

static float scale_at(const ps_tensor *t, int64_t i) {
    return ((const float *)t->data)[ps_tensor_count(t) == 1 ? 0 : i];
}

/* Whether the bias has the scales of the sums: those of x times those of the weights. */
static bool scales_agree(const product *p, const ps_tensor *scale, int64_t count) {
    const ps_tensor *x = ps_const(p->x.scale), *w = ps_const(p->w.scale);
    if (!x || !w || (ps_tensor_count(w) != 1 && (int64_t)ps_tensor_count(w) != count)) return false;
    for (int64_t i = 0; i < count; i++) {
        const float want = scale_at(x, 0) * scale_at(w, i);
        if (!(fabsf(scale_at(scale, i) - want) <= 1e-5f * fabsf(want))) return false;
    }
    return true;
}

static ps_status float_bias(ps_rw *rw, ps_graph *g, const ps_tensor *codes, const ps_tensor *scale, ps_value **ret) {
    ps_tensor *t;
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &codes->shape, &t, rw->err));
    for (size_t i = 0; i < ps_tensor_count(codes); i++)
        ((float *)t->data)[i] = (float)ps_code_at(codes, (int64_t)i) * scale_at(scale, (int64_t)i);
    return ps_rw_constant(rw, g, t, ret);
}

/* v is the bias of the float operator: a list, or [1, N]. *ret_ok: it could be said. */
static ps_status take_bias(ps_rw *rw, ps_node *n, ps_value *v, int64_t channels, product *p, bool *ret_ok) {
    const ps_tensor *codes, *scale, *t = ps_const_floats(v);
    *ret_ok = !v;
    p->bias = NULL;
    if (!v) return PS_OK;
    if (coded_bias(v, &codes, &scale) && codes->shape.dims[0] == channels) {
        *ret_ok = true;
        p->bias = v->producer->in[0];
        if (scales_agree(p, scale, channels)) return PS_OK;
        return float_bias(rw, n->graph, codes, scale, &p->bias);
    }
    if (!t || (int64_t)ps_tensor_count(t) != channels || t->shape.rank < 1 ||
        t->shape.dims[t->shape.rank - 1] != channels)
        return PS_OK;
    *ret_ok = true;
    p->bias = v;
    if (t->shape.rank == 1) return PS_OK;
    const ps_shape list = ps_shape_make(1, &channels);
    return ps_rw_floats(rw, n->graph, &list, t->data, &p->bias);
}

/* ---- operands ---- */

/* A Pad with the zero point around spatial dims, as large as a convolution may have it. */
static ps_node *pad_before(const ps_node *conv, const ps_coded *x, int64_t pads[2 * PS_MAX_RANK]) {
    ps_node *n = x->codes->producer;
    const ps_attr *mode = n ? ps_node_attr(n, "mode") : NULL, *automatic = ps_node_attr(conv, "auto_pad");
    size_t count;
    if (!ps_is(n, "Pad") || ps_in(n, 3) || (mode && (mode->type != PS_ATTR_STRING || strcmp(mode->u.s, "constant"))))
        return NULL;
    if (automatic && automatic->type == PS_ATTR_STRING && strcmp(automatic->u.s, "NOTSET") != 0) return NULL;
    const ps_tensor *value = ps_const(ps_in(n, 2)), *zero = ps_const(x->zero);
    if ((ps_in(n, 2) && !value) || (x->zero && !zero)) return NULL;
    if ((value ? ps_code_at(value, 0) : 0) != (zero ? ps_code_at(zero, 0) : 0)) return NULL;
    const int rank = n->in[0]->shape.rank;
    if (rank < 3 || !ps_const_ints(n, 1, pads, 2 * PS_MAX_RANK, &count) || count != 2 * (size_t)rank) return NULL;
    for (int d = 0; d < 2 * rank; d++)
        if (pads[d] < 0 || pads[d] > INT32_MAX || (d % rank < 2 && pads[d])) return NULL;
    return n;
}

static ps_status add_pads(ps_rw *rw, ps_node *made, const int64_t *more, int rank) {
    const ps_attr *a = ps_node_attr(made, "pads");
    int64_t pads[2 * PS_MAX_RANK] = { 0 };
    const size_t n = (size_t)rank - 2;
    for (size_t i = 0; i < 2 * n; i++) {
        if (a && a->type == PS_ATTR_INTS && a->n == 2 * n) pads[i] = a->u.ints[i];
        pads[i] += more[i < n ? i + 2 : i + 4];
    }
    return ps_node_set_ints(made, "pads", pads, 2 * n, rw->err);
}

static bool conv_operands(const ps_node *n, product *p) {
    const ps_shape *w;
    if (!ps_is(n, "Conv") || !ps_is_coded(n->in[0], &p->x) || !ps_is_coded_constant(n->in[1], &p->w)) return false;
    w = &p->w.codes->shape;
    return w->rank >= 3 && p->w.axis <= 0;
}

static bool matrix_operands(const ps_node *n, product *p, bool *ret_transposed) {
    *ret_transposed = ps_is(n, "Gemm") && ps_attr_int(n, "transB", 0);
    if (!ps_is(n, "MatMul") && !ps_is(n, "Gemm")) return false;
    if (!ps_is_coded(n->in[0], &p->x)) return false;
    if (ps_is(n, "Gemm")) {
        const ps_gemm_params *g = n->params;
        if (g->alpha != 1 || (ps_has_in(n, 2) && g->beta != 1) || g->transA) return false;
    }
    if (!ps_is_coded_constant(n->in[1], &p->w)) {
        return ps_is(n, "MatMul") && ps_is_coded(n->in[1], &p->w) && p->x.codes->shape.rank >= 2 &&
               p->w.codes->shape.rank >= 2;
    }
    const int columns = *ret_transposed ? 0 : p->w.codes->shape.rank - 1;
    return p->w.codes->shape.rank == 2 && (p->w.axis < 0 || p->w.axis == columns) && n->in[0]->shape.rank >= 2;
}

/* ---- why not ---- */

enum { MAX_SUM = 32768 }; /* products of codes that a sum of 32 bits holds, with room for zero points */

static int64_t sum_length(const ps_node *n, const product *p, bool flip) {
    const ps_shape *w = &p->w.codes->shape;
    if (ps_is(n, "Conv")) return ps_shape_product(w, 1, w->rank);
    return w->dims[flip ? 1 : w->rank - 2];
}

static bool is_dequantized(const ps_value *v) {
    return v && ps_is(v->producer, "DequantizeLinear");
}

static const char *why_operand(const ps_value *v) {
    ps_coded c;
    const ps_node *n = v->producer;
    if (!is_dequantized(v)) return "the other operand is not quantised";
    if (n->in[0]->dtype != PS_DTYPE_U8 && n->in[0]->dtype != PS_DTYPE_I8) return "codes are not of 8 bits";
    if (ps_attr_int(n, "block_size", 0)) return "scales are of blocks";
    return ps_is_coded(v, &c) || ps_is_coded_constant(v, &c) ? NULL : "scales are not constants, or not of one axis";
}

const char *ps_why_not_quantized(const ps_node *n) {
    product p = { .bias = NULL };
    bool flip = false;
    if (!n->op || (!ps_is(n, "Conv") && !ps_is(n, "MatMul") && !ps_is(n, "Gemm") && !ps_is(n, "ConvTranspose")))
        return NULL;
    if (!is_dequantized(n->in[0]) && !is_dequantized(n->in[1])) return NULL;
    if (ps_is(n, "ConvTranspose")) return "there is no such operator on codes";
    for (int i = 0; i < 2; i++)
        if (why_operand(n->in[i])) return why_operand(n->in[i]);
    if (!ps_is(n, "MatMul") && !ps_const(n->in[1]->producer->in[0])) return "its weights are made at run time";
    if (!conv_operands(n, &p) && !matrix_operands(n, &p, &flip))
        return ps_is(n, "Gemm") ? "alpha, beta or transA"
                                : "scales of the weights lie along the sum, or ranks do not fit";
    if (sum_length(n, &p, flip) > MAX_SUM) return "its sums are too long for 32 bits";
    return NULL; /* or a bias that is made at run time */
}

/* ---- making it ---- */

static bool suits(const ps_rw *rw, const ps_node *n, const product *p, bool to_codes) {
    if (rw->caps->fixed_int8 && !ps_const(p->w.codes)) return false;
    return ps_codes_suit(rw, p->x.scale, p->x.zero) && ps_codes_suit(rw, p->w.scale, p->w.zero) &&
           (!to_codes || ps_codes_suit(rw, n->in[1], ps_in(n, 2)));
}

static ps_status make(ps_rw *rw, ps_node *n, const ps_node *from, product *p, const char *op,
                      const ps_code_range *range, const int64_t *pads) {
    ps_value *in[9] = { p->x.codes, p->x.scale, p->x.zero, p->w.codes, p->w.scale, p->w.zero, NULL, NULL, p->bias };
    ps_node *made;
    if (pads) in[PS_Q_X] = p->x.codes->producer->in[0];
    if (range) {
        in[PS_Q_Y_SCALE] = n->in[1];
        PS_TRY(ps_zero_or_new(rw, n->graph, ps_in(n, 2), n->out[0]->dtype, &in[PS_Q_Y_ZERO]));
    }
    PS_TRY(ps_rw_begin(rw, n, op, "polestar", in, 9, &made));
    if (strcmp(op, "QLinearConv") == 0) PS_TRY(ps_node_copy_attrs(made, from, rw->err));
    made->fused = NULL;
    made->name = from->name;
    if (pads) PS_TRY(add_pads(rw, made, pads, p->x.codes->shape.rank));
    if (range) PS_TRY(ps_set_range(rw, made, range));
    if (range && from != n && n->in[0]->producer != from) PS_TRY(ps_rw_fused(rw, made, "Clip"));
    PS_TRY(ps_rw_commit(rw, made, n));
    return ps_rw_finish(rw, made, 0);
}

static ps_status transposed(ps_rw *rw, ps_node *n, ps_value **w) {
    ps_node *made;
    PS_TRY(ps_rw_insert(rw, n, "Transpose", "", w, 1, &made));
    PS_TRY(ps_node_set_ints(made, "perm", (int64_t[]) { 1, 0 }, 2, rw->err));
    *w = made->out[0];
    return ps_rw_finish(rw, made, 13);
}

ps_status ps_quantize_product(ps_rw *rw, ps_node *n, ps_node *from, const ps_code_range *range) {
    int64_t pads[2 * PS_MAX_RANK];
    product p = { .bias = NULL };
    bool flip = false, ok;
    if (!from || !from->op || from->graph != n->graph || from->out[0]->dtype != PS_DTYPE_F32) return PS_OK;
    const bool conv = conv_operands(from, &p);
    if (!conv && !matrix_operands(from, &p, &flip)) return PS_OK;
    if (!suits(rw, n, &p, range != NULL)) return PS_OK;
    const ps_shape *w = &p.w.codes->shape;
    if (sum_length(from, &p, flip) > MAX_SUM || w->rank > 5) return PS_OK;
    const int64_t channels = conv || flip ? w->dims[0] : w->dims[w->rank - 1];
    PS_TRY(take_bias(rw, n, ps_is(from, "MatMul") ? NULL : ps_in(from, 2), channels, &p, &ok));
    if (!ok) return PS_OK;
    if (flip) PS_TRY(transposed(rw, n, &p.w.codes));
    const bool padded = conv && pad_before(from, &p.x, pads);
    return make(rw, n, from, &p, conv ? "QLinearConv" : "QLinearMatMul", range, padded ? pads : NULL);
}
