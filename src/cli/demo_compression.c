/* demo_compression.c - shows on this machine what smaller forms of a model cost and bring. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "demo.h"

enum { TIMED = 4, OWN_SAMPLES = 256, OWN_WIDTH = 1024, MOST_JUDGED = 100000 };
/* Where the inputs of each use begin, far apart. */
enum { CALIBRATED = 0, TUNED = 1000000, JUDGED = 2000000 };

/* The forms beside the original, in the order of the table. */
static const struct {
    const char *name;
    ps_compress_type type;
    bool limited; /* by max_drop */
} settings[DEMO_FORMS] = {
    { "float32", PS_COMPRESS_FP16, false },
    { "FP16", PS_COMPRESS_FP16, false },
    { "INT8 dynamic", PS_COMPRESS_INT8_DYNAMIC, false },
    { "INT8 static", PS_COMPRESS_INT8, false },
    { "mixed", PS_COMPRESS_INT8, true },
};

typedef struct work {
    const cli_args *args;
    ps_engine *engine;
    demo_comparison *to;
    void *knowledge;
    char *folder, *calibration, *validation; /* data; validation NULL: what calibration leaves */
    size_t calibrated;                       /* 0: as many as usual */
    ps_preprocess preprocess;
    double max_drop;
    cli_progress bar;
    size_t at; /* the form that is made */
} work;

/* ---- judging ---- */

static const demo_form form_none = { .bytes = NAN, .ms = NAN, .memory = NAN, .accuracy = NAN };

static ps_status judge_one(work *w, ps_session *session, ps_tensor **out, size_t n_out, uint64_t index,
                           double *ret_score, char **ret_said, ps_error *err) {
    ps_run_options o = PS_RUN_OPTIONS_INIT;
    ps_tensor *in = NULL;
    o.cancel = cli_cancel_on_signals();
    memset(out, 0, n_out * sizeof *out);
    ps_status status = w->to->subject->input(w->engine, index, &in, err);
    if (status == PS_OK) status = ps_session_run(session, (const ps_tensor *const *)&in, 1, out, n_out, &o, err);
    if (status == PS_OK) *ret_score = w->to->subject->score(w->knowledge, index, out[0], ret_said);
    ps_tensor_release(in);
    return status;
}

/* Scores of n inputs by the model of a file, and what it said to them (free() each). */
static ps_status judge(work *w, const char *path, uint64_t first, size_t n, double *score, char **said, ps_error *err) {
    ps_model *model = NULL;
    ps_session *session = NULL;
    ps_status status = ps_model_load(w->engine, path, NULL, &model, err);
    if (status != PS_OK) return status;
    const size_t n_out = ps_model_output_count(model);
    ps_tensor **out = cli_alloc(n_out, sizeof *out);
    status = ps_session_create(model, NULL, &session, err);
    for (size_t i = 0; i < n && status == PS_OK; i++)
        status = judge_one(w, session, out, n_out, first + i, &score[i], &said[i], err);
    free(out);
    ps_session_free(session);
    ps_model_release(model);
    return status;
}

static double mean(const double *values, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return n ? sum / (double)n : NAN;
}

static void free_texts(char **texts, size_t n) {
    for (size_t i = 0; texts && i < n; i++)
        free(texts[i]);
    free(texts);
}

/* By which mixed precision is chosen: inputs that neither calibrate nor judge the result. */
static ps_status tuning_score(void *ctx, const char *path, double *ret, ps_error *err) {
    work *w = ctx;
    const size_t n = w->to->subject->tuned;
    double *score = cli_alloc(n, sizeof *score);
    char **said = cli_alloc(n, sizeof *said);
    const ps_status status = judge(w, path, TUNED, n, score, said, err);
    *ret = 100 * mean(score, n);
    free(score);
    free_texts(said, n);
    return status;
}

