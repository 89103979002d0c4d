/* PyTorch's type promotion. Tensors with dims outrank those without, which outrank numbers: an operand of lower rank
 * counts only where it is of a higher category (bool < integer < floating < complex).
 * (PyTorch documentation, "Tensor Attributes", type promotion.) */
#include "torch/aten.h"

typedef enum category { CAT_NONE, CAT_BOOL, CAT_INT, CAT_FLOAT, CAT_COMPLEX } category;

static category category_of(ps_dtype t) {
    if (t == PS_DTYPE_UNDEFINED) return CAT_NONE;
    if (t == PS_DTYPE_BOOL) return CAT_BOOL;
    if (t == PS_DTYPE_C64 || t == PS_DTYPE_C128) return CAT_COMPLEX;
    return ps_dtype_is_int(t) ? CAT_INT : CAT_FLOAT;
}

static bool is_unsigned(ps_dtype t) {
    return t == PS_DTYPE_U8 || t == PS_DTYPE_U16 || t == PS_DTYPE_U32 || t == PS_DTYPE_U64;
}

/* Both of one category. */
static ps_dtype wider(ps_dtype a, ps_dtype c) {
    static const ps_dtype next_signed[] = {
        [1] = PS_DTYPE_I16, [2] = PS_DTYPE_I32, [4] = PS_DTYPE_I64, [8] = PS_DTYPE_I64
    };
    size_t x = ps_dtype_size(a), y = ps_dtype_size(c);
    if (x == y) {
        if (category_of(a) == CAT_INT) return next_signed[x];
        return PS_DTYPE_F32; /* f16 and bf16 */
    }
    ps_dtype large = x > y ? a : c, small = x > y ? c : a;
    if (is_unsigned(large) && !is_unsigned(small)) return next_signed[ps_dtype_size(large)];
    return large;
}

static ps_dtype promote(ps_dtype a, ps_dtype c) {
    category x = category_of(a), y = category_of(c);
    if (a == c || y == CAT_NONE) return a;
    if (x == CAT_NONE) return c;
    if (x != y) return x > y ? a : c;
    return wider(a, c);
}

static ps_dtype combine(ps_dtype high, ps_dtype low) {
    return category_of(low) > category_of(high) ? promote(high, low) : high;
}

ps_dtype ps_tb_promote(ps_tb *b, const ps_torch_operand *o, size_t n) {
    ps_dtype dims = PS_DTYPE_UNDEFINED, scalar = PS_DTYPE_UNDEFINED, number = PS_DTYPE_UNDEFINED;
    for (size_t i = 0; i < n; i++) {
        if (!o[i].v) continue;
        ps_dtype t = ps_tb_dtype(b, o[i].v);
        if (o[i].number)
            number = promote(number, t == PS_DTYPE_F64 ? PS_DTYPE_F32 : t); /* the default floating type */
        else if (ps_tb_rank(b, o[i].v) == 0)
            scalar = promote(scalar, t);
        else
            dims = promote(dims, t);
    }
    return combine(dims, combine(scalar, number));
}

ps_torch_operand ps_tb_get(ps_tb *b, const char *name) {
    ps_torch_operand o = { NULL, false };
    o.v = ps_tb_operand(b, name, &o.number);
    return o;
}

ps_torch_operand ps_tb_as_operand(ps_value *v) {
    return (ps_torch_operand) { v, false };
}

ps_dtype ps_torch_float_type(ps_dtype t) {
    return category_of(t) >= CAT_FLOAT ? t : PS_DTYPE_F32;
}

ps_value *ps_tb_self(ps_tb *b) {
    return ps_tb_tensor(b, ps_tb_has(b, "self") ? "self" : "input");
}

ps_value *ps_tb_float_self(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    return ps_tb_cast(b, x, ps_torch_float_type(ps_tb_dtype(b, x)));
}
