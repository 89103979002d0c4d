/* pad.c - Pad with a constant, in either layout: rows in memory order, copied or filled. */
#include "backend/cpu/cpu_int.h"
#include "ops/move.h"

typedef struct pad_kernel {
    ps_kernel base;
    int rank, threads; /* rank: of what follows, outermost in memory first */
    int64_t in[PS_MAX_RANK], out[PS_MAX_RANK], begin[PS_MAX_RANK];
    size_t element; /* bytes of the elements that the last dim counts: of the dims behind it nothing is padded */
    size_t size;    /* of one element */
    uint8_t value[16];
    bool zeros; /* all bytes of the value are */
} pad_kernel;

typedef struct pad_job {
    const pad_kernel *k;
    const char *src;
    char *dst;
} pad_job;

static void fill(const pad_kernel *k, char *dst, int64_t n) {
    const size_t bytes = (size_t)n * k->element;
    if (k->zeros)
        memset(dst, 0, bytes);
    else
        ps_move_fill(dst, k->value, k->size, (int64_t)(bytes / k->size));
}

/* Row of the source that row `row` of the output is; -1: it lies outside. */
static int64_t source_row(const pad_kernel *k, int64_t row) {
    int64_t source = 0, step = 1;
    for (int d = k->rank - 2; d >= 0; d--) {
        const int64_t at = row % k->out[d] - k->begin[d];
        if (at < 0 || at >= k->in[d]) return -1;
        source += at * step;
        step *= k->in[d];
        row /= k->out[d];
    }
    return source;
}

static void pad_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const pad_job *job = ctx;
    const pad_kernel *k = job->k;
    const int last = k->rank - 1;
    const int64_t n = k->in[last], before = k->begin[last], after = k->out[last] - before - n;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        char *dst = job->dst + (size_t)(row * k->out[last]) * k->element;
        const int64_t source = source_row(k, row);
        if (source < 0 || !n) {
            fill(k, dst, k->out[last]);
            continue;
        }
        const size_t bytes = (size_t)n * k->element;
        fill(k, dst, before);
        memcpy(dst + (size_t)before * k->element, job->src + (size_t)source * bytes, bytes);
        fill(k, dst + (size_t)before * k->element + bytes, after);
    }
}

static ps_status pad_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    enum { LEAST = 65536 }; /* bytes worth a thread */
    const pad_kernel *k = (const pad_kernel *)kernel;
    pad_job job = { k, args->in[0], args->out[0] };
    int64_t rows = 1;
    for (int d = 0; d < k->rank - 1; d++)
        rows *= k->out[d];
    const size_t bytes = (size_t)k->out[k->rank - 1] * k->element;
    if (!bytes) return PS_OK;
    ps_parallel_for(rows, 1 + (int64_t)(LEAST / bytes), k->threads, pad_rows, &job);
    return PS_OK;
}

/* What is added before each dim; false: it is not known, or something is cropped. */
static bool find_begins(const ps_node *n, int64_t begin[PS_MAX_RANK]) {
    int64_t pads[2 * PS_MAX_RANK], axes[PS_MAX_RANK];
    const int rank = n->in[0]->shape.rank;
    size_t count, n_axes = (size_t)rank;
    const ps_attr *mode = ps_node_attr(n, "mode");
    if (n->op->since < 11 || (mode && (mode->type != PS_ATTR_STRING || strcmp(mode->u.s, "constant") != 0)))
        return false;
    if (!ps_const_ints(n, 1, pads, 2 * PS_MAX_RANK, &count)) return false;
    if (ps_has_in(n, 3) && !ps_const_ints(n, 3, axes, PS_MAX_RANK, &n_axes)) return false;
    if (count != 2 * n_axes) return false;
    memset(begin, 0, PS_MAX_RANK * sizeof *begin);
    for (size_t i = 0; i < n_axes; i++) {
        int d = (int)i;
        if (ps_has_in(n, 3) && !ps_axis_normalize(axes[i], rank, &d)) return false;
        if (pads[i] < 0 || pads[i + n_axes] < 0) return false;
        begin[d] = pads[i];
    }
    return true;
}

static bool find_value(const ps_node *n, pad_kernel *k) {
    const ps_tensor *t = ps_has_in(n, 2) ? n->in[2]->constant : NULL;
    if (ps_has_in(n, 2) && (!t || t->bytes != k->size || !t->data)) return false;
    if (t) memcpy(k->value, t->data, t->bytes);
    k->zeros = true;
    for (size_t i = 0; i < sizeof k->value; i++)
        k->zeros &= k->value[i] == 0;
    return true;
}

/* Dims in memory order; those behind the last one that is padded become part of its elements. */
static void set_dims(const ps_node *n, ps_layout layout, const int64_t *begin, pad_kernel *k) {
    const ps_shape *in = &n->in[0]->shape, *out = &n->out[0]->shape;
    int axes[PS_MAX_RANK];
    ps_layout_axes(in->rank, layout, axes);
    k->rank = in->rank;
    k->element = k->size;
    for (int d = 0; d < in->rank; d++) {
        k->in[d] = in->dims[axes[d]];
        k->out[d] = out->dims[axes[d]];
        k->begin[d] = begin[axes[d]];
    }
    while (k->rank > 1 && k->in[k->rank - 1] == k->out[k->rank - 1])
        k->element *= (size_t)k->in[--k->rank];
}

ps_status cpu_lower_pad(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { pad_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const size_t size = ps_dtype_size(n->in[0]->dtype);
    int64_t begin[PS_MAX_RANK];
    pad_kernel *k;
    if (!size || size > 16 || ps_dtype_is_object(n->in[0]->dtype) || n->in[0]->shape.rank < 1) return PS_OK;
    if (!find_begins(n, begin)) return PS_OK;
    const ps_layout layout = ps_layout_same(&n->in[0]->shape) ? PS_LAYOUT_PLAIN : l->in_layout[0];
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "cpu.pad", &k, err));
    k->size = size;
    k->threads = l->threads;
    if (!find_value(n, k)) {
        cpu_kernel_free(&k->base);
        return PS_OK;
    }
    set_dims(n, layout, begin, k);
    for (uint32_t i = 0; i < n->n_in; i++)
        l->in_layout[i] = i ? PS_LAYOUT_PLAIN : layout;
    l->out_layout[0] = layout;
    l->kernel = &k->base;
    return PS_OK;
}
