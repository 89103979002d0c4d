/* Products of 8-bit codes on the CPU against the reference kernels: the bytes must be equal. ctest runs this at every
 * instruction set; random codes reach the ends of their range, where vpmaddubsw would saturate. */
#include "cpu_compare.h"

static const char *const types[] = { "u8", "i8" };

typedef struct conv_case {
    const char *x, *w, *attrs; /* attrs without braces */
    int outputs;
} conv_case;

static const conv_case convs[] = {
    { "2,8,6,5", "24,8,3,3", "pads=[1,1,1,1]", 24 },
    { "1,16,9,7", "40,16,1,1", "", 40 },
    { "2,64,5,5", "33,64,1,1", "", 33 },
    { "1,20,8,8", "16,20,1,1", "strides=[2,2]", 16 },
    { "1,3,17,13", "32,3,3,3", "pads=[0,1,1,1], strides=[2,2]", 32 },
    { "2,6,6,5", "24,3,3,3", "pads=[1,1,1,1], group=2", 24 },
    { "1,32,7,9", "32,1,3,3", "pads=[1,1,1,1], group=32", 32 },
    { "2,96,6,6", "96,1,5,5", "pads=[2,2,2,2], strides=[2,2], group=96", 96 },
    { "1,80,5,4", "80,1,3,3", "pads=[2,2,2,2], dilations=[2,2], group=80", 80 },
    { "1,7,5,4", "7,1,3,3", "pads=[0,2,1,0], group=7", 7 },
    { "1,5,11", "6,5,4", "pads=[1,2], dilations=[2]", 6 },
    { "1,4,4,5,3", "10,4,3,2,2", "pads=[1,0,1,1,1,0]", 10 },
    { "1,130,3,3", "70,130,3,3", "pads=[1,1,1,1]", 70 },
    { "1,9,1,1", "3,9,1,1", "", 3 },
    { "1,16,3,3", "32,1,3,3", "pads=[1,1,1,1], group=16", 32 },
    /* More weights than rows, so that threads share out the columns; the last panel belongs to nobody's whole share. */
    { "1,96,7,7", "192,96,3,3", "pads=[1,1,1,1]", 192 },
    { "1,40,5,5", "280,40,1,1", "", 280 },
    /* Several chunks of rows. */
    { "1,64,15,14", "40,64,3,3", "pads=[1,1,1,1]", 40 },
};

/* zero: zero points of weights other than 0 too. */
static void conv(const conv_case *c, int x, int w, int y, bool zero) {
    char zeros[64] = "";
    if (zero) snprintf(zeros, sizeof zeros, "[%d] = random(9)", c->outputs);
    check("cpu.int8",
          "graph (x: %s[%s]) -> (z) opset 17 {\n xs: f32 = {0.02}\n xz: %s = {%d}\n w: %s[%s] = random(5)\n"
          " ws: f32[%d] = random(7)\n wa = Abs(ws)\n wz: %s%s\n ys: f32 = {1.7}\n yz: %s = {%d}\n bi: i32[%d] = "
          "random(8)\n"
          " c: i32 = {100000}\n b = Div(bi, c)\n z = QLinearConv(x, xs, xz, w, wa, wz, ys, yz, b) {%s}\n}",
          types[x], c->x, types[x], x ? -3 : 131, types[w], c->w, c->outputs, types[w],
          zero ? zeros
          : w  ? " = {0}"
               : " = {128}",
          types[y], y ? -7 : 99, c->outputs, c->attrs);
}

static void test_conv(void **state) {
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++) {
        for (int k = 0; k < 16; k++)
            conv(&convs[i], k & 1, k >> 1 & 1, k >> 2 & 1, k >> 3);
    }
}

/* Codes of the ends only: 255 and 0, 127 and -128, whose pairs saturate 16 bits. */
static void test_extremes(void **state) {
    check("cpu.int8",
          "graph (f: f32[1,64,6,6]) -> (z, acc) opset 17 {\n one: f32 = {0.001}\n xz: u8 = {0}\n"
          " x = QuantizeLinear(f, one, xz)\n"
          " wf: f32[48,64,3,3] = random(3)\n wone: f32 = {0.0001}\n wz: i8 = {0}\n w = QuantizeLinear(wf, wone, wz)\n"
          " ys: f32 = {30000.0}\n yz: u8 = {100}\n s: f32 = {1.0}\n"
          " z = QLinearConv(x, s, xz, w, s, wz, ys, yz) {pads=[1,1,1,1]}\n"
          " acc = ConvInteger(x, w, xz, wz) {pads=[1,1,1,1]}\n}");
}

