/* attention.c - scaled dot-product attention with its head shuffling becomes one "polestar" Attention.
 *
 *     Q, K, V [B, H, S, D] = Transpose(0,2,1,3)(Reshape(q [B, S, H*D]))
 *     Reshape(Transpose(0,2,1,3)(MatMul(Softmax(scale Q K^T + mask), V)))   [B, S, H*D]
 *
 * The scale may be a Mul or Div of the scores or of Q or K; K^T a second Transpose or part of the first. Q, K and V may
 * also be parts of one projection: Transpose(2,0,3,1,4)(Reshape(x [B, S, 3*H*D])) taken apart along dim 0; the parts
 * are then Slices of x. (Vaswani et al., arXiv:1706.03762.) */
#include "passes/rewrite.h"

/* Where heads come from: columns [first, first + heads * depth) of src [B, S, *]. */
typedef struct heads {
    ps_value *src;
    int64_t heads, depth, first;
    bool whole;
} heads;

static bool has_perm(const ps_node *n, const int64_t *perm, size_t rank) {
    if (!ps_is(n, "Transpose")) return false;
    const ps_transpose_params *p = n->params;
    return p->perm.n == rank && memcmp(p->perm.data, perm, rank * sizeof *perm) == 0;
}

static const ps_node *producer(const ps_value *v, const ps_graph *g) {
    return v && v->producer && v->producer->graph == g ? v->producer : NULL;
}

static bool same_dim(int64_t a, int64_t b) {
    return a == b && a != PS_DIM_UNKNOWN;
}

/* Reshape [B, S, parts*H*D] -> [B, S, (parts,) H, D]. */
static bool split_columns(const ps_node *n, int rank, heads *h) {
    if (!ps_is_view(n)) return false;
    const ps_shape *in = &n->in[0]->shape, *out = &n->out[0]->shape;
    if (in->rank != 3 || out->rank != rank || !same_dim(in->dims[0], out->dims[0]) ||
        !same_dim(in->dims[1], out->dims[1])) {
        return false;
    }
    h->src = n->in[0];
    h->heads = out->dims[rank - 2];
    h->depth = out->dims[rank - 1];
    return h->heads > 0 && h->depth > 0 && in->dims[2] > 0;
}

/* Which part: Squeeze(Slice(x, i, i+1)) or Gather(x, i) along dim 0. */
static bool part_of(const ps_node *n, const ps_graph *g, ps_value **ret_src, int64_t *ret_part) {
    int64_t start, end, axis = 0, step = 1;
    size_t count;
    if (ps_is(n, "Gather") && ps_attr_int(n, "axis", 0) == 0 && n->in[1]->shape.rank == 0 &&
        ps_const_ints(n, 1, ret_part, 1, &count) && *ret_part >= 0) {
        *ret_src = n->in[0];
        return true;
    }
    if (!ps_is_view(n)) return false;
    const ps_shape *in = &n->in[0]->shape, *out = &n->out[0]->shape;
    if (in->rank != 5 || out->rank != 4 || in->dims[0] != 1 ||
        memcmp(in->dims + 1, out->dims, 4 * sizeof *in->dims) != 0) {
        return false;
    }
    const ps_node *slice = producer(n->in[0], g);
    if (!ps_is(slice, "Slice") || slice->n_in < 4 || !ps_const_ints(slice, 1, &start, 1, &count) || count != 1 ||
        !ps_const_ints(slice, 2, &end, 1, &count) || count != 1 || !ps_const_ints(slice, 3, &axis, 1, &count) ||
        axis != 0 || (ps_has_in(slice, 4) && (!ps_const_ints(slice, 4, &step, 1, &count) || step != 1)) || start < 0 ||
        end != start + 1) {
        return false;
    }
    *ret_src = slice->in[0];
    *ret_part = start;
    return true;
}

/* v [B, H, S, D]; with `transposed` v is [B, H, D, S]. */
static bool match_heads(const ps_value *v, const ps_graph *g, bool transposed, heads *h) {
    static const int64_t split[] = { 0, 2, 1, 3 }, split_t[] = { 0, 2, 3, 1 }, flip[] = { 0, 1, 3, 2 },
                         parts_perm[] = { 2, 0, 3, 1, 4 };
    const ps_node *n = producer(v, g);
    if (transposed) {
        if (has_perm(n, split_t, 4)) {
            h->first = 0;
            h->whole = true;
            return split_columns(producer(n->in[0], g), 4, h);
        }
        return has_perm(n, flip, 4) && match_heads(n->in[0], g, false, h);
    }
    if (has_perm(n, split, 4)) {
        h->first = 0;
        h->whole = true;
        return split_columns(producer(n->in[0], g), 4, h);
    }
    ps_value *all;
    int64_t part;
    if (!n || !part_of(n, g, &all, &part)) return false;
    const ps_node *transpose = producer(all, g);
    if (!has_perm(transpose, parts_perm, 5) || !split_columns(producer(transpose->in[0], g), 5, h)) return false;
    h->first = part * h->heads * h->depth;
    h->whole = false;
    return h->first + h->heads * h->depth <= h->src->shape.dims[2];
}

