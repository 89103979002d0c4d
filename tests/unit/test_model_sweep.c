/* Real models under failing allocations: engine, load, session and two runs, with the n-th allocation failing. Each
 * time the status is PS_NO_MEMORY with a sentence, and every block is given back.
 *
 *     test_model_sweep                     tests/models, $PS_SWEEP_POINTS (default 200) points each
 *     test_model_sweep POINTS FOLDER...    model folders; all n if there are at most POINTS, else POINTS spread evenly
 *
 * Sanitizers make this slow: the long form is a test of its own (docs/testing.md). */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model_files.h"
#include "test_alloc_fail.h"

static ps_status life_with_model(ps_engine *e, ps_model *m, const model_tensors *in, ps_error *err)
{
    ps_session *s = NULL;
    ps_status status = ps_session_create(m, NULL, &s, err);
    for (int i = 0; i < 2 && status == PS_OK; i++) {
        ps_tensor *out[MODEL_MAX_ENDS] = { NULL };
        status = ps_session_run(s, (const ps_tensor *const *)in->t, in->n, out, ps_model_output_count(m), NULL, err);
    }
    ps_session_free(s);
    return status;
}

static ps_status life(const ps_allocator *allocator, const char *folder, ps_error *err)
{
    ps_engine *e = NULL;
    ps_model *m = NULL;
    model_tensors in = { .n = 0 };
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    o.allocator = allocator;
    o.threads = 1;
    o.cache_dir = "";
    ps_status status = ps_engine_create(&o, &e, err);
    if (status == PS_OK) status = model_load(e, folder, "cpu", 1, &m, err);
    if (status == PS_OK) status = model_tensors_load(e, folder, 0, "input", &in, err);
    if (status == PS_OK) status = life_with_model(e, m, &in, err);
    model_tensors_release(&in);
    ps_model_release(m);
    ps_engine_free(e);
    return status;
}

/* A life with the nth allocation failing; false, with a line on stderr, if it did not end well. An nth that is never
 * reached counts the allocations. */
static bool point(const char *folder, long nth, long *ret_calls)
{
    ps_test_alloc t;
    ps_error err = PS_ERROR_INIT;
    ps_test_alloc_init(&t, nth);
    ps_status status = life(&t.allocator, folder, &err);
    bool failed = atomic_load(&t.failed);
    *ret_calls = nth - atomic_load(&t.left);
    if (atomic_load(&t.live) != 0) {
        fprintf(stderr, "%s: allocation %ld failing: %ld blocks leaked\n", folder, nth, atomic_load(&t.live));
        return false;
    }
    if (status != (failed ? PS_NO_MEMORY : PS_OK) || (failed && !*err.msg)) {
        fprintf(stderr, "%s: allocation %ld failing: %s: %s\n", folder, nth, ps_status_name(status), err.msg);
        return false;
    }
    return true;
}

/* Number of points that did not end well. */
static long sweep(const char *folder, long points)
{
    long calls = 0, bad = 0, none;
    if (!point(folder, LONG_MAX / 2, &calls)) return 1;
    if (points > calls) points = calls;
    int64_t start = ps_clock_ns();
    for (long i = 0; i < points; i++) bad += !point(folder, (long)((double)i / (double)points * (double)calls), &none);
    printf("%s: %ld allocations, %ld made to fail, %ld ended badly, %.1f s\n", folder, calls, points, bad,
           (double)(ps_clock_ns() - start) / 1e9);
    return bad;
}

static void test_models_of_the_tree(void **state)
{
    static const char *const names[] = { "med-ct-seg-synth", "med-mri-cls3d-synth" };
    const char *points = getenv("PS_SWEEP_POINTS");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char folder[1024];
        assert_true(model_folder(names[i], folder, sizeof folder));
        assert_int_equal(sweep(folder, points ? strtol(points, NULL, 10) : 200), 0);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_models_of_the_tree) };
    if (argc < 3) return cmocka_run_group_tests(tests, NULL, NULL);
    long bad = 0;
    for (int i = 2; i < argc; i++) bad += sweep(argv[i], strtol(argv[1], NULL, 10));
    return bad != 0;
}
