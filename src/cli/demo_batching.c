/* demo_batching.c - shows on this machine what the server does: `polestar demo batching`. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

enum { CONTESTANTS = 3, BATCH = 32, MAX_INPUTS = 64 };
#define WARM_S 0.7
#define PEAK 1.15 /* of what full batches can do */
#define CALM 0.4  /* of what single requests can do */

typedef struct demo {
    const cli_args *args;
    cli_model m;
    char *folder, *path; /* folder: of the model that we made, or NULL */
    const char *title;
    demo_request ours, others; /* with and without a timeout */
    double target_ms, seconds;
    demo_contestant all[CONTESTANTS];
} demo;

/* ---- the model and the request ---- */

/* The model of the command line, or one that is written to a folder of its own. */
static int open_model(demo *d) {
    if (d->args->n_words > 1) {
        d->path = cli_model_path(d->args->words[1]);
        d->title = cli_base_name(d->args->words[1]);
    } else {
        d->folder = demo_folder_make(d->args);
        if (!d->folder) return CLI_FAILED;
        d->path = cli_path_join(d->folder, "mlp.onnx");
        d->title = "a multilayer perceptron, 1024-3072-3072-16, of drawn weights";
        if (!demo_model_write(d->path)) return cli_fail(d->args, "%s cannot be written", d->path);
    }
    return cli_model_open(d->args, d->path, &d->m);
}

/* The JSON head of a request for these inputs, and the bytes of all of them behind it. */
static demo_request make_request(ps_tensor *const *inputs, const demo *d, double timeout_ms) {
    demo_request r = { 0 };
    json_t *list = json_array(), *root = json_object();
    size_t raw = 0;
    for (size_t i = 0; i < ps_model_input_count(d->m.model); i++) {
        ps_value_info info = { .size = sizeof info };
        ps_model_input(d->m.model, i, &info);
        const size_t bytes = ps_tensor_bytes(inputs[i]);
        json_t *shape = json_array();
        for (int k = 0; k < ps_tensor_shape(inputs[i])->rank; k++)
            json_array_append_new(shape, json_integer(ps_tensor_shape(inputs[i])->dims[k]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:{s:I}}", "name", info.name, "datatype",
                                              ps_dtype_v2_name(info.dtype), "shape", shape, "parameters",
                                              "binary_data_size", (json_int_t)bytes));
        raw += bytes;
    }
    json_object_set_new(root, "inputs", list);
    json_t *parameters = json_pack("{s:b}", "binary_data_output", 1);
    if (timeout_ms > 0) json_object_set_new(parameters, "timeout", json_integer((json_int_t)(timeout_ms * 1000)));
    json_object_set_new(root, "parameters", parameters);
    char *text = json_dumps(root, JSON_COMPACT);
    char *head =
        cli_format("POST /v2/models/demo/infer HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: "
                   "%zu\r\nContent-Length: %zu\r\n\r\n%s",
                   strlen(text), strlen(text) + raw, text);
    r.size = strlen(head) + raw;
    r.bytes = cli_alloc(r.size, 1);
    memcpy(r.bytes, head, strlen(head));
    char *to = r.bytes + strlen(head);
    for (size_t i = 0; i < ps_model_input_count(d->m.model); i++) {
        memcpy(to, ps_tensor_data_const(inputs[i]), ps_tensor_bytes(inputs[i]));
        to += ps_tensor_bytes(inputs[i]);
    }
    free(head);
    free(text);
    json_decref(root);
    return r;
}

/* What the protocol carries as raw bytes; texts would need their lengths. */
static int make_requests(demo *d) {
    ps_tensor *inputs[MAX_INPUTS] = { 0 };
    const size_t n = ps_model_input_count(d->m.model);
    if (n == 0 || n > MAX_INPUTS) return cli_fail(d->args, "%s has %zu inputs, the demo takes 1 to 64", d->path, n);
    for (size_t i = 0; i < n; i++) {
        ps_value_info info = { .size = sizeof info };
        ps_model_input(d->m.model, i, &info);
        if (cli_dtype_container(info.dtype) || info.dtype == PS_DTYPE_STRING)
            return cli_fail(d->args, "%s: input '%s' is no tensor of numbers", d->path, info.name);
    }
    const int code = cli_random_inputs(d->args, &d->m, 1, inputs);
    if (code == CLI_OK) {
        d->ours = make_request(inputs, d, d->target_ms);
        d->others = make_request(inputs, d, 0);
    }
    cli_tensors_release(inputs, n);
    return code;
}

/* ---- contestants ---- */

static ps_server_options options_of(const demo *d, int contestant, const ps_server_model *model) {
    ps_server_options o = PS_SERVER_OPTIONS_INIT;
    o.http_port = 0;
    o.grpc_port = -1;
    o.models = model;
    o.model_count = 1;
    o.device = cli_get(d->args, "device");
    o.runners = 1; /* one run at a time, so that batches are what differs */
    o.max_batch = contestant == 1 ? 1 : BATCH;
    if (contestant == 2) {
        o.batch_policy = "triton";
        o.batch_size = BATCH;
        o.batch_delay_ms = 20;
    }
    return o;
}

/* Up and down again, in equal ratios. */
static void set_steps(demo *d, double single, double full) {
    const double low = CALM * single, ratio = pow(fmax(PEAK * full / low, 1), 2.0 / (DEMO_STEPS - 1));
    for (int k = 0; k < CONTESTANTS; k++) {
        for (int s = 0; s < DEMO_STEPS; s++) {
            const int up = s < DEMO_STEPS / 2 ? s : DEMO_STEPS - 1 - s;
            d->all[k].result.step[s].rate = low * pow(ratio, up);
            d->all[k].result.step[s].seconds = d->seconds;
        }
    }
}

