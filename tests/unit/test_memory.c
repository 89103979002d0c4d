/* The allocator and the arena. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/os.h"
#include "test_alloc_fail.h"

static bool all_bytes(const void *data, unsigned char value, size_t n) {
    const unsigned char *p = data;
    while (n--) {
        if (*p++ != value) return false;
    }
    return true;
}

static void check_blocks(ps_alloc_state *a) {
    static const size_t sizes[] = { 0, 1, 15, 16, 17, 64, 1000, 4096, 300000 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        unsigned char *plain = ps_alloc(a, n), *zero = ps_alloc_zero(a, n);
        unsigned char *data = ps_alloc_data(a, n), *data_zero = ps_alloc_data_zero(a, n);
        assert_true(plain && zero && data && data_zero);
        assert_int_equal((uintptr_t)plain % 16, 0);
        assert_int_equal((uintptr_t)zero % 16, 0);
        assert_int_equal((uintptr_t)data % PS_ALIGN, 0);
        assert_int_equal((uintptr_t)data_zero % PS_ALIGN, 0);
        assert_true(all_bytes(zero, 0, n) && all_bytes(data_zero, 0, n));
        memset(plain, 1, n);
        memset(data, 2, n);
        data = ps_realloc(a, data, n + 1000);
        assert_int_equal((uintptr_t)data % PS_ALIGN, 0);
        assert_true(all_bytes(data, 2, n));
        plain = ps_realloc(a, plain, n / 2);
        assert_true(all_bytes(plain, 1, n / 2));
        ps_free(a, plain);
        ps_free(a, zero);
        ps_free(a, data);
        ps_free(a, data_zero);
    }
    ps_free(a, NULL);
    assert_int_equal(atomic_load(&a->bytes), 0);
}

static void test_blocks(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    check_blocks(&a);
    assert_int_equal(atomic_load(&a.calls), 9 * 6);
    ps_test_alloc t;
    ps_test_alloc_init(&t, -1);
    ps_alloc_state_init(&a, &t.allocator);
    check_blocks(&a);
    assert_int_equal(atomic_load(&t.live), 0);
}

static void test_accounting(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    void *p = ps_alloc(&a, 10000), *q = ps_alloc(&a, 5000);
    size_t both = atomic_load(&a.bytes);
    assert_in_range(both, 15000, 15200);
    ps_free(&a, p);
    assert_in_range(atomic_load(&a.bytes), 5000, 5100);
    assert_int_equal(atomic_load(&a.peak), both);
    ps_free(&a, q);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_overflow(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    size_t r;
    assert_null(ps_alloc(&a, SIZE_MAX));
    assert_null(ps_alloc(&a, SIZE_MAX - 8));
    assert_null(ps_alloc_data(&a, (size_t)PTRDIFF_MAX));
    assert_null(ps_alloc_array(&a, SIZE_MAX / 2, 3));
    assert_true(ps_mul_overflow_size(SIZE_MAX / 2, 3, &r));
    assert_false(ps_mul_overflow_size(1000, 3, &r));
    assert_int_equal(r, 3000);
    assert_true(ps_add_overflow_size(SIZE_MAX, 1, &r));
    assert_int_equal(atomic_load(&a.calls), 0);
}

static void test_realloc_failure_keeps_block(void **state) {
    ps_test_alloc t;
    ps_alloc_state a;
    ps_test_alloc_init(&t, 1);
    ps_alloc_state_init(&a, &t.allocator);
    char *s = ps_strdup(&a, "kept");
    assert_null(ps_realloc(&a, s, 1 << 20));
    assert_string_equal(s, "kept");
    ps_free(&a, s);
}

static void test_arena(void **state) {
    ps_alloc_state a;
    ps_arena arena;
    ps_alloc_state_init(&a, NULL);
    ps_arena_init(&arena, &a);
    size_t blocks = atomic_load(&a.calls);
    for (size_t i = 0; i < 20000; i++) {
        unsigned char *p = ps_arena_alloc(&arena, i % 100);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_true(all_bytes(p, 0, i % 100));
        memset(p, 0xFF, i % 100);
    }
    assert_true(atomic_load(&a.calls) - blocks < 30);
    unsigned char *big = ps_arena_alloc(&arena, 5 << 20);
    assert_true(all_bytes(big, 0, 5 << 20));
    assert_string_equal(ps_arena_strdup(&arena, "one"), "one");
    assert_string_equal(ps_arena_strndup(&arena, "three", 3), "thr");
    assert_string_equal(ps_arena_strndup(&arena, "a", 3), "a");
    assert_string_equal(ps_arena_printf(&arena, "%s-%d", "x", 7), "x-7");
    assert_memory_equal(ps_arena_memdup(&arena, "\0\1\2", 3), "\0\1\2", 3);
    assert_null(ps_arena_array(&arena, SIZE_MAX / 4, 8));
    assert_null(ps_arena_alloc(&arena, SIZE_MAX));
    assert_true(arena.bytes <= atomic_load(&a.bytes));
    ps_arena_release(&arena);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static ps_status arena_scenario(ps_alloc_state *a, void *ctx) {
    ps_arena arena;
    ps_arena_init(&arena, a);
    bool ok = true;
    for (int i = 0; i < 200 && ok; i++)
        ok = ps_arena_printf(&arena, "%0*d", 1 + i * 7, i) != NULL;
    ok = ok && ps_arena_alloc(&arena, 3 << 20);
    ps_arena_release(&arena);
    return ok ? PS_OK : PS_NO_MEMORY;
}

static void test_arena_failure(void **state) {
    assert_in_range(ps_test_sweep(arena_scenario, NULL), 3, 100);
}

static void test_limit(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    atomic_store(&a.limit, 4096);
    void *p = ps_alloc(&a, 3000);
    assert_non_null(p);
    size_t held = atomic_load(&a.bytes), calls = atomic_load(&a.calls);
    assert_null(ps_alloc(&a, 3000));
    assert_null(ps_alloc_data_zero(&a, SIZE_MAX - 4096));
    assert_int_equal(atomic_load(&a.bytes), held);
    assert_int_equal(atomic_load(&a.peak), held);
    assert_int_equal(atomic_load(&a.calls), calls);
    ps_free(&a, p);
    p = ps_alloc(&a, 3500);
    assert_non_null(p);
    ps_free(&a, p);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

/* What is below counts for what is above, and the limits of both hold. */
static void test_below(void **state) {
    ps_alloc_state above, a, b;
    ps_alloc_state_init(&above, NULL);
    ps_alloc_state_init_below(&a, &above);
    ps_alloc_state_init_below(&b, &above);
    atomic_store(&above.limit, 10000);
    atomic_store(&a.limit, 5000);
    void *own = ps_alloc(&above, 1000), *p = ps_alloc(&a, 4000), *q = ps_alloc_data_zero(&b, 3000);
    assert_true(own && p && q);
    assert_in_range(atomic_load(&a.bytes), 4000, 4100);
    assert_in_range(atomic_load(&b.bytes), 3000, 3200);
    size_t held = atomic_load(&above.bytes);
    assert_in_range(held, atomic_load(&a.bytes) + atomic_load(&b.bytes) + 1000, 8500);
    assert_null(ps_alloc(&a, 1500));
    assert_null(ps_alloc(&b, 3000));
    assert_int_equal(atomic_load(&above.bytes), held);
    assert_int_equal(atomic_load(&above.peak), held);
    p = ps_realloc(&a, p, 10);
    ps_free(&a, p);
    ps_free(&b, q);
    assert_int_equal(atomic_load(&a.bytes) + atomic_load(&b.bytes), 0);
    ps_free(&above, own);
    assert_int_equal(atomic_load(&above.bytes), 0);
    assert_int_equal(atomic_load(&above.calls), 4);
}

