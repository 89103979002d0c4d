/* Conv and ConvTranspose on the CPU device: ranks, groups, windows, weights made at run time. */
#include "cpu_compare.h"

#define ONE "onednn.conv"

/* y = Conv(x, w, b) with constant weights; dims and attributes as text. */
static void conv(const char *x, const char *w, int out_channels, const char *attrs)
{
    check(ONE,
          "graph (x: f32[%s]) -> (y) opset 17 {\n  w: f32[%s] = random(3)\n  b: f32[%d] = random(4)\n  y = Conv(x, w, "
          "b) {%s}\n}",
          x, w, out_channels, attrs);
    check(ONE, "graph (x: f32[%s]) -> (y) opset 17 {\n  w: f32[%s] = random(3)\n  y = Conv(x, w) {%s}\n}", x, w, attrs);
    check(ONE,
          "graph (x: f32[%s]) -> (y) opset 17 {\n  w: f32[%s] = random(3)\n  t = Conv(x, w) {%s}\n  y = Relu(t)\n}", x,
          w, attrs);
}

static void test_channels_and_batches(void **state)
{
    static const int channels[] = { 1, 3, 5, 17, 32 };
    char x[64], w[64];
    for (size_t i = 0; i < 5; i++) {
        for (size_t o = 0; o < 5; o++) {
            for (int batch = 1; batch <= 3; batch += 2) {
                snprintf(x, sizeof x, "%d,%d,7,6", batch, channels[i]);
                snprintf(w, sizeof w, "%d,%d,3,3", channels[o], channels[i]);
                conv(x, w, channels[o], "pads=[1,1,1,1]");
                snprintf(w, sizeof w, "%d,%d,1,1", channels[o], channels[i]);
                conv(x, w, channels[o], "group=1");
            }
        }
    }
}

static void test_windows(void **state)
{
    static const char *const attrs[] = {
        "strides=[2,2]",
        "strides=[2,1], pads=[1,0,2,1]",
        "dilations=[2,3], pads=[2,3,2,3]",
        "dilations=[2,2], strides=[3,2]",
        "pads=[0,2,1,0]",
        "auto_pad=\"SAME_UPPER\", strides=[2,2]",
        "auto_pad=\"SAME_LOWER\", strides=[2,3]",
        "auto_pad=\"SAME_UPPER\", dilations=[2,2]",
        "auto_pad=\"VALID\", strides=[2,2]",
        "pads=[5,5,5,5]",
        "strides=[7,9]",
    };
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++) {
        conv("2,5,11,9", "8,5,3,3", 8, attrs[i]);
        conv("1,16,11,9", "16,1,3,3", 16, "group=16");
    }
    /* a negative pad crops; oneDNN refuses it */
    check("ref", "graph (x: f32[2,5,9,9]) -> (y) opset 17 {\n  w: f32[4,5,3,3] = random(1)\n  y = Conv(x, w) "
                 "{pads=[-1,0,-1,2]}\n}");
    conv("1,4,8,8", "6,4,8,8", 6, "group=1"); /* window as large as the input */
    conv("1,4,8,8", "6,4,1,8", 6, "group=1");
    conv("1,4,8,8", "6,4,5,2", 6, "pads=[2,1,2,0]");
}

static void test_ranks(void **state)
{
    conv("2,5,19", "7,5,3", 7, "pads=[1,2], dilations=[2]");
    conv("1,1,40", "9,1,10", 9, "strides=[5]");
    conv("2,16,19", "16,1,5", 16, "group=16, pads=[2,2]");
    conv("1,8,1", "4,8,1", 4, "group=1");
    conv("1,3,5,6,7", "4,3,3,3,3", 4, "pads=[1,1,1,0,1,0]");
    conv("2,4,4,5,3", "6,2,2,3,1", 6, "group=2, strides=[1,2,1]");
    conv("1,16,4,5,3", "16,1,3,3,3", 16, "group=16, pads=[1,1,1,1,1,1]");
}

static void test_groups(void **state)
{
    conv("2,6,5,5", "9,2,3,3", 9, "group=3, pads=[1,1,1,1]");
    conv("1,32,5,5", "64,16,3,3", 64, "group=2");
    conv("1,3,9,9", "3,1,3,3", 3, "group=3");
    conv("2,17,9,9", "17,1,3,3", 17, "group=17, strides=[2,2], pads=[1,1,1,1]");
    conv("1,8,9,9", "24,1,3,3", 24, "group=8, pads=[1,1,1,1]"); /* three filters a channel */
    conv("1,20,9,9", "20,1,5,5", 20, "group=20, dilations=[2,2], pads=[4,4,4,4]");
    conv("1,20,9,9", "20,2,1,1", 20, "group=10");
}

