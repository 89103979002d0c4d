/* kernel_util.h - what reference kernels share: reading and writing rows of any number type as double, operands widened
 * once for hot loops, broadcast reads, and the checks that many shape rules make.
 *
 * Reference kernels accumulate in double and round once when they store: they are the oracle of the backends. */
#ifndef PS_OPS_KERNEL_UTIL_H
#define PS_OPS_KERNEL_UTIL_H

#include "base/error.h"
#include "base/thread.h"
#include "ops/ops.h"

/* ---- rows ---- */
/* dst[i] = src[first + i * stride], i < n. Exact for every type but i64 and u64, which lose bits beyond 2^53. Strings
 * and complex numbers must have been refused before. */
void ps_row_load(double *dst, ps_dtype dtype, const void *src, int64_t first, int64_t stride, int64_t n);
/* The inverse. f16, bf16, f8 (saturating) and f4 round through f32; integers truncate and must be in range. Elements
 * packed below one byte share it: two threads must not write to the same one. */
void ps_row_store(void *dst, ps_dtype dtype, int64_t first, int64_t stride, const double *src, int64_t n);
/* A number of an attribute as one element of any number type: integers saturate and take NaN as 0, as Cast does. */
void ps_number_store(void *dst, ps_dtype dtype, float v);

/* ---- operands ---- */
/* A tensor of numbers as f32 or f64: borrowed where it is one of these, else widened once: f16 and bf16 to f32,
 * integers and bool to f64. */
typedef struct ps_operand {
    const void *data; /* NULL: the tensor is absent */
    bool f64;
    ps_alloc_state *alloc;
    void *owned;
} ps_operand;

/* t may be NULL. */
ps_status ps_operand_init(ps_operand *o, const ps_tensor *t, ps_alloc_state *alloc, ps_error *err);
void ps_operand_release(ps_operand *o); /* of a zeroed one too */

static inline double ps_operand_at(const ps_operand *o, int64_t i) {
    return o->f64 ? ((const double *)o->data)[i] : (double)((const float *)o->data)[i];
}

/* acc[i * acc_stride] += factor * o[first + i * stride], i < n */
void ps_operand_axpy(double *acc, int64_t acc_stride, const ps_operand *o, int64_t first, int64_t stride, double factor,
                     int64_t n);
/* Sum of a[first_a + i * stride_a] * b[first_b + i * stride_b], i < n, in ascending order of i. */
double ps_operand_dot(const ps_operand *a, int64_t first_a, int64_t stride_a, const ps_operand *b, int64_t first_b,
                      int64_t stride_b, int64_t n);

/* ---- broadcast reads ---- */
/* A tensor read as if it had the (fixed) shape `to`. */
typedef struct ps_bcast {
    const void *data;
    ps_dtype dtype;
    int rank;
    int64_t dims[PS_MAX_RANK], strides[PS_MAX_RANK]; /* of `to`; a stride of 0 repeats */
} ps_bcast;

/* false if t does not broadcast to that shape without changing it. */
bool ps_bcast_init(ps_bcast *b, const ps_tensor *t, const ps_shape *to);
/* Elements [first, first + n) in the row-major order of `to`. */
void ps_bcast_load(const ps_bcast *b, int64_t first, int64_t n, double *dst);

/* ---- parallel loops with scratch ---- */
/* Runs fn as ps_parallel_for does; *scratch receives a block of bytes_per_thread bytes for each thread number, freed
 * afterwards. Fails for lack of memory only. */
ps_status ps_parallel_scratch(const ps_kernel_ctx *ctx, int64_t n, int64_t grain, size_t elems_per_thread,
                              double **scratch, ps_parallel_fn fn, void *job, ps_error *err);

/* ---- checks of shape rules ---- */
/* Puts the node's label in front of the message and returns status: use through PS_NODE_FAIL. */
ps_status ps_node_fail(const ps_node *node, ps_error *err, ps_status status);
#define PS_NODE_FAIL(node, err, code, ...) ps_node_fail((node), (err), PS_FAIL(err, code, __VA_ARGS__))
#define PS_NODE_FAIL_IF(cond, node, err, code, ...)                                                                    \
    do {                                                                                                               \
        if (cond) return PS_NODE_FAIL(node, err, code, __VA_ARGS__);                                                   \
    } while (0)

static inline bool ps_in_known(const ps_node *n, size_t i) {
    return ps_has_in(n, i) && n->in[i]->shape.rank >= 0;
}
/* PS_TYPE unless in[i] is absent, of unknown type, or f64, f32, f16, bf16. */
ps_status ps_check_float(const ps_node *node, size_t i, ps_error *err);
/* PS_TYPE unless in[i] is absent or both types are equal or unknown. */
ps_status ps_check_same_type(const ps_node *node, size_t i, size_t as, ps_error *err);
/* ps_check_float(0) and in[1..n) of the type of in[0]. */
ps_status ps_check_floats(const ps_node *node, size_t n, ps_error *err);
/* PS_SHAPE if in[i] is there and is known not to have this rank. */
ps_status ps_check_rank(const ps_node *node, size_t i, int rank, ps_error *err);
/* PS_SHAPE if dim `d` of in[i] is known and differs from `want` (ignored when not known). `what` names the extent. */
ps_status ps_check_dim(const ps_node *node, size_t i, int d, int64_t want, const char *what, ps_error *err);
/* Two extents that must agree, one of which may be unknown or symbolic: the more telling one. */
static inline int64_t ps_dim_merge(int64_t a, int64_t b) {
    return a >= 0 ? a : b >= 0 ? b : a != PS_DIM_UNKNOWN ? a : b;
}

#endif
