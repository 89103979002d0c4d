/* demo_batching.c - `polestar demo batching`: one model behind three servers under a load that goes up and down. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

enum { CONTESTANTS = 3, BATCH = 32 };
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
        static const uint32_t width[DEMO_LAYERS + 1] = { 1024, 3072, 3072, 16 };
        d->folder = demo_folder_make(d->args);
        if (!d->folder) return CLI_FAILED;
        d->path = cli_path_join(d->folder, "mlp.onnx");
        d->title = "a multilayer perceptron, 1024-3072-3072-16, of drawn weights";
        if (!demo_model_write(d->path, width)) return cli_fail(d->args, "%s cannot be written", d->path);
    }
    return cli_model_open(d->args, d->path, &d->m);
}

static int make_requests(demo *d) {
    const demo_question ours = { d->path, "demo", d->target_ms, false }, others = { d->path, "demo", 0, false };
    const int code = demo_request_make(d->args, &d->m, &ours, &d->ours);
    return code == CLI_OK ? demo_request_make(d->args, &d->m, &others, &d->others) : code;
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

/* ---- sizes of batches ---- */

/* The client, and the sums over all runs of the model as the statistics had them last. */
typedef struct batches {
    demo_client *client;
    double runs, items;
} batches;

/* Mean size of the batches since the last call; 0: the server says nothing of them. */
static double mean_batch(batches *b) {
    json_t *root = demo_client_get(b->client, "/v2/models/demo/stats");
    const json_t *s = json_object_get(json_array_get(json_object_get(root, "model_stats"), 0), "scheduler");
    const double runs = (double)json_integer_value(json_object_get(s, "batches"));
    const double items = (double)json_integer_value(json_object_get(s, "items"));
    const double n = runs - b->runs, sum = items - b->items;
    if (s) *b = (batches) { b->client, runs, items };
    json_decref(root);
    return s && n > 0 ? sum / n : 0;
}

static void at_tick(void *ctx, demo_count *tick) {
    tick->batch = mean_batch(ctx);
}

/* Mean of the ticks of each step; what a step leaves behind runs in the first ticks of the next. */
static void batches_of_steps(demo_result *r) {
    double from = 0;
    for (int s = 0; s < DEMO_STEPS; s++) {
        const double to = from + r->step[s].seconds * 1000 / DEMO_TICK_MS;
        double sum = 0;
        int n = 0;
        for (size_t t = (size_t)ceil((from + to) / 2); t < (size_t)to && t < r->n_ticks; t++) {
            if (r->tick[t].batch <= 0) continue;
            sum += r->tick[t].batch;
            n++;
        }
        r->step[s].batch = n ? sum / n : 0;
        from = to;
    }
}

static void put_load(demo *d, int contestant, demo_client *c) {
    batches b = { .client = c };
    const demo_load load = { .requests = contestant ? &d->others : &d->ours,
                             .n_requests = 1,
                             .target_ms = d->target_ms,
                             .patience_s = 1,
                             .at_tick = at_tick,
                             .ctx = &b };
    (void)mean_batch(&b);
    demo_client_run(c, &load, &d->all[contestant].result);
    batches_of_steps(&d->all[contestant].result);
}

/* ---- one contestant ---- */

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
    c = demo_client_open(ps_server_http_port(server), &err);
    if (!c) code = cli_fail_error(d->args, &err);
    if (code == CLI_OK) code = warm_up(d, contestant, c, &o);
    if (code == CLI_OK) put_load(d, contestant, c);
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
    const char *html = cli_get(d->args, "html");
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
    if (!html) html = "polestar-demo-batching.html";
    if (*html && !demo_batching_page(html, d->title, d->target_ms, d->all, CONTESTANTS, &err))
        return cli_fail_error(d->args, &err);
    if (d->args->json) return print_json(d);
    if (*html) printf("plots: %s\n", html);
    return CLI_OK;
}

static void release(demo *d) {
    for (int k = 0; k < CONTESTANTS; k++)
        free(d->all[k].result.tick);
    demo_request_release(&d->ours);
    demo_request_release(&d->others);
    cli_model_close(&d->m);
    demo_folder_remove(d->folder);
    free(d->path);
}

int demo_batching(const cli_args *args, double target_ms, double seconds) {
    demo d = { .args = args, .target_ms = target_ms, .seconds = seconds };
    const int code = run_all(&d);
    release(&d);
    return code;
}
