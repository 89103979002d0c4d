/* contrib_group.c - attention of domain com.microsoft with grouped heads and a cache of keys and values:
 * GroupQueryAttention.
 *
 * Source: the operator schemas of ONNX Runtime 1.32; where they are silent, what its CPU kernels compute. */
#include <math.h>

#include "ops/attention_core.h"
#include "ops/contrib_heads.h"
#include "ops/facts.h"

typedef struct group_params {
    int64_t num_heads, kv_num_heads, do_rotary, rotary_interleaved, local_window_size, smooth_softmax, qk_output,
        causal, sliding_window_cache;
    float scale, softcap;
    const char *k_quant_type, *v_quant_type;
} group_params;

static const ps_attr_def group_attrs[] = {
    PS_A_INT_REQ(group_params, num_heads),
    PS_A_INT_REQ(group_params, kv_num_heads),
    PS_A_INT(group_params, do_rotary, 0),
    PS_A_INT(group_params, rotary_interleaved, 0),
    PS_A_INT(group_params, local_window_size, -1),
    PS_A_INT(group_params, smooth_softmax, 0),
    PS_A_INT(group_params, qk_output, 0),
    PS_A_INT(group_params, causal, 1),
    PS_A_INT(group_params, sliding_window_cache, 0),
    PS_A_FLOAT(group_params, scale, 0),
    PS_A_FLOAT(group_params, softcap, 0),
    PS_A_STR(group_params, k_quant_type, "NONE"),
    PS_A_STR(group_params, v_quant_type, "NONE"),
    PS_ATTRS_END,
};

enum {
    G_QUERY,
    G_KEY,
    G_VALUE,
    G_PAST_KEY,
    G_PAST_VALUE,
    G_LENGTHS,
    G_TOTAL,
    G_COS,
    G_SIN,
    G_POSITIONS,
    G_SCORES,
    G_SINK,
    G_SCALE_K,
    G_SCALE_V,
    G_NORM_Q,
    G_NORM_K,
    G_VALID
};

static ps_status group_check(const ps_node *node, ps_error *err) {
    const group_params *p = node->params;
    PS_NODE_FAIL_IF(p->num_heads < 1 || p->kv_num_heads < 1 || p->num_heads % p->kv_num_heads, node, err, INVALID,
                    "%lld query heads cannot share %lld key heads", (long long)p->num_heads,
                    (long long)p->kv_num_heads);
    PS_NODE_FAIL_IF(strcmp(p->k_quant_type, "NONE") != 0 || strcmp(p->v_quant_type, "NONE") != 0, node, err,
                    UNSUPPORTED, "a quantised cache is not supported");
    PS_NODE_FAIL_IF(p->sliding_window_cache, node, err, UNSUPPORTED, "sliding_window_cache is not supported");
    for (size_t i = G_SCALE_K; i <= G_VALID; i++)
        PS_TRY(refuse(node, i, "cache scales, head normalisation or query_seqlens", err));
    PS_NODE_FAIL_IF(!ps_has_in(node, G_LENGTHS) || !ps_has_in(node, G_TOTAL), node, err, FORMAT,
                    "seqlens_k and total_sequence_length are required");
    PS_NODE_FAIL_IF(p->do_rotary && (!ps_has_in(node, G_COS) || !ps_has_in(node, G_SIN)), node, err, INVALID,
                    "do_rotary needs cos_cache and sin_cache");
    PS_NODE_FAIL_IF(!ps_has_in(node, G_KEY) != !ps_has_in(node, G_VALUE), node, err, INVALID,
                    "key and value must be given together, or packed with the query");
    PS_NODE_FAIL_IF(ps_has_in(node, G_PAST_KEY) != ps_has_in(node, G_PAST_VALUE), node, err, INVALID,
                    "past_key and past_value must be given together");
    for (size_t i = 0; i < node->n_in; i++) {
        if (i == G_LENGTHS || i == G_TOTAL) {
            PS_TRY(check_i32(node, i, err));
        } else if (i == G_POSITIONS) {
            PS_NODE_FAIL_IF(ps_has_in(node, i) && node->in[i]->dtype != PS_DTYPE_UNDEFINED &&
                                node->in[i]->dtype != PS_DTYPE_I64,
                            node, err, TYPE, "position_ids is %s, it must be i64", ps_dtype_name(node->in[i]->dtype));
        } else {
            PS_TRY(ps_check_float(node, i, err));
            PS_TRY(ps_check_same_type(node, i, 0, err));
        }
    }
    return PS_OK;
}

