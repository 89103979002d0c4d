#include "server/model_config.h"

#include <string.h>

#include "base/os.h"
#include "server/config_tree.h"

typedef struct reader {
    const ps_config_tree *tree;
    ps_arena *arena;
    ps_model_config *config;
    const char *where; /* the message that is read, for names in the log: "" or "dynamic_batching." */
} reader;

typedef ps_status (*read_fn)(reader *r, const ps_config_node *node, ps_error *err);

typedef struct field {
    const char *name;
    read_fn read;
} field;

void ps_model_config_init(ps_model_config *config) {
    *config = (ps_model_config) { .latest = 1 };
}

const char *ps_model_config_parameter(const ps_model_config *config, const char *key) {
    for (size_t i = 0; i < config->n_parameters; i++)
        if (strcmp(config->parameters[i].key, key) == 0) return config->parameters[i].value;
    return NULL;
}

/* ---- fields ---- */

/* Each name once. */
static ps_status unsupported(reader *r, const ps_config_node *node, ps_error *err) {
    ps_model_config *c = r->config;
    const char *name = ps_arena_printf(r->arena, "%s%.64s", r->where, node->name);
    if (!name) return PS_FAIL_NOMEM(err, "a model's configuration");
    for (size_t i = 0; i < c->n_unsupported; i++)
        if (strcmp(c->unsupported[i], name) == 0) return PS_OK;
    if (c->n_unsupported < PS_CONFIG_MAX_UNSUPPORTED) c->unsupported[c->n_unsupported++] = name;
    return PS_OK;
}

/* Something that is known and says nothing here. */
static ps_status accept(reader *r, const ps_config_node *node, ps_error *err) {
    return PS_OK;
}

static ps_status read_fields(reader *r, const ps_config_node *message, const char *where, const field *fields,
                             ps_error *err) {
    PS_TRY(ps_config_message(message, err));
    for (const ps_config_node *n = message->first; n; n = n->next) {
        const field *f = fields;
        r->where = where;
        while (f->name && !ps_config_is(n, f->name))
            f++;
        PS_TRY(f->name ? f->read(r, n, err) : unsupported(r, n, err));
    }
    return PS_OK;
}

static bool word_is(const ps_config_node *node, const char *word) {
    return node->kind != PS_CONFIG_MESSAGE && strcmp(node->text.data, word) == 0;
}

/* Members of one name in a message, at most max. */
static ps_status count(const ps_config_node *message, const char *name, size_t max, size_t *ret, ps_error *err) {
    *ret = 0;
    for (const ps_config_node *n = message->first; n; n = n->next) {
        if (!ps_config_is(n, name)) continue;
        PS_FAIL_IF(++*ret > max, err, LIMIT, "line %zu: there are more than %zu of '%s'", n->line, max, name);
    }
    return PS_OK;
}

/* Room for all members of one name. */
static ps_status make_list(reader *r, const ps_config_node *message, const char *name, size_t max, size_t size,
                           void *ret, ps_error *err) {
    size_t n;
    PS_TRY(count(message, name, max, &n, err));
    void *list = ps_arena_array(r->arena, n + 1, size);
    if (!list) return PS_FAIL_NOMEM(err, "a model's configuration");
    memcpy(ret, &list, sizeof list);
    return PS_OK;
}

/* ---- tensors ---- */

/* "TYPE_FP32"; bytes are TYPE_STRING. */
static ps_status read_type(const ps_config_node *node, ps_dtype *ret, ps_error *err) {
    const char *text;
    PS_TRY(ps_config_string(node, &text, err));
    const char *name = strncmp(text, "TYPE_", 5) == 0 ? text + 5 : "?";
    *ret = strcmp(name, "STRING") == 0 ? PS_DTYPE_STRING : ps_dtype_parse(name);
    bool known = strcmp(name, *ret == PS_DTYPE_STRING ? "STRING" : ps_dtype_v2_name(*ret)) == 0;
    PS_FAIL_IF(!known || *ret == PS_DTYPE_UNDEFINED, err, FORMAT,
               "line %zu: '%.64s' is '%.64s', not a type such as TYPE_FP32 or TYPE_STRING", node->line, node->name,
               text);
    return PS_OK;
}

