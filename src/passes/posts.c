/* posts.c - which nodes are post-operations. */
#include "passes/posts.h"

#include <float.h>
#include <math.h>

static float attr_float(const ps_node *n, const char *name, float def) {
    const ps_attr *a = ps_node_attr(n, name);
    return a && a->type == PS_ATTR_FLOAT ? a->u.f : def;
}

static bool optional_f32(const ps_node *n, size_t i, float def, float *ret) {
    *ret = def;
    return !ps_has_in(n, i) || ps_const_f32(n->in[i], ret);
}

static bool clip_post(const ps_node *n, ps_post *p) {
    p->kind = PS_POST_CLIP;
    if (n->op->since < 11) {
        p->alpha = attr_float(n, "min", -FLT_MAX);
        p->beta = attr_float(n, "max", FLT_MAX);
        return true;
    }
    return optional_f32(n, 1, -FLT_MAX, &p->alpha) && optional_f32(n, 2, FLT_MAX, &p->beta);
}

static bool unary_post(const ps_node *n, ps_post *p) {
    static const struct {
        const char *op;
        ps_post_kind kind;
    } plain[] = { { "Relu", PS_POST_RELU }, { "Sigmoid", PS_POST_SIGMOID },
                  { "Tanh", PS_POST_TANH }, { "Exp", PS_POST_EXP },
                  { "Sqrt", PS_POST_SQRT }, { "Abs", PS_POST_ABS },
                  { "Erf", PS_POST_ERF },   { "Reciprocal", PS_POST_RECIPROCAL } };
    *p = (ps_post) { .operand = -1 };
    if (n->domain[0]) return false;
    if (ps_is(n, "Clip")) return clip_post(n, p);
    if (n->n_in != 1) return false;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        p->kind = plain[i].kind;
        if (ps_is(n, plain[i].op)) return true;
    }
    if (ps_is(n, "LeakyRelu"))
        *p = (ps_post) { PS_POST_LEAKY_RELU, -1, attr_float(n, "alpha", 0.01f), 0 };
    else if (ps_is(n, "HardSigmoid"))
        *p = (ps_post) { PS_POST_HARD_SIGMOID, -1, attr_float(n, "alpha", 0.2f), attr_float(n, "beta", 0.5f) };
    else if (ps_is(n, "HardSwish"))
        *p = (ps_post) { PS_POST_HARD_SWISH, -1, 1.0f / 6, 0.5f };
    else if (ps_is(n, "Neg"))
        *p = (ps_post) { PS_POST_LINEAR, -1, -1, 0 };
    else if (ps_is(n, "Gelu")) {
        const ps_attr *a = ps_node_attr(n, "approximate");
        bool tanh_form = a && a->type == PS_ATTR_STRING && strcmp(a->u.s, "tanh") == 0;
        p->kind = tanh_form ? PS_POST_GELU_TANH : PS_POST_GELU;
    } else
        return false;
    return true;
}

/* x op c with one constant number: one LINEAR instead of an operand. *p is untouched where that cannot be said. */
static bool linear_post(const char *op, bool chain_first, float c, ps_post *p) {
    ps_post linear = { PS_POST_LINEAR, -1, 1, 0 };
    if (strcmp(op, "Add") == 0)
        linear.beta = c;
    else if (strcmp(op, "Mul") == 0)
        linear.alpha = c;
    else if (strcmp(op, "Sub") == 0) {
        linear.alpha = chain_first ? 1 : -1;
        linear.beta = chain_first ? -c : c;
    } else if (strcmp(op, "Div") == 0 && chain_first && isfinite(1 / c))
        linear.alpha = 1 / c;
    else
        return false;
    *p = linear;
    return true;
}

