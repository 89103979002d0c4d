/* signal.c - window functions, the mel weight matrix, DFT and STFT.
 *
 * Source: ONNX operator specs HannWindow-17, HammingWindow-17, BlackmanWindow-17, MelWeightMatrix-17, DFT-17/20,
 * STFT-17. Everything is computed in double and rounded once. */
#include <math.h>

#include "ops/fourier.h"
#include "ops/fourier_single.h"
#include "ops/kernel_util.h"
#include "ops/move.h"

#define PI 3.14159265358979323846

/* The element type that an attribute names: a float or an integer. */
static ps_status number_attr(const ps_node *node, int64_t value, ps_dtype *ret, ps_error *err) {
    *ret = value > 0 && value < PS_DTYPE_COUNT ? (ps_dtype)value : PS_DTYPE_UNDEFINED;
    PS_FAIL_IF(!ps_dtype_is_float(*ret) && !ps_dtype_is_int(*ret), err, TYPE,
               "%s: output_datatype is %lld, it must be a float or integer type", PS_LABEL(node), (long long)value);
    return PS_OK;
}

/* One integer; *ret is untouched while it is not known. */
static ps_status one_int(const ps_facts *f, size_t i, const char *what, int64_t *ret, bool *known, ps_error *err) {
    size_t n;
    int64_t value;
    PS_TRY(ps_facts_ints(f, i, what, &value, 1, &n, known, err));
    if (!*known) return PS_OK;
    PS_FAIL_IF(n != 1, err, SHAPE, "%s: %s is empty", PS_LABEL(f->node), what);
    *ret = value;
    return PS_OK;
}

/* The plan's output if it has one, else a new one; *ret_count: of elements. */
static ps_status make_output(const ps_kernel_ctx *ctx, ps_dtype dtype, const ps_shape *shape, size_t *ret_count,
                             ps_error *err) {
    PS_TRY(ps_move_output(ctx, 0, dtype, shape, err));
    *ret_count = ps_tensor_count(ctx->out[0]);
    return PS_OK;
}

/* ---- windows ---- */
typedef struct window_params {
    int64_t output_datatype, periodic;
} window_params;

static const ps_attr_def window_attrs[] = {
    PS_A_INT(window_params, output_datatype, PS_DTYPE_F32),
    PS_A_INT(window_params, periodic, 1),
    PS_ATTRS_END,
};

static ps_status window_resolve(const ps_facts *f, ps_dtype *dtype, ps_shape *shape, ps_error *err) {
    const window_params *p = f->node->params;
    bool known;
    *shape = ps_shape_make(1, (int64_t[]) { PS_DIM_UNKNOWN });
    PS_TRY(number_attr(f->node, p->output_datatype, dtype, err));
    PS_TRY(one_int(f, 0, "size", &shape->dims[0], &known, err));
    PS_FAIL_IF(known && shape->dims[0] < 0, err, SHAPE, "%s: size is %lld", PS_LABEL(f->node),
               (long long)shape->dims[0]);
    return PS_OK;
}

static ps_status window_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_dtype dtype;
    ps_shape shape;
    PS_TRY(window_resolve(&f, &dtype, &shape, err));
    return ps_infer_checked(node, 0, dtype, &shape, err);
}

/* a[0] - a[1] cos(2 pi k / n) + a[2] cos(4 pi k / n) */
static ps_status window_run(const ps_kernel_ctx *ctx, const double a[3], ps_error *err) {
    const window_params *p = ctx->params;
    ps_facts f = ps_facts_ctx(ctx);
    ps_dtype dtype;
    ps_shape shape;
    size_t n;
    PS_TRY(window_resolve(&f, &dtype, &shape, err));
    PS_TRY(make_output(ctx, dtype, &shape, &n, err));
    double period = p->periodic ? (double)n : (double)n - 1;
    for (size_t k = 0; k < n; k++) {
        double t = n > 1 || p->periodic ? 2 * PI * (double)k / period : 0;
        double v = a[0] - a[1] * cos(t) + a[2] * cos(2 * t);
        ps_row_store(ctx->out[0]->data, dtype, (int64_t)k, 1, &v, 1);
    }
    return PS_OK;
}

