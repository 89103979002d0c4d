/* Histograms, patches, loops and ranges of compression against plain loops and the reference kernels; whole runs with
 * an allocation failing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "compress/loops.h"
#include "compress/patches.h"
#include "runtime_fixture.h"
#include "test_alloc_fail.h"
#include "test_temp_dir.h"

static uint64_t state = 1;

static double uniform(void) { /* splitmix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static float normal(void) {
    return (float)(sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform()));
}

/* ---- histograms ---- */

static void histogram_counts_all(void **unused) {
    ps_alloc_state a;
    ps_histogram h = { 0 };
    static float x[5000];
    float min = INFINITY, max = -INFINITY;
    uint64_t sum = 0;
    (void)unused;
    ps_alloc_state_init(&a, NULL);
    for (int round = 0; round < 12; round++) { /* each wider than the one before, now and then to one side */
        for (int i = 0; i < 5000; i++) {
            x[i] = normal() * (float)pow(1.7, round) + (round % 3 - 1) * (float)round;
            min = fminf(min, x[i]);
            max = fmaxf(max, x[i]);
        }
        assert_true(ps_histogram_add(&a, &h, (ps_histogram_values) { x, 5000, 0, 0 }, 1));
    }
    for (int i = 0; i < PS_HISTOGRAM_BINS; i++)
        sum += h.bins[i];
    assert_int_equal(sum, 60000);
    assert_int_equal(h.count, 60000);
    assert_true(h.min == min && h.max == max && h.odd == 0);
    assert_true(h.low <= min && h.low + h.width * PS_HISTOGRAM_BINS > max);
    /* what lies in a bin is what was given, but for rounding at the edges: the last round alone */
    ps_histogram_release(&a, &h);
    h = (ps_histogram) { 0 };
    assert_true(ps_histogram_add(&a, &h, (ps_histogram_values) { x, 5000, 0, 0 }, 1));
    const int bin = PS_HISTOGRAM_BINS / 2;
    uint64_t inside = 0;
    for (int i = 0; i < 5000; i++)
        inside += x[i] >= h.low + (bin - 40) * h.width && x[i] < h.low + (bin + 40) * h.width;
    uint64_t counted = 0;
    for (int i = bin - 40; i < bin + 40; i++)
        counted += h.bins[i];
    assert_true(counted + 3 >= inside && counted <= inside + 3);
    ps_histogram_release(&a, &h);
    assert_int_equal(a.bytes, 0);
}

static void histogram_leaves_out_what_is_no_number(void **unused) {
    ps_alloc_state a;
    ps_histogram h = { 0 };
    const float x[] = { 1, NAN, 2, INFINITY, -INFINITY, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    (void)unused;
    ps_alloc_state_init(&a, NULL);
    assert_true(ps_histogram_add(&a, &h, (ps_histogram_values) { x, 18, 0, 0 }, 1));
    assert_true(h.min == 1 && h.max == 3 && h.odd == 3 && h.counted == 15);
    ps_histogram_release(&a, &h);
    assert_int_equal(a.bytes, 0);
}

static void same_histogram(const ps_histogram *a, const ps_histogram *b) {
    assert_true(a->low == b->low && a->width == b->width && a->min == b->min && a->max == b->max);
    assert_true(a->count == b->count && a->odd == b->odd && a->counted == b->counted);
    assert_memory_equal(a->bins, b->bins, PS_HISTOGRAM_BINS * sizeof *a->bins);
}

/* Channels innermost, in parts of threads or not: the same values count. Shapes: all values counted; steps with and
 * without a common divisor with the pixels; more channels than pixels; several images; parts that end within one. */
static void histogram_does_not_depend_on_the_layout(void **unused) {
    static const struct {
        size_t images, channels, pixels;
    } shapes[] = { { 1, 5, 49 }, { 1, 96, 3136 }, { 3, 64, 900 }, { 2, 40, 7 * 8 * 9 * 5 }, { 7, 301, 101 },
                   { 1, 9000, 40 }, { 1, 3, 400000 }, { 5, 70001, 1 }, { 1, 1, 200003 } };
    ps_alloc_state a;
    (void)unused;
    ps_alloc_state_init(&a, NULL);
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        const size_t c = shapes[k].channels, p = shapes[k].pixels, n = shapes[k].images * c * p;
        float *x = malloc(n * sizeof *x), *last = malloc(n * sizeof *last);
        ps_histogram plain = { 0 }, turned = { 0 }, parts = { 0 };
        assert_true(x && last);
        for (int round = 0; round < 4; round++) {
            for (size_t i = 0; i < n; i++) /* wider than before, narrower, with what is no number */
                x[i] = (float)(uniform() * (round == 1 ? 9 : 2) - (round == 1 ? 4 : 0.5));
            if (round == 3) x[n / 3] = NAN;
            for (size_t i = 0; i < n; i++)
                last[(i / (c * p) * p + i % p) * c + i / p % c] = x[i];
            assert_true(ps_histogram_add(&a, &plain, (ps_histogram_values) { x, n, 0, 0 }, 1));
            assert_true(ps_histogram_add(&a, &turned, (ps_histogram_values) { last, n, c, p }, 1));
            assert_true(ps_histogram_add(&a, &parts, (ps_histogram_values) { last, n, c, p }, 3));
            same_histogram(&plain, &turned);
            same_histogram(&plain, &parts);
        }
        free(x);
        free(last);
        ps_histogram_release(&a, &plain);
        ps_histogram_release(&a, &turned);
        ps_histogram_release(&a, &parts);
    }
    assert_int_equal(a.bytes, 0);
}

