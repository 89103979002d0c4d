/* Every OpenCL kernel once or twice at sizes that a simulator finishes: for tools/check-opencl, which runs this under
 * oclgrind. Results are compared with the reference kernels here too. */
#include "opencl_compare.h"

static void test_products(void **state) {
    check("opencl.conv gemm",
          "graph (x: f32[1,4,4,3], r: f32[1,5,4,3]) -> (y) opset 17 {\n  w: f32[5,4,3,3] = random(3)\n"
          "  b: f32[5] = random(4)\n  t = Conv(x, w, b) {pads=[1,1,1,1]}\n  u = Add(t, r)\n  y = Relu(u)\n}");
    check("opencl.conv gemm", "graph (x: f32[2,6,3,3]) -> (y) opset 17 {\n  w: f32[4,3,2,2] = random(3)\n"
                              "  y = Conv(x, w) {group=2, strides=[1,2]}\n}");
    check("opencl.conv gemm",
          "graph (x: f32[1,3,3,3]) -> (y) opset 17 {\n  w: f32[66,3,1,1] = random(3)\n  y = Conv(x, w)\n}");
    check("opencl.deconv", "graph (x: f32[1,3,3,2]) -> (y) opset 17 {\n  w: f32[3,2,2,3] = random(3)\n"
                           "  y = ConvTranspose(x, w) {strides=[2,2], pads=[0,1,0,0]}\n}");
    check("opencl.conv depthwise", "graph (x: f32[1,4,4,3]) -> (y) opset 17 {\n  w: f32[4,1,3,3] = random(3)\n"
                                   "  y = Conv(x, w) {group=4, pads=[1,1,1,1]}\n}");
    check("opencl.conv depthwise", "graph (x: f32[1,3,4,3]) -> (y) opset 17 {\n  w: f32[6,1,2,2] = random(3)\n"
                                   "  y = Conv(x, w) {group=3}\n}");
    check("opencl.matmul", "graph (a: f32[2,3,5], b: f32[2,5,7]) -> (y) opset 17 {\n  y = MatMul(a, b)\n}");
    check("opencl.gemm", "graph (a: f32[5,3], b: f32[7,5], c: f32[7]) -> (y) opset 17 {\n"
                         "  y = Gemm(a, b, c) {transA=1, transB=1}\n}");
    check("opencl.attention", "graph (q: f32[1,3,8], k: f32[1,5,8], v: f32[1,5,6], m: f32[1,1,3,5]) -> (y) opset 17 {\n"
                              "  y = polestar.Attention(q, k, v, m) {heads=2, scale=0.5}\n}");
}

/* What no card would choose at such sizes: Winograd's filtering, other cards' tiles, depthwise by four pixels. */
static void test_asked_for(void **state) {
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    cmp_scaled = true; /* as test_opencl_conv.c */
    cmp_tolerance = 5e-5f;
    for (int tile = 2; tile <= 4; tile += 2) {
        ocl_of(d)->test_winograd = tile;
        check("opencl.conv winograd",
              "graph (x: f32[1,3,5,4]) -> (y) opset 17 {\n  w: f32[5,3,3,3] = random(3)\n  b: f32[5] = random(4)\n"
              "  t = Conv(x, w, b) {pads=[1,0,1,1]}\n  y = Relu(t)\n}");
    }
    ocl_of(d)->test_winograd = -1;
    for (int tile = 2; ocl_test_tile(tile); tile++) {
        ocl_of(d)->test_tile = tile;
        check("opencl.gemm", "graph (a: f32[5,3], b: f32[7,5]) -> (y) opset 17 {\n"
                             "  y = Gemm(a, b) {transA=1, transB=1}\n}");
        check("opencl.conv gemm", "graph (x: f32[1,4,4,3]) -> (y) opset 17 {\n  w: f32[5,4,3,3] = random(3)\n"
                                  "  b: f32[5] = random(4)\n  y = Conv(x, w, b) {pads=[1,1,1,1]}\n}");
    }
    for (int way = -1; way <= 1; way += 2) {
        ocl_of(d)->test_attention = way;
        check("opencl.attention",
              "graph (q: f32[1,3,10], k: f32[1,34,10], v: f32[1,34,6], m: f32[1,1,3,34]) -> (y) opset 17 {\n"
              "  y = polestar.Attention(q, k, v, m) {heads=2, scale=0.5}\n}");
        check("opencl.attention", "graph (q: f32[1,3,8], k: f32[1,5,8], v: f32[1,5,40]) -> (y) opset 17 {\n"
                                  "  y = polestar.Attention(q, k, v) {heads=1, scale=0.5}\n}");
    }
    check("opencl.conv depthwise", "graph (x: f32[1,4,4,5]) -> (y) opset 17 {\n  w: f32[4,1,3,3] = random(3)\n"
                                   "  y = Conv(x, w) {group=4, pads=[1,1,1,1]}\n}");
}

