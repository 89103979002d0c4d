/* fourier_single.c - see fourier_single.h.
 *
 * Decimation in frequency that sorts itself: each pass reads one buffer and writes the other in the order which the
 * next pass reads (Swarztrauber, "FFT algorithms for vector computers", 1984). */
#include "ops/fourier_single.h"

#include <math.h>
#include <string.h>

#define MAX_LENGTH (INT64_C(1) << 30)
#define PI 3.14159265358979323846
#define COS_1_3 (-0.5f)             /* of 2 pi / 3 */
#define SIN_1_3 0.86602540378443865f
#define COS_1_5 0.30901699437494742f /* of 2 pi / 5 and twice that */
#define SIN_1_5 0.95105651629515357f
#define COS_2_5 (-0.80901699437494742f)
#define SIN_2_5 0.58778525229247313f

typedef struct complex32 {
    float re, im;
} complex32;

static inline complex32 add(complex32 a, complex32 b) {
    return (complex32) { a.re + b.re, a.im + b.im };
}

static inline complex32 sub(complex32 a, complex32 b) {
    return (complex32) { a.re - b.re, a.im - b.im };
}

static inline complex32 mul(complex32 a, complex32 b) {
    return (complex32) { a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re };
}

/* a + x s + y t with real factors. */
static inline complex32 mix(complex32 a, complex32 x, float s, complex32 y, float t) {
    return (complex32) { a.re + x.re * s + y.re * t, a.im + x.im * s + y.im * t };
}

/* -i (x s + y t) with real factors. */
static inline complex32 turn(complex32 x, float s, complex32 y, float t) {
    return (complex32) { x.im * s + y.im * t, -(x.re * s + y.re * t) };
}

/* ---- transforms of the lengths 2 to 5, in place ---- */

static void transform2(complex32 *v) {
    complex32 a = v[0], b = v[1];
    v[0] = add(a, b);
    v[1] = sub(a, b);
}

static void transform3(complex32 *v) {
    complex32 a = v[0], sum = add(v[1], v[2]), diff = sub(v[1], v[2]);
    complex32 mean = { a.re + sum.re * COS_1_3, a.im + sum.im * COS_1_3 };
    complex32 side = { diff.im * SIN_1_3, -(diff.re * SIN_1_3) };
    v[0] = add(a, sum);
    v[1] = add(mean, side);
    v[2] = sub(mean, side);
}

static void transform4(complex32 *v) {
    complex32 even = add(v[0], v[2]), even_diff = sub(v[0], v[2]);
    complex32 odd = add(v[1], v[3]), odd_diff = sub(v[1], v[3]);
    complex32 side = { odd_diff.im, -odd_diff.re };
    v[0] = add(even, odd);
    v[1] = add(even_diff, side);
    v[2] = sub(even, odd);
    v[3] = sub(even_diff, side);
}

static void transform5(complex32 *v) {
    complex32 a = v[0], sum1 = add(v[1], v[4]), diff1 = sub(v[1], v[4]), sum2 = add(v[2], v[3]),
              diff2 = sub(v[2], v[3]);
    complex32 mean1 = mix(a, sum1, COS_1_5, sum2, COS_2_5), side1 = turn(diff1, SIN_1_5, diff2, SIN_2_5);
    complex32 mean2 = mix(a, sum1, COS_2_5, sum2, COS_1_5), side2 = turn(diff1, SIN_2_5, diff2, -SIN_1_5);
    v[0] = add(add(a, sum1), sum2);
    v[1] = add(mean1, side1);
    v[2] = add(mean2, side2);
    v[3] = sub(mean2, side2);
    v[4] = sub(mean1, side1);
}

static void transform_few(int radix, complex32 *v) {
    switch (radix) {
    case 2: transform2(v); break;
    case 3: transform3(v); break;
    case 4: transform4(v); break;
    default: transform5(v); break;
    }
}

/* ---- the passes ---- */

/* `done` transforms of length n / done become `done` x radix ones. */
static void run_pass(const ps_fourier_single *f, int radix, int64_t done, const complex32 *in, complex32 *out) {
    const complex32 *roots = (const complex32 *)f->roots;
    int64_t inner = f->n / done / radix;
    for (int64_t k = 0; k < done; k++)
        for (int64_t i = 0; i < inner; i++) {
            complex32 v[5];
            for (int q = 0; q < radix; q++)
                v[q] = in[i + inner * (q + radix * k)];
            transform_few(radix, v);
            out[i + inner * k] = v[0];
            for (int r = 1; r < radix; r++)
                out[i + inner * (k + done * r)] = i ? mul(v[r], roots[r * done * i]) : v[r];
        }
}

static void swap_parts(float *x, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        float re = x[2 * k];
        x[2 * k] = x[2 * k + 1];
        x[2 * k + 1] = re;
    }
}

/* Swapping real and imaginary parts before and after turns a transform into its inverse. */
void ps_fourier_single_run(const ps_fourier_single *f, bool inverse, float *x, float *scratch) {
    float *from = x, *to = scratch;
    int64_t done = 1;
    if (inverse) swap_parts(x, f->n);
    for (int i = 0; i < f->passes; i++) {
        run_pass(f, f->radix[i], done, (const complex32 *)from, (complex32 *)to);
        float *other = from;
        from = to;
        to = other;
        done *= f->radix[i];
    }
    if (from != x) memcpy(x, from, (size_t)f->n * sizeof(complex32));
    if (inverse) swap_parts(x, f->n);
}

/* ---- the plan ---- */

bool ps_fourier_single_suits(int64_t n) {
    if (n < 1 || n > MAX_LENGTH) return false;
    for (int64_t p = 2; p <= 5; p++)
        while (n % p == 0)
            n /= p;
    return n == 1;
}

/* Fours, with a two first if one is left over, then threes and fives. */
static void choose_passes(ps_fourier_single *f) {
    int64_t n = f->n;
    int twos = 0;
    for (; n % 2 == 0; n /= 2)
        twos++;
    if (twos % 2) f->radix[f->passes++] = 2;
    for (; twos > 1; twos -= 2)
        f->radix[f->passes++] = 4;
    for (unsigned char p = 3; p <= 5; p += 2)
        for (; n % p == 0; n /= p)
            f->radix[f->passes++] = p;
}

ps_status ps_fourier_single_init(ps_fourier_single *f, int64_t n, ps_alloc_state *alloc, ps_error *err) {
    *f = (ps_fourier_single) { .n = n, .alloc = alloc };
    choose_passes(f);
    f->roots = ps_alloc_array(alloc, (size_t)n, sizeof(complex32));
    if (!f->roots) return PS_FAIL_NOMEM(err, "a Fourier transform");
    for (int64_t k = 0; k < n; k++) {
        double angle = -2 * PI * (double)k / (double)n;
        f->roots[2 * k] = (float)cos(angle);
        f->roots[2 * k + 1] = (float)sin(angle);
    }
    return PS_OK;
}

void ps_fourier_single_clear(ps_fourier_single *f) {
    if (f->alloc) ps_free(f->alloc, f->roots);
    *f = (ps_fourier_single) { 0 };
}
