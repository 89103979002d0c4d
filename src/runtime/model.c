/* model.c - loading a model, telling about it, and its cache of plans. */
#include "base/os.h"
#include "runtime/kept.h"

/* ---- loading ---- */

static ps_status declare(ps_model *m, ps_value *const *values, size_t n, ps_value_info **ret, ps_error *err) {
    ps_value_info *infos = ps_arena_array(&m->arena, n + 1, sizeof *infos);
    if (!infos) return PS_FAIL_NOMEM(err, "the model's tables");
    for (size_t i = 0; i < n; i++) {
        const ps_value *v = values[i];
        infos[i] = (ps_value_info) { sizeof *infos, ps_arena_strdup(&m->arena, v->name), v->dtype, v->shape };
        if (!v->is_input) {
            infos[i].dtype = v->declared_dtype ? v->declared_dtype : v->dtype;
            infos[i].shape = v->declared_shape;
        }
        if (!infos[i].name) return PS_FAIL_NOMEM(err, "the model's tables");
    }
    *ret = infos;
    return PS_OK;
}

static ps_pass_level pass_level(const ps_model *m) {
    return m->no_fusion ? PS_PASSES_BASIC : PS_PASSES_ALL;
}

/* The model's optimised form: symbolic shapes, weights folded. Reference runs keep the graph of the file. */
static ps_status optimize(ps_model *m, ps_error *err) {
    PS_TRY(ps_ops_resolve(m->graph, err));
    PS_TRY(declare(m, m->graph->inputs, m->graph->n_inputs, &m->inputs, err));
    PS_TRY(declare(m, m->graph->outputs, m->graph->n_outputs, &m->outputs, err));
    m->n_inputs = m->graph->n_inputs;
    m->n_outputs = m->graph->n_outputs;
    PS_TRY(ps_passes_run(m->graph, pass_level(m), &m->caps, err));
    for (size_t i = 0; i < m->n_outputs; i++) {
        const ps_value *v = m->graph->outputs[i];
        if (!m->outputs[i].dtype) m->outputs[i].dtype = v->dtype;
        if (m->outputs[i].shape.rank < 0) m->outputs[i].shape = v->shape;
    }
    m->nodes_fused = m->graph->n_nodes;
    m->unit = (ps_unit) { .model = m, .graph = m->graph };
    return PS_OK;
}

/* What kind of file it is, its content tells. */
static ps_status read_model(ps_alloc_state *alloc, const ps_onnx_source *from, ps_graph **ret, ps_onnx_info *info,
                            ps_error *err) {
    bool torch = from->path ? ps_torch_detect_file(from->path) : ps_torch_detect(from->data, from->size);
    return torch ? ps_torch_load(alloc, from, ret, info, err) : ps_onnx_load(alloc, from, ret, info, err);
}

/* The optimised graph once more, for weights whose plain form was given up. */
static ps_status reload(void *ctx, ps_graph **ret, ps_error *err) {
    ps_model *m = ctx;
    ps_graph *g = NULL;
    ps_onnx_info info;
    ps_onnx_source from = { .path = m->path, .limits = m->limits };
    PS_TRY(read_model(m->alloc, &from, &g, &info, err));
    ps_onnx_info_release(&info);
    ps_status status = ps_ops_resolve(g, err);
    if (status == PS_OK) status = ps_passes_run(g, pass_level(m), &m->caps, err);
    if (status != PS_OK) {
        ps_graph_free(g);
        return status;
    }
    *ret = g;
    return PS_OK;
}

/* A model that cannot be read again keeps its weights as they are beside the packed ones. */
static ps_status adopt_weights(ps_model *m, const char *path, ps_error *err) {
    if (!path) return PS_OK;
    PS_TRY(ps_path_real(m->alloc, path, &m->path, err));
    return ps_weights_adopt(m->weights, m->graph, reload, m, err);
}

/* ---- the device ----
 *
 * Finding one loads drivers, which takes longer than reading most models: the two go on at once. What the passes ask of
 * it is known before, but for products of codes: a graph that might have such waits for the device before it is
 * optimised. An error of the device is told before all others, as if it had been waited for. */

