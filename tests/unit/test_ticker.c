/* The ticker wakes whoever waits in an epoll set, again and again, until it is told to stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/ticker.h"
#include "test_alloc_fail.h"

/* Events until n came or `ms` went by without one. */
static int wait_events(int set, int n, int ms) {
    int seen = 0;
    struct epoll_event event;
    while (seen < n && epoll_wait(set, &event, 1, ms) == 1) {
        assert_null(event.data.ptr);
        seen++;
    }
    return seen;
}

static void test_ticks(void **state) {
    ps_test_alloc t;
    ps_alloc_state alloc;
    ps_ticker *ticker;
    int sets[2] = { epoll_create1(EPOLL_CLOEXEC), epoll_create1(EPOLL_CLOEXEC) };
    ps_test_alloc_init(&t, -1);
    ps_alloc_state_init(&alloc, &t.allocator);
    assert_int_equal(ps_ticker_create(&alloc, &ticker, NULL), PS_OK);
    for (int i = 0; i < 2; i++) {
        ps_ticker_join(ticker, sets[i]);
        ps_ticker_join(ticker, sets[i]); /* no second event */
    }
    ps_ticker_join(ticker, -1);
    assert_int_equal(wait_events(sets[0], 1, 50), 0);
    ps_ticker_set(ticker, 1000000);
    for (int i = 0; i < 2; i++)
        assert_int_equal(wait_events(sets[i], 5, 5000), 5);
    ps_ticker_set(ticker, 0);
    ps_sleep_ns(20000000);
    (void)wait_events(sets[0], 1, 20); /* the one that was under way */
    assert_int_equal(wait_events(sets[0], 1, 50), 0);
    ps_ticker_set(ticker, 1000000);
    assert_int_equal(wait_events(sets[1], 2, 5000), 2);
    ps_ticker_set(ticker, 10000000);
    ps_ticker_slow(ticker, true);
    assert_int_equal(wait_events(sets[1], 2, 5000), 2); /* the first two may be of before */
    const int64_t start = ps_clock_ns();
    assert_int_equal(wait_events(sets[1], 2, 5000), 2);
    assert_true(ps_clock_ns() - start > PS_TICKER_SLOW * INT64_C(10000000));
    ps_ticker_slow(ticker, false);
    assert_int_equal(wait_events(sets[1], 2, 5000), 2);
    ps_ticker_free(ticker);
    ps_ticker_free(NULL);
    atomic_store(&t.left, 0);
    assert_int_equal(ps_ticker_create(&alloc, &ticker, NULL), PS_NO_MEMORY);
    for (int i = 0; i < 2; i++)
        close(sets[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_ticks) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
