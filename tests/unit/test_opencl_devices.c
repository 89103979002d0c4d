/* A model on several devices: sessions on each, what they hold, and what becomes of them when one is lost. */
#include "opencl_lose.h"

#include "test_temp_dir.h"

#define NET                                                                                                            \
    "graph (x: f32[3,6,9,8]) -> (y) opset 17 {\n  w: f32[64,6,3,3] = random(3)\n  v: f32[64,32] = random(4)\n"         \
    "  t = Conv(x, w) {pads=[1,1,1,1]}\n  u = Relu(t)\n  g = GlobalAveragePool(u)\n  f = Flatten(g)\n"                 \
    "  y = MatMul(f, v)\n}"

enum { IN = 3 * 6 * 9 * 8, OUT = 3 * 32 };

static ps_status open_on(ps_model *m, const char *device, ps_session **ret, ps_error *err) {
    ps_session_options o = PS_SESSION_OPTIONS_INIT;
    o.device = device;
    o.threads = 1;
    return ps_session_create(m, &o, ret, err);
}

static ps_session *must_open(ps_model *m, const char *device) {
    ps_session *s = NULL;
    ps_error err = PS_ERROR_INIT;
    if (open_on(m, device, &s, &err) != PS_OK) fail_msg("%s", err.msg);
    return s;
}

static ps_status run(ps_session *s, float ret[OUT], ps_error *err) {
    float data[IN];
    ps_tensor *out = NULL;
    for (int i = 0; i < IN; i++)
        data[i] = (float)(i % 17) / 8 - 1;
    ps_tensor *in = fixture_wrap(cmp_engine, PS_DTYPE_F32, 4, DIMS(3, 6, 9, 8), data);
    ps_status status = ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, err);
    if (status == PS_OK) memcpy(ret, out->data, OUT * sizeof *ret);
    ps_tensor_release(in);
    return status;
}

static void must_run(ps_session *s, float ret[OUT]) {
    ps_error err = PS_ERROR_INIT;
    if (run(s, ret, &err) != PS_OK) fail_msg("%s", err.msg);
}

static void must_give(ps_session *s, const float want[OUT]) {
    float got[OUT];
    must_run(s, got);
    assert_memory_equal(got, want, sizeof got);
}

static ps_model_device_info device_of(ps_model *m, size_t index) {
    ps_model_device_info info = { .size = sizeof info };
    assert_int_equal(ps_model_device(m, index, &info), PS_OK);
    return info;
}

static size_t held(const char *device) {
    size_t bytes, limit;
    assert_int_equal(ps_engine_device_memory(cmp_engine, device, &bytes, &limit, NULL), PS_OK);
    return bytes;
}

/* Nothing else is there but for tables of plans' own. */
static void must_hold(ps_model *m, size_t index) {
    const ps_model_device_info info = device_of(m, index);
    const size_t all = held(info.name);
    assert_true(info.memory <= all && all - info.memory < 4096);
}

static const char *step_device(ps_session *s) {
    ps_step_info step = { .size = sizeof step };
    for (size_t i = 0; ps_session_step(s, i, &step) == PS_OK; i++)
        if (strcmp(step.op, "MatMul") == 0) return step.device;
    return "none";
}

/* One model, a session on each device, at once. */
static void test_sessions(void **state) {
    float first[OUT];
    ps_error err = PS_ERROR_INIT;
    ps_model_device_info info = { .size = sizeof info };
    ps_model *m = fixture_model(cmp_engine, NET, "opencl:0,opencl:1");
    ps_session *by_default = must_open(m, NULL), *a = must_open(m, "opencl:0"), *b = must_open(m, "opencl:1"), *none;
    must_run(a, first);
    must_give(b, first); /* two of one kind */
    must_give(by_default, first);
    assert_string_equal(step_device(by_default), "opencl:0");
    assert_string_equal(step_device(a), "opencl:0");
    assert_string_equal(step_device(b), "opencl:1");
    assert_string_equal(device_of(m, 0).name, "opencl:0");
    assert_string_equal(device_of(m, 1).name, "opencl:1");
    assert_int_equal(ps_model_device(m, 2, &info), PS_NOT_FOUND);
    for (size_t i = 0; i < 2; i++) {
        assert_false(device_of(m, i).lost);
        must_hold(m, i);
        assert_true(device_of(m, i).memory >= (64 * 54 + 64 * 32) * sizeof(float));
    }
    assert_int_equal(open_on(m, "cpu", &none, &err), PS_NOT_FOUND);
    assert_string_equal(err.msg, "the model is not on device 'cpu': it is on opencl:0, opencl:1");
    ps_model_release(m); /* sessions hold it */
    must_give(b, first);
    ps_session_free(b);
    assert_int_equal(ps_session_lost(a), false);
    must_give(a, first);
    ps_session_free(a);
    ps_session_free(by_default);
    assert_int_equal(held("opencl:0"), 0);
    assert_int_equal(held("opencl:1"), 0);
}

