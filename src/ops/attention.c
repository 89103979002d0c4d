/* attention.c - ai.onnx Attention: 3-D and 4-D inputs, grouped heads, masks, caches inside and outside, windows.
 *
 * The operator is a function of ONNX; f16 and bf16 are rounded where its body has a node, so that it agrees with the
 * body written out. */
#include <math.h>

#include "ops/attention_core.h"
#include "ops/facts.h"

typedef struct attention_params {
    float scale, softcap; /* scale: NaN where it is not given */
    int64_t is_causal, q_num_heads, kv_num_heads, softmax_precision, qk_matmul_output_mode;
    int64_t left_window_size, right_window_size; /* since 25 */
} attention_params;

#define ATTENTION_ATTRS                                                                                                \
    PS_A_FLOAT(attention_params, scale, NAN), PS_A_FLOAT(attention_params, softcap, 0),                                \
        PS_A_INT(attention_params, is_causal, 0), PS_A_INT(attention_params, q_num_heads, 0),                          \
        PS_A_INT(attention_params, kv_num_heads, 0), PS_A_INT(attention_params, softmax_precision, 0),                 \
        PS_A_INT(attention_params, qk_matmul_output_mode, 0)
static const ps_attr_def attention_attrs[] = { ATTENTION_ATTRS, PS_ATTRS_END };
static const ps_attr_def window_attrs[] = {
    ATTENTION_ATTRS,
    PS_A_INT(attention_params, left_window_size, -1),
    PS_A_INT(attention_params, right_window_size, -1),
    PS_ATTRS_END,
};

enum { Q, K, V, MASK, PAST_KEY, PAST_VALUE, LENGTHS };

/* Extents; negative where they are not known. */
typedef struct extents {
    bool flat; /* 3-D inputs */
    int64_t batch, heads, kv_heads, rows, fresh, past, cols, depth, depth_v;
} extents;

static ps_status split_width(const ps_node *node, size_t i, int64_t width, int64_t heads, int64_t *ret, ps_error *err) {
    PS_NODE_FAIL_IF(heads < 1, node, err, INVALID, "q_num_heads and kv_num_heads must be at least 1 for 3-D inputs");
    PS_NODE_FAIL_IF(width >= 0 && width % heads, node, err, SHAPE,
                    "%lld heads do not divide the %lld columns of input %zu", (long long)heads, (long long)width, i);
    *ret = width >= 0 ? width / heads : PS_DIM_UNKNOWN;
    return PS_OK;
}

static int64_t known_dim(const ps_node *node, size_t i, int d) {
    return ps_in_known(node, i) ? node->in[i]->shape.dims[d] : PS_DIM_UNKNOWN;
}

/* Of 3-D inputs [B, S, H*D]. */
static ps_status flat_extents(const ps_node *node, const attention_params *p, extents *e, ps_error *err) {
    int64_t depth_k = PS_DIM_UNKNOWN;
    e->flat = true;
    e->heads = p->q_num_heads;
    e->kv_heads = p->kv_num_heads;
    PS_TRY(split_width(node, Q, known_dim(node, Q, 2), e->heads, &e->depth, err));
    PS_TRY(split_width(node, K, known_dim(node, K, 2), e->kv_heads, &depth_k, err));
    PS_TRY(split_width(node, V, known_dim(node, V, 2), e->kv_heads, &e->depth_v, err));
    PS_NODE_FAIL_IF(e->depth >= 0 && depth_k >= 0 && e->depth != depth_k, node, err, SHAPE,
                    "heads of Q have %lld columns, those of K %lld", (long long)e->depth, (long long)depth_k);
    e->depth = ps_dim_merge(e->depth, depth_k);
    e->rows = known_dim(node, Q, 1);
    e->fresh = ps_dim_merge(known_dim(node, K, 1), known_dim(node, V, 1));
    return ps_check_dim(node, V, 1, known_dim(node, K, 1), "the length of K", err);
}

/* Of 4-D inputs [B, H, S, D]. */
static ps_status deep_extents(const ps_node *node, extents *e, ps_error *err) {
    PS_TRY(ps_check_dim(node, V, 1, known_dim(node, K, 1), "the number of heads of K", err));
    PS_TRY(ps_check_dim(node, V, 2, known_dim(node, K, 2), "the length of K", err));
    PS_TRY(ps_check_dim(node, K, 3, known_dim(node, Q, 3), "the head size of Q", err));
    e->flat = false;
    e->heads = known_dim(node, Q, 1);
    e->kv_heads = ps_dim_merge(known_dim(node, K, 1), known_dim(node, V, 1));
    e->rows = known_dim(node, Q, 2);
    e->fresh = ps_dim_merge(known_dim(node, K, 2), known_dim(node, V, 2));
    e->depth = ps_dim_merge(known_dim(node, Q, 3), known_dim(node, K, 3));
    e->depth_v = known_dim(node, V, 3);
    return PS_OK;
}

