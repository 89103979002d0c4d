/* main.c - the options of open_loop. */
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "open_loop.h"

static const char help[] =
    "usage: open_loop --url HOST:PORT (--model NAME --rate R | --mix FILE) [options]\n"
    "\n"
    "Sends inference requests (HTTP/1.1, raw tensors) at times drawn beforehand, and counts latency from those times.\n"
    "\n"
    "  --model NAME       --rate R          one model, R requests a second on average\n"
    "  --mix FILE                           several: bench/README.md has the keys\n"
    "  --pattern poisson|constant|onoff     onoff: Poisson, in phases of --period seconds, the first at --ratio times "
    "the\n"
    "                                       rate of the second [poisson]\n"
    "  --period S         --ratio R         [1] [4]\n"
    "  --duration S       --warmup S        measured, and before it [10] [1]\n"
    "  --drain S                            wait for replies at the end [2]\n"
    "  --target MS                          a reply is good if it is a 200 within so long [any]\n"
    "  --timeout US       --priority N      parameters of the requests\n"
    "  --shape INPUT=1x4  --input INPUT=F   shape of an input with open dims [1 each]; its values, a .npy file "
    "[random]\n"
    "  --samples N                          different requests [8]\n"
    "  --check                              compare each answer with that to the same request alone\n"
    "  --connections N                      at most [512]\n"
    "  --late MS                            what is sent later than this counts as sent late [1]\n"
    "  --seed N                             [1]\n"
    "  --json             --csv FILE        a document instead of the table; a line for each request\n";

void ol_die(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "open_loop: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    fflush(stdout);
    _exit(2); /* what is being built is nobody's any more: no leak to report */
}

void *ol_alloc(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) ol_die("out of memory");
    return p;
}

void *ol_realloc(void *ptr, size_t n, size_t size) {
    void *p = n <= (size_t)-1 / size ? realloc(ptr, n * size) : NULL;
    if (!p) ol_die("out of memory");
    return p;
}

char *ol_format(const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0) ol_die("a text cannot be made");
    char *text = ol_alloc((size_t)n + 1, 1);
    vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return text;
}

/* ---- options ---- */

typedef struct settings {
    const char *url, *mix, *pattern;
    double period, ratio;
    uint64_t seed;
    ol_model model; /* of the options, and the defaults of a mix */
    ol_run run;
    ol_output output;
} settings;

static double number(const char *name, const char *text, double low, double high) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        ol_die("--%s takes a number from %g to %g, not '%s'", name, low, high, text);
    return value;
}

static int64_t whole(const char *name, const char *text, double low, double high) {
    double value = number(name, text, low, high);
    if (value != (double)(int64_t)value) ol_die("--%s takes a whole number, not '%s'", name, text);
    return (int64_t)value;
}

static void add_input(ol_model *m, const char *name, const char *text, bool file) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) ol_die("--%s takes INPUT=%s, not '%s'", name, file ? "FILE" : "1x4", text);
    m->inputs = ol_realloc(m->inputs, m->n_inputs + 1, sizeof *m->inputs);
    m->inputs[m->n_inputs++] = (ol_input) { .name = ol_format("%.*s", (int)(equals - text), text),
                                            .file = file ? ol_format("%s", equals + 1) : NULL,
                                            .shape = file ? NULL : ol_format("%s", equals + 1) };
}

static const struct option options[] = {
    { "url", 1, NULL, 'u' },      { "model", 1, NULL, 'm' },    { "mix", 1, NULL, 'x' },
    { "rate", 1, NULL, 'r' },     { "pattern", 1, NULL, 'p' },  { "period", 1, NULL, 'P' },
    { "ratio", 1, NULL, 'R' },    { "duration", 1, NULL, 'd' }, { "warmup", 1, NULL, 'w' },
    { "drain", 1, NULL, 'D' },    { "target", 1, NULL, 't' },   { "timeout", 1, NULL, 'T' },
    { "priority", 1, NULL, 'y' }, { "shape", 1, NULL, 's' },    { "input", 1, NULL, 'i' },
    { "samples", 1, NULL, 'n' },  { "check", 0, NULL, 'k' },    { "connections", 1, NULL, 'c' },
    { "late", 1, NULL, 'l' },     { "seed", 1, NULL, 'e' },     { "json", 0, NULL, 'j' },
    { "csv", 1, NULL, 'v' },      { "help", 0, NULL, 'h' },     { NULL, 0, NULL, 0 },
};

