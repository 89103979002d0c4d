/* Shapes, element types and tensors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tensor/codes.h"
#include "tensor/convert.h"
#include "tensor/tensor.h"
#include "test_alloc_fail.h"

static ps_shape shape_of(int rank, ...) {
    int64_t dims[PS_MAX_RANK];
    va_list ap;
    va_start(ap, rank);
    for (int i = 0; i < rank; i++)
        dims[i] = va_arg(ap, int);
    va_end(ap);
    return ps_shape_make(rank, dims);
}

static ps_alloc_state fresh_alloc(void) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    return a;
}

/* ---- shapes ---- */

static void test_shape_basics(void **state) {
    char text[64];
    int64_t n, strides[PS_MAX_RANK];
    int axis;
    ps_shape s = shape_of(4, 1, 3, 224, 224), zero = shape_of(3, 2, 0, 5), scalar = shape_of(0);
    assert_true(ps_shape_fixed(&s) && ps_shape_fixed(&zero) && ps_shape_fixed(&scalar));
    assert_true(ps_shape_elements(&s, &n) && n == 150528);
    assert_true(ps_shape_elements(&zero, &n) && n == 0);
    assert_true(ps_shape_elements(&scalar, &n) && n == 1);
    assert_int_equal(ps_shape_product(&s, 1, 3), 672);
    ps_shape_strides(&s, strides);
    assert_true(strides[0] == 150528 && strides[1] == 50176 && strides[2] == 224 && strides[3] == 1);
    assert_string_equal(ps_shape_text(&s, text, sizeof text), "[1,3,224,224]");
    assert_string_equal(ps_shape_text(&scalar, text, sizeof text), "[]");
    ps_shape symbolic = shape_of(3, PS_DIM_UNKNOWN, -2, -5), unknown = ps_shape_unknown();
    assert_string_equal(ps_shape_text(&symbolic, text, sizeof text), "[?,s0,s3]");
    assert_string_equal(ps_shape_text(&unknown, text, sizeof text), "[...]");
    assert_string_equal(ps_shape_text(&s, text, 6), "[1,3,");
    assert_false(ps_shape_fixed(&symbolic) || ps_shape_fixed(&unknown));
    assert_false(ps_shape_elements(&symbolic, &n));
    assert_true(ps_shape_equal(&s, &s));
    assert_false(ps_shape_equal(&s, &zero));
    assert_true(ps_axis_normalize(-4, 4, &axis) && axis == 0);
    assert_true(ps_axis_normalize(3, 4, &axis) && axis == 3);
    assert_false(ps_axis_normalize(4, 4, &axis) || ps_axis_normalize(-5, 4, &axis) || ps_axis_normalize(0, 0, &axis));
    assert_false(ps_axis_normalize(INT64_MIN, 4, &axis));
}

static void test_shape_overflow(void **state) {
    int64_t n;
    size_t bytes;
    ps_shape big = ps_shape_make(3, (int64_t[]) { INT64_C(1) << 31, INT64_C(1) << 31, 2 });
    assert_false(ps_shape_elements(&big, &n));
    big.dims[2] = 0; /* a zero does not hide an overflow of the others */
    big.dims[0] = INT64_C(1) << 40;
    assert_false(ps_shape_elements(&big, &n));
    assert_true(ps_dtype_bytes(PS_DTYPE_F64, INT64_C(1) << 50, &bytes));
    assert_false(ps_dtype_bytes(PS_DTYPE_F64, INT64_C(1) << 60, &bytes));
    assert_false(ps_dtype_bytes(PS_DTYPE_F64, INT64_MAX, &bytes));
    assert_false(ps_dtype_bytes(PS_DTYPE_F64, -1, &bytes));
    assert_false(ps_dtype_bytes(PS_DTYPE_UNDEFINED, 1, &bytes));
}

static void check_broadcast(ps_shape a, ps_shape b, const char *want) {
    char text[64];
    for (int swap = 0; swap < 2; swap++) {
        ps_shape ret = shape_of(1, 77);
        bool ok = swap ? ps_shape_broadcast(&b, &a, &ret) : ps_shape_broadcast(&a, &b, &ret);
        assert_int_equal(ok, want != NULL);
        if (want) assert_string_equal(ps_shape_text(&ret, text, sizeof text), want);
    }
}

