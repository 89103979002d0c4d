/* inspect.c - what a model file holds and what running it takes. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* ---- one run, for what only a plan knows: memory, multiply-accumulates, kernels ---- */

typedef struct plan_facts {
    ps_session *session; /* of the run, for its steps; NULL if it failed */
    ps_session_stats stats;
    ps_error err;
} plan_facts;

static int run_once(const cli_args *args, const cli_model *m, plan_facts *ret) {
    const size_t n_in = ps_model_input_count(m->model), n_out = ps_model_output_count(m->model);
    ps_tensor **in = cli_alloc(n_in, sizeof *in), **out = cli_alloc(n_out, sizeof *out);
    *ret = (plan_facts) { .stats = { .size = sizeof ret->stats }, .err = PS_ERROR_INIT };
    const int code = cli_random_inputs(args, m, 0, in);
    if (code == CLI_OK) {
        ps_status status = ps_session_create(m->model, NULL, &ret->session, &ret->err);
        if (status == PS_OK)
            status = ps_session_run(ret->session, (const ps_tensor *const *)in, n_in, out, n_out, NULL, &ret->err);
        if (status == PS_OK) status = ps_session_statistics(ret->session, &ret->stats);
        if (status != PS_OK) {
            ps_session_free(ret->session);
            ret->session = NULL;
        }
    }
    cli_tensors_release(in, n_in);
    free(in);
    free(out);
    return code;
}

/* ---- JSON ---- */

static json_t *json_values(const ps_model *model, size_t n,
                           ps_status (*get)(const ps_model *, size_t, ps_value_info *)) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        ps_value_info v = { .size = sizeof v };
        get(model, i, &v);
        json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "name", cli_json_text(v.name), "dtype",
                                              ps_dtype_name(v.dtype), "shape", cli_json_shape(model, &v.shape)));
    }
    return list;
}

static json_t *json_metadata(const ps_model *model) {
    json_t *object = json_object();
    const char *key, *value;
    for (size_t i = 0; ps_model_metadata_at(model, i, &key, &value) == PS_OK; i++)
        json_object_set_new(object, key, cli_json_text(value));
    return object;
}

static json_t *json_operators(const ps_model *model) {
    json_t *object = json_object();
    const char *name;
    size_t count;
    for (size_t i = 0; ps_model_operator(model, i, &name, &count) == PS_OK; i++)
        json_object_set_new(object, name, json_integer((json_int_t)count));
    return object;
}

static json_t *json_steps(const plan_facts *f) {
    json_t *list = json_array();
    ps_step_info s = { .size = sizeof s };
    for (size_t i = 0; ps_session_step(f->session, i, &s) == PS_OK; i++)
        json_array_append_new(list, json_pack("{s:o, s:o, s:o, s:o, s:I, s:o, s:s, s:o*, s:o*}", "node",
                                              cli_json_text(s.node), "op", cli_json_text(s.op), "kernel",
                                              cli_json_text(s.kernel), "device", cli_json_text(s.device), "macs",
                                              (json_int_t)s.macs, "shape", cli_json_shape(NULL, &s.shape), "stored",
                                              ps_dtype_name(s.stored), "note", s.note ? cli_json_text(s.note) : NULL,
                                              "fallback", s.fallback ? cli_json_text(s.fallback) : NULL));
    return list;
}

static json_t *json_plan(const plan_facts *f) {
    if (!f->session) return json_pack("{s:o}", "error", cli_json_text(f->err.msg));
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "macs", (json_int_t)f->stats.macs, "arena_bytes",
                     (json_int_t)f->stats.arena_bytes, "no_reuse_bytes", (json_int_t)f->stats.no_reuse_bytes, "steps",
                     (json_int_t)f->stats.steps, "reorders", (json_int_t)f->stats.reorders, "transfers",
                     (json_int_t)f->stats.transfers, "operators", json_steps(f));
}

static int print_json(const char *path, const cli_model *m, const ps_model_summary *s, const plan_facts *f) {
    json_t *j = json_pack("{s:o, s:o, s:o, s:I, s:I}", "model", cli_json_text(path), "graph",
                          cli_json_text(s->graph_name), "producer", cli_json_text(s->producer), "ir_version",
                          (json_int_t)s->ir_version, "opset", (json_int_t)s->opset);
    json_object_update_new(j, json_pack("{s:I, s:I, s:I, s:I, s:I}", "nodes", (json_int_t)s->nodes, "nodes_fused",
                                        (json_int_t)s->nodes_fused, "parameters", (json_int_t)s->parameters,
                                        "weight_bytes", (json_int_t)s->weight_bytes, "file_bytes",
                                        (json_int_t)s->file_bytes));
    json_object_set_new(j, "inputs", json_values(m->model, ps_model_input_count(m->model), ps_model_input));
    json_object_set_new(j, "outputs", json_values(m->model, ps_model_output_count(m->model), ps_model_output));
    json_object_set_new(j, "operators", json_operators(m->model));
    json_object_set_new(j, "metadata", json_metadata(m->model));
    json_object_set_new(j, "run", json_plan(f));
    return cli_json_print(j);
}

