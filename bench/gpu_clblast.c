/* gpu_clblast.c - the convolutions of ResNet-50 beside CLBlast's, on one device in one run.
 *
 *     build/release/tests/gpu_clblast [DEVICE] [BATCH] [ROUNDS]       defaults: gpu, 32, 7
 *
 * Each different convolution is run by polestar (without bias or activation: the step, with a wait behind it) and by
 * CLBlast in two ways: its convolution (Sconvgemm), and Sim2col with SgemmStridedBatched, without Sim2col where the
 * image is the matrix already. They take turns, ROUNDS times after one to warm up; medians count, and of CLBlast's two
 * the faster. Inputs, weights and results lie on the device. All three results are compared by their means over each
 * channel. The last lines sum up all 53 convolutions. FLOPs are two a multiply-accumulate of the direct algorithm. */
#include <clblast_c.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/opencl/opencl_int.h"
#include "base/os.h"
#include "runtime/runtime_int.h"

#define MOST_ROUNDS 100
#define MOST_LAYERS 64

typedef struct layer {
    int in, out, size, kernel, stride, count;
} layer;

/* One more of the kind, or the first. */
static void add(layer *list, size_t *n, int in, int out, int size, int kernel, int stride) {
    for (size_t i = 0; i < *n; i++) {
        layer *l = &list[i];
        if (l->in == in && l->out == out && l->size == size && l->kernel == kernel && l->stride == stride) {
            l->count++;
            return;
        }
    }
    list[(*n)++] = (layer) { in, out, size, kernel, stride, 1 };
}

/* As networks.h has the network. */
static size_t resnet50(layer *list) {
    static const int counts[] = { 3, 4, 6, 3 };
    size_t n = 0;
    int in = 64, size = 56;
    add(list, &n, 3, 64, 224, 7, 2);
    for (int stage = 0; stage < 4; stage++) {
        const int middle = 64 << stage;
        for (int i = 0; i < counts[stage]; i++, in = 4 * middle) {
            const int stride = i == 0 && stage ? 2 : 1;
            add(list, &n, in, middle, size, 1, 1);
            add(list, &n, middle, middle, size, 3, stride);
            if (i == 0) add(list, &n, in, 4 * middle, size, 1, stride);
            size /= stride;
            add(list, &n, middle, 4 * middle, size, 1, 1);
        }
    }
    return n;
}

/* What both sides compute with. */
typedef struct problem {
    layer l;
    int batch, side; /* of the result */
    size_t n_x, n_w, n_col, n_y;
    float *x, *w, *means;
} problem;

static float *numbers(size_t n, uint32_t seed, float scale) {
    float *v = malloc(n * sizeof *v);
    for (size_t i = 0; v && i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = scale * ((float)(seed >> 8) / (1 << 23) - 1);
    }
    return v;
}

static bool begin(problem *p) {
    const size_t taps = (size_t)(p->l.kernel * p->l.kernel * p->l.in), b = (size_t)p->batch;
    p->side = (p->l.size + p->l.stride - 1) / p->l.stride;
    p->n_x = b * (size_t)(p->l.in * p->l.size * p->l.size);
    p->n_w = (size_t)p->l.out * taps;
    p->n_col = b * taps * (size_t)(p->side * p->side);
    p->n_y = b * (size_t)(p->l.out * p->side * p->side);
    p->x = numbers(p->n_x, 1, 1);
    p->w = numbers(p->n_w, 2, sqrtf(3 / (float)taps));
    p->means = malloc((size_t)p->l.out * sizeof *p->means);
    return p->x && p->w && p->means;
}

static void end(problem *p) {
    free(p->x);
    free(p->w);
    free(p->means);
}

/* ---- polestar ---- */

typedef struct ours {
    ps_model *model;
    ps_session *session;
    ps_tensor *in;
} ours;

/* The weights are given to the graph before it becomes a model. */
static ps_status set_weights(ps_graph *g, const problem *p, ps_error *err) {
    for (ps_value *v = g->all_values; v; v = v->next_all) {
        if (!v->constant || !v->name || strcmp(v->name, "w") != 0) continue;
        memcpy(v->constant->data, p->w, p->n_w * sizeof *p->w);
        return PS_OK;
    }
    return PS_FAIL(err, INTERNAL, "the graph has no weights");
}

