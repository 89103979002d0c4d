/* Graphs: the text form, verifier, sorting, cloning, captures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "graph/graph.h"

static ps_alloc_state alloc;

static ps_graph *parse(const char *text) {
    ps_graph *g = NULL;
    ps_error err = PS_ERROR_INIT;
    if (ps_graph_parse(&alloc, text, &g, &err) != PS_OK) fail_msg("%s", err.msg);
    return g;
}

static char *print(const ps_graph *g) {
    ps_str s;
    ps_str_init(&s, &alloc);
    ps_graph_print(g, &s);
    return ps_str_take(&s);
}

static void assert_round_trip(const char *text) {
    ps_graph *g = parse(text);
    char *printed = print(g);
    assert_string_equal(printed, text);
    ps_free(&alloc, printed);
    ps_graph_free(g);
}

static void assert_parse_fails(const char *text, const char *part) {
    ps_graph *g = NULL;
    ps_error err = PS_ERROR_INIT;
    assert_int_not_equal(ps_graph_parse(&alloc, text, &g, &err), PS_OK);
    if (!strstr(err.msg, part)) fail_msg("'%s' does not say '%s'", err.msg, part);
}

static int setup(void **state) {
    (void)state;
    ps_alloc_state_init(&alloc, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return atomic_load(&alloc.bytes) == 0 ? 0 : -1; /* nothing leaks */
}

static const char IF_GRAPH[] =
    "graph main (x: f32[1,3,h,w], c: bool[]) -> (z) opset 17, com.microsoft 1 {\n"
    "  k: f32[2] = {1, 2.5}\n"
    "  t: f32[1,8,?,?] = Conv(x, k, _, k) {strides=[2,2], auto_pad=\"SAME_UPPER\"} @conv.0\n"
    "  z = If(c) {then_branch=graph then () -> (q) {\n"
    "    q = polestar.Relu(t)\n"
    "  }, else_branch=graph () -> (r) {\n"
    "    s: i64[0] = {}\n"
    "    r, _, u: ?[2] = X(t, x, s) {a=-1.5, b=ints[], v=i64[1]{-7}, l=[0.5,2.0], n=[\"a\",\"b\"]}\n"
    "  }}\n"
    "}\n";

static void round_trip(void **state) {
    (void)state;
    assert_round_trip(IF_GRAPH);
    assert_round_trip("graph \"a b\" (x: f32[...]) -> (x) {\n}\n");
    assert_round_trip("graph g (\"a b\": string[2], y: i64[] = {9223372036854775807}) -> (\"_\", o) opset 13 {\n"
                      "  \"_\": string[1] = {\"q\\\"\\\\\\x0a\"}\n"
                      "  o = Cast(\"a b\") {to=1}\n"
                      "}\n");
}

static void inline_constants_and_comments(void **state) {
    (void)state;
    ps_graph *g = parse("graph (x: f32[2]) -> (y) opset 17 { # comment\n y = Add(x, f32[2]{1.5, ...}) }");
    const ps_value *c = g->first->in[1];
    assert_non_null(c->constant);
    assert_true(((const float *)c->constant->data)[1] == 1.5f);
    ps_graph_free(g);
}

static void parse_errors(void **state) {
    (void)state;
    assert_parse_fails("graph (x) -> (y) { y = Relu(z) }", "nothing defines");
    assert_parse_fails("graph (x) -> (y) { y = Relu(x) y = Relu(x) }", "two nodes");
    assert_parse_fails("graph (x) -> (a) { a = Relu(b) b = Relu(a) }", "cycle");
    assert_parse_fails("graph () -> (c) { c: f32[64] = #0123 }", "digest");
    assert_parse_fails("graph () -> (c) { c: f32[3] = {1, 2} }", "2 elements");
    assert_parse_fails("graph () -> (c) { c: f99[3] = {1, 2} }", "f99");
    assert_parse_fails("graph (x) -> (y) {\n y = Relu(x", "line 2");
    assert_parse_fails("graph (x) -> (q) { y = If(x) {b=graph () -> (q) { q = Relu(x) }} }", "nothing defines output");
}

