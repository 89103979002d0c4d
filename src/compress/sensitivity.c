/* sensitivity.c - what each layer costs, and which layers stay in float so that the model loses no more than allowed.
 *
 * Every layer's noise is measured alone, in an otherwise untouched model: at 8 bits the noises of layers add up, so the
 * loudest layers are the ones to keep. How many of them is found by halving, with all other layers quantised, on
 * calibration data: the samples that judge the result choose nothing. */
#include <stdlib.h>

#include "compress/compress_int.h"
#include "compress/loops.h"

enum { ALONE_SAMPLES = 6, NOISE_SAMPLES = 8, CHOOSE_SAMPLES = 128 };

static size_t first_samples(const ps_job *job, size_t n) {
    return job->n_calibration < n ? job->n_calibration : n;
}

/* The compressed model as it stands, or with one layer alone quantised. */
static ps_status judge_sim(ps_job *job, size_t only, size_t samples, ps_judgement *ret) {
    ps_sim sim;
    PS_TRY(ps_sim_open(job, true, only, NULL, 0, &sim));
    const double done = job->done, span = job->span;
    job->span = 0; /* the bar stands still: the caller moves it */
    ps_status status = ps_judge(job, job->original, sim.model, &job->calibration, 0, first_samples(job, samples), ret);
    job->done = done;
    job->span = span;
    ps_sim_close(&sim);
    return status;
}

ps_status ps_measure_layers(ps_job *job) {
    for (size_t i = 0; i < job->layers.size; i++) {
        ps_judgement j;
        if (!isnan(job->layers.data[i].alone)) continue;
        PS_TRY(judge_sim(job, i, ALONE_SAMPLES, &j));
        job->layers.data[i].alone = j.sqnr_count ? j.sqnr / (double)j.sqnr_count : NAN;
        PS_TRY(ps_job_step(job, i + 1, job->layers.size));
    }
    return PS_OK;
}

/* ---- noise inside of the compressed model ---- */

enum { NOISE_CHUNK = 65536 };

/* A layer's output in the original, as it lies. */
typedef struct kept {
    float *x;
    size_t bytes;
    ps_shape shape;
    ps_dtype dtype; /* PS_DTYPE_UNDEFINED: not seen */
    bool last;      /* channels lie innermost */
} kept;

typedef struct noises {
    ps_job *job;
    kept *before; /* of each layer */
    const float *x, *y;
    int64_t n;
    double *sums; /* of each chunk: signal, noise */
    size_t room;
} noises;

static ps_status keep_output(void *ctx, size_t index, const ps_tensor *t, ps_error *err) {
    noises *s = ctx;
    kept *k = &s->before[index];
    k->shape = t->shape;
    k->dtype = t->dtype;
    k->last = t->strides != NULL;
    if (t->dtype != PS_DTYPE_F32) return PS_OK;
    if (t->bytes > k->bytes) {
        ps_free(s->job->alloc, k->x);
        k->x = ps_alloc_data(s->job->alloc, t->bytes);
        k->bytes = k->x ? t->bytes : 0;
        if (!k->x) return PS_FAIL_NOMEM(err, "a layer's output");
    }
    if (t->bytes) memcpy(k->x, t->data, t->bytes);
    return PS_OK;
}

static void add_chunks(void *ctx, int64_t begin, int64_t end, int thread) {
    noises *s = ctx;
    const ps_loops *loops = ps_loops_pick();
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        const int64_t from = k * NOISE_CHUNK, n = s->n - from < NOISE_CHUNK ? s->n - from : NOISE_CHUNK;
        loops->noise(s->x + from, s->y + from, n, &s->sums[2 * k], &s->sums[2 * k + 1]);
    }
}

