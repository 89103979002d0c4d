/* ml_tree.c - TreeEnsembleClassifier, TreeEnsembleRegressor, TreeEnsemble.
 *
 * Source: ONNX operator specs of ai.onnx.ml, versions 1, 3 and 5; where they leave room (two classes, base values, what
 * is transformed), what ONNX Runtime does. */
#include "ops/ml_tree.h"

#include <math.h>

typedef enum tree_sum { AVERAGE, SUM, MIN, MAX } tree_sum; /* numbered as aggregate_function of TreeEnsemble-5 */

typedef struct tree_params {
    ps_tree_attrs a;
    ps_floats base_values;
    const ps_tensor *base_values_as_tensor;
    ps_ints classlabels_int64s;
    ps_strings classlabels_strings;
    const char *aggregate, *transform_name;
    int64_t n_targets;
    /* of TreeEnsemble-5 */
    ps_tree5_attrs a5;
    int64_t aggregate5, transform5;
    /* made by prepare */
    ps_forest forest;
    ps_ml_transform transform;
    tree_sum sum;
    double *base;
    size_t n_base;
    bool classifies, one_class, all_positive; /* one_class: two labels, and leaves weigh one of them only */
} tree_params;

/* Attribute names and field names differ, so the rows are spelt out. */
#define ATTR(name, kind, field)                                                                                        \
    { name, PS_ATTR_##kind, offsetof(tree_params, field), 0, 0, NULL, 0 }
#define ATTR_INT(name, field, def)                                                                                     \
    { name, PS_ATTR_INT, offsetof(tree_params, field), (def), 0, NULL, 0 }
#define ATTR_STR(name, field, def)                                                                                     \
    { name, PS_ATTR_STRING, offsetof(tree_params, field), 0, 0, (def), 0 }
#define NODE_ATTRS                                                                                                     \
    ATTR("nodes_treeids", INTS, a.nodes_treeids), ATTR("nodes_nodeids", INTS, a.nodes_nodeids),                        \
        ATTR("nodes_featureids", INTS, a.nodes_featureids), ATTR("nodes_truenodeids", INTS, a.nodes_truenodeids),      \
        ATTR("nodes_falsenodeids", INTS, a.nodes_falsenodeids),                                                        \
        ATTR("nodes_missing_value_tracks_true", INTS, a.nodes_missing_value_tracks_true),                              \
        ATTR("nodes_modes", STRINGS, a.nodes_modes), ATTR("nodes_values", FLOATS, a.nodes_values),                     \
        ATTR("nodes_values_as_tensor", TENSOR, a.nodes_values_as_tensor), ATTR("base_values", FLOATS, base_values),    \
        ATTR("base_values_as_tensor", TENSOR, base_values_as_tensor),                                                  \
        ATTR_STR("post_transform", transform_name, "NONE")

static const ps_attr_def classifier_attrs[] = {
    NODE_ATTRS,
    ATTR("class_treeids", INTS, a.weight_treeids),
    ATTR("class_nodeids", INTS, a.weight_nodeids),
    ATTR("class_ids", INTS, a.weight_ids),
    ATTR("class_weights", FLOATS, a.weights),
    ATTR("class_weights_as_tensor", TENSOR, a.weights_as_tensor),
    ATTR("classlabels_int64s", INTS, classlabels_int64s),
    ATTR("classlabels_strings", STRINGS, classlabels_strings),
    PS_ATTRS_END,
};
static const ps_attr_def regressor_attrs[] = {
    NODE_ATTRS,
    ATTR("target_treeids", INTS, a.weight_treeids),
    ATTR("target_nodeids", INTS, a.weight_nodeids),
    ATTR("target_ids", INTS, a.weight_ids),
    ATTR("target_weights", FLOATS, a.weights),
    ATTR("target_weights_as_tensor", TENSOR, a.weights_as_tensor),
    ATTR_STR("aggregate_function", aggregate, "SUM"),
    ATTR_INT("n_targets", n_targets, 1),
    PS_ATTRS_END,
};
static const ps_attr_def ensemble_attrs[] = {
    ATTR("tree_roots", INTS, a5.tree_roots),
    ATTR("nodes_featureids", INTS, a5.nodes_featureids),
    ATTR("nodes_truenodeids", INTS, a5.nodes_truenodeids),
    ATTR("nodes_falsenodeids", INTS, a5.nodes_falsenodeids),
    ATTR("nodes_trueleafs", INTS, a5.nodes_trueleafs),
    ATTR("nodes_falseleafs", INTS, a5.nodes_falseleafs),
    ATTR("nodes_missing_value_tracks_true", INTS, a5.nodes_missing_value_tracks_true),
    ATTR("leaf_targetids", INTS, a5.leaf_targetids),
    ATTR("nodes_modes", TENSOR, a5.nodes_modes),
    ATTR("nodes_splits", TENSOR, a5.nodes_splits),
    ATTR("leaf_weights", TENSOR, a5.leaf_weights),
    ATTR("membership_values", TENSOR, a5.membership_values),
    ATTR_INT("aggregate_function", aggregate5, SUM),
    ATTR_INT("post_transform", transform5, PS_ML_NONE),
    ATTR_INT("n_targets", n_targets, 1),
    PS_ATTRS_END,
};

/* ---- preparation ---- */

static ps_status check_reals(const ps_node *node, const ps_tensor *t, const char *name, ps_error *err) {
    PS_NODE_FAIL_IF(t && !ps_dtype_is_float(t->dtype), node, err, TYPE, "%s is %s, not of real numbers", name,
                    ps_dtype_name(t->dtype));
    return PS_OK;
}

static ps_status prepare_base(const ps_node *node, tree_params *p, ps_error *err) {
    const ps_tensor *t = p->base_values_as_tensor;
    PS_TRY(check_reals(node, t, "base_values_as_tensor", err));
    PS_TRY(check_reals(node, p->a.nodes_values_as_tensor, "nodes_values_as_tensor", err));
    PS_TRY(check_reals(node, p->a.weights_as_tensor, "the tensor of weights", err));
    p->n_base = t ? ps_tensor_count(t) : p->base_values.n;
    p->base = ps_arena_array(&node->graph->root->arena, p->n_base + 1, sizeof *p->base);
    if (!p->base) return PS_FAIL_NOMEM(err, "base values");
    if (t) ps_row_load(p->base, t->dtype, t->data, 0, 1, (int64_t)p->n_base);
    for (size_t k = 0; k < p->n_base && !t; k++)
        p->base[k] = p->base_values.data[k];
    return ps_ml_transform_parse(node, p->transform_name, &p->transform, err);
}

static ps_status check_targets(const ps_node *node, int64_t n, ps_error *err) {
    PS_NODE_FAIL_IF(n < 1 || n > INT32_MAX, node, err, FORMAT, "%lld targets or classes", (long long)n);
    return PS_OK;
}

static ps_status classifier_prepare(ps_node *node, ps_error *err) {
    tree_params *p = node->params;
    ps_ml_labels labels = { p->classlabels_strings, p->classlabels_int64s };
    p->classifies = p->one_class = p->all_positive = true;
    p->sum = SUM;
    p->n_targets = (int64_t)ps_ml_label_count(&labels);
    PS_TRY(check_targets(node, p->n_targets, err));
    PS_TRY(prepare_base(node, p, err));
    PS_TRY(ps_forest_make(node, &p->a, p->n_targets, &p->forest, err));
    for (size_t k = 0; k < p->forest.n_weights; k++) {
        p->one_class &= p->forest.weights[k].target == p->forest.weights[0].target;
        p->all_positive &= !(p->forest.weights[k].value < 0);
    }
    p->one_class &= p->n_targets == 2 && p->forest.n_weights > 0;
    return PS_OK;
}

static ps_status regressor_prepare(ps_node *node, ps_error *err) {
    static const char *const names[] = { "AVERAGE", "SUM", "MIN", "MAX" };
    tree_params *p = node->params;
    int k = 0;
    while (k < 4 && strcmp(p->aggregate, names[k]) != 0)
        k++;
    PS_NODE_FAIL_IF(k == 4, node, err, FORMAT, "aggregate_function '%.40s' is not known", p->aggregate);
    p->sum = (tree_sum)k;
    PS_TRY(check_targets(node, p->n_targets, err));
    PS_TRY(prepare_base(node, p, err));
    return ps_forest_make(node, &p->a, p->n_targets, &p->forest, err);
}

static ps_status ensemble_prepare(ps_node *node, ps_error *err) {
    tree_params *p = node->params;
    PS_NODE_FAIL_IF(p->aggregate5 < AVERAGE || p->aggregate5 > MAX, node, err, FORMAT, "aggregate_function is %lld",
                    (long long)p->aggregate5);
    PS_NODE_FAIL_IF(p->transform5 < 0 || p->transform5 >= PS_ML_TRANSFORM_COUNT, node, err, FORMAT,
                    "post_transform is %lld", (long long)p->transform5);
    p->sum = (tree_sum)p->aggregate5;
    p->transform = (ps_ml_transform)p->transform5;
    PS_TRY(check_targets(node, p->n_targets, err));
    return ps_forest_make5(node, &p->a5, p->n_targets, &p->forest, err);
}

/* ---- shape rules ---- */

static ps_status tree_rows(const ps_node *node, ps_ml_rows *rows, ps_error *err) {
    const tree_params *p = node->params;
    PS_TRY(ps_ml_check(node, 0, rows, err));
    PS_NODE_FAIL_IF(rows->features >= 0 && rows->features < p->forest.features, node, err, SHAPE,
                    "%lld features a row, the trees look at %lld", (long long)rows->features,
                    (long long)p->forest.features);
    return PS_OK;
}

static ps_status classifier_infer(const ps_node *node, ps_error *err) {
    const tree_params *p = node->params;
    ps_ml_rows rows;
    PS_TRY(tree_rows(node, &rows, err));
    ps_shape label = { 1, { rows.n } }, scores = { 2, { rows.n, p->n_targets } };
    PS_TRY(ps_infer_checked(node, 0, p->classlabels_strings.n ? PS_DTYPE_STRING : PS_DTYPE_I64, &label, err));
    return ps_infer_checked(node, 1, PS_DTYPE_F32, &scores, err);
}

static ps_status regressor_infer(const ps_node *node, ps_error *err) {
    const tree_params *p = node->params;
    ps_ml_rows rows;
    PS_TRY(tree_rows(node, &rows, err));
    ps_shape shape = { 2, { rows.n, p->n_targets } };
    /* Version 5 gives the type of its input. */
    bool same = node->op->since >= 5 && strcmp(node->op->name, "TreeEnsemble") == 0;
    ps_dtype t = node->in[0]->dtype;
    PS_NODE_FAIL_IF(same && ps_dtype_is_int(t), node, err, TYPE, "the input is %s, not of real numbers",
                    ps_dtype_name(t));
    return ps_infer_checked(node, 0, same ? t : PS_DTYPE_F32, &shape, err);
}

/* ---- kernels ---- */

/* What one thread works with: a row, and the score of each target with whether any leaf gave one. */
typedef struct tree_scratch {
    double *row, *score, *given;
} tree_scratch;

typedef struct tree_job {
    const ps_kernel_ctx *ctx;
    ps_tensor *scores;
    int64_t *labels; /* of each row; NULL for regressors */
    int64_t features;
    double *scratch;
} tree_job;

static void add_leaf(const tree_params *p, const ps_tree_node *leaf, tree_scratch *s) {
    const ps_tree_weight *w = p->forest.weights + leaf->first;
    for (uint32_t k = 0; k < leaf->n; k++) {
        double *score = &s->score[w[k].target], v = w[k].value;
        bool first = s->given[w[k].target] == 0;
        if (p->sum == MIN)
            *score = first || v < *score ? v : *score;
        else if (p->sum == MAX)
            *score = first || v > *score ? v : *score;
        else
            *score += v;
        s->given[w[k].target] = 1;
    }
}

static void add_trees(const tree_params *p, tree_scratch *s) {
    memset(s->score, 0, (size_t)p->n_targets * sizeof *s->score);
    memset(s->given, 0, (size_t)p->n_targets * sizeof *s->given);
    for (size_t k = 0; k < p->forest.n_roots; k++)
        add_leaf(p, ps_forest_leaf(&p->forest, p->forest.roots[k], s->row), s);
    for (int64_t t = 0; t < p->n_targets && p->sum == AVERAGE && p->forest.n_roots; t++)
        s->score[t] /= (double)p->forest.n_roots;
}

/* One target: nothing but PROBIT is applied to it. */
static void finish_regression(const tree_params *p, tree_scratch *s) {
    for (int64_t t = 0; t < p->n_targets && p->n_base == (size_t)p->n_targets; t++)
        s->score[t] += p->base[t];
    if (p->n_targets > 1 || p->transform == PS_ML_PROBIT) ps_ml_apply(p->transform, s->score, p->n_targets);
}

static double in_f32(const tree_job *job, double v) {
    return job->ctx->in[0]->dtype == PS_DTYPE_F64 ? v : (double)(float)v;
}

/* The greatest score that a leaf gave or a base value is; the first of equals. */
static int64_t finish_classes(const tree_job *job, const tree_params *p, tree_scratch *s) {
    int64_t best = -1;
    for (int64_t t = 0; t < p->n_targets; t++) {
        if ((size_t)t < p->n_base) {
            s->score[t] += p->base[t];
            s->given[t] = 1;
        }
        s->score[t] = in_f32(job, s->score[t]);
        if (s->given[t] && (best < 0 || s->score[t] > s->score[best])) best = t;
    }
    ps_ml_apply(p->transform, s->score, p->n_targets);
    return best < 0 ? 0 : best;
}

/* Two classes. If leaves weigh one of them only, its score stands for both; a base value is of the second. */
static int64_t finish_binary(const tree_job *job, const tree_params *p, tree_scratch *s) {
    bool both = s->given[1] != 0;
    if (p->n_base == 2 && both && !p->one_class) {
        s->score[0] += p->base[0];
        s->score[1] += p->base[1];
    } else if (p->n_base == 2) {
        both = true;
        s->score[1] += p->base[1] + s->score[0];
        s->score[0] = -s->score[1];
    } else if (p->n_base == 1) {
        s->score[0] += p->base[0];
    }
    s->score[0] = in_f32(job, s->score[0]);
    s->score[1] = in_f32(job, s->score[1]);
    double weight = both ? s->score[1] : s->score[0];
    bool second = weight > (p->one_class && p->all_positive ? 0.5 : 0);
    if (both)
        ps_ml_apply(p->transform, s->score, 2);
    else if (p->transform == PS_ML_PROBIT)
        s->score[0] = ps_ml_probit(s->score[0]);
    else
        ps_ml_expand(p->transform, p->one_class && p->all_positive ? PS_ML_COMPLEMENT : PS_ML_MIRROR, s->score[0],
                     s->score);
    return second;
}

static void tree_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const tree_job *job = ctx;
    const tree_params *p = job->ctx->params;
    double *block = job->scratch + thread * (job->features + 2 * p->n_targets);
    tree_scratch s = { block, block + job->features, block + job->features + p->n_targets };
    for (int64_t r = begin; r < end; r++) {
        ps_ml_row(job->ctx->in[0], r, job->features, s.row);
        add_trees(p, &s);
        if (!p->classifies)
            finish_regression(p, &s);
        else
            job->labels[r] = p->n_targets == 2 ? finish_binary(job, p, &s) : finish_classes(job, p, &s);
        ps_row_store(job->scores->data, job->scores->dtype, r * p->n_targets, 1, s.score, p->n_targets);
    }
}

