/* engine.c - the process-wide object. */
#include "base/os.h"
#include "runtime/runtime_int.h"

#include <stdlib.h>

ps_alloc_state *ps_engine_alloc(ps_engine *engine) {
    return &engine->alloc;
}

ps_alloc_state *ps_engine_models_alloc(ps_engine *engine) {
    return &engine->models;
}

const ps_log *ps_engine_log(const ps_engine *engine) {
    return &engine->log;
}

/* Beyond what the machine has, the kernel would end some process instead of saying no; a sixteenth stays for code,
 * stacks and what oneDNN takes itself. A caller's own allocator knows its limits. */
static size_t memory_limit(const ps_engine_options *o) {
    uint64_t total = ps_memory_total();
    if (o->allocator || total == UINT64_MAX) return 0;
    total -= total / 16;
    return total < SIZE_MAX ? (size_t)total : SIZE_MAX;
}

static ps_status fill(ps_engine *e, const ps_engine_options *o, ps_error *err) {
    e->cache_bytes = o->cache_bytes;
    if (o->cache_dir) {
        e->cache_dir = ps_strdup(&e->alloc, o->cache_dir);
        if (!e->cache_dir) return PS_FAIL_NOMEM(err, "the cache folder's name");
    }
    ps_str_init(&e->advice, &e->alloc);
    if (!ps_mutex_init(&e->discover_lock)) return PS_FAIL_NOMEM(err, "a lock");
    e->lock_made = true;
    PS_FAIL_IF(o->threads < 0 || o->threads > 1024, err, INVALID, "threads is %d: it must lie in 0 … 1024", o->threads);
    e->threads = o->threads ? o->threads : ps_cpu_count();
    e->log = (ps_log) { o->log, o->log_ctx };
    return ps_devices_create(&e->alloc, e->devices, PS_MAX_DEVICES, &e->n_devices, err);
}

/* ---- memory of models ---- */

static void drop_next(ps_engine *e, ps_model_memory_state **at) {
    ps_model_memory_state *m = *at;
    *at = m->next;
    ps_free(&e->alloc, m);
}

/* Those that tensors held on to, now gone. */
static void drop_empty(ps_engine *e) {
    ps_mutex_lock(&e->lock);
    for (ps_model_memory_state **at = &e->left; *at;) {
        if (atomic_load(&(*at)->alloc.bytes) == 0)
            drop_next(e, at);
        else
            at = &(*at)->next;
    }
    ps_mutex_unlock(&e->lock);
}

ps_model_memory_state *ps_engine_add_memory(ps_engine *e, ps_alloc_state *above, size_t limit) {
    drop_empty(e);
    ps_model_memory_state *m = ps_alloc_zero(&e->alloc, sizeof *m);
    if (!m) return NULL;
    ps_alloc_state_init_below(&m->alloc, above);
    atomic_store(&m->alloc.limit, limit);
    return m;
}

void ps_engine_drop_memory(ps_engine *e, ps_model_memory_state *m) {
    ps_mutex_lock(&e->lock);
    m->next = e->left;
    e->left = m;
    ps_mutex_unlock(&e->lock);
    drop_empty(e);
}

ps_status ps_engine_cache(ps_engine *e, ps_cache **ret, ps_error *err) {
    ps_status status = PS_OK;
    ps_mutex_lock(&e->lock);
    if (!e->cache_open) status = ps_cache_open(&e->alloc, e->cache_dir, e->cache_bytes, &e->cache, err);
    e->cache_open = status == PS_OK;
    *ret = e->cache;
    ps_mutex_unlock(&e->lock);
    return status;
}

ps_cache *ps_engine_disk(ps_engine *e) {
    ps_cache *cache = NULL;
    return ps_engine_cache(e, &cache, NULL) == PS_OK ? cache : NULL;
}

/* ---- life ---- */

ps_status ps_engine_create(const ps_engine_options *options, ps_engine **ret, ps_error *err) {
    static const ps_engine_options defaults = PS_ENGINE_OPTIONS_INIT;
    const ps_engine_options *o = options ? options : &defaults;
    PS_FAIL_IF(o->size != sizeof *o, err, INVALID, "ps_engine_options.size is %zu, this library expects %zu", o->size,
               sizeof *o);
    PS_FAIL_IF(!ret, err, INVALID, "ps_engine_create: ret_engine is NULL");
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, o->allocator);
    ps_engine *e = ps_alloc_zero(&alloc, sizeof *e);
    if (!e) return PS_FAIL_NOMEM(err, "the engine");
    ps_alloc_state_init(&e->alloc, o->allocator);
    ps_alloc_state_init_below(&e->models, &e->alloc);
    atomic_store(&e->alloc.limit, memory_limit(o));
    if (!ps_mutex_init(&e->lock)) {
        ps_free(&alloc, e);
        return PS_FAIL_NOMEM(err, "the engine");
    }
    ps_status status = fill(e, o, err);
    if (status != PS_OK) {
        ps_engine_free(e);
        return status;
    }
    *ret = e;
    return PS_OK;
}

