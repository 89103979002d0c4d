/* Reductions, running sums, softmax, sorting. */
#include <string.h>

#include "torch/aten.h"

typedef struct axes {
    int64_t at[PS_MAX_RANK];
    size_t n; /* 0: all of them */
    bool keep;
} axes;

static void out(ps_tb *b, ps_value *v) {
    ps_tb_out(b, 0, v);
}

static axes get_axes(ps_tb *b, ps_value *x) {
    axes a = { .keep = ps_tb_bool(b, "keepdim", false) };
    int rank = ps_tb_rank(b, x), axis = 0;
    a.n = ps_tb_ints(b, "dim", a.at, PS_MAX_RANK);
    for (size_t i = 0; i < a.n; i++) {
        if (!ps_axis_normalize(a.at[i], rank ? rank : 1, &axis))
            PS_TB_FAIL(b, FORMAT, "%s: dim %lld of a tensor with %d", b->label, (long long)a.at[i], rank);
        a.at[i] = axis;
    }
    return a;
}

/* A tensor without dims is its own reduction. */
static ps_value *reduced(ps_tb *b, const char *op, ps_value *x, const axes *a) {
    return ps_tb_rank(b, x) == 0 ? x : ps_tb_reduce(b, op, x, a->at, a->n, a->keep);
}

/* The type that a sum is made in: "dtype", else integers and bools in i64. */
static ps_value *summand(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    ps_dtype t = ps_tb_dtype(b, x);
    return ps_tb_cast(b, x, ps_tb_type(b, "dtype", ps_dtype_is_float(t) ? t : PS_DTYPE_I64));
}

static void sum(ps_tb *b) {
    ps_value *x = summand(b);
    axes a = get_axes(b, x);
    out(b, reduced(b, b->op->onnx, x, &a));
}

static void mean(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    axes a = get_axes(b, x);
    x = ps_tb_cast(b, x, ps_tb_type(b, "dtype", ps_torch_float_type(ps_tb_dtype(b, x))));
    out(b, reduced(b, "ReduceMean", x, &a));
}

static void extreme_value(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    axes a = get_axes(b, x);
    out(b, reduced(b, b->op->onnx, x, &a));
}

static ps_value *arg_extreme(ps_tb *b, const char *op, ps_value *x, int64_t axis, bool keep) {
    ps_value *r = PS_OP(b, op, x);
    ps_tb_set_int(b, "axis", axis);
    ps_tb_set_int(b, "keepdims", keep);
    return r;
}

/* max and min: of all, of two tensors, or (value, index) along a dim. ->onnx is "Max" or "Min". */
static void extreme(ps_tb *b) {
    char op[16];
    ps_value *x = ps_tb_self(b);
    if (strcmp(b->overload, "other") == 0) {
        ps_torch_operand o[2] = { ps_tb_as_operand(x), ps_tb_get(b, "other") };
        ps_dtype t = ps_tb_promote(b, o, 2);
        out(b, PS_OP(b, b->op->onnx, ps_tb_cast(b, x, t), ps_tb_cast(b, o[1].v, t)));
        return;
    }
    axes a = get_axes(b, x);
    ps_snprintf(op, sizeof op, "Reduce%s", b->op->onnx);
    out(b, reduced(b, op, x, &a));
    if (a.n == 0 || ps_tb_out_count(b) < 2) return;
    ps_snprintf(op, sizeof op, "Arg%s", b->op->onnx);
    ps_tb_out(b, 1, arg_extreme(b, op, x, a.at[0], a.keep));
}

static void arg(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t all = -1;
    bool whole = !ps_tb_has(b, "dim"), keep = ps_tb_bool(b, "keepdim", false);
    int rank = ps_tb_rank(b, x);
    int64_t axis = ps_tb_axis(b, "dim", 0, rank);
    if (whole || rank == 0) {
        out(b, arg_extreme(b, b->op->onnx, ps_tb_reshape_to(b, x, &all, 1), 0, false));
        return;
    }
    out(b, arg_extreme(b, b->op->onnx, x, axis, keep));
}

static void any_all(ps_tb *b) {
    ps_value *x = ps_tb_cast(b, ps_tb_cast(b, ps_tb_self(b), PS_DTYPE_BOOL), PS_DTYPE_I32);
    axes a = get_axes(b, x);
    out(b, ps_tb_cast(b, reduced(b, b->op->onnx, x, &a), PS_DTYPE_BOOL));
}

