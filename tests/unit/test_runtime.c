/* Plans and sessions: ends, tails, control flow, caching, threads, failures. */
#include "runtime_fixture.h"

#include <pthread.h>

#include "base/os.h"
#include "test_alloc_fail.h"
#include "test_temp_dir.h"

static ps_engine *engine;

static int setup(void **state)
{
    engine = fixture_engine(1, NULL);
    return 0;
}

static int teardown(void **state)
{
    ps_engine_free(engine);
    return 0;
}

static void run_ok(ps_session *s, const ps_tensor *const *in, size_t n_in, ps_tensor **out, size_t n_out)
{
    ps_error err = PS_ERROR_INIT;
    if (ps_session_run(s, in, n_in, out, n_out, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
}

static void run_fails(ps_session *s, const ps_tensor *const *in, size_t n_in, size_t n_out, ps_status status,
                      const char *part) {
    ps_error err = PS_ERROR_INIT;
    ps_tensor *out[8] = { NULL };
    assert_int_equal(ps_session_run(s, in, n_in, out, n_out, NULL, &err), status);
    if (!strstr(err.msg, part)) fail_msg("'%s' does not say '%s'", err.msg, part);
}

static const char AFFINE[] = "graph g (x: f32[n,3]) -> (z) opset 17 {\n"
                             "  k: f32[3] = {1, 2, 3}\n"
                             "  y = Mul(x, k)\n"
                             "  z = Add(y, k)\n"
                             "}\n";

static void test_outputs_of_the_session_and_of_the_caller(void **state)
{
    ps_model *m = fixture_model(engine, AFFINE, "cpu");
    ps_session *s = fixture_session(m, 1);
    const float x[] = { 1, 1, 1, 2, 2, 2 };
    float mine[6] = { 0 };
    ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(2, 3), x);
    ps_tensor *out = NULL, *given = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(2, 3), mine);
    run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
    const float want[] = { 2, 4, 6, 3, 6, 9 };
    assert_memory_equal(ps_tensor_data(out), want, sizeof want);
    ps_tensor *slot = given;
    run_ok(s, (const ps_tensor *const *)&in, 1, &slot, 1);
    assert_memory_equal(mine, want, sizeof want);
    ps_tensor_release(given);
    given = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(3, 2), mine);
    ps_error err = PS_ERROR_INIT;
    slot = given;
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&in, 1, &slot, 1, NULL, &err), PS_SHAPE);
    assert_non_null(strstr(err.msg, "output 'z': the given tensor has shape [3,2], the model makes [2,3]"));
    ps_tensor_release(given);
    ps_tensor_release(in);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_strided_and_misaligned_inputs(void **state)
{
    ps_model *m = fixture_model(engine, AFFINE, "cpu");
    ps_session *s = fixture_session(m, 1);
    const float columns[] = { 1, 2, 1, 2, 1, 2 }; /* [3][2], read as its transpose, last row first */
    const int64_t strides[] = { -1, 2 };
    const float want[] = { 3, 6, 9, 2, 4, 6 };
    ps_shape shape = ps_shape_make(2, DIMS(2, 3));
    ps_tensor *in, *out = NULL;
    assert_int_equal(ps_tensor_wrap(engine, PS_DTYPE_F32, &shape, strides, (void *)(columns + 1), &in, NULL), PS_OK);
    run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
    assert_memory_equal(ps_tensor_data(out), want, sizeof want);
    ps_tensor_release(in);
    char bytes[6 * sizeof(float) + 1];
    const float x[] = { 1, 1, 1, 2, 2, 2 };
    memcpy(bytes + 1, x, sizeof x);
    const float want2[] = { 2, 4, 6, 3, 6, 9 };
    in = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(2, 3), bytes + 1);
    out = NULL;
    run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
    assert_memory_equal(ps_tensor_data(out), want2, sizeof want2);
    ps_tensor_release(in);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_wrong_inputs_are_named(void **state)
{
    ps_model *m = fixture_model(engine, "graph g (a: f32[n,2], b: f32[n,?], i: i64[1]) -> (z) opset 17 {\n"
                                        "  z = Add(a, b)\n"
                                        "}\n", "cpu");
    ps_session *s = fixture_session(m, 1);
    const float x[8] = { 0 };
    const int64_t one = 1;
    ps_tensor *a = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(2, 2), x),
              *b = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(3, 2), x);
    ps_tensor *i = fixture_wrap(engine, PS_DTYPE_I64, 1, DIMS(1), &one),
              *flat = fixture_wrap(engine, PS_DTYPE_F32, 1, DIMS(4), x);
    ps_tensor *wide = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(2, 4), x);
    run_fails(s, (const ps_tensor *[]){ a, b, i }, 3, 1, PS_SHAPE, "input 'b': dim 0 ('n') is 3, but input 'a' says 2");
    run_fails(s, (const ps_tensor *[]){ wide, b, i }, 3, 1, PS_SHAPE, "input 'a': dim 1 is 4, the model takes 2");
    run_fails(s, (const ps_tensor *[]) { flat, b, i }, 3, 1, PS_SHAPE,
              "input 'a' has shape [4] of rank 1, the model takes rank 2");
    run_fails(s, (const ps_tensor *[]){ i, b, i }, 3, 1, PS_TYPE, "input 'a' is i64, the model takes f32");
    run_fails(s, (const ps_tensor *[]){ a, NULL, i }, 3, 1, PS_INVALID, "input 'b' is missing");
    run_fails(s, (const ps_tensor *[]){ a }, 1, 1, PS_INVALID, "1 inputs are given, the model takes 3");
    run_fails(s, (const ps_tensor *[]){ a, b, i }, 3, 2, PS_INVALID, "2 outputs are asked for, the model makes 1");
    /* dims that agree by name but clash by data: b's second dim is unknown to the model */
    ps_tensor *b3 = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(2, 3), x);
    run_fails(s, (const ps_tensor *[]){ a, b3, i }, 3, 1, PS_SHAPE, "Add");
    ps_tensor *all[] = { a, b, i, flat, wide, b3 };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) ps_tensor_release(all[k]);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_outputs_that_are_inputs_constants_or_twins(void **state)
{
    ps_model *m = fixture_model(engine, "graph g (x: f32[2]) -> (x, k, y, y) opset 17 {\n"
                                        "  k: f32[2] = {5, 6}\n"
                                        "  y = Relu(x)\n"
                                        "}\n", "cpu");
    ps_session *s = fixture_session(m, 1);
    const float x[] = { -1, 2 }, relu[] = { 0, 2 }, k[] = { 5, 6 };
    ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 1, DIMS(2), x), *out[4] = { NULL };
    run_ok(s, (const ps_tensor *const *)&in, 1, out, 4);
    assert_memory_equal(ps_tensor_data(out[0]), x, sizeof x);
    assert_memory_equal(ps_tensor_data(out[1]), k, sizeof k);
    assert_memory_equal(ps_tensor_data(out[2]), relu, sizeof relu);
    assert_memory_equal(ps_tensor_data(out[3]), relu, sizeof relu);
    ps_tensor_release(in);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_zero_size_and_rank_0(void **state)
{
    ps_model *m = fixture_model(engine, AFFINE, "cpu");
    ps_session *s = fixture_session(m, 1);
    ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(0, 3), NULL), *out = NULL;
    run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
    assert_int_equal(ps_tensor_elements(out), 0);
    assert_int_equal(ps_tensor_shape(out)->dims[0], 0);
    ps_tensor_release(in);
    ps_session_free(s);
    ps_model_release(m);
    m = fixture_model(engine, "graph g (x: f32[]) -> (z) opset 17 {\n  z = Mul(x, x)\n}\n", "cpu");
    s = fixture_session(m, 1);
    const float three = 3;
    in = fixture_wrap(engine, PS_DTYPE_F32, 0, NULL, &three);
    out = NULL;
    run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
    assert_float_equal(*(float *)ps_tensor_data(out), 9, 0);
    ps_tensor_release(in);
    ps_session_free(s);
    ps_model_release(m);
}