static ps_status group_infer(const ps_node *node, ps_error *err) {
    const group_params *p = node->params;
    PS_TRY(group_check(node, err));
    PS_TRY(ps_check_rank(node, G_QUERY, 3, err));
    bool packed = !ps_has_in(node, G_KEY);
    int64_t batch = known_dim(node, 0, 0), rows = known_dim(node, 0, 1), depth = PS_DIM_UNKNOWN, total, past = 0;
    int64_t parts = packed ? p->num_heads + 2 * p->kv_num_heads : p->num_heads;
    PS_TRY(head_size(node, known_dim(node, 0, 2), parts, &depth, err));
    for (size_t i = G_KEY; i <= G_VALUE && !packed; i++) {
        PS_TRY(ps_check_rank(node, i, 3, err));
        PS_TRY(ps_check_dim(node, i, 0, batch, "the batch of the query", err));
        PS_TRY(ps_check_dim(node, i, 1, rows, "the length of the query", err));
        if (depth >= 0) PS_TRY(ps_check_dim(node, i, 2, p->kv_num_heads * depth, "the width of all key heads", err));
    }
    for (size_t i = G_PAST_KEY; i <= G_PAST_VALUE; i++) {
        if (!ps_has_in(node, i)) continue;
        PS_TRY(ps_check_rank(node, i, 4, err));
        PS_TRY(ps_check_dim(node, i, 0, batch, "the batch of the query", err));
        PS_TRY(ps_check_dim(node, i, 1, p->kv_num_heads, "kv_num_heads", err));
        PS_TRY(ps_check_dim(node, i, 3, depth, "the head size", err));
        PS_TRY(ps_check_dim(node, i, 2, known_dim(node, G_PAST_KEY, 2), "the length of past_key", err));
        past = known_dim(node, i, 2);
    }
    PS_TRY(ps_check_rank(node, G_LENGTHS, 1, err));
    PS_TRY(ps_check_dim(node, G_LENGTHS, 0, batch, "the batch of the query", err));
    PS_TRY(ps_check_rank(node, G_SINK, 1, err));
    PS_TRY(ps_check_dim(node, G_SINK, 0, p->num_heads, "num_heads", err));
    size_t n = 0;
    bool known = ps_const_ints(node, G_TOTAL, &total, 1, &n) && n == 1;
    int64_t keys = known && past >= 0 ? (past > total ? past : total) : PS_DIM_UNKNOWN;
    PS_NODE_FAIL_IF(known && total < 0, node, err, INVALID, "total_sequence_length is %lld", (long long)total);
    ps_shape y = ps_shape_make(3, (int64_t[]) { batch, rows, depth >= 0 ? p->num_heads * depth : PS_DIM_UNKNOWN });
    ps_shape s = ps_shape_make(4, (int64_t[]) { batch, p->kv_num_heads, keys, depth });
    ps_dtype t = node->in[0]->dtype;
    PS_TRY(ps_infer_checked(node, 0, t, &y, err));
    PS_TRY(ps_infer_checked(node, 1, t, &s, err));
    PS_TRY(ps_infer_checked(node, 2, t, &s, err));
    s = ps_shape_make(4, (int64_t[]) { batch, p->num_heads, rows, known ? total : PS_DIM_UNKNOWN });
    return ps_infer_checked(node, 3, t, &s, err);
}

typedef struct group_job {
    const ps_kernel_ctx *ctx;
    const group_params *p;
    const int32_t *lengths;    /* of the keys per batch, less one */
    int64_t rows, total, room; /* room: rows of the present */
    bool prompt;
} group_job;

static int64_t group_past(const group_job *j, int64_t batch) {
    return j->prompt ? 0 : (int64_t)j->lengths[batch] + 1 - j->rows;
}

static void group_hide(const ps_attn *a, int64_t batch, int64_t head, int64_t row, double *bias) {
    const group_job *j = a->mask_arg;
    int64_t valid = (int64_t)j->lengths[batch] + 1, end = j->p->causal ? group_past(j, batch) + row + 1 : valid,
            window = j->p->local_window_size;
    (void)head;
    if (end > valid) end = valid;
    for (int64_t k = 0; k < a->cols; k++)
        if (k >= end || (window > 0 && k < end - window)) bias[k] = -INFINITY;
}

