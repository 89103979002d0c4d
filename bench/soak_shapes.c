/* soak_shapes.c - a text model at thousands of random shapes: does memory stay flat, what does a first run cost, is it
 * right?
 *
 *     soak_shapes [FOLDER|NAME [RUNS [THREADS [MAX_SEQUENCE [CACHE_MIB]]]]]
 *
 * defaults: minilm-l6-v2-emb16 200 1 16 8, which fills a plan cache of 8 MiB in a few seconds; batch sizes are 1 to 8.
 *
 * Every input must be i64 [batch, sequence]: ids, a mask (name holds "mask") or segment numbers ("type"). Prints
 * resident memory every 500 runs, how long the first run at a new shape takes beyond a later one (wall clock; and time
 * of the calling thread on a CPU, which other load disturbs less), and the largest difference from the reference
 * kernels over a sample of shapes. Exit codes: 0 well, 1 memory grew, an output is wrong or not finite, 77 no such
 * model. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "model_files.h"

enum { MAX_BATCH = 8, VOCABULARY = 30000, SAMPLE_EVERY = 500, MAX_FIRST = 100000 };

typedef struct soak {
    ps_engine *engine;
    ps_model *model, *ref;
    ps_session *session, *ref_session;
    uint64_t random;
    int64_t *ids;
    int64_t max_sequence;
    double *first, *first_cpu; /* ms beyond the steady time */
    size_t cache_bytes;
    size_t n_first;
    double worst; /* largest difference from the reference */
    ps_error err;
} soak;

static int64_t draw(soak *s, int64_t below)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((s->random >> 33) % (uint64_t)below);
}

static void fill(soak *s, const char *name, int64_t *x, int64_t batch, int64_t sequence)
{
    for (int64_t b = 0; b < batch; b++) {
        int64_t used = 1 + draw(s, sequence);
        for (int64_t i = 0; i < sequence; i++) {
            bool mask = strstr(name, "mask"), type = strstr(name, "type");
            x[b * sequence + i] = mask ? i < used : type ? 0 : draw(s, VOCABULARY);
        }
    }
}

static ps_status make_inputs(soak *s, const ps_shape *shape, model_tensors *in)
{
    int64_t stride = MAX_BATCH * s->max_sequence;
    in->n = 0;
    for (size_t i = 0; i < ps_model_input_count(s->model); i++) {
        ps_value_info info;
        ps_status status = ps_model_input(s->model, i, &info);
        if (status != PS_OK) return status;
        int64_t *x = s->ids + (int64_t)i * stride;
        fill(s, info.name, x, shape->dims[0], shape->dims[1]);
        status = ps_tensor_wrap(s->engine, PS_DTYPE_I64, shape, NULL, x, &in->t[i], &s->err);
        if (status != PS_OK) return status;
        in->n++;
    }
    return PS_OK;
}

typedef struct cost {
    double ms, cpu_ms;
} cost;

static double thread_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static ps_status run(soak *s, ps_session *session, const model_tensors *in, ps_tensor **out, cost *ret)
{
    memset(out, 0, MODEL_MAX_ENDS * sizeof *out);
    int64_t start = ps_clock_ns();
    double cpu = thread_ms();
    ps_status status = ps_session_run(session, (const ps_tensor *const *)in->t, in->n, out,
                                      ps_model_output_count(s->model), NULL, &s->err);
    *ret = (cost){ (double)(ps_clock_ns() - start) / 1e6, thread_ms() - cpu };
    return status;
}

static bool finite_outputs(const soak *s, ps_tensor *const *out)
{
    for (size_t i = 0; i < ps_model_output_count(s->model); i++) {
        const float *x = ps_tensor_data(out[i]);
        for (size_t j = 0; j < ps_tensor_elements(out[i]); j++) {
            if (!isfinite(x[j])) return false;
        }
    }
    return true;
}

/* Of the outputs' own scale. */
static ps_status compare(soak *s, const model_tensors *in, ps_tensor *const *out)
{
    ps_tensor *want[MODEL_MAX_ENDS];
    cost none;
    ps_status status = run(s, s->ref_session, in, want, &none);
    for (size_t i = 0; i < ps_model_output_count(s->model) && status == PS_OK; i++) {
        const float *x = ps_tensor_data(out[i]), *y = ps_tensor_data(want[i]);
        double scale = 1e-3, worst = 0;
        for (size_t j = 0; j < ps_tensor_elements(out[i]); j++) {
            scale = fmax(scale, fabs(y[j]));
            worst = fmax(worst, fabs((double)x[j] - y[j]));
        }
        s->worst = fmax(s->worst, worst / scale);
    }
    return status;
}

static int64_t plans(const soak *s)
{
    ps_session_stats stats;
    return ps_session_statistics(s->session, &stats) == PS_OK ? stats.plans : 0;
}

