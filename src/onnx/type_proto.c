#include <string.h>

#include "onnx/onnx_int.h"

const char *ps_onnx_type_kind(const Onnx__TypeProto *type) {
    if (!type) return "no type";
    switch (type->value_case) {
    case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE: return "a tensor";
    case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE: return "a sequence";
    case ONNX__TYPE_PROTO__VALUE_MAP_TYPE: return "a map";
    case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE: return "an optional";
    case ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE: return "a sparse tensor";
    default: return "no type";
    }
}

/* Exporters write an unknown dim as no value, -1, "" or "?". */
static ps_status read_dim(ps_graph *g, const Onnx__TensorShapeProto__Dimension *d, size_t index, const char *label,
                          int64_t *ret, ps_error *err) {
    *ret = PS_DIM_UNKNOWN;
    if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
        PS_FAIL_IF(d->dim_value < -1, err, FORMAT, "%s: dim %zu is %lld, a dim is at least 0", label, index,
                   (long long)d->dim_value);
        *ret = d->dim_value;
    } else if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM) {
        const char *name = ps_onnx_text(d->dim_param);
        if (!name[0] || strcmp(name, "?") == 0) return PS_OK;
        PS_TRY(ps_onnx_check_name("dim name", name, err));
        *ret = ps_graph_symbol(g, name);
        if (*ret == 0) return PS_FAIL_NOMEM(err, "a dim's name");
    }
    return PS_OK;
}

static ps_status read_shape(ps_graph *g, const Onnx__TensorShapeProto *p, const char *label, ps_shape *ret,
                            ps_error *err) {
    PS_FAIL_IF(p->n_dim > PS_MAX_RANK, err, LIMIT, "%s: rank %zu is more than the %d dims that polestar handles", label,
               p->n_dim, PS_MAX_RANK);
    ps_shape shape = { .rank = (int32_t)p->n_dim }, known = shape;
    for (size_t i = 0; i < p->n_dim; i++) {
        PS_TRY(read_dim(g, p->dim[i], i, label, &shape.dims[i], err));
        known.dims[i] = shape.dims[i] > 0 ? shape.dims[i] : 1;
    }
    /* 16 bytes is the widest element: sizes computed from a declared shape cannot overflow by its known dims alone. */
    int64_t elements;
    PS_FAIL_IF(!ps_shape_elements(&known, &elements) || elements > INT64_MAX / 16, err, LIMIT,
               "%s: the number of elements overflows", label);
    *ret = shape;
    return PS_OK;
}

static ps_status read_elem_type(bool has, int32_t type, const char *label, ps_dtype *ret, ps_error *err) {
    if (!has || type == 0) return PS_OK;
    PS_FAIL_IF(!ps_dtype_valid(type), err, UNSUPPORTED, "%s: element type %d is not known", label, (int)type);
    *ret = (ps_dtype)type;
    return PS_OK;
}

/* What the elements of a container are: a tensor's element type, or the kind of a container in the container. */
static ps_status read_inner(const Onnx__TypeProto *type, const char *label, ps_dtype *ret, ps_error *err) {
    if (!type) return PS_OK;
    switch (type->value_case) {
    case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE:
        return read_elem_type(type->tensor_type->has_elem_type, type->tensor_type->elem_type, label, ret, err);
    case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE: *ret = PS_DTYPE_SEQUENCE; return PS_OK;
    case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE: *ret = PS_DTYPE_OPTIONAL; return PS_OK;
    case ONNX__TYPE_PROTO__VALUE_MAP_TYPE: *ret = PS_DTYPE_MAP; return PS_OK;
    default: return PS_OK;
    }
}

ps_status ps_onnx_type_read(ps_graph *g, const Onnx__TypeProto *type, const char *label, ps_onnx_type *ret,
                            ps_error *err) {
    *ret = (ps_onnx_type) { PS_DTYPE_UNDEFINED, PS_DTYPE_UNDEFINED, ps_shape_unknown() };
    if (!type) return PS_OK;
    switch (type->value_case) {
    case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE:
        PS_TRY(read_elem_type(type->tensor_type->has_elem_type, type->tensor_type->elem_type, label, &ret->dtype, err));
        return type->tensor_type->shape ? read_shape(g, type->tensor_type->shape, label, &ret->shape, err) : PS_OK;
    case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE:
        ret->dtype = PS_DTYPE_SEQUENCE;
        ret->shape = ps_shape_make(1, (int64_t[]) { PS_DIM_UNKNOWN });
        return read_inner(type->sequence_type->elem_type, label, &ret->elem, err);
    case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
        ret->dtype = PS_DTYPE_OPTIONAL;
        ret->shape = ps_shape_make(1, (int64_t[]) { PS_DIM_UNKNOWN });
        return read_inner(type->optional_type->elem_type, label, &ret->elem, err);
    case ONNX__TYPE_PROTO__VALUE_MAP_TYPE:
        ret->dtype = PS_DTYPE_MAP;
        ret->shape = ps_shape_make(1, (int64_t[]) { 2 });
        return read_inner(type->map_type->value_type, label, &ret->elem, err);
    default: return PS_OK; /* none, or a sparse tensor: the caller says what it takes */
    }
}
