/* One model and its plans used by eight sessions on eight threads, two threads in each, every output compared: bit by
 * bit with what one session alone makes of the same input, and the file's own input with ONNX Runtime's output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>

#include "model_files.h"

enum { WORKERS = 8, THREADS = 2, RUNS = 6 };

typedef struct worker {
    ps_model *model;
    model_tensors in;
    void *want[MODEL_MAX_ENDS]; /* bytes of each output */
    ps_engine *engine;
    const char *problem; /* NULL: none */
} worker;

/* Worker 0 gets the file's input, the others a scaled copy each, so that outputs that are mixed up differ. */
static void scale(model_tensors *in, int k)
{
    for (size_t i = 0; i < in->n; i++) {
        if (ps_tensor_dtype(in->t[i]) != PS_DTYPE_F32) continue;
        float *x = ps_tensor_data(in->t[i]);
        for (size_t j = 0; j < ps_tensor_elements(in->t[i]); j++) x[j] *= 1 - (float)k / 32;
    }
}

static bool run(ps_session *s, const worker *w, ps_tensor **out)
{
    memset(out, 0, MODEL_MAX_ENDS * sizeof *out);
    return ps_session_run(s, (const ps_tensor *const *)w->in.t, w->in.n, out, ps_model_output_count(w->model), NULL,
                          NULL) == PS_OK;
}

static const char *work_session(worker *w, ps_session *s)
{
    ps_tensor *out[MODEL_MAX_ENDS];
    for (int r = 0; r < RUNS; r++) {
        if (!run(s, w, out)) return "a run failed";
        for (size_t i = 0; i < ps_model_output_count(w->model); i++) {
            if (memcmp(ps_tensor_data(out[i]), w->want[i], ps_tensor_bytes(out[i])) != 0) return "an output differs";
        }
    }
    return NULL;
}

static void *work(void *arg)
{
    worker *w = arg;
    ps_session *s = NULL;
    ps_session_options o = PS_SESSION_OPTIONS_INIT;
    o.threads = THREADS;
    w->problem = "no session";
    if (ps_session_create(w->model, &o, &s, NULL) == PS_OK) w->problem = work_session(w, s);
    ps_session_free(s);
    return NULL;
}

/* What one session alone makes of every worker's input. */
static void prepare(worker *w, ps_engine *e, ps_model *m, const char *folder)
{
    ps_error err = PS_ERROR_INIT;
    ps_session *s = NULL;
    ps_session_options o = PS_SESSION_OPTIONS_INIT;
    o.threads = THREADS;
    assert_int_equal(ps_session_create(m, &o, &s, &err), PS_OK);
    for (int k = 0; k < WORKERS; k++) {
        ps_tensor *out[MODEL_MAX_ENDS];
        w[k] = (worker){ .model = m, .engine = e };
        assert_int_equal(model_tensors_load(e, folder, 0, "input", &w[k].in, &err), PS_OK);
        scale(&w[k].in, k);
        assert_true(run(s, &w[k], out));
        for (size_t i = 0; i < ps_model_output_count(m); i++) {
            w[k].want[i] = malloc(ps_tensor_bytes(out[i]));
            assert_non_null(w[k].want[i]);
            memcpy(w[k].want[i], ps_tensor_data(out[i]), ps_tensor_bytes(out[i]));
        }
    }
    ps_session_free(s);
}

/* The tolerance of `polestar verify`: ONNX Runtime's own spread over its optimisation levels stays well below. */
static void compare_with_file(const worker *w, ps_engine *e, const char *folder)
{
    model_tensors want = { .n = 0 };
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(model_tensors_load(e, folder, 0, "output", &want, &err), PS_OK);
    assert_int_equal(want.n, ps_model_output_count(w->model));
    for (size_t i = 0; i < want.n; i++) {
        const float *a = w->want[i], *b = ps_tensor_data(want.t[i]);
        if (ps_tensor_dtype(want.t[i]) != PS_DTYPE_F32) continue;
        for (size_t j = 0; j < ps_tensor_elements(want.t[i]); j++) {
            if (!(fabsf(a[j] - b[j]) <= 1e-4f + 1e-3f * fabsf(b[j])))
                fail_msg("output %zu[%zu]: %g, want %g", i, j, a[j], b[j]);
        }
    }
    model_tensors_release(&want);
}

static void check_model(const char *name)
{
    char folder[1024];
    if (!model_folder(name, folder, sizeof folder)) {
        print_message("%s is not in %s\n", name, model_root());
        skip();
    }
    ps_engine *e = NULL;
    ps_model *m = NULL;
    ps_error err = PS_ERROR_INIT;
    pthread_t threads[WORKERS];
    worker w[WORKERS];
    assert_int_equal(ps_engine_create(NULL, &e, &err), PS_OK);
    if (model_load(e, folder, "cpu", THREADS, &m, &err) != PS_OK) fail_msg("%s", err.msg);
    prepare(w, e, m, folder);
    for (int k = 0; k < WORKERS; k++) assert_int_equal(pthread_create(&threads[k], NULL, work, &w[k]), 0);
    for (int k = 0; k < WORKERS; k++) pthread_join(threads[k], NULL);
    for (int k = 0; k < WORKERS; k++) {
        if (w[k].problem) fail_msg("%s, worker %d: %s", name, k, w[k].problem);
    }
    compare_with_file(&w[0], e, folder);
    for (int k = 0; k < WORKERS; k++) {
        model_tensors_release(&w[k].in);
        for (size_t i = 0; i < ps_model_output_count(m); i++) free(w[k].want[i]);
    }
    ps_model_release(m);
    ps_engine_free(e);
}

static void test_segmentation(void **state)
{
    check_model("med-ct-seg-synth");
}

static void test_volumes(void **state)
{
    check_model("med-mri-cls3d-synth");
}

static void test_efficientnet(void **state)
{
    check_model("efficientnet-lite0");
}

static void test_language(void **state)
{
    check_model("minilm-l6-v2-emb16");
}

static void test_voice(void **state)
{
    check_model("silero-vad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segmentation), cmocka_unit_test(test_volumes), cmocka_unit_test(test_efficientnet),
        cmocka_unit_test(test_language),     cmocka_unit_test(test_voice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
