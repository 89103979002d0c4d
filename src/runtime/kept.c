/* kept.c - a model's optimised graph and its packed weights in the cache on disk, so that loading it again reads
 * instead of computing.
 *
 *   payload   0  8  "PSKEPT01"
 *             8  8  size of the description
 *            16  8  its hash
 *            24     description: what the file says of itself, inputs and outputs, tensors, graph, list of packed forms
 *                   content of the tensors that are read as they are, then the packed forms, in the order of the lists
 *
 * A weight that kernels hold in a packed form only is written by its hash: it comes back as a tensor whose content is
 * away, and who needs it has it read from the model's file, as after any load (src/backend/README.md). */
#include "runtime/kept.h"
#include "base/library.h"

static const char magic[8] = "PSKEPT01";

enum { HEAD_SIZE = 24, MAX_DESCRIPTION = 1 << 30 };

typedef enum content { CONTENT_HERE, CONTENT_BEHIND, CONTENT_AWAY, CONTENT_STRINGS, CONTENTS } content;

/* ---- the entry's key ---- */

typedef struct kept_key {
    uint64_t digest[2];
    char version[128], target[640];
    ps_cache_key key;
} kept_key;

/* What the bytes depend on beside the file: this very build, the processor and oneDNN, and what the load was told.
 * False: the build has no name, and code that packs otherwise could not be told from this. */
static bool make_key(const ps_model *m, kept_key *ret) {
    unsigned char id[32];
    char hex[2 * sizeof id + 1] = "";
    const size_t n = ps_library_build_id(id, sizeof id), size = strlen(m->cache_name);
    for (size_t i = 0; i < n; i++)
        ps_snprintf(hex + 2 * i, sizeof hex - 2 * i, "%02x", id[i]);
    ret->digest[0] = ps_hash_bytes(m->cache_name, size, 1);
    ret->digest[1] = ps_hash_bytes(m->cache_name, size, 2);
    ps_snprintf(ret->version, sizeof ret->version, "%s %s", PS_VERSION, hex);
    const ps_onnx_limits *l = &m->limits;
    ps_snprintf(ret->target, sizeof ret->target, "%s, %s, %s%s, limits %zu %d %llu %llu", m->device->name,
                m->device->hardware, m->device->driver, m->no_fusion ? ", no fusion" : "", l->nodes, l->depth,
                (unsigned long long)l->tensor_bytes, (unsigned long long)l->total_bytes);
    ret->key = (ps_cache_key) { "model", ret->digest, sizeof ret->digest, ret->version, ret->target };
    return n > 0;
}

/* ---- writing ---- */

typedef struct keeping {
    ps_model *model;
    ps_kept_out out;
    ps_str tensors; /* their list */
    ps_str packed;  /* the list of packed forms, so far without their number */
    size_t n_packed;
    PS_VEC(ps_cache_part) parts;
} keeping;

static ps_status add_part(keeping *k, const void *data, size_t size, ps_error *err) {
    const ps_cache_part part = { data, size };
    return ps_vec_push(k->model->alloc, &k->parts, part) ? PS_OK : PS_FAIL_NOMEM(err, "a model for the cache");
}

static void put_value_info(ps_kept_out *o, const ps_value_info *v) {
    ps_kept_put_text(o, v->name, strlen(v->name));
    ps_kept_put(o, (uint64_t)v->dtype);
    ps_kept_put_shape(o, &v->shape);
}

static void put_info(ps_kept_out *o, const ps_model *m) {
    const ps_onnx_info *f = &m->info;
    const char *producer = f->producer ? f->producer : "", *name = f->graph_name ? f->graph_name : "";
    ps_kept_put_text(o, producer, strlen(producer));
    ps_kept_put_text(o, name, strlen(name));
    ps_kept_put_signed(o, f->ir_version);
    ps_kept_put_signed(o, f->opset);
    ps_kept_put(o, f->file_bytes);
    ps_kept_put(o, f->nodes);
    ps_kept_put(o, f->parameters);
    ps_kept_put(o, f->weight_bytes);
    ps_kept_put(o, f->n_metadata);
    for (size_t i = 0; i < 2 * f->n_metadata; i++)
        ps_kept_put_text(o, f->metadata[i], strlen(f->metadata[i]));
    ps_kept_put(o, f->n_ops);
    for (size_t i = 0; i < f->n_ops; i++) {
        ps_kept_put_text(o, f->ops[i].name, strlen(f->ops[i].name));
        ps_kept_put(o, f->ops[i].count);
    }
    ps_kept_put(o, m->n_inputs);
    for (size_t i = 0; i < m->n_inputs; i++)
        put_value_info(o, &m->inputs[i]);
    ps_kept_put(o, m->n_outputs);
    for (size_t i = 0; i < m->n_outputs; i++)
        put_value_info(o, &m->outputs[i]);
}

