/* Winograd's convolution against the reference kernel: shapes, pads and epilogues at random, and those on its edges.
 *
 * Tolerance: relative to the largest output, because a tile's products are larger than its sums. F(4x4) at the points
 * of winograd.h has 2e-6 to 5e-6 of it over 64 to 512 channels (measured against oneDNN's direct convolution): 2e-5
 * leaves a factor of four. */
#include "cpu_compare.h"

#include "ops/params.h"

static int winograd_setup(void **state)
{
    cmp_setup(state);
    cmp_scaled = true;
    return 0;
}

#define WINOGRAD_TEST(f) cmocka_unit_test_setup_teardown(f, winograd_setup, cmp_teardown)

typedef struct conv_case {
    int batch, channels, h, w, outputs, pads[4]; /* pads: top left bottom right */
    bool bias;
} conv_case;

/* posts: the lists post_op and post_arg, or ""; operands: further inputs ", o0: f32[…]"; names: ", o0". */
static void conv(const char *kernel, const conv_case *c, const char *posts, const char *operands, const char *names)
{
    check(kernel,
          "graph (x: f32[%d,%d,%d,%d]%s) -> (y) opset 17, polestar 1 {\n  w: f32[%d,%d,3,3] = random(3)\n  b: f32[%d] "
          "= random(4)\n  y = polestar.Conv(x, w, %s%s) {pads=[%d,%d,%d,%d]%s}\n}",
          c->batch, c->channels, c->h, c->w, operands, c->outputs, c->channels, c->outputs, c->bias ? "b" : "_", names,
          c->pads[0], c->pads[1], c->pads[2], c->pads[3], posts);
}

static int between(uint32_t *seed, int low, int high)
{
    return low + (int)(cmp_next(seed) % (uint32_t)(high - low + 1));
}

static conv_case random_case(uint32_t *seed)
{
    conv_case c = { between(seed, 1, 3), between(seed, 16, 70), between(seed, 3, 21), between(seed, 3, 21),
                    between(seed, 16, 70), { 0 }, cmp_next(seed) % 2 == 0 };
    for (int i = 0; i < 4; i++) c.pads[i] = between(seed, 0, 3);
    return c;
}

static void test_random_shapes(void **state)
{
    uint32_t seed = 5;
    for (int run = 0; run < 120; run++) {
        conv_case c = random_case(&seed);
        conv("cpu.conv winograd|onednn.conv", &c, "", "", "");
    }
}