static bool read_model_option(ol_model *m, int letter, const char *name, const char *text) {
    switch (letter) {
    case 'm': m->name = ol_format("%s", text); return true;
    case 'r': m->rate = number(name, text, 1e-6, 1e7); return true;
    case 't': m->target_ms = number(name, text, 0, 1e9); return true;
    case 'T': m->timeout_us = whole(name, text, 1, 1e12); return true;
    case 'y': m->priority = whole(name, text, 0, 4294967295.0); return true;
    case 's': add_input(m, name, text, false); return true;
    case 'i': add_input(m, name, text, true); return true;
    case 'n': m->samples = whole(name, text, 1, OL_MAX_BODIES); return true;
    default: return false;
    }
}

static void read_option(settings *s, int letter, const char *name, const char *text) {
    switch (letter) {
    case 'u': s->url = text; break;
    case 'x': s->mix = text; break;
    case 'p': s->pattern = text; break;
    case 'P': s->period = number(name, text, 1e-3, 1e6); break;
    case 'R': s->ratio = number(name, text, 1e-3, 1e6); break;
    case 'd': s->run.duration = number(name, text, 1e-2, 1e6); break;
    case 'w': s->run.warmup = number(name, text, 0, 1e6); break;
    case 'D': s->run.drain = number(name, text, 0, 1e6); break;
    case 'k': s->run.check = true; break;
    case 'c': s->run.connections = (size_t)whole(name, text, 1, 1 << 20); break;
    case 'l': s->output.late_ms = number(name, text, 0, 1e9); break;
    case 'e': s->seed = (uint64_t)whole(name, text, 0, 9e15); break;
    case 'j': s->output.json = true; break;
    case 'v': s->output.csv = text; break;
    case 'h': printf("%s", help); exit(0);
    default: exit(2); /* getopt has said why */
    }
}

static void read_options(int argc, char **argv, settings *s) {
    int index = 0, letter;
    while ((letter = getopt_long(argc, argv, "", options, &index)) != -1)
        if (letter == '?' || !read_model_option(&s->model, letter, options[index].name, optarg))
            read_option(s, letter, options[index].name, optarg);
    if (optind < argc) ol_die("'%s' is no option", argv[optind]);
    if (s->mix && (s->model.name || s->model.n_inputs)) ol_die("--mix names models and inputs itself");
    if (!s->url || !(s->mix || s->model.name)) ol_die("needs --url, and --model or --mix; --help lists all");
}

static void set_arrivals(const settings *s, ol_model *m) {
    const bool constant = strcmp(s->pattern, "constant") == 0, phases = strcmp(s->pattern, "onoff") == 0;
    if (!constant && !phases && strcmp(s->pattern, "poisson") != 0)
        ol_die("--pattern is poisson, constant or onoff, not '%s'", s->pattern);
    if (!(m->rate > 0)) ol_die("model '%s' has no rate", m->name);
    m->arrivals = (ol_arrivals) { .pattern = constant ? OL_CONSTANT : OL_POISSON,
                                  .rate = m->rate,
                                  .period = phases ? s->period : 0,
                                  .ratio = s->ratio };
}

static char *join(int argc, char **argv) {
    char *text = ol_format("%s", argv[0]);
    for (int i = 1; i < argc; i++) {
        char *longer = ol_format("%s %s", text, argv[i]);
        free(text);
        text = longer;
    }
    return text;
}

static void release(settings *s, ol_model *models, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t b = 0; b < models[i].n_bodies; b++) {
            free(models[i].bodies[b].data);
            free(models[i].bodies[b].answer);
        }
    free(s->run.requests);
}

int main(int argc, char **argv) {
    static ol_model models[OL_MAX_MODELS];
    static ol_server server;
    static settings s; /* names and notes stay until the end */
    s = (settings) { .pattern = "poisson",
                     .period = 1,
                     .ratio = 4,
                     .seed = 1,
                     .model = { .samples = 8 },
                     .run = { .warmup = 1, .duration = 10, .drain = 2, .connections = 512 },
                     .output = { .late_ms = 1 } };
    read_options(argc, argv, &s);
    s.run.random = s.seed;
    models[0] = s.model;
    const size_t n = s.mix ? ol_mix_read(s.mix, &s.model, models) : 1;
    ol_server_resolve(&server, s.url);
    for (size_t i = 0; i < n; i++) {
        set_arrivals(&s, &models[i]);
        ol_model_prepare(&server, &models[i], &s.run.random, s.run.check);
    }
    s.run.server = &server;
    s.run.models = models;
    s.run.n_models = n;
    s.output.note = join(argc, argv);
    const bool ok = ol_run_all(&s.run) && ol_report(&s.run, &s.output);
    release(&s, models, n);
    return ok ? 0 : 1;
}
