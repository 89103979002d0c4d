/* cast.c - Cast between number types, split over threads; to f32 from the types that models are full of, in vector
 * loops. */
#include "backend/cpu/cpu_int.h"
#include "tensor/convert.h"

typedef struct cast_kernel {
    ps_kernel base;
    ps_dtype from, to;
    bool saturate;
    int threads;
    int64_t n;
} cast_kernel;

typedef struct cast_job {
    const cast_kernel *k;
    const char *x;
    char *y;
} cast_job;

#define TO_F32(type)                                                                                                   \
    do {                                                                                                               \
        const type *s = (const type *)x;                                                                               \
        float *d = (float *)y;                                                                                         \
        for (int64_t i = 0; i < n; i++)                                                                                \
            d[i] = (float)s[i];                                                                                        \
    } while (0)

static void cast_row(const cast_kernel *k, const char *x, char *y, int64_t n) {
    if (k->to == PS_DTYPE_F32) {
        switch (k->from) {
        case PS_DTYPE_BOOL: /* stored as 0 or 1 */
        case PS_DTYPE_U8: TO_F32(uint8_t); return;
        case PS_DTYPE_I32: TO_F32(int32_t); return;
        case PS_DTYPE_I64: TO_F32(int64_t); return;
        case PS_DTYPE_F16: ps_f16_to_f32_row((const uint16_t *)x, (float *)y, (size_t)n); return;
        default: break;
        }
    }
    ps_convert(x, k->from, y, k->to, (size_t)n, k->saturate);
}

static void cast_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const cast_job *j = ctx;
    size_t from = ps_dtype_size(j->k->from), to = ps_dtype_size(j->k->to);
    cast_row(j->k, j->x + (size_t)begin * from, j->y + (size_t)begin * to, end - begin);
}

static ps_status cast_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const cast_kernel *k = (const cast_kernel *)kernel;
    cast_job job = { k, args->in[0], args->out[0] };
    if (k->n) ps_parallel_for(k->n, 16384, k->threads, cast_range, &job);
    return PS_OK;
}

static bool castable(ps_dtype t) {
    return t == PS_DTYPE_BOOL || ps_dtype_is_float(t) || ps_dtype_is_int(t);
}

ps_status cpu_lower_cast(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { cast_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    cast_kernel *k;
    if (!castable(n->in[0]->dtype) || !castable(n->out[0]->dtype)) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "cpu.cast", &k, err));
    k->from = n->in[0]->dtype;
    k->to = n->out[0]->dtype;
    k->saturate = ((const ps_cast_params *)n->params)->saturate != 0;
    k->threads = l->threads;
    k->n = ps_shape_product(&n->in[0]->shape, 0, n->in[0]->shape.rank);
    l->out_layout[0] = l->in_layout[0];
    l->kernel = &k->base;
    return PS_OK;
}
