/* Control flow and dynamic nodes: Loop, Scan, If in each other; values that pass between the parts of a program.
 * Expected values are computed beside each test from the operators' specifications. */
#include "runtime_fixture.h"

static ps_engine *engine;
static const char *const devices[] = { "cpu", "ref" };

static int setup(void **state) {
    (void)state;
    engine = fixture_engine(2, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    ps_engine_free(engine);
    return 0;
}

typedef struct run_case {
    ps_model *model;
    ps_session *session;
    ps_tensor *in[4], *out[4];
    size_t n_in;
} run_case;

static void begin(run_case *c, const char *text, const char *device) {
    memset(c, 0, sizeof *c);
    c->model = fixture_model(engine, text, device);
    c->session = fixture_session(c->model, 1);
}

static void give(run_case *c, ps_dtype dtype, int rank, const int64_t *dims, const void *data) {
    c->in[c->n_in++] = fixture_wrap(engine, dtype, rank, dims, data);
}

static ps_status try_run(run_case *c, ps_error *err) {
    memset(c->out, 0, sizeof c->out);
    ps_status status = ps_session_run(c->session, (const ps_tensor *const *)c->in, c->n_in, c->out,
                                      ps_model_output_count(c->model), NULL, err);
    for (size_t i = 0; i < c->n_in; i++)
        ps_tensor_release(c->in[i]);
    c->n_in = 0;
    return status;
}

static void run(run_case *c) {
    ps_error err = PS_ERROR_INIT;
    if (try_run(c, &err) != PS_OK) fail_msg("%s", err.msg);
}

static void assert_f32(const ps_tensor *t, int rank, const int64_t *dims, const float *want) {
    assert_int_equal(t->dtype, PS_DTYPE_F32);
    ps_shape shape = ps_shape_make(rank, dims);
    assert_true(ps_shape_equal(&t->shape, &shape));
    if (t->bytes) assert_memory_equal(t->data, want, t->bytes);
}

static void end(run_case *c) {
    ps_session_free(c->session);
    ps_model_release(c->model);
}

static const char DOUBLING[] = "graph g (x: f32[2], n: i64[], c: bool[]) -> (z, s) opset 17 {\n"
                               "  z, s = Loop(n, c, x) {body=graph b (i: i64[], k: bool[], v: f32[2]) -> (k2, w, t) {\n"
                               "    w = Add(v, v)\n"
                               "    f = Cast(i) {to=1}\n"
                               "    t = Mul(v, f)\n"
                               "    k2 = Identity(k)\n"
                               "  }}\n"
                               "}\n";

/* z = x * 2^n, s[i] = i * x * 2^i */
static void check_doubling(run_case *c, int64_t n, bool go) {
    float x[2] = { 3, -1 }, z[2] = { 3, -1 }, s[64];
    int64_t trips = go && n > 0 ? n : 0;
    for (int64_t i = 0; i < trips; i++) {
        for (int k = 0; k < 2; k++) {
            s[2 * i + k] = z[k] * (float)i;
            z[k] += z[k];
        }
    }
    give(c, PS_DTYPE_F32, 1, DIMS(2), x);
    give(c, PS_DTYPE_I64, 0, NULL, &n);
    give(c, PS_DTYPE_BOOL, 0, NULL, &go);
    run(c);
    assert_f32(c->out[0], 1, DIMS(2), z);
    assert_f32(c->out[1], 2, DIMS(trips, 2), s);
}

static void test_loop_counts(void **state) {
    (void)state;
    for (int d = 0; d < 2; d++) {
        run_case c;
        begin(&c, DOUBLING, devices[d]);
        check_doubling(&c, 5, true);
        check_doubling(&c, 0, true);
        check_doubling(&c, 7, false);
        check_doubling(&c, -3, true);
        check_doubling(&c, 20, true);
        end(&c);
    }
}

static void test_a_steady_loop_allocates_nothing(void **state) {
    (void)state;
    run_case c;
    begin(&c, DOUBLING, "cpu");
    for (int i = 0; i < 4; i++)
        check_doubling(&c, 9, true);
    float x[2] = { 1, 2 };
    int64_t n = 9;
    bool go = true;
    give(&c, PS_DTYPE_F32, 1, DIMS(2), x);
    give(&c, PS_DTYPE_I64, 0, NULL, &n);
    give(&c, PS_DTYPE_BOOL, 0, NULL, &go);
    int64_t before = (int64_t)atomic_load(&engine->alloc.calls);
    run(&c);
    assert_int_equal((int64_t)atomic_load(&engine->alloc.calls), before);
    end(&c);
}

/* The carried value grows, the body reads a value from outside, and the condition ends the loop. */
static void test_loop_grows_until_its_condition(void **state) {
    (void)state;
    for (int d = 0; d < 2; d++) {
        run_case c;
        begin(&c,
              "graph g (x: f32[a], most: i64[]) -> (z) opset 17 {\n"
              "  y = Neg(x)\n"
              "  go: bool[] = {1}\n"
              "  z = Loop(_, go, x) {body=graph b (i: i64[], k: bool[], v: f32[m]) -> (k2, w) {\n"
              "    w = Concat(v, y) {axis=0}\n"
              "    s = Size(w)\n"
              "    k2 = Less(s, most)\n"
              "  }}\n"
              "}\n",
              devices[d]);
        for (int64_t most = 4; most < 20; most += 5) {
            float x[2] = { 1, 2 }, want[64] = { 1, 2 };
            int64_t n = 2;
            do {
                want[n] = -1;
                want[n + 1] = -2;
                n += 2;
            } while (n < most);
            give(&c, PS_DTYPE_F32, 1, DIMS(2), x);
            give(&c, PS_DTYPE_I64, 0, NULL, &most);
            run(&c);
            assert_f32(c.out[0], 1, DIMS(n), want);
        }
        end(&c);
    }
}

static void test_endless_loops_are_ended(void **state) {
    (void)state;
    ps_graph *g;
    ps_error err = PS_ERROR_INIT;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    run_case c = { 0 };
    o.loop_limit = 1000;
    assert_int_equal(ps_graph_parse(&engine->alloc,
                                    "graph g (x: f32[1]) -> (z) opset 17 {\n"
                                    "  z = Loop(_, _, x) {body=graph b (i: i64[], k: bool[], v: f32[1]) -> (k2, w) {\n"
                                    "    w = Add(v, v)\n"
                                    "    k2 = Identity(k)\n"
                                    "  }}\n"
                                    "}\n",
                                    &g, &err),
                     PS_OK);
    assert_int_equal(ps_model_from_graph(engine, g, &o, &c.model, &err), PS_OK);
    c.session = fixture_session(c.model, 1);
    give(&c, PS_DTYPE_F32, 1, DIMS(1), &(float) { 1 });
    assert_int_equal(try_run(&c, &err), PS_LIMIT);
    assert_non_null(strstr(err.msg, "more than 1000 iterations"));
    int cancel = 1;
    ps_run_options run_options = PS_RUN_OPTIONS_INIT;
    run_options.cancel = &cancel;
    ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 1, DIMS(1), &(float) { 1 }), *out = NULL;
    assert_int_equal(
        ps_session_run(c.session, (const ps_tensor *const *)&in, 1, &out, 1, &run_options, &err), PS_CANCELLED);
    ps_tensor_release(in);
    end(&c);
}

