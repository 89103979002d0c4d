/* Health and descriptions. */
#include "server/grpc/handlers.h"

#include <stddef.h>
#include <string.h>

#include "polestar/polestar.h"
#include "server/grpc/control.h"

/* ---- health ---- */

static bool is_ready(const ps_call *c) {
    return atomic_load(&c->grpc->ready) && !atomic_load(&c->grpc->draining);
}

static void reply_flag(ps_call *c, bool value) {
    Oip__Flag m = OIP__FLAG__INIT;
    m.value = value;
    ps_control_reply(c, &m.base);
}

void ps_grpc_handle_live(ps_call *c) {
    reply_flag(c, true);
}

void ps_grpc_handle_ready(ps_call *c) {
    reply_flag(c, is_ready(c));
}

/* grpc.health.v1: the server as a whole ("") and the one service. */
void ps_grpc_handle_health(ps_call *c) {
    enum { SERVING = 1, NOT_SERVING = 2 };
    Oip__HealthReply m = OIP__HEALTH_REPLY__INIT;
    Oip__HealthRequest *request;
    ps_error *err = &c->infer.error;
    ps_status status = ps_control_read(c, &oip__health_request__descriptor, (void **)&request, err);
    if (status == PS_OK && *request->service && strcmp(request->service, "inference.GRPCInferenceService") != 0)
        status = PS_FAIL(err, NOT_FOUND, "there is no service '%.128s'", request->service);
    m.status = is_ready(c) ? SERVING : NOT_SERVING;
    ps_control_answer(c, status, &m.base);
}

void ps_grpc_handle_server(ps_call *c) {
    Oip__ServerMetadata m = OIP__SERVER_METADATA__INIT;
    const char *extensions[PS_CORE_EXTENSIONS];
    m.name = (char *)"polestar";
    m.version = (char *)ps_version();
    m.n_extensions = ps_core_extensions(ps_shm_allowed(c->grpc->options.shm), extensions);
    m.extensions = (char **)extensions;
    ps_control_reply(c, &m.base);
}

/* ---- models ---- */

static ps_status read_ref(ps_call *c, Oip__ModelRef **ret, ps_error *err) {
    PS_TRY(ps_control_read(c, &oip__model_ref__descriptor, (void **)ret, err));
    c->model = (*ret)->name;
    return PS_OK;
}

/* Now, or when the model is loaded. */
static void find_and_describe(ps_call *c) {
    ps_error err = PS_ERROR_INIT;
    ps_served *served;
    ps_status status = ps_grpc_acquire(c->grpc, &c->infer, &served, &err);
    if (status == PS_OK && !served) return; /* the call is whoever's who ends the wait */
    if (status == PS_OK) {
        c->infer.served = served; /* goes with the call */
        status = c->describe(c, served, &err);
    }
    if (status == PS_OK) return;
    c->infer.error = err;
    ps_call_fail(c, status);
}

static void loaded(ps_wait *w) {
    find_and_describe((ps_call *)((char *)w - offsetof(ps_call, infer.wait)));
}

/* A reply that `reply` makes from the model that the request names, which is loaded for it if need be. */
static void describe(ps_call *c, ps_status (*reply)(ps_call *c, const ps_served *s, ps_error *err)) {
    Oip__ModelRef *ref;
    ps_status status = read_ref(c, &ref, &c->infer.error);
    if (status != PS_OK) {
        ps_call_fail(c, status);
        return;
    }
    c->describe = reply;
    c->infer.model_name = ref->name;
    c->infer.version_name = ref->version;
    c->infer.wait.over = loaded;
    find_and_describe(c);
}

/* Whether it is known or not, a model that cannot be asked now is just not ready. */
void ps_grpc_handle_model_ready(ps_call *c) {
    Oip__ModelRef *ref;
    ps_error *err = &c->infer.error;
    ps_status status = read_ref(c, &ref, err);
    if (status == PS_OK) status = ps_grpc_check_target(ref->name, ref->version, err);
    if (status == PS_OK)
        status = ps_repository_ready(c->grpc->options.repository, ref->name, *ref->version ? ref->version : NULL, err);
    if (status == PS_OK || status == PS_NOT_FOUND || status == PS_UNAVAILABLE)
        reply_flag(c, status == PS_OK);
    else
        ps_call_fail(c, status);
}

