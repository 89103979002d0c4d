/* tensor.c - tensors: life, strings, small readers. */
#include "tensor/tensor.h"

#include <assert.h>

#include "tensor/codes.h"
#include "tensor/convert.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- life ---- */

/* Elements and bytes of a shape that must be fixed. */
static ps_status measure(ps_dtype dtype, const ps_shape *shape, size_t *ret_bytes, ps_error *err) {
    char text[256];
    int64_t n;
    PS_FAIL_IF(!ps_dtype_valid((int)dtype) && !ps_dtype_is_container(dtype), err, INVALID,
               "tensor: %d is not an element type", (int)dtype);
    PS_FAIL_IF(ps_dtype_is_container(dtype) && shape->rank != 1, err, INVALID, "tensor: a %s has rank 1, not %d",
               ps_dtype_name(dtype), (int)shape->rank);
    PS_FAIL_IF(shape->rank > PS_MAX_RANK, err, INVALID, "tensor: rank %d is greater than %d", (int)shape->rank,
               PS_MAX_RANK);
    PS_FAIL_IF(!ps_shape_fixed(shape), err, INVALID, "tensor: shape %s is not fixed",
               ps_shape_text(shape, text, sizeof text));
    PS_FAIL_IF(!ps_shape_elements(shape, &n) || !ps_dtype_bytes(dtype, n, ret_bytes), err, LIMIT,
               "tensor: %s of shape %s has more bytes than can be addressed", ps_dtype_name(dtype),
               ps_shape_text(shape, text, sizeof text));
    return PS_OK;
}

void ps_tensor_init_view(ps_tensor *t, ps_dtype dtype, const ps_shape *shape, void *data) {
    memset(t, 0, sizeof *t);
    t->dtype = dtype;
    t->shape = *shape;
    t->data = data;
    atomic_init(&t->refs, 1);
    atomic_init(&t->dropped, false);
    ps_status status = measure(dtype, shape, &t->bytes, NULL);
    assert(status == PS_OK);
    (void)status;
}

ps_status ps_tensor_new_view(ps_alloc_state *a, ps_dtype dtype, const ps_shape *shape, void *data, ps_tensor *base,
                             ps_tensor **ret, ps_error *err) {
    size_t bytes;
    PS_TRY(measure(dtype, shape, &bytes, err));
    ps_tensor *t = ps_alloc(a, sizeof *t);
    PS_FAIL_IF(!t, err, NO_MEMORY, "out of memory for a tensor");
    ps_tensor_init_view(t, dtype, shape, data);
    t->alloc = a;
    if (base) t->base = ps_tensor_retain(base);
    *ret = t;
    return PS_OK;
}

/* Those of a model stay as long as the model. */
ps_status ps_tensor_new(ps_alloc_state *a, ps_dtype dtype, const ps_shape *shape, ps_tensor **ret, ps_error *err) {
    ps_tensor *t = NULL;
    char text[256];
    PS_TRY(ps_tensor_new_view(a, dtype, shape, NULL, NULL, &t, err));
    t->owned = t->data = a->above ? ps_alloc_lasting_zero(a, t->bytes) : ps_alloc_data_zero(a, t->bytes);
    if (!t->data) {
        size_t bytes = t->bytes;
        ps_tensor_release(t);
        return PS_FAIL(err, NO_MEMORY, "out of memory for a tensor %s %s (%zu bytes)", ps_dtype_name(dtype),
                       ps_shape_text(shape, text, sizeof text), bytes);
    }
    *ret = t;
    return PS_OK;
}

ps_status ps_tensor_new_unset(ps_alloc_state *a, ps_dtype dtype, const ps_shape *shape, ps_tensor **ret,
                              ps_error *err) {
    ps_tensor *t = NULL;
    assert(!ps_dtype_is_object(dtype));
    PS_TRY(ps_tensor_new_view(a, dtype, shape, NULL, NULL, &t, err));
    t->owned = t->data = ps_alloc_lasting(a, t->bytes);
    if (!t->data) {
        ps_tensor_release(t);
        return PS_FAIL_NOMEM(err, "a tensor");
    }
    *ret = t;
    return PS_OK;
}

