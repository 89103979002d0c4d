/* Activations stored as f16 on an OpenCL device, as ps_model_options.activations asks for them: which values are, what
 * becomes of numbers that f16 has not, how much memory is left to take. The kernels themselves: test_opencl_*_f16. */
#include "opencl_compare.h"

static ps_model *model_of(const char *text) {
    ps_graph *g;
    ps_model *m = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.device = cmp_device;
    o.activations = PS_DTYPE_F16;
    ps_status status = ps_graph_parse(&cmp_engine->alloc, text, &g, &err);
    if (status == PS_OK) status = ps_model_from_graph(cmp_engine, g, &o, &m, &err);
    if (status != PS_OK) fail_msg("%s", err.msg);
    return m;
}

/* Of one run: what its steps' outputs lie as, in order: 'h' halves, 'f' floats, 'i' others; and its memory. */
typedef struct facts {
    char stored[64], ops[1024];
    ps_session_stats stats;
} facts;

static void run(ps_model *m, facts *f, cmp_result *ret) {
    ps_tensor *in[CMP_MAX] = { NULL }, *out[CMP_MAX] = { NULL };
    void *data[CMP_MAX] = { NULL };
    ps_error err = PS_ERROR_INIT;
    ps_step_info step = { .size = sizeof step };
    ps_session *s = fixture_session(m, 1);
    cmp_make_inputs(m, false, in, data);
    if (ps_session_run(s, (const ps_tensor *const *)in, ps_model_input_count(m), out, ps_model_output_count(m), NULL,
                       &err) != PS_OK)
        fail_msg("%s", err.msg);
    memset(f, 0, sizeof *f);
    for (size_t i = 0; i < sizeof f->stored - 1 && ps_session_step(s, i, &step) == PS_OK; i++) {
        f->stored[i] = step.stored == PS_DTYPE_F16 ? 'h' : step.stored == PS_DTYPE_F32 ? 'f' : 'i';
        snprintf(f->ops + strlen(f->ops), sizeof f->ops - strlen(f->ops), "%s ", step.op);
    }
    f->stats.size = sizeof f->stats;
    assert_int_equal(ps_session_statistics(s, &f->stats), PS_OK);
    if (ret) {
        memset(ret, 0, sizeof *ret);
        for (ret->n = 0; ret->n < ps_model_output_count(m); ret->n++) {
            const ps_tensor *t = out[ret->n];
            ret->dtype[ret->n] = t->dtype;
            ret->shape[ret->n] = t->shape;
            ret->bytes[ret->n] = t->bytes;
            ret->data[ret->n] = malloc(t->bytes + 1);
            memcpy(ret->data[ret->n], t->data, t->bytes);
        }
    }
    cmp_drop_inputs(m, in, data);
    ps_session_free(s);
}

/* Compares with the reference kernels too. */
static facts facts_of(const char *text) {
    ps_model *m = model_of(text), *ref = fixture_model(cmp_engine, text, "ref");
    cmp_result want, got;
    ps_error err = PS_ERROR_INIT;
    facts f;
    cmp_tolerance = 0x1p-9f; /* two or three roundings to 11 bits on the way, relative to the largest result */
    cmp_scaled = true;
    run(m, &f, &got);
    assert_true(cmp_run_session(ref, 1, &want, &err));
    cmp_outputs(text, 1, &want, &got);
    cmp_release(&want);
    cmp_release(&got);
    ps_model_release(ref);
    ps_model_release(m);
    return f;
}

#define CHAIN                                                                                                          \
    "  w: f32[16,8,3,3] = random(3)\n  v: f32[16,16,1,1] = random(4)\n  a = Conv(x, w) {pads=[1,1,1,1]}\n"             \
    "  b = Relu(a)\n  c = Conv(b, v)\n  p = MaxPool(c) {kernel_shape=[2,2], strides=[2,2]}\n"

/* What lies between is halves, the first kernel reads floats and the last writes them: no conversions of their own. */
static void test_chain(void **state) {
    const facts f = facts_of("graph (x: f32[2,8,40,40]) -> (p) opset 17 {\n" CHAIN "}");
    assert_string_equal(f.ops, "upload reorder Conv+Relu Conv MaxPool reorder download ");
    assert_string_equal(f.stored, "ffhhfff");
}

/* Read by an operator that has no such kernel, or none at all: floats where they are made. */
static void test_other_readers(void **state) {
    facts f = facts_of("graph (x: f32[2,8,40,40]) -> (y) opset 17 {\n" CHAIN "  y = ReduceL2(p) {axes=[1]}\n}");
    assert_string_equal(f.stored, "ffhhffff");
    f = facts_of("graph (x: f32[2,8,40,40]) -> (y, p) opset 17 {\n" CHAIN "  y = Neg(p)\n}");
    assert_non_null(strstr(f.ops, "MaxPool"));
    assert_int_equal(f.stored[4], 'f');
}

