/* Percentiles beside a sorted list of what was counted, and counters beside counts by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>

#include "base/alloc.h"
#include "server/stats.h"

#define MS INT64_C(1000000)

/* ---- histogram ---- */

enum { MANY = 20000 };

static int by_value(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t random_bits(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 11;
}

/* As many magnitudes as there are, from 1 ns to 17 minutes. */
static int64_t draw(uint64_t *state) {
    const double power = (double)random_bits(state) / 9007199254740992.0 * 39.9;
    return (int64_t)exp2(power);
}

/* Within 1/32 above 1 us, within 31 ns below: the header's promise, half a bucket. */
static void check_close(int64_t got, int64_t want) {
    const int64_t most = want < 1000 ? 31 : want / 32 + 1;
    if (llabs(got - want) > most) fail_msg("%lld ns for %lld ns", (long long)got, (long long)want);
}

static void test_quantiles_are_those_of_a_sorted_list(void **state) {
    ps_durations *h = calloc(1, sizeof *h);
    int64_t *all = malloc(MANY * sizeof *all);
    uint64_t random = 7, sum = 0;
    const double qs[] = { 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1 };
    for (size_t n = 1; n <= MANY; n++) {
        all[n - 1] = draw(&random);
        sum += (uint64_t)all[n - 1];
        ps_durations_add(h, all[n - 1]);
        if (n != 1 && n != 2 && n != 10 && n != 999 && n != MANY) continue;
        qsort(all, n, sizeof *all, by_value);
        for (size_t i = 0; i < sizeof qs / sizeof *qs; i++) {
            size_t rank = (size_t)ceil(qs[i] * (double)n);
            check_close(ps_durations_quantile(h, qs[i]), all[(rank ? rank : 1) - 1]);
        }
    }
    assert_int_equal(h->count, MANY);
    assert_int_equal(h->ns, sum);
    free(all);
    free(h);
}

static void test_every_duration_is_told_closely(void **state) {
    ps_durations h;
    for (double ns = 1; ns <= (double)(MS << 20); ns *= 1.003) {
        memset(&h, 0, sizeof h);
        ps_durations_add(&h, (int64_t)ns);
        check_close(ps_durations_quantile(&h, 0.5), (int64_t)ns);
    }
}

static void test_counts_up_to_a_bound_are_exact(void **state) {
    static const int64_t around[] = { -1, 0, 1 };
    ps_durations h = { 0 };
    for (int power = -4; power <= 20; power++) /* 2^power ms is a whole number of ns */
        for (size_t i = 0; i < 3; i++)
            ps_durations_add(&h, (int64_t)ldexp(1e6, power) + around[i]);
    for (int power = -4; power <= 19; power++) /* those of lower bounds, and two of its own */
        assert_int_equal(ps_durations_at_most(&h, power), 3 * (power + 4) + 2);
    assert_int_equal(ps_durations_at_most(&h, -10), 0);
    assert_int_equal(ps_durations_at_most(&h, 20), h.count); /* what is longer counts as that */
}

static void test_what_no_bucket_is_for(void **state) {
    ps_durations h = { 0 };
    assert_int_equal(ps_durations_quantile(&h, 0.99), 0);
    ps_durations_add(&h, -5);
    assert_true(ps_durations_quantile(&h, 1) < 61);
    assert_int_equal(h.ns, 0);
    ps_durations_add(&h, INT64_MAX);
    check_close(ps_durations_quantile(&h, 1), MS << 20);
    assert_int_equal(h.bucket[PS_DURATIONS_BUCKETS - 1], 1);
}

static void test_merged(void **state) {
    ps_durations a = { 0 }, b = { 0 };
    for (int i = 0; i < 90; i++)
        ps_durations_add(&a, MS);
    for (int i = 0; i < 10; i++)
        ps_durations_add(&b, 100 * MS);
    ps_durations_merge(&a, &b);
    assert_int_equal(a.count, 100);
    assert_int_equal(a.ns, 1090 * MS);
    check_close(ps_durations_quantile(&a, 0.9), MS);
    check_close(ps_durations_quantile(&a, 0.91), 100 * MS);
}

/* ---- counters ---- */

typedef struct fixture {
    ps_alloc_state alloc;
    ps_stats *stats;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    ps_alloc_state_init(&f->alloc, NULL);
    f->stats = ps_stats_create(&f->alloc);
    *state = f;
    return f->stats ? 0 : -1;
}

static int teardown(void **state) {
    fixture *f = *state;
    ps_stats_release(f->stats);
    const size_t left = atomic_load(&f->alloc.bytes);
    free(f);
    return left ? -1 : 0;
}

static json_t *written(fixture *f, const ps_stats_version *of) {
    ps_str text;
    ps_str_init(&text, &f->alloc);
    ps_stats_write(f->stats, of, &text);
    ps_str_char(&text, '}');
    json_t *root = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
    ps_str_release(&text);
    assert_non_null(root);
    return root;
}

/* A number at a path of keys; -1: there is none. */
static long long at(const json_t *root, const char *path) {
    char copy[128];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *rest = copy, *key; (key = strtok_r(rest, ".", &rest)) != NULL;)
        root = json_is_array(root) ? json_array_get(root, strtoul(key, NULL, 10)) : json_object_get(root, key);
    return json_is_integer(root) ? json_integer_value(root) : -1;
}

