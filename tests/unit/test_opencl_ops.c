/* Pools, reductions, norms, moves and conversions on OpenCL beside the reference kernels. */
#include "opencl_compare.h"

static void test_pools(void **state) {
    static const char *const attrs[] = {
        "kernel_shape=[3,3]",
        "kernel_shape=[2,3], strides=[2,1], pads=[1,0,0,2]",
        "kernel_shape=[3,3], strides=[2,2], ceil_mode=1",
        "kernel_shape=[3,2], auto_pad=\"SAME_UPPER\", strides=[2,2]",
        "kernel_shape=[3,3], pads=[1,1,1,1], dilations=[2,1]",
    };
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++) {
        check("opencl.maxpool", "graph (x: f32[2,5,11,9]) -> (y) opset 19 {\n  y = MaxPool(x) {%s}\n}", attrs[i]);
        check("opencl.avgpool", "graph (x: f32[2,5,11,9]) -> (y) opset 19 {\n  y = AveragePool(x) {%s}\n}", attrs[i]);
        check("opencl.avgpool",
              "graph (x: f32[2,5,11,9]) -> (y) opset 19 {\n  y = AveragePool(x) {%s, count_include_pad=1}\n}",
              attrs[i]);
    }
    check("opencl.maxpool", "graph (x: f32[1,3,20]) -> (y) opset 19 {\n  y = MaxPool(x) {kernel_shape=[4]}\n}");
    check("opencl.avgpool", "graph (x: f32[1,3,5,6,7]) -> (y) opset 19 {\n"
                            "  y = AveragePool(x) {kernel_shape=[2,2,3], pads=[0,1,1,0,0,1]}\n}");
    /* windows that see padding alone */
    check("opencl.avgpool", "graph (x: f32[1,1,2]) -> (y) opset 19 {\n"
                            "  y = AveragePool(x) {kernel_shape=[2], dilations=[3], pads=[1,1]}\n}");
    /* more taps than one item should walk through, and numbers beyond a kernel's int */
    check("cpu.avgpool", "graph (x: f32[1,1,1]) -> (y) opset 19 {\n"
                         "  y = AveragePool(x) {kernel_shape=[2097153], pads=[1048576,1048576]}\n}");
    check("cpu.maxpool", "graph (x: f32[1,1,1]) -> (y) opset 19 {\n"
                         "  y = MaxPool(x) {kernel_shape=[2], dilations=[4294967296], pads=[0,4294967296]}\n}");
    cmp_values = CMP_SPECIAL;
    check("opencl.maxpool", "graph (x: f32[2,5,11,9]) -> (y) opset 19 {\n  y = MaxPool(x) {kernel_shape=[2,2]}\n}");
}

static void test_reductions(void **state) {
    static const char *const ops[] = { "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd" };
    static const char *const axes[] = { "axes=[0]", "axes=[1,2]", "axes=[-1]", "axes=[2,3], keepdims=0", "keepdims=0" };
    for (size_t o = 0; o < sizeof ops / sizeof *ops; o++) {
        cmp_values = o == 4 ? CMP_SMALL : CMP_FINITE;
        cmp_scaled = true; /* sums of 3e38 and 1: only beside the largest does an error mean anything */
        for (size_t a = 0; a < sizeof axes / sizeof *axes; a++) {
            if (o != 2 && o != 3) cmp_values = CMP_SMALL;
            check("opencl.reduce", "graph (x: f32[3,4,%d,7]) -> (y) opset 11 {\n  y = %s(x) {%s}\n}", o == 4 ? 2 : 30,
                  ops[o], axes[a]);
        }
    }
    check("opencl.reduce", "graph (x: f32[2,5,7,6]) -> (y) opset 17 {\n  y = GlobalAveragePool(x)\n}");
    check("opencl.reduce", "graph (x: f32[2,5,17,6]) -> (y) opset 17 {\n  y = GlobalMaxPool(x)\n}");
    check("opencl.reduce", "graph (x: f32[2,5,7,6]) -> (y) opset 17 {\n  w: f32[80,5,1,1] = random(3)\n"
                           "  t = Conv(x, w)\n  y = GlobalAveragePool(t)\n}");
}

