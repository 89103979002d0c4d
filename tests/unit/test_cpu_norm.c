/* Softmax, LayerNormalization, Attention and LSTM on the CPU device. */
#include "cpu_compare.h"

static void test_softmax(void **state)
{
    static const char *const shapes[] = { "2,3,4,5", "1,1,1,1", "1,3,1,1", "2,3,4,1", "0,3,4,5", "2,3,4,0" };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int axis = -4; axis < 4; axis++) {
            for (int opset = 11; opset <= 13; opset += 2) {
                check(NULL,
                      "graph (x: f32[%s]) -> (y, z) opset %d {\n  y = Softmax(x) {axis=%d}\n  z = LogSoftmax(x) "
                      "{axis=%d}\n}",
                      shapes[i], opset, axis, axis);
                check(NULL,
                      "graph (x: f32[%s]) -> (y) opset %d {\n  a = Neg(x)\n  b = Softmax(a) {axis=%d}\n  y = Sub(b, "
                      "a)\n}",
                      shapes[i], opset, axis);
            }
        }
    }
    check("cpu.softmax", "graph (x: f32[3,1000]) -> (y) opset 13 {\n  y = Softmax(x)\n}");
    check("cpu.softmax", "graph (x: f32[1000]) -> (y) opset 13 {\n  y = LogSoftmax(x)\n}");
    check(NULL, "graph (x: f32[]) -> (y) opset 13 {\n  y = Identity(x)\n}");
    check(NULL, "graph (x: f32[2,6,5,6]) -> (y) opset 13 {\n  p = MaxPool(x) {kernel_shape=[2,2]}\n  y = Softmax(p) "
                "{axis=1}\n}");
}

static void test_softmax_special_values(void **state)
{
    static const char *const ops[] = { "Softmax", "LogSoftmax" };
    for (int k = 0; k < 2; k++) {
        for (int opset = 11; opset <= 13; opset += 2) {
            /* masks of -inf; a row with nothing else; one infinity; a NaN; far apart */
            check("cpu.softmax",
                  "graph (x: f32[4]) -> (y) opset %d {\n  m: f32[7,4] = {0,-inf,0,-inf, -inf,-inf,-inf,-inf, "
                  "inf,0,0,0, nan,0,0,0,"
                  " 0,300,-300,1, -3e38,-3e38,-3e38,-3e38, 3e38,0,0,0}\n  a = Add(m, x)\n  y = %s(a)\n}",
                  opset, ops[k]);
        }
    }
    cmp_values = CMP_FINITE;
    check("cpu.softmax", "graph (x: f32[60,7]) -> (y) opset 13 {\n  y = Softmax(x)\n}");
    check("cpu.softmax", "graph (x: f32[60,7]) -> (y) opset 13 {\n  y = LogSoftmax(x)\n}");
}

static void test_layernorm(void **state)
{
    check("cpu.layernorm",
          "graph (x: f32[3,5,16], g: f32[16], b: f32[16]) -> (y) opset 17 {\n  y = LayerNormalization(x, g, b)\n}");
    check("cpu.layernorm",
          "graph (x: f32[3,5,16], g: f32[16]) -> (y) opset 17 {\n  y = LayerNormalization(x, g) {epsilon=0.1}\n}");
    check("cpu.layernorm",
          "graph (x: f32[3,5,16], g: f32[16]) -> (y) opset 17 {\n  y = LayerNormalization(x, g, _)\n}");
    check("cpu.layernorm", "graph (x: f32[3,5,16], g: f32[5,16], b: f32[5,16]) -> (y) opset 17 {\n"
                           "  y = LayerNormalization(x, g, b) {axis=1}\n}");
    check("cpu.layernorm",
          "graph (x: f32[3,5,16], g: f32[3,5,16]) -> (y) opset 17 {\n  y = LayerNormalization(x, g) {axis=-3}\n}");
    check(NULL,
          "graph (x: f32[3,5,16], g: f32[1], b: f32[16]) -> (y) opset 17 {\n  y = LayerNormalization(x, g, b)\n}");
    check(NULL, "graph (x: f32[3,5,16], g: f32[16], b: f32[1]) -> (y) opset 17 {\n  y = LayerNormalization(x, g, b) "
                "{axis=1}\n}");
    /* as many numbers as a row, and another one for each row */
    check("ref", "graph (x: f32[4,4], g: f32[4,1]) -> (y) opset 17 {\n  y = LayerNormalization(x, g)\n}");
    check(NULL, "graph (x: f32[3,5,16], g: f32[16]) -> (y, m, v) opset 17 {\n  y, m, v = LayerNormalization(x, g)\n}");
    check(NULL, "graph (x: f32[3,0,16], g: f32[16]) -> (y) opset 17 {\n  y = LayerNormalization(x, g)\n}");
    check(NULL, "graph (x: f32[6,1], g: f32[1]) -> (y) opset 17 {\n  y = LayerNormalization(x, g)\n}");
    check(NULL, "graph (x: f32[2,6,5,5], g: f32[4]) -> (y, p) opset 17 {\n  p = MaxPool(x) {kernel_shape=[2,2]}\n"
                "  y = LayerNormalization(p, g)\n}");
    check(NULL, "graph (x: f32[4,16], g: f32[16]) -> (y) opset 17 {\n  a = Neg(x)\n  n = LayerNormalization(a, g)\n  y "
                "= Add(n, a)\n}");
    check(NULL, "graph (x: f32[16], g: f32[16]) -> (y) opset 17 {\n  a = Neg(x)\n  y = LayerNormalization(a, a, a)\n}");
    /* the mean far from 0: two passes keep the digits */
    cmp_tolerance = 2e-3f;
    check(NULL, "graph (x: f32[4,64], g: f32[64]) -> (y) opset 17 {\n  a = Add(x, f32{1000})\n  y = "
                "LayerNormalization(a, g)\n}");
}

