/* transpose.c - strided copies: Transpose, and the conversion between plain and channels-last. */
#include "backend/cpu/cpu_int.h"

typedef struct strided_kernel {
    ps_kernel base;
    int rank, threads;
    int64_t dims[PS_MAX_RANK], strides[PS_MAX_RANK];
    size_t element;
} strided_kernel;

/* Merges neighbouring dims that are contiguous in the source too, and drops dims of 1. */
static int collapse(int rank, const int64_t *dims, const int64_t *strides, int64_t *ret_dims, int64_t *ret_strides) {
    int n = 0;
    for (int i = 0; i < rank; i++) {
        if (dims[i] == 1) continue;
        if (n && ret_strides[n - 1] == dims[i] * strides[i]) {
            ret_dims[n - 1] *= dims[i];
            ret_strides[n - 1] = strides[i];
            continue;
        }
        ret_dims[n] = dims[i];
        ret_strides[n++] = strides[i];
    }
    if (!n) {
        ret_dims[0] = 1;
        ret_strides[n++] = 1;
    }
    return n;
}

#define COPY_ROW(type)                                                                                                 \
    do {                                                                                                               \
        const type *s = (const type *)src;                                                                             \
        type *d = (type *)dst;                                                                                         \
        for (int64_t i = 0; i < n; i++)                                                                                \
            d[i] = s[i * stride];                                                                                      \
    } while (0)

static void copy_row(char *dst, const char *src, int64_t n, int64_t stride, size_t element) {
    if (stride == 1) {
        memcpy(dst, src, (size_t)n * element);
        return;
    }
    switch (element) {
    case 1: COPY_ROW(uint8_t); break;
    case 2: COPY_ROW(uint16_t); break;
    case 4: COPY_ROW(uint32_t); break;
    case 8: COPY_ROW(uint64_t); break;
    default:
        for (int64_t i = 0; i < n; i++)
            memcpy(dst + (size_t)i * element, src + i * stride * (int64_t)element, element);
    }
}

typedef uint32_t four __attribute__((vector_size(16), aligned(4), may_alias));

static void transpose_4x4(uint32_t *dst, const uint32_t *src, int64_t dst_ld, int64_t src_ld) {
    const four a = *(const four *)src, b = *(const four *)(src + src_ld), c = *(const four *)(src + 2 * src_ld),
               d = *(const four *)(src + 3 * src_ld);
    const four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(four *)dst = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(four *)(dst + dst_ld) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(four *)(dst + 2 * dst_ld) = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5);
    *(four *)(dst + 3 * dst_ld) = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
}

/* 4-byte elements whose source is contiguous along the second-innermost dim: an ordinary transpose, in blocks of 16
 * rows so that both sides stay in cache lines. */
static void transpose_block(uint32_t *dst, const uint32_t *src, int64_t rows, int64_t cols, int64_t dst_ld,
                            int64_t src_ld) {
    const int64_t whole_rows = rows & ~(int64_t)3, whole_cols = cols & ~(int64_t)3;
    for (int64_t i0 = 0; i0 < whole_rows; i0 += 16) {
        const int64_t i1 = i0 + 16 < whole_rows ? i0 + 16 : whole_rows;
        for (int64_t j = 0; j < whole_cols; j += 4)
            for (int64_t i = i0; i < i1; i += 4)
                transpose_4x4(dst + i * dst_ld + j, src + j * src_ld + i, dst_ld, src_ld);
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = i < whole_rows ? whole_cols : 0; j < cols; j++)
            dst[i * dst_ld + j] = src[j * src_ld + i];
}

/* Bytes of up to four channels: pixels of a picture that become neighbours of their channels. */
static void interleave_bytes(uint8_t *dst, const uint8_t *src, int64_t rows, int64_t cols, int64_t src_ld) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++)
            dst[i * cols + j] = src[j * src_ld + i];
    }
}

static void interleave_three(uint8_t *restrict dst, const uint8_t *src, int64_t rows, int64_t src_ld) {
    const uint8_t *restrict a = src, *restrict b = src + src_ld, *restrict c = src + 2 * src_ld;
    for (int64_t i = 0; i < rows; i++) {
        dst[3 * i] = a[i];
        dst[3 * i + 1] = b[i];
        dst[3 * i + 2] = c[i];
    }
}

typedef struct strided_job {
    const strided_kernel *k;
    const char *src;
    char *dst;
    int64_t rows; /* of an item */
} strided_job;

/* One item is some rows of the innermost two dims. */
static void copy_rows(const strided_kernel *k, char *dst, const char *src, int64_t rows) {
    const int last = k->rank - 1;
    const int64_t n = k->dims[last], stride = k->strides[last], row_stride = last ? k->strides[last - 1] : 0;
    if (k->element == 4 && last && row_stride == 1 && stride != 1) {
        transpose_block((uint32_t *)dst, (const uint32_t *)src, rows, n, n, stride);
    } else if (k->element == 1 && last && row_stride == 1 && n == 3) {
        interleave_three((uint8_t *)dst, (const uint8_t *)src, rows, stride);
    } else if (k->element == 1 && last && row_stride == 1 && n <= 4) {
        interleave_bytes((uint8_t *)dst, (const uint8_t *)src, rows, n, stride);
    } else {
        for (int64_t r = 0; r < rows; r++)
            copy_row(dst + (size_t)(r * n) * k->element, src + r * row_stride * (int64_t)k->element, n, stride,
                     k->element);
    }
}

