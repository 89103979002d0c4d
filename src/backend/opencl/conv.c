/* conv.c - Conv and ConvTranspose, channels-last: as products whose A is the image's windows, and depthwise directly.
 */
#include "backend/opencl/conv.h"
#include "backend/opencl/sparse.h"

static const char *check(const ps_node *n) {
    for (uint32_t i = 0; i < 3 && i < n->n_in; i++)
        if (n->in[i] && n->in[i]->dtype != PS_DTYPE_F32) return "not f32";
    if (n->in[0]->shape.rank < 3 || n->in[0]->shape.rank > 5) return "more than three spatial dims";
    return n->in[1]->constant ? NULL : "weights made at run time";
}

static ps_status describe(ps_lowering *l, bool transposed, ocl_conv *c, bool *ret_ok, ps_error *err) {
    const ps_node *n = l->node;
    const ps_conv_params *p = n->params;
    ps_window w[PS_MAX_SPATIAL];
    int count;
    PS_TRY(transposed ? ps_deconv_windows(n, w, &count, err) : ps_conv_windows(n, w, &count, err));
    *c = (ocl_conv) { .groups = p->group,
                      .in_channels = n->in[0]->shape.dims[1],
                      .out_channels = n->out[0]->shape.dims[1],
                      .batch = n->in[0]->shape.dims[0],
                      .taps = 1,
                      .transposed = transposed,
                      .has_bias = ps_has_in(n, 2) };
    *ret_ok = ocl_windows_take(l, w, count, c->w);
    for (int i = 0; i < 3 && *ret_ok; i++)
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
    ocl_chain_halves(chain, l);
    return PS_OK;
}

ps_status ocl_conv_take(ps_lowering *l, bool transposed, ocl_conv *ret, ps_chain *ret_chain, bool *ret_ok,
                        ps_error *err) {
    *ret_ok = false;
    l->why = check(l->node);
    if (l->why || !ocl_sizes_fit(l)) return PS_OK;
    PS_TRY(describe(l, transposed, ret, ret_ok, err));
    if (!*ret_ok) return PS_OK;
    ret->in_half = l->in_half[0];
    ret->out_half = l->out_half[0];
    l->in_half[1] = l->in_half[2] = false;
    return chain_of(l, ret_chain, ret_ok);
}

bool ocl_conv_is_flat(const ocl_conv *c) {
    const ps_window *d = &c->w[0];
    return d->kernel == 1 && d->in == 1 && d->out == 1 && d->pad_begin == 0;
}

void ocl_conv_layouts(ps_lowering *l) {
    l->in_layout[0] = l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    l->in_layout[1] = l->in_layout[2] = PS_LAYOUT_PLAIN;
}

void ocl_conv_digest(const ocl_conv *c, const char *program, uint64_t ret[2]) {
    const int64_t parts[] = { c->groups, c->in_channels, c->out_channels, c->batch,
                              c->taps,   c->has_bias,    c->in_half,      c->out_half };
    ret[0] = ps_hash_bytes(c->w, sizeof c->w, ps_hash_bytes(parts, sizeof parts, 0));
    ret[1] = ps_hash_bytes(program, strlen(program), ocl_program_version(program));
}

/* ---- as a product ---- */

/* Along depth, height and width. */
static void places_of(const ocl_conv *c, int64_t t, int64_t *ret) {
    ret[2] = t % c->w[2].kernel;
    ret[1] = t / c->w[2].kernel % c->w[1].kernel;
    ret[0] = t / c->w[2].kernel / c->w[1].kernel;
}

/* Of a tap in the image, from its window's place, in elements. A transposed one looks back, at pixels `stride` apart in
 * the output: what both places leave over is equal where a tap meets a pixel (kernels/gemm.cl, view_of). */
static int64_t offset_of(const ocl_conv *c, int64_t t) {
    const ps_window *w = c->w;
    int64_t place[3];
    places_of(c, t, place);
    int64_t at = 0;
    for (int i = 0; i < 3; i++)
        at = at * w[i].in + (c->transposed ? -(place[i] * w[i].dilation / w[i].stride) : place[i] * w[i].dilation);
    return at * c->in_channels;
}

/* How a window's elements are found. A bit for each of its places along depth, height and width says whether that lies
 * in the image, and four channels are read at once; channels are counted up to a multiple of four if that adds a third
 * at most. Else each element is looked up by its place. */
static void choose_view(const ocl_conv *c, int64_t in, ocl_gemm *g, int64_t *ret_room) {
    const int64_t room = (in + 3) / 4 * 4;
    *ret_room = in;
    g->four = in % 4 == 0;
    const int64_t places = c->w[0].kernel + c->w[1].kernel + c->w[2].kernel, last = offset_of(c, c->taps - 1);
    if (places > 29 || 3 * room > 4 * in || llabs(last) > (INT32_MAX - 16) / 4 - c->in_channels) return;
    g->bits = true;
    g->window[6] = places;
    g->window[7] = last < 0 ? -last : 0;
    *ret_room = room;
}

