/* Bodies written by hand against what the v2 specification and the binary tensor extension say. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/http/infer_json.h"
#include "server/json_reader.h"
#include "server/json_text.h"

static ps_alloc_state alloc;

static ps_status read_body(ps_infer *infer, const void *body, size_t size, size_t json_size, ps_error *err) {
    *infer = (ps_infer) { .id = "", .sequence_id = "" };
    ps_arena_init(&infer->arena, &alloc);
    return ps_infer_json_read(infer, body, size, json_size, err);
}

static void read_ok(ps_infer *infer, const char *json) {
    ps_error err = PS_ERROR_INIT;
    if (read_body(infer, json, strlen(json), strlen(json), &err) != PS_OK) fail_msg("%s\nrefused: %s", json, err.msg);
}

static void done(ps_infer *infer) {
    ps_arena_release(&infer->arena);
    assert_int_equal(alloc.bytes, 0);
}

static void check_refused(const char *json, ps_status want, const char *part) {
    ps_infer infer;
    ps_error err = PS_ERROR_INIT;
    size_t size = strlen(json);
    char *exact = malloc(size ? size : 1); /* so that a sanitizer sees any step beyond the end */
    memcpy(exact, json, size);
    ps_status status = read_body(&infer, exact, size, size, &err);
    if (status != want || !strstr(err.msg, part))
        fail_msg("%s\n%s (%s), expected %s with '%s'", json, ps_status_name(status), err.msg, ps_status_name(want),
                 part);
    free(exact);
    done(&infer);
}

#define INPUT(members) "{\"inputs\":[{\"name\":\"x\"," members "}]}"