/* ---- patches ---- */

/* A layer's outputs from its patches beside the reference kernel's; and the same patches where channels lie innermost,
 * read in two parts. Tolerance: float sums of at most 200 products. */
static void patches_of(const char *text, int axis, int64_t outputs_last) {
    ps_engine *e = fixture_engine(1, NULL);
    ps_error err = PS_ERROR_INIT;
    ps_graph *g;
    ps_model *m = fixture_model(e, text, "ref");
    ps_session *s = fixture_session(m, 1);
    if (ps_graph_parse(&e->alloc, text, &g, &err) != PS_OK || ps_ops_resolve(g, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_layer l = { .node = g->last, .axis = axis };
    l.weight = l.node->in[1]->constant;
    ps_tensor *x, *y = NULL, turned = { .dtype = PS_DTYPE_F32 };
    assert_int_equal(ps_tensor_new(&e->alloc, PS_DTYPE_F32, &g->inputs[0]->shape, &x, &err), PS_OK);
    for (size_t i = 0; i < ps_tensor_count(x); i++)
        ((float *)x->data)[i] = normal();
    if (ps_session_run(s, (const ps_tensor *const *)&x, 1, &y, 1, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    turned.shape = x->shape;
    turned.bytes = x->bytes;
    turned.data = malloc(x->bytes);
    ps_layout_strides(&x->shape, PS_LAYOUT_CHANNELS_LAST, turned.own_strides);
    turned.strides = turned.own_strides;
    for (size_t i = 0; i < ps_tensor_count(x); i++) {
        int64_t at = 0, rest = (int64_t)i;
        for (int d = x->shape.rank - 1; d >= 0; d--) {
            at += rest % x->shape.dims[d] * turned.strides[d];
            rest /= x->shape.dims[d];
        }
        ((float *)turned.data)[at] = ((const float *)x->data)[i];
    }
    const ps_weight_view v = ps_weight_view_of(&l);
    const int64_t size = v.groups * v.cols, count = ps_patch_count(&l, &x->shape), channels = size / v.taps;
    const int64_t places = outputs_last ? 1 : ps_shape_product(&y->shape, 2, y->shape.rank);
    float *patch = malloc((size_t)size * sizeof *patch), *again = malloc((size_t)size * sizeof *again);
    assert_int_equal(count * v.groups * v.rows, (int64_t)ps_tensor_count(y));
    for (int64_t k = 0; k < count; k++) {
        ps_patch_read(&l, x, k, 0, channels, patch);
        ps_patch_read(&l, &turned, k, 0, channels / 2, again);
        ps_patch_read(&l, &turned, k, channels / 2, channels, again);
        assert_memory_equal(patch, again, (size_t)size * sizeof *patch);
        for (int64_t r = 0; r < v.groups * v.rows; r++) {
            const float *w = (const float *)l.weight->data + r / v.rows * v.group_stride + r % v.rows * v.row_stride;
            double sum = 0;
            for (int64_t c = 0; c < v.cols; c++)
                sum += (double)w[c * v.col_stride] * (double)patch[ps_patch_at(&v, r / v.rows, c)];
            const int64_t at = (k / places * v.groups * v.rows + r) * places + k % places;
            assert_float_equal(sum, ((const float *)y->data)[at], 1e-4);
        }
    }
    free(patch);
    free(again);
    free(turned.data);
    ps_tensor_release(x);
    ps_session_free(s);
    ps_model_release(m);
    ps_graph_free(g);
    ps_engine_free(e);
}

static void patches_make_the_outputs(void **unused) {
    (void)unused;
    patches_of("graph (x: f32[2,6,9,8]) -> (y) opset 17 {\n  w: f32[4,6,3,3] = random(1)\n"
               "  y = Conv(x, w) {pads=[1,0,2,1], strides=[2,1]}\n}",
               0, 0);
    patches_of("graph (x: f32[1,6,9,8]) -> (y) opset 17 {\n  w: f32[6,1,5,3] = random(1)\n"
               "  y = Conv(x, w) {group=6, pads=[2,1,2,1], dilations=[1,2]}\n}",
               0, 0);
    patches_of("graph (x: f32[2,6,9,8]) -> (y) opset 17 {\n  w: f32[9,2,3,2] = random(1)\n"
               "  y = Conv(x, w) {group=3, auto_pad=\"SAME_UPPER\"}\n}",
               0, 0);
    patches_of("graph (x: f32[2,5,4,3,4]) -> (y) opset 17 {\n  w: f32[3,5,2,2,1] = random(1)\n  y = Conv(x, w)\n}", 0,
               0);
    patches_of("graph (x: f32[3,5,4]) -> (y) opset 17 {\n  w: f32[4,7] = random(1)\n  y = MatMul(x, w)\n}", 1, 1);
    patches_of("graph (x: f32[5,4]) -> (y) opset 17 {\n  w: f32[7,4] = random(1)\n  y = Gemm(x, w) {transB=1}\n}", 0,
               1);
}

/* ---- loops ---- */

extern const ps_loops ps_loops_base;

/* The loops of this CPU beside those of the least one: the same bits. Second moments: fused or not, by at most 60
 * roundings of 2^-24 of the sum of 60 products, each below 30. */
static void loops_agree(void **unused) {
    enum { N = 203, ROWS = 11 };
    static float x[ROWS * N], y[N], a[2][ROWS * N], b[2][ROWS * N];
    static double d[2][2][ROWS * N];
    static int32_t bins[2][N];
    const ps_loops *loops[2] = { &ps_loops_base, ps_loops_pick() };
    (void)unused;
    for (int i = 0; i < ROWS * N; i++)
        x[i] = normal();
    for (int i = 0; i < N; i++)
        y[i] = normal();
    for (int64_t n = 0; n <= N; n += n < 40 ? 1 : 27) {
        memset(d, 0, sizeof d);
        for (int k = 0; k < 2; k++) {
            float low = INFINITY, high = -INFINITY;
            double scales[PS_LOOPS_SCALES];
            assert_true(loops[k]->ends(x, n, &low, &high));
            for (int i = 0; i < n; i++)
                assert_true(x[i] >= low && x[i] <= high);
            loops[k]->bins(x, n, -1.5F, 100, 255, bins[k]);
            memcpy(a[k], x, sizeof a[k]);
            loops[k]->code(a[k], n, 0.013F, 77, d[k][0], d[k][1]);
            for (int i = 0; i < n; i++)
                assert_true(d[k][0][i] == (double)x[i] && d[k][1][i] == (double)a[k][i]);
            memset(b[k], 0, sizeof b[k]);
            loops[k]->extend(x, n, b[k], b[k] + N, b[k] + 2 * N);
            loops[k]->noise(x, y, n, &d[k][0][N], &d[k][1][N]);
            for (int i = 0; i < PS_LOOPS_SCALES; i++)
                scales[i] = 0.02 + 0.001 * i;
            loops[k]->code_errors(x, n, scales, 64, d[k][0] + N + 1);
            loops[k]->carry(a[k], N, 7, n < N ? n : N, x + 300, x + 200, 13, n < 32 ? n : 32);
        }
        assert_memory_equal(a[0], a[1], sizeof a[0]);
        assert_memory_equal(b[0], b[1], sizeof b[0]);
        assert_memory_equal(d[0], d[1], sizeof d[0]);
        assert_memory_equal(bins[0], bins[1], (size_t)n * sizeof *bins[0]);
    }
    x[7] = NAN;
    float low = 0, high = 0;
    assert_true(!loops[1]->ends(x, 100, &low, &high) && !loops[1]->ends(x, 8, &low, &high));
    x[7] = 1;
    static float h[2][PS_LOOPS_PAIRS(5) * 37], sums[PS_LOOPS_PAIRS(5) * PS_LOOPS_CHANNELS];
    for (int k = 0; k < 2; k++)
        for (int64_t n = 16; n >= 3; n -= 13)
            loops[k]->moments(x, n, 6, 5 * 40, 5, 40, h[k], 37, sums);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j <= i; j++)
            for (int c = 0; c < 16; c++) {
                double sum = 0;
                for (int p = 0; p < 6; p++)
                    sum += (double)x[p * 200 + i * 40 + c] * (double)x[p * 200 + j * 40 + c];
                for (int k = 0; k < 2; k++)
                    assert_float_equal(h[k][(i * (i + 1) / 2 + j) * 37 + c], sum * (c < 3 ? 2 : 1), 1e-4);
            }
}

/* Rows of a factor L from those of L L'. */
static void solve_finds_the_factor(void **unused) {
    enum { N = 45 };
    static float l[N * N], m[N * N];
    (void)unused;
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++)
            l[i * N + j] = i == j ? 3 + (float)uniform() : 0.3F * normal();
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++)
            m[i * N + j] = (float)ps_loops_dot(l + i * N, l + j * N, j + 1);
    for (int from = 0; from < 30; from += 15) /* the last rows by the first 30 columns */
        ps_loops_pick()->solve(l, N, m + 30 * N, N - 30, from, from + 15);
    for (int i = 30; i < N; i++)
        for (int j = 0; j < 30; j++)
            assert_float_equal(m[i * N + j], l[i * N + j], 1e-5);
}

/* ---- ranges ---- */

static double coding_error(const ps_site *s, const float *x, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const double code = fmin(fmax(nearbyint((double)x[i] / s->scale) + s->zero, 0), 255);
        const double d = x[i] - (code - s->zero) * (double)s->scale;
        sum += d * d;
    }
    return sum;
}

