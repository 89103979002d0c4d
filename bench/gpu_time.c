/* gpu_time.c - times on a device without any model file: one row times a matrix of weights in each storage, square
 * products, and ResNet-50, MobileNetV2 and BERT-base with made-up weights.
 *
 *     build/release/tests/gpu_time [DEVICE] [SECONDS] [CASES] [f16]       defaults: gpu, 2 a case, all, f32
 *     CASES: rows, sparse, products, resnet, mobilenet, bert; copies: with inputs and outputs in host memory, by the
 *     driver alone and through pinned memory, and two sessions at once; int8: square products and ResNet-50 with
 * operands of 8 bits, on codes (where the device has a dot product for them), in f32 (as they run where it has not),
 * and beside them what was never quantised; steps, int8-steps: each step of the networks f16: what lies between the
 * operators
 *
 * FLOPs are counted as two a multiply-accumulate of the direct algorithm. A run is timed from the call to the outputs
 * in host memory. The network's input lies on the device ("resident"), as far as nothing else is said: a number that
 * the host gives is added to it. The median is what counts; the least is printed beside it. Of products, the kernel's
 * own time is that of its step with a wait behind it. Steps that do not run on the device are counted. Peak: the
 * device's query (units, clock, lanes), and what a loop of multiply-adds reaches. */
#include <stdio.h>
#include <stdlib.h>

#include "backend/opencl/opencl_int.h"
#include "base/os.h"
#include "networks.h"
#include "runtime/runtime_int.h"

#define MOST_RUNS 2000

static ps_dtype activations = PS_DTYPE_F32; /* set by main alone */

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

static ps_status load(ps_engine *e, const char *device, const char *text, bool profile, ps_model **ret_model,
                      ps_session **ret, ps_error *err) {
    ps_graph *g;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    ps_session_options so = PS_SESSION_OPTIONS_INIT;
    o.device = device;
    o.activations = activations;
    so.profile = profile;
    PS_TRY(ps_graph_parse(&e->alloc, text, &g, err));
    PS_TRY(ps_model_from_graph(e, g, &o, ret_model, err));
    return ps_session_create(*ret_model, &so, ret, err);
}

/* Steps whose kernel begins so: the time of each, and of all. */
static void print_steps(const ps_session *s, const char *kernel, bool each) {
    ps_step_info step = { .size = sizeof step };
    double sum = 0, macs = 0;
    char shape[96];
    for (size_t i = 0; ps_session_step(s, i, &step) == PS_OK; i++) {
        if (strncmp(step.kernel, kernel, strlen(kernel)) != 0 || !step.calls) continue;
        const double time = (double)step.total_ns / (double)step.calls / 1e9;
        sum += time;
        macs += (double)step.macs;
        if (each)
            printf("  %-28s %-32.32s %-20s %8.1f us %8.1f GFLOP/s\n", step.kernel, step.op,
                   ps_shape_text(&step.shape, shape, sizeof shape), 1e6 * time, 2 * (double)step.macs / time / 1e9);
    }
    printf("%-22s %9.3f ms %12s %8.1f GFLOP/s\n", each ? "  together" : "  the product alone", 1e3 * sum, "",
           2 * macs / sum / 1e9);
}

/* kernel: whose steps are timed one by one; NULL: none. */
static ps_status time_steps(ps_engine *e, const char *device, const char *text, const char *kernel, bool each,
                            double seconds, ps_error *err) {
    ps_model *m = NULL;
    ps_session *s = NULL;
    ps_tensor *in[4] = { NULL };
    times t;
    ps_status status = load(e, device, text, true, &m, &s, err);
    if (status == PS_OK) status = make_inputs(e, m, in, err);
    if (status == PS_OK) status = run_for(s, in, ps_model_input_count(m), 0, &t, err);
    if (status == PS_OK) ps_session_profile_reset(s);
    if (status == PS_OK) status = run_for(s, in, ps_model_input_count(m), seconds, &t, err);
    if (status == PS_OK) print_steps(s, kernel, each);
    for (int i = 0; i < 4; i++)
        ps_tensor_release(in[i]);
    ps_session_free(s);
    ps_model_release(m);
    return status;
}

