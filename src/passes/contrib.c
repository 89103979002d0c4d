/* contrib.c - operators of com.microsoft, which ONNX Runtime's optimiser writes, become those of ai.onnx that they are
 * made of: other passes and the devices know these.
 *
 *     FusedMatMul, FusedGemm, FusedConv -> MatMul, Gemm, Conv and what follows
 *     SkipLayerNormalization            -> Add, LayerNormalization
 *     EmbedLayerNormalization           -> Gather, Add, LayerNormalization
 *     BiasGelu, FastGelu, Gelu, QuickGelu -> Add, Gelu or Swish
 *
 * f32 only: in narrower types the steps would round in between. Attention: contrib_attention.c. */
#include <math.h>

#include "passes/contrib.h"

ps_status ps_chain_step(ps_rw *rw, ps_node *n, bool last, const char *op, const char *domain, ps_value *const *in,
                        size_t n_in, ps_node **ret) {
    if (last) return ps_rw_replace(rw, n, op, domain, in, n_in, ret);
    return ps_rw_insert(rw, n, op, domain, in, n_in, ret);
}

ps_status ps_chain_plain(ps_rw *rw, ps_node *n, bool last, const char *op, ps_value *a, ps_value *b, int version,
                         ps_value **ret) {
    ps_value *in[] = { a, b };
    ps_node *made;
    PS_TRY(ps_chain_step(rw, n, last, op, "", in, b ? 2 : 1, &made));
    *ret = made->out[0];
    return ps_rw_finish(rw, made, version);
}

ps_status ps_chain_number(ps_rw *rw, ps_graph *g, float v, ps_value **ret) {
    ps_shape scalar = ps_shape_make(0, NULL);
    return ps_rw_floats(rw, g, &scalar, &v, ret);
}

bool ps_output_unused(const ps_node *n, size_t i) {
    return i >= n->n_out || !n->out[i] || ps_value_unused(n->out[i]);
}

static float attr_float(const ps_node *n, const char *name, float def) {
    const ps_attr *a = ps_node_attr(n, name);
    return a && a->type == PS_ATTR_FLOAT ? a->u.f : def;
}

static const char *attr_string(const ps_node *n, const char *name) {
    const ps_attr *a = ps_node_attr(n, name);
    return a && a->type == PS_ATTR_STRING ? a->u.s : "";
}

/* ---- activations behind a product ---- */

typedef struct activation {
    const char *op; /* of ai.onnx; NULL: none */
    int version;
    const char *names[2]; /* of its attributes */
    float values[2], defaults[2];
} activation;

/* false for one that has no equal here. */
static bool find_activation(const char *name, const float *values, size_t n, activation *ret) {
    static const activation known[] = {
        { "Relu", 14, { NULL }, { 0 }, { 0 } },
        { "Sigmoid", 13, { NULL }, { 0 }, { 0 } },
        { "Tanh", 13, { NULL }, { 0 }, { 0 } },
        { "Softplus", 1, { NULL }, { 0 }, { 0 } },
        { "Softsign", 1, { NULL }, { 0 }, { 0 } },
        { "LeakyRelu", 16, { "alpha" }, { 0 }, { 0.01f } },
        { "Elu", 6, { "alpha" }, { 0 }, { 1 } },
        { "HardSigmoid", 6, { "alpha", "beta" }, { 0 }, { 0.2f, 0.5f } },
        { "Clip", 6, { "min", "max" }, { 0 }, { -3.402823466e38f, 3.402823466e38f } },
    };
    *ret = (activation) { .op = NULL };
    if (!name[0]) return true;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].op, name) != 0) continue;
        *ret = known[i];
        for (size_t k = 0; k < 2; k++)
            ret->values[k] = k < n && !isnan(values[k]) ? values[k] : ret->defaults[k];
        return true;
    }
    return false;
}

