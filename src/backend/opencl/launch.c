/* launch.c - a kernel of the plan as a list of launches with arguments. The OpenCL kernel objects, which hold
 * arguments, are a session's own. */
#include "backend/opencl/opencl_int.h"

/* ---- running ---- */

#define FLUSH_EVERY 16 /* launches: the device has work while the host asks for more */

static cl_int set(const ocl_api *api, cl_kernel k, cl_uint *at, size_t size, const void *value) {
    return api->clSetKernelArg(k, (*at)++, size, value);
}

static cl_int set_buffer(const ocl_api *api, cl_kernel k, cl_uint *at, cl_mem mem, size_t offset) {
    const cl_ulong bytes = offset;
    cl_int code = set(api, k, at, sizeof mem, &mem);
    return code == CL_SUCCESS ? set(api, k, at, sizeof bytes, &bytes) : code;
}

static cl_int set_region(const ocl_api *api, cl_kernel k, cl_uint *at, const ps_region *r, size_t more) {
    return set_buffer(api, k, at, ocl_buffer_mem(r->buffer), r->offset + more);
}

static cl_int set_arg(const ocl_api *api, cl_kernel k, cl_uint *at, const ocl_arg *a, const ps_kernel_args *args) {
    switch (a->kind) {
    case OCL_ARG_IN: return set_region(api, k, at, args->in[a->u.index], 0);
    case OCL_ARG_OUT: return set_region(api, k, at, args->out[a->u.index], 0);
    case OCL_ARG_WORK: return set_region(api, k, at, args->workspace, a->u.bytes);
    case OCL_ARG_BUFFER: return set_buffer(api, k, at, ocl_buffer_mem(a->u.buffer), a->at);
    case OCL_ARG_FLAG: args->stream->check = true; return set(api, k, at, sizeof(cl_mem), &args->stream->flag);
    case OCL_ARG_INT: return set(api, k, at, sizeof a->u.i, &a->u.i);
    case OCL_ARG_FLOAT: return set(api, k, at, sizeof a->u.f, &a->u.f);
    case OCL_ARG_INTS: return set(api, k, at, sizeof a->u.v, a->u.v);
    }
    return CL_INVALID_VALUE;
}

static ps_status run_launch(const ocl_kernel *k, const ocl_launch *l, cl_kernel handle, const ps_kernel_args *args,
                            ps_error *err) {
    const ocl_api *api = &k->device->api;
    cl_uint at = 0;
    for (int i = 0; i < l->n_args; i++) {
        cl_int code = set_arg(api, handle, &at, &l->args[i], args);
        if (code != CL_SUCCESS) return ocl_fail(k->device, "clSetKernelArg", code, err);
    }
    cl_int code = api->clEnqueueNDRangeKernel(args->stream->queue, handle, 3, NULL, l->global, l->local, 0, NULL, NULL);
    if (code != CL_SUCCESS) {
        ps_status status = ocl_fail_running(k->device, "clEnqueueNDRangeKernel", code, err);
        ps_error_prefix(err, "%s", k->base.label);
        return status;
    }
    if (++args->stream->waiting >= FLUSH_EVERY) {
        args->stream->waiting = 0;
        api->clFlush(args->stream->queue);
    }
    return PS_OK;
}

static ps_status run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const ocl_kernel *k = (const ocl_kernel *)kernel;
    cl_kernel *handles = args->state;
    PS_TRY(ocl_still_there(k->device, err));
    for (int i = 0; i < k->n; i++)
        PS_TRY(run_launch(k, &k->launches[i], handles[i], args, err));
    return PS_OK;
}

static void state_free(const ps_kernel *kernel, ps_alloc_state *alloc, void *state) {
    const ocl_kernel *k = (const ocl_kernel *)kernel;
    cl_kernel *handles = state;
    for (int i = 0; handles && i < k->n; i++)
        if (handles[i]) k->device->api.clReleaseKernel(handles[i]);
    ps_free(alloc, handles);
}

