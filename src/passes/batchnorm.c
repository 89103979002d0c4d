/* batchnorm.c - BatchNormalization in inference form is y = a x + b per channel: into the weights of the convolution or
 * Gemm before it, else a Mul and an Add. */
#include <math.h>

#include "passes/weights.h"

/* Element c of a [C] or [1] constant. */
static bool channel_floats(const ps_value *v, int64_t channels) {
    const ps_tensor *t = ps_const_floats(v);
    return t && t->shape.rank == 1 && t->shape.dims[0] == channels;
}

static bool has_coefficients(const ps_node *n, int64_t channels) {
    for (size_t i = 1; i < 5; i++) {
        if (!channel_floats(ps_in(n, i), channels)) return false;
    }
    return channels >= 1;
}

/* a and b of y = a x + b, in the arena. */
static ps_status coefficients(ps_rw *rw, const ps_node *n, int64_t channels, double **ret) {
    const ps_batchnorm_params *p = n->params;
    double *ab = ps_arena_array(&rw->root->arena, (size_t)channels, 2 * sizeof *ab);
    if (!ab) return PS_FAIL_NOMEM(rw->err, "folded weights");
    const float *scale = n->in[1]->constant->data, *bias = n->in[2]->constant->data;
    const float *mean = n->in[3]->constant->data, *var = n->in[4]->constant->data;
    for (int64_t c = 0; c < channels; c++) {
        ab[c] = scale[c] / sqrt((double)var[c] + p->epsilon);
        ab[channels + c] = bias[c] - mean[c] * ab[c];
    }
    *ret = ab;
    return PS_OK;
}

static ps_status coefficient_value(ps_rw *rw, ps_graph *g, const double *v, int64_t channels, int rank,
                                   ps_value **ret) {
    ps_shape shape = ps_shape_make(rank - 1, (int64_t[PS_MAX_RANK]) { channels, 1, 1, 1, 1, 1, 1, 1 });
    ps_tensor *t;
    PS_TRY(ps_tensor_new(rw->root->alloc, PS_DTYPE_F32, &shape, &t, rw->err));
    for (int64_t c = 0; c < channels; c++)
        ((float *)t->data)[c] = (float)v[c];
    return ps_rw_constant(rw, g, t, ret);
}

static ps_status to_affine(ps_rw *rw, ps_node *n, const double *ab, int64_t channels) {
    int rank = n->in[0]->shape.rank;
    ps_value *in[2] = { n->in[0] };
    ps_node *mul, *add;
    PS_TRY(coefficient_value(rw, n->graph, ab, channels, rank, &in[1]));
    PS_TRY(ps_rw_insert(rw, n, "Mul", "", in, 2, &mul));
    PS_TRY(ps_rw_finish(rw, mul, 14));
    in[0] = mul->out[0];
    PS_TRY(coefficient_value(rw, n->graph, ab + channels, channels, rank, &in[1]));
    PS_TRY(ps_rw_replace(rw, n, "Add", "", in, 2, &add));
    return ps_rw_finish(rw, add, 14);
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    if (!ps_is(n, "BatchNormalization") || n->op->since < 7) return PS_OK;
    const ps_batchnorm_params *p = n->params;
    if (p->training_mode || n->in[0]->dtype != PS_DTYPE_F32) return PS_OK;
    for (uint32_t i = 1; i < n->n_out; i++) {
        if (n->out[i] && !ps_value_unused(n->out[i])) return PS_OK;
    }
    const ps_tensor *scale = ps_const_floats(ps_in(n, 1));
    int64_t channels = scale ? (int64_t)ps_tensor_count(scale) : 0;
    double *ab = NULL;
    if (!has_coefficients(n, channels)) return PS_OK;
    PS_TRY(coefficients(rw, n, channels, &ab));
    ps_node *product = ps_sole_producer(n->in[0], n->graph);
    bool done;
    if (ps_product_foldable(rw, product) && !ps_is(product, "MatMul") && ps_product_channels(product) == channels) {
        PS_TRY(ps_product_scale(rw, product, ab, ab + channels));
        return ps_rw_bypass(rw, n, n->in[0], &done);
    }
    return n->in[0]->shape.rank >= 2 ? to_affine(rw, n, ab, channels) : PS_OK;
}

ps_status ps_pass_batchnorm(ps_rw *rw) {
    return ps_rw_each(rw, rewrite);
}