static void test_result_f32(void **state) {
    for (int bias = 0; bias < 2; bias++) {
        for (int dw = 0; dw < 2; dw++) {
            check("cpu.int8",
                  "graph (x: u8[2,40,5,6]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {120}\n"
                  " w: i8[40,%d,3,3] = random(5)\n ws: f32[40] = random(7)\n br: %s[40] = random(8)\n"
                  " c: %s = {100000}\n b = Div(br, c)\n"
                  " z = polestar.QLinearConv(x, xs, xz, w, ws, _, _, _, b) {pads=[1,1,1,1], group=%d}\n}",
                  dw ? 1 : 40, bias ? "f32" : "i32", bias ? "f32" : "i32", dw ? 40 : 1);
        }
    }
}

static void test_range(void **state) {
    check("cpu.int8",
          "graph (x: u8[2,8,5,6]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {120}\n"
          " w: i8[12,8,3,3] = random(5)\n ws: f32 = {0.01}\n ys: f32 = {0.1}\n yz: i8 = {-3}\n b: f32[12] = random(8)\n"
          " z = polestar.QLinearConv(x, xs, xz, w, ws, _, ys, yz, b) {low=-3, high=50}\n}");
}

/* Results far beyond the codes on either side, beyond 16 and 32 bits, and next to none, where sums become codes in
 * registers and where their scale is too large for that. */
static void test_scales(void **state) {
    static const char *const scales[] = { "0.05", "0.0399", "0.0401", "1e-9", "1e-30", "40.0", "1e30" };
    for (size_t i = 0; i < 4 * (sizeof scales / sizeof *scales); i++) {
        const char *t = types[i & 1];
        check("cpu.int8",
              "graph (x: u8[1,24,5,7]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {120}\n"
              " w: i8[64,24,3,3] = random(5)\n ws: f32 = {1.0}\n ys: f32 = {%s}\n yz: %s = {%d}\n"
              " bi: i32[64] = random(8)\n c: i32 = {1000}\n b = Div(bi, c)\n"
              " z = polestar.QLinearConv(x, xs, xz, w, ws, _, ys, yz, b) {pads=[1,1,1,1]%s}\n}",
              scales[i / 4], t, i & 1 ? -128 : 255, i & 2 ? ", low=-5, high=90" : "");
    }
}

#define CONV_ADD "cpu.int8 vnni conv add|cpu.int8 avx512 conv add|cpu.int8 avx2 conv add|cpu.int8 base conv add"

/* The addition behind a convolution is its last step here and a node of its own on the reference device. */
static void test_conv_add(void **state) {
    static const int outputs[] = { 64, 40, 7 };
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        for (int k = 0; k < 16; k++) {
            const char *t = types[k & 1], *c = "c, cs, cz", *o = "o, os, oz";
            const int n = outputs[i], zero = k & 1 ? -9 : 117;
            check(CONV_ADD,
                  "graph (x: u8[2,24,5,6], o: %s[2,%d,5,6]) -> (z, c2) opset 17, polestar 1 {\n xs: f32 = {0.02}\n"
                  " xz: u8 = {120}\n w: i8[%d,24,3,3] = random(5)\n ws: f32[%d] = random(7)\n wa = Abs(ws)\n"
                  " cs: f32 = {0.9}\n cz: %s = {%d}\n os: f32 = {0.6}\n oz: %s = {%d}\n ys: f32 = {1.2}\n"
                  " yz: %s = {%d}\n b: %s[%d] = random(8)\n"
                  " c = polestar.QLinearConv(x, xs, xz, w, wa, _, cs, cz%s) {pads=[1,1,1,1]%s}\n"
                  " z = polestar.QLinearAdd(%s, %s, ys, yz)%s\n c2 = Identity(o)\n}",
                  t, n, n, n, t, zero, t, zero - 20, t, zero + 10, k & 8 ? "f32" : "i32", n, k & 8 ? ", b" : "",
                  k & 4 ? ", low=-60, high=110" : "", k & 2 ? o : c, k & 2 ? c : o,
                  k & 4 ? " {low=-100, high=120}" : "");
        }
    }
    check(CONV_ADD, "graph (x: u8[1,16,9,7]) -> (z) opset 17, polestar 1 {\n s: f32 = {0.02}\n xz: u8 = {120}\n"
                    " u: i8[32,16,1,1] = random(5)\n v: i8[32,16,3,3] = random(6)\n"
                    " p = polestar.QLinearConv(x, s, xz, u, s, _, s, xz)\n"
                    " q = polestar.QLinearConv(x, s, xz, v, s, _, s, xz) {pads=[1,1,1,1]}\n"
                    " z = polestar.QLinearAdd(p, s, xz, q, s, xz, s, xz)\n}");
}

