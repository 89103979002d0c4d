/* chain.h - chains of post-ops (backend/chain.h) run by vector loops: the body of Pointwise nodes, and what oneDNN
 * could not take into a convolution's or matrix product's epilogue. */
#ifndef PS_BACKEND_CPU_CHAIN_H
#define PS_BACKEND_CPU_CHAIN_H

#include "backend/chain.h"
#include "backend/cpu/cpu_int.h"

/* in: as node->in. x may be out. */
void cpu_chain_run(const ps_chain *c, const ps_simd *simd, const float *x, float *out, void *const *in);
/* The same for n elements of the output from `begin`, counted as they lie in memory, on the calling thread. */
void cpu_chain_span(const ps_chain *c, const ps_simd *simd, const float *x, float *out, void *const *in, int64_t begin,
                    int64_t n);

#endif
