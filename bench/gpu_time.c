/* gpu_time.c - times on a device without any model file: one row times a matrix of weights in each storage, square
 * products, and ResNet-50 with made-up weights.
 *
 *     build/release/tests/gpu_time [DEVICE] [SECONDS] [CASES]       defaults: gpu, 2 a case, all
 *     CASES: rows, products, resnet
 *
 * FLOPs are counted as two a multiply-accumulate of the direct algorithm. A run is timed from the call to the outputs
 * in host memory, so small batches include the copies. The median is what counts; the least is printed beside it. Steps
 * of ResNet-50 that do not run on the device are counted. */
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "resnet50.h"
#include "runtime/runtime_int.h"

#define MOST_RUNS 2000

typedef struct times {
    double least, median;
    int runs;
} times;

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int fail(const ps_error *err) {
    fprintf(stderr, "gpu_time: %s\n", err->msg);
    return 1;
}

static ps_status run_for(ps_session *s, ps_tensor *const *in, size_t n_in, double seconds, times *ret, ps_error *err) {
    static double list[MOST_RUNS];
    int64_t stop = 0;
    ret->runs = 0;
    for (int i = -3; i < MOST_RUNS; i++) { /* three to warm up: plan, programs, clocks */
        ps_tensor *out = NULL;
        const int64_t start = ps_clock_ns();
        if (i == 0) stop = start + (int64_t)(seconds * 1e9);
        PS_TRY(ps_session_run(s, (const ps_tensor *const *)in, n_in, &out, 1, NULL, err));
        const int64_t end = ps_clock_ns();
        if (i >= 0) list[ret->runs++] = (double)(end - start) / 1e9;
        if (i >= 0 && end > stop) break;
    }
    qsort(list, (size_t)ret->runs, sizeof *list, by_value);
    ret->least = list[0];
    ret->median = list[ret->runs / 2];
    return PS_OK;
}

static ps_status make_inputs(ps_engine *e, const ps_model *m, ps_tensor **in, ps_error *err) {
    for (size_t i = 0; i < ps_model_input_count(m); i++) {
        ps_value_info info = { .size = sizeof info };
        ps_model_input(m, i, &info);
        PS_TRY(ps_tensor_create(e, info.dtype, &info.shape, &in[i], err));
        float *data = ps_tensor_data(in[i]);
        for (size_t k = 0; k < ps_tensor_elements(in[i]); k++)
            data[k] = (float)((k * 2654435761u >> 8) % 2001) / 1000 - 1;
    }
    return PS_OK;
}

static size_t steps_elsewhere(const ps_session *s) {
    ps_step_info step = { .size = sizeof step };
    size_t n = 0;
    for (size_t i = 0; ps_session_step(s, i, &step) == PS_OK; i++)
        n += step.fallback != NULL;
    return n;
}

static ps_status time_graph(ps_engine *e, const char *device, const char *name, const char *text, double seconds,
                            ps_error *err) {
    ps_graph *g;
    ps_model *m = NULL;
    ps_session *s = NULL;
    ps_tensor *in[4] = { NULL };
    ps_session_stats stats = { .size = sizeof stats };
    times t = { 0 };
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.device = device;
    PS_TRY(ps_graph_parse(&e->alloc, text, &g, err));
    ps_status status = ps_model_from_graph(e, g, &o, &m, err);
    if (status == PS_OK) status = ps_session_create(m, NULL, &s, err);
    if (status == PS_OK) status = make_inputs(e, m, in, err);
    if (status == PS_OK) status = run_for(s, in, ps_model_input_count(m), seconds, &t, err);
    if (status == PS_OK) {
        ps_session_statistics(s, &stats);
        const double flop = 2 * (double)stats.macs;
        printf("%-22s %9.3f ms %9.3f ms %8.1f GFLOP/s %5d runs  %zu steps elsewhere\n", name, 1e3 * t.median,
               1e3 * t.least, flop / t.median / 1e9, t.runs, steps_elsewhere(s));
        fflush(stdout);
    }
    for (int i = 0; i < 4; i++)
        ps_tensor_release(in[i]);
    ps_session_free(s);
    ps_model_release(m);
    return status;
}

/* ---- ResNet-50 ---- */

static ps_status time_resnet(ps_engine *e, const char *device, int batch, double seconds, ps_error *err) {
    char name[64];
    ps_str text;
    ps_str_init(&text, &e->alloc);
    resnet50_text(&text, batch);
    ps_snprintf(name, sizeof name, "resnet50 batch %d", batch);
    ps_status status =
        text.failed ? PS_FAIL_NOMEM(err, "a network") : time_graph(e, device, name, text.data, seconds, err);
    ps_str_release(&text);
    return status;
}

