/* sparse.h - products with constant weights of which only the blocks that hold something are stored. */
#ifndef PS_BACKEND_OPENCL_SPARSE_H
#define PS_BACKEND_OPENCL_SPARSE_H

#include "backend/opencl/gemm.h"
#include "tensor/convert.h"

#define OCL_SPARSE_DEPTH 16 /* rows of a block */

/* As ocl_weights_take, for the B of g: in blocks (ret->strip) if enough of them are zero, f32, f16 or bf16. */
ps_status ocl_sparse_take(ps_device *device, ps_lowering *l, uint32_t index, const ocl_panels *p, const ocl_gemm *g,
                          ocl_weights *ret, ps_error *err);
/* Of a product with such weights: as ocl_gemm_plan, and the launch that is not the adding up of parts. */
int ocl_sparse_plan(const ocl_device *d, ocl_gemm *g);
ps_status ocl_sparse_launch(ocl_kernel *k, int i, const ocl_gemm *g, const char *posts, const ps_chain *chain,
                            int64_t columns, ps_error *err);

#endif
