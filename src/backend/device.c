/* device.c - what all devices share: layouts, the walk over implementation lists, kernels as objects. */
#include "backend/backend.h"

bool ps_layout_same(const ps_shape *s) {
    if (s->rank < 3) return true;
    return s->dims[1] <= 1 || ps_shape_product(s, 2, s->rank) <= 1 || ps_shape_product(s, 0, s->rank) == 0;
}

void ps_layout_strides(const ps_shape *s, ps_layout layout, int64_t strides[PS_MAX_RANK]) {
    if (layout == PS_LAYOUT_PLAIN || s->rank < 3) {
        ps_shape_strides(s, strides);
        return;
    }
    int64_t step = s->dims[1];
    strides[1] = 1;
    for (int i = s->rank - 1; i >= 2; i--) {
        strides[i] = step;
        step *= s->dims[i];
    }
    strides[0] = step;
}

void ps_layout_axes(int rank, ps_layout layout, int ret[PS_MAX_RANK]) {
    const bool last = layout == PS_LAYOUT_CHANNELS_LAST && rank >= 3;
    int n = 0;
    for (int i = 0; i < rank; i++)
        if (i != 1 || !last) ret[n++] = i;
    if (last) ret[n] = 1;
}

bool ps_reduce_axes(const ps_node *n, uint32_t *ret) {
    const ps_reduce_params *p = n->params;
    int64_t axes[PS_MAX_RANK];
    size_t count = p->axes.n;
    int rank = n->in[0]->shape.rank, axis;
    if (count > PS_MAX_RANK) return false;
    for (size_t i = 0; i < count; i++)
        axes[i] = p->axes.data[i];
    if (ps_has_in(n, 1) && !ps_const_ints(n, 1, axes, PS_MAX_RANK, &count)) return false;
    if (count == 0 && p->noop_with_empty_axes) return false;
    *ret = count ? 0 : (1u << rank) - 1;
    for (size_t i = 0; i < count; i++) {
        if (!ps_axis_normalize(axes[i], rank, &axis)) return false;
        *ret |= 1u << axis;
    }
    return true;
}

ps_status ps_devices_create(ps_alloc_state *alloc, ps_device **ret, size_t max, size_t *ret_n, ps_error *err) {
    *ret_n = 0;
    PS_FAIL_IF(max < 2, err, INTERNAL, "room for %zu devices is too little", max);
    PS_TRY(ps_device_new_cpu(alloc, &ret[0], err));
    *ret_n = 1;
    PS_TRY(ps_device_new_ref(alloc, &ret[1], err));
    *ret_n = 2;
    return PS_OK;
}

#ifndef PS_WITH_OPENCL
const ps_caps ps_devices_found_caps = { 0 };

void ps_devices_prepare(void) {}

ps_status ps_devices_discover(ps_alloc_state *alloc, ps_cache *cache, ps_device **ret, size_t max, size_t *ret_n,
                              ps_str *advice, ps_error *err) {
    ps_str_append(advice, "this build has no OpenCL (PS_WITH_OPENCL=OFF)\n");
    return PS_OK;
}

const ps_impl *ps_opencl_operators(size_t *ret_n) {
    *ret_n = 0;
    return NULL;
}
#endif

void ps_device_free(ps_device *device) {
    if (device) device->ops->free(device);
}

static bool matches(const ps_impl *impl, const ps_node *node) {
    return strcmp(impl->op, node->op_type) == 0 && strcmp(impl->domain, node->domain) == 0;
}

ps_halves ps_list_halves(const ps_impl *impls, size_t n, const ps_node *node) {
    for (size_t i = 0; i < n; i++)
        if (matches(&impls[i], node)) return impls[i].halves;
    return PS_HALVES_NONE;
}

/* The part of a question that lower functions change while they look for an answer. */
typedef struct question {
    ps_layout in_layout[PS_LOWER_MAX];
    bool in_half[PS_LOWER_MAX], out_half[PS_LOWER_MAX];
} question;

static void remember(question *q, const ps_lowering *l) {
    memcpy(q->in_layout, l->in_layout, sizeof q->in_layout);
    memcpy(q->in_half, l->in_half, sizeof q->in_half);
    memcpy(q->out_half, l->out_half, sizeof q->out_half);
}

static void ask_again(ps_lowering *l, const question *q, ps_halves halves) {
    memcpy(l->in_layout, q->in_layout, sizeof q->in_layout);
    memset(l->in_half, 0, sizeof l->in_half);
    memset(l->out_half, 0, sizeof l->out_half);
    if (halves & PS_HALVES_READ) memcpy(l->in_half, q->in_half, sizeof q->in_half);
    if (halves & PS_HALVES_WRITE) memcpy(l->out_half, q->out_half, sizeof q->out_half);
}

static void drop_if_refused(const ps_device *device, ps_lowering *l) {
    const char *why = l->kernel && device->ops->refuses ? device->ops->refuses(l->kernel) : NULL;
    if (!why) return;
    ps_kernel_free(l->kernel);
    l->kernel = NULL;
    l->why = why;
}

ps_status ps_lower_list(ps_device *device, const ps_impl *impls, size_t n, ps_lowering *l, ps_error *err) {
    question asked;
    remember(&asked, l);
    for (size_t i = 0; i < n; i++) {
        if (!matches(&impls[i], l->node)) continue;
        ask_again(l, &asked, impls[i].halves);
        memset(l->out_layout, 0, sizeof l->out_layout);
        l->inplace = -1;
        l->taken = 0;
        PS_TRY(impls[i].lower(device, l, err));
        drop_if_refused(device, l);
        if (l->kernel) l->kernel->taken = l->taken;
        if (l->kernel || l->alias) return PS_OK;
    }
    ask_again(l, &asked, PS_HALVES_NONE);
    memset(l->out_layout, 0, sizeof l->out_layout);
    return PS_OK;
}

ps_status ps_lower_with(ps_device *device, const ps_impl *impls, size_t n, ps_lowering *l, ps_error *err) {
    PS_TRY(ps_lower_list(device, impls, n, l, err));
    return l->kernel || l->alias ? PS_OK : ps_lower_ref(device, l, err);
}

ps_status ps_kernel_new(ps_alloc_state *alloc, size_t size, const ps_kernel_ops *ops, const char *label, void *ret,
                        ps_error *err) {
    ps_kernel *k = ps_alloc_zero(alloc, size);
    if (!k) return PS_FAIL_NOMEM(err, "a kernel");
    k->ops = ops;
    k->alloc = alloc;
    k->bytes = size;
    ps_snprintf(k->label, sizeof k->label, "%s", label);
    *(ps_kernel **)ret = k;
    return PS_OK;
}

void ps_kernel_free(ps_kernel *k) {
    if (k) k->ops->free(k);
}
