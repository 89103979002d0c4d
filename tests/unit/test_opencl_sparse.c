/* Weights in which whole blocks are zero: random shapes at several sparsities against the reference kernels, what they
 * take of the device's memory, and when they are stored as usual.
 *
 * Tolerance: that of opencl_compare.h; leaving zeros out changes no sum. */
#include "opencl_compare.h"

#include "tensor/convert.h"

static uint32_t seed = 5;

static int64_t between(int64_t low, int64_t high) {
    return low + (int64_t)(cmp_next(&seed) % (uint32_t)(high - low + 1));
}

/* Blocks of 16 rows and `columns` columns of the tensor that names k and c by strides stay with this chance. */
static void thin_out(ps_tensor *t, int64_t k_n, int64_t n, int64_t k_step, int64_t c_step, int64_t columns,
                     double share) {
    float *x = t->data;
    for (int64_t k0 = 0; k0 < k_n; k0 += 16)
        for (int64_t c0 = 0; c0 < n; c0 += columns) {
            const bool stays = cmp_next(&seed) < share * (1 << 24);
            for (int64_t k = k0; k < k0 + 16 && k < k_n; k++)
                for (int64_t c = c0; c < c0 + columns && c < n; c++)
                    if (!stays) x[k * k_step + c * c_step] = c % 3 ? 0.0f : -0.0f;
        }
}

static ps_value *find_value(ps_graph *g, const char *name) {
    for (ps_value *v = g->all_values; v; v = v->next_all)
        if (strcmp(v->name, name) == 0) return v;
    fail_msg("no value %s", name);
    return NULL;
}

