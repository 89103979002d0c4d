/* affine.c - constant factors and summands around products go into the weights and the bias.
 *
 * Behind: y = (W x + b) op k, op one of + - * /, k one number or one per output channel.
 * Before: W (x op k) + b, k one number or one per input channel; a summand only where no padding would have to be
 * shifted along with it. The product must be the only reader. Numbers change by rounding only. */
#include <math.h>

#include "passes/weights.h"

/* How a constant meets a tensor of `rank` dims whose dim `axis` has `channels`: one value, or one per channel. */
static bool per_channel(const ps_tensor *t, int rank, int axis, int64_t channels) {
    const ps_shape *s = &t->shape;
    if (ps_tensor_count(t) == 1) return s->rank <= rank;
    if (s->rank > rank || (int64_t)ps_tensor_count(t) != channels) return false;
    int d = axis - (rank - s->rank);
    return d >= 0 && s->dims[d] == channels;
}

typedef enum kind { NONE, ADD, SUB, RSUB, MUL, DIV } kind;

/* x op k, with k constant. */
static kind affine_node(const ps_node *n, ps_value **ret_x, const ps_tensor **ret_k) {
    static const struct {
        const char *name;
        kind left, right; /* constant first, constant second */
    } ops[] = { { "Add", ADD, ADD }, { "Mul", MUL, MUL }, { "Sub", RSUB, SUB }, { "Div", NONE, DIV } };
    if (!n || n->n_in != 2 || n->domain[0] || ps_node_attr(n, "broadcast") || n->out[0]->dtype != PS_DTYPE_F32)
        return NONE;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (!ps_is(n, ops[i].name)) continue;
        const ps_tensor *a = ps_const_floats(n->in[0]), *b = ps_const_floats(n->in[1]);
        if (!a == !b) return NONE;
        *ret_x = n->in[a ? 1 : 0];
        *ret_k = a ? a : b;
        return a ? ops[i].left : ops[i].right;
    }
    return NONE;
}

/* scale and shift per channel of x op k, in the arena; *ret_ok is false if one is not finite. */
static ps_status coefficients(ps_rw *rw, kind op, const ps_tensor *k, int64_t channels, double **scale, double **shift,
                              bool *ret_ok) {
    double *v = ps_arena_array(&rw->root->arena, (size_t)channels, 2 * sizeof *v);
    if (!v) return PS_FAIL_NOMEM(rw->err, "folded weights");
    bool one = ps_tensor_count(k) == 1;
    *ret_ok = true;
    for (int64_t c = 0; c < channels; c++) {
        double x = ((const float *)k->data)[one ? 0 : c];
        v[c] = op == MUL ? x : op == DIV ? 1 / x : op == RSUB ? -1 : 1;
        v[channels + c] = op == ADD || op == RSUB ? x : op == SUB ? -x : 0;
        if (!isfinite(v[c]) || !isfinite(v[channels + c])) *ret_ok = false;
    }
    *scale = op == ADD || op == SUB ? NULL : v;
    *shift = op == MUL || op == DIV ? NULL : v + channels;
    return PS_OK;
}

static ps_status fold_behind(ps_rw *rw, ps_node *n) {
    ps_value *x = NULL;
    const ps_tensor *k = NULL;
    double *scale, *shift;
    bool done, ok;
    kind op = affine_node(n, &x, &k);
    if (op == NONE) return PS_OK;
    ps_node *p = ps_sole_producer(x, n->graph);
    if (!ps_product_foldable(rw, p)) return PS_OK;
    int rank = ps_product_rank(p);
    int64_t channels = ps_product_channels(p);
    if (rank < 1 || !per_channel(k, rank, ps_product_channels_last(p) ? rank - 1 : 1, channels)) return PS_OK;
    if (ps_is(p, "MatMul") && op != MUL && op != DIV) return PS_OK; /* a bias: fuse_epilogue's */
    PS_TRY(coefficients(rw, op, k, channels, &scale, &shift, &ok));
    if (!ok) return PS_OK;
    PS_TRY(ps_product_scale(rw, p, scale, shift));
    return ps_rw_bypass(rw, n, x, &done);
}

