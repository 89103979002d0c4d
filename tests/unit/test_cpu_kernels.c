/* The CPU device against the reference kernels, from graph text: epilogues, layouts, threads. */
#include "runtime_fixture.h"

#include <math.h>
#include <stdio.h>

static ps_engine *engine;

static int setup(void **state)
{
    engine = fixture_engine(2, NULL);
    return 0;
}

static int teardown(void **state)
{
    ps_engine_free(engine);
    return 0;
}

static void fill_random(float *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = ((float)(seed >> 8) / (float)(1 << 24) - 0.5f) * 6;
    }
}

#define MAX_IN 4
#define MAX_ELEMENTS 65536

typedef struct input {
    int rank;
    int64_t dims[5];
} input;

/* Runs text on one device; the first output's elements and count. */
static size_t run_on(const char *device, int threads, const char *text, const input *ins, size_t n, float *ret)
{
    static float data[MAX_IN][MAX_ELEMENTS];
    ps_model *m = fixture_model(engine, text, device);
    ps_session *s = fixture_session(m, threads);
    ps_tensor *in[MAX_IN], *out[1] = { NULL };
    ps_error err = PS_ERROR_INIT;
    for (size_t i = 0; i < n; i++) {
        size_t count = 1;
        for (int d = 0; d < ins[i].rank; d++) count *= (size_t)ins[i].dims[d];
        assert_true(count <= MAX_ELEMENTS);
        fill_random(data[i], count, 77 + (uint32_t)i);
        in[i] = fixture_wrap(engine, PS_DTYPE_F32, ins[i].rank, ins[i].dims, data[i]);
    }
    if (ps_session_run(s, (const ps_tensor *const *)in, n, out, 1, NULL, &err) != PS_OK) fail_msg("%s: %s", device, err.msg);
    size_t count = ps_tensor_elements(out[0]);
    assert_true(count <= MAX_ELEMENTS);
    memcpy(ret, ps_tensor_data(out[0]), count * sizeof *ret);
    for (size_t i = 0; i < n; i++) ps_tensor_release(in[i]);
    ps_session_free(s);
    ps_model_release(m);
    return count;
}

/* f32 sums of up to a few hundred products in another order, and elementary functions good to 4e-7: 2e-5 relative to the
 * magnitude of the values leaves a factor of ten. */
static void compare(const char *text, const input *ins, size_t n)
{
    static float want[MAX_ELEMENTS], got[MAX_ELEMENTS];
    size_t count = run_on("ref", 1, text, ins, n, want);
    for (int threads = 1; threads <= 2; threads++) {
        assert_int_equal(run_on("cpu", threads, text, ins, n, got), count);
        for (size_t i = 0; i < count; i++) {
            if (isnan(want[i]) && isnan(got[i])) continue;
            if (!(fabsf(got[i] - want[i]) <= 2e-5f * (1 + fabsf(want[i])))) {
                fail_msg("%s\n%d threads, element %zu: %g, reference %g", strstr(text, "  b: "), threads, i, (double)got[i], (double)want[i]);
            }
        }
    }
}

typedef struct post_case {
    ps_post_kind kind;
    float alpha, beta;
    const char *operand; /* shape of a second graph input, or NULL */
    input in;
} post_case;

static const post_case post_cases[] = {
    { PS_POST_RELU, 0, 0, NULL, { 0 } },
    { PS_POST_LEAKY_RELU, 0.1f, 0, NULL, { 0 } },
    { PS_POST_CLIP, -1, 2, NULL, { 0 } },
    { PS_POST_SIGMOID, 0, 0, NULL, { 0 } },
    { PS_POST_TANH, 0, 0, NULL, { 0 } },
    { PS_POST_HARD_SIGMOID, 0.2f, 0.5f, NULL, { 0 } },
    { PS_POST_HARD_SWISH, 1.0f / 6, 0.5f, NULL, { 0 } },
    { PS_POST_HARD_SWISH, 0.25f, 0.4f, NULL, { 0 } },
    { PS_POST_SWISH, 1, 0, NULL, { 0 } },
    { PS_POST_GELU, 0, 0, NULL, { 0 } },
    { PS_POST_GELU_TANH, 0, 0, NULL, { 0 } },
    { PS_POST_ABS, 0, 0, NULL, { 0 } },
    { PS_POST_ERF, 0, 0, NULL, { 0 } },
    { PS_POST_LINEAR, 0.5f, 3, NULL, { 0 } },
    { PS_POST_POW, 2, 0, NULL, { 0 } },
    { PS_POST_ADD, 0, 0, "f32[2,24,6,5]", { 4, { 2, 24, 6, 5 } } },
    { PS_POST_ADD, 0, 0, "f32[1,24,1,1]", { 4, { 1, 24, 1, 1 } } },
    { PS_POST_MUL, 0, 0, "f32[2,24,1,1]", { 4, { 2, 24, 1, 1 } } },
    { PS_POST_MUL, 0, 0, "f32[2,24,6,5]", { 4, { 2, 24, 6, 5 } } },
    { PS_POST_MUL, 0, 0, "f32[1]", { 1, { 1 } } },
    { PS_POST_SUB, 0, 0, "f32[24,1,1]", { 3, { 24, 1, 1 } } },
    { PS_POST_RSUB, 0, 0, "f32[6,5]", { 2, { 6, 5 } } },
    { PS_POST_MAX, 0, 0, "f32[5]", { 1, { 5 } } },
    { PS_POST_MIN, 0, 0, "f32[2,1,6,5]", { 4, { 2, 1, 6, 5 } } },
};

