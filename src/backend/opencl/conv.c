/* conv.c - Conv and ConvTranspose, channels-last: as products whose A is the image's windows, and depthwise directly.
 */
#include "backend/opencl/gemm.h"

/* Depth, height and width; missing leading ones are 1. */
typedef struct conv {
    ps_window w[3];
    int64_t groups, in_channels, out_channels, batch, taps;
    bool transposed;
} conv;

static const char *check(const ps_node *n) {
    for (uint32_t i = 0; i < 3 && i < n->n_in; i++)
        if (n->in[i] && n->in[i]->dtype != PS_DTYPE_F32) return "not f32";
    if (n->in[0]->shape.rank < 3 || n->in[0]->shape.rank > 5) return "more than three spatial dims";
    return n->in[1]->constant ? NULL : "weights made at run time";
}

static ps_status describe(const ps_node *n, bool transposed, conv *c, ps_error *err) {
    const ps_conv_params *p = n->params;
    ps_window w[PS_MAX_SPATIAL];
    int count;
    PS_TRY(transposed ? ps_deconv_windows(n, w, &count, err) : ps_conv_windows(n, w, &count, err));
    *c = (conv) { .groups = p->group,
                  .in_channels = n->in[0]->shape.dims[1],
                  .out_channels = n->out[0]->shape.dims[1],
                  .batch = n->in[0]->shape.dims[0],
                  .taps = 1,
                  .transposed = transposed };
    for (int i = 0; i < 3; i++)
        c->w[i] = i < 3 - count ? (ps_window) { 1, 1, 1, 1, 1, 0, 0 } : w[i - (3 - count)];
    for (int i = 0; i < 3; i++)
        c->taps *= c->w[i].kernel;
    return PS_OK;
}

static ps_status chain_of(ps_lowering *l, ps_chain *chain, bool *ret_ok) {
    const ps_node *n = l->node;
    const ps_shape *out = &n->out[0]->shape;
    ps_post posts[PS_MAX_POSTS];
    const size_t n_posts = n->domain[0] ? ps_node_posts(n, posts) : 0;
    for (size_t i = 0; i < n_posts; i++) {
        if (!ps_post_is_binary(posts[i].kind)) continue;
        const uint32_t at = (uint32_t)posts[i].operand;
        if (ps_layout_fits(&n->in[at]->shape, l->in_layout[at], PS_LAYOUT_CHANNELS_LAST)) continue;
        l->in_layout[at] = n->in[at]->shape.rank == out->rank ? PS_LAYOUT_CHANNELS_LAST : PS_LAYOUT_PLAIN;
    }
    *ret_ok = ps_chain_init(chain, n, posts, (int)n_posts, out, PS_LAYOUT_CHANNELS_LAST, l->in_layout, out,
                            PS_LAYOUT_CHANNELS_LAST, 1);
    if (!*ret_ok) l->why = "an operand does not broadcast plainly";
    return PS_OK;
}

static void settle_layouts(ps_lowering *l) {
    l->in_layout[0] = l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    l->in_layout[1] = l->in_layout[2] = PS_LAYOUT_PLAIN;
}

/* ---- as a product ---- */

static void fill_taps(const conv *c, int64_t channels, int64_t rows, cl_int *tap) {
    const int64_t far = c->transposed ? 1 << 28 : -(1 << 28); /* rows that only fill up lie outside of every image */
    int64_t row = 0;
    for (int64_t a = 0; a < c->w[0].kernel; a++) {
        for (int64_t b = 0; b < c->w[1].kernel; b++) {
            for (int64_t e = 0; e < c->w[2].kernel; e++) {
                for (int64_t i = 0; i < channels; i++, row++, tap += 4) {
                    tap[0] = (cl_int)(a * c->w[0].dilation);
                    tap[1] = (cl_int)(b * c->w[1].dilation);
                    tap[2] = (cl_int)(e * c->w[2].dilation);
                    tap[3] = (cl_int)i;
                }
            }
        }
    }
    for (; row < rows; row++, tap += 4) {
        tap[0] = tap[1] = tap[2] = (cl_int)far;
        tap[3] = 0;
    }
}

