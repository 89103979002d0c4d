/* tune.c - the variant of a product that is fastest on this device: tried once, then looked up.
 *
 * Candidates are tiles and shares of the depth (by tiles), or widths and slices (few rows). The variant that the table
 * for the device gives (ocl_gemm_plan) is one of them: it stays unless another gives the same results and is faster by
 * more than times vary. Trials run the kernels themselves, on buffers of random numbers, with weights and
 * post-operations as they will be. Choices lie in the cache folder, beside the compiled programs, under the problem,
 * the kernels' source, device and driver. */
#include "backend/opencl/gemm.h"
#include "base/os.h"
#include "tensor/convert.h"

#include <math.h>
#include <stdlib.h>

#define MARGIN 0.97                  /* of the default's time */
#define BATCHES 5                    /* of a candidate's runs: the median counts */
#define BATCH_NS 2000000             /* a batch takes at least so long */
#define MOST_RUNS 64                 /* of a batch */
#define MOST_BYTES ((size_t)1 << 30) /* of buffers for trials: a larger problem keeps the default */
#define SAME 1e-4                    /* of the largest result: sums in another order differ by less */
#define SAME_HALF (1.0 / 1024)       /* and of each that is stored as half: one place of its eleven bits */

/* What distinguishes one variant from another: the fields of ocl_gemm that ocl_gemm_plan sets. */
typedef struct choice {
    int32_t m, n, depth, twice, rows, slices;
    int32_t parts, few_depth, few_width;
} choice;

static choice choice_of(const ocl_gemm *g) {
    return (choice) { g->tile.m,      g->tile.n,     g->tile.depth,     g->tile.twice,    g->tile.rows,
                      g->tile.slices, (int)g->parts, (int)g->few_depth, (int)g->few_width };
}

static bool same(const choice *a, const choice *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

static void apply(const choice *c, ocl_gemm *g) {
    g->tile.m = c->m;
    g->tile.n = c->n;
    g->tile.depth = c->depth;
    g->tile.twice = c->twice != 0;
    g->tile.rows = c->rows;
    g->tile.slices = c->slices;
    g->parts = c->parts;
    g->few_depth = c->few_depth;
    g->few_width = c->few_width;
}

/* ---- the cache ---- */

typedef struct tune_key {
    uint64_t digest[2];
    ps_cache_key key;
} tune_key;

/* Sizes and modes; post-operations cost the same in every variant. */
static void make_key(const ocl_device *d, const ocl_gemm *g, tune_key *ret) {
    const int64_t parts[] = { g->a_mode,        g->b_mode, g->m,      g->n,     g->k,    g->lda,      g->ldb,
                              g->ldc,           g->outer,  g->inner,  g->bits,  g->four, g->has_bias, g->weights.form,
                              g->weights.block, g->a_half, g->b_half, g->c_half };
    uint64_t hash = ps_hash_bytes(parts, sizeof parts, ocl_program_version("gemm"));
    hash = ps_hash_bytes(g->image, sizeof g->image, hash);
    ret->digest[0] = ps_hash_bytes(g->window, sizeof g->window, hash);
    ret->digest[1] = ocl_program_version("gemv");
    ret->key = (ps_cache_key) { "opencl-tune", ret->digest, sizeof ret->digest, PS_VERSION, d->target };
}

/* An entry says what some process found: it is taken only if it is a variant that is possible here. */
static bool find(const ocl_device *d, const ocl_gemm *list, size_t n, const tune_key *key, ocl_gemm *ret) {
    void *data = NULL;
    size_t size = 0;
    bool found = false;
    if (ps_cache_get(d->cache, &key->key, &data, &size, NULL) != PS_OK) return false;
    for (size_t i = 0; i < n && size == sizeof(choice) && !found; i++) {
        const choice c = choice_of(&list[i]);
        found = same(&c, data);
        if (found) *ret = list[i];
    }
    ps_free(d->base.alloc, data);
    return found;
}

/* ---- trials ---- */

typedef struct trial {
    ocl_device *device;
    ps_lowering *l;
    const ps_chain *chain;
    int64_t columns;
    ps_stream *stream;
    ps_region regions[PS_LOWER_MAX + 2]; /* of inputs, the output, the workspace */
    void *in[PS_LOWER_MAX], *out[1];
    size_t out_n;
    float *want, *got; /* results of the default, and of a candidate */
    uint16_t *halves;  /* the same as they are stored, or NULL */
} trial;

static ps_status new_region(trial *t, ps_region *r, size_t bytes, const void *content, ps_error *err) {
    r->offset = 0;
    return ocl_memory_ops.buffer_new(&t->device->base, bytes, content, &r->buffer, err);
}

static bool bytes_of(const ps_value *v, bool half, size_t *ret) {
    int64_t n;
    return ps_shape_elements(&v->shape, &n) && ps_dtype_bytes(half ? PS_DTYPE_F16 : v->dtype, n, ret);
}

/* The weights are in a buffer of their own; every other input gets one. */
static bool is_read(const trial *t, uint32_t i) {
    const ps_node *n = t->l->node;
    return n->in[i] && n->in[i]->dtype == PS_DTYPE_F32 && !(i < 64 && t->l->taken >> i & 1);
}

static bool count_bytes(const trial *t, size_t *ret_all, size_t *ret_largest) {
    const ps_node *n = t->l->node;
    size_t bytes;
    if (!bytes_of(n->out[0], false, &bytes) || n->n_out != 1) return false;
    *ret_all = 3 * bytes;
    *ret_largest = bytes;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!is_read(t, i)) continue;
        if (!bytes_of(n->in[i], false, &bytes) || bytes > MOST_BYTES) return false;
        *ret_all += bytes;
        *ret_largest = bytes > *ret_largest ? bytes : *ret_largest;
    }
    return *ret_all <= MOST_BYTES;
}

