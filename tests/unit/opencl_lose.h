/* opencl_lose.h - several OpenCL devices, one of which can be lost. For tests. */
#ifndef PS_TEST_OPENCL_LOSE_H
#define PS_TEST_OPENCL_LOSE_H

#include "onnx_file.h"
#include "opencl_compare.h"

#include <stdatomic.h>

/* PoCL shows so many devices as are named here, each with contexts of its own. Before the first engine. */
static inline void lose_want_devices(void) {
    setenv("POCL_DEVICES", "basic basic", 0);
}

/* For main: are there two? Says why not. */
static inline bool lose_two_there(void) {
    ps_engine *e = NULL;
    ps_device_info info = { .size = sizeof info };
    if (!opencl_there() || ps_engine_create(NULL, &e, NULL) != PS_OK) return false;
    const bool there = ps_engine_find_device(e, "opencl:1", &info, NULL) == PS_OK;
    if (!there) print_message("skipped: there is one OpenCL device only\n");
    ps_engine_free(e);
    return there;
}

static atomic_int lose_gone[2]; /* opencl:0 and opencl:1: nothing that is asked of them works */
static ocl_api lose_real;

#define LOSE_FUNCTIONS(i)                                                                                              \
    static cl_int lose_finish_##i(cl_command_queue q) {                                                                \
        return atomic_load(&lose_gone[i]) ? CL_OUT_OF_RESOURCES : lose_real.clFinish(q);                               \
    }                                                                                                                  \
    static cl_int lose_fill_##i(cl_command_queue q, cl_mem m, const void *pattern, size_t size, size_t from, size_t n, \
                                cl_uint n_wait, const cl_event *waits, cl_event *event) {                              \
        if (atomic_load(&lose_gone[i])) return CL_OUT_OF_RESOURCES;                                                    \
        return lose_real.clEnqueueFillBuffer(q, m, pattern, size, from, n, n_wait, waits, event);                      \
    }
LOSE_FUNCTIONS(0)
LOSE_FUNCTIONS(1)
#undef LOSE_FUNCTIONS

static atomic_int lose_refusals; /* so many times no context is made */

static cl_context lose_create(const cl_context_properties *p, cl_uint n, const cl_device_id *ids,
                              void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *ctx,
                              cl_int *ret) {
    if (atomic_load(&lose_refusals) <= 0) return lose_real.clCreateContext(p, n, ids, notify, ctx, ret);
    atomic_fetch_sub(&lose_refusals, 1);
    *ret = CL_DEVICE_NOT_AVAILABLE;
    return NULL;
}

/* From now on device `i` can be lost: what is opened in its place takes these functions over. */
static inline ocl_device *lose_prepare(ps_engine *engine, int i) {
    ps_device *d = NULL;
    char name[16];
    ps_snprintf(name, sizeof name, "opencl:%d", i);
    assert_int_equal(ps_engine_device(engine, name, &d, NULL), PS_OK);
    ocl_api *api = &ocl_of(d)->api;
    if (api->clCreateContext != lose_create) lose_real = *api;
    api->clFinish = i ? lose_finish_1 : lose_finish_0;
    api->clEnqueueFillBuffer = i ? lose_fill_1 : lose_fill_0;
    api->clCreateContext = lose_create;
    return ocl_of(d);
}

/* ---- a model's file, as the bytes of its protobuf ---- */

#endif
