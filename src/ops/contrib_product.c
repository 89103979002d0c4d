/* contrib_product.c - products of domain com.microsoft: FusedMatMul, TransposeMatMul, FusedMatMulActivation, FusedGemm,
 * GemmFastGelu, FusedConv, NhwcConv, NhwcFusedConv, ConvTransposeWithDynamicPads.
 *
 * Each is an operator of ONNX with its operands in another order, a factor, a summand or an activation. The operator's
 * own rule and kernel run on a shadow of the node that shows them the shapes they know, the kernel into doubles; what
 * is added comes after, and the result is rounded once. Source: the operator schemas of ONNX Runtime 1.32. */
#include <math.h>

#include "ops/conv.h"
#include "ops/facts.h"
#include "ops/kernel_util.h"
#include "ops/matmul.h"
#include "ops/move.h"
#include "ops/params.h"

enum { SHADOW_INPUTS = 3 };

/* A node like another whose values may be given other shapes. */
typedef struct shadow {
    ps_node node;
    ps_value in[SHADOW_INPUTS], out;
    ps_value *in_list[SHADOW_INPUTS], *out_list[1];
} shadow;

static void shadow_init(shadow *s, const ps_node *node) {
    *s = (shadow) { .node = *node };
    for (size_t i = 0; i < SHADOW_INPUTS && i < node->n_in; i++) {
        if (!node->in[i]) continue;
        s->in[i] = *node->in[i];
        s->in_list[i] = &s->in[i];
    }
    s->out.shape = ps_shape_unknown();
    s->out.name = node->out[0] ? node->out[0]->name : "";
    s->out_list[0] = &s->out;
    s->node.in = s->in_list;
    s->node.out = s->out_list;
    s->node.n_in = node->n_in < SHADOW_INPUTS ? node->n_in : SHADOW_INPUTS;
    s->node.n_out = 1;
}

/* ---- what comes after the product ---- */

typedef double (*activation_fn)(double x, double a, double b);

static double act_relu(double x, double a, double b) {
    (void)a, (void)b;
    return x > 0 ? x : x != x ? x : 0;
}
static double act_sigmoid(double x, double a, double b) {
    (void)a, (void)b;
    return 1 / (1 + exp(-x));
}
static double act_tanh(double x, double a, double b) {
    (void)a, (void)b;
    return tanh(x);
}
static double act_leaky(double x, double a, double b) {
    (void)b;
    return x < 0 ? a * x : x;
}
static double act_clip(double x, double a, double b) {
    return x < a ? a : x > b ? b : x;
}
static double act_hard_sigmoid(double x, double a, double b) {
    return act_clip(a * x + b, 0, 1);
}
static double act_hard_swish(double x, double a, double b) {
    (void)a, (void)b;
    return x * act_clip(x / 6 + 0.5, 0, 1);
}
static double act_elu(double x, double a, double b) {
    (void)b;
    return x < 0 ? a * (exp(x) - 1) : x;
}
static double act_softplus(double x, double a, double b) {
    (void)a, (void)b;
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}
static double act_softsign(double x, double a, double b) {
    (void)a, (void)b;
    return x / (1 + fabs(x));
}
static double act_gelu(double x, double a, double b) {
    (void)a, (void)b;
    return 0.5 * x * (1 + erf(x * 0.70710678118654752));
}
static double act_gelu_tanh(double x, double a, double b) {
    (void)a, (void)b;
    return 0.5 * x * (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
}

typedef struct activation {
    const char *name;
    activation_fn fn;
    double a, b; /* defaults */
} activation;

static const activation activations[] = {
    { "Relu", act_relu, 0, 0 },
    { "Sigmoid", act_sigmoid, 0, 0 },
    { "Tanh", act_tanh, 0, 0 },
    { "LeakyRelu", act_leaky, 0.01, 0 },
    { "Clip", act_clip, -INFINITY, INFINITY },
    { "HardSigmoid", act_hard_sigmoid, 0.2, 0.5 },
    { "HardSwish", act_hard_swish, 0, 0 },
    { "Elu", act_elu, 1, 0 },
    { "Softplus", act_softplus, 0, 0 },
    { "Softsign", act_softsign, 0, 0 },
    { "Gelu", act_gelu, 0, 0 },
    { "FastGelu", act_gelu_tanh, 0, 0 },
};

/* *ret has no fn if the name is empty. */
static ps_status find_activation(const ps_node *node, const char *name, activation *ret, ps_error *err) {
    *ret = (activation) { .name = "" };
    if (!name || !name[0]) return PS_OK;
    for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++)
        if (strcmp(activations[i].name, name) == 0) *ret = activations[i];
    PS_NODE_FAIL_IF(!ret->fn, node, err, UNSUPPORTED, "activation '%s' is not supported", name);
    return PS_OK;
}

