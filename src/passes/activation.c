/* activation.c - recognises activations that exporters spelled out, in whatever order they multiplied.
 *
 * For the last node of a candidate and a guess at its argument x, the expression above x is evaluated symbolically as
 *     scale * x^degree * gate(x),  degree 0 or 1, at most one gate,
 * where a gate is one of
 *     clip(a x + b, 0, h) = h hardsigmoid;  sigmoid(k x);  1 + erf(x / sqrt 2);  1 + tanh(sqrt(2/pi) (x + 0.044715
 * x^3)). Arguments of gates are polynomials in x up to degree 3. The result is a "polestar" Pointwise with one
 * post-operation. HardSwish and HardSigmoid: Howard et al., arXiv:1905.02244; Swish: arXiv:1710.05941; GELU:
 * arXiv:1606.08415. */
#include <math.h>

#include "passes/rewrite.h"

enum { MAX_DEPTH = 7, MAX_CANDIDATES = 8, DEGREE = 3 };

typedef struct poly {
    double c[DEGREE + 1];
} poly;

typedef enum gate { NO_GATE, HARD, SIGMOID, ERF, TANH } gate;

typedef struct form {
    double scale;
    int degree;
    gate gate;
    double alpha, beta; /* of HARD and SIGMOID */
} form;

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-4 * (fabs(b) > 1e-3 ? fabs(b) : 1e-3);
}

/* The two inputs of a plain binary node of ai.onnx. */
static bool is_binary(const ps_node *n, const char *op) {
    return ps_is(n, op) && n->n_in == 2 && n->in[0] && n->in[1] && !ps_node_attr(n, "broadcast");
}

static bool eval_poly(const ps_value *v, const ps_value *x, poly *ret, int depth);

static bool multiply(const poly *a, const poly *b, poly *ret) {
    *ret = (poly) { { 0 } };
    for (int i = 0; i <= DEGREE; i++) {
        for (int k = 0; k <= DEGREE; k++) {
            double c = a->c[i] * b->c[k];
            if (c == 0) continue;
            if (i + k > DEGREE) return false;
            ret->c[i + k] += c;
        }
    }
    return true;
}

static bool eval_power(const ps_node *n, const ps_value *x, poly *ret, int depth) {
    poly base;
    float e;
    if (!ps_const_f32(n->in[1], &e) || (e != 2 && e != 3) || !eval_poly(n->in[0], x, &base, depth - 1)) return false;
    *ret = base;
    for (int i = 1; i < (int)e; i++) {
        poly left = *ret;
        if (!multiply(&left, &base, ret)) return false;
    }
    return true;
}

static bool eval_sum(const ps_node *n, const ps_value *x, double sign, poly *ret, int depth) {
    poly a, b;
    if (!eval_poly(n->in[0], x, &a, depth - 1) || !eval_poly(n->in[1], x, &b, depth - 1)) return false;
    for (int i = 0; i <= DEGREE; i++)
        ret->c[i] = a.c[i] + sign * b.c[i];
    return true;
}

static bool eval_product(const ps_node *n, const ps_value *x, poly *ret, int depth) {
    poly a, b;
    return eval_poly(n->in[0], x, &a, depth - 1) && eval_poly(n->in[1], x, &b, depth - 1) && multiply(&a, &b, ret);
}

static bool eval_quotient(const ps_node *n, const ps_value *x, poly *ret, int depth) {
    float c;
    if (!ps_const_f32(n->in[1], &c) || c == 0 || !eval_poly(n->in[0], x, ret, depth - 1)) return false;
    for (int i = 0; i <= DEGREE; i++)
        ret->c[i] /= c;
    return true;
}

