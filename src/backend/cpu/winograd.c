/* winograd.c - Conv 3x3 with stride 1 by Winograd's minimal filtering, channels-last: fewer multiplications (F(4x4): a
 * quarter) for more additions and larger weights. The arithmetic is in winograd.h, the choice in `choose`.
 *
 * A block of tiles is transformed, multiplied and transformed back before the next one, by one thread: its transformed
 * pixels V[(m+2)^2][tiles][C] and products P[(m+2)^2][tiles][outputs of some panels] stay in the second-level cache
 * while the weights U[panel][(m+2)^2][C][panel_width] stream past. Bias, a residual and a clamp go in with the
 * transform back; other post-ops follow as a chain over the block's pixels. */
#include "backend/cpu/chain.h"

#include <math.h>

typedef struct wino_kernel {
    ps_kernel base;
    const ps_simd *simd;
    const float *weights;
    int m, threads;
    int64_t batch, channels, outputs, in_h, in_w, out_h, out_w, pad_y, pad_x;
    int64_t tiles_x, tiles, block; /* in a row, in all, in a block */
    int64_t panels, chunk;         /* of weights: in all, multiplied before the transform back */
    int64_t slices;                /* of the panels, for threads that would have no block */
    int64_t v_row, v_step, p_step; /* floats between tiles and between positions */
    int64_t p_row;
    int bias, add; /* node inputs, or -1 */
    float lo, hi;
    bool has_chain, chain_in_block;
    ps_chain chain;
} wino_kernel;

