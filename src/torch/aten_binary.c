/* Element-wise functions of two or three tensors. Operands are brought to the type that PyTorch's promotion gives. */
#include <string.h>

#include "torch/aten.h"

typedef struct pair {
    ps_value *a, *c;
    ps_dtype t;
} pair;

static void out(ps_tb *b, ps_value *v) {
    ps_tb_out(b, 0, v);
}

static ps_value *like(ps_tb *b, ps_value *x, double v) {
    return ps_tb_scalar(b, ps_tb_dtype(b, x), v);
}

static void cast_pair(ps_tb *b, pair *p, ps_dtype t) {
    p->t = t;
    p->a = ps_tb_cast(b, p->a, t);
    p->c = ps_tb_cast(b, p->c, t);
}

static pair promoted(ps_tb *b, const char *first, const char *second) {
    ps_torch_operand o[2] = { ps_tb_get(b, first), ps_tb_get(b, second) };
    pair p = { o[0].v, o[1].v, PS_DTYPE_UNDEFINED };
    cast_pair(b, &p, ps_tb_promote(b, o, 2));
    return p;
}

static pair self_other(ps_tb *b) {
    return promoted(b, ps_tb_has(b, "self") ? "self" : "input", "other");
}

static pair in_float(ps_tb *b) {
    pair p = self_other(b);
    cast_pair(b, &p, ps_torch_float_type(p.t));
    return p;
}

/* ---- arithmetic ---- */

static ps_value *times_alpha(ps_tb *b, ps_value *v) {
    double alpha = ps_tb_double(b, "alpha", 1);
    return alpha == 1 ? v : PS_OP(b, "Mul", v, like(b, v, alpha));
}

static void add(ps_tb *b) {
    pair p = self_other(b);
    out(b, p.t == PS_DTYPE_BOOL ? PS_OP(b, "Or", p.a, p.c) : PS_OP(b, "Add", p.a, times_alpha(b, p.c)));
}

static void sub(ps_tb *b) {
    pair p = self_other(b);
    out(b, PS_OP(b, "Sub", p.a, times_alpha(b, p.c)));
}

static void rsub(ps_tb *b) {
    pair p = self_other(b);
    out(b, PS_OP(b, "Sub", p.c, times_alpha(b, p.a)));
}

static void mul(ps_tb *b) {
    pair p = self_other(b);
    out(b, PS_OP(b, p.t == PS_DTYPE_BOOL ? "And" : "Mul", p.a, p.c));
}

static ps_value *truncated(ps_tb *b, ps_value *x) {
    return PS_OP(b, "Mul", PS_OP(b, "Sign", x), PS_OP(b, "Floor", PS_OP(b, "Abs", x)));
}

/* ONNX divides integers by cutting off; (a - a mod c) / c is floor division for either sign. */
ps_value *ps_torch_floordiv(ps_tb *b, ps_value *a, ps_value *c) {
    return PS_OP(b, "Div", PS_OP(b, "Sub", a, PS_OP(b, "Mod", a, c)), c);
}

static ps_value *divided(ps_tb *b, pair p, const char *mode) {
    bool whole = ps_dtype_is_int(p.t), down = strcmp(mode, "floor") == 0;
    if (whole) return down ? ps_torch_floordiv(b, p.a, p.c) : PS_OP(b, "Div", p.a, p.c);
    ps_value *q = PS_OP(b, "Div", p.a, p.c);
    return down ? PS_OP(b, "Floor", q) : truncated(b, q);
}

static void div_(ps_tb *b) {
    const char *mode = ps_tb_text(b, "rounding_mode", NULL);
    if (mode) {
        out(b, divided(b, self_other(b), mode));
        return;
    }
    pair p = in_float(b);
    out(b, PS_OP(b, "Div", p.a, p.c));
}

static void floor_divide(ps_tb *b) {
    out(b, divided(b, self_other(b), "floor"));
}

static void remainder_(ps_tb *b) {
    pair p = self_other(b);
    if (ps_dtype_is_int(p.t)) {
        out(b, PS_OP(b, "Mod", p.a, p.c));
        return;
    }
    ps_value *whole = PS_OP(b, "Floor", PS_OP(b, "Div", p.a, p.c));
    out(b, PS_OP(b, "Sub", p.a, PS_OP(b, "Mul", whole, p.c)));
}

static void fmod_(ps_tb *b) {
    pair p = self_other(b);
    ps_value *r = PS_OP(b, "Mod", p.a, p.c);
    ps_tb_set_int(b, "fmod", 1);
    out(b, r);
}

static void pow_(ps_tb *b) {
    double exponent;
    pair p = promoted(b, "self", "exponent");
    if (ps_tb_known(b, "exponent", &exponent) && exponent == 2)
        out(b, PS_OP(b, "Mul", p.a, p.a));
    else if (ps_tb_known(b, "exponent", &exponent) && exponent == 0.5 && ps_dtype_is_float(p.t))
        out(b, PS_OP(b, "Sqrt", p.a));
    else
        out(b, PS_OP(b, "Pow", p.a, p.c));
}

