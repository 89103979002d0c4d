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

/* Options of one demo only. */
static const char *const of_batching[] = { "target", "seconds", "shape", "device", NULL };
static const char *const of_compression[] = { "data",       "judged",       "max-drop",   "models",    "preset",
                                              "image-size", "image-resize", "image-mean", "image-std", NULL };

static int run_demo(const cli_args *args) {
    const bool batching = strcmp(args->words[0], "batching") == 0;
    if (!batching && strcmp(args->words[0], "compression") != 0)
        return cli_usage(args, "there is no demo '%s'; there are batching and compression", args->words[0]);
    for (const char *const *name = batching ? of_compression : of_batching; *name; name++)
        if (cli_has(args, *name)) return cli_usage(args, "the demo %s has no --%s", args->words[0], *name);
    return batching ? demo_batching(args) : demo_compression(args);
}

static const cli_option options[] = {
    { "target", CLI_TEXT, "MS", "batching: an answer is in time within so long", "100" },
    { "seconds", CLI_TEXT, "S", "batching: of each of the seven steps of the load", "1.5" },
    { "data", CLI_FILE, "DATA", "compression: inputs of MODEL, as for 'compress --calibration'", NULL },
    { "judged", CLI_TEXT, "N", "compression: inputs to judge by", "100 or 200" },
    { "max-drop", CLI_TEXT, "PCT", "compression: what mixed precision may lose", "1" },
    { "models", CLI_DIR, "DIR", "compression: where ppocr-rec and the others lie",
      "where tools/fetch-models keeps them; tests/models" },
    { "html", CLI_FILE, "FILE", "page with the plots; empty: none", "polestar-demo-batching.html, -compression.html" },
    CLI_OPT_SHAPE,
    CLI_OPT_PHOTOS,
    CLI_OPT_DEVICE,
    CLI_OPT_THREADS,
    CLI_OPT_JSON,
    CLI_OPT_END,
};

const cli_command cli_demo = {
    "demo",
    "batching|compression [MODEL]",
    CLI_FILE,
    "see on this machine what batches that adapt and smaller models bring",
    "batching serves a model on a free port of 127.0.0.1, three times: as it is, with batches of one, and with batches "
    "of 32 or what came within 20 ms. Each time the load goes up to more than full batches can do and down again, with "
    "the same arrivals. Prints for each step how many answers a second were in time, their p99, and the mean size of "
    "the batches. Without a MODEL a multilayer perceptron is made for it. Takes less than a minute.\n\n"
    "compression makes a model smaller in each way that there is and prints size, time of a run, memory and accuracy "
    "beside the original's, all measured here. Without a MODEL it takes the PP-OCR recogniser (tools/fetch-models "
    "ppocr-rec), on lines of text that it draws, and two medical networks of the source tree, on synthetic pictures; "
    "without these a multilayer perceptron. Inputs that calibrate, that choose layers and that judge are different "
    "ones. A MODEL needs --data, and is judged by labels or by agreement with the original.",
    options,
    1,
    2,
    run_demo,
};