static int judge_file(work *w, const char *path, demo_form *form) {
    ps_error err = PS_ERROR_INIT;
    demo_comparison *c = w->to;
    const demo_form *original = &c->form[0];
    form->score = cli_alloc(c->judged, sizeof *form->score);
    form->said = cli_alloc(c->judged, sizeof *form->said);
    if (judge(w, path, JUDGED, c->judged, form->score, form->said, &err) != PS_OK) return cli_fail_error(w->args, &err);
    form->accuracy = 100 * mean(form->score, c->judged);
    for (size_t i = 0; i < c->judged && c->subject->counts; i++) {
        form->lost += original->score[i] > form->score[i];
        form->won += original->score[i] < form->score[i];
    }
    return CLI_OK;
}

/* ---- making the forms ---- */

static void on_progress(void *ctx, double share, const char *stage) {
    work *w = ctx;
    char note[80];
    snprintf(note, sizeof note, "%s: %s", settings[w->at].name, stage);
    cli_progress_set(&w->bar, ((double)w->at - 1 + share) / (DEMO_FORMS - 1), note);
}

static ps_compress_options options_of(work *w) {
    ps_compress_options o = PS_COMPRESS_OPTIONS_INIT;
    o.type = settings[w->at].type;
    /* The data that judges is that of the calibration where the demo has no judge of its own. */
    if (o.type == PS_COMPRESS_INT8 || !w->to->subject) o.calibration = w->calibration;
    o.calibration_samples = w->calibrated;
    o.validation = w->validation;
    o.validation_samples = w->to->subject ? TIMED : w->to->judged;
    o.preprocess = &w->preprocess;
    if (settings[w->at].limited) o.max_drop = w->max_drop;
    if (settings[w->at].limited && w->to->subject) o.metric = tuning_score;
    o.metric_ctx = o.progress_ctx = w;
    o.progress = on_progress;
    o.cancel = cli_cancel_on_signals();
    return o;
}

static void note_summary(work *w, const ps_compress_summary *s, demo_form *form) {
    demo_form *original = &w->to->form[0];
    form->bytes = (double)s->bytes_after;
    form->ms = s->ms_after;
    form->memory = s->memory_after ? (double)s->memory_after : NAN;
    form->layers = s->layers;
    form->quantized = s->layers_quantized;
    original->bytes = (double)s->bytes_before;
    original->memory = s->memory_before ? (double)s->memory_before : NAN;
    if (!isfinite(original->ms) || s->ms_before < original->ms) original->ms = s->ms_before; /* the least disturbed */
    if (w->to->subject) return;
    const bool labels = isfinite(s->top1_after), cosine = s->measure && strcmp(s->measure, "cosine") == 0;
    form->accuracy = labels ? s->top1_after : cosine ? 100 * s->cosine : s->agreement;
    original->accuracy = labels ? s->top1_before : 100;
    form->lost = s->lost;
    form->won = s->won;
    w->to->judged = s->validated;
    free(w->to->measure);
    w->to->measure = cli_format("%s", labels ? "top-1" : cosine ? "cosine" : "same argmax");
}

/* What a model or its data do not allow is a form that there is not; all else is a failure. */
static int make_form(work *w) {
    ps_error err = PS_ERROR_INIT;
    ps_compress_result *result = NULL;
    demo_form *form = &w->to->form[w->at];
    ps_compress_summary s = { .size = sizeof s };
    const ps_compress_options o = options_of(w);
    char *path = cli_format("%s/%zu.onnx", w->folder, w->at);
    const ps_status status = ps_compress(w->engine, w->to->model, path, &o, &result, &err);
    int code = CLI_OK;
    if (status == PS_OK) {
        ps_compress_summarize(result, &s);
        ps_compress_result_free(result);
        note_summary(w, &s, form);
        if (w->to->subject) code = judge_file(w, path, form);
    } else if (status == PS_UNSUPPORTED || status == PS_LIMIT) {
        form->failure = cli_format("%s", err.msg);
    } else {
        code = cli_fail_error(w->args, &err);
    }
    free(path);
    return code;
}

