/* contrib.h - what the rewrites of com.microsoft operators share. Private to this folder. */
#ifndef PS_PASSES_CONTRIB_H
#define PS_PASSES_CONTRIB_H

#include "passes/rewrite.h"

/* A node before n, or in its place if it is the last of a chain. Resolve with ps_rw_finish. */
ps_status ps_chain_step(ps_rw *rw, ps_node *n, bool last, const char *op, const char *domain, ps_value *const *in,
                        size_t n_in, ps_node **ret);
/* The same for a node of ai.onnx without attributes, resolved. b may be NULL. */
ps_status ps_chain_plain(ps_rw *rw, ps_node *n, bool last, const char *op, ps_value *a, ps_value *b, int version,
                         ps_value **ret);
ps_status ps_chain_number(ps_rw *rw, ps_graph *g, float v, ps_value **ret);
bool ps_output_unused(const ps_node *n, size_t i);

/* Attention and MultiHeadAttention of com.microsoft, Attention of ai.onnx -> "polestar" Attention, without caches. */
ps_status ps_contrib_attention(ps_rw *rw, ps_node *n);
ps_status ps_contrib_multi_head(ps_rw *rw, ps_node *n);
ps_status ps_onnx_attention(ps_rw *rw, ps_node *n);

#endif
