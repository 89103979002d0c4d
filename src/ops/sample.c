/* sample.c - GridSample: reading an image at given, fractional positions; AffineGrid: making such positions.
 *
 * Padding works dim by dim, so each position has per dim a few taps (input index, weight); the value is the sum over
 * their product. Source: ONNX operator spec GridSample 16, 20, 22, AffineGrid 20. */
#include <math.h>

#include "ops/kernel_util.h"
#include "ops/move.h"
#include "ops/params.h"
#include "tensor/convert.h"

enum { MAX_TAPS = 4, MAX_SPACE = PS_MAX_RANK - 2 };

static const ps_attr_def grid16_attrs[] = { PS_A_STR(ps_grid_params, mode, "bilinear"),
                                            PS_A_STR(ps_grid_params, padding_mode, "zeros"),
                                            PS_A_INT(ps_grid_params, align_corners, 0), PS_ATTRS_END };
static const ps_attr_def grid20_attrs[] = { PS_A_STR(ps_grid_params, mode, "linear"),
                                            PS_A_STR(ps_grid_params, padding_mode, "zeros"),
                                            PS_A_INT(ps_grid_params, align_corners, 0), PS_ATTRS_END };

typedef enum grid_mode { GRID_NEAREST, GRID_LINEAR, GRID_CUBIC } grid_mode;
typedef enum grid_padding { GRID_ZEROS, GRID_BORDER, GRID_REFLECTION } grid_padding;

static ps_status grid_modes(const ps_node *node, grid_mode *mode, grid_padding *padding, ps_error *err) {
    static const char *const modes[] = { "nearest", "linear", "cubic", "", "bilinear", "bicubic" };
    static const char *const paddings[] = { "zeros", "border", "reflection" };
    const ps_grid_params *p = node->params;
    int m = 0, k = 0;
    while (m < 6 && (m == 3 || strcmp(p->mode, modes[m]) != 0))
        m++;
    while (k < 3 && strcmp(p->padding_mode, paddings[k]) != 0)
        k++;
    PS_FAIL_IF(m == 6, err, INVALID, "%s: mode '%s' is not known", PS_LABEL(node), p->mode);
    PS_FAIL_IF(k == 3, err, INVALID, "%s: padding_mode '%s' is not known", PS_LABEL(node), p->padding_mode);
    *mode = m < 3 ? (grid_mode)m : (grid_mode)(m - 3);
    *padding = (grid_padding)k;
    return PS_OK;
}

/* X [N, C, spatial …], grid [N, out …, number of spatial dims] → [N, C, out …] */
static ps_status grid_shape(const ps_node *node, const ps_shape *x, const ps_shape *grid, ps_shape *out,
                            ps_error *err) {
    *out = ps_shape_unknown();
    if (x->rank < 0 || grid->rank < 0) return PS_OK;
    int64_t last = grid->rank > 0 ? grid->dims[grid->rank - 1] : 0;
    bool fits = x->rank >= 3 && grid->rank == x->rank && (last < 0 || last == x->rank - 2) &&
                (x->dims[0] < 0 || grid->dims[0] < 0 || x->dims[0] == grid->dims[0]);
    PS_FAIL_IF(!fits, err, SHAPE, "%s: grid %s does not fit input %s", PS_LABEL(node), PS_SHAPE_TEXT(grid),
               PS_SHAPE_TEXT(x));
    *out = *x;
    out->dims[0] = ps_dim_merge(x->dims[0], grid->dims[0]);
    for (int d = 2; d < x->rank; d++) {
        out->dims[d] = grid->dims[d - 1];
        PS_FAIL_IF(x->dims[d] == 0 && out->dims[d] != 0, err, SHAPE, "%s: dim %d of the input is empty", PS_LABEL(node),
                   d);
    }
    return PS_OK;
}

