/* Weights in the storage that the model has them in: what they take of the device's memory, and that products with them
 * come to what the reference kernels make of the same numbers.
 *
 * Tolerance: that of opencl_compare.h. Halves and codes are exact in f32, so it covers order of sums only; scales of
 * blocks in 16 bits are 2^-17 (8e-6) of the column's largest off, which it covers too, for sums of about 1. */
#include "opencl_compare.h"

#include "tensor/codes.h"

static const int rows[] = { 1, 3, 70 };
#define N_ROWS (sizeof rows / sizeof *rows)

/* ---- 16 bits ---- */

static void test_halves(void **state) {
    static const char *const types[] = { "f16", "bf16" };
    char label[64];
    for (size_t i = 0; i < 2 * N_ROWS; i++) {
        const char *t = types[i % 2];
        const int m = rows[i / 2];
        snprintf(label, sizeof label, "opencl.matmul %s", t);
        check(label,
              "graph (a: f32[%d,300]) -> (y) opset 17 {\n  w: %s[300,75] = random(3)\n  c: f32[75] = random(4)\n"
              "  k = Cast(w) {to=1}\n  s = Mul(a, f32[]{0.06})\n  t = MatMul(s, k)\n  u = Add(t, c)\n  y = Relu(u)\n}",
              m, t);
        snprintf(label, sizeof label, "opencl.gemm %s", t);
        check(label,
              "graph (a: f32[%d,301]) -> (y) opset 17 {\n  w: %s[520,301] = random(3)\n  c: f32[520] = random(4)\n"
              "  k = Cast(w) {to=1}\n  y = Gemm(a, k, c) {transB=1, alpha=0.06}\n}",
              m, t);
        snprintf(label, sizeof label, "opencl.conv gemm %s", t);
        check(label,
              "graph (x: f32[%d,16,5,6]) -> (y) opset 17 {\n  w: %s[64,8,3,3] = random(3)\n  b: f32[64] = random(4)\n"
              "  k = Cast(w) {to=1}\n  y = Conv(x, k, b) {group=2, pads=[1,1,1,1]}\n}",
              m, t);
    }
    check("opencl.deconv gemm f16", "graph (x: f32[1,20,5,6]) -> (y) opset 17 {\n  w: f16[20,12,3,3] = random(3)\n"
                                    "  k = Cast(w) {to=1}\n  y = ConvTranspose(x, k) {strides=[2,2]}\n}");
    /* f32 in the file, but numbers that 16 bits hold */
    check("opencl.matmul f16", "graph (a: f32[2,9]) -> (y) opset 17 {\n  w: f32[9,3] = {1, 0.5, -2, 3, 7, 0.25, 1, 1, "
                               "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, -0.125}\n"
                               "  y = MatMul(a, w)\n}");
}

/* ---- codes ---- */

static const char *const types[] = { "i8", "u8", "i4", "u4" };

static const char *form_of(const char *type) {
    return type[1] == '8' ? "u8" : "u4";
}

/* Scales of 0.01 to 0.03, positive: codes of 8 bits are up to 255. */
#define SCALES "  r: f32[%s] = random(5)\n  q = Mul(r, f32[]{0.01})\n  s = Add(q, f32[]{0.02})\n"

static void one_coded(const char *kernel, const char *type, const char *inputs, const char *shape, const char *scales,
                      const char *zero, const char *attrs, const char *node) {
    char label[64];
    snprintf(label, sizeof label, "%s %s", kernel, form_of(type));
    if (zero)
        check(label,
              "graph (%s) -> (y) opset 21 {\n  w: %s[%s] = random(3)\n" SCALES "  z: %s[%s] = random(7)\n"
              "  k = DequantizeLinear(w, s, z) {%s}\n  %s\n}",
              inputs, type, shape, scales, type, zero, attrs, node);
    else
        check(label,
              "graph (%s) -> (y) opset 21 {\n  w: %s[%s] = random(3)\n" SCALES
              "  k = DequantizeLinear(w, s) {%s}\n  %s\n}",
              inputs, type, shape, scales, attrs, node);
}

/* Types in turn, for each kernel takes seconds to compile; each of them with and without zero points. */
static size_t turn;

static void coded(const char *kernel, const char *inputs, const char *shape, const char *scales, const char *attrs,
                  const char *node) {
    const char *type = types[turn++ % 4];
    one_coded(kernel, type, inputs, shape, scales, NULL, attrs, node);
    one_coded(kernel, type, inputs, shape, scales, scales, attrs, node);
}

/* Sums of 320 products with codes up to 255 * 0.03: factors of 0.004 bring them to about 1. */
#define SMALL "x = Mul(a, f32[]{0.004})\n  "

