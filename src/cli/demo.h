/* demo.h - what the files of `polestar demo` share. */
#ifndef CLI_DEMO_H
#define CLI_DEMO_H

#include "cli.h"

enum { DEMO_STEPS = 7, DEMO_CONNECTIONS = 256, DEMO_TICK_MS = 100, DEMO_MODELS = 8, DEMO_LAYERS = 3 };

/* demo.c has the command; each demo is a file of its own. Exit codes. */
int demo_batching(const cli_args *args, double target_ms, double seconds);
int demo_multi_model(const cli_args *args, double seconds);
int demo_compression(const cli_args *args);

/* demo.c: a new folder below $TMPDIR for the files of this run, with which it goes; NULL after the sentence. */
char *demo_folder_make(const cli_args *args);
void demo_folder_remove(char *folder); /* NULL is allowed */
/* What --html says, or the default; NULL: no page. */
const char *demo_page_path(const cli_args *args, const char *initial);

/* ---- demo_model.c: models that are made for the demo ---- */

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

/* ---- polestar demo compression ---- */

/* What a model is made smaller for: its inputs, and how right its answers are. Inputs are numbered; each is the same in
 * every run. */
typedef struct demo_picture {
    int width, height;
    uint8_t *gray;
    char *text; /* what it shows; free() both */
} demo_picture;

typedef struct demo_subject {
    const char *folder; /* of the model, below those where models lie */
    const char *what, *inputs, *measure;
    size_t calibrated, tuned, judged; /* inputs; each of its own */
    bool counts;                      /* an answer is right or wrong, nothing in between */
    ps_status (*input)(ps_engine *engine, uint64_t index, ps_tensor **ret, ps_error *err);
    /* What is needed to understand the model's answers, from its file; NULL: it is not there. May be left out. */
    void *(*know)(const ps_model *model);
    void (*forget)(void *knowledge);
    /* 0 to 1, for the first output. said: the answer in words, free() it; NULL: it has none. */
    double (*score)(const void *knowledge, uint64_t index, const ps_tensor *output, char **ret_said);
    void (*picture)(uint64_t index, demo_picture *ret); /* may be left out */
} demo_subject;

extern const demo_subject demo_text;               /* demo_text.c */
extern const demo_subject demo_slice, demo_volume; /* demo_medical.c */

/* demo_font.c: how letters are drawn. Lengths in pixels. */
typedef struct demo_pen {
    double x, y;       /* where the baseline begins */
    double unit;       /* of the letters' grid; capitals are 14 units high */
    double stretch;    /* width to height */
    double slant;      /* to the right, by height */
    double climb;      /* of the baseline, by length */
    double half, soft; /* half the width of a stroke, width of its blurred edge */
    double gap;        /* between letters, in units */
} demo_pen;

typedef struct demo_ink {
    int width, height;
    float *covered; /* 0 to 1 */
} demo_ink;

double demo_font_width(const char *text, const demo_pen *pen);
void demo_font_draw(const char *text, const demo_pen *pen, demo_ink *ink);

/* One form of a model. Numbers that were not measured are NaN. */
typedef struct demo_form {
    const char *name;
    double bytes, ms, memory; /* of its file, of a run, the most from loading to the first run */
    double accuracy;          /* per cent */
    size_t lost, won;         /* inputs that only the original, only this one has right */
    size_t layers, quantized; /* 0: not counted */
    double *score;            /* of each judged input; NULL: none was judged here */
    char **said;              /* the answers, or NULL each */
    char *failure;            /* why there is no such form; NULL: there is */
} demo_form;

enum { DEMO_FORMS = 5 };
typedef struct demo_comparison {
    const demo_subject *subject; /* NULL: a model of the command line, or of our own, judged by ps_compress */
    char *model, *title, *measure;
    size_t judged;
    uint64_t first_judged;
    demo_form form[DEMO_FORMS]; /* the first is the original */
} demo_comparison;

/* demo_compression_page.c. False, with a sentence. */
bool demo_compression_page(const char *path, const demo_comparison *all, size_t n, ps_error *err);

#endif
