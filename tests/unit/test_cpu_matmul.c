/* MatMul and Gemm on the CPU device: constant and run-time right sides, batch dims, epilogues. */
#include "cpu_compare.h"

#define ONE "onednn.matmul|cpu.matmul"

static void test_constant_right_side(void **state)
{
    static const char *const shapes[][2] = {
        { "4,8", "8,16" },    { "1,8", "8,16" },    { "5,8", "8,1" },   { "5,1", "1,7" },     { "1,1", "1,1" },
        { "2,3,8", "8,5" },   { "1,1,8", "8,5" },   { "3,1,8", "8,1" }, { "2,3,4,8", "8,9" }, { "2,1,1,4,8", "8,9" },
        { "33,65", "65,31" }, { "1,64", "64,300" }, { "3,2,1", "1,4" }, { "300,3", "3,2" },
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check(ONE, "graph (a: f32[%s]) -> (y) opset 17 {\n  b: f32[%s] = random(1)\n  y = MatMul(a, b)\n}",
              shapes[i][0], shapes[i][1]);
        check(ONE, "graph (a: f32[%s]) -> (y) opset 17 {\n  b: f32[%s] = random(1)\n  t = MatMul(a, b)\n  u = Relu(t)\n"
                   "  y = Add(u, t)\n}", shapes[i][0], shapes[i][1]);
    }
}

/* Each number of rows has loops of its own; panels that are full, half or less; blocks of k; rows a multiple of 4 KiB
 * apart; several chunks of rows. */
static void test_panels(void **state)
{
    static const int k_n[][2] = { { 40, 64 }, { 37, 48 }, { 40, 10 }, { 33, 100 }, { 600, 40 }, { 1024, 24 } };
    for (size_t i = 0; i < sizeof k_n / sizeof *k_n; i++) {
        cmp_scaled = k_n[i][0] > 100; /* sums of many products: as close as their size allows */
        for (int m = 1; m <= 30; m++) {
            check(ONE,
                  "graph (a: f32[%d,%d]) -> (y) opset 17 {\n  b: f32[%d,%d] = random(1)\n  c: f32[%d] = random(2)\n"
                  "  t = MatMul(a, b)\n  y = Add(t, c)\n}",
                  m, k_n[i][0], k_n[i][0], k_n[i][1], k_n[i][1]);
        }
    }
    check(ONE, "graph (a: f32[150,1024]) -> (y) opset 17 {\n  b: f32[1024,70] = random(1)\n  y = MatMul(a, b)\n}");
    cmp_scaled = false;
}

/* Weights that 16 bits hold exactly stay in 16 bits: every number of rows, panels that are full, half or less, blocks
 * of k; whether the file says so (a Cast, also behind a Transpose) or the numbers do. */