static ps_status hann_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return window_run(ctx, (const double[]) { 0.5, 0.5, 0 }, err);
}

static ps_status hamming_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return window_run(ctx, (const double[]) { 25.0 / 46, 21.0 / 46, 0 }, err);
}

static ps_status blackman_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return window_run(ctx, (const double[]) { 0.42, 0.5, 0.08 }, err);
}

/* ---- MelWeightMatrix ---- */
typedef struct mel_params {
    int64_t output_datatype;
} mel_params;

static const ps_attr_def mel_attrs[] = { PS_A_INT(mel_params, output_datatype, PS_DTYPE_F32), PS_ATTRS_END };

typedef struct mel_form {
    ps_dtype dtype;
    ps_shape shape; /* [spectrogram bins, mel bins] */
    int64_t dft_length, sample_rate;
} mel_form;

static ps_status mel_resolve(const ps_facts *f, mel_form *m, ps_error *err) {
    const mel_params *p = f->node->params;
    bool bins, length, rate;
    *m = (mel_form) { .shape = ps_shape_make(2, (int64_t[]) { PS_DIM_UNKNOWN, PS_DIM_UNKNOWN }) };
    PS_TRY(number_attr(f->node, p->output_datatype, &m->dtype, err));
    PS_TRY(one_int(f, 0, "num_mel_bins", &m->shape.dims[1], &bins, err));
    PS_TRY(one_int(f, 1, "dft_length", &m->dft_length, &length, err));
    PS_TRY(one_int(f, 2, "sample_rate", &m->sample_rate, &rate, err));
    PS_FAIL_IF((bins && m->shape.dims[1] < 0) || (length && m->dft_length < 0) || (rate && m->sample_rate < 1), err,
               INVALID, "%s: num_mel_bins, dft_length or sample_rate is negative, or sample_rate is 0",
               PS_LABEL(f->node));
    if (length) m->shape.dims[0] = m->dft_length / 2 + 1;
    return PS_OK;
}

static ps_status mel_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    mel_form m;
    PS_TRY(mel_resolve(&f, &m, err));
    PS_TRY(ps_check_float(node, 3, err));
    PS_TRY(ps_check_float(node, 4, err));
    return ps_infer_checked(node, 0, m.dtype, &m.shape, err);
}

/* The spectrogram bin of edge k of the triangles, at most one beyond the last. */
static int64_t mel_edge(const mel_form *m, double low, double high, int64_t k) {
    double step = (high - low) / (double)(m->shape.dims[1] + 2);
    double hertz = 700 * (pow(10, (low + step * (double)k) / 2595) - 1);
    double bin = floor((double)(m->dft_length + 1) * hertz / (double)m->sample_rate);
    return bin >= 0 ? bin < (double)m->shape.dims[0] ? (int64_t)bin : m->shape.dims[0] : 0;
}

static void mel_put(const ps_kernel_ctx *ctx, int64_t row, int64_t column, double v) {
    const ps_tensor *out = ctx->out[0];
    if (row < out->shape.dims[0]) ps_row_store(out->data, out->dtype, row * out->shape.dims[1] + column, 1, &v, 1);
}

/* A triangle that rises from `left` to `centre` and falls to `right`. */
static void mel_triangle(const ps_kernel_ctx *ctx, int64_t column, int64_t left, int64_t centre, int64_t right) {
    if (left == centre) mel_put(ctx, centre, column, 1);
    for (int64_t k = left; k <= centre && left < centre; k++)
        mel_put(ctx, k, column, (double)(k - left) / (double)(centre - left));
    for (int64_t k = centre; k < right; k++)
        mel_put(ctx, k, column, (double)(right - k) / (double)(right - centre));
}