static ps_status state_new(const ps_kernel *kernel, ps_alloc_state *alloc, void **ret, ps_error *err) {
    const ocl_kernel *k = (const ocl_kernel *)kernel;
    cl_int code = CL_SUCCESS;
    cl_kernel *handles = ps_alloc_zero(alloc, ((size_t)k->n + 1) * sizeof *handles);
    if (!handles) return PS_FAIL_NOMEM(err, "a kernel's state");
    for (int i = 0; i < k->n && code == CL_SUCCESS; i++)
        handles[i] = k->device->api.clCreateKernel(k->launches[i].program->handle, k->launches[i].entry, &code);
    if (code != CL_SUCCESS) {
        state_free(kernel, alloc, handles);
        return ocl_fail(k->device, "clCreateKernel", code, err);
    }
    *ret = handles;
    return PS_OK;
}

/* ---- making ---- */

void ocl_kernel_free(ps_kernel *kernel) {
    ocl_kernel *k = (ocl_kernel *)kernel;
    for (int i = 0; i < k->n_owned; i++)
        ocl_memory_ops.buffer_free(&k->device->base, k->owned[i]);
    ps_free(kernel->alloc, k);
}

static ps_status new_kernel(ocl_device *d, ps_alloc_state *alloc, int n, const char *label, ocl_kernel **ret,
                            ps_error *err) {
    static const ps_kernel_ops ops = { run, ocl_kernel_free, state_new, state_free };
    PS_TRY(ps_kernel_new(alloc, sizeof **ret + (size_t)n * sizeof(ocl_launch), &ops, label, ret, err));
    (*ret)->device = d;
    (*ret)->n = n;
    return PS_OK;
}

ps_status ocl_kernel_new(ps_device *device, ps_lowering *l, int n, const char *label, ocl_kernel **ret, ps_error *err) {
    return new_kernel(ocl_of(device), l->alloc, n, label, ret, err);
}

const char *ocl_refuses(const ps_kernel *kernel) {
    const ocl_kernel *k = (const ocl_kernel *)kernel;
    const size_t most = k->device->most_groups;
    for (int i = 0; i < k->n; i++) {
        const ocl_launch *l = &k->launches[i];
        if (l->global[1] / l->local[1] > most || l->global[2] > most)
            return "more work-groups than the driver launches";
    }
    return NULL;
}

ps_status ocl_kernel_done(ps_lowering *l, ocl_kernel *k, ps_status status) {
    if (status != PS_OK)
        ocl_kernel_free(&k->base);
    else
        l->kernel = &k->base;
    return status;
}

ps_status ocl_kernel_table(ocl_kernel *k, const void *data, size_t bytes, void **ret, ps_error *err) {
    PS_FAIL_IF(k->n_owned == OCL_MAX_OWNED, err, INTERNAL, "a kernel has more than %d tables", OCL_MAX_OWNED);
    PS_TRY(ocl_memory_ops.buffer_new(&k->device->base, bytes, data, ret, err));
    k->owned[k->n_owned++] = *ret;
    k->base.bytes += bytes;
    return PS_OK;
}

ps_status ocl_launch_init(ocl_kernel *k, int i, const char *program, const char *options, const char *text,
                          const char *entry, ocl_launch **ret, ps_error *err) {
    ocl_launch *l = &k->launches[i];
    l->entry = entry;
    *ret = l;
    return ocl_program_get(k->device, program, options, text, &l->program, err);
}

static size_t rounded(int64_t n, size_t unit) {
    return ((size_t)n + unit - 1) / unit * unit;
}

void ocl_launch_size(ocl_launch *l, int64_t x, int64_t y, int64_t z, size_t lx, size_t ly) {
    l->local[0] = lx;
    l->local[1] = ly;
    l->local[2] = 1;
    l->global[0] = rounded(x, lx);
    l->global[1] = rounded(y, ly);
    l->global[2] = (size_t)z;
}

/* A launch with more arguments than there is room for is a bug: the last one is then wrong, and OpenCL says so. */
static ocl_arg *next_arg(ocl_launch *l, ocl_arg_kind kind) {
    ocl_arg *a = &l->args[l->n_args < OCL_MAX_ARGS ? l->n_args++ : OCL_MAX_ARGS - 1];
    a->kind = kind;
    a->at = 0;
    return a;
}

