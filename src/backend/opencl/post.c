/* post.c - chains of post-operations as OpenCL C.
 *
 * The text depends on the kinds of the operations and on how each operand lies below the result, never on sizes or
 * constants: few different programs have to be compiled. An operand is one number, one a column, the whole, or lies by
 * strides over at most 8 dims. */
#include "backend/opencl/opencl_int.h"

typedef enum operand_kind { ONE, COLUMN, WHOLE, STRIDED } operand_kind;

static operand_kind kind_of(const ps_chain *c, const int64_t *strides, int64_t columns) {
    bool one = true, column = c->dims[c->rank - 1] == columns, whole = true;
    int64_t step = 1;
    for (int d = c->rank - 1; d >= 0; d--) {
        one &= strides[d] == 0;
        column &= strides[d] == (d == c->rank - 1 ? 1 : 0);
        whole &= strides[d] == step;
        step *= c->dims[d];
    }
    return one ? ONE : whole ? WHOLE : column ? COLUMN : STRIDED;
}

static bool has_alpha(ps_post_kind kind) {
    switch (kind) {
    case PS_POST_LEAKY_RELU:
    case PS_POST_CLIP:
    case PS_POST_HARD_SIGMOID:
    case PS_POST_HARD_SWISH:
    case PS_POST_SWISH:
    case PS_POST_LINEAR:
    case PS_POST_POW: return true;
    default: return false;
    }
}

static const char *function_of(ps_post_kind kind) {
    static const char *const names[PS_POST_COUNT] = {
        [PS_POST_RELU] = "post_relu(x)",
        [PS_POST_LEAKY_RELU] = "post_leaky_relu(x, a)",
        [PS_POST_CLIP] = "post_clip(x, a, b)",
        [PS_POST_SIGMOID] = "post_sigmoid(x)",
        [PS_POST_TANH] = "tanh(x)",
        [PS_POST_HARD_SIGMOID] = "post_clip(a * x + b, 0.0f, 1.0f)",
        [PS_POST_HARD_SWISH] = "x * post_clip(a * x + b, 0.0f, 1.0f)",
        [PS_POST_SWISH] = "x / (1.0f + exp(-a * x))",
        [PS_POST_GELU] = "post_gelu(x)",
        [PS_POST_GELU_TANH] = "post_gelu_tanh(x)",
        [PS_POST_EXP] = "exp(x)",
        [PS_POST_SQRT] = "sqrt(x)",
        [PS_POST_ABS] = "fabs(x)",
        [PS_POST_ERF] = "erf(x)",
        [PS_POST_RECIPROCAL] = "1.0f / x",
        [PS_POST_LINEAR] = "a * x + b",
        [PS_POST_POW] = "pow(x, a)",
        [PS_POST_ADD] = "x + y",
        [PS_POST_SUB] = "x - y",
        [PS_POST_RSUB] = "y - x",
        [PS_POST_MUL] = "x * y",
        [PS_POST_DIV] = "post_div(x, y)",
        [PS_POST_RDIV] = "post_div(y, x)",
        [PS_POST_MAX] = "post_max(x, y)",
        [PS_POST_MIN] = "post_min(x, y)",
    };
    return names[kind];
}

static bool any_strided(const ps_chain *c, int64_t columns) {
    for (int i = 0; i < c->n; i++)
        if (ps_post_is_binary(c->posts[i].kind) && kind_of(c, c->operand[i], columns) == STRIDED) return true;
    return false;
}

void ocl_chain_halves(ps_chain *c, const ps_lowering *l) {
    for (int i = 0; i < c->n; i++)
        c->half[i] = ps_post_is_binary(c->posts[i].kind) && l->in_half[c->posts[i].operand];
}

