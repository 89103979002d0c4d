/* cpu_compare.h - runs a graph given as text on the CPU device (or cmp_device), with one and with two threads, and
 * compares every output with the reference kernels. Inputs are made from the declared shapes. For tests.
 *
 * Tolerance: f32 sums of up to a few hundred products in another order, and elementary functions good to 4e-7: 2e-5
 * relative to 1 + |value| leaves a factor of ten. NaN must meet NaN and an infinity the same infinity; all other types
 * must be equal. */
#ifndef PS_TEST_CPU_COMPARE_H
#define PS_TEST_CPU_COMPARE_H

#include "runtime_fixture.h"
#include "tensor/convert.h"

#include <math.h>
#include <stdio.h>

#define CMP_MAX 8

typedef enum cmp_fill {
    CMP_SMALL,   /* [-3, 3) */
    CMP_SPECIAL, /* NaN, infinities, zeros, values at the ends of exp's range, among small ones */
    CMP_FINITE,  /* as before, without NaN and infinities */
} cmp_fill;

static ps_engine *cmp_engine;
static int cmp_failures;
static cmp_fill cmp_values = CMP_SMALL;
static float cmp_tolerance = 2e-5f;
static const char *cmp_device = "cpu";
static bool cmp_scaled; /* relative to the largest |value| of the output instead of each */
static float cmp_halves; /* tolerance, at least, where values are stored as f16: inputs are such numbers; 0: they are
                          * not */
static bool cmp_ends;    /* results are stored as f16 too: they end at 65504 */
static void (*cmp_before_run)(int threads); /* or NULL */

static int cmp_setup(void **state)
{
    cmp_engine = fixture_engine(2, NULL);
    cmp_values = CMP_SMALL;
    cmp_tolerance = 2e-5f;
    cmp_scaled = false;
    cmp_failures = 0;
    return 0;
}

static int cmp_teardown(void **state)
{
    ps_engine_free(cmp_engine);
    return cmp_failures ? -1 : 0;
}

#define CMP_TEST(f) cmocka_unit_test_setup_teardown(f, cmp_setup, cmp_teardown)

typedef struct cmp_result {
    size_t n;
    ps_dtype dtype[CMP_MAX];
    ps_shape shape[CMP_MAX];
    size_t bytes[CMP_MAX];
    void *data[CMP_MAX];
} cmp_result;

static inline void cmp_release(cmp_result *r)
{
    for (size_t i = 0; i < r->n; i++) free(r->data[i]);
    memset(r, 0, sizeof *r);
}

static uint32_t cmp_next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static float cmp_within_half(float x)
{
    return isfinite(x) ? fmaxf(-65504, fminf(65504, x)) : x;
}

static float cmp_any_float(uint32_t *seed)
{
    static const float special[] = { NAN,   INFINITY, -INFINITY, 0.0f,   -0.0f,  1e-40f, 1e-20f, 20,
                                     -20,   87,       -87,       88.5f,  88.7f,  -88.5f, 100,    -100,
                                     1e10f, -1e10f,   3e38f,     -3e38f, 0.005f, -0.5f };
    float small = ((float)cmp_next(seed) / (float)(1 << 24) - 0.5f) * 6;
    if (cmp_values == CMP_SMALL) return small;
    size_t skip = cmp_values == CMP_FINITE ? 3 : 0, n = sizeof special / sizeof *special - skip;
    uint32_t pick = cmp_next(seed) % (2 * (uint32_t)n);
    return pick < n ? special[skip + pick] : small;
}

static float cmp_float(uint32_t *seed)
{
    const float x = cmp_any_float(seed);
    return cmp_halves > 0 ? ps_f16_to_f32(ps_f32_to_f16(cmp_within_half(x))) : x;
}

