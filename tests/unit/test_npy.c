/* test_npy.c - .npy files that numpy wrote, files that are wrong in one way each, and garbage. */
#include "io_fixture.h"
#include "test_alloc_fail.h"

static void reads_every_type(void **state) {
    static const struct {
        const char *file;
        ps_dtype dtype;
    } rows[] = {
        { "type_bool.npy", PS_DTYPE_BOOL }, { "type_i1.npy", PS_DTYPE_I8 },  { "type_u1.npy", PS_DTYPE_U8 },
        { "type_i2.npy", PS_DTYPE_I16 },    { "type_u2.npy", PS_DTYPE_U16 }, { "type_i4.npy", PS_DTYPE_I32 },
        { "type_u4.npy", PS_DTYPE_U32 },    { "type_i8.npy", PS_DTYPE_I64 }, { "type_u8.npy", PS_DTYPE_U64 },
        { "type_f2.npy", PS_DTYPE_F16 },    { "type_f4.npy", PS_DTYPE_F32 }, { "type_f8.npy", PS_DTYPE_F64 },
        { "type_c8.npy", PS_DTYPE_C64 },    { "type_c16.npy", PS_DTYPE_C128 },
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        ps_tensor *t = load_npy(rows[k].file);
        assert_int_equal(t->dtype, rows[k].dtype);
        assert_int_equal(t->shape.rank, 2);
        assert_int_equal(t->shape.dims[0], 2);
        assert_int_equal(t->shape.dims[1], 3);
        /* What we write of it must be numpy's own file, byte for byte. */
        void *bytes;
        size_t size, want_size;
        char *want = read_data(rows[k].file, &want_size);
        assert_int_equal(ps_npy_write(&heap, t, &bytes, &size, NULL), PS_OK);
        assert_int_equal(size, want_size);
        assert_memory_equal(bytes, want, size);
        ps_free(&heap, want);
        ps_free(&heap, bytes);
        ps_tensor_release(t);
    }
}

static void reads_every_form(void **state) {
    static const char *const cubes[] = { "fortran.npy", "version2.npy", "version3.npy" };
    for (size_t k = 0; k < 3; k++) {
        ps_tensor *t = load_npy(cubes[k]);
        assert_int_equal(t->shape.rank, 3);
        for (int i = 0; i < 24; i++)
            assert_true(((float *)t->data)[i] == (float)i);
        ps_tensor_release(t);
    }
    ps_tensor *t = load_npy("scalar.npy");
    assert_int_equal(t->shape.rank, 0);
    assert_true(*(float *)t->data == 2.5f);
    ps_tensor_release(t);
    t = load_npy("vector.npy");
    assert_int_equal(t->shape.rank, 1);
    assert_int_equal(((int64_t *)t->data)[4], 4);
    ps_tensor_release(t);
    t = load_npy("empty.npy");
    assert_int_equal(ps_tensor_count(t), 0);
    ps_tensor_release(t);
}

static void refuses_foreign_types(void **state) {
    static const char *const files[] = { "big_endian.npy", "text.npy", "records.npy" };
    for (size_t k = 0; k < 3; k++) {
        size_t size;
        ps_tensor *t;
        char *data = read_data(files[k], &size);
        assert_int_equal(ps_npy_read(&heap, data, size, &t, NULL), PS_UNSUPPORTED);
        ps_free(&heap, data);
    }
    const ps_shape shape = { 1, { 2 } };
    ps_tensor *t;
    void *bytes;
    size_t size;
    assert_int_equal(ps_tensor_new(&heap, PS_DTYPE_BF16, &shape, &t, NULL), PS_OK);
    assert_int_equal(ps_npy_write(&heap, t, &bytes, &size, NULL), PS_UNSUPPORTED);
    ps_tensor_release(t);
}

