/* weights.c - the store of packed weights: a hash table on (content hash, key), guarded by one lock; and the life of
 * the weights that were packed. */
#include "backend/backend.h"
#include "tensor/codes.h"
#include "tensor/convert.h"

#include <stdlib.h>

typedef struct entry {
    struct entry *next;
    uint64_t hash;
    size_t size;
    ps_device *device; /* whose memory data is a buffer of; NULL: the host's */
    void *data;
    char key[];
} entry;

/* A constant whose content can be had again. */
typedef struct adopted {
    ps_tensor_keeper base;
    ps_weights *store;
    ps_tensor *tensor; /* retained */
    uint64_t hash;
    uint32_t uses; /* in the model's graph */
    bool taken;    /* by some kernel */
    bool kept;     /* some plan reads it as it is */
} adopted;

#define BUCKETS 256
#define LEAST_CONTENT ((size_t)4 << 20) /* bytes of a device's memory for what it is to pack */
#define MOST_CONTENT ((size_t)256 << 20)

struct ps_weights {
    ps_alloc_state *alloc;
    ps_mutex lock;
    entry *buckets[BUCKETS]; /* guarded by lock */
    size_t bytes;            /* in host memory; guarded by lock */
    atomic_size_t on_device; /* bytes in the memory of devices */
    adopted *adopted;        /* by hash, ascending */
    size_t n_adopted;
    ps_reload_fn reload;
    void *reload_ctx;
    /* For weights on their way to a device's memory; guarded by lock, given up with ps_weights_settle. */
    void *staging; /* what the host has packed */
    size_t staging_bytes;
    void *content; /* what content_on is to pack: a buffer there */
    ps_device *content_on;
    size_t content_bytes;
};

ps_status ps_weights_new(ps_alloc_state *alloc, ps_weights **ret, ps_error *err) {
    ps_weights *w = ps_alloc_zero(alloc, sizeof *w);
    if (!w) return PS_FAIL_NOMEM(err, "the weight store");
    w->alloc = alloc;
    atomic_init(&w->on_device, 0);
    if (!ps_mutex_init(&w->lock)) {
        ps_free(alloc, w);
        return PS_FAIL_NOMEM(err, "a lock");
    }
    *ret = w;
    return PS_OK;
}

static void free_data(ps_weights *w, ps_device *device, void *data) {
    if (device)
        device->ops->memory->buffer_free(device, data);
    else
        ps_free(w->alloc, data);
}

static void drop_staging(ps_weights *w) {
    ps_free(w->alloc, w->staging);
    w->staging = NULL;
    w->staging_bytes = 0;
}

static void drop_content(ps_weights *w) {
    if (w->content) free_data(w, w->content_on, w->content);
    w->content = NULL;
    w->content_bytes = 0;
}

void ps_weights_free(ps_weights *w) {
    if (!w) return;
    for (size_t b = 0; b < BUCKETS; b++) {
        for (entry *e = w->buckets[b], *next; e; e = next) {
            next = e->next;
            free_data(w, e->device, e->data);
            ps_free(w->alloc, e);
        }
    }
    for (size_t i = 0; i < w->n_adopted; i++) {
        w->adopted[i].tensor->keeper = NULL;
        ps_tensor_release(w->adopted[i].tensor);
    }
    ps_free(w->alloc, w->adopted);
    drop_staging(w);
    drop_content(w);
    ps_mutex_destroy(&w->lock);
    ps_free(w->alloc, w);
}

/* ---- packed forms ---- */

/* What is asked for: src under key, packed into size bytes, in the memory of a device. */
typedef struct request {
    const ps_tensor *src;
    const char *key;
    size_t size;
    ps_device *device; /* NULL: host memory */
    ps_pack_fn pack;   /* NULL: as it is */
    void *ctx;
    bool narrow;             /* pack takes src->narrow or src->codes where there is one */
    const ps_packing *there; /* NULL: the host packs */
} request;

static entry *find(const ps_weights *w, uint64_t hash, const request *r) {
    for (entry *e = w->buckets[hash % BUCKETS]; e; e = e->next) {
        if (e->hash == hash && e->size == r->size && e->device == r->device && strcmp(e->key, r->key) == 0) return e;
    }
    return NULL;
}

