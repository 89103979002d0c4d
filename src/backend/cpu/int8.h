/* int8.h - products of 8-bit codes, compiled once per instruction set; the table is chosen when the device is made.
 *
 * The left side are activations, the right side weights as i8. With VNNI (vpdpbusd) a lane sums four products of a u8
 * and an i8 exactly. Without it the instruction for that (vpmaddubsw) saturates at 16 bits, so codes are widened to i16
 * less their zero point, and a lane sums two products (vpmaddwd), which cannot overflow: measured as fast, since both
 * need as many multiplications. So the sums are the same integers at every instruction set. */
#ifndef PS_BACKEND_CPU_INT8_H
#define PS_BACKEND_CPU_INT8_H

#include "tensor/tensor.h"

/* Two operands of codes: add() and mul() below. */
typedef struct ps_q8_pair {
    bool is_signed;
    float fa, fb, za, zb, factor, shift, low, high;
} ps_q8_pair;

/* Codes that are added to those of a result, as add() below does. */
typedef struct ps_q8_sum {
    ps_q8_pair pair;
    bool second;          /* the result is b */
    const uint8_t *other; /* like c: the panel's first column, as far apart. NULL: nothing is added */
} ps_q8_sum;

/* From sums to results: y = (sum + bias[c] - zero[c] * row_sum) * scale[c] + add[c], and for codes rounded half to
 * even, clamped to [low, high], plus `zero_point`. By column; readable to whole panels, or whole blocks of depthwise().
 */
typedef struct ps_q8_tail {
    const int32_t *bias;
    const float *scale, *add; /* add may be NULL */
    const int32_t *zero;      /* or NULL: weights without zero points */
    const int32_t *row_sums;  /* of the rows of the left side; with zero only */
    float low, high;          /* less the zero point */
    int32_t zero_point;
    ps_dtype to;   /* F32, U8, I8, I32: the sums */
    ps_q8_sum sum; /* of panel() to codes */
} ps_q8_tail;

typedef struct ps_q8 {
    const char *name;
    int group;     /* codes that one lane sums: 4 of 1 byte, or 2 of 2 bytes */
    int element;   /* bytes of a code of the left side */
    int64_t width; /* columns of a panel */
    int64_t rows;  /* of a tile: chunks of a multiple are best */
    int64_t block; /* channels that depthwise() treats at a time */
    /* n codes in the form of the left side: those of i8 (flip 0x80) become u8; wide: less the zero point of the u8. */
    void (*load)(const uint8_t *x, void *to, int64_t n, uint8_t flip, int32_t zero);
    /* c[m][n] = tail(a panel), n <= width: a has `groups` groups a row and rows lda bytes apart; the panel is
     * [groups][width][group]. c and the tail's pointers are those of the panel's first column. ldc in elements. */
    void (*panel)(const void *a, int64_t lda, const int8_t *panel, int64_t groups, int64_t m, int64_t n,
                  const ps_q8_tail *tail, void *c, int64_t ldc);
    /* A panel of the matrix b[k][n], rows ldb apart, n <= width, and the sums of its columns: for right sides that are
     * made at run time. flip as for load, of codes that are u8. */
    void (*pack)(const uint8_t *b, int64_t ldb, int64_t k, int64_t n, uint8_t flip, int8_t *panel, int32_t *sums);
    int32_t (*row_sum)(const void *row, int64_t n); /* of the left side's form */
    /* y[p][c] = tail(sum over taps of x[tap][p * step + c] w[tap][c]) for `pixels` pixels in a row. taps: u8 codes, a
     * multiple of `group` of them. w (of `element` bytes), bias, scale, add: as ps_q8_depthwise_place says. */
    void (*depthwise)(const uint8_t *const *x, int64_t step, int64_t pixels, const int8_t *w, int64_t taps,
                      int64_t channels, const ps_q8_tail *tail, void *y);
    /* The same for windows of 3 x 3 with stride 1, x: their three rows at the first column, weights column by column
     * with a fourth row of 0; NULL where it is no faster. */
    void (*depthwise_3x3)(const uint8_t *const *x, int64_t pixels, const int8_t *w, int64_t channels,
                          const ps_q8_tail *tail, void *y);
    /* Codes of a * fa + (b * fb + shift), and of (a - za) (b - zb) * factor + shift, each product and sum with one
     * rounding as in the reference kernels; low and high hold the zero point. b of one element where `one`. */
    void (*add)(const ps_q8_pair *p, const uint8_t *a, const uint8_t *b, bool one, uint8_t *y, int64_t n);
    void (*mul)(const ps_q8_pair *p, const uint8_t *a, const uint8_t *b, bool one, uint8_t *y, int64_t n);
    /* Codes of x / scale, rounded half to even, clamped to [low, high] (less the zero point; NaN: low), plus zero; and
     * (x - zero) scale. */
    void (*quantize)(const float *x, uint8_t *y, int64_t n, float scale, float low, float high, int32_t zero);
    void (*dequantize)(const uint8_t *x, float *y, int64_t n, float scale, float zero, bool is_signed);
    /* sum[c] += x[row][c], and acc[c] = max(acc[c], x[c]) */
    void (*sum)(const uint8_t *x, int64_t rows, int64_t n, bool is_signed, int32_t *sum);
    void (*max)(uint8_t *acc, const uint8_t *x, int64_t n, bool is_signed);
    void (*lookup)(const uint8_t *x, const uint8_t *table, uint8_t *y, int64_t n);
} ps_q8;

const ps_q8 *ps_q8_pick(void);

/* Where channel c of a block of depthwise() lies in its vectors: they are interleaved in lanes of 16 bytes. */
static inline int64_t ps_q8_depthwise_place(const ps_q8 *q, int64_t c) {
    const int64_t lane = c / 16, piece = c % 16 / 4, at = c % 4;
    return piece * (q->block / 4) + lane * 4 + at;
}

#endif
