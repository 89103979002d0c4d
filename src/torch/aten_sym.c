/* Symbolic numbers, what is asserted of them, and subgraphs. A number is a vector of one element. */
#include <string.h>

#include "torch/aten.h"

static void out(ps_tb *b, ps_value *v) {
    ps_tb_out(b, 0, v);
}

static void sym_size(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, ps_tb_extent(b, x, (int)ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x))));
}

static void sym_numel(ps_tb *b) {
    out(b, ps_tb_unsqueeze(b, PS_OP(b, "Size", ps_tb_self(b)), 0));
}

/* ---- arithmetic ---- */

/* Arguments of Python functions are named a and b; those of others by their position. */
static ps_value *argument(ps_tb *b, size_t i) {
    const char *own = json_string_value(json_object_get(json_array_get(b->inputs, i), "name"));
    ps_value *v = own ? ps_tb_number(b, own) : NULL;
    if (!v) PS_TB_FAIL(b, FORMAT, "%s: argument %zu is no number", b->label, i);
    return v;
}

typedef struct pair {
    ps_value *a, *c;
    ps_dtype t;
} pair;

/* Python's numbers: an integer beside a float becomes one. */
static pair both(ps_tb *b) {
    pair p = { argument(b, 0), argument(b, 1), PS_DTYPE_I64 };
    if (ps_tb_dtype(b, p.a) == PS_DTYPE_F64 || ps_tb_dtype(b, p.c) == PS_DTYPE_F64) p.t = PS_DTYPE_F64;
    p.a = ps_tb_cast(b, p.a, p.t);
    p.c = ps_tb_cast(b, p.c, p.t);
    return p;
}

static void plain(ps_tb *b) {
    pair p = both(b);
    out(b, PS_OP(b, b->op->onnx, p.a, p.c));
}

static void floordiv(ps_tb *b) {
    pair p = both(b);
    out(b, p.t == PS_DTYPE_I64 ? ps_torch_floordiv(b, p.a, p.c) : PS_OP(b, "Floor", PS_OP(b, "Div", p.a, p.c)));
}

static void mod(ps_tb *b) {
    pair p = both(b);
    if (p.t == PS_DTYPE_I64) {
        out(b, PS_OP(b, "Mod", p.a, p.c));
        return;
    }
    ps_value *whole = PS_OP(b, "Floor", PS_OP(b, "Div", p.a, p.c));
    out(b, PS_OP(b, "Sub", p.a, PS_OP(b, "Mul", whole, p.c)));
}

static void truediv(ps_tb *b) {
    pair p = both(b);
    out(b, PS_OP(b, "Div", ps_tb_cast(b, p.a, PS_DTYPE_F64), ps_tb_cast(b, p.c, PS_DTYPE_F64)));
}

static void not_equal(ps_tb *b) {
    pair p = both(b);
    out(b, PS_OP(b, "Not", PS_OP(b, "Equal", p.a, p.c)));
}

static void logic(ps_tb *b) {
    ps_value *x = ps_tb_cast(b, argument(b, 0), PS_DTYPE_BOOL), *y = ps_tb_cast(b, argument(b, 1), PS_DTYPE_BOOL);
    out(b, PS_OP(b, b->op->onnx, x, y));
}

static void one(ps_tb *b) {
    out(b, PS_OP(b, b->op->onnx, argument(b, 0)));
}

static void not_(ps_tb *b) {
    out(b, PS_OP(b, "Not", ps_tb_cast(b, argument(b, 0), PS_DTYPE_BOOL)));
}

static void to_float(ps_tb *b) {
    out(b, ps_tb_cast(b, argument(b, 0), PS_DTYPE_F64));
}

/* int() cuts off, as the cast does. */
static void to_int(ps_tb *b) {
    out(b, ps_tb_cast(b, argument(b, 0), PS_DTYPE_I64));
}

static void rounded(ps_tb *b) {
    ps_value *x = argument(b, 0);
    if (ps_tb_dtype(b, x) == PS_DTYPE_F64) x = PS_OP(b, b->op->onnx, x);
    out(b, ps_tb_cast(b, x, PS_DTYPE_I64));
}

static void root(ps_tb *b) {
    out(b, PS_OP(b, "Sqrt", ps_tb_cast(b, argument(b, 0), PS_DTYPE_F64)));
}

