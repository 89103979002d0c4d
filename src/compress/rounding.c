/* rounding.c - weights rounded for what the layer's outputs become, not for what the weights were.
 *
 * The error of a layer's outputs for an error e of one row of weights is e H e', H being the second moment of the
 * layer's inputs. Weights are rounded one after the other, each making up for the errors of those before it: with
 * H = U U' (U upper triangular) the error is |e U|^2, and term j of it holds e_j and earlier errors only. That is
 * Babai's nearest plane, and what OBQ and GPTQ compute. H is taken about the mean of the inputs; what the mean adds is
 * a constant for each channel, which the bias takes up.
 *
 * Sources: Frantar et al., GPTQ (2022); Chen et al., The Geometry of LLM Quantization (2025); Nagel et al., Data-Free
 * Quantization through Weight Equalization and Bias Correction (2019) for the mean. */
#include "backend/cpu/simd.h"
#include "compress/patches.h"

#define PART_BYTES ((size_t)160 << 20) /* of second moments held at once */
#define MAX_COLS 4096                 /* a second moment of that side has 64 MiB */
enum { BLOCK = 128, CHUNK = 32, LEAST_PATCHES = 1024, MOST_PATCHES = 6144 };
#define DAMPING 0.01 /* of the mean diagonal: unseen directions must not run away */

/* What is known of one layer's inputs. */
typedef struct moment {
    ps_layer *layer;
    ps_weight_view view;
    float *h;             /* [groups][cols][cols], lower triangle: sum of x x' as the compressed model sees x */
    double *sum, *before; /* [groups][cols]: of x as it is coded, and as it was */
    float *block;         /* [groups][BLOCK][cols] */
    float *scratch;       /* [threads][CHUNK][cols] */
    int filled;
    int64_t count, wanted; /* patches so far, and for each sample */
} moment;

typedef struct pass {
    ps_job *job;
    PS_VEC(moment) moments;
    ps_tensor **inputs; /* of the layers, in the run at hand */
    size_t sample;
    ps_mutex lock; /* of what follows: what failed first */
    ps_status status;
} pass;

/* Of item k; NULL: there is none. What a layer's own loops share out is done by its thread alone. */
static moment *moment_of(const pass *p, int64_t k) {
    const int64_t i = ps_turn(k, p->moments.size, p->job->engine->threads);
    return i < 0 ? NULL : &p->moments.data[i];
}

static void for_moments(pass *p, ps_parallel_fn fn) {
    const int threads = p->job->engine->threads;
    ps_parallel_for(ps_turns(p->moments.size, threads), 1, threads, fn, p);
}

/* ---- gathering ---- */

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t moment_bytes(const ps_weight_view *v) {
    return (size_t)(v->groups * v->cols) * ((size_t)v->cols + BLOCK + 4) * sizeof(float);
}

static bool suits(const ps_job *job, size_t i) {
    const ps_layer *l = &job->layers.data[i];
    const ps_weight_view v = ps_weight_view_of(l);
    if (strcmp(l->node->op_type, "MatMul") == 0 && l->weight->shape.rank != 2) return false;
    return l->shared == i && l->quantized && v.cols <= MAX_COLS;
}

static ps_status add_moment(pass *p, ps_layer *l) {
    ps_alloc_state *a = p->job->alloc;
    moment m = { .layer = l, .view = ps_weight_view_of(l) };
    const size_t cols = (size_t)m.view.cols, n = (size_t)m.view.groups * cols;
    m.h = ps_alloc_data_zero(a, n * cols * sizeof *m.h);
    m.block = ps_alloc_data_zero(a, n * BLOCK * sizeof *m.block);
    m.scratch = ps_alloc_data(a, (size_t)p->job->engine->threads * CHUNK * cols * sizeof *m.scratch);
    m.sum = ps_alloc_zero(a, n * sizeof *m.sum);
    m.before = ps_alloc_zero(a, n * sizeof *m.before);
    const int64_t twice = 2 * m.view.cols;
    const int64_t patches = twice < LEAST_PATCHES ? LEAST_PATCHES : twice > MOST_PATCHES ? MOST_PATCHES : twice;
    m.wanted = (patches + (int64_t)p->job->n_calibration - 1) / (int64_t)p->job->n_calibration;
    if (!ps_vec_push(a, &p->moments, m)) {
        ps_free(a, m.h);
        ps_free(a, m.block);
        ps_free(a, m.scratch);
        ps_free(a, m.sum);
        ps_free(a, m.before);
        return PS_FAIL_NOMEM(p->job->err, "a list of layers");
    }
    return m.h && m.block && m.scratch && m.sum && m.before ? PS_OK
                                                            : PS_FAIL_NOMEM(p->job->err, "moments of a layer's inputs");
}

