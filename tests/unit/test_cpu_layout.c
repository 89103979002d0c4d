/* Concat, Transpose, views and what the memory planner makes of them: values that lie channels-last, outputs that are
 * views or copies, zero sizes, rank 0. */
#include "cpu_compare.h"

static void test_concat(void **state)
{
    for (int axis = 0; axis < 4; axis++) {
        char b[32];
        snprintf(b, sizeof b, "%d,%d,%d,%d", axis == 0 ? 3 : 2, axis == 1 ? 5 : 3, axis == 2 ? 7 : 4,
                 axis == 3 ? 1 : 5);
        check("cpu.concat", "graph (a: f32[2,3,4,5], b: f32[%s]) -> (y) opset 17 {\n  y = Concat(a, b, a) {axis=%d}\n}",
              b, axis);
        check("cpu.concat",
              "graph (a: f32[2,3,4,5], b: f32[%s]) -> (y) opset 17 {\n  p = MaxPool(a) {kernel_shape=[1,1]}\n"
              "  y = Concat(p, b, a) {axis=%d}\n}",
              b, axis - 4);
        check("cpu.concat",
              "graph (a: f32[2,3,4,5], b: f32[%s]) -> (z, y, p) opset 17 {\n  p = MaxPool(a) {kernel_shape=[1,1]}\n"
              "  q = MaxPool(b) {kernel_shape=[1,1]}\n  y = Concat(q, p) {axis=%d}\n  z = Neg(y)\n}",
              b, axis);
        check("cpu.concat", "graph (a: i64[2,3,4,5], b: i64[%s]) -> (y) opset 17 {\n  y = Concat(a, b) {axis=%d}\n}", b,
              axis);
        check("cpu.concat", "graph (a: u8[2,3,4,5], b: u8[%s]) -> (y) opset 17 {\n  y = Concat(a, b) {axis=%d}\n}", b,
              axis);
    }
    check(NULL, "graph (a: f32[3], b: f32[0], c: f32[2]) -> (y) opset 17 {\n  y = Concat(a, b, c) {axis=0}\n}");
    check(NULL, "graph (a: f32[0,3], b: f32[0,2]) -> (y) opset 17 {\n  y = Concat(a, b) {axis=1}\n}");
    check(NULL, "graph (a: f32[2,0,3,3], b: f32[2,4,3,3]) -> (y) opset 17 {\n  p = MaxPool(b) {kernel_shape=[1,1]}\n  "
                "y = Concat(a, p) {axis=1}\n}");
    check(NULL, "graph (a: f32[2,4,1,1], b: f32[2,4,3,1]) -> (y) opset 17 {\n  p = MaxPool(b) {kernel_shape=[1,1]}\n  "
                "y = Concat(a, p) {axis=2}\n}");
    check(NULL, "graph (a: f32[2,1,3,3], b: f32[2,1,3,3]) -> (y) opset 17 {\n  p = MaxPool(b) {kernel_shape=[1,1]}\n  "
                "y = Concat(a, p, b) {axis=1}\n}");
    check(
        NULL,
        "graph (a: f32[2,6,3]) -> (y) opset 17 {\n  p = MaxPool(a) {kernel_shape=[1]}\n  y = Concat(a, p) {axis=2}\n}");
}

