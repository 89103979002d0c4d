/* Passes: text graph in, text graph out, and equal outputs of both on random inputs by reference kernels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "graph_run.h"
#include "passes/passes.h"
#include "test_alloc_fail.h"

static ps_alloc_state alloc;
static const ps_caps all_caps = { true, true, true, true, 16 };

/* Rewrites only reorder and merge f32 arithmetic: a few roundings of relative 6e-8 each, on sums of up to some hundred.
 */
#define TOLERANCE 2e-5

static ps_graph *load(const char *text) {
    ps_graph *g = NULL;
    ps_error err = PS_ERROR_INIT;
    if (ps_graph_parse(&alloc, text, &g, &err) != PS_OK) fail_msg("%s", err.msg);
    if (ps_ops_resolve(g, &err) != PS_OK || ps_ops_infer(g, &err) != PS_OK) fail_msg("%s", err.msg);
    return g;
}

/* Node lines without types and blanks at the ends, so that expectations stay short. */
static char *body(const ps_graph *g) {
    ps_graph *copy;
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(ps_graph_clone(g, &copy, NULL, &err), PS_OK);
    for (ps_value *v = copy->all_values; v; v = v->next_all) {
        if (v->is_input || v->constant) continue;
        v->dtype = PS_DTYPE_UNDEFINED;
        v->shape = ps_shape_unknown();
    }
    ps_str s;
    ps_str_init(&s, &alloc);
    ps_graph_print(copy, &s);
    ps_graph_free(copy);
    return ps_str_take(&s);
}

static void run(ps_graph *g, ps_tensor **out, uint64_t seed) {
    ps_tensor *in[8] = { NULL };
    ps_error err = PS_ERROR_INIT;
    for (size_t i = 0; i < g->n_inputs; i++) {
        assert_int_equal(ps_tensor_new(&alloc, g->inputs[i]->dtype, &g->inputs[i]->shape, &in[i], &err), PS_OK);
        graph_run_fill(in[i], &seed);
    }
    if (graph_run_all(g, in, out, &err) != PS_OK) fail_msg("%s", err.msg);
    for (size_t i = 0; i < g->n_inputs; i++)
        ps_tensor_release(in[i]);
}

static void assert_same_outputs(ps_graph *a, ps_graph *b) {
    for (uint64_t seed = 1; seed < 3; seed++) {
        ps_tensor *x[8] = { NULL }, *y[8] = { NULL };
        run(a, x, seed);
        run(b, y, seed);
        for (size_t i = 0; i < a->n_outputs; i++) {
            double d = graph_run_difference(x[i], y[i], 1);
            if (!(d <= TOLERANCE)) fail_msg("output %zu differs by %g", i, d);
            ps_tensor_release(x[i]);
            ps_tensor_release(y[i]);
        }
    }
}

static bool inputs_fixed(const ps_graph *g) {
    for (size_t i = 0; i < g->n_inputs; i++) {
        if (!ps_shape_fixed(&g->inputs[i]->shape)) return false;
    }
    return true;
}

/* Runs one pass (NULL: all), checks the text (NULL: not) and the outputs. */
static void check_caps(const char *pass, const ps_caps *caps, const char *before, const char *after) {
    ps_graph *a = load(before), *b = load(before);
    ps_error err = PS_ERROR_INIT;
    ps_status status =
        pass ? ps_passes_run_one(b, pass, caps, NULL, &err) : ps_passes_run(b, PS_PASSES_ALL, caps, &err);
    if (status != PS_OK || ps_graph_verify(b, &err) != PS_OK) fail_msg("%s", err.msg);
    if (after) {
        char *text = body(b);
        assert_string_equal(text, after);
        ps_free(&alloc, text);
    }
    if (inputs_fixed(a)) assert_same_outputs(a, b);
    ps_graph_free(a);
    ps_graph_free(b);
}

static void check(const char *pass, const char *before, const char *after) {
    check_caps(pass, &all_caps, before, after);
}

/* All passes leave exactly these operators, in order. */
static void check_ops_caps(const ps_caps *caps, const char *before, const char *ops) {
    ps_graph *g = load(before);
    ps_error err = PS_ERROR_INIT;
    ps_str s;
    ps_str_init(&s, &alloc);
    if (ps_passes_run(g, PS_PASSES_ALL, caps, &err) != PS_OK) fail_msg("%s", err.msg);
    for (const ps_node *n = g->first; n; n = n->next) {
        ps_str_printf(&s, "%s%s", n == g->first ? "" : " ", n->fused ? n->fused : n->op_type);
    }
    assert_string_equal(s.data, ops);
    ps_str_release(&s);
    ps_graph_free(g);
    check_caps(NULL, caps, before, NULL);
}

static void check_ops(const char *before, const char *ops) {
    check_ops_caps(&all_caps, before, ops);
}

/* ---- clean-up ---- */

static void folds(void **state) {
    (void)state;
    check("fold",
          "graph (x: f32[2,3]) -> (y, s) opset 17 { a: f32[3] = {1, 2, 3} b = Add(a, a) y = Mul(x, b) s = Shape(x) }",
          "graph (x: f32[2,3]) -> (y, s) opset 17 {\n  b: f32[3] = {2, 4, 6}\n  s: i64[2] = {2, 3}\n  y = Mul(x, "
          "b)\n}\n");
    /* Symbolic: Shape stays. */
    check("fold", "graph (x: f32[n,3]) -> (s) opset 17 { s = Shape(x) }",
          "graph (x: f32[n,3]) -> (s) opset 17 {\n  s = Shape(x)\n}\n");
    /* A constant that an input may override is none; random operators are never folded. */
    check("fold", "graph (x: f32[1] = {2}) -> (y) opset 17 { y = Add(x, x) }",
          "graph (x: f32[1] = {2}) -> (y) opset 17 {\n  y = Add(x, x)\n}\n");
    /* 64 KiB is the most that may come out of nothing. */
    check("fold", "graph () -> (y) opset 17 { n: i64[1] = {16385} y = ConstantOfShape(n) }",
          "graph () -> (y) opset 17 {\n  n: i64[1] = {16385}\n  y = ConstantOfShape(n)\n}\n");
}

/* A file of many products of constants is loaded in bounded time: what is left over is computed by runs. */
static void folds_within_a_budget(void **state) {
    (void)state;
    enum { PRODUCTS = 400 };
    ps_error err = PS_ERROR_INIT;
    ps_str s;
    ps_str_init(&s, &alloc);
    ps_str_append(&s, "graph (x: f32[120,120]) -> (y) opset 17 { w: f32[120,120] = {0.1, ...} a0 = MatMul(w, w)\n");
    for (int i = 1; i < PRODUCTS; i++)
        ps_str_printf(&s, "a%d = MatMul(a%d, w)\n", i, i - 1);
    ps_str_printf(&s, "y = Add(a%d, x) }", PRODUCTS - 1);
    ps_graph *g = load(s.data);
    assert_int_equal(ps_passes_run(g, PS_PASSES_ALL, &all_caps, &err), PS_OK);
    int left = 0;
    for (const ps_node *n = g->first; n; n = n->next)
        left++;
    assert_in_range(left, 2, PRODUCTS - 100);
    ps_graph_free(g);
    ps_str_release(&s);
}

/* Half-precision arithmetic is left to inputs and outputs; a second run finds nothing to do. */
static void widens_halves(void **state) {
    (void)state;
    static const ps_caps caps = { true, true, true, true, 16, true };
    static const char *const graphs[] = {
        "graph (x: f16[2,4]) -> (y, z, x2) opset 17 { w: f16[4,3] = random(1) a = MatMul(x, w) c = Cast(a) {to=10}\n"
        "  s = ConstantOfShape(i64[1]{3}) {value=f16[1]{2}} y = Add(c, s) z = Cast(a) {to=1} x2 = Identity(x) }",
        "graph (x: bf16[2,4], k: bool[]) -> (y) opset 17 { w: bf16[4] = random(1)\n"
        "  y = If(k) {then_branch=graph () -> (t) { t = Mul(x, w) }, else_branch=graph () -> (e) { e = Neg(w) }} }",
        "graph (x: f16[3,4]) -> (y, l) opset 17 { y, l = Scan(f16[4]{0, ...}, x) {num_scan_inputs=1,\n"
        "  body=graph (s, r) -> (t, u) { t = Add(s, r) u = Mul(t, t) }} }",
    };
    for (size_t i = 0; i < 3; i++) {
        ps_graph *g = load(graphs[i]);
        ps_dtype types[4];
        ps_error err = PS_ERROR_INIT;
        bool changed = false;
        for (size_t o = 0; o < g->n_outputs; o++)
            types[o] = g->outputs[o]->dtype;
        if (ps_passes_run_one(g, "widen", &caps, &changed, &err) != PS_OK) fail_msg("%s", err.msg);
        assert_true(changed);
        assert_int_equal(ps_graph_verify(g, &err), PS_OK);
        for (size_t o = 0; o < g->n_outputs; o++)
            assert_int_equal(g->outputs[o]->dtype, types[o]);
        for (const ps_value *v = g->all_values; v; v = v->next_all) {
            if (v->producer && strcmp(v->producer->op_type, "Cast") != 0 && v->dtype != PS_DTYPE_UNDEFINED)
                assert_int_equal(v->dtype, PS_DTYPE_F32);
        }
        changed = false;
        assert_int_equal(ps_passes_run_one(g, "widen", &caps, &changed, &err), PS_OK);
        assert_false(changed);
        ps_graph_free(g);
    }
    /* bits that are looked at, element types of containers: left alone */
    ps_graph *g = load("graph (x: f16[4]) -> (y) opset 17 { a = Add(x, x) y = SequenceConstruct(a) }");
    ps_error err = PS_ERROR_INIT;
    bool changed = false;
    assert_int_equal(ps_passes_run_one(g, "widen", &caps, &changed, &err), PS_OK);
    assert_false(changed);
    ps_graph_free(g);
}

