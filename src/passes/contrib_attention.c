/* contrib_attention.c - attention operators that stand for the whole pattern become "polestar" Attention where they use
 * no cache: projections, biases and masks turn into nodes of ai.onnx before it. */
#include <math.h>

#include "passes/contrib.h"

/* Columns [first, first + n) along the last dim. */
static ps_status slice_last(ps_rw *rw, ps_node *n, ps_value *x, int64_t first, int64_t count, ps_value **ret) {
    ps_value *in[4] = { x };
    ps_node *made;
    int64_t axis = x->shape.rank - 1;
    PS_TRY(ps_rw_ints(rw, n->graph, &first, 1, &in[1]));
    PS_TRY(ps_rw_ints(rw, n->graph, (int64_t[]) { first + count }, 1, &in[2]));
    PS_TRY(ps_rw_ints(rw, n->graph, &axis, 1, &in[3]));
    PS_TRY(ps_rw_insert(rw, n, "Slice", "", in, 4, &made));
    *ret = made->out[0];
    return ps_rw_finish(rw, made, 13);
}

/* What a key mask [B, T] (1: visible) adds to the scores: [B, 1, 1, T]. */
static ps_status mask_bias(ps_rw *rw, ps_node *n, ps_value *mask, float filter, ps_value **ret) {
    ps_value *zero, *number, *hidden, *axes, *in[3];
    ps_shape one = ps_shape_make(0, NULL);
    ps_tensor *t;
    ps_node *made;
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_I32, &one, &t, rw->err));
    PS_TRY(ps_rw_constant(rw, n->graph, t, &zero));
    PS_TRY(ps_chain_plain(rw, n, false, "Greater", mask, zero, 13, &in[0]));
    PS_TRY(ps_chain_number(rw, n->graph, 0, &number));
    PS_TRY(ps_chain_number(rw, n->graph, filter, &hidden));
    in[1] = number;
    in[2] = hidden;
    PS_TRY(ps_rw_insert(rw, n, "Where", "", in, 3, &made));
    PS_TRY(ps_rw_finish(rw, made, 16));
    PS_TRY(ps_rw_ints(rw, n->graph, (int64_t[]) { 1, 2 }, 2, &axes));
    return ps_chain_plain(rw, n, false, "Unsqueeze", made->out[0], axes, 13, ret);
}

static float attr_float(const ps_node *n, const char *name, float def) {
    const ps_attr *a = ps_node_attr(n, name);
    return a && a->type == PS_ATTR_FLOAT ? a->u.f : def;
}

static float scale_or(float given, int64_t depth) {
    return given != 0 ? given : (float)(1 / sqrt((double)depth));
}

/* Mask and summand of the scores as one value; NULL if there is neither. */
static ps_status all_biases(ps_rw *rw, ps_node *n, ps_value *mask, ps_value *scores, ps_value **ret) {
    *ret = scores;
    if (!mask) return PS_OK;
    PS_TRY(mask_bias(rw, n, mask, attr_float(n, "mask_filter_value", -10000.0f), ret));
    return scores ? ps_chain_plain(rw, n, false, "Add", scores, *ret, 14, ret) : PS_OK;
}

/* The mask is absent or [B, T], the summand absent or of known rank. */
static bool simple_mask(const ps_node *n, size_t mask, size_t scores) {
    ps_value *m = ps_in(n, mask), *s = ps_in(n, scores);
    return (!m || m->shape.rank == 2) && (!s || s->shape.rank == 4);
}

static ps_status make_attention(ps_rw *rw, ps_node *n, ps_value *q, ps_value *k, ps_value *v, ps_value *bias,
                                int64_t heads, float scale, bool last, ps_value **ret) {
    ps_value *in[] = { q, k, v, bias };
    ps_node *made;
    PS_TRY(ps_chain_step(rw, n, last, "Attention", "polestar", in, bias ? 4 : 3, &made));
    PS_TRY(ps_node_set_int(made, "heads", heads, rw->err));
    PS_TRY(ps_node_set_float(made, "scale", scale, rw->err));
    *ret = made->out[0];
    return ps_rw_finish(rw, made, 0);
}

