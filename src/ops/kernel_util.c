/* kernel_util.c - rows, operands, broadcast reads and common checks of the reference kernels. */
#include "ops/kernel_util.h"

#include "tensor/convert.h"

/* type tag, C type, widening, narrowing */
#define ROW_TYPES(X)                                                                                                   \
    X(F32, float, (double), (float))                                                                                   \
    X(F64, double, , )                                                                                                 \
    X(F16, uint16_t, ps_f16_to_f32, ps_f32_to_f16)                                                                     \
    X(BF16, uint16_t, ps_bf16_to_f32, ps_f32_to_bf16)                                                                  \
    X(U8, uint8_t, , (uint8_t))                                                                                        \
    X(I8, int8_t, , (int8_t))                                                                                          \
    X(U16, uint16_t, , (uint16_t))                                                                                     \
    X(I16, int16_t, , (int16_t))                                                                                       \
    X(U32, uint32_t, , (uint32_t))                                                                                     \
    X(I32, int32_t, , (int32_t))                                                                                       \
    X(U64, uint64_t, (double), (uint64_t))                                                                             \
    X(I64, int64_t, (double), (int64_t))                                                                               \
    X(BOOL, uint8_t, 0 !=, 0 !=)

/* One element of the types that have no C type: f8 and what is packed below one byte. */
static double narrow_get(ps_dtype dtype, const void *src, int64_t i) {
    const uint8_t *bytes = src;
    switch (dtype) {
    case PS_DTYPE_I4: return ps_i4_get(bytes, (size_t)i);
    case PS_DTYPE_U4: return ps_u4_get(bytes, (size_t)i);
    case PS_DTYPE_I2: return ps_i2_get(bytes, (size_t)i);
    case PS_DTYPE_U2: return ps_u2_get(bytes, (size_t)i);
    case PS_DTYPE_F4E2M1: return (double)ps_f4_to_f32((uint8_t)ps_u4_get(bytes, (size_t)i));
    case PS_DTYPE_F6E2M3:
    case PS_DTYPE_F6E3M2: return (double)ps_f6_to_f32((uint8_t)ps_packed_get(bytes, (size_t)i, 6), dtype);
    default: return (double)ps_f8_to_f32(bytes[i], dtype);
    }
}

static void narrow_set(ps_dtype dtype, void *dst, int64_t i, double v) {
    uint8_t *bytes = dst;
    switch (dtype) {
    case PS_DTYPE_I4:
    case PS_DTYPE_U4: ps_u4_set(bytes, (size_t)i, (int)v); break;
    case PS_DTYPE_I2:
    case PS_DTYPE_U2: ps_u2_set(bytes, (size_t)i, (int)v); break;
    case PS_DTYPE_F4E2M1: ps_u4_set(bytes, (size_t)i, ps_f32_to_f4((float)v)); break;
    case PS_DTYPE_F6E2M3:
    case PS_DTYPE_F6E3M2: ps_packed_set(bytes, (size_t)i, 6, ps_f32_to_f6((float)v, dtype)); break;
    default: bytes[i] = ps_f32_to_f8((float)v, dtype, true);
    }
}

void ps_row_load(double *dst, ps_dtype dtype, const void *src, int64_t first, int64_t stride, int64_t n) {
    switch (dtype) {
#define ROW_LOAD(tag, type, widen, narrow)                                                                             \
    case PS_DTYPE_##tag: {                                                                                             \
        const type *s = (const type *)src + first;                                                                     \
        for (int64_t i = 0; i < n; i++)                                                                                \
            dst[i] = widen(s[i * stride]);                                                                             \
        break;                                                                                                         \
    }
        ROW_TYPES(ROW_LOAD)
#undef ROW_LOAD
    default:
        for (int64_t i = 0; i < n; i++)
            dst[i] = narrow_get(dtype, src, first + i * stride);
    }
}

void ps_row_store(void *dst, ps_dtype dtype, int64_t first, int64_t stride, const double *src, int64_t n) {
    switch (dtype) {
#define ROW_STORE(tag, type, widen, narrow)                                                                            \
    case PS_DTYPE_##tag: {                                                                                             \
        type *d = (type *)dst + first;                                                                                 \
        for (int64_t i = 0; i < n; i++)                                                                                \
            d[i * stride] = (type)narrow(src[i]);                                                                      \
        break;                                                                                                         \
    }
        ROW_TYPES(ROW_STORE)
#undef ROW_STORE
    default:
        for (int64_t i = 0; i < n; i++)
            narrow_set(dtype, dst, first + i * stride, src[i]);
    }
}

