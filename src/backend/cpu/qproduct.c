/* qproduct.c - QLinearConv, and QLinearMatMul with constant weights, on the kernels of int8.h.
 *
 * A convolution is a product: the windows of a chunk of output pixels are gathered as rows, which meet all panels while
 * they are in the second-level cache; where the pixels are those rows already (1x1, stride 1), they are read in place.
 * Padding has the zero point's code, whose difference to it is 0. Zero points of activations become part of the bias,
 * by the sums of the weights' columns, which are packed with them. Depthwise convolutions have a kernel of their own.
 */
#include "backend/cpu/qproduct.h"
#include "backend/cpu/qsplit.h"

/* ---- parameters ---- */

static bool one_number(const ps_value *v) {
    return ps_shape_fixed(&v->shape) && ps_shape_product(&v->shape, 0, v->shape.rank) == 1;
}

static bool is_code(ps_dtype t) {
    return t == PS_DTYPE_U8 || t == PS_DTYPE_I8;
}

bool q_params_of(const ps_node *n, q_params *ret) {
    *ret = (q_params) { .x = n->in[PS_Q_X]->dtype, .w = n->in[PS_Q_W]->dtype, .y = n->out[0]->dtype };
    if (!is_code(ret->x) || !is_code(ret->w) || (!is_code(ret->y) && ret->y != PS_DTYPE_F32)) return false;
    for (size_t i = PS_Q_X_SCALE; i <= PS_Q_Y_ZERO; i++) {
        bool column = i == PS_Q_W_SCALE || i == PS_Q_W_ZERO;
        if (i == PS_Q_W || !ps_has_in(n, i)) continue;
        if (!one_number(n->in[i]) && (!column || n->in[i]->shape.rank != 1)) return false;
        bool scale = i == PS_Q_X_SCALE || i == PS_Q_W_SCALE || i == PS_Q_Y_SCALE;
        if (scale && n->in[i]->dtype != PS_DTYPE_F32) return false;
    }
    ret->x_zero = ps_has_in(n, PS_Q_X_ZERO);
    ret->w_zero = ps_has_in(n, PS_Q_W_ZERO);
    ret->y_scale = ps_has_in(n, PS_Q_Y_SCALE);
    ret->bias = ps_has_in(n, PS_Q_BIAS);
    ret->bias_f32 = ret->bias && n->in[PS_Q_BIAS]->dtype == PS_DTYPE_F32;
    const bool conv = strcmp(n->op_type, "QLinearConv") == 0;
    const ps_shape *y = &n->out[0]->shape, *b = ret->bias ? &n->in[PS_Q_BIAS]->shape : NULL;
    if (b && (b->rank != 1 || y->rank < 2 || b->dims[0] != y->dims[conv ? 1 : y->rank - 1])) return false;
    ret->many_scales = !one_number(n->in[PS_Q_W_SCALE]);
    ret->many_zeros = ret->w_zero && !one_number(n->in[PS_Q_W_ZERO]);
    ret->range = (ps_code_range) { PS_CODE_LOW, PS_CODE_HIGH };
    if (strcmp(n->domain, "polestar") != 0) return true;
    ret->range = conv ? ((const ps_qconv_params *)n->params)->range : *(const ps_code_range *)n->params;
    return true;
}

static int32_t code_at(const void *codes, ps_dtype t, int64_t i) {
    return t == PS_DTYPE_I8 ? ((const int8_t *)codes)[i] : ((const uint8_t *)codes)[i];
}

q_run q_run_of(const q_params *p, void *const *in) {
    q_run r = { .x_scale = *(const float *)in[PS_Q_X_SCALE], .y_scale = 1, .w_scale = in[PS_Q_W_SCALE] };
    if (p->x_zero) r.x_zero = code_at(in[PS_Q_X_ZERO], p->x, 0);
    if (p->x == PS_DTYPE_I8) r.x_zero += 128;
    if (p->w_zero) r.w_zero = in[PS_Q_W_ZERO];
    if (p->y_scale) {
        r.y_scale = *(const float *)in[PS_Q_Y_SCALE];
        r.y_zero = code_at(in[PS_Q_Y_ZERO], p->y, 0);
    }
    if (p->bias_f32)
        r.bias_f32 = in[PS_Q_BIAS];
    else if (p->bias)
        r.bias = in[PS_Q_BIAS];
    return r;
}

