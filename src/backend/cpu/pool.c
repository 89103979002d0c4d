/* pool.c - MaxPool and AveragePool channels-last; global pools and reductions over the innermost or all spatial axes.
 */
#include <math.h>

#include "backend/cpu/cpu_int.h"

/* ---- windowed pools: one output pixel is a row of channels ---- */

typedef struct pool_kernel {
    ps_kernel base;
    const ps_simd *simd;
    const ps_q8 *q8;
    bool max, include_pad, codes, is_signed; /* codes: u8 or i8, maximum only */
    int threads;
    int64_t batch, channels;
    ps_window w[3]; /* depth, height, width; unused leading ones are 1 */
} pool_kernel;

typedef struct pool_job {
    const pool_kernel *k;
    const char *x;
    char *y;
} pool_job;

typedef struct span {
    int64_t begin, end;
} span;

/* Window positions k whose input in = at * stride - pad + k * dilation lies inside. */
static span valid(const ps_window *w, int64_t at) {
    int64_t first = at * w->stride - w->pad_begin;
    span s = { 0, w->kernel };
    while (s.begin < w->kernel && first + s.begin * w->dilation < 0)
        s.begin++;
    while (s.end > s.begin && first + (s.end - 1) * w->dilation >= w->in)
        s.end--;
    return s;
}

/* Positions that count for an average which includes padding: those inside the padded input. */
static int64_t padded_count(const ps_window *w, int64_t at) {
    int64_t first = at * w->stride - w->pad_begin, limit = w->in + w->pad_end, n = 0;
    for (int64_t k = 0; k < w->kernel; k++)
        n += first + k * w->dilation < limit;
    return n;
}

static void start_pixel(const pool_kernel *k, void *y) {
    if (k->codes)
        memset(y, k->is_signed ? 0x80 : 0, (size_t)k->channels);
    else
        k->simd->fill(y, k->max ? -INFINITY : 0.0f, k->channels);
}

/* Channels of the input pixel `pixel` join y. */
static void join_pixel(const pool_job *j, int64_t pixel, void *y) {
    const pool_kernel *k = j->k;
    const int64_t c = k->channels;
    if (k->codes)
        k->q8->max(y, (const uint8_t *)j->x + pixel * c, c, k->is_signed);
    else if (k->max)
        k->simd->max_to(y, (const float *)j->x + pixel * c, c);
    else
        k->simd->add_to(y, (const float *)j->x + pixel * c, c);
}

static void pool_pixel(const pool_job *j, int64_t n, const int64_t at[3], void *y) {
    const pool_kernel *k = j->k;
    int64_t count = 0;
    span s[3] = { valid(&k->w[0], at[0]), valid(&k->w[1], at[1]), valid(&k->w[2], at[2]) };
    start_pixel(k, y);
    for (int64_t a = s[0].begin; a < s[0].end; a++) {
        int64_t d = at[0] * k->w[0].stride - k->w[0].pad_begin + a * k->w[0].dilation;
        for (int64_t b = s[1].begin; b < s[1].end; b++) {
            int64_t h = at[1] * k->w[1].stride - k->w[1].pad_begin + b * k->w[1].dilation;
            for (int64_t e = s[2].begin; e < s[2].end; e++, count++) {
                int64_t w = at[2] * k->w[2].stride - k->w[2].pad_begin + e * k->w[2].dilation;
                join_pixel(j, ((n * k->w[0].in + d) * k->w[1].in + h) * k->w[2].in + w, y);
            }
        }
    }
    if (k->max) return;
    if (k->include_pad)
        count = padded_count(&k->w[0], at[0]) * padded_count(&k->w[1], at[1]) * padded_count(&k->w[2], at[2]);
    k->simd->scale(y, count ? 1.0f / (float)count : 0, k->channels); /* 0: all of it is padding, and y is 0 */
}

/* One item is a row of output pixels. */
static void pool_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const pool_job *j = ctx;
    const pool_kernel *k = j->k;
    for (int64_t row = begin; row < end; row++) {
        int64_t h = row % k->w[1].out, d = row / k->w[1].out % k->w[0].out, n = row / (k->w[1].out * k->w[0].out);
        for (int64_t w = 0; w < k->w[2].out; w++) {
            int64_t at[3] = { d, h, w };
            pool_pixel(j, n, at, j->y + (row * k->w[2].out + w) * k->channels * (k->codes ? 1 : 4));
        }
    }
}

static ps_status pool_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const pool_kernel *k = (const pool_kernel *)kernel;
    pool_job job = { k, args->in[0], args->out[0] };
    int64_t rows = k->batch * k->w[0].out * k->w[1].out;
    if (k->channels) ps_parallel_for(rows, 1 + 4096 / (1 + k->w[2].out * k->channels), k->threads, pool_rows, &job);
    return PS_OK;
}

