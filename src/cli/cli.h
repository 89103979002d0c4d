/* cli.h - what the commands share: the command table, parsed arguments, models, tensors, text and JSON out.
 *
 * A command is one file and one row: its options are a table from which --help, completions, man pages and the parser
 * are all made. The tool uses the library's public headers only, as any program would. It ends by itself when memory
 * runs out (cli_alloc), so that commands need no checks for that. */
#ifndef CLI_H
#define CLI_H

#include <jansson.h>
#include <stdio.h>

#include "polestar/polestar.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* ---- the table ---- */

/* What an option's argument names: completions offer files, folders or words. Words are checked by the parser, a device
 * by the library, which knows what the machine has. */
typedef enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_FILE, CLI_DIR, CLI_WORDS, CLI_DEVICE } cli_kind;

typedef struct cli_option {
    const char *name; /* without the dashes */
    cli_kind kind;
    const char *arg;     /* "NAME=FILE"; of CLI_WORDS and CLI_DEVICE words, "cpu|ref|auto" */
    const char *help;    /* one line */
    const char *initial; /* text of the default, or NULL */
} cli_option;

typedef struct cli_args cli_args;

typedef struct cli_command {
    const char *name;
    const char *args;          /* "MODEL [FILE]...", "" for none */
    cli_kind args_kind;        /* for completions */
    const char *summary;       /* one line, no full stop */
    const char *details;       /* paragraphs for --help and the man page */
    const cli_option *options; /* ended by a row without a name */
    int min_args, max_args;    /* max < 0: any number */
    int (*run)(const cli_args *args);
} cli_command;

/* Options that several commands have. */
#define CLI_OPT_JSON                                                                                                   \
    { "json", CLI_FLAG, NULL, "print one JSON document on standard output and nothing else", NULL }
#define CLI_OPT_DEVICE \
    { "device", CLI_DEVICE, "auto|cpu|gpu|ref", \
      "where to run: auto is the CPU, gpu the first OpenCL device, opencl:N another one of 'polestar devices', ref " \
      "reference kernels only", "auto" }
#define CLI_OPT_ACTIVATIONS \
    { "activations", CLI_WORDS, "f32|f16", \
      "what values between the operators lie as on an OpenCL device: f16 takes half of the memory, rounds to 11 bits", \
      "f32" }
#define CLI_OPT_THREADS                                                                                                \
    { "threads", CLI_TEXT, "N", "threads of one run", "what the cgroup and the affinity mask allow" }
#define CLI_OPT_PRECISION                                                                                              \
    { "precision", CLI_WORDS, "auto|fp32", "arithmetic; auto never changes results beyond the model's own", "auto" }
#define CLI_OPT_SHAPE                                                                                                  \
    {                                                                                                                  \
        "shape", CLI_TEXT, "NAME=1x3x224x224", "shape of an input whose dims the file leaves open; may be repeated",   \
            "1 for every open dim"                                                                                     \
    }
#define CLI_OPT_PHOTOS \
    { "preset", CLI_TEXT, "NAME", "photo preparation by name, such as imagenet", \
      "MODEL.preprocess.json if it is there" }, \
    { "image-size", CLI_TEXT, "N", "square crop of photos in pixels", "what the model's input says" }, \
    { "image-resize", CLI_TEXT, "N", "shorter side of photos before the crop; 0: as they are", "0" }, \
    { "image-mean", CLI_TEXT, "M[,M,M]", "subtracted from the pixels (0 to 255)", "0" }, \
    { "image-std", CLI_TEXT, "S[,S,S]", "divides the pixels after that", "1" }
#define CLI_OPT_NO_FUSION                                                                                              \
    { "no-fusion", CLI_FLAG, NULL, "run the graph as it stands in the file", NULL }
#define CLI_OPT_END                                                                                                    \
    { NULL, CLI_FLAG, NULL, NULL, NULL }

extern const cli_command *const cli_commands[]; /* ended by NULL */
const cli_command *cli_command_find(const char *name);
/* Prints "did you mean" for a word that is no command. */
int cli_unknown_command(const char *name);

/* ---- parsed arguments ---- */

typedef struct cli_value {
    const cli_option *option;
    const char *text; /* "" for flags */
} cli_value;

struct cli_args {
    const cli_command *command;
    cli_value *values;
    size_t n_values;
    const char **words; /* arguments that are no options */
    size_t n_words;
    bool json;
};