static ps_status cache_extents(const ps_node *node, extents *e, ps_error *err) {
    bool past = ps_has_in(node, PAST_KEY);
    PS_NODE_FAIL_IF(past != ps_has_in(node, PAST_VALUE), node, err, INVALID,
                    "past_key and past_value must be given together");
    PS_NODE_FAIL_IF(past && ps_has_in(node, LENGTHS), node, err, INVALID,
                    "nonpad_kv_seqlen and past_key exclude each other");
    e->past = 0;
    if (past) {
        for (size_t i = PAST_KEY; i <= PAST_VALUE; i++) {
            PS_TRY(ps_check_rank(node, i, 4, err));
            PS_TRY(ps_check_dim(node, i, 0, e->batch, "the batch of Q", err));
            PS_TRY(ps_check_dim(node, i, 1, e->kv_heads, "the number of key heads", err));
            PS_TRY(ps_check_dim(node, i, 3, i == PAST_KEY ? e->depth : e->depth_v, "the head size", err));
        }
        PS_TRY(ps_check_dim(node, PAST_VALUE, 2, known_dim(node, PAST_KEY, 2), "the length of past_key", err));
        e->past = ps_dim_merge(known_dim(node, PAST_KEY, 2), known_dim(node, PAST_VALUE, 2));
    }
    PS_NODE_FAIL_IF(e->past > INT64_MAX / 4 || e->fresh > INT64_MAX / 4, node, err, LIMIT, "the sequence is too long");
    e->cols = !past ? e->fresh : e->past >= 0 && e->fresh >= 0 ? e->past + e->fresh : PS_DIM_UNKNOWN;
    return PS_OK;
}

static ps_status find_extents(const ps_node *node, extents *e, ps_error *err) {
    const attention_params *p = node->params;
    int rank = 0;
    for (size_t i = Q; i <= V; i++) {
        if (!ps_in_known(node, i)) continue;
        int r = node->in[i]->shape.rank;
        PS_NODE_FAIL_IF((r != 3 && r != 4) || (rank && r != rank), node, err, SHAPE,
                        "input %zu has rank %d; Q, K and V must all have rank 3 or all rank 4", i, r);
        rank = r;
    }
    *e = (extents) { .batch = PS_DIM_UNKNOWN };
    for (size_t i = Q; rank && i <= V; i++) {
        PS_TRY(ps_check_dim(node, i, 0, e->batch, "the batch of Q", err));
        e->batch = ps_dim_merge(e->batch, known_dim(node, i, 0));
    }
    if (rank == 3)
        PS_TRY(flat_extents(node, p, e, err));
    else if (rank == 4)
        PS_TRY(deep_extents(node, e, err));
    else
        e->heads = e->kv_heads = e->rows = e->fresh = e->depth = e->depth_v = PS_DIM_UNKNOWN;
    PS_NODE_FAIL_IF(e->heads >= 0 && e->kv_heads >= 0 && (e->kv_heads < 1 || e->heads % e->kv_heads), node, err, SHAPE,
                    "%lld query heads cannot share %lld key heads", (long long)e->heads, (long long)e->kv_heads);
    PS_TRY(cache_extents(node, e, err));
    if (!rank) e->cols = PS_DIM_UNKNOWN;
    return PS_OK;
}

static bool has_window(const ps_node *node) {
    return node->op->since >= 25;
}

static ps_status check_attributes(const ps_node *node, ps_error *err) {
    const attention_params *p = node->params;
    PS_NODE_FAIL_IF(has_window(node) && (p->left_window_size < -1 || p->right_window_size < -1), node, err, INVALID,
                    "window sizes are %lld and %lld, they must be -1 or more", (long long)p->left_window_size,
                    (long long)p->right_window_size);
    PS_NODE_FAIL_IF(p->qk_matmul_output_mode < 0 || p->qk_matmul_output_mode > 3, node, err, INVALID,
                    "qk_matmul_output_mode is %lld, it must be 0 to 3", (long long)p->qk_matmul_output_mode);
    PS_NODE_FAIL_IF(p->softmax_precision && (p->softmax_precision < 0 || p->softmax_precision >= PS_DTYPE_COUNT ||
                                             !ps_dtype_is_float((ps_dtype)p->softmax_precision)),
                    node, err, TYPE, "softmax_precision %lld is no float type", (long long)p->softmax_precision);
    return PS_OK;
}

