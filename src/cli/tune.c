/* tune.c - the fastest variants of a model's kernels on a graphics card, found once and kept. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static int report(const cli_args *args, cli_model *m) {
    ps_model_tuning_info t = { .size = sizeof t };
    if (ps_model_tuning(m->model, &t) != PS_OK) return cli_fail(args, "the model tells nothing of its trials");
    if (args->json)
        return cli_json_print(json_pack("{s:o, s:I, s:I, s:I, s:I, s:f, s:f}", "model", cli_json_text(args->words[0]),
                                        "products", (json_int_t)t.problems, "variants", (json_int_t)t.tried, "faster",
                                        (json_int_t)t.faster, "refused", (json_int_t)t.wrong, "usual_ms", t.usual_ms,
                                        "chosen_ms", t.chosen_ms));
    if (!t.problems) {
        printf("nothing to try: every kernel for this shape was tuned before, or runs elsewhere\n");
        return CLI_OK;
    }
    printf("%llu problems, %llu variants tried, %llu problems solved by another than the table's, "
           "%llu variants refused\n",
           (unsigned long long)t.problems, (unsigned long long)t.tried, (unsigned long long)t.faster,
           (unsigned long long)t.wrong);
    printf("one run of each: %.3f ms by the table, %.3f ms as chosen\n", t.usual_ms, t.chosen_ms);
    return CLI_OK;
}

static int try_all(const cli_args *args, cli_model *m, int batch) {
    const size_t n_in = ps_model_input_count(m->model), n_out = ps_model_output_count(m->model);
    ps_tensor **in = cli_alloc(n_in, sizeof *in), **out = cli_alloc(n_out, sizeof *out);
    ps_session *session = NULL;
    ps_error err = PS_ERROR_INIT;
    int code = cli_random_inputs(args, m, batch, in);
    if (code == CLI_OK) {
        ps_status status = ps_session_create(m->model, NULL, &session, &err);
        if (status == PS_OK)
            status = ps_session_run(session, (const ps_tensor *const *)in, n_in, out, n_out, NULL, &err);
        if (status != PS_OK) code = cli_fail_error(args, &err);
    }
    ps_session_free(session);
    cli_tensors_release(in, n_in);
    free(in);
    free(out);
    return code;
}

static int run_tune(const cli_args *args) {
    double seconds = 600;
    int batches[1] = { 0 };
    size_t n_batches = 1;
    ps_error err = PS_ERROR_INIT;
    cli_model m = { 0 };
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    if (!cli_get_double(args, "seconds", 0.01, 86400, &seconds)) return CLI_USAGE;
    if (!cli_get_ints(args, "batch", batches, 1, &n_batches)) return CLI_USAGE;
    o.device = cli_has(args, "device") ? cli_get(args, "device") : "gpu";
    o.activations = cli_activations(args);
    o.tune_ms = (int64_t)(1e3 * seconds);
    if (ps_engine_create(NULL, &m.engine, &err) != PS_OK) return cli_fail_error(args, &err);
    char *file = cli_model_path(args->words[0]);
    const ps_status status = ps_model_load(m.engine, file, &o, &m.model, &err);
    free(file);
    int code = status == PS_OK ? try_all(args, &m, batches[0]) : cli_fail_error(args, &err);
    if (code == CLI_OK) code = report(args, &m);
    cli_model_close(&m);
    return code;
}

static const cli_option options[] = {
    { "seconds", CLI_TEXT, "S", "begin no trial after so long", "600" },
    { "batch", CLI_TEXT, "N", "first dim of every input", "what the file says, else 1" },
    CLI_OPT_SHAPE,
    CLI_OPT_DEVICE,
    CLI_OPT_ACTIVATIONS,
    CLI_OPT_JSON,
    CLI_OPT_END,
};

const cli_command cli_tune = {
    "tune",
    "MODEL",
    CLI_FILE,
    "find the fastest kernels for a model on a graphics card",
    "Each product of the model, at the shapes of one run, is timed in several variants on the device (--device, else "
    "the first graphics card). The variant of the device's table stays unless another gives the same results and is "
    "faster. What was found lies in the cache folder and is used by every later load on this device and driver.",
    options,
    1,
    1,
    run_tune,
};