static ps_status pack_on_host(ps_weights *w, const request *r, void **ret, ps_error *err) {
    void *data = ps_alloc_lasting(w->alloc, r->size);
    if (!data) return PS_FAIL(err, NO_MEMORY, "out of memory for %zu bytes of packed weights", r->size);
    ps_pages_expect(data, r->size);
    ps_status status = r->pack(r->ctx, data, err);
    if (status != PS_OK) {
        ps_free(w->alloc, data);
        return status;
    }
    *ret = data;
    return PS_OK;
}

/* One block for all weights of a plan: new pages for each would cost more than the packing. */
static ps_status need_staging(ps_weights *w, size_t size, ps_error *err) {
    if (w->staging_bytes >= size) return PS_OK;
    drop_staging(w);
    w->staging = ps_alloc_lasting(w->alloc, size);
    PS_FAIL_IF(!w->staging, err, NO_MEMORY, "out of memory for %zu bytes of packed weights", size);
    ps_pages_expect(w->staging, size);
    w->staging_bytes = size;
    return PS_OK;
}

static ps_status pack_for_device(ps_weights *w, const request *r, void **ret, ps_error *err) {
    const void *content = r->src->data;
    if (r->pack) {
        PS_TRY(need_staging(w, r->size, err));
        PS_TRY(r->pack(r->ctx, w->staging, err));
        content = w->staging;
    }
    return r->device->ops->memory->buffer_new(r->device, r->size, content, ret, err);
}

/* One buffer for all weights of a plan, as far as it lasts: a new one takes the driver longer than the way there. */
static ps_status need_content(ps_weights *w, ps_device *device, size_t size, ps_error *err) {
    size_t room = LEAST_CONTENT;
    if (w->content && w->content_on == device && w->content_bytes >= size) return PS_OK;
    drop_content(w);
    while (room < size)
        room *= 2;
    PS_TRY(device->ops->memory->buffer_new(device, room, NULL, &w->content, err));
    w->content_on = device;
    w->content_bytes = room;
    return PS_OK;
}

static const ps_tensor *content_of(const request *r) {
    return r->narrow && r->src->narrow ? r->src->narrow : r->src;
}

static ps_status pack_on_device(ps_weights *w, const request *r, void **ret, ps_error *err) {
    const ps_memory_ops *memory = r->device->ops->memory;
    const ps_tensor *t = content_of(r);
    void *dst = NULL;
    PS_TRY(need_content(w, r->device, t->bytes, err));
    PS_TRY(memory->buffer_new(r->device, r->size, NULL, &dst, err));
    ps_status status = memory->buffer_write(r->device, w->content, t->data, t->bytes, err);
    if (status == PS_OK) status = r->there->place(r->ctx, w->content, dst, err);
    if (status == PS_OK)
        *ret = dst;
    else
        memory->buffer_free(r->device, dst);
    return status;
}

/* Where the device's memory is short, it may last without what is there for packing, this weight's or an earlier one's.
 */
static ps_status bring_to_device(ps_weights *w, const request *r, void **ret, ps_error *err) {
    const bool placed = r->there && r->there->place && content_of(r)->bytes <= MOST_CONTENT;
    ps_status status = placed ? pack_on_device(w, r, ret, err) : pack_for_device(w, r, ret, err);
    if (status != PS_NO_MEMORY || (!placed && !w->content)) return status;
    drop_content(w);
    return pack_for_device(w, r, ret, err);
}

/* Takes data, on failure too. */
static ps_status insert(ps_weights *w, uint64_t hash, const request *r, void *data, entry **ret, ps_error *err) {
    size_t n = strlen(r->key) + 1;
    entry *e = ps_alloc(w->alloc, sizeof *e + n);
    if (!e) {
        free_data(w, r->device, data);
        return PS_FAIL_NOMEM(err, "packed weights");
    }
    memcpy(e->key, r->key, n);
    e->hash = hash;
    e->size = r->size;
    e->device = r->device;
    e->data = data;
    e->next = w->buckets[hash % BUCKETS];
    w->buckets[hash % BUCKETS] = e;
    if (r->device)
        atomic_fetch_add(&w->on_device, r->size);
    else
        w->bytes += r->size;
    *ret = e;
    return PS_OK;
}

