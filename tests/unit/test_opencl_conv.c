/* Convolutions on OpenCL beside the reference kernels: windows, ranks, groups, random shapes. */
#include "opencl_compare.h"

#include "backend/opencl/conv.h"

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
    for (int i = 0; i < OPENCL_CASES(40); i++) {
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

static ocl_device *device(void) {
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    return ocl_of(d);
}

/* Tiles of other cards, which this one would not choose: windows, rows, ends along every dim, depth in parts. Sums of
 * hundreds of products that cancel err by their sizes, not by what is left. Each compiles for seconds: 3 x 3 in all
 * tiles, the others in four. */
static void test_conv_tiles(void **state) {
    cmp_scaled = true;
    device()->test_winograd = -1;
    for (int tile = 1; ocl_test_tile(tile); tile++) {
        device()->test_tile = tile;
        conv("opencl.conv gemm", "2,20,9,11", "150,20,3,3", 150, "pads=[1,1,1,1]");
        if (tile == 1 || tile % 3 == 0)
            conv("opencl.conv gemm", "2,36,9,11", "132,36,1,1", 132, "strides=[1,1]");
        if (tile == 1 || tile % 3 == 1)
            conv("opencl.conv gemm", "1,3,19,17", "20,3,7,7", 20, "pads=[3,3,3,3], strides=[2,2]");
        if (tile == 1 || tile % 3 == 2)
            conv("opencl.conv gemm", "1,300,5,5", "36,300,1,1", 36, "strides=[2,2]");
    }
}

/* By one pixel and by four. */
static void test_depthwise_pixels(void **state) {
    for (int tile = 1; tile <= 2; tile++) {
        device()->test_tile = tile;
        conv("opencl.conv depthwise", "2,8,9,11", "8,1,3,3", 8, "group=8, pads=[1,1,1,1]");
        conv("opencl.conv depthwise", "1,12,9,10", "12,1,3,3", 12, "group=12, pads=[1,1,1,1], strides=[2,2]");
        conv("opencl.conv depthwise", "1,4,9,13", "4,1,5,5", 4, "group=4, pads=[2,2,2,2], strides=[1,2]");
        conv("opencl.conv depthwise", "1,4,9,13", "4,1,3,5", 4, "group=4, pads=[0,3,1,2], dilations=[2,1]");
    }
}

/* Winograd's filtering errs more than sums in order, for its transforms multiply by up to 8 and divide by up to 24 what
 * then cancels: F(4x4) by up to some twenty times as much, against the largest value of all that a tile mixes. */
static void test_winograd(void **state) {
    char x[64], w[64], attrs[96], label[64];
    cmp_scaled = true;
    for (int i = 0; i < OPENCL_CASES(24); i++) {
        const int tile = i % 2 ? 4 : 2, in = pick(1, 40), out = i % 3 ? 4 * pick(1, 20) : pick(1, 70);
        device()->test_winograd = tile;
        cmp_tolerance = tile == 2 ? 1e-5f : 5e-5f;
        snprintf(label, sizeof label, "opencl.conv winograd %dx%d", tile, tile);
        snprintf(x, sizeof x, "%d,%d,%d,%d", pick(1, 3), in, pick(3, 17), pick(3, 17));
        snprintf(w, sizeof w, "%d,%d,3,3", out, in);
        snprintf(attrs, sizeof attrs, "pads=[%d,%d,%d,%d]", pick(0, 2), pick(0, 2), pick(0, 2), pick(0, 2));
        conv(label, x, w, out, attrs);
    }
    device()->test_winograd = 4;
    cmp_tolerance = 5e-5f;
    check("opencl.conv winograd 4x4",
          "graph (x: f32[2,6,5,7], r: f32[2,10,5,7]) -> (y) opset 17 {\n  w: f32[10,6,3,3] = random(3)\n"
          "  t = Conv(x, w) {pads=[1,1,1,1]}\n  u = Add(t, r)\n  y = Relu(u)\n}");
}

/* One picture deep, and one result deep, which lies in the padding before it: the bias, and nothing of the picture. */
static void test_depth_in_padding(void **state) {
    static const char attrs[] = "strides=[3,1,1], pads=[1,1,1,1,1,1]";
    char own[96];
    device()->test_winograd = 2;
    conv("opencl.conv gemm", "1,8,1,9,11", "12,8,1,3,3", 12, attrs);
    device()->test_tile = 2;
    snprintf(own, sizeof own, "group=8, %s", attrs);
    conv("opencl.conv depthwise", "1,8,1,9,11", "8,1,1,3,3", 8, own);
}

/* Numbers that are legal, and more than a kernel's int holds: the CPU's. */
static void test_numbers_beyond_int(void **state) {
    check("cpu|ref|onednn", "graph (x: f32[1,1,1]) -> (y) opset 17 {\n  w: f32[1,1,2] = random(3)\n"
                            "  y = Conv(x, w) {dilations=[4294967296], pads=[0,4294967296]}\n}");
    check("cpu|ref|onednn", "graph (x: f32[1,8,3,1]) -> (y) opset 17 {\n  w: f32[8,1,3,2] = random(3)\n"
                            "  y = Conv(x, w) {group=8, dilations=[1,4294967296], pads=[0,0,0,4294967296]}\n}");
    check("cpu|ref|onednn", "graph (x: f32[1,4,1]) -> (y) opset 17 {\n  w: f32[4,4,2] = random(3)\n"
                            "  y = ConvTranspose(x, w) {strides=[4294967296]}\n}");
    check("opencl.conv gemm", "graph (x: f32[1,1,2]) -> (y) opset 17 {\n  w: f32[1,1,2] = random(3)\n"
                              "  y = Conv(x, w) {dilations=[134217725], pads=[0,134217724]}\n}");
}

/* 36 transformed weights for each pair of channels, of which there are so many that a kernel's int does not hold where
 * the last ones are: 4x4 is not asked, where 2x2 or the product can be. */
static void test_winograd_beyond_int(void **state) {
    const ps_window one = { 1, 1, 1, 1, 1, 0, 0 }, side = { 24, 24, 3, 1, 1, 1, 1 };
    ocl_device d = { .gpu = true, .family = OCL_GCN, .filled = 256, .most_items = 256, .units = 32 };
    for (int64_t channels = 4096; channels <= 16384; channels *= 2) {
        const ocl_conv c = { .w = { one, side, side },
                             .groups = 1,
                             .in_channels = channels,
                             .out_channels = channels,
                             .batch = 1,
                             .taps = 9 };
        ocl_gemm g;
        const int tile = ocl_winograd_choice(&d, &c, &g);
        if (tile) assert_true(g.inner * g.step[3] <= INT32_MAX);
        assert_int_equal(tile, channels == 4096 ? 4 : channels == 8192 ? 2 : 0);
    }
}

/* NVIDIA's driver launches up to 65,535 work-groups in y and z: what needs more is the CPU's, not an error. */
static void test_too_many_groups(void **state) {
    static const char pictures[] = "graph (x: f32[3,8,4,4]) -> (y) opset 17 {\n  w: f32[8,8,1,1] = random(3)\n"
                                   "  y = Conv(x, w)\n}",
                      products[] = "graph (a: f32[3,8,8], b: f32[3,8,8]) -> (y) opset 17 {\n  y = MatMul(a, b)\n}";
    device()->most_groups = 3;
    check("opencl.matmul", products);
    device()->most_groups = 2;
    check("cpu|ref|onednn", products);
    check("opencl.conv gemm|cpu|ref|onednn", pictures); /* by the tile of the turn */
    device()->most_groups = 0;
    check("cpu|ref|onednn", pictures);
}

/* Where it costs less it is chosen: many tiles of many channels, large and small images. */
static void test_winograd_is_chosen(void **state) {
    cmp_scaled = true;
    cmp_tolerance = 5e-5f;
    check("opencl.conv winograd 4x4",
          "graph (x: f32[4,128,28,28]) -> (y) opset 17 {\n  w: f32[128,128,3,3] = random(3)\n"
          "  y = Conv(x, w) {pads=[1,1,1,1]}\n}");
    check("opencl.conv winograd 2x2",
          "graph (x: f32[256,256,2,2]) -> (y) opset 17 {\n  w: f32[256,256,3,3] = random(3)\n"
          "  y = Conv(x, w) {pads=[1,1,1,1]}\n}");
    check("opencl.conv gemm", "graph (x: f32[1,8,6,6]) -> (y) opset 17 {\n  w: f32[8,8,3,3] = random(3)\n"
                              "  y = Conv(x, w) {pads=[1,1,1,1]}\n}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_conv_windows),
        CMP_TEST(test_conv_ranks_and_groups),
        CMP_TEST(test_conv_parts),
        CMP_TEST(test_conv_random),
        CMP_TEST(test_deconv),
        CMP_TEST(test_conv_tiles),
        CMP_TEST(test_depthwise_pixels),
        CMP_TEST(test_winograd),
        CMP_TEST(test_depth_in_padding),
        CMP_TEST(test_numbers_beyond_int),
        CMP_TEST(test_too_many_groups),
        CMP_TEST(test_winograd_beyond_int),
        CMP_TEST(test_winograd_is_chosen),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
