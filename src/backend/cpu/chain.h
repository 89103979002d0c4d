/* chain.h - a chain of post-ops over a broadcast shape: the body of Pointwise nodes, and what oneDNN could not take
 * into a convolution's or matrix product's epilogue.
 *
 * The output is dense in its layout. Each input has a stride per output dim (0 where it is broadcast). Dims are kept in
 * memory order of the output and merged where every input allows, so that the innermost loop is long. */
#ifndef PS_BACKEND_CPU_CHAIN_H
#define PS_BACKEND_CPU_CHAIN_H

#include "backend/cpu/cpu_int.h"

typedef struct cpu_chain {
    int n;
    ps_post posts[PS_MAX_POSTS];
    int rank, threads;
    int64_t dims[PS_MAX_RANK];
    int64_t x[PS_MAX_RANK];                     /* strides of the chain's start */
    int64_t operand[PS_MAX_POSTS][PS_MAX_RANK]; /* strides of each post's operand */
} cpu_chain;

/* posts[i].operand indexes node->in; the start is `start` lying in start_layout. false: an operand cannot be described.
 */
bool cpu_chain_init(cpu_chain *c, const ps_node *node, const ps_post *posts, int n, const ps_shape *start,
                    ps_layout start_layout, const ps_layout *in_layout, const ps_shape *out, ps_layout out_layout,
                    int threads);
/* in: as node->in. x may be out. */
void cpu_chain_run(const cpu_chain *c, const ps_simd *simd, const float *x, float *out, void *const *in);
/* The same for n elements of the output from `begin`, counted as they lie in memory, on the calling thread. */
void cpu_chain_span(const cpu_chain *c, const ps_simd *simd, const float *x, float *out, void *const *in, int64_t begin,
                    int64_t n);

/* Strides of `shape` (lying in `layout`) over the axes of `out`, 0 where broadcast. false if it does not broadcast into
 * out. */
bool cpu_broadcast_strides(const ps_shape *shape, ps_layout layout, const ps_shape *out, int64_t strides[PS_MAX_RANK]);
/* Can `shape` lie under out_layout as it lies in `layout`, without a reorder? */
bool cpu_layout_fits(const ps_shape *shape, ps_layout layout, ps_layout out_layout);

#endif
