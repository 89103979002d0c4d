/* Making nodes: every helper does nothing once the builder has failed. */
#include <string.h>

#include "tensor/convert.h"
#include "torch/aten.h"

void ps_tb_no_memory(ps_tb *b) {
    if (b->status == PS_OK) b->status = PS_FAIL_NOMEM(b->err, "the program's graph");
}

static bool ok(ps_tb *b, ps_status status) {
    if (status != PS_OK && b->status == PS_OK) b->status = status;
    return b->status == PS_OK;
}

/* ---- facts ---- */

/* Runs the shape rules over what was made since the last question. */
static void infer(ps_tb *b) {
    ps_node *n = b->inferred ? b->inferred->next : b->g->first;
    for (; n && b->status == PS_OK; n = n->next) {
        if (!ok(b, ps_ops_resolve_node(n, b->err)) || !ok(b, ps_ops_infer_node(n, b->err))) {
            ps_error_prefix(b->err, "%s", b->label);
            return;
        }
        b->inferred = n;
    }
}

ps_dtype ps_tb_dtype(ps_tb *b, ps_value *v) {
    if (!v || b->status != PS_OK) return PS_DTYPE_UNDEFINED;
    if (v->dtype == PS_DTYPE_UNDEFINED) infer(b);
    if (v->dtype == PS_DTYPE_UNDEFINED)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: the type of '%s' is not known", b->label, v->name);
    return v->dtype;
}

static const ps_shape *shape_of(ps_tb *b, ps_value *v) {
    if (v->shape.rank < 0) infer(b);
    return v->shape.rank < 0 ? &v->declared_shape : &v->shape;
}

int ps_tb_rank(ps_tb *b, ps_value *v) {
    if (!v || b->status != PS_OK) return 0;
    int rank = shape_of(b, v)->rank;
    if (rank < 0) PS_TB_FAIL(b, UNSUPPORTED, "%s: the rank of '%s' is not known", b->label, v->name);
    return rank < 0 ? 0 : rank;
}

int64_t ps_tb_dim(ps_tb *b, ps_value *v, int axis) {
    if (!v || b->status != PS_OK) return PS_DIM_UNKNOWN;
    const ps_shape *s = shape_of(b, v);
    if (axis < 0) axis += s->rank;
    return s->rank >= 0 && axis >= 0 && axis < s->rank ? s->dims[axis] : PS_DIM_UNKNOWN;
}

/* ---- nodes ---- */

static const char *node_name(const ps_tb *b) {
    const char *name = json_string_value(json_object_get(b->node, "name"));
    if (name && *name) return name;
    const char *kind;
    const json_t *first = ps_json_union(json_array_get(b->outputs, 0), &kind);
    name = json_string_value(json_object_get(first, "name"));
    return name ? name : "";
}

void ps_tb_emit_n(ps_tb *b, const char *op, ps_value *const *in, size_t n_in, ps_value **out, size_t n_out) {
    for (size_t i = 0; i < n_out; i++)
        out[i] = NULL;
    for (size_t i = 0; i < n_out; i++) {
        if (b->status != PS_OK || !ok(b, ps_graph_add_value(b->g, NULL, &out[i], b->err))) return;
    }
    while (n_in && !in[n_in - 1]) /* trailing optional inputs */
        n_in--;
    ok(b, ps_graph_add_node(b->g, NULL, op, "", node_name(b), in, n_in, out, n_out, &b->last, b->err));
}

ps_value *ps_tb_emit(ps_tb *b, const char *op, ps_value *const *in, size_t n_in) {
    ps_value *out;
    ps_tb_emit_n(b, op, in, n_in, &out, 1);
    return b->status == PS_OK ? out : NULL;
}

void ps_tb_set_int(ps_tb *b, const char *name, int64_t v) {
    if (b->status == PS_OK) ok(b, ps_node_set_int(b->last, name, v, b->err));
}

void ps_tb_set_float(ps_tb *b, const char *name, double v) {
    if (b->status == PS_OK) ok(b, ps_node_set_float(b->last, name, (float)v, b->err));
}

void ps_tb_set_text(ps_tb *b, const char *name, const char *v) {
    if (b->status == PS_OK) ok(b, ps_node_set_string(b->last, name, v, b->err));
}

