/* contrib_attention.c - the attention operators of domain com.microsoft: Attention, MultiHeadAttention,
 * DecoderMaskedMultiHeadAttention. GroupQueryAttention: contrib_group.c.
 *
 * Source: the operator schemas of ONNX Runtime 1.32; where they are silent, what its CPU kernels compute. A hidden key
 * is not hidden altogether here: mask_filter_value (-10000) is added to its score, so that a query that may see no key
 * sees all of them alike. Keys after the query get the lowest number. */
#include <float.h>
#include <math.h>

#include "ops/attention_core.h"
#include "ops/contrib_heads.h"
#include "ops/facts.h"

static int known_rank(const ps_node *node, size_t i) {
    return ps_in_known(node, i) ? node->in[i]->shape.rank : -1;
}

static int64_t sum_dims(int64_t a, int64_t b) {
    return a >= 0 && b >= 0 && a <= INT64_MAX - b ? a + b : PS_DIM_UNKNOWN;
}

/* ---- masks ---- */

/* Key masks as the three operators before GroupQueryAttention take them. */
typedef struct key_mask {
    const ps_tensor *mask; /* i32: [B] ends, [2B] ends and starts, [B, T], [B, S, T]; or NULL */
    double filter;
    int64_t past;
    bool causal;
} key_mask;

static bool key_hidden(const key_mask *m, const ps_attn *a, int64_t batch, int64_t row, int64_t key) {
    const int32_t *v = m->mask->data;
    const ps_shape *s = &m->mask->shape;
    if (s->rank == 1) return key >= v[batch] || (s->dims[0] > a->batch && key < v[a->batch + batch]);
    int64_t width = s->dims[s->rank - 1];
    if (key >= width) return false;
    if (s->rank == 2) return v[batch * width + key] <= 0;
    return v[(batch * s->dims[1] + row) * width + key] <= 0;
}

static void hide_keys(const ps_attn *a, int64_t batch, int64_t head, int64_t row, double *bias) {
    const key_mask *m = a->mask_arg;
    (void)head;
    for (int64_t j = 0; j < a->cols; j++) {
        if (m->mask && key_hidden(m, a, batch, row, j)) bias[j] += m->filter;
        if (m->causal && j > row + m->past) bias[j] = -(double)FLT_MAX;
    }
}

/* [B], [2B], [B, T] or [B, S, T]; unknown extents pass. */
static ps_status check_key_mask(const ps_node *node, size_t i, int64_t batch, int64_t rows, int64_t keys,
                                ps_error *err) {
    PS_TRY(check_i32(node, i, err));
    int rank = known_rank(node, i);
    if (rank < 0) return PS_OK;
    char text[128];
    const int64_t *d = node->in[i]->shape.dims;
    bool ok = rank >= 1 && rank <= 3;
    if (rank == 1) ok = d[0] < 0 || batch < 0 || d[0] == batch || d[0] == 2 * batch;
    if (rank >= 2) ok &= d[0] < 0 || batch < 0 || d[0] == batch;
    if (rank >= 2) ok &= d[rank - 1] < 0 || keys < 0 || d[rank - 1] == keys;
    if (rank == 3) ok &= d[1] < 0 || rows < 0 || d[1] == rows;
    PS_NODE_FAIL_IF(!ok, node, err, SHAPE,
                    "the key mask of shape %s fits neither [batch], [batch,keys] nor "
                    "[batch,queries,keys] of %lld, %lld and %lld",
                    ps_shape_text(&node->in[i]->shape, text, sizeof text), (long long)batch, (long long)rows,
                    (long long)keys);
    return PS_OK;
}

static ps_status check_bias(const ps_node *node, size_t i, int64_t batch, int64_t heads, int64_t rows, int64_t keys,
                            ps_error *err) {
    const int64_t want[] = { batch, heads, rows, keys };
    PS_TRY(ps_check_same_type(node, i, 0, err));
    PS_TRY(ps_check_rank(node, i, 4, err));
    for (int d = 0; d < 4 && ps_in_known(node, i); d++)
        if (d >= 2 || node->in[i]->shape.dims[d] != 1)
            PS_TRY(ps_check_dim(node, i, d, want[d], "the same dim of the scores", err));
    return PS_OK;
}

