/* The models of tests/data/onnx/good: what became of them. Their content is in tests/gen/onnx_files.py. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "onnx_files.h"
#include "test_alloc_fail.h"

typedef struct loaded {
    ps_alloc_state a;
    ps_graph *g;
    ps_onnx_info info;
} loaded;

static void load(loaded *l, const char *name) {
    char path[512];
    ps_error err = PS_ERROR_INIT;
    ps_snprintf(path, sizeof path, "%s/onnx/good/%s.onnx", PS_TEST_DATA, name);
    ps_alloc_state_init(&l->a, NULL);
    if (ps_onnx_load_file(&l->a, path, &l->g, &l->info, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
    if (ps_graph_verify(l->g, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
}

static void unload(loaded *l) {
    ps_graph_free(l->g);
    ps_onnx_info_release(&l->info);
    assert_int_equal(atomic_load(&l->a.bytes), 0);
}

static ps_tensor *constant(const loaded *l, const char *name) {
    ps_value *v = ps_graph_find(l->g, name);
    assert_non_null(v);
    assert_non_null(v->constant);
    assert_int_equal(v->dtype, v->constant->dtype);
    assert_true(ps_shape_equal(&v->shape, &v->constant->shape));
    return v->constant;
}

static void expect_floats(const ps_tensor *t, int rank, const float *values, size_t n) {
    assert_int_equal(t->dtype, PS_DTYPE_F32);
    assert_int_equal(t->shape.rank, rank);
    assert_int_equal(ps_tensor_count(t), n);
    assert_memory_equal(t->data, values, n * sizeof *values);
}

static void expect_ints(const ps_tensor *t, int rank, const int64_t *values, size_t n) {
    assert_int_equal(t->dtype, PS_DTYPE_I64);
    assert_int_equal(t->shape.rank, rank);
    assert_int_equal(ps_tensor_count(t), n);
    assert_memory_equal(t->data, values, n * sizeof *values);
}

static void expect_strings(const ps_tensor *t, int rank, const char *const *values, const size_t *sizes, size_t n) {
    const ps_string *s = t->data;
    assert_int_equal(t->dtype, PS_DTYPE_STRING);
    assert_int_equal(t->shape.rank, rank);
    assert_int_equal(ps_tensor_count(t), n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(s[i].size, sizes[i]);
        if (sizes[i]) assert_memory_equal(s[i].data, values[i], sizes[i]);
    }
}

static void test_basic(void **state) {
    loaded l;
    load(&l, "basic");
    assert_string_equal(l.info.producer, "gen 1");
    assert_string_equal(l.info.graph_name, "g");
    assert_int_equal(l.info.ir_version, 8);
    assert_int_equal(l.info.opset, 17);
    assert_int_equal(l.info.nodes, 2);
    assert_int_equal(l.info.parameters, 15);
    assert_int_equal(l.info.weight_bytes, 60);
    assert_int_equal(l.info.n_metadata, 2);
    assert_string_equal(l.info.metadata[0], "author");
    assert_string_equal(l.info.metadata[1], "nobody");
    assert_int_equal(l.info.n_ops, 2);
    assert_string_equal(l.info.ops[0].name, "Gemm");
    assert_string_equal(l.info.ops[1].name, "Relu");

    assert_int_equal(l.g->n_inputs, 1);
    const ps_value *x = l.g->inputs[0], *h = ps_graph_find(l.g, "h"), *y = l.g->outputs[0];
    assert_int_equal(x->shape.rank, 2);
    assert_string_equal(ps_graph_symbol_name(l.g, x->shape.dims[0]), "batch");
    assert_int_equal(x->shape.dims[1], 4);
    assert_int_equal(h->shape.rank, -1); /* what the file claims is kept apart from what is known */
    assert_int_equal(h->declared_shape.rank, 2);
    assert_int_equal(y->declared_shape.dims[0], x->shape.dims[0]);
    assert_int_equal(y->declared_dtype, PS_DTYPE_F32);

    const ps_node *fc = l.g->first;
    assert_string_equal(fc->op_type, "Gemm");
    assert_string_equal(fc->name, "fc");
    assert_true(ps_node_attr(fc, "alpha")->u.f == 0.5f);
    assert_int_equal(ps_node_attr(fc, "transB")->u.i, 1);
    expect_floats(constant(&l, "b"), 1, (const float[]) { 1, 2, 3 }, 3);
    unload(&l);
}

