/* The tuner on the first OpenCL device: every variant of a product gives what the reference kernels give, one that does
 * not is refused, and what was found is looked up by later loads. */
#include "opencl_compare.h"

#include "base/os.h"
#include "test_temp_dir.h"

static char folder[64];

/* What is looked for on disk is what the tuner found: PoCL compiles a kernel again when it is asked for a binary. */
static cl_int CL_API_CALL no_binaries(cl_program p, cl_program_info what, size_t n, void *to, size_t *ret) {
    return CL_OUT_OF_RESOURCES;
}

static ps_engine *engine(void) {
    ps_engine *e = NULL;
    ps_device *d = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    o.cache_dir = folder;
    if (ps_engine_create(&o, &e, &err) != PS_OK || ps_engine_device(e, "gpu", &d, &err) != PS_OK)
        fail_msg("%s", err.msg);
    ocl_of(d)->api.clGetProgramInfo = no_binaries;
    return e;
}

/* Runs a graph with trials for so long; its results must be the reference's. */
static ps_model_tuning_info tune(ps_engine *e, const char *text, int64_t ms) {
    ps_model_tuning_info info = { .size = sizeof info };
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    ps_error err = PS_ERROR_INIT;
    ps_graph *g;
    ps_model *m = NULL, *ref = NULL;
    cmp_result want, got;
    ps_engine *shared = cmp_engine;
    cmp_engine = e;
    o.device = "gpu";
    o.tune_ms = ms;
    assert_int_equal(ps_graph_parse(&e->alloc, text, &g, &err), PS_OK);
    if (ps_model_from_graph(e, g, &o, &m, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_int_equal(fixture_model_status(e, text, "ref", &ref, &err), PS_OK);
    assert_true(cmp_run_session(ref, 1, &want, &err));
    if (!cmp_run_session(m, 1, &got, &err)) fail_msg("%s", err.msg);
    cmp_outputs(text, 1, &want, &got);
    assert_int_equal(ps_model_tuning(m, &info), PS_OK);
    cmp_release(&want);
    cmp_release(&got);
    ps_model_release(m);
    ps_model_release(ref);
    cmp_engine = shared;
    return info;
}

#define LONG_ENOUGH 600000

static void test_variants_agree(void **state) {
    static const char *const texts[] = {
        "graph (a: f32[1,320]) -> (y) opset 21 {\n  w: f32[320,76] = random(3)\n  x = Mul(a, f32[]{0.06})\n"
        "  t = MatMul(x, w)\n  y = Relu(t)\n}",
        "graph (a: f32[3,320]) -> (y) opset 21 {\n  w: i4[320,75] = random(3)\n  r: f32[10,75] = random(5)\n"
        "  q = Mul(r, f32[]{0.01})\n  s = Add(q, f32[]{0.02})\n  x = Mul(a, f32[]{0.06})\n"
        "  k = DequantizeLinear(w, s) {axis=0, block_size=32}\n  y = MatMul(x, k)\n}",
        "graph (a: f32[70,320], r: f32[70,75]) -> (y) opset 21 {\n  w: i8[320,75] = random(3)\n"
        "  k = DequantizeLinear(w, f32[]{0.01})\n  x = Mul(a, f32[]{0.006})\n  t = MatMul(x, k)\n  y = Add(t, r)\n}",
        "graph (x: f32[1,32,9,9], r: f32[1,20,9,9]) -> (y) opset 21 {\n  w: f32[20,32,5,5] = random(3)\n"
        "  b: f32[20] = random(4)\n  s = Mul(x, f32[]{0.03})\n  t = Conv(s, w, b) {pads=[2,2,2,2]}\n  u = Add(t, r)\n"
        "  y = Relu(u)\n}",
        "graph (a: f32[65,65], b: f32[65,130]) -> (y) opset 21 {\n  y = MatMul(a, b)\n}",
    };
    ps_engine *e = engine();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const ps_model_tuning_info first = tune(e, texts[i], LONG_ENOUGH);
        assert_int_equal(first.problems, 1);
        assert_true(first.tried >= 3);
        assert_int_equal(first.wrong, 0);
        assert_true(first.chosen_ms <= first.usual_ms);
        assert_int_equal(tune(e, texts[i], LONG_ENOUGH).problems, 0); /* known by now */
    }
    ps_engine_free(e);
    e = engine(); /* the next start */
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_int_equal(tune(e, texts[i], LONG_ENOUGH).problems, 0);
    ps_engine_free(e);
}

static const char filtered[] = "graph (x: f32[1,16,9,9], r: f32[1,20,9,9]) -> (y) opset 21 {\n"
                               "  w: f32[20,16,3,3] = random(3)\n  b: f32[20] = random(4)\n"
                               "  s = Mul(x, f32[]{0.1})\n  t = Conv(s, w, b) {pads=[1,1,1,1]}\n  u = Add(t, r)\n"
                               "  y = Relu(u)\n}";
static const char one_a_channel[] = "graph (x: f32[1,16,9,9]) -> (y) opset 21 {\n  w: f32[16,1,3,3] = random(3)\n"
                                    "  t = Conv(x, w) {pads=[1,1,1,1], group=16}\n  y = Relu(t)\n}";

/* By Winograd's filtering or directly (the tiles of the latter are a choice of their own); depthwise by one pixel or by
 * four. Results may differ by what test_opencl_conv.c allows for filtering. */
static void test_algorithms_agree(void **state) {
    ps_engine *e = engine();
    cmp_tolerance = 5e-5f;
    cmp_scaled = true;
    ps_model_tuning_info info = tune(e, filtered, LONG_ENOUGH);
    assert_int_equal(info.problems, 2);
    assert_true(info.tried >= 4);
    assert_int_equal(info.wrong, 0);
    assert_int_equal(tune(e, filtered, LONG_ENOUGH).problems, 0);
    info = tune(e, one_a_channel, LONG_ENOUGH);
    assert_int_equal(info.problems, 1);
    assert_int_equal(info.tried, 1);
    assert_int_equal(info.wrong, 0);
    assert_int_equal(tune(e, one_a_channel, LONG_ENOUGH).problems, 0);
    ps_engine_free(e);
}

/* Inputs, a residual and results that are stored as f16 are other problems than those in f32. */
static void test_variants_on_halves(void **state) {
    static const char *const texts[] = {
        "graph (a: f32[3,320], r: f32[3,80]) -> (y) opset 21 {\n  w: f32[320,80] = random(3)\n  t = MatMul(a, w)\n"
        "  y = Add(t, r)\n}",
        "graph (a: f32[70,64], r: f32[70,75]) -> (y) opset 21 {\n  w: f32[64,75] = random(3)\n  t = MatMul(a, w)\n"
        "  y = Add(t, r)\n}",
        filtered,
        one_a_channel,
    };
    ps_device *device;
    ps_engine *e = engine();
    cmp_halves = 0x1p-10f; /* as opencl_compare.h */
    cmp_scaled = true;
    assert_int_equal(ps_engine_device(e, "gpu", &device, NULL), PS_OK);
    ocl_of(device)->test_halves = 3;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const ps_model_tuning_info info = tune(e, texts[i], LONG_ENOUGH);
        assert_int_equal(info.problems, i == 2 ? 2 : 1);
        assert_true(info.tried >= 1);
        assert_int_equal(info.wrong, 0);
        assert_int_equal(tune(e, texts[i], LONG_ENOUGH).problems, 0);
    }
    cmp_halves = 0;
    ps_engine_free(e);
}