static void test_broadcast(void **state) {
    check_broadcast(shape_of(3, 2, 1, 4), shape_of(2, 3, 1), "[2,3,4]");
    check_broadcast(shape_of(0), shape_of(2, 3, 1), "[3,1]");
    check_broadcast(shape_of(1, 0), shape_of(1, 1), "[0]");
    check_broadcast(shape_of(1, 0), shape_of(1, 2), NULL);
    check_broadcast(shape_of(1, 3), shape_of(1, 2), NULL);
    check_broadcast(shape_of(1, -2), shape_of(1, -2), "[s0]");
    check_broadcast(shape_of(1, -2), shape_of(1, -3), "[?]");
    check_broadcast(shape_of(1, -2), shape_of(1, 1), "[s0]");
    check_broadcast(shape_of(1, -2), shape_of(1, 5), "[5]");
    check_broadcast(shape_of(1, PS_DIM_UNKNOWN), shape_of(2, 7, 1), "[7,?]");
    check_broadcast(ps_shape_unknown(), shape_of(1, 5), "[...]");
}

/* ---- element types ---- */

static void test_dtypes(void **state) {
    assert_int_equal(ps_dtype_bits(PS_DTYPE_F32), 32);
    assert_int_equal(ps_dtype_bits((ps_dtype)999), 0);
    assert_string_equal(ps_dtype_name((ps_dtype)-1), "?");
    assert_string_equal(ps_dtype_v2_name(PS_DTYPE_STRING), "BYTES");
    assert_string_equal(ps_dtype_v2_name(PS_DTYPE_I4), "");
    for (int i = 1; i < PS_DTYPE_COUNT; i++) {
        ps_dtype t = (ps_dtype)i;
        assert_int_equal(ps_dtype_valid(i), !ps_dtype_is_container(t));
        assert_int_equal(ps_dtype_parse(ps_dtype_name(t)), t);
        if (*ps_dtype_v2_name(t)) assert_int_equal(ps_dtype_parse(ps_dtype_v2_name(t)), t);
    }
    assert_false(ps_dtype_valid(0) || ps_dtype_valid(PS_DTYPE_COUNT) || ps_dtype_valid(-1));
    assert_int_equal(ps_dtype_parse(""), PS_DTYPE_UNDEFINED);
    assert_int_equal(ps_dtype_parse("fp"), PS_DTYPE_UNDEFINED);
    assert_true(ps_dtype_is_float(PS_DTYPE_BF16) && !ps_dtype_is_float(PS_DTYPE_F8E5M2));
    assert_true(ps_dtype_is_int(PS_DTYPE_U64) && !ps_dtype_is_int(PS_DTYPE_BOOL) && !ps_dtype_is_int(PS_DTYPE_I4));
    size_t bytes;
    assert_true(ps_dtype_bytes(PS_DTYPE_I4, 5, &bytes) && bytes == 3);
    assert_true(ps_dtype_bytes(PS_DTYPE_U2, 5, &bytes) && bytes == 2);
    assert_true(ps_dtype_bytes(PS_DTYPE_U2, 0, &bytes) && bytes == 0);
    assert_true(ps_dtype_bytes(PS_DTYPE_STRING, 3, &bytes) && bytes == 48);
    assert_int_equal(ps_dtype_size(PS_DTYPE_I4), 0);
}

/* ---- tensors ---- */

