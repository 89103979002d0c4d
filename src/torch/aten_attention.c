/* Scaled dot-product attention, written out: passes recognise the pattern. (Vaswani et al., arXiv:1706.03762.) */
#include <math.h>
#include <string.h>

#include "torch/aten.h"

/* [L, S]: may row i see column j? The diagonal starts at the upper left corner. */
static ps_value *causal_mask(ps_tb *b, ps_value *q, ps_value *k) {
    ps_value *rows = ps_tb_unsqueeze(b, ps_tb_iota(b, ps_tb_extent(b, q, -2)), 1);
    ps_value *columns = ps_tb_iota(b, ps_tb_extent(b, k, -2));
    return PS_OP(b, "GreaterOrEqual", rows, columns);
}

/* What is added to the scores: 0 where the mask is true, else the lowest number. Not -inf, which a row that sees
 * nothing would turn into NaN. */
static ps_value *additive(ps_tb *b, ps_value *mask, ps_dtype t) {
    double lowest = t == PS_DTYPE_F16 ? -65504 : t == PS_DTYPE_BF16 ? -3.3895313892515355e38 : -3.4028234663852886e38;
    return PS_OP(b, "Where", mask, ps_tb_scalar(b, t, 0), ps_tb_scalar(b, t, lowest));
}

/* Fewer heads of keys and values than of queries: each serves several. */
static ps_value *repeat_heads(ps_tb *b, ps_value *v, ps_value *q) {
    int64_t heads = ps_tb_dim(b, v, -3), wanted = ps_tb_dim(b, q, -3);
    if (ps_tb_rank(b, v) != 4 || heads < 1 || wanted < 1 || wanted % heads)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: %lld heads cannot serve %lld", b->label, (long long)heads, (long long)wanted);
    if (b->status != PS_OK || heads == wanted) return v;
    int64_t times[5] = { 1, 1, wanted / heads, 1, 1 };
    ps_value *wide = PS_OP(b, "Tile", ps_tb_unsqueeze(b, v, 2), ps_tb_vector(b, times, 5));
    ps_value *dims[4] = { ps_tb_extent(b, v, 0), ps_tb_one(b, wanted), ps_tb_extent(b, v, 2), ps_tb_extent(b, v, 3) };
    return ps_tb_reshape(b, wide, ps_tb_concat(b, dims, 4, 0));
}

static ps_value *scale_of(ps_tb *b, ps_value *q) {
    ps_dtype t = ps_tb_dtype(b, q);
    int64_t depth = ps_tb_dim(b, q, -1);
    if (ps_tb_has(b, "scale")) return ps_tb_scalar(b, t, ps_tb_double(b, "scale", 1));
    if (depth > 0) return ps_tb_scalar(b, t, 1 / sqrt((double)depth));
    ps_value *extent = ps_tb_cast(b, ps_tb_squeeze(b, ps_tb_extent(b, q, -1), 0), t);
    return PS_OP(b, "Reciprocal", PS_OP(b, "Sqrt", extent));
}

static void attention(ps_tb *b) {
    ps_value *q = ps_tb_tensor(b, "query"), *k = ps_tb_tensor(b, "key"), *v = ps_tb_tensor(b, "value");
    ps_value *mask = ps_tb_tensor_or_null(b, ps_tb_has(b, "attn_bias") ? "attn_bias" : "attn_mask"), *seen = NULL;
    ps_dtype t = ps_tb_dtype(b, q);
    if (ps_tb_double(b, "dropout_p", 0) != 0)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: has dropout: call model.eval() before torch.export", b->label);
    if (ps_tb_bool(b, "enable_gqa", false)) {
        k = repeat_heads(b, k, q);
        v = repeat_heads(b, v, q);
    }
    ps_value *scores = PS_OP(b, "Mul", PS_OP(b, "MatMul", q, ps_tb_swap(b, k, -1, -2)), scale_of(b, q));
    if (ps_tb_bool(b, "is_causal", false)) {
        scores = PS_OP(b, "Add", scores, additive(b, causal_mask(b, q, k), t));
    } else if (mask) {
        if (ps_tb_dtype(b, mask) == PS_DTYPE_BOOL) seen = mask;
        scores = PS_OP(b, "Add", scores, seen ? additive(b, mask, t) : ps_tb_cast(b, mask, t));
    }
    ps_value *r = PS_OP(b, "MatMul", ps_torch_softmax(b, scores, -1), v);
    if (seen) {
        /* A row that sees nothing gives zeros. */
        int64_t last = -1;
        ps_value *any = ps_tb_reduce(b, "ReduceMax", ps_tb_cast(b, seen, PS_DTYPE_I32), &last, 1, true);
        r = PS_OP(b, "Where", ps_tb_cast(b, any, PS_DTYPE_BOOL), r, ps_tb_scalar(b, t, 0));
    }
    ps_tb_out(b, 0, r);
}

static const ps_torch_op ops[] = {
    { "scaled_dot_product_attention", attention, NULL, 0 },
    { "_scaled_dot_product_flash_attention_for_cpu", attention, NULL, 0 },
    { "_scaled_dot_product_flash_attention", attention, NULL, 0 },
    { "_scaled_dot_product_efficient_attention", attention, NULL, 0 },
    { "_scaled_dot_product_attention_math", attention, NULL, 0 },
};

const ps_torch_family ps_torch_attention = PS_TORCH_FAMILY("attention", ops);