static ps_status time_graph(ps_engine *e, const char *device, const char *name, const char *text, double seconds,
                            ps_error *err) {
    ps_model *m = NULL;
    ps_session *s = NULL;
    ps_tensor *in[4] = { NULL };
    ps_session_stats stats = { .size = sizeof stats };
    times t = { 0 };
    ps_status status = load(e, device, text, false, &m, &s, err);
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

/* ---- other networks as text ---- */

/* v<n> = Clip(Conv(from), 0, 6), or without the Clip; groups of one channel if depthwise. */
static int conv6(net *t, int from, int in, int out, int kernel, int stride, bool depthwise, bool clip) {
    const int n = ++t->n, pad = kernel / 2;
    ps_str_printf(&t->text, "  r%d: f32[%d,%d,%d,%d] = random(%d)\n  w%d = Mul(r%d, f32[]{%.9g})\n", n, out,
                  depthwise ? 1 : in, kernel, kernel, n, n, n, sqrt(6.0 / ((depthwise ? 1 : in) * kernel * kernel)));
    ps_str_printf(&t->text,
                  "  b%d: f32[%d] = random(%d)\n  c%d = Conv(v%d, w%d, b%d) {strides=[%d,%d], pads=[%d,%d,%d,%d], "
                  "group=%d}\n",
                  n, out, n + 100, n, from, n, n, stride, stride, pad, pad, pad, pad, depthwise ? in : 1);
    ps_str_printf(&t->text, clip ? "  v%d = Clip(c%d, f32[]{0}, f32[]{6})\n" : "  v%d = Identity(c%d)\n", n, n);
    return n;
}

static void mobilenetv2(net *t, int batch, bool resident) {
    static const int rows[][4] = { { 1, 16, 1, 1 }, { 6, 24, 2, 2 },  { 6, 32, 3, 2 }, { 6, 64, 4, 2 },
                                   { 6, 96, 3, 1 }, { 6, 160, 3, 2 }, { 6, 320, 1, 1 } };
    char dims[64];
    ps_snprintf(dims, sizeof dims, "%d,3,224,224", batch);
    begin(t, resident, dims);
    int at = conv6(t, 0, 3, 32, 3, 2, false, true), in = 32;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        for (int i = 0; i < rows[r][2]; i++, in = rows[r][1]) {
            const int stride = i ? 1 : rows[r][3], wide = in * rows[r][0];
            int y = rows[r][0] > 1 ? conv6(t, at, in, wide, 1, 1, false, true) : at;
            y = conv6(t, y, wide, wide, 3, stride, true, true);
            y = conv6(t, y, wide, rows[r][1], 1, 1, false, false);
            if (stride == 1 && in == rows[r][1]) {
                ps_str_printf(&t->text, "  v%d = Add(v%d, v%d)\n", t->n + 1, at, y);
                y = ++t->n;
            }
            at = y;
        }
    }
    classify(t, conv6(t, at, 320, 1280, 1, 1, false, true), 1280);
}

/* v<n> = v<from> W + b over the last axis */
static int linear(net *t, int from, int in, int out) {
    const int n = ++t->n;
    ps_str_printf(&t->text,
                  "  r%d: f32[%d,%d] = random(%d)\n  w%d = Mul(r%d, f32[]{%.9g})\n  b%d: f32[%d] = random(%d)\n"
                  "  m%d = MatMul(v%d, w%d)\n  v%d = Add(m%d, b%d)\n",
                  n, in, out, n, n, n, sqrt(3.0 / in), n, out, n + 100, n, from, n, n, n, n);
    return n;
}

static int add_norm(net *t, int a, int b) {
    const int n = ++t->n;
    ps_str_printf(&t->text,
                  "  s%d = Add(v%d, v%d)\n  o%d: f32[768] = random(%d)\n"
                  "  v%d = LayerNormalization(s%d, o%d, o%d) {axis=-1, epsilon=1e-12}\n",
                  n, a, b, n, n, n, n, n, n);
    return n;
}

static int heads(net *t, int from, const char *perm) {
    const int n = ++t->n;
    ps_str_printf(&t->text,
                  "  h%d: i64[4] = {0, 0, 12, 64}\n  p%d = Reshape(v%d, h%d)\n  v%d = Transpose(p%d) {perm=[%s]}\n", n,
                  n, from, n, n, n, perm);
    return n;
}

