/* fourier.h - the discrete Fourier transform of any length, in double.
 *
 * A plan is built once for a length and then used by any number of threads, each with scratch of its own. Complex
 * numbers are pairs of doubles, real part first. */
#ifndef PS_OPS_FOURIER_H
#define PS_OPS_FOURIER_H

#include "base/alloc.h"
#include "base/error.h"

typedef struct ps_fourier {
    int64_t n;
    double *roots; /* e^(-2 pi i k / n), k < n */
    /* A length with a large prime factor goes through a convolution of length `wide`, a power of two. */
    int64_t wide; /* 0: direct */
    double *wide_roots;
    double *chirp;  /* e^(-pi i k^2 / n), k < n */
    double *kernel; /* transform of the conjugate chirp, wrapped around, divided by `wide` */
    ps_alloc_state *alloc;
} ps_fourier;

/* n >= 1. PS_LIMIT for a length beyond 2^30, PS_NO_MEMORY. */
ps_status ps_fourier_init(ps_fourier *f, int64_t n, ps_alloc_state *alloc, ps_error *err);
void ps_fourier_clear(ps_fourier *f); /* of a zeroed or half-built one too */
/* Doubles of scratch that one run needs. */
size_t ps_fourier_scratch(const ps_fourier *f);
/* out[k] = sum over j of in[j] e^(-2 pi i j k / n), or with `inverse` e^(+...), not divided by n. in is overwritten
 * if `inverse` is set; in, out and scratch do not overlap. */
void ps_fourier_run(const ps_fourier *f, bool inverse, double *in, double *out, double *scratch);

#endif
