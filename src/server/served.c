#include "server/served.h"

#include <string.h>

#include "base/error.h"
#include "base/map.h"
#include "base/os.h"
#include "server/probe.h"
#include "server/repository_path.h"
#include "server/schedule.h"
#include "server/warmup.h"

#define DIGEST_STEP ((size_t)1 << 20)
#define MAX_BATCH 1024

typedef ps_status (*info_fn)(const ps_model *model, size_t index, ps_value_info *ret_info);

/* The protocol knows tensors only. What exporters add behind a classifier of scikit-learn is a list of maps. */
static ps_status check_carried(const ps_served *s, const char *what, const ps_value_info *v, ps_error *err) {
    bool container = v->dtype == PS_DTYPE_SEQUENCE || v->dtype == PS_DTYPE_OPTIONAL || v->dtype == PS_DTYPE_MAP;
    PS_FAIL_IF(container, err, UNSUPPORTED,
               "model '%s': %s '%s' is of type %s, and the protocol carries tensors only: export the model without it "
               "(skl2onnx and onnxmltools: zipmap=False)",
               s->name, what, v->name, ps_dtype_name(v->dtype));
    PS_FAIL_IF(!*ps_dtype_v2_name(v->dtype), err, UNSUPPORTED,
               "model '%s': %s '%s' has element type %s, which the protocol cannot carry", s->name, what, v->name,
               ps_dtype_name(v->dtype));
    return PS_OK;
}

static ps_status read_values(ps_served *s, info_fn get, size_t n, const char *what, ps_value_info **ret,
                             ps_error *err) {
    ps_value_info *v = ps_arena_array(&s->arena, n ? n : 1, sizeof *v);
    if (!v) return PS_FAIL_NOMEM(err, "a model's inputs and outputs");
    for (size_t i = 0; i < n; i++) {
        v[i].size = sizeof v[i];
        PS_FAIL_IF(get(s->model, i, &v[i]) != PS_OK, err, INTERNAL, "model '%s': %s %zu cannot be read", s->name, what,
                   i);
        PS_TRY(check_carried(s, what, &v[i], err));
    }
    *ret = v;
    return PS_OK;
}

/* ---- the model's configuration ---- */

static ps_status check_config(const ps_served *s, const char *path, ps_error *err) {
    ps_status status = ps_model_config_check(&s->config, s->inputs, s->n_inputs, s->outputs, s->n_outputs, err);
    if (status != PS_OK) ps_error_prefix(err, "%s", path);
    return status;
}

/* --max-batch 1 switches batching off for all; else a model's own size counts. */
static uint32_t batch_limit(ps_served *s, uint32_t max_batch) {
    s->unbatched = "batching is off";
    if (max_batch < 2 || !s->config.has_max_batch) return max_batch;
    s->unbatched = "its configuration says so";
    return s->config.max_batch < MAX_BATCH ? (uint32_t)s->config.max_batch : MAX_BATCH;
}

/* ---- loading ---- */

/* What the trial said, kept with the model: the same file, build and processor would have it say so again. */
#define VERDICT_YES "rows are independent"
#define VERDICT_NO "rows depend: "

static ps_status probe(ps_served *s, ps_engine *engine, ps_error *why) {
    ps_probe probe = { engine, s->model, s->inputs, s->outputs, s->n_inputs, s->n_outputs };
    ps_status status;
    while ((status = ps_probe_batching(&probe, why)) == PS_NO_MEMORY && s->relieve && s->relieve(s->relieve_ctx))
        *why = (ps_error)PS_ERROR_INIT;
    return status;
}

static ps_status give_verdict(ps_served *s, ps_engine *engine, ps_error *err) {
    const char *known = ps_model_cache_note(s->model);
    ps_error why = PS_ERROR_INIT;
    if (known && *known) {
        s->verdict = ps_arena_strdup(&s->arena, known);
        s->may_keep = true;
    } else {
        ps_status status = probe(s, engine, &why);
        s->verdict = status == PS_OK ? ps_arena_strdup(&s->arena, VERDICT_YES)
                                     : ps_arena_printf(&s->arena, VERDICT_NO "%s", why.msg);
        s->may_keep = status != PS_NO_MEMORY;
    }
    return s->verdict ? PS_OK : PS_FAIL_NOMEM(err, "a served model");
}

/* A model that cannot be batched is served all the same; only out of memory is an error. */
static ps_status allow_batches(ps_served *s, ps_engine *engine, uint32_t limit, ps_error *err) {
    uint32_t max_batch = batch_limit(s, limit);
    s->max_batch = 1;
    if (max_batch < 2) return PS_OK;
    s->unbatched = "it keeps state between requests";
    if (s->sequences) return PS_OK;
    PS_TRY(give_verdict(s, engine, err));
    if (strcmp(s->verdict, VERDICT_YES) == 0)
        s->max_batch = max_batch;
    else
        s->unbatched = s->verdict + (strncmp(s->verdict, VERDICT_NO, strlen(VERDICT_NO)) == 0 ? strlen(VERDICT_NO) : 0);
    return PS_OK;
}