/* Plans are made, times are learnt; the first server tells what loads make sense here. */
static int warm_up(demo *d, int contestant, demo_client *c, const ps_server_options *o) {
    double single = demo_client_saturate(c, &d->others, 1, WARM_S), full = 0;
    for (int n = 2; n <= 2 * o->max_batch; n *= 2)
        full = demo_client_saturate(c, &d->others, n, WARM_S / 2);
    full = fmax(single, demo_client_saturate(c, &d->others, 2 * BATCH, WARM_S));
    if (contestant > 0) return CLI_OK;
    if (!(single > 0)) return cli_fail(d->args, "%s answers nothing within %g s", d->title, WARM_S);
    set_steps(d, single, full);
    if (!d->args->json)
        printf("one at a time %.0f answers/s, in batches %.0f: the load goes from %.0f to %.0f/s and back\n", single,
               full, d->all[0].result.step[0].rate, d->all[0].result.step[DEMO_STEPS / 2].rate);
    fflush(stdout);
    return CLI_OK;
}

static int let_run(demo *d, int contestant) {
    ps_error err = PS_ERROR_INIT;
    const ps_server_model model = { .name = "demo", .path = d->path };
    const ps_server_options o = options_of(d, contestant, &model);
    ps_server *server = NULL;
    demo_client *c = NULL;
    int code = CLI_OK;
    if (ps_server_start(d->m.engine, &o, &server, &err) != PS_OK) return cli_fail_error(d->args, &err);
    while (!ps_server_wait_ready(server, 1000))
        continue;
    c = demo_client_open(ps_server_http_port(server), "demo", d->target_ms, &err);
    if (!c) code = cli_fail_error(d->args, &err);
    if (code == CLI_OK) code = warm_up(d, contestant, c, &o);
    if (code == CLI_OK) demo_client_run(c, contestant ? &d->others : &d->ours, &d->all[contestant].result);
    demo_client_close(c);
    ps_server_free(server);
    return code;
}

/* ---- what it says ---- */

static void print_table(const demo *d) {
    printf("\n%-10s", "offered/s");
    for (int k = 0; k < CONTESTANTS; k++)
        printf(" | %-26s", d->all[k].name);
    printf("\n%-10s", "");
    for (int k = 0; k < CONTESTANTS; k++)
        printf(" | %9s %8s %7s", "in time/s", "p99 ms", "batch");
    printf("\n");
    for (int s = 0; s < DEMO_STEPS; s++) {
        const demo_count *first = &d->all[0].result.step[s];
        printf("%-10.0f", (double)first->offered / first->seconds);
        for (int k = 0; k < CONTESTANTS; k++) {
            const demo_count *c = &d->all[k].result.step[s];
            printf(" | %9.0f ", (double)c->in_time / c->seconds);
            if (isnan(c->p99_ms))
                printf("%8s", "-");
            else
                printf("%8.1f", c->p99_ms);
            printf(" %7.1f", c->batch);
        }
        printf("\n");
    }
    printf("in time: within %g ms of the moment at which the request was to be sent\n", d->target_ms);
}

static int print_json(const demo *d) {
    json_t *list = json_array();
    for (int k = 0; k < CONTESTANTS; k++) {
        json_t *steps = json_array();
        for (int s = 0; s < DEMO_STEPS; s++) {
            const demo_count *c = &d->all[k].result.step[s];
            json_array_append_new(steps, json_pack("{s:o, s:o, s:o, s:o}", "offered_per_s",
                                                   cli_json_real((double)c->offered / c->seconds), "in_time_per_s",
                                                   cli_json_real((double)c->in_time / c->seconds), "p99_ms",
                                                   cli_json_real(c->p99_ms), "mean_batch", cli_json_real(c->batch)));
        }
        json_array_append_new(list, json_pack("{s:s, s:o}", "server", d->all[k].name, "steps", steps));
    }
    return cli_json_print(json_pack("{s:o, s:o, s:o}", "model", cli_json_text(d->title), "target_ms",
                                    cli_json_real(d->target_ms), "servers", list));
}

static int run_all(demo *d) {
    static const char *const names[] = { "adaptive (the default)", "batch 1", "batch 32 or 20 ms" };
    static const char *const colors[] = { "#0a6", "#c33", "#36c" };
    const char *html = demo_page_path(d->args, "polestar-demo-batching.html");
    ps_error err = PS_ERROR_INIT;
    int code = open_model(d);
    if (code == CLI_OK) code = make_requests(d);
    for (int k = 0; k < CONTESTANTS && code == CLI_OK; k++) {
        d->all[k].name = names[k];
        d->all[k].color = colors[k];
        code = let_run(d, k);
    }
    if (code != CLI_OK) return code;
    if (!d->args->json) print_table(d);
    if (html && !demo_batching_page(html, d->title, d->target_ms, d->all, CONTESTANTS, &err))
        return cli_fail_error(d->args, &err);
    if (d->args->json) return print_json(d);
    if (html) printf("plots: %s\n", html);
    return CLI_OK;
}

static void release(demo *d) {
    for (int k = 0; k < CONTESTANTS; k++)
        free(d->all[k].result.tick);
    free(d->ours.bytes);
    free(d->others.bytes);
    cli_model_close(&d->m);
    demo_folder_remove(d->folder);
    free(d->path);
}

int demo_batching(const cli_args *args) {
    demo d = { .args = args, .target_ms = 100, .seconds = 1.5 };
    if (!cli_get_double(args, "target", 1, 60000, &d.target_ms) ||
        !cli_get_double(args, "seconds", 0.2, 600, &d.seconds))
        return CLI_USAGE;
    const int code = run_all(&d);
    release(&d);
    return code;
}
