/* source.h - the kernels of kernels/ as text in the program (cmake/embed-kernels.cmake). */
#ifndef PS_BACKEND_OPENCL_SOURCE_H
#define PS_BACKEND_OPENCL_SOURCE_H

#include <stddef.h>

typedef struct ocl_source {
    const char *name; /* of the file, without .cl */
    const char *text;
} ocl_source;

extern const ocl_source ocl_sources[]; /* ended by a row of NULL */

#endif
