/* deconv.c - ConvTranspose whose windows do not overlap (kernel = stride, no padding): the usual way to double an
 * image.
 *
 * Every input pixel makes its own block of output pixels, so it is one matrix product [pixels, C] x [C, kh*kw*O] and a
 * shuffle of its rows into place; the post-ops run as a chain over the output. oneDNN's own path goes through the
 * backward convolution, measured 5 to 20 times slower on such shapes. */
#ifdef PS_WITH_DNNL
#include "backend/cpu/chain.h"
#include "backend/cpu/dnnl_adapter.h"

typedef struct disjoint_kernel {
    ps_kernel base;
    const ps_simd *simd;
    ps_dnnl *dnnl;
    psd_prim *prim;
    const void *weights;
    bool has_bias, has_chain;
    int threads;
    int64_t batch, in_h, in_w, out_channels, kh, kw;
    size_t product_bytes; /* of the product's result, rounded; the primitive's scratchpad follows in the workspace */
    ps_chain chain;
} disjoint_kernel;

typedef struct shuffle_job {
    const disjoint_kernel *k;
    const float *product, *bias;
    float *y;
} shuffle_job;

/* One item is a row of output pixels: kw * O contiguous floats per input pixel. */
static void shuffle_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const shuffle_job *j = ctx;
    const disjoint_kernel *k = j->k;
    int64_t run = k->kw * k->out_channels, block = k->kh * run;
    for (int64_t row = begin; row < end; row++) {
        int64_t i = row % k->kh, in_row = row / k->kh;
        const float *src = j->product + in_row * k->in_w * block + i * run;
        float *dst = j->y + row * k->in_w * run;
        for (int64_t w = 0; w < k->in_w; w++, src += block, dst += run) {
            if (!j->bias) {
                memcpy(dst, src, (size_t)run * sizeof *dst);
                continue;
            }
            for (int64_t c = 0; c < k->kw; c++) {
                k->simd->binary(PS_POST_ADD, src + c * k->out_channels, j->bias, dst + c * k->out_channels,
                                k->out_channels);
            }
        }
    }
}

static ps_status disjoint_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const disjoint_kernel *k = (const disjoint_kernel *)kernel;
    char *workspace = args->workspace;
    psd_args a = {
        .src = args->in[0], .weights = k->weights, .dst = workspace, .scratchpad = workspace + k->product_bytes
    };
    PS_TRY(psd_exec_run(args->state, &a, err));
    shuffle_job job = { k, args->workspace, k->has_bias ? args->in[2] : NULL, args->out[0] };
    int64_t rows = k->batch * k->in_h * k->kh;
    ps_parallel_for(rows, 1 + 8192 / (k->in_w * k->kw * k->out_channels), k->threads, shuffle_rows, &job);
    if (k->has_chain) cpu_chain_run(&k->chain, k->simd, args->out[0], args->out[0], args->in);
    return PS_OK;
}

static void disjoint_free(ps_kernel *kernel) {
    psd_prim_release(((disjoint_kernel *)kernel)->prim);
    ps_free(kernel->alloc, kernel);
}

static ps_status state_new(const ps_kernel *kernel, ps_alloc_state *alloc, void **ret, ps_error *err) {
    const disjoint_kernel *k = (const disjoint_kernel *)kernel;
    psd_exec *x;
    PS_TRY(psd_exec_new(k->dnnl, k->prim, alloc, &x, err));
    *ret = x;
    return PS_OK;
}

static void state_free(const ps_kernel *kernel, ps_alloc_state *alloc, void *state) {
    psd_exec_free(state, alloc);
}

typedef struct pack_job {
    ps_dnnl *dnnl;
    const psd_prim *prim;
    ps_alloc_state *alloc;
    const float *src;
    int64_t in, out, kh, kw;
} pack_job;

/* ONNX [C, O, kh, kw] → matrix [C, kh*kw*O] → the primitive's layout. */
static ps_status pack(void *ctx, void *dst, ps_error *err) {
    const pack_job *j = ctx;
    int64_t cols = j->kh * j->kw * j->out, window = j->kh * j->kw;
    float *m = ps_alloc_array(j->alloc, (size_t)(j->in * cols), sizeof *m);
    psd_md from = { .ndims = 2, .dims = { j->in, cols }, .strides = { cols, 1 } };
    if (!m) return PS_FAIL_NOMEM(err, "packing weights");
    for (int64_t c = 0; c < j->in; c++) {
        for (int64_t o = 0; o < j->out; o++) {
            for (int64_t p = 0; p < window; p++)
                m[c * cols + p * j->out + o] = j->src[(c * j->out + o) * window + p];
        }
    }
    ps_status status = psd_pack(j->dnnl, j->prim, &from, m, dst, err);
    ps_free(j->alloc, m);
    return status;
}

