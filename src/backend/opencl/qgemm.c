/* qgemm.c - QLinearConv and QLinearMatMul: products of 8-bit codes with sums of 32 bits, by dot products of four codes.
 *
 * As in gemm.c a convolution is a product with the windows of an image, but the depth counts words of four codes.
 * Padding has the input's zero point. The zero point of the input becomes part of a bias, by the sums of the weights'
 * columns; bias, factor and summand of each column are the kernel's own table (the tail: kernels/qgemm.cl).
 *
 * Depthwise convolutions have a kernel of their own, in plain multiplications: a dot product would sum what does not
 * belong together. */
#include "backend/opencl/gemm.h"

#define MOST_K 32768  /* products of a sum: 2^29 in 32 bits, with room for zero points */
#define WORDS_UNIT 16 /* panels have a multiple of it as rows: the deepest tile */
#define MOST_PARTS 16
#define LEAST_DEPTH 32 /* words of a part */

typedef struct product {
    const ps_node *node;
    ocl_device *device;
    ps_dtype x, y; /* y: U8, I8 or F32 */
    bool conv, depthwise, windows, zeros, add, sum, second;
    ocl_linear in, out, other, sum_out;
    ps_code_range range, sum_range;
    const ps_tensor *w, *w_scale, *w_zero, *bias; /* the last two may be NULL */
    ps_window window[3];
    int64_t batch, channels, outputs, groups, taps;
    int64_t m, n, k;        /* of a group: rows, columns, codes of a column */
    int64_t words, columns; /* rows and columns of a group's panel */
    const int32_t *w_sums;  /* of the weights' columns */
    int zero;               /* the input's, of signed codes */
    ocl_gemm g;             /* its tile and parts */
} product;

static int64_t up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

/* ---- what it is ---- */

static bool is_code(ps_dtype t) {
    return t == PS_DTYPE_U8 || t == PS_DTYPE_I8;
}

/* One number, or one for each column. */
static bool is_list(const ps_tensor *t, ps_dtype type, int64_t columns) {
    return t && t->dtype == type && (ps_tensor_count(t) == 1 || (int64_t)ps_tensor_count(t) == columns);
}

static const ps_tensor *constant_at(const ps_node *n, size_t i) {
    return ps_has_in(n, i) ? n->in[i]->constant : NULL;
}

static const char *check_weights(const ps_node *n, product *p) {
    const int64_t columns = p->outputs;
    p->w_scale = constant_at(n, PS_Q_W_SCALE);
    p->w_zero = constant_at(n, PS_Q_W_ZERO);
    p->bias = constant_at(n, PS_Q_BIAS);
    if (!is_list(p->w_scale, PS_DTYPE_F32, columns)) return "scales of the weights that are no constants";
    if (ps_has_in(n, PS_Q_W_ZERO) && !is_list(p->w_zero, p->w->dtype, columns))
        return "zero points of the weights that are no constants";
    if (!ps_has_in(n, PS_Q_BIAS)) return NULL;
    if (!p->bias || (p->bias->dtype != PS_DTYPE_I32 && p->bias->dtype != PS_DTYPE_F32) ||
        (int64_t)ps_tensor_count(p->bias) != columns)
        return "a bias that is no constant";
    return NULL;
}

static const char *check(const ps_node *n, product *p) {
    p->node = n;
    p->x = n->in[PS_Q_X]->dtype;
    p->y = n->out[0]->dtype;
    p->w = n->in[PS_Q_W]->constant;
    if (!is_code(p->x) || (!is_code(p->y) && p->y != PS_DTYPE_F32)) return "codes other than of 8 bits";
    if (!p->w || !is_code(p->w->dtype)) return "weights made at run time";
    if (!ocl_linear_at(n, PS_Q_X_SCALE, &p->in)) return "a scale made at run time";
    p->out = (ocl_linear) { 1, 0 };
    if (ps_has_in(n, PS_Q_Y_SCALE) && !ocl_linear_at(n, PS_Q_Y_SCALE, &p->out)) return "a scale made at run time";
    p->range = p->sum_range = (ps_code_range) { PS_CODE_LOW, PS_CODE_HIGH };
    return NULL;
}

