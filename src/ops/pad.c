/* pad.c - Pad, CenterCropPad. Negative pads crop first; positive ones are then filled from what is left.
 *
 * Source: ONNX operator specs Pad, opsets 1, 2, 11, 13, 18, 19, 21, 23, and CenterCropPad 18. */
#include "ops/kernel_util.h"
#include "ops/move.h"

typedef struct pad_params {
    const char *mode; /* constant reflect edge wrap */
    ps_ints pads;     /* opset 2; `paddings` in opset 1, an input later */
    ps_ints paddings;
    float value;
} pad_params;

/* Since 11, and in com.microsoft. */
static bool pads_are_input(const ps_node *node) {
    return node->op->since >= 11 || node->op->domain[0];
}

static const ps_attr_def pad1_attrs[] = { PS_A_STR(pad_params, mode, "constant"), PS_A_INTS(pad_params, paddings),
                                          PS_A_FLOAT(pad_params, value, 0), PS_ATTRS_END };
static const ps_attr_def pad2_attrs[] = { PS_A_STR(pad_params, mode, "constant"), PS_A_INTS(pad_params, pads),
                                          PS_A_FLOAT(pad_params, value, 0), PS_ATTRS_END };
static const ps_attr_def pad11_attrs[] = { PS_A_STR(pad_params, mode, "constant"), PS_ATTRS_END };

typedef enum pad_mode { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP } pad_mode;

static ps_status pad_mode_of(const ps_node *node, pad_mode *ret, ps_error *err) {
    static const char *const names[] = { "constant", "reflect", "edge", "wrap" };
    const char *mode = ((const pad_params *)node->params)->mode;
    for (int k = 0; k < 4; k++) {
        if (strcmp(mode, names[k]) != 0) continue;
        *ret = (pad_mode)k;
        return PS_OK;
    }
    return PS_FAIL(err, INVALID, "%s: mode '%s' is none of constant, reflect, edge and wrap", PS_LABEL(node), mode);
}

typedef struct pad_list {
    int64_t v[2 * PS_MAX_RANK];
    size_t n;
    bool known;
} pad_list;

static ps_status pad_amounts(const ps_facts *f, pad_list *ret, ps_error *err) {
    const pad_params *p = f->node->params;
    if (pads_are_input(f->node))
        return ps_facts_ints(f, 1, "the list of pads", ret->v, 2 * PS_MAX_RANK, &ret->n, &ret->known, err);
    const ps_ints *attr = f->node->op->since < 2 ? &p->paddings : &p->pads;
    PS_FAIL_IF(attr->n > 2 * PS_MAX_RANK, err, LIMIT, "%s: %zu pads are more than %d", PS_LABEL(f->node), attr->n,
               2 * PS_MAX_RANK);
    if (attr->n) memcpy(ret->v, attr->data, attr->n * sizeof *ret->v);
    ret->n = attr->n;
    ret->known = true;
    return PS_OK;
}

/* begin[d] and end[d] of every dim. *known is false if they depend on data. */
static ps_status pad_resolve(const ps_facts *f, int rank, int64_t begin[PS_MAX_RANK], int64_t end[PS_MAX_RANK],
                             bool *known, ps_error *err) {
    pad_list pads = { .n = 0 };
    int64_t axes[PS_MAX_RANK];
    size_t n_axes = 0;
    bool axes_known = false, seen[PS_MAX_RANK] = { false }, has_axes = ps_facts_has(f, 3);
    PS_TRY(pad_amounts(f, &pads, err));
    if (has_axes) PS_TRY(ps_facts_ints(f, 3, "axes", axes, PS_MAX_RANK, &n_axes, &axes_known, err));
    *known = pads.known && (axes_known || !has_axes);
    if (!*known) return PS_OK;
    size_t n = has_axes ? n_axes : (size_t)rank;
    PS_FAIL_IF(pads.n != 2 * n, err, SHAPE, "%s: %zu pads for %zu axes, twice as many are needed", PS_LABEL(f->node),
               pads.n, n);
    if (has_axes) PS_TRY(ps_axes_mark(f->node, axes, n, rank, seen, err));
    for (int d = 0; d < rank; d++)
        begin[d] = end[d] = 0;
    for (size_t k = 0; k < n; k++) {
        int d = (int)k;
        if (has_axes) ps_axis_normalize(axes[k], rank, &d);
        begin[d] = pads.v[k];
        end[d] = pads.v[k + n];
    }
    return PS_OK;
}

static int64_t crop_of(int64_t pad) {
    return pad < 0 ? pad == INT64_MIN ? INT64_MAX : -pad : 0;
}