/* The operand of one result, and of four neighbours (kernels/common.cl, FLOAT4 and HALF4). */
static void operand_text(ps_str *text, int i, operand_kind kind, bool four, bool half) {
    static const char *const one[][3] = { { "q%d[0]", "q%d[col]", "q%d[o]" },
                                          { "HALF1(q%d)", "HALF1(q%d + (col))", "HALF1(q%d + (o))" } };
    static const char *const all[][3] = { { "(float4)(q%d[0])", "FLOAT4(q%d + (col))", "FLOAT4(q%d + (o))" },
                                          { "(float4)(HALF1(q%d))", "HALF4(q%d + (col))", "HALF4(q%d + (o))" } };
    static const char *const at[] = { "%sq%d[strided((o) + %d, pdims, qs%d)]",
                                      "%sHALF1(q%d + strided((o) + %d, pdims, qs%d))" };
    if (kind != STRIDED) {
        ps_str_printf(text, (four ? all : one)[half][kind], i);
        return;
    }
    if (four) ps_str_append(text, "(float4)(");
    for (int k = 0; k < (four ? 4 : 1); k++)
        ps_str_printf(text, at[half], k ? ", " : "", i, k, i);
    if (four) ps_str_append(text, ")");
}

static void step_text(ps_str *text, const ps_chain *c, int i, int64_t columns, bool four) {
    static const char parts[] = "xyzw";
    const ps_post *p = &c->posts[i];
    char ab[32] = "0.0f, 0.0f";
    if (has_alpha(p->kind)) ps_snprintf(ab, sizeof ab, "a%d, b%d", i, i);
    if (!ps_post_is_binary(p->kind)) {
        for (int k = 0; four && k < 4; k++)
            ps_str_printf(text, "    v.%c = post%d(v.%c, 0.0f, %s); \\\n", parts[k], i, parts[k], ab);
        if (!four) ps_str_printf(text, "    x = post%d(x, 0.0f, %s); \\\n", i, ab);
        return;
    }
    ps_str_append(text, four ? "    { const float4 y = " : "    x = post");
    if (!four) ps_str_printf(text, "%d(x, ", i);
    operand_text(text, i, kind_of(c, c->operand[i], columns), four, c->half[i]);
    if (!four) ps_str_printf(text, ", %s)", ab);
    for (int k = 0; four && k < 4; k++)
        ps_str_printf(text, "; v.%c = post%d(v.%c, y.%c, %s)", parts[k], i, parts[k], parts[k], ab);
    ps_str_append(text, four ? "; } \\\n" : "; \\\n");
}

static const char *type_of(const ps_chain *c, int i) {
    return c->half[i] ? "half" : "float";
}

void ocl_post_text(ps_str *text, const ps_chain *c, int64_t columns) {
    for (int i = 0; i < c->n; i++)
        ps_str_printf(text, "float post%d(float x, float y, float a, float b) { return %s; }\n", i,
                      function_of(c->posts[i].kind));
    ps_str_append(text, "#define POST_PARAMS");
    if (any_strided(c, columns)) ps_str_append(text, ", int8 pdims");
    for (int i = 0; i < c->n; i++) {
        const ps_post *p = &c->posts[i];
        if (has_alpha(p->kind)) ps_str_printf(text, ", float a%d, float b%d", i, i);
        if (!ps_post_is_binary(p->kind)) continue;
        ps_str_printf(text, ", __global const %s *q%d, ulong qo%d", type_of(c, i), i, i);
        if (kind_of(c, c->operand[i], columns) == STRIDED) ps_str_printf(text, ", int8 qs%d", i);
    }
    ps_str_append(text, "\n#define POST_BEGIN");
    for (int i = 0; i < c->n; i++)
        if (ps_post_is_binary(c->posts[i].kind))
            ps_str_printf(text, " q%d = ATC(%s, q%d, qo%d);", i, type_of(c, i), i, i);
    ps_str_append(text, "\n#define POST(x, o, col) do { \\\n");
    for (int i = 0; i < c->n; i++)
        step_text(text, c, i, columns, false);
    ps_str_append(text, "} while (0)\n#define POST4(v, o, col) do { \\\n");
    for (int i = 0; i < c->n; i++)
        step_text(text, c, i, columns, true);
    ps_str_append(text, "} while (0)\n");
}

/* The chain's dims or strides as the last of eight. */
static void eight(ocl_launch *l, const ps_chain *c, const int64_t *v, int64_t pad) {
    int64_t all[8];
    for (int i = 0; i < 8; i++)
        all[i] = i < 8 - c->rank ? pad : v[i - (8 - c->rank)];
    ocl_arg_ints(l, all, 8);
}

