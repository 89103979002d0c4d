/* Convolutions and matrix products on OpenCL beside the reference kernels: every way in which they read their operands,
 * every post-operation, and random shapes. */
#include "opencl_compare.h"

static uint32_t seed = 12345;

static int pick(int low, int high) {
    return low + (int)(cmp_next(&seed) % (uint32_t)(high - low + 1));
}

/* ---- convolution ---- */

static void conv(const char *kernel, const char *x, const char *w, int out_channels, const char *attrs) {
    check(kernel,
          "graph (x: f32[%s]) -> (y) opset 17 {\n  w: f32[%s] = random(3)\n  b: f32[%d] = random(4)\n  y = Conv(x, w, "
          "b) {%s}\n}",
          x, w, out_channels, attrs);
    check(kernel,
          "graph (x: f32[%s]) -> (y) opset 17 {\n  w: f32[%s] = random(3)\n  t = Conv(x, w) {%s}\n  y = Relu(t)\n}", x,
          w, attrs);
}

static void test_conv_windows(void **state) {
    static const char *const attrs[] = {
        "strides=[2,2]",
        "strides=[2,1], pads=[1,0,2,1]",
        "dilations=[2,3], pads=[2,3,2,3]",
        "auto_pad=\"SAME_UPPER\", strides=[2,2]",
        "auto_pad=\"SAME_LOWER\", strides=[2,3]",
        "pads=[5,5,5,5]",
        "pads=[-1,0,-1,2]",
    };
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++) {
        conv("opencl.conv gemm", "2,5,11,9", "8,5,3,3", 8, attrs[i]);
        char own[96];
        snprintf(own, sizeof own, "group=16, %s", attrs[i]);
        conv("opencl.conv depthwise", "1,16,11,9", "16,1,3,3", 16, own);
    }
}

static void test_conv_ranks_and_groups(void **state) {
    conv("opencl.conv gemm", "2,5,19", "7,5,3", 7, "pads=[1,2], dilations=[2]");
    conv("opencl.conv gemm", "1,4,6,7,8", "6,4,3,3,3", 6, "pads=[1,1,1,1,1,1], strides=[1,2,1]");
    conv("opencl.conv depthwise", "1,6,5,7,6", "6,1,3,3,3", 6, "pads=[1,1,1,1,1,1], group=6");
    conv("opencl.conv depthwise", "1,3,9,9", "6,1,3,3", 6, "group=3");
    conv("opencl.conv gemm", "2,8,9,7", "12,4,3,3", 12, "group=2, pads=[1,1,1,1]");
    conv("opencl.conv gemm", "2,9,9,7", "6,3,1,1", 6, "group=3");
    conv("opencl.conv gemm", "1,1,40,1", "70,1,10,1", 70, "strides=[5,1]");
}

static void test_conv_random(void **state) {
    char x[64], w[64], attrs[160];
    for (int i = 0; i < 40; i++) {
        const int groups = pick(0, 3) ? 1 : pick(2, 4), in = groups * pick(1, 20), out = groups * pick(1, 40);
        const int kh = pick(1, 5), kw = pick(1, 5), dh = pick(1, 2), dw = pick(1, 2);
        snprintf(x, sizeof x, "%d,%d,%d,%d", pick(1, 3), in, kh * dh + pick(0, 12), kw * dw + pick(0, 12));
        snprintf(w, sizeof w, "%d,%d,%d,%d", out, in / groups, kh, kw);
        snprintf(attrs, sizeof attrs, "group=%d, strides=[%d,%d], dilations=[%d,%d], pads=[%d,%d,%d,%d]", groups,
                 pick(1, 3), pick(1, 3), dh, dw, pick(0, 2), pick(0, 2), pick(0, 2), pick(0, 2));
        conv("opencl.conv", x, w, out, attrs);
    }
}

static void test_deconv(void **state) {
    static const char *const attrs[] = {
        "strides=[2,2]",
        "strides=[2,3], pads=[1,0,2,1]",
        "dilations=[2,1], pads=[1,1,1,1]",
        "strides=[3,2], output_padding=[1,1]",
        "auto_pad=\"SAME_UPPER\", strides=[2,2]",
        "strides=[2,2], output_shape=[14,15]",
    };
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++) {
        check("opencl.deconv",
              "graph (x: f32[2,5,7,6]) -> (y) opset 17 {\n  w: f32[5,8,3,3] = random(3)\n  b: f32[8] = random(4)\n"
              "  t = ConvTranspose(x, w, b) {%s}\n  y = Relu(t)\n}",
              attrs[i]);
        check("opencl.deconv",
              "graph (x: f32[1,8,7,6]) -> (y) opset 17 {\n  w: f32[8,3,3,3] = random(3)\n"
              "  y = ConvTranspose(x, w) {group=2, %s}\n}",
              attrs[i]);
    }
    check("opencl.deconv", "graph (x: f32[2,4,9]) -> (y) opset 17 {\n  w: f32[4,3,4] = random(3)\n"
                           "  y = ConvTranspose(x, w) {strides=[2], pads=[1,1]}\n}");
}

/* ---- epilogues ---- */

