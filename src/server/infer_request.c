#include "server/infer_request.h"

#include <inttypes.h>
#include <string.h>

#include "server/tenants.h"
#include "server/tensor_raw.h"

/* ---- parameters ---- */

static ps_status set_sequence(ps_infer *infer, const char *id, ps_error *err) {
    if (!id) return PS_FAIL_NOMEM(err, "a sequence id");
    infer->sequence_id = id;
    return PS_OK;
}

ps_status ps_infer_set_sequence_number(ps_infer *infer, uint64_t id, ps_error *err) {
    return set_sequence(infer, id ? ps_arena_printf(&infer->arena, "i%" PRIu64, id) : "", err);
}

ps_status ps_infer_set_sequence_text(ps_infer *infer, const char *id, ps_error *err) {
    PS_FAIL_IF(strlen(id) > PS_SEQUENCE_ID_MAX, err, INVALID, "sequence_id is longer than %d bytes",
               PS_SEQUENCE_ID_MAX);
    return set_sequence(infer, *id ? ps_arena_printf(&infer->arena, "s%s", id) : "", err);
}

ps_status ps_infer_set_routing_key(ps_infer *infer, const char *key, ps_error *err) {
    PS_FAIL_IF(strlen(key) > PS_INFER_MAX_KEY, err, INVALID, "routing_key is longer than %d bytes", PS_INFER_MAX_KEY);
    infer->routing_key = *key ? ps_arena_strdup(&infer->arena, key) : NULL;
    return *key && !infer->routing_key ? PS_FAIL_NOMEM(err, "a routing key") : PS_OK;
}

static ps_status check_at_most(const char *name, uint64_t value, uint64_t max, ps_error *err) {
    PS_FAIL_IF(value > max, err, INVALID, "%s is %" PRIu64 ", allowed are 0 to %" PRIu64, name, value, max);
    return PS_OK;
}

ps_status ps_infer_set_tenant(ps_infer *infer, const char *name, ps_error *err) {
    PS_FAIL_IF(strlen(name) > PS_TENANT_NAME_MAX, err, INVALID, "tenant is longer than %d bytes", PS_TENANT_NAME_MAX);
    infer->tenant = *name ? ps_arena_strdup(&infer->arena, name) : NULL;
    return *name && !infer->tenant ? PS_FAIL_NOMEM(err, "a tenant's name") : PS_OK;
}

ps_status ps_infer_set_priority(ps_infer *infer, uint64_t priority, ps_error *err) {
    PS_TRY(check_at_most("priority", priority, UINT32_MAX, err));
    infer->priority = (uint32_t)priority;
    return PS_OK;
}

ps_status ps_infer_set_timeout(ps_infer *infer, uint64_t microseconds, ps_error *err) {
    PS_TRY(check_at_most("timeout", microseconds, PS_INFER_MAX_TIMEOUT_US, err));
    infer->timeout_us = (int64_t)microseconds;
    return PS_OK;
}

ps_status ps_infer_set_classes(ps_infer_want *want, int64_t classes, ps_error *err) {
    PS_FAIL_IF(classes < 0 || classes > PS_INFER_MAX_CLASSES, err, INVALID,
               "classification is %" PRId64 ", allowed are 0 to %d", classes, PS_INFER_MAX_CLASSES);
    want->classes = classes;
    return PS_OK;
}

/* ---- shared memory ---- */

static ps_status acquire(const ps_infer *infer, const ps_shm_place *p, ps_shm_region **ret, ps_error *err) {
    PS_FAIL_IF(!p->has_size, err, INVALID, "shared_memory_region '%.128s' has no shared_memory_byte_size", p->region);
    return ps_shm_acquire(infer->shm, p->region, p->offset, p->size, ret, err);
}

static ps_status copy_in(ps_infer *infer, const ps_shm_place *p, const ps_shm_region *region, void **ret,
                         ps_error *err) {
    PS_TRY(ps_shm_reserve(infer->shm, (size_t)p->size, err));
    infer->shm_bytes += (size_t)p->size;
    *ret = ps_arena_alloc(&infer->arena, p->size ? (size_t)p->size : 1);
    if (!*ret) return PS_FAIL_NOMEM(err, "an input of the request");
    return ps_shm_region_read(region, (size_t)p->offset, *ret, (size_t)p->size, err);
}

ps_status ps_infer_read_memory(ps_infer *infer, const ps_shm_place *p, ps_infer_tensor *t, ps_error *err) {
    ps_shm_region *region;
    void *data;
    PS_TRY(acquire(infer, p, &region, err));
    ps_status status = copy_in(infer, p, region, &data, err);
    ps_shm_release(region);
    PS_TRY(status);
    return ps_tensor_raw_read(&infer->arena, t, data, (size_t)p->size, err);
}

ps_status ps_infer_want_memory(const ps_infer *infer, const ps_shm_place *p, ps_infer_want *want, ps_error *err) {
    PS_TRY(acquire(infer, p, &want->shm, err));
    want->shm_offset = (size_t)p->offset;
    want->shm_size = (size_t)p->size;
    return PS_OK;
}

static ps_status put(const ps_infer_want *w, const ps_infer_tensor *t, size_t size, ps_alloc_state *alloc,
                     ps_error *err) {
    ps_str raw;
    if (t->dtype != PS_DTYPE_STRING) return ps_shm_region_write(w->shm, w->shm_offset, t->data, size, err);
    ps_str_init(&raw, alloc);
    ps_tensor_raw_write(t, &raw);
    ps_status status =
        raw.failed ? PS_FAIL_NOMEM(err, "an output") : ps_shm_region_write(w->shm, w->shm_offset, raw.data, size, err);
    ps_str_release(&raw);
    return status;
}

ps_status ps_infer_write_memory(const ps_infer_want *w, const ps_infer_tensor *t, ps_alloc_state *alloc,
                                size_t *ret_size, ps_error *err) {
    PS_FAIL_IF(!ps_tensor_raw_size(t, ret_size), err, LIMIT, "output '%s' is too large", t->name);
    PS_FAIL_IF(*ret_size > w->shm_size, err, INVALID, "output '%s' has %zu bytes, shared_memory_byte_size is %zu",
               t->name, *ret_size, w->shm_size);
    return put(w, t, *ret_size, alloc, err);
}

/* ---- arrays ---- */

bool ps_infer_grow(ps_arena *arena, void **data, size_t n, size_t *room, size_t size) {
    if (n < *room) return true;
    size_t more = *room ? *room * 2 : 8;
    void *block = ps_arena_array(arena, more, size);
    if (!block) return false;
    if (n) memcpy(block, *data, n * size);
    *data = block;
    *room = more;
    return true;
}