/* A view is the memory of what it looks at: what is seen through it as an output, or by the host, is made as floats. */
static void test_views(void **state) {
    facts f = facts_of("graph (x: f32[2,8,40,40]) -> (y) opset 17 {\n" CHAIN
                       "  s: i64[2] = {2, 6400}\n  y = Reshape(p, s)\n}");
    assert_int_equal(f.stored[4], 'f');
    f = facts_of("graph (x: f32[2,8,40,40]) -> (y) opset 17 {\n" CHAIN
                 "  s: i64[3] = {2, 16, 400}\n  t = Reshape(p, s)\n  y = Neg(t)\n}");
    assert_int_equal(f.stored[4], 'h');
}

/* Few numbers and integers stay what they are. */
static void test_small_and_whole_values(void **state) {
    facts f = facts_of("graph (x: f32[2,8,5,5]) -> (p) opset 17 {\n" CHAIN "}");
    assert_null(strchr(f.stored, 'h'));
    f = facts_of("graph (i: i64[100,100]) -> (y) opset 17 {\n  x = Cast(i) {to=1}\n  t = Mul(x, f32[]{1001})\n"
                 "  u = Add(t, x)\n  y = Sqrt(u)\n}");
    assert_null(strchr(f.stored, 'h'));
}

/* Rounded to nearest, ties to even; what is too large is the largest; infinities and NaN stay. */
static void test_rounding(void **state) {
    const char *text = "graph (x: f32[3,5,7,80]) -> (y) opset 17 {\n  t = Neg(x)\n"
                       "  y = Transpose(t) {perm=[3,1,0,2]}\n}";
    ps_model *m = model_of(text), *ref = fixture_model(cmp_engine, text, "ref");
    cmp_result want, got;
    ps_error err = PS_ERROR_INIT;
    facts f;
    cmp_values = CMP_SPECIAL;
    run(m, &f, &got);
    assert_non_null(strchr(f.stored, 'h'));
    assert_true(cmp_run_session(ref, 1, &want, &err));
    const float *x = want.data[0], *y = got.data[0];
    for (size_t i = 0; i < want.bytes[0] / sizeof *x; i++) {
        const float rounded = ps_f16_to_f32(ps_f32_to_f16(cmp_within_half(x[i])));
        if (isnan(x[i]) ? !isnan(y[i]) : y[i] != rounded)
            fail_msg("%.9g is stored as %.9g, should be as %.9g", (double)x[i], (double)y[i], (double)rounded);
    }
    cmp_release(&want);
    cmp_release(&got);
    ps_model_release(ref);
    ps_model_release(m);
}

/* Two large values at a time: half of the memory. */
static void test_memory(void **state) {
    static const char whole[] = "graph (x: f32[1,8,128,128]) -> (y) opset 17 {\n  u: f32[32,8,1,1] = random(3)\n"
                                "  v: f32[32,32,1,1] = random(4)\n  w: f32[8,32,1,1] = random(5)\n  a = Conv(x, u)\n"
                                "  b = Conv(a, v)\n  c = Conv(b, v)\n  d = Conv(c, w)\n"
                                "  y = ReduceMean(d) {axes=[2,3]}\n}";
    const facts halves = facts_of(whole);
    ps_model *wide = fixture_model(cmp_engine, whole, cmp_device);
    facts floats;
    run(wide, &floats, NULL);
    ps_model_release(wide);
    assert_true(floats.stats.arena_bytes >= 2 * 32 * 128 * 128 * 4);
    assert_true(halves.stats.arena_bytes < floats.stats.arena_bytes * 11 / 20);
}

static void test_option(void **state) {
    ps_graph *g;
    ps_model *m = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    static const struct {
        const char *device;
        ps_dtype activations;
        ps_status status;
    } cases[] = { { "cpu", PS_DTYPE_F16, PS_UNSUPPORTED },
                  { "ref", PS_DTYPE_F16, PS_UNSUPPORTED },
                  { "cpu", PS_DTYPE_F32, PS_OK },
                  { "gpu", PS_DTYPE_F32, PS_OK },
                  { "gpu", PS_DTYPE_BF16, PS_INVALID } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        o.device = cases[i].device;
        o.activations = cases[i].activations;
        assert_int_equal(
            ps_graph_parse(&cmp_engine->alloc, "graph (x: f32[4]) -> (y) opset 17 {\n  y = Neg(x)\n}", &g, &err),
            PS_OK);
        assert_int_equal(ps_model_from_graph(cmp_engine, g, &o, &m, &err), cases[i].status);
        if (cases[i].status == PS_OK) ps_model_release(m);
        if (cases[i].status == PS_UNSUPPORTED) assert_non_null(strstr(err.msg, cases[i].device));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_chain),    CMP_TEST(test_other_readers),
        CMP_TEST(test_views),    CMP_TEST(test_small_and_whole_values),
        CMP_TEST(test_rounding), CMP_TEST(test_memory),
        CMP_TEST(test_option),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