static void test_forms_of_data(void **state) {
    static const char *const bodies[] = {
        INPUT("\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":[1,2,3,4,5,6]"),
        INPUT("\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":[[1,2,3],[4,5,6]]"),
        INPUT("\"data\":[[1,2,3],[4,5,6]],\"shape\":[2,3],\"datatype\":\"FP32\""),
        " { \"inputs\" : [ { \"data\" : [ 1 , 2e0 , 3.0 , 4\n,5,\t6 ] , \"datatype\" : \"FP32\" , \"name\" : "
        "\"\\u0078\" , "
        "\"shape\" : [ 2 , 3 ] } ] , \"unknown\" : [ { } , null , true ] } ",
    };
    static const float want[] = { 1, 2, 3, 4, 5, 6 };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        ps_infer infer;
        read_ok(&infer, bodies[i]);
        assert_int_equal(infer.n_inputs, 1);
        assert_string_equal(infer.inputs[0].name, "x");
        assert_int_equal(infer.inputs[0].shape.rank, 2);
        assert_int_equal(infer.inputs[0].elements, 6);
        assert_memory_equal(infer.inputs[0].data, want, sizeof want);
        done(&infer);
    }
}

static void test_element_types(void **state) {
    ps_infer infer;
    read_ok(&infer,
            INPUT("\"shape\":[3],\"datatype\":\"INT64\",\"data\":[9223372036854775807,-9223372036854775808,0]"));
    assert_true(((const int64_t *)infer.inputs[0].data)[0] == INT64_MAX);
    assert_true(((const int64_t *)infer.inputs[0].data)[1] == INT64_MIN);
    done(&infer);
    read_ok(&infer, INPUT("\"shape\":[1],\"datatype\":\"UINT64\",\"data\":[18446744073709551615]"));
    assert_true(((const uint64_t *)infer.inputs[0].data)[0] == UINT64_MAX);
    done(&infer);
    read_ok(&infer, INPUT("\"shape\":[4],\"datatype\":\"BOOL\",\"data\":[true,false,1,0]"));
    assert_memory_equal(infer.inputs[0].data, "\1\0\1\0", 4);
    done(&infer);
    read_ok(&infer, INPUT("\"shape\":[3],\"datatype\":\"FP64\",\"data\":[\"NaN\",\"Infinity\",\"-Infinity\"]"));
    const double *d = infer.inputs[0].data;
    assert_true(isnan(d[0]) && d[1] == INFINITY && d[2] == -INFINITY);
    done(&infer);
    read_ok(&infer, INPUT("\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"a\\u00e9\\ud83d\\ude00\",\"\"]"));
    const ps_string *s = infer.inputs[0].data;
    assert_int_equal(s[0].size, 7);
    assert_memory_equal(s[0].data, "a\xc3\xa9\xf0\x9f\x98\x80", 7);
    assert_int_equal(s[1].size, 0);
    done(&infer);
    read_ok(&infer, INPUT("\"shape\":[0,3],\"datatype\":\"INT8\",\"data\":[]"));
    assert_int_equal(infer.inputs[0].elements, 0);
    done(&infer);
    read_ok(&infer, INPUT("\"shape\":[],\"datatype\":\"INT8\",\"data\":[-128]"));
    assert_int_equal(infer.inputs[0].elements, 1);
    done(&infer);
}

static void test_request_members(void **state) {
    ps_infer infer;
    read_ok(
        &infer,
        "{\"id\":\"q\\n1\",\"parameters\":{\"binary_data_output\":true,\"priority\":2},\"outputs\":[{\"name\":\"a\"},"
        "{\"name\":\"b\",\"parameters\":{\"binary_data\":false}},"
        "{\"name\":\"c\",\"parameters\":{\"classification\":3}}],\"inputs\":[]}");
    assert_string_equal(infer.id, "q\n1");
    assert_int_equal(infer.n_inputs, 0);
    assert_int_equal(infer.n_wants, 3);
    assert_true(infer.wants[0].binary);
    assert_false(infer.wants[1].binary);
    assert_int_equal(infer.wants[2].classes, 3);
    done(&infer);
}

/* JSON, then raw tensors in the order of the inputs. */
static size_t compose(char *body, const char *json, const void *tail, size_t tail_size) {
    memcpy(body, json, strlen(json));
    memcpy(body + strlen(json), tail, tail_size);
    return strlen(json) + tail_size;
}

static void test_raw_tensors(void **state) {
    static const char json[] =
        "{\"inputs\":[{\"name\":\"b\",\"shape\":[2],\"datatype\":\"BYTES\",\"parameters\":{"
        "\"binary_data_size\":13}},{\"name\":\"j\",\"shape\":[1],\"datatype\":\"UINT8\",\"data\":[7]},"
        "{\"name\":\"i\",\"shape\":[2],\"datatype\":\"INT32\",\"parameters\":{\"binary_data_size\":8}}]}";
    static const char tail[] = "\2\0\0\0ab\3\0\0\0c\xc3\xa9\1\0\0\0\xff\xff\xff\xff";
    char *body = malloc(sizeof json + sizeof tail);
    ps_infer infer;
    ps_error err = PS_ERROR_INIT;
    size_t size = compose(body, json, tail, sizeof tail - 1);
    assert_int_equal(read_body(&infer, body, size, strlen(json), &err), PS_OK);
    const ps_string *s = infer.inputs[0].data;
    assert_int_equal(s[1].size, 3);
    assert_memory_equal(s[1].data, "c\xc3\xa9", 3);
    assert_int_equal(((const int32_t *)infer.inputs[2].data)[0], 1);
    assert_int_equal(((const int32_t *)infer.inputs[2].data)[1], -1);
    done(&infer);
    for (size_t cut = strlen(json); cut < size; cut++) { /* every shorter body is refused */
        assert_int_not_equal(read_body(&infer, body, cut, strlen(json), &err), PS_OK);
        done(&infer);
    }
    body[size] = 'x';
    assert_int_equal(read_body(&infer, body, size + 1, strlen(json), &err), PS_INVALID);
    assert_non_null(strstr(err.msg, "1 bytes follow"));
    done(&infer);
    free(body);
}

static void test_raw_in_place(void **state) {
    static const char json[] = INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":8}");
    _Alignas(16) char block[256];
    float values[] = { 1.5f, -2 };
    ps_infer infer;
    ps_error err = PS_ERROR_INIT;
    for (size_t shift = 0; shift < 4; shift++) {
        char *body = block + (16 - strlen(json) % 16) + shift;
        size_t size = compose(body, json, values, sizeof values);
        assert_int_equal(read_body(&infer, body, size, strlen(json), &err), PS_OK);
        assert_memory_equal(infer.inputs[0].data, values, sizeof values);
        assert_true((infer.inputs[0].data == body + strlen(json)) == (shift == 0));
        assert_true((uintptr_t)infer.inputs[0].data % 4 == 0);
        done(&infer);
    }
}