static ps_status check_mask(const ps_node *node, const extents *e, ps_error *err) {
    if (!ps_in_known(node, MASK)) return PS_OK;
    const ps_shape *m = &node->in[MASK]->shape;
    const int64_t scores[] = { e->batch, e->heads, e->rows, e->cols };
    char text[128];
    bool ok = m->rank >= 1 && m->rank <= 4;
    for (int d = 0; ok && d < m->rank; d++) {
        int64_t have = m->dims[d], want = scores[4 - m->rank + d];
        bool last = d == m->rank - 1; /* may be shorter: the rest is hidden */
        ok = have < 0 || want < 0 || have == want || have == 1 || (last && have < want);
    }
    PS_NODE_FAIL_IF(!ok, node, err, SHAPE,
                    "the mask of shape %s does not broadcast to the scores' [%lld,%lld,%lld,%lld]",
                    ps_shape_text(m, text, sizeof text), (long long)e->batch, (long long)e->heads, (long long)e->rows,
                    (long long)e->cols);
    return PS_OK;
}

static ps_status attention_infer(const ps_node *node, ps_error *err) {
    extents e = { .flat = false };
    for (size_t i = Q; i <= PAST_VALUE; i++) {
        if (i == MASK) continue;
        PS_TRY(ps_check_float(node, i, err));
        if (i == K || i == PAST_KEY) PS_TRY(ps_check_same_type(node, i, Q, err));
        if (i == PAST_VALUE) PS_TRY(ps_check_same_type(node, i, V, err));
    }
    PS_TRY(check_attributes(node, err));
    PS_TRY(find_extents(node, &e, err));
    PS_TRY(check_mask(node, &e, err));
    PS_TRY(ps_check_rank(node, LENGTHS, 1, err));
    PS_TRY(ps_check_dim(node, LENGTHS, 0, e.batch, "the batch of Q", err));
    PS_NODE_FAIL_IF(ps_has_in(node, LENGTHS) && node->in[LENGTHS]->dtype != PS_DTYPE_UNDEFINED &&
                        node->in[LENGTHS]->dtype != PS_DTYPE_I64,
                    node, err, TYPE, "nonpad_kv_seqlen is %s, it must be i64", ps_dtype_name(node->in[LENGTHS]->dtype));
    ps_dtype t = node->in[Q]->dtype, tv = node->in[V]->dtype;
    ps_shape y = ps_shape_unknown(), s;
    if (e.flat)
        y = ps_shape_make(3, (int64_t[]) { e.batch, e.rows, e.depth_v >= 0 ? e.heads * e.depth_v : PS_DIM_UNKNOWN });
    else if (ps_in_known(node, Q) || ps_in_known(node, K) || ps_in_known(node, V))
        y = ps_shape_make(4, (int64_t[]) { e.batch, e.heads, e.rows, e.depth_v });
    PS_TRY(ps_infer_checked(node, 0, t, &y, err));
    s = ps_shape_make(4, (int64_t[]) { e.batch, e.kv_heads, e.cols, e.depth });
    PS_TRY(ps_infer_checked(node, 1, t, &s, err));
    s.dims[3] = e.depth_v;
    PS_TRY(ps_infer_checked(node, 2, tv, &s, err));
    s = ps_shape_make(4, (int64_t[]) { e.batch, e.heads, e.rows, e.cols });
    return ps_infer_checked(node, 3, t, &s, err);
}

/* ---- kernel ---- */

/* Window of keys around position row + offset. */
typedef struct window {
    const int64_t *lengths; /* valid keys per batch, or NULL */
    int64_t past, left, right;
    bool causal, cache_outside;
} window;

static void hide(const ps_attn *a, int64_t batch, int64_t head, int64_t row, double *bias) {
    const window *w = a->mask_arg;
    int64_t far = a->rows + a->cols, valid = w->lengths ? w->lengths[batch] : a->cols;
    (void)head;
    valid = valid < 0 ? 0 : valid > far ? far : valid;
    int64_t at = row + (w->cache_outside ? valid - a->rows : w->past);
    int64_t left = w->left > 2 * far ? 2 * far : w->left, right = w->right > 2 * far ? 2 * far : w->right;
    for (int64_t j = 0; j < a->cols; j++)
        if (j >= valid || (w->causal && j > at) || (left >= 0 && j < at - left) || (right >= 0 && j > at + right))
            bias[j] = -INFINITY;
}

static ps_heads view(const ps_tensor *t, int64_t heads) {
    return t->shape.rank == 3 ? ps_heads_3d(t, heads) : ps_heads_4d(t);
}

