/* conv.h - a convolution as the files of its algorithms see it. Channels-last. */
#ifndef PS_BACKEND_OPENCL_CONV_H
#define PS_BACKEND_OPENCL_CONV_H

#include "backend/opencl/gemm.h"

/* Depth, height and width; missing leading ones are 1. */
typedef struct ocl_conv {
    ps_window w[3];
    int64_t groups, in_channels, out_channels, batch, taps;
    bool transposed, has_bias;
    bool in_half, out_half; /* the image and the results are halves */
} ocl_conv;

/* The lowering's node, its post-operations and the layouts of its operands. *ret_ok false: l->why says what it is not.
 */
ps_status ocl_conv_take(ps_lowering *l, bool transposed, ocl_conv *ret, ps_chain *ret_chain, bool *ret_ok,
                        ps_error *err);
/* Has it one picture of depth 1, and is every window's place along depth that picture? With padding in front the only
 * result may lie beside it. */
bool ocl_conv_is_flat(const ocl_conv *c);
/* For ocl_trials: the convolution, and the source of the program in question. */
void ocl_conv_digest(const ocl_conv *c, const char *program, uint64_t ret[2]);
/* The layouts of what a kernel reads and writes, once it is sure to be the lowering's. */
void ocl_conv_layouts(ps_lowering *l);
/* As a product, but for the weights and tables. panels: how the weights lie. */
void ocl_conv_product(const ocl_conv *c, ocl_gemm *ret, ocl_panels *ret_panels);
/* The direct product, whole; tried: with weights of the kernel's own. */
ps_status ocl_conv_direct(ps_device *device, ps_lowering *l, const ocl_conv *c, const ps_chain *chain, bool tried,
                          ocl_kernel *k, ps_error *err);
/* The side of the tile by which Winograd's filtering costs less than the direct product, and its products; 0: nowhere.
 */
int ocl_winograd_choice(const ocl_device *d, const ocl_conv *c, ocl_gemm *ret);

#endif