static void count_nonzero(ps_tb *b) {
    ps_value *x = ps_tb_cast(b, ps_tb_cast(b, ps_tb_self(b), PS_DTYPE_BOOL), PS_DTYPE_I64);
    axes a = get_axes(b, x);
    out(b, reduced(b, "ReduceSum", x, &a));
}

/* ---- moments ---- */

/* How many elements go into one, as a number of x's type. */
static ps_value *reduced_count(ps_tb *b, ps_value *x, const axes *a) {
    int64_t count = 1;
    bool known = true;
    int rank = ps_tb_rank(b, x);
    size_t n = a->n ? a->n : (size_t)rank;
    for (size_t i = 0; i < n && known; i++) {
        int64_t extent = ps_tb_dim(b, x, a->n ? (int)a->at[i] : (int)i);
        known = extent >= 0 && !__builtin_mul_overflow(count, extent, &count);
    }
    if (known) return ps_tb_scalar(b, ps_tb_dtype(b, x), (double)count);
    ps_value *extents = ps_tb_shape(b, x);
    if (a->n) extents = PS_OP(b, "Gather", extents, ps_tb_vector(b, a->at, a->n));
    return ps_tb_cast(b, ps_tb_reduce(b, "ReduceProd", extents, NULL, 0, false), ps_tb_dtype(b, x));
}

static ps_value *variance(ps_tb *b, ps_value *x, const axes *a, ps_value **ret_mean) {
    double correction = ps_tb_bool(b, "unbiased", true) ? 1 : 0;
    if (ps_tb_has(b, "correction")) correction = ps_tb_double(b, "correction", 1);
    ps_value *center = ps_tb_reduce(b, "ReduceMean", x, a->at, a->n, true);
    ps_value *d = PS_OP(b, "Sub", x, center);
    *ret_mean = ps_tb_reduce(b, "ReduceMean", x, a->at, a->n, a->keep);
    ps_value *squares = PS_OP(b, "Mul", d, d);
    if (correction == 0) return ps_tb_reduce(b, "ReduceMean", squares, a->at, a->n, a->keep);
    ps_value *count = reduced_count(b, x, a);
    ps_value *zero = ps_tb_scalar(b, ps_tb_dtype(b, x), 0);
    count = PS_OP(b, "Max", PS_OP(b, "Sub", count, ps_tb_scalar(b, ps_tb_dtype(b, x), correction)), zero);
    return PS_OP(b, "Div", ps_tb_reduce(b, "ReduceSum", squares, a->at, a->n, a->keep), count);
}

static void moments(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *center;
    axes a = get_axes(b, x);
    ps_value *v = variance(b, x, &a, &center);
    if (strncmp(b->op->name, "std", 3) == 0) v = PS_OP(b, "Sqrt", v);
    out(b, v);
    if (strstr(b->op->name, "_mean")) ps_tb_out(b, 1, center);
}

/* ---- norms ---- */

static ps_value *norm_of(ps_tb *b, ps_value *x, double p, const axes *a) {
    if (p == 2) return ps_tb_reduce(b, "ReduceL2", x, a->at, a->n, a->keep);
    if (p == 1) return ps_tb_reduce(b, "ReduceL1", x, a->at, a->n, a->keep);
    ps_value *m = PS_OP(b, "Abs", x);
    ps_dtype t = ps_tb_dtype(b, x);
    if (p > 1e300) return ps_tb_reduce(b, "ReduceMax", m, a->at, a->n, a->keep);
    if (p < -1e300) return ps_tb_reduce(b, "ReduceMin", m, a->at, a->n, a->keep);
    if (p == 0) {
        m = ps_tb_cast(b, ps_tb_cast(b, m, PS_DTYPE_BOOL), t);
        return ps_tb_reduce(b, "ReduceSum", m, a->at, a->n, a->keep);
    }
    m = ps_tb_reduce(b, "ReduceSum", PS_OP(b, "Pow", m, ps_tb_scalar(b, t, p)), a->at, a->n, a->keep);
    return PS_OP(b, "Pow", m, ps_tb_scalar(b, t, 1 / p));
}

static void norm(ps_tb *b) {
    ps_value *x = ps_tb_float_self(b);
    axes a = get_axes(b, x);
    x = ps_tb_cast(b, x, ps_tb_type(b, "dtype", ps_tb_dtype(b, x)));
    const char *order = ps_tb_has(b, "ord") ? "ord" : "p";
    out(b, norm_of(b, x, ps_tb_double(b, order, 2), &a));
}

