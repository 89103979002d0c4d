/* What the case files of the data-movement operators cannot say: symbols that survive shape rules, indices that are
 * wrong at run time, packed types, subgraphs, results that do not depend on the number of threads, and failing
 * allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ops/ops.h"
#include "ops/params.h"
#include "tensor/convert.h"
#include "test_alloc_fail.h"

static ps_alloc_state heap;

static int setup(void **state) {
    ps_alloc_state_init(&heap, NULL);
    return 0;
}

static int teardown(void **state) {
    return atomic_load(&heap.bytes) == 0 ? 0 : -1;
}

static ps_status make(ps_alloc_state *a, const char *body, ps_graph **ret, ps_error *err) {
    char text[2048];
    snprintf(text, sizeof text, "graph %s", body);
    PS_TRY(ps_graph_parse(a, text, ret, err));
    ps_status status = ps_ops_resolve(*ret, err);
    if (status == PS_OK) status = ps_ops_infer(*ret, err);
    if (status == PS_OK) return PS_OK;
    ps_graph_free(*ret);
    *ret = NULL;
    return status;
}

/* ---- shape rules ---- */
static void symbols_survive(void **state) {
    static const struct {
        const char *graph, *dtype, *shape;
    } rows[] = {
        { "(x: f32[n,3,h]) -> (y) opset 17 { y = Transpose(x) {perm=[2,0,1]} }", "f32", "[s1,s0,3]" },
        { "(x: f32[n,3,4]) -> (y) opset 17 { y = Reshape(x, i64[2]{0, -1}) }", "f32", "[s0,12]" },
        { "(x: f32[n,3,4]) -> (y) opset 17 { y = Reshape(x, i64[2]{-1, 12}) }", "f32", "[s0,12]" },
        { "(x: f32[n,3,4]) -> (y) opset 17 { y = Reshape(x, i64[2]{-1, 6}) }", "f32", "[?,6]" },
        { "(x: f32[n,m]) -> (y) opset 17 { y = Reshape(x, i64[3]{0, 0, -1}) }", "f32", "[s0,s1,1]" },
        { "(x: f32[n,4], t: i64[3]) -> (y) opset 17 { y = Reshape(x, t) }", "f32", "[?,?,?]" },
        { "(x: f32[n,4], t: i64[?]) -> (y) opset 17 { y = Reshape(x, t) }", "f32", "[...]" },
        { "(x: f32[...]) -> (y) opset 17 { y = Reshape(x, i64[2]{-1, 6}) }", "f32", "[?,6]" },
        { "(x: f32[n,1,4]) -> (y) opset 17 { y = Flatten(x) {axis=1} }", "f32", "[s0,4]" },
        { "(x: f32[n,1,4]) -> (y) opset 17 { y = Squeeze(x, i64[1]{1}) }", "f32", "[s0,4]" },
        { "(x: f32[n,1,4]) -> (y) opset 17 { y = Squeeze(x) }", "f32", "[...]" },
        { "(x: f32[n,4]) -> (y) opset 17 { y = Unsqueeze(x, i64[1]{-1}) }", "f32", "[s0,4,1]" },
        { "(x: f32[n,4], a: f32[n,5], b: f32[?,1]) -> (y) opset 17 { y = Concat(x, a, b) {axis=1} }", "f32",
          "[s0,10]" },
        { "(x: f32[n,4], a: f32[m,4]) -> (y) opset 17 { y = Concat(x, a) {axis=0} }", "f32", "[?,4]" },
        { "(x: f32[n,6]) -> (y) opset 17 { y, z = Split(x) {axis=1} }", "f32", "[s0,3]" },
        { "(x: f32[n,6]) -> (y) opset 17 { y, z = Split(x, i64[2]{2, 4}) {axis=1} }", "f32", "[s0,2]" },
        { "(x: f32[n,h,6]) -> (y) opset 17 { y = Slice(x, i64[1]{1}, i64[1]{5}, i64[1]{2}) }", "f32", "[s0,s1,4]" },
        { "(x: f32[n,6]) -> (y) opset 17 { y = Slice(x, i64[1]{0}, i64[1]{9223372036854775807}, i64[1]{0}) }", "f32",
          "[s0,6]" },
        { "(x: f32[n,6], t: i64[1]) -> (y) opset 17 { y = Slice(x, t, t, i64[1]{1}) }", "f32", "[s0,?]" },
        { "(x: f32[n,6], t: i64[1]) -> (y) opset 17 { y = Slice(x, t, t, t) }", "f32", "[?,?]" },
        { "(x: u8[4294967296,0]) -> (y) opset 17 { y = Slice(x, i64[1]{1}, i64[1]{3000000000}, i64[1]{0}) }", "u8",
          "[2999999999,0]" },
        { "(x: u8[4294967296,0]) -> (y) opset 17 { y = Slice(x, i32[1]{0}, i32[1]{2147483647}, i32[1]{0}) }", "u8",
          "[4294967296,0]" },
        { "(x: f32[n,6]) -> (y) opset 17 { y = Slice(x, i64[1]{0}, i64[1]{3000000000}, i64[1]{0}) }", "f32", "[?,6]" },
        { "(x: f32[n,1]) -> (y) opset 17 { y = Expand(x, i64[2]{1, 7}) }", "f32", "[s0,7]" },
        { "(x: f32[n,2]) -> (y) opset 17 { y = Tile(x, i64[2]{1, 3}) }", "f32", "[s0,6]" },
        { "(x: f32[n,2]) -> (y) opset 17 { y = Pad(x, i64[4]{0, 1, 0, 2}) }", "f32", "[s0,5]" },
        { "(x: f32[n,8,h,2]) -> (y) opset 17 { y = DepthToSpace(x) {blocksize=2} }", "f32", "[s0,2,?,4]" },
        { "(x: f32[n,8,h,2]) -> (y) opset 17 { y = Resize(x, _, f32[4]{1, 1, 1, 2}) {mode=\"linear\"} }", "f32",
          "[s0,8,s1,4]" },
        { "(x: f32[n,v], i: i64[k,3]) -> (y) opset 17 { y = Gather(x, i) {axis=1} }", "f32", "[s0,s2,3]" },
        { "(x: f32[4,5], i: i64[k,1]) -> (y) opset 17 { y = GatherND(x, i) }", "f32", "[s0,5]" },
        { "(x: i64[n]) -> (y) opset 17 { y = OneHot(x, i64{9}, f32[2]{0, 1}) }", "f32", "[s0,9]" },
        { "(x: f32[n,9]) -> (y) opset 17 { y, z = TopK(x, i64[1]{4}) }", "f32", "[s0,4]" },
        { "(x: f32[n,9]) -> (y) opset 17 { y = NonZero(x) }", "i64", "[2,?]" },
        { "(x: f32[n,9]) -> (y) opset 17 { y = Shape(x) {start=1} }", "i64", "[1]" },
        { "(x: i64[3]) -> (y) opset 17 { y = ConstantOfShape(x) }", "f32", "[?,?,?]" },
        { "(x: i64) -> (y) opset 17 { y = Range(x, x, x) }", "i64", "[?]" },
        /* a default of an input is no fact */
        { "(x: f32[6], t: i64[2] = {2, 3}) -> (y) opset 17 { y = Reshape(x, t) }", "f32", "[?,?]" },
        { "(c: bool, x: f32[n,2]) -> (y) opset 17 { y = If(c) {then_branch=graph () -> (a) { a = Identity(x) }, "
          "else_branch=graph () -> (b) { b = Transpose(x) }} }",
          "f32", "[?,?]" },
        { "(c: bool, x: f32[n,2]) -> (y) opset 17 { y = If(bool{1}) {then_branch=graph () -> (a) { a = Identity(x) }, "
          "else_branch=graph () -> (b) { b = Transpose(x) }} }",
          "f32", "[s0,2]" },
        { "(n: i64, c: bool, x: f32[2,3]) -> (y) opset 17 { y, z = Loop(n, c, x) {body=graph (i: i64, d: bool, v: "
          "f32[...]) "
          "-> (d, w, e) { w = Identity(v)\n e = Unsqueeze(i, i64[1]{0}) }} }",
          "f32", "[...]" },
        { "(n: i64, c: bool, x: f32[2,3]) -> (z) opset 17 { y, z = Loop(n, c, x) {body=graph (i: i64, d: bool, v: "
          "f32[...]) "
          "-> (d, w, e) { w = Identity(v)\n e = Unsqueeze(i, i64[1]{0}) }} }",
          "i64", "[?,1]" },
        { "(s: f32[4], x: f32[n,4]) -> (z) opset 17 { y, z = Scan(s, x) {num_scan_inputs=1, body=graph (a, b) -> (a, "
          "d) "
          "{ d = Identity(b) }} }",
          "f32", "[s0,4]" },
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        ps_error err = PS_ERROR_INIT;
        ps_graph *g;
        char text[128];
        if (make(&heap, rows[k].graph, &g, &err) != PS_OK) fail_msg("%s: %s", rows[k].graph, err.msg);
        ps_shape_text(&g->outputs[0]->shape, text, sizeof text);
        if (strcmp(text, rows[k].shape) != 0) fail_msg("%s: %s, not %s", rows[k].graph, text, rows[k].shape);
        assert_string_equal(ps_dtype_name(g->outputs[0]->dtype), rows[k].dtype);
        ps_graph_free(g);
    }
}

