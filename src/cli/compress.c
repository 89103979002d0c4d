/* compress.c - smaller models, with the loss measured and told. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"

/* ---- while it works ---- */

typedef struct bar {
    cli_progress progress;
    int64_t start;
} bar;

static void on_progress(void *ctx, double share, const char *stage) {
    bar *b = ctx;
    char note[80];
    const double gone = (double)(cli_now_ns() - b->start) / 1e9, left = share > 0.02 ? gone / share * (1 - share) : 0;
    if (left >= 1)
        snprintf(note, sizeof note, "%s, about %d:%02d left", stage, (int)left / 60, (int)left % 60);
    else
        snprintf(note, sizeof note, "%s", stage);
    cli_progress_set(&b->progress, share, note);
}

static void on_warning(void *ctx, const char *sentence) {
    bar *b = ctx;
    cli_progress_end(&b->progress);
    b->progress.shown = -1;
    fprintf(stderr, "polestar compress: warning: %s\n", sentence);
}

/* ---- the user's metric ---- */

/* COMMAND PATH; the last number on its standard output counts. */
static ps_status run_metric(void *ctx, const char *path, double *ret, ps_error *err) {
    const char *command = ctx;
    char *line = NULL, *text = cli_format("%s \"$POLESTAR_MODEL\"", command);
    size_t room = 0;
    bool found = false;
    setenv("POLESTAR_MODEL", path, 1);
    FILE *pipe = popen(text, "r");
    free(text);
    for (ssize_t n; pipe && (n = getline(&line, &room, pipe)) >= 0;) {
        char *end, *at = line + strcspn(line, "-+.0123456789");
        const double v = strtod(at, &end);
        if (end == at || !isfinite(v)) continue;
        *ret = v;
        found = true;
    }
    free(line);
    const int code = pipe ? pclose(pipe) : -1;
    err->status = PS_UNAVAILABLE;
    if (code != 0)
        snprintf(err->msg, sizeof err->msg, "the metric command failed with %s %d",
                 WIFEXITED(code) ? "exit code" : "status", WIFEXITED(code) ? WEXITSTATUS(code) : code);
    else if (!found)
        snprintf(err->msg, sizeof err->msg, "the metric command printed no number");
    return code == 0 && found ? PS_OK : PS_UNAVAILABLE;
}

/* ---- options ---- */

static const char later_strategies[] =
    "--strategy %s is not there yet: pruning and its combinations come with a later version; quantize and auto are";

static int read_type(const cli_args *args, ps_compress_options *o) {
    static const char *const names[] = { "int8", "int8-dynamic", "fp16", "bf16" };
    const char *type = cli_get(args, "type"), *strategy = cli_get(args, "strategy");
    int bits = 0;
    if (strategy && strcmp(strategy, "quantize") != 0 && strcmp(strategy, "auto") != 0)
        return cli_usage(args, later_strategies, strategy);
    if (cli_has(args, "sparsity"))
        return cli_usage(args, "--sparsity belongs to pruning, which comes with a later version");
    if (!cli_get_int(args, "bits", 1, 32, &bits)) return CLI_USAGE;
    if (bits == 4) return cli_usage(args, "--bits 4 is not there yet: INT4 comes with a later version; 8 and 16 are");
    if (bits && bits != 8 && bits != 16) return cli_usage(args, "--bits is 8 or 16, not %d", bits);
    for (int k = 0; type && k < 4; k++)
        if (strcmp(type, names[k]) == 0) o->type = (ps_compress_type)k;
    if (bits == 16 && !type) o->type = PS_COMPRESS_FP16;
    const bool wide = o->type == PS_COMPRESS_FP16 || o->type == PS_COMPRESS_BF16;
    if (bits && wide != (bits == 16)) return cli_usage(args, "--type %s does not have %d bits", type, bits);
    return CLI_OK;
}

static bool word_index(const cli_args *args, const char *name, const char *const *words, int n, int *ret) {
    const char *text = cli_get(args, name);
    for (int k = 0; text && k < n; k++)
        if (strcmp(text, words[k]) == 0) *ret = k;
    return text != NULL;
}

