/* The scheduler's skip list beside a sorted array that does everything the long way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sched/queue.h"

enum { ROOM = 600 };

typedef struct pair {
    ps_sched_queue queue;
    ps_sched_request all[ROOM], *sorted[ROOM]; /* the array: in order */
    bool inside[ROOM];
    uint32_t n, items;
    uint64_t random, serial;
} pair;

static uint32_t draw(pair *p, uint32_t below) {
    p->random = p->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(p->random >> 33) % below;
}

static bool before(const ps_sched_request *a, const ps_sched_request *b) {
    if (a->rank != b->rank) return a->rank < b->rank;
    if (a->order_ns != b->order_ns) return a->order_ns < b->order_ns;
    return a->serial < b->serial;
}

static uint32_t place_of(const pair *p, const ps_sched_request *r) {
    uint32_t i = 0;
    while (i < p->n && before(p->sorted[i], r))
        i++;
    return i;
}

static void array_insert(pair *p, ps_sched_request *r) {
    uint32_t at = place_of(p, r);
    memmove(&p->sorted[at + 1], &p->sorted[at], (p->n - at) * sizeof *p->sorted);
    p->sorted[at] = r;
    p->n++;
    p->items += r->items;
}

static void array_remove(pair *p, uint32_t at) {
    p->items -= p->sorted[at]->items;
    p->n--;
    memmove(&p->sorted[at], &p->sorted[at + 1], (p->n - at) * sizeof *p->sorted);
}

static void check(pair *p) {
    const ps_sched_request *r = p->queue.link[0];
    assert_int_equal(p->queue.count, p->n);
    assert_int_equal(p->queue.items, p->items);
    for (uint32_t i = 0; i < p->n; i++, r = r->link[0]) {
        assert_ptr_equal(r, p->sorted[i]);
        assert_ptr_equal(ps_sched_queue_at(&p->queue, i), r);
        assert_int_equal(ps_sched_queue_before(&p->queue, r), i);
    }
    assert_null(r);
    uint32_t by_age = 0;
    uint64_t serial = 0;
    for (r = p->queue.oldest; r; r = r->newer, by_age++) {
        assert_true(by_age == 0 || r->serial > serial);
        serial = r->serial;
    }
    assert_int_equal(by_age, p->n);
}

static void insert_one(pair *p) {
    for (uint32_t i = 0; i < ROOM; i++) {
        ps_sched_request *r = &p->all[i];
        if (p->inside[i]) continue;
        *r = (ps_sched_request) { .rank = draw(p, 3) ? UINT32_MAX : draw(p, 2),
                                  .order_ns = draw(p, 50),
                                  .items = 1 + draw(p, 3),
                                  .serial = p->serial++ };
        p->inside[i] = true;
        ps_sched_queue_insert(&p->queue, r);
        array_insert(p, r);
        return;
    }
}

static void take_some(pair *p) {
    uint32_t at = draw(p, p->n), n = 1 + draw(p, p->n - at);
    if (n > 40) n = 40;
    ps_sched_request *r = ps_sched_queue_take(&p->queue, at, n);
    for (uint32_t i = 0; i < n; i++, r = r->next) {
        assert_ptr_equal(r, p->sorted[at]);
        p->inside[r - p->all] = false;
        array_remove(p, at);
    }
    assert_null(r);
}

static void move_one(pair *p) {
    uint32_t at = draw(p, p->n);
    ps_sched_request *r = p->sorted[at];
    int64_t order = draw(p, 80);
    array_remove(p, at);
    ps_sched_queue_move(&p->queue, r, order);
    array_insert(p, r);
}

static void test_random(void **state) {
    pair *p = calloc(1, sizeof *p);
    assert_non_null(p);
    for (uint32_t seed = 1; seed <= 20; seed++) {
        memset(p, 0, sizeof *p);
        p->random = seed;
        ps_sched_queue_init(&p->queue, seed);
        for (int step = 0; step < 600; step++) {
            uint32_t what = draw(p, 10);
            if (what < 6 || p->n == 0) {
                insert_one(p);
            } else if (what < 8) {
                uint32_t at = draw(p, p->n);
                p->inside[p->sorted[at] - p->all] = false;
                ps_sched_queue_remove(&p->queue, p->sorted[at]);
                array_remove(p, at);
            } else if (what == 8) {
                move_one(p);
            } else {
                take_some(p);
            }
            if (step % 7 == 0) check(p);
            ps_sched_request key = { .rank = draw(p, 3), .order_ns = draw(p, 60) };
            assert_int_equal(ps_sched_queue_before_order(&p->queue, key.rank, key.order_ns), place_of(p, &key));
        }
        check(p);
    }
    free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_random) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