static void contradictions_are_named(void **state) {
    static const struct {
        const char *graph;
        ps_status status;
    } rows[] = {
        { "(c: f32) -> (y) opset 17 { y = If(c) {then_branch=graph () -> (a) { a = Identity(c) }, else_branch=graph () "
          "-> "
          "(b) { b = Identity(c) }} }",
          PS_TYPE },
        { "(c: bool) -> (y) opset 17 { y = If(c) {then_branch=graph () -> (a) { a = Identity(c) }, else_branch=graph "
          "() -> "
          "(b) { b = Shape(c) }} }",
          PS_TYPE },
        { "(n: i64, c: bool, x: f32[2]) -> (y) opset 17 { y = Loop(n, c, x) {body=graph (i: i64, d: bool) -> (d, e) "
          "{ e = Identity(i) }} }",
          PS_FORMAT },
        { "(n: i64, c: bool, x: f32[2]) -> (y) opset 17 { y = Loop(n, c, x) {body=graph (i: i64, d: bool, v) -> (d, e) "
          "{ e = Identity(i) }} }",
          PS_TYPE },
        { "(x: f32[3,4]) -> (z) opset 17 { z = Scan(x, f32[2]{1, 2}) {num_scan_inputs=2, body=graph (a, b) -> (d) "
          "{ d = Identity(b) }} }",
          PS_SHAPE },
        { "(x: f32[3,4]) -> (z) opset 8 { z = Scan(_, x) {num_scan_inputs=2, body=graph (b) -> (d) "
          "{ d = Identity(b) }} }",
          PS_FORMAT },
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        ps_error err = PS_ERROR_INIT;
        ps_graph *g;
        ps_status status = make(&heap, rows[k].graph, &g, &err);
        if (status != rows[k].status) fail_msg("%s: %s %s", rows[k].graph, ps_status_name(status), err.msg);
        assert_true(err.msg[0]);
    }
}

