#include "server/shared_memory.h"

#include <stdatomic.h>
#include <string.h>

#include "base/shm.h"
#include "base/thread.h"
#include "base/vec.h"
#include "server/json_text.h"

struct ps_shm_region {
    atomic_int refs;
    ps_alloc_state *alloc;
    char *name, *key;
    int fd;
    size_t offset, size; /* of the region within the object */
};

struct ps_shm_table {
    ps_alloc_state *alloc;
    bool allowed;
    size_t max_bytes;
    atomic_size_t reserved;
    ps_mutex lock;
    PS_VEC(ps_shm_region *) regions; /* guarded by lock */
};

ps_status ps_shm_table_create(ps_alloc_state *alloc, bool allowed, size_t max_bytes, ps_shm_table **ret,
                              ps_error *err) {
    ps_shm_table *t = ps_alloc_zero(alloc, sizeof *t);
    if (!t) return PS_FAIL_NOMEM(err, "shared memory regions");
    if (!ps_mutex_init(&t->lock)) {
        ps_free(alloc, t);
        return PS_FAIL_NOMEM(err, "shared memory regions");
    }
    t->alloc = alloc;
    t->allowed = allowed;
    t->max_bytes = max_bytes;
    *ret = t;
    return PS_OK;
}

void ps_shm_table_free(ps_shm_table *t) {
    if (!t) return;
    ps_shm_unregister(t, NULL);
    ps_vec_release(t->alloc, &t->regions);
    ps_mutex_destroy(&t->lock);
    ps_free(t->alloc, t);
}

bool ps_shm_allowed(const ps_shm_table *t) {
    return t->allowed;
}

/* ---- regions ---- */

static void region_free(ps_shm_region *r) {
    if (r->fd >= 0) ps_shm_close(r->fd);
    ps_free(r->alloc, r->name);
    ps_free(r->alloc, r->key);
    ps_free(r->alloc, r);
}

void ps_shm_release(ps_shm_region *r) {
    if (r && atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) region_free(r);
}

const char *ps_shm_region_name(const ps_shm_region *r) {
    return r->name;
}

static ps_status region_create(ps_alloc_state *alloc, const char *name, const char *key, ps_shm_region **ret,
                               size_t *ret_object_size, ps_error *err) {
    ps_shm_region *r = ps_alloc_zero(alloc, sizeof *r);
    if (!r) return PS_FAIL_NOMEM(err, "a shared memory region");
    r->alloc = alloc;
    r->fd = -1;
    atomic_init(&r->refs, 1);
    r->name = ps_strdup(alloc, name);
    r->key = ps_strdup(alloc, key);
    ps_status status = r->name && r->key ? ps_shm_open(key, &r->fd, ret_object_size, err)
                                         : PS_FAIL_NOMEM(err, "a shared memory region");
    if (status != PS_OK) {
        region_free(r);
        return status;
    }
    *ret = r;
    return PS_OK;
}

/* Called with the lock held. Index, or the number of regions. */
static size_t find(const ps_shm_table *t, const char *name) {
    size_t i = 0;
    while (i < t->regions.size && strcmp(t->regions.data[i]->name, name) != 0)
        i++;
    return i;
}

/* Called with the lock held. */
static ps_status add(ps_shm_table *t, ps_shm_region *r, ps_error *err) {
    PS_FAIL_IF(find(t, r->name) < t->regions.size, err, INVALID, "shared memory region '%s' is registered already",
               r->name);
    PS_FAIL_IF(t->regions.size == PS_SHM_MAX_REGIONS, err, UNAVAILABLE,
               "%d shared memory regions are registered, which is the limit", PS_SHM_MAX_REGIONS);
    return ps_vec_push(t->alloc, &t->regions, r) ? PS_OK : PS_FAIL_NOMEM(err, "a shared memory region");
}

ps_status ps_shm_register(ps_shm_table *t, const char *name, const char *key, size_t offset, size_t byte_size,
                          ps_error *err) {
    ps_shm_region *r;
    size_t object = 0, end;
    PS_FAIL_IF(!t->allowed, err, UNSUPPORTED,
               "shared memory is off: the server listens for other machines too, or was told so (--shared-memory on)");
    PS_FAIL_IF(byte_size == 0, err, INVALID, "shared memory region '%.128s' has no bytes", name);
    PS_TRY(region_create(t->alloc, name, key, &r, &object, err));
    r->offset = offset;
    r->size = byte_size;
    ps_status status = PS_OK;
    if (ps_add_overflow_size(offset, byte_size, &end) || end > object)
        status = PS_FAIL(err, INVALID,
                         "shared memory region '%.128s': %zu bytes from %zu on are not within the %zu of '%.128s'",
                         name, byte_size, offset, object, key);
    if (status == PS_OK) {
        ps_mutex_lock(&t->lock);
        status = add(t, r, err);
        ps_mutex_unlock(&t->lock);
    }
    if (status != PS_OK) ps_shm_release(r);
    return status;
}

