/* demo.c - `polestar demo`: which of them, and what they share. */
#define _GNU_SOURCE /* nftw */
#include <ftw.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

/* ---- files ---- */

char *demo_folder_make(const cli_args *args) {
    const char *tmp = getenv("TMPDIR");
    if (!tmp || !*tmp) tmp = "/tmp";
    char *folder = cli_format("%s/polestar-demo-XXXXXX", tmp);
    if (mkdtemp(folder)) return folder;
    free(folder);
    cli_fail(args, "no folder for the demo's files can be made in %s", tmp);
    return NULL;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *at) {
    (void)s;
    (void)kind;
    (void)at;
    return remove(path);
}

void demo_folder_remove(char *folder) {
    if (folder) nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(folder);
}

const char *demo_page_path(const cli_args *args, const char *initial) {
    const char *path = cli_get(args, "html");
    if (!path) return initial;
    return *path ? path : NULL;
}

/* ---- the command ---- */

/* The demos, the options that not all of them have, and how many models they take at most. */
static const struct {
    const char *name;
    size_t most_models;
    const char *const options[12];
} demos[] = {
    { "batching", 1, { "target", "seconds", "shape", "device" } },
    { "multi-model", DEMO_MODELS, { "seconds", "shape", "device" } },
    { "compression",
      1,
      { "data", "judged", "max-drop", "models", "preset", "image-size", "image-resize", "image-mean", "image-std" } },
};

enum { DEMOS = sizeof demos / sizeof *demos };

static bool has_option(size_t demo, const char *name) {
    for (const char *const *o = demos[demo].options; *o; o++)
        if (strcmp(*o, name) == 0) return true;
    return false;
}

/* What belongs to other demos only is a mistake; *ret_demo: DEMOS if there is no such demo. */
static int check(const cli_args *args, size_t *ret_demo) {
    size_t demo = 0;
    while (demo < DEMOS && strcmp(demos[demo].name, args->words[0]) != 0)
        demo++;
    *ret_demo = demo;
    if (demo == DEMOS)
        return cli_usage(args, "there is no demo '%s'; there are batching, multi-model and compression",
                         args->words[0]);
    if (args->n_words > 1 + demos[demo].most_models)
        return cli_usage(args, "the demo %s takes at most %zu model%s, not '%s'", args->words[0],
                         demos[demo].most_models, demos[demo].most_models > 1 ? "s" : "",
                         args->words[1 + demos[demo].most_models]);
    for (size_t other = 0; other < DEMOS; other++)
        for (const char *const *o = demos[other].options; *o; o++)
            if (cli_has(args, *o) && !has_option(demo, *o))
                return cli_usage(args, "the demo %s has no --%s", args->words[0], *o);
    return CLI_OK;
}

static int run_demo(const cli_args *args) {
    double target_ms = 100, seconds = 1.5;
    size_t demo;
    const int code = check(args, &demo);
    if (code != CLI_OK) return code;
    if (!cli_get_double(args, "target", 1, 60000, &target_ms) || !cli_get_double(args, "seconds", 0.2, 600, &seconds))
        return CLI_USAGE;
    switch (demo) {
    case 0: return demo_batching(args, target_ms, seconds);
    case 1: return demo_multi_model(args, seconds);
    default: return demo_compression(args);
    }
}

static const cli_option options[] = {
    { "target", CLI_TEXT, "MS", "batching: an answer is in time within so long", "100" },
    { "seconds", CLI_TEXT, "S", "batching, multi-model: of each of the seven steps of the load", "1.5" },
    { "data", CLI_FILE, "DATA", "compression: inputs of MODEL, as for 'compress --calibration'", NULL },
    { "judged", CLI_TEXT, "N", "compression: inputs to judge by", "100 or 200" },
    { "max-drop", CLI_TEXT, "PCT", "compression: what mixed precision may lose", "1" },
    { "models", CLI_DIR, "DIR", "compression: where ppocr-rec and the others lie",
      "where tools/fetch-models keeps them; those of ours" },
    { "html", CLI_FILE, "FILE", "page with the plots; empty: none", "polestar-demo-DEMO.html" },
    CLI_OPT_SHAPE,
    CLI_OPT_PHOTOS,
    CLI_OPT_DEVICE,
    CLI_OPT_THREADS,
    CLI_OPT_JSON,
    CLI_OPT_END,
};

const cli_command cli_demo = {
    "demo",
    "batching|multi-model|compression [MODEL]...",
    CLI_FILE,
    "see on this machine what adaptive batches, many models under a limit and smaller models bring",
    "batching and multi-model serve on a free port of 127.0.0.1, put real HTTP requests to it, and take less than a "
    "minute.\n"
    "batching [MODEL]: one model, three times: as it is, with batches of one, and with batches of 32 or what came "
    "within "
    "20 ms. Each time the load goes up to more than full batches can do and down again, with the same arrivals. Prints "
    "for each step how many answers a second were in time, their p99, and the mean size of the batches. Without a "
    "MODEL "
    "a multilayer perceptron is made for it.\n"
    "multi-model [MODEL]...: two to eight models, twice: without a memory limit, and with one that all but one of them "
    "fit. Which model is asked for most changes with each step of the load. Prints for each model the latency of "
    "requests that found it there and of those that waited for it, loads and evictions, and the most memory that was "
    "held. Every answer is checked. Without a MODEL it takes three that 'make demo' fetches, where they are, else it "
    "makes three.\n"
    "compression [MODEL]: makes a model smaller in each way that there is and prints size, time of a run, memory and "
    "accuracy "
    "beside the original's, all measured here. Without a MODEL it takes the PP-OCR recogniser (tools/fetch-models "
    "ppocr-rec), on lines of text that it draws, and two medical networks of the source tree, on synthetic pictures; "
    "without these a multilayer perceptron. Inputs that calibrate, that choose layers and that judge are different "
    "ones. A MODEL needs --data, and is judged by labels or by agreement with the original.",
    options,
    1,
    1 + DEMO_MODELS,
    run_demo,
};
