/* winograd.c - convolutions of 3 x 3 with stride 1 by Winograd's minimal filtering (Lavin and Gray 2016,
 * arXiv:1509.09308): F(2x2, 3x3) takes 4 multiply-adds a result instead of 9, F(4x4, 3x3) 2.25, for transforms before
 * and behind. It is chosen where the sum costs less than the direct product (ocl_gemm_cost). */
#include <math.h>

#include "backend/opencl/conv.h"

#define MARGIN 1.1 /* by so much, for the estimate is one */

typedef struct winograd {
    const ocl_conv *c;
    int tile, edge;               /* results and pixels along one side */
    int64_t rows, columns, tiles; /* tiles down, across, in all */
    ocl_gemm g;
    double cost;
} winograd;

static bool suits(const ocl_conv *c) {
    const ps_window *h = &c->w[1], *w = &c->w[2];
    return c->groups == 1 && ocl_conv_is_flat(c) && h->kernel == 3 && w->kernel == 3 && h->stride == 1 &&
           w->stride == 1 && h->dilation == 1 && w->dilation == 1;
}

static int64_t up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

static int64_t pixels_of(const ocl_conv *c) {
    return c->batch * c->w[1].in * c->w[2].in * c->in_channels;
}

static int64_t results_of(const ocl_conv *c) {
    return c->batch * c->w[1].out * c->w[2].out * c->out_channels;
}

/* The products: edge² of them, tiles x in_channels by in_channels x out_channels. False: too large for offsets. */
static bool describe(const ocl_device *d, const ocl_conv *c, int tile, winograd *w) {
    *w = (winograd) { .c = c, .tile = tile, .edge = tile + 2 };
    w->rows = (c->w[1].out + tile - 1) / tile;
    w->columns = (c->w[2].out + tile - 1) / tile;
    w->tiles = c->batch * w->rows * w->columns;
    const int64_t places = w->edge * w->edge,
                  most = c->in_channels > c->out_channels ? c->in_channels : c->out_channels;
    const int64_t panel = up(c->in_channels, OCL_GEMM_DEPTH) * up(c->out_channels, 4);
    if (w->tiles > INT32_MAX / places / most || panel > INT32_MAX / places) return false;
    const int64_t before = w->tiles * c->in_channels, behind = w->tiles * c->out_channels;
    w->g =
        (ocl_gemm) { .a_mode = OCL_A_ROWS,
                     .b_mode = OCL_B_PANELS,
                     .m = w->tiles,
                     .n = c->out_channels,
                     .k = c->in_channels,
                     .lda = c->in_channels,
                     .ldb = up(c->out_channels, 4),
                     .ldc = c->out_channels,
                     .outer = 1,
                     .inner = places,
                     .step = { 0, before, 0, panel, 0, behind },
                     .a = { OCL_ARG_WORK, { .bytes = 0 }, 0 },
                     .c = { OCL_ARG_WORK, { .bytes = (size_t)up(places * before * 4, PS_ALIGN) }, 0 } };
    ocl_gemm_plan(d, &w->g, false);
    const double products = ocl_gemm_cost(d, &w->g);
    const double moved = (double)(places * (before + behind + c->in_channels * c->out_channels));
    const double pixels = (double)pixels_of(c) * (c->in_half ? 0.5 : 1);
    const double results = (double)results_of(c) * (c->out_half ? 0.5 : 1);
    const double traffic = ocl_traffic_cost(d, moved);
    w->cost = (products > traffic ? products : traffic) + ocl_traffic_cost(d, pixels + (double)(places * before)) +
              ocl_traffic_cost(d, results + (double)(places * behind));
    return true;
}

static size_t workspace_of(const winograd *w) {
    return w->g.c.u.bytes + (size_t)(w->g.inner * w->g.step[5]) * sizeof(float);
}

/* For the workspace beside input and result, which are one buffer, and the weights. That the plan's other values and
 * weights leave so much is seen at its end. */
static bool has_room(const ocl_device *d, const winograd *w) {
    const ocl_conv *c = w->c;
    const size_t values = (size_t)pixels_of(c) * (c->in_half ? sizeof(cl_half) : sizeof(float)) +
                          (size_t)results_of(c) * (c->out_half ? sizeof(cl_half) : sizeof(float));
    return ocl_has_room(d, workspace_of(w) + values, (size_t)(w->g.inner * w->g.step[3]) * sizeof(float));
}

