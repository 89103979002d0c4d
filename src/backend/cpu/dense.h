/* dense.h - what convolutions and matrix products have in common: one oneDNN primitive with packed weights, and an
 * epilogue.
 *
 * oneDNN takes the longest prefix of the post-ops for which it has a fast implementation; the rest run as a chain over
 * the output. A residual addition becomes oneDNN's "sum": the residual is put into (or, after memory planning, already
 * lies in) the output. */
#ifndef PS_BACKEND_CPU_DENSE_H
#define PS_BACKEND_CPU_DENSE_H

#include "backend/cpu/chain.h"
#include "backend/cpu/dnnl_adapter.h"

typedef struct cpu_dense {
    psd_desc desc;            /* all but the post-ops; bias, if any, is node input 2 */
    psd_md from;              /* how `weights` lie in the model */
    const ps_tensor *weights; /* node input 1, a constant to pack, or NULL: it is used as it is */
    ps_layout layout;         /* of input 0 and the output */
    const char *label;
    /* A post-op's operand as oneDNN sees it under the output; false: it cannot be said. */
    bool (*operand_md)(const ps_shape *operand, const ps_shape *out, psd_md *ret);
} cpu_dense;

ps_status cpu_lower_dense(ps_device *device, ps_lowering *l, cpu_dense *what, ps_error *err);

#endif
