/* Elementwise operators and Pointwise chains on the CPU device: every post-op, every broadcast, either layout, in
 * place. */
#include "cpu_compare.h"

#include "ops/params.h"

#define ONE "cpu.pointwise"

/* A chain of one post-op; the operand, if there is one, is a second input. */
static void chain(ps_post_kind kind, float alpha, float beta, const char *x, const char *operand)
{
    if (ps_post_is_binary(kind)) {
        check(ONE, "graph (x: f32%s, o: f32%s) -> (y) opset 17, polestar 1 {\n"
                   "  y = polestar.Pointwise(x, o) {post_op=[%d, 1], post_arg=[%#g, %#g]}\n}",
              x, operand, (int)kind, (double)alpha, (double)beta);
    } else {
        check(ONE,
              "graph (x: f32%s) -> (y) opset 17, polestar 1 {\n  y = polestar.Pointwise(x) {post_op=[%d, -1], "
              "post_arg=[%#g, %#g]}\n}",
              x, (int)kind, (double)alpha, (double)beta);
    }
}

static void each_kind(const char *x, const char *operand)
{
    for (int kind = 0; kind < PS_POST_COUNT; kind++) {
        float alpha = 0.3f, beta = 0.6f;
        if (kind == PS_POST_CLIP) alpha = -1, beta = 2;
        if (kind == PS_POST_POW) alpha = 2;
        chain((ps_post_kind)kind, alpha, beta, x, operand);
    }
    chain(PS_POST_POW, 0.5f, 0, x, operand);
    chain(PS_POST_POW, 3, 0, x, operand);
    chain(PS_POST_POW, 1.5f, 0, x, operand);
    chain(PS_POST_POW, -1, 0, x, operand);
    chain(PS_POST_HARD_SWISH, 1.0f / 6, 0.5f, x, operand);
    chain(PS_POST_SWISH, 1, 0, x, operand);
}

static void test_each_kind(void **state)
{
    each_kind("[2,3,50]", "[2,3,50]");
    each_kind("[1]", "[1]");
    each_kind("[]", "[]");
    each_kind("[0]", "[1]");
    each_kind("[3000]", "[1]"); /* more than a tile */
}

static void test_special_values(void **state)
{
    cmp_values = CMP_SPECIAL;
    each_kind("[1000]", "[1000]");
    each_kind("[7,100]", "[100]");
    each_kind("[7,100]", "[7,1]");
}

/* Operators of their own, without passes having made a chain of them. */
static void test_operators(void **state)
{
    static const char *const unary[] = { "Relu",        "Sigmoid",    "Tanh", "Exp",      "Sqrt", "Abs",
                                         "Erf",         "Reciprocal", "Neg",  "Softplus", "Elu",  "LeakyRelu",
                                         "HardSigmoid", "HardSwish",  "Gelu", "Clip",     "Mish", "Log" };
    for (int v = 0; v < 2; v++) {
        cmp_values = v ? CMP_SPECIAL : CMP_SMALL;
        for (size_t i = 0; i < sizeof unary / sizeof *unary; i++) {
            check(NULL, "graph (x: f32[40,50]) -> (y) opset 20 {\n  y = %s(x)\n}", unary[i]);
            check(NULL,
                  "graph (x: f32[2,5,6,7]) -> (y) opset 20 {\n  t = MaxPool(x) {kernel_shape=[2,2]}\n  y = %s(t)\n}",
                  unary[i]);
        }
    }
}

static const char *const binary[] = { "Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu" };

