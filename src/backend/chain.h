/* chain.h - a chain of post-ops over a broadcast shape: the body of Pointwise nodes, and what a product's kernel does
 * to its results.
 *
 * The output is dense in its layout. Each input has a stride per output dim (0 where it is broadcast). Dims are kept in
 * memory order of the output and merged where every input allows, so that the innermost loop is long. */
#ifndef PS_BACKEND_CHAIN_H
#define PS_BACKEND_CHAIN_H

#include "backend/backend.h"

typedef struct ps_chain {
    int n;
    ps_post posts[PS_MAX_POSTS];
    int rank, threads;
    int64_t dims[PS_MAX_RANK];
    int64_t x[PS_MAX_RANK];                     /* strides of the chain's start */
    int64_t operand[PS_MAX_POSTS][PS_MAX_RANK]; /* strides of each post's operand */
    bool half[PS_MAX_POSTS];                    /* the operand is stored as halves: for devices that read them */
} ps_chain;

/* posts[i].operand indexes node->in; the start is `start` lying in start_layout. false: an operand cannot be described.
 */
bool ps_chain_init(ps_chain *c, const ps_node *node, const ps_post *posts, int n, const ps_shape *start,
                   ps_layout start_layout, const ps_layout *in_layout, const ps_shape *out, ps_layout out_layout,
                   int threads);

/* Channels-last as soon as one input of the output's shape lies so, else plain; then every input's layout, so that it
 * can lie under that. */
ps_layout ps_chain_layout(ps_lowering *l);
/* The input `start` if a kernel of the chain may overwrite it, else -1: same memory order element by element, and read
 * by the chain's start only. */
int ps_chain_inplace(const ps_chain *c, const ps_node *node, int start);
/* A lone arithmetic operator or activation of ai.onnx as a chain of one. false: it is none, or of another form. */
bool ps_node_as_post(const ps_node *node, ps_post *ret);

/* Strides of `shape` (lying in `layout`) over the axes of `out`, 0 where broadcast. false if it does not broadcast into
 * out. */
bool ps_broadcast_strides(const ps_shape *shape, ps_layout layout, const ps_shape *out, int64_t strides[PS_MAX_RANK]);
/* Can `shape` lie under out_layout as it lies in `layout`, without a reorder? */
bool ps_layout_fits(const ps_shape *shape, ps_layout layout, ps_layout out_layout);

#endif