ps_tensor *ps_tensor_retain(ps_tensor *tensor) {
    atomic_fetch_add_explicit(&tensor->refs, 1, memory_order_relaxed);
    return tensor;
}

void ps_tensor_release(ps_tensor *tensor) {
    if (!tensor || atomic_fetch_sub_explicit(&tensor->refs, 1, memory_order_acq_rel) != 1) return;
    if (!tensor->alloc) return;
    if (tensor->owned) ps_tensor_clear_objects(tensor, tensor->alloc);
    if (tensor->mapped) ps_file_map_close(&(ps_file_map) { tensor->data, tensor->bytes });
    ps_free(tensor->alloc, tensor->owned);
    ps_tensor_release(tensor->base);
    ps_tensor_release(tensor->narrow);
    if (tensor->codes) ps_codes_forget(tensor->codes);
    ps_free(tensor->alloc, tensor->codes);
    ps_free(tensor->alloc, tensor);
}

ps_status ps_tensor_new_map(ps_alloc_state *a, ps_file_map *take_map, ps_tensor **ret, ps_error *err) {
    ps_shape shape = ps_shape_make(1, &(int64_t) { (int64_t)take_map->size });
    PS_TRY(ps_tensor_new_view(a, PS_DTYPE_U8, &shape, (void *)(uintptr_t)take_map->data, NULL, ret, err));
    (*ret)->mapped = take_map->data != NULL;
    *take_map = (ps_file_map) { NULL, 0 };
    return PS_OK;
}

/* ---- content that comes and goes ---- */

void ps_tensor_drop_pages(const ps_tensor *t) {
    if (!t->base || !t->base->mapped) return;
    ps_file_map map = { t->base->data, t->base->bytes };
    ps_file_map_drop(&map, (size_t)((const uint8_t *)t->data - map.data), t->bytes);
}

static void put_away(ps_tensor *t) {
    if (atomic_load(&t->dropped)) return;
    (void)ps_tensor_hash_once(t); /* the name it has while it is away */
    atomic_store(&t->dropped, true);
    ps_discard(t->alloc, t->owned);
}

void ps_tensor_drop(ps_tensor *t) {
    ps_tensor_drop_pages(t);
    if (!t->keeper || !t->owned || t->bytes <= PS_TENSOR_SMALL) return;
    ps_tensor_release(t->narrow);
    t->narrow = NULL;
    if (t->codes) ps_codes_forget(t->codes);
    put_away(t);
}

ps_status ps_tensor_new_dropped(ps_alloc_state *a, ps_dtype dtype, const ps_shape *shape, uint64_t hash,
                                ps_tensor **ret, ps_error *err) {
    PS_TRY(ps_tensor_new_unset(a, dtype, shape, ret, err));
    ps_tensor_know_hash(*ret, hash);
    atomic_store(&(*ret)->dropped, true);
    ps_discard(a, (*ret)->owned);
    return PS_OK;
}

static void widen(const ps_tensor *half, ps_tensor *wide) {
    ps_convert(half->data, half->dtype, wide->data, PS_DTYPE_F32, ps_tensor_count(half), true);
}

ps_status ps_tensor_widened(ps_alloc_state *a, ps_tensor *half, ps_tensor **ret, ps_error *err) {
    PS_TRY(ps_tensor_need(half, err));
    PS_TRY(ps_tensor_new_unset(a, PS_DTYPE_F32, &half->shape, ret, err));
    widen(half, *ret);
    if ((*ret)->bytes <= PS_TENSOR_SMALL) return PS_OK;
    (*ret)->narrow = ps_tensor_retain(half);
    put_away(*ret);
    return PS_OK;
}

