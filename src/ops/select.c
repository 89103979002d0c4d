/* select.c - operators that pick by value: OneHot, NonZero, TopK, Compress, NonMaxSuppression.
 *
 * Source: ONNX operator specs, ai.onnx opsets 1 to 23. */
#include <math.h>
#include <stdlib.h>

#include "ops/kernel_util.h"
#include "ops/move.h"
#include "ops/params.h"

/* ---- OneHot ---- */
static const ps_attr_def last_axis_attrs[] = { PS_A_INT(ps_axis_params, axis, -1), PS_ATTRS_END };

static ps_status one_hot_shape(const ps_facts *f, ps_shape *out, int *axis, ps_error *err) {
    const ps_axis_params *p = f->node->params;
    ps_shape in = ps_facts_shape(f, 0);
    *out = ps_shape_unknown();
    int64_t values = ps_facts_length(f, 2), n_depth = ps_facts_length(f, 1);
    PS_FAIL_IF(values >= 0 && values != 2, err, SHAPE, "%s: values has %lld entries, not off and on", PS_LABEL(f->node),
               (long long)values);
    PS_FAIL_IF(n_depth >= 0 && n_depth != 1, err, SHAPE, "%s: depth has %lld entries, one is needed", PS_LABEL(f->node),
               (long long)n_depth);
    if (in.rank < 0) return PS_OK;
    PS_FAIL_IF(in.rank + 1 > PS_MAX_RANK, err, LIMIT, "%s: output rank %d is over %d", PS_LABEL(f->node), in.rank + 1,
               PS_MAX_RANK);
    PS_TRY(ps_axis_check(f->node, p->axis, in.rank + 1, axis, err));
    double depth;
    int64_t extent = PS_DIM_UNKNOWN;
    if (ps_facts_double(f, 1, &depth)) {
        PS_FAIL_IF(!(depth >= 1 && depth < 0x1p62), err, SHAPE, "%s: depth %g is not positive or too large",
                   PS_LABEL(f->node), depth);
        extent = (int64_t)depth;
    }
    out->rank = in.rank + 1;
    for (int d = 0, from = 0; d < out->rank; d++)
        out->dims[d] = d == *axis ? extent : in.dims[from++];
    return PS_OK;
}

static ps_status one_hot_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_shape out;
    int axis;
    PS_TRY(one_hot_shape(&f, &out, &axis, err));
    ps_dtype t = node->in[0]->dtype;
    PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && !ps_dtype_is_float(t) && !ps_dtype_is_int(t), err, TYPE,
               "%s: indices have element type %s, not a number", PS_LABEL(node), ps_dtype_name(t));
    return ps_infer_checked(node, 0, node->in[2]->dtype, &out, err);
}

/* An index outside [-depth, depth) is no error: its column is all off. */
static ps_status one_hot_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    const ps_tensor *in = ctx->in[0], *values = ctx->in[2];
    ps_shape shape;
    int axis;
    PS_TRY(one_hot_shape(&f, &shape, &axis, err));
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, values->dtype, &shape, &m, err));
    int64_t depth = shape.dims[axis], inner = ps_shape_product(&in->shape, axis, in->shape.rank);
    int64_t n = (int64_t)ps_tensor_count(in);
    const uint8_t *off = values->data, *on = off + m.size;
    ps_move_fill(m.dst, off, m.size, (int64_t)ps_tensor_count(m.out));
    for (int64_t k = 0; k < n; k++) {
        double v;
        ps_tensor_get_double(in, (size_t)k, &v);
        if (v < 0) v += (double)depth;
        if (!(v >= 0 && v < (double)depth)) continue;
        int64_t to = (k / inner * depth + (int64_t)v) * inner + k % inner;
        memcpy(m.dst + (size_t)to * m.size, on, m.size);
    }
    return ps_move_end(&m, PS_OK, err);
}

