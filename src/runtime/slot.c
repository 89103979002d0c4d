/* slot.c - where values lie between items and programs. */
#include "runtime/runtime_int.h"

#define KEPT_BYTES ((size_t)64 << 20) /* of one buffer, however little the present run needs */

/* One huge run must not hold its memory for the session's life; where less is at stake, what there is stays. */
static bool much_too_large(const ps_buffer *b, size_t size) {
    return b->size > KEPT_BYTES && size < b->size / 8;
}

ps_status ps_buffer_fit(ps_alloc_state *alloc, ps_buffer *b, size_t size, ps_error *err) {
    if (size <= b->size && b->data && !much_too_large(b, size)) return PS_OK;
    void *data = ps_alloc_lasting(alloc, size ? size : PS_ALIGN);
    if (!data) return PS_FAIL(err, NO_MEMORY, "out of memory for a buffer of %zu bytes", size);
    ps_free(alloc, b->data);
    b->data = data;
    b->size = size ? size : PS_ALIGN;
    return PS_OK;
}

/* ---- the pool ---- */

#define POOL_ENTRIES 256 /* more are not kept */

ps_status ps_pool_init(ps_pool *pool, ps_alloc_state *alloc, ps_error *err) {
    *pool = (ps_pool) { .alloc = alloc };
    if (!ps_vec_reserve(alloc, &pool->free, POOL_ENTRIES)) return PS_FAIL_NOMEM(err, "a pool of memory");
    return PS_OK;
}

void ps_pool_put(ps_pool *pool, ps_buffer *b) {
    ps_buffer given = *b;
    size_t at = pool->free.size;
    *b = (ps_buffer) { NULL, 0 };
    if (!given.data) return;
    if (given.size < PS_ALIGN || at >= pool->free.room) {
        ps_free(pool->alloc, given.data);
        return;
    }
    for (; at > 0 && pool->free.data[at - 1].size > given.size; at--)
        pool->free.data[at] = pool->free.data[at - 1];
    pool->free.data[at] = given;
    pool->free.size++;
}

/* The first that is large enough, and not so large that another would miss it. */
static bool take_free(ps_pool *pool, size_t size, ps_buffer *ret) {
    size_t low = 0, high = pool->free.size;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pool->free.data[middle].size < size)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == pool->free.size || pool->free.data[low].size / 4 > size + 4096) return false;
    *ret = pool->free.data[low];
    memmove(pool->free.data + low, pool->free.data + low + 1, (pool->free.size - low - 1) * sizeof *ret);
    pool->free.size--;
    return true;
}

static void free_all(ps_pool *pool) {
    for (size_t i = 0; i < pool->free.size; i++)
        ps_free(pool->alloc, pool->free.data[i].data);
    pool->free.size = 0;
}

/* What is too small now will be so again: it goes, so that there are never more buffers than values at one time. */
static void replace_smaller(ps_pool *pool, size_t size) {
    size_t at = pool->free.size;
    while (at > 0 && pool->free.data[at - 1].size >= size)
        at--;
    if (at == 0) return;
    ps_free(pool->alloc, pool->free.data[at - 1].data);
    memmove(pool->free.data + at - 1, pool->free.data + at, (pool->free.size - at) * sizeof *pool->free.data);
    pool->free.size--;
}

/* Memory that no present value needs makes way before a run fails for want of it. */
static ps_status new_buffer(ps_pool *pool, size_t size, ps_buffer *ret, ps_error *err) {
    replace_smaller(pool, size);
    ret->data = ps_alloc_lasting(pool->alloc, size);
    ret->size = size;
    if (!ret->data && pool->free.size) {
        free_all(pool);
        ret->data = ps_alloc_lasting(pool->alloc, size);
    }
    if (ret->data) return PS_OK;
    return PS_FAIL(err, NO_MEMORY, "out of memory for a value of %zu bytes", size);
}

ps_status ps_pool_fit(ps_pool *pool, ps_buffer *b, size_t size, ps_error *err) {
    ps_buffer fresh;
    PS_FAIL_IF(size > PTRDIFF_MAX - PS_ALIGN, err, LIMIT, "a value of %zu bytes is too large", size);
    size = size ? (size + PS_ALIGN - 1) / PS_ALIGN * PS_ALIGN : PS_ALIGN; /* small ones serve each other */
    if (size > pool->largest) pool->largest = size;
    if (size <= b->size && b->data && !much_too_large(b, size)) return PS_OK;
    ps_pool_put(pool, b);
    if (!take_free(pool, size, &fresh)) PS_TRY(new_buffer(pool, size, &fresh, err));
    *b = fresh;
    return PS_OK;
}

ps_status ps_pool_grow(ps_pool *pool, ps_buffer *b, size_t used, size_t more, ps_error *err) {
    ps_buffer larger = { NULL, 0 };
    size_t need, room;
    PS_FAIL_IF(ps_add_overflow_size(used, more, &need), err, LIMIT, "the slices of a loop are too large");
    if (need <= b->size && b->data) return PS_OK;
    if (ps_add_overflow_size(need, need / 2, &room)) room = need;
    PS_TRY(ps_pool_fit(pool, &larger, room, err));
    if (used) memcpy(larger.data, b->data, used);
    ps_pool_put(pool, b);
    *b = larger;
    return PS_OK;
}

void ps_pool_trim(ps_pool *pool) {
    size_t n = pool->free.size;
    while (n > 0 && much_too_large(&pool->free.data[n - 1], pool->largest))
        ps_free(pool->alloc, pool->free.data[--n].data);
    pool->free.size = n;
    pool->largest = 0;
}

