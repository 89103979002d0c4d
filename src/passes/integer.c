/* integer.c - integer products with constant weights → products in f32, which have fast kernels everywhere.
 *
 *     Cast to f32(MatMulInteger(a, W, za, zw))   →   MatMul(DequantizeLinear(a, 1, za), W - zw)
 *     Cast to f32(ConvInteger(a, W, za, zw))     →   Conv(…)
 *     MatMulInteger(a, W, za, zw)                →   Cast to i32(MatMul(…))
 *
 * Dynamic quantisation puts the Cast there, so the sums are floats anyway. The form that gives integers has to be
 * exact: it is done only where no sum of products of codes can reach 2^24, whatever a holds, so that f32 holds each of
 * them in any order. */
#include "passes/rewrite.h"

#define MAX_CODE 255 /* the largest |a - za| of 8-bit codes */
#define EXACT ((double)(1 << 24))

static bool is_code(ps_dtype t) {
    return t == PS_DTYPE_U8 || t == PS_DTYPE_I8;
}

static bool one_or_absent(const ps_value *v) {
    return !v || (ps_shape_fixed(&v->shape) && ps_shape_product(&v->shape, 0, v->shape.rank) == 1);
}

/* Of W: sums go over all elements that share an index of this axis. */
static int sum_axis(const ps_node *n) {
    return ps_is(n, "ConvInteger") ? 0 : 1;
}

/* W, and its zero point (one number, or one for each sum), are constants. */
static bool weights_known(const ps_node *n) {
    const ps_tensor *w = ps_const(n->in[1]), *z = ps_const(ps_in(n, 3));
    if (!w || !is_code(w->dtype) || (ps_is(n, "ConvInteger") ? w->shape.rank < 3 : w->shape.rank != 2)) return false;
    if (!ps_in(n, 3)) return true;
    return z && z->dtype == w->dtype &&
           (ps_tensor_count(z) == 1 || (z->shape.rank == 1 && z->shape.dims[0] == w->shape.dims[sum_axis(n)]));
}

static bool matches(const ps_node *n) {
    return (ps_is(n, "MatMulInteger") || ps_is(n, "ConvInteger")) && is_code(n->in[0]->dtype) &&
           one_or_absent(ps_in(n, 2)) && weights_known(n);
}

static double code_at(const ps_tensor *t, int64_t i) {
    return t->dtype == PS_DTYPE_I8 ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
}

/* W - zw; *ret is NULL where it has to be exact and a sum could grow too large. */
static ps_status weights(ps_rw *rw, const ps_node *n, bool exact, ps_tensor **ret) {
    const ps_tensor *w = ps_const(n->in[1]), *z = ps_const(ps_in(n, 3));
    const int64_t count = (int64_t)ps_tensor_count(w), sums = w->shape.dims[sum_axis(n)];
    const int64_t each = sum_axis(n) == 0 && sums ? count / sums : 1;
    PS_TRY(ps_tensor_need(w, rw->err));
    if (z) PS_TRY(ps_tensor_need(z, rw->err));
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &w->shape, ret, rw->err));
    float *data = (*ret)->data;
    for (int64_t i = 0; i < count; i++) {
        const double zero = z ? code_at(z, ps_tensor_count(z) == 1 ? 0 : i / each % sums) : 0;
        data[i] = (float)(code_at(w, i) - zero);
    }
    for (int64_t s = 0; exact && s < sums; s++) { /* of a matrix: columns */
        double sum = 0;
        for (int64_t i = s; i < count; i += sums)
            sum += data[i] < 0 ? (double)-data[i] : (double)data[i];
        if (sum * MAX_CODE < EXACT) continue;
        ps_tensor_release(*ret);
        *ret = NULL;
        return PS_OK;
    }
    return PS_OK;
}

/* The operands DequantizeLinear(a, 1, za) and W - zw, made before n. */
static ps_status operands(ps_rw *rw, ps_node *n, const ps_node *integer, ps_tensor *take_w, ps_value *ret[2]) {
    const ps_shape scalar = ps_shape_make(0, NULL);
    const float one = 1;
    ps_value *in[3] = { integer->in[0], NULL, ps_in(integer, 2) };
    ps_node *codes;
    PS_TRY(ps_rw_constant(rw, n->graph, take_w, &ret[1]));
    PS_TRY(ps_rw_floats(rw, n->graph, &scalar, &one, &in[1]));
    PS_TRY(ps_rw_insert(rw, n, "DequantizeLinear", "", in, in[2] ? 3 : 2, &codes));
    ret[0] = codes->out[0];
    return ps_rw_finish(rw, codes, 13);
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    const bool cast = ps_is(n, "Cast") && n->out[0]->dtype == PS_DTYPE_F32;
    const ps_node *integer = cast ? ps_sole_producer(n->in[0], n->graph) : n, *next = NULL;
    ps_value *in[2];
    ps_tensor *w;
    ps_node *made;
    if (!integer || !matches(integer) || (!cast && ps_is(integer, "ConvInteger"))) return PS_OK;
    if (!cast) next = ps_value_only_consumer(n->out[0]);
    if (next && ps_is(next, "Cast") && next->graph == n->graph && ps_attr_int(next, "to", 0) == PS_DTYPE_F32)
        return PS_OK;
    PS_TRY(weights(rw, integer, !cast, &w));
    if (!w) return PS_OK;
    PS_TRY(operands(rw, n, integer, w, in));
    if (cast) {
        const bool conv = ps_is(integer, "ConvInteger");
        PS_TRY(ps_rw_begin(rw, n, conv ? "Conv" : "MatMul", "", in, 2, &made));
        if (conv) PS_TRY(ps_node_copy_attrs(made, integer, rw->err));
        PS_TRY(ps_rw_commit(rw, made, n));
        return ps_rw_finish(rw, made, conv ? 11 : 13);
    }
    PS_TRY(ps_rw_insert(rw, n, "MatMul", "", in, 2, &made));
    PS_TRY(ps_rw_finish(rw, made, 13));
    PS_TRY(ps_rw_replace(rw, n, "Cast", "", made->out, 1, &made));
    PS_TRY(ps_node_set_int(made, "to", PS_DTYPE_I32, rw->err));
    return ps_rw_finish(rw, made, 13);
}

ps_status ps_pass_integer(ps_rw *rw) {
    return rw->caps->fuse_epilogue ? ps_rw_each(rw, rewrite) : PS_OK;
}
