/* Sockets whose other end closes are told once, those that only carry data never. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hangup.h"
#include "base/os.h"
#include "base/thread.h"
#include "test_alloc_fail.h"

#define SOON INT64_C(20000000)
#define LONG INT64_C(10000000000)

static size_t wait_for(ps_hangups *h, int64_t ns, void **ret) {
    return ps_hangups_wait(h, ps_clock_ns() + ns, ret, 4);
}

static void test_tells(void **state) {
    ps_test_alloc t;
    ps_alloc_state alloc;
    ps_hangups *h;
    void *got[4];
    int a[2], b[2], c[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a) | socketpair(AF_UNIX, SOCK_STREAM, 0, b) |
                         socketpair(AF_UNIX, SOCK_STREAM, 0, c),
                     0);
    ps_test_alloc_init(&t, -1);
    ps_alloc_state_init(&alloc, &t.allocator);
    assert_int_equal(ps_hangups_create(&alloc, &h, NULL), PS_OK);
    assert_true(ps_hangups_add(h, a[0], a));
    assert_true(ps_hangups_add(h, b[0], b));
    assert_false(ps_hangups_add(h, b[0], b));
    assert_false(ps_hangups_add(h, -1, a));

    assert_int_equal(write(a[1], "data", 4), 4);
    assert_int_equal(wait_for(h, SOON, got), 0);
    assert_int_equal(shutdown(a[1], SHUT_WR), 0); /* one side is enough */
    assert_int_equal(wait_for(h, LONG, got), 1);
    assert_ptr_equal(got[0], a);
    close(a[1]);
    assert_int_equal(wait_for(h, SOON, got), 0); /* told once */

    close(c[1]); /* before it is watched */
    assert_true(ps_hangups_add(h, c[0], c));
    assert_int_equal(wait_for(h, LONG, got), 1);
    assert_ptr_equal(got[0], c);

    ps_hangups_remove(h, b[0]);
    close(b[1]);
    assert_int_equal(wait_for(h, SOON, got), 0);

    ps_hangups_wake(h);
    ps_hangups_wake(h);
    assert_int_equal(ps_hangups_wait(h, 0, got, 4), 0); /* would not end otherwise */
    assert_int_equal(wait_for(h, SOON, got), 0);
    ps_hangups_free(h);
    ps_hangups_free(NULL);
    atomic_store(&t.left, 0);
    assert_int_equal(ps_hangups_create(&alloc, &h, NULL), PS_NO_MEMORY);
    close(a[0]);
    close(b[0]);
    close(c[0]);
}

static void ring(void *ctx) {
    ps_sleep_ns(SOON);
    ps_hangups_wake(ctx);
}

static void test_wakes_another_thread(void **state) {
    ps_test_alloc t;
    ps_alloc_state alloc;
    ps_hangups *h;
    ps_thread thread;
    void *got[4];
    ps_test_alloc_init(&t, -1);
    ps_alloc_state_init(&alloc, &t.allocator);
    assert_int_equal(ps_hangups_create(&alloc, &h, NULL), PS_OK);
    assert_true(ps_thread_start(&thread, "ring", ring, h));
    assert_int_equal(ps_hangups_wait(h, 0, got, 4), 0);
    ps_thread_join(thread);
    ps_hangups_free(h);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_tells), cmocka_unit_test(test_wakes_another_thread) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
