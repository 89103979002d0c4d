/* ml_svm.c - SVMClassifier, SVMRegressor.
 *
 * With support vectors as libsvm's (one classifier for each pair of classes, votes decide; probabilities by pairwise
 * coupling: Wu, Lin, Weng, Probability Estimates for Multi-class Classification by Pairwise Coupling, 2004), without
 * them as liblinear's (one vector of coefficients a class).
 *
 * Source: ONNX operator specs of ai.onnx.ml, version 1; where they leave room, what ONNX Runtime does. */
#include <math.h>

#include "ops/ml.h"

typedef enum svm_kernel { LINEAR, POLY, RBF, SIGMOID } svm_kernel;

typedef struct svm_params {
    ps_floats coefficients, kernel_params, prob_a, prob_b, rho, support_vectors;
    ps_ints classlabels_ints, vectors_per_class;
    ps_strings classlabels_strings;
    const char *kernel_type, *post_transform;
    int64_t n_supports, one_class;
    /* made by prepare */
    svm_kernel kernel;
    ps_ml_transform transform;
    double gamma, coef0, degree;
    int64_t classes, vectors, width, pairs;
    bool all_positive; /* coefficients */
} svm_params;

#define SVM_ATTRS                                                                                                      \
    PS_A_FLOATS(svm_params, coefficients), PS_A_FLOATS(svm_params, kernel_params), PS_A_FLOATS(svm_params, rho),       \
        PS_A_FLOATS(svm_params, support_vectors), PS_A_STR(svm_params, kernel_type, "LINEAR"),                         \
        PS_A_STR(svm_params, post_transform, "NONE")
static const ps_attr_def classifier_attrs[] = { SVM_ATTRS,
                                                PS_A_FLOATS(svm_params, prob_a),
                                                PS_A_FLOATS(svm_params, prob_b),
                                                PS_A_INTS(svm_params, classlabels_ints),
                                                PS_A_STRINGS(svm_params, classlabels_strings),
                                                PS_A_INTS(svm_params, vectors_per_class),
                                                PS_ATTRS_END };
static const ps_attr_def regressor_attrs[] = { SVM_ATTRS, PS_A_INT(svm_params, n_supports, 0),
                                               PS_A_INT(svm_params, one_class, 0), PS_ATTRS_END };

/* ---- preparation ---- */

static ps_status prepare_kernel(const ps_node *node, ps_error *err) {
    static const char *const names[] = { "LINEAR", "POLY", "RBF", "SIGMOID" };
    svm_params *p = node->params;
    int kind = 0;
    while (kind < 4 && strcmp(p->kernel_type, names[kind]) != 0)
        kind++;
    PS_NODE_FAIL_IF(kind == 4, node, err, FORMAT, "kernel_type '%.40s' is not known", p->kernel_type);
    PS_NODE_FAIL_IF(p->kernel_params.n && p->kernel_params.n < 3, node, err, FORMAT,
                    "kernel_params has %zu entries, gamma, coef0 and degree are needed", p->kernel_params.n);
    PS_NODE_FAIL_IF(!p->coefficients.n || !p->rho.n, node, err, FORMAT, "there are no coefficients, or no rho");
    p->kernel = p->vectors ? (svm_kernel)kind : LINEAR;
    if (p->kernel_params.n) {
        p->gamma = p->kernel_params.data[0];
        p->coef0 = p->kernel_params.data[1];
        p->degree = p->kernel_params.data[2];
    }
    PS_TRY(ps_ml_transform_parse(node, p->post_transform, &p->transform, err));
    if (p->vectors) {
        PS_NODE_FAIL_IF(!p->support_vectors.n || p->support_vectors.n % (uint64_t)p->vectors, node, err, FORMAT,
                        "%zu numbers are no %lld support vectors", p->support_vectors.n, (long long)p->vectors);
        p->width = (int64_t)(p->support_vectors.n / (uint64_t)p->vectors);
    }
    return PS_OK;
}

static ps_status check_counts(const ps_node *node, ps_error *err) {
    const svm_params *p = node->params;
    PS_NODE_FAIL_IF(p->prob_a.n != p->prob_b.n || (p->prob_a.n && (int64_t)p->prob_a.n < p->pairs), node, err, FORMAT,
                    "%zu prob_a and %zu prob_b for %lld pairs of classes", p->prob_a.n, p->prob_b.n,
                    (long long)p->pairs);
    PS_NODE_FAIL_IF((int64_t)p->rho.n < p->pairs, node, err, FORMAT, "%zu rho for %lld pairs of classes", p->rho.n,
                    (long long)p->pairs);
    PS_NODE_FAIL_IF(p->coefficients.n / (uint64_t)p->vectors < (uint64_t)p->classes - 1, node, err, FORMAT,
                    "%zu coefficients for %lld vectors and %lld classes", p->coefficients.n, (long long)p->vectors,
                    (long long)p->classes);
    return PS_OK;
}

