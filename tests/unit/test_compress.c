/* Histograms and ranges of compression against plain loops; whole runs with an allocation failing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "compress/patches.h"
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
        cmocka_unit_test(best_range_loses_least),
        cmocka_unit_test(fails_cleanly_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