static ps_status make(ps_weights *w, uint64_t hash, const request *r, entry **ret, ps_error *err) {
    void *data = NULL;
    PS_TRY(r->device ? bring_to_device(w, r, &data, err) : pack_on_host(w, r, &data, err));
    return insert(w, hash, r, data, ret, err);
}

/* ---- packed forms that outlive the process ---- */

ps_status ps_weights_each(ps_weights *w, ps_packed_fn fn, void *ctx, ps_error *err) {
    ps_status status = PS_OK;
    ps_mutex_lock(&w->lock);
    for (size_t b = 0; b < BUCKETS && status == PS_OK; b++) {
        for (const entry *e = w->buckets[b]; e && status == PS_OK; e = e->next)
            if (!e->device) status = fn(ctx, &(ps_packed) { e->hash, e->key, e->size, e->data }, err);
    }
    ps_mutex_unlock(&w->lock);
    return status;
}

ps_status ps_weights_add(ps_weights *w, uint64_t hash, const char *key, size_t size, void **ret, ps_error *err) {
    const request r = { .key = key, .size = size };
    entry *e = NULL;
    void *data = ps_alloc_lasting(w->alloc, size);
    if (!data) return PS_FAIL(err, NO_MEMORY, "out of memory for %zu bytes of packed weights", size);
    ps_mutex_lock(&w->lock);
    ps_status status = insert(w, hash, &r, data, &e, err);
    ps_mutex_unlock(&w->lock);
    if (status == PS_OK) *ret = data;
    return status;
}

/* ---- getting one ---- */

static uint64_t hash_of(const request *r) {
    return ps_hash_bytes(r->key, strlen(r->key), ps_tensor_hash_once(r->src));
}

static bool packs_content(const request *r) {
    return !r->narrow || !(r->src->narrow || (r->src->codes && r->src->codes->code));
}

static ps_status get(ps_weights *w, const request *r, void **ret, ps_error *err) {
    uint64_t hash = hash_of(r);
    ps_status status = PS_OK;
    ps_mutex_lock(&w->lock);
    entry *e = find(w, hash, r);
    if (!e && packs_content(r)) status = ps_tensor_need(r->src, err);
    if (!e && status == PS_OK) status = make(w, hash, r, &e, err);
    if (status == PS_OK) *ret = e->data;
    ps_mutex_unlock(&w->lock);
    return status;
}

ps_status ps_weights_get(ps_weights *w, const ps_tensor *src, const char *key, size_t size, ps_pack_fn pack, void *ctx,
                         const void **ret, ps_error *err) {
    const request r = { src, key, size, NULL, pack, ctx, false, NULL };
    void *data = NULL;
    PS_TRY(get(w, &r, &data, err));
    *ret = data;
    return PS_OK;
}

ps_status ps_weights_get_narrow(ps_weights *w, const ps_tensor *src, const char *key, size_t size, ps_pack_fn pack,
                                void *ctx, const void **ret, ps_error *err) {
    const request r = { src, key, size, NULL, pack, ctx, true, NULL };
    void *data = NULL;
    PS_TRY(get(w, &r, &data, err));
    *ret = data;
    return PS_OK;
}

bool ps_weights_has(ps_weights *w, ps_device *device, const ps_tensor *src, const char *key, size_t size) {
    const request r = { .src = src, .key = key, .size = size, .device = device };
    const uint64_t hash = hash_of(&r);
    ps_mutex_lock(&w->lock);
    const bool there = find(w, hash, &r) != NULL;
    ps_mutex_unlock(&w->lock);
    return there;
}

size_t ps_weights_bytes(ps_weights *w) {
    ps_mutex_lock(&w->lock);
    size_t n = w->bytes;
    ps_mutex_unlock(&w->lock);
    return n;
}

size_t ps_weights_device_bytes(ps_weights *w) {
    return atomic_load(&w->on_device);
}

