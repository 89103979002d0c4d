/* Large blocks kept for the next bodies: the smallest that fits and is not far too large, never more than so many, and
 * what is not needed fades. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime_fixture.h"
#include "server/http/blocks.h"

enum { KB = 1024, MB = 1024 * KB };

static void put_most(ps_blocks *b, size_t size, size_t most) {
    char *data = ps_alloc(b->alloc, size);
    assert_non_null(data);
    ps_blocks_put(b, data, size, most);
}

static void put(ps_blocks *b, size_t size) {
    put_most(b, size, 0);
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
    put_most(&b, PS_BLOCKS_LARGEST + 1, SIZE_MAX);
    assert_int_equal(b.n, 0);
    for (int i = 0; i < 6; i++)
        put(&b, PS_BLOCKS_BYTES / 4);
    assert_int_equal(b.n, 4);
    assert_int_equal(b.bytes, PS_BLOCKS_BYTES);
    ps_blocks_clear(&b);
    assert_int_equal(ps_engine_memory(e, NULL), before);
    for (int i = 0; i < 2 * PS_MAX_BLOCKS; i++)
        put_most(&b, 20 * KB, SIZE_MAX);
    assert_int_equal(b.n, PS_MAX_BLOCKS);
    ps_blocks_release(&b);
    assert_int_equal(ps_engine_memory(e, NULL), before);
    ps_engine_free(e);
}

/* As many as a crowd needed, as far as there is memory for them; the ones that came first go first. */
static void test_most(void **state) {
    ps_engine *e = fixture_engine(1, NULL);
    ps_blocks b;
    assert_true(ps_blocks_init(&b, ps_engine_alloc(e)));
    for (size_t i = 0; i < 100; i++)
        put_most(&b, MB - i, 80 * (size_t)MB);
    assert_int_equal(b.n, 80);
    ps_blocks_limit(&b, 6 * (size_t)MB);
    assert_int_equal(b.n, 6);
    assert_int_equal(b.bytes, 6 * MB - 74 - 75 - 76 - 77 - 78 - 79);
    ps_blocks_limit(&b, 0);
    assert_int_equal(b.n, 4);
    ps_blocks_release(&b);
    ps_engine_free(e);
}

static void test_fade(void **state) {
    ps_engine *e = fixture_engine(1, NULL);
    ps_blocks b;
    size_t size;
    int seconds = 0;
    char *taken[40];
    assert_true(ps_blocks_init(&b, ps_engine_alloc(e)));
    assert_false(ps_blocks_fade(&b));
    for (int i = 0; i < 40; i++)
        put_most(&b, MB, SIZE_MAX);
    for (int turn = 0; turn < 3; turn++) { /* all of them are needed now and then */
        assert_true(ps_blocks_fade(&b));
        assert_int_equal(b.n, 40);
        for (int i = 0; i < 40; i++)
            taken[i] = ps_blocks_take(&b, MB, &size);
        for (int i = 0; i < 40; i++)
            ps_blocks_put(&b, taken[i], MB, SIZE_MAX);
    }
    assert_true(ps_blocks_fade(&b));
    while (ps_blocks_fade(&b))
        seconds++;
    assert_int_equal(b.bytes, PS_BLOCKS_BYTES);
    assert_in_range(seconds, 30, 60); /* a block a second: the 32nd part of 40 and less is one or two of them */
    ps_blocks_release(&b);
    ps_engine_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_best_fit), cmocka_unit_test(test_limits),
                                        cmocka_unit_test(test_most), cmocka_unit_test(test_fade) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