static void set_tap(cl_int *tap, int64_t d, int64_t h, int64_t w, int64_t more) {
    tap[0] = (cl_int)d;
    tap[1] = (cl_int)h;
    tap[2] = (cl_int)w;
    tap[3] = (cl_int)more;
}

/* By place: for each row of B depth, height, width and channel; rows that fill up lie outside of every image. */
static void fill_places(const ocl_conv *c, int64_t channels, int64_t rows, cl_int *tap) {
    const int64_t far = c->transposed ? 1 << 28 : -(1 << 28);
    const ps_window *w = c->w;
    for (int64_t row = 0; row < rows; row++, tap += 4) {
        int64_t p[3];
        places_of(c, row / channels, p);
        if (row / channels < c->taps)
            set_tap(tap, p[0] * w[0].dilation, p[1] * w[1].dilation, p[2] * w[2].dilation, row % channels);
        else
            set_tap(tap, far, far, far, 0);
    }
}

/* By bits: the places along each dim; zeros; then for each four rows of B the offset, the bits of its places and how
 * many channels there are. Fours that fill up have a bit that no window has. */
static void fill_bits(const ocl_conv *c, int64_t channels, int64_t room, int64_t fours, const ocl_gemm *g,
                      cl_int *tap) {
    const ps_window *w = c->w;
    const int64_t bytes = g->a_half ? sizeof(cl_half) : sizeof(cl_float);
    for (int dim = 0; dim < 3; dim++)
        for (int64_t p = 0; p < w[dim].kernel; p++, tap += 4)
            set_tap(tap, p * w[dim].dilation, w[dim].in, w[dim].stride, dim);
    for (int i = 0; i < 2; i++, tap += 4)
        set_tap(tap, 0, 0, 0, 0);
    for (int64_t i = 0; i < fours; i++, tap += 4) {
        const int64_t t = 4 * i / room, at = 4 * i % room, left = channels - at;
        int64_t p[3];
        places_of(c, t, p);
        if (t < c->taps)
            set_tap(tap, bytes * (offset_of(c, t) + g->window[7] + at),
                    INT64_C(1) << p[0] | INT64_C(1) << (w[0].kernel + p[1]) |
                        INT64_C(1) << (w[0].kernel + w[1].kernel + p[2]) | ((left < 4 ? left : 4) - 1) << 29,
                    0, 0);
        else
            set_tap(tap, 0, INT32_MIN, 0, 0);
    }
}

/* Tables go on behind the last row as far as a tile's loads do. */
static ps_status make_taps(ocl_kernel *k, const ocl_conv *c, int64_t channels, int64_t room, ocl_gemm *g,
                           ps_error *err) {
    const int64_t rows = (g->k + OCL_GEMM_MOST_STEP - 1) / OCL_GEMM_MOST_STEP * OCL_GEMM_MOST_STEP;
    const int64_t fours = (rows + 2 * OCL_GEMM_MOST_STEP) / 4, entries = g->bits ? g->window[6] + 2 + fours : rows;
    size_t bytes;
    PS_FAIL_IF(ps_mul_overflow_size((size_t)entries, 4 * sizeof(cl_int), &bytes), err, LIMIT, "a window is too large");
    cl_int *table = ps_alloc(k->base.alloc, bytes);
    if (!table) return PS_FAIL_NOMEM(err, "a convolution's table");
    if (g->bits)
        fill_bits(c, channels, room, fours, g, table);
    else
        fill_places(c, channels, rows, table);
    ps_status status = ocl_kernel_table(k, table, bytes, &g->taps, err);
    ps_free(k->base.alloc, table);
    return status;
}

static bool is_pixelwise(const ocl_conv *c) {
    for (int i = 0; i < 3; i++) {
        const ps_window *w = &c->w[i];
        if (w->kernel != 1 || w->stride != 1 || w->pad_begin || w->in != w->out) return false;
    }
    return true;
}

/* ONNX weights: Conv [O, I/g, taps], ConvTranspose [I, O/g, taps]. */
static ocl_panels panels_of(const ocl_conv *c) {
    const int64_t in = c->in_channels / c->groups, out = c->out_channels / c->groups;
    ocl_panels p = { .groups = c->groups, .k1_n = c->taps, .k2_n = in, .n = out, .group = out * in * c->taps, .k1 = 1 };
    p.k2 = c->transposed ? out * c->taps : c->taps;
    p.column = c->transposed ? c->taps : in * c->taps;
    return p;
}