/* Reads the file once more, from the page cache. */
static ps_status digest_file(ps_served *s, const char *path, ps_error *err) {
    ps_file_map map;
    PS_TRY(ps_file_map_open(path, &map, err));
    for (size_t at = 0; at < map.size; at += DIGEST_STEP) {
        size_t n = map.size - at < DIGEST_STEP ? map.size - at : DIGEST_STEP;
        s->digest[0] = ps_hash_bytes(map.data + at, n, s->digest[0]);
        s->digest[1] = ps_hash_bytes(map.data + at, n, s->digest[1] + 1);
        ps_file_map_drop(&map, at, n);
    }
    ps_file_map_close(&map);
    return PS_OK;
}

/* The file's content by name, for the cache. What cannot be read is computed and learnt again. */
static void recall(ps_served *s, const char *path, ps_cache *cache, char *name, size_t size) {
    ps_error ignored = PS_ERROR_INIT;
    if (!cache || digest_file(s, path, &ignored) != PS_OK) return;
    s->cache = cache;
    ps_snprintf(name, size, "%016llx%016llx", (unsigned long long)s->digest[0], (unsigned long long)s->digest[1]);
    ps_schedule_recall(s);
}

/* The parameter memory_limit, in bytes or as 512M. */
static ps_status read_memory_limit(const ps_served *s, size_t *ret, ps_error *err) {
    const char *text = ps_model_config_parameter(&s->config, "memory_limit");
    *ret = 0;
    PS_FAIL_IF(text && !ps_size_parse(text, ret), err, FORMAT,
               "model '%s': the parameter memory_limit is '%.32s', not a size such as 512M", s->name, text);
    return PS_OK;
}

static ps_status read_weight(ps_served *s, ps_error *err) {
    const char *text = ps_model_config_parameter(&s->config, "weight");
    s->weight = 1;
    PS_FAIL_IF(text && !ps_weight_read(text, NULL, &s->weight), err, FORMAT,
               "model '%s': the parameter weight is '%.32s', not a number from 1 to 1000", s->name, text);
    return PS_OK;
}

static ps_status load_model(ps_served *s, ps_engine *engine, const char *path, const ps_model_options *options,
                            ps_error *err) {
    ps_status status = ps_model_load(engine, path, options, &s->model, err);
    if (status != PS_NO_MEMORY || !options->memory_limit) return status;
    return PS_FAIL(err, LIMIT, "model '%s' takes more than its memory_limit of %zu bytes", s->name,
                   options->memory_limit);
}

static ps_status warm_up(ps_served *s, ps_engine *engine, const char *config, ps_error *err) {
    if (!s->config.n_warmups) return PS_OK;
    char *folder = ps_path_parent(s->alloc, config);
    if (!folder) return PS_FAIL_NOMEM(err, "a path");
    ps_status status = ps_warmup_run(s, engine, folder, err);
    ps_free(s->alloc, folder);
    return status;
}

/* As the model has them, in its order. */
static ps_status list_places(ps_served *s, ps_used_devices *devices, ps_error *err) {
    ps_model_device_info info = { .size = sizeof info };
    size_t n = 0;
    while (ps_model_device(s->model, n, &info) == PS_OK)
        n++;
    s->places = ps_arena_array(&s->arena, n, sizeof *s->places);
    if (!s->places) return PS_FAIL_NOMEM(err, "a model's devices");
    for (size_t i = 0; i < n; i++) {
        (void)ps_model_device(s->model, i, &info);
        s->places[i].device = ps_used_devices_find(devices, info.name);
        PS_FAIL_IF(!s->places[i].device, err, INTERNAL, "model '%s' is on device '%s', which the server does not use",
                   s->name, info.name);
        s->n_places++;
    }
    return PS_OK;
}

