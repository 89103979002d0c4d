/* The float transform against the sum that defines it, in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "ops/fourier_single.h"

enum { MAX = 600 };

static double draw(uint64_t *random) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (double)(*random >> 11) / 9007199254740992.0 - 0.5;
}

/* Root mean square of the difference to the definition, over that of the values. */
static double error_of(const float *got, const float *x, int n, double sign) {
    double wrong = 0, size = 0;
    for (int k = 0; k < n; k++) {
        double re = 0, im = 0;
        for (int j = 0; j < n; j++) {
            double angle = sign * 2 * 3.14159265358979323846 * ((int64_t)j * k % n) / n;
            re += x[2 * j] * cos(angle) - x[2 * j + 1] * sin(angle);
            im += x[2 * j] * sin(angle) + x[2 * j + 1] * cos(angle);
        }
        wrong += (got[2 * k] - re) * (got[2 * k] - re) + (got[2 * k + 1] - im) * (got[2 * k + 1] - im);
        size += re * re + im * im;
    }
    return sqrt(wrong / size);
}

static void equals_its_definition(void **state) {
    (void)state;
    ps_alloc_state alloc;
    ps_error err = PS_ERROR_INIT;
    uint64_t random = 1;
    int lengths = 0;
    ps_alloc_state_init(&alloc, NULL);
    for (int n = 1; n <= MAX; n++) {
        float x[2 * MAX], y[2 * MAX], scratch[2 * MAX];
        ps_fourier_single f;
        if (!ps_fourier_single_suits(n)) continue;
        assert_int_equal(ps_fourier_single_init(&f, n, &alloc, &err), PS_OK);
        for (int inverse = 0; inverse < 2; inverse++) {
            for (int k = 0; k < 2 * n; k++)
                y[k] = x[k] = (float)draw(&random);
            ps_fourier_single_run(&f, inverse, y, scratch);
            /* a pass rounds each number a few times: under 2^-24 per pass in the mean, at most 9 passes */
            assert_true(error_of(y, x, n, inverse ? 1 : -1) < 6e-7);
        }
        ps_fourier_single_clear(&f);
        lengths++;
    }
    assert_int_equal(lengths, 71); /* numbers up to 600 that are products of 2, 3 and 5 */
    assert_false(ps_fourier_single_suits(0));
    assert_false(ps_fourier_single_suits(7));
    assert_false(ps_fourier_single_suits(22));
    assert_false(ps_fourier_single_suits(INT64_C(1) << 40));
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(equals_its_definition) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
