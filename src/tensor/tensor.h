/* tensor.h - inside of tensors and the arithmetic of shapes.
 *
 * Terms: "elements" are counted by shape, "bytes" are of packed row-major storage (sub-byte types round up).
 * Invariant: a ps_tensor that a kernel sees is row-major and its shape is fixed; strided tensors exist only at the
 * session's boundary, where they are copied. */
#ifndef PS_TENSOR_TENSOR_H
#define PS_TENSOR_TENSOR_H

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/os.h"
#include "base/str.h"
#include "polestar/tensor.h"

#define PS_MAX_NESTING 8 /* containers in containers; what nests deeper is refused when it is put together */

/* Who can bring back the content of a tensor that was dropped. One thread at a time, the one that compiles plans. */
typedef struct ps_tensor_keeper ps_tensor_keeper;
struct ps_tensor_keeper {
    ps_status (*restore)(ps_tensor_keeper *keeper, ps_error *err);
};

struct ps_tensor {
    ps_dtype dtype;
    ps_shape shape;
    void *data;               /* elements; for PS_DTYPE_STRING an array of ps_string */
    size_t bytes;             /* of data, row-major */
    const int64_t *strides;   /* in elements; NULL: row-major */
    ps_alloc_state *alloc;    /* NULL: not on the heap (a view on somebody's stack or arena), never released */
    void *owned;              /* block to free with the tensor, or NULL when data is borrowed */
    struct ps_tensor *base;   /* retained tensor whose memory data points into, or NULL */
    bool mapped;              /* data is a mapped file, unmapped with the tensor */
    ps_tensor_keeper *keeper; /* NULL: the content is never dropped. Outlives every use of the content */
    struct ps_tensor *narrow; /* retained: the same numbers in 16 bits, which bring the content back; or NULL */
    struct ps_codes *codes;   /* own: the same numbers as codes, which do so too (codes.h); or NULL */
    atomic_bool dropped;      /* the content is away: ps_tensor_need */
    atomic_int refs;
    _Atomic uint64_t content_hash; /* of ps_tensor_hash_once; 0: not known yet */
    int64_t own_strides[PS_MAX_RANK];
};

/* ---- shapes ---- */
bool ps_shape_fixed(const ps_shape *s);
bool ps_shape_equal(const ps_shape *a, const ps_shape *b);
/* Product of the dims of a fixed shape; 1 for rank 0. false if it overflows int64 or the shape is not fixed. */
bool ps_shape_elements(const ps_shape *s, int64_t *ret);
/* Product of dims [from, to). The shape must be fixed and known not to overflow. */
int64_t ps_shape_product(const ps_shape *s, int from, int to);
/* Are t's dims those of s from `from` on, leading ones aside? Then broadcasting repeats it as it is. Both are fixed. */
bool ps_shape_is_tail(const ps_shape *t, const ps_shape *s, int from);
/* Row-major strides in elements. */
void ps_shape_strides(const ps_shape *s, int64_t strides[PS_MAX_RANK]);
/* "[1,3,224,224]", "[?,s0]", "[...]" for unknown rank; buf is returned. */
const char *ps_shape_text(const ps_shape *s, char *buf, size_t size);
ps_shape ps_shape_make(int rank, const int64_t *dims);
ps_shape ps_shape_unknown(void); /* rank -1 */
/* numpy broadcasting over known and symbolic dims; false if two known dims disagree or the rank exceeds PS_MAX_RANK. */
bool ps_shape_broadcast(const ps_shape *a, const ps_shape *b, ps_shape *ret);
/* Axis in [-rank, rank) → [0, rank); false if outside. */
bool ps_axis_normalize(int64_t axis, int rank, int *ret);

/* ---- dtypes ---- */
/* A type that elements of a tensor file may have: containers are none. */
bool ps_dtype_valid(int value);
bool ps_dtype_is_container(ps_dtype t); /* sequence, optional, map */
bool ps_dtype_is_object(ps_dtype t);    /* elements own memory: strings and containers */
bool ps_dtype_is_float(ps_dtype t);     /* f64 f32 f16 bf16 */
bool ps_dtype_is_int(ps_dtype t);       /* signed or unsigned, 8 to 64 bits; not bool */
/* Whole bytes of one element; 0 for sub-byte types. */
size_t ps_dtype_size(ps_dtype t);
/* Bytes of n packed elements; false on overflow. */
bool ps_dtype_bytes(ps_dtype t, int64_t n, size_t *ret);

/* ---- tensors, inside the library ---- */
/* Heap tensor with own zeroed storage. */
ps_status ps_tensor_new(ps_alloc_state *a, ps_dtype dtype, const ps_shape *shape, ps_tensor **ret, ps_error *err);
/* Heap tensor over `data`; if base is not NULL it is retained (data lies in its memory), else data must outlive it. */
ps_status ps_tensor_new_view(ps_alloc_state *a, ps_dtype dtype, const ps_shape *shape, void *data, ps_tensor *base,
                             ps_tensor **ret, ps_error *err);
