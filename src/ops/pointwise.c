/* pointwise.c - broadcasting, threads and the narrow float types of the elementwise reference kernels. */
#include "ops/pointwise.h"

#include "base/thread.h"
#include "tensor/convert.h"

/* ---- shape rules ---- */

ps_status ps_pw_check_types(const ps_node *node, size_t from, size_t to, uint32_t set, ps_error *err) {
    char label[256];
    ps_dtype first = PS_DTYPE_UNDEFINED;
    for (size_t i = from; i < to && i < node->n_in; i++) {
        const ps_dtype t = node->in[i] ? node->in[i]->dtype : PS_DTYPE_UNDEFINED;
        if (t == PS_DTYPE_UNDEFINED) continue;
        PS_FAIL_IF(!(set & PS_PW_BIT(t)), err, TYPE, "%s: input %zu is %s, which the operator is not defined for",
                   ps_node_label(node, label, sizeof label), i, ps_dtype_name(t));
        if (first == PS_DTYPE_UNDEFINED) first = t;
        PS_FAIL_IF(t != first, err, TYPE,
                   "%s: input %zu is %s, but the inputs must have one type and an earlier one is %s",
                   ps_node_label(node, label, sizeof label), i, ps_dtype_name(t), ps_dtype_name(first));
    }
    return PS_OK;
}

static ps_status infer_set_of(const ps_node *node, uint32_t set, ps_error *err) {
    PS_TRY(ps_pw_check_types(node, 0, node->n_in, set, err));
    return node->n_in == 1 ? ps_infer_same(node, err) : ps_infer_broadcast(node, err);
}

ps_status ps_pw_infer_float(const ps_node *node, ps_error *err) {
    return infer_set_of(node, PS_PW_FLOAT, err);
}

ps_status ps_pw_infer_signed(const ps_node *node, ps_error *err) {
    return infer_set_of(node, PS_PW_FLOAT | PS_PW_SIGNED, err);
}

ps_status ps_pw_infer_number(const ps_node *node, ps_error *err) {
    return infer_set_of(node, PS_PW_NUMBER, err);
}

/* ---- opset 1 to 6 ---- */

enum { AXIS_ABSENT = INT32_MIN };

const ps_attr_def ps_pw_legacy_attrs[] = {
    PS_A_INT(ps_pw_legacy_params, broadcast, 0),
    PS_A_INT(ps_pw_legacy_params, axis, AXIS_ABSENT),
    PS_ATTRS_END,
};

ps_status ps_pw_second_shape(const ps_node *node, const ps_shape *a, const ps_shape *b, ps_shape *ret, ps_error *err) {
    *ret = *b;
    if (!node->op || node->op->attrs != ps_pw_legacy_attrs) return PS_OK;
    const ps_pw_legacy_params *p = node->params;
    if (!p->broadcast || p->axis == AXIS_ABSENT || a->rank < 0 || b->rank < 0) return PS_OK;
    char label[256];
    const int64_t axis = p->axis < 0 ? p->axis + a->rank : p->axis;
    PS_FAIL_IF(axis < 0 || axis + b->rank > a->rank, err, SHAPE,
               "%s: axis %lld does not place a second input of rank %d inside a first of rank %d",
               ps_node_label(node, label, sizeof label), (long long)p->axis, b->rank, a->rank);
    ret->rank = a->rank - (int32_t)axis;
    for (int d = b->rank; d < ret->rank; d++)
        ret->dims[d] = 1;
    return PS_OK;
}

ps_status ps_pw_infer_binary(const ps_node *node, uint32_t set, ps_dtype dtype, ps_error *err) {
    char label[256], text[2][96];
    ps_shape second, out;
    PS_TRY(ps_pw_check_types(node, 0, 2, set, err));
    const ps_value *a = node->in[0], *b = node->in[1];
    PS_TRY(ps_pw_second_shape(node, &a->shape, &b->shape, &second, err));
    PS_FAIL_IF(!ps_shape_broadcast(&a->shape, &second, &out), err, SHAPE, "%s: shapes %s and %s do not broadcast",
               ps_node_label(node, label, sizeof label), ps_shape_text(&a->shape, text[0], sizeof text[0]),
               ps_shape_text(&second, text[1], sizeof text[1]));
    if (dtype == PS_DTYPE_UNDEFINED) dtype = a->dtype != PS_DTYPE_UNDEFINED ? a->dtype : b->dtype;
    ps_infer_set(node, 0, dtype, &out);
    return PS_OK;
}

