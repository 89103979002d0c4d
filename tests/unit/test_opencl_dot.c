/* Products of 8-bit codes on the first OpenCL device against the reference kernels: the bytes must be equal, for sums
 * are exact and what follows them is rounded as there (f32 results: 2e-5, as everywhere). A device without a dot
 * product of codes takes one in plain C, so that all but that instruction is tested anywhere.
 *
 * Where a bias or a sum of codes is added in f32, or a division is made (means of windows), a driver may round
 * otherwise in the last place, and a code be one off at a tie: on PoCL none is. */
#include "opencl_compare.h"

static const char *const types[] = { "u8", "i8" };

static ocl_device *device(void) {
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    return ocl_of(d);
}

static int setup(void **state) {
    cmp_setup(state);
    ocl_device *d = device();
    if (!d->dot) d->dot = OCL_DOT_PLAIN;
    d->base.caps.int8 = true;
    return 0;
}

typedef struct conv_case {
    const char *x, *w, *attrs; /* attrs without braces */
    int outputs;
    const char *kernel;
} conv_case;

#define CONV "opencl.int8 conv"
#define DEPTHWISE "opencl.int8 depthwise conv"

/* Channels by 16, by 4 and odd; rows and windows; groups; more than a tile in every direction; a depth that is shared.
 */
static const conv_case convs[] = {
    { "2,8,6,5", "24,8,3,3", "pads=[1,1,1,1]", 24, CONV },
    { "1,16,9,7", "40,16,1,1", "", 40, CONV },
    { "2,64,5,5", "33,64,1,1", "", 33, CONV },
    { "1,20,8,8", "16,20,1,1", "strides=[2,2]", 16, CONV },
    { "1,3,17,13", "32,3,3,3", "pads=[0,1,1,1], strides=[2,2]", 32, CONV },
    { "2,6,6,5", "24,3,3,3", "pads=[1,1,1,1], group=2", 24, CONV },
    { "1,32,7,9", "32,1,3,3", "pads=[1,1,1,1], group=32", 32, DEPTHWISE },
    { "2,96,6,6", "96,1,5,5", "pads=[2,2,2,2], strides=[2,2], group=96", 96, DEPTHWISE },
    { "1,80,5,4", "80,1,3,3", "pads=[2,2,2,2], dilations=[2,2], group=80", 80, DEPTHWISE },
    { "1,7,5,4", "7,1,3,3", "pads=[0,2,1,0], group=7", 7, DEPTHWISE },
    { "1,5,11", "6,5,4", "pads=[1,2], dilations=[2]", 6, CONV },
    { "1,4,4,5,3", "10,4,3,2,2", "pads=[1,0,1,1,1,0]", 10, CONV },
    { "1,130,3,3", "70,130,3,3", "pads=[1,1,1,1]", 70, CONV },
    { "1,9,1,1", "3,9,1,1", "", 3, CONV },
    { "1,16,3,3", "32,1,3,3", "pads=[1,1,1,1], group=16", 32, CONV },
    { "1,32,7,7", "64,16,3,3", "pads=[1,1,1,1], group=2", 64, CONV },
    { "1,96,7,7", "192,96,3,3", "pads=[1,1,1,1]", 192, CONV },
    { "1,48,15,14", "68,48,3,3", "pads=[1,1,1,1]", 68, CONV },
    { "1,1,33,33", "8,1,16,16", "strides=[16,16]", 8, CONV },
};

/* zero: zero points of weights other than 0 too. */
static void conv(const conv_case *c, int x, int w, int y, bool zero) {
    char zeros[64] = "";
    if (zero) snprintf(zeros, sizeof zeros, "[%d] = random(9)", c->outputs);
    check(c->kernel,
          "graph (x: %s[%s]) -> (z) opset 17 {\n xs: f32 = {0.02}\n xz: %s = {%d}\n w: %s[%s] = random(5)\n"
          " ws: f32[%d] = random(7)\n wa = Abs(ws)\n wz: %s%s\n ys: f32 = {1.7}\n yz: %s = {%d}\n bi: i32[%d] = "
          "random(8)\n c: i32 = {100000}\n b = Div(bi, c)\n z = QLinearConv(x, xs, xz, w, wa, wz, ys, yz, b) {%s}\n}",
          types[x], c->x, types[x], x ? -3 : 131, types[w], c->w, c->outputs, types[w],
          zero ? zeros
          : w  ? " = {0}"
               : " = {128}",
          types[y], y ? -7 : 99, c->outputs, c->attrs);
}

