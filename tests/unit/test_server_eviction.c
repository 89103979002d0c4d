/* The eviction policy: order, weights, whom it keeps, and beside a search over all sets of small cases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/eviction.h"

#define S INT64_C(1000000000)

/* "0 2": the indices of those that go. */
static void check(ps_resident *m, size_t n, uint64_t bytes, size_t count, const char *expected) {
    char got[64] = "";
    bool ok = ps_eviction_choose(m, n, bytes, count, 100 * S);
    for (size_t i = 0; i < n; i++)
        if (m[i].chosen) snprintf(got + strlen(got), sizeof got - strlen(got), "%s%zu", *got ? " " : "", i);
    assert_string_equal(ok ? got : "none", expected);
    if (!ok) assert_string_equal(got, "");
}

static void test_least_recently_used_goes_first(void **state) {
    ps_resident m[] = { { .bytes = 10, .used_ns = 90 * S, .reload_ns = S },
                        { .bytes = 10, .used_ns = 50 * S, .reload_ns = S },
                        { .bytes = 10, .used_ns = 70 * S, .reload_ns = S } };
    check(m, 3, 0, 0, "");
    check(m, 3, 1, 0, "1");
    check(m, 3, 10, 0, "1");
    check(m, 3, 11, 0, "1 2");
    check(m, 3, 30, 0, "0 1 2");
    check(m, 3, 31, 0, "none");
    check(m, 3, 0, 2, "1 2");
    check(m, 3, 5, 4, "none");
}

static void test_a_costly_reload_keeps(void **state) {
    ps_resident m[] = { { .bytes = 10, .used_ns = 60 * S, .reload_ns = 8 * S }, /* idle for 5 reloads */
                        { .bytes = 10, .used_ns = 90 * S, .reload_ns = S } };   /* for 10 */
    check(m, 2, 1, 0, "1");
    m[0].used_ns = 0; /* 12.5 */
    check(m, 2, 1, 0, "0");
}

static void test_a_free_reload_is_not_infinitely_cheap(void **state) {
    ps_resident m[] = { { .bytes = 10, .used_ns = 100 * S, .reload_ns = 0 },
                        { .bytes = 10, .used_ns = 99 * S, .reload_ns = 10 * S } };
    check(m, 2, 1, 0, "1");
    m[0].used_ns = 200 * S; /* a clock that two threads read is not always in order */
    check(m, 2, 1, 0, "1");
}

static void test_kept_models_stay(void **state) {
    ps_resident m[] = { { .bytes = 10, .used_ns = 0, .reload_ns = S, .kept = true },
                        { .bytes = 10, .used_ns = 50 * S, .reload_ns = S } };
    check(m, 2, 10, 0, "1");
    check(m, 2, 11, 0, "none");
    check(m, 2, 0, 2, "none");
    check(m, 0, 1, 0, "none");
    check(m, 0, 0, 0, "");
}

static void test_no_more_go_than_needed(void **state) {
    ps_resident m[] = { { .bytes = 1, .used_ns = 0, .reload_ns = S },
                        { .bytes = 100, .used_ns = 10 * S, .reload_ns = S },
                        { .bytes = 1, .used_ns = 20 * S, .reload_ns = S } };
    check(m, 3, 50, 0, "1"); /* the small one alone had not been enough */
    check(m, 3, 101, 0, "0 1");
    check(m, 3, 50, 2, "0 1");
    check(m, 3, 102, 0, "0 1 2");
}

/* Beside a search over all sets: it says yes exactly if a set is enough, and none of those it chose could stay. */
static void test_random_cases(void **state) {
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        ps_resident m[6];
        for (int i = 0; i < 6; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            m[i] = (ps_resident) { .bytes = seed >> 60,
                                   .used_ns = (int64_t)(seed >> 50 & 127) * S,
                                   .reload_ns = (int64_t)(seed >> 40 & 7) * S,
                                   .kept = (seed >> 37 & 3) == 0 };
        }
        uint64_t bytes = seed >> 20 & 63, freed = 0;
        size_t count = seed >> 10 & 3, gone = 0;
        bool possible = false;
        for (unsigned set = 0; set < 64 && !possible; set++) {
            uint64_t sum = 0;
            size_t n = 0;
            bool allowed = true;
            for (int i = 0; i < 6; i++) {
                if (!(set >> i & 1)) continue;
                allowed &= !m[i].kept;
                sum += m[i].bytes;
                n++;
            }
            possible = allowed && sum >= bytes && n >= count;
        }
        assert_int_equal(ps_eviction_choose(m, 6, bytes, count, 100 * S), possible);
        for (int i = 0; i < 6; i++) {
            assert_false(m[i].kept && m[i].chosen);
            freed += m[i].chosen ? m[i].bytes : 0;
            gone += m[i].chosen;
        }
        if (!possible) assert_int_equal(gone, 0);
        if (possible) assert_true(freed >= bytes && gone >= count);
        for (int i = 0; i < 6; i++)
            if (m[i].chosen) assert_true(freed - m[i].bytes < bytes || gone == count);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least_recently_used_goes_first),
        cmocka_unit_test(test_a_costly_reload_keeps),
        cmocka_unit_test(test_a_free_reload_is_not_infinitely_cheap),
        cmocka_unit_test(test_kept_models_stay),
        cmocka_unit_test(test_no_more_go_than_needed),
        cmocka_unit_test(test_random_cases),
    };
    return cmocka_run_group_tests_name("server_eviction", tests, NULL, NULL);
}