static ps_status mel_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    mel_form m;
    double hertz[2], mel[2];
    size_t n;
    PS_TRY(mel_resolve(&f, &m, err));
    for (size_t k = 0; k < 2; k++) {
        bool ok = ps_facts_double(&f, 3 + k, &hertz[k]) && hertz[k] >= 0;
        PS_FAIL_IF(!ok, err, INVALID, "%s: %s_edge_hertz must be one number of at least 0", PS_LABEL(ctx->node),
                   k ? "upper" : "lower");
        mel[k] = 2595 * log10(1 + hertz[k] / 700);
    }
    PS_TRY(make_output(ctx, m.dtype, &m.shape, &n, err));
    memset(ctx->out[0]->data, 0, ctx->out[0]->bytes);
    for (int64_t i = 0; i < m.shape.dims[1]; i++)
        mel_triangle(ctx, i, mel_edge(&m, mel[0], mel[1], i), mel_edge(&m, mel[0], mel[1], i + 1),
                     mel_edge(&m, mel[0], mel[1], i + 2));
    return PS_OK;
}

/* ---- transforms of lines ---- */
/* Rows of complex (or real) numbers in a tensor [..., 1 or 2], through one plan. */
typedef struct line_job {
    const ps_kernel_ctx *ctx;
    ps_fourier plan;
    ps_fourier_single single; /* in the place of `plan` if its n is not 0 */
    bool inverse, hermitian; /* hermitian: the input is the first half of a symmetric spectrum */
    int64_t length;          /* of the transform */
    int64_t in_length, out_length;
    int64_t in_parts, out_parts;        /* 1: real, 2: complex */
    int64_t in_stride, out_stride;      /* between numbers of a line, in elements */
    int64_t inner, in_outer, out_outer; /* DFT: line i is outer i / inner and inner i % inner */
    int64_t frames, step, in_batch;     /* STFT: frames > 0 */
    const ps_tensor *window;
    double *scratch;
} line_job;

/* Doubles of one thread: a row of parts, input and output of the transform, and what the transform needs. */
static size_t line_room(const line_job *job) {
    return (size_t)job->length * 5 + (job->single.n ? (size_t)job->length * 2 : ps_fourier_scratch(&job->plan));
}

static void run_single(const line_job *job, const double *in, double *out, float *rest) {
    float *x = rest, *scratch = rest + 2 * job->length;
    for (int64_t k = 0; k < 2 * job->length; k++)
        x[k] = (float)in[k];
    ps_fourier_single_run(&job->single, job->inverse, x, scratch);
    for (int64_t k = 0; k < 2 * job->length; k++)
        out[k] = x[k];
}

static void load_line(const line_job *job, int64_t first, double *part, double *line) {
    const ps_tensor *x = job->ctx->in[0];
    int64_t most = job->hermitian ? job->length / 2 + 1 : job->length;
    int64_t n = job->in_length < most ? job->in_length : most;
    memset(line, 0, (size_t)job->length * 2 * sizeof(double));
    for (int64_t c = 0; c < job->in_parts; c++) {
        ps_row_load(part, x->dtype, x->data, first + c, job->in_stride, n);
        for (int64_t k = 0; k < n; k++)
            line[2 * k + c] = part[k];
    }
    if (job->window) {
        ps_row_load(part, job->window->dtype, job->window->data, 0, 1, n);
        for (int64_t k = 0; k < 2 * n; k++)
            line[k] *= part[k / 2];
    }
    for (int64_t k = n; job->hermitian && k < job->length; k++) {
        int64_t mirror = job->length - k;
        if (mirror >= n) continue;
        line[2 * k] = line[2 * mirror];
        line[2 * k + 1] = -line[2 * mirror + 1];
    }
}

static void store_line(const line_job *job, int64_t first, double *part, const double *line) {
    const ps_tensor *out = job->ctx->out[0];
    double factor = job->inverse ? 1 / (double)job->length : 1;
    for (int64_t c = 0; c < job->out_parts; c++) {
        for (int64_t k = 0; k < job->out_length; k++)
            part[k] = line[2 * k + c] * factor;
        ps_row_store(out->data, out->dtype, first + c, job->out_stride, part, job->out_length);
    }
}