static void test_refusals(void **state) {
    static const struct {
        const char *json;
        ps_status status;
        const char *part;
    } cases[] = {
        { "", PS_FORMAT, "object" },
        { "[]", PS_FORMAT, "object" },
        { "{", PS_FORMAT, "string" },
        { "{\"inputs\":[]} x", PS_FORMAT, "behind the end" },
        { "{\"inputs\":[],}", PS_FORMAT, "string" },
        { "{\"inputs\":[] \"id\":\"\"}", PS_FORMAT, "','" },
        { "{'inputs':[]}", PS_FORMAT, "string" },
        { "{}", PS_INVALID, "inputs" },
        { "{\"inputs\":{}}", PS_FORMAT, "array" },
        { "{\"inputs\":[],\"inputs\":[]}", PS_FORMAT, "twice" },
        { "{\"id\":7,\"inputs\":[]}", PS_FORMAT, "string" },
        { "{\"id\":\"a\\u0000b\",\"inputs\":[]}", PS_FORMAT, "NUL" },
        { "{\"id\":\"\xff\",\"inputs\":[]}", PS_FORMAT, "UTF-8" },
        { "{\"id\":\"\\ud800\",\"inputs\":[]}", PS_FORMAT, "escape" },
        { "{\"id\":\"\\x\",\"inputs\":[]}", PS_FORMAT, "escape" },
        { "{\"id\":\"a\nb\",\"inputs\":[]}", PS_FORMAT, "control" },
        { "{\"id\":\"a", PS_FORMAT, "without end" },
        { "{\"id\":\"a\\", PS_FORMAT, "without end" },
        { "{\"inputs\":[],\"x\":[01]}", PS_FORMAT, "value" },
        { "{\"inputs\":[],\"x\":nul}", PS_FORMAT, "value" },
        { "{\"inputs\":[{}]}", PS_INVALID, "name" },
        { INPUT("\"datatype\":\"FP32\",\"data\":[1]"), PS_INVALID, "shape" },
        { INPUT("\"shape\":[1],\"data\":[1]"), PS_INVALID, "datatype" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\""), PS_INVALID, "neither" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1],\"parameters\":{\"binary_data_size\":4}"), PS_INVALID,
          "both" },
        { INPUT("\"shape\":[1],\"datatype\":\"f32\",\"data\":[1]"), PS_TYPE, "f32" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP8\",\"data\":[1]"), PS_TYPE, "FP8" },
        { INPUT("\"shape\":[-1],\"datatype\":\"FP32\",\"data\":[1]"), PS_SHAPE, "negative" },
        { INPUT("\"shape\":[1.0],\"datatype\":\"FP32\",\"data\":[1]"), PS_FORMAT, "integer" },
        { INPUT("\"shape\":[1,1,1,1,1,1,1,1,1],\"datatype\":\"FP32\",\"data\":[1]"), PS_SHAPE, "dims" },
        { INPUT("\"shape\":[4294967296,4294967296],\"datatype\":\"FP32\",\"data\":[1]"), PS_SHAPE, "too many" },
        { INPUT("\"shape\":[1000000000000],\"datatype\":\"FP32\",\"data\":[1]"), PS_SHAPE, "fewer" },
        { INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1]"), PS_SHAPE, "has 1 elements" },
        { INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1,2,3]"), PS_SHAPE, "more elements" },
        { INPUT("\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[[1,2],[3]]"), PS_SHAPE, "row" },
        { INPUT("\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[[1,2,3],[4]]"), PS_SHAPE, "more elements" },
        { INPUT("\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[[1,2],[3,4],[5,6]]"), PS_SHAPE, "more than 2" },
        { INPUT("\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[[1,2]]"), PS_SHAPE, "1 items" },
        { INPUT("\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[[1,2],3,4]"), PS_FORMAT, "array" },
        { INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"data\":[[1],[2]]"), PS_FORMAT, "element 0" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[NaN]"), PS_FORMAT, "element 0" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[null]"), PS_FORMAT, "element 0" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[\"nan\"]"), PS_FORMAT, "element 0" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1e39]"), PS_FORMAT, "too large" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1 2]"), PS_FORMAT, "','" },
        { INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1,]"), PS_FORMAT, "element 1" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":1"), PS_FORMAT, "array" },
        { INPUT("\"shape\":[1],\"datatype\":\"INT32\",\"data\":[1.5]"), PS_FORMAT, "element 0 is no INT32" },
        { INPUT("\"shape\":[1],\"datatype\":\"INT8\",\"data\":[128]"), PS_FORMAT, "out of range" },
        { INPUT("\"shape\":[1],\"datatype\":\"UINT8\",\"data\":[-1]"), PS_FORMAT, "out of range" },
        { INPUT("\"shape\":[1],\"datatype\":\"BOOL\",\"data\":[2]"), PS_FORMAT, "no BOOL" },
        { INPUT("\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[1]"), PS_FORMAT, "no string" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP16\",\"data\":[1]"), PS_UNSUPPORTED, "binary_data_size" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":4}"), PS_INVALID,
          "only 0 bytes" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":-4}"), PS_INVALID,
          "negative" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":0}"), PS_SHAPE,
          "take 4 bytes" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":{\"shared_memory_region\":\"r\"}"), PS_INVALID,
          "no shared_memory_byte_size" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":{\"shared_memory_region\":\"r\","
                "\"shared_memory_byte_size\":4}"),
          PS_INVALID, "no shared memory region 'r'" },
        { INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1],\"parameters\":{\"shared_memory_region\":\"r\"}"),
          PS_INVALID, "in shared memory" },
        { "{\"inputs\":[],\"outputs\":[{}]}", PS_INVALID, "name" },
        { "{\"inputs\":[],\"outputs\":[{\"name\":\"a\",\"parameters\":{\"binary_data\":1}}]}", PS_FORMAT,
          "true or false" },
        { "{\"inputs\":[],\"outputs\":[{\"name\":\"a\",\"parameters\":{\"classification\":-1}}]}", PS_INVALID,
          "classification" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i].json, cases[i].status, cases[i].part);
}

