/* winograd.h - what winograd.c and the transforms compiled once per instruction set (winograd_kernels.inc) share.
 *
 * F(m x m, 3 x 3): a tile of (m+2) x (m+2) pixels, overlapping its neighbours by 2, makes m x m outputs. Along one dim
 * the polynomial product of m outputs and 3 weights is computed by its values at m+1 points and at infinity (Toom-Cook;
 * Winograd 1980, for networks Lavin & Gray 2015): 0, ±1 for m = 2 and 0, ±A, ±B for m = 4. Of the pairs A, B with cheap
 * exact constants these have the smallest error (simulated, 64 channels: 1.7 times the error of plain f32 sums, where
 * the usual 1 and 2 have 11 times): README.md. */
#ifndef PS_BACKEND_CPU_WINOGRAD_H
#define PS_BACKEND_CPU_WINOGRAD_H

#include <stdint.h>

#define PS_WINO_A 0.625f
#define PS_WINO_B 1.5f
#define PS_WINO_SIDE 6 /* the larger tile's */

/* Where a tile lies: pixel (i, j) at `at` + i * row + j * col floats, and exists for y0 <= i < y1 and x0 <= j < x1. */
typedef struct ps_wino_tile {
    int64_t at, row, col;
    int y0, y1, x0, x1;
} ps_wino_tile;

/* What happens to a sum before it is written: + bias of its channel, + add at the place of the output in the whole
 * image, then clamped; either pointer may be NULL. */
typedef struct ps_wino_post {
    const float *bias, *add;
    float lo, hi;
} ps_wino_post;

#endif
