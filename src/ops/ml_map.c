/* ml_map.c - maps: ZipMap makes them, CastMap and DictVectorizer read them.
 *
 * A map is a container of two tensors of rank 1: keys (i64 or string) and values (polestar/tensor.h).
 *
 * Source: ONNX operator specs of ai.onnx.ml, version 1. */
#include <stdlib.h>

#include "ops/ml.h"

/* Keys and values of a map that came from outside, or an error. */
static ps_status map_parts(const ps_kernel_ctx *ctx, const ps_tensor **keys, const ps_tensor **values, ps_error *err) {
    const ps_tensor *map = ctx->in[0];
    *keys = ps_tensor_element(map, 0);
    *values = ps_tensor_element(map, 1);
    PS_NODE_FAIL_IF(map->dtype != PS_DTYPE_MAP || !*keys || !*values, ctx->node, err, INVALID,
                    "the map lacks its keys or its values");
    PS_NODE_FAIL_IF(ps_tensor_count(*keys) != ps_tensor_count(*values) || ps_dtype_is_container((*values)->dtype),
                    ctx->node, err, INVALID, "the map has %zu keys and %zu values", ps_tensor_count(*keys),
                    ps_tensor_count(*values));
    return PS_OK;
}

static ps_status check_map(const ps_node *node, ps_error *err) {
    ps_dtype t = node->in[0]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_MAP, node, err, TYPE, "the input is %s, not a map",
                    ps_dtype_name(t));
    return PS_OK;
}

/* ---- ZipMap ---- */
typedef struct zip_params {
    ps_ints classlabels_int64s;
    ps_strings classlabels_strings;
} zip_params;

static const ps_attr_def zip_attrs[] = { PS_A_INTS(zip_params, classlabels_int64s),
                                         PS_A_STRINGS(zip_params, classlabels_strings), PS_ATTRS_END };

static ps_ml_labels zip_labels(const void *params) {
    const zip_params *p = params;
    return (ps_ml_labels) { p->classlabels_strings, p->classlabels_int64s };
}

static ps_status zip_infer(const ps_node *node, ps_error *err) {
    const zip_params *p = node->params;
    ps_ml_labels labels = zip_labels(p);
    const ps_value *in = node->in[0];
    ps_ml_rows rows = ps_ml_rows_of(&in->shape);
    PS_NODE_FAIL_IF((p->classlabels_int64s.n > 0) == (p->classlabels_strings.n > 0), node, err, FORMAT,
                    "one of classlabels_int64s and classlabels_strings is needed, and only one");
    PS_NODE_FAIL_IF(in->dtype != PS_DTYPE_UNDEFINED && in->dtype != PS_DTYPE_F32, node, err, TYPE,
                    "the input is %s, not f32", ps_dtype_name(in->dtype));
    PS_NODE_FAIL_IF(in->shape.rank == 0 || in->shape.rank > 2, node, err, SHAPE, "input %s is neither [N,C] nor [C]",
                    PS_SHAPE_TEXT(&in->shape));
    PS_NODE_FAIL_IF(rows.features >= 0 && rows.features != (int64_t)ps_ml_label_count(&labels), node, err, SHAPE,
                    "%lld scores a row for %zu labels", (long long)rows.features, ps_ml_label_count(&labels));
    ps_infer_container(node, 0, PS_DTYPE_SEQUENCE, PS_DTYPE_MAP, rows.n >= 0 ? rows.n : -1);
    return PS_OK;
}

/* One row as a map; all maps share the keys. */
static ps_status zip_row(const ps_kernel_ctx *ctx, ps_tensor *keys, int64_t row, ps_tensor **ret, ps_error *err) {
    ps_tensor *values = NULL;
    PS_TRY(ps_container_new(ctx->alloc, PS_DTYPE_MAP, 2, ret, err));
    PS_TRY(ps_move_element(ctx, *ret, 0, keys, true, err));
    PS_TRY(ps_tensor_new(ctx->alloc, PS_DTYPE_F32, &keys->shape, &values, err));
    ps_status status = ps_move_run(values, 0, ctx->in[0], row * keys->shape.dims[0], keys->shape.dims[0], err);
    if (status == PS_OK) status = ps_container_take(*ret, 1, values, err);
    if (status != PS_OK) ps_tensor_release(values);
    return status;
}