static void test_pad(void **state)
{
    static const char *const pads[] = { "1,0,2,3,0,4,0,1", "0,0,1,1,0,0,1,1", "0,0,0,2,0,0,0,0", "0,2,0,0,0,1,0,0",
                                        "2,0,0,0,1,0,0,0" };
    static const char *const shapes[] = { "2,3,4,5", "1,17,9,8", "2,1,4,5", "2,3,1,1", "2,0,3,4", "2,3,0,4" };
    for (size_t p = 0; p < sizeof pads / sizeof *pads; p++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            check("cpu.pad", "graph (x: f32[%s]) -> (y) opset 17 {\n  y = Pad(x, i64[8]{%s})\n}", shapes[s], pads[p]);
            if (s >= 4) continue;
            check("cpu.pad",
                  "graph (x: f32[%s]) -> (y) opset 17 {\n  p = MaxPool(x) {kernel_shape=[1,1]}\n"
                  "  q = Pad(p, i64[8]{%s}, f32{1.5})\n  y = Neg(q)\n}",
                  shapes[s], pads[p]);
        }
        check("cpu.pad", "graph (x: u8[2,3,4,5]) -> (y) opset 17 {\n  y = Pad(x, i64[8]{%s}, u8{7})\n}", pads[p]);
        check("cpu.pad", "graph (x: i64[2,3,4,5]) -> (y) opset 17 {\n  y = Pad(x, i64[8]{%s}, i64{-9})\n}", pads[p]);
    }
    check("cpu.pad", "graph (x: f32[3]) -> (y) opset 17 {\n  y = Pad(x, i64[2]{2,1})\n}");
    check("cpu.pad", "graph (x: f32[0]) -> (y) opset 17 {\n  y = Pad(x, i64[2]{2,1}, f32{4})\n}");
    check("cpu.pad", "graph (x: f32[2,40,30,50]) -> (y) opset 18 {\n  p = MaxPool(x) {kernel_shape=[1,1]}\n"
                     "  y = Pad(p, i64[4]{1,2,3,0}, _, i64[2]{-1,2})\n}");
    check(NULL, "graph (x: f32[2,3,4,5]) -> (y) opset 17 {\n  y = Pad(x, i64[8]{0,0,-1,2,0,0,1,-2})\n}");
    check(NULL, "graph (x: f32[2,3,4,5]) -> (y) opset 17 {\n"
                "  y = Pad(x, i64[8]{0,0,1,2,0,0,1,2}) {mode=\"reflect\"}\n}");
}

static void test_transpose(void **state)
{
    static const char *const perms[] = { "[0,1,2,3]", "[0,2,3,1]", "[0,3,1,2]", "[3,2,1,0]", "[1,0,2,3]",
                                         "[0,2,1,3]", "[2,3,0,1]", "[0,1,3,2]", "[2,0,3,1]" };
    static const char *const types[] = { "f32", "i64", "u8", "f16", "bool" };
    static const char *const shapes[] = { "2,3,20,37", "1,1,3,3", "2,1,3,1", "2,17,1,1", "0,2,3,4", "2,3,0,4" };
    for (size_t i = 0; i < sizeof perms / sizeof *perms; i++) {
        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            check(NULL, "graph (x: %s[2,3,20,37]) -> (y) opset 17 {\n  y = Transpose(x) {perm=%s}\n}", types[k],
                  perms[i]);
        }
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            check(NULL,
                  "graph (x: f32[%s]) -> (y, z) opset 17 {\n  p = MaxPool(x) {kernel_shape=[1,1]}\n  y = Transpose(p) "
                  "{perm=%s}\n"
                  "  z = Neg(p)\n}",
                  *shapes[s] == '0' || strstr(shapes[s], ",0,") ? "1,1,1,1" : shapes[s], perms[i]);
            check(NULL, "graph (x: f32[%s]) -> (y) opset 17 {\n  y = Transpose(x) {perm=%s}\n}", shapes[s], perms[i]);
        }
        /* the transposed value is worked on in place although the source is read later */
        check(NULL,
              "graph (x: f32[2,3,4,5]) -> (y, z) opset 17 {\n  p = MaxPool(x) {kernel_shape=[1,1]}\n  t = Transpose(p) "
              "{perm=%s}\n"
              "  y = Relu(t)\n  z = Sigmoid(p)\n}",
              perms[i]);
    }
    check(NULL, "graph (x: f32[5,7]) -> (y) opset 17 {\n  y = Transpose(x)\n}");
    check(NULL, "graph (x: f32[5]) -> (y) opset 17 {\n  y = Transpose(x)\n}");
    check(NULL, "graph (x: f32[]) -> (y) opset 17 {\n  y = Transpose(x)\n}");
    check(NULL, "graph (x: f32[2,3,2,3,2,3,2,3]) -> (y) opset 17 {\n  y = Transpose(x) {perm=[7,1,5,3,0,2,6,4]}\n}");
    check(NULL, "graph (x: f32[300,170]) -> (y) opset 17 {\n  y = Transpose(x)\n}");
}