static void test_posts(void **state) {
    static const char *const ops[] = { "Relu(t)",         "Sigmoid(t)",   "Tanh(t)", "LeakyRelu(t) {alpha=0.3}",
                                       "Clip(t, lo, hi)", "HardSwish(t)", "Gelu(t)", "Exp(t)",
                                       "Abs(t)",          "Erf(t)",       "Sqrt(t)", "Neg(t)",
                                       "HardSigmoid(t)" };
    for (int special = 0; special < 2; special++) {
        cmp_values = special ? CMP_SPECIAL : CMP_SMALL;
        for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
            check("opencl.pointwise",
                  "graph (t: f32[2,3,5,7]) -> (y) opset 20 {\n  lo: f32[] = {-1}\n  hi: f32[] = {2}\n  y = %s\n}",
                  ops[i]);
        }
    }
    cmp_values = CMP_SMALL;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        check("opencl.conv gemm",
              "graph (x: f32[1,6,5,7]) -> (y) opset 20 {\n  lo: f32[] = {-1}\n  hi: f32[] = {2}\n"
              "  w: f32[10,6,1,1] = random(3)\n  t = Conv(x, w)\n  y = %s\n}",
              ops[i]);
    }
}

/* Residuals of every form below the result, plain and channels-last. */
static void test_operands(void **state) {
    static const char *const shapes[] = { "2,10,5,7", "10,1,1", "1,10,1,1", "2,1,5,7", "5,7",
                                          "7",        "1",      "2,10,1,7", "1,1,1,1" };
    static const char *const ops[] = { "Add", "Mul", "Sub", "Max" };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (size_t o = 0; o < sizeof ops / sizeof *ops; o++) {
            check("opencl.conv gemm",
                  "graph (x: f32[2,6,5,7], r: f32[%s]) -> (y) opset 17 {\n  w: f32[10,6,3,3] = random(3)\n"
                  "  t = Conv(x, w) {pads=[1,1,1,1]}\n  y = %s(t, r)\n}",
                  shapes[i], ops[o]);
        }
        check("opencl.conv depthwise",
              "graph (x: f32[2,10,5,7], r: f32[%s]) -> (y) opset 17 {\n  w: f32[10,1,3,3] = random(3)\n"
              "  t = Conv(x, w) {pads=[1,1,1,1], group=10}\n  u = Add(t, r)\n  y = Relu(u)\n}",
              shapes[i]);
        check("opencl.pointwise", "graph (x: f32[2,10,5,7], r: f32[%s]) -> (y) opset 17 {\n  y = Div(x, r)\n}",
              shapes[i]);
    }
    check("opencl.pointwise", "graph (x: f32[7], r: f32[2,3,1]) -> (y) opset 17 {\n  y = Sub(x, r)\n}");
}

/* ---- products ---- */

static void test_matmul_random(void **state) {
    for (int i = 0; i < 24; i++) {
        const int m = pick(1, 90), k = pick(1, 70), n = pick(1, 150);
        check("opencl.matmul", "graph (a: f32[%d,%d], b: f32[%d,%d]) -> (y) opset 17 {\n  y = MatMul(a, b)\n}", m, k, k,
              n);
        check("opencl.matmul",
              "graph (a: f32[3,%d,%d]) -> (y) opset 17 {\n  b: f32[%d,%d] = random(3)\n  c: f32[%d] = random(4)\n"
              "  t = MatMul(a, b)\n  u = Add(t, c)\n  y = Relu(u)\n}",
              m, k, k, n, n);
        check("opencl.gemm",
              "graph (a: f32[%d,%d], c: f32[%d,%d]) -> (y) opset 17 {\n  b: f32[%d,%d] = random(3)\n"
              "  y = Gemm(a, b, c) {transA=%d, transB=%d, alpha=0.5}\n}",
              i & 1 ? k : m, i & 1 ? m : k, m, n, i & 2 ? n : k, i & 2 ? k : n, i & 1, i >> 1 & 1);
        check("opencl.gemm",
              "graph (a: f32[%d,%d], b: f32[%d,%d]) -> (y) opset 17 {\n"
              "  y = Gemm(a, b) {transA=%d, transB=%d}\n}",
              i & 1 ? k : m, i & 1 ? m : k, i & 2 ? n : k, i & 2 ? k : n, i & 1, i >> 1 & 1);
    }
}

static void test_matmul_batches(void **state) {
    static const char *const pairs[][2] = {
        { "3,5,6", "3,6,7" },   { "2,3,5,6", "2,3,6,7" }, { "2,3,5,6", "3,6,7" },   { "2,3,5,6", "2,1,6,7" },
        { "3,5,6", "2,1,6,7" }, { "5,6", "3,6,7" },       { "1,3,5,6", "2,1,6,7" }, { "4,1,5,6", "4,3,6,7" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        check("opencl.matmul", "graph (a: f32[%s], b: f32[%s]) -> (y) opset 17 {\n  y = MatMul(a, b)\n}", pairs[i][0],
              pairs[i][1]);
        check("opencl.matmul", "graph (a: f32[%s]) -> (y) opset 17 {\n  b: f32[%s] = random(5)\n  y = MatMul(a, b)\n}",
              pairs[i][0], pairs[i][1]);
    }
}

static void test_attention(void **state) {
    static const char *const masks[] = { "1,1,1,9", "2,1,7,9", "2,4,7,9", "7,9", "9" };
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        check("opencl.attention",
              "graph (q: f32[2,7,24], k: f32[2,9,24], v: f32[2,9,20], m: f32[%s]) -> (y) opset 17 {\n"
              "  y = polestar.Attention(q, k, v, m) {heads=4, scale=0.4}\n}",
              masks[i]);
    }
    check("opencl.attention", "graph (q: f32[1,70,64], k: f32[1,130,64], v: f32[1,130,64]) -> (y) opset 17 {\n"
                              "  y = polestar.Attention(q, k, v) {heads=2, scale=0.2}\n}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_conv_windows),  CMP_TEST(test_conv_ranks_and_groups),
        CMP_TEST(test_conv_random),   CMP_TEST(test_deconv),
        CMP_TEST(test_posts),         CMP_TEST(test_operands),
        CMP_TEST(test_matmul_random), CMP_TEST(test_matmul_batches),
        CMP_TEST(test_attention),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