/* Weights packed by the device: elements of 32 and 16 bits, and for Winograd's filtering. */
static void test_placed(void **state) {
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    ocl_of(d)->test_place = 1;
    test_products(state);
    test_asked_for(state);
    check("opencl.matmul f16", "graph (a: f32[5,7]) -> (y) opset 17 {\n  w: f16[7,35] = random(3)\n"
                               "  k = Cast(w) {to=1}\n  y = MatMul(a, k)\n}");
}

/* Each storage of weights, by a few rows of A and by tiles. */
static void test_weights(void **state) {
    static const char *const codes[] = { "i8[64,70] = random(3)\n  s: f32[70] = random(5)\n  z: i8[70] = random(6)\n"
                                         "  k = DequantizeLinear(w, s, z) {axis=1}",
                                         "u4[64,70] = random(3)\n  r: f32[2,70] = random(5)\n"
                                         "  s = Add(r, f32[]{2})\n  k = DequantizeLinear(w, s) {axis=0, block_size=32}",
                                         "f16[64,70] = random(3)\n  k = Cast(w) {to=1}",
                                         "bf16[64,70] = random(3)\n  k = Cast(w) {to=1}" };
    static const char *const labels[] = { "opencl.matmul u8", "opencl.matmul u4", "opencl.matmul f16",
                                          "opencl.matmul bf16" };
    for (size_t i = 0; i < 8; i++)
        check(labels[i / 2],
              "graph (a: f32[%d,64]) -> (y) opset 21 {\n  w: %s\n  x = Mul(a, f32[]{0.001})\n  y = MatMul(x, k)\n}",
              i % 2 ? 5 : 2, codes[i / 2]);
}

/* Blocks that are zero, by a few rows of A and by tiles; the last rows are no whole block. */
static void test_sparse(void **state) {
    for (int rows = 2; rows <= 5; rows += 3)
        check("opencl.matmul sparse",
              "graph (a: f32[%d,147]) -> (y) opset 17 {\n  r: f32[9,16,2,64] = random(3)\n"
              "  m: f32[9,1,2,1] = {1, 0, 0, 0, 0, 1, 0, 1, 0, ...}\n  e: f32[3,128] = random(4)\n"
              "  p = Mul(r, m)\n  q = Reshape(p, i64[2]{144, 128})\n  w = Concat(q, e) {axis=0}\n"
              "  x = Mul(a, f32[]{0.06})\n  t = MatMul(x, w)\n  y = Relu(t)\n}",
              rows);
}

static void test_rest(void **state) {
    check("opencl.pointwise",
          "graph (x: f32[2,3,5], r: f32[3,1]) -> (y) opset 17 {\n  t = Add(x, r)\n  y = Tanh(t)\n}");
    check("opencl.maxpool",
          "graph (x: f32[1,3,5,4]) -> (y) opset 19 {\n  y = MaxPool(x) {kernel_shape=[3,2], pads=[1,0,0,1]}\n}");
    check("opencl.avgpool",
          "graph (x: f32[1,3,5,4]) -> (y) opset 19 {\n  y = AveragePool(x) {kernel_shape=[2,2], pads=[1,0,0,1]}\n}");
    check("opencl.reduce", "graph (x: f32[3,70]) -> (y) opset 11 {\n  y = ReduceSum(x) {axes=[1]}\n}");
    check("opencl.reduce", "graph (x: f32[3,7]) -> (y) opset 11 {\n  y = ReduceMax(x) {axes=[0]}\n}");
    check("opencl.softmax", "graph (x: f32[3,70]) -> (y) opset 17 {\n  y = Softmax(x)\n}");
    check("opencl.layernorm", "graph (x: f32[3,70], s: f32[70], b: f32[70]) -> (y) opset 17 {\n"
                              "  y = LayerNormalization(x, s, b)\n}");
    check("opencl.transpose", "graph (x: f32[3,4,5]) -> (y) opset 17 {\n  y = Transpose(x) {perm=[2,0,1]}\n}");
    check("opencl.concat", "graph (x: f32[3,4], z: f32[3,2]) -> (y) opset 17 {\n  y = Concat(x, z) {axis=1}\n}");
    check("opencl.pad", "graph (x: f32[3,4]) -> (y) opset 17 {\n  p: i64[4] = {1, 0, 2, 3}\n  y = Pad(x, p)\n}");
    check("opencl.gather", "graph (x: f32[7,3], i: i64[2,2]) -> (y) opset 17 {\n  y = Gather(x, i)\n}");
    check("opencl.resize", "graph (x: f32[1,3,3,4]) -> (y) opset 18 {\n  s: f32[4] = {1, 1, 2, 1.5}\n"
                           "  y = Resize(x, _, s) {mode=\"linear\"}\n}");
    check("opencl.cast", "graph (x: f16[30]) -> (y) opset 17 {\n  y = Cast(x) {to=1}\n}");
    check("opencl.quantize", "graph (x: f32[3,4]) -> (y) opset 17 {\n  s: f32[] = {0.03125}\n  z: u8[] = {3}\n"
                             "  t = QuantizeLinear(x, s, z)\n  y = DequantizeLinear(t, s, z)\n}");
}

