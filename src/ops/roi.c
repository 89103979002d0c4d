/* roi.c - MaxRoiPool and RoiAlign: fixed-size features of regions of an image.
 *
 * Sources: Girshick, "Fast R-CNN" (arXiv:1504.08083); He et al., "Mask R-CNN" (arXiv:1703.06870); ONNX operator specs
 * MaxRoiPool-1/22, RoiAlign-10/16/22. Coordinates are data: they may be anything, NaN included, so every range is
 * clamped as a double before it becomes an index. */
#include <math.h>

#include "ops/facts.h"
#include "ops/kernel_util.h"

enum { MAX_SAMPLING = 1024 };

static ps_status check_rank4(const ps_node *node, int64_t columns, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(ps_check_same_type(node, 1, 0, err));
    PS_TRY(ps_check_rank(node, 0, 4, err));
    PS_TRY(ps_check_rank(node, 1, 2, err));
    return ps_check_dim(node, 1, 1, columns, "what a region needs", err);
}

/* [regions, channels, height, width] */
static ps_status set_output(const ps_node *node, int64_t regions, int64_t height, int64_t width, ps_error *err) {
    PS_FAIL_IF(height < 1 || width < 1, err, INVALID, "%s: the output is %lld x %lld, it must be at least 1 x 1",
               PS_LABEL(node), (long long)height, (long long)width);
    int64_t channels = ps_in_known(node, 0) ? node->in[0]->shape.dims[1] : PS_DIM_UNKNOWN;
    ps_shape y = ps_shape_make(4, (int64_t[]) { regions, channels, height, width });
    return ps_infer_checked(node, 0, node->in[0]->dtype, &y, err);
}

static int64_t region_count(const ps_node *node) {
    return ps_in_known(node, 1) ? node->in[1]->shape.dims[0] : PS_DIM_UNKNOWN;
}

/* ---- MaxRoiPool ---- */
typedef struct max_roi_params {
    ps_ints pooled_shape;
    float spatial_scale;
} max_roi_params;

static const ps_attr_def max_roi_attrs[] = {
    PS_A_INTS(max_roi_params, pooled_shape),
    PS_A_FLOAT(max_roi_params, spatial_scale, 1),
    PS_ATTRS_END,
};

static ps_status max_roi_infer(const ps_node *node, ps_error *err) {
    const max_roi_params *p = node->params;
    PS_FAIL_IF(p->pooled_shape.n != 2, err, INVALID, "%s: pooled_shape has %zu entries, must have 2", PS_LABEL(node),
               p->pooled_shape.n);
    PS_TRY(check_rank4(node, 5, err));
    return set_output(node, region_count(node), p->pooled_shape.data[0], p->pooled_shape.data[1], err);
}

/* One region, image or output, in both dims: [0] is y, [1] is x. */
typedef struct roi_job {
    const ps_kernel_ctx *ctx;
    int64_t channels, in[2], out[2];
    double scale, shift; /* of coordinates */
    bool max, at_least_one;
    int64_t sampling;
    double *scratch; /* one plane a thread */
} roi_job;

static int64_t clamp_index(double v, int64_t limit) {
    return v > 0 ? v < (double)limit ? (int64_t)v : limit : 0;
}

static double plane_max(const double *plane, int64_t width, const int64_t lo[2], const int64_t hi[2]) {
    double top = -INFINITY;
    for (int64_t y = lo[0]; y < hi[0]; y++)
        for (int64_t x = lo[1]; x < hi[1]; x++)
            if (plane[y * width + x] > top) top = plane[y * width + x];
    return lo[0] < hi[0] && lo[1] < hi[1] ? top : 0;
}

/* The index of the image that region `at` lies in. */
static ps_status region_image(const roi_job *job, double value, int64_t at, ps_error *err) {
    int64_t images = job->ctx->in[0]->shape.dims[0];
    PS_FAIL_IF(!(value >= 0 && value < (double)images), err, INVALID, "%s: region %lld is in image %g of %lld",
               PS_LABEL(job->ctx->node), (long long)at, value, (long long)images);
    return PS_OK;
}