static void folds_dequantized_weights(void **state) {
    (void)state;
    /* 80 KB of codes: those of a product become f32, those of a table stay codes */
    check_ops("graph (x: f32[2,400]) -> (y) opset 19 { w: i8[400,200] = {1, -2, ...} s: f32[] = {0.01}\n"
              "  d = DequantizeLinear(w, s) y = MatMul(x, d) }",
              "MatMul");
    check_ops("graph (x: i64[2]) -> (y) opset 19 { w: i8[400,200] = {1, -2, ...} s: f32[] = {0.01}\n"
              "  d = DequantizeLinear(w, s) y = Gather(d, x) }",
              "Gather DequantizeLinear");
}

static void inlines_if(void **state) {
    (void)state;
    check("inline_if",
          "graph (x: f32[2]) -> (y) opset 17 { c: bool[] = {1} k: f32[2] = {1, 2}\n"
          "  y = If(c) {then_branch=graph () -> (q) { k: f32[2] = {3, 4} q = Add(x, k) },\n"
          "             else_branch=graph () -> (q) { q = Relu(x) }} }",
          "graph (x: f32[2]) -> (y) opset 17 {\n  _0: f32[2] = {3, 4}\n  q = Add(x, _0)\n  y = Identity(q)\n}\n");
    /* A nested If keeps its captures. */
    check(NULL,
          "graph (x: f32[2], d: bool[]) -> (y) opset 17 { c: bool[] = {0}\n"
          "  y = If(c) {then_branch=graph () -> (q) { q = Relu(x) },\n"
          "    else_branch=graph () -> (r) { k: f32[2] = {3, 4} t = Mul(x, k)\n"
          "      r = If(d) {then_branch=graph () -> (u) { u = Add(t, k) }, else_branch=graph () -> (u) { u = Sub(t, x) "
          "}} }} }",
          NULL);
}

static void removes_identities(void **state) {
    (void)state;
    check_ops("graph (x: f32[2,3]) -> (y) opset 17 { one: f32[1] = {1} p: i64[4] = {0,0,0,0} s: i64[2] = {2,-1}\n"
              "  a = Identity(x) b = Reshape(a, s) c = Transpose(b) {perm=[0,1]} d = Cast(c) {to=1} e = Pad(d, p)\n"
              "  f = Slice(e, i64[1]{0}, i64[1]{99}, i64[1]{1}) g = Dropout(f) h = Mul(g, one) i = Concat(h) {axis=0}\n"
              "  j = Expand(i, i64[1]{3}) u = Unsqueeze(j, i64[1]{0}) v = Squeeze(u, i64[1]{0}) y = Relu(v) }",
              "Relu");
    check_ops(
        "graph (x: f32[2,3,4]) -> (y) opset 17 { a = Transpose(x) {perm=[1,0,2]} b = Transpose(a) {perm=[1,0,2]}\n"
        "  c = Reshape(b, i64[1]{-1}) d = Reshape(c, i64[2]{4,6}) y = Exp(d) }",
        "Reshape Exp");
    /* The order of a reversing slice matters, and an output that is an input keeps its Identity. */
    check_ops("graph (x: f32[4]) -> (y, z) opset 17 { y = Slice(x, i64[1]{3}, i64[1]{-9}, i64[1]{0}, i64[1]{-1}) z = "
              "Identity(x) }",
              "Slice Identity");
}

static void merges_common_subexpressions(void **state) {
    (void)state;
    check_ops("graph (x: f32[2,3]) -> (y) opset 17 { a = Softmax(x) {axis=1} b = Softmax(x) {axis=1} c = Softmax(x) "
              "{axis=0}\n"
              "  d = Gemm(a, b) {transB=1} e = Gemm(b, a) {transB=1} f = Gemm(c, c) {transB=1} y = Concat(d, e, f) "
              "{axis=0} }",
              "Softmax Softmax Gemm Gemm Concat");
    /* each ConstantOfShape of a file has a tensor of its own as attribute */
    check_ops("graph (x: f32[n], s: i64[1]) -> (y, z) opset 17 { a = ConstantOfShape(s) {value=f32[1]{2}} b = "
              "ConstantOfShape(s) "
              "{value=f32[1]{2}}\n c = ConstantOfShape(s) {value=f32[1]{3}}\n y = Concat(a, b, x) {axis=0} z = "
              "Concat(c, x) {axis=0} }",
              "ConstantOfShape ConstantOfShape Concat Concat");
}

static void removes_dead_code(void **state) {
    (void)state;
    check("dead", "graph (x: f32[2]) -> (y) opset 17 { a = Relu(x) b = Add(a, a) y = Exp(x) }",
          "graph (x: f32[2]) -> (y) opset 17 {\n  y = Exp(x)\n}\n");
}

static void sinks_casts(void **state) {
    (void)state;
    check_ops("graph (i: i64[3]) -> (y) opset 17 { w: f16[200,200] = {0.5, ...} f = Cast(w) {to=1} y = Gather(f, i) }",
              "Gather Cast");
    /* tables of halves that are looked up stay halves, in a model of halves too */
    static const ps_caps widening = { true, true, true, true, 16, true };
    const char *table =
        "graph (i: i64[3]) -> (y) opset 17 { w: f16[200,200] = {0.5, ...} g = Gather(w, i) y = Exp(g) }";
    bool changed = false;
    ps_error err = PS_ERROR_INIT;
    ps_graph *g = load(table);
    assert_int_equal(ps_passes_run(g, PS_PASSES_ALL, &widening, &err), PS_OK);
    assert_int_equal(ps_passes_run_one(g, "widen", &widening, &changed, &err), PS_OK);
    assert_false(changed); /* the two passes do not undo each other, in every round of every plan */
    ps_graph_free(g);
    check_ops_caps(&widening,
                   "graph (i: i64[3]) -> (y) opset 17 { w: f16[200,200] = {0.5, ...} g = Gather(w, i)\n"
                   "y = Cast(g) {to=1} }",
                   "Gather Cast");
    check_ops_caps(&widening,
                   "graph (i: i64[3]) -> (y) opset 17 { w: f16[200,200] = {0.5, ...} g = Gather(w, i)\n"
                   "e = Abs(g) y = Cast(e) {to=1} }",
                   "Gather Cast Abs");
}

/* Scales go with their rows: what is read stays quantised up to the Gather, and gives the same numbers. */
static void sinks_dequantization(void **state) {
    (void)state;
    static const struct {
        const char *before, *after;
    } cases[] = {
        { "w: i8[200,600] = random(1) f = DequantizeLinear(w, f32{0.5}, i8{3}) y = Gather(f, i)",
          "Gather DequantizeLinear" },
        { "w: u8[200,600] = random(1) s: f32[600] = random(2) f = DequantizeLinear(w, s) y = Gather(f, i)",
          "Gather DequantizeLinear" },
        { "w: u8[200,600] = random(1) s: f32[200] = random(2) z: u8[200] = random(3)\n"
          "f = DequantizeLinear(w, s, z) {axis=0} y = Gather(f, i)",
          "Gather Gather Gather DequantizeLinear" },
        { "w: u8[200,600] = random(1) s: f32[200] = random(2)\n"
          "f = DequantizeLinear(w, s) {axis=0} y = Gather(f, i) {axis=1}",
          "Gather DequantizeLinear" },
        { "w: u8[600,200] = random(1) s: f32[200] = random(2)\n"
          "f = DequantizeLinear(w, s) {axis=1} y = Gather(f, i) {axis=0}",
          "Gather DequantizeLinear" },
        { "w: i8[200,600] = random(1) s: f32[200,19] = random(2) z: i8[200,19] = random(3)\n"
          "f = DequantizeLinear(w, s, z) {block_size=32} y = Gather(f, i)",
          "Gather Gather Gather DequantizeLinear" },
        { "w: i4[500,501] = random(4) s: f32[500,16] = random(2)\n"
          "f = DequantizeLinear(w, s) {block_size=32} y = Gather(f, i)",
          "Gather Gather DequantizeLinear" },
        /* Blocks along the gathered axis stay where they are. */
        { "w: i8[200,600] = random(1) s: f32[7,600] = random(2)\n"
          "f = DequantizeLinear(w, s) {axis=0, block_size=32} y = Gather(f, i)",
          "DequantizeLinear Gather" },
    };
    static const char *const indices[] = { "i64[3]", "i64[2,3]", "i64" };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        for (size_t q = 0; q < 3; q++) {
            char text[512];
            snprintf(text, sizeof text, "graph (i: %s) -> (y) opset 21 { %s }", indices[q], cases[k].before);
            check("sink_cast", text, NULL);
            check_ops(text, cases[k].after);
        }
    }
}

/* ---- weights ---- */

static void *small_alloc(void *ctx, size_t size, size_t align) {
    (void)ctx;
    return size > (1 << 20) ? NULL : aligned_alloc(align, (size + align - 1) / align * align);
}

static void small_free(void *ctx, void *ptr, size_t size) {
    (void)ctx, (void)size;
    free(ptr);
}

/* What a file of a hundred bytes may ask for: no pass makes it, or goes through dims beside a 0 one by one. No block
 * may be larger than 1 MiB, and all of it together takes no minute, else the alarm ends the test. */