int32_t q_column_zero(const q_params *p, const q_run *r, int64_t c) {
    int32_t zero = p->w_zero ? code_at(r->w_zero, p->w, p->many_zeros ? c : 0) : 0;
    return p->w == PS_DTYPE_U8 ? zero - 128 : zero;
}

ps_q8_tail q_tail_of(const q_params *p, const q_run *r) {
    int64_t low = p->y == PS_DTYPE_I8 ? -128 : 0, high = low + 255;
    low = p->range.low > low ? p->range.low : low;
    high = p->range.high < high ? p->range.high : high;
    if (low > high) low = high; /* a range outside the type */
    return (ps_q8_tail) {
        .low = (float)(low - r->y_zero), .high = (float)(high - r->y_zero), .zero_point = r->y_zero, .to = p->y
    };
}

/* ---- the kernel ---- */

enum { MAX_TAPS = 256, MAX_K = 32768 };

typedef struct q_kernel {
    ps_kernel base;
    const ps_q8 *q;
    q_params params;
    const int32_t *sums;  /* of the weights' columns, [columns] */
    const int8_t *panels; /* behind them */
    int threads;
    bool direct, depthwise, zeros; /* zeros: weights have zero points */
    bool whole_runs;               /* a row of a window is one piece of the image, as the kernels want it */
    bool columns_first;            /* of a depthwise 3x3: taps column by column, with a fourth row of 0 */
    bool adds, adds_second;        /* codes of PS_Q_OTHER to the result, which is then the second operand */
    ps_code_range sum_range;
    int64_t batch, channels, outputs, group;
    int64_t k, groups, m;     /* of one group's product: codes a row, groups of them, rows */
    int64_t group_panels;     /* of one group */
    int64_t columns;          /* all panels' */
    int64_t row_bytes;        /* of a gathered row */
    q_split split;
    ps_window w[3];           /* depth, height, width; unused leading ones are 1 */
    size_t gather_at, thread_bytes;
} q_kernel;

typedef struct q_job {
    const q_kernel *k;
    const uint8_t *x, *x_end;
    char *y;
    char *workspace;
    ps_q8_tail tail;
    int32_t x_zero;
} q_job;

static size_t up_to(size_t n, size_t step) {
    return (n + step - 1) / step * step;
}

/* ---- gathering ---- */

static void fill(const q_job *j, char *to, int64_t n) {
    memset(to, j->k->q->element == 1 ? j->x_zero : 0, (size_t)(n * j->k->q->element));
}

/* Short runs, as of three channels, by pieces of 16 bytes: what they write too much is overwritten or behind the rows,
 * and what they read too much lies in the image. */
