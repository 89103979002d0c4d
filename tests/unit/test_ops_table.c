/* The operator table's core: look-up, attributes, arity, inference over branches, windows, post-operations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

#include "ops/params.h"

static ps_alloc_state alloc;

static ps_graph *parse(const char *text) {
    ps_graph *g = NULL;
    ps_error err = PS_ERROR_INIT;
    if (ps_graph_parse(&alloc, text, &g, &err) != PS_OK) fail_msg("%s", err.msg);
    return g;
}

static ps_graph *infer(const char *text) {
    ps_graph *g = parse(text);
    ps_error err = PS_ERROR_INIT;
    if (ps_ops_resolve(g, &err) != PS_OK || ps_ops_infer(g, &err) != PS_OK) fail_msg("%s", err.msg);
    return g;
}

static void assert_refused(const char *text, ps_status status, const char *part) {
    ps_graph *g = parse(text);
    ps_error err = PS_ERROR_INIT;
    ps_status got = ps_ops_resolve(g, &err);
    if (got == PS_OK) got = ps_ops_infer(g, &err);
    assert_int_equal(got, status);
    if (!strstr(err.msg, part)) fail_msg("'%s' does not say '%s'", err.msg, part);
    ps_graph_free(g);
}

static void looks_up_versions(void **state) {
    (void)state;
    assert_int_equal(ps_ops_find("Softmax", "", 12)->since, 1);
    assert_int_equal(ps_ops_find("Softmax", "ai.onnx", 13)->since, 13);
    assert_int_equal(ps_ops_find("Softmax", "", 99)->since, 13);
    assert_null(ps_ops_find("Mish", "", 17));
    assert_non_null(ps_ops_find("Pointwise", "polestar", 1));
    assert_null(ps_ops_find("Pointwise", "", 17));
}

#define NODES(opsets, nodes) "graph g (x: f32[2]) -> (y) opset " opsets " {\n" nodes "}\n"

/* Operator, domain, version, node, what comes closest, how many more. */
static void refuses_unknown_operators(void **state) {
    (void)state;
    assert_refused(NODES("17", "  y = Sofmax(x)\n"), PS_UNSUPPORTED,
                   "Sofmax producing 'y': operator Sofmax of ai.onnx version 17 is not supported; "
                   "did you mean Softmax?");
    assert_refused(NODES("17", "  y = Mish(x)\n"), PS_UNSUPPORTED,
                   "operator Mish of ai.onnx version 17 is not supported; "
                   "the nearest supported version is 18");
    assert_refused(NODES("17, ai.onnxx 1", "  y = ai.onnxx.Relu(x)\n"), PS_UNSUPPORTED,
                   "operator Relu of ai.onnxx version 1 is not supported; did you mean the domain ai.onnx?");
    assert_refused(NODES("17", "  y = Frobnicate(x)\n"), PS_UNSUPPORTED, "not supported; no version of it is");
    assert_refused(NODES("17", "  a = Foo(x)\n  b = Bar(a)\n  c = Foo(b)\n  y = Baz(c)\n"), PS_UNSUPPORTED,
                   "operator Foo of ai.onnx version 17 is not supported; no version of it is (and 2 more of the "
                   "model's operators are not)");
}

/* Every row is usable: a shape rule, a kernel unless it is control flow, sane arity, attributes inside their struct. */
static void table_is_sound(void **state) {
    (void)state;
    size_t n;
    const ps_op_family *const *families = ps_ops_families(&n);
    assert_true(n > 10);
    for (size_t f = 0; f < n; f++) {
        for (size_t i = 0; i < families[f]->n; i++) {
            const ps_op *op = &families[f]->ops[i];
            if (!op->infer || op->since < 1 || (!op->ref && !(op->traits & PS_OP_CONTROL))) fail_msg("%s", op->name);
            if (op->min_in > op->max_in || op->min_out > op->max_out) fail_msg("%s: arity", op->name);
            for (const ps_attr_def *d = op->attrs; d && d->name; d++) {
                if (d->offset >= op->params_size) fail_msg("%s: %s", op->name, d->name);
            }
            for (size_t k = 0; k < i; k++) {
                const ps_op *other = &families[f]->ops[k];
                if (op->since == other->since && strcmp(op->name, other->name) == 0 &&
                    strcmp(op->domain, other->domain) == 0) {
                    fail_msg("%s-%d is listed twice", op->name, op->since);
                }
            }
        }
    }
}

