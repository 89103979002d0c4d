/* pointwise.c - Pointwise nodes and lone elementwise operators in f32, in either layout. */
#include "backend/cpu/chain.h"

typedef struct pointwise_kernel {
    ps_kernel base;
    const ps_simd *simd;
    ps_chain chain;
    int start; /* index of the chain's start in node->in */
} pointwise_kernel;

static ps_status pointwise_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const pointwise_kernel *k = (const pointwise_kernel *)kernel;
    cpu_chain_run(&k->chain, k->simd, args->in[k->start], args->out[0], args->in);
    return PS_OK;
}

static const ps_kernel_ops pointwise_ops = { pointwise_run, cpu_kernel_free, NULL, NULL };

static ps_status lower_chain(ps_device *device, ps_lowering *l, const ps_post *posts, int n_posts, int start,
                             ps_error *err) {
    const ps_node *n = l->node;
    pointwise_kernel *k;
    if (n->out[0]->dtype != PS_DTYPE_F32 || n->in[start]->dtype != PS_DTYPE_F32) return PS_OK;
    const ps_layout layout = ps_chain_layout(l);
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &pointwise_ops, "cpu.pointwise", &k, err));
    k->simd = cpu_of(device)->simd;
    k->start = start;
    if (!ps_chain_init(&k->chain, n, posts, n_posts, &n->in[start]->shape, l->in_layout[start], l->in_layout,
                       &n->out[0]->shape, layout, l->threads)) {
        cpu_kernel_free(&k->base);
        return PS_OK;
    }
    l->out_layout[0] = layout;
    l->inplace = ps_chain_inplace(&k->chain, n, start);
    l->kernel = &k->base;
    return PS_OK;
}

ps_status cpu_lower_pointwise(ps_device *device, ps_lowering *l, ps_error *err) {
    ps_post posts[PS_MAX_POSTS];
    size_t n = ps_node_posts(l->node, posts);
    return lower_chain(device, l, posts, (int)n, 0, err);
}

ps_status cpu_lower_operator(ps_device *device, ps_lowering *l, ps_error *err) {
    ps_post post;
    return ps_node_as_post(l->node, &post) ? lower_chain(device, l, &post, 1, 0, err) : PS_OK;
}