static void copy_run(const q_job *j, const uint8_t *x, char *to, int64_t n) {
    if (n > 64 || j->x_end - x < n + 16) {
        memcpy(to, x, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i += 16)
        memcpy(to + i, x + i, 16);
}

static void load(const q_job *j, const uint8_t *x, char *to, int64_t n) {
    const q_kernel *k = j->k;
    if (k->q->element == 1 && k->params.x == PS_DTYPE_U8)
        copy_run(j, x, to, n);
    else
        k->q->load(x, to, n, k->params.x == PS_DTYPE_I8 ? 0x80 : 0, j->x_zero);
}

/* One row of a window: kernel positions along the width, `c` codes of each pixel from x on. */
static char *gather_width(const q_job *j, const uint8_t *row, int64_t at, int64_t c, char *to) {
    const q_kernel *k = j->k;
    const ps_window *w = &k->w[2];
    const int64_t first = at * w->stride - w->pad_begin, size = c * k->q->element;
    if (w->dilation == 1 && k->group == 1) {
        int64_t begin = first < 0 ? -first : 0, end = w->in - first < w->kernel ? w->in - first : w->kernel;
        if (begin > w->kernel) begin = w->kernel;
        if (end < begin) end = begin;
        if (begin) fill(j, to, begin * c);
        if (end > begin) load(j, row + (first + begin) * c, to + begin * size, (end - begin) * c);
        if (end < w->kernel) fill(j, to + end * size, (w->kernel - end) * c);
        return to + w->kernel * size;
    }
    for (int64_t e = 0; e < w->kernel; e++, to += size) {
        const int64_t in = first + e * w->dilation;
        if (in < 0 || in >= w->in)
            fill(j, to, c);
        else
            load(j, row + in * k->channels, to, c);
    }
    return to;
}

/* An output pixel: image, depth, height, width. */
typedef struct pixel {
    int64_t n, z, y, x;
} pixel;

static pixel pixel_at(const q_kernel *k, int64_t i) {
    const ps_window *w = k->w;
    return (pixel) { i / (w[2].out * w[1].out * w[0].out), i / (w[2].out * w[1].out) % w[0].out,
                     i / w[2].out % w[1].out, i % w[2].out };
}

static void next_pixel(const q_kernel *k, pixel *p) {
    if (++p->x < k->w[2].out) return;
    p->x = 0;
    if (++p->y < k->w[1].out) return;
    p->y = 0;
    if (++p->z < k->w[0].out) return;
    p->z = 0;
    p->n++;
}

/* Is the window inside the image's width, and each of its rows one run of codes? */
static bool is_whole(const q_job *j, const pixel *p) {
    const q_kernel *k = j->k;
    const ps_window *w = &k->w[2];
    const int64_t first = p->x * w->stride - w->pad_begin;
    return k->whole_runs && first >= 0 && first + w->kernel <= w->in;
}

static void gather_whole(const q_job *j, const pixel *p, char *to) {
    const q_kernel *k = j->k;
    const ps_window *w = k->w;
    const int64_t run = w[2].kernel * k->channels, row_bytes = w[2].in * k->channels;
    const int64_t top = p->y * w[1].stride - w[1].pad_begin;
    const uint8_t *x = j->x + (p->n * w[1].in * w[2].in + p->x * w[2].stride - w[2].pad_begin) * k->channels;
    for (int64_t b = 0; b < w[1].kernel; b++, to += run) {
        const int64_t height = top + b * w[1].dilation;
        if (height < 0 || height >= w[1].in)
            memset(to, j->x_zero, (size_t)run);
        else
            copy_run(j, x + height * row_bytes, to, run);
    }
    for (int64_t i = k->k; i < k->row_bytes; i++)
        *to++ = 0;
}

/* The window of an output pixel, channels of group g. */
static void gather_row(const q_job *j, const pixel *p, int64_t g, char *to) {
    const q_kernel *k = j->k;
    const ps_window *w = k->w;
    const int64_t c = k->channels / k->group;
    char *end = to + k->row_bytes;
    for (int64_t a = 0; a < w[0].kernel; a++) {
        const int64_t depth = p->z * w[0].stride - w[0].pad_begin + a * w[0].dilation;
        for (int64_t b = 0; b < w[1].kernel; b++) {
            const int64_t height = p->y * w[1].stride - w[1].pad_begin + b * w[1].dilation;
            if (depth < 0 || depth >= w[0].in || height < 0 || height >= w[1].in) {
                fill(j, to, w[2].kernel * c);
                to += w[2].kernel * c * k->q->element;
                continue;
            }
            const uint8_t *row = j->x + ((p->n * w[0].in + depth) * w[1].in + height) * w[2].in * k->channels + g * c;
            to = gather_width(j, row, p->x, c, to);
        }
    }
    while (to < end)
        *to++ = 0; /* up to a whole group; the weights are 0 there */
}

/* Rows of a chunk, where they lie afterwards. sums: room for theirs. */
static const void *chunk_rows(const q_job *j, int64_t first, int64_t rows, int64_t g, char *room, int32_t *sums) {
    const q_kernel *k = j->k;
    const char *from = k->direct ? (const char *)j->x + first * k->row_bytes : room;
    pixel p = pixel_at(k, first);
    for (int64_t r = 0; !k->direct && r < rows; r++, next_pixel(k, &p)) {
        if (is_whole(j, &p))
            gather_whole(j, &p, room + r * k->row_bytes);
        else
            gather_row(j, &p, g, room + r * k->row_bytes);
    }
    for (int64_t r = 0; k->zeros && r < rows; r++)
        sums[r] = k->q->row_sum(from + r * k->row_bytes, k->k);
    return from;
}

/* ---- running ---- */

/* One item is one panel against one chunk of rows of one group; a chunk meets all panels of a share before the next. */
static void run_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const q_job *j = ctx;
    const q_kernel *k = j->k;
    const int64_t width = k->q->width, n = k->outputs / k->group;
    char *room = j->workspace + k->gather_at + (size_t)thread * k->thread_bytes;
    int32_t *sums = (int32_t *)(room + k->thread_bytes) - k->split.most;
    const char *rows = NULL;
    const int64_t size = k->params.y == PS_DTYPE_F32 ? 4 : 1;
    for (int64_t i = begin, have = -1; i < end; i++) {
        const q_item item = q_split_item(&k->split, i);
        const int64_t panel = item.panel, g = item.group, which = g * k->split.chunks + item.chunk;
        const int64_t first = q_split_row(&k->split, item.chunk), m = q_split_row(&k->split, item.chunk + 1) - first;
        if (panel >= k->group_panels) continue; /* the last share may have fewer */
        const int64_t column = panel * width, all = (g * k->group_panels + panel) * width;
        if (which != have) rows = chunk_rows(j, first, m, g, room, sums);
        have = which;
        ps_q8_tail t = j->tail;
        t.bias += all;
        t.scale += all;
        if (t.add) t.add += all;
        if (t.zero) t.zero += all;
        t.row_sums = sums;
        const int64_t at = first * k->outputs + g * n + column;
        if (t.sum.other) t.sum.other += at;
        k->q->panel(rows, k->row_bytes, k->panels + all * k->groups * k->q->group, k->groups, m,
                    n - column < width ? n - column : width, &t, j->y + at * size, k->outputs);
    }
}