/* ---- weights ---- */

/* U = G g G^T: rows of G for the points of each transform in kernels/winograd.cl. */
static const double g2[4][3] = { { 1, 0, 0 }, { .5, .5, .5 }, { .5, -.5, .5 }, { 0, 0, 1 } };
static const double g4[6][3] = { { 1. / 4, 0, 0 },
                                 { -1. / 6, -1. / 6, -1. / 6 },
                                 { -1. / 6, 1. / 6, -1. / 6 },
                                 { 1. / 24, 1. / 12, 1. / 6 },
                                 { 1. / 24, -1. / 12, 1. / 6 },
                                 { 0, 0, 1 } };

typedef struct pack_job {
    const winograd *w;
    const ps_tensor *src; /* [out][in][3][3] */
    int threads;
    ocl_device *device;
    float *to;
} pack_job;

/* The kernel's transform, place by place: rows first, then columns. */
static void transform(const winograd *w, const float *kernel, double ret[36]) {
    const double(*t)[3] = w->tile == 2 ? g2 : g4;
    for (int i = 0; i < w->edge; i++) {
        double row[3];
        for (int x = 0; x < 3; x++)
            row[x] = t[i][0] * (double)kernel[x] + t[i][1] * (double)kernel[3 + x] + t[i][2] * (double)kernel[6 + x];
        for (int j = 0; j < w->edge; j++)
            ret[i * w->edge + j] = t[j][0] * row[0] + t[j][1] * row[1] + t[j][2] * row[2];
    }
}

/* Input channels [begin, end): rows of every place's panel. */
static void pack_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const pack_job *job = ctx;
    const winograd *w = job->w;
    const int64_t in = w->c->in_channels, panel = w->g.step[3], columns = w->g.ldb;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t o = 0; o < w->c->out_channels; o++) {
            double places[36];
            transform(w, (const float *)job->src->data + (o * in + i) * 9, places);
            for (int place = 0; place < w->edge * w->edge; place++)
                job->to[place * panel + i * columns + o] = (float)places[place];
        }
    }
}

static ps_status pack(void *ctx, void *dst, ps_error *err) {
    pack_job *job = ctx;
    const winograd *w = job->w;
    job->to = dst;
    memset(dst, 0, (size_t)(w->g.inner * w->g.step[3]) * sizeof(float));
    ps_parallel_for(w->c->in_channels, 1 + 2048 / w->c->out_channels, job->threads, pack_rows, job);
    return PS_OK;
}

/* By the device, in f32: what a transformed weight is off by is nothing beside what F(4x4) does to sums. */
static ps_status place(void *ctx, const void *content, void *dst, ps_error *err) {
    static const size_t local[2] = { 64, 1 };
    const pack_job *job = ctx;
    const winograd *w = job->w;
    const int64_t columns = w->g.ldb, rows = w->g.step[3] / columns;
    const cl_int numbers[16] = { (cl_int)w->c->in_channels, (cl_int)w->c->out_channels, (cl_int)rows, (cl_int)columns };
    return ocl_place(job->device, "transformed", w->tile == 2 ? "-DENTRY=1 -DTILE=2" : "-DENTRY=1 -DTILE=4", content,
                     dst, numbers, (int64_t[]) { columns, rows, 1 }, local, err);
}

/* Of the kernel's own, for one that is only tried. */
static ps_status own_weights(ocl_kernel *k, const ps_lowering *l, pack_job *job, size_t bytes, void **ret,
                             ps_error *err) {
    PS_TRY(ps_tensor_need(job->src, err));
    void *packed = ps_alloc(l->alloc, bytes);
    if (!packed) return PS_FAIL_NOMEM(err, "packed weights");
    ps_status status = pack(job, packed, err);
    if (status == PS_OK) status = ocl_kernel_table(k, packed, bytes, ret, err);
    ps_free(l->alloc, packed);
    return status;
}