ps_status ps_pw_binary(const ps_kernel_ctx *ctx, const ps_pw_loop *loops, ps_error *err) {
    ps_shape second;
    ps_tensor aligned;
    PS_TRY(ps_pw_second_shape(ctx->node, &ctx->in[0]->shape, &ctx->in[1]->shape, &second, err));
    ps_tensor_init_view(&aligned, ctx->in[1]->dtype, &second, ctx->in[1]->data);
    const ps_tensor *in[2] = { ctx->in[0], &aligned };
    return ps_pw_run_tensors(ctx, loops, in, 2, 0, ctx->out[0], err);
}

/* ---- the loop nest ---- */

enum { HALF_CHUNK = 512, GRAIN = 16384 };

/* Dims of the output with extent 1 dropped and neighbours merged wherever every input walks through both alike. */
typedef struct nest {
    int n_in, rank;
    int64_t dims[PS_MAX_RANK];
    int64_t strides[PS_PW_MAX_IN][PS_MAX_RANK]; /* elements; 0: broadcast */
    const char *in[PS_PW_MAX_IN];
    size_t in_size[PS_PW_MAX_IN];
    ps_dtype half_in[PS_PW_MAX_IN]; /* F16 or BF16 where the loop wants f32, else UNDEFINED */
    ps_dtype half_out;
    bool any_half;
    char *out;
    size_t out_size;
    ps_pw_fn fn;
    const void *arg;
} nest;

static bool can_merge(const nest *n, int d, const int64_t strides[][PS_MAX_RANK], int64_t dim) {
    for (int k = 0; k < n->n_in; k++)
        if (strides[k][d] != n->strides[k][n->rank - 1] * dim) return false;
    return true;
}

/* Fills rank, dims and strides, innermost dim first. */
static void collapse(nest *n, const ps_shape *out, const ps_tensor *const *in) {
    int64_t strides[PS_PW_MAX_IN][PS_MAX_RANK] = { 0 };
    for (int k = 0; k < n->n_in; k++) {
        const ps_shape *s = &in[k]->shape;
        int64_t own[PS_MAX_RANK];
        ps_shape_strides(s, own);
        for (int d = 0; d < s->rank; d++)
            strides[k][d + out->rank - s->rank] = s->dims[d] == 1 ? 0 : own[d];
    }
    n->rank = 0;
    for (int d = out->rank - 1; d >= 0; d--) {
        if (out->dims[d] == 1) continue;
        if (n->rank && can_merge(n, d, (const int64_t(*)[PS_MAX_RANK])strides, n->dims[n->rank - 1])) {
            n->dims[n->rank - 1] *= out->dims[d];
            continue;
        }
        n->dims[n->rank] = out->dims[d];
        for (int k = 0; k < n->n_in; k++)
            n->strides[k][n->rank] = strides[k][d];
        n->rank++;
    }
    if (!n->rank) { /* a single element */
        n->dims[0] = n->rank = 1;
        for (int k = 0; k < n->n_in; k++)
            n->strides[k][0] = 0;
    }
}

static void widen(ps_dtype t, const void *src, float *dst, size_t n) {
    if (t == PS_DTYPE_F16)
        ps_f16_to_f32_row(src, dst, n);
    else
        ps_bf16_to_f32_row(src, dst, n);
}

