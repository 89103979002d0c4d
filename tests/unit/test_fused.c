/* Fused operators against the nodes that they replace: each case is one graph that computes `u` node by node and `f` by
 * a fused node, which gets its post-operations through ps_node_add_post. In f32 both must agree bit for bit: the fused
 * kernel rounds where the nodes round, and both use the same scalar formulas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "ops/ops.h"
#include "ops/params.h"

enum { MAX_VALUES = 64, MAX_STEPS = 8 };

typedef struct step {
    ps_post_kind kind;
    float alpha, beta;
    const char *operand; /* NULL: none */
} step;

typedef struct fused_case {
    const char *text;
    step steps[MAX_STEPS];
    size_t n;
} fused_case;

static ps_alloc_state alloc;

static int setup(void **state) {
    (void)state;
    ps_alloc_state_init(&alloc, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return atomic_load(&alloc.bytes) == 0 ? 0 : -1; /* nothing leaks */
}

static ps_graph *parse(const char *body) {
    char text[2048];
    ps_graph *g = NULL;
    ps_error err = PS_ERROR_INIT;
    snprintf(text, sizeof text, "graph g %s", body);
    if (ps_graph_parse(&alloc, text, &g, &err) != PS_OK) fail_msg("%s", err.msg);
    return g;
}

static ps_status check(ps_graph *g, ps_error *err) {
    PS_TRY(ps_ops_resolve(g, err));
    return ps_ops_infer(g, err);
}

/* Values in [-2, 2) that no rounding of a short sum is exact for. */
static void fill(ps_tensor *t, uint32_t seed) {
    float *x = t->data;
    for (size_t i = 0; i < ps_tensor_count(t); i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / (float)(1 << 22) - 2;
    }
}

static void run_graph(ps_graph *g, ps_tensor **values) {
    ps_error err = PS_ERROR_INIT;
    assert_true(g->n_ids <= MAX_VALUES);
    for (ps_value *v = g->all_values; v; v = v->next_all) {
        if (v->constant) {
            values[v->id] = ps_tensor_retain(v->constant);
            continue;
        }
        assert_true(ps_shape_fixed(&v->shape));
        assert_int_equal(ps_tensor_new(&alloc, v->dtype, &v->shape, &values[v->id], NULL), PS_OK);
        if (v->is_input) fill(values[v->id], v->id + 1);
    }
    for (ps_node *n = g->first; n; n = n->next) {
        const ps_tensor *in[8] = { 0 };
        for (uint32_t i = 0; i < n->n_in; i++)
            in[i] = n->in[i] ? values[n->in[i]->id] : NULL;
        ps_tensor *out[1] = { values[n->out[0]->id] };
        if (ps_ops_run_ref(n, in, out, &alloc, 2, &err) != PS_OK) fail_msg("%s", err.msg);
    }
}

static void run_case(const fused_case *c) {
    ps_tensor *values[MAX_VALUES] = { 0 };
    ps_error err = PS_ERROR_INIT;
    ps_graph *g = parse(c->text);
    ps_value *f = ps_graph_find(g, "f"), *u = ps_graph_find(g, "u");
    for (size_t i = 0; i < c->n; i++) {
        ps_value *operand = c->steps[i].operand ? ps_graph_find(g, c->steps[i].operand) : NULL;
        assert_int_equal(
            ps_node_add_post(f->producer, c->steps[i].kind, c->steps[i].alpha, c->steps[i].beta, operand, &err), PS_OK);
    }
    if (check(g, &err) != PS_OK) fail_msg("%s", err.msg);
    run_graph(g, values);
    const ps_tensor *want = values[u->id], *got = values[f->id];
    assert_true(ps_shape_equal(&want->shape, &got->shape));
    for (size_t i = 0; i < ps_tensor_count(want); i++) {
        float a = ((const float *)got->data)[i], b = ((const float *)want->data)[i];
        if (memcmp(&a, &b, sizeof a)) fail_msg("%s\nelement %zu is %.9g, not %.9g", c->text, i, a, b);
    }
    for (size_t i = 0; i < MAX_VALUES; i++)
        ps_tensor_release(values[i]);
    ps_graph_free(g);
}

#define OPSET "opset 17, polestar 1 "

static void conv(void **state) {
    (void)state;
    static const fused_case cases[] = {
        { "(x: f32[2,4,6,5], w: f32[6,2,3,3], b: f32[6]) -> (u, f) " OPSET "{\n"
          "t = Conv(x, w, b) {group=2, pads=[1,0,1,2], strides=[2,1]}\n u = Relu(t)\n"
          "f = polestar.Conv(x, w, b) {group=2, pads=[1,0,1,2], strides=[2,1]} }",
          { { PS_POST_RELU, 0, 0, NULL } },
          1 },
        { "(x: f32[2,3,5,5], w: f32[4,3,1,1], r: f32[2,4,5,5], s: f32[4,1,1]) -> (u, f) " OPSET "{\n"
          "t = Conv(x, w)\n a = Add(t, r)\n m = Mul(a, s)\n u = Clip(m, f32[]{-0.5}, f32[]{2})\n"
          "f = polestar.Conv(x, w, _) }",
          { { PS_POST_ADD, 0, 0, "r" }, { PS_POST_MUL, 0, 0, "s" }, { PS_POST_CLIP, -0.5f, 2, NULL } },
          3 },
        { "(x: f32[1,3,9], w: f32[4,3,3], b: f32[4]) -> (u, f) " OPSET "{\n"
          "t = Conv(x, w, b) {auto_pad=\"SAME_LOWER\"}\n u = Exp(t)\n"
          "f = polestar.Conv(x, w, b) {auto_pad=\"SAME_LOWER\"} }",
          { { PS_POST_EXP, 0, 0, NULL } },
          1 },
        { "(x: f32[1,4,3,3], w: f32[4,3,2,2], b: f32[6], r: f32[1,6,1,1]) -> (u, f) " OPSET "{\n"
          "t = ConvTranspose(x, w, b) {group=2, strides=[2,2]}\n d = Sub(r, t)\n u = LeakyRelu(d) {alpha=0.125}\n"
          "f = polestar.ConvTranspose(x, w, b) {group=2, strides=[2,2]} }",
          { { PS_POST_RSUB, 0, 0, "r" }, { PS_POST_LEAKY_RELU, 0.125f, 0, NULL } },
          2 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        run_case(&cases[i]);
}

static void products(void **state) {
    (void)state;
    static const fused_case cases[] = {
        { "(a: f32[3,5], b: f32[4,5], c: f32[4], r: f32[3,1]) -> (u, f) " OPSET "{\n"
          "t = Gemm(a, b, c) {transB=1, alpha=0.5}\n d = Div(t, r)\n u = Tanh(d)\n"
          "f = polestar.Gemm(a, b, c) {transB=1, alpha=0.5} }",
          { { PS_POST_DIV, 0, 0, "r" }, { PS_POST_TANH, 0, 0, NULL } },
          2 },
        { "(a: f32[2,3,5], b: f32[5,4], c: f32[4], r: f32[2,3,4]) -> (u, f) " OPSET "{\n"
          "t = MatMul(a, b)\n p = Add(t, c)\n q = Add(p, r)\n s = Sigmoid(q)\n u = Max(s, r)\n"
          "f = polestar.MatMul(a, b, c) }",
          { { PS_POST_ADD, 0, 0, "r" }, { PS_POST_SIGMOID, 0, 0, NULL }, { PS_POST_MAX, 0, 0, "r" } },
          3 },
        { "(a: f32[5], b: f32[2,5,3], c: f32[3]) -> (u, f) " OPSET "{\n"
          "t = MatMul(a, b)\n p = Add(t, c)\n u = HardSigmoid(p) {alpha=0.25, beta=0.5}\n"
          "f = polestar.MatMul(a, b, c) }",
          { { PS_POST_HARD_SIGMOID, 0.25f, 0.5f, NULL } },
          1 },
        { "(a: f32[4,5], b: f32[5,3]) -> (u, f) opset 20, polestar 1 {\n"
          "t = MatMul(a, b)\n u = Gelu(t)\n f = polestar.MatMul(a, b, _) }",
          { { PS_POST_GELU, 0, 0, NULL } },
          1 },
        { "(a: f32[0,5], b: f32[5,3], c: f32[3]) -> (u, f) " OPSET "{\n"
          "t = MatMul(a, b)\n p = Add(t, c)\n u = Relu(p)\n f = polestar.MatMul(a, b, c) }",
          { { PS_POST_RELU, 0, 0, NULL } },
          1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        run_case(&cases[i]);
}

static void pointwise(void **state) {
    (void)state;
    static const fused_case cases[] = {
        { "(x: f32[3,1,700], y: f32[2,1], z: f32[]) -> (u, f) " OPSET "{\n"
          "a = Mul(x, y)\n b = Abs(a)\n c = Sqrt(b)\n d = Sub(z, c)\n e = Min(d, y)\n u = Erf(e)\n"
          "f = polestar.Pointwise(x) }",
          { { PS_POST_MUL, 0, 0, "y" },
            { PS_POST_ABS, 0, 0, NULL },
            { PS_POST_SQRT, 0, 0, NULL },
            { PS_POST_RSUB, 0, 0, "z" },
            { PS_POST_MIN, 0, 0, "y" },
            { PS_POST_ERF, 0, 0, NULL } },
          6 },
        { "(x: f32[], y: f32[]) -> (u, f) " OPSET "{\n a = Div(y, x)\n u = Reciprocal(a)\n f = polestar.Pointwise(x) }",
          { { PS_POST_RDIV, 0, 0, "y" }, { PS_POST_RECIPROCAL, 0, 0, NULL } },
          2 },
        { "(x: f32[2,0,3], y: f32[3]) -> (u, f) " OPSET "{\n u = Add(x, y)\n f = polestar.Pointwise(x) }",
          { { PS_POST_ADD, 0, 0, "y" } },
          1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        run_case(&cases[i]);
}

#define SPLIT_HEADS(to, from, rows, width, perm)                                                                       \
    to "4 = Reshape(" from ", i64[4]{2," rows ",3," width "})\n " to " = Transpose(" to "4) {perm=" perm "}\n"
#define ATTENTION_HEADS                                                                                                \
    SPLIT_HEADS("qh", "q", "5", "4", "[0,2,1,3]")                                                                      \
    SPLIT_HEADS("kh", "k", "7", "4", "[0,2,3,1]")                                                                      \
    SPLIT_HEADS("vh", "v", "7", "2", "[0,2,1,3]")                                                                      \
    "s = MatMul(qh, kh)\n c = Mul(s, f32[]{0.3})\n"
#define ATTENTION_END "o = MatMul(p, vh)\n t = Transpose(o) {perm=[0,2,1,3]}\n u = Reshape(t, i64[3]{2,5,6})\n"

static void attention(void **state) {
    (void)state;
    static const fused_case cases[] = {
        { "(q: f32[2,5,12], k: f32[2,7,12], v: f32[2,7,6]) -> (u, f) " OPSET "{\n" ATTENTION_HEADS
          "p = Softmax(c)\n" ATTENTION_END "f = polestar.Attention(q, k, v) {heads=3, scale=0.3} }",
          { { 0 } },
          0 },
        { "(q: f32[2,5,12], k: f32[2,7,12], v: f32[2,7,6], m: f32[2,1,1,7]) -> (u, f) " OPSET "{\n" ATTENTION_HEADS
          "n = Add(c, m)\n p = Softmax(n)\n" ATTENTION_END "f = polestar.Attention(q, k, v, m) {heads=3, scale=0.3} }",
          { { 0 } },
          0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        run_case(&cases[i]);
}

static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
        ps_status status;
    } cases[] = {
        { "(x: f32[2,3], y: f32[4]) -> (f) " OPSET
          "{ f = polestar.Pointwise(x, y) {post_op=[17,1], post_arg=[0.0,0.0]} }",
          "broadcast", PS_SHAPE },
        { "(x: f32[3], b: f32[3]) -> (f) " OPSET "{ f = polestar.MatMul(x, x, b) }", "scalar product", PS_SHAPE },
        { "(x: f32[2,3], y: f32[3,3], b: f32[3]) -> (f) " OPSET
          "{ f = polestar.MatMul(x, y, b) {post_op=[17,2], post_arg=[0.0,0.0]} }",
          "reads input 2", PS_INVALID },
        { "(x: f32[2,3]) -> (f) " OPSET "{ f = polestar.Pointwise(x) {post_op=[99,-1], post_arg=[0.0,0.0]} }",
          "do not describe", PS_INVALID },
        { "(x: f32[2,3]) -> (f) " OPSET "{ f = polestar.Pointwise(x) {post_op=[0], post_arg=[0.0]} }",
          "do not describe", PS_INVALID },
        { "(x: f64[2,3]) -> (f) " OPSET "{ f = polestar.Pointwise(x) }", "f64", PS_TYPE },
        { "(x: f32[2,3], r: f32[2,4,3]) -> (f) " OPSET
          "{ f = polestar.MatMul(x, f32[3,3]{0,0,0,0,0,0,0,0,0}, _, r) {post_op=[17,3], post_arg=[0.0,0.0]} }",
          "broadcast", PS_SHAPE },
        { "(q: f32[2,5,12]) -> (f) " OPSET "{ f = polestar.Attention(q, q, q) {heads=5, scale=1.0} }", "5 heads",
          PS_SHAPE },
        { "(q: f32[2,5,12]) -> (f) " OPSET "{ f = polestar.Attention(q, q, q) {heads=0, scale=1.0} }", "heads is 0",
          PS_SHAPE },
        { "(q: f32[2,5,12], m: f32[4,5]) -> (f) " OPSET "{ f = polestar.Attention(q, q, q, m) {heads=3, scale=1.0} }",
          "mask", PS_SHAPE },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ps_error err = PS_ERROR_INIT;
        ps_graph *g = parse(cases[i].text);
        assert_int_equal(check(g, &err), cases[i].status);
        if (!strstr(err.msg, cases[i].part)) fail_msg("'%s' lacks '%s'", err.msg, cases[i].part);
        ps_graph_free(g);
    }
}

/* A symbolic batch must not keep the other dims from being known. */
static void symbolic_batch(void **state) {
    (void)state;
    ps_error err = PS_ERROR_INIT;
    ps_graph *g = parse("(x: f32[n,3,8,?], w: f32[4,3,3,3], k: f32[n,3,8,6]) -> (a, b, c, d, e, h) " OPSET "{\n"
                        "a = Conv(x, w)\n b = Conv(k, w) {strides=[2,2]}\n c = MaxPool(k) {kernel_shape=[2,2]}\n"
                        "d = MatMul(k, f32[6,2]{0,0,0,0,0,0,0,0,0,0,0,0})\n e = GlobalAveragePool(x)\n"
                        "h = polestar.Conv(k, w, _) }");
    if (check(g, &err) != PS_OK) fail_msg("%s", err.msg);
    const int64_t n = ps_graph_find(g, "x")->shape.dims[0];
    const struct {
        const char *name;
        int64_t dims[4];
    } want[] = { { "a", { n, 4, -1, -1 } }, { "b", { n, 4, 3, 2 } }, { "c", { n, 3, 7, 5 } },
                 { "d", { n, 3, 8, 2 } },   { "e", { n, 3, 1, 1 } }, { "h", { n, 4, 6, 4 } } };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        ps_shape s = ps_shape_make(4, want[i].dims);
        assert_true(ps_shape_equal(&ps_graph_find(g, want[i].name)->shape, &s));
    }
    ps_graph_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(conv, setup, teardown),
        cmocka_unit_test_setup_teardown(products, setup, teardown),
        cmocka_unit_test_setup_teardown(pointwise, setup, teardown),
        cmocka_unit_test_setup_teardown(attention, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(symbolic_batch, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