#define N_POSTS (sizeof post_cases / sizeof *post_cases)

/* polestar.Conv from in channels to 24 with the given post-ops; conv: its own attributes. */
static void conv_with(const post_case *const *posts, size_t n, const char *x, const char *w, const char *attrs, const input *in,
                      const input *weights)
{
    static char text[65536], numbers[60000];
    char inputs[256] = "", args[128] = "", ops[256] = "", floats[256] = "";
    input ins[MAX_IN] = { *in };
    size_t n_ins = 1, at = 0, count = 1;
    float values[4096];
    for (int d = 0; d < weights->rank; d++) count *= (size_t)weights->dims[d];
    fill_random(values, count, 5);
    for (size_t i = 0; i < count; i++) {
        at += (size_t)snprintf(numbers + at, sizeof numbers - at, "%s%.6g", i ? "," : "", (double)values[i] / 4);
    }
    for (size_t i = 0; i < n; i++) {
        char part[96];
        int operand = -1;
        if (posts[i]->operand) {
            operand = 3 + (int)(n_ins - 1);
            snprintf(part, sizeof part, ", o%zu: %s", i, posts[i]->operand);
            strcat(inputs, part);
            snprintf(part, sizeof part, ", o%zu", i);
            strcat(args, part);
            ins[n_ins++] = posts[i]->in;
        }
        snprintf(part, sizeof part, "%s%d, %d", i ? ", " : "", (int)posts[i]->kind, operand);
        strcat(ops, part);
        snprintf(part, sizeof part, "%s%#g, %#g", i ? ", " : "", (double)posts[i]->alpha, (double)posts[i]->beta);
        strcat(floats, part);
    }
    snprintf(text, sizeof text,
             "graph g (x: %s%s) -> (z) opset 17, polestar 1 {\n"
             "  w: %s = {%s}\n"
             "  b: f32[24] = {1,-1,2,-2,0.5,-0.5,1,-1,2,-2,0.5,-0.5,1,-1,2,-2,0.5,-0.5,1,-1,2,-2,0.5,-0.5}\n"
             "  z = polestar.Conv(x, w, b%s) {%s, post_op=[%s], post_arg=[%s]}\n"
             "}\n",
             x, inputs, w, numbers, args, attrs, ops, floats);
    compare(text, ins, n_ins);
}

static void test_conv_with_each_post(void **state)
{
    for (size_t i = 0; i < N_POSTS; i++) {
        const post_case *one[1] = { &post_cases[i] };
        conv_with(one, 1, "f32[2,8,6,5]", "f32[24,8,3,3]", "pads=[1,1,1,1]", &(input){ 4, { 2, 8, 6, 5 } },
                  &(input){ 4, { 24, 8, 3, 3 } });
        conv_with(one, 1, "f32[2,24,6,5]", "f32[24,1,3,3]", "pads=[1,1,1,1], group=24", &(input){ 4, { 2, 24, 6, 5 } },
                  &(input){ 4, { 24, 1, 3, 3 } });
        conv_with(one, 1, "f32[2,8,6,5]", "f32[24,8,1,1]", "group=1", &(input){ 4, { 2, 8, 6, 5 } },
                  &(input){ 4, { 24, 8, 1, 1 } });
    }
}

static void test_conv_with_pairs_of_posts(void **state)
{
    for (size_t i = 0; i < N_POSTS; i++) {
        for (size_t j = 0; j < N_POSTS; j += 3) {
            const post_case *two[2] = { &post_cases[i], &post_cases[j] };
            conv_with(two, 2, "f32[2,8,6,5]", "f32[24,8,1,1]", "group=1", &(input){ 4, { 2, 8, 6, 5 } },
                      &(input){ 4, { 24, 8, 1, 1 } });
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_conv_with_each_post, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conv_with_pairs_of_posts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