/* The layers behind the embedding: 12 of 768, 12 heads. */
static void bert_base(net *t, int batch, int sequence) {
    char dims[64];
    ps_snprintf(dims, sizeof dims, "%d,%d,768", batch, sequence);
    begin(t, true, dims);
    int x = 0;
    for (int layer = 0; layer < 12; layer++) {
        const int q = heads(t, linear(t, x, 768, 768), "0,2,1,3"), k = heads(t, linear(t, x, 768, 768), "0,2,3,1");
        const int v = heads(t, linear(t, x, 768, 768), "0,2,1,3"), n = ++t->n;
        ps_str_printf(&t->text,
                      "  a%d = MatMul(v%d, v%d)\n  d%d = Div(a%d, f32[]{8})\n  e%d = Softmax(d%d) {axis=-1}\n"
                      "  f%d = MatMul(e%d, v%d)\n  j%d = Transpose(f%d) {perm=[0,2,1,3]}\n"
                      "  h%d: i64[3] = {0, 0, 768}\n  v%d = Reshape(j%d, h%d)\n",
                      n, q, k, n, n, n, n, n, n, v, n, n, n, n, n, n);
        const int mixed = add_norm(t, linear(t, n, 768, 768), x), wide = linear(t, mixed, 768, 3072), g = ++t->n;
        ps_str_printf(&t->text, "  v%d = Gelu(v%d)\n", g, wide);
        x = add_norm(t, linear(t, g, 3072, 768), mixed);
    }
    ps_str_printf(&t->text, "  y = ReduceMean(v%d, i64[1]{1}) {keepdims=0}\n}\n", x);
}

/* ---- the same with operands of 8 bits: QuantizeLinear and DequantizeLinear around all that is read ---- */

/* d<name>: as scale (codes - 128) */
static void coded(ps_str *text, const char *name, const char *scale) {
    ps_str_printf(text, "  q%s = QuantizeLinear(%s, %s, z)\n  d%s = DequantizeLinear(q%s, %s, z)\n", name, name, scale,
                  name, name, scale);
}

/* v<n> = Relu(Conv(v<from>)), or without the Relu, from codes to codes. */
static int conv8(net *t, int from, int in, int out, int kernel, int stride, bool relu) {
    const int n = ++t->n, pad = kernel / 2;
    char name[16];
    ps_str_printf(&t->text,
                  "  w%d: i8[%d,%d,%d,%d] = random(%d)\n  t%d: f32 = {%.9g}\n  k%d = DequantizeLinear(w%d, t%d)\n"
                  "  b%d: f32[%d] = random(%d)\n",
                  n, out, in, kernel, kernel, n, n, sqrt(6.0 / (in * kernel * kernel)) / 128, n, n, n, n, out, n + 100);
    ps_str_printf(&t->text, "  c%d = Conv(dv%d, k%d, b%d) {strides=[%d,%d], pads=[%d,%d,%d,%d]}\n", n, from, n, n,
                  stride, stride, pad, pad, pad, pad);
    ps_str_printf(&t->text, relu ? "  v%d = Relu(c%d)\n" : "  v%d = Identity(c%d)\n", n, n);
    ps_snprintf(name, sizeof name, "v%d", n);
    coded(&t->text, name, "sc");
    return n;
}

static int bottleneck8(net *t, int x, int in, int mid, int stride) {
    char name[16];
    int y = conv8(t, x, in, mid, 1, 1, true);
    y = conv8(t, y, mid, mid, 3, stride, true);
    y = conv8(t, y, mid, 4 * mid, 1, 1, false);
    const int shortcut = stride > 1 || in != 4 * mid ? conv8(t, x, in, 4 * mid, 1, stride, false) : x, n = ++t->n;
    ps_str_printf(&t->text, "  a%d = Add(dv%d, dv%d)\n  v%d = Relu(a%d)\n", n, y, shortcut, n, n);
    ps_snprintf(name, sizeof name, "v%d", n);
    coded(&t->text, name, "sc");
    return n;
}