static ps_status widen_again(ps_tensor *t, ps_error *err) {
    PS_FAIL_IF(!ps_refill(t->alloc, t->owned), err, NO_MEMORY, "out of memory for %zu bytes of weights", t->bytes);
    widen(t->narrow, t);
    atomic_store(&t->dropped, false);
    if (t->keeper) return PS_OK;
    ps_tensor_release(t->narrow); /* what nobody else could bring back does not go again */
    t->narrow = NULL;
    return PS_OK;
}

static ps_status decode_again(ps_tensor *t, ps_error *err) {
    PS_TRY(ps_codes_need(t->codes, err));
    PS_FAIL_IF(!ps_refill(t->alloc, t->owned), err, NO_MEMORY, "out of memory for %zu bytes of weights", t->bytes);
    ps_codes_decode(t->codes, t);
    atomic_store(&t->dropped, false);
    if (!t->keeper) ps_codes_forget(t->codes); /* as above */
    return PS_OK;
}

ps_status ps_tensor_need(const ps_tensor *t, ps_error *err) {
    if (!atomic_load(&t->dropped)) return PS_OK;
    if (t->codes && t->codes->code) return decode_again((ps_tensor *)(uintptr_t)t, err);
    return t->narrow ? widen_again((ps_tensor *)(uintptr_t)t, err) : t->keeper->restore(t->keeper, err);
}

ps_status ps_tensor_refill(ps_tensor *t, const void *data, ps_error *err) {
    if (!atomic_load(&t->dropped)) return PS_OK;
    PS_FAIL_IF(!ps_refill(t->alloc, t->owned), err, NO_MEMORY, "out of memory for %zu bytes of weights", t->bytes);
    memcpy(t->data, data, t->bytes);
    atomic_store(&t->dropped, false);
    return PS_OK;
}

/* ---- what a tensor says of itself ---- */

ps_dtype ps_tensor_dtype(const ps_tensor *tensor) {
    return tensor->dtype;
}

const ps_shape *ps_tensor_shape(const ps_tensor *tensor) {
    return &tensor->shape;
}

void *ps_tensor_data(ps_tensor *tensor) {
    return tensor->data;
}

const void *ps_tensor_data_const(const ps_tensor *tensor) {
    return tensor->data;
}

size_t ps_tensor_count(const ps_tensor *t) {
    return (size_t)ps_shape_product(&t->shape, 0, t->shape.rank);
}

size_t ps_tensor_elements(const ps_tensor *tensor) {
    return ps_tensor_count(tensor);
}

size_t ps_tensor_bytes(const ps_tensor *tensor) {
    return tensor->bytes;
}

/* ---- changing it ---- */

ps_status ps_tensor_set_data(ps_tensor *tensor, void *data) {
    if (!tensor || tensor->owned || tensor->base || (!data && tensor->bytes)) return PS_INVALID;
    tensor->data = data;
    return PS_OK;
}

ps_status ps_tensor_set_string(ps_tensor *tensor, size_t index, const char *data, size_t size, ps_error *reterr) {
    PS_FAIL_IF(tensor->dtype != PS_DTYPE_STRING, reterr, TYPE, "tensor: a string cannot be set in a tensor of %s",
               ps_dtype_name(tensor->dtype));
    PS_FAIL_IF(!tensor->owned, reterr, INVALID, "tensor: a string cannot be set in a tensor over borrowed memory");
    PS_FAIL_IF(index >= ps_tensor_count(tensor), reterr, INVALID, "tensor: string index %zu is beyond %zu elements",
               index, ps_tensor_count(tensor));
    char *copy = ps_alloc(tensor->alloc, size);
    PS_FAIL_IF(!copy, reterr, NO_MEMORY, "out of memory for a string of %zu bytes", size);
    if (size) memcpy(copy, data, size);
    ps_string *s = (ps_string *)tensor->data + index;
    ps_free(tensor->alloc, (void *)(uintptr_t)s->data);
    *s = (ps_string) { copy, size };
    return PS_OK;
}