static int make_forms(work *w) {
    int code = CLI_OK;
    for (size_t i = 0; i < DEMO_FORMS; i++) {
        w->to->form[i] = form_none;
        w->to->form[i].name = settings[i].name;
    }
    cli_progress_start(&w->bar, w->args, w->to->title);
    if (w->to->subject) code = judge_file(w, w->to->model, &w->to->form[0]);
    for (w->at = 1; w->at < DEMO_FORMS && code == CLI_OK; w->at++)
        code = make_form(w);
    cli_progress_end(&w->bar);
    return code;
}

/* ---- data ---- */

static int write_inputs(work *w, const char *name, uint64_t first, size_t n, char **ret_folder) {
    ps_error err = PS_ERROR_INIT;
    *ret_folder = cli_path_join(w->folder, name);
    if (mkdir(*ret_folder, 0700) != 0) return cli_fail(w->args, "the folder %s cannot be made", *ret_folder);
    for (size_t i = 0; i < n; i++) {
        ps_tensor *t = NULL;
        char *path = cli_format("%s/%06zu.npy", *ret_folder, i);
        ps_status status = w->to->subject->input(w->engine, first + i, &t, &err);
        if (status == PS_OK) status = ps_tensor_save(w->engine, t, path, NULL, &err);
        ps_tensor_release(t);
        free(path);
        if (status != PS_OK) return cli_fail_error(w->args, &err);
    }
    return CLI_OK;
}

static int prepare_subject(work *w) {
    const demo_subject *s = w->to->subject;
    ps_error err = PS_ERROR_INIT;
    ps_model *model = NULL;
    int code = CLI_OK;
    if (ps_model_load(w->engine, w->to->model, NULL, &model, &err) != PS_OK) return cli_fail_error(w->args, &err);
    const bool fits = ps_model_input_count(model) == 1 && ps_model_output_count(model) >= 1;
    if (fits && s->know) w->knowledge = s->know(model);
    ps_model_release(model);
    if (!fits || (s->know && !w->knowledge))
        return cli_fail(w->args, "%s is not the model that the demo knows: the %s", w->to->model, s->what);
    w->calibrated = s->calibrated;
    code = write_inputs(w, "calibration", CALIBRATED, s->calibrated, &w->calibration);
    if (code == CLI_OK) code = write_inputs(w, "validation", JUDGED, TIMED, &w->validation);
    return code;
}

/* A model of ours has inputs that are drawn. */
static int prepare_own(work *w) {
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t = NULL;
    const ps_shape shape = { 2, { OWN_SAMPLES, OWN_WIDTH } };
    w->calibration = cli_path_join(w->folder, "inputs.npy");
    static const uint32_t width[DEMO_LAYERS + 1] = { OWN_WIDTH, 3072, 3072, 16 };
    if (!demo_model_write(w->to->model, width)) return cli_fail(w->args, "%s cannot be written", w->to->model);
    ps_status status = cli_tensor_random(w->engine, PS_DTYPE_F32, &shape, 1, &t, &err);
    if (status == PS_OK) status = ps_tensor_save(w->engine, t, w->calibration, NULL, &err);
    ps_tensor_release(t);
    return status == PS_OK ? CLI_OK : cli_fail_error(w->args, &err);
}

/* ---- one comparison ---- */

static int compare(const cli_args *args, ps_engine *engine, double max_drop, demo_comparison *c) {
    work w = { .args = args, .engine = engine, .to = c, .max_drop = max_drop };
    const char *data = cli_get(args, "data");
    const bool own = !c->model;
    int code = CLI_FAILED;
    ps_preprocess_init(&w.preprocess);
    w.folder = demo_folder_make(args);
    if (w.folder) {
        code = CLI_OK;
        if (own) c->model = cli_path_join(w.folder, "mlp.onnx");
        if (c->subject)
            code = prepare_subject(&w);
        else if (own)
            code = prepare_own(&w);
        else
            code = cli_preprocess(args, engine, c->model, &w.preprocess);
        if (!own && !c->subject) w.calibration = cli_format("%s", data);
        if (code == CLI_OK) code = make_forms(&w);
    }
    if (c->subject && c->subject->forget) c->subject->forget(w.knowledge);
    free(w.calibration);
    free(w.validation);
    demo_folder_remove(w.folder);
    return code;
}