/* An If on data inside a Loop: Collatz steps, the numbers on the way stacked. */
static void test_if_in_loop(void **state) {
    (void)state;
    for (int d = 0; d < 2; d++) {
        run_case c;
        begin(&c,
              "graph g (x: i64[]) -> (z, path) opset 17 {\n"
              "  one: i64[] = {1}\n"
              "  two: i64[] = {2}\n"
              "  three: i64[] = {3}\n"
              "  z, path = Loop(_, _, x) {body=graph b (i: i64[], k: bool[], v: i64[]) -> (k2, w, p) {\n"
              "    r = Mod(v, two)\n"
              "    odd = Equal(r, one)\n"
              "    w = If(odd) {then_branch=graph t () -> (a) {\n"
              "      m = Mul(v, three)\n"
              "      a = Add(m, one)\n"
              "    }, else_branch=graph e () -> (h) {\n"
              "      h = Div(v, two)\n"
              "    }}\n"
              "    p = Identity(v)\n"
              "    k2 = Greater(w, one)\n"
              "  }}\n"
              "}\n",
              devices[d]);
        for (int64_t x = 2; x < 30; x++) {
            int64_t path[200], n = 0, v = x;
            do {
                path[n++] = v;
                v = v % 2 ? 3 * v + 1 : v / 2;
            } while (v > 1);
            give(&c, PS_DTYPE_I64, 0, NULL, &x);
            run(&c);
            assert_int_equal(*(const int64_t *)c.out[0]->data, 1);
            assert_int_equal(c.out[1]->shape.dims[0], n);
            assert_memory_equal(c.out[1]->data, path, (size_t)n * sizeof *path);
        }
        end(&c);
    }
}

