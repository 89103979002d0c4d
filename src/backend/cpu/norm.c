/* norm.c - Softmax, LogSoftmax and LayerNormalization over the innermost axis, a row at a time. */
#include "backend/cpu/cpu_int.h"

typedef struct row_kernel {
    ps_kernel base;
    const ps_simd *simd;
    int64_t rows, row;
    int threads;
    bool log, has_beta;
    float epsilon;
} row_kernel;

typedef struct row_job {
    const row_kernel *k;
    const float *x, *gamma, *beta;
    float *y;
} row_job;

static int64_t grain(const row_kernel *k) {
    return 1 + 4096 / (k->row ? k->row : 1);
}

static void softmax_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const row_job *j = ctx;
    const row_kernel *k = j->k;
    for (int64_t r = begin; r < end; r++)
        k->simd->softmax_row(j->x + r * k->row, 1.0f, NULL, j->y + r * k->row, k->row, k->log);
}

static ps_status softmax_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const row_kernel *k = (const row_kernel *)kernel;
    row_job job = { k, args->in[0], NULL, NULL, args->out[0] };
    if (k->row) ps_parallel_for(k->rows, grain(k), k->threads, softmax_rows, &job);
    return PS_OK;
}

static void layernorm_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const row_job *j = ctx;
    const row_kernel *k = j->k;
    for (int64_t r = begin; r < end; r++) {
        k->simd->layernorm_row(j->x + r * k->row, j->gamma, j->beta, j->y + r * k->row, k->row, k->epsilon);
    }
}

static ps_status layernorm_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const row_kernel *k = (const row_kernel *)kernel;
    row_job job = { k, args->in[0], args->in[1], k->has_beta ? args->in[2] : NULL, args->out[0] };
    if (k->row) ps_parallel_for(k->rows, grain(k), k->threads, layernorm_rows, &job);
    return PS_OK;
}

static ps_status new_rows(ps_device *device, ps_lowering *l, const ps_kernel_ops *ops, const char *label, int axis,
                          row_kernel **ret, ps_error *err) {
    const ps_shape *s = &l->node->in[0]->shape;
    PS_TRY(ps_kernel_new(l->alloc, sizeof **ret, ops, label, ret, err));
    (*ret)->simd = cpu_of(device)->simd;
    (*ret)->rows = ps_shape_product(s, 0, axis);
    (*ret)->row = ps_shape_product(s, axis, s->rank);
    (*ret)->threads = l->threads;
    for (uint32_t i = 0; i < l->node->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    l->kernel = &(*ret)->base;
    return PS_OK;
}

ps_status cpu_lower_softmax(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { softmax_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_shape *s = &n->in[0]->shape;
    int axis;
    row_kernel *k;
    if (n->in[0]->dtype != PS_DTYPE_F32 || s->rank == 0) return PS_OK;
    if (!ps_axis_normalize(((const ps_axis_params *)n->params)->axis, s->rank, &axis)) return PS_OK;
    /* From 13 on the axis alone is normalised; before, everything from it on. */
    if (n->op->since >= 13 && ps_shape_product(s, axis + 1, s->rank) != 1) return PS_OK;
    PS_TRY(new_rows(device, l, &ops, "cpu.softmax", axis, &k, err));
    k->log = strcmp(n->op_type, "LogSoftmax") == 0;
    l->inplace = 0;
    return PS_OK;
}

ps_status cpu_lower_layernorm(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { layernorm_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_layernorm_params *p = n->params;
    const ps_shape *s = &n->in[0]->shape;
    int axis;
    row_kernel *k;
    if (n->in[0]->dtype != PS_DTYPE_F32 || ps_has_out(n, 1) || ps_has_out(n, 2)) return PS_OK;
    if (!ps_axis_normalize(p->axis, s->rank, &axis)) return PS_OK;
    for (uint32_t i = 1; i < n->n_in && i < 3; i++) {
        if (n->in[i] && !ps_shape_is_tail(&n->in[i]->shape, s, axis)) return PS_OK;
    }
    PS_TRY(new_rows(device, l, &ops, "cpu.layernorm", axis, &k, err));
    k->epsilon = p->epsilon;
    k->has_beta = ps_has_in(n, 2);
    l->inplace = 0;
    return PS_OK;
}