/* ---- the life of what was packed ---- */

static ps_status restore(ps_tensor_keeper *keeper, ps_error *err);

static adopted *record_of(const ps_tensor *t) {
    return t->keeper && t->keeper->restore == restore ? (adopted *)t->keeper : NULL;
}

static void note_taken(ps_tensor *t) {
    adopted *a = record_of(t);
    if (a) a->taken = true;
    /* At once, so that never more than one weight is held twice; other readers are waited for (ps_weights_settle). */
    if (a ? a->uses == 1 && !a->kept : true) ps_tensor_drop(t);
}

static ps_status take(ps_lowering *l, uint32_t index, const request *r, void **ret, ps_error *err) {
    PS_TRY(get(l->weights, r, ret, err));
    l->taken |= index < 64 ? UINT64_C(1) << index : 0;
    note_taken(l->node->in[index]->constant);
    return PS_OK;
}

ps_status ps_weights_take(ps_lowering *l, uint32_t index, const char *key, size_t size, ps_pack_fn pack, void *ctx,
                          const void **ret, ps_error *err) {
    const request r = { l->node->in[index]->constant, key, size, NULL, pack, ctx, false, NULL };
    void *data = NULL;
    PS_TRY(take(l, index, &r, &data, err));
    *ret = data;
    return PS_OK;
}

ps_status ps_weights_take_narrow(ps_lowering *l, uint32_t index, const char *key, size_t size, ps_pack_fn pack,
                                 void *ctx, const void **ret, ps_error *err) {
    const request r = { l->node->in[index]->constant, key, size, NULL, pack, ctx, true, NULL };
    void *data = NULL;
    PS_TRY(take(l, index, &r, &data, err));
    *ret = data;
    return PS_OK;
}

ps_status ps_weights_take_on(ps_lowering *l, ps_device *device, uint32_t index, const char *key,
                             const ps_packing *packing, void **ret, ps_error *err) {
    const request r = { .src = l->node->in[index]->constant,
                        .key = key,
                        .size = packing->size,
                        .device = device,
                        .pack = packing->pack,
                        .ctx = packing->ctx,
                        .narrow = packing->narrow,
                        .there = packing };
    return take(l, index, &r, ret, err);
}

/* Bit for bit: NaN's payload and the sign of zero count. Weights of f32 say no within the first few. */
static bool holds(ps_dtype form, const ps_tensor *w) {
    const float *x = w->data;
    const size_t n = ps_tensor_count(w);
    for (size_t i = 0, block; i < n; i += block) {
        uint16_t narrow[256];
        float again[256];
        block = n - i < 256 ? n - i : 256;
        if (i == 0 && block > 4) block = 4;
        ps_convert(x + i, PS_DTYPE_F32, narrow, form, block, true);
        ps_convert(narrow, form, again, PS_DTYPE_F32, block, true);
        if (memcmp(x + i, again, block * sizeof *x) != 0) return false;
    }
    return true;
}

ps_status ps_weights_narrowest(const ps_tensor *w, ps_dtype *ret, ps_error *err) {
    *ret = w->narrow ? w->narrow->dtype : PS_DTYPE_F32;
    if (w->narrow) return PS_OK;
    PS_TRY(ps_tensor_need(w, err));
    if (holds(PS_DTYPE_F16, w))
        *ret = PS_DTYPE_F16;
    else if (holds(PS_DTYPE_BF16, w))
        *ret = PS_DTYPE_BF16;
    return PS_OK;
}

ps_status ps_weights_plain_on(ps_weights *w, ps_device *device, ps_tensor *t, void **ret, ps_error *err) {
    const request r = { t, "plain", t->bytes, device, NULL, NULL, false, NULL };
    PS_TRY(get(w, &r, ret, err));
    note_taken(t);
    return PS_OK;
}

ps_status ps_weights_keep(const ps_tensor *t, ps_error *err) {
    adopted *a = record_of(t);
    if (a) a->kept = true;
    return ps_tensor_need(t, err);
}