/* ---- kernels ---- */
enum { MAX_PORTS = 8 };

typedef struct runner {
    ps_graph *graph;
    ps_node *node;
    ps_tensor *in[MAX_PORTS], *out[MAX_PORTS];
} runner;

static void runner_release(runner *r) {
    for (size_t i = 0; i < MAX_PORTS; i++) {
        ps_tensor_release(r->in[i]);
        ps_tensor_release(r->out[i]);
    }
    ps_graph_free(r->graph);
    *r = (runner) { 0 };
}

/* Inputs: counting numbers, or the constant. Strings count in words. */
static ps_status fill(ps_tensor *t, ps_error *err) {
    for (size_t k = 0; k < ps_tensor_count(t); k++) {
        char word[16];
        int64_t v = (int64_t)k;
        size_t n = (size_t)snprintf(word, sizeof word, "word %zu", k);
        if (t->dtype == PS_DTYPE_STRING)
            PS_TRY(ps_tensor_set_string(t, k, word, n, err));
        else if (t->dtype == PS_DTYPE_I4)
            ps_u4_set(t->data, k, (int)k);
        else
            ps_convert(&v, PS_DTYPE_I64, (uint8_t *)t->data + k * ps_dtype_size(t->dtype), t->dtype, 1, true);
    }
    return PS_OK;
}

