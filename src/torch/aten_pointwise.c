/* Element-wise functions of one tensor. Integers become floating where PyTorch does that. */
#include <math.h>
#include <string.h>

#include "torch/aten.h"

static const double LN2 = 0.69314718055994530942, LN10 = 2.30258509299404568402, PI = 3.14159265358979323846;

static void out(ps_tb *b, ps_value *v) {
    ps_tb_out(b, 0, v);
}

/* A number of x's type. */
static ps_value *like(ps_tb *b, ps_value *x, double v) {
    return ps_tb_scalar(b, ps_tb_dtype(b, x), v);
}

static bool is_float(ps_tb *b, ps_value *x) {
    return ps_dtype_is_float(ps_tb_dtype(b, x));
}

/* ---- one operator ---- */

static void same_type(ps_tb *b) {
    out(b, PS_OP(b, b->op->onnx, ps_tb_self(b)));
}

static void in_float(ps_tb *b) {
    out(b, PS_OP(b, b->op->onnx, ps_tb_float_self(b)));
}

/* floor, ceil: an integer is its own. */
static void rounding(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, is_float(b, x) ? PS_OP(b, b->op->onnx, x) : x);
}

static void identity(ps_tb *b) {
    out(b, ps_tb_self(b));
}

/* ---- compositions ---- */

static void rsqrt(ps_tb *b) {
    out(b, PS_OP(b, "Reciprocal", PS_OP(b, "Sqrt", ps_tb_float_self(b))));
}

static void square(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, PS_OP(b, "Mul", x, x));
}

static void exp2_(ps_tb *b) {
    ps_value *x = ps_tb_float_self(b);
    out(b, PS_OP(b, "Exp", PS_OP(b, "Mul", x, like(b, x, LN2))));
}

static void expm1_(ps_tb *b) {
    ps_value *e = PS_OP(b, "Exp", ps_tb_float_self(b));
    out(b, PS_OP(b, "Sub", e, like(b, e, 1)));
}

static void log2_(ps_tb *b) {
    ps_value *l = PS_OP(b, "Log", ps_tb_float_self(b));
    out(b, PS_OP(b, "Div", l, like(b, l, LN2)));
}

static void log10_(ps_tb *b) {
    ps_value *l = PS_OP(b, "Log", ps_tb_float_self(b));
    out(b, PS_OP(b, "Div", l, like(b, l, LN10)));
}

static void log1p_(ps_tb *b) {
    ps_value *x = ps_tb_float_self(b);
    out(b, PS_OP(b, "Log", PS_OP(b, "Add", x, like(b, x, 1))));
}

static void erfc_(ps_tb *b) {
    ps_value *e = PS_OP(b, "Erf", ps_tb_float_self(b));
    out(b, PS_OP(b, "Sub", like(b, e, 1), e));
}

static ps_value *truncated(ps_tb *b, ps_value *x) {
    return PS_OP(b, "Mul", PS_OP(b, "Sign", x), PS_OP(b, "Floor", PS_OP(b, "Abs", x)));
}

static void trunc_(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, is_float(b, x) ? truncated(b, x) : x);
}

static void frac(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, PS_OP(b, "Sub", x, truncated(b, x)));
}

static void round_(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t decimals = ps_tb_int(b, "decimals", 0);
    if (!is_float(b, x)) {
        out(b, x);
    } else if (!decimals) {
        out(b, PS_OP(b, "Round", x));
    } else {
        ps_value *factor = like(b, x, pow(10, (double)decimals));
        out(b, PS_OP(b, "Div", PS_OP(b, "Round", PS_OP(b, "Mul", x, factor)), factor));
    }
}

static void scaled(ps_tb *b, double factor) {
    ps_value *x = ps_tb_float_self(b);
    out(b, PS_OP(b, "Mul", x, like(b, x, factor)));
}

static void deg2rad(ps_tb *b) {
    scaled(b, PI / 180);
}

static void rad2deg(ps_tb *b) {
    scaled(b, 180 / PI);
}

static void logit(ps_tb *b) {
    ps_value *x = ps_tb_float_self(b);
    double eps;
    if (ps_tb_known(b, "eps", &eps)) x = PS_OP(b, "Clip", x, like(b, x, eps), like(b, x, 1 - eps));
    out(b, PS_OP(b, "Log", PS_OP(b, "Div", x, PS_OP(b, "Sub", like(b, x, 1), x))));
}

/* ---- logic ---- */

static void logical_not(ps_tb *b) {
    out(b, PS_OP(b, "Not", ps_tb_cast(b, ps_tb_self(b), PS_DTYPE_BOOL)));
}

