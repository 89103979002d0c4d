/* weights.c - arithmetic on the weights of products. Sums are in double and rounded once. */
#include "passes/weights.h"

/* How output channels lie in the weights: element e belongs to channel (e / inner % count) + group part. */
typedef struct layout {
    int64_t channels, outer, per_outer, inner; /* weights are [outer, per_outer, inner] */
    int64_t outer_per_group;                   /* ConvTranspose: rows of one group; else 0 */
} layout;

static bool get_layout(const ps_node *n, layout *l) {
    const ps_tensor *w = ps_const_floats(ps_in(n, 1));
    if (!w) return false;
    const ps_shape *s = &w->shape;
    if (ps_is(n, "Conv") && s->rank >= 3) {
        *l = (layout) { s->dims[0], 1, s->dims[0], ps_shape_product(s, 1, s->rank), 0 };
        return true;
    }
    if (ps_is(n, "ConvTranspose") && s->rank >= 3) {
        int64_t group = ps_attr_int(n, "group", 1);
        if (group < 1 || s->dims[0] % group || s->dims[1] > INT32_MAX || group > INT32_MAX) return false;
        *l = (layout) { s->dims[1] * group, s->dims[0], s->dims[1], ps_shape_product(s, 2, s->rank),
                        s->dims[0] / group };
        return s->dims[0] > 0;
    }
    bool gemm = ps_is(n, "Gemm");
    if ((!gemm && !ps_is(n, "MatMul")) || s->rank != 2) return false;
    if (gemm && ps_attr_int(n, "transB", 0))
        *l = (layout) { s->dims[0], 1, s->dims[0], s->dims[1], 0 };
    else
        *l = (layout) { s->dims[1], s->dims[0], s->dims[1], 1, 0 };
    return true;
}

/* The bias is absent or a constant with one number or one per channel. */
static bool bias_fits(const ps_node *n, int64_t channels) {
    if (!ps_has_in(n, 2)) return true;
    const ps_tensor *b = ps_const_floats(n->in[2]);
    if (!b) return false;
    const ps_shape *s = &b->shape;
    int64_t count = (int64_t)ps_tensor_count(b);
    return count == 1 || (count == channels && s->rank >= 1 && s->dims[s->rank - 1] == channels);
}

/* Of 16 bits or codes: new ones would be f32. */
static bool stored_narrow(const ps_rw *rw, const ps_tensor *w) {
    return rw->caps->coded_weights && (w->narrow || w->codes);
}

bool ps_product_foldable(const ps_rw *rw, const ps_node *n) {
    layout l;
    if (!n || !n->op || !n->params == !ps_is(n, "MatMul") || n->in[0]->dtype != PS_DTYPE_F32) return false;
    if (!get_layout(n, &l) || l.channels < 1 || stored_narrow(rw, n->in[1]->constant)) return false;
    if (ps_is(n, "MatMul")) return true;
    if (ps_is(n, "Gemm")) {
        const ps_gemm_params *p = n->params;
        if (p->alpha != 1 || p->beta != 1) return false;
    }
    return bias_fits(n, l.channels);
}

int64_t ps_product_channels(const ps_node *n) {
    layout l;
    return get_layout(n, &l) ? l.channels : 0;
}

int ps_product_rank(const ps_node *n) {
    if (ps_is(n, "Gemm")) return 2;
    return ps_is(n, "MatMul") ? n->out[0]->shape.rank : n->in[1]->shape.rank;
}

bool ps_product_channels_last(const ps_node *n) {
    return ps_is(n, "Gemm") || ps_is(n, "MatMul");
}

/* dst may be src. */
static void scale_floats(const layout *l, const double *scale, const float *src, float *dst) {
    for (int64_t o = 0; o < l->outer; o++) {
        int64_t first = l->outer_per_group ? o / l->outer_per_group * l->per_outer : 0;
        for (int64_t c = 0; c < l->per_outer; c++) {
            for (int64_t i = 0; i < l->inner; i++, src++, dst++)
                *dst = (float)(*src * scale[first + c]);
        }
    }
}

/* In place where no other reader is: the pages of a copy cost more than the arithmetic. */
static ps_status scale_weights(ps_rw *rw, ps_node *n, const layout *l, const double *scale) {
    ps_value *v = n->in[1];
    ps_tensor *w = v->constant, *t;
    PS_TRY(ps_tensor_need(w, rw->err));
    float *own = v->n_uses == 1 && !v->n_outputs && !v->is_input ? ps_tensor_own_data(w) : NULL;
    if (own) {
        scale_floats(l, scale, own, own);
        return PS_OK;
    }
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &w->shape, &t, rw->err));
    scale_floats(l, scale, w->data, t->data);
    ps_tensor_drop_pages(w);
    return ps_rw_set_constant(rw, n, 1, t);
}

static ps_status set_bias(ps_rw *rw, ps_node *n, int64_t channels, const double *scale, const double *shift) {
    const ps_tensor *old = ps_has_in(n, 2) ? n->in[2]->constant : NULL;
    if (!old && !shift) return PS_OK;
    bool one = old && ps_tensor_count(old) == 1;
    ps_shape shape = ps_shape_make(1, &channels);
    ps_tensor *t;
    ps_value *v;
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &shape, &t, rw->err));
    for (int64_t c = 0; c < channels; c++) {
        double b = old ? ((const float *)old->data)[one ? 0 : c] : 0;
        ((float *)t->data)[c] = (float)(b * (scale ? scale[c] : 1) + (shift ? shift[c] : 0));
    }
    PS_TRY(ps_rw_constant(rw, n->graph, t, &v));
    if (n->n_in < 3) PS_TRY(ps_node_resize_inputs(n, 3, rw->err));
    return ps_node_set_input(n, 2, v, rw->err);
}

ps_status ps_product_scale(ps_rw *rw, ps_node *n, const double *scale, const double *shift) {
    layout l;
    PS_FAIL_IF(!get_layout(n, &l), rw->err, INTERNAL, "%s has no constant weights", n->op_type);
    if (scale) PS_TRY(scale_weights(rw, n, &l, scale));
    if (!ps_is(n, "MatMul")) PS_TRY(set_bias(rw, n, l.channels, scale, shift));
    return ps_rw_finish(rw, n, 0);
}
