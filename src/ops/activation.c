/* activation.c - activation functions. Formulas: the ONNX operator specifications. NaN stays NaN. */
#include <float.h>
#include <math.h>
#include <tgmath.h>

#include "ops/kernel_util.h"
#include "ops/params.h"
#include "ops/pointwise.h"
#include "tensor/convert.h"

/* ---- functions of one value ----
 * Loops read attributes through span->arg, the node's params. */

#define ALPHA (((const ps_alpha_params *)span->arg)->alpha)
#define BETA (((const ps_alpha_params *)span->arg)->beta)

#define ACTIVATION(name, ...)                                                                                          \
    PS_PW_FLOATS(PS_PW_LOOP1, name, __VA_ARGS__)                                                                       \
    static ps_status name##_ref(const ps_kernel_ctx *ctx, ps_error *err) {                                             \
        static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, name) PS_PW_END };                                 \
        return ps_pw_run(ctx, loops, 1, 0, err);                                                                       \
    }

static inline float clamp01_F32(float x) {
    return x < 0 ? 0 : x > 1 ? 1 : x;
}
static inline double clamp01_F64(double x) {
    return x < 0 ? 0 : x > 1 ? 1 : x;
}
#define CLAMP01(v) _Generic((v), float : clamp01_F32, double : clamp01_F64)(v)
/* log(1 + e^x) without overflow, and without losing the small term. */
#define SOFTPLUS(x) (((x) > 0 ? (x) : 0) + log1p(exp(-fabs(x))))
#define SQRT_2_OVER_PI 0.79788456080286535588

ACTIVATION(leaky_relu, x < 0 ? ALPHA * x : x)
ACTIVATION(sigmoid, 1 / (1 + exp(-x)))
ACTIVATION(tanh, tanh(x))
ACTIVATION(hard_sigmoid, CLAMP01(BETA + ALPHA * x))
ACTIVATION(hard_swish, (x)*CLAMP01(x / 6 + (__typeof__(x))0.5))
ACTIVATION(elu, x < 0 ? ALPHA * expm1(x) : x)
ACTIVATION(celu, x < 0 ? ALPHA * expm1(x / ALPHA) : x)
ACTIVATION(thresholded_relu, x <= ALPHA ? 0 : x)
ACTIVATION(softplus, SOFTPLUS(x))
ACTIVATION(softsign, x / (1 + fabs(x)))
ACTIVATION(mish, (x)*tanh(SOFTPLUS(x)))
ACTIVATION(swish, x / (1 + exp(-ALPHA * x)))

static const ps_attr_def leaky_relu_attrs[] = { PS_A_FLOAT(ps_alpha_params, alpha, 0.01f), PS_ATTRS_END };
static const ps_attr_def alpha_one_attrs[] = { PS_A_FLOAT(ps_alpha_params, alpha, 1), PS_ATTRS_END };
static const ps_attr_def quick_gelu_attrs[] = { PS_A_FLOAT(ps_alpha_params, alpha, 1.702f), PS_ATTRS_END };
static const ps_attr_def hard_sigmoid_attrs[] = {
    PS_A_FLOAT(ps_alpha_params, alpha, 0.2f),
    PS_A_FLOAT(ps_alpha_params, beta, 0.5f),
    PS_ATTRS_END,
};

PS_PW_FLOATS(PS_PW_LOOP1, relu, x < 0 ? 0 : x)
PS_PW_SIGNEDS(PS_PW_LOOP1, relu, x < 0 ? 0 : x)

static ps_status relu_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, relu) PS_PW_SIGNEDS(PS_PW_ROW, relu) PS_PW_END };
    return ps_pw_run(ctx, loops, 1, 0, err);
}

/* ---- Selu ---- */

typedef struct selu_params {
    float alpha, gamma;
} selu_params;

#define SELU ((const selu_params *)span->arg)
ACTIVATION(selu, SELU->gamma *(x < 0 ? SELU->alpha * expm1(x) : x))

