/* contrib_heads.h - what the attention operators of com.microsoft share in their shape rules and kernels. */
#ifndef PS_OPS_CONTRIB_HEADS_H
#define PS_OPS_CONTRIB_HEADS_H

#include <math.h>

#include "ops/facts.h"
#include "ops/kernel_util.h"

static inline int64_t known_dim(const ps_node *node, size_t i, int d) {
    return ps_in_known(node, i) && d < node->in[i]->shape.rank ? node->in[i]->shape.dims[d] : PS_DIM_UNKNOWN;
}

static inline const ps_tensor *input(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_in ? ctx->in[i] : NULL;
}

static inline ps_tensor *output(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_out ? ctx->out[i] : NULL;
}

static inline ps_status check_i32(const ps_node *node, size_t i, ps_error *err) {
    if (!ps_has_in(node, i)) return PS_OK;
    ps_dtype t = node->in[i]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_I32, node, err, TYPE, "input %zu is %s, it must be i32", i,
                    ps_dtype_name(t));
    return PS_OK;
}

static inline ps_status refuse(const ps_node *node, size_t i, const char *what, ps_error *err) {
    PS_NODE_FAIL_IF(ps_has_in(node, i), node, err, UNSUPPORTED, "input %zu (%s) is not supported", i, what);
    return PS_OK;
}

static inline ps_status head_size(const ps_node *node, int64_t width, int64_t heads, int64_t *ret, ps_error *err) {
    PS_NODE_FAIL_IF(heads < 1, node, err, INVALID, "the number of heads is %lld, it must be at least 1",
                    (long long)heads);
    PS_NODE_FAIL_IF(width >= 0 && width % heads, node, err, SHAPE, "%lld heads do not divide %lld columns",
                    (long long)heads, (long long)width);
    *ret = width >= 0 ? width / heads : PS_DIM_UNKNOWN;
    return PS_OK;
}

static inline double scale_or(float given, int64_t depth) {
    return given != 0 ? (double)given : 1 / sqrt((double)depth);
}

#endif