static inline void cmp_fill_input(void *data, ps_dtype dtype, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        float x = cmp_float(&seed);
        switch (dtype) {
        case PS_DTYPE_F32: ((float *)data)[i] = x; break;
        case PS_DTYPE_I64: ((int64_t *)data)[i] = (int64_t)(cmp_next(&seed) % 7); break;
        case PS_DTYPE_I32: ((int32_t *)data)[i] = (int32_t)(cmp_next(&seed) % 7); break;
        case PS_DTYPE_U8: ((uint8_t *)data)[i] = (uint8_t)cmp_next(&seed); break;
        case PS_DTYPE_I8: ((int8_t *)data)[i] = (int8_t)(cmp_next(&seed) & 0xff); break;
        case PS_DTYPE_BOOL: ((uint8_t *)data)[i] = (uint8_t)(cmp_next(&seed) & 1); break;
        case PS_DTYPE_F16: ((uint16_t *)data)[i] = (uint16_t)(cmp_next(&seed) % 0x4000); break;
        default: fail_msg("no fill for %s", ps_dtype_name(dtype));
        }
    }
}

/* Inputs of the declared shapes, random or zero. */
static inline void cmp_make_inputs(ps_model *m, bool zero, ps_tensor **in, void **data)
{
    assert_true(ps_model_input_count(m) <= CMP_MAX && ps_model_output_count(m) <= CMP_MAX);
    for (size_t i = 0; i < ps_model_input_count(m); i++) {
        ps_value_info info;
        int64_t count;
        size_t bytes;
        assert_int_equal(ps_model_input(m, i, &info), PS_OK);
        assert_true(ps_shape_elements(&info.shape, &count) && ps_dtype_bytes(info.dtype, count, &bytes));
        data[i] = calloc(1, bytes + 1);
        if (!zero) cmp_fill_input(data[i], info.dtype, (size_t)count, 77 + 1000 * (uint32_t)i);
        in[i] = fixture_wrap(cmp_engine, info.dtype, info.shape.rank, info.shape.dims, data[i]);
    }
}

static inline void cmp_drop_inputs(ps_model *m, ps_tensor **in, void **data)
{
    for (size_t i = 0; i < ps_model_input_count(m); i++) {
        ps_tensor_release(in[i]);
        free(data[i]);
    }
}

/* Runs twice with the same session: the second run must not depend on what the first left in the arena. */
static inline bool cmp_run_session(ps_model *m, int threads, cmp_result *ret, ps_error *err)
{
    ps_tensor *in[CMP_MAX] = { NULL }, *out[CMP_MAX] = { NULL };
    void *data[CMP_MAX] = { NULL };
    size_t n_in = ps_model_input_count(m), n_out = ps_model_output_count(m);
    ps_status status = PS_OK;
    ps_session *s = fixture_session(m, threads);
    cmp_make_inputs(m, false, in, data);
    for (int run = 0; run < 2 && status == PS_OK; run++) {
        memset(out, 0, sizeof out);
        status = ps_session_run(s, (const ps_tensor *const *)in, n_in, out, n_out, NULL, err);
    }
    memset(ret, 0, sizeof *ret);
    for (size_t i = 0; i < n_out && status == PS_OK; i++) {
        ret->dtype[i] = out[i]->dtype;
        ret->shape[i] = out[i]->shape;
        ret->bytes[i] = out[i]->bytes;
        ret->data[i] = malloc(out[i]->bytes + 1);
        memcpy(ret->data[i], ps_tensor_data(out[i]), out[i]->bytes);
        ret->n = i + 1;
    }
    cmp_drop_inputs(m, in, data);
    ps_session_free(s);
    return status == PS_OK;
}

static inline float cmp_largest(const float *x, size_t n)
{
    float m = 0;
    for (size_t i = 0; i < n; i++) m = fabsf(x[i]) > m && isfinite(x[i]) ? fabsf(x[i]) : m;
    return m;
}

static inline bool cmp_same(float want, float got, float scale)
{
    if (cmp_ends) want = cmp_within_half(want);
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got)) return want == got;
    const float tolerance = cmp_halves > cmp_tolerance ? cmp_halves : cmp_tolerance;
    return fabsf(got - want) <= tolerance * (1 + (scale > fabsf(want) ? scale : fabsf(want)));
}

static inline void cmp_report(const char *text, int threads, const char *what)
{
    if (cmp_failures++ < 10) print_error("---- %d threads: %s\n%s\n", threads, what, text);
}

