/* logic.c - comparisons, boolean and bitwise operators, Where. Bools are bytes 0 and 1. */
#include <math.h>

#include "ops/kernel_util.h"
#include "ops/pointwise.h"
#include "tensor/convert.h"

/* ---- comparisons ---- */

#define COMPARISON(name, ...)                                                                                          \
    PS_PW_FLOATS(PS_PW_LOOP2_BOOL, name, __VA_ARGS__)                                                                  \
    PS_PW_INTS(PS_PW_LOOP2_BOOL, name, __VA_ARGS__)                                                                    \
    static const ps_pw_loop name##_loops[] = { PS_PW_FLOATS(PS_PW_ROW, name) PS_PW_INTS(PS_PW_ROW, name) PS_PW_END };

COMPARISON(less, x < y)
COMPARISON(greater, x > y)
COMPARISON(less_equal, x <= y)
COMPARISON(greater_equal, x >= y)

PS_PW_FLOATS(PS_PW_LOOP2_BOOL, equal, x == y)
PS_PW_INTS(PS_PW_LOOP2_BOOL, equal, x == y)

static void equal_strings(const ps_pw_span *span) {
    const ps_string *a = span->in[0], *b = span->in[1];
    uint8_t *z = span->out;
    for (int64_t i = 0; i < span->n; i++) {
        const ps_string *x = &a[i * span->step[0]], *y = &b[i * span->step[1]];
        z[i] = x->size == y->size && (x->size == 0 || memcmp(x->data, y->data, x->size) == 0);
    }
}

static const ps_pw_loop equal_loops[] = { PS_PW_FLOATS(PS_PW_ROW, equal)
                                              PS_PW_INTS(PS_PW_ROW, equal) { PS_DTYPE_BOOL, equal_U8 },
                                          { PS_DTYPE_STRING, equal_strings },
                                          PS_PW_END };

#define BINARY_REF(name)                                                                                               \
    static ps_status name##_ref(const ps_kernel_ctx *ctx, ps_error *err) {                                             \
        return ps_pw_binary(ctx, name##_loops, err);                                                                   \
    }
BINARY_REF(less)
BINARY_REF(greater)
BINARY_REF(less_equal)
BINARY_REF(greater_equal)
BINARY_REF(equal)

static ps_status infer_compare(const ps_node *node, ps_error *err) {
    return ps_pw_infer_binary(node, PS_PW_NUMBER, PS_DTYPE_BOOL, err);
}

static ps_status infer_equal(const ps_node *node, ps_error *err) {
    return ps_pw_infer_binary(node, PS_PW_NUMBER | PS_PW_BOOL | PS_PW_STRING, PS_DTYPE_BOOL, err);
}

/* ---- booleans ---- */

#define BOOLEAN(name, ...)                                                                                             \
    PS_PW_LOOP2(BOOL, uint8_t, name, __VA_ARGS__)                                                                      \
    static const ps_pw_loop name##_loops[] = { PS_PW_ROW(BOOL, uint8_t, name) PS_PW_END };                             \
    BINARY_REF(name)

BOOLEAN(and, x &&y)
BOOLEAN(or, x || y)
BOOLEAN(xor, !x != !y)
PS_PW_LOOP1(BOOL, uint8_t, not, !x)

static ps_status not_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_ROW(BOOL, uint8_t, not ) PS_PW_END };
    return ps_pw_run(ctx, loops, 1, 0, err);
}

static ps_status infer_boolean(const ps_node *node, ps_error *err) {
    return ps_pw_infer_binary(node, PS_PW_BOOL, PS_DTYPE_BOOL, err);
}

static ps_status infer_not(const ps_node *node, ps_error *err) {
    PS_TRY(ps_pw_check_types(node, 0, 1, PS_PW_BOOL, err));
    return ps_infer_same(node, err);
}

/* ---- bits ---- */

#define BITWISE(name, ...)                                                                                             \
    PS_PW_INTS(PS_PW_LOOP2, name, __VA_ARGS__)                                                                         \
    static const ps_pw_loop name##_loops[] = { PS_PW_INTS(PS_PW_ROW, name) PS_PW_END };                                \
    BINARY_REF(name)