typedef struct wino_job {
    const wino_kernel *k;
    const float *x;
    float *y, *scratch;
    ps_wino_post post;
    void *const *in;
} wino_job;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t blocks_of(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

typedef struct tile_at {
    int64_t image, y, x; /* of its first output pixel */
} tile_at;

static tile_at locate(const wino_kernel *k, int64_t tile) {
    int64_t row = tile / k->tiles_x, rows = k->tiles / k->batch / k->tiles_x;
    return (tile_at) { row / rows, row % rows * k->m, tile % k->tiles_x * k->m };
}

/* The part of [first, first + side) that lies in [0, n), counted from first. */
static void clip_span(int64_t first, int side, int64_t n, int *begin, int *end) {
    *begin = (int)least(side, most(0, -first));
    *end = (int)most(*begin, least(side, n - first));
}

static void transform_in(const wino_job *j, int64_t first, int64_t n, float *v) {
    const wino_kernel *k = j->k;
    for (int64_t t = 0; t < n; t++) {
        tile_at at = locate(k, first + t);
        int64_t y = at.y - k->pad_y, x = at.x - k->pad_x;
        ps_wino_tile tile = { .row = k->in_w * k->channels, .col = k->channels };
        tile.at = ((at.image * k->in_h + y) * k->in_w + x) * k->channels;
        clip_span(y, k->m + 2, k->in_h, &tile.y0, &tile.y1);
        clip_span(x, k->m + 2, k->in_w, &tile.x0, &tile.x1);
        k->simd->wino_in(k->m, j->x, &tile, v + t * k->v_row, k->v_step, k->channels);
    }
}

/* Outputs of a panel that are computed: half of them where no more exist. */
static int64_t columns(const wino_kernel *k, int64_t panel) {
    int64_t width = k->simd->panel_width;
    return k->outputs - panel * width <= width / 2 ? width / 2 : width;
}

static void multiply(const wino_kernel *k, int64_t n, int64_t panel, int64_t count, const float *v, float *p) {
    int64_t width = k->simd->panel_width, points = (k->m + 2) * (k->m + 2), size = k->channels * width;
    const float *first = k->weights + panel * points * size;
    for (int64_t at = 0; at < points * count; at++) {
        int64_t i = at / count, c = at % count, next = at + 1;
        k->simd->gemm_panel(v + i * k->v_step, k->v_row, first + (c * points + i) * size, NULL,
                            p + i * k->p_step + c * width, k->p_row, n, columns(k, panel + c), k->channels,
                            first + (next % count * points + next / count) * size);
    }
}

static void transform_out(const wino_job *j, int64_t first, int64_t n, int64_t panel, int64_t count, const float *p) {
    const wino_kernel *k = j->k;
    int64_t channel = panel * k->simd->panel_width;
    int64_t channels = least(k->outputs - channel, count * k->simd->panel_width);
    ps_wino_post post = j->post;
    if (post.bias) post.bias += channel;
    for (int64_t t = 0; t < n; t++) {
        tile_at at = locate(k, first + t);
        ps_wino_tile tile = { .row = k->out_w * k->outputs, .col = k->outputs };
        tile.at = ((at.image * k->out_h + at.y) * k->out_w + at.x) * k->outputs + channel;
        clip_span(at.y, k->m, k->out_h, &tile.y0, &tile.y1);
        clip_span(at.x, k->m, k->out_w, &tile.x0, &tile.x1);
        k->simd->wino_out(k->m, p + t * k->p_row, k->p_step, &post, &tile, j->y, channels);
    }
}

/* The chain over a block's pixels, while they are in cache: tiles of one row are a run in each of its pixel rows. */
static void chain_block(const wino_job *j, int64_t first, int64_t n) {
    const wino_kernel *k = j->k;
    for (int64_t t = first, count; t < first + n; t += count) {
        tile_at at = locate(k, t);
        count = least(first + n - t, k->tiles_x - t % k->tiles_x);
        int64_t pixels = least(k->out_w - at.x, count * k->m);
        for (int64_t y = at.y; y < least(at.y + k->m, k->out_h); y++) {
            int64_t place = ((at.image * k->out_h + y) * k->out_w + at.x) * k->outputs;
            cpu_chain_span(&k->chain, k->simd, j->y, j->y, j->in, place, pixels * k->outputs);
        }
    }
}

/* One item is one block of tiles and one slice of the panels. */
static void run_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const wino_job *j = ctx;
    const wino_kernel *k = j->k;
    int64_t points = (k->m + 2) * (k->m + 2), there = -1;
    float *v = j->scratch + thread * points * (k->v_step + k->p_step), *p = v + points * k->v_step;
    for (int64_t item = begin; item < end; item++) {
        int64_t block = item / k->slices, slice = item % k->slices, first = block * k->block;
        int64_t n = least(k->block, k->tiles - first);
        int64_t panel = slice * k->panels / k->slices, stop = (slice + 1) * k->panels / k->slices;
        if (there != block) transform_in(j, first, n, v);
        there = block;
        for (int64_t count; panel < stop; panel += count) {
            count = least(k->chunk, stop - panel);
            multiply(k, n, panel, count, v, p);
            transform_out(j, first, n, panel, count, p);
        }
        if (k->chain_in_block) chain_block(j, first, n);
    }
}

static ps_status wino_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const wino_kernel *k = (const wino_kernel *)kernel;
    wino_job job = { k, args->in[0], args->out[0], args->workspace, { NULL, NULL, k->lo, k->hi }, args->in };
    if (k->bias >= 0) job.post.bias = args->in[k->bias];
    if (k->add >= 0) job.post.add = args->in[k->add];
    ps_parallel_for(blocks_of(k->tiles, k->block) * k->slices, 1, k->threads, run_items, &job);
    if (k->has_chain && !k->chain_in_block) cpu_chain_run(&k->chain, k->simd, job.y, job.y, args->in);
    return PS_OK;
}

/* ---- weights ---- */

/* Rows: values of the weights' polynomial at the points, over the denominator of each point's Lagrange polynomial. */
static int points_matrix(int m, double g[PS_WINO_SIDE][3]) {
    static const double points4[] = { 0, PS_WINO_A, -PS_WINO_A, PS_WINO_B, -PS_WINO_B }, points2[] = { 0, 1, -1 };
    const double *at = m == 4 ? points4 : points2;
    for (int i = 0; i < m + 1; i++) {
        double below = 1;
        for (int k = 0; k < m + 1; k++)
            below *= k == i ? 1 : at[i] - at[k];
        for (int r = 0; r < 3; r++)
            g[i][r] = (r == 0 ? 1 : r == 1 ? at[i] : at[i] * at[i]) / below;
    }
    g[m + 1][0] = g[m + 1][1] = 0;
    g[m + 1][2] = 1;
    return m + 2;
}

