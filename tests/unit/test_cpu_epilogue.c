/* Post-operations behind convolutions and matrix products: each kind, each shape of operand, in pairs and longer
 * chains. oneDNN takes a prefix of them; some that it accepts it computes wrongly (dnnl_adapter.c), which is what these
 * tests found. */
#include "cpu_compare.h"

#include "ops/params.h"

typedef struct post_case {
    ps_post_kind kind;
    float alpha, beta;
    const char *operand; /* shape of a further graph input under [2,24,6,5], or NULL */
} post_case;

static const post_case post_cases[] = {
    { PS_POST_RELU, 0, 0, NULL },
    { PS_POST_LEAKY_RELU, 0.1f, 0, NULL },
    { PS_POST_CLIP, -1, 2, NULL },
    { PS_POST_SIGMOID, 0, 0, NULL },
    { PS_POST_TANH, 0, 0, NULL },
    { PS_POST_HARD_SIGMOID, 0.2f, 0.5f, NULL },
    { PS_POST_HARD_SWISH, 1.0f / 6, 0.5f, NULL },
    { PS_POST_HARD_SWISH, 0.25f, 0.4f, NULL },
    { PS_POST_SWISH, 1, 0, NULL },
    { PS_POST_SWISH, 1.7f, 0, NULL },
    { PS_POST_GELU, 0, 0, NULL },
    { PS_POST_GELU_TANH, 0, 0, NULL },
    { PS_POST_ABS, 0, 0, NULL },
    { PS_POST_ERF, 0, 0, NULL },
    { PS_POST_LINEAR, 0.5f, 3, NULL },
    { PS_POST_POW, 2, 0, NULL },
    { PS_POST_ADD, 0, 0, "[2,24,6,5]" },
    { PS_POST_ADD, 0, 0, "[1,24,1,1]" },
    { PS_POST_MUL, 0, 0, "[2,24,1,1]" },
    { PS_POST_MUL, 0, 0, "[2,24,6,5]" },
    { PS_POST_MUL, 0, 0, "[1]" },
    { PS_POST_SUB, 0, 0, "[24,1,1]" },
    { PS_POST_RSUB, 0, 0, "[6,5]" },
    { PS_POST_MAX, 0, 0, "[5]" },
    { PS_POST_MIN, 0, 0, "[2,1,6,5]" },
};

#define N_POSTS (sizeof post_cases / sizeof *post_cases)

typedef struct anchor {
    const char *op, *x, *w, *attrs; /* attrs ends with ", " if it is not empty */
} anchor;

/* All make [2,24,6,5]. */
static const anchor anchors[] = {
    { "Conv", "2,8,6,5", "24,8,3,3", "pads=[1,1,1,1], " },
    { "Conv", "2,24,6,5", "24,1,3,3", "pads=[1,1,1,1], group=24, " },
    { "Conv", "2,8,6,5", "24,8,1,1", "" },
    { "ConvTranspose", "2,8,3,5", "8,24,2,1", "strides=[2,1], " },
    { "Conv", "2,6,6,5", "24,3,3,3", "pads=[1,1,1,1], group=2, " },
};

__attribute__((format(printf, 3, 4))) static void append(char *buf, size_t size, const char *format, ...)
{
    size_t at = strlen(buf);
    va_list ap;
    va_start(ap, format);
    vsnprintf(buf + at, size - at, format, ap);
    va_end(ap);
}

static void with_posts(const anchor *a, const post_case *const *posts, size_t n)
{
    char inputs[160] = "", args[64] = "", ops[160] = "", floats[256] = "";
    int operands = 0;
    for (size_t i = 0; i < n; i++) {
        int operand = -1;
        if (posts[i]->operand) {
            operand = 3 + operands++;
            append(inputs, sizeof inputs, ", o%zu: f32%s", i, posts[i]->operand);
            append(args, sizeof args, ", o%zu", i);
        }
        append(ops, sizeof ops, "%s%d, %d", i ? ", " : "", (int)posts[i]->kind, operand);
        append(floats, sizeof floats, "%s%#g, %#g", i ? ", " : "", (double)posts[i]->alpha, (double)posts[i]->beta);
    }
    check("onednn.|cpu.deconv",
          "graph (x: f32[%s]%s) -> (z) opset 17, polestar 1 {\n  w: f32[%s] = random(5)\n  b: f32[24] = random(6)\n"
          "  z = polestar.%s(x, w, b%s) {%spost_op=[%s], post_arg=[%s]}\n}",
          a->x, inputs, a->w, a->op, args, a->attrs, ops, floats);
}

static void test_each_post(void **state)
{
    for (size_t i = 0; i < N_POSTS; i++) {
        const post_case *one[1] = { &post_cases[i] };
        for (size_t k = 0; k < sizeof anchors / sizeof *anchors; k++) with_posts(&anchors[k], one, 1);
    }
}

static void test_pairs(void **state)
{
    for (size_t i = 0; i < N_POSTS; i++) {
        for (size_t j = i % 3; j < N_POSTS; j += 3) {
            const post_case *two[2] = { &post_cases[i], &post_cases[j] };
            with_posts(&anchors[(i + j / 3) % 5], two, 2);
        }
    }
}

static void test_longer(void **state)
{
    uint32_t seed = 11;
    for (int run = 0; run < 60; run++) {
        const post_case *list[4];
        size_t n = 3 + cmp_next(&seed) % 2;
        for (size_t i = 0; i < n; i++) list[i] = &post_cases[cmp_next(&seed) % N_POSTS];
        with_posts(&anchors[run % 5], list, n);
    }
}

/* The same for a product of matrices [6,8] x [8,5] and [2,3,8] x [8,5]. */
static void test_matrix_products(void **state)
{
    static const char *const shapes[][5] = { { "6,8", "[6,5]", "[1,5]", "[6,1]", "[5]" },
                                             { "2,3,8", "[2,3,5]", "[1,1,5]", "[2,1,1]", "[3,5]" } };
    for (size_t s = 0; s < 2; s++) {
        for (int kind = 0; kind < PS_POST_COUNT; kind++) {
            double alpha = kind == PS_POST_CLIP ? -1 : kind == PS_POST_POW ? 2 : 0.3, beta = 0.6;
            if (kind == PS_POST_EXP || kind == PS_POST_SQRT || kind == PS_POST_RECIPROCAL)
                continue; /* ill-conditioned here */
            for (int o = 1; o < 5; o++) {
                if (!ps_post_is_binary((ps_post_kind)kind)) {
                    check("onednn.matmul|cpu.matmul",
                          "graph (x: f32[%s]) -> (z) opset 17, polestar 1 {\n  w: f32[8,5] = random(5)\n"
                          "  z = polestar.MatMul(x, w, _) {post_op=[%d, -1, 0, -1], post_arg=[%#g, %#g, 0.0, 0.0]}\n}",
                          shapes[s][0], kind, alpha, beta);
                    break;
                }
                if (kind == PS_POST_DIV || kind == PS_POST_RDIV) continue;
                check("onednn.matmul|cpu.matmul",
                      "graph (x: f32[%s], o: f32%s) -> (z) opset 17, polestar 1 {\n  w: f32[8,5] = random(5)\n"
                      "  b: f32[5] = random(6)\n"
                      "  z = polestar.MatMul(x, w, b, o) {post_op=[4, -1, %d, 3, 0, -1], post_arg=[0.0, 0.0, 0.0, 0.0, "
                      "0.0, 0.0]}\n}",
                      shapes[s][0], shapes[s][o], kind);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_each_post),
        CMP_TEST(test_pairs),
        CMP_TEST(test_longer),
        CMP_TEST(test_matrix_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
