/* resize.c - Resize of images, nearest and linear, channels-last: whole pixels are copied or blended as rows of
 * channels. The tables of source positions are made once, when the plan is. */
#include <math.h>

#include "backend/cpu/cpu_int.h"

typedef struct tap {
    int32_t at, next; /* source positions */
    float share;      /* of next */
} tap;

typedef struct resize_kernel {
    ps_kernel base;
    const ps_simd *simd;
    bool linear;
    size_t element; /* bytes; linear: of f32 */
    int threads;
    int64_t batch, channels, in_h, in_w, out_h, out_w;
    tap *rows, *cols; /* in the kernel's own block */
} resize_kernel;

typedef struct resize_job {
    const resize_kernel *k;
    const char *x;
    char *y;
} resize_job;

static void blend(const float *restrict a, const float *restrict b, float share, float *restrict y, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + (b[i] - a[i]) * share;
}

static void linear_pixel(const resize_kernel *k, const float *top, const float *bottom, const tap *row, const tap *col,
                         float *y) {
    int64_t c = k->channels;
    const float *a = top + col->at * c, *b = top + col->next * c, *d = bottom + col->at * c,
                *e = bottom + col->next * c;
    float w = col->share, v = row->share;
    for (int64_t i = 0; i < c; i++) {
        float up = a[i] + (b[i] - a[i]) * w, down = d[i] + (e[i] - d[i]) * w;
        y[i] = up + (down - up) * v;
    }
}

/* One row of output pixels, copied. */
static void nearest_row(const resize_kernel *k, const char *row, char *y) {
    const size_t pixel = (size_t)k->channels * k->element;
    for (int64_t w = 0; w < k->out_w; w++, y += pixel)
        memcpy(y, row + (size_t)k->cols[w].at * pixel, pixel);
}

static void resize_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const resize_job *j = ctx;
    const resize_kernel *k = j->k;
    int64_t c = k->channels, in_row = k->in_w * c;
    for (int64_t item = begin; item < end; item++) {
        const tap *row = &k->rows[item % k->out_h];
        const int64_t image = item / k->out_h * k->in_h;
        if (!k->linear) {
            nearest_row(k, j->x + (size_t)((image + row->at) * in_row) * k->element,
                        j->y + (size_t)(item * k->out_w * c) * k->element);
            continue;
        }
        const float *top = (const float *)j->x + (image + row->at) * in_row;
        const float *bottom = (const float *)j->x + (image + row->next) * in_row;
        float *y = (float *)j->y + item * k->out_w * c;
        for (int64_t w = 0; w < k->out_w; w++, y += c) {
            const tap *col = &k->cols[w];
            if (row->share == 0)
                blend(top + col->at * c, top + col->next * c, col->share, y, c);
            else
                linear_pixel(k, top, bottom, row, col, y);
        }
    }
}

static ps_status resize_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const resize_kernel *k = (const resize_kernel *)kernel;
    resize_job job = { k, args->in[0], args->out[0] };
    ps_parallel_for(k->batch * k->out_h, 1 + 4096 / (k->out_w * k->channels), k->threads, resize_rows, &job);
    return PS_OK;
}

/* false: some position lies outside and wants the extrapolation value. */
static bool fill_taps(const ps_resize_params *p, const ps_resize_axis *a, bool linear, tap *ret) {
    for (int64_t i = 0; i < a->out; i++) {
        if (!linear) {
            int64_t at = ps_resize_nearest(p, a, i);
            if (at < 0) return false;
            ret[i] = (tap) { (int32_t)at, (int32_t)at, 0 };
            continue;
        }
        float x = ps_resize_coordinate(p, a, i), last = (float)(a->in - 1);
        x = x < 0 ? 0 : x > last ? last : x;
        float whole = floorf(x);
        int32_t at = (int32_t)whole;
        ret[i] = (tap) { at, at + 1 < a->in ? at + 1 : at, x - whole };
    }
    return true;
}

static bool supported(const ps_node *n, bool *ret_linear) {
    const ps_resize_params *p = n->params;
    *ret_linear = strcmp(p->mode, "linear") == 0 || strcmp(p->mode, "bilinear") == 0;
    const bool codes = n->in[0]->dtype == PS_DTYPE_U8 || n->in[0]->dtype == PS_DTYPE_I8;
    if ((n->in[0]->dtype != PS_DTYPE_F32 && (!codes || *ret_linear)) || n->in[0]->shape.rank != 4) return false;
    if (!*ret_linear && strcmp(p->mode, "nearest") != 0) return false;
    return !p->antialias && !p->exclude_outside && strcmp(p->coordinate_transformation_mode, "tf_crop_and_resize") != 0;
}

ps_status cpu_lower_resize(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { resize_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    ps_resize_axis axes[PS_MAX_RANK];
    bool linear;
    resize_kernel *k;
    if (!supported(n, &linear) || ps_resize_axes(n, axes, NULL) != PS_OK) return PS_OK;
    if (axes[0].in != axes[0].out || axes[1].in != axes[1].out) return PS_OK;
    for (int i = 0; i < 4; i++) {
        if (axes[i].in < 1 || axes[i].out < 1 || axes[i].in > INT32_MAX || axes[i].out > INT32_MAX) return PS_OK;
    }
    size_t taps = (size_t)(axes[2].out + axes[3].out);
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k + taps * sizeof(tap), &ops, "", &k, err));
    k->rows = (tap *)(k + 1);
    k->cols = k->rows + axes[2].out;
    if (!fill_taps(n->params, &axes[2], linear, k->rows) || !fill_taps(n->params, &axes[3], linear, k->cols)) {
        cpu_kernel_free(&k->base);
        return PS_OK;
    }
    ps_snprintf(k->base.label, sizeof k->base.label, "cpu.resize %s channels-last", linear ? "linear" : "nearest");
    k->linear = linear;
    k->element = ps_dtype_size(n->in[0]->dtype);
    k->threads = l->threads;
    k->batch = axes[0].in;
    k->channels = axes[1].in;
    k->in_h = axes[2].in;
    k->in_w = axes[3].in;
    k->out_h = axes[2].out;
    k->out_w = axes[3].out;
    for (uint32_t i = 1; i < n->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    l->in_layout[0] = l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    l->kernel = &k->base;
    return PS_OK;
}
