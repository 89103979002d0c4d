/* classify.h - the classification extension: a tensor of scores becomes its k highest as strings "value:index". */
#ifndef PS_SERVER_CLASSIFY_H
#define PS_SERVER_CLASSIFY_H

#include "server/core.h"

/* Only numbers can be ranked: not BYTES, BOOL, FP16, BF16. */
ps_status ps_classify_check(const ps_served *served, const ps_value_info *output, ps_error *err);
typedef struct ps_class {
    double value;
    size_t index;
} ps_class;

/* The min(k, elements) highest of a tensor of numbers, in the arena: highest first, the lower index first among equals,
 * NaN last. The scores of all elements are ranked together, whatever the shape. */
ps_status ps_classify_rank(ps_arena *arena, int64_t k, const ps_infer_tensor *tensor, ps_class **ret, size_t *ret_n,
                           ps_error *err);
/* Replaces *tensor by a BYTES tensor of ps_classify_rank's elements in the arena: "value:index", or "value:index:label"
 * for those that have a label. */
ps_status ps_classify(const ps_served *served, ps_arena *arena, int64_t k, ps_infer_tensor *tensor, ps_error *err);

#endif
