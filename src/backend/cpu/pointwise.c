/* pointwise.c - Pointwise nodes and lone elementwise operators in f32, in either layout. */
#include "backend/cpu/chain.h"

typedef struct pointwise_kernel {
    ps_kernel base;
    const ps_simd *simd;
    cpu_chain chain;
    int start; /* index of the chain's start in node->in */
} pointwise_kernel;

static ps_status pointwise_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const pointwise_kernel *k = (const pointwise_kernel *)kernel;
    cpu_chain_run(&k->chain, k->simd, args->in[k->start], args->out[0], args->in);
    return PS_OK;
}

static const ps_kernel_ops pointwise_ops = { pointwise_run, cpu_kernel_free, NULL, NULL };

/* Channels-last as soon as one input of the full shape lies so; everything else that cannot lie under it is reordered.
 */
static ps_layout choose_layout(const ps_lowering *l) {
    const ps_node *n = l->node;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] && l->in_layout[i] == PS_LAYOUT_CHANNELS_LAST && !ps_layout_same(&n->in[i]->shape) &&
            ps_shape_equal(&n->in[i]->shape, &n->out[0]->shape)) {
            return PS_LAYOUT_CHANNELS_LAST;
        }
    }
    return PS_LAYOUT_PLAIN;
}

/* Inputs of the output's rank follow the output's layout; lower ranks are plain whatever it is. */
static void settle_inputs(ps_lowering *l, ps_layout layout) {
    const ps_node *n = l->node;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!n->in[i] || cpu_layout_fits(&n->in[i]->shape, l->in_layout[i], layout)) continue;
        l->in_layout[i] = n->in[i]->shape.rank == n->out[0]->shape.rank ? layout : PS_LAYOUT_PLAIN;
    }
}

/* An input that the kernel may overwrite: same memory order element by element, and read by the chain's start only. */
static int inplace_of(const pointwise_kernel *k, const ps_node *n) {
    for (int i = 0; i < k->chain.n; i++) {
        if (ps_post_is_binary(k->chain.posts[i].kind) && k->chain.posts[i].operand == k->start) return -1;
    }
    return ps_shape_equal(&n->in[k->start]->shape, &n->out[0]->shape) ? k->start : -1;
}

static ps_status lower_chain(ps_device *device, ps_lowering *l, const ps_post *posts, int n_posts, int start,
                             ps_error *err) {
    const ps_node *n = l->node;
    pointwise_kernel *k;
    if (n->out[0]->dtype != PS_DTYPE_F32 || n->in[start]->dtype != PS_DTYPE_F32) return PS_OK;
    ps_layout layout = choose_layout(l);
    settle_inputs(l, layout);
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &pointwise_ops, "cpu.pointwise", &k, err));
    k->simd = cpu_of(device)->simd;
    k->start = start;
    if (!cpu_chain_init(&k->chain, n, posts, n_posts, &n->in[start]->shape, l->in_layout[start], l->in_layout,
                        &n->out[0]->shape, layout, l->threads)) {
        cpu_kernel_free(&k->base);
        return PS_OK;
    }
    l->out_layout[0] = layout;
    l->inplace = inplace_of(k, n);
    l->kernel = &k->base;
    return PS_OK;
}

ps_status cpu_lower_pointwise(ps_device *device, ps_lowering *l, ps_error *err) {
    ps_post posts[PS_MAX_POSTS];
    size_t n = ps_node_posts(l->node, posts);
    return lower_chain(device, l, posts, (int)n, 0, err);
}

typedef struct op_kind {
    const char *op;
    ps_post_kind kind;
} op_kind;

static bool kind_of(const op_kind *table, size_t n, const char *op, ps_post_kind *ret) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].op, op) != 0) continue;
        *ret = table[i].kind;
        return true;
    }
    return false;
}

ps_status cpu_lower_binary(ps_device *device, ps_lowering *l, ps_error *err) {
    static const op_kind table[] = { { "Add", PS_POST_ADD }, { "Sub", PS_POST_SUB }, { "Mul", PS_POST_MUL },
                                     { "Div", PS_POST_DIV }, { "Max", PS_POST_MAX }, { "Min", PS_POST_MIN } };
    ps_post post = { PS_POST_ADD, 1, 0, 0 };
    if (l->node->op->since < 7 && ps_node_attr(l->node, "broadcast")) return PS_OK; /* an axis says which dims meet */
    if (l->node->n_in != 2 || !kind_of(table, sizeof table / sizeof *table, l->node->op_type, &post.kind)) return PS_OK;
    return lower_chain(device, l, &post, 1, 0, err);
}

ps_status cpu_lower_unary(ps_device *device, ps_lowering *l, ps_error *err) {
    static const op_kind table[] = { { "Relu", PS_POST_RELU }, { "Sigmoid", PS_POST_SIGMOID },
                                     { "Tanh", PS_POST_TANH }, { "Exp", PS_POST_EXP },
                                     { "Sqrt", PS_POST_SQRT }, { "Abs", PS_POST_ABS },
                                     { "Erf", PS_POST_ERF },   { "Reciprocal", PS_POST_RECIPROCAL } };
    ps_post post = { PS_POST_RELU, -1, 0, 0 };
    if (!kind_of(table, sizeof table / sizeof *table, l->node->op_type, &post.kind)) return PS_OK;
    return lower_chain(device, l, &post, 1, 0, err);
}