static ps_status fill(ps_served *s, ps_engine *engine, const ps_served_options *o, ps_error *err) {
    ps_model_options options = PS_MODEL_OPTIONS_INIT;
    s->name = ps_arena_strdup(&s->arena, o->name);
    s->version = ps_arena_strdup(&s->arena, o->version);
    if (!s->name || !s->version) return PS_FAIL_NOMEM(err, "a model's name");
    PS_TRY(ps_model_config_load(o->config, &s->arena, &s->config, err));
    PS_TRY(ps_used_devices_choose(o->devices, &s->config.devices, &s->arena, &s->device, &s->elsewhere, err));
    options.device = s->device;
    options.activations = s->activations = o->activations;
    s->setup = o->setup;
    PS_TRY(read_memory_limit(s, &options.memory_limit, err));
    PS_TRY(read_weight(s, err));
    if (!options.memory_limit) s->relieve = o->relieve; /* its own limit is no matter of what others hold */
    s->relieve_ctx = o->relieve_ctx;
    char name[33] = "";
    recall(s, o->path, o->cache, name, sizeof name);
    if (*name) options.cache_name = name;
    PS_TRY(load_model(s, engine, o->path, &options, err));
    PS_TRY(list_places(s, o->devices, err));
    s->n_inputs = ps_model_input_count(s->model);
    s->n_outputs = ps_model_output_count(s->model);
    PS_TRY(read_values(s, ps_model_input, s->n_inputs, "input", &s->inputs, err));
    PS_TRY(read_values(s, ps_model_output, s->n_outputs, "output", &s->outputs, err));
    if (o->config) PS_TRY(check_config(s, o->config, err));
    PS_TRY(ps_photo_load(engine, o->path, &s->arena, &s->photo, err));
    const char *states = o->states;
    if (!states) PS_TRY(ps_model_config_states(&s->config, &s->arena, &states, err));
    PS_TRY(ps_sequences_load(engine, o->path, states, s->inputs, s->n_inputs, s->outputs, s->n_outputs, &s->sequences,
                             err));
    PS_TRY(allow_batches(s, engine, o->max_batch, err));
    return warm_up(s, engine, o->config, err);
}

ps_status ps_served_load(ps_engine *engine, const ps_served_options *options, ps_served **ret, ps_error *err) {
    ps_alloc_state *alloc = ps_engine_alloc(engine);
    ps_served *s = ps_alloc_zero(alloc, sizeof *s);
    if (!s) return PS_FAIL_NOMEM(err, "a served model");
    s->alloc = alloc;
    atomic_init(&s->refs, 1);
    atomic_init(&s->used_ns, ps_clock_ns());
    ps_arena_init(&s->arena, alloc);
    if (!ps_mutex_init(&s->lock)) {
        ps_free(alloc, s);
        return PS_FAIL_NOMEM(err, "a served model");
    }
    s->stats = ps_stats_retain(options->stats);
    ps_status status = fill(s, engine, options, err);
    if (status != PS_OK) {
        ps_served_release(s);
        return status;
    }
    ps_served_use(s); /* loading was none */
    *ret = s;
    return PS_OK;
}

ps_served *ps_served_retain(ps_served *s) {
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

static void free_idle_on(ps_served *s, ps_served_place *place) {
    for (int kind = 0; kind < PS_SESSION_KINDS; kind++) {
        for (size_t i = 0; i < place->idle[kind].size; i++)
            ps_session_free(place->idle[kind].data[i]);
        ps_vec_release(s->alloc, &place->idle[kind]);
    }
}

static void free_idle(ps_served *s) {
    for (size_t i = 0; i < s->n_places; i++)
        free_idle_on(s, &s->places[i]);
}

void ps_served_release(ps_served *s) {
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1) return;
    void (*on_gone)(void *ctx) = s->on_gone;
    void *ctx = s->gone_ctx;
    if (s->unschedule) s->unschedule(s->runner, s);
    ps_free(s->alloc, s->profiles);
    free_idle(s);
    ps_sequences_free(s->sequences);
    size_t peak = 0;
    if (s->model) (void)ps_served_memory(s, &peak);
    ps_stats_held(s->stats, peak);
    ps_model_release(s->model);
    ps_stats_release(s->stats);
    ps_mutex_destroy(&s->lock);
    ps_arena_release(&s->arena);
    ps_free(s->alloc, s);
    if (on_gone) on_gone(ctx);
}

void ps_served_keep(ps_served *s) {
    if (s->cache) (void)ps_model_cache(s->model, s->may_keep ? s->verdict : "", NULL); /* only a cache */
}

bool ps_served_was_kept(const ps_served *s) {
    return ps_model_cache_note(s->model) != NULL;
}

void ps_served_drop_idle(ps_served *s) {
    ps_mutex_lock(&s->lock);
    free_idle(s);
    ps_mutex_unlock(&s->lock);
}

void ps_served_retire(ps_served *s) {
    ps_mutex_lock(&s->lock);
    s->retired = true;
    free_idle(s);
    ps_mutex_unlock(&s->lock);
}

/* ---- sessions ---- */

static bool is_lost(ps_served *s, size_t place) {
    ps_model_device_info info = { .size = sizeof info };
    return ps_model_device(s->model, place, &info) != PS_OK || info.lost;
}