/* Weights whose zero points are all 0, seen as i8, want no sums of rows. */
static int zero_of_column(const product *p, int64_t c) {
    const int64_t i = p->w_zero && ps_tensor_count(p->w_zero) > 1 ? c : 0;
    if (p->w->dtype == PS_DTYPE_I8) return p->w_zero ? ((const int8_t *)p->w_zero->data)[i] : 0;
    return (p->w_zero ? ((const uint8_t *)p->w_zero->data)[i] : 0) - 128;
}

static void look_at_zeros(product *p) {
    p->zeros = false;
    for (int64_t c = 0; c < p->outputs && !p->zeros; c++)
        p->zeros = zero_of_column(p, c) != 0;
    p->zero = p->in.zero - (p->x == PS_DTYPE_U8 ? 128 : 0);
}

static const char *take_sum(const ps_node *n, product *p) {
    const ps_qconv_params *c = n->params;
    if (!ps_has_in(n, PS_Q_OTHER)) return NULL;
    p->sum = true;
    p->second = c->second != 0;
    p->sum_range = c->sum;
    if (!ocl_linear_at(n, PS_Q_OTHER_SCALE, &p->other) || !ocl_linear_at(n, PS_Q_SUM_SCALE, &p->sum_out))
        return "a scale made at run time";
    return NULL;
}

static const char *conv_of(const ps_node *n, product *p) {
    const ps_qconv_params *c = n->params;
    const ps_shape *x = &n->in[PS_Q_X]->shape, *w = &n->in[PS_Q_W]->shape;
    if (c->channels_last || x->rank < 3 || x->rank > 5) return "another layout, or more than three spatial dims";
    p->conv = true;
    p->batch = x->dims[0];
    p->channels = x->dims[1];
    p->outputs = w->dims[0];
    p->groups = c->conv.group;
    p->n = p->outputs / p->groups;
    p->k = ps_shape_product(w, 1, w->rank);
    if (p->k > MOST_K) return "sums too long for 32 bits";
    if (n->domain[0]) p->range = c->range;
    const char *why = check_weights(n, p);
    return why ? why : take_sum(n, p);
}

static const char *matrix_of(const ps_node *n, product *p) {
    const ps_shape *x = &n->in[PS_Q_X]->shape, *w = &n->in[PS_Q_W]->shape;
    if (x->rank < 2 || w->rank != 2) return "a vector, or weights of several matrices";
    p->batch = p->groups = p->taps = 1;
    p->channels = p->k = w->dims[0];
    p->outputs = p->n = w->dims[1];
    p->m = ps_shape_product(x, 0, x->rank - 1);
    if (p->k > MOST_K) return "sums too long for 32 bits";
    if (n->domain[0] && n->params) p->range = *(const ps_code_range *)n->params;
    return check_weights(n, p);
}

static bool is_pixelwise(const product *p) {
    for (int i = 0; i < 3; i++) {
        const ps_window *w = &p->window[i];
        if (w->kernel != 1 || w->stride != 1 || w->pad_begin || w->in != w->out) return false;
    }
    return true;
}

static ps_status take_windows(ps_lowering *l, product *p, bool *ret_ok, ps_error *err) {
    ps_window w[PS_MAX_SPATIAL];
    int count;
    PS_TRY(ps_qconv_windows(p->node, w, &count, err));
    *ret_ok = ocl_windows_take(l, w, count, p->window);
    if (!*ret_ok) return PS_OK;
    p->taps = p->window[0].kernel * p->window[1].kernel * p->window[2].kernel;
    p->m = p->batch * p->window[0].out * p->window[1].out * p->window[2].out;
    p->windows = !is_pixelwise(p);
    p->depthwise = p->groups > 1 && p->groups == p->channels && p->groups == p->outputs;
    return PS_OK;
}