void ocl_arg_in(ocl_launch *l, uint32_t index) {
    next_arg(l, OCL_ARG_IN)->u.index = index;
}

void ocl_arg_out(ocl_launch *l, uint32_t index) {
    next_arg(l, OCL_ARG_OUT)->u.index = index;
}

void ocl_arg_work(ocl_launch *l, size_t bytes) {
    next_arg(l, OCL_ARG_WORK)->u.bytes = bytes;
}

void ocl_arg_buffer(ocl_launch *l, void *buffer) {
    next_arg(l, OCL_ARG_BUFFER)->u.buffer = buffer;
}

void ocl_arg_flag(ocl_launch *l) {
    next_arg(l, OCL_ARG_FLAG);
}

void ocl_arg_int(ocl_launch *l, int64_t i) {
    next_arg(l, OCL_ARG_INT)->u.i = (cl_int)i;
}

void ocl_arg_float(ocl_launch *l, float f) {
    next_arg(l, OCL_ARG_FLOAT)->u.f = f;
}

void ocl_arg_ints(ocl_launch *l, const int64_t *v, int n) {
    ocl_arg *a = next_arg(l, OCL_ARG_INTS);
    memset(a->u.v, 0, sizeof a->u.v);
    for (int i = 0; i < n && i < 8; i++)
        a->u.v[i] = (cl_int)v[i];
}

/* ---- what lower functions ask ---- */

const char *ocl_halves(bool in, bool out) {
    static const char *const options[] = { "", " -DIN_HALF=1", " -DOUT_HALF=1", " -DIN_HALF=1 -DOUT_HALF=1" };
    return options[in + 2 * out];
}

void ocl_skip_inputs(ps_lowering *l, uint32_t from) {
    for (uint32_t i = from; i < l->node->n_in && i < 64; i++)
        l->taken |= UINT64_C(1) << i;
}

static bool value_fits(ps_lowering *l, const ps_value *v) {
    int64_t n;
    if (!ps_shape_elements(&v->shape, &n) || n > INT32_MAX) {
        l->why = "a tensor of 2^31 elements or more";
        return false;
    }
    if (n == 0) l->why = "an empty tensor";
    return n != 0;
}

bool ocl_sizes_fit(ps_lowering *l) {
    return ocl_sizes_fit_first(l, l->node->n_in);
}

bool ocl_sizes_fit_first(ps_lowering *l, uint32_t n_in) {
    const ps_node *n = l->node;
    for (uint32_t i = 0; i < n_in && i < n->n_in; i++)
        if (n->in[i] && !value_fits(l, n->in[i])) return false;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] && !value_fits(l, n->out[i])) return false;
    return true;
}

/* Sums of two stay below 2^28, which is where kernels look for what lies outside of every image. */
#define MOST_EXTENT (INT64_C(1) << 27)
#define MOST_TAPS (INT64_C(1) << 20)

static bool window_fits(const ps_window *w) {
    const int64_t all[] = { w->in,       w->out,           w->kernel,      w->stride,
                            w->dilation, w->pad_begin,     w->pad_end,     w->in + w->pad_end,
                            -w->pad_end, -w->pad_begin, (w->kernel - 1) * w->dilation };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] >= MOST_EXTENT) return false;
    return true;
}

bool ocl_windows_take(ps_lowering *l, const ps_window *w, int count, ps_window ret[3]) {
    for (int i = 0; i < 3; i++) {
        ret[i] = i < 3 - count ? (ps_window) { 1, 1, 1, 1, 1, 0, 0 } : w[i - (3 - count)];
        if (window_fits(&ret[i])) continue;
        l->why = "a window that reaches 2^27 elements or more";
        return false;
    }
    return true;
}

bool ocl_taps_fit(ps_lowering *l, const ps_window w[3]) {
    int64_t taps = 1;
    for (int i = 0; i < 3; i++)
        taps *= taps > MOST_TAPS ? 1 : w[i].kernel; /* below 2^47 */
    if (taps > MOST_TAPS) l->why = "a window of more than 2^20 elements";
    return taps <= MOST_TAPS;
}