/* Pages that are given back count for neither. */
static void test_below_discard(void **state) {
    ps_alloc_state above, a;
    ps_alloc_state_init(&above, NULL);
    ps_alloc_state_init_below(&a, &above);
    void *p = ps_alloc_data(&a, 1 << 20);
    assert_non_null(p);
    ps_discard(&a, p);
    assert_true(atomic_load(&a.bytes) < 16384 && atomic_load(&above.bytes) == atomic_load(&a.bytes));
    assert_true(ps_refill(&a, p));
    assert_true(atomic_load(&a.bytes) >= 1 << 20 && atomic_load(&above.bytes) == atomic_load(&a.bytes));
    ps_free(&a, p);
    assert_int_equal(atomic_load(&above.bytes), 0);
}

/* What is counted without a block: in both accounts, under both limits, and in the peaks. */
static void test_count(void **state) {
    ps_alloc_state engine, model;
    ps_alloc_state_init(&engine, NULL);
    ps_alloc_state_init_below(&model, &engine);
    atomic_store(&engine.limit, 1000);
    atomic_store(&model.limit, 600);
    const size_t calls = atomic_load(&model.calls);
    assert_true(ps_alloc_count(&model, 500));
    assert_false(ps_alloc_count(&model, 101));
    assert_true(ps_alloc_count(&engine, 450));
    assert_false(ps_alloc_count(&model, 51));
    assert_null(ps_alloc(&model, 60)); /* beyond the engine's */
    assert_int_equal(atomic_load(&model.bytes), 500);
    assert_int_equal(atomic_load(&engine.bytes), 950);
    ps_alloc_uncount(&model, 500);
    ps_alloc_uncount(&engine, 450);
    assert_true(atomic_load(&model.bytes) == 0 && atomic_load(&engine.bytes) == 0);
    assert_true(atomic_load(&model.peak) == 500 && atomic_load(&engine.peak) == 950);
    assert_int_equal(atomic_load(&model.calls), calls);
}

