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
#include "compress/loops.h"
#include "compress/patches.h"

#define PART_BYTES ((size_t)160 << 20) /* of second moments held at once */
#define TEAM_BYTES ((size_t)64 << 20)  /* of factors that threads work on at once */
#define MAX_COLS 4096                 /* a second moment of that side has 64 MiB */
enum { BLOCK = 128, CHUNK = 32, PANEL = 32, MAX_TAPS = 64, LEAST_PATCHES = 1024, MOST_PATCHES = 6144 };
#define DAMPING 0.01 /* of the mean diagonal: unseen directions must not run away */

/* How the second moment lies: see moment_at. */
typedef enum form {
    ONE_GROUP, /* [cols][cols], in the order of patches, lower triangle */
    DEPTHWISE, /* [cols * (cols + 1) / 2][groups]: one channel a group */
    GROUPS,    /* [groups][cols][cols], lower triangles */
} form;

/* What is known of one layer's inputs. Patches and sums are in the order of ps_patch_at. */
typedef struct moment {
    ps_layer *layer;
    ps_weight_view view;
    form form;
    float *h;             /* sum of x x' as the compressed model sees x */
    double *sum, *before; /* of x as it is coded, and as it was */
    float *block;         /* [BLOCK] patches */
    float *scratch;       /* of each thread, scratch_size */
    size_t scratch_size;
    int filled;
    int64_t count, wanted; /* patches so far, and for each sample */
} moment;

typedef struct pass {
    ps_job *job;
    PS_VEC(moment) moments;
    size_t sample; /* of the run at hand */
    ps_sim *sim;   /* which shows the layers' inputs */
} pass;

static int64_t patch_size(const moment *m) {
    return m->view.groups * m->view.cols;
}

/* Inputs i and k of group g, k <= i. */
static float moment_at(const moment *m, int64_t g, int64_t i, int64_t k) {
    const ps_weight_view *v = &m->view;
    if (m->form == DEPTHWISE) return m->h[(i * (i + 1) / 2 + k) * v->groups + g];
    if (m->form == GROUPS) return m->h[(g * v->cols + i) * v->cols + k];
    const int64_t a = ps_patch_at(v, 0, i), b = ps_patch_at(v, 0, k);
    return a > b ? m->h[a * v->cols + b] : m->h[b * v->cols + a];
}

/* ---- gathering ---- */

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static form form_of(const ps_weight_view *v) {
    if (v->groups == 1) return ONE_GROUP;
    return v->cols == v->taps && v->taps <= MAX_TAPS ? DEPTHWISE : GROUPS;
}

static size_t moment_count(const ps_weight_view *v) {
    const size_t cols = (size_t)v->cols, groups = (size_t)v->groups;
    return form_of(v) == DEPTHWISE ? PS_LOOPS_PAIRS(cols) * groups : cols * cols * groups;
}

static size_t moment_bytes(const ps_weight_view *v) {
    return (moment_count(v) + (size_t)(v->groups * v->cols) * (BLOCK + 4)) * sizeof(float);
}

static bool suits(const ps_job *job, size_t i) {
    const ps_layer *l = &job->layers.data[i];
    const ps_weight_view v = ps_weight_view_of(l);
    if (strcmp(l->node->op_type, "MatMul") == 0 && l->weight->shape.rank != 2) return false;
    return l->shared == i && l->quantized && v.cols <= MAX_COLS;
}

static void free_moment(ps_alloc_state *a, moment *m) {
    ps_free(a, m->h);
    ps_free(a, m->block);
    ps_free(a, m->scratch);
    ps_free(a, m->sum);
    ps_free(a, m->before);
}

static ps_status add_moment(pass *p, ps_layer *l) {
    ps_alloc_state *a = p->job->alloc;
    moment m = { .layer = l, .view = ps_weight_view_of(l) };
    const size_t cols = (size_t)m.view.cols, n = (size_t)patch_size(&m);
    m.form = form_of(&m.view);
    m.scratch_size = m.form == DEPTHWISE ? PS_LOOPS_PAIRS(cols) * PS_LOOPS_CHANNELS
                     : m.form == GROUPS  ? (BLOCK + CHUNK) * cols
                                         : CHUNK * cols;
    m.h = ps_alloc_data_zero(a, moment_count(&m.view) * sizeof *m.h);
    m.block = ps_alloc_data(a, n * BLOCK * sizeof *m.block);
    m.scratch = ps_alloc_data(a, (size_t)p->job->engine->threads * m.scratch_size * sizeof *m.scratch);
    m.sum = ps_alloc_zero(a, n * sizeof *m.sum);
    m.before = ps_alloc_zero(a, n * sizeof *m.before);
    const int64_t twice = 2 * m.view.cols;
    const int64_t patches = twice < LEAST_PATCHES ? LEAST_PATCHES : twice > MOST_PATCHES ? MOST_PATCHES : twice;
    m.wanted = (patches + (int64_t)p->job->n_calibration - 1) / (int64_t)p->job->n_calibration;
    const bool kept = ps_vec_push(a, &p->moments, m);
    if (!kept) free_moment(a, &m);
    return kept && m.h && m.block && m.scratch && m.sum && m.before
               ? PS_OK
               : PS_FAIL_NOMEM(p->job->err, "moments of a layer's inputs");
}