/* One more dim. */
static ps_status read_dim(const ps_config_node *node, int64_t min, ps_shape *shape, ps_error *err) {
    int64_t dim;
    if (shape->rank < 0) shape->rank = 0;
    PS_TRY(ps_config_int(node, min, INT64_MAX, &dim, err));
    PS_FAIL_IF(shape->rank == PS_MAX_RANK, err, LIMIT, "line %zu: a tensor has more than %d dims", node->line,
               PS_MAX_RANK);
    shape->dims[shape->rank++] = dim;
    return PS_OK;
}

/* Of a layout nothing is computed; what an input may be left out for, the model itself says. */
static ps_status read_tensor(reader *r, const ps_config_node *node, const char *where, ps_config_tensor *t,
                             ps_error *err) {
    bool reshaped = false;
    *t = (ps_config_tensor) { .shape = { .rank = -1 } };
    PS_TRY(ps_config_message(node, err));
    r->where = where;
    for (const ps_config_node *n = node->first; n; n = n->next) {
        if (ps_config_is(n, "name")) {
            PS_TRY(ps_config_string(n, &t->name, err));
        } else if (ps_config_is(n, "data_type")) {
            PS_TRY(read_type(n, &t->dtype, err));
        } else if (ps_config_is(n, "dims")) {
            PS_TRY(read_dim(n, -1, &t->shape, err));
        } else if (ps_config_is(n, "reshape")) { /* dims are the client's then, not the model's */
            reshaped = true;
            PS_TRY(unsupported(r, n, err));
        } else if (!ps_config_is(n, "optional") && !(ps_config_is(n, "format") && word_is(n, "FORMAT_NONE"))) {
            PS_TRY(unsupported(r, n, err));
        }
    }
    if (reshaped) t->shape.rank = -1;
    PS_FAIL_IF(!t->name, err, FORMAT, "line %zu: an %s has no name", node->line, node->name);
    return PS_OK;
}

static ps_status read_input(reader *r, const ps_config_node *node, ps_error *err) {
    return read_tensor(r, node, "input.", &r->config->inputs[r->config->n_inputs++], err);
}

static ps_status read_output(reader *r, const ps_config_node *node, ps_error *err) {
    return read_tensor(r, node, "output.", &r->config->outputs[r->config->n_outputs++], err);
}

/* ---- names ---- */

static ps_status read_name(reader *r, const ps_config_node *node, ps_error *err) {
    return ps_config_string(node, &r->config->name, err);
}

/* What is served is what the file holds; a word for something else must not be passed over. */
static ps_status read_platform(reader *r, const ps_config_node *node, ps_error *err) {
    static const char *const ours[] = { "",         "onnxruntime_onnx", "onnxruntime", "polestar_onnx",
                                        "polestar", "pytorch_libtorch", "pytorch" };
    const char *text;
    PS_TRY(ps_config_string(node, &text, err));
    PS_FAIL_IF(strcmp(text, "ensemble") == 0, err, UNSUPPORTED,
               "line %zu: ensembles are not supported: let the client call its models one after the other", node->line);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(text, ours[i]) == 0) return PS_OK;
    return PS_FAIL(err, UNSUPPORTED,
                   "line %zu: %s '%.64s' is not supported: polestar serves ONNX (onnxruntime) and "
                   "torch.export (pytorch)",
                   node->line, node->name, text);
}

static ps_status read_file(reader *r, const ps_config_node *node, ps_error *err) {
    const char *text;
    PS_TRY(ps_config_string(node, &text, err));
    PS_FAIL_IF(!*text || strchr(text, '/') || text[0] == '.', err, FORMAT,
               "line %zu: default_model_filename is '%.64s', not the name of a file beside the others", node->line,
               text);
    r->config->file = text;
    return PS_OK;
}

static ps_status read_max_batch(reader *r, const ps_config_node *node, ps_error *err) {
    r->config->has_max_batch = true;
    return ps_config_int(node, 0, INT32_MAX, &r->config->max_batch, err);
}

static ps_status refuse_ensemble(reader *r, const ps_config_node *node, ps_error *err) {
    return PS_FAIL(err, UNSUPPORTED,
                   "line %zu: ensembles are not supported: let the client call its models one after the other",
                   node->line);
}

/* ---- versions ---- */

