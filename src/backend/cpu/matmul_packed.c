/* matmul_packed.c - products with constant weights by our own panels, at every instruction set: one packed form
 * whatever the number of rows, where oneDNN wants several (AVX-512) or none (below, it copies the weights in every
 * run).
 *
 * Measured beside oneDNN's at AVX-512, products of MiniLM, BERT-base and an MLP: within 3 % from 16 rows on, 1.1 to 1.9
 * times as fast where weights come from memory and rows are few; slower only for 3 rows of weights in cache (0.85).
 *
 * Weights are packed as panels [K][panel_width]; a panel is walked by a chunk of rows while it is in cache, and the
 * chunk meets all panels. Bias goes in with the product, post-ops follow as a chain over the chunk, or over the output
 * where threads share chunks. */
#include "backend/cpu/chain.h"

typedef struct packed_kernel {
    ps_kernel base;
    const ps_simd *simd;
    const float *panels;
    int64_t m, n, k;
    int threads;
    bool has_bias, has_chain;
    ps_chain chain;
} packed_kernel;

typedef struct packed_job {
    const packed_kernel *k;
    const float *a, *bias;
    float *c;
    void *const *in;
    int64_t panels, chunk; /* chunk: rows */
    bool chain_in_chunk;
} packed_job;

enum { FEW_ROWS = 24, MANY_ROWS = 64 }; /* for which weights are fetched at least: shared among threads, and else */

/* One item is one panel against one chunk of rows; a chunk meets all panels while it is in cache. */
static void run_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const packed_job *j = ctx;
    const packed_kernel *k = j->k;
    int64_t width = k->simd->panel_width, size = width * k->k;
    for (int64_t item = begin; item < end; item++) {
        int64_t panel = item % j->panels, row = item / j->panels * j->chunk, col = panel * width;
        int64_t rows = k->m - row < j->chunk ? k->m - row : j->chunk, cols = k->n - col < width ? k->n - col : width;
        const float *next = item + 1 < end ? k->panels + (item + 1) % j->panels * size : NULL;
        k->simd->gemm_panel(j->a + row * k->k, k->k, k->panels + panel * size, j->bias ? j->bias + col : NULL,
                            j->c + row * k->n + col, k->n, rows, cols, k->k, next);
        if (!j->chain_in_chunk || panel + 1 < j->panels) continue;
        cpu_chain_span(&k->chain, k->simd, j->c, j->c, j->in, row * k->n, rows * k->n);
    }
}

/* Rows of an item: as many as stay in half a second-level cache (256 KiB), but for few the weights would stream past
 * too often; fewer where that leaves threads without work, equal shares where each has some. */
static int64_t rows_of_chunk(const packed_kernel *k, int64_t panels, int threads) {
    int64_t in_cache = 65536 / k->k > MANY_ROWS ? 65536 / k->k : MANY_ROWS, chunks = (k->m + in_cache - 1) / in_cache;
    int64_t least = threads > 1 ? (3 * threads + panels - 1) / panels : 1;
    if (chunks >= threads) chunks = (chunks + threads - 1) / threads * threads;
    if (chunks < least) chunks = least;
    int64_t rows = (k->m + chunks - 1) / chunks;
    return rows < FEW_ROWS ? FEW_ROWS : rows;
}

static ps_status packed_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const packed_kernel *k = (const packed_kernel *)kernel;
    packed_job job = { k, args->in[0], k->has_bias ? args->in[2] : NULL, args->out[0], args->in, 0, 0, false };
    int threads = k->m * k->n * k->k < 32768 ? 1 : k->threads;
    job.panels = (k->n + k->simd->panel_width - 1) / k->simd->panel_width;
    job.chunk = rows_of_chunk(k, job.panels, threads);
    int64_t chunks = (k->m + job.chunk - 1) / job.chunk;
    job.chain_in_chunk = k->has_chain && chunks % threads == 0; /* then the threads' ranges are whole chunks */
    ps_parallel_for(job.panels * chunks, 1, threads, run_items, &job);
    if (k->has_chain && !job.chain_in_chunk) cpu_chain_run(&k->chain, k->simd, args->out[0], args->out[0], args->in);
    return PS_OK;
}

typedef struct pack_job {
    const float *src;
    float *dst;
    int64_t n, k, width;
    bool transposed; /* src is [n, k] */
    int threads;
} pack_job;

enum { PACK_ROWS = 16 }; /* a cache line of a transposed source */

static void pack_rows(float *restrict dst, const float *restrict src, int64_t rows, int64_t stride, int64_t cols,
                      int64_t width) {
    for (int64_t r = 0; r < rows; r++, src += stride, dst += width) {
        memcpy(dst, src, (size_t)cols * sizeof *dst);
        memset(dst + cols, 0, (size_t)(width - cols) * sizeof *dst);
    }
}

