/* table.c - f(Gather(W, i)) becomes Gather(f(W), i) for a pointwise f and a constant table W [rows, columns], when
 * there is less to compute in the table than behind it, or little anyway. */
#include "passes/posts.h"

#define SMALL_TABLE (64 * 1024) /* elements */

static ps_node *table_gather(const ps_value *v, const ps_graph *g) {
    ps_node *n = ps_sole_producer(v, g);
    if (!ps_is(n, "Gather") || ps_attr_int(n, "axis", 0) != 0) return NULL;
    const ps_tensor *w = ps_const_floats(n->in[0]);
    if (!w || w->shape.rank != 2 || v->shape.rank < 2) return NULL;
    int64_t outputs, size = (int64_t)ps_tensor_count(w);
    return size <= SMALL_TABLE || (ps_shape_elements(&v->shape, &outputs) && size <= outputs) ? n : NULL;
}

/* One number or one per column. */
static bool per_column(const ps_value *v, int64_t columns) {
    const ps_tensor *t = ps_const_floats(v);
    if (!t) return false;
    int64_t count = (int64_t)ps_tensor_count(t);
    return count == 1 || (count == columns && t->shape.dims[t->shape.rank - 1] == columns);
}

static float operand_at(const ps_value *v, int64_t column) {
    if (!v) return 0;
    const float *data = v->constant->data;
    return ps_tensor_count(v->constant) == 1 ? data[0] : data[column];
}

static ps_status apply(ps_rw *rw, ps_node *gather, const ps_post *posts, ps_value *const *operands, size_t n) {
    const ps_tensor *w = gather->in[0]->constant;
    const float *src = w->data;
    ps_tensor *t;
    PS_TRY(ps_tensor_need(w, rw->err));
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &w->shape, &t, rw->err));
    float *dst = t->data;
    for (int64_t r = 0; r < w->shape.dims[0]; r++) {
        for (int64_t c = 0; c < w->shape.dims[1]; c++) {
            float x = *src++;
            for (size_t k = 0; k < n; k++) {
                x = ps_post_apply(posts[k].kind, x, posts[k].alpha, posts[k].beta, operand_at(operands[k], c));
            }
            *dst++ = x;
        }
    }
    ps_tensor_drop_pages(w);
    return ps_rw_set_constant(rw, gather, 0, t);
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    ps_post posts[PS_MAX_POSTS];
    ps_value *operands[PS_MAX_POSTS];
    bool done;
    for (size_t i = 0; i < 2 && i < n->n_in; i++) {
        ps_node *gather = n->in[i] ? table_gather(n->in[i], n->graph) : NULL;
        size_t count = gather ? ps_node_as_posts(n, i, posts, operands) : 0;
        bool ok = count > 0;
        for (size_t k = 0; k < count; k++)
            ok &= !operands[k] || per_column(operands[k], gather->in[0]->shape.dims[1]);
        if (!ok) continue;
        PS_TRY(apply(rw, gather, posts, operands, count));
        return ps_rw_bypass(rw, n, n->in[i], &done);
    }
    return PS_OK;
}

ps_status ps_pass_table(ps_rw *rw) {
    return ps_rw_each(rw, rewrite);
}