static int read_skips(const cli_args *args, ps_compress_options *o) {
    static const struct {
        const char *name;
        unsigned bit;
    } ways[] = { { "equalize", PS_COMPRESS_EQUALIZE },
                 { "rounding", PS_COMPRESS_ROUNDING },
                 { "bias", PS_COMPRESS_BIAS },
                 { "mixed", PS_COMPRESS_MIXED } };
    const char *text;
    for (size_t i = 0; (text = cli_get_nth(args, "without", i)); i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof ways / sizeof *ways; k++) {
            if (strcmp(text, ways[k].name) != 0) continue;
            o->skip |= ways[k].bit;
            known = true;
        }
        if (!known) return cli_usage(args, "--without is one of equalize, rounding, bias, mixed, not '%s'", text);
    }
    return CLI_OK;
}

static int read_options(const cli_args *args, ps_compress_options *o) {
    static const char *const ranges[] = { "auto", "minmax", "percentile", "entropy", "mse" };
    static const char *const measures[] = { "auto", "argmax", "cosine" };
    int samples = 0, judged = 0, opset = 0, seed = 0, index = 0;
    int code = read_type(args, o);
    if (code == CLI_OK) code = read_skips(args, o);
    if (code != CLI_OK) return code;
    if (!cli_get_int(args, "calibration-samples", 1, 1 << 30, &samples)) return CLI_USAGE;
    if (!cli_get_int(args, "validation-samples", 1, 1 << 30, &judged)) return CLI_USAGE;
    if (!cli_get_int(args, "opset", 7, 21, &opset) || !cli_get_int(args, "seed", 0, 1 << 30, &seed)) return CLI_USAGE;
    if (!cli_get_int(args, "zstd-level", 1, 19, &o->zstd_level)) return CLI_USAGE;
    if (!cli_get_double(args, "max-drop", 0, 100, &o->max_drop)) return CLI_USAGE;
    if (word_index(args, "range", ranges, 5, &index)) o->range = (ps_compress_range)index;
    if (word_index(args, "measure", measures, 3, &index)) o->measure = (ps_compress_measure)index;
    const char *isa = cli_get(args, "target-isa");
    o->weight_bits = isa && (strcmp(isa, "avx2") == 0 || strcmp(isa, "avx512") == 0) ? 7 : 8;
    o->calibration = cli_get(args, "calibration");
    o->validation = cli_get(args, "validation");
    o->calibration_samples = (size_t)samples;
    o->validation_samples = (size_t)judged;
    o->opset = opset;
    o->seed = (uint64_t)seed;
    o->dry_run = cli_has(args, "dry-run");
    o->sensitivity = cli_has(args, "sensitivity");
    o->no_latency = cli_has(args, "no-latency");
    if (cli_get(args, "metric")) {
        o->metric = run_metric;
        o->metric_ctx = (void *)(uintptr_t)cli_get(args, "metric");
    }
    return CLI_OK;
}

/* ---- what came out ---- */

static const char *ratio_text(double before, double after, char *buf, size_t size) {
    snprintf(buf, size, "%.2fx smaller", after > 0 ? before / after : 0);
    return buf;
}

static void print_accuracy(const ps_compress_summary *s) {
    if (!s->validated && !isfinite(s->metric_after)) {
        printf("  accuracy       not measured: no data was given (--calibration, --validation)\n");
        return;
    }
    if (isfinite(s->top1_before))
        printf("  top-1          %.2f %% -> %.2f %% of %zu samples: %zu lost, %zu won; difference %+.2f … %+.2f points "
               "(95 %%, paired)\n",
               s->top1_before, s->top1_after, s->validated, s->lost, s->won, -s->drop_high, -s->drop_low);
    if (isfinite(s->metric_after)) printf("  metric         %g -> %g\n", s->metric_before, s->metric_after);
    if (s->validated)
        printf("  agreement      same argmax %.2f %%, cosine %.5f (least %.5f), SQNR %.2f dB, on %zu samples%s\n",
               s->agreement, s->cosine, s->cosine_least, s->sqnr, s->validated,
               s->held_out ? "" : " that were calibrated with");
}

