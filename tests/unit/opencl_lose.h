/* opencl_lose.h - several OpenCL devices, one of which can be lost; and a model's file. For tests. */
#ifndef PS_TEST_OPENCL_LOSE_H
#define PS_TEST_OPENCL_LOSE_H

#include "opencl_compare.h"

#include <stdatomic.h>

/* PoCL shows so many devices as are named here, each with contexts of its own. Before the first engine. */
static inline void lose_want_devices(void) {
    setenv("POCL_DEVICES", "basic basic", 0);
}

/* For main: are there two? Says why not. */
static inline bool lose_two_there(void) {
    ps_engine *e = NULL;
    ps_device_info info = { .size = sizeof info };
    if (!opencl_there() || ps_engine_create(NULL, &e, NULL) != PS_OK) return false;
    const bool there = ps_engine_find_device(e, "opencl:1", &info, NULL) == PS_OK;
    if (!there) print_message("skipped: there is one OpenCL device only\n");
    ps_engine_free(e);
    return there;
}

static atomic_int lose_gone[2]; /* opencl:0 and opencl:1: nothing that is asked of them works */
static ocl_api lose_real;

#define LOSE_FUNCTIONS(i)                                                                                              \
    static cl_int lose_finish_##i(cl_command_queue q) {                                                                \
        return atomic_load(&lose_gone[i]) ? CL_OUT_OF_RESOURCES : lose_real.clFinish(q);                               \
    }                                                                                                                  \
    static cl_int lose_fill_##i(cl_command_queue q, cl_mem m, const void *pattern, size_t size, size_t from, size_t n, \
                                cl_uint n_wait, const cl_event *waits, cl_event *event) {                              \
        if (atomic_load(&lose_gone[i])) return CL_OUT_OF_RESOURCES;                                                    \
        return lose_real.clEnqueueFillBuffer(q, m, pattern, size, from, n, n_wait, waits, event);                      \
    }
LOSE_FUNCTIONS(0)
LOSE_FUNCTIONS(1)
#undef LOSE_FUNCTIONS

static atomic_int lose_refusals; /* so many times no context is made */

static cl_context lose_create(const cl_context_properties *p, cl_uint n, const cl_device_id *ids,
                              void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *ctx,
                              cl_int *ret) {
    if (atomic_load(&lose_refusals) <= 0) return lose_real.clCreateContext(p, n, ids, notify, ctx, ret);
    atomic_fetch_sub(&lose_refusals, 1);
    *ret = CL_DEVICE_NOT_AVAILABLE;
    return NULL;
}

/* From now on device `i` can be lost: what is opened in its place takes these functions over. */
static inline ocl_device *lose_prepare(ps_engine *engine, int i) {
    ps_device *d = NULL;
    char name[16];
    ps_snprintf(name, sizeof name, "opencl:%d", i);
    assert_int_equal(ps_engine_device(engine, name, &d, NULL), PS_OK);
    ocl_api *api = &ocl_of(d)->api;
    if (api->clCreateContext != lose_create) lose_real = *api;
    api->clFinish = i ? lose_finish_1 : lose_finish_0;
    api->clEnqueueFillBuffer = i ? lose_fill_1 : lose_fill_0;
    api->clCreateContext = lose_create;
    return ocl_of(d);
}

/* ---- a model's file, as the bytes of its protobuf ---- */

typedef struct lose_bytes {
    uint8_t data[1024];
    size_t n;
} lose_bytes;

static inline void lose_put(lose_bytes *to, int field, const void *data, size_t size) {
    to->data[to->n++] = (uint8_t)(field << 3 | 2);
    to->data[to->n++] = (uint8_t)(size % 128 | (size < 128 ? 0 : 128));
    if (size >= 128) to->data[to->n++] = (uint8_t)(size / 128);
    memcpy(to->data + to->n, data, size);
    to->n += size;
}

static inline void lose_put_text(lose_bytes *to, int field, const char *text) {
    lose_put(to, field, text, strlen(text));
}

static inline void lose_put_in(lose_bytes *to, int field, const lose_bytes *inner) {
    lose_put(to, field, inner->data, inner->n);
}

static inline void lose_put_number(lose_bytes *to, int field, int value) { /* below 128 */
    to->data[to->n++] = (uint8_t)(field << 3);
    to->data[to->n++] = (uint8_t)value;
}

/* f32 [n, 8] */
static inline void lose_put_end(lose_bytes *graph, int field, const char *name) {
    lose_bytes extent[2] = { { .n = 0 } }, shape = { .n = 0 }, tensor = { .n = 0 }, type = { .n = 0 }, end = { .n = 0 };
    lose_put_text(&extent[0], 2, "n");
    lose_put_number(&extent[1], 1, 8);
    for (int i = 0; i < 2; i++)
        lose_put_in(&shape, 1, &extent[i]);
    lose_put_number(&tensor, 1, 1);
    lose_put_in(&tensor, 2, &shape);
    lose_put_in(&type, 1, &tensor);
    lose_put_text(&end, 1, name);
    lose_put_in(&end, 2, &type);
    lose_put_in(graph, field, &end);
}

/* y = Relu(x · w), x [n, 8], w [8, 8] with `scale` in its diagonal. */
static inline void lose_write_model(const char *path, float scale) {
    lose_bytes product = { .n = 0 }, relu = { .n = 0 }, w = { .n = 0 }, graph = { .n = 0 }, opset = { .n = 0 };
    lose_bytes model = { .n = 0 };
    float data[64] = { 0 };
    for (int i = 0; i < 8; i++)
        data[9 * i] = scale;
    lose_put_text(&product, 1, "x");
    lose_put_text(&product, 1, "w");
    lose_put_text(&product, 2, "t");
    lose_put_text(&product, 4, "MatMul");
    lose_put_text(&relu, 1, "t");
    lose_put_text(&relu, 2, "y");
    lose_put_text(&relu, 4, "Relu");
    lose_put_number(&w, 1, 8);
    lose_put_number(&w, 1, 8);
    lose_put_number(&w, 2, 1);
    lose_put_text(&w, 8, "w");
    lose_put(&w, 9, data, sizeof data);
    lose_put_in(&graph, 1, &product);
    lose_put_in(&graph, 1, &relu);
    lose_put_text(&graph, 2, "g");
    lose_put_in(&graph, 5, &w);
    lose_put_end(&graph, 11, "x");
    lose_put_end(&graph, 12, "y");
    lose_put_number(&opset, 2, 17);
    lose_put_number(&model, 1, 8);
    lose_put_in(&model, 7, &graph);
    lose_put_in(&model, 8, &opset);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(model.data, 1, model.n, f), model.n);
    fclose(f);
}

#endif
