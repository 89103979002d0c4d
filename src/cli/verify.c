/* verify.c - ONNX backend-test folders: run the model on the inputs, compare with the outputs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef enum verdict { PASSED, FAILED, SKIPPED } verdict;

/* What became of one folder. */
typedef struct outcome {
    verdict verdict;
    size_t sets;
    double largest; /* absolute error, over all sets and outputs */
    char where[160];
    char why[600]; /* of a failure or skip: one sentence */
} outcome;

typedef struct limits {
    double rtol, atol;
} limits;

/* ---- comparing ---- */

static bool equal_strings(const ps_tensor *a, const ps_tensor *b, size_t *ret_at) {
    const ps_string *x = ps_tensor_data_const(a), *y = ps_tensor_data_const(b);
    for (size_t i = 0; i < ps_tensor_elements(a); i++)
        if (x[i].size != y[i].size || (x[i].size && memcmp(x[i].data, y[i].data, x[i].size) != 0)) {
            *ret_at = i;
            return false;
        }
    return true;
}

static bool same_shape(const ps_shape *a, const ps_shape *b) {
    if (a->rank != b->rank) return false;
    for (int d = 0; d < a->rank; d++)
        if (a->dims[d] != b->dims[d]) return false;
    return true;
}

/* Elements of numbers: |got - want| <= atol + rtol |want|, NaN and infinities at the same places. */
static bool compare_numbers(const ps_tensor *got, const ps_tensor *want, const limits *l, double *ret_largest,
                            size_t *ret_at) {
    const size_t n = ps_tensor_elements(want), bytes = ps_tensor_bytes(want);
    bool ok = true;
    if (!bytes || memcmp(ps_tensor_data_const(got), ps_tensor_data_const(want), bytes) == 0) return true;
    for (size_t i = 0; i < n; i++) {
        double a = NAN, b = NAN;
        bool close;
        if (!ps_tensor_get_double(got, i, &a) || !ps_tensor_get_double(want, i, &b)) {
            close = false; /* complex numbers, whose bytes differ */
        } else if (!isfinite(a) || !isfinite(b)) {
            close = (isnan(a) && isnan(b)) || a == b;
        } else {
            const double error = fabs(a - b);
            if (error > *ret_largest) *ret_largest = error;
            close = error <= l->atol + l->rtol * fabs(b);
        }
        if (!close && ok) {
            *ret_at = i;
            ok = false;
        }
    }
    return ok;
}

static void compare_output(const ps_tensor *got, const ps_tensor *want, const limits *l, const char *where, outcome *o);

/* The elements of two containers of equal type and length, one by one. */
static void compare_elements(const ps_tensor *got, const ps_tensor *want, const limits *l, const char *where,
                             outcome *o) {
    for (size_t i = 0; i < ps_tensor_elements(want) && o->verdict != FAILED; i++) {
        const ps_tensor *a = ps_tensor_element(got, i), *b = ps_tensor_element(want, i);
        char part[160];
        snprintf(part, sizeof part, "element %zu of %.120s", i, where);
        if (a && b) {
            compare_output(a, b, l, part, o);
        } else if (a || b) {
            o->verdict = FAILED;
            snprintf(o->why, sizeof o->why, "%s is %s", part, a ? "there, none is expected" : "missing");
        }
    }
}