static void image_of(const ocl_conv *c, ocl_gemm *g) {
    for (int i = 0; i < 3; i++) {
        g->image[i] = c->w[i].in;
        g->image[4 + i] = c->w[i].out;
        g->window[i] = c->w[i].stride;
        g->window[3 + i] = c->w[i].pad_begin;
    }
    g->image[3] = c->in_channels;
}

void ocl_conv_product(const ocl_conv *c, ocl_gemm *g, ocl_panels *panels) {
    const int64_t in = c->in_channels / c->groups, out = c->out_channels / c->groups;
    const bool pixelwise = is_pixelwise(c);
    *panels = panels_of(c);
    panels->k2_room = in;
    *g = (ocl_gemm) { .a_mode = pixelwise       ? OCL_A_ROWS
                                : c->transposed ? OCL_A_SPREAD
                                                : OCL_A_WINDOWS,
                      .m = c->batch * c->w[0].out * c->w[1].out * c->w[2].out,
                      .n = out,
                      .lda = c->in_channels,
                      .ldc = c->out_channels,
                      .outer = 1,
                      .inner = c->groups,
                      .a = { OCL_ARG_IN, { .index = 0 } },
                      .c = { OCL_ARG_OUT, { .index = 0 } },
                      .a_half = c->in_half,
                      .c_half = c->out_half,
                      .has_bias = c->has_bias,
                      .bias = 2 };
    image_of(c, g);
    if (!pixelwise) choose_view(c, in, g, &panels->k2_room);
    g->k = c->taps * panels->k2_room;
    const int64_t step[8] = { 0, in, 0, 0, 0, out, 0, out };
    memcpy(g->step, step, sizeof step);
}

ps_status ocl_conv_direct(ps_device *device, ps_lowering *l, const ocl_conv *c, const ps_chain *chain, bool tried,
                          ocl_kernel *k, ps_error *err) {
    ocl_gemm g;
    ocl_panels panels;
    ocl_weights weights;
    ocl_conv_product(c, &g, &panels);
    PS_TRY(tried ? ocl_weights_own(k, l, 1, &panels, &weights, err)
                 : ocl_sparse_take(device, l, 1, &panels, &g, &weights, err));
    ocl_gemm_set_weights(k, &g, &weights);
    g.step[3] = weights.rows * weights.columns;
    if (g.a_mode != OCL_A_ROWS) PS_TRY(make_taps(k, c, c->in_channels / c->groups, panels.k2_room, &g, err));
    ocl_gemm_plan(k->device, &g, true);
    PS_TRY(ocl_tune(device, l, &g, chain, c->out_channels, err));
    k->n = g.parts ? 2 : 1;
    k->base.workspace = ocl_gemm_workspace(&g);
    return ocl_gemm_launch(k, 0, &g, chain, c->out_channels, err);
}

static ps_status lower(ps_device *device, ps_lowering *l, bool transposed, ps_error *err) {
    ocl_conv c;
    ps_chain chain;
    ocl_kernel *k;
    bool ok;
    PS_TRY(ocl_conv_take(l, transposed, &c, &chain, &ok, err));
    if (!ok) return PS_OK;
    PS_TRY(ocl_kernel_new(device, l, 2, transposed ? "opencl.deconv gemm" : "opencl.conv gemm", &k, err));
    ocl_conv_layouts(l);
    return ocl_kernel_done(l, k, ocl_conv_direct(device, l, &c, &chain, false, k, err));
}

ps_status ocl_lower_conv(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, false, err);
}

ps_status ocl_lower_deconv(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, true, err);
}

/* ---- depthwise ---- */

#define MANY_ITEMS 1024 /* for a compute unit, so that it is busy with fewer, longer ones */

typedef struct depthwise {
    ps_device *device;
    ps_lowering *l;
    const ocl_conv *c;
    const ps_chain *chain;
    ocl_panels panels;
    void *weights;
    int32_t pixels[2]; /* an item: as the device's table has it, and what else is possible */
    size_t n;
} depthwise;

static int64_t channels_an_item(const ocl_conv *c) {
    return c->out_channels == c->in_channels && c->in_channels % 4 == 0 ? 4 : 1;
}

/* Four neighbours along the width from what an item reads of a row: where registers last for it. Else one pixel of any
 * window. */
static bool can_have_four(const ocl_conv *c) {
    const ps_window *w = &c->w[2];
    return channels_an_item(c) == 4 && ocl_conv_is_flat(c) && w->dilation == 1 && w->kernel <= 5 && w->stride <= 2;
}

static bool many_items(const ocl_device *d, const ocl_conv *c) {
    const int64_t items = c->batch * c->w[1].out * ((c->w[2].out + 3) / 4) * (c->out_channels / 4);
    return d->test_tile ? d->test_tile != 1 : items >= MANY_ITEMS * d->units;
}