/* Errors are measured on the values themselves. The last shape is a million normal values, the same 20,000 again and
 * again, and one far outside: the best range leaves that one out. */
static void best_range_loses_least(void **unused) {
    static float x[20000];
    const float far = 12;
    double error[5];
    ps_alloc_state a;
    (void)unused;
    ps_alloc_state_init(&a, NULL);
    for (int shape = 0; shape < 3; shape++) {
        ps_site s = { .scale = 1 };
        const int times = shape == 2 ? 50 : 1;
        for (int i = 0; i < 20000; i++) {
            const float v = normal();
            x[i] = shape == 0 ? fmaxf(v, 0) * 4 : shape == 1 ? v * v * v : v;
        }
        for (int i = 0; i < times; i++)
            assert_true(ps_histogram_add(&a, &s.seen, (ps_histogram_values) { x, 20000, 0, 0 }, 1));
        if (shape == 2) assert_true(ps_histogram_add(&a, &s.seen, (ps_histogram_values) { &far, 1, 0, 0 }, 1));
        for (int how = PS_RANGE_AUTO; how <= PS_RANGE_MSE; how++) {
            ps_site_choose(&s, (ps_compress_range)how);
            error[how] = coding_error(&s, x, 20000) * times + (shape == 2 ? coding_error(&s, &far, 1) : 0);
            assert_true(s.low <= 0 && s.high >= 0 && s.zero >= 0 && s.zero <= 255);
            assert_float_equal(s.high - s.low, 255 * s.scale, 1e-3 * (double)s.high);
        }
        for (int how = PS_RANGE_MINMAX; how <= PS_RANGE_MSE; how++)
            assert_true(error[PS_RANGE_AUTO] <= error[how] * 1.02); /* bins stand for values */
        if (shape == 2) assert_true(error[PS_RANGE_AUTO] < 0.7 * error[PS_RANGE_MINMAX]);
        ps_histogram_release(&a, &s.seen);
    }
}

