/* The JSON documents that describe the server and its models, and the table from status to HTTP. */
#include <string.h>

#include "polestar/polestar.h"
#include "server/core.h"
#include "server/json_text.h"

const char ps_core_platform[] = "polestar_onnx", ps_core_backend[] = "polestar";

/* gRPC: 3 INVALID_ARGUMENT, 4 DEADLINE_EXCEEDED, 5 NOT_FOUND, 8 RESOURCE_EXHAUSTED, 12 UNIMPLEMENTED, 13 INTERNAL,
 * 14 UNAVAILABLE. */
static const struct {
    ps_status status;
    int http, grpc;
} codes[] = {
    { PS_OK, 200, 0 },           { PS_INVALID, 400, 3 },   { PS_NOT_FOUND, 404, 5 },    { PS_LIMIT, 413, 8 },
    { PS_NO_MEMORY, 503, 8 },    { PS_IO, 500, 13 },       { PS_CANCELLED, 503, 14 },   { PS_DEADLINE, 504, 4 },
    { PS_UNAVAILABLE, 503, 14 }, { PS_FORMAT, 400, 3 },    { PS_UNSUPPORTED, 400, 12 }, { PS_TYPE, 400, 3 },
    { PS_SHAPE, 400, 3 },        { PS_INTERNAL, 500, 13 },
};

int ps_status_http(ps_status status) {
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].status == status) return codes[i].http;
    return 500;
}

int ps_status_grpc(ps_status status) {
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].status == status) return codes[i].grpc;
    return 13;
}

size_t ps_core_extensions(bool shared_memory, const char *ret[PS_CORE_EXTENSIONS]) {
    static const char *const names[PS_CORE_EXTENSIONS] = {
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "parameters",
        "schedule_policy",
        "sequence",
        "statistics",
        "trace",
        "logging",
        "system_shared_memory",
    };
    memcpy(ret, names, sizeof names);
    return shared_memory ? PS_CORE_EXTENSIONS : PS_CORE_EXTENSIONS - 1;
}

void ps_core_write_server(bool shared_memory, ps_str *out) {
    const char *extensions[PS_CORE_EXTENSIONS];
    size_t n = ps_core_extensions(shared_memory, extensions);
    ps_str_append(out, "{\"name\":\"polestar\",\"version\":");
    ps_json_write_string(out, ps_version());
    ps_str_append(out, ",\"extensions\":[");
    for (size_t i = 0; i < n; i++)
        ps_str_printf(out, "%s\"%s\"", i ? "," : "", extensions[i]);
    ps_str_append(out, "]}");
}

static void write_dims(const ps_shape *shape, ps_str *out) {
    ps_str_char(out, '[');
    for (int i = 0; i < shape->rank; i++)
        ps_str_printf(out, "%s%lld", i ? "," : "", (long long)(shape->dims[i] < 0 ? -1 : shape->dims[i]));
    ps_str_char(out, ']');
}

static void write_tensors(const ps_value_info *v, size_t n, ps_str *out) {
    ps_str_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        ps_str_append(out, i ? ",{\"name\":" : "{\"name\":");
        ps_json_write_string(out, v[i].name);
        ps_str_printf(out, ",\"datatype\":\"%s\",\"shape\":", ps_dtype_v2_name(v[i].dtype));
        write_dims(&v[i].shape, out);
        ps_str_char(out, '}');
    }
    ps_str_char(out, ']');
}

void ps_core_write_metadata(const ps_served *served, const char *const *versions, size_t n_versions, ps_str *out) {
    ps_str_append(out, "{\"name\":");
    ps_json_write_string(out, served->name);
    ps_str_append(out, ",\"versions\":[");
    for (size_t i = 0; i < n_versions; i++) {
        if (i) ps_str_char(out, ',');
        ps_json_write_string(out, versions[i]);
    }
    if (!n_versions) ps_json_write_string(out, served->version);
    ps_str_printf(out, "],\"platform\":\"%s\",\"inputs\":", ps_core_platform);
    write_tensors(served->inputs, served->n_inputs, out);
    ps_str_append(out, ",\"outputs\":");
    write_tensors(served->outputs, served->n_outputs, out);
    ps_str_char(out, '}');
}