static bool binary_post(const ps_node *n, size_t index, ps_post *p, ps_value **operand) {
    static const struct {
        const char *op;
        ps_post_kind first, second; /* the chain is input 0 / input 1 */
    } ops[] = { { "Add", PS_POST_ADD, PS_POST_ADD }, { "Sub", PS_POST_SUB, PS_POST_RSUB },
                { "Mul", PS_POST_MUL, PS_POST_MUL }, { "Div", PS_POST_DIV, PS_POST_RDIV },
                { "Max", PS_POST_MAX, PS_POST_MAX }, { "Min", PS_POST_MIN, PS_POST_MIN } };
    if (n->domain[0] || n->n_in != 2 || ps_node_attr(n, "broadcast")) return false;
    *p = (ps_post) { .operand = -1 };
    *operand = n->in[1 - index];
    if (!*operand || (*operand)->dtype != PS_DTYPE_F32) return false;
    float c;
    bool number = ps_const_f32(*operand, &c);
    if (index == 0 && number && ps_is(n, "Pow")) {
        *p = (ps_post) { PS_POST_POW, -1, c, 0 };
        *operand = NULL;
        return true;
    }
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (!ps_is(n, ops[i].op)) continue;
        p->kind = index == 0 ? ops[i].first : ops[i].second;
        if (number && linear_post(n->op_type, index == 0, c, p)) *operand = NULL;
        return true;
    }
    return false;
}

size_t ps_node_as_posts(const ps_node *n, size_t index, ps_post ret_posts[PS_MAX_POSTS],
                        ps_value *ret_operands[PS_MAX_POSTS]) {
    if (!n->op || n->n_out != 1 || n->out[0]->dtype != PS_DTYPE_F32 || n->in[index]->dtype != PS_DTYPE_F32) return 0;
    ret_operands[0] = NULL;
    if (ps_is_ours(n, "Pointwise")) {
        for (uint32_t i = 1; i < n->n_in; i++) {
            if (n->in[i] && !ps_shape_fits(&n->in[i]->shape, &n->in[0]->shape)) return 0;
        }
        if (index != 0) return 0;
        size_t count = ps_node_posts(n, ret_posts);
        for (size_t i = 0; i < count; i++)
            ret_operands[i] = ret_posts[i].operand >= 0 ? n->in[ret_posts[i].operand] : NULL;
        return count;
    }
    if (index == 0 && unary_post(n, &ret_posts[0])) return 1;
    if (!binary_post(n, index, &ret_posts[0], &ret_operands[0])) return 0;
    return ps_shape_fits(&n->in[1 - index]->shape, &n->in[index]->shape) ? 1 : 0;
}

/* Two LINEARs in a row are one, unless a factor is so large that a difference before it would be lost behind it
 * (attention masks: (1 - x) * -1e38). */
static ps_status append_linear(ps_rw *rw, ps_node *base, const ps_post *p, bool *done) {
    ps_post present[PS_MAX_POSTS];
    size_t n = ps_node_posts(base, present);
    *done = n && p->kind == PS_POST_LINEAR && present[n - 1].kind == PS_POST_LINEAR && fabsf(p->alpha) <= 1e3f;
    if (!*done) return PS_OK;
    const ps_attr *old = ps_node_attr(base, "post_arg");
    float args[2 * PS_MAX_POSTS];
    memcpy(args, old->u.floats, old->n * sizeof *args);
    args[2 * n - 2] = p->alpha * present[n - 1].alpha;
    args[2 * n - 1] = p->alpha * present[n - 1].beta + p->beta;
    return ps_node_set_floats(base, "post_arg", args, 2 * n, rw->err);
}

ps_status ps_append_posts(ps_rw *rw, ps_node *base, const ps_post *posts, ps_value *const *operands, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool done;
        PS_TRY(append_linear(rw, base, &posts[i], &done));
        if (done) continue;
        PS_TRY(ps_node_add_post(base, posts[i].kind, posts[i].alpha, posts[i].beta, operands[i], rw->err));
    }
    return PS_OK;
}

ps_status ps_swallow(ps_rw *rw, ps_node *base, ps_node *n, const ps_post *posts, ps_value *const *operands,
                     size_t count) {
    ps_value *out = n->out[0];
    const char *text = n->fused ? n->fused : n->op_type;
    PS_TRY(ps_append_posts(rw, base, posts, operands, count));
    PS_TRY(ps_rw_fused(rw, base, text));
    ps_node_move(base, n);
    PS_TRY(ps_node_set_output(n, 0, NULL, rw->err));
    ps_node_remove(n);
    PS_TRY(ps_node_set_output(base, 0, out, rw->err));
    rw->changes++;
    return ps_rw_finish(rw, base, 0);
}