static void test_constants(void **state) {
    loaded l;
    load(&l, "constants");
    expect_floats(constant(&l, "tensor"), 2, (const float[]) { 0, 0.25f, 0.5f, 0.75f }, 4);
    expect_floats(constant(&l, "float"), 0, (const float[]) { 1.5f }, 1);
    expect_floats(constant(&l, "floats"), 1, (const float[]) { 1, 2 }, 2);
    expect_ints(constant(&l, "int"), 0, (const int64_t[]) { -3 }, 1);
    expect_ints(constant(&l, "ints"), 1, (const int64_t[]) { 4, 5, 6 }, 3);
    expect_strings(constant(&l, "string"), 0, (const char *const[]) { "abc" }, (const size_t[]) { 3 }, 1);
    expect_strings(constant(&l, "strings"), 1, (const char *const[]) { "a", "", "ccc" }, (const size_t[]) { 1, 0, 3 },
                   3);
    expect_floats(constant(&l, "sparse"), 2, (const float[]) { 0, 5, 0, 0, 7, 0 }, 6);
    expect_ints(constant(&l, "sparse_rows"), 2, (const int64_t[]) { 0, 0, 5, 7, 0, 0 }, 6);
    assert_int_equal(l.g->n_nodes, 1); /* the Constants are nodes of the file, not of the graph */
    assert_int_equal(l.info.nodes, 10);
    assert_string_equal(l.info.ops[0].name, "Constant");
    assert_int_equal(l.info.ops[0].count, 9);
    unload(&l);
}

static ps_graph *branch(const ps_node *n, const char *name) {
    const ps_attr *a = ps_node_attr(n, name);
    assert_non_null(a);
    assert_int_equal(a->type, PS_ATTR_GRAPH);
    assert_ptr_equal(a->u.graph->parent, n);
    return a->u.graph;
}

static void test_if(void **state) {
    loaded l;
    load(&l, "if");
    const ps_node *choice = l.g->last;
    assert_string_equal(choice->op_type, "If");
    const ps_graph *then = branch(choice, "then_branch"), *other = branch(choice, "else_branch");
    /* The branch that returns an outer value owns a copy of it. */
    assert_int_equal(then->n_nodes, 1);
    assert_string_equal(then->first->op_type, "Identity");
    assert_ptr_equal(then->first->in[0], ps_graph_find(l.g, "h"));
    assert_ptr_equal(then->outputs[0]->graph, then);
    const ps_graph *inner = branch(other->first, "then_branch");
    assert_ptr_equal(inner->first->in[0], l.g->inputs[0]);
    ps_value **captures;
    size_t n;
    assert_int_equal(ps_node_captures(choice, &captures, &n, NULL), PS_OK);
    assert_int_equal(n, 3); /* h, c, x */
    assert_int_equal(l.info.nodes, 5);
    unload(&l);
}

static void test_loop(void **state) {
    loaded l;
    load(&l, "loop");
    const ps_graph *body = branch(l.g->first, "body");
    assert_null(l.g->first->in[1]);
    assert_int_equal(body->n_inputs, 3);
    assert_int_equal(body->inputs[2]->dtype, PS_DTYPE_UNDEFINED);
    assert_int_equal(body->inputs[2]->shape.rank, -1);
    unload(&l);
}

static void test_unsorted(void **state) {
    loaded l;
    load(&l, "unsorted");
    assert_string_equal(l.g->first->op_type, "Abs");
    assert_string_equal(l.g->last->op_type, "Relu");
    unload(&l);
}

static void test_ir3(void **state) {
    loaded l;
    load(&l, "ir3");
    assert_int_equal(l.g->n_inputs, 1);
    assert_string_equal(l.g->inputs[0]->name, "x");
    assert_int_equal(constant(&l, "w")->bytes, 24);
    unload(&l);
}

static void test_dims(void **state) {
    loaded l;
    load(&l, "dims");
    const int64_t *d = l.g->inputs[0]->shape.dims;
    assert_int_equal(l.g->inputs[0]->shape.rank, 7);
    assert_true(d[0] < PS_DIM_UNKNOWN && d[0] == d[3]);
    assert_int_equal(d[1], PS_DIM_UNKNOWN);
    assert_int_equal(d[2], 4);
    for (int i = 4; i < 7; i++)
        assert_int_equal(d[i], PS_DIM_UNKNOWN);
    assert_int_equal(l.g->outputs[0]->declared_shape.rank, -1);
    unload(&l);
}