/* ---- Attention: the projections are part of it ---- */

typedef struct attention_params {
    int64_t num_heads, unidirectional, do_rotary, past_present_share_buffer;
    float mask_filter_value, scale;
    ps_ints qkv_hidden_sizes;
} attention_params;

static const ps_attr_def attention_attrs[] = {
    PS_A_INT_REQ(attention_params, num_heads),
    PS_A_INT(attention_params, unidirectional, 0),
    PS_A_INT(attention_params, do_rotary, 0),
    PS_A_INT(attention_params, past_present_share_buffer, 0),
    PS_A_FLOAT(attention_params, mask_filter_value, -10000.0f),
    PS_A_FLOAT(attention_params, scale, 0),
    PS_A_INTS(attention_params, qkv_hidden_sizes),
    PS_ATTRS_END,
};

enum { A_INPUT, A_WEIGHTS, A_BIAS, A_MASK, A_PAST, A_SCORES };

/* Columns of Q, K and V in the product. */
static ps_status projection_widths(const ps_node *node, int64_t total, int64_t width[3], ps_error *err) {
    const attention_params *p = node->params;
    if (p->qkv_hidden_sizes.n) {
        const ps_ints *s = &p->qkv_hidden_sizes;
        PS_NODE_FAIL_IF(s->n != 3 || s->data[0] < 1 || s->data[0] != s->data[1] || s->data[2] < 1 ||
                            s->data[0] > INT32_MAX || s->data[2] > INT32_MAX,
                        node, err, INVALID, "qkv_hidden_sizes must be three positive numbers, the first two equal");
        memcpy(width, s->data, 3 * sizeof *width);
        PS_NODE_FAIL_IF(total >= 0 && total != width[0] + width[1] + width[2], node, err, SHAPE,
                        "the weights have %lld columns, qkv_hidden_sizes sum up to %lld", (long long)total,
                        (long long)(width[0] + width[1] + width[2]));
        return PS_OK;
    }
    PS_NODE_FAIL_IF(total >= 0 && total % 3, node, err, SHAPE,
                    "the weights have %lld columns, which is no multiple of 3", (long long)total);
    width[0] = width[1] = width[2] = total >= 0 ? total / 3 : PS_DIM_UNKNOWN;
    return PS_OK;
}

static ps_status attention_infer(const ps_node *node, ps_error *err) {
    const attention_params *p = node->params;
    int64_t width[3] = { 0 }, depth = 0, depth_v = 0, batch = known_dim(node, A_INPUT, 0),
            rows = known_dim(node, A_INPUT, 1),
            columns = ps_dim_merge(known_dim(node, A_WEIGHTS, 1), known_dim(node, A_BIAS, 0));
    PS_TRY(ps_check_floats(node, 3, err));
    PS_NODE_FAIL_IF(p->do_rotary || p->past_present_share_buffer, node, err, UNSUPPORTED,
                    "do_rotary and past_present_share_buffer are not supported");
    PS_TRY(refuse(node, 6, "past_sequence_length", err));
    PS_TRY(ps_check_rank(node, A_INPUT, 3, err));
    PS_TRY(ps_check_rank(node, A_WEIGHTS, 2, err));
    PS_TRY(ps_check_rank(node, A_BIAS, 1, err));
    PS_TRY(ps_check_dim(node, A_WEIGHTS, 0, known_dim(node, A_INPUT, 2), "the width of the input", err));
    PS_TRY(ps_check_dim(node, A_BIAS, 0, columns, "the number of columns of the weights", err));
    PS_TRY(projection_widths(node, columns, width, err));
    PS_TRY(head_size(node, width[0], p->num_heads, &depth, err));
    PS_TRY(head_size(node, width[2], p->num_heads, &depth_v, err));
    int64_t past = 0;
    if (ps_has_in(node, A_PAST)) {
        const int64_t want[] = { 2, batch, p->num_heads, PS_DIM_UNKNOWN, depth };
        PS_TRY(ps_check_same_type(node, A_PAST, 0, err));
        PS_TRY(ps_check_rank(node, A_PAST, 5, err));
        for (int d = 0; d < 5; d++)
            PS_TRY(ps_check_dim(node, A_PAST, d, want[d], "the same dim of (2, batch, heads, past, head size)", err));
        PS_NODE_FAIL_IF(depth >= 0 && depth_v >= 0 && depth != depth_v, node, err, SHAPE,
                        "with a past, heads of K and V must have the same size");
        past = known_dim(node, A_PAST, 3);
    }
    int64_t keys = sum_dims(past, rows);
    PS_TRY(check_key_mask(node, A_MASK, batch, rows, keys, err));
    PS_TRY(check_bias(node, A_SCORES, batch, p->num_heads, rows, keys, err));
    ps_shape y = ps_shape_make(3, (int64_t[]) { batch, rows, width[2] });
    ps_shape present = ps_shape_make(5, (int64_t[]) { 2, batch, p->num_heads, keys, depth });
    PS_TRY(ps_infer_checked(node, 0, node->in[0]->dtype, &y, err));
    return ps_infer_checked(node, 1, node->in[0]->dtype, &present, err);
}

