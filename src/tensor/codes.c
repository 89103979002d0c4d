/* codes.c - numbers that stand as codes of 4 or 8 bits. */
#include "tensor/codes.h"

#include "base/map.h"
#include "tensor/convert.h"

/* ---- where they lie ---- */

int64_t ps_codes_place(const ps_codes *c, const ps_shape *shape, int64_t element) {
    if (!c->row) return element;
    const int64_t n = shape->dims[1];
    return element % n * c->row + element / n;
}

int64_t ps_codes_group(const ps_codes *c, int64_t place) {
    if (c->kind == PS_CODES_ONE) return 0;
    const int64_t index = place / c->inner % c->n;
    if (c->kind == PS_CODES_LIST) return index;
    return (place / (c->n * c->inner) * c->blocks + index / c->block) * c->inner + place % c->inner;
}

/* ---- what they say ---- */

static int number_at(const ps_tensor *t, const ps_codes *c, int64_t i) {
    if (c->bits == 8) return c->is_signed ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
    return c->is_signed ? ps_i4_get(t->data, (size_t)i) : ps_u4_get(t->data, (size_t)i);
}

int ps_codes_code(const ps_codes *c, int64_t place) {
    return number_at(c->code, c, place);
}

float ps_codes_scale(const ps_codes *c, int64_t group) {
    return ((const float *)c->scale->data)[group];
}

int ps_codes_zero(const ps_codes *c, int64_t group) {
    if (!c->zero) return c->middle;
    return number_at(c->zero, c, c->zero_row ? group / c->in_rows * c->zero_row + group % c->in_rows : group);
}

/* ---- as content ---- */

void ps_codes_decode(const ps_codes *c, const ps_tensor *t) {
    float *to = t->data;
    for (int64_t i = 0, n = (int64_t)ps_tensor_count(t); i < n; i++) {
        const int64_t place = ps_codes_place(c, &t->shape, i), group = ps_codes_group(c, place);
        to[i] = (float)(ps_codes_code(c, place) - ps_codes_zero(c, group)) * ps_codes_scale(c, group);
    }
}

ps_status ps_codes_need(const ps_codes *c, ps_error *err) {
    PS_TRY(ps_tensor_need(c->code, err));
    PS_TRY(ps_tensor_need(c->scale, err));
    return c->zero ? ps_tensor_need(c->zero, err) : PS_OK;
}

void ps_codes_forget(ps_codes *c) {
    ps_tensor_release(c->code);
    ps_tensor_release(c->scale);
    ps_tensor_release(c->zero);
    c->code = c->scale = c->zero = NULL;
}

/* The name of the content while it is away: the same for the same codes, whoever made the tensor. */
static uint64_t hash_of(const ps_codes *c, const ps_shape *shape) {
    int64_t parts[13 + PS_MAX_RANK] = { (int64_t)ps_tensor_hash_once(c->code),
                                        (int64_t)ps_tensor_hash_once(c->scale),
                                        c->zero ? (int64_t)ps_tensor_hash_once(c->zero) : 0,
                                        c->kind,
                                        c->bits,
                                        c->is_signed,
                                        c->middle,
                                        c->n,
                                        c->inner,
                                        c->block,
                                        c->blocks,
                                        c->row,
                                        c->zero_row };
    for (int d = 0; d < shape->rank; d++)
        parts[13 + d] = shape->dims[d];
    return ps_hash_bytes(parts, (size_t)(13 + shape->rank) * sizeof *parts, 0);
}

ps_status ps_tensor_coded(ps_alloc_state *a, const ps_shape *shape, const ps_codes *c, ps_tensor **ret, ps_error *err) {
    int64_t elements;
    size_t bytes;
    PS_TRY(ps_codes_need(c, err));
    PS_FAIL_IF(!ps_shape_elements(shape, &elements) || !ps_dtype_bytes(PS_DTYPE_F32, elements, &bytes), err, LIMIT,
               "a weight of codes is too large");
    if (bytes <= PS_TENSOR_SMALL) {
        PS_TRY(ps_tensor_new(a, PS_DTYPE_F32, shape, ret, err));
        ps_codes_decode(c, *ret);
        return PS_OK;
    }
    ps_codes *own = ps_alloc(a, sizeof *own);
    if (!own) return PS_FAIL_NOMEM(err, "a weight of codes");
    const ps_status status = ps_tensor_new_dropped(a, PS_DTYPE_F32, shape, hash_of(c, shape), ret, err);
    if (status != PS_OK) {
        ps_free(a, own);
        return status;
    }
    *own = *c;
    ps_tensor_retain(own->code);
    ps_tensor_retain(own->scale);
    if (own->zero) ps_tensor_retain(own->zero);
    (*ret)->codes = own;
    return PS_OK;
}