static ps_status ours_new(ps_engine *e, const char *device, const problem *p, ours *ret, ps_error *err) {
    const layer *l = &p->l;
    ps_graph *g;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    ps_session_options so = PS_SESSION_OPTIONS_INIT;
    char text[512];
    const ps_shape shape = ps_shape_make(4, (int64_t[]) { p->batch, l->in, l->size, l->size });
    ps_snprintf(text, sizeof text,
                "graph (x: f32[%d,%d,%d,%d]) -> (y) opset 17 {\n  w: f32[%d,%d,%d,%d] = random(1)\n"
                "  c = Conv(x, w) {strides=[%d,%d], pads=[%d,%d,%d,%d]}\n  y = ReduceMean(c) {axes=[0,2,3], "
                "keepdims=0}\n}\n",
                p->batch, l->in, l->size, l->size, l->out, l->in, l->kernel, l->kernel, l->stride, l->stride,
                l->kernel / 2, l->kernel / 2, l->kernel / 2, l->kernel / 2);
    o.device = device;
    so.profile = true;
    PS_TRY(ps_graph_parse(&e->alloc, text, &g, err));
    ps_status status = set_weights(g, p, err);
    if (status != PS_OK) {
        ps_graph_free(g);
        return status;
    }
    PS_TRY(ps_model_from_graph(e, g, &o, &ret->model, err));
    PS_TRY(ps_session_create(ret->model, &so, &ret->session, err));
    PS_TRY(ps_tensor_create(e, PS_DTYPE_F32, &shape, &ret->in, err));
    memcpy(ps_tensor_data(ret->in), p->x, p->n_x * sizeof *p->x);
    return PS_OK;
}

static void ours_free(ours *o) {
    ps_tensor_release(o->in);
    ps_session_free(o->session);
    ps_model_release(o->model);
}

/* Seconds of the convolution's step; its channels' means; the kernel's name. */
static ps_status ours_run(ours *o, problem *p, double *ret, char *kernel, size_t size, ps_error *err) {
    ps_tensor *out = NULL;
    ps_step_info step = { .size = sizeof step };
    ps_session_profile_reset(o->session);
    PS_TRY(ps_session_run(o->session, (const ps_tensor *const *)&o->in, 1, &out, 1, NULL, err));
    memcpy(p->means, ps_tensor_data(out), (size_t)p->l.out * sizeof *p->means); /* out stays the session's */
    for (size_t i = 0; ps_session_step(o->session, i, &step) == PS_OK; i++) {
        if (strcmp(step.op, "Conv") != 0 || !step.calls) continue;
        *ret = (double)step.total_ns / (double)step.calls / 1e9;
        ps_snprintf(kernel, size, "%s", step.kernel);
        return PS_OK;
    }
    return PS_FAIL(err, INTERNAL, "no step of the plan is a convolution");
}

/* ---- CLBlast ---- */

typedef struct theirs {
    const ocl_api *api;
    cl_context context;
    cl_command_queue queue;
    cl_mem x, w, y, col;
} theirs;

static ps_status failed(const char *what, int code, ps_error *err) {
    return PS_FAIL(err, INTERNAL, "%s gave %d", what, code);
}

static ps_status buffer(const theirs *t, size_t floats, const float *content, cl_mem *ret, ps_error *err) {
    cl_int code;
    *ret = t->api->clCreateBuffer(t->context, CL_MEM_READ_WRITE, floats * sizeof *content, NULL, &code);
    if (code == CL_SUCCESS && content)
        code =
            t->api->clEnqueueWriteBuffer(t->queue, *ret, CL_TRUE, 0, floats * sizeof *content, content, 0, NULL, NULL);
    return code == CL_SUCCESS ? PS_OK : failed("clCreateBuffer", code, err);
}

static bool is_matrix(const layer *l) {
    return l->kernel == 1 && l->stride == 1;
}

static ps_status theirs_new(ocl_device *d, const problem *p, theirs *t, ps_error *err) {
    cl_int code;
    *t = (theirs) { .api = &d->api, .context = d->context };
    t->queue = d->api.clCreateCommandQueue(d->context, d->id, 0, &code);
    if (code != CL_SUCCESS) return failed("clCreateCommandQueue", code, err);
    PS_TRY(buffer(t, p->n_x, p->x, &t->x, err));
    PS_TRY(buffer(t, p->n_w, p->w, &t->w, err));
    PS_TRY(buffer(t, p->n_y, NULL, &t->y, err));
    return is_matrix(&p->l) ? PS_OK : buffer(t, p->n_col, NULL, &t->col, err);
}