static void logsumexp(ps_tb *b) {
    ps_value *x = ps_tb_float_self(b);
    axes a = get_axes(b, x);
    out(b, reduced(b, "ReduceLogSumExp", x, &a));
}

/* ---- along one dim ---- */

static void cumsum(ps_tb *b) {
    ps_value *x = summand(b);
    int rank = ps_tb_rank(b, x);
    int64_t axis = ps_tb_axis(b, "dim", 0, rank);
    out(b, rank ? PS_OP(b, "CumSum", x, ps_tb_scalar(b, PS_DTYPE_I64, (double)axis)) : x);
}

ps_value *ps_torch_softmax(ps_tb *b, ps_value *x, int64_t axis) {
    ps_value *r = PS_OP(b, "Softmax", x);
    ps_tb_set_int(b, "axis", axis);
    return r;
}

static void softmax(ps_tb *b) {
    ps_value *x = ps_tb_float_self(b);
    bool flat = ps_tb_rank(b, x) == 0; /* one element: as a vector */
    x = ps_tb_cast(b, x, ps_tb_type(b, "dtype", ps_tb_dtype(b, x)));
    int64_t axis = ps_tb_axis(b, "dim", -1, ps_tb_rank(b, x));
    ps_value *r = PS_OP(b, b->op->onnx, flat ? ps_tb_unsqueeze(b, x, 0) : x);
    ps_tb_set_int(b, "axis", axis);
    out(b, flat ? ps_tb_squeeze(b, r, 0) : r);
}

/* ---- order ---- */

static void top(ps_tb *b, ps_value *x, ps_value *k, int64_t axis, bool largest, ps_value **ret) {
    ps_value *in[2] = { x, k };
    ps_tb_emit_n(b, "TopK", in, 2, ret, 2);
    ps_tb_set_int(b, "axis", axis);
    ps_tb_set_int(b, "largest", largest);
    ps_tb_set_int(b, "sorted", 1);
}

static void topk(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *r[2];
    int64_t axis = ps_tb_axis(b, "dim", -1, ps_tb_rank(b, x));
    top(b, x, ps_tb_size(b, "k", 1), axis, ps_tb_bool(b, "largest", true), r);
    out(b, r[0]);
    ps_tb_out(b, 1, r[1]);
}

static void sort(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *r[2];
    int64_t axis = ps_tb_axis(b, "dim", -1, ps_tb_rank(b, x));
    top(b, x, ps_tb_extent(b, x, (int)axis), axis, ps_tb_bool(b, "descending", false), r);
    bool indices = strcmp(b->op->name, "argsort") == 0;
    out(b, r[indices]);
    if (!indices) ps_tb_out(b, 1, r[1]);
}

static const ps_torch_op ops[] = {
    { "sum", sum, "ReduceSum", 0 },
    { "prod", sum, "ReduceProd", 0 },
    { "mean", mean, NULL, 0 },
    { "amax", extreme_value, "ReduceMax", 0 },
    { "amin", extreme_value, "ReduceMin", 0 },
    { "max", extreme, "Max", 0 },
    { "min", extreme, "Min", 0 },
    { "argmax", arg, "ArgMax", 0 },
    { "argmin", arg, "ArgMin", 0 },
    { "any", any_all, "ReduceMax", 0 },
    { "all", any_all, "ReduceMin", 0 },
    { "count_nonzero", count_nonzero, NULL, 0 },
    { "var", moments, NULL, 0 },
    { "std", moments, NULL, 0 },
    { "var_mean", moments, NULL, 0 },
    { "std_mean", moments, NULL, 0 },
    { "norm", norm, NULL, 0 },
    { "linalg_vector_norm", norm, NULL, 0 },
    { "logsumexp", logsumexp, NULL, 0 },
    { "cumsum", cumsum, NULL, 0 },
    { "softmax", softmax, "Softmax", 0 },
    { "_softmax", softmax, "Softmax", 0 },
    { "_safe_softmax", softmax, "Softmax", 0 },
    { "special_softmax", softmax, "Softmax", 0 },
    { "log_softmax", softmax, "LogSoftmax", 0 },
    { "_log_softmax", softmax, "LogSoftmax", 0 },
    { "topk", topk, NULL, 0 },
    { "sort", sort, NULL, 0 },
    { "argsort", sort, NULL, 0 },
};

const ps_torch_family ps_torch_reduce = PS_TORCH_FAMILY("reduce", ops);