/* The defaults got more digits in opset 6. */
static const ps_attr_def selu1_attrs[] = {
    PS_A_FLOAT(selu_params, alpha, 1.6732f),
    PS_A_FLOAT(selu_params, gamma, 1.0507f),
    PS_ATTRS_END,
};
static const ps_attr_def selu_attrs[] = {
    PS_A_FLOAT(selu_params, alpha, 1.67326319217681884765625f),
    PS_A_FLOAT(selu_params, gamma, 1.05070102214813232421875f),
    PS_ATTRS_END,
};

/* ---- Shrink ---- */

typedef struct shrink_params {
    float bias, lambd;
} shrink_params;

#define SHRINK ((const shrink_params *)span->arg)
#define SHRINK_FLOAT(D, T, name, ...)                                                                                  \
    PS_PW_LOOP1(D, T, name, x<-SHRINK->lambd ? x + SHRINK->bias : x> SHRINK->lambd ? x - SHRINK->bias : 0 * x)
PS_PW_FLOATS(SHRINK_FLOAT, shrink)

/* Integers shrink as doubles, then truncate; what leaves the type's range stops at its end. */
static double shrink_whole(double x, const shrink_params *p, int bits, bool has_sign) {
    double low = has_sign ? -ldexp(1, bits - 1) : 0, high = ldexp(1, has_sign ? bits - 1 : bits);
    double bias = (double)p->bias, limit = (double)p->lambd;
    x = x < -limit ? x + bias : x > limit ? x - bias : 0;
    return x < low ? low : x >= high ? nextafter(high, 0) : x == x ? x : 0;
}

#define SHRINK_INT(D, T, name, ...)                                                                                    \
    PS_PW_LOOP1(D, T, name, shrink_whole((double)x, SHRINK, (int)sizeof(T) * 8, (T)-1 < 1))
PS_PW_INTS(SHRINK_INT, shrink)

static const ps_attr_def shrink_attrs[] = {
    PS_A_FLOAT(shrink_params, bias, 0),
    PS_A_FLOAT(shrink_params, lambd, 0.5f),
    PS_ATTRS_END,
};

static ps_status shrink_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, shrink) PS_PW_INTS(PS_PW_ROW, shrink) PS_PW_END };
    return ps_pw_run(ctx, loops, 1, 0, err);
}

/* ---- Gelu ---- */

ACTIVATION(gelu_erf, x / 2 * (1 + erf(x * (__typeof__(x))M_SQRT1_2)))
ACTIVATION(gelu_tanh, x / 2 * (1 + tanh((__typeof__(x))SQRT_2_OVER_PI * (x + (__typeof__(x))0.044715 * x * x * x))))

static const ps_attr_def gelu_attrs[] = { PS_A_STR(ps_gelu_params, approximate, "none"), PS_ATTRS_END };

static ps_status gelu_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_gelu_params *p = ctx->params;
    return strcmp(p->approximate, "tanh") == 0 ? gelu_tanh_ref(ctx, err) : gelu_erf_ref(ctx, err);
}

static ps_status infer_gelu(const ps_node *node, ps_error *err) {
    const char *how = ((const ps_gelu_params *)node->params)->approximate;
    PS_NODE_FAIL_IF(strcmp(how, "none") != 0 && strcmp(how, "tanh") != 0, node, err, FORMAT,
                    "approximate is '%s', not none or tanh", how);
    return ps_pw_infer_float(node, err);
}

/* ---- Clip: limits as attributes up to opset 6, as scalar inputs from 11 on. min > max gives max. ---- */

PS_PW_FLOATS(PS_PW_LOOP2, at_least, x < y ? y : x)
PS_PW_INTS(PS_PW_LOOP2, at_least, x < y ? y : x)
PS_PW_FLOATS(PS_PW_LOOP2, at_most, x > y ? y : x)
PS_PW_INTS(PS_PW_LOOP2, at_most, x > y ? y : x)

static const ps_pw_loop at_least_loops[] = { PS_PW_FLOATS(PS_PW_ROW, at_least) PS_PW_INTS(PS_PW_ROW, at_least)
                                                 PS_PW_END };
static const ps_pw_loop at_most_loops[] = { PS_PW_FLOATS(PS_PW_ROW, at_most) PS_PW_INTS(PS_PW_ROW, at_most) PS_PW_END };