/* ---- text ---- */

static void print_values(const char *title, const ps_model *model, size_t n,
                         ps_status (*get)(const ps_model *, size_t, ps_value_info *)) {
    char text[256];
    for (size_t i = 0; i < n; i++) {
        ps_value_info v = { .size = sizeof v };
        get(model, i, &v);
        printf("%-12s %-24s %s%s\n", i ? "" : title, v.name, ps_dtype_name(v.dtype),
               cli_shape_text(model, &v.shape, text, sizeof text));
    }
}

static void print_operators(const ps_model *model) {
    const char *name;
    size_t count;
    printf("%-12s", "operators");
    for (size_t i = 0; ps_model_operator(model, i, &name, &count) == PS_OK; i++)
        printf("%s%s %zu", i == 0 ? " " : i % 6 ? ", " : ",\n             ", name, count);
    putchar('\n');
}

static void print_metadata(const ps_model *model) {
    const char *key, *value;
    for (size_t i = 0; ps_model_metadata_at(model, i, &key, &value) == PS_OK; i++) {
        const size_t n = strcspn(value, "\n");
        printf("%-12s %s = %.*s%s\n", i ? "" : "metadata", key, (int)(n > 60 ? 60 : n), value,
               n > 60 || value[n] ? " ..." : "");
    }
}

/* How many steps ran on which device. */
static void print_devices(const plan_facts *f) {
    ps_step_info s = { .size = sizeof s };
    char names[8][32];
    size_t counts[8] = { 0 }, n = 0;
    for (size_t i = 0; ps_session_step(f->session, i, &s) == PS_OK; i++) {
        size_t k = 0;
        while (k < n && strcmp(names[k], s.device) != 0)
            k++;
        if (k == 8) continue;
        if (k == n) snprintf(names[n++], sizeof names[0], "%s", s.device);
        counts[k]++;
    }
    printf("%-12s", "devices");
    for (size_t k = 0; k < n; k++)
        printf("%s%s %zu steps", k ? ", " : " ", names[k], counts[k]);
    printf(" (%zu reorders", f->stats.reorders);
    if (f->stats.transfers) printf(", %zu copies between memories", f->stats.transfers);
    puts(")");
}

/* What does not run on the model's device, by operator and reason. */
static void print_fallbacks(const plan_facts *f) {
    ps_step_info s = { .size = sizeof s };
    const char *rows[64][2];
    size_t counts[64] = { 0 }, n = 0;
    for (size_t i = 0; ps_session_step(f->session, i, &s) == PS_OK; i++) {
        size_t k = 0;
        if (!s.fallback) continue;
        while (k < n && (strcmp(rows[k][0], s.op) != 0 || strcmp(rows[k][1], s.fallback) != 0))
            k++;
        if (k == 64) continue;
        if (k == n) {
            rows[n][0] = s.op;
            rows[n++][1] = s.fallback;
        }
        counts[k]++;
    }
    for (size_t k = 0; k < n; k++)
        printf("%-12s %s x %zu: %s\n", k ? "" : "fallback", rows[k][0], counts[k], rows[k][1]);
}

/* Steps on 8-bit codes, and those that are quantised in the model but computed on floats. */
static void print_codes(const plan_facts *f) {
    ps_step_info s = { .size = sizeof s };
    size_t codes = 0, floats = 0;
    int64_t macs_codes = 0, macs = 0;
    for (size_t i = 0; ps_session_step(f->session, i, &s) == PS_OK; i++) {
        const bool is_code = strstr(s.kernel, "int8") != NULL;
        codes += is_code;
        floats += s.note != NULL;
        macs += s.macs;
        macs_codes += is_code ? s.macs : 0;
    }
    if (!codes && !floats) return;
    printf("%-12s %zu steps on 8-bit codes with %.1f %% of the MACs, %zu quantised ones on floats%s\n", "int8", codes,
           macs ? 100.0 * (double)macs_codes / (double)macs : 0.0, floats, floats ? " (--steps says why)" : "");
}

/* "1x64x56x56", and "f16 1x64x56x56" where it lies as f16. */
static const char *output_text(const ps_step_info *s, char *buf, size_t size) {
    char shape[128];
    snprintf(buf, size, "%s%s", s->stored == PS_DTYPE_F16 ? "f16 " : "",
             cli_shape_text(NULL, &s->shape, shape, sizeof shape));
    return buf;
}