bool ps_core_config_batched(const ps_served *served) {
    for (size_t i = 0; i < served->n_inputs; i++)
        if (served->inputs[i].shape.rank < 2) return false;
    return served->max_batch > 1;
}

ps_shape ps_core_config_shape(const ps_served *served, const ps_shape *shape) {
    ps_shape s = *shape;
    if (ps_core_config_batched(served) && s.rank > 0) memmove(s.dims, s.dims + 1, (size_t)--s.rank * sizeof *s.dims);
    return s;
}

static void write_config_tensors(const ps_served *served, const ps_value_info *v, size_t n, ps_str *out) {
    ps_str_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        const char *type = v[i].dtype == PS_DTYPE_STRING ? "STRING" : ps_dtype_v2_name(v[i].dtype);
        ps_str_append(out, i ? ",{\"name\":" : "{\"name\":");
        ps_json_write_string(out, v[i].name);
        ps_str_printf(out, ",\"data_type\":\"TYPE_%s\",\"dims\":", type);
        ps_shape shape = ps_core_config_shape(served, &v[i].shape);
        write_dims(&shape, out);
        ps_str_char(out, '}');
    }
    ps_str_char(out, ']');
}

static void write_policy(const ps_model_config *c, ps_str *out) {
    if (c->policy == PS_VERSIONS_LATEST)
        ps_str_printf(out, "{\"latest\":{\"num_versions\":%lld}}", (long long)c->latest);
    else if (c->policy == PS_VERSIONS_ALL)
        ps_str_append(out, "{\"all\":{}}");
    else {
        for (size_t i = 0; i < c->n_versions; i++)
            ps_str_printf(out, "%s%lld", i ? "," : "{\"specific\":{\"versions\":[", (long long)c->versions[i]);
        ps_str_append(out, "]}}");
    }
}

static void write_parameter(const char *key, const char *value, bool first, ps_str *out) {
    ps_str_append(out, first ? ",\"parameters\":{" : ",");
    ps_json_write_string(out, key);
    ps_str_append(out, ":{\"string_value\":");
    ps_json_write_string(out, value);
    ps_str_char(out, '}');
}

/* Those of the model's file; of the server, why requests are not put together. */
static void write_parameters(const ps_served *served, ps_str *out) {
    const ps_model_config *c = &served->config;
    bool any = served->max_batch < 2;
    if (any) write_parameter("unbatched_because", served->unbatched, true, out);
    for (size_t i = 0; i < c->n_parameters; i++) {
        write_parameter(c->parameters[i].key, c->parameters[i].value, !any, out);
        any = true;
    }
    if (any) ps_str_char(out, '}');
}

/* max_batch_size 0: dims are those of the file. */
void ps_core_write_config(const ps_served *served, ps_str *out) {
    ps_str_append(out, "{\"name\":");
    ps_json_write_string(out, served->name);
    bool batched = ps_core_config_batched(served);
    ps_str_printf(out, ",\"platform\":\"%s\",\"backend\":\"%s\",\"version_policy\":", ps_core_platform,
                  ps_core_backend);
    write_policy(&served->config, out);
    ps_str_printf(out, ",\"max_batch_size\":%u,\"input\":", batched ? served->max_batch : 0);
    write_config_tensors(served, served->inputs, served->n_inputs, out);
    ps_str_append(out, ",\"output\":");
    write_config_tensors(served, served->outputs, served->n_outputs, out);
    if (batched) ps_str_append(out, ",\"dynamic_batching\":{}");
    write_parameters(served, out);
    ps_sequences_write_config(served->sequences, out);
    ps_str_append(out, "}");
}