static bool can_be_away(ps_dtype dtype, size_t bytes) {
    return bytes > PS_TENSOR_SMALL && (ps_dtype_is_float(dtype) || ps_dtype_is_int(dtype));
}

/* What is away now was packed, and no plan reads it as it is. */
static content content_of(const ps_tensor *t) {
    if (t->dtype == PS_DTYPE_STRING) return CONTENT_STRINGS;
    if (t->bytes <= PS_TENSOR_SMALL) return CONTENT_HERE;
    return atomic_load(&t->dropped) ? CONTENT_AWAY : CONTENT_BEHIND;
}

static void put_strings(ps_kept_out *o, const ps_tensor *t) {
    const ps_string *s = t->data;
    for (size_t i = 0; i < ps_tensor_count(t); i++)
        ps_kept_put_text(o, s[i].data ? s[i].data : "", s[i].size);
}

static ps_status put_tensor(keeping *k, const ps_tensor *t, ps_error *err) {
    ps_kept_out *o = &k->out;
    const content where = content_of(t);
    bool odd = ps_dtype_is_container(t->dtype) || t->strides || t->base;
    PS_FAIL_IF(odd, err, UNSUPPORTED, "the model has a constant that cannot be kept in the cache");
    ps_kept_put(o, (uint64_t)t->dtype);
    ps_kept_put_shape(o, &t->shape);
    ps_kept_put(o, (uint64_t)where);
    if (where == CONTENT_STRINGS) put_strings(o, t);
    if (where == CONTENT_HERE) ps_str_append_n(&o->bytes, t->data, t->bytes);
    if (where == CONTENT_AWAY || where == CONTENT_BEHIND) ps_kept_put(o, ps_tensor_hash_once(t));
    return where == CONTENT_BEHIND ? add_part(k, t->data, t->bytes, err) : PS_OK;
}

static ps_status put_packed(void *ctx, const ps_packed *p, ps_error *err) {
    keeping *k = ctx;
    ps_kept_put(&k->out, p->hash);
    ps_kept_put_text(&k->out, p->key, strlen(p->key));
    ps_kept_put(&k->out, p->size);
    k->n_packed++;
    return add_part(k, p->data, p->size, err);
}

/* Lists are written into one buffer, and stand before or behind others by how it is cut. */
typedef struct cuts {
    size_t info, graph, tensors, packed;
} cuts;

static ps_status describe(keeping *k, cuts *at, ps_error *err) {
    ps_kept_out *o = &k->out;
    put_info(o, k->model);
    at->info = o->bytes.size;
    PS_TRY(ps_kept_put_graph(o, k->model->graph, err));
    at->graph = o->bytes.size;
    ps_kept_put(o, o->tensors.size);
    for (size_t i = 0; i < o->tensors.size; i++)
        PS_TRY(put_tensor(k, o->tensors.data[i], err));
    at->tensors = o->bytes.size;
    PS_TRY(ps_weights_each(k->model->weights, put_packed, k, err));
    at->packed = o->bytes.size;
    ps_kept_put(o, k->n_packed);
    return o->bytes.failed ? PS_FAIL_NOMEM(err, "a model for the cache") : PS_OK;
}