/* Where least is running, of all models; the first of equals. n_places: they are all lost. */
static size_t choose_place(ps_served *s) {
    size_t best = s->n_places;
    int least = 0;
    for (size_t i = 0; i < s->n_places; i++) {
        const int running = atomic_load_explicit(&s->places[i].device->running, memory_order_relaxed);
        if (is_lost(s, i) || (best < s->n_places && running >= least)) continue;
        best = i;
        least = running;
    }
    return best;
}

static void tell_lost(ps_served *s) {
    if (s->on_lost && !atomic_exchange(&s->lost_told, true)) s->on_lost(s->lost_ctx);
}

/* Sessions of a device that was lost are of no use. */
static ps_session *take_idle(ps_served *s, size_t place, ps_session_kind kind) {
    ps_session *session;
    do {
        ps_mutex_lock(&s->lock);
        ps_served_place *p = &s->places[place];
        session = p->idle[kind].size ? p->idle[kind].data[--p->idle[kind].size] : NULL;
        ps_mutex_unlock(&s->lock);
        if (!ps_session_lost(session)) return session;
        ps_session_free(session);
    } while (session);
    return NULL;
}

ps_status ps_served_take_session_on(ps_served *s, size_t place, ps_session_kind kind, ps_served_session *ret,
                                    ps_error *err) {
    ps_session_options options = PS_SESSION_OPTIONS_INIT;
    ps_session *session = take_idle(s, place, kind);
    options.threads = kind == PS_SESSION_NARROW ? 1 : 0;
    options.device = s->places[place].device->name;
    if (!session) PS_TRY(ps_session_create(s->model, &options, &session, err));
    atomic_fetch_add_explicit(&s->places[place].device->running, 1, memory_order_relaxed);
    *ret = (ps_served_session) { session, kind, place, ps_clock_ns() };
    return PS_OK;
}

/* A device may be lost while a session is made for it: the next one, then. */
ps_status ps_served_take_session(ps_served *s, ps_session_kind kind, ps_served_session *ret, ps_error *err) {
    for (size_t tries = 0; tries <= s->n_places; tries++) {
        const size_t place = choose_place(s);
        if (place == s->n_places) break;
        ps_status status = ps_served_take_session_on(s, place, kind, ret, err);
        if (status == PS_OK || !is_lost(s, place)) return status;
        tell_lost(s);
        if (err) *err = (ps_error)PS_ERROR_INIT;
    }
    tell_lost(s);
    return PS_FAIL(err, UNAVAILABLE, "model '%s' waits for device '%.200s', which was lost, to be opened again",
                   s->name, s->device);
}

bool ps_served_put_session(ps_served *s, ps_served_session *taken) {
    ps_served_place *place = &s->places[taken->place];
    const bool lost = ps_session_lost(taken->session);
    atomic_fetch_sub_explicit(&place->device->running, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&place->device->runs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&place->device->busy_ns, (unsigned long long)(ps_clock_ns() - taken->since_ns),
                              memory_order_relaxed);
    ps_mutex_lock(&s->lock);
    bool kept = !s->retired && !lost && ps_vec_push(s->alloc, &place->idle[taken->kind], taken->session);
    ps_mutex_unlock(&s->lock);
    if (!kept) ps_session_free(taken->session);
    taken->session = NULL;
    if (lost) tell_lost(s);
    return !lost;
}

size_t ps_served_lost(ps_served *s, bool *ret_all) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_places; i++)
        n += is_lost(s, i);
    *ret_all = n == s->n_places;
    return n;
}

ps_status ps_served_reopen(ps_served *s, ps_error *err) {
    ps_status status;
    ps_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n_places; i++)
        if (is_lost(s, i)) free_idle_on(s, &s->places[i]);
    ps_mutex_unlock(&s->lock);
    atomic_store(&s->lost_told, false); /* another loss meanwhile is a new one */
    while ((status = ps_model_reopen(s->model, NULL, err)) == PS_NO_MEMORY && s->relieve && s->relieve(s->relieve_ctx))
        if (err) *err = (ps_error)PS_ERROR_INIT;
    return status;
}

size_t ps_served_memory(ps_served *s, size_t *ret_peak) {
    size_t peak, now = ps_model_memory(s->model, &peak);
    if (ret_peak) *ret_peak = peak + s->arena.bytes;
    return now + s->arena.bytes;
}

void ps_served_use(ps_served *s) {
    atomic_store_explicit(&s->used_ns, ps_clock_ns(), memory_order_relaxed);
}

int64_t ps_served_used(const ps_served *s) {
    return atomic_load_explicit(&s->used_ns, memory_order_relaxed);
}

static int find(const ps_value_info *values, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(values[i].name, name) == 0) return (int)i;
    return -1;
}

int ps_served_find_input(const ps_served *s, const char *name) {
    return find(s->inputs, s->n_inputs, name);
}

int ps_served_find_output(const ps_served *s, const char *name) {
    return find(s->outputs, s->n_outputs, name);
}
