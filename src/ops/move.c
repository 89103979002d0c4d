/* move.c - see move.h. */
#include "ops/move.h"

#include "base/thread.h"
#include "tensor/convert.h"

enum { GRAIN_BYTES = 1 << 18 }; /* below this a second thread costs more than it brings */

ps_status ps_move_output(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, ps_error *err) {
    ps_tensor *t = ctx->out[i];
    if (!t->data) {
        int64_t n;
        size_t bytes;
        PS_FAIL_IF(!ps_shape_elements(shape, &n) || !ps_dtype_bytes(dtype, n, &bytes), err, LIMIT,
                   "%s: output shape %s is too large to address", PS_LABEL(ctx->node), PS_SHAPE_TEXT(shape));
        return ps_kernel_output(ctx, i, dtype, shape, err);
    }
    PS_FAIL_IF(!ps_shape_equal(&t->shape, shape), err, SHAPE, "%s: the result has shape %s, the plan holds %s",
               PS_LABEL(ctx->node), PS_SHAPE_TEXT(shape), PS_SHAPE_TEXT(&t->shape));
    PS_FAIL_IF(t->dtype != dtype, err, TYPE, "%s: the result has type %s, the plan holds %s", PS_LABEL(ctx->node),
               ps_dtype_name(dtype), ps_dtype_name(t->dtype));
    return PS_OK;
}

static ps_status begin_any(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, ps_move *ret,
                           ps_error *err) {
    *ret = (ps_move) { .out = ctx->out[i], .size = ps_dtype_size(dtype), .alloc = ctx->alloc };
    PS_TRY(ps_move_output(ctx, i, dtype, shape, err));
    ret->dst = ret->out->data;
    if (dtype != PS_DTYPE_STRING) return PS_OK;
    ret->scratch = ps_alloc_zero(ret->alloc, ps_tensor_count(ret->out) * sizeof(ps_string));
    if (!ret->scratch) return PS_FAIL_NOMEM(err, "strings being moved");
    ret->dst = (uint8_t *)ret->scratch;
    return PS_OK;
}

ps_status ps_move_begin(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, ps_move *ret,
                        ps_error *err) {
    size_t bytes;
    return ps_move_begin_rows(ctx, i, dtype, shape, 1, ret, &bytes, err);
}

ps_status ps_move_begin_rows(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, int64_t row,
                             ps_move *ret, size_t *ret_bytes, ps_error *err) {
    bool whole = ps_dtype_size(dtype) > 0 || row * (int64_t)ps_dtype_bits(dtype) % 8 == 0;
    PS_FAIL_IF(!whole || !ps_dtype_bytes(dtype, row, ret_bytes), err, UNSUPPORTED,
               "%s: element type %s is packed below one byte and cannot be moved by %lld", PS_LABEL(ctx->node),
               ps_dtype_name(dtype), (long long)row);
    return begin_any(ctx, i, dtype, shape, ret, err);
}

static ps_status copy_strings(ps_tensor *out, const ps_string *src, size_t n, ps_error *err) {
    for (size_t k = 0; k < n; k++)
        PS_TRY(ps_tensor_set_string(out, k, src[k].data ? src[k].data : "", src[k].size, err));
    return PS_OK;
}

ps_status ps_move_end(ps_move *m, ps_status status, ps_error *err) {
    if (status == PS_OK && m->scratch) status = copy_strings(m->out, m->scratch, ps_tensor_count(m->out), err);
    ps_free(m->alloc, m->scratch);
    m->scratch = NULL;
    return status;
}

ps_status ps_move_view(const ps_kernel_ctx *ctx, const ps_shape *shape, ps_error *err) {
    const ps_tensor *in = ctx->in[0];
    if (ps_dtype_is_container(in->dtype)) return ps_move_tensor(ctx, 0, in, err);
    PS_TRY(ps_move_output(ctx, 0, in->dtype, shape, err));
    ps_tensor *out = ctx->out[0];
    if (out->data == in->data) return PS_OK;
    if (in->dtype == PS_DTYPE_STRING) return copy_strings(out, in->data, ps_tensor_count(in), err);
    if (in->bytes) memcpy(out->data, in->data, in->bytes);
    return PS_OK;
}

/* ---- whole tensors ---- */
ps_status ps_move_run(ps_tensor *to, int64_t to_first, const ps_tensor *from, int64_t from_first, int64_t n,
                      ps_error *err) {
    if (n == 0) return PS_OK;
    if (to->dtype == PS_DTYPE_STRING) {
        const ps_string *src = (const ps_string *)from->data + from_first;
        for (int64_t k = 0; k < n; k++)
            PS_TRY(ps_tensor_set_string(to, (size_t)(to_first + k), src[k].data ? src[k].data : "", src[k].size, err));
        return PS_OK;
    }
    size_t bits = ps_dtype_bits(to->dtype);
    memcpy((uint8_t *)to->data + (size_t)to_first * bits / 8,
           (const uint8_t *)from->data + (size_t)from_first * bits / 8, (size_t)n * bits / 8);
    return PS_OK;
}