BITWISE(bit_and, x &y)
BITWISE(bit_or, x | y)
BITWISE(bit_xor, x ^ y)
PS_PW_INTS(PS_PW_LOOP1, bit_not, ~x)
/* Shifts by a negative number, the width or more, which C leaves undefined, give what the sign bit fills in: 0 or -1.
 */
#define IN_RANGE(y) ((uint64_t)(y) < sizeof(x) * 8)
#define RIGHT_SIGNED(D, T, name, ...) PS_PW_LOOP2(D, T, name, IN_RANGE(y) ? x >> y : x < 0 ? -1 : 0)
#define RIGHT_UNSIGNED(D, T, name, ...) PS_PW_LOOP2(D, T, name, IN_RANGE(y) ? (uint64_t)x >> y : 0)
PS_PW_INTS(PS_PW_LOOP2, shift_left, IN_RANGE(y) ? (uint64_t)x << y : 0)
PS_PW_SIGNEDS(RIGHT_SIGNED, shift_right)
PS_PW_UNSIGNEDS(RIGHT_UNSIGNED, shift_right)

static ps_status bit_not_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_INTS(PS_PW_ROW, bit_not) PS_PW_END };
    return ps_pw_run(ctx, loops, 1, 0, err);
}

typedef struct shift_params {
    const char *direction; /* LEFT RIGHT */
} shift_params;

static const ps_attr_def shift_attrs[] = { PS_A_STR(shift_params, direction, ""), PS_ATTRS_END };

static ps_status shift_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop left[] = { PS_PW_INTS(PS_PW_ROW, shift_left) PS_PW_END };
    static const ps_pw_loop right[] = { PS_PW_INTS(PS_PW_ROW, shift_right) PS_PW_END };
    return ps_pw_binary(ctx, ((const shift_params *)ctx->params)->direction[0] == 'L' ? left : right, err);
}

static ps_status infer_shift(const ps_node *node, ps_error *err) {
    const char *direction = ((const shift_params *)node->params)->direction;
    PS_NODE_FAIL_IF(strcmp(direction, "LEFT") != 0 && strcmp(direction, "RIGHT") != 0, node, err, FORMAT,
                    "direction is '%s', not LEFT or RIGHT", direction);
    return ps_pw_infer_binary(node, PS_PW_INT, PS_DTYPE_UNDEFINED, err);
}

static ps_status infer_bitwise(const ps_node *node, ps_error *err) {
    return ps_pw_infer_binary(node, PS_PW_INT, PS_DTYPE_UNDEFINED, err);
}

static ps_status infer_bit_not(const ps_node *node, ps_error *err) {
    PS_TRY(ps_pw_check_types(node, 0, 1, PS_PW_INT, err));
    return ps_infer_same(node, err);
}

/* ---- IsNaN, IsInf ---- */

typedef struct isinf_params {
    int64_t detect_negative, detect_positive;
} isinf_params;

static const ps_attr_def isinf_attrs[] = {
    PS_A_INT(isinf_params, detect_negative, 1),
    PS_A_INT(isinf_params, detect_positive, 1),
    PS_ATTRS_END,
};

#define ISNAN_FLOAT(D, T, name, ...) PS_PW_LOOP1_TO(D, T, uint8_t, name, x != x)
#define ISINF_FLOAT(D, T, name, ...)                                                                                   \
    PS_PW_LOOP1_TO(D, T, uint8_t, name,                                                                                \
                   isinf(x) && (x > 0 ? ((const isinf_params *)span->arg)->detect_positive                             \
                                      : ((const isinf_params *)span->arg)->detect_negative))
PS_PW_FLOATS(ISNAN_FLOAT, is_nan)
PS_PW_FLOATS(ISINF_FLOAT, is_inf)

/* The 8-bit floats by way of f32, which holds each of their values. */
#define F8_TYPES(X, ...)                                                                                               \
    X(F8E4M3FN, uint8_t, __VA_ARGS__)                                                                                  \
    X(F8E4M3FNUZ, uint8_t, __VA_ARGS__) X(F8E5M2, uint8_t, __VA_ARGS__) X(F8E5M2FNUZ, uint8_t, __VA_ARGS__)
