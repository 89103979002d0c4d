/* conv.h - shape rules and kernels of the convolutions, which the fused operators of domain "polestar" share. */
#ifndef PS_OPS_CONV_H
#define PS_OPS_CONV_H

#include "ops/ops.h"

extern const ps_attr_def ps_conv_attrs[];
extern const ps_attr_def ps_deconv_attrs[];
ps_status ps_conv_infer(const ps_node *node, ps_error *err);
ps_status ps_deconv_infer(const ps_node *node, ps_error *err);
/* Read in[0..2] only: x, weights, bias or NULL. */
ps_status ps_conv_ref(const ps_kernel_ctx *ctx, ps_error *err);
ps_status ps_deconv_ref(const ps_kernel_ctx *ctx, ps_error *err);

#endif