static void print_steps(const plan_facts *f) {
    ps_step_info s = { .size = sizeof s };
    char shape[160], macs[32];
    printf("\n%-28s %-20s %-24s %8s  %-8s %s\n", "node", "operator", "output", "MACs", "device", "kernel");
    for (size_t i = 0; ps_session_step(f->session, i, &s) == PS_OK; i++)
        printf("%-28.28s %-20.20s %-24s %8s  %-8s %s%s%s%s%s\n", s.node, s.op, output_text(&s, shape, sizeof shape),
               s.macs ? cli_count_text((double)s.macs, macs, sizeof macs) : "-", s.device, s.kernel,
               s.note ? ", on floats: " : "", s.note ? s.note : "", s.fallback ? ", not on the device: " : "",
               s.fallback ? s.fallback : "");
}

static void print_plan(const cli_args *args, const plan_facts *f) {
    char a[32], b[32];
    if (!f->session) {
        printf("%-12s cannot run with random data of default shapes: %s\n", "run", f->err.msg);
        return;
    }
    printf("%-12s %s\n", "MACs", cli_count_text((double)f->stats.macs, a, sizeof a));
    printf("%-12s %s of activations at the peak (%s without reuse)\n", "memory",
           cli_bytes_text((double)f->stats.arena_bytes, a, sizeof a),
           cli_bytes_text((double)f->stats.no_reuse_bytes, b, sizeof b));
    print_devices(f);
    print_fallbacks(f);
    print_codes(f);
    if (cli_has(args, "steps")) print_steps(f);
}

static void print_text(const cli_args *args, const cli_model *m, const ps_model_summary *s, const plan_facts *f) {
    char a[32], b[32];
    printf("%-12s %s (%s, IR %lld, opset %lld)\n", "model", s->graph_name, s->producer[0] ? s->producer : "no producer",
           (long long)s->ir_version, (long long)s->opset);
    print_values("inputs", m->model, ps_model_input_count(m->model), ps_model_input);
    print_values("outputs", m->model, ps_model_output_count(m->model), ps_model_output);
    printf("%-12s %zu in the file, %zu after fusion\n", "nodes", s->nodes, s->nodes_fused);
    print_operators(m->model);
    printf("%-12s %s in %s of weights\n", "parameters", cli_count_text((double)s->parameters, a, sizeof a),
           cli_bytes_text((double)s->weight_bytes, b, sizeof b));
    printf("%-12s %s\n", "file", cli_bytes_text((double)s->file_bytes, a, sizeof a));
    print_metadata(m->model);
    print_plan(args, f);
}

static int print_graph(const cli_args *args, const cli_model *m) {
    ps_error err = PS_ERROR_INIT;
    char *text = NULL;
    if (ps_model_print(m->model, &text, &err) != PS_OK) return cli_fail_error(args, &err);
    fputs(text, stdout);
    ps_text_free(m->model, text);
    return CLI_OK;
}

static int inspect(const cli_args *args, const cli_model *m) {
    ps_model_summary s = { .size = sizeof s };
    plan_facts f;
    if (cli_has(args, "graph")) return print_graph(args, m);
    ps_model_summarize(m->model, &s);
    int code = run_once(args, m, &f);
    if (code == CLI_OK && args->json)
        code = print_json(args->words[0], m, &s, &f);
    else if (code == CLI_OK)
        print_text(args, m, &s, &f);
    ps_session_free(f.session);
    return code;
}

static int run_inspect(const cli_args *args) {
    cli_model m;
    int code = cli_model_open(args, args->words[0], &m);
    if (code == CLI_OK) code = inspect(args, &m);
    cli_model_close(&m);
    return code;
}

static const cli_option options[] = {
    { "steps", CLI_FLAG, NULL,
      "list every step of the plan: node, shape, work, device, kernel, why it does not run on the device, and why a "
      "quantised one computes on floats",
      NULL },
    { "graph", CLI_FLAG, NULL, "print the optimised graph as text and nothing else", NULL },
    CLI_OPT_SHAPE,
    CLI_OPT_DEVICE,
    CLI_OPT_ACTIVATIONS,
    CLI_OPT_THREADS,
    CLI_OPT_NO_FUSION,
    CLI_OPT_JSON,
    CLI_OPT_END,
};

const cli_command cli_inspect = {
    "inspect",
    "MODEL",
    CLI_FILE,
    "say what a model holds and what running it takes",
    "MODEL is an ONNX file, a torch.export archive (.pt2) or a folder with one as model.onnx or model.pt2. The model "
    "is run once with random data, at the shapes of "
    "--shape or 1 "
    "for every dim the file leaves open, to count work, memory and devices.",
    options,
    1,
    1,
    run_inspect,
};