ps_status cpu_lower_pool(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { pool_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_pool_params *p = n->params;
    ps_window w[PS_MAX_SPATIAL];
    int count;
    pool_kernel *k;
    const bool max = strcmp(n->op_type, "MaxPool") == 0, is_signed = n->in[0]->dtype == PS_DTYPE_I8;
    const bool codes = max && (is_signed || n->in[0]->dtype == PS_DTYPE_U8);
    if ((n->in[0]->dtype != PS_DTYPE_F32 && !codes) || ps_has_out(n, 1) || n->in[0]->shape.rank > 5) return PS_OK;
    PS_TRY(ps_pool_windows(n, w, &count, err));
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "", &k, err));
    k->simd = cpu_of(device)->simd;
    k->q8 = cpu_of(device)->q8;
    k->max = max;
    k->codes = codes;
    k->is_signed = is_signed;
    k->include_pad = p->count_include_pad != 0;
    k->threads = l->threads;
    k->batch = n->in[0]->shape.dims[0];
    k->channels = n->in[0]->shape.dims[1];
    for (int i = 0; i < 3; i++)
        k->w[i] = (ps_window) { 1, 1, 1, 1, 1, 0, 0 };
    for (int i = 0; i < count; i++)
        k->w[3 - count + i] = w[i];
    ps_snprintf(k->base.label, sizeof k->base.label, "cpu.%s%s channels-last", codes ? "int8 " : "",
                k->max ? "maxpool" : "avgpool");
    l->in_layout[0] = l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    l->kernel = &k->base;
    return PS_OK;
}

/* ---- reductions ---- */

typedef enum reduce_kind { REDUCE_SUM, REDUCE_MEAN, REDUCE_MAX } reduce_kind;

typedef struct reduce_kernel {
    ps_kernel base;
    const ps_simd *simd;
    reduce_kind kind;
    int threads;
    int64_t outer, reduced, inner; /* y[outer][inner] = reduce over x[outer][reduced][inner] */
} reduce_kernel;

typedef struct reduce_job {
    const reduce_kernel *k;
    const float *x;
    float *y;
} reduce_job;

static void reduce_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const reduce_job *j = ctx;
    const reduce_kernel *k = j->k;
    for (int64_t o = begin; o < end; o++) {
        const float *x = j->x + o * k->reduced * k->inner;
        float *y = j->y + o * k->inner;
        if (k->inner == 1) {
            *y = k->kind == REDUCE_MAX ? k->simd->max(x, k->reduced) : k->simd->sum(x, k->reduced);
        } else {
            memcpy(y, x, (size_t)k->inner * sizeof *y);
            for (int64_t r = 1; r < k->reduced; r++) {
                if (k->kind == REDUCE_MAX)
                    k->simd->max_to(y, x + r * k->inner, k->inner);
                else
                    k->simd->add_to(y, x + r * k->inner, k->inner);
            }
        }
        if (k->kind == REDUCE_MEAN) k->simd->scale(y, 1.0f / (float)k->reduced, k->inner);
    }
}

static ps_status reduce_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const reduce_kernel *k = (const reduce_kernel *)kernel;
    reduce_job job = { k, args->in[0], args->out[0] };
    ps_parallel_for(k->outer, 1 + 8192 / (k->reduced * k->inner), k->threads, reduce_items, &job);
    return PS_OK;
}

static ps_status new_reduce(ps_device *device, ps_lowering *l, reduce_kind kind, int64_t outer, int64_t reduced,
                            int64_t inner, ps_error *err) {
    static const ps_kernel_ops ops = { reduce_run, cpu_kernel_free, NULL, NULL };
    reduce_kernel *k;
    if (outer * reduced * inner == 0) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "cpu.reduce", &k, err));
    k->simd = cpu_of(device)->simd;
    k->kind = kind;
    k->threads = l->threads;
    k->outer = outer;
    k->reduced = reduced;
    k->inner = inner;
    l->kernel = &k->base;
    return PS_OK;
}

/* All spatial axes, in the layout the input has; [N, C] comes out in either. */
static ps_status lower_spatial(ps_device *device, ps_lowering *l, reduce_kind kind, ps_error *err) {
    const ps_shape *s = &l->node->in[0]->shape;
    int64_t pixels = ps_shape_product(s, 2, s->rank);
    if (l->in_layout[0] == PS_LAYOUT_PLAIN) return new_reduce(device, l, kind, s->dims[0] * s->dims[1], pixels, 1, err);
    return new_reduce(device, l, kind, s->dims[0], pixels, s->dims[1], err);
}

ps_status cpu_lower_global_pool(ps_device *device, ps_lowering *l, ps_error *err) {
    bool max = strcmp(l->node->op_type, "GlobalMaxPool") == 0;
    if (l->node->in[0]->dtype != PS_DTYPE_F32) return PS_OK;
    return lower_spatial(device, l, max ? REDUCE_MAX : REDUCE_MEAN, err);
}

ps_status cpu_lower_reduce(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *s = &n->in[0]->shape;
    const char *op = n->op_type;
    reduce_kind kind = strcmp(op, "ReduceMean") == 0  ? REDUCE_MEAN
                       : strcmp(op, "ReduceMax") == 0 ? REDUCE_MAX
                                                      : REDUCE_SUM;
    uint32_t mask;
    if (n->in[0]->dtype != PS_DTYPE_F32 || s->rank == 0 || !ps_reduce_axes(n, &mask)) return PS_OK;
    uint32_t all = (1u << s->rank) - 1;
    if (s->rank >= 3 && mask == (all & ~3u)) return lower_spatial(device, l, kind, err);
    /* one run of neighbouring axes, in plain layout */
    int first = 0, last = s->rank - 1;
    while (first < s->rank && !(mask >> first & 1))
        first++;
    while (last >= 0 && !(mask >> last & 1))
        last--;
    for (int i = first; i <= last; i++) {
        if (!(mask >> i & 1)) return PS_OK;
    }
    if (first > last) return PS_OK;
    l->in_layout[0] = PS_LAYOUT_PLAIN;
    return new_reduce(device, l, kind, ps_shape_product(s, 0, first), ps_shape_product(s, first, last + 1),
                      ps_shape_product(s, last + 1, s->rank), err);
}
