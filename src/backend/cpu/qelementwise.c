/* qelementwise.c - QLinearAdd, QLinearMul, Lookup, QLinearGlobalAveragePool and QLinearAveragePool, in the arithmetic
 * of the reference kernels, whose results they equal. */
#include <math.h>

#include "backend/cpu/chain.h"
#include "backend/cpu/qproduct.h"

static bool one_number(const ps_value *v) {
    return ps_shape_fixed(&v->shape) && ps_shape_product(&v->shape, 0, v->shape.rank) == 1;
}

static bool is_code(const ps_value *v) {
    return v->dtype == PS_DTYPE_U8 || v->dtype == PS_DTYPE_I8;
}

static float code_at(const void *code, bool is_signed) {
    return is_signed ? (float)*(const int8_t *)code : (float)*(const uint8_t *)code;
}

static bool channels_last(const ps_node *n) {
    const ps_attr *a = ps_node_attr(n, "channels_last");
    return a && a->type == PS_ATTR_INT && a->u.i;
}

/* A scale at input i and the zero point after it, which may be missing. */
static bool numbers_at(const ps_node *n, size_t i) {
    return n->in[i]->dtype == PS_DTYPE_F32 && one_number(n->in[i]) &&
           (!ps_has_in(n, i + 1) || one_number(n->in[i + 1]));
}

/* ---- Add, Mul ---- */

enum { A, A_SCALE, B = 3, B_SCALE, Y_SCALE = 6, TILE = 1024 };

typedef struct pair_kernel {
    ps_kernel base;
    const ps_q8 *q;
    bool multiply, is_signed, zero[3]; /* zero: there is a zero point for a, b, y */
    ps_code_range range;
    int rank, threads;
    int64_t dims[PS_MAX_RANK], a[PS_MAX_RANK], b[PS_MAX_RANK]; /* in memory order, merged */
} pair_kernel;

typedef struct pair_job {
    const pair_kernel *k;
    ps_q8_pair pair;
    const uint8_t *a, *b;
    uint8_t *y;
    int64_t tiles; /* per innermost row */
} pair_job;

/* The tile's operand side by side, gathered if it is not. */
static const uint8_t *side_by_side(const uint8_t *p, int64_t stride, int64_t n, uint8_t *buf) {
    if (stride == 1) return p;
    if (stride == 0) return memset(buf, *p, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        buf[i] = p[i * stride];
    return buf;
}

static void pair_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const pair_job *j = ctx;
    const pair_kernel *k = j->k;
    const int last = k->rank - 1;
    uint8_t left[TILE], right[TILE];
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        const int64_t row = item / j->tiles, first = item % j->tiles * TILE;
        const int64_t n = k->dims[last] - first < TILE ? k->dims[last] - first : TILE;
        int64_t a = first * k->a[last], b = first * k->b[last], rest = row;
        for (int d = last - 1; d >= 0; d--) {
            a += rest % k->dims[d] * k->a[d];
            b += rest % k->dims[d] * k->b[d];
            rest /= k->dims[d];
        }
        const uint8_t *x = side_by_side(j->a + a, k->a[last], n, left);
        const bool one = k->b[last] == 0;
        const uint8_t *z = one ? j->b + b : side_by_side(j->b + b, k->b[last], n, right);
        (k->multiply ? k->q->mul : k->q->add)(&j->pair, x, z, one, j->y + row * k->dims[last] + first, n);
    }
}

ps_q8_pair q_pair_of(bool is_signed, q_linear a, q_linear b, q_linear y, ps_code_range range, bool multiply) {
    ps_q8_pair p = { .is_signed = is_signed, .low = is_signed ? -128 : 0, .high = is_signed ? 127 : 255 };
    p.za = a.zero;
    p.zb = b.zero;
    p.fa = a.scale / y.scale;
    p.fb = b.scale / y.scale;
    p.factor = a.scale * b.scale / y.scale;
    p.shift = multiply ? y.zero : y.zero - (p.fa * p.za + p.fb * p.zb);
    if ((float)range.low > p.low) p.low = (float)range.low;
    if ((float)range.high < p.high) p.high = (float)range.high;
    if (p.low > p.high) p.low = p.high;
    return p;
}

static ps_q8_pair pair_of(const pair_kernel *k, void *const *in) {
    static const int scales[3] = { A_SCALE, B_SCALE, Y_SCALE };
    q_linear l[3];
    for (int i = 0; i < 3; i++) {
        l[i].scale = *(const float *)in[scales[i]];
        l[i].zero = k->zero[i] ? code_at(in[scales[i] + 1], k->is_signed) : 0;
    }
    return q_pair_of(k->is_signed, l[0], l[1], l[2], k->range, k->multiply);
}