static ps_status read_latest(reader *r, const ps_config_node *node, ps_error *err) {
    ps_model_config *c = r->config;
    PS_TRY(ps_config_message(node, err));
    c->policy = PS_VERSIONS_LATEST;
    c->latest = 1;
    for (const ps_config_node *n = node->first; n; n = n->next) {
        if (!ps_config_is(n, "num_versions"))
            PS_TRY(unsupported(r, n, err));
        else
            PS_TRY(ps_config_int(n, 1, INT32_MAX, &c->latest, err));
    }
    return PS_OK;
}

static ps_status read_all(reader *r, const ps_config_node *node, ps_error *err) {
    r->config->policy = PS_VERSIONS_ALL;
    return ps_config_message(node, err);
}

static ps_status read_specific(reader *r, const ps_config_node *node, ps_error *err) {
    ps_model_config *c = r->config;
    PS_TRY(ps_config_message(node, err));
    c->policy = PS_VERSIONS_SPECIFIC;
    c->n_versions = 0;
    PS_TRY(make_list(r, node, "versions", PS_CONFIG_MAX_VERSIONS, sizeof *c->versions, &c->versions, err));
    for (const ps_config_node *n = node->first; n; n = n->next) {
        if (!ps_config_is(n, "versions"))
            PS_TRY(unsupported(r, n, err));
        else
            PS_TRY(ps_config_int(n, 1, INT64_MAX, &c->versions[c->n_versions++], err));
    }
    PS_FAIL_IF(!c->n_versions, err, FORMAT, "line %zu: version_policy.specific names no version", node->line);
    return PS_OK;
}

static ps_status read_policy(reader *r, const ps_config_node *node, ps_error *err) {
    static const field fields[] = {
        { "latest", read_latest }, { "all", read_all }, { "specific", read_specific }, { 0 }
    };
    PS_TRY(ps_config_message(node, err));
    PS_FAIL_IF(node->first && node->first->next, err, FORMAT, "line %zu: version_policy has two policies", node->line);
    return read_fields(r, node, "version_policy.", fields, err);
}

/* ---- batching ---- */

/* Ascending and at most as many as the scheduler takes, the rest is named in the log. */
static ps_status read_preferred(reader *r, const ps_config_node *node, ps_error *err) {
    uint32_t *list = r->config->knobs.preferred;
    int64_t size;
    size_t n = 0;
    PS_TRY(ps_config_int(node, 1, INT32_MAX, &size, err));
    while (n < PS_SCHED_MAX_PREFERRED && list[n] && list[n] != size)
        n++;
    if (n < PS_SCHED_MAX_PREFERRED && list[n]) return PS_OK; /* said twice */
    if (n + 1 >= PS_SCHED_MAX_PREFERRED) return unsupported(r, node, err);
    for (; n > 0 && list[n - 1] > size; n--)
        list[n] = list[n - 1];
    list[n] = (uint32_t)size;
    return PS_OK;
}

static ps_status read_delay(reader *r, const ps_config_node *node, ps_error *err) {
    int64_t us;
    PS_TRY(ps_config_int(node, 0, INT64_C(86400000000), &us, err));
    r->config->knobs.delay_ns = us * 1000;
    return PS_OK;
}

static ps_status read_queue_policy(reader *r, const ps_config_node *node, ps_error *err) {
    ps_model_config *c = r->config;
    bool flag, rejects = true;
    PS_TRY(ps_config_message(node, err));
    r->where = "dynamic_batching.default_queue_policy.";
    for (const ps_config_node *n = node->first; n; n = n->next) {
        if (ps_config_is(n, "timeout_action")) {
            rejects = word_is(n, "REJECT") || word_is(n, "0");
            if (!rejects) PS_TRY(unsupported(r, n, err));
        } else if (ps_config_is(n, "default_timeout_microseconds")) {
            PS_TRY(ps_config_int(n, 0, INT64_C(366) * 86400 * 1000000, &c->timeout_us, err));
        } else if (ps_config_is(n, "allow_timeout_override")) { /* a request may always ask for less */
            PS_TRY(ps_config_bool(n, &flag, err));
        } else if (ps_config_is(n, "max_queue_size")) {
            PS_TRY(ps_config_int(n, 0, UINT32_MAX, &c->queue_size, err));
        } else {
            PS_TRY(unsupported(r, n, err));
        }
    }
    if (!rejects) c->timeout_us = 0;
    return PS_OK;
}

