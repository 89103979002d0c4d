/* softmax.h - one row's softmax, shared with the attention operators. */
#ifndef PS_OPS_SOFTMAX_H
#define PS_OPS_SOFTMAX_H

#include <stdint.h>

#include "tensor/tensor.h"

/* In place: x[i] = exp(x[i] - max) / sum. A row of -inf only gives NaN, as in ONNX Runtime. */
void ps_softmax_row(double *x, int64_t n);
/* The same for elements of a type. f16 is rounded where the function body that ONNX gives the operator has a node, for
 * the conformance suite compares f16 to one rounding step; a sum beyond f16's range stays whole. */
void ps_softmax_row_as(ps_dtype type, double *x, int64_t n);

#endif