/* ---- strided copies ---- */

static void copy_row(unsigned char *dst, const unsigned char *src, int64_t n, int64_t step, size_t size) {
    switch (size) {
#define COPY(type)                                                                                                     \
    case sizeof(type):                                                                                                 \
        for (int64_t i = 0; i < n; i++)                                                                                \
            memcpy(dst + i * (int64_t)sizeof(type), src + i * step, sizeof(type));                                     \
        break;
        COPY(uint8_t)
        COPY(uint16_t)
        COPY(uint32_t)
        COPY(uint64_t)
#undef COPY
    default:
        for (int64_t i = 0; i < n; i++)
            memcpy(dst + (size_t)i * size, src + i * step, size);
    }
}

void ps_tensor_copy_packed(const ps_tensor *t, void *dst) {
    if (t->bytes == 0) return;
    if (!t->strides) {
        memcpy(dst, t->data, t->bytes);
        return;
    }
    size_t size = ps_dtype_size(t->dtype);
    assert(size > 0 && t->dtype != PS_DTYPE_STRING && t->shape.rank > 0);
    int last = t->shape.rank - 1;
    int64_t row = t->shape.dims[last], step = t->strides[last] * (int64_t)size;
    int64_t index[PS_MAX_RANK] = { 0 };
    int64_t at = 0; /* bytes from t->data to the row */
    unsigned char *out = dst;
    for (int axis = 0; axis >= 0;) {
        const unsigned char *src = (const unsigned char *)t->data + at;
        if (step == (int64_t)size) {
            memcpy(out, src, (size_t)row * size);
        } else {
            copy_row(out, src, row, step, size);
        }
        out += (size_t)row * size;
        /* Next row: count up the outer axes like digits, moving by their strides. */
        for (axis = last - 1; axis >= 0; axis--) {
            at += t->strides[axis] * (int64_t)size;
            if (++index[axis] < t->shape.dims[axis]) break;
            at -= t->shape.dims[axis] * t->strides[axis] * (int64_t)size;
            index[axis] = 0;
        }
    }
}

/* ---- reading values ---- */

bool ps_tensor_get_ints(const ps_tensor *t, int64_t *ret, size_t max, size_t *ret_n) {
    size_t n = ps_tensor_count(t);
    if (t->strides || n > max) return false;
    switch (t->dtype) {
    case PS_DTYPE_U64:
        for (size_t i = 0; i < n; i++) {
            if (((const uint64_t *)t->data)[i] > INT64_MAX) return false;
        }
        break;
    case PS_DTYPE_BOOL:
    case PS_DTYPE_I4:
    case PS_DTYPE_U4:
    case PS_DTYPE_I2:
    case PS_DTYPE_U2: break;
    default:
        if (!ps_dtype_is_int(t->dtype)) return false;
    }
    if (!ps_convert(t->data, t->dtype, ret, PS_DTYPE_I64, n, true)) return false;
    *ret_n = n;
    return true;
}

bool ps_tensor_get_double(const ps_tensor *t, size_t index, double *ret) {
    size_t bits = t ? ps_dtype_bits(t->dtype) : 0, size = bits / 8;
    if (!t || t->strides || ps_dtype_is_object(t->dtype) || index >= ps_tensor_count(t)) return false;
    if (size) return ps_convert((const unsigned char *)t->data + index * size, t->dtype, ret, PS_DTYPE_F64, 1, true);
    /* Sub-byte: bring the element to the front of a byte. */
    unsigned char byte = (unsigned char)ps_packed_get(t->data, index, (unsigned)bits);
    return ps_convert(&byte, t->dtype, ret, PS_DTYPE_F64, 1, true);
}