/* ---- weights: words [group][k][column], behind them a word of ones for each k; depthwise codes [place][column] ----
 */

static int64_t group_channels(const product *p) {
    return p->channels / p->groups;
}

/* Words of a place of the window. */
static int64_t place_words(const product *p) {
    return (group_channels(p) + 3) / 4;
}

static void measure(product *p) {
    p->columns = up(p->n, 4);
    p->words = up(p->taps * place_words(p), WORDS_UNIT);
    if (p->depthwise) p->columns = up(p->outputs, 4);
}

static size_t panel_bytes(const product *p) {
    if (p->depthwise) return (size_t)(p->taps * p->columns);
    return (size_t)(p->words * (p->groups * p->columns + 1)) * 4;
}

/* As i8: place t of the window, channel c of the group. */
static int8_t weight_at(const product *p, int64_t column, int64_t t, int64_t c) {
    const int64_t at = p->conv ? (column * group_channels(p) + c) * p->taps + t : c * p->outputs + column;
    const uint8_t code = ((const uint8_t *)p->w->data)[at];
    return (int8_t)(p->w->dtype == PS_DTYPE_U8 ? code ^ 0x80 : code);
}

static void pack_column(const product *p, int64_t column, int8_t *to) {
    const int64_t g = column / p->n, words = place_words(p);
    for (int64_t t = 0; t < p->taps; t++) {
        for (int64_t c = 0; c < group_channels(p); c++) {
            const int64_t word = (g * p->words + t * words + c / 4) * p->columns + column % p->n;
            to[word * 4 + c % 4] = weight_at(p, column, t, c);
        }
    }
}

static void pack_ones(const product *p, int8_t *to) {
    for (int64_t t = 0; t < p->taps; t++)
        for (int64_t c = 0; c < group_channels(p); c++)
            to[(t * place_words(p) + c / 4) * 4 + c % 4] = 1;
}

static ps_status pack(void *ctx, void *dst, ps_error *err) {
    const product *p = ctx;
    (void)err;
    memset(dst, 0, panel_bytes(p));
    for (int64_t column = 0; column < p->outputs; column++) {
        if (!p->depthwise) {
            pack_column(p, column, dst);
            continue;
        }
        for (int64_t t = 0; t < p->taps; t++)
            ((int8_t *)dst)[t * p->columns + column] = weight_at(p, column, t, 0);
    }
    if (!p->depthwise) pack_ones(p, (int8_t *)dst + p->groups * p->columns * p->words * 4);
    return PS_OK;
}

static ps_status pack_sums(void *ctx, void *dst, ps_error *err) {
    const product *p = ctx;
    int32_t *sums = dst;
    (void)err;
    for (int64_t column = 0; column < p->outputs; column++) {
        int32_t sum = 0;
        for (int64_t t = 0; t < p->taps; t++)
            for (int64_t c = 0; c < group_channels(p); c++)
                sum += weight_at(p, column, t, c);
        sums[column] = sum;
    }
    return PS_OK;
}

/* The sums stay with the host, for the tails of later plans. */
static ps_status take_weights(ps_lowering *l, product *p, void **ret, ps_error *err) {
    const ps_packing packing = { .size = panel_bytes(p), .pack = pack, .ctx = p };
    const char *kind = p->depthwise ? "depthwise" : p->conv ? "windows" : "matrix";
    const void *sums;
    char key[96];
    ps_snprintf(key, sizeof key, "opencl.code sums %s", p->conv ? "windows" : "matrix");
    PS_TRY(ps_weights_get(l->weights, p->w, key, (size_t)p->outputs * sizeof(int32_t), pack_sums, p, &sums, err));
    p->w_sums = sums;
    ps_snprintf(key, sizeof key, "opencl.codes %s %lld", kind, (long long)p->groups);
    return ps_weights_take_on(l, &p->device->base, PS_Q_W, key, &packing, ret, err);
}

/* ---- the tail ---- */

typedef union number {
    cl_int i;
    cl_float f;
} number;

