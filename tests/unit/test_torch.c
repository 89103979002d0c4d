/* Archives of torch.export: tests/data/torch, written by tests/gen/torch_cases.py, which has their content. The
 * expected outputs are PyTorch's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/str.h"
#include "polestar/polestar.h"
#include "test_alloc_fail.h"
#include "torch/pickle.h"
#include "torch/program.h"

#define GOOD PS_TEST_DATA "/torch/good"
#define BAD PS_TEST_DATA "/torch/bad"

/* ---- programs that run ---- */

/* Both sides add up in f32 in different orders: some units in the last place of the summands, which are below 100. */
static bool close_to(double got, double want) {
    if (!isfinite(got) || !isfinite(want)) return (isnan(got) && isnan(want)) || got == want;
    return fabs(got - want) <= 1e-5 + 1e-4 * fabs(want);
}

static void compare(const char *what, size_t index, const ps_tensor *got, const ps_tensor *want) {
    char a[128], b[128];
    if (got->dtype != want->dtype || !ps_shape_equal(&got->shape, &want->shape))
        fail_msg("%s: output %zu is %s%s, PyTorch's %s%s", what, index, ps_dtype_name(got->dtype),
                 ps_shape_text(&got->shape, a, sizeof a), ps_dtype_name(want->dtype),
                 ps_shape_text(&want->shape, b, sizeof b));
    for (size_t i = 0; i < ps_tensor_count(want); i++) {
        double x, y;
        assert_true(ps_tensor_get_double(got, i, &x) && ps_tensor_get_double(want, i, &y));
        if (!close_to(x, y)) fail_msg("%s: element %zu of output %zu is %.9g, PyTorch's %.9g", what, i, index, x, y);
    }
}

/* KIND_0.pb, KIND_1.pb … of a folder. */
static size_t read_set(ps_engine *engine, const char *folder, const char *kind, ps_tensor **ret, size_t max) {
    size_t n = 0;
    for (; n < max; n++) {
        char path[600];
        ps_error err = PS_ERROR_INIT;
        ps_snprintf(path, sizeof path, "%s/%s_%zu.pb", folder, kind, n);
        if (!ps_file_exists(path)) break;
        if (ps_tensor_load(engine, path, &ret[n], &err) != PS_OK) fail_msg("%s", err.msg);
    }
    return n;
}

enum { MAX_ENDS = 96 };

static void run_set(ps_engine *engine, ps_model *model, const char *folder) {
    ps_tensor *in[MAX_ENDS] = { NULL }, *want[MAX_ENDS] = { NULL }, *out[MAX_ENDS] = { NULL };
    ps_error err = PS_ERROR_INIT;
    ps_session *session = NULL;
    size_t n_in = read_set(engine, folder, "input", in, MAX_ENDS),
           n_out = read_set(engine, folder, "output", want, MAX_ENDS);
    assert_int_equal(n_in, ps_model_input_count(model));
    assert_int_equal(n_out, ps_model_output_count(model));
    assert_true(n_out > 0);
    if (ps_session_create(model, NULL, &session, &err) != PS_OK ||
        ps_session_run(session, (const ps_tensor *const *)in, n_in, out, n_out, NULL, &err) != PS_OK)
        fail_msg("%s: %s", folder, err.msg);
    for (size_t i = 0; i < n_out; i++)
        compare(folder, i, out[i], want[i]);
    ps_session_free(session);
    for (size_t i = 0; i < n_in; i++)
        ps_tensor_release(in[i]);
    for (size_t i = 0; i < n_out; i++)
        ps_tensor_release(want[i]);
}

static size_t run_case(ps_engine *engine, const char *name, const char *device) {
    char path[512], folder[560];
    ps_error err = PS_ERROR_INIT;
    ps_model *model = NULL;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.device = device;
    ps_snprintf(path, sizeof path, GOOD "/%s/model.pt2", name);
    if (ps_model_load(engine, path, &o, &model, &err) != PS_OK) fail_msg("%s", err.msg);
    size_t sets = 0;
    for (;; sets++) {
        ps_snprintf(folder, sizeof folder, GOOD "/%s/test_data_set_%zu", name, sets);
        if (!ps_dir_exists(folder)) break;
        run_set(engine, model, folder);
    }
    ps_model_release(model);
    return sets;
}

