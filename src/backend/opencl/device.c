/* device.c - the OpenCL device: its implementation list and its end. */
#include "backend/opencl/opencl_int.h"

/* First that accepts wins; what none takes runs on the CPU. */
static const ps_impl impls[] = {
    { "MatMul", "", ocl_lower_matmul },
    { "MatMul", "polestar", ocl_lower_matmul },
    { "Gemm", "", ocl_lower_gemm },
    { "Gemm", "polestar", ocl_lower_gemm },
    { "Conv", "", ocl_lower_depthwise },
    { "Conv", "polestar", ocl_lower_depthwise },
    { "Conv", "", ocl_lower_winograd },
    { "Conv", "", ocl_lower_conv },
    { "Conv", "polestar", ocl_lower_winograd },
    { "Conv", "polestar", ocl_lower_conv },
    { "ConvTranspose", "", ocl_lower_deconv },
    { "ConvTranspose", "polestar", ocl_lower_deconv },
    { "Attention", "polestar", ocl_lower_attention },
    { "Pointwise", "polestar", ocl_lower_pointwise },
    { "Add", "", ocl_lower_operator },
    { "Sub", "", ocl_lower_operator },
    { "Mul", "", ocl_lower_operator },
    { "Div", "", ocl_lower_operator },
    { "Max", "", ocl_lower_operator },
    { "Min", "", ocl_lower_operator },
    { "Relu", "", ocl_lower_operator },
    { "Sigmoid", "", ocl_lower_operator },
    { "Tanh", "", ocl_lower_operator },
    { "Exp", "", ocl_lower_operator },
    { "Sqrt", "", ocl_lower_operator },
    { "Abs", "", ocl_lower_operator },
    { "Erf", "", ocl_lower_operator },
    { "Reciprocal", "", ocl_lower_operator },
    { "Clip", "", ocl_lower_operator },
    { "LeakyRelu", "", ocl_lower_operator },
    { "HardSigmoid", "", ocl_lower_operator },
    { "HardSwish", "", ocl_lower_operator },
    { "Gelu", "", ocl_lower_operator },
    { "Neg", "", ocl_lower_operator },
    { "MaxPool", "", ocl_lower_pool },
    { "AveragePool", "", ocl_lower_pool },
    { "GlobalAveragePool", "", ocl_lower_global_pool },
    { "GlobalMaxPool", "", ocl_lower_global_pool },
    { "ReduceMean", "", ocl_lower_reduce },
    { "ReduceSum", "", ocl_lower_reduce },
    { "ReduceMax", "", ocl_lower_reduce },
    { "ReduceMin", "", ocl_lower_reduce },
    { "ReduceProd", "", ocl_lower_reduce },
    { "Softmax", "", ocl_lower_softmax },
    { "LogSoftmax", "", ocl_lower_softmax },
    { "LayerNormalization", "", ocl_lower_layernorm },
    { "InstanceNormalization", "", ocl_lower_groupnorm },
    { "GroupNormalization", "", ocl_lower_groupnorm },
    { "Transpose", "", ocl_lower_transpose },
    { "Concat", "", ocl_lower_concat },
    { "Split", "", ocl_lower_split },
    { "Slice", "", ocl_lower_slice },
    { "Expand", "", ocl_lower_expand },
    { "Tile", "", ocl_lower_expand },
    { "Pad", "", ocl_lower_pad },
    { "Gather", "", ocl_lower_gather },
    { "Resize", "", ocl_lower_resize },
    { "Cast", "", ocl_lower_cast },
    { "QuantizeLinear", "", ocl_lower_quantize },
    { "DequantizeLinear", "", ocl_lower_dequantize },
};

const ps_impl *ps_opencl_operators(size_t *ret_n) {
    *ret_n = sizeof impls / sizeof *impls;
    return impls;
}

/* ---- errors ---- */

/* Codes after which nothing of the context works. */
static bool tells_loss(cl_int code) {
    return code == CL_DEVICE_NOT_AVAILABLE || code == CL_INVALID_COMMAND_QUEUE || code == CL_INVALID_CONTEXT ||
           code == CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST;
}

static bool tells_want(cl_int code) {
    return code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_RESOURCES || code == CL_OUT_OF_HOST_MEMORY;
}

ps_status ocl_fail(ocl_device *d, const char *call, cl_int code, ps_error *err) {
    const char *name = d->base.name, *what = ocl_code_name(code);
    if (tells_loss(code)) atomic_store(&d->lost, true);
    if (atomic_load(&d->lost))
        return PS_FAIL(err, UNAVAILABLE, "device '%s' was lost (%s: %s): load the model again", name, call, what);
    if (tells_want(code)) return PS_FAIL(err, NO_MEMORY, "device '%s' is out of memory (%s: %s)", name, call, what);
    return PS_FAIL(err, INTERNAL, "device '%s': %s gave %s (%d)", name, call, what, (int)code);
}

/* Does it still do what it is asked for? */
static bool answers(ocl_device *d) {
    static const cl_int zero = 0;
    ps_mutex_lock(&d->lock);
    cl_int code = d->api.clEnqueueFillBuffer(d->queue, d->probe, &zero, sizeof zero, 0, sizeof zero, 0, NULL, NULL);
    if (code == CL_SUCCESS) code = d->api.clFinish(d->queue);
    ps_mutex_unlock(&d->lock);
    return code == CL_SUCCESS;
}

/* Drivers say "out of resources", or codes of their own, of a card that was reset under a kernel. */
ps_status ocl_fail_running(ocl_device *d, const char *call, cl_int code, ps_error *err) {
    if ((code == CL_OUT_OF_RESOURCES || code < -1000) && !atomic_load(&d->lost) && !answers(d))
        atomic_store(&d->lost, true);
    return ocl_fail(d, call, code, err);
}

ps_status ocl_still_there(ocl_device *d, ps_error *err) {
    return atomic_load(&d->lost) ? ocl_fail(d, "a call before", CL_DEVICE_NOT_AVAILABLE, err) : PS_OK;
}

/* ---- the device ---- */

static ps_status lower(ps_device *device, ps_lowering *l, ps_error *err) {
    l->why = NULL;
    PS_TRY(ocl_still_there(ocl_of(device), err));
    PS_TRY(ps_lower_list(device, impls, sizeof impls / sizeof *impls, l, err));
    if (!l->kernel && !l->alias && !l->why) l->why = "no OpenCL kernel for this operator";
    return PS_OK;
}

static void device_free(ps_device *device) {
    ocl_device *d = ocl_of(device);
    ocl_programs_free(d);
    if (d->probe) d->api.clReleaseMemObject(d->probe);
    if (d->queue) d->api.clReleaseCommandQueue(d->queue);
    if (d->context) d->api.clReleaseContext(d->context);
    ps_mutex_destroy(&d->lock);
    ps_free(device->alloc, d);
}

const ps_device_ops ocl_device_ops = { 1, lower, ocl_reorder, device_free, NULL, NULL, &ocl_memory_ops };