static void test_matmul(void **state) {
    static const char *const shapes[][3] = { { "6,8", "8,5", "5" },       { "2,3,8", "8,40", "40" },
                                             { "1,64", "64,100", "100" }, { "33,7", "7,33", "33" },
                                             { "1,1,130", "130,3", "3" }, { "100,384", "384,64", "64" } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int k = 0; k < 8; k++) {
            const char *x = types[k & 1], *w = types[k >> 1 & 1], *y = types[k >> 2 & 1];
            check("cpu.int8",
                  "graph (x: %s[%s]) -> (z, f) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: %s = {%d}\n"
                  " w: %s[%s] = random(5)\n ws: f32[%s] = random(7)\n wz: %s[%s] = random(9)\n ys: f32 = {1.7}\n yz: "
                  "%s = {60}\n"
                  " bf: f32[%s] = random(8)\n bi: i32[%s] = random(8)\n c: i32 = {100000}\n b = Div(bi, c)\n"
                  " z = polestar.QLinearMatMul(x, xs, xz, w, ws, wz, ys, yz, b)\n"
                  " f = polestar.QLinearMatMul(x, xs, xz, w, ws, wz, _, _, bf)\n}",
                  x, shapes[i][0], x, k & 1 ? -3 : 131, w, shapes[i][1], shapes[i][2], w, shapes[i][2], y, shapes[i][2],
                  shapes[i][2]);
        }
    }
}

static void test_matmul_batched(void **state) {
    static const char *const shapes[][2] = { { "6,8", "8,5" },        { "2,3,8,16", "2,3,16,40" },
                                             { "2,1,9,7", "3,7,33" }, { "4,1,130", "130,3" },
                                             { "3,5", "2,5,6" },      { "2,50,64", "2,64,64" } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int k = 0; k < 8; k++) {
            const char *x = types[k & 1], *w = types[k >> 1 & 1], *y = types[k >> 2];
            check("cpu.int8",
                  "graph (x: %s[%s], w: %s[%s]) -> (z, f) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: %s = {%d}\n"
                  " ws: f32 = {0.013}\n wz: %s = {77}\n ys: f32 = {1.7}\n yz: %s = {60}\n"
                  " z = QLinearMatMul(x, xs, xz, w, ws, wz, ys, yz)\n"
                  " f = polestar.QLinearMatMul(x, xs, xz, w, ws, wz)\n}",
                  x, shapes[i][0], w, shapes[i][1], x, k & 1 ? -3 : 131, w, y);
        }
    }
}

static void pair(const char *op, const char *domain, const char *a, const char *b, const char *t) {
    const int zero = t[0] == 'u' ? 117 : -9;
    check("cpu.int8",
          "graph (a: %s[%s], b: %s[%s]) -> (y) opset 17, polestar 1, com.microsoft 1 {\n sa: f32 = {0.03}\n za: %s = "
          "{%d}\n"
          " sb: f32 = {0.02}\n zb: %s = {%d}\n sy: f32 = {0.04}\n zy: %s = {%d}\n"
          " y = %s.%s(a, sa, za, b, sb, zb, sy, zy)%s\n}",
          t, a, t, b, t, zero, t, zero - 20, t, zero + 10, domain, op, domain[0] == 'p' ? " {low=-100, high=120}" : "");
}