static void find_pixels(const ocl_device *d, depthwise *w) {
    const bool four = can_have_four(w->c);
    w->pixels[0] = four && many_items(d, w->c) ? 4 : 0;
    w->pixels[1] = 4 - w->pixels[0];
    w->n = four && !d->test_tile ? 2 : 1;
}

static ps_status depthwise_launch(const depthwise *w, int64_t pixels, ocl_kernel *k, ps_error *err) {
    const ocl_conv *c = w->c;
    const ps_chain *chain = w->chain;
    const int64_t mult = c->out_channels / c->in_channels, vec = channels_an_item(c),
                  across = pixels ? (c->w[2].out + pixels - 1) / pixels : 1;
    char options[128];
    ocl_launch *launch;
    ps_str text;
    ps_str_init(&text, k->base.alloc);
    ocl_post_text(&text, chain, c->out_channels);
    ps_snprintf(options, sizeof options, "-DVEC=%d -DBIAS=%d -DPIXELS=%d -DACROSS=%d -DSTRIDE=%d%s", (int)vec,
                c->has_bias, (int)pixels, pixels ? (int)c->w[2].kernel : 0, pixels ? (int)c->w[2].stride : 0,
                ocl_halves(c->in_half, c->out_half));
    ps_status status = text.failed ? PS_FAIL_NOMEM(err, "a program")
                                   : ocl_launch_init(k, 0, "depthwise", options, text.data, "depthwise", &launch, err);
    ps_str_release(&text);
    if (status != PS_OK) return status;
    const int64_t n = c->batch * c->w[0].out * c->w[1].out * (pixels ? across : c->w[2].out) * (c->out_channels / vec);
    const int64_t image[8] = { c->w[0].in,  c->w[1].in,  c->w[2].in,  c->in_channels,
                               c->w[0].out, c->w[1].out, c->w[2].out, c->out_channels };
    const int64_t window[8] = { c->w[0].stride,
                                c->w[1].stride,
                                c->w[2].stride,
                                c->w[0].pad_begin,
                                c->w[1].pad_begin,
                                c->w[2].pad_begin,
                                ocl_panel_columns(&w->panels),
                                mult };
    const int64_t kernel[8] = {
        c->w[0].kernel, c->w[1].kernel, c->w[2].kernel, c->w[0].dilation, c->w[1].dilation, c->w[2].dilation, 0, across
    };
    ocl_arg_in(launch, 0);
    ocl_arg_buffer(launch, w->weights);
    ocl_arg_out(launch, 0);
    ocl_arg_int(launch, n);
    ocl_arg_ints(launch, image, 8);
    ocl_arg_ints(launch, window, 8);
    ocl_arg_ints(launch, kernel, 8);
    if (c->has_bias) ocl_arg_in(launch, 2);
    ocl_post_args(launch, chain, c->out_channels);
    ocl_launch_size(launch, n, 1, 1, 64, 1);
    return PS_OK;
}

static ps_status make_depthwise(void *ctx, size_t i, ocl_kernel **ret, ps_error *err) {
    const depthwise *w = ctx;
    PS_TRY(ocl_kernel_new(w->device, w->l, 1, "trial", ret, err));
    const ps_status status = depthwise_launch(w, w->pixels[i], *ret, err);
    if (status != PS_OK) ocl_kernel_free(&(*ret)->base);
    return status;
}

static ps_status lower_depthwise(ps_device *device, ps_lowering *l, const ocl_conv *c, const ps_chain *chain,
                                 ocl_kernel *k, ps_error *err) {
    depthwise w = { .device = device, .l = l, .c = c, .chain = chain };
    size_t chosen = 0;
    w.panels =
        (ocl_panels) { .groups = 1, .k1_n = c->taps, .k2_n = 1, .n = c->out_channels, .k1 = 1, .column = c->taps };
    find_pixels(k->device, &w);
    PS_TRY(ocl_panels_take(device, l, 1, &w.panels, &w.weights, err));
    ocl_trials trials = { .n = w.n, .ids = w.pixels, .id_bytes = sizeof *w.pixels, .make = make_depthwise, .ctx = &w };
    ocl_conv_digest(c, "depthwise", trials.digest);
    PS_TRY(ocl_choose(device, l, &trials, &chosen, err));
    return depthwise_launch(&w, w.pixels[chosen], k, err);
}

ps_status ocl_lower_depthwise(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_conv_params *p = l->node->params;
    ocl_conv c;
    ps_chain chain;
    ocl_kernel *k;
    bool ok;
    if (p->group == 1 || p->group != l->node->in[0]->shape.dims[1]) return PS_OK;
    PS_TRY(ocl_conv_take(l, false, &c, &chain, &ok, err));
    if (!ok) return PS_OK;
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.conv depthwise", &k, err));
    ocl_conv_layouts(l);
    return ocl_kernel_done(l, k, lower_depthwise(device, l, &c, &chain, k, err));
}