static void test_half_panels(void **state)
{
    static const int k_n[][2] = { { 40, 64 }, { 37, 48 }, { 40, 10 }, { 33, 100 }, { 600, 40 }, { 1024, 24 } };
    static const struct {
        const char *type, *kernel;
    } forms[] = { { "f16", "cpu.matmul packed f16" }, { "bf16", "cpu.matmul packed bf16" } };
    for (size_t i = 0; i < sizeof k_n / sizeof *k_n; i++) {
        cmp_scaled = k_n[i][0] > 100;
        for (int m = 1; m <= 30; m++) {
            for (size_t f = 0; f < 2; f++) {
                /* Few numbers of bf16 that f16 holds as well are f16: what is small is looked at, not remembered. */
                check(k_n[i][0] * k_n[i][1] > 4096 ? forms[f].kernel : "cpu.matmul packed ",
                      "graph (a: f32[%d,%d]) -> (y) opset 17 {\n  h: %s[%d,%d] = random(1)\n  c: f32[%d] = random(2)\n"
                      "  b = Cast(h) {to=1}\n  t = MatMul(a, b)\n  y = Add(t, c)\n}",
                      m, k_n[i][0], forms[f].type, k_n[i][0], k_n[i][1], k_n[i][1]);
            }
        }
    }
    check("cpu.matmul packed f16",
          "graph (a: f32[150,1024]) -> (y) opset 17 {\n  h: f16[1024,70] = random(1)\n  b = Cast(h) {to=1}\n"
          "  y = MatMul(a, b)\n}");
    cmp_scaled = false;
    check("cpu.matmul packed f16",
          "graph (a: f32[5,24]) -> (y) opset 17 {\n  h: f16[40,24] = random(1)\n  b = Cast(h) {to=1}\n"
          "  y = Gemm(a, b) {transB=1}\n}");
    check("cpu.matmul packed f16",
          "graph (a: f32[5,24]) -> (y) opset 17 {\n  h: f16[40,24] = random(1)\n  b = Cast(h) {to=1}\n"
          "  t = Transpose(b)\n  y = MatMul(a, t)\n}");
    check("cpu.matmul packed f16",
          "graph (a: f32[3,5]) -> (y) opset 17 {\n  b: f32[5,2] = {0.5, 1, -2, 0.25, 3, 6.103515625e-05, "
          "5.9604644775390625e-08, 0, -0, 65504}\n  y = MatMul(a, b)\n}");
    check("cpu.matmul packed bf16",
          "graph (a: f32[3,2]) -> (y) opset 17 {\n  b: f32[2,2] = {0.5, 1, 65536, 0.25}\n  y = MatMul(a, b)\n}");
}

static void test_both_sides_at_run_time(void **state)
{
    static const char *const shapes[][2] = {
        { "4,8", "8,16" },          { "2,4,8", "2,8,5" },   { "2,4,8", "1,8,5" },     { "1,4,8", "3,8,5" },
        { "2,4,8", "8,5" },         { "4,8", "3,8,5" },     { "2,3,4,8", "2,3,8,5" }, { "2,1,4,8", "1,3,8,5" },
        { "2,3,4,8", "8,5" },       { "3,4,8", "2,3,8,5" }, { "2,3,4,8", "3,8,5" },   { "2,3,1,8", "2,3,8,1" },
        { "2,3,5,1", "2,3,1,6" },   { "1,1", "1,1" },       { "2,1,1", "2,1,1" },     { "2,2,2,3,4", "2,1,2,4,3" },
        { "2,2,1,2,3,4", "2,4,3" }, { "8", "8" },           { "8", "2,8,3" },         { "2,3,8", "8" },
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const char *a = shapes[i][0], *b = shapes[i][1];
        check(NULL, "graph (a: f32[%s], b: f32[%s]) -> (y) opset 17 {\n  y = MatMul(a, b)\n}", a, b);
        check(NULL,
              "graph (a: f32[%s]) -> (y) opset 17 {\n  b: f32[%s] = random(1)\n  t = MatMul(a, b)\n  y = Tanh(t)\n}", a,
              b);
        check(NULL, "graph (a: f32[%s], b: f32[%s], r: f32[1]) -> (y) opset 17 {\n  t = MatMul(a, b)\n  u = Mul(t, r)\n"
                    "  n = Neg(t)\n  y = Add(u, n)\n}", a, b);
    }
}

/* Epilogues: bias and scale of each shape, residuals of each side. */
static void test_operands(void **state)
{
    static const char *const operands[] = { "[]",      "[1]",     "[5]",     "[1,5]",   "[4,5]",   "[4,1]",
                                            "[1,4,5]", "[2,1,5]", "[2,4,5]", "[2,1,1]", "[2,4,1]", "[1,1,5]" };
    static const char *const ops[] = { "Add", "Sub", "Mul", "Div", "Max", "Min" };
    for (size_t i = 0; i < sizeof operands / sizeof *operands; i++) {
        for (size_t k = 0; k < sizeof ops / sizeof *ops; k++) {
            const char *o = operands[i], *op = ops[k];
            check(ONE,
                  "graph (a: f32[2,4,8], o: f32%s) -> (y) opset 17 {\n  b: f32[8,5] = random(1)\n  t = MatMul(a, b)\n"
                  "  y = %s(t, o)\n}",
                  o, op);
            check(ONE,
                  "graph (a: f32[2,4,8], o: f32%s) -> (y) opset 17 {\n  b: f32[8,5] = random(1)\n  t = MatMul(a, b)\n"
                  "  u = %s(o, t)\n  y = Relu(u)\n}",
                  o, op);
            check(ONE,
                  "graph (a: f32[2,4,8], b: f32[2,8,5], o: f32%s) -> (y) opset 17 {\n  t = MatMul(a, b)\n  y = %s(t, "
                  "o)\n}",
                  o, op);
            check(ONE,
                  "graph (a: f32[2,4,8], b: f32[2,8,5]) -> (y) opset 17 {\n  o: f32%s = random(9)\n  t = MatMul(a, b)\n"
                  "  u = Add(t, o)\n  v = Sigmoid(u)\n  y = %s(v, o)\n}",
                  o, op);
        }
    }
}