static void ite(ps_tb *b) {
    ps_value *condition = ps_tb_cast(b, argument(b, 0), PS_DTYPE_BOOL);
    out(b, PS_OP(b, "Where", condition, argument(b, 1), argument(b, 2)));
}

/* The element of a tensor as a number of its category. */
static void item(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    ps_dtype t = ps_tb_dtype(b, x);
    int64_t one_dim = 1;
    x = ps_tb_reshape_to(b, x, &one_dim, 1);
    out(b, ps_tb_cast(b, x, ps_dtype_is_float(t) ? PS_DTYPE_F64 : t == PS_DTYPE_BOOL ? t : PS_DTYPE_I64));
}

/* ---- subgraphs that change nothing about how their nodes run ---- */

static void inline_graph(ps_tb *b) {
    size_t i;
    const json_t *arg;
    if (strstr(b->op->name, "autocast") && json_array_size(b->inputs) > 2) {
        /* (device, dtype, enabled, cache_enabled, graph, …) */
        const json_t *enabled = json_object_get(json_object_get(json_array_get(b->inputs, 2), "arg"), "as_bool");
        if (!json_is_false(enabled))
            PS_TB_FAIL(b, UNSUPPORTED, "%s: autocast regions are supported only where they switch it off", b->label);
    }
    json_array_foreach(b->inputs, i, arg) {
        const json_t *graph = json_object_get(json_object_get(json_object_get(arg, "arg"), "as_graph"), "graph");
        if (!json_is_object(graph)) continue;
        ps_tb_inline(b, graph, b->inputs, i + 1);
        return;
    }
    PS_TB_FAIL(b, FORMAT, "%s: has no subgraph", b->label);
}

static const ps_torch_op ops[] = {
    { "sym_size", sym_size, NULL, 0 },
    { "sym_numel", sym_numel, NULL, 0 },
    { "item", item, NULL, 0 },
    { "_local_scalar_dense", item, NULL, 0 },
    { "_operator.add", plain, "Add", 0 },
    { "_operator.sub", plain, "Sub", 0 },
    { "_operator.mul", plain, "Mul", 0 },
    { "_operator.pow", plain, "Pow", 0 },
    { "_operator.floordiv", floordiv, NULL, 0 },
    { "_operator.mod", mod, NULL, 0 },
    { "_operator.truediv", truediv, NULL, 0 },
    { "_operator.neg", one, "Neg", 0 },
    { "_operator.pos", one, "Identity", 0 },
    { "_operator.eq", plain, "Equal", 0 },
    { "_operator.ne", not_equal, NULL, 0 },
    { "_operator.lt", plain, "Less", 0 },
    { "_operator.le", plain, "LessOrEqual", 0 },
    { "_operator.gt", plain, "Greater", 0 },
    { "_operator.ge", plain, "GreaterOrEqual", 0 },
    { "_operator.and_", logic, "And", 0 },
    { "_operator.or_", logic, "Or", 0 },
    { "torch.sym_max", plain, "Max", 0 },
    { "torch.sym_min", plain, "Min", 0 },
    { "torch.sym_float", to_float, NULL, 0 },
    { "torch.sym_int", to_int, NULL, 0 },
    { "torch.sym_not", not_, NULL, 0 },
    { "torch.sym_ite", ite, NULL, 0 },
    { "torch._sym_sqrt", root, NULL, 0 },
    { "math.ceil", rounded, "Ceil", 0 },
    { "math.floor", rounded, "Floor", 0 },
    { "math.trunc", to_int, NULL, 0 },
    { "_assert_async", NULL, NULL, PS_TORCH_IGNORE },
    { "_assert_scalar", NULL, NULL, PS_TORCH_IGNORE },
    { "_assert_tensor_metadata", NULL, NULL, PS_TORCH_IGNORE },
    { "sym_constrain_range", NULL, NULL, PS_TORCH_IGNORE },
    { "sym_constrain_range_for_size", NULL, NULL, PS_TORCH_IGNORE },
    { "higher_order.wrap_with_set_grad_enabled", inline_graph, NULL, 0 },
    { "higher_order.wrap_with_autocast", inline_graph, NULL, 0 },
};

const ps_torch_family ps_torch_sym = PS_TORCH_FAMILY("sym", ops);
