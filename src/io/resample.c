/* resample.c - antialiased resize of 8-bit images, equal to PIL's.
 *
 * Method (as published with Pillow's resampling): output pixel i has its centre at (i + 0.5) * in / out in input
 * coordinates; every input pixel whose centre lies within the filter's support around it counts, the support being
 * stretched by in / out when shrinking. Weights are normalised to one, rounded to 22 fractional bits, and summed in
 * 32-bit integers; each pass is rounded and clipped to 8 bits, the horizontal one first. A pass that keeps the size is
 * left out. */
#include "io/io.h"

#include <math.h>

enum { FRACTION_BITS = 32 - 8 - 2 }; /* 8 bits of pixel, 2 bits of headroom for weights that overshoot */

static double bilinear(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

/* For output i: weights[i * room …] of the `count[i]` input pixels from first[i] on. */
typedef struct weights {
    int64_t room;
    int *first, *count;
    int32_t *value;
} weights;

static void weights_release(ps_alloc_state *a, weights *w) {
    ps_free(a, w->first);
    ps_free(a, w->count);
    ps_free(a, w->value);
}

static ps_status weights_alloc(ps_alloc_state *a, weights *w, int64_t out, int64_t room, ps_error *err) {
    size_t n;
    *w = (weights) { .room = room };
    w->first = ps_alloc_array(a, (size_t)out, sizeof *w->first);
    w->count = ps_alloc_array(a, (size_t)out, sizeof *w->count);
    if (!ps_mul_overflow_size((size_t)out, (size_t)room, &n)) w->value = ps_alloc_array(a, n, sizeof *w->value);
    if (w->first && w->count && w->value) return PS_OK;
    weights_release(a, w);
    return PS_FAIL_NOMEM(err, "resize weights");
}

static int32_t to_fixed(double w) {
    return (int32_t)(w * (1 << FRACTION_BITS) + (w < 0 ? -0.5 : 0.5));
}

static ps_status weights_make(ps_alloc_state *a, int64_t in, int64_t out, ps_filter filter, weights *w, ps_error *err) {
    double (*kernel)(double) = filter == PS_FILTER_BILINEAR ? bilinear : bicubic;
    double scale = (double)in / (double)out, stretch = scale < 1 ? 1 : scale;
    double support = (filter == PS_FILTER_BILINEAR ? 1 : 2) * stretch;
    PS_TRY(weights_alloc(a, w, out, (int64_t)ceil(support) * 2 + 1, err));
    double *exact = ps_alloc_array(a, (size_t)w->room, sizeof *exact);
    if (!exact) {
        weights_release(a, w);
        return PS_FAIL_NOMEM(err, "resize weights");
    }
    for (int64_t i = 0; i < out; i++) {
        double centre = ((double)i + 0.5) * scale, sum = 0;
        int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
        if (centre - support + 0.5 < 0) first = 0;
        if (end > in) end = (int)in;
        for (int k = first; k < end; k++)
            sum += exact[k - first] = kernel(((double)k - centre + 0.5) / stretch);
        for (int k = 0; k < end - first; k++)
            w->value[i * w->room + k] = to_fixed(sum != 0 ? exact[k] / sum : exact[k]);
        w->first[i] = first;
        w->count[i] = end - first;
    }
    ps_free(a, exact);
    return PS_OK;
}

static uint8_t clip8(int32_t sum) {
    int32_t v = sum >> FRACTION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* Weighted sum along `step` bytes for each of the n channels or columns that lie side by side. */
static void sum_pixels(const uint8_t *src, size_t step, const int32_t *w, int count, uint8_t *dst, int n) {
    for (int c = 0; c < n; c++) {
        int32_t sum = 1 << (FRACTION_BITS - 1);
        for (int k = 0; k < count; k++)
            sum += src[(size_t)k * step + (size_t)c] * w[k];
        dst[c] = clip8(sum);
    }
}

static void pass_horizontal(const ps_image *in, const weights *w, ps_image *out) {
    size_t pixel = (size_t)in->channels;
    for (int y = 0; y < in->height; y++) {
        const uint8_t *src = in->data + (size_t)y * (size_t)in->width * pixel;
        uint8_t *dst = out->data + (size_t)y * (size_t)out->width * pixel;
        for (int x = 0; x < out->width; x++)
            sum_pixels(src + (size_t)w->first[x] * pixel, pixel, w->value + x * w->room, w->count[x],
                       dst + (size_t)x * pixel, in->channels);
    }
}

static void pass_vertical(const ps_image *in, const weights *w, ps_image *out) {
    size_t line = (size_t)in->width * (size_t)in->channels;
    for (int y = 0; y < out->height; y++)
        sum_pixels(in->data + (size_t)w->first[y] * line, line, w->value + y * w->room, w->count[y],
                   out->data + (size_t)y * line, (int)line);
}

static ps_status resize_axis(const ps_image *in, int64_t width, int64_t height, ps_filter filter, ps_image *ret,
                             ps_error *err) {
    bool horizontal = height == in->height;
    weights w;
    PS_TRY(ps_image_new(in->alloc, width, height, in->channels, ret, err));
    ps_status status =
        weights_make(in->alloc, horizontal ? in->width : in->height, horizontal ? width : height, filter, &w, err);
    if (status != PS_OK) {
        ps_image_release(ret);
        return status;
    }
    if (horizontal)
        pass_horizontal(in, &w, ret);
    else
        pass_vertical(in, &w, ret);
    weights_release(in->alloc, &w);
    return PS_OK;
}

static ps_status copy_image(const ps_image *in, ps_image *ret, ps_error *err) {
    PS_TRY(ps_image_new(in->alloc, in->width, in->height, in->channels, ret, err));
    memcpy(ret->data, in->data, (size_t)in->width * (size_t)in->height * (size_t)in->channels);
    return PS_OK;
}

ps_status ps_image_resize(const ps_image *in, int64_t width, int64_t height, ps_filter filter, ps_image *ret,
                          ps_error *err) {
    if (width == in->width && height == in->height) return copy_image(in, ret, err);
    if (width == in->width || height == in->height) return resize_axis(in, width, height, filter, ret, err);
    ps_image wide;
    PS_TRY(resize_axis(in, width, in->height, filter, &wide, err));
    ps_status status = resize_axis(&wide, width, height, filter, ret, err);
    ps_image_release(&wide);
    return status;
}
