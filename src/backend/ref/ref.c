/* ref.c - the reference kernels of src/ops as a device of their own, and as the last resort of every other.
 *
 * The kernel keeps a pointer to its node: the plan that owns the kernel owns the node's graph too. */
#include "backend/backend.h"
#include "base/os.h"

typedef struct ref_kernel {
    ps_kernel base;
    const ps_node *node;
    int threads;
} ref_kernel;

typedef struct ref_state {
    ps_tensor *in_views, *out_views;
    const ps_tensor **in;
    ps_tensor **out;
} ref_state;

static ps_status ref_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const ref_kernel *k = (const ref_kernel *)kernel;
    ref_state *s = args->state;
    for (uint32_t i = 0; i < k->node->n_in; i++)
        s->in_views[i].data = args->in[i];
    for (uint32_t i = 0; i < k->node->n_out; i++)
        s->out_views[i].data = args->out[i];
    return ps_ops_run_ref(k->node, s->in, s->out, args->alloc, k->threads, err);
}

static void ref_state_free(const ps_kernel *kernel, ps_alloc_state *alloc, void *state) {
    ps_free(alloc, state);
}

static ps_status ref_state_new(const ps_kernel *kernel, ps_alloc_state *alloc, void **ret, ps_error *err) {
    const ps_node *n = ((const ref_kernel *)kernel)->node;
    size_t views = (size_t)n->n_in + n->n_out;
    char *block = ps_alloc_zero(alloc, sizeof(ref_state) + views * (sizeof(ps_tensor) + sizeof(ps_tensor *)));
    if (!block) return PS_FAIL_NOMEM(err, "a reference kernel's views");
    ref_state *s = (ref_state *)block;
    s->in_views = (ps_tensor *)(block + sizeof(ref_state));
    s->out_views = s->in_views + n->n_in;
    s->in = (const ps_tensor **)(s->out_views + n->n_out);
    s->out = (ps_tensor **)(s->in + n->n_in);
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        ps_tensor_init_view(&s->in_views[i], n->in[i]->dtype, &n->in[i]->shape, NULL);
        s->in[i] = &s->in_views[i];
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (!n->out[i]) continue;
        ps_tensor_init_view(&s->out_views[i], n->out[i]->dtype, &n->out[i]->shape, NULL);
        s->out[i] = &s->out_views[i];
    }
    *ret = s;
    return PS_OK;
}

static void ref_free(ps_kernel *kernel) {
    ps_free(kernel->alloc, kernel);
}

static const ps_kernel_ops ref_ops = { ref_run, ref_free, ref_state_new, ref_state_free };

/* As the trait's contract says: only where type and shape agree. */
static bool may_overwrite(const ps_node *n) {
    return (n->op->traits & PS_OP_INPLACE) && ps_has_in(n, 0) && ps_has_out(n, 0) &&
           n->in[0]->dtype == n->out[0]->dtype && ps_shape_equal(&n->in[0]->shape, &n->out[0]->shape);
}

ps_status ps_lower_ref(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    ref_kernel *k;
    if (!n->op || !n->op->ref) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ref_ops, "ref", &k, err));
    ps_snprintf(k->base.label, sizeof k->base.label, "ref.%s", n->op_type);
    k->node = n;
    k->threads = l->threads;
    for (uint32_t i = 0; i < n->n_in; i++)
        l->in_layout[i] = PS_LAYOUT_PLAIN;
    for (uint32_t i = 0; i < n->n_out; i++)
        l->out_layout[i] = PS_LAYOUT_PLAIN;
    l->inplace = may_overwrite(n) ? 0 : -1;
    l->kernel = &k->base;
    return PS_OK;
}

/* ---- the device "ref" ---- */

static ps_status device_lower(ps_device *device, ps_lowering *l, ps_error *err) {
    return ps_lower_ref(device, l, err);
}

static ps_status device_reorder(ps_device *device, ps_dtype dtype, const ps_shape *shape, ps_form from, ps_form to,
                                int threads, ps_alloc_state *alloc, ps_kernel **ret, ps_error *err) {
    return PS_FAIL(err, INTERNAL, "the reference device knows one layout only");
}

static void device_free(ps_device *device) {
    ps_free(device->alloc, device);
}

static const ps_device_ops device_ops = { 1, device_lower, device_reorder, device_free, NULL, NULL };

ps_status ps_device_new_ref(ps_alloc_state *alloc, ps_device **ret, ps_error *err) {
    ps_device *d = ps_alloc_zero(alloc, sizeof *d);
    if (!d) return PS_FAIL_NOMEM(err, "a device");
    d->ops = &device_ops;
    d->alloc = alloc;
    ps_snprintf(d->name, sizeof d->name, "ref");
    ps_cpu_model(d->hardware, sizeof d->hardware);
    ps_snprintf(d->driver, sizeof d->driver, "reference kernels");
    d->info =
        (ps_device_info) { sizeof d->info, d->name, d->hardware, d->driver, ps_memory_total(), ps_cpu_count(), NULL };
    *ret = d;
    return PS_OK;
}