static void print_kept(const ps_compress_result *r) {
    ps_compress_layer l = { .size = sizeof l };
    for (size_t i = 0; ps_compress_layer_at(r, i, &l) == PS_OK; i++)
        if (!l.quantized) printf("  in float       %s %s: %s\n", l.op, l.name, l.reason);
}

static void print_result(const cli_args *args, const ps_compress_result *r) {
    ps_compress_summary s = { .size = sizeof s };
    char before[32], after[32], ratio[48];
    ps_compress_summarize(r, &s);
    const char *output = cli_get(args, "output");
    printf("%s -> %s%s\n", args->words[0], output ? output : "(not written)",
           cli_has(args, "dry-run") ? ", an estimate: nothing was written" : "");
    printf("  size           %s -> %s, %s\n", cli_bytes_text((double)s.bytes_before, before, sizeof before),
           cli_bytes_text((double)s.bytes_after, after, sizeof after),
           ratio_text((double)s.bytes_before, (double)s.bytes_after, ratio, sizeof ratio));
    if (s.zstd_before) printf("  original .zst  %s\n", cli_bytes_text((double)s.zstd_before, before, sizeof before));
    if (s.opset_before != s.opset_after)
        printf("  opset          %lld -> %lld\n", (long long)s.opset_before, (long long)s.opset_after);
    if (s.layers) printf("  layers         %zu of %zu quantised\n", s.layers_quantized, s.layers);
    print_kept(r);
    if (!cli_has(args, "dry-run")) print_accuracy(&s);
    if (isfinite(s.ms_before)) printf("  one run here   %.2f ms -> %.2f ms\n", s.ms_before, s.ms_after);
    if (s.memory_after)
        printf("  memory of it   %s -> %s\n", cli_bytes_text((double)s.memory_before, before, sizeof before),
               cli_bytes_text((double)s.memory_after, after, sizeof after));
    printf("  took           %.1f s, %s at the peak\n", s.seconds,
           cli_bytes_text((double)s.peak_bytes, before, sizeof before));
}

static int print_json(const cli_args *args, ps_compress_result *r) {
    ps_error err = PS_ERROR_INIT;
    char *text;
    if (ps_compress_report_text(r, &text, &err) != PS_OK) return cli_fail_error(args, &err);
    puts(text);
    ps_compress_text_free(r, text);
    return CLI_OK;
}

static int tell(const cli_args *args, ps_compress_result *r) {
    ps_error err = PS_ERROR_INIT;
    const char *path;
    for (size_t i = 0; (path = cli_get_nth(args, "report", i)); i++)
        if (ps_compress_report(r, path, &err) != PS_OK) return cli_fail_error(args, &err);
    if (args->json) return print_json(args, r);
    print_result(args, r);
    return CLI_OK;
}

/* ---- the command ---- */

static bool has_end(const char *path, const char *end) {
    const size_t n = strlen(path), k = strlen(end);
    return n > k && strcmp(path + n - k, end) == 0;
}

static int check(const cli_args *args) {
    const char *output = cli_get(args, "output"), *path;
    if (!output && !cli_has(args, "dry-run")) return cli_usage(args, "needs -o OUT (.onnx or .onnx.zst)");
    if (output && !has_end(output, ".onnx") && !has_end(output, ".onnx.zst"))
        return cli_usage(args, "-o '%s' ends neither in .onnx nor in .onnx.zst", output);
    for (size_t i = 0; (path = cli_get_nth(args, "report", i)); i++)
        if (!has_end(path, ".json") && !has_end(path, ".html"))
            return cli_usage(args, "--report '%s' ends neither in .json nor in .html", path);
    return CLI_OK;
}

static int compress_model(const cli_args *args, ps_engine *engine, const char *model, ps_compress_options *o) {
    ps_error err = PS_ERROR_INIT;
    ps_preprocess preprocess;
    ps_compress_result *result = NULL;
    bar b = { .start = cli_now_ns() };
    const int code = cli_preprocess(args, engine, model, &preprocess);
    if (code != CLI_OK) return code;
    o->preprocess = &preprocess;
    o->progress = on_progress;
    o->warn = on_warning;
    o->progress_ctx = o->warn_ctx = &b;
    o->cancel = cli_cancel_on_signals();
    cli_progress_start(&b.progress, args, "compress");
    const ps_status status = ps_compress(engine, model, cli_get(args, "output"), o, &result, &err);
    cli_progress_end(&b.progress);
    if (status != PS_OK) return cli_fail_error(args, &err);
    const int told = tell(args, result);
    ps_compress_result_free(result);
    return told;
}

