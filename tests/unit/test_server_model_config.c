/* config.pbtxt and config.json: what is read, what is named as unsupported, what is refused and why. The oracle is the
 * message ModelConfig of Triton's model_config.proto, written by hand in both forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/model_config.h"
#include "test_alloc_fail.h"

static const char full_text[] =
    "# a comment\n"
    "name: \"m\" platform: 'onnxruntime' \"_onnx\"; max_batch_size: 8,\n"
    "input [ { name: \"x\" data_type: TYPE_FP32 dims: [ 4, -1 ] }, { name: \"ids\" data_type: TYPE_INT64 dims: 2 dims: "
    "3 } ]\n"
    "output < name: \"y\" data_type: TYPE_STRING dims: - 1 >\n"
    "version_policy: { specific { versions: [ 1, 3 ] } }\n"
    "dynamic_batching { preferred_batch_size: [ 8, 4, 8 ] max_queue_delay_microseconds: 100\n"
    "  default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 5000 max_queue_size: 16 } }\n"
    "instance_group [ { count: 2 kind: KIND_CPU } ]\n"
    "sequence_batching { max_sequence_idle_microseconds: 1500000\n"
    "  state [ { input_name: \"s\" output_name: \"t\" data_type: TYPE_FP32 dims: [ 2, 128 ] } ] }\n"
    "model_warmup [ { name: \"w\" batch_size: 2 count: 3\n"
    "  inputs { key: \"x\" value { data_type: TYPE_FP32 dims: 4 dims: 5 random_data: true } }\n"
    "  inputs { key: \"ids\" value { data_type: TYPE_INT64 dims: [ 2, 3 ] input_data_file: \"ids.bin\" } } } ]\n"
    "parameters { key: \"pinned\" value { string_value: \"tr\\165e\" } }\n";

static const char full_json[] =
    "{\"name\":\"m\",\"platform\":\"onnxruntime_onnx\",\"max_batch_size\":8,\"input\":[{\"name\":\"x\","
    "\"data_type\":\"TYPE_FP32\",\"dims\":[\"4\",\"-1\"]},{\"name\":\"ids\",\"data_type\":\"TYPE_INT64\",\"dims\":[2,3]"
    "}],"
    "\"output\":[{\"name\":\"y\",\"data_type\":\"TYPE_STRING\",\"dims\":[-1]}],"
    "\"version_policy\":{\"specific\":{\"versions\":[\"1\",3]}},"
    "\"dynamic_batching\":{\"preferred_batch_size\":[8,4,8,4],\"max_queue_delay_microseconds\":\"100\","
    "\"default_queue_policy\":{\"timeout_action\":\"REJECT\",\"default_timeout_microseconds\":5000,\"max_queue_size\":"
    "16}},"
    "\"instance_group\":[{\"count\":2,\"kind\":\"KIND_CPU\"}],"
    "\"sequence_batching\":{\"max_sequence_idle_microseconds\":1500000,"
    "\"state\":[{\"input_name\":\"s\",\"output_name\":\"t\",\"data_type\":\"TYPE_FP32\",\"dims\":[2,128]}]},"
    "\"model_warmup\":[{\"name\":\"w\",\"batch_size\":2,\"count\":3,\"inputs\":{"
    "\"x\":{\"data_type\":\"TYPE_FP32\",\"dims\":[4,5],\"random_data\":true},"
    "\"ids\":{\"data_type\":\"TYPE_INT64\",\"dims\":[2,3],\"input_data_file\":\"ids.bin\"}}}],"
    "\"parameters\":{\"pinned\":{\"string_value\":\"true\"}}}";

typedef struct reading {
    ps_alloc_state alloc;
    ps_arena arena;
    ps_model_config config;
    ps_error err;
} reading;

static ps_status read_config(reading *r, const char *text, bool json) {
    ps_alloc_state_init(&r->alloc, NULL);
    ps_arena_init(&r->arena, &r->alloc);
    r->err = (ps_error)PS_ERROR_INIT;
    return ps_model_config_read(text, strlen(text), json, &r->arena, &r->config, &r->err);
}

static void release(reading *r) {
    ps_arena_release(&r->arena);
    assert_int_equal(r->alloc.bytes, 0);
}

static void check_tensor(const ps_config_tensor *t, const char *name, ps_dtype dtype, int rank, int64_t a, int64_t b) {
    assert_string_equal(t->name, name);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->shape.rank, rank);
    assert_int_equal(t->shape.dims[0], a);
    if (rank > 1) assert_int_equal(t->shape.dims[1], b);
}

static void check_warmup(const ps_warmup *w) {
    assert_string_equal(w->name, "w");
    assert_int_equal(w->batch, 2);
    assert_int_equal(w->count, 3);
    assert_int_equal(w->n_inputs, 2);
    assert_string_equal(w->inputs[0].name, "x");
    assert_int_equal(w->inputs[0].data, PS_WARMUP_RANDOM);
    assert_int_equal(w->inputs[1].shape.rank, 2);
    assert_int_equal(w->inputs[1].data, PS_WARMUP_FILE);
    assert_string_equal(w->inputs[1].file, "ids.bin");
}

static void check_full(const char *text, bool json) {
    reading r;
    const ps_model_config *c = &r.config;
    const char *states;
    if (read_config(&r, text, json) != PS_OK) fail_msg("%s", r.err.msg);
    assert_string_equal(c->name, "m");
    assert_true(c->has_max_batch && c->max_batch == 8);
    assert_int_equal(c->n_inputs, 2);
    assert_int_equal(c->n_outputs, 1);
    check_tensor(&c->inputs[0], "x", PS_DTYPE_F32, 2, 4, -1);
    check_tensor(&c->inputs[1], "ids", PS_DTYPE_I64, 2, 2, 3);
    check_tensor(&c->outputs[0], "y", PS_DTYPE_STRING, 1, -1, 0);
    assert_int_equal(c->policy, PS_VERSIONS_SPECIFIC);
    assert_int_equal(c->n_versions, 2);
    assert_true(c->versions[0] == 1 && c->versions[1] == 3);
    assert_true(c->knobs.preferred[0] == 4 && c->knobs.preferred[1] == 8 && c->knobs.preferred[2] == 0);
    assert_int_equal(c->knobs.delay_ns, 100000);
    assert_int_equal(c->timeout_us, 5000);
    assert_int_equal(c->queue_size, 16);
    assert_int_equal(c->n_warmups, 1);
    check_warmup(&c->warmups[0]);
    assert_string_equal(ps_model_config_parameter(c, "pinned"), "true");
    assert_null(ps_model_config_parameter(c, "other"));
    assert_int_equal(c->n_unsupported, 0);
    assert_int_equal(ps_model_config_states(c, &r.arena, &states, &r.err), PS_OK);
    assert_string_equal(states,
                        "{\"states\":[{\"input\":\"s\",\"output\":\"t\",\"shape\":[2,128]}],\"idle_seconds\":2}");
    release(&r);
}

static void test_both_forms(void **state) {
    check_full(full_text, false);
    check_full(full_json, true);
}

static void test_empty(void **state) {
    static const char *const texts[] = { "", "# nothing\n", "version_policy { }", "version_policy { latest { } }" };
    reading r;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(read_config(&r, texts[i], false), PS_OK);
        assert_true(r.config.policy == PS_VERSIONS_LATEST && r.config.latest == 1 && !r.config.has_max_batch);
        release(&r);
    }
    assert_int_equal(read_config(&r, "{}", true), PS_OK);
    assert_int_equal(r.config.n_unsupported, 0);
    release(&r);
}

/* Each is named once, with the messages it lies in. */
static void test_unsupported(void **state) {
    static const char text[] =
        "optimization { cuda { graphs: 1 } } response_cache { enable: true }\n"
        "dynamic_batching { priority_levels: 2 priority_queue_policy { key: 1 value { } } }\n"
        "input { name: \"a\" reshape { shape: [ ] } } input { name: \"b\" reshape { shape: [ ] } }\n"
        "instance_group { profile: \"p\" } instance_group { profile: \"q\" } optimization { }\n";
    static const char *const names[] = { "optimization",
                                         "response_cache",
                                         "dynamic_batching.priority_levels",
                                         "dynamic_batching.priority_queue_policy",
                                         "input.reshape",
                                         "instance_group.profile" };
    reading r;
    assert_int_equal(read_config(&r, text, false), PS_OK);
    assert_int_equal(r.config.n_unsupported, sizeof names / sizeof *names);
    for (size_t i = 0; i < r.config.n_unsupported; i++)
        assert_string_equal(r.config.unsupported[i], names[i]);
    release(&r);
    assert_int_equal(read_config(&r, "{\"architectures\":[\"BertModel\"],\"vocab_size\":30522}", true), PS_OK);
    assert_int_equal(r.config.n_unsupported, 1); /* of another tool, and one line in the log is enough */
    release(&r);
}