static ps_status activate(ps_rw *rw, ps_node *n, ps_value *x, const activation *act) {
    ps_node *made;
    PS_TRY(ps_rw_replace(rw, n, act->op, "", &x, 1, &made));
    for (size_t k = 0; k < 2; k++)
        if (act->names[k]) PS_TRY(ps_node_set_float(made, act->names[k], act->values[k], rw->err));
    return ps_rw_finish(rw, made, act->version);
}

/* ---- products ---- */

static ps_status swap_last(ps_rw *rw, ps_node *n, ps_value *x, ps_value **ret) {
    int64_t perm[PS_MAX_RANK];
    int rank = x->shape.rank;
    ps_node *made;
    for (int d = 0; d < rank; d++)
        perm[d] = d < rank - 2 ? d : d == rank - 1 ? rank - 2 : rank - 1;
    PS_TRY(ps_rw_insert(rw, n, "Transpose", "", &x, 1, &made));
    PS_TRY(ps_node_set_ints(made, "perm", perm, (size_t)rank, rw->err));
    *ret = made->out[0];
    return ps_rw_finish(rw, made, 13);
}

static ps_status fused_matmul(ps_rw *rw, ps_node *n) {
    ps_value *in[] = { n->in[0], n->in[1] }, *y, *factor;
    int64_t trans[] = { ps_attr_int(n, "transA", 0), ps_attr_int(n, "transB", 0) };
    float alpha = attr_float(n, "alpha", 1);
    int rank_a = in[0]->shape.rank, rank_b = in[1]->shape.rank;
    ps_node *made;
    if (ps_attr_int(n, "transBatchA", 0) || ps_attr_int(n, "transBatchB", 0) || rank_a < 1 || rank_b < 1) return PS_OK;
    if (rank_a == 2 && rank_b == 2) {
        PS_TRY(ps_rw_replace(rw, n, "Gemm", "", in, 2, &made));
        PS_TRY(ps_node_set_float(made, "alpha", alpha, rw->err));
        PS_TRY(ps_node_set_int(made, "transA", trans[0] != 0, rw->err));
        PS_TRY(ps_node_set_int(made, "transB", trans[1] != 0, rw->err));
        return ps_rw_finish(rw, made, 13);
    }
    for (size_t i = 0; i < 2; i++)
        if (trans[i] && in[i]->shape.rank >= 2) PS_TRY(swap_last(rw, n, in[i], &in[i]));
    PS_TRY(ps_chain_plain(rw, n, alpha == 1, "MatMul", in[0], in[1], 13, &y));
    if (alpha == 1) return PS_OK;
    PS_TRY(ps_chain_number(rw, n->graph, alpha, &factor));
    return ps_chain_plain(rw, n, true, "Mul", y, factor, 14, &y);
}

static ps_status fused_gemm(ps_rw *rw, ps_node *n) {
    static const char *const floats[] = { "alpha", "beta" }, *const ints[] = { "transA", "transB" };
    activation act;
    const float values[] = { attr_float(n, "activation_alpha", NAN), attr_float(n, "activation_beta", NAN) };
    ps_node *made;
    if (!find_activation(attr_string(n, "activation"), values, 2, &act)) return PS_OK;
    ps_value *in[] = { n->in[0], n->in[1], ps_in(n, 2) };
    float f[] = { attr_float(n, "alpha", 1), attr_float(n, "beta", 1) };
    int64_t t[] = { ps_attr_int(n, "transA", 0), ps_attr_int(n, "transB", 0) };
    PS_TRY(ps_chain_step(rw, n, !act.op, "Gemm", "", in, in[2] ? 3 : 2, &made));
    for (size_t i = 0; i < 2; i++) {
        PS_TRY(ps_node_set_float(made, floats[i], f[i], rw->err));
        PS_TRY(ps_node_set_int(made, ints[i], t[i], rw->err));
    }
    PS_TRY(ps_rw_finish(rw, made, 13));
    return act.op ? activate(rw, n, made->out[0], &act) : PS_OK;
}

