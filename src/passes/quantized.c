/* quantized.c - operators between DequantizeLinear and QuantizeLinear compute on 8-bit codes.
 *
 *     QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(W), b))   →   "polestar" QLinearConv, a Relu or Clip
 * too Conv(DequantizeLinear(x), DequantizeLinear(W))                      →   the same with a result in f32
 *     QuantizeLinear(Add(DequantizeLinear(a), DequantizeLinear(b)))       →   "polestar" QLinearAdd; Mul, pools, Concat
 *     QuantizeLinear(f(DequantizeLinear(x)))                              →   Lookup: 256 results of f, computed once
 *     Reshape(DequantizeLinear(x))                                        →   DequantizeLinear(Reshape(x)), Transpose,
 *                                                                            Pad with zeros
 * ... QuantizeLinear(DequantizeLinear(x)), the same scale                 →   x
 *
 * so that codes go from operator to operator. Operators that say so themselves (QLinearConv, QGemm, MatMulInteger ...)
 * come to the same nodes (quantized_operator.c). i8 that is made and read here becomes u8, which products take as it
 * is. */
#include "passes/quantized.h"

#include <float.h>
#include <math.h>

/* ---- values as codes ---- */

bool ps_one_number(const ps_value *v) {
    int64_t n;
    return v && ps_shape_fixed(&v->shape) && ps_shape_elements(&v->shape, &n) && n == 1;
}

static bool is_code(ps_dtype t) {
    return t == PS_DTYPE_U8 || t == PS_DTYPE_I8;
}

int64_t ps_code_at(const ps_tensor *t, int64_t i) {
    if (ps_tensor_count(t) == 1) i = 0;
    switch (t->dtype) {
    case PS_DTYPE_I8: return ((const int8_t *)t->data)[i];
    case PS_DTYPE_U8: return ((const uint8_t *)t->data)[i];
    default: return ((const int32_t *)t->data)[i];
    }
}

/* A DequantizeLinear or QuantizeLinear between f32 and codes at input or output 0, without blocks. */
static bool is_linear(const ps_node *n, const char *op) {
    if (!ps_is(n, op) || n->in[1]->dtype != PS_DTYPE_F32 || ps_attr_int(n, "block_size", 0)) return false;
    const bool to_codes = op[0] == 'Q';
    const ps_value *code = to_codes ? n->out[0] : n->in[0], *real = to_codes ? n->in[0] : n->out[0];
    return is_code(code->dtype) && real->dtype == PS_DTYPE_F32 && !ps_attr_int(n, "precision", 0);
}

bool ps_is_coded(const ps_value *v, ps_coded *ret) {
    const ps_node *n = v ? v->producer : NULL;
    if (!is_linear(n, "DequantizeLinear") || !ps_one_number(n->in[1])) return false;
    if (ps_in(n, 2) && !ps_one_number(n->in[2])) return false;
    *ret = (ps_coded) { n->in[0], n->in[1], ps_in(n, 2), -1 };
    return true;
}

bool ps_is_coded_constant(const ps_value *v, ps_coded *ret) {
    const ps_node *n = v ? v->producer : NULL;
    if (!is_linear(n, "DequantizeLinear")) return false;
    const ps_tensor *w = ps_const(n->in[0]), *s = ps_const(n->in[1]), *z = ps_const(ps_in(n, 2));
    if (!w || !s || (ps_in(n, 2) && !z)) return false;
    *ret = (ps_coded) { n->in[0], n->in[1], ps_in(n, 2), -1 };
    if (ps_one_number(n->in[1])) return !z || ps_one_number(n->in[2]);
    if (!ps_axis_normalize(ps_attr_int(n, "axis", 1), w->shape.rank, &ret->axis)) return false;
    const int64_t count = w->shape.dims[ret->axis];
    return s->shape.rank == 1 && s->shape.dims[0] == count && (!z || (z->shape.rank == 1 && z->shape.dims[0] == count));
}

bool ps_codes_suit(const ps_rw *rw, const ps_value *scale, const ps_value *zero) {
    return !rw->caps->fixed_int8 || ((!scale || ps_const(scale)) && (!zero || ps_const(zero)));
}

bool ps_is_coding(const ps_node *n) {
    return is_linear(n, "QuantizeLinear") && ps_one_number(n->in[1]) && (!ps_in(n, 2) || ps_one_number(n->in[2]));
}

ps_status ps_code_number(ps_rw *rw, ps_graph *g, ps_dtype type, int64_t v, ps_value **ret) {
    const ps_shape scalar = ps_shape_make(0, NULL);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(rw->root->alloc, type, &scalar, &t, rw->err));
    *(uint8_t *)t->data = (uint8_t)v;
    return ps_rw_constant(rw, g, t, ret);
}