/* Cache and new rows after each other; the whole goes to `present` as well. */
static ps_status load_cached(const ps_kernel_ctx *ctx, const ps_tensor *past, const ps_tensor *fresh, int64_t heads,
                             size_t present, double **ret, ps_error *err) {
    ps_heads f = view(fresh, heads);
    int64_t before = past ? past->shape.dims[2] : 0, total = before + f.rows;
    PS_TRY(ps_heads_alloc(ctx->alloc, f.batch, f.heads, total, f.depth, ret, err));
    if (past) {
        ps_heads p = ps_heads_4d(past);
        ps_heads_load(&p, *ret, total, 0);
    }
    ps_heads_load(&f, *ret, total, before);
    ps_tensor *out = present < ctx->n_out ? ctx->out[present] : NULL;
    if (out) ps_row_store(out->data, out->dtype, 0, 1, *ret, f.batch * f.heads * total * f.depth);
    return PS_OK;
}

/* Q and K are both multiplied by the root of the scale, which keeps f16 products in range. */
static void scale_heads(double *x, int64_t n, double factor, ps_dtype type) {
    for (int64_t i = 0; i < n; i++)
        x[i] *= factor;
    ps_round_row(type, x, n);
}

static const ps_tensor *input(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_in ? ctx->in[i] : NULL;
}

static ps_status attention_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const attention_params *p = ctx->params;
    const ps_tensor *past = input(ctx, PAST_KEY), *lengths = input(ctx, LENGTHS);
    ps_dtype t = ctx->in[Q]->dtype;
    ps_heads q = view(ctx->in[Q], p->q_num_heads), k = view(ctx->in[K], p->kv_num_heads),
             v = view(ctx->in[V], p->kv_num_heads);
    window w = { .lengths = lengths ? lengths->data : NULL,
                 .past = past ? past->shape.dims[2] : 0,
                 .left = has_window(ctx->node) ? p->left_window_size : -1,
                 .right = has_window(ctx->node) ? p->right_window_size : -1,
                 .causal = p->is_causal != 0,
                 .cache_outside = lengths && !past };
    ps_attn a = { .batch = q.batch,
                  .heads = q.heads,
                  .kv_heads = k.heads,
                  .rows = q.rows,
                  .cols = w.past + k.rows,
                  .depth = q.depth,
                  .depth_v = v.depth,
                  .scale = 1,
                  .softcap = (double)p->softcap,
                  .type = t,
                  .softmax_type = p->softmax_precision ? (ps_dtype)p->softmax_precision : t,
                  .mask = hide,
                  .mask_arg = &w,
                  .scores = ctx->n_out > 3 ? ctx->out[3] : NULL,
                  .stage = (ps_attn_stage)p->qk_matmul_output_mode };
    double scale = isnan(p->scale) ? 1 / sqrt((double)q.depth) : (double)p->scale, root = sqrt(scale);
    ps_round_row(t, &root, 1);
    if (ctx->in[0]->shape.rank == 3)
        ps_attn_output_3d(&a, ctx->out[0]);
    else
        ps_attn_output_4d(&a, ctx->out[0]);
    ps_status status;
    PS_TRY_OUT(ps_attn_set_bias(&a, ctx->node, input(ctx, MASK), err));
    PS_TRY_OUT(ps_heads_alloc(ctx->alloc, q.batch, q.heads, q.rows, q.depth, &a.q, err));
    PS_TRY_OUT(load_cached(ctx, past, ctx->in[K], p->kv_num_heads, 1, &a.k, err));
    PS_TRY_OUT(load_cached(ctx, input(ctx, PAST_VALUE), ctx->in[V], p->kv_num_heads, 2, &a.v, err));
    ps_heads_load(&q, a.q, q.rows, 0);
    scale_heads(a.q, a.batch * a.heads * a.rows * a.depth, root, t);
    scale_heads(a.k, a.batch * a.kv_heads * a.cols * a.depth, root, t);
    status = ps_attn_run(&a, ctx, err);
out:
    ps_attn_free(&a, ctx->alloc);
    return status;
}

#define ATTENTION(attrs) attrs, sizeof(attention_params), attention_infer, attention_ref, 0
static const ps_op ops[] = {
    { "Attention", "", 23, 3, 6, 1, 4, ATTENTION(attention_attrs) },
    { "Attention", "", 24, 3, 7, 1, 4, ATTENTION(attention_attrs) },
    { "Attention", "", 25, 3, 7, 1, 4, ATTENTION(window_attrs) },
};
const ps_op_family ps_ops_attention = PS_OP_FAMILY("attention", ops);