static void test_residuals(void **state)
{
    /* square, so that an operand can also be the residual */
    check(ONE,
          "graph (a: f32[6,6]) -> (y) opset 17 {\n  b: f32[6,6] = random(1)\n  t = MatMul(a, b)\n  y = Add(t, a)\n}");
    check(ONE, "graph (a: f32[6,6], b: f32[6,6]) -> (y) opset 17 {\n  t = MatMul(a, b)\n  y = Add(t, b)\n}");
    check(ONE, "graph (a: f32[6,6]) -> (y) opset 17 {\n  n = Neg(a)\n  t = MatMul(a, n)\n  y = Add(t, n)\n}");
    check(ONE, "graph (a: f32[6,6]) -> (y) opset 17 {\n  n = Neg(a)\n  t = MatMul(n, n)\n  y = Add(t, n)\n}");
    check(ONE, "graph (a: f32[6,6]) -> (y, n) opset 17 {\n  n = Neg(a)\n  b: f32[6,6] = random(1)\n  t = MatMul(a, "
               "b)\n  y = Add(t, n)\n}");
    check(ONE, "graph (a: f32[6,6]) -> (y) opset 17 {\n  n = Neg(a)\n  b: f32[6,6] = random(1)\n  t = MatMul(a, b)\n"
               "  u = Add(t, n)\n  v = Mul(u, n)\n  y = Relu(v)\n}");
    check(ONE, "graph (a: f32[2,3,6]) -> (y) opset 17 {\n  b: f32[6,6] = random(1)\n  c: f32[6] = random(2)\n  t = "
               "MatMul(a, b)\n"
               "  u = Add(t, c)\n  v = Add(u, a)\n  w = MatMul(v, b)\n  x = Add(w, v)\n  y = Sub(x, a)\n}");
    check(ONE, "graph (a: f32[2,3,6]) -> (y) opset 17 {\n  b: f32[6,6] = random(1)\n  n = Neg(a)\n  r = Reshape(n, "
               "i64[2]{6,6})\n"
               "  t = MatMul(r, b)\n  u = Reshape(t, i64[3]{2,3,6})\n  y = Add(u, n)\n}");
}