/* Rotates the new rows of a head-major array; row s of batch b stands at `at[b] + s` of `total`. */
static ps_status group_rotate(const group_job *j, double *x, int64_t batch, int64_t heads, int64_t total, int64_t depth,
                              bool after_past, ps_error *err) {
    const ps_tensor *cosine = j->ctx->in[G_COS], *sine = j->ctx->in[G_SIN], *ids = input(j->ctx, G_POSITIONS);
    int64_t half = cosine->shape.rank == 2 ? cosine->shape.dims[1] : 0;
    const ps_node *node = j->ctx->node;
    PS_NODE_FAIL_IF(cosine->shape.rank != 2 || !ps_shape_equal(&cosine->shape, &sine->shape) || 2 * half > depth, node,
                    err, SHAPE, "cos_cache and sin_cache must be equal matrices of at most half a head's columns");
    PS_NODE_FAIL_IF(ids && ps_tensor_count(ids) < (size_t)(j->prompt ? 1 : batch * j->rows), node, err, SHAPE,
                    "position_ids does not have one number a token");
    double *c = ps_alloc_array(j->ctx->alloc, (size_t)half, 2 * sizeof(double)), *s = c + half;
    if (!c) return PS_FAIL_NOMEM(err, "a row of the rotary caches");
    ps_status status = PS_OK;
    for (int64_t b = 0; b < batch && status == PS_OK; b++)
        for (int64_t r = 0; r < j->rows; r++) {
            int64_t past = group_past(j, b), at = past + r < (int64_t)j->lengths[b] + 1 ? past + r : 1;
            if (ids && ps_tensor_count(ids) == (size_t)(batch * j->rows))
                at = ((const int64_t *)ids->data)[b * j->rows + r];
            if (at < 0 || at >= cosine->shape.dims[0]) {
                status = PS_NODE_FAIL(node, err, INVALID, "position %lld is outside of the cache's %lld rows",
                                      (long long)at, (long long)cosine->shape.dims[0]);
                break;
            }
            ps_row_load(c, cosine->dtype, cosine->data, at * half, 1, half);
            ps_row_load(s, sine->dtype, sine->data, at * half, 1, half);
            for (int64_t h = 0; h < heads; h++)
                ps_rotate(x + ((b * heads + h) * total + (after_past ? past : 0) + r) * depth, c, s, 2 * half,
                          j->p->rotary_interleaved != 0);
        }
    ps_free(j->ctx->alloc, c);
    return status;
}

/* A part of the query (packed), or the input itself. */
static ps_heads group_view(const group_job *j, size_t part, int64_t depth) {
    const group_params *p = j->p;
    const ps_tensor *t = input(j->ctx, G_KEY) ? j->ctx->in[part] : j->ctx->in[G_QUERY];
    const int64_t *d = t->shape.dims;
    int64_t heads = part == G_QUERY ? p->num_heads : p->kv_num_heads, first = 0;
    if (!input(j->ctx, G_KEY) && part != G_QUERY)
        first = (p->num_heads + (part == G_VALUE ? p->kv_num_heads : 0)) * depth;
    return (ps_heads) { t, d[0], heads, d[1], depth, first, d[1] * d[2], depth, d[2] };
}

/* Past rows, then the new ones at each batch's own place. */
static ps_status group_keys(const group_job *j, size_t part, int64_t depth, double **ret, ps_error *err) {
    const ps_tensor *past = input(j->ctx, part == G_KEY ? G_PAST_KEY : G_PAST_VALUE);
    ps_heads h = group_view(j, part, depth);
    PS_TRY(ps_heads_alloc(j->ctx->alloc, h.batch, h.heads, j->room, depth, ret, err));
    for (int64_t b = 0; b < h.batch; b++) {
        double *dst = *ret + b * h.heads * j->room * depth;
        ps_heads old = past ? ps_heads_4d(past) : h, fresh = h;
        old.batch = fresh.batch = 1;
        old.first += b * old.batch_step;
        old.rows = group_past(j, b);
        fresh.first += b * h.batch_step;
        if (past) ps_heads_load(&old, dst, j->room, 0);
        ps_heads_load(&fresh, dst, j->room, group_past(j, b));
    }
    if (part == G_KEY && j->p->do_rotary) PS_TRY(group_rotate(j, *ret, h.batch, h.heads, j->room, depth, true, err));
    return PS_OK;
}

static ps_status group_lengths(group_job *j, int64_t batch, ps_error *err) {
    const ps_node *node = j->ctx->node;
    const ps_tensor *total = j->ctx->in[G_TOTAL], *past = input(j->ctx, G_PAST_KEY);
    PS_NODE_FAIL_IF(ps_tensor_count(total) != 1, node, err, SHAPE, "total_sequence_length is no single number");
    j->total = *(const int32_t *)total->data;
    PS_NODE_FAIL_IF(j->total < 0, node, err, INVALID, "total_sequence_length is %lld", (long long)j->total);
    j->prompt = j->rows == j->total;
    j->room = past && past->shape.dims[2] > j->total ? past->shape.dims[2] : j->total;
    for (int64_t b = 0; b < batch; b++) {
        int64_t valid = (int64_t)j->lengths[b] + 1, before = group_past(j, b);
        PS_NODE_FAIL_IF(valid < 0 || valid > j->room || before < 0 || before + j->rows > j->room ||
                            before > (past ? past->shape.dims[2] : 0),
                        node, err, INVALID, "seqlens_k says %lld keys for %lld new ones and a cache of %lld",
                        (long long)valid, (long long)j->rows, (long long)j->room);
    }
    return PS_OK;
}