static void fill_numbers(float *numbers, uint16_t *halves, size_t n) {
    uint32_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        numbers[i] = (float)(seed >> 8) / (1 << 23) - 1;
    }
    ps_f32_to_f16_row(numbers, halves, n);
}

static ps_status upload_inputs(trial *t, const float *numbers, const uint16_t *halves, ps_error *err) {
    const ps_node *n = t->l->node;
    for (uint32_t i = 0; i < n->n_in; i++) {
        const bool half = t->l->in_half[i];
        size_t bytes;
        if (!is_read(t, i) || !bytes_of(n->in[i], half, &bytes)) continue;
        PS_TRY(new_region(t, &t->regions[i], bytes, half ? (const void *)halves : numbers, err));
        t->in[i] = &t->regions[i];
    }
    return PS_OK;
}

static ps_status make_inputs(trial *t, size_t largest, ps_error *err) {
    const size_t n = largest / sizeof(float);
    float *numbers = ps_alloc(t->l->alloc, largest);
    uint16_t *halves = ps_alloc(t->l->alloc, n * sizeof *halves);
    ps_status status = numbers && halves ? PS_OK : PS_FAIL_NOMEM(err, "a trial");
    if (status == PS_OK) {
        fill_numbers(numbers, halves, n);
        status = upload_inputs(t, numbers, halves, err);
    }
    ps_free(t->l->alloc, numbers);
    ps_free(t->l->alloc, halves);
    return status;
}

static void end(trial *t) {
    for (size_t i = 0; i < PS_LOWER_MAX + 2; i++)
        ocl_memory_ops.buffer_free(&t->device->base, t->regions[i].buffer);
    ocl_memory_ops.stream_free(t->stream);
    ps_free(t->l->alloc, t->want);
    ps_free(t->l->alloc, t->got);
    ps_free(t->l->alloc, t->halves);
}

