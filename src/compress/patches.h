/* patches.h - what a layer's weights are multiplied with: the inputs of single output elements as rows of numbers. */
#ifndef PS_COMPRESS_PATCHES_H
#define PS_COMPRESS_PATCHES_H

#include "compress/compress_int.h"

/* A weight as a matrix for each group: rows are output channels (or outputs of a pixel), columns are inputs. Element
 * (g, r, c) lies at g * group_stride + r * row_stride + c * col_stride. */
typedef struct ps_weight_view {
    int64_t groups, rows, cols;
    int64_t group_stride, row_stride, col_stride;
    int64_t rows_per_scale; /* 0: one scale for all */
    int64_t taps;           /* positions of a convolution's kernel; column c is tap c % taps of channel c / taps */
} ps_weight_view;

ps_weight_view ps_weight_view_of(const ps_layer *layer);
static inline int64_t ps_weight_scale(const ps_weight_view *v, int64_t group, int64_t row) {
    return v->rows_per_scale ? (group * v->rows + row) / v->rows_per_scale : 0;
}

/* A patch has what column `col` of group g is multiplied with here: taps outermost, channels of all groups innermost,
 * as inputs lie in channels-last. */
static inline int64_t ps_patch_at(const ps_weight_view *v, int64_t g, int64_t col) {
    const int64_t channels = v->cols / v->taps;
    return (col % v->taps * v->groups + g) * channels + col / v->taps;
}

/* How many patches an input of this shape has; 0 if the layer cannot take it. */
int64_t ps_patch_count(const ps_layer *layer, const ps_shape *input);
/* Patch `index` of an input in any layout, its channels [begin, end) alone, at their places in `out`. */
void ps_patch_read(const ps_layer *layer, const ps_tensor *input, int64_t index, int64_t begin, int64_t end,
                   float *out);

#endif