/* Groups add up; KIND_AUTO, and how many instances there are, say nothing of the place. */
static void test_instances(void **state) {
    static const struct {
        const char *text;
        bool cpu, gpu;
        uint32_t gpus;
    } cases[] = {
        { "instance_group { count: 2 } instance_group { kind: KIND_AUTO }", false, false, 0 },
        { "instance_group { kind: KIND_GPU gpus: [ 0, 31 ] } instance_group { gpus: 2 kind: KIND_GPU }", false, false,
          UINT32_C(0x80000005) },
        { "instance_group { kind: KIND_GPU } instance_group { kind: KIND_CPU name: \"host\" }", true, true, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        reading r;
        assert_int_equal(read_config(&r, cases[i].text, false), PS_OK);
        const ps_config_devices *d = &r.config.devices;
        assert_true(d->cpu == cases[i].cpu && d->gpu == cases[i].gpu && d->gpus == cases[i].gpus);
        assert_int_equal(r.config.n_unsupported, 0);
        release(&r);
    }
}

static void test_refused(void **state) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        { "instance_group { kind: KIND_CPU gpus: 0 }", "line 1: an instance group of KIND_CPU names gpus" },
        { "instance_group { gpus: [ 32 ] }", "line 1: 'gpus' is '32', not a whole number from 0 to 31" },
        { "platform: \"ensemble\"", "line 1: ensembles are not supported" },
        { "\n\nensemble_scheduling { }", "line 3: ensembles are not supported" },
        { "platform: \"tensorrt_plan\"", "platform 'tensorrt_plan' is not supported" },
        { "max_batch_size: -1", "'max_batch_size' is '-1', not a whole number from 0" },
        { "max_batch_size: \"many\"", "'many'" },
        { "max_batch_size { }", "is a message, not a value" },
        { "max_batch_size: 1 max_batch_size: 2", "more than 1 of 'max_batch_size'" },
        { "input { dims: 1 }", "has no name" },
        { "input { name: \"x\" data_type: TYPE_FP33 }", "'TYPE_FP33', not a type" },
        { "input { name: \"x\" data_type: FP32 }", "'FP32', not a type" },
        { "input { name: \"x\" dims: [ 1, 2, 3, 4, 5, 6, 7, 8, 9 ] }", "more than 8 dims" },
        { "input { name: \"x\" dims: -2 }", "'dims' is '-2'" },
        { "version_policy { latest { } all { } }", "two policies" },
        { "version_policy { specific { } }", "names no version" },
        { "version_policy { latest { num_versions: 0 } }", "from 1" },
        { "default_model_filename: \"../x\"", "not the name of a file" },
        { "sequence_batching { state { input_name: \"s\" } }", "no output_name" },
        { "model_warmup { inputs { key: \"x\" value { dims: 1 } } }", "no data_type" },
        { "model_warmup { inputs { key: \"x\" } }", "no value" },
        { "model_warmup { inputs { key: \"x\" value { data_type: TYPE_FP32 input_data_file: \"/etc/passwd\" } } }",
          "not the name of a file in the folder 'warmup'" },
        { "name: \"a\\0b\"", "NUL byte" },
        { "name: \"no end", "a string has no end" },
        { "name: \"no\nend\"", "a string has no end" },
        { "name: \"\\q\"", "escape that is not known" },
        { "name", "the text ends where ':' or '{' should be" },
        { "name \"x\"", "expected ':' or '{', found '\"'" },
        { "input [ { name: \"x\" } ", "the text ends where ',' or ']' should be" },
        { "input { name: \"x\" ", "the text ends where the name of a field should be" },
        { "[ext]: 1", "expected the name of a field, found '['" },
        { "max_batch_size: }", "expected a value, found '}'" },
    };
    reading r;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_not_equal(read_config(&r, cases[i].text, false), PS_OK);
        if (!strstr(r.err.msg, cases[i].part)) fail_msg("'%s' does not say '%s'", r.err.msg, cases[i].part);
        release(&r);
    }
    assert_int_not_equal(read_config(&r, "{\"input\":[[1]]}", true), PS_OK);
    assert_non_null(strstr(r.err.msg, "a list in a list"));
    release(&r);
}