static int64_t *copy_dims(ps_call *c, const ps_shape *shape, size_t *ret_n) {
    *ret_n = shape->rank > 0 ? (size_t)shape->rank : 0;
    int64_t *dims = ps_arena_array(&c->infer.arena, *ret_n + 1, sizeof *dims);
    for (size_t i = 0; dims && i < *ret_n; i++)
        dims[i] = shape->dims[i] < 0 ? -1 : shape->dims[i];
    return dims;
}

static Oip__TensorMetadata **list_tensors(ps_call *c, const ps_value_info *v, size_t n) {
    Oip__TensorMetadata **list = ps_control_list(c, n, sizeof **list);
    for (size_t i = 0; list && i < n; i++) {
        oip__tensor_metadata__init(list[i]);
        list[i]->name = (char *)v[i].name;
        list[i]->datatype = (char *)ps_dtype_v2_name(v[i].dtype);
        list[i]->shape = copy_dims(c, &v[i].shape, &list[i]->n_shape);
        if (!list[i]->shape) return NULL;
    }
    return list;
}

static ps_status describe_metadata(ps_call *c, const ps_served *s, ps_error *err) {
    Oip__ModelMetadata m = OIP__MODEL_METADATA__INIT;
    const char **versions;
    m.name = (char *)s->name;
    m.n_versions = ps_repository_versions(c->grpc->options.repository, s->name, &c->infer.arena, &versions);
    if (!versions) return PS_FAIL_NOMEM(err, "a reply");
    m.versions = (char **)(uintptr_t)versions;
    m.platform = (char *)ps_core_platform;
    m.n_inputs = s->n_inputs;
    m.inputs = list_tensors(c, s->inputs, s->n_inputs);
    m.n_outputs = s->n_outputs;
    m.outputs = list_tensors(c, s->outputs, s->n_outputs);
    if (!m.inputs || !m.outputs) return PS_FAIL_NOMEM(err, "a reply");
    ps_control_reply(c, &m.base);
    return PS_OK;
}

void ps_grpc_handle_metadata(ps_call *c) {
    describe(c, describe_metadata);
}

/* ---- configuration ---- */

/* Numbers of the enum DataType of model configurations. */
static int data_type(ps_dtype dtype) {
    static const ps_dtype types[] = { PS_DTYPE_UNDEFINED, PS_DTYPE_BOOL, PS_DTYPE_U8,  PS_DTYPE_U16,    PS_DTYPE_U32,
                                      PS_DTYPE_U64,       PS_DTYPE_I8,   PS_DTYPE_I16, PS_DTYPE_I32,    PS_DTYPE_I64,
                                      PS_DTYPE_F16,       PS_DTYPE_F32,  PS_DTYPE_F64, PS_DTYPE_STRING, PS_DTYPE_BF16 };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i] == dtype) return (int)i;
    return 0;
}

/* Dims of a batched model come without the batch's. */
static int64_t *config_dims(ps_call *c, const ps_served *s, const ps_shape *shape, size_t *ret_n) {
    ps_shape rest = ps_core_config_shape(s, shape);
    return copy_dims(c, &rest, ret_n);
}

static bool fill_inputs(ps_call *c, const ps_served *s, Oip__ModelConfig *m) {
    m->n_input = s->n_inputs;
    m->input = ps_control_list(c, s->n_inputs, sizeof **m->input);
    for (size_t i = 0; m->input && i < s->n_inputs; i++) {
        Oip__ConfigInput *in = m->input[i];
        oip__config_input__init(in);
        in->name = (char *)s->inputs[i].name;
        in->data_type = data_type(s->inputs[i].dtype);
        in->dims = config_dims(c, s, &s->inputs[i].shape, &in->n_dims);
        if (!in->dims) return false;
    }
    return m->input != NULL;
}

static bool fill_outputs(ps_call *c, const ps_served *s, Oip__ModelConfig *m) {
    m->n_output = s->n_outputs;
    m->output = ps_control_list(c, s->n_outputs, sizeof **m->output);
    for (size_t i = 0; m->output && i < s->n_outputs; i++) {
        Oip__ConfigOutput *out = m->output[i];
        oip__config_output__init(out);
        out->name = (char *)s->outputs[i].name;
        out->data_type = data_type(s->outputs[i].dtype);
        out->dims = config_dims(c, s, &s->outputs[i].shape, &out->n_dims);
        if (!out->dims) return false;
    }
    return m->output != NULL;
}

