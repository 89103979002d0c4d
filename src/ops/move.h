/* move.h - moving elements without looking at them: what Transpose, Slice, Gather, Pad and their like share.
 *
 * Elements are opaque blocks of 1, 2, 4, 8 or 16 bytes. Strings move as their ps_string structs within scratch memory
 * and are copied into the output tensor's own storage at the end, so a kernel need not care. Types packed below one
 * byte need ps_move_unpacked, unless whole rows of bytes move; ps_move_begin refuses them. */
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
    ps_alloc_state *alloc;
} ps_move;

/* ps_move_output, then the place to write to. Pair with ps_move_end on success. */
ps_status ps_move_begin(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, ps_move *ret,
                        ps_error *err);
/* The same for a kernel that moves whole rows of `row` elements only: a packed type is fine where such a row is a whole
 * number of bytes (m->size is 0 then). *ret_bytes: of one row. */
ps_status ps_move_begin_rows(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, int64_t row,
                             ps_move *ret, size_t *ret_bytes, ps_error *err);
/* Finishes the output (copies strings) unless status is an error, releases scratch, returns the combined status. */
ps_status ps_move_end(ps_move *m, ps_status status, ps_error *err);

/* Is t packed below one byte, so that rows of `row` elements do not start at bytes? */
static inline bool ps_move_splits(const ps_tensor *t, int64_t row) {
    size_t bits = ps_dtype_bits(t->dtype);
    return bits < 8 && row * (int64_t)bits % 8 != 0;
}
/* Runs `fn` with every packed input spread out to a byte an element, as u8, and packs its packed outputs again: kernels
 * that only move elements begin with  if (ps_move_splits(in, 1)) return ps_move_unpacked(ctx, this_kernel, err); */
ps_status ps_move_unpacked(const ps_kernel_ctx *ctx, ps_kernel_fn fn, ps_error *err);

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

/* n elements of any type from one tensor into another of that type, neither a container; offsets in elements. Packed
 * types need offsets and n that are whole bytes. `to` owns its strings. */
ps_status ps_move_run(ps_tensor *to, int64_t to_first, const ps_tensor *from, int64_t from_first, int64_t n,
                      ps_error *err);

/* ---- whole tensors, containers included ---- */
/* Output i becomes t: strings are copied, elements of a container shared. */
ps_status ps_move_tensor(const ps_kernel_ctx *ctx, size_t i, const ps_tensor *t, ps_error *err);
/* Puts t into a place of a container: shared if it comes out of another container (`element`), else as a copy. */
ps_status ps_move_element(const ps_kernel_ctx *ctx, ps_tensor *container, size_t place, const ps_tensor *t,
                          bool element, ps_error *err);

/* out[0] = in[0]'s memory as it is; the kernel of every PS_OP_VIEW operator, packed types and strings included. */
ps_status ps_move_view(const ps_kernel_ctx *ctx, const ps_shape *shape, ps_error *err);

#endif
