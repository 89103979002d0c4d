/* ml_linear.c - LinearClassifier, LinearRegressor.
 *
 * Source: ONNX operator specs of ai.onnx.ml, version 1; where they leave room (one score for two classes, what is
 * transformed), what ONNX Runtime does. */
#include <math.h>

#include "ops/ml.h"

typedef struct linear_params {
    ps_floats coefficients, intercepts;
    ps_ints classlabels_ints;
    ps_strings classlabels_strings;
    int64_t multi_class, targets;
    const char *post_transform;
    ps_ml_transform transform;
    int64_t width; /* features a row */
    bool two;      /* one score, two labels */
} linear_params;

static const ps_attr_def classifier_attrs[] = { PS_A_FLOATS(linear_params, coefficients),
                                                PS_A_FLOATS(linear_params, intercepts),
                                                PS_A_INTS(linear_params, classlabels_ints),
                                                PS_A_STRINGS(linear_params, classlabels_strings),
                                                PS_A_INT(linear_params, multi_class, 0),
                                                PS_A_STR(linear_params, post_transform, "NONE"),
                                                PS_ATTRS_END };
static const ps_attr_def regressor_attrs[] = { PS_A_FLOATS(linear_params, coefficients),
                                               PS_A_FLOATS(linear_params, intercepts),
                                               PS_A_INT(linear_params, targets, 1),
                                               PS_A_STR(linear_params, post_transform, "NONE"), PS_ATTRS_END };

static ps_status linear_prepare(ps_node *node, ps_error *err) {
    linear_params *p = node->params;
    PS_TRY(ps_ml_transform_parse(node, p->post_transform, &p->transform, err));
    PS_NODE_FAIL_IF(p->targets < 1 || p->coefficients.n == 0 || p->coefficients.n % (uint64_t)p->targets, node, err,
                    FORMAT, "%zu coefficients do not divide among %lld targets", p->coefficients.n,
                    (long long)p->targets);
    p->width = (int64_t)(p->coefficients.n / (uint64_t)p->targets);
    return PS_OK;
}

/* The number of scores is that of the intercepts, or else of the labels. */
static ps_status classifier_prepare(ps_node *node, ps_error *err) {
    linear_params *p = node->params;
    ps_ml_labels labels = { p->classlabels_strings, p->classlabels_ints };
    size_t n = ps_ml_label_count(&labels);
    p->targets = (int64_t)(p->intercepts.n ? p->intercepts.n : n);
    PS_NODE_FAIL_IF(p->targets > 1 && n < (size_t)p->targets, node, err, FORMAT, "%zu labels for %lld scores", n,
                    (long long)p->targets);
    p->two = p->targets == 1 && n == 2;
    return linear_prepare(node, err);
}

static ps_status check_width(const ps_node *node, int64_t features, ps_error *err) {
    const linear_params *p = node->params;
    PS_NODE_FAIL_IF(features >= 0 && features != p->width, node, err, SHAPE,
                    "%lld features a row, the coefficients are for %lld", (long long)features, (long long)p->width);
    return PS_OK;
}

static ps_status classifier_infer(const ps_node *node, ps_error *err) {
    const linear_params *p = node->params;
    ps_ml_rows rows;
    PS_TRY(ps_ml_check(node, 0, &rows, err));
    PS_TRY(check_width(node, rows.features, err));
    ps_shape label = { 1, { rows.n } }, scores = { 2, { rows.n, p->two ? 2 : p->targets } };
    PS_TRY(ps_infer_checked(node, 0, p->classlabels_strings.n ? PS_DTYPE_STRING : PS_DTYPE_I64, &label, err));
    return ps_infer_checked(node, 1, PS_DTYPE_F32, &scores, err);
}

static ps_status regressor_infer(const ps_node *node, ps_error *err) {
    const linear_params *p = node->params;
    ps_ml_rows rows;
    PS_TRY(ps_ml_check(node, 0, &rows, err));
    PS_TRY(check_width(node, rows.features, err));
    ps_shape shape = { 2, { rows.n, p->targets } };
    return ps_infer_checked(node, 0, PS_DTYPE_F32, &shape, err);
}

