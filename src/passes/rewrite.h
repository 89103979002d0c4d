/* rewrite.h - what the passes share: matching, replacing a node, making constants. Private to this folder.
 *
 * A rewrite is anchored at the last node of its pattern and is called for the nodes of each graph in order. It may
 * remove its anchor and nodes before it, and insert before it; never touch what comes after. Nodes that nothing reads
 * any more are removed on the spot (ps_rw_prune) so that use counts stay meaningful. */
#ifndef PS_PASSES_REWRITE_H
#define PS_PASSES_REWRITE_H

#include "graph/caps.h"
#include "ops/params.h"

typedef struct ps_rw {
    ps_graph *root;
    const ps_caps *caps; /* never NULL */
    ps_error *err;
    size_t changes;
    bool late;        /* in the last stage: what is not in a quantised pattern by now never will be */
    double fold_left; /* what `fold` may still spend: bytes and multiplications; 0 before it starts */
} ps_rw;

typedef ps_status (*ps_rw_fn)(ps_rw *rw, ps_node *n);
typedef ps_status (*ps_pass_fn)(ps_rw *rw);

/* Calls fn for every node of every graph of the tree. */
ps_status ps_rw_each(ps_rw *rw, ps_rw_fn fn);

/* ---- matching ---- */
bool ps_is(const ps_node *n, const char *op);      /* ai.onnx; NULL is nothing */
bool ps_is_ours(const ps_node *n, const char *op); /* polestar */
/* Either. */
bool ps_is_any(const ps_node *n, const char *op);
/* Its output is its first input under another shape. */
bool ps_is_view(const ps_node *n);
/* The tensor of a value that never changes: not that of an input with a default. NULL if there is none. */
const ps_tensor *ps_const(const ps_value *v);
/* A constant f32 with one element. */
bool ps_const_f32(const ps_value *v, float *ret);
/* A constant f32 tensor. */
const ps_tensor *ps_const_floats(const ps_value *v);
/* Read as the weights of Conv, ConvTranspose, Gemm and MatMul, and as nothing else. */
bool ps_weight_only(const ps_value *v);
/* The producer if it stands in `g` and nobody else reads the value. */
ps_node *ps_sole_producer(const ps_value *v, const ps_graph *g);
static inline ps_value *ps_in(const ps_node *n, size_t i) {
    return i < n->n_in ? n->in[i] : NULL;
}
/* Axes of a Reduce*, Squeeze or Unsqueeze, from the attribute or the constant input 1, in [0, rank); false if they are
 * not constant or leave the range. No axes at all: *ret_n is 0. */
bool ps_node_axes(const ps_node *n, int rank, int ret[PS_MAX_RANK], size_t *ret_n);
int64_t ps_attr_int(const ps_node *n, const char *name, int64_t def);
/* Both known, rank and every dim, symbols included. */
bool ps_shapes_agree(const ps_shape *a, const ps_shape *b);
/* Broadcasting `narrow` into `wide` gives `wide`, whatever the symbols turn out to be. */
bool ps_shape_fits(const ps_shape *narrow, const ps_shape *wide);
/* The input of a one-output commutative two-input node that is not `v`. */
ps_value *ps_other_input(const ps_node *n, const ps_value *v);

/* ---- changing ---- */
/* A node before n that takes over n's output 0, name and fused text; n is removed, and what fed only n with it. The
 * other outputs of n must be unused. Resolve with ps_rw_finish after setting attributes. */
ps_status ps_rw_replace(ps_rw *rw, ps_node *n, const char *op, const char *domain, ps_value *const *in, size_t n_in,
                        ps_node **ret);
/* The same in two steps, for a node that gets more inputs in between: what feeds n lives until the second. */
ps_status ps_rw_begin(ps_rw *rw, ps_node *n, const char *op, const char *domain, ps_value *const *in, size_t n_in,
                      ps_node **ret);
ps_status ps_rw_commit(ps_rw *rw, ps_node *made, ps_node *n);
/* A node before `before` with a new value as its output. */
ps_status ps_rw_insert(ps_rw *rw, ps_node *before, const char *op, const char *domain, ps_value *const *in, size_t n_in,
                       ps_node **ret);
/* Resolves against ai.onnx version `version` (whatever the model imports; 0: the model's) and infers. */
ps_status ps_rw_finish(ps_rw *rw, ps_node *n, int version);
/* Every reader of n's output reads v instead; n is removed. Leaves the graph alone (and *ret_done false) where the
 * output is a graph output that v cannot stand for: an input, a constant, an outer value or another output. */
ps_status ps_rw_bypass(ps_rw *rw, ps_node *n, ps_value *v, bool *ret_done);
/* Removes n if none of its outputs is read, then the same for the producers of its inputs. */
void ps_rw_prune(ps_node *n);
/* New constants. The tensor is handed over. */
ps_status ps_rw_constant(ps_rw *rw, ps_graph *g, ps_tensor *take_t, ps_value **ret);
/* The same as node input `index`. The constant that was there is given up at once if nobody else reads it: until the
 * next sweep of `dead`, all weights would be held twice. */
ps_status ps_rw_set_constant(ps_rw *rw, ps_node *n, uint32_t index, ps_tensor *take_t);
ps_status ps_rw_ints(ps_rw *rw, ps_graph *g, const int64_t *v, size_t n, ps_value **ret);
ps_status ps_rw_floats(ps_rw *rw, ps_graph *g, const ps_shape *shape, const float *v, ps_value **ret);
/* Appends "+text" to what a node says it is made of. */
ps_status ps_rw_fused(ps_rw *rw, ps_node *n, const char *text);

/* ---- the passes ---- */
ps_status ps_pass_activation(ps_rw *rw);
ps_status ps_pass_affine(ps_rw *rw);
ps_status ps_pass_attention(ps_rw *rw);
ps_status ps_pass_batchnorm(ps_rw *rw);
ps_status ps_pass_contrib(ps_rw *rw);
ps_status ps_pass_cse(ps_rw *rw);
ps_status ps_pass_dead(ps_rw *rw);
ps_status ps_pass_einsum(ps_rw *rw);
ps_status ps_pass_fold(ps_rw *rw);
ps_status ps_pass_fuse_epilogue(ps_rw *rw);
ps_status ps_pass_fuse_pointwise(ps_rw *rw);
ps_status ps_pass_groupnorm(ps_rw *rw);
ps_status ps_pass_identity(ps_rw *rw);
ps_status ps_pass_inline_if(ps_rw *rw);
ps_status ps_pass_integer(ps_rw *rw);
ps_status ps_pass_layernorm(ps_rw *rw);
ps_status ps_pass_onehot(ps_rw *rw);
ps_status ps_pass_pad_conv(ps_rw *rw);
ps_status ps_pass_quantized(ps_rw *rw);
ps_status ps_pass_quantized_sum(ps_rw *rw);
ps_status ps_pass_sink_cast(ps_rw *rw);
ps_status ps_pass_softmax(ps_rw *rw);
ps_status ps_pass_widen(ps_rw *rw);
ps_status ps_pass_table(ps_rw *rw);

#endif