/* In the order in which they are read: the graph needs its tensors, and a list its length. */
static ps_status join(keeping *k, const cuts *at, const char *note, ps_str *to, ps_error *err) {
    const char *from = k->out.bytes.data;
    ps_kept_out o = { .bytes = *to };
    ps_str_append_n(&o.bytes, magic, sizeof magic);
    ps_str_append_n(&o.bytes, (char[HEAD_SIZE - 8]) { 0 }, HEAD_SIZE - 8);
    ps_kept_put_text(&o, note, strlen(note));
    ps_str_append_n(&o.bytes, from, at->info);
    ps_str_append_n(&o.bytes, from + at->graph, at->tensors - at->graph);
    ps_str_append_n(&o.bytes, from + at->info, at->graph - at->info);
    ps_str_append_n(&o.bytes, from + at->packed, k->out.bytes.size - at->packed);
    ps_str_append_n(&o.bytes, from + at->tensors, at->packed - at->tensors);
    *to = o.bytes;
    if (to->failed) return PS_FAIL_NOMEM(err, "a model for the cache");
    const uint64_t size = to->size - HEAD_SIZE, hash = ps_hash_bytes(to->data + HEAD_SIZE, (size_t)size, 0);
    PS_FAIL_IF(size > MAX_DESCRIPTION, err, LIMIT, "the model's graph is too large for the cache");
    memcpy(to->data + 8, &size, sizeof size);
    memcpy(to->data + 16, &hash, sizeof hash);
    return PS_OK;
}

static ps_status keep(keeping *k, const char *note, ps_error *err) {
    kept_key key;
    cuts at;
    ps_str head;
    if (!make_key(k->model, &key)) return PS_FAIL(err, UNSUPPORTED, "this build has no name of its own");
    PS_TRY(add_part(k, NULL, 0, err)); /* the description's place */
    PS_TRY(describe(k, &at, err));
    ps_str_init(&head, k->model->alloc);
    ps_status status = join(k, &at, note, &head, err);
    k->parts.data[0] = (ps_cache_part) { head.data, head.size };
    if (status == PS_OK)
        status = ps_cache_put_parts(ps_engine_disk(k->model->engine), &key.key, k->parts.data, k->parts.size, err);
    ps_str_release(&head);
    return status;
}

static ps_status can_keep(const ps_model *m, ps_error *err) {
    PS_FAIL_IF(!m->cache_name || !m->path, err, UNSUPPORTED, "the model was loaded without a name for the cache");
    PS_FAIL_IF(m->device->ops->memory, err, UNSUPPORTED, "device '%s' has memory of its own, which is not cached",
               m->device->name);
    PS_FAIL_IF(m->info.external, err, UNSUPPORTED, "the model has files of weights beside it");
    PS_FAIL_IF(!ps_engine_disk(m->engine), err, UNSUPPORTED, "there is no cache on disk");
    return PS_OK;
}

ps_status ps_model_cache(ps_model *m, const char *note, ps_error *err) {
    PS_TRY(can_keep(m, err));
    keeping k = { .model = m };
    ps_mutex_lock(m->compile_lock); /* nothing is packed, nothing dropped meanwhile */
    const size_t packed = ps_weights_bytes(m->weights);
    const bool there = m->cached_bytes == packed + 1;
    ps_status status = PS_OK;
    if (!there) {
        ps_str_init(&k.out.bytes, m->alloc);
        ps_arena_init(&k.out.arena, m->alloc);
        ps_map_init(&k.out.places, m->alloc);
        status = keep(&k, note ? note : "", err);
        ps_map_release(&k.out.places);
        ps_arena_release(&k.out.arena);
        ps_vec_release(m->alloc, &k.out.tensors);
        ps_vec_release(m->alloc, &k.parts);
        ps_str_release(&k.out.bytes);
    }
    if (status == PS_OK) m->cached_bytes = packed + 1;
    ps_mutex_unlock(m->compile_lock);
    return status;
}

/* ---- reading ---- */

typedef struct packed_form {
    uint64_t hash, size;
    const char *key;
} packed_form;

typedef struct recalling {
    ps_model *model;
    ps_kept_in in;
    ps_arena scratch;
    ps_graph *graph;
    ps_weights *weights;
    ps_tensor **behind; /* tensors whose content follows */
    size_t n_behind;
    packed_form *packed;
    size_t n_packed;
    uint64_t most; /* bytes of the whole entry: nothing in it is larger */
} recalling;

static ps_status get_value_infos(ps_kept_in *in, ps_value_info **ret, size_t *ret_n, ps_error *err) {
    PS_TRY(ps_kept_get_count(in, ret_n, err));
    *ret = ps_arena_array(in->arena, *ret_n + 1, sizeof **ret);
    if (!*ret) return PS_FAIL_NOMEM(err, "a model from the cache");
    for (size_t i = 0; i < *ret_n; i++) {
        ps_value_info *v = &(*ret)[i];
        v->size = sizeof *v;
        PS_TRY(ps_kept_get_text(in, &v->name, NULL, err));
        PS_TRY(ps_kept_get_dtype(in, &v->dtype, err));
        PS_TRY(ps_kept_get_shape(in, SIZE_MAX, &v->shape, err)); /* symbols are not known yet: check_symbols */
    }
    return PS_OK;
}

