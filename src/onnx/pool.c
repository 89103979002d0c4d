#include <string.h>

#include "onnx/onnx_int.h"

void ps_onnx_pool_init(ps_onnx_pool *pool, ps_alloc_state *alloc, const ps_onnx_limits *limits) {
    memset(pool, 0, sizeof *pool);
    pool->alloc = alloc;
    pool->limit = limits->total_bytes;
    pool->tensor_limit = limits->tensor_bytes;
}

void ps_onnx_pool_release(ps_onnx_pool *pool) {
    for (size_t i = 0; i < pool->room; i++)
        ps_tensor_release(pool->slots[i].tensor);
    ps_free(pool->alloc, pool->slots);
    memset(pool, 0, sizeof *pool);
}

static bool strings_equal(const ps_tensor *a, const ps_tensor *b) {
    const ps_string *x = a->data, *y = b->data;
    size_t n = ps_tensor_count(a);
    for (size_t i = 0; i < n; i++) {
        if (x[i].size != y[i].size) return false;
        if (x[i].size && memcmp(x[i].data, y[i].data, x[i].size) != 0) return false;
    }
    return true;
}

static bool tensors_equal(const ps_tensor *a, const ps_tensor *b) {
    if (a == b) return true;
    if (a->dtype != b->dtype || !ps_shape_equal(&a->shape, &b->shape)) return false;
    if (a->dtype == PS_DTYPE_STRING) return strings_equal(a, b);
    return a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0;
}

/* The slot of an equal tensor, or the free one where it belongs. The table is never full. */
static ps_onnx_pool_slot *find_slot(ps_onnx_pool_slot *slots, size_t room, uint64_t hash, const ps_tensor *t) {
    for (size_t i = hash & (room - 1);; i = (i + 1) & (room - 1)) {
        ps_onnx_pool_slot *s = &slots[i];
        if (!s->tensor || (s->hash == hash && t && tensors_equal(s->tensor, t))) return s;
    }
}

static bool grow(ps_onnx_pool *pool) {
    size_t room = pool->room ? pool->room * 2 : 64, bytes;
    if (ps_mul_overflow_size(room, sizeof *pool->slots, &bytes)) return false;
    ps_onnx_pool_slot *slots = ps_alloc_zero(pool->alloc, bytes);
    if (!slots) return false;
    for (size_t i = 0; i < pool->room; i++) {
        const ps_onnx_pool_slot *s = &pool->slots[i];
        if (s->tensor) *find_slot(slots, room, s->hash, NULL) = *s;
    }
    ps_free(pool->alloc, pool->slots);
    pool->slots = slots;
    pool->room = room;
    return true;
}

ps_status ps_onnx_pool_intern(ps_onnx_pool *pool, ps_tensor **tensor, const char *label, ps_error *err) {
    ps_tensor *t = *tensor;
    if ((pool->size + 1) * 2 > pool->room && !grow(pool)) return PS_FAIL_NOMEM(err, "the table of weights");
    uint64_t hash = ps_tensor_hash_once(t);
    ps_tensor_drop_pages(t);
    ps_onnx_pool_slot *s = find_slot(pool->slots, pool->room, hash, t);
    if (s->tensor) {
        *tensor = ps_tensor_retain(s->tensor);
        ps_tensor_release(t);
        return PS_OK;
    }
    PS_FAIL_IF(t->bytes > pool->tensor_limit, err, LIMIT, "%s: %zu bytes exceed the limit of %llu for one tensor",
               label, t->bytes, (unsigned long long)pool->tensor_limit);
    PS_FAIL_IF(t->bytes > pool->limit - pool->bytes, err, LIMIT,
               "%s: the weights exceed the limit of %llu bytes for all tensors", label,
               (unsigned long long)pool->limit);
    s->hash = hash;
    s->tensor = ps_tensor_retain(t);
    pool->size++;
    pool->elements += ps_tensor_count(t);
    pool->bytes += t->bytes;
    return PS_OK;
}