static bool eligible(const ps_lowering *l) {
    const ps_node *n = l->node;
    const ps_conv_params *p = n->params;
    ps_window w[PS_MAX_SPATIAL];
    int count;
    if (n->in[0]->dtype != PS_DTYPE_F32 || n->in[0]->shape.rank != 4 || !n->in[1]->constant || p->group != 1)
        return false;
    if (ps_has_in(n, 2) && !n->in[2]->constant) return false;
    if (ps_deconv_windows(n, w, &count, NULL) != PS_OK) return false;
    for (int i = 0; i < count; i++) {
        if (w[i].kernel != w[i].stride || w[i].dilation != 1 || w[i].pad_begin || w[i].pad_end) return false;
        if (w[i].out != w[i].in * w[i].kernel) return false;
    }
    return ps_shape_product(&n->out[0]->shape, 0, 4) > 0 && n->in[0]->shape.dims[1] > 0;
}

static ps_status fill(const cpu_device *dev, ps_lowering *l, disjoint_kernel *k, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *x = &n->in[0]->shape, *w = &n->in[1]->shape;
    char key[512], full[560];
    k->batch = x->dims[0];
    k->in_h = x->dims[2];
    k->in_w = x->dims[3];
    k->out_channels = w->dims[1];
    k->kh = w->dims[2];
    k->kw = w->dims[3];
    k->has_bias = ps_has_in(n, 2);
    int64_t pixels = k->batch * k->in_h * k->in_w, in = x->dims[1], cols = k->kh * k->kw * k->out_channels;
    psd_desc d;
    memset(&d, 0, sizeof d);
    d.kind = PSD_MATMUL;
    d.threads = l->threads;
    d.src = (psd_md) { .ndims = 2, .dims = { pixels, in }, .strides = { in, 1 } };
    d.weights = (psd_md) { .ndims = 2, .dims = { in, cols }, .any = 1 };
    d.dst = (psd_md) { .ndims = 2, .dims = { pixels, cols }, .strides = { cols, 1 } };
    PS_TRY(psd_prim_get(dev->dnnl, &d, &k->prim, err));
    if (!k->prim) return PS_OK;
    pack_job job = { dev->dnnl, k->prim, l->alloc, n->in[1]->constant->data, in, k->out_channels, k->kh, k->kw };
    psd_prim_weights_key(k->prim, &d.weights, key, sizeof key);
    ps_snprintf(full, sizeof full, "disjoint %s", key);
    PS_TRY(ps_weights_take(l, 1, full, psd_prim_weights_size(k->prim), pack, &job, &k->weights, err));
    k->product_bytes = ((size_t)(pixels * cols) * sizeof(float) + PS_ALIGN - 1) / PS_ALIGN * PS_ALIGN;
    k->base.workspace = k->product_bytes + psd_prim_scratchpad(k->prim);
    return PS_OK;
}

ps_status cpu_lower_deconv_disjoint(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { disjoint_run, disjoint_free, state_new, state_free };
    const cpu_device *dev = cpu_of(device);
    const ps_node *n = l->node;
    ps_post posts[PS_MAX_POSTS];
    disjoint_kernel *k;
    if (!eligible(l)) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "", &k, err));
    k->simd = dev->simd;
    k->dnnl = dev->dnnl;
    k->threads = l->threads;
    for (uint32_t i = 0; i < n->n_in; i++) {
        bool full = n->in[i] && n->in[i]->shape.rank == n->out[0]->shape.rank;
        l->in_layout[i] = full && i != 1 ? PS_LAYOUT_CHANNELS_LAST : PS_LAYOUT_PLAIN;
    }
    int n_posts = (int)ps_node_posts(n, posts);
    k->has_chain = n_posts > 0;
    bool laid_out = ps_chain_init(&k->chain, n, posts, n_posts, &n->out[0]->shape, PS_LAYOUT_CHANNELS_LAST,
                                   l->in_layout, &n->out[0]->shape, PS_LAYOUT_CHANNELS_LAST, l->threads);
    ps_status status = laid_out ? fill(dev, l, k, err) : PS_OK;
    if (status != PS_OK || !k->prim) {
        disjoint_free(&k->base);
        return status;
    }
    ps_snprintf(k->base.label, sizeof k->base.label, "cpu.deconv disjoint, matmul %s", psd_prim_info(k->prim));
    l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    l->kernel = &k->base;
    return PS_OK;
}

#endif