static void test_codes_of_matmul(void **state) {
    char in[64];
    for (size_t i = 0; i < N_ROWS; i++) {
        snprintf(in, sizeof in, "a: f32[%d,320]", rows[i]);
        coded("opencl.matmul", in, "320,75", "", "", SMALL "y = MatMul(x, k)");
        coded("opencl.matmul", in, "320,75", "75", "axis=1", SMALL "t = MatMul(x, k)\n  y = Relu(t)");
        coded("opencl.matmul", in, "320,75", "10,75", "axis=0, block_size=32", SMALL "y = MatMul(x, k)");
        coded("opencl.gemm", in, "520,320", "520", "axis=0", SMALL "y = Gemm(x, k) {transB=1}");
        coded("opencl.gemm", in, "52,320", "52,20", "axis=1, block_size=16", SMALL "y = Gemm(x, k) {transB=1}");
        coded("opencl.matmul", in, "75,320", "75", "axis=0", SMALL "t = Transpose(k)\n  y = MatMul(x, t)");
        coded("opencl.matmul", in, "75,320", "75,3", "axis=1, block_size=128",
              SMALL "t = Transpose(k)\n  y = MatMul(x, t)");
    }
    coded("opencl.matmul", "a: f32[2,3,320]", "320,75", "75", "axis=1", SMALL "y = MatMul(x, k)");
    coded("opencl.matmul", "a: f32[3,4100]", "4100,1", "", "", SMALL "y = MatMul(x, k)");
    coded("opencl.matmul", "a: f32[3,1]", "1,4100", "4100", "axis=1", SMALL "y = MatMul(x, k)");
}

static void test_codes_of_conv(void **state) {
    static const char conv[] = SMALL "y = Conv(x, k) {pads=[1,1,1,1]}";
    static const char grouped[] = SMALL "y = Conv(x, k) {group=2, strides=[2,1]}";
    static const char deconv[] = SMALL "y = ConvTranspose(x, k) {group=2, strides=[2,1]}";
    coded("opencl.conv gemm", "a: f32[2,32,5,6]", "18,32,3,3", "", "", conv);
    coded("opencl.conv gemm", "a: f32[2,32,5,6]", "18,32,3,3", "18", "axis=0", conv);
    coded("opencl.conv gemm", "a: f32[2,64,5,6]", "18,32,3,3", "18", "axis=0", grouped);
    coded("opencl.conv gemm", "a: f32[2,128,5,6]", "76,64,1,1", "76,4,1,1", "axis=1, block_size=16",
          SMALL "y = Conv(x, k) {group=2}");
    coded("opencl.conv gemm", "a: f32[1,320,1,1]", "75,320,1,1", "75", "axis=0", SMALL "y = Conv(x, k)");
    coded("opencl.deconv gemm", "a: f32[2,32,5,6]", "32,9,4,4", "9", "axis=1", deconv);
}

/* What the kernels' form of blocks cannot say is made f32, and right. */
static void other(const char *shape, const char *scales, const char *attrs, const char *inputs, const char *node) {
    check(NULL,
          "graph (%s) -> (y) opset 21 {\n  w: i8[%s] = random(3)\n" SCALES "  k = DequantizeLinear(w, s) {%s}\n"
          "  %s\n}",
          inputs, shape, scales, attrs, node);
}

static void test_codes_in_other_forms(void **state) {
    other("320,75", "107,75", "axis=0, block_size=3", "a: f32[4,320]", SMALL "y = MatMul(x, k)");
    other("320,75", "320", "axis=0", "a: f32[4,320]", SMALL "y = MatMul(x, k)");
    other("320,75", "320,5", "axis=1, block_size=16", "a: f32[4,320]", SMALL "y = MatMul(x, k)");
    other("18,32,3,3", "18,2,3,3", "axis=1, block_size=24", "a: f32[2,32,5,6]", SMALL "y = Conv(x, k)");
    other("18,32,3,3", "18,2,3,3", "axis=1, block_size=16", "a: f32[2,32,5,6]", SMALL "y = Conv(x, k)");
    other("76,64,1,1", "76,8,1,1", "axis=1, block_size=8", "a: f32[2,64,5,6]", SMALL "y = Conv(x, k)");
    other("2,320,75", "75", "axis=2", "a: f32[2,4,320]", SMALL "y = MatMul(x, k)");
    /* two readers, one of which wants floats */
    check("opencl.matmul", "graph (a: f32[4,320]) -> (y, z) opset 21 {\n  w: i8[320,75] = random(3)\n"
                           "  k = DequantizeLinear(w, f32[]{0.01})\n  x = Mul(a, f32[]{0.004})\n"
                           "  y = MatMul(x, k)\n  z = Exp(k)\n}");
    check("opencl.matmul u8", "graph (a: f32[320,4]) -> (y, z) opset 21 {\n  w: i8[320,320] = random(3)\n"
                              "  k = DequantizeLinear(w, f32[]{0.01})\n  x = Mul(a, f32[]{0.004})\n  t = Transpose(x)\n"
                              "  y = MatMul(t, k)\n  v = ReduceSum(x, i64[1]{1}) {keepdims=0}\n  z = MatMul(v, k)\n}");
}