static void test_life(void **state) {
    ps_alloc_state a = fresh_alloc();
    ps_tensor *t, *view, stack;
    ps_shape s = shape_of(2, 2, 3), row = shape_of(1, 3);
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_F32, &s, &t, NULL), PS_OK);
    float *data = ps_tensor_data(t);
    assert_int_equal((uintptr_t)data % PS_ALIGN, 0);
    for (int i = 0; i < 6; i++)
        assert_true(data[i] == 0);
    assert_int_equal(ps_tensor_bytes(t), 24);
    assert_int_equal(ps_tensor_elements(t), 6);
    assert_int_equal(ps_tensor_new_view(&a, PS_DTYPE_F32, &row, data + 3, t, &view, NULL), PS_OK);
    ps_tensor_release(t); /* the view keeps it */
    data[3] = 5;
    assert_true(*(const float *)ps_tensor_data_const(view) == 5);
    assert_int_equal(ps_tensor_set_data(view, &stack), PS_INVALID);
    ps_tensor_init_view(&stack, PS_DTYPE_F32, &row, data);
    ps_tensor_release(ps_tensor_retain(&stack));
    ps_tensor_release(view);
    ps_tensor_release(NULL);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_bad_shapes(void **state) {
    ps_alloc_state a = fresh_alloc();
    ps_error err = PS_ERROR_INIT;
    ps_tensor *t = NULL;
    ps_shape symbolic = shape_of(2, -2, 3), ok = shape_of(1, 3), deep = { .rank = 9 };
    ps_shape huge = ps_shape_make(2, (int64_t[]) { INT64_C(1) << 40, INT64_C(1) << 22 });
    ps_shape large = ps_shape_make(1, (int64_t[]) { INT64_C(1) << 59 });
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_F32, &symbolic, &t, &err), PS_INVALID);
    assert_string_equal(err.msg, "tensor: shape [s0,3] is not fixed");
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_F32, &deep, &t, &err), PS_INVALID);
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_UNDEFINED, &ok, &t, &err), PS_INVALID);
    assert_int_equal(ps_tensor_new(&a, (ps_dtype)77, &ok, &t, &err), PS_INVALID);
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_F64, &huge, &t, &err), PS_LIMIT);
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_F64, &large, &t, &err), PS_NO_MEMORY);
    assert_null(t);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_strings(void **state) {
    ps_alloc_state a = fresh_alloc();
    ps_tensor *t, *f, *view;
    ps_shape s = shape_of(1, 3);
    char text[] = "hello";
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_STRING, &s, &t, NULL), PS_OK);
    assert_int_equal(ps_tensor_set_string(t, 0, text, 5, NULL), PS_OK);
    text[0] = 'j';
    assert_int_equal(ps_tensor_set_string(t, 1, "a\0b", 3, NULL), PS_OK);
    assert_int_equal(ps_tensor_set_string(t, 1, NULL, 0, NULL), PS_OK); /* replaces */
    assert_int_equal(ps_tensor_set_string(t, 3, "x", 1, NULL), PS_INVALID);
    const ps_string *e = ps_tensor_data_const(t);
    assert_memory_equal(e[0].data, "hello", 5);
    assert_true(e[1].size == 0 && e[2].size == 0 && !e[2].data);
    assert_int_equal(ps_tensor_new_view(&a, PS_DTYPE_STRING, &s, t->data, t, &view, NULL), PS_OK);
    assert_int_equal(ps_tensor_set_string(view, 0, "x", 1, NULL), PS_INVALID);
    ps_tensor_release(t);
    assert_memory_equal(((const ps_string *)view->data)[0].data, "hello", 5);
    ps_tensor_release(view);
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_F32, &s, &f, NULL), PS_OK);
    assert_int_equal(ps_tensor_set_string(f, 0, "x", 1, NULL), PS_TYPE);
    ps_tensor_release(f);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

/* ---- strided copies, against indexing one element at a time ---- */

static void check_strided(ps_dtype dtype, const ps_shape *s, const int64_t *strides, const uint8_t *data) {
    uint8_t got[4096], want[4096];
    size_t size = ps_dtype_size(dtype), n, k = 0;
    ps_tensor t;
    ps_tensor_init_view(&t, dtype, s, (void *)(uintptr_t)data);
    t.strides = strides;
    n = ps_tensor_count(&t);
    int64_t index[PS_MAX_RANK] = { 0 };
    for (; k < n; k++) {
        int64_t at = 0;
        for (int i = 0; i < s->rank; i++)
            at += index[i] * strides[i];
        memcpy(want + k * size, data + at * (int64_t)size, size);
        for (int i = s->rank - 1; i >= 0 && ++index[i] == s->dims[i]; i--)
            index[i] = 0;
    }
    memset(got, 0xEE, sizeof got);
    memset(want + n * size, 0xEE, 8);
    ps_tensor_copy_packed(&t, got);
    assert_memory_equal(got, want, n * size + 8);
}