static ps_model *model_of(const ps_graph *g, const char *device) {
    ps_graph *clone = NULL;
    ps_model *m = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.device = device;
    if (ps_graph_clone(g, &clone, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    if (ps_model_from_graph(cmp_engine, clone, &o, &m, &err) != PS_OK) fail_msg("%s", err.msg);
    return m;
}

/* How f32 numbers are to be stored. */
typedef enum precision { AS_F32, AS_F16, AS_BF16 } precision;

/* Of bf16 some are so small that f16 has none of them. */
static void round_to(ps_tensor *t, precision p) {
    float *x = t->data;
    for (size_t i = 0; p != AS_F32 && i < ps_tensor_count(t); i++) {
        uint16_t narrow;
        const ps_dtype type = p == AS_F16 ? PS_DTYPE_F16 : PS_DTYPE_BF16;
        if (p == AS_BF16 && i % 7 == 0) x[i] = 1e-30f;
        ps_convert(&x[i], PS_DTYPE_F32, &narrow, type, 1, true);
        ps_convert(&narrow, type, &x[i], PS_DTYPE_F32, 1, true);
    }
}

/* A graph with a weight w, which is thinned out; returns the bytes that the device holds for its weights. */
static size_t compare(const char *text, const char *kernel, int64_t k, int64_t n, int64_t k_step, int64_t c_step,
                      int64_t columns, double share, precision p) {
    ps_graph *g = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_model_device_info info = { .size = sizeof info };
    cmp_result want, got;
    if (ps_graph_parse(&cmp_engine->alloc, text, &g, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_tensor *w = find_value(g, "w")->constant;
    round_to(w, p);
    thin_out(w, k, n, k_step, c_step, columns, share);
    ps_model *ref = model_of(g, "ref"), *gpu = model_of(g, "gpu");
    if (!cmp_run_session(ref, 1, &want, &err)) fail_msg("%s", err.msg);
    if (cmp_before_run) cmp_before_run(1);
    cmp_scaled = cmp_halves > 0; /* sums of a thousand products err by more than a rounding of one of them */
    if (!cmp_run_session(gpu, 1, &got, &err)) fail_msg("%s", err.msg);
    cmp_outputs(text, 1, &want, &got);
    if (!cmp_has_kernel(gpu, kernel)) cmp_report(text, 1, "another kernel than expected has run");
    assert_int_equal(ps_model_device(gpu, 0, &info), PS_OK);
    cmp_release(&want);
    cmp_release(&got);
    ps_model_release(ref);
    ps_model_release(gpu);
    ps_graph_free(g);
    return info.memory;
}

static const double shares[] = { 0, 0.03, 0.1, 0.2 };

/* Few rows and many, depths that end within a block, columns that end within a strip and are no multiple of four. */
static void test_matmul(void **state) {
    static const char *const labels[] = { "opencl.matmul sparse", "opencl.matmul f16 sparse",
                                          "opencl.matmul bf16 sparse" };
    char text[512];
    for (int i = 0; i < OPENCL_CASES(24); i++) {
        const int64_t m = i % 2 ? between(1, 4) : between(5, 200), k = between(200, 700), n = between(130, 400);
        const precision p = (precision)(i % 3);
        snprintf(text, sizeof text,
                 "graph (a: f32[%d,%d]) -> (y) opset 17 {\n  w: f32[%d,%d] = random(%d)\n  c: f32[%d] = random(4)\n"
                 "  s = Mul(a, f32[]{0.06})\n  t = MatMul(s, w)\n  u = Add(t, c)\n  y = Relu(u)\n}",
                 (int)m, (int)k, (int)k, (int)n, i, (int)n);
        /* of all zeros every form is the narrowest */
        const char *label = i % 4 == 0 ? "opencl.matmul f16 sparse" : labels[p];
        compare(text, label, k, n, n, 1, i % 5 < 2 ? 32 : 64, shares[i % 4], p);
    }
}

static void test_gemm(void **state) {
    char text[512];
    for (int i = 0; i < OPENCL_CASES(8); i++) {
        const int64_t m = i % 2 ? between(1, 4) : between(5, 100), k = between(200, 700), n = between(130, 400);
        snprintf(text, sizeof text,
                 "graph (a: f32[%d,%d]) -> (y) opset 17 {\n  w: f32[%d,%d] = random(%d)\n  c: f32[%d] = random(4)\n"
                 "  y = Gemm(a, w, c) {transB=1, alpha=0.06}\n}",
                 (int)m, (int)k, (int)n, (int)k, i, (int)n);
        compare(text, "opencl.gemm sparse", k, n, 1, k, 32, 0.1, AS_F32);
    }
}

/* 1 x 1 with residual and activation. */
static void test_conv(void **state) {
    char text[512];
    for (int i = 0; i < OPENCL_CASES(8); i++) {
        const int64_t batch = between(1, 3), h = between(1, 9), w = between(1, 9), k = between(100, 300),
                      n = between(140, 300);
        snprintf(
            text, sizeof text,
            "graph (x: f32[%d,%d,%d,%d], r: f32[%d,%d,%d,%d]) -> (y) opset 17 {\n  w: f32[%d,%d,1,1] = random(%d)\n"
            "  b: f32[%d] = random(4)\n  s = Mul(x, f32[]{0.06})\n  t = Conv(s, w, b)\n  u = Add(t, r)\n"
            "  y = Relu(u)\n}",
            (int)batch, (int)k, (int)h, (int)w, (int)batch, (int)n, (int)h, (int)w, (int)n, (int)k, i, (int)n);
        compare(text, "opencl.conv gemm sparse", k, n, 1, k, 32, 0.1, AS_F32);
    }
}

/* The device's memory falls with what is zero; half full is stored as usual, and so are small weights and windows. */
static void test_memory(void **state) {
    static const char product[] =
        "graph (a: f32[%d,1024]) -> (y) opset 17 {\n  w: f32[1024,1024] = random(3)\n  s = Mul(a, f32[]{0.06})\n"
        "  y = MatMul(s, w)\n}";
    char text[512];
    snprintf(text, sizeof text, product, 8);
    const size_t all = (size_t)1024 * 1024 * 4;
    const size_t tenth = compare(text, "opencl.matmul sparse", 1024, 1024, 1024, 1, 64, 0.1, AS_F32);
    const size_t half = compare(text, "opencl.matmul", 1024, 1024, 1024, 1, 64, 0.5, AS_F32);
    assert_true(tenth < all / 6 && tenth > all / 20);
    assert_true(half >= all);
    snprintf(text, sizeof text, product, 2);
    assert_true(compare(text, "opencl.matmul f16 sparse", 1024, 1024, 1024, 1, 64, 0.1, AS_F16) < all / 12);
    /* blocks of 32 columns, which as 64 wide would be twice as many */
    assert_true(compare(text, "opencl.matmul sparse", 1024, 1024, 1024, 1, 32, 0.1, AS_F32) < all / 6);
    cmp_device = "gpu";
    check("opencl.conv gemm", "graph (x: f32[1,64,4,4]) -> (y) opset 17 {\n  w: f32[64,64,3,3] = {0, ...}\n  y = "
                              "Conv(x, w) {strides=[2,2]}\n}");
    check("opencl.matmul", "graph (a: f32[3,64]) -> (y) opset 17 {\n  w: f32[64,64] = {0, ...}\n  y = MatMul(a, w)\n}");
}

/* A second plan finds what the first one stored, and the verdict on what is stored as usual. */
static void test_plans_share(void **state) {
    for (int dense = 0; dense < 2; dense++) {
        ps_graph *g = NULL;
        ps_error err = PS_ERROR_INIT;
        ps_model_device_info info = { .size = sizeof info };
        size_t held[3];
        assert_int_equal(ps_graph_parse(&cmp_engine->alloc,
                                        "graph (a: f32[n,320]) -> (y) opset 17 {\n  w: f32[320,256] = random(3)\n"
                                        "  y = MatMul(a, w)\n}",
                                        &g, &err),
                         PS_OK);
        if (!dense) thin_out(find_value(g, "w")->constant, 320, 256, 256, 1, 64, 0.1);
        ps_model *m = model_of(g, "gpu");
        for (int i = 0; i < 3; i++) {
            static const int rows[] = { 1, 80, 3 };
            ps_session *s = fixture_session(m, 1);
            float *data = calloc((size_t)(320 * rows[i]), sizeof *data);
            ps_tensor *in = fixture_wrap(cmp_engine, PS_DTYPE_F32, 2, DIMS(rows[i], 320), data), *out = NULL;
            if (ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, &err) != PS_OK)
                fail_msg("%s", err.msg);
            ps_tensor_release(in);
            ps_session_free(s);
            free(data);
            assert_int_equal(ps_model_device(m, 0, &info), PS_OK);
            held[i] = info.memory;
        }
        assert_int_equal(held[0], held[1]);
        assert_int_equal(held[0], held[2]);
        ps_model_release(m);
        ps_graph_free(g);
    }
}

/* As many parts of the depth as a large card would want, of lists of any length. */
static void test_parts(void **state) {
    ps_device *d = NULL;
    char text[512];
    assert_int_equal(ps_engine_device(cmp_engine, "gpu", &d, NULL), PS_OK);
    ocl_of(d)->units = 128;
    for (int i = 0; i < OPENCL_CASES(8); i++) {
        const int64_t m = i % 2 ? between(1, 4) : between(5, 70), k = between(1000, 2000), n = between(64, 200);
        snprintf(text, sizeof text,
                 "graph (a: f32[%d,%d]) -> (y) opset 17 {\n  w: f32[%d,%d] = random(%d)\n  c: f32[%d] = random(4)\n"
                 "  s = Mul(a, f32[]{0.03})\n  t = MatMul(s, w)\n  u = Add(t, c)\n  y = Relu(u)\n}",
                 (int)m, (int)k, (int)k, (int)n, i, (int)n);
        compare(text, "opencl.matmul sparse", k, n, n, 1, 64, 0.2, AS_F32);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_matmul), CMP_TEST(test_gemm),        CMP_TEST(test_conv),
        CMP_TEST(test_memory), CMP_TEST(test_plans_share), CMP_TEST(test_parts),
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