/* Sums are made a chunk at a time, whoever makes them. */
static ps_status add_noise(noises *s, ps_layer *l, ps_error *err) {
    const size_t chunks = (size_t)((s->n + NOISE_CHUNK - 1) / NOISE_CHUNK);
    if (chunks > s->room) {
        ps_free(s->job->alloc, s->sums);
        s->sums = ps_alloc_array(s->job->alloc, 2 * chunks, sizeof *s->sums);
        s->room = s->sums ? chunks : 0;
        if (!s->sums) return PS_FAIL_NOMEM(err, "the noise of a layer");
    }
    ps_parallel_for((int64_t)chunks, 1, s->job->engine->threads, add_chunks, s);
    for (size_t k = 0; k < chunks; k++) {
        l->signal += s->sums[2 * k];
        l->noise += s->sums[2 * k + 1];
    }
    return PS_OK;
}

static ps_status compare_output(void *ctx, size_t index, const ps_tensor *t, ps_error *err) {
    noises *s = ctx;
    kept *k = &s->before[index];
    ps_layer *l = &s->job->layers.data[index];
    if (t->dtype != PS_DTYPE_F32 || k->dtype != PS_DTYPE_F32 || !ps_shape_equal(&t->shape, &k->shape))
        return PS_OK;
    s->n = (int64_t)ps_tensor_count(t);
    s->x = k->x;
    s->y = t->data;
    if ((t->strides != NULL) == k->last) return add_noise(s, l, err);
    /* One of them lies the other way: both row-major. */
    ps_tensor *packed = NULL, old = { .dtype = t->dtype, .shape = t->shape, .data = k->x, .bytes = t->bytes };
    if (k->last) {
        ps_layout_strides(&t->shape, PS_LAYOUT_CHANNELS_LAST, old.own_strides);
        old.strides = old.own_strides;
    }
    PS_TRY(ps_tensor_copy(s->job->alloc, t->strides ? t : &old, &packed, err));
    *(t->strides ? &s->y : &s->x) = packed->data;
    const ps_status status = add_noise(s, l, err);
    ps_tensor_release(packed);
    return status;
}

static ps_status noise_of(noises *s, ps_sim *before, ps_sim *after, size_t sample) {
    ps_job *job = s->job;
    ps_tensor *in[PS_COMPRESS_MAX_INPUTS];
    bool skipped;
    PS_TRY(ps_job_sample(job, &job->calibration, sample, in, &skipped));
    if (skipped) return PS_OK;
    for (size_t i = 0; i < job->layers.size; i++)
        s->before[i].dtype = PS_DTYPE_UNDEFINED;
    ps_status status = ps_sim_run(job, before, in, keep_output, s);
    if (status == PS_OK) status = ps_sim_run(job, after, in, compare_output, s);
    ps_job_release(job, in);
    return status;
}

static ps_status measure_noise(noises *s, ps_value *const *extra) {
    ps_job *job = s->job;
    ps_sim before, after;
    const size_t n = first_samples(job, NOISE_SAMPLES);
    PS_TRY(ps_sim_open(job, false, PS_NO_SITE, extra, job->layers.size, &before));
    ps_status status = ps_sim_open(job, true, PS_NO_SITE, extra, job->layers.size, &after);
    for (size_t i = 0; i < n && status == PS_OK; i++) {
        status = noise_of(s, &before, &after, i);
        if (status == PS_OK) status = ps_job_step(job, i + 1, n);
    }
    if (after.model) ps_sim_close(&after);
    ps_sim_close(&before);
    return status;
}

ps_status ps_measure_noise(ps_job *job) {
    noises s = { .job = job };
    ps_value **extra = ps_alloc_array(job->alloc, job->layers.size, sizeof *extra);
    s.before = ps_alloc_zero(job->alloc, job->layers.size * sizeof *s.before);
    ps_status status = extra && s.before ? PS_OK : PS_FAIL_NOMEM(job->err, "a list of tensors");
    for (size_t i = 0; i < job->layers.size && status == PS_OK; i++) {
        const ps_layer *l = &job->layers.data[i];
        extra[i] = (l->bias_node && l->can_bias ? l->bias_node : l->node)->out[0];
        job->layers.data[i].signal = job->layers.data[i].noise = 0;
    }
    if (status == PS_OK) status = measure_noise(&s, extra);
    for (size_t i = 0; s.before && i < job->layers.size; i++)
        ps_free(job->alloc, s.before[i].x);
    ps_free(job->alloc, s.before);
    ps_free(job->alloc, s.sums);
    ps_free(job->alloc, extra);
    return status;
}