static void theirs_free(theirs *t) {
    cl_mem all[] = { t->x, t->w, t->y, t->col };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) t->api->clReleaseMemObject(all[i]);
    if (t->queue) t->api->clReleaseCommandQueue(t->queue);
}

static CLBlastStatusCode by_conv(theirs *t, const problem *p) {
    const layer *l = &p->l;
    const size_t side = (size_t)l->size, k = (size_t)l->kernel, pad = k / 2, stride = (size_t)l->stride;
    return CLBlastSconvgemm(CLBlastKernelModeCrossCorrelation, (size_t)l->in, side, side, k, k, pad, pad, stride,
                            stride, 1, 1, (size_t)l->out, (size_t)p->batch, t->x, 0, t->w, 0, t->y, 0, &t->queue, NULL);
}

static CLBlastStatusCode by_product(theirs *t, const problem *p) {
    const layer *l = &p->l;
    const size_t side = (size_t)l->size, k = (size_t)l->kernel, pad = k / 2, stride = (size_t)l->stride;
    const size_t pixels = (size_t)(p->side * p->side), depth = k * k * (size_t)l->in, batch = (size_t)p->batch;
    for (size_t i = 0; !is_matrix(l) && i < batch; i++) {
        const CLBlastStatusCode code =
            CLBlastSim2col(CLBlastKernelModeCrossCorrelation, (size_t)l->in, side, side, k, k, pad, pad, stride, stride,
                           1, 1, t->x, i * p->n_x / batch, t->col, i * p->n_col / batch, &t->queue, NULL);
        if (code != CLBlastSuccess) return code;
    }
    return CLBlastSgemmStridedBatched(CLBlastLayoutRowMajor, CLBlastTransposeNo, CLBlastTransposeNo, (size_t)l->out,
                                      pixels, depth, 1, t->w, 0, depth, 0, is_matrix(l) ? t->x : t->col, 0, pixels,
                                      depth * pixels, 0, t->y, 0, pixels, (size_t)l->out * pixels, batch, &t->queue,
                                      NULL);
}

typedef CLBlastStatusCode (*way)(theirs *t, const problem *p);

static ps_status theirs_run(theirs *t, const problem *p, way run, double *ret, ps_error *err) {
    const int64_t start = ps_clock_ns();
    const CLBlastStatusCode status = run(t, p);
    const cl_int code = t->api->clFinish(t->queue);
    *ret = (double)(ps_clock_ns() - start) / 1e9;
    if (status != CLBlastSuccess) return failed("CLBlast", (int)status, err);
    return code == CL_SUCCESS ? PS_OK : failed("clFinish", code, err);
}

/* Sums in another order differ by a few parts in a million of what is summed up. */
static ps_status same(theirs *t, const problem *p, const char *what, ps_error *err) {
    const size_t pixels = (size_t)(p->side * p->side), out = (size_t)p->l.out;
    float *y = malloc(p->n_y * sizeof *y);
    ps_status status = PS_OK;
    if (!y) return PS_FAIL_NOMEM(err, "results");
    const cl_int code = t->api->clEnqueueReadBuffer(t->queue, t->y, CL_TRUE, 0, p->n_y * sizeof *y, y, 0, NULL, NULL);
    if (code != CL_SUCCESS) status = failed("clEnqueueReadBuffer", code, err);
    for (size_t c = 0; c < out && status == PS_OK; c++) {
        double sum = 0, size = 0;
        for (size_t b = 0; b < (size_t)p->batch; b++) {
            for (size_t i = 0; i < pixels; i++) {
                const double v = (double)y[(b * out + c) * pixels + i];
                sum += v;
                size += fabs(v);
            }
        }
        const double count = (double)(pixels * (size_t)p->batch), mean = sum / count;
        if (!(fabs(mean - (double)p->means[c]) <= 1e-4 * (size / count + 1e-6)))
            status = PS_FAIL(err, INTERNAL, "%s: channel %zu has mean %g, polestar's %g", what, c, mean,
                             (double)p->means[c]);
    }
    free(y);
    return status;
}

/* ---- rounds ---- */

