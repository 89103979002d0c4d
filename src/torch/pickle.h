/* pickle.h - the table of tensors that torch.save wrote, read without executing anything.
 *
 * A pickle is a program for a stack machine that can call any Python function. Here a machine runs that knows lists,
 * numbers, texts and three calls, which it answers by itself: a tensor from a storage, a parameter from a tensor, an
 * empty OrderedDict. Anything else is refused by name. */
#ifndef PS_TORCH_PICKLE_H
#define PS_TORCH_PICKLE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/map.h"
#include "tensor/tensor.h"

/* Where a tensor's elements lie. */
typedef struct ps_torch_stored {
    const char *key; /* of the storage: entry "data/KEY" of the archive */
    ps_dtype dtype;
    ps_shape shape;
    int64_t strides[PS_MAX_RANK], offset; /* in elements; not negative */
} ps_torch_stored;

/* Fills tensors (name → ps_torch_stored, in the arena) from a pickled dict of tensors. */
ps_status ps_torch_unpickle(const uint8_t *data, size_t size, ps_arena *arena, ps_map *tensors, ps_error *err);

#endif