static void refuses_what_the_table_does_not_allow(void **state) {
    (void)state;
    assert_refused("graph (x: f32[2]) -> (y) opset 17 { y = NoSuchOp(x) @q }", PS_UNSUPPORTED, "NoSuchOp 'q'");
    assert_refused("graph (x: f32[2]) -> (y) opset 17, foo 3 { y = foo.Op(x) }", PS_UNSUPPORTED, "foo version 3");
    assert_refused("graph (x: f32[2]) -> (y) opset 17 { y = Relu(x, x) }", PS_FORMAT, "2 inputs");
    assert_refused("graph (x: f32[2]) -> (y) opset 17 { y = Add(_, x) }", PS_FORMAT, "input 0 is required");
    assert_refused("graph (x: f32[2]) -> (y, z) opset 17 { y, z = Relu(x) }", PS_FORMAT, "2 outputs");
    assert_refused("graph (x: f32[2]) -> (y) opset 17 { y = Cast(x) }", PS_FORMAT, "'to' is missing");
    assert_refused("graph (x: f32[2]) -> (y) opset 17 { y = Softmax(x) {axis=1.5} }", PS_FORMAT, "must be int");
    assert_refused("graph (x: f32[2], y: f32[3]) -> (z) opset 17 { z = Add(x, y) @sum }", PS_SHAPE, "sum");
    /* what holds references must not be moved as bytes: Tile freed the elements twice */
    assert_refused(NODES("17", "  s = SplitToSequence(x)\n  n = Shape(x)\n  y = Tile(s, n)\n"), PS_TYPE,
                   "Tile producing 'y': input 0 ('s') is a sequence, not a tensor");
    assert_refused(NODES("17", "  s = SequenceConstruct(x, x)\n  y = Expand(s, x)\n"), PS_TYPE, "is a sequence");
    assert_refused(NODES("17", "  s = Optional(x)\n  y = Concat(x, s) {axis=0}\n"), PS_TYPE, "is an optional");
    assert_refused(NODES("17", "  y = Neg(x) {extra=graph b () -> (z) {\n    z = Relu(x)\n  }}\n"), PS_FORMAT,
                   "the operator takes no graph as attribute 'extra'");
}

static void joins_branches(void **state) {
    (void)state;
    ps_graph *g = infer(
        "graph (c: bool[], x: f32[2,3], y: f32[2,5]) -> (z) opset 17 {\n"
        "  z = If(c) {then_branch=graph () -> (p) { p = Relu(x) }, else_branch=graph () -> (p) { p = Exp(y) }} }");
    const ps_value *z = ps_graph_find(g, "z");
    assert_int_equal(z->dtype, PS_DTYPE_F32);
    assert_int_equal(z->shape.rank, 2);
    assert_int_equal(z->shape.dims[0], 2);
    assert_int_equal(z->shape.dims[1], PS_DIM_UNKNOWN);
    ps_graph_free(g);
    /* A branch that contradicts the shapes is no error of the model. */
    g = infer("graph (c: bool[], x: f32[2,3]) -> (z) opset 17 {\n"
              "  z = If(c) {then_branch=graph () -> (p) { p = Squeeze(x, i64[1]{0}) }, else_branch=graph () -> (p) { p "
              "= Exp(x) }} }");
    ps_graph_free(g);
}

/* Facts only grow: a rule that knows less does not erase what is known. */
static void keeps_facts(void **state) {
    (void)state;
    ps_graph *g = infer("graph (x: f32[n,3]) -> (y) opset 17 { y = Relu(x) }");
    g->inputs[0]->shape.dims[0] = 4;
    assert_int_equal(ps_ops_infer(g, NULL), PS_OK);
    assert_int_equal(ps_graph_find(g, "y")->shape.dims[0], 4);
    g->inputs[0]->shape = ps_shape_unknown();
    assert_int_equal(ps_ops_infer(g, NULL), PS_OK);
    assert_int_equal(ps_graph_find(g, "y")->shape.dims[0], 4);
    ps_graph_free(g);
}