/* Scales that 16 bits beside the column's largest do not hold: far apart, negative. */
static void test_wide_scales(void **state) {
    for (int m = 1; m <= 5; m += 4) {
        check("opencl.matmul u4",
              "graph (a: f32[%d,320]) -> (y) opset 21 {\n  w: i4[320,75] = random(3)\n  r: f32[10,75] = random(5)\n"
              "  s = Mul(r, f32[10,1]{0.02, 0.0001, 0.02, 0.3, 1e-6, 0, 0.02, 0.3, 0.02, 0.1})\n"
              "  k = DequantizeLinear(w, s) {axis=0, block_size=32}\n  x = Mul(a, f32[]{0.06})\n  y = MatMul(x, k)\n}",
              m);
    }
}

static void test_nbits(void **state) {
    static const struct { int bits, block; } forms[] = { { 4, 32 }, { 4, 16 }, { 8, 32 }, { 4, 128 } };
    for (size_t i = 0; i < 4 * N_ROWS; i++) {
        const int bits = forms[i % 4].bits, block = forms[i % 4].block, k = i % 3 ? 320 : 330, n = 75;
        const int blocks = (k - 1) / block + 1, zero = (blocks * bits + 7) / 8;
        const char *label = bits == 4 ? "opencl.matmul u4" : "opencl.matmul u8";
        char head[512];
        snprintf(head, sizeof head,
                 "graph (a: f32[%d,%d]) -> (y) opset 21, com.microsoft 1 {\n  w: u8[%d,%d,%d] = random(3)\n"
                 "  r: f32[%d] = random(5)\n  q = Mul(r, f32[]{0.01})\n  s = Add(q, f32[]{0.02})\n"
                 "  z: u8[%d] = random(7)\n  c: f32[%d] = random(8)\n  x = Mul(a, f32[]{0.02})\n",
                 rows[i / 4], k, n, blocks, block * bits / 8, n * blocks, n * zero, n);
        check(label, "%s  y = com.microsoft.MatMulNBits(x, w, s) {K=%d, N=%d, bits=%d, block_size=%d}\n}", head, k, n,
              bits, block);
        check(label,
              "%s  t = com.microsoft.MatMulNBits(x, w, s, z, _, c) {K=%d, N=%d, bits=%d, block_size=%d}\n"
              "  y = Relu(t)\n}",
              head, k, n, bits, block);
    }
    /* zero points that are floats are no codes */
    check("ref", "graph (a: f32[2,128]) -> (y) opset 21, com.microsoft 1 {\n  w: u8[64,4,16] = random(3)\n"
                 "  s: f32[256] = random(5)\n  z: f32[256] = random(6)\n"
                 "  y = com.microsoft.MatMulNBits(a, w, s, z) {K=128, N=64, bits=4, block_size=32}\n}");
}

/* Codes with one scale a column come to the very floats of DequantizeLinear: a product with the identity gives them. */
static void test_codes_are_exact(void **state) {
    cmp_tolerance = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        check(i < 2 ? "opencl.matmul u8" : "opencl.matmul u4",
              "graph (a: f32[64,64], b: f32[4,64]) -> (y, v) opset 21 {\n  w: %s[64,75] = random(3)\n"
              "  s: f32[75] = random(5)\n  z: %s[75] = random(6)\n  k = DequantizeLinear(w, s, z)\n"
              "  f = EyeLike(a)\n  g = Mul(a, f32[]{0})\n  e = Add(f, g)\n  y = MatMul(e, k)\n"
              "  h = EyeLike(b)\n  i = Mul(b, f32[]{0})\n  j = Add(h, i)\n  v = MatMul(j, k)\n}",
              types[i], types[i]);
}

/* ---- memory ---- */