#define ISNAN_F8(D, T, name, ...) PS_PW_LOOP1_TO(D, T, uint8_t, name, isnan(ps_f8_to_f32(x, PS_DTYPE_##D)) != 0)
#define ISINF_F8(D, T, name, ...)                                                                                      \
    PS_PW_LOOP1_TO(D, T, uint8_t, name,                                                                                \
                   isinf(ps_f8_to_f32(x, PS_DTYPE_##D)) &&                                                             \
                       (ps_f8_to_f32(x, PS_DTYPE_##D) > 0 ? ((const isinf_params *)span->arg)->detect_positive         \
                                                          : ((const isinf_params *)span->arg)->detect_negative))
F8_TYPES(ISNAN_F8, is_nan)
F8_TYPES(ISINF_F8, is_inf)
#define F8_BITS                                                                                                        \
    (PS_PW_BIT(PS_DTYPE_F8E4M3FN) | PS_PW_BIT(PS_DTYPE_F8E4M3FNUZ) | PS_PW_BIT(PS_DTYPE_F8E5M2) |                      \
     PS_PW_BIT(PS_DTYPE_F8E5M2FNUZ))

static ps_status is_nan_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, is_nan) F8_TYPES(PS_PW_ROW, is_nan) PS_PW_END };
    return ps_pw_run(ctx, loops, 1, 0, err);
}

static ps_status is_inf_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { PS_PW_FLOATS(PS_PW_ROW, is_inf) F8_TYPES(PS_PW_ROW, is_inf) PS_PW_END };
    return ps_pw_run(ctx, loops, 1, 0, err);
}

static ps_status infer_float_to_bool(const ps_node *node, ps_error *err) {
    PS_TRY(ps_pw_check_types(node, 0, 1, PS_PW_FLOAT | F8_BITS, err));
    ps_infer_set(node, 0, PS_DTYPE_BOOL, &node->in[0]->shape);
    return PS_OK;
}

/* ---- Where: any type; elements are moved by their size ---- */

#define WHERE(bits, T)                                                                                                 \
    static void where_##bits(const ps_pw_span *span) {                                                                 \
        const uint8_t *c = span->in[0];                                                                                \
        const T *a = span->in[1], *b = span->in[2];                                                                    \
        T *z = span->out;                                                                                              \
        for (int64_t i = 0; i < span->n; i++)                                                                          \
            z[i] = c[i * span->step[0]] ? a[i * span->step[1]] : b[i * span->step[2]];                                 \
    }
WHERE(8, uint8_t)
WHERE(16, uint16_t)
WHERE(32, uint32_t)
WHERE(64, uint64_t)
typedef struct pair {
    uint64_t half[2];
} pair;
WHERE(128, pair)

/* The same over strings, whose bytes the output has to own: the loop collects where each one comes from. */
static void where_sources(const ps_pw_span *span) {
    const uint8_t *c = span->in[0];
    const ps_string *a = span->in[1], *b = span->in[2];
    const ps_string **z = span->out;
    for (int64_t i = 0; i < span->n; i++)
        z[i] = c[i * span->step[0]] ? &a[i * span->step[1]] : &b[i * span->step[2]];
}

static ps_status where_strings(const ps_kernel_ctx *ctx, ps_error *err) {
    static const ps_pw_loop loops[] = { { PS_DTYPE_STRING, where_sources }, PS_PW_END };
    ps_tensor *out = ctx->out[0], sources;
    const size_t n = ps_tensor_count(out);
    ps_tensor_init_view(&sources, PS_DTYPE_U64, &out->shape, ps_alloc_array(ctx->alloc, n, sizeof(uint64_t)));
    if (!sources.data) return PS_FAIL_NOMEM(err, "the strings of Where");
    ps_status status = ps_pw_run_tensors(ctx, loops, ctx->in, 3, 1, &sources, err);
    for (size_t i = 0; i < n && status == PS_OK; i++) {
        const ps_string *s = ((const ps_string **)sources.data)[i];
        status = ps_tensor_set_string(out, i, s->data, s->size, err);
    }
    ps_free(ctx->alloc, sources.data);
    return status;
}

