/* demo.h - what the files of `polestar demo` share. */
#ifndef CLI_DEMO_H
#define CLI_DEMO_H

#include "cli.h"

enum { DEMO_STEPS = 7, DEMO_CONNECTIONS = 256, DEMO_TICK_MS = 100, DEMO_MODELS = 8, DEMO_LAYERS = 3 };

/* demo.c has the command; each demo is a file of its own. */
int demo_batching(const cli_args *args, double target_ms, double seconds);
int demo_multi_model(const cli_args *args, double seconds);

/* ---- demo_model.c: models that are made for the demo ---- */

/* A folder of its own, or NULL after a sentence on stderr; demo_folder_remove takes it and the files that are named. */
char *demo_folder_create(const cli_args *args);
void demo_folder_remove(char *folder, char *const *files, size_t n);
/* Writes a multilayer perceptron with drawn weights, as wide as that at each layer's end, its first dim open. */
bool demo_model_write(const char *path, const uint32_t width[DEMO_LAYERS + 1]);

/* ---- demo_request.c: one request for a model, with drawn inputs ---- */

typedef struct demo_answer demo_answer;

typedef struct demo_request {
    char *bytes; /* head and body of one HTTP request */
    size_t size;
    demo_answer *answer; /* NULL: it is not looked at */
} demo_request;

typedef struct demo_question {
    const char *path, *name; /* of the model: for sentences, and on the server */
    double timeout_ms;       /* 0: none */
    bool checked;            /* the answer is looked at, beside one that is made here and now */
} demo_question;

/* CLI_OK, or a code after a sentence. Release in any case, before the model's engine. */
int demo_request_make(const cli_args *args, const cli_model *m, const demo_question *q, demo_request *ret);
void demo_request_release(demo_request *request);
/* Are these the raw tensors of a right answer? */
bool demo_answer_is_right(const demo_answer *answer, const char *raw, size_t size);

/* ---- demo_load.c: requests to a server of this process, and what becomes of them ---- */

/* One step of the load, or one tick of time. */
typedef struct demo_count {
    double seconds, rate;      /* asked for */
    double share[DEMO_MODELS]; /* of each request, of the rate; steps only */
    size_t offered, answered, in_time;
    size_t of[DEMO_MODELS]; /* offered, by request */
    double batch;           /* mean over the runs that began; 0: none did */
    double bytes;           /* held */
    double p99_ms;          /* of the answers; steps only */
    double slowest_ms;      /* of the answers; 0: none */
} demo_count;

typedef struct demo_result {
    demo_count step[DEMO_STEPS];
    demo_count *tick; /* DEMO_TICK_MS each; free() it */
    size_t n_ticks;
    size_t failed, wrong; /* without an answer of 200; with one that is not right */
} demo_result;

typedef struct demo_load {
    const demo_request *requests;
    size_t n_requests;
    double target_ms;                             /* an answer is in time within so long */
    double patience_s;                            /* for answers after the last arrival */
    void (*at_tick)(void *ctx, demo_count *tick); /* at its end */
    void *ctx;
} demo_load;

typedef struct demo_client demo_client;
/* NULL after a sentence in *err. */
demo_client *demo_client_open(int port, ps_error *err);
void demo_client_close(demo_client *c);
/* The JSON of a reply of 200, or NULL. Blocks. */
json_t *demo_client_get(demo_client *c, const char *path);
/* Always `n` requests at once, for so long: answers a second. */
double demo_client_saturate(demo_client *c, const demo_request *request, int n, double seconds);
/* Poisson arrivals at the rates of ret->step, which hold so long; latency counts from the arrival. The same arrivals
 * with each client. */
void demo_client_run(demo_client *c, const demo_load *load, demo_result *ret);

/* ---- demo_page.c: pages of their own, with nothing from elsewhere ---- */

/* NULL after a sentence in *err. `title` is of us, no text to be escaped. */
FILE *demo_page_open(const char *path, const char *demo, const char *title, ps_error *err);
bool demo_page_close(FILE *page, const char *path, ps_error *err);
void demo_page_text(FILE *page, const char *text); /* escaped */
/* What is written between these two is a plot over so many seconds, from 0 to `most`. */
void demo_plot_begin(FILE *page, const char *title, double most, double seconds);
void demo_plot_end(FILE *page);

typedef double (*demo_value)(const demo_count *tick, const void *ctx);
/* A line over the ticks; those without a value are passed over if `gaps`. `style`: more of its attributes. */
void demo_plot_line(FILE *page, const demo_result *r, demo_value value, const void *ctx, double most, const char *color,
                    const char *style, bool gaps);
void demo_plot_level(FILE *page, double value, double most, const char *color);
double demo_largest(const demo_result *r, demo_value value, const void *ctx);
/* A round number of at least that. */
double demo_round_up(double value);

/* ---- what each demo says of its servers ---- */

typedef struct demo_contestant {
    const char *name, *color;
    demo_result result;
} demo_contestant;

/* demo_batching_html.c: load, answers in time and size of batches over time. False, with a sentence. */
bool demo_batching_page(const char *path, const char *model, double target_ms, const demo_contestant *all, size_t n,
                        ps_error *err);

/* Of one model, as the server's statistics have it in the end. */
typedef struct demo_model_stats {
    uint64_t requests, failed, loads, cached_loads, evictions;
    struct {
        uint64_t count;
        double p50_ms, p99_ms;
    } hit, miss;
    double bytes, peak_bytes, load_ms;
} demo_model_stats;

typedef struct demo_multi_server {
    demo_contestant c;
    double limit, peak, held; /* bytes: limit 0: none; held at most, and in the end */
    json_t *failures;         /* requests by reason, as the server counted them */
    demo_model_stats models[DEMO_MODELS];
} demo_multi_server;

/* demo_multi_html.c: memory, requests and slowest answers over time. False, with a sentence. */
bool demo_multi_page(const char *path, char *const *names, size_t n_models, const demo_multi_server *all, size_t n,
                     ps_error *err);

#endif
