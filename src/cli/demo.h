/* demo.h - what the files of `polestar demo` share. */
#ifndef CLI_DEMO_H
#define CLI_DEMO_H

#include "cli.h"

/* demo_batching.c, demo_compression.c: the demos. Exit codes. */
int demo_batching(const cli_args *args);
int demo_compression(const cli_args *args);

/* demo.c: a new folder below $TMPDIR for the files of this run, with which it goes; NULL after the sentence. */
char *demo_folder_make(const cli_args *args);
void demo_folder_remove(char *folder); /* NULL is allowed */
/* What --html says, or the default; NULL: no page. */
const char *demo_page_path(const cli_args *args, const char *initial);

/* ---- demo_page.c: a page of its own, with nothing from elsewhere ---- */
/* Its head, up to the first heading. NULL, with a sentence. */
FILE *demo_page_open(const char *path, const char *demo, const char *heading, ps_error *err);
void demo_page_text(FILE *page, const char *text);                 /* what has a meaning in HTML is escaped */
bool demo_page_close(FILE *page, const char *path, ps_error *err); /* false, with a sentence */

/* ---- polestar demo batching ---- */

enum { DEMO_STEPS = 7, DEMO_CONNECTIONS = 256, DEMO_TICK_MS = 100 };

/* demo_model.c: writes a multilayer perceptron with drawn weights, 1024-3072-3072-16, its first dim open. */
bool demo_model_write(const char *path);

/* ---- demo_load.c: requests to a server of this process, and what becomes of them ---- */

typedef struct demo_request {
    char *bytes; /* head and body of one HTTP request */
    size_t size;
} demo_request;

/* One step of the load, or one tick of time. */
typedef struct demo_count {
    double seconds, rate; /* asked for */
    size_t offered, answered, in_time;
    double batch;  /* mean over the runs that began; 0: none did */
    double p99_ms; /* of the answers; steps only */
} demo_count;

typedef struct demo_result {
    demo_count step[DEMO_STEPS];
    demo_count *tick; /* DEMO_TICK_MS each; free() it */
    size_t n_ticks;
} demo_result;

typedef struct demo_client demo_client;
/* NULL after a sentence in *err. */
demo_client *demo_client_open(int port, const char *model, double target_ms, ps_error *err);
void demo_client_close(demo_client *c);
/* Always `n` requests at once, for so long: answers a second. */
double demo_client_saturate(demo_client *c, const demo_request *request, int n, double seconds);
/* Poisson arrivals at the rates of ret->step, which hold so long; latency counts from the arrival. */
void demo_client_run(demo_client *c, const demo_request *request, demo_result *ret);

/* demo_batching_page.c: load, answers in time and size of batches over time. False, with a sentence. */
typedef struct demo_contestant {
    const char *name, *color;
    demo_result result;
} demo_contestant;
bool demo_batching_page(const char *path, const char *model, double target_ms, const demo_contestant *all, size_t n,
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