static ps_status make_taps(ocl_kernel *k, const conv *c, int64_t channels, int64_t rows, void **ret, ps_error *err) {
    size_t bytes;
    PS_FAIL_IF(ps_mul_overflow_size((size_t)rows, 4 * sizeof(cl_int), &bytes), err, LIMIT, "a window is too large");
    cl_int *table = ps_alloc(k->base.alloc, bytes);
    if (!table) return PS_FAIL_NOMEM(err, "a convolution's table");
    fill_taps(c, channels, rows, table);
    ps_status status = ocl_kernel_table(k, table, bytes, ret, err);
    ps_free(k->base.alloc, table);
    return status;
}

static bool is_pixelwise(const conv *c) {
    for (int i = 0; i < 3; i++) {
        const ps_window *w = &c->w[i];
        if (w->kernel != 1 || w->stride != 1 || w->pad_begin || w->in != w->out) return false;
    }
    return true;
}

/* ONNX weights: Conv [O, I/g, taps], ConvTranspose [I, O/g, taps]. */
static ocl_panels panels_of(const conv *c) {
    const int64_t in = c->in_channels / c->groups, out = c->out_channels / c->groups;
    ocl_panels p = { .groups = c->groups, .k1_n = c->taps, .k2_n = in, .n = out, .group = out * in * c->taps, .k1 = 1 };
    p.k2 = c->transposed ? out * c->taps : c->taps;
    p.column = c->transposed ? c->taps : in * c->taps;
    return p;
}

static void image_of(const conv *c, ocl_gemm *g) {
    for (int i = 0; i < 3; i++) {
        g->image[i] = c->w[i].in;
        g->image[4 + i] = c->w[i].out;
        g->window[i] = c->w[i].stride;
        g->window[3 + i] = c->w[i].pad_begin;
    }
    g->image[3] = c->in_channels;
}

static ps_status product(ps_device *device, ps_lowering *l, const conv *c, const ps_chain *chain, ocl_kernel *k,
                         ps_error *err) {
    const ocl_panels panels = panels_of(c);
    const int64_t in = c->in_channels / c->groups, out = c->out_channels / c->groups;
    ocl_weights weights;
    PS_TRY(ocl_weights_take(device, l, 1, &panels, &weights, err));
    ocl_gemm g = { .a_mode = c->transposed ? OCL_A_SPREAD : OCL_A_WINDOWS,
                   .m = c->batch * c->w[0].out * c->w[1].out * c->w[2].out,
                   .n = out,
                   .k = c->taps * in,
                   .lda = c->in_channels,
                   .ldc = c->out_channels,
                   .outer = 1,
                   .inner = c->groups,
                   .step = { 0, in, 0, weights.rows * weights.columns, 0, out, 0, out },
                   .a = { OCL_ARG_IN, { .index = 0 } },
                   .c = { OCL_ARG_OUT, { .index = 0 } },
                   .has_bias = ps_has_in(l->node, 2),
                   .bias = 2,
                   .four = in % 4 == 0 };
    ocl_gemm_set_weights(k, &g, &weights);
    image_of(c, &g);
    if (is_pixelwise(c)) {
        g.a_mode = OCL_A_ROWS;
        g.four = false;
    } else {
        PS_TRY(make_taps(k, c, in, weights.rows, &g.taps, err));
    }
    k->n = ocl_gemm_share(k, &g);
    return ocl_gemm_launch(k, 0, &g, chain, c->out_channels, err);
}

