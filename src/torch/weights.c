/* Parameters, buffers and constants: which bytes of which entry of an archive a tensor is. PayloadMeta entries say so,
 * or, before PyTorch 2.9, the pickles of torch.save. */
#include <string.h>

#include "base/str.h"
#include "torch/pickle.h"
#include "torch/program.h"

/* One tensor's place: elements of `dtype` at `offset` with `strides`, within an entry. */
typedef struct place {
    ps_archive *archive;
    const char *folder, *path; /* of the entry */
    ps_dtype dtype;
    ps_shape shape;
    int64_t strides[PS_MAX_RANK], offset;
} place;

/* A configuration that is not there says that the program has none of its kind. */
static ps_status open_config(ps_archive *archive, const char *folder, const char *model, const char *kind, json_t **ret,
                             ps_error *err) {
    char name[256];
    ps_snprintf(name, sizeof name, "data/%s/%.100s_%s_config.json", folder, model, kind);
    if (!ps_archive_find(archive, name)) return PS_OK;
    json_t *file, *config;
    PS_TRY(ps_json_entry(archive, name, &file, err));
    ps_status status = ps_member_object(file, "config", name, &config, err);
    if (status == PS_OK) *ret = json_incref(config);
    json_decref(file);
    return status;
}

/* The table under one of two names; one that is not there is empty. */
static ps_status open_saved(ps_torch_weights *w, const char *name, const char *older, ps_torch_saved *ret,
                            ps_error *err) {
    const uint8_t *data;
    const ps_archive_entry *e = ps_archive_find(w->archive, name);
    if (!e) e = ps_archive_find(w->archive, older);
    if (!e || e->size == 0) return PS_OK;
    PS_TRY(ps_archive_bytes(w->archive, e, true, &data, err));
    ps_status status = ps_archive_open_memory(w->alloc, data, e->size, &ret->archive, err);
    if (status != PS_OK) {
        ps_error_prefix(err, "entry '%.100s'", e->name);
        return status;
    }
    ps_map_init(&ret->tensors, w->alloc);
    if (w->archive->file) ret->archive.file = ps_tensor_retain(w->archive->file); /* its bytes lie in there */
    const ps_archive_entry *table = ps_archive_find(&ret->archive, "data.pkl"),
                           *order = ps_archive_find(&ret->archive, "byteorder");
    PS_FAIL_IF(!table, err, FORMAT, "entry '%.100s' holds no data.pkl", e->name);
    if (order) {
        PS_TRY(ps_archive_bytes(&ret->archive, order, false, &data, err));
        PS_FAIL_IF(order->size != 6 || memcmp(data, "little", 6) != 0, err, UNSUPPORTED,
                   "'%.100s' is not little-endian", e->name);
    }
    PS_FAIL_IF(table->size > PS_TORCH_MAX_JSON, err, LIMIT, "entry '%.100s' has a table of %zu bytes", e->name,
               table->size);
    PS_TRY(ps_archive_bytes(&ret->archive, table, true, &data, err));
    return ps_torch_unpickle(data, table->size, &w->arena, &ret->tensors, err);
}

ps_status ps_torch_weights_open(ps_torch_weights *w, ps_archive *archive, const char *model, ps_error *err) {
    *w = (ps_torch_weights) { .alloc = archive->alloc, .archive = archive };
    ps_map_init(&w->made, w->alloc);
    ps_arena_init(&w->arena, w->alloc);
    PS_TRY(open_config(archive, "weights", model, "weights", &w->config, err));
    PS_TRY(open_config(archive, "constants", model, "constants", &w->constants, err));
    char name[256];
    ps_snprintf(name, sizeof name, "data/weights/%.200s.pt", model);
    if (!w->config) PS_TRY(open_saved(w, name, "serialized_state_dict.pt", &w->saved[0], err));
    ps_snprintf(name, sizeof name, "data/constants/%.200s.pt", model);
    if (!w->constants) PS_TRY(open_saved(w, name, "serialized_constants.pt", &w->saved[1], err));
    return PS_OK;
}

void ps_torch_weights_close(ps_torch_weights *w) {
    for (size_t i = 0; i < w->made.room; i++)
        ps_tensor_release(w->made.slots[i].value);
    if (w->made.alloc) ps_map_release(&w->made);
    for (size_t i = 0; i < 2; i++) {
        if (w->saved[i].tensors.alloc) ps_map_release(&w->saved[i].tensors);
        ps_archive_close(&w->saved[i].archive);
    }
    if (w->arena.alloc) ps_arena_release(&w->arena);
    json_decref(w->config);
    json_decref(w->constants);
    *w = (ps_torch_weights) { 0 };
}