static ps_status read_batching(reader *r, const ps_config_node *node, ps_error *err) {
    static const field fields[] = { { "preferred_batch_size", read_preferred },
                                    { "max_queue_delay_microseconds", read_delay },
                                    { "default_queue_policy", read_queue_policy },
                                    { "preserve_ordering", accept }, /* replies carry their request's id */
                                    { 0 } };
    return read_fields(r, node, "dynamic_batching.", fields, err);
}

/* Runners belong to all models together; what a group asks of a GPU is not given. */
/* KIND_AUTO, or none, says nothing without numbers; how many instances there are is the runners' matter. */
static ps_status read_instances(reader *r, const ps_config_node *node, ps_error *err) {
    ps_config_devices *to = &r->config->devices;
    int64_t n_instances, number;
    uint32_t gpus = 0;
    bool gpu = false, cpu = false;
    PS_TRY(ps_config_message(node, err));
    r->where = "instance_group.";
    for (const ps_config_node *n = node->first; n; n = n->next) {
        if (ps_config_is(n, "count")) {
            PS_TRY(ps_config_int(n, 0, INT32_MAX, &n_instances, err));
        } else if (ps_config_is(n, "gpus")) {
            PS_TRY(ps_config_int(n, 0, PS_CONFIG_MAX_GPUS - 1, &number, err));
            gpus |= UINT32_C(1) << number;
        } else if (ps_config_is(n, "kind")) {
            gpu = word_is(n, "KIND_GPU");
            cpu = word_is(n, "KIND_CPU");
        } else if (!ps_config_is(n, "name")) {
            PS_TRY(unsupported(r, n, err));
        }
    }
    PS_FAIL_IF(cpu && gpus, err, FORMAT, "line %zu: an instance group of KIND_CPU names gpus", node->line);
    to->cpu |= cpu;
    to->gpu |= gpu && !gpus;
    to->gpus |= gpus;
    return PS_OK;
}

/* ---- sequences ---- */

static ps_status read_state(reader *r, const ps_config_node *node, ps_error *err) {
    ps_config_state *s = &r->config->states[r->config->n_states++];
    ps_dtype type;
    *s = (ps_config_state) { .shape = { .rank = -1 } };
    PS_TRY(ps_config_message(node, err));
    r->where = "sequence_batching.state.";
    for (const ps_config_node *n = node->first; n; n = n->next) {
        if (ps_config_is(n, "input_name"))
            PS_TRY(ps_config_string(n, &s->input, err));
        else if (ps_config_is(n, "output_name"))
            PS_TRY(ps_config_string(n, &s->output, err));
        else if (ps_config_is(n, "data_type"))
            PS_TRY(read_type(n, &type, err)); /* the model has its own, which counts */
        else if (ps_config_is(n, "dims"))
            PS_TRY(read_dim(n, -1, &s->shape, err));
        else
            PS_TRY(unsupported(r, n, err));
    }
    PS_FAIL_IF(!s->input || !s->output, err, FORMAT, "line %zu: a state has no %s_name", node->line,
               s->input ? "output" : "input");
    for (int d = 0; d < s->shape.rank; d++)
        if (s->shape.dims[d] < 0) s->shape.rank = -1; /* not the first state's shape then */
    return PS_OK;
}

static ps_status read_idle(reader *r, const ps_config_node *node, ps_error *err) {
    return ps_config_int(node, 0, INT64_C(366) * 86400 * 1000000, &r->config->idle_us, err);
}

static ps_status read_sequences(reader *r, const ps_config_node *node, ps_error *err) {
    static const field fields[] = { { "state", read_state },
                                    { "max_sequence_idle_microseconds", read_idle },
                                    { "direct", accept }, /* sequences do not compete for places here */
                                    { "oldest", accept },
                                    { 0 } };
    ps_model_config *c = r->config;
    PS_TRY(ps_config_message(node, err));
    c->n_states = 0;
    PS_TRY(make_list(r, node, "state", PS_CONFIG_MAX_TENSORS, sizeof *c->states, &c->states, err));
    return read_fields(r, node, "sequence_batching.", fields, err);
}

/* ---- warm-up ---- */

typedef struct warmup_reader {
    reader *r;
    ps_warmup *w;
} warmup_reader;

