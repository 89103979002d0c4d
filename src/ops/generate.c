/* generate.c - operators that make tensors from attributes, shapes or scalars: Constant, ConstantOfShape, Range,
 * EyeLike.
 *
 * Source: ONNX operator specs, ai.onnx opsets 1 to 23. */
#include <math.h>

#include "ops/kernel_util.h"
#include "ops/move.h"
#include "tensor/convert.h"

/* ---- Constant ---- */
typedef struct constant_params {
    ps_tensor *value;
    float value_float;
    int64_t value_int;
    const char *value_string;
    ps_floats value_floats;
    ps_ints value_ints;
    ps_strings value_strings;
} constant_params;

static const ps_attr_def constant_attrs[] = {
    PS_A_TENSOR(constant_params, value),          PS_A_FLOAT(constant_params, value_float, 0),
    PS_A_INT(constant_params, value_int, 0),      PS_A_STR(constant_params, value_string, NULL),
    PS_A_FLOATS(constant_params, value_floats),   PS_A_INTS(constant_params, value_ints),
    PS_A_STRINGS(constant_params, value_strings), PS_ATTRS_END
};

/* The one attribute that holds the value; which one it is decides dtype and rank. */
static ps_status constant_attr(const ps_node *node, const ps_attr **ret, ps_dtype *dtype, ps_shape *shape,
                               ps_error *err) {
    static const struct {
        const char *name;
        ps_dtype dtype;
        int rank;
    } forms[] = { { "value", PS_DTYPE_UNDEFINED, 0 },     { "value_float", PS_DTYPE_F32, 0 },
                  { "value_floats", PS_DTYPE_F32, 1 },    { "value_int", PS_DTYPE_I64, 0 },
                  { "value_ints", PS_DTYPE_I64, 1 },      { "value_string", PS_DTYPE_STRING, 0 },
                  { "value_strings", PS_DTYPE_STRING, 1 } };
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        const ps_attr *attr = ps_node_attr(node, forms[k].name);
        if (!attr) continue;
        *ret = attr;
        *dtype = k == 0 ? attr->u.tensor->dtype : forms[k].dtype;
        *shape = k == 0 ? attr->u.tensor->shape : (ps_shape) { forms[k].rank, { (int64_t)attr->n } };
        return PS_OK;
    }
    return PS_FAIL(err, UNSUPPORTED, "%s: there is no dense value (sparse_value is not supported)", PS_LABEL(node));
}

static ps_status constant_infer(const ps_node *node, ps_error *err) {
    const ps_attr *attr;
    ps_dtype dtype;
    ps_shape shape;
    PS_TRY(constant_attr(node, &attr, &dtype, &shape, err));
    return ps_infer_checked(node, 0, dtype, &shape, err);
}

static ps_status constant_strings(ps_tensor *out, const ps_attr *attr, ps_error *err) {
    if (attr->type == PS_ATTR_STRING) return ps_tensor_set_string(out, 0, attr->u.s, attr->n, err);
    for (size_t k = 0; k < attr->n; k++)
        PS_TRY(ps_tensor_set_string(out, k, attr->u.strings[k], strlen(attr->u.strings[k]), err));
    return PS_OK;
}

static ps_status constant_tensor(ps_tensor *out, const ps_tensor *value, ps_error *err) {
    if (value->dtype != PS_DTYPE_STRING) {
        if (value->bytes) memcpy(out->data, value->data, value->bytes);
        return PS_OK;
    }
    const ps_string *s = value->data;
    for (size_t k = 0; k < ps_tensor_count(value); k++)
        PS_TRY(ps_tensor_set_string(out, k, s[k].data ? s[k].data : "", s[k].size, err));
    return PS_OK;
}