static void resnet50_int8(net *t, int batch) {
    static const int stages[][3] = { { 64, 3, 1 }, { 128, 4, 2 }, { 256, 6, 2 }, { 512, 3, 2 } };
    char dims[64];
    ps_snprintf(dims, sizeof dims, "%d,3,224,224", batch);
    begin(t, true, dims);
    ps_str_printf(&t->text, "  sc: f32 = {0.04}\n  z: u8 = {128}\n");
    coded(&t->text, "v0", "sc");
    int at = conv8(t, 0, 3, 64, 7, 2, true), in = 64;
    const int pool = ++t->n;
    ps_str_printf(&t->text, "  v%d = MaxPool(dv%d) {kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]}\n", pool, at);
    ps_str_printf(&t->text, "  qv%d = QuantizeLinear(v%d, sc, z)\n  dv%d = DequantizeLinear(qv%d, sc, z)\n", pool, pool,
                  pool, pool);
    at = pool;
    for (size_t i = 0; i < 4; i++) {
        for (int k = 0; k < stages[i][1]; k++, in = 4 * stages[i][0])
            at = bottleneck8(t, at, in, stages[i][0], k ? 1 : stages[i][2]);
    }
    ps_str_printf(&t->text, "  g = GlobalAveragePool(dv%d)\n", at);
    coded(&t->text, "g", "sc");
    ps_str_printf(&t->text, "  f = Flatten(dg)\n  w: i8[2048,1000] = random(1)\n  u: f32 = {0.0003}\n"
                            "  k = DequantizeLinear(w, u)\n  y = MatMul(f, k)\n}\n");
}

/* ---- cases ---- */

typedef enum network { RESNET50, MOBILENETV2, BERT_BASE } network;

static void write_network(net *t, network which, int batch, bool resident) {
    if (which == RESNET50) resnet50(t, batch, resident);
    if (which == MOBILENETV2) mobilenetv2(t, batch, resident);
    if (which == BERT_BASE) bert_base(t, batch, 128);
}

/* Releases the text. */
static ps_status time_net(ps_engine *e, const char *device, const char *name, net *t, bool steps, double seconds,
                          ps_error *err) {
    ps_status status = t->text.failed ? PS_FAIL_NOMEM(err, "a network") : PS_OK;
    if (status == PS_OK && steps) printf("%s, step by step\n", name);
    if (status == PS_OK)
        status = steps ? time_steps(e, device, t->text.data, "", true, seconds, err)
                       : time_graph(e, device, name, t->text.data, seconds, err);
    ps_str_release(&t->text);
    return status;
}

static ps_status time_network(ps_engine *e, const char *device, network which, int batch, bool resident, bool steps,
                              double seconds, ps_error *err) {
    static const char *const names[] = { "resnet50", "mobilenetv2", "bert-base 128" };
    char name[64];
    net t = { .n = 0 };
    ps_str_init(&t.text, &e->alloc);
    write_network(&t, which, batch, resident);
    ps_snprintf(name, sizeof name, "%s b%d%s", names[which], batch, resident ? "" : " + copy");
    return time_net(e, device, name, &t, steps, seconds, err);
}

static ps_status time_networks(ps_engine *e, const char *device, network which, double seconds, ps_error *err) {
    static const int batches[] = { 1, 8, 32 };
    for (size_t i = 0; i < (which == BERT_BASE ? 2 : 3); i++)
        PS_TRY(time_network(e, device, which, batches[i], true, false, seconds, err));
    return which == RESNET50 ? time_network(e, device, which, 32, false, false, seconds, err) : PS_OK;
}

static ps_status time_product(ps_engine *e, const char *device, int n, double seconds, ps_error *err) {
    char name[64], text[320];
    ps_snprintf(name, sizeof name, "gemm %d^3", n);
    ps_snprintf(text, sizeof text,
                "graph (s: f32[1]) -> (y) opset 17 {\n  i: f32[%d,%d] = random(2)\n  a = Add(i, s)\n"
                "  b: f32[%d,%d] = random(1)\n  c = MatMul(a, b)\n"
                "  y = ReduceMax(c) {axes=[0], keepdims=0}\n}\n", /* so that no large result is copied */
                n, n, n, n);
    PS_TRY(time_graph(e, device, name, text, seconds, err));
    return time_steps(e, device, text, "opencl.matmul", false, seconds, err);
}

/* ---- operands of 8 bits ---- */