/* Max and Min of ONNX know no bool. */
static void extreme(ps_tb *b) {
    pair p = self_other(b);
    bool most = strcmp(b->op->onnx, "Max") == 0;
    out(b, PS_OP(b, p.t != PS_DTYPE_BOOL ? b->op->onnx : most ? "Or" : "And", p.a, p.c));
}

/* The other operand where one is NaN. */
static void extreme_of_numbers(ps_tb *b) {
    pair p = self_other(b);
    ps_value *r = PS_OP(b, b->op->onnx, p.a, p.c);
    if (ps_dtype_is_float(p.t)) {
        r = PS_OP(b, "Where", PS_OP(b, "IsNaN", p.a), p.c, r);
        r = PS_OP(b, "Where", PS_OP(b, "IsNaN", p.c), p.a, r);
    }
    out(b, r);
}

static void atan2_(ps_tb *b) {
    pair p = in_float(b); /* y, x */
    const double pi = 3.14159265358979323846;
    ps_value *zero = like(b, p.a, 0), *turn = like(b, p.a, pi);
    ps_value *left = PS_OP(b, "Less", p.c, zero), *below = PS_OP(b, "Less", p.a, zero);
    ps_value *shift = PS_OP(b, "Where", below, PS_OP(b, "Neg", turn), turn);
    ps_value *angle = PS_OP(b, "Atan", PS_OP(b, "Div", p.a, p.c));
    angle = PS_OP(b, "Where", left, PS_OP(b, "Add", angle, shift), angle);
    ps_value *origin = PS_OP(b, "And", PS_OP(b, "Equal", p.a, zero), PS_OP(b, "Equal", p.c, zero));
    out(b, PS_OP(b, "Where", origin, zero, angle));
}

static void hypot_(ps_tb *b) {
    pair p = in_float(b);
    out(b, PS_OP(b, "Sqrt", PS_OP(b, "Add", PS_OP(b, "Mul", p.a, p.a), PS_OP(b, "Mul", p.c, p.c))));
}

static void xlogy(ps_tb *b) {
    pair p = in_float(b);
    ps_value *zero = like(b, p.a, 0), *r = PS_OP(b, "Mul", p.a, PS_OP(b, "Log", p.c));
    r = PS_OP(b, "Where", PS_OP(b, "Equal", p.a, zero), zero, r);
    out(b, PS_OP(b, "Where", PS_OP(b, "IsNaN", p.c), p.c, r));
}

/* log(exp a + exp c) without overflow. */
static void logaddexp(ps_tb *b) {
    pair p = in_float(b);
    ps_value *gap = PS_OP(b, "Neg", PS_OP(b, "Abs", PS_OP(b, "Sub", p.a, p.c)));
    out(b, PS_OP(b, "Add", PS_OP(b, "Max", p.a, p.c), PS_OP(b, "Softplus", gap)));
}

/* ---- comparison and logic ---- */

static ps_value *compared(ps_tb *b, const char *op) {
    pair p = self_other(b);
    /* ONNX orders no bool. */
    if (p.t == PS_DTYPE_BOOL && strcmp(op, "Equal") != 0) cast_pair(b, &p, PS_DTYPE_I32);
    return PS_OP(b, op, p.a, p.c);
}

static void compare(ps_tb *b) {
    out(b, compared(b, b->op->onnx));
}

static void not_equal(ps_tb *b) {
    out(b, PS_OP(b, "Not", compared(b, "Equal")));
}

static void logical(ps_tb *b) {
    pair p = self_other(b);
    cast_pair(b, &p, PS_DTYPE_BOOL);
    out(b, PS_OP(b, b->op->onnx, p.a, p.c));
}

/* ->onnx is the name of the operator of bools; that of integers has a prefix. */
static void bitwise(ps_tb *b) {
    char name[32];
    pair p = self_other(b);
    ps_snprintf(name, sizeof name, "%s%s", p.t == PS_DTYPE_BOOL ? "" : "Bitwise", b->op->onnx);
    out(b, PS_OP(b, name, p.a, p.c));
}

/* BitShift of ONNX takes unsigned integers only: a product with, or a floor division by, a power of two. */
static void shift(ps_tb *b) {
    pair p = self_other(b);
    ps_value *power = PS_OP(b, "Pow", like(b, p.a, 2), p.c);
    out(b, strcmp(b->op->onnx, "left") == 0 ? PS_OP(b, "Mul", p.a, power) : ps_torch_floordiv(b, p.a, power));
}

/* ---- three operands ---- */