static ps_status pair_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const pair_kernel *k = (const pair_kernel *)kernel;
    pair_job job = { k, pair_of(k, args->in), args->in[A], args->in[B], args->out[0], 0 };
    int64_t rows = 1, row = k->dims[k->rank - 1];
    (void)err;
    for (int d = 0; d < k->rank - 1; d++)
        rows *= k->dims[d];
    if (rows * row == 0) return PS_OK;
    job.tiles = (row + TILE - 1) / TILE;
    ps_parallel_for(rows * job.tiles, 1 + 16384 / (row < TILE ? row : TILE), k->threads, pair_items, &job);
    return PS_OK;
}

/* Dims in memory order of the output; neighbours that both operands walk as one are one. */
static bool lay_out(pair_kernel *k, const ps_lowering *l, ps_layout layout) {
    const ps_node *n = l->node;
    const ps_shape *y = &n->out[0]->shape;
    int64_t a[PS_MAX_RANK] = { 0 }, b[PS_MAX_RANK] = { 0 };
    if (!ps_broadcast_strides(&n->in[A]->shape, l->in_layout[A], y, a)) return false;
    if (!ps_broadcast_strides(&n->in[B]->shape, l->in_layout[B], y, b)) return false;
    for (int i = 0; i < y->rank; i++) {
        int d = i;
        if (layout == PS_LAYOUT_CHANNELS_LAST && i) d = i + 1 < y->rank ? i + 1 : 1;
        const int64_t dim = y->dims[d];
        if (dim == 1) continue;
        int at = k->rank - 1;
        if (at < 0 || k->a[at] != a[d] * dim || k->b[at] != b[d] * dim) {
            at = k->rank++;
            k->dims[at] = 1;
        }
        k->dims[at] *= dim;
        k->a[at] = a[d];
        k->b[at] = b[d];
    }
    if (k->rank == 0) k->dims[k->rank++] = 1;
    return true;
}

/* Channels-last as soon as one input of the full shape lies so. */
static ps_layout layout_of(const ps_lowering *l) {
    static const uint32_t operands[] = { A, B };
    for (int i = 0; i < 2; i++) {
        const ps_value *v = l->node->in[operands[i]];
        if (l->in_layout[operands[i]] == PS_LAYOUT_CHANNELS_LAST && !ps_layout_same(&v->shape) &&
            ps_shape_equal(&v->shape, &l->node->out[0]->shape))
            return PS_LAYOUT_CHANNELS_LAST;
    }
    return PS_LAYOUT_PLAIN;
}

static ps_status lower_pair(ps_device *device, ps_lowering *l, bool multiply, ps_error *err) {
    static const ps_kernel_ops ops = { pair_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    pair_kernel *k;
    if (!is_code(n->in[A]) || !numbers_at(n, A_SCALE) || !numbers_at(n, B_SCALE) || !numbers_at(n, Y_SCALE))
        return PS_OK;
    const ps_layout layout = layout_of(l);
    for (uint32_t i = 0; i < n->n_in; i++) {
        const bool full = (i == A || i == B) && n->in[i]->shape.rank == n->out[0]->shape.rank;
        l->in_layout[i] = full ? layout : PS_LAYOUT_PLAIN;
    }
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "", &k, err));
    k->q = cpu_of(device)->q8;
    k->multiply = multiply;
    k->is_signed = n->in[A]->dtype == PS_DTYPE_I8;
    for (size_t i = 0; i < 3; i++)
        k->zero[i] = ps_has_in(n, 3 * i + (i < 2 ? 2 : 1));
    k->range = n->params ? *(const ps_code_range *)n->params : (ps_code_range) { PS_CODE_LOW, PS_CODE_HIGH };
    k->threads = l->threads;
    if (!lay_out(k, l, layout)) {
        cpu_kernel_free(&k->base);
        return PS_OK;
    }
    ps_snprintf(k->base.label, sizeof k->base.label, "cpu.int8 %s %s", k->q->name, multiply ? "mul" : "add");
    l->out_layout[0] = layout;
    l->kernel = &k->base;
    return PS_OK;
}

ps_status cpu_lower_qadd(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower_pair(device, l, false, err);
}

ps_status cpu_lower_qmul(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower_pair(device, l, true, err);
}

/* ---- Lookup ---- */

typedef struct lookup_kernel {
    ps_kernel base;
    const ps_q8 *q;
    int64_t n;
    int threads;
} lookup_kernel;