static void bitwise_not(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, PS_OP(b, ps_tb_dtype(b, x) == PS_DTYPE_BOOL ? "Not" : "BitwiseNot", x));
}

/* x of a floating type: integers are neither NaN nor infinite. */
static ps_value *infinite(ps_tb *b, ps_value *x, bool negative, bool positive) {
    ps_value *r = PS_OP(b, "IsInf", x);
    ps_tb_set_int(b, "detect_negative", negative);
    ps_tb_set_int(b, "detect_positive", positive);
    return r;
}

static void isinf_(ps_tb *b) {
    const char *name = b->op->name;
    out(b, infinite(b, ps_tb_float_self(b), strcmp(name, "isposinf") != 0, strcmp(name, "isneginf") != 0));
}

static void isfinite_(ps_tb *b) {
    ps_value *x = ps_tb_float_self(b);
    out(b, PS_OP(b, "Not", PS_OP(b, "Or", PS_OP(b, "IsNaN", x), infinite(b, x, true, true))));
}

static void nan_to_num(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    ps_dtype t = ps_tb_dtype(b, x);
    if (!is_float(b, x)) {
        out(b, x);
        return;
    }
    double largest = t == PS_DTYPE_F16 ? 65504 : t == PS_DTYPE_F64 ? 1.7976931348623157e308 : 3.4028234663852886e38;
    ps_value *nan = like(b, x, ps_tb_double(b, "nan", 0)), *high = like(b, x, ps_tb_double(b, "posinf", largest)),
             *low = like(b, x, ps_tb_double(b, "neginf", -largest));
    ps_value *r = PS_OP(b, "Where", PS_OP(b, "IsNaN", x), nan, x);
    r = PS_OP(b, "Where", infinite(b, x, false, true), high, r);
    out(b, PS_OP(b, "Where", infinite(b, x, true, false), low, r));
}

/* ---- activations ---- */

ps_value *ps_torch_gelu(ps_tb *b, ps_value *x, const char *approximate) {
    ps_value *r = PS_OP(b, "Gelu", x);
    ps_tb_set_text(b, "approximate", approximate);
    return r;
}

static void gelu(ps_tb *b) {
    out(b, ps_torch_gelu(b, ps_tb_self(b), ps_tb_text(b, "approximate", "none")));
}

static void silu(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, PS_OP(b, "Mul", x, PS_OP(b, "Sigmoid", x)));
}

static void with_alpha(ps_tb *b, const char *argument, double def) {
    ps_value *r = PS_OP(b, b->op->onnx, ps_tb_self(b));
    ps_tb_set_float(b, "alpha", ps_tb_double(b, argument, def));
    out(b, r);
}

static void leaky_relu(ps_tb *b) {
    with_alpha(b, "negative_slope", 0.01);
}

static void celu(ps_tb *b) {
    with_alpha(b, "alpha", 1);
}

static void rrelu(ps_tb *b) {
    if (ps_tb_bool(b, "training", false)) PS_TB_FAIL(b, UNSUPPORTED, "%s: is in training mode", b->label);
    ps_value *r = PS_OP(b, "LeakyRelu", ps_tb_self(b));
    ps_tb_set_float(b, "alpha", (ps_tb_double(b, "lower", 0.125) + ps_tb_double(b, "upper", 1.0 / 3)) / 2);
    out(b, r);
}

static void elu(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    double scale = ps_tb_double(b, "scale", 1), inner = ps_tb_double(b, "input_scale", 1);
    /* scale * max(0, x) + scale * alpha * min(0, exp(inner x) - 1): inner concerns the negative side alone */
    if (inner != 1) {
        ps_value *e = PS_OP(b, "Exp", PS_OP(b, "Mul", x, like(b, x, inner)));
        ps_value *low = PS_OP(b, "Mul", PS_OP(b, "Sub", e, like(b, x, 1)), like(b, x, ps_tb_double(b, "alpha", 1)));
        x = PS_OP(b, "Where", PS_OP(b, "Greater", x, like(b, x, 0)), x, low);
    } else {
        x = PS_OP(b, "Elu", x);
        ps_tb_set_float(b, "alpha", ps_tb_double(b, "alpha", 1));
    }
    out(b, scale == 1 ? x : PS_OP(b, "Mul", x, like(b, x, scale)));
}

static void hardsigmoid(ps_tb *b) {
    ps_value *r = PS_OP(b, "HardSigmoid", ps_tb_self(b));
    ps_tb_set_float(b, "alpha", 1.0 / 6);
    ps_tb_set_float(b, "beta", 0.5);
    out(b, r);
}