/* Views of values that lie channels-last, and outputs that are views, inputs, constants, or given twice. */
static void test_views_and_outputs(void **state)
{
    static const char *const bodies[] = {
        "  y = Reshape(p, i64[2]{2,-1})\n",
        "  y = Flatten(p)\n",
        "  y = Unsqueeze(p, i64[1]{0})\n",
        "  r = Reshape(p, i64[3]{2,4,12})\n  y = Relu(r)\n",
        "  r = Reshape(p, i64[2]{4,24})\n  s = Relu(r)\n  t = Reshape(s, i64[4]{2,4,3,4})\n  y = Add(t, p)\n",
        "  r = Reshape(p, i64[4]{2,2,6,4})\n  s = MaxPool(r) {kernel_shape=[2,2]}\n  y = Reshape(s, i64[1]{-1})\n",
        "  t = Transpose(p) {perm=[0,2,3,1]}\n  r = Reshape(t, i64[3]{2,12,4})\n  y = Softmax(r)\n",
        "  t = Transpose(p) {perm=[0,2,3,1]}\n  r = Reshape(t, i64[3]{2,12,4})\n  s = Transpose(r) {perm=[0,2,1]}\n  u "
        "= Reshape(s, i64[4]{2,4,3,4})\n"
        "  y = Sub(u, p)\n",
        "  g = GlobalAveragePool(p)\n  s = Squeeze(g, i64[2]{2,3})\n  y = Relu(s)\n",
        "  g = GlobalAveragePool(p)\n  s = Sigmoid(g)\n  y = Mul(p, s)\n",
        "  a, b = Split(p) {axis=1}\n  y = Concat(b, a) {axis=1}\n",
        "  a = Slice(p, i64[1]{1}, i64[1]{3}, i64[1]{1})\n  y = Concat(a, a) {axis=1}\n",
        "  r = Resize(p, _, f32[4]{1,1,2,2})\n  y = Relu(r)\n",
        "  r = Pad(p, i64[8]{0,0,1,1,0,0,1,1})\n  y = AveragePool(r) {kernel_shape=[3,3]}\n",
        "  y = Identity(p)\n",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        const char *head = "  p = MaxPool(x) {kernel_shape=[2,2]}\n";
        check(NULL, "graph (x: f32[2,4,4,5]) -> (y) opset 13 {\n%s%s}", head, bodies[i]);
        check(NULL, "graph (x: f32[2,4,4,5]) -> (y, p, y, z) opset 13 {\n%s%s  z = Neg(p)\n}", head, bodies[i]);
        check(NULL, "graph (x: f32[2,4,4,5]) -> (z, y) opset 13 {\n%s%s  z = Reshape(y, i64[1]{-1})\n}", head,
              bodies[i]);
    }
    check(NULL, "graph (x: f32[2,3]) -> (x, y, x) opset 13 {\n  y = Reshape(x, i64[1]{6})\n}");
    check(NULL, "graph (x: f32[2,3]) -> (c, d) opset 13 {\n  c: f32[2] = {1,2}\n  d = Reshape(c, i64[2]{2,1})\n}");
    check(NULL, "graph (x: f32[2,3]) -> (y, z) opset 13 {\n  a = Relu(x)\n  y = Reshape(a, i64[1]{6})\n  z = "
                "Reshape(a, i64[2]{3,2})\n}");
    check(NULL,
          "graph (x: f32[2,3]) -> (y, a, z) opset 13 {\n  a = Relu(x)\n  y = Reshape(a, i64[1]{6})\n  z = Exp(y)\n}");
}