static void pack_rows_transposed(float *restrict dst, const float *restrict src, int64_t rows, int64_t stride,
                                 int64_t cols, int64_t width) {
    memset(dst, 0, (size_t)(cols < width ? rows * width : 0) * sizeof *dst);
    for (int64_t c = 0; c < cols; c++, src += stride) {
        for (int64_t r = 0; r < rows; r++)
            dst[r * width + c] = src[r];
    }
}

/* An item is a block of rows of all panels: whole rows are read, and each panel written in pieces of a few KiB. */
static void pack_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const pack_job *j = ctx;
    for (int64_t item = begin; item < end; item++) {
        const int64_t row = item * PACK_ROWS, rows = j->k - row < PACK_ROWS ? j->k - row : PACK_ROWS;
        for (int64_t at = 0; at < j->n; at += j->width) {
            const int64_t cols = j->n - at < j->width ? j->n - at : j->width;
            float *dst = j->dst + at * j->k + row * j->width;
            if (j->transposed)
                pack_rows_transposed(dst, j->src + at * j->k + row, rows, j->k, cols, j->width);
            else
                pack_rows(dst, j->src + row * j->n + at, rows, j->n, cols, j->width);
        }
    }
}

static ps_status pack(void *ctx, void *dst, ps_error *err) {
    pack_job *j = ctx;
    j->dst = dst;
    ps_parallel_for((j->k + PACK_ROWS - 1) / PACK_ROWS, 4, j->threads, pack_items, j);
    return PS_OK;
}

static ps_status fill(ps_lowering *l, packed_kernel *k, bool transposed, ps_error *err) {
    const ps_node *n = l->node;
    char key[64];
    const void *data;
    int64_t width = k->simd->panel_width, panels = (k->n + width - 1) / width;
    pack_job job = { n->in[1]->constant->data, NULL, k->n, k->k, width, transposed, k->threads };
    ps_snprintf(key, sizeof key, "panels %lld%s", (long long)width, transposed ? " transposed" : "");
    PS_TRY(ps_weights_take(l, 1, key, (size_t)(panels * width * k->k) * sizeof(float), pack, &job, &data, err));
    k->panels = data;
    return PS_OK;
}

static ps_status lower(ps_device *device, ps_lowering *l, int64_t rows, bool transposed, ps_error *err) {
    static const ps_kernel_ops ops = { packed_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_shape *w = &n->in[1]->shape, *out = &n->out[0]->shape;
    ps_post posts[PS_MAX_POSTS];
    int n_posts = (int)ps_node_posts(n, posts);
    packed_kernel *k;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "cpu.matmul packed", &k, err));
    k->simd = cpu_of(device)->simd;
    k->threads = l->threads;
    k->m = rows;
    k->n = w->dims[transposed ? 0 : 1];
    k->k = w->dims[transposed ? 1 : 0];
    k->has_bias = ps_has_in(n, 2);
    k->has_chain = n_posts > 0;
    for (uint32_t i = 0; i < n->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    bool laid_out = ps_chain_init(&k->chain, n, posts, n_posts, out, PS_LAYOUT_PLAIN, l->in_layout, out,
                                   PS_LAYOUT_PLAIN, l->threads);
    ps_status status = laid_out ? fill(l, k, transposed, err) : PS_OK;
    if (status != PS_OK || !laid_out) {
        cpu_kernel_free(&k->base);
        return status;
    }
    l->kernel = &k->base;
    return PS_OK;
}

static bool possible(const ps_node *n) {
    if (!n->in[1]->constant || n->in[1]->shape.rank != 2 || n->in[0]->shape.rank < 2) return false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] && n->in[i]->dtype != PS_DTYPE_F32) return false;
    }
    return ps_shape_product(&n->out[0]->shape, 0, n->out[0]->shape.rank) > 0 && n->in[1]->shape.dims[0] > 0 &&
           n->in[1]->shape.dims[1] > 0;
}

static bool is_row(const ps_shape *s, int64_t n) {
    return s->rank >= 1 && s->dims[s->rank - 1] == n && ps_shape_product(s, 0, s->rank) == n;
}

ps_status cpu_lower_matmul_packed(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *a = &n->in[0]->shape;
    if (!possible(n)) return PS_OK;
    return lower(device, l, ps_shape_product(a, 0, a->rank - 1), false, err);
}

ps_status cpu_lower_gemm_packed(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_gemm_params *p = n->params;
    if (!possible(n) || p->alpha != 1.0f || p->transA) return PS_OK;
    if (ps_has_in(n, 2) && (p->beta != 1.0f || !is_row(&n->in[2]->shape, n->out[0]->shape.dims[1]))) return PS_OK;
    return lower(device, l, n->in[0]->shape.dims[0], p->transB != 0, err);
}
