/* run.c - run a model on files or random data. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "cli.h"

/* ---- photos ---- */

static bool has_suffix(const char *path, const char *suffix) {
    const size_t n = strlen(path), m = strlen(suffix);
    return n >= m && strcasecmp(path + n - m, suffix) == 0;
}

static bool is_photo(const char *path) {
    return has_suffix(path, ".jpg") || has_suffix(path, ".jpeg") || has_suffix(path, ".png");
}

/* Where nothing else says the size of the crop, the model's input does. */
static void size_from_input(const ps_model *model, size_t input, ps_preprocess *p) {
    ps_value_info info = { .size = sizeof info };
    if (p->size || ps_model_input(model, input, &info) != PS_OK || info.shape.rank != 4) return;
    const int64_t side = info.shape.dims[p->nhwc ? 1 : 2];
    if (side > 0 && side <= 16384) p->size = (int)side;
}

/* ---- inputs ---- */

typedef struct job {
    const cli_args *args;
    cli_model m;
    size_t n_in, n_out;
    ps_preprocess preprocess;
    bool preprocess_read;
    char *model_path;
    char **labels;
    size_t n_labels;
    ps_session *session;
    ps_tensor **random; /* for the inputs without a file; made on demand */
} job;

static int load_file(job *j, const char *path, size_t input, ps_tensor **ret) {
    ps_error err = PS_ERROR_INIT;
    ps_status status;
    if (is_photo(path)) {
        ps_preprocess p = j->preprocess;
        size_from_input(j->m.model, input, &p);
        status = ps_image_load(j->m.engine, path, &p, ret, &err);
    } else if (has_suffix(path, ".npy") || has_suffix(path, ".pb")) {
        ps_value_info info = { .size = sizeof info };
        ps_model_input(j->m.model, input, &info);
        status = ps_tensor_load_as(j->m.engine, path, info.dtype, ret, &err);
    } else {
        return cli_usage(j->args, "'%s' is no .npy, .pb, .jpg or .png", path);
    }
    return status == PS_OK ? CLI_OK : cli_fail_error(j->args, &err);
}

/* --input NAME=FILE; FILE alone if the model has one input. */
static int load_named(job *j, const char *text, ps_tensor **in) {
    const size_t length = cli_name_length(text);
    size_t index = length ? cli_input_index(j->m.model, text, length) : SIZE_MAX;
    const char *file = text + length + 1;
    if (index == SIZE_MAX && j->n_in == 1 && !length) {
        index = 0;
        file = text;
    }
    if (index == SIZE_MAX && !length)
        return cli_usage(j->args, "--input %s: the model has %zu inputs, so write NAME=FILE", text, j->n_in);
    if (index == SIZE_MAX)
        return cli_usage(j->args, "--input %s: the model has no input '%.*s'; 'polestar inspect' lists them", text,
                         (int)length, text);
    if (in[index]) return cli_usage(j->args, "--input %s: given twice", text);
    return load_file(j, file, index, &in[index]);
}

/* Random data for inputs that no file was given for. */
static int fill_rest(job *j, ps_tensor **in) {
    for (size_t i = 0; i < j->n_in; i++) {
        if (in[i]) continue;
        if (!j->random) {
            j->random = cli_alloc(j->n_in, sizeof *j->random);
            const int code = cli_random_inputs(j->args, &j->m, 0, j->random);
            if (code != CLI_OK) return code;
        }
        in[i] = ps_tensor_retain(j->random[i]);
    }
    return CLI_OK;
}

/* ---- what came out ---- */

typedef struct range {
    double min, max, mean;
    size_t nan, inf;
} range;

static range measure(const ps_tensor *t) {
    const size_t n = ps_tensor_elements(t);
    range r = { INFINITY, -INFINITY, 0, 0, 0 };
    double sum = 0;
    size_t finite = 0;
    for (size_t i = 0; i < n; i++) {
        const double v = cli_element(t, i);
        r.nan += isnan(v) != 0;
        r.inf += isinf(v) != 0;
        if (!isfinite(v)) continue;
        finite++;
        sum += v;
        r.min = fmin(r.min, v);
        r.max = fmax(r.max, v);
    }
    if (!finite) r.min = r.max = NAN;
    r.mean = finite ? sum / (double)finite : NAN;
    return r;
}