/* Rows of input x weights + bias, into heads. */
typedef struct project_job {
    const ps_tensor *x, *w, *bias;
    ps_attn *a;
    int64_t past, inner, columns;
    const int64_t *width;
    double *scratch;
} project_job;

static void project_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    project_job *j = ctx;
    ps_attn *a = j->a;
    double *x = j->scratch + (int64_t)thread * (j->inner + 2 * j->columns), *y = x + j->inner, *w = y + j->columns;
    for (int64_t item = begin; item < end; item++) {
        int64_t batch = item / a->rows, row = item % a->rows;
        ps_row_load(x, j->x->dtype, j->x->data, item * j->inner, 1, j->inner);
        for (int64_t c = 0; c < j->columns; c++)
            y[c] = 0;
        if (j->bias) ps_row_load(y, j->bias->dtype, j->bias->data, 0, 1, j->columns);
        for (int64_t i = 0; i < j->inner; i++) {
            ps_row_load(w, j->w->dtype, j->w->data, i * j->columns, 1, j->columns);
            for (int64_t c = 0; c < j->columns; c++)
                y[c] += x[i] * w[c];
        }
        for (int64_t h = 0; h < a->heads; h++) {
            int64_t head = batch * a->heads + h;
            memcpy(a->q + (head * a->rows + row) * a->depth, y + h * a->depth, (size_t)a->depth * sizeof *y);
            memcpy(a->k + (head * a->cols + j->past + row) * a->depth, y + j->width[0] + h * a->depth,
                   (size_t)a->depth * sizeof *y);
            memcpy(a->v + (head * a->cols + j->past + row) * a->depth_v, y + 2 * j->width[0] + h * a->depth_v,
                   (size_t)a->depth_v * sizeof *y);
        }
    }
}

/* past [2, B, H, P, D] */
static void load_past(const ps_tensor *past, ps_attn *a) {
    const int64_t *d = past->shape.dims;
    ps_heads h = { past, d[1], d[2], d[3], d[4], 0, d[2] * d[3] * d[4], d[3] * d[4], d[4] };
    ps_heads_load(&h, a->k, a->cols, 0);
    h.first = d[1] * h.batch_step;
    ps_heads_load(&h, a->v, a->cols, 0);
}

