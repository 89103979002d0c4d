/* Matrix products and attention on OpenCL beside the reference kernels. */
#include "opencl_compare.h"

static uint32_t seed = 12345;

static int pick(int low, int high) {
    return low + (int)(cmp_next(&seed) % (uint32_t)(high - low + 1));
}

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

/* Few tiles and much depth: the depth is shared out among work-groups, and the parts added up. Factors are small, so
 * that results are about 1: the tolerance is for sums of a few hundred products. */
static void test_matmul_parts(void **state) {
    static const int depths[] = { 255, 256, 384, 1000, 2051 };
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        const int k = depths[i], m = pick(1, 70), n = i & 1 ? 4 * pick(1, 18) : pick(1, 70);
        check(
            "opencl.matmul",
            "graph (a: f32[%d,%d], b: f32[%d,%d]) -> (y) opset 17 {\n  s = Mul(a, f32[]{0.06})\n  y = MatMul(s, b)\n}",
            m, k, k, n);
        check("opencl.matmul",
              "graph (a: f32[%d,%d]) -> (y) opset 17 {\n  b: f32[%d,%d] = random(3)\n  c: f32[%d] = random(4)\n"
              "  s = Mul(a, f32[]{0.06})\n  t = MatMul(s, b)\n  u = Add(t, c)\n  y = Relu(u)\n}",
              m, k, k, n, n);
        check("opencl.gemm",
              "graph (a: f32[%d,%d], c: f32[%d,%d]) -> (y) opset 17 {\n  b: f32[%d,%d] = random(3)\n"
              "  y = Gemm(a, b, c) {transA=%d, transB=%d, alpha=0.06}\n}",
              i & 1 ? k : m, i & 1 ? m : k, m, n, i & 2 ? n : k, i & 2 ? k : n, (int)(i & 1), (int)(i >> 1 & 1));
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

/* Tiles of other cards, which this one would not choose. */
static void test_matmul_tiles(void **state) {
    for (int tile = 1; tile <= 4; tile++) {
        ps_device *d = NULL;
        assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
        ocl_of(d)->test_tile = tile;
        for (int form = 0; form < 8; form++) {
            const int a = form & 1, b = form >> 1 & 1, odd = form >> 2;
            const int m = 140 + odd, k = 52 + odd, n = 132 + odd;
            check("opencl.gemm",
                  "graph (a: f32[%d,%d], b: f32[%d,%d]) -> (y) opset 17 {\n"
                  "  y = Gemm(a, b) {transA=%d, transB=%d}\n}",
                  a ? k : m, a ? m : k, b ? n : k, b ? k : n, a, b);
        }
        check("opencl.matmul",
              "graph (a: f32[2,70,36]) -> (y) opset 17 {\n  b: f32[36,133] = random(3)\n  y = MatMul(a, b)\n}");
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
        CMP_TEST(test_matmul_random), CMP_TEST(test_matmul_parts), CMP_TEST(test_matmul_batches),
        CMP_TEST(test_matmul_tiles),  CMP_TEST(test_attention),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