static void folds_nothing_huge(void **state) {
    static const char *const rows[] = {
        "() -> (y) { w = HannWindow(i64{2147483648}) y = ReduceSum(w) }",
        "() -> (y) { w = HammingWindow(i32{2147483647}) y = ReduceSum(w) }",
        "() -> (y) { w = BlackmanWindow(i64{1099511627776}) y = ReduceSum(w) }",
        "() -> (y) { w = MelWeightMatrix(i64{65536}, i64{1048576}, i64{8192}, f32{0}, f32{4000}) y = ReduceSum(w) }",
        "() -> (y) { w = AffineGrid(f32[1,2,3]{0,...}, i64[4]{1, 1, 65536, 65536}) y = ReduceSum(w) }",
        "() -> (y) { z = ConstantOfShape(i64[2]{131072, 131072}) e = EyeLike(z) y = ReduceSum(e) }",
        "() -> (y) { z = ConstantOfShape(i64[2]{1152921504606846976, 0}) y = EyeLike(z) }",
        "() -> (y) { r = Range(i64{0}, i64{1099511627776}, i64{1}) y = ReduceSum(r) }",
        "() -> (y) { r = Range(f32{0}, f32{1e18}, f32{0.5}) y = ReduceSum(r) }",
        "() -> (y) { z = ConstantOfShape(i64[2]{65536, 65536}) n = NonZero(z) y = ReduceSum(n) }",
        "() -> (y) { z = Expand(f32{1}, i64[2]{131072, 131072}) y = ReduceSum(z) }",
        "() -> (y) { z = Expand(string[1]{\"abcdefgh\"}, i64[1]{1048576}) y = Shape(z) }",
        "() -> (y) { z = Tile(f32[1,1]{1}, i64[2]{131072, 131072}) y = ReduceSum(z) }",
        "() -> (y) { z = OneHot(i64[8]{0,...}, i64{2147483648}, f32[2]{0, 1}) y = ReduceSum(z) }",
        "() -> (y) { z = Pad(f32[1]{1}, i64[2]{0, 8589934592}) y = ReduceSum(z) }",
        "() -> (y) { z = Resize(f32[1,1,2,2]{0,...}, _, _, i64[4]{1, 1, 65536, 65536}) y = ReduceSum(z) }",
        "() -> (y) { z = DFT(f32[1,4,1]{0,...}, i64{2147483648}) y = ReduceSum(z) }",
        "() -> (y) { z = MaxUnpool(f32[1,1,2]{0,...}, i64[1,1,2]{0,...}, i64[3]{1, 1, 8589934592}) {kernel_shape=[2]} "
        "y = ReduceSum(z) }",
        "() -> (y) { y = Einsum(f32[999]{1,...}, f32[999]{1,...}, f32[999]{1,...}, f32[999]{1,...}, f32[999]{1,...}) "
        "{equation=\"a,b,c,d,e->\"} }",
        "() -> (y) { z = ConstantOfShape(i64[2]{1152921504606846976, 0}) y = CumSum(z, i64{1}) }",
        "() -> (y) { z = ConstantOfShape(i64[2]{1152921504606846976, 0}) y, i = TopK(z, i64[1]{0}) {axis=1} }",
        "() -> (y) { z = ConstantOfShape(i64[2]{1152921504606846976, 0}) y = Trilu(z) }",
        "() -> (y) { z = ConstantOfShape(i64[2]{1152921504606846976, 0}) y = Unique(z) {axis=0} }",
        "() -> (y) { z = ConstantOfShape(i64[2]{1152921504606846976, 0}) y = Unique(z) {axis=1} }",
        "() -> (y) { z = ConstantOfShape(i64[4]{1, 0, 2, 2}) "
        "y = Resize(z, _, _, i64[4]{1, 0, 1073741824, 1073741824}) }",
    };
    const ps_allocator user = { small_alloc, small_free, NULL };
    alarm(60);
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        char text[512];
        ps_graph *g;
        ps_error err = PS_ERROR_INIT;
        ps_alloc_state small;
        ps_alloc_state_init(&small, &user);
        const char *body = strchr(rows[k], '{');
        ps_snprintf(text, sizeof text, "graph %.*sopset 20 %s", (int)(body - rows[k]), rows[k], body);
        if (ps_graph_parse(&small, text, &g, &err) != PS_OK || ps_ops_resolve(g, &err) != PS_OK ||
            ps_ops_infer(g, &err) != PS_OK || ps_passes_run(g, PS_PASSES_ALL, &all_caps, &err) != PS_OK)
            fail_msg("%s: %s", rows[k], err.msg);
        ps_graph_free(g);
        assert_int_equal(atomic_load(&small.bytes), 0);
    }
    alarm(0);
}

/* Text as long as 64 KiB is made, what is longer stays a node: each of these doubles it, by elements or within one. */
static void folds_text_within_bounds(void **state) {
    for (size_t k = 0; k < 2; k++) {
        ps_str text;
        ps_error err = PS_ERROR_INIT;
        ps_str_init(&text, &alloc);
        ps_str_append(&text, "graph () -> (t39) opset 20 { t0: string[1] = {\"abcdefgh\"} ");
        for (int i = 0; i < 39; i++) {
            ps_str_printf(&text, "t%d = ", i + 1);
            ps_str_printf(&text, k ? "StringConcat(t%d, t%d) " : "Concat(t%d, t%d) {axis=0} ", i, i);
        }
        ps_str_append(&text, "}");
        ps_graph *g = load(text.data);
        ps_str_release(&text);
        alarm(60);
        if (ps_passes_run(g, PS_PASSES_ALL, &all_caps, &err) != PS_OK) fail_msg("%s", err.msg);
        alarm(0);
        size_t left = 0;
        for (const ps_node *n = g->first; n; n = n->next)
            left++;
        assert_true(left > 20 && left < 39);
        assert_true(atomic_load(&alloc.bytes) < (4 << 20));
        ps_graph_free(g);
    }
}

static void folds_batchnorm(void **state) {
    (void)state;
    static const char *const products[] = {
        "c = Conv(x, w) {pads=[1,1,1,1]}  w: f32[4,4,3,3] = random(2)",
        "c = Conv(x, w, f32[4]{1,2,3,4}) {group=2}  w: f32[4,2,3,3] = random(3)",
        "c = ConvTranspose(x, w) {group=2, strides=[2,2]}  w: f32[4,2,3,3] = random(4)",
        "c = ConvTranspose(x, w, f32[4]{4,3,2,1})  w: f32[4,4,3,3] = random(5)",
    };
    char text[1024];
    for (size_t i = 0; i < 4; i++) {
        ps_snprintf(text, sizeof text,
                    "graph (x: f32[2,4,5,5]) -> (y) opset 17 { %s\n"
                    "  y = BatchNormalization(c, f32[4]{1,-2,.5,3}, f32[4]{0,1,2,3}, f32[4]{.1,.2,.3,.4}, "
                    "f32[4]{1,2,3,4}) {epsilon=0.01} }",
                    products[i]);
        check_ops(text, i < 2 ? "Conv" : "ConvTranspose");
    }
    check_ops("graph (x: f32[2,4,5]) -> (y) opset 17 {\n"
              "  y = BatchNormalization(x, f32[4]{1,-2,.5,3}, f32[4]{0,1,2,3}, f32[4]{.1,.2,.3,.4}, f32[4]{1,2,3,4}) }",
              "Mul+Add");
    check_ops("graph (x: f32[2,4]) -> (y) opset 17 { w: f32[3,4] = random(1) c = Gemm(x, w) {transB=1}\n"
              "  y = BatchNormalization(c, f32[3]{1,-2,.5}, f32[3]{0,1,2}, f32[3]{.1,.2,.3}, f32[3]{1,2,3}) }",
              "Gemm");
    /* Weights are scaled in place only where nobody else reads them. */
    check_ops("graph (x: f32[1,2,5,5], y: f32[1,2,5,5]) -> (a, b, w) opset 17 { w: f32[2,2,3,3] = random(2)\n"
              "  c = Conv(x, w) a = BatchNormalization(c, f32[2]{3,-2}, f32[2]{0,1}, f32[2]{.1,.2}, f32[2]{1,2})\n"
              "  d = Conv(y, w) b = BatchNormalization(d, f32[2]{5,-7}, f32[2]{4,1}, f32[2]{.3,.2}, f32[2]{3,2}) }",
              "Conv Conv");
    check_ops("graph (x: f32[1,2,5,5], y: f32[1,2,5,5]) -> (a, b) opset 17 { w: f32[2,2,3,3] = random(2)\n"
              "  c = Conv(x, w) a = BatchNormalization(c, f32[2]{3,-2}, f32[2]{0,1}, f32[2]{.1,.2}, f32[2]{1,2})\n"
              "  d = Conv(y, w) b = BatchNormalization(d, f32[2]{5,-7}, f32[2]{4,1}, f32[2]{.3,.2}, f32[2]{3,2}) }",
              "Conv Conv");
}

static void folds_affine(void **state) {
    (void)state;
    check_ops("graph (x: f32[1,3,5,5]) -> (y) opset 12 { w: f32[4,3,3,3] = random(1) c = Conv(x, w)\n"
              "  m = Mul(f32[1]{2.5}, c) a = Add(m, f32[1,4,1,1]{1,2,3,4}) s = Sub(f32[4,1,1]{4,3,2,1}, a) y = Div(s, "
              "f32[]{3}) }",
              "Conv");
    /* Per column of a MatMul; the sum is a bias. */
    check_ops("graph (x: f32[2,5,3]) -> (y) opset 12 { w: f32[3,4] = random(1) c = MatMul(x, w)\n"
              "  m = Mul(f32[4]{2,3,4,5}, c) y = Add(m, f32[4]{1,2,3,4}) }",
              "MatMul+Bias");
    /* Before a convolution: the factor always, the summand only without padding. */
    check_ops("graph (x: f32[1,3,5,5]) -> (y) opset 12 { w: f32[4,3,3,3] = random(1)\n"
              "  m = Mul(x, f32[3,1,1]{2,3,4}) a = Add(m, f32[1]{7}) y = Conv(a, w) }",
              "Conv");
    check_ops("graph (x: f32[1,4,5,5]) -> (y) opset 12 { w: f32[4,2,3,3] = random(1)\n"
              "  m = Mul(x, f32[4,1,1]{2,3,4,5}) y = Conv(m, w) {pads=[1,1,1,1], group=2} }",
              "Conv");
    check_ops("graph (x: f32[1,3,5,5]) -> (y) opset 12 { w: f32[4,3,3,3] = random(1)\n"
              "  a = Add(x, f32[1]{7}) y = Conv(a, w) {pads=[1,1,1,1]} }",
              "Add Conv");
    /* A factor per position is none per channel. */
    check_ops("graph (x: f32[1,3,5,5]) -> (y) opset 12 { w: f32[4,3,2,2] = random(1) c = Conv(x, w) y = Mul(c, "
              "f32[4]{1,2,3,4}) }",
              "Conv+Mul");
}