static ps_status time_product_int8(ps_engine *e, const char *device, int n, bool codes, double seconds, ps_error *err) {
    char name[64], text[640];
    ps_snprintf(name, sizeof name, "gemm %d^3 %s", n, codes ? "int8" : "int8 as f32");
    ps_snprintf(text, sizeof text,
                "graph (s: f32[1]) -> (y) opset 17 {\n  i: f32[%d,%d] = random(2)\n  v = Add(i, s)\n  t: f32 = {0.01}\n"
                "  z: u8 = {128}\n  qv = QuantizeLinear(v, t, z)\n  dv = DequantizeLinear(qv, t, z)\n"
                "  w: i8[%d,%d] = random(1)\n  k = DequantizeLinear(w, t)\n  c = MatMul(dv, k)\n"
                "  y = ReduceMax(c) {axes=[0], keepdims=0}\n}\n",
                n, n, n, n);
    PS_TRY(time_graph(e, device, name, text, seconds, err));
    return time_steps(e, device, text, codes ? "opencl.int8 matmul" : "opencl.matmul", false, seconds, err);
}

static ps_status time_resnet_int8(ps_engine *e, const char *device, int batch, bool codes, bool steps, double seconds,
                                  ps_error *err) {
    char name[64];
    net t = { .n = 0 };
    ps_str_init(&t.text, &e->alloc);
    resnet50_int8(&t, batch);
    ps_snprintf(name, sizeof name, "resnet50 b%d %s", batch, codes ? "int8" : "int8 as f32");
    return time_net(e, device, name, &t, steps, seconds, err);
}

/* By codes, where the device has a dot product, and in f32 as it would run where it has none. */
static ps_status time_int8(ps_engine *e, const char *device, bool steps, double seconds, ps_error *err) {
    static const int sizes[] = { 512, 1024, 2048, 4096 }, batches[] = { 1, 8, 32 };
    ps_device *d;
    PS_TRY(ps_engine_device(e, device, &d, err));
    const bool has = d->caps.int8;
    if (!has) printf("(no dot product of codes: in f32 alone)\n");
    if (steps) {
        PS_TRY(time_resnet_int8(e, device, 32, has, true, seconds, err));
        return time_resnet_int8(e, device, 1, has, true, seconds, err);
    }
    for (int codes = has; codes >= 0; codes--) { /* that caps say so decides when a model is loaded */
        d->caps.int8 = codes;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            PS_TRY(time_product_int8(e, device, sizes[i], codes, seconds, err));
        for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
            PS_TRY(time_resnet_int8(e, device, batches[i], codes, false, seconds, err));
    }
    d->caps.int8 = has;
    PS_TRY(time_product(e, device, 4096, seconds, err));
    return time_networks(e, device, RESNET50, seconds, err);
}

static ps_status print_peak(ps_device *d, ps_error *err) {
    double flops, bytes;
    if (d->ops != &ocl_device_ops) return PS_OK;
    PS_TRY(ocl_measure(ocl_of(d), &flops, &bytes, err));
    const double query = ocl_flops_by_query(ocl_of(d));
    printf("peak: %.1f TFLOP/s by query, %.1f by a loop of multiply-adds; copies at %.0f GB/s\n", query / 1e12,
           flops / 1e12, bytes / 1e9);
    return PS_OK;
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

/* ---- weights of which so many per cent of the blocks of 16 x 64 hold something ---- */

static ps_status time_share(ps_engine *e, const char *device, int n, int rows, int percent, double seconds,
                            ps_error *err) {
    char name[64];
    ps_str text;
    ps_str_init(&text, &e->alloc);
    ps_str_printf(&text, "graph (v0: f32[%d,%d]) -> (y) opset 21 {\n  d: i64[4] = {%d, 16, %d, 64}\n", rows, n, n / 16,
                  n / 64);
    for (int i = 0; i < CHAIN; i++) {
        ps_str_printf(&text,
                      "  r%d: f32[%d,%d] = random(%d)\n  b%d = Reshape(r%d, d)\n  q%d: f32[%d,1,%d,1] = random(%d)\n"
                      "  g%d = Greater(q%d, f32[]{%g})\n  c%d = Cast(g%d) {to=1}\n  p%d = Mul(b%d, c%d)\n",
                      i, n, n, i + 1, i, i, i, n / 16, n / 64, i + 20, i, i, 1 - percent / 50.0, i, i, i, i, i);
        ps_str_printf(&text, "  w%d = Reshape(p%d, i64[2]{%d, %d})\n  m%d = MatMul(v%d, w%d)\n  v%d = Tanh(m%d)\n", i,
                      i, n, n, i, i, i, i + 1, i);
    }
    ps_str_printf(&text, "  y = ReduceMax(v%d, i64[1]{0}) {keepdims=0}\n}\n", CHAIN);
    ps_snprintf(name, sizeof name, "%d x [%d,%d]^2 %d%%", CHAIN, rows, n, percent);
    ps_status status =
        text.failed ? PS_FAIL_NOMEM(err, "a network") : time_graph(e, device, name, text.data, seconds, err);
    ps_str_release(&text);
    return status;
}

static ps_status time_sparse(ps_engine *e, const char *device, double seconds, ps_error *err) {
    static const int rows[] = { 1, 4, 16, 64, 2048 }, percents[] = { 100, 39, 20, 10, 5 };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t i = 0; i < sizeof percents / sizeof *percents; i++)
            PS_TRY(time_share(e, device, 4096, rows[r], percents[i], seconds, err));
    return PS_OK;
}