/* An If on data; its output goes on into nodes behind it and the branches have different shapes. */
static const char BRANCHES[] = "graph g (x: f32[n,4], c: bool[]) -> (z, t) opset 17 {\n"
                               "  k: f32[4] = {1, 2, 3, 4}\n"
                               "  half: f32[] = {0.5}\n"
                               "  ax: i64[1] = {1}\n"
                               "  t = Add(x, k)\n"
                               "  y = If(c) {then_branch=graph a () -> (p) {\n"
                               "    p = Mul(t, t)\n"
                               "  }, else_branch=graph b () -> (q) {\n"
                               "    q = ReduceSum(t, ax) {keepdims=1}\n"
                               "  }}\n"
                               "  u = Mul(y, half)\n"
                               "  z = Add(u, t)\n"
                               "}\n";

static void branches_want(const float *x, int64_t rows, bool c, float *z)
{
    for (int64_t r = 0; r < rows; r++) {
        float t[4], sum = 0;
        for (int i = 0; i < 4; i++) t[i] = x[r * 4 + i] + (float)(i + 1);
        for (int i = 0; i < 4; i++) sum += t[i];
        for (int i = 0; i < 4; i++) z[r * 4 + i] = (c ? t[i] * t[i] : sum) * 0.5f + t[i];
    }
}