static ps_status constant_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_attr *attr;
    ps_dtype dtype;
    ps_shape shape;
    PS_TRY(constant_attr(ctx->node, &attr, &dtype, &shape, err));
    PS_TRY(ps_move_output(ctx, 0, dtype, &shape, err));
    ps_tensor *out = ctx->out[0];
    switch (attr->type) {
    case PS_ATTR_TENSOR: return constant_tensor(out, attr->u.tensor, err);
    case PS_ATTR_FLOAT: memcpy(out->data, &attr->u.f, sizeof attr->u.f); break;
    case PS_ATTR_INT: memcpy(out->data, &attr->u.i, sizeof attr->u.i); break;
    case PS_ATTR_FLOATS:
        if (attr->n) memcpy(out->data, attr->u.floats, attr->n * sizeof *attr->u.floats);
        break;
    case PS_ATTR_INTS:
        if (attr->n) memcpy(out->data, attr->u.ints, attr->n * sizeof *attr->u.ints);
        break;
    default: return constant_strings(out, attr, err);
    }
    return PS_OK;
}

/* ---- ConstantOfShape ---- */
typedef struct of_shape_params {
    ps_tensor *value; /* one element; NULL: f32 zero */
} of_shape_params;

static const ps_attr_def of_shape_attrs[] = { PS_A_TENSOR(of_shape_params, value), PS_ATTRS_END };

static ps_status of_shape_resolve(const ps_facts *f, ps_dtype *dtype, ps_shape *out, ps_error *err) {
    const of_shape_params *p = f->node->params;
    *dtype = p->value ? p->value->dtype : PS_DTYPE_F32;
    PS_FAIL_IF(p->value && ps_tensor_count(p->value) != 1, err, INVALID, "%s: value holds %zu elements, it must be one",
               PS_LABEL(f->node), ps_tensor_count(p->value));
    *out = (ps_shape) { 0, { 0 } };
    size_t n;
    bool known;
    PS_TRY(ps_facts_ints(f, 0, "the shape", out->dims, PS_MAX_RANK, &n, &known, err));
    int64_t length = known ? (int64_t)n : ps_facts_length(f, 0);
    out->rank = (int32_t)length; /* -1 where unknown */
    for (int d = 0; d < out->rank; d++) {
        PS_FAIL_IF(known && out->dims[d] < 0, err, SHAPE, "%s: dim %d is %lld", PS_LABEL(f->node), d,
                   (long long)out->dims[d]);
        if (!known) out->dims[d] = PS_DIM_UNKNOWN;
    }
    return PS_OK;
}

static ps_status of_shape_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_dtype dtype;
    ps_shape out;
    PS_TRY(of_shape_resolve(&f, &dtype, &out, err));
    return ps_infer_checked(node, 0, dtype, &out, err);
}

/* Copies of one element of a type packed below one byte; the bits behind the last one are 0. */
static void fill_packed(ps_tensor *out, const ps_tensor *value) {
    const size_t bits = ps_dtype_bits(out->dtype), used = ps_tensor_count(out) * bits % 8;
    uint8_t *to = out->data, pattern[6] = { 0 }; /* eight elements: as many bytes as an element has bits */
    for (size_t i = 0; i < 8; i++)
        ps_packed_set(pattern, i, (unsigned)bits, *(const uint8_t *)value->data);
    for (size_t i = 0; i < out->bytes; i++)
        to[i] = pattern[i % bits];
    if (used) to[out->bytes - 1] &= (uint8_t)((1u << used) - 1);
}

static ps_status of_shape_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    static const uint8_t zero[16] = { 0 };
    const of_shape_params *p = ctx->params;
    ps_facts f = ps_facts_ctx(ctx);
    ps_dtype dtype;
    ps_shape shape;
    PS_TRY(of_shape_resolve(&f, &dtype, &shape, err));
    if (!ps_dtype_size(dtype)) {
        PS_TRY(ps_move_output(ctx, 0, dtype, &shape, err));
        fill_packed(ctx->out[0], p->value);
        return PS_OK;
    }
    ps_move m;
    PS_TRY(ps_move_begin(ctx, 0, dtype, &shape, &m, err));
    ps_move_fill(m.dst, p->value ? p->value->data : zero, m.size, (int64_t)ps_tensor_count(m.out));
    return ps_move_end(&m, PS_OK, err);
}

/* ---- Range: start, start + delta … below limit ----
 * f16 and bf16 count in stash_type, f32 unless told otherwise, all other types in their own. */
typedef struct range_params {
    int64_t stash_type;
} range_params;

static const ps_attr_def range_attrs[] = { PS_A_INT(range_params, stash_type, PS_DTYPE_F32), PS_ATTRS_END };

