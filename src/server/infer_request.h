/* infer_request.h - what a request says besides the data of its tensors, checked the same on every wire: parameters of
 * the schedule policy, the sequence and the classification extension, places in shared memory. */
#ifndef PS_SERVER_INFER_REQUEST_H
#define PS_SERVER_INFER_REQUEST_H

#include "server/core.h"

/* The parameters shared_memory_* of an input or output. */
typedef struct ps_shm_place {
    const char *region; /* NULL: not in shared memory */
    bool has_size;
    uint64_t offset, size;
} ps_shm_place;

/* 0 and "" are no ids. */
ps_status ps_infer_set_sequence_number(ps_infer *infer, uint64_t id, ps_error *err);
ps_status ps_infer_set_sequence_text(ps_infer *infer, const char *id, ps_error *err);
/* "" is no key. */
ps_status ps_infer_set_routing_key(ps_infer *infer, const char *key, ps_error *err);
ps_status ps_infer_set_tenant(ps_infer *infer, const char *name, ps_error *err); /* "" is none */
ps_status ps_infer_set_priority(ps_infer *infer, uint64_t priority, ps_error *err);
ps_status ps_infer_set_timeout(ps_infer *infer, uint64_t microseconds, ps_error *err);
ps_status ps_infer_set_classes(ps_infer_want *want, int64_t classes, ps_error *err);

/* Copies an input's bytes from its region and reads them; the tensor's type and shape are set. */
ps_status ps_infer_read_memory(ps_infer *infer, const ps_shm_place *place, ps_infer_tensor *t, ps_error *err);
/* The output is to go there. */
ps_status ps_infer_want_memory(const ps_infer *infer, const ps_shm_place *place, ps_infer_want *want, ps_error *err);
/* Puts an output where it is wanted; *ret_size is what it takes there. */
ps_status ps_infer_write_memory(const ps_infer_want *w, const ps_infer_tensor *t, ps_alloc_state *alloc,
                                size_t *ret_size, ps_error *err);

/* Room for one more item of an array in the arena that holds n; the old block stays until the request is released. */
bool ps_infer_grow(ps_arena *arena, void **data, size_t n, size_t *room, size_t size);

#endif