/* ---- NonZero: [rank, count] coordinates in row-major order; a scalar counts as a list of one ---- */
static ps_status nonzero_infer(const ps_node *node, ps_error *err) {
    ps_shape out = { 2, { PS_DIM_UNKNOWN, PS_DIM_UNKNOWN } };
    int rank = node->in[0]->shape.rank;
    ps_dtype t = node->in[0]->dtype;
    PS_FAIL_IF(ps_dtype_is_container(t) || (t != PS_DTYPE_UNDEFINED && ps_dtype_size(t) == 0), err, TYPE,
               "%s: element type %s has no zero here", PS_LABEL(node), ps_dtype_name(t));
    if (rank >= 0) out.dims[0] = rank ? rank : 1;
    ps_infer_set(node, 0, PS_DTYPE_I64, &out);
    return PS_OK;
}

/* Minus zero is zero, so floats are compared by value; every other type by its bytes. An empty string is zero. */
static bool is_zero(const ps_tensor *t, size_t size, size_t k) {
    static const uint8_t zero[16] = { 0 };
    double v;
    if (t->dtype == PS_DTYPE_STRING) return ((const ps_string *)t->data)[k].size == 0;
    if (ps_dtype_is_float(t->dtype) && ps_tensor_get_double(t, k, &v)) return v == 0;
    return memcmp((const uint8_t *)t->data + k * size, zero, size) == 0;
}

static ps_status nonzero_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *in = ctx->in[0];
    size_t size = ps_dtype_size(in->dtype), n = ps_tensor_count(in);
    int rank = in->shape.rank;
    ps_shape shape = { 2, { rank ? rank : 1, 0 } };
    for (size_t k = 0; k < n; k++)
        shape.dims[1] += !is_zero(in, size, k);
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_I64, &shape, err));
    int64_t *out = ctx->out[0]->data, column = 0, strides[PS_MAX_RANK];
    ps_shape_strides(&in->shape, strides);
    for (size_t k = 0; k < n; k++) {
        if (is_zero(in, size, k)) continue;
        for (int d = 0; d < rank; d++)
            out[d * shape.dims[1] + column] = (int64_t)k / strides[d] % in->shape.dims[d];
        if (rank == 0) out[column] = 0;
        column++;
    }
    return PS_OK;
}

/* ---- TopK ---- */
typedef struct topk_params {
    int64_t axis, k; /* k: opset 1 */
    int64_t largest, sorted;
} topk_params;

static const ps_attr_def topk1_attrs[] = { PS_A_INT(topk_params, axis, -1), PS_A_INT_REQ(topk_params, k),
                                           PS_ATTRS_END };
static const ps_attr_def topk10_attrs[] = { PS_A_INT(topk_params, axis, -1), PS_ATTRS_END };
static const ps_attr_def topk11_attrs[] = { PS_A_INT(topk_params, axis, -1), PS_A_INT(topk_params, largest, 1),
                                            PS_A_INT(topk_params, sorted, 1), PS_ATTRS_END };

static ps_status topk_shape(const ps_facts *f, ps_shape *out, int *axis, ps_error *err) {
    const topk_params *p = f->node->params;
    *out = ps_facts_shape(f, 0);
    int64_t k = p->k;
    size_t n = 1;
    bool known = f->node->op->since < 10;
    if (!known) PS_TRY(ps_facts_ints(f, 1, "k", &k, 1, &n, &known, err));
    PS_FAIL_IF(known && (n != 1 || k < 0), err, INVALID, "%s: k is not one number that is 0 or more",
               PS_LABEL(f->node));
    if (out->rank < 0) return PS_OK;
    PS_TRY(ps_axis_check(f->node, p->axis, out->rank, axis, err));
    PS_FAIL_IF(known && out->dims[*axis] >= 0 && k > out->dims[*axis], err, SHAPE, "%s: k %lld is over the axis' %lld",
               PS_LABEL(f->node), (long long)k, (long long)out->dims[*axis]);
    out->dims[*axis] = known ? k : PS_DIM_UNKNOWN;
    return PS_OK;
}

