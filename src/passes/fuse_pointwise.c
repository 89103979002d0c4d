/* fuse_pointwise.c - chains of pointwise f32 operators, each the only reader of the one before, become one Pointwise.
 */
#include "passes/posts.h"

/* The only input along which p may start a chain. */
static size_t chain_input(const ps_node *p, ps_post posts[PS_MAX_POSTS], ps_value *operands[PS_MAX_POSTS],
                          size_t *ret_count) {
    for (size_t i = 0; i < 2 && i < p->n_in; i++) {
        if (!p->in[i] || ps_const(p->in[i])) continue;
        *ret_count = ps_node_as_posts(p, i, posts, operands);
        if (*ret_count) return i;
    }
    *ret_count = 0;
    return 0;
}

/* A pointwise standard node as a Pointwise in its own place. */
static ps_status make_pointwise(ps_rw *rw, ps_node *p, size_t input, const ps_post *posts, ps_value *const *operands,
                                size_t count, ps_node **ret) {
    ps_value *start = p->in[input];
    const char *text = p->fused ? p->fused : p->op_type;
    PS_TRY(ps_rw_begin(rw, p, "Pointwise", "polestar", &start, 1, ret));
    PS_TRY(ps_append_posts(rw, *ret, posts, operands, count));
    PS_TRY(ps_rw_commit(rw, *ret, p));
    (*ret)->fused = text;
    return ps_rw_finish(rw, *ret, 0);
}

static ps_status try_input(ps_rw *rw, ps_node *n, size_t i, bool *done) {
    ps_post posts[PS_MAX_POSTS], first[PS_MAX_POSTS];
    ps_value *operands[PS_MAX_POSTS], *first_operands[PS_MAX_POSTS];
    ps_node *p = ps_sole_producer(n->in[i], n->graph);
    if (!p || !p->op || p->n_out != 1 || !ps_has_in(p, 0)) return PS_OK;
    size_t count = ps_node_as_posts(n, i, posts, operands), n_first;
    if (count == 0) return PS_OK;
    size_t input = chain_input(p, first, first_operands, &n_first);
    size_t room = rw->caps->max_posts < PS_MAX_POSTS ? rw->caps->max_posts : PS_MAX_POSTS;
    if (n_first == 0 || n_first + count > room) return PS_OK;
    *done = true;
    if (!ps_is_ours(p, "Pointwise")) PS_TRY(make_pointwise(rw, p, input, first, first_operands, n_first, &p));
    return ps_swallow(rw, p, n, posts, operands, count);
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    bool done = false;
    if (!n->op || n->n_out != 1 || !n->out[0] || !ps_shape_fixed(&n->out[0]->shape)) return PS_OK;
    for (size_t i = 0; i < 2 && i < n->n_in && !done; i++) {
        if (n->in[i]) PS_TRY(try_input(rw, n, i, &done));
    }
    return PS_OK;
}

ps_status ps_pass_fuse_pointwise(ps_rw *rw) {
    return rw->caps->fuse_pointwise ? ps_rw_each(rw, rewrite) : PS_OK;
}