static void tail_numbers(const product *p, number *to) {
    if (p->y != PS_DTYPE_F32) {
        ocl_code_ends(p->y, p->range, &to[0].f, &to[1].f);
        to[0].f -= (float)p->out.zero;
        to[1].f -= (float)p->out.zero;
        to[2].f = (float)p->out.zero;
    }
    if (!p->sum) return;
    const ocl_linear *a = p->second ? &p->other : &p->out, *b = p->second ? &p->out : &p->other;
    const ocl_code_sum s = ocl_code_sum_of(*a, *b, p->sum_out, p->y, p->sum_range);
    const float numbers[] = { s.fa, s.fb, s.shift, s.low, s.high };
    for (int i = 0; i < 5; i++)
        to[3 + i].f = numbers[i];
    to[8].i = p->y == PS_DTYPE_I8 ? 0x80 : 0;
    to[9].i = p->second;
}

/* Of column c, at place `at` of `all`. The input's zero point leaves sums that wrap as integers do. */
static void tail_column(const product *p, int64_t c, int64_t at, int64_t all, number *to) {
    const float scale = ((const float *)p->w_scale->data)[ps_tensor_count(p->w_scale) > 1 ? c : 0];
    uint32_t bias = p->bias && p->bias->dtype == PS_DTYPE_I32 ? (uint32_t)((const int32_t *)p->bias->data)[c] : 0;
    const int zero = zero_of_column(p, c);
    if (!p->depthwise) {
        bias -= (uint32_t)p->zero * (uint32_t)p->w_sums[c];
        bias += (uint32_t)zero * (uint32_t)p->zero * (uint32_t)p->k;
    }
    to[at].i = (cl_int)bias;
    to[all + at].f = p->in.scale * scale / p->out.scale;
    if (p->add) to[2 * all + at].f = ((const float *)p->bias->data)[c] / p->out.scale;
    to[3 * all + at].i = zero;
}

static ps_status make_tail(ocl_kernel *k, const product *p, void **ret, ps_error *err) {
    const int64_t all = p->depthwise ? p->columns : p->groups * p->columns;
    const size_t bytes = (size_t)(16 + 4 * all) * sizeof(number);
    number *tail = ps_alloc_zero(k->base.alloc, bytes);
    if (!tail) return PS_FAIL_NOMEM(err, "a product's columns");
    tail_numbers(p, tail);
    for (int64_t c = 0; c < p->outputs; c++)
        tail_column(p, c, p->depthwise ? c : c / p->n * p->columns + c % p->n, all, tail + 16);
    const ps_status status = ocl_kernel_table(k, tail, bytes, ret, err);
    ps_free(k->base.alloc, tail);
    return status;
}

/* ---- taps ---- */

/* For each word depth * 4 + codes - 1, height, width and bytes from the window's begin; fours for one read. Words that
 * fill up lie outside of every image. */
static void fill_taps(const product *p, cl_int *tap) {
    const ps_window *w = p->window;
    const int64_t words = place_words(p), channels = group_channels(p);
    for (int64_t i = 0; i < p->words; i++, tap += 4) {
        const int64_t t = i / words, c = i % words * 4, left = channels - c < 4 ? channels - c : 4;
        const int64_t x = t % w[2].kernel * w[2].dilation, y = t / w[2].kernel % w[1].kernel * w[1].dilation;
        const int64_t z = t / w[2].kernel / w[1].kernel * w[0].dilation;
        const bool there = t < p->taps;
        tap[0] = there ? (cl_int)(z * 4 + left - 1) : INT32_MIN / 2;
        tap[1] = (cl_int)(there ? y : 0);
        tap[2] = (cl_int)(there ? x : 0);
        tap[3] = (cl_int)(there ? ((z * w[1].in + y) * w[2].in + x) * p->channels + c : 0);
    }
}