static void test_nesting_limit(void **state) {
    enum { DEPTH = 100000 };
    static const char head[] = "{\"inputs\":[],\"x\":";
    char *deep = malloc(DEPTH + sizeof head);
    memcpy(deep, head, sizeof head);
    memset(deep + sizeof head - 1, '[', DEPTH);
    deep[sizeof head - 1 + DEPTH] = '\0';
    check_refused(deep, PS_FORMAT, "deeper");
    free(deep);
}

/* ---- replies ---- */

static void write_reply(ps_infer_tensor *results, ps_infer_want *wants, size_t n, ps_str *out, size_t *json_size) {
    ps_served served = { .name = "m\"1", .version = "3" };
    ps_infer infer = { .id = "7", .served = &served, .results = results, .wants = wants, .n_wants = n };
    ps_error err = PS_ERROR_INIT;
    ps_str_init(out, &alloc);
    if (ps_infer_json_write(&infer, out, json_size, &err) != PS_OK) fail_msg("%s", err.msg);
}

static void test_reply(void **state) {
    float f[] = { 1, 0.1f, NAN, -INFINITY };
    uint8_t b[] = { 1, 0 };
    ps_string s[] = { { "a\"\n\x01\xc3\xa9", 6 }, { "", 0 } };
    ps_infer_tensor results[] = {
        { "f", PS_DTYPE_F32, { 2, { 2, 2 } }, 4, f },
        { "b", PS_DTYPE_BOOL, { 1, { 2 } }, 2, b },
        { "s", PS_DTYPE_STRING, { 1, { 2 } }, 2, s },
    };
    ps_infer_want wants[] = { { .name = "f" }, { .name = "b" }, { .name = "s" } };
    ps_str out;
    size_t json_size;
    write_reply(results, wants, 3, &out, &json_size);
    assert_int_equal(json_size, 0);
    assert_string_equal(
        out.data,
        "{\"model_name\":\"m\\\"1\",\"model_version\":\"3\",\"id\":\"7\",\"outputs\":["
        "{\"name\":\"f\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[1.0,0.1,\"NaN\",\"-Infinity\"]},"
        "{\"name\":\"b\",\"datatype\":\"BOOL\",\"shape\":[2],\"data\":[true,false]},"
        "{\"name\":\"s\",\"datatype\":\"BYTES\",\"shape\":[2],\"data\":[\"a\\\"\\n\\u0001\xc3\xa9\",\"\"]}]}");
    ps_str_release(&out);
    wants[0].binary = wants[2].binary = true;
    write_reply(results, wants, 3, &out, &json_size);
    assert_int_equal(out.size - json_size, 16 + 4 + 6 + 4);
    assert_memory_equal(out.data + json_size, f, 16);
    assert_memory_equal(out.data + json_size + 16, "\6\0\0\0a\"\n\x01\xc3\xa9\0\0\0\0", 14);
    assert_non_null(strstr(out.data, "\"parameters\":{\"binary_data_size\":14}"));
    ps_str_release(&out);
    assert_int_equal(alloc.bytes, 0);
}

