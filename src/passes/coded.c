/* coded.c - weights that the model has as codes of 4 or 8 bits stay codes, where the device's products take them so:
 *
 *     MatMul(x, DequantizeLinear(W))             ->  MatMul(x, W'), W' an f32 constant with codes behind it; Gemm, Conv
 *     MatMul(x, Transpose(DequantizeLinear(W)))  ->  the same: W' lies transposed
 *     MatMulNBits(x, W), of com.microsoft        ->  MatMul(x, W') and Add of its bias
 *
 * Whoever wants W' as floats gets them; the device's kernels ask for the codes. One scale for all, one for each index
 * of an axis, or one for each block of an axis. */
#include "passes/coded.h"

#include "passes/contrib.h"
#include "tensor/codes.h"

static bool bits_of(ps_dtype t, ps_codes *c) {
    c->bits = t == PS_DTYPE_I8 || t == PS_DTYPE_U8 ? 8 : 4;
    c->is_signed = t == PS_DTYPE_I8 || t == PS_DTYPE_I4;
    return t == PS_DTYPE_I8 || t == PS_DTYPE_U8 || t == PS_DTYPE_I4 || t == PS_DTYPE_U4;
}

/* ---- DequantizeLinear ---- */

static bool one_number(const ps_tensor *t) {
    return ps_tensor_count(t) == 1;
}

/* The shape rule of the operator has compared the shapes; what it left open is not taken. */
static bool find_groups(const ps_node *n, ps_codes *c) {
    const ps_shape *s = &c->code->shape;
    const int64_t block = ps_attr_int(n, "block_size", 0);
    int axis;
    c->kind = PS_CODES_ONE;
    if (one_number(c->scale) && (!block || c->scale->shape.rank != s->rank)) return true;
    if (block < 0 || !ps_axis_normalize(ps_attr_int(n, "axis", 1), s->rank, &axis)) return false;
    c->n = s->dims[axis];
    c->inner = ps_shape_product(s, axis + 1, s->rank);
    c->kind = block ? PS_CODES_BLOCKS : PS_CODES_LIST;
    if (!block) return c->scale->shape.rank == 1 && c->scale->shape.dims[0] == c->n;
    c->block = block;
    c->blocks = (c->n - 1) / block + 1;
    return (int64_t)ps_tensor_count(c->scale) == (int64_t)ps_tensor_count(c->code) / c->n * c->blocks;
}

/* Constant codes with constant scales and zero points. */
static bool find_codes(const ps_node *n, ps_codes *c) {
    memset(c, 0, sizeof *c);
    if (!ps_is(n, "DequantizeLinear") || n->out[0]->dtype != PS_DTYPE_F32) return false;
    const ps_tensor *code = ps_const(n->in[0]), *zero = ps_const(ps_in(n, 2));
    if (!code || !ps_const_floats(n->in[1]) || (ps_in(n, 2) && !zero)) return false;
    c->code = n->in[0]->constant;
    c->scale = n->in[1]->constant;
    c->zero = zero ? n->in[2]->constant : NULL;
    if (!bits_of(code->dtype, c) || !ps_tensor_count(code) || (zero && zero->dtype != code->dtype)) return false;
    if (zero && ps_tensor_count(zero) != ps_tensor_count(c->scale)) return false;
    return find_groups(n, c);
}

static ps_status set_weight(ps_rw *rw, ps_node *n, const ps_shape *shape, const ps_codes *c) {
    ps_tensor *t;
    PS_TRY(ps_tensor_coded(rw->root->alloc, shape, c, &t, rw->err));
    ps_value_set_constant(n->out[0], t);
    ps_tensor_release(t);
    n->out[0]->dtype = PS_DTYPE_F32;
    ps_node_remove(n);
    rw->changes++;
    return PS_OK;
}