static ps_status pad_dim(const ps_node *node, pad_mode mode, int d, int64_t in, int64_t begin, int64_t end,
                         int64_t *ret, ps_error *err) {
    *ret = begin == 0 && end == 0 ? in : PS_DIM_UNKNOWN;
    if (in < 0) return PS_OK;
    PS_FAIL_IF(crop_of(begin) > in || crop_of(end) > in - crop_of(begin), err, SHAPE,
               "%s: dim %d has %lld elements, pads %lld and %lld remove more", PS_LABEL(node), d, (long long)in,
               (long long)begin, (long long)end);
    int64_t left = in - crop_of(begin) - crop_of(end), out = left;
    PS_FAIL_IF((begin > 0 && __builtin_add_overflow(out, begin, &out)) ||
                   (end > 0 && __builtin_add_overflow(out, end, &out)),
               err, LIMIT, "%s: dim %d overflows", PS_LABEL(node), d);
    PS_FAIL_IF(mode != PAD_CONSTANT && left == 0 && out > 0, err, SHAPE,
               "%s: dim %d is empty and has nothing to repeat", PS_LABEL(node), d);
    *ret = out;
    return PS_OK;
}

static ps_status pad_shape(const ps_facts *f, pad_mode mode, int64_t begin[PS_MAX_RANK], int64_t end[PS_MAX_RANK],
                           ps_shape *out, ps_error *err) {
    *out = ps_facts_shape(f, 0);
    if (out->rank < 0) return PS_OK;
    bool known;
    PS_TRY(pad_resolve(f, out->rank, begin, end, &known, err));
    for (int d = 0; d < out->rank; d++) {
        if (known)
            PS_TRY(pad_dim(f->node, mode, d, out->dims[d], begin[d], end[d], &out->dims[d], err));
        else
            out->dims[d] = PS_DIM_UNKNOWN;
    }
    return PS_OK;
}

static ps_status pad_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    int64_t begin[PS_MAX_RANK], end[PS_MAX_RANK];
    pad_mode mode;
    ps_shape out;
    PS_TRY(pad_mode_of(node, &mode, err));
    PS_TRY(pad_shape(&f, mode, begin, end, &out, err));
    if (pads_are_input(node)) PS_TRY(ps_check_same_type(node, 2, 0, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

/* ---- kernel ---- */
/* Element of the cropped dim (n elements) that out position o - begin stands for. */
static int64_t pad_source(pad_mode mode, int64_t at, int64_t n) {
    if (at >= 0 && at < n) return at;
    if (mode == PAD_EDGE) return at < 0 ? 0 : n - 1;
    if (mode == PAD_WRAP) return at % n < 0 ? at % n + n : at % n;
    if (n == 1) return 0;
    int64_t period = 2 * (n - 1), k = at % period;
    if (k < 0) k += period;
    return k < n ? k : period - k;
}

typedef struct pad_job {
    ps_shape in, out;
    int64_t begin[PS_MAX_RANK], end[PS_MAX_RANK];
    int64_t src[PS_MAX_RANK], dst[PS_MAX_RANK];
} pad_job;

static ps_status pad_value(const ps_kernel_ctx *ctx, uint8_t value[16], ps_error *err) {
    memset(value, 0, 16);
    const ps_tensor *in = ctx->in[0];
    if (pads_are_input(ctx->node)) {
        const ps_tensor *t = ctx->n_in > 2 ? ctx->in[2] : NULL;
        if (!t) return PS_OK;
        PS_FAIL_IF(ps_tensor_count(t) != 1 || t->dtype != in->dtype, err, SHAPE,
                   "%s: the constant value is not one %s element", PS_LABEL(ctx->node), ps_dtype_name(in->dtype));
        memcpy(value, t->data, ps_dtype_size(t->dtype));
        return PS_OK;
    }
    ps_number_store(value, in->dtype, ((const pad_params *)ctx->params)->value);
    return PS_OK;
}

/* The part of out that in itself covers. */
static void pad_copy(const pad_job *job, const ps_move *m, const ps_tensor *in, int threads) {
    ps_walk walk = { .rank = 0 };
    int64_t from = 0, to = 0;
    for (int d = 0; d < job->in.rank; d++) {
        int64_t n = job->in.dims[d] - crop_of(job->begin[d]) - crop_of(job->end[d]);
        if (n == 0) return;
        from += crop_of(job->begin[d]) * job->src[d];
        to += (job->begin[d] > 0 ? job->begin[d] : 0) * job->dst[d];
        ps_walk_add(&walk, n, job->dst[d], job->src[d]);
    }
    ps_walk_copy(&walk, m->size, m->dst + to * (int64_t)m->size, (const uint8_t *)in->data + from * (int64_t)m->size,
                 threads);
}

/* Fills along one dim from what earlier dims left in `out`: its [begin, begin + n) is done, the rest repeats it. Dims
 * before this one are still partly empty, which does no harm: they are filled later, whole slabs at a time. */
static void pad_repeat(const pad_job *job, pad_mode mode, const ps_move *m, int d) {
    int64_t n = job->in.dims[d] - crop_of(job->begin[d]) - crop_of(job->end[d]);
    int64_t begin = job->begin[d] > 0 ? job->begin[d] : 0, extent = job->out.dims[d];
    int64_t outer = ps_shape_product(&job->out, 0, d);
    size_t slab = (size_t)job->dst[d] * m->size;
    for (int64_t o = 0; o < outer; o++) {
        uint8_t *base = m->dst + (size_t)(o * extent) * slab;
        for (int64_t k = 0; k < extent; k++) {
            int64_t source = begin + pad_source(mode, k - begin, n);
            if (source != k) memcpy(base + (size_t)k * slab, base + (size_t)source * slab, slab);
        }
    }
}

/* Runs a job whose in, out, begin and end are set. */
static ps_status pad_run(const ps_kernel_ctx *ctx, pad_job *job, pad_mode mode, const uint8_t value[16],
                         ps_error *err) {
    const ps_tensor *in = ctx->in[0];
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &job->out, &m, err)); /* which checks the size of out */
    ps_shape_strides(&job->in, job->src);
    ps_shape_strides(&job->out, job->dst);
    int64_t count = (int64_t)ps_tensor_count(m.out);
    if (count == 0) return ps_move_end(&m, PS_OK, err);
    if (mode == PAD_CONSTANT) ps_move_fill(m.dst, value, m.size, count);
    pad_copy(job, &m, in, ctx->threads);
    for (int d = job->out.rank - 1; d >= 0 && mode != PAD_CONSTANT; d--)
        pad_repeat(job, mode, &m, d);
    return ps_move_end(&m, PS_OK, err);
}

