/* Large blocks kept for the next bodies: the smallest that fits and is not far too large, and never more than so
 * many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime_fixture.h"
#include "server/http/blocks.h"

enum { KB = 1024 };

static void put(ps_blocks *b, size_t size) {
    char *data = ps_alloc(b->alloc, size);
    assert_non_null(data);
    ps_blocks_put(b, data, size);
}

static size_t take(ps_blocks *b, size_t need) {
    size_t size = 0;
    ps_free(b->alloc, ps_blocks_take(b, need, &size));
    return size;
}

static void test_best_fit(void **state) {
    ps_engine *e = fixture_engine(1, NULL);
    ps_blocks b;
    assert_true(ps_blocks_init(&b, ps_engine_alloc(e)));
    assert_int_equal(take(&b, 1), 0);
    put(&b, 300 * KB);
    put(&b, 100 * KB);
    put(&b, 200 * KB);
    assert_int_equal(take(&b, 301 * KB), 0);
    assert_int_equal(take(&b, 20 * KB), 0); /* a fifth of the smallest */
    assert_int_equal(take(&b, 101 * KB), 200 * KB);
    assert_int_equal(take(&b, 101 * KB), 300 * KB);
    assert_int_equal(take(&b, 25 * KB), 100 * KB);
    assert_int_equal(b.n, 0);
    assert_int_equal(b.bytes, 0);
    ps_blocks_release(&b);
    ps_engine_free(e);
}

static void test_limits(void **state) {
    ps_engine *e = fixture_engine(1, NULL);
    ps_blocks b;
    assert_true(ps_blocks_init(&b, ps_engine_alloc(e)));
    const size_t before = ps_engine_memory(e, NULL);
    put(&b, PS_BLOCKS_BYTES / 4 + 1);
    assert_int_equal(b.n, 0);
    for (int i = 0; i < 6; i++)
        put(&b, PS_BLOCKS_BYTES / 4);
    assert_int_equal(b.n, 4);
    assert_int_equal(b.bytes, PS_BLOCKS_BYTES);
    ps_blocks_clear(&b);
    assert_int_equal(ps_engine_memory(e, NULL), before);
    for (int i = 0; i < 2 * PS_MAX_BLOCKS; i++)
        put(&b, 20 * KB);
    assert_int_equal(b.n, PS_MAX_BLOCKS);
    ps_blocks_release(&b);
    assert_int_equal(ps_engine_memory(e, NULL), before);
    ps_engine_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_best_fit), cmocka_unit_test(test_limits) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