void ps_pool_clear(ps_pool *pool) {
    free_all(pool);
    ps_vec_release(pool->alloc, &pool->free);
}

/* ---- slots ---- */

static ps_status check_given(const ps_slot *slot, ps_dtype dtype, const ps_shape *shape, ps_error *err) {
    const ps_tensor *t = slot->given;
    char have[128], want[128];
    PS_FAIL_IF(t->dtype != dtype, err, TYPE, "output '%s': the given tensor is %s, the model makes %s", slot->output,
               ps_dtype_name(t->dtype), ps_dtype_name(dtype));
    PS_FAIL_IF(!ps_shape_equal(&t->shape, shape), err, SHAPE,
               "output '%s': the given tensor has shape %s, the model makes %s", slot->output,
               ps_shape_text(&t->shape, have, sizeof have), ps_shape_text(shape, want, sizeof want));
    PS_FAIL_IF(t->strides, err, INVALID, "output '%s': the given tensor must be row-major", slot->output);
    return PS_OK;
}

static void drop_object(ps_slot *slot) {
    ps_tensor_release(slot->object);
    slot->object = NULL;
}

ps_status ps_slot_resolve(ps_pool *pool, ps_slot *slot, ps_dtype dtype, const ps_shape *shape, ps_error *err) {
    int64_t n;
    size_t bytes;
    drop_object(slot);
    slot->dtype = dtype;
    slot->shape = *shape;
    if (slot->given) {
        PS_TRY(check_given(slot, dtype, shape, err));
        slot->data = slot->given->data;
        return PS_OK;
    }
    PS_FAIL_IF(!ps_shape_elements(shape, &n) || !ps_dtype_bytes(dtype, n, &bytes), err, LIMIT, "%s%s%s is too large",
               slot->output ? "output '" : "a value", slot->output ? slot->output : "", slot->output ? "'" : "");
    PS_TRY(ps_pool_fit(pool, &slot->buffer, bytes, err));
    slot->data = slot->buffer.data;
    return PS_OK;
}

static void adopt_block(ps_pool *pool, ps_slot *slot, ps_tensor *t) {
    ps_pool_put(pool, &slot->buffer);
    slot->buffer = (ps_buffer) { t->owned, t->bytes };
    slot->data = t->owned;
    slot->dtype = t->dtype;
    slot->shape = t->shape;
    t->owned = t->data = NULL;
}

ps_status ps_slot_take(ps_pool *pool, ps_slot *slot, ps_tensor *t, ps_error *err) {
    ps_status status = PS_OK;
    drop_object(slot);
    if (ps_dtype_is_object(t->dtype)) {
        if (slot->given) {
            status = PS_FAIL(err, UNSUPPORTED, "output '%s' is a %s: leave its slot NULL, the session makes the tensor",
                             slot->output, ps_dtype_name(t->dtype));
            ps_tensor_release(t);
            return status;
        }
        slot->dtype = t->dtype;
        slot->shape = t->shape;
        slot->data = t->data;
        slot->object = t;
        return PS_OK;
    }
    bool alone = t->owned && t->owned == t->data && atomic_load_explicit(&t->refs, memory_order_acquire) == 1;
    if (alone && !slot->given) {
        adopt_block(pool, slot, t);
    } else {
        status = ps_slot_resolve(pool, slot, t->dtype, &t->shape, err);
        if (status == PS_OK) ps_tensor_copy_packed(t, slot->data);
    }
    ps_tensor_release(t);
    return status;
}

void ps_slot_view(const ps_slot *slot, ps_tensor *ret) {
    ps_tensor_init_view(ret, slot->dtype, &slot->shape, slot->data);
}

ps_status ps_slot_copy(ps_pool *pool, ps_slot *to, const ps_slot *from, ps_error *err) {
    ps_tensor view, *t;
    ps_slot_view(from, &view);
    if (!ps_dtype_is_object(from->dtype)) {
        PS_TRY(ps_slot_resolve(pool, to, from->dtype, &from->shape, err));
        if (view.bytes && to->data != from->data) memcpy(to->data, from->data, view.bytes);
        return PS_OK;
    }
    if (from->object)
        t = ps_tensor_retain(from->object);
    else
        PS_TRY(ps_tensor_copy(pool->alloc, &view, &t, err));
    return ps_slot_take(pool, to, t, err);
}

ps_status ps_slot_move(ps_pool *pool, ps_slot *to, ps_slot *from, ps_error *err) {
    bool own = !from->object && from->data == from->buffer.data && !ps_dtype_is_object(from->dtype);
    if (!own || to->given) return ps_slot_copy(pool, to, from, err);
    ps_buffer spare = to->buffer;
    drop_object(to);
    to->buffer = from->buffer;
    to->dtype = from->dtype;
    to->shape = from->shape;
    to->data = to->buffer.data;
    from->buffer = spare;
    from->data = spare.data;
    return PS_OK;
}

void ps_slot_borrow(ps_slot *slot, ps_dtype dtype, const ps_shape *shape, void *data) {
    drop_object(slot);
    slot->dtype = dtype;
    slot->shape = *shape;
    slot->data = data;
}

void ps_slot_clear(ps_pool *pool, ps_slot *slot) {
    drop_object(slot);
    ps_pool_put(pool, &slot->buffer);
    slot->data = NULL;
}