static ps_status attention_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const attention_params *p = ctx->params;
    const ps_tensor *x = ctx->in[A_INPUT], *w = ctx->in[A_WEIGHTS], *past = input(ctx, A_PAST);
    ps_tensor *present = output(ctx, 1);
    int64_t width[3], columns = w->shape.dims[1];
    PS_TRY(projection_widths(ctx->node, columns, width, err));
    key_mask m = { input(ctx, A_MASK), (double)p->mask_filter_value, past ? past->shape.dims[3] : 0,
                   p->unidirectional != 0 };
    ps_attn a = { .batch = x->shape.dims[0],
                  .heads = p->num_heads,
                  .kv_heads = p->num_heads,
                  .rows = x->shape.dims[1],
                  .cols = m.past + x->shape.dims[1],
                  .depth = width[0] / p->num_heads,
                  .depth_v = width[2] / p->num_heads,
                  .mask = hide_keys,
                  .mask_arg = &m };
    a.scale = scale_or(p->scale, a.depth);
    project_job job = { .x = x,
                        .w = w,
                        .bias = input(ctx, A_BIAS),
                        .a = &a,
                        .past = m.past,
                        .inner = x->shape.dims[2],
                        .columns = columns,
                        .width = width };
    size_t room = (size_t)job.inner;
    ps_attn_output_3d(&a, ctx->out[0]);
    ps_status status;
    if (ps_add_overflow_size(room, 2 * (size_t)columns, &room)) return PS_FAIL_NOMEM(err, "a row of the projections");
    PS_TRY_OUT(ps_attn_set_bias(&a, ctx->node, input(ctx, A_SCORES), err));
    PS_TRY_OUT(ps_heads_alloc(ctx->alloc, a.batch, a.heads, a.rows, a.depth, &a.q, err));
    PS_TRY_OUT(ps_heads_alloc(ctx->alloc, a.batch, a.heads, a.cols, a.depth, &a.k, err));
    PS_TRY_OUT(ps_heads_alloc(ctx->alloc, a.batch, a.heads, a.cols, a.depth_v, &a.v, err));
    if (past) load_past(past, &a);
    PS_TRY_OUT(ps_parallel_scratch(ctx, a.batch * a.rows, 1, room, &job.scratch, project_rows, &job, err));
    if (present) {
        int64_t n = a.batch * a.heads * a.cols * a.depth;
        ps_row_store(present->data, present->dtype, 0, 1, a.k, n);
        ps_row_store(present->data, present->dtype, n, 1, a.v, n);
    }
    status = ps_attn_run(&a, ctx, err);
out:
    ps_attn_free(&a, ctx->alloc);
    return status;
}

/* ---- MultiHeadAttention, DecoderMaskedMultiHeadAttention: Q, K and V come projected ---- */

typedef struct multi_params {
    int64_t num_heads, unidirectional, past_present_share_buffer, output_qk;
    float mask_filter_value, scale;
} multi_params;

static const ps_attr_def multi_attrs[] = {
    PS_A_INT_REQ(multi_params, num_heads),
    PS_A_INT(multi_params, unidirectional, 0),
    PS_A_FLOAT(multi_params, mask_filter_value, -10000.0f),
    PS_A_FLOAT(multi_params, scale, 0),
    PS_ATTRS_END,
};
static const ps_attr_def decoder_attrs[] = {
    PS_A_INT_REQ(multi_params, num_heads), PS_A_INT(multi_params, past_present_share_buffer, 0),
    PS_A_INT(multi_params, output_qk, 0),  PS_A_FLOAT(multi_params, mask_filter_value, -10000.0f),
    PS_A_FLOAT(multi_params, scale, 0),    PS_ATTRS_END,
};

/* Where the inputs of the two operators stand. */
typedef struct multi_inputs {
    size_t bias, mask, scores, past_key, past_value, past_length, beam, indirection;
} multi_inputs;

static const multi_inputs multi_in = { 3, 4, 5, 6, 7, 8, 99, 9 }, decoder_in = { 10, 3, 4, 5, 6, 7, 8, 9 };

static bool is_decoder(const ps_node *node) {
    return node->op->name[0] == 'D';
}

static const multi_inputs *inputs_of(const ps_node *node) {
    return is_decoder(node) ? &decoder_in : &multi_in;
}

/* Extents and how Q, K and V lie. */
typedef struct multi_shape {
    bool packed, packed_kv, kv_heads_first; /* all in Q; K and V in K; K and V as [B, H, L, D] */
    int64_t batch, rows, fresh, past, depth, depth_v;
    bool shared; /* the past is a buffer with room for the new keys */
} multi_shape;