static void test_resize(void **state)
{
    static const char *const modes[] = {
        "mode=\"nearest\"", "mode=\"linear\"", "mode=\"cubic\"",
        "mode=\"nearest\", coordinate_transformation_mode=\"asymmetric\", nearest_mode=\"floor\"",
        "mode=\"nearest\", coordinate_transformation_mode=\"align_corners\", nearest_mode=\"ceil\"",
        "mode=\"linear\", coordinate_transformation_mode=\"align_corners\"",
        "mode=\"linear\", coordinate_transformation_mode=\"asymmetric\"",
        "mode=\"linear\", coordinate_transformation_mode=\"pytorch_half_pixel\"",
        "mode=\"nearest\", coordinate_transformation_mode=\"half_pixel\", nearest_mode=\"round_prefer_ceil\"",
    };
    static const char *const sizes[] = {
        "2,3,8,10", "2,3,2,3", "2,3,7,1", "2,3,1,13", "2,3,4,5", "2,6,4,5", "2,3,9,4"
    };
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            check(NULL, "graph (x: f32[2,3,4,5]) -> (y) opset 13 {\n  y = Resize(x, _, _, i64[4]{%s}) {%s}\n}",
                  sizes[k], modes[i]);
        }
        check(NULL, "graph (x: f32[1,17,3,3]) -> (y) opset 13 {\n  y = Resize(x, _, f32[4]{1,1,2.5,0.7}) {%s}\n}",
              modes[i]);
        check(NULL, "graph (x: f32[0,3,3,3]) -> (y) opset 13 {\n  y = Resize(x, _, f32[4]{1,1,2,2}) {%s}\n}", modes[i]);
        check(NULL, "graph (x: f32[2,3,5]) -> (y) opset 13 {\n  y = Resize(x, _, f32[3]{1,1,2}) {%s}\n}", modes[i]);
    }
}

/* Every pair of types; floats at their ends. Cast runs in whatever layout its input has. */
static void test_gridsample(void **state)
{
    static const char *const modes[] = { "nearest", "linear" }, *const paddings[] = { "zeros", "border" };
    for (int m = 0; m < 2; m++) {
        const char *label = m ? "cpu.gridsample linear" : "cpu.gridsample nearest";
        for (int p = 0; p < 2; p++) {
            for (int align = 0; align < 2; align++) {
                check(label,
                      "graph (x: f32[2,3,7,9], g: f32[2,11,13,2]) -> (y) opset 20 {\n"
                      "  y = GridSample(x, g) {mode=\"%s\", padding_mode=\"%s\", align_corners=%d}\n}",
                      modes[m], paddings[p], align);
                /* on the edges, between pixels, far outside, not a number; a picture of one pixel */
                check(
                    label,
                    "graph (x: f32[1,2,4,5]) -> (y, z) opset 20 {\n"
                    "  g: f32[1,3,4,2] = {-1,-1, 1,1, 0,0, 0.25,-0.5, 1e30,0, nan,0, -1.2,0.9, 0.8,1.25, inf,0, 0,-inf,"
                    " 0.6,0.75, -0.8,-0.75}\n  q: f32[1,1,1,1] = {5}\n"
                    "  y = GridSample(x, g) {mode=\"%s\", padding_mode=\"%s\", align_corners=%d}\n"
                    "  z = GridSample(q, g) {mode=\"%s\", padding_mode=\"%s\", align_corners=%d}\n}",
                    modes[m], paddings[p], align, modes[m], paddings[p], align);
            }
        }
    }
    check("cpu.gridsample linear", "graph (x: f32[1,3,6,6], g: f32[1,5,5,2]) -> (y) opset 16 {\n  p = MaxPool(x) "
                                   "{kernel_shape=[1,1]}\n  y = GridSample(p, g)\n}");
    check(NULL, "graph (x: f32[1,3,6,6], g: f32[1,0,5,2]) -> (y) opset 16 {\n  y = GridSample(x, g)\n}");
    check(NULL,
          "graph (x: f32[1,3,6,6], g: f32[1,4,5,2]) -> (y) opset 20 {\n  y = GridSample(x, g) {mode=\"cubic\"}\n}");
}