/* ---- copies ---- */

typedef struct runner {
    ps_session *session;
    ps_tensor *const *in;
    size_t n_in;
    int64_t stop;
    int runs;
    ps_status status;
    ps_error err;
} runner;

static void run_until(void *ctx) {
    runner *r = ctx;
    while (r->status == PS_OK && ps_clock_ns() < r->stop) {
        ps_tensor *out = NULL;
        r->status = ps_session_run(r->session, (const ps_tensor *const *)r->in, r->n_in, &out, 1, NULL, &r->err);
        r->runs++;
    }
}

/* Runs a second of n sessions together, a thread each. */
static ps_status run_together(ps_model *m, ps_tensor *const *in, int n, double seconds, double *ret, ps_error *err) {
    runner list[2] = { 0 };
    ps_thread threads[2];
    ps_status status = PS_OK;
    int started = 0, runs = 0;
    for (int i = 0; i < n && status == PS_OK; i++) {
        list[i] = (runner) { .in = in, .n_in = ps_model_input_count(m), .err = PS_ERROR_INIT };
        status = ps_session_create(m, NULL, &list[i].session, err);
        for (int warm = 0; warm < 3 && status == PS_OK; warm++) {
            ps_tensor *out = NULL;
            status = ps_session_run(list[i].session, (const ps_tensor *const *)in, list[i].n_in, &out, 1, NULL, err);
        }
    }
    const int64_t begin = ps_clock_ns();
    for (int i = 0; i < n && status == PS_OK; i++, started++) {
        list[i].stop = begin + (int64_t)(seconds * 1e9);
        if (!ps_thread_start(&threads[i], "runs", run_until, &list[i])) status = PS_FAIL_NOMEM(err, "a thread");
    }
    for (int i = 0; i < started; i++) {
        ps_thread_join(threads[i]);
        runs += list[i].runs;
        if (list[i].status != PS_OK) status = PS_FAIL(err, INTERNAL, "%s", list[i].err.msg);
    }
    *ret = runs / ((double)(ps_clock_ns() - begin) / 1e9);
    for (int i = 0; i < n; i++)
        ps_session_free(list[i].session);
    return status;
}

static ps_status time_together(ps_engine *e, const char *device, const char *name, const char *text, double seconds,
                               ps_error *err) {
    ps_model *m = NULL;
    ps_session *s = NULL;
    ps_tensor *in[4] = { NULL };
    times t = { 0 };
    double one = 0, two = 0;
    ps_status status = load(e, device, text, false, &m, &s, err);
    if (status == PS_OK) status = make_inputs(e, m, in, err);
    if (status == PS_OK) status = run_for(s, in, ps_model_input_count(m), seconds, &t, err);
    if (status == PS_OK) status = run_together(m, in, 1, seconds, &one, err);
    if (status == PS_OK) status = run_together(m, in, 2, seconds, &two, err);
    if (status == PS_OK)
        printf("%-28s %9.3f ms %9.3f ms; runs/s: one session %.1f, two %.1f\n", name, 1e3 * t.median, 1e3 * t.least,
               one, two);
    for (int i = 0; i < 4; i++)
        ps_tensor_release(in[i]);
    ps_session_free(s);
    ps_model_release(m);
    return status;
}