static ps_status tree_run(const ps_kernel_ctx *ctx, ps_tensor *scores, int64_t *labels, ps_error *err) {
    const tree_params *p = ctx->params;
    ps_ml_rows rows = ps_ml_rows_of(&ctx->in[0]->shape);
    tree_job job = { ctx, scores, labels, rows.features, NULL };
    int64_t work = (int64_t)p->forest.n_roots * 16 + rows.features + 1; /* some levels a tree */
    return ps_parallel_scratch(ctx, rows.n, 1 + 32768 / work, (size_t)(rows.features + 2 * p->n_targets), &job.scratch,
                               tree_range, &job, err);
}

static ps_status classifier_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const tree_params *p = ctx->params;
    ps_ml_labels labels = { p->classlabels_strings, p->classlabels_int64s };
    size_t n = (size_t)ps_ml_rows_of(&ctx->in[0]->shape).n;
    int64_t *index = ps_alloc_array(ctx->alloc, n, sizeof *index);
    if (!index) return PS_FAIL_NOMEM(err, "the labels of a forest");
    ps_status status = tree_run(ctx, ctx->out[1], index, err);
    for (size_t k = 0; k < n && status == PS_OK; k++)
        status = ps_ml_put_label(ctx->out[0], k, &labels, (size_t)index[k], err);
    ps_free(ctx->alloc, index);
    return status;
}

static ps_status regressor_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return tree_run(ctx, ctx->out[0], NULL, err);
}

#define CLASSIFIER(since)                                                                                              \
    {                                                                                                                  \
        "TreeEnsembleClassifier", "ai.onnx.ml", since, 1, 1, 2, 2, classifier_attrs, sizeof(tree_params),              \
            classifier_infer, classifier_ref, 0, classifier_prepare                                                    \
    }
#define REGRESSOR(since)                                                                                               \
    {                                                                                                                  \
        "TreeEnsembleRegressor", "ai.onnx.ml", since, 1, 1, 1, 1, regressor_attrs, sizeof(tree_params),                \
            regressor_infer, regressor_ref, 0, regressor_prepare                                                       \
    }

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits, preparation */
    CLASSIFIER(1),
    CLASSIFIER(3), /* tensors instead of lists */
    REGRESSOR(1),
    REGRESSOR(3),
    { "TreeEnsemble", "ai.onnx.ml", 5, 1, 1, 1, 1, ensemble_attrs, sizeof(tree_params), regressor_infer, regressor_ref,
      0, ensemble_prepare },
};

const ps_op_family ps_ops_ml_tree = PS_OP_FAMILY("ml_tree", ops);