static ps_status read_warmup_data(const ps_config_node *n, ps_warmup_input *in, bool *ret_known, ps_error *err) {
    bool on = true;
    *ret_known = true;
    if (ps_config_is(n, "zero_data") || ps_config_is(n, "random_data")) {
        PS_TRY(ps_config_bool(n, &on, err));
        in->data = on && ps_config_is(n, "random_data") ? PS_WARMUP_RANDOM : PS_WARMUP_ZERO;
        return PS_OK;
    }
    *ret_known = ps_config_is(n, "input_data_file");
    if (!*ret_known) return PS_OK;
    in->data = PS_WARMUP_FILE;
    PS_TRY(ps_config_string(n, &in->file, err));
    PS_FAIL_IF(!*in->file || in->file[0] == '.' || strchr(in->file, '/'), err, FORMAT,
               "line %zu: input_data_file is '%.64s', not the name of a file in the folder 'warmup'", n->line,
               in->file);
    return PS_OK;
}

static ps_status read_warmup_input(void *ctx, const char *name, const ps_config_node *node, ps_error *err) {
    warmup_reader *wr = ctx;
    PS_FAIL_IF(wr->w->n_inputs == PS_CONFIG_MAX_TENSORS, err, LIMIT, "line %zu: a warm-up has more than %d inputs",
               node->line, PS_CONFIG_MAX_TENSORS);
    ps_warmup_input *in = &wr->w->inputs[wr->w->n_inputs++];
    *in = (ps_warmup_input) { .name = name };
    PS_TRY(ps_config_message(node, err));
    for (const ps_config_node *n = node->first; n; n = n->next) {
        bool known;
        PS_TRY(read_warmup_data(n, in, &known, err));
        if (known) continue;
        if (ps_config_is(n, "data_type"))
            PS_TRY(read_type(n, &in->dtype, err));
        else if (ps_config_is(n, "dims"))
            PS_TRY(read_dim(n, 0, &in->shape, err));
        else
            PS_TRY(unsupported(wr->r, n, err));
    }
    PS_FAIL_IF(!in->dtype, err, FORMAT, "line %zu: input '%.64s' of a warm-up has no data_type", node->line, name);
    return PS_OK;
}

/* Entries of a map lie in as many messages in text, in one in JSON: counted once for each. */
static size_t count_inputs(const reader *r, const ps_config_node *node) {
    size_t n = 0;
    for (const ps_config_node *m = node->first; m; m = m->next) {
        if (!ps_config_is(m, "inputs")) continue;
        n++;
        for (const ps_config_node *e = m->first; r->tree->json && e; e = e->next)
            n++;
    }
    return n < PS_CONFIG_MAX_TENSORS ? n : PS_CONFIG_MAX_TENSORS;
}

static ps_status read_warmup(reader *r, const ps_config_node *node, ps_error *err) {
    ps_warmup *w = &r->config->warmups[r->config->n_warmups++];
    warmup_reader wr = { r, w };
    *w = (ps_warmup) { .name = "", .batch = 1, .count = 1 };
    PS_TRY(ps_config_message(node, err));
    w->inputs = ps_arena_array(r->arena, count_inputs(r, node) + 1, sizeof *w->inputs);
    if (!w->inputs) return PS_FAIL_NOMEM(err, "a model's configuration");
    r->where = "model_warmup.";
    for (const ps_config_node *n = node->first; n; n = n->next) {
        if (ps_config_is(n, "name"))
            PS_TRY(ps_config_string(n, &w->name, err));
        else if (ps_config_is(n, "batch_size"))
            PS_TRY(ps_config_int(n, 0, 1 << 20, &w->batch, err));
        else if (ps_config_is(n, "count"))
            PS_TRY(ps_config_int(n, 0, PS_CONFIG_MAX_WARMUP_RUNS, &w->count, err));
        else if (ps_config_is(n, "inputs"))
            PS_TRY(ps_config_map(r->tree, n, read_warmup_input, &wr, err));
        else
            PS_TRY(unsupported(r, n, err));
    }
    if (!w->count) w->count = 1; /* Triton's default is written as 0 */
    return PS_OK;
}

/* ---- parameters ---- */

static ps_status add_parameter(reader *r, const char *key, const char *value, size_t line, ps_error *err) {
    ps_model_config *c = r->config;
    PS_FAIL_IF(c->n_parameters == PS_CONFIG_MAX_PARAMETERS, err, LIMIT, "line %zu: there are more than %d parameters",
               line, PS_CONFIG_MAX_PARAMETERS);
    if (!c->parameters) c->parameters = ps_arena_array(r->arena, PS_CONFIG_MAX_PARAMETERS, sizeof *c->parameters);
    if (!c->parameters) return PS_FAIL_NOMEM(err, "a model's configuration");
    c->parameters[c->n_parameters++] = (ps_config_parameter) { key, value };
    return PS_OK;
}

