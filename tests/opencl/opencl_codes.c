/* A quantised model by dot products of codes on the first OpenCL device, beside the same on the CPU and beside its
 * products in f32: what `polestar verify --device gpu` would say on a card, on a machine without one.
 *
 *     build/release/tests/opencl_codes MODEL [MODEL...]
 *
 * Codes between operators are the CPU's but for ties in f32, so that outputs are the CPU's or a step of some code from
 * them: the largest difference is printed, beside the largest output, and fails from 2 % of that on. Exit code 1. */
#include <math.h>
#include <stdio.h>

#include "backend/opencl/opencl_int.h"
#include "runtime/runtime_int.h"

#define MOST_VALUES 16

typedef struct outputs {
    ps_tensor *out[MOST_VALUES];   /* copies: a session's own end with it */
    size_t n, on_codes, elsewhere; /* steps */
} outputs;

static ps_status fill(ps_engine *e, const ps_model *m, size_t i, ps_tensor **ret, ps_error *err) {
    ps_value_info info = { .size = sizeof info };
    uint32_t seed = 7;
    ps_model_input(m, i, &info);
    for (int d = 0; d < info.shape.rank; d++)
        if (info.shape.dims[d] < 1) info.shape.dims[d] = 1;
    PS_TRY(ps_tensor_create(e, info.dtype, &info.shape, ret, err));
    float *data = ps_tensor_data(*ret);
    for (size_t k = 0; info.dtype == PS_DTYPE_F32 && k < ps_tensor_elements(*ret); k++) {
        seed = seed * 1664525u + 1013904223u;
        data[k] = (float)(seed >> 8) / (float)(1 << 23) - 1;
    }
    return PS_OK;
}

static ps_status copy(ps_engine *e, const ps_tensor *from, ps_tensor **ret, ps_error *err) {
    PS_TRY(ps_tensor_create(e, from->dtype, &from->shape, ret, err));
    memcpy(ps_tensor_data(*ret), from->data, from->bytes);
    return PS_OK;
}

static ps_status run(ps_engine *e, const char *path, const char *device, outputs *ret, ps_error *err) {
    ps_model_options options = PS_MODEL_OPTIONS_INIT;
    ps_session_options so = PS_SESSION_OPTIONS_INIT;
    ps_step_info step = { .size = sizeof step };
    ps_model *m = NULL;
    ps_session *s = NULL;
    ps_tensor *in[MOST_VALUES] = { NULL }, *out[MOST_VALUES] = { NULL };
    options.device = device;
    memset(ret, 0, sizeof *ret);
    ps_status status = ps_model_load(e, path, &options, &m, err);
    const size_t n_in = status == PS_OK ? ps_model_input_count(m) : 0;
    if (status == PS_OK) ret->n = ps_model_output_count(m);
    if (n_in > MOST_VALUES || ret->n > MOST_VALUES) status = PS_FAIL(err, LIMIT, "too many values");
    if (status == PS_OK) status = ps_session_create(m, &so, &s, err);
    for (size_t i = 0; status == PS_OK && i < n_in; i++)
        status = fill(e, m, i, &in[i], err);
    if (status == PS_OK) status = ps_session_run(s, (const ps_tensor *const *)in, n_in, out, ret->n, NULL, err);
    for (size_t i = 0; status == PS_OK && i < ret->n; i++)
        status = copy(e, out[i], &ret->out[i], err);
    for (size_t i = 0; status == PS_OK && ps_session_step(s, i, &step) == PS_OK; i++) {
        ret->on_codes += strncmp(step.kernel, "opencl.int8", 11) == 0;
        ret->elsewhere += step.fallback != NULL;
        if (step.fallback) printf("  elsewhere: %s (%s)\n", step.op, step.fallback);
    }
    for (size_t i = 0; i < n_in && i < MOST_VALUES; i++)
        ps_tensor_release(in[i]);
    ps_session_free(s);
    ps_model_release(m);
    return status;
}

static bool compare(const char *what, const outputs *want, const outputs *got) {
    double largest = 0, difference = 0;
    for (size_t i = 0; i < want->n; i++) {
        const float *x = ps_tensor_data(want->out[i]), *y = ps_tensor_data(got->out[i]);
        if (want->out[i]->dtype != PS_DTYPE_F32) continue;
        for (size_t k = 0; k < ps_tensor_elements(want->out[i]); k++) {
            largest = fmax(largest, fabs((double)x[k]));
            difference = fmax(difference, fabs((double)x[k] - (double)y[k]));
        }
    }
    printf("  %-22s largest difference %.6g of %.6g; %zu steps on codes, %zu elsewhere\n", what, difference, largest,
           got->on_codes, got->elsewhere);
    return difference <= 0.02 * largest;
}

static void drop(outputs *o) {
    for (size_t i = 0; i < o->n; i++)
        ps_tensor_release(o->out[i]);
}

static ps_status one(ps_engine *e, ps_device *d, const char *path, bool *ret_same, ps_error *err) {
    outputs cpu, f32, codes;
    printf("%s\n", path);
    d->caps.int8 = true;
    PS_TRY(run(e, path, "cpu", &cpu, err));
    PS_TRY(run(e, path, "gpu", &codes, err));
    *ret_same = compare("codes, to the CPU", &cpu, &codes);
    d->caps.int8 = false;
    PS_TRY(run(e, path, "gpu", &f32, err));
    compare("f32, to the CPU", &cpu, &f32); /* says how far rounding alone takes a model */
    drop(&cpu);
    drop(&f32);
    drop(&codes);
    return PS_OK;
}

int main(int argc, char **argv) {
    ps_engine *e;
    ps_device *d;
    ps_error err = PS_ERROR_INIT;
    bool all = true, same = true;
    ps_status status = ps_engine_create(NULL, &e, &err);
    if (status == PS_OK) status = ps_engine_device(e, "gpu", &d, &err);
    if (status == PS_OK && !ocl_of(d)->dot) ocl_of(d)->dot = OCL_DOT_PLAIN;
    for (int i = 1; status == PS_OK && i < argc; i++) {
        status = one(e, d, argv[i], &same, &err);
        all = all && same;
    }
    if (status != PS_OK) fprintf(stderr, "opencl_codes: %s\n", err.msg);
    ps_engine_free(e);
    return status == PS_OK && all ? 0 : 1;
}
