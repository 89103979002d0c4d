/* Requests that wait for a load, or to be read: told once each, by that or by the time, and not once they have left;
 * and those that are being read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/thread.h"
#include "server/coming.h"
#include "server/waits.h"
#include "test_alloc_fail.h"

#define MS INT64_C(1000000)
#define MANY 2000

typedef struct request {
    ps_wait wait; /* first */
    atomic_int told;
} request;

static void over(ps_wait *w) {
    atomic_fetch_add(&((request *)w)->told, 1);
}

static void add(ps_waits *waits, const void *key, request *r, int64_t ms) {
    r->wait.over = over;
    r->wait.until_ns = ps_clock_ns() + ms * MS;
    ps_waits_add(waits, key, &r->wait);
}

static bool told_soon(request *r) {
    for (int64_t end = ps_clock_ns() + 10000 * MS; ps_clock_ns() < end && !atomic_load(&r->told);)
        ps_sleep_ns(MS);
    return atomic_load(&r->told) == 1;
}

static void test_waits(void **state) {
    ps_test_alloc t;
    ps_alloc_state alloc;
    ps_waits *waits;
    int one, two;
    request a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
    ps_test_alloc_init(&t, -1);
    ps_alloc_state_init(&alloc, &t.allocator);
    assert_int_equal(ps_waits_create(&alloc, &waits, NULL), PS_OK);
    add(waits, &one, &a, 60000);
    add(waits, &two, &b, 60000);
    add(waits, &one, &c, 60000);
    add(waits, &two, &d, 5); /* ends before those that came earlier */
    assert_true(told_soon(&d));
    assert_true(ps_waits_remove(waits, &c.wait));
    assert_false(ps_waits_remove(waits, &c.wait));
    assert_false(ps_waits_remove(waits, &d.wait));
    ps_waits_end(waits, &one);
    assert_int_equal(atomic_load(&a.told), 1);
    assert_int_equal(atomic_load(&b.told) + atomic_load(&c.told), 0);
    add(waits, &one, &a, 60000); /* it asked again, and waits again */
    ps_waits_end(waits, NULL);
    assert_int_equal(atomic_load(&a.told), 2);
    assert_int_equal(atomic_load(&b.told), 1);
    ps_waits_end(waits, NULL);
    assert_int_equal(atomic_load(&b.told), 1);
    ps_waits_free(waits);
    ps_waits_free(NULL);
    atomic_store(&t.left, 0);
    assert_int_equal(ps_waits_create(&alloc, &waits, NULL), PS_NO_MEMORY);
}

/* ---- order ---- */

typedef struct ordered {
    ps_wait wait; /* first */
    ps_waits *waits;
    struct ordered *comes; /* while this one is told */
    bool again, joins;
    char *order, name;
} ordered;

static void note(ps_wait *w) {
    ordered *o = (ordered *)w;
    o->order[strlen(o->order)] = o->name;
    if (o->comes) {
        assert_true(ps_waits_any(o->waits));
        o->comes->joins = ps_waits_join(o->waits, o->order, &o->comes->wait);
    }
    if (o->again) assert_true(ps_waits_add(o->waits, o->order, w)); /* its model is not there after all */
}

/* Who comes while those before it are being told is told after them, and does not go ahead; who waits anew is not told
 * twice. */
static void test_order(void **state) {
    ps_alloc_state alloc;
    ps_waits *waits;
    char order[9] = "", other[9] = "";
    ordered a = { .name = 'a' }, b = { .name = 'b', .again = true }, c = { .name = 'c' }, d = { .name = 'd' };
    ordered *all[] = { &a, &b, &c, &d };
    ps_alloc_state_init(&alloc, NULL);
    assert_int_equal(ps_waits_create(&alloc, &waits, NULL), PS_OK);
    for (int i = 0; i < 4; i++) {
        all[i]->wait = (ps_wait) { .over = note, .until_ns = INT64_MAX - 1 };
        all[i]->waits = waits;
        all[i]->order = order;
    }
    a.comes = &c;
    c.comes = &d;
    assert_false(ps_waits_any(waits));
    assert_false(ps_waits_join(waits, order, &a.wait));
    assert_true(ps_waits_add(waits, order, &a.wait));
    assert_false(ps_waits_join(waits, other, &b.wait));
    assert_true(ps_waits_join(waits, order, &b.wait));
    ps_waits_end(waits, order);
    assert_string_equal(order, "abcd");
    assert_true(c.joins && d.joins);
    assert_true(ps_waits_remove(waits, &b.wait));
    assert_false(ps_waits_any(waits));
    ps_waits_free(waits);
}

