/* gemm.c - MatMul and Gemm, and the launch of a product for others. */
#include <math.h>

#include "backend/opencl/sparse.h"

static int64_t up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

/* ---- tiles ---- */

static void tiles_of(const ocl_device *d, const ocl_tile **ret, size_t *ret_n) {
    const ocl_table *table = ocl_table_of(d->family);
    *ret = d->test_tile ? ocl_test_tile(d->test_tile) : table->tiles;
    *ret_n = d->test_tile ? 1 : table->n_tiles;
}

#define LONE 1.2       /* a SIMD with one wave waits more than one with two */
#define MOST_PARTS 32  /* of a depth */
#define LEAST_DEPTH 64 /* of a part */
#define ENDS 16        /* what a tile's beginning and end cost, in steps of one along k */
#define ADDING 4       /* the same of slices that are added up */

static int64_t tiles(int64_t n, int tile) {
    return (n + tile - 1) / tile;
}

static bool can_share(const ocl_gemm *g, int64_t parts) {
    return g->outer * g->inner == 1 && g->ldc == g->n && g->m * g->n <= INT32_MAX / parts;
}

/* Rows of B that one part takes. */
static int64_t depth_of_part(const ocl_gemm *g) {
    return g->parts ? up((g->k + g->parts - 1) / g->parts, g->tile.depth * g->tile.slices) : g->k;
}

static int items_of(const ocl_tile *t) {
    return t->m * t->n / (8 * t->rows) * t->slices;
}

/* A scale a step. Tiles with fewer results an item than the table's first take no blocks, for they have fewer
 * multiply-adds to a scale. Slices take no codes, for the last of them may begin behind the last zero point. */
static bool tile_fits(const ocl_device *d, const ocl_gemm *g, const ocl_tile *t) {
    if (t->slices > 1 && (g->weights.form >= OCL_FORM_U8 || (size_t)items_of(t) > d->most_items)) return false;
    return g->weights.block % t->depth == 0 && (t->rows >= ocl_table_of(d->family)->tiles->rows || !g->weights.block);
}

double ocl_traffic_cost(const ocl_device *d, double floats) {
    return floats * ocl_table_of(d->family)->macs_a_float / (double)d->units + ocl_launch_cost(d);
}

/* Groups come to units in turn, so that the busiest has one more than the others; a unit with few items is not
 * filled. */
double ocl_busy_items(const ocl_device *d, double groups, int items) {
    const double filled = d->filled;
    double busy = ceil(groups / (double)d->units) * items;
    if (ocl_table_of(d->family)->whole_waves) busy = ceil(busy / filled) * filled;
    if (busy < filled) busy = filled;
    return busy < 2 * filled ? busy * LONE : busy;
}

/* A unit that the driver counts for two does twice as much in that time. */
double ocl_launch_cost(const ocl_device *d) {
    const ocl_table *t = ocl_table_of(d->family);
    return t->macs_a_launch * d->filled / t->filled;
}

double ocl_gemm_cost(const ocl_device *d, const ocl_gemm *g) {
    if (g->few_depth) return ocl_traffic_cost(d, (double)(g->k * g->n));
    const int64_t each = g->parts ? g->parts : g->outer * g->inner;
    const double groups = (double)tiles(g->m, g->tile.m) * (double)tiles(g->n, g->tile.n) * (double)each;
    const double busy = ocl_busy_items(d, groups, items_of(&g->tile));
    const int64_t slices = g->tile.slices, all = depth_of_part(g);
    const int64_t depth = slices > 1 ? up((all + slices - 1) / slices, g->tile.depth) + ADDING : all;
    const double macs = busy * 8 * g->tile.rows * (double)(depth + ENDS) / g->tile.speed;
    return macs + ocl_launch_cost(d) + (g->parts ? ocl_traffic_cost(d, (double)((2 * g->parts + 1) * g->m * g->n)) : 0);
}