static void folds_pads(void **state) {
    (void)state;
    check_ops("graph (x: f32[1,3,5,5]) -> (y) opset 17 { w: f32[4,3,3,3] = random(1)\n"
              "  p = Pad(x, i64[8]{0,0,1,2,0,0,2,1}) y = Conv(p, w) {pads=[0,1,0,1]} }",
              "Conv");
    check_ops("graph (x: f32[1,3,5,5]) -> (y) opset 17 { w: f32[4,3,3,3] = random(1)\n"
              "  p = Pad(x, i64[8]{0,0,1,2,0,0,2,1}, f32[]{1}) y = Conv(p, w) }",
              "Pad Conv");
    check_ops("graph (x: f32[1,3,5,5]) -> (y) opset 17 {\n"
              "  p = Pad(x, i64[8]{0,0,1,1,0,0,1,1}, f32[]{-inf}) y = MaxPool(p) {kernel_shape=[3,3]} }",
              "MaxPool");
    check_ops("graph (x: f32[1,3,5,5]) -> (y) opset 17 {\n"
              "  p = Pad(x, i64[8]{0,0,1,1,0,0,1,1}) y = MaxPool(p) {kernel_shape=[3,3]} }",
              "Pad MaxPool");
    check_ops("graph (x: f32[1,3,5,5]) -> (y, z) opset 17 {\n"
              "  p = Pad(x, i64[8]{0,0,1,1,0,0,1,1}) y = AveragePool(p) {kernel_shape=[3,3], count_include_pad=1}\n"
              "  q = Pad(x, i64[8]{0,0,1,1,0,0,1,2}) z = AveragePool(q) {kernel_shape=[3,2]} }",
              "AveragePool Pad AveragePool");
}

/* ---- activations and norms ---- */

static void recognises_activations(void **state) {
    (void)state;
    static const struct {
        const char *lines, *ops;
    } cases[] = {
        { "a = Add(x, f32[]{3}) c = Clip(a, f32[]{0}, f32[]{6}) m = Mul(x, c) y = Div(m, f32[1]{6})", "HardSwish" },
        { "a = Add(f32[1]{3}, x) c = Clip(a, f32[]{0}, f32[]{6}) d = Div(c, f32[]{6}) y = Mul(d, x)", "HardSwish" },
        { "a = Add(x, f32[]{3}) c = Clip(a, f32[]{0}, f32[]{6}) y = Div(c, f32[]{6})", "HardSigmoid" },
        { "h = HardSigmoid(x) {alpha=0.2} y = Mul(x, h)", "HardSwish" },
        { "s = Sigmoid(x) y = Mul(x, s)", "Swish" },
        { "k = Mul(x, f32[]{1.702}) s = Sigmoid(k) y = Mul(s, x)", "Swish" },
        { "d = Div(x, f32[]{1.4142135}) e = Erf(d) a = Add(e, f32[]{1}) m = Mul(x, a) y = Mul(m, f32[]{.5})", "Gelu" },
        { "d = Mul(x, f32[]{.70710677}) e = Erf(d) a = Add(f32[]{1}, e) h = Mul(x, f32[]{.5}) y = Mul(h, a)", "Gelu" },
        { "c = Mul(f32[]{.044715}, x) d = Mul(x, c) e = Mul(x, d) a = Add(x, e) k = Mul(f32[]{.7978846}, a) t = "
          "Tanh(k)\n"
          "  o = Add(f32[1,1]{1}, t) h = Mul(f32[]{.5}, o) y = Mul(x, h)",
          "GeluTanh" },
        { "c = Pow(x, f32[]{3}) d = Mul(c, f32[]{.044715}) a = Add(x, d) k = Mul(a, f32[]{.7978846}) t = Tanh(k)\n"
          "  o = Add(t, f32[]{1}) h = Mul(x, f32[]{.5}) y = Mul(h, o)",
          "GeluTanh" },
        /* Almost, but not: the gate of another value, a wrong constant. */
        { "e = Exp(x) s = Sigmoid(e) y = Mul(x, s)", "Exp+Sigmoid+Mul" },
        { "d = Div(x, f32[]{1.5}) e = Erf(d) a = Add(e, f32[]{1}) m = Mul(x, a) y = Mul(m, f32[]{.5})",
          "Div+Erf+Add+Mul+Mul" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024];
        ps_snprintf(text, sizeof text, "graph (x: f32[2,64]) -> (y) opset 17 { %s }", cases[i].lines);
        check_ops(text, cases[i].ops);
    }
}

static void recognises_layernorm(void **state) {
    (void)state;
    check_ops("graph (x: f32[2,3,8]) -> (y) opset 12 { g: f32[8] = random(1) b: f32[8] = random(2)\n"
              "  m = ReduceMean(x) {axes=[-1]} d = Sub(x, m) p = Pow(d, f32[]{2}) v = ReduceMean(p) {axes=[2]}\n"
              "  e = Add(v, f32[]{1e-5}) s = Sqrt(e) n = Div(d, s) q = Mul(n, g) y = Add(q, b) }",
              "LayerNormalization");
    check_ops("graph (x: f32[2,3,8]) -> (y) opset 18 { g: f32[8] = random(1)\n"
              "  m = ReduceMean(x, i64[1]{-1}) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, i64[1]{-1})\n"
              "  e = Add(f32[]{1e-5}, v) s = Sqrt(e) n = Div(d, s) y = Mul(g, n) }",
              "LayerNormalization");
    /* Over another axis it is something else. */
    check_ops(
        "graph (x: f32[2,3,8]) -> (y) opset 12 { m = ReduceMean(x) {axes=[1]} d = Sub(x, m) p = Pow(d, f32[]{2})\n"
        "  v = ReduceMean(p) {axes=[1]} e = Add(v, f32[]{1e-5}) s = Sqrt(e) y = Div(d, s) }",
        "ReduceMean Sub Pow ReduceMean Add+Sqrt Div");
}

static void recognises_groupnorm(void **state) {
    (void)state;
    static const char *const forms[] = {
        "r = Reshape(x, i64[3]{0,2,-1}) n = InstanceNormalization(r, s, b) {epsilon=0.01} k = Reshape(n, "
        "i64[4]{2,6,3,4})\n"
        "  m = Mul(k, g) y = Add(m, h)",
        "r = Reshape(x, i64[3]{2,2,36}) n = InstanceNormalization(r, s, b) k = Reshape(n, i64[4]{2,6,3,4})\n"
        "  m = Mul(g, k) y = Add(h, m)",
    };
    static const char *const others[] = {
        /* groups that mix pictures; gamma along another axis; the norm is read elsewhere */
        "r = Reshape(x, i64[3]{1,4,36}) n = InstanceNormalization(r, f32[4]{1,1,1,1}, f32[4]{0,0,0,0})\n"
        "  k = Reshape(n, i64[4]{2,6,3,4}) m = Mul(k, g) y = Add(m, h)",
        "r = Reshape(x, i64[3]{2,2,36}) n = InstanceNormalization(r, s, b) k = Reshape(n, i64[4]{2,6,3,4})\n"
        "  m = Mul(k, f32[1,1,3,1]{1,2,3}) y = Add(m, h)",
        "r = Reshape(x, i64[3]{2,2,36}) n = InstanceNormalization(r, s, b) k = Reshape(n, i64[4]{2,6,3,4})\n"
        "  m = Mul(k, g) a = Add(m, h) y = Add(a, k)",
    };
    char text[1024];
    for (size_t i = 0; i < 5; i++) {
        snprintf(text, sizeof text,
                 "graph (x: f32[2,6,3,4]) -> (y) opset 17 { s: f32[2] = {1,0.5} b: f32[2] = {0,2}\n"
                 "  g: f32[6,1,1] = random(1) h: f32[1,6,1,1] = random(2) %s }",
                 i < 2 ? forms[i] : others[i - 2]);
        ps_graph *before = load(text), *after = load(text);
        ps_error err = PS_ERROR_INIT;
        bool changed = false;
        assert_int_equal(ps_passes_run_one(after, "groupnorm", &all_caps, &changed, &err), PS_OK);
        assert_int_equal(changed, i < 2);
        assert_same_outputs(before, after);
        ps_graph_free(before);
        ps_graph_free(after);
    }
}

