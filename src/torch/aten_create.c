/* Tensors made of nothing. Random ones are not mapped: a model's answer is the same each time. */
#include <string.h>

#include "torch/aten.h"

static void out(ps_tb *b, ps_value *v) {
    ps_tb_out(b, 0, v);
}

/* The value of a fill: a number known now or not, or a tensor without dims. */
static ps_value *spread(ps_tb *b, ps_value *shape, ps_dtype t, const char *argument) {
    double d;
    if (ps_tb_known(b, argument, &d) && ps_dtype_size(t) > 0) return ps_tb_fill(b, shape, t, d);
    ps_torch_operand value = ps_tb_get(b, argument);
    return ps_tb_expand(b, ps_tb_cast(b, value.v, t), shape);
}

static ps_value *sizes(ps_tb *b) {
    return ps_tb_dims(b, "size");
}

static void full(ps_tb *b) {
    out(b, spread(b, sizes(b), ps_tb_out_dtype(b, 0), "fill_value"));
}

static void full_like(ps_tb *b) {
    out(b, spread(b, ps_tb_shape(b, ps_tb_self(b)), ps_tb_out_dtype(b, 0), "fill_value"));
}

static void zeros(ps_tb *b) {
    out(b, ps_tb_fill(b, sizes(b), ps_tb_out_dtype(b, 0), 0));
}

static void ones(ps_tb *b) {
    out(b, ps_tb_fill(b, sizes(b), ps_tb_out_dtype(b, 0), 1));
}

static void zeros_like(ps_tb *b) {
    out(b, ps_tb_fill(b, ps_tb_shape(b, ps_tb_self(b)), ps_tb_out_dtype(b, 0), 0));
}

static void ones_like(ps_tb *b) {
    out(b, ps_tb_fill(b, ps_tb_shape(b, ps_tb_self(b)), ps_tb_out_dtype(b, 0), 1));
}

static void fill(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, spread(b, ps_tb_shape(b, x), ps_tb_dtype(b, x), "value"));
}

static void scalar_tensor(ps_tb *b) {
    ps_torch_operand v = ps_tb_get(b, "s");
    out(b, v.v);
}

/* A bound of a range without dims, in the range's type. */
static ps_value *bound(ps_tb *b, const char *name, ps_dtype t, double def) {
    if (!ps_tb_has(b, name)) return ps_tb_scalar(b, t, def);
    ps_torch_operand v = ps_tb_get(b, name);
    return ps_tb_cast(b, v.v, t);
}

/* Numbers of a narrow type are counted in a wide one. */
static void arange(ps_tb *b) {
    ps_dtype t = ps_tb_out_dtype(b, 0);
    ps_dtype wide = ps_dtype_is_float(t) ? (t == PS_DTYPE_F64 ? PS_DTYPE_F64 : PS_DTYPE_F32) : PS_DTYPE_I64;
    out(b, PS_OP(b, "Range", bound(b, "start", wide, 0), bound(b, "end", wide, 0), bound(b, "step", wide, 1)));
}

/* start + i (end - start) / (steps - 1) */
static void linspace(ps_tb *b) {
    ps_dtype t = ps_torch_float_type(ps_tb_out_dtype(b, 0));
    int64_t n = ps_tb_int(b, "steps", 100);
    ps_value *start = bound(b, "start", t, 0), *end = bound(b, "end", t, 0);
    ps_value *step = PS_OP(b, "Div", PS_OP(b, "Sub", end, start), ps_tb_scalar(b, t, n > 1 ? (double)(n - 1) : 1));
    ps_value *count = ps_tb_cast(b, ps_tb_iota(b, ps_tb_one(b, n)), t);
    out(b, PS_OP(b, "Add", start, PS_OP(b, "Mul", count, step)));
}

static void eye(ps_tb *b) {
    ps_value *rows = ps_tb_size(b, "n", 0), *columns = ps_tb_has(b, "m") ? ps_tb_size(b, "m", 0) : rows;
    ps_value *i = ps_tb_unsqueeze(b, ps_tb_iota(b, rows), 1), *k = ps_tb_iota(b, columns);
    out(b, PS_OP(b, "Equal", i, k));
}

static const ps_torch_op ops[] = {
    { "full", full, NULL, 0 },
    { "full_like", full_like, NULL, 0 },
    { "new_full", full, NULL, 0 },
    { "zeros", zeros, NULL, 0 },
    { "new_zeros", zeros, NULL, 0 },
    { "zeros_like", zeros_like, NULL, 0 },
    { "zero", zeros_like, NULL, 0 },
    { "empty", zeros, NULL, 0 },
    { "new_empty", zeros, NULL, 0 },
    { "empty_like", zeros_like, NULL, 0 },
    { "empty_permuted", zeros, NULL, 0 },
    { "empty_strided", zeros, NULL, 0 },
    { "new_empty_strided", zeros, NULL, 0 },
    { "ones", ones, NULL, 0 },
    { "new_ones", ones, NULL, 0 },
    { "ones_like", ones_like, NULL, 0 },
    { "fill", fill, NULL, 0 },
    { "scalar_tensor", scalar_tensor, NULL, 0 },
    { "arange", arange, NULL, 0 },
    { "linspace", linspace, NULL, 0 },
    { "eye", eye, NULL, 0 },
};

const ps_torch_family ps_torch_create = PS_TORCH_FAMILY("create", ops);