static void test_lists(void **state) {
    static const struct {
        const char *list, *says;
        ps_status status;
    } wrong[] = { { "opencl:0,opencl:0", "device 'opencl:0' stands twice in the list", PS_INVALID },
                  { "gpu,opencl:0", "devices 'gpu' and 'opencl:0' are the same one", PS_INVALID },
                  { "opencl:0,", "a name in the list of devices is empty", PS_INVALID },
                  { "opencl:1,opencl:7", "device 'opencl:7' is not there", PS_NOT_FOUND },
                  { "0,1,2,3,4,5,6,7,8,9,a,b,c,d,e,f,g", "more than 16 names", PS_LIMIT } };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ps_model *m;
        ps_error err = PS_ERROR_INIT;
        assert_int_equal(fixture_model_status(cmp_engine, NET, wrong[i].list, &m, &err), wrong[i].status);
        if (!strstr(err.msg, wrong[i].says)) fail_msg("'%s' does not say '%s'", err.msg, wrong[i].says);
    }
    assert_int_equal(held("opencl:0"), 0);
}

/* The processor beside a card: the same answers but for the order of sums, 2e-5 as in cpu_compare.h. */
static void test_with_the_processor(void **state) {
    float card[OUT], host[OUT];
    ps_model *m = fixture_model(cmp_engine, NET, "cpu,gpu");
    ps_session *a = must_open(m, "cpu"), *b = must_open(m, "gpu"), *c = must_open(m, "opencl:0");
    must_run(a, host);
    must_run(b, card);
    must_give(c, card);
    assert_string_equal(step_device(a), "cpu");
    assert_string_equal(step_device(b), "opencl:0");
    for (int i = 0; i < OUT; i++)
        assert_true(fabsf(card[i] - host[i]) <= 2e-5f * (1 + fabsf(host[i])));
    assert_int_equal(device_of(m, 0).memory, 0);
    ps_session_free(a);
    ps_session_free(b);
    ps_session_free(c);
    ps_model_release(m);
}

/* What all of it holds counts as the model's, and a limit is one for all. */
static void test_memory_is_one(void **state) {
    ps_graph *g;
    ps_error err = PS_ERROR_INIT;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    ps_model *one = fixture_model(cmp_engine, NET, "opencl:0"),
             *two = fixture_model(cmp_engine, NET, "opencl:0,opencl:1");
    const size_t single = ps_model_memory(one, NULL), both = ps_model_memory(two, NULL);
    assert_true(both > single + single / 4); /* weights are shared by models of one graph */
    ps_model_release(one);
    ps_model_release(two);
    assert_int_equal(ps_graph_parse(&cmp_engine->alloc, NET, &g, &err), PS_OK);
    o.device = "opencl:0,opencl:1";
    o.memory_limit = single + single / 8;
    assert_int_equal(ps_model_from_graph(cmp_engine, g, &o, &two, &err), PS_NO_MEMORY);
}

/* opencl:1, number `at` of the model's, is lost: its sessions say so, that on the other one does not notice, and once
 * it is opened again there are sessions there again. */