static ps_status make_taps(ocl_kernel *k, const product *p, void **ret, ps_error *err) {
    const size_t bytes = (size_t)p->words * 4 * sizeof(cl_int);
    cl_int *table = ps_alloc(k->base.alloc, bytes);
    if (!table) return PS_FAIL_NOMEM(err, "a convolution's table");
    fill_taps(p, table);
    const ps_status status = ocl_kernel_table(k, table, bytes, ret, err);
    ps_free(k->base.alloc, table);
    return status;
}

/* ---- the choice of a tile ----
 * By the cost of the same product in f32 with a quarter of the depth (gemm.c): a dot product takes as long as a
 * multiply-add, or on NVIDIA's cards twice as long, for all tiles alike. */

static const ocl_tile all_tiles[] = { { 64, 64, 8, false, 1, 8, 1 },
                                      { 32, 64, 8, false, 0.94, 4, 1 },
                                      { 64, 128, 16, false, 1, 8, 1 } };
#define OF_ALL 2 /* tiles; the last is for NVIDIA alone */

static bool parts_fit(const product *p, int64_t parts) {
    return p->groups == 1 && parts * LEAST_DEPTH <= p->words && p->m * p->columns <= INT32_MAX / 4 / parts;
}

static int64_t part_words(const product *p) {
    return p->g.parts ? up((p->words + p->g.parts - 1) / p->g.parts, p->g.tile.depth) : p->words;
}

static void try_tile(product *p, const ocl_tile *tile, double *best) {
    for (int64_t parts = 1; parts == 1 || (parts <= MOST_PARTS && parts_fit(p, parts)); parts++) {
        product try = *p;
        try.g.tile = *tile;
        try.g.parts = parts > 1 ? parts : 0;
        if (parts > 1) try.g.parts = (p->words + part_words(&try) - 1) / part_words(&try); /* none is empty */
        const double cost = ocl_gemm_cost(p->device, &try.g);
        if (cost >= *best) continue;
        *best = cost;
        p->g.tile = *tile;
        p->g.parts = try.g.parts > 1 ? try.g.parts : 0;
    }
}

static void plan(product *p) {
    const ocl_device *d = p->device;
    const size_t all = sizeof all_tiles / sizeof *all_tiles, n = d->family == OCL_NVIDIA ? all : OF_ALL;
    double best = 1e300;
    p->g = (ocl_gemm) { .m = p->m, .n = p->n, .k = p->words, .ldc = p->outputs, .outer = 1, .inner = p->groups };
    if (d->test_tile) {
        try_tile(p, &all_tiles[(size_t)(d->test_tile - 1) % all], &best);
        return;
    }
    for (size_t i = 0; i < n; i++)
        try_tile(p, &all_tiles[i], &best);
}

/* ---- launches ---- */

static void result_options(const product *p, const ps_lowering *l, char *buf, size_t size) {
    const bool wide = (p->depthwise ? p->outputs : p->n) % 4 == 0;
    ps_snprintf(buf, size, "-DZEROS=%d -DSUM=%d -DWIDE_C=%d -DCODES=%d%s", p->zeros, p->sum, wide, p->y != PS_DTYPE_F32,
                ocl_halves(false, l->out_half[0]));
}

static void tail_args(ocl_launch *launch, const product *p, void *tail) {
    ocl_arg_buffer(launch, tail);
    ocl_arg_int(launch, p->depthwise ? p->columns : p->groups * p->columns);
    if (p->sum) ocl_arg_in(launch, PS_Q_OTHER);
}

static void window_args(ocl_launch *launch, const product *p, int64_t last) {
    const ps_window *w = p->window;
    const int64_t image[8] = { w[0].in, w[1].in, w[2].in, p->channels, w[0].out, w[1].out, w[2].out };
    const int64_t window[8] = { w[0].stride,    w[1].stride,    w[2].stride, w[0].pad_begin,
                                w[1].pad_begin, w[2].pad_begin, last };
    ocl_arg_ints(launch, image, 8);
    ocl_arg_ints(launch, window, 8);
}