/* Behind a pool the input lies channels-last. */
static void groupnorm(const char *dims, int channels, int entries, const char *op, const char *attrs, int opset)
{
    const char *label = op[0] == 'I' ? "cpu.instancenorm" : "cpu.groupnorm";
    check(label, "graph (x: f32[%s], g: f32[%d], b: f32[%d]) -> (y) opset %d {\n  y = %s(x, g, b) {%s}\n}", dims,
          entries, entries, opset, op, attrs);
    check(label,
          "graph (x: f32[%s], g: f32[%d], b: f32[%d]) -> (y) opset %d {\n  w: f32[%d,%d,1,1] = random(5)\n  p = "
          "Conv(x, w)\n"
          "  y = %s(p, g, b) {%s}\n}",
          dims, entries, entries, opset, channels, channels, op, attrs);
}

static void test_groupnorm(void **state)
{
    static const char *const dims[] = { "2,12,5,7", "1,12,1,1", "1,12,40,40" };
    for (size_t i = 0; i < 3; i++) {
        groupnorm(dims[i], 12, 12, "InstanceNormalization", "epsilon=0.01", 17);
        groupnorm(dims[i], 12, 3, "GroupNormalization", "num_groups=3", 18);
        groupnorm(dims[i], 12, 12, "GroupNormalization", "num_groups=4, epsilon=0.001", 21);
        groupnorm(dims[i], 12, 12, "GroupNormalization", "num_groups=1", 21);
    }
    groupnorm("2,192,3,5", 192, 192, "GroupNormalization", "num_groups=2", 21);
    groupnorm("1,192,3,5", 192, 192, "GroupNormalization", "num_groups=32", 21);
    check("cpu.instancenorm",
          "graph (x: f32[2,3,50], g: f32[3], b: f32[3]) -> (y) opset 17 {\n  y = InstanceNormalization(x, g, b)\n}");
    check(NULL,
          "graph (x: f32[2,3,0], g: f32[3], b: f32[3]) -> (y) opset 17 {\n  y = InstanceNormalization(x, g, b)\n}");
    /* the mean far from 0: two passes keep the digits */
    cmp_tolerance = 2e-3f;
    check("cpu.groupnorm", "graph (x: f32[1,8,20,20], g: f32[8], b: f32[8]) -> (y) opset 21 {\n  w: f32[8,8,1,1] = "
                           "random(5)\n  p = Conv(x, w)\n"
                           "  a = Add(p, f32{1000})\n  y = GroupNormalization(a, g, b) {num_groups=2}\n}");
}

static void attention(int sq, int sk, int heads, int d, int dv, const char *mask)
{
    char head[160] = "";
    if (mask) snprintf(head, sizeof head, ", m: f32%s", mask);
    check(sq && sk ? "cpu.attention" : NULL,
          "graph (q: f32[2,%d,%d], k: f32[2,%d,%d], v: f32[2,%d,%d]%s) -> (y) opset 17, polestar 1 {\n"
          "  y = polestar.Attention(q, k, v%s) {heads=%d, scale=%#g}\n}",
          sq, heads * d, sk, heads * d, sk, heads * dv, head, mask ? ", m" : "", heads, 1 / sqrt((double)d));
}