typedef struct pack_job {
    const float *src; /* [outputs][channels][3][3] */
    float *dst;
    int64_t outputs, channels, width;
    int m;
} pack_job;

#define MAX_WIDTH 64

/* All positions of one input channel, for the outputs of one panel: G w G^T in double, rounded once. */
static void pack_channel(const pack_job *j, int side, double (*g)[3], int64_t panel, int64_t c) {
    double w[3][3][MAX_WIDTH] = { { { 0 } } }, half[3][MAX_WIDTH];
    int64_t first = panel * j->width, n = least(j->width, j->outputs - first);
    float *dst = j->dst + (panel * side * side * j->channels + c) * j->width;
    for (int64_t o = 0; o < n; o++) {
        for (int i = 0; i < 9; i++)
            w[i / 3][i % 3][o] = (double)j->src[((first + o) * j->channels + c) * 9 + i];
    }
    for (int y = 0; y < side; y++) {
        for (int r = 0; r < 3; r++) {
            for (int64_t o = 0; o < j->width; o++)
                half[r][o] = g[y][0] * w[0][r][o] + g[y][1] * w[1][r][o] + g[y][2] * w[2][r][o];
        }
        for (int x = 0; x < side; x++, dst += j->channels * j->width) {
            for (int64_t o = 0; o < j->width; o++)
                dst[o] = (float)(g[x][0] * half[0][o] + g[x][1] * half[1][o] + g[x][2] * half[2][o]);
        }
    }
}

static void pack_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const pack_job *j = ctx;
    double g[PS_WINO_SIDE][3];
    int side = points_matrix(j->m, g);
    for (int64_t item = begin; item < end; item++)
        pack_channel(j, side, g, item / j->channels, item % j->channels);
}

typedef struct pack_call {
    pack_job job;
    int threads;
} pack_call;

static ps_status pack(void *ctx, void *dst, ps_error *err) {
    pack_call *call = ctx;
    call->job.dst = dst;
    ps_parallel_for(blocks_of(call->job.outputs, call->job.width) * call->job.channels, 16, call->threads, pack_items,
                    &call->job);
    return PS_OK;
}

static ps_status pack_weights(ps_lowering *l, wino_kernel *k, ps_error *err) {
    const ps_tensor *w = l->node->in[1]->constant;
    int64_t width = k->simd->panel_width, points = (k->m + 2) * (k->m + 2);
    pack_call call = { { w->data, NULL, k->outputs, k->channels, width, k->m }, l->threads };
    size_t bytes = (size_t)(k->panels * points * k->channels * width) * sizeof(float);
    const void *data = NULL;
    char key[64];
    ps_snprintf(key, sizeof key, "winograd %d, panels %lld", k->m, (long long)width);
    PS_TRY(ps_weights_take(l, 1, key, bytes, pack, &call, &data, err));
    k->weights = data;
    return PS_OK;
}

/* ---- lowering ---- */

static bool is_residual(const ps_node *n, const ps_post *p) {
    return p->kind == PS_POST_ADD && !n->in[p->operand]->constant && n->in[p->operand]->dtype == PS_DTYPE_F32 &&
           ps_shape_equal(&n->in[p->operand]->shape, &n->out[0]->shape);
}

/* How many post-ops the transform back can do: an addition of the output's shape, then a clamp; either may be absent.
 */
static int take_posts(const ps_node *n, const ps_post *posts, int n_posts, wino_kernel *k) {
    int taken = 0;
    k->add = -1;
    k->lo = -INFINITY;
    k->hi = INFINITY;
    if (taken < n_posts && is_residual(n, &posts[taken])) k->add = posts[taken++].operand;
    if (taken < n_posts && posts[taken].kind == PS_POST_RELU) {
        k->lo = 0;
        taken++;
    } else if (taken < n_posts && posts[taken].kind == PS_POST_CLIP) {
        k->lo = posts[taken].alpha;
        k->hi = posts[taken].beta;
        taken++;
    }
    return taken;
}

