/* Batches that run in slices: the answers are those of the rows alone, the memory is that of a slice; what is not row
 * by row, or fits at once, is left whole. */
#include <math.h>
#include <stdio.h>

#include "runtime_fixture.h"

enum { BATCH = 8, CHANNELS = 24, SIDE = 128, ROW = CHANNELS * SIDE * SIDE };

static ps_engine *engine;
static float *input;

static int setup(void **state) {
    (void)state;
    uint32_t seed = 7;
    engine = fixture_engine(1, NULL);
    input = malloc(sizeof *input * BATCH * ROW);
    for (size_t i = 0; input && i < (size_t)BATCH * ROW; i++) {
        seed = seed * 1664525u + 1013904223u;
        input[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
    }
    return input ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    free(input);
    ps_engine_free(engine);
    return 0;
}

/* 1.5 MB a row, and two such values live at a time: eight rows are no cache's, two are. */
static ps_session *net(const char *end, const char *device, ps_model **ret) {
    char text[1024];
    snprintf(text, sizeof text,
             "graph g (x: f32[n,24,128,128]) -> (y) opset 17 {\n"
             "  a = MaxPool(x) {kernel_shape=[3,3], pads=[1,1,1,1]}\n"
             "  b = AveragePool(a) {kernel_shape=[3,3], pads=[1,1,1,1]}\n"
             "  %s\n}\n",
             end);
    *ret = fixture_model(engine, text, device);
    return fixture_session(*ret, 1);
}

static ps_tensor *wrap(int64_t rows, float *data) {
    return fixture_wrap(engine, PS_DTYPE_F32, 4, DIMS(rows, CHANNELS, SIDE, SIDE), data);
}

/* The output of rows from `first` on, in memory of the session. */
static const ps_tensor *run(ps_session *s, int64_t first, int64_t rows) {
    ps_error err = PS_ERROR_INIT;
    ps_tensor *out = NULL, *in = wrap(rows, input + first * ROW);
    if (ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_tensor_release(in);
    return out;
}

static size_t arena(ps_session *s) {
    ps_session_stats stats = { 0 };
    assert_int_equal(ps_session_statistics(s, &stats), PS_OK);
    return stats.arena_bytes;
}

static bool is_sliced(const char *end) {
    ps_model *m;
    ps_session *s = net(end, "cpu", &m);
    (void)run(s, 0, BATCH);
    bool sliced = arena(s) < (size_t)BATCH * ROW * sizeof(float);
    ps_session_free(s);
    ps_model_release(m);
    return sliced;
}

static const char *const by_rows[] = {
    "y = ReduceMean(b) {axes=[2,3], keepdims=0}",
    "y = Transpose(b) {perm=[0,2,3,1]}",
    "y = Add(b, a)",
    "y = Softmax(b) {axis=-1}",
    "y = Concat(b, a) {axis=1}",
    "s = Shape(b) {start=0, end=1}\n  m = Constant() {value_ints=[-1]}\n  r = Concat(s, m) {axis=0}\n"
    "  y = Reshape(b, r)",
};

/* Each row of a batch gets the same answer as alone. f32 in the same order: what differs is where vectors begin. */
static void check_rows(const char *end, const char *device) {
    ps_model *m, *alone_model;
    ps_session *s = net(end, device, &m), *alone = net(end, device, &alone_model);
    const ps_tensor *all = run(s, 0, BATCH);
    size_t row = all->bytes / sizeof(float) / BATCH;
    assert_int_equal(all->shape.dims[0], BATCH);
    for (int64_t i = 0; i < BATCH; i++) {
        const float *got = (const float *)all->data + (size_t)i * row, *want = run(alone, i, 1)->data;
        for (size_t k = 0; k < row; k++) {
            if (fabsf(got[k] - want[k]) <= 1e-6f) continue;
            fail_msg("%s: row %d, %zu: %g, alone %g", end, (int)i, k, (double)got[k], (double)want[k]);
        }
    }
    ps_session_free(s);
    ps_session_free(alone);
    ps_model_release(m);
    ps_model_release(alone_model);
}

static void test_rows_as_alone(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof by_rows / sizeof *by_rows; i++) {
        check_rows(by_rows[i], "cpu");
        if (!is_sliced(by_rows[i])) fail_msg("%s: is not sliced", by_rows[i]);
    }
    check_rows(by_rows[0], "ref");
}

/* What mixes rows, or computes with their number. */
static void test_left_whole(void **state) {
    (void)state;
    static const char *const ends[] = {
        "y = ReduceMean(b) {axes=[0], keepdims=1}",
        "y = Softmax(b) {axis=0}",
        "y = Softmax(b) {axis=-4}",
        "y = Transpose(b) {perm=[1,0,2,3]}",
        "y = Concat(b, a) {axis=0}",
        "s = Size(b)\n  f = Cast(s) {to=1}\n  y = Div(b, f)",
        "s = Shape(b) {start=0, end=1}\n  f = Cast(s) {to=1}\n  y = Mul(b, f)",
        "m = ReduceMean(b) {axes=[0], keepdims=1}\n  y = Sub(b, m)",
        "v = Constant() {value_ints=[0,128,-1]}\n  t = Reshape(b, v)\n  w: f32[1,4,3072] = random(1)\n"
        "  r: f32[1,4,1] = random(2)\n  _, y = LSTM(t, w, r) {hidden_size=1}", /* whose first output is left out */
    };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (is_sliced(ends[i])) fail_msg("%s: is sliced", ends[i]);
}

/* An output that the caller gives, and inputs that move from run to run. */
static void test_ends_of_the_caller(void **state) {
    (void)state;
    ps_model *m;
    ps_error err = PS_ERROR_INIT;
    ps_session *s = net(by_rows[2], "cpu", &m);
    float *memory = malloc(sizeof *memory * BATCH * ROW);
    assert_non_null(memory);
    for (int64_t rows = BATCH; rows >= BATCH / 2; rows -= BATCH / 2) {
        ps_tensor *in = wrap(rows, input + (BATCH - rows) * ROW), *out = wrap(rows, memory);
        if (ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
        assert_ptr_equal(out->data, memory);
        ps_tensor_release(in);
        ps_tensor_release(out);
        const ps_tensor *want = run(s, BATCH - 1, 1);
        for (size_t k = 0; k < ROW; k++)
            assert_true(fabsf(memory[(size_t)(rows - 1) * ROW + k] - ((const float *)want->data)[k]) <= 1e-6f);
    }
    free(memory);
    ps_session_free(s);
    ps_model_release(m);
}

static void test_a_steady_run_allocates_nothing(void **state) {
    (void)state;
    ps_model *m;
    ps_session *s = net(by_rows[0], "cpu", &m);
    ps_tensor *in = wrap(BATCH, input);
    int64_t before = 0;
    for (int i = 0; i < 3; i++) {
        ps_tensor *out = NULL;
        before = (int64_t)atomic_load(&engine->alloc.calls);
        assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, NULL), PS_OK);
    }
    assert_int_equal((int64_t)atomic_load(&engine->alloc.calls), before);
    ps_tensor_release(in);
    ps_session_free(s);
    ps_model_release(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_as_alone),
        cmocka_unit_test(test_left_whole),
        cmocka_unit_test(test_ends_of_the_caller),
        cmocka_unit_test(test_a_steady_run_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