static ps_status fused_conv(ps_rw *rw, ps_node *n) {
    const ps_attr *params = ps_node_attr(n, "activation_params");
    bool floats = params && params->type == PS_ATTR_FLOATS;
    activation act;
    ps_node *made;
    if (!find_activation(attr_string(n, "activation"), floats ? params->u.floats : NULL, floats ? params->n : 0, &act))
        return PS_OK;
    ps_value *in[] = { n->in[0], n->in[1], ps_in(n, 2) }, *z = ps_in(n, 3), *y;
    PS_TRY(ps_rw_insert(rw, n, "Conv", "", in, in[2] ? 3 : 2, &made));
    PS_TRY(ps_node_copy_attrs(made, n, rw->err));
    made->fused = NULL;
    PS_TRY(ps_rw_finish(rw, made, 11));
    y = made->out[0];
    if (z) PS_TRY(ps_chain_plain(rw, n, !act.op, "Add", y, z, 14, &y));
    if (act.op) return activate(rw, n, y, &act);
    return z ? PS_OK : ps_chain_plain(rw, n, true, "Identity", y, NULL, 13, &y);
}

/* ---- normalisations ---- */

static ps_status layernorm(ps_rw *rw, ps_node *n, ps_value *x, ps_value *gamma, ps_value *beta, float epsilon) {
    ps_value *in[] = { x, gamma, beta };
    ps_node *made;
    PS_TRY(ps_rw_replace(rw, n, "LayerNormalization", "", in, beta ? 3 : 2, &made));
    PS_TRY(ps_node_set_int(made, "axis", -1, rw->err));
    PS_TRY(ps_node_set_float(made, "epsilon", epsilon, rw->err));
    return ps_rw_finish(rw, made, 17);
}

static ps_status skip_layernorm(ps_rw *rw, ps_node *n) {
    ps_value *total = n->n_out > 3 ? n->out[3] : NULL, *gamma = n->in[2], *beta = ps_in(n, 3), *bias = ps_in(n, 4), *x;
    if (!ps_output_unused(n, 1) || !ps_output_unused(n, 2) || (total && total->n_outputs)) return PS_OK;
    float epsilon = attr_float(n, "epsilon", 1e-12f);
    PS_TRY(ps_chain_plain(rw, n, false, "Add", n->in[0], n->in[1], 14, &x));
    if (bias) PS_TRY(ps_chain_plain(rw, n, false, "Add", x, bias, 14, &x));
    if (total) PS_TRY(ps_value_replace(total, x, rw->err));
    return layernorm(rw, n, x, gamma, beta, epsilon);
}

static ps_status gather(ps_rw *rw, ps_node *n, ps_value *table, ps_value *ids, ps_value **ret) {
    ps_value *in[] = { table, ids };
    ps_node *made;
    PS_TRY(ps_rw_insert(rw, n, "Gather", "", in, 2, &made));
    PS_TRY(ps_node_set_int(made, "axis", 0, rw->err));
    *ret = made->out[0];
    return ps_rw_finish(rw, made, 13);
}

/* Rows of the position table: those that are asked for, or the first ones. NULL if their number is not known. */
static ps_status embed_places(ps_rw *rw, ps_node *n, ps_value **ret) {
    ps_value *positions = ps_in(n, 8), *in[3] = { n->in[3] };
    int64_t rows = n->in[0]->shape.rank == 2 ? n->in[0]->shape.dims[1] : PS_DIM_UNKNOWN;
    ps_node *made;
    *ret = NULL;
    if (positions) return gather(rw, n, n->in[3], positions, ret);
    if (rows < 0) return PS_OK;
    PS_TRY(ps_rw_ints(rw, n->graph, (int64_t[]) { 0 }, 1, &in[1]));
    PS_TRY(ps_rw_ints(rw, n->graph, &rows, 1, &in[2]));
    PS_TRY(ps_rw_insert(rw, n, "Slice", "", in, 3, &made));
    *ret = made->out[0];
    return ps_rw_finish(rw, made, 13);
}