static void test_hits_and_misses(void **state) {
    fixture *f = *state;
    for (int i = 0; i < 100; i++) {
        ps_stats_success(
            f->stats,
            &(ps_stats_sample) {
                .total = i < 60 ? 2 * MS : 8 * MS, .queue = MS / 2, .infer = MS, .items = 2, .batch = i % 2 ? 4 : 0 });
    }
    for (int i = 0; i < 5; i++)
        ps_stats_success(f->stats,
                         &(ps_stats_sample) { .total = 300 * MS, .infer = MS, .items = 1, .batch = 1, .missed = true });
    json_t *root = written(f, &(ps_stats_version) { .name = "m", .version = "1", .state = "READY", .device = "cpu" });
    assert_int_equal(at(root, "inference_stats.success.count"), 105);
    assert_int_equal(at(root, "inference_stats.success.ns"), (60 * 2 + 40 * 8 + 5 * 300) * MS);
    assert_int_equal(at(root, "latency.hit.count"), 100);
    assert_int_equal(at(root, "latency.miss.count"), 5);
    assert_int_equal(at(root, "latency.total.count"), 105);
    assert_int_equal(at(root, "latency.total.ns"), at(root, "inference_stats.success.ns"));
    check_close(at(root, "latency.hit.p50_ns"), 2 * MS);
    check_close(at(root, "latency.hit.p90_ns"), 8 * MS);
    check_close(at(root, "latency.miss.p50_ns"), 300 * MS);
    check_close(at(root, "latency.total.p99_ns"), 300 * MS);
    check_close(at(root, "latency.queue.p50_ns"), MS / 2);
    check_close(at(root, "latency.compute.p99_ns"), MS);
    assert_int_equal(at(root, "inference_count"), 205);
    assert_int_equal(at(root, "execution_count"), 55);
    assert_int_equal(at(root, "batch_stats.0.batch_size"), 4);
    assert_int_equal(at(root, "batch_stats.0.compute_infer.count"), 50);
    assert_true(at(root, "last_used") > 0 && at(root, "last_used") == at(root, "last_inference"));
    json_decref(root);
}

static void test_failures_by_reason(void **state) {
    fixture *f = *state;
    for (int i = 0; i < PS_FAILURES; i++)
        for (int k = 0; k <= i; k++)
            ps_stats_fail(f->stats, (ps_failure)i, MS);
    ps_stats_fail_before(f->stats, (ps_duration[PS_FAILURES]) { [PS_FAILURE_LOAD_TIMEOUT] = { 3, 7 * (uint64_t)MS } });
    json_t *root = written(f, &(ps_stats_version) { .name = "m", .version = "1", .state = "LOADING", .device = "cpu" });
    char path[64];
    int sum = 0;
    for (int i = 0; i < PS_FAILURES; i++) {
        const int want = i + 1 + (i == PS_FAILURE_LOAD_TIMEOUT ? 3 : 0);
        snprintf(path, sizeof path, "failures.%s", ps_failure_name((ps_failure)i));
        assert_int_equal(at(root, path), want);
        sum += want;
    }
    assert_int_equal(at(root, "inference_stats.fail.count"), sum);
    assert_int_equal(at(root, "inference_stats.fail.ns"), (sum - 3 + 7) * MS);
    assert_int_equal(at(root, "last_inference"), 0);
    assert_true(at(root, "last_used") > 0);
    json_decref(root);
}