static ps_status get_size(ps_kept_in *in, size_t *ret, ps_error *err) {
    uint64_t v;
    PS_TRY(ps_kept_get(in, SIZE_MAX, &v, err));
    *ret = (size_t)v;
    return PS_OK;
}

static ps_status get_names(ps_kept_in *in, ps_onnx_info *f, ps_error *err) {
    PS_TRY(ps_kept_get_count(in, &f->n_metadata, err));
    f->metadata = ps_arena_array(in->arena, 2 * f->n_metadata + 1, sizeof *f->metadata);
    if (!f->metadata) return PS_FAIL_NOMEM(err, "a model from the cache");
    for (size_t i = 0; i < 2 * f->n_metadata; i++)
        PS_TRY(ps_kept_get_text(in, &f->metadata[i], NULL, err));
    PS_TRY(ps_kept_get_count(in, &f->n_ops, err));
    f->ops = ps_arena_array(in->arena, f->n_ops + 1, sizeof *f->ops);
    if (!f->ops) return PS_FAIL_NOMEM(err, "a model from the cache");
    for (size_t i = 0; i < f->n_ops; i++) {
        PS_TRY(ps_kept_get_text(in, &f->ops[i].name, NULL, err));
        PS_TRY(get_size(in, &f->ops[i].count, err));
    }
    return PS_OK;
}

static ps_status get_info(ps_kept_in *in, ps_model *m, ps_error *err) {
    ps_onnx_info *f = &m->info;
    PS_TRY(ps_kept_get_text(in, &m->cache_note, NULL, err));
    PS_TRY(ps_kept_get_text(in, &f->producer, NULL, err));
    PS_TRY(ps_kept_get_text(in, &f->graph_name, NULL, err));
    PS_TRY(ps_kept_get_signed(in, &f->ir_version, err));
    PS_TRY(ps_kept_get_signed(in, &f->opset, err));
    PS_TRY(get_size(in, &f->file_bytes, err));
    PS_TRY(get_size(in, &f->nodes, err));
    PS_TRY(get_size(in, &f->parameters, err));
    PS_TRY(get_size(in, &f->weight_bytes, err));
    PS_TRY(get_names(in, f, err));
    PS_TRY(get_value_infos(in, &m->inputs, &m->n_inputs, err));
    return get_value_infos(in, &m->outputs, &m->n_outputs, err);
}

static ps_status check_symbols(const ps_value_info *v, size_t n, size_t n_symbols, ps_error *err) {
    for (size_t i = 0; i < n; i++)
        for (int d = 0; d < v[i].shape.rank; d++)
            if (v[i].shape.dims[d] < PS_DIM_UNKNOWN && (uint64_t)(-2 - v[i].shape.dims[d]) >= n_symbols)
                return ps_kept_broken(err);
    return PS_OK;
}

static ps_status get_strings(recalling *r, ps_dtype dtype, const ps_shape *shape, ps_tensor **ret, ps_error *err) {
    PS_TRY(ps_tensor_new(r->model->alloc, dtype, shape, ret, err));
    for (size_t i = 0; i < ps_tensor_count(*ret); i++) {
        size_t n;
        PS_TRY(ps_kept_get_count(&r->in, &n, err));
        PS_TRY(ps_tensor_set_string(*ret, i, (const char *)r->in.wire.at, n, err));
        r->in.wire.at += n;
    }
    return PS_OK;
}

static ps_status get_large(recalling *r, content where, ps_dtype dtype, const ps_shape *shape, ps_tensor **ret,
                           ps_error *err) {
    uint64_t hash;
    PS_TRY(ps_kept_get(&r->in, UINT64_MAX, &hash, err));
    if (!hash) return ps_kept_broken(err);
    if (where == CONTENT_AWAY) return ps_tensor_new_dropped(r->model->alloc, dtype, shape, hash, ret, err);
    PS_TRY(ps_tensor_new_unset(r->model->alloc, dtype, shape, ret, err));
    ps_tensor_know_hash(*ret, hash);
    r->behind[r->n_behind++] = *ret;
    return PS_OK;
}