static ps_status embed_layernorm(ps_rw *rw, ps_node *n) {
    ps_value *places, *x, *kind, *gamma = n->in[5], *beta = n->in[6];
    if (!ps_output_unused(n, 1) || !ps_output_unused(n, 2)) return PS_OK;
    float epsilon = attr_float(n, "epsilon", 1e-12f);
    PS_TRY(embed_places(rw, n, &places));
    if (!places) return PS_OK;
    PS_TRY(gather(rw, n, n->in[2], n->in[0], &x));
    PS_TRY(ps_chain_plain(rw, n, false, "Add", x, places, 14, &x));
    if (ps_in(n, 1)) {
        PS_TRY(gather(rw, n, n->in[4], n->in[1], &kind));
        PS_TRY(ps_chain_plain(rw, n, false, "Add", x, kind, 14, &x));
    }
    return layernorm(rw, n, x, gamma, beta, epsilon);
}

/* ---- activations ---- */

static ps_status gelu(ps_rw *rw, ps_node *n, bool tanh_form) {
    ps_value *x = n->in[0], *bias = ps_in(n, 1);
    ps_node *made;
    if (bias) PS_TRY(ps_chain_plain(rw, n, false, "Add", x, bias, 14, &x));
    PS_TRY(ps_rw_replace(rw, n, "Gelu", "", &x, 1, &made));
    PS_TRY(ps_node_set_string(made, "approximate", tanh_form ? "tanh" : "none", rw->err));
    return ps_rw_finish(rw, made, 20);
}

static ps_status exact_gelu(ps_rw *rw, ps_node *n) {
    return gelu(rw, n, false);
}

static ps_status fast_gelu(ps_rw *rw, ps_node *n) {
    return gelu(rw, n, true);
}

static ps_status quick_gelu(ps_rw *rw, ps_node *n) {
    float alpha = attr_float(n, "alpha", 1.702f);
    ps_node *made;
    if (!rw->caps->fuse_pointwise) return PS_OK;
    PS_TRY(ps_rw_replace(rw, n, "Pointwise", "polestar", n->in, 1, &made));
    PS_TRY(ps_node_add_post(made, PS_POST_SWISH, alpha, 0, NULL, rw->err));
    made->fused = ps_post_name(PS_POST_SWISH);
    return ps_rw_finish(rw, made, 0);
}

static const struct {
    const char *op;
    ps_rw_fn fn;
} rewrites[] = {
    { "FusedMatMul", fused_matmul },
    { "TransposeMatMul", fused_matmul },
    { "FusedGemm", fused_gemm },
    { "FusedConv", fused_conv },
    { "SkipLayerNormalization", skip_layernorm },
    { "EmbedLayerNormalization", embed_layernorm },
    { "BiasGelu", exact_gelu },
    { "Gelu", exact_gelu },
    { "FastGelu", fast_gelu },
    { "QuickGelu", quick_gelu },
    { "Attention", ps_contrib_attention },
    { "MultiHeadAttention", ps_contrib_multi_head },
};

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    if (n->out[0]->dtype != PS_DTYPE_F32) return PS_OK;
    if (ps_is(n, "Attention")) return ps_onnx_attention(rw, n);
    if (strcmp(n->domain, "com.microsoft") != 0) return PS_OK;
    for (size_t i = 0; i < sizeof rewrites / sizeof rewrites[0]; i++)
        if (strcmp(n->op_type, rewrites[i].op) == 0) return rewrites[i].fn(rw, n);
    return PS_OK;
}

ps_status ps_pass_contrib(ps_rw *rw) {
    return rw->caps->fuse_epilogue ? ps_rw_each(rw, rewrite) : PS_OK;
}