/* Scan along the inner axis of one input and backwards along the other's outer one; output stacked along axis 1. */
static void test_scan_axes(void **state) {
    (void)state;
    for (int d = 0; d < 2; d++) {
        run_case c;
        begin(&c,
              "graph g (a: f32[2], x: f32[2,3], y: f32[3,2]) -> (z, s) opset 17 {\n"
              "  z, s = Scan(a, x, y) {num_scan_inputs=2, scan_input_axes=[1,0], scan_input_directions=[0,1], "
              "scan_output_axes=[1], body=graph b (v: f32[2], p: f32[2], q: f32[2]) -> (w, o) {\n"
              "    w = Add(v, p)\n"
              "    o = Sub(w, q)\n"
              "  }}\n"
              "}\n",
              devices[d]);
        float a[2] = { 1, 2 }, x[6] = { 1, 2, 3, 4, 5, 6 }, y[6] = { 10, 20, 30, 40, 50, 60 }, z[2] = { 1, 2 }, s[6];
        for (int i = 0; i < 3; i++) {
            for (int k = 0; k < 2; k++) {
                z[k] += x[k * 3 + i];
                s[k * 3 + i] = z[k] - y[(2 - i) * 2 + k];
            }
        }
        give(&c, PS_DTYPE_F32, 1, DIMS(2), a);
        give(&c, PS_DTYPE_F32, 2, DIMS(2, 3), x);
        give(&c, PS_DTYPE_F32, 2, DIMS(3, 2), y);
        run(&c);
        assert_f32(c.out[0], 1, DIMS(2), z);
        assert_f32(c.out[1], 2, DIMS(2, 3), s);
        end(&c);
    }
}

/* A shape taken behind one dynamic node decides a Reshape behind another: it must reach that part as a constant. */
static void test_shapes_cross_dynamic_nodes(void **state) {
    (void)state;
    run_case c;
    begin(&c,
          "graph g (x: f32[a], y: f32[b]) -> (z) opset 17 {\n"
          "  i = NonZero(x)\n"
          "  n = Shape(i) {start=1, end=2}\n"
          "  minus: i64[1] = {-1}\n"
          "  to = Concat(n, minus) {axis=0}\n"
          "  j = NonZero(y)\n"
          "  r = Reshape(j, to)\n"
          "  f = Cast(r) {to=1}\n"
          "  z = Relu(f)\n"
          "}\n",
          "cpu");
    for (int64_t n = 1; n <= 3; n++) {
        float x[3] = { 1, n > 1, n > 2 }, y[6] = { 1, 1, 1, 1, 1, 1 }, want[6] = { 0, 1, 2, 3, 4, 5 };
        give(&c, PS_DTYPE_F32, 1, DIMS(3), x);
        give(&c, PS_DTYPE_F32, 1, DIMS(6), y);
        run(&c);
        assert_f32(c.out[0], 2, DIMS(n, 6 / n), want);
    }
    end(&c);
}

/* Dynamic nodes beside each other do not cut the graph more than once: everything behind them is one part. */
static void test_dynamic_nodes_side_by_side(void **state) {
    (void)state;
    char text[8192] = "graph g (x: f32[n]) -> (s50) opset 17 {\n  s0 = ReduceSum(x) {keepdims=0}\n";
    for (int i = 0; i < 50; i++) {
        size_t n = strlen(text);
        ps_snprintf(text + n, sizeof text - n,
                    "  i%d = NonZero(x)\n  c%d = Cast(i%d) {to=1}\n  r%d = ReduceSum(c%d) {keepdims=0}\n"
                    "  s%d = Add(s%d, r%d)\n",
                    i, i, i, i, i, i + 1, i, i);
    }
    size_t n = strlen(text);
    ps_snprintf(text + n, sizeof text - n, "}\n");
    ps_graph *g;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    run_case c = { 0 };
    o.no_fusion = true; /* equal nodes would be made one */
    assert_int_equal(ps_graph_parse(&engine->alloc, text, &g, NULL), PS_OK);
    assert_int_equal(ps_model_from_graph(engine, g, &o, &c.model, NULL), PS_OK);
    c.session = fixture_session(c.model, 1);
    give(&c, PS_DTYPE_F32, 1, DIMS(3), ((float[]) { 1, 0, 5 }));
    run(&c);
    assert_f32(c.out[0], 0, NULL, (float[]) { 6 + 50 * 2 });
    assert_true(c.model->plans_made <= 2);
    end(&c);
}

