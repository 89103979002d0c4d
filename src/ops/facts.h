/* facts.h - what is known of a node's inputs, seen alike from a shape rule and from a kernel.
 *
 * Many operators turn integer inputs (axes, starts, repeats …) and the shape of in[0] into an output shape. Written
 * against ps_facts, that computation serves twice: in the shape rule with what the graph knows (ctx == NULL), and in
 * the reference kernel with the tensors themselves, where everything is known. */
#ifndef PS_OPS_FACTS_H
#define PS_OPS_FACTS_H

#include "ops/ops.h"

typedef struct ps_facts {
    const ps_node *node;
    const ps_kernel_ctx *ctx; /* NULL: the facts of the graph */
} ps_facts;

static inline ps_facts ps_facts_graph(const ps_node *node) {
    return (ps_facts) { node, NULL };
}
static inline ps_facts ps_facts_ctx(const ps_kernel_ctx *ctx) {
    return (ps_facts) { ctx->node, ctx };
}

bool ps_facts_has(const ps_facts *f, size_t i);
ps_dtype ps_facts_dtype(const ps_facts *f, size_t i);
ps_shape ps_facts_shape(const ps_facts *f, size_t i); /* unknown rank if the input is absent */

/* The tensor of an input whose data is known, else NULL. */
const ps_tensor *ps_facts_tensor(const ps_facts *f, size_t i);
/* The integers of a small input. *ret_known is false if the input is absent or not constant, and then ret is untouched.
 * Fails if the input is known to be no integer list of at most max elements; `what` names it in the sentence. */
ps_status ps_facts_ints(const ps_facts *f, size_t i, const char *what, int64_t *ret, size_t max, size_t *ret_n,
                        bool *ret_known, ps_error *err);
/* Number of elements of an input that is a list: -1 if unknown. */
int64_t ps_facts_length(const ps_facts *f, size_t i);
/* One double from a one-element input; false if absent, not constant or no number. */
bool ps_facts_double(const ps_facts *f, size_t i, double *ret);

/* Marks axes in [-rank, rank) in `ret`; refuses an axis outside and one given twice. */
ps_status ps_axes_mark(const ps_node *node, const int64_t *axes, size_t n, int rank, bool ret[PS_MAX_RANK],
                       ps_error *err);
ps_status ps_axis_check(const ps_node *node, int64_t axis, int rank, int *ret, ps_error *err);

/* ps_infer_set after checking that a fixed shape has a byte size that fits. */
ps_status ps_infer_checked(const ps_node *node, size_t i, ps_dtype dtype, const ps_shape *shape, ps_error *err);

/* Text for messages, valid to the end of the enclosing block. */
#define PS_LABEL(node) ps_node_label((node), (char[160]) { 0 }, 160)
#define PS_SHAPE_TEXT(shape) ps_shape_text((shape), (char[200]) { 0 }, 200)

#endif
