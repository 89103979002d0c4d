/* Windowed pools, global pools and reductions on the CPU device. */
#include "cpu_compare.h"

static void pool(const char *x, const char *attrs)
{
    check("cpu.maxpool", "graph (x: f32[%s]) -> (y) opset 19 {\n  y = MaxPool(x) {%s}\n}", x, attrs);
    for (int pad = 0; pad < 2; pad++) {
        check("cpu.avgpool", "graph (x: f32[%s]) -> (y) opset 19 {\n  y = AveragePool(x) {count_include_pad=%d, %s}\n}",
              x, pad, attrs);
    }
}

static void test_windows(void **state)
{
    static const char *const attrs[] = {
        "kernel_shape=[2,2]",
        "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]",
        "kernel_shape=[3,3], strides=[2,2], ceil_mode=1",
        "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], ceil_mode=1",
        "kernel_shape=[3,2], strides=[3,2], pads=[0,1,2,0], ceil_mode=1",
        "kernel_shape=[3,2], strides=[1,3], pads=[2,0,1,1]",
        "kernel_shape=[3,3], dilations=[2,2]",
        "kernel_shape=[3,2], dilations=[2,3], pads=[2,1,2,2], strides=[2,1]",
        "kernel_shape=[2,2], dilations=[3,3], strides=[2,2], ceil_mode=1",
        "kernel_shape=[3,3], strides=[2,2], auto_pad=\"SAME_UPPER\"",
        "kernel_shape=[2,3], strides=[2,3], auto_pad=\"SAME_LOWER\"",
        "kernel_shape=[2,3], strides=[2,3], auto_pad=\"VALID\"",
        "kernel_shape=[9,8]",
        "kernel_shape=[1,1], strides=[3,3]",
        "kernel_shape=[2,2], strides=[4,4], ceil_mode=1, pads=[0,0,1,1]",
    };
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++) {
        pool("2,5,9,8", attrs[i]);
        pool("1,1,9,8", attrs[i]);
        pool("1,33,9,8", attrs[i]);
    }
    cmp_values = CMP_SPECIAL;
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++) {
        check("cpu.maxpool", "graph (x: f32[3,5,9,8]) -> (y) opset 19 {\n  y = MaxPool(x) {%s}\n}", attrs[i]);
    }
}

static void test_ranks(void **state)
{
    pool("2,5,19", "kernel_shape=[3], strides=[2], pads=[1,0]");
    pool("2,5,19", "kernel_shape=[4], strides=[3], ceil_mode=1");
    pool("1,1,1", "kernel_shape=[1]");
    pool("2,3,5,6,7", "kernel_shape=[2,3,2], strides=[1,2,2], pads=[1,0,1,0,1,0]");
    pool("1,17,5,6,7", "kernel_shape=[3,3,3], strides=[2,2,2], ceil_mode=1");
    check("ref", "graph (x: f32[1,2,2,3,2,3]) -> (y) opset 19 {\n  y = MaxPool(x) {kernel_shape=[1,2,1,2]}\n}");
    check("ref", "graph (x: f32[2,3,6,6]) -> (y, i) opset 19 {\n  y, i = MaxPool(x) {kernel_shape=[2,2]}\n}");
    check(NULL, "graph (x: f32[0,3,6,6]) -> (y, z) opset 19 {\n  y = MaxPool(x) {kernel_shape=[2,2]}\n"
                "  z = AveragePool(x) {kernel_shape=[2,2]}\n}");
    check(NULL, "graph (x: f32[2,0,6,6]) -> (y) opset 19 {\n  y = MaxPool(x) {kernel_shape=[2,2]}\n}");
}

/* The rules for what an average counts changed over the versions; the kernel must follow the reference in each. */
static void test_versions(void **state)
{
    static const int opsets[] = { 7, 10, 11, 19, 22 };
    for (size_t i = 0; i < sizeof opsets / sizeof *opsets; i++) {
        check(NULL,
              "graph (x: f32[2,5,9,8]) -> (y) opset %d {\n  y = AveragePool(x) {kernel_shape=[3,3], strides=[2,2], "
              "pads=[1,1,1,1], %s}\n}",
              opsets[i], opsets[i] < 10 ? "count_include_pad=1" : "count_include_pad=1, ceil_mode=1");
        check(NULL,
              "graph (x: f32[2,5,9,8]) -> (y) opset %d {\n  y = MaxPool(x) {kernel_shape=[3,3], strides=[2,2]}\n}",
              opsets[i]);
    }
}

