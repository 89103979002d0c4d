/* Sequences, optionals and maps: life, sharing, limits, copies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tensor/tensor.h"

static ps_tensor *numbers(ps_alloc_state *a, int64_t n) {
    ps_tensor *t;
    ps_shape s = { 1, { n } };
    assert_int_equal(ps_tensor_new(a, PS_DTYPE_F32, &s, &t, NULL), PS_OK);
    return t;
}

static void test_elements_are_shared(void **state) {
    (void)state;
    ps_alloc_state a;
    ps_tensor *one, *two, *x;
    ps_alloc_state_init(&a, NULL);
    x = numbers(&a, 3);
    assert_int_equal(ps_container_new(&a, PS_DTYPE_SEQUENCE, 2, &one, NULL), PS_OK);
    assert_null(ps_tensor_element(one, 0));
    assert_int_equal(ps_tensor_set_element(one, 1, x, NULL), PS_OK);
    assert_int_equal(ps_tensor_copy(&a, one, &two, NULL), PS_OK);
    ps_tensor_release(one);
    assert_ptr_equal(ps_tensor_element(two, 1), x);
    assert_null(ps_tensor_element(two, 2));
    assert_null(ps_tensor_element(x, 0));
    assert_int_equal(ps_tensor_total_bytes(two), 2 * sizeof(void *) + 12);
    assert_int_equal(ps_tensor_set_element(two, 1, numbers(&a, 1), NULL), PS_OK); /* x goes, but for our reference */
    ps_tensor_release((ps_tensor *)ps_tensor_element(two, 1));                    /* that of `numbers` */
    ps_tensor_release(x);
    ps_tensor_release(two);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_what_is_refused(void **state) {
    (void)state;
    ps_alloc_state a;
    ps_tensor *t, *s, *outer;
    ps_error err;
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(ps_container_new(&a, PS_DTYPE_F32, 1, &t, &err), PS_INVALID);
    assert_int_equal(ps_container_new(&a, PS_DTYPE_OPTIONAL, 2, &t, &err), PS_INVALID);
    assert_int_equal(ps_container_new(&a, PS_DTYPE_MAP, 1, &t, &err), PS_INVALID);
    t = numbers(&a, 1);
    assert_int_equal(ps_tensor_set_element(t, 0, t, &err), PS_INVALID);
    assert_int_equal(ps_container_new(&a, PS_DTYPE_SEQUENCE, 1, &s, NULL), PS_OK);
    assert_int_equal(ps_tensor_set_element(s, 1, t, &err), PS_INVALID);
    ps_tensor_release(t);
    for (int depth = 1; depth < PS_MAX_NESTING; depth++) {
        assert_int_equal(ps_container_new(&a, PS_DTYPE_SEQUENCE, 1, &outer, NULL), PS_OK);
        assert_int_equal(ps_container_take(outer, 0, s, NULL), PS_OK);
        s = outer;
    }
    assert_int_equal(ps_container_new(&a, PS_DTYPE_SEQUENCE, 1, &outer, NULL), PS_OK);
    assert_int_equal(ps_container_take(outer, 0, s, &err), PS_LIMIT);
    ps_tensor_release(s);
    ps_tensor_release(outer);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_strings_are_copied(void **state) {
    (void)state;
    ps_alloc_state a;
    ps_tensor *t, *copy;
    ps_shape s = { 1, { 2 } };
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_STRING, &s, &t, NULL), PS_OK);
    assert_int_equal(ps_tensor_set_string(t, 1, "two", 3, NULL), PS_OK);
    assert_int_equal(ps_tensor_copy(&a, t, &copy, NULL), PS_OK);
    assert_true(ps_tensor_hash(t) == ps_tensor_hash(copy));
    ps_tensor_release(t);
    assert_memory_equal(((const ps_string *)copy->data)[1].data, "two", 3);
    ps_tensor_release(copy);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements_are_shared),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_strings_are_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