static ps_status topk_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_shape out;
    int axis;
    ps_dtype t = node->in[0]->dtype;
    PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && !ps_dtype_is_float(t) && !ps_dtype_is_int(t), err, TYPE,
               "%s: element type %s has no order", PS_LABEL(node), ps_dtype_name(t));
    PS_TRY(topk_shape(&f, &out, &axis, err));
    PS_TRY(ps_infer_checked(node, 0, t, &out, err));
    return ps_infer_checked(node, 1, PS_DTYPE_I64, &out, err);
}

typedef struct topk_item {
    uint64_t key; /* greater comes first */
    int64_t index;
} topk_item;

/* Maps a number to an unsigned integer of the same order; -0 equals 0, and NaN is above everything. */
static uint64_t topk_key(const ps_tensor *t, int64_t k) {
    const uint64_t sign = UINT64_C(1) << 63;
    if (t->dtype == PS_DTYPE_U64) return ((const uint64_t *)t->data)[k];
    if (t->dtype == PS_DTYPE_I64) return ((const uint64_t *)t->data)[k] ^ sign;
    double v;
    uint64_t bits;
    ps_row_load(&v, t->dtype, t->data, k, 1, 1);
    if (v != v) return UINT64_MAX;
    v += 0.0;
    memcpy(&bits, &v, sizeof bits);
    return bits & sign ? ~bits : bits | sign;
}