static void softplus(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    double beta = ps_tb_double(b, "beta", 1), threshold = ps_tb_double(b, "threshold", 20);
    ps_value *scaled_x = beta == 1 ? x : PS_OP(b, "Mul", x, like(b, x, beta));
    ps_value *r = PS_OP(b, "Softplus", scaled_x);
    if (beta != 1) r = PS_OP(b, "Div", r, like(b, x, beta));
    /* Above 20 the two are the same number in f32. */
    if (threshold < 20) r = PS_OP(b, "Where", PS_OP(b, "Greater", scaled_x, like(b, x, threshold)), x, r);
    out(b, r);
}

static void log_sigmoid(ps_tb *b) {
    out(b, PS_OP(b, "Neg", PS_OP(b, "Softplus", PS_OP(b, "Neg", ps_tb_self(b)))));
}

static void shrink(ps_tb *b) {
    double lambd = ps_tb_double(b, "lambd", 0.5);
    ps_value *r = PS_OP(b, "Shrink", ps_tb_self(b));
    ps_tb_set_float(b, "lambd", lambd);
    ps_tb_set_float(b, "bias", strcmp(b->op->name, "softshrink") == 0 ? lambd : 0);
    out(b, r);
}

static void threshold(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    ps_value *above = PS_OP(b, "Greater", x, like(b, x, ps_tb_double(b, "threshold", 0)));
    out(b, PS_OP(b, "Where", above, x, like(b, x, ps_tb_double(b, "value", 0))));
}

/* The slope is one number, or one a channel. */
static void prelu(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *w = ps_tb_tensor(b, "weight");
    int rank = ps_tb_rank(b, x);
    int64_t dims[PS_MAX_RANK];
    if (b->status == PS_OK && ps_tb_rank(b, w) == 1 && rank > 2 && ps_tb_dim(b, w, 0) != 1) {
        for (int i = 0; i < rank - 1; i++)
            dims[i] = i ? 1 : -1;
        w = ps_tb_reshape_to(b, w, dims, (size_t)rank - 1);
    }
    out(b, PS_OP(b, "PRelu", x, w));
}

static void tanhshrink(ps_tb *b) {
    ps_value *x = ps_tb_float_self(b);
    out(b, PS_OP(b, "Sub", x, PS_OP(b, "Tanh", x)));
}

static void glu(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *half[2];
    int64_t axis = ps_tb_axis(b, "dim", -1, ps_tb_rank(b, x));
    ps_tb_emit_n(b, "Split", &x, 1, half, 2);
    ps_tb_set_int(b, "axis", axis);
    ps_tb_set_int(b, "num_outputs", 2);
    out(b, PS_OP(b, "Mul", half[0], PS_OP(b, "Sigmoid", half[1])));
}

/* ---- limits ---- */

static void between(ps_tb *b, double low, double high) {
    ps_value *x = ps_tb_self(b);
    out(b, PS_OP(b, "Clip", x, like(b, x, low), like(b, x, high)));
}

static void relu6(ps_tb *b) {
    between(b, 0, 6);
}

static void hardtanh(ps_tb *b) {
    between(b, ps_tb_double(b, "min_val", -1), ps_tb_double(b, "max_val", 1));
}

/* Bounds are numbers, tensors or absent; all are promoted together. The upper one wins where they cross. */
static void clamp(ps_tb *b) {
    ps_torch_operand o[3] = { ps_tb_as_operand(ps_tb_self(b)) };
    for (size_t i = 1; i < 3; i++) {
        const char *name = i == 1 ? "min" : "max";
        if (ps_tb_has(b, name)) o[i] = ps_tb_get(b, name);
    }
    ps_dtype t = ps_tb_promote(b, o, 3);
    for (size_t i = 0; i < 3; i++)
        o[i].v = ps_tb_cast(b, o[i].v, t);
    bool plain = (!o[1].v || o[1].number) && (!o[2].v || o[2].number);
    if (plain) {
        out(b, PS_OP(b, "Clip", o[0].v, o[1].v, o[2].v));
        return;
    }
    ps_value *r = o[0].v;
    if (o[1].v) r = PS_OP(b, "Max", r, o[1].v);
    if (o[2].v) r = PS_OP(b, "Min", r, o[2].v);
    out(b, r);
}

/* Dropout in inference. */
static void dropout(ps_tb *b) {
    if (ps_tb_bool(b, "train", false))
        PS_TB_FAIL(b, UNSUPPORTED, "%s: is in training mode: call model.eval() before torch.export", b->label);
    identity(b);
}