typedef struct finish_job {
    const double *product;
    activation act;
    double alpha;
    ps_bcast summand;
    bool has_summand;
    ps_tensor *y;
    int64_t total;
    double *scratch;
} finish_job;

enum { CHUNK = 1024 };

static void finish_chunks(void *ctx, int64_t begin, int64_t end, int thread) {
    finish_job *j = ctx;
    double *x = j->scratch + (int64_t)thread * 2 * CHUNK, *z = x + CHUNK;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        int64_t first = chunk * CHUNK, n = j->total - first < CHUNK ? j->total - first : CHUNK;
        if (j->has_summand) ps_bcast_load(&j->summand, first, n, z);
        for (int64_t i = 0; i < n; i++) {
            x[i] = j->alpha * j->product[first + i] + (j->has_summand ? z[i] : 0);
            if (j->act.fn) x[i] = j->act.fn(x[i], j->act.a, j->act.b);
        }
        ps_row_store(j->y->data, j->y->dtype, first, 1, x, n);
    }
}

/* out[0] = activation(alpha * product + summand); summand may be NULL. */
static ps_status finish(const ps_kernel_ctx *ctx, const double *product, double alpha, const ps_tensor *summand,
                        const activation *act, ps_error *err) {
    finish_job j = {
        .product = product, .act = *act, .alpha = alpha, .y = ctx->out[0], .has_summand = summand != NULL
    };
    if (summand && !ps_bcast_init(&j.summand, summand, &j.y->shape))
        return PS_NODE_FAIL(ctx->node, err, SHAPE, "what is added does not broadcast to the product");
    j.total = (int64_t)ps_tensor_count(j.y);
    return ps_parallel_scratch(ctx, (j.total + CHUNK - 1) / CHUNK, 4, 2 * CHUNK, &j.scratch, finish_chunks, &j, err);
}

/* ---- operands in another order ---- */

/* dim d of the result is dim perm[d] of s. */
static ps_shape permuted(const ps_shape *s, const int *perm) {
    ps_shape r = *s;
    for (int d = 0; d < s->rank; d++)
        r.dims[d] = s->dims[perm[d]];
    return r;
}

/* A copy in the other order in fresh memory (t->data), to be freed by the caller. */
static ps_status permute(const ps_kernel_ctx *ctx, const ps_tensor *x, const int *perm, ps_tensor *t, ps_error *err) {
    ps_shape s = permuted(&x->shape, perm);
    int64_t src[PS_MAX_RANK], dst[PS_MAX_RANK];
    ps_walk w = { 0 };
    ps_tensor_init_view(t, x->dtype, &s, ps_alloc(ctx->alloc, x->bytes));
    if (!t->data) return PS_FAIL_NOMEM(err, "an operand in another order");
    ps_shape_strides(&x->shape, src);
    ps_shape_strides(&s, dst);
    for (int d = 0; d < s.rank; d++)
        ps_walk_add(&w, s.dims[d], dst[d], src[perm[d]]);
    ps_walk_copy(&w, ps_dtype_size(x->dtype), t->data, x->data, ctx->threads);
    return PS_OK;
}

/* Runs a kernel on the shadow, into doubles at *ret (to be freed). */
static ps_status run_product(const ps_kernel_ctx *ctx, const shadow *s, const ps_tensor *const *in, ps_kernel_fn kernel,
                             const void *params, double **ret, ps_error *err) {
    int64_t n;
    if (!ps_shape_elements(&s->out.shape, &n)) return PS_NODE_FAIL(ctx->node, err, LIMIT, "the product is too large");
    *ret = ps_alloc_array(ctx->alloc, (size_t)n, sizeof(double));
    if (!*ret) return PS_FAIL_NOMEM(err, "a product in double");
    memset(*ret, 0, (size_t)n * sizeof(double));
    ps_tensor y;
    ps_tensor_init_view(&y, PS_DTYPE_F64, &s->out.shape, *ret);
    ps_tensor *out[] = { &y };
    ps_kernel_ctx inner = { &s->node, params, in, s->node.n_in, out, 1, ctx->alloc, ctx->threads };
    return kernel(&inner, err);
}