static void test_pairs(void **state) {
    static const char *const shapes[][2] = {
        { "2,24,6,5", "2,24,6,5" }, { "2,24,6,5", "2,24,1,1" },
        { "2,24,6,5", "24,1,1" },   { "3,7", "7" },
        { "3,7", "3,1" },           { "3,7", "1" },
        { "1,3000", "1,3000" },     { "1,5", "4,5" },
        { "2,3,5", "3,1" },         { "0,4", "4" },
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int k = 0; k < 8; k++) {
            const char *domain = k & 1 ? "polestar" : "com.microsoft";
            if (shapes[i][0][0] == '0') continue; /* no kernel is needed */
            pair(k & 2 ? "QLinearMul" : "QLinearAdd", domain, shapes[i][0], shapes[i][1], types[k >> 2]);
        }
    }
    /* in the layout of a convolution */
    check("cpu.int8 avx512 add|cpu.int8 vnni add|cpu.int8 avx2 add|cpu.int8 base add",
          "graph (x: u8[2,8,5,6], b: u8[2,12,1,1]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {120}\n"
          " w: i8[12,8,1,1] = random(5)\n ws: f32 = {0.01}\n ys: f32 = {0.1}\n"
          " y = polestar.QLinearConv(x, xs, xz, w, ws, _, ys, xz)\n"
          " z = polestar.QLinearAdd(y, ys, xz, b, xs, xz, ys, xz)\n}");
}

static void test_lookup(void **state) {
    for (int k = 0; k < 2; k++)
        check("cpu.int8 lookup",
              "graph (x: %s[3,333]) -> (y) opset 17, polestar 1 { t: u8[256] = random(3) y = polestar.Lookup(x, t) }",
              types[k]);
}

static void test_pools(void **state) {
    static const char *const windows[] = {
        "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]",
        "kernel_shape=[2,3], ceil_mode=1, strides=[2,2]",
        "kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1",
    };
    for (int k = 0; k < 2; k++) {
        const char *t = types[k];
        check(
            "cpu.int8 globalavgpool",
            "graph (x: %s[2,37,7,5]) -> (y) opset 17, com.microsoft 1 { s: f32 = {0.03} z: %s = {%d} r: f32 = {0.02}\n"
            " y = com.microsoft.QLinearGlobalAveragePool(x, s, z, r, z) }",
            t, t, k ? -5 : 118);
        for (size_t i = 0; i < 3; i++) {
            check("cpu.int8 avgpool",
                  "graph (x: %s[2,37,7,5]) -> (y) opset 17, com.microsoft 1 { s: f32 = {0.03} z: %s = {%d} r: f32 = "
                  "{0.03}\n"
                  " y = com.microsoft.QLinearAveragePool(x, s, z, r, z) {%s} }",
                  t, t, k ? -5 : 118, windows[i]);
            if (i < 2)
                check("cpu.int8 maxpool", "graph (x: %s[2,37,7,5]) -> (y) opset 17 { y = MaxPool(x) {%s} }", t,
                      windows[i]);
        }
        check("cpu.resize",
              "graph (x: %s[2,37,7,5]) -> (y) opset 17 { s: f32[4] = {1, 1, 2, 1.5} y = Resize(x, _, s) "
              "{mode=\"nearest\"} }",
              t);
    }
}

/* NaN, infinities and what overflows included. */
static void test_linear(void **state) {
    static const char *const scales[] = { "0.05", "1e-30", "3e30" };
    cmp_values = CMP_SPECIAL;
    for (int k = 0; k < 6; k++) {
        const char *t = types[k & 1];
        check("cpu.quantize",
              "graph (x: f32[3,333]) -> (q, y) opset 17 { s: f32 = {%s} z: %s = {%d} r: f32 = {0.07}\n"
              " q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, r, z) }",
              scales[k / 2], t, k & 1 ? -5 : 118);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_conv),     CMP_TEST(test_extremes), CMP_TEST(test_result_f32),     CMP_TEST(test_range),
        CMP_TEST(test_conv_add), CMP_TEST(test_matmul),   CMP_TEST(test_matmul_batched), CMP_TEST(test_pairs),
        CMP_TEST(test_lookup),   CMP_TEST(test_pools),    CMP_TEST(test_linear),         CMP_TEST(test_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