static ps_status get_tensor(recalling *r, ps_tensor **ret, ps_error *err) {
    ps_dtype dtype;
    ps_shape shape;
    uint64_t where;
    int64_t n;
    size_t bytes;
    PS_TRY(ps_kept_get_dtype(&r->in, &dtype, err));
    PS_TRY(ps_kept_get_shape(&r->in, 0, &shape, err));
    PS_TRY(ps_kept_get(&r->in, CONTENTS - 1, &where, err));
    const uint64_t left = (uint64_t)(r->in.wire.end - r->in.wire.at);
    bool fits = ps_dtype_valid((int)dtype) && ps_shape_fixed(&shape) && ps_shape_elements(&shape, &n) &&
                ps_dtype_bytes(dtype, n, &bytes);
    if (!fits || (where == CONTENT_STRINGS) != (dtype == PS_DTYPE_STRING)) return ps_kept_broken(err);
    switch ((content)where) {
    case CONTENT_STRINGS: return (uint64_t)n > left ? ps_kept_broken(err) : get_strings(r, dtype, &shape, ret, err);
    case CONTENT_AWAY:
        if (!can_be_away(dtype, bytes) || (uint64_t)bytes > r->model->info.weight_bytes * UINT64_C(64))
            return ps_kept_broken(err);
        break;
    case CONTENT_BEHIND:
        if (bytes > r->most) return ps_kept_broken(err);
        break;
    default:
        if (bytes > left) return ps_kept_broken(err);
        PS_TRY(ps_tensor_new_unset(r->model->alloc, dtype, &shape, ret, err));
        if (bytes) memcpy((*ret)->data, r->in.wire.at, bytes);
        r->in.wire.at += bytes;
        return PS_OK;
    }
    return get_large(r, (content)where, dtype, &shape, ret, err);
}

static ps_status get_tensors(recalling *r, ps_error *err) {
    size_t n;
    PS_TRY(ps_kept_get_count(&r->in, &n, err));
    r->in.tensors = ps_arena_array(&r->scratch, n + 1, sizeof *r->in.tensors);
    r->behind = ps_arena_array(&r->scratch, n + 1, sizeof *r->behind);
    if (!r->in.tensors || !r->behind) return PS_FAIL_NOMEM(err, "a model from the cache");
    for (size_t i = 0; i < n; i++) {
        r->in.n_tensors = i + 1;
        PS_TRY(get_tensor(r, &r->in.tensors[i], err));
    }
    return PS_OK;
}

static ps_status get_packed_list(recalling *r, ps_error *err) {
    PS_TRY(ps_kept_get_count(&r->in, &r->n_packed, err));
    r->packed = ps_arena_array(&r->scratch, r->n_packed + 1, sizeof *r->packed);
    if (!r->packed) return PS_FAIL_NOMEM(err, "a model from the cache");
    r->in.arena = &r->scratch;
    for (size_t i = 0; i < r->n_packed; i++) {
        packed_form *p = &r->packed[i];
        PS_TRY(ps_kept_get(&r->in, UINT64_MAX, &p->hash, err));
        PS_TRY(ps_kept_get_text(&r->in, &p->key, NULL, err));
        PS_TRY(ps_kept_get(&r->in, r->most, &p->size, err));
    }
    return PS_OK;
}

static ps_status parse(recalling *r, const void *data, size_t size, ps_error *err) {
    ps_model *m = r->model;
    ps_wire_init(&r->in.wire, data, size);
    r->in.arena = &m->arena;
    PS_TRY(get_info(&r->in, m, err));
    PS_TRY(get_tensors(r, err));
    PS_TRY(ps_kept_get_graph(&r->in, m->alloc, &r->graph, err));
    PS_TRY(check_symbols(m->inputs, m->n_inputs, r->graph->n_symbols, err));
    PS_TRY(check_symbols(m->outputs, m->n_outputs, r->graph->n_symbols, err));
    if (m->n_inputs != r->graph->n_inputs || m->n_outputs != r->graph->n_outputs) return ps_kept_broken(err);
    PS_TRY(get_packed_list(r, err));
    return r->in.wire.at == r->in.wire.end ? PS_OK : ps_kept_broken(err);
}

