/* container.c - tensors whose elements own memory: sequences, optionals and maps of tensors; strings.
 *
 * A container is a tensor of rank 1 over an array of ps_tensor *, each of which it retains. Elements are shared, never
 * copied: whoever is given one may read it, and nobody writes to a tensor that is an element. Containers cannot hold
 * themselves, because an element is complete before it is put in; depth is bounded where it is put in. */
#include "tensor/tensor.h"

ps_status ps_container_new(ps_alloc_state *a, ps_dtype kind, size_t n, ps_tensor **ret, ps_error *err) {
    PS_FAIL_IF(!ps_dtype_is_container(kind), err, INVALID, "container: %s is no kind of container",
               ps_dtype_name(kind));
    PS_FAIL_IF(kind == PS_DTYPE_OPTIONAL && n > 1, err, INVALID, "container: an optional holds one element, not %zu",
               n);
    PS_FAIL_IF(kind == PS_DTYPE_MAP && n != 2, err, INVALID, "container: a map holds keys and values, not %zu", n);
    PS_FAIL_IF(n > INT64_MAX, err, LIMIT, "container: %zu elements are too many", n);
    ps_shape shape = { 1, { (int64_t)n } };
    return ps_tensor_new(a, kind, &shape, ret, err);
}

const ps_tensor *ps_tensor_element(const ps_tensor *container, size_t index) {
    if (!ps_dtype_is_container(container->dtype) || index >= ps_tensor_count(container)) return NULL;
    return ((const ps_tensor *const *)container->data)[index];
}

static int nesting(const ps_tensor *t) {
    int deepest = 0;
    if (!ps_dtype_is_container(t->dtype)) return 0;
    for (size_t i = 0, n = ps_tensor_count(t); i < n; i++) {
        const ps_tensor *e = ps_tensor_element(t, i);
        int depth = e && ps_dtype_is_container(e->dtype) ? nesting(e) : 0;
        if (depth > deepest) deepest = depth;
    }
    return 1 + deepest;
}

ps_status ps_container_take(ps_tensor *container, size_t index, ps_tensor *element, ps_error *err) {
    PS_FAIL_IF(!ps_dtype_is_container(container->dtype) || !container->owned, err, INVALID,
               "container: an element cannot be put into a tensor of %s over borrowed memory or of another kind",
               ps_dtype_name(container->dtype));
    PS_FAIL_IF(index >= ps_tensor_count(container), err, INVALID, "container: place %zu is beyond its %zu places",
               index, ps_tensor_count(container));
    PS_FAIL_IF(!element->alloc, err, INVALID, "container: an element must be a tensor on the heap");
    PS_FAIL_IF(nesting(element) >= PS_MAX_NESTING, err, LIMIT, "container: more than %d containers in each other",
               PS_MAX_NESTING);
    ps_tensor **place = (ps_tensor **)container->data + index;
    ps_tensor_release(*place);
    *place = element;
    return PS_OK;
}

ps_status ps_tensor_set_element(ps_tensor *container, size_t index, ps_tensor *element, ps_error *reterr) {
    PS_FAIL_IF(!container || !element, reterr, INVALID, "ps_tensor_set_element: an argument is NULL");
    ps_status status = ps_container_take(container, index, ps_tensor_retain(element), reterr);
    if (status != PS_OK) ps_tensor_release(element);
    return status;
}

void ps_tensor_clear_objects(ps_tensor *t, ps_alloc_state *alloc) {
    if (!t->data || !ps_dtype_is_object(t->dtype)) return;
    for (size_t i = 0, n = ps_tensor_count(t); i < n; i++) {
        if (t->dtype == PS_DTYPE_STRING)
            ps_free(alloc, (void *)(uintptr_t)((const ps_string *)t->data)[i].data);
        else
            ps_tensor_release(((ps_tensor **)t->data)[i]);
    }
    if (t->bytes) memset(t->data, 0, t->bytes);
}

static ps_status copy_objects(const ps_tensor *from, ps_tensor *to, ps_error *err) {
    for (size_t i = 0, n = ps_tensor_count(from); i < n; i++) {
        if (from->dtype == PS_DTYPE_STRING) {
            const ps_string *s = (const ps_string *)from->data + i;
            PS_TRY(ps_tensor_set_string(to, i, s->data, s->size, err));
        } else {
            ps_tensor *e = ((ps_tensor *const *)from->data)[i];
            ((ps_tensor **)to->data)[i] = e ? ps_tensor_retain(e) : NULL;
        }
    }
    return PS_OK;
}

ps_status ps_tensor_copy(ps_alloc_state *a, const ps_tensor *from, ps_tensor **ret, ps_error *err) {
    ps_tensor *to;
    PS_TRY(ps_tensor_new(a, from->dtype, &from->shape, &to, err));
    ps_status status = PS_OK;
    if (ps_dtype_is_object(from->dtype))
        status = copy_objects(from, to, err);
    else
        ps_tensor_copy_packed(from, to->data);
    if (status != PS_OK) {
        ps_tensor_release(to);
        return status;
    }
    *ret = to;
    return PS_OK;
}

size_t ps_tensor_total_bytes(const ps_tensor *t) {
    size_t sum = t->bytes;
    if (!ps_dtype_is_object(t->dtype)) return sum;
    for (size_t i = 0, n = ps_tensor_count(t); i < n; i++) {
        const ps_tensor *e = ps_tensor_element(t, i);
        size_t more = e                               ? ps_tensor_total_bytes(e)
                      : t->dtype == PS_DTYPE_STRING ? ((const ps_string *)t->data)[i].size
                                                      : 0;
        if (ps_add_overflow_size(sum, more, &sum)) return SIZE_MAX;
    }
    return sum;
}
