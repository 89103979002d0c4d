/* weights.c - the store of packed weights: a hash table on (content hash, key), guarded by one lock. */
#include "backend/backend.h"

typedef struct entry {
    struct entry *next;
    uint64_t hash;
    size_t size;
    void *data;
    char key[];
} entry;

#define BUCKETS 256

struct ps_weights {
    ps_alloc_state *alloc;
    ps_mutex lock;
    entry *buckets[BUCKETS]; /* guarded by lock */
    size_t bytes;            /* guarded by lock */
};

ps_status ps_weights_new(ps_alloc_state *alloc, ps_weights **ret, ps_error *err) {
    ps_weights *w = ps_alloc_zero(alloc, sizeof *w);
    if (!w) return PS_FAIL_NOMEM(err, "the weight store");
    w->alloc = alloc;
    if (!ps_mutex_init(&w->lock)) {
        ps_free(alloc, w);
        return PS_FAIL_NOMEM(err, "a lock");
    }
    *ret = w;
    return PS_OK;
}

void ps_weights_free(ps_weights *w) {
    if (!w) return;
    for (size_t b = 0; b < BUCKETS; b++) {
        for (entry *e = w->buckets[b], *next; e; e = next) {
            next = e->next;
            ps_free(w->alloc, e->data);
            ps_free(w->alloc, e);
        }
    }
    ps_mutex_destroy(&w->lock);
    ps_free(w->alloc, w);
}

static entry *find(const ps_weights *w, uint64_t hash, const char *key, size_t size) {
    for (entry *e = w->buckets[hash % BUCKETS]; e; e = e->next) {
        if (e->hash == hash && e->size == size && strcmp(e->key, key) == 0) return e;
    }
    return NULL;
}

static ps_status make(ps_weights *w, uint64_t hash, const char *key, size_t size, ps_pack_fn pack, void *ctx,
                      entry **ret, ps_error *err) {
    size_t n = strlen(key) + 1;
    entry *e = ps_alloc(w->alloc, sizeof *e + n);
    void *data = ps_alloc_data(w->alloc, size);
    ps_status status = PS_OK;
    if (!e || !data) status = PS_FAIL(err, NO_MEMORY, "out of memory for %zu bytes of packed weights", size);
    if (status == PS_OK) status = pack(ctx, data, err);
    if (status != PS_OK) {
        ps_free(w->alloc, e);
        ps_free(w->alloc, data);
        return status;
    }
    memcpy(e->key, key, n);
    e->hash = hash;
    e->size = size;
    e->data = data;
    e->next = w->buckets[hash % BUCKETS];
    w->buckets[hash % BUCKETS] = e;
    w->bytes += size;
    *ret = e;
    return PS_OK;
}

ps_status ps_weights_get(ps_weights *w, const ps_tensor *src, const char *key, size_t size, ps_pack_fn pack, void *ctx,
                         const void **ret, ps_error *err) {
    uint64_t hash = ps_hash_bytes(key, strlen(key), ps_tensor_hash_once(src));
    ps_status status = PS_OK;
    ps_mutex_lock(&w->lock);
    entry *e = find(w, hash, key, size);
    if (!e) status = make(w, hash, key, size, pack, ctx, &e, err);
    if (status == PS_OK) *ret = e->data;
    ps_mutex_unlock(&w->lock);
    return status;
}

size_t ps_weights_bytes(ps_weights *w) {
    ps_mutex_lock(&w->lock);
    size_t n = w->bytes;
    ps_mutex_unlock(&w->lock);
    return n;
}