static ps_status time_product(ps_engine *e, const char *device, int n, double seconds, ps_error *err) {
    char name[64], text[256];
    ps_snprintf(name, sizeof name, "gemm %d^3", n);
    ps_snprintf(text, sizeof text,
                "graph (a: f32[%d,%d]) -> (y) opset 17 {\n  b: f32[%d,%d] = random(1)\n  c = MatMul(a, b)\n"
                "  y = ReduceMax(c) {axes=[0], keepdims=0}\n}\n", /* so that no large result is copied */
                n, n, n, n);
    return time_graph(e, device, name, text, seconds, err);
}

/* ---- one row: what the weights' bytes cost ---- */

/* CHAIN products, one behind the other, of n x n weights each: what a run costs beside them is shared. */
#define CHAIN 8

static const char *const storages[] = { "f32", "f16", "i8", "u4" };

static void put_weights(ps_str *text, const char *storage, int n, int i) {
    ps_str_printf(text, "  w%d: %s[%d,%d] = random(%d)\n", i, storage, n, n, i + 1);
    if (strcmp(storage, "f16") == 0)
        ps_str_printf(text, "  k%d = Cast(w%d) {to=1}\n", i, i);
    else if (strcmp(storage, "i8") == 0)
        ps_str_printf(text, "  s%d: f32[%d] = random(%d)\n  k%d = DequantizeLinear(w%d, s%d)\n", i, n, i + 9, i, i, i);
    else if (strcmp(storage, "u4") == 0)
        ps_str_printf(text,
                      "  q%d: f32[%d,%d] = random(%d)\n  s%d = Add(q%d, f32[]{2})\n"
                      "  k%d = DequantizeLinear(w%d, s%d) {axis=0, block_size=32}\n",
                      i, n / 32, n, i + 9, i, i, i, i, i);
}

static ps_status time_row(ps_engine *e, const char *device, const char *storage, int n, int rows, double seconds,
                          ps_error *err) {
    char name[64];
    ps_str text;
    ps_str_init(&text, &e->alloc);
    ps_str_printf(&text, "graph (v0: f32[%d,%d]) -> (y) opset 21 {\n", rows, n);
    for (int i = 0; i < CHAIN; i++) {
        put_weights(&text, storage, n, i);
        ps_str_printf(&text, "  m%d = MatMul(v%d, %c%d)\n  v%d = Tanh(m%d)\n", i, i,
                      strcmp(storage, "f32") == 0 ? 'w' : 'k', i, i + 1, i);
    }
    ps_str_printf(&text, "  y = Identity(v%d)\n}\n", CHAIN);
    ps_snprintf(name, sizeof name, "%d x [%d,%d]^2 %s", CHAIN, rows, n, storage);
    ps_status status =
        text.failed ? PS_FAIL_NOMEM(err, "a network") : time_graph(e, device, name, text.data, seconds, err);
    ps_str_release(&text);
    return status;
}

static ps_status time_rows(ps_engine *e, const char *device, double seconds, ps_error *err) {
    static const int sizes[] = { 1024, 4096, 8192 }, rows[] = { 1, 4 };
    for (size_t i = 0; i < 3; i++) {
        for (size_t r = 0; r < 2; r++) {
            for (size_t k = 0; k < 4; k++)
                PS_TRY(time_row(e, device, storages[k], sizes[i], rows[r], seconds, err));
        }
    }
    return PS_OK;
}

static bool wanted(int argc, char **argv, const char *cases) {
    return argc < 4 || strcmp(argv[3], cases) == 0;
}

int main(int argc, char **argv) {
    static const int sizes[] = { 512, 1024, 2048, 4096 }, batches[] = { 1, 8, 32 };
    const char *device = argc > 1 ? argv[1] : "gpu";
    const double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    ps_engine *e;
    ps_device *d;
    ps_error err = PS_ERROR_INIT;
    if (ps_engine_create(NULL, &e, &err) != PS_OK || ps_engine_device(e, device, &d, &err) != PS_OK) return fail(&err);
    printf("%s: %s, %s, %d units\n%-22s %12s %12s\n", d->name, d->hardware, d->driver, d->info.units, "case", "median",
           "least");
    ps_status status = wanted(argc, argv, "rows") ? time_rows(e, device, seconds, &err) : PS_OK;
    for (size_t i = 0; wanted(argc, argv, "products") && i < sizeof sizes / sizeof *sizes && status == PS_OK; i++)
        status = time_product(e, device, sizes[i], seconds, &err);
    for (size_t i = 0; wanted(argc, argv, "resnet") && i < sizeof batches / sizeof *batches && status == PS_OK; i++)
        status = time_resnet(e, device, batches[i], seconds, &err);
    ps_engine_free(e);
    return status == PS_OK ? 0 : fail(&err);
}
