/* All passes over every model below $PS_SHARED_MODELS (skipped when unset), with the shapes of its first test set, run
 * by reference kernels and compared with the expected outputs. PS_DUMP=folder writes the rewritten graphs there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/os.h"
#include "graph_run.h"
#include "onnx/onnx.h"
#include "passes/passes.h"

static ps_alloc_state alloc;
static const ps_caps all_caps = { true, true, true, true, 16 };

static ps_tensor *load_tensor(const char *folder, const char *kind, size_t i) {
    char path[1024];
    ps_file_map map;
    ps_tensor *t = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_snprintf(path, sizeof path, "%s/test_data_set_0/%s_%zu.pb", folder, kind, i);
    if (ps_file_map_open(path, &map, &err) != PS_OK) return NULL;
    if (ps_onnx_tensor_read(&alloc, map.data, map.size, &t, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_file_map_close(&map);
    return t;
}

static size_t count_nodes(const ps_graph *root) {
    size_t n = root->n_nodes;
    for (const ps_graph *g = root->all_graphs; g; g = g->next_all)
        n += g->parent ? g->n_nodes : 0;
    return n;
}

static void dump(const ps_graph *g, const char *name) {
    char path[1024];
    ps_str s;
    if (!getenv("PS_DUMP")) return;
    ps_str_init(&s, &alloc);
    ps_graph_print(g, &s);
    ps_snprintf(path, sizeof path, "%s/%s.txt", getenv("PS_DUMP"), name);
    ps_file_write(path, s.data, s.size, 0644, NULL);
    ps_str_release(&s);
}

static void check_outputs(ps_graph *g, ps_tensor *const *in, const char *folder, const char *name) {
    ps_tensor *out[16] = { NULL };
    ps_error err = PS_ERROR_INIT;
    if (graph_run_all(g, in, out, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
    for (size_t i = 0; i < g->n_outputs; i++) {
        ps_tensor *want = load_tensor(folder, "output", i);
        /* ONNX Runtime's own reordering of sums reaches 1e-4 on these models. */
        double d = want ? graph_run_difference(want, out[i], 1) : 0;
        printf(" %.1e", d);
        if (!(d < 1e-3)) fail_msg("%s: output %zu differs by %g", name, i, d);
        ps_tensor_release(want);
        ps_tensor_release(out[i]);
    }
}

static void check_model(const char *folder, const char *name) {
    char path[1024];
    ps_graph *g = NULL, *plan = NULL;
    ps_onnx_info info;
    ps_tensor *in[16] = { NULL };
    ps_error err = PS_ERROR_INIT;
    ps_snprintf(path, sizeof path, "%s/model.onnx", folder);
    if (!ps_file_exists(path)) return;
    if (ps_onnx_load_file(&alloc, path, &g, &info, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
    size_t before = count_nodes(g);
    int64_t start = ps_clock_ns();
    if (ps_ops_resolve(g, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
    if (ps_passes_run(g, PS_PASSES_ALL, &all_caps, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
    int64_t loaded = ps_clock_ns();
    size_t middle = count_nodes(g);
    for (size_t i = 0; i < g->n_inputs; i++) {
        in[i] = load_tensor(folder, "input", i);
        assert_non_null(in[i]);
    }
    int64_t planning = ps_clock_ns();
    assert_int_equal(ps_graph_clone(g, &plan, NULL, &err), PS_OK);
    for (size_t i = 0; i < plan->n_inputs; i++)
        plan->inputs[i]->shape = in[i]->shape;
    if (ps_ops_resolve(plan, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
    if (ps_passes_run(plan, PS_PASSES_ALL, &all_caps, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
    int64_t planned = ps_clock_ns();
    if (ps_graph_verify(plan, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
    printf("%-24s nodes %4zu -> %4zu at load (%.1f ms) -> %4zu with shapes (%.1f ms); errors", name, before, middle,
           (double)(loaded - start) / 1e6, count_nodes(plan), (double)(planned - planning) / 1e6);
    char loaded_name[128];
    ps_snprintf(loaded_name, sizeof loaded_name, "%s.load", name);
    dump(g, loaded_name);
    dump(plan, name);
    check_outputs(plan, in, folder, name);
    printf("\n");
    for (size_t i = 0; i < plan->n_inputs; i++)
        ps_tensor_release(in[i]);
    ps_graph_free(plan);
    ps_graph_free(g);
    ps_onnx_info_release(&info);
}

static void shared_models(void **state) {
    (void)state;
    const char *root = getenv("PS_SHARED_MODELS"), *only = getenv("PS_ONLY");
    char **names, folder[1024];
    size_t n;
    if (!root) skip();
    ps_alloc_state_init(&alloc, NULL);
    assert_int_equal(ps_dir_list(&alloc, root, &names, &n, NULL), PS_OK);
    for (size_t i = 0; i < n; i++) {
        if (only && strcmp(only, names[i]) != 0) continue;
        ps_snprintf(folder, sizeof folder, "%s/%s", root, names[i]);
        check_model(folder, names[i]);
    }
    ps_dir_free(&alloc, names, n);
    assert_int_equal(atomic_load(&alloc.bytes), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(shared_models) };
    return cmocka_run_group_tests_name("passes_models", tests, NULL, NULL);
}