/* In and out of 64 MB each, and ResNet-50 with images of the host. */
static ps_status time_copies(ps_engine *e, ps_device *d, const char *device, double seconds, ps_error *err) {
    static const char both[] = "graph (x: f32[4096,4096]) -> (y) opset 17 {\n  y = Add(x, f32[]{1})\n}";
    if (d->ops != &ocl_device_ops) return PS_OK;
    for (int way = -1; way <= 1; way += 2) {
        const char *by = way > 0 ? "pinned" : "driver";
        char name[64];
        ocl_of(d)->test_staging = way;
        ps_snprintf(name, sizeof name, "64 MB in and out, %s", by);
        PS_TRY(time_together(e, device, name, both, seconds, err));
        for (int batch = 1; batch <= 32; batch *= 32) {
            net t = { .n = 0 };
            ps_str_init(&t.text, &e->alloc);
            write_network(&t, RESNET50, batch, false);
            ps_snprintf(name, sizeof name, "resnet50 b%d + copy, %s", batch, by);
            ps_status status = t.text.failed ? PS_FAIL_NOMEM(err, "a network")
                                             : time_together(e, device, name, t.text.data, seconds, err);
            ps_str_release(&t.text);
            if (status != PS_OK) return status;
        }
    }
    ocl_of(d)->test_staging = 0;
    return PS_OK;
}

static bool wanted(int argc, char **argv, const char *cases) {
    return argc < 4 || strcmp(argv[3], cases) == 0;
}

static ps_status time_all(ps_engine *e, ps_device *d, const char *device, int argc, char **argv, double seconds,
                          ps_error *err) {
    static const int sizes[] = { 512, 1024, 2048, 4096 };
    static const char *const nets[] = { "resnet", "mobilenet", "bert" };
    if (wanted(argc, argv, "rows")) PS_TRY(time_rows(e, device, seconds, err));
    if (argc >= 4 && wanted(argc, argv, "copies")) PS_TRY(time_copies(e, d, device, seconds, err));
    if (wanted(argc, argv, "sparse")) PS_TRY(time_sparse(e, device, seconds, err));
    for (size_t i = 0; wanted(argc, argv, "products") && i < sizeof sizes / sizeof *sizes; i++)
        PS_TRY(time_product(e, device, sizes[i], seconds, err));
    for (int i = 0; i < 3; i++)
        if (wanted(argc, argv, nets[i])) PS_TRY(time_networks(e, device, (network)i, seconds, err));
    if (wanted(argc, argv, "int8")) PS_TRY(time_int8(e, device, false, seconds, err));
    if (argc >= 4 && strcmp(argv[3], "int8-steps") == 0) PS_TRY(time_int8(e, device, true, seconds, err));
    for (int i = 0; i < 3 && argc >= 4 && strcmp(argv[3], "steps") == 0; i++) {
        PS_TRY(time_network(e, device, (network)i, i == BERT_BASE ? 8 : 32, true, true, seconds, err));
        PS_TRY(time_network(e, device, (network)i, 1, true, true, seconds, err));
    }
    return PS_OK;
}

int main(int argc, char **argv) {
    const char *device = argc > 1 ? argv[1] : "gpu";
    const double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    ps_engine *e;
    ps_device *d;
    ps_error err = PS_ERROR_INIT;
    if (argc > 4 && strcmp(argv[4], "f16") == 0) activations = PS_DTYPE_F16;
    if (ps_engine_create(NULL, &e, &err) != PS_OK || ps_engine_device(e, device, &d, &err) != PS_OK) return fail(&err);
    printf("%s: %s, %s, %d units\n", d->name, d->hardware, d->driver, d->info.units);
    ps_status status = print_peak(d, &err);
    printf("%-22s %12s %12s\n", "case", "median", "least");
    if (status == PS_OK) status = time_all(e, d, device, argc, argv, seconds, &err);
    ps_engine_free(e);
    return status == PS_OK ? 0 : fail(&err);
}