static void test_conv(void **state) {
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++) {
        for (int k = 0; k < 16; k += i % 8 ? 5 : 1) /* all types and zero points of some, four of the others */
            conv(&convs[i], k & 1, k >> 1 & 1, k >> 2 & 1, k >> 3);
    }
}

/* Every tile, whatever it costs. */
static void test_tiles(void **state) {
    for (int tile = 1; tile <= 3; tile++) {
        device()->test_tile = tile;
        for (size_t i = 0; i < sizeof convs / sizeof *convs; i += 4)
            conv(&convs[i], tile & 1, 1, 0, tile == 2);
    }
    device()->test_tile = 0;
}

/* Codes of the ends only: 255 and 0, 127 and -128, of the longest sums that are taken, and one beyond. */
static void test_extremes(void **state) {
    for (int k = 32768; k <= 32769; k++)
        check(k == 32768 ? "opencl.int8 matmul" : "cpu|ref",
              "graph (f: f32[3,%d]) -> (z) opset 17, polestar 1 {\n one: f32 = {0.001}\n xz: u8 = {0}\n"
              " x = QuantizeLinear(f, one, xz)\n wf: f32[%d,5] = random(3)\n wone: f32 = {0.0001}\n wz: i8 = {0}\n"
              " w = QuantizeLinear(wf, wone, wz)\n ys: f32 = {90000.0}\n yz: u8 = {100}\n s: f32 = {1.0}\n"
              " z = QLinearMatMul(x, s, xz, w, s, wz, ys, yz)\n}",
              k, k);
}

static void test_result_f32(void **state) {
    for (int k = 0; k < 4; k++) {
        const bool dw = k & 1;
        check(dw ? "opencl.int8 depthwise conv to f32" : "opencl.int8 conv to f32",
              "graph (x: u8[2,40,5,6]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {120}\n"
              " w: i8[40,%d,3,3] = random(5)\n ws: f32[40] = random(7)\n br: %s[40] = random(8)\n"
              " c: %s = {100000}\n b = Div(br, c)\n"
              " z = polestar.QLinearConv(x, xs, xz, w, ws, _, _, _, b) {pads=[1,1,1,1], group=%d}\n}",
              dw ? 1 : 40, k & 2 ? "f32" : "i32", k & 2 ? "f32" : "i32", dw ? 40 : 1);
    }
}

/* Stored as f16: 2^-11 of each. */
static void test_result_f16(void **state) {
    device()->test_halves = 2;
    cmp_tolerance = 0x1p-10f;
    for (int n = 39; n <= 40; n++)
        check("opencl.int8 conv to f32",
              "graph (x: u8[1,16,5,6]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {120}\n"
              " w: i8[%d,16,3,3] = random(5)\n ws: f32 = {0.01}\n b: f32[%d] = random(8)\n"
              " z = polestar.QLinearConv(x, xs, xz, w, ws, _, _, _, b) {pads=[1,1,1,1]}\n}",
              n, n);
    device()->test_halves = 0;
}

static void test_range(void **state) {
    check(CONV, "graph (x: u8[2,8,5,6]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {120}\n"
                " w: i8[12,8,3,3] = random(5)\n ws: f32 = {0.01}\n ys: f32 = {0.1}\n yz: i8 = {-3}\n"
                " b: f32[12] = random(8)\n"
                " z = polestar.QLinearConv(x, xs, xz, w, ws, _, ys, yz, b) {low=-3, high=50}\n}");
}

/* Results far beyond the codes on either side, beyond 32 bits, and next to none. */
static void test_scales(void **state) {
    static const char *const scales[] = { "0.05", "0.0399", "1e-9", "1e-30", "40.0", "1e30" };
    for (size_t i = 0; i < 4 * (sizeof scales / sizeof *scales); i += 1 + i % 2) {
        const char *t = types[i & 1];
        check(CONV,
              "graph (x: u8[1,24,5,7]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {120}\n"
              " w: i8[64,24,3,3] = random(5)\n ws: f32 = {1.0}\n ys: f32 = {%s}\n yz: %s = {%d}\n"
              " bi: i32[64] = random(8)\n c: i32 = {1000}\n b = Div(bi, c)\n"
              " z = polestar.QLinearConv(x, xs, xz, w, ws, _, ys, yz, b) {pads=[1,1,1,1]%s}\n}",
              scales[i / 4], t, i & 1 ? -128 : 255, i & 2 ? ", low=-5, high=90" : "");
    }
}

