/* pointwise.h - the one loop nest behind all elementwise reference kernels.
 *
 * An operator gives one inner loop for each type it computes in; the driver does numpy broadcasting, splits the work
 * over threads and computes f16 and bf16 in f32, rounding once. Private to the operator files.
 *
 * Inner loops see n elements: each input either advances by one element or stands still (step 0, a broadcast value),
 * the output always advances. No other stride can occur: tensors are row-major and dims of extent 1 are dropped. */
#ifndef PS_OPS_POINTWISE_H
#define PS_OPS_POINTWISE_H

#include "ops/ops.h"

enum { PS_PW_MAX_IN = 3 };

typedef struct ps_pw_span {
    const void *in[PS_PW_MAX_IN];
    int step[PS_PW_MAX_IN]; /* 1 or 0 elements */
    void *out;
    int64_t n;
    const void *arg; /* of the operator: its params, or NULL */
} ps_pw_span;

typedef void (*ps_pw_fn)(const ps_pw_span *span);

/* Row of an operator's list of inner loops, chosen by the dtype of its key input. The list ends with PS_PW_END. */
typedef struct ps_pw_loop {
    ps_dtype dtype;
    ps_pw_fn fn;
} ps_pw_loop;

#define PS_PW_END                                                                                                      \
    { PS_DTYPE_UNDEFINED, NULL }

/* Sets of element types, as bits. */
#define PS_PW_BIT(t) (1u << (t))
#define PS_PW_BOOL PS_PW_BIT(PS_DTYPE_BOOL)
#define PS_PW_STRING PS_PW_BIT(PS_DTYPE_STRING)
#define PS_PW_FLOAT                                                                                                    \
    (PS_PW_BIT(PS_DTYPE_F32) | PS_PW_BIT(PS_DTYPE_F64) | PS_PW_BIT(PS_DTYPE_F16) | PS_PW_BIT(PS_DTYPE_BF16))
#define PS_PW_SIGNED                                                                                                   \
    (PS_PW_BIT(PS_DTYPE_I8) | PS_PW_BIT(PS_DTYPE_I16) | PS_PW_BIT(PS_DTYPE_I32) | PS_PW_BIT(PS_DTYPE_I64))
#define PS_PW_UNSIGNED                                                                                                 \
    (PS_PW_BIT(PS_DTYPE_U8) | PS_PW_BIT(PS_DTYPE_U16) | PS_PW_BIT(PS_DTYPE_U32) | PS_PW_BIT(PS_DTYPE_U64))
#define PS_PW_INT (PS_PW_SIGNED | PS_PW_UNSIGNED)
#define PS_PW_NUMBER (PS_PW_FLOAT | PS_PW_INT)

/* PS_TYPE if a known dtype among inputs [from, to) is not in the set or differs from another. */
ps_status ps_pw_check_types(const ps_node *node, size_t from, size_t to, uint32_t set, ps_error *err);

/* Shape rules: same type in and out, of the named set; one input, or all inputs broadcast. */
ps_status ps_pw_infer_float(const ps_node *node, ps_error *err);
ps_status ps_pw_infer_signed(const ps_node *node, ps_error *err); /* floats and signed integers */
ps_status ps_pw_infer_number(const ps_node *node, ps_error *err);

/* Runs the loop for the dtype of in[key] over the broadcast shape of out[0]. */
ps_status ps_pw_run(const ps_kernel_ctx *ctx, const ps_pw_loop *loops, size_t n_in, size_t key, ps_error *err);
/* The same over tensors of the caller. */
ps_status ps_pw_run_tensors(const ps_kernel_ctx *ctx, const ps_pw_loop *loops, const ps_tensor *const *in, size_t n_in,
                            size_t key, ps_tensor *out, ps_error *err);

/* Operators of opset 1 to 6 align the second operand at `axis` instead of broadcasting as numpy does. */
typedef struct ps_pw_legacy_params {
    int64_t broadcast, axis;
} ps_pw_legacy_params;

extern const ps_attr_def ps_pw_legacy_attrs[];
/* Shape of in[1] as numpy has to see it: trailing ones added so that its first dim stands at `axis`. For rows without
 * legacy attributes it is the shape itself. */
