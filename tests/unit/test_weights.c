/* The life of weights: what kernels packed is given up, comes back the same, or says why it cannot. */
#include "runtime_fixture.h"

#include <stdio.h>

#include "base/os.h"
#include "polestar/compress.h"
#include "test_alloc_fail.h"
#include "test_temp_dir.h"

#define MODEL PS_TEST_DATA "/../models/med-ct-seg-synth/model.onnx"

static char folder[256], copy[300];

static void write_copy(size_t cut) {
    ps_file_map map;
    ps_error err = PS_ERROR_INIT;
    if (ps_file_map_open(MODEL, &map, &err) != PS_OK) fail_msg("%s", err.msg);
    if (ps_file_write(copy, map.data, map.size - cut, 0600, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_file_map_close(&map);
}

static int setup(void **state) {
    if (!ps_test_temp_dir(folder, sizeof folder)) return -1;
    ps_snprintf(copy, sizeof copy, "%s/model.onnx", folder);
    write_copy(0);
    return 0;
}

static int teardown(void **state) {
    ps_test_remove_tree(folder);
    return 0;
}

static ps_model *load(ps_engine *e) {
    ps_model *m = NULL;
    ps_error err = PS_ERROR_INIT;
    if (ps_model_load(e, copy, NULL, &m, &err) != PS_OK) fail_msg("%s", err.msg);
    return m;
}

static ps_model *load_memory(ps_engine *e) {
    ps_file_map map;
    ps_model *m = NULL;
    ps_error err = PS_ERROR_INIT;
    if (ps_file_map_open(copy, &map, &err) != PS_OK) fail_msg("%s", err.msg);
    if (ps_model_load_memory(e, map.data, map.size, NULL, &m, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_file_map_close(&map);
    return m;
}

static ps_status run_once(ps_model *m, int64_t batch, float **ret, ps_error *err) {
    size_t in_count = (size_t)batch * 128 * 128, out_count = in_count * 3;
    float *x = malloc(in_count * sizeof *x);
    if (!x) return PS_FAIL_NOMEM(err, "a test's input");
    for (size_t i = 0; i < in_count; i++)
        x[i] = (float)((i * 7 + i / 128) % 31) / 31;
    ps_session *s = NULL;
    ps_tensor *in = NULL, *out = NULL;
    ps_shape shape = ps_shape_make(4, DIMS(batch, 1, 128, 128));
    ps_status status = ps_session_create(m, NULL, &s, err);
    if (status == PS_OK) status = ps_tensor_wrap(m->engine, PS_DTYPE_F32, &shape, NULL, x, &in, err);
    if (status == PS_OK) status = ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, err);
    if (status == PS_OK && ret) {
        *ret = malloc(out_count * sizeof **ret);
        if (*ret) memcpy(*ret, ps_tensor_data(out), out_count * sizeof **ret);
    }
    ps_tensor_release(in);
    ps_session_free(s);
    free(x);
    return status;
}

static float *run_ok(ps_model *m, int64_t batch) {
    ps_error err = PS_ERROR_INIT;
    float *y = NULL;
    if (run_once(m, batch, &y, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_non_null(y);
    return y;
}

static size_t dropped_bytes(const ps_model *m, const ps_tensor **ret_one) {
    size_t n = 0;
    for (const ps_value *v = m->graph->all_values; v; v = v->next_all) {
        if (!v->constant || !atomic_load(&v->constant->dropped)) continue;
        n += v->constant->bytes;
        if (ret_one) *ret_one = v->constant;
    }
    return n;
}

/* A model from memory cannot be read again, keeps its weights, and so is the oracle. */
static void test_given_up_and_the_same_results(void **state) {
    ps_engine *e = fixture_engine(1, NULL);
    ps_model *m = load(e), *whole = load_memory(e);
    assert_int_equal(dropped_bytes(m, NULL), 0);
    for (int64_t batch = 1; batch <= 3; batch++) {
        float *y = run_ok(m, batch), *want = run_ok(whole, batch);
        assert_memory_equal(y, want, (size_t)batch * 3 * 128 * 128 * sizeof *y);
        free(y);
        free(want);
        assert_int_equal(dropped_bytes(whole, NULL), 0);
#ifdef PS_WITH_DNNL
        assert_in_range(dropped_bytes(m, NULL), 250000, 471500);
#endif
    }
    ps_model_release(whole);
    ps_model_release(m);
    ps_engine_free(e);
}

/* Code that oneDNN makes counts as the model's, and goes with it. */
static void test_code_is_counted(void **state) {
    ps_engine *e = fixture_engine(1, NULL);
    const size_t before = ps_engine_memory(e, NULL);
    ps_model *m = load(e);
    free(run_ok(m, 1));
    assert_true(ps_model_memory(m, NULL) >= ps_weights_bytes(m->weights) + m->newest->bytes);
    ps_model_release(m);
    assert_int_equal(ps_engine_memory(e, NULL), before);
    ps_engine_free(e);
}

static void test_comes_back_unchanged(void **state) {
    ps_engine *e = fixture_engine(1, NULL);
    ps_model *m = load(e);
    const ps_tensor *one = NULL;
    ps_error err = PS_ERROR_INIT;
    free(run_ok(m, 1));
    size_t held = ps_engine_memory(e, NULL), away = dropped_bytes(m, &one);
    if (away) {
        if (ps_tensor_need(one, &err) != PS_OK) fail_msg("%s", err.msg);
        assert_true(ps_engine_memory(e, NULL) > held);
        assert_int_equal(dropped_bytes(m, NULL), 0);
        for (const ps_value *v = m->graph->all_values; v; v = v->next_all) {
            if (v->constant && v->constant->keeper) {
                assert_int_equal(ps_tensor_hash(v->constant), ps_tensor_hash_once(v->constant));
            }
        }
        ps_weights_settle(m->weights);
        assert_int_equal(dropped_bytes(m, NULL), away);
        assert_int_equal(ps_engine_memory(e, NULL), held);
        assert_int_equal(ps_weights_keep(one, &err), PS_OK);
        ps_weights_settle(m->weights);
        assert_int_equal(dropped_bytes(m, NULL), away - one->bytes);
    }
    free(run_ok(m, 1));
    ps_model_release(m);
    ps_engine_free(e);
}

static void need_fails(const ps_tensor *t, ps_status status, const char *part) {
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(ps_tensor_need(t, &err), status);
    if (!strstr(err.msg, part)) fail_msg("'%s' does not say '%s'", err.msg, part);
}

static void test_a_file_that_changed(void **state) {
    ps_engine *e = fixture_engine(1, NULL);
    ps_model *m = load(e);
    const ps_tensor *one = NULL;
    float *before = run_ok(m, 1);
    if (dropped_bytes(m, &one)) {
        ps_file_map map;
        assert_int_equal(ps_file_map_open(PS_TEST_DATA "/../models/med-mri-cls3d-synth/model.onnx", &map, NULL), PS_OK);
        assert_int_equal(ps_file_write(copy, map.data, map.size, 0600, NULL), PS_OK);
        ps_file_map_close(&map);
        need_fails(one, PS_IO, "the model's file has changed since it was loaded");
        write_copy(1000);
        need_fails(one, PS_FORMAT, "damaged");
        unlink(copy);
        need_fails(one, PS_NOT_FOUND, "model.onnx");
        float *after = run_ok(m, 1); /* what is packed does not ask the file */
        assert_memory_equal(before, after, 3 * 128 * 128 * sizeof *before);
        free(after);
        write_copy(0);
        assert_int_equal(ps_tensor_need(one, NULL), PS_OK);
    }
    free(before);
    ps_model_release(m);
    ps_engine_free(e);
}

/* Loading, packing, giving up, and reading again, with every 40th allocation failing once. */
static void test_failing_allocations(void **state) {
    bool failed = true;
    for (long nth = 0; failed; nth += 40) {
        ps_test_alloc t;
        ps_engine *e = NULL;
        ps_model *m = NULL;
        ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
        const ps_tensor *one = NULL;
        ps_test_alloc_init(&t, nth);
        o.threads = 1;
        o.allocator = &t.allocator;
        ps_status status = ps_engine_create(&o, &e, NULL);
        if (status == PS_OK) status = ps_model_load(e, copy, NULL, &m, NULL);
        if (status == PS_OK) status = run_once(m, 1, NULL, NULL);
        if (status == PS_OK && dropped_bytes(m, &one)) status = ps_tensor_need(one, NULL);
        ps_model_release(m);
        ps_engine_free(e);
        failed = atomic_load(&t.failed);
        assert_int_equal(status, failed ? PS_NO_MEMORY : PS_OK);
        assert_int_equal(atomic_load(&t.live), 0);
    }
}

/* A file whose weights have 16 bits: they begin as away, are given up and come back like others, from the file and from
 * the file's halves. */
static void test_weights_of_16_bits(void **state) {
    ps_engine *e = fixture_engine(1, NULL);
    ps_compress_options o = PS_COMPRESS_OPTIONS_INIT;
    ps_compress_result *result;
    ps_error err = PS_ERROR_INIT;
    char half[320];
    o.type = PS_COMPRESS_FP16;
    ps_snprintf(half, sizeof half, "%s/half.onnx", folder);
    if (ps_compress(e, MODEL, half, &o, &result, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_compress_result_free(result);
    assert_int_equal(rename(half, copy), 0);
    ps_model *m = load(e), *whole = load_memory(e);
    assert_true(dropped_bytes(m, NULL) > 300000 && dropped_bytes(whole, NULL) > 300000);
    for (int64_t batch = 1; batch <= 3; batch++) {
        float *y = run_ok(m, batch), *want = run_ok(whole, batch);
        assert_memory_equal(y, want, (size_t)batch * 3 * 128 * 128 * sizeof *y);
        free(y);
        free(want);
    }
    for (const ps_value *v = m->graph->all_values; v; v = v->next_all)
        if (v->constant && v->constant->keeper) assert_null(v->constant->narrow);
    ps_model_release(whole);
    ps_model_release(m);
    ps_engine_free(e);
    test_comes_back_unchanged(state);
    test_failing_allocations(state);
    write_copy(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_given_up_and_the_same_results),
        cmocka_unit_test(test_code_is_counted),
        cmocka_unit_test(test_comes_back_unchanged),
        cmocka_unit_test(test_a_file_that_changed),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_weights_of_16_bits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