/* Equal keys: the lower index first. */
static int topk_compare(const void *a, const void *b) {
    const topk_item *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Brings the first k of n > k items in order to the front, by halving around a middle one (Hoare's FIND, CACM 4, 1961),
 * and sorts all where that does not get on: an input made for it would take quadratic time. */
static void topk_front(topk_item *items, int64_t n, int64_t k) {
    int64_t low = 0, high = n - 1;
    for (int rounds = 0; low < high; rounds++) {
        if (rounds == 64) {
            qsort(items + low, (size_t)(high - low + 1), sizeof *items, topk_compare);
            return;
        }
        const topk_item middle = items[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (topk_compare(&items[i], &middle) < 0)
                i++;
            while (topk_compare(&items[j], &middle) > 0)
                j--;
            if (i <= j) {
                const topk_item swap = items[i];
                items[i++] = items[j];
                items[j--] = swap;
            }
        }
        if (k - 1 <= j)
            high = j;
        else if (k >= i + 1)
            low = i;
        else
            return;
    }
}

static void topk_lane(const ps_kernel_ctx *ctx, topk_item *items, int64_t n, int64_t k, int64_t src, int64_t dst,
                      int64_t stride) {
    const ps_tensor *in = ctx->in[0];
    size_t size = ps_dtype_size(in->dtype);
    bool largest = ctx->node->op->since < 11 || ((const topk_params *)ctx->params)->largest;
    for (int64_t i = 0; i < n; i++) {
        uint64_t key = topk_key(in, src + i * stride);
        items[i] = (topk_item) { largest ? key : ~key, i };
    }
    if (k && k < n) topk_front(items, n, k);
    qsort(items, (size_t)k, sizeof *items, topk_compare);
    for (int64_t i = 0; i < k; i++) {
        size_t from = (size_t)(src + items[i].index * stride), to = (size_t)(dst + i * stride);
        if (ctx->out[0])
            memcpy((uint8_t *)ctx->out[0]->data + to * size, (const uint8_t *)in->data + from * size, size);
        if (ctx->n_out > 1 && ctx->out[1]) ((int64_t *)ctx->out[1]->data)[to] = items[i].index;
    }
}

static ps_status topk_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    const ps_tensor *in = ctx->in[0];
    ps_shape shape;
    int axis = 0;
    PS_TRY(topk_shape(&f, &shape, &axis, err));
    if (ctx->out[0]) PS_TRY(ps_move_output(ctx, 0, in->dtype, &shape, err));
    if (ctx->n_out > 1 && ctx->out[1]) PS_TRY(ps_move_output(ctx, 1, PS_DTYPE_I64, &shape, err));
    int64_t n = in->shape.dims[axis], k = shape.dims[axis], outer = ps_shape_product(&shape, 0, axis);
    int64_t inner = ps_shape_product(&shape, axis + 1, shape.rank);
    topk_item *items = ps_alloc_array(ctx->alloc, (size_t)n, sizeof *items);
    if (!items) return PS_FAIL_NOMEM(err, "sorting TopK");
    for (int64_t lane = 0; lane < outer * inner; lane++) {
        int64_t o = lane / inner, i = lane % inner;
        topk_lane(ctx, items, n, k, o * n * inner + i, o * k * inner + i, inner);
    }
    ps_free(ctx->alloc, items);
    return PS_OK;
}

/* ---- Compress ---- */
enum { NO_AXIS = INT32_MIN };
static const ps_attr_def compress_attrs[] = { PS_A_INT(ps_axis_params, axis, NO_AXIS), PS_ATTRS_END };

static ps_status compress_check(const ps_node *node, const ps_shape *in, const ps_shape *cond, int *axis,
                                ps_error *err) {
    const ps_axis_params *p = node->params;
    *axis = 0;
    PS_FAIL_IF(cond->rank >= 0 && cond->rank != 1, err, SHAPE, "%s: condition %s is no list", PS_LABEL(node),
               PS_SHAPE_TEXT(cond));
    if (in->rank < 0 || p->axis == NO_AXIS) return PS_OK;
    return ps_axis_check(node, p->axis, in->rank, axis, err);
}

static ps_status compress_infer(const ps_node *node, ps_error *err) {
    const ps_axis_params *p = node->params;
    ps_shape out = node->in[0]->shape;
    ps_dtype t = node->in[1]->dtype;
    int axis;
    PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_BOOL, err, TYPE, "%s: condition has element type %s, not bool",
               PS_LABEL(node), ps_dtype_name(t));
    PS_TRY(compress_check(node, &out, &node->in[1]->shape, &axis, err));
    if (p->axis == NO_AXIS) out.rank = 1;
    if (out.rank > 0) out.dims[axis] = PS_DIM_UNKNOWN;
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

static ps_status compress_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_axis_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0], *cond = ctx->in[1];
    ps_shape from = in->shape;
    int axis;
    PS_TRY(compress_check(ctx->node, &from, &cond->shape, &axis, err));
    if (p->axis == NO_AXIS) from = (ps_shape) { 1, { (int64_t)ps_tensor_count(in) } };
    int64_t extent = from.dims[axis], n = cond->shape.dims[0], picked = 0, row = 0;
    const uint8_t *keep = cond->data;
    for (int64_t k = 0; k < n; k++) {
        PS_FAIL_IF(keep[k] && k >= extent, err, INVALID, "%s: condition picks %lld of %lld", PS_LABEL(ctx->node),
                   (long long)k, (long long)extent);
        picked += keep[k] != 0;
    }
    ps_shape shape = from;
    shape.dims[axis] = picked;
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, in->dtype, &shape, &m, err));
    int64_t outer = ps_shape_product(&from, 0, axis);
    size_t run = (size_t)ps_shape_product(&from, axis + 1, from.rank) * m.size;
    for (int64_t o = 0; o < outer && run > 0; o++)
        for (int64_t k = 0; k < n; k++)
            if (keep[k])
                memcpy(m.dst + (size_t)row++ * run, (const uint8_t *)in->data + (size_t)(o * extent + k) * run, run);
    return ps_move_end(&m, PS_OK, err);
}

/* ---- NonMaxSuppression ---- */
typedef struct nms_params {
    int64_t center_point_box; /* 0: two corners y, x; 1: centre x, y, width, height */
} nms_params;

static const ps_attr_def nms_attrs[] = { PS_A_INT(nms_params, center_point_box, 0), PS_ATTRS_END };