static void choose_parts(const ocl_device *d, ocl_gemm *g, double *best) {
    ocl_gemm try = *g;
    for (try.parts = 2; try.parts <= MOST_PARTS && try.parts * LEAST_DEPTH <= g->k; try.parts++) {
        if (!can_share(g, try.parts)) return;
        const double cost = ocl_gemm_cost(d, &try);
        if (cost >= *best) continue;
        *best = cost;
        g->parts = (g->k + depth_of_part(&try) - 1) / depth_of_part(&try); /* none is empty */
    }
}

int ocl_gemm_plan(const ocl_device *d, ocl_gemm *g, bool may_share) {
    const ocl_tile *table;
    size_t n;
    double best = INFINITY;
    tiles_of(d, &table, &n);
    if (g->weights.strip) return ocl_sparse_plan(d, g);
    if (may_share && ocl_gemv_fits(g)) return ocl_gemv_plan(d, g);
    for (size_t i = 0; i < n; i++) {
        ocl_gemm try = *g;
        if (n > 1 && !tile_fits(d, g, &table[i])) continue;
        try.tile = table[i];
        try.parts = 0;
        double cost = ocl_gemm_cost(d, &try);
        if (may_share) choose_parts(d, &try, &cost);
        if (cost >= best) continue;
        best = cost;
        *g = try;
    }
    return g->parts ? 2 : 1;
}

/* ---- other variants ---- */

static const ocl_tile tried_tiles[] = { { 64, 64, 8, false, 1, 8, 1 },    { 64, 64, 8, true, 1, 8, 1 },
                                        { 128, 64, 8, false, 1, 8, 1 },   { 64, 128, 8, false, 1, 8, 1 },
                                        { 64, 128, 16, false, 1, 8, 1 },  { 64, 64, 16, false, 1, 8, 1 },
                                        { 32, 64, 8, false, 0.99, 4, 1 }, { 32, 64, 8, false, 0.94, 4, 2 },
                                        { 32, 64, 8, false, 0.94, 4, 4 } };

static bool is_same(const ocl_gemm *a, const ocl_gemm *b) {
    return a->parts == b->parts && a->tile.m == b->tile.m && a->tile.n == b->tile.n && a->tile.depth == b->tile.depth &&
           a->tile.twice == b->tile.twice && a->tile.rows == b->tile.rows && a->tile.slices == b->tile.slices;
}

/* Into ret[1 ...], which stays sorted by cost and has room for OCL_MOST_VARIANTS. */
static void add_variant(const ocl_device *d, const ocl_gemm *g, ocl_gemm *ret, size_t *n, double *costs) {
    const double cost = ocl_gemm_cost(d, g);
    size_t at = *n;
    for (size_t i = 0; i < *n; i++)
        if (is_same(g, &ret[i])) return;
    while (at > 1 && costs[at - 1] > cost)
        at--;
    if (at == OCL_MOST_VARIANTS) return;
    if (*n < OCL_MOST_VARIANTS) ++*n;
    for (size_t i = *n - 1; i > at; i--) {
        ret[i] = ret[i - 1];
        costs[i] = costs[i - 1];
    }
    ret[at] = *g;
    costs[at] = cost;
}

/* A tile with all of the depth, and with it shared out. */
static void add_shares(const ocl_device *d, const ocl_gemm *g, const ocl_tile *tile, ocl_gemm *ret, size_t *n,
                       double *costs) {
    ocl_gemm try = *g;
    try.tile = *tile;
    if ((size_t)items_of(tile) > d->most_items || !tile_fits(d, g, tile)) return;
    for (int64_t parts = 1; parts <= MOST_PARTS && (parts == 1 || parts * LEAST_DEPTH <= g->k);
         parts += 1 + parts / 3) {
        if (parts > 1 && !can_share(g, parts)) break;
        try.parts = parts > 1 ? parts : 0;
        if (parts > 1) try.parts = (g->k + depth_of_part(&try) - 1) / depth_of_part(&try); /* none is empty */
        if (try.parts != 1) add_variant(d, &try, ret, n, costs);
    }
}

