/* memory.c - buffers in a device's memory, and streams: one in-order queue a session. */
#include "backend/opencl/staging.h"

#define AIMED_LEAST ((size_t)64 << 10) /* bytes that are copied no faster than a buffer is made */

/* ---- buffers ---- */

typedef struct ocl_buffer {
    cl_mem mem;
    size_t bytes;
    char *host; /* the host's memory that it is; NULL: it is the device's */
} ocl_buffer;

cl_mem ocl_buffer_mem(const void *buffer) {
    return ((const ocl_buffer *)buffer)->mem;
}

static ps_status check_room(ocl_device *d, size_t bytes, ps_error *err) {
    PS_FAIL_IF(bytes > d->largest, err, NO_MEMORY, "device '%s' gives at most %zu bytes at once, %zu are needed",
               d->base.name, d->largest, bytes);
    const size_t held = atomic_load(&d->base.held), limit = atomic_load(&d->base.limit);
    const uint64_t most = limit ? limit : d->base.info.memory;
    PS_FAIL_IF(most && held + bytes > most, err, NO_MEMORY,
               "device '%s' %s %llu bytes, %zu are in use and %zu more are needed", d->base.name,
               limit ? "is to give at most" : "has", (unsigned long long)most, held, bytes);
    return PS_OK;
}

bool ocl_has_room(const ocl_device *d, size_t buffer, size_t more) {
    const size_t held = atomic_load(&d->base.held), limit = atomic_load(&d->base.limit);
    const uint64_t most = limit ? limit : d->base.info.memory;
    return buffer <= d->largest && (!most || (held <= most && buffer <= most - held && more <= most - held - buffer));
}

/* A driver may take the memory only when it is first used: that is now, so that its want is told here. */
static cl_int touch(ocl_device *d, cl_mem mem, const void *content, size_t bytes) {
    static const cl_int zero = 0;
    ps_mutex_lock(&d->lock);
    cl_int code = content
                      ? d->api.clEnqueueWriteBuffer(d->queue, mem, CL_TRUE, 0, bytes, content, 0, NULL, NULL)
                      : d->api.clEnqueueFillBuffer(d->queue, mem, &zero, sizeof zero, 0, sizeof zero, 0, NULL, NULL);
    if (code == CL_SUCCESS && !content) code = d->api.clFinish(d->queue);
    ps_mutex_unlock(&d->lock);
    return code;
}

static ps_status buffer_new(ps_device *device, size_t bytes, const void *content, void **ret, ps_error *err) {
    ocl_device *d = ocl_of(device);
    cl_int code;
    size_t room = bytes < PS_ALIGN ? PS_ALIGN : bytes;
    PS_TRY(ocl_still_there(d, err));
    PS_TRY(check_room(d, room, err));
    ocl_buffer *b = ps_alloc_zero(device->alloc, sizeof *b);
    if (!b) return PS_FAIL_NOMEM(err, "a buffer");
    b->bytes = room;
    b->mem = d->api.clCreateBuffer(d->context, CL_MEM_READ_WRITE, room, NULL, &code);
    if (b->mem) {
        code = touch(d, b->mem, bytes ? content : NULL, bytes);
        if (code != CL_SUCCESS) d->api.clReleaseMemObject(b->mem);
    }
    if (code != CL_SUCCESS) {
        ps_free(device->alloc, b);
        return ocl_fail_running(d, "clCreateBuffer", code, err);
    }
    atomic_fetch_add(&device->held, room);
    *ret = b;
    return PS_OK;
}

static void buffer_free(ps_device *device, void *buffer) {
    ocl_buffer *b = buffer;
    if (!b) return;
    if (b->mem) ocl_of(device)->api.clReleaseMemObject(b->mem);
    if (!b->host) atomic_fetch_sub(&device->held, b->bytes);
    ps_free(device->alloc, b);
}

static ps_status buffer_write(ps_device *device, void *buffer, const void *content, size_t bytes, ps_error *err) {
    ocl_device *d = ocl_of(device);
    PS_TRY(ocl_still_there(d, err));
    if (!bytes) return PS_OK;
    cl_int code = touch(d, ((const ocl_buffer *)buffer)->mem, content, bytes);
    return code == CL_SUCCESS ? PS_OK : ocl_fail_running(d, "clEnqueueWriteBuffer", code, err);
}

/* Vectors are loaded at multiples of their size, and drivers use memory in place by cache lines. */
static bool can_be_aimed_at(const ocl_device *d, const void *host, size_t bytes) {
    return d->base.shares_memory && bytes >= AIMED_LEAST && bytes <= d->largest && (uintptr_t)host % PS_ALIGN == 0;
}

static bool buffer_aim(ps_device *device, void **buffer, void *host, size_t bytes) {
    ocl_device *d = ocl_of(device);
    ocl_buffer *b = *buffer;
    cl_int code;
    if (b && b->mem) d->api.clReleaseMemObject(b->mem);
    if (b) *b = (ocl_buffer) { .bytes = 0 };
    if (!host || !can_be_aimed_at(d, host, bytes)) return false;
    if (!b) *buffer = b = ps_alloc_zero(device->alloc, sizeof *b);
    if (!b) return false;
    b->mem = d->api.clCreateBuffer(d->context, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, bytes, host, &code);
    if (b->mem) b->host = host;
    return b->mem;
}

/* Is this where a copy would bring it? */
static bool is_there(const ps_region *r, const void *host) {
    const ocl_buffer *b = r->buffer;
    return b->host && b->host + r->offset == (const char *)host;
}

/* Kernels wrote it where the host wants it. Mapped, it is what the host will see; nobody writes to it before the
 * sync. */
