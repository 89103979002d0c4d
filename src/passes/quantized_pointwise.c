/* quantized_pointwise.c - Add, Mul, pools and Concat of dequantised operands, and tables for what depends on one. */
#include "passes/quantized.h"

/* ---- Add, Mul ---- */

/* Constant codes of the other signedness. */
static ps_status flipped(ps_rw *rw, ps_graph *g, const ps_tensor *t, ps_value **ret) {
    ps_tensor *made;
    PS_TRY(ps_tensor_need(t, rw->err));
    PS_TRY(
        ps_tensor_new(rw->root->alloc, t->dtype == PS_DTYPE_U8 ? PS_DTYPE_I8 : PS_DTYPE_U8, &t->shape, &made, rw->err));
    for (size_t i = 0; i < t->bytes; i++)
        ((uint8_t *)made->data)[i] = ((const uint8_t *)t->data)[i] ^ 0x80;
    return ps_rw_constant(rw, g, made, ret);
}

/* c in codes of `type`; *ret_ok false: they are made at run time as others. */
static ps_status in_type(ps_rw *rw, ps_graph *g, ps_coded *c, ps_dtype type, bool *ret_ok) {
    PS_TRY(ps_zero_or_new(rw, g, c->zero, c->codes->dtype, &c->zero));
    *ret_ok = c->codes->dtype == type;
    if (*ret_ok) return PS_OK;
    const ps_tensor *codes = ps_const(c->codes), *zero = ps_const(c->zero);
    if (!codes || !zero) return PS_OK;
    *ret_ok = true;
    PS_TRY(flipped(rw, g, codes, &c->codes));
    return flipped(rw, g, zero, &c->zero);
}

ps_status ps_quantize_pair(ps_rw *rw, ps_node *n, ps_node *pair, const ps_code_range *range) {
    const bool add = ps_is(pair, "Add"), mul = ps_is(pair, "Mul");
    ps_coded c[2];
    ps_node *made;
    bool ok[2];
    if ((!add && !mul) || ps_node_attr(pair, "broadcast")) return PS_OK;
    if (!ps_is_coded(pair->in[0], &c[0]) || !ps_is_coded(pair->in[1], &c[1])) return PS_OK;
    for (int i = 0; i < 2; i++)
        if (!ps_codes_suit(rw, c[i].scale, c[i].zero) || !ps_codes_suit(rw, n->in[1], ps_in(n, 2))) return PS_OK;
    if (!ps_shape_fits(&c[1].codes->shape, &c[0].codes->shape)) {
        const ps_coded first = c[0];
        if (!ps_shape_fits(&c[0].codes->shape, &c[1].codes->shape)) return PS_OK;
        c[0] = c[1];
        c[1] = first;
    }
    for (int i = 0; i < 2; i++)
        PS_TRY(in_type(rw, n->graph, &c[i], n->out[0]->dtype, &ok[i]));
    if (!ok[0] || !ok[1]) return PS_OK;
    ps_value *in[8] = { c[0].codes, c[0].scale, c[0].zero, c[1].codes, c[1].scale, c[1].zero, n->in[1], NULL };
    PS_TRY(ps_zero_or_new(rw, n->graph, ps_in(n, 2), n->out[0]->dtype, &in[7]));
    PS_TRY(ps_rw_begin(rw, n, add ? "QLinearAdd" : "QLinearMul", "polestar", in, 8, &made));
    made->fused = NULL;
    made->name = pair->name;
    PS_TRY(ps_set_range(rw, made, range));
    if (n->in[0]->producer != pair) PS_TRY(ps_rw_fused(rw, made, "Clip"));
    PS_TRY(ps_rw_commit(rw, made, n));
    return ps_rw_finish(rw, made, 0);
}

/* ---- pools ---- */

ps_status ps_quantize_pool(ps_rw *rw, ps_node *n, ps_node *pool) {
    const bool global = ps_is(pool, "GlobalAveragePool");
    ps_coded c;
    ps_node *made;
    if (!global && (!ps_is(pool, "AveragePool") || ps_node_attr(pool, "dilations"))) return PS_OK;
    if (!ps_is_coded(pool->in[0], &c) || c.codes->dtype != n->out[0]->dtype) return PS_OK;
    if (!ps_codes_suit(rw, c.scale, c.zero) || !ps_codes_suit(rw, n->in[1], ps_in(n, 2))) return PS_OK;
    ps_value *in[5] = { c.codes, c.scale, NULL, n->in[1], NULL };
    PS_TRY(ps_zero_or_new(rw, n->graph, c.zero, c.codes->dtype, &in[2]));
    PS_TRY(ps_zero_or_new(rw, n->graph, ps_in(n, 2), c.codes->dtype, &in[4]));
    PS_TRY(
        ps_rw_begin(rw, n, global ? "QLinearGlobalAveragePool" : "QLinearAveragePool", "com.microsoft", in, 5, &made));
    PS_TRY(ps_node_copy_attrs(made, pool, rw->err));
    made->fused = NULL;
    made->name = pool->name;
    PS_TRY(ps_rw_commit(rw, made, n));
    made->op = ps_ops_find(made->op_type, made->domain, 1);
    return ps_rw_finish(rw, made, 0);
}

