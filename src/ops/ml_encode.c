/* ml_encode.c - categories to numbers and back: LabelEncoder, CategoryMapper, OneHotEncoder.
 *
 * Source: ONNX operator specs of ai.onnx.ml, versions 1 to 5. Of equal keys the last one counts, as in ONNX Runtime,
 * except in LabelEncoder-2 and -4, where the first does. */
#include <math.h>

#include "ops/ml.h"

static ps_arena *arena_of(const ps_node *node) {
    return &node->graph->root->arena;
}

/* ---- LabelEncoder ---- */
typedef struct label_params {
    const char *default_string;
    int64_t default_int64;
    float default_float;
    ps_strings keys_strings, values_strings, classes_strings;
    ps_ints keys_int64s, values_int64s;
    ps_floats keys_floats, values_floats;
    ps_tensor *keys_tensor, *values_tensor, *default_tensor;
    /* made by prepare */
    ps_ml_keys keys;
    ps_dtype from, to;
    size_t n_values;
} label_params;

static const ps_attr_def label1_attrs[] = { PS_A_STRINGS(label_params, classes_strings),
                                            PS_A_STR(label_params, default_string, "_Unused"),
                                            PS_A_INT(label_params, default_int64, -1), PS_ATTRS_END };

#define LABEL2_ATTRS                                                                                                   \
    PS_A_STRINGS(label_params, keys_strings), PS_A_INTS(label_params, keys_int64s),                                    \
        PS_A_FLOATS(label_params, keys_floats), PS_A_STRINGS(label_params, values_strings),                            \
        PS_A_INTS(label_params, values_int64s), PS_A_FLOATS(label_params, values_floats),                              \
        PS_A_STR(label_params, default_string, "_Unused"), PS_A_INT(label_params, default_int64, -1),                  \
        PS_A_FLOAT(label_params, default_float, -0.0f)
static const ps_attr_def label2_attrs[] = { LABEL2_ATTRS, PS_ATTRS_END };
static const ps_attr_def label4_attrs[] = { LABEL2_ATTRS, PS_A_TENSOR(label_params, keys_tensor),
                                            PS_A_TENSOR(label_params, values_tensor),
                                            PS_A_TENSOR(label_params, default_tensor), PS_ATTRS_END };

static bool is_label_type(ps_dtype t) {
    return t == PS_DTYPE_STRING || t == PS_DTYPE_F32 || t == PS_DTYPE_F64 || ps_dtype_is_int(t);
}

static ps_status label_keys(const ps_node *node, ps_error *err) {
    label_params *p = node->params;
    ps_arena *arena = arena_of(node);
    int given = (p->keys_tensor != NULL) + (p->keys_strings.n > 0) + (p->keys_int64s.n > 0) + (p->keys_floats.n > 0);
    PS_NODE_FAIL_IF(given != 1, node, err, FORMAT, "%d lists of keys are given, one is needed", given);
    if (p->keys_tensor) {
        p->from = p->keys_tensor->dtype;
        PS_NODE_FAIL_IF(!is_label_type(p->from), node, err, UNSUPPORTED, "keys_tensor of %s", ps_dtype_name(p->from));
        return ps_ml_keys_tensor(arena, p->keys_tensor, false, &p->keys, err);
    }
    p->from = p->keys_strings.n ? PS_DTYPE_STRING : p->keys_int64s.n ? PS_DTYPE_I64 : PS_DTYPE_F32;
    if (p->keys_strings.n)
        return ps_ml_keys_strings(arena, p->keys_strings.data, p->keys_strings.n, false, &p->keys, err);
    if (p->keys_int64s.n) return ps_ml_keys_ints(arena, p->keys_int64s.data, p->keys_int64s.n, false, &p->keys, err);
    return ps_ml_keys_floats(arena, p->keys_floats.data, p->keys_floats.n, false, &p->keys, err);
}