static ps_status zip_rows(const ps_kernel_ctx *ctx, ps_tensor *keys, int64_t n, ps_error *err) {
    ps_ml_labels labels = zip_labels(ctx->params);
    for (size_t k = 0; k < ps_ml_label_count(&labels); k++)
        PS_TRY(ps_ml_put_label(keys, k, &labels, k, err));
    for (int64_t r = 0; r < n; r++) {
        ps_tensor *map = NULL;
        ps_status status = zip_row(ctx, keys, r, &map, err);
        if (status == PS_OK) status = ps_container_take(ctx->out[0], (size_t)r, map, err);
        if (status != PS_OK) {
            ps_tensor_release(map);
            return status;
        }
    }
    return PS_OK;
}

static ps_status zip_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_ml_labels labels = zip_labels(ctx->params);
    ps_ml_rows rows = ps_ml_rows_of(&ctx->in[0]->shape);
    ps_shape shape = { 1, { rows.n } }, key_shape = { 1, { (int64_t)ps_ml_label_count(&labels) } };
    ps_tensor *keys;
    PS_NODE_FAIL_IF(rows.features != key_shape.dims[0], ctx->node, err, SHAPE, "%lld scores a row for %lld labels",
                    (long long)rows.features, (long long)key_shape.dims[0]);
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_SEQUENCE, &shape, err));
    PS_TRY(ps_tensor_new(ctx->alloc, ps_ml_label_type(&labels), &key_shape, &keys, err));
    ps_status status = zip_rows(ctx, keys, rows.n, err);
    ps_tensor_release(keys);
    return status;
}

/* ---- CastMap ---- */
typedef struct cast_params {
    const char *cast_to, *map_form;
    int64_t max_map;
    ps_dtype to;
    bool sparse;
} cast_params;

static const ps_attr_def cast_attrs[] = { PS_A_STR(cast_params, cast_to, "TO_FLOAT"),
                                          PS_A_STR(cast_params, map_form, "DENSE"), PS_A_INT(cast_params, max_map, 1),
                                          PS_ATTRS_END };

static ps_status cast_prepare(ps_node *node, ps_error *err) {
    cast_params *p = node->params;
    p->to = strcmp(p->cast_to, "TO_FLOAT") == 0    ? PS_DTYPE_F32
            : strcmp(p->cast_to, "TO_INT64") == 0  ? PS_DTYPE_I64
            : strcmp(p->cast_to, "TO_STRING") == 0 ? PS_DTYPE_STRING
                                                   : PS_DTYPE_UNDEFINED;
    p->sparse = strcmp(p->map_form, "SPARSE") == 0;
    PS_NODE_FAIL_IF(p->to == PS_DTYPE_UNDEFINED, node, err, FORMAT, "cast_to '%.40s' is not known", p->cast_to);
    PS_NODE_FAIL_IF(!p->sparse && strcmp(p->map_form, "DENSE") != 0, node, err, FORMAT, "map_form '%.40s' is not known",
                    p->map_form);
    PS_NODE_FAIL_IF(p->sparse && (p->max_map < 1 || p->max_map > INT32_MAX), node, err, FORMAT, "max_map is %lld",
                    (long long)p->max_map);
    return PS_OK;
}

static ps_status cast_infer(const ps_node *node, ps_error *err) {
    const cast_params *p = node->params;
    ps_shape shape = { 2, { 1, p->sparse ? p->max_map : PS_DIM_UNKNOWN } };
    PS_TRY(check_map(node, err));
    return ps_infer_checked(node, 0, p->to, &shape, err);
}