static void check_branches(ps_session *s, int64_t rows, bool c)
{
    float x[32], want[32];
    for (int i = 0; i < 32; i++) x[i] = (float)(i % 7) - 3;
    branches_want(x, rows, c, want);
    uint8_t flag = c;
    ps_tensor *in[2] = { fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(rows, 4), x),
                         fixture_wrap(engine, PS_DTYPE_BOOL, 0, NULL, &flag) };
    ps_tensor *out[2] = { NULL, NULL };
    run_ok(s, (const ps_tensor *const *)in, 2, out, 2);
    for (int64_t i = 0; i < rows * 4; i++) assert_float_equal(((float *)ps_tensor_data(out[0]))[i], want[i], 1e-5);
    assert_float_equal(((float *)ps_tensor_data(out[1]))[0], x[0] + 1, 0);
    ps_tensor_release(in[0]);
    ps_tensor_release(in[1]);
}

static void test_if_on_data(void **state)
{
    ps_model *m = fixture_model(engine, BRANCHES, "cpu");
    ps_session *s = fixture_session(m, 1);
    for (int i = 0; i < 6; i++) check_branches(s, 1 + i % 3, i % 2 == 0);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_steady_runs_do_not_allocate(void **state)
{
    ps_model *m = fixture_model(engine, BRANCHES, "cpu");
    ps_session *s = fixture_session(m, 1);
    const float x[8] = { 1, 2, 3 };
    uint8_t c = 1;
    ps_tensor *in[2] = { fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(2, 4), x),
                         fixture_wrap(engine, PS_DTYPE_BOOL, 0, NULL, &c) };
    for (int i = 0; i < 4; i++) {
        ps_tensor *out[2] = { NULL, NULL };
        c = i % 2;
        run_ok(s, (const ps_tensor *const *)in, 2, out, 2);
    }
    size_t before = atomic_load(&engine->alloc.calls);
    for (int i = 0; i < 20; i++) {
        ps_tensor *out[2] = { NULL, NULL };
        c = i % 2;
        run_ok(s, (const ps_tensor *const *)in, 2, out, 2);
    }
    assert_int_equal(atomic_load(&engine->alloc.calls), before);
    ps_tensor_release(in[0]);
    ps_tensor_release(in[1]);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_shapes_that_depend_on_data(void **state)
{
    ps_model *m = fixture_model(engine, "graph g (x: f32[n]) -> (i, z) opset 17 {\n"
                                        "  i = NonZero(x)\n"
                                        "  f = Cast(i) {to=1}\n"
                                        "  z = Add(f, f)\n"
                                        "}\n", "cpu");
    ps_session *s = fixture_session(m, 1);
    for (int count = 0; count <= 5; count++) {
        float x[5] = { 0 };
        for (int i = 0; i < count; i++) x[4 - i] = 1;
        ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 1, DIMS(5), x), *out[2] = { NULL, NULL };
        run_ok(s, (const ps_tensor *const *)&in, 1, out, 2);
        assert_int_equal(ps_tensor_shape(out[1])->dims[1], count);
        for (int i = 0; i < count; i++) {
            assert_int_equal(((int64_t *)ps_tensor_data(out[0]))[i], 5 - count + i);
            assert_float_equal(((float *)ps_tensor_data(out[1]))[i], 2 * (5 - count + i), 0);
        }
        ps_tensor_release(in);
    }
    ps_session_free(s);
    ps_model_release(m);
}

