/* chain.c - see chain.h. */
#include "backend/chain.h"

#include <float.h>

bool ps_broadcast_strides(const ps_shape *shape, ps_layout layout, const ps_shape *out, int64_t strides[PS_MAX_RANK]) {
    int64_t own[PS_MAX_RANK];
    int shift = out->rank - shape->rank;
    if (shift < 0) return false;
    ps_layout_strides(shape, layout, own);
    for (int i = 0; i < out->rank; i++) {
        strides[i] = 0;
        if (i < shift || shape->dims[i - shift] == 1) continue;
        if (shape->dims[i - shift] != out->dims[i]) return false;
        strides[i] = own[i - shift];
    }
    return true;
}

bool ps_layout_fits(const ps_shape *shape, ps_layout layout, ps_layout out_layout) {
    return layout == out_layout || ps_layout_same(shape);
}

static bool mergeable(int64_t outer, const int64_t *strides, int at, int64_t inner_dim) {
    return outer == strides[at] * inner_dim;
}

/* Appends the dim (strides of x and all operands over axis a), merging it into the one before where all agree. */
static void append_dim(ps_chain *c, int64_t dim, const int64_t *x, int64_t (*ops)[PS_MAX_RANK], int a) {
    int last = c->rank - 1;
    bool merge = last >= 0 && mergeable(c->x[last], x, a, dim);
    for (int i = 0; i < c->n && merge; i++)
        merge = mergeable(c->operand[i][last], ops[i], a, dim);
    if (!merge) last = c->rank++;
    c->dims[last] = merge ? c->dims[last] * dim : dim;
    c->x[last] = x[a];
    for (int i = 0; i < c->n; i++)
        c->operand[i][last] = ops[i][a];
}

bool ps_chain_init(ps_chain *c, const ps_node *node, const ps_post *posts, int n, const ps_shape *start,
                   ps_layout start_layout, const ps_layout *in_layout, const ps_shape *out, ps_layout out_layout,
                   int threads) {
    int64_t x[PS_MAX_RANK] = { 0 }, ops[PS_MAX_POSTS][PS_MAX_RANK] = { { 0 } };
    int order[PS_MAX_RANK + 1];
    memset(c, 0, sizeof *c);
    c->n = n;
    c->threads = threads;
    if (!ps_broadcast_strides(start, start_layout, out, x)) return false;
    for (int i = 0; i < n; i++) {
        c->posts[i] = posts[i];
        if (!ps_post_is_binary(posts[i].kind)) continue;
        int k = posts[i].operand;
        if (node->in[k]->dtype != PS_DTYPE_F32) return false;
        if (!ps_broadcast_strides(&node->in[k]->shape, in_layout[k], out, ops[i])) return false;
    }
    ps_layout_axes(out->rank, out_layout, order);
    for (int i = 0; i < out->rank; i++) {
        if (out->dims[order[i]] != 1) append_dim(c, out->dims[order[i]], x, ops, order[i]);
    }
    if (c->rank == 0) {
        c->rank = 1;
        c->dims[0] = 1;
    }
    return true;
}

ps_layout ps_chain_layout(ps_lowering *l) {
    const ps_node *n = l->node;
    const ps_shape *out = &n->out[0]->shape;
    ps_layout layout = PS_LAYOUT_PLAIN;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] && l->in_layout[i] == PS_LAYOUT_CHANNELS_LAST && !ps_layout_same(&n->in[i]->shape) &&
            ps_shape_equal(&n->in[i]->shape, out))
            layout = PS_LAYOUT_CHANNELS_LAST;
    }
    for (uint32_t i = 0; i < n->n_in; i++) { /* lower ranks are plain whatever the output's layout is */
        if (!n->in[i] || ps_layout_fits(&n->in[i]->shape, l->in_layout[i], layout)) continue;
        l->in_layout[i] = n->in[i]->shape.rank == out->rank ? layout : PS_LAYOUT_PLAIN;
    }
    return layout;
}

int ps_chain_inplace(const ps_chain *c, const ps_node *n, int start) {
    for (int i = 0; i < c->n; i++) {
        if (ps_post_is_binary(c->posts[i].kind) && c->posts[i].operand == start) return -1;
    }
    return ps_shape_equal(&n->in[start]->shape, &n->out[0]->shape) ? start : -1;
}

/* A constant limit of Clip, or none. */
static bool clip_limit(const ps_node *n, size_t i, float none, float *ret) {
    double v;
    *ret = none;
    if (!ps_has_in(n, i)) return true;
    if (!ps_const_double(n, i, &v)) return false;
    *ret = (float)v;
    return true;
}

static bool clip_limits(const ps_node *n, ps_post *p) {
    if (n->op->since < 11) {
        const ps_clip_params *c = n->params;
        p->alpha = c->min;
        p->beta = c->max;
        return true;
    }
    return clip_limit(n, 1, -FLT_MAX, &p->alpha) && clip_limit(n, 2, FLT_MAX, &p->beta);
}

/* What the attributes say; false where that is not known now. */
static bool fill_post(const ps_node *n, ps_post *p) {
    switch (p->kind) {
    case PS_POST_CLIP: return clip_limits(n, p);
    case PS_POST_LEAKY_RELU:
    case PS_POST_HARD_SIGMOID:
        p->alpha = ((const ps_alpha_params *)n->params)->alpha;
        p->beta = ((const ps_alpha_params *)n->params)->beta;
        return true;
    case PS_POST_HARD_SWISH:
        p->alpha = 1.0f / 6;
        p->beta = 0.5f;
        return true;
    case PS_POST_GELU:
        if (strcmp(((const ps_gelu_params *)n->params)->approximate, "tanh") == 0) p->kind = PS_POST_GELU_TANH;
        return true;
    case PS_POST_LINEAR: p->alpha = -1; return true; /* Neg */
    default: return true;
    }
}

bool ps_node_as_post(const ps_node *n, ps_post *ret) {
    static const struct {
        const char *op;
        ps_post_kind kind;
    } table[] = { { "Add", PS_POST_ADD },
                  { "Sub", PS_POST_SUB },
                  { "Mul", PS_POST_MUL },
                  { "Div", PS_POST_DIV },
                  { "Max", PS_POST_MAX },
                  { "Min", PS_POST_MIN },
                  { "Relu", PS_POST_RELU },
                  { "Sigmoid", PS_POST_SIGMOID },
                  { "Tanh", PS_POST_TANH },
                  { "Exp", PS_POST_EXP },
                  { "Sqrt", PS_POST_SQRT },
                  { "Abs", PS_POST_ABS },
                  { "Erf", PS_POST_ERF },
                  { "Reciprocal", PS_POST_RECIPROCAL },
                  { "Clip", PS_POST_CLIP },
                  { "LeakyRelu", PS_POST_LEAKY_RELU },
                  { "HardSigmoid", PS_POST_HARD_SIGMOID },
                  { "HardSwish", PS_POST_HARD_SWISH },
                  { "Gelu", PS_POST_GELU },
                  { "Neg", PS_POST_LINEAR } };
    if (n->domain[0] || (n->op->since < 7 && ps_node_attr(n, "broadcast"))) return false; /* an axis says what meets */
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(n->op_type, table[i].op) != 0) continue;
        const bool binary = ps_post_is_binary(table[i].kind);
        *ret = (ps_post) { table[i].kind, binary ? 1 : -1, 0, 0 };
        if (binary ? n->n_in != 2 : n->n_in != 1 && ret->kind != PS_POST_CLIP) return false;
        return fill_post(n, ret);
    }
    return false;
}
