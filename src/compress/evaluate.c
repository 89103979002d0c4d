/* evaluate.c - two models on the same samples: accuracy by labels, agreement, closeness of outputs. */
#include "compress/compress_int.h"

typedef struct judge {
    ps_job *job;
    ps_session *before, *after;
    size_t n_out;
    ps_tensor **out_before, **out_after;
    ps_judgement *j;
} judge;

/* ---- one output ---- */

static double element(const ps_tensor *t, size_t i) {
    double v = NAN;
    if (t->dtype == PS_DTYPE_F32) return ((const float *)t->data)[i];
    ps_tensor_get_double(t, i, &v);
    return v;
}

/* Scores of classes: `inner` apart, `classes` of them, for each of outer * inner places. */
typedef struct classes {
    int64_t outer, count, inner;
} classes;

/* [.., classes], but [n, classes, height, width …] for pictures. */
static classes classes_of(const ps_shape *s) {
    if (s->rank <= 0) return (classes) { 1, 1, 1 };
    const int axis = s->rank >= 4 ? 1 : s->rank - 1;
    return (classes) { ps_shape_product(s, 0, axis), s->dims[axis], ps_shape_product(s, axis + 1, s->rank) };
}

static int64_t argmax(const ps_tensor *t, classes c, int64_t outer, int64_t inner) {
    int64_t best = 0;
    double most = -INFINITY;
    for (int64_t k = 0; k < c.count; k++) {
        const double v = element(t, (size_t)((outer * c.count + k) * c.inner + inner));
        if (!(v > most)) continue;
        most = v;
        best = k;
    }
    return best;
}

/* Sequences [n, steps, classes] read as runs of equal classes: where one begins a step later, the text is the same. */
static bool same_runs(const ps_tensor *a, const ps_tensor *b, classes c) {
    int64_t i = 0, k = 0;
    while (i < c.outer && k < c.outer) {
        const int64_t x = argmax(a, c, i, 0), y = argmax(b, c, k, 0);
        if (x != y) return false;
        while (i < c.outer && argmax(a, c, i, 0) == x)
            i++;
        while (k < c.outer && argmax(b, c, k, 0) == y)
            k++;
    }
    return i == k;
}

static void compare_classes(judge *u, const ps_tensor *a, const ps_tensor *b, int64_t label) {
    const classes c = classes_of(&a->shape);
    ps_judgement *j = u->j;
    size_t same = 0;
    for (int64_t o = 0; o < c.outer; o++)
        for (int64_t i = 0; i < c.inner; i++)
            same += argmax(a, c, o, i) == argmax(b, c, o, i);
    const size_t rows = (size_t)(c.outer * c.inner);
    j->rows += rows;
    j->same += same;
    j->exact += same == rows || (a->shape.rank == 3 && same_runs(a, b, c));
    if (label < 0 || rows != 1) return;
    const bool was = argmax(a, c, 0, 0) == label, is = argmax(b, c, 0, 0) == label;
    j->labelled++;
    j->right_before += was;
    j->right_after += is;
    j->lost += was && !is;
    j->won += is && !was;
}

static void compare_values(judge *u, const ps_tensor *a, const ps_tensor *b) {
    double aa = 0, bb = 0, ab = 0, dd = 0;
    const size_t n = ps_tensor_count(a);
    for (size_t i = 0; i < n; i++) {
        const double x = element(a, i), y = element(b, i);
        aa += x * x;
        bb += y * y;
        ab += x * y;
        dd += (x - y) * (x - y);
    }
    const double cosine = aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : dd == 0 ? 1 : 0;
    u->j->cosine += cosine;
    u->j->cosine_least = fmin(u->j->cosine_least, cosine);
    if (aa > 0) {
        u->j->sqnr += 10 * log10(aa / fmax(dd, aa * 1e-12)); /* equal: 120 dB */
        u->j->sqnr_count++;
    }
}

static bool unit_length(const ps_tensor *t) {
    double sum = 0;
    const size_t n = ps_tensor_count(t);
    if (t->shape.rank != 2 || t->shape.dims[0] != 1) return false;
    for (size_t i = 0; i < n; i++) {
        const double v = element(t, i);
        if (v < 0) sum += v * v * 2; /* probabilities are no embedding */
        sum += v < 0 ? -v * v : v * v;
    }
    bool negative = false;
    for (size_t i = 0; i < n; i++)
        negative |= element(t, i) < 0;
    return negative && fabs(sum - 1) < 1e-3;
}