/* The residual's memory may become the output's, unless somebody reads it after the first pixels are written. */
static bool residual_in_place(const ps_node *n, const ps_post *posts, int n_posts, int add) {
    if (add < 0 || n->in[add] == n->in[0]) return false;
    for (int i = 1; i < n_posts; i++) {
        if (ps_post_is_binary(posts[i].kind) && n->in[posts[i].operand] == n->in[add]) return false;
    }
    return true;
}

static void lay_out(ps_lowering *l) {
    const ps_node *n = l->node;
    for (uint32_t i = 0; i < n->n_in; i++) {
        bool full = n->in[i] && n->in[i]->shape.rank == n->out[0]->shape.rank;
        l->in_layout[i] = full && i != 1 ? PS_LAYOUT_CHANNELS_LAST : PS_LAYOUT_PLAIN;
    }
    l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
}

/* Floats of V and of P in a block. Measured on 1 MiB of second-level cache: any from these to four times as many are
 * within 5 %, so the smallest, for smaller caches. But weights that come from memory are to serve some tiles. */
enum { V_FLOATS = 65536, P_FLOATS = 16384, FEW_TILES = 24 };

/* An odd number of cache lines, so that the positions of one tile do not share a set of the first-level cache. */
static int64_t odd_lines(int64_t floats) {
    return (blocks_of(floats, 16) | 1) * 16;
}

static void size_blocks(wino_kernel *k) {
    int64_t points = (k->m + 2) * (k->m + 2), width = k->simd->panel_width;
    int64_t v_row = blocks_of(k->channels, 16) * 16;
    k->v_row = v_row % 256 == 0 ? v_row + 16 : v_row; /* rows apart by a power of two share sets as well */
    int64_t most_tiles = most(FEW_TILES, V_FLOATS / (points * k->v_row) / 12 * 12);
    int64_t blocks = blocks_of(k->tiles, most_tiles);
    if (k->tiles / k->threads >= 12) blocks = blocks_of(blocks, k->threads) * k->threads;
    k->block = blocks_of(k->tiles, blocks);
    blocks = blocks_of(k->tiles, k->block);
    k->slices = blocks % k->threads == 0 || blocks >= 4 * k->threads ? 1 : least(k->threads, k->panels);
    k->chunk = most(1, least(k->panels, P_FLOATS / (points * k->block * width)));
    k->p_row = k->chunk * width;
    if (k->p_row % 256 == 0) k->p_row += 16;
    k->v_step = odd_lines(k->block * k->v_row);
    k->p_step = odd_lines(k->block * k->p_row);
    k->base.workspace = (size_t)(k->threads * points * (k->v_step + k->p_step)) * sizeof(float);
}

static ps_status fill(ps_lowering *l, const ps_window *w, wino_kernel *k, bool *ret_done, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *x = &n->in[0]->shape, *out = &n->out[0]->shape;
    ps_post posts[PS_MAX_POSTS];
    int n_posts = (int)ps_node_posts(n, posts), taken = take_posts(n, posts, n_posts, k);
    k->batch = x->dims[0];
    k->channels = x->dims[1];
    k->in_h = x->dims[2];
    k->in_w = x->dims[3];
    k->outputs = out->dims[1];
    k->out_h = out->dims[2];
    k->out_w = out->dims[3];
    k->pad_y = w[0].pad_begin;
    k->pad_x = w[1].pad_begin;
    k->bias = ps_has_in(n, 2) ? 2 : -1;
    k->tiles_x = blocks_of(k->out_w, k->m);
    k->tiles = k->batch * blocks_of(k->out_h, k->m) * k->tiles_x;
    k->panels = blocks_of(k->outputs, k->simd->panel_width);
    size_blocks(k);
    lay_out(l);
    k->has_chain = taken < n_posts;
    k->chain_in_block = k->has_chain && k->slices == 1;
    *ret_done = ps_chain_init(&k->chain, n, posts + taken, n_posts - taken, out, PS_LAYOUT_CHANNELS_LAST, l->in_layout,
                               out, PS_LAYOUT_CHANNELS_LAST, l->threads);
    if (residual_in_place(n, posts, n_posts, k->add)) l->inplace = k->add;
    return *ret_done ? pack_weights(l, k, err) : PS_OK;
}

