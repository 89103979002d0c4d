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

/* 4-byte elements whose source is contiguous along the second-innermost dim: an ordinary transpose, in 16 x 16 blocks
 * so that both sides stay in cache lines. */
static void transpose_block(uint32_t *dst, const uint32_t *src, int64_t rows, int64_t cols, int64_t dst_ld,
                            int64_t src_ld) {
    for (int64_t i0 = 0; i0 < rows; i0 += 16) {
        int64_t i1 = i0 + 16 < rows ? i0 + 16 : rows;
        for (int64_t j0 = 0; j0 < cols; j0 += 16) {
            int64_t j1 = j0 + 16 < cols ? j0 + 16 : cols;
            for (int64_t i = i0; i < i1; i++) {
                for (int64_t j = j0; j < j1; j++)
                    dst[i * dst_ld + j] = src[j * src_ld + i];
            }
        }
    }
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
} strided_job;

/* One item is all of the innermost two dims (or one, if there is only one). */
static void run_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const strided_job *job = ctx;
    const strided_kernel *k = job->k;
    int last = k->rank - 1;
    int64_t n = k->dims[last], rows = k->rank > 1 ? k->dims[last - 1] : 1;
    int64_t row_stride = k->rank > 1 ? k->strides[last - 1] : 0;
    for (int64_t item = begin; item < end; item++) {
        int64_t offset = 0, rem = item;
        for (int d = last - 2; d >= 0; d--) {
            offset += rem % k->dims[d] * k->strides[d];
            rem /= k->dims[d];
        }
        char *dst = job->dst + (size_t)(item * rows * n) * k->element;
        const char *src = job->src + offset * (int64_t)k->element;
        if (k->element == 4 && k->rank > 1 && row_stride == 1 && k->strides[last] != 1) {
            transpose_block((uint32_t *)dst, (const uint32_t *)src, rows, n, n, k->strides[last]);
            continue;
        }
        if (k->element == 1 && k->rank > 1 && row_stride == 1 && n <= 4) {
            if (n == 3)
                interleave_three((uint8_t *)dst, (const uint8_t *)src, rows, k->strides[last]);
            else
                interleave_bytes((uint8_t *)dst, (const uint8_t *)src, rows, n, k->strides[last]);
            continue;
        }
        for (int64_t r = 0; r < rows; r++) {
            copy_row(dst + (size_t)(r * n) * k->element, src + r * row_stride * (int64_t)k->element, n,
                     k->strides[last], k->element);
        }
    }
}

static ps_status strided_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const strided_kernel *k = (const strided_kernel *)kernel;
    strided_job job = { k, args->in[0], args->out[0] };
    int64_t items = 1, item = 1;
    for (int d = 0; d < k->rank; d++) {
        if (d < k->rank - 2)
            items *= k->dims[d];
        else
            item *= k->dims[d];
    }
    if (items * item == 0) return PS_OK;
    ps_parallel_for(items, 1 + 16384 / item, k->threads, run_items, &job);
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

ps_status cpu_reorder(ps_device *device, ps_dtype dtype, const ps_shape *shape, ps_layout from, ps_layout to,
                      int threads, ps_alloc_state *alloc, ps_kernel **ret, ps_error *err) {
    int order[PS_MAX_RANK];
    int64_t strides[PS_MAX_RANK], dims[PS_MAX_RANK], src[PS_MAX_RANK];
    PS_FAIL_IF(shape->rank < 3 || !ps_dtype_size(dtype), err, INTERNAL, "a reorder of %s rank %d makes no sense",
               ps_dtype_name(dtype), shape->rank);
    ps_layout_strides(shape, from, strides);
    ps_layout_axes(shape->rank, to, order);
    for (int i = 0; i < shape->rank; i++) {
        dims[i] = shape->dims[order[i]];
        src[i] = strides[order[i]];
    }
    const char *label = to == PS_LAYOUT_PLAIN ? "cpu.reorder plain" : "cpu.reorder channels-last";
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