ps_status ps_move_element(const ps_kernel_ctx *ctx, ps_tensor *container, size_t place, const ps_tensor *t,
                          bool element, ps_error *err) {
    ps_tensor *copy;
    if (element)
        copy = ps_tensor_retain((ps_tensor *)t); /* the count of references is all that changes */
    else
        PS_TRY(ps_tensor_copy(ctx->alloc, t, &copy, err));
    ps_status status = ps_container_take(container, place, copy, err);
    if (status != PS_OK) ps_tensor_release(copy);
    return status;
}

ps_status ps_move_tensor(const ps_kernel_ctx *ctx, size_t i, const ps_tensor *t, ps_error *err) {
    PS_TRY(ps_move_output(ctx, i, t->dtype, &t->shape, err));
    ps_tensor *out = ctx->out[i];
    if (out->data == t->data) return PS_OK;
    if (!ps_dtype_is_object(t->dtype)) {
        if (t->bytes) memcpy(out->data, t->data, t->bytes);
        return PS_OK;
    }
    if (t->dtype == PS_DTYPE_STRING) return copy_strings(out, t->data, ps_tensor_count(t), err);
    for (size_t k = 0, n = ps_tensor_count(t); k < n; k++) {
        const ps_tensor *e = ps_tensor_element(t, k);
        if (e) PS_TRY(ps_move_element(ctx, out, k, e, true, err));
    }
    return PS_OK;
}

/* ---- packed types ---- */

static bool is_packed(ps_dtype t) {
    return t != PS_DTYPE_UNDEFINED && ps_dtype_bits(t) < 8;
}

/* Codes, whatever they stand for: one in each byte, and back. */
static void unpack(const ps_tensor *from, uint8_t *to) {
    const unsigned bits = (unsigned)ps_dtype_bits(from->dtype);
    for (size_t i = 0, n = ps_tensor_count(from); i < n; i++)
        to[i] = (uint8_t)ps_packed_get(from->data, i, bits);
}

static void pack(const uint8_t *from, ps_tensor *to) {
    const unsigned bits = (unsigned)ps_dtype_bits(to->dtype);
    if (to->bytes) memset(to->data, 0, to->bytes);
    for (size_t i = 0, n = ps_tensor_count(to); i < n; i++)
        ps_packed_set(to->data, i, bits, from[i]);
}

typedef struct unpacked {
    const ps_tensor **in;
    ps_tensor **out, *views; /* of the inputs, then of the outputs; views own their data */
} unpacked;

static ps_status unpack_ports(const ps_kernel_ctx *ctx, unpacked *u, ps_error *err) {
    for (size_t i = 0; i < ctx->n_in; i++) {
        const ps_tensor *t = u->in[i] = ctx->in[i];
        if (!t || !is_packed(t->dtype)) continue;
        void *data = ps_alloc_data(ctx->alloc, ps_tensor_count(t) + 1);
        if (!data) return PS_FAIL_NOMEM(err, "a packed operand as bytes");
        ps_tensor_init_view(&u->views[i], PS_DTYPE_U8, &t->shape, data);
        u->views[i].owned = data;
        u->in[i] = &u->views[i];
        unpack(t, data);
    }
    for (size_t i = 0; i < ctx->n_out; i++) {
        ps_tensor *t = u->out[i] = ctx->out[i], *view = &u->views[ctx->n_in + i];
        if (!t || !is_packed(t->dtype)) continue;
        *view = (ps_tensor) { .dtype = PS_DTYPE_U8, .shape = t->shape };
        u->out[i] = view;
        if (!t->data) continue; /* the kernel makes it */
        view->bytes = ps_tensor_count(t);
        view->data = view->owned = ps_alloc_data(ctx->alloc, view->bytes + 1);
        if (!view->data) return PS_FAIL_NOMEM(err, "a packed result as bytes");
    }
    return PS_OK;
}

static ps_status pack_outputs(const ps_kernel_ctx *ctx, const unpacked *u, ps_error *err) {
    for (size_t i = 0; i < ctx->n_out; i++) {
        if (u->out[i] == ctx->out[i]) continue;
        PS_TRY(ps_kernel_output(ctx, i, ctx->out[i]->dtype, &u->out[i]->shape, err));
        pack(u->out[i]->data, ctx->out[i]);
    }
    return PS_OK;
}