/* ---- Concat ---- */

/* v in codes of the QuantizeLinear `like`: DequantizeLinear and QuantizeLinear, which become nothing or a Lookup. */
static ps_status recoded(ps_rw *rw, ps_node *n, const ps_coded *c, const ps_node *like, ps_value **ret) {
    ps_value *in[3] = { c->codes, c->scale, c->zero };
    ps_node *made;
    PS_TRY(ps_rw_insert(rw, n, "DequantizeLinear", "", in, c->zero ? 3 : 2, &made));
    PS_TRY(ps_rw_finish(rw, made, 13));
    in[0] = made->out[0];
    in[1] = like->in[1];
    in[2] = ps_in(like, 2);
    PS_TRY(ps_rw_insert(rw, n, "QuantizeLinear", "", in, in[2] ? 3 : 2, &made));
    *ret = made->out[0];
    return ps_rw_finish(rw, made, 13);
}

ps_status ps_quantize_concat(ps_rw *rw, ps_node *n, ps_node *concat) {
    ps_coded c;
    ps_node *made;
    if (!ps_is(concat, "Concat") || (!ps_in(n, 2) && n->out[0]->dtype != PS_DTYPE_U8)) return PS_OK;
    for (uint32_t i = 0; i < concat->n_in; i++)
        if (!ps_is_coded(concat->in[i], &c)) return PS_OK;
    ps_value **in = ps_arena_array(&rw->root->arena, concat->n_in, sizeof *in);
    if (!in) return PS_FAIL_NOMEM(rw->err, "a node");
    for (uint32_t i = 0; i < concat->n_in; i++) {
        (void)ps_is_coded(concat->in[i], &c);
        PS_TRY(recoded(rw, n, &c, n, &in[i]));
    }
    PS_TRY(ps_rw_begin(rw, n, "Concat", "", in, concat->n_in, &made));
    PS_TRY(ps_node_copy_attrs(made, concat, rw->err));
    made->fused = NULL;
    made->name = concat->name;
    PS_TRY(ps_rw_commit(rw, made, n));
    return ps_rw_finish(rw, made, 13);
}

/* ---- Lookup ---- */

enum { CONE_MAX = 24, CODES = 256 };

/* What a QuantizeLinear depends on, back to the codes that it is all made of. */
typedef struct cone {
    ps_value *codes;          /* the one input, or NULL */
    ps_node *nodes[CONE_MAX]; /* in order of computation */
    ps_tensor *results[CONE_MAX];
    size_t n;
} cone;

static size_t place_of(const cone *c, const ps_node *n) {
    size_t i = 0;
    while (i < c->n && c->nodes[i] != n)
        i++;
    return i;
}

static bool is_scalar_linear(const ps_node *n) {
    const bool dequantize = ps_is(n, "DequantizeLinear");
    if (!dequantize && !ps_is_coding(n)) return false;
    ps_coded c;
    if (dequantize && !ps_is_coded(n->out[0], &c)) return false;
    return ps_const(n->in[1]) && (!ps_in(n, 2) || ps_const(n->in[2]));
}

/* A node whose every result depends on the element at its place only. */
static bool is_pointwise(const ps_node *n) {
    if (!n->op || n->n_out != 1 || ps_node_attr(n, "broadcast")) return false;
    if (is_scalar_linear(n) || ps_is_ours(n, "Lookup")) return true;
    return !n->domain[0] && (n->op->traits & PS_OP_POINTWISE) && n->out[0]->dtype == PS_DTYPE_F32;
}

/* Number: a constant that meets each element alike. */
static bool is_number(const ps_node *n, size_t i) {
    return ps_const(n->in[i]) && (ps_one_number(n->in[i]) || (ps_is_ours(n, "Lookup") && i == 1));
}

/* Made of constants alone, one number: a DequantizeLinear that the pass "fold" leaves alone for now. */
static bool is_constant_node(const ps_node *n) {
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] && !ps_const(n->in[i])) return false;
    return ps_one_number(n->out[0]);
}

static bool collect(cone *c, ps_value *v, const ps_graph *g, int depth) {
    ps_node *n = v->producer;
    const bool code = v->dtype == PS_DTYPE_U8 || v->dtype == PS_DTYPE_I8;
    if (code && !ps_is_ours(n, "Lookup")) {
        if (c->codes && c->codes != v) return false;
        if (ps_const(v)) return false;
        c->codes = v;
        return true;
    }
    if (!n || n->graph != g || depth > CONE_MAX || !is_pointwise(n)) return false;
    if (place_of(c, n) < c->n) return true;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!n->in[i] || is_number(n, i)) continue;
        if (!collect(c, n->in[i], g, depth + 1)) return false;
    }
    if (c->n == CONE_MAX) return false;
    c->nodes[c->n++] = n;
    return true;
}