/* ---- FusedMatMul and its kin ---- */

typedef struct matmul_params {
    float alpha, activation_alpha, activation_beta;
    int64_t transA, transB, transBatchA, transBatchB;
    const char *activation;
} matmul_params;

#define MATMUL_ATTRS                                                                                                   \
    PS_A_FLOAT(matmul_params, alpha, 1), PS_A_INT(matmul_params, transA, 0), PS_A_INT(matmul_params, transB, 0),       \
        PS_A_INT(matmul_params, transBatchA, 0), PS_A_INT(matmul_params, transBatchB, 0)
static const ps_attr_def matmul_attrs[] = { MATMUL_ATTRS, PS_ATTRS_END };
static const ps_attr_def matmul_activation_attrs[] = {
    MATMUL_ATTRS,
    PS_A_STR(matmul_params, activation, ""),
    PS_A_FLOAT(matmul_params, activation_alpha, NAN),
    PS_A_FLOAT(matmul_params, activation_beta, NAN),
    PS_ATTRS_END,
};
static const ps_attr_def no_attrs[] = { PS_ATTRS_END };

static bool has_activation(const ps_node *node) {
    return ps_op_has_attr(node->op, "activation");
}

static ps_status matmul_activation(const ps_node *node, activation *act, ps_error *err) {
    const matmul_params *p = node->params;
    *act = (activation) { .name = "" };
    if (!has_activation(node)) return PS_OK;
    PS_TRY(find_activation(node, p->activation, act, err));
    if (!isnan(p->activation_alpha)) act->a = (double)p->activation_alpha;
    if (!isnan(p->activation_beta)) act->b = (double)p->activation_beta;
    return PS_OK;
}

/* The dims of an operand as MatMul wants them; false if they stay where they are. */
static bool matmul_order(int rank, bool trans, bool trans_batch, int perm[PS_MAX_RANK]) {
    for (int d = 0; d < rank; d++)
        perm[d] = d;
    if (rank < 2 || (!trans && !trans_batch)) return false;
    if (trans_batch) {
        for (int d = 0; d < rank - 2; d++)
            perm[d] = d + 1;
        perm[rank - 2] = 0;
    }
    if (trans) {
        int last = perm[rank - 1];
        perm[rank - 1] = perm[rank - 2];
        perm[rank - 2] = last;
    }
    return true;
}

static bool operand_order(const ps_node *node, size_t i, int rank, int perm[PS_MAX_RANK]) {
    const matmul_params *p = node->params;
    return p && matmul_order(rank, i ? p->transB : p->transA, i ? p->transBatchB : p->transBatchA, perm);
}

static ps_status matmul_shadow(const ps_node *node, shadow *s, ps_error *err) {
    int perm[PS_MAX_RANK];
    shadow_init(s, node);
    s->node.n_in = 2;
    for (size_t i = 0; i < 2; i++)
        if (ps_in_known(node, i) && operand_order(node, i, s->in[i].shape.rank, perm))
            s->in[i].shape = permuted(&s->in[i].shape, perm);
    return ps_matmul_infer(&s->node, err);
}

static ps_status matmul_infer(const ps_node *node, ps_error *err) {
    shadow s;
    activation act;
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(ps_check_same_type(node, 1, 0, err));
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    if (node->params) PS_TRY(matmul_activation(node, &act, err));
    PS_TRY(matmul_shadow(node, &s, err));
    if (ps_in_known(node, 2) && s.out.shape.rank > 0) { /* the bias of GemmFastGelu */
        PS_TRY(ps_check_rank(node, 2, 1, err));
        PS_TRY(ps_check_dim(node, 2, 0, s.out.shape.dims[s.out.shape.rank - 1], "the number of columns", err));
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &s.out.shape);
    return PS_OK;
}

