/* Matrix products and attention on OpenCL beside the reference kernels. */
#include "opencl_compare.h"

static uint32_t seed = 12345;

static int pick(int low, int high) {
    return low + (int)(cmp_next(&seed) % (uint32_t)(high - low + 1));
}

static void test_matmul_random(void **state) {
    for (int i = 0; i < OPENCL_CASES(24); i++) {
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
    cmp_halves *= 4; /* of f16: factors that were stored on the way, each rounded, sums of up to two thousand */
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
    cmp_halves /= 4;
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
    for (int tile = 1; ocl_test_tile(tile); tile++) {
        ps_device *d = NULL;
        assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
        ocl_of(d)->test_tile = tile;
        for (int form = 0; form < 8; form++) {
            if (tile > 1 && form % 3 != tile % 3) continue; /* they compile for long: each form in some */
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

/* Scores in memory, or in the kernel alone: depths and columns in chunks and beyond, rows that have no fours. */
static void test_attention_random(void **state) {
    uint32_t seed = 7;
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    for (int i = 0; i < OPENCL_CASES(24); i++) {
        const int heads = 1 + (int)(cmp_next(&seed) % 3), four = i % 2 ? 4 : 1, wide = i % 3 == 0;
        const int depth = four * (1 + (int)(cmp_next(&seed) % 20)), sq = 1 + (int)(cmp_next(&seed) % 70);
        const int columns = four * (1 + (int)(cmp_next(&seed) % (four == 4 ? (wide ? 16 : 8) : (wide ? 64 : 32))));
        const int sk = 1 + (int)(cmp_next(&seed) % 100), batch = 1 + (int)(cmp_next(&seed) % 2);
        char q[48], k[48], v[48], m[48];
        snprintf(q, sizeof q, "%d,%d,%d", batch, sq, heads * depth);
        snprintf(k, sizeof k, "%d,%d,%d", batch, sk, heads * depth);
        snprintf(v, sizeof v, "%d,%d,%d", batch, sk, heads * columns);
        snprintf(m, sizeof m, "%d,%d,%d,%d", i % 4 ? batch : 1, i % 5 ? heads : 1, i % 3 ? sq : 1, i % 7 ? sk : 1);
        ocl_of(d)->test_attention = i % 6 == 5 ? -1 : 1;
        check(i % 6 == 5 ? "opencl.attention" : "opencl.attention fused",
              i % 2 ? "graph (q: f32[%s], k: f32[%s], v: f32[%s], m: f32[%s]) -> (y) opset 17 {\n"
                      "  y = polestar.Attention(q, k, v, m) {heads=%d, scale=0.3}\n}"
                    : "graph (q: f32[%s], k: f32[%s], v: f32[%s], m: f32[%s]) -> (y, z) opset 17 {\n  z = Exp(m)\n"
                      "  y = polestar.Attention(q, k, v) {heads=%d, scale=0.3}\n}",
              q, k, v, m, heads);
    }
}

/* Keys that a mask shuts out, one by one, in whole tiles, and all of a query's: as the reference has it, NaN too. */
static void test_attention_masked_out(void **state) {
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    for (int way = -1; way <= 1; way += 2) {
        ocl_of(d)->test_attention = way;
        check(way > 0 ? "opencl.attention fused" : "opencl.attention",
              "graph (q: f32[1,5,8], k: f32[1,70,8], v: f32[1,70,8]) -> (y) opset 17 {\n"
              "  e: f32[30] = random(4)\n  zero: f32[] = {0}\n  low = Log(zero)\n  c = Less(e, zero)\n"
              "  some = Where(c, low, zero)\n  n: i64[1] = {40}\n  none = Expand(low, n)\n"
              "  m = Concat(none, some) {axis=0}\n"
              "  y = polestar.Attention(q, k, v, m) {heads=1, scale=0.5}\n}");
        check(way > 0 ? "opencl.attention fused" : "opencl.attention",
              "graph (q: f32[1,5,8], k: f32[1,70,8], v: f32[1,70,8], b: f32[5,1]) -> (y) opset 17 {\n"
              "  zero: f32[] = {0}\n  low = Log(zero)\n  c = Less(b, zero)\n  m = Where(c, low, zero)\n"
              "  y = polestar.Attention(q, k, v, m) {heads=1, scale=0.5}\n}");
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
        CMP_TEST(test_matmul_random),        CMP_TEST(test_matmul_parts), CMP_TEST(test_matmul_batches),
        CMP_TEST(test_matmul_tiles),         CMP_TEST(test_attention),    CMP_TEST(test_attention_random),
        CMP_TEST(test_attention_masked_out),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