static ps_status multi_layout(const ps_node *node, multi_shape *m, ps_error *err) {
    const multi_params *p = node->params;
    int q = known_rank(node, 0), k = known_rank(node, 1);
    *m = (multi_shape) { .packed = !ps_has_in(node, 1), .packed_kv = ps_has_in(node, 1) && !ps_has_in(node, 2) };
    m->batch = known_dim(node, 0, 0);
    m->rows = known_dim(node, 0, 1);
    m->kv_heads_first = k == 4;
    bool flat = m->packed && is_decoder(node); /* [B, 1, 3 * H * D] */
    int want_q = m->packed && !flat ? 5 : 3;
    PS_TRY(ps_check_rank(node, 0, want_q, err));
    PS_NODE_FAIL_IF(k >= 0 && k != (m->packed_kv ? 5 : 3) && !(k == 4 && !m->packed_kv), node, err, SHAPE,
                    "the key has rank %d, which no layout of the operator has", k);
    if (m->packed && !flat) {
        PS_TRY(ps_check_dim(node, 0, 2, p->num_heads, "num_heads", err));
        PS_TRY(ps_check_dim(node, 0, 3, 3, "the number of parts", err));
        m->depth = m->depth_v = known_dim(node, 0, 4);
        m->fresh = m->rows;
        return PS_OK;
    }
    int64_t width = q == 3 ? known_dim(node, 0, 2) : PS_DIM_UNKNOWN;
    if (flat) {
        PS_NODE_FAIL_IF(width >= 0 && width % 3, node, err, SHAPE,
                        "packed Q, K and V have %lld columns, no multiple of 3", (long long)width);
        if (width >= 0) width /= 3;
    }
    PS_TRY(head_size(node, width, p->num_heads, &m->depth, err));
    if (flat) {
        m->depth_v = m->depth;
        m->fresh = m->rows;
        return PS_OK;
    }
    PS_TRY(ps_check_dim(node, 1, 0, m->batch, "the batch of the query", err));
    m->fresh = known_dim(node, 1, m->kv_heads_first ? 2 : 1);
    if (m->packed_kv) {
        PS_TRY(ps_check_dim(node, 1, 2, p->num_heads, "num_heads", err));
        PS_TRY(ps_check_dim(node, 1, 3, 2, "the number of parts", err));
        PS_TRY(ps_check_dim(node, 1, 4, m->depth, "the head size of the query", err));
        m->depth_v = m->depth;
        return PS_OK;
    }
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    if (k >= 0) PS_TRY(ps_check_rank(node, 2, k, err));
    PS_TRY(ps_check_dim(node, 2, 0, m->batch, "the batch of the query", err));
    PS_TRY(ps_check_dim(node, 2, m->kv_heads_first ? 2 : 1, m->fresh, "the length of the key", err));
    if (m->kv_heads_first) {
        PS_TRY(ps_check_dim(node, 1, 1, p->num_heads, "num_heads", err));
        PS_TRY(ps_check_dim(node, 2, 1, p->num_heads, "num_heads", err));
        PS_TRY(ps_check_dim(node, 1, 3, m->depth, "the head size of the query", err));
        m->depth_v = known_dim(node, 2, 3);
        return PS_OK;
    }
    PS_TRY(ps_check_dim(node, 1, 2, width, "the width of the query", err));
    return head_size(node, known_dim(node, 2, 2), p->num_heads, &m->depth_v, err);
}

