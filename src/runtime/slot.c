/* slot.c - where values lie between items and programs. */
#include "runtime/runtime_int.h"

#define KEPT_BYTES ((size_t)64 << 20) /* of one buffer, however little the present run needs */

/* One huge run must not hold its memory for the session's life; where less is at stake, what there is stays. */
static bool much_too_large(const ps_buffer *b, size_t size) {
    return b->size > KEPT_BYTES && size < b->size / 8;
}

ps_status ps_buffer_fit(ps_alloc_state *alloc, ps_buffer *b, size_t size, ps_error *err) {
    if (size <= b->size && b->data && !much_too_large(b, size)) return PS_OK;
    void *data = ps_alloc_data(alloc, size ? size : PS_ALIGN);
    if (!data) return PS_FAIL(err, NO_MEMORY, "out of memory for a buffer of %zu bytes", size);
    ps_free(alloc, b->data);
    b->data = data;
    b->size = size ? size : PS_ALIGN;
    return PS_OK;
}

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

ps_status ps_slot_resolve(ps_alloc_state *alloc, ps_slot *slot, ps_dtype dtype, const ps_shape *shape, ps_error *err) {
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
    PS_TRY(ps_buffer_fit(alloc, &slot->buffer, bytes, err));
    slot->data = slot->buffer.data;
    return PS_OK;
}

static void adopt_block(ps_alloc_state *alloc, ps_slot *slot, ps_tensor *t) {
    ps_free(alloc, slot->buffer.data);
    slot->buffer = (ps_buffer) { t->owned, t->bytes ? t->bytes : PS_ALIGN };
    slot->data = t->owned;
    slot->dtype = t->dtype;
    slot->shape = t->shape;
    t->owned = t->data = NULL;
}

ps_status ps_slot_take(ps_alloc_state *alloc, ps_slot *slot, ps_tensor *t, ps_error *err) {
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
        adopt_block(alloc, slot, t);
    } else {
        status = ps_slot_resolve(alloc, slot, t->dtype, &t->shape, err);
        if (status == PS_OK) ps_tensor_copy_packed(t, slot->data);
    }
    ps_tensor_release(t);
    return status;
}

void ps_slot_view(const ps_slot *slot, ps_tensor *ret) {
    ps_tensor_init_view(ret, slot->dtype, &slot->shape, slot->data);
}

ps_status ps_slot_copy(ps_alloc_state *alloc, ps_slot *to, const ps_slot *from, ps_error *err) {
    ps_tensor view, *t;
    ps_slot_view(from, &view);
    if (!ps_dtype_is_object(from->dtype)) {
        PS_TRY(ps_slot_resolve(alloc, to, from->dtype, &from->shape, err));
        if (view.bytes && to->data != from->data) memcpy(to->data, from->data, view.bytes);
        return PS_OK;
    }
    if (from->object)
        t = ps_tensor_retain(from->object);
    else
        PS_TRY(ps_tensor_copy(alloc, &view, &t, err));
    return ps_slot_take(alloc, to, t, err);
}

ps_status ps_slot_move(ps_alloc_state *alloc, ps_slot *to, ps_slot *from, ps_error *err) {
    bool own = !from->object && from->data == from->buffer.data && !ps_dtype_is_object(from->dtype);
    if (!own || to->given) return ps_slot_copy(alloc, to, from, err);
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

void ps_slot_clear(ps_alloc_state *alloc, ps_slot *slot) {
    drop_object(slot);
    ps_free(alloc, slot->buffer.data);
    slot->buffer = (ps_buffer) { NULL, 0 };
    slot->data = NULL;
}