typedef struct lookup_job {
    const lookup_kernel *k;
    const uint8_t *x, *table;
    uint8_t *y;
} lookup_job;

static void lookup_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const lookup_job *j = ctx;
    (void)thread;
    j->k->q->lookup(j->x + begin, j->table, j->y + begin, end - begin);
}

static ps_status lookup_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const lookup_kernel *k = (const lookup_kernel *)kernel;
    lookup_job job = { k, args->in[0], args->in[1], args->out[0] };
    (void)err;
    ps_parallel_for(k->n, 16384, k->threads, lookup_range, &job);
    return PS_OK;
}

ps_status cpu_lower_lookup(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { lookup_run, cpu_kernel_free, NULL, NULL };
    const ps_shape *s = &l->node->in[0]->shape;
    lookup_kernel *k;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "cpu.int8 lookup", &k, err));
    k->q = cpu_of(device)->q8;
    k->n = ps_shape_product(s, 0, s->rank);
    k->threads = l->threads;
    l->out_layout[0] = l->in_layout[0];
    l->in_layout[1] = PS_LAYOUT_PLAIN;
    l->inplace = 0;
    l->kernel = &k->base;
    return PS_OK;
}

/* ---- pools ---- */

typedef struct average_kernel {
    ps_kernel base;
    const ps_q8 *q;
    bool is_signed, x_zero, y_zero, include_pad;
    int threads;
    int64_t batch, channels;
    ps_window w[3]; /* of the windowed pool; in[] of the global one */
} average_kernel;

typedef struct average_job {
    const average_kernel *k;
    const uint8_t *x;
    uint8_t *y;
    int32_t *sums; /* of the global pool, channels for each thread */
    float table[256], y_scale, factor;
    int32_t x_zero;
    float y_zero;
} average_job;

static uint8_t as_code(const average_job *j, float v) {
    const float low = j->k->is_signed ? -128 : 0, high = low + 255;
    v = v > low ? v : low; /* NaN too */
    v = v < high ? v : high;
    return (uint8_t)(int32_t)v;
}

static void global_images(void *ctx, int64_t begin, int64_t end, int thread) {
    const average_job *j = ctx;
    const average_kernel *k = j->k;
    const int64_t c = k->channels, pixels = k->w[0].in;
    int32_t *sums = j->sums + thread * c;
    for (int64_t i = begin; i < end; i++) {
        memset(sums, 0, (size_t)c * sizeof *sums);
        k->q->sum(j->x + i * pixels * c, pixels, c, k->is_signed, sums);
        for (int64_t p = 0; p < c; p++) {
            const float v = (float)(sums[p] - (int32_t)pixels * j->x_zero) * j->factor;
            j->y[i * c + p] = as_code(j, rintf(v) + j->y_zero);
        }
    }
}

static void average_numbers(const average_kernel *k, void *const *in, average_job *j) {
    const float x_scale = *(const float *)in[1];
    j->y_scale = *(const float *)in[3];
    j->x_zero = k->x_zero ? (int32_t)code_at(in[2], k->is_signed) : 0;
    j->y_zero = k->y_zero ? code_at(in[4], k->is_signed) : 0;
    j->factor = x_scale / (j->y_scale * (float)k->w[0].in);
    for (int i = 0; i < 256; i++)
        j->table[i] = (float)((k->is_signed ? (int8_t)i : i) - j->x_zero) * x_scale;
}

static ps_status global_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const average_kernel *k = (const average_kernel *)kernel;
    average_job job = { .k = k, .x = args->in[0], .y = args->out[0], .sums = args->workspace };
    (void)err;
    average_numbers(k, args->in, &job);
    ps_parallel_for(k->batch, 1 + 65536 / (1 + k->w[0].in * k->channels), k->threads, global_images, &job);
    return PS_OK;
}

static ps_status new_average(ps_device *device, ps_lowering *l, const ps_kernel_ops *ops, const char *label,
                             average_kernel **ret, ps_error *err) {
    const ps_node *n = l->node;
    average_kernel *k;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, ops, label, &k, err));
    k->q = cpu_of(device)->q8;
    k->is_signed = n->in[0]->dtype == PS_DTYPE_I8;
    k->x_zero = ps_has_in(n, 2);
    k->y_zero = ps_has_in(n, 4);
    k->threads = l->threads;
    k->batch = n->in[0]->shape.dims[0];
    k->channels = n->in[0]->shape.dims[1];
    for (uint32_t i = 1; i < n->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    l->in_layout[0] = l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    l->kernel = &k->base;
    *ret = k;
    return PS_OK;
}