static void integer_products(void **state) {
    (void)state;
    check_ops("graph (x: u8[2,3]) -> (y) opset 17 { w: i8[3,2] = {-128, 127, 5, 0, 3, -7} z: u8[] = {130} q: i8[2] = "
              "{1, -3}\n"
              "  y = MatMulInteger(x, w, z, q) }",
              "DequantizeLinear MatMul Cast");
    check("integer",
          "graph (x: u8[2,3], z: u8[1]) -> (y) opset 17 { w: u8[3,2] = {255, 0, 5, 0, 3, 7}\n"
          "  m = MatMulInteger(x, w, z) c = Cast(m) {to=1} y = Mul(c, f32[]{0.5}) }",
          NULL);
    check_ops("graph (x: i8[2,3]) -> (y) opset 17 { w: i8[3,2] = {-128, 127, 5, 0, 3, -7}\n"
              "  m = MatMulInteger(x, w) c = Cast(m) {to=1} y = Relu(c) }",
              "DequantizeLinear MatMul+Relu");
    check_ops(
        "graph (x: u8[1,2,5,5]) -> (y) opset 17 { w: i8[3,2,3,3] = {-128, 127, 5, ...} z: u8[] = {130} q: i8[3] = {1, "
        "-3, 0}\n"
        "  m = ConvInteger(x, w, z, q) {pads=[1,1,0,0], strides=[2,1]} c = Cast(m) {to=1} y = Mul(c, f32[]{0.5}) }",
        "DequantizeLinear Conv");
    check_ops("graph (x: u8[1,2,5,5]) -> (y) opset 17 { w: i8[3,2,3,3] = {-128, 127, 5, ...} y = ConvInteger(x, w) }",
              "ConvInteger");
    /* 600 products of 255 by 127 do not fit: no longer exact; weights that are made at run time */
    check_ops("graph (x: u8[1,600]) -> (y) opset 17 { w: i8[600,1] = {127, ...} y = MatMulInteger(x, w) }",
              "MatMulInteger");
    check_ops("graph (x: u8[2,3], w: i8[3,2]) -> (y) opset 17 { y = MatMulInteger(x, w) }", "MatMulInteger");
}

static void recognises_softmax(void **state) {
    (void)state;
    check_ops("graph (x: f32[2,8]) -> (y) opset 15 { m = ReduceMax(x) {axes=[1]} d = Sub(x, m) e = Exp(d)\n"
              "  s = ReduceSum(e, i64[1]{1}) y = Div(e, s) }",
              "Softmax");
    check_ops(
        "graph (x: f32[2,8]) -> (y) opset 15 { m = ReduceMax(x) {axes=[1], keepdims=0} r = Reshape(m, i64[2]{2,1})\n"
        "  d = Sub(x, r) e = Exp(d) s = ReduceSum(e, i64[1]{1}) {keepdims=0} u = Reshape(s, i64[2]{2,1}) y = Div(e, u) "
        "}",
        "Softmax");
}

/* Inputs are 0 or 1: shifted so that rows below, inside and above the table are met. */
static void recognises_one_hot(void **state) {
    (void)state;
    check_ops("graph (x: i32[2,7], k: i32[2,7]) -> (y) opset 15 { w: f32[3,4] = random(1) n: i32[1,1,3] = {0,1,2}\n"
              "  a = Mul(x, i32[]{4}) b = Sub(a, k) s = Add(b, k) t = Sub(s, i32[]{1}) q = Sub(t, k) r = Reshape(q, "
              "i64[3]{2,7,1})\n"
              "  e = Equal(r, n) f = Cast(e) {to=1} m = MatMul(f, w) c = Add(m, f32[1,1,4]{1,2,3,4}) y = Tanh(c) }",
              "Mul Sub Add Sub Sub Clip Add Gather");
    check_ops("graph (x: i32[2,1]) -> (y) opset 15 { w: f32[3,4] = random(1) n: i32[3] = {0,2,1}\n"
              "  e = Equal(x, n) f = Cast(e) {to=1} y = MatMul(f, w) }",
              "Equal Cast MatMul");
}

/* ---- operators of com.microsoft ---- */

#define MS "opset 17, com.microsoft 1 "

static void takes_contrib_apart(void **state) {
    (void)state;
    check_ops("graph (a: f32[2,3,4], b: f32[2,5,4]) -> (y) " MS
              "{ y = com.microsoft.FusedMatMul(a, b) {transB=1, alpha=0.5} }",
              "Transpose MatMul Mul");
    check_ops("graph (a: f32[4,3], b: f32[5,4]) -> (y) " MS
              "{ y = com.microsoft.FusedMatMul(a, b) {transA=1, transB=1, alpha=0.5} }",
              "Gemm");
    /* Batch dims in the middle stay. */
    check_ops("graph (a: f32[3,2,4], b: f32[2,4,5]) -> (y) " MS
              "{ y = com.microsoft.FusedMatMul(a, b) {transBatchA=1} }",
              "FusedMatMul");
    check_ops("graph (a: f32[3,4], c: f32[5]) -> (y) " MS "{ b: f32[4,5] = random(1)\n"
              "  y = com.microsoft.FusedGemm(a, b, c) {activation=\"LeakyRelu\", activation_alpha=0.2, beta=0.5} }",
              "Gemm+LeakyRelu");
    check_ops("graph (a: f32[3,4]) -> (y) " MS "{ b: f32[4,5] = random(1)\n"
              "  y = com.microsoft.FusedGemm(a, b) {activation=\"FastGelu\"} }",
              "FusedGemm");
    check_ops("graph (x: f32[1,4,5,5], z: f32[1,6,5,5]) -> (y, u) " MS "{ w: f32[6,2,3,3] = random(2)\n"
              "  y = com.microsoft.FusedConv(x, w, _, z) {activation=\"Relu\", group=2, pads=[1,1,1,1]}\n"
              "  u = com.microsoft.FusedConv(x, w) {activation=\"Clip\", activation_params=[-0.5,0.5], group=2} }",
              "Conv+Add+Relu Conv+Clip");
    check_ops("graph (x: f32[2,3,8], s: f32[3,8], g: f32[8], b: f32[8], c: f32[8]) -> (y, v) " MS
              "{ y, _, _, t = com.microsoft.SkipLayerNormalization(x, s, g, b, c) {epsilon=0.1} v = Relu(t) }",
              "Add+Add LayerNormalization Relu");
    /* A sum that leaves the graph has a name to keep. */
    check_ops("graph (x: f32[2,3,8], s: f32[2,3,8], g: f32[8]) -> (y, t) " MS
              "{ y, _, _, t = com.microsoft.SkipLayerNormalization(x, s, g) {epsilon=0.1} }",
              "SkipLayerNormalization");
    check_ops("graph (x: f32[2,3,8], b: f32[8]) -> (y, u, v, w) " MS
              "{ y = com.microsoft.BiasGelu(x, b) u = com.microsoft.FastGelu(x) v = com.microsoft.QuickGelu(x)\n"
              "  w = com.microsoft.Gelu(x) }",
              "Add+Gelu Gelu Swish Gelu");
    check_ops("graph (w: f32[3,4], p: f32[5,4], k: f32[2,4]) -> (y) " MS "{ ids: i32[1,2] = {1, 0}\n"
              "  seg: i32[1,2] = {0, 1} g: f32[4] = random(4)\n"
              "  y = com.microsoft.EmbedLayerNormalization(ids, seg, w, p, k, g, g) {epsilon=0.1} }",
              "Slice Gather Gather Add+Add LayerNormalization");
}

static void takes_contrib_attention_apart(void **state) {
    (void)state;
    check_ops("graph (x: f32[2,3,6]) -> (y) " MS "{ w: f32[6,24] = random(1) b: f32[24] = random(2)\n"
              "  m: i32[2,3] = {1, 1, 0, 0, 1, 1} y = com.microsoft.Attention(x, w, b, m) {num_heads=2} }",
              "MatMul+Bias Slice Slice Slice Attention");
    check_ops("graph (x: f32[2,3,6], p: f32[2,2,2,5,4]) -> (y) " MS
              "{ w: f32[6,24] = random(1) b: f32[24] = random(2)\n"
              "  y = com.microsoft.Attention(x, w, b, _, p) {num_heads=2} }",
              "Attention");
    check_ops("graph (q: f32[2,3,8], k: f32[2,4,8], v: f32[2,4,6], s: f32[1,2,3,4]) -> (y) " MS
              "{ b: f32[22] = random(2) m: i32[2,4] = {1, 1, 0, 1, 0, 1, 1, 1}\n"
              "  y = com.microsoft.MultiHeadAttention(q, k, v, b, m, s) {num_heads=2, scale=0.3} }",
              "Add Add Add Add Attention");
    check_ops("graph (q: f32[2,3,8], k: f32[2,4,8], v: f32[2,4,6]) -> (y) " MS
              "{ y = com.microsoft.MultiHeadAttention(q, k, v) {num_heads=2, unidirectional=1} }",
              "MultiHeadAttention");
    check_ops("graph (q: f32[2,3,8], k: f32[2,4,8], v: f32[2,4,6]) -> (y) opset 23 "
              "{ y = Attention(q, k, v) {q_num_heads=2, kv_num_heads=2, is_causal=1} }",
              "Attention");
    check_ops("graph (q: f32[2,2,3,4], k: f32[2,2,4,4], v: f32[2,2,4,3]) -> (y) opset 23 "
              "{ m: f32[3,4] = {0, 0, -inf, -inf, 1, 2, 3, -inf, 0, 0, 0, 0} y = Attention(q, k, v, m) }",
              "Transpose Reshape Transpose Reshape Transpose Reshape Attention Reshape Transpose");
    /* A query that sees nothing gives zeros, which the pattern does not. */
    check("contrib",
          "graph (q: f32[1,1,2,2], k: f32[1,1,2,2], v: f32[1,1,2,2]) -> (y) opset 23 "
          "{ m: f32[2,2] = {0, 0, -inf, -inf} y = Attention(q, k, v, m) }",
          "graph (q: f32[1,1,2,2], k: f32[1,1,2,2], v: f32[1,1,2,2]) -> (y) opset 23 {\n"
          "  m: f32[2,2] = {0, 0, -inf, -inf}\n  y = Attention(q, k, v, m)\n}\n");
}

/* ---- attention ---- */

#define HEADS(v) "r" v " = Reshape(" v ", i64[4]{2,5,3,4})\n  "