/* Nesting, counts and size are limited in both forms. */
static void test_limits(void **state) {
    enum { ROOM = 3 << 20 };
    char *text = malloc(ROOM);
    reading r;
    assert_non_null(text);
    for (int json = 0; json < 2; json++) {
        size_t n = json ? (size_t)snprintf(text, ROOM, "{\"a\":") : 0;
        for (int i = 0; i < 100; i++)
            n += (size_t)snprintf(text + n, ROOM - n, json ? "{\"a\":" : "a {");
        assert_int_not_equal(read_config(&r, text, json), PS_OK);
        assert_non_null(strstr(r.err.msg, "nested deeper"));
        release(&r);
    }
    size_t n = (size_t)snprintf(text, ROOM, "input [ ");
    for (int i = 0; i < 2000; i++)
        n += (size_t)snprintf(text + n, ROOM - n, "%s{ name: \"x\" }", i ? ", " : "");
    snprintf(text + n, ROOM - n, " ]");
    assert_int_equal(read_config(&r, text, false), PS_LIMIT);
    assert_non_null(strstr(r.err.msg, "more than 1024 of 'input'"));
    release(&r);
    n = 0;
    for (int i = 0; i < 70000; i++)
        n += (size_t)snprintf(text + n, ROOM - n, "a:1 ");
    assert_int_equal(read_config(&r, text, false), PS_LIMIT);
    assert_non_null(strstr(r.err.msg, "more than 65536 values"));
    release(&r);
    memset(text, ' ', ROOM - 1);
    text[ROOM - 1] = '\0';
    assert_int_equal(read_config(&r, text, false), PS_LIMIT);
    release(&r);
    free(text);
}