/* What is chosen where, and results where a block, a panel or a vector is not full. */
static void test_forms(void **state)
{
    static const struct {
        const char *kernel;
        conv_case c;
    } cases[] = {
        { "cpu.conv winograd 4x4", { 1, 64, 56, 56, 64, { 1, 1, 1, 1 }, true } },
        { "cpu.conv winograd 2x2", { 2, 64, 14, 14, 64, { 1, 1, 1, 1 }, false } },
        { "cpu.conv winograd 4x4", { 1, 96, 16, 20, 24, { 1, 1, 1, 1 }, true } },
        { "cpu.conv winograd 4x4", { 1, 600, 24, 24, 32, { 1, 1, 1, 1 }, true } }, /* more than a block of k */
        { "cpu.conv winograd 4x4", { 3, 33, 19, 23, 49, { 0, 1, 2, 0 }, true } },
        { "cpu.conv winograd 4x4", { 1, 32, 16, 16, 32, { 7, 0, 0, 9 }, true } }, /* tiles with nothing but padding */
        { "cpu.conv winograd 4x4", { 1, 32, 17, 1, 32, { 1, 8, 1, 8 }, true } },
        { "cpu.conv winograd 2x2", { 1, 128, 8, 8, 128, { 1, 1, 1, 1 }, true } },
        { "cpu.conv winograd 2x2", { 5, 80, 9, 9, 96, { 1, 1, 1, 1 }, false } },
        { "cpu.conv winograd 2x2", { 2, 100, 9, 11, 100, { 0, 2, 2, 0 }, true } },
        { "onednn.conv|ref", { 1, 128, 7, 7, 128, { 1, 1, 1, 1 }, true } }, /* larger weights would not pay */
        { "onednn.conv|ref", { 1, 64, 3, 3, 64, { 1, 1, 1, 1 }, true } },
        { "onednn.conv|ref", { 1, 8, 32, 32, 32, { 1, 1, 1, 1 }, true } },
        { "onednn.conv|ref", { 1, 32, 32, 32, 8, { 1, 1, 1, 1 }, true } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        conv(cases[i].kernel, &cases[i].c, "", "", "");
        conv(cases[i].kernel, &cases[i].c, ", post_op=[0, -1], post_arg=[0.0, 0.0]", "", "");
    }
}

typedef struct post_case {
    ps_post_kind kind;
    float alpha, beta;
    char operand; /* f: full, r: a row of channels, p: of each image, s: one number, w: of the last dim; 0: none */
} post_case;

static const post_case post_cases[] = {
    { PS_POST_RELU, 0, 0, 0 },          { PS_POST_CLIP, 0, 6, 0 },
    { PS_POST_CLIP, -20, 30, 0 },        { PS_POST_LEAKY_RELU, 0.1f, 0, 0 },
    { PS_POST_SWISH, 1, 0, 0 },         { PS_POST_HARD_SWISH, 1.0f / 6, 0.5f, 0 },
    { PS_POST_ABS, 0, 0, 0 },           { PS_POST_ADD, 0, 0, 'f' },
    { PS_POST_ADD, 0, 0, 'f' },         { PS_POST_ADD, 0, 0, 'r' },
    { PS_POST_ADD, 0, 0, 'w' },         { PS_POST_MUL, 0, 0, 'p' },
    { PS_POST_MUL, 0, 0, 's' },         { PS_POST_SUB, 0, 0, 'f' },
    { PS_POST_MAX, 0, 0, 'w' },
};

__attribute__((format(printf, 3, 4))) static void append(char *buf, size_t size, const char *format, ...)
{
    size_t at = strlen(buf);
    va_list ap;
    va_start(ap, format);
    vsnprintf(buf + at, size - at, format, ap);
    va_end(ap);
}

static void append_shape(char *buf, size_t size, char operand, const conv_case *c)
{
    int h = c->h + c->pads[0] + c->pads[2] - 2, w = c->w + c->pads[1] + c->pads[3] - 2;
    if (operand == 'f') append(buf, size, "[%d,%d,%d,%d]", c->batch, c->outputs, h, w);
    else if (operand == 'r') append(buf, size, "[%d,1,1]", c->outputs);
    else if (operand == 'p') append(buf, size, "[%d,%d,1,1]", c->batch, c->outputs);
    else if (operand == 'w') append(buf, size, "[%d]", w);
    else append(buf, size, "[1]");
}

static void with_posts(const conv_case *c, const post_case *const *posts, int n)
{
    char operands[256] = "", names[64] = "", ops[160] = "", args[256] = "", all[480];
    int count = 0;
    for (int i = 0; i < n; i++) {
        append(ops, sizeof ops, "%s%d, %d", i ? ", " : "", (int)posts[i]->kind, posts[i]->operand ? 3 + count : -1);
        append(args, sizeof args, "%s%#g, %#g", i ? ", " : "", (double)posts[i]->alpha, (double)posts[i]->beta);
        if (!posts[i]->operand) continue;
        append(operands, sizeof operands, ", o%d: f32", count);
        append_shape(operands, sizeof operands, posts[i]->operand, c);
        append(names, sizeof names, ", o%d", count++);
    }
    snprintf(all, sizeof all, ", post_op=[%s], post_arg=[%s]", ops, args);
    conv("cpu.conv winograd", c, n ? all : "", operands, names);
}

/* Of few tiles, so that two threads share one block's panels, and of many. */
static const conv_case bodies[] = {
    { 1, 32, 10, 12, 93, { 1, 1, 1, 1 }, true },
    { 2, 32, 30, 33, 36, { 1, 0, 2, 1 }, true },
    { 1, 48, 9, 10, 60, { 1, 1, 1, 1 }, false },
};

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static void test_each_post(void **state)
{
    for (int i = 0; i < COUNT(post_cases); i++) {
        const post_case *one[1] = { &post_cases[i] };
        for (int k = 0; k < COUNT(bodies); k++) with_posts(&bodies[k], one, 1);
    }
}

static void test_chains_of_posts(void **state)
{
    uint32_t seed = 17;
    for (int run = 0; run < 60; run++) {
        const post_case *list[4];
        int n = between(&seed, 2, 4);
        for (int i = 0; i < n; i++) list[i] = &post_cases[cmp_next(&seed) % COUNT(post_cases)];
        with_posts(&bodies[run % COUNT(bodies)], list, n);
    }
}

/* A residual whose memory the output may take, one that is read again, and the input itself; 30 is no whole vector. */
static void test_residuals(void **state)
{
    static const char *const ends[] = {
        "  s = Add(b, c)\n  y = Relu(s)\n",
        "  s = Add(c, b)\n  y = Relu(s)\n",
        "  s = Add(b, c)\n  r = Relu(s)\n  y = Mul(r, c)\n",
        "  s = Add(b, c)\n  r = Relu(s)\n  n = Neg(c)\n  y = Mul(r, n)\n",
        "  s = Add(b, a)\n  y = Relu(s)\n",
        "  r = Relu(b)\n  s = Add(r, c)\n  y = Sigmoid(s)\n",
        "  s = Add(b, b)\n  y = Sub(s, c)\n",
    };
    for (int channels = 30; channels <= 32; channels += 2) {
        for (int i = 0; i < COUNT(ends); i++) {
            check("cpu.conv winograd",
                  "graph (x: f32[2,8,15,18]) -> (y) opset 17 {\n  u: f32[%d,8,1,1] = random(1)\n  v: f32[%d,8,1,1] = "
                  "random(2)\n  w: f32[%d,%d,3,3] = random(3)\n  a = Conv(x, u)\n  c = Conv(x, v)\n"
                  "  b = Conv(a, w) {pads=[1,1,1,1]}\n%s}",
                  channels, channels, channels, channels, ends[i]);
        }
    }
}

/* As the next node of a chain reads it: plain at the borders, channels-last between. */
static void test_in_a_row(void **state)
{
    check("cpu.conv winograd", "graph (x: f32[1,3,40,40]) -> (y) opset 17 {\n  t: f32[32,3,3,3] = random(1)\n  u: "
                               "f32[32,32,3,3] = random(2)\n  v: f32[40,32,3,3] = random(3)\n  a = Conv(x, t) "
                               "{pads=[1,1,1,1]}\n  b = Conv(a, u) {pads=[1,1,1,1]}\n  r = Relu(b)\n"
                               "  c = Conv(r, v) {auto_pad=\"SAME_UPPER\"}\n  y = MaxPool(c) {kernel_shape=[2,2]}\n}");
}

/* What it declines must still run. */
static void test_declined(void **state)
{
    static const char *const attrs[] = { "strides=[2,2]", "dilations=[2,2]", "strides=[1,2], pads=[1,1,1,1]",
                                         "pads=[-1,0,-1,2]" };
    for (int i = 0; i < COUNT(attrs); i++) {
        check("onednn.conv|ref", "graph (x: f32[1,32,24,24]) -> (y) opset 17 {\n  w: f32[32,32,3,3] = random(1)\n  y = "
                                 "Conv(x, w) {%s}\n}",
              attrs[i]);
    }
    check("onednn.conv|ref", "graph (x: f32[1,32,24,24]) -> (y) opset 17 {\n  w: f32[32,16,3,3] = random(1)\n  y = "
                             "Conv(x, w) {group=2}\n}");
    check("onednn.conv|ref", "graph (x: f32[1,32,24,24], w: f32[32,32,3,3]) -> (y) opset 17 {\n  y = Conv(x, w)\n}");
    check(NULL, "graph (x: f32[0,32,24,24]) -> (y) opset 17 {\n  w: f32[32,32,3,3] = random(1)\n  y = Conv(x, w)\n}");
    check("cpu.conv winograd", "graph (x: f32[1,32,24,24], b: f32[32]) -> (y) opset 17 {\n  w: f32[32,32,3,3] = "
                               "random(1)\n  y = Conv(x, w, b)\n}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WINOGRAD_TEST(test_random_shapes), WINOGRAD_TEST(test_forms),     WINOGRAD_TEST(test_each_post),
        WINOGRAD_TEST(test_chains_of_posts), WINOGRAD_TEST(test_residuals), WINOGRAD_TEST(test_in_a_row),
        WINOGRAD_TEST(test_declined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