/* The addition behind a convolution is its last step here and a node of its own on the reference device. */
static void test_conv_add(void **state) {
    static const int outputs[] = { 64, 7 };
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        for (int k = 0; k < 16; k++) {
            const char *t = types[k & 1], *c = "c, cs, cz", *o = "o, os, oz";
            const int n = outputs[i], zero = k & 1 ? -9 : 117;
            check("opencl.int8 conv add",
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
    check("opencl.int8 conv add",
          "graph (x: u8[1,16,9,7]) -> (z) opset 17, polestar 1 {\n s: f32 = {0.02}\n xz: u8 = {120}\n"
          " u: i8[32,16,1,1] = random(5)\n v: i8[32,16,3,3] = random(6)\n"
          " p = polestar.QLinearConv(x, s, xz, u, s, _, s, xz)\n"
          " q = polestar.QLinearConv(x, s, xz, v, s, _, s, xz) {pads=[1,1,1,1]}\n"
          " z = polestar.QLinearAdd(p, s, xz, q, s, xz, s, xz)\n}");
}

/* The third and the last have their depth shared out on a device of few units. */
static void test_matmul(void **state) {
    static const char *const shapes[][3] = { { "6,8", "8,5", "5" },           { "2,3,8", "8,40", "40" },
                                             { "1,1024", "1024,100", "100" }, { "33,7", "7,33", "33" },
                                             { "1,1,130", "130,3", "3" },     { "100,384", "384,64", "64" },
                                             { "9,2100", "2100,30", "30" } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int k = 0; k < 8; k++) {
            const char *x = types[k & 1], *w = types[k >> 1 & 1], *y = types[k >> 2 & 1];
            check("opencl.int8 matmul",
                  "graph (x: %s[%s]) -> (z, f) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: %s = {%d}\n"
                  " w: %s[%s] = random(5)\n ws: f32[%s] = random(7)\n wz: %s[%s] = random(9)\n ys: f32 = {1.7}\n yz: "
                  "%s = {60}\n bf: f32[%s] = random(8)\n bi: i32[%s] = random(8)\n c: i32 = {100000}\n"
                  " b = Div(bi, c)\n z = polestar.QLinearMatMul(x, xs, xz, w, ws, wz, ys, yz, b)\n"
                  " f = polestar.QLinearMatMul(x, xs, xz, w, ws, wz, _, _, bf)\n}",
                  x, shapes[i][0], x, k & 1 ? -3 : 131, w, shapes[i][1], shapes[i][2], w, shapes[i][2], y, shapes[i][2],
                  shapes[i][2]);
        }
    }
}

static void pair(const char *op, const char *domain, const char *a, const char *b, const char *t) {
    const int zero = t[0] == 'u' ? 117 : -9;
    check(strcmp(op, "QLinearMul") == 0 ? "opencl.int8 mul" : "opencl.int8 add",
          "graph (a: %s[%s], b: %s[%s]) -> (y) opset 17, polestar 1, com.microsoft 1 {\n sa: f32 = {0.03}\n za: %s = "
          "{%d}\n sb: f32 = {0.02}\n zb: %s = {%d}\n sy: f32 = {0.04}\n zy: %s = {%d}\n"
          " y = %s.%s(a, sa, za, b, sb, zb, sy, zy)%s\n}",
          t, a, t, b, t, zero, t, zero - 20, t, zero + 10, domain, op, domain[0] == 'p' ? " {low=-100, high=120}" : "");
}

static void test_pairs(void **state) {
    static const char *const shapes[][2] = { { "2,24,6,5", "2,24,6,5" }, { "2,24,6,5", "2,24,1,1" },
                                             { "2,24,6,5", "24,1,1" },   { "3,7", "7" },
                                             { "3,7", "3,1" },           { "3,7", "1" },
                                             { "1,3000", "1,3000" },     { "1,5", "4,5" },
                                             { "2,3,5", "3,1" } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int k = 0; k < 8; k++)
            pair(k & 2 ? "QLinearMul" : "QLinearAdd", k & 1 ? "polestar" : "com.microsoft", shapes[i][0], shapes[i][1],
                 types[k >> 2]);
    }
    /* in the layout of a convolution */
    check("opencl.int8 add",
          "graph (x: u8[2,8,5,6], b: u8[2,12,1,1]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {120}\n"
          " w: i8[12,8,1,1] = random(5)\n ws: f32 = {0.01}\n ys: f32 = {0.1}\n"
          " y = polestar.QLinearConv(x, xs, xz, w, ws, _, ys, xz)\n"
          " z = polestar.QLinearAdd(y, ys, xz, b, xs, xz, ys, xz)\n}");
}