static void sorts(void **state) {
    (void)state;
    ps_graph *g = parse("graph (x) -> (c) { c = C(b) b = B(a) z = If(x) {g=graph () -> (i) { i = I(a) }} a = A(x) }");
    char *text = print(g);
    assert_string_equal(text,
                        "graph (x) -> (c) {\n  a = A(x)\n  b = B(a)\n  c = C(b)\n  z = If(x) {g=graph () -> (i) {\n"
                        "    i = I(a)\n  }}\n}\n");
    ps_free(&alloc, text);
    ps_graph_free(g);
}

static void clones(void **state) {
    (void)state;
    ps_graph *g = parse(IF_GRAPH), *copy = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_value **map;
    assert_int_equal(ps_graph_clone(g, &copy, &map, &err), PS_OK);
    assert_int_equal(ps_graph_verify(copy, &err), PS_OK);
    assert_ptr_equal(map[g->inputs[0]->id], copy->inputs[0]);
    assert_ptr_equal(ps_graph_find(copy, "k")->constant, ps_graph_find(g, "k")->constant);
    char *a = print(g), *b;
    ps_graph_free(g);
    b = print(copy);
    assert_string_equal(a, b);
    ps_free(&alloc, a);
    ps_free(&alloc, b);
    ps_graph_free(copy);
}

static void captures_and_removal(void **state) {
    (void)state;
    ps_graph *g = parse(IF_GRAPH);
    ps_error err = PS_ERROR_INIT;
    ps_value **captured;
    size_t n;
    assert_int_equal(ps_node_captures(g->last, &captured, &n, &err), PS_OK);
    assert_int_equal(n, 2); /* x and t */
    ps_value *x = ps_graph_find(g, "x"), *t = ps_graph_find(g, "t");
    assert_int_equal(t->n_uses, 2);
    assert_int_equal(ps_value_replace(ps_graph_find(g, "z"), t, &err), PS_OK);
    ps_node_remove(g->last);
    assert_int_equal(t->n_uses, 0);
    assert_int_equal(t->n_outputs, 1);
    assert_ptr_equal(ps_value_only_consumer(x), g->first);
    if (ps_graph_verify(g, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_graph_free(g);
}

static void verifier_finds_damage(void **state) {
    (void)state;
    ps_graph *g = parse("graph (x) -> (b) { a = A(x) b = B(a) }");
    ps_error err = PS_ERROR_INIT;
    ps_value *a = ps_graph_find(g, "a");
    a->n_uses = 0;
    assert_int_equal(ps_graph_verify(g, &err), PS_INTERNAL);
    a->n_uses = 1;
    assert_int_equal(ps_graph_verify(g, &err), PS_OK);
    assert_int_equal(ps_node_set_input(g->first, 0, ps_graph_find(g, "b"), &err), PS_OK);
    assert_int_equal(ps_graph_verify(g, &err), PS_FORMAT); /* reads what is produced later */
    ps_graph_free(g);
}

/* Every allocation of parse, clone and print may fail without a leak or a crash. */
static size_t calls_left;

static void *failing_alloc(void *ctx, size_t size, size_t align) {
    (void)ctx;
    if (calls_left == 0) return NULL;
    calls_left--;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void plain_free(void *ctx, void *ptr, size_t size) {
    (void)ctx;
    (void)size;
    free(ptr);
}

static void survives_allocation_failure(void **state) {
    (void)state;
    const ps_allocator user = { failing_alloc, plain_free, NULL };
    ps_alloc_state a;
    ps_status status = PS_NO_MEMORY;
    for (size_t n = 0; n < 1000 && status != PS_OK; n++) {
        ps_graph *g = NULL, *copy = NULL;
        ps_alloc_state_init(&a, &user);
        calls_left = n;
        status = ps_graph_parse(&a, IF_GRAPH, &g, NULL);
        if (status == PS_OK) status = ps_graph_clone(g, &copy, NULL, NULL);
        assert_true(status == PS_OK || status == PS_NO_MEMORY);
        ps_graph_free(copy);
        ps_graph_free(g);
        assert_int_equal(atomic_load(&a.bytes), 0);
    }
    assert_int_equal(status, PS_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(inline_constants_and_comments),
        cmocka_unit_test(parse_errors),
        cmocka_unit_test(sorts),
        cmocka_unit_test(clones),
        cmocka_unit_test(captures_and_removal),
        cmocka_unit_test(verifier_finds_damage),
        cmocka_unit_test(survives_allocation_failure),
    };
    return cmocka_run_group_tests_name("graph", tests, setup, teardown);
}