static bool swaps_two(const ps_node *n) {
    const ps_attr *perm = ps_node_attr(n, "perm");
    if (!ps_is(n, "Transpose") || !n->in[0] || n->in[0]->shape.rank != 2) return false;
    return !perm || (perm->type == PS_ATTR_INTS && perm->n == 2 && perm->u.ints[0] == 1);
}

/* ---- MatMulNBits ---- */

static bool is_count(const ps_tensor *t, int64_t count) {
    return t && (int64_t)ps_tensor_count(t) == count;
}

/* Weights [N, blocks, bytes of a block], low bits first; zero points in rows of whole bytes. */
static bool find_blocks(const ps_node *n, ps_codes *c, int64_t *k, int64_t *columns) {
    const int64_t bits = ps_attr_int(n, "bits", 4), block = ps_attr_int(n, "block_size", 0);
    const ps_tensor *code = ps_const(n->in[1]), *scale = ps_const_floats(n->in[2]), *zero = ps_const(ps_in(n, 3));
    *k = ps_attr_int(n, "K", 0);
    *columns = ps_attr_int(n, "N", 0);
    if ((bits != 4 && bits != 8) || block < 16 || *k < 1 || *columns < 1 || ps_in(n, 4) || !code || !scale)
        return false;
    if (code->dtype != PS_DTYPE_U8 || (ps_in(n, 3) && (!zero || zero->dtype != PS_DTYPE_U8))) return false;
    *c = (ps_codes) { .code = n->in[1]->constant,
                      .scale = n->in[2]->constant,
                      .zero = zero ? n->in[3]->constant : NULL,
                      .kind = PS_CODES_BLOCKS,
                      .bits = (int)bits,
                      .middle = 1 << (bits - 1),
                      .inner = 1,
                      .block = block,
                      .blocks = (*k - 1) / block + 1 };
    c->n = c->row = c->blocks * block;
    const int64_t zero_bytes = (c->blocks * bits + 7) / 8;
    c->zero_row = zero_bytes * 8 / bits;
    c->in_rows = c->blocks;
    return is_count(code, *columns * c->row * bits / 8) && is_count(scale, *columns * c->blocks) &&
           (!zero || is_count(zero, *columns * zero_bytes));
}

static ps_status nbits(ps_rw *rw, ps_node *n) {
    ps_codes c;
    ps_tensor *t;
    ps_value *w, *y, *bias = ps_in(n, 5);
    int64_t dims[2];
    if (n->in[0]->dtype != PS_DTYPE_F32 || n->in[0]->shape.rank < 1 || !find_blocks(n, &c, &dims[0], &dims[1]))
        return PS_OK;
    const ps_shape shape = ps_shape_make(2, dims);
    PS_TRY(ps_tensor_coded(rw->root->alloc, &shape, &c, &t, rw->err));
    PS_TRY(ps_rw_constant(rw, n->graph, t, &w));
    PS_TRY(ps_chain_plain(rw, n, !bias, "MatMul", n->in[0], w, 13, &y));
    return bias ? ps_chain_plain(rw, n, true, "Add", y, bias, 14, &y) : PS_OK;
}

/* ---- the rewrite ---- */

ps_status ps_code_weight(ps_rw *rw, ps_node *n) {
    ps_codes c;
    if (strcmp(n->op_type, "MatMulNBits") == 0 && strcmp(n->domain, "com.microsoft") == 0) return nbits(rw, n);
    if (n->n_out < 1 || !n->out[0] || !ps_weight_only(n->out[0])) return PS_OK;
    if (find_codes(n, &c)) return set_weight(rw, n, &c.code->shape, &c);
    if (!swaps_two(n) || !find_codes(n->in[0]->producer, &c)) return PS_OK;
    ps_node *producer = n->in[0]->producer;
    const ps_shape *s = &c.code->shape;
    const ps_shape turned = ps_shape_make(2, (int64_t[]) { s->dims[1], s->dims[0] });
    c.row = s->dims[1];
    PS_TRY(set_weight(rw, n, &turned, &c));
    ps_rw_prune(producer);
    return PS_OK;
}