static void lose_one(ps_model *m, size_t at) {
    float first[OUT], got[OUT];
    ps_error err = PS_ERROR_INIT;
    ocl_device *lost = lose_prepare(cmp_engine, 1);
    ps_session *a = must_open(m, "opencl:0"), *b = must_open(m, "opencl:1"), *c = must_open(m, "opencl:1"), *again;
    must_run(a, first);
    must_give(b, first);
    atomic_store(&lose_gone[1], 1);
    assert_int_equal(run(b, got, &err), PS_UNAVAILABLE);
    assert_true(ps_session_lost(b) && ps_session_lost(c) && !ps_session_lost(a));
    assert_true(device_of(m, at).lost && !device_of(m, 1 - at).lost);
    must_give(a, first);
    atomic_store(&lose_gone[1], 0);
    assert_int_equal(run(c, got, &err), PS_UNAVAILABLE); /* what was there is gone */
    assert_int_equal(open_on(m, "opencl:1", &again, &err), PS_UNAVAILABLE);
    atomic_store(&lose_refusals, 1);
    assert_int_equal(ps_model_reopen(m, NULL, &err), PS_UNAVAILABLE);
    assert_true(device_of(m, at).lost);
    assert_int_equal(ps_model_reopen(m, "cpu", &err), PS_NOT_FOUND);
    err = (ps_error)PS_ERROR_INIT;
    if (ps_model_reopen(m, "opencl:1", &err) != PS_OK) fail_msg("%s", err.msg);
    assert_false(device_of(m, at).lost);
    assert_int_equal(ps_model_reopen(m, NULL, &err), PS_OK); /* nothing to do */
    again = must_open(m, "opencl:1");
    must_give(again, first);
    assert_string_equal(step_device(again), "opencl:1");
    must_hold(m, at);
    assert_int_equal(run(b, got, &err), PS_UNAVAILABLE);
    ps_session_free(b);
    must_give(again, first);
    must_give(a, first);
    ps_session_free(again);
    ps_session_free(c);
    ps_session_free(a);
    if (at) assert_int_equal(atomic_load(&lost->base.held), 0); /* the first device's model is the caller's */
}

static void test_loss(void **state) {
    ps_model *m = fixture_model(cmp_engine, NET, "opencl:0,opencl:1");
    lose_one(m, 1);
    lose_one(m, 1); /* and once more */
    ps_model_release(m);
    assert_int_equal(held("opencl:0"), 0);
    assert_int_equal(held("opencl:1"), 0);
}

/* The first device is whose model the caller has. */
static void test_loss_of_the_first(void **state) {
    ps_model *m = fixture_model(cmp_engine, NET, "opencl:1,opencl:0");
    lose_one(m, 0);
    ps_model_release(m);
    assert_int_equal(held("opencl:1"), 0);
}

/* As above with a file, which is read again, and from memory, which is not there any more. */
static void test_loss_of_files(void **state) {
    char folder[256], path[300];
    assert_true(ps_test_temp_dir(folder, sizeof folder));
    ps_snprintf(path, sizeof path, "%s/model.onnx", folder);
    onnx_write_model(path, 3);
    for (int from_memory = 0; from_memory < 2; from_memory++) {
        ps_model *m = NULL;
        ps_error err = PS_ERROR_INIT;
        ps_model_options o = PS_MODEL_OPTIONS_INIT;
        char *bytes = NULL;
        size_t size = 0;
        o.device = "opencl:0,opencl:1";
        assert_int_equal(ps_file_read(&cmp_engine->alloc, path, 1 << 20, &bytes, &size, &err), PS_OK);
        ps_status status = from_memory ? ps_model_load_memory(cmp_engine, bytes, size, &o, &m, &err)
                                       : ps_model_load(cmp_engine, path, &o, &m, &err);
        ps_free(&cmp_engine->alloc, bytes);
        if (status != PS_OK) fail_msg("%s", err.msg);
        float x[16];
        for (int i = 0; i < 16; i++)
            x[i] = (float)(i - 7);
        ps_tensor *in = fixture_wrap(cmp_engine, PS_DTYPE_F32, 2, DIMS(2, 8), x);
        (void)lose_prepare(cmp_engine, 0);
        for (int turn = 0; turn < 3; turn++) {
            ps_session *s = must_open(m, turn % 2 ? "opencl:1" : "opencl:0");
            ps_tensor *out = NULL;
            atomic_store(&lose_gone[0], turn == 1);
            if (ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, &err) != PS_OK)
                fail_msg("%s", err.msg);
            for (int i = 0; i < 16; i++)
                assert_true(((const float *)out->data)[i] == (x[i] > 0 ? 3 * x[i] : 0));
            ps_session_free(s);
            if (turn != 1) continue;
            s = must_open(m, "opencl:0");
            out = NULL;
            assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, &err), PS_UNAVAILABLE);
            ps_session_free(s);
            atomic_store(&lose_gone[0], 0);
            err = (ps_error)PS_ERROR_INIT;
            if (ps_model_reopen(m, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
        }
        ps_tensor_release(in);
        ps_model_release(m);
    }
    ps_test_remove_tree(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_sessions),      CMP_TEST(test_lists), CMP_TEST(test_with_the_processor),
        CMP_TEST(test_memory_is_one), CMP_TEST(test_loss),  CMP_TEST(test_loss_of_the_first),
        CMP_TEST(test_loss_of_files),
    };
    lose_want_devices();
    return lose_two_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