bool ps_tensor_uniform(const ps_tensor *t, double *ret_value) {
    size_t n = ps_tensor_count(t), size = ps_dtype_size(t->dtype);
    double first;
    if (n == 0 || ps_tensor_need(t, NULL) != PS_OK || !ps_tensor_get_double(t, 0, &first)) return false;
    if (size) {
        /* All equal to the first: the bytes equal themselves one element further on. */
        if (n > 1 && memcmp(t->data, (const unsigned char *)t->data + size, t->bytes - size) != 0) return false;
    } else {
        for (size_t i = 1; i < n; i++) {
            double v;
            if (!ps_tensor_get_double(t, i, &v) || v != first) return false;
        }
    }
    *ret_value = first;
    return true;
}

/* In pieces: of a mapped file, what was read need not stay in memory. */
static void hash_bytes(const ps_tensor *t, size_t size, XXH3_state_t *state) {
    const size_t piece = (size_t)16 << 20;
    bool mapped = t->base && t->base->mapped;
    ps_file_map map = { mapped ? t->base->data : NULL, mapped ? t->base->bytes : 0 };
    for (size_t at = 0; at < size; at += piece) {
        const uint8_t *data = (const uint8_t *)t->data + at;
        size_t n = size - at < piece ? size - at : piece;
        XXH3_64bits_update(state, data, n);
        if (mapped) ps_file_map_drop(&map, (size_t)(data - map.data), n);
    }
}

static void hash_content(const ps_tensor *t, XXH3_state_t *state) {
    size_t n = ps_tensor_count(t), bits = ps_dtype_bits(t->dtype);
    if (ps_dtype_is_container(t->dtype)) {
        for (size_t i = 0; i < n; i++) {
            const ps_tensor *e = ps_tensor_element(t, i);
            uint64_t hash = e ? ps_tensor_hash(e) : 0; /* containers nest as deep as PS_MAX_NESTING at most */
            XXH3_64bits_update(state, &hash, sizeof hash);
        }
        return;
    }
    if (t->dtype == PS_DTYPE_STRING) {
        const ps_string *s = t->data;
        for (size_t i = 0; i < n; i++) {
            XXH3_64bits_update(state, &s[i].size, sizeof s[i].size);
            if (s[i].size) XXH3_64bits_update(state, s[i].data, s[i].size);
        }
        return;
    }
    /* The unused bits of a last byte are nobody's value. */
    size_t tail = bits < 8 ? n * bits % 8 : 0, whole = t->bytes - (tail != 0);
    hash_bytes(t, whole, state);
    if (tail) {
        unsigned char byte = (unsigned char)(((const unsigned char *)t->data)[whole] & ((1u << tail) - 1));
        XXH3_64bits_update(state, &byte, 1);
    }
}

uint64_t ps_tensor_hash(const ps_tensor *t) {
    assert(!t->strides);
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    int64_t head[2 + PS_MAX_RANK] = { (int64_t)t->dtype, t->shape.rank };
    for (int i = 0; i < t->shape.rank; i++)
        head[2 + i] = t->shape.dims[i];
    XXH3_64bits_update(&state, head, sizeof head);
    hash_content(t, &state);
    return XXH3_64bits_digest(&state);
}

void *ps_tensor_own_data(ps_tensor *t) {
    if (!t->owned || t->keeper || t->narrow || t->codes) return NULL;
    if (atomic_load_explicit(&t->refs, memory_order_acquire) != 1) return NULL;
    ps_tensor_know_hash(t, 0);
    return t->data;
}

void ps_tensor_know_hash(ps_tensor *t, uint64_t hash) {
    atomic_store_explicit(&t->content_hash, hash, memory_order_relaxed);
}

uint64_t ps_tensor_hash_once(const ps_tensor *t) {
    _Atomic uint64_t *known = &((ps_tensor *)t)->content_hash; /* a memo: no change that a reader could see */
    uint64_t hash = atomic_load_explicit(known, memory_order_relaxed);
    if (hash == 0) {
        hash = ps_tensor_hash(t);
        atomic_store_explicit(known, hash, memory_order_relaxed);
    }
    return hash;
}
