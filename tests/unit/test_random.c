/* test_random.c - random draws: the generator against published vectors, and the distribution of each operator.
 *
 * Draws are seeded, so a case either passes always or never; limits are 5 standard deviations of the statistic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ops/random.h"

enum { COUNT = 20000 };

static ps_alloc_state alloc;

static int setup(void **state) {
    (void)state;
    ps_alloc_state_init(&alloc, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return atomic_load(&alloc.bytes) == 0 ? 0 : -1; /* nothing leaks */
}

/* Known answers of Philox 4x32-10 that its authors publish with Random123 (file kat_vectors). */
static void generator_gives_published_words(void **state) {
    static const struct {
        uint32_t key[2], counter[4], want[4];
    } rows[] = {
        { { 0, 0 }, { 0, 0, 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff },
          { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0xa4093822, 0x299f31d0 },
          { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    (void)state;
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        uint32_t got[4];
        ps_philox(rows[k].key, rows[k].counter, got);
        assert_memory_equal(got, rows[k].want, sizeof got);
    }
}

/* Runs the one node of a graph; in[i] may be NULL. The outputs are the caller's to release. */
static ps_status run(const char *text, ps_tensor *const *in, ps_tensor **out, int threads) {
    ps_graph *g = NULL;
    ps_error err = PS_ERROR_INIT;
    char buf[1024];
    snprintf(buf, sizeof buf, "graph g %s", text);
    if (ps_graph_parse(&alloc, buf, &g, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_status status = ps_ops_resolve(g, &err);
    if (status == PS_OK) status = ps_ops_infer(g, &err);
    const ps_node *n = g->first;
    for (uint32_t i = 0; i < n->n_out && status == PS_OK; i++) {
        assert_true(ps_shape_fixed(&n->out[i]->shape));
        assert_int_equal(ps_tensor_new(&alloc, n->out[i]->dtype, &n->out[i]->shape, &out[i], &err), PS_OK);
    }
    if (status == PS_OK) {
        assert_true(n->op->traits & PS_OP_RANDOM); /* never folded */
        status = ps_ops_run_ref(n, (const ps_tensor *const *)in, out, &alloc, threads, &err);
        if (status != PS_OK) ps_tensor_release(out[0]);
    }
    ps_graph_free(g);
    return status;
}

static ps_tensor *tensor(ps_dtype dtype, int rank, const int64_t *dims) {
    ps_shape shape = ps_shape_make(rank, dims);
    ps_tensor *t = NULL;
    assert_int_equal(ps_tensor_new(&alloc, dtype, &shape, &t, NULL), PS_OK);
    return t;
}

static double at(const ps_tensor *t, size_t i) {
    double v = 0;
    assert_true(ps_tensor_get_double(t, i, &v));
    return v;
}

static void check_moments(const ps_tensor *t, double mean, double deviation, double kurtosis) {
    double n = (double)ps_tensor_count(t), sum = 0, square = 0;
    for (size_t i = 0; i < ps_tensor_count(t); i++)
        sum += at(t, i);
    for (size_t i = 0; i < ps_tensor_count(t); i++)
        square += pow(at(t, i) - sum / n, 2);
    double variance = deviation * deviation;
    assert_true(fabs(sum / n - mean) < 5 * deviation / sqrt(n));
    /* the variance of a sample's variance is (kurtosis - 1) variance^2 / n */
    assert_true(fabs(square / n - variance) < 5 * variance * sqrt((kurtosis - 1) / n));
}

static void uniform_and_normal(void **state) {
    static const struct {
        const char *text;
        ps_dtype dtype;
        double mean, deviation, kurtosis, low, high;
    } rows[] = {
        { "RandomUniform() {seed=1.5, shape=[20, 1000], low=-2.0, high=6.0}", PS_DTYPE_F32, 2, 2.3094, 1.8, -2, 6 },
        { "RandomUniform() {seed=1.0, shape=[20000], dtype=11}", PS_DTYPE_F64, 0.5, 0.288675, 1.8, 0, 1 },
        { "RandomUniform() {seed=1.0, shape=[20000], dtype=10}", PS_DTYPE_F16, 0.5, 0.288675, 1.8, 0, 1 },
        { "RandomNormal() {seed=2.0, shape=[20, 1000], mean=3.0, scale=2.0}", PS_DTYPE_F32, 3, 2, 3, -20, 20 },
        { "RandomNormal() {seed=2.0, shape=[20000], dtype=16}", PS_DTYPE_BF16, 0, 1, 3, -8, 8 },
    };
    (void)state;
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        char text[256];
        ps_tensor *out[2];
        snprintf(text, sizeof text, "() -> (y) opset 22 {\n y = %s\n}", rows[k].text);
        assert_int_equal(run(text, NULL, out, 2), PS_OK);
        assert_int_equal(out[0]->dtype, rows[k].dtype);
        assert_int_equal(ps_tensor_count(out[0]), COUNT);
        for (size_t i = 0; i < COUNT; i++)
            assert_true(at(out[0], i) >= rows[k].low && at(out[0], i) <= rows[k].high);
        check_moments(out[0], rows[k].mean, rows[k].deviation, rows[k].kurtosis);
        ps_tensor_release(out[0]);
    }
}

/* The same numbers for a seed, however many threads draw; others without one. */
static void seeds(void **state) {
    static const char seeded[] = "() -> (y) opset 22 {\n y = RandomNormal() {seed=7.0, shape=[20000]}\n}";
    static const char fresh[] = "() -> (y) opset 22 {\n y = RandomNormal() {shape=[20000]}\n}";
    ps_tensor *a[1], *b[1];
    (void)state;
    assert_int_equal(run(seeded, NULL, a, 1), PS_OK);
    assert_int_equal(run(seeded, NULL, b, 4), PS_OK);
    assert_memory_equal(a[0]->data, b[0]->data, a[0]->bytes);
    ps_tensor_release(a[0]);
    ps_tensor_release(b[0]);
    assert_int_equal(run(fresh, NULL, a, 1), PS_OK);
    assert_int_equal(run(fresh, NULL, b, 1), PS_OK);
    assert_memory_not_equal(a[0]->data, b[0]->data, a[0]->bytes);
    ps_tensor_release(a[0]);
    ps_tensor_release(b[0]);
}

static void like_forms_take_shape_and_type(void **state) {
    ps_tensor *x = tensor(PS_DTYPE_F64, 2, (int64_t[]) { 100, 200 }), *out[1];
    (void)state;
    assert_int_equal(run("(x: f64[100,200]) -> (y) opset 22 {\n y = RandomUniformLike(x) {seed=3.0}\n}",
                         (ps_tensor *[]) { x }, out, 1),
                     PS_OK);
    assert_int_equal(out[0]->dtype, PS_DTYPE_F64);
    assert_true(ps_shape_equal(&out[0]->shape, &x->shape));
    check_moments(out[0], 0.5, 0.288675, 1.8);
    ps_tensor_release(out[0]);
    assert_int_equal(run("(x: i32[100,200]) -> (y) opset 22 {\n y = RandomNormalLike(x) {seed=3.0, dtype=1}\n}",
                         (ps_tensor *[]) { x }, out, 1),
                     PS_OK);
    assert_int_equal(out[0]->dtype, PS_DTYPE_F32);
    check_moments(out[0], 0, 1, 3);
    ps_tensor_release(out[0]);
    assert_int_equal(
        run("(x: i32[100,200]) -> (y) opset 22 {\n y = RandomNormalLike(x)\n}", (ps_tensor *[]) { x }, out, 1),
        PS_TYPE);
    ps_tensor_release(x);
}

static void bernoulli(void **state) {
    static const char text[] = "(x: f32[4,20000]) -> (y) opset 22 {\n y = Bernoulli(x) {seed=5.0, dtype=9}\n}";
    static const double p[4] = { 0, 0.3, 0.75, 1 };
    ps_tensor *x = tensor(PS_DTYPE_F32, 2, (int64_t[]) { 4, COUNT }), *out[1];
    (void)state;
    for (size_t i = 0; i < ps_tensor_count(x); i++)
        ((float *)x->data)[i] = (float)p[i / COUNT];
    assert_int_equal(run(text, &x, out, 1), PS_OK);
    assert_int_equal(out[0]->dtype, PS_DTYPE_BOOL);
    for (size_t r = 0; r < 4; r++) {
        double ones = 0;
        for (size_t i = 0; i < COUNT; i++)
            ones += at(out[0], r * COUNT + i);
        assert_true(fabs(ones / COUNT - p[r]) <= 5 * sqrt(p[r] * (1 - p[r]) / COUNT));
    }
    ps_tensor_release(out[0]);
    ((float *)x->data)[0] = 1.5f;
    assert_int_equal(run(text, &x, out, 1), PS_INVALID);
    ((float *)x->data)[0] = NAN;
    assert_int_equal(run(text, &x, out, 1), PS_INVALID);
    ps_tensor_release(x);
}

static void multinomial(void **state) {
    static const char text[] = "(x: f32[2,4]) -> (y) opset 22 {\n y = Multinomial(x) {seed=6.0, "
                               "sample_size=20000, dtype=7}\n}";
    /* logarithms of weights 1, 2, 5 and none; only the last class */
    static const float logits[8] = { 0, 0.69314718f, 1.6094379f, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -50 };
    static const double want[8] = { 0.125, 0.25, 0.625, 0, 0, 0, 0, 1 };
    double count[8] = { 0 };
    ps_tensor *x = tensor(PS_DTYPE_F32, 2, (int64_t[]) { 2, 4 }), *out[1];
    (void)state;
    memcpy(x->data, logits, sizeof logits);
    assert_int_equal(run(text, &x, out, 1), PS_OK);
    assert_int_equal(out[0]->dtype, PS_DTYPE_I64);
    for (size_t i = 0; i < ps_tensor_count(out[0]); i++) {
        int64_t class = ((int64_t *)out[0]->data)[i];
        assert_true(class >= 0 && class < 4);
        count[i / COUNT * 4 + (size_t) class]++;
    }
    for (size_t k = 0; k < 8; k++)
        assert_true(fabs(count[k] / COUNT - want[k]) <= 5 * sqrt(want[k] * (1 - want[k]) / COUNT));
    ps_tensor_release(out[0]);
    ((float *)x->data)[7] = -INFINITY;
    assert_int_equal(run(text, &x, out, 1), PS_INVALID);
    ps_tensor_release(x);
}

/* Training: a share of the elements is dropped, the rest is scaled; the mask says which. */
static void dropout(void **state) {
    static const char text[] = "(x: f32[20000], r: f32[], t: bool[]) -> (y, m) opset 22 {\n"
                               " y, m = Dropout(x, r, t) {seed=8}\n}";
    ps_tensor *in[3] = { tensor(PS_DTYPE_F32, 1, (int64_t[]) { COUNT }), tensor(PS_DTYPE_F32, 0, NULL),
                         tensor(PS_DTYPE_BOOL, 0, NULL) };
    ps_tensor *out[2];
    double kept = 0;
    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        ((float *)in[0]->data)[i] = (float)i + 1;
    *(float *)in[1]->data = 0.25f;
    *(uint8_t *)in[2]->data = 1;
    assert_int_equal(run(text, in, out, 1), PS_OK);
    assert_int_equal(out[1]->dtype, PS_DTYPE_BOOL);
    for (size_t i = 0; i < COUNT; i++) {
        double want = at(out[1], i) != 0 ? (double)(i + 1) / 0.75 : 0;
        assert_true(fabs(at(out[0], i) - want) <= 1e-6 * want); /* rounding of the scale */
        kept += at(out[1], i);
    }
    assert_true(fabs(kept / COUNT - 0.75) < 5 * sqrt(0.75 * 0.25 / COUNT));
    ps_tensor_release(out[0]);
    ps_tensor_release(out[1]);

    *(uint8_t *)in[2]->data = 0; /* inference: nothing happens */
    assert_int_equal(run(text, in, out, 1), PS_OK);
    assert_memory_equal(out[0]->data, in[0]->data, in[0]->bytes);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(at(out[1], i) == 1);
    ps_tensor_release(out[0]);
    ps_tensor_release(out[1]);
    for (size_t i = 0; i < 3; i++)
        ps_tensor_release(in[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(generator_gives_published_words, setup, teardown),
        cmocka_unit_test_setup_teardown(uniform_and_normal, setup, teardown),
        cmocka_unit_test_setup_teardown(seeds, setup, teardown),
        cmocka_unit_test_setup_teardown(like_forms_take_shape_and_type, setup, teardown),
        cmocka_unit_test_setup_teardown(bernoulli, setup, teardown),
        cmocka_unit_test_setup_teardown(multinomial, setup, teardown),
        cmocka_unit_test_setup_teardown(dropout, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