typedef struct opening {
    ps_engine *engine;
    const char *name;
    ps_device *device;
    ps_status status;
    ps_error err;
    ps_thread thread;
    bool started;
} opening;

static void open_device(void *ctx) {
    opening *o = ctx;
    o->status = ps_engine_device(o->engine, o->name, &o->device, &o->err);
}

static void use_device(ps_model *m, ps_device *device) {
    m->device = device;
    m->host = device->ops->memory ? m->engine->devices[0] : device;
}

static void begin_device(ps_model *m, opening *o) {
    m->caps = ps_devices_found_caps;
    if (ps_engine_device_waits(o->engine, o->name)) o->started = ps_thread_start(&o->thread, "device", open_device, o);
    if (o->started) return;
    open_device(o);
    if (o->status != PS_OK) return;
    use_device(m, o->device);
    m->caps = o->device->caps;
}

/* status: what became of the rest, which needs no m where it failed. */
static ps_status end_device(ps_model *m, opening *o, ps_status status, ps_error *err) {
    if (o->started) ps_thread_join(o->thread);
    o->started = false;
    if (o->status != PS_OK) {
        if (err) *err = o->err;
        return o->status;
    }
    if (status == PS_OK && !m->device) use_device(m, o->device);
    return status;
}

/* Operators on 8-bit codes, or that make floats of them. */
static bool has_codes(const ps_graph *g) {
    for (const ps_node *n = g->first; n; n = n->next)
        if (strstr(n->op_type, "uantize") || n->op_type[0] == 'Q' || strstr(n->op_type, "Integer")) return true;
    return false;
}

/* What the device that was found can do counts from here on, where that matters. */
static ps_status learn_device(ps_model *m, opening *o, ps_error *err) {
    if (m->device || !has_codes(m->graph)) return PS_OK;
    PS_TRY(end_device(m, o, PS_OK, err));
    m->caps = m->device->caps;
    return PS_OK;
}

static ps_status setup(ps_model *m, const ps_model_options *o, ps_error *err) {
    PS_FAIL_IF(o->threads < 0 || o->threads > 1024, err, INVALID, "threads is %d: it must lie in 0 … 1024", o->threads);
    m->threads = o->threads ? o->threads : m->engine->threads;
    m->cache_limit = o->plan_cache_bytes ? o->plan_cache_bytes : (size_t)64 << 20;
    m->no_fusion = o->no_fusion;
    PS_FAIL_IF(o->activations && o->activations != PS_DTYPE_F32 && o->activations != PS_DTYPE_F16, err, INVALID,
               "activations is %s: it must be f32 or f16", ps_dtype_name(o->activations));
    m->halves = o->activations == PS_DTYPE_F16;
    PS_FAIL_IF(o->tune_ms < 0, err, INVALID, "tune_ms is %lld: it must be 0 or more", (long long)o->tune_ms);
    if (o->tune_ms) m->tuning.until_ns = ps_clock_ns() + (o->tune_ms < INT32_MAX ? o->tune_ms : INT32_MAX) * 1000000;
    PS_FAIL_IF(o->loop_limit < 0, err, INVALID, "loop_limit is %lld: it must be 0 or more", (long long)o->loop_limit);
    m->loop_limit = o->loop_limit ? o->loop_limit : 10000000;
    m->shown_from = SIZE_MAX;
    PS_FAIL_IF(o->depth_limit < 0 || o->depth_limit > PS_MAX_SUBGRAPH_DEPTH, err, INVALID,
               "depth_limit is %d: it must lie in 0 … %d", o->depth_limit, PS_MAX_SUBGRAPH_DEPTH);
    m->limits = (ps_onnx_limits) { o->node_limit, o->depth_limit, o->tensor_limit, o->weight_limit };
    if (o->cache_name) {
        m->cache_name = ps_arena_strdup(&m->arena, o->cache_name);
        if (!m->cache_name) return PS_FAIL_NOMEM(err, "the model");
    }
    m->options = *o;
    m->options.device = NULL;
    m->options.cache_name = m->cache_name;
    m->options.tune_ms = 0;
    if (!ps_mutex_init(&m->lock)) return PS_FAIL_NOMEM(err, "a lock");
    if (!ps_mutex_init(&m->own_compile_lock)) {
        ps_mutex_destroy(&m->lock);
        return PS_FAIL_NOMEM(err, "a lock");
    }
    return PS_OK;
}

