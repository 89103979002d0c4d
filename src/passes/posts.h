/* posts.h - single nodes seen as post-operations. Private to this folder. */
#ifndef PS_PASSES_POSTS_H
#define PS_PASSES_POSTS_H

#include "passes/rewrite.h"

/* Node n as post-operations on its input `index`; operands (values, by position in ret_posts) in ret_operands. The
 * count, or 0 if n is no such node: not f32, an operand that would widen the chain, an unknown shape that matters. A
 * "polestar" Pointwise gives its whole chain. */
size_t ps_node_as_posts(const ps_node *n, size_t index, ps_post ret_posts[PS_MAX_POSTS],
                        ps_value *ret_operands[PS_MAX_POSTS]);
/* Appends them to a "polestar" node. */
ps_status ps_append_posts(ps_rw *rw, ps_node *base, const ps_post *posts, ps_value *const *operands, size_t n);
/* Base swallows n, the only reader of its output: base moves to n's place, gets the posts and n's output; n goes. */
ps_status ps_swallow(ps_rw *rw, ps_node *base, ps_node *n, const ps_post *posts, ps_value *const *operands,
                     size_t count);

#endif