/* lo and hi: one element each, or NULL. */
static ps_status clip(const ps_kernel_ctx *ctx, const ps_tensor *lo, const ps_tensor *hi, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    ps_tensor *z = ctx->out[0];
    const ps_shape scalar = { 0 };
    const ps_pw_loop *loops[2] = { at_least_loops, at_most_loops };
    const ps_tensor *limits[2] = { lo, hi };
    for (int k = 0; k < 2; k++) {
        if (!limits[k]) continue;
        ps_tensor limit;
        ps_tensor_init_view(&limit, limits[k]->dtype, &scalar, limits[k]->data);
        const ps_tensor *in[2] = { x, &limit };
        PS_TRY(ps_pw_run_tensors(ctx, loops[k], in, 2, 0, z, err));
        x = z;
    }
    if (x != z && z->bytes && z->data != x->data) memcpy(z->data, x->data, z->bytes);
    return PS_OK;
}

static ps_status clip6_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_clip_params *p = ctx->params;
    const ps_shape scalar = { 0 };
    uint64_t storage[2];
    ps_tensor limits[2];
    for (int k = 0; k < 2; k++) {
        ps_convert(k ? &p->max : &p->min, PS_DTYPE_F32, &storage[k], ctx->in[0]->dtype, 1, false);
        ps_tensor_init_view(&limits[k], ctx->in[0]->dtype, &scalar, &storage[k]);
    }
    return clip(ctx, &limits[0], &limits[1], err);
}

static ps_status clip11_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return clip(ctx, ctx->n_in > 1 ? ctx->in[1] : NULL, ctx->n_in > 2 ? ctx->in[2] : NULL, err);
}

static ps_status infer_clip11(const ps_node *node, ps_error *err) {
    int64_t n;
    PS_TRY(ps_pw_check_types(node, 0, node->n_in, PS_PW_NUMBER, err));
    for (size_t i = 1; i < node->n_in; i++)
        PS_NODE_FAIL_IF(ps_has_in(node, i) && ps_shape_elements(&node->in[i]->shape, &n) && n != 1, node, err, SHAPE,
                        "the limit in input %zu has %lld elements, not one", i, (long long)n);
    return ps_infer_same(node, err);
}

static const ps_attr_def clip_attrs[] = {
    PS_A_FLOAT(ps_clip_params, min, -FLT_MAX),
    PS_A_FLOAT(ps_clip_params, max, FLT_MAX),
    PS_ATTRS_END,
};

/* ---- PRelu: up to opset 6 a slope of one dim belongs to axis 1 ---- */

PS_PW_FLOATS(PS_PW_LOOP2, prelu, x < 0 ? x * y : x)
PS_PW_SIGNEDS(PS_PW_LOOP2, prelu, x < 0 ? (uint64_t)x * (uint64_t)y : (uint64_t)x)
#define PRELU_UNSIGNED(D, T, name, ...) PS_PW_LOOP2(D, T, name, ((void)y, x)) /* never negative */
PS_PW_UNSIGNEDS(PRELU_UNSIGNED, prelu)

static ps_shape slope_shape(const ps_node *node, const ps_shape *x, const ps_shape *slope) {
    ps_shape s = *slope;
    if (node->op->since >= 7 || s.rank != 1 || x->rank < 2) return s;
    s.rank = x->rank - 1;
    for (int d = 1; d < s.rank; d++)
        s.dims[d] = 1;
    return s;
}

static ps_status infer_prelu(const ps_node *node, ps_error *err) {
    PS_TRY(ps_pw_check_types(node, 0, 2, PS_PW_NUMBER, err));
    const ps_shape *x = &node->in[0]->shape;
    const ps_shape slope = slope_shape(node, x, &node->in[1]->shape);
    ps_shape both;
    char text[2][96];
    const bool fits = ps_shape_broadcast(x, &slope, &both) && (x->rank < 0 || both.rank < 0 || both.rank == x->rank) &&
                      (!ps_shape_fixed(x) || !ps_shape_fixed(&both) || ps_shape_equal(x, &both));
    PS_NODE_FAIL_IF(!fits, node, err, SHAPE, "slope %s does not broadcast to input %s",
                    ps_shape_text(&slope, text[0], sizeof text[0]), ps_shape_text(x, text[1], sizeof text[1]));
    return ps_infer_same(node, err);
}