static void test_gemm(void **state)
{
    static const char *const cs[] = { "[]", "[1]", "[5]", "[1,5]", "[4,1]", "[4,5]", "[1,1]" };
    for (int t = 0; t < 4; t++) {
        const char *a = t & 1 ? "8,4" : "4,8", *b = t & 2 ? "5,8" : "8,5";
        int ta = t & 1, tb = t >> 1;
        check("onednn.gemm|cpu.matmul", "graph (a: f32[%s]) -> (y) opset 17 {\n  b: f32[%s] = random(1)\n"
                             "  y = Gemm(a, b) {transA=%d, transB=%d}\n}", a, b, ta, tb);
        check("onednn.gemm|cpu.matmul",
              "graph (a: f32[%s], b: f32[%s]) -> (y) opset 17 {\n  y = Gemm(a, b) {transA=%d, transB=%d}\n}", a, b, ta,
              tb);
        for (size_t i = 0; i < sizeof cs / sizeof *cs; i++) {
            static const char *const factors[] = { "alpha=1.0", "alpha=0.5, beta=2.0", "beta=0.0", "beta=0.25" };
            for (size_t k = 0; k < 4; k++) {
                check(NULL,
                      "graph (a: f32[%s]) -> (y) opset 17 {\n  b: f32[%s] = random(1)\n  c: f32%s = random(2)\n"
                      "  t = Gemm(a, b, c) {transA=%d, transB=%d, %s}\n  y = Relu(t)\n}",
                      a, b, cs[i], ta, tb, factors[k]);
            }
            check(NULL, "graph (a: f32[%s], b: f32[%s], c: f32%s) -> (y) opset 17 {\n"
                        "  y = Gemm(a, b, c) {transA=%d, transB=%d}\n}", a, b, cs[i], ta, tb);
        }
    }
    static const char *const thin[][2] = {
        { "1,8", "8,5" }, { "4,8", "8,1" }, { "4,1", "1,5" }, { "1,1", "1,1" }, { "1,8", "8,1" }
    };
    for (size_t i = 0; i < 5; i++) {
        check(NULL, "graph (a: f32[%s], b: f32[%s]) -> (y) opset 17 {\n  y = Gemm(a, b)\n}", thin[i][0], thin[i][1]);
        check(NULL, "graph (a: f32[%s]) -> (y) opset 17 {\n  b: f32[%s] = random(1)\n  y = Gemm(a, b)\n}", thin[i][0],
              thin[i][1]);
    }
}

/* The same weights read in two ways must not share one packed form. */
static void test_one_tensor_packed_two_ways(void **state)
{
    check("onednn.gemm|cpu.matmul",
          "graph (a: f32[3,16]) -> (y, z) opset 17 {\n  b: f32[16,16] = random(1)\n  y = Gemm(a, b)\n"
          "  z = Gemm(a, b) {transB=1}\n}");
    check("onednn.gemm|cpu.matmul",
          "graph (a: f32[3,64]) -> (z) opset 17 {\n  b: f32[64,64] = random(1)\n  y = MatMul(a, b)\n"
          "  z = Gemm(y, b) {transB=1}\n}");
}

static void test_empty(void **state)
{
    check(NULL,
          "graph (a: f32[0,8]) -> (y) opset 17 {\n  b: f32[8,5] = random(1)\n  t = MatMul(a, b)\n  y = Relu(t)\n}");
    check(NULL, "graph (a: f32[4,0], b: f32[0,5]) -> (y) opset 17 {\n  y = MatMul(a, b)\n}");
    check(NULL,
          "graph (a: f32[4,0], b: f32[0,5], c: f32[5]) -> (y) opset 17 {\n  t = MatMul(a, b)\n  y = Add(t, c)\n}");
    check(NULL, "graph (a: f32[2,0,8], b: f32[2,8,3]) -> (y) opset 17 {\n  y = MatMul(a, b)\n}");
    check(NULL, "graph (a: f32[0,4,8], b: f32[8,3]) -> (y) opset 17 {\n  y = MatMul(a, b)\n}");
    check(NULL, "graph (a: f32[4,0], b: f32[0,5], c: f32[5]) -> (y) opset 17 {\n  y = Gemm(a, b, c)\n}");
    check(NULL, "graph (a: f32[0,4], b: f32[4,5], c: f32[5]) -> (y) opset 17 {\n  y = Gemm(a, b, c)\n}");
}

/* Columns after the row that is not a number must stay as they are; oneDNN may not mix rows. */
static void test_special_values(void **state)
{
    cmp_values = CMP_SPECIAL;
    check(NULL, "graph (a: f32[40,1]) -> (y) opset 17 {\n  b: f32[1,3] = {1, 2, -1}\n  y = MatMul(a, b)\n}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_constant_right_side),
        CMP_TEST(test_panels),
        CMP_TEST(test_half_panels),
        CMP_TEST(test_both_sides_at_run_time),
        CMP_TEST(test_operands),
        CMP_TEST(test_residuals),
        CMP_TEST(test_gemm),
        CMP_TEST(test_one_tensor_packed_two_ways),
        CMP_TEST(test_empty),
        CMP_TEST(test_special_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
