/* sparse.c - constant weights of products in which whole blocks are zero: only the others are stored, and multiplied.
 *
 * A block is OCL_SPARSE_DEPTH rows of a strip of 64 or 32 columns, whichever costs less. What a weight holds decides
 * once and for all plans; that it is not sparse is remembered as well, for the host may have given its content up. */
#include "backend/opencl/sparse.h"

#include <math.h>

#define LEAST_ELEMENTS 16384 /* of a weight: less is a launch's time either way */
#define NARROW 32
#define WIDE 64
#define NARROW_SPEED 0.75 /* of a tile of 32 columns against 64 */
#define MOST_SHARE 0.4    /* of the elements that may be stored, as 64 columns wide: above, dense tiles are as fast */
#define TILE_ROWS 64
#define ITEMS 64
#define ENDS 16 /* what a tile's beginning and end cost, in rows */
#define MOST_PARTS 32
#define MOST_FEW 4 /* rows of A that sparse_rows.cl takes */
#define MOST_WAVES 4
#define BUSY 8 /* work-groups that a unit needs to hide the time that memory takes */

static int64_t divide_up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit;
}

/* ---- what a weight holds ---- */

/* As it is remembered, in host memory. */
typedef struct verdict {
    int64_t strip; /* 0: it is not sparse */
    int64_t stored;
    int64_t form;
} verdict;

typedef struct look {
    const ocl_panels *p;
    const ps_tensor *t;
    ps_alloc_state *alloc;
    const ocl_weights *w; /* of packing */
} look;

static bool is_zero(const look *j, int64_t k, int64_t c) {
    const int64_t at = k * j->p->k2 + c * j->p->column;
    if (j->t->narrow) return !(((const uint16_t *)j->t->narrow->data)[at] & 0x7fff);
    return !(((const uint32_t *)j->t->data)[at] & 0x7fffffff);
}

/* Most blocks of dense weights say no with their first element. */
static bool block_is_zero(const look *j, int64_t row, int64_t column, int64_t columns) {
    const int64_t last_k = row + OCL_SPARSE_DEPTH, last_c = column + columns;
    for (int64_t k = row; k < last_k && k < j->p->k2_n; k++)
        for (int64_t c = column; c < last_c && c < j->p->n; c++)
            if (!is_zero(j, k, c)) return false;
    return true;
}

/* A byte for each block of 32 columns, strip by strip: does it hold anything? */
static void fill_map(const look *j, uint8_t *map) {
    const int64_t depth = divide_up(j->p->k2_n, OCL_SPARSE_DEPTH), strips = divide_up(j->p->n, NARROW);
    for (int64_t s = 0; s < strips; s++)
        for (int64_t k = 0; k < depth; k++)
            map[s * depth + k] = !block_is_zero(j, k * OCL_SPARSE_DEPTH, s * NARROW, NARROW);
}

static void judge(const look *j, const uint8_t *map, verdict *v) {
    const int64_t depth = divide_up(j->p->k2_n, OCL_SPARSE_DEPTH), strips = divide_up(j->p->n, NARROW);
    int64_t narrow = 0, wide = 0;
    for (int64_t s = 0; s < strips; s++) {
        const uint8_t *mine = map + s * depth, *next = s + 1 < strips ? mine + depth : mine;
        for (int64_t k = 0; k < depth; k++) {
            narrow += mine[k];
            wide += s % 2 == 0 && (mine[k] || next[k]);
        }
    }
    const double of_narrow = (double)(narrow * NARROW) / NARROW_SPEED, of_wide = (double)(wide * WIDE);
    const double best = of_narrow < of_wide ? of_narrow : of_wide;
    if (best > MOST_SHARE * (double)(depth * strips * NARROW)) return;
    v->strip = of_narrow < of_wide ? NARROW : WIDE;
    v->stored = of_narrow < of_wide ? narrow : wide;
}

static ps_status make_verdict(void *ctx, void *dst, ps_error *err) {
    const look *j = ctx;
    verdict *v = dst;
    ps_dtype type;
    const int64_t blocks = divide_up(j->p->k2_n, OCL_SPARSE_DEPTH) * divide_up(j->p->n, NARROW);
    *v = (verdict) { 0, 0, OCL_FORM_F32 };
    uint8_t *map = ps_alloc(j->alloc, (size_t)blocks);
    if (!map) return PS_FAIL_NOMEM(err, "a map of a weight");
    fill_map(j, map);
    judge(j, map, v);
    ps_free(j->alloc, map);
    if (!v->strip) return PS_OK;
    PS_TRY(ps_weights_narrowest(j->t, &type, err));
    v->form = type == PS_DTYPE_F16 ? OCL_FORM_F16 : type == PS_DTYPE_BF16 ? OCL_FORM_BF16 : OCL_FORM_F32;
    return PS_OK;
}