static void test_strided(void **state) {
    static uint8_t data[4096];
    static const ps_dtype dtypes[] = { PS_DTYPE_U8, PS_DTYPE_F16, PS_DTYPE_F32, PS_DTYPE_F64, PS_DTYPE_C128 };
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31 + i / 256);
    ps_shape cube = shape_of(3, 3, 4, 5), zero = shape_of(3, 2, 0, 2), one = shape_of(1, 6),
             eight = shape_of(8, 2, 1, 2, 1, 2, 1, 1, 3);
    for (size_t d = 0; d < 5; d++) {
        const uint8_t *middle = data + 2048;
        check_strided(dtypes[d], &cube, (int64_t[]) { 20, 5, 1 }, middle);
        check_strided(dtypes[d], &cube, (int64_t[]) { 1, 3, 12 }, middle);   /* transposed */
        check_strided(dtypes[d], &cube, (int64_t[]) { 0, 5, 0 }, middle);    /* broadcast */
        check_strided(dtypes[d], &cube, (int64_t[]) { -20, 5, -1 }, middle); /* reversed */
        check_strided(dtypes[d], &cube, (int64_t[]) { 24, -6, 1 }, middle);  /* part of a larger one */
        check_strided(dtypes[d], &zero, (int64_t[]) { 7, 7, 7 }, middle);
        check_strided(dtypes[d], &one, (int64_t[]) { -2 }, middle);
        check_strided(dtypes[d], &eight, (int64_t[]) { 30, 9, -11, 7, 1, 0, 100, 4 }, middle);
    }
    ps_tensor t;
    ps_shape scalar = shape_of(0);
    uint8_t got[4];
    ps_tensor_init_view(&t, PS_DTYPE_F32, &scalar, data);
    ps_tensor_copy_packed(&t, got);
    assert_memory_equal(got, data, 4);
}

/* ---- values ---- */

static void test_get_ints(void **state) {
    int64_t got[8];
    size_t n;
    ps_tensor t;
    ps_shape three = shape_of(1, 3), scalar = shape_of(0);
    int32_t i32[] = { -1, 5, 1 << 30 };
    uint64_t u64[] = { 1, 2, UINT64_MAX };
    uint8_t i4[] = { 0x8F, 0x07 };
    float f32[] = { 1, 2, 3 };
    ps_tensor_init_view(&t, PS_DTYPE_I32, &three, i32);
    assert_true(ps_tensor_get_ints(&t, got, 3, &n) && n == 3 && got[0] == -1 && got[2] == 1 << 30);
    assert_false(ps_tensor_get_ints(&t, got, 2, &n));
    ps_tensor_init_view(&t, PS_DTYPE_U64, &three, u64);
    assert_false(ps_tensor_get_ints(&t, got, 8, &n));
    ps_tensor_init_view(&t, PS_DTYPE_I4, &three, i4);
    assert_true(ps_tensor_get_ints(&t, got, 8, &n) && got[0] == -1 && got[1] == -8 && got[2] == 7);
    ps_tensor_init_view(&t, PS_DTYPE_F32, &three, f32);
    assert_false(ps_tensor_get_ints(&t, got, 8, &n));
    ps_tensor_init_view(&t, PS_DTYPE_I32, &scalar, i32);
    assert_true(ps_tensor_get_ints(&t, got, 8, &n) && n == 1 && got[0] == -1);
}

static void test_get_double_and_uniform(void **state) {
    double d;
    ps_tensor t;
    ps_shape three = shape_of(1, 3), none = shape_of(1, 0), one = shape_of(1, 1);
    uint16_t f16[] = { 0x3C00, 0x3C00, 0x4000 };
    uint8_t i2[] = { 0x39 }; /* 1, -2, -1 */
    float same[] = { NAN, NAN, NAN };
    ps_tensor_init_view(&t, PS_DTYPE_F16, &three, f16);
    assert_true(ps_tensor_get_double(&t, 2, &d) && d == 2);
    assert_false(ps_tensor_get_double(&t, 3, &d));
    assert_false(ps_tensor_uniform(&t, &d));
    f16[2] = 0x3C00;
    assert_true(ps_tensor_uniform(&t, &d) && d == 1);
    ps_tensor_init_view(&t, PS_DTYPE_I2, &three, i2);
    assert_true(ps_tensor_get_double(&t, 1, &d) && d == -2);
    assert_true(ps_tensor_get_double(&t, 2, &d) && d == -1);
    assert_false(ps_tensor_uniform(&t, &d));
    i2[0] = 0xD5; /* 1, 1, 1 and a padding of another value */
    assert_true(ps_tensor_uniform(&t, &d) && d == 1);
    ps_tensor_init_view(&t, PS_DTYPE_F32, &three, same);
    assert_true(ps_tensor_uniform(&t, &d) && isnan(d));
    ps_tensor_init_view(&t, PS_DTYPE_F32, &none, same);
    assert_false(ps_tensor_uniform(&t, &d));
    ps_tensor_init_view(&t, PS_DTYPE_F32, &one, same);
    assert_true(ps_tensor_uniform(&t, &d));
    ps_tensor_init_view(&t, PS_DTYPE_C64, &one, same);
    assert_false(ps_tensor_get_double(&t, 0, &d) || ps_tensor_uniform(&t, &d));
}

