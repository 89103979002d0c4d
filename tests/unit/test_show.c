/* Values shown in the middle of a run beside the same values as outputs. */
#include "runtime_fixture.h"

#include <math.h>

enum { MOST = 16 };

typedef struct seen {
    ps_engine *engine;
    ps_tensor *copies[MOST]; /* row-major */
    int times[MOST];
    bool strided[MOST];
} seen;

static ps_status see(void *ctx, size_t index, const ps_tensor *value, ps_error *err) {
    seen *s = ctx;
    assert_true(index < MOST);
    s->times[index]++;
    s->strided[index] = value->strides != NULL;
    ps_tensor_release(s->copies[index]);
    return ps_tensor_copy(&s->engine->alloc, value, &s->copies[index], err);
}

static ps_status refuse(void *ctx, size_t index, const ps_tensor *value, ps_error *err) {
    (void)ctx;
    (void)value;
    return PS_FAIL(err, CANCELLED, "enough of %zu", index);
}

/* Runs the text twice: with all outputs given, and with those from `from` on shown. *ret_strided: how many of these lay
 * with their channels innermost. */
static void compare(const char *text, size_t from, int rank, const int64_t *dims, int rounds, size_t *ret_strided) {
    ps_engine *e = fixture_engine(2, NULL);
    ps_error err = PS_ERROR_INIT;
    ps_model *given = fixture_model(e, text, "cpu"), *shown = fixture_model(e, text, "cpu");
    shown->shown_from = from;
    ps_session *a = fixture_session(given, 2), *b = fixture_session(shown, 2);
    static float x[20000];
    const size_t n_out = ps_model_output_count(given);
    ps_tensor *in = fixture_wrap(e, PS_DTYPE_F32, rank, dims, x);
    seen s = { .engine = e };
    assert_true(ps_tensor_count(in) <= 20000);
    for (int round = 0; round < rounds; round++) {
        ps_tensor *want[MOST] = { NULL }, *got[MOST] = { NULL };
        for (int i = 0; i < 20000; i++)
            x[i] = (float)((i * 7919 + round * 31) % 1013) / 100 - 5;
        memset(s.times, 0, sizeof s.times);
        ps_session_show(b, see, &s);
        if (ps_session_run(a, (const ps_tensor *const *)&in, 1, want, n_out, NULL, &err) != PS_OK ||
            ps_session_run(b, (const ps_tensor *const *)&in, 1, got, n_out, NULL, &err) != PS_OK)
            fail_msg("%s", err.msg);
        for (size_t i = 0; i < n_out; i++) {
            assert_int_equal(s.times[i], i >= from);
            assert_true((got[i] == NULL) == (i >= from));
            const ps_tensor *t = i < from ? got[i] : s.copies[i];
            assert_true(t->dtype == want[i]->dtype && ps_shape_equal(&t->shape, &want[i]->shape));
            assert_int_equal(t->bytes, want[i]->bytes);
            if (t->bytes) assert_memory_equal(t->data, want[i]->data, t->bytes);
        }
    }
    *ret_strided = 0;
    for (size_t i = from; i < n_out; i++)
        *ret_strided += s.strided[i];
    if (n_out > from) { /* what the function says ends the run, and the session goes on */
        ps_tensor *got[MOST] = { NULL };
        ps_session_show(b, refuse, NULL);
        assert_int_equal(ps_session_run(b, (const ps_tensor *const *)&in, 1, got, n_out, NULL, &err), PS_CANCELLED);
        assert_non_null(strstr(err.msg, "enough of"));
        ps_session_show(b, NULL, NULL);
        memset(got, 0, sizeof got);
        assert_int_equal(ps_session_run(b, (const ps_tensor *const *)&in, 1, got, n_out, NULL, &err), PS_OK);
    }
    for (int i = 0; i < MOST; i++)
        ps_tensor_release(s.copies[i]);
    ps_tensor_release(in);
    ps_session_free(a);
    ps_session_free(b);
    ps_model_release(given);
    ps_model_release(shown);
    ps_engine_free(e);
}

/* Values that the next step overwrites or whose memory it takes, one asked for twice, the input, a constant, a view,
 * one that nothing else reads. */
static void shows_what_outputs_would_be(void **unused) {
    static const char net[] = "graph (x: f32[n,16,12,10]) -> (y, x, a, r, r, v, k, d, p, q) opset 17 {\n"
                              "  k: f32[2,1] = {3, 4}\n"
                              "  w: f32[32,16,3,3] = random(1)\n"
                              "  u: f32[32,1,3,3] = random(2)\n"
                              "  a = Conv(x, w) {pads=[1,1,1,1]}\n"
                              "  r = Relu(a)\n"
                              "  d = Conv(r, u) {group=32, pads=[1,1,1,1]}\n"
                              "  p = Pad(d, i64[8]{0,0,1,0,0,0,0,2})\n"
                              "  q = Neg(p)\n"
                              "  s = Add(r, d)\n"
                              "  v = Reshape(s, i64[3]{0,32,-1})\n"
                              "  y = ReduceMean(v) {axes=[2], keepdims=0}\n"
                              "}\n";
    size_t strided;
    (void)unused;
    for (size_t from = 0; from <= 10; from++) {
        compare(net, from, 4, DIMS(3, 16, 12, 10), 3, &strided);
#ifdef PS_WITH_DNNL
        if (from <= 2) assert_true(strided >= 4); /* else the way without copies was not taken */
#endif
    }
    compare(net, 1, 4, DIMS(0, 16, 12, 10), 1, &strided);
}

/* A batch that would else run in slices. */
static void shows_a_batch_whole(void **unused) {
    size_t strided;
    (void)unused;
    compare("graph (x: f32[n,3,20,20]) -> (y, a) opset 17 {\n  w: f32[256,3,3,3] = random(1)\n"
            "  a = Conv(x, w) {pads=[1,1,1,1]}\n  b = Relu(a)\n  y = GlobalAveragePool(b)\n}",
            1, 4, DIMS(16, 3, 20, 20), 2, &strided);
}

/* A program of several parts shows its values when it is through. */
static void shows_values_of_any_program(void **unused) {
    size_t strided;
    (void)unused;
    compare("graph (x: f32[n,6]) -> (y, a, i, z) opset 17 {\n  a = Add(x, f32{1})\n  i = NonZero(a)\n"
            "  c = Cast(i) {to=1}\n  z = Neg(c)\n  y = ReduceSum(z) {keepdims=0}\n}",
            1, 2, DIMS(5, 6), 3, &strided);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_what_outputs_would_be),
        cmocka_unit_test(shows_a_batch_whole),
        cmocka_unit_test(shows_values_of_any_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