static void test_broadcasts(void **state)
{
    static const char *const pairs[][2] = {
        { "[2,3,4,5]", "[2,3,4,5]" },
        { "[2,3,4,5]", "[1,3,1,1]" },
        { "[2,3,4,5]", "[2,1,4,5]" },
        { "[2,3,4,5]", "[3,1,1]" },
        { "[2,3,4,5]", "[4,5]" },
        { "[2,3,4,5]", "[5]" },
        { "[2,3,4,5]", "[]" },
        { "[2,3,4,5]", "[4,1]" },
        { "[2,3,4,5]", "[3,4,5]" },
        { "[2,3,4,5]", "[2,3,1,1]" },
        { "[2,3,4,5]", "[1,1,4,1]" },
        { "[2,3,4,5]", "[2,1,1,5]" },
        { "[2,1,4,1]", "[1,3,1,5]" },
        { "[4,1]", "[1,5]" },
        { "[1]", "[4,5]" },
        { "[]", "[4,5]" },
        { "[]", "[]" },
        { "[1,1,1]", "[1]" },
        { "[0,3]", "[3]" },
        { "[2,0,3]", "[1,1,3]" },
        { "[2,1,2,1,2,1,2,1]", "[1,3,1,3,1,3,1,3]" },
        { "[2,3,4,5]", "[1,1,1,1]" },
        { "[1,3,4,5]", "[2,3,4,5]" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        for (size_t k = 0; k < sizeof binary / sizeof *binary; k++) {
            const char *a = pairs[i][0], *b = pairs[i][1], *op = binary[k];
            bool one_way = strcmp(op, "PRelu") == 0;
            if (one_way && (strlen(b) > strlen(a) || i == 12 || i == 13 || i == 20 || i == 22)) continue;
            check(NULL, "graph (x: f32%s, z: f32%s) -> (y) opset 17 {\n  y = %s(x, z)\n}", a, b, op);
            check(NULL,
                  "graph (x: f32%s, z: f32%s) -> (y) opset 17 {\n  p = Abs(x)\n  q = Relu(z)\n  t = %s(p, q)\n  y = "
                  "Add(t, p)\n}",
                  a, b, op);
            if (!one_way)
                check(NULL,
                      "graph (x: f32%s, z: f32%s) -> (y) opset 17 {\n  p = Abs(z)\n  t = %s(p, x)\n  y = Sigmoid(t)\n}",
                      a, b, op);
        }
    }
}

/* The pool leaves its output channels-last; what meets it is plain, of lower rank, or channels-last under another
 * meaning. */
static void test_layouts(void **state)
{
    static const char *const operands[] = { "[2,6,4,5]", "[1,6,4,5]", "[2,1,4,5]", "[2,6,1,1]", "[2,6,1,5]",
                                            "[2,6,4,1]", "[6,4,5]",   "[6,1,1]",   "[1,4,5]",   "[4,5]",
                                            "[5]",       "[4,1]",     "[]",        "[1,1,1,1]", "[1,6,4,1]" };
    for (size_t i = 0; i < sizeof operands / sizeof *operands; i++) {
        for (size_t k = 0; k < sizeof binary / sizeof *binary - 1; k++) {
            const char *o = operands[i], *op = binary[k];
            const char *head = "  p = MaxPool(x) {kernel_shape=[2,2]}\n";
            check(NULL, "graph (x: f32[2,6,5,6], z: f32%s) -> (y) opset 17 {\n%s  y = %s(p, z)\n}", o, head, op);
            check(NULL, "graph (x: f32[2,6,5,6], z: f32%s) -> (y) opset 17 {\n%s  y = %s(z, p)\n}", o, head, op);
            check(NULL,
                  "graph (x: f32[2,6,5,6], z: f32%s) -> (y, q) opset 17 {\n%s  t = %s(z, p)\n  u = Tanh(t)\n  y = "
                  "Sub(u, p)\n"
                  "  q = Mul(u, z)\n}",
                  o, head, op);
        }
    }
    /* a rank-3 operand that itself lies channels-last, its axes meaning others */
    check(NULL, "graph (x: f32[2,6,5,6], z: f32[6,4,6]) -> (y) opset 17 {\n  p = MaxPool(x) {kernel_shape=[2,2]}\n"
                "  q = MaxPool(z) {kernel_shape=[2]}\n  y = Add(p, q)\n}");
    check(NULL, "graph (x: f32[2,6,4,5], z: f32[6,4,6]) -> (y) opset 17 {\n  q = MaxPool(z) {kernel_shape=[2]}\n  y = "
                "Add(x, q)\n}");
    check(NULL, "graph (x: f32[2,6,4,5], z: f32[6,4,6]) -> (y) opset 17 {\n  q = MaxPool(z) {kernel_shape=[2]}\n  y = "
                "Add(q, x)\n}");
    /* channels-last only after broadcasting */
    check(NULL, "graph (x: f32[1,6,5,6], z: f32[2,6,4,5]) -> (y) opset 17 {\n  p = MaxPool(x) {kernel_shape=[2,2]}\n  "
                "y = Add(p, z)\n}");
    check(NULL, "graph (x: f32[2,1,5,6], z: f32[1,6,1,1]) -> (y) opset 17 {\n  p = MaxPool(x) {kernel_shape=[2,2]}\n  "
                "y = Mul(p, z)\n}");
}

static void test_in_place(void **state)
{
    static const char *const bodies[] = {
        "  y = Add(a, a)\n",
        "  b = Mul(a, a)\n  y = Add(b, a)\n",
        "  b = Relu(a)\n  y = Sub(b, a)\n",
        "  b = Relu(a)\n  c = Sigmoid(a)\n  y = Mul(b, c)\n",
        "  b = Reshape(a, i64[1]{24})\n  c = Relu(b)\n  d = Reshape(c, i64[2]{4,6})\n  y = Sub(d, a)\n",
        "  b = Reshape(a, i64[1]{24})\n  c = Reshape(a, i64[2]{4,6})\n  y = Mul(a, c)\n  e = Relu(b)\n  f = "
        "ReduceSum(e) {keepdims=0}\n"
        "  g = Add(y, f)\n",
        "  b = Transpose(a) {perm=[1,0]}\n  c = Transpose(b) {perm=[1,0]}\n  d = Relu(c)\n  y = Sub(d, a)\n",
        "  b = Softmax(a)\n  y = Sub(b, a)\n",
        "  b = Add(a, f32[6]{1,2,3,4,5,6})\n  y = Softmax(b)\n",
        "  b = Where(bool[6]{1,0,1,0,1,0}, a, f32[1]{3})\n  y = Add(b, a)\n",
        "  b = Less(a, f32[1]{0})\n  c = Cast(b) {to=1}\n  y = Mul(c, a)\n",
        "  b = Cast(a) {to=6}\n  c = Cast(b) {to=1}\n  y = Sub(a, c)\n",
        "  b = Identity(a)\n  c = Relu(b)\n  y = Sub(c, b)\n",
        "  b = ScatterElements(a, i64[1,2]{0,3}, f32[1,2]{5,6}) {axis=1}\n  y = Sub(b, a)\n",
        "  b = Clip(a, f32{-1}, f32{1})\n  c = Elu(b)\n  d = Neg(c)\n  e = Softplus(d)\n  y = Sub(e, b)\n",
        "  b, c = Split(a) {axis=1}\n  d = Mul(b, c)\n  e = Relu(b)\n  y = Concat(d, e) {axis=1}\n",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        check(NULL, "graph (x: f32[4,6]) -> (y) opset 11 {\n  a = Neg(x)\n%s}", bodies[i]);
        check(NULL, "graph (x: f32[4,6]) -> (y, a) opset 11 {\n  a = Neg(x)\n%s}", bodies[i]);
        check(NULL, "graph (a: f32[4,6]) -> (y) opset 11 {\n%s}", bodies[i]);
        check(NULL, "graph (a: f32[4,6]) -> (y, z, y) opset 11 {\n%s  z = Reshape(y, i64[2]{2,-1})\n}", bodies[i]);
    }
}

/* Before version 7 an axis says which dims meet. */
static void test_legacy_broadcast(void **state)
{
    static const char *const ops[] = { "Add", "Sub", "Mul", "Div" };
    for (size_t i = 0; i < 4; i++) {
        check(NULL, "graph (x: f32[3,3], z: f32[3]) -> (y) opset 6 {\n  y = %s(x, z) {broadcast=1, axis=0}\n}", ops[i]);
        check(NULL, "graph (x: f32[2,3,3,3], z: f32[3]) -> (y) opset 6 {\n  t = MaxPool(x) {kernel_shape=[1,1]}\n"
                    "  u = %s(t, z) {broadcast=1, axis=1}\n  y = Relu(u)\n}", ops[i]);
        check(NULL, "graph (x: f32[3,3], z: f32[3]) -> (y) opset 6 {\n  y = %s(x, z) {broadcast=1}\n}", ops[i]);
    }
}

static void test_long_chain(void **state)
{
    check(ONE, "graph (x: f32[3,70], z: f32[70], w: f32[3,1]) -> (y) opset 17 {\n  a = Add(x, z)\n  b = Mul(a, w)\n  c "
               "= Relu(b)\n"
               "  d = Sub(c, x)\n  e = Tanh(d)\n  f = Add(e, f32{2.5})\n  g = Div(f, f32[1]{3})\n  h = Max(g, z)\n  i "
               "= Mul(h, h)\n"
               "  j = Sigmoid(i)\n  k = Sub(z, j)\n  l = Mul(k, w)\n  m = Add(l, x)\n  n = Abs(m)\n  o = Sqrt(n)\n  p "
               "= Div(x, o)\n"
               "  q = Exp(p)\n  r = Min(q, w)\n  s = Erf(r)\n  t = Add(s, a)\n  y = Sub(t, e)\n}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_each_kind),  CMP_TEST(test_special_values), CMP_TEST(test_operators),
        CMP_TEST(test_broadcasts), CMP_TEST(test_layouts),        CMP_TEST(test_in_place),
        CMP_TEST(test_legacy_broadcast), CMP_TEST(test_long_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