void ps_engine_free(ps_engine *e) {
    if (!e) return;
    for (size_t i = 0; i < e->n_devices; i++)
        ps_device_free(e->devices[i]);
    for (size_t i = 0; i < e->lost.size; i++)
        ps_device_free(e->lost.data[i]);
    ps_vec_release(&e->alloc, &e->lost);
    if (e->lock_made) ps_mutex_destroy(&e->discover_lock);
    if (e->lock_made) ps_str_release(&e->advice);
    ps_cache_close(e->cache);
    ps_free(&e->alloc, e->cache_dir);
    while (e->left)
        drop_next(e, &e->left);
    ps_mutex_destroy(&e->lock);
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, &e->alloc.user);
    atomic_store(&alloc.bytes, SIZE_MAX); /* the state that counted the engine itself is gone */
    ps_free(&alloc, e);
}

int ps_engine_threads(const ps_engine *e) {
    return e->threads;
}

size_t ps_engine_memory(const ps_engine *e, size_t *ret_peak) {
    if (ret_peak) *ret_peak = atomic_load(&e->alloc.peak);
    return atomic_load(&e->alloc.bytes);
}

/* ---- devices ---- */

#define OWN_DEVICES 2 /* "cpu" and "ref" */

static void prepare_locked(ps_engine *e) {
    if (!e->prepared) ps_devices_prepare();
    e->prepared = true;
}

/* A driver that fails is told about as advice: the machine's other devices work. */
static void discover_locked(ps_engine *e) {
    ps_error err = PS_ERROR_INIT;
    if (e->discovered) return;
    e->discovered = true;
    prepare_locked(e);
    ps_status status =
        ps_devices_discover(&e->alloc, ps_engine_disk(e), e->devices, PS_MAX_DEVICES, &e->n_devices, &e->advice, &err);
    if (status != PS_OK) ps_str_printf(&e->advice, "%s\n", err.msg);
    for (const char *line = e->advice.data; *line;) {
        const int n = (int)strcspn(line, "\n");
        ps_log_line(&e->log, PS_LOG_INFO, "event=device-advice text=\"%.*s\"", n, line);
        line += n + (line[n] != 0);
    }
}

static void discover(ps_engine *e) {
    ps_mutex_lock(&e->discover_lock);
    discover_locked(e);
    ps_mutex_unlock(&e->discover_lock);
}

static ps_device *find_device(const ps_engine *e, const char *name) {
    bool gpu = strcmp(name, "gpu") == 0;
    for (size_t i = 0; i < e->n_devices; i++) {
        if (gpu ? e->devices[i]->ops->memory != NULL : strcmp(e->devices[i]->name, name) == 0) return e->devices[i];
    }
    return NULL;
}

static ps_status refuse_device(ps_engine *e, const char *name, ps_error *err) {
    ps_str known;
    ps_str_init(&known, &e->alloc);
    for (size_t i = 0; i < e->n_devices; i++)
        ps_str_printf(&known, "%s%s", i ? ", " : "", e->devices[i]->name);
    const int n = (int)strcspn(e->advice.data, "\n");
    ps_status status = PS_FAIL(err, NOT_FOUND, "device '%.64s' is not there: this machine has %s%s%.*s", name,
                               known.data, n ? "; " : "", n, e->advice.data);
    ps_str_release(&known);
    return status;
}

static bool is_lost(ps_device *d) {
    return d && d->ops->memory && d->ops->memory->lost(d);
}

/* Another in the place of a lost device; that one stays for the models that are on it, until the engine goes. */
static ps_status replace_device(ps_engine *e, ps_device **device, ps_error *err) {
    ps_device *old = *device, *fresh = NULL;
    if (!ps_vec_push(&e->alloc, &e->lost, old)) return PS_FAIL_NOMEM(err, "a device");
    const ps_status status = old->ops->memory->reopen(old, &fresh, err);
    if (status != PS_OK) {
        e->lost.size--;
        return status;
    }
    atomic_store(&fresh->limit, atomic_load(&old->limit));
    for (size_t i = 0; i < e->n_devices; i++)
        if (e->devices[i] == old) e->devices[i] = fresh;
    ps_log_line(&e->log, PS_LOG_WARN, "event=device-reopened device=%s", fresh->name);
    *device = fresh;
    return PS_OK;
}