static void test_weights_made_at_run_time(void **state)
{
    check(NULL, "graph (x: f32[2,5,7,7], w: f32[6,5,3,3]) -> (y) opset 17 {\n  y = Conv(x, w) {pads=[1,1,1,1]}\n}");
    check(NULL, "graph (x: f32[2,6,7,7], w: f32[6,1,3,3]) -> (y) opset 17 {\n  y = Conv(x, w) {group=6}\n}");
    check("cpu.avgpool", "graph (x: f32[1,1,2]) -> (y) opset 19 {\n" /* one window sees padding alone */
                         "  y = AveragePool(x) {kernel_shape=[2], dilations=[3], pads=[1,1]}\n}");
    check(NULL, "graph (x: f32[2,5,7,7], w: f32[6,5,3,3], b: f32[6]) -> (y) opset 17 {\n  y = Conv(x, w, b)\n}");
    check(
        NULL,
        "graph (x: f32[2,5,7,7], b: f32[6]) -> (y) opset 17 {\n  w: f32[6,5,3,3] = random(1)\n  y = Conv(x, w, b)\n}");
    /* weights that lie channels-last where they are made */
    check(NULL, "graph (x: f32[2,5,7,7], v: f32[6,4,3,3]) -> (y) opset 17 {\n  k: f32[5,4,1,1] = random(1)\n"
                "  w = Conv(v, k)\n  y = Conv(x, w)\n}");
    check(NULL, "graph (x: f32[2,5,7,7], w: f32[5,4,3,3]) -> (y) opset 17 {\n  y = ConvTranspose(x, w)\n}");
}

/* Layouts through a block as in residual networks; the sum's operand is read by somebody else before or after. */
static void test_residuals(void **state)
{
    static const char *const bodies[] = {
        "  s = Add(b, a)\n  y = Relu(s)\n",
        "  s = Add(a, b)\n  r = Relu(s)\n  y = Add(r, a)\n",
        "  s = Add(b, a)\n  r = Relu(s)\n  n = Neg(a)\n  y = Mul(r, n)\n",
        "  s = Add(b, x)\n  y = Relu(s)\n",
        "  r = Relu(b)\n  s = Add(r, a)\n  t = Add(s, x)\n  y = Mul(t, x)\n",
        "  s = Add(b, b)\n  y = Sub(s, x)\n",
        "  m = Mul(b, a)\n  y = Add(m, a)\n",
        "  r = Reshape(a, i64[3]{2,8,42})\n  p = ReduceMean(r) {axes=[2], keepdims=1}\n  q = Reshape(p, "
        "i64[4]{2,8,1,1})\n"
        "  s = Mul(b, q)\n  y = Add(s, a)\n",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        for (int outputs = 0; outputs < 2; outputs++) {
            check(ONE,
                  "graph (x: f32[2,8,7,6]) -> (y%s) opset 17 {\n  v: f32[8,8,1,1] = random(1)\n  w: f32[8,8,3,3] = "
                  "random(2)\n"
                  "  a = Conv(x, v)\n  b = Conv(a, w) {pads=[1,1,1,1]}\n%s}",
                  outputs ? ", a" : "", bodies[i]);
        }
    }
    /* the residual is a constant, an input, and a value that a later node reads */
    check(ONE, "graph (x: f32[1,8,5,5], z: f32[1,8,5,5]) -> (y, q) opset 17 {\n  w: f32[8,8,1,1] = random(2)\n"
               "  c: f32[1,8,5,5] = random(5)\n  a = Conv(x, w)\n  b = Add(a, c)\n  d = Conv(b, w)\n  e = Add(d, z)\n"
               "  f = Conv(e, w)\n  y = Add(f, b)\n  q = Sub(b, e)\n}");
}

static void deconv(const char *x, const char *w, int out_channels, const char *attrs)
{
    check("onednn.deconv|cpu.deconv",
          "graph (x: f32[%s]) -> (y) opset 17 {\n  w: f32[%s] = random(3)\n  b: f32[%d] = random(4)\n"
          "  y = ConvTranspose(x, w, b) {%s}\n}", x, w, out_channels, attrs);
    check("onednn.deconv|cpu.deconv",
          "graph (x: f32[%s]) -> (y) opset 17 {\n  w: f32[%s] = random(3)\n  t = ConvTranspose(x, w) {%s}\n  y = "
          "Sigmoid(t)\n}",
          x, w, attrs);
    check("onednn.deconv|cpu.deconv",
          "graph (x: f32[%s]) -> (y) opset 17 {\n  w: f32[%s] = random(3)\n  t = ConvTranspose(x, w) {%s}\n  u = "
          "Relu(t)\n"
          "  y = Add(u, t)\n}",
          x, w, attrs);
}