typedef struct range {
    bool floating, wide; /* wide: floats are counted in f64, else in f32 */
    double start, delta;
    int64_t istart, idelta;
    int64_t count;
} range;

static bool range_int(const ps_facts *f, size_t i, int64_t *ret) {
    size_t n;
    bool known;
    return ps_facts_ints(f, i, "a bound", ret, 1, &n, &known, NULL) == PS_OK && known && n == 1;
}

static ps_status range_count_int(const ps_facts *f, int64_t limit, range *r, ps_error *err) {
    PS_FAIL_IF(r->idelta == 0, err, INVALID, "%s: delta is 0", PS_LABEL(f->node));
    bool up = r->idelta > 0;
    if (up ? limit <= r->istart : limit >= r->istart) return PS_OK;
    uint64_t span = up ? (uint64_t)limit - (uint64_t)r->istart : (uint64_t)r->istart - (uint64_t)limit;
    uint64_t pace = up ? (uint64_t)r->idelta : 0 - (uint64_t)r->idelta;
    uint64_t count = (span - 1) / pace + 1;
    PS_FAIL_IF(count > INT64_MAX, err, LIMIT, "%s: %llu elements are too many", PS_LABEL(f->node),
               (unsigned long long)count);
    r->count = (int64_t)count;
    return PS_OK;
}

static ps_status range_count_float(const ps_facts *f, double limit, range *r, ps_error *err) {
    PS_FAIL_IF(r->delta == 0, err, INVALID, "%s: delta is 0", PS_LABEL(f->node));
    double span = r->wide ? limit - r->start : (double)((float)limit - (float)r->start);
    double count = ceil(span / r->delta);
    PS_FAIL_IF(!(count < 0x1p62), err, LIMIT, "%s: %g elements are too many", PS_LABEL(f->node), count);
    r->count = count > 0 ? (int64_t)count : 0;
    return PS_OK;
}

/* *known is false if a bound is not constant. */
static ps_status range_resolve(const ps_facts *f, range *r, bool *known, ps_error *err) {
    *r = (range) { .count = 0 };
    *known = false;
    ps_dtype dtype = ps_facts_dtype(f, 0);
    for (size_t i = 0; i < 3; i++) {
        int64_t n = ps_facts_length(f, i);
        PS_FAIL_IF(n >= 0 && n != 1, err, SHAPE, "%s: input %zu has %lld elements, one is needed", PS_LABEL(f->node), i,
                   (long long)n);
    }
    if (dtype == PS_DTYPE_UNDEFINED) return PS_OK;
    r->floating = ps_dtype_is_float(dtype);
    if (r->floating) {
        double limit;
        const range_params *p = f->node->params;
        bool half = dtype == PS_DTYPE_F16 || dtype == PS_DTYPE_BF16;
        r->wide = half ? p->stash_type == PS_DTYPE_F64 : dtype == PS_DTYPE_F64;
        PS_FAIL_IF(half && !r->wide && p->stash_type != PS_DTYPE_F32, err, TYPE,
                   "%s: stash_type is %lld, it must be 1 (f32) or 11 (f64)", PS_LABEL(f->node),
                   (long long)p->stash_type);
        *known = ps_facts_double(f, 0, &r->start) && ps_facts_double(f, 1, &limit);
        r->delta = 1;
        if (ps_facts_has(f, 2)) *known &= ps_facts_double(f, 2, &r->delta);
        return *known ? range_count_float(f, limit, r, err) : PS_OK;
    }
    int64_t limit;
    PS_FAIL_IF(!ps_dtype_is_int(dtype), err, TYPE, "%s: element type %s is no number", PS_LABEL(f->node),
               ps_dtype_name(dtype));
    *known = range_int(f, 0, &r->istart) && range_int(f, 1, &limit);
    r->idelta = 1; /* com.microsoft's may be omitted */
    if (ps_facts_has(f, 2)) *known &= range_int(f, 2, &r->idelta);
    return *known ? range_count_int(f, limit, r, err) : PS_OK;
}

static ps_status range_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    range r;
    bool known;
    PS_TRY(ps_check_same_type(node, 1, 0, err));
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    PS_TRY(range_resolve(&f, &r, &known, err));
    ps_shape out = { 1, { known ? r.count : PS_DIM_UNKNOWN } };
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