void ps_tb_set_ints(ps_tb *b, const char *name, const int64_t *v, size_t n) {
    if (b->status == PS_OK) ok(b, ps_node_set_ints(b->last, name, v, n, b->err));
}

/* ---- constants ---- */

static ps_value *hold(ps_tb *b, ps_tensor *t) {
    ps_value *v = NULL;
    ok(b, ps_graph_add_constant(b->g, NULL, t, &v, b->err));
    ps_tensor_release(t);
    return b->status == PS_OK ? v : NULL;
}

ps_value *ps_tb_constant(ps_tb *b, ps_dtype dtype, const int64_t *dims, int rank, const void *data) {
    ps_tensor *t;
    ps_shape shape = { .rank = rank };
    for (int i = 0; i < rank; i++)
        shape.dims[i] = dims[i];
    if (b->status != PS_OK || !ok(b, ps_tensor_new(b->alloc, dtype, &shape, &t, b->err))) return NULL;
    if (t->bytes) memcpy(t->data, data, t->bytes);
    return hold(b, t);
}

ps_value *ps_tb_vector(ps_tb *b, const int64_t *v, size_t n) {
    int64_t dim = (int64_t)n;
    return ps_tb_constant(b, PS_DTYPE_I64, &dim, 1, v);
}

ps_value *ps_tb_one(ps_tb *b, int64_t v) {
    return ps_tb_vector(b, &v, 1);
}

ps_value *ps_tb_scalar(ps_tb *b, ps_dtype dtype, double v) {
    uint8_t bytes[16] = { 0 };
    if (b->status == PS_OK && !ps_convert(&v, PS_DTYPE_F64, bytes, dtype, 1, false))
        PS_TB_FAIL(b, UNSUPPORTED, "%s: no number can be made of type %s", b->label, ps_dtype_name(dtype));
    return ps_tb_constant(b, dtype, NULL, 0, bytes);
}

/* A one-element constant in another type or without its dim, made now rather than by a node. */
static ps_value *remake(ps_tb *b, const ps_value *v, ps_dtype dtype, int rank) {
    static const int64_t one = 1;
    uint8_t bytes[16] = { 0 };
    const ps_tensor *t = v->constant;
    if (!t || ps_tensor_count(t) != 1 || t->dtype == PS_DTYPE_STRING || ps_dtype_size(dtype) == 0) return NULL;
    if (!ps_convert(t->data, t->dtype, bytes, dtype, 1, false)) return NULL;
    return ps_tb_constant(b, dtype, &one, rank, bytes);
}

ps_value *ps_tb_cast(ps_tb *b, ps_value *v, ps_dtype dtype) {
    if (!v || ps_tb_dtype(b, v) == dtype || b->status != PS_OK) return v;
    if (v->constant && v->shape.rank <= 1) {
        ps_value *made = remake(b, v, dtype, v->shape.rank);
        if (made || b->status != PS_OK) return made;
    }
    ps_value *cast = PS_OP(b, "Cast", v);
    ps_tb_set_int(b, "to", (int64_t)dtype); /* our numbers are ONNX's */
    return cast;
}

/* ---- shapes ---- */

ps_value *ps_tb_shape(ps_tb *b, ps_value *v) {
    return PS_OP(b, "Shape", v);
}

ps_value *ps_tb_extent(ps_tb *b, ps_value *v, int axis) {
    int rank = ps_tb_rank(b, v);
    int64_t known = ps_tb_dim(b, v, axis);
    if (axis < 0) axis += rank;
    if (v && v->shape.rank >= 0 && known >= 0) return ps_tb_one(b, known);
    ps_value *shape = PS_OP(b, "Shape", v);
    ps_tb_set_int(b, "start", axis);
    ps_tb_set_int(b, "end", axis + 1);
    return shape;
}

ps_value *ps_tb_reshape(ps_tb *b, ps_value *v, ps_value *shape) {
    int64_t dims[PS_MAX_RANK * 2];
    size_t n = 0;
    bool zero = false, rest = false;
    if (shape && shape->constant && ps_tensor_get_ints(shape->constant, dims, PS_MAX_RANK * 2, &n)) {
        for (size_t i = 0; i < n; i++) {
            zero |= dims[i] == 0;
            rest |= dims[i] == -1;
        }
    }
    ps_value *r = PS_OP(b, "Reshape", v, shape);
    if (zero && !rest) ps_tb_set_int(b, "allowzero", 1);
    return r;
}