static bool average_possible(const ps_node *n) {
    const ps_shape *s = &n->in[0]->shape;
    return is_code(n->in[0]) && numbers_at(n, 1) && numbers_at(n, 3) && s->rank >= 3 &&
           ps_shape_product(s, 0, s->rank) > 0 && !channels_last(n);
}

ps_status cpu_lower_qglobalpool(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { global_run, cpu_kernel_free, NULL, NULL };
    const ps_shape *s = &l->node->in[0]->shape;
    average_kernel *k;
    if (!average_possible(l->node) || ps_shape_product(s, 2, s->rank) > INT32_MAX / 512) return PS_OK;
    PS_TRY(new_average(device, l, &ops, "cpu.int8 globalavgpool", &k, err));
    k->w[0].in = ps_shape_product(s, 2, s->rank);
    k->base.workspace = (size_t)k->threads * (size_t)k->channels * sizeof(int32_t);
    return PS_OK;
}

/* ---- windows ---- */

/* Taps of window w at output position `at` that lie inside the input, and those that an average with padding counts. */
static void taps_of(const ps_window *w, int64_t at, int64_t *ret_first, int64_t *ret_n, int64_t *ret_padded) {
    const int64_t first = at * w->stride - w->pad_begin;
    int64_t begin = 0, end = w->kernel, padded = 0;
    while (begin < end && first + begin * w->dilation < 0)
        begin++;
    while (end > begin && first + (end - 1) * w->dilation >= w->in)
        end--;
    for (int64_t i = 0; i < w->kernel; i++)
        padded += first + i * w->dilation < w->in + w->pad_end;
    *ret_first = first + begin * w->dilation;
    *ret_n = end - begin;
    *ret_padded = padded;
}

static void window_pixel(const average_job *j, int64_t image, const int64_t at[3], uint8_t *y) {
    const average_kernel *k = j->k;
    const ps_window *w = k->w;
    int64_t first[3], n[3], padded[3];
    for (int d = 0; d < 3; d++)
        taps_of(&w[d], at[d], &first[d], &n[d], &padded[d]);
    const int64_t count = k->include_pad ? padded[0] * padded[1] * padded[2] : n[0] * n[1] * n[2];
    for (int64_t c = 0; c < k->channels; c++) {
        float sum = 0; /* in the order and width of the reference kernel */
        for (int64_t a = 0; a < n[0]; a++) {
            for (int64_t b = 0; b < n[1]; b++) {
                const int64_t row =
                    (image * w[0].in + first[0] + a * w[0].dilation) * w[1].in + first[1] + b * w[1].dilation;
                const uint8_t *x = j->x + (row * w[2].in + first[2]) * k->channels + c;
                for (int64_t e = 0; e < n[2]; e++, x += w[2].dilation * k->channels)
                    sum += j->table[*x];
            }
        }
        const float mean = count ? sum / (float)count : 0;
        y[c] = as_code(j, rintf(mean / j->y_scale + j->y_zero));
    }
}

static void window_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const average_job *j = ctx;
    const ps_window *w = j->k->w;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        int64_t at[3] = { row / w[1].out % w[0].out, row % w[1].out, 0 };
        for (; at[2] < w[2].out; at[2]++)
            window_pixel(j, row / (w[1].out * w[0].out), at, j->y + (row * w[2].out + at[2]) * j->k->channels);
    }
}

static ps_status window_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const average_kernel *k = (const average_kernel *)kernel;
    average_job job = { .k = k, .x = args->in[0], .y = args->out[0] };
    (void)err;
    average_numbers(k, args->in, &job);
    ps_parallel_for(k->batch * k->w[0].out * k->w[1].out, 1 + 2048 / (1 + k->w[2].out * k->channels), k->threads,
                    window_rows, &job);
    return PS_OK;
}

ps_status cpu_lower_qaveragepool(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { window_run, cpu_kernel_free, NULL, NULL };
    const ps_pool_params *p = l->node->params;
    ps_window w[PS_MAX_SPATIAL];
    average_kernel *k;
    int count;
    if (!average_possible(l->node) || l->node->in[0]->shape.rank > 5) return PS_OK;
    PS_TRY(ps_pool_windows(l->node, w, &count, err));
    PS_TRY(new_average(device, l, &ops, "cpu.int8 avgpool", &k, err));
    k->include_pad = p->count_include_pad != 0;
    for (int i = 0; i < 3; i++)
        k->w[i] = i < 3 - count ? (ps_window) { 1, 1, 1, 1, 1, 0, 0 } : w[i - (3 - count)];
    return PS_OK;
}
