/* A device that has no memory left, refuses, or is lost: each is an error of the run that met it, other sessions go on,
 * and a model that is loaded again works. Failures are made by functions in the place of OpenCL's (ocl_device.api). */
#include "opencl_compare.h"

#define NET                                                                                                            \
    "graph (x: f32[3,6,9,8]) -> (y) opset 17 {\n  w: f32[64,6,3,3] = random(3)\n  v: f32[64,32] = random(4)\n"         \
    "  k: i64[] = {1}\n  t = Conv(x, w) {pads=[1,1,1,1]}\n  u = Relu(t)\n  g = GlobalAveragePool(u)\n"                 \
    "  f = Flatten(g)\n  c = CumSum(f, k)\n  y = MatMul(c, v)\n}"

static ocl_api real;     /* as the library has them */
static int calls, at;    /* of a function that fails; the call that does, from 0 on; -1: none */
static cl_int with;      /* this code */
static bool gone, drops; /* everything fails; the call that fails takes the device with it */

static bool fails(void) {
    if (gone) return true;
    if (calls++ != at) return false;
    gone = drops;
    return true;
}

static cl_mem make_buffer(cl_context c, cl_mem_flags f, size_t n, void *host, cl_int *ret) {
    if (!fails()) return real.clCreateBuffer(c, f, n, host, ret);
    *ret = with;
    return NULL;
}

static cl_int launch(cl_command_queue q, cl_kernel k, cl_uint n, const size_t *from, const size_t *global,
                     const size_t *local, cl_uint n_wait, const cl_event *wait, cl_event *event) {
    return fails() ? with : real.clEnqueueNDRangeKernel(q, k, n, from, global, local, n_wait, wait, event);
}

static cl_int write_buffer(cl_command_queue q, cl_mem m, cl_bool wait, size_t from, size_t n, const void *data,
                           cl_uint n_wait, const cl_event *waits, cl_event *event) {
    return fails() ? with : real.clEnqueueWriteBuffer(q, m, wait, from, n, data, n_wait, waits, event);
}

static cl_int read_buffer(cl_command_queue q, cl_mem m, cl_bool wait, size_t from, size_t n, void *data, cl_uint n_wait,
                          const cl_event *waits, cl_event *event) {
    return fails() ? with : real.clEnqueueReadBuffer(q, m, wait, from, n, data, n_wait, waits, event);
}

static cl_int fill_buffer(cl_command_queue q, cl_mem m, const void *pattern, size_t size, size_t from, size_t n,
                          cl_uint n_wait, const cl_event *waits, cl_event *event) {
    return gone ? CL_OUT_OF_RESOURCES : real.clEnqueueFillBuffer(q, m, pattern, size, from, n, n_wait, waits, event);
}

static cl_int finish(cl_command_queue q) {
    return fails() ? with : real.clFinish(q);
}

static cl_int build(cl_program p, cl_uint n, const cl_device_id *ids, const char *options,
                    void(CL_CALLBACK *done)(cl_program, void *), void *ctx) {
    return fails() ? with : real.clBuildProgram(p, n, ids, options, done, ctx);
}

static void put_back(ocl_device *d) {
    d->api = real;
    gone = drops = false;
    at = -1;
}

static void replace(ocl_device *d, const char *name) {
    real = d->api;
    calls = 0;
    gone = drops = false;
    if (strcmp(name, "clCreateBuffer") == 0) d->api.clCreateBuffer = make_buffer;
    if (strcmp(name, "clEnqueueNDRangeKernel") == 0) d->api.clEnqueueNDRangeKernel = launch;
    if (strcmp(name, "clEnqueueWriteBuffer") == 0) d->api.clEnqueueWriteBuffer = write_buffer;
    if (strcmp(name, "clEnqueueReadBuffer") == 0) d->api.clEnqueueReadBuffer = read_buffer;
    if (strcmp(name, "clFinish") == 0) d->api.clFinish = finish;
    if (strcmp(name, "clBuildProgram") == 0) d->api.clBuildProgram = build;
    d->api.clEnqueueFillBuffer = fill_buffer;
}

static ocl_device *device(void) {
    ps_device *d = NULL;
    ps_error err = PS_ERROR_INIT;
    if (ps_engine_device(cmp_engine, "gpu", &d, &err) != PS_OK) fail_msg("%s", err.msg);
    return ocl_of(d);
}

