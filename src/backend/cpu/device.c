/* device.c - the CPU device: its implementation list, its thread team, its facts. */
#include "backend/cpu/cpu_int.h"
#include "backend/cpu/dnnl_adapter.h"
#include "base/os.h"

#ifdef _OPENMP
#include <omp.h>
#endif

/* First that accepts wins; then the reference kernel. */
static const ps_impl impls[] = {
    { "MatMul", "", cpu_lower_matmul_packed },
    { "MatMul", "polestar", cpu_lower_matmul_packed },
    { "Gemm", "", cpu_lower_gemm_packed },
    { "Gemm", "polestar", cpu_lower_gemm_packed },
    { "Conv", "", cpu_lower_winograd },
    { "Conv", "polestar", cpu_lower_winograd },
#ifdef PS_WITH_DNNL
    { "Conv", "", cpu_lower_conv },
    { "Conv", "polestar", cpu_lower_conv },
    { "ConvTranspose", "", cpu_lower_deconv_disjoint },
    { "ConvTranspose", "polestar", cpu_lower_deconv_disjoint },
    { "ConvTranspose", "", cpu_lower_deconv },
    { "ConvTranspose", "polestar", cpu_lower_deconv },
    { "MatMul", "", cpu_lower_matmul },
    { "MatMul", "polestar", cpu_lower_matmul },
    { "Gemm", "", cpu_lower_gemm },
    { "Gemm", "polestar", cpu_lower_gemm },
#endif
    { "Pointwise", "polestar", cpu_lower_pointwise },
    { "Attention", "polestar", cpu_lower_attention },
    { "Add", "", cpu_lower_operator },
    { "Sub", "", cpu_lower_operator },
    { "Mul", "", cpu_lower_operator },
    { "Div", "", cpu_lower_operator },
    { "Max", "", cpu_lower_operator },
    { "Min", "", cpu_lower_operator },
    { "Relu", "", cpu_lower_operator },
    { "Sigmoid", "", cpu_lower_operator },
    { "Tanh", "", cpu_lower_operator },
    { "Exp", "", cpu_lower_operator },
    { "Sqrt", "", cpu_lower_operator },
    { "Abs", "", cpu_lower_operator },
    { "Erf", "", cpu_lower_operator },
    { "Reciprocal", "", cpu_lower_operator },
    { "MaxPool", "", cpu_lower_pool },
    { "AveragePool", "", cpu_lower_pool },
    { "GlobalAveragePool", "", cpu_lower_global_pool },
    { "GlobalMaxPool", "", cpu_lower_global_pool },
    { "ReduceMean", "", cpu_lower_reduce },
    { "ReduceSum", "", cpu_lower_reduce },
    { "ReduceMax", "", cpu_lower_reduce },
    { "Softmax", "", cpu_lower_softmax },
    { "LogSoftmax", "", cpu_lower_softmax },
    { "LayerNormalization", "", cpu_lower_layernorm },
    { "InstanceNormalization", "", cpu_lower_groupnorm },
    { "GroupNormalization", "", cpu_lower_groupnorm },
    { "GridSample", "", cpu_lower_gridsample },
    { "QuantizeLinear", "", cpu_lower_quantize },
    { "DequantizeLinear", "", cpu_lower_dequantize },
    { "DynamicQuantizeLinear", "", cpu_lower_dynamic_quantize },
    { "QLinearConv", "", cpu_lower_qconv },
    { "QLinearConv", "polestar", cpu_lower_qconv },
    { "QLinearMatMul", "", cpu_lower_qmatmul },
    { "QLinearMatMul", "polestar", cpu_lower_qmatmul },
    { "QLinearMatMul", "", cpu_lower_qmatmul_batched },
    { "QLinearMatMul", "polestar", cpu_lower_qmatmul_batched },
    { "QLinearAdd", "polestar", cpu_lower_qadd },
    { "QLinearAdd", "com.microsoft", cpu_lower_qadd },
    { "QLinearMul", "polestar", cpu_lower_qmul },
    { "QLinearMul", "com.microsoft", cpu_lower_qmul },
    { "Lookup", "polestar", cpu_lower_lookup },
    { "QLinearGlobalAveragePool", "com.microsoft", cpu_lower_qglobalpool },
    { "QLinearAveragePool", "com.microsoft", cpu_lower_qaveragepool },
    { "LSTM", "", cpu_lower_lstm },
    { "GRU", "", cpu_lower_gru },
    { "RNN", "", cpu_lower_rnn },
    { "Concat", "", cpu_lower_concat },
    { "Pad", "", cpu_lower_pad },
    { "Resize", "", cpu_lower_resize },
    { "Cast", "", cpu_lower_cast },
    { "Transpose", "", cpu_lower_transpose },
};

static ps_status cpu_lower(ps_device *device, ps_lowering *l, ps_error *err) {
    return ps_lower_with(device, impls, sizeof impls / sizeof *impls, l, err);
}

static void cpu_free(ps_device *device) {
#ifdef PS_WITH_DNNL
    psd_free(((cpu_device *)device)->dnnl);
#endif
    ps_free(device->alloc, device);
}

/* oneDNN fixes its team size from the calling thread's setting, when a primitive is made and when it runs. */
static int cpu_enter(ps_device *device, int threads) {
#ifdef _OPENMP
    int before = omp_get_max_threads();
    if (before != threads) omp_set_num_threads(threads);
    return before;
#else
    return 0;
#endif
}

static void cpu_leave(ps_device *device, int token) {
#ifdef _OPENMP
    if (token != omp_get_max_threads()) omp_set_num_threads(token);
#endif
}

static const ps_device_ops device_ops = { 1, cpu_lower, cpu_reorder, cpu_free, cpu_enter, cpu_leave };

ps_status ps_device_new_cpu(ps_alloc_state *alloc, ps_device **ret, ps_error *err) {
    cpu_device *d = ps_alloc_zero(alloc, sizeof *d);
    if (!d) return PS_FAIL_NOMEM(err, "a device");
    d->base.ops = &device_ops;
    d->base.alloc = alloc;
    d->simd = ps_simd_pick();
    d->q8 = ps_q8_pick();
    d->base.caps = (ps_caps) { true, true, true, true, PS_MAX_POSTS, true, true, false };
    ps_snprintf(d->base.name, sizeof d->base.name, "cpu");
    ps_cpu_model(d->base.hardware, sizeof d->base.hardware);
#ifdef PS_WITH_DNNL
    char version[32];
    ps_status status = psd_new(alloc, &d->dnnl, err);
    if (status != PS_OK) {
        ps_free(alloc, d);
        return status;
    }
    ps_snprintf(d->base.driver, sizeof d->base.driver, "%s (%s), own kernels %s",
                psd_version_text(version, sizeof version), psd_isa_text(), d->simd->name);
#else
    ps_snprintf(d->base.driver, sizeof d->base.driver, "own kernels %s", d->simd->name);
#endif
    d->base.info =
        (ps_device_info) { sizeof d->base.info, d->base.name, d->base.hardware, d->base.driver, ps_memory_total(),
                           ps_cpu_count(),      NULL };
    *ret = &d->base;
    return PS_OK;
}