static ps_status nms_check(const ps_node *node, const ps_shape *boxes, const ps_shape *scores, ps_error *err) {
    bool wrong = (boxes->rank >= 0 && (boxes->rank != 3 || (boxes->dims[2] >= 0 && boxes->dims[2] != 4))) ||
                 (scores->rank >= 0 && scores->rank != 3);
    if (!wrong && boxes->rank == 3 && scores->rank == 3) {
        int64_t b0 = boxes->dims[0], s0 = scores->dims[0], b1 = boxes->dims[1], s2 = scores->dims[2];
        wrong = (b0 >= 0 && s0 >= 0 && b0 != s0) || (b1 >= 0 && s2 >= 0 && b1 != s2);
    }
    PS_FAIL_IF(wrong, err, SHAPE, "%s: boxes %s and scores %s are not [N, boxes, 4] and [N, classes, boxes]",
               PS_LABEL(node), PS_SHAPE_TEXT(boxes), PS_SHAPE_TEXT(scores));
    return PS_OK;
}

static ps_status nms_infer(const ps_node *node, ps_error *err) {
    PS_TRY(nms_check(node, &node->in[0]->shape, &node->in[1]->shape, err));
    for (size_t i = 0; i < 2; i++) {
        ps_dtype t = node->in[i]->dtype;
        PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_F32, err, TYPE, "%s: input %zu is %s, not f32",
                   PS_LABEL(node), i, ps_dtype_name(t));
    }
    ps_shape out = { 2, { PS_DIM_UNKNOWN, 3 } };
    ps_infer_set(node, 0, PS_DTYPE_I64, &out);
    return PS_OK;
}

typedef struct nms_box {
    float y0, x0, y1, x1, area;
} nms_box;

typedef struct nms_job {
    int64_t boxes, most; /* at most this many of a class */
    float iou, score;
    bool has_score;
    nms_box *box;     /* of one batch entry */
    topk_item *order; /* of one class, best first */
    int64_t *kept;    /* indices of one class */
} nms_job;

static nms_box nms_corners(const float *p, bool centre) {
    nms_box b;
    if (centre) {
        b = (nms_box) { p[1] - p[3] / 2, p[0] - p[2] / 2, p[1] + p[3] / 2, p[0] + p[2] / 2, 0 };
    } else { /* any two opposite corners */
        b = (nms_box) { fminf(p[0], p[2]), fminf(p[1], p[3]), fmaxf(p[0], p[2]), fmaxf(p[1], p[3]), 0 };
    }
    b.area = (b.y1 - b.y0) * (b.x1 - b.x0);
    return b;
}

/* Intersection over union above the limit? */
static bool nms_overlap(const nms_box *a, const nms_box *b, float limit) {
    float height = fminf(a->y1, b->y1) - fmaxf(a->y0, b->y0), width = fminf(a->x1, b->x1) - fmaxf(a->x0, b->x0);
    if (!(height > 0 && width > 0) || a->area <= 0 || b->area <= 0) return false;
    float both = height * width, either = a->area + b->area - both;
    return either > 0 && both / either > limit;
}

/* Greedy: from the best score down, a box stays unless it overlaps one that stayed. Returns how many stay. */
static int64_t nms_class(const nms_job *job, const ps_tensor *scores, int64_t first) {
    int64_t n = 0, kept = 0;
    for (int64_t k = 0; k < job->boxes; k++) {
        float score = ((const float *)scores->data)[first + k];
        if (score != score || (job->has_score && !(score > job->score))) continue;
        job->order[n++] = (topk_item) { topk_key(scores, first + k), k };
    }
    qsort(job->order, (size_t)n, sizeof *job->order, topk_compare);
    for (int64_t k = 0; k < n && kept < job->most; k++) {
        const nms_box *box = &job->box[job->order[k].index];
        bool keep = true;
        for (int64_t i = 0; i < kept && keep; i++)
            keep = !nms_overlap(box, &job->box[job->kept[i]], job->iou);
        if (keep) job->kept[kept++] = job->order[k].index;
    }
    return kept;
}