/* ---- mixed precision ---- */

typedef struct rank {
    double worth;
    size_t layer;
} rank;

/* Noise for the root of what the layer weighs: small loud layers cost the least to keep. */
static double worth(const ps_layer *l) {
    return isnan(l->alone) ? INFINITY : l->alone + 5 * log10((double)ps_tensor_count(l->weight));
}

static int loudest_first(const void *a, const void *b) {
    const rank *x = a, *y = b;
    if (x->worth != y->worth) return x->worth < y->worth ? -1 : 1;
    return x->layer < y->layer ? -1 : 1;
}

/* The first n of the order in float, all others quantised. */
static void keep_first(ps_job *job, const rank *order, size_t n) {
    for (size_t i = 0; i < job->layers.size; i++) {
        ps_layer *l = &job->layers.data[order[i].layer];
        l->quantized = i >= n;
        l->reason = l->quantized ? "" : "it costs too much accuracy";
    }
    ps_sites_refresh(job);
}

static ps_status acceptable(ps_job *job, bool *ret) {
    ps_judgement j;
    PS_TRY(judge_sim(job, PS_NO_SITE, CHOOSE_SAMPLES, &j));
    /* One sample more than allowed is chance: some lie so close to a decision that any change turns them. The samples
     * that judge the result hold it to the limit. */
    const double chance = j.samples && strcmp(j.measure, "cosine") != 0 ? 100.0 / (double)j.samples : 0;
    *ret = j.drop <= job->options.max_drop + (job->options.max_drop > 0 ? chance : 0) + 1e-6;
    return PS_OK;
}

static ps_status halve(ps_job *job, const rank *order, size_t kept) {
    size_t low = kept, high = job->layers.size; /* high is known to do: nothing is quantised then */
    while (low < high) {
        /* Few layers are looked for first: they are the rule. */
        const size_t middle = high == job->layers.size && low < 8 ? low : low + (high - low) / 2;
        bool ok;
        keep_first(job, order, middle);
        PS_TRY(acceptable(job, &ok));
        if (ok)
            high = middle;
        else
            low = middle + 1;
        PS_TRY(ps_job_step(job, 1, 2));
    }
    keep_first(job, order, high);
    return PS_OK;
}

ps_status ps_choose_mixed(ps_job *job, bool *ret_changed) {
    size_t kept = 0;
    bool ok = false;
    *ret_changed = false;
    for (size_t i = 0; i < job->layers.size; i++)
        kept += !job->layers.data[i].quantized;
    if (!job->mixed_rounds++) {
        if (job->options.metric) return PS_OK; /* the user's judge has the first word, not agreement */
        PS_TRY(acceptable(job, &ok));
        if (ok) return PS_OK;
    }
    if (kept == job->layers.size) return PS_OK;
    PS_TRY(ps_measure_layers(job));
    rank *order = ps_alloc_array(job->alloc, job->layers.size, sizeof *order);
    if (!order) return PS_FAIL_NOMEM(job->err, "a list of layers");
    for (size_t i = 0; i < job->layers.size; i++)
        order[i] = (rank) { worth(&job->layers.data[i]), i };
    qsort(order, job->layers.size, sizeof *order, loudest_first);
    ps_status status = PS_OK;
    if (job->mixed_rounds > 1) /* the samples that judge want more than those that chose */
        keep_first(job, order, kept + 1 + kept / 2 < job->layers.size ? kept + 1 + kept / 2 : job->layers.size);
    else
        status = halve(job, order, 1);
    ps_free(job->alloc, order);
    *ret_changed = true;
    return status;
}