static void release(demo_comparison *c) {
    for (size_t i = 0; i < DEMO_FORMS; i++) {
        free(c->form[i].score);
        free_texts(c->form[i].said, c->judged);
        free(c->form[i].failure);
    }
    free(c->model);
    free(c->title);
    free(c->measure);
}

/* ---- what it says ---- */

static void print_number(double v, int width, int decimals, const char *unit) {
    char text[32];
    snprintf(text, sizeof text, "%.*f%s", decimals, v, unit);
    printf("%*s", width, isfinite(v) ? text : "-");
}

static void print_comparison(const demo_comparison *c) {
    printf("\n%s, judged by %zu %s\n", c->title, c->judged, c->subject ? c->subject->inputs : "samples");
    printf("  %-14s %9s %9s %10s %12s %5s %5s\n", "", "size MB", "ms a run", "memory MB", c->measure, "lost", "won");
    for (size_t i = 0; i < DEMO_FORMS; i++) {
        const demo_form *f = &c->form[i];
        if (f->failure) {
            printf("  %-14s %s\n", f->name, f->failure);
            continue;
        }
        printf("  %-14s", f->name);
        print_number(f->bytes / 1e6, 10, 2, "");
        print_number(f->ms, 10, 2, "");
        print_number(f->memory / 1e6, 11, 1, "");
        print_number(f->accuracy, 13, 2, " %");
        if (i) printf(" %5zu %5zu", f->lost, f->won);
        if (i && f->layers > f->quantized && f->quantized)
            printf("  (%zu of %zu layers in float)", f->layers - f->quantized, f->layers);
        printf("\n");
    }
}

static json_t *form_json(const demo_form *f, bool original) {
    json_t *j = json_pack("{s:s, s:o, s:o, s:o, s:o}", "form", f->name, "bytes", cli_json_real(f->bytes), "ms",
                          cli_json_real(f->ms), "memory_bytes", cli_json_real(f->memory), "accuracy",
                          cli_json_real(f->accuracy));
    if (f->failure) json_object_set_new(j, "failure", cli_json_text(f->failure));
    if (original || f->failure) return j;
    json_object_set_new(j, "lost", json_integer((json_int_t)f->lost));
    json_object_set_new(j, "won", json_integer((json_int_t)f->won));
    json_object_set_new(j, "layers", json_integer((json_int_t)f->layers));
    json_object_set_new(j, "layers_quantized", json_integer((json_int_t)f->quantized));
    return j;
}

static int print_json(const demo_comparison *all, size_t n) {
    json_t *list = json_array();
    for (size_t k = 0; k < n; k++) {
        json_t *forms = json_array();
        for (size_t i = 0; i < DEMO_FORMS; i++)
            json_array_append_new(forms, form_json(&all[k].form[i], i == 0));
        json_array_append_new(list, json_pack("{s:o, s:o, s:I, s:o}", "model", cli_json_text(all[k].title), "measure",
                                              cli_json_text(all[k].measure), "judged", (json_int_t)all[k].judged,
                                              "forms", forms));
    }
    return cli_json_print(json_pack("{s:o}", "models", list));
}

/* ---- which models ---- */

enum { SUBJECTS = 3 };
static const demo_subject *const subjects[SUBJECTS] = { &demo_text, &demo_slice, &demo_volume };

/* Where tools/fetch-models keeps what it fetched. */
static char *fetched_models(void) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache) return cli_format("%s/polestar-build/models", cache);
    return cli_format("%s/.cache/polestar-build/models", home ? home : "");
}

/* `folder` of the folder that is so many above the program. */
static char *beside_program(int up, const char *folder) {
    char *self = realpath("/proc/self/exe", NULL), *slash = self;
    for (; slash && up > 0; up--)
        if ((slash = strrchr(self, '/'))) *slash = 0;
    char *path = slash ? cli_path_join(self, folder) : NULL;
    free(self);
    return path;
}