static void clear(pass *p) {
    for (size_t i = 0; i < p->moments.size; i++)
        free_moment(p->job->alloc, &p->moments.data[i]);
    ps_vec_release(p->job->alloc, &p->moments);
}

/* Item: some channels of a depthwise layer. */
static void add_channels(void *ctx, int64_t begin, int64_t end, int thread) {
    const moment *m = ctx;
    const ps_loops *loops = ps_loops_pick();
    const int64_t groups = m->view.groups, taps = m->view.cols;
    float *sums = m->scratch + (size_t)thread * m->scratch_size;
    for (int64_t k = begin; k < end; k++) {
        const int64_t c = k * PS_LOOPS_CHANNELS, left = groups - c;
        loops->moments(m->block + c, left < PS_LOOPS_CHANNELS ? left : PS_LOOPS_CHANNELS, m->filled, patch_size(m),
                       taps, groups, m->h + c, groups, sums);
    }
}

/* CHUNK rows of the lower triangle, or what there is from `first` on: h += X' X over the block x. */
static void add_chunk(const ps_simd *simd, const float *x, int64_t cols, int64_t first, float *h, float *sums) {
    float turned[CHUNK * BLOCK];
    const int64_t rows = cols - first < CHUNK ? cols - first : CHUNK, n = first + rows;
    for (int64_t r = 0; r < rows; r++)
        for (int b = 0; b < BLOCK; b++)
            turned[r * BLOCK + b] = x[b * cols + first + r];
    simd->gemm_small(turned, BLOCK, x, cols, NULL, sums, n, rows, n, BLOCK);
    for (int64_t r = 0; r < rows; r++)
        simd->add_to(h + (first + r) * cols, sums + r * n, n);
}

/* Item: a chunk. Long and short ones take turns. */
static void add_chunks(void *ctx, int64_t begin, int64_t end, int thread) {
    const moment *m = ctx;
    const ps_simd *simd = ps_simd_pick();
    const int64_t cols = m->view.cols, chunks = (cols + CHUNK - 1) / CHUNK, half = (chunks + 1) / 2;
    for (int64_t k = begin; k < end; k++)
        add_chunk(simd, m->block, cols, (k < half ? 2 * k : 2 * (k - half) + 1) * CHUNK, m->h,
                  m->scratch + (size_t)thread * m->scratch_size);
}

/* Item: a group, whose columns are picked out of the patches. */
static void add_groups(void *ctx, int64_t begin, int64_t end, int thread) {
    const moment *m = ctx;
    const ps_simd *simd = ps_simd_pick();
    const int64_t cols = m->view.cols;
    float *x = m->scratch + (size_t)thread * m->scratch_size;
    for (int64_t g = begin; g < end; g++) {
        for (int64_t c = 0; c < cols; c++) {
            const float *from = m->block + ps_patch_at(&m->view, g, c);
            for (int b = 0; b < BLOCK; b++)
                x[b * cols + c] = from[b * patch_size(m)];
        }
        for (int64_t first = 0; first < cols; first += CHUNK)
            add_chunk(simd, x, cols, first, m->h + g * cols * cols, x + BLOCK * cols);
    }
}

static void flush(const pass *p, moment *m) {
    const int threads = p->job->engine->threads;
    const int64_t n = patch_size(m), groups = m->view.groups;
    if (!m->filled) return;
    if (m->form != DEPTHWISE)
        memset(m->block + m->filled * n, 0, (size_t)((BLOCK - m->filled) * n) * sizeof *m->block);
    if (m->form == DEPTHWISE)
        ps_parallel_for((groups + PS_LOOPS_CHANNELS - 1) / PS_LOOPS_CHANNELS, 1, threads, add_channels, m);
    else if (m->form == GROUPS)
        ps_parallel_for(groups, 1, threads, add_groups, m);
    else
        ps_parallel_for((n + CHUNK - 1) / CHUNK, 1, threads, add_chunks, m);
    m->filled = 0;
}