static void recognises_attention(void **state) {
    (void)state;
    check_ops("graph (q: f32[2,5,12], k: f32[2,5,12], v: f32[2,5,12], mask: f32[2,1,1,5]) -> (y) opset 17 {\n  " HEADS(
                  "q") HEADS("k") HEADS("v") "tq = Transpose(rq) {perm=[0,2,1,3]} tk = Transpose(rk) {perm=[0,2,3,1]} "
                                             "tv = Transpose(rv) {perm=[0,2,1,3]}\n"
                                             "  s = MatMul(tq, tk) d = Div(s, f32[]{2}) a = Add(d, mask) p = "
                                             "Softmax(a) {axis=-1} c = MatMul(p, tv)\n"
                                             "  t = Transpose(c) {perm=[0,2,1,3]} y = Reshape(t, i64[3]{2,5,12}) }",
              "Attention");
    check_ops(
        "graph (x: f32[2,5,36]) -> (y) opset 12 {\n"
        "  r = Reshape(x, i64[5]{2,5,3,3,4}) t = Transpose(r) {perm=[2,0,3,1,4]}\n"
        "  a = Slice(t, i64[1]{0}, i64[1]{1}, i64[1]{0}, i64[1]{1}) q = Squeeze(a) {axes=[0]} qs = Mul(q, f32[1]{.5})\n"
        "  b = Slice(t, i64[1]{1}, i64[1]{2}, i64[1]{0}, i64[1]{1}) k = Squeeze(b) {axes=[0]}\n"
        "  c = Slice(t, i64[1]{2}, i64[1]{3}, i64[1]{0}, i64[1]{1}) v = Squeeze(c) {axes=[0]}\n"
        "  kt = Transpose(k) {perm=[0,1,3,2]} s = MatMul(qs, kt) p = Softmax(s) {axis=3} o = MatMul(p, v)\n"
        "  u = Transpose(o) {perm=[0,2,1,3]} y = Reshape(u, i64[3]{2,5,12}) }",
        "Slice Slice Slice Attention");
    /* Softmax over the wrong dim. */
    check_ops("graph (q: f32[2,5,12], k: f32[2,5,12], v: f32[2,5,12]) -> (y) opset 17 {\n  " HEADS("q") HEADS("k")
                  HEADS("v") "tq = Transpose(rq) {perm=[0,2,1,3]} tk = Transpose(rk) {perm=[0,2,3,1]} tv = "
                             "Transpose(rv) {perm=[0,2,1,3]}\n"
                             "  s = MatMul(tq, tk) p = Softmax(s) {axis=2} c = MatMul(p, tv)\n"
                             "  t = Transpose(c) {perm=[0,2,1,3]} y = Reshape(t, i64[3]{2,5,12}) }",
              "Reshape Reshape Reshape Transpose Transpose Transpose MatMul Softmax MatMul Transpose Reshape");
}

/* ---- fusion ---- */

static void fuses_epilogues(void **state) {
    (void)state;
    check_ops(
        "graph (x: f32[1,3,5,5], r: f32[1,4,3,3]) -> (y) opset 17 { w: f32[4,3,3,3] = random(1)\n"
        "  c = Conv(x, w) a = Add(r, c) b = Relu(a) d = Clip(b, f32[]{.5}, f32[]{6}) y = Mul(d, f32[4,1,1]{1,2,3,4}) }",
        "Conv+Add+Relu+Clip+Mul");
    check_ops("graph (x: f32[2,3], r: f32[2,1]) -> (y) opset 17 { w: f32[3,4] = random(1) b: f32[4] = random(2)\n"
              "  c = MatMul(x, w) a = Add(b, c) s = Sub(r, a) t = Tanh(s) y = Div(t, r) }",
              "MatMul+Bias+Sub+Tanh+Div");
    check_ops("graph (x: f32[2,3]) -> (y) opset 17 { w: f32[3,4] = random(1) c = Gemm(x, w, w2) w2: f32[4] = random(5) "
              "l = LeakyRelu(c) y = Exp(l) }",
              "Gemm+LeakyRelu+Exp");
    check_ops("graph (x: f32[1,2,4,4]) -> (y) opset 17 { w: f32[2,3,2,2] = random(1) c = ConvTranspose(x, w) "
              "{strides=[2,2]} y = Sigmoid(c) }",
              "ConvTranspose+Sigmoid");
    /* Two convolutions added: the later swallows the sum. */
    check_ops("graph (x: f32[1,3,5,5]) -> (y) opset 17 { w: f32[4,3,3,3] = random(1) v: f32[4,3,3,3] = random(2)\n"
              "  a = Conv(x, w) b = Conv(x, v) s = Add(a, b) y = Relu(s) }",
              "Conv Conv+Add+Relu");
    /* Not when the product is read twice, nor when the sum is wider than the product. */
    check_ops("graph (x: f32[1,3,5,5], r: f32[2,4,3,3]) -> (y, z) opset 17 { w: f32[4,3,3,3] = random(1) v: "
              "f32[4,3,3,3] = random(2)\n"
              "  a = Conv(x, w) b = Conv(x, v) y = Add(a, r) e = Exp(b) z = Add(b, e) }",
              "Conv Conv Add Exp+Add");
}

static void epilogue_text(void **state) {
    (void)state;
    check("fuse_epilogue",
          "graph (x: f32[1,3,5,5], r: f32[1,4,3,3]) -> (y) opset 17 { w: f32[4,3,3,3] = random(1)\n"
          "  c = Conv(x, w) {strides=[1,1]} @c0 a = Add(r, c) y = Relu(a) }",
          "graph (x: f32[1,3,5,5], r: f32[1,4,3,3]) -> (y) opset 17 {\n  w: f32[4,3,3,3] = #f3b88904ccc4f85d\n"
          "  y = polestar.Conv(x, w, _, r) {strides=[1,1], post_op=[17,3,0,-1], post_arg=[0.0,0.0,0.0,0.0]} @c0  # "
          "Conv+Add+Relu\n}\n");
}

static void respects_caps(void **state) {
    (void)state;
    static const char text[] = "graph (x: f32[1,3,5,5]) -> (y) opset 17 { w: f32[4,3,3,3] = random(1)\n"
                               "  c = Conv(x, w) a = Exp(c) b = Tanh(a) y = Relu(b) }";
    ps_caps caps = { 0 };
    ps_graph *g = load(text);
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(ps_passes_run(g, PS_PASSES_ALL, &caps, &err), PS_OK);
    assert_int_equal(g->n_nodes, 4);
    ps_graph_free(g);
    caps.fuse_epilogue = true;
    caps.max_posts = 2;
    g = load(text);
    assert_int_equal(ps_passes_run(g, PS_PASSES_ALL, &caps, &err), PS_OK);
    assert_int_equal(g->n_nodes, 2);
    ps_graph_free(g);
}

static void fuses_pointwise(void **state) {
    (void)state;
    check_ops("graph (x: f32[2,3], r: f32[3], s: f32[2,3]) -> (y) opset 17 { a = Sub(r, x) b = Abs(a) c = Mul(b, "
              "f32[]{2}) d = Max(c, s) y = Pow(d, f32[]{3}) }",
              "Sub+Abs+Mul+Max+Pow");
    /* A constant number that is no factor and no summand stays an operand. */
    check_ops("graph (x: f32[2,5]) -> (y) opset 17 {\n"
              "  e = Exp(x) d = Div(f32[]{3}, e) m = Max(d, f32[]{2}) i = Min(m, f32[]{2.5}) y = Abs(i) }",
              "Exp+Div+Max+Min+Abs");
    /* Integers are left alone, and chains that would widen. */
    check_ops("graph (x: i64[2,3], r: f32[3], s: f32[2,3]) -> (y, z) opset 17 { a = Add(x, x) y = Mul(a, x) b = Exp(r) "
              "z = Add(b, s) }",
              "Add Mul Exp Add");
}

/* With symbolic shapes the passes leave what they cannot be sure of, and finish once shapes are given. */
static void symbolic_shapes(void **state) {
    (void)state;
    static const char text[] =
        "graph (x: f32[n,3,h,w], r: f32[n,4,h,w], q: f32[k,4,h,w]) -> (y, z) opset 17 {\n"
        "  w1: f32[4,3,1,1] = random(1) a = Conv(x, w1) y = Add(a, r) b = Conv(x, w1) {strides=[1,1]} z = Add(b, q) }";
    ps_graph *g = load(text);
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(ps_passes_run(g, PS_PASSES_ALL, &all_caps, &err), PS_OK);
    size_t nodes = g->n_nodes;
    assert_in_range(nodes, 3, 4);
    for (size_t i = 0; i < 3; i++) {
        for (int d = 0; d < 4; d++) {
            if (g->inputs[i]->shape.dims[d] < 0) g->inputs[i]->shape.dims[d] = d ? 5 : 2;
        }
    }
    assert_int_equal(ps_passes_run(g, PS_PASSES_ALL, &all_caps, &err), PS_OK);
    assert_int_equal(g->n_nodes, 2);
    ps_graph_free(g);
}

/* Every allocation may fail: nothing leaks, and the failure is reported. */
static ps_status everything(ps_alloc_state *a, void *ctx) {
    ps_graph *g = NULL;
    ps_status status = ps_graph_parse(a, ctx, &g, NULL);
    if (status == PS_OK) status = ps_ops_resolve(g, NULL);
    if (status == PS_OK) status = ps_passes_run(g, PS_PASSES_ALL, &all_caps, NULL);
    ps_graph_free(g);
    return status;
}