static ps_status label_values(const ps_node *node, ps_error *err) {
    label_params *p = node->params;
    const ps_tensor *t = p->values_tensor;
    int given = (t != NULL) + (p->values_strings.n > 0) + (p->values_int64s.n > 0) + (p->values_floats.n > 0);
    PS_NODE_FAIL_IF(given != 1, node, err, FORMAT, "%d lists of values are given, one is needed", given);
    p->to = t ? t->dtype : p->values_strings.n ? PS_DTYPE_STRING : p->values_int64s.n ? PS_DTYPE_I64 : PS_DTYPE_F32;
    PS_NODE_FAIL_IF(!is_label_type(p->to), node, err, UNSUPPORTED, "values_tensor of %s", ps_dtype_name(p->to));
    p->n_values = t ? ps_tensor_count(t) : p->values_strings.n + p->values_int64s.n + p->values_floats.n;
    PS_NODE_FAIL_IF(p->n_values != p->keys.n, node, err, FORMAT, "%zu keys and %zu values", p->keys.n, p->n_values);
    PS_NODE_FAIL_IF(p->default_tensor && (p->default_tensor->dtype != p->to || ps_tensor_count(p->default_tensor) != 1),
                    node, err, TYPE, "default_tensor is not one %s", ps_dtype_name(p->to));
    return PS_OK;
}

static ps_status label_prepare(ps_node *node, ps_error *err) {
    PS_TRY(label_keys(node, err));
    return label_values(node, err);
}

static ps_status label_infer(const ps_node *node, ps_error *err) {
    const label_params *p = node->params;
    ps_dtype t = node->in[0]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != p->from, node, err, TYPE, "the input is %s, the keys are %s",
                    ps_dtype_name(t), ps_dtype_name(p->from));
    return ps_infer_checked(node, 0, p->to, &node->in[0]->shape, err);
}

/* Element k of the output becomes value `index`, or the default. */
static ps_status label_put(const label_params *p, ps_tensor *out, int64_t k, int64_t index, ps_error *err) {
    if (index >= 0 && p->values_tensor) return ps_move_run(out, k, p->values_tensor, index, 1, err);
    if (index < 0 && p->default_tensor) return ps_move_run(out, k, p->default_tensor, 0, 1, err);
    if (out->dtype == PS_DTYPE_STRING) {
        const char *s = index < 0 ? p->default_string : p->values_strings.data[index];
        return ps_tensor_set_string(out, (size_t)k, s, strlen(s), err);
    }
    if (index >= 0 && out->dtype == PS_DTYPE_I64) {
        ((int64_t *)out->data)[k] = p->values_int64s.data[index];
        return PS_OK;
    }
    double v = index >= 0 ? p->values_floats.data[index] : ps_dtype_is_int(out->dtype) ? 0 : p->default_float;
    if (index < 0 && out->dtype == PS_DTYPE_I64)
        ((int64_t *)out->data)[k] = p->default_int64;
    else if (index < 0 && ps_dtype_is_int(out->dtype))
        ps_row_store(out->data, out->dtype, k, 1, &(double) { (double)p->default_int64 }, 1);
    else
        ps_row_store(out->data, out->dtype, k, 1, &v, 1);
    return PS_OK;
}

/* NaN is a key like others since version 4; before, it equals nothing. */
static bool equals_nothing(const ps_kernel_ctx *ctx, size_t k) {
    double v = 0;
    return ctx->node->op->since < 4 && ps_tensor_get_double(ctx->in[0], k, &v) && isnan(v);
}

static ps_status label_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const label_params *p = ctx->params;
    for (size_t k = 0, n = ps_tensor_count(ctx->in[0]); k < n; k++) {
        int64_t index = equals_nothing(ctx, k) ? -1 : ps_ml_find_element(&p->keys, ctx->in[0], k);
        PS_TRY(label_put(p, ctx->out[0], (int64_t)k, index, err));
    }
    return PS_OK;
}