static ps_status max_roi_check(const roi_job *job, ps_error *err) {
    const ps_tensor *rois = job->ctx->in[1];
    for (int64_t r = 0; r < rois->shape.dims[0]; r++) {
        double image;
        ps_row_load(&image, rois->dtype, rois->data, r * 5, 1, 1);
        PS_TRY(region_image(job, image, r, err));
    }
    return PS_OK;
}

/* Items are region x channel. */
static void max_roi_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    const roi_job *job = ctx;
    const ps_tensor *x = job->ctx->in[0], *rois = job->ctx->in[1], *out = job->ctx->out[0];
    int64_t plane = job->in[0] * job->in[1], bins = job->out[0] * job->out[1];
    double *values = job->scratch + (int64_t)thread * plane;
    for (int64_t item = begin; item < end; item++) {
        double roi[5], first[2], bin[2];
        ps_row_load(roi, rois->dtype, rois->data, item / job->channels * 5, 1, 5);
        ps_row_load(values, x->dtype, x->data, ((int64_t)roi[0] * job->channels + item % job->channels) * plane, 1,
                    plane);
        for (int d = 0; d < 2; d++) { /* a region lists x before y */
            first[d] = round(roi[2 - d] * job->scale);
            double last = round(roi[4 - d] * job->scale);
            bin[d] = fmax(last - first[d] + 1, 1) / (double)job->out[d];
        }
        for (int64_t i = 0; i < bins; i++) {
            int64_t at[2] = { i / job->out[1], i % job->out[1] }, lo[2], hi[2];
            for (int d = 0; d < 2; d++) {
                lo[d] = clamp_index(floor((double)at[d] * bin[d]) + first[d], job->in[d]);
                hi[d] = clamp_index(ceil((double)(at[d] + 1) * bin[d]) + first[d], job->in[d]);
            }
            double v = plane_max(values, job->in[1], lo, hi);
            ps_row_store(out->data, out->dtype, item * bins + i, 1, &v, 1);
        }
    }
}

static roi_job start_job(const ps_kernel_ctx *ctx) {
    const ps_shape *x = &ctx->in[0]->shape, *y = &ctx->out[0]->shape;
    return (roi_job) {
        .ctx = ctx, .channels = x->dims[1], .in = { x->dims[2], x->dims[3] }, .out = { y->dims[2], y->dims[3] }
    };
}

static ps_status run_job(roi_job *job, ps_parallel_fn fn, ps_error *err) {
    int64_t items = job->ctx->out[0]->shape.dims[0] * job->channels;
    return ps_parallel_scratch(job->ctx, items, 1, (size_t)(job->in[0] * job->in[1]), &job->scratch, fn, job, err);
}

static ps_status max_roi_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    roi_job job = start_job(ctx);
    job.scale = (double)((const max_roi_params *)ctx->params)->spatial_scale;
    PS_TRY(max_roi_check(&job, err));
    return run_job(&job, max_roi_planes, err);
}

/* ---- RoiAlign ---- */
typedef struct align_params {
    const char *mode, *coordinate_transformation_mode;
    int64_t output_height, output_width, sampling_ratio;
    float spatial_scale;
} align_params;

#define ALIGN_ATTRS                                                                                                    \
    PS_A_STR(align_params, mode, "avg"), PS_A_INT(align_params, output_height, 1),                                     \
        PS_A_INT(align_params, output_width, 1), PS_A_INT(align_params, sampling_ratio, 0),                            \
        PS_A_FLOAT(align_params, spatial_scale, 1)
static const ps_attr_def align10_attrs[] = { ALIGN_ATTRS, PS_ATTRS_END };
static const ps_attr_def align16_attrs[] = {
    ALIGN_ATTRS,
    PS_A_STR(align_params, coordinate_transformation_mode, "half_pixel"),
    PS_ATTRS_END,
};