static void test_lookup(void **state) {
    for (int k = 0; k < 2; k++)
        check("opencl.int8 lookup",
              "graph (x: %s[3,33333]) -> (y) opset 17, polestar 1 { t: u8[256] = random(3) y = polestar.Lookup(x, t) }",
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
        for (int i = 0; i < 2; i++) /* channels last behind a pool, plain */
            check("opencl.int8 globalavgpool",
                  "graph (v: %s[2,37,7,5]) -> (y) opset 17, com.microsoft 1 { s: f32 = {0.03} z: %s = {%d} r: f32 = "
                  "{0.02} x = %s(v)%s\n y = com.microsoft.QLinearGlobalAveragePool(x, s, z, r, z) }",
                  t, t, k ? -5 : 118, i ? "MaxPool" : "Identity", i ? " {kernel_shape=[1,1]}" : "");
        for (size_t i = 0; i < 3; i++) {
            check("opencl.int8 avgpool",
                  "graph (x: %s[2,37,7,5]) -> (y) opset 17, com.microsoft 1 { s: f32 = {0.03} z: %s = {%d} r: f32 = "
                  "{0.03}\n y = com.microsoft.QLinearAveragePool(x, s, z, r, z) {%s} }",
                  t, t, k ? -5 : 118, windows[i]);
            if (i < 2)
                check("opencl.int8 maxpool", "graph (x: %s[2,37,70,50]) -> (y) opset 17 { y = MaxPool(x) {%s} }", t,
                      windows[i]);
        }
        check("opencl.int8 maxpool", /* corners see padding alone */
              "graph (x: %s[1,37,70,50]) -> (y) opset 17 { y = MaxPool(x) {kernel_shape=[1,1], pads=[1,1,1,1]} }", t);
        check("opencl.resize nearest",
              "graph (x: %s[2,37,70,50]) -> (y) opset 17 { s: f32[4] = {1, 1, 2, 1.5} y = Resize(x, _, s) "
              "{mode=\"nearest\"} }",
              t);
    }
}

/* Windows whose numbers are beyond a kernel's int, or whose taps are too many for one item. */
static void test_windows_declined(void **state) {
    check("cpu|ref", "graph (x: u8[1,4,1]) -> (z) opset 17 {\n s: f32 = {0.02}\n z0: u8 = {120}\n"
                     " w: i8[4,4,2] = random(5)\n ws: f32 = {0.1}\n wz: i8 = {0}\n"
                     " z = QLinearConv(x, s, z0, w, ws, wz, s, z0) {dilations=[4294967296], pads=[0,4294967296]}\n}");
    check("cpu|ref", "graph (x: u8[1,1,1]) -> (y) opset 17 { y = MaxPool(x) {kernel_shape=[2097153], "
                     "pads=[1048576,1048576]} }");
}

/* What is made at run time runs as it does where there is no dot product, and what has no such path by the CPU. */
static void test_declined(void **state) {
    check("opencl.matmul",
          "graph (a: u8[2,40,64], b: u8[2,64,30]) -> (y) opset 17 {\n s: f32 = {0.05}\n z: u8 = {118}\n"
          " fa = DequantizeLinear(a, s, z)\n fb = DequantizeLinear(b, s, z)\n y = MatMul(fa, fb)\n}");
    check("opencl.matmul u8",
          "graph (x: f32[6,64]) -> (z) opset 17 {\n w: i8[64,70] = random(5)\n r: f32[70] = random(6)\n"
          " i: f32 = {0.01}\n s = Mul(r, i)\n k = DequantizeLinear(w, s) {axis=1}\n z = MatMul(x, k)\n}");
    check("cpu", "graph (x: u8[6,8], ws: f32[5]) -> (z) opset 17, polestar 1 {\n xs: f32 = {0.02}\n xz: u8 = {131}\n"
                 " w: i8[8,5] = random(5)\n wa = Abs(ws)\n z = polestar.QLinearMatMul(x, xs, xz, w, wa)\n}");
    check("opencl.matmul",
          "graph (x: f32[6,8]) -> (z) opset 17 {\n w: i8[8,5] = random(5)\n wz: i8 = {0}\n ws: f32 = {0.01}\n"
          " q, s, q0 = DynamicQuantizeLinear(x)\n i = MatMulInteger(q, w, q0, wz)\n f = Cast(i) {to=1}\n"
          " m = Mul(s, ws)\n z = Mul(f, m)\n}");
}