static void test_deconv(void **state)
{
    static const char *const attrs[] = {
        "group=1",
        "strides=[2,2]",
        "strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]",
        "strides=[3,2], output_padding=[2,1]",
        "strides=[3,2], pads=[0,1,2,1]",
        "dilations=[2,2], pads=[1,0,1,0]",
        "auto_pad=\"SAME_UPPER\", strides=[2,2]",
        "auto_pad=\"SAME_LOWER\", strides=[3,3]",
        "strides=[2,2], output_shape=[13,10]",
    };
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++) {
        deconv("2,5,6,5", "5,7,3,3", 7, attrs[i]);
        deconv("1,16,6,5", "16,16,4,4", 16, attrs[i]);
    }
    /* windows side by side: a matrix product */
    deconv("2,5,6,4", "5,7,2,2", 7, "strides=[2,2]");
    deconv("3,1,1,4", "1,3,4,1", 3, "strides=[4,1]");
    deconv("2,17,3,2", "17,1,3,2", 1, "strides=[3,2]");
    deconv("2,6,6,5", "6,3,3,3", 9, "group=3, strides=[2,2]");
    deconv("1,8,6,5", "8,1,4,4", 8, "group=8, strides=[2,2], pads=[1,1,1,1]");
    deconv("1,1,3,3", "1,1,2,2", 1, "strides=[2,2]");
    deconv("2,5,9", "5,4,4", 4, "strides=[2], pads=[1,1]");
    deconv("1,3,4,3,5", "3,2,3,3,3", 2, "strides=[2,1,2], pads=[1,1,1,1,1,1], output_padding=[1,0,1]");
}

/* A convolution down a column one pixel wide is told to oneDNN as one along a row. */
static void test_columns(void **state)
{
    conv("2,5,19,1", "7,5,3,1", 7, "pads=[1,0,2,0], dilations=[2,1]");
    conv("1,3,64,1", "9,3,10,1", 9, "strides=[5,1]");
    conv("2,16,19,1", "16,1,5,1", 16, "group=16, pads=[2,0,2,0]");
    conv("2,16,2,1", "16,16,1,1", 16, "group=1");
    check(ONE,
          "graph (x: f32[2,8,9,1], z: f32[2,8,9,1], o: f32[2,1,9,1]) -> (y) opset 17 {\n  w: f32[8,8,3,1] = random(1)\n"
          "  b: f32[8,1,1] = random(2)\n  a = Conv(x, w) {pads=[1,0,1,0]}\n  c = Add(a, b)\n  d = Add(c, z)\n  e = "
          "Mul(d, o)\n"
          "  f = Conv(e, w) {pads=[1,0,1,0]}\n  y = Mul(f, e)\n}");
}

/* The same weights read in two ways must not share one packed form. */
static void test_one_tensor_packed_two_ways(void **state)
{
    check(ONE, "graph (x: f32[1,8,5,5]) -> (y, z) opset 17 {\n  w: f32[8,8,3,3] = random(3)\n  y = Conv(x, w)\n"
               "  z = ConvTranspose(x, w)\n}");
    check(ONE, "graph (x: f32[1,16,5,5], u: f32[1,16,5,5]) -> (y, z) opset 17 {\n  w: f32[16,1,3,3] = random(3)\n"
               "  y = Conv(x, w) {group=16}\n  z = ConvTranspose(u, w) {group=16}\n}");
    check(ONE, "graph (x: f32[1,16,5,5], u: f32[1,1,5,5]) -> (y, z) opset 17 {\n  w: f32[16,1,3,3] = random(3)\n"
               "  y = Conv(x, w) {group=16}\n  z = Conv(u, w)\n}");
}

static void test_empty(void **state)
{
    check(
        NULL,
        "graph (x: f32[0,3,5,5]) -> (y) opset 17 {\n  w: f32[4,3,3,3] = random(1)\n  t = Conv(x, w)\n  y = Relu(t)\n}");
    check(NULL,
          "graph (x: f32[0,3,5,5]) -> (y) opset 17 {\n  w: f32[3,4,3,3] = random(1)\n  y = ConvTranspose(x, w)\n}");
    check(NULL, "graph (x: f32[0,3,5,5]) -> (y) opset 17 {\n  w: f32[4,3,3,3] = random(1)\n  t = Conv(x, w)\n"
                "  p = MaxPool(t) {kernel_shape=[2,2]}\n  q = GlobalAveragePool(p)\n  y = Concat(q, q) {axis=1}\n}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_channels_and_batches), CMP_TEST(test_windows),   CMP_TEST(test_ranks),
        CMP_TEST(test_groups),               CMP_TEST(test_residuals), CMP_TEST(test_weights_made_at_run_time),
        CMP_TEST(test_deconv),               CMP_TEST(test_empty),     CMP_TEST(test_one_tensor_packed_two_ways),
        CMP_TEST(test_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
