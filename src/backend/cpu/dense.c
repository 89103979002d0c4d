/* dense.c - see dense.h. */
#ifdef PS_WITH_DNNL
#include "backend/cpu/dense.h"

typedef struct dense_kernel {
    ps_kernel base;
    const ps_simd *simd;
    ps_dnnl *dnnl;
    psd_prim *prim;
    const void *weights; /* packed, of the weight store; NULL: node input 1 as it is */
    int n_inside;        /* post-ops inside the primitive */
    int operand[PS_MAX_POSTS];
    int residual; /* node input that is summed, or -1 */
    int bias;     /* node input, or -1 */
    size_t out_bytes;
    size_t code; /* bytes of the primitive that count as this model's */
    bool has_chain;
    ps_chain chain;
} dense_kernel;

static ps_status dense_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const dense_kernel *k = (const dense_kernel *)kernel;
    psd_args a = { .src = args->in[0], .dst = args->out[0], .scratchpad = args->workspace };
    a.weights = k->weights ? k->weights : args->in[1];
    a.bias = k->bias >= 0 ? args->in[k->bias] : NULL;
    for (int i = 0; i < k->n_inside; i++) {
        if (k->operand[i] >= 0) a.operands[i] = args->in[k->operand[i]];
    }
    if (k->residual >= 0 && args->in[k->residual] != args->out[0]) {
        memcpy(args->out[0], args->in[k->residual], k->out_bytes);
    }
    PS_TRY(psd_exec_run(args->state, &a, err));
    if (k->has_chain) cpu_chain_run(&k->chain, k->simd, args->out[0], args->out[0], args->in);
    return PS_OK;
}

static void dense_free(ps_kernel *kernel) {
    dense_kernel *k = (dense_kernel *)kernel;
    psd_prim_release(k->prim);
    ps_alloc_uncount(kernel->alloc, k->code);
    ps_free(kernel->alloc, k);
}

static ps_status state_new(const ps_kernel *kernel, ps_alloc_state *alloc, void **ret, ps_error *err) {
    const dense_kernel *k = (const dense_kernel *)kernel;
    psd_exec *x;
    PS_TRY(psd_exec_new(k->dnnl, k->prim, alloc, &x, err));
    *ret = x;
    return PS_OK;
}

static void state_free(const ps_kernel *kernel, ps_alloc_state *alloc, void *state) {
    psd_exec_free(state, alloc);
}

static const ps_kernel_ops dense_ops = { dense_run, dense_free, state_new, state_free };

/* ---- choosing how much epilogue goes inside ---- */

typedef struct epilogue {
    ps_post posts[PS_MAX_POSTS];
    int n;
    int residual_at; /* post that is a full-size addition oneDNN can sum, or -1 */
} epilogue;

static void find_residual(const ps_node *n, epilogue *e) {
    e->residual_at = -1;
    for (int i = 0; i < e->n; i++) {
        const ps_post *p = &e->posts[i];
        if (p->kind != PS_POST_ADD || n->in[p->operand]->constant || n->in[p->operand]->dtype != PS_DTYPE_F32) continue;
        if (!ps_shape_equal(&n->in[p->operand]->shape, &n->out[0]->shape)) continue;
        bool again = false;
        for (int j = 0; j < e->n; j++)
            again |= j != i && ps_post_is_binary(e->posts[j].kind) && e->posts[j].operand == p->operand;
        if (again || n->in[p->operand] == n->in[0]) continue; /* its memory would change under the other reader */
        e->residual_at = i;
        return;
    }
}

static bool fill_posts(const ps_lowering *l, const cpu_dense *what, const epilogue *e, int count, psd_desc *d) {
    const ps_node *n = l->node;
    memset(d->posts, 0, sizeof d->posts);
    d->n_posts = count;
    for (int i = 0; i < count; i++) {
        psd_post *to = &d->posts[i];
        const ps_post *p = &e->posts[i];
        to->kind = i == e->residual_at ? PSD_POST_SUM : (int64_t)p->kind;
        to->alpha = p->alpha;
        to->beta = p->beta;
        if (!psd_post_possible(to)) return false;
        if (i == e->residual_at || !ps_post_is_binary(p->kind)) continue;
        if (n->in[p->operand]->dtype != PS_DTYPE_F32) return false;
        if (!what->operand_md(&n->in[p->operand]->shape, &n->out[0]->shape, &to->operand)) return false;
    }
    return true;
}

static ps_status best_prim(const cpu_device *dev, const ps_lowering *l, const cpu_dense *what, const epilogue *e,
                           psd_desc *d, int *ret_inside, psd_prim **ret, ps_error *err) {
    *ret = NULL;
    for (int count = e->n; count >= 0; count--) {
        if (!fill_posts(l, what, e, count, d)) continue;
        PS_TRY(psd_prim_get(dev->dnnl, d, ret, err));
        if (*ret && !psd_prim_is_slow(*ret)) {
            *ret_inside = count;
            return PS_OK;
        }
        psd_prim_release(*ret);
        *ret = NULL;
    }
    return PS_OK;
}