static bool comparable(const ps_tensor *a, const ps_tensor *b) {
    return !ps_dtype_is_object(a->dtype) && a->dtype == b->dtype && ps_shape_equal(&a->shape, &b->shape) &&
           ps_tensor_count(a) && ps_dtype_size(a->dtype);
}

/* ---- samples ---- */

static ps_status run(judge *u, ps_session *s, ps_tensor *const *in, ps_tensor **out) {
    ps_run_options o = PS_RUN_OPTIONS_INIT;
    o.cancel = u->job->options.cancel;
    for (size_t i = 0; i < u->n_out; i++)
        out[i] = NULL;
    return ps_session_run(s, (const ps_tensor *const *)in, u->job->graph->n_inputs, out, u->n_out, &o, u->job->err);
}

static ps_status one_sample(judge *u, ps_dataset *data, size_t index) {
    ps_tensor *in[PS_COMPRESS_MAX_INPUTS];
    bool skipped;
    PS_TRY(ps_job_sample(u->job, data, index, in, &skipped));
    if (skipped) return PS_OK;
    ps_status status = run(u, u->before, in, u->out_before);
    if (status == PS_OK) status = run(u, u->after, in, u->out_after);
    ps_job_release(u->job, in);
    PS_TRY(status);
    const ps_tensor *a = u->out_before[0], *b = u->out_after[0];
    if (!comparable(a, b)) return PS_OK;
    if (!u->j->measure)
        u->j->measure = u->job->options.measure == PS_MEASURE_COSINE   ? "cosine"
                        : u->job->options.measure == PS_MEASURE_ARGMAX ? "argmax"
                        : unit_length(a)                               ? "cosine"
                                                                       : "argmax";
    u->j->samples++;
    compare_classes(u, a, b, ps_dataset_label(data, index));
    compare_values(u, a, b);
    return PS_OK;
}

double ps_agreement(const ps_judgement *j) {
    return j->rows ? 100.0 * (double)j->same / (double)j->rows : 100;
}

static double drop_of(const ps_judgement *j) {
    if (j->labelled) return 100.0 * ((double)j->right_before - (double)j->right_after) / (double)j->labelled;
    if (!j->samples) return 0;
    if (j->measure && strcmp(j->measure, "cosine") == 0) return 100 * (1 - j->cosine / (double)j->samples);
    if (j->rows > 4096 * j->samples) return 100 - ps_agreement(j); /* pictures: pixels */
    return 100.0 * (1 - (double)j->exact / (double)j->samples);
}

/* Agresti and Min (2005): half a sample is added to each cell of the paired table, which keeps the interval honest
 * where few or no samples differ. */
void ps_drop_interval(const ps_judgement *j, double *ret_low, double *ret_high) {
    *ret_low = *ret_high = NAN;
    if (!j->labelled) return;
    const double n = (double)j->labelled + 2, lost = (double)j->lost + 0.5, won = (double)j->won + 0.5;
    const double d = (lost - won) / n, error = sqrt(fmax(0, (lost + won) / n - d * d) / n);
    *ret_low = 100 * (d - 1.96 * error);
    *ret_high = 100 * (d + 1.96 * error);
}

ps_status ps_judge(ps_job *job, ps_model *before, ps_model *after, ps_dataset *data, size_t first, size_t n,
                   ps_judgement *ret) {
    judge u = { .job = job, .n_out = ps_model_output_count(before), .j = ret };
    *ret = (ps_judgement) { .cosine_least = 1, .metric_before = NAN, .metric_after = NAN };
    u.out_before = ps_alloc_zero(job->alloc, (u.n_out + 1) * sizeof *u.out_before);
    u.out_after = ps_alloc_zero(job->alloc, (u.n_out + 1) * sizeof *u.out_after);
    ps_status status = u.out_before && u.out_after ? PS_OK : PS_FAIL_NOMEM(job->err, "outputs");
    if (status == PS_OK) status = ps_session_create(before, NULL, &u.before, job->err);
    if (status == PS_OK) status = ps_session_create(after, NULL, &u.after, job->err);
    for (size_t i = 0; i < n && status == PS_OK; i++) {
        status = one_sample(&u, data, first + i);
        if (status == PS_OK) status = ps_job_step(job, i + 1, n);
    }
    ps_session_free(u.before);
    ps_session_free(u.after);
    ps_free(job->alloc, u.out_before);
    ps_free(job->alloc, u.out_after);
    if (ret->labelled) ret->measure = "top-1";
    if (!ret->measure) ret->measure = "";
    ret->drop = drop_of(ret);
    return status;
}
