/* Order of jobs in the queue of a pool: by rank, then by arrival; jobs without a rank last. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/thread.h"
#include "server/pool.h"

static ps_alloc_state alloc;

typedef struct gate {
    ps_mutex lock;
    ps_cond changed;
    bool started, open;
} gate;

typedef struct named_job {
    ps_job job; /* first */
    char name;
    gate *gate;
    char *order; /* written by the pool's one thread only */
} named_job;

static void write_name(ps_job *job) {
    named_job *j = (named_job *)job;
    j->order[strlen(j->order)] = j->name;
}

static void wait_at_gate(ps_job *job) {
    gate *g = ((named_job *)job)->gate;
    ps_mutex_lock(&g->lock);
    g->started = true;
    ps_cond_broadcast(&g->changed);
    while (!g->open)
        ps_cond_wait(&g->changed, &g->lock);
    ps_mutex_unlock(&g->lock);
}

/* Submits one job for each letter while the only thread is busy; returns the order in which they ran. */
static void run_in_order(const char *names, const uint32_t *ranks, char *order) {
    gate g = { .started = false };
    named_job first = { .job = { .run = wait_at_gate }, .gate = &g }, jobs[16];
    ps_pool *pool;
    assert_true(ps_mutex_init(&g.lock) && ps_cond_init(&g.changed));
    assert_int_equal(ps_pool_create(&alloc, "test", 1, 16, &pool, NULL), PS_OK);
    assert_int_equal(ps_pool_submit(pool, &first.job, NULL), PS_OK);
    ps_mutex_lock(&g.lock);
    while (!g.started)
        ps_cond_wait(&g.changed, &g.lock);
    ps_mutex_unlock(&g.lock);
    for (size_t i = 0; names[i]; i++) {
        jobs[i] = (named_job) { .job = { .run = write_name, .rank = ranks[i] }, .name = names[i], .order = order };
        assert_int_equal(ps_pool_submit(pool, &jobs[i].job, NULL), PS_OK);
    }
    ps_mutex_lock(&g.lock);
    g.open = true;
    ps_cond_broadcast(&g.changed);
    ps_mutex_unlock(&g.lock);
    ps_pool_free(pool);
    ps_cond_destroy(&g.changed);
    ps_mutex_destroy(&g.lock);
}

static void check(const char *names, const uint32_t *ranks, const char *want) {
    char order[17] = "";
    run_in_order(names, ranks, order);
    assert_string_equal(order, want);
}

static void test_order(void **state) {
    check("abc", (const uint32_t[]) { 0, 0, 0 }, "abc");
    check("abc", (const uint32_t[]) { 3, 2, 1 }, "cba");
    check("abcd", (const uint32_t[]) { 2, 1, 2, 1 }, "bdac");
    check("abcdef", (const uint32_t[]) { 0, 5, 0, UINT32_MAX, 1, 5 }, "ebfdac");
    check("abc", (const uint32_t[]) { 0, 1, 0 }, "bac");
    check("a", (const uint32_t[]) { 7 }, "a");
    check("ab", (const uint32_t[]) { 7, 0 }, "ab");
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_order) };
    ps_alloc_state_init(&alloc, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
