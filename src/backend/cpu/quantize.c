/* quantize.c - QuantizeLinear and DequantizeLinear of 8-bit codes with one scale, as stand around every operator of a
 * QDQ model.
 *
 * Arithmetic is that of the reference kernel: the division rounds in f32, then to even, and saturates; NaN becomes the
 * lower end. */
#include "backend/cpu/cpu_int.h"
#include "ops/quant.h"

typedef struct linear_kernel {
    ps_kernel base;
    const ps_q8 *q;
    bool quantize, is_signed, has_zero;
    int64_t n;
    int threads;
} linear_kernel;

typedef struct linear_job {
    const linear_kernel *k;
    const void *x;
    void *y;
    float scale, zero, low, high; /* low, high: of a code without the zero point */
} linear_job;

static void linear_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const linear_job *j = ctx;
    const ps_q8 *q = j->k->q;
    (void)thread;
    if (j->k->quantize)
        q->quantize((const float *)j->x + begin, (uint8_t *)j->y + begin, end - begin, j->scale, j->low, j->high,
                    (int32_t)j->zero);
    else
        q->dequantize((const uint8_t *)j->x + begin, (float *)j->y + begin, end - begin, j->scale, j->zero,
                      j->k->is_signed);
}

static ps_status linear_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const linear_kernel *k = (const linear_kernel *)kernel;
    linear_job job = { k, args->in[0], args->out[0], *(const float *)args->in[1], 0, 0, 0 };
    if (k->has_zero)
        job.zero = k->is_signed ? (float)*(const int8_t *)args->in[2] : (float)*(const uint8_t *)args->in[2];
    job.low = (k->is_signed ? -128 : 0) - job.zero;
    job.high = (k->is_signed ? 127 : 255) - job.zero;
    ps_parallel_for(k->n, 8192, k->threads, linear_range, &job);
    return PS_OK;
}

static bool one_number(const ps_value *v) {
    return ps_shape_product(&v->shape, 0, v->shape.rank) == 1;
}

static ps_status lower(ps_device *device, ps_lowering *l, bool quantize, ps_error *err) {
    static const ps_kernel_ops ops = { linear_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_value *real = quantize ? n->in[0] : n->out[0], *code = quantize ? n->out[0] : n->in[0];
    linear_kernel *k;
    if (real->dtype != PS_DTYPE_F32 || n->in[1]->dtype != PS_DTYPE_F32 || !one_number(n->in[1])) return PS_OK;
    if (code->dtype != PS_DTYPE_U8 && code->dtype != PS_DTYPE_I8) return PS_OK;
    if (ps_has_in(n, 2) && (n->in[2]->dtype != code->dtype || !one_number(n->in[2]))) return PS_OK;
    if (ps_node_attr(n, "precision")) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, quantize ? "cpu.quantize" : "cpu.dequantize", &k, err));
    k->q = cpu_of(device)->q8;
    k->quantize = quantize;
    k->is_signed = code->dtype == PS_DTYPE_I8;
    k->has_zero = ps_has_in(n, 2);
    k->n = ps_shape_product(&n->in[0]->shape, 0, n->in[0]->shape.rank);
    k->threads = l->threads;
    for (uint32_t i = 1; i < n->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    l->out_layout[0] = l->in_layout[0];
    l->kernel = &k->base;
    return PS_OK;
}

/* ---- DynamicQuantizeLinear ---- */

typedef struct dynamic_kernel {
    ps_kernel base;
    linear_kernel linear;
} dynamic_kernel;

/* Scale and zero point as the reference kernel finds them: the range of the data, and 0 in it. */
static ps_status dynamic_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const linear_kernel *k = &((const dynamic_kernel *)kernel)->linear;
    float *scale = args->out[1];
    uint8_t *zero = args->out[2];
    ps_dynamic_params(args->in[0], k->n, scale, zero);
    linear_job job = { k, args->in[0], args->out[0], *scale, (float)*zero, 0 - (float)*zero, 255 - (float)*zero };
    ps_parallel_for(k->n, 8192, k->threads, linear_range, &job);
    return PS_OK;
}

ps_status cpu_lower_dynamic_quantize(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { dynamic_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    dynamic_kernel *k;
    if (n->in[0]->dtype != PS_DTYPE_F32 || !ps_has_out(n, 0) || !ps_has_out(n, 1) || !ps_has_out(n, 2)) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "cpu.dynamicquantize", &k, err));
    k->linear.q = cpu_of(device)->q8;
    k->linear.quantize = true;
    k->linear.n = ps_shape_product(&n->in[0]->shape, 0, n->in[0]->shape.rank);
    k->linear.threads = l->threads;
    l->out_layout[0] = l->in_layout[0];
    l->kernel = &k->base;
    return PS_OK;
}

ps_status cpu_lower_quantize(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, true, err);
}

ps_status cpu_lower_dequantize(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, false, err);
}