static void test_hash(void **state) {
    ps_tensor t;
    ps_shape six = shape_of(1, 6), grid = shape_of(2, 2, 3), three = shape_of(1, 3);
    float f[6] = { 1, 2, 3, 4, 5, 6 };
    ps_tensor_init_view(&t, PS_DTYPE_F32, &six, f);
    uint64_t first = ps_tensor_hash(&t);
    assert_true(ps_tensor_hash(&t) == first);
    f[5] = 7;
    assert_true(ps_tensor_hash(&t) != first);
    f[5] = 6;
    ps_tensor_init_view(&t, PS_DTYPE_F32, &grid, f);
    assert_true(ps_tensor_hash(&t) != first);
    ps_tensor_init_view(&t, PS_DTYPE_I32, &six, f);
    assert_true(ps_tensor_hash(&t) != first);
    uint8_t nibbles[2] = { 0x21, 0x03 }, padded[2] = { 0x21, 0xF3 };
    ps_tensor_init_view(&t, PS_DTYPE_U4, &three, nibbles);
    uint64_t clean = ps_tensor_hash(&t);
    t.data = padded;
    assert_true(ps_tensor_hash(&t) == clean);
    ps_string ab_c[3] = { { "ab", 2 }, { "c", 1 }, { "", 0 } }, a_bc[3] = { { "a", 1 }, { "bc", 2 }, { "", 0 } };
    ps_tensor_init_view(&t, PS_DTYPE_STRING, &three, ab_c);
    uint64_t left = ps_tensor_hash(&t);
    t.data = a_bc;
    assert_true(ps_tensor_hash(&t) != left);
}

static ps_status put_back(ps_tensor_keeper *keeper, ps_error *err) {
    return PS_FAIL(err, IO, "the keeper was asked");
}

/* Floats that are made from halves when somebody asks: their content is away and costs nothing until then. */
static void test_widened(void **state) {
    ps_alloc_state a = fresh_alloc();
    ps_tensor_keeper keeper = { put_back };
    ps_shape s = shape_of(2, 300, 100), few = shape_of(1, 8);
    ps_tensor *half, *wide, *eager, *small;
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_F16, &s, &half, NULL), PS_OK);
    for (uint16_t i = 0; i < 30000; i++)
        ((uint16_t *)half->data)[i] = i; /* every positive number, subnormal ones too */
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_F32, &s, &eager, NULL), PS_OK);
    assert_true(ps_convert(half->data, PS_DTYPE_F16, eager->data, PS_DTYPE_F32, 30000, true));
    assert_int_equal(ps_tensor_widened(&a, half, &wide, NULL), PS_OK);
    assert_true(atomic_load(&wide->dropped) && wide->narrow == half && wide->bytes == 120000);
    assert_true(ps_tensor_hash_once(wide) == ps_tensor_hash(eager));
    ps_tensor_release(half); /* which the wide one holds */
    wide->keeper = &keeper;
    assert_int_equal(ps_tensor_need(wide, NULL), PS_OK);
    assert_memory_equal(wide->data, eager->data, 120000);
    assert_true(wide->narrow == half && !atomic_load(&wide->dropped));
    ps_tensor_drop(wide); /* now it is the keeper's */
    assert_true(!wide->narrow && atomic_load(&wide->dropped));
    assert_int_equal(ps_tensor_need(wide, NULL), PS_IO);
    ps_tensor_release(wide);
    /* Without a keeper what came once stays. */
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_BF16, &s, &half, NULL), PS_OK);
    assert_int_equal(ps_tensor_widened(&a, half, &wide, NULL), PS_OK);
    assert_int_equal(ps_tensor_need(wide, NULL), PS_OK);
    ps_tensor_drop(wide);
    assert_true(!wide->narrow && !atomic_load(&wide->dropped));
    ps_tensor_release(wide);
    ps_tensor_release(half);
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_BF16, &few, &half, NULL), PS_OK);
    assert_int_equal(ps_tensor_widened(&a, half, &small, NULL), PS_OK);
    assert_true(!small->narrow && !atomic_load(&small->dropped));
    ps_tensor_release(small);
    ps_tensor_release(half);
    ps_tensor_release(eager);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