/* Output columns [from, to) of a depthwise row, whose windows start at these rows of the image; outside: `none`, which
 * is as long as a row. */
static void depthwise_span(const q_job *j, const uint8_t *const *rows, int64_t from, int64_t to, char *y) {
    const q_kernel *k = j->k;
    const ps_window *w = k->w;
    const uint8_t *taps[MAX_TAPS], *none = (const uint8_t *)j->workspace + k->gather_at;
    const int64_t size = k->params.y == PS_DTYPE_F32 ? 4 : 1, c = k->channels,
                  left = from * w[2].stride - w[2].pad_begin;
    if (k->columns_first && w[2].stride == 1 && left >= 0 && to - from > 1) {
        const uint8_t *first[3] = { rows[0] + left * c, rows[1] + left * c, rows[2] + left * c };
        k->q->depthwise_3x3(first, to - from, k->panels, c, &j->tail, y + from * c * size);
        return;
    }
    for (int64_t t = 0; t < k->groups * k->q->group; t++)
        taps[t] = none;
    for (int64_t b = 0; b < w[2].kernel; b++) {
        const int64_t column = left + b * w[2].dilation;
        if (column < 0 || column >= w[2].in) continue;
        for (int64_t a = 0; a < w[1].kernel; a++)
            taps[k->columns_first ? b * 4 + a : a * w[2].kernel + b] = rows[a] + column * c;
    }
    k->q->depthwise(taps, w[2].stride * c, to - from, k->panels, k->groups * k->q->group, c, &j->tail,
                    y + from * c * size);
}