void ps_weights_settle(ps_weights *w) {
    ps_mutex_lock(&w->lock);
    drop_staging(w);
    drop_content(w);
    ps_mutex_unlock(&w->lock);
    for (size_t i = 0; i < w->n_adopted; i++) {
        adopted *a = &w->adopted[i];
        if (a->taken && !a->kept) ps_tensor_drop(a->tensor);
    }
}

/* ---- adopting, and having it again ---- */

static int by_hash(const void *x, const void *y) {
    uint64_t a = ((const adopted *)x)->hash, b = ((const adopted *)y)->hash;
    return a < b ? -1 : a > b;
}

/* The first record of this content; equal tensors follow. */
static size_t find_adopted(const ps_weights *w, uint64_t hash) {
    size_t low = 0, high = w->n_adopted;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (w->adopted[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool can_go(const ps_value *v) {
    const ps_tensor *t = v->constant;
    return t && t->owned && t->bytes > PS_TENSOR_SMALL && (ps_dtype_is_float(t->dtype) || ps_dtype_is_int(t->dtype));
}

/* One record a tensor, however many values share it. */
static void make_records(ps_weights *w, const ps_graph *g) {
    size_t n = 0;
    for (const ps_value *v = g->all_values; v; v = v->next_all) {
        if (!can_go(v) || v->constant->keeper) continue;
        adopted *a = &w->adopted[n++];
        *a = (adopted) { { restore }, w, ps_tensor_retain(v->constant), ps_tensor_hash_once(v->constant), 0, 0, 0 };
        v->constant->keeper = &a->base; /* for now a mark: the records are sorted below */
    }
    qsort(w->adopted, n, sizeof *w->adopted, by_hash);
    for (size_t i = 0; i < n; i++)
        w->adopted[i].tensor->keeper = &w->adopted[i].base;
    w->n_adopted = n;
}

static void count_uses(const ps_graph *g) {
    for (const ps_value *v = g->all_values; v; v = v->next_all) {
        adopted *a = v->constant ? record_of(v->constant) : NULL;
        if (a) a->uses += v->n_uses + 2 * v->n_outputs;
    }
}

ps_status ps_weights_adopt(ps_weights *w, const ps_graph *g, ps_reload_fn reload, void *ctx, ps_error *err) {
    size_t n = 0;
    for (const ps_value *v = g->all_values; v; v = v->next_all)
        n += can_go(v);
    if (!n) return PS_OK;
    w->adopted = ps_alloc_array(w->alloc, n, sizeof *w->adopted);
    if (!w->adopted) return PS_FAIL_NOMEM(err, "the weight store");
    w->reload = reload;
    w->reload_ctx = ctx;
    make_records(w, g);
    count_uses(g);
    return PS_OK;
}

static ps_status refill(ps_weights *w, const ps_graph *g, ps_error *err) {
    for (const ps_value *v = g->all_values; v; v = v->next_all) {
        if (!can_go(v)) continue;
        uint64_t hash = ps_tensor_hash_once(v->constant);
        for (size_t i = find_adopted(w, hash); i < w->n_adopted && w->adopted[i].hash == hash; i++) {
            if (!atomic_load(&w->adopted[i].tensor->dropped)) continue;
            PS_TRY(ps_tensor_need(v->constant, err));
            PS_TRY(ps_tensor_refill(w->adopted[i].tensor, v->constant->data, err));
        }
    }
    for (size_t i = 0; i < w->n_adopted; i++) {
        PS_FAIL_IF(atomic_load(&w->adopted[i].tensor->dropped), err, IO,
                   "weights that another layout needs cannot be read again: the model's file has changed since it was "
                   "loaded");
    }
    return PS_OK;
}

/* All that is away comes back at once: it is one walk through the file, and who asks for one layout more asks for many.
 * What is not taken again in the meantime goes with ps_weights_settle. */
static ps_status restore(ps_tensor_keeper *keeper, ps_error *err) {
    ps_weights *w = ((adopted *)keeper)->store;
    ps_graph *g = NULL;
    PS_TRY(w->reload(w->reload_ctx, &g, err));
    ps_status status = refill(w, g, err);
    ps_graph_free(g);
    return status;
}