static cl_int show_host(ps_stream *s, const ps_region *r, size_t bytes) {
    const ocl_api *api = &s->device->api;
    const cl_mem mem = ocl_buffer_mem(r->buffer);
    cl_int code;
    void *seen =
        api->clEnqueueMapBuffer(s->queue, mem, CL_FALSE, CL_MAP_READ, r->offset, bytes, 0, NULL, NULL, &code);
    return seen ? api->clEnqueueUnmapMemObject(s->queue, mem, seen, 0, NULL, NULL) : code;
}

/* ---- streams ---- */

static void stream_free(ps_stream *s) {
    if (!s) return;
    ocl_device *d = s->device;
    ocl_staging_free(s->staging);
    if (s->flag) d->api.clReleaseMemObject(s->flag);
    if (s->queue) d->api.clReleaseCommandQueue(s->queue);
    ps_free(d->base.alloc, s);
}

static ps_status stream_new(ps_device *device, int threads, ps_stream **ret, ps_error *err) {
    ocl_device *d = ocl_of(device);
    cl_int code, zero = 0;
    PS_TRY(ocl_still_there(d, err));
    ps_stream *s = ps_alloc_zero(device->alloc, sizeof *s);
    if (!s) return PS_FAIL_NOMEM(err, "a stream");
    s->device = d;
    s->threads = threads;
    s->queue = d->api.clCreateCommandQueue(d->context, d->id, 0, &code);
    if (s->queue)
        s->flag =
            d->api.clCreateBuffer(d->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof zero, &zero, &code);
    if (code != CL_SUCCESS) {
        stream_free(s);
        return ocl_fail(d, "clCreateCommandQueue", code, err);
    }
    *ret = s;
    return PS_OK;
}

/* By way of pinned memory? Made with the first large copy; few models' inputs are. */
static bool is_staged(ps_stream *s, size_t bytes) {
    if (bytes < OCL_STAGED_LEAST) return false;
    if (!s->staging && !s->unstaged) s->staging = ocl_staging_new(s->device, s->queue, s->threads);
    s->unstaged = !s->staging;
    return s->staging;
}

static ps_status upload(ps_stream *s, const ps_region *dst, const void *src, size_t bytes, ps_error *err) {
    ocl_device *d = s->device;
    const cl_mem mem = ocl_buffer_mem(dst->buffer);
    if (!bytes || is_there(dst, src)) return PS_OK;
    cl_int code =
        is_staged(s, bytes)
            ? ocl_staging_send(s->staging, mem, dst->offset, src, bytes)
            : d->api.clEnqueueWriteBuffer(s->queue, mem, CL_FALSE, dst->offset, bytes, src, 0, NULL, NULL);
    return code == CL_SUCCESS ? PS_OK : ocl_fail_running(d, "clEnqueueWriteBuffer", code, err);
}

static ps_status download(ps_stream *s, void *dst, const ps_region *src, size_t bytes, ps_error *err) {
    ocl_device *d = s->device;
    const cl_mem mem = ocl_buffer_mem(src->buffer);
    if (!bytes) return PS_OK;
    if (is_there(src, dst)) {
        const cl_int shown = show_host(s, src, bytes);
        return shown == CL_SUCCESS ? PS_OK : ocl_fail_running(d, "clEnqueueMapBuffer", shown, err);
    }
    cl_int code = is_staged(s, bytes)
                      ? ocl_staging_fetch(s->staging, dst, mem, src->offset, bytes)
                      : d->api.clEnqueueReadBuffer(s->queue, mem, CL_FALSE, src->offset, bytes, dst, 0, NULL, NULL);
    return code == CL_SUCCESS ? PS_OK : ocl_fail_running(d, "clEnqueueReadBuffer", code, err);
}

/* Kernels cannot fail: one that met an index out of range has read another element and set the flag. */
static ps_status look_at_flag(ps_stream *s, ps_error *err) {
    ocl_device *d = s->device;
    cl_int flag = 0, zero = 0;
    s->check = false;
    cl_int code = d->api.clEnqueueReadBuffer(s->queue, s->flag, CL_TRUE, 0, sizeof flag, &flag, 0, NULL, NULL);
    if (code == CL_SUCCESS && flag)
        code = d->api.clEnqueueWriteBuffer(s->queue, s->flag, CL_TRUE, 0, sizeof zero, &zero, 0, NULL, NULL);
    if (code != CL_SUCCESS) return ocl_fail_running(d, "clEnqueueReadBuffer", code, err);
    PS_FAIL_IF(flag, err, INVALID, "an index of a Gather lies outside of the axis it selects from");
    return PS_OK;
}

static ps_status sync(ps_stream *s, ps_error *err) {
    ocl_device *d = s->device;
    cl_int code = d->api.clFinish(s->queue);
    s->waiting = 0;
    if (s->staging) ocl_staging_finish(s->staging, code != CL_SUCCESS);
    if (code != CL_SUCCESS) return ocl_fail_running(d, "clFinish", code, err);
    return s->check ? look_at_flag(s, err) : PS_OK;
}

static bool lost(ps_device *device) {
    return atomic_load(&ocl_of(device)->lost);
}

static ps_status measure(ps_device *device, double *ret_flops, double *ret_bytes, ps_error *err) {
    return ocl_measure(ocl_of(device), ret_flops, ret_bytes, err);
}

const ps_memory_ops ocl_memory_ops = { buffer_new, buffer_free, buffer_write, stream_new, stream_free, upload,
                                       download,   sync,        lost,         ocl_reopen, measure,
                                       buffer_aim };