typedef struct pack_job {
    ps_dnnl *dnnl;
    const psd_prim *prim;
    const psd_md *from;
    const void *src;
} pack_job;

static ps_status pack(void *ctx, void *dst, ps_error *err) {
    const pack_job *j = ctx;
    return psd_pack(j->dnnl, j->prim, j->from, j->src, dst, err);
}

static ps_status pack_weights(ps_lowering *l, const cpu_dense *what, dense_kernel *k, ps_error *err) {
    char key[64];
    if (!what->weights) return PS_OK;
    pack_job job = { k->dnnl, k->prim, &what->from, what->weights->data };
    psd_prim_weights_key(k->prim, &what->from, key, sizeof key);
    return ps_weights_take(l, 1, key, psd_prim_weights_size(k->prim), pack, &job, &k->weights, err);
}

/* Operands of the output's rank lie as the output does; lower ranks are plain. */
static void settle_operands(ps_lowering *l, const cpu_dense *what, dense_kernel *k, const epilogue *e) {
    const ps_node *n = l->node;
    for (int i = 0; i < e->n; i++) {
        const ps_post *p = &e->posts[i];
        k->operand[i] = -1;
        if (!ps_post_is_binary(p->kind)) continue;
        bool full = n->in[p->operand]->shape.rank == n->out[0]->shape.rank;
        l->in_layout[p->operand] = full ? what->layout : PS_LAYOUT_PLAIN;
        if (i >= k->n_inside) continue;
        if (i == e->residual_at)
            k->residual = p->operand;
        else
            k->operand[i] = p->operand;
    }
}

static ps_status finish(ps_lowering *l, const cpu_dense *what, dense_kernel *k, const epilogue *e, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *out = &n->out[0]->shape;
    PS_TRY(pack_weights(l, what, k, err));
    for (uint32_t i = 0; i < n->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    l->in_layout[0] = what->layout;
    l->out_layout[0] = what->layout;
    settle_operands(l, what, k, e);
    k->out_bytes = (size_t)ps_shape_product(out, 0, out->rank) * sizeof(float);
    k->base.workspace = psd_prim_scratchpad(k->prim);
    l->inplace = k->residual;
    k->has_chain = k->n_inside < e->n;
    if (!k->has_chain) return PS_OK;
    if (ps_chain_init(&k->chain, n, e->posts + k->n_inside, e->n - k->n_inside, out, what->layout, l->in_layout, out,
                       what->layout, l->threads)) {
        return PS_OK;
    }
    char label[160];
    return PS_FAIL(err, INTERNAL, "%s: its post-operations cannot be laid out", ps_node_label(n, label, sizeof label));
}

/* Code that oneDNN makes is no small part of a model of many convolutions. */
static ps_status count_code(const ps_lowering *l, dense_kernel *k, ps_error *err) {
    const size_t bytes = psd_prim_charge(k->prim);
    if (!ps_alloc_count(l->alloc, bytes)) return PS_FAIL_NOMEM(err, "the code of a primitive");
    k->code = bytes;
    k->base.bytes += bytes;
    return PS_OK;
}

ps_status cpu_lower_dense(ps_device *device, ps_lowering *l, cpu_dense *what, ps_error *err) {
    const cpu_device *dev = cpu_of(device);
    epilogue e = { .n = 0 };
    psd_prim *prim;
    dense_kernel *k;
    int inside = 0;
    e.n = (int)ps_node_posts(l->node, e.posts);
    find_residual(l->node, &e);
    PS_TRY(best_prim(dev, l, what, &e, &what->desc, &inside, &prim, err));
    if (!prim) return PS_OK;
    ps_status status = ps_kernel_new(l->alloc, sizeof *k, &dense_ops, "", &k, err);
    if (status != PS_OK) {
        psd_prim_release(prim);
        return status;
    }
    k->simd = dev->simd;
    k->dnnl = dev->dnnl;
    k->prim = prim;
    k->n_inside = inside;
    k->residual = -1;
    k->bias = what->desc.bias ? 2 : -1;
    status = count_code(l, k, err);
    if (status == PS_OK) status = finish(l, what, k, &e, err);
    if (status != PS_OK) {
        dense_free(&k->base);
        return status;
    }
    ps_snprintf(k->base.label, sizeof k->base.label, "onednn.%s %s%s", what->label, psd_prim_info(prim),
                k->has_chain ? " +chain" : "");
    l->kernel = &k->base;
    return PS_OK;
}

#endif