/* One item is a row of output pixels of a depthwise convolution. */
static void depthwise_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const q_job *j = ctx;
    const q_kernel *k = j->k;
    const ps_window *h = &k->w[1], *w = &k->w[2];
    const uint8_t *rows[MAX_TAPS], *none = (const uint8_t *)j->workspace + k->gather_at;
    const int64_t size = k->params.y == PS_DTYPE_F32 ? 4 : 1, c = k->channels, reach = (w->kernel - 1) * w->dilation;
    int64_t inner = (w->pad_begin + w->stride - 1) / w->stride, outer = w->in - 1 - reach + w->pad_begin;
    outer = outer < 0 ? 0 : outer / w->stride + 1; /* columns [inner, outer) have whole windows */
    if (outer > w->out) outer = w->out;
    if (inner > w->out) inner = w->out;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const int64_t y = row % h->out, n = row / h->out;
        char *to = j->y + row * w->out * c * size;
        for (int64_t a = 0; a < h->kernel; a++) {
            const int64_t at = y * h->stride - h->pad_begin + a * h->dilation;
            rows[a] = at >= 0 && at < h->in ? j->x + (n * h->in + at) * w->in * c : none;
        }
        for (int64_t x = 0; x < inner; x++)
            depthwise_span(j, rows, x, x + 1, to);
        if (outer > inner) depthwise_span(j, rows, inner, outer, to);
        for (int64_t x = outer > inner ? outer : inner; x < w->out; x++)
            depthwise_span(j, rows, x, x + 1, to);
    }
}

/* The columns of one group, without zero points of weights: in plain loops, which compilers turn into vectors, for this
 * is done in each run by one thread. c: the first column's output, at: its place. */
static void make_columns(const q_kernel *k, const q_run *r, int64_t c, int64_t at, int32_t *bias, float *scale) {
    const int64_t n = k->outputs / k->group;
    const uint32_t x_zero = k->q->element == 1 ? (uint32_t)r->x_zero : 0;
    const int32_t *sums = k->sums + at, *of = r->bias ? r->bias + c : NULL;
    const float x = r->x_scale, y = r->y_scale, *w = r->w_scale + (k->params.many_scales ? c : 0);
    for (int64_t i = 0; i < n; i++)
        bias[at + i] = (int32_t)(0 - x_zero * (uint32_t)sums[i]);
    for (int64_t i = 0; of && i < n; i++)
        bias[at + i] = (int32_t)((uint32_t)bias[at + i] + (uint32_t)of[i]);
    if (!k->params.many_scales) {
        for (int64_t i = 0; i < n; i++)
            scale[at + i] = x * *w / y;
        return;
    }
    for (int64_t i = 0; i < n; i++)
        scale[at + i] = x * w[i] / y;
}

/* The same of any weights. */
static void make_any_column(const q_kernel *k, const q_run *r, int64_t c, int64_t at, int32_t *bias, float *scale) {
    int32_t *zero = bias + k->columns;
    uint32_t b = r->bias ? (uint32_t)r->bias[c] : 0;
    zero[at] = k->zeros ? q_column_zero(&k->params, r, c) : 0;
    if (k->q->element == 1 || k->depthwise) {
        b -= (uint32_t)r->x_zero * (uint32_t)k->sums[at];
        b += (uint32_t)zero[at] * (uint32_t)(k->k * r->x_zero);
    }
    bias[at] = (int32_t)b;
    scale[at] = r->x_scale * r->w_scale[k->params.many_scales ? c : 0] / r->y_scale;
}

/* Bias, scale, summand and zero point of each column, as the kernels want them. */
static void make_tail(q_job *j, const q_run *r) {
    const q_kernel *k = j->k;
    int32_t *bias = (int32_t *)j->workspace, *zero = bias + k->columns;
    float *scale = (float *)(zero + k->columns), *add = scale + k->columns;
    const int64_t n = k->outputs / k->group, padded = k->group_panels * k->q->width;
    const bool usual = !k->depthwise && !k->zeros;
    memset(bias, 0, (size_t)k->columns * 16);
    for (int64_t c = 0; usual && c < k->outputs; c += n)
        make_columns(k, r, c, c / n * padded, bias, scale);
    for (int64_t c = 0; (!usual || r->bias_f32) && c < k->outputs; c++) {
        const int64_t at = k->depthwise ? c / k->q->block * k->q->block + ps_q8_depthwise_place(k->q, c % k->q->block)
                                        : c / n * padded + c % n;
        if (!usual) make_any_column(k, r, c, at, bias, scale);
        if (r->bias_f32) add[at] = r->bias_f32[c] / r->y_scale;
    }
    j->tail = q_tail_of(&k->params, r);
    j->tail.bias = bias;
    j->tail.scale = scale;
    if (r->bias_f32) j->tail.add = add;
    if (k->zeros) j->tail.zero = zero;
}

