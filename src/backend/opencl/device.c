/* device.c - the OpenCL device: its implementation list and its end. */
#include "backend/opencl/opencl_int.h"

/* First that accepts wins; what none takes runs on the CPU. Results of few numbers gain nothing as halves, and numbers
 * that were integers, which may be places or counts, would lose. */
static const ps_impl impls[] = {
    { "MatMul", "", ocl_lower_matmul, PS_HALVES_BOTH },
    { "MatMul", "polestar", ocl_lower_matmul, PS_HALVES_BOTH },
    { "Gemm", "", ocl_lower_gemm, PS_HALVES_BOTH },
    { "Gemm", "polestar", ocl_lower_gemm, PS_HALVES_BOTH },
    { "Conv", "", ocl_lower_depthwise, PS_HALVES_BOTH },
    { "Conv", "polestar", ocl_lower_depthwise, PS_HALVES_BOTH },
    { "Conv", "", ocl_lower_winograd, PS_HALVES_BOTH },
    { "Conv", "", ocl_lower_conv, PS_HALVES_BOTH },
    { "Conv", "polestar", ocl_lower_winograd, PS_HALVES_BOTH },
    { "Conv", "polestar", ocl_lower_conv, PS_HALVES_BOTH },
    { "ConvTranspose", "", ocl_lower_deconv, PS_HALVES_BOTH },
    { "ConvTranspose", "polestar", ocl_lower_deconv, PS_HALVES_BOTH },
    { "QLinearConv", "", ocl_lower_qconv },
    { "QLinearConv", "polestar", ocl_lower_qconv, PS_HALVES_WRITE },
    { "QLinearMatMul", "", ocl_lower_qmatmul },
    { "QLinearMatMul", "polestar", ocl_lower_qmatmul, PS_HALVES_WRITE },
    { "QLinearAdd", "polestar", ocl_lower_qadd },
    { "QLinearAdd", "com.microsoft", ocl_lower_qadd },
    { "QLinearMul", "polestar", ocl_lower_qmul },
    { "QLinearMul", "com.microsoft", ocl_lower_qmul },
    { "Lookup", "polestar", ocl_lower_lookup },
    { "QLinearGlobalAveragePool", "com.microsoft", ocl_lower_qglobal_pool },
    { "QLinearAveragePool", "com.microsoft", ocl_lower_qpool },
    { "Attention", "polestar", ocl_lower_attention, PS_HALVES_BOTH },
    { "Pointwise", "polestar", ocl_lower_pointwise, PS_HALVES_BOTH },
    { "Add", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Sub", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Mul", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Div", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Max", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Min", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Relu", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Sigmoid", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Tanh", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Exp", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Sqrt", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Abs", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Erf", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Reciprocal", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Clip", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "LeakyRelu", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "HardSigmoid", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "HardSwish", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Gelu", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "Neg", "", ocl_lower_operator, PS_HALVES_BOTH },
    { "MaxPool", "", ocl_lower_pool, PS_HALVES_BOTH },
    { "MaxPool", "", ocl_lower_qpool },
    { "AveragePool", "", ocl_lower_pool, PS_HALVES_BOTH },
    { "GlobalAveragePool", "", ocl_lower_global_pool, PS_HALVES_READ },
    { "GlobalMaxPool", "", ocl_lower_global_pool, PS_HALVES_READ },
    { "ReduceMean", "", ocl_lower_reduce, PS_HALVES_READ },
    { "ReduceSum", "", ocl_lower_reduce, PS_HALVES_READ },
    { "ReduceMax", "", ocl_lower_reduce, PS_HALVES_READ },
    { "ReduceMin", "", ocl_lower_reduce, PS_HALVES_READ },
    { "ReduceProd", "", ocl_lower_reduce, PS_HALVES_READ },
    { "Softmax", "", ocl_lower_softmax, PS_HALVES_BOTH },
    { "LogSoftmax", "", ocl_lower_softmax, PS_HALVES_BOTH },
    { "LayerNormalization", "", ocl_lower_layernorm, PS_HALVES_BOTH },
    { "InstanceNormalization", "", ocl_lower_groupnorm, PS_HALVES_BOTH },
    { "GroupNormalization", "", ocl_lower_groupnorm, PS_HALVES_BOTH },
    { "Transpose", "", ocl_lower_transpose, PS_HALVES_BOTH },
    { "Concat", "", ocl_lower_concat, PS_HALVES_BOTH },
    { "Split", "", ocl_lower_split, PS_HALVES_BOTH },
    { "Slice", "", ocl_lower_slice, PS_HALVES_BOTH },
    { "Expand", "", ocl_lower_expand, PS_HALVES_BOTH },
    { "Tile", "", ocl_lower_expand, PS_HALVES_BOTH },
    { "Pad", "", ocl_lower_pad, PS_HALVES_BOTH },
    { "Gather", "", ocl_lower_gather, PS_HALVES_BOTH },
    { "Resize", "", ocl_lower_resize, PS_HALVES_BOTH },
    { "Cast", "", ocl_lower_cast, PS_HALVES_READ },
    { "QuantizeLinear", "", ocl_lower_quantize, PS_HALVES_READ },
    { "DequantizeLinear", "", ocl_lower_dequantize, PS_HALVES_WRITE },
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

#define LEAST_HALVES 4096 /* elements: below, neither memory nor its bandwidth is saved that would tell */

static bool may_store_halves(const ps_device *device, const ps_node *n, const ps_value *v) {
    const ps_halves h = ps_list_halves(impls, sizeof impls / sizeof *impls, n);
    int64_t elements;
    if (v->producer != n) return h & PS_HALVES_READ;
    return (h & PS_HALVES_WRITE) && ps_shape_elements(&v->shape, &elements) && elements >= LEAST_HALVES;
}

/* Of tests: halves wherever a kernel can have them, without regard to others. */
static void ask_for_halves(const ocl_device *d, ps_lowering *l) {
    const ps_node *n = l->node;
    for (uint32_t i = 0; i < n->n_in; i++)
        l->in_half[i] = n->in[i] && n->in[i]->dtype == PS_DTYPE_F32 && !n->in[i]->constant && (d->test_halves & 1) &&
                        (i % 2 == 0 || !(d->test_halves & 4));
    for (uint32_t i = 0; i < n->n_out; i++)
        l->out_half[i] = n->out[i] && n->out[i]->dtype == PS_DTYPE_F32 && (d->test_halves & 2);
}

static ps_status lower(ps_device *device, ps_lowering *l, ps_error *err) {
    l->why = NULL;
    if (ocl_of(device)->test_halves) ask_for_halves(ocl_of(device), l);
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

const ps_device_ops ocl_device_ops = {
    1, lower, ocl_reorder, device_free, NULL, NULL, &ocl_memory_ops, may_store_halves, ocl_refuses
};