void ps_shm_unregister(ps_shm_table *t, const char *name) {
    ps_mutex_lock(&t->lock);
    for (size_t i = t->regions.size; i-- > 0;) {
        if (name && strcmp(t->regions.data[i]->name, name) != 0) continue;
        ps_shm_release(t->regions.data[i]);
        memmove(&t->regions.data[i], &t->regions.data[i + 1], (--t->regions.size - i) * sizeof *t->regions.data);
    }
    ps_mutex_unlock(&t->lock);
}

ps_status ps_shm_visit(ps_shm_table *t, const char *name, ps_shm_visit_fn visit, void *ctx, ps_error *err) {
    bool found = false;
    ps_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->regions.size; i++) {
        const ps_shm_region *r = t->regions.data[i];
        if (name && strcmp(r->name, name) != 0) continue;
        visit(ctx, r->name, r->key, r->offset, r->size);
        found = true;
    }
    ps_mutex_unlock(&t->lock);
    PS_FAIL_IF(name && !found, err, NOT_FOUND, "no shared memory region '%.128s' is registered", name);
    return PS_OK;
}

static void write_region(void *ctx, const char *name, const char *key, size_t offset, size_t byte_size) {
    ps_str *out = ctx;
    ps_str_append(out, out->size && out->data[out->size - 1] == '[' ? "{\"name\":" : ",{\"name\":");
    ps_json_write_string(out, name);
    ps_str_append(out, ",\"key\":");
    ps_json_write_string(out, key);
    ps_str_printf(out, ",\"offset\":%zu,\"byte_size\":%zu}", offset, byte_size);
}

ps_status ps_shm_write_status(ps_shm_table *t, const char *name, ps_str *out, ps_error *err) {
    ps_str_char(out, '[');
    ps_status status = ps_shm_visit(t, name, write_region, out, err);
    ps_str_char(out, ']');
    return status;
}

/* ---- use ---- */

ps_status ps_shm_acquire(ps_shm_table *t, const char *name, uint64_t offset, uint64_t size, ps_shm_region **ret,
                         ps_error *err) {
    ps_shm_region *r = NULL;
    if (t) {
        ps_mutex_lock(&t->lock);
        size_t i = find(t, name);
        if (i < t->regions.size) r = t->regions.data[i];
        if (r) atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
        ps_mutex_unlock(&t->lock);
    }
    PS_FAIL_IF(!r, err, INVALID, "no shared memory region '%.128s' is registered", name);
    if (offset <= r->size && size <= r->size - offset) {
        *ret = r;
        return PS_OK;
    }
    ps_status status =
        PS_FAIL(err, INVALID, "shared memory region '%.128s': %llu bytes from %llu on are not within its %zu", name,
                (unsigned long long)size, (unsigned long long)offset, r->size);
    ps_shm_release(r);
    return status;
}

ps_status ps_shm_region_read(const ps_shm_region *r, size_t offset, void *dst, size_t size, ps_error *err) {
    ps_status status = ps_shm_read(r->fd, r->offset + offset, dst, size, err);
    if (status != PS_OK) ps_error_prefix(err, "region '%.128s'", r->name);
    return status;
}

ps_status ps_shm_region_write(const ps_shm_region *r, size_t offset, const void *src, size_t size, ps_error *err) {
    ps_status status = ps_shm_write(r->fd, r->offset + offset, src, size, err);
    if (status != PS_OK) ps_error_prefix(err, "region '%.128s'", r->name);
    return status;
}

ps_status ps_shm_reserve(ps_shm_table *t, size_t bytes, ps_error *err) {
    size_t before = atomic_load(&t->reserved);
    do {
        PS_FAIL_IF(bytes > t->max_bytes - before, err, UNAVAILABLE, "the server has no memory for shared inputs now");
    } while (!atomic_compare_exchange_weak(&t->reserved, &before, before + bytes));
    return PS_OK;
}

void ps_shm_unreserve(ps_shm_table *t, size_t bytes) {
    if (bytes) atomic_fetch_sub(&t->reserved, bytes);
}