/* ---- a graph with pairs of QuantizeLinear and DequantizeLinear ---- */

static const char network[] =
    "graph (x: f32[1,3,64,64]) -> (y) opset 17 {\n s: f32 = {0.05}\n z: u8 = {128}\n"
    " q0 = QuantizeLinear(x, s, z)\n d0 = DequantizeLinear(q0, s, z)\n"
    " w1: i8[16,3,3,3] = random(1)\n t: f32 = {0.001}\n v1 = DequantizeLinear(w1, t)\n b1: f32[16] = random(2)\n"
    " c1 = Conv(d0, v1, b1) {pads=[1,1,1,1], strides=[2,2]}\n r1 = Relu(c1)\n"
    " q1 = QuantizeLinear(r1, s, z)\n d1 = DequantizeLinear(q1, s, z)\n"
    " w2: i8[16,1,3,3] = random(3)\n v2 = DequantizeLinear(w2, t)\n b2: f32[16] = random(4)\n"
    " c2 = Conv(d1, v2, b2) {pads=[1,1,1,1], group=16}\n q2 = QuantizeLinear(c2, s, z)\n"
    " d2 = DequantizeLinear(q2, s, z)\n w3: i8[16,16,1,1] = random(5)\n v3 = DequantizeLinear(w3, t)\n"
    " b3: f32[16] = random(6)\n c3 = Conv(d2, v3, b3)\n q3 = QuantizeLinear(c3, s, z)\n"
    " d3 = DequantizeLinear(q3, s, z)\n a = Add(d3, d1)\n q4 = QuantizeLinear(a, s, z)\n"
    " d4 = DequantizeLinear(q4, s, z)\n p = GlobalAveragePool(d4)\n q5 = QuantizeLinear(p, s, z)\n"
    " d5 = DequantizeLinear(q5, s, z)\n f = Flatten(d5)\n w6: i8[16,10] = random(7)\n v6 = DequantizeLinear(w6, t)\n"
    " m = MatMul(f, v6)\n y = Identity(m)\n}";

static size_t steps_of(const char *kernel) {
    ps_step_info step = { .size = sizeof step };
    ps_error err = PS_ERROR_INIT;
    ps_tensor *in[CMP_MAX] = { NULL }, *out[CMP_MAX] = { NULL };
    void *data[CMP_MAX] = { NULL };
    size_t n = 0;
    ps_model *m = fixture_model(cmp_engine, network, cmp_device);
    ps_session *s = fixture_session(m, 1);
    cmp_make_inputs(m, false, in, data);
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)in, 1, out, 1, NULL, &err), PS_OK);
    for (size_t i = 0; ps_session_step(s, i, &step) == PS_OK; i++)
        n += strncmp(step.kernel, kernel, strlen(kernel)) == 0;
    cmp_drop_inputs(m, in, data);
    ps_session_free(s);
    ps_model_release(m);
    return n;
}

/* With the flag it is codes from the first QuantizeLinear to the last product, without it products in f32: the codes
 * that lie between the operators may differ by one where sums of f32 come to a tie, 0.05 each in what follows. */
static void test_network(void **state) {
    check(NULL, "%s", network);
    assert_int_equal(steps_of("opencl.int8"), 5);
    assert_int_equal(steps_of("opencl.dequantize"), 0);
    assert_int_equal(steps_of("cpu"), 0);
    device()->base.caps.int8 = false;
    assert_int_equal(steps_of("opencl.int8"), 0);
    assert_true(steps_of("opencl.conv") == 3);
    cmp_tolerance = 0.02f;
    check("opencl.conv", "%s", network);
}

#define DOT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, cmp_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        DOT_TEST(test_conv),       DOT_TEST(test_tiles),   DOT_TEST(test_extremes), DOT_TEST(test_result_f32),
        DOT_TEST(test_result_f16), DOT_TEST(test_range),   DOT_TEST(test_scales),   DOT_TEST(test_conv_add),
        DOT_TEST(test_matmul),     DOT_TEST(test_pairs),   DOT_TEST(test_lookup),   DOT_TEST(test_pools),
        DOT_TEST(test_declined),   DOT_TEST(test_network), DOT_TEST(test_windows_declined),
    };
    if (!opencl_there()) return OPENCL_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