static void test_quantize(void **state)
{
    static const char *const types[] = { "u8", "i8" }, *const zeros[] = { ", z", "" };
    for (int t = 0; t < 2; t++) {
        for (int z = 0; z < 2; z++) {
            if (z && t) continue; /* without a zero point the codes are u8 */
            /* halves round to even, both ends saturate */
            check("cpu.quantize",
                  "graph (x: f32[3,50]) -> (y, w) opset 19 {\n  z: %s = {7}\n  s: f32 = {0.5}\n"
                  "  v: f32[9] = {0.25,0.75,-0.25,1.25,1e9,-1e9,nan,inf,-inf}\n  y = QuantizeLinear(x, s%s)\n"
                  "  w = QuantizeLinear(v, s%s)\n}",
                  types[t], zeros[z], zeros[z]);
        }
        for (int z = 0; z < 2; z++) {
            check("cpu.dequantize",
                  "graph (x: %s[3,50]) -> (y) opset 19 {\n  z: %s = {7}\n  s: f32 = {0.013}\n  y = DequantizeLinear(x, "
                  "s%s)\n}",
                  types[t], types[t], zeros[z]);
        }
    }
    check("cpu.dequantize",
          "graph (x: f32[1,3,6,6]) -> (y) opset 19 {\n  s: f32[1] = {0.1}\n  p = MaxPool(x) {kernel_shape=[1,1]}\n"
          "  q = QuantizeLinear(p, s)\n  d = DequantizeLinear(q, s)\n  y = MaxPool(d) {kernel_shape=[2,2]}\n}");
    check("cpu.dynamicquantize",
          "graph (x: f32[3,70]) -> (q, s, z) opset 19 {\n  q, s, z = DynamicQuantizeLinear(x)\n}");
    check("cpu.dynamicquantize", "graph (x: f32[0]) -> (q, s, z) opset 19 {\n  q, s, z = DynamicQuantizeLinear(x)\n}");
    cmp_values = CMP_FINITE;
    check("cpu.dynamicquantize", "graph (x: f32[60]) -> (q, s, z) opset 19 {\n  q, s, z = DynamicQuantizeLinear(x)\n}");
    check(NULL, "graph (x: u8[3,4]) -> (y) opset 19 {\n  s: f32[4] = {1,2,3,4}\n  y = DequantizeLinear(x, s)\n}");
}

static void test_cast(void **state)
{
    static const char *const types[] = { "f32", "f16", "u8", "i32", "i64", "bool" };
    static const int to[] = { 1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 16, 21, 22 };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        for (size_t k = 0; k < sizeof to / sizeof *to; k++) {
            check(NULL, "graph (x: %s[37,41]) -> (y) opset 21 {\n  y = Cast(x) {to=%d}\n}", types[i], to[k]);
            check(NULL, "graph (x: %s[40001]) -> (y) opset 21 {\n  y = Cast(x) {to=%d}\n}", types[i], to[k]);
            check(NULL, "graph (x: %s[]) -> (y) opset 21 {\n  y = Cast(x) {to=%d}\n}", types[i], to[k]);
            check(NULL, "graph (x: %s[2,0]) -> (y) opset 21 {\n  y = Cast(x) {to=%d}\n}", types[i], to[k]);
        }
    }
    check(NULL,
          "graph (x: f32[2,5,6,7]) -> (y, z) opset 21 {\n  p = MaxPool(x) {kernel_shape=[2,2]}\n  q = Cast(p) {to=6}\n"
          "  r = Cast(q) {to=1}\n  y = Sub(p, r)\n  z = Transpose(q) {perm=[0,2,3,1]}\n}");
    check(NULL, "graph (x: i32[9,40001]) -> (y) opset 21 {\n  y4 = Cast(x) {to=22}\n  y = Cast(y4) {to=1}\n}");
}