static ps_status grid_infer(const ps_node *node, ps_error *err) {
    grid_mode mode;
    grid_padding padding;
    ps_shape out;
    PS_TRY(grid_modes(node, &mode, &padding, err));
    ps_dtype t = node->in[0]->dtype;
    bool number = ps_dtype_is_float(t) || ps_dtype_is_int(t) || t == PS_DTYPE_BOOL || t == PS_DTYPE_UNDEFINED;
    PS_FAIL_IF(!number, err, TYPE, "%s: elements of %s cannot be interpolated", PS_LABEL(node), ps_dtype_name(t));
    PS_TRY(ps_check_float(node, 1, err));
    PS_TRY(grid_shape(node, &node->in[0]->shape, &node->in[1]->shape, &out, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

/* ---- one position in one dim ---- */
/* Folds x into [low, high] by reflection at both ends. */
static double reflect(double x, double low, double high) {
    double range = high - low;
    if (!(range > 0)) return low;
    double k = fmod(fabs(x - low), 2 * range);
    return low + (k > range ? 2 * range - k : k);
}

typedef struct grid_dim {
    int64_t extent;
    double low, high; /* what reflection folds into */
    grid_padding padding;
} grid_dim;

/* An integer position → index, or -1: reads as zero. */
static int64_t grid_index(const grid_dim *g, double at) {
    double last = (double)(g->extent - 1);
    if (at >= 0 && at <= last) return (int64_t)at;
    if (g->padding == GRID_ZEROS || at != at) return -1;
    if (g->padding == GRID_REFLECTION) at = trunc(reflect(at, g->low, g->high));
    return at > 0 ? at > last ? g->extent - 1 : (int64_t)at : 0;
}

typedef struct grid_taps {
    int n;
    int64_t index[MAX_TAPS];
    double weight[MAX_TAPS];
} grid_taps;

static void cubic_weights(double t, double w[4]) {
    const double a = -0.75;
    double d[4] = { 1 + t, t, 1 - t, 2 - t };
    for (int k = 0; k < 4; k++)
        w[k] = d[k] <= 1 ? ((a + 2) * d[k] - (a + 3)) * d[k] * d[k] + 1
                         : ((a * d[k] - 5 * a) * d[k] + 8 * a) * d[k] - 4 * a;
}

/* Padding folds the position itself for nearest and linear, and every tap for cubic. */
static void grid_taps_at(const grid_dim *g, grid_mode mode, double x, grid_taps *t) {
    if (mode != GRID_CUBIC && g->padding == GRID_BORDER) x = fmin(fmax(x, 0), (double)(g->extent - 1));
    if (mode != GRID_CUBIC && g->padding == GRID_REFLECTION && (x < g->low || x > g->high))
        x = reflect(x, g->low, g->high);
    double base = mode == GRID_NEAREST ? nearbyint(x) : floor(x), part = x - floor(x);
    t->n = mode == GRID_NEAREST ? 1 : mode == GRID_LINEAR ? 2 : 4;
    t->weight[0] = mode == GRID_NEAREST ? 1 : 1 - part;
    t->weight[1] = part;
    if (mode == GRID_CUBIC) cubic_weights(part, t->weight);
    for (int k = 0; k < t->n; k++)
        t->index[k] = grid_index(g, base + k - (mode == GRID_CUBIC));
}

/* ---- kernel ---- */
typedef struct grid_job {
    const ps_kernel_ctx *ctx;
    grid_mode mode;
    int space; /* spatial dims */
    bool align;
    grid_dim dim[MAX_SPACE];
    int64_t strides[PS_MAX_RANK]; /* of the input */
    ps_operand x, grid;
    int64_t points; /* output positions of one batch entry */
} grid_job;

/* Sum over the product of the dims' taps. */
static double grid_sum(const grid_job *job, const grid_taps *t, int64_t base) {
    int at[MAX_SPACE] = { 0 };
    double sum = 0;
    for (;;) {
        double weight = 1;
        int64_t from = base;
        bool inside = true;
        for (int d = 0; d < job->space; d++) {
            int64_t i = t[d].index[at[d]];
            weight *= t[d].weight[at[d]];
            inside &= i >= 0;
            from += i * job->strides[d + 2];
        }
        if (inside) sum += weight * ps_operand_at(&job->x, from);
        int d = job->space - 1;
        while (d >= 0 && ++at[d] == t[d].n)
            at[d--] = 0;
        if (d < 0) return sum;
    }
}

static void grid_points(void *ctx, int64_t begin, int64_t end, int thread) {
    const grid_job *job = ctx;
    const ps_tensor *x = job->ctx->in[0], *out = job->ctx->out[0];
    int64_t channels = x->shape.dims[1];
    for (int64_t k = begin; k < end; k++) {
        grid_taps t[MAX_SPACE];
        for (int d = 0; d < job->space; d++) { /* the grid's last dim lists x before y */
            double v = ps_operand_at(&job->grid, k * job->space + job->space - 1 - d), n = (double)job->dim[d].extent;
            v = job->align ? (v + 1) / 2 * (n - 1) : ((v + 1) * n - 1) / 2;
            grid_taps_at(&job->dim[d], job->mode, v, &t[d]);
        }
        int64_t batch = k / job->points, point = k % job->points;
        for (int64_t c = 0; c < channels; c++) {
            double v = grid_sum(job, t, batch * job->strides[0] + c * job->strides[1]);
            size_t at = (size_t)((batch * channels + c) * job->points + point);
            /* integers truncate, and stop at the end of their range: cubic weights overshoot */
            ps_convert(&v, PS_DTYPE_F64, (char *)out->data + at * ps_dtype_size(out->dtype), out->dtype, 1, false);
        }
    }
}

static ps_status grid_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0], *grid = ctx->in[1];
    grid_job job = { .ctx = ctx,
                     .space = x->shape.rank - 2,
                     .align = ((const ps_grid_params *)ctx->params)->align_corners };
    grid_padding padding;
    ps_shape shape;
    PS_TRY(grid_modes(ctx->node, &job.mode, &padding, err));
    PS_TRY(grid_shape(ctx->node, &x->shape, &grid->shape, &shape, err));
    PS_TRY(ps_move_output(ctx, 0, x->dtype, &shape, err));
    for (int d = 0; d < job.space; d++) {
        double n = (double)x->shape.dims[d + 2];
        job.dim[d] = (grid_dim) { x->shape.dims[d + 2], job.align ? 0 : -0.5, job.align ? n - 1 : n - 0.5, padding };
    }
    ps_shape_strides(&x->shape, job.strides);
    job.points = ps_shape_product(&shape, 2, shape.rank);
    PS_TRY(ps_operand_init(&job.x, x, ctx->alloc, err));
    ps_status status = ps_operand_init(&job.grid, grid, ctx->alloc, err);
    if (status == PS_OK) ps_parallel_for(shape.dims[0] * job.points, 256, ctx->threads, grid_points, &job);
    ps_operand_release(&job.x);
    ps_operand_release(&job.grid);
    return status;
}

/* ---- AffineGrid ---- */
typedef struct affine_params {
    int64_t align_corners;
} affine_params;

static const ps_attr_def affine_attrs[] = { PS_A_INT(affine_params, align_corners, 0), PS_ATTRS_END };

/* theta [N, n, n + 1], size (N, C, n extents) → [N, n extents, n], n of 2 or 3 */
static ps_status affine_resolve(const ps_facts *f, ps_shape *out, ps_error *err) {
    ps_shape theta = ps_facts_shape(f, 0);
    int64_t size[5], length = ps_facts_length(f, 1);
    size_t n;
    bool known;
    *out = ps_shape_unknown();
    PS_FAIL_IF(length >= 0 && length != 4 && length != 5, err, SHAPE, "%s: size has %lld entries, must have 4 or 5",
               PS_LABEL(f->node), (long long)length);
    PS_TRY(ps_facts_ints(f, 1, "size", size, 5, &n, &known, err));
    PS_FAIL_IF(theta.rank >= 0 && theta.rank != 3, err, SHAPE, "%s: theta %s must have rank 3", PS_LABEL(f->node),
               PS_SHAPE_TEXT(&theta));
    int64_t space = length >= 0 ? length - 2 : theta.rank == 3 ? theta.dims[1] : -1;
    if (space < 0) return PS_OK;
    bool fits = (space == 2 || space == 3) && (theta.rank < 0 || ((theta.dims[1] < 0 || theta.dims[1] == space) &&
                                                                  (theta.dims[2] < 0 || theta.dims[2] == space + 1)));
    PS_FAIL_IF(!fits, err, SHAPE, "%s: theta %s must be [N, 2, 3] for two spatial dims and [N, 3, 4] for three",
               PS_LABEL(f->node), PS_SHAPE_TEXT(&theta));
    out->rank = (int32_t)space + 2;
    for (int d = 0; d <= space; d++)
        out->dims[d] = known ? size[d ? d + 1 : 0] : PS_DIM_UNKNOWN;
    out->dims[space + 1] = space;
    for (int d = 0; known && d <= space; d++)
        PS_FAIL_IF(out->dims[d] < 0, err, SHAPE, "%s: size holds %lld", PS_LABEL(f->node), (long long)out->dims[d]);
    PS_FAIL_IF(known && theta.rank == 3 && theta.dims[0] >= 0 && theta.dims[0] != size[0], err, SHAPE,
               "%s: theta %s has another batch than size[0] %lld", PS_LABEL(f->node), PS_SHAPE_TEXT(&theta),
               (long long)size[0]);
    return PS_OK;
}

static ps_status affine_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_shape out;
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(affine_resolve(&f, &out, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

/* Where element k of n lies between -1 and 1: corners are centres of pixels, or their outer edges. */
static double affine_coordinate(int64_t k, int64_t n, bool align) {
    if (align) return n > 1 ? -1 + 2 * (double)k / (double)(n - 1) : -1;
    return -1 + (2 * (double)k + 1) / (double)n;
}

static ps_status affine_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    bool align = ((const affine_params *)ctx->params)->align_corners;
    const ps_tensor *theta = ctx->in[0];
    ps_facts f = ps_facts_ctx(ctx);
    ps_shape shape;
    PS_TRY(affine_resolve(&f, &shape, err));
    PS_TRY(ps_move_output(ctx, 0, theta->dtype, &shape, err));
    int n = shape.rank - 2;
    int64_t points = ps_shape_product(&shape, 1, n + 1), total = shape.dims[0] * points;
    for (int64_t i = 0; i < total; i++) {
        double matrix[12], at[4] = { 0, 0, 0, 0 }, moved[3];
        ps_row_load(matrix, theta->dtype, theta->data, i / points * n * (n + 1), 1, n * (n + 1));
        int64_t rest = i % points;
        for (int d = n; d >= 1; d--) { /* the last spatial dim is x */
            at[n - d] = affine_coordinate(rest % shape.dims[d], shape.dims[d], align);
            rest /= shape.dims[d];
        }
        at[n] = 1;
        for (int r = 0; r < n; r++) {
            moved[r] = 0;
            for (int c = 0; c <= n; c++)
                moved[r] += matrix[r * (n + 1) + c] * at[c];
        }
        ps_row_store(ctx->out[0]->data, theta->dtype, i * n, 1, moved, n);
    }
    return PS_OK;
}

static const ps_op ops[] = {
    { "GridSample", "", 16, 2, 2, 1, 1, grid16_attrs, sizeof(ps_grid_params), grid_infer, grid_ref, 0 },
    { "GridSample", "com.microsoft", 1, 2, 2, 1, 1, grid16_attrs, sizeof(ps_grid_params), grid_infer, grid_ref, 0 },
    { "GridSample", "", 20, 2, 2, 1, 1, grid20_attrs, sizeof(ps_grid_params), grid_infer, grid_ref, 0 },
    { "AffineGrid", "", 20, 2, 2, 1, 1, affine_attrs, sizeof(affine_params), affine_infer, affine_ref, 0 },
};

const ps_op_family ps_ops_sample = PS_OP_FAMILY("sample", ops);