/* ---- LabelEncoder-1, CategoryMapper: strings to integers or integers to strings, as the input is ---- */
typedef struct mapper_params {
    ps_strings cats_strings;
    ps_ints cats_int64s;
    const char *default_string;
    int64_t default_int64;
    ps_ml_keys strings, ints;
} mapper_params;

static const ps_attr_def mapper_attrs[] = { PS_A_STRINGS(mapper_params, cats_strings),
                                            PS_A_INTS(mapper_params, cats_int64s),
                                            PS_A_STR(mapper_params, default_string, "_Unused"),
                                            PS_A_INT(mapper_params, default_int64, -1), PS_ATTRS_END };

static ps_status mapper_prepare(ps_node *node, ps_error *err) {
    mapper_params *p = node->params;
    PS_NODE_FAIL_IF(p->cats_strings.n != p->cats_int64s.n, node, err, FORMAT, "%zu strings for %zu integers",
                    p->cats_strings.n, p->cats_int64s.n);
    PS_TRY(ps_ml_keys_strings(arena_of(node), p->cats_strings.data, p->cats_strings.n, true, &p->strings, err));
    return ps_ml_keys_ints(arena_of(node), p->cats_int64s.data, p->cats_int64s.n, true, &p->ints, err);
}

/* The integers are the places of the strings. */
static ps_status label1_prepare(ps_node *node, ps_error *err) {
    label_params *p = node->params;
    return ps_ml_keys_strings(arena_of(node), p->classes_strings.data, p->classes_strings.n, true, &p->keys, err);
}

static ps_status swap_infer(const ps_node *node, ps_error *err) {
    ps_dtype t = node->in[0]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_STRING && t != PS_DTYPE_I64, node, err, TYPE,
                    "the input is %s, not string or i64", ps_dtype_name(t));
    ps_dtype to = t == PS_DTYPE_STRING ? PS_DTYPE_I64 : t == PS_DTYPE_I64 ? PS_DTYPE_STRING : PS_DTYPE_UNDEFINED;
    return ps_infer_checked(node, 0, to, &node->in[0]->shape, err);
}

static ps_status mapper_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const mapper_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    for (size_t k = 0, n = ps_tensor_count(in); k < n; k++) {
        int64_t index = ps_ml_find_element(in->dtype == PS_DTYPE_STRING ? &p->strings : &p->ints, in, k);
        if (in->dtype == PS_DTYPE_STRING) {
            ((int64_t *)ctx->out[0]->data)[k] = index < 0 ? p->default_int64 : p->cats_int64s.data[index];
        } else {
            const char *s = index < 0 ? p->default_string : p->cats_strings.data[index];
            PS_TRY(ps_tensor_set_string(ctx->out[0], k, s, strlen(s), err));
        }
    }
    return PS_OK;
}

static ps_status label1_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const label_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    for (size_t k = 0, n = ps_tensor_count(in); k < n; k++) {
        if (in->dtype == PS_DTYPE_STRING) {
            int64_t index = ps_ml_find_element(&p->keys, in, k);
            ((int64_t *)ctx->out[0]->data)[k] = index < 0 ? p->default_int64 : index;
        } else {
            int64_t index = ((const int64_t *)in->data)[k];
            bool known = index >= 0 && (uint64_t)index < p->classes_strings.n;
            const char *s = known ? p->classes_strings.data[index] : p->default_string;
            PS_TRY(ps_tensor_set_string(ctx->out[0], k, s, strlen(s), err));
        }
    }
    return PS_OK;
}

/* ---- OneHotEncoder ---- */
typedef struct onehot_params {
    ps_strings cats_strings;
    ps_ints cats_int64s;
    int64_t zeros;
    ps_ml_keys keys;
} onehot_params;

static const ps_attr_def onehot_attrs[] = { PS_A_STRINGS(onehot_params, cats_strings),
                                            PS_A_INTS(onehot_params, cats_int64s), PS_A_INT(onehot_params, zeros, 1),
                                            PS_ATTRS_END };