static void run_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const strided_job *job = ctx;
    const strided_kernel *k = job->k;
    const int last = k->rank - 1;
    const int64_t rows = last ? k->dims[last - 1] : 1, chunks = (rows + job->rows - 1) / job->rows;
    for (int64_t item = begin; item < end; item++) {
        const int64_t first = item % chunks * job->rows, count = rows - first < job->rows ? rows - first : job->rows;
        int64_t offset = last ? first * k->strides[last - 1] : 0, rem = item / chunks;
        for (int d = last - 2; d >= 0; d--) {
            offset += rem % k->dims[d] * k->strides[d];
            rem /= k->dims[d];
        }
        char *dst = job->dst + (size_t)((item / chunks * rows + first) * k->dims[last]) * k->element;
        copy_rows(k, dst, job->src + offset * (int64_t)k->element, count);
    }
}

static ps_status strided_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    enum { LEAST = 16384, ROWS = 64 }; /* elements worth a thread; rows of an item are a multiple of these */
    const strided_kernel *k = (const strided_kernel *)kernel;
    const int last = k->rank - 1;
    const int64_t n = k->dims[last], rows = last ? k->dims[last - 1] : 1;
    int64_t outer = 1;
    for (int d = 0; d < last - 1; d++)
        outer *= k->dims[d];
    if (outer * rows * n == 0) return PS_OK;
    const int64_t each = (LEAST / n + ROWS) / ROWS * ROWS;
    strided_job job = { k, args->in[0], args->out[0], each < rows ? each : rows };
    const int64_t chunks = (rows + job.rows - 1) / job.rows;
    ps_parallel_for(outer * chunks, 1 + LEAST / (job.rows * n), k->threads, run_items, &job);
    return PS_OK;
}

void cpu_kernel_free(ps_kernel *kernel) {
    ps_free(kernel->alloc, kernel);
}

ps_status cpu_strided_copy_new(ps_alloc_state *alloc, const char *label, int rank, const int64_t *dims,
                               const int64_t *src_strides, size_t element, int threads, ps_kernel **ret,
                               ps_error *err) {
    static const ps_kernel_ops ops = { strided_run, cpu_kernel_free, NULL, NULL };
    strided_kernel *k;
    PS_TRY(ps_kernel_new(alloc, sizeof *k, &ops, label, &k, err));
    k->rank = collapse(rank, dims, src_strides, k->dims, k->strides);
    k->element = element;
    k->threads = threads;
    *ret = &k->base;
    return PS_OK;
}

ps_status cpu_reorder(ps_device *device, ps_dtype dtype, const ps_shape *shape, ps_form from, ps_form to, int threads,
                      ps_alloc_state *alloc, ps_kernel **ret, ps_error *err) {
    int order[PS_MAX_RANK];
    int64_t strides[PS_MAX_RANK], dims[PS_MAX_RANK], src[PS_MAX_RANK];
    PS_FAIL_IF(shape->rank < 3 || !ps_dtype_size(dtype), err, INTERNAL, "a reorder of %s rank %d makes no sense",
               ps_dtype_name(dtype), shape->rank);
    ps_layout_strides(shape, from.layout, strides);
    ps_layout_axes(shape->rank, to.layout, order);
    for (int i = 0; i < shape->rank; i++) {
        dims[i] = shape->dims[order[i]];
        src[i] = strides[order[i]];
    }
    const char *label = to.layout == PS_LAYOUT_PLAIN ? "cpu.reorder plain" : "cpu.reorder channels-last";
    return cpu_strided_copy_new(alloc, label, shape->rank, dims, src, ps_dtype_size(dtype), threads, ret, err);
}

static bool is_row_major(int rank, const int64_t *dims, const int64_t *strides) {
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; i--) {
        if (dims[i] != 1 && strides[i] != step) return false;
        step *= dims[i];
    }
    return true;
}

/* Is the output, laid out channels-last, the very memory of the input? */
static bool is_channels_last(const ps_shape *out, const int64_t *strides) {
    int64_t want[PS_MAX_RANK];
    if (out->rank < 3) return false;
    ps_layout_strides(out, PS_LAYOUT_CHANNELS_LAST, want);
    for (int i = 0; i < out->rank; i++) {
        if (out->dims[i] != 1 && strides[i] != want[i]) return false;
    }
    return true;
}

/* Reads its input in whatever layout it lies: a Transpose that undoes channels-last, or that only makes it, costs
 * nothing. */
ps_status cpu_lower_transpose(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_transpose_params *p = n->params;
    const ps_shape *in = &n->in[0]->shape;
    int64_t strides[PS_MAX_RANK], src[PS_MAX_RANK];
    size_t element = ps_dtype_size(n->in[0]->dtype);
    if (!element || n->in[0]->dtype == PS_DTYPE_STRING) return PS_OK;
    ps_layout_strides(in, l->in_layout[0], strides);
    for (int i = 0; i < in->rank; i++) {
        int axis =
            p->perm.n ? (int)(p->perm.data[i] < 0 ? p->perm.data[i] + in->rank : p->perm.data[i]) : in->rank - 1 - i;
        src[i] = strides[axis];
    }
    const ps_shape *out = &n->out[0]->shape;
    if (is_row_major(out->rank, out->dims, src)) {
        l->alias = true;
        return PS_OK;
    }
    if (is_channels_last(out, src)) {
        l->alias = true;
        l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
        return PS_OK;
    }
    return cpu_strided_copy_new(l->alloc, "cpu.transpose", out->rank, out->dims, src, element, l->threads, &l->kernel,
                                err);
}
