/* elementwise.c - arithmetic and elementary functions.
 *
 * Integers never trap: they wrap, and division by zero gives 0. Sums of several operands round after each one, as the
 * ONNX reference does. */
#include <math.h>
#include <tgmath.h>

#include "ops/kernel_util.h"
#include "ops/pointwise.h"
#include "tensor/convert.h"

/* ---- one input ---- */

#define UNARY_FLOAT(name, ...)                                                                                         \
    PS_PW_FLOATS(PS_PW_LOOP1, name, __VA_ARGS__)                                                                       \
    static ps_status name##_ref(const ps_kernel_ctx *ctx, ps_error *err) {                                             \
        static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, name) PS_PW_END };                                 \
        return ps_pw_run(ctx, loops, 1, 0, err);                                                                       \
    }

UNARY_FLOAT(sqrt, sqrt(x))
UNARY_FLOAT(reciprocal, 1 / x)
UNARY_FLOAT(exp, exp(x))
UNARY_FLOAT(log, log(x))
UNARY_FLOAT(erf, erf(x))
UNARY_FLOAT(floor, floor(x))
UNARY_FLOAT(ceil, ceil(x))
UNARY_FLOAT(round, rint(x)) /* the default rounding mode: ties to even */
UNARY_FLOAT(sin, sin(x))
UNARY_FLOAT(cos, cos(x))
UNARY_FLOAT(tan, tan(x))
UNARY_FLOAT(asin, asin(x))
UNARY_FLOAT(acos, acos(x))
UNARY_FLOAT(atan, atan(x))
UNARY_FLOAT(sinh, sinh(x))
UNARY_FLOAT(cosh, cosh(x))
UNARY_FLOAT(asinh, asinh(x))
UNARY_FLOAT(acosh, acosh(x))
UNARY_FLOAT(atanh, atanh(x))

#define NEG_INT(D, T, name, ...) PS_PW_LOOP1(D, T, name, (uint64_t)0 - (uint64_t)x)
#define ABS_INT(D, T, name, ...) PS_PW_LOOP1(D, T, name, x < 0 ? (uint64_t)0 - (uint64_t)x : (uint64_t)x)
#define KEEP_INT(D, T, name, ...) PS_PW_LOOP1(D, T, name, x)
#define NONZERO_INT(D, T, name, ...) PS_PW_LOOP1(D, T, name, x != 0)
PS_PW_FLOATS(PS_PW_LOOP1, neg, -x)
PS_PW_SIGNEDS(NEG_INT, neg)
PS_PW_FLOATS(PS_PW_LOOP1, abs, fabs(x))
PS_PW_SIGNEDS(ABS_INT, abs)
PS_PW_UNSIGNEDS(KEEP_INT, abs)
PS_PW_FLOATS(PS_PW_LOOP1, sign, isnan(x) ? x : (x > 0) - (x < 0))
PS_PW_SIGNEDS(PS_PW_LOOP1, sign, (x > 0) - (x < 0))
PS_PW_UNSIGNEDS(NONZERO_INT, sign)

static ps_status neg_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, neg) PS_PW_SIGNEDS(PS_PW_ROW, neg) PS_PW_END };
    return ps_pw_run(ctx, loops, 1, 0, err);
}

static ps_status abs_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, abs) PS_PW_INTS(PS_PW_ROW, abs) PS_PW_END };
    return ps_pw_run(ctx, loops, 1, 0, err);
}

static ps_status sign_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, sign) PS_PW_INTS(PS_PW_ROW, sign) PS_PW_END };
    return ps_pw_run(ctx, loops, 1, 0, err);
}

/* ---- two inputs ---- */

static ps_status infer_arithmetic(const ps_node *node, ps_error *err) {
    return ps_pw_infer_binary(node, PS_PW_NUMBER, PS_DTYPE_UNDEFINED, err);
}

/* Integers in 64 bits without sign, which wraps and never overflows; storing takes the low bits. */
#define WRAP(op) ((uint64_t)(x)op(uint64_t)(y))

