/* Random small graphs, CPU device against reference kernels: what single-operator tests cannot reach is how layouts,
 * views, reorders, epilogues and the memory planner meet. A failure prints the graph and its seed. Sums of products of
 * sums cancel, so differences are taken relative to the largest number of an output. */
#include "cpu_compare.h"

#define SEEDS 200
#define MAX_VALUES 40

typedef struct value {
    char name[8];
    int rank;
    int64_t dims[5];
} value;

typedef struct generator {
    uint32_t seed;
    char text[12000];
    size_t at;
    value values[MAX_VALUES];
    int n, constants;
} generator;

static int pick(generator *g, int n)
{
    return (int)(cmp_next(&g->seed) % (uint32_t)n);
}

__attribute__((format(printf, 2, 3))) static void emit(generator *g, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(g->text + g->at, sizeof g->text - g->at, format, ap);
    va_end(ap);
    assert_true(n >= 0 && (size_t)n < sizeof g->text - g->at);
    g->at += (size_t)n;
}

static int64_t count(const value *v)
{
    int64_t n = 1;
    for (int i = 0; i < v->rank; i++) n *= v->dims[i];
    return n;
}

static value *add(generator *g, int rank, const int64_t *dims)
{
    assert_true(g->n < MAX_VALUES);
    value *v = &g->values[g->n];
    snprintf(v->name, sizeof v->name, "v%d", g->n++);
    v->rank = rank;
    memmove(v->dims, dims, (size_t)rank * sizeof *dims);
    return v;
}

