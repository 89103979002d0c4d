/* caps.h - what a device can take, as plain facts: the only thing passes know of devices. All false: leave the graph
 * alone. */
#ifndef PS_GRAPH_CAPS_H
#define PS_GRAPH_CAPS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ps_caps {
    bool fuse_epilogue;  /* post-ops behind Conv, ConvTranspose, Gemm, MatMul ("polestar" domain) */
    bool fuse_pointwise; /* chains of pointwise operators into "polestar" Pointwise */
    bool fuse_attention; /* "polestar" Attention */
    bool fuse_norm;      /* decomposed LayerNormalization and Softmax */
    uint32_t max_posts;  /* post-ops per node, at most PS_MAX_POSTS */
    bool widen_half;     /* has no arithmetic in f16 and bf16: computes in f32 */
    bool int8;           /* products and elementwise operators on 8-bit codes ("polestar" QLinearConv ...) */
    bool coded_weights;  /* products take constant weights as codes of 4 or 8 bits (ps_tensor.codes) */
    bool fixed_int8;     /* with int8: only where weights, scales and zero points are constants */
} ps_caps;

#endif