void ocl_gemm_variants(const ocl_device *d, const ocl_gemm *g, ocl_gemm *ret, size_t *ret_n) {
    double costs[OCL_MOST_VARIANTS] = { 0 };
    ret[0] = *g;
    *ret_n = 1;
    if (g->few_depth) {
        ocl_gemv_variants(d, g, ret, ret_n);
        return;
    }
    const ocl_table *table = ocl_table_of(d->family);
    /* Others are nothing for Intel's registers (family.c). */
    for (size_t i = 0; d->family != OCL_INTEL && i < sizeof tried_tiles / sizeof *tried_tiles; i++)
        add_shares(d, g, &tried_tiles[i], ret, ret_n, costs);
    for (size_t i = 0; i < table->n_tiles; i++)
        add_shares(d, g, &table->tiles[i], ret, ret_n, costs);
}

size_t ocl_gemm_workspace(const ocl_gemm *g) {
    return (size_t)(g->parts * g->m * g->n) * sizeof(float);
}

/* ---- launches ---- */

static void image_args(ocl_launch *l, const ocl_gemm *g) {
    if (g->a_mode != OCL_A_WINDOWS && g->a_mode != OCL_A_SPREAD) return;
    ocl_arg_buffer(l, g->taps);
    ocl_arg_ints(l, g->image, 8);
    ocl_arg_ints(l, g->window, 8);
}

static void gemm_args(ocl_launch *l, const ocl_gemm *g) {
    l->args[0] = g->a;
    l->args[1] = g->b;
    l->args[2] = g->c;
    l->n_args = 3;
    const int64_t depth = depth_of_part(g);
    const int64_t sizes[8] = { g->m, g->n, g->k, g->lda, g->ldb, g->ldc, g->inner, depth };
    ocl_arg_ints(l, sizes, 8);
    ocl_arg_ints(l, g->step, 8);
    if (g->has_bias) ocl_arg_in(l, g->bias);
    image_args(l, g);
    ocl_weights_args(l, &g->weights);
}

/* What the parts came to, added up, with the bias and what follows. */
static ps_status sum_launch(ocl_kernel *k, int i, const ocl_gemm *g, const char *posts, const ps_chain *chain,
                            int64_t columns, ps_error *err) {
    const int64_t each = g->n % 4 == 0 ? 4 : 1, count = g->m * g->n;
    char options[64];
    ocl_launch *l;
    ps_snprintf(options, sizeof options, "-DVEC=%d -DBIAS=%d%s", (int)each, g->has_bias, ocl_halves(false, g->c_half));
    PS_TRY(ocl_launch_init(k, i, "sum_parts", options, posts, "sum_parts", &l, err));
    ocl_arg_work(l, 0);
    l->args[l->n_args++] = g->c;
    ocl_arg_ints(l, (int64_t[]) { count, g->n, g->parts }, 3);
    if (g->has_bias) ocl_arg_in(l, g->bias);
    ocl_post_args(l, chain, columns);
    ocl_launch_size(l, count / each, 1, 1, 64, 1);
    return PS_OK;
}

static bool fours(const int64_t *v, int n) {
    int64_t all = 0;
    for (int i = 0; i < n; i++)
        all |= v[i];
    return all % 4 == 0;
}

/* Do fours of neighbours of A, B, C begin at multiples of 16 bytes, of halves at multiples of 8? Values begin at
 * multiples of 64. */
static void widths(const ocl_gemm *g, bool *a, bool *b, bool *c) {
    const bool rows = g->a_mode == OCL_A_ROWS;
    *a = rows || g->a_mode == OCL_A_COLUMNS ? fours((int64_t[]) { g->lda, rows ? 0 : g->m, g->step[0], g->step[1] }, 4)
                                            : g->four;
    *b = g->b_mode == OCL_B_PANELS ||
         fours((int64_t[]) { g->ldb, g->b_mode == OCL_B_ROWS ? g->n : 0, g->step[2], g->step[3] }, 4);
    *c = fours((int64_t[]) { g->n, g->ldc, g->step[4], g->step[5], g->step[6], g->step[7] }, 6);
}