static ps_status group_outputs(const group_job *j, const ps_attn *a, ps_error *err) {
    ps_dtype t = j->ctx->in[0]->dtype;
    ps_shape s = ps_shape_make(4, (int64_t[]) { a->batch, a->kv_heads, j->room, a->depth });
    for (size_t i = 1; i <= 2; i++) {
        PS_TRY(ps_kernel_output(j->ctx, i, t, &s, err));
        ps_tensor *present = output(j->ctx, i);
        if (present)
            ps_row_store(present->data, t, 0, 1, i == 1 ? a->k : a->v, a->batch * a->kv_heads * j->room * a->depth);
    }
    return PS_OK;
}

/* The scores go to output 3 for `total` keys only. */
static ps_status group_scores(const group_job *j, ps_attn *a, ps_error *err) {
    if (!output(j->ctx, 3)) return PS_OK;
    PS_NODE_FAIL_IF(j->room != j->total, j->ctx->node, err, UNSUPPORTED,
                    "output_qk is not supported where the cache is longer than total_sequence_length");
    ps_shape s = ps_shape_make(4, (int64_t[]) { a->batch, a->heads, a->rows, a->cols });
    PS_TRY(ps_kernel_output(j->ctx, 3, j->ctx->in[0]->dtype, &s, err));
    a->scores = output(j->ctx, 3);
    a->stage = j->p->qk_output == 2 ? PS_ATTN_SOFTMAX : PS_ATTN_BIASED;
    return PS_OK;
}

/* Before the softmax, what a query does not see is written as 0. */
static void group_clear_hidden(const ps_attn *a) {
    if (!a->scores || a->stage != PS_ATTN_BIASED) return;
    for (int64_t i = 0; i < a->batch * a->heads * a->rows * a->cols; i++) {
        double x;
        ps_row_load(&x, a->scores->dtype, a->scores->data, i, 1, 1);
        if (x == -INFINITY) ps_row_store(a->scores->data, a->scores->dtype, i, 1, &(double) { 0 }, 1);
    }
}

static ps_status group_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const group_params *p = ctx->params;
    const int64_t *q = ctx->in[G_QUERY]->shape.dims;
    int64_t parts = input(ctx, G_KEY) ? p->num_heads : p->num_heads + 2 * p->kv_num_heads, depth = q[2] / parts;
    group_job j = { .ctx = ctx, .p = p, .lengths = ctx->in[G_LENGTHS]->data, .rows = q[1] };
    double *sink = NULL;
    PS_TRY(group_lengths(&j, q[0], err));
    ps_attn a = { .batch = q[0],
                  .heads = p->num_heads,
                  .kv_heads = p->kv_num_heads,
                  .rows = q[1],
                  .cols = j.room,
                  .depth = depth,
                  .depth_v = depth,
                  .scale = scale_or(p->scale, depth),
                  .softcap = (double)p->softcap,
                  .mask = group_hide,
                  .mask_arg = &j,
                  .smooth = p->smooth_softmax > 0 };
    ps_attn_output_3d(&a, ctx->out[0]);
    ps_status status;
    const ps_tensor *given = input(ctx, G_SINK);
    PS_TRY_OUT(ps_attn_set_bias(&a, ctx->node, input(ctx, G_SCORES), err));
    PS_TRY_OUT(ps_heads_alloc(ctx->alloc, a.batch, a.heads, a.rows, depth, &a.q, err));
    ps_heads view = group_view(&j, G_QUERY, depth);
    ps_heads_load(&view, a.q, a.rows, 0);
    if (p->do_rotary) PS_TRY_OUT(group_rotate(&j, a.q, a.batch, a.heads, a.rows, depth, false, err));
    PS_TRY_OUT(group_keys(&j, G_KEY, depth, &a.k, err));
    PS_TRY_OUT(group_keys(&j, G_VALUE, depth, &a.v, err));
    PS_TRY_OUT(group_outputs(&j, &a, err));
    PS_TRY_OUT(group_scores(&j, &a, err));
    if (given) {
        PS_TRY_OUT(ps_heads_alloc(ctx->alloc, 1, 1, 1, a.heads, &sink, err));
        ps_row_load(sink, given->dtype, given->data, 0, 1, a.heads);
        a.sink = sink;
    }
    status = ps_attn_run(&a, ctx, err);
    if (status == PS_OK) group_clear_hidden(&a);
out:
    ps_free(ctx->alloc, sink);
    ps_attn_free(&a, ctx->alloc);
    return status;
}

#define MS "com.microsoft"
static const ps_op ops[] = {
    { "GroupQueryAttention", MS, 1, 1, 17, 1, 4, group_attrs, sizeof(group_params), group_infer, group_ref, 0 },
};
const ps_op_family ps_ops_contrib_group = PS_OP_FAMILY("contrib_group", ops);