static void run_lines(void *ctx, int64_t begin, int64_t end, int thread) {
    const line_job *job = ctx;
    double *part = job->scratch + (size_t)thread * line_room(job), *in = part + job->length;
    double *out = in + 2 * job->length, *rest = out + 2 * job->length;
    for (int64_t i = begin; i < end; i++) {
        int64_t from, to;
        if (job->frames) {
            from = i / job->frames * job->in_batch + i % job->frames * job->step * job->in_parts;
            to = i * job->out_length * job->out_parts;
        } else {
            from = i / job->inner * job->in_outer + i % job->inner * job->in_parts;
            to = i / job->inner * job->out_outer + i % job->inner * job->out_parts;
        }
        load_line(job, from, part, in);
        if (job->single.n)
            run_single(job, in, out, (float *)rest);
        else
            ps_fourier_run(&job->plan, job->inverse, in, out, rest);
        store_line(job, to, part, out);
    }
}

static ps_status run_line_job(const ps_kernel_ctx *ctx, line_job *job, int64_t lines, ps_error *err) {
    /* The ONNX suite's expected values of inverse transforms carry the rounding of complex64 (2e-7 beside an exact 0,
     * twice what the suite allows), those of forward ones the rounding of doubles. */
    bool single = job->inverse && !job->hermitian && ctx->in[0]->dtype == PS_DTYPE_F32 &&
                  ps_fourier_single_suits(job->length);
    ps_status status = single ? ps_fourier_single_init(&job->single, job->length, ctx->alloc, err)
                              : ps_fourier_init(&job->plan, job->length, ctx->alloc, err);
    if (status == PS_OK)
        status = ps_parallel_scratch(ctx, lines, 1, line_room(job), &job->scratch, run_lines, job, err);
    ps_fourier_single_clear(&job->single);
    ps_fourier_clear(&job->plan);
    return status;
}

/* The last dim holds real numbers or pairs; 0 while it is not known. */
static ps_status number_parts(const ps_node *node, const ps_shape *x, int64_t *ret, ps_error *err) {
    *ret = 0;
    if (x->rank < 0) return PS_OK;
    int64_t last = x->rank ? x->dims[x->rank - 1] : -1;
    PS_FAIL_IF(x->rank < 2 || (last >= 0 && last != 1 && last != 2), err, SHAPE,
               "%s: input %s must end in a dim of 1 (real) or 2 (complex)", PS_LABEL(node), PS_SHAPE_TEXT(x));
    if (last > 0) *ret = last;
    return PS_OK;
}

/* ---- DFT ---- */
typedef struct dft_params {
    int64_t axis, inverse, onesided;
} dft_params;

static const ps_attr_def dft17_attrs[] = {
    PS_A_INT(dft_params, axis, 1),
    PS_A_INT(dft_params, inverse, 0),
    PS_A_INT(dft_params, onesided, 0),
    PS_ATTRS_END,
};
static const ps_attr_def dft20_attrs[] = {
    PS_A_INT(dft_params, inverse, 0),
    PS_A_INT(dft_params, onesided, 0),
    PS_ATTRS_END,
};

typedef struct dft_form {
    int axis;
    int64_t length; /* of the transform, or unknown */
    ps_shape out;
} dft_form;

/* The axis as an attribute (17) or input (20); false in *known while it is not known. */
static ps_status dft_axis(const ps_facts *f, int rank, int *ret, bool *known, ps_error *err) {
    const dft_params *p = f->node->params;
    int64_t axis = f->node->op->since < 20 ? p->axis : -2;
    *known = true;
    if (f->node->op->since >= 20 && ps_facts_has(f, 2)) PS_TRY(one_int(f, 2, "axis", &axis, known, err));
    if (!*known) return PS_OK;
    PS_TRY(ps_axis_check(f->node, axis, rank, ret, err));
    PS_FAIL_IF(*ret == rank - 1, err, SHAPE, "%s: axis %lld is the one of real and imaginary parts", PS_LABEL(f->node),
               (long long)axis);
    return PS_OK;
}

static ps_status dft_length(const ps_facts *f, int64_t extent, int64_t *ret, ps_error *err) {
    const dft_params *p = f->node->params;
    bool known = true;
    *ret = PS_DIM_UNKNOWN;
    if (ps_facts_has(f, 1)) {
        PS_TRY(one_int(f, 1, "dft_length", ret, &known, err));
    } else if (extent >= 0) {
        *ret = p->inverse && p->onesided ? 2 * (extent - 1) : extent;
    } else {
        known = false;
    }
    PS_FAIL_IF(known && *ret < 1, err, SHAPE, "%s: the transform has length %lld, it must be at least 1",
               PS_LABEL(f->node), (long long)*ret);
    return PS_OK;
}