/* Bytes that rows of A, and the channels of a place, begin at multiples of and are a number of. */
static int unit_of(const product *p) {
    const int64_t all = p->channels | group_channels(p);
    return all % 16 == 0 ? 16 : all % 4 == 0 ? 4 : 1;
}

/* Words are read as bytes lie. */
static cl_int replicated(int zero) {
    const uint32_t word = (uint32_t)(uint8_t)zero * 0x01010101u;
    cl_int v;
    memcpy(&v, &word, sizeof v);
    return v;
}

static int64_t flip_of(const product *p) {
    return p->x == PS_DTYPE_U8 ? replicated(0x80) : 0;
}

static void sizes_arg(ocl_launch *launch, const product *p, int64_t parts) {
    ocl_arg_ints(launch, (int64_t[]) { p->m, p->n, p->words, p->channels, p->columns, p->outputs, parts, p->k }, 8);
}

static ps_status gemm_launch(ocl_kernel *k, const product *p, const char *result, void *weights, void *tail,
                             ps_error *err) {
    const ocl_tile *t = &p->g.tile;
    const int64_t items = t->m / t->rows * (t->n / 8), across = (p->n + t->n - 1) / t->n,
                  down = (p->m + t->m - 1) / t->m;
    void *taps = NULL;
    char options[384];
    ocl_launch *launch;
    ps_snprintf(options, sizeof options,
                "%s-DENTRY=0 -DDOT=%d -DWINDOWS=%d -DUNIT=%d -DBM=%d -DBN=%d -DBK=%d -DROWS=%d "
                "-DPARTS=%d -DUNROLL=%d %s",
                p->device->dot == OCL_DOT_EXTENSION ? "-cl-std=CL3.0 " : "", (int)p->device->dot - 1, p->windows,
                unit_of(p), t->m, t->n, t->depth, t->rows, p->g.parts > 0, p->device->gpu, result);
    if (p->windows) PS_TRY(make_taps(k, p, &taps, err));
    PS_TRY(ocl_launch_init(k, 0, "qgemm", options, "", "qgemm", &launch, err));
    ocl_arg_in(launch, PS_Q_X);
    ocl_arg_buffer(launch, weights);
    if (p->g.parts)
        ocl_arg_work(launch, 0);
    else
        ocl_arg_out(launch, 0);
    sizes_arg(launch, p, part_words(p));
    ocl_arg_int(launch, group_channels(p));
    ocl_arg_int(launch, flip_of(p));
    if (p->windows) {
        ocl_arg_buffer(launch, taps);
        window_args(launch, p, replicated(p->in.zero));
    }
    tail_args(launch, p, tail);
    ocl_launch_size(launch, across * items, down, p->g.parts ? p->g.parts : p->groups, (size_t)items, 1);
    return PS_OK;
}

static ps_status sum_launch(ocl_kernel *k, const product *p, const char *result, void *tail, ps_error *err) {
    char options[256];
    ocl_launch *launch;
    ps_snprintf(options, sizeof options, "-DENTRY=1 %s", result);
    PS_TRY(ocl_launch_init(k, 1, "qgemm", options, "", "qsum", &launch, err));
    ocl_arg_work(launch, 0);
    ocl_arg_out(launch, 0);
    sizes_arg(launch, p, p->g.parts);
    tail_args(launch, p, tail);
    ocl_launch_size(launch, p->m * p->columns / 4, 1, 1, 64, 1);
    return PS_OK;
}

