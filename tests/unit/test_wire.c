/* The wire format's reader and writer, by the examples of its specification (protobuf.dev, "Encoding") and at its
 * edges. */
#include "base/wire.h"
#include "onnx_files.h"

static ps_wire_field one_field(const void *data, size_t size) {
    ps_wire w;
    ps_wire_field f = { 0 };
    bool more;
    ps_wire_init(&w, data, size);
    assert_int_equal(ps_wire_next(&w, &f, &more, NULL), PS_OK);
    assert_true(more);
    assert_ptr_equal(w.at, w.end);
    return f;
}

static void test_fields(void **state) {
    ps_wire_field f = one_field("\x08\x96\x01", 3);
    assert_int_equal(f.number, 1);
    assert_int_equal(f.type, PS_WIRE_VARINT);
    assert_int_equal(f.value, 150);
    f = one_field("\x12\x07testing", 9);
    assert_int_equal(f.number, 2);
    assert_int_equal(f.type, PS_WIRE_LEN);
    assert_int_equal(f.size, 7);
    assert_memory_equal(f.data, "testing", 7);
    f = one_field("\x0d\x01\x02\x03\x04", 5);
    assert_int_equal(f.type, PS_WIRE_I32);
    assert_int_equal(f.value, 0x04030201);
    f = one_field("\x09\x01\0\0\0\0\0\0\x80", 9);
    assert_int_equal(f.type, PS_WIRE_I64);
    assert_true(f.value == UINT64_C(0x8000000000000001));
    f = one_field("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
    assert_true((int64_t)f.value == -1);
}

static void expect_broken(const void *data, size_t size, const char *sentence) {
    ps_wire w;
    ps_wire_field f;
    ps_error err = PS_ERROR_INIT;
    bool more;
    ps_wire_init(&w, data, size);
    assert_int_equal(ps_wire_next(&w, &f, &more, &err), PS_FORMAT);
    if (!strstr(err.msg, sentence)) fail_msg("'%s' does not say '%s'", err.msg, sentence);
}

static void test_broken(void **state) {
    expect_broken("\x80", 1, "tag is broken");
    expect_broken("\x00", 1, "tag is broken"); /* field number 0 */
    expect_broken("\xff\xff\xff\xff\xff\x01\x00", 7, "tag is broken");
    expect_broken("\x08", 1, "broken varint");
    expect_broken("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "broken varint");
    expect_broken("\x12\x03xy", 4, "needs 3 bytes, 2 are left");
    expect_broken("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "needs 18446744073709551615 bytes, 0 are left");
    expect_broken("\x12\x80", 2, "broken length");
    expect_broken("\x0d\x01\x02", 3, "needs 4 bytes");
    expect_broken("\x09\x01\x02", 3, "needs 8 bytes");
    expect_broken("\x0b\x0c", 2, "wire type 3");
    expect_broken("\x0e", 1, "wire type 6");
}

static void test_empty(void **state) {
    ps_wire w;
    ps_wire_field f;
    bool more = true;
    ps_wire_init(&w, NULL, 0);
    assert_int_equal(ps_wire_next(&w, &f, &more, NULL), PS_OK);
    assert_false(more);
}

static void test_count(void **state) {
    size_t n;
    assert_true(ps_wire_count_varints("\x01\x96\x01\x00", 4, &n));
    assert_int_equal(n, 3);
    assert_true(ps_wire_count_varints(NULL, 0, &n));
    assert_int_equal(n, 0);
    assert_false(ps_wire_count_varints("\x01\x96", 2, &n));
    assert_false(ps_wire_count_varints("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, &n));
}

static void test_writing(void **state) {
    static const uint64_t values[] = { 0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX };
    uint8_t buf[32];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        ps_wire w;
        uint64_t back;
        size_t n = (size_t)(ps_wire_put_varint(buf, values[i]) - buf);
        assert_int_equal(n, ps_wire_varint_size(values[i]));
        ps_wire_init(&w, buf, n);
        assert_true(ps_wire_varint(&w, &back));
        assert_true(back == values[i]);
    }
    assert_int_equal(ps_wire_put_len(buf, 2, "testing", 7) - buf, ps_wire_len_size(2, 7));
    assert_memory_equal(buf, "\x12\x07testing", 9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields), cmocka_unit_test(test_broken),  cmocka_unit_test(test_empty),
        cmocka_unit_test(test_count),  cmocka_unit_test(test_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