static void test_rows(void **state) {
    static const int lengths[] = { 1, 3, 64, 65, 200 };
    /* as many numbers as a row, and another one for each row */
    check("cpu|ref", "graph (x: f32[4,4], s: f32[4,1]) -> (y) opset 17 {\n  y = LayerNormalization(x, s)\n}");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        const int n = lengths[i];
        check("opencl.softmax", "graph (x: f32[3,2,%d]) -> (y) opset 17 {\n  y = Softmax(x) {axis=-1}\n}", n);
        check("opencl.softmax", "graph (x: f32[3,%d,5]) -> (y) opset 17 {\n  y = Softmax(x) {axis=1}\n}", n);
        check("opencl.softmax", "graph (x: f32[3,%d,5]) -> (y) opset 11 {\n  y = LogSoftmax(x) {axis=1}\n}", n);
        check("opencl.layernorm",
              "graph (x: f32[3,2,%d], s: f32[%d], b: f32[%d]) -> (y) opset 17 {\n"
              "  y = LayerNormalization(x, s, b) {axis=-1, epsilon=0.001}\n}",
              n, n, n);
        check("opencl.layernorm",
              "graph (x: f32[3,2,%d], s: f32[2,%d]) -> (y) opset 17 {\n  y = LayerNormalization(x, s) {axis=1}\n}", n,
              n);
        check("opencl.instancenorm",
              "graph (x: f32[2,3,%d,2], s: f32[3], b: f32[3]) -> (y) opset 17 {\n"
              "  y = InstanceNormalization(x, s, b) {epsilon=0.001}\n}",
              n);
        check("opencl.groupnorm",
              "graph (x: f32[2,6,%d,2], s: f32[6], b: f32[6]) -> (y) opset 21 {\n"
              "  y = GroupNormalization(x, s, b) {num_groups=3, epsilon=0.001}\n}",
              n);
    }
    check("opencl.groupnorm", "graph (x: f32[2,6,9], s: f32[2], b: f32[2]) -> (y) opset 18 {\n"
                              "  y = GroupNormalization(x, s, b) {num_groups=2}\n}");
}

static void test_moves(void **state) {
    static const char *const types[] = { "f32", "i64", "u8", "f16" };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const char *t = types[i];
        check("opencl.transpose", "graph (x: %s[30,20,7,6]) -> (y) opset 17 {\n  y = Transpose(x) {perm=[3,1,0,2]}\n}",
              t);
        check("opencl.concat",
              "graph (x: %s[3,20,25], z: %s[3,30,25]) -> (y) opset 17 {\n  y = Concat(x, z, x) {axis=1}\n}", t, t);
        check("opencl.slice",
              "graph (x: %s[30,20,17]) -> (y) opset 17 {\n  s: i64[3] = {-2, 3, 1}\n  e: i64[3] = {-30, 100, -1}\n"
              "  a: i64[3] = {0, 1, -1}\n  d: i64[3] = {-3, 2, 1}\n  y = Slice(x, s, e, a, d)\n}",
              t);
        check("opencl.expand",
              "graph (x: %s[3,1,40]) -> (y) opset 17 {\n  s: i64[4] = {2, 1, 50, 40}\n  y = Expand(x, s)\n}", t);
        check("opencl.expand", "graph (x: %s[3,20,40]) -> (y) opset 17 {\n  s: i64[3] = {2, 1, 3}\n  y = Tile(x, s)\n}",
              t);
        check("opencl.pad",
              "graph (x: %s[3,20,40]) -> (y) opset 17 {\n  p: i64[6] = {1, 0, 2, 0, 3, 1}\n  y = Pad(x, p)\n}", t);
        check("opencl.split",
              "graph (x: %s[3,30,40]) -> (y, z) opset 17 {\n  s: i64[2] = {12, 18}\n  y, z = Split(x, s) {axis=1}\n}",
              t);
        check("opencl.gather", "graph (x: %s[3,7,300], i: i64[2,3]) -> (y) opset 17 {\n  y = Gather(x, i) {axis=1}\n}",
              t);
    }
    check("opencl.pad", "graph (x: f32[2,3,9,8]) -> (y) opset 18 {\n  p: i64[4] = {1, 2, 0, 3}\n  v: f32[] = {-2.5}\n"
                        "  a: i64[2] = {2, 3}\n  w: f32[4,3,1,1] = random(1)\n  t = Pad(x, p, v, a)\n"
                        "  u = Transpose(t) {perm=[1,0,3,2]}\n  y = Transpose(u) {perm=[1,0,3,2]}\n}");
    check("opencl.gather", "graph (x: f32[40,30], i: i32[5]) -> (y) opset 17 {\n  k: i32[] = {-7}\n  j = Add(i, k)\n"
                           "  y = Gather(x, j)\n}");
}