static void test_cancel_and_deadline(void **state)
{
    ps_model *m = fixture_model(engine, AFFINE, "cpu");
    ps_session *s = fixture_session(m, 1);
    const float x[3] = { 0 };
    ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(1, 3), x), *out = NULL;
    int cancel = 1;
    ps_run_options o = PS_RUN_OPTIONS_INIT;
    ps_error err = PS_ERROR_INIT;
    o.cancel = &cancel;
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, &o, &err), PS_CANCELLED);
    cancel = 0;
    o.deadline_ns = 1;
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, &o, &err), PS_DEADLINE);
    o.deadline_ns = ps_clock_ns() + INT64_C(60000000000);
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, &o, &err), PS_OK);
    ps_tensor_release(in);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_plan_cache_is_bounded(void **state)
{
    ps_graph *g;
    ps_model *m;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.plan_cache_bytes = 1 << 18;
    assert_int_equal(ps_graph_parse(&engine->alloc, AFFINE, &g, NULL), PS_OK);
    assert_int_equal(ps_model_from_graph(engine, g, &o, &m, NULL), PS_OK);
    ps_session *s = fixture_session(m, 1);
    static const float x[3 * 1000];
    size_t settled = 0;
    for (int64_t n = 1; n <= 600; n++) {
        ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(n, 3), x), *out = NULL;
        run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
        ps_tensor_release(in);
        if (n == 300) settled = ps_engine_memory(engine, NULL);
    }
    /* the session's own output and arena grow with n; plans must not pile up */
    assert_true(ps_engine_memory(engine, NULL) < settled + 32768);
    assert_true(m->cache_bytes <= m->cache_limit);
    ps_session_free(s);
    ps_model_release(m);
}

static void assert_accounted(const ps_model *m)
{
    size_t sum = 0;
    for (const ps_program *p = m->newest; p; p = p->older) sum += p->bytes;
    assert_int_equal(m->cache_bytes, sum);
}

/* Plans made at run time, behind an operator whose output shape depends on data, count with the plan they belong to, in
 * the cache and after it has let go of that plan; a session lets go of evicted plans too. */
static void test_plans_made_at_run_time_are_counted(void **state)
{
    ps_graph *g;
    ps_model *m;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.plan_cache_bytes = 1 << 17;
    assert_int_equal(ps_graph_parse(&engine->alloc, "graph g (x: f32[n]) -> (z) opset 17 {\n"
                                                    "  i = NonZero(x)\n"
                                                    "  f = Cast(i) {to=1}\n"
                                                    "  z = Add(f, f)\n"
                                                    "}\n", &g, NULL), PS_OK);
    assert_int_equal(ps_model_from_graph(engine, g, &o, &m, NULL), PS_OK);
    ps_session *s = fixture_session(m, 1);
    float x[40] = { 0 };
    for (int n = 0; n < 40 * 6; n++) {
        for (int i = 0; i < 40; i++) x[i] = i < n % 40;
        ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 1, DIMS(40 - n / 40), x), *out = NULL;
        run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
        ps_tensor_release(in);
        assert_accounted(m);
        assert_true(m->cache_bytes <= m->cache_limit || m->newest == m->oldest);
    }
    assert_true(m->plans_made > 0 && s->states.n < 6);
    ps_session_free(s);
    ps_model_release(m);
}

/* A rest that makes way for another takes the bytes of the rests behind it along. */
static void test_rests_behind_rests_are_counted_once(void **state)
{
    static const char text[] = "graph g (x: f32[n]) -> (z) opset 17 {\n"
                               "  i = NonZero(x)\n"
                               "  f = Cast(i) {to=1}\n"
                               "  j = NonZero(f)\n"
                               "  z = Add(j, j)\n"
                               "}\n";
    ps_model *m = fixture_model(engine, text, "cpu");
    ps_session *s = fixture_session(m, 1);
    float x[60] = { 0 };
    size_t settled = 0;
    for (int n = 0; n < 600; n++) {
        for (int i = 0; i < 60; i++) x[i] = i <= n % 60;
        ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 1, DIMS(60), x), *out = NULL;
        run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
        ps_tensor_release(in);
        assert_accounted(m);
        if (n == 100) settled = m->cache_bytes;
    }
    assert_true(m->cache_bytes < settled + settled / 10);
    ps_session_free(s);
    ps_model_release(m);
}

