/* qmatmul.c - QLinearMatMul of two matrices that are made at run time, or of batches: one product after the other, each
 * with its right side packed for it. */
#include "backend/cpu/qproduct.h"

typedef struct batched_kernel {
    ps_kernel base;
    const ps_q8 *q;
    q_params params;
    int rank, threads;                                         /* rank: of the batch */
    int64_t dims[PS_MAX_RANK], a[PS_MAX_RANK], b[PS_MAX_RANK]; /* of the batch; a, b: steps in matrices */
    int64_t batch, m, k, n, groups, panels;
    bool direct;
    size_t row_bytes, thread_bytes;
} batched_kernel;

typedef struct batched_job {
    const batched_kernel *k;
    const q_run *run;
    const uint8_t *a, *b;
    char *y, *workspace;
    ps_q8_tail tail;
} batched_job;

/* What a thread has to itself, in order. */
typedef struct room {
    int8_t *panels;
    int32_t *sums, *bias, *zero, *row_sums; /* by column, by row */
    float *scale, *add;
    char *rows;
} room;

static size_t aligned(size_t n) {
    return (n + 63) / 64 * 64;
}

/* at NULL: the size only. */
static size_t make_room(const batched_kernel *k, char *at, room *ret) {
    const size_t columns = aligned((size_t)(k->panels * k->q->width) * 4);
    const size_t panels = aligned((size_t)(k->panels * k->q->width * k->groups * k->q->group));
    const size_t sums = aligned((size_t)k->m * 4), rows = panels + 5 * columns + sums;
    if (at) {
        *ret = (room) { .panels = (int8_t *)at,
                        .sums = (int32_t *)(at + panels),
                        .bias = (int32_t *)(at + panels + columns),
                        .zero = (int32_t *)(at + panels + 2 * columns),
                        .scale = (float *)(at + panels + 3 * columns),
                        .add = (float *)(at + panels + 4 * columns),
                        .row_sums = (int32_t *)(at + panels + 5 * columns),
                        .rows = at + rows };
    }
    return rows + (k->direct ? 0 : aligned((size_t)k->m * k->row_bytes));
}

/* As for constant weights (qproduct.c), with this matrix's sums. */
static void make_columns(const batched_job *j, const room *r) {
    const batched_kernel *k = j->k;
    const q_run *run = j->run;
    const int64_t columns = k->panels * k->q->width;
    for (int64_t c = 0; c < columns; c++) {
        const int64_t at = c < k->n ? c : k->n - 1;
        uint32_t b = run->bias ? (uint32_t)run->bias[at] : 0;
        r->zero[c] = q_column_zero(&k->params, run, at);
        if (k->q->element == 1) {
            b -= (uint32_t)run->x_zero * (uint32_t)r->sums[c];
            b += (uint32_t)r->zero[c] * (uint32_t)(k->k * run->x_zero);
        }
        r->bias[c] = (int32_t)b;
        r->scale[c] = run->x_scale * run->w_scale[k->params.many_scales ? at : 0] / run->y_scale;
        r->add[c] = run->bias_f32 ? run->bias_f32[at] / run->y_scale : 0;
    }
}

static const char *left_side(const batched_job *j, const uint8_t *a, const room *r) {
    const batched_kernel *k = j->k;
    const char *rows = k->direct ? (const char *)a : r->rows;
    const uint8_t flip = k->params.x == PS_DTYPE_I8 ? 0x80 : 0;
    for (int64_t i = 0; i < k->m; i++) {
        char *to = r->rows + (size_t)i * k->row_bytes;
        const size_t used = (size_t)(k->k * k->q->element);
        if (!k->direct) {
            k->q->load(a + i * k->k, to, k->k, flip, j->run->x_zero);
            memset(to + used, 0, k->row_bytes - used);
        }
        r->row_sums[i] = k->q->row_sum(rows + (size_t)i * k->row_bytes, k->k);
    }
    return rows;
}