/* Large or not, malloc's or a caller's: the same rules as for all blocks. */
static void test_lasting(void **state) {
    static const size_t sizes[] = { 0, 1, 100000, (128 << 10) - 1, 128 << 10, 1000003 };
    ps_test_alloc own;
    for (int user = 0; user < 2; user++) {
        ps_alloc_state a;
        ps_test_alloc_init(&own, -1);
        ps_alloc_state_init(&a, user ? &own.allocator : NULL);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const size_t n = sizes[i];
            unsigned char *p = ps_alloc_lasting(&a, n), *zero = ps_alloc_lasting_zero(&a, n);
            assert_true(p && zero && (uintptr_t)p % PS_ALIGN == 0 && (uintptr_t)zero % PS_ALIGN == 0);
            assert_true(all_bytes(zero, 0, n));
            assert_true(atomic_load(&a.bytes) >= 2 * n && atomic_load(&a.bytes) < 2 * n + 1000);
            memset(p, 7, n);
            p = ps_realloc(&a, p, n + 300000);
            assert_true(p && (uintptr_t)p % PS_ALIGN == 0 && all_bytes(p, 7, n));
            memset(p, 8, n + 300000);
            ps_discard(&a, p);
            assert_true(ps_refill(&a, p));
            memset(p, 9, n + 300000);
            ps_discard(&a, p);
            ps_free(&a, p); /* while its content is away */
            ps_free(&a, zero);
            assert_int_equal(atomic_load(&a.bytes), 0);
        }
        atomic_store(&a.limit, (size_t)1 << 20);
        assert_null(ps_alloc_lasting(&a, (size_t)1 << 20));
        assert_null(ps_alloc_lasting(&a, SIZE_MAX));
        assert_int_equal(atomic_load(&a.bytes), 0);
        assert_int_equal(atomic_load(&own.live), 0);
    }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_PAGES false
#else
#define OWN_PAGES true
#endif

/* Every second of many blocks is freed: what malloc would keep between the others goes back to the system. */
static void test_lasting_goes_back(void **state) {
    enum { N = 64, SIZE = 1 << 20 };
    unsigned char *blocks[N], *first[2];
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    for (int i = 0; i < 2; i++) { /* after this malloc would take blocks of this size from its heap */
        first[i] = ps_alloc_data(&a, 2 * SIZE);
        assert_non_null(first[i]);
        memset(first[i], 1, 2 * SIZE);
        ps_free(&a, first[i]);
    }
    for (int i = 0; i < N; i++) {
        blocks[i] = ps_alloc_lasting(&a, SIZE);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, SIZE);
    }
    const uint64_t full = ps_memory_resident();
    for (int i = 0; i < N; i += 2)
        ps_free(&a, blocks[i]);
    if (OWN_PAGES) assert_true(ps_memory_resident() + N / 2 * SIZE <= full + ((uint64_t)2 << 20));
    for (int i = 1; i < N; i += 2)
        ps_free(&a, blocks[i]);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),   cmocka_unit_test(test_accounting),
        cmocka_unit_test(test_count),    cmocka_unit_test(test_lasting),  cmocka_unit_test(test_lasting_goes_back),
        cmocka_unit_test(test_limit),    cmocka_unit_test(test_below),      cmocka_unit_test(test_below_discard),
        cmocka_unit_test(test_overflow), cmocka_unit_test(test_realloc_failure_keeps_block),
        cmocka_unit_test(test_arena),    cmocka_unit_test(test_arena_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
