/* ml_features.c - features made ready: ArrayFeatureExtractor, Binarizer, FeatureVectorizer, Imputer, Normalizer,
 * Scaler.
 *
 * Source: ONNX operator specs of ai.onnx.ml, version 1. */
#include <math.h>

#include "ops/ml.h"

/* ---- ArrayFeatureExtractor: columns by number ---- */

static ps_shape extract_shape(const ps_shape *in, int64_t columns) {
    ps_shape shape = *in;
    if (in->rank == 1) return (ps_shape) { 2, { 1, columns } };
    if (in->rank > 0) shape.dims[in->rank - 1] = columns;
    return shape;
}

static ps_status extract_infer(const ps_node *node, ps_error *err) {
    const ps_shape *in = &node->in[0]->shape, *at = &node->in[1]->shape;
    int64_t n = PS_DIM_UNKNOWN;
    PS_NODE_FAIL_IF(in->rank == 0, node, err, SHAPE, "a scalar has no columns");
    PS_NODE_FAIL_IF(ps_dtype_bits(node->in[0]->dtype) % 8, node, err, UNSUPPORTED, "elements of type %s",
                    ps_dtype_name(node->in[0]->dtype));
    PS_NODE_FAIL_IF(node->in[1]->dtype != PS_DTYPE_UNDEFINED && node->in[1]->dtype != PS_DTYPE_I64, node, err, TYPE,
                    "the columns are %s, not i64", ps_dtype_name(node->in[1]->dtype));
    if (ps_shape_fixed(at)) ps_shape_elements(at, &n);
    ps_shape shape = extract_shape(in, n);
    return ps_infer_checked(node, 0, node->in[0]->dtype, &shape, err);
}

static ps_status extract_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *in = ctx->in[0];
    const int64_t *at = ctx->in[1]->data;
    int64_t n = (int64_t)ps_tensor_count(ctx->in[1]), width = in->shape.dims[in->shape.rank - 1];
    int64_t rows = ps_shape_product(&in->shape, 0, in->shape.rank - 1);
    ps_shape shape = extract_shape(&in->shape, n);
    PS_TRY(ps_move_output(ctx, 0, in->dtype, &shape, err));
    for (int64_t k = 0; k < n; k++)
        PS_NODE_FAIL_IF(at[k] < 0 || at[k] >= width, ctx->node, err, INVALID, "column %lld of %lld", (long long)at[k],
                        (long long)width);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < n; k++)
            PS_TRY(ps_move_run(ctx->out[0], r * n + k, in, r * width + at[k], 1, err));
    return PS_OK;
}

/* ---- Binarizer ---- */
typedef struct binarizer_params {
    float threshold;
} binarizer_params;

static const ps_attr_def binarizer_attrs[] = { PS_A_FLOAT(binarizer_params, threshold, 0), PS_ATTRS_END };

static ps_status number_infer(const ps_node *node, ps_error *err) {
    ps_dtype t = node->in[0]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && !ps_dtype_is_float(t) && !ps_dtype_is_int(t), node, err, TYPE,
                    "the input is %s, not a number", ps_dtype_name(t));
    return ps_infer_same(node, err);
}

static ps_status binarizer_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const binarizer_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    for (int64_t k = 0, n = (int64_t)ps_tensor_count(in); k < n; k++) {
        double v;
        ps_row_load(&v, in->dtype, in->data, k, 1, 1);
        v = v > p->threshold;
        ps_row_store(ctx->out[0]->data, in->dtype, k, 1, &v, 1);
    }
    return PS_OK;
}

/* ---- FeatureVectorizer: inputs side by side, each cut or padded with zeros to its width ---- */
typedef struct vectorizer_params {
    ps_ints inputdimensions;
    int64_t width;
} vectorizer_params;

static const ps_attr_def vectorizer_attrs[] = { PS_A_INTS(vectorizer_params, inputdimensions), PS_ATTRS_END };

static ps_status vectorizer_prepare(ps_node *node, ps_error *err) {
    vectorizer_params *p = node->params;
    PS_NODE_FAIL_IF(p->inputdimensions.n != node->n_in, node, err, FORMAT,
                    "inputdimensions has %zu entries for %u inputs", p->inputdimensions.n, node->n_in);
    for (size_t k = 0; k < p->inputdimensions.n; k++) {
        int64_t d = p->inputdimensions.data[k];
        PS_NODE_FAIL_IF(d < 0 || __builtin_add_overflow(p->width, d, &p->width), node, err, FORMAT,
                        "inputdimensions holds %lld, or they add up to too much", (long long)d);
    }
    return PS_OK;
}