ps_status ps_contrib_attention(ps_rw *rw, ps_node *n) {
    const ps_attr *sizes = ps_node_attr(n, "qkv_hidden_sizes");
    const ps_shape *w = &n->in[1]->shape;
    int64_t heads = ps_attr_int(n, "num_heads", 0), width[3];
    if (!rw->caps->fuse_attention || ps_in(n, 4) || !ps_output_unused(n, 1) || ps_attr_int(n, "unidirectional", 0) ||
        !simple_mask(n, 3, 5) || n->in[0]->shape.rank != 3 || w->rank != 2 || w->dims[1] < 1)
        return PS_OK;
    for (size_t i = 0; i < 3; i++)
        width[i] = sizes && sizes->type == PS_ATTR_INTS && sizes->n == 3 ? sizes->u.ints[i] : w->dims[1] / 3;
    float scale = scale_or(attr_float(n, "scale", 0), width[0] / heads);
    ps_value *x, *part[3], *bias;
    PS_TRY(ps_chain_plain(rw, n, false, "MatMul", n->in[0], n->in[1], 13, &x));
    if (ps_in(n, 2)) PS_TRY(ps_chain_plain(rw, n, false, "Add", x, n->in[2], 14, &x));
    for (int64_t i = 0, first = 0; i < 3; first += width[i++])
        PS_TRY(slice_last(rw, n, x, first, width[i], &part[i]));
    PS_TRY(all_biases(rw, n, ps_in(n, 3), ps_in(n, 5), &bias));
    return make_attention(rw, n, part[0], part[1], part[2], bias, heads, scale, true, &x);
}

ps_status ps_contrib_multi_head(ps_rw *rw, ps_node *n) {
    int64_t heads = ps_attr_int(n, "num_heads", 0), first = 0;
    bool plain = rw->caps->fuse_attention && n->n_in >= 3 && n->in[1] && n->in[2] && !ps_in(n, 6) &&
                 simple_mask(n, 4, 5) && !ps_attr_int(n, "unidirectional", 0);
    for (size_t i = 1; i < 4; i++)
        plain &= ps_output_unused(n, i);
    for (size_t i = 0; plain && i < 3; i++)
        plain = n->in[i]->shape.rank == 3 && n->in[i]->shape.dims[2] > 0;
    if (!plain) return PS_OK;
    float scale = scale_or(attr_float(n, "scale", 0), n->in[0]->shape.dims[2] / heads);
    ps_value *part[] = { n->in[0], n->in[1], n->in[2] }, *bias, *y;
    for (size_t i = 0; i < 3 && ps_in(n, 3); i++) {
        int64_t width = part[i]->shape.dims[2];
        PS_TRY(slice_last(rw, n, n->in[3], first, width, &bias));
        PS_TRY(ps_chain_plain(rw, n, false, "Add", part[i], bias, 14, &part[i]));
        first += width;
    }
    PS_TRY(all_biases(rw, n, ps_in(n, 4), ps_in(n, 5), &bias));
    return make_attention(rw, n, part[0], part[1], part[2], bias, heads, scale, true, &y);
}

/* ---- ai.onnx ---- */

/* A constant mask of f32 that hides no query's every key: a row of -inf gives zeros in ONNX, NaN in the pattern. */
static bool harmless_mask(const ps_value *mask, int64_t cols) {
    const ps_tensor *t = ps_const_floats(mask);
    if (!t || t->shape.rank < 1 || t->shape.dims[t->shape.rank - 1] != cols) return false;
    const float *v = t->data;
    for (size_t row = 0; row < ps_tensor_count(t) / (size_t)cols; row++) {
        bool seen = false;
        for (int64_t j = 0; j < cols; j++)
            seen |= v[row * (size_t)cols + (size_t)j] > -INFINITY;
        if (!seen) return false;
    }
    return true;
}

enum { MAX_CAUSAL = 1 << 20 }; /* elements of a mask that is made here */

static ps_status causal_mask(ps_rw *rw, ps_node *n, int64_t rows, int64_t cols, ps_value **ret) {
    ps_shape s = ps_shape_make(2, (int64_t[]) { rows, cols });
    ps_tensor *t;
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &s, &t, rw->err));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            ((float *)t->data)[i * cols + j] = j <= i ? 0 : -INFINITY;
    return ps_rw_constant(rw, n->graph, t, ret);
}