ps_status ps_pw_second_shape(const ps_node *node, const ps_shape *a, const ps_shape *b, ps_shape *ret, ps_error *err);
/* out[0] has the given dtype (UNDEFINED: that of in[0]) and the broadcast shape of in[0] and the aligned in[1]. */
ps_status ps_pw_infer_binary(const ps_node *node, uint32_t set, ps_dtype dtype, ps_error *err);
/* Runs a two-input operator, legacy alignment included. */
ps_status ps_pw_binary(const ps_kernel_ctx *ctx, const ps_pw_loop *loops, ps_error *err);

/* ---- making inner loops ----
 * Type lists: X(dtype, C type, ...). Expressions see the operands as x and y (and p, the params, where given). */
#define PS_PW_FLOATS(X, ...) X(F32, float, __VA_ARGS__) X(F64, double, __VA_ARGS__)
#define PS_PW_SIGNEDS(X, ...)                                                                                          \
    X(I8, int8_t, __VA_ARGS__) X(I16, int16_t, __VA_ARGS__) X(I32, int32_t, __VA_ARGS__) X(I64, int64_t, __VA_ARGS__)
#define PS_PW_UNSIGNEDS(X, ...)                                                                                        \
    X(U8, uint8_t, __VA_ARGS__)                                                                                        \
    X(U16, uint16_t, __VA_ARGS__) X(U32, uint32_t, __VA_ARGS__) X(U64, uint64_t, __VA_ARGS__)
#define PS_PW_INTS(X, ...) PS_PW_SIGNEDS(X, __VA_ARGS__) PS_PW_UNSIGNEDS(X, __VA_ARGS__)

/* Row of a loop list. */
#define PS_PW_ROW(D, T, name, ...) { PS_DTYPE_##D, name##_##D },

/* One-input loop name_D from T to R. */
#define PS_PW_LOOP1_TO(D, T, R, name, ...)                                                                             \
    static void name##_##D(const ps_pw_span *span) {                                                                   \
        const T *a = span->in[0];                                                                                      \
        R *z = span->out;                                                                                              \
        if (!span->step[0] && span->n) { /* one value */                                                               \
            const T x = a[0];                                                                                          \
            const R v = (R)(__VA_ARGS__);                                                                              \
            for (int64_t i = 0; i < span->n; i++)                                                                      \
                z[i] = v;                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
        for (int64_t i = 0; i < span->n; i++) {                                                                        \
            const T x = a[i];                                                                                          \
            z[i] = (R)(__VA_ARGS__);                                                                                   \
        }                                                                                                              \
    }
#define PS_PW_LOOP1(D, T, name, ...) PS_PW_LOOP1_TO(D, T, T, name, __VA_ARGS__)

/* Two-input loop name_D from T, T to R: one body for each way the inputs advance, so that compilers vectorise. */
#define PS_PW_BODY2_(T, R, ia, ib, ...)                                                                                \
    for (int64_t i = 0; i < span->n; i++) {                                                                            \
        const T x = a[ia], y = b[ib];                                                                                  \
        z[i] = (R)(__VA_ARGS__);                                                                                       \
    }
#define PS_PW_LOOP2_TO(D, T, R, name, ...)                                                                             \
    static void name##_##D(const ps_pw_span *span) {                                                                   \
        const T *a = span->in[0], *b = span->in[1];                                                                    \
        R *z = span->out;                                                                                              \
        if (span->step[0] && span->step[1]) {                                                                          \
            PS_PW_BODY2_(T, R, i, i, __VA_ARGS__)                                                                      \
        } else if (span->step[0]) {                                                                                    \
            PS_PW_BODY2_(T, R, i, 0, __VA_ARGS__)                                                                      \
        } else if (span->step[1]) {                                                                                    \
            PS_PW_BODY2_(T, R, 0, i, __VA_ARGS__)                                                                      \
        } else {                                                                                                       \
            PS_PW_BODY2_(T, R, 0, 0, __VA_ARGS__)                                                                      \
        }                                                                                                              \
    }
#define PS_PW_LOOP2(D, T, name, ...) PS_PW_LOOP2_TO(D, T, T, name, __VA_ARGS__)
#define PS_PW_LOOP2_BOOL(D, T, name, ...) PS_PW_LOOP2_TO(D, T, uint8_t, name, __VA_ARGS__)

#endif