/* Strings pass through a program: as an input, through a branch, as an output. */
/* Passes fuse to operators that the model's own version does not have: a branch that is cut out keeps their rows. */
static void test_fused_in_a_branch(void **state) {
    (void)state;
    static const char text[] =
        "graph (x: f32[1,4,1], c: bool[]) -> (y) opset 11 {\n  g: f32[4,1] = {2, 3, 1, 1} b: f32[4,1] = {0, 1, 0, 0}\n"
        "  y = If(c) {then_branch=graph () -> (t) { r = Reshape(x, i64[3]{0, 2, -1})\n"
        "  n = InstanceNormalization(r, f32[2]{1, 1}, f32[2]{0, 0}) {epsilon=1e-12}\n"
        "  k = Reshape(n, i64[3]{1, 4, 1}) m = Mul(k, g) t = Add(m, b) }, else_branch=graph () -> (e) { e = Neg(x) "
        "}}\n}";
    const float x[] = { 1, 3, 10, 30 }, want[] = { -2, 4, -1, 1 };
    for (size_t d = 0; d < 2; d++) {
        run_case c;
        begin(&c, text, devices[d]);
        give(&c, PS_DTYPE_F32, 3, (int64_t[]) { 1, 4, 1 }, x);
        give(&c, PS_DTYPE_BOOL, 0, NULL, (bool[]) { true });
        run(&c);
        assert_f32(c.out[0], 3, (int64_t[]) { 1, 4, 1 }, want);
        end(&c);
    }
}

static void test_strings(void **state) {
    (void)state;
    run_case c;
    ps_tensor *words;
    ps_shape shape = { 1, { 2 } };
    begin(&c,
          "graph g (x: string[n], f: bool[]) -> (y, same, n) opset 17 {\n"
          "  y = If(f) {then_branch=graph t () -> (a) {\n"
          "    a = Identity(x)\n"
          "  }, else_branch=graph e () -> (b) {\n"
          "    b = Concat(x, x) {axis=0}\n"
          "  }}\n"
          "  same = Equal(x, x)\n"
          "  n = Size(y)\n"
          "}\n",
          "cpu");
    assert_int_equal(ps_tensor_new(&engine->alloc, PS_DTYPE_STRING, &shape, &words, NULL), PS_OK);
    assert_int_equal(ps_tensor_set_string(words, 0, "one", 3, NULL), PS_OK);
    assert_int_equal(ps_tensor_set_string(words, 1, "", 0, NULL), PS_OK);
    for (int round = 0; round < 3; round++) {
        bool f = round == 1;
        c.in[c.n_in++] = ps_tensor_retain(words);
        give(&c, PS_DTYPE_BOOL, 0, NULL, &f);
        run(&c);
        assert_int_equal(c.out[0]->dtype, PS_DTYPE_STRING);
        assert_int_equal(ps_tensor_count(c.out[0]), f ? 2 : 4);
        assert_int_equal(((const ps_string *)c.out[0]->data)[0].size, 3);
        assert_memory_equal(((const ps_string *)c.out[0]->data)[0].data, "one", 3);
        assert_memory_equal(c.out[1]->data, ((uint8_t[]) { 1, 1 }), 2);
        assert_int_equal(*(const int64_t *)c.out[2]->data, f ? 2 : 4);
    }
    ps_tensor_release(words);
    /* the last run's output as this run's input */
    bool f = false;
    c.in[c.n_in++] = ps_tensor_retain(c.out[0]);
    give(&c, PS_DTYPE_BOOL, 0, NULL, &f);
    run(&c);
    assert_int_equal(ps_tensor_count(c.out[0]), 8);
    assert_memory_equal(((const ps_string *)c.out[0]->data)[6].data, "one", 3);
    end(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop_counts),
        cmocka_unit_test(test_a_steady_loop_allocates_nothing),
        cmocka_unit_test(test_loop_grows_until_its_condition),
        cmocka_unit_test(test_endless_loops_are_ended),
        cmocka_unit_test(test_if_in_loop),
        cmocka_unit_test(test_scan_axes),
        cmocka_unit_test(test_shapes_cross_dynamic_nodes),
        cmocka_unit_test(test_dynamic_nodes_side_by_side),
        cmocka_unit_test(test_fused_in_a_branch),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
