/* Files that must be refused: each model of tests/data/onnx/bad with its sentence, and thousands of damaged good ones.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "onnx_files.h"

/* A refused file leaves one sentence: a status, some words, no line break, nothing allocated. */
static void check_refusal(ps_status status, const ps_error *err) {
    assert_int_equal(err->status, status);
    size_t n = strlen(err->msg);
    assert_true(n > 0 && err->msg[n - 1] != '.');
    assert_null(strchr(err->msg, '\n'));
}

/* Prints what was wrong, so that one run shows all. */
static bool bad_as_expected(ps_alloc_state *a, const char *name, const char *sentence) {
    char path[512];
    ps_graph *g = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_snprintf(path, sizeof path, "%s/onnx/bad/%s.onnx", PS_TEST_DATA, name);
    size_t before = atomic_load(&a->bytes);
    ps_status status = ps_onnx_load_file(a, path, &g, NULL, &err);
    if (status == PS_OK) {
        print_error("%s was accepted\n", name);
        ps_graph_free(g);
        return false;
    }
    check_refusal(status, &err);
    assert_int_equal(atomic_load(&a->bytes), before);
    /* The reporter is optional. */
    assert_int_equal(ps_onnx_load_file(a, path, &g, NULL, NULL), status);
    if (strstr(err.msg, sentence) && status != PS_INTERNAL) return true;
    print_error("%s: %s '%s' does not say '%s'\n", name, ps_status_name(status), err.msg, sentence);
    return false;
}

static void test_bad_models(void **state) {
    ps_alloc_state a;
    size_t size, count = 0, wrong = 0;
    ps_alloc_state_init(&a, NULL);
    char *list = onnx_file(&a, "bad.txt", &size), *save = NULL;
    for (char *line = strtok_r(list, "\n", &save); line; line = strtok_r(NULL, "\n", &save), count++) {
        char *tab = strchr(line, '\t');
        assert_non_null(tab);
        *tab = '\0';
        wrong += !bad_as_expected(&a, line, tab + 1);
    }
    ps_free(&a, list);
    assert_int_equal(wrong, 0);
    assert_true(count >= 40);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_missing_file(void **state) {
    ps_alloc_state a;
    ps_graph *g;
    ps_error err = PS_ERROR_INIT;
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(ps_onnx_load_file(&a, PS_TEST_DATA "/onnx/no-such-file", &g, NULL, &err), PS_NOT_FOUND);
    assert_int_not_equal(ps_onnx_load_file(&a, PS_TEST_DATA, &g, NULL, &err), PS_OK);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void copy_file(ps_alloc_state *a, const char *from, const char *to) {
    size_t size;
    char *data = onnx_file(a, from, &size);
    assert_int_equal(ps_file_write(to, data, size, 0600, NULL), PS_OK);
    ps_free(a, data);
}

/* A symlink below the model's folder that leads out of it, and one to the model itself. */
static void test_symlinks(void **state) {
    ps_alloc_state a;
    ps_graph *g;
    ps_error err = PS_ERROR_INIT;
    char folder[] = "/tmp/polestar-onnx-XXXXXX", path[128], link_path[128];
    ps_alloc_state_init(&a, NULL);
    assert_non_null(mkdtemp(folder));
    ps_snprintf(path, sizeof path, "%s/model.onnx", folder);
    ps_snprintf(link_path, sizeof link_path, "%s/weights", folder);
    copy_file(&a, "good/external.onnx", path);
    assert_int_equal(symlink(PS_TEST_DATA "/onnx/good/weights", link_path), 0);
    assert_int_equal(ps_onnx_load_file(&a, path, &g, NULL, &err), PS_FORMAT);
    assert_non_null(strstr(err.msg, "lies outside of the model's folder"));
    assert_int_equal(unlink(link_path), 0);
    assert_int_equal(unlink(path), 0);

    /* A linked model finds its weights beside the file it leads to. */
    assert_int_equal(symlink(PS_TEST_DATA "/onnx/good/external.onnx", path), 0);
    if (ps_onnx_load_file(&a, path, &g, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_graph_free(g);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

/* ---- damage ---- */

static size_t refused, accepted;

static void load_damaged(ps_alloc_state *a, const uint8_t *data, size_t size, bool tensor) {
    ps_error err = PS_ERROR_INIT;
    ps_graph *g = NULL;
    ps_tensor *t = NULL;
    ps_onnx_info info = { 0 };
    const char *name = NULL;
    size_t before = atomic_load(&a->bytes);
    ps_status status = tensor ? ps_onnx_tensor_read(a, data, size, &t, &name, &err)
                              : ps_onnx_load_memory(a, data, size, &g, &info, &err);
    if (status == PS_OK) {
        accepted++;
        if (g && ps_graph_verify(g, &err) != PS_OK) fail_msg("accepted, but %s", err.msg);
        ps_graph_free(g);
        ps_onnx_info_release(&info);
        ps_tensor_release(t);
        ps_free(a, (void *)(uintptr_t)name);
    } else {
        refused++;
        check_refusal(status, &err);
        if (status == PS_INTERNAL || status == PS_NO_MEMORY) fail_msg("%s: %s", ps_status_name(status), err.msg);
    }
    assert_int_equal(atomic_load(&a->bytes), before);
}

/* Every prefix, then 250 mutations; the copy has no byte to spare, so that the sanitizer sees a read beyond its end. */
static void damage(ps_alloc_state *a, const char *name, bool tensor) {
    size_t size;
    char *data = onnx_file(a, name, &size);
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
    for (size_t n = 0; n < size; n++) {
        uint8_t *prefix = malloc(n ? n : 1);
        memcpy(prefix, data, n);
        load_damaged(a, prefix, n, tensor);
        free(prefix);
    }
    for (int i = 0; i < 250; i++) {
        uint8_t *copy = malloc(size);
        memcpy(copy, data, size);
        onnx_mutate(copy, size, &seed);
        load_damaged(a, copy, size, tensor);
        free(copy);
    }
    ps_free(a, data);
}

static void damage_model(ps_alloc_state *a, const char *name) {
    damage(a, name, false);
}

static void damage_tensor(ps_alloc_state *a, const char *name) {
    damage(a, name, true);
}

static void test_damage(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    refused = accepted = 0;
    assert_true(onnx_each(&a, "good", ".onnx", damage_model) > 0);
    assert_true(onnx_each(&a, "tensors", "int4_typed.pb", damage_tensor) > 0);
    assert_true(onnx_each(&a, "tensors", "string.pb", damage_tensor) > 0);
    assert_true(onnx_each(&a, "tensors", "float_raw.pb", damage_tensor) > 0);
    assert_true(refused > 1000 && accepted > 100); /* the damage is neither always fatal nor always harmless */
    assert_int_equal(atomic_load(&a.bytes), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_models),
        cmocka_unit_test(test_missing_file),
        cmocka_unit_test(test_symlinks),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
