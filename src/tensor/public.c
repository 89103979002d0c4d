/* public.c - the tensor functions that take an engine. */
#include "tensor/tensor.h"

ps_status ps_tensor_create(ps_engine *engine, ps_dtype dtype, const ps_shape *shape, ps_tensor **ret_tensor,
                           ps_error *reterr) {
    PS_FAIL_IF(!engine || !shape || !ret_tensor, reterr, INVALID, "ps_tensor_create: an argument is NULL");
    return ps_tensor_new(ps_engine_alloc(engine), dtype, shape, ret_tensor, reterr);
}

/* Distance in bytes from the first element to the farthest on either side must be a valid pointer difference. */
static bool strides_fit(const ps_shape *shape, const int64_t *strides, size_t size) {
    int64_t low = 0, high = 0;
    for (int i = 0; i < shape->rank; i++) {
        int64_t reach, *side = strides[i] < 0 ? &low : &high;
        if (shape->dims[i] == 0) return true;
        if (__builtin_mul_overflow(strides[i], (int64_t)size, &reach)) return false;
        if (__builtin_mul_overflow(reach, shape->dims[i], &reach)) return false; /* one step more than is reached */
        if (__builtin_add_overflow(*side, reach, side)) return false;
    }
    return high <= PTRDIFF_MAX && low >= PTRDIFF_MIN;
}

static bool is_row_major(const ps_shape *shape, const int64_t *strides) {
    int64_t packed[PS_MAX_RANK];
    ps_shape_strides(shape, packed);
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dims[i] != 1 && strides[i] != packed[i]) return false;
    }
    return true;
}

static ps_status set_strides(ps_tensor *t, const int64_t *strides, ps_error *err) {
    if (t->bytes == 0 || is_row_major(&t->shape, strides)) return PS_OK;
    PS_FAIL_IF(ps_dtype_is_object(t->dtype) || ps_dtype_size(t->dtype) == 0, err, UNSUPPORTED,
               "tensor: elements of type %s cannot have strides", ps_dtype_name(t->dtype));
    PS_FAIL_IF(!strides_fit(&t->shape, strides, ps_dtype_size(t->dtype)), err, LIMIT,
               "tensor: the strides reach further than can be addressed");
    memcpy(t->own_strides, strides, (size_t)t->shape.rank * sizeof *strides);
    t->strides = t->own_strides;
    return PS_OK;
}

ps_status ps_tensor_create_container(ps_engine *engine, ps_dtype kind, size_t n, ps_tensor **ret_tensor,
                                     ps_error *reterr) {
    PS_FAIL_IF(!engine || !ret_tensor, reterr, INVALID, "ps_tensor_create_container: an argument is NULL");
    return ps_container_new(ps_engine_alloc(engine), kind, n, ret_tensor, reterr);
}

ps_status ps_tensor_wrap(ps_engine *engine, ps_dtype dtype, const ps_shape *shape, const int64_t *strides, void *data,
                         ps_tensor **ret_tensor, ps_error *reterr) {
    PS_FAIL_IF(!engine || !shape || !ret_tensor, reterr, INVALID, "ps_tensor_wrap: an argument is NULL");
    ps_tensor *t;
    PS_TRY(ps_tensor_new_view(ps_engine_alloc(engine), dtype, shape, data, NULL, &t, reterr));
    ps_status status = PS_OK;
    if (!data && t->bytes) {
        status = PS_FAIL(reterr, INVALID, "ps_tensor_wrap: data is NULL for %zu bytes", t->bytes);
    } else if (strides) {
        status = set_strides(t, strides, reterr);
    }
    if (status != PS_OK) {
        ps_tensor_release(t);
        return status;
    }
    *ret_tensor = t;
    return PS_OK;
}