/* Floats that are made from codes: in blocks of 32 along a row, lying transposed, zero points in whole bytes a row. */
static void test_coded(void **state) {
    ps_alloc_state a = fresh_alloc();
    ps_tensor_keeper keeper = { put_back };
    ps_shape lying = shape_of(2, 50, 48), scales = shape_of(2, 50, 3), zeros = shape_of(2, 50, 2);
    ps_shape s = shape_of(2, 90, 50), few = shape_of(2, 9, 50);
    ps_tensor *code, *scale, *zero, *t, *again, *small;
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_U8, &lying, &code, NULL), PS_OK);
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_F32, &scales, &scale, NULL), PS_OK);
    assert_int_equal(ps_tensor_new(&a, PS_DTYPE_U8, &zeros, &zero, NULL), PS_OK);
    for (int i = 0; i < 50 * 48; i++)
        ((uint8_t *)code->data)[i] = (uint8_t)(i * 37 + i / 48);
    for (int i = 0; i < 150; i++)
        ((float *)scale->data)[i] = 0.5f + 0.25f * (float)(i % 7);
    for (int i = 0; i < 100; i++)
        ((uint8_t *)zero->data)[i] = (uint8_t)(i * 29);
    const ps_codes c = { .code = code,
                         .scale = scale,
                         .zero = zero,
                         .kind = PS_CODES_BLOCKS,
                         .bits = 4,
                         .n = 96,
                         .inner = 1,
                         .block = 32,
                         .blocks = 3,
                         .row = 96,
                         .zero_row = 4,
                         .in_rows = 3 };
    assert_int_equal(ps_tensor_coded(&a, &s, &c, &t, NULL), PS_OK);
    assert_int_equal(ps_tensor_coded(&a, &s, &c, &again, NULL), PS_OK);
    assert_int_equal(ps_tensor_coded(&a, &few, &c, &small, NULL), PS_OK);
    assert_true(atomic_load(&t->dropped) && t->codes && t->bytes == 18000 && !small->codes);
    assert_true(ps_tensor_hash_once(t) == ps_tensor_hash_once(again));
    t->keeper = &keeper;
    assert_int_equal(ps_tensor_need(t, NULL), PS_OK);
    for (int k = 0; k < 90; k++) {
        for (int n = 0; n < 50; n++) {
            const int byte = ((uint8_t *)code->data)[(n * 96 + k) / 2], z = ((uint8_t *)zero->data)[n * 2 + k / 64];
            const int q = k % 2 ? byte >> 4 : byte & 15, at = k / 32 % 2 ? z >> 4 : z & 15;
            const float want = (float)(q - at) * ((float *)scale->data)[n * 3 + k / 32];
            assert_true(((float *)t->data)[k * 50 + n] == want);
            if (k < 9) assert_true(((float *)small->data)[k * 50 + n] == want);
        }
    }
    assert_ptr_equal(t->codes->code, code);
    ps_tensor_drop(t); /* now it is the keeper's; what describes the codes stays */
    assert_true(t->codes && !t->codes->code && atomic_load(&t->dropped));
    assert_int_equal(ps_tensor_need(t, NULL), PS_IO);
    assert_int_equal(ps_tensor_need(again, NULL), PS_OK); /* without a keeper what came once stays */
    ps_tensor_drop(again);
    assert_true(!again->codes->code && !atomic_load(&again->dropped));
    for (ps_tensor **p = (ps_tensor *[]) { t, again, small, code, scale, zero, NULL }; *p; p++)
        ps_tensor_release(*p);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static ps_status tensor_scenario(ps_alloc_state *a, void *ctx) {
    ps_tensor *t = NULL, *view = NULL;
    ps_shape s = shape_of(1, 4);
    ps_status status = PS_OK;
    PS_TRY_OUT(ps_tensor_new(a, PS_DTYPE_STRING, &s, &t, NULL));
    for (size_t i = 0; i < 6; i++)
        PS_TRY_OUT(ps_tensor_set_string(t, i % 4, "text", 4, NULL));
    PS_TRY_OUT(ps_tensor_new_view(a, PS_DTYPE_STRING, &s, t->data, t, &view, NULL));
out:
    ps_tensor_release(t);
    ps_tensor_release(view);
    return status;
}

static void test_allocation_failure(void **state) {
    assert_int_equal(ps_test_sweep(tensor_scenario, NULL), 9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape_basics), cmocka_unit_test(test_shape_overflow),
        cmocka_unit_test(test_broadcast),    cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_life),         cmocka_unit_test(test_bad_shapes),
        cmocka_unit_test(test_strings),      cmocka_unit_test(test_strided),
        cmocka_unit_test(test_get_ints),     cmocka_unit_test(test_get_double_and_uniform),
        cmocka_unit_test(test_hash),         cmocka_unit_test(test_allocation_failure),
        cmocka_unit_test(test_widened),
        cmocka_unit_test(test_coded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
