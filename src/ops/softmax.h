/* softmax.h - one row's softmax, shared with the fused attention. */
#ifndef PS_OPS_SOFTMAX_H
#define PS_OPS_SOFTMAX_H

#include <stdint.h>

/* In place: x[i] = exp(x[i] - max) / sum. A row of -inf only gives NaN, as in ONNX Runtime. */
void ps_softmax_row(double *x, int64_t n);

#endif