static void test_reply_without_json_form(void **state) {
    uint16_t half[] = { 0x3c00 };
    ps_string bad[] = { { "\xff", 1 } };
    ps_infer_tensor results[] = { { "h", PS_DTYPE_F16, { 1, { 1 } }, 1, half },
                                  { "s", PS_DTYPE_STRING, { 1, { 1 } }, 1, bad } };
    ps_served served = { .name = "m", .version = "1" };
    for (int i = 0; i < 2; i++) {
        ps_infer_want want = { .name = results[i].name };
        ps_infer infer = { .id = "", .served = &served, .results = &results[i], .wants = &want, .n_wants = 1 };
        ps_error err = PS_ERROR_INIT;
        ps_str out;
        size_t json_size;
        ps_str_init(&out, &alloc);
        assert_int_equal(ps_infer_json_write(&infer, &out, &json_size, &err), PS_INVALID);
        assert_non_null(strstr(err.msg, "binary_data"));
        ps_str_clear(&out);
        want.binary = true;
        assert_int_equal(ps_infer_json_write(&infer, &out, &json_size, &err), PS_OK);
        ps_str_release(&out);
    }
}

/* ---- out of memory at every allocation ---- */

typedef struct failing {
    long left; /* allocations that still succeed */
} failing;

static void *failing_alloc(void *ctx, size_t size, size_t align) {
    failing *f = ctx;
    void *block = NULL;
    if (f->left-- <= 0 || posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size ? size : 1) != 0)
        return NULL;
    return block;
}

static void failing_free(void *ctx, void *ptr, size_t size) {
    free(ptr);
}

static ps_status read_and_write(ps_alloc_state *a, ps_error *err) {
    static const char json[] =
        "{\"id\":\"\\u0041\",\"inputs\":[{\"name\":\"f\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1,2]},"
        "{\"name\":\"s\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"\\n\"]}],"
        "\"outputs\":[{\"name\":\"a\"},{\"name\":\"b\",\"parameters\":{\"binary_data\":true}}]}";
    ps_infer infer = { .id = "", .sequence_id = "" };
    ps_served served = { .name = "m", .version = "1" };
    ps_str out;
    size_t json_size;
    ps_arena_init(&infer.arena, a);
    ps_str_init(&out, a);
    ps_status status = ps_infer_json_read(&infer, json, sizeof json - 1, sizeof json - 1, err);
    if (status == PS_OK) {
        infer.served = &served;
        infer.results = infer.inputs;
        status = ps_infer_json_write(&infer, &out, &json_size, err);
    }
    ps_str_release(&out);
    ps_arena_release(&infer.arena);
    return status;
}

static void test_out_of_memory(void **state) {
    failing f = { 0 };
    ps_allocator user = { failing_alloc, failing_free, &f };
    ps_status status = PS_NO_MEMORY;
    for (long n = 0; status != PS_OK; n++) {
        ps_alloc_state a;
        ps_error err = PS_ERROR_INIT;
        assert_true(n < 1000);
        f.left = n;
        ps_alloc_state_init(&a, &user);
        status = read_and_write(&a, &err);
        assert_true(status == PS_OK || (status == PS_NO_MEMORY && err.msg[0]));
        assert_int_equal(a.bytes, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms_of_data),
        cmocka_unit_test(test_element_types),
        cmocka_unit_test(test_request_members),
        cmocka_unit_test(test_raw_tensors),
        cmocka_unit_test(test_raw_in_place),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_nesting_limit),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_reply_without_json_form),
        cmocka_unit_test(test_out_of_memory),
    };
    ps_alloc_state_init(&alloc, NULL);
    return cmocka_run_group_tests_name("server_infer_json", tests, NULL, NULL);
}