static void run_all(const char *device) {
    ps_engine *engine = NULL;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    o.cache_dir = "";
    char **names;
    size_t n, sets = 0;
    assert_int_equal(ps_engine_create(&o, &engine, NULL), PS_OK);
    ps_alloc_state *a = ps_engine_alloc(engine);
    assert_int_equal(ps_dir_list(a, GOOD, &names, &n, NULL), PS_OK);
    for (size_t i = 0; i < n; i++)
        sets += run_case(engine, names[i], device);
    assert_true(n >= 30 && sets >= n);
    ps_dir_free(a, names, n);
    ps_engine_free(engine);
}

static void test_reference(void **state) {
    run_all("ref");
}

static void test_cpu(void **state) {
    run_all("cpu");
}

/* ---- what is told about a program ---- */

static void test_info(void **state) {
    ps_alloc_state a;
    ps_graph *g;
    ps_onnx_info info;
    ps_error err = PS_ERROR_INIT;
    ps_alloc_state_init(&a, NULL);
    if (ps_torch_load(&a, &(ps_onnx_source) { .path = GOOD "/weights.saved/model.pt2" }, &g, &info, &err) != PS_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(strncmp(info.producer, "pytorch ", 8), 0);
    assert_string_equal(info.graph_name, "model");
    assert_int_equal(info.opset, PS_TORCH_OPSET);
    /* embedding and head are tied, the strided buffer is counted as what it is: 5*4 + 4*3 + 2*2 + the literal 2 */
    assert_int_equal(info.parameters, 20 + 12 + 4 + 2);
    assert_true(info.n_ops > 0 && info.nodes > 5);
    assert_int_equal(g->n_inputs, 1);
    assert_string_equal(g->inputs[0]->name, "x");
    assert_int_equal(g->inputs[0]->dtype, PS_DTYPE_I64);
    assert_int_equal(g->inputs[0]->shape.rank, 2);
    assert_true(g->inputs[0]->shape.dims[0] < PS_DIM_UNKNOWN);
    assert_int_equal(g->inputs[0]->shape.dims[1], 2);
    assert_int_equal(g->n_outputs, 3);
    ps_graph_free(g);
    ps_onnx_info_release(&info);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_expressions(void **state) {
    static const struct {
        const char *expr, *text; /* NULL: none */
    } cases[] = {
        { "s77", "s77" },
        { "Symbol('s77', positive=True, integer=True)", "s77" },
        { "Mul(Integer(2), Symbol('s77', positive=True, integer=True))", "2*s77" },
        { "Add(Symbol('a'), Mul(Integer(-1), Symbol('b')), Integer(3))", "a+-1*b+3" },
        { "Mul(Integer(2), Add(Symbol('a'), Integer(1)))", "2*(a+1)" },
        { "FloorDiv(Symbol('a'), Integer(2))", NULL },
        { "Mul(Integer(2), Symbol('a\n'))", NULL },
        { "Mul(Integer(2), Symbol('a')", NULL },
        { "Symbol('a') ", NULL },
        { "Symbol(", NULL },
        { "Integer()", NULL },
        { "", NULL },
        { "Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(Mul(", NULL },
    };
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ps_str s;
        ps_str_init(&s, &a);
        bool known = ps_torch_expr_text(cases[i].expr, &s);
        assert_int_equal(known, cases[i].text != NULL);
        if (known) assert_string_equal(s.data, cases[i].text);
        ps_str_release(&s);
    }
}

/* ---- archives that are refused ---- */

static const struct {
    const char *name;
    ps_status status;
    const char *says;
} bad[] = {
    { "big-endian", PS_UNSUPPORTED, "byteorder" },
    { "compressed", PS_UNSUPPORTED, "compressed" },
    { "control-name", PS_FORMAT, "control character 0x0a" },
    { "custom", PS_UNSUPPORTED, "operator 'mine.op.default'" },
    { "cut", PS_FORMAT, "no directory" },
    { "cut-end", PS_FORMAT, "directory" },
    { "cycle", PS_FORMAT, "aten.relu.default 'relu': reads 'linear', which nothing before it defines" },
    { "damaged-weight", PS_FORMAT, "'data/weights/weight_0' is damaged" },
    { "deep-json", PS_FORMAT, "depth" },
    { "empty-zip", PS_FORMAT, "no directory" },
    { "far-weight", PS_FORMAT, "takes more than the 24 bytes" },
    { "hop", PS_UNSUPPORTED, "higher_order.map_impl" },
    { "huge-dims", PS_LIMIT, "tensor 'x': is too large" },
    { "huge-weight", PS_LIMIT, "weight 'linear.weight'" },
    { "inverse", PS_UNSUPPORTED, "operator 'linalg_inv' has no mapping" },
    { "json-list", PS_FORMAT, "no JSON object" },
    { "many-dims", PS_LIMIT, "9 dims" },
    { "missing-weight", PS_FORMAT, "holds no 'data/weights/weight_0'" },
    { "negative-dim", PS_FORMAT, "dim 0 is -1" },
    { "no-format", PS_UNSUPPORTED, "archive_format" },
    { "no-json", PS_FORMAT, "no JSON" },
    { "no-meta", PS_FORMAT, "'linear'" },
    { "no-program", PS_UNSUPPORTED, "no exported program" },
    { "offset-weight", PS_FORMAT, "takes more than the 24 bytes" },
    { "other-format", PS_UNSUPPORTED, "'pt2'" },
    { "other-shape", PS_FORMAT, "disagree" },
    { "path-trick", PS_FORMAT, "holds no 'data/weights/weight_0'" },
    { "pickle", PS_UNSUPPORTED, "torch.export.save(" },
    { "pickle-zip", PS_UNSUPPORTED, "torch.export.save(" },
    { "pickled-weight", PS_UNSUPPORTED, "never executed" },
    { "random", PS_UNSUPPORTED, "operator 'rand_like'" },
    { "same-name", PS_FORMAT, "two entries 'data/weights/weight_0'" },
    { "schema", PS_UNSUPPORTED, "schema version 9" },
    { "short-weight", PS_FORMAT, "takes more than the 4 bytes" },
    { "sparse", PS_UNSUPPORTED, "sparse" },
    { "stale-view", PS_UNSUPPORTED, "'select'" },
    { "state", PS_UNSUPPORTED, "'b_count'" },
    { "torchscript", PS_UNSUPPORTED, "TorchScript" },
    { "training", PS_UNSUPPORTED, "model.eval()" },
    { "twice", PS_FORMAT, "defined twice" },
    { "two-programs", PS_UNSUPPORTED, "several programs" },
    { "undefined", PS_FORMAT, "'nobody'" },
    { "unlisted-weight", PS_FORMAT, "'linear.bias'" },
    { "wrong-type", PS_FORMAT, "'relu' comes out as [1,2]" },
};

static void test_bad(void **state) {
    ps_alloc_state a;
    size_t n, listed = sizeof bad / sizeof *bad;
    char **names;
    ps_alloc_state_init(&a, NULL);
    for (size_t i = 0; i < listed; i++) {
        char path[512];
        ps_error err = PS_ERROR_INIT;
        ps_graph *g = NULL;
        ps_snprintf(path, sizeof path, BAD "/%s.pt2", bad[i].name);
        assert_true(ps_torch_detect_file(path));
        ps_status status = ps_torch_load(&a, &(ps_onnx_source) { .path = path }, &g, NULL, &err);
        if (status != bad[i].status || !strstr(err.msg, bad[i].says))
            fail_msg("%s: status %s, '%s'", bad[i].name, ps_status_name(status), err.msg);
        assert_int_equal(atomic_load(&a.bytes), 0);
    }
    assert_int_equal(ps_dir_list(&a, BAD, &names, &n, NULL), PS_OK);
    assert_int_equal(n, listed);
    ps_dir_free(&a, names, n);
}

/* Pickles are never executed: what is no table of tensors is refused, naming what it asked for. */
static void test_pickles(void **state) {
#define PICKLE(text) text, sizeof text - 1
    static const struct {
        const char *bytes;
        size_t size;
        ps_status status;
        const char *says;
    } cases[] = {
        { PICKLE("\x80\2}."), PS_OK, "" },
        { PICKLE("\x80\2ccollections\nOrderedDict\n)R}b."), PS_OK, "" },
        { PICKLE("\x80\2cposix\nsystem\nX\2\0\0\0ls\x85R."), PS_UNSUPPORTED, "'posix.system'" },
        { PICKLE("\x80\2c__builtin__\neval\n."), PS_UNSUPPORTED, "'__builtin__.eval'" },
        { PICKLE("\x80\4\x8c\2os."), PS_UNSUPPORTED, "instruction 0x8c" },
        { PICKLE("\x80\2(K\1K\2i__main__\nx\n."), PS_UNSUPPORTED, "instruction 0x69" },
        { PICKLE("\x80\2}X\1\0\0\0aK\1s."), PS_UNSUPPORTED, "'a' is no tensor" },
        { PICKLE("\x80\2}"), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2K\1."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2}s."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2t."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2R."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2h\7."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2}r\xff\xff\xff\x7f."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2}X\xff\xff\xff\xff."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2}X\2\0\0\0a\0."), PS_FORMAT, "NUL" },
        { PICKLE("\x80\2ctorch._utils\n_rebuild_tensor_v2\n)R."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2ctorch._utils\n_rebuild_parameter\nN\x85R."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2(((((((Q."), PS_FORMAT, "damaged" },
        { PICKLE("\x80\2c"), PS_FORMAT, "damaged" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ps_alloc_state a;
        ps_arena arena;
        ps_map tensors;
        ps_error err = PS_ERROR_INIT;
        ps_alloc_state_init(&a, NULL);
        ps_arena_init(&arena, &a);
        ps_map_init(&tensors, &a);
        ps_status status = ps_torch_unpickle((const uint8_t *)cases[i].bytes, cases[i].size, &arena, &tensors, &err);
        if (status != cases[i].status || !strstr(err.msg, cases[i].says))
            fail_msg("pickle %zu: status %s, '%s'", i, ps_status_name(status), err.msg);
        ps_map_release(&tensors);
        ps_arena_release(&arena);
        assert_int_equal(atomic_load(&a.bytes), 0);
    }
}