/* Sessions run their own plans without asking the cache; shapes that pass by must not push out those in use. */
/* Detectors have a NonZero and more for every class and level. */
static void test_many_tails_in_a_row(void **state)
{
    char text[8192] = "graph g (x: f32[n]) -> (y) opset 17 {\n  v0 = Identity(x)\n";
    for (int i = 0; i < 30; i++) {
        size_t n = strlen(text);
        ps_snprintf(text + n, sizeof text - n,
                    "  i%d = NonZero(v%d)\n  c%d = Cast(i%d) {to=1}\n"
                    "  s%d = ReduceSum(c%d, i64[1]{0}) {keepdims=0}\n  v%d = Add(s%d, f32[]{1})\n",
                    i, i, i, i, i, i, i + 1, i);
    }
    size_t end = strlen(text);
    ps_snprintf(text + end, sizeof text - end, "  y = Identity(v30)\n}\n");
    ps_model *m = fixture_model(engine, text, "cpu");
    ps_session *s = fixture_session(m, 1);
    const float x[] = { 0, 5, 0, 7 }, want[] = { 1, 2 }; /* each round: positions of the nonzero, plus 1 */
    ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 1, DIMS(4), x), *out = NULL;
    for (int run = 0; run < 2; run++) {
        run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
        assert_int_equal(ps_tensor_elements(out), 2);
        assert_memory_equal(ps_tensor_data(out), want, sizeof want);
        out = NULL;
    }
    ps_tensor_release(in);
    ps_session_free(s);
    ps_model_release(m);
}

/* Each of them may have as many behind it again: the cache's limit holds for all together. */
static void test_rests_behind_rests_are_bounded(void **state)
{
    ps_graph *g;
    ps_model *m;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.plan_cache_bytes = 1 << 17;
    assert_int_equal(ps_graph_parse(&engine->alloc, "graph g (x: f32[n], y: f32[k]) -> (w, j, z) opset 17 {\n"
                                                    "  i = NonZero(x)\n"
                                                    "  j = NonZero(y)\n"
                                                    "  z = Add(j, j)\n"
                                                    "  w = Add(i, i)\n"
                                                    "}\n", &g, NULL), PS_OK);
    assert_int_equal(ps_model_from_graph(engine, g, &o, &m, NULL), PS_OK);
    ps_session *s = fixture_session(m, 1);
    size_t before = ps_engine_memory(engine, NULL);
    for (int n = 0; n < 256; n++) {
        float x[16] = { 0 }, y[16] = { 0 };
        for (int i = 0; i < 16; i++) x[i] = i < n % 16, y[i] = i < n / 16;
        ps_tensor *in[] = { fixture_wrap(engine, PS_DTYPE_F32, 1, DIMS(16), x),
                            fixture_wrap(engine, PS_DTYPE_F32, 1, DIMS(16), y) };
        ps_tensor *out[3] = { NULL };
        run_ok(s, (const ps_tensor *const *)in, 2, out, 3);
        ps_tensor_release(in[0]);
        ps_tensor_release(in[1]);
        assert_accounted(m);
    }
    assert_true(m->cache_bytes < 2 * m->cache_limit);
    assert_true(ps_engine_memory(engine, NULL) < before + 4 * m->cache_limit);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_plans_in_use_stay_in_the_cache(void **state)
{
    ps_graph *g;
    ps_model *m;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.plan_cache_bytes = 1 << 17;
    assert_int_equal(ps_graph_parse(&engine->alloc, AFFINE, &g, NULL), PS_OK);
    assert_int_equal(ps_model_from_graph(engine, g, &o, &m, NULL), PS_OK);
    ps_session *s = fixture_session(m, 1);
    static const float x[3 * 200];
    for (int64_t n = 2; n <= 200; n++) {
        const int64_t both[] = { 1, n };
        for (int i = 0; i < 2; i++) {
            ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(both[i], 3), x), *out = NULL;
            run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
            ps_tensor_release(in);
        }
    }
    assert_true(m->cache_bytes <= m->cache_limit);
    assert_int_equal(m->plans_made, 200);
    ps_session_free(s);
    ps_model_release(m);
}