/* Rows (batch, class, box) of everything that stays; into `out` if it is not NULL. Returns their number. */
static int64_t nms_all(const ps_kernel_ctx *ctx, const nms_job *job, int64_t *out) {
    const ps_tensor *boxes = ctx->in[0], *scores = ctx->in[1];
    bool centre = ((const nms_params *)ctx->params)->center_point_box != 0;
    int64_t rows = 0, classes = scores->shape.dims[1];
    for (int64_t b = 0; b < boxes->shape.dims[0]; b++) {
        for (int64_t k = 0; k < job->boxes; k++)
            job->box[k] = nms_corners((const float *)boxes->data + (b * job->boxes + k) * 4, centre);
        for (int64_t c = 0; c < classes; c++) {
            int64_t kept = nms_class(job, scores, (b * classes + c) * job->boxes);
            for (int64_t k = 0; k < kept && out; k++)
                memcpy(out + (rows + k) * 3, (int64_t[3]) { b, c, job->kept[k] }, 3 * sizeof *out);
            rows += kept;
        }
    }
    return rows;
}

static ps_status nms_run(const ps_kernel_ctx *ctx, const nms_job *job, ps_error *err) {
    ps_shape shape = { 2, { nms_all(ctx, job, NULL), 3 } }; /* done twice: the number of rows must be known first */
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_I64, &shape, err));
    nms_all(ctx, job, ctx->out[0]->data);
    return PS_OK;
}

static ps_status nms_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    double most = 0, iou = 0, score = 0;
    nms_job job = { .boxes = ctx->in[0]->shape.dims[1] };
    PS_TRY(nms_check(ctx->node, &ctx->in[0]->shape, &ctx->in[1]->shape, err));
    ps_facts_double(&f, 2, &most);
    ps_facts_double(&f, 3, &iou);
    job.has_score = ps_facts_double(&f, 4, &score);
    PS_FAIL_IF(!(iou >= 0 && iou <= 1), err, INVALID, "%s: iou_threshold %g is outside [0, 1]", PS_LABEL(ctx->node),
               iou);
    job.most = !(most > 0) ? 0 : most > (double)job.boxes ? job.boxes : (int64_t)most;
    job.iou = (float)iou;
    job.score = (float)score;
    job.box = ps_alloc_array(ctx->alloc, (size_t)job.boxes, sizeof *job.box);
    job.order = ps_alloc_array(ctx->alloc, (size_t)job.boxes, sizeof *job.order);
    job.kept = ps_alloc_array(ctx->alloc, (size_t)job.boxes, sizeof *job.kept);
    bool ready = job.box && job.order && job.kept;
    ps_status status = ready ? nms_run(ctx, &job, err) : PS_FAIL_NOMEM(err, "box lists");
    ps_free(ctx->alloc, job.box);
    ps_free(ctx->alloc, job.order);
    ps_free(ctx->alloc, job.kept);
    return status;
}

static const ps_op ops[] = {
    { "OneHot", "", 9, 3, 3, 1, 1, last_axis_attrs, sizeof(ps_axis_params), one_hot_infer, one_hot_ref, 0 },
    { "NonZero", "", 9, 1, 1, 1, 1, NULL, 0, nonzero_infer, nonzero_ref, PS_OP_DATA_SHAPE },
    { "TopK", "", 1, 1, 1, 2, 2, topk1_attrs, sizeof(topk_params), topk_infer, topk_ref, 0 },
    { "TopK", "", 10, 2, 2, 2, 2, topk10_attrs, sizeof(topk_params), topk_infer, topk_ref, 0 },
    { "TopK", "", 11, 2, 2, 2, 2, topk11_attrs, sizeof(topk_params), topk_infer, topk_ref, 0 },
    { "Compress", "", 9, 2, 2, 1, 1, compress_attrs, sizeof(ps_axis_params), compress_infer, compress_ref,
      PS_OP_DATA_SHAPE },
    { "NonMaxSuppression", "", 10, 2, 5, 1, 1, nms_attrs, sizeof(nms_params), nms_infer, nms_ref, PS_OP_DATA_SHAPE },
};

const ps_op_family ps_ops_select = PS_OP_FAMILY("select", ops);
