/* The parallel-for, threads and timed waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/thread.h"

enum { ITEMS = 1000, RANGES = 200 };

typedef struct counts {
    atomic_int item[ITEMS];
    int64_t begin[RANGES], end[RANGES];
    atomic_int calls;
} counts;

static void count_body(void *ctx, int64_t begin, int64_t end, int thread) {
    counts *c = ctx;
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add(&c->item[i], 1);
    c->begin[thread] = begin;
    c->end[thread] = end;
    atomic_fetch_add(&c->calls, 1);
}

static void check_split(int64_t n, int64_t grain, int threads) {
    static counts c;
    memset(&c, 0, sizeof c);
    int ranges = ps_parallel_ranges(n, grain, threads);
    ps_parallel_for(n, grain, threads, count_body, &c);
    assert_int_equal(atomic_load(&c.calls), ranges);
    assert_true(ranges <= (threads < 1 ? 1 : threads));
    for (int64_t i = 0; i < ITEMS; i++)
        assert_int_equal(atomic_load(&c.item[i]), i < n);
    for (int r = 0; r < ranges; r++) {
        assert_int_equal(c.begin[r], r ? c.end[r - 1] : 0);
        if (ranges > 1) assert_true(c.end[r] - c.begin[r] >= grain);
    }
    if (ranges) assert_int_equal(c.end[ranges - 1], n);
}

static void test_split(void **state) {
    static const int64_t sizes[] = { 0, 1, 2, 3, 7, 64, 999, 1000 }, grains[] = { -1, 0, 1, 3, 100, 5000 };
    static const int threads[] = { 0, 1, 2, 3, 8, 150 };
    for (size_t i = 0; i < 8; i++) {
        for (size_t g = 0; g < 6; g++) {
            for (size_t t = 0; t < 6; t++)
                check_split(sizes[i], grains[g], threads[t]);
        }
    }
    assert_int_equal(ps_parallel_ranges(INT64_MAX, 1, 4), 4);
    assert_int_equal(ps_parallel_ranges(10, 4, 8), 2);
}

typedef struct box {
    ps_mutex lock;
    ps_cond changed;
    int value;
} box;

static void fill_box(void *ctx) {
    box *b = ctx;
    ps_mutex_lock(&b->lock);
    b->value = 7;
    ps_cond_signal(&b->changed);
    ps_mutex_unlock(&b->lock);
}

static void test_thread_and_wait(void **state) {
    box b = { .value = 0 };
    assert_true(ps_mutex_init(&b.lock) && ps_cond_init(&b.changed));
    ps_mutex_lock(&b.lock);
    int64_t start = ps_clock_ns();
    while (ps_cond_wait_until(&b.changed, &b.lock, start + 20000000)) { /* nobody signals: true only if spurious */
    }
    assert_true(ps_clock_ns() - start >= 20000000);
    assert_false(ps_cond_wait_until(&b.changed, &b.lock, -5)); /* long past */
    ps_thread thread;
    assert_true(ps_thread_start(&thread, "a-name-longer-than-fifteen", fill_box, &b));
    while (b.value != 7)
        ps_cond_wait(&b.changed, &b.lock);
    ps_mutex_unlock(&b.lock);
    ps_thread_join(thread);
    ps_cond_destroy(&b.changed);
    ps_mutex_destroy(&b.lock);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_split), cmocka_unit_test(test_thread_and_wait) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