/* Each value fits into the machine, both together do not: refused before anything is allocated. */
static void test_a_plan_beyond_memory_is_refused(void **state)
{
    char text[512];
    ps_device_info info = { .size = sizeof info - 1 }; /* as of another version of the library */
    assert_int_equal(ps_engine_device_info(engine, 0, &info), PS_INVALID);
    info.size = sizeof info;
    assert_int_equal(ps_engine_device_info(engine, 0, &info), PS_OK);
    ps_snprintf(text, sizeof text,
                "graph g (x: f32[1]) -> (y, z) opset 17 {\n"
                "  k: i64[1] = {%llu}\n"
                "  y = Expand(x, k)\n"
                "  z = Exp(y)\n"
                "}\n", (unsigned long long)(info.memory / 10 * 6 / sizeof(float)));
    ps_model *m = fixture_model(engine, text, "cpu");
    ps_session *s = fixture_session(m, 1);
    const float x[] = { 1 };
    ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 1, DIMS(1), x);
    run_fails(s, (const ps_tensor *[]){ in }, 1, 2, PS_LIMIT, "bytes for values and outputs, device 'cpu' has");
    ps_tensor_release(in);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_the_engine_asks_for_no_more_than_the_machine_has(void **state)
{
    assert_true(engine->alloc.limit > 0 && engine->alloc.limit < ps_memory_total());
    ps_model *m = fixture_model(engine, "graph g (s: i64[1]) -> (y) opset 17 {\n"
                                        "  y = ConstantOfShape(s)\n"
                                        "}\n", "cpu");
    ps_session *s = fixture_session(m, 1);
    const int64_t n = (int64_t)(ps_memory_total() / sizeof(float)) + 1;
    ps_tensor *in = fixture_wrap(engine, PS_DTYPE_I64, 1, DIMS(1), &n);
    run_fails(s, (const ps_tensor *[]){ in }, 1, 1, PS_NO_MEMORY, "out of memory for");
    ps_tensor_release(in);
    ps_session_free(s);
    ps_model_release(m);
}

/* One huge request does not hold its memory for the life of the session. */
static void test_a_session_shrinks_again(void **state)
{
    ps_model *m = fixture_model(engine, "graph g (s: i64[1]) -> (y) opset 17 {\n"
                                        "  y = ConstantOfShape(s)\n"
                                        "}\n", "cpu");
    ps_session *s = fixture_session(m, 1);
    for (int64_t n = (int64_t)30 << 20; n > 0; n -= ((int64_t)30 << 20) - 1) {
        ps_tensor *in = fixture_wrap(engine, PS_DTYPE_I64, 1, DIMS(1), &n), *out = NULL;
        run_ok(s, (const ps_tensor *const *)&in, 1, &out, 1);
        assert_int_equal(ps_tensor_elements(out), n);
        ps_tensor_release(in);
    }
    assert_true(ps_engine_memory(engine, NULL) < (size_t)16 << 20);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_load_errors_name_the_file(void **state)
{
    char dir[64], path[128];
    ps_error err = PS_ERROR_INIT;
    ps_model *m = NULL;
    assert_true(ps_test_temp_dir(dir, sizeof dir));
    ps_snprintf(path, sizeof path, "%s/n\xc3\xa4me with space.onnx", dir);
    assert_int_equal(ps_file_write(path, "no model", 8, 0600, NULL), PS_OK);
    assert_int_equal(ps_model_load(engine, path, NULL, &m, &err), PS_FORMAT);
    assert_int_equal(strncmp(err.msg, path, strlen(path)), 0);
    ps_test_remove_tree(dir);
    assert_int_equal(ps_model_load(engine, path, NULL, &m, &err), PS_NOT_FOUND);
    assert_null(strstr(strstr(err.msg, path) + 1, path));
}

static void test_missing_arguments(void **state)
{
    ps_model *m = fixture_model(engine, AFFINE, "cpu");
    ps_session *s = fixture_session(m, 1);
    ps_tensor *out = NULL;
    assert_int_equal(ps_session_run(s, NULL, 1, &out, 1, NULL, NULL), PS_INVALID);
    assert_int_equal(ps_session_run(s, (const ps_tensor *[]){ NULL }, 1, NULL, 1, NULL, NULL), PS_INVALID);
    assert_int_equal(ps_session_create(NULL, NULL, &s, NULL), PS_INVALID);
    assert_int_equal(ps_model_load(engine, NULL, NULL, &m, NULL), PS_INVALID);
    assert_int_equal(ps_model_load_memory(engine, NULL, 5, NULL, &m, NULL), PS_INVALID);
    assert_int_equal(ps_engine_create(NULL, NULL, NULL), PS_INVALID);
    ps_session_free(s);
    ps_model_release(m);
}

/* ---- threads: one model, eight sessions, every output compared ---- */

static const char NETWORK[] = "graph g (x: f32[n,3,9,9]) -> (z) opset 17 {\n"
                              "  w: f32[4,3,1,1] = {1,-2,3, -4,5,-6, 7,-8,9, 1,1,1}\n"
                              "  b: f32[4] = {0.5, -0.5, 1, -1}\n"
                              "  v: f32[4,2] = {1,2, 3,4, 5,6, 7,8}\n"
                              "  y = Conv(x, w, b)\n"
                              "  r = Relu(y)\n"
                              "  p = MaxPool(r) {kernel_shape=[2,2], strides=[2,2], ceil_mode=1}\n"
                              "  q = GlobalAveragePool(p)\n"
                              "  f = Flatten(q)\n"
                              "  l = MatMul(f, v)\n"
                              "  z = Softmax(l) {axis=1}\n"
                              "}\n";

typedef struct worker {
    ps_model *model;
    int seed;
    bool ok;
} worker;

static void network_input(float *x, int64_t n, int seed)
{
    uint32_t s = (uint32_t)seed * 2654435761u + 1;
    for (int64_t i = 0; i < n * 243; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)(s >> 8) / (float)(1 << 24) - 0.5f;
    }
}