/* Once the device is known. */
static ps_status check_device(const ps_model *m, ps_error *err) {
    PS_FAIL_IF(m->halves && !m->device->ops->halves, err, UNSUPPORTED,
               "device '%s' stores activations as f32: f16 is for OpenCL devices", m->device->name);
    return PS_OK;
}

static void free_model(ps_model *m) {
    ps_engine *engine = m->engine;
    ps_model_memory_state *memory = m->memory;
    for (size_t i = 0; i < m->n_on; i++)
        if (m->on[i] != m) ps_model_release(m->on[i]);
    ps_unit_clear(&m->unit);
    ps_weights_free(m->weights);
    ps_graph_free(m->graph);
    ps_onnx_info_release(&m->info);
    ps_free(m->alloc, m->path);
    ps_arena_release(&m->arena);
    ps_mutex_destroy(&m->lock);
    ps_mutex_destroy(&m->own_compile_lock);
    ps_free(m->alloc, m);
    ps_engine_drop_memory(engine, memory);
}

static ps_status read_source(ps_model *m, ps_model_source *from, ps_error *err) {
    if (from->graph) {
        m->graph = from->graph;
        from->graph = NULL;
        return PS_OK;
    }
    ps_onnx_source source = { from->path, from->data, from->size, m->limits };
    return read_model(m->alloc, &source, &m->graph, &m->info, err);
}

/* What the cache has is not read and optimised again; whatever is wrong with it is no matter of the caller. Where it
 * finds no memory, the file would need more. */
static ps_status make_graph(ps_model *m, ps_model_source *from, opening *open, ps_error *err) {
    ps_error why = PS_ERROR_INIT;
    const ps_status kept = from->path && m->cache_name ? ps_model_recall(m, &why) : PS_NOT_FOUND;
    if (kept == PS_NO_MEMORY && err) *err = why;
    if (kept == PS_OK || kept == PS_NO_MEMORY) return kept;
    PS_TRY(read_source(m, from, err));
    PS_TRY(learn_device(m, open, err));
    return optimize(m, err);
}

/* Errors of a model from a file begin with the file's name; those of opening it have it already. */
static void name_file(ps_error *err, const char *path) {
    char quoted[256];
    const char *name = strrchr(path, '/');
    ps_snprintf(quoted, sizeof quoted, "'%s", path);
    if (!err || strstr(err->msg, quoted)) return;
    ps_error_prefix(err, "%.255s", strlen(path) > 200 && name ? name + 1 : path);
}

static ps_status new_model(ps_engine *engine, const ps_model_options *o, ps_model *face, opening *open, ps_model **ret,
                           ps_error *err) {
    ps_model_memory_state *memory = face ? ps_engine_add_memory(engine, face->alloc, 0)
                                         : ps_engine_add_memory(engine, &engine->models, o->memory_limit);
    if (!memory) return PS_FAIL_NOMEM(err, "the model");
    ps_model *m = ps_alloc_zero(&memory->alloc, sizeof *m);
    if (!m) {
        ps_engine_drop_memory(engine, memory);
        return PS_FAIL_NOMEM(err, "the model");
    }
    m->engine = engine;
    m->memory = memory;
    m->alloc = &memory->alloc;
    atomic_init(&m->refs, 1);
    atomic_init(&m->device_bytes, 0);
    m->compile_lock = face ? face->compile_lock : &m->own_compile_lock;
    m->on[0] = m;
    m->n_on = 1;
    ps_arena_init(&m->arena, m->alloc);
    ps_arena_init(&m->info.arena, m->alloc);
    open->name = o->device;
    begin_device(m, open);
    ps_status status = open->started ? PS_OK : open->status;
    if (status == PS_OK) status = setup(m, o, err);
    if (status != PS_OK) {
        status = end_device(NULL, open, status, err);
        ps_arena_release(&m->arena);
        ps_free(m->alloc, m);
        ps_engine_drop_memory(engine, memory);
        return status;
    }
    *ret = m;
    return PS_OK;
}