/* Products of 8-bit codes, in plain C: rows, windows and single channels; with and without zero points of weights, a
 * sum, a depth that is shared; and what lies between them. */
static void test_codes(void **state) {
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    ocl_of(d)->dot = OCL_DOT_PLAIN;
    d->caps.int8 = true;
    for (int tile = 0; tile <= 3; tile++) {
        ocl_of(d)->test_tile = tile;
        check("opencl.int8 matmul",
              "graph (x: u8[3,%d]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {131}\n"
              " w: i8[%d,5] = random(5)\n ws: f32[5] = random(7)\n wz: i8[5] = random(9)\n ys: f32 = {1.7}\n"
              " yz: u8 = {60}\n z = polestar.QLinearMatMul(x, xs, xz, w, ws, wz, ys, yz)\n}",
              tile ? 35 : 1040, tile ? 35 : 1040);
        check("opencl.int8 conv add",
              "graph (x: u8[1,%d,4,3], o: i8[1,%d,4,3]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = "
              "{120}\n"
              " w: i8[%d,%d,3,3] = random(5)\n cs: f32 = {0.9}\n cz: i8 = {-9}\n"
              " c = polestar.QLinearConv(x, xs, xz, w, xs, _, cs, cz) {pads=[1,1,1,1]}\n"
              " z = polestar.QLinearAdd(c, cs, cz, o, cs, cz, cs, cz)\n}",
              tile == 2 ? 16 : 3 + tile, 6 + tile, 6 + tile, tile == 2 ? 16 : 3 + tile);
    }
    ocl_of(d)->test_tile = 0;
    for (int c = 3; c <= 4; c++)
        check("opencl.int8 depthwise conv",
              "graph (x: i8[1,%d,4,3]) -> (y) opset 17, polestar 1, com.microsoft 1 {\n xs: f32 = {0.02}\n xz: i8 = "
              "{-9}\n"
              " w: u8[%d,1,3,2] = random(5)\n ys: f32 = {0.5}\n"
              " v = polestar.QLinearConv(x, xs, xz, w, xs, _, ys, xz) {group=%d, pads=[1,1,1,0]}\n"
              " m = MaxPool(v) {kernel_shape=[2,2]}\n t: i8[256] = random(3)\n l = polestar.Lookup(m, t)\n"
              " a = com.microsoft.QLinearAveragePool(l, xs, xz, xs, xz) {kernel_shape=[2,2], pads=[1,0,0,0]}\n"
              " g = com.microsoft.QLinearGlobalAveragePool(a, xs, xz, xs, xz)\n"
              " b = polestar.QLinearMul(a, xs, xz, g, xs, xz, xs, xz)\n"
              " k = polestar.QLinearAdd(b, xs, xz, a, xs, xz, xs, xz)\n"
              " s: f32[4] = {1, 1, 2, 1.5}\n y = Resize(k, _, s) {mode=\"nearest\"}\n}",
              c, c, c);
}

/* Values as f16. */
static void store_halves(int threads) {
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    ocl_of(d)->test_halves = threads == 1 ? 3 : 5;
    cmp_ends = threads == 1;
}

static void test_halves(void **state) {
    cmp_halves = 0x1p-10f; /* as opencl_compare.h */
    cmp_before_run = store_halves;
    test_products(state);
    test_asked_for(state);
    test_weights(state);
    test_rest(state);
}

int main(void) {
    const struct CMUnitTest tests[] = { CMP_TEST(test_products), CMP_TEST(test_asked_for), CMP_TEST(test_placed),
                                        CMP_TEST(test_weights),  CMP_TEST(test_sparse),    CMP_TEST(test_rest),
                                        CMP_TEST(test_codes),    CMP_TEST(test_halves) };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