static ps_status dft_resolve(const ps_facts *f, dft_form *d, ps_error *err) {
    const dft_params *p = f->node->params;
    ps_shape x = ps_facts_shape(f, 0);
    int64_t parts;
    bool known;
    *d = (dft_form) { -1, PS_DIM_UNKNOWN, x };
    PS_TRY(number_parts(f->node, &x, &parts, err));
    if (x.rank < 0) return PS_OK;
    PS_FAIL_IF(p->onesided && parts && (parts == 2) != (p->inverse != 0), err, SHAPE,
               "%s: onesided takes %s numbers, the input is %s", PS_LABEL(f->node), p->inverse ? "complex" : "real",
               PS_SHAPE_TEXT(&x));
    d->out.dims[x.rank - 1] = p->onesided && p->inverse ? 1 : 2;
    PS_TRY(dft_axis(f, x.rank, &d->axis, &known, err));
    for (int k = 0; !known && k < x.rank - 1; k++)
        d->out.dims[k] = PS_DIM_UNKNOWN;
    if (!known) return PS_OK;
    PS_TRY(dft_length(f, x.dims[d->axis], &d->length, err));
    bool half = p->onesided && !p->inverse && d->length >= 0;
    d->out.dims[d->axis] = half ? d->length / 2 + 1 : d->length;
    return PS_OK;
}

static ps_status dft_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    dft_form d;
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(dft_resolve(&f, &d, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &d.out, err);
}

static ps_status dft_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const dft_params *p = ctx->params;
    const ps_tensor *x = ctx->in[0];
    ps_facts f = ps_facts_ctx(ctx);
    dft_form d;
    size_t n;
    PS_TRY(dft_resolve(&f, &d, err));
    PS_TRY(make_output(ctx, x->dtype, &d.out, &n, err));
    if (n == 0) return PS_OK;
    int last = x->shape.rank - 1;
    line_job job = { .ctx = ctx, .inverse = p->inverse, .hermitian = p->inverse && p->onesided, .length = d.length };
    job.in_length = x->shape.dims[d.axis];
    job.out_length = d.out.dims[d.axis];
    job.in_parts = x->shape.dims[last];
    job.out_parts = d.out.dims[last];
    job.inner = ps_shape_product(&x->shape, d.axis + 1, last);
    job.in_stride = job.inner * job.in_parts;
    job.out_stride = job.inner * job.out_parts;
    job.in_outer = job.in_length * job.in_stride;
    job.out_outer = job.out_length * job.out_stride;
    return run_line_job(ctx, &job, ps_shape_product(&x->shape, 0, d.axis) * job.inner, err);
}

/* ---- STFT ---- */
typedef struct stft_params {
    int64_t onesided;
} stft_params;

static const ps_attr_def stft_attrs[] = { PS_A_INT(stft_params, onesided, 1), PS_ATTRS_END };

typedef struct stft_form {
    int64_t step, length, frames, parts;
    ps_shape out;
} stft_form;

/* Frame length from the input of that name, the window or the signal. */
static ps_status stft_length(const ps_facts *f, int64_t samples, int64_t *ret, ps_error *err) {
    bool known;
    ps_shape w = ps_facts_shape(f, 2);
    *ret = PS_DIM_UNKNOWN;
    PS_FAIL_IF(w.rank >= 0 && w.rank != 1, err, SHAPE, "%s: window %s must have rank 1", PS_LABEL(f->node),
               PS_SHAPE_TEXT(&w));
    PS_TRY(one_int(f, 3, "frame_length", ret, &known, err));
    if (!ps_facts_has(f, 3)) *ret = ps_facts_has(f, 2) ? (w.rank == 1 ? w.dims[0] : PS_DIM_UNKNOWN) : samples;
    PS_FAIL_IF((known || *ret >= 0) && *ret < 1, err, SHAPE, "%s: frames have length %lld", PS_LABEL(f->node),
               (long long)*ret);
    PS_FAIL_IF(w.rank == 1 && w.dims[0] >= 0 && *ret >= 0 && w.dims[0] != *ret, err, SHAPE,
               "%s: the window has %lld entries, frames have %lld", PS_LABEL(f->node), (long long)w.dims[0],
               (long long)*ret);
    return PS_OK;
}