static void clear(pass *p) {
    for (size_t i = 0; i < p->moments.size; i++) {
        moment *m = &p->moments.data[i];
        ps_free(p->job->alloc, m->h);
        ps_free(p->job->alloc, m->block);
        ps_free(p->job->alloc, m->scratch);
        ps_free(p->job->alloc, m->sum);
        ps_free(p->job->alloc, m->before);
    }
    ps_vec_release(p->job->alloc, &p->moments);
}

/* Item: CHUNK rows of the lower triangle; h += X' X over the block. Long and short ones take turns. */
static void add_chunks(void *ctx, int64_t begin, int64_t end, int thread) {
    moment *m = ctx;
    const ps_simd *simd = ps_simd_pick();
    const int64_t cols = m->view.cols, chunks = (cols + CHUNK - 1) / CHUNK;
    float turned[CHUNK * BLOCK];
    float *sums = m->scratch + thread * CHUNK * cols;
    for (int64_t k = begin; k < end; k++) {
        const int64_t g = k / chunks, c = k % chunks, half = (chunks + 1) / 2;
        const int64_t first = (c < half ? 2 * c : 2 * (c - half) + 1) * CHUNK;
        const int64_t rows = cols - first < CHUNK ? cols - first : CHUNK, n = first + rows;
        const float *x = m->block + g * BLOCK * cols;
        float *h = m->h + (g * cols + first) * cols;
        for (int64_t r = 0; r < rows; r++)
            for (int b = 0; b < BLOCK; b++)
                turned[r * BLOCK + b] = x[b * cols + first + r];
        simd->gemm_small(turned, BLOCK, x, cols, NULL, sums, n, rows, n, BLOCK);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < n; j++)
                h[r * cols + j] += sums[r * n + j];
    }
}

static void flush(pass *p, moment *m) {
    const int64_t cols = m->view.cols;
    if (!m->filled) return;
    for (int64_t g = 0; g < m->view.groups; g++)
        memset(m->block + (g * BLOCK + m->filled) * cols, 0, (size_t)((BLOCK - m->filled) * cols) * sizeof *m->block);
    ps_parallel_for(m->view.groups * ((cols + CHUNK - 1) / CHUNK), 1, p->job->engine->threads, add_chunks, m);
    m->filled = 0;
}

/* A patch into the block, coded and decoded as the compressed model will see it. */
static void add_patch(pass *p, moment *m, const ps_tensor *x, int64_t index) {
    const int64_t cols = m->view.cols, stride = BLOCK * cols;
    const ps_site *s = ps_site_range(p->job, m->layer->site);
    float *at = m->block + m->filled * cols;
    ps_patch_read(m->layer, x, index, at, stride);
    for (int64_t g = 0; g < m->view.groups; g++) {
        for (int64_t c = 0; c < cols; c++) {
            float *v = &at[g * stride + c];
            m->before[g * cols + c] += (double)*v;
            float code = nearbyintf(*v / s->scale) + (float)s->zero;
            code = code > 0 ? code < 255 ? code : 255 : 0;
            *v = (code - (float)s->zero) * s->scale;
            m->sum[g * cols + c] += (double)*v;
        }
    }
    m->count++;
    if (++m->filled == BLOCK) flush(p, m);
}

static void add_sample(pass *p, moment *m, const ps_tensor *x, size_t sample) {
    const int64_t places = x && x->dtype == PS_DTYPE_F32 ? ps_patch_count(m->layer, &x->shape) : 0;
    if (!places) return;
    uint64_t state = p->job->options.seed ^ (uint64_t)sample << 32 ^ (uint64_t)(m->layer - p->job->layers.data);
    const int64_t n = m->wanted < places ? m->wanted : places;
    for (int64_t k = 0; k < n; k++) /* one in each of n equal parts */
        add_patch(p, m, x,
                  n == places ? k
                              : (int64_t)(((double)k + (double)(next_random(&state) >> 11) * 0x1p-53) * (double)places /
                                          (double)n));
}

static void add_samples(void *ctx, int64_t begin, int64_t end, int thread) {
    pass *p = ctx;
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        moment *m = moment_of(p, k);
        if (m) add_sample(p, m, p->inputs[m - p->moments.data], p->sample);
    }
}

