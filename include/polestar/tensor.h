/* tensor.h - element types, shapes and tensors.
 *
 * A ps_tensor is an n-dimensional array in host memory. It is reference counted; the data it points to is either
 * owned (ps_tensor_create) or borrowed from the caller (ps_tensor_wrap). Distinct tensors may be used from distinct
 * threads; one tensor may be read by many threads at once, and written by one at a time. Reference counts are atomic.
 */
#ifndef POLESTAR_TENSOR_H
#define POLESTAR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "polestar/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Element types, numbered as onnx.TensorProto.DataType. name, value, bits per element, text, v2 protocol name.
 * The last three are no types of numbers: a tensor of such a type is a *container* of rank 1 whose elements are tensors
 * (ps_tensor_element). A sequence has any number of them, an optional none or one, a map two: its keys (i64 or string,
 * rank 1) and its values (of as many elements; a sequence where the values are tensors of several elements). Their
 * numbers are ours and may move before version 1. */
#define PS_DTYPE_MAP(X)                                                                                                \
    X(UNDEFINED, 0, 0, "undefined", "")                                                                                \
    X(F32, 1, 32, "f32", "FP32")                                                                                       \
    X(U8, 2, 8, "u8", "UINT8")                                                                                         \
    X(I8, 3, 8, "i8", "INT8")                                                                                          \
    X(U16, 4, 16, "u16", "UINT16")                                                                                     \
    X(I16, 5, 16, "i16", "INT16")                                                                                      \
    X(I32, 6, 32, "i32", "INT32")                                                                                      \
    X(I64, 7, 64, "i64", "INT64")                                                                                      \
    X(STRING, 8, 128, "string", "BYTES")                                                                               \
    X(BOOL, 9, 8, "bool", "BOOL")                                                                                      \
    X(F16, 10, 16, "f16", "FP16")                                                                                      \
    X(F64, 11, 64, "f64", "FP64")                                                                                      \
    X(U32, 12, 32, "u32", "UINT32")                                                                                    \
    X(U64, 13, 64, "u64", "UINT64")                                                                                    \
    X(C64, 14, 64, "c64", "")                                                                                          \
    X(C128, 15, 128, "c128", "")                                                                                       \
    X(BF16, 16, 16, "bf16", "BF16")                                                                                    \
    X(F8E4M3FN, 17, 8, "f8e4m3fn", "")                                                                                 \
    X(F8E4M3FNUZ, 18, 8, "f8e4m3fnuz", "")                                                                             \
    X(F8E5M2, 19, 8, "f8e5m2", "")                                                                                     \
    X(F8E5M2FNUZ, 20, 8, "f8e5m2fnuz", "")                                                                             \
    X(U4, 21, 4, "u4", "")                                                                                             \
    X(I4, 22, 4, "i4", "")                                                                                             \
    X(F4E2M1, 23, 4, "f4e2m1", "")                                                                                     \
    X(F8E8M0, 24, 8, "f8e8m0", "")                                                                                     \
    X(U2, 25, 2, "u2", "")                                                                                             \
    X(I2, 26, 2, "i2", "")                                                                                             \
    X(F6E2M3, 27, 6, "f6e2m3", "")                                                                                     \
    X(F6E3M2, 28, 6, "f6e3m2", "")                                                                                     \
    X(SEQUENCE, 29, 64, "sequence", "")                                                                                \
    X(OPTIONAL, 30, 64, "optional", "")                                                                                \
    X(MAP, 31, 64, "map", "")

typedef enum ps_dtype {
#define PS_DTYPE_ENUM(name, value, bits, text, v2) PS_DTYPE_##name = value,
    PS_DTYPE_MAP(PS_DTYPE_ENUM)
#undef PS_DTYPE_ENUM
        PS_DTYPE_COUNT
} ps_dtype;

#define PS_MAX_RANK 8

/* rank -1: the rank itself is unknown. A dim >= 0 is that many elements; PS_DIM_UNKNOWN is unknown; a dim below that is
 * a named symbol of the model (equal numbers mean equal extents). A shape with rank >= 0 and all dims >= 0 is "fixed".
 */
typedef struct ps_shape {
    int32_t rank;
    int64_t dims[PS_MAX_RANK];
} ps_shape;

