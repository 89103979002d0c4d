/* Convolutions on OpenCL beside the reference kernels: windows, ranks, groups, random shapes. */
#include "opencl_compare.h"

static uint32_t seed = 12345;

static int pick(int low, int high) {
    return low + (int)(cmp_next(&seed) % (uint32_t)(high - low + 1));
}

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

/* Few tiles and much depth, as at the end of a network: the depth is shared out, and the parts added up. */
static void test_conv_parts(void **state) {
    conv("opencl.conv gemm", "1,64,7,7", "40,64,3,3", 40, "pads=[1,1,1,1]");
    conv("opencl.conv gemm", "1,63,7,7", "37,63,3,3", 37, "pads=[1,1,1,1], strides=[2,2]");
    conv("opencl.conv gemm", "2,520,5,5", "64,520,1,1", 64, "strides=[1,1]");
    conv("opencl.conv gemm", "1,300,4,4", "33,300,1,1", 33, "strides=[2,2]");
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

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_conv_windows),
        CMP_TEST(test_conv_ranks_and_groups),
        CMP_TEST(test_conv_parts),
        CMP_TEST(test_conv_random),
        CMP_TEST(test_deconv),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