static ps_status take_weights(ps_device *device, ps_lowering *l, const winograd *w, bool tried, ocl_kernel *k,
                              void **ret, ps_error *err) {
    char key[64];
    size_t bytes;
    pack_job job = { w, l->node->in[1]->constant, l->threads, ocl_of(device), NULL };
    PS_FAIL_IF(!ps_dtype_bytes(PS_DTYPE_F32, w->g.inner * w->g.step[3], &bytes), err, LIMIT,
               "weights are too large to pack");
    if (tried) return own_weights(k, l, &job, bytes, ret, err);
    ps_snprintf(key, sizeof key, "opencl.winograd %d", w->tile);
    const ps_packing packing = { bytes, pack, ocl_places(job.device) ? place : NULL, &job, false };
    return ps_weights_take_on(l, device, 1, key, &packing, ret, err);
}

/* ---- launches ---- */

static void place_args(ocl_launch *l, const winograd *w) {
    const ocl_conv *c = w->c;
    const int64_t image[8] = { c->w[1].in, c->w[2].in,  c->in_channels, w->rows,
                               w->columns, c->w[1].out, c->w[2].out,    c->out_channels };
    ocl_arg_ints(l, image, 8);
    ocl_arg_ints(l, (int64_t[]) { c->w[1].pad_begin, c->w[2].pad_begin, w->tiles }, 3);
}

static ps_status before(ocl_kernel *k, const winograd *w, ps_error *err) {
    char options[64];
    ocl_launch *l;
    ps_snprintf(options, sizeof options, "-DTILE=%d%s", w->tile, ocl_halves(w->c->in_half, false));
    PS_TRY(ocl_launch_init(k, 0, "winograd", options, "", "to_products", &l, err));
    ocl_arg_in(l, 0);
    ocl_arg_work(l, 0);
    place_args(l, w);
    ocl_launch_size(l, w->tiles * w->c->in_channels, 1, 1, 64, 1);
    return PS_OK;
}

static ps_status behind(ocl_kernel *k, const winograd *w, const ps_chain *chain, ps_error *err) {
    char options[64];
    ocl_launch *l;
    ps_str text;
    ps_str_init(&text, k->base.alloc);
    ocl_post_text(&text, chain, w->c->out_channels);
    ps_snprintf(options, sizeof options, "-DTILE=%d -DBIAS=%d%s", w->tile, w->c->has_bias,
                ocl_halves(false, w->c->out_half));
    ps_status status = text.failed ? PS_FAIL_NOMEM(err, "a program")
                                   : ocl_launch_init(k, 2, "winograd", options, text.data, "from_products", &l, err);
    ps_str_release(&text);
    if (status != PS_OK) return status;
    ocl_arg_work(l, w->g.c.u.bytes);
    ocl_arg_out(l, 0);
    place_args(l, w);
    if (w->c->has_bias) ocl_arg_in(l, 2);
    ocl_post_args(l, chain, w->c->out_channels);
    ocl_launch_size(l, w->tiles * w->c->out_channels, 1, 1, 64, 1);
    return PS_OK;
}

static ps_status launches(ps_device *device, ps_lowering *l, winograd *w, const ps_chain *chain, bool tried,
                          ocl_kernel *k, ps_error *err) {
    const ps_chain nothing = { .rank = 1, .dims = { 1 } };
    void *weights = NULL;
    PS_TRY(take_weights(device, l, w, tried, k, &weights, err));
    w->g.b = (ocl_arg) { OCL_ARG_BUFFER, { .buffer = weights }, 0 };
    k->base.workspace = workspace_of(w);
    PS_TRY(before(k, w, err));
    PS_TRY(ocl_gemm_launch(k, 1, &w->g, &nothing, 1, err));
    return behind(k, w, chain, err);
}

/* ret->tile 0: the direct product costs less. */
static void choose(const ocl_device *d, const ocl_conv *c, winograd *ret) {
    ocl_gemm direct;
    ocl_panels panels;
    *ret = (winograd) { .cost = INFINITY };
    if (!suits(c)) return;
    ocl_conv_product(c, &direct, &panels);
    ocl_gemm_plan(d, &direct, true);
    for (int tile = 2; tile <= 4; tile += 2) {
        winograd w;
        if (d->test_winograd && d->test_winograd != tile) continue;
        if (describe(d, c, tile, &w) && w.cost < ret->cost) *ret = w;
    }
    if (!d->test_winograd && ret->cost * MARGIN > ocl_gemm_cost(d, &direct)) ret->tile = 0;
}

