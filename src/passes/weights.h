/* weights.h - scaling and shifting the output channels of a product with constant weights. Private to this folder. */
#ifndef PS_PASSES_WEIGHTS_H
#define PS_PASSES_WEIGHTS_H

#include "passes/rewrite.h"

/* A Conv, ConvTranspose, Gemm (alpha = beta = 1) or MatMul (2-D right side) of ai.onnx whose weights are constant f32,
 * and not of fewer bits on a device that keeps those. */
bool ps_product_foldable(const ps_rw *rw, const ps_node *n);
/* Output channels. Conv and ConvTranspose have them in dim 1 of the output, Gemm and MatMul in the last. */
int64_t ps_product_channels(const ps_node *n);
/* The rank of the output and its channel dim, as far as the weights tell; -1 where the input's rank decides (MatMul).
 */
int ps_product_rank(const ps_node *n);
bool ps_product_channels_last(const ps_node *n);
/* output := output * scale[c] + shift[c] by new weights and bias. Either may be NULL. MatMul takes no shift. */
ps_status ps_product_scale(ps_rw *rw, ps_node *n, const double *scale, const double *shift);

#endif