static ps_status product_launch(ocl_kernel *k, int i, const ocl_gemm *g, const char *posts, const ps_chain *chain,
                                int64_t columns, ps_error *err) {
    const ocl_tile *t = &g->tile;
    char options[416], form[80];
    bool a, b, c;
    ocl_launch *l;
    if (g->weights.strip) return ocl_sparse_launch(k, i, g, posts, chain, columns, err);
    if (g->few_depth) return ocl_gemv_launch(k, i, g, posts, chain, columns, err); /* no tile */
    const int64_t items = items_of(t);
    widths(g, &a, &b, &c);
    ps_snprintf(
        options, sizeof options,
        "-DA_MODE=%d -DB_MODE=%d -DBIAS=%d -DBITS=%d -DWIDE_A=%d -DWIDE_B=%d -DWIDE_C=%d -DBM=%d -DBN=%d -DBK=%d "
        "-DROWS=%d -DSLICES=%d -DTWICE=%d -DUNROLL=%d -DPARTS=%d%s%s%s%s",
        (int)g->a_mode, (int)g->b_mode, g->has_bias, g->bits, a, b, c, t->m, t->n, t->depth, t->rows, t->slices,
        t->twice, k->device->gpu || items == 1, g->parts > 0, ocl_halves(g->a_half, g->c_half),
        g->b_half ? " -DB_HALF=1" : "", k->device->family == OCL_INTEL ? " -DPIECEWISE=1" : "",
        ocl_weights_options(&g->weights, form, sizeof form));
    PS_TRY(ocl_launch_init(k, i, "gemm", options, posts, "gemm", &l, err));
    gemm_args(l, g);
    ocl_post_args(l, chain, columns);
    ocl_launch_size(l, tiles(g->n, t->n) * items, tiles(g->m, t->m), g->parts ? g->parts : g->outer * g->inner,
                    (size_t)items, 1);
    return PS_OK;
}

static ps_status launches(ocl_kernel *k, int i, const ocl_gemm *g, const char *posts, const ps_chain *chain,
                          int64_t columns, ps_error *err) {
    static const char none[] = "#define POST_PARAMS\n#define POST_BEGIN\n#define POST(x, o, col)\n"
                               "#define POST4(v, o, col)\n";
    const ps_chain nothing = { .rank = 1, .dims = { 1 } };
    if (!g->parts) return product_launch(k, i, g, posts, chain, columns, err);
    ocl_gemm part = *g;
    part.c = (ocl_arg) { OCL_ARG_WORK, { .bytes = 0 } };
    part.c_half = part.has_bias = false;
    PS_TRY(product_launch(k, i, &part, none, &nothing, 1, err));
    return sum_launch(k, i + 1, g, posts, chain, columns, err);
}

ps_status ocl_gemm_launch(ocl_kernel *k, int i, const ocl_gemm *g, const ps_chain *chain, int64_t columns,
                          ps_error *err) {
    ps_str text;
    ps_str_init(&text, k->base.alloc);
    ocl_post_text(&text, chain, columns);
    ps_status status =
        text.failed ? PS_FAIL_NOMEM(err, "a program") : launches(k, i, g, text.data, chain, columns, err);
    ps_str_release(&text);
    return status;
}

void ocl_gemm_set_weights(ocl_kernel *k, ocl_gemm *g, const ocl_weights *w) {
    static const char *const names[] = { "", " f16", " bf16", " u8", " u4" };
    const size_t used = strlen(k->base.label);
    ps_snprintf(k->base.label + used, sizeof k->base.label - used, "%s%s", names[w->form], w->strip ? " sparse" : "");
    g->b_mode = OCL_B_PANELS;
    g->b = (ocl_arg) { OCL_ARG_BUFFER, { .buffer = w->buffer }, 0 };
    g->ldb = w->columns;
    g->weights = *w;
}

/* ---- MatMul, Gemm ---- */

