/* OpenCL below the runtime: copies between memories, what falls back, sessions, errors, the program cache, and what is
 * said about cards that cannot be used. */
#include "opencl_compare.h"

#include "base/os.h"
#include "test_temp_dir.h"

#include <float.h>
#include <pthread.h>
#include <unistd.h>

/* ---- fallback ---- */

/* Operators that no OpenCL device takes (CumSum, Hardmax) between ones that it does: the host waits where it reads. */
static void test_devices_take_turns(void **state) {
    check("upload", "graph (x: f32[2,6,5,7]) -> (y, c) opset 17 {\n  k: i64[] = {3}\n  w: f32[10,6,3,3] = random(3)\n"
                    "  t = Conv(x, w) {pads=[1,1,1,1]}\n  c = CumSum(t, k)\n  u = Mul(c, t)\n  h = Hardmax(u)\n"
                    "  v = Add(h, u)\n  z = CumSum(v, k)\n  y = Sub(z, c)\n}");
    /* one value that host and device read, output and input of the graph at once */
    check(NULL,
          "graph (x: f32[30,7]) -> (x, y, y, z) opset 17 {\n  k: i64[] = {0}\n  y = Exp(x)\n  z = CumSum(y, k)\n}");
    check(NULL, "graph (x: f32[30,7]) -> (z, r) opset 17 {\n  s: i64[3] = {5, 6, 7}\n  k: i64[] = {0}\n"
                "  r = Reshape(x, s)\n  a = Exp(r)\n  b = Reshape(a, s)\n  z = CumSum(b, k)\n}");
    /* chains in which host memory could be used again while a copy still reads it */
    check(NULL, "graph (x: f32[64,64]) -> (y) opset 17 {\n  k: i64[] = {0}\n  a = CumSum(x, k)\n  b = Exp(a)\n"
                "  c = Hardmax(a)\n  d = CumSum(c, k)\n  e = Hardmax(d)\n  f = Add(b, e)\n  g = Add(f, d)\n"
                "  h = Hardmax(g)\n  y = Mul(h, b)\n}");
}

static void test_fallback_says_why(void **state) {
    ps_model *m = fixture_model(cmp_engine,
                                "graph (x: f32[8,8], d: f64[32,32]) -> (y, z) opset 17 {\n  k: i64[] = {0}\n"
                                "  y = CumSum(x, k)\n  z = Add(d, d)\n}",
                                "gpu");
    ps_session *s = fixture_session(m, 1);
    ps_tensor *in[2], *out[2] = { NULL };
    static const double zeros[1024];
    ps_error err = PS_ERROR_INIT;
    in[0] = fixture_wrap(cmp_engine, PS_DTYPE_F32, 2, DIMS(8, 8), zeros);
    in[1] = fixture_wrap(cmp_engine, PS_DTYPE_F64, 2, DIMS(32, 32), zeros);
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)in, 2, out, 2, NULL, &err), PS_OK);
    ps_step_info step = { .size = sizeof step };
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(ps_session_step(s, i, &step), PS_OK);
        assert_string_equal(step.device, "cpu");
        assert_string_equal(step.fallback,
                            strcmp(step.op, "CumSum") == 0 ? "no OpenCL kernel for this operator" : "not f32");
    }
    for (int i = 0; i < 2; i++)
        ps_tensor_release(in[i]);
    ps_session_free(s);
    ps_model_release(m);
}

/* Rounded to nearest, whatever the driver's own division does: bit for bit what the host computes, zeros with their
 * sign. Denormals may be zero, so there are none. */