static bool eval_poly(const ps_value *v, const ps_value *x, poly *ret, int depth) {
    float c;
    *ret = (poly) { { 0 } };
    if (v == x) {
        ret->c[1] = 1;
        return true;
    }
    if (ps_const_f32(v, &c)) {
        ret->c[0] = c;
        return true;
    }
    const ps_node *n = v->producer;
    if (depth == 0 || !n || n->graph != x->graph) return false;
    if (is_binary(n, "Add")) return eval_sum(n, x, 1, ret, depth);
    if (is_binary(n, "Sub")) return eval_sum(n, x, -1, ret, depth);
    if (is_binary(n, "Mul")) return eval_product(n, x, ret, depth);
    if (is_binary(n, "Div")) return eval_quotient(n, x, ret, depth);
    if (is_binary(n, "Pow")) return eval_power(n, x, ret, depth);
    return false;
}

static bool clip_bounds(const ps_node *n, float *lo, float *hi) {
    if (n->op->since >= 11)
        return ps_has_in(n, 1) && ps_has_in(n, 2) && ps_const_f32(n->in[1], lo) && ps_const_f32(n->in[2], hi);
    const ps_attr *a = ps_node_attr(n, "min"), *b = ps_node_attr(n, "max");
    if (!a || !b || a->type != PS_ATTR_FLOAT || b->type != PS_ATTR_FLOAT) return false;
    *lo = a->u.f;
    *hi = b->u.f;
    return true;
}

static bool linear(const ps_value *v, const ps_value *x, poly *p) {
    return eval_poly(v, x, p, 3) && p->c[1] != 0 && p->c[2] == 0 && p->c[3] == 0;
}

/* 1 + erf(...) or 1 + tanh(...), either order. */
static bool eval_one_plus(const ps_node *n, const ps_value *x, form *f) {
    float one;
    for (size_t i = 0; i < 2; i++) {
        const ps_node *g = n->in[i]->producer;
        poly p;
        if (!g || g->graph != n->graph || !ps_const_f32(n->in[1 - i], &one) || one != 1) continue;
        if (ps_is(g, "Erf") && linear(g->in[0], x, &p) && p.c[0] == 0 && near(p.c[1], 0.70710678118654752)) {
            *f = (form) { 1, 0, ERF, 0, 0 };
            return true;
        }
        if (ps_is(g, "Tanh") && eval_poly(g->in[0], x, &p, MAX_DEPTH) && p.c[0] == 0 && p.c[2] == 0 &&
            near(p.c[1], 0.79788456080286536) && near(p.c[3] / p.c[1], 0.044715)) {
            *f = (form) { 1, 0, TANH, 0, 0 };
            return true;
        }
    }
    return false;
}

static bool eval_gate(const ps_node *n, const ps_value *x, form *f) {
    poly p;
    float lo, hi;
    ps_post posts[PS_MAX_POSTS];
    if (ps_is(n, "Sigmoid") && linear(n->in[0], x, &p) && p.c[0] == 0) {
        *f = (form) { 1, 0, SIGMOID, p.c[1], 0 };
        return true;
    }
    if (ps_is(n, "HardSigmoid") && n->in[0] == x) {
        const ps_attr *a = ps_node_attr(n, "alpha"), *b = ps_node_attr(n, "beta");
        *f = (form) { 1, 0, HARD, a ? a->u.f : 0.2f, b ? b->u.f : 0.5f };
        return true;
    }
    if (ps_is_ours(n, "Pointwise") && n->in[0] == x && ps_node_posts(n, posts) == 1 &&
        posts[0].kind == PS_POST_HARD_SIGMOID) {
        *f = (form) { 1, 0, HARD, posts[0].alpha, posts[0].beta };
        return true;
    }
    if (ps_is(n, "Clip") && clip_bounds(n, &lo, &hi) && lo == 0 && hi > 0 && linear(n->in[0], x, &p)) {
        *f = (form) { hi, 0, HARD, p.c[1] / hi, p.c[0] / hi };
        return true;
    }
    return is_binary(n, "Add") && eval_one_plus(n, x, f);
}