/* Rounded toward zero; x / 0 is 0, and the one quotient that does not fit wraps. */
#define DIV_SIGNED(D, T, name, ...)                                                                                    \
    PS_PW_LOOP2(D, T, name, y == 0 ? 0 : y == -1 ? (T)((uint64_t)0 - (uint64_t)x) : (T)(x / y))
#define DIV_UNSIGNED(D, T, name, ...) PS_PW_LOOP2(D, T, name, y == 0 ? 0 : x / y)

PS_PW_FLOATS(PS_PW_LOOP2, add, x + y)
PS_PW_INTS(PS_PW_LOOP2, add, WRAP(+))
PS_PW_FLOATS(PS_PW_LOOP2, sub, x - y)
PS_PW_INTS(PS_PW_LOOP2, sub, WRAP(-))
PS_PW_FLOATS(PS_PW_LOOP2, mul, (x) * (y))
PS_PW_INTS(PS_PW_LOOP2, mul, WRAP(*))
PS_PW_FLOATS(PS_PW_LOOP2, div, x / y)
PS_PW_SIGNEDS(DIV_SIGNED, div)
PS_PW_UNSIGNEDS(DIV_UNSIGNED, div)
/* NaN wins, from either side. */
PS_PW_FLOATS(PS_PW_LOOP2, max, x > y || x != x ? x : y)
PS_PW_INTS(PS_PW_LOOP2, max, x > y ? x : y)
PS_PW_FLOATS(PS_PW_LOOP2, min, x < y || x != x ? x : y)
PS_PW_INTS(PS_PW_LOOP2, min, x < y ? x : y)

#define NUMBER_LOOPS(name)                                                                                             \
    static const ps_pw_loop name##_loops[] = { PS_PW_FLOATS(PS_PW_ROW, name) PS_PW_INTS(PS_PW_ROW, name) PS_PW_END };
NUMBER_LOOPS(add)
NUMBER_LOOPS(sub)
NUMBER_LOOPS(mul)
NUMBER_LOOPS(div)
NUMBER_LOOPS(max)
NUMBER_LOOPS(min)

#define BINARY(name)                                                                                                   \
    static ps_status name##_ref(const ps_kernel_ctx *ctx, ps_error *err) {                                             \
        return ps_pw_binary(ctx, name##_loops, err);                                                                   \
    }
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)

/* ---- Mod ---- */

typedef struct mod_params {
    int64_t fmod;
} mod_params;

static const ps_attr_def mod_attrs[] = { PS_A_INT(mod_params, fmod, 0), PS_ATTRS_END };

/* The remainder has the divisor's sign. x mod 0 is 0, and y == -1 is kept from the divider, which traps on INT_MIN. */
static int64_t floor_mod(int64_t x, int64_t y) {
    if (y == 0 || y == -1) return 0;
    const int64_t r = x % y;
    return r && (r < 0) != (y < 0) ? r + y : r;
}

/* The same of reals; a zero has the divisor's sign, and NaN goes through. */
static double floor_fmod(double x, double y) {
    const double r = fmod(x, y);
    if (r == 0) return copysign(0, y);
    return (r < 0) != (y < 0) ? r + y : r;
}

#define MOD_SIGNED(D, T, name, ...) PS_PW_LOOP2(D, T, name, floor_mod(x, y))
#define MOD_UNSIGNED(D, T, name, ...) PS_PW_LOOP2(D, T, name, y == 0 ? 0 : x % y)
#define TRUNC_MOD(D, T, name, ...) PS_PW_LOOP2(D, T, name, y == 0 || y == -1 ? 0 : x % y)
PS_PW_FLOATS(PS_PW_LOOP2, mod, floor_fmod((double)x, (double)y))
PS_PW_SIGNEDS(MOD_SIGNED, mod)
PS_PW_UNSIGNEDS(MOD_UNSIGNED, mod)
PS_PW_FLOATS(PS_PW_LOOP2, fmod, fmod(x, y))
PS_PW_SIGNEDS(TRUNC_MOD, fmod)
PS_PW_UNSIGNEDS(MOD_UNSIGNED, fmod)