static void test_attention(void **state)
{
    static const int queries[] = { 1, 31, 32, 33 }, depths[] = { 1, 20, 64 };
    char mask[64];
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < 3; k++) {
            int sq = queries[i], d = depths[k];
            attention(sq, sq, 3, d, d, NULL);
            attention(sq, 17, 2, d, 24, NULL);
            snprintf(mask, sizeof mask, "[2,1,1,%d]", sq);
            attention(sq, sq, 3, d, d, mask);
            snprintf(mask, sizeof mask, "[1,1,%d,%d]", sq, sq);
            attention(sq, sq, 3, d, d, mask);
            snprintf(mask, sizeof mask, "[2,3,%d,%d]", sq, sq);
            attention(sq, sq, 3, d, d, mask);
            snprintf(mask, sizeof mask, "[%d,%d]", sq, sq);
            attention(sq, sq, 3, d, d, mask);
            snprintf(mask, sizeof mask, "[3,%d,1]", sq);
            attention(sq, sq, 3, d, d, mask);
            attention(sq, sq, 3, d, d, "[]");
            attention(sq, sq, 3, d, d, "[1,1,1,1]");
        }
    }
    attention(5, 700, 2, 16, 16, NULL);
    attention(70, 333, 1, 33, 7, "[2,1,1,333]");
    attention(0, 4, 2, 8, 8, NULL);
}

/* As exporters write it, with masks of -inf and of the smallest number; a row without a single key is NaN in either. */
static void test_attention_masks(void **state)
{
    static const char *const masks[] = { "0,0,0,0,-inf",
                                         "-inf,0,-inf,0,-inf",
                                         "-3.4e38,0,-3.4e38,0,0",
                                         "-inf,-inf,-inf,-inf,-inf",
                                         "-3.4e38,-3.4e38,-3.4e38,-3.4e38,-3.4e38",
                                         "0,nan,0,0,0",
                                         "-10000,-10000,0,0,0" };
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        check("cpu.attention",
              "graph (q: f32[2,4,12], k: f32[2,5,12], v: f32[2,5,12]) -> (y) opset 17, polestar 1 {\n  m: f32[1,1,1,5] "
              "= {%s}\n"
              "  y = polestar.Attention(q, k, v, m) {heads=3, scale=0.5}\n}",
              masks[i]);
    }
}

static void lstm(const char *direction, int directions, int steps, int batch, int in, int hidden, const char *args,
                 const char *out) {
    check("cpu.lstm",
          "graph (x: f32[%d,%d,%d], h: f32[%d,%d,%d], c: f32[%d,%d,%d]) -> (%s) opset 17 {\n"
          "  w: f32[%d,%d,%d] = random(1)\n  r: f32[%d,%d,%d] = random(2)\n  b: f32[%d,%d] = random(3)\n"
          "  %s = LSTM(x, w, r%s) {hidden_size=%d, direction=\"%s\"}\n}",
          steps, batch, in, directions, batch, hidden, directions, batch, hidden,
          strncmp(out, "_, ", 3) == 0 ? out + (out[3] == '_' ? 6 : 3) : "y", directions, 4 * hidden, in, directions,
          4 * hidden, hidden, directions, 8 * hidden, out, args, hidden, direction);
}

static void test_lstm(void **state)
{
    static const char *const directions[] = { "forward", "reverse", "bidirectional" };
    static const char *const args[] = { "", ", b", ", b, _, h, c", ", _, _, h", ", b, _, _, c" };
    static const char *const outs[] = { "y", "y, _, z", "_, y, z", "_, _, z", "_, y" };
    cmp_tolerance = 1e-4f; /* errors add up over the steps */
    for (size_t d = 0; d < 3; d++) {
        int n = d == 2 ? 2 : 1;
        for (size_t a = 0; a < 5; a++) {
            for (size_t o = 0; o < 5; o++) lstm(directions[d], n, 7, 3, 5, 11, args[a], outs[o]);
            lstm(directions[d], n, 1, 1, 1, 1, args[a], "y");
            lstm(directions[d], n, 20, 2, 33, 64, args[a], "y");
        }
    }
    check(NULL, "graph (x: f32[4,2,5], s: i32[2]) -> (y) opset 17 {\n  w: f32[1,24,5] = random(1)\n  r: f32[1,24,6] = "
                "random(2)\n"
                "  q: i32[2] = {4,2}\n  y = LSTM(x, w, r, _, q) {hidden_size=6}\n}");
    check(NULL, "graph (x: f32[2,4,5]) -> (y) opset 17 {\n  w: f32[1,24,5] = random(1)\n  r: f32[1,24,6] = random(2)\n"
                "  y = LSTM(x, w, r) {hidden_size=6, layout=1}\n}");
    check(NULL, "graph (x: f32[4,2,5], w: f32[1,24,5]) -> (y) opset 17 {\n  r: f32[1,24,6] = random(2)\n"
                "  y = LSTM(x, w, r) {hidden_size=6}\n}");
    check("cpu.lstm",
          "graph (x: f32[4,2,5]) -> (y) opset 17 {\n  w: f32[1,24,5] = random(1)\n  r: f32[1,24,6] = random(2)\n"
          "  y = LSTM(x, w, r) {hidden_size=6, activations=[\"Sigmoid\",\"Tanh\",\"Tanh\"]}\n}");
    check(NULL, "graph (x: f32[4,2,5]) -> (y) opset 17 {\n  w: f32[1,24,5] = random(1)\n  r: f32[1,24,6] = random(2)\n"
                "  y = LSTM(x, w, r) {hidden_size=6, activations=[\"Sigmoid\",\"Tanh\",\"Relu\"]}\n}");
    check(NULL, "graph (x: f32[4,2,6]) -> (y) opset 17 {\n  w: f32[1,24,6] = random(1)\n  y = LSTM(x, w, w) "
                "{hidden_size=6}\n}");
}