static ps_status multi_past(const ps_node *node, multi_shape *m, ps_error *err) {
    const multi_params *p = node->params;
    const multi_inputs *in = inputs_of(node);
    bool past = ps_has_in(node, in->past_key);
    m->shared = is_decoder(node) && p->past_present_share_buffer;
    PS_NODE_FAIL_IF(past != ps_has_in(node, in->past_value), node, err, INVALID,
                    "past_key and past_value must be given together");
    PS_NODE_FAIL_IF(m->shared && past && !ps_has_in(node, in->past_length), node, err, INVALID,
                    "past_present_share_buffer needs past_sequence_length");
    PS_NODE_FAIL_IF(ps_has_in(node, in->indirection) && !m->shared, node, err, UNSUPPORTED,
                    "cache_indirection without past_present_share_buffer is not supported");
    m->past = 0;
    if (!past) return PS_OK;
    for (size_t i = in->past_key; i <= in->past_value; i++) {
        PS_TRY(ps_check_same_type(node, i, 0, err));
        PS_TRY(ps_check_rank(node, i, 4, err));
        PS_TRY(ps_check_dim(node, i, 0, m->batch, "the batch of the query", err));
        PS_TRY(ps_check_dim(node, i, 1, p->num_heads, "num_heads", err));
        PS_TRY(ps_check_dim(node, i, 3, i == in->past_key ? m->depth : m->depth_v, "the head size", err));
    }
    PS_TRY(ps_check_dim(node, in->past_value, 2, known_dim(node, in->past_key, 2), "the length of past_key", err));
    m->past = known_dim(node, in->past_key, 2);
    return PS_OK;
}

static ps_status multi_infer(const ps_node *node, ps_error *err) {
    const multi_params *p = node->params;
    const multi_inputs *in = inputs_of(node);
    multi_shape m;
    PS_TRY(ps_check_floats(node, node->n_in > 3 ? 3 : node->n_in, err));
    PS_TRY(multi_layout(node, &m, err));
    PS_TRY(multi_past(node, &m, err));
    PS_TRY(ps_check_same_type(node, in->bias, 0, err));
    PS_TRY(ps_check_rank(node, in->bias, 1, err));
    if (m.depth >= 0 && m.depth_v >= 0)
        PS_TRY(
            ps_check_dim(node, in->bias, 0, p->num_heads * (2 * m.depth + m.depth_v), "the width of Q, K and V", err));
    for (size_t i = in->past_length; i <= in->indirection; i++)
        PS_TRY(check_i32(node, i, err));
    if (!is_decoder(node)) PS_TRY(refuse(node, in->past_length, "past_sequence_length", err));
    int64_t keys = m.shared ? PS_DIM_UNKNOWN : sum_dims(m.past, m.fresh);
    PS_TRY(check_key_mask(node, in->mask, m.batch, m.rows, keys, err));
    PS_TRY(check_bias(node, in->scores, m.batch, p->num_heads, m.rows, keys, err));
    ps_dtype t = node->in[0]->dtype;
    int64_t room = m.shared && ps_has_in(node, in->past_key) ? m.past : sum_dims(m.past, m.fresh);
    ps_shape y =
        ps_shape_make(3, (int64_t[]) { m.batch, m.rows, m.depth_v >= 0 ? p->num_heads * m.depth_v : PS_DIM_UNKNOWN });
    ps_shape s = ps_shape_make(4, (int64_t[]) { m.batch, p->num_heads, room, m.depth });
    PS_TRY(ps_infer_checked(node, 0, t, &y, err));
    PS_TRY(ps_infer_checked(node, 1, t, &s, err));
    s.dims[3] = m.depth_v;
    PS_TRY(ps_infer_checked(node, 2, t, &s, err));
    s = ps_shape_make(4, (int64_t[]) { m.batch, p->num_heads, m.rows, keys });
    return ps_infer_checked(node, 3, t, &s, err);
}

/* Q, K or V (part 0 to 2) as heads. */
static ps_heads multi_view(const ps_kernel_ctx *ctx, const multi_shape *m, int part) {
    int64_t heads = ((const multi_params *)ctx->params)->num_heads;
    size_t i = m->packed ? 0 : m->packed_kv && part ? 1 : (size_t)part;
    const ps_tensor *t = ctx->in[i];
    const int64_t *d = t->shape.dims;
    if (t->shape.rank == 4) return ps_heads_4d(t);
    if (m->packed && t->shape.rank == 3) { /* [B, S, 3 * H * D] */
        int64_t width = d[2] / 3;
        return (ps_heads) { t, d[0], heads, d[1], width / heads, part * width, d[1] * d[2], width / heads, d[2] };
    }
    if (t->shape.rank == 3) return ps_heads_3d(t, heads);
    /* [B, S, H, parts, D] */
    int64_t step = d[3] * d[4], first = (m->packed ? part : part - 1) * d[4];
    return (ps_heads) { t, d[0], heads, d[1], d[4], first, d[1] * heads * step, step, heads * step };
}