static void name(char *key, size_t size, const char *kind, const ocl_panels *p) {
    ps_snprintf(key, size, "opencl.%s %lld %lld %lld %lld", kind, (long long)p->k2_n, (long long)p->n, (long long)p->k2,
                (long long)p->column);
}

/* ---- packing ---- */

static size_t element_bytes(ocl_form form) {
    return form == OCL_FORM_F32 ? sizeof(float) : sizeof(uint16_t);
}

static void pack_element(const look *j, int64_t from, void *to, int64_t at) {
    static const ps_dtype types[] = { PS_DTYPE_F32, PS_DTYPE_F16, PS_DTYPE_BF16 };
    if (j->w->form == OCL_FORM_F32)
        ((float *)to)[at] = ((const float *)j->t->data)[from];
    else if (j->t->narrow)
        ((uint16_t *)to)[at] = ((const uint16_t *)j->t->narrow->data)[from];
    else
        ps_convert((const float *)j->t->data + from, PS_DTYPE_F32, (uint16_t *)to + at, types[j->w->form], 1, true);
}

static void pack_block(const look *j, int64_t row, int64_t column, int64_t number, void *to) {
    const ocl_panels *p = j->p;
    for (int64_t k = row; k < row + OCL_SPARSE_DEPTH && k < p->k2_n; k++)
        for (int64_t c = column; c < column + j->w->strip && c < p->n; c++)
            pack_element(j, k * p->k2 + c * p->column, to,
                         (number * OCL_SPARSE_DEPTH + k - row) * j->w->strip + c - column);
}

static ps_status pack(void *ctx, void *dst, ps_error *err) {
    const look *j = ctx;
    const int64_t strips = divide_up(j->p->n, j->w->strip);
    cl_int *first = (cl_int *)(void *)((char *)dst + j->w->index_at), *rows = first + strips + 1;
    int64_t number = 0;
    memset(dst, 0, j->w->bytes);
    for (int64_t s = 0; s < strips; s++) {
        first[s] = (cl_int)number;
        for (int64_t row = 0; row < j->p->k2_n; row += OCL_SPARSE_DEPTH) {
            if (block_is_zero(j, row, s * j->w->strip, j->w->strip)) continue;
            PS_FAIL_IF(number == j->w->stored, err, INTERNAL, "a sparse weight has more blocks than were counted");
            rows[number] = (cl_int)row;
            pack_block(j, row, s * j->w->strip, number++, dst);
        }
    }
    first[strips] = (cl_int)number;
    return PS_OK;
}

/* No sum overflows: less than half of the elements of a tensor, and a number for each block. */
static void measure(const ocl_panels *p, const verdict *v, ocl_weights *w) {
    *w = (ocl_weights) {
        .form = (ocl_form)v->form, .rows = p->k2_n, .columns = p->n, .strip = (int)v->strip, .stored = v->stored
    };
    const size_t elements = (size_t)(v->stored * OCL_SPARSE_DEPTH * v->strip);
    w->index_at = (elements * element_bytes(w->form) + PS_ALIGN - 1) / PS_ALIGN * PS_ALIGN;
    w->bytes = w->index_at + (size_t)(divide_up(p->n, v->strip) + 1 + v->stored) * sizeof(cl_int);
}

/* ---- taking ---- */

static bool may_be(const ps_tensor *t, const ocl_panels *p, const ocl_gemm *g) {
    return g->a_mode == OCL_A_ROWS && g->outer * g->inner == 1 && g->ldc == g->n && p->groups == 1 && p->k1_n == 1 &&
           p->n >= NARROW && p->k2_n >= 2 * OCL_SPARSE_DEPTH && p->n * p->k2_n >= LEAST_ELEMENTS && !t->codes;
}

ps_status ocl_sparse_take(ps_device *device, ps_lowering *l, uint32_t index, const ocl_panels *p, const ocl_gemm *g,
                          ocl_weights *ret, ps_error *err) {
    char key[160], kind[48];
    const ps_tensor *t = l->node->in[index]->constant;
    look j = { p, t, l->alloc, ret };
    const void *known;
    if (!may_be(t, p, g)) return ocl_weights_take(device, l, index, p, ret, err);
    name(key, sizeof key, "sparse?", p);
    PS_TRY(ps_weights_get_narrow(l->weights, t, key, sizeof(verdict), make_verdict, &j, &known, err));
    const verdict v = *(const verdict *)known;
    if (!v.strip) return ocl_weights_take(device, l, index, p, ret, err);
    measure(p, &v, ret);
    ps_snprintf(kind, sizeof kind, "sparse %d %d", (int)v.form, (int)v.strip);
    name(key, sizeof key, kind, p);
    const ps_packing packing = { ret->bytes, pack, NULL, &j, true };
    return ps_weights_take_on(l, device, index, key, &packing, &ret->buffer, err);
}

