/* demo.c - shows on this machine what the server does: `polestar demo batching` and `polestar demo multi-model`. */
#include <string.h>

#include "demo.h"

static int run_demo(const cli_args *args) {
    double target_ms = 100, seconds = 1.5;
    const bool batching = strcmp(args->words[0], "batching") == 0;
    if (!batching && strcmp(args->words[0], "multi-model") != 0)
        return cli_usage(args, "there is no demo '%s'; there are batching and multi-model", args->words[0]);
    if (batching && args->n_words > 2) return cli_usage(args, "batching takes one model, not '%s'", args->words[2]);
    if (!batching && cli_has(args, "target")) return cli_usage(args, "--target is for batching");
    if (!cli_get_double(args, "target", 1, 60000, &target_ms) || !cli_get_double(args, "seconds", 0.2, 600, &seconds))
        return CLI_USAGE;
    return batching ? demo_batching(args, target_ms, seconds) : demo_multi_model(args, seconds);
}

static const cli_option options[] = {
    { "target", CLI_TEXT, "MS", "batching: an answer is in time within so long", "100" },
    { "seconds", CLI_TEXT, "S", "of each of the seven steps of the load", "1.5" },
    { "html", CLI_FILE, "FILE", "page with the plots; empty: none", "polestar-demo-DEMO.html" },
    CLI_OPT_SHAPE,
    CLI_OPT_DEVICE,
    CLI_OPT_THREADS,
    CLI_OPT_JSON,
    CLI_OPT_END,
};

const cli_command cli_demo = {
    "demo",
    "batching|multi-model [MODEL]...",
    CLI_FILE,
    "see on this machine what the server does: adaptive batches, many models",
    "Both serve on a free port of 127.0.0.1, put real HTTP requests to it, and take less than a minute.\n"
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
    "makes three.",
    options,
    1,
    1 + DEMO_MODELS,
    run_demo,
};
