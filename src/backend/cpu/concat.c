/* concat.c - Concat in either layout: block copies along the axis in memory order. */
#include "backend/cpu/cpu_int.h"

typedef struct concat_kernel {
    ps_kernel base;
    uint32_t n;
    int64_t outer;
    int64_t blocks[PS_LOWER_MAX]; /* bytes of each input per outer item */
    int64_t block;                /* of the output */
} concat_kernel;

static ps_status concat_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const concat_kernel *k = (const concat_kernel *)kernel;
    char *out = args->out[0];
    for (int64_t o = 0; o < k->outer; o++) {
        for (uint32_t i = 0; i < k->n; i++) {
            if (!k->blocks[i]) continue;
            memcpy(out, (const char *)args->in[i] + o * k->blocks[i], (size_t)k->blocks[i]);
            out += k->blocks[i];
        }
    }
    return PS_OK;
}

/* Product of the dims that lie outside (before) the axis, and inside it, in memory order. */
static void split_at(const ps_shape *s, int axis, ps_layout layout, int64_t *ret_outer, int64_t *ret_inner) {
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < s->rank; i++) {
        if (i == axis) continue;
        bool outside = layout == PS_LAYOUT_PLAIN ? i < axis : axis == 1 || (i != 1 && i < axis);
        if (outside)
            outer *= s->dims[i];
        else
            inner *= s->dims[i];
    }
    *ret_outer = outer;
    *ret_inner = inner;
}

ps_status cpu_lower_concat(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { concat_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_shape *out = &n->out[0]->shape;
    size_t element = ps_dtype_size(n->out[0]->dtype);
    ps_layout layout = PS_LAYOUT_PLAIN;
    concat_kernel *k;
    int axis;
    if (!element || n->out[0]->dtype == PS_DTYPE_STRING) return PS_OK;
    if (!ps_axis_normalize(((const ps_axis_params *)n->params)->axis, out->rank, &axis)) return PS_OK;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (l->in_layout[i] == PS_LAYOUT_CHANNELS_LAST && !ps_layout_same(&n->in[i]->shape))
            layout = PS_LAYOUT_CHANNELS_LAST;
    }
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "cpu.concat", &k, err));
    k->n = n->n_in;
    for (uint32_t i = 0; i < n->n_in; i++) {
        int64_t inner;
        l->in_layout[i] = layout;
        split_at(&n->in[i]->shape, axis, layout, &k->outer, &inner);
        k->blocks[i] = n->in[i]->shape.dims[axis] * inner * (int64_t)element;
    }
    l->out_layout[0] = layout;
    l->kernel = &k->base;
    return PS_OK;
}