enum { SHOWN = 8, SHOWN_TEXT = 40 }; /* elements, and bytes of a string */

/* Control characters would move the terminal's cursor. */
static void print_text(const ps_string *s) {
    putchar('\'');
    for (size_t i = 0; i < s->size && i < SHOWN_TEXT; i++)
        putchar((unsigned char)s->data[i] < ' ' || s->data[i] == 0x7F ? '?' : s->data[i]);
    printf(s->size > SHOWN_TEXT ? "…'" : "'");
}

static void print_value(const ps_tensor *t, size_t i) {
    if (ps_tensor_dtype(t) == PS_DTYPE_STRING)
        print_text((const ps_string *)ps_tensor_data_const(t) + i);
    else
        printf("%.6g", cli_element(t, i));
}

static void print_strings(const ps_tensor *t) {
    const size_t n = ps_tensor_elements(t);
    for (size_t i = 0; i < n && i < SHOWN; i++) {
        printf("  ");
        print_value(t, i);
    }
    if (n > SHOWN) printf("  …");
}

/* {'cat': 0.25, 'dog': 0.75} */
static void print_map(const ps_tensor *t) {
    const ps_tensor *keys = ps_tensor_element(t, 0), *values = ps_tensor_element(t, 1);
    const size_t n = keys ? ps_tensor_elements(keys) : 0;
    printf("  {");
    for (size_t i = 0; i < n && i < SHOWN; i++) {
        if (i) printf(", ");
        print_value(keys, i);
        printf(": ");
        if (values && !cli_dtype_container(ps_tensor_dtype(values)) && i < ps_tensor_elements(values))
            print_value(values, i);
        else
            putchar('?');
    }
    printf(n > SHOWN ? ", …}" : "}");
}

/* depth: how far the line is moved in. */
static void print_output(const char *name, const ps_tensor *t, int depth) {
    char shape[128];
    const ps_dtype dtype = ps_tensor_dtype(t);
    printf("%*s%-*s %s%s", depth * 2, "", 24 - depth * 2, name, ps_dtype_name(dtype),
           cli_shape_text(NULL, ps_tensor_shape(t), shape, sizeof shape));
    if (dtype == PS_DTYPE_STRING) {
        print_strings(t);
    } else if (dtype == PS_DTYPE_MAP) {
        print_map(t);
    } else if (!cli_dtype_container(dtype)) {
        const range r = measure(t);
        if (ps_tensor_elements(t)) printf("  min %.6g  max %.6g  mean %.6g", r.min, r.max, r.mean);
        if (r.nan) printf("  %zu NaN", r.nan);
        if (r.inf) printf("  %zu infinite", r.inf);
    }
    putchar('\n');
    for (size_t i = 0; cli_dtype_container(dtype) && dtype != PS_DTYPE_MAP && i < ps_tensor_elements(t); i++) {
        char index[32];
        snprintf(index, sizeof index, "[%zu]", i);
        if (i == SHOWN) {
            printf("%*s…\n", depth * 2 + 2, "");
            break;
        }
        if (ps_tensor_element(t, i)) print_output(index, ps_tensor_element(t, i), depth + 1);
    }
}

static json_t *range_json(const char *name, const ps_tensor *t) {
    const range r = measure(t);
    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:I, s:I}", "name", cli_json_text(name), "dtype",
                     ps_dtype_name(ps_tensor_dtype(t)), "shape", cli_json_shape(NULL, ps_tensor_shape(t)), "min",
                     cli_json_real(r.min), "max", cli_json_real(r.max), "mean", cli_json_real(r.mean), "nan",
                     (json_int_t)r.nan, "inf", (json_int_t)r.inf);
}

static json_t *output_json(const char *name, const ps_tensor *t);