static bool possible(const ps_node *n) {
    const ps_conv_params *p = n->params;
    const ps_shape *x = &n->in[0]->shape, *w = &n->in[1]->shape, *y = &n->out[0]->shape;
    if (n->in[0]->dtype != PS_DTYPE_F32 || x->rank != 4 || !n->in[1]->constant || p->group != 1) return false;
    if (ps_has_in(n, 2) && n->in[2]->dtype != PS_DTYPE_F32) return false;
    return x->dims[1] >= 16 && w->dims[0] >= 16 && w->dims[2] == 3 && w->dims[3] == 3 && ps_shape_product(y, 0, 4) > 0;
}

static bool windows_possible(const ps_window *w) {
    for (int i = 0; i < 2; i++) {
        if (w[i].stride != 1 || w[i].dilation != 1 || w[i].pad_begin < 0 || w[i].pad_end < 0) return false;
    }
    return true;
}

/* ---- choice ----
 * In multiplications of a product (57 per ns and core where this was measured), for one image whatever the batch and
 * the threads: so every plan of a model uses the same form of a weight, and an image's result does not depend on its
 * batch. */
enum {
    TRANSFORM = 12,  /* a point of a tile, in or out, of one channel: measured, 10 to 13 */
    FETCH = 10,      /* a weight that comes from memory: 23 GB/s, beside which the multiplications are free */
    WORTH_A_BYTE = 7 /* that a further byte of weights must save to be worth its place: of ResNet-50's, 16 MB are */
};

static double winograd_cost(const ps_lowering *l, int m, int64_t width) {
    const ps_shape *y = &l->node->out[0]->shape;
    double channels = (double)l->node->in[0]->shape.dims[1], outputs = (double)y->dims[1];
    double padded = (double)(blocks_of(y->dims[1], width / 2) * width / 2), points = (m + 2) * (m + 2);
    double tiles = (double)blocks_of(y->dims[2], m) * (double)blocks_of(y->dims[3], m);
    double work = tiles * (channels * padded + TRANSFORM * (channels + outputs)), fetch = FETCH * channels * outputs;
    return points * (work > fetch ? work : fetch);
}

/* 4 or 2 outputs along a side, or 0: the direct convolution is better. */
static int choose(const ps_device *device, const ps_lowering *l) {
    const ps_shape *y = &l->node->out[0]->shape;
    double weights = (double)l->node->in[0]->shape.dims[1] * (double)y->dims[1];
    double direct = 9 * weights * (double)y->dims[2] * (double)y->dims[3];
    if (!cpu_of(device)->dnnl) direct = INFINITY; /* it would be the reference kernel */
    double best = direct, held = 0;
    int ret = 0;
    for (int m = 2; m <= 4; m += 2) {
        double cost = winograd_cost(l, m, cpu_of(device)->simd->panel_width);
        double bytes = ((m + 2) * (m + 2) - 9) * weights * (double)sizeof(float);
        if (cost >= best || best - cost < WORTH_A_BYTE * (bytes - held)) continue;
        best = cost;
        held = bytes;
        ret = m;
    }
    return ret;
}

ps_status cpu_lower_winograd(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { wino_run, cpu_kernel_free, NULL, NULL };
    ps_window w[PS_MAX_SPATIAL];
    wino_kernel *k;
    int count, m;
    bool done = false;
    if (!possible(l->node)) return PS_OK;
    PS_TRY(ps_conv_windows(l->node, w, &count, err));
    if (!windows_possible(w) || (m = choose(device, l)) == 0) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "", &k, err));
    k->simd = cpu_of(device)->simd;
    k->threads = l->threads;
    k->m = m;
    ps_status status = fill(l, w, k, &done, err);
    if (status != PS_OK || !done) {
        l->inplace = -1;
        cpu_kernel_free(&k->base);
        return status;
    }
    ps_snprintf(k->base.label, sizeof k->base.label, "cpu.conv winograd %dx%d%s", m, m, k->has_chain ? " +chain" : "");
    l->kernel = &k->base;
    return PS_OK;
}