static ps_status mod_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop floored[] = { PS_PW_FLOATS(PS_PW_ROW, mod) PS_PW_INTS(PS_PW_ROW, mod) PS_PW_END };
    static const ps_pw_loop truncated[] = { PS_PW_FLOATS(PS_PW_ROW, fmod) PS_PW_INTS(PS_PW_ROW, fmod) PS_PW_END };
    return ps_pw_binary(ctx, ((const mod_params *)ctx->params)->fmod ? truncated : floored, err);
}

/* ---- Pow: base and exponent may differ in type; the result has the base's ---- */

/* x^n by squaring, wrapping. n < 0: 1 / x^-n truncated, which is 0 but for x = ±1. */
static int64_t int_power(int64_t x, int64_t n) {
    if (n < 0) return x == 1 ? 1 : x == -1 ? (n & 1 ? -1 : 1) : 0;
    uint64_t result = 1;
    for (uint64_t base = (uint64_t)x; n; n >>= 1, base *= base)
        if (n & 1) result *= base;
    return (int64_t)result;
}

/* Truncated toward zero and saturated; NaN gives 0. */
static int64_t double_to_int(double v) {
    return isnan(v) ? 0 : v >= 9223372036854775807.0 ? INT64_MAX : v <= -9223372036854775808.0 ? INT64_MIN : (int64_t)v;
}

#define POW_SAME(D, T, name, ...) PS_PW_LOOP2(D, T, name, y == 2 ? x * x : pow(x, y))
PS_PW_FLOATS(POW_SAME, pow_same)

/* a^b for exponents widened to E (int64_t or double). */
#define POW_BODY(D, T, name, E, ...)                                                                                   \
    static void name##_##D(const ps_pw_span *span) {                                                                   \
        const T *a = span->in[0];                                                                                      \
        const E *b = span->in[1];                                                                                      \
        T *z = span->out;                                                                                              \
        for (int64_t i = 0; i < span->n; i++) {                                                                        \
            const T x = a[i * span->step[0]];                                                                          \
            const E y = b[i * span->step[1]];                                                                          \
            z[i] = (T)(__VA_ARGS__);                                                                                   \
        }                                                                                                              \
    }
PS_PW_FLOATS(POW_BODY, pow_int, int64_t, pow((double)x, (double)y))
PS_PW_INTS(POW_BODY, pow_int, int64_t, int_power((int64_t)x, y))
PS_PW_FLOATS(POW_BODY, pow_real, double, pow((double)x, y))
PS_PW_INTS(POW_BODY, pow_real, double, double_to_int(pow((double)x, y)))

static ps_status pow_mixed(const ps_kernel_ctx *ctx, const ps_tensor *exponent, ps_error *err) {
    static const ps_pw_loop by_int[] = { PS_PW_FLOATS(PS_PW_ROW, pow_int) PS_PW_INTS(PS_PW_ROW, pow_int) PS_PW_END };
    static const ps_pw_loop by_real[] = { PS_PW_FLOATS(PS_PW_ROW, pow_real) PS_PW_INTS(PS_PW_ROW, pow_real) PS_PW_END };
    const bool is_int = ps_dtype_is_int(exponent->dtype);
    const size_t n = ps_tensor_count(exponent);
    ps_tensor wide;
    ps_tensor_init_view(&wide, is_int ? PS_DTYPE_I64 : PS_DTYPE_F64, &exponent->shape,
                        ps_alloc_array(ctx->alloc, n, 8));
    if (!wide.data) return PS_FAIL_NOMEM(err, "the exponents of Pow");
    ps_convert(exponent->data, exponent->dtype, wide.data, wide.dtype, n, false);
    const ps_tensor *in[2] = { ctx->in[0], &wide };
    const ps_status status = ps_pw_run_tensors(ctx, is_int ? by_int : by_real, in, 2, 0, ctx->out[0], err);
    ps_free(ctx->alloc, wide.data);
    return status;
}