typedef struct reading {
    const moment *m;
    const ps_tensor *x;
    const ps_site *site;
    int64_t places[BLOCK], n;
} reading;

/* Some channels of the patches, coded and decoded as the compressed model will see them, while they are near. */
static void read_patches(void *ctx, int64_t begin, int64_t end, int thread) {
    const reading *r = ctx;
    const moment *m = r->m;
    const ps_loops *loops = ps_loops_pick();
    const int64_t channels = patch_size(m) / m->view.taps;
    (void)thread;
    for (int64_t k = 0; k < r->n; k++) {
        float *patch = m->block + (m->filled + k) * patch_size(m);
        ps_patch_read(m->layer, r->x, r->places[k], begin, end, patch);
        for (int64_t at = begin; at < patch_size(m); at += channels)
            loops->code(patch + at, end - begin, r->site->scale, r->site->zero, m->before + at, m->sum + at);
    }
}

/* Patches at random places of the layer's input: one in each of n equal parts. */
static void look_at(const pass *p, moment *m, const ps_tensor *x) {
    reading r = { .m = m, .x = x, .site = ps_site_range(p->job, m->layer->site) };
    const int64_t places = x->dtype == PS_DTYPE_F32 ? ps_patch_count(m->layer, &x->shape) : 0;
    if (!places) return;
    uint64_t state = p->job->options.seed ^ (uint64_t)p->sample << 32 ^ (uint64_t)(m->layer - p->job->layers.data);
    const int64_t n = m->wanted < places ? m->wanted : places;
    for (int64_t k = 0; k < n;) {
        r.n = 0;
        for (; k < n && m->filled + r.n < BLOCK; k++) {
            const double at = (double)k + (double)(next_random(&state) >> 11) * 0x1p-53;
            r.places[r.n++] = n == places ? k : (int64_t)(at * (double)places / (double)n);
        }
        ps_parallel_for(patch_size(m) / m->view.taps, 32, p->job->engine->threads, read_patches, &r);
        m->filled += (int)r.n;
        m->count += r.n;
        if (m->filled == BLOCK) flush(p, m);
    }
}

/* index: of a site, or of a moment where the pass has a model of its own. */
static ps_status look(void *ctx, size_t index, const ps_tensor *x, ps_error *err) {
    const pass *p = ctx;
    (void)err;
    for (size_t k = 0; k < p->moments.size; k++)
        if ((p->sim == &p->job->looking ? p->moments.data[k].layer->site : k) == index)
            look_at(p, &p->moments.data[k], x);
    return PS_OK;
}

static ps_status open_sim(pass *p, ps_sim *own) {
    ps_job *job = p->job;
    p->sim = &job->looking;
    if (job->looking.model) return PS_OK;
    p->sim = own;
    ps_value **extra = ps_alloc_array(job->alloc, p->moments.size, sizeof *extra);
    if (!extra) return PS_FAIL_NOMEM(job->err, "a list of tensors");
    for (size_t i = 0; i < p->moments.size; i++)
        extra[i] = p->moments.data[i].layer->node->in[0];
    const ps_status status = ps_sim_open(job, false, PS_NO_SITE, extra, p->moments.size, own);
    ps_free(job->alloc, extra);
    return status;
}

static ps_status gather(pass *p, size_t done, size_t total) {
    ps_job *job = p->job;
    ps_sim own = { 0 };
    ps_status status = open_sim(p, &own);
    for (size_t i = 0; i < job->n_calibration && status == PS_OK; i++) {
        ps_tensor *in[PS_COMPRESS_MAX_INPUTS];
        bool skipped;
        status = ps_job_sample(job, &job->calibration, i, in, &skipped);
        if (status != PS_OK || skipped) continue;
        p->sample = i;
        status = ps_sim_run(job, p->sim, in, look, p);
        ps_job_release(job, in);
        if (status == PS_OK)
            status = ps_job_step(job, done * job->n_calibration + p->moments.size * i, total * job->n_calibration);
    }
    ps_sim_close(&own);
    for (size_t k = 0; k < p->moments.size; k++)
        flush(p, &p->moments.data[k]);
    return status;
}

/* ---- solving ---- */

typedef struct factor {
    float *h;
    int64_t n, from, to;
} factor;

static void solve_below(void *ctx, int64_t begin, int64_t end, int thread) {
    const factor *f = ctx;
    (void)thread;
    ps_loops_pick()->solve(f->h, f->n, f->h + (f->to + begin) * f->n, end - begin, f->from, f->to);
}

