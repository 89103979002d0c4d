/* demo_request.c - one HTTP request for a model, its inputs drawn and carried as raw bytes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

enum { MAX_INPUTS = 64 };

/* The list of inputs, and how many bytes all of them have. */
static json_t *describe(const ps_model *model, ps_tensor *const *inputs, size_t *ret_bytes) {
    json_t *list = json_array();
    *ret_bytes = 0;
    for (size_t i = 0; i < ps_model_input_count(model); i++) {
        ps_value_info info = { .size = sizeof info };
        ps_model_input(model, i, &info);
        const size_t bytes = ps_tensor_bytes(inputs[i]);
        json_t *shape = json_array();
        for (int k = 0; k < ps_tensor_shape(inputs[i])->rank; k++)
            json_array_append_new(shape, json_integer(ps_tensor_shape(inputs[i])->dims[k]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:{s:I}}", "name", info.name, "datatype",
                                              ps_dtype_v2_name(info.dtype), "shape", shape, "parameters",
                                              "binary_data_size", (json_int_t)bytes));
        *ret_bytes += bytes;
    }
    return list;
}

/* The JSON head of a request for these inputs, and the bytes of all of them behind it. */
static demo_request make(const ps_model *model, ps_tensor *const *inputs, const char *name, double timeout_ms) {
    demo_request r = { 0 };
    size_t raw;
    json_t *list = describe(model, inputs, &raw), *parameters = json_pack("{s:b}", "binary_data_output", 1);
    if (timeout_ms > 0) json_object_set_new(parameters, "timeout", json_integer((json_int_t)(timeout_ms * 1000)));
    json_t *root = json_pack("{s:o, s:o}", "inputs", list, "parameters", parameters);
    char *text = json_dumps(root, JSON_COMPACT);
    char *head = cli_format("POST /v2/models/%s/infer HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: "
                            "%zu\r\nContent-Length: %zu\r\n\r\n%s",
                            name, strlen(text), strlen(text) + raw, text);
    r.size = strlen(head) + raw;
    r.bytes = cli_alloc(r.size, 1);
    memcpy(r.bytes, head, strlen(head));
    char *to = r.bytes + strlen(head);
    for (size_t i = 0; i < ps_model_input_count(model); i++) {
        memcpy(to, ps_tensor_data_const(inputs[i]), ps_tensor_bytes(inputs[i]));
        to += ps_tensor_bytes(inputs[i]);
    }
    free(head);
    free(text);
    json_decref(root);
    return r;
}

/* What the protocol carries as raw bytes; texts would need their lengths. */
static int check_values(const cli_args *args, const ps_model *model, const char *path, bool output) {
    const size_t n = output ? ps_model_output_count(model) : ps_model_input_count(model);
    for (size_t i = 0; i < n; i++) {
        ps_value_info info = { .size = sizeof info };
        if (output)
            ps_model_output(model, i, &info);
        else
            ps_model_input(model, i, &info);
        if (cli_dtype_container(info.dtype) || info.dtype == PS_DTYPE_STRING)
            return cli_fail(args, "%s: %s '%s' is no tensor of numbers", path, output ? "output" : "input", info.name);
    }
    return CLI_OK;
}

/* ---- the right answer ---- */

struct demo_answer {
    size_t n;
    ps_tensor **want, **got; /* got: where a reply's bytes are put */
};

/* Sums in another order, as in a batch, differ in the last digits. */
static bool is_close(const ps_tensor *got, const ps_tensor *want) {
    const bool floats = cli_dtype_float(ps_tensor_dtype(want));
    for (size_t i = 0; i < ps_tensor_elements(want); i++) {
        const double a = cli_element(got, i), b = cli_element(want, i), most = floats ? 1e-4 + 1e-3 * fabs(b) : 0;
        const bool same = a == b || fabs(a - b) <= most || (isnan(a) && isnan(b));
        if (!same) return false;
    }
    return true;
}

bool demo_answer_is_right(const demo_answer *answer, const char *raw, size_t size) {
    for (size_t i = 0; i < answer->n; i++) {
        const size_t bytes = ps_tensor_bytes(answer->want[i]);
        if (bytes > size) return false;
        if (bytes && memcmp(ps_tensor_data_const(answer->want[i]), raw, bytes) != 0) {
            memcpy(ps_tensor_data(answer->got[i]), raw, bytes);
            if (!is_close(answer->got[i], answer->want[i])) return false;
        }
        raw += bytes;
        size -= bytes;
    }
    return size == 0;
}

/* An output of the session, which is its own. */
static ps_status keep(ps_engine *engine, const ps_tensor *output, demo_answer *to, ps_error *err) {
    const ps_dtype type = ps_tensor_dtype(output);
    ps_status status = ps_tensor_create(engine, type, ps_tensor_shape(output), &to->want[to->n], err);
    if (status == PS_OK) status = ps_tensor_create(engine, type, ps_tensor_shape(output), &to->got[to->n], err);
    if (status == PS_OK) memcpy(ps_tensor_data(to->want[to->n]), ps_tensor_data_const(output), ps_tensor_bytes(output));
    to->n++;
    return status;
}

/* By a run without a server. */
static ps_status answer_of(const cli_model *m, ps_tensor *const *inputs, demo_answer **ret, ps_error *err) {
    const size_t n_out = ps_model_output_count(m->model);
    const ps_session_options o = PS_SESSION_OPTIONS_INIT;
    demo_answer *answer = *ret = cli_alloc(1, sizeof *answer);
    ps_tensor **outputs = cli_alloc(n_out, sizeof *outputs);
    ps_session *session = NULL;
    answer->want = cli_alloc(n_out, sizeof *answer->want);
    answer->got = cli_alloc(n_out, sizeof *answer->got);
    ps_status status = ps_session_create(m->model, &o, &session, err);
    if (status == PS_OK)
        status = ps_session_run(session, (const ps_tensor *const *)inputs, ps_model_input_count(m->model), outputs,
                                n_out, NULL, err);
    for (size_t i = 0; i < n_out && status == PS_OK; i++)
        status = keep(m->engine, outputs[i], answer, err);
    ps_session_free(session);
    free(outputs);
    return status;
}

static void answer_release(demo_answer *answer) {
    if (!answer) return;
    cli_tensors_release(answer->want, answer->n);
    cli_tensors_release(answer->got, answer->n);
    free(answer->want);
    free(answer->got);
    free(answer);
}

/* ---- both ---- */

int demo_request_make(const cli_args *args, const cli_model *m, const demo_question *q, demo_request *ret) {
    ps_tensor *inputs[MAX_INPUTS] = { 0 };
    const size_t n = ps_model_input_count(m->model);
    ps_error err = PS_ERROR_INIT;
    if (n == 0 || n > MAX_INPUTS)
        return cli_fail(args, "%s has %zu inputs, the demo takes 1 to %d", q->path, n, MAX_INPUTS);
    int code = check_values(args, m->model, q->path, false);
    if (code == CLI_OK && q->checked) code = check_values(args, m->model, q->path, true);
    if (code == CLI_OK) code = cli_random_inputs(args, m, 1, inputs);
    if (code == CLI_OK) *ret = make(m->model, inputs, q->name, q->timeout_ms);
    if (code == CLI_OK && q->checked && answer_of(m, inputs, &ret->answer, &err) != PS_OK)
        code = cli_fail_error(args, &err);
    cli_tensors_release(inputs, n);
    return code;
}

void demo_request_release(demo_request *request) {
    free(request->bytes);
    answer_release(request->answer);
    *request = (demo_request) { 0 };
}