static bool fill_states(ps_call *c, const ps_served *s, Oip__SequenceBatching *m) {
    m->n_state = ps_sequences_states(s->sequences);
    m->state = ps_control_list(c, m->n_state, sizeof **m->state);
    for (size_t i = 0; m->state && i < m->n_state; i++) {
        ps_sequence_state state = ps_sequences_state(s->sequences, i);
        Oip__SequenceState *to = m->state[i];
        oip__sequence_state__init(to);
        to->input_name = (char *)s->inputs[state.input].name;
        to->output_name = (char *)s->outputs[state.output].name;
        to->data_type = data_type(s->inputs[state.input].dtype);
        to->dims = copy_dims(c, &state.shape, &to->n_dims);
        if (!to->dims) return false;
    }
    return m->state != NULL;
}

typedef struct version_policy {
    Oip__VersionPolicy m;
    Oip__Latest latest;
    Oip__All all;
    Oip__Specific specific;
} version_policy;

static Oip__VersionPolicy *fill_policy(const ps_model_config *c, version_policy *to) {
    oip__version_policy__init(&to->m);
    oip__latest__init(&to->latest);
    oip__all__init(&to->all);
    oip__specific__init(&to->specific);
    to->latest.num_versions = (uint32_t)c->latest;
    to->specific.n_versions = c->n_versions;
    to->specific.versions = c->versions;
    if (c->policy == PS_VERSIONS_LATEST) to->m.latest = &to->latest;
    if (c->policy == PS_VERSIONS_ALL) to->m.all = &to->all;
    if (c->policy == PS_VERSIONS_SPECIFIC) to->m.specific = &to->specific;
    return &to->m;
}

/* One parameter with the message inside of it. */
typedef struct parameter {
    Oip__ConfigParameter m;
    Oip__ConfigText text;
} parameter;

static void put_parameter(parameter *to, const char *key, const char *value) {
    oip__config_parameter__init(&to->m);
    oip__config_text__init(&to->text);
    to->m.key = (char *)(uintptr_t)key;
    to->m.value = &to->text;
    to->text.string_value = (char *)(uintptr_t)value;
}

static bool fill_parameters(ps_call *c, const ps_served *s, Oip__ModelConfig *m) {
    size_t n = 0, most = s->config.n_parameters + 1;
    parameter **list = ps_control_list(c, most, sizeof **list);
    if (!list) return false;
    if (s->max_batch < 2) put_parameter(list[n++], "unbatched_because", s->unbatched);
    for (size_t i = 0; i < s->config.n_parameters; i++)
        put_parameter(list[n++], s->config.parameters[i].key, s->config.parameters[i].value);
    m->n_parameters = n;
    m->parameters = (Oip__ConfigParameter **)list; /* their first member */
    return true;
}

/* As ps_core_write_config. */
static ps_status describe_config(ps_call *c, const ps_served *s, ps_error *err) {
    Oip__ModelConfigReply reply = OIP__MODEL_CONFIG_REPLY__INIT;
    Oip__ModelConfig m = OIP__MODEL_CONFIG__INIT;
    version_policy policy;
    Oip__SequenceBatching sequences = OIP__SEQUENCE_BATCHING__INIT;
    Oip__DynamicBatching batching = OIP__DYNAMIC_BATCHING__INIT;
    m.name = (char *)s->name;
    m.platform = (char *)ps_core_platform;
    m.backend = (char *)ps_core_backend;
    m.version_policy = fill_policy(&s->config, &policy);
    if (ps_core_config_batched(s)) {
        m.max_batch_size = (int32_t)s->max_batch;
        m.dynamic_batching = &batching;
    }
    bool ok =
        fill_inputs(c, s, &m) && fill_outputs(c, s, &m) && fill_states(c, s, &sequences) && fill_parameters(c, s, &m);
    if (!ok) return PS_FAIL_NOMEM(err, "a reply");
    if (sequences.n_state) {
        sequences.max_sequence_idle_microseconds = (uint64_t)ps_sequences_idle_us(s->sequences);
        m.sequence_batching = &sequences;
    }
    reply.config = &m;
    ps_control_reply(c, &reply.base);
    return PS_OK;
}

void ps_grpc_handle_config(ps_call *c) {
    describe(c, describe_config);
}

/* ---- statistics ---- */

/* One size of batch, with the messages inside of it. */
typedef struct batch_stats {
    Oip__BatchStatistics m;
    Oip__Duration input, compute, output;
} batch_stats;

/* One model's. */
typedef struct model_stats {
    Oip__ModelStatistics m;
    Oip__InferStatistics infer;
    Oip__Duration success, fail, queue, input, compute, output, none;
    Oip__MemoryUsage memory, *memories[1];
} model_stats;

