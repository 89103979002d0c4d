/* onehot.c - a product with one-hot rows is a table look-up.
 *
 *     MatMul(Cast(Equal(a [..., 1], (0 1 … n-1))), W [n, m])  =  Gather(W', Clip(a, -1, n) + 1)
 *
 * where W' is W between two rows of zeros: a number outside [0, n) equals no entry, and its row is zero. */
#include "passes/posts.h"

#define MAX_TABLE_BYTES (16 << 20)

/* 0, 1 … n-1 along the last dim. */
static bool is_iota(const ps_value *v, int64_t n) {
    const ps_tensor *t = ps_const(v);
    if (!t || (t->dtype != PS_DTYPE_I32 && t->dtype != PS_DTYPE_I64) || t->shape.rank < 1) return false;
    if (t->shape.dims[t->shape.rank - 1] != n || (int64_t)ps_tensor_count(t) != n) return false;
    for (int64_t i = 0; i < n; i++) {
        int64_t x = t->dtype == PS_DTYPE_I32 ? ((const int32_t *)t->data)[i] : ((const int64_t *)t->data)[i];
        if (x != i) return false;
    }
    return true;
}

/* The numbers [..., 1] that the rows of v [..., n] mark, or NULL. */
static ps_value *marked(const ps_value *v, const ps_graph *g, int64_t n) {
    const ps_node *cast = ps_sole_producer(v, g);
    const ps_node *equal = ps_is(cast, "Cast") ? ps_sole_producer(cast->in[0], g) : NULL;
    if (!ps_is(equal, "Equal") || ps_node_attr(equal, "broadcast")) return NULL;
    for (size_t i = 0; i < 2; i++) {
        ps_value *a = equal->in[1 - i];
        const ps_shape *s = &a->shape;
        if (!is_iota(equal->in[i], n) || equal->in[i]->shape.rank > s->rank || s->rank < 2) continue;
        if (s->dims[s->rank - 1] == 1 && (a->dtype == PS_DTYPE_I32 || a->dtype == PS_DTYPE_I64)) return a;
    }
    return NULL;
}

static ps_status integer(ps_rw *rw, ps_graph *g, ps_dtype dtype, int64_t x, ps_value **ret) {
    ps_shape scalar = ps_shape_make(0, NULL);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(rw->root->alloc, dtype, &scalar, &t, rw->err));
    if (dtype == PS_DTYPE_I32)
        *(int32_t *)t->data = (int32_t)x;
    else
        *(int64_t *)t->data = x;
    return ps_rw_constant(rw, g, t, ret);
}

static ps_status make_table(ps_rw *rw, ps_graph *g, const ps_tensor *w, ps_value **ret) {
    ps_shape shape = ps_shape_make(2, (int64_t[]) { w->shape.dims[0] + 2, w->shape.dims[1] });
    ps_tensor *t;
    PS_TRY(ps_tensor_need(w, rw->err));
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &shape, &t, rw->err)); /* zeroed */
    memcpy((float *)t->data + w->shape.dims[1], w->data, w->bytes);
    return ps_rw_constant(rw, g, t, ret);
}

/* Row numbers in the table: Clip(a, -1, n) + 1 without the last dim. */
static ps_status make_rows(ps_rw *rw, ps_node *before, ps_value *a, int64_t n, ps_value **ret) {
    ps_value *in[3] = { a };
    ps_node *node;
    PS_TRY(ps_rw_ints(rw, before->graph, (int64_t[]) { a->shape.rank - 1 }, 1, &in[1]));
    PS_TRY(ps_rw_insert(rw, before, "Squeeze", "", in, 2, &node));
    PS_TRY(ps_rw_finish(rw, node, 13));
    in[0] = node->out[0];
    PS_TRY(integer(rw, before->graph, a->dtype, -1, &in[1]));
    PS_TRY(integer(rw, before->graph, a->dtype, n, &in[2]));
    PS_TRY(ps_rw_insert(rw, before, "Clip", "", in, 3, &node));
    PS_TRY(ps_rw_finish(rw, node, 13));
    in[0] = node->out[0];
    PS_TRY(integer(rw, before->graph, a->dtype, 1, &in[1]));
    PS_TRY(ps_rw_insert(rw, before, "Add", "", in, 2, &node));
    *ret = node->out[0];
    return ps_rw_finish(rw, node, 14);
}

/* What a fused MatMul did to its product, as a Pointwise behind the Gather. */
static ps_status keep_posts(ps_rw *rw, ps_node *n, ps_value *rows) {
    ps_post posts[PS_MAX_POSTS];
    ps_value *operands[PS_MAX_POSTS];
    size_t count = ps_node_posts(n, posts);
    ps_node *made;
    for (size_t i = 0; i < count; i++)
        operands[i] = posts[i].operand >= 0 ? n->in[posts[i].operand] : NULL;
    PS_TRY(ps_rw_begin(rw, n, "Pointwise", "polestar", &rows, 1, &made));
    if (ps_has_in(n, 2)) PS_TRY(ps_node_add_post(made, PS_POST_ADD, 0, 0, n->in[2], rw->err));
    PS_TRY(ps_append_posts(rw, made, posts, operands, count));
    PS_TRY(ps_rw_commit(rw, made, n));
    return ps_rw_finish(rw, made, 0);
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    ps_post posts[PS_MAX_POSTS];
    if (!ps_is_any(n, "MatMul") || n->out[0]->dtype != PS_DTYPE_F32) return PS_OK;
    const ps_tensor *w = ps_const_floats(n->in[1]);
    if (!w || w->shape.rank != 2 || w->shape.dims[0] < 2 || w->bytes > MAX_TABLE_BYTES) return PS_OK;
    ps_value *a = marked(n->in[0], n->graph, w->shape.dims[0]), *in[2];
    ps_node *gather;
    if (!a || ps_node_posts(n, posts) == PS_MAX_POSTS) return PS_OK;
    PS_TRY(make_table(rw, n->graph, w, &in[0]));
    PS_TRY(make_rows(rw, n, a, w->shape.dims[0], &in[1]));
    bool plain = !n->domain[0];
    PS_TRY(plain ? ps_rw_replace(rw, n, "Gather", "", in, 2, &gather)
                 : ps_rw_insert(rw, n, "Gather", "", in, 2, &gather));
    PS_TRY(ps_node_set_int(gather, "axis", 0, rw->err));
    PS_TRY(ps_rw_finish(rw, gather, 13));
    return plain ? PS_OK : keep_posts(rw, n, gather->out[0]);
}

ps_status ps_pass_onehot(ps_rw *rw) {
    return ps_rw_each(rw, rewrite);
}