/* Into the blocks where it stays. */
static ps_status read_large(recalling *r, ps_cache_reader *from, ps_error *err) {
    for (size_t i = 0; i < r->n_behind; i++)
        PS_TRY(ps_cache_reader_next(from, r->behind[i]->data, r->behind[i]->bytes, err));
    for (size_t i = 0; i < r->n_packed; i++) {
        const packed_form *p = &r->packed[i];
        void *data;
        PS_TRY(ps_weights_add(r->weights, p->hash, p->key, (size_t)p->size, &data, err));
        PS_TRY(ps_cache_reader_next(from, data, (size_t)p->size, err));
    }
    return PS_OK;
}

static ps_status read_description(recalling *r, ps_cache_reader *from, ps_error *err) {
    char head[HEAD_SIZE];
    uint64_t size, hash;
    PS_TRY(ps_cache_reader_next(from, head, sizeof head, err));
    memcpy(&size, head + 8, sizeof size);
    memcpy(&hash, head + 16, sizeof hash);
    if (memcmp(head, magic, sizeof magic) != 0 || size > r->most || size > MAX_DESCRIPTION) return ps_kept_broken(err);
    void *data = ps_alloc(r->model->alloc, (size_t)size);
    if (!data) return PS_FAIL_NOMEM(err, "a model from the cache");
    ps_status status = ps_cache_reader_next(from, data, (size_t)size, err);
    if (status == PS_OK && ps_hash_bytes(data, (size_t)size, 0) != hash) status = ps_kept_broken(err);
    if (status == PS_OK) status = parse(r, data, (size_t)size, err);
    ps_free(r->model->alloc, data);
    return status;
}

static ps_status read_entry(recalling *r, ps_cache_reader *from, ps_error *err) {
    ps_status status = read_description(r, from, err);
    if (status == PS_OK) status = read_large(r, from, err);
    if (status == PS_OK) return ps_cache_reader_end(from, err);
    ps_cache_reader_free(from);
    return status;
}

/* All of it, or nothing. */
static void settle(recalling *r, bool good) {
    ps_model *m = r->model;
    for (size_t i = 0; i < r->in.n_tensors; i++)
        ps_tensor_release(r->in.tensors[i]); /* the graph has its own references */
    ps_arena_release(&r->scratch);
    if (good) {
        ps_weights_free(m->weights);
        m->weights = r->weights;
        m->graph = r->graph;
        return;
    }
    ps_graph_free(r->graph);
    ps_weights_free(r->weights);
    ps_arena *arena = &m->info.arena;
    ps_arena_release(arena);
    m->info = (ps_onnx_info) { 0 };
    ps_arena_init(arena, m->alloc);
    m->inputs = m->outputs = NULL;
    m->n_inputs = m->n_outputs = 0;
    m->cache_note = NULL;
}

static void begin(recalling *r, ps_model *m, uint64_t most) {
    *r = (recalling) { .model = m, .most = most };
    ps_arena_init(&r->scratch, m->alloc);
}

static void finish(ps_model *m) {
    m->nodes_fused = m->graph->n_nodes;
    m->unit = (ps_unit) { .model = m, .graph = m->graph };
    m->cached_bytes = ps_weights_bytes(m->weights) + 1;
}

ps_status ps_model_recall(ps_model *m, ps_error *err) {
    kept_key key;
    ps_cache_reader *from;
    recalling r;
    uint64_t size;
    if (!m->cache_name || !m->device || m->device->ops->memory || !make_key(m, &key)) return PS_NOT_FOUND;
    PS_TRY(ps_cache_reader_open(ps_engine_disk(m->engine), &key.key, &from, &size, err));
    begin(&r, m, size);
    ps_status status = ps_weights_new(m->alloc, &r.weights, err);
    if (status == PS_OK)
        status = read_entry(&r, from, err);
    else
        ps_cache_reader_free(from);
    settle(&r, status == PS_OK);
    if (status == PS_OK) finish(m);
    return status;
}

ps_status ps_kept_parse(ps_model *m, const void *data, size_t size, ps_error *err) {
    recalling r;
    begin(&r, m, UINT32_MAX);
    ps_status status = parse(&r, data, size, err);
    settle(&r, false);
    return status;
}

const char *ps_model_cache_note(const ps_model *m) {
    return m->cache_note;
}
