/* api.h - OpenCL as functions that are looked up while the program runs, so that one binary works where there is none.
 *
 * OpenCL 1.2 is the floor: what is newer is not used. */
#ifndef PS_BACKEND_OPENCL_API_H
#define PS_BACKEND_OPENCL_API_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include "base/error.h"

#define OCL_FUNCTIONS(X)                                                                                               \
    X(clGetPlatformIDs)                                                                                                \
    X(clGetPlatformInfo)                                                                                               \
    X(clGetDeviceIDs)                                                                                                  \
    X(clGetDeviceInfo)                                                                                                 \
    X(clCreateContext)                                                                                                 \
    X(clReleaseContext)                                                                                                \
    X(clCreateCommandQueue)                                                                                            \
    X(clReleaseCommandQueue)                                                                                           \
    X(clCreateBuffer)                                                                                                  \
    X(clReleaseMemObject)                                                                                              \
    X(clCreateProgramWithSource)                                                                                       \
    X(clCreateProgramWithBinary)                                                                                       \
    X(clBuildProgram)                                                                                                  \
    X(clGetProgramInfo)                                                                                                \
    X(clGetProgramBuildInfo)                                                                                           \
    X(clReleaseProgram)                                                                                                \
    X(clCreateKernel)                                                                                                  \
    X(clReleaseKernel)                                                                                                 \
    X(clSetKernelArg)                                                                                                  \
    X(clEnqueueNDRangeKernel)                                                                                          \
    X(clEnqueueFillBuffer)                                                                                             \
    X(clEnqueueReadBuffer)                                                                                             \
    X(clEnqueueWriteBuffer)                                                                                            \
    X(clEnqueueMapBuffer)                                                                                              \
    X(clEnqueueUnmapMemObject)                                                                                         \
    X(clWaitForEvents)                                                                                                 \
    X(clReleaseEvent)                                                                                                  \
    X(clFlush)                                                                                                         \
    X(clFinish)

typedef struct ocl_api {
    void *library;
#define OCL_MEMBER(name) __typeof__(name) *name;
    OCL_FUNCTIONS(OCL_MEMBER)
#undef OCL_MEMBER
} ocl_api;

/* PS_NOT_FOUND: no OpenCL loader on this machine. */
ps_status ocl_api_open(ocl_api *api, ps_error *err);
/* "CL_OUT_OF_RESOURCES"; static storage. */
const char *ocl_code_name(cl_int code);

#endif