static ps_status pow_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop same[] = { PS_PW_FLOATS(PS_PW_ROW, pow_same) PS_PW_END };
    const ps_tensor *x = ctx->in[0], *y = ctx->in[1];
    if (x->dtype == y->dtype && ps_dtype_is_float(x->dtype)) return ps_pw_binary(ctx, same, err);
    ps_shape second;
    ps_tensor aligned;
    PS_TRY(ps_pw_second_shape(ctx->node, &x->shape, &y->shape, &second, err));
    ps_tensor_init_view(&aligned, y->dtype, &second, y->data);
    return pow_mixed(ctx, &aligned, err);
}

static ps_status infer_pow(const ps_node *node, ps_error *err) {
    ps_shape second, out;
    PS_TRY(ps_pw_check_types(node, 0, 1, PS_PW_NUMBER, err));
    PS_TRY(ps_pw_check_types(node, 1, 2, PS_PW_NUMBER, err));
    const ps_shape *a = &node->in[0]->shape;
    PS_TRY(ps_pw_second_shape(node, a, &node->in[1]->shape, &second, err));
    PS_NODE_FAIL_IF(!ps_shape_broadcast(a, &second, &out), node, err, SHAPE, "base and exponent do not broadcast");
    ps_infer_set(node, 0, node->in[0]->dtype, &out);
    return PS_OK;
}

/* ---- any number of inputs ---- */

PS_PW_FLOATS(PS_PW_LOOP1, copy, x)
PS_PW_INTS(PS_PW_LOOP1, copy, x)
NUMBER_LOOPS(copy)

/* out = in[0] broadcast, then out = f(out, in[k]) for the others. */
static ps_status fold(const ps_kernel_ctx *ctx, const ps_pw_loop *loops, ps_error *err) {
    PS_TRY(ps_pw_run(ctx, copy_loops, 1, 0, err));
    for (size_t k = 1; k < ctx->n_in; k++) {
        const ps_tensor *in[2] = { ctx->out[0], ctx->in[k] };
        PS_TRY(ps_pw_run_tensors(ctx, loops, in, 2, 0, ctx->out[0], err));
    }
    return PS_OK;
}

static ps_status max_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return fold(ctx, max_loops, err);
}

static ps_status min_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return fold(ctx, min_loops, err);
}

static ps_status sum_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return fold(ctx, add_loops, err);
}

/* The loops' argument is the number of operands. */
#define DIVIDE_BY_COUNT(D, T, name, ...) PS_PW_LOOP1(D, T, name, x / (T)(*(const size_t *)span->arg))
PS_PW_FLOATS(DIVIDE_BY_COUNT, mean)

static ps_status mean_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, mean) PS_PW_END };
    PS_TRY(sum_ref(ctx, err));
    ps_kernel_ctx divide = *ctx;
    divide.params = &ctx->n_in;
    const ps_tensor *in[1] = { ctx->out[0] };
    return ps_pw_run_tensors(&divide, loops, in, 1, 0, ctx->out[0], err);
}

/* ---- table ---- */

