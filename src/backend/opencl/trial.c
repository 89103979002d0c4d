/* trial.c - variants of a node's kernel, tried on the device: which is fastest, found once, then looked up.
 *
 * The variant that the device's tables give is the first: it stays unless another gives the same results and is faster
 * by more than times vary. Trials run the kernels themselves, on buffers of random numbers, with weights and
 * post-operations as they will be. Choices lie in the cache folder, beside the compiled programs, under the problem,
 * the kernels' source, device and driver. */
#include "backend/opencl/opencl_int.h"
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

/* ---- the cache ---- */

static ps_cache_key key_of(const ocl_device *d, const ocl_trials *of) {
    return (ps_cache_key) { "opencl-tune", of->digest, sizeof of->digest, PS_VERSION, d->target };
}

static const void *id_at(const ocl_trials *of, size_t i) {
    return (const char *)of->ids + i * of->id_bytes;
}

/* An entry says what some process found: it is taken only if it is a variant that is possible here. */
static bool find(const ocl_device *d, const ocl_trials *of, size_t *ret) {
    void *data = NULL;
    size_t size = 0;
    bool found = false;
    const ps_cache_key key = key_of(d, of);
    if (ps_cache_get(d->cache, &key, &data, &size, NULL) != PS_OK) return false;
    for (size_t i = 0; i < of->n && size == of->id_bytes && !found; i++) {
        found = memcmp(id_at(of, i), data, size) == 0;
        if (found) *ret = i;
    }
    ps_free(d->base.alloc, data);
    return found;
}

/* ---- trials ---- */

typedef struct trial {
    ocl_device *device;
    ps_lowering *l;
    const ocl_trials *of;
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
    PS_TRY(ocl_memory_ops.stream_new(&t->device->base, 1, &t->stream, err));
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
    if (status != PS_OK) (void)ocl_memory_ops.sync(t->stream, NULL); /* what it had asked for may be under way */
    k->base.ops->state_free(&k->base, t->l->alloc, state);
    return status;
}

static ps_status try_variant(trial *t, size_t i, float *results, int64_t *ret_ns, ps_error *err) {
    ocl_kernel *k = NULL;
    PS_TRY(t->of->make(t->of->ctx, i, &k, err));
    const ps_status status = try_kernel(t, k, results, ret_ns, err);
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
static ps_status compare(trial *t, ps_tuning *tuning, size_t *ret, ps_error *err) {
    int64_t usual = 0, best = 0, ns = 0;
    size_t chosen = 0;
    PS_TRY(try_variant(t, 0, t->want, &usual, err));
    for (size_t i = 1; i < t->of->n; i++) {
        ps_error why = PS_ERROR_INIT;
        if (ps_clock_ns() > tuning->until_ns) break;
        const ps_status status = try_variant(t, i, t->got, &ns, &why);
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
    *ret = chosen;
    return PS_OK;
}

/* *ret_tried: false where there was no memory for it, now. */
static ps_status try_all(trial *t, size_t *ret, bool *ret_tried, ps_error *err) {
    size_t all, largest;
    *ret_tried = false;
    if (!count_bytes(t, &all, &largest)) return PS_OK;
    ps_status status = begin(t, largest, err);
    if (status == PS_OK) status = compare(t, t->l->tuning, ret, err);
    end(t);
    *ret_tried = status == PS_OK;
    return status == PS_NO_MEMORY ? PS_OK : status; /* the default needs less */
}

static bool may_try(const ps_lowering *l) {
    return l->tuning && ps_clock_ns() < l->tuning->until_ns;
}

bool ocl_may_choose(const ps_device *device, const ps_lowering *l) {
    return ((const ocl_device *)device)->cache || may_try(l);
}

ps_status ocl_choose(ps_device *device, ps_lowering *l, const ocl_trials *of, size_t *ret, ps_error *err) {
    ocl_device *d = ocl_of(device);
    *ret = 0;
    if (of->n < 2 || find(d, of, ret) || !may_try(l)) return PS_OK;
    trial *t = ps_alloc_zero(l->alloc, sizeof *t);
    if (!t) return PS_FAIL_NOMEM(err, "trials");
    *t = (trial) { .device = d, .l = l, .of = of };
    bool tried;
    const ps_status status = try_all(t, ret, &tried, err);
    const ps_cache_key key = key_of(d, of);
    if (tried && ps_clock_ns() < l->tuning->until_ns)
        ps_cache_put(d->cache, &key, id_at(of, *ret), of->id_bytes, NULL);
    ps_free(l->alloc, t);
    return status;
}