static ps_status prelu_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, prelu) PS_PW_INTS(PS_PW_ROW, prelu) PS_PW_END };
    const ps_shape shape = slope_shape(ctx->node, &ctx->in[0]->shape, &ctx->in[1]->shape);
    ps_tensor slope;
    ps_tensor_init_view(&slope, ctx->in[1]->dtype, &shape, ctx->in[1]->data);
    const ps_tensor *in[2] = { ctx->in[0], &slope };
    return ps_pw_run_tensors(ctx, loops, in, 2, 0, ctx->out[0], err);
}

/* ---- table ---- */

#define TRAITS (PS_OP_POINTWISE | PS_OP_INPLACE)
#define PLAIN(name, since, infer, ref)                                                                                 \
    { name, "", since, 1, 1, 1, 1, NULL, 0, infer, ref, TRAITS }
#define WITH_ALPHA(name, domain, since, attrs, ref)                                                                    \
    { name, domain, since, 1, 1, 1, 1, attrs, sizeof(ps_alpha_params), ps_pw_infer_float, ref, TRAITS }

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits */
    PLAIN("Relu", 1, ps_pw_infer_signed, relu_ref),
    WITH_ALPHA("LeakyRelu", "", 1, leaky_relu_attrs, leaky_relu_ref),
    PLAIN("Sigmoid", 1, ps_pw_infer_float, sigmoid_ref),
    PLAIN("Tanh", 1, ps_pw_infer_float, tanh_ref),
    WITH_ALPHA("HardSigmoid", "", 1, hard_sigmoid_attrs, hard_sigmoid_ref),
    PLAIN("HardSwish", 14, ps_pw_infer_float, hard_swish_ref),
    WITH_ALPHA("Elu", "", 1, alpha_one_attrs, elu_ref),
    WITH_ALPHA("Celu", "", 12, alpha_one_attrs, celu_ref),
    WITH_ALPHA("ThresholdedRelu", "", 1, alpha_one_attrs, thresholded_relu_ref),
    { "Selu", "", 1, 1, 1, 1, 1, selu1_attrs, sizeof(selu_params), ps_pw_infer_float, selu_ref, TRAITS },
    { "Selu", "", 6, 1, 1, 1, 1, selu_attrs, sizeof(selu_params), ps_pw_infer_float, selu_ref, TRAITS },
    PLAIN("Softplus", 1, ps_pw_infer_float, softplus_ref),
    PLAIN("Softsign", 1, ps_pw_infer_float, softsign_ref),
    { "Shrink", "", 9, 1, 1, 1, 1, shrink_attrs, sizeof(shrink_params), ps_pw_infer_number, shrink_ref, TRAITS },
    PLAIN("Mish", 18, ps_pw_infer_float, mish_ref),
    WITH_ALPHA("Swish", "", 24, alpha_one_attrs, swish_ref),
    { "Gelu", "", 20, 1, 1, 1, 1, gelu_attrs, sizeof(ps_gelu_params), infer_gelu, gelu_ref, TRAITS },
    { "Gelu", "com.microsoft", 1, 1, 1, 1, 1, NULL, 0, ps_pw_infer_float, gelu_erf_ref, TRAITS },
    WITH_ALPHA("QuickGelu", "com.microsoft", 1, quick_gelu_attrs, swish_ref),
    { "Clip", "", 1, 1, 1, 1, 1, clip_attrs, sizeof(ps_clip_params), ps_pw_infer_number, clip6_ref, TRAITS },
    { "Clip", "", 11, 1, 3, 1, 1, NULL, 0, infer_clip11, clip11_ref, TRAITS },
    { "PRelu", "", 1, 2, 2, 1, 1, NULL, 0, infer_prelu, prelu_ref, PS_OP_POINTWISE },
    { "PRelu", "", 7, 2, 2, 1, 1, NULL, 0, infer_prelu, prelu_ref, TRAITS },
};

const ps_op_family ps_ops_activation = PS_OP_FAMILY("activation", ops);
