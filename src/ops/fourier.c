/* fourier.c - see fourier.h.
 *
 * Decimation in time by the smallest prime factor (Cooley and Tukey, "An algorithm for the machine calculation of
 * complex Fourier series", 1965). Lengths with a prime factor above MAX_PRIME would be quadratic in it: they are
 * rewritten as a convolution (Bluestein, "A linear filtering approach to the computation of discrete Fourier
 * transform", 1970). */
#include "ops/fourier.h"

#include <math.h>
#include <string.h>

enum { MAX_PRIME = 61 };
#define MAX_LENGTH (INT64_C(1) << 30)
#define PI 3.14159265358979323846

static int64_t smallest_prime(int64_t n) {
    for (int64_t p = 2; p * p <= n; p++)
        if (n % p == 0) return p;
    return n;
}

static bool is_smooth(int64_t n) {
    for (int64_t p = 2; p <= MAX_PRIME && n > 1; p++)
        while (n % p == 0)
            n /= p;
    return n == 1;
}

/* e^(-2 pi i k / n) for k < n. */
static double *make_roots(int64_t n, ps_alloc_state *alloc) {
    double *roots = ps_alloc_array(alloc, (size_t)n, 2 * sizeof(double));
    for (int64_t k = 0; roots && k < n; k++) {
        double angle = -2 * PI * (double)k / (double)n;
        roots[2 * k] = cos(angle);
        roots[2 * k + 1] = sin(angle);
    }
    return roots;
}

typedef struct transform {
    int64_t length; /* of the roots */
    const double *roots;
} transform;

/* out[r * m + k] for all r: a transform of length p over what the p smaller transforms left at k. */
static void combine(const transform *t, double *out, int64_t p, int64_t m, int64_t step, int64_t k) {
    double part[2 * MAX_PRIME];
    for (int64_t q = 0; q < p; q++) {
        const double *x = out + 2 * (q * m + k), *w = t->roots + 2 * (q * k * step);
        part[2 * q] = x[0] * w[0] - x[1] * w[1];
        part[2 * q + 1] = x[0] * w[1] + x[1] * w[0];
    }
    for (int64_t r = 0; r < p; r++) {
        double re = part[0], im = part[1];
        for (int64_t q = 1; q < p; q++) {
            const double *w = t->roots + 2 * (q * r % p * m * step);
            re += part[2 * q] * w[0] - part[2 * q + 1] * w[1];
            im += part[2 * q] * w[1] + part[2 * q + 1] * w[0];
        }
        out[2 * (r * m + k)] = re;
        out[2 * (r * m + k) + 1] = im;
    }
}

/* n * step is the length of the roots; depth is the number of prime factors, at most 30. */
static void run_smooth(const transform *t, const double *in, int64_t in_step, double *out, int64_t n, int64_t step) {
    if (n == 1) {
        out[0] = in[0];
        out[1] = in[1];
        return;
    }
    int64_t p = smallest_prime(n), m = n / p;
    for (int64_t q = 0; q < p; q++)
        run_smooth(t, in + 2 * q * in_step, in_step * p, out + 2 * q * m, m, step * p);
    for (int64_t k = 0; k < m; k++)
        combine(t, out, p, m, step, k);
}