static q_linear linear_of(const q_kernel *k, void *const *in, size_t scale) {
    return (q_linear) { *(const float *)in[scale], (float)code_at(in[scale + 1], k->params.y, 0) };
}

static ps_q8_sum sum_of(const q_kernel *k, void *const *in) {
    const q_linear mine = linear_of(k, in, PS_Q_Y_SCALE), theirs = linear_of(k, in, PS_Q_OTHER_SCALE);
    const q_linear *a = k->adds_second ? &theirs : &mine, *b = k->adds_second ? &mine : &theirs;
    const bool is_signed = k->params.y == PS_DTYPE_I8;
    return (ps_q8_sum) { q_pair_of(is_signed, *a, *b, linear_of(k, in, PS_Q_SUM_SCALE), k->sum_range, false),
                         k->adds_second, in[PS_Q_OTHER] };
}

static ps_status q_kernel_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const q_kernel *k = (const q_kernel *)kernel;
    const q_run r = q_run_of(&k->params, args->in);
    q_job job = { .k = k, .x = args->in[PS_Q_X], .y = args->out[0], .workspace = args->workspace, .x_zero = r.x_zero };
    job.x_end = job.x + k->batch * k->channels * k->w[0].in * k->w[1].in * k->w[2].in;
    (void)err;
    make_tail(&job, &r);
    if (k->adds) job.tail.sum = sum_of(k, args->in);
    if (k->depthwise) {
        memset(job.workspace + k->gather_at, r.x_zero, (size_t)(k->channels * k->w[2].in));
        ps_parallel_for(k->batch * k->w[1].out, 1 + 4096 / (k->w[2].out * k->channels), k->threads, depthwise_rows,
                        &job);
        return PS_OK;
    }
    const int threads = k->m * k->outputs * k->k < 65536 ? 1 : k->threads;
    ps_parallel_for(k->split.items, 1, threads, run_items, &job);
    return PS_OK;
}

/* ---- packing ---- */

typedef struct pack_job {
    const q_kernel *k;
    const ps_tensor *w;
    bool matrix; /* [K][N], else [N][C][window] */
} pack_job;

/* Code (column, i) of the weights as i8; i counts the window's positions, and in each the channels. */
static int8_t weight_at(const pack_job *j, int64_t column, int64_t i) {
    const q_kernel *k = j->k;
    const int64_t c = k->channels / k->group, places = k->k / c;
    const int64_t at = j->matrix ? i * k->outputs + column : (column * c + i % c) * places + i / c;
    const uint8_t code = ((const uint8_t *)j->w->data)[at];
    return (int8_t)(j->w->dtype == PS_DTYPE_U8 ? code ^ 0x80 : code);
}

static void pack_depthwise(const pack_job *j, int32_t *sums, int8_t *to) {
    const q_kernel *k = j->k;
    const int64_t block = k->q->block, group = k->q->group;
    for (int64_t c = 0; c < k->outputs; c++) {
        const int64_t place = ps_q8_depthwise_place(k->q, c % block), first = c / block * block;
        for (int64_t i = 0; i < k->k; i++) {
            const int64_t t = k->columns_first ? i % 3 * 4 + i / 3 : i;
            const int64_t at = (first * k->groups + t / group * block + place) * group + t % group;
            const int8_t w = weight_at(j, c, i);
            if (k->q->element == 1)
                to[at] = w;
            else
                ((int16_t *)(void *)to)[at] = w;
            sums[first + place] += w;
        }
    }
}

static void pack_panels(const pack_job *j, int32_t *sums, int8_t *to) {
    const q_kernel *k = j->k;
    const int64_t n = k->outputs / k->group, width = k->q->width, group = k->q->group;
    for (int64_t column = 0; column < k->outputs; column++) {
        const int64_t all = column / n * k->group_panels * width + column % n, in = all % width;
        int8_t *panel = to + (all - in) * k->groups * group;
        for (int64_t i = 0; i < k->k; i++) {
            const int8_t w = weight_at(j, column, i);
            panel[(i / group * width + in) * group + i % group] = w;
            sums[all] += w;
        }
    }
}