/* Outputs of unknown shape, and all strings, are left to the kernel. */
static ps_status make_output(ps_alloc_state *a, const ps_value *v, ps_tensor **ret, ps_error *err) {
    ps_shape none = { 1, { 0 } };
    bool known = ps_shape_fixed(&v->shape) && v->dtype != PS_DTYPE_STRING;
    if (known) return ps_tensor_new(a, v->dtype, &v->shape, ret, err);
    PS_TRY(ps_tensor_new_view(a, PS_DTYPE_U8, &none, NULL, NULL, ret, err));
    (*ret)->shape = ps_shape_unknown();
    (*ret)->dtype = v->dtype;
    return PS_OK;
}

static ps_status run_text(ps_alloc_state *a, const char *text, int threads, runner *r, ps_error *err) {
    *r = (runner) { 0 };
    PS_TRY(make(a, text, &r->graph, err));
    r->node = r->graph->first;
    for (size_t i = 0; i < r->node->n_in; i++) {
        ps_value *v = r->node->in[i];
        if (!v) continue;
        if (v->constant && !v->is_input) {
            r->in[i] = ps_tensor_retain(v->constant);
            continue;
        }
        PS_TRY(ps_tensor_new(a, v->dtype, &v->shape, &r->in[i], err));
        if (v->constant)
            memcpy(r->in[i]->data, v->constant->data, v->constant->bytes);
        else
            PS_TRY(fill(r->in[i], err));
    }
    for (size_t i = 0; i < r->node->n_out; i++)
        if (r->node->out[i]) PS_TRY(make_output(a, r->node->out[i], &r->out[i], err));
    return ps_ops_run_ref(r->node, (const ps_tensor *const *)r->in, r->out, a, threads, err);
}

/* An input with a default is data that the shape rule may not see: these are found out by the kernel. */
static void wrong_data_is_named(void **state) {
    static const struct {
        const char *graph;
        ps_status status;
        const char *says;
    } rows[] = {
        { "(x: f32[3,2], i: i64[2] = {1, 3}) -> (y) opset 17 { y = Gather(x, i) }", PS_INVALID, "index 3" },
        { "(x: f32[3,2], i: i32[1] = {-4}) -> (y) opset 17 { y = Gather(x, i) }", PS_INVALID, "[-3, 3)" },
        { "(x: string[3,2], i: i64[1] = {4294967296}) -> (y) opset 17 { y = Gather(x, i) }", PS_INVALID, "4294967296" },
        { "(x: f32[0,2], i: i64[1] = {0}) -> (y) opset 17 { y = Gather(x, i) }", PS_INVALID, "index 0" },
        { "(x: f32[3,2], i: i64[1,2] = {0, 3}) -> (y) opset 17 { y = GatherElements(x, i) }", PS_INVALID, "index 3" },
        { "(x: f32[3,2], i: i64[1,2] = {0, 2}) -> (y) opset 17 { y = GatherND(x, i) }", PS_INVALID, "index 2" },
        { "(x: f32[3,2], i: i64[1,2] = {0, -9223372036854775808}) -> (y) opset 17 { y = GatherND(x, i) }", PS_INVALID,
          "outside" },
        { "(x: f32[3], i: i64[1] = {3}, u: f32[1]) -> (y) opset 17 { y = ScatterElements(x, i, u) }", PS_INVALID,
          "index 3" },
        { "(x: f32[3], i: i64[1,1] = {-4}, u: f32[1]) -> (y) opset 17 { y = ScatterND(x, i, u) }", PS_INVALID,
          "index -4" },
        { "(x: f32[2], c: bool[3] = {0, 0, 1}) -> (y) opset 17 { y = Compress(x, c) {axis=0} }", PS_INVALID,
          "picks 2" },
        { "(x: f32[6], t: i64[2] = {4, -1}) -> (y) opset 17 { y = Reshape(x, t) }", PS_SHAPE, "divided" },
        { "(x: f32[6], t: i64[2] = {4611686018427387904, 4}) -> (y) opset 17 { y = Expand(x, t) }", PS_SHAPE,
          "broadcast" },
        { "(x: f32[1], t: i64[2] = {4611686018427387904, 4}) -> (y) opset 17 { y = Expand(x, t) }", PS_LIMIT,
          "too large" },
        { "(x: i64[2] = {4611686018427387904, 4}) -> (y) opset 17 { y = ConstantOfShape(x) }", PS_LIMIT, "too large" },
        { "(x: f32[6], s: i64[1] = {0}) -> (y) opset 17 { y = Slice(x, s, s, s, s) }", PS_INVALID, "step 0" },
        { "(x: f32[6], k: i64[1] = {7}) -> (y) opset 17 { y, z = TopK(x, k) }", PS_SHAPE, "k 7" },
        { "(x: f32[6], k: i64[2] = {2, 3}) -> (y) opset 17 { y, z = Split(x, k) }", PS_SHAPE, "add up to 5" },
        { "(x: f32[6], k: i64[2] = {9223372036854775807, 1}) -> (y) opset 17 { y = Pad(x, k) }", PS_LIMIT, "" },
        { "(x: f32[3,2], n: i64[2] = {1, 4}) -> (y) opset 17 { y = ReverseSequence(x, n) }", PS_INVALID, "length 4" },
        { "(b: f32[1,2,4], s: f32[1,1,2], t: f32 = {1.5}) -> (y) opset 17 { y = NonMaxSuppression(b, s, _, t) }",
          PS_INVALID, "1.5" },
        { "(x: i4[3,3], i: i64[1,1] = {0}, u: i4[1,1]) -> (y) opset 21 { y = ScatterElements(x, i, u) }",
          PS_UNSUPPORTED, "packed" },
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        ps_error err = PS_ERROR_INIT;
        runner r;
        ps_status status = run_text(&heap, rows[k].graph, 1, &r, &err);
        if (status != rows[k].status || !strstr(err.msg, rows[k].says))
            fail_msg("%s: %s '%s'", rows[k].graph, ps_status_name(status), err.msg);
        runner_release(&r);
    }
}