/* h = L L' in place, the lower triangle, a panel of columns at a time; false if it is not positive definite. */
static bool cholesky(float *h, int64_t n, int threads) {
    const ps_loops *loops = ps_loops_pick();
    for (int64_t from = 0; from < n; from += PANEL) {
        factor f = { h, n, from, from + PANEL < n ? from + PANEL : n };
        for (int64_t i = from; i < f.to; i++) {
            float *row = h + i * n;
            loops->solve(h, n, row, 1, from, i);
            const double rest = (double)row[i] - ps_loops_dot(row, row, i);
            if (!(rest > 0)) return false;
            row[i] = (float)sqrt(rest);
        }
        ps_parallel_for(n - f.to, 16, threads, solve_below, &f);
    }
    return true;
}

typedef struct solver {
    const pass *pass;
    moment *m;
    int64_t group;
    int threads;
    float *u;      /* L of the moment with its order reversed: row and column i stand for input cols - 1 - i */
    float *carry;  /* of each thread [PS_LOOPS_ROWS][cols] */
    double *shift; /* [rows] of the outputs: what the bias has to make up */
} solver;

/* The mean of an input of the group, coded and as it was. */
static double mean_of(const solver *s, const double *sum, int64_t col) {
    return sum[ps_patch_at(&s->m->view, s->group, col)] / (double)s->m->count;
}

/* The moment of inputs i and k, k <= i, about their means if the bias will take those up. */
static double centred(const solver *s, int64_t i, int64_t k) {
    const moment *m = s->m;
    const ps_weight_view *v = &m->view;
    const double value = (double)moment_at(m, s->group, i, k);
    if (!m->layer->can_bias || s->pass->job->options.skip & PS_COMPRESS_BIAS) return value;
    return value - m->sum[ps_patch_at(v, s->group, i)] * m->sum[ps_patch_at(v, s->group, k)] / (double)m->count;
}

/* The centred moment with its order reversed; damping comes later. */
static void centre_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const solver *s = ctx;
    const int64_t cols = s->m->view.cols;
    (void)thread;
    for (int64_t r = begin; r < end; r++) /* row r stands for an input, and has those behind it */
        for (int64_t i = cols - 1 - r; i < cols; i++)
            s->u[r * cols + (cols - 1 - i)] = (float)centred(s, i, cols - 1 - r);
}

static void damp(const solver *s) {
    const int64_t cols = s->m->view.cols;
    double trace = 0;
    for (int64_t i = 0; i < cols; i++)
        trace += centred(s, i, i);
    const double more = DAMPING * trace / (double)cols + 1e-12;
    for (int64_t i = 0; i < cols; i++)
        s->u[i * cols + i] += (float)more;
}

/* Rows of weights together: inputs are taken from the first to the last, which are rows of u from the last to the
 * first. |e U|: U[i][j] = L[cols-1-i][cols-1-j], so column j of it gathers e_i U[i][j] of i <= j. Inputs come in blocks
 * of PS_LOOPS_DEPTH, whose errors are carried to what is beyond the block at once. */
static void round_rows_of(const solver *s, int64_t row, int64_t rows, float *carry) {
    const ps_weight_view *v = &s->m->view;
    const ps_layer *l = s->m->layer;
    const int64_t cols = v->cols, base = s->group * v->group_stride + row * v->row_stride;
    const float max = (float)ps_layer_max_code(s->pass->job), *w = l->weight->data;
    int8_t *codes = l->codes->data;
    float errors[PS_LOOPS_ROWS * PS_LOOPS_DEPTH];
    memset(carry, 0, (size_t)(rows * cols) * sizeof *carry);
    for (int64_t first = 0; first < cols; first += PS_LOOPS_DEPTH) {
        const int64_t depth = cols - first < PS_LOOPS_DEPTH ? cols - first : PS_LOOPS_DEPTH;
        const int64_t rest = cols - first - depth;
        for (int64_t i = first; i < first + depth; i++) {
            const float *u = s->u + (cols - 1 - i) * cols;
            const double mean = mean_of(s, s->m->sum, i), moved = mean_of(s, s->m->before, i) - mean;
            for (int64_t k = 0; k < rows; k++) {
                const int64_t at = base + k * v->row_stride + i * v->col_stride, r = cols - 1 - i;
                const float scale = l->scales[ps_weight_scale(v, s->group, row + k)];
                const float target = w[at] + carry[k * cols + r] / u[r];
                float code = nearbyintf(target / scale);
                code = code > max ? max : code < -max ? -max : code;
                codes[at] = (int8_t)(code == code ? code : 0);
                const float e = errors[k * PS_LOOPS_DEPTH + i - first] = w[at] - (float)codes[at] * scale;
                s->shift[row + k] += (double)w[at] * moved + (double)e * mean;
                for (int64_t j = rest; j < r; j++)
                    carry[k * cols + j] += e * u[j];
            }
        }
        ps_loops_pick()->carry(carry, cols, rows, rest, errors, s->u + (cols - 1 - first) * cols, -cols, depth);
    }
}

