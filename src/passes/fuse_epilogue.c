/* fuse_epilogue.c - what follows a Conv, ConvTranspose, Gemm or MatMul element by element becomes its post-operations.
 *
 * Anchored at the follower: the product moves down to its place, where every operand exists. */
#include "passes/posts.h"

static bool is_product(const ps_node *n) {
    if (!n || n->n_out != 1 || n->out[0]->dtype != PS_DTYPE_F32) return false;
    if (ps_is_any(n, "Conv") || ps_is_any(n, "ConvTranspose") || ps_is_any(n, "Gemm") || ps_is_ours(n, "MatMul"))
        return true;
    return ps_is(n, "MatMul") && ps_const_floats(n->in[1]) && n->in[1]->shape.rank == 2;
}

/* Into our domain; input 2 is kept free for a bias. */
static ps_status make_ours(ps_rw *rw, ps_node *n) {
    if (n->domain[0]) return PS_OK;
    n->domain = "polestar";
    n->op = NULL;
    if (!n->fused) n->fused = n->op_type;
    return n->n_in < 3 ? ps_node_resize_inputs(n, 3, rw->err) : PS_OK;
}

/* MatMul + constant [N] (or [1, N] …) is a bias rather than an operand, as long as nothing else was hung behind it. */
static bool is_bias(const ps_node *product, const ps_node *n, size_t chain) {
    const ps_value *v = n->in[1 - chain];
    const ps_tensor *b = ps_const_floats(v);
    ps_post posts[PS_MAX_POSTS];
    if (!b || !ps_is_any(product, "MatMul") || !ps_is(n, "Add") || ps_has_in(product, 2)) return false;
    int64_t columns = product->in[1]->shape.dims[1];
    return ps_node_posts(product, posts) == 0 && b->shape.rank >= 1 && b->shape.dims[b->shape.rank - 1] == columns &&
           (int64_t)ps_tensor_count(b) == columns && b->shape.rank <= n->in[chain]->shape.rank;
}

/* The bias as a vector. */
static ps_status as_vector(ps_rw *rw, ps_value **bias) {
    const ps_tensor *b = (*bias)->constant;
    if (b->shape.rank == 1) return PS_OK;
    ps_shape shape = ps_shape_make(1, &b->shape.dims[b->shape.rank - 1]);
    return ps_rw_floats(rw, (*bias)->graph, &shape, b->data, bias);
}

static ps_status take_bias(ps_rw *rw, ps_node *product, ps_node *n, ps_value *bias) {
    PS_TRY(as_vector(rw, &bias));
    PS_TRY(make_ours(rw, product));
    PS_TRY(ps_node_set_input(product, 2, bias, rw->err));
    bool done;
    PS_TRY(ps_rw_fused(rw, product, "Bias"));
    PS_TRY(ps_rw_bypass(rw, n, product->out[0], &done));
    return ps_rw_finish(rw, product, 0);
}

static ps_status try_input(ps_rw *rw, ps_node *n, size_t i, bool *done) {
    ps_post posts[PS_MAX_POSTS], present[PS_MAX_POSTS];
    ps_value *operands[PS_MAX_POSTS];
    ps_node *product = ps_sole_producer(n->in[i], n->graph);
    if (!is_product(product)) return PS_OK;
    *done = true;
    if (n->n_in == 2 && is_bias(product, n, i)) {
        return take_bias(rw, product, n, n->in[1 - i]);
    }
    *done = false;
    size_t count = ps_node_as_posts(n, i, posts, operands);
    size_t room = rw->caps->max_posts < PS_MAX_POSTS ? rw->caps->max_posts : PS_MAX_POSTS;
    if (count == 0 || count + ps_node_posts(product, present) > room) return PS_OK;
    *done = true;
    PS_TRY(make_ours(rw, product));
    return ps_swallow(rw, product, n, posts, operands, count);
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    bool done = false;
    if (!n->op || n->n_out != 1) return PS_OK;
    /* Of two products that are added the later one swallows the sum, so that the other is ready by then. */
    for (size_t i = n->n_in < 2 ? n->n_in : 2; i-- > 0 && !done;) {
        if (n->in[i]) PS_TRY(try_input(rw, n, i, &done));
    }
    return PS_OK;
}

ps_status ps_pass_fuse_epilogue(ps_rw *rw) {
    return rw->caps->fuse_epilogue ? ps_rw_each(rw, rewrite) : PS_OK;
}
