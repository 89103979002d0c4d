/* TensorProtos of every element type, raw and typed, written by the onnx package: tests/data/onnx/tensors.txt has the
 * element type, dims and packed bytes of each. */
#include "onnx_files.h"
#include "test_alloc_fail.h"

static int digit(char c) {
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static size_t parse_hex(const char *hex, uint8_t *ret, size_t room) {
    size_t n = 0;
    for (; strcmp(hex, "-") != 0 && hex[0] && hex[1] && n < room; hex += 2) {
        ret[n++] = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
    }
    return n;
}

static ps_shape parse_dims(const char *text) {
    ps_shape s = { 0 };
    if (strcmp(text, "-") == 0) return s;
    for (char *end; *text; text = *end ? end + 1 : end)
        s.dims[s.rank++] = strtoll(text, &end, 10);
    return s;
}

/* The content as tensors.txt writes it: strings are each followed by '|'. */
static size_t content(const ps_tensor *t, uint8_t *ret) {
    if (t->dtype != PS_DTYPE_STRING) {
        if (t->bytes) memcpy(ret, t->data, t->bytes);
        return t->bytes;
    }
    const ps_string *s = t->data;
    size_t n = 0;
    for (size_t i = 0; i < ps_tensor_count(t); i++) {
        memcpy(ret + n, s[i].data, s[i].size);
        n += s[i].size;
        ret[n++] = '|';
    }
    return n;
}

static void check_tensor(ps_alloc_state *a, const char *file, int dtype, const char *dims, const char *hex) {
    char path[128];
    uint8_t expected[512], got[512];
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t;
    const char *name;
    void *written;
    size_t size, written_size;
    ps_snprintf(path, sizeof path, "tensors/%s", file);
    char *data = onnx_file(a, path, &size);
    if (ps_onnx_tensor_read(a, data, size, &t, &name, &err) != PS_OK) fail_msg("%s: %s", file, err.msg);
    ps_shape shape = parse_dims(dims);
    size_t n = parse_hex(hex, expected, sizeof expected);
    assert_string_equal(name, "t");
    assert_int_equal(t->dtype, dtype);
    assert_true(ps_shape_equal(&t->shape, &shape));
    if (content(t, got) != n || memcmp(got, expected, n) != 0) fail_msg("%s: wrong content", file);

    /* What we write is byte for byte what the onnx package wrote in the raw form. */
    assert_int_equal(ps_onnx_tensor_write(a, t, name, &written, &written_size, &err), PS_OK);
    if (strstr(file, "_raw") || dtype == PS_DTYPE_STRING) {
        assert_int_equal(written_size, size);
        assert_memory_equal(written, data, size);
    }
    ps_free(a, data);
    ps_free(a, written);
    ps_free(a, (void *)(uintptr_t)name);
    ps_tensor_release(t);
}

static void test_every_type(void **state) {
    ps_alloc_state a;
    size_t size;
    bool seen[PS_DTYPE_COUNT] = { false };
    ps_alloc_state_init(&a, NULL);
    char *list = onnx_file(&a, "tensors.txt", &size), *save = NULL;
    for (char *line = strtok_r(list, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char file[64], dims[32], hex[1024];
        int dtype;
        if (line[0] == '#') continue;
        assert_int_equal(sscanf(line, "%63s %d %31s %1023s", file, &dtype, dims, hex), 4);
        check_tensor(&a, file, dtype, dims, hex);
        seen[dtype] = true;
    }
    for (int i = 1; i < PS_DTYPE_COUNT; i++)
        assert_int_equal(seen[i], ps_dtype_valid(i));
    ps_free(&a, list);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void expect_refusal(const uint8_t *data, size_t size, ps_status status, const char *sentence) {
    ps_alloc_state a;
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t = NULL;
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(ps_onnx_tensor_read(&a, data, size, &t, NULL, &err), status);
    if (!strstr(err.msg, sentence)) fail_msg("'%s' does not say '%s'", err.msg, sentence);
    assert_null(t);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_refusals(void **state) {
    static const uint8_t no_type[] = { 0x08, 0x01 };
    static const uint8_t short_raw[] = { 0x08, 0x02, 0x10, 0x01, 0x4a, 0x01, 0x00 };
    static const uint8_t external[] = { 0x08, 0x01, 0x10, 0x01, 0x70, 0x01 };
    expect_refusal(NULL, 0, PS_FORMAT, "has no element type");
    expect_refusal(no_type, sizeof no_type, PS_FORMAT, "has no element type");
    expect_refusal(short_raw, sizeof short_raw, PS_FORMAT, "raw_data has 1 bytes, f32 [2] needs 8");
    expect_refusal(external, sizeof external, PS_UNSUPPORTED, "external data");
}

/* Typed fields need not be packed, and one may come in several parts, packed and not. */
static void test_unpacked(void **state) {
    static const uint8_t parts[] = { 0x08, 0x03, 0x10, 0x06, 0x28, 0x05, 0x2a, 0x01, 0x06, 0x2a, 0x00, 0x28, 0x07 };
    static const uint8_t floats[] = { 0x08, 0x02, 0x10, 0x01, 0x25, 0, 0, 0x80, 0x3f, 0x25, 0, 0, 0, 0x40 };
    ps_alloc_state a;
    ps_tensor *t;
    ps_error err = PS_ERROR_INIT;
    ps_alloc_state_init(&a, NULL);
    if (ps_onnx_tensor_read(&a, parts, sizeof parts, &t, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_memory_equal(t->data, ((const int32_t[]) { 5, 6, 7 }), 12);
    ps_tensor_release(t);
    if (ps_onnx_tensor_read(&a, floats, sizeof floats, &t, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_memory_equal(t->data, ((const float[]) { 1, 2 }), 8);
    ps_tensor_release(t);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

/* Bools are stored as 0 or 1 and unused bits as 0, whatever the file says: equal tensors compare equal. */
static void test_normal_form(void **state) {
    static const uint8_t bools[] = { 0x08, 0x03, 0x10, 0x09, 0x4a, 0x03, 0x00, 0x02, 0xff };
    static const uint8_t nibbles[] = { 0x08, 0x03, 0x10, 0x16, 0x4a, 0x02, 0x21, 0xf3 };
    ps_alloc_state a;
    ps_tensor *t;
    ps_error err = PS_ERROR_INIT;
    ps_alloc_state_init(&a, NULL);
    if (ps_onnx_tensor_read(&a, bools, sizeof bools, &t, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_memory_equal(t->data, "\x00\x01\x01", 3);
    ps_tensor_release(t);
    if (ps_onnx_tensor_read(&a, nibbles, sizeof nibbles, &t, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_memory_equal(t->data, "\x21\x03", 2);
    ps_tensor_release(t);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static ps_status round_trip(ps_alloc_state *a, void *ctx) {
    const ps_string *file = ctx;
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t;
    const char *name;
    void *written;
    size_t size;
    PS_TRY(ps_onnx_tensor_read(a, file->data, file->size, &t, &name, &err));
    ps_status status = ps_onnx_tensor_write(a, t, name, &written, &size, &err);
    if (status == PS_OK) ps_free(a, written);
    ps_tensor_release(t);
    ps_free(a, (void *)(uintptr_t)name);
    return status;
}

static void test_allocation_failures(void **state) {
    static const char *const files[] = { "tensors/string.pb", "tensors/float_raw.pb", "tensors/int4_typed.pb" };
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        ps_string file;
        file.data = onnx_file(&a, files[i], &file.size);
        assert_true(ps_test_sweep(round_trip, &file) > 3);
        ps_free(&a, (void *)(uintptr_t)file.data);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_unpacked),
        cmocka_unit_test(test_normal_form),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
