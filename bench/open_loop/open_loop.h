/* open_loop.h - an open-loop load generator for servers of the Open Inference Protocol v2, over HTTP/1.1.
 *
 * Requests are sent at times that were drawn beforehand, whatever the server does, and a latency counts from the time
 * at which the request should have been sent: a server that stalls does not thin out its own load ("coordinated
 * omission"). One thread, one epoll set. Programs end when memory runs out (ol_alloc). */
#ifndef OPEN_LOOP_H
#define OPEN_LOOP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { OL_MAX_MODELS = 64, OL_MAX_BODIES = 4096 };

/* What became of a request: the HTTP status, or one of these. */
enum {
    OL_UNANSWERED = 0, /* nothing came until the end */
    OL_LOST = -1,      /* the connection ended before the reply did */
    OL_NO_CONNECTION = -2,
    OL_UNREADABLE = -3, /* the reply is not HTTP as we know it */
    OL_WRONG = -4       /* 200, but not the answer that the same request got alone */
};

/* ---- arrivals.c: when requests are due ---- */
typedef enum ol_pattern { OL_POISSON, OL_CONSTANT } ol_pattern;

typedef struct ol_arrivals {
    ol_pattern pattern;
    double rate;   /* mean, per second */
    double period; /* > 0: seconds of a high phase, then of a low one, … */
    double ratio;  /* rate of the high phase over that of the low one */
    uint64_t random;
    double next; /* seconds from the start */
} ol_arrivals;

/* Draws the first time. */
void ol_arrivals_start(ol_arrivals *a, uint64_t seed);
void ol_arrivals_advance(ol_arrivals *a);
uint64_t ol_random(uint64_t *state); /* 64 bits */
double ol_uniform(uint64_t *state);  /* [0, 1) */

/* ---- reply.c: an HTTP reply as its bytes come ---- */
typedef struct ol_reply {
    char *data;
    size_t size, room;
    size_t head, body; /* bytes, once the head is complete: head > 0 */
    size_t json;       /* of the body, in front of raw tensors; 0: all of it */
    int status;        /* or OL_UNREADABLE */
    bool close;        /* the server will close the connection */
} ol_reply;

void ol_reply_reset(ol_reply *r);
void ol_reply_release(ol_reply *r);
/* Makes room for more bytes behind data + size; how many. */
size_t ol_reply_reserve(ol_reply *r);
/* Looks at what is there; true when the reply is complete or unreadable. */
bool ol_reply_complete(ol_reply *r);

/* ---- request.c: models, and the bytes that are sent ---- */
typedef struct ol_body {
    char *data; /* the whole request, head and body */
    size_t size;
    char *answer; /* raw outputs of the same request alone, to compare with; NULL: not asked for */
    size_t answer_size;
} ol_body;

typedef struct ol_input {
    char *name, *file; /* of --input NAME=FILE.npy; else NULL */
    char *shape;       /* of --shape NAME=1x4; else NULL */
} ol_input;

/* One line of the mix. */
typedef struct ol_model {
    char *name;
    double rate, target_ms; /* target 0: any 200 is good */
    int64_t timeout_us;     /* parameters.timeout; 0: none */
    int64_t priority;       /* parameters.priority; 0: none */
    int64_t samples;        /* different bodies */
    ol_input *inputs;
    size_t n_inputs;
    bool answers_f32; /* all outputs are FP32: compared within a tolerance, else byte by byte */
    ol_body *bodies;
    size_t n_bodies;
    ol_arrivals arrivals;
} ol_model;

typedef struct ol_server {
    char *host; /* for the Host header */
    struct sockaddr_in address;
} ol_server;

/* "HOST:PORT", with or without "http://". Ends the program with a sentence if it is none. */
void ol_server_resolve(ol_server *server, const char *url);
/* Asks the server what the model's inputs are and makes its bodies: random values, or those of files. With `check` it
 * also sends each alone and keeps the answer. Ends the program with a sentence when that fails. */
void ol_model_prepare(const ol_server *server, ol_model *m, uint64_t *random, bool check);
/* The same answer? FP32 within |a - b| <= 1e-4 + 1e-3 |b|: a batch may round differently. */
bool ol_answer_equal(const ol_model *m, const ol_body *body, const ol_reply *reply);
/* Reads a mix: [{"model":…,"rate":…,…}] (bench/README.md). Ends the program with a sentence if it is none. */
size_t ol_mix_read(const char *path, const ol_model *defaults, ol_model models[OL_MAX_MODELS]);

/* ---- driver.c: sends and receives ---- */
typedef struct ol_request {
    int64_t due, sent, done; /* ns from the start; 0: not yet */
    uint16_t model, body;
    int16_t status; /* HTTP, or OL_… */
} ol_request;

typedef struct ol_run {
    const ol_server *server;
    ol_model *models;
    size_t n_models;
    double warmup, duration, drain; /* seconds */
    size_t connections;             /* at most */
    bool check;
    uint64_t random;
    /* what came of it */
    ol_request *requests; /* in order of `due`, those of the warm-up too */
    size_t n_requests, room;
    size_t peak_connections;
} ol_run;

/* Runs to the end; false, with a sentence, if nothing can be sent at all. */
bool ol_run_all(ol_run *run);

/* ---- report.c ---- */
typedef struct ol_output {
    double late_ms;   /* what is sent later than this counts as sent late */
    bool json;        /* one document on standard output instead of the table */
    const char *csv;  /* a line a request into this file; NULL: none */
    const char *note; /* command line, for the reader of the JSON */
} ol_output;

/* false, with a sentence, if the file cannot be written. */
bool ol_report(const ol_run *run, const ol_output *output);

/* ---- main.c ---- */
void *ol_alloc(size_t n, size_t size); /* zeroed */
void *ol_realloc(void *ptr, size_t n, size_t size);
char *ol_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints "open_loop: …" and ends the program with code 2. */
void ol_die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