ps_value *ps_tb_reshape_to(ps_tb *b, ps_value *v, const int64_t *dims, size_t n) {
    return PS_OP(b, "Reshape", v, ps_tb_vector(b, dims, n));
}

ps_value *ps_tb_transpose(ps_tb *b, ps_value *v, const int64_t *perm, size_t n) {
    ps_value *r = PS_OP(b, "Transpose", v);
    ps_tb_set_ints(b, "perm", perm, n);
    return r;
}

ps_value *ps_tb_swap(ps_tb *b, ps_value *v, int a, int c) {
    int64_t perm[PS_MAX_RANK];
    int rank = ps_tb_rank(b, v);
    if (a < 0) a += rank;
    if (c < 0) c += rank;
    if (a == c || b->status != PS_OK) return v;
    for (int i = 0; i < rank; i++)
        perm[i] = i == a ? c : i == c ? a : i;
    return ps_tb_transpose(b, v, perm, (size_t)rank);
}

ps_value *ps_tb_unsqueeze(ps_tb *b, ps_value *v, int64_t axis) {
    return PS_OP(b, "Unsqueeze", v, ps_tb_one(b, axis));
}

ps_value *ps_tb_squeeze(ps_tb *b, ps_value *v, int64_t axis) {
    if (v && v->constant && v->shape.rank == 1 && b->status == PS_OK) {
        ps_value *made = remake(b, v, v->dtype, 0);
        if (made || b->status != PS_OK) return made;
    }
    return PS_OP(b, "Squeeze", v, ps_tb_one(b, axis));
}

ps_value *ps_tb_slice(ps_tb *b, ps_value *v, int64_t axis, int64_t start, int64_t end) {
    return PS_OP(b, "Slice", v, ps_tb_one(b, start), ps_tb_one(b, end), ps_tb_one(b, axis));
}

ps_value *ps_tb_concat(ps_tb *b, ps_value *const *v, size_t n, int64_t axis) {
    ps_value *r = ps_tb_emit(b, "Concat", v, n);
    ps_tb_set_int(b, "axis", axis);
    return r;
}

ps_value *ps_tb_expand(ps_tb *b, ps_value *v, ps_value *shape) {
    return PS_OP(b, "Expand", v, shape);
}

ps_value *ps_tb_fill(ps_tb *b, ps_value *shape, ps_dtype dtype, double value) {
    static const int64_t one = 1;
    uint8_t bytes[16] = { 0 };
    ps_value *r = PS_OP(b, "ConstantOfShape", shape);
    ps_shape dim = ps_shape_make(1, &one);
    ps_attr attr = { .name = "value", .type = PS_ATTR_TENSOR };
    if (b->status != PS_OK) return NULL;
    if (!ps_convert(&value, PS_DTYPE_F64, bytes, dtype, 1, false)) {
        PS_TB_FAIL(b, UNSUPPORTED, "%s: no number can be made of type %s", b->label, ps_dtype_name(dtype));
        return NULL;
    }
    if (!ok(b, ps_tensor_new(b->alloc, dtype, &dim, &attr.u.tensor, b->err))) return NULL;
    memcpy(attr.u.tensor->data, bytes, attr.u.tensor->bytes);
    ok(b, ps_node_set_attr(b->last, &attr, b->err));
    ps_tensor_release(attr.u.tensor);
    return b->status == PS_OK ? r : NULL;
}

ps_value *ps_tb_reduce(ps_tb *b, const char *op, ps_value *v, const int64_t *axes, size_t n, bool keep) {
    ps_value *r = n ? PS_OP(b, op, v, ps_tb_vector(b, axes, n)) : PS_OP(b, op, v);
    ps_tb_set_int(b, "keepdims", keep);
    return r;
}

ps_value *ps_tb_iota(ps_tb *b, ps_value *n) {
    return PS_OP(b, "Range", ps_tb_scalar(b, PS_DTYPE_I64, 0), ps_tb_squeeze(b, n, 0),
                 ps_tb_scalar(b, PS_DTYPE_I64, 1));
}