/* Scores of one row, rounded to f32 as they are before labels are told from them. */
static void linear_scores(const linear_params *p, const double *x, double *scores) {
    for (int64_t t = 0; t < p->targets; t++) {
        double sum = p->intercepts.n == (size_t)p->targets ? p->intercepts.data[t] : 0;
        for (int64_t k = 0; k < p->width; k++)
            sum += x[k] * p->coefficients.data[t * p->width + k];
        scores[t] = (float)sum;
    }
}

/* One score: above 0 the second of two labels, or 1; else the first, or 0. More: the greatest, the first of equals. */
static size_t linear_label(const linear_params *p, const double *scores) {
    size_t best = 0;
    if (p->targets == 1) return scores[0] > 0;
    for (int64_t t = 1; t < p->targets; t++)
        if (scores[t] > scores[best]) best = (size_t)t;
    return best;
}

static ps_status classify_row(const ps_kernel_ctx *ctx, int64_t row, double *scores, ps_error *err) {
    const linear_params *p = ctx->params;
    ps_ml_labels labels = { p->classlabels_strings, p->classlabels_ints };
    int64_t n = p->two ? 2 : p->targets;
    if (p->targets == 1 && !p->two) labels.strings.n = labels.ints.n = 0; /* "0" and "1", or 0 and 1 */
    PS_TRY(ps_ml_put_label(ctx->out[0], (size_t)row, &labels, linear_label(p, scores), err));
    if (p->targets > 1)
        ps_ml_apply(p->transform, scores, n);
    else if (p->transform == PS_ML_PROBIT)
        scores[0] = ps_ml_probit(scores[0]);
    else if (p->two)
        ps_ml_expand(p->transform, PS_ML_COMPLEMENT, scores[0], scores);
    for (int64_t k = 0; k < n; k++)
        ((float *)ctx->out[1]->data)[row * n + k] = (float)scores[k];
    return PS_OK;
}

static ps_status linear_rows(const ps_kernel_ctx *ctx, bool classify, double *x, double *scores, ps_error *err) {
    const linear_params *p = ctx->params;
    ps_ml_rows rows = ps_ml_rows_of(&ctx->in[0]->shape);
    for (int64_t r = 0; r < rows.n; r++) {
        ps_ml_row(ctx->in[0], r, rows.features, x);
        linear_scores(p, x, scores);
        if (classify) {
            PS_TRY(classify_row(ctx, r, scores, err));
            continue;
        }
        if (p->targets > 1 || p->transform == PS_ML_PROBIT) ps_ml_apply(p->transform, scores, p->targets);
        for (int64_t t = 0; t < p->targets; t++)
            ((float *)ctx->out[0]->data)[r * p->targets + t] = (float)scores[t];
    }
    return PS_OK;
}

static ps_status linear_run(const ps_kernel_ctx *ctx, bool classify, ps_error *err) {
    const linear_params *p = ctx->params;
    double *x = ps_alloc_array(ctx->alloc, (size_t)p->width, sizeof *x);
    double *scores = ps_alloc_array(ctx->alloc, (size_t)p->targets + 1, sizeof *scores);
    ps_status status = x && scores ? linear_rows(ctx, classify, x, scores, err) : PS_FAIL_NOMEM(err, "scores");
    ps_free(ctx->alloc, scores);
    ps_free(ctx->alloc, x);
    return status;
}

static ps_status classifier_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return linear_run(ctx, true, err);
}

static ps_status regressor_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return linear_run(ctx, false, err);
}

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits, preparation */
    { "LinearClassifier", "ai.onnx.ml", 1, 1, 1, 2, 2, classifier_attrs, sizeof(linear_params), classifier_infer,
      classifier_ref, 0, classifier_prepare },
    { "LinearRegressor", "ai.onnx.ml", 1, 1, 1, 1, 1, regressor_attrs, sizeof(linear_params), regressor_infer,
      regressor_ref, 0, linear_prepare },
};

const ps_op_family ps_ops_ml_linear = PS_OP_FAMILY("ml_linear", ops);