static size_t sums_bytes(const q_kernel *k) {
    return up_to((size_t)k->columns * sizeof(int32_t), 64);
}

static size_t panels_bytes(const q_kernel *k) {
    return (size_t)(k->columns * k->groups * k->q->group * (k->depthwise ? k->q->element : 1));
}

static ps_status pack(void *ctx, void *dst, ps_error *err) {
    const pack_job *j = ctx;
    const q_kernel *k = j->k;
    int8_t *panels = (int8_t *)dst + sums_bytes(k);
    (void)err;
    memset(dst, 0, sums_bytes(k) + panels_bytes(k));
    if (k->depthwise)
        pack_depthwise(j, dst, panels);
    else
        pack_panels(j, dst, panels);
    return PS_OK;
}

static ps_status take_weights(ps_lowering *l, q_kernel *k, bool matrix, ps_error *err) {
    char key[80];
    const void *data;
    pack_job job = { k, l->node->in[PS_Q_W]->constant, matrix };
    ps_snprintf(key, sizeof key, "codes %s %s %lld", k->q->name,
                matrix         ? "matrix"
                : k->depthwise ? "depthwise"
                               : "windows",
                (long long)k->group);
    const size_t size = sums_bytes(k) + panels_bytes(k);
    PS_TRY(ps_weights_take(l, PS_Q_W, key, size, pack, &job, &data, err));
    k->sums = data;
    k->panels = (const int8_t *)data + sums_bytes(k);
    return PS_OK;
}

/* ---- lowering ---- */

/* Weights whose zero points are all 0, seen as i8, need no sums of rows. */
static bool has_zeros(const ps_node *n, const q_params *p) {
    const ps_tensor *z = p->w_zero ? n->in[PS_Q_W_ZERO]->constant : NULL;
    if (!p->w_zero) return p->w == PS_DTYPE_U8;
    if (!z) return true;
    q_run r = { .w_zero = z->data };
    for (int64_t c = 0; c < (p->many_zeros ? (int64_t)ps_tensor_count(z) : 1); c++) {
        if (q_column_zero(p, &r, c)) return true;
    }
    return false;
}

static void split(q_kernel *k) {
    const q_load load = { .m = k->m,
                          .groups = k->group,
                          .panels = k->group_panels,
                          .tile = k->q->rows,
                          .row_bytes = k->row_bytes,
                          .panel_bytes = k->q->width * k->groups * k->q->group,
                          .gathered = !k->direct };
    k->split = q_split_of(&load, k->threads);
}

static void size_workspace(q_kernel *k) {
    k->gather_at = up_to((size_t)k->columns * 16, 64);
    if (k->depthwise) {
        k->base.workspace = k->gather_at + up_to((size_t)(k->channels * k->w[2].in), 64) + 64;
        return;
    }
    split(k);
    const size_t rows = (size_t)k->split.most;
    k->thread_bytes = up_to((k->direct ? 0 : rows * (size_t)k->row_bytes + 16) + rows * 4, 64);
    k->base.workspace = k->gather_at + (size_t)k->threads * k->thread_bytes;
}

static bool is_plain(const ps_window *w) {
    return w->kernel == 1 && w->stride == 1 && !w->pad_begin && w->in == w->out;
}

static ps_status complete(ps_lowering *l, q_kernel *k, bool matrix, ps_error *err) {
    const ps_q8 *q = k->q;
    const int64_t n = k->outputs / k->group;
    k->groups = k->columns_first ? 3 : (k->k + q->group - 1) / q->group;
    k->group_panels = (n + q->width - 1) / q->width;
    k->columns =
        k->depthwise ? (k->outputs + q->block - 1) / q->block * q->block : k->group * k->group_panels * q->width;
    k->direct = q->element == 1 && k->params.x == PS_DTYPE_U8 && k->group == 1 && k->k % q->group == 0 &&
                is_plain(&k->w[0]) && is_plain(&k->w[1]) && is_plain(&k->w[2]);
    k->row_bytes = k->groups * q->group * q->element;
    k->whole_runs = q->element == 1 && k->params.x == PS_DTYPE_U8 && k->group == 1 && k->w[2].dilation == 1 &&
                    is_plain(&k->w[0]) && k->w[0].in == 1;
    size_workspace(k);
    PS_TRY(take_weights(l, k, matrix, err));
    ps_snprintf(k->base.label, sizeof k->base.label, "cpu.int8 %s %s%s", q->name,
                matrix         ? "matmul"
                : k->depthwise ? "depthwise conv"
                : k->adds      ? "conv add"
                               : "conv",
                k->params.y == PS_DTYPE_F32 ? " to f32" : "");
    l->kernel = &k->base;
    return PS_OK;
}