/* Parses argv after the command's name. CLI_OK, or CLI_USAGE after one sentence on stderr. *ret_help: --help was given.
 */
int cli_args_parse(const cli_command *command, int argc, char **argv, cli_args *ret, bool *ret_help);
void cli_args_release(cli_args *args);
/* The last value given, or NULL. */
const char *cli_get(const cli_args *args, const char *name);
bool cli_has(const cli_args *args, const char *name);
/* The n-th value of a repeated option, or NULL. */
const char *cli_get_nth(const cli_args *args, const char *name, size_t n);
/* A number in [min, max]; untouched if the option is absent; false after a usage sentence. */
bool cli_get_int(const cli_args *args, const char *name, int min, int max, int *ret);
bool cli_get_double(const cli_args *args, const char *name, double min, double max, double *ret);
/* Comma-separated positive integers, at most max; *ret_n untouched if absent. */
bool cli_get_ints(const cli_args *args, const char *name, int *ret, size_t max, size_t *ret_n);
/* "64MiB", "2G", "1000": bytes. */
bool cli_size_parse(const char *text, size_t *ret);
bool cli_get_size(const cli_args *args, const char *name, size_t *ret);
/* One sentence on stderr, "polestar COMMAND: ..."; return CLI_USAGE and CLI_FAILED. */
int cli_usage(const cli_args *args, const char *fmt, ...) PS_PRINTF(2, 3);
int cli_fail(const cli_args *args, const char *fmt, ...) PS_PRINTF(2, 3);
int cli_fail_error(const cli_args *args, const ps_error *err);

/* Is value one of the words "a|b|c"? */
bool cli_is_word(const char *words, const char *value);

/* The word of a list that a mistyped one is nearest to, or NULL when none is near. next(ctx, i): NULL at the end. */
const char *cli_nearest(const char *word, const char *(*next)(const void *ctx, size_t i), const void *ctx);

/* ---- configuration files ---- */

enum { CLI_CONFIG_MAX = 1 << 20 }; /* bytes of a file */

typedef struct cli_config_model {
    char *name, *path; /* name NULL: derived from the path */
    char *states;      /* for ps_server_model, or NULL */
} cli_config_model;

/* What a file said: texts are its own. */
typedef struct cli_config {
    cli_value *values;
    size_t n_values;
    cli_config_model *models;
    size_t n_models;
} cli_config;

/* A JSON object: one key for each option of the command, and "models". false, with a sentence and nothing to release,
 * for anything else. */
bool cli_config_parse(const cli_command *command, const char *text, size_t size, cli_config *ret, ps_error *err);
void cli_config_release(cli_config *config);
void cli_config_model_release(cli_config_model *model);
/* "PATH" or "NAME=PATH"; free() both. */
void cli_config_model_split(const char *text, cli_config_model *ret);
/* An object of the list of models; `where` starts the sentences. The model is to be released in any case. */
bool cli_config_model_read(json_t *object, const char *where, cli_config_model *ret, ps_error *err);
bool cli_config_fail(ps_error *err, const char *fmt, ...) PS_PRINTF(2, 3); /* false */
/* args with the values of --config FILE behind them. CLI_OK, then free ret->values and release the configuration, which
 * must stay as long; or CLI_USAGE after a sentence. */
int cli_config_apply(const cli_args *args, cli_args *ret, cli_config *ret_config);

/* ---- texts made from the table ---- */
void cli_print_overview(FILE *out);
void cli_print_help(const cli_command *command, FILE *out);
void cli_print_man(const cli_command *command, FILE *out); /* NULL: the page of the tool */
bool cli_print_completion(const char *shell, FILE *out);   /* false: unknown shell */

/* ---- memory, text, time ---- */
void *cli_alloc(size_t n, size_t size); /* zeroed; ends the program when memory runs out */
void *cli_realloc(void *ptr, size_t n, size_t size);
char *cli_format(const char *fmt, ...) PS_PRINTF(1, 2); /* free() it */
int64_t cli_now_ns(void);
const char *cli_base_name(const char *path);
/* "f32[1,3,224,224]"-style dims; symbols by name, open dims "?". buf is returned. */
const char *cli_shape_text(const ps_model *model, const ps_shape *shape, char *buf, size_t size);
const char *cli_bytes_text(double bytes, char *buf, size_t size); /* "12.3 MiB" */
const char *cli_count_text(double count, char *buf, size_t size); /* "4.7 M" */
/* NAME=REST: the length of NAME, or 0 if there is no '='. */
size_t cli_name_length(const char *text);

