/* Which requests run on the thread that read them: the rule of quick.h, told with run times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/quick.h"

enum { SHORT_NS = 5000, LONG_NS = 5000000 };

static bool is_quick(const ps_quick *q, uint64_t key) {
    return ps_quick_is(q, key, PS_QUICK_ALONE_NS);
}

static void count(ps_quick *q, uint64_t key, int64_t ns, bool here, int times) {
    for (int i = 0; i < times; i++)
        ps_quick_count(q, key, ns, here);
}

/* Runs elsewhere that it takes until the kind is quick. */
static int runs_until_quick(ps_quick *q, uint64_t key, int64_t ns) {
    int n = 0;
    for (; n < 200000 && !is_quick(q, key); n++)
        ps_quick_count(q, key, ns, false);
    return n;
}

static void test_first_runs_go_elsewhere(void **state) {
    ps_quick q = { 0 };
    uint64_t key = ps_quick_mix(0, 7);
    assert_false(is_quick(&q, key));
    ps_quick_count(&q, key, LONG_NS, false); /* the first makes a plan for its shapes */
    assert_int_equal(runs_until_quick(&q, key, SHORT_NS), PS_QUICK_FIRST_RUNS);
    assert_false(is_quick(&q, ps_quick_mix(0, 8)));
}

static void test_long_runs_are_never_quick(void **state) {
    ps_quick q = { 0 };
    uint64_t key = ps_quick_mix(0, 7);
    assert_int_equal(runs_until_quick(&q, key, LONG_NS), 200000);
    assert_int_equal(runs_until_quick(&q, key, PS_QUICK_ALONE_NS * 3 / 2), 200000);
}

static void test_one_interrupted_run_changes_nothing(void **state) {
    ps_quick q = { 0 };
    uint64_t key = ps_quick_mix(0, 7);
    runs_until_quick(&q, key, SHORT_NS);
    for (int i = 0; i < 100; i++) {
        count(&q, key, SHORT_NS, true, 40);
        ps_quick_count(&q, key, LONG_NS, true);
        assert_true(runs_until_quick(&q, key, SHORT_NS) <= 1);
    }
}

static void test_a_kind_that_became_slow_leaves(void **state) {
    ps_quick q = { 0 };
    uint64_t key = ps_quick_mix(0, 7);
    runs_until_quick(&q, key, SHORT_NS);
    count(&q, key, PS_QUICK_ALONE_NS * 3, true, 8);
    assert_false(is_quick(&q, key));
    assert_true(runs_until_quick(&q, key, SHORT_NS) < 20);
}

/* What shapes do not fix: one run in twenty takes long. The share of runs that are tried here must go down. */
static void test_two_bounds(void **state) {
    ps_quick q = { 0 };
    uint64_t key = ps_quick_mix(0, 7);
    count(&q, key, 30000, false, 50);
    assert_true(ps_quick_is(&q, key, PS_QUICK_ALONE_NS));
    assert_false(ps_quick_is(&q, key, PS_QUICK_SHARED_NS));
    count(&q, key, SHORT_NS, true, 50);
    assert_true(ps_quick_is(&q, key, PS_QUICK_SHARED_NS));
}

static void test_strikes_add_up(void **state) {
    ps_quick q = { 0 };
    uint64_t key = ps_quick_mix(0, 7);
    int tried = 0, early = 0;
    for (int i = 0; i < 20000; i++) {
        bool slow = i % 20 == 19, here = is_quick(&q, key);
        tried += here;
        if (i == 200) early = tried;
        if (here && slow)
            ps_quick_strike(&q, key);
        else
            ps_quick_count(&q, key, slow ? LONG_NS : SHORT_NS, here);
    }
    assert_true(early > 10);
    assert_true(tried < 500);
}

static void test_strikes_are_forgotten(void **state) {
    ps_quick q = { 0 };
    uint64_t key = ps_quick_mix(0, 7);
    runs_until_quick(&q, key, SHORT_NS);
    for (int i = 0; i < 50; i++) { /* now and then: a machine that is busy, not a kind that is slow */
        ps_quick_strike(&q, key);
        assert_true(runs_until_quick(&q, key, SHORT_NS) <= 16);
        count(&q, key, SHORT_NS, true, 2000);
    }
}

static void test_kinds_share_a_table(void **state) {
    ps_quick q = { 0 };
    uint64_t first = PS_QUICK_KINDS, second = 2 * PS_QUICK_KINDS, other = PS_QUICK_KINDS + 1;
    runs_until_quick(&q, first, SHORT_NS);
    runs_until_quick(&q, other, SHORT_NS);
    count(&q, second, SHORT_NS, true, 3); /* what ran here and is not known any more says nothing */
    assert_true(is_quick(&q, first));
    ps_quick_count(&q, second, SHORT_NS, false);
    assert_false(is_quick(&q, first));
    assert_true(is_quick(&q, other));
    ps_quick_strike(&q, first);
    assert_int_equal(runs_until_quick(&q, second, SHORT_NS), PS_QUICK_FIRST_RUNS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_runs_go_elsewhere),
        cmocka_unit_test(test_long_runs_are_never_quick),
        cmocka_unit_test(test_one_interrupted_run_changes_nothing),
        cmocka_unit_test(test_a_kind_that_became_slow_leaves),
        cmocka_unit_test(test_two_bounds),
        cmocka_unit_test(test_strikes_add_up),
        cmocka_unit_test(test_strikes_are_forgotten),
        cmocka_unit_test(test_kinds_share_a_table),
    };
    return cmocka_run_group_tests_name("server_quick", tests, NULL, NULL);
}
