/* matmul_packed.c - products with constant weights by our own panels, at every instruction set: one packed form
 * whatever the number of rows, where oneDNN wants several (AVX-512) or none (below, it copies the weights in every
 * run).
 *
 * Measured beside oneDNN's at AVX-512, products of MiniLM, BERT-base and an MLP: within 3 % from 16 rows on, 1.1 to 1.9
 * times as fast where weights come from memory and rows are few; slower only for 3 rows of weights in cache (0.85).
 *
 * Weights that 16 bits hold exactly, as in a file of f16 or bf16, stay in 16 bits: half the memory, half of what has to
 * come from it, and the same results to the bit, for they are expanded in the kernel: in registers for up to 64 rows, a
 * block at a time for more, where the rest of the work dwarfs it. Which weights these are is seen when they are
 * packed.
 *
 * Weights are packed as panels [K][panel_width]; a panel is walked by a chunk of rows while it is in cache, and the
 * chunk meets all panels. Bias goes in with the product, post-ops follow as a chain over the chunk, or over the output
 * where threads share chunks. */
#include "backend/cpu/chain.h"
#include "tensor/convert.h"

typedef struct packed_kernel {
    ps_kernel base;
    const ps_simd *simd;
    const void *panels;
    ps_dtype form; /* of the panels: f32, f16 or bf16 */
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

/* The first `rows` rows from `row` on against one panel. next: the panel that comes then, or -1. */
static void run_panel(const packed_job *j, int64_t panel, int64_t row, int64_t rows, int64_t next) {
    const packed_kernel *k = j->k;
    const int64_t width = k->simd->panel_width, size = width * k->k, col = panel * width;
    const int64_t cols = k->n - col < width ? k->n - col : width;
    const float *a = j->a + row * k->k, *bias = j->bias ? j->bias + col : NULL, *floats = k->panels;
    const uint16_t *halves = k->panels;
    float *c = j->c + row * k->n + col;
    if (k->form == PS_DTYPE_F32)
        k->simd->gemm_panel(a, k->k, floats + panel * size, bias, c, k->n, rows, cols, k->k,
                            next >= 0 ? floats + next * size : NULL);
    else
        k->simd->gemm_panel_half(a, k->k, halves + panel * size, k->form == PS_DTYPE_BF16, bias, c, k->n, rows, cols,
                                 k->k);
}

/* One item is one panel against one chunk of rows; a chunk meets all panels while it is in cache. */
static void run_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const packed_job *j = ctx;
    const packed_kernel *k = j->k;
    for (int64_t item = begin; item < end; item++) {
        int64_t panel = item % j->panels, row = item / j->panels * j->chunk;
        int64_t rows = k->m - row < j->chunk ? k->m - row : j->chunk;
        run_panel(j, panel, row, rows, item + 1 < end ? (item + 1) % j->panels : -1);
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

/* ---- packing ---- */

typedef struct pack_job {
    const ps_tensor *w;
    void *dst;
    ps_dtype form; /* of what is packed */
    int64_t n, k, width;
    bool transposed; /* w is [n, k] */
    int threads;
} pack_job;

enum { PACK_ROWS = 16, WIDEST_PANEL = 64 }; /* PACK_ROWS: a cache line of a transposed source */

/* A piece of a panel: `rows` rows of `cols` columns, the rest zero; strides in elements. */
static void pack_rows(const pack_job *j, const uint8_t *src, size_t size, int64_t rows, int64_t cols, uint8_t *dst) {
    const size_t from = (size_t)j->n * size, to = (size_t)j->width * size, used = (size_t)cols * size;
    for (int64_t r = 0; r < rows; r++, src += from, dst += to) {
        memcpy(dst, src, used);
        memset(dst + used, 0, to - used);
    }
}

static void pack_floats_transposed(const pack_job *j, const float *restrict src, int64_t rows, int64_t cols,
                                   float *restrict dst) {
    memset(dst, 0, (size_t)(cols < j->width ? rows * j->width : 0) * sizeof *dst);
    for (int64_t c = 0; c < cols; c++, src += j->k) {
        for (int64_t r = 0; r < rows; r++)
            dst[r * j->width + c] = src[r];
    }
}

static void pack_halves_transposed(const pack_job *j, const uint16_t *restrict src, int64_t rows, int64_t cols,
                                   uint16_t *restrict dst) {
    memset(dst, 0, (size_t)(cols < j->width ? rows * j->width : 0) * sizeof *dst);
    for (int64_t c = 0; c < cols; c++, src += j->k) {
        for (int64_t r = 0; r < rows; r++)
            dst[r * j->width + c] = src[r];
    }
}

/* The piece that begins at a row and a column of w, in the type that t has. */
static void pack_piece(const pack_job *j, const ps_tensor *t, int64_t row, int64_t rows, int64_t at, void *dst) {
    const int64_t cols = j->n - at < j->width ? j->n - at : j->width;
    const int64_t first = j->transposed ? at * j->k + row : row * j->n + at;
    const size_t size = ps_dtype_size(t->dtype);
    const uint8_t *src = (const uint8_t *)t->data + (size_t)first * size;
    if (!j->transposed)
        pack_rows(j, src, size, rows, cols, dst);
    else if (t->dtype == PS_DTYPE_F32)
        pack_floats_transposed(j, (const float *)t->data + first, rows, cols, dst);
    else
        pack_halves_transposed(j, (const uint16_t *)t->data + first, rows, cols, dst);
}

/* An item is a block of rows of all panels: whole rows are read, and each panel written in pieces of a few KiB. */
static void pack_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const pack_job *j = ctx;
    const size_t size = ps_dtype_size(j->form);
    const bool narrow = j->form != PS_DTYPE_F32 && j->w->narrow;
    float floats[PACK_ROWS * WIDEST_PANEL];
    for (int64_t item = begin; item < end; item++) {
        const int64_t row = item * PACK_ROWS, rows = j->k - row < PACK_ROWS ? j->k - row : PACK_ROWS;
        for (int64_t at = 0; at < j->n; at += j->width) {
            uint8_t *dst = (uint8_t *)j->dst + (size_t)(at * j->k + row * j->width) * size;
            if (narrow || j->form == PS_DTYPE_F32) {
                pack_piece(j, narrow ? j->w->narrow : j->w, row, rows, at, dst);
                continue;
            }
            pack_piece(j, j->w, row, rows, at, floats);
            ps_convert(floats, PS_DTYPE_F32, dst, j->form, (size_t)(rows * j->width), true);
        }
    }
}

static ps_status pack(void *ctx, void *dst, ps_error *err) {
    pack_job *j = ctx;
    j->dst = dst;
    ps_parallel_for((j->k + PACK_ROWS - 1) / PACK_ROWS, 4, j->threads, pack_items, j);
    return PS_OK;
}

static const ps_dtype forms[] = { PS_DTYPE_F16, PS_DTYPE_BF16, PS_DTYPE_F32 };

static void name_panels(char key[64], ps_dtype form, int64_t width, bool transposed) {
    ps_snprintf(key, 64, "panels %s%s%lld%s", form == PS_DTYPE_F32 ? "" : ps_dtype_name(form),
                form == PS_DTYPE_F32 ? "" : " ", (long long)width, transposed ? " transposed" : "");
}

/* Seen from what is packed already, for the content may be away; else from the content. */
static ps_status choose_form(const ps_lowering *l, int64_t width, int64_t elements, bool transposed, ps_dtype *ret,
                             ps_error *err) {
    const ps_tensor *w = l->node->in[1]->constant;
    char key[64];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        name_panels(key, forms[i], width, transposed);
        *ret = forms[i];
        if (ps_weights_has(l->weights, NULL, w, key, (size_t)elements * ps_dtype_size(forms[i]))) return PS_OK;
    }
    return ps_weights_narrowest(w, ret, err);
}

static ps_status fill(ps_lowering *l, packed_kernel *k, bool transposed, ps_error *err) {
    char key[64];
    const int64_t width = k->simd->panel_width, elements = (k->n + width - 1) / width * width * k->k;
    pack_job job = { l->node->in[1]->constant, NULL, PS_DTYPE_F32, k->n, k->k, width, transposed, k->threads };
    PS_TRY(choose_form(l, width, elements, transposed, &k->form, err));
    job.form = k->form;
    name_panels(key, k->form, width, transposed);
    const size_t bytes = (size_t)elements * ps_dtype_size(k->form);
    if (k->form == PS_DTYPE_F32) return ps_weights_take(l, 1, key, bytes, pack, &job, &k->panels, err);
    ps_snprintf(k->base.label, sizeof k->base.label, "cpu.matmul packed %s", ps_dtype_name(k->form));
    return ps_weights_take_narrow(l, 1, key, bytes, pack, &job, &k->panels, err);
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
