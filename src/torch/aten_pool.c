/* Pooling. An adaptive pool is a plain one where the output's extents divide the input's, else two products with
 * matrices of averages. */
#include <string.h>

#include "torch/aten.h"

/* The number of spatial dims stands in the operator's name. */
static size_t spatial(const ps_tb *b) {
    const char *d = strstr(b->op->name, "1d");
    if (d) return 1;
    return strstr(b->op->name, "2d") ? 2 : 3;
}

/* A sample without its batch dim gets one for the time being. */
static ps_value *batched(ps_tb *b, size_t n, bool *ret_single) {
    ps_value *x = ps_tb_self(b);
    *ret_single = ps_tb_rank(b, x) == (int)n + 1;
    return *ret_single ? ps_tb_unsqueeze(b, x, 0) : x;
}

static void finish(ps_tb *b, ps_value *r, bool single) {
    ps_tb_out(b, 0, single ? ps_tb_squeeze(b, r, 0) : r);
}

static void set_window(ps_tb *b, size_t n) {
    int64_t kernel[3], stride[3], pads[6];
    ps_tb_ints_n(b, "kernel_size", 1, kernel, n);
    memcpy(stride, kernel, sizeof stride);
    int64_t given[3];
    size_t count = ps_tb_ints(b, "stride", given, 3); /* absent or empty: the kernel's */
    if (count) ps_tb_ints_n(b, "stride", 1, stride, n);
    ps_tb_ints_n(b, "padding", 0, pads, n);
    memcpy(pads + n, pads, n * sizeof *pads);
    ps_tb_set_ints(b, "kernel_shape", kernel, n);
    ps_tb_set_ints(b, "strides", stride, n);
    ps_tb_set_ints(b, "pads", pads, 2 * n);
    ps_tb_set_int(b, "ceil_mode", ps_tb_bool(b, "ceil_mode", false));
}

static void max_pool(ps_tb *b) {
    bool single;
    size_t n = spatial(b);
    int64_t dilation[3];
    ps_value *x = batched(b, n, &single), *r = PS_OP(b, "MaxPool", x);
    set_window(b, n);
    ps_tb_ints_n(b, "dilation", 1, dilation, n);
    ps_tb_set_ints(b, "dilations", dilation, n);
    finish(b, r, single);
}

static void avg_pool(ps_tb *b) {
    bool single;
    size_t n = spatial(b);
    ps_value *x = batched(b, n, &single), *r = PS_OP(b, "AveragePool", x);
    set_window(b, n);
    bool own = ps_tb_has(b, "divisor_override");
    ps_tb_set_int(b, "count_include_pad", own || ps_tb_bool(b, "count_include_pad", true));
    if (own) {
        int64_t kernel[3], window = 1;
        ps_tb_ints_n(b, "kernel_size", 1, kernel, n);
        for (size_t i = 0; i < n; i++) {
            if (__builtin_mul_overflow(window, kernel[i], &window))
                PS_TB_FAIL(b, LIMIT, "%s: kernel too large", b->label);
        }
        if (ps_tb_bool(b, "ceil_mode", false))
            PS_TB_FAIL(b, UNSUPPORTED, "%s: divisor_override with ceil_mode is not supported", b->label);
        double factor = (double)window / ps_tb_double(b, "divisor_override", 1);
        r = PS_OP(b, "Mul", r, ps_tb_scalar(b, ps_tb_dtype(b, x), factor));
    }
    finish(b, r, single);
}

/* ---- adaptive ---- */

/* [in, out]: column k averages rows floor(k in / out) … ceil((k + 1) in / out). */
static ps_value *averages(ps_tb *b, int64_t in, int64_t out_n) {
    int64_t dims[2] = { in, out_n }, elements;
    ps_shape shape = ps_shape_make(2, dims);
    size_t bytes;
    if (!ps_shape_elements(&shape, &elements) || !ps_dtype_bytes(PS_DTYPE_F32, elements, &bytes) ||
        elements > (1 << 24)) {
        PS_TB_FAIL(b, LIMIT, "%s: from %lld to %lld is too large", b->label, (long long)in, (long long)out_n);
        return NULL;
    }
    float *m = ps_alloc_zero(b->alloc, bytes);
    if (!m) {
        ps_tb_no_memory(b);
        return NULL;
    }
    for (int64_t k = 0; k < out_n; k++) {
        int64_t from = k * in / out_n, to = ((k + 1) * in + out_n - 1) / out_n;
        for (int64_t i = from; i < to; i++)
            m[i * out_n + k] = 1.0f / (float)(to - from);
    }
    ps_value *v = ps_tb_constant(b, PS_DTYPE_F32, dims, 2, m);
    ps_free(b->alloc, m);
    return v;
}