static void survives_allocation_failure(void **state) {
    (void)state;
    static const char text[] =
        "graph (x: f32[2,4,5,5], q: f32[2,5,12]) -> (y, o, n) opset 15 { c: bool[] = {1} w: f32[4,2,3,3] = random(3)\n"
        "  p = Pad(x, i64[8]{0,0,1,1,0,0,1,1}) a = Conv(p, w) {group=2}\n"
        "  b = BatchNormalization(a, f32[4]{1,-2,.5,3}, f32[4]{0,1,2,3}, f32[4]{.1,.2,.3,.4}, f32[4]{1,2,3,4})\n"
        "  m = Mul(b, f32[]{2}) s = Sigmoid(m) t = Mul(m, s) k = If(c) {then_branch=graph () -> (z) { z = Abs(t) },\n"
        "  else_branch=graph () -> (z) { z = Neg(t) }} y = Exp(k)\n  " HEADS(
            "q") "tq = Transpose(rq) {perm=[0,2,1,3]} tk = Transpose(rq) {perm=[0,2,3,1]} v = MatMul(tq, tk) e = "
                 "Softmax(v)\n"
                 "  u = MatMul(e, tq) f = Transpose(u) {perm=[0,2,1,3]} o = Reshape(f, i64[3]{2,5,12})\n"
                 "  g = ReduceMean(q) {axes=[2]} h = Sub(q, g) i = Mul(h, h) j = ReduceMean(i) {axes=[2]} l = Add(j, "
                 "f32[]{.1}) r = Sqrt(l)\n"
                 "  n = Div(h, r) }";
    assert_true(ps_test_sweep(everything, (void *)(uintptr_t)text) > 100);
}