static void gru_or_rnn(const char *op, int gates, const char *direction, int directions, int steps, int batch, int in,
                       int hidden, const char *args, const char *out, const char *attrs) {
    check(gates == 3 ? "cpu.gru" : "cpu.rnn",
          "graph (x: f32[%d,%d,%d], h: f32[%d,%d,%d]) -> (%s) opset 17 {\n"
          "  w: f32[%d,%d,%d] = random(1)\n  r: f32[%d,%d,%d] = random(2)\n  b: f32[%d,%d] = random(3)\n"
          "  %s = %s(x, w, r%s) {hidden_size=%d, direction=\"%s\"%s}\n}",
          steps, batch, in, directions, batch, hidden, strcmp(out, "_, y") == 0 ? "y" : out, directions, gates * hidden,
          in, directions, gates * hidden, hidden, directions, 2 * gates * hidden, out, op, args, hidden, direction,
          attrs);
}

static void test_gru_rnn(void **state)
{
    static const char *const directions[] = { "forward", "reverse", "bidirectional" };
    static const char *const args[] = { "", ", b", ", b, _, h", ", _, _, h" };
    static const char *const outs[] = { "y", "y, z", "_, y" };
    static const char *const resets[] = { "", ", linear_before_reset=1" };
    cmp_tolerance = 1e-4f; /* errors add up over the steps */
    for (size_t d = 0; d < 3; d++) {
        int n = d == 2 ? 2 : 1;
        for (size_t a = 0; a < 4; a++) {
            for (size_t o = 0; o < 3; o++) {
                for (size_t r = 0; r < 2; r++)
                    gru_or_rnn("GRU", 3, directions[d], n, 7, 3, 5, 11, args[a], outs[o], resets[r]);
                gru_or_rnn("RNN", 1, directions[d], n, 7, 3, 5, 11, args[a], outs[o], "");
            }
            for (size_t r = 0; r < 2; r++) {
                gru_or_rnn("GRU", 3, directions[d], n, 1, 1, 1, 1, args[a], "y", resets[r]);
                gru_or_rnn("GRU", 3, directions[d], n, 20, 2, 33, 64, args[a], "y", resets[r]);
            }
            gru_or_rnn("RNN", 1, directions[d], n, 4, 2, 33, 64, args[a], "y", ""); /* more steps are chaotic */
            /* few steps: Relu lets a state grow without limit */
            gru_or_rnn("RNN", 1, directions[d], n, 3, 2, 9, 12, args[a], "y",
                       n == 2 ? ", activations=[\"Relu\",\"Relu\"]" : ", activations=[\"Relu\"]");
        }
    }
    check(NULL, "graph (x: f32[4,2,5]) -> (y) opset 17 {\n  w: f32[2,6,5] = random(1)\n  r: f32[2,6,6] = random(2)\n"
                "  y = RNN(x, w, r) {hidden_size=6, direction=\"bidirectional\", activations=[\"Tanh\",\"Relu\"]}\n}");
    check(NULL, "graph (x: f32[4,2,5]) -> (y) opset 17 {\n  w: f32[1,18,5] = random(1)\n  r: f32[1,18,6] = random(2)\n"
                "  y = GRU(x, w, r) {hidden_size=6, clip=0.5}\n}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_softmax),   CMP_TEST(test_softmax_special_values), CMP_TEST(test_layernorm),
        CMP_TEST(test_groupnorm),
        CMP_TEST(test_attention), CMP_TEST(test_attention_masks),        CMP_TEST(test_lstm),
        CMP_TEST(test_gru_rnn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
