/* SparseTensorProto: values [nnz] and their indices, either [nnz] (of the flattened tensor) or [nnz, rank], ascending.
 * Source: onnx.proto, message SparseTensorProto. */
#include <string.h>

#include "onnx/onnx_int.h"

typedef struct sparse {
    const ps_tensor *values, *indices;
    ps_shape shape;
    int64_t elements;
} sparse;

static ps_status check_parts(const sparse *s, const char *label, ps_error *err) {
    const ps_shape *v = &s->values->shape, *i = &s->indices->shape;
    PS_FAIL_IF(ps_dtype_size(s->values->dtype) == 0 || s->values->dtype == PS_DTYPE_STRING, err, UNSUPPORTED,
               "%s: sparse values of type %s", label, ps_dtype_name(s->values->dtype));
    PS_FAIL_IF(s->indices->dtype != PS_DTYPE_I64, err, TYPE, "%s: sparse indices are %s, not i64", label,
               ps_dtype_name(s->indices->dtype));
    PS_FAIL_IF(v->rank != 1, err, SHAPE, "%s: sparse values have rank %d, not 1", label, (int)v->rank);
    bool flat = i->rank == 1, rows = i->rank == 2 && i->dims[1] == s->shape.rank;
    PS_FAIL_IF(!flat && !rows, err, SHAPE, "%s: sparse indices are neither [n] nor [n,%d]", label, (int)s->shape.rank);
    PS_FAIL_IF(i->dims[0] != v->dims[0], err, SHAPE, "%s: %lld sparse values have %lld indices", label,
               (long long)v->dims[0], (long long)i->dims[0]);
    return PS_OK;
}

/* Position of entry k in the dense tensor, or -1 if an index is outside. */
static int64_t position(const sparse *s, int64_t k) {
    const int64_t *index = s->indices->data;
    if (s->indices->shape.rank == 1) return index[k] >= 0 && index[k] < s->elements ? index[k] : -1;
    int64_t at = 0;
    for (int d = 0; d < s->shape.rank; d++) {
        int64_t i = index[k * s->shape.rank + d];
        if (i < 0 || i >= s->shape.dims[d]) return -1;
        at = at * s->shape.dims[d] + i;
    }
    return at;
}

static ps_status scatter(const sparse *s, const char *label, ps_tensor *dense, ps_error *err) {
    size_t width = ps_dtype_size(dense->dtype);
    int64_t last = -1;
    for (int64_t k = 0; k < s->values->shape.dims[0]; k++) {
        int64_t at = position(s, k);
        PS_FAIL_IF(at < 0, err, FORMAT, "%s: sparse index %lld lies outside of the shape", label, (long long)k);
        PS_FAIL_IF(at <= last, err, FORMAT, "%s: sparse index %lld is not in ascending order", label, (long long)k);
        last = at;
        memcpy((uint8_t *)dense->data + (size_t)at * width, (const uint8_t *)s->values->data + (size_t)k * width,
               width);
    }
    return PS_OK;
}

static ps_status write_out(const ps_onnx_proto *proto, const sparse *s, const char *label, size_t *budget,
                           ps_tensor **ret, ps_error *err) {
    size_t bytes;
    PS_TRY(check_parts(s, label, err));
    PS_FAIL_IF(!ps_dtype_bytes(s->values->dtype, s->elements, &bytes) || bytes > *budget, err, LIMIT,
               "%s: the model's sparse tensors need more than %zu bytes when written out", label, PS_ONNX_MAX_SPARSE);
    ps_tensor *dense;
    PS_TRY(ps_tensor_new(proto->alloc, s->values->dtype, &s->shape, &dense, err));
    ps_status status = scatter(s, label, dense, err);
    if (status != PS_OK) {
        ps_tensor_release(dense);
        return status;
    }
    *budget -= bytes;
    *ret = dense;
    return PS_OK;
}

ps_status ps_onnx_sparse_decode(const ps_onnx_proto *proto, ps_onnx_external *ext, const Onnx__SparseTensorProto *p,
                                const char *label, size_t *budget, ps_tensor **ret, ps_error *err) {
    PS_FAIL_IF(!p->values || !p->indices, err, FORMAT, "%s: a sparse tensor needs values and indices", label);
    sparse s = { 0 };
    PS_TRY(ps_onnx_dims(p->dims, p->n_dims, label, &s.shape, err));
    PS_FAIL_IF(!ps_shape_elements(&s.shape, &s.elements), err, LIMIT, "%s: the number of elements overflows", label);
    ps_tensor *values = NULL, *indices = NULL;
    ps_status status;
    PS_TRY_OUT(ps_onnx_tensor_decode(proto, ext, p->values, label, &values, err));
    PS_TRY_OUT(ps_onnx_tensor_decode(proto, ext, p->indices, label, &indices, err));
    s.values = values;
    s.indices = indices;
    status = write_out(proto, &s, label, budget, ret, err);
out:
    ps_tensor_release(values);
    ps_tensor_release(indices);
    return status;
}