/* Becomes non-zero at SIGINT or SIGTERM from the first call on; for options named `cancel`. */
const int *cli_cancel_on_signals(void);

/* A bar on stderr while it is a terminal, nothing otherwise. */
typedef struct cli_progress {
    const char *what;
    int shown; /* last per mille drawn */
    bool on;
} cli_progress;
void cli_progress_start(cli_progress *p, const cli_args *args, const char *what);
void cli_progress_set(cli_progress *p, double share, const char *note);
void cli_progress_end(cli_progress *p);

/* ---- JSON ---- */
json_t *cli_json_text(const char *text); /* bytes that are no UTF-8 become '?'; NULL gives null */
json_t *cli_json_real(double value);     /* NaN and infinities become null */
json_t *cli_json_shape(const ps_model *model, const ps_shape *shape);
int cli_json_print(json_t *document); /* takes it; CLI_OK */

/* ---- models and tensors ---- */

/* Engine and model from the options --device, --threads, --precision, --no-fusion. */
typedef struct cli_model {
    ps_engine *engine;
    ps_model *model;
    int64_t load_ns;
} cli_model;
/* CLI_OK, or an exit code after the sentence. Release in any case. */
int cli_engine_open(const cli_args *args, ps_log_fn log, void *log_ctx, ps_engine **ret);
int cli_model_open(const cli_args *args, const char *path, cli_model *ret);
/* --activations, for ps_model_options. */
ps_dtype cli_activations(const cli_args *args);
ps_status cli_model_load(const cli_args *args, ps_engine *engine, const char *path, ps_model **ret, ps_error *err);
void cli_model_close(cli_model *m);

/* The settings for photos: a preset or MODEL.preprocess.json, then flags (CLI_OPT_PHOTOS). CLI_OK or an exit code. */
int cli_preprocess(const cli_args *args, ps_engine *engine, const char *model, ps_preprocess *ret);

/* Shapes of all inputs: --shape, then symbols shared with inputs given that way, then 1. batch > 0 sets the first dim
 * of every input that leaves it open. CLI_OK or a usage error. */
int cli_input_shapes(const cli_args *args, const ps_model *model, int batch, ps_shape *ret);
/* The next number of a sequence that `state` stands in: uniform between 0 and 1, or N(0, 1). */
double cli_random(uint64_t *state);
double cli_random_normal(uint64_t *state);
/* Deterministic random data: N(0, 1) for floats, 0 and 1 for integers and bools. */
ps_status cli_tensor_random(ps_engine *engine, ps_dtype dtype, const ps_shape *shape, uint64_t seed, ps_tensor **ret,
                            ps_error *err);
/* Random tensors for all inputs; release each. CLI_OK or an exit code. */
int cli_random_inputs(const cli_args *args, const cli_model *m, int batch, ps_tensor **ret);
void cli_tensors_release(ps_tensor **tensors, size_t n);
size_t cli_input_index(const ps_model *model, const char *name, size_t length); /* SIZE_MAX if there is none */
/* Element as double; NaN for types that are no numbers. f16, bf16 and the integers of whole bytes included. */
double cli_element(const ps_tensor *t, size_t i);
bool cli_dtype_float(ps_dtype t);
bool cli_dtype_container(ps_dtype t); /* sequence, optional, map */
/* Letters, digits, '_', '.', '-' stay; everything else becomes '_'. free() it. */
char *cli_safe_name(const char *name);
/* dir/a/b; free() it. */
char *cli_path_join(const char *dir, const char *name);
bool cli_is_dir(const char *path);
bool cli_is_file(const char *path);
/* dir if it is a file, else dir/model.onnx or, where only that is there, dir/model.pt2. free() it. */
char *cli_model_path(const char *path);

/* ---- folders of test data: test_data_set_*: input_N.pb and output_N.pb ---- */
typedef struct cli_test_set {
    char *path;
    ps_tensor **inputs, **outputs;
    size_t n_inputs, n_outputs;
} cli_test_set;
/* Names of the sets below dir in the order of their numbers; free with cli_names_free. */
char **cli_test_sets(const char *dir, size_t *ret_n);
void cli_names_free(char **names, size_t n);
/* The model's declared types tell which files hold sequences, optionals and maps. */
ps_status cli_test_set_load(ps_engine *engine, const ps_model *model, const char *path, cli_test_set *ret,
                            ps_error *err);
void cli_test_set_release(cli_test_set *set);

#endif