/* One run at a random shape; a run that made a plan is repeated for its steady time, and now and then checked. */
static ps_status step(soak *s)
{
    model_tensors in;
    ps_tensor *out[MODEL_MAX_ENDS];
    ps_shape shape = { 2, { 1 + draw(s, MAX_BATCH), 1 + draw(s, s->max_sequence) } };
    int64_t before = plans(s);
    cost once = { 0 }, again = { 0 }, third = { 0 };
    ps_status status = make_inputs(s, &shape, &in);
    if (status == PS_OK) status = run(s, s->session, &in, out, &once);
    if (status == PS_OK && plans(s) > before && s->n_first < MAX_FIRST) {
        status = run(s, s->session, &in, out, &again);
        if (status == PS_OK) status = run(s, s->session, &in, out, &third);
        s->first_cpu[s->n_first] = once.cpu_ms - fmin(again.cpu_ms, third.cpu_ms);
        s->first[s->n_first++] = once.ms - fmin(again.ms, third.ms);
        /* the reference is slow: small shapes only */
        if (status == PS_OK && s->n_first % 8 == 1 && shape.dims[0] * shape.dims[1] <= 64)
            status = compare(s, &in, out);
    }
    model_tensors_release(&in);
    if (status == PS_OK && !finite_outputs(s, out)) status = PS_FAIL(&s->err, INTERNAL, "an output is not finite");
    return status;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double megabytes(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

/* Resident memory may move by this much after the first fifth of the runs: fragmentation, and the largest shape seen.
 */
#define MAY_GROW_MB 12

/* Sanitizers keep freed blocks for a while and count memory of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define JUDGE_GROWTH false
#else
#define JUDGE_GROWTH true
#endif

static void print_first(double *ms, size_t n, const char *what)
{
    if (n == 0) return;
    qsort(ms, n, sizeof *ms, ascending);
    printf("first run beyond a later one, %s: median %.1f ms, p95 %.1f ms, max %.1f ms over %zu plans\n", what,
           ms[n / 2], ms[n * 95 / 100], ms[n - 1], n);
}

static int report(soak *s, double settled)
{
    double grown = megabytes(ps_memory_resident()) - settled;
    print_first(s->first, s->n_first, "wall clock");
    print_first(s->first_cpu, s->n_first, "on the CPU");
    printf("largest difference from the reference kernels: %.1e of the output's largest\n", s->worst);
    printf("resident memory grew by %.1f MB after the first fifth\n", grown);
    /* six layers of sums of 384 to 1536 products in another order: 1e-4 leaves ten times what is seen */
    return (JUDGE_GROWTH && grown > MAY_GROW_MB) || !(s->worst < 1e-4);
}

static int loop(soak *s, long runs)
{
    double settled = 0;
    for (long i = 1; i <= runs; i++) {
        if (step(s) != PS_OK) {
            fprintf(stderr, "run %ld: %s\n", i, s->err.msg);
            return 1;
        }
        if (i == runs / 5) settled = megabytes(ps_memory_resident());
        if (i % SAMPLE_EVERY != 0 && i != runs / 5) continue;
        printf("run %5ld: resident %.1f MB, held by the engine %.1f MB, %lld plans made\n", i,
               megabytes(ps_memory_resident()), megabytes(ps_engine_memory(s->engine, NULL)), (long long)plans(s));
        fflush(stdout);
    }
    return report(s, settled);
}

static ps_status load(soak *s, const char *folder, int threads)
{
    char path[1100];
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.threads = threads;
    o.plan_cache_bytes = s->cache_bytes;
    ps_snprintf(path, sizeof path, "%s/model.onnx", folder);
    ps_status status = ps_model_load(s->engine, path, &o, &s->model, &s->err);
    o.device = "ref";
    o.plan_cache_bytes = 1; /* the newest plan only: its memory is not what is watched */
    return status == PS_OK ? ps_model_load(s->engine, path, &o, &s->ref, &s->err) : status;
}

static ps_status open_all(soak *s, const char *folder, int threads)
{
    ps_status status = ps_engine_create(NULL, &s->engine, &s->err);
    if (status == PS_OK) status = load(s, folder, threads);
    if (status == PS_OK) status = ps_session_create(s->model, NULL, &s->session, &s->err);
    if (status == PS_OK) status = ps_session_create(s->ref, NULL, &s->ref_session, &s->err);
    if (status != PS_OK) return status;
    s->ids = calloc(ps_model_input_count(s->model) * MAX_BATCH * (size_t)s->max_sequence, sizeof *s->ids);
    s->first = calloc(MAX_FIRST, sizeof *s->first);
    s->first_cpu = calloc(MAX_FIRST, sizeof *s->first_cpu);
    return s->ids && s->first && s->first_cpu ? PS_OK : PS_FAIL(&s->err, NO_MEMORY, "out of memory for the inputs");
}

static void close_all(soak *s)
{
    ps_session_free(s->session);
    ps_session_free(s->ref_session);
    ps_model_release(s->model);
    ps_model_release(s->ref);
    ps_engine_free(s->engine);
    free(s->ids);
    free(s->first);
    free(s->first_cpu);
}

static long number(int argc, char **argv, int at, long otherwise)
{
    return argc > at ? strtol(argv[at], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    char folder[1024];
    const char *name = argc > 1 ? argv[1] : "minilm-l6-v2-emb16";
    long runs = number(argc, argv, 2, 200);
    soak s = { .random = 1, .max_sequence = number(argc, argv, 4, 16), .err = PS_ERROR_INIT };
    s.cache_bytes = (size_t)number(argc, argv, 5, 8) << 20;
    ps_snprintf(folder, sizeof folder, "%s", name);
    if (!ps_dir_exists(folder) && !model_folder(name, folder, sizeof folder)) {
        printf("skipped: there is no model %s, here or in %s\n", name, model_root());
        return 77;
    }
    int rc = 1;
    if (open_all(&s, folder, (int)number(argc, argv, 3, 1)) == PS_OK) rc = loop(&s, runs);
    else fprintf(stderr, "%s\n", s.err.msg);
    close_all(&s);
    return rc;
}
