/* runtime_fixture.h - engine, model from graph text, session: what the runtime's tests start from. */
#ifndef PS_TEST_RUNTIME_FIXTURE_H
#define PS_TEST_RUNTIME_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/runtime_int.h"

/* Without a cache on disk: tests find what they make themselves, and PoCL compiles a kernel a second time when it is
 * asked for a program's binary. */
static inline ps_engine *fixture_engine(int threads, const ps_allocator *allocator)
{
    ps_engine *e = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    o.threads = threads;
    o.cache_dir = "";
    o.allocator = allocator;
    if (ps_engine_create(&o, &e, &err) != PS_OK) fail_msg("%s", err.msg);
    return e;
}

static inline ps_status fixture_model_status(ps_engine *e, const char *text, const char *device, ps_model **ret,
                                             ps_error *err) {
    ps_graph *g;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.device = device;
    PS_TRY(ps_graph_parse(&e->alloc, text, &g, err));
    return ps_model_from_graph(e, g, &o, ret, err);
}

static inline ps_model *fixture_model(ps_engine *e, const char *text, const char *device)
{
    ps_model *m = NULL;
    ps_error err = PS_ERROR_INIT;
    if (fixture_model_status(e, text, device, &m, &err) != PS_OK) fail_msg("%s", err.msg);
    return m;
}

static inline ps_session *fixture_session(ps_model *m, int threads)
{
    ps_session *s = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_session_options o = PS_SESSION_OPTIONS_INIT;
    o.threads = threads;
    if (ps_session_create(m, &o, &s, &err) != PS_OK) fail_msg("%s", err.msg);
    return s;
}

static inline ps_tensor *fixture_wrap(ps_engine *e, ps_dtype dtype, int rank, const int64_t *dims, const void *data)
{
    ps_tensor *t = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_shape shape = ps_shape_make(rank, dims);
    if (ps_tensor_wrap(e, dtype, &shape, NULL, (void *)data, &t, &err) != PS_OK) fail_msg("%s", err.msg);
    return t;
}

#define DIMS(...) ((const int64_t[]){ __VA_ARGS__ })

#endif