static size_t weights_of(const char *text) {
    ps_device *device;
    ps_error err = PS_ERROR_INIT;
    cmp_result r;
    assert_int_equal(ps_engine_device(cmp_engine, "gpu", &device, &err), PS_OK);
    const size_t before = atomic_load(&device->held);
    ps_model *m = fixture_model(cmp_engine, text, "gpu");
    if (!cmp_run_session(m, 1, &r, &err)) fail_msg("%s", err.msg);
    cmp_release(&r);
    const size_t held = atomic_load(&device->held) - before; /* the session is gone */
    ps_model_release(m);
    assert_int_equal(atomic_load(&device->held), before);
    return held;
}

/* Against f32: 2, 4 and 7 times less, for the weights of a product and of a convolution. */
static void test_device_memory(void **state) {
    const size_t wide = weights_of("graph (a: f32[1,1024]) -> (y) opset 21 {\n  w: f32[1024,1024] = random(3)\n"
                                   "  y = MatMul(a, w)\n}");
    const size_t half = weights_of("graph (a: f32[1,1024]) -> (y) opset 21 {\n  w: f16[1024,1024] = random(3)\n"
                                   "  k = Cast(w) {to=1}\n  y = MatMul(a, k)\n}");
    const size_t byte = weights_of("graph (a: f32[1,1024]) -> (y) opset 21 {\n  w: i8[1024,1024] = random(3)\n"
                                   "  s: f32[1024] = random(4)\n  k = DequantizeLinear(w, s)\n  y = MatMul(a, k)\n}");
    const size_t nibble =
        weights_of("graph (a: f32[1,1024]) -> (y) opset 21, com.microsoft 1 {\n  w: u8[1024,32,16] = random(3)\n"
                   "  r: f32[32768] = random(5)\n  q = Mul(r, f32[]{0.01})\n  s = Add(q, f32[]{0.02})\n"
                   "  y = com.microsoft.MatMulNBits(a, w, s) {K=1024, N=1024, bits=4, block_size=32}\n}");
    assert_int_equal(wide, 4 << 20);
    assert_int_equal(half, 2 << 20);
    assert_true(byte * 39 <= wide * 10);
    assert_true(nibble * 7 <= wide);
    const size_t conv = weights_of("graph (x: f32[1,64,8,8]) -> (y) opset 21 {\n  w: f32[64,64,3,3] = random(3)\n"
                                   "  y = Conv(x, w)\n}");
    const size_t conv_half = weights_of("graph (x: f32[1,64,8,8]) -> (y) opset 21 {\n  w: f16[64,64,3,3] = random(3)\n"
                                        "  k = Cast(w) {to=1}\n  y = Conv(x, k)\n}");
    const size_t conv_byte = weights_of("graph (x: f32[1,64,8,8]) -> (y) opset 21 {\n  w: i8[64,64,3,3] = random(3)\n"
                                        "  k = DequantizeLinear(w, f32[]{0.01})\n  y = Conv(x, k)\n}");
    assert_int_equal(conv - conv_half, 64 * 64 * 9 * 2); /* beside the table of taps */
    assert_true(conv - conv_byte >= 64 * 64 * 9 * 3 - 1024);
}

/* A second plan of a model finds the weights there, in whatever storage. */
static void test_plans_share(void **state) {
    ps_device *device;
    ps_error err = PS_ERROR_INIT;
    size_t held[2];
    ps_model *m = fixture_model(cmp_engine,
                                "graph (a: f32[n,320]) -> (y) opset 21 {\n  w: i4[320,75] = random(3)\n"
                                "  r: f32[10,75] = random(5)\n  q = Mul(r, f32[]{0.01})\n  s = Add(q, f32[]{0.02})\n"
                                "  z: i4[10,75] = random(6)\n  k = DequantizeLinear(w, s, z) {axis=0, block_size=32}\n"
                                "  y = MatMul(a, k)\n}",
                                "gpu");
    assert_int_equal(ps_engine_device(cmp_engine, "gpu", &device, &err), PS_OK);
    for (int i = 0; i < 2; i++) {
        ps_session *s = fixture_session(m, 1);
        float *data = calloc(320 * 80, sizeof *data);
        ps_tensor *in = fixture_wrap(cmp_engine, PS_DTYPE_F32, 2, DIMS(i ? 80 : 1, 320), data), *out = NULL;
        if (ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
        ps_tensor_release(in);
        ps_session_free(s);
        free(data);
        held[i] = atomic_load(&device->held);
    }
    assert_int_equal(held[0], held[1]);
    ps_model_release(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_halves),          CMP_TEST(test_codes_of_matmul),
        CMP_TEST(test_codes_of_conv),   CMP_TEST(test_codes_in_other_forms),
        CMP_TEST(test_wide_scales),     CMP_TEST(test_nbits),
        CMP_TEST(test_codes_are_exact), CMP_TEST(test_device_memory),
        CMP_TEST(test_plans_share),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