void ps_number_store(void *dst, ps_dtype dtype, float v) {
    if (!ps_convert(&v, PS_DTYPE_F32, dst, dtype, 1, true)) memset(dst, 0, ps_dtype_size(dtype));
}

ps_status ps_operand_init(ps_operand *o, const ps_tensor *t, ps_alloc_state *alloc, ps_error *err) {
    *o = (ps_operand) { .alloc = alloc };
    if (!t) return PS_OK;
    o->data = t->data;
    o->f64 = t->dtype == PS_DTYPE_F64;
    if (t->dtype == PS_DTYPE_F32 || t->dtype == PS_DTYPE_F64) return PS_OK;
    size_t n = ps_tensor_count(t);
    if (!ps_dtype_is_float(t->dtype)) {
        double *whole = ps_alloc_array(alloc, n, sizeof(double));
        if (!whole) return PS_FAIL_NOMEM(err, "an operand as f64");
        ps_row_load(whole, t->dtype, t->data, 0, 1, (int64_t)n);
        o->data = o->owned = whole;
        o->f64 = true;
        return PS_OK;
    }
    float *wide = ps_alloc_array(alloc, n, sizeof(float));
    if (!wide) return PS_FAIL_NOMEM(err, "an operand as f32");
    if (t->dtype == PS_DTYPE_F16)
        ps_f16_to_f32_row(t->data, wide, n);
    else
        ps_bf16_to_f32_row(t->data, wide, n);
    o->data = o->owned = wide;
    return PS_OK;
}

void ps_operand_release(ps_operand *o) {
    if (o->owned) ps_free(o->alloc, o->owned);
    o->owned = NULL;
}

#define DEFINE_AXPY(name, type)                                                                                        \
    static void name(double *restrict acc, int64_t acc_stride, const type *restrict x, int64_t stride, double factor,  \
                     int64_t n) {                                                                                      \
        if (stride == 1 && acc_stride == 1)                                                                            \
            for (int64_t i = 0; i < n; i++)                                                                            \
                acc[i] += factor * (double)x[i];                                                                       \
        else                                                                                                           \
            for (int64_t i = 0; i < n; i++)                                                                            \
                acc[i * acc_stride] += factor * (double)x[i * stride];                                                 \
    }
DEFINE_AXPY(axpy_f32, float)
DEFINE_AXPY(axpy_f64, double)

void ps_operand_axpy(double *acc, int64_t acc_stride, const ps_operand *o, int64_t first, int64_t stride, double factor,
                     int64_t n) {
    if (o->f64)
        axpy_f64(acc, acc_stride, (const double *)o->data + first, stride, factor, n);
    else
        axpy_f32(acc, acc_stride, (const float *)o->data + first, stride, factor, n);
}

double ps_operand_dot(const ps_operand *a, int64_t first_a, int64_t stride_a, const ps_operand *b, int64_t first_b,
                      int64_t stride_b, int64_t n) {
    double sum = 0;
    if (!a->f64 && !b->f64) {
        const float *x = (const float *)a->data + first_a, *y = (const float *)b->data + first_b;
        for (int64_t i = 0; i < n; i++)
            sum += (double)x[i * stride_a] * (double)y[i * stride_b];
        return sum;
    }
    for (int64_t i = 0; i < n; i++)
        sum += ps_operand_at(a, first_a + i * stride_a) * ps_operand_at(b, first_b + i * stride_b);
    return sum;
}

bool ps_bcast_init(ps_bcast *b, const ps_tensor *t, const ps_shape *to) {
    *b = (ps_bcast) { .data = t->data, .dtype = t->dtype, .rank = to->rank };
    int shift = to->rank - t->shape.rank;
    if (shift < 0) return false;
    int64_t stride = 1;
    for (int d = to->rank - 1; d >= 0; d--) {
        int64_t extent = d >= shift ? t->shape.dims[d - shift] : 1;
        if (extent != 1 && extent != to->dims[d]) return false;
        b->dims[d] = to->dims[d];
        b->strides[d] = extent == 1 ? 0 : stride;
        stride *= extent;
    }
    return true;
}