static ps_status read_text(const char *header, size_t elements, ps_error *err) {
    uint8_t file[1024] = { 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0 };
    size_t n = strlen(header);
    file[8] = (uint8_t)n;
    file[9] = (uint8_t)(n >> 8);
    memcpy(file + 10, header, n);
    ps_tensor *t = NULL;
    ps_status status = ps_npy_read(&heap, file, 10 + n + elements, &t, err);
    if (status == PS_OK) ps_tensor_release(t);
    return status;
}

static void reads_headers_by_the_grammar(void **state) {
    static const char *const good[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }   \n",
        "{\"shape\":(3L,),\"fortran_order\":True,\"descr\":\"<f4\"}",
        "  {'shape': (1, 3), 'descr': '=f4', 'fortran_order': False}",
    };
    for (size_t k = 0; k < sizeof good / sizeof *good; k++)
        assert_int_equal(read_text(good[k], 12, NULL), PS_OK);
    static const struct {
        const char *header;
        ps_status status;
    } bad[] = {
        { "", PS_FORMAT },
        { "{", PS_FORMAT },
        { "[]", PS_FORMAT },
        { "{}", PS_FORMAT },
        { "{'descr'}", PS_FORMAT },
        { "{'descr': '<f4'", PS_FORMAT },
        { "{'descr': '<f4, 'shape': (3,)}", PS_UNSUPPORTED },
        { "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", PS_FORMAT },
        { "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (3,)}", PS_FORMAT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': 3}", PS_FORMAT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (3}", PS_FORMAT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}", PS_FORMAT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", PS_FORMAT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", PS_LIMIT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,3)}", PS_LIMIT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}", PS_FORMAT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", PS_FORMAT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} x", PS_FORMAT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'more': 1}", PS_FORMAT },
        { "{'descr': '<f4', 'shape': (3,)}", PS_FORMAT },
        { "{'descr': '<q4', 'fortran_order': False, 'shape': (3,)}", PS_UNSUPPORTED },
        { "{'descr': '', 'fortran_order': False, 'shape': (3,)}", PS_UNSUPPORTED },
    };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        ps_error err = PS_ERROR_INIT;
        ps_status status = read_text(bad[k].header, 12, &err);
        if (status != bad[k].status) fail_msg("%s: %s %s", bad[k].header, ps_status_name(status), err.msg);
    }
}

/* Every prefix of a good file, and the file with each byte replaced in turn: an error or a tensor, never a crash. */
static void survives_damage(void **state) {
    size_t size;
    char *data = read_data("version2.npy", &size);
    for (size_t n = 0; n < size; n++) {
        char *prefix = ps_alloc(&heap, n ? n : 1); /* exact size, so that a sanitizer sees a read beyond it */
        ps_tensor *t;
        memcpy(prefix, data, n);
        assert_int_not_equal(ps_npy_read(&heap, prefix, n, &t, NULL), PS_OK);
        ps_free(&heap, prefix);
    }
    for (size_t at = 0; at < 130; at++)
        for (int v = 0; v < 256; v += 5) {
            char old = data[at];
            data[at] = (char)v;
            ps_tensor *t;
            if (ps_npy_read(&heap, data, size, &t, NULL) == PS_OK) ps_tensor_release(t);
            data[at] = old;
        }
    ps_free(&heap, data);
}

static ps_status round_trip(ps_alloc_state *a, void *ctx) {
    ps_tensor *t;
    void *bytes;
    size_t size = 224, n; /* of fortran.npy */
    PS_TRY(ps_npy_read(a, ctx, size, &t, NULL));
    ps_status status = ps_npy_write(a, t, &bytes, &n, NULL);
    if (status == PS_OK) ps_free(a, bytes);
    ps_tensor_release(t);
    return status;
}

static void failing_allocations_leak_nothing(void **state) {
    size_t size;
    char *data = read_data("fortran.npy", &size);
    assert_int_equal(size, 224);
    assert_int_equal(ps_test_sweep(round_trip, data), 3);
    ps_free(&heap, data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_every_type, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(reads_every_form, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(refuses_foreign_types, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(reads_headers_by_the_grammar, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(survives_damage, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(failing_allocations_leak_nothing, io_setup, io_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