static ps_status classifier_prepare(ps_node *node, ps_error *err) {
    svm_params *p = node->params;
    ps_ml_labels labels = { p->classlabels_strings, p->classlabels_ints };
    p->classes = (int64_t)ps_ml_label_count(&labels);
    PS_NODE_FAIL_IF(p->classes < 1 || p->classes > UINT16_MAX, node, err, FORMAT, "%lld class labels",
                    (long long)p->classes);
    for (size_t k = 0; k < p->vectors_per_class.n; k++) {
        int64_t v = p->vectors_per_class.data[k];
        PS_NODE_FAIL_IF(v < 0 || v > INT32_MAX, node, err, FORMAT, "vectors_per_class holds %lld", (long long)v);
        p->vectors += v;
    }
    PS_TRY(prepare_kernel(node, err));
    p->all_positive = true;
    for (size_t k = 0; k < p->coefficients.n; k++)
        p->all_positive &= p->coefficients.data[k] >= 0;
    p->pairs = p->classes * (p->classes - 1) / 2;
    if (!p->vectors) {
        PS_NODE_FAIL_IF(p->coefficients.n % (uint64_t)p->classes, node, err, FORMAT,
                        "%zu coefficients do not divide among %lld classes", p->coefficients.n, (long long)p->classes);
        p->width = (int64_t)p->coefficients.n / p->classes;
        return PS_OK;
    }
    PS_NODE_FAIL_IF(p->classes < 2 || (int64_t)p->vectors_per_class.n != p->classes, node, err, FORMAT,
                    "%zu entries of vectors_per_class for %lld classes", p->vectors_per_class.n, (long long)p->classes);
    return check_counts(node, err);
}

static ps_status regressor_prepare(ps_node *node, ps_error *err) {
    svm_params *p = node->params;
    PS_NODE_FAIL_IF(p->n_supports < 0 || p->n_supports > INT32_MAX, node, err, FORMAT, "n_supports is %lld",
                    (long long)p->n_supports);
    p->vectors = p->n_supports;
    PS_TRY(prepare_kernel(node, err));
    PS_NODE_FAIL_IF((int64_t)p->coefficients.n < p->vectors, node, err, FORMAT, "%zu coefficients for %lld vectors",
                    p->coefficients.n, (long long)p->vectors);
    if (!p->vectors) p->width = (int64_t)p->coefficients.n;
    return PS_OK;
}

/* ---- shape rules ---- */

/* Without probabilities there is one score a pair of classes, but never less than two. */
static int64_t score_count(const svm_params *p) {
    if (!p->vectors || p->prob_a.n) return p->classes;
    return p->classes > 2 ? p->pairs : 2;
}

static ps_status check_width(const ps_node *node, ps_ml_rows *rows, ps_error *err) {
    const svm_params *p = node->params;
    PS_TRY(ps_ml_check(node, 0, rows, err));
    PS_NODE_FAIL_IF(rows->features >= 0 && rows->features != p->width, node, err, SHAPE,
                    "%lld features a row, the model is for %lld", (long long)rows->features, (long long)p->width);
    return PS_OK;
}

static ps_status classifier_infer(const ps_node *node, ps_error *err) {
    const svm_params *p = node->params;
    ps_ml_rows rows;
    PS_TRY(check_width(node, &rows, err));
    ps_shape label = { 1, { rows.n } }, scores = { 2, { rows.n, score_count(p) } };
    PS_TRY(ps_infer_checked(node, 0, p->classlabels_strings.n ? PS_DTYPE_STRING : PS_DTYPE_I64, &label, err));
    return ps_infer_checked(node, 1, PS_DTYPE_F32, &scores, err);
}

static ps_status regressor_infer(const ps_node *node, ps_error *err) {
    ps_ml_rows rows;
    PS_TRY(check_width(node, &rows, err));
    ps_shape shape = { 2, { rows.n, 1 } };
    return ps_infer_checked(node, 0, PS_DTYPE_F32, &shape, err);
}

/* ---- kernels ---- */

static double kernel_of(const svm_params *p, const double *x, const float *v) {
    double sum = 0;
    for (int64_t k = 0; k < p->width; k++)
        sum += p->kernel == RBF ? (x[k] - v[k]) * (x[k] - v[k]) : x[k] * v[k];
    switch (p->kernel) {
    case POLY: return pow(p->gamma * sum + p->coef0, p->degree);
    case RBF: return exp(-p->gamma * sum);
    case SIGMOID: return tanh(p->gamma * sum + p->coef0);
    default: return sum;
    }
}