static ps_status pad_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, pad_ref, err);
    ps_facts f = ps_facts_ctx(ctx);
    pad_job job = { .in = ctx->in[0]->shape };
    pad_mode mode;
    uint8_t value[16] = { 0 };
    PS_TRY(pad_mode_of(ctx->node, &mode, err));
    PS_TRY(pad_shape(&f, mode, job.begin, job.end, &job.out, err));
    if (mode == PAD_CONSTANT) PS_TRY(pad_value(ctx, value, err));
    return pad_run(ctx, &job, mode, value, err);
}

/* ---- CenterCropPad: each axis brought to a length, the middle staying in the middle ---- */
typedef struct center_params {
    ps_ints axes;
} center_params;

static const ps_attr_def center_attrs[] = { PS_A_INTS(center_params, axes), PS_ATTRS_END };

static ps_status center_shape(const ps_facts *f, int64_t begin[PS_MAX_RANK], int64_t end[PS_MAX_RANK], ps_shape *out,
                              ps_error *err) {
    const center_params *p = f->node->params;
    int64_t target[PS_MAX_RANK];
    size_t n;
    bool known, seen[PS_MAX_RANK] = { false };
    *out = ps_facts_shape(f, 0);
    if (out->rank < 0) return PS_OK;
    size_t want = p->axes.n ? p->axes.n : (size_t)out->rank;
    PS_TRY(ps_axes_mark(f->node, p->axes.data, p->axes.n, out->rank, seen, err));
    PS_TRY(ps_facts_ints(f, 1, "the target shape", target, PS_MAX_RANK, &n, &known, err));
    PS_FAIL_IF(known && n != want, err, SHAPE, "%s: %zu lengths for %zu axes", PS_LABEL(f->node), n, want);
    for (int d = 0; d < out->rank; d++)
        begin[d] = end[d] = 0;
    for (size_t k = 0; k < want; k++) {
        int d = (int)k;
        if (p->axes.n) ps_axis_normalize(p->axes.data[k], out->rank, &d);
        PS_FAIL_IF(known && target[k] < 0, err, SHAPE, "%s: length %lld is negative", PS_LABEL(f->node),
                   (long long)target[k]);
        if (known && out->dims[d] >= 0) {
            int64_t more = target[k] - out->dims[d];
            begin[d] = more / 2; /* toward zero: the odd element is added or taken at the end */
            end[d] = more - begin[d];
        }
        out->dims[d] = known ? target[k] : PS_DIM_UNKNOWN;
    }
    return PS_OK;
}

static ps_status center_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    int64_t begin[PS_MAX_RANK], end[PS_MAX_RANK];
    ps_shape out;
    PS_TRY(center_shape(&f, begin, end, &out, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

static ps_status center_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    if (ps_move_splits(ctx->in[0], 1)) return ps_move_unpacked(ctx, center_ref, err);
    static const uint8_t zero[16] = { 0 };
    ps_facts f = ps_facts_ctx(ctx);
    pad_job job = { .in = ctx->in[0]->shape };
    PS_TRY(center_shape(&f, job.begin, job.end, &job.out, err));
    return pad_run(ctx, &job, PAD_CONSTANT, zero, err);
}

static const ps_op ops[] = {
    { "Pad", "", 1, 1, 1, 1, 1, pad1_attrs, sizeof(pad_params), pad_infer, pad_ref, 0 },
    { "Pad", "", 2, 1, 1, 1, 1, pad2_attrs, sizeof(pad_params), pad_infer, pad_ref, 0 },
    { "Pad", "", 11, 2, 4, 1, 1, pad11_attrs, sizeof(pad_params), pad_infer, pad_ref, 0 },
    { "Pad", "com.microsoft", 1, 2, 3, 1, 1, pad11_attrs, sizeof(pad_params), pad_infer, pad_ref, 0 },
    { "CenterCropPad", "", 18, 2, 2, 1, 1, center_attrs, sizeof(center_params), center_infer, center_ref, 0 },
};

const ps_op_family ps_ops_pad = PS_OP_FAMILY("pad", ops);