/* in, kernel, attributes → out, pad_begin, pad_end: by the formulas of Conv-11, AveragePool-19 and ConvTranspose-11. */
static void computes_windows(void **state) {
    (void)state;
    static const struct {
        const char *op, *attrs;
        int in, kernel, out, begin, end;
    } cases[] = {
        { "Conv", "", 5, 3, 3, 0, 0 },
        { "Conv", "strides=[2], pads=[1,1]", 5, 3, 3, 1, 1 },
        { "Conv", "dilations=[2]", 7, 3, 3, 0, 0 },
        { "Conv", "strides=[2], auto_pad=\"SAME_UPPER\"", 6, 3, 3, 0, 1 },
        { "Conv", "strides=[2], auto_pad=\"SAME_LOWER\"", 6, 3, 3, 1, 0 },
        { "Conv", "auto_pad=\"VALID\", pads=[9,9]", 6, 3, 4, 0, 0 },
        { "MaxPool", "kernel_shape=[2], strides=[2]", 5, 2, 2, 0, 0 },
        { "MaxPool", "kernel_shape=[2], strides=[2], ceil_mode=1", 5, 2, 3, 0, 0 },
        { "MaxPool", "kernel_shape=[1], strides=[3], pads=[0,2], ceil_mode=1", 5, 1, 2, 0,
          2 }, /* the third starts in the pad */
        { "ConvTranspose", "strides=[2]", 3, 3, 7, 0, 0 },
        { "ConvTranspose", "strides=[2], pads=[1,1], output_padding=[1]", 3, 3, 6, 1, 1 },
        { "ConvTranspose", "strides=[2], auto_pad=\"SAME_UPPER\"", 3, 3, 6, 0, 1 },
        { "ConvTranspose", "strides=[2], output_shape=[6]", 3, 3, 6, 1, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        ps_window w[PS_MAX_SPATIAL];
        int n;
        ps_error err = PS_ERROR_INIT;
        bool pool = strcmp(cases[i].op, "MaxPool") == 0, deconv = strcmp(cases[i].op, "ConvTranspose") == 0;
        ps_snprintf(text, sizeof text,
                    "graph (x: f32[1,1,%d]) -> (y) opset 17 { w: f32[1,1,%d] = random(1) y = %s(x%s) {%s} }",
                    cases[i].in, cases[i].kernel, cases[i].op, pool ? "" : ", w", cases[i].attrs);
        ps_graph *g = infer(text);
        ps_status status = pool     ? ps_pool_windows(g->first, w, &n, &err)
                           : deconv ? ps_deconv_windows(g->first, w, &n, &err)
                                    : ps_conv_windows(g->first, w, &n, &err);
        if (status != PS_OK) fail_msg("%s", err.msg);
        assert_int_equal(n, 1);
        if (w[0].out != cases[i].out || w[0].pad_begin != cases[i].begin || w[0].pad_end != cases[i].end) {
            fail_msg("%s {%s}: out %d pads %d %d", cases[i].op, cases[i].attrs, (int)w[0].out, (int)w[0].pad_begin,
                     (int)w[0].pad_end);
        }
        ps_graph_free(g);
    }
}

/* Formulas in double. Tolerance: a few roundings of f32 maths functions. */
static void applies_posts(void **state) {
    (void)state;
    for (float x = -5; x <= 5; x += 0.37f) {
        double d = x;
        struct {
            ps_post_kind kind;
            float alpha, beta, operand;
            double want;
        } cases[] = {
            { PS_POST_RELU, 0, 0, 0, d > 0 ? d : 0 },
            { PS_POST_LEAKY_RELU, .1f, 0, 0, d < 0 ? d * .1 : d },
            { PS_POST_CLIP, -1, 2, 0,
              d < -1  ? -1
              : d > 2 ? 2
                      : d },
            { PS_POST_SIGMOID, 0, 0, 0, 1 / (1 + exp(-d)) },
            { PS_POST_TANH, 0, 0, 0, tanh(d) },
            { PS_POST_HARD_SIGMOID, .2f, .5f, 0, fmax(0, fmin(1, .2 * d + .5)) },
            { PS_POST_HARD_SWISH, 1.f / 6, .5f, 0, d * fmax(0, fmin(1, d / 6 + .5)) },
            { PS_POST_SWISH, 1.5f, 0, 0, d / (1 + exp(-1.5 * d)) },
            { PS_POST_GELU, 0, 0, 0, d / 2 * (1 + erf(d / sqrt(2))) },
            { PS_POST_GELU_TANH, 0, 0, 0, d / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (d + .044715 * d * d * d))) },
            { PS_POST_EXP, 0, 0, 0, exp(d) },
            { PS_POST_SQRT, 0, 0, 0, sqrt(d) },
            { PS_POST_ABS, 0, 0, 0, fabs(d) },
            { PS_POST_ERF, 0, 0, 0, erf(d) },
            { PS_POST_RECIPROCAL, 0, 0, 0, 1 / d },
            { PS_POST_LINEAR, 2, 3, 0, 2 * d + 3 },
            { PS_POST_POW, 3, 0, 0, d * d * d },
            { PS_POST_ADD, 0, 0, 2, d + 2 },
            { PS_POST_SUB, 0, 0, 2, d - 2 },
            { PS_POST_RSUB, 0, 0, 2, 2 - d },
            { PS_POST_MUL, 0, 0, 2, d * 2 },
            { PS_POST_DIV, 0, 0, 2, d / 2 },
            { PS_POST_RDIV, 0, 0, 2, 2 / d },
            { PS_POST_MAX, 0, 0, 2, fmax(d, 2) },
            { PS_POST_MIN, 0, 0, 2, fmin(d, 2) },
        };
        assert_int_equal(sizeof cases / sizeof cases[0], PS_POST_COUNT);
        for (size_t i = 0; i < PS_POST_COUNT; i++) {
            double got = ps_post_apply(cases[i].kind, x, cases[i].alpha, cases[i].beta, cases[i].operand);
            bool both_nan = isnan(got) && isnan(cases[i].want);
            if (!both_nan && !(fabs(got - cases[i].want) <= 1e-6 * (1 + fabs(cases[i].want)))) {
                fail_msg("%s(%g) = %g, not %g", ps_post_name(cases[i].kind), d, got, cases[i].want);
            }
        }
    }
}