static void run_matrices(void *ctx, int64_t begin, int64_t end, int thread) {
    const batched_job *j = ctx;
    const batched_kernel *k = j->k;
    const int64_t width = k->q->width, size = k->params.y == PS_DTYPE_F32 ? 4 : 1;
    room r = { .panels = NULL };
    (void)make_room(k, j->workspace + (size_t)thread * k->thread_bytes, &r);
    for (int64_t item = begin; item < end; item++) {
        int64_t a = 0, b = 0, rest = item;
        for (int d = k->rank - 1; d >= 0; d--) {
            a += rest % k->dims[d] * k->a[d];
            b += rest % k->dims[d] * k->b[d];
            rest /= k->dims[d];
        }
        const uint8_t *right = j->b + b * k->k * k->n;
        for (int64_t p = 0; p < k->panels; p++) {
            const int64_t n = k->n - p * width < width ? k->n - p * width : width;
            k->q->pack(right + p * width, k->n, k->k, n, k->params.w == PS_DTYPE_U8 ? 0x80 : 0,
                       r.panels + p * width * k->groups * k->q->group, r.sums + p * width);
        }
        make_columns(j, &r);
        const char *rows = left_side(j, j->a + a * k->m * k->k, &r);
        for (int64_t p = 0; p < k->panels; p++) {
            ps_q8_tail t = j->tail;
            t.bias = r.bias + p * width;
            t.scale = r.scale + p * width;
            t.add = j->run->bias_f32 ? r.add + p * width : NULL;
            t.zero = r.zero + p * width;
            t.row_sums = r.row_sums;
            k->q->panel(rows, (int64_t)k->row_bytes, r.panels + p * width * k->groups * k->q->group, k->groups, k->m,
                        k->n - p * width < width ? k->n - p * width : width, &t,
                        j->y + (item * k->m * k->n + p * width) * size, k->n);
        }
    }
}

static ps_status batched_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const batched_kernel *k = (const batched_kernel *)kernel;
    const q_run run = q_run_of(&k->params, args->in);
    batched_job job = {
        k, &run, args->in[PS_Q_X], args->in[PS_Q_W], args->out[0], args->workspace, q_tail_of(&k->params, &run)
    };
    (void)err;
    ps_parallel_for(k->batch, 1 + 65536 / (k->m * k->n * k->k), k->threads, run_matrices, &job);
    return PS_OK;
}

/* Steps over the batch dims, 0 where a matrix serves several. */
static void lay_out(batched_kernel *k, const ps_shape *a, const ps_shape *b, const ps_shape *y) {
    int64_t step_a = 1, step_b = 1;
    k->rank = y->rank - 2;
    k->batch = 1;
    for (int d = k->rank - 1; d >= 0; d--) {
        const int from_a = d - (y->rank - a->rank), from_b = d - (y->rank - b->rank);
        const int64_t of_a = from_a < 0 ? 1 : a->dims[from_a], of_b = from_b < 0 ? 1 : b->dims[from_b];
        k->dims[d] = y->dims[d];
        k->a[d] = of_a == 1 ? 0 : step_a;
        k->b[d] = of_b == 1 ? 0 : step_b;
        step_a *= of_a;
        step_b *= of_b;
        k->batch *= y->dims[d];
    }
}

enum { MAX_K = 32768 };

ps_status cpu_lower_qmatmul_batched(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { batched_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_shape *a = &n->in[PS_Q_X]->shape, *b = &n->in[PS_Q_W]->shape, *y = &n->out[0]->shape;
    q_params p;
    batched_kernel *k;
    if (!q_params_of(n, &p) || a->rank < 2 || b->rank < 2 || a->dims[a->rank - 1] > MAX_K) return PS_OK;
    if (!ps_shape_product(a, 0, a->rank) || !ps_shape_product(b, 0, b->rank) || !ps_shape_product(y, 0, y->rank))
        return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "", &k, err));
    k->q = cpu_of(device)->q8;
    k->params = p;
    k->threads = l->threads;
    k->m = a->dims[a->rank - 2];
    k->k = a->dims[a->rank - 1];
    k->n = b->dims[b->rank - 1];
    k->groups = (k->k + k->q->group - 1) / k->q->group;
    k->panels = (k->n + k->q->width - 1) / k->q->width;
    k->row_bytes = (size_t)(k->groups * k->q->group * k->q->element);
    k->direct = k->q->element == 1 && p.x == PS_DTYPE_U8 && k->k % k->q->group == 0;
    lay_out(k, a, b, y);
    k->thread_bytes = make_room(k, NULL, NULL);
    k->base.workspace = (size_t)k->threads * k->thread_bytes;
    for (uint32_t i = 0; i < n->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    ps_snprintf(k->base.label, sizeof k->base.label, "cpu.int8 %s matmul batched%s", k->q->name,
                p.y == PS_DTYPE_F32 ? " to f32" : "");
    l->kernel = &k->base;
    return PS_OK;
}
