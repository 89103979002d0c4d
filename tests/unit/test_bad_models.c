/* Files that are read without complaint but cannot be run (tests/data/models/bad, from tests/gen/bad_models.py), and
 * files that cannot even be read, through the public API: loading or the first run refuses each with one sentence that
 * says which node it is about. Nothing crashes, nothing leaks, and no error of ours (PS_INTERNAL) stands in for theirs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <limits.h>

#include "model_files.h"
#include "test_alloc_fail.h"

/* Zeros of every input's shape. The two shapes too large to exist are tried as views with zero strides. */
static ps_status make_input(ps_engine *e, const ps_model *m, size_t i, ps_tensor **ret, ps_error *err)
{
    static float zeros[64 * 64];
    static const int64_t still[PS_MAX_RANK];
    ps_value_info info;
    size_t n = 1;
    ps_status status = ps_model_input(m, i, &info);
    if (status != PS_OK) return status;
    for (int d = 0; d < info.shape.rank; d++) n *= (size_t)info.shape.dims[d];
    if (n > 64 * 64) return ps_tensor_wrap(e, info.dtype, &info.shape, still, zeros, ret, err);
    return ps_tensor_create(e, info.dtype, &info.shape, ret, err);
}

static ps_status first_run(ps_engine *e, ps_model *m, ps_error *err)
{
    ps_session *s = NULL;
    model_tensors in = { .n = 0 };
    ps_tensor *out[MODEL_MAX_ENDS] = { NULL };
    ps_status status = ps_session_create(m, NULL, &s, err);
    for (size_t i = 0; i < ps_model_input_count(m) && status == PS_OK; i++) {
        status = make_input(e, m, i, &in.t[i], err);
        if (status == PS_OK) in.n++;
    }
    if (status == PS_OK) {
        status = ps_session_run(s, (const ps_tensor *const *)in.t, in.n, out, ps_model_output_count(m), NULL, err);
    }
    model_tensors_release(&in);
    ps_session_free(s);
    return status;
}

static ps_status load_and_run(ps_engine *e, const char *path, const char *device, ps_error *err)
{
    ps_model *m = NULL;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.device = device;
    o.threads = 1;
    ps_status status = ps_model_load(e, path, &o, &m, err);
    if (status == PS_OK) status = first_run(e, m, err);
    ps_model_release(m);
    return status;
}

/* All parts of "a|b|c" are in text? */
static bool says(const char *text, const char *parts)
{
    char part[128];
    while (*parts) {
        size_t n = strcspn(parts, "|");
        ps_snprintf(part, sizeof part, "%.*s", (int)n, parts);
        if (!strstr(text, part)) return false;
        parts += n + (parts[n] == '|');
    }
    return true;
}

static bool one_sentence(const char *text)
{
    size_t n = strlen(text);
    return n > 0 && text[n - 1] != '.' && !strchr(text, '\n');
}

/* Prints what was wrong, so that one run shows all. */
static bool refused(const char *path, const char *device, const char *parts)
{
    ps_test_alloc t;
    ps_engine *e = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    ps_test_alloc_init(&t, LONG_MAX / 2);
    o.allocator = &t.allocator;
    assert_int_equal(ps_engine_create(&o, &e, &err), PS_OK);
    ps_status status = load_and_run(e, path, device, &err);
    ps_engine_free(e);
    assert_int_equal(atomic_load(&t.live), 0);
    if (getenv("PS_SHOW_REFUSALS"))
        print_message("%s: %s: %s\n", path, ps_status_name(status), status == PS_OK ? "" : err.msg);
    if (status != PS_OK && status != PS_INTERNAL && one_sentence(err.msg) && says(err.msg, parts)) return true;
    print_error("%s on %s: %s: '%s' does not say '%s'\n", path, device, ps_status_name(status),
                status == PS_OK ? "" : err.msg, parts);
    return false;
}

static void test_models_that_cannot_run(void **state)
{
    ps_alloc_state a;
    char *list, *save = NULL;
    size_t size, wrong = 0, count = 0;
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(ps_file_read(&a, PS_TEST_DATA "/models/bad/index.txt", 1 << 20, &list, &size, NULL), PS_OK);
    for (char *line = strtok_r(list, "\n", &save); line; line = strtok_r(NULL, "\n", &save), count++) {
        char path[512], *tab = strchr(line, '\t');
        assert_non_null(tab);
        *tab = '\0';
        ps_snprintf(path, sizeof path, "%s/models/bad/%s.onnx", PS_TEST_DATA, line);
        wrong += !refused(path, "cpu", tab + 1) + !refused(path, "ref", tab + 1);
    }
    ps_free(&a, list);
    assert_int_equal(wrong, 0);
    assert_true(count >= 60);
}

static void test_files_that_cannot_be_read(void **state)
{
    static const char *const cases[][2] = {
        { "/onnx/bad/external_missing.onnx", "nowhere.bin|model's folder" },
        { "/onnx/bad/cycle.onnx", "cycle" },
        { "/onnx/bad/undefined_input.onnx", "'r'|nothing" },
        { "/onnx/bad/empty.onnx", "IR version" },
        { "/onnx/no-such-model.onnx", "no-such-model.onnx" },
        { "/onnx", "onnx" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        ps_snprintf(path, sizeof path, "%s%s", PS_TEST_DATA, cases[i][0]);
        assert_true(refused(path, "cpu", cases[i][1]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models_that_cannot_run),
        cmocka_unit_test(test_files_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