static void test_not_ours(void **state) {
    static const uint8_t onnx[] = { 8, 8, 18, 4 };
    assert_false(ps_torch_detect(onnx, sizeof onnx));
    assert_false(ps_torch_detect("", 0));
    assert_false(ps_torch_detect("PK", 2));
    assert_false(ps_torch_detect_file(BAD "/there-is-none.pt2"));
}

/* ---- limits of the caller ---- */

static void expect_limit(ps_onnx_limits limits, const char *says) {
    ps_alloc_state a;
    ps_graph *g;
    ps_error err = PS_ERROR_INIT;
    ps_onnx_source from = { .path = GOOD "/weights.saved/model.pt2", .limits = limits };
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(ps_torch_load(&a, &from, &g, NULL, &err), PS_LIMIT);
    if (!strstr(err.msg, says)) fail_msg("%s", err.msg);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_limits(void **state) {
    expect_limit((ps_onnx_limits) { .nodes = 3 }, "more than 3 nodes");
    expect_limit((ps_onnx_limits) { .tensor_bytes = 79 }, "has 80 bytes, a tensor may have 79");
    expect_limit((ps_onnx_limits) { .total_bytes = 100 }, "exceed the 100 bytes");
}

/* ---- memory ---- */

static ps_status load_once(ps_alloc_state *a, void *ctx) {
    ps_graph *g;
    ps_onnx_info info;
    ps_status status = ps_torch_load(a, &(ps_onnx_source) { .path = ctx }, &g, &info, NULL);
    if (status != PS_OK) return status;
    ps_graph_free(g);
    ps_onnx_info_release(&info);
    return PS_OK;
}

static void test_out_of_memory(void **state) {
    assert_true(ps_test_sweep(load_once, (void *)GOOD "/weights/model.pt2") > 40);
    assert_true(ps_test_sweep(load_once, (void *)GOOD "/torch-2.5/model.pt2") > 50);
    assert_true(ps_test_sweep(load_once, (void *)GOOD "/inplace/model.pt2") > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),   cmocka_unit_test(test_cpu),     cmocka_unit_test(test_info),
        cmocka_unit_test(test_expressions), cmocka_unit_test(test_bad),     cmocka_unit_test(test_not_ours),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_pickles), cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