static bool align_half_pixel(const ps_node *node) {
    const align_params *p = node->params;
    return node->op->since >= 16 && strcmp(p->coordinate_transformation_mode, "half_pixel") == 0;
}

static ps_status align_infer(const ps_node *node, ps_error *err) {
    const align_params *p = node->params;
    bool known = node->op->since < 16 || align_half_pixel(node) ||
                 strcmp(p->coordinate_transformation_mode, "output_half_pixel") == 0;
    PS_FAIL_IF(!known, err, INVALID, "%s: coordinate_transformation_mode '%s' is not known", PS_LABEL(node),
               p->coordinate_transformation_mode);
    PS_FAIL_IF(strcmp(p->mode, "avg") != 0 && strcmp(p->mode, "max") != 0, err, INVALID,
               "%s: mode is '%s', must be avg or max", PS_LABEL(node), p->mode);
    PS_FAIL_IF(p->sampling_ratio < 0 || p->sampling_ratio > MAX_SAMPLING, err, LIMIT,
               "%s: sampling_ratio %lld is outside [0, %d]", PS_LABEL(node), (long long)p->sampling_ratio,
               MAX_SAMPLING);
    PS_TRY(check_rank4(node, 4, err));
    PS_TRY(ps_check_rank(node, 2, 1, err));
    ps_dtype t = node->in[2]->dtype;
    PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_I64, err, TYPE, "%s: batch_indices are %s, they must be i64",
               PS_LABEL(node), ps_dtype_name(t));
    int64_t regions = region_count(node);
    PS_TRY(ps_check_dim(node, 2, 0, regions, "the number of regions", err));
    if (ps_in_known(node, 2)) regions = ps_dim_merge(regions, node->in[2]->shape.dims[0]);
    return set_output(node, regions, p->output_height, p->output_width, err);
}

/* The samples of one bin along one dim: begin + (k + 1/2) step for k in [from, to), those that touch the image. */
typedef struct bin_samples {
    double begin, step, count; /* count includes those outside */
    int64_t from, to;
} bin_samples;

static bin_samples place_samples(double begin, double bin, int64_t sampling, int64_t extent) {
    bin_samples s = { .begin = begin, .count = sampling ? (double)sampling : ceil(bin) };
    if (!(s.count > 0)) return s;
    s.step = bin / s.count;
    /* Positions -1 to extent: beyond them a sample is zero. A step of 0 puts all samples at one place; a region may be
     * given from its end to its begin. */
    double left = (-1 - begin) / s.step - 0.5, right = ((double)extent - begin) / s.step - 0.5;
    double first = ceil(fmin(left, right)), last = floor(fmax(left, right));
    if (s.step == 0 && begin >= -1 && begin <= (double)extent) {
        first = 0;
        last = s.count - 1;
    }
    first = fmax(first, 0);
    last = fmin(last, s.count - 1);
    if (!(first <= last) || last - first > 4 * (double)(extent + MAX_SAMPLING)) return s;
    s.from = (int64_t)first;
    s.to = (int64_t)last + 1;
    return s;
}

/* Two neighbours and their weights. */
typedef struct tap_pair {
    int64_t index[2];
    double weight[2];
} tap_pair;

static tap_pair place_taps(double at, int64_t extent) {
    if (at < 0) at = 0;
    int64_t low = (int64_t)at;
    if (low >= extent - 1) return (tap_pair) { { extent - 1, extent - 1 }, { 1, 0 } };
    return (tap_pair) { { low, low + 1 }, { 1 - (at - (double)low), at - (double)low } };
}