/* [B, H, S, D] -> [B, S, H*D], or back with `heads` of `depth`. */
static ps_status flatten(ps_rw *rw, ps_node *n, ps_value *x, ps_value **ret) {
    ps_value *dims;
    ps_node *made;
    int64_t width = x->shape.dims[1] * x->shape.dims[3];
    PS_TRY(ps_rw_insert(rw, n, "Transpose", "", &x, 1, &made));
    PS_TRY(ps_node_set_ints(made, "perm", (int64_t[]) { 0, 2, 1, 3 }, 4, rw->err));
    PS_TRY(ps_rw_finish(rw, made, 13));
    PS_TRY(ps_rw_ints(rw, n->graph, (int64_t[]) { 0, 0, width }, 3, &dims));
    return ps_chain_plain(rw, n, false, "Reshape", made->out[0], dims, 13, ret);
}

static ps_status unflatten(ps_rw *rw, ps_node *n, ps_value *y, int64_t heads, int64_t depth) {
    ps_value *dims, *split;
    ps_node *made;
    PS_TRY(ps_rw_ints(rw, n->graph, (int64_t[]) { 0, 0, heads, depth }, 4, &dims));
    PS_TRY(ps_chain_plain(rw, n, false, "Reshape", y, dims, 13, &split));
    PS_TRY(ps_rw_replace(rw, n, "Transpose", "", &split, 1, &made));
    PS_TRY(ps_node_set_ints(made, "perm", (int64_t[]) { 0, 2, 1, 3 }, 4, rw->err));
    return ps_rw_finish(rw, made, 13);
}

static bool plain_onnx(const ps_node *n) {
    bool plain = !ps_in(n, 4) && !ps_in(n, 6) && attr_float(n, "softcap", 0) == 0 &&
                 !ps_node_attr(n, "softmax_precision") && ps_attr_int(n, "left_window_size", -1) < 0 &&
                 ps_attr_int(n, "right_window_size", -1) < 0;
    for (size_t i = 1; i < 4; i++)
        plain &= ps_output_unused(n, i);
    for (size_t i = 0; plain && i < 3; i++)
        plain = n->in[i]->dtype == PS_DTYPE_F32 && n->in[i]->shape.rank == n->in[0]->shape.rank;
    return plain && (n->in[0]->shape.rank == 3 || n->in[0]->shape.rank == 4);
}

ps_status ps_onnx_attention(ps_rw *rw, ps_node *n) {
    if (!rw->caps->fuse_attention || !plain_onnx(n)) return PS_OK;
    const int64_t *q = n->in[0]->shape.dims, *k = n->in[1]->shape.dims, *v = n->in[2]->shape.dims;
    bool deep = n->in[0]->shape.rank == 4, causal = ps_attr_int(n, "is_causal", 0) != 0;
    int64_t heads = deep ? q[1] : ps_attr_int(n, "q_num_heads", 0), rows = q[deep ? 2 : 1], cols = k[deep ? 2 : 1],
            depth = q[deep ? 3 : 2], depth_v = v[deep ? 3 : 2];
    if (heads < 1 || depth < 1 || depth_v < 1 || heads != (deep ? k[1] : ps_attr_int(n, "kv_num_heads", 0)) ||
        (deep && v[1] != heads) || (causal && (ps_in(n, 3) || rows < 1 || cols < 1 || rows > MAX_CAUSAL / cols)) ||
        (ps_in(n, 3) && (cols < 1 || !harmless_mask(n->in[3], cols))))
        return PS_OK;
    const ps_attr *given = ps_node_attr(n, "scale");
    float scale =
        given && given->type == PS_ATTR_FLOAT ? given->u.f : (float)(1 / sqrt((double)(deep ? depth : depth / heads)));
    ps_value *part[] = { n->in[0], n->in[1], n->in[2] }, *mask = ps_in(n, 3), *y;
    if (causal) PS_TRY(causal_mask(rw, n, rows, cols, &mask));
    for (size_t i = 0; i < 3 && deep; i++)
        PS_TRY(flatten(rw, n, part[i], &part[i]));
    PS_TRY(make_attention(rw, n, part[0], part[1], part[2], mask, heads, scale, !deep, &y));
    return deep ? unflatten(rw, n, y, heads, depth_v) : PS_OK;
}