void ps_bcast_load(const ps_bcast *b, int64_t first, int64_t n, double *dst) {
    if (b->rank == 0) {
        if (n > 0) ps_row_load(dst, b->dtype, b->data, 0, 0, n);
        return;
    }
    int last = b->rank - 1;
    while (n > 0) {
        int64_t rest = first / b->dims[last], column = first % b->dims[last];
        int64_t offset = column * b->strides[last];
        for (int d = last - 1; d >= 0; d--) {
            offset += rest % b->dims[d] * b->strides[d];
            rest /= b->dims[d];
        }
        int64_t run = b->dims[last] - column < n ? b->dims[last] - column : n;
        ps_row_load(dst, b->dtype, b->data, offset, b->strides[last], run);
        dst += run;
        first += run;
        n -= run;
    }
}

ps_status ps_parallel_scratch(const ps_kernel_ctx *ctx, int64_t n, int64_t grain, size_t elems_per_thread,
                              double **scratch, ps_parallel_fn fn, void *job, ps_error *err) {
    if (n <= 0) return PS_OK;
    size_t elems;
    int ranges = ps_parallel_ranges(n, grain, ctx->threads);
    if (ps_mul_overflow_size(elems_per_thread, (size_t)ranges, &elems)) return PS_FAIL_NOMEM(err, "kernel scratch");
    *scratch = ps_alloc_array(ctx->alloc, elems, sizeof(double));
    if (!*scratch) return PS_FAIL_NOMEM(err, "kernel scratch");
    ps_parallel_for(n, grain, ctx->threads, fn, job);
    ps_free(ctx->alloc, *scratch);
    *scratch = NULL;
    return PS_OK;
}

ps_status ps_node_fail(const ps_node *node, ps_error *err, ps_status status) {
    char label[160];
    ps_error_prefix(err, "%s", ps_node_label(node, label, sizeof label));
    return status;
}

ps_status ps_check_float(const ps_node *node, size_t i, ps_error *err) {
    if (!ps_has_in(node, i)) return PS_OK;
    ps_dtype t = node->in[i]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && !ps_dtype_is_float(t), node, err, TYPE,
                    "input %zu ('%s') is %s, the operator takes f32, f64, f16 or bf16", i, node->in[i]->name,
                    ps_dtype_name(t));
    return PS_OK;
}

ps_status ps_check_same_type(const ps_node *node, size_t i, size_t as, ps_error *err) {
    if (!ps_has_in(node, i) || !ps_has_in(node, as)) return PS_OK;
    ps_dtype t = node->in[i]->dtype, want = node->in[as]->dtype;
    PS_NODE_FAIL_IF(t != want && t != PS_DTYPE_UNDEFINED && want != PS_DTYPE_UNDEFINED, node, err, TYPE,
                    "input %zu ('%s') is %s, it must have the type %s of input %zu", i, node->in[i]->name,
                    ps_dtype_name(t), ps_dtype_name(want), as);
    return PS_OK;
}

ps_status ps_check_floats(const ps_node *node, size_t n, ps_error *err) {
    for (size_t i = 0; i < n; i++) {
        PS_TRY(ps_check_float(node, i, err));
        PS_TRY(ps_check_same_type(node, i, 0, err));
    }
    return PS_OK;
}

ps_status ps_check_rank(const ps_node *node, size_t i, int rank, ps_error *err) {
    if (!ps_in_known(node, i)) return PS_OK;
    char text[128];
    PS_NODE_FAIL_IF(node->in[i]->shape.rank != rank, node, err, SHAPE, "input %zu has shape %s, it must have rank %d",
                    i, ps_shape_text(&node->in[i]->shape, text, sizeof text), rank);
    return PS_OK;
}

ps_status ps_check_dim(const ps_node *node, size_t i, int d, int64_t want, const char *what, ps_error *err) {
    if (!ps_in_known(node, i) || d >= node->in[i]->shape.rank || want < 0) return PS_OK;
    int64_t have = node->in[i]->shape.dims[d];
    PS_NODE_FAIL_IF(have >= 0 && have != want, node, err, SHAPE, "dim %d of input %zu is %lld, %s is %lld", d, i,
                    (long long)have, what, (long long)want);
    return PS_OK;
}