static void adds_posts_up_to_the_limit(void **state) {
    (void)state;
    ps_graph *g = infer("graph (x: f32[2], r: f32[2]) -> (y) opset 17 { y = polestar.Pointwise(x) }");
    ps_post posts[PS_MAX_POSTS];
    ps_error err = PS_ERROR_INIT;
    for (int i = 0; i < PS_MAX_POSTS; i++) {
        assert_int_equal(ps_node_posts(g->first, posts), i);
        assert_int_equal(ps_node_add_post(g->first, PS_POST_ADD, 0, 0, g->inputs[1], &err), PS_OK);
    }
    assert_int_equal(ps_node_add_post(g->first, PS_POST_RELU, 0, 0, NULL, &err), PS_LIMIT);
    assert_int_equal(ps_node_posts(g->first, posts), PS_MAX_POSTS);
    assert_int_equal(posts[3].operand, 4);
    ps_graph_free(g);
    /* A file may claim our domain: operands out of range count as no post-operations at all. */
    g = parse("graph (x: f32[2]) -> (y) opset 17 { y = polestar.Pointwise(x) {post_op=[17,5], post_arg=[0.0,0.0]} }");
    assert_int_equal(ps_node_posts(g->first, posts), 0);
    ps_graph_free(g);
}

/* The formulas of Resize-19, for 4 → 8 and 4 → 2 elements. */
static void maps_resize_coordinates(void **state) {
    (void)state;
    static const struct {
        const char *mode;
        int out_index, in, out;
        float want;
    } cases[] = {
        { "half_pixel", 0, 4, 8, -0.25f },
        { "half_pixel", 7, 4, 8, 3.25f },
        { "asymmetric", 3, 4, 8, 1.5f },
        { "align_corners", 7, 4, 8, 3.0f },
        { "align_corners", 0, 4, 1, 0.0f },
        { "pytorch_half_pixel", 0, 4, 1, 0.0f },
        { "pytorch_half_pixel", 1, 4, 2, 2.5f },
        { "tf_half_pixel_for_nn", 1, 4, 2, 3.0f },
        { "half_pixel_symmetric", 0, 4, 8, -0.25f },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ps_resize_params p = { .coordinate_transformation_mode = cases[i].mode };
        float scale = (float)cases[i].out / (float)cases[i].in;
        float got = ps_resize_source(&p, cases[i].out_index, cases[i].in, cases[i].out, scale, 0, 0);
        if (fabsf(got - cases[i].want) > 1e-6f) fail_msg("%s: %g, not %g", cases[i].mode, got, cases[i].want);
    }
}

static void prints_the_table(void **state) {
    (void)state;
    ps_str s;
    ps_str_init(&s, &alloc);
    ps_ops_print_table(&s);
    assert_non_null(strstr(s.data, "| Softmax | 13 | 1 | 1 | axis |"));
    assert_non_null(strstr(s.data, "to (required)"));
    ps_str_release(&s);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(looks_up_versions),
        cmocka_unit_test(refuses_unknown_operators),
        cmocka_unit_test(table_is_sound),
        cmocka_unit_test(refuses_what_the_table_does_not_allow),
        cmocka_unit_test(joins_branches),
        cmocka_unit_test(keeps_facts),
        cmocka_unit_test(computes_windows),
        cmocka_unit_test(applies_posts),
        cmocka_unit_test(adds_posts_up_to_the_limit),
        cmocka_unit_test(maps_resize_coordinates),
        cmocka_unit_test(prints_the_table),
    };
    return cmocka_run_group_tests_name("ops_table", tests, setup, teardown);
}
