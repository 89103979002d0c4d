/* shared_memory.h - the system shared memory extension: regions that clients register by name, inputs read from them
 * and outputs written to them.
 *
 * A region in use outlives its unregistration. Data is copied (base/shm.h says why), under a limit for one request and
 * one for all. Any thread. */
#ifndef PS_SERVER_SHARED_MEMORY_H
#define PS_SERVER_SHARED_MEMORY_H

#include "base/alloc.h"
#include "base/error.h"
#include "base/str.h"

#define PS_SHM_MAX_REGIONS 1024

typedef struct ps_shm_table ps_shm_table;
typedef struct ps_shm_region ps_shm_region;

/* max_bytes: of the inputs of all requests in progress. allowed false: nothing can be registered. */
ps_status ps_shm_table_create(ps_alloc_state *alloc, bool allowed, size_t max_bytes, ps_shm_table **ret, ps_error *err);
void ps_shm_table_free(ps_shm_table *t); /* no region is in use any more; NULL is allowed */
bool ps_shm_allowed(const ps_shm_table *t);

/* PS_INVALID for a name in use and a range outside of the object, PS_NOT_FOUND for no object, PS_UNSUPPORTED. */
ps_status ps_shm_register(ps_shm_table *t, const char *name, const char *key, size_t offset, size_t byte_size,
                          ps_error *err);
/* NULL: all. Unknown names are fine. */
void ps_shm_unregister(ps_shm_table *t, const char *name);
/* One region or, for NULL, all in order of registration; `visit` is called under the table's lock. */
typedef void (*ps_shm_visit_fn)(void *ctx, const char *name, const char *key, size_t offset, size_t byte_size);
ps_status ps_shm_visit(ps_shm_table *t, const char *name, ps_shm_visit_fn visit, void *ctx, ps_error *err);
/* The same as a JSON array, appended. */
ps_status ps_shm_write_status(ps_shm_table *t, const char *name, ps_str *out, ps_error *err);

/* A reference to a region, for [offset, offset + size) of it, which must lie inside. t may be NULL. */
ps_status ps_shm_acquire(ps_shm_table *t, const char *name, uint64_t offset, uint64_t size, ps_shm_region **ret,
                         ps_error *err);
void ps_shm_release(ps_shm_region *region); /* NULL is allowed */
const char *ps_shm_region_name(const ps_shm_region *region);
ps_status ps_shm_region_read(const ps_shm_region *region, size_t offset, void *dst, size_t size, ps_error *err);
ps_status ps_shm_region_write(const ps_shm_region *region, size_t offset, const void *src, size_t size, ps_error *err);

/* Room for inputs of a request; PS_UNAVAILABLE. Give it back. */
ps_status ps_shm_reserve(ps_shm_table *t, size_t bytes, ps_error *err);
void ps_shm_unreserve(ps_shm_table *t, size_t bytes);

#endif