static Oip__Duration *put_duration(Oip__Duration *to, ps_duration d) {
    oip__duration__init(to);
    to->count = d.count;
    to->ns = d.ns;
    return to;
}

static bool fill_batches(ps_call *c, model_stats *to, const ps_stats_values *v) {
    size_t n = 0;
    while (n < PS_STATS_SIZES && v->sizes[n].items)
        n++;
    batch_stats **list = ps_control_list(c, n, sizeof **list);
    for (size_t i = 0; list && i < n; i++) {
        const ps_stats_size *size = &v->sizes[i];
        oip__batch_statistics__init(&list[i]->m);
        list[i]->m.batch_size = size->items;
        list[i]->m.compute_input = put_duration(&list[i]->input, size->input);
        list[i]->m.compute_infer = put_duration(&list[i]->compute, size->infer);
        list[i]->m.compute_output = put_duration(&list[i]->output, size->output);
    }
    to->m.n_batch_stats = n;
    to->m.batch_stats = (Oip__BatchStatistics **)list; /* their first member */
    return list != NULL;
}

static bool fill_stats(ps_call *c, const ps_counted *counted, model_stats *to) {
    ps_stats_values v = ps_stats_get(counted->stats);
    const ps_stats_version of = counted->of;
    oip__model_statistics__init(&to->m);
    oip__infer_statistics__init(&to->infer);
    to->m.name = (char *)(uintptr_t)of.name;
    to->m.version = (char *)(uintptr_t)of.version;
    to->m.last_inference = v.last_inference_ms;
    to->m.inference_count = v.inferences;
    to->m.execution_count = v.executions;
    to->m.inference_stats = &to->infer;
    to->infer.success = put_duration(&to->success, v.success);
    to->infer.fail = put_duration(&to->fail, v.fail);
    to->infer.queue = put_duration(&to->queue, v.queue);
    to->infer.compute_input = put_duration(&to->input, v.input);
    to->infer.compute_infer = put_duration(&to->compute, v.infer);
    to->infer.compute_output = put_duration(&to->output, v.output);
    to->infer.cache_hit = to->infer.cache_miss = put_duration(&to->none, (ps_duration) { 0, 0 });
    oip__memory_usage__init(&to->memory);
    to->memory.type = (char *)(uintptr_t)of.device;
    to->memory.byte_size = of.bytes;
    to->memories[0] = &to->memory;
    to->m.n_memory_usage = 1;
    to->m.memory_usage = to->memories;
    return fill_batches(c, to, &v);
}

static ps_status reply_stats(ps_call *c, const ps_counted *all, size_t n, ps_error *err) {
    Oip__ModelStatisticsReply reply = OIP__MODEL_STATISTICS_REPLY__INIT;
    model_stats **list = ps_control_list(c, n, sizeof **list);
    if (!list) return PS_FAIL_NOMEM(err, "a reply");
    for (size_t i = 0; i < n; i++)
        if (!fill_stats(c, &all[i], list[i])) return PS_FAIL_NOMEM(err, "a reply");
    reply.n_model_stats = n;
    reply.model_stats = (Oip__ModelStatistics **)list; /* their first member */
    ps_control_reply(c, &reply.base);
    return PS_OK;
}

/* name "": of all models; version "": of all versions. */
static ps_status list_stats(ps_call *c, const Oip__ModelRef *ref, ps_counted **ret, size_t *ret_count, ps_error *err) {
    const bool one = *ref->name != '\0', with_version = one && *ref->version;
    if (one) PS_TRY(ps_grpc_check_target(ref->name, ref->version, err));
    return ps_repository_counted(c->grpc->options.repository, one ? ref->name : NULL,
                                 with_version ? ref->version : NULL, NULL, ret, ret_count, err);
}

void ps_grpc_handle_stats(ps_call *c) {
    ps_repository *repo = c->grpc->options.repository;
    Oip__ModelRef *ref;
    ps_counted *all = NULL;
    size_t n = 0;
    ps_status status = read_ref(c, &ref, &c->infer.error);
    if (status == PS_OK) status = list_stats(c, ref, &all, &n, &c->infer.error);
    if (status != PS_OK) {
        ps_call_fail(c, status);
        return;
    }
    status = reply_stats(c, all, n, &c->infer.error); /* if OK, the call is gone */
    ps_counted_free(repo, all, n);
    if (status != PS_OK) ps_call_fail(c, status);
}
