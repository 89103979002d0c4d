/* The JSON documents that describe the server and its models, and the table from status to HTTP. */
#include <string.h>

#include "polestar/polestar.h"
#include "server/core.h"
#include "server/json_text.h"

int ps_status_http(ps_status status) {
    static const struct {
        ps_status status;
        int http;
    } table[] = {
        { PS_OK, 200 },          { PS_INVALID, 400 },  { PS_NOT_FOUND, 404 },   { PS_LIMIT, 413 },
        { PS_NO_MEMORY, 503 },   { PS_IO, 500 },       { PS_CANCELLED, 503 },   { PS_DEADLINE, 504 },
        { PS_UNAVAILABLE, 503 }, { PS_FORMAT, 400 },   { PS_UNSUPPORTED, 400 }, { PS_TYPE, 400 },
        { PS_SHAPE, 400 },       { PS_INTERNAL, 500 },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].status == status) return table[i].http;
    return 500;
}

void ps_core_write_server(bool shared_memory, ps_str *out) {
    ps_str_append(out, "{\"name\":\"polestar\",\"version\":");
    ps_json_write_string(out, ps_version());
    ps_str_append(
        out,
        ",\"extensions\":[\"binary_tensor_data\",\"classification\",\"model_configuration\","
        "\"model_repository\",\"parameters\",\"schedule_policy\",\"sequence\",\"statistics\",\"trace\",\"logging\"");
    ps_str_append(out, shared_memory ? ",\"system_shared_memory\"]}" : "]}");
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

void ps_core_write_metadata(const ps_served *served, ps_str *out) {
    ps_str_append(out, "{\"name\":");
    ps_json_write_string(out, served->name);
    ps_str_append(out, ",\"versions\":[");
    ps_json_write_string(out, served->version);
    ps_str_append(out, "],\"platform\":\"polestar_onnx\",\"inputs\":");
    write_tensors(served->inputs, served->n_inputs, out);
    ps_str_append(out, ",\"outputs\":");
    write_tensors(served->outputs, served->n_outputs, out);
    ps_str_char(out, '}');
}

/* batched: dims without the first, which is the batch's. */
static void write_config_tensors(const ps_value_info *v, size_t n, bool batched, ps_str *out) {
    ps_str_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        const char *type = v[i].dtype == PS_DTYPE_STRING ? "STRING" : ps_dtype_v2_name(v[i].dtype);
        ps_str_append(out, i ? ",{\"name\":" : "{\"name\":");
        ps_json_write_string(out, v[i].name);
        ps_str_printf(out, ",\"data_type\":\"TYPE_%s\",\"dims\":", type);
        ps_shape shape = v[i].shape;
        if (batched && shape.rank > 0) memmove(shape.dims, shape.dims + 1, (size_t)--shape.rank * sizeof *shape.dims);
        write_dims(&shape, out);
        ps_str_char(out, '}');
    }
    ps_str_char(out, ']');
}

/* max_batch_size 0: requests for this model are not put together, and dims are those of the file. */
void ps_core_write_config(const ps_served *served, ps_str *out) {
    ps_str_append(out, "{\"name\":");
    ps_json_write_string(out, served->name);
    ps_str_append(
        out,
        ",\"platform\":\"polestar_onnx\",\"backend\":\"polestar\",\"version_policy\":{\"latest\":{\"num_versions\":1}},"
        "\"max_batch_size\":");
    bool batched = served->max_batch > 1;
    ps_str_printf(out, "%u,\"input\":", batched ? served->max_batch : 0);
    write_config_tensors(served->inputs, served->n_inputs, batched, out);
    ps_str_append(out, ",\"output\":");
    write_config_tensors(served->outputs, served->n_outputs, batched, out);
    if (batched) {
        ps_str_append(out, ",\"dynamic_batching\":{}");
    } else {
        ps_str_append(out, ",\"parameters\":{\"unbatched_because\":{\"string_value\":");
        ps_json_write_string(out, served->unbatched);
        ps_str_append(out, "}}");
    }
    ps_sequences_write_config(served->sequences, out);
    ps_str_append(out, "}");
}