static json_t *element_json(const ps_tensor *t, size_t i) {
    if (cli_dtype_container(ps_tensor_dtype(t)))
        return ps_tensor_element(t, i) ? output_json(NULL, ps_tensor_element(t, i)) : json_null();
    if (ps_tensor_dtype(t) != PS_DTYPE_STRING) return cli_json_real(cli_element(t, i));
    const ps_string *s = (const ps_string *)ps_tensor_data_const(t) + i;
    char *text = cli_format("%.*s", (int)(s->size < INT_MAX ? s->size : INT_MAX), s->data ? s->data : "");
    json_t *json = cli_json_text(text);
    free(text);
    return json;
}

static json_t *list_json(const ps_tensor *t) {
    json_t *list = json_array();
    for (size_t i = 0; t && i < ps_tensor_elements(t); i++)
        json_array_append_new(list, element_json(t, i));
    return list;
}

/* Strings and containers whole, for they have no range. */
static json_t *output_json(const char *name, const ps_tensor *t) {
    const ps_dtype dtype = ps_tensor_dtype(t);
    if (dtype != PS_DTYPE_STRING && !cli_dtype_container(dtype)) return range_json(name, t);
    json_t *json = json_pack("{s:o, s:s, s:o}", "name", cli_json_text(name), "dtype", ps_dtype_name(dtype), "shape",
                             cli_json_shape(NULL, ps_tensor_shape(t)));
    if (dtype == PS_DTYPE_MAP) {
        json_object_set_new(json, "keys", list_json(ps_tensor_element(t, 0)));
        json_object_set_new(json, "values", list_json(ps_tensor_element(t, 1)));
    } else {
        json_object_set_new(json, "elements", list_json(t));
    }
    return json;
}

/* ---- the best classes ---- */

typedef struct score {
    size_t index;
    double value;
} score;