static void test_shared(void **state) {
    loaded l;
    load(&l, "shared");
    const ps_tensor *w = constant(&l, "w");
    assert_ptr_equal(constant(&l, "w2"), w);
    assert_ptr_equal(constant(&l, "k2"), w);
    assert_ptr_not_equal(constant(&l, "flat"), w); /* the same bytes under another shape */
    for (const ps_node *n = l.g->first; n; n = n->next) {
        if (strcmp(n->op_type, "If") != 0) continue;
        assert_ptr_equal(ps_graph_find(branch(n, "then_branch"), "k")->constant, w);
    }
    assert_int_equal(l.info.parameters, 6 + 6 + 2);
    assert_int_equal(l.info.weight_bytes, 24 + 24 + 16);
    unload(&l);
}

static void test_attributes(void **state) {
    loaded l;
    load(&l, "attributes");
    const ps_node *n = l.g->first;
    assert_string_equal(n->domain, "test.custom");
    assert_string_equal(l.info.ops[0].name, "Relu");
    assert_string_equal(l.info.ops[1].name, "test.custom::Everything");
    assert_true(ps_node_attr(n, "f")->u.f == 1.5f);
    assert_int_equal(ps_node_attr(n, "i")->u.i, -7);
    assert_int_equal(ps_node_attr(n, "s")->n, 4);
    assert_string_equal(ps_node_attr(n, "s")->u.s, "text");
    expect_floats(ps_node_attr(n, "t")->u.tensor, 1, (const float[]) { 0, 0.25f }, 2);
    assert_int_equal(ps_node_attr(n, "fs")->n, 2);
    assert_true(ps_node_attr(n, "fs")->u.floats[1] == 2.0f);
    assert_int_equal(ps_node_attr(n, "is")->n, 3);
    assert_int_equal(ps_node_attr(n, "is")->u.ints[2], 3);
    assert_int_equal(ps_node_attr(n, "ss")->n, 2);
    assert_string_equal(ps_node_attr(n, "ss")->u.strings[1], "bc");
    assert_int_equal(ps_node_attr(n, "ts")->n, 2);
    assert_ptr_equal(ps_node_attr(n, "ts")->u.tensors[0], ps_node_attr(n, "t")->u.tensor);
    assert_int_equal(branch(n, "g")->n_nodes, 1);
    assert_int_equal(ps_node_attr(n, "gs")->n, 2);
    assert_int_equal(ps_node_attr(n, "none")->type, PS_ATTR_INTS);
    assert_int_equal(ps_node_attr(n, "none")->n, 0);
    unload(&l);
}

static void test_optional(void **state) {
    loaded l;
    load(&l, "optional");
    const ps_node *clip = l.g->first, *lstm = l.g->last;
    assert_int_equal(clip->n_in, 3);
    assert_null(clip->in[1]);
    assert_ptr_equal(clip->in[2], ps_graph_find(l.g, "hi"));
    assert_int_equal(lstm->n_out, 2);
    assert_null(lstm->out[0]);
    assert_ptr_equal(lstm->out[1], l.g->outputs[0]);
    unload(&l);
}

static void test_strings(void **state) {
    loaded l;
    load(&l, "strings");
    expect_strings(constant(&l, "w"), 1, (const char *const[]) { "one", "", "th\0ree" }, (const size_t[]) { 3, 0, 6 },
                   3);
    assert_ptr_equal(constant(&l, "same"), constant(&l, "w"));
    assert_ptr_not_equal(constant(&l, "content"), constant(&l, "w"));
    assert_ptr_not_equal(constant(&l, "length"), constant(&l, "w"));
    unload(&l);
}

static void test_many(void **state) {
    loaded l;
    load(&l, "many");
    for (int i = 0; i < 100; i++) {
        char name[64];
        ps_snprintf(name, sizeof name, "größe_%d_名_\xf0\x9f\x98\x80", i);
        expect_ints(constant(&l, name), 0, (const int64_t[]) { i }, 1);
    }
    assert_int_equal(l.info.parameters, 100);
    unload(&l);
}

static void test_sparse(void **state) {
    loaded l;
    load(&l, "sparse");
    expect_floats(constant(&l, "w"), 2, (const float[]) { 0, 5, 0, 0, 0, 7 }, 6);
    unload(&l);
}