int ocl_winograd_choice(const ocl_device *d, const ocl_conv *c, ocl_gemm *ret) {
    winograd w;
    choose(d, c, &w);
    *ret = w.g;
    return w.tile;
}

/* ---- by trial ---- */

#define DIRECT 0 /* in place of a tile */

typedef struct algorithms {
    ps_device *device;
    ps_lowering *l;
    const ocl_conv *c;
    const ps_chain *chain;
    winograd list[3];
    int32_t tiles[3];
    size_t n;
} algorithms;

static ps_status make_algorithm(void *ctx, size_t i, ocl_kernel **ret, ps_error *err) {
    algorithms *a = ctx;
    PS_TRY(ocl_kernel_new(a->device, a->l, 3, "trial", ret, err));
    const ps_status status = a->tiles[i] == DIRECT ? ocl_conv_direct(a->device, a->l, a->c, a->chain, true, *ret, err)
                                                   : launches(a->device, a->l, &a->list[i], a->chain, true, *ret, err);
    if (status != PS_OK) ocl_kernel_free(&(*ret)->base);
    return status;
}

/* The estimate's choice first, then the others that are possible. */
static void list_algorithms(const ocl_device *d, const winograd *estimated, algorithms *a) {
    a->list[0] = *estimated;
    a->tiles[0] = estimated->tile;
    a->n = 1;
    for (int tile = 0; tile <= 4; tile += 2) {
        winograd *w = &a->list[a->n];
        if (tile == estimated->tile) continue;
        if (tile != DIRECT && (!describe(d, a->c, tile, w) || !has_room(d, w))) continue;
        a->tiles[a->n++] = tile;
    }
}

/* Replaces what the estimate has chosen by what is fastest, as far as that is known or may be tried. */
static ps_status choose_by_trial(ps_device *device, ps_lowering *l, const ocl_conv *c, const ps_chain *chain,
                                 winograd *w, ps_error *err) {
    size_t chosen = 0;
    if (!ocl_may_choose(device, l)) return PS_OK;
    algorithms *a = ps_alloc_zero(l->alloc, sizeof *a);
    if (!a) return PS_FAIL_NOMEM(err, "ways of a convolution");
    a->device = device;
    a->l = l;
    a->c = c;
    a->chain = chain;
    list_algorithms(ocl_of(device), w, a);
    ocl_trials trials = { .n = a->n, .ids = a->tiles, .id_bytes = sizeof *a->tiles, .make = make_algorithm, .ctx = a };
    ocl_conv_digest(c, "winograd", trials.digest);
    trials.digest[1] ^= ocl_program_version("gemm");
    const ps_status status = ocl_choose(device, l, &trials, &chosen, err);
    if (status == PS_OK && a->tiles[chosen] != w->tile) {
        *w = a->list[chosen];
        w->tile = a->tiles[chosen];
    }
    ps_free(l->alloc, a);
    return status;
}

ps_status ocl_lower_winograd(ps_device *device, ps_lowering *l, ps_error *err) {
    const ocl_device *d = ocl_of(device);
    ocl_conv c;
    ps_chain chain;
    ocl_kernel *k;
    ocl_gemm direct;
    ocl_panels panels;
    winograd best;
    bool ok, narrow;
    PS_TRY(ocl_conv_take(l, false, &c, &chain, &ok, err));
    if (!ok || !suits(&c)) return PS_OK;
    ocl_conv_product(&c, &direct, &panels);
    PS_TRY(ocl_weights_narrow(device, l, 1, &panels, &narrow, err));
    if (narrow || l->frugal) return PS_OK; /* narrow ones would take four to eight times as much, transformed */
    choose(d, &c, &best);
    if (best.tile && !has_room(d, &best)) best.tile = DIRECT;
    if (!d->test_winograd) PS_TRY(choose_by_trial(device, l, &c, &chain, &best, err));
    if (best.tile == DIRECT) return PS_OK;
    PS_TRY(ocl_kernel_new(device, l, 3, best.tile == 2 ? "opencl.conv winograd 2x2" : "opencl.conv winograd 4x4", &k,
                          err));
    ocl_conv_layouts(l);
    l->roomy = true;
    return ocl_kernel_done(l, k, launches(device, l, &best, &chain, false, k, err));
}