static ps_status stft_resolve(const ps_facts *f, stft_form *s, ps_error *err) {
    const stft_params *p = f->node->params;
    ps_shape x = ps_facts_shape(f, 0);
    bool known;
    *s = (stft_form) { .frames = PS_DIM_UNKNOWN, .out = ps_shape_unknown() };
    PS_TRY(one_int(f, 1, "frame_step", &s->step, &known, err));
    PS_FAIL_IF(known && s->step < 1, err, INVALID, "%s: frame_step is %lld", PS_LABEL(f->node), (long long)s->step);
    if (x.rank == 2) x = ps_shape_make(3, (int64_t[]) { x.dims[0], x.dims[1], 1 }); /* what exporters write too */
    PS_TRY(number_parts(f->node, &x, &s->parts, err));
    if (x.rank < 0) return PS_OK;
    PS_FAIL_IF(x.rank != 3, err, SHAPE, "%s: signal %s must have rank 3", PS_LABEL(f->node), PS_SHAPE_TEXT(&x));
    PS_TRY(stft_length(f, x.dims[1], &s->length, err));
    if (known && x.dims[1] >= 0 && s->length >= 0) {
        PS_FAIL_IF(s->length > x.dims[1], err, SHAPE, "%s: frames of %lld do not fit into a signal of %lld",
                   PS_LABEL(f->node), (long long)s->length, (long long)x.dims[1]);
        s->frames = (x.dims[1] - s->length) / s->step + 1;
    }
    int64_t bins = p->onesided && s->length >= 0 ? s->length / 2 + 1 : s->length;
    s->out = ps_shape_make(4, (int64_t[]) { x.dims[0], s->frames, bins, 2 });
    return PS_OK;
}

static ps_status stft_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    stft_form s;
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(ps_check_float(node, 2, err));
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    PS_TRY(stft_resolve(&f, &s, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &s.out, err);
}

static ps_status stft_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    ps_facts f = ps_facts_ctx(ctx);
    stft_form s;
    size_t n;
    PS_TRY(stft_resolve(&f, &s, err));
    PS_TRY(make_output(ctx, x->dtype, &s.out, &n, err));
    if (n == 0) return PS_OK;
    line_job job = { .ctx = ctx, .length = s.length, .in_length = s.length, .out_length = s.out.dims[2] };
    job.window = ctx->n_in > 2 ? ctx->in[2] : NULL;
    job.in_parts = job.in_stride = s.parts;
    job.out_parts = job.out_stride = 2;
    job.frames = s.frames;
    job.step = s.step;
    job.in_batch = x->shape.dims[1] * s.parts;
    return run_line_job(ctx, &job, x->shape.dims[0] * s.frames, err);
}

static const ps_op ops[] = {
    { "HannWindow", "", 17, 1, 1, 1, 1, window_attrs, sizeof(window_params), window_infer, hann_ref, 0 },
    { "HammingWindow", "", 17, 1, 1, 1, 1, window_attrs, sizeof(window_params), window_infer, hamming_ref, 0 },
    { "BlackmanWindow", "", 17, 1, 1, 1, 1, window_attrs, sizeof(window_params), window_infer, blackman_ref, 0 },
    { "MelWeightMatrix", "", 17, 5, 5, 1, 1, mel_attrs, sizeof(mel_params), mel_infer, mel_ref, 0 },
    { "DFT", "", 17, 1, 2, 1, 1, dft17_attrs, sizeof(dft_params), dft_infer, dft_ref, 0 },
    { "DFT", "", 20, 1, 3, 1, 1, dft20_attrs, sizeof(dft_params), dft_infer, dft_ref, 0 },
    { "STFT", "", 17, 2, 4, 1, 1, stft_attrs, sizeof(stft_params), stft_infer, stft_ref, 0 },
};
const ps_op_family ps_ops_signal = PS_OP_FAMILY("signal", ops);
