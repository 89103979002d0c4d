/* Loads every model below tests/models, and below $PS_SHARED_MODELS where that is set, with every tensor of their
 * test_data_set folders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/str.h"
#include "onnx/onnx.h"

static void load_tensor(ps_alloc_state *a, const char *path) {
    ps_error err = PS_ERROR_INIT;
    ps_file_map map;
    ps_tensor *t = NULL, *again = NULL;
    const char *name = NULL;
    void *written = NULL;
    size_t size = 0;
    assert_int_equal(ps_file_map_open(path, &map, &err), PS_OK);
    if (ps_onnx_tensor_read(a, map.data, map.size, &t, &name, &err) != PS_OK) fail_msg("%s: %s", path, err.msg);
    assert_int_equal(ps_onnx_tensor_write(a, t, name, &written, &size, &err), PS_OK);
    assert_int_equal(ps_onnx_tensor_read(a, written, size, &again, NULL, &err), PS_OK);
    assert_true(ps_tensor_hash(t) == ps_tensor_hash(again));
    ps_tensor_release(t);
    ps_tensor_release(again);
    ps_free(a, written);
    ps_free(a, (void *)name);
    ps_file_map_close(&map);
}

static size_t load_tensors(ps_alloc_state *a, const char *folder) {
    char **sets, **files, path[1024];
    size_t n_sets, n_files, count = 0;
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(ps_dir_list(a, folder, &sets, &n_sets, &err), PS_OK);
    for (size_t i = 0; i < n_sets; i++) {
        if (strncmp(sets[i], "test_data_set_", 14) != 0) continue;
        ps_snprintf(path, sizeof path, "%s/%s", folder, sets[i]);
        assert_int_equal(ps_dir_list(a, path, &files, &n_files, &err), PS_OK);
        for (size_t k = 0; k < n_files; k++, count++) {
            ps_snprintf(path, sizeof path, "%s/%s/%s", folder, sets[i], files[k]);
            load_tensor(a, path);
        }
        ps_dir_free(a, files, n_files);
    }
    ps_dir_free(a, sets, n_sets);
    return count;
}

static void load_model(ps_alloc_state *a, const char *path, const char *name) {
    ps_error err = PS_ERROR_INIT;
    ps_graph *g = NULL;
    ps_onnx_info info;
    atomic_store(&a->peak, atomic_load(&a->bytes));
    int64_t start = ps_clock_ns();
    if (ps_onnx_load_file(a, path, &g, &info, &err) != PS_OK) fail_msg("%s: %s", path, err.msg);
    printf("%-22s opset %lld, %zu nodes, %zu inputs, %zu outputs, %zu parameters, %.1f MB file, %.1f MB weights, "
           "%.1f MB peak, %.0f ms\n",
           name, (long long)info.opset, info.nodes, g->n_inputs, g->n_outputs, info.parameters,
           (double)info.file_bytes / 1e6, (double)info.weight_bytes / 1e6, (double)atomic_load(&a->peak) / 1e6,
           (double)(ps_clock_ns() - start) / 1e6);
    assert_int_equal(ps_graph_verify(g, &err), PS_OK);
    /* The weights, once, and the structure: never a second copy of the file. */
    assert_true(atomic_load(&a->peak) < info.weight_bytes + info.weight_bytes / 8 + (4u << 20));
    ps_graph_free(g);
    ps_onnx_info_release(&info);
}

static void load_folder(const char *root) {
    ps_alloc_state a;
    ps_error err = PS_ERROR_INIT;
    char **names, folder[512], path[600];
    size_t n, models = 0;
    ps_alloc_state_init(&a, NULL);
    if (ps_dir_list(&a, root, &names, &n, &err) != PS_OK) fail_msg("%s", err.msg);
    for (size_t i = 0; i < n; i++) {
        ps_snprintf(folder, sizeof folder, "%s/%s", root, names[i]);
        ps_snprintf(path, sizeof path, "%s/model.onnx", folder);
        if (!ps_file_exists(path)) continue;
        load_model(&a, path, names[i]);
        assert_true(load_tensors(&a, folder) > 0);
        models++;
    }
    ps_dir_free(&a, names, n);
    assert_true(models > 0);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_own_models(void **state) {
    load_folder(PS_TEST_DATA "/../models");
}

static void test_shared_models(void **state) {
    const char *root = getenv("PS_SHARED_MODELS");
    if (!root) skip();
    load_folder(root);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_own_models), cmocka_unit_test(test_shared_models) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