ps_status ps_zero_or_new(ps_rw *rw, ps_graph *g, ps_value *zero, ps_dtype type, ps_value **ret) {
    *ret = zero;
    return zero ? PS_OK : ps_code_number(rw, g, type, 0, ret);
}

bool ps_same_number(const ps_value *a, const ps_value *b) {
    const ps_tensor *x = ps_const(a), *y = ps_const(b);
    if (a == b) return true;
    if (!a || !b) return (x && ps_code_at(x, 0) == 0) || (y && ps_code_at(y, 0) == 0);
    return x && y && x->dtype == y->dtype && memcmp(x->data, y->data, ps_dtype_size(x->dtype)) == 0;
}

/* ---- a Relu or Clip before a QuantizeLinear ---- */

static bool clip_limits(const ps_node *n, double *low, double *high) {
    float a = -FLT_MAX, b = FLT_MAX;
    *low = -(double)INFINITY;
    *high = (double)INFINITY;
    if (ps_is(n, "Relu")) {
        *low = 0;
        return true;
    }
    if (!ps_is(n, "Clip") || !n->op) return false;
    if (n->op->since < 11) {
        const ps_attr *min = ps_node_attr(n, "min"), *max = ps_node_attr(n, "max");
        if (min && min->type == PS_ATTR_FLOAT) a = min->u.f;
        if (max && max->type == PS_ATTR_FLOAT) b = max->u.f;
    } else if ((ps_in(n, 1) && !ps_const_f32(n->in[1], &a)) || (ps_in(n, 2) && !ps_const_f32(n->in[2], &b))) {
        return false;
    }
    *low = (double)a;
    *high = (double)b;
    return a <= b;
}

/* The code that QuantizeLinear makes of v, as wide as a range can say. */
static int64_t code_of(double v, float scale, int64_t zero) {
    const double q = rint((double)((float)v / scale)) + (double)zero;
    return q <= PS_CODE_LOW ? PS_CODE_LOW : q >= PS_CODE_HIGH ? PS_CODE_HIGH : (int64_t)q;
}

/* Rounding and saturating keep the order, so limits may be applied to codes as well. */
bool ps_take_clamp(const ps_node *coding, ps_node **n, ps_code_range *range) {
    const ps_tensor *s = ps_const(coding->in[1]), *z = ps_const(ps_in(coding, 2));
    *range = (ps_code_range) { PS_CODE_LOW, PS_CODE_HIGH };
    *n = ps_sole_producer(coding->in[0], coding->graph);
    for (int depth = 0; depth < 4 && (ps_is(*n, "Relu") || ps_is(*n, "Clip")); depth++) {
        double low, high;
        ps_node *before = ps_sole_producer((*n)->in[0], coding->graph);
        if (!s || (ps_in(coding, 2) && !z) || !clip_limits(*n, &low, &high)) return false;
        if (!before || ps_is(before, "DequantizeLinear")) return true; /* a Lookup takes it as it is */
        const float scale = *(const float *)s->data;
        const int64_t zero = z ? ps_code_at(z, 0) : 0;
        if (!(scale > 0)) return false;
        const int64_t a = code_of(low, scale, zero), b = code_of(high, scale, zero);
        range->low = range->low < a ? a : range->low;
        range->high = range->high < a ? a : range->high > b ? b : range->high;
        if (range->low > range->high) range->low = range->high;
        *n = before;
    }
    return true;
}

ps_status ps_set_range(ps_rw *rw, ps_node *n, const ps_code_range *range) {
    if (range->low > PS_CODE_LOW) PS_TRY(ps_node_set_int(n, "low", range->low, rw->err));
    if (range->high < PS_CODE_HIGH) PS_TRY(ps_node_set_int(n, "high", range->high, rw->err));
    return PS_OK;
}

bool ps_feeds_coding(const ps_node *n) {
    const ps_node *next = ps_value_only_consumer(n->out[0]);
    for (int depth = 0; depth < 4 && next && (ps_is(next, "Relu") || ps_is(next, "Clip")); depth++)
        next = ps_value_only_consumer(next->out[0]);
    return next && next->graph == n->graph && ps_is_coding(next);
}

/* ---- i8 that is made and read here becomes u8 ---- */

static bool constant_zero(const ps_node *n) {
    return !ps_in(n, 2) || ps_const(n->in[2]);
}

