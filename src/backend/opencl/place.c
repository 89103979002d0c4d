/* place.c - weights packed by the device: their content goes over as the model has it, and kernels/pack.cl brings it
 * into order, which takes a card less time than the host, whose memory is slower. */
#include "backend/opencl/opencl_int.h"

bool ocl_places(const ocl_device *d) {
    return d->test_place ? d->test_place > 0 : d->gpu;
}

static cl_int set_args(const ocl_api *api, cl_kernel k, cl_mem from, cl_mem to, const cl_int numbers[16]) {
    cl_int code = api->clSetKernelArg(k, 0, sizeof from, &from);
    if (code == CL_SUCCESS) code = api->clSetKernelArg(k, 1, sizeof to, &to);
    for (cl_uint i = 0; i < 2 && code == CL_SUCCESS; i++)
        code = api->clSetKernelArg(k, 2 + i, 8 * sizeof(cl_int), numbers + (size_t)8 * i);
    return code;
}

static cl_int enqueue(ocl_device *d, cl_kernel k, const int64_t size[3], const size_t local[2]) {
    const size_t in_group[3] = { local[0], local[1], 1 };
    size_t global[3];
    for (int i = 0; i < 3; i++)
        global[i] = ((size_t)size[i] + in_group[i] - 1) / in_group[i] * in_group[i];
    ps_mutex_lock(&d->lock);
    cl_int code = d->api.clEnqueueNDRangeKernel(d->queue, k, 3, NULL, global, in_group, 0, NULL, NULL);
    if (code == CL_SUCCESS) code = d->api.clFinish(d->queue);
    ps_mutex_unlock(&d->lock);
    return code;
}

ps_status ocl_place(ocl_device *d, const char *entry, const char *options, const void *from, void *to,
                    const cl_int numbers[16], const int64_t size[3], const size_t local[2], ps_error *err) {
    ocl_program *p;
    cl_int code;
    PS_TRY(ocl_program_get(d, "pack", options, "", &p, err));
    cl_kernel k = d->api.clCreateKernel(p->handle, entry, &code);
    if (code == CL_SUCCESS) code = set_args(&d->api, k, ocl_buffer_mem(from), ocl_buffer_mem(to), numbers);
    if (code == CL_SUCCESS) code = enqueue(d, k, size, local);
    if (k) d->api.clReleaseKernel(k);
    return code == CL_SUCCESS ? PS_OK : ocl_fail_running(d, "the packing of weights", code, err);
}