static void where(ps_tb *b) {
    ps_value *condition = ps_tb_cast(b, ps_tb_tensor(b, "condition"), PS_DTYPE_BOOL);
    if (!ps_tb_has(b, "self")) {
        PS_TB_FAIL(b, UNSUPPORTED, "%s: where with one argument is not supported; nonzero is", b->label);
        return;
    }
    pair p = promoted(b, "self", "other");
    out(b, PS_OP(b, "Where", condition, p.a, p.c));
}

static void masked_fill(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *mask = ps_tb_cast(b, ps_tb_tensor(b, "mask"), PS_DTYPE_BOOL);
    ps_torch_operand value = ps_tb_get(b, "value");
    out(b, PS_OP(b, "Where", mask, ps_tb_cast(b, value.v, ps_tb_dtype(b, x)), x));
}

static void lerp(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *gap = PS_OP(b, "Sub", ps_tb_tensor(b, "end"), x);
    ps_torch_operand w = ps_tb_get(b, "weight");
    out(b, PS_OP(b, "Add", x, PS_OP(b, "Mul", gap, ps_tb_cast(b, w.v, ps_tb_dtype(b, x)))));
}

/* self + value * tensor1 (* or /) tensor2 */
static void addc(ps_tb *b) {
    ps_torch_operand o[3] = { ps_tb_get(b, "self"), ps_tb_get(b, "tensor1"), ps_tb_get(b, "tensor2") };
    ps_dtype t = ps_tb_promote(b, o, 3);
    if (strcmp(b->op->onnx, "Div") == 0) t = ps_torch_float_type(t);
    for (size_t i = 0; i < 3; i++)
        o[i].v = ps_tb_cast(b, o[i].v, t);
    ps_value *r = PS_OP(b, b->op->onnx, o[1].v, o[2].v);
    double value = ps_tb_double(b, "value", 1);
    if (value != 1) r = PS_OP(b, "Mul", r, like(b, r, value));
    out(b, PS_OP(b, "Add", o[0].v, r));
}

static const ps_torch_op ops[] = {
    { "add", add, NULL, 0 },
    { "sub", sub, NULL, 0 },
    { "subtract", sub, NULL, 0 },
    { "rsub", rsub, NULL, 0 },
    { "mul", mul, NULL, 0 },
    { "multiply", mul, NULL, 0 },
    { "div", div_, NULL, 0 },
    { "divide", div_, NULL, 0 },
    { "true_divide", div_, NULL, 0 },
    { "floor_divide", floor_divide, NULL, 0 },
    { "remainder", remainder_, NULL, 0 },
    { "fmod", fmod_, NULL, 0 },
    { "pow", pow_, NULL, 0 },
    { "maximum", extreme, "Max", 0 },
    { "minimum", extreme, "Min", 0 },
    { "fmax", extreme_of_numbers, "Max", 0 },
    { "fmin", extreme_of_numbers, "Min", 0 },
    { "atan2", atan2_, NULL, 0 },
    { "arctan2", atan2_, NULL, 0 },
    { "hypot", hypot_, NULL, 0 },
    { "xlogy", xlogy, NULL, 0 },
    { "logaddexp", logaddexp, NULL, 0 },
    { "eq", compare, "Equal", 0 },
    { "ne", not_equal, NULL, 0 },
    { "not_equal", not_equal, NULL, 0 },
    { "lt", compare, "Less", 0 },
    { "less", compare, "Less", 0 },
    { "le", compare, "LessOrEqual", 0 },
    { "less_equal", compare, "LessOrEqual", 0 },
    { "gt", compare, "Greater", 0 },
    { "greater", compare, "Greater", 0 },
    { "ge", compare, "GreaterOrEqual", 0 },
    { "greater_equal", compare, "GreaterOrEqual", 0 },
    { "logical_and", logical, "And", 0 },
    { "logical_or", logical, "Or", 0 },
    { "logical_xor", logical, "Xor", 0 },
    { "bitwise_and", bitwise, "And", 0 },
    { "bitwise_or", bitwise, "Or", 0 },
    { "bitwise_xor", bitwise, "Xor", 0 },
    { "__and__", bitwise, "And", 0 },
    { "__or__", bitwise, "Or", 0 },
    { "__xor__", bitwise, "Xor", 0 },
    { "bitwise_left_shift", shift, "left", 0 },
    { "__lshift__", shift, "left", 0 },
    { "bitwise_right_shift", shift, "right", 0 },
    { "__rshift__", shift, "right", 0 },
    { "where", where, NULL, 0 },
    { "masked_fill", masked_fill, NULL, 0 },
    { "lerp", lerp, NULL, 0 },
    { "addcmul", addc, "Mul", 0 },
    { "addcdiv", addc, "Div", 0 },
};

const ps_torch_family ps_torch_binary = PS_TORCH_FAMILY("binary", ops);
