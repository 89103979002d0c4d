/* weights.c - weights as signed 8-bit codes with a scale for each output channel, biases as 32-bit ones. */
#include "compress/compress_int.h"
#include "compress/loops.h"

enum { SHRINKS = 20 };

ps_status ps_layer_prepare(ps_job *job, ps_layer *l) {
    ps_value *bias = l->can_bias && l->bias_index < l->bias_node->n_in ? l->bias_node->in[l->bias_index] : NULL;
    ps_tensor_release(l->weight);
    ps_tensor_release(l->bias);
    l->weight = l->bias = NULL;
    PS_TRY(ps_tensor_need(l->node->in[1]->constant, job->err));
    l->weight = ps_tensor_retain(l->node->in[1]->constant);
    if (!bias) return PS_OK;
    PS_TRY(ps_tensor_need(bias->constant, job->err));
    if ((int64_t)ps_tensor_count(bias->constant) == l->channels)
        l->bias = ps_tensor_retain(bias->constant);
    else
        l->can_bias = false; /* a bias that is broadcast */
    return PS_OK;
}

ps_channels ps_layer_channels(const ps_layer *l) {
    const ps_shape *s = &l->weight->shape;
    if (l->axis < 0) return (ps_channels) { 1, 1, (int64_t)ps_tensor_count(l->weight) };
    return (ps_channels) { ps_shape_product(s, 0, l->axis), s->dims[l->axis],
                           ps_shape_product(s, l->axis + 1, s->rank) };
}

int ps_layer_max_code(const ps_job *job) {
    return job->options.weight_bits == 7 ? 64 : 127;
}

static float channel_max(const float *w, ps_channels c, int64_t channel) {
    float max = 0;
    for (int64_t o = 0; o < c.outer; o++) {
        const float *row = w + (o * c.count + channel) * c.inner;
        for (int64_t i = 0; i < c.inner; i++)
            max = fmaxf(max, fabsf(row[i]));
    }
    return max;
}

/* The scale with the least squared error between 0.8 and 1 of the largest weight; never one that a bias overflows. */
static float choose_scale(const ps_job *job, const ps_layer *l, ps_channels c, int64_t channel) {
    const int max = ps_layer_max_code(job);
    const float *w = l->weight->data, largest = channel_max(w, c, channel);
    const double full = largest > 0 && isfinite(largest) ? (double)largest / max : 1;
    double scales[PS_LOOPS_SCALES], errors[PS_LOOPS_SCALES] = { 0 }, best = full;
    for (int k = 0; k < PS_LOOPS_SCALES; k++)
        scales[k] = full * (1 - 0.01 * (k <= SHRINKS ? k : 0));
    const ps_loops *loops = ps_loops_pick();
    for (int64_t o = 0; o < c.outer && job->options.range != PS_RANGE_MINMAX; o++)
        loops->code_errors(w + (o * c.count + channel) * c.inner, c.inner, scales, max, errors);
    double least = errors[0];
    for (int k = 1; k <= SHRINKS && job->options.range != PS_RANGE_MINMAX; k++) {
        if (!(errors[k] < least)) continue;
        least = errors[k];
        best = scales[k];
    }
    if (!l->bias) return (float)best;
    const ps_site *s = &job->sites.data[job->sites.data[l->site].group];
    const double least_scale =
        fabs((double)((const float *)l->bias->data)[channel]) / ((double)s->scale * 1073741824.0);
    return (float)(best < least_scale ? least_scale : best);
}

static ps_status make_room(ps_job *job, ps_layer *l) {
    if (l->codes) return PS_OK;
    PS_TRY(ps_tensor_new(job->alloc, PS_DTYPE_I8, &l->weight->shape, &l->codes, job->err));
    l->scales = ps_alloc_array(job->alloc, (size_t)l->channels, sizeof *l->scales);
    return l->scales ? PS_OK : PS_FAIL_NOMEM(job->err, "scales");
}

typedef struct round_job {
    ps_job *job;
    ps_layer *layer;
} round_job;

static void round_channels(void *ctx, int64_t begin, int64_t end, int thread) {
    const round_job *j = ctx;
    ps_layer *l = j->layer;
    const ps_channels c = ps_layer_channels(l);
    const int max = ps_layer_max_code(j->job);
    const float *w = l->weight->data;
    int8_t *codes = l->codes->data;
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        const float scale = l->scales[k] = choose_scale(j->job, l, c, k);
        for (int64_t o = 0; o < c.outer; o++) {
            for (int64_t i = 0; i < c.inner; i++) {
                const int64_t at = (o * c.count + k) * c.inner + i;
                float code = nearbyintf(w[at] / scale);
                code = code > (float)max ? (float)max : code < (float)-max ? (float)-max : code; /* NaN: 0 */
                codes[at] = (int8_t)(code == code ? code : 0);
            }
        }
    }
}

ps_status ps_layer_round(ps_job *job, ps_layer *l) {
    PS_TRY(make_room(job, l));
    round_job j = { job, l };
    ps_parallel_for(l->channels, 1, job->engine->threads, round_channels, &j);
    return PS_OK;
}

ps_status ps_layer_decoded(ps_job *job, const ps_layer *l, ps_tensor **ret) {
    const ps_layer *from = &job->layers.data[l->shared];
    const ps_channels c = ps_layer_channels(l);
    PS_TRY(ps_tensor_new(job->alloc, PS_DTYPE_F32, &l->weight->shape, ret, job->err));
    float *w = (*ret)->data;
    const int8_t *codes = from->codes->data;
    for (int64_t o = 0, at = 0; o < c.outer; o++)
        for (int64_t k = 0; k < c.count; k++)
            for (int64_t i = 0; i < c.inner; i++, at++)
                w[at] = (float)codes[at] * from->scales[k];
    return PS_OK;
}

ps_status ps_layer_bias(ps_job *job, const ps_layer *l, ps_tensor **ret_codes, ps_tensor **ret_scales,
                        ps_tensor **ret_decoded) {
    const ps_layer *from = &job->layers.data[l->shared];
    const float input = ps_site_range(job, l->site)->scale;
    const int64_t dims[] = { l->channels };
    const ps_shape shape = ps_shape_make(1, dims);
    ps_tensor *codes = NULL, *scales = NULL, *decoded = NULL;
    ps_status status = ps_tensor_new(job->alloc, PS_DTYPE_I32, &shape, &codes, job->err);
    if (status == PS_OK) status = ps_tensor_new(job->alloc, PS_DTYPE_F32, &shape, &scales, job->err);
    if (status == PS_OK) status = ps_tensor_new(job->alloc, PS_DTYPE_F32, &shape, &decoded, job->err);
    for (int64_t k = 0; status == PS_OK && k < l->channels; k++) {
        const float scale = input * from->scales[k];
        double code = nearbyint((double)((const float *)l->bias->data)[k] / (double)scale);
        code = fmin(fmax(code, -2147483647.0), 2147483647.0); /* NaN: the lower end */
        ((int32_t *)codes->data)[k] = (int32_t)code;
        ((float *)scales->data)[k] = scale;
        ((float *)decoded->data)[k] = (float)(int32_t)code * scale;
    }
    if (status == PS_OK && ret_codes) {
        *ret_codes = ps_tensor_retain(codes);
        *ret_scales = ps_tensor_retain(scales);
    }
    if (status == PS_OK && ret_decoded) *ret_decoded = ps_tensor_retain(decoded);
    ps_tensor_release(codes);
    ps_tensor_release(scales);
    ps_tensor_release(decoded);
    return status;
}
