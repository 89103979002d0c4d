/* attention.c - Attention: in one launch, or as two products with a softmax between, by cost. */
#include "backend/opencl/gemm.h"

typedef struct attention {
    int64_t batch, heads, sq, sk, d, dv;
    int64_t mask[4]; /* strides over batch, head, query, key */
    bool mask_half;
} attention;

static bool mask_strides(const ps_shape *m, attention *t) {
    const int64_t full[4] = { t->batch, t->heads, t->sq, t->sk };
    int64_t step = 1;
    for (int i = 3; i >= 0; i--) {
        const int d = i - (4 - m->rank);
        const int64_t dim = d < 0 ? 1 : m->dims[d];
        if (m->rank > 4 || (dim != 1 && dim != full[i])) return false;
        t->mask[i] = dim == 1 ? 0 : step;
        step *= dim;
    }
    return true;
}

/* ---- scores in memory: two products with a softmax between ---- */

static void products_of(const ocl_device *d, const ps_lowering *l, const attention *t, ocl_gemm *ret_scores,
                        ocl_gemm *ret_sum) {
    const int64_t q = t->heads * t->d, v = t->heads * t->dv;
    *ret_scores = (ocl_gemm) { .b_mode = OCL_B_COLUMNS,
                               .m = t->sq,
                               .n = t->sk,
                               .k = t->d,
                               .lda = q,
                               .ldb = q,
                               .ldc = t->sk,
                               .outer = t->batch,
                               .inner = t->heads,
                               .step = { t->sq * q, t->d, t->sk * q, t->d, t->heads * t->sq * t->sk, t->sq * t->sk },
                               .a = { OCL_ARG_IN, { .index = 0 } },
                               .b = { OCL_ARG_IN, { .index = 1 } },
                               .c = { OCL_ARG_WORK, { .bytes = 0 } },
                               .a_half = l->in_half[0],
                               .b_half = l->in_half[1] };
    *ret_sum = (ocl_gemm) { .m = t->sq,
                            .n = t->dv,
                            .k = t->sk,
                            .lda = t->sk,
                            .ldb = v,
                            .ldc = v,
                            .outer = t->batch,
                            .inner = t->heads,
                            .step = { t->heads * t->sq * t->sk, t->sq * t->sk, t->sk * v, t->dv, t->sq * v, t->dv },
                            .a = { OCL_ARG_WORK, { .bytes = 0 } },
                            .b = { OCL_ARG_IN, { .index = 2 } },
                            .c = { OCL_ARG_OUT, { .index = 0 } },
                            .b_half = l->in_half[2],
                            .c_half = l->out_half[0] };
    ocl_gemm_plan(d, ret_scores, false);
    ocl_gemm_plan(d, ret_sum, false);
}

static ps_status softmax_launch(ocl_kernel *k, const attention *t, float scale, bool mask, ps_error *err) {
    char options[64];
    ocl_launch *l;
    ps_snprintf(options, sizeof options, "-DMASK=%d%s", mask, ocl_halves(t->mask_half, false));
    PS_TRY(ocl_launch_init(k, 1, "softmax", options, "", "softmax_scores", &l, err));
    ocl_arg_work(l, 0);
    ocl_arg_int(l, t->sk);
    ocl_arg_float(l, scale);
    if (mask) {
        const int64_t dims[8] = { t->heads, t->sq, t->mask[0], t->mask[1], t->mask[2], t->mask[3] };
        ocl_arg_in(l, 3);
        ocl_arg_ints(l, dims, 8);
    }
    ocl_launch_size(l, t->batch * t->heads * t->sq * 64, 1, 1, 64, 1);
    return PS_OK;
}

static double apart_cost(const ocl_device *d, const ocl_gemm *scores, const ocl_gemm *sum) {
    const double elements = (double)(scores->outer * scores->inner * scores->m * scores->n);
    const double a = ocl_gemm_cost(d, scores), b = ocl_gemm_cost(d, sum), stored = ocl_traffic_cost(d, elements);
    return (a > stored ? a : stored) + ocl_traffic_cost(d, 4 * elements) + (b > stored ? b : stored);
}

static ps_status apart(ocl_kernel *k, const attention *t, const ocl_gemm *scores, const ocl_gemm *sum, float scale,
                       bool mask, ps_error *err) {
    const ps_chain none = { .rank = 1, .dims = { 1 } };
    PS_TRY(ocl_gemm_launch(k, 0, scores, &none, t->sk, err));
    PS_TRY(softmax_launch(k, t, scale, mask, err));
    return ocl_gemm_launch(k, 2, sum, &none, t->heads * t->dv, err);
}

/* ---- in one launch (kernels/attention.cl) ---- */

#define TILE 32         /* queries of a group, keys of a step */
#define MOST_COLUMNS 64 /* of v */
/* What scores are beside their multiply-adds (exp, the largest, barriers), as multiply-adds of an item a tile. */
#define AROUND 600
/* Of its multiply-adds beside the best tile's of a product: half as many to an access of local memory. */
#define FUSED_SPEED 0.8

static int64_t tiles(int64_t n) {
    return (n + TILE - 1) / TILE;
}