/* ---- whole runs ---- */

static void write_file(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

/* ONNX bytes of a small net; made by tests/gen/compress_net.py. */
#include "compress_net.h"

static ps_status run_once(ps_engine *engine, const char *folder, ps_compress_type type, ps_error *err) {
    char model[512], data[512], out[512], report[512];
    ps_compress_options o = PS_COMPRESS_OPTIONS_INIT;
    ps_compress_result *result = NULL;
    ps_snprintf(model, sizeof model, "%s/net.onnx", folder);
    ps_snprintf(data, sizeof data, "%s/data.npy", folder);
    ps_snprintf(out, sizeof out, "%s/out.onnx", folder);
    ps_snprintf(report, sizeof report, "%s/report.html", folder);
    o.type = type;
    o.calibration = o.validation = data;
    o.no_latency = true;
    o.max_drop = 50;
    ps_status status = ps_compress(engine, model, out, &o, &result, err);
    if (status == PS_OK) status = ps_compress_report(result, report, err);
    ps_compress_result_free(result);
    return status;
}

static void fails_cleanly_without_memory(void **unused) {
    char folder[256];
    (void)unused;
    assert_true(ps_test_temp_dir(folder, sizeof folder));
    char path[512];
    ps_snprintf(path, sizeof path, "%s/net.onnx", folder);
    write_file(path, compress_net, sizeof compress_net);
    ps_snprintf(path, sizeof path, "%s/data.npy", folder);
    write_file(path, compress_data, sizeof compress_data);
    for (int type = PS_COMPRESS_INT8; type <= PS_COMPRESS_FP16; type++) {
        long step = 1, ran = 0;
        for (long nth = 0;; nth += step, ran++) { /* every one at first, then ever fewer: there are some ten thousand */
            ps_test_alloc t;
            ps_engine *engine = NULL;
            ps_error err = PS_ERROR_INIT;
            ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
            ps_test_alloc_init(&t, nth);
            o.allocator = &t.allocator;
            o.threads = 1;
            o.cache_dir = "";
            ps_status status = ps_engine_create(&o, &engine, &err);
            if (status == PS_OK) status = run_once(engine, folder, (ps_compress_type)type, &err);
            ps_engine_free(engine);
            assert_int_equal(atomic_load(&t.live), 0);
            if (!atomic_load(&t.failed)) {
                if (status != PS_OK) fail_msg("%s", err.msg);
                break;
            }
            step = 1 + nth / 60;
        }
        assert_true(ran > 50);
    }
    ps_test_remove_tree(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(histogram_counts_all),
        cmocka_unit_test(histogram_leaves_out_what_is_no_number),
        cmocka_unit_test(histogram_does_not_depend_on_the_layout),
        cmocka_unit_test(patches_make_the_outputs),
        cmocka_unit_test(loops_agree),
        cmocka_unit_test(solve_finds_the_factor),
        cmocka_unit_test(best_range_loses_least),
        cmocka_unit_test(fails_cleanly_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