static ps_status matmul_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const matmul_params *p = ctx->params;
    activation act = { "FastGelu", act_gelu_tanh, 0, 0 };
    shadow s;
    ps_tensor other[2];
    const ps_tensor *in[2] = { ctx->in[0], ctx->in[1] };
    double *product = NULL;
    int perm[PS_MAX_RANK];
    if (p) PS_TRY(matmul_activation(ctx->node, &act, err));
    PS_TRY(matmul_shadow(ctx->node, &s, err));
    ps_status status = PS_OK;
    for (size_t i = 0; i < 2; i++) {
        if (!operand_order(ctx->node, i, ctx->in[i]->shape.rank, perm)) continue;
        PS_TRY_OUT(permute(ctx, ctx->in[i], perm, &other[i], err));
        in[i] = &other[i];
    }
    PS_TRY_OUT(run_product(ctx, &s, in, ps_matmul_ref, NULL, &product, err));
    status = finish(ctx, product, p ? (double)p->alpha : 1, ctx->n_in > 2 ? ctx->in[2] : NULL, &act, err);
out:
    for (size_t i = 0; i < 2; i++)
        if (in[i] != ctx->in[i]) ps_free(ctx->alloc, in[i]->data);
    ps_free(ctx->alloc, product);
    return status;
}

/* ---- FusedGemm ---- */

typedef struct gemm_params {
    ps_gemm_params gemm; /* first: what Gemm's rule and kernel read */
    float activation_alpha, activation_beta;
    const char *activation;
} gemm_params;

#define IN_STRUCT(attr, kind, st, path, i, f, s) { attr, PS_ATTR_##kind, offsetof(st, path), (i), (f), (s), 0 }
static const ps_attr_def gemm_attrs[] = {
    IN_STRUCT("alpha", FLOAT, gemm_params, gemm.alpha, 0, 1, NULL),
    IN_STRUCT("beta", FLOAT, gemm_params, gemm.beta, 0, 1, NULL),
    IN_STRUCT("transA", INT, gemm_params, gemm.transA, 0, 0, NULL),
    IN_STRUCT("transB", INT, gemm_params, gemm.transB, 0, 0, NULL),
    PS_A_STR(gemm_params, activation, ""),
    PS_A_FLOAT(gemm_params, activation_alpha, NAN),
    PS_A_FLOAT(gemm_params, activation_beta, NAN),
    PS_ATTRS_END,
};

static ps_status gemm_activation(const ps_node *node, activation *act, ps_error *err) {
    const gemm_params *p = node->params;
    PS_TRY(find_activation(node, p->activation, act, err));
    if (!isnan(p->activation_alpha)) act->a = (double)p->activation_alpha;
    if (!isnan(p->activation_beta)) act->b = (double)p->activation_beta;
    return PS_OK;
}

static ps_status gemm_infer(const ps_node *node, ps_error *err) {
    activation act;
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(gemm_activation(node, &act, err));
    return ps_gemm_infer(node, err);
}

static ps_status gemm_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    activation act;
    shadow s;
    double *product = NULL;
    PS_TRY(gemm_activation(ctx->node, &act, err));
    shadow_init(&s, ctx->node);
    PS_TRY(ps_gemm_infer(&s.node, err));
    ps_status status = run_product(ctx, &s, ctx->in, ps_gemm_ref, ctx->params, &product, err);
    if (status == PS_OK) status = finish(ctx, product, 1, NULL, &act, err);
    ps_free(ctx->alloc, product);
    return status;
}

/* ---- FusedConv, NhwcConv, NhwcFusedConv ---- */

typedef struct conv_params {
    ps_conv_params conv; /* first: what Conv's rule and kernel read */
    ps_floats activation_params;
    const char *activation;
} conv_params;

#define CONV_ATTRS                                                                                                     \
    IN_STRUCT("auto_pad", STRING, conv_params, conv.auto_pad, 0, 0, "NOTSET"),                                         \
        IN_STRUCT("kernel_shape", INTS, conv_params, conv.kernel_shape, 0, 0, NULL),                                   \
        IN_STRUCT("strides", INTS, conv_params, conv.strides, 0, 0, NULL),                                             \
        IN_STRUCT("pads", INTS, conv_params, conv.pads, 0, 0, NULL),                                                   \
        IN_STRUCT("dilations", INTS, conv_params, conv.dilations, 0, 0, NULL),                                         \
        IN_STRUCT("group", INT, conv_params, conv.group, 1, 0, NULL)
static const ps_attr_def nhwc_attrs[] = { CONV_ATTRS, PS_ATTRS_END };
static const ps_attr_def conv_attrs[] = {
    CONV_ATTRS,
    PS_A_STR(conv_params, activation, ""),
    PS_A_FLOATS(conv_params, activation_params),
    PS_ATTRS_END,
};