static int width_of(const attention *t) {
    return t->dv > MOST_COLUMNS / 2 ? 2 : 1;
}

static bool can_fuse(const attention *t) {
    return t->dv <= MOST_COLUMNS && t->batch <= 65535 && t->heads <= 65535;
}

static double fused_cost(const ocl_device *d, const attention *t) {
    const double groups = (double)(tiles(t->sq) * t->heads * t->batch);
    const double a_tile = (double)(tiles(t->d) * TILE * 16 + TILE * 16 * width_of(t) + AROUND);
    return ocl_busy_items(d, groups, 64) * (double)tiles(t->sk) * a_tile / FUSED_SPEED + ocl_launch_cost(d);
}

/* On NVIDIA's cards launches follow each other closely and caches hold the scores: one launch took 5 % longer for all
 * of BERT-base (H100, batch 1), so that it is for what cannot be kept. Processors have products without barriers. */
static bool gains(const ocl_device *d, const attention *t, const ocl_gemm *scores, const ocl_gemm *sum) {
    return d->family != OCL_NVIDIA && d->family != OCL_CPU && fused_cost(d, t) < apart_cost(d, scores, sum);
}

static ps_status fused_launch(ocl_kernel *k, const attention *t, float scale, bool mask, bool in_half, bool out_half,
                              ps_error *err) {
    char options[128];
    ocl_launch *l;
    ps_snprintf(options, sizeof options, "-DWIDTH=%d -DWIDE=%d -DMASK=%d -DUNROLL=%d%s%s", width_of(t),
                t->d % 4 == 0 && t->dv % 4 == 0, mask, k->device->gpu, ocl_halves(in_half, out_half),
                t->mask_half ? " -DMASK_HALF=1" : "");
    PS_TRY(ocl_launch_init(k, 0, "attention", options, "", "attention", &l, err));
    for (uint32_t i = 0; i < 3; i++)
        ocl_arg_in(l, i);
    ocl_arg_out(l, 0);
    ocl_arg_ints(l, (int64_t[]) { t->sq, t->sk, t->d, t->dv, t->heads }, 5);
    ocl_arg_float(l, scale);
    if (mask) {
        ocl_arg_in(l, 3);
        ocl_arg_ints(l, t->mask, 4);
    }
    ocl_launch_size(l, tiles(t->sq) * 64, t->heads, t->batch, 64, 1);
    return PS_OK;
}

/* ---- lowering ---- */

static const char *describe(const ps_node *n, attention *t) {
    const ps_attention_params *p = n->params;
    const ps_shape *q = &n->in[0]->shape, *key = &n->in[1]->shape, *v = &n->in[2]->shape;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] && n->in[i]->dtype != PS_DTYPE_F32) return "not f32";
    }
    *t = (attention) { .batch = q->dims[0],
                       .heads = p->heads,
                       .sq = q->dims[1],
                       .sk = key->dims[1],
                       .d = q->dims[2] / p->heads,
                       .dv = v->dims[2] / p->heads };
    return ps_has_in(n, 3) && !mask_strides(&n->in[3]->shape, t) ? "a mask of another form" : NULL;
}

/* Scores that are kept have to be few enough for offsets. */
static bool can_keep(const attention *t, int64_t *ret_elements) {
    const ps_shape scores = ps_shape_make(4, (int64_t[]) { t->batch, t->heads, t->sq, t->sk });
    return ps_shape_elements(&scores, ret_elements) && *ret_elements <= INT32_MAX / 64;
}

ps_status ocl_lower_attention(ps_device *device, ps_lowering *l, ps_error *err) {
    const ocl_device *d = ocl_of(device);
    const ps_attention_params *p = l->node->params;
    const bool mask = ps_has_in(l->node, 3);
    attention t = { 0 };
    ocl_gemm scores, sum;
    ocl_kernel *k;
    int64_t elements = 0;
    if (!ocl_sizes_fit(l)) return PS_OK;
    l->why = describe(l->node, &t);
    if (l->why) return PS_OK;
    const bool keep = can_keep(&t, &elements) && !(d->test_attention > 0 && can_fuse(&t));
    if (!keep && !can_fuse(&t)) return ocl_decline(l, "too many scores at once");
    t.mask_half = mask && l->in_half[3];
    if (keep) products_of(d, l, &t, &scores, &sum);
    const bool all_half = l->in_half[0] && l->in_half[1] && l->in_half[2];
    const bool fuse = !keep || (can_fuse(&t) && !d->test_attention && gains(d, &t, &scores, &sum));
    for (uint32_t i = 0; i < l->node->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    if (fuse) l->in_half[0] = l->in_half[1] = l->in_half[2] = all_half;
    PS_TRY(ocl_kernel_new(device, l, fuse ? 1 : 3, fuse ? "opencl.attention fused" : "opencl.attention", &k, err));
    if (!fuse) k->base.workspace = (size_t)elements * sizeof(float);
    ps_status status = fuse ? fused_launch(k, &t, p->scale, mask, all_half, l->out_half[0], err)
                            : apart(k, &t, &scores, &sum, p->scale, mask, err);
    return ocl_kernel_done(l, k, status);
}