/* Strips a Mul or Div by one number. */
static ps_value *strip_scale(ps_value *v, const ps_graph *g, double *scale) {
    const ps_node *n = producer(v, g);
    float c;
    if (!n || n->n_in != 2 || !ps_shapes_agree(&n->out[0]->shape, &v->shape)) return v;
    for (size_t i = 0; i < 2; i++) {
        bool div = ps_is(n, "Div") && i == 1;
        if ((!ps_is(n, "Mul") && !div) || !ps_const_f32(n->in[i], &c) || c == 0) continue;
        if (n->in[1 - i]->shape.rank != v->shape.rank) return v;
        *scale *= div ? 1 / (double)c : (double)c;
        return n->in[1 - i];
    }
    return v;
}

typedef struct match {
    heads q, k, v;
    ps_value *mask;
    double scale;
} match;

static bool match_scores(ps_value *scores, const ps_graph *g, match *m) {
    m->scale = 1;
    ps_value *product = strip_scale(scores, g, &m->scale);
    const ps_node *n = producer(product, g);
    if (!ps_is(n, "MatMul")) return false;
    ps_value *q = strip_scale(n->in[0], g, &m->scale), *k = strip_scale(n->in[1], g, &m->scale);
    return match_heads(q, g, false, &m->q) && match_heads(k, g, true, &m->k) && m->q.heads == m->k.heads &&
           m->q.depth == m->k.depth;
}

/* The input of the Softmax: scores, or scores + mask. */
static bool match_masked(ps_value *v, const ps_graph *g, match *m) {
    m->mask = NULL;
    if (match_scores(v, g, m)) return true;
    const ps_node *add = producer(v, g);
    if (!ps_is(add, "Add") || add->n_in != 2) return false;
    for (size_t i = 0; i < 2; i++) {
        if (!match_scores(add->in[i], g, m)) continue;
        m->mask = add->in[1 - i];
        return m->mask->dtype == PS_DTYPE_F32 && m->mask->shape.rank >= 0 && m->mask->shape.rank <= 4 &&
               ps_shapes_agree(&add->in[i]->shape, &v->shape); /* the mask does not widen the scores */
    }
    return false;
}

static bool match_all(const ps_node *n, match *m) {
    static const int64_t merge[] = { 0, 2, 1, 3 };
    const ps_graph *g = n->graph;
    const ps_shape *out = &n->out[0]->shape;
    if (!ps_is_view(n) || out->rank != 3 || n->out[0]->dtype != PS_DTYPE_F32) return false;
    const ps_node *transpose = producer(n->in[0], g);
    if (!has_perm(transpose, merge, 4)) return false;
    const ps_node *context = producer(transpose->in[0], g);
    if (!ps_is(context, "MatMul")) return false;
    const ps_node *softmax = producer(context->in[0], g);
    if (!ps_is(softmax, "Softmax")) return false;
    int64_t axis = ((const ps_axis_params *)softmax->params)->axis;
    /* Before version 13 dims behind the axis were flattened together: the same for the last one. */
    if (axis != -1 && axis != 3) return false;
    if (!match_heads(context->in[1], g, false, &m->v) || !match_masked(softmax->in[0], g, m)) return false;
    const ps_shape *t = &transpose->out[0]->shape;
    return m->v.heads == m->q.heads && t->rank == 4 && same_dim(t->dims[0], out->dims[0]) &&
           same_dim(t->dims[1], out->dims[1]) && out->dims[2] == m->v.heads * m->v.depth;
}

/* The [B, S, H*D] value: src itself, or some of its columns. */
static ps_status columns(ps_rw *rw, ps_node *before, const heads *h, ps_value **ret) {
    *ret = h->src;
    int64_t width = h->heads * h->depth;
    if (h->whole && h->src->shape.dims[2] == width) return PS_OK;
    ps_value *in[4] = { h->src };
    ps_node *slice;
    PS_TRY(ps_rw_ints(rw, before->graph, &h->first, 1, &in[1]));
    PS_TRY(ps_rw_ints(rw, before->graph, (int64_t[]) { h->first + width }, 1, &in[2]));
    PS_TRY(ps_rw_ints(rw, before->graph, (int64_t[]) { 2 }, 1, &in[3]));
    PS_TRY(ps_rw_insert(rw, before, "Slice", "", in, 4, &slice));
    *ret = slice->out[0];
    return ps_rw_finish(rw, slice, 13);
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    match m;
    ps_value *in[4];
    ps_node *made;
    if (n->n_out != 1 || !ps_has_in(n, 0) || !match_all(n, &m)) return PS_OK;
    PS_TRY(columns(rw, n, &m.q, &in[0]));
    PS_TRY(columns(rw, n, &m.k, &in[1]));
    PS_TRY(columns(rw, n, &m.v, &in[2]));
    in[3] = m.mask;
    PS_TRY(ps_rw_replace(rw, n, "Attention", "polestar", in, m.mask ? 4 : 3, &made));
    PS_TRY(ps_node_set_int(made, "heads", m.q.heads, rw->err));
    PS_TRY(ps_node_set_float(made, "scale", (float)m.scale, rw->err));
    return ps_rw_finish(rw, made, 0);
}

ps_status ps_pass_attention(ps_rw *rw) {
    return rw->caps->fuse_attention ? ps_rw_each(rw, rewrite) : PS_OK;
}