static ps_status conv_activation(const ps_node *node, activation *act, ps_error *err) {
    const conv_params *p = node->params;
    *act = (activation) { .name = "" };
    if (!has_activation(node)) return PS_OK;
    PS_TRY(find_activation(node, p->activation, act, err));
    PS_NODE_FAIL_IF(p->activation_params.n > 2, node, err, INVALID,
                    "activation_params has %zu entries, at most 2 count", p->activation_params.n);
    if (p->activation_params.n > 0) act->a = (double)p->activation_params.data[0];
    if (p->activation_params.n > 1) act->b = (double)p->activation_params.data[1];
    return PS_OK;
}

static bool is_nhwc(const ps_node *node) {
    return strncmp(node->op->name, "Nhwc", 4) == 0;
}

/* Channels first from channels last, and back. */
static void channels_order(int rank, bool back, int perm[PS_MAX_RANK]) {
    perm[0] = 0;
    for (int d = 1; d < rank; d++)
        perm[d] = back ? (d == rank - 1 ? 1 : d + 1) : (d == 1 ? rank - 1 : d - 1);
}

/* The output's shape is in the operator's own order afterwards. */
static ps_status conv_shadow(const ps_node *node, shadow *s, ps_shape *ret_y, ps_error *err) {
    int perm[PS_MAX_RANK];
    shadow_init(s, node);
    if (is_nhwc(node) && ps_in_known(node, 0) && s->in[0].shape.rank >= 2) {
        channels_order(s->in[0].shape.rank, false, perm);
        s->in[0].shape = permuted(&node->in[0]->shape, perm);
    }
    PS_TRY(ps_conv_infer(&s->node, err));
    *ret_y = s->out.shape;
    if (is_nhwc(node) && ret_y->rank >= 2) {
        channels_order(ret_y->rank, true, perm);
        *ret_y = permuted(&s->out.shape, perm);
    }
    return PS_OK;
}

static ps_status conv_infer(const ps_node *node, ps_error *err) {
    activation act;
    shadow s;
    ps_shape y;
    PS_TRY(conv_activation(node, &act, err));
    PS_TRY(conv_shadow(node, &s, &y, err));
    PS_TRY(ps_check_same_type(node, 3, 0, err));
    if (ps_in_known(node, 3) && y.rank >= 0) {
        PS_TRY(ps_check_rank(node, 3, y.rank, err));
        for (int d = 0; d < y.rank; d++)
            PS_TRY(ps_check_dim(node, 3, d, y.dims[d], "the same dim of the output", err));
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

/* The product in channels-last order. */
static ps_status back_to_nhwc(const ps_kernel_ctx *ctx, const shadow *s, double **product, ps_error *err) {
    ps_tensor first, last;
    int perm[PS_MAX_RANK];
    ps_tensor_init_view(&first, PS_DTYPE_F64, &s->out.shape, *product);
    channels_order(s->out.shape.rank, true, perm);
    PS_TRY(permute(ctx, &first, perm, &last, err));
    ps_free(ctx->alloc, *product);
    *product = last.data;
    return PS_OK;
}

static ps_status conv_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *in[SHADOW_INPUTS] = { NULL };
    activation act;
    shadow s;
    ps_shape y;
    ps_tensor x = { .data = NULL };
    double *product = NULL;
    int perm[PS_MAX_RANK];
    PS_TRY(conv_activation(ctx->node, &act, err));
    PS_TRY(conv_shadow(ctx->node, &s, &y, err));
    ps_status status;
    for (size_t i = 0; i < s.node.n_in; i++)
        in[i] = ctx->in[i];
    if (is_nhwc(ctx->node)) {
        channels_order(ctx->in[0]->shape.rank, false, perm);
        PS_TRY_OUT(permute(ctx, ctx->in[0], perm, &x, err));
        in[0] = &x;
    }
    PS_TRY_OUT(run_product(ctx, &s, in, ps_conv_ref, ctx->params, &product, err));
    if (is_nhwc(ctx->node)) PS_TRY_OUT(back_to_nhwc(ctx, &s, &product, err));
    status = finish(ctx, product, 1, ctx->n_in > 3 ? ctx->in[3] : NULL, &act, err);
out:
    ps_free(ctx->alloc, x.data);
    ps_free(ctx->alloc, product);
    return status;
}

/* ---- ConvTransposeWithDynamicPads ---- */

static const ps_attr_def deconv_attrs[] = {
    CONV_ATTRS,
    IN_STRUCT("output_padding", INTS, conv_params, conv.output_padding, 0, 0, NULL),
    PS_ATTRS_END,
};

/* Puts the pads of input 2 into a copy of the params, and takes the input out of the shadow: Conv's bias stands there.
 * *ret_known is false if they are not known yet. */
static ps_status deconv_shadow(const ps_facts *f, shadow *s, conv_params *p, int64_t pads[2 * PS_MAX_SPATIAL],
                               bool *ret_known, ps_error *err) {
    size_t n = 0;
    shadow_init(s, f->node);
    *p = *(const conv_params *)f->node->params;
    p->conv.output_shape = (ps_ints) { NULL, 0 };
    s->node.params = p;
    s->node.n_in = 3;
    *ret_known = true;
    if (ps_facts_has(f, 2)) {
        PS_TRY(ps_facts_ints(f, 2, "Pads", pads, 2 * PS_MAX_SPATIAL, &n, ret_known, err));
        if (*ret_known) p->conv.pads = (ps_ints) { pads, n };
    }
    s->in_list[2] = NULL;
    if (ps_has_in(f->node, 3)) {
        s->in[2] = *f->node->in[3];
        s->in_list[2] = &s->in[2];
    }
    return PS_OK;
}

static ps_status deconv_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    int64_t pads[2 * PS_MAX_SPATIAL];
    shadow s;
    conv_params p;
    bool known;
    PS_TRY(deconv_shadow(&f, &s, &p, pads, &known, err));
    PS_TRY(ps_deconv_infer(&s.node, err));
    if (!known)
        for (int d = 2; d < s.out.shape.rank; d++)
            s.out.shape.dims[d] = PS_DIM_UNKNOWN;
    ps_infer_set(node, 0, node->in[0]->dtype, &s.out.shape);
    return PS_OK;
}