static ps_status read_parameter(void *ctx, const char *key, const ps_config_node *node, ps_error *err) {
    const char *value = "";
    PS_TRY(ps_config_message(node, err));
    for (const ps_config_node *n = node->first; n; n = n->next)
        if (ps_config_is(n, "string_value")) PS_TRY(ps_config_string(n, &value, err));
    return add_parameter(ctx, key, value, node->line, err);
}

static ps_status read_parameters(reader *r, const ps_config_node *node, ps_error *err) {
    return ps_config_map(r->tree, node, read_parameter, r, err);
}

/* ---- the file ---- */

static const field top_fields[] = { { "name", read_name },
                                    { "platform", read_platform },
                                    { "backend", read_platform },
                                    { "default_model_filename", read_file },
                                    { "max_batch_size", read_max_batch },
                                    { "input", read_input },
                                    { "output", read_output },
                                    { "version_policy", read_policy },
                                    { "dynamic_batching", read_batching },
                                    { "instance_group", read_instances },
                                    { "sequence_batching", read_sequences },
                                    { "model_warmup", read_warmup },
                                    { "parameters", read_parameters },
                                    { "ensemble_scheduling", refuse_ensemble },
                                    { 0 } };

static bool names_any(const ps_config_node *root) {
    for (const ps_config_node *n = root->first; n; n = n->next)
        for (const field *f = top_fields; f->name; f++)
            if (ps_config_is(n, f->name)) return true;
    return false;
}

/* Once for a field that stands once. */
static ps_status check_once(const ps_config_node *root, ps_error *err) {
    static const char *const once[] = {
        "name",           "platform",       "backend",          "default_model_filename",
        "max_batch_size", "version_policy", "dynamic_batching", "sequence_batching"
    };
    size_t n;
    for (size_t i = 0; i < sizeof once / sizeof *once; i++)
        PS_TRY(count(root, once[i], 1, &n, err));
    return PS_OK;
}

static ps_status make_lists(reader *r, const ps_config_node *root, ps_error *err) {
    ps_model_config *c = r->config;
    c->unsupported = ps_arena_array(r->arena, PS_CONFIG_MAX_UNSUPPORTED, sizeof *c->unsupported);
    if (!c->unsupported) return PS_FAIL_NOMEM(err, "a model's configuration");
    PS_TRY(make_list(r, root, "input", PS_CONFIG_MAX_TENSORS, sizeof *c->inputs, &c->inputs, err));
    PS_TRY(make_list(r, root, "output", PS_CONFIG_MAX_TENSORS, sizeof *c->outputs, &c->outputs, err));
    return make_list(r, root, "model_warmup", PS_CONFIG_MAX_WARMUPS, sizeof *c->warmups, &c->warmups, err);
}

ps_status ps_model_config_read(const char *text, size_t size, bool json, ps_arena *arena, ps_model_config *ret,
                               ps_error *err) {
    ps_config_tree tree;
    reader r = { .tree = &tree, .arena = arena, .config = ret, .where = "" };
    ps_model_config_init(ret);
    PS_TRY(json ? ps_config_json_read(text, size, arena, &tree, err)
                : ps_config_text_read(text, size, arena, &tree, err));
    PS_TRY(check_once(tree.root, err));
    PS_TRY(make_lists(&r, tree.root, err));
    if (json && tree.root->first && !names_any(tree.root)) { /* other tools leave a config.json beside a model */
        ret->unsupported[ret->n_unsupported++] = "the whole file";
        return PS_OK;
    }
    return read_fields(&r, tree.root, "", top_fields, err);
}

static bool is_json(const char *path) {
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".json") == 0;
}

ps_status ps_model_config_load(const char *path, ps_arena *arena, ps_model_config *ret, ps_error *err) {
    char *text;
    size_t size;
    ps_model_config_init(ret);
    if (!path) return PS_OK;
    PS_TRY(ps_file_read(arena->alloc, path, PS_CONFIG_MAX_BYTES, &text, &size, err));
    ps_status status = ps_model_config_read(text, size, is_json(path), arena, ret, err);
    ps_free(arena->alloc, text);
    if (status != PS_OK) ps_error_prefix(err, "%s", path);
    return status;
}