static bool network_run(ps_session *s, int64_t n, int seed, float *ret)
{
    float x[243 * 4];
    network_input(x, n, seed);
    ps_shape shape = ps_shape_make(4, DIMS(n, 3, 9, 9));
    ps_tensor *in = NULL, *out = NULL;
    bool ok = ps_tensor_wrap(s->model->engine, PS_DTYPE_F32, &shape, NULL, x, &in, NULL) == PS_OK &&
              ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, NULL) == PS_OK;
    if (ok) memcpy(ret, ps_tensor_data(out), (size_t)n * 2 * sizeof *ret);
    ps_tensor_release(in);
    return ok;
}

static void *work(void *arg)
{
    worker *w = arg;
    ps_session *s = NULL;
    float got[8], first[3][8];
    if (ps_session_create(w->model, NULL, &s, NULL) != PS_OK) return NULL;
    w->ok = true;
    for (int i = 0; i < 60 && w->ok; i++) {
        int64_t n = 1 + i % 3;
        w->ok = network_run(s, n, w->seed, got);
        if (i < 3) memcpy(first[n - 1], got, sizeof got);
        w->ok = w->ok && memcmp(first[n - 1], got, (size_t)n * 2 * sizeof *got) == 0; /* the same result every time */
    }
    ps_session_free(s);
    return NULL;
}