static __typeof__(clEnqueueReadBuffer) *read_buffer;
static int n_reads;

/* Every result but the first, which is the default's, is off in one element. */
static cl_int spoil(cl_command_queue q, cl_mem m, cl_bool wait, size_t from, size_t n, void *data, cl_uint n_wait,
                    const cl_event *waits, cl_event *event) {
    const cl_int code = read_buffer(q, m, CL_TRUE, from, n, data, n_wait, waits, event);
    if (n_reads++ > 0 && n >= sizeof(float)) ((float *)data)[n / sizeof(float) / 2] = 1e9f;
    return code;
}

static void refuse_wrong_variants(const char *net, uint64_t problems) {
    ps_device *device;
    ps_error err = PS_ERROR_INIT;
    ps_engine *e = engine();
    ps_graph *g;
    ps_model *m = NULL;
    cmp_result r;
    ps_model_tuning_info info = { .size = sizeof info };
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.device = "gpu";
    o.tune_ms = LONG_ENOUGH;
    assert_int_equal(ps_engine_device(e, "gpu", &device, &err), PS_OK);
    read_buffer = ocl_of(device)->api.clEnqueueReadBuffer;
    ocl_of(device)->api.clEnqueueReadBuffer = spoil;
    n_reads = 0;
    assert_int_equal(ps_graph_parse(&e->alloc, net, &g, &err), PS_OK);
    assert_int_equal(ps_model_from_graph(e, g, &o, &m, &err), PS_OK);
    ps_engine *shared = cmp_engine;
    cmp_engine = e;
    assert_true(cmp_run_session(m, 1, &r, &err));
    cmp_engine = shared;
    assert_int_equal(ps_model_tuning(m, &info), PS_OK);
    assert_int_equal(info.problems, problems);
    assert_true(info.tried >= 1);
    assert_int_equal(info.wrong, info.tried);
    assert_int_equal(info.faster, 0);
    cmp_release(&r);
    ps_model_release(m);
    ocl_of(device)->api.clEnqueueReadBuffer = read_buffer;
    ps_engine_free(e);
}

/* The second has no number in half of its elements, the first ones among them. */
static void test_wrong_variants_are_refused(void **state) {
    refuse_wrong_variants("graph (a: f32[5,64]) -> (y) opset 21 {\n  w: f32[64,80] = random(3)\n  y = MatMul(a, w)\n}",
                          1);
    refuse_wrong_variants("graph (a: f32[5,64]) -> (y) opset 21 {\n  w: f32[64,84] = random(3)\n  p = MatMul(a, w)\n"
                          "  y = Sqrt(p)\n}",
                          1);
    refuse_wrong_variants("graph (x: f32[1,8,6,9]) -> (y) opset 21 {\n  w: f32[8,1,3,3] = random(3)\n"
                          "  y = Conv(x, w) {pads=[1,1,1,1], group=8}\n}",
                          1);
}

/* Once the budget is spent nothing is tried, and what was not finished is not kept. */
static void test_budget(void **state) {
    static const char text[] =
        "graph (a: f32[6,64]) -> (y) opset 21 {\n  w: f32[64,81] = random(3)\n  y = MatMul(a, w)\n}";
    ps_engine *e = engine();
    assert_int_equal(tune(e, text, 0).problems, 0);
    const ps_model_tuning_info brief = tune(e, text, 1); /* over before the weights are packed, or soon after */
    assert_true(brief.problems <= 1);
    assert_int_equal(tune(e, text, LONG_ENOUGH).problems, 1);
    ps_engine_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_variants_agree),
        CMP_TEST(test_algorithms_agree),
        CMP_TEST(test_variants_on_halves),
        CMP_TEST(test_wrong_variants_are_refused),
        CMP_TEST(test_budget),
    };
    if (!opencl_there()) return OPENCL_SKIPPED;
    if (!ps_test_temp_dir(folder, sizeof folder)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ps_test_remove_tree(folder);
    return failed;
}
