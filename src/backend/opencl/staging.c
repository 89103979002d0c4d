#include "backend/opencl/staging.h"

#define PIECE ((size_t)1 << 20)
#define PIECES 4
#define GRAIN ((size_t)128 << 10) /* bytes that a thread copies at least */
#define MOST_THREADS 4            /* more than these reach no more of the host's memory bandwidth */

typedef struct piece {
    char *host;
    cl_event under_way; /* NULL: the piece is free */
    void *dst;          /* of a fetch: where its bytes go */
    size_t bytes;
} piece;

struct ocl_staging {
    ocl_device *device;
    cl_command_queue queue;
    int threads;
    cl_mem memory;
    char *host;
    unsigned next;
    piece pieces[PIECES];
};

static bool suits(const ocl_device *d) {
    return d->test_staging ? d->test_staging > 0 : d->gpu && !d->base.shares_memory;
}

ocl_staging *ocl_staging_new(ocl_device *d, cl_command_queue queue, int threads) {
    cl_int code;
    ocl_staging *s = suits(d) ? ps_alloc_zero(d->base.alloc, sizeof *s) : NULL;
    if (!s) return NULL;
    *s = (ocl_staging) { .device = d, .queue = queue, .threads = threads < MOST_THREADS ? threads : MOST_THREADS };
    s->memory =
        d->api.clCreateBuffer(d->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, PIECE * PIECES, NULL, &code);
    if (s->memory)
        s->host = d->api.clEnqueueMapBuffer(queue, s->memory, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0, PIECE * PIECES, 0,
                                            NULL, NULL, &code);
    if (!s->host) {
        ocl_staging_free(s);
        return NULL;
    }
    for (size_t i = 0; i < PIECES; i++)
        s->pieces[i].host = s->host + i * PIECE;
    return s;
}

void ocl_staging_free(ocl_staging *s) {
    if (!s) return;
    const ocl_api *api = &s->device->api;
    ocl_staging_finish(s, true);
    if (s->host && api->clEnqueueUnmapMemObject(s->queue, s->memory, s->host, 0, NULL, NULL) == CL_SUCCESS)
        api->clFinish(s->queue);
    if (s->memory) api->clReleaseMemObject(s->memory);
    ps_free(s->device->base.alloc, s);
}

typedef struct copy_job {
    char *to;
    const char *from;
    size_t bytes;
} copy_job;

static void copy_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const copy_job *j = ctx;
    const size_t first = (size_t)begin * GRAIN, last = (size_t)end * GRAIN < j->bytes ? (size_t)end * GRAIN : j->bytes;
    memcpy(j->to + first, j->from + first, last - first);
}

static void copy(const ocl_staging *s, void *to, const void *from, size_t bytes) {
    copy_job j = { to, from, bytes };
    ps_parallel_for((int64_t)((bytes + GRAIN - 1) / GRAIN), 1, s->threads, copy_range, &j);
}

/* Its bytes are there: they go where they belong, and the piece is free. */
static void empty(const ocl_staging *s, piece *p, bool failed) {
    if (!p->under_way) return;
    if (p->dst && !failed) copy(s, p->dst, p->host, p->bytes);
    s->device->api.clReleaseEvent(p->under_way);
    p->under_way = NULL;
    p->dst = NULL;
}

static cl_int take(ocl_staging *s, piece **ret) {
    piece *p = &s->pieces[s->next++ % PIECES];
    cl_int code = p->under_way ? s->device->api.clWaitForEvents(1, &p->under_way) : CL_SUCCESS;
    empty(s, p, code != CL_SUCCESS);
    *ret = p;
    return code;
}

cl_int ocl_staging_send(ocl_staging *s, cl_mem dst, size_t offset, const void *src, size_t bytes) {
    const ocl_api *api = &s->device->api;
    for (size_t at = 0, n; at < bytes; at += n) {
        piece *p;
        cl_int code = take(s, &p);
        if (code != CL_SUCCESS) return code;
        n = bytes - at < PIECE ? bytes - at : PIECE;
        copy(s, p->host, (const char *)src + at, n);
        code = api->clEnqueueWriteBuffer(s->queue, dst, CL_FALSE, offset + at, n, p->host, 0, NULL, &p->under_way);
        if (code == CL_SUCCESS) code = api->clFlush(s->queue); /* so that it begins while the next one is filled */
        if (code != CL_SUCCESS) return code;
    }
    return CL_SUCCESS;
}

cl_int ocl_staging_fetch(ocl_staging *s, void *dst, cl_mem src, size_t offset, size_t bytes) {
    const ocl_api *api = &s->device->api;
    for (size_t at = 0; at < bytes; at += PIECE) {
        piece *p;
        cl_int code = take(s, &p);
        if (code != CL_SUCCESS) return code;
        p->bytes = bytes - at < PIECE ? bytes - at : PIECE;
        code =
            api->clEnqueueReadBuffer(s->queue, src, CL_FALSE, offset + at, p->bytes, p->host, 0, NULL, &p->under_way);
        if (code != CL_SUCCESS) return code;
        p->dst = (char *)dst + at;
    }
    return api->clFlush(s->queue);
}

void ocl_staging_finish(ocl_staging *s, bool failed) {
    for (unsigned i = 0; i < PIECES; i++)
        empty(s, &s->pieces[(s->next + i) % PIECES], failed);
}
