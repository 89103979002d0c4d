/* demo.h - what the files of `polestar demo` share. */
#ifndef CLI_DEMO_H
#define CLI_DEMO_H

#include "cli.h"

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

/* demo_html.c: a page of its own: load, answers in time and size of batches over time. False, with a sentence. */
typedef struct demo_contestant {
    const char *name, *color;
    demo_result result;
} demo_contestant;
bool demo_html_write(const char *path, const char *model, double target_ms, const demo_contestant *all, size_t n,
                     ps_error *err);

#endif