/* ---- beside the model ---- */

static const ps_value_info inputs[] = { { .name = "x", .dtype = PS_DTYPE_F32, .shape = { 2, { -2, 4 } } },
                                        { .name = "s", .dtype = PS_DTYPE_STRING, .shape = { 1, { 3 } } } },
                           outputs[] = { { .name = "y", .dtype = PS_DTYPE_I64, .shape = { .rank = -1 } } };

static ps_status check_against(const char *text, ps_error *err) {
    reading r;
    assert_int_equal(read_config(&r, text, false), PS_OK);
    *err = (ps_error)PS_ERROR_INIT;
    ps_status status = ps_model_config_check(&r.config, inputs, 2, outputs, 1, err);
    release(&r);
    return status;
}

static void test_beside_the_model(void **state) {
    static const char *const good[] = {
        "",
        "input { name: \"x\" dims: [ -1, 4 ] } output { name: \"y\" data_type: TYPE_INT64 dims: 99 }",
        "max_batch_size: 4 input { name: \"x\" data_type: TYPE_FP32 dims: 4 }",
        "input { name: \"s\" data_type: TYPE_STRING dims: 3 }",
        "input { name: \"x\" dims: 7 dims: 4 }",
        "input { name: \"x\" dims: 9 reshape { shape: [ 4 ] } }"
    };
    static const struct {
        const char *text, *part;
    } bad[] = {
        { "input { name: \"z\" }", "the model has no input 'z'" },
        { "output { name: \"x\" }", "the model has no output 'x'" },
        { "input { name: \"x\" data_type: TYPE_INT8 }", "input 'x' is TYPE_INT8, the model's is TYPE_FP32" },
        { "output { name: \"y\" data_type: TYPE_STRING }", "output 'y' is TYPE_STRING, the model's is TYPE_INT64" },
        { "input { name: \"x\" dims: 4 }", "input 'x' has 1 dims, the model's has 2" },
        { "max_batch_size: 4 input { name: \"x\" dims: [ -1, 4 ] }", "2 dims and the batch's" },
        { "input { name: \"x\" dims: [ -1, 5 ] }", "has 5 in dim 1, the model's has 4" },
    };
    ps_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (check_against(good[i], &err) != PS_OK) fail_msg("%s", err.msg);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_not_equal(check_against(bad[i].text, &err), PS_OK);
        if (!strstr(err.msg, bad[i].part)) fail_msg("'%s' does not say '%s'", err.msg, bad[i].part);
    }
}

/* ---- out of memory ---- */

static ps_status use_config(ps_alloc_state *a, void *ctx) {
    ps_arena arena;
    ps_model_config config;
    const char *text = ctx, *states;
    ps_arena_init(&arena, a);
    ps_status status = ps_model_config_read(text, strlen(text), *text == '{', &arena, &config, NULL);
    if (status == PS_OK) status = ps_model_config_states(&config, &arena, &states, NULL);
    ps_arena_release(&arena);
    return status;
}

static void test_out_of_memory(void **state) {
    assert_true(ps_test_sweep(use_config, (void *)(uintptr_t)full_text) > 3);
    assert_true(ps_test_sweep(use_config, (void *)(uintptr_t)full_json) > 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_forms),       cmocka_unit_test(test_empty),
        cmocka_unit_test(test_unsupported),      cmocka_unit_test(test_instances),
        cmocka_unit_test(test_refused),          cmocka_unit_test(test_limits),
        cmocka_unit_test(test_beside_the_model), cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("server_model_config", tests, NULL, NULL);
}