static const ps_torch_op ops[] = {
    { "abs", same_type, "Abs", 0 },
    { "neg", same_type, "Neg", 0 },
    { "negative", same_type, "Neg", 0 },
    { "sign", same_type, "Sign", 0 },
    { "sgn", same_type, "Sign", 0 },
    { "relu", same_type, "Relu", 0 },
    { "hardswish", same_type, "HardSwish", 0 },
    { "selu", same_type, "Selu", 0 },
    { "mish", same_type, "Mish", 0 },
    { "sigmoid", in_float, "Sigmoid", 0 },
    { "tanh", in_float, "Tanh", 0 },
    { "exp", in_float, "Exp", 0 },
    { "log", in_float, "Log", 0 },
    { "sqrt", in_float, "Sqrt", 0 },
    { "reciprocal", in_float, "Reciprocal", 0 },
    { "sin", in_float, "Sin", 0 },
    { "cos", in_float, "Cos", 0 },
    { "tan", in_float, "Tan", 0 },
    { "asin", in_float, "Asin", 0 },
    { "acos", in_float, "Acos", 0 },
    { "atan", in_float, "Atan", 0 },
    { "sinh", in_float, "Sinh", 0 },
    { "cosh", in_float, "Cosh", 0 },
    { "asinh", in_float, "Asinh", 0 },
    { "acosh", in_float, "Acosh", 0 },
    { "atanh", in_float, "Atanh", 0 },
    { "erf", in_float, "Erf", 0 },
    { "special_erf", in_float, "Erf", 0 },
    { "isnan", in_float, "IsNaN", 0 },
    { "softsign", in_float, "Softsign", 0 },
    { "floor", rounding, "Floor", 0 },
    { "ceil", rounding, "Ceil", 0 },
    { "rsqrt", rsqrt, NULL, 0 },
    { "square", square, NULL, 0 },
    { "exp2", exp2_, NULL, 0 },
    { "special_exp2", exp2_, NULL, 0 },
    { "expm1", expm1_, NULL, 0 },
    { "log2", log2_, NULL, 0 },
    { "log10", log10_, NULL, 0 },
    { "log1p", log1p_, NULL, 0 },
    { "erfc", erfc_, NULL, 0 },
    { "trunc", trunc_, NULL, 0 },
    { "fix", trunc_, NULL, 0 },
    { "frac", frac, NULL, 0 },
    { "round", round_, NULL, 0 },
    { "deg2rad", deg2rad, NULL, 0 },
    { "rad2deg", rad2deg, NULL, 0 },
    { "logit", logit, NULL, 0 },
    { "logical_not", logical_not, NULL, 0 },
    { "bitwise_not", bitwise_not, NULL, 0 },
    { "isinf", isinf_, NULL, 0 },
    { "isposinf", isinf_, NULL, 0 },
    { "isneginf", isinf_, NULL, 0 },
    { "isfinite", isfinite_, NULL, 0 },
    { "nan_to_num", nan_to_num, NULL, 0 },
    { "gelu", gelu, NULL, 0 },
    { "silu", silu, NULL, 0 },
    { "leaky_relu", leaky_relu, "LeakyRelu", 0 },
    { "celu", celu, "Celu", 0 },
    { "rrelu", rrelu, NULL, 0 },
    { "rrelu_with_noise", rrelu, NULL, 0 },
    { "rrelu_with_noise_functional", rrelu, NULL, 0 },
    { "elu", elu, NULL, 0 },
    { "hardsigmoid", hardsigmoid, NULL, 0 },
    { "softplus", softplus, NULL, 0 },
    { "log_sigmoid", log_sigmoid, NULL, 0 },
    { "log_sigmoid_forward", log_sigmoid, NULL, 0 },
    { "hardshrink", shrink, NULL, 0 },
    { "softshrink", shrink, NULL, 0 },
    { "threshold", threshold, NULL, 0 },
    { "prelu", prelu, NULL, 0 },
    { "_prelu_kernel", prelu, NULL, 0 },
    { "tanhshrink", tanhshrink, NULL, 0 },
    { "glu", glu, NULL, 0 },
    { "relu6", relu6, NULL, 0 },
    { "hardtanh", hardtanh, NULL, 0 },
    { "clamp", clamp, NULL, 0 },
    { "clip", clamp, NULL, 0 },
    { "clamp_min", clamp, NULL, 0 },
    { "clamp_max", clamp, NULL, 0 },
    { "dropout", dropout, NULL, PS_TORCH_VIEW },
    { "native_dropout", dropout, NULL, 0 },
    { "alpha_dropout", dropout, NULL, PS_TORCH_VIEW },
    { "feature_dropout", dropout, NULL, PS_TORCH_VIEW },
    { "feature_alpha_dropout", dropout, NULL, PS_TORCH_VIEW },
};

const ps_torch_family ps_torch_pointwise = PS_TORCH_FAMILY("pointwise", ops);