typedef struct map_entry {
    int64_t key;
    size_t index;
} map_entry;

static int by_key(const void *a, const void *b) {
    const map_entry *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : (x->index > y->index) - (x->index < y->index);
}

static ps_status cast_text(const ps_kernel_ctx *ctx, const ps_string *s, size_t to, ps_error *err) {
    char text[64], *end;
    ps_tensor *out = ctx->out[0];
    if (out->dtype == PS_DTYPE_STRING) return ps_tensor_set_string(out, to, s->data, s->size, err);
    ps_snprintf(text, sizeof text, "%.*s", s->size < sizeof text ? (int)s->size : (int)sizeof text, s->data);
    if (out->dtype == PS_DTYPE_F32)
        ((float *)out->data)[to] = strtof(text, &end);
    else
        ((int64_t *)out->data)[to] = strtoll(text, &end, 10);
    PS_NODE_FAIL_IF(end == text || s->size >= sizeof text, ctx->node, err, FORMAT, "'%.40s' is no number", text);
    return PS_OK;
}

static ps_status cast_value(const ps_kernel_ctx *ctx, const ps_tensor *values, size_t from, size_t to, ps_error *err) {
    char text[64];
    ps_tensor *out = ctx->out[0];
    double v = 0;
    if (values->dtype == PS_DTYPE_STRING) return cast_text(ctx, (const ps_string *)values->data + from, to, err);
    ps_row_load(&v, values->dtype, values->data, (int64_t)from, 1, 1);
    if (out->dtype == PS_DTYPE_STRING) {
        ps_snprintf(text, sizeof text, "%f", v); /* as std::to_string */
        return ps_tensor_set_string(out, to, text, strlen(text), err);
    }
    PS_NODE_FAIL_IF(out->dtype == PS_DTYPE_I64 && !(v > -0x1p63 && v < 0x1p63), ctx->node, err, INVALID,
                    "%g is no integer of 64 bits", v);
    ps_row_store(out->data, out->dtype, (int64_t)to, 1, &v, 1);
    return PS_OK;
}

/* Values in the order of the keys; sparse: each at the place of its key, and nothing beyond max_map. */
static ps_status cast_entries(const ps_kernel_ctx *ctx, const ps_tensor *values, const map_entry *entries, size_t n,
                              ps_error *err) {
    const cast_params *p = ctx->params;
    ps_shape shape = { 2, { 1, p->sparse ? p->max_map : (int64_t)n } };
    PS_TRY(ps_move_output(ctx, 0, p->to, &shape, err));
    if (p->to != PS_DTYPE_STRING && ctx->out[0]->bytes) memset(ctx->out[0]->data, 0, ctx->out[0]->bytes);
    for (int64_t k = 0; p->sparse && p->to == PS_DTYPE_STRING && k < p->max_map; k++)
        PS_TRY(ps_tensor_set_string(ctx->out[0], (size_t)k, "0.f", 3, err)); /* what ONNX Runtime fills in */
    for (size_t k = 0; k < n; k++) {
        int64_t to = p->sparse ? entries[k].key : (int64_t)k;
        PS_NODE_FAIL_IF(to < 0, ctx->node, err, INVALID, "key %lld is negative", (long long)to);
        if (p->sparse && to >= p->max_map) break;
        PS_TRY(cast_value(ctx, values, entries[k].index, (size_t)to, err));
    }
    return PS_OK;
}

static ps_status cast_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *keys, *values;
    PS_TRY(map_parts(ctx, &keys, &values, err));
    PS_NODE_FAIL_IF(keys->dtype != PS_DTYPE_I64, ctx->node, err, TYPE, "the keys are %s, not i64",
                    ps_dtype_name(keys->dtype));
    size_t n = ps_tensor_count(keys);
    map_entry *entries = ps_alloc_array(ctx->alloc, n, sizeof *entries);
    if (!entries) return PS_FAIL_NOMEM(err, "the entries of a map");
    for (size_t k = 0; k < n; k++)
        entries[k] = (map_entry) { ((const int64_t *)keys->data)[k], k };
    if (n) qsort(entries, n, sizeof *entries, by_key);
    ps_status status = cast_entries(ctx, values, entries, n, err);
    ps_free(ctx->alloc, entries);
    return status;
}