static int run_compress(const cli_args *args) {
    ps_compress_options o = PS_COMPRESS_OPTIONS_INIT;
    ps_engine *engine = NULL;
    int code = check(args);
    if (code == CLI_OK) code = read_options(args, &o);
    if (code != CLI_OK) return code;
    code = cli_engine_open(args, NULL, NULL, &engine);
    char *model = cli_model_path(args->words[0]);
    if (code == CLI_OK) code = compress_model(args, engine, model, &o);
    free(model);
    ps_engine_free(engine);
    return code;
}

static const cli_option options[] = {
    { "output", CLI_FILE, "OUT", "the compressed model, .onnx or .onnx.zst; also -o", NULL },
    { "strategy", CLI_WORDS, "quantize|sparse|combined|aggressive|auto", "how; auto is quantize so far", "auto" },
    { "type", CLI_WORDS, "int8|int8-dynamic|fp16|bf16", "what numbers become; int8 needs --calibration", "int8" },
    { "bits", CLI_TEXT, "8|16", "short for --type int8 and fp16", NULL },
    { "sparsity", CLI_TEXT, "F", "share of weights to prune (a later version)", NULL },
    { "calibration", CLI_FILE, "DATA",
      "typical inputs: a folder of photos, .npy, .npz or test_data_set_*; a .npy or .npz", NULL },
    { "calibration-samples", CLI_TEXT, "N", "use the first N of them", "128" },
    { "validation", CLI_FILE, "DATA", "inputs to judge by", "the samples of --calibration that were not used" },
    { "validation-samples", CLI_TEXT, "N", "use the first N of them", "all" },
    { "max-drop", CLI_TEXT, "PCT", "keep layers in float until no more than this is lost", "no limit" },
    { "metric", CLI_TEXT, "COMMAND", "judge by this: called with a model's path, it prints a number; larger is better",
      NULL },
    { "measure", CLI_WORDS, "auto|argmax|cosine", "what --max-drop bounds without labels and metric", "auto" },
    { "range", CLI_WORDS, "auto|minmax|percentile|entropy|mse", "how activation ranges are chosen",
      "auto: the best of each" },
    { "without", CLI_TEXT, "WAY", "leave out equalize, rounding, bias or mixed; may be repeated", NULL },
    { "target-isa", CLI_WORDS, "any|avx2|avx512|vnni", "avx2, avx512: 7-bit weights, which never saturate without VNNI",
      "any" },
    { "opset", CLI_TEXT, "N", "at least this version of ai.onnx", "the lowest that suffices" },
    { "sensitivity", CLI_FLAG, NULL, "measure every layer alone, for the report", NULL },
    { "report", CLI_FILE, "FILE", "write a .json or .html report; may be repeated", NULL },
    { "dry-run", CLI_FLAG, NULL, "estimate size and layers, write nothing", NULL },
    { "no-latency", CLI_FLAG, NULL, "measure neither time nor memory of the models", NULL },
    { "zstd-level", CLI_TEXT, "N", "of .onnx.zst, 1 to 19", "19" },
    { "seed", CLI_TEXT, "N", "of the places that are sampled", "0" },
    CLI_OPT_PHOTOS,
    CLI_OPT_THREADS,
    CLI_OPT_JSON,
    CLI_OPT_END,
};

const cli_command cli_compress = {
    "compress",
    "MODEL",
    CLI_FILE,
    "make a model smaller and measure what it costs",
    "Writes a standard ONNX file: 8-bit integers (QuantizeLinear pairs with ranges from calibration data, or dynamic), "
    "or "
    "16-bit weights. Accuracy is measured by labels (labels.txt in a folder of photos: lines of \"file class\"), by a "
    "command of yours, or by agreement with the original; with --max-drop layers that cost too much stay in float. "
    "docs/compress.md explains the methods.",
    options,
    1,
    1,
    run_compress,
};