static ps_status depthwise_launch(ocl_kernel *k, const product *p, const char *result, void *weights, void *tail,
                                  ps_error *err) {
    const ps_window *w = p->window;
    const int64_t each = p->outputs % 4 == 0 ? 4 : 1, n = p->m * p->outputs;
    const int64_t taps[8] = { w[0].kernel, w[1].kernel, w[2].kernel, w[0].dilation, w[1].dilation, w[2].dilation };
    char options[256];
    ocl_launch *launch;
    ps_snprintf(options, sizeof options, "-DENTRY=2 -DVEC=%d -DBIAS=0 %s", (int)each, result);
    PS_TRY(ocl_launch_init(k, 0, "qgemm", options, "", "qdepthwise", &launch, err));
    ocl_arg_in(launch, PS_Q_X);
    ocl_arg_buffer(launch, weights);
    ocl_arg_out(launch, 0);
    ocl_arg_int(launch, n);
    ocl_arg_int(launch, flip_of(p));
    window_args(launch, p, p->zero);
    ocl_arg_ints(launch, taps, 8);
    tail_args(launch, p, tail);
    ocl_launch_size(launch, n / each, 1, 1, 64, 1);
    return PS_OK;
}

static ps_status launches(ps_lowering *l, ocl_kernel *k, product *p, ps_error *err) {
    char result[160];
    void *weights, *tail;
    PS_TRY(take_weights(l, p, &weights, err));
    PS_TRY(make_tail(k, p, &tail, err));
    result_options(p, l, result, sizeof result);
    k->n = 1;
    if (p->depthwise) return depthwise_launch(k, p, result, weights, tail, err);
    plan(p);
    PS_TRY(gemm_launch(k, p, result, weights, tail, err));
    if (!p->g.parts) return PS_OK;
    k->n = 2;
    k->base.workspace = (size_t)(p->g.parts * p->m * p->columns) * sizeof(cl_int);
    return sum_launch(k, p, result, tail, err);
}

/* ---- lowering ---- */

/* Scales, zero points and bias are in the tail: the kernel does not read them. */
static void answer(ps_lowering *l, const product *p) {
    for (uint32_t i = 0; i < l->node->n_in; i++) {
        l->in_layout[i] = PS_LAYOUT_PLAIN;
        l->in_half[i] = false;
        if (i != PS_Q_X && i != PS_Q_W && i != PS_Q_OTHER) l->taken |= UINT64_C(1) << i;
    }
    if (!p->conv) return;
    l->in_layout[PS_Q_X] = l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    if (!p->sum) return;
    l->in_layout[PS_Q_OTHER] = PS_LAYOUT_CHANNELS_LAST;
    l->inplace = PS_Q_OTHER;
}

static ps_status finish(ps_device *device, ps_lowering *l, product *p, ps_error *err) {
    ocl_kernel *k;
    char label[64];
    const ps_tensor *lists[] = { p->w_scale, p->w_zero, p->bias };
    for (int i = 0; i < 3; i++)
        if (lists[i]) PS_TRY(ps_tensor_need(lists[i], err));
    p->device = ocl_of(device);
    p->add = p->bias && p->bias->dtype == PS_DTYPE_F32;
    look_at_zeros(p);
    measure(p);
    if (panel_bytes(p) / 4 > INT32_MAX) return ocl_decline(l, "weights of 2^31 words");
    answer(l, p);
    ps_snprintf(label, sizeof label, "opencl.int8 %s%s%s",
                p->depthwise ? "depthwise conv"
                : p->conv    ? "conv"
                             : "matmul",
                p->sum ? " add" : "", p->y == PS_DTYPE_F32 ? " to f32" : "");
    PS_TRY(ocl_kernel_new(device, l, 2, label, &k, err));
    return ocl_kernel_done(l, k, launches(l, k, p, err));
}

static ps_status lower(ps_device *device, ps_lowering *l, bool conv, ps_error *err) {
    product p = { .node = l->node };
    bool ok = true;
    if (!device->caps.int8) return ocl_decline(l, ocl_no_dot);
    l->why = check(l->node, &p);
    if (l->why || !ocl_sizes_fit(l)) return PS_OK;
    l->why = conv ? conv_of(l->node, &p) : matrix_of(l->node, &p);
    if (l->why) return PS_OK;
    if (conv) PS_TRY(take_windows(l, &p, &ok, err));
    return !ok ? PS_OK : finish(device, l, &p, err);
}

ps_status ocl_lower_qconv(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, true, err);
}

ps_status ocl_lower_qmatmul(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, false, err);
}
