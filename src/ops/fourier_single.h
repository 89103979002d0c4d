/* fourier_single.h - the discrete Fourier transform in float, for lengths that are products of 2, 3 and 5.
 *
 * For inverse transforms of float32, which FFT libraries (and the ONNX suite's expected values) compute at the
 * precision of their input. All else goes through fourier.h, in double. A plan serves any number of threads. Complex
 * numbers are pairs of floats, real part first. */
#ifndef PS_OPS_FOURIER_SINGLE_H
#define PS_OPS_FOURIER_SINGLE_H

#include "base/alloc.h"
#include "base/error.h"

#define PS_FOURIER_MAX_PASSES 31 /* of a length below 2^31 */

typedef struct ps_fourier_single {
    int64_t n;
    int passes;
    unsigned char radix[PS_FOURIER_MAX_PASSES]; /* 2, 3, 4 or 5 each; their product is n */
    float *roots;                               /* e^(-2 pi i k / n), k < n */
    ps_alloc_state *alloc;
} ps_fourier_single;

/* Is n, at least 1, a length for this? */
bool ps_fourier_single_suits(int64_t n);
/* PS_NO_MEMORY. */
ps_status ps_fourier_single_init(ps_fourier_single *f, int64_t n, ps_alloc_state *alloc, ps_error *err);
void ps_fourier_single_clear(ps_fourier_single *f); /* of a zeroed or half-built one too */
/* x[k] becomes the sum over j of x[j] e^(-2 pi i j k / n), or with `inverse` e^(+...), not divided by n. x and scratch
 * hold n complex numbers each and do not overlap. */
void ps_fourier_single_run(const ps_fourier_single *f, bool inverse, float *x, float *scratch);

#endif
