/* measure.c - what a device reaches, by its own word and by trying. */
#include <math.h>

#include "backend/opencl/opencl_int.h"
#include "base/os.h"

#define TRIES 5
#define ROUNDS 4096        /* of multiply_adds, 32 each */
#define COPIED (64u << 20) /* bytes, beyond most caches */
#define MACS_A_ROUND 32

int ocl_capability(const ocl_device *d) {
    cl_uint major = 0, minor = 0; /* CL_DEVICE_COMPUTE_CAPABILITY_MAJOR_NV, …_MINOR_NV */
    if (d->api.clGetDeviceInfo(d->id, 0x4000, sizeof major, &major, NULL) != CL_SUCCESS ||
        d->api.clGetDeviceInfo(d->id, 0x4001, sizeof minor, &minor, NULL) != CL_SUCCESS)
        return 0;
    return (int)(10 * major + minor);
}

/* The device's query knows units and clock; the lanes of a unit only its maker: of RDNA's and Intel's as many as fill
 * it. */
static double lanes(const ocl_device *d) {
    if (d->family == OCL_RDNA || d->family == OCL_INTEL) return d->filled;
    if (d->family != OCL_NVIDIA) return 64;
    const int capability = ocl_capability(d);
    return capability / 10 == 7 || capability == 80 || capability == 60 ? 64 : 128;
}

double ocl_flops_by_query(const ocl_device *d) {
    cl_uint mhz = 0;
    d->api.clGetDeviceInfo(d->id, CL_DEVICE_MAX_CLOCK_FREQUENCY, sizeof mhz, &mhz, NULL);
    return 2e6 * (double)mhz * (double)d->units * lanes(d);
}

typedef struct trial {
    ocl_device *d;
    cl_kernel kernel;
    size_t items;
} trial;

static cl_int run_once(const trial *t, double *best) {
    const size_t local = 64;
    const int64_t start = ps_clock_ns();
    cl_int code = t->d->api.clEnqueueNDRangeKernel(t->d->queue, t->kernel, 1, NULL, &t->items, &local, 0, NULL, NULL);
    if (code == CL_SUCCESS) code = t->d->api.clFinish(t->d->queue);
    const double time = (double)(ps_clock_ns() - start) / 1e9;
    if (time < *best) *best = time;
    return code;
}

/* The shortest of a few runs: the first ones raise the clock. */
static ps_status shortest(const trial *t, double *ret, ps_error *err) {
    cl_int code = CL_SUCCESS;
    *ret = INFINITY;
    ps_mutex_lock(&t->d->lock);
    for (int i = 0; i < TRIES && code == CL_SUCCESS; i++)
        code = run_once(t, ret);
    ps_mutex_unlock(&t->d->lock);
    return code == CL_SUCCESS ? PS_OK : ocl_fail(t->d, "a measurement", code, err);
}

static ps_status with_kernel(ocl_device *d, const char *entry, size_t items, const void *const *args,
                             const size_t *sizes, cl_uint n, double *ret, ps_error *err) {
    ocl_program *p;
    cl_int code;
    PS_TRY(ocl_program_get(d, "measure", "", "", &p, err));
    trial t = { d, d->api.clCreateKernel(p->handle, entry, &code), items };
    for (cl_uint i = 0; i < n && code == CL_SUCCESS; i++)
        code = d->api.clSetKernelArg(t.kernel, i, sizes[i], args[i]);
    ps_status status =
        code == CL_SUCCESS ? shortest(&t, ret, err) : ocl_fail(d, "clSetKernelArg", code, err);
    if (t.kernel) d->api.clReleaseKernel(t.kernel);
    return status;
}

static ps_status try_both(ocl_device *d, void *from, void *to, double *ret_flops, double *ret_bytes, ps_error *err) {
    const cl_mem x = ocl_buffer_mem(from), y = ocl_buffer_mem(to);
    const cl_int rounds = ROUNDS;
    const cl_float a = 0.999f, b = 0.001f;
    const size_t items = (size_t)d->units * (d->gpu ? 4096 : 64), fours = COPIED / 16;
    double time;
    PS_TRY(with_kernel(d, "multiply_adds", items, (const void *[]) { &y, &rounds, &a, &b },
                       (size_t[]) { sizeof y, sizeof rounds, sizeof a, sizeof b }, 4, &time, err));
    *ret_flops = 2.0 * MACS_A_ROUND * ROUNDS * (double)items / time;
    PS_TRY(
        with_kernel(d, "copy", fours, (const void *[]) { &x, &y }, (size_t[]) { sizeof x, sizeof y }, 2, &time, err));
    *ret_bytes = 2.0 * COPIED / time;
    return PS_OK;
}

ps_status ocl_measure(ocl_device *d, double *ret_flops, double *ret_bytes, ps_error *err) {
    void *from = NULL, *to = NULL;
    ps_status status = ocl_memory_ops.buffer_new(&d->base, COPIED, NULL, &from, err);
    if (status == PS_OK) status = ocl_memory_ops.buffer_new(&d->base, COPIED, NULL, &to, err);
    if (status == PS_OK) status = try_both(d, from, to, ret_flops, ret_bytes, err);
    ocl_memory_ops.buffer_free(&d->base, from);
    ocl_memory_ops.buffer_free(&d->base, to);
    return status;
}