static void test_reasons_of_errors(void **state) {
    static const struct {
        ps_status status;
        ps_failure failure;
    } pairs[] = { { PS_INVALID, PS_FAILURE_INVALID },
                  { PS_SHAPE, PS_FAILURE_INVALID },
                  { PS_TYPE, PS_FAILURE_INVALID },
                  { PS_FORMAT, PS_FAILURE_INVALID },
                  { PS_UNSUPPORTED, PS_FAILURE_INVALID },
                  { PS_LIMIT, PS_FAILURE_INVALID },
                  { PS_NOT_FOUND, PS_FAILURE_INVALID },
                  { PS_DEADLINE, PS_FAILURE_DEADLINE },
                  { PS_NO_MEMORY, PS_FAILURE_MEMORY },
                  { PS_CANCELLED, PS_FAILURE_CANCELLED },
                  { PS_UNAVAILABLE, PS_FAILURE_UNAVAILABLE },
                  { PS_INTERNAL, PS_FAILURE_INTERNAL },
                  { PS_IO, PS_FAILURE_INTERNAL } };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_int_equal(ps_failure_of(pairs[i].status), pairs[i].failure);
}

static void test_loads_and_memory(void **state) {
    fixture *f = *state;
    ps_stats_loaded(f->stats, 30 * MS, false);
    ps_stats_evicted(f->stats);
    ps_stats_held(f->stats, 5000);
    ps_stats_loaded(f->stats, 10 * MS, true);
    ps_stats_load_failed(f->stats);
    ps_stats_held(f->stats, 4000);
    ps_stats_version of = { .name = "m\"", .version = "2", .state = "UNAVAILABLE", .device = "gpu0" };
    json_t *root = written(f, &of);
    assert_int_equal(at(root, "loads.count"), 2);
    assert_int_equal(at(root, "loads.ns"), 40 * MS);
    assert_int_equal(at(root, "loads.from_cache"), 1);
    assert_int_equal(at(root, "loads.failed"), 1);
    assert_int_equal(at(root, "evictions"), 1);
    assert_int_equal(at(root, "memory_usage.0.byte_size"), 0);
    assert_int_equal(at(root, "memory_usage.0.peak_byte_size"), 5000);
    assert_string_equal(json_string_value(json_object_get(root, "name")), "m\"");
    assert_string_equal(json_string_value(json_object_get(root, "state")), "UNAVAILABLE");
    json_decref(root);
    of.bytes = 6000;
    of.peak_bytes = 7000;
    root = written(f, &of);
    assert_int_equal(at(root, "memory_usage.0.byte_size"), 6000);
    assert_int_equal(at(root, "memory_usage.0.peak_byte_size"), 7000);
    json_decref(root);
}

static void test_sizes_of_batches(void **state) {
    static const uint32_t sizes[] = { 1, 2, 3, 4, 5, 8, 9, 1024, 1025, 70000 };
    static const uint64_t want[PS_STATS_BATCHES] = { 1, 1, 2, 2, 1, 0, 0, 0, 0, 0, 1, 2 };
    fixture *f = *state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        ps_stats_success(f->stats, &(ps_stats_sample) { .items = 1, .batch = sizes[i] });
    const ps_stats_values v = ps_stats_get(f->stats);
    for (int k = 0; k < PS_STATS_BATCHES; k++)
        assert_int_equal(v.batches[k], want[k]);
    assert_int_equal(v.batch_rows, 1 + 2 + 3 + 4 + 5 + 8 + 9 + 1024 + 1025 + 70000);
}

static void test_counting_takes_no_memory(void **state) {
    fixture *f = *state;
    const size_t calls = atomic_load(&f->alloc.calls);
    ps_stats *other = ps_stats_retain(f->stats);
    for (int i = 0; i < 1000; i++) {
        ps_stats_success(f->stats, &(ps_stats_sample) { .total = i * MS, .items = 1, .batch = (uint32_t)i % 100 });
        ps_stats_fail(other, PS_FAILURE_QUEUE_FULL, i);
    }
    ps_stats_release(other);
    assert_int_equal(atomic_load(&f->alloc.calls), calls);
    assert_int_equal(ps_stats_get(f->stats).failures[PS_FAILURE_QUEUE_FULL], 1000);
}

static void test_no_memory(void **state) {
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    atomic_store(&alloc.limit, 64);
    assert_null(ps_stats_create(&alloc));
    ps_stats_release(NULL);
    assert_int_equal(atomic_load(&alloc.bytes), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles_are_those_of_a_sorted_list),
        cmocka_unit_test(test_every_duration_is_told_closely),
        cmocka_unit_test(test_counts_up_to_a_bound_are_exact),
        cmocka_unit_test(test_what_no_bucket_is_for),
        cmocka_unit_test(test_merged),
        cmocka_unit_test_setup_teardown(test_hits_and_misses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures_by_reason, setup, teardown),
        cmocka_unit_test(test_reasons_of_errors),
        cmocka_unit_test_setup_teardown(test_loads_and_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes_of_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_counting_takes_no_memory, setup, teardown),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