static ps_status begin(trial *t, size_t largest, ps_error *err) {
    const bool half = t->l->out_half[0];
    size_t bytes, stored;
    if (!bytes_of(t->l->node->out[0], false, &bytes) || !bytes_of(t->l->node->out[0], half, &stored)) return PS_OK;
    PS_TRY(ocl_memory_ops.stream_new(&t->device->base, &t->stream, err));
    PS_TRY(make_inputs(t, largest, err));
    PS_TRY(new_region(t, &t->regions[PS_LOWER_MAX], stored, NULL, err));
    t->out[0] = &t->regions[PS_LOWER_MAX];
    t->out_n = bytes / sizeof(float);
    t->want = ps_alloc(t->l->alloc, bytes);
    t->got = ps_alloc(t->l->alloc, bytes);
    if (half) t->halves = ps_alloc(t->l->alloc, stored);
    return t->want && t->got && (t->halves || !half) ? PS_OK : PS_FAIL_NOMEM(err, "a trial");
}

static ps_status run_times(trial *t, const ps_kernel *k, void *state, int times, int64_t *ret_ns, ps_error *err) {
    const ps_kernel_args args = { t->in, t->out, &t->regions[PS_LOWER_MAX + 1], state, t->l->alloc, t->stream };
    const int64_t start = ps_clock_ns();
    for (int i = 0; i < times; i++)
        PS_TRY(k->ops->run(k, &args, err));
    PS_TRY(ocl_memory_ops.sync(t->stream, err));
    *ret_ns = (ps_clock_ns() - start) / times;
    return PS_OK;
}

