/* run_model.h - what targets share that run models: an engine with little memory, and one run on small inputs. */
#ifndef PS_FUZZ_RUN_MODEL_H
#define PS_FUZZ_RUN_MODEL_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "polestar/polestar.h"

#define MAX_BLOCK ((size_t)64 << 20) /* of one allocation: a fuzzer ends at some gigabytes */
#define MAX_ENDS 16
#define MAX_ELEMENTS 100000
#define RUN_NS INT64_C(500000000)

static inline void *limited_alloc(void *ctx, size_t size, size_t align) {
    void *p = NULL;
    if (size > MAX_BLOCK || posix_memalign(&p, align, size) != 0) return NULL;
    return p;
}

static inline void limited_free(void *ctx, void *p, size_t size) {
    free(p);
}

/* Every element is 1, or every byte is: a huge number as an integer. */
static inline void fill(ps_tensor *t, bool ones) {
    const size_t bits = ps_dtype_bits(ps_tensor_dtype(t)), bytes = ps_tensor_bytes(t);
    memset(ps_tensor_data(t), ones && bits >= 8 ? 0 : 1, bytes);
    for (size_t at = 0; ones && bits >= 8 && at < bytes; at += bits / 8)
        ((unsigned char *)ps_tensor_data(t))[at] = 1;
}

/* Open dims are 2. NULL for what cannot be made or is too large to be worth running. */
static inline ps_tensor *make_input(ps_engine *engine, const ps_model *model, size_t index, bool ones) {
    ps_value_info info = { .size = sizeof info };
    ps_tensor *t = NULL;
    int64_t elements = 1;
    if (ps_model_input(model, index, &info) != PS_OK) abort();
    if (info.shape.rank < 0) info.shape.rank = 1, info.shape.dims[0] = PS_DIM_UNKNOWN;
    for (int i = 0; i < info.shape.rank; i++) {
        if (info.shape.dims[i] < 0) info.shape.dims[i] = 2;
        if (info.shape.dims[i] > MAX_ELEMENTS || elements > MAX_ELEMENTS) return NULL;
        elements *= info.shape.dims[i];
    }
    if (ps_tensor_create(engine, info.dtype, &info.shape, &t, NULL) != PS_OK) return NULL;
    if (info.dtype != PS_DTYPE_STRING) fill(t, ones);
    return t;
}

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static inline void run_once(ps_engine *engine, ps_model *model, bool ones) {
    ps_error error = PS_ERROR_INIT;
    ps_session *session = NULL;
    ps_tensor *in[MAX_ENDS] = { NULL }, *out[MAX_ENDS] = { NULL };
    ps_run_options options = PS_RUN_OPTIONS_INIT;
    const size_t n_in = ps_model_input_count(model), n_out = ps_model_output_count(model);
    if (n_in > MAX_ENDS || n_out > MAX_ENDS) return;
    for (size_t i = 0; i < n_in; i++)
        in[i] = make_input(engine, model, i, ones);
    options.deadline_ns = now_ns() + RUN_NS;
    if (ps_session_create(model, NULL, &session, NULL) == PS_OK) {
        ps_status status = ps_session_run(session, (const ps_tensor *const *)in, n_in, out, n_out, &options, &error);
        if (status == PS_INTERNAL || (status != PS_OK && !error.msg[0])) abort();
    }
    ps_session_free(session);
    for (size_t i = 0; i < n_in; i++)
        ps_tensor_release(in[i]);
}

static inline ps_engine *limited_engine(void) {
    static const ps_allocator allocator = { limited_alloc, limited_free, NULL };
    ps_engine_options options = PS_ENGINE_OPTIONS_INIT;
    options.threads = 1;
    options.cache_dir = "";
    options.allocator = &allocator;
    ps_engine *engine = NULL;
    if (ps_engine_create(&options, &engine, NULL) != PS_OK) abort();
    return engine;
}

#endif