/* Given up before it waits: nobody would take it out. */
static void test_given_up(void **state) {
    ps_alloc_state alloc;
    ps_waits *waits;
    atomic_bool gone = true;
    request a = { 0 };
    int key;
    ps_alloc_state_init(&alloc, NULL);
    assert_int_equal(ps_waits_create(&alloc, &waits, NULL), PS_OK);
    a.wait.given_up = &gone;
    a.wait.until_ns = INT64_MAX - 1;
    assert_false(ps_waits_remove(waits, &a.wait));
    assert_false(ps_waits_add(waits, &key, &a.wait));
    assert_false(ps_waits_any(waits));
    ps_waits_free(waits);
}

static void test_some(void **state) {
    ps_alloc_state alloc;
    ps_waits *waits;
    request all[5] = { 0 };
    int one, two;
    ps_alloc_state_init(&alloc, NULL);
    assert_int_equal(ps_waits_create(&alloc, &waits, NULL), PS_OK);
    for (int i = 0; i < 5; i++)
        add(waits, i == 1 ? &two : &one, &all[i], 60000);
    assert_int_equal(ps_waits_count(waits, &one), 4);
    ps_waits_end_some(waits, &one, 2); /* those that came first */
    for (int i = 0; i < 5; i++)
        assert_int_equal(atomic_load(&all[i].told), i == 0 || i == 2);
    assert_int_equal(ps_waits_count(waits, &one), 2);
    assert_int_equal(ps_waits_count(waits, &two), 1);
    ps_waits_end_some(waits, &one, 10);
    assert_int_equal(atomic_load(&all[3].told) + atomic_load(&all[4].told), 2);
    assert_true(ps_waits_any(waits));
    ps_waits_end(waits, NULL);
    assert_false(ps_waits_any(waits));
    ps_waits_free(waits);
}

/* Who takes too long counts no more, and may leave all the same. */
static void test_coming(void **state) {
    ps_coming_list list = { 0 };
    ps_coming a = { 0 }, b = { 0 }, c = { 0 };
    int one, two;
    ps_coming_remove(&list, &a);
    ps_coming_add(&list, &a, &one, 0);
    ps_coming_add(&list, &b, &two, 1 * MS);
    ps_coming_add(&list, &c, &one, 2 * MS);
    assert_int_equal(ps_coming_count(&list, &one, 2 * MS), 2);
    assert_int_equal(ps_coming_count(&list, &two, 2 * MS), 1);
    assert_int_equal(ps_coming_count(&list, &one, PS_COMING_NS + 1 * MS), 1);
    ps_coming_remove(&list, &a);
    ps_coming_remove(&list, &b);
    ps_coming_add(&list, &a, &one, PS_COMING_NS + 2 * MS);
    assert_int_equal(ps_coming_count(&list, &one, PS_COMING_NS + 2 * MS), 2);
    ps_coming_remove(&list, &a);
    ps_coming_remove(&list, &c);
    assert_null(list.first);
    assert_null(list.last);
}

typedef struct race {
    ps_waits *waits;
    request all[MANY];
    atomic_int added;
    int left[MANY];
} race;

static void leave(void *ctx) {
    race *r = ctx;
    for (int i = 0; i < MANY; i += 3) {
        while (atomic_load(&r->added) <= i)
            ps_sleep_ns(1000);
        r->left[i] = ps_waits_remove(r->waits, &r->all[i].wait);
    }
}

static void load(void *ctx) {
    race *r = ctx;
    while (atomic_load(&r->added) < MANY)
        ps_waits_end(r->waits, r);
    ps_waits_end(r->waits, r);
}

static void test_each_ends_once(void **state) {
    ps_alloc_state alloc;
    ps_thread leaver, loader;
    race *r = calloc(1, sizeof *r);
    assert_non_null(r);
    ps_alloc_state_init(&alloc, NULL);
    assert_int_equal(ps_waits_create(&alloc, &r->waits, NULL), PS_OK);
    assert_true(ps_thread_start(&leaver, "leave", leave, r));
    assert_true(ps_thread_start(&loader, "load", load, r));
    for (int i = 0; i < MANY; i++) {
        add(r->waits, r, &r->all[i], i % 5 ? 60000 : 0);
        atomic_store(&r->added, i + 1);
    }
    ps_thread_join(leaver);
    ps_thread_join(loader);
    for (int i = 0; i < MANY; i++)
        if (!r->left[i]) assert_true(told_soon(&r->all[i]));
    for (int i = 0; i < MANY; i++)
        assert_int_equal(atomic_load(&r->all[i].told) + r->left[i], 1);
    ps_waits_free(r->waits);
    free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_waits), cmocka_unit_test(test_order),
                                        cmocka_unit_test(test_given_up), cmocka_unit_test(test_some),
                                        cmocka_unit_test(test_coming), cmocka_unit_test(test_each_ends_once) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