static ps_status shift_zero(ps_rw *rw, ps_node *n) {
    const int64_t zero = ps_in(n, 2) ? ps_code_at(ps_const(n->in[2]), 0) : 0;
    ps_value *v;
    PS_TRY(ps_code_number(rw, n->graph, PS_DTYPE_U8, zero + 128, &v));
    if (n->n_in < 3) PS_TRY(ps_node_resize_inputs(n, 3, rw->err));
    return ps_node_set_input(n, 2, v, rw->err);
}

static ps_status to_unsigned(ps_rw *rw, ps_node *n) {
    ps_value *codes = n->out[0];
    if (codes->dtype != PS_DTYPE_I8 || codes->n_outputs || !ps_in(n, 2) || !constant_zero(n)) return PS_OK;
    for (uint32_t i = 0; i < codes->n_uses; i++) {
        const ps_node *reader = codes->uses[i].node;
        ps_coded c;
        if (codes->uses[i].index != 0 || !is_linear(reader, "DequantizeLinear") || !ps_is_coded(reader->out[0], &c) ||
            !constant_zero(reader))
            return PS_OK;
    }
    if (ps_attr_int(n, "output_dtype", 0)) PS_TRY(ps_node_set_int(n, "output_dtype", PS_DTYPE_U8, rw->err));
    PS_TRY(shift_zero(rw, n));
    codes->dtype = PS_DTYPE_U8;
    PS_TRY(ps_rw_finish(rw, n, 0));
    for (uint32_t i = 0; i < codes->n_uses; i++) {
        PS_TRY(shift_zero(rw, codes->uses[i].node));
        PS_TRY(ps_rw_finish(rw, codes->uses[i].node, 0));
    }
    rw->changes++;
    return PS_OK;
}

/* ---- operators that only move or pick elements ---- */

static bool is_nearest(const ps_node *n) {
    const ps_attr *mode = ps_node_attr(n, "mode"), *where = ps_node_attr(n, "coordinate_transformation_mode");
    if (mode && (mode->type != PS_ATTR_STRING || strcmp(mode->u.s, "nearest") != 0)) return false;
    return !where || (where->type == PS_ATTR_STRING && strcmp(where->u.s, "tf_crop_and_resize") != 0);
}

/* One of whose outputs is read, and which does with codes what it does with numbers. Scales are positive, so a maximum
 * is one of codes too. */
static bool moves(const ps_node *n) {
    static const char *const names[] = { "Reshape", "Flatten", "Squeeze", "Unsqueeze",    "Transpose",
                                         "Slice",   "Gather",  "MaxPool", "DepthToSpace", "SpaceToDepth" };
    if (!n->op || n->n_out != 1 || n->n_in < 1) return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (ps_is(n, names[i])) return !ps_is(n, "MaxPool") || n->op->since >= 8 || n->n_out == 1;
    }
    return ps_is(n, "Resize") && n->op->since >= 11 && is_nearest(n);
}

static ps_status dequantize_in_place(ps_rw *rw, ps_node *n, ps_value *moved, const ps_coded *c) {
    ps_value *in[3] = { moved, c->scale, c->zero };
    ps_node *made;
    PS_TRY(ps_rw_replace(rw, n, "DequantizeLinear", "", in, c->zero ? 3 : 2, &made));
    return ps_rw_finish(rw, made, 13);
}

/* Constant weights behind a Transpose: the axis of their scales moves. */
static ps_status transpose_weights(ps_rw *rw, ps_node *n) {
    ps_coded c;
    ps_node *moved, *made;
    const ps_transpose_params *p = n->params;
    if (!ps_is(n, "Transpose") || !ps_is_coded_constant(n->in[0], &c) || c.axis < 0) return PS_OK;
    const int rank = c.codes->shape.rank;
    int axis = -1;
    for (int i = 0, from; i < rank; i++) {
        if (!ps_axis_normalize(p->perm.n ? p->perm.data[i] : rank - 1 - i, rank, &from)) return PS_OK;
        if (from == c.axis) axis = i;
    }
    PS_TRY(ps_rw_insert(rw, n, "Transpose", "", &c.codes, 1, &moved));
    PS_TRY(ps_node_copy_attrs(moved, n, rw->err));
    PS_TRY(ps_rw_finish(rw, moved, 13));
    ps_value *in[3] = { moved->out[0], c.scale, c.zero };
    PS_TRY(ps_rw_replace(rw, n, "DequantizeLinear", "", in, c.zero ? 3 : 2, &made));
    PS_TRY(ps_node_set_int(made, "axis", axis, rw->err));
    return ps_rw_finish(rw, made, 13);
}