static void compare_output(const ps_tensor *got, const ps_tensor *want, const limits *l, const char *where,
                           outcome *o) {
    char text[2][128];
    double largest = 0;
    size_t at = 0;
    if (ps_tensor_dtype(got) != ps_tensor_dtype(want) || !same_shape(ps_tensor_shape(got), ps_tensor_shape(want))) {
        o->verdict = FAILED;
        snprintf(o->why, sizeof o->why, "%s is %s%s, expected %s%s", where, ps_dtype_name(ps_tensor_dtype(got)),
                 cli_shape_text(NULL, ps_tensor_shape(got), text[0], sizeof text[0]),
                 ps_dtype_name(ps_tensor_dtype(want)),
                 cli_shape_text(NULL, ps_tensor_shape(want), text[1], sizeof text[1]));
        return;
    }
    if (cli_dtype_container(ps_tensor_dtype(want))) {
        compare_elements(got, want, l, where, o);
        return;
    }
    const bool strings = ps_tensor_dtype(want) == PS_DTYPE_STRING;
    const bool ok = strings ? equal_strings(got, want, &at) : compare_numbers(got, want, l, &largest, &at);
    if (largest > o->largest) {
        o->largest = largest;
        snprintf(o->where, sizeof o->where, "%s", where);
    }
    if (ok) return;
    if (o->verdict != FAILED) {
        if (strings)
            snprintf(o->why, sizeof o->why, "%s: text %zu differs", where, at);
        else
            snprintf(o->why, sizeof o->why, "%s: element %zu is %.9g, expected %.9g", where, at, cli_element(got, at),
                     cli_element(want, at));
    }
    o->verdict = FAILED;
}

/* ---- running ---- */

static ps_status run_set(ps_session *session, const ps_model *model, const cli_test_set *set, const char *set_name,
                         const limits *l, outcome *o, ps_error *err) {
    const size_t n_in = ps_model_input_count(model), n_out = ps_model_output_count(model);
    ps_tensor **in = cli_alloc(n_in, sizeof *in), **out = cli_alloc(n_out, sizeof *out);
    for (size_t i = 0; i < n_in && i < set->n_inputs; i++)
        in[i] = set->inputs[i];
    const ps_status status = ps_session_run(session, (const ps_tensor *const *)in, n_in, out, n_out, NULL, err);
    for (size_t i = 0; status == PS_OK && i < n_out && i < set->n_outputs; i++) {
        ps_value_info info = { .size = sizeof info };
        char where[160];
        ps_model_output(model, i, &info);
        snprintf(where, sizeof where, "output '%.80s' of %.60s", info.name, set_name);
        compare_output(out[i], set->outputs[i], l, where, o);
    }
    if (status == PS_OK && set->n_outputs == 0) {
        o->verdict = FAILED;
        snprintf(o->why, sizeof o->why, "%.60s holds no output_0.pb", set_name);
    }
    free(in);
    free(out);
    return status;
}

static ps_status verify_sets(const cli_args *args, ps_engine *engine, const char *dir, const limits *l, outcome *o,
                             ps_error *err) {
    size_t n = 0;
    char **names = cli_test_sets(dir, &n), *path = cli_model_path(dir);
    ps_model *model = NULL;
    ps_session *session = NULL;
    if (n == 0) {
        o->verdict = SKIPPED;
        snprintf(o->why, sizeof o->why, "no test_data_set_* beside the model");
    }
    ps_status status = n ? cli_model_load(args, engine, path, &model, err) : PS_OK;
    if (model) status = ps_session_create(model, NULL, &session, err);
    for (size_t i = 0; i < n && session && status == PS_OK; i++) {
        cli_test_set set;
        char *folder = cli_path_join(dir, names[i]);
        status = cli_test_set_load(engine, model, folder, &set, err);
        if (status == PS_OK) status = run_set(session, model, &set, names[i], l, o, err);
        o->sets += status == PS_OK;
        cli_test_set_release(&set);
        free(folder);
    }
    ps_session_free(session);
    ps_model_release(model);
    cli_names_free(names, n);
    free(path);
    return status;
}

static outcome verify_folder(const cli_args *args, ps_engine *engine, const char *dir, const limits *l) {
    outcome o = { .verdict = PASSED };
    ps_error err = PS_ERROR_INIT;
    char *path = cli_model_path(dir);
    const bool there = cli_is_dir(dir) && cli_is_file(path);
    free(path);
    if (!there) {
        /* DIR/... takes in files beside the folders; a misspelt folder must not pass */
        o.verdict = cli_is_dir(dir) || cli_is_file(dir) ? SKIPPED : FAILED;
        snprintf(o.why, sizeof o.why, o.verdict == SKIPPED ? "no model.onnx or model.pt2" : "no such folder");
    } else if (verify_sets(args, engine, dir, l, &o, &err) != PS_OK) {
        o.verdict = FAILED;
        snprintf(o.why, sizeof o.why, "%s", err.msg);
    }
    return o;
}

