/* move.h - moving elements without looking at them: what Transpose, Slice, Gather, Pad and their like share.
 *
 * Elements are opaque blocks of 1, 2, 4, 8 or 16 bytes. Strings move as their ps_string structs within scratch memory
 * and are copied into the output tensor's own storage at the end, so a kernel need not care. Types packed below one
 * byte are refused, except by ps_move_begin_unpacked, which spreads them to one byte an element meanwhile. */
#ifndef PS_OPS_MOVE_H
#define PS_OPS_MOVE_H

#include "ops/facts.h"

/* Output i shaped and with storage: checks it against the plan's shape, or allocates it if the plan left it open. */
ps_status ps_move_output(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, ps_error *err);

typedef struct ps_move {
    ps_tensor *out;
    size_t size;  /* bytes of one element */
    uint8_t *dst; /* write the elements here, row-major; zeroed for strings only */
    ps_string *scratch;
    uint8_t *unpacked, *source; /* one byte an element, of a packed output and input */
    ps_alloc_state *alloc;
} ps_move;

/* ps_move_output, then the place to write to. Pair with ps_move_end on success. */
ps_status ps_move_begin(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, ps_move *ret,
                        ps_error *err);
/* The same for a kernel that moves whole rows of `row` elements only: a packed type is fine where such a row is a whole
 * number of bytes (m->size is 0 then). *ret_bytes: of one row. */
ps_status ps_move_begin_rows(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, int64_t row,
                             ps_move *ret, size_t *ret_bytes, ps_error *err);
/* ps_move_begin for any type. A packed one is written as one byte an element; ps_move_unpack gives its input likewise.
 */
ps_status ps_move_begin_unpacked(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape,
                                 ps_move *ret, ps_error *err);
/* The elements of t, which has the move's type, as m->size bytes each: its own, or a copy that lives until ps_move_end.
 * For one tensor a move. */
ps_status ps_move_unpack(ps_move *m, const ps_tensor *t, const void **ret, ps_error *err);
/* Finishes the output (copies strings, packs) unless status is an error, releases scratch, returns the combined status.
 */
ps_status ps_move_end(ps_move *m, ps_status status, ps_error *err);

/* An n-dimensional copy with strides in elements on both sides, negative and zero strides included. */
#define PS_WALK_RANK (2 * PS_MAX_RANK)
typedef struct ps_walk {
    int rank;
    int64_t dims[PS_WALK_RANK], dst[PS_WALK_RANK], src[PS_WALK_RANK];
} ps_walk;

void ps_walk_add(ps_walk *w, int64_t dim, int64_t dst_stride, int64_t src_stride);
void ps_walk_copy(const ps_walk *w, size_t size, void *dst, const void *src, int threads);

/* Writes n copies of one element. */
void ps_move_fill(void *dst, const void *element, size_t size, int64_t n);

/* out[0] = in[0]'s memory as it is; the kernel of every PS_OP_VIEW operator, packed types and strings included. */
ps_status ps_move_view(const ps_kernel_ctx *ctx, const ps_shape *shape, ps_error *err);

#endif