/* Pad with zeros around codes is Pad with their zero point. */
static ps_status sink_pad(ps_rw *rw, ps_node *n) {
    ps_coded c;
    ps_node *moved;
    double value = 0;
    const ps_attr *mode = ps_node_attr(n, "mode");
    if (!n->op || n->op->since < 11 || n->in[0]->dtype != PS_DTYPE_F32 || !ps_is_coded(n->in[0], &c)) return PS_OK;
    if (mode && (mode->type != PS_ATTR_STRING || strcmp(mode->u.s, "constant") != 0)) return PS_OK;
    if ((ps_in(n, 2) && !ps_const_double(n, 2, &value)) || value != 0) return PS_OK;
    if (c.zero && (!ps_const(c.zero) || c.zero->shape.rank != 0)) return PS_OK;
    ps_value *in[4] = { c.codes, ps_in(n, 1), c.zero, ps_in(n, 3) };
    PS_TRY(ps_rw_insert(rw, n, "Pad", "", in, in[3] ? 4 : in[2] ? 3 : 2, &moved));
    PS_TRY(ps_rw_finish(rw, moved, 18));
    return dequantize_in_place(rw, n, moved->out[0], &c);
}

static ps_status sink(ps_rw *rw, ps_node *n) {
    ps_coded c;
    ps_node *moved;
    if (ps_is(n, "Pad")) return sink_pad(rw, n);
    if (!moves(n) || n->in[0]->dtype != PS_DTYPE_F32) return PS_OK;
    if (!ps_is_coded(n->in[0], &c)) return transpose_weights(rw, n);
    float scale;
    if (ps_is(n, "MaxPool") && (!ps_const_f32(c.scale, &scale) || !(scale > 0))) return PS_OK;
    if (ps_is(n, "Gather") && ps_const(c.codes)) return PS_OK; /* rows of a table: sink_cast */
    PS_TRY(ps_rw_insert(rw, n, n->op_type, n->domain, n->in, n->n_in, &moved));
    PS_TRY(ps_node_set_input(moved, 0, c.codes, rw->err));
    PS_TRY(ps_node_copy_attrs(moved, n, rw->err));
    moved->op = n->op;
    if (ps_is(n, "MaxPool") && n->op->since < 12) moved->op = NULL;
    PS_TRY(ps_rw_finish(rw, moved, moved->op ? 0 : 12));
    return dequantize_in_place(rw, n, moved->out[0], &c);
}

/* QuantizeLinear(DequantizeLinear(x)) with the same numbers. */
static ps_status undo(ps_rw *rw, ps_node *n, bool *done) {
    ps_coded c;
    *done = false;
    if (!ps_is_coded(n->in[0], &c) || c.codes->dtype != n->out[0]->dtype) return PS_OK;
    if (!ps_same_number(c.scale, n->in[1]) || !ps_same_number(c.zero, ps_in(n, 2))) return PS_OK;
    return ps_rw_bypass(rw, n, c.codes, done);
}

/* ---- the pass ---- */

static ps_status coding(ps_rw *rw, ps_node *n) {
    const size_t before = rw->changes;
    ps_code_range range;
    ps_node *p;
    bool done;
    PS_TRY(to_unsigned(rw, n));
    PS_TRY(undo(rw, n, &done));
    if (done) return PS_OK;
    if (!ps_take_clamp(n, &p, &range) || !p) return PS_OK;
    if (rw->changes == before) PS_TRY(ps_quantize_product(rw, n, p, &range));
    if (rw->changes == before) PS_TRY(ps_quantize_lookup(rw, n));
    if (rw->changes == before) PS_TRY(ps_quantize_pair(rw, n, p, &range));
    if (range.low != PS_CODE_LOW || range.high != PS_CODE_HIGH) return PS_OK;
    if (rw->changes == before) PS_TRY(ps_quantize_pool(rw, n, p));
    if (rw->changes == before) PS_TRY(ps_quantize_concat(rw, n, p));
    ps_coded c;
    if (rw->changes == before && !p->note && ps_in(p, 0) && !ps_is(p, "DequantizeLinear") && ps_is_coded(p->in[0], &c))
        p->note = "there is no such operator on codes";
    return PS_OK;
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    if (!n->op) return PS_OK;
    if (ps_is_coding(n)) return coding(rw, n);
    const size_t before = rw->changes;
    PS_TRY(sink(rw, n));
    if (rw->changes != before) return PS_OK;
    PS_TRY(ps_quantize_operator(rw, n));
    if (rw->changes != before) return PS_OK;
    if (!rw->late && !n->note) n->note = ps_why_not_quantized(n);
    return ps_feeds_coding(n) ? PS_OK : ps_quantize_product(rw, n, n, NULL);
}

ps_status ps_pass_quantized(ps_rw *rw) {
    return rw->caps->int8 ? ps_rw_each(rw, rewrite) : PS_OK;
}