static void test_external(void **state) {
    loaded l;
    load(&l, "external");
    expect_floats(constant(&l, "w"), 2, (const float[]) { 0, 0.25f, 0.5f, 0.75f, 1, 1.25f }, 6);
    expect_floats(constant(&l, "zeros"), 1, (const float[]) { 0, 0 }, 2);
    assert_int_equal((uintptr_t)constant(&l, "w")->data % PS_ALIGN, 0);
    unload(&l);
}

static void test_memory(void **state) {
    ps_alloc_state a;
    ps_error err = PS_ERROR_INIT;
    ps_graph *g;
    size_t size;
    ps_alloc_state_init(&a, NULL);
    char *data = onnx_file(&a, "good/basic.onnx", &size);
    assert_int_equal(ps_onnx_load_memory(&a, data, size, &g, NULL, &err), PS_OK);
    ps_free(&a, data);
    assert_string_equal(g->first->op_type, "Gemm"); /* nothing points into the file any more */
    ps_graph_free(g);
    data = onnx_file(&a, "good/external.onnx", &size);
    assert_int_equal(ps_onnx_load_memory(&a, data, size, &g, NULL, &err), PS_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "external data"));
    ps_free(&a, data);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

/* An attribute's text is as long as the file says, NULs included: a shorter copy would be read beyond its end. */
static void test_text_with_nul(void **state) {
    static const uint8_t file[] = { /* one node X with the attribute s = "a\0bc", by the onnx package */
        0x08, 0x08, 0x12, 0x00, 0x3a, 0x3e, 0x0a, 0x17, 0x0a, 0x01, 0x78, 0x12, 0x01, 0x79, 0x22, 0x01, 0x58, 0x2a,
        0x0c, 0x0a, 0x01, 0x73, 0x22, 0x04, 0x61, 0x00, 0x62, 0x63, 0xa0, 0x01, 0x03, 0x12, 0x01, 0x67, 0x5a, 0x0f,
        0x0a, 0x01, 0x78, 0x12, 0x0a, 0x0a, 0x08, 0x08, 0x01, 0x12, 0x04, 0x0a, 0x02, 0x08, 0x01, 0x62, 0x0f, 0x0a,
        0x01, 0x79, 0x12, 0x0a, 0x0a, 0x08, 0x08, 0x01, 0x12, 0x04, 0x0a, 0x02, 0x08, 0x01, 0x42, 0x04, 0x0a, 0x00,
        0x10, 0x11,
    };
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    ps_graph *g, *copy;
    ps_error err = PS_ERROR_INIT;
    if (ps_onnx_load_memory(&a, file, sizeof file, &g, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_int_equal(ps_graph_clone(g, &copy, NULL, &err), PS_OK);
    const ps_graph *both[] = { g, copy };
    for (int i = 0; i < 2; i++) {
        const ps_attr *s = ps_node_attr(both[i]->first, "s");
        assert_int_equal(s->n, 4);
        assert_memory_equal(s->u.s, "a\0bc", 5);
    }
    ps_graph_free(copy);
    ps_graph_free(g);
}

/* ---- every allocation fails once ---- */

static ps_status load_scenario(ps_alloc_state *a, void *ctx) {
    char path[512];
    ps_graph *g;
    ps_onnx_info info;
    ps_error err = PS_ERROR_INIT;
    ps_snprintf(path, sizeof path, "%s/onnx/%s", PS_TEST_DATA, (const char *)ctx);
    ps_status status = ps_onnx_load_file(a, path, &g, &info, &err);
    if (status != PS_OK) return err.status == status && err.msg[0] ? status : PS_INTERNAL;
    ps_graph_free(g);
    ps_onnx_info_release(&info);
    return PS_OK;
}

static void sweep(ps_alloc_state *a, const char *name) {
    long n = ps_test_sweep(load_scenario, (void *)(uintptr_t)name);
    if (n < 0) fail_msg("%s", name);
    assert_true(n > 10);
}

static void test_allocation_failures(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(onnx_each(&a, "good", ".onnx", sweep), 14);
}

/* ---- files larger than memory should hold: sparse ones ---- */

#define HUGE_BYTES (((size_t)1 << 31) + 4096)

static void write_sparse(const char *path, size_t size, const void *tail, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fseeko(f, (off_t)(size - n), SEEK_SET), 0);
    assert_int_equal(fwrite(tail, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void test_more_than_protobuf_holds(void **state) {
    char folder[] = "/tmp/polestar-onnx-XXXXXX", path[128], weights[128];
    ps_alloc_state a;
    ps_graph *g = NULL;
    ps_error err = PS_ERROR_INIT;
    assert_non_null(mkdtemp(folder));
    ps_snprintf(path, sizeof path, "%s/model.onnx", folder);
    ps_snprintf(weights, sizeof weights, "%s/w.bin", folder);
    ps_alloc_state_init(&a, NULL);
    write_sparse(path, (size_t)1 << 31, "", 1);
    assert_int_equal(ps_onnx_load_file(&a, path, &g, NULL, &err), PS_LIMIT);
    assert_non_null(strstr(err.msg, "2147483648 bytes are more than a protobuf's 2 GiB - 1"));
    assert_int_equal(unlink(path), 0);

    /* y = Identity(w), w: u8 of more than 2 GiB: mapped, so neither allocated nor resident. */
    ps_file_map model;
    assert_int_equal(ps_file_map_open(PS_TEST_DATA "/onnx/huge.onnx", &model, &err), PS_OK);
    assert_int_equal(ps_file_write(path, model.data, model.size, 0600, &err), PS_OK);
    ps_file_map_close(&model);
    write_sparse(weights, HUGE_BYTES, "\x07", 1);
    uint64_t before = ps_memory_resident();
    if (ps_onnx_load_file(&a, path, &g, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_true(ps_memory_resident() < before + ((size_t)256 << 20));
    assert_true(atomic_load(&a.peak) < (size_t)16 << 20);
    const ps_tensor *w = ps_graph_find(g, "w")->constant;
    assert_int_equal(w->bytes, HUGE_BYTES);
    assert_int_equal(((const uint8_t *)w->data)[HUGE_BYTES - 1], 7);
    ps_graph_free(g);
    assert_int_equal(atomic_load(&a.bytes), 0);
    write_sparse(weights, HUGE_BYTES - 1, "\x07", 1);
    assert_int_equal(ps_onnx_load_file(&a, path, &g, NULL, &err), PS_FORMAT);
    assert_non_null(strstr(err.msg, "2147487744 at offset 0 are needed"));

    /* A pipe nobody writes to, where the weights should be: refused, not waited for. */
    assert_int_equal(unlink(weights), 0);
    assert_int_equal(mkfifo(weights, 0600), 0);
    assert_int_equal(ps_onnx_load_file(&a, path, &g, NULL, &err), PS_IO);
    assert_non_null(strstr(err.msg, "not a regular file"));
    assert_int_equal(unlink(weights), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void limited(const char *name, ps_onnx_limits limits, const char *part) {
    char path[512];
    ps_error err = PS_ERROR_INIT;
    ps_alloc_state a;
    ps_graph *g = NULL;
    ps_snprintf(path, sizeof path, "%s/onnx/good/%s.onnx", PS_TEST_DATA, name);
    ps_alloc_state_init(&a, NULL);
    ps_onnx_source from = { .path = path, .limits = limits };
    assert_int_equal(ps_onnx_load(&a, &from, &g, NULL, &err), part ? PS_LIMIT : PS_OK);
    if (part && !strstr(err.msg, part)) fail_msg("'%s' does not say '%s'", err.msg, part);
    ps_graph_free(g);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_limits(void **state) {
    limited("basic", (ps_onnx_limits) { .nodes = 2 }, NULL);
    limited("basic", (ps_onnx_limits) { .nodes = 1 }, "more than 1 nodes");
    limited("basic", (ps_onnx_limits) { .tensor_bytes = 48, .total_bytes = 60 }, NULL);
    limited("basic", (ps_onnx_limits) { .tensor_bytes = 47 }, "initializer 'w': 48 bytes exceed the limit of 47");
    limited("basic", (ps_onnx_limits) { .total_bytes = 59 }, "exceed the limit of 59 bytes for all tensors");
    limited("if", (ps_onnx_limits) { .depth = 1 }, "subgraphs nest deeper than 1 levels");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basic),
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_if),
        cmocka_unit_test(test_loop),
        cmocka_unit_test(test_unsorted),
        cmocka_unit_test(test_ir3),
        cmocka_unit_test(test_dims),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_optional),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_external),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_text_with_nul),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_more_than_protobuf_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