static int by_time(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static ps_status fetch(trial *t, float *results, ps_error *err) {
    if (!t->halves) return ocl_memory_ops.download(t->stream, results, t->out[0], t->out_n * sizeof *results, err);
    PS_TRY(ocl_memory_ops.download(t->stream, t->halves, t->out[0], t->out_n * sizeof *t->halves, err));
    PS_TRY(ocl_memory_ops.sync(t->stream, err));
    ps_f16_to_f32_row(t->halves, results, t->out_n);
    return PS_OK;
}

/* Times one variant; its results go to `results`. */
static ps_status run_variant(trial *t, const ps_kernel *k, void *state, float *results, int64_t *ret_ns,
                             ps_error *err) {
    int64_t ns, list[BATCHES];
    PS_TRY(run_times(t, k, state, 1, &ns, err));
    PS_TRY(fetch(t, results, err));
    PS_TRY(run_times(t, k, state, 1, &ns, err));
    const int64_t wanted = BATCH_NS / (ns + 1) + 1;
    const int runs = (int)(wanted < MOST_RUNS ? wanted : MOST_RUNS);
    for (int i = 0; i < BATCHES; i++)
        PS_TRY(run_times(t, k, state, runs, &list[i], err));
    qsort(list, BATCHES, sizeof *list, by_time);
    *ret_ns = list[BATCHES / 2];
    return PS_OK;
}

static ps_status try_kernel(trial *t, ocl_kernel *k, float *results, int64_t *ret_ns, ps_error *err) {
    ps_region *work = &t->regions[PS_LOWER_MAX + 1];
    void *state = NULL;
    ocl_memory_ops.buffer_free(&t->device->base, work->buffer);
    work->buffer = NULL;
    if (k->base.workspace) PS_TRY(new_region(t, work, k->base.workspace, NULL, err));
    PS_TRY(k->base.ops->state_new(&k->base, t->l->alloc, &state, err));
    const ps_status status = run_variant(t, &k->base, state, results, ret_ns, err);
    k->base.ops->state_free(&k->base, t->l->alloc, state);
    return status;
}

static ps_status try_variant(trial *t, const ocl_gemm *g, float *results, int64_t *ret_ns, ps_error *err) {
    ocl_kernel *k;
    PS_TRY(ocl_kernel_new(&t->device->base, t->l, 2, "trial", &k, err));
    k->n = g->parts ? 2 : 1;
    k->base.workspace = ocl_gemm_workspace(g);
    ps_status status = ocl_gemm_launch(k, 0, g, t->chain, t->columns, err);
    if (status == PS_OK) status = try_kernel(t, k, results, ret_ns, err);
    ocl_kernel_free(&k->base);
    return status;
}

/* Where the default gives no finite number, so must the other. */
static bool is_same(float got, float want, float allowed) {
    if (isfinite(want)) return fabsf(got - want) <= allowed;
    return isnan(want) ? isnan(got) : got == want;
}

static bool agrees(const trial *t) {
    const float share = t->halves ? (float)SAME_HALF : 0;
    float largest = 0;
    for (size_t i = 0; i < t->out_n; i++)
        if (isfinite(t->want[i])) largest = fabsf(t->want[i]) > largest ? fabsf(t->want[i]) : largest;
    for (size_t i = 0; i < t->out_n; i++)
        if (!is_same(t->got[i], t->want[i], (float)SAME * largest + share * fabsf(t->want[i]))) return false;
    return true;
}

/* ---- choosing ---- */

/* A variant that cannot be had is none; a device that is lost ends the trials. */
static ps_status compare(trial *t, const ocl_gemm *list, size_t n, ps_tuning *tuning, ocl_gemm *g, ps_error *err) {
    int64_t usual = 0, best = 0, ns = 0;
    size_t chosen = 0;
    PS_TRY(try_variant(t, &list[0], t->want, &usual, err));
    for (size_t i = 1; i < n; i++) {
        ps_error why = PS_ERROR_INIT;
        if (ps_clock_ns() > tuning->until_ns) break;
        const ps_status status = try_variant(t, &list[i], t->got, &ns, &why);
        if (status == PS_UNAVAILABLE) {
            if (err) *err = why;
            return status;
        }
        tuning->tried += status == PS_OK;
        if (status != PS_OK) continue;
        if (!agrees(t)) {
            tuning->wrong++;
            continue;
        }
        if ((double)ns > MARGIN * (double)usual || (chosen && ns >= best)) continue;
        best = ns;
        chosen = i;
    }
    tuning->problems++;
    tuning->faster += chosen > 0;
    tuning->usual_ns += usual;
    tuning->best_ns += chosen ? best : usual;
    *g = list[chosen];
    return PS_OK;
}

static ps_status try_all(trial *t, const ocl_gemm *list, size_t n, ocl_gemm *g, ps_error *err) {
    size_t all, largest;
    if (!count_bytes(t, &all, &largest)) return PS_OK;
    ps_status status = begin(t, largest, err);
    if (status == PS_OK) status = compare(t, list, n, t->l->tuning, g, err);
    end(t);
    return status == PS_NO_MEMORY ? PS_OK : status; /* the default needs less */
}

static bool may_try(const ps_lowering *l) {
    return l->tuning && ps_clock_ns() < l->tuning->until_ns;
}

ps_status ocl_tune(ps_device *device, ps_lowering *l, ocl_gemm *g, const ps_chain *chain, int64_t columns,
                   ps_error *err) {
    ocl_device *d = ocl_of(device);
    ocl_gemm *list;
    tune_key key;
    size_t n = 0;
    if (!d->cache && !may_try(l)) return PS_OK;
    list = ps_alloc_array(l->alloc, OCL_MOST_VARIANTS, sizeof *list);
    if (!list) return PS_FAIL_NOMEM(err, "variants of a product");
    ocl_gemm_variants(d, g, list, &n);
    make_key(d, g, &key);
    ps_status status = PS_OK;
    if (!find(d, list, n, &key, g) && may_try(l)) {
        trial *t = ps_alloc_zero(l->alloc, sizeof *t);
        if (t) {
            *t = (trial) { .device = d, .l = l, .chain = chain, .columns = columns };
            ocl_gemm chosen = *g;
            status = try_all(t, list, n, &chosen, err);
            const choice c = choice_of(&chosen);
            if (status == PS_OK && ps_clock_ns() < l->tuning->until_ns)
                ps_cache_put(d->cache, &key.key, &c, sizeof c, NULL);
            apply(&c, g);
        }
        ps_free(l->alloc, t);
    }
    ps_free(l->alloc, list);
    return status;
}