/* ---- planning ---- */

static bool is_few(const ocl_gemm *g) {
    return g->m <= MOST_FEW;
}

static int waves(const ocl_device *d) {
    return d->most_items >= ITEMS * MOST_WAVES ? MOST_WAVES : 1;
}

/* Blocks of a strip, in the mean. */
static int64_t list_length(const ocl_gemm *g) {
    return divide_up(g->weights.stored, divide_up(g->n, g->weights.strip));
}

static bool can_share(const ocl_gemm *g, int64_t parts) {
    return parts <= MOST_PARTS && g->m * g->n <= INT32_MAX / parts;
}

static void share_few(const ocl_device *d, ocl_gemm *g) {
    int64_t parts = BUSY * d->units / divide_up(g->n, g->weights.strip);
    const int64_t most = list_length(g) / (2 * waves(d));
    if (parts > most) parts = most;
    if (parts > MOST_PARTS) parts = MOST_PARTS;
    g->parts = parts > 1 && can_share(g, parts) ? parts : 0;
}

static double cost(const ocl_device *d, const ocl_gemm *g, int64_t parts) {
    const double groups = (double)(divide_up(g->m, TILE_ROWS) * divide_up(g->n, g->weights.strip) * parts);
    const double rows = (double)(divide_up(list_length(g), parts) * OCL_SPARSE_DEPTH);
    const double macs = ocl_busy_items(d, groups, ITEMS) * g->weights.strip * (rows + ENDS);
    return macs + (parts > 1 ? ocl_traffic_cost(d, (double)((2 * parts + 1) * g->m * g->n)) : 0);
}

int ocl_sparse_plan(const ocl_device *d, ocl_gemm *g) {
    double best = INFINITY;
    g->parts = g->few_depth = 0;
    if (is_few(g)) {
        share_few(d, g);
        return g->parts ? 2 : 1;
    }
    for (int64_t parts = 1; can_share(g, parts) && (parts == 1 || parts <= list_length(g) / 2); parts++) {
        const double c = cost(d, g, parts);
        if (c >= best) continue;
        best = c;
        g->parts = parts > 1 ? parts : 0;
    }
    return g->parts ? 2 : 1;
}

/* ---- launches ---- */

static void args(ocl_launch *l, const ocl_gemm *g) {
    l->args[0] = g->a;
    l->args[1] = g->b;
    l->args[2] = g->c;
    l->n_args = 3;
    ocl_arg_buffer(l, g->weights.buffer);
    l->args[l->n_args - 1].at = g->weights.index_at;
    ocl_arg_ints(l, (int64_t[]) { g->m, g->n, g->k, g->lda, divide_up(g->n, g->weights.strip), g->parts }, 6);
    if (g->has_bias) ocl_arg_in(l, g->bias);
}

ps_status ocl_sparse_launch(ocl_kernel *k, int i, const ocl_gemm *g, const char *posts, const ps_chain *chain,
                            int64_t columns, ps_error *err) {
    char options[200];
    ocl_launch *l;
    const int few = is_few(g), rows = few ? (int)g->m : 8, n_waves = few ? waves(k->device) : 1;
    const char *program = few ? "sparse_rows" : "sparse";
    ps_snprintf(options, sizeof options,
                "-DFORM=%d -DBN=%d -DROWS=%d -DWAVES=%d -DBIAS=%d -DWIDE_A=%d -DWIDE_C=%d -DUNROLL=%d -DPARTS=%d%s",
                (int)g->weights.form, g->weights.strip, rows, n_waves, g->has_bias, g->lda % 4 == 0, g->n % 4 == 0,
                k->device->gpu, g->parts > 0, ocl_halves(g->a_half, g->c_half));
    PS_TRY(ocl_launch_init(k, i, program, options, posts, program, &l, err));
    args(l, g);
    ocl_post_args(l, chain, columns);
    ocl_launch_size(l, divide_up(g->n, g->weights.strip) * ITEMS, few ? n_waves : divide_up(g->m, TILE_ROWS),
                    g->parts ? g->parts : 1, ITEMS, (size_t)n_waves);
    return PS_OK;
}