static double align_sample(const roi_job *job, const double *plane, double y, double x) {
    tap_pair ty = place_taps(y, job->in[0]), tx = place_taps(x, job->in[1]);
    double sum = 0, top = -INFINITY;
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            double v = ty.weight[i] * tx.weight[j] * plane[ty.index[i] * job->in[1] + tx.index[j]];
            sum += v;
            top = fmax(top, v);
        }
    }
    return job->max ? top : sum; /* the maximum is of weighted neighbours, as in ONNX Runtime */
}

static double align_bin(const roi_job *job, const double *plane, const bin_samples *sy, const bin_samples *sx) {
    double sum = 0, top = -INFINITY, count = sy->count * sx->count;
    for (int64_t i = sy->from; i < sy->to; i++) {
        for (int64_t j = sx->from; j < sx->to; j++) {
            double v = align_sample(job, plane, sy->begin + ((double)i + 0.5) * sy->step,
                                    sx->begin + ((double)j + 0.5) * sx->step);
            sum += v;
            top = fmax(top, v);
        }
    }
    if (!job->max) return count > 0 ? sum / count : 0;
    bool all = (double)(sy->to - sy->from) * (double)(sx->to - sx->from) == count;
    return count > 0 ? all ? top : fmax(top, 0) : 0; /* samples outside are zero */
}

static void align_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    const roi_job *job = ctx;
    const ps_tensor *x = job->ctx->in[0], *rois = job->ctx->in[1], *out = job->ctx->out[0];
    const int64_t *images = job->ctx->in[2]->data;
    int64_t plane = job->in[0] * job->in[1], bins = job->out[0] * job->out[1];
    double *values = job->scratch + (int64_t)thread * plane;
    for (int64_t item = begin; item < end; item++) {
        double roi[4], first[2], bin[2];
        int64_t r = item / job->channels;
        ps_row_load(roi, rois->dtype, rois->data, r * 4, 1, 4);
        ps_row_load(values, x->dtype, x->data, (images[r] * job->channels + item % job->channels) * plane, 1, plane);
        for (int d = 0; d < 2; d++) { /* a region lists x before y */
            first[d] = roi[1 - d] * job->scale - job->shift;
            double size = roi[3 - d] * job->scale - job->shift - first[d];
            if (job->at_least_one) size = fmax(size, 1);
            bin[d] = size / (double)job->out[d];
        }
        for (int64_t i = 0; i < bins; i++) {
            int64_t at[2] = { i / job->out[1], i % job->out[1] };
            bin_samples s[2];
            for (int d = 0; d < 2; d++)
                s[d] = place_samples(first[d] + (double)at[d] * bin[d], bin[d], job->sampling, job->in[d]);
            double v = plane ? align_bin(job, values, &s[0], &s[1]) : 0;
            ps_row_store(out->data, out->dtype, item * bins + i, 1, &v, 1);
        }
    }
}

static ps_status align_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const align_params *p = ctx->params;
    const int64_t *images = ctx->in[2]->data;
    roi_job job = start_job(ctx);
    bool half_pixel = align_half_pixel(ctx->node);
    job.scale = (double)p->spatial_scale;
    job.shift = half_pixel ? 0.5 : 0;
    job.at_least_one = !half_pixel;
    job.max = strcmp(p->mode, "max") == 0;
    job.sampling = p->sampling_ratio;
    for (int64_t r = 0; r < ctx->in[1]->shape.dims[0]; r++)
        PS_TRY(region_image(&job, (double)images[r], r, err));
    return run_job(&job, align_planes, err);
}

static const ps_op ops[] = {
    { "MaxRoiPool", "", 1, 2, 2, 1, 1, max_roi_attrs, sizeof(max_roi_params), max_roi_infer, max_roi_ref, 0 },
    { "RoiAlign", "", 10, 3, 3, 1, 1, align10_attrs, sizeof(align_params), align_infer, align_ref, 0 },
    { "RoiAlign", "", 16, 3, 3, 1, 1, align16_attrs, sizeof(align_params), align_infer, align_ref, 0 },
};
const ps_op_family ps_ops_roi = PS_OP_FAMILY("roi", ops);
