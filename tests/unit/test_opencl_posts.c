/* Post-operations on OpenCL beside the reference kernels: every one, and operands of every form below the result. */
#include "opencl_compare.h"

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
    for (size_t i = 0; i < OPENCL_CASES(sizeof ops / sizeof *ops); i++) {
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
        for (size_t o = 0; o < OPENCL_CASES(sizeof ops / sizeof *ops); o++) {
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

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_posts),
        CMP_TEST(test_operands),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
