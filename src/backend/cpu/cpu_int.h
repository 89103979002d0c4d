/* cpu_int.h - shared by the files of the CPU device.
 *
 *   device.c        the device and its implementation lists
 *   simd.h          vector loops, compiled once per instruction set and chosen when the device is made
 *   dnnl_adapter.h  the one adapter to oneDNN (API 2.6 and 3.x)
 *   conv.c matmul.c pointwise.c …   one file per operator family: lower functions and kernels */
#ifndef PS_BACKEND_CPU_INT_H
#define PS_BACKEND_CPU_INT_H

#include "backend/backend.h"
#include "backend/cpu/int8.h"
#include "backend/cpu/simd.h"

typedef struct ps_dnnl ps_dnnl;

typedef struct cpu_device {
    ps_device base;
    const ps_simd *simd;
    const ps_q8 *q8;
    ps_dnnl *dnnl; /* NULL when built without oneDNN */
} cpu_device;

static inline const cpu_device *cpu_of(const ps_device *d) {
    return (const cpu_device *)d;
}

/* Lower functions, one per row of the implementation list in device.c. */
ps_status cpu_lower_pointwise(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_operator(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_transpose(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_conv(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_winograd(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_deconv(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_matmul(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_matmul_packed(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_gemm_packed(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_gemm(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_pool(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_global_pool(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_softmax(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_layernorm(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_attention(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_groupnorm(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_gridsample(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_quantize(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_dynamic_quantize(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_dequantize(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_qconv(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_qmatmul_batched(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_qadd(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_qmul(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_lookup(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_qglobalpool(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_qaveragepool(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_qmatmul(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_lstm(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_gru(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_rnn(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_concat(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_pad(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_deconv_disjoint(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_resize(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_cast(ps_device *device, ps_lowering *l, ps_error *err);
ps_status cpu_lower_reduce(ps_device *device, ps_lowering *l, ps_error *err);

/* Strided copy (transpose.c): dst row-major over `dims`, src by strides in elements; element size 1, 2, 4, 8 or 16
 * bytes. */
ps_status cpu_strided_copy_new(ps_alloc_state *alloc, const char *label, int rank, const int64_t *dims,
                               const int64_t *src_strides, size_t element, int threads, ps_kernel **ret, ps_error *err);
ps_status cpu_reorder(ps_device *device, ps_dtype dtype, const ps_shape *shape, ps_form from, ps_form to, int threads,
                      ps_alloc_state *alloc, ps_kernel **ret, ps_error *err);

/* A kernel whose memory is one block: free for ps_kernel_ops. */
void cpu_kernel_free(ps_kernel *kernel);

#endif