static ps_status gather(pass *p, size_t done, size_t total) {
    ps_job *job = p->job;
    ps_sim sim;
    ps_value **extra = ps_alloc_array(job->alloc, p->moments.size, sizeof *extra);
    if (!extra) return PS_FAIL_NOMEM(job->err, "a list of tensors");
    for (size_t i = 0; i < p->moments.size; i++)
        extra[i] = p->moments.data[i].layer->node->in[0];
    ps_status status = ps_sim_open(job, false, PS_NO_SITE, extra, p->moments.size, &sim);
    ps_free(job->alloc, extra);
    PS_TRY(status);
    for (size_t i = 0; i < job->n_calibration && status == PS_OK; i++) {
        ps_tensor *in[PS_COMPRESS_MAX_INPUTS];
        bool skipped;
        status = ps_job_sample(job, &job->calibration, i, in, &skipped);
        if (status != PS_OK || skipped) continue;
        status = ps_sim_run(job, &sim, in);
        p->inputs = sim.out + sim.n_out;
        p->sample = i;
        if (status == PS_OK) for_moments(p, add_samples);
        ps_job_release(job, in);
        if (status == PS_OK)
            status = ps_job_step(job, done * job->n_calibration + p->moments.size * i, total * job->n_calibration);
    }
    ps_sim_close(&sim);
    for (size_t k = 0; k < p->moments.size; k++)
        flush(p, &p->moments.data[k]);
    return status;
}

/* ---- solving ---- */

/* h = L L' in place, the lower triangle, row by row; false if it is not positive definite. */
static bool cholesky(float *h, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float *ri = h + i * n;
        for (int64_t j = 0; j <= i; j++) {
            const float *rj = h + j * n;
            float a[8] = { 0 };
            int64_t k = 0;
            for (; k + 8 <= j; k += 8)
                for (int t = 0; t < 8; t++)
                    a[t] += ri[k + t] * rj[k + t];
            double sum = ((double)a[0] + a[1]) + ((double)a[2] + a[3]) + ((double)a[4] + a[5]) + ((double)a[6] + a[7]);
            for (; k < j; k++)
                sum += (double)ri[k] * rj[k];
            if (j < i)
                ri[j] = (float)(((double)ri[j] - sum) / rj[j]);
            else if ((double)ri[i] - sum > 0)
                ri[i] = (float)sqrt((double)ri[i] - sum);
            else
                return false;
        }
    }
    return true;
}

typedef struct solver {
    pass *pass;
    moment *m;
    int64_t group;
    const float *u;     /* L of the moment with its order reversed: row and column i stand for input cols - 1 - i */
    const double *mean; /* [cols] as coded */
    double *shift;      /* [rows] of the outputs: what the bias has to make up */
} solver;

/* The centred moment with its order reversed, damped. */
static void centre(const pass *p, const moment *m, int64_t g, float *ret) {
    const int64_t cols = m->view.cols;
    const float *h = m->h + g * cols * cols;
    const double *sum = m->sum + g * cols, count = (double)m->count;
    const bool mean = m->layer->can_bias && !(p->job->options.skip & PS_COMPRESS_BIAS);
    double trace = 0;
    for (int64_t i = 0; i < cols; i++) {
        for (int64_t j = 0; j <= i; j++) {
            const double v = (double)h[i * cols + j] - (mean ? sum[i] * sum[j] / count : 0);
            ret[(cols - 1 - j) * cols + (cols - 1 - i)] = (float)v;
            if (i == j) trace += v;
        }
    }
    const double damp = DAMPING * trace / (double)cols + 1e-12;
    for (int64_t i = 0; i < cols; i++)
        ret[i * cols + i] += (float)damp;
}

/* One row of weights: inputs are taken from the first to the last, which are rows of u from the last to the first. */
static void round_row(const solver *s, int64_t row, float *carry, float *error) {
    const ps_weight_view *v = &s->m->view;
    ps_layer *l = s->m->layer;
    const int64_t base = s->group * v->group_stride + row * v->row_stride, cols = v->cols;
    const float scale = l->scales[ps_weight_scale(v, s->group, row)], max = (float)ps_layer_max_code(s->pass->job);
    const float *w = l->weight->data;
    int8_t *codes = l->codes->data;
    memset(carry, 0, (size_t)cols * sizeof *carry);
    for (int64_t i = 0; i < cols; i++) {
        /* |e U|: U[i][j] = L[cols-1-i][cols-1-j], so column j of it gathers e_i U[i][j] of i <= j. */
        const int64_t at = base + i * v->col_stride, r = cols - 1 - i;
        const float target = w[at] + carry[r] / s->u[r * cols + r];
        float code = nearbyintf(target / scale);
        code = code > max ? max : code < -max ? -max : code;
        codes[at] = (int8_t)(code == code ? code : 0);
        error[i] = w[at] - (float)codes[at] * scale;
        const float *u = s->u + r * cols, e = error[i];
        for (int64_t j = 0; j < r; j++)
            carry[j] += e * u[j];
    }
}