static ps_status range_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    range r;
    bool known;
    PS_TRY(range_resolve(&f, &r, &known, err));
    PS_FAIL_IF(!known, err, TYPE, "%s: the bounds are not single numbers", PS_LABEL(ctx->node));
    ps_shape shape = { 1, { r.count } };
    ps_dtype dtype = ctx->in[0]->dtype;
    PS_TRY(ps_move_output(ctx, 0, dtype, &shape, err));
    void *out = ctx->out[0]->data;
    for (int64_t k = 0; k < r.count; k++) {
        uint64_t whole = (uint64_t)r.istart + (uint64_t)k * (uint64_t)r.idelta;
        double v = (double)(int64_t)whole;
        if (r.floating && r.wide)
            v = r.start + (double)k * r.delta;
        else if (r.floating) /* product and sum round in f32 */
            v = (double)((float)r.start + (float)k * (float)r.delta);
        if (dtype == PS_DTYPE_I64 || dtype == PS_DTYPE_U64)
            ((uint64_t *)out)[k] = whole;
        else
            ps_row_store(out, dtype, k, 1, &v, 1);
    }
    return PS_OK;
}

/* ---- EyeLike ---- */
typedef struct eye_params {
    int64_t dtype, k;
} eye_params;

static const ps_attr_def eye_attrs[] = { PS_A_INT(eye_params, dtype, 0), PS_A_INT(eye_params, k, 0), PS_ATTRS_END };

static ps_status eye_infer(const ps_node *node, ps_error *err) {
    const eye_params *p = node->params;
    ps_dtype dtype = p->dtype ? (ps_dtype)p->dtype : node->in[0]->dtype;
    bool number = p->dtype >= 0 && p->dtype < PS_DTYPE_COUNT &&
                  (ps_dtype_is_float(dtype) || ps_dtype_is_int(dtype) || dtype == PS_DTYPE_BOOL);
    PS_FAIL_IF(dtype != PS_DTYPE_UNDEFINED && !number, err, TYPE, "%s: dtype %lld is no number type", PS_LABEL(node),
               (long long)dtype);
    const ps_shape *in = &node->in[0]->shape;
    PS_FAIL_IF(in->rank >= 0 && in->rank != 2, err, SHAPE, "%s: input %s is no matrix", PS_LABEL(node),
               PS_SHAPE_TEXT(in));
    return ps_infer_checked(node, 0, dtype, in, err);
}

static ps_status eye_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const eye_params *p = ctx->params;
    const ps_shape *s = &ctx->in[0]->shape;
    ps_dtype dtype = p->dtype ? (ps_dtype)p->dtype : ctx->in[0]->dtype;
    PS_TRY(ps_move_output(ctx, 0, dtype, s, err));
    ps_tensor *out = ctx->out[0];
    if (out->bytes) memset(out->data, 0, out->bytes);
    const double one = 1;
    for (int64_t row = 0; row < s->dims[0]; row++) {
        bool inside = p->k >= -row && p->k < s->dims[1] - row;
        if (inside) ps_row_store(out->data, dtype, row * s->dims[1] + row + p->k, 1, &one, 1);
    }
    return PS_OK;
}

static const ps_op ops[] = {
    { "Constant", "", 1, 0, 0, 1, 1, constant_attrs, sizeof(constant_params), constant_infer, constant_ref, 0 },
    { "ConstantOfShape", "", 9, 1, 1, 1, 1, of_shape_attrs, sizeof(of_shape_params), of_shape_infer, of_shape_ref,
      PS_OP_EXPANDS },
    { "Range", "", 11, 3, 3, 1, 1, range_attrs, sizeof(range_params), range_infer, range_ref, 0 },
    { "Range", "com.microsoft", 1, 2, 3, 1, 1, range_attrs, sizeof(range_params), range_infer, range_ref, 0 },
    { "EyeLike", "", 9, 1, 1, 1, 1, eye_attrs, sizeof(eye_params), eye_infer, eye_ref, 0 },
};

const ps_op_family ps_ops_generate = PS_OP_FAMILY("generate", ops);