static void test_eight_threads_share_plans(void **state)
{
    ps_model *m = fixture_model(engine, NETWORK, "cpu"), *ref = fixture_model(engine, NETWORK, "ref");
    pthread_t threads[8];
    worker w[8];
    for (int i = 0; i < 8; i++) {
        w[i] = (worker){ m, i, false };
        assert_int_equal(pthread_create(&threads[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    ps_session *s = fixture_session(m, 1), *r = fixture_session(ref, 1);
    for (int i = 0; i < 8; i++) {
        float got[8], want[8];
        assert_true(w[i].ok);
        assert_true(network_run(s, 3, i, got));
        assert_true(network_run(r, 3, i, want));
        /* sums of a few dozen products of order 1 in another order: 1e-5 leaves ten times the rounding */
        for (int k = 0; k < 6; k++) assert_float_equal(got[k], want[k], 1e-5);
    }
    ps_session_free(s);
    ps_session_free(r);
    ps_model_release(m);
    ps_model_release(ref);
}

/* ---- allocation failure at every point of load + run ---- */

static bool whole_life(const ps_allocator *allocator, const char *text, bool *ret_out_of_memory)
{
    ps_engine *e = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    ps_model *m = NULL;
    ps_session *s = NULL;
    ps_tensor *in[2] = { NULL, NULL }, *out[2] = { NULL, NULL };
    static float x[243];
    uint8_t c = 1;
    o.threads = 1;
    o.allocator = allocator;
    ps_shape image = ps_shape_make(4, DIMS(1, 3, 9, 9)), rows = ps_shape_make(2, DIMS(2, 4)),
             scalar = ps_shape_make(0, NULL);
    bool network = text == NETWORK;
    ps_status st = ps_engine_create(&o, &e, &err);
    if (st == PS_OK) st = fixture_model_status(e, text, "cpu", &m, &err);
    if (st == PS_OK) st = ps_session_create(m, NULL, &s, &err);
    if (st == PS_OK) st = ps_tensor_wrap(e, PS_DTYPE_F32, network ? &image : &rows, NULL, x, &in[0], &err);
    if (st == PS_OK && !network) st = ps_tensor_wrap(e, PS_DTYPE_BOOL, &scalar, NULL, &c, &in[1], &err);
    for (c = 0; c < 2 && st == PS_OK; c++) {
        out[0] = out[1] = NULL;
        st = ps_session_run(s, (const ps_tensor *const *)in, network ? 1 : 2, out, network ? 1 : 2, NULL, &err);
    }
    ps_tensor_release(in[0]);
    ps_tensor_release(in[1]);
    ps_session_free(s);
    ps_model_release(m);
    ps_engine_free(e);
    *ret_out_of_memory = st == PS_NO_MEMORY;
    return st == PS_OK;
}

static void sweep(const char *text)
{
    bool oom = false;
    for (long n = 0; n < 100000; n++) {
        ps_test_alloc t;
        ps_test_alloc_init(&t, n);
        bool ok = whole_life(&t.allocator, text, &oom);
        assert_int_equal(atomic_load(&t.live), 0);
        if (!atomic_load(&t.failed)) {
            assert_true(ok);
            return;
        }
        assert_true(ok || oom); /* a failed allocation may only matter as such */
    }
    fail_msg("the sweep did not end");
}

static void test_allocation_failure_everywhere(void **state)
{
    sweep(BRANCHES);
    sweep(NETWORK);
}

/* A model's memory is a part of its engine's, goes with it, and has a limit of its own. */
static void test_memory_of_a_model(void **state)
{
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    size_t before = ps_engine_memory(engine, NULL), peak;
    ps_model *m = fixture_model(engine, AFFINE, "cpu"), *other = fixture_model(engine, AFFINE, "cpu");
    size_t loaded = ps_model_memory(m, NULL);
    assert_true(loaded > 0 && loaded + ps_model_memory(other, NULL) <= ps_engine_memory(engine, NULL) - before);
    ps_session *s = fixture_session(m, 1);
    ps_tensor *in = fixture_wrap(engine, PS_DTYPE_F32, 2, DIMS(2, 3), x), *out = NULL;
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, NULL), PS_OK);
    assert_true(ps_model_memory(m, &peak) > loaded && peak >= ps_model_memory(m, NULL));
    assert_true(ps_model_memory(other, NULL) <= loaded);
    ps_session_free(s);
    ps_tensor_release(in);
    ps_model_release(m);
    ps_model_release(other);
    assert_int_equal(ps_engine_memory(engine, NULL), before);

    ps_graph *g;
    ps_error err = PS_ERROR_INIT;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.memory_limit = loaded / 8;
    assert_int_equal(ps_graph_parse(&engine->alloc, AFFINE, &g, NULL), PS_OK);
    assert_int_equal(ps_model_from_graph(engine, g, &o, &m, &err), PS_NO_MEMORY);
    assert_true(err.msg[0]);
    assert_int_equal(ps_engine_memory(engine, NULL), before);
}

/* What a session gave away may be given back after the model is gone. */
static void test_text_outlives_its_model(void **state)
{
    size_t before = ps_engine_memory(engine, NULL);
    ps_model *m = fixture_model(engine, "graph g (x: string[n]) -> (z) opset 17 {\n  z = Identity(x)\n}\n", "cpu");
    ps_session *s = fixture_session(m, 1);
    ps_shape shape = { 1, { 1 } };
    ps_tensor *in, *out = NULL;
    assert_int_equal(ps_tensor_create(engine, PS_DTYPE_STRING, &shape, &in, NULL), PS_OK);
    assert_int_equal(ps_tensor_set_string(in, 0, "kept", 4, NULL), PS_OK);
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, NULL), PS_OK);
    ps_tensor_retain(out);
    ps_session_free(s);
    ps_tensor_release(in);
    ps_model_release(m);
    const ps_string *text = ps_tensor_data_const(out);
    assert_memory_equal(text->data, "kept", 4);
    ps_tensor_release(out);
    m = fixture_model(engine, AFFINE, "cpu"); /* clears away what was left */
    ps_model_release(m);
    assert_int_equal(ps_engine_memory(engine, NULL), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_outputs_of_the_session_and_of_the_caller, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strided_and_misaligned_inputs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_inputs_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outputs_that_are_inputs_constants_or_twins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_zero_size_and_rank_0, setup, teardown),
        cmocka_unit_test_setup_teardown(test_if_on_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_steady_runs_do_not_allocate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shapes_that_depend_on_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_and_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_cache_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plans_made_at_run_time_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rests_behind_rests_are_counted_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_tails_in_a_row, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rests_behind_rests_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plans_in_use_stay_in_the_cache, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_plan_beyond_memory_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_engine_asks_for_no_more_than_the_machine_has, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_session_shrinks_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_of_a_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text_outlives_its_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_load_errors_name_the_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eight_threads_share_plans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_allocation_failure_everywhere, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
