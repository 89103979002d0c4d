/* Matrix products. */
#include <string.h>

#include "torch/aten.h"

static void out(ps_tb *b, ps_value *v) {
    ps_tb_out(b, 0, v);
}

ps_value *ps_torch_linear(ps_tb *b, ps_value *x, ps_value *w, ps_value *bias) {
    if (ps_tb_rank(b, x) == 2 && ps_tb_rank(b, w) == 2) {
        ps_value *r = PS_OP(b, "Gemm", x, w, bias);
        ps_tb_set_int(b, "transB", 1);
        return r;
    }
    ps_value *r = PS_OP(b, "MatMul", x, ps_tb_rank(b, w) == 2 ? ps_tb_swap(b, w, 0, 1) : w);
    return bias ? PS_OP(b, "Add", r, bias) : r;
}

static void linear(ps_tb *b) {
    out(b, ps_torch_linear(b, ps_tb_tensor(b, "input"), ps_tb_tensor(b, "weight"), ps_tb_tensor_or_null(b, "bias")));
}

/* The second operand has one of several names. */
static ps_value *second(ps_tb *b) {
    static const char *const names[] = { "other", "mat2", "vec", "tensor", "vec2" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (ps_tb_has(b, names[i])) return ps_tb_tensor(b, names[i]);
    }
    return ps_tb_tensor(b, "other");
}

static void matmul(ps_tb *b) {
    out(b, PS_OP(b, "MatMul", ps_tb_self(b), second(b)));
}

static ps_value *times(ps_tb *b, ps_value *v, double factor) {
    return factor == 1 ? v : PS_OP(b, "Mul", v, ps_tb_scalar(b, ps_tb_dtype(b, v), factor));
}

/* beta self + alpha mat1 mat2 */
static void addmm(ps_tb *b) {
    ps_value *c = ps_tb_self(b);
    double alpha = ps_tb_double(b, "alpha", 1), beta = ps_tb_double(b, "beta", 1);
    ps_value *r = PS_OP(b, "Gemm", ps_tb_tensor(b, "mat1"), ps_tb_tensor(b, "mat2"), beta == 0 ? NULL : c);
    ps_tb_set_float(b, "alpha", alpha);
    ps_tb_set_float(b, "beta", beta);
    out(b, r);
}

static void add_product(ps_tb *b, const char *left, const char *right) {
    ps_value *c = ps_tb_self(b);
    double alpha = ps_tb_double(b, "alpha", 1), beta = ps_tb_double(b, "beta", 1);
    ps_value *r = times(b, PS_OP(b, "MatMul", ps_tb_tensor(b, left), ps_tb_tensor(b, right)), alpha);
    out(b, beta == 0 ? r : PS_OP(b, "Add", times(b, c, beta), r));
}

static void baddbmm(ps_tb *b) {
    add_product(b, "batch1", "batch2");
}

static void addmv(ps_tb *b) {
    add_product(b, "mat", "vec");
}

static void outer(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *y = second(b);
    out(b, PS_OP(b, "Mul", ps_tb_unsqueeze(b, x, 1), ps_tb_unsqueeze(b, y, 0)));
}

static void einsum(ps_tb *b) {
    size_t n;
    const char *equation = ps_tb_text(b, "equation", "");
    ps_value **list = ps_tb_tensors(b, "tensors", &n);
    ps_value *r = ps_tb_emit(b, "Einsum", list, n);
    ps_tb_set_text(b, "equation", equation);
    out(b, r);
}

static const ps_torch_op ops[] = {
    { "linear", linear, NULL, 0 },   { "matmul", matmul, NULL, 0 }, { "linalg_matmul", matmul, NULL, 0 },
    { "mm", matmul, NULL, 0 },       { "bmm", matmul, NULL, 0 },    { "mv", matmul, NULL, 0 },
    { "dot", matmul, NULL, 0 },      { "vdot", matmul, NULL, 0 },   { "addmm", addmm, NULL, 0 },
    { "baddbmm", baddbmm, NULL, 0 }, { "addmv", addmv, NULL, 0 },   { "outer", outer, NULL, 0 },
    { "ger", outer, NULL, 0 },       { "einsum", einsum, NULL, 0 },
};

const ps_torch_family ps_torch_matmul = PS_TORCH_FAMILY("matmul", ops);