/* Along the axis: it comes last for the product. */
static ps_value *average_axis(ps_tb *b, ps_value *x, int axis, int64_t in, int64_t out_n) {
    ps_value *m = ps_tb_cast(b, averages(b, in, out_n), ps_tb_dtype(b, x));
    return ps_tb_swap(b, PS_OP(b, "MatMul", ps_tb_swap(b, x, axis, -1), m), axis, -1);
}

typedef struct adaptive {
    int64_t in[3], out[3], kernel[3];
    bool ones, same, divides, known;
} adaptive;

static adaptive read_adaptive(ps_tb *b, ps_value *x, size_t n) {
    adaptive a = { .ones = true, .same = true, .divides = true, .known = true };
    ps_tb_ints_n(b, "output_size", 1, a.out, n);
    for (size_t k = 0; k < n && b->status == PS_OK; k++) {
        a.in[k] = ps_tb_dim(b, x, (int)k + 2);
        if (a.out[k] < 1 || a.out[k] > (1 << 20)) PS_TB_FAIL(b, FORMAT, "%s: to %lld", b->label, (long long)a.out[k]);
        if (b->status != PS_OK) break;
        a.known &= a.in[k] > 0;
        a.ones &= a.out[k] == 1;
        a.same &= a.in[k] == a.out[k];
        a.divides &= a.in[k] > 0 && a.in[k] % a.out[k] == 0;
        a.kernel[k] = a.in[k] / a.out[k];
    }
    if (!a.ones && !a.known)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: to more than one element from an extent that is not fixed", b->label);
    return a;
}

static ps_value *plain_pool(ps_tb *b, const char *op, ps_value *x, const adaptive *a, size_t n) {
    ps_value *r = PS_OP(b, op, x);
    ps_tb_set_ints(b, "kernel_shape", a->kernel, n);
    ps_tb_set_ints(b, "strides", a->kernel, n);
    return r;
}

static void adaptive_pool(ps_tb *b) {
    bool single, most = strstr(b->op->name, "max") != NULL;
    size_t n = spatial(b);
    ps_value *x = batched(b, n, &single);
    adaptive a = read_adaptive(b, x, n);
    if (b->status != PS_OK) return;
    if (a.same) {
        /* nothing to do */
    } else if (a.ones) {
        x = PS_OP(b, most ? "GlobalMaxPool" : "GlobalAveragePool", x);
    } else if (a.divides) {
        x = plain_pool(b, most ? "MaxPool" : "AveragePool", x, &a, n);
    } else if (most) {
        PS_TB_FAIL(b, UNSUPPORTED, "%s: output sizes that do not divide the input's are not supported", b->label);
    } else {
        for (size_t i = 0; i < n; i++)
            x = average_axis(b, x, (int)i + 2, a.in[i], a.out[i]);
    }
    finish(b, x, single);
}

static const ps_torch_op ops[] = {
    { "max_pool1d", max_pool, NULL, 0 },
    { "max_pool2d", max_pool, NULL, 0 },
    { "max_pool3d", max_pool, NULL, 0 },
    { "max_pool1d_with_indices", max_pool, NULL, 0 },
    { "max_pool2d_with_indices", max_pool, NULL, 0 },
    { "max_pool3d_with_indices", max_pool, NULL, 0 },
    { "avg_pool1d", avg_pool, NULL, 0 },
    { "avg_pool2d", avg_pool, NULL, 0 },
    { "avg_pool3d", avg_pool, NULL, 0 },
    { "adaptive_avg_pool1d", adaptive_pool, NULL, 0 },
    { "adaptive_avg_pool2d", adaptive_pool, NULL, 0 },
    { "adaptive_avg_pool3d", adaptive_pool, NULL, 0 },
    { "_adaptive_avg_pool2d", adaptive_pool, NULL, 0 },
    { "_adaptive_avg_pool3d", adaptive_pool, NULL, 0 },
    { "adaptive_max_pool1d", adaptive_pool, NULL, 0 },
    { "adaptive_max_pool2d", adaptive_pool, NULL, 0 },
    { "adaptive_max_pool3d", adaptive_pool, NULL, 0 },
};

const ps_torch_family ps_torch_pool = PS_TORCH_FAMILY("pool", ops);