static ps_status vectorizer_infer(const ps_node *node, ps_error *err) {
    const vectorizer_params *p = node->params;
    int64_t rows = PS_DIM_UNKNOWN;
    for (uint32_t i = 0; i < node->n_in; i++) {
        PS_NODE_FAIL_IF(!node->in[i], node, err, FORMAT, "input %u is missing", i);
        const ps_value *v = node->in[i];
        PS_NODE_FAIL_IF(v->dtype != PS_DTYPE_UNDEFINED && !ps_dtype_is_float(v->dtype) && !ps_dtype_is_int(v->dtype),
                        node, err, TYPE, "input %u is %s, not a number", i, ps_dtype_name(v->dtype));
        PS_NODE_FAIL_IF(v->shape.rank == 0, node, err, SHAPE, "input %u is a scalar", i);
        int64_t n = v->shape.rank < 0 ? PS_DIM_UNKNOWN : v->shape.rank == 1 ? 1 : v->shape.dims[0];
        PS_NODE_FAIL_IF(n >= 0 && rows >= 0 && n != rows, node, err, SHAPE,
                        "input %u has %lld rows, the ones before %lld", i, (long long)n, (long long)rows);
        rows = ps_dim_merge(rows, n);
    }
    ps_shape shape = { 2, { rows, p->width } };
    return ps_infer_checked(node, 0, PS_DTYPE_F32, &shape, err);
}

static ps_status vectorizer_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const vectorizer_params *p = ctx->params;
    float *out = ctx->out[0]->data;
    int64_t column = 0, rows = ctx->out[0]->shape.dims[0];
    if (ctx->out[0]->bytes) memset(out, 0, ctx->out[0]->bytes);
    for (size_t i = 0; i < ctx->n_in; i++) {
        const ps_tensor *in = ctx->in[i];
        int64_t width = in->shape.rank == 1 ? in->shape.dims[0] : ps_shape_product(&in->shape, 1, in->shape.rank);
        int64_t used = width < p->inputdimensions.data[i] ? width : p->inputdimensions.data[i];
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t k = 0; k < used; k++) {
                double v;
                ps_row_load(&v, in->dtype, in->data, r * width + k, 1, 1);
                out[r * p->width + column + k] = (float)v;
            }
        }
        column += p->inputdimensions.data[i];
    }
    return PS_OK;
}

/* ---- Imputer ---- */
typedef struct imputer_params {
    ps_floats imputed_value_floats;
    ps_ints imputed_value_int64s;
    float replaced_value_float;
    int64_t replaced_value_int64;
} imputer_params;

static const ps_attr_def imputer_attrs[] = { PS_A_FLOATS(imputer_params, imputed_value_floats),
                                             PS_A_INTS(imputer_params, imputed_value_int64s),
                                             PS_A_FLOAT(imputer_params, replaced_value_float, 0),
                                             PS_A_INT(imputer_params, replaced_value_int64, 0), PS_ATTRS_END };

static size_t imputer_count(const imputer_params *p, ps_dtype t) {
    return ps_dtype_is_int(t) ? p->imputed_value_int64s.n : p->imputed_value_floats.n;
}

static ps_status imputer_infer(const ps_node *node, ps_error *err) {
    const imputer_params *p = node->params;
    ps_dtype t = node->in[0]->dtype;
    PS_TRY(number_infer(node, err));
    PS_NODE_FAIL_IF(node->in[0]->shape.rank == 0, node, err, SHAPE, "a scalar has no features");
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && imputer_count(p, t) == 0, node, err, FORMAT,
                    "no imputed values for an input of %s", ps_dtype_name(t));
    return PS_OK;
}

static ps_status imputer_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const imputer_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    int64_t width = in->shape.dims[in->shape.rank == 1 ? 0 : 1], n = (int64_t)ps_tensor_count(in);
    bool ints = ps_dtype_is_int(in->dtype), each = (int64_t)imputer_count(p, in->dtype) == width;
    double missing = ints ? 0 : p->replaced_value_float;
    for (int64_t k = 0; k < n; k++) {
        int64_t at = each ? k % width : 0;
        if (in->dtype == PS_DTYPE_I64) {
            int64_t v = ((const int64_t *)in->data)[k];
            ((int64_t *)ctx->out[0]->data)[k] = v == p->replaced_value_int64 ? p->imputed_value_int64s.data[at] : v;
            continue;
        }
        double v;
        ps_row_load(&v, in->dtype, in->data, k, 1, 1);
        if (ints && v == (double)p->replaced_value_int64) v = (double)p->imputed_value_int64s.data[at];
        if (!ints && (v == missing || (isnan(v) && isnan(missing)))) v = p->imputed_value_floats.data[at];
        ps_row_store(ctx->out[0]->data, in->dtype, k, 1, &v, 1);
    }
    return PS_OK;
}

/* ---- Normalizer ---- */
typedef struct normalizer_params {
    const char *norm;
} normalizer_params;

static const ps_attr_def normalizer_attrs[] = { PS_A_STR(normalizer_params, norm, "MAX"), PS_ATTRS_END };

static ps_status normalizer_prepare(ps_node *node, ps_error *err) {
    const char *norm = ((const normalizer_params *)node->params)->norm;
    PS_NODE_FAIL_IF(strcmp(norm, "MAX") && strcmp(norm, "L1") && strcmp(norm, "L2"), node, err, FORMAT,
                    "norm '%.40s' is none of MAX, L1, L2", norm);
    return PS_OK;
}