static int setup(void **state) {
    (void)state;
    ps_alloc_state_init(&alloc, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return atomic_load(&alloc.bytes) == 0 ? 0 : -1;
}

/* ---- Einsum ---- */

static void einsum_to_products(void **state) {
    (void)state;
    check("einsum", "graph (a: f32[2,3], b: f32[3,4]) -> (y) opset 17 { y = Einsum(a, b) {equation=\"ij,jk->ik\"} }",
          "graph (a: f32[2,3], b: f32[3,4]) -> (y) opset 17 {\n  _0 = MatMul(a, b)\n"
          "  y = Transpose(_0) {perm=[0,1]}\n}\n");
    /* The outputs of before and after are compared by reference kernels; what is left is one product. */
    static const struct {
        const char *equation, *a, *b, *ops;
    } rows[] = {
        { "bij,bjk->bik", "2,3,4", "2,4,5", "MatMul" },
        { "ij,jk->ki", "2,3", "3,4", "MatMul Transpose" },
        { "bhqd,bhkd->bhqk", "2,2,3,4", "2,2,5,4", "Transpose MatMul" },
        { "bhqk,bhkd->bqhd", "2,2,3,5", "2,2,5,4", "MatMul Transpose" },
        { "bhwc,hkc->bhwk", "2,3,4,5", "3,2,5", NULL },
        { "abcd,aefd->bcef", "2,3,2,4", "2,3,2,4", NULL },
        { "abcd,efcd->abef", "2,3,2,4", "2,3,2,4", NULL },
        { "i,i->", "5", "5", NULL },
        { "ij,j", "2,3", "3", NULL },
        { "...ij,...jk->...ik", "3,2,4", "4,2", NULL },
        { "...ij,...jk->...ik", "3,2,4", "1,4,2", "MatMul" },
        { "ij,ij->ij", "2,3", "2,3", "Mul" },
        { "ij,ji->ij", "2,3", "3,2", "Transpose Mul" },
        { "i,j->ji", "2", "3", NULL },
        { "ij,ij->i", "2,3", "2,3", NULL },
        /* not lowered: a diagonal, a sum over one operand alone, a broadcast sum, three operands, empty operands */
        { "ii,ij->ij", "3,3", "3,2", "Einsum" },
        { "ij,k->ik", "2,3", "2", "Einsum" },
        { "ij,jk->ik", "2,1", "3,4", "Einsum" },
        { "ij,jk->ik", "2,0", "0,4", "Einsum" },
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        char text[256];
        snprintf(text, sizeof text,
                 "graph (a: f32[%s], b: f32[%s]) -> (y) opset 17 { y = Einsum(a, b) {equation=\"%s\"} }", rows[k].a,
                 rows[k].b, rows[k].equation);
        check("einsum", text, NULL);
        if (rows[k].ops) check_ops(text, rows[k].ops);
    }
    /* Symbols: equal ones are equal extents, unknown dims may broadcast. */
    check_ops("graph (a: f32[n,m,k], b: f32[n,k,3]) -> (y) opset 17 { y = Einsum(a, b) {equation=\"bij,bjk->bik\"} }",
              "MatMul");
    check_ops("graph (a: f32[2,?], b: f32[?,3]) -> (y) opset 17 { y = Einsum(a, b) {equation=\"ij,jk->ik\"} }",
              "Einsum");
}

/* ---- codes ---- */

static const ps_caps int8_caps = { true, true, true, true, 16, true, true };

#define CODES " s: f32 = {0.05}\n z: u8 = {118}\n"
#define CONV_CODES                                                                                                     \
    CODES " w: i8[4,3,3,3] = random(1)\n ws: f32[4] = {0.01, 0.02, 0.01, 0.03}\n wz: i8[4] = {0, 0, 0, 0}\n"           \
          " ys: f32 = {0.1}\n yz: u8 = {20}\n"                                                                         \
          " wf = DequantizeLinear(w, ws, wz) {axis=0}\n"

static void codes_of_products(void **state) {
    (void)state;
    check_ops_caps(&int8_caps,
                   "graph (x: u8[1,3,6,6]) -> (y) opset 17 {\n" CONV_CODES
                   " b: f32[4] = {1, 2, 3, 4}\n xf = DequantizeLinear(x, s, z)\n"
                   " c = Conv(xf, wf, b) {pads=[1,1,1,1]} r = Relu(c)\n y = QuantizeLinear(r, ys, yz)\n}",
                   "QLinearConv+Clip");
    /* no QuantizeLinear behind it: a result in f32 */
    check_ops_caps(&int8_caps,
                   "graph (x: u8[1,3,6,6]) -> (y) opset 17 {\n" CONV_CODES
                   " xf = DequantizeLinear(x, s, z)\n y = Conv(xf, wf)\n}",
                   "QLinearConv");
    /* a Pad with the zero point goes in */
    check_ops_caps(&int8_caps,
                   "graph (x: u8[1,3,6,6]) -> (y) opset 17 {\n" CONV_CODES
                   " pads: i64[8] = {0, 0, 0, 1, 0, 0, 2, 1} none: f32 = {0}\n xf = DequantizeLinear(x, s, z)\n"
                   " p = Pad(xf, pads, none) c = Conv(p, wf)\n y = QuantizeLinear(c, ys, yz)\n}",
                   "QLinearConv");
    /* so does one with codes on either side; not one with other numbers around */
    check_ops_caps(&int8_caps,
                   "graph (x: u8[1,3,6,6]) -> (y) opset 17 {\n" CONV_CODES
                   " pads: i64[8] = {0, 0, 0, 1, 0, 0, 2, 1} none: f32 = {0}\n xf = DequantizeLinear(x, s, z)\n"
                   " p = Pad(xf, pads, none) q = QuantizeLinear(p, s, z) pf = DequantizeLinear(q, s, z)\n"
                   " c = Conv(pf, wf)\n y = QuantizeLinear(c, ys, yz)\n}",
                   "QLinearConv");
    check_ops_caps(&int8_caps,
                   "graph (x: u8[1,3,6,6]) -> (y) opset 17 {\n" CONV_CODES
                   " pads: i64[8] = {0, 0, 0, 1, 0, 0, 2, 1} one: f32 = {1}\n xf = DequantizeLinear(x, s, z)\n"
                   " p = Pad(xf, pads, one) q = QuantizeLinear(p, s, z) pf = DequantizeLinear(q, s, z)\n"
                   " c = Conv(pf, wf)\n y = QuantizeLinear(c, ys, yz)\n}",
                   "DequantizeLinear Pad QuantizeLinear QLinearConv");
    check_ops_caps(
        &int8_caps,
        "graph (x: f32[2,6]) -> (y) opset 17 {\n" CODES
        " w: i8[5,6] = random(1)\n ws: f32[5] = {0.01, 0.02, 0.01, 0.03, 0.01}\n b: i32[5] = {1, 2, 3, 4, 5}\n"
        " wf = DequantizeLinear(w, ws) {axis=0} bs: f32 = {0.001} bf = DequantizeLinear(b, bs)\n"
        " q = QuantizeLinear(x, s, z) xf = DequantizeLinear(q, s, z)\n"
        " y = Gemm(xf, wf, bf) {transB=1}\n}",
        "QuantizeLinear QLinearMatMul");
    /* weights with scales along the sum stay floats */
    check_ops_caps(&int8_caps,
                   "graph (x: u8[2,3]) -> (y) opset 17 {\n" CODES
                   " w: i8[3,5] = random(1)\n ws: f32[3] = {0.01, 0.02, 0.01}\n"
                   " wf = DequantizeLinear(w, ws) {axis=0} xf = DequantizeLinear(x, s, z) y = MatMul(xf, wf)\n}",
                   "DequantizeLinear MatMul");
}

/* A device that wants constants leaves what is made at run time to other paths. */
static void codes_of_constants(void **state) {
    static const ps_caps fixed = { true, true, true, true, 16, true, true, true, true };
    static const char *const activations = "graph (a: u8[2,6], b: u8[6,3]) -> (y) opset 17 {\n" CODES
                                           " fa = DequantizeLinear(a, s, z) fb = DequantizeLinear(b, s, z)\n"
                                           " c = MatMul(fa, fb) y = QuantizeLinear(c, s, z)\n}";
    static const char *const dynamic = "graph (x: f32[6,8]) -> (y) opset 17 {\n w: i8[8,5] = random(5)\n"
                                       " ws: f32 = {0.01} wz: i8 = {0}\n q, s, z = DynamicQuantizeLinear(x)\n"
                                       " i = MatMulInteger(q, w, z, wz) f = Cast(i) {to=1}\n m = Mul(s, ws)\n"
                                       " y = Mul(f, m)\n}";
    (void)state;
    check_ops_caps(&int8_caps, activations, "QLinearMatMul");
    check_ops_caps(&fixed, activations, "DequantizeLinear DequantizeLinear MatMul QuantizeLinear");
    check_ops_caps(&int8_caps, dynamic, "DynamicQuantizeLinear QLinearMatMul");
    check_ops_caps(&fixed, dynamic, "DynamicQuantizeLinear DequantizeLinear Mul MatMul+Mul");
    /* constants are taken as ever, and weights of products that have no codes beside them are coded */
    check_ops_caps(&fixed,
                   "graph (x: u8[1,3,6,6]) -> (y) opset 17 {\n" CONV_CODES
                   " xf = DequantizeLinear(x, s, z)\n c = Conv(xf, wf)\n y = QuantizeLinear(c, ys, yz)\n}",
                   "QLinearConv");
    check_ops_caps(&fixed, "graph (x: f32[1,3,6,6]) -> (y) opset 17 {\n" CONV_CODES " y = Conv(x, wf)\n}", "Conv");
}

static void codes_of_pairs_and_tables(void **state) {
    (void)state;
    check_ops_caps(&int8_caps,
                   "graph (a: u8[2,6], b: u8[1,6]) -> (y) opset 17 {\n" CODES
                   " fa = DequantizeLinear(a, s, z) fb = DequantizeLinear(b, s, z)\n"
                   " c = Add(fb, fa) y = QuantizeLinear(c, s, z)\n}",
                   "QLinearAdd");
    /* what a convolution adds last; not where its codes are read elsewhere too, or their scale is another */
    static const char sum[] = "graph (x: u8[1,4,3,3], o: u8[1,4,3,3]) -> (%s) opset 17, polestar 1 {\n" CODES
                              " w: i8[4,4,1,1] = random(1)\n t: f32 = {0.07}\n"
                              " c = polestar.QLinearConv(x, s, z, w, s, _, s, z) {pads=[0,0,0,0]}\n"
                              " y = polestar.QLinearAdd(o, s, z, c, %s, z, s, z)\n}";
    char text[1024];
    snprintf(text, sizeof text, sum, "y", "s");
    check_ops_caps(&int8_caps, text, "QLinearConv+Add");
    snprintf(text, sizeof text, sum, "y, c", "s");
    check_ops_caps(&int8_caps, text, "QLinearConv QLinearAdd");
    snprintf(text, sizeof text, sum, "y", "t");
    check_ops_caps(&int8_caps, text, "QLinearConv QLinearAdd");
    /* all that depends on one tensor of codes is a table: Swish with codes in between */
    check_ops_caps(&int8_caps,
                   "graph (a: u8[2,6]) -> (y) opset 17 {\n" CODES
                   " f = DequantizeLinear(a, s, z) g = Sigmoid(f) gs: f32 = {0.004} gz: u8 = {0}\n"
                   " q = QuantizeLinear(g, gs, gz) h = DequantizeLinear(q, gs, gz)\n"
                   " c = Mul(f, h) y = QuantizeLinear(c, s, z)\n}",
                   "Lookup+Mul");
    check_ops_caps(&int8_caps,
                   "graph (a: u8[2,6]) -> (y) opset 17 {\n" CODES
                   " f = DequantizeLinear(a, s, z) g = Transpose(f) y = QuantizeLinear(g, s, z)\n}",
                   "Transpose");
    check_ops_caps(&int8_caps,
                   "graph (a: u8[1,2,4,4]) -> (y) opset 17 {\n" CODES
                   " f = DequantizeLinear(a, s, z) g = MaxPool(f) {kernel_shape=[2,2]} y = QuantizeLinear(g, s, z)\n}",
                   "MaxPool");
}

static void codes_of_operators(void **state) {
    (void)state;
    check_ops_caps(&int8_caps,
                   "graph (x: f32[2,6]) -> (y) opset 17 {\n w: i8[6,4] = random(1)\n ws: f32 = {0.01}\n"
                   " b: f32[4] = {1, 2, 3, 4}\n wz: i8 = {0}\n q, xs, xz = DynamicQuantizeLinear(x)\n"
                   " i = MatMulInteger(q, w, xz, wz) f = Cast(i) {to=1} k = Mul(xs, ws) p = Mul(f, k) y = Add(b, p)\n}",
                   "DynamicQuantizeLinear QLinearMatMul+Bias");
    check_ops_caps(&int8_caps,
                   "graph (x: u8[2,?]) -> (y) opset 17, com.microsoft 1 {\n" CODES
                   " c: u8[1] = {130} y = com.microsoft.QLinearMul(c, s, z, x, s, z, s, z)\n}",
                   "Lookup");
    check_ops_caps(&int8_caps,
                   "graph (a: u8[2,3], b: u8[3,4]) -> (y) opset 17 {\n" CODES
                   " zb: u8 = {7} y = QLinearMatMul(a, s, z, b, s, zb, s, z)\n}",
                   "QLinearMatMul");
    check_ops_caps(&int8_caps,
                   "graph (x: f32[2,6]) -> (y) opset 17, com.microsoft 1 {\n w: i8[6,4] = random(1)\n"
                   " ws: f32[4] = {0.01, 0.02, 0.03, 0.01}\n wz: i8[4] = {0, 3, -2, 1}\n"
                   " y = com.microsoft.DynamicQuantizeMatMul(x, w, ws, wz)\n}",
                   "DynamicQuantizeLinear QLinearMatMul");
    check_ops_caps(&int8_caps,
                   "graph (a: u8[2,3], b: u8[2,5]) -> (y) opset 17, com.microsoft 1 {\n" CODES
                   " t: f32 = {0.07} y = com.microsoft.QLinearConcat(s, z, a, s, z, b, t, z) {axis=1}\n}",
                   "Lookup+Requantize Concat");
    /* i8 between QuantizeLinear and DequantizeLinear becomes u8 */
    check_caps("quantized", &int8_caps,
               "graph (x: f32[2]) -> (y) opset 17 { s: f32 = {0.5} z: i8 = {-3} q = QuantizeLinear(x, s, z) "
               "y = DequantizeLinear(q, s, z) }",
               NULL);
}

/* The same with codes: products, a table of Swish, moves, a sum. */
static ps_status everything_on_codes(ps_alloc_state *a, void *ctx) {
    ps_graph *g = NULL;
    ps_status status = ps_graph_parse(a, ctx, &g, NULL);
    if (status == PS_OK) status = ps_ops_resolve(g, NULL);
    if (status == PS_OK) status = ps_passes_run(g, PS_PASSES_ALL, &int8_caps, NULL);
    ps_graph_free(g);
    return status;
}

static void codes_survive_allocation_failure(void **state) {
    (void)state;
    static const char text[] =
        "graph (x: f32[1,3,6,6], m: f32[2,6]) -> (y, v) opset 17 {\n" CONV_CODES
        " zi: i8 = {-3} q = QuantizeLinear(x, s, zi) xf = DequantizeLinear(q, s, zi)\n"
        " c = Conv(xf, wf) {pads=[1,1,1,1]} r = Relu(c) d = QuantizeLinear(r, ys, yz)\n"
        " e = DequantizeLinear(d, ys, yz) g = Sigmoid(e) h = Mul(e, g) i = QuantizeLinear(h, s, z)\n"
        " j = DequantizeLinear(i, s, z) k = Add(e, j) l = Transpose(k) y = QuantizeLinear(l, s, z)\n"
        " n, ns, nz = DynamicQuantizeLinear(m) p: i8[6,4] = random(1) ps: f32 = {0.01}\n"
        " o = MatMulInteger(n, p, nz) t = Cast(o) {to=1} u = Mul(ns, ps) v = Mul(t, u)\n}";
    assert_true(ps_test_sweep(everything_on_codes, (void *)(uintptr_t)text) > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(einsum_to_products),
        cmocka_unit_test(folds),
        cmocka_unit_test(folds_dequantized_weights),
        cmocka_unit_test(folds_within_a_budget),
        cmocka_unit_test(widens_halves),
        cmocka_unit_test(folds_nothing_huge),
        cmocka_unit_test(folds_text_within_bounds),
        cmocka_unit_test(inlines_if),
        cmocka_unit_test(removes_identities),
        cmocka_unit_test(merges_common_subexpressions),
        cmocka_unit_test(removes_dead_code),
        cmocka_unit_test(sinks_casts),
        cmocka_unit_test(sinks_dequantization),
        cmocka_unit_test(folds_batchnorm),
        cmocka_unit_test(folds_affine),
        cmocka_unit_test(folds_pads),
        cmocka_unit_test(recognises_activations),
        cmocka_unit_test(recognises_layernorm),
        cmocka_unit_test(recognises_groupnorm),
        cmocka_unit_test(integer_products),
        cmocka_unit_test(recognises_softmax),
        cmocka_unit_test(recognises_one_hot),
        cmocka_unit_test(takes_contrib_apart),
        cmocka_unit_test(takes_contrib_attention_apart),
        cmocka_unit_test(recognises_attention),
        cmocka_unit_test(fuses_epilogues),
        cmocka_unit_test(epilogue_text),
        cmocka_unit_test(respects_caps),
        cmocka_unit_test(fuses_pointwise),
        cmocka_unit_test(symbolic_shapes),
        cmocka_unit_test(codes_of_products),
        cmocka_unit_test(codes_of_constants),
        cmocka_unit_test(codes_of_pairs_and_tables),
        cmocka_unit_test(codes_of_operators),
        cmocka_unit_test(codes_survive_allocation_failure),
        cmocka_unit_test(survives_allocation_failure),
    };
    return cmocka_run_group_tests_name("passes", tests, setup, teardown);
}