ps_status ps_move_unpacked(const ps_kernel_ctx *ctx, ps_kernel_fn fn, ps_error *err) {
    const size_t n = ctx->n_in + ctx->n_out;
    unpacked u = { NULL, NULL, NULL };
    char *block = ps_alloc_zero(ctx->alloc, n * (sizeof *u.views + sizeof(void *)) + 1);
    if (!block) return PS_FAIL_NOMEM(err, "packed operands as bytes");
    u.views = (ps_tensor *)block;
    u.in = (const ps_tensor **)(block + n * sizeof *u.views);
    u.out = (ps_tensor **)(u.in + ctx->n_in);
    ps_status status = unpack_ports(ctx, &u, err);
    if (status == PS_OK) {
        ps_kernel_ctx inner = *ctx;
        inner.in = u.in;
        inner.out = u.out;
        status = fn(&inner, err);
    }
    if (status == PS_OK) status = pack_outputs(ctx, &u, err);
    for (size_t i = 0; i < n; i++)
        ps_free(ctx->alloc, u.views[i].owned);
    ps_free(ctx->alloc, block);
    return status;
}

/* ---- walking ---- */
void ps_walk_add(ps_walk *w, int64_t dim, int64_t dst_stride, int64_t src_stride) {
    w->dims[w->rank] = dim;
    w->dst[w->rank] = dst_stride;
    w->src[w->rank] = src_stride;
    w->rank++;
}

/* Drops dims of one and joins neighbours that are one run on both sides. */
static ps_walk walk_simplify(const ps_walk *w) {
    ps_walk r = { .rank = 0 };
    for (int d = 0; d < w->rank; d++) {
        if (w->dims[d] == 1) continue;
        int k = r.rank - 1;
        if (k >= 0 && r.dst[k] == w->dst[d] * w->dims[d] && r.src[k] == w->src[d] * w->dims[d]) {
            r.dims[k] *= w->dims[d];
            r.dst[k] = w->dst[d];
            r.src[k] = w->src[d];
        } else {
            ps_walk_add(&r, w->dims[d], w->dst[d], w->src[d]);
        }
    }
    if (r.rank == 0) ps_walk_add(&r, 1, 1, 1);
    return r;
}

typedef struct row {
    uint8_t *dst;
    const uint8_t *src;
    int64_t n, dst_step, src_step; /* steps in elements */
} row;

/* memcpy of a constant size: one load and one store, whatever the alignment. */
#define COPY_ROW(bytes)                                                                                                \
    case bytes:                                                                                                        \
        for (int64_t k = 0; k < r->n; k++)                                                                             \
            memcpy(r->dst + k * r->dst_step * (bytes), r->src + k * r->src_step * (bytes), bytes);                     \
        break

static void copy_row(const row *r, size_t size) {
    if (r->dst_step == 1 && r->src_step == 1) {
        memcpy(r->dst, r->src, (size_t)r->n * size);
        return;
    }
    switch (size) {
        COPY_ROW(1);
        COPY_ROW(2);
        COPY_ROW(4);
        COPY_ROW(8);
        COPY_ROW(16);
    }
}

typedef struct walk_job {
    ps_walk walk;
    size_t size;
    uint8_t *dst;
    const uint8_t *src;
} walk_job;

static void walk_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const walk_job *job = ctx;
    const ps_walk *w = &job->walk;
    int last = w->rank - 1;
    int64_t at[PS_WALK_RANK] = { 0 }, dst = 0, src = 0, rest = begin;
    for (int d = last - 1; d >= 0; d--) {
        at[d] = rest % w->dims[d];
        rest /= w->dims[d];
        dst += at[d] * w->dst[d];
        src += at[d] * w->src[d];
    }
    int64_t size = (int64_t)job->size;
    for (int64_t i = begin; i < end; i++) {
        row r = { job->dst + dst * size, job->src + src * size, w->dims[last], w->dst[last], w->src[last] };
        copy_row(&r, job->size);
        for (int d = last - 1; d >= 0; d--) {
            dst += w->dst[d];
            src += w->src[d];
            if (++at[d] < w->dims[d]) break;
            dst -= w->dst[d] * w->dims[d];
            src -= w->src[d] * w->dims[d];
            at[d] = 0;
        }
    }
}

void ps_walk_copy(const ps_walk *w, size_t size, void *dst, const void *src, int threads) {
    for (int d = 0; d < w->rank; d++)
        if (w->dims[d] == 0) return;
    walk_job job = { walk_simplify(w), size, dst, src };
    int64_t rows = 1, row_bytes = job.walk.dims[job.walk.rank - 1] * (int64_t)size;
    for (int d = 0; d < job.walk.rank - 1; d++)
        rows *= job.walk.dims[d];
    int64_t grain = row_bytes >= GRAIN_BYTES ? 1 : GRAIN_BYTES / row_bytes;
    if (rows <= grain || threads <= 1)
        walk_rows(&job, 0, rows, 0);
    else
        ps_parallel_for(rows, grain, threads, walk_rows, &job);
}

void ps_move_fill(void *dst, const void *element, size_t size, int64_t n) {
    row r = { dst, element, n, 1, 0 };
    copy_row(&r, size);
}