typedef struct svm_job {
    const ps_kernel_ctx *ctx;
    double *x, *kernels, *scores; /* features, kernel with each support vector, scores of the pairs or classes */
    double *pairwise, *q, *qp;    /* of the coupling: classes * classes, twice, and classes */
    int64_t *votes;
} svm_job;

/* Scores of all pairs i < j: above 0 speaks for i. Coefficients are classes - 1 rows of one for each support vector:
 * what a vector of class i weighs against class j stands in row j - 1, what one of class j weighs against i in row i.
 */
static void score_pairs(const svm_params *p, svm_job *job) {
    int64_t pair = 0, first_i = 0;
    memset(job->votes, 0, (size_t)p->classes * sizeof *job->votes);
    for (int64_t i = 0; i < p->classes; i++) {
        int64_t n_i = p->vectors_per_class.data[i], first_j = first_i + n_i;
        for (int64_t j = i + 1; j < p->classes; j++, pair++) {
            int64_t n_j = p->vectors_per_class.data[j];
            double sum = p->rho.data[pair];
            for (int64_t k = first_i; k < first_i + n_i; k++)
                sum += p->coefficients.data[(j - 1) * p->vectors + k] * job->kernels[k];
            for (int64_t k = first_j; k < first_j + n_j; k++)
                sum += p->coefficients.data[i * p->vectors + k] * job->kernels[k];
            job->scores[pair] = sum;
            job->votes[sum > 0 ? i : j]++;
            first_j += n_j;
        }
        first_i += n_i;
    }
}

static void coupling_matrix(const svm_job *job, int64_t n) {
    const double *r = job->pairwise;
    for (int64_t i = 0; i < n; i++) {
        double *row = job->q + i * n;
        row[i] = 0;
        for (int64_t j = 0; j < n; j++) {
            if (j == i) continue;
            row[i] += r[j * n + i] * r[j * n + i];
            row[j] = -r[j * n + i] * r[i * n + j];
        }
    }
}

/* Solves for the probabilities whose ratios fit the pairwise ones best: algorithm 2 of the paper. */
static void couple(const svm_job *job, int64_t n, double *p) {
    const double *q = job->q;
    double *qp = job->qp;
    coupling_matrix(job, n);
    for (int64_t i = 0; i < n; i++)
        p[i] = 1.0 / (double)n;
    for (int round = 0; round < 100; round++) {
        double pqp = 0, worst = 0;
        for (int64_t i = 0; i < n; i++) {
            qp[i] = 0;
            for (int64_t j = 0; j < n; j++)
                qp[i] += q[i * n + j] * p[j];
            pqp += p[i] * qp[i];
        }
        for (int64_t i = 0; i < n; i++)
            worst = fmax(worst, fabs(qp[i] - pqp));
        if (worst < 0.005 / (double)n) return;
        for (int64_t i = 0; i < n; i++) {
            double step = (pqp - qp[i]) / q[i * n + i];
            p[i] += step;
            pqp = (pqp + step * (step * q[i * n + i] + 2 * qp[i])) / (1 + step) / (1 + step);
            for (int64_t j = 0; j < n; j++) {
                qp[j] = (qp[j] + step * q[i * n + j]) / (1 + step);
                p[j] /= 1 + step;
            }
        }
    }
}

/* Scores of pairs become probabilities of pairs, then of classes. */
static void probabilities(const svm_params *p, svm_job *job) {
    int64_t n = p->classes, pair = 0;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = i + 1; j < n; j++, pair++) {
            double v = 1 - ps_ml_logistic(job->scores[pair] * p->prob_a.data[pair] + p->prob_b.data[pair]);
            v = fmin(fmax(v, 1e-7), 1 - 1e-7);
            job->pairwise[i * n + j] = v;
            job->pairwise[j * n + i] = 1 - v;
        }
    }
    couple(job, n, job->scores);
}

static size_t greatest(const double *v, int64_t n) {
    size_t best = 0;
    for (int64_t k = 1; k < n; k++)
        if (v[k] > v[best]) best = (size_t)k;
    return best;
}

/* With two classes and no votes (liblinear) a score that is high enough decides for the second. */
static size_t choose(const svm_params *p, const svm_job *job) {
    if (p->vectors) {
        size_t best = 0;
        for (int64_t k = 1; k < p->classes; k++)
            if (job->votes[k] > job->votes[best]) best = (size_t)k;
        return best;
    }
    size_t best = greatest(job->scores, p->classes);
    double weight = job->scores[best];
    bool second = p->classes == 2 && !p->prob_a.n && (p->all_positive ? weight >= 0.5 : weight > 0);
    return second ? 1 : best;
}