#define UNARY_TRAITS (PS_OP_POINTWISE | PS_OP_INPLACE)
#define LEGACY ps_pw_legacy_attrs, sizeof(ps_pw_legacy_params)
#define UNARY_ROW(name, infer, ref)                                                                                    \
    { name, "", 1, 1, 1, 1, 1, NULL, 0, infer, ref, UNARY_TRAITS }

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits */
    { "Add", "", 1, 2, 2, 1, 1, LEGACY, infer_arithmetic, add_ref, PS_OP_POINTWISE },
    { "Add", "", 7, 2, 2, 1, 1, NULL, 0, infer_arithmetic, add_ref, UNARY_TRAITS },
    { "Sub", "", 1, 2, 2, 1, 1, LEGACY, infer_arithmetic, sub_ref, PS_OP_POINTWISE },
    { "Sub", "", 7, 2, 2, 1, 1, NULL, 0, infer_arithmetic, sub_ref, UNARY_TRAITS },
    { "Mul", "", 1, 2, 2, 1, 1, LEGACY, infer_arithmetic, mul_ref, PS_OP_POINTWISE },
    { "Mul", "", 7, 2, 2, 1, 1, NULL, 0, infer_arithmetic, mul_ref, UNARY_TRAITS },
    { "Div", "", 1, 2, 2, 1, 1, LEGACY, infer_arithmetic, div_ref, PS_OP_POINTWISE },
    { "Div", "", 7, 2, 2, 1, 1, NULL, 0, infer_arithmetic, div_ref, UNARY_TRAITS },
    { "Pow", "", 1, 2, 2, 1, 1, LEGACY, infer_pow, pow_ref, PS_OP_POINTWISE },
    { "Pow", "", 7, 2, 2, 1, 1, NULL, 0, infer_pow, pow_ref, UNARY_TRAITS },
    { "Mod", "", 10, 2, 2, 1, 1, mod_attrs, sizeof(mod_params), infer_arithmetic, mod_ref, UNARY_TRAITS },
    /* not in place: an operand that stands twice in the list would be overwritten before its second use */
    { "Max", "", 1, 1, PS_VARIADIC, 1, 1, NULL, 0, ps_pw_infer_number, max_ref, PS_OP_POINTWISE },
    { "Min", "", 1, 1, PS_VARIADIC, 1, 1, NULL, 0, ps_pw_infer_number, min_ref, PS_OP_POINTWISE },
    { "Sum", "", 1, 1, PS_VARIADIC, 1, 1, NULL, 0, ps_pw_infer_float, sum_ref, PS_OP_POINTWISE },
    { "Mean", "", 1, 1, PS_VARIADIC, 1, 1, NULL, 0, ps_pw_infer_float, mean_ref, PS_OP_POINTWISE },
    UNARY_ROW("Neg", ps_pw_infer_signed, neg_ref),
    UNARY_ROW("Abs", ps_pw_infer_number, abs_ref),
    UNARY_ROW("Sign", ps_pw_infer_number, sign_ref),
    UNARY_ROW("Sqrt", ps_pw_infer_float, sqrt_ref),
    UNARY_ROW("Reciprocal", ps_pw_infer_float, reciprocal_ref),
    UNARY_ROW("Exp", ps_pw_infer_float, exp_ref),
    UNARY_ROW("Log", ps_pw_infer_float, log_ref),
    UNARY_ROW("Erf", ps_pw_infer_float, erf_ref),
    UNARY_ROW("Floor", ps_pw_infer_float, floor_ref),
    UNARY_ROW("Ceil", ps_pw_infer_float, ceil_ref),
    UNARY_ROW("Round", ps_pw_infer_float, round_ref),
    UNARY_ROW("Sin", ps_pw_infer_float, sin_ref),
    UNARY_ROW("Cos", ps_pw_infer_float, cos_ref),
    UNARY_ROW("Tan", ps_pw_infer_float, tan_ref),
    UNARY_ROW("Asin", ps_pw_infer_float, asin_ref),
    UNARY_ROW("Acos", ps_pw_infer_float, acos_ref),
    UNARY_ROW("Atan", ps_pw_infer_float, atan_ref),
    UNARY_ROW("Sinh", ps_pw_infer_float, sinh_ref),
    UNARY_ROW("Cosh", ps_pw_infer_float, cosh_ref),
    UNARY_ROW("Asinh", ps_pw_infer_float, asinh_ref),
    UNARY_ROW("Acosh", ps_pw_infer_float, acosh_ref),
    UNARY_ROW("Atanh", ps_pw_infer_float, atanh_ref),
};

const ps_op_family ps_ops_elementwise = PS_OP_FAMILY("elementwise", ops);
