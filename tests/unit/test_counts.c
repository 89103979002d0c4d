/* Counts on real models that must not depend on the machine: allocations of a steady run, copies of big tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model_files.h"
#include "runtime/runtime_int.h"

static void assert_steady(const char *folder)
{
    ps_engine *e = NULL;
    ps_model *m = NULL;
    ps_session *s = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    model_tensors in;
    o.cache_dir = "";
    assert_int_equal(ps_engine_create(&o, &e, &err), PS_OK);
    if (model_load(e, folder, "cpu", 1, &m, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_int_equal(ps_session_create(m, NULL, &s, &err), PS_OK);
    assert_int_equal(model_tensors_load(e, folder, 0, "input", &in, &err), PS_OK);
    size_t before = 0;
    for (int i = 0; i < 6; i++) {
        ps_tensor *out[MODEL_MAX_ENDS] = { NULL };
        if (i == 2) before = atomic_load(&e->alloc.calls);
        if (ps_session_run(s, (const ps_tensor *const *)in.t, in.n, out, ps_model_output_count(m), NULL, &err) !=
            PS_OK) {
            fail_msg("%s: %s", folder, err.msg);
        }
    }
    if (atomic_load(&e->alloc.calls) != before) fail_msg("%s: a steady run allocates", folder);
    model_tensors_release(&in);
    ps_session_free(s);
    ps_model_release(m);
    ps_engine_free(e);
}

static void test_steady_runs_of_real_models_do_not_allocate(void **state)
{
    static const char *const names[] = { "med-ct-seg-synth",    "med-mri-cls3d-synth", "med-xray-cls-synth",
                                         "efficientnet-lite0",  "minilm-l6-v2-emb16",  "ppocr-v2-cls",
                                         "ppocr-v4-det",        "ppocr-v4-rec",        "silero-vad",
                                         "silero-vad-16k-op15", "magika-v3_3" };
    char folder[1024];
    int ran = 0;
#ifndef PS_WITH_DNNL
    skip(); /* convolutions are then reference kernels, which take scratch memory in every run */
#endif
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!model_folder(names[i], folder, sizeof folder)) continue;
        assert_steady(folder);
        ran++;
    }
    assert_true(ran >= 2); /* the committed ones */
}

/* The table is 30,522 x 384 numbers of 16 bits; neither a pass nor a plan may widen or copy it. */
static void test_minilm_table_is_resident_once(void **state)
{
    const size_t table = (size_t)30522 * 384 * 2;
    char folder[1024];
    ps_engine *e = NULL;
    ps_model *m = NULL;
    ps_session *s = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    o.cache_dir = "";
    if (!model_folder("minilm-l6-v2-emb16", folder, sizeof folder)) skip();
    assert_int_equal(ps_engine_create(&o, &e, &err), PS_OK);
    if (model_load(e, folder, "cpu", 1, &m, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_int_equal(ps_session_create(m, NULL, &s, &err), PS_OK);
    size_t tables = 0, other = 0;
    for (const ps_value *v = m->graph->all_values; v; v = v->next_all) {
        if (!v->constant) continue;
        if (v->constant->bytes >= table) {
            assert_int_equal(v->constant->bytes, table); /* not wider than in the file */
            tables++;
        } else {
            other += v->constant->bytes;
        }
    }
    assert_int_equal(tables, 1);
    for (int set = 0; set < 3; set++) {
        model_tensors in;
        ps_tensor *out[MODEL_MAX_ENDS] = { NULL };
        assert_int_equal(model_tensors_load(e, folder, set, "input", &in, &err), PS_OK);
        if (ps_session_run(s, (const ps_tensor *const *)in.t, in.n, out, ps_model_output_count(m), NULL, &err) !=
            PS_OK) {
            fail_msg("%s", err.msg);
        }
        model_tensors_release(&in);
    }
    /* all else: plain and packed weights, three plans, arenas. A second table (23.4 MB) would not fit under this. */
    size_t held = ps_engine_memory(e, NULL);
    assert_true(held < table + other + ps_weights_bytes(m->weights) + m->cache_bytes + ((size_t)8 << 20));
    assert_true(ps_weights_bytes(m->weights) < other + ((size_t)8 << 20));
    ps_session_free(s);
    ps_model_release(m);
    ps_engine_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steady_runs_of_real_models_do_not_allocate),
        cmocka_unit_test(test_minilm_table_is_resident_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