/* ---- one model, several sessions ---- */

typedef struct user {
    ps_session *session;
    ps_tensor *in;
    float data[3 * 6 * 9 * 8];
} user;

static void start(user *u, ps_model *m) {
    for (size_t i = 0; i < sizeof u->data / sizeof *u->data; i++)
        u->data[i] = (float)(i % 17) / 8 - 1;
    u->session = fixture_session(m, 1);
    u->in = fixture_wrap(cmp_engine, PS_DTYPE_F32, 4, DIMS(3, 6, 9, 8), u->data);
}

static ps_status use(user *u, float result[96], ps_error *err) {
    ps_tensor *out = NULL;
    PS_TRY(ps_session_run(u->session, (const ps_tensor *const *)&u->in, 1, &out, 1, NULL, err));
    assert_int_equal(out->bytes, 96 * sizeof(float));
    memcpy(result, out->data, out->bytes);
    return PS_OK;
}

static void stop(user *u) {
    ps_session_free(u->session);
    ps_tensor_release(u->in);
}

static void must_give(user *u, const float want[96]) {
    float got[96];
    ps_error err = PS_ERROR_INIT;
    if (use(u, got, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_memory_equal(got, want, sizeof got);
}

static void first_result(ps_model *m, float ret[96]) {
    user u;
    ps_error err = PS_ERROR_INIT;
    start(&u, m);
    if (use(&u, ret, &err) != PS_OK) fail_msg("%s", err.msg);
    stop(&u);
}

/* ---- no memory ---- */

/* Call number `at` of a function fails, while a new model is planned and run: for each number, until a run meets none.
 * The same session then works, and so does one from before. */
static void each_call_fails(const char *function, cl_int code, ps_status want) {
    float result[96];
    ocl_device *d = device();
    d->test_place = -1; /* where a card cannot pack weights, the host does, and nothing has failed */
    ps_model *old = fixture_model(cmp_engine, NET, "gpu");
    user before;
    first_result(old, result);
    start(&before, old);
    must_give(&before, result);
    const size_t held = atomic_load(&d->base.held);
    int failed = 0;
    for (int n = 0;; n++) {
        float got[96];
        ps_error err = PS_ERROR_INIT;
        user u;
        ps_model *m = fixture_model(cmp_engine, NET, "gpu");
        u.session = NULL;
        start(&u, m);
        replace(d, function);
        at = n;
        with = code;
        const ps_status status = use(&u, got, &err);
        const bool met = calls > n;
        put_back(d);
        if (met) {
            failed++;
            assert_int_equal(status, want);
            assert_non_null(strstr(err.msg, want == PS_NO_MEMORY ? "out of memory" : "opencl:0"));
        } else {
            assert_int_equal(status, PS_OK);
        }
        must_give(&u, result); /* the very session that failed */
        must_give(&before, result);
        stop(&u);
        ps_model_release(m);
        assert_int_equal(atomic_load(&d->base.held), held);
        assert_false(atomic_load(&d->lost));
        if (!met) break;
    }
    assert_true(failed > 0);
    stop(&before);
    ps_model_release(old);
}

static void test_no_memory(void **state) {
    each_call_fails("clCreateBuffer", CL_MEM_OBJECT_ALLOCATION_FAILURE, PS_NO_MEMORY);
    each_call_fails("clEnqueueNDRangeKernel", CL_OUT_OF_RESOURCES, PS_NO_MEMORY);
    each_call_fails("clEnqueueWriteBuffer", CL_MEM_OBJECT_ALLOCATION_FAILURE, PS_NO_MEMORY);
    each_call_fails("clEnqueueReadBuffer", CL_OUT_OF_HOST_MEMORY, PS_NO_MEMORY);
}

static void test_refusals(void **state) {
    each_call_fails("clEnqueueNDRangeKernel", CL_INVALID_WORK_GROUP_SIZE, PS_INTERNAL);
}

/* Programs live as long as the device, so each failure needs an engine that has compiled none. */
static void test_compiler_without_memory(void **state) {
    ps_engine *shared = cmp_engine;
    for (int n = 0; n < 3; n++) {
        float got[96];
        ps_error err = PS_ERROR_INIT;
        ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
        user u;
        o.cache_dir = "";
        assert_int_equal(ps_engine_create(&o, &cmp_engine, &err), PS_OK);
        ps_model *m = fixture_model(cmp_engine, NET, "gpu");
        ocl_device *d = device();
        d->test_place = -1;
        start(&u, m);
        replace(d, "clBuildProgram");
        at = n;
        with = CL_OUT_OF_HOST_MEMORY;
        assert_int_equal(use(&u, got, &err), PS_NO_MEMORY);
        put_back(d);
        assert_int_equal(use(&u, got, &err), PS_OK);
        stop(&u);
        ps_model_release(m);
        ps_engine_free(cmp_engine);
    }
    cmp_engine = shared;
}

/* ---- loss ---- */

/* From call `n` of a function on nothing works: that run and all others of the device's models tell so, also when the
 * driver is well again, for what was on the device is gone. The CPU's models do not notice, and a model that is loaded
 * again works beside the old one. */
static void lose(const char *function, int n, cl_int code) {
    float result[96], got[96];
    ps_error err = PS_ERROR_INIT;
    user a, b, c, host;
    ps_model *old = fixture_model(cmp_engine, NET, "gpu"), *cpu = fixture_model(cmp_engine, NET, "cpu");
    ocl_device *d = device();
    first_result(old, result);
    start(&a, old);
    start(&b, old);
    start(&host, cpu);
    must_give(&a, result);
    replace(d, function);
    at = n;
    with = code;
    drops = true;
    assert_int_equal(use(&a, got, &err), PS_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "device 'opencl:0' was lost"));
    assert_non_null(strstr(err.msg, "load the model again"));
    put_back(d);
    assert_int_equal(use(&a, got, &err), PS_UNAVAILABLE);
    assert_int_equal(use(&b, got, &err), PS_UNAVAILABLE);
    assert_int_equal(use(&host, got, &err), PS_OK);
    size_t held, limit; /* who only looks at its memory does not open it anew */
    assert_int_equal(ps_engine_device_memory(cmp_engine, "gpu", &held, &limit, &err), PS_OK);
    assert_true(held > 0 && held == atomic_load(&d->base.held));
    ps_model *again = fixture_model(cmp_engine, NET, "gpu");
    assert_ptr_not_equal(device(), d);
    assert_string_equal(device()->base.name, "opencl:0");
    start(&c, again);
    must_give(&c, result);
    assert_int_equal(use(&b, got, &err), PS_UNAVAILABLE);
    stop(&a);
    stop(&b);
    ps_model_release(old); /* while another is in use */
    must_give(&c, result);
    stop(&c);
    stop(&host);
    ps_model_release(again);
    ps_model_release(cpu);
    assert_int_equal(atomic_load(&d->base.held), 0);
    assert_int_equal(atomic_load(&device()->base.held), 0);
}

static void test_loss(void **state) {
    lose("clFinish", 0, CL_OUT_OF_RESOURCES); /* what drivers say of a reset card */
    lose("clFinish", 1, CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST);
    lose("clFinish", 0, -9999); /* a code of a vendor's own */
    lose("clEnqueueNDRangeKernel", 1, CL_DEVICE_NOT_AVAILABLE);
    lose("clEnqueueWriteBuffer", 0, CL_INVALID_COMMAND_QUEUE);
    lose("clEnqueueReadBuffer", 0, CL_INVALID_CONTEXT);
}

/* While a model is planned: it cannot be, and nothing falls back to the CPU in silence. */
static void test_loss_while_loading(void **state) {
    for (int n = 0; n < 3; n++) {
        float got[96], result[96];
        ps_error err = PS_ERROR_INIT;
        user u;
        ps_model *m = fixture_model(cmp_engine, NET, "gpu");
        ocl_device *d = device();
        start(&u, m);
        replace(d, n == 2 ? "clCreateBuffer" : "clEnqueueWriteBuffer");
        at = n;
        with = CL_DEVICE_NOT_AVAILABLE;
        drops = true;
        assert_int_equal(use(&u, got, &err), PS_UNAVAILABLE);
        put_back(d);
        assert_int_equal(use(&u, got, &err), PS_UNAVAILABLE);
        stop(&u);
        ps_model_release(m);
        m = fixture_model(cmp_engine, NET, "gpu");
        first_result(m, result);
        ps_model_release(m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_no_memory), CMP_TEST(test_refusals),           CMP_TEST(test_compiler_without_memory),
        CMP_TEST(test_loss),      CMP_TEST(test_loss_while_loading),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