static bool eval_form(const ps_value *v, const ps_value *x, form *f, int depth) {
    float c;
    if (v == x) {
        *f = (form) { 1, 1, NO_GATE, 0, 0 };
        return true;
    }
    if (ps_const_f32(v, &c)) {
        *f = (form) { c, 0, NO_GATE, 0, 0 };
        return true;
    }
    const ps_node *n = v->producer;
    if (depth == 0 || !n || n->graph != x->graph) return false;
    if (is_binary(n, "Div")) {
        if (!ps_const_f32(n->in[1], &c) || c == 0 || !eval_form(n->in[0], x, f, depth - 1)) return false;
        f->scale /= c;
        return true;
    }
    if (!is_binary(n, "Mul")) return eval_gate(n, x, f);
    form a, b;
    if (!eval_form(n->in[0], x, &a, depth - 1) || !eval_form(n->in[1], x, &b, depth - 1)) return false;
    if (a.degree + b.degree > 1 || (a.gate && b.gate)) return false;
    *f = a.gate ? a : b;
    f->scale = a.scale * b.scale;
    f->degree = a.degree + b.degree;
    return true;
}

/* The post-operation that a form is, exactly. */
static bool form_post(const form *f, ps_post *p) {
    *p = (ps_post) { .operand = -1, .alpha = (float)f->alpha, .beta = (float)f->beta };
    double want = f->gate == ERF || f->gate == TANH ? 0.5 : 1.0;
    if (fabs(f->scale - want) > 1e-6 * want) return false;
    if (f->degree == 0) {
        p->kind = PS_POST_HARD_SIGMOID;
        return f->gate == HARD;
    }
    switch (f->gate) {
    case HARD: p->kind = PS_POST_HARD_SWISH; return true;
    case SIGMOID: p->kind = PS_POST_SWISH; return true;
    case ERF: p->kind = PS_POST_GELU; return true;
    case TANH: p->kind = PS_POST_GELU_TANH; return true;
    default: return false;
    }
}

/* Values that could be x: what the expression reaches through pointwise nodes. */
static void candidates(const ps_value *v, const ps_graph *g, ps_value **list, size_t *n, int depth) {
    const ps_node *p = v->producer;
    if (!p || p->graph != g || depth == 0) return;
    bool known = ps_is(p, "Mul") || ps_is(p, "Div") || ps_is(p, "Add") || ps_is(p, "Clip") || ps_is(p, "Sigmoid") ||
                 ps_is(p, "HardSigmoid") || ps_is_ours(p, "Pointwise");
    for (uint32_t i = 0; known && i < p->n_in && i < 2; i++) {
        ps_value *in = p->in[i];
        if (!in || ps_const(in)) continue;
        bool seen = false;
        for (size_t k = 0; k < *n; k++)
            seen |= list[k] == in;
        if (!seen && *n < MAX_CANDIDATES) list[(*n)++] = in;
        candidates(in, g, list, n, depth - 1);
    }
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    ps_value *list[MAX_CANDIDATES];
    size_t count = 0;
    if ((!ps_is(n, "Mul") && !ps_is(n, "Div")) || !n->op || n->out[0]->dtype != PS_DTYPE_F32) return PS_OK;
    candidates(n->out[0], n->graph, list, &count, 4);
    /* The deepest first: above it lies the most of the pattern. */
    for (size_t i = count; i-- > 0;) {
        form f;
        ps_post p;
        ps_node *made;
        /* Constants of higher rank than x would widen the result. */
        bool same = ps_shapes_agree(&list[i]->shape, &n->out[0]->shape) ||
                    (list[i]->shape.rank >= 1 && list[i]->shape.rank == n->out[0]->shape.rank);
        if (!same || !eval_form(n->out[0], list[i], &f, 6) || !form_post(&f, &p)) continue;
        PS_TRY(ps_rw_replace(rw, n, "Pointwise", "polestar", &list[i], 1, &made));
        PS_TRY(ps_node_add_post(made, p.kind, p.alpha, p.beta, NULL, rw->err));
        made->fused = ps_post_name(p.kind);
        return ps_rw_finish(rw, made, 0);
    }
    return PS_OK;
}

ps_status ps_pass_activation(ps_rw *rw) {
    return rw->caps->fuse_epilogue || rw->caps->fuse_pointwise ? ps_rw_each(rw, rewrite) : PS_OK;
}