static void packed_rows_are_gathered(void **state) {
    runner r;
    ps_error err = PS_ERROR_INIT;
    if (run_text(&heap, "(x: i4[3,2], i: i64[3] = {2, 0, -2}) -> (y) opset 21 { y = Gather(x, i) }", 1, &r, &err) !=
        PS_OK)
        fail_msg("%s", err.msg);
    static const int want[6] = { 4, 5, 0, 1, 2, 3 };
    for (size_t k = 0; k < 6; k++)
        assert_int_equal(ps_i4_get(r.out[0]->data, k), want[k]);
    runner_release(&r);
}

/* Large enough for several threads where a kernel splits its work. */
static const char *const nodes[] = {
    "(x: f32[200,700]) -> (y) opset 17 { y = Transpose(x) }",
    "(x: u8[3,400,500]) -> (y) opset 17 { y = Slice(x, i64[2]{-1, 0}, i64[2]{-500, 400}, i64[2]{2, 1}, i64[2]{-2, 3}) "
    "}",
    "(x: i4[7,5]) -> (y) opset 21 { y = Transpose(x) }",
    "(x: i4[7,5], i: i64[3]) -> (y) opset 21 { y = Gather(x, i) {axis=1} }",
    "(x: i4[7,5]) -> (y) opset 21 { y, z = Split(x) {axis=0, num_outputs=2} }",
    "(x: string[3,2]) -> (y) opset 17 { y = Concat(x, x) {axis=1} }",
    "(x: string[3,2], i: i64[2]) -> (y) opset 17 { y = Gather(x, i) }",
    "(x: string[3,2]) -> (y) opset 17 { y, z = Split(x) {axis=1} }",
    "(x: string[3,2], t: i64[1] = {-1}) -> (y) opset 17 { y = Reshape(x, t) }",
    "(x: string[3], i: i64[1], u: string[1]) -> (y) opset 17 { y = ScatterElements(x, i, u) }",
    "(x: i64[300,200]) -> (y) opset 17 { y = Tile(x, i64[2]{2, 3}) }",
    "(x: f32[3,4]) -> (y) opset 17 { y = Pad(x, i64[4]{1, 2, 3, 1}) {mode=\"reflect\"} }",
    "(x: f32[2,3,40,50]) -> (y) opset 17 { y = Resize(x, _, f32[4]{1, 1, 1.5, 0.7}) {mode=\"cubic\"} }",
    "(x: u8[2,3,4,5]) -> (y) opset 17 { y = Resize(x, _, f32[4]{1, 1, 2, 2}) {mode=\"nearest\"} }",
    "(x: f32[1,1,9,9]) -> (y) opset 18 { y = Resize(x, _, f32[4]{1, 1, 0.4, 0.4}) {mode=\"linear\", antialias=1} }",
    "(x: f32[20,30]) -> (y) opset 17 { y, z = TopK(x, i64[1]{5}) }",
    "(x: f32[20,30]) -> (y) opset 17 { y = NonZero(x) }",
    "(b: f32[1,9,4], s: f32[1,2,9]) -> (y) opset 17 { y = NonMaxSuppression(b, s, i64{5}, f32{0.5}) }",
    "(x: f16[2,3,20,20], g: f16[2,30,30,2]) -> (y) opset 17 { y = GridSample(x, g) {mode=\"bicubic\"} }",
    "(x: i64[4]) -> (y) opset 17 { y = OneHot(x, i64{5}, string[2]{\"off\", \"on\"}) }",
    "() -> (y) opset 17 { y = Constant() {value_strings=[\"a\",\"b\"]} }",
    "(x: f32[9,7]) -> (y, i, j, n) opset 11 { y, i, j, n = Unique(x) }",
    "(x: i64[9,7]) -> (y, i, j, n) opset 11 { y, i, j, n = Unique(x) {axis=1, sorted=0} }",
    "(x: string[9]) -> (y, i, j, n) opset 11 { y, i, j, n = Unique(x) }",
    /* a PNG of 2 x 2 pixels */
    "(x: u8[79] = {137,80,78,71,13,10,26,10,0,0,0,13,73,72,68,82,0,0,0,2,0,0,0,2,8,2,0,0,0,253,212,154,115,0,"
    "0,0,22,73,68,65,84,120,218,99,96,96,100,98,102,97,101,224,226,230,225,229,227,7,0,1,143,0,91,158,42,113,"
    "171,0,0,0,0,73,69,78,68,174,66,96,130}) -> (y) opset 20 "
    "{ y = ImageDecoder(x) {pixel_format=\"Grayscale\"} }",
};
enum { N_NODES = sizeof nodes / sizeof *nodes };