static void test_empty_and_scalar(void **state)
{
    static const char *const ops[] = { "Relu", "Exp", "Softmax", "Neg", "Identity", "Not", "Shape", "Size", "Abs" };
    static const char *const shapes[] = { "[0]", "[2,0]", "[0,3,4,5]", "[2,3,0,5]", "[]", "[1]" };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (size_t k = 0; k < sizeof ops / sizeof *ops; k++) {
            if (strcmp(shapes[i], "[]") == 0 && strcmp(ops[k], "Softmax") == 0) continue;
            const char *type = strcmp(ops[k], "Not") == 0 ? "bool" : "f32";
            check(NULL, "graph (x: %s%s) -> (y) opset 13 {\n  y = %s(x)\n}", type, shapes[i], ops[k]);
            check(NULL,
                  "graph (x: %s%s) -> (y, z) opset 13 {\n  a = Identity(x)\n  y = %s(a)\n  z = Reshape(a, i64[1]{-1}) "
                  "{allowzero=0}\n}",
                  type, i == 0 || i == 1 || i == 2 || i == 3 ? "[1,2]" : shapes[i], ops[k]);
        }
        check(NULL,
              "graph (x: f32%s, z: f32[]) -> (y) opset 13 {\n  a = Add(x, z)\n  b = Mul(z, a)\n  y = Sub(b, x)\n}",
              shapes[i]);
    }
    check(NULL, "graph (x: f32[], z: f32[]) -> (y) opset 13 {\n  a = Add(x, z)\n  b = Unsqueeze(a, i64[1]{0})\n  y = "
                "Concat(b, b) {axis=0}\n}");
}

/* Comparisons make one byte an element: an output with as many bytes as a shorter input is not that input's memory. The
 * reference device shares the planner, so the oracle is the same graph with the input kept. */
static void test_in_place_needs_equal_shapes(void **state)
{
    ps_error err = PS_ERROR_INIT;
    cmp_result want, got;
    for (int device = 0; device < 2; device++) {
        ps_model *in_place = fixture_model(
            cmp_engine, "graph (x: f32[1,4], z: f32[4,4]) -> (y) opset 17 {\n  a = Neg(x)\n  y = Less(a, z)\n}",
            device ? "cpu" : "ref");
        ps_model *kept = fixture_model(
            cmp_engine, "graph (x: f32[1,4], z: f32[4,4]) -> (y, a) opset 17 {\n  a = Neg(x)\n  y = Less(a, z)\n}",
            device ? "cpu" : "ref");
        assert_true(cmp_run_session(in_place, 1, &got, &err));
        assert_true(cmp_run_session(kept, 1, &want, &err));
        assert_int_equal(got.bytes[0], want.bytes[0]);
        assert_memory_equal(got.data[0], want.data[0], got.bytes[0]);
        cmp_release(&want);
        cmp_release(&got);
        ps_model_release(in_place);
        ps_model_release(kept);
    }
}

/* A state handed back: first as the session's own output tensor, then as one tensor that is input and output. y = x^T -
 * x would read what it has written. */
static void test_output_given_back_as_input(void **state)
{
    static const char text[] = "graph (x: f32[2,2]) -> (y) opset 17 {\n  t = Transpose(x)\n  y = Sub(t, x)\n}";
    float start[4] = { 1, 2, 4, 8 };
    ps_error err = PS_ERROR_INIT;
    ps_model *m = fixture_model(cmp_engine, text, "cpu");
    ps_session *s = fixture_session(m, 1);
    ps_tensor *x = fixture_wrap(cmp_engine, PS_DTYPE_F32, 2, DIMS(2, 2), start), *y = NULL, *z = NULL;
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&x, 1, &y, 1, NULL, &err), PS_OK);
    assert_memory_equal(ps_tensor_data(y), ((float[]){ 0, 2, -2, 0 }), 16);
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&y, 1, &z, 1, NULL, &err), PS_OK);
    assert_memory_equal(ps_tensor_data(z), ((float[]){ 0, -4, 4, 0 }), 16);
    assert_int_equal(ps_session_run(s, (const ps_tensor *const *)&x, 1, &x, 1, NULL, &err), PS_OK);
    assert_memory_equal(start, ((float[]){ 0, 2, -2, 0 }), 16);
    ps_tensor_release(x);
    ps_session_free(s);
    ps_model_release(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_concat),
        CMP_TEST(test_pad),
        CMP_TEST(test_transpose),
        CMP_TEST(test_views_and_outputs),
        CMP_TEST(test_empty_and_scalar),
        CMP_TEST(test_in_place_needs_equal_shapes),
        CMP_TEST(test_resize),
        CMP_TEST(test_gridsample), CMP_TEST(test_quantize),
        CMP_TEST(test_cast),
        CMP_TEST(test_output_given_back_as_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