void ocl_post_args(ocl_launch *l, const ps_chain *c, int64_t columns) {
    if (any_strided(c, columns)) eight(l, c, c->dims, 1);
    for (int i = 0; i < c->n; i++) {
        const ps_post *p = &c->posts[i];
        if (has_alpha(p->kind)) {
            ocl_arg_float(l, p->alpha);
            ocl_arg_float(l, p->beta);
        }
        if (!ps_post_is_binary(p->kind)) continue;
        ocl_arg_in(l, (uint32_t)p->operand);
        if (kind_of(c, c->operand[i], columns) == STRIDED) eight(l, c, c->operand[i], 0);
    }
}

/* ---- Pointwise, and lone elementwise operators ---- */

static ps_status chain_kernel(ps_device *device, ps_lowering *l, const ps_chain *c, ocl_kernel *k, ps_error *err) {
    static const char *const starts[][2] = {
        { "IN1(x)", "(float4)(IN1(x))" },
        { "IN1(x + c)", "IN4(x + c)" },
        { "IN1(x + o)", "IN4(x + o)" },
        { "IN1(x + strided(o, xdims, xs))",
          "(float4)(IN1(x + strided(o, xdims, xs)), IN1(x + strided(o + 1, xdims, xs)), "
          "IN1(x + strided(o + 2, xdims, xs)), IN1(x + strided(o + 3, xdims, xs)))" },
    };
    char options[64];
    const int64_t columns = c->dims[c->rank - 1], each = columns % 4 == 0 ? 4 : 1;
    const operand_kind start = kind_of(c, c->x, columns);
    ocl_launch *launch;
    ps_str text;
    ps_str_init(&text, l->alloc);
    ps_str_printf(&text, "#define START %s\n", starts[start][each == 4]);
    ocl_post_text(&text, c, columns);
    ps_snprintf(options, sizeof options, "-DBIAS=0 -DVEC=%d%s", (int)each, ocl_halves(l->in_half[0], l->out_half[0]));
    ps_status status = text.failed ? PS_FAIL_NOMEM(err, "a program")
                                   : ocl_launch_init(k, 0, "pointwise", options, text.data, "pointwise", &launch, err);
    ps_str_release(&text);
    if (status != PS_OK) return status;
    const int64_t n = ps_shape_product(&l->node->out[0]->shape, 0, l->node->out[0]->shape.rank);
    ocl_arg_in(launch, 0);
    ocl_arg_out(launch, 0);
    ocl_arg_int(launch, n);
    ocl_arg_int(launch, columns);
    eight(launch, c, c->dims, 1);
    eight(launch, c, c->x, 0);
    ocl_post_args(launch, c, columns);
    ocl_launch_size(launch, n / each, 1, 1, 64, 1);
    return PS_OK;
}

static ps_status lower_chain(ps_device *device, ps_lowering *l, const ps_post *posts, int n_posts, ps_error *err) {
    const ps_node *n = l->node;
    ps_chain chain;
    ocl_kernel *k;
    if (n->out[0]->dtype != PS_DTYPE_F32 || n->in[0]->dtype != PS_DTYPE_F32) return ocl_decline(l, "not f32");
    if (!ocl_sizes_fit(l)) return PS_OK;
    const ps_layout layout = ps_chain_layout(l);
    if (!ps_chain_init(&chain, n, posts, n_posts, &n->in[0]->shape, l->in_layout[0], l->in_layout, &n->out[0]->shape,
                       layout, 1))
        return ocl_decline(l, "an operand does not broadcast plainly");
    ocl_chain_halves(&chain, l);
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.pointwise", &k, err));
    ps_status status = chain_kernel(device, l, &chain, k, err);
    l->out_layout[0] = layout;
    l->inplace = ps_chain_inplace(&chain, n, 0);
    return ocl_kernel_done(l, k, status);
}

ps_status ocl_lower_pointwise(ps_device *device, ps_lowering *l, ps_error *err) {
    ps_post posts[PS_MAX_POSTS];
    size_t n = ps_node_posts(l->node, posts);
    return lower_chain(device, l, posts, (int)n, err);
}

ps_status ocl_lower_operator(ps_device *device, ps_lowering *l, ps_error *err) {
    ps_post post;
    if (!ps_node_as_post(l->node, &post)) return ocl_decline(l, "not in this form");
    if (post.operand < 0) ocl_skip_inputs(l, 1); /* the limits of a Clip */
    return lower_chain(device, l, &post, 1, err);
}