/* NULL: it is in none of the folders. */
static char *find_model(const char *name, char *const *folders, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char *folder = folders[i] ? cli_path_join(folders[i], name) : NULL;
        char *path = folder && cli_is_dir(folder) ? cli_model_path(folder) : NULL;
        free(folder);
        if (path && cli_is_file(path)) return path;
        free(path);
    }
    return NULL;
}

static size_t known_models(const cli_args *args, demo_comparison *all) {
    const char *given = cli_get(args, "models");
    char *folders[] = {
        given ? cli_format("%s", given) : fetched_models(),
        given ? NULL : beside_program(2, "share/polestar/models"), /* installed: PREFIX/bin */
        given ? NULL : beside_program(4, "tests/models"),          /* of a source tree: its build/NAME/bin */
    };
    enum { FOLDERS = sizeof folders / sizeof *folders };
    size_t n = 0;
    for (size_t i = 0; i < SUBJECTS; i++) {
        char *path = find_model(subjects[i]->folder, folders, FOLDERS);
        if (!path) continue;
        all[n++] = (demo_comparison) { .subject = subjects[i],
                                       .model = path,
                                       .title = cli_format("%s", subjects[i]->what),
                                       .measure = cli_format("%s", subjects[i]->measure),
                                       .judged = subjects[i]->judged,
                                       .first_judged = JUDGED };
    }
    for (size_t i = 0; i < FOLDERS; i++)
        free(folders[i]);
    if (!all[0].subject || all[0].subject != &demo_text)
        fprintf(stderr, "polestar demo: the PP-OCR recogniser is not there: 'tools/fetch-models ppocr-rec' gets it\n");
    return n;
}

/* At least one. */
static size_t choose_models(const cli_args *args, demo_comparison *all) {
    size_t n = 0;
    if (args->n_words > 1)
        all[n++] = (demo_comparison) { .model = cli_model_path(args->words[1]),
                                       .title = cli_format("%s", cli_base_name(args->words[1])) };
    else
        n = known_models(args, all);
    if (n == 0)
        all[n++] =
            (demo_comparison) { .title = cli_format("a multilayer perceptron, 1024-3072-3072-16, of drawn weights") };
    for (size_t i = 0; i < n; i++)
        if (!all[i].measure) all[i].measure = cli_format("same argmax");
    return n;
}

static int show(const cli_args *args, const demo_comparison *all, size_t n) {
    const char *html = demo_page_path(args, "polestar-demo-compression.html");
    ps_error err = PS_ERROR_INIT;
    if (html && !demo_compression_page(html, all, n, &err)) return cli_fail_error(args, &err);
    if (args->json) return print_json(all, n);
    if (html) printf("\npage: %s\n", html);
    return CLI_OK;
}

int demo_compression(const cli_args *args) {
    demo_comparison all[SUBJECTS] = { 0 };
    ps_engine *engine = NULL;
    double max_drop = 1;
    int judged = 0;
    if (!cli_get_double(args, "max-drop", 0, 100, &max_drop) || !cli_get_int(args, "judged", 1, MOST_JUDGED, &judged))
        return CLI_USAGE;
    if ((args->n_words > 1) != cli_has(args, "data"))
        return cli_usage(args, args->n_words > 1 ? "MODEL needs --data, inputs to calibrate and judge with"
                                                 : "--data needs a MODEL");
    int code = cli_engine_open(args, NULL, NULL, &engine);
    const size_t n = choose_models(args, all);
    for (size_t i = 0; i < n && code == CLI_OK; i++) {
        if (judged || !all[i].subject) all[i].judged = (size_t)judged;
        code = compare(args, engine, max_drop, &all[i]);
        if (code == CLI_OK && !args->json) print_comparison(&all[i]);
        fflush(stdout);
    }
    if (code == CLI_OK) code = show(args, all, n);
    for (size_t i = 0; i < n; i++)
        release(&all[i]);
    ps_engine_free(engine);
    return code;
}