static void round_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const solver *s = ctx;
    const ps_weight_view *v = &s->m->view;
    float carry[MAX_COLS], error[MAX_COLS];
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        double shift = 0;
        round_row(s, row, carry, error);
        const float *w = (const float *)s->m->layer->weight->data + s->group * v->group_stride + row * v->row_stride;
        for (int64_t c = 0; c < v->cols; c++) {
            const double before = s->m->before[s->group * v->cols + c] / (double)s->m->count;
            shift += w[c * v->col_stride] * (before - s->mean[c]) + (double)error[c] * s->mean[c];
        }
        s->shift[row] = shift;
    }
}

static ps_status solve_group(pass *p, moment *m, int64_t g, double *shift, ps_error *err) {
    ps_alloc_state *a = p->job->alloc;
    const int64_t cols = m->view.cols;
    float *u = ps_alloc_data_zero(a, (size_t)(cols * cols) * sizeof *u);
    double *mean = ps_alloc_array(a, (size_t)cols, sizeof *mean);
    ps_status status = u && mean ? PS_OK : PS_FAIL_NOMEM(err, "moments of a layer's inputs");
    if (status == PS_OK) {
        for (int64_t c = 0; c < cols; c++)
            mean[c] = m->sum[g * cols + c] / (double)m->count;
        centre(p, m, g, u);
        solver s = { p, m, g, u, mean, shift };
        if (cholesky(u, cols)) ps_parallel_for(m->view.rows, 1, p->job->engine->threads, round_rows, &s);
    }
    ps_free(a, u);
    ps_free(a, mean);
    return status;
}

/* The mean error of every channel goes into the bias. */
static ps_status shift_bias(ps_job *job, ps_layer *l, const ps_weight_view *v, const double *shift, ps_error *err) {
    if ((job->options.skip & PS_COMPRESS_BIAS) || !l->can_bias || l->axis < 0 || v->rows_per_scale != 1) return PS_OK;
    const int64_t dims[] = { l->channels };
    const ps_shape shape = ps_shape_make(1, dims);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(job->alloc, PS_DTYPE_F32, &shape, &t, err));
    for (int64_t k = 0; k < l->channels; k++)
        ((float *)t->data)[k] = (float)((l->bias ? (double)((const float *)l->bias->data)[k] : 0) + shift[k]);
    ps_tensor_release(l->bias);
    l->bias = t;
    return PS_OK;
}

static ps_status solve(pass *p, moment *m, ps_error *err) {
    const int64_t rows = m->view.groups * m->view.rows;
    if (!m->count) return PS_OK;
    double *shift = ps_alloc_zero(p->job->alloc, (size_t)rows * sizeof *shift);
    if (!shift) return PS_FAIL_NOMEM(err, "moments of a layer's inputs");
    ps_status status = PS_OK;
    for (int64_t g = 0; g < m->view.groups && status == PS_OK; g++)
        status = solve_group(p, m, g, shift + g * m->view.rows, err);
    if (status == PS_OK) status = shift_bias(p->job, m->layer, &m->view, shift, err);
    ps_free(p->job->alloc, shift);
    return status;
}

static void solve_some(void *ctx, int64_t begin, int64_t end, int thread) {
    pass *p = ctx;
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        moment *m = moment_of(p, k);
        ps_error err = PS_ERROR_INIT;
        const ps_status status = m ? solve(p, m, &err) : PS_OK;
        if (status == PS_OK) continue;
        ps_mutex_lock(&p->lock);
        if (p->status == PS_OK) {
            p->status = status;
            *p->job->err = err;
        }
        ps_mutex_unlock(&p->lock);
    }
}

static ps_status solve_all(pass *p) {
    if (!ps_mutex_init(&p->lock)) return PS_FAIL_NOMEM(p->job->err, "a lock");
    for_moments(p, solve_some);
    ps_mutex_destroy(&p->lock);
    return p->status;
}

/* ---- all layers, in parts ---- */

ps_status ps_round_weights(ps_job *job) {
    size_t next = 0;
    while (next < job->layers.size) {
        pass p = { .job = job };
        const size_t first = next;
        size_t bytes = 0;
        ps_status status = PS_OK;
        for (; next < job->layers.size && status == PS_OK; next++) {
            if (!suits(job, next)) continue;
            const ps_weight_view v = ps_weight_view_of(&job->layers.data[next]);
            if (p.moments.size && bytes + moment_bytes(&v) > PART_BYTES) break;
            bytes += moment_bytes(&v);
            status = add_moment(&p, &job->layers.data[next]);
        }
        if (status == PS_OK && p.moments.size) status = gather(&p, first, job->layers.size);
        if (status == PS_OK && p.moments.size) status = solve_all(&p);
        clear(&p);
        PS_TRY(status);
    }
    return PS_OK;
}