static int by_value(const void *a, const void *b) {
    const score *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

static score *sorted_row(const ps_tensor *t, size_t row, size_t classes, bool softmax) {
    score *s = cli_alloc(classes, sizeof *s);
    double sum = 0, largest = -INFINITY;
    for (size_t i = 0; i < classes; i++) {
        const double v = cli_element(t, row * classes + i);
        s[i] = (score) { i, isnan(v) ? -INFINITY : v };
        largest = fmax(largest, s[i].value);
    }
    for (size_t i = 0; softmax && i < classes; i++)
        sum += s[i].value = exp(s[i].value - largest);
    for (size_t i = 0; softmax && i < classes; i++)
        s[i].value /= sum;
    qsort(s, classes, sizeof *s, by_value);
    return s;
}

static const char *label_of(const job *j, size_t index) {
    return index < j->n_labels ? j->labels[index] : "";
}

/* The k best of every row (all dims but the last) of an output. json: rows are appended there instead of printed. */
static void top_classes(const job *j, const ps_tensor *t, int k, json_t *json) {
    const ps_shape *shape = ps_tensor_shape(t);
    if (cli_dtype_container(ps_tensor_dtype(t))) return; /* no scores */
    const size_t classes = shape->rank ? (size_t)shape->dims[shape->rank - 1] : 1;
    const size_t rows = classes ? ps_tensor_elements(t) / classes : 0;
    for (size_t row = 0; row < rows; row++) {
        score *s = sorted_row(t, row, classes, cli_has(j->args, "softmax"));
        json_t *list = json ? json_array() : NULL;
        for (size_t i = 0; i < classes && i < (size_t)k; i++) {
            if (list)
                json_array_append_new(list,
                                      json_pack("{s:I, s:o, s:o}", "index", (json_int_t)s[i].index, "label",
                                                j->n_labels ? cli_json_text(label_of(j, s[i].index)) : json_null(),
                                                "score", cli_json_real(s[i].value)));
            else
                printf("%4zu. %10.6f  class %zu  %s\n", i + 1, s[i].value, s[i].index, label_of(j, s[i].index));
        }
        if (list) json_array_append_new(json, list);
        free(s);
    }
}

static int read_labels(job *j, const char *path) {
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    if (!f) return cli_fail(j->args, "labels '%s': %s", path, strerror(errno));
    for (ssize_t n; (n = getline(&line, &room, f)) >= 0;) {
        line[strcspn(line, "\r\n")] = 0;
        j->labels = cli_realloc(j->labels, j->n_labels + 1, sizeof *j->labels);
        j->labels[j->n_labels++] = cli_format("%s", line);
    }
    free(line);
    fclose(f);
    return CLI_OK;
}

/* ---- running ---- */

/* prefix: NULL for a single run, else the file the run is about. */
static int save_output(const job *j, const char *dir, const char *prefix, const char *name, const ps_tensor *t) {
    ps_error err = PS_ERROR_INIT;
    char *safe = cli_safe_name(name), *stem = prefix ? cli_safe_name(cli_base_name(prefix)) : NULL;
    const bool object = ps_tensor_dtype(t) == PS_DTYPE_STRING || cli_dtype_container(ps_tensor_dtype(t));
    const char *format = object ? "pb" : "npy"; /* numpy's format has neither strings nor sequences without Python */
    char *path = stem ? cli_format("%s/%s.%s.%s", dir, stem, safe, format) : cli_format("%s/%s.%s", dir, safe, format);
    const ps_status status = ps_tensor_save(j->m.engine, t, path, name, &err);
    free(path);
    free(stem);
    free(safe);
    return status == PS_OK ? CLI_OK : cli_fail_error(j->args, &err);
}

static int report(const job *j, ps_tensor *const *out, const char *prefix, double ms, json_t *runs) {
    const char *dir = cli_get(j->args, "output-dir");
    int top = 0, code = CLI_OK;
    json_t *outputs = json_array(), *best = json_array();
    if (!cli_get_int(j->args, "top", 1, 1 << 20, &top)) code = CLI_USAGE;
    if (!j->args->json && prefix) printf("%s\n", prefix);
    for (size_t i = 0; i < j->n_out && code == CLI_OK; i++) {
        ps_value_info info = { .size = sizeof info };
        ps_model_output(j->m.model, i, &info);
        if (j->args->json)
            json_array_append_new(outputs, output_json(info.name, out[i]));
        else
            print_output(info.name, out[i], 0);
        if (dir) code = save_output(j, dir, prefix, info.name, out[i]);
    }
    if (code == CLI_OK && top && j->n_out) top_classes(j, out[0], top, j->args->json ? best : NULL);
    json_array_append_new(runs, json_pack("{s:o, s:f, s:o, s:o}", "file", cli_json_text(prefix), "ms", ms, "outputs",
                                          outputs, "top", best));
    return code;
}

/* One run with the inputs given; takes none of them. */
static int run_one(job *j, ps_tensor **in, const char *prefix, json_t *runs) {
    ps_error err = PS_ERROR_INIT;
    ps_tensor **out = cli_alloc(j->n_out, sizeof *out);
    int code = fill_rest(j, in);
    if (code == CLI_OK) {
        const int64_t start = cli_now_ns();
        const ps_status status =
            ps_session_run(j->session, (const ps_tensor *const *)in, j->n_in, out, j->n_out, NULL, &err);
        const double ms = (double)(cli_now_ns() - start) / 1e6;
        if (status == PS_OK)
            code = report(j, out, prefix, ms, runs);
        else if (j->random)
            code = cli_fail(j->args, "%s (on random data; --input and --shape give others)", err.msg);
        else
            code = cli_fail_error(j->args, &err);
    }
    free(out);
    return code;
}

/* Arguments after MODEL: a run for each file of a model with one input, else NAME=FILE for one run. */
static int run_files(job *j, json_t *runs) {
    ps_tensor **in = cli_alloc(j->n_in, sizeof *in);
    const size_t files = j->args->n_words - 1;
    const bool many = files > 1 && j->n_in == 1;
    int code = CLI_OK;
    const char *text;
    cli_progress bar;
    for (size_t i = 0; code == CLI_OK && (text = cli_get_nth(j->args, "input", i)); i++)
        code = load_named(j, text, in);
    for (size_t i = 0; !many && code == CLI_OK && i < files; i++)
        code = load_named(j, j->args->words[1 + i], in);
    if (code == CLI_OK && many && in[0]) code = cli_usage(j->args, "give files either with --input or after MODEL");
    if (code == CLI_OK && !many) code = run_one(j, in, NULL, runs);
    cli_progress_start(&bar, j->args, "run");
    for (size_t i = 0; many && code == CLI_OK && i < files; i++) {
        cli_tensors_release(in, 1);
        if (j->args->json) cli_progress_set(&bar, (double)i / (double)files, j->args->words[1 + i]);
        code = load_named(j, j->args->words[1 + i], in);
        if (code == CLI_OK) code = run_one(j, in, j->args->words[1 + i], runs);
    }
    cli_progress_end(&bar);
    cli_tensors_release(in, j->n_in);
    free(in);
    return code;
}

static int prepare(job *j) {
    ps_error err = PS_ERROR_INIT;
    const char *dir = cli_get(j->args, "output-dir"), *labels = cli_get(j->args, "labels");
    j->model_path = cli_model_path(j->args->words[0]);
    int code = cli_model_open(j->args, j->args->words[0], &j->m);
    if (code != CLI_OK) return code;
    j->n_in = ps_model_input_count(j->m.model);
    j->n_out = ps_model_output_count(j->m.model);
    code = cli_preprocess(j->args, j->m.engine, j->model_path, &j->preprocess);
    if (code != CLI_OK) return code;
    if (!labels && j->preprocess.labels[0]) labels = j->preprocess.labels;
    if (labels && cli_has(j->args, "top")) code = read_labels(j, labels);
    if (code != CLI_OK) return code;
    if (dir && mkdir(dir, 0777) != 0 && errno != EEXIST)
        return cli_fail(j->args, "output folder '%s': %s", dir, strerror(errno));
    if (ps_session_create(j->m.model, NULL, &j->session, &err) != PS_OK) return cli_fail_error(j->args, &err);
    return CLI_OK;
}

static int run_run(const cli_args *args) {
    job j = { .args = args };
    json_t *runs = json_array();
    int code = prepare(&j);
    if (code == CLI_OK) code = run_files(&j, runs);
    if (code == CLI_OK && args->json)
        code = cli_json_print(json_pack("{s:o, s:f, s:O}", "model", cli_json_text(args->words[0]), "load_ms",
                                        (double)j.m.load_ns / 1e6, "runs", runs));
    json_decref(runs);
    if (j.random) cli_tensors_release(j.random, j.n_in);
    free(j.random);
    cli_names_free(j.labels, j.n_labels);
    ps_session_free(j.session);
    cli_model_close(&j.m);
    free(j.model_path);
    return code;
}

static const cli_option options[] = {
    { "input", CLI_FILE, "NAME=FILE", "an input's data: .npy, TensorProto .pb, .jpg, .png; may be repeated",
      "random data, the same in every run" },
    { "output-dir", CLI_DIR, "DIR", "write every output there as NAME.npy, strings and sequences as NAME.pb", NULL },
    { "top", CLI_TEXT, "K", "print the K best classes of the first output", NULL },
    { "labels", CLI_FILE, "FILE", "names of the classes, one a line", "those the preprocess file names" },
    { "softmax", CLI_FLAG, NULL, "turn the scores of --top into probabilities", NULL },
    CLI_OPT_PHOTOS,
    CLI_OPT_SHAPE,
    CLI_OPT_DEVICE,
    CLI_OPT_ACTIVATIONS,
    CLI_OPT_PRECISION,
    CLI_OPT_THREADS,
    CLI_OPT_NO_FUSION,
    CLI_OPT_JSON,
    CLI_OPT_END,
};

const cli_command cli_run = {
    "run",
    "MODEL [FILE]...",
    CLI_FILE,
    "run a model on files or on random data",
    "MODEL is an ONNX file, a torch.export archive (.pt2) or a folder with one as model.onnx or model.pt2. FILEs are "
    "the data of its input: a model with one input runs "
    "once for "
    "each of them, others take NAME=FILE. For every output its name, type, shape, smallest, largest and mean value are "
    "printed.",
    options,
    1,
    -1,
    run_run,
};