static void narrow(ps_dtype t, const float *src, uint16_t *dst, size_t n) {
    if (t == PS_DTYPE_F16) {
        ps_f32_to_f16_row(src, dst, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        dst[i] = ps_f32_to_bf16(src[i]);
}

/* A span with f16 or bf16 operands, through f32 pieces on the stack. */
static void run_half(const nest *n, const ps_pw_span *span) {
    float in[PS_PW_MAX_IN][HALF_CHUNK], out[HALF_CHUNK];
    for (int64_t at = 0; at < span->n; at += HALF_CHUNK) {
        const int64_t count = span->n - at < HALF_CHUNK ? span->n - at : HALF_CHUNK;
        ps_pw_span part = *span;
        part.n = count;
        for (int k = 0; k < n->n_in; k++) {
            const char *src = (const char *)span->in[k] + (size_t)(at * span->step[k]) * n->in_size[k];
            part.in[k] = src;
            if (!n->half_in[k]) continue;
            widen(n->half_in[k], src, in[k], span->step[k] ? (size_t)count : 1);
            part.in[k] = in[k];
        }
        char *dst = (char *)span->out + (size_t)at * n->out_size;
        part.out = n->half_out ? (void *)out : dst;
        n->fn(&part);
        if (n->half_out) narrow(n->half_out, out, (uint16_t *)(void *)dst, (size_t)count);
    }
}

/* Output elements [begin, end). */
static void run_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const nest *n = ctx;
    int64_t index[PS_MAX_RANK], offset[PS_PW_MAX_IN] = { 0 }, rest = begin;
    for (int d = 0; d < n->rank; d++) {
        index[d] = rest % n->dims[d];
        rest /= n->dims[d];
        for (int k = 0; k < n->n_in; k++)
            offset[k] += index[d] * n->strides[k][d];
    }
    for (int64_t at = begin; at < end;) {
        ps_pw_span span = { .arg = n->arg, .out = n->out + (size_t)at * n->out_size };
        const int64_t left = n->dims[0] - index[0];
        span.n = left < end - at ? left : end - at;
        for (int k = 0; k < n->n_in; k++) {
            span.in[k] = n->in[k] + (size_t)offset[k] * n->in_size[k];
            span.step[k] = n->strides[k][0] != 0;
        }
        if (n->any_half)
            run_half(n, &span);
        else
            n->fn(&span);
        at += span.n;
        for (int k = 0; k < n->n_in; k++)
            offset[k] -= index[0] * n->strides[k][0];
        index[0] = 0;
        for (int d = 1; d < n->rank; d++) { /* odometer */
            index[d]++;
            for (int k = 0; k < n->n_in; k++)
                offset[k] += n->strides[k][d];
            if (index[d] < n->dims[d]) break;
            for (int k = 0; k < n->n_in; k++)
                offset[k] -= index[d] * n->strides[k][d];
            index[d] = 0;
        }
    }
}

static bool is_half(ps_dtype t) {
    return t == PS_DTYPE_F16 || t == PS_DTYPE_BF16;
}

static ps_pw_fn find_loop(const ps_pw_loop *loops, ps_dtype t) {
    for (; loops->fn; loops++)
        if (loops->dtype == t) return loops->fn;
    return NULL;
}

ps_status ps_pw_run_tensors(const ps_kernel_ctx *ctx, const ps_pw_loop *loops, const ps_tensor *const *in, size_t n_in,
                            size_t key, ps_tensor *out, ps_error *err) {
    char label[256];
    nest n = { .n_in = (int)n_in, .arg = ctx->params, .out = out->data, .out_size = ps_dtype_size(out->dtype) };
    const ps_dtype type = in[key]->dtype;
    n.fn = find_loop(loops, type);
    const bool widened = !n.fn && is_half(type);
    if (widened) n.fn = find_loop(loops, PS_DTYPE_F32);
    PS_FAIL_IF(!n.fn, err, TYPE, "%s: no kernel for elements of type %s", ps_node_label(ctx->node, label, sizeof label),
               ps_dtype_name(type));
    for (size_t k = 0; k < n_in; k++) {
        n.in[k] = in[k]->data;
        n.in_size[k] = ps_dtype_size(in[k]->dtype);
        if (widened && is_half(in[k]->dtype)) n.half_in[k] = in[k]->dtype;
    }
    if (widened && is_half(out->dtype)) n.half_out = out->dtype;
    n.any_half = widened;
    int64_t count = 0;
    PS_FAIL_IF(!ps_shape_elements(&out->shape, &count), err, INTERNAL, "%s: output shape is not fixed",
               ps_node_label(ctx->node, label, sizeof label));
    if (!count) return PS_OK;
    collapse(&n, &out->shape, in);
    ps_parallel_for(count, GRAIN, ctx->threads, run_range, &n);
    return PS_OK;
}

ps_status ps_pw_run(const ps_kernel_ctx *ctx, const ps_pw_loop *loops, size_t n_in, size_t key, ps_error *err) {
    return ps_pw_run_tensors(ctx, loops, ctx->in, n_in, key, ctx->out[0], err);
}
