/* attention.c - softmax(scale q k^T + mask) v per head, without forming transposed copies of q, v or the output.
 *
 * One item is a block of query rows of one head: scores of the block stay in the second-level cache between the two
 * products. */
#include "backend/cpu/cpu_int.h"

#define BLOCK 32

typedef struct attention_kernel {
    ps_kernel base;
    const ps_simd *simd;
    float scale;
    int threads, slots;
    bool has_mask;
    int64_t batch, heads, sq, sk, d, dv;
    int64_t mask[4];    /* strides over batch, head, query, key */
    int64_t slot_bytes; /* workspace of one thread, in floats */
} attention_kernel;

typedef struct attention_job {
    const attention_kernel *k;
    const float *q, *key, *v, *mask;
    float *y, *workspace;
} attention_job;

/* [sk][d] of one head → [d][sk] */
static void transpose_keys(const attention_kernel *k, const float *key, float *dst) {
    int64_t ld = k->heads * k->d;
    for (int64_t i = 0; i < k->sk; i++) {
        for (int64_t c = 0; c < k->d; c++)
            dst[c * k->sk + i] = key[i * ld + c];
    }
}

static void softmax_block(const attention_job *j, int64_t b, int64_t h, int64_t row, int64_t rows, float *scores,
                          float *buf) {
    const attention_kernel *k = j->k;
    for (int64_t r = 0; r < rows; r++) {
        const float *mask = NULL;
        if (k->has_mask) {
            mask = j->mask + b * k->mask[0] + h * k->mask[1] + (row + r) * k->mask[2];
            if (k->mask[3] != 1) {
                for (int64_t i = 0; i < k->sk; i++)
                    buf[i] = mask[i * k->mask[3]];
                mask = buf;
            }
        }
        k->simd->softmax_row(scores + r * k->sk, k->scale, mask, scores + r * k->sk, k->sk, false);
    }
}

static void attend(void *ctx, int64_t begin, int64_t end, int thread) {
    const attention_job *j = ctx;
    const attention_kernel *k = j->k;
    float *keys = j->workspace + thread * k->slot_bytes, *scores = keys + k->d * k->sk, *buf = scores + BLOCK * k->sk;
    int64_t blocks = (k->sq + BLOCK - 1) / BLOCK, ready = -1;
    int64_t ldq = k->heads * k->d, ldv = k->heads * k->dv;
    for (int64_t item = begin; item < end; item++) {
        int64_t head = item / blocks, b = head / k->heads, h = head % k->heads, row = item % blocks * BLOCK;
        int64_t rows = k->sq - row < BLOCK ? k->sq - row : BLOCK;
        if (ready != head) transpose_keys(k, j->key + b * k->sk * ldq + h * k->d, keys);
        ready = head;
        k->simd->gemm_small(j->q + (b * k->sq + row) * ldq + h * k->d, ldq, keys, k->sk, NULL, scores, k->sk, rows,
                            k->sk, k->d);
        softmax_block(j, b, h, row, rows, scores, buf);
        k->simd->gemm_small(scores, k->sk, j->v + b * k->sk * ldv + h * k->dv, ldv, NULL,
                            j->y + (b * k->sq + row) * ldv + h * k->dv, ldv, rows, k->dv, k->sk);
    }
}

static ps_status attention_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const attention_kernel *k = (const attention_kernel *)kernel;
    attention_job job = {
        k, args->in[0], args->in[1], args->in[2], k->has_mask ? args->in[3] : NULL, args->out[0], args->workspace
    };
    int64_t blocks = (k->sq + BLOCK - 1) / BLOCK;
    ps_parallel_for(k->batch * k->heads * blocks, 1, k->threads, attend, &job);
    return PS_OK;
}

static bool mask_strides(const ps_shape *m, attention_kernel *k) {
    int64_t full[4] = { k->batch, k->heads, k->sq, k->sk }, step = 1;
    if (m->rank > 4) return false;
    for (int i = 3; i >= 0; i--) {
        int a = i - (4 - m->rank);
        int64_t dim = a < 0 ? 1 : m->dims[a];
        if (dim != 1 && dim != full[i]) return false;
        k->mask[i] = dim == 1 ? 0 : step;
        step *= dim;
    }
    return true;
}

static bool fill(attention_kernel *k, const ps_node *n) {
    const ps_attention_params *p = n->params;
    const ps_shape *q = &n->in[0]->shape, *key = &n->in[1]->shape, *v = &n->in[2]->shape;
    k->batch = q->dims[0];
    k->heads = p->heads;
    k->sq = q->dims[1];
    k->sk = key->dims[1];
    k->d = q->dims[2] / p->heads;
    k->dv = v->dims[2] / p->heads;
    k->scale = p->scale;
    k->has_mask = ps_has_in(n, 3);
    if (!k->batch || !k->sq || !k->sk || !k->d || !k->dv) return false;
    return !k->has_mask || mask_strides(&n->in[3]->shape, k);
}

ps_status cpu_lower_attention(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { attention_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    attention_kernel *k;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] && n->in[i]->dtype != PS_DTYPE_F32) return PS_OK;
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    }
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "cpu.attention", &k, err));
    if (!fill(k, n)) {
        cpu_kernel_free(&k->base);
        return PS_OK;
    }
    k->simd = cpu_of(device)->simd;
    k->threads = l->threads;
    k->slot_bytes = (k->d * k->sk + BLOCK * k->sk + k->sk + 15) / 16 * 16;
    k->base.workspace = (size_t)k->slot_bytes * sizeof(float) * (size_t)l->threads;
    l->kernel = &k->base;
    return PS_OK;
}
