/* matmul.h - shape rules and kernels of the matrix products, which the fused operators of domain "polestar" share. */
#ifndef PS_OPS_MATMUL_H
#define PS_OPS_MATMUL_H

#include "ops/ops.h"

extern const ps_attr_def ps_gemm_attrs[];
ps_status ps_matmul_infer(const ps_node *node, ps_error *err);
ps_status ps_gemm_infer(const ps_node *node, ps_error *err);
/* Read in[0..1] and in[0..2] only. */
ps_status ps_matmul_ref(const ps_kernel_ctx *ctx, ps_error *err);
ps_status ps_gemm_ref(const ps_kernel_ctx *ctx, ps_error *err);

#endif