static ps_status where_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_dtype t = ctx->in[1]->dtype;
    if (t == PS_DTYPE_STRING) return where_strings(ctx, err);
    const size_t size = ps_dtype_size(t);
    const ps_pw_loop loops[] = { { t, size == 1   ? where_8
                                      : size == 2 ? where_16
                                      : size == 4 ? where_32
                                      : size == 8 ? where_64
                                                  : where_128 },
                                 PS_PW_END };
    return ps_pw_run(ctx, loops, 3, 1, err);
}

static ps_status infer_where(const ps_node *node, ps_error *err) {
    PS_TRY(ps_pw_check_types(node, 0, 1, PS_PW_BOOL, err));
    PS_TRY(ps_check_same_type(node, 2, 1, err));
    const ps_dtype t = node->in[1]->dtype != PS_DTYPE_UNDEFINED ? node->in[1]->dtype : node->in[2]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_STRING && !ps_dtype_size(t), node, err, UNSUPPORTED,
                    "elements of type %s", ps_dtype_name(t));
    ps_shape values, out;
    char text[3][96];
    const ps_shape *s[3] = { &node->in[0]->shape, &node->in[1]->shape, &node->in[2]->shape };
    PS_NODE_FAIL_IF(!ps_shape_broadcast(s[1], s[2], &values) || !ps_shape_broadcast(s[0], &values, &out), node, err,
                    SHAPE, "shapes %s, %s and %s do not broadcast", ps_shape_text(s[0], text[0], sizeof text[0]),
                    ps_shape_text(s[1], text[1], sizeof text[1]), ps_shape_text(s[2], text[2], sizeof text[2]));
    ps_infer_set(node, 0, t, &out);
    return PS_OK;
}

/* ---- table ---- */

#define TRAITS (PS_OP_POINTWISE | PS_OP_INPLACE)
#define LEGACY_ROW(name, infer, ref)                                                                                   \
    { name, "", 1, 2, 2, 1, 1, ps_pw_legacy_attrs, sizeof(ps_pw_legacy_params), infer, ref, PS_OP_POINTWISE }
#define ROW(name, since, n_in, infer, ref)                                                                             \
    { name, "", since, n_in, n_in, 1, 1, NULL, 0, infer, ref, TRAITS }

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits */
    LEGACY_ROW("Equal", infer_equal, equal_ref),
    ROW("Equal", 7, 2, infer_equal, equal_ref),
    LEGACY_ROW("Less", infer_compare, less_ref),
    ROW("Less", 7, 2, infer_compare, less_ref),
    LEGACY_ROW("Greater", infer_compare, greater_ref),
    ROW("Greater", 7, 2, infer_compare, greater_ref),
    ROW("LessOrEqual", 12, 2, infer_compare, less_equal_ref),
    ROW("GreaterOrEqual", 12, 2, infer_compare, greater_equal_ref),
    LEGACY_ROW("And", infer_boolean, and_ref),
    ROW("And", 7, 2, infer_boolean, and_ref),
    LEGACY_ROW("Or", infer_boolean, or_ref),
    ROW("Or", 7, 2, infer_boolean, or_ref),
    LEGACY_ROW("Xor", infer_boolean, xor_ref),
    ROW("Xor", 7, 2, infer_boolean, xor_ref),
    ROW("Not", 1, 1, infer_not, not_ref),
    ROW("BitwiseAnd", 18, 2, infer_bitwise, bit_and_ref),
    ROW("BitwiseOr", 18, 2, infer_bitwise, bit_or_ref),
    ROW("BitwiseXor", 18, 2, infer_bitwise, bit_xor_ref),
    ROW("BitwiseNot", 18, 1, infer_bit_not, bit_not_ref),
    { "BitShift", "", 11, 2, 2, 1, 1, shift_attrs, sizeof(shift_params), infer_shift, shift_ref, TRAITS },
    ROW("IsNaN", 9, 1, infer_float_to_bool, is_nan_ref),
    { "IsInf", "", 10, 1, 1, 1, 1, isinf_attrs, sizeof(isinf_params), infer_float_to_bool, is_inf_ref, TRAITS },
    { "Where", "", 9, 3, 3, 1, 1, NULL, 0, infer_where, where_ref, PS_OP_POINTWISE },
};

const ps_op_family ps_ops_logic = PS_OP_FAMILY("logic", ops);