/* Adds the bias's columns from `first` on to rows [at, at + rows) of each head. */
static void add_bias(const ps_tensor *bias, int64_t first, double *x, const ps_heads *h, int64_t total, int64_t at) {
    for (int64_t b = 0; b < h->batch; b++)
        for (int64_t k = 0; k < h->heads; k++)
            for (int64_t s = 0; s < h->rows; s++)
                for (int64_t d = 0; d < h->depth; d++) {
                    double v;
                    ps_row_load(&v, bias->dtype, bias->data, first + k * h->depth + d, 1, 1);
                    x[((b * h->heads + k) * total + at + s) * h->depth + d] += v;
                }
}

/* Beams share a past: the key of a token comes from the beam that wrote it. */
static void reorder_beams(const ps_tensor *past, const ps_tensor *indirection, int64_t width, double *x, int64_t total,
                          int64_t used) {
    const int64_t *d = past->shape.dims;
    const int32_t *from = indirection->data;
    int64_t length = indirection->shape.dims[2];
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t h = 0; h < d[1]; h++)
            for (int64_t s = 0; s < used && s < length; s++) {
                int64_t source = b / width * width + from[b * length + s];
                if (source < 0 || source >= d[0]) source = b;
                ps_row_load(x + ((b * d[1] + h) * total + s) * d[3], past->dtype, past->data,
                            ((source * d[1] + h) * d[2] + s) * d[3], 1, d[3]);
            }
}

/* The number of tokens in the past: its length, or what the buffer holds of them. */
static ps_status past_used(const ps_kernel_ctx *ctx, const multi_shape *m, int64_t *ret, ps_error *err) {
    const multi_inputs *in = inputs_of(ctx->node);
    const ps_tensor *past = input(ctx, in->past_key), *length = input(ctx, in->past_length);
    *ret = past ? past->shape.dims[2] : 0;
    if (!past || !m->shared) return PS_OK;
    PS_NODE_FAIL_IF(ps_tensor_count(length) != 1, ctx->node, err, SHAPE, "past_sequence_length is no single number");
    int64_t used = *(const int32_t *)length->data;
    PS_NODE_FAIL_IF(used < 0 || used + m->fresh > *ret, ctx->node, err, INVALID,
                    "past_sequence_length %lld leaves no room in a buffer of %lld", (long long)used, (long long)*ret);
    *ret = used;
    return PS_OK;
}

/* K (part 1) or V (part 2): past, then new rows with their bias; all of it to the present. */
static ps_status load_keys(const ps_kernel_ctx *ctx, const multi_shape *m, int part, int64_t used, int64_t bias_first,
                           double **ret, ps_error *err) {
    const multi_inputs *in = inputs_of(ctx->node);
    ps_heads h = multi_view(ctx, m, part);
    const ps_tensor *past = input(ctx, part == 1 ? in->past_key : in->past_value), *bias = input(ctx, in->bias),
                    *beams = input(ctx, in->indirection);
    int64_t total = used + h.rows;
    PS_TRY(ps_heads_alloc(ctx->alloc, h.batch, h.heads, total, h.depth, ret, err));
    if (past) {
        ps_heads p = ps_heads_4d(past);
        p.rows = used;
        ps_heads_load(&p, *ret, total, 0);
    }
    ps_heads_load(&h, *ret, total, used);
    if (bias && h.tensor->shape.rank != 4) add_bias(bias, bias_first, *ret, &h, total, used);
    ps_tensor *present = output(ctx, (size_t)part);
    if (present) {
        int64_t room = present->shape.dims[2];
        for (int64_t k = 0; k < h.batch * h.heads; k++) {
            if (past && m->shared) /* what the buffer holds beyond the new rows stays */
                memcpy((char *)present->data + (size_t)(k * room * h.depth) * ps_dtype_size(present->dtype),
                       (const char *)past->data + (size_t)(k * room * h.depth) * ps_dtype_size(present->dtype),
                       (size_t)(room * h.depth) * ps_dtype_size(present->dtype));
            ps_row_store(present->data, present->dtype, k * room * h.depth, 1, *ret + k * total * h.depth,
                         total * h.depth);
        }
    }
    if (past && beams) {
        const ps_tensor *width = input(ctx, in->beam);
        int64_t w = width && ps_tensor_count(width) == 1 ? *(const int32_t *)width->data : beams->shape.dims[1];
        reorder_beams(past, beams, w > 0 ? w : 1, *ret, total, used);
    }
    return PS_OK;
}