static ps_status deconv_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    int64_t pads[2 * PS_MAX_SPATIAL];
    shadow s;
    conv_params p;
    bool known;
    PS_TRY(deconv_shadow(&f, &s, &p, pads, &known, err));
    PS_TRY(ps_deconv_infer(&s.node, err));
    PS_TRY(ps_kernel_output(ctx, 0, ctx->in[0]->dtype, &s.out.shape, err));
    const ps_tensor *in[] = { ctx->in[0], ctx->in[1], ctx->n_in > 3 ? ctx->in[3] : NULL };
    ps_kernel_ctx inner = { &s.node, &p, in, 3, ctx->out, 1, ctx->alloc, ctx->threads };
    return ps_deconv_ref(&inner, err);
}

#define MS "com.microsoft"
#define MATMUL(attrs) attrs, sizeof(matmul_params), matmul_infer, matmul_ref, 0
#define CONV(attrs) attrs, sizeof(conv_params), conv_infer, conv_ref, 0
static const ps_op ops[] = {
    { "FusedMatMul", MS, 1, 2, 2, 1, 1, MATMUL(matmul_attrs) },
    { "TransposeMatMul", MS, 1, 2, 2, 1, 1, MATMUL(matmul_attrs) },
    { "FusedMatMulActivation", MS, 1, 2, 2, 1, 1, MATMUL(matmul_activation_attrs) },
    { "GemmFastGelu", MS, 1, 2, 3, 1, 1, no_attrs, 0, matmul_infer, matmul_ref, 0 },
    { "FusedGemm", MS, 1, 2, 3, 1, 1, gemm_attrs, sizeof(gemm_params), gemm_infer, gemm_ref, 0 },
    { "FusedConv", MS, 1, 2, 4, 1, 1, CONV(conv_attrs) },
    { "NhwcFusedConv", MS, 1, 2, 4, 1, 1, CONV(conv_attrs) },
    { "NhwcConv", MS, 1, 2, 3, 1, 1, CONV(nhwc_attrs) },
    { "ConvTransposeWithDynamicPads", MS, 1, 2, 4, 1, 1, deconv_attrs, sizeof(conv_params), deconv_infer, deconv_ref,
      0 },
};
const ps_op_family ps_ops_contrib_product = PS_OP_FAMILY("contrib_product", ops);
