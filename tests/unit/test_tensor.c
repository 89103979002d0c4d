/* Shapes, element types and tensors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tensor/tensor.h"

static void test_smoke(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    ps_shape s = ps_shape_make(2, (int64_t[]) { 2, 3 });
    ps_tensor *t;
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_F32, &s, &t, NULL), PS_OK);
    ps_tensor_release(t);
    assert_int_equal(a.bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_smoke) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