ps_status ps_model_make(ps_engine *engine, ps_model_source *from, const ps_model_options *o, ps_model *face,
                        ps_model **ret, ps_error *err) {
    ps_model *m;
    opening open = { .engine = engine, .err = PS_ERROR_INIT };
    PS_TRY(new_model(engine, o, face, &open, &m, err));
    ps_status status = ps_weights_new(m->alloc, &m->weights, err);
    if (status == PS_OK) status = make_graph(m, from, &open, err);
    status = end_device(m, &open, status, err);
    if (status == PS_OK) status = check_device(m, err);
    if (status == PS_OK) status = adopt_weights(m, from->path, err);
    if (status != PS_OK) {
        if (from->path && open.status == PS_OK) name_file(err, from->path);
        free_model(m);
        return status;
    }
    *ret = m;
    return PS_OK;
}

/* A graph of the caller's is one for each device. */
static ps_status clone_source(const ps_model_source *from, ps_graph **clones, size_t n, ps_error *err) {
    for (size_t i = 0; from->graph && i < n; i++)
        PS_TRY(ps_graph_clone(from->graph, &clones[i], NULL, err));
    return PS_OK;
}

static ps_status load_on(ps_engine *engine, ps_model_source *from, const ps_model_options *o, const char **names,
                         size_t n, ps_model **ret, ps_error *err) {
    ps_graph *clones[PS_MAX_DEVICES] = { NULL };
    ps_model_options first = *o;
    ps_model *m = NULL;
    first.device = names[0];
    ps_status status = clone_source(from, clones, n - 1, err);
    if (status == PS_OK) status = ps_model_make(engine, from, &first, NULL, &m, err);
    for (size_t i = 0; status == PS_OK && i < n; i++) {
        m->names[i] = ps_arena_strdup(&m->arena, names[i] ? names[i] : "auto");
        if (!m->names[i]) status = PS_FAIL_NOMEM(err, "the model");
    }
    if (status == PS_OK) {
        m->n_on = n;
        for (size_t i = 1; i < n; i++)
            m->on[i] = m; /* until there is that one */
        if (n > 1) status = ps_model_spread(m, from, clones, err);
    }
    for (size_t i = 0; i + 1 < n; i++)
        ps_graph_free(clones[i]);
    if (status != PS_OK) {
        ps_model_release(m);
        return status;
    }
    *ret = m;
    return PS_OK;
}

static ps_status load(ps_engine *engine, ps_model_source *from, const ps_model_options *options, ps_model **ret,
                      ps_error *err) {
    static const ps_model_options defaults = PS_MODEL_OPTIONS_INIT;
    const ps_model_options *o = options ? options : &defaults;
    const char *names[PS_MAX_DEVICES];
    size_t n = 0;
    ps_arena arena;
    PS_FAIL_IF(o->size != sizeof *o, err, INVALID, "ps_model_options.size is %zu, this library expects %zu", o->size,
               sizeof *o);
    ps_arena_init(&arena, &engine->alloc);
    ps_status status = ps_model_split_devices(o->device, &arena, names, &n, err);
    if (status == PS_OK) status = load_on(engine, from, o, names, n, ret, err);
    ps_arena_release(&arena);
    return status;
}

ps_status ps_model_from_graph(ps_engine *engine, ps_graph *graph, const ps_model_options *options, ps_model **ret,
                              ps_error *err) {
    ps_model_source from = { .graph = graph };
    ps_status status = load(engine, &from, options, ret, err);
    ps_graph_free(from.graph);
    return status;
}

ps_status ps_model_load(ps_engine *engine, const char *path, const ps_model_options *options, ps_model **ret,
                        ps_error *err) {
    PS_FAIL_IF(!engine || !path || !ret, err, INVALID, "ps_model_load: an argument is NULL");
    ps_model_source from = { .path = path };
    return load(engine, &from, options, ret, err);
}

ps_status ps_model_load_memory(ps_engine *engine, const void *data, size_t size, const ps_model_options *options,
                               ps_model **ret, ps_error *err) {
    PS_FAIL_IF(!engine || (!data && size) || !ret, err, INVALID, "ps_model_load_memory: an argument is NULL");
    ps_model_source from = { .data = data, .size = size };
    return load(engine, &from, options, ret, err);
}