static const char *shape_text(const value *v, char *buf, size_t size)
{
    size_t at = 0;
    buf[0] = 0;
    for (int i = 0; i < v->rank; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s%lld", i ? "," : "", (long long)v->dims[i]);
    return buf;
}

/* Recent values more often, so that graphs get deep. */
static value *any(generator *g)
{
    int back = pick(g, 3) ? pick(g, 3) : pick(g, g->n);
    return &g->values[back < g->n ? g->n - 1 - back : 0];
}

static value *of_rank(generator *g, int lo, int hi)
{
    for (int tries = 0; tries < 20; tries++) {
        value *v = any(g);
        if (v->rank >= lo && v->rank <= hi) return v;
    }
    return NULL;
}

static void gen_conv(generator *g)
{
    value *x = of_rank(g, 3, 4);
    if (!x) return;
    int64_t channels = x->dims[1], out = pick(g, 3) ? channels : 1 + pick(g, 20), spatial = x->rank - 2;
    int64_t kernel = 1 + 2 * pick(g, 2), groups = 1;
    if (pick(g, 3) == 0) groups = channels, out = channels * (1 + pick(g, 2));
    int w = g->constants++;
    emit(g, "  w%d: f32[%lld,%lld", w, (long long)out, (long long)(channels / groups));
    for (int i = 0; i < spatial; i++) emit(g, ",%lld", (long long)kernel);
    emit(g, "] = random(%d)\n  b%d: f32[%lld] = random(%d)\n", w + 1, w, (long long)out, w + 50);
    value *y = add(g, x->rank, x->dims);
    y->dims[1] = out;
    emit(g, "  %s = Conv(%s, w%d", y->name, x->name, w);
    if (pick(g, 2)) emit(g, ", b%d", w);
    emit(g, ") {group=%lld, pads=[", (long long)groups);
    for (int i = 0; i < 2 * spatial; i++) emit(g, "%s%lld", i ? "," : "", (long long)(kernel / 2));
    emit(g, "]}\n");
}

static void gen_matmul(generator *g)
{
    value *x = of_rank(g, 2, 4);
    if (!x) return;
    int w = g->constants++;
    int64_t k = x->dims[x->rank - 1], n = pick(g, 2) ? k : 1 + pick(g, 20);
    emit(g, "  w%d: f32[%lld,%lld] = random(%d)\n", w, (long long)k, (long long)n, w + 1);
    value *y = add(g, x->rank, x->dims);
    y->dims[y->rank - 1] = n;
    emit(g, "  %s = MatMul(%s, w%d)\n", y->name, x->name, w);
}

static void gen_unary(generator *g)
{
    static const char *const ops[] = { "Relu",      "Sigmoid",   "Tanh", "Abs", "Neg",      "HardSigmoid",
                                       "HardSwish", "LeakyRelu", "Erf",  "Elu", "Identity", "Clip" };
    value *x = any(g), *y = add(g, x->rank, x->dims);
    int k = pick(g, 12);
    emit(g, "  %s = %s(%s%s)\n", y->name, ops[k], x->name, k == 11 ? ", f32{-1.5}, f32{1}" : "");
}

static bool broadcasts(const value *a, const value *b, value *ret)
{
    ret->rank = a->rank > b->rank ? a->rank : b->rank;
    for (int i = 0; i < ret->rank; i++) {
        int p = i - (ret->rank - a->rank), q = i - (ret->rank - b->rank);
        int64_t x = p < 0 ? 1 : a->dims[p], y = q < 0 ? 1 : b->dims[q];
        if (x != y && x != 1 && y != 1) return false;
        ret->dims[i] = x == 1 ? y : x;
    }
    return true;
}

static void gen_binary(generator *g)
{
    static const char *const ops[] = { "Add", "Mul", "Sub", "Max", "Min", "Add" };
    value out = { 0 };
    for (int tries = 0; tries < 12; tries++) {
        value *a = any(g), *b = &g->values[pick(g, g->n)];
        if (!broadcasts(a, b, &out) || count(&out) > 20000) continue;
        value *y = add(g, out.rank, out.dims);
        bool swap = pick(g, 2);
        emit(g, "  %s = %s(%s, %s)\n", y->name, ops[pick(g, 6)], swap ? b->name : a->name, swap ? a->name : b->name);
        return;
    }
}

/* With a constant of a random part of the shape. */
static void gen_constant_operand(generator *g)
{
    static const char *const ops[] = { "Add", "Mul", "Sub", "Max", "Min" };
    value *x = any(g), c = *x;
    char dims[64];
    int drop = c.rank ? pick(g, c.rank + 1) : 0, w = g->constants++;
    c.rank -= drop;
    for (int i = 0; i < c.rank; i++) c.dims[i] = pick(g, 2) ? x->dims[i + drop] : 1;
    emit(g, "  w%d: f32[%s] = random(%d)\n", w, shape_text(&c, dims, sizeof dims), w + 1);
    value *y = add(g, x->rank, x->dims);
    bool swap = pick(g, 2);
    if (swap) emit(g, "  %s = %s(w%d, %s)\n", y->name, ops[pick(g, 5)], w, x->name);
    else emit(g, "  %s = %s(%s, w%d)\n", y->name, ops[pick(g, 5)], x->name, w);
}

static void gen_pool(generator *g)
{
    value *x = of_rank(g, 4, 4);
    if (!x || x->dims[2] < 2 || x->dims[3] < 2) return;
    value *y = add(g, 4, x->dims);
    int kind = pick(g, 4);
    if (kind == 3) {
        y->dims[2] = y->dims[3] = 1;
        emit(g, "  %s = GlobalAveragePool(%s)\n", y->name, x->name);
        return;
    }
    bool keep = pick(g, 2);
    for (int i = 2; i < 4 && !keep; i++) y->dims[i] = (y->dims[i] - 2) / 2 + 1;
    emit(g, "  %s = %s(%s) {%s}\n", y->name, kind ? "MaxPool" : "AveragePool", x->name,
         keep ? "kernel_shape=[3,3], pads=[1,1,1,1]" : "kernel_shape=[2,2], strides=[2,2]");
}

static void gen_concat(generator *g)
{
    value *a = of_rank(g, 1, 5);
    if (!a || count(a) > 8000) return;
    int axis = pick(g, a->rank);
    value *b = a;
    for (int tries = 0; tries < 10; tries++) {
        value *c = &g->values[pick(g, g->n)];
        bool fits = c->rank == a->rank;
        for (int i = 0; fits && i < a->rank; i++) fits = i == axis || c->dims[i] == a->dims[i];
        if (fits) b = c;
    }
    int64_t sum = a->dims[axis] + b->dims[axis];
    value *y = add(g, a->rank, a->dims);
    y->dims[axis] = sum;
    emit(g, "  %s = Concat(%s, %s) {axis=%d}\n", y->name, a->name, b->name, axis);
}

static void gen_transpose(generator *g)
{
    value *x = of_rank(g, 2, 5);
    if (!x) return;
    int perm[5] = { 0, 1, 2, 3, 4 };
    for (int i = x->rank - 1; i > 0; i--) {
        int k = pick(g, i + 1), t = perm[i];
        perm[i] = perm[k];
        perm[k] = t;
    }
    value *y = add(g, x->rank, x->dims);
    emit(g, "  %s = Transpose(%s) {perm=[", y->name, x->name);
    for (int i = 0; i < x->rank; i++) {
        y->dims[i] = x->dims[perm[i]];
        emit(g, "%s%d", i ? "," : "", perm[i]);
    }
    emit(g, "]}\n");
}

/* Merges two neighbouring dims, or splits one in two. */
static void gen_reshape(generator *g)
{
    char dims[64];
    value *x = of_rank(g, 2, 4);
    if (!x) return;
    int axis = pick(g, x->rank - 1);
    value *y = add(g, x->rank, x->dims);
    if (pick(g, 2)) {
        y->dims[axis] *= y->dims[axis + 1];
        memmove(y->dims + axis + 1, y->dims + axis + 2, (size_t)(y->rank - axis - 2) * sizeof *y->dims);
        y->rank--;
    } else {
        int64_t part = y->dims[axis] % 3 == 0 ? 3 : y->dims[axis] % 2 == 0 ? 2 : 1;
        memmove(y->dims + axis + 1, y->dims + axis, (size_t)(y->rank - axis) * sizeof *y->dims);
        y->rank++;
        y->dims[axis] = part;
        y->dims[axis + 1] /= part;
    }
    emit(g, "  %s = Reshape(%s, i64[%d]{%s})\n", y->name, x->name, y->rank, shape_text(y, dims, sizeof dims));
}

static void gen_reduce(generator *g)
{
    static const char *const ops[] = { "ReduceMean", "ReduceL1", "ReduceMax", "ReduceMin" };
    value *x = of_rank(g, 2, 5);
    if (!x) return;
    bool keep = pick(g, 2), two = x->rank > 2 && pick(g, 2);
    int axis = pick(g, x->rank - (two ? 1 : 0));
    value *y = add(g, x->rank, x->dims);
    int last = axis + (two ? 1 : 0);
    emit(g, "  %s = %s(%s) {axes=[%d", y->name, ops[pick(g, 4)], x->name, axis);
    if (two) emit(g, ",%d", last);
    emit(g, "], keepdims=%d}\n", keep);
    for (int i = axis; i <= last; i++) y->dims[i] = 1;
    if (keep) return;
    memmove(y->dims + axis, y->dims + last + 1, (size_t)(y->rank - last - 1) * sizeof *y->dims);
    y->rank -= last - axis + 1;
}

static void gen_softmax(generator *g)
{
    value *x = of_rank(g, 1, 4);
    if (!x) return;
    value *y = add(g, x->rank, x->dims);
    emit(g, "  %s = Softmax(%s) {axis=%d}\n", y->name, x->name, pick(g, 2) ? x->rank - 1 : pick(g, x->rank));
}

static void gen_node(generator *g)
{
    switch (pick(g, 14)) {
    case 0:
    case 1:
    case 2: gen_conv(g); break;
    case 3: gen_matmul(g); break;
    case 4:
    case 5: gen_unary(g); break;
    case 6:
    case 7: gen_binary(g); break;
    case 8: gen_constant_operand(g); break;
    case 9: gen_pool(g); break;
    case 10: gen_concat(g); break;
    case 11: gen_transpose(g); break;
    case 12: gen_reshape(g); break;
    default: pick(g, 2) ? gen_reduce(g) : gen_softmax(g); break;
    }
}

static void random_graph(uint32_t seed)
{
    static generator g;
    char dims[64], outputs[64] = "";
    int64_t input[4] = { 1 + (int64_t)(seed % 3), 1 + (int64_t)(seed * 7 % 19), 3 + (int64_t)(seed % 5),
                         2 + (int64_t)(seed * 3 % 7) };
    memset(&g, 0, sizeof g);
    g.seed = seed * 2654435761u + 1;
    value *x = add(&g, 4, input);
    shape_text(x, dims, sizeof dims);
    for (int i = 0; i < 11; i++) gen_node(&g);
    snprintf(outputs, sizeof outputs, "v%d", g.n - 1);
    for (int i = 0; i < 2 && g.n > 2; i++) {
        size_t at = strlen(outputs);
        snprintf(outputs + at, sizeof outputs - at, ", v%d", 1 + pick(&g, g.n - 1));
    }
    if (g.n == 1) return;
    int before = cmp_failures;
    check(NULL, "graph (v0: f32[%s]) -> (%s) opset 14 {\n%s}", dims, outputs, g.text);
    if (cmp_failures > before) print_error("seed %u\n", seed);
}

static void test_random_graphs(void **state)
{
    cmp_scaled = true;
    for (uint32_t seed = 1; seed <= SEEDS; seed++) random_graph(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = { CMP_TEST(test_random_graphs) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