/* ---- where a tensor lies ---- */

static bool plain_int(const json_t *v, int64_t *ret) {
    const char *kind;
    const json_t *n = ps_json_union(v, &kind);
    *ret = json_integer_value(n);
    return json_is_integer(n) && strcmp(kind, "as_int") == 0 && *ret >= 0;
}

static ps_status read_place(const json_t *payload, const char *what, place *p, ps_error *err) {
    json_t *meta, *strides;
    PS_TRY(ps_member_text(payload, "path_name", what, &p->path, err));
    PS_FAIL_IF(json_is_true(json_object_get(payload, "use_pickle")), err, UNSUPPORTED,
               "%s: is stored as a pickle, which is never executed; only plain tensors are read", what);
    PS_TRY(ps_member_object(payload, "tensor_meta", what, &meta, err));
    PS_TRY(ps_torch_meta(meta, what, NULL, &p->dtype, &p->shape, err));
    PS_FAIL_IF(!ps_shape_fixed(&p->shape), err, FORMAT, "%s: its size is not a number", what);
    PS_TRY(ps_member_array(meta, "strides", what, &strides, err));
    PS_FAIL_IF(json_array_size(strides) != (size_t)p->shape.rank, err, FORMAT, "%s: has %d dims and %zu strides", what,
               p->shape.rank, json_array_size(strides));
    for (int i = 0; i < p->shape.rank; i++)
        PS_FAIL_IF(!plain_int(json_array_get(strides, (size_t)i), &p->strides[i]), err, FORMAT,
                   "%s: stride %d is no number from 0", what, i);
    PS_FAIL_IF(!plain_int(json_object_get(meta, "storage_offset"), &p->offset), err, FORMAT,
               "%s: its storage offset is no number from 0", what);
    return PS_OK;
}

/* Is element [0 … 0] + offset up to the last one within n elements? */
static bool within(const place *p, size_t n) {
    size_t last = (size_t)p->offset, step;
    for (int i = 0; i < p->shape.rank; i++) {
        if (p->shape.dims[i] == 0) return true;
        if (ps_mul_overflow_size((size_t)p->shape.dims[i] - 1, (size_t)p->strides[i], &step)) return false;
        if (ps_add_overflow_size(last, step, &last)) return false;
    }
    return last < n;
}

static bool row_major(const place *p) {
    int64_t want[PS_MAX_RANK];
    ps_shape_strides(&p->shape, want);
    for (int i = 0; i < p->shape.rank; i++) {
        if (p->shape.dims[i] > 1 && p->strides[i] != want[i]) return false;
    }
    return true;
}

/* ---- copying ---- */

/* Last dim in the innermost loop; an odometer for the others. */
static void copy_strided(const place *p, const uint8_t *src, uint8_t *dst, size_t size) {
    int64_t at[PS_MAX_RANK] = { 0 };
    int last = p->shape.rank - 1;
    for (;;) {
        size_t from = (size_t)p->offset;
        for (int i = 0; i < last; i++)
            from += (size_t)(at[i] * p->strides[i]);
        for (int64_t k = 0; k < p->shape.dims[last]; k++, dst += size)
            memcpy(dst, src + (from + (size_t)(k * p->strides[last])) * size, size);
        int i = last - 1;
        while (i >= 0 && ++at[i] == p->shape.dims[i])
            at[i--] = 0;
        if (i < 0) return;
    }
}

/* Elements that lie in the mapped file as a kernel wants them stay there. */
static bool in_place(const place *p, const uint8_t *first) {
    return p->archive->file && (uintptr_t)first % PS_ALIGN == 0 && row_major(p);
}