static bool is_own(const char *name) {
    return !name || strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0 || strcmp(name, "ref") == 0;
}

bool ps_engine_device_waits(ps_engine *e, const char *name) {
    if (is_own(name)) return false;
    ps_mutex_lock(&e->discover_lock);
    const bool waits = !e->discovered;
    if (waits) prepare_locked(e);
    ps_mutex_unlock(&e->discover_lock);
    return waits;
}

/* reopen: a lost device is replaced. */
static ps_status get_device(ps_engine *e, const char *name, bool reopen, ps_device **ret, ps_error *err) {
    if (!name || strcmp(name, "auto") == 0) name = "cpu";
    bool own = is_own(name);
    ps_status status = PS_OK;
    ps_mutex_lock(&e->discover_lock);
    if (!own) discover_locked(e);
    *ret = find_device(e, name);
    if (!*ret) status = refuse_device(e, name, err);
    if (reopen && is_lost(*ret)) status = replace_device(e, ret, err);
    ps_mutex_unlock(&e->discover_lock);
    return status;
}

ps_status ps_engine_device(ps_engine *e, const char *name, ps_device **ret, ps_error *err) {
    return get_device(e, name, true, ret, err);
}

ps_status ps_engine_find_device(ps_engine *e, const char *name, ps_device_info *ret, ps_error *err) {
    ps_device *d;
    PS_FAIL_IF(!e || !ret || ret->size != sizeof *ret, err, INVALID, "ps_engine_find_device: an argument is NULL");
    PS_TRY(get_device(e, name, false, &d, err));
    *ret = d->info;
    return PS_OK;
}

ps_status ps_engine_device_memory(ps_engine *e, const char *name, size_t *ret_held, size_t *ret_limit, ps_error *err) {
    ps_device *d;
    *ret_held = *ret_limit = 0;
    PS_TRY(get_device(e, name, false, &d, err)); /* who only looks opens nothing */
    if (!d->ops->memory) return PS_OK;
    const size_t limit = atomic_load(&d->limit);
    *ret_held = atomic_load(&d->held);
    *ret_limit = limit ? limit : (size_t)d->info.memory;
    return PS_OK;
}

ps_status ps_engine_limit_device(ps_engine *e, const char *name, size_t bytes, ps_error *err) {
    ps_device *d;
    PS_TRY(ps_engine_device(e, name, &d, err));
    PS_FAIL_IF(!d->ops->memory, err, INVALID, "device '%s' has no memory of its own to limit", d->name);
    atomic_store(&d->limit, bytes);
    return PS_OK;
}

ps_status ps_engine_measure_device(ps_engine *e, const char *name, double *ret_flops, double *ret_bytes,
                                   ps_error *err) {
    ps_device *d;
    PS_FAIL_IF(!e || !ret_flops || !ret_bytes, err, INVALID, "ps_engine_measure_device: an argument is NULL");
    PS_TRY(ps_engine_device(e, name, &d, err));
    PS_FAIL_IF(!d->ops->memory, err, UNSUPPORTED, "device '%s' has no memory of its own: it is not measured", d->name);
    return d->ops->memory->measure(d, ret_flops, ret_bytes, err);
}

size_t ps_engine_device_count(ps_engine *e) {
    discover(e);
    return e->n_devices;
}

ps_status ps_engine_device_info(ps_engine *e, size_t index, ps_device_info *ret) {
    if (!e || !ret || ret->size != sizeof *ret) return PS_INVALID;
    if (index >= OWN_DEVICES) discover(e);
    if (index >= e->n_devices) return PS_NOT_FOUND;
    ps_mutex_lock(&e->discover_lock);
    *ret = e->devices[index]->info;
    ps_mutex_unlock(&e->discover_lock);
    return PS_OK;
}

ps_status ps_engine_device_advice(ps_engine *e, size_t index, char *text, size_t size) {
    discover(e);
    const char *line = e->advice.data;
    for (; *line && index; index--)
        line += strcspn(line, "\n") + 1;
    if (!*line) return PS_NOT_FOUND;
    ps_snprintf(text, size, "%.*s", (int)strcspn(line, "\n"), line);
    return PS_OK;
}

const char *ps_version(void) {
    return PS_VERSION;
}

const char *ps_build_info(void) {
    return "polestar " PS_VERSION
#if defined(__clang__)
           ", clang " __clang_version__
#elif defined(__GNUC__)
           ", gcc " __VERSION__
#endif
#ifdef PS_WITH_DNNL
           ", oneDNN"
#endif
#ifdef PS_WITH_OPENCL
           ", OpenCL"
#endif
#ifdef PS_PARALLEL_PTHREADS
           ", pthreads";
#else
           ", OpenMP";
#endif
}