static const char *check_product(const ps_node *n) {
    for (uint32_t i = 0; i < 3 && i < n->n_in; i++) {
        if (n->in[i] && n->in[i]->dtype != PS_DTYPE_F32) return "not f32";
    }
    return n->out[0]->dtype == PS_DTYPE_F32 ? NULL : "not f32";
}

static ps_status lower_product(ps_device *device, ps_lowering *l, ocl_gemm *g, const ocl_panels *panels,
                               const ps_post *posts, int n_posts, const char *label, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *out = &n->out[0]->shape;
    ps_chain chain;
    ocl_kernel *k;
    ocl_weights weights;
    for (uint32_t i = 0; i < n->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    if (!ps_chain_init(&chain, n, posts, n_posts, out, PS_LAYOUT_PLAIN, l->in_layout, out, PS_LAYOUT_PLAIN, 1))
        return ocl_decline(l, "an operand does not broadcast plainly");
    ocl_chain_halves(&chain, l);
    g->a_half = l->in_half[0];
    g->b_half = l->in_half[1];
    g->c_half = l->out_half[0];
    if (panels) PS_TRY(ocl_sparse_take(device, l, 1, panels, g, &weights, err));
    PS_TRY(ocl_kernel_new(device, l, 2, label, &k, err));
    if (panels) ocl_gemm_set_weights(k, g, &weights);
    ocl_gemm_plan(k->device, g, true);
    ps_status status = ocl_tune(device, l, g, &chain, g->n, err);
    k->n = g->parts ? 2 : 1;
    k->base.workspace = ocl_gemm_workspace(g);
    if (status == PS_OK) status = ocl_gemm_launch(k, 0, g, &chain, g->n, err);
    return ocl_kernel_done(l, k, status);
}

/* The posts of the node, behind those that a bias or C needs. */
static int product_posts(const ps_node *n, bool bias, float alpha, ps_post *ret) {
    ps_post own[PS_MAX_POSTS];
    int at = 0;
    const int count = n->domain[0] ? (int)ps_node_posts(n, own) : 0;
    if (count + 2 > PS_MAX_POSTS) return -1;
    if (alpha != 1) ret[at++] = (ps_post) { PS_POST_LINEAR, -1, alpha, 0 };
    if (bias) ret[at++] = (ps_post) { PS_POST_ADD, 2, 0, 0 };
    for (int i = 0; i < count; i++)
        ret[at++] = own[i];
    return at;
}

ps_status ocl_lower_gemm(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_gemm_params *p = n->params;
    const ps_shape *a = &n->in[0]->shape, *b = &n->in[1]->shape, *out = &n->out[0]->shape;
    ps_post posts[PS_MAX_POSTS];
    l->why = check_product(n);
    if (l->why || !ocl_sizes_fit(l)) return PS_OK;
    if (ps_has_in(n, 2) && p->beta != 1.0f) return ocl_decline(l, "beta other than 1");
    if (n->op->since < 7 && ps_has_in(n, 2) && n->in[2]->shape.rank > 2) return PS_OK;
    const int n_posts = product_posts(n, ps_has_in(n, 2), p->alpha, posts);
    if (n_posts < 0) return ocl_decline(l, "too many post-operations");
    ocl_gemm g = { .a_mode = p->transA ? OCL_A_COLUMNS : OCL_A_ROWS,
                   .b_mode = p->transB ? OCL_B_COLUMNS : OCL_B_ROWS,
                   .m = out->dims[0],
                   .n = out->dims[1],
                   .k = a->dims[p->transA ? 0 : 1],
                   .lda = a->dims[1],
                   .ldb = b->dims[1],
                   .ldc = out->dims[1],
                   .outer = 1,
                   .inner = 1,
                   .a = { OCL_ARG_IN, { .index = 0 } },
                   .b = { OCL_ARG_IN, { .index = 1 } },
                   .c = { OCL_ARG_OUT, { .index = 0 } } };
    const ocl_panels panels = {
        .groups = 1, .k1_n = 1, .k2_n = g.k, .n = g.n, .k2 = p->transB ? 1 : g.ldb, .column = p->transB ? g.ldb : 1
    };
    return lower_product(device, l, &g, n->in[1]->constant ? &panels : NULL, posts, n_posts, "opencl.gemm", err);
}

/* ---- batches ---- */

typedef struct batch {
    int n;
    int64_t dims[PS_MAX_RANK], a[PS_MAX_RANK], b[PS_MAX_RANK], c[PS_MAX_RANK];
} batch;

static int64_t batch_step(const ps_shape *s, int axis_from_end, int64_t dense) {
    const int d = s->rank - axis_from_end;
    return d < 0 || s->dims[d] == 1 ? 0 : dense;
}

/* Leading dims from the innermost on, merged where all three operands allow. */
static void find_batch(const ps_shape *a, const ps_shape *b, const ps_shape *out, int64_t m, int64_t n, int64_t k,
                       batch *ret) {
    int64_t sa = m * k, sb = k * n, sc = m * n;
    memset(ret, 0, sizeof *ret);
    for (int d = out->rank - 3; d >= 0; d--) {
        const int from_end = out->rank - d;
        const int64_t ta = batch_step(a, from_end, sa), tb = batch_step(b, from_end, sb), dim = out->dims[d];
        const int at = ret->n;
        const int64_t all = at ? ret->dims[at - 1] : 0;
        if (a->rank >= from_end) sa *= a->dims[a->rank - from_end];
        if (b->rank >= from_end) sb *= b->dims[b->rank - from_end];
        const int64_t tc = sc;
        sc *= dim;
        if (dim == 1) continue;
        if (at && ta == ret->a[at - 1] * all && tb == ret->b[at - 1] * all && tc == ret->c[at - 1] * all) {
            ret->dims[at - 1] *= dim;
            continue;
        }
        ret->dims[at] = dim;
        ret->a[at] = ta;
        ret->b[at] = tb;
        ret->c[at] = tc;
        ret->n++;
    }
}

static void use_batch(const batch *b, ocl_gemm *g) {
    g->inner = b->n > 0 ? b->dims[0] : 1;
    g->outer = b->n > 1 ? b->dims[1] : 1;
    const int64_t step[8] = { b->a[1], b->a[0], b->b[1], b->b[0], b->c[1], b->c[0], 0, 0 };
    memcpy(g->step, step, sizeof g->step);
}

ps_status ocl_lower_matmul(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *a = &n->in[0]->shape, *b = &n->in[1]->shape;
    ps_post posts[PS_MAX_POSTS];
    batch batches;
    l->why = check_product(n);
    if (l->why || !ocl_sizes_fit(l)) return PS_OK;
    if (a->rank < 2 || b->rank < 2) return ocl_decline(l, "a vector as operand");
    const int n_posts = product_posts(n, n->domain[0] && ps_has_in(n, 2), 1, posts);
    if (n_posts < 0) return ocl_decline(l, "too many post-operations");
    ocl_gemm g = { .m = a->dims[a->rank - 2],
                   .k = a->dims[a->rank - 1],
                   .n = b->dims[b->rank - 1],
                   .outer = 1,
                   .inner = 1,
                   .a = { OCL_ARG_IN, { .index = 0 } },
                   .b = { OCL_ARG_IN, { .index = 1 } },
                   .c = { OCL_ARG_OUT, { .index = 0 } } };
    g.lda = g.k;
    g.ldb = g.ldc = g.n;
    const ocl_panels panels = { .groups = 1, .k1_n = 1, .k2_n = g.k, .n = g.n, .k2 = g.n, .column = 1 };
    if (b->rank == 2) {
        g.m = ps_shape_product(a, 0, a->rank - 1);
    } else {
        find_batch(a, b, &n->out[0]->shape, g.m, g.n, g.k, &batches);
        if (batches.n > 2) return ocl_decline(l, "batches broadcast over more than two dims");
        use_batch(&batches, &g);
    }
    const bool pack_it = b->rank == 2 && n->in[1]->constant;
    return lower_product(device, l, &g, pack_it ? &panels : NULL, posts, n_posts, "opencl.matmul", err);
}