enum { OURS, BY_CONV, BY_PRODUCT, SIDES };

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static ps_status rounds(problem *p, ours *o, theirs *t, int n, double medians[SIDES], char *kernel, size_t size,
                        ps_error *err) {
    static double list[SIDES][MOST_ROUNDS];
    double ignored;
    PS_TRY(ours_run(o, p, &ignored, kernel, size, err)); /* warms up: plan, programs; then is compared with */
    PS_TRY(theirs_run(t, p, by_conv, &ignored, err));
    PS_TRY(same(t, p, "Sconvgemm", err));
    PS_TRY(theirs_run(t, p, by_product, &ignored, err));
    PS_TRY(same(t, p, "Sim2col and SgemmStridedBatched", err));
    for (int i = 0; i < n; i++) {
        PS_TRY(ours_run(o, p, &list[OURS][i], kernel, size, err));
        PS_TRY(theirs_run(t, p, by_conv, &list[BY_CONV][i], err));
        PS_TRY(theirs_run(t, p, by_product, &list[BY_PRODUCT][i], err));
    }
    for (int s = 0; s < SIDES; s++) {
        qsort(list[s], (size_t)n, sizeof **list, by_value);
        medians[s] = list[s][n / 2];
    }
    return PS_OK;
}

static ps_status time_layer(ps_engine *e, ocl_device *d, const layer *l, int batch, int n, double sums[SIDES],
                            ps_error *err) {
    problem p = { .l = *l, .batch = batch };
    ours o = { NULL, NULL, NULL };
    theirs t = { .api = NULL };
    double medians[SIDES];
    char kernel[64] = "";
    ps_status status = begin(&p) ? PS_OK : PS_FAIL_NOMEM(err, "a problem");
    if (status == PS_OK) status = ours_new(e, d->base.name, &p, &o, err);
    if (status == PS_OK) status = theirs_new(d, &p, &t, err);
    if (status == PS_OK) status = rounds(&p, &o, &t, n, medians, kernel, sizeof kernel, err);
    if (status == PS_OK) {
        const double best = fmin(medians[BY_CONV], medians[BY_PRODUCT]);
        sums[OURS] += l->count * medians[OURS];
        sums[BY_CONV] += l->count * best; /* the faster of each */
        sums[BY_PRODUCT] += 2.0 * l->count * (double)p.n_y * l->in * l->kernel * l->kernel;
        printf("%d x %4d to %4d at %3d, %dx%d / %d  %9.3f ms %9.3f ms %9.3f ms  %6.2f  %s\n", l->count, l->in, l->out,
               l->size, l->kernel, l->kernel, l->stride, 1e3 * medians[OURS], 1e3 * medians[BY_CONV],
               1e3 * medians[BY_PRODUCT], best / medians[OURS], kernel);
        fflush(stdout);
    }
    if (t.api) theirs_free(&t);
    ours_free(&o);
    end(&p);
    return status;
}

int main(int argc, char **argv) {
    const char *device = argc > 1 ? argv[1] : "gpu";
    const int batch = argc > 2 ? atoi(argv[2]) : 32, n = argc > 3 ? atoi(argv[3]) : 7;
    layer list[MOST_LAYERS];
    double sums[SIDES] = { 0 };
    ps_engine *e;
    ps_device *d;
    ps_error err = PS_ERROR_INIT;
    if (batch < 1 || n < 1 || n > MOST_ROUNDS) {
        fprintf(stderr, "usage: gpu_clblast [DEVICE] [BATCH] [ROUNDS]\n");
        return 2;
    }
    ps_status status = ps_engine_create(NULL, &e, &err);
    if (status == PS_OK) status = ps_engine_device(e, device, &d, &err);
    if (status == PS_OK && d->ops != &ocl_device_ops)
        status = PS_FAIL(&err, INVALID, "device '%s' is not one of OpenCL's", d->name);
    if (status == PS_OK)
        printf("%s: %s, %s; batch %d\nconvolution                        polestar    Sconvgemm  Sim2col+Sgemm  times\n",
               d->name, d->hardware, d->driver, batch);
    const size_t n_layers = resnet50(list);
    for (size_t i = 0; i < n_layers && status == PS_OK; i++)
        status = time_layer(e, ocl_of(d), &list[i], batch, n, sums, &err);
    if (status == PS_OK)
        printf("all: polestar %.3f ms (%.2f TFLOP/s), the faster of CLBlast's %.3f ms (%.2f TFLOP/s): %.2f times\n",
               1e3 * sums[OURS], sums[BY_PRODUCT] / sums[OURS] / 1e12, 1e3 * sums[BY_CONV],
               sums[BY_PRODUCT] / sums[BY_CONV] / 1e12, sums[BY_CONV] / sums[OURS]);
    else
        fprintf(stderr, "gpu_clblast: %s\n", err.msg);
    ps_engine_free(e);
    return status != PS_OK;
}
