/* staging.h - large copies between host memory and a card's through memory that the card reaches by itself ("pinned"):
 * a ring of pieces, filled or emptied by the host while the ones before are under way. A driver does the same with one
 * thread, and where it does not, it locks the caller's pages for each copy. */
#ifndef PS_BACKEND_OPENCL_STAGING_H
#define PS_BACKEND_OPENCL_STAGING_H

#include "backend/opencl/opencl_int.h"

#define OCL_STAGED_LEAST ((size_t)256 << 10) /* bytes of a copy: below, there is nothing to share out */

typedef struct ocl_staging ocl_staging;

/* For the copies of one in-order queue, by at most `threads` threads. NULL: this device gains nothing by it, or gives
 * no such memory. Not thread-safe, as the stream that has it. */
ocl_staging *ocl_staging_new(ocl_device *d, cl_command_queue queue, int threads);
/* NULL is allowed. Nothing may be under way. */
void ocl_staging_free(ocl_staging *s);
/* src may change when it returns. */
cl_int ocl_staging_send(ocl_staging *s, cl_mem dst, size_t offset, const void *src, size_t bytes);
/* dst is whole after ocl_staging_finish. */
cl_int ocl_staging_fetch(ocl_staging *s, void *dst, cl_mem src, size_t offset, size_t bytes);
/* The queue's end was waited for; failed: it did not do what it was asked for. */
void ocl_staging_finish(ocl_staging *s, bool failed);

#endif
