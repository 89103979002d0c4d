/* Weights packed by the device (ocl_device.test_place) beside those that the host packs.
 *
 * Tolerance: none for panels, whose elements are moved as bits, so that results are equal. Transformed weights of
 * Winograd's filtering are made in f32 there, in double here: as in test_opencl_conv.c, 5e-5 of the largest. */
#include "opencl_compare.h"

static ocl_device *device(void) {
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    return ocl_of(d);
}

static bool has_packed(const ocl_device *d, const char *entry) {
    char key[64];
    snprintf(key, sizeof key, "pack\n-DENTRY=%s", entry);
    for (size_t i = 0; i < d->programs.room; i++) {
        const ocl_program *p = d->programs.slots[i].value;
        if (p && strncmp(p->key, key, strlen(key)) == 0) return true;
    }
    return false;
}

/* What the model comes to, and the bytes of the device's memory that it keeps. */
static size_t run(const char *text, int place, cmp_result *ret) {
    ocl_device *d = device();
    ps_error err = PS_ERROR_INIT;
    d->test_place = place;
    const size_t before = atomic_load(&d->base.held);
    ps_model *m = fixture_model(cmp_engine, text, cmp_device);
    if (!cmp_run_session(m, 1, ret, &err)) fail_msg("%s\n%s", err.msg, text);
    const size_t held = atomic_load(&d->base.held) - before;
    ps_model_release(m);
    assert_int_equal(atomic_load(&d->base.held), before);
    return held;
}

static void same(const char *text) {
    cmp_result host, there;
    const size_t by_host = run(text, -1, &host), by_device = run(text, 1, &there);
    assert_int_equal(by_host, by_device); /* what was sent is gone */
    assert_int_equal(host.n, there.n);
    for (size_t i = 0; i < host.n; i++) {
        assert_int_equal(host.bytes[i], there.bytes[i]);
        if (memcmp(host.data[i], there.data[i], host.bytes[i]) != 0) fail_msg("other results:\n%s", text);
    }
    cmp_release(&host);
    cmp_release(&there);
}

/* Columns and rows of the tensor, windows with room behind each place, groups, no multiple of anything. */
static void test_panels(void **state) {
    device()->test_winograd = -1;
    same("graph (a: f32[7,77]) -> (y) opset 17 {\n  w: f32[77,75] = random(3)\n  y = MatMul(a, w)\n}");
    same("graph (a: f32[7,77]) -> (y) opset 17 {\n  w: f32[75,77] = random(3)\n  y = Gemm(a, w) {transB=1}\n}");
    same("graph (a: f32[1,33]) -> (y) opset 17 {\n  w: f32[33,1] = random(3)\n  y = MatMul(a, w)\n}");
    same("graph (x: f32[1,5,9,8]) -> (y) opset 17 {\n  w: f32[37,5,3,2] = random(3)\n"
         "  y = Conv(x, w) {pads=[1,1,1,1]}\n}");
    same("graph (x: f32[1,6,9,8]) -> (y) opset 17 {\n  w: f32[10,3,3,3] = random(3)\n  y = Conv(x, w) {group=2}\n}");
    same("graph (x: f32[2,35,4,3]) -> (y) opset 17 {\n  w: f32[66,35,1,1] = random(3)\n  y = Conv(x, w)\n}");
    same("graph (x: f32[1,12,9,8]) -> (y) opset 17 {\n  w: f32[12,1,3,3] = random(3)\n  y = Conv(x, w) {group=12}\n}");
    same("graph (x: f32[1,5,7,6]) -> (y) opset 17 {\n  w: f32[5,8,3,3] = random(3)\n"
         "  y = ConvTranspose(x, w) {strides=[2,2]}\n}");
    assert_true(has_packed(device(), "0 -DELEMENT=uint"));
}

static void test_halves(void **state) {
    same("graph (a: f32[7,77]) -> (y) opset 17 {\n  w: f16[77,75] = random(3)\n  k = Cast(w) {to=1}\n"
         "  y = MatMul(a, k)\n}");
    same("graph (x: f32[1,6,9,8]) -> (y) opset 17 {\n  w: bf16[37,6,3,3] = random(3)\n  k = Cast(w) {to=1}\n"
         "  y = Conv(x, k)\n}");
    assert_true(has_packed(device(), "0 -DELEMENT=ushort"));
}

static void test_transformed(void **state) {
    cmp_scaled = true;
    cmp_tolerance = 5e-5f;
    for (int tile = 2; tile <= 4; tile += 2) {
        device()->test_winograd = tile;
        device()->test_place = 1;
        check("opencl.conv winograd",
              "graph (x: f32[1,13,9,10]) -> (y) opset 17 {\n  w: f32[70,13,3,3] = random(3)\n  b: f32[70] = random(4)\n"
              "  t = Conv(x, w, b) {pads=[1,1,1,1]}\n  y = Relu(t)\n}");
        assert_true(has_packed(device(), tile == 2 ? "1 -DTILE=2" : "1 -DTILE=4"));
    }
}

/* Where memory lasts for the packed form alone, and not for what is sent beside it, the host packs. */
static void test_little_memory(void **state) {
    static const char text[] = "graph (a: f32[1,1024]) -> (y) opset 17 {\n  w: f32[1024,1536] = random(3)\n"
                               "  y = MatMul(a, w)\n}";
    ocl_device *d = device();
    cmp_result plenty, little;
    const size_t held = run(text, 1, &plenty);
    assert_true(held >= (size_t)6 << 20);
    atomic_store(&d->base.limit, atomic_load(&d->base.held) + held + ((size_t)1 << 20));
    assert_int_equal(run(text, 1, &little), held);
    atomic_store(&d->base.limit, 0);
    assert_memory_equal(plenty.data[0], little.data[0], plenty.bytes[0]);
    cmp_release(&plenty);
    cmp_release(&little);
}

/* What one weight was sent in does not keep the next one out, which the host packs. */
static void test_little_memory_after(void **state) {
    static const char text[] = "graph (a: f32[1,512]) -> (y) opset 21 {\n  w: f32[512,512] = random(3)\n"
                               "  v: i8[512,12288] = random(4)\n  k = DequantizeLinear(v, f32[]{0.01})\n"
                               "  t = MatMul(a, w)\n  y = MatMul(t, k)\n}";
    ocl_device *d = device();
    cmp_result plenty, little;
    const size_t held = run(text, 1, &plenty);
    assert_in_range(held, (size_t)7 << 20, (size_t)8 << 20); /* 1 MiB in f32, which 4 are taken for, 6 in codes */
    atomic_store(&d->base.limit, atomic_load(&d->base.held) + held + ((size_t)1 << 20));
    assert_int_equal(run(text, 1, &little), held);
    atomic_store(&d->base.limit, 0);
    assert_memory_equal(plenty.data[0], little.data[0], plenty.bytes[0]);
    cmp_release(&plenty);
    cmp_release(&little);
}

int main(void) {
    const struct CMUnitTest tests[] = { CMP_TEST(test_panels), CMP_TEST(test_halves), CMP_TEST(test_transformed),
                                        CMP_TEST(test_little_memory), CMP_TEST(test_little_memory_after) };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