/* Item: PS_LOOPS_ROWS rows. */
static void round_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const solver *s = ctx;
    for (int64_t k = begin; k < end; k++) {
        const int64_t row = k * PS_LOOPS_ROWS, left = s->m->view.rows - row;
        round_rows_of(s, row, left < PS_LOOPS_ROWS ? left : PS_LOOPS_ROWS,
                      s->carry + (int64_t)thread * PS_LOOPS_ROWS * s->m->view.cols);
    }
}

static void solve_group(solver *s) {
    const ps_weight_view *v = &s->m->view;
    ps_parallel_for(v->cols, 64, s->threads, centre_rows, s);
    damp(s);
    if (cholesky(s->u, v->cols, s->threads))
        ps_parallel_for((v->rows + PS_LOOPS_ROWS - 1) / PS_LOOPS_ROWS, 1, s->threads, round_rows, s);
}

/* Item: a group; each thread works on its own part of u and carry. */
static void solve_groups(void *ctx, int64_t begin, int64_t end, int thread) {
    const solver *all = ctx;
    const ps_weight_view *v = &all->m->view;
    for (int64_t g = begin; g < end; g++) {
        solver s = *all;
        s.group = g;
        s.threads = 1;
        s.u += (int64_t)thread * v->cols * v->cols;
        s.carry += (int64_t)thread * PS_LOOPS_ROWS * v->cols;
        s.shift += g * v->rows;
        solve_group(&s);
    }
}

/* The mean error of every channel goes into the bias. */
static ps_status shift_bias(ps_job *job, ps_layer *l, const ps_weight_view *v, const double *shift) {
    if ((job->options.skip & PS_COMPRESS_BIAS) || !l->can_bias || l->axis < 0 || v->rows_per_scale != 1) return PS_OK;
    const int64_t dims[] = { l->channels };
    const ps_shape shape = ps_shape_make(1, dims);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(job->alloc, PS_DTYPE_F32, &shape, &t, job->err));
    for (int64_t k = 0; k < l->channels; k++)
        ((float *)t->data)[k] = (float)((l->bias ? (double)((const float *)l->bias->data)[k] : 0) + shift[k]);
    ps_tensor_release(l->bias);
    l->bias = t;
    return PS_OK;
}

static ps_status solve(const pass *p, moment *m) {
    ps_alloc_state *a = p->job->alloc;
    const ps_weight_view *v = &m->view;
    const size_t cols = (size_t)v->cols;
    solver s = { p, m, 0, p->job->engine->threads, NULL, NULL, NULL };
    if (!m->count || !cols) return PS_OK;
    const size_t most = TEAM_BYTES / (cols * cols * sizeof *s.u);
    const size_t threads = (size_t)s.threads < most ? (size_t)s.threads : most > 1 ? most : 1;
    s.u = ps_alloc_data(a, (v->groups == 1 ? 1 : threads) * cols * cols * sizeof *s.u);
    s.carry = ps_alloc_data(a, (size_t)s.threads * PS_LOOPS_ROWS * cols * sizeof *s.carry);
    s.shift = ps_alloc_zero(a, (size_t)(v->groups * v->rows) * sizeof *s.shift);
    ps_status status = s.u && s.carry && s.shift ? PS_OK : PS_FAIL_NOMEM(p->job->err, "moments of a layer's inputs");
    if (status == PS_OK) {
        if (v->groups == 1)
            solve_group(&s);
        else
            ps_parallel_for(v->groups, 1, (int)threads, solve_groups, &s);
        status = shift_bias(p->job, m->layer, v, s.shift);
    }
    ps_free(a, s.u);
    ps_free(a, s.carry);
    ps_free(a, s.shift);
    return status;
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
        if (next == job->layers.size) ps_sim_close(&job->looking); /* its memory, for the rest */
        for (size_t i = 0; i < p.moments.size && status == PS_OK; i++)
            status = solve(&p, &p.moments.data[i]);
        clear(&p);
        PS_TRY(status);
    }
    return PS_OK;
}
