/* gridsample.c - GridSample of pictures, nearest and linear, zeros and border padding, in plain layout.
 *
 * Where to read, and with what weights, is found once for a block of output positions and used for every channel.
 * Positions are computed in f64, as in the reference kernel: at the edge of a picture a rounding would decide between a
 * pixel and 0. */
#include <math.h>

#include "backend/cpu/cpu_int.h"

#define BLOCK 64

typedef struct grid_kernel {
    ps_kernel base;
    bool nearest, border, align;
    int64_t batch, channels, height, width, points;
    int threads;
} grid_kernel;

typedef struct grid_job {
    const grid_kernel *k;
    const float *x, *grid;
    float *y;
} grid_job;

/* Taps of a block: offsets into a plane (-1: outside, counts as 0), weights. */
typedef struct taps {
    int64_t at[4][BLOCK];
    float weight[4][BLOCK];
} taps;

static double position(const grid_kernel *k, float v, int64_t extent) {
    const double n = (double)extent;
    double x = k->align ? ((double)v + 1) / 2 * (n - 1) : (((double)v + 1) * n - 1) / 2;
    return k->border ? fmin(fmax(x, 0), n - 1) : x;
}

static bool inside(double at, int64_t extent) {
    return at >= 0 && at <= (double)(extent - 1); /* not NaN */
}

static void tap(const grid_kernel *k, taps *t, int which, int64_t i, double row, double column, double weight) {
    const bool in = inside(row, k->height) && inside(column, k->width);
    t->at[which][i] = in ? (int64_t)row * k->width + (int64_t)column : -1;
    t->weight[which][i] = (float)weight;
}

static void find_taps(const grid_kernel *k, const float *grid, int64_t n, taps *t) {
    for (int64_t i = 0; i < n; i++) {
        const double column = position(k, grid[2 * i], k->width), row = position(k, grid[2 * i + 1], k->height);
        if (k->nearest) {
            tap(k, t, 0, i, nearbyint(row), nearbyint(column), 1);
            continue;
        }
        const double r = floor(row), c = floor(column), down = row - r, right = column - c;
        tap(k, t, 0, i, r, c, (1 - down) * (1 - right));
        tap(k, t, 1, i, r, c + 1, (1 - down) * right);
        tap(k, t, 2, i, r + 1, c, down * (1 - right));
        tap(k, t, 3, i, r + 1, c + 1, down * right);
    }
}

static float read(const float *plane, const taps *t, int which, int64_t i) {
    return t->at[which][i] >= 0 ? t->weight[which][i] * plane[t->at[which][i]] : 0;
}

static void grid_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const grid_job *j = ctx;
    const grid_kernel *k = j->k;
    const int64_t blocks = (k->points + BLOCK - 1) / BLOCK, plane = k->height * k->width;
    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / blocks, first = item % blocks * BLOCK;
        const int64_t n = k->points - first < BLOCK ? k->points - first : BLOCK;
        taps t;
        find_taps(k, j->grid + (b * k->points + first) * 2, n, &t);
        for (int64_t c = 0; c < k->channels; c++) {
            const float *x = j->x + (b * k->channels + c) * plane;
            float *y = j->y + (b * k->channels + c) * k->points + first;
            if (k->nearest) {
                for (int64_t i = 0; i < n; i++)
                    y[i] = read(x, &t, 0, i);
            } else {
                for (int64_t i = 0; i < n; i++)
                    y[i] = (read(x, &t, 0, i) + read(x, &t, 1, i)) + (read(x, &t, 2, i) + read(x, &t, 3, i));
            }
        }
    }
}

static ps_status grid_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const grid_kernel *k = (const grid_kernel *)kernel;
    grid_job job = { k, args->in[0], args->in[1], args->out[0] };
    ps_parallel_for(k->batch * ((k->points + BLOCK - 1) / BLOCK), 1 + 64 / k->channels, k->threads, grid_items, &job);
    return PS_OK;
}

ps_status cpu_lower_gridsample(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { grid_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_grid_params *p = n->params;
    const ps_shape *x = &n->in[0]->shape, *grid = &n->in[1]->shape;
    const bool nearest = strcmp(p->mode, "nearest") == 0, border = strcmp(p->padding_mode, "border") == 0;
    grid_kernel *k;
    if (n->in[0]->dtype != PS_DTYPE_F32 || n->in[1]->dtype != PS_DTYPE_F32 || x->rank != 4) return PS_OK;
    if (!nearest && strcmp(p->mode, "linear") != 0 && strcmp(p->mode, "bilinear") != 0) return PS_OK;
    if (!border && strcmp(p->padding_mode, "zeros") != 0) return PS_OK;
    if (ps_shape_product(x, 0, 4) == 0 || ps_shape_product(grid, 0, 4) == 0) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, nearest ? "cpu.gridsample nearest" : "cpu.gridsample linear", &k,
                         err));
    k->nearest = nearest;
    k->border = border;
    k->align = p->align_corners != 0;
    k->batch = x->dims[0];
    k->channels = x->dims[1];
    k->height = x->dims[2];
    k->width = x->dims[3];
    k->points = grid->dims[1] * grid->dims[2];
    k->threads = l->threads;
    l->in_layout[0] = l->in_layout[1] = PS_LAYOUT_PLAIN;
    l->kernel = &k->base;
    return PS_OK;
}