static void finish_scores(const svm_params *p, svm_job *job) {
    if (score_count(p) == 2 && p->vectors && !p->prob_a.n) {
        double score = job->scores[0];
        job->scores[1] = 0;
        if (p->transform == PS_ML_PROBIT)
            job->scores[0] = ps_ml_probit(score);
        else
            ps_ml_expand(p->transform, p->transform == PS_ML_NONE ? PS_ML_MIRROR : PS_ML_COMPLEMENT, score,
                         job->scores);
    } else if (score_count(p) > 1 || p->transform == PS_ML_PROBIT) {
        ps_ml_apply(p->transform, job->scores, score_count(p));
    }
}

static ps_status classify_row(const svm_params *p, svm_job *job, int64_t row, ps_error *err) {
    const ps_kernel_ctx *ctx = job->ctx;
    ps_ml_labels labels = { p->classlabels_strings, p->classlabels_ints };
    ps_ml_row(ctx->in[0], row, p->width, job->x);
    if (p->vectors) {
        for (int64_t k = 0; k < p->vectors; k++)
            job->kernels[k] = kernel_of(p, job->x, p->support_vectors.data + k * p->width);
        score_pairs(p, job);
        if (p->prob_a.n) probabilities(p, job);
    } else {
        for (int64_t k = 0; k < p->classes; k++)
            job->scores[k] = kernel_of(p, job->x, p->coefficients.data + k * p->width) + p->rho.data[0];
    }
    PS_TRY(ps_ml_put_label(ctx->out[0], (size_t)row, &labels, choose(p, job), err));
    finish_scores(p, job);
    int64_t n = score_count(p);
    for (int64_t k = 0; k < n; k++)
        ((float *)ctx->out[1]->data)[row * n + k] = (float)job->scores[k];
    return PS_OK;
}

static ps_status classifier_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const svm_params *p = ctx->params;
    size_t n = (size_t)p->classes, scores = p->vectors && (size_t)p->pairs > n ? (size_t)p->pairs : n;
    size_t square = p->vectors && p->prob_a.n ? n * n : 0;
    svm_job job = { .ctx = ctx };
    job.votes = ps_alloc_array(ctx->alloc, n, sizeof *job.votes);
    job.x =
        ps_alloc_array(ctx->alloc, (size_t)p->width + (size_t)p->vectors + scores + 2 + 2 * square + n, sizeof *job.x);
    ps_status status = PS_OK;
    if (job.x && job.votes) {
        job.kernels = job.x + p->width;
        job.scores = job.kernels + p->vectors;
        job.pairwise = job.scores + scores + 2;
        job.q = job.pairwise + square;
        job.qp = job.q + square;
        for (int64_t r = 0, rows = ps_ml_rows_of(&ctx->in[0]->shape).n; r < rows && status == PS_OK; r++)
            status = classify_row(p, &job, r, err);
    } else {
        status = PS_FAIL_NOMEM(err, "scores");
    }
    ps_free(ctx->alloc, job.votes);
    ps_free(ctx->alloc, job.x);
    return status;
}

/* post_transform is not applied: ONNX Runtime does not, and exporters always say NONE. */
static ps_status regressor_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const svm_params *p = ctx->params;
    int64_t rows = ps_ml_rows_of(&ctx->in[0]->shape).n;
    double *x = ps_alloc_array(ctx->alloc, (size_t)p->width, sizeof *x);
    if (!x) return PS_FAIL_NOMEM(err, "a row of features");
    for (int64_t r = 0; r < rows; r++) {
        double sum = p->rho.data[0];
        ps_ml_row(ctx->in[0], r, p->width, x);
        for (int64_t k = 0; k < p->vectors; k++)
            sum += p->coefficients.data[k] * kernel_of(p, x, p->support_vectors.data + k * p->width);
        if (!p->vectors) sum += kernel_of(p, x, p->coefficients.data);
        ((float *)ctx->out[0]->data)[r] = (float)(!p->one_class ? sum : sum > 0 ? 1 : -1);
    }
    ps_free(ctx->alloc, x);
    return PS_OK;
}

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits, preparation */
    { "SVMClassifier", "ai.onnx.ml", 1, 1, 1, 2, 2, classifier_attrs, sizeof(svm_params), classifier_infer,
      classifier_ref, 0, classifier_prepare },
    { "SVMRegressor", "ai.onnx.ml", 1, 1, 1, 1, 1, regressor_attrs, sizeof(svm_params), regressor_infer, regressor_ref,
      0, regressor_prepare },
};

const ps_op_family ps_ops_ml_svm = PS_OP_FAMILY("ml_svm", ops);