#define PS_DIM_UNKNOWN (-1)

/* Element of a PS_DTYPE_STRING tensor: bytes, not necessarily UTF-8, not NUL-terminated. */
typedef struct ps_string {
    const char *data;
    size_t size;
} ps_string;

typedef struct ps_tensor ps_tensor;
typedef struct ps_engine ps_engine;

/* Bits of one element; 0 for PS_DTYPE_UNDEFINED. Sub-byte types are packed low bits first, as in ONNX: element i begins
 * at bit i * bits, so that elements of six bits may reach into the next byte. */
PS_API size_t ps_dtype_bits(ps_dtype dtype);
/* "f32", "i64" …; "?" for a number that is no dtype. Static storage. */
PS_API const char *ps_dtype_name(ps_dtype dtype);
/* Open Inference Protocol name ("FP32"); "" where the protocol has none. Static storage. */
PS_API const char *ps_dtype_v2_name(ps_dtype dtype);
/* The inverse of the two functions above, either spelling; PS_DTYPE_UNDEFINED if unknown. */
PS_API ps_dtype ps_dtype_parse(const char *name);

/* A new tensor with its own zero-initialised, 64-byte aligned, row-major storage. Fails with PS_INVALID for a shape
 * that is not fixed, PS_LIMIT where the byte size overflows, PS_NO_MEMORY. Release with ps_tensor_release. */
PS_API ps_status ps_tensor_create(ps_engine *engine, ps_dtype dtype, const ps_shape *shape, ps_tensor **ret_tensor,
                                  ps_error *reterr);
/* A tensor over memory of the caller, which must outlive it. strides are in elements, one per dim, and may be NULL
 * (row-major); zero and negative strides are allowed for inputs. Strides need a dtype of whole bytes. */
PS_API ps_status ps_tensor_wrap(ps_engine *engine, ps_dtype dtype, const ps_shape *shape, const int64_t *strides,
                                void *data, ps_tensor **ret_tensor, ps_error *reterr);
/* Points a wrapped tensor at other memory of the same type and shape; no allocation. */
PS_API ps_status ps_tensor_set_data(ps_tensor *tensor, void *data);
PS_API ps_tensor *ps_tensor_retain(ps_tensor *tensor);
PS_API void ps_tensor_release(ps_tensor *tensor); /* NULL is allowed */

PS_API ps_dtype ps_tensor_dtype(const ps_tensor *tensor);
PS_API const ps_shape *ps_tensor_shape(const ps_tensor *tensor);
PS_API void *ps_tensor_data(ps_tensor *tensor);
PS_API const void *ps_tensor_data_const(const ps_tensor *tensor);
/* Elements and bytes of storage, both of the row-major form. */
PS_API size_t ps_tensor_elements(const ps_tensor *tensor);
/* One element as double, of any type of numbers down to 2 bits; 64-bit integers are rounded. False, and *ret untouched:
 * the index is beyond the end, it is a string, a complex number or in a container, or the tensor has strides. */
PS_API bool ps_tensor_get_double(const ps_tensor *tensor, size_t index, double *ret);
PS_API size_t ps_tensor_bytes(const ps_tensor *tensor);
/* For PS_DTYPE_STRING: copies `size` bytes into the tensor's own storage as element `index`. */
PS_API ps_status ps_tensor_set_string(ps_tensor *tensor, size_t index, const char *data, size_t size, ps_error *reterr);

/* A container of n empty places: kind is PS_DTYPE_SEQUENCE, PS_DTYPE_OPTIONAL (n <= 1) or PS_DTYPE_MAP (n == 2). */
PS_API ps_status ps_tensor_create_container(ps_engine *engine, ps_dtype kind, size_t n, ps_tensor **ret_tensor,
                                            ps_error *reterr);
/* Puts an element into a container; the container holds a reference of its own. */
PS_API ps_status ps_tensor_set_element(ps_tensor *container, size_t index, ps_tensor *element, ps_error *reterr);
/* Borrowed from the container; NULL beyond its end, for an empty place and for what is no container. */
PS_API const ps_tensor *ps_tensor_element(const ps_tensor *container, size_t index);

#ifdef __cplusplus
}
#endif
#endif