static void threads_do_not_matter(void **state) {
    for (size_t k = 0; k < N_NODES; k++) {
        runner one, many;
        ps_error err = PS_ERROR_INIT;
        if (run_text(&heap, nodes[k], 1, &one, &err) != PS_OK) fail_msg("%s: %s", nodes[k], err.msg);
        if (run_text(&heap, nodes[k], 5, &many, &err) != PS_OK) fail_msg("%s: %s", nodes[k], err.msg);
        assert_true(ps_shape_equal(&one.out[0]->shape, &many.out[0]->shape));
        if (one.out[0]->dtype != PS_DTYPE_STRING)
            assert_memory_equal(one.out[0]->data, many.out[0]->data, one.out[0]->bytes);
        runner_release(&one);
        runner_release(&many);
    }
}

static ps_status whole_run(ps_alloc_state *a, void *text) {
    runner r;
    ps_status status = run_text(a, text, 1, &r, NULL);
    runner_release(&r);
    return status;
}

static void failing_allocations_leak_nothing(void **state) {
    for (size_t k = 0; k < N_NODES; k++)
        if (ps_test_sweep(whole_run, (void *)(uintptr_t)nodes[k]) < 0) fail_msg("%s", nodes[k]);
}

static void resize_axes_for_backends(void **state) {
    ps_graph *g;
    ps_resize_axis dim[PS_MAX_RANK];
    assert_int_equal(
        make(&heap, "(x: f32[1,2,4,6]) -> (y) opset 18 { y = Resize(x, _, _, i64[2]{8, 3}) {axes=[2,3]} }", &g, NULL),
        PS_OK);
    assert_int_equal(ps_resize_axes(g->first, dim, NULL), PS_OK);
    assert_true(dim[1].out == 2 && dim[1].scale == 1 && dim[2].out == 8 && dim[2].scale == 2 && dim[3].scale == 0.5f);
    ps_graph_free(g);
    assert_int_equal(make(&heap, "(x: f32[1,4], s: i64[2]) -> (y) opset 18 { y = Resize(x, _, _, s) }", &g, NULL),
                     PS_OK);
    assert_int_equal(ps_resize_axes(g->first, dim, NULL), PS_UNSUPPORTED);
    ps_graph_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(symbols_survive, setup, teardown),
        cmocka_unit_test_setup_teardown(contradictions_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_data_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(packed_rows_are_gathered, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_do_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(failing_allocations_leak_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(resize_axes_for_backends, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