/* Between convolutions, in channels-last memory. */
static void test_moves_in_channels_last(void **state) {
    static const char *const bodies[] = {
        "u = Concat(t, t, x) {axis=1}",
        "u = Concat(t, t) {axis=2}",
        "p: i64[8] = {0, 0, 1, 2, 0, 0, 0, 1}\n  u = Pad(t, p)",
        "s: i64[2] = {1, 2}\n  e: i64[2] = {9, 5}\n  a: i64[2] = {1, 3}\n  u = Slice(t, s, e, a)",
        "u = Transpose(t) {perm=[0,2,3,1]}",
        "s: i64[3] = {2, 10, 35}\n  u = Reshape(t, s)",
        "a, u = Split(t) {axis=1, num_outputs=2}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        check("opencl.conv gemm",
              "graph (x: f32[2,6,5,7]) -> (u) opset 18 {\n  w: f32[10,6,3,3] = random(3)\n"
              "  t = Conv(x, w) {pads=[1,1,1,1]}\n  %s\n}",
              bodies[i]);
    }
}

static void test_conversions(void **state) {
    static const char *const from[] = { "bool", "u8", "i8", "i32", "i64", "f16" };
    for (size_t i = 0; i < sizeof from / sizeof *from; i++)
        check("opencl.cast", "graph (x: %s[30,50]) -> (y) opset 17 {\n  y = Cast(x) {to=1}\n}", from[i]);
    check("opencl.cast", "graph (x: f32[30,5]) -> (y) opset 17 {\n  y = Cast(x) {to=9}\n}");
    check("opencl.cast", "graph (x: f32[30,5]) -> (y) opset 17 {\n  y = Cast(x) {to=10}\n}");
    for (int mode = 0; mode < 2; mode++) {
        const char *m = mode ? "linear" : "nearest";
        check("opencl.resize",
              "graph (x: f32[2,5,6,7]) -> (y) opset 18 {\n  s: f32[4] = {1, 1, 2.3, 0.6}\n"
              "  y = Resize(x, _, s) {mode=\"%s\"}\n}",
              m);
        check("opencl.resize",
              "graph (x: f32[1,3,6,7]) -> (y) opset 18 {\n  s: i64[4] = {1, 3, 12, 21}\n"
              "  y = Resize(x, _, _, s) {mode=\"%s\", coordinate_transformation_mode=\"asymmetric\"}\n}",
              m);
        check("opencl.resize",
              "graph (x: f32[1,3,6,7]) -> (y) opset 11 {\n  s: f32[4] = {1, 1, 2, 2}\n  none: f32[0] = {}\n"
              "  y = Resize(x, none, s) {mode=\"%s\", coordinate_transformation_mode=\"asymmetric\"}\n}",
              m);
        check("opencl.resize",
              "graph (x: f32[1,4,6,7]) -> (y) opset 18 {\n  s: i64[4] = {1, 4, 11, 5}\n"
              "  y = Resize(x, _, _, s) {mode=\"%s\", coordinate_transformation_mode=\"align_corners\"}\n}",
              m);
    }
}

static void test_codes(void **state) {
    static const char *const types[] = { "u8", "i8" };
    for (size_t i = 0; i < 2; i++) {
        check("opencl.quantize",
              "graph (x: f32[3,40,5]) -> (y) opset 17 {\n  s: f32[] = {0.03125}\n  z: %s[] = {3}\n"
              "  y = QuantizeLinear(x, s, z)\n}",
              types[i]);
        check("opencl.dequantize",
              "graph (x: %s[3,4,50]) -> (y) opset 17 {\n  s: f32[4] = {0.1, 0.2, 0.3, 1}\n  z: %s[4] = {3, 0, 1, 100}\n"
              "  y = DequantizeLinear(x, s, z) {axis=1}\n}",
              types[i], types[i]);
    }
    check("opencl.quantize", "graph (x: f32[3,4,5]) -> (y) opset 17 {\n  s: f32[4] = {0.125, 0.25, 0.5, 1}\n"
                             "  z: i8[4] = {3, 0, -1, 100}\n  y = QuantizeLinear(x, s, z) {axis=1}\n}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_pools),
        CMP_TEST(test_reductions),
        CMP_TEST(test_rows),
        CMP_TEST(test_moves),
        CMP_TEST(test_moves_in_channels_last),
        CMP_TEST(test_conversions),
        CMP_TEST(test_codes),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
