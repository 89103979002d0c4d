/* The walk that cuts weights out of a model: what it takes, what it leaves, and that it alone bounds depth and size. */
#include "onnx/onnx_int.h"
#include "base/wire.h"
#include "onnx_files.h"

enum { WEIGHT = 1 << 20 };

/* Appends field `number` with the bytes of `content`, which is emptied. */
static void wrap(ps_str *out, uint32_t number, ps_str *content) {
    size_t size = ps_wire_len_size(number, content->size);
    assert_true(ps_str_reserve(out, size));
    ps_wire_put_len((uint8_t *)out->data + out->size, number, content->data, content->size);
    out->size += size;
    ps_str_clear(content);
}

/* A tensor of 1 MiB under ModelProto.graph.initializer, then graph.name. */
static void large_model(ps_alloc_state *a, ps_str *model) {
    ps_str tensor, weight, graph;
    ps_str_init(&tensor, a);
    ps_str_init(&weight, a);
    ps_str_init(&graph, a);
    ps_str_init(model, a);
    assert_true(ps_str_reserve(&weight, WEIGHT));
    memset(weight.data, 'w', WEIGHT);
    weight.size = WEIGHT;
    ps_str_append_n(&tensor, "\x08\x80\x80\x40\x10\x02", 6); /* u8 [1048576] */
    wrap(&tensor, 9, &weight);
    wrap(&graph, 5, &tensor);
    ps_str_append_n(&graph, "\x12\x01g", 3);
    ps_str_append_n(model, "\x08\x08", 2);
    wrap(model, 7, &graph);
    ps_str_release(&tensor);
    ps_str_release(&weight);
    ps_str_release(&graph);
}

static void test_weight_stays_in_the_file(void **state) {
    ps_alloc_state a;
    ps_str model;
    ps_onnx_proto proto;
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t;
    ps_alloc_state_init(&a, NULL);
    large_model(&a, &model);
    size_t before = atomic_load(&a.bytes);
    atomic_store(&a.peak, before);
    const ProtobufCMessageDescriptor *kind = &onnx__model_proto__descriptor;
    if (ps_onnx_proto_open_memory(&a, kind, model.data, model.size, &proto, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_true(atomic_load(&a.peak) - before < 16384);
    assert_int_equal(proto.cut.n_spans, 1);
    assert_true(proto.cut.spans[0].size > WEIGHT && proto.cut.spans[0].size < WEIGHT + 32);

    const Onnx__ModelProto *m = (const Onnx__ModelProto *)proto.message;
    assert_int_equal(m->ir_version, 8);
    assert_string_equal(m->graph->name, "g");
    assert_true(m->graph->initializer[0]->raw_data.len < 8);
    if (ps_onnx_tensor_decode(&proto, NULL, m->graph->initializer[0], "t", &t, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_int_equal(t->bytes, WEIGHT);
    assert_int_equal(((const char *)t->data)[WEIGHT - 1], 'w');
    ps_tensor_release(t);
    ps_onnx_proto_close(&proto);
    ps_str_release(&model);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

/* A sequence type of a sequence type …: four bytes a level at first, and protobuf-c would recurse for each. */
static ps_status cut_nested(ps_alloc_state *a, int levels, ps_error *err) {
    ps_str inner, outer;
    ps_onnx_cut cut;
    ps_str_init(&inner, a);
    ps_str_init(&outer, a);
    for (int i = 0; i < levels; i++) { /* TypeProto.sequence_type (4) and Sequence.elem_type (1) in turn */
        wrap(&outer, i % 2 ? 4 : 1, &inner);
        ps_str_append_n(&inner, outer.data, outer.size);
        ps_str_clear(&outer);
    }
    ps_status status = ps_onnx_cut_message(a, &onnx__type_proto__descriptor, inner.data, inner.size, &cut, err);
    if (status == PS_OK) ps_onnx_cut_release(a, &cut);
    ps_str_release(&inner);
    ps_str_release(&outer);
    return status;
}

static void test_depth(void **state) {
    ps_alloc_state a;
    ps_error err = PS_ERROR_INIT;
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(cut_nested(&a, PS_ONNX_MAX_MESSAGE_DEPTH - 2, &err), PS_OK);
    assert_int_equal(cut_nested(&a, PS_ONNX_MAX_MESSAGE_DEPTH + 10, &err), PS_LIMIT);
    assert_non_null(strstr(err.msg, "nest deeper than 250 levels"));
    assert_int_equal(cut_nested(&a, 2000, &err), PS_LIMIT);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

/* Two bytes each in the file, a pointer and a string each once unpacked. */
static void test_field_count(void **state) {
    ps_alloc_state a;
    ps_error err = PS_ERROR_INIT;
    ps_onnx_cut cut;
    size_t size = 2 * (PS_ONNX_MAX_FIELDS + 1);
    ps_alloc_state_init(&a, NULL);
    uint8_t *data = malloc(size);
    for (size_t i = 0; i < size; i += 2) {
        data[i] = 0x0a; /* NodeProto.input */
        data[i + 1] = 0;
    }
    assert_int_equal(ps_onnx_cut_message(&a, &onnx__node_proto__descriptor, data, size, &cut, &err), PS_LIMIT);
    assert_non_null(strstr(err.msg, "fields outside of weights"));
    assert_int_equal(ps_onnx_cut_message(&a, &onnx__node_proto__descriptor, data, size - 2, &cut, &err), PS_OK);
    ps_onnx_cut_release(&a, &cut);
    free(data);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weight_stays_in_the_file),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_field_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