static ps_status take(ps_torch_weights *w, const place *p, const uint8_t *src, size_t stored, const char *what,
                      ps_tensor **ret, ps_error *err) {
    size_t size = ps_dtype_size(p->dtype);
    int64_t n;
    ps_shape_elements(&p->shape, &n); /* checked before, as the bytes are */
    size_t bytes = (size_t)n * size, beyond = bytes > stored ? bytes - stored : 0;
    PS_FAIL_IF(n && !within(p, stored / size), err, FORMAT, "%s: takes more than the %zu bytes of '%s'", what, stored,
               p->path);
    PS_FAIL_IF(beyond > PS_TORCH_MAX_EXPANDED - w->expanded, err, LIMIT,
               "%s: strided weights take more than %zu bytes beyond what is stored", what, PS_TORCH_MAX_EXPANDED);
    uint64_t each = w->limits.tensor_bytes ? w->limits.tensor_bytes : ps_memory_total();
    uint64_t all = w->limits.total_bytes ? w->limits.total_bytes : ps_memory_total();
    PS_FAIL_IF(bytes > each, err, LIMIT, "%s: has %zu bytes, a tensor may have %llu", what, bytes,
               (unsigned long long)each);
    PS_FAIL_IF(bytes > all - w->bytes, err, LIMIT, "%s: the weights exceed the %llu bytes that they may have", what,
               (unsigned long long)all);
    const uint8_t *first = n ? src + (size_t)p->offset * size : src;
    if (n && in_place(p, first)) {
        void *data = (void *)(uintptr_t)first; /* constants are not written to */
        PS_TRY(ps_tensor_new_view(w->alloc, p->dtype, &p->shape, data, p->archive->file, ret, err));
    } else {
        PS_TRY(ps_tensor_new(w->alloc, p->dtype, &p->shape, ret, err));
        if (n && row_major(p))
            memcpy((*ret)->data, first, bytes);
        else if (n)
            copy_strided(p, src, (*ret)->data, size);
    }
    w->expanded += beyond;
    w->bytes += bytes;
    w->elements += (size_t)n;
    return PS_OK;
}

static char *place_key(ps_torch_weights *w, const place *p) {
    ps_str s;
    ps_str_init(&s, w->alloc);
    ps_str_printf(&s, "%p %s/%s %d %lld", (const void *)p->archive, p->folder, p->path, (int)p->dtype,
                  (long long)p->offset);
    for (int i = 0; i < p->shape.rank; i++)
        ps_str_printf(&s, " %lld:%lld", (long long)p->shape.dims[i], (long long)p->strides[i]);
    char *key = s.failed ? NULL : ps_arena_strdup(&w->arena, s.data);
    ps_str_release(&s);
    return key;
}

static ps_status make(ps_torch_weights *w, const place *p, const char *what, ps_tensor **ret, ps_error *err) {
    char name[PS_ARCHIVE_MAX_NAME + 32];
    const uint8_t *src;
    const char *key = place_key(w, p);
    if (!key) return PS_FAIL_NOMEM(err, "the table of weights");
    ps_tensor *there = ps_map_get(&w->made, key);
    if (there) {
        *ret = ps_tensor_retain(there);
        return PS_OK;
    }
    ps_snprintf(name, sizeof name, "%s/%s", p->folder, p->path);
    const ps_archive_entry *e = ps_archive_find(p->archive, name);
    PS_FAIL_IF(!e, err, FORMAT, "%s: the archive holds no '%.200s'", what, name);
    PS_TRY(ps_archive_bytes(p->archive, e, true, &src, err));
    PS_TRY(take(w, p, src, e->size, what, ret, err));
    if (!ps_map_put(&w->made, key, *ret)) {
        ps_tensor_release(*ret);
        *ret = NULL;
        return PS_FAIL_NOMEM(err, "the table of weights");
    }
    ps_tensor_retain(*ret);
    return PS_OK;
}

static ps_status saved_place(const ps_torch_stored *s, const char *what, place *p, ps_error *err) {
    int64_t n;
    size_t bytes;
    PS_FAIL_IF(!ps_shape_elements(&s->shape, &n) || !ps_dtype_bytes(s->dtype, n, &bytes), err, LIMIT,
               "%s: is too large", what);
    p->folder = "data";
    p->path = s->key;
    p->dtype = s->dtype;
    p->shape = s->shape;
    p->offset = s->offset;
    memcpy(p->strides, s->strides, sizeof p->strides);
    return PS_OK;
}

ps_status ps_torch_weight(ps_torch_weights *w, const char *name, ps_tensor **ret, ps_error *err) {
    char what[200];
    place p = { .archive = w->archive, .folder = "data/weights" };
    ps_snprintf(what, sizeof what, "weight '%.150s'", name);
    for (size_t i = 0; i < 2; i++) {
        ps_torch_saved *saved = &w->saved[i];
        const ps_torch_stored *s = saved->tensors.alloc ? ps_map_get(&saved->tensors, name) : NULL;
        if (!s) continue;
        p.archive = &saved->archive;
        PS_TRY(saved_place(s, what, &p, err));
        return make(w, &p, what, ret, err);
    }
    const json_t *payload = json_object_get(w->config, name);
    if (!payload) {
        payload = json_object_get(w->constants, name);
        p.folder = "data/constants";
    }
    PS_FAIL_IF(!json_is_object(payload), err, FORMAT,
               "%s: the archive's tables of weights and constants do not list it", what);
    PS_TRY(read_place(payload, what, &p, err));
    return make(w, &p, what, ret, err);
}