static void test_global_pools(void **state)
{
    static const char *const shapes[] = { "2,5,7,6",   "1,1,3,3",  "2,3,1,1", "2,33,9",
                                          "1,4,3,4,5", "3,17,1,9", "0,3,2,2", "2,0,2,2" };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check(NULL, "graph (x: f32[%s]) -> (y, z) opset 17 {\n  y = GlobalAveragePool(x)\n  z = GlobalMaxPool(x)\n}",
              shapes[i]);
    }
    check("cpu.reduce", "graph (x: f32[2,5,8,6]) -> (y, z) opset 17 {\n  p = MaxPool(x) {kernel_shape=[2,2]}\n"
                        "  y = GlobalAveragePool(p)\n  z = GlobalMaxPool(p)\n}");
    check("cpu.reduce", "graph (x: f32[2,5,8,6]) -> (y) opset 17 {\n  p = MaxPool(x) {kernel_shape=[2,2]}\n"
                        "  m = ReduceMean(p) {axes=[2,3], keepdims=0}\n  n = ReduceMax(p) {axes=[-1,-2], keepdims=1}\n"
                        "  f = Flatten(n)\n  y = Concat(m, f) {axis=1}\n}");
    cmp_values = CMP_SPECIAL;
    check(NULL, "graph (x: f32[20,5,2,3]) -> (z) opset 17 {\n  z = GlobalMaxPool(x)\n}");
    check(
        NULL,
        "graph (x: f32[20,5,3,4]) -> (z) opset 17 {\n  p = MaxPool(x) {kernel_shape=[2,2]}\n  z = GlobalMaxPool(p)\n}");
}

static const char *const kinds[] = { "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd" };

static void test_reductions(void **state)
{
    static const char *const axes[] = { "[0]",  "[1]",     "[2]",   "[3]",   "[0,1]",     "[2,3]",   "[1,2]",
                                        "[-1]", "[-1,-2]", "[0,2]", "[1,3]", "[0,1,2,3]", "[1,2,3]", "[3,2]" };
    for (size_t i = 0; i < sizeof axes / sizeof *axes; i++) {
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            for (int keep = 0; keep < 2; keep++) {
                check(NULL, "graph (x: f32[2,3,5,4]) -> (y) opset 11 {\n  y = %s(x) {axes=%s, keepdims=%d}\n}",
                      kinds[k], axes[i], keep);
                check(NULL, "graph (x: f32[2,3,6,5]) -> (y, p) opset 11 {\n  p = MaxPool(x) {kernel_shape=[2,2]}\n"
                            "  y = %s(p) {axes=%s, keepdims=%d}\n}", kinds[k], axes[i], keep);
            }
        }
    }
}

static void test_reductions_with_axes_input(void **state)
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        check(NULL, "graph (x: f32[3,5,40]) -> (y) opset 18 {\n  y = %s(x, i64[2]{-1,1}) {keepdims=0}\n}", kinds[k]);
        check(NULL, "graph (x: f32[3,5,40]) -> (y) opset 18 {\n  y = %s(x, i64[0]{})\n}", kinds[k]);
        check(NULL, "graph (x: f32[3,5,40]) -> (y) opset 18 {\n  y = %s(x, i64[0]{}) {noop_with_empty_axes=1}\n}",
              kinds[k]);
        check(NULL, "graph (x: f32[3,5,40]) -> (y) opset 18 {\n  y = %s(x)\n}", kinds[k]);
        check(NULL, "graph (x: f32[]) -> (y) opset 18 {\n  y = %s(x)\n}", kinds[k]);
        check(NULL, "graph (x: f32[1]) -> (y) opset 18 {\n  y = %s(x) {keepdims=0}\n}", kinds[k]);
        check(NULL, "graph (x: f32[3,0,4]) -> (y) opset 18 {\n  y = %s(x, i64[1]{0}) {keepdims=0}\n}", kinds[k]);
        check(NULL, "graph (x: f32[1,1,1,5]) -> (y) opset 18 {\n  y = %s(x, i64[1]{1})\n}", kinds[k]);
        check(NULL, "graph (x: f32[7,1,3000]) -> (y) opset 18 {\n  y = %s(x, i64[2]{0,1})\n}",
              k == 5 ? "ReduceSum" : kinds[k]);
    }
    check(NULL, "graph (x: f32[3,0,4]) -> (y) opset 18 {\n  y = ReduceSum(x, i64[1]{1})\n}");
}

static void test_special_values(void **state)
{
    cmp_values = CMP_SPECIAL;
    check("cpu.reduce",
          "graph (x: f32[40,5]) -> (y, z) opset 13 {\n  y = ReduceMax(x) {axes=[1]}\n  z = ReduceMax(x) {axes=[0]}\n}");
    check(NULL, "graph (x: f32[40,5]) -> (y) opset 13 {\n  y = ReduceMin(x) {axes=[1]}\n}");
}

/* A mean over many pixels keeps its digits: 1 + noise over 256 x 256. The sum of the reference is in double; a plain
 * f32 sum of n numbers errs by up to n / 2 ulp: 2e-3, in practice by its root: 2e-5. */
static void test_long_sums(void **state)
{
    cmp_tolerance = 5e-5f;
    check(NULL, "graph (x: f32[1,3,256,256]) -> (y) opset 13 {\n  a = Abs(x)\n  y = GlobalAveragePool(a)\n}");
    check(NULL, "graph (x: f32[1,3,257,257]) -> (y) opset 13 {\n  a = MaxPool(x) {kernel_shape=[2,2]}\n  y = "
                "GlobalAveragePool(a)\n}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_windows),    CMP_TEST(test_ranks),        CMP_TEST(test_versions),
        CMP_TEST(test_reductions), CMP_TEST(test_global_pools), CMP_TEST(test_reductions_with_axes_input),
        CMP_TEST(test_long_sums),  CMP_TEST(test_special_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