static inline void cmp_outputs(const char *text, int threads, const cmp_result *want, const cmp_result *got)
{
    char what[256], a[96], b[96];
    for (size_t i = 0; i < want->n; i++) {
        if (want->dtype[i] != got->dtype[i] || !ps_shape_equal(&want->shape[i], &got->shape[i])) {
            snprintf(what, sizeof what, "output %zu is %s %s, reference %s %s", i, ps_dtype_name(got->dtype[i]),
                     ps_shape_text(&got->shape[i], a, sizeof a), ps_dtype_name(want->dtype[i]),
                     ps_shape_text(&want->shape[i], b, sizeof b));
            cmp_report(text, threads, what);
            return;
        }
        if (want->dtype[i] != PS_DTYPE_F32) {
            if (memcmp(want->data[i], got->data[i], want->bytes[i]) != 0) cmp_report(text, threads, "the bytes differ");
            continue;
        }
        const float *x = want->data[i], *y = got->data[i];
        float scale = cmp_scaled ? cmp_largest(x, want->bytes[i] / sizeof *x) : 0;
        for (size_t k = 0; k < want->bytes[i] / sizeof *x; k++) {
            if (cmp_same(x[k], y[k], scale)) continue;
            snprintf(what, sizeof what, "output %zu, element %zu: %.9g, reference %.9g", i, k, (double)y[k],
                     (double)x[k]);
            cmp_report(text, threads, what);
            return;
        }
    }
}

/* Does the name start with one of the alternatives "a|b"? */
static inline bool cmp_starts(const char *name, const char *alternatives)
{
    for (const char *at = alternatives; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        if (strncmp(name, at, strcspn(at, "|")) == 0) return true;
    }
    return false;
}

/* Is there a step whose kernel's name starts with this (or this|or that)? Without oneDNN its kernels are not asked for.
 */
static inline bool cmp_has_kernel(ps_model *m, const char *prefix)
{
    ps_step_info step;
    ps_error err = PS_ERROR_INIT;
    bool found = false;
    ps_tensor *in[CMP_MAX] = { NULL }, *out[CMP_MAX] = { NULL };
    void *data[CMP_MAX] = { NULL };
#ifndef PS_WITH_DNNL
    if (strncmp(prefix, "onednn", 6) == 0) return true;
#endif
    ps_session *s = fixture_session(m, 1);
    cmp_make_inputs(m, true, in, data);
    ps_status status = ps_session_run(s, (const ps_tensor *const *)in, ps_model_input_count(m), out,
                                      ps_model_output_count(m), NULL, &err);
    for (size_t i = 0; status == PS_OK && ps_session_step(s, i, &step) == PS_OK; i++) {
        found = found || cmp_starts(step.kernel, prefix);
    }
    cmp_drop_inputs(m, in, data);
    ps_session_free(s);
    return found;
}

static inline void cmp_text(const char *kernel, const char *text)
{
    ps_model *ref = NULL, *cpu = NULL;
    ps_error err = PS_ERROR_INIT;
    cmp_result want, got;
    if (fixture_model_status(cmp_engine, text, "ref", &ref, &err) != PS_OK) {
        cmp_report(text, 0, err.msg);
        return;
    }
    if (!cmp_run_session(ref, 1, &want, &err)) cmp_report(text, 0, err.msg);
    else if (fixture_model_status(cmp_engine, text, cmp_device, &cpu, &err) != PS_OK) cmp_report(text, 0, err.msg);
    for (int threads = 1; cpu && threads <= 2; threads++) {
        if (cmp_before_run) cmp_before_run(threads);
        if (!cmp_run_session(cpu, threads, &got, &err)) {
            cmp_report(text, threads, err.msg);
            continue;
        }
        cmp_outputs(text, threads, &want, &got);
        cmp_release(&got);
    }
    if (cpu && kernel && !cmp_has_kernel(cpu, kernel)) cmp_report(text, 1, "another kernel than expected has run");
    cmp_release(&want);
    ps_model_release(cpu);
    ps_model_release(ref);
}

/* kernel: how the name of one step's kernel must start, or NULL. The rest makes the graph's text. */
__attribute__((format(printf, 2, 3))) static inline void check(const char *kernel, const char *format, ...)
{
    char text[16384];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    assert_true(n > 0 && (size_t)n < sizeof text);
    cmp_text(kernel, text);
}

#endif