/* Both factors e^(-pi i k^2 / n) and, in `kernel`, the transform of their conjugates. */
static ps_status make_chirp(ps_fourier *f, ps_error *err) {
    size_t wide = (size_t)f->wide;
    f->wide_roots = make_roots(f->wide, f->alloc);
    f->chirp = ps_alloc_array(f->alloc, (size_t)f->n, 2 * sizeof(double));
    f->kernel = ps_alloc_array(f->alloc, wide, 2 * sizeof(double));
    double *time = ps_alloc_zero(f->alloc, wide * 2 * sizeof(double));
    if (!f->wide_roots || !f->chirp || !f->kernel || !time) {
        ps_free(f->alloc, time);
        return PS_FAIL_NOMEM(err, "a Fourier transform");
    }
    for (int64_t k = 0; k < f->n; k++) {
        double angle = -PI * (double)(k * k % (2 * f->n)) / (double)f->n;
        f->chirp[2 * k] = cos(angle);
        f->chirp[2 * k + 1] = sin(angle);
        int64_t at[2] = { k, (f->wide - k) % f->wide };
        for (int side = 0; side < 2; side++) {
            time[2 * at[side]] = f->chirp[2 * k] / (double)f->wide;
            time[2 * at[side] + 1] = -f->chirp[2 * k + 1] / (double)f->wide;
        }
    }
    run_smooth(&(transform) { f->wide, f->wide_roots }, time, 1, f->kernel, f->wide, 1);
    ps_free(f->alloc, time);
    return PS_OK;
}

ps_status ps_fourier_init(ps_fourier *f, int64_t n, ps_alloc_state *alloc, ps_error *err) {
    *f = (ps_fourier) { .n = n, .alloc = alloc };
    PS_FAIL_IF(n < 1 || n > MAX_LENGTH, err, LIMIT, "a Fourier transform of length %lld is outside [1, 2^30]",
               (long long)n);
    if (is_smooth(n)) {
        f->roots = make_roots(n, alloc);
        return f->roots ? PS_OK : PS_FAIL_NOMEM(err, "a Fourier transform");
    }
    f->wide = 1;
    while (f->wide < 2 * n - 1)
        f->wide *= 2;
    return make_chirp(f, err);
}

void ps_fourier_clear(ps_fourier *f) {
    if (!f->alloc) return;
    ps_free(f->alloc, f->roots);
    ps_free(f->alloc, f->wide_roots);
    ps_free(f->alloc, f->chirp);
    ps_free(f->alloc, f->kernel);
    *f = (ps_fourier) { 0 };
}

size_t ps_fourier_scratch(const ps_fourier *f) {
    return (size_t)f->wide * 4;
}

/* to[k] = a[k] b[k], conjugated if asked. */
static void multiply(double *to, const double *a, const double *b, int64_t n, double sign) {
    for (int64_t k = 0; k < n; k++) {
        double re = a[2 * k] * b[2 * k] - a[2 * k + 1] * b[2 * k + 1];
        double im = a[2 * k] * b[2 * k + 1] + a[2 * k + 1] * b[2 * k];
        to[2 * k] = re;
        to[2 * k + 1] = sign * im;
    }
}

static void run_chirp(const ps_fourier *f, const double *in, double *out, double *scratch) {
    transform t = { f->wide, f->wide_roots };
    double *time = scratch, *freq = scratch + 2 * f->wide;
    memset(time + 2 * f->n, 0, (size_t)(f->wide - f->n) * 2 * sizeof(double));
    multiply(time, in, f->chirp, f->n, 1);
    run_smooth(&t, time, 1, freq, f->wide, 1);
    multiply(freq, freq, f->kernel, f->wide, -1); /* conjugated, so that the next transform goes back */
    run_smooth(&t, freq, 1, time, f->wide, 1);
    for (int64_t k = 0; k < f->n; k++)
        time[2 * k + 1] = -time[2 * k + 1];
    multiply(out, time, f->chirp, f->n, 1);
}

static void swap_parts(double *x, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        double re = x[2 * k];
        x[2 * k] = x[2 * k + 1];
        x[2 * k + 1] = re;
    }
}

/* Swapping real and imaginary parts before and after turns a transform into its inverse. */
void ps_fourier_run(const ps_fourier *f, bool inverse, double *in, double *out, double *scratch) {
    if (inverse) swap_parts(in, f->n);
    if (f->wide)
        run_chirp(f, in, out, scratch);
    else
        run_smooth(&(transform) { f->n, f->roots }, in, 1, out, f->n, 1);
    if (inverse) swap_parts(out, f->n);
}