/* Bytes over a mapped file, which the tensor takes: for views on parts of it. */
ps_status ps_tensor_new_map(ps_alloc_state *a, ps_file_map *take_map, ps_tensor **ret, ps_error *err);

/* ---- content that comes and goes ----
 * A weight that its kernels hold in a form of their own need not be held a second time as it was. Its memory stays
 * reserved at its address, and its content goes (ps_tensor_drop) and comes back (its keeper does that, when somebody
 * calls ps_tensor_need). Pages of a mapped file come back by themselves.
 * Whoever reads a constant's elements while a plan is made calls ps_tensor_need first, unless it is small. */
#define PS_TENSOR_SMALL ((size_t)16 << 10) /* bytes up to which no content is ever dropped */
/* Pages of a file that were read once; no-op for other memory. */
void ps_tensor_drop_pages(const ps_tensor *t);
/* The same, or the content itself if the tensor has a keeper. */
void ps_tensor_drop(ps_tensor *t);
ps_status ps_tensor_need(const ps_tensor *t, ps_error *err);
/* The same numbers as f32, of f16 or bf16 elements. Over PS_TENSOR_SMALL bytes its content begins as away, and `half`
 * is retained as its `narrow`: who can use that needs no other. It goes when a keeper can bring the content. */
ps_status ps_tensor_widened(ps_alloc_state *a, ps_tensor *half, ps_tensor **ret, ps_error *err);
/* For keepers: the content of a dropped tensor, t->bytes of it. */
ps_status ps_tensor_refill(ps_tensor *t, const void *data, ps_error *err);

/* A tensor that begins as a dropped one, over PS_TENSOR_SMALL bytes of numbers: `hash` is ps_tensor_hash of its
 * content, which the keeper that it is given can bring. */
ps_status ps_tensor_new_dropped(ps_alloc_state *a, ps_dtype dtype, const ps_shape *shape, uint64_t hash,
                                ps_tensor **ret, ps_error *err);
/* Heap tensor with storage of its own, of numbers, that the caller fills. */
ps_status ps_tensor_new_unset(ps_alloc_state *a, ps_dtype dtype, const ps_shape *shape, ps_tensor **ret,
                              ps_error *err);
/* The content for a change in place; NULL if somebody else may read it: the tensor has another holder, looks into
 * memory of another, or its content can be brought back. What was remembered of it is forgotten. */
void *ps_tensor_own_data(ps_tensor *t);
/* What ps_tensor_hash will come to, from whoever has computed it before. */
void ps_tensor_know_hash(ps_tensor *t, uint64_t hash);

/* A view on the stack; shape must be fixed and its byte size must not overflow (checked before). No ownership. */
void ps_tensor_init_view(ps_tensor *t, ps_dtype dtype, const ps_shape *shape, void *data);
/* Copies a possibly strided tensor into row-major memory of t->bytes. Not for strings. */
void ps_tensor_copy_packed(const ps_tensor *t, void *dst);
/* Small integer tensors (i64, i32, and the other integers, bool) as int64; false if the dtype is no integer or n > max.
 */
bool ps_tensor_get_ints(const ps_tensor *t, int64_t *ret, size_t max, size_t *ret_n);
/* All elements equal to one value? (float and integer types) */
bool ps_tensor_uniform(const ps_tensor *t, double *ret_value);
uint64_t ps_tensor_hash(const ps_tensor *t); /* of dtype, shape and content */
/* The same, computed once and remembered: for a tensor that nobody will write to again. Any thread. */
uint64_t ps_tensor_hash_once(const ps_tensor *t);
size_t ps_tensor_count(const ps_tensor *t); /* elements */

/* ---- containers: tensors of tensors ---- */
ps_status ps_container_new(ps_alloc_state *a, ps_dtype kind, size_t n, ps_tensor **ret, ps_error *err);
/* Puts `element` in place; takes over the caller's reference, on success only. Owning containers only. */
ps_status ps_container_take(ps_tensor *container, size_t index, ps_tensor *element, ps_error *err);
/* Frees what the elements of an owning tensor own (strings, elements of containers) and zeroes them; no-op for
 * numbers. */
void ps_tensor_clear_objects(ps_tensor *t, ps_alloc_state *alloc);
/* A tensor of its own with the same content: strings copied, elements of containers shared. */
ps_status ps_tensor_copy(ps_alloc_state *a, const ps_tensor *from, ps_tensor **ret, ps_error *err);
/* Every byte that is alive through t, elements included, each time it is met; for limits and accounts. */
size_t ps_tensor_total_bytes(const ps_tensor *t);

#endif