ps_model *ps_model_retain(ps_model *m) {
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void ps_model_release(ps_model *m) {
    if (m && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1) free_model(m);
}

/* ---- telling ---- */

size_t ps_model_memory(const ps_model *m, size_t *ret_peak) {
    if (ret_peak) *ret_peak = atomic_load(&m->alloc->peak);
    return atomic_load(&m->alloc->bytes);
}

size_t ps_model_input_count(const ps_model *m) {
    return m->n_inputs;
}

size_t ps_model_output_count(const ps_model *m) {
    return m->n_outputs;
}

ps_status ps_model_input(const ps_model *m, size_t index, ps_value_info *ret) {
    if (index >= m->n_inputs) return PS_NOT_FOUND;
    *ret = m->inputs[index];
    return PS_OK;
}

ps_status ps_model_output(const ps_model *m, size_t index, ps_value_info *ret) {
    if (index >= m->n_outputs) return PS_NOT_FOUND;
    *ret = m->outputs[index];
    return PS_OK;
}

const char *ps_model_symbol(const ps_model *m, int64_t dim) {
    return ps_graph_symbol_name(m->graph, dim);
}

const char *ps_model_metadata(const ps_model *m, const char *key) {
    for (size_t i = 0; i < m->info.n_metadata; i++) {
        if (strcmp(m->info.metadata[2 * i], key) == 0) return m->info.metadata[2 * i + 1];
    }
    return NULL;
}

size_t ps_model_metadata_count(const ps_model *m) {
    return m->info.n_metadata;
}

ps_status ps_model_metadata_at(const ps_model *m, size_t index, const char **ret_key, const char **ret_value) {
    if (index >= m->info.n_metadata) return PS_NOT_FOUND;
    *ret_key = m->info.metadata[2 * index];
    *ret_value = m->info.metadata[2 * index + 1];
    return PS_OK;
}

ps_status ps_model_summarize(const ps_model *m, ps_model_summary *ret) {
    *ret = (ps_model_summary) {
        .size = sizeof *ret,
        .graph_name = m->info.graph_name ? m->info.graph_name : "",
        .producer = m->info.producer ? m->info.producer : "",
        .ir_version = m->info.ir_version,
        .opset = m->info.opset,
        .nodes = m->info.nodes,
        .nodes_fused = m->nodes_fused,
        .parameters = m->info.parameters,
        .weight_bytes = m->info.weight_bytes,
        .file_bytes = m->info.file_bytes,
    };
    return PS_OK;
}

ps_status ps_model_operator(const ps_model *m, size_t index, const char **ret_name, size_t *ret_count) {
    if (index >= m->info.n_ops) return PS_NOT_FOUND;
    *ret_name = m->info.ops[index].name;
    *ret_count = m->info.ops[index].count;
    return PS_OK;
}

ps_status ps_model_print(const ps_model *m, char **ret, ps_error *err) {
    ps_str s;
    ps_str_init(&s, m->alloc);
    ps_graph_print(m->graph, &s);
    char *text = ps_str_take(&s);
    if (!text) return PS_FAIL_NOMEM(err, "the graph's text");
    *ret = text;
    return PS_OK;
}

void ps_text_free(ps_model *m, char *text) {
    ps_free(m->alloc, text);
}

static void add_tuning(const ps_tuning *t, ps_model_tuning_info *ret) {
    ret->problems += t->problems;
    ret->tried += t->tried;
    ret->faster += t->faster;
    ret->wrong += t->wrong;
    ret->usual_ms += (double)t->usual_ns / 1e6;
    ret->chosen_ms += (double)t->best_ns / 1e6;
}

ps_status ps_model_tuning(ps_model *m, ps_model_tuning_info *ret) {
    if (!m || !ret || ret->size != sizeof *ret) return PS_INVALID;
    *ret = (ps_model_tuning_info) { .size = sizeof *ret };
    ps_mutex_lock(m->compile_lock);
    ps_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n_on; i++)
        add_tuning(&m->on[i]->tuning, ret);
    ps_mutex_unlock(&m->lock);
    ps_mutex_unlock(m->compile_lock);
    return PS_OK;
}