/* ---- DictVectorizer ---- */
typedef struct dict_params {
    ps_ints int64_vocabulary;
    ps_strings string_vocabulary;
    ps_ml_keys keys;
} dict_params;

static const ps_attr_def dict_attrs[] = { PS_A_INTS(dict_params, int64_vocabulary),
                                          PS_A_STRINGS(dict_params, string_vocabulary), PS_ATTRS_END };

static ps_status dict_prepare(ps_node *node, ps_error *err) {
    dict_params *p = node->params;
    ps_arena *arena = &node->graph->root->arena;
    PS_NODE_FAIL_IF((p->int64_vocabulary.n > 0) == (p->string_vocabulary.n > 0), node, err, FORMAT,
                    "one of int64_vocabulary and string_vocabulary is needed, and only one");
    if (p->string_vocabulary.n)
        return ps_ml_keys_strings(arena, p->string_vocabulary.data, p->string_vocabulary.n, false, &p->keys, err);
    return ps_ml_keys_ints(arena, p->int64_vocabulary.data, p->int64_vocabulary.n, false, &p->keys, err);
}

static ps_status dict_infer(const ps_node *node, ps_error *err) {
    const dict_params *p = node->params;
    ps_shape shape = { 2, { 1, (int64_t)p->keys.n } };
    PS_TRY(check_map(node, err));
    return ps_infer_checked(node, 0, node->in[0]->elem, &shape, err);
}

static ps_status dict_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const dict_params *p = ctx->params;
    const ps_tensor *keys, *values;
    ps_shape shape = { 2, { 1, (int64_t)p->keys.n } };
    PS_TRY(map_parts(ctx, &keys, &values, err));
    PS_NODE_FAIL_IF(keys->dtype != (p->string_vocabulary.n ? PS_DTYPE_STRING : PS_DTYPE_I64), ctx->node, err, TYPE,
                    "the keys are %s, the vocabulary is not", ps_dtype_name(keys->dtype));
    PS_NODE_FAIL_IF(ps_dtype_size(values->dtype) == 0, ctx->node, err, UNSUPPORTED, "values of type %s",
                    ps_dtype_name(values->dtype));
    PS_TRY(ps_move_output(ctx, 0, values->dtype, &shape, err));
    if (values->dtype != PS_DTYPE_STRING && ctx->out[0]->bytes) memset(ctx->out[0]->data, 0, ctx->out[0]->bytes);
    for (size_t k = 0, n = ps_tensor_count(keys); k < n; k++) {
        int64_t to = ps_ml_find_element(&p->keys, keys, k);
        if (to >= 0) PS_TRY(ps_move_run(ctx->out[0], to, values, (int64_t)k, 1, err));
    }
    return PS_OK;
}

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits, preparation */
    { "ZipMap", "ai.onnx.ml", 1, 1, 1, 1, 1, zip_attrs, sizeof(zip_params), zip_infer, zip_ref, 0 },
    { "CastMap", "ai.onnx.ml", 1, 1, 1, 1, 1, cast_attrs, sizeof(cast_params), cast_infer, cast_ref,
      PS_OP_CONTAINERS | PS_OP_DATA_SHAPE, cast_prepare },
    { "DictVectorizer", "ai.onnx.ml", 1, 1, 1, 1, 1, dict_attrs, sizeof(dict_params), dict_infer, dict_ref,
      PS_OP_CONTAINERS, dict_prepare },
};

const ps_op_family ps_ops_ml_map = PS_OP_FAMILY("ml_map", ops);