static ps_status new_kernel(ps_device *device, ps_lowering *l, const q_params *p, q_kernel **ret, ps_error *err) {
    static const ps_kernel_ops ops = { q_kernel_run, cpu_kernel_free, NULL, NULL };
    q_kernel *k;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "", &k, err));
    k->q = cpu_of(device)->q8;
    k->params = *p;
    k->threads = l->threads;
    k->zeros = has_zeros(l->node, p);
    for (int i = 0; i < 3; i++)
        k->w[i] = (ps_window) { 1, 1, 1, 1, 1, 0, 0 };
    for (uint32_t i = 0; i < l->node->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    *ret = k;
    return PS_OK;
}

static bool is_empty(const ps_shape *s) {
    return ps_shape_product(s, 0, s->rank) == 0;
}

static bool possible(const ps_node *n, q_params *p) {
    return q_params_of(n, p) && n->in[PS_Q_W]->constant && !is_empty(&n->in[PS_Q_X]->shape) &&
           !is_empty(&n->in[PS_Q_W]->shape) && !is_empty(&n->out[0]->shape);
}

static ps_status finish(ps_lowering *l, q_kernel *k, bool matrix, ps_error *err) {
    const ps_status status = k->k > MAX_K ? PS_OK : complete(l, k, matrix, err);
    if (!l->kernel) cpu_kernel_free(&k->base);
    return status;
}

ps_status cpu_lower_qconv(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_qconv_params *c = n->params;
    const ps_shape *x = &n->in[PS_Q_X]->shape, *w = &n->in[PS_Q_W]->shape;
    ps_window windows[PS_MAX_SPATIAL];
    q_params p;
    q_kernel *k;
    int count;
    if (c->channels_last || x->rank > 5 || !possible(n, &p)) return PS_OK;
    PS_TRY(ps_qconv_windows(n, windows, &count, err));
    PS_TRY(new_kernel(device, l, &p, &k, err));
    for (int i = 0; i < count; i++)
        k->w[3 - count + i] = windows[i];
    k->batch = x->dims[0];
    k->channels = x->dims[1];
    k->outputs = w->dims[0];
    k->group = c->conv.group;
    k->k = ps_shape_product(w, 1, w->rank);
    k->m = k->batch * k->w[0].out * k->w[1].out * k->w[2].out;
    k->depthwise = k->group == k->channels && k->group == k->outputs && k->group > 1 && p.x == PS_DTYPE_U8 &&
                   !k->zeros && k->k + 4 <= MAX_TAPS && is_plain(&k->w[0]) && k->w[0].in == 1;
    l->in_layout[PS_Q_X] = l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    if (ps_has_in(n, PS_Q_OTHER)) {
        k->adds = true;
        k->adds_second = c->second != 0;
        k->sum_range = c->sum;
        k->depthwise = false;
        l->in_layout[PS_Q_OTHER] = PS_LAYOUT_CHANNELS_LAST;
        l->inplace = PS_Q_OTHER;
    }
    return finish(l, k, false, err);
}

ps_status cpu_lower_qmatmul(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *x = &n->in[PS_Q_X]->shape, *w = &n->in[PS_Q_W]->shape;
    q_params p;
    q_kernel *k;
    if (x->rank < 2 || w->rank != 2 || !possible(n, &p)) return PS_OK;
    PS_TRY(new_kernel(device, l, &p, &k, err));
    k->batch = 1;
    k->channels = k->k = w->dims[0];
    k->outputs = w->dims[1];
    k->group = 1;
    k->m = ps_shape_product(x, 0, x->rank - 1);
    k->w[2].in = k->w[2].out = k->m;
    return finish(l, k, true, err);
}