static void test_quotients(void **state) {
    enum { EDGES = 9, N = 8192 };
    static const float edges[EDGES] = { 0.0f, -0.0f, 1, -1, 3, INFINITY, -INFINITY, NAN, FLT_MAX };
    static float a[N], b[N];
    ps_tensor *out[1] = { NULL };
    ps_error err = PS_ERROR_INIT;
    for (uint32_t i = 0, r = 1; i < N; i++) {
        r = r * 1664525u + 1013904223u;
        a[i] = i < EDGES * EDGES ? edges[i / EDGES] : (float)(r >> 8) - 8388608.0f;
        r = r * 1664525u + 1013904223u;
        b[i] = i < EDGES * EDGES ? edges[i % EDGES] : (float)(r >> 8) + 1.0f;
    }
    ps_model *m = fixture_model(
        cmp_engine, "graph (a: f32[8192], b: f32[8192]) -> (y) opset 17 {\n  y = Div(a, b)\n}", cmp_device);
    ps_session *s = fixture_session(m, 1);
    ps_tensor *in[2] = { fixture_wrap(cmp_engine, PS_DTYPE_F32, 1, DIMS(N), a),
                         fixture_wrap(cmp_engine, PS_DTYPE_F32, 1, DIMS(N), b) };
    if (ps_session_run(s, (const ps_tensor *const *)in, 2, out, 1, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    const float *y = ps_tensor_data(out[0]);
    for (size_t i = 0; i < N; i++) {
        const float want = a[i] / b[i];
        if (fabsf(want) > 0 && fabsf(want) < FLT_MIN) continue;
        if (isnan(want) ? !isnan(y[i]) : memcmp(&want, &y[i], sizeof want) != 0)
            fail_msg("%.9g / %.9g is %.9g, not %.9g", (double)a[i], (double)b[i], (double)want, (double)y[i]);
    }
    ps_tensor_release(in[0]);
    ps_tensor_release(in[1]);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_control_flow(void **state) {
    check("opencl.pointwise",
          "graph (x: f32[5,40]) -> (y, all) opset 17 {\n  n: i64[] = {4}\n  c: bool[] = {1}\n"
          "  y, all = Loop(n, c, x) {body=graph b (i: i64[], go: bool[], v: f32[5,40]) -> (same, w, out) {\n"
          "    w = Tanh(v)\n    out = Add(w, v)\n    same = Identity(go)\n  }}\n}");
    check(NULL, "graph (x: f32[6,7]) -> (y) opset 17 {\n  t = NonZero(x)\n  u = Cast(t) {to=1}\n  v = Exp(u)\n"
                "  y = ReduceSum(v)\n}");
}

/* ---- sessions ---- */

#define NET                                                                                                            \
    "graph (x: f32[3,6,9,8]) -> (y) opset 17 {\n  w: f32[64,6,3,3] = random(3)\n  v: f32[64,32] = random(4)\n"         \
    "  t = Conv(x, w) {pads=[1,1,1,1]}\n  u = Relu(t)\n  g = GlobalAveragePool(u)\n  f = Flatten(g)\n"                 \
    "  y = MatMul(f, v)\n}"

typedef struct runner {
    ps_model *model;
    cmp_result result;
    bool ok;
} runner;

static void *run_many(void *ctx) {
    runner *r = ctx;
    ps_error err = PS_ERROR_INIT;
    r->ok = true;
    for (int i = 0; i < 5 && r->ok; i++) {
        cmp_release(&r->result);
        r->ok = cmp_run_session(r->model, 1, &r->result, &err);
    }
    return NULL;
}

static void test_sessions_of_one_model(void **state) {
    runner runners[4] = { { 0 } };
    pthread_t threads[4];
    ps_model *m = fixture_model(cmp_engine, NET, "gpu");
    for (int i = 0; i < 4; i++) {
        runners[i].model = m;
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, &runners[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++) {
        assert_true(runners[i].ok);
        assert_int_equal(runners[i].result.bytes[0], runners[0].result.bytes[0]);
        assert_memory_equal(runners[i].result.data[0], runners[0].result.data[0], runners[0].result.bytes[0]);
    }
    for (int i = 0; i < 4; i++)
        cmp_release(&runners[i].result);
    ps_model_release(m);
}

/* Weights are on the device once, whatever the number of sessions; everything is given back. */
static void test_device_memory(void **state) {
    ps_device *device;
    ps_error err = PS_ERROR_INIT;
    cmp_result r;
    assert_int_equal(ps_engine_device(cmp_engine, "gpu", &device, &err), PS_OK);
    const size_t before = atomic_load(&device->held);
    ps_model *m = fixture_model(cmp_engine, NET, "gpu");
    assert_true(cmp_run_session(m, 1, &r, &err)); /* its session is gone again */
    cmp_release(&r);
    const size_t weights = atomic_load(&device->held);
    assert_true(weights - before >= (64 * 54 + 64 * 32) * sizeof(float));
    assert_true(weights - before < 3 * (64 * 56 + 64 * 32) * sizeof(float));
    assert_true(cmp_run_session(m, 1, &r, &err));
    cmp_release(&r);
    assert_int_equal(atomic_load(&device->held), weights);
    ps_model_release(m);
    assert_int_equal(atomic_load(&device->held), before);
}

static void test_no_memory_left_is_an_error(void **state) {
    ps_device *device;
    ps_error err = PS_ERROR_INIT;
    cmp_result r;
    assert_int_equal(ps_engine_device(cmp_engine, "gpu", &device, &err), PS_OK);
    const size_t largest = ocl_of(device)->largest;
    ps_model *m = fixture_model(cmp_engine, NET, "gpu");
    assert_true(cmp_run_session(m, 1, &r, &err));
    cmp_release(&r);
    ocl_of(device)->largest = 4096; /* as a card would say whose memory is cut into pieces */
    assert_false(cmp_run_session(m, 1, &r, &err));
    assert_int_equal(err.status, PS_NO_MEMORY);
    assert_non_null(strstr(err.msg, "gives at most 4096 bytes at once"));
    ocl_of(device)->largest = largest;
    assert_true(cmp_run_session(m, 1, &r, &err)); /* and the next session works */
    cmp_release(&r);
    ps_model_release(m);
}

/* What a run holds of the device's memory. */
static void peak_of(ps_model *m, ps_session *s, ps_device *device, size_t before, size_t *ret) {
    static float data[4 * 16 * 40 * 40];
    ps_error err = PS_ERROR_INIT;
    ps_tensor *in = fixture_wrap(cmp_engine, PS_DTYPE_F32, 4, DIMS(4, 16, 40, 40), data), *out = NULL;
    if (ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    *ret = atomic_load(&device->held) - before;
    ps_tensor_release(in);
}

/* Winograd's filtering takes memory for speed: a device that has too little for the plan then gets the direct product.
 * At once where a convolution alone is too large; for the whole plan where what comes later has left too little. */
static void test_frugal(void **state) {
    static const char net[] =
        "graph (x: f32[4,16,40,40]) -> (y) opset 17 {\n  w: f32[16,16,3,3] = random(3)\n  v: f32[16,700] = random(4)\n"
        "  t = Conv(x, w) {pads=[1,1,1,1]}\n  g = GlobalAveragePool(t)\n  f = Flatten(g)\n  y = MatMul(f, v)\n}";
    ps_device *device;
    ps_error err = PS_ERROR_INIT;
    cmp_result r;
    size_t needed[2];
    assert_int_equal(ps_engine_device(cmp_engine, "gpu", &device, &err), PS_OK);
    const size_t before = atomic_load(&device->held);
    for (int i = 0; i < 2; i++) { /* direct, Winograd's */
        ocl_of(device)->test_winograd = i ? 4 : -1;
        ps_model *m = fixture_model(cmp_engine, net, "gpu");
        ps_session *s = fixture_session(m, 1);
        peak_of(m, s, device, before, &needed[i]);
        ps_session_free(s);
        ps_model_release(m);
    }
    assert_true(needed[1] > needed[0] + 1000000);
    const size_t transformed = 36 * 16 * 16 * sizeof(float),
                 limits[] = { needed[0], needed[1] - 20000, needed[0] + transformed };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        ocl_of(device)->test_winograd = 4;
        atomic_store(&device->limit, before + limits[i]);
        ps_model *m = fixture_model(cmp_engine, net, "gpu");
        if (!cmp_run_session(m, 1, &r, &err)) fail_msg("%zu of %zu bytes: %s", limits[i], needed[1], err.msg);
        cmp_release(&r);
        ps_model_release(m);
    }
    atomic_store(&device->limit, 0);
    ocl_of(device)->test_winograd = 0;
}

static void test_gather_out_of_range(void **state) {
    ps_model *m =
        fixture_model(cmp_engine, "graph (x: f32[700,3], i: i64[4]) -> (y) opset 17 {\n  y = Gather(x, i)\n}", "gpu");
    ps_session *s = fixture_session(m, 1);
    ps_error err = PS_ERROR_INIT;
    float *data = calloc(2100, sizeof *data);
    static const int64_t wrong[] = { 0, 700, 1, 2 }, low[] = { 0, 1, -701, 2 }, right[] = { -700, 699, -1, 0 };
    const int64_t *lists[] = { right, wrong, low, right };
    for (size_t k = 0; k < 4; k++) {
        ps_tensor *in[2], *out = NULL;
        in[0] = fixture_wrap(cmp_engine, PS_DTYPE_F32, 2, DIMS(700, 3), data);
        in[1] = fixture_wrap(cmp_engine, PS_DTYPE_I64, 1, DIMS(4), lists[k]);
        const ps_status status = ps_session_run(s, (const ps_tensor *const *)in, 2, &out, 1, NULL, &err);
        assert_int_equal(status, lists[k] == right ? PS_OK : PS_INVALID);
        if (status != PS_OK) assert_non_null(strstr(err.msg, "an index of a Gather lies outside"));
        for (int i = 0; i < 2; i++)
            ps_tensor_release(in[i]);
    }
    free(data);
    ps_session_free(s);
    ps_model_release(m);
}

/* ---- programs on disk ---- */

static ps_engine *engine_with_cache(const char *dir) {
    ps_engine *e = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    o.cache_dir = dir;
    if (ps_engine_create(&o, &e, &err) != PS_OK) fail_msg("%s", err.msg);
    return e;
}

static __typeof__(clCreateProgramWithSource) *compile;
static int n_compiled;

static cl_program count_compiled(cl_context c, cl_uint n, const char **text, const size_t *sizes, cl_int *code) {
    n_compiled++;
    return compile(c, n, text, sizes, code);
}

static void run_net(ps_engine *e, ps_cache_stats *ret) {
    ps_device *device;
    cmp_result r;
    ps_error err = PS_ERROR_INIT;
    ps_engine *shared = cmp_engine;
    cmp_engine = e;
    n_compiled = 0;
    assert_int_equal(ps_engine_device(e, "gpu", &device, &err), PS_OK);
    compile = ocl_of(device)->api.clCreateProgramWithSource;
    ocl_of(device)->api.clCreateProgramWithSource = count_compiled;
    ps_model *m = fixture_model(e, NET, "gpu");
    assert_true(cmp_run_session(m, 1, &r, &err));
    cmp_release(&r);
    assert_int_equal(ps_cache_get_stats(ocl_of(device)->cache, ret, &err), PS_OK);
    ps_model_release(m);
    cmp_engine = shared;
}

static void test_second_start_compiles_nothing(void **state) {
    char dir[64];
    ps_cache_stats first, second;
    assert_true(ps_test_temp_dir(dir, sizeof dir));
    ps_engine *e = engine_with_cache(dir);
    run_net(e, &first);
    ps_engine_free(e);
    assert_true(first.stored > 0 && first.hits == 0);
    assert_int_equal(n_compiled, first.stored);
    e = engine_with_cache(dir);
    run_net(e, &second);
    ps_engine_free(e);
    assert_int_equal(n_compiled, 0); /* binaries only */
    assert_int_equal(second.stored, 0);
    assert_int_equal(second.misses, 3); /* the tuner: tiles of two products, the way of a convolution */
    assert_int_equal(second.hits, first.stored);
    ps_test_remove_tree(dir);
}

/* ---- advice ---- */

static void put(const char *root, const char *name, const char *text, int mode) {
    char path[512];
    ps_error err = PS_ERROR_INIT;
    snprintf(path, sizeof path, "%s/%s", root, name);
    char *slash = strrchr(path, '/');
    *slash = 0;
    assert_int_equal(ps_dir_create(path, 0700, &err), PS_OK);
    *slash = '/';
    if (ps_file_write(path, text, strlen(text), mode, &err) != PS_OK) fail_msg("%s", err.msg);
}

static void expect_advice(const char *root, bool loader, const char *platforms, size_t gpus, const char *want) {
    ps_alloc_state alloc;
    ps_str advice;
    ps_alloc_state_init(&alloc, NULL);
    ps_str_init(&advice, &alloc);
    assert_int_equal(ocl_advise(&alloc, root, loader, platforms, gpus, &advice, NULL), PS_OK);
    if (want ? !strstr(advice.data, want) : advice.size != 0)
        fail_msg("'%s' is not in '%s'", want ? want : "nothing", advice.data);
    ps_str_release(&advice);
}

static void test_advice(void **state) {
    char dir[64];
    assert_true(ps_test_temp_dir(dir, sizeof dir));
    unsetenv("RUSTICL_ENABLE");
    expect_advice(dir, true, "", 0, "no graphics card: there is no /dev/dri/renderD*");
    put(dir, "dev/dri/renderD128", "", 0600);
    put(dir, "sys/class/drm/renderD128/device/vendor", "0x1002\n", 0600);
    expect_advice(dir, true, "rusticl\n", 1, NULL);
    expect_advice(dir, false, "", 0, "apt install ocl-icd-libopencl1");
    expect_advice(dir, true, "", 0, "an AMD card without an OpenCL driver: apt install mesa-opencl-icd");
    put(dir, "etc/OpenCL/vendors/mesa.icd", "libMesaOpenCL.so.1\n", 0600);
    expect_advice(dir, true, "Clover\n", 0, "the only driver for this AMD card is Mesa's Clover");
    expect_advice(dir, true, "Clover\nrusticl\n", 0, "Mesa's rusticl shows no AMD card");
    expect_advice(dir, true, "Portable Computing Language\n", 0, "an AMD card without an OpenCL driver");
    setenv("RUSTICL_ENABLE", "llvmpipe", 1);
    expect_advice(dir, true, "rusticl\n", 0, "export RUSTICL_ENABLE=radeonsi");
    unsetenv("RUSTICL_ENABLE");
    put(dir, "sys/class/drm/renderD128/device/vendor", "0x10de\n", 0600);
    expect_advice(dir, true, "Portable Computing Language\n", 0, "apt install nvidia-opencl-icd");
    put(dir, "sys/class/drm/renderD128/device/vendor", "0x8086\n", 0600);
    expect_advice(dir, true, "Portable Computing Language\n", 0, "apt install intel-opencl-icd");
    if (geteuid() != 0) { /* root may open everything */
        put(dir, "dev/dri/renderD128", "", 0);
        expect_advice(dir, true, "rusticl\n", 0,
                      "/dev/dri/renderD128 cannot be opened by this user: usermod -aG render");
    }
    ps_test_remove_tree(dir);
}

static void test_device_names(void **state) {
    ps_device *device;
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(ps_engine_device(cmp_engine, "auto", &device, &err), PS_OK);
    assert_string_equal(device->name, "cpu"); /* a GPU is used when it is asked for */
    assert_int_equal(ps_engine_device(cmp_engine, "gpu", &device, &err), PS_OK);
    assert_string_equal(device->name, "opencl:0");
    assert_int_equal(ps_engine_device(cmp_engine, "opencl:0", &device, &err), PS_OK);
    assert_int_equal(ps_engine_device(cmp_engine, "opencl:15", &device, &err), PS_NOT_FOUND);
    assert_non_null(strstr(err.msg, "device 'opencl:15' is not there: this machine has cpu, ref, opencl:0"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_devices_take_turns),
        CMP_TEST(test_fallback_says_why),
        CMP_TEST(test_quotients),
        CMP_TEST(test_control_flow),
        CMP_TEST(test_sessions_of_one_model),
        CMP_TEST(test_device_memory),
        CMP_TEST(test_no_memory_left_is_an_error),
        CMP_TEST(test_frugal),
        CMP_TEST(test_gather_out_of_range),
        CMP_TEST(test_second_start_compiles_nothing),
        CMP_TEST(test_advice),
        CMP_TEST(test_device_names),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