/* ---- before a Conv ---- */

static bool is_padded(const ps_node *n) {
    const ps_conv_params *p = n->params;
    if (strncmp(p->auto_pad, "SAME", 4) == 0) return true;
    if (strcmp(p->auto_pad, "VALID") == 0) return false;
    for (size_t i = 0; i < p->pads.n; i++) {
        if (p->pads.data[i]) return true;
    }
    return false;
}

/* W[m, c, ...] *= scale[c of m's group]; *ret_bias[m] = sum of W[m, c, ...] shift[c]. */
static ps_status scale_inputs(ps_rw *rw, ps_node *conv, const double *scale, const double *shift, double *bias) {
    const ps_tensor *w = conv->in[1]->constant;
    int64_t m = w->shape.dims[0], cg = w->shape.dims[1], inner = ps_shape_product(&w->shape, 2, w->shape.rank);
    int64_t group = ((const ps_conv_params *)conv->params)->group, per_group = m / group;
    ps_tensor *t;
    PS_TRY(ps_tensor_need(w, rw->err));
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &w->shape, &t, rw->err));
    const float *src = w->data;
    float *dst = t->data;
    for (int64_t o = 0; o < m; o++) {
        bias[o] = 0;
        for (int64_t c = 0; c < cg; c++) {
            int64_t channel = o / per_group * cg + c;
            for (int64_t i = 0; i < inner; i++, src++, dst++) {
                *dst = (float)(scale ? *src * scale[channel] : *src);
                if (shift) bias[o] += *src * shift[channel];
            }
        }
    }
    ps_tensor_drop_pages(w);
    return ps_rw_set_constant(rw, conv, 1, t);
}

static ps_status fold_before(ps_rw *rw, ps_node *conv) {
    ps_value *x = NULL;
    const ps_tensor *k = NULL;
    double *scale, *shift;
    bool ok;
    if (!ps_is(conv, "Conv") || !ps_product_foldable(rw, conv)) return PS_OK;
    ps_node *n = ps_sole_producer(conv->in[0], conv->graph);
    kind op = affine_node(n, &x, &k);
    if (op == NONE || (is_padded(conv) && op != MUL && op != DIV)) return PS_OK;
    const ps_tensor *w = conv->in[1]->constant;
    int64_t group = ((const ps_conv_params *)conv->params)->group, m = w->shape.dims[0];
    if (group < 1 || m % group || w->shape.dims[1] > INT32_MAX || group > INT32_MAX) return PS_OK;
    int64_t channels = w->shape.dims[1] * group;
    /* Otherwise the constant could be what stretches x to its shape. */
    bool same = x->shape.rank == w->shape.rank && (ps_tensor_count(k) == 1 || x->shape.dims[1] == channels);
    if (channels < 1 || !same || !per_channel(k, w->shape.rank, 1, channels)) return PS_OK;
    PS_TRY(coefficients(rw, op, k, channels, &scale, &shift, &ok));
    if (!ok) return PS_OK;
    double *bias = ps_arena_array(&rw->root->arena, (size_t)m, sizeof *bias);
    if (!bias) return PS_FAIL_NOMEM(rw->err, "folded weights");
    PS_TRY(scale_inputs(rw, conv, scale, shift, bias));
    if (shift) PS_TRY(ps_product_scale(rw, conv, NULL, bias));
    PS_TRY(ps_node_set_input(conv, 0, x, rw->err));
    ps_rw_prune(n);
    rw->changes++;
    return ps_rw_finish(rw, conv, 0);
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    if (ps_is(n, "Conv")) return fold_before(rw, n);
    return fold_behind(rw, n);
}

ps_status ps_pass_affine(ps_rw *rw) {
    return ps_rw_each(rw, rewrite);
}