static ps_status normalizer_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_ml_check(node, 0, NULL, err));
    return ps_infer_checked(node, 0, PS_DTYPE_F32, &node->in[0]->shape, err);
}

/* MAX is the greatest value, not the greatest magnitude. What has the norm 0 stays as it is. */
static double norm_of(const char *norm, const double *row, int64_t n) {
    double sum = norm[0] == 'M' ? -INFINITY : 0;
    for (int64_t k = 0; k < n; k++) {
        if (norm[0] == 'M')
            sum = fmax(sum, row[k]);
        else
            sum += norm[1] == '1' ? fabs(row[k]) : row[k] * row[k];
    }
    return norm[1] == '2' ? sqrt(sum) : sum;
}

static ps_status normalizer_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const normalizer_params *p = ctx->params;
    ps_ml_rows rows = ps_ml_rows_of(&ctx->in[0]->shape);
    double *row = ps_alloc_array(ctx->alloc, (size_t)rows.features, sizeof *row);
    if (!row) return PS_FAIL_NOMEM(err, "a row of features");
    for (int64_t r = 0; r < rows.n; r++) {
        ps_ml_row(ctx->in[0], r, rows.features, row);
        double norm = norm_of(p->norm, row, rows.features);
        for (int64_t k = 0; k < rows.features; k++)
            ((float *)ctx->out[0]->data)[r * rows.features + k] = (float)(norm != 0 ? row[k] / norm : row[k]);
    }
    ps_free(ctx->alloc, row);
    return PS_OK;
}

/* ---- Scaler ---- */
typedef struct scaler_params {
    ps_floats offset, scale;
} scaler_params;

static const ps_attr_def scaler_attrs[] = { PS_A_FLOATS(scaler_params, offset), PS_A_FLOATS(scaler_params, scale),
                                            PS_ATTRS_END };

static ps_status scaler_check(const ps_node *node, int64_t width, ps_error *err) {
    const scaler_params *p = node->params;
    bool fits = (p->offset.n == 1 || p->offset.n == (size_t)width) && (p->scale.n == 1 || p->scale.n == (size_t)width);
    PS_NODE_FAIL_IF(width >= 0 && !fits, node, err, SHAPE, "%zu offsets and %zu scales for %lld features", p->offset.n,
                    p->scale.n, (long long)width);
    return PS_OK;
}

static ps_status scaler_infer(const ps_node *node, ps_error *err) {
    const ps_shape *s = &node->in[0]->shape;
    ps_dtype t = node->in[0]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && !ps_dtype_is_float(t) && !ps_dtype_is_int(t), node, err, TYPE,
                    "the input is %s, not a number", ps_dtype_name(t));
    PS_NODE_FAIL_IF(s->rank == 0, node, err, SHAPE, "a scalar has no features");
    if (s->rank > 0) PS_TRY(scaler_check(node, s->dims[s->rank == 1 ? 0 : 1], err));
    return ps_infer_checked(node, 0, PS_DTYPE_F32, s, err);
}

static ps_status scaler_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const scaler_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    int64_t width = in->shape.dims[in->shape.rank == 1 ? 0 : 1], n = (int64_t)ps_tensor_count(in);
    PS_TRY(scaler_check(ctx->node, width, err));
    for (int64_t k = 0; k < n; k++) {
        double v;
        ps_row_load(&v, in->dtype, in->data, k, 1, 1);
        v = (v - p->offset.data[p->offset.n == 1 ? 0 : k % width]) * p->scale.data[p->scale.n == 1 ? 0 : k % width];
        ((float *)ctx->out[0]->data)[k] = (float)v;
    }
    return PS_OK;
}

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits, preparation */
    { "ArrayFeatureExtractor", "ai.onnx.ml", 1, 2, 2, 1, 1, NULL, 0, extract_infer, extract_ref, 0 },
    { "Binarizer", "ai.onnx.ml", 1, 1, 1, 1, 1, binarizer_attrs, sizeof(binarizer_params), number_infer, binarizer_ref,
      0 },
    { "FeatureVectorizer", "ai.onnx.ml", 1, 1, PS_VARIADIC, 1, 1, vectorizer_attrs, sizeof(vectorizer_params),
      vectorizer_infer, vectorizer_ref, 0, vectorizer_prepare },
    { "Imputer", "ai.onnx.ml", 1, 1, 1, 1, 1, imputer_attrs, sizeof(imputer_params), imputer_infer, imputer_ref, 0 },
    { "Normalizer", "ai.onnx.ml", 1, 1, 1, 1, 1, normalizer_attrs, sizeof(normalizer_params), normalizer_infer,
      normalizer_ref, 0, normalizer_prepare },
    { "Scaler", "ai.onnx.ml", 1, 1, 1, 1, 1, scaler_attrs, sizeof(scaler_params), scaler_infer, scaler_ref, 0 },
};

const ps_op_family ps_ops_ml_features = PS_OP_FAMILY("ml_features", ops);
