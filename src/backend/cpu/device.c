/* device.c - the CPU device: its implementation list, its thread team, its facts. */
#include "backend/cpu/cpu_int.h"
#include "base/os.h"

#ifdef _OPENMP
#include <omp.h>
#endif

/* First that accepts wins; then the reference kernel. */
static const ps_impl impls[] = {
    { "Transpose", "", cpu_lower_transpose },
};

static ps_status cpu_lower(ps_device *device, ps_lowering *l, ps_error *err)
{
    return ps_lower_with(device, impls, sizeof impls / sizeof *impls, l, err);
}

static void cpu_free(ps_device *device)
{
    ps_free(device->alloc, device);
}

/* oneDNN fixes its team size from the calling thread's setting, when a primitive is made and when it runs. */
static int cpu_enter(ps_device *device, int threads)
{
#ifdef _OPENMP
    int before = omp_get_max_threads();
    if (before != threads) omp_set_num_threads(threads);
    return before;
#else
    return 0;
#endif
}

static void cpu_leave(ps_device *device, int token)
{
#ifdef _OPENMP
    if (token != omp_get_max_threads()) omp_set_num_threads(token);
#endif
}

static const ps_device_ops device_ops = { 1, cpu_lower, cpu_reorder, cpu_free, cpu_enter, cpu_leave };

ps_status ps_device_new_cpu(ps_alloc_state *alloc, ps_device **ret, ps_error *err)
{
    cpu_device *d = ps_alloc_zero(alloc, sizeof *d);
    if (!d) return PS_FAIL_NOMEM(err, "a device");
    d->base.ops = &device_ops;
    d->base.alloc = alloc;
    d->simd = ps_simd_pick();
    d->base.caps = (ps_caps){ 0 };
    ps_snprintf(d->base.name, sizeof d->base.name, "cpu");
    ps_cpu_model(d->base.hardware, sizeof d->base.hardware);
    ps_snprintf(d->base.driver, sizeof d->base.driver, "%s", d->simd->name);
    d->base.info = (ps_device_info){ sizeof d->base.info, d->base.name,       d->base.hardware,
                                     d->base.driver,      ps_memory_total(), ps_cpu_count() };
    *ret = &d->base;
    return PS_OK;
}