static ps_status compute(ps_rw *rw, cone *c, size_t at, const ps_tensor *codes) {
    const ps_node *n = c->nodes[at];
    const ps_shape list = is_constant_node(n) ? ps_shape_make(0, NULL) : ps_shape_make(1, (int64_t[]) { CODES });
    const ps_shape scalar = ps_shape_make(0, NULL);
    const ps_tensor *in[8] = { NULL };
    ps_tensor numbers[8]; /* whatever their rank: it must not widen the list */
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        if (is_number(n, i)) {
            const ps_tensor *t = n->in[i]->constant;
            ps_tensor_init_view(&numbers[i], t->dtype, ps_one_number(n->in[i]) ? &scalar : &t->shape, t->data);
            in[i] = &numbers[i];
        } else
            in[i] = n->in[i] == c->codes ? codes : c->results[place_of(c, n->in[i]->producer)];
    }
    PS_TRY(ps_tensor_new(rw->root->alloc, n->out[0]->dtype, &list, &c->results[at], rw->err));
    return ps_ops_run_ref(n, in, &c->results[at], rw->root->alloc, 1, rw->err);
}

static ps_status table(ps_rw *rw, cone *c, ps_tensor **ret) {
    const ps_shape list = ps_shape_make(1, (int64_t[]) { CODES });
    ps_tensor *codes;
    PS_TRY(ps_tensor_new(rw->root->alloc, c->codes->dtype, &list, &codes, rw->err));
    for (int i = 0; i < CODES; i++)
        ((uint8_t *)codes->data)[i] = (uint8_t)i;
    ps_status status = PS_OK;
    for (size_t i = 0; i < c->n && status == PS_OK; i++)
        status = compute(rw, c, i, codes);
    ps_tensor_release(codes);
    *ret = c->results[c->n - 1];
    if (status == PS_OK) c->results[c->n - 1] = NULL;
    for (size_t i = 0; i < c->n; i++)
        ps_tensor_release(c->results[i]);
    return status;
}

static bool is_identity(const ps_tensor *t) {
    for (int i = 0; i < CODES; i++)
        if (((const uint8_t *)t->data)[i] != i) return false;
    return true;
}

/* Numbers of no more dims than the codes leave their shape as it is, whatever it turns out to be. */
static bool keeps_shape(const cone *c) {
    for (size_t k = 0; k < c->n; k++) {
        const ps_node *n = c->nodes[k];
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] && ps_const(n->in[i]) && !ps_is_ours(n, "Lookup") &&
                n->in[i]->shape.rank > c->codes->shape.rank)
                return false;
    }
    return c->codes->shape.rank >= 0;
}

ps_status ps_quantize_lookup(ps_rw *rw, ps_node *n) {
    cone c = { .n = 0 };
    ps_node *made;
    ps_tensor *t;
    if (!is_scalar_linear(n) || !collect(&c, n->in[0], n->graph, 0) || !c.codes || c.n == CONE_MAX) return PS_OK;
    if (!keeps_shape(&c)) return PS_OK;
    for (size_t i = 0; i < c.n; i++)
        if (c.nodes[i]->n_in > 8) return PS_OK;
    c.nodes[c.n++] = n;
    PS_TRY(table(rw, &c, &t));
    if (c.codes->dtype == n->out[0]->dtype && is_identity(t)) {
        bool done;
        ps_tensor_release(t);
        return ps_rw_bypass(rw, n, c.codes, &done);
    }
    const char *text = c.n > 2 ? c.nodes[c.n - 2]->op_type : "Requantize";
    ps_value *in[2] = { c.codes };
    PS_TRY(ps_rw_constant(rw, n->graph, t, &in[1]));
    PS_TRY(ps_rw_replace(rw, n, "Lookup", "polestar", in, 2, &made));
    made->fused = NULL;
    PS_TRY(ps_rw_fused(rw, made, text));
    return ps_rw_finish(rw, made, 0);
}

ps_status ps_quantize_lookup_of(ps_rw *rw, ps_node *n, size_t input) {
    cone c = { .codes = n->in[input], .nodes = { n }, .n = 1 };
    ps_node *made;
    ps_tensor *t;
    if (!keeps_shape(&c) || n->n_in > 8 || ps_const(c.codes)) return PS_OK;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (i != input && n->in[i] && !is_number(n, i)) return PS_OK;
    PS_TRY(table(rw, &c, &t));
    ps_value *in[2] = { c.codes };
    PS_TRY(ps_rw_constant(rw, n->graph, t, &in[1]));
    PS_TRY(ps_rw_replace(rw, n, "Lookup", "polestar", in, 2, &made));
    return ps_rw_finish(rw, made, 0);
}