static ps_status multi_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const multi_params *p = ctx->params;
    const multi_inputs *in = inputs_of(ctx->node);
    multi_shape s = { 0 };
    s.packed = !input(ctx, 1);
    s.packed_kv = input(ctx, 1) && !input(ctx, 2);
    s.shared = is_decoder(ctx->node) && p->past_present_share_buffer;
    ps_heads q = multi_view(ctx, &s, 0), k = multi_view(ctx, &s, 1), v = multi_view(ctx, &s, 2);
    s.fresh = k.rows;
    int64_t used;
    PS_TRY(past_used(ctx, &s, &used, err));
    const ps_tensor *bias = input(ctx, in->bias), *beams = input(ctx, in->indirection);
    if (beams && (beams->shape.rank != 3 || beams->shape.dims[0] * beams->shape.dims[1] != q.batch))
        return PS_NODE_FAIL(ctx->node, err, SHAPE, "cache_indirection does not have one row a batch and beam");
    key_mask m = { input(ctx, in->mask), (double)p->mask_filter_value, used,
                   !is_decoder(ctx->node) && p->unidirectional };
    ps_attn a = { .batch = q.batch,
                  .heads = q.heads,
                  .kv_heads = q.heads,
                  .rows = q.rows,
                  .cols = used + k.rows,
                  .depth = q.depth,
                  .depth_v = v.depth,
                  .scale = scale_or(p->scale, q.depth),
                  .mask = hide_keys,
                  .mask_arg = &m,
                  .stage = PS_ATTN_BIASED };
    if (output(ctx, 3)) {
        ps_shape shape = ps_shape_make(4, (int64_t[]) { a.batch, a.heads, a.rows, a.cols });
        PS_TRY(ps_kernel_output(ctx, 3, ctx->in[0]->dtype, &shape, err));
        a.scores = output(ctx, 3);
    }
    ps_attn_output_3d(&a, ctx->out[0]);
    ps_status status;
    PS_TRY_OUT(ps_attn_set_bias(&a, ctx->node, input(ctx, in->scores), err));
    PS_TRY_OUT(ps_heads_alloc(ctx->alloc, a.batch, a.heads, a.rows, a.depth, &a.q, err));
    ps_heads_load(&q, a.q, q.rows, 0);
    if (bias) add_bias(bias, 0, a.q, &q, q.rows, 0);
    PS_TRY_OUT(load_keys(ctx, &s, 1, used, q.heads * q.depth, &a.k, err));
    PS_TRY_OUT(load_keys(ctx, &s, 2, used, 2 * q.heads * q.depth, &a.v, err));
    status = ps_attn_run(&a, ctx, err);
out:
    ps_attn_free(&a, ctx->alloc);
    return status;
}

#define MS "com.microsoft"
static const ps_op ops[] = {
    { "Attention", MS, 1, 2, 7, 1, 2, attention_attrs, sizeof(attention_params), attention_infer, attention_ref, 0 },
    { "MultiHeadAttention", MS, 1, 1, 10, 1, 4, multi_attrs, sizeof(multi_params), multi_infer, multi_ref, 0 },
    { "DecoderMaskedMultiHeadAttention", MS, 1, 1, 11, 1, 4, decoder_attrs, sizeof(multi_params), multi_infer,
      multi_ref, 0 },
};
const ps_op_family ps_ops_contrib_attention = PS_OP_FAMILY("contrib_attention", ops);