/* ---- report ---- */

static const char *const verdict_names[] = { "passed", "failed", "skipped" };

static void print_outcome(const char *dir, const outcome *o) {
    if (o->verdict == PASSED)
        printf("passed   %s  largest error %.3g%s%s%s  %zu set%s\n", dir, o->largest, o->where[0] ? " (" : "", o->where,
               o->where[0] ? ")" : "", o->sets, o->sets == 1 ? "" : "s");
    else if (o->verdict == FAILED)
        printf("FAILED   %s  %s; largest error %.3g%s%s%s\n", dir, o->why, o->largest, o->where[0] ? " (" : "",
               o->where, o->where[0] ? ")" : "");
    else
        printf("skipped  %s  %s\n", dir, o->why);
}

static json_t *outcome_json(const char *dir, const outcome *o) {
    return json_pack("{s:o, s:s, s:I, s:o, s:o, s:o}", "model", cli_json_text(dir), "status", verdict_names[o->verdict],
                     "sets", (json_int_t)o->sets, "max_abs_error", cli_json_real(o->largest), "where",
                     o->where[0] ? cli_json_text(o->where) : json_null(), "message",
                     o->why[0] ? cli_json_text(o->why) : json_null());
}

static int verify_all(const cli_args *args, ps_engine *engine, const limits *l) {
    size_t counts[3] = { 0 };
    json_t *models = json_array();
    cli_progress bar;
    cli_progress_start(&bar, args, "verify");
    for (size_t i = 0; i < args->n_words; i++) {
        cli_progress_set(&bar, (double)i / (double)args->n_words, args->words[i]);
        const outcome o = verify_folder(args, engine, args->words[i], l);
        counts[o.verdict]++;
        cli_progress_end(&bar);
        if (!args->json) print_outcome(args->words[i], &o);
        fflush(stdout);
        json_array_append_new(models, outcome_json(args->words[i], &o));
    }
    cli_progress_end(&bar);
    if (args->json)
        cli_json_print(json_pack("{s:O, s:I, s:I, s:I}", "models", models, "passed", (json_int_t)counts[PASSED],
                                 "failed", (json_int_t)counts[FAILED], "skipped", (json_int_t)counts[SKIPPED]));
    else
        printf("%zu passed, %zu failed, %zu skipped\n", counts[PASSED], counts[FAILED], counts[SKIPPED]);
    json_decref(models);
    if (!counts[FAILED]) return CLI_OK;
    return cli_fail(args, "%zu of %zu models failed", counts[FAILED], args->n_words);
}

static int run_verify(const cli_args *args) {
    limits l = { 1e-3, 1e-5 };
    ps_engine *engine;
    if (!cli_get_double(args, "rtol", 0, 1e9, &l.rtol) || !cli_get_double(args, "atol", 0, 1e9, &l.atol))
        return CLI_USAGE;
    int code = cli_engine_open(args, NULL, NULL, &engine);
    if (code == CLI_OK) code = verify_all(args, engine, &l);
    ps_engine_free(engine);
    return code;
}

static const cli_option options[] = {
    { "rtol", CLI_TEXT, "R", "relative tolerance: |got - expected| <= atol + rtol |expected|", "1e-3" },
    { "atol", CLI_TEXT, "A", "absolute tolerance", "1e-5" },
    CLI_OPT_DEVICE,
    CLI_OPT_ACTIVATIONS,
    CLI_OPT_PRECISION,
    CLI_OPT_THREADS,
    CLI_OPT_NO_FUSION,
    CLI_OPT_JSON,
    CLI_OPT_END,
};

const cli_command cli_verify = {
    "verify",
    "DIR...",
    CLI_DIR,
    "compare models with the test data beside them",
    "Each DIR holds model.onnx (or model.pt2) and test_data_set_*/{input,output}_*.pb, as ONNX backend tests do; a DIR "
    "without a model is skipped, one that is not there fails. Types and shapes must be equal, NaN and infinities at "
    "the "
    "same places. The last line reads 'N passed, N failed, N skipped'.",
    options,
    1,
    -1,
    run_verify,
};
