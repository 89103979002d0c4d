/* vec.h - growing arrays: PS_VEC(type) declares one, ps_vec_push appends. Zero-initialise; ps_vec_release frees. */
#ifndef PS_BASE_VEC_H
#define PS_BASE_VEC_H

#include "base/alloc.h"

#define PS_VEC(type)                                                                                                   \
    struct {                                                                                                           \
        type *data;                                                                                                    \
        size_t size, room;                                                                                             \
    }

/* Grows *data to hold at least size + extra elements; false when out of memory (content intact). */
bool ps_vec_grow_(ps_alloc_state *a, void **data, size_t size, size_t *room, size_t extra, size_t elem);

#define ps_vec_reserve(a, v, extra)                                                                                    \
    ((v)->size + (extra) <= (v)->room ||                                                                               \
     ps_vec_grow_((a), (void **)&(v)->data, (v)->size, &(v)->room, (extra), sizeof *(v)->data))
/* true on success */
#define ps_vec_push(a, v, item) (ps_vec_reserve((a), (v), 1) && ((v)->data[(v)->size++] = (item), true))
#define ps_vec_release(a, v) (ps_free((a), (v)->data), (v)->data = NULL, (v)->size = (v)->room = 0)

#endif