static ps_status onehot_prepare(ps_node *node, ps_error *err) {
    onehot_params *p = node->params;
    PS_NODE_FAIL_IF((p->cats_strings.n > 0) == (p->cats_int64s.n > 0), node, err, FORMAT,
                    "one of cats_strings and cats_int64s is needed, and only one");
    if (p->cats_strings.n)
        return ps_ml_keys_strings(arena_of(node), p->cats_strings.data, p->cats_strings.n, true, &p->keys, err);
    return ps_ml_keys_ints(arena_of(node), p->cats_int64s.data, p->cats_int64s.n, true, &p->keys, err);
}

static ps_status onehot_infer(const ps_node *node, ps_error *err) {
    const onehot_params *p = node->params;
    ps_dtype t = node->in[0]->dtype;
    ps_shape shape = node->in[0]->shape;
    bool fits = t == PS_DTYPE_UNDEFINED || (t == PS_DTYPE_STRING) == (p->cats_strings.n > 0);
    PS_NODE_FAIL_IF(
        !fits || (t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_STRING && !ps_dtype_is_float(t) && !ps_dtype_is_int(t)),
        node, err, TYPE, "the input is %s, the categories are %s", ps_dtype_name(t),
        p->cats_strings.n ? "strings" : "integers");
    PS_NODE_FAIL_IF(shape.rank + 1 > PS_MAX_RANK, node, err, LIMIT, "the result has rank %d, over %d", shape.rank + 1,
                    PS_MAX_RANK);
    if (shape.rank >= 0) shape.dims[shape.rank++] = (int64_t)p->keys.n;
    return ps_infer_checked(node, 0, PS_DTYPE_F32, &shape, err);
}

/* A real number means the integer it is cut down to. */
static int64_t onehot_index(const onehot_params *p, const ps_tensor *in, size_t k) {
    double v;
    if (!ps_dtype_is_float(in->dtype)) return ps_ml_find_element(&p->keys, in, k);
    ps_row_load(&v, in->dtype, in->data, (int64_t)k, 1, 1);
    return v > -0x1p63 && v < 0x1p63 ? ps_ml_find(&p->keys, ps_ml_key_int((int64_t)v)) : -1;
}

static ps_status onehot_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const onehot_params *p = ctx->params;
    float *out = ctx->out[0]->data;
    size_t n = ps_tensor_count(ctx->in[0]);
    if (ctx->out[0]->bytes) memset(out, 0, ctx->out[0]->bytes);
    for (size_t k = 0; k < n; k++) {
        int64_t index = onehot_index(p, ctx->in[0], k);
        PS_NODE_FAIL_IF(index < 0 && !p->zeros, ctx->node, err, INVALID,
                        "element %zu is in no category, and zeros is 0", k);
        if (index >= 0) out[k * p->keys.n + (size_t)index] = 1;
    }
    return PS_OK;
}

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits, preparation */
    { "LabelEncoder", "ai.onnx.ml", 1, 1, 1, 1, 1, label1_attrs, sizeof(label_params), swap_infer, label1_ref, 0,
      label1_prepare },
    { "LabelEncoder", "ai.onnx.ml", 2, 1, 1, 1, 1, label2_attrs, sizeof(label_params), label_infer, label_ref, 0,
      label_prepare },
    { "LabelEncoder", "ai.onnx.ml", 4, 1, 1, 1, 1, label4_attrs, sizeof(label_params), label_infer, label_ref, 0,
      label_prepare },
    { "CategoryMapper", "ai.onnx.ml", 1, 1, 1, 1, 1, mapper_attrs, sizeof(mapper_params), swap_infer, mapper_ref, 0,
      mapper_prepare },
    { "OneHotEncoder", "ai.onnx.ml", 1, 1, 1, 1, 1, onehot_attrs, sizeof(onehot_params), onehot_infer, onehot_ref, 0,
      onehot_prepare },
};

const ps_op_family ps_ops_ml_encode = PS_OP_FAMILY("ml_encode", ops);