static ps_status lower(ps_device *device, ps_lowering *l, bool transposed, ps_error *err) {
    conv c;
    ps_chain chain;
    ocl_kernel *k;
    bool ok;
    l->why = check(l->node);
    if (l->why || !ocl_sizes_fit(l)) return PS_OK;
    PS_TRY(describe(l->node, transposed, &c, err));
    PS_TRY(chain_of(l, &chain, &ok));
    if (!ok) return PS_OK;
    PS_TRY(ocl_kernel_new(device, l, 2, transposed ? "opencl.deconv gemm" : "opencl.conv gemm", &k, err));
    settle_layouts(l);
    return ocl_kernel_done(l, k, product(device, l, &c, &chain, k, err));
}

ps_status ocl_lower_conv(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, false, err);
}

ps_status ocl_lower_deconv(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, true, err);
}

/* ---- depthwise ---- */

static ps_status depthwise(ps_device *device, ps_lowering *l, const conv *c, const ps_chain *chain, ocl_kernel *k,
                           ps_error *err) {
    const int64_t mult = c->out_channels / c->in_channels, vec = mult == 1 && c->in_channels % 4 == 0 ? 4 : 1;
    const ocl_panels panels = {
        .groups = 1, .k1_n = c->taps, .k2_n = 1, .n = c->out_channels, .k1 = 1, .column = c->taps
    };
    char options[64];
    void *weights = NULL;
    ocl_launch *launch;
    ps_str text;
    PS_TRY(ocl_panels_take(device, l, 1, &panels, &weights, err));
    ps_str_init(&text, l->alloc);
    ocl_post_text(&text, chain, c->out_channels);
    ps_snprintf(options, sizeof options, "-DVEC=%d -DBIAS=%d", (int)vec, ps_has_in(l->node, 2));
    ps_status status = text.failed ? PS_FAIL_NOMEM(err, "a program")
                                   : ocl_launch_init(k, 0, "depthwise", options, text.data, "depthwise", &launch, err);
    ps_str_release(&text);
    if (status != PS_OK) return status;
    const int64_t n = c->batch * c->w[0].out * c->w[1].out * c->w[2].out * c->out_channels / vec;
    const int64_t image[8] = { c->w[0].in,  c->w[1].in,  c->w[2].in,  c->in_channels,
                               c->w[0].out, c->w[1].out, c->w[2].out, c->out_channels };
    const int64_t window[8] = { c->w[0].stride,
                                c->w[1].stride,
                                c->w[2].stride,
                                c->w[0].pad_begin,
                                c->w[1].pad_begin,
                                c->w[2].pad_begin,
                                ocl_panel_columns(&panels),
                                mult };
    const int64_t kernel[8] = { c->w[0].kernel,   c->w[1].kernel,   c->w[2].kernel,
                                c->w[0].dilation, c->w[1].dilation, c->w[2].dilation };
    ocl_arg_in(launch, 0);
    ocl_arg_buffer(launch, weights);
    ocl_arg_out(launch, 0);
    ocl_arg_int(launch, n);
    ocl_arg_ints(launch, image, 8);
    ocl_arg_ints(launch, window, 8);
    ocl_arg_ints(launch, kernel, 8);
    if (ps_has_in(l->node, 2)) ocl_arg_in(launch, 2);
    ocl_post_args(launch, chain, c->out_channels);
    ocl_launch_size(launch, n, 1, 1, 64, 1);
    return PS_OK;
}

ps_status ocl_lower_depthwise(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_conv_params *p = l->node->params;
    conv c;
    ps_chain chain;
    ocl_kernel *k;
    bool ok;
    l->why = check(l->node);
    if (l->why || p->group == 1 || p->group != l->node->in[0]->shape.dims[1] || !ocl_sizes_fit(l)) return PS_OK;
    PS_TRY(describe(l->node, false, &c, err));
    PS_TRY(chain_of(l, &chain, &ok));
    if (!ok) return PS_OK;
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.conv depthwise", &k, err));
    settle_layouts(l);
    return ocl_kernel_done(l, k, depthwise(device, l, &c, &chain, k, err));
}
