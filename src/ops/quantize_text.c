/* quantize_text.c - of com.microsoft, quantised parts of text models: QAttention, QEmbedLayerNormalization,
 * DynamicQuantizeLSTM. */
#include <float.h>
#include <math.h>

#include "ops/facts.h"
#include "ops/move.h"
#include "ops/params.h"
#include "ops/quant.h"
#include "ops/softmax.h"

/* ---- QAttention: self-attention whose projection is an integer product ---- */

typedef struct qattention_params {
    int64_t num_heads, unidirectional, past_present_share_buffer, do_rotary;
    float scale, mask_filter_value;
} qattention_params;

static const ps_attr_def qattention_attrs[] = {
    PS_A_INT_REQ(qattention_params, num_heads),
    PS_A_INT(qattention_params, unidirectional, 0),
    PS_A_INT(qattention_params, past_present_share_buffer, 0),
    PS_A_INT(qattention_params, do_rotary, 0),
    PS_A_FLOAT(qattention_params, scale, 0), /* 0: 1 / sqrt(head size) */
    PS_A_FLOAT(qattention_params, mask_filter_value, -10000.0f),
    PS_ATTRS_END,
};

enum { QA_X, QA_W, QA_BIAS, QA_X_SCALE, QA_W_SCALE, QA_MASK, QA_X_ZERO, QA_W_ZERO, QA_PAST };

static ps_status qattention_types(const ps_node *node, ps_error *err) {
    const qattention_params *p = node->params;
    PS_NODE_FAIL_IF(p->do_rotary || p->past_present_share_buffer, node, err, UNSUPPORTED,
                    "do_rotary and past_present_share_buffer must be 0");
    PS_NODE_FAIL_IF(p->num_heads < 1, node, err, INVALID, "num_heads is %lld, it must be at least 1",
                    (long long)p->num_heads);
    PS_TRY(ps_check_8bit(node, QA_X, err));
    PS_TRY(ps_check_8bit(node, QA_W, err));
    static const size_t floats[] = { QA_BIAS, QA_X_SCALE, QA_W_SCALE, QA_PAST };
    for (size_t k = 0; k < sizeof floats / sizeof floats[0]; k++)
        PS_TRY(ps_check_type(node, floats[k], PS_DTYPE_F32, err));
    PS_TRY(ps_check_type(node, QA_MASK, PS_DTYPE_I32, err));
    PS_TRY(ps_check_same_type(node, QA_X_ZERO, QA_X, err));
    return ps_check_same_type(node, QA_W_ZERO, QA_W, err);
}

/* Lengths [B] or [2 B]; 0 and 1 for each position as [B, T] or [B, S, T]. */
static ps_status check_mask(const ps_node *node, int64_t batch, int64_t seq, int64_t total, ps_error *err) {
    if (!ps_in_known(node, QA_MASK)) return PS_OK;
    const ps_shape *m = &node->in[QA_MASK]->shape;
    PS_NODE_FAIL_IF(m->rank < 1 || m->rank > 3, node, err, SHAPE,
                    "the mask has shape %s, it must be [batch], [2 batch], [batch, total] or [batch, sequence, total]",
                    PS_SHAPE_TEXT(m));
    bool ok = m->dims[0] < 0 || batch < 0 || m->dims[0] == batch || (m->rank == 1 && m->dims[0] == 2 * batch);
    const int64_t last = m->dims[m->rank - 1];
    if (m->rank > 1) ok = ok && (last < 0 || total < 0 || last == total);
    if (m->rank == 3) ok = ok && (m->dims[1] < 0 || seq < 0 || m->dims[1] == seq);
    PS_NODE_FAIL_IF(!ok, node, err, SHAPE, "the mask has shape %s; batch is %lld, sequence %lld, total %lld",
                    PS_SHAPE_TEXT(m), (long long)batch, (long long)seq, (long long)total);
    return PS_OK;
}

static ps_status check_weights(const ps_node *node, int64_t *ret_hidden, ps_error *err) {
    const qattention_params *p = node->params;
    *ret_hidden = PS_DIM_UNKNOWN;
    PS_TRY(ps_check_rank(node, QA_X, 3, err));
    PS_TRY(ps_check_rank(node, QA_W, 2, err));
    PS_TRY(ps_check_rank(node, QA_BIAS, 1, err));
    if (!ps_in_known(node, QA_W)) return PS_OK;
    const int64_t *w = node->in[QA_W]->shape.dims, columns = w[1];
    PS_TRY(ps_check_dim(node, QA_X, 2, w[0], "the number of rows of the weights", err));
    PS_TRY(ps_check_dim(node, QA_BIAS, 0, columns, "the number of columns of the weights", err));
    if (columns < 0) return PS_OK;
    PS_NODE_FAIL_IF(columns % 3 || columns / 3 % p->num_heads, node, err, SHAPE,
                    "the weights have %lld columns, there must be 3 x %lld heads x head size", (long long)columns,
                    (long long)p->num_heads);
    PS_TRY(ps_check_param(node, QA_W_SCALE, columns, err));
    PS_TRY(ps_check_param(node, QA_W_ZERO, columns, err));
    *ret_hidden = columns / 3;
    return PS_OK;
}

static ps_status qattention_infer(const ps_node *node, ps_error *err) {
    const qattention_params *p = node->params;
    int64_t hidden, batch = PS_DIM_UNKNOWN, seq = PS_DIM_UNKNOWN, past = ps_has_in(node, QA_PAST) ? PS_DIM_UNKNOWN : 0;
    PS_TRY(qattention_types(node, err));
    PS_TRY(check_weights(node, &hidden, err));
    PS_TRY(ps_check_param(node, QA_X_SCALE, 1, err));
    PS_TRY(ps_check_param(node, QA_X_ZERO, 1, err));
    if (ps_in_known(node, QA_X)) {
        batch = node->in[QA_X]->shape.dims[0];
        seq = node->in[QA_X]->shape.dims[1];
    }
    const int64_t head = hidden < 0 ? PS_DIM_UNKNOWN : hidden / p->num_heads;
    PS_TRY(ps_check_rank(node, QA_PAST, 5, err));
    if (ps_in_known(node, QA_PAST)) {
        const int64_t want[5] = { 2, batch, p->num_heads, PS_DIM_UNKNOWN, head };
        for (int d = 0; d < 5; d++)
            PS_TRY(ps_check_dim(node, QA_PAST, d, want[d], "what goes with the other inputs", err));
        past = node->in[QA_PAST]->shape.dims[3];
    }
    int64_t total = PS_DIM_UNKNOWN;
    PS_NODE_FAIL_IF(seq >= 0 && past >= 0 && __builtin_add_overflow(seq, past, &total), node, err, LIMIT,
                    "%lld past and %lld new positions overflow", (long long)past, (long long)seq);
    PS_TRY(check_mask(node, batch, seq, total, err));
    const ps_shape y = ps_shape_make(3, (int64_t[]) { batch, seq, hidden });
    const ps_shape present = ps_shape_make(5, (int64_t[]) { 2, batch, p->num_heads, total, head });
    PS_TRY(ps_infer_checked(node, 0, PS_DTYPE_F32, &y, err));
    return ps_infer_checked(node, 1, PS_DTYPE_F32, &present, err);
}

typedef struct qattention_job {
    const qattention_params *p;
    ps_widened x, w, qkv; /* qkv: f64 [B, S, 3 hidden] */
    const ps_tensor *mask, *past;
    int64_t batch, seq, past_len, total, hidden, head;
    double scale;
    ps_tensor *y, *present;
    double *scratch;
} qattention_job;

/* Element of K (part 1) or V (part 2) at position t, past included. */
static double kv_at(const qattention_job *j, int part, int64_t b, int64_t h, int64_t t, int64_t i) {
    if (t < j->past_len) {
        const float *past = j->past->data;
        return (double)past[((((part - 1) * j->batch + b) * j->p->num_heads + h) * j->past_len + t) * j->head + i];
    }
    const double *qkv = j->qkv.t.data;
    return qkv[(b * j->seq + t - j->past_len) * 3 * j->hidden + part * j->hidden + h * j->head + i];
}

/* What is added to the score of query s and key t. */
static double mask_at(const qattention_job *j, int64_t b, int64_t s, int64_t t) {
    if (j->p->unidirectional && t > j->past_len + s) return -(double)FLT_MAX;
    if (!j->mask) return 0;
    const int32_t *m = j->mask->data;
    bool keep;
    if (j->mask->shape.rank == 1) {
        keep = t < m[b] && (j->mask->shape.dims[0] == j->batch || t >= m[j->batch + b]);
    } else {
        const int64_t row = j->mask->shape.rank == 2 ? b : b * j->seq + s;
        keep = m[row * j->total + t] > 0;
    }
    return keep ? 0 : (double)j->p->mask_filter_value;
}

static void attend(const qattention_job *j, int64_t b, int64_t h, int64_t s, double *score) {
    const double *q = (const double *)j->qkv.t.data + (b * j->seq + s) * 3 * j->hidden + h * j->head;
    for (int64_t t = 0; t < j->total; t++) {
        double sum = 0;
        for (int64_t i = 0; i < j->head; i++)
            sum += q[i] * kv_at(j, 1, b, h, t, i);
        score[t] = sum * j->scale + mask_at(j, b, s, t);
    }
    ps_softmax_row(score, j->total);
    float *y = (float *)j->y->data + (b * j->seq + s) * j->hidden + h * j->head;
    for (int64_t i = 0; i < j->head; i++) {
        double sum = 0;
        for (int64_t t = 0; t < j->total; t++)
            sum += score[t] * kv_at(j, 2, b, h, t, i);
        y[i] = (float)sum;
    }
}

/* Items are heads of a batch element. */
static void attend_heads(void *ctx, int64_t begin, int64_t end, int thread) {
    const qattention_job *j = ctx;
    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / j->p->num_heads, h = item % j->p->num_heads;
        for (int64_t s = 0; s < j->seq; s++)
            attend(j, b, h, s, j->scratch + thread * j->total);
        for (int part = 1; j->present && part < 3; part++) {
            const int64_t n = j->total * j->head, matrix = (part - 1) * j->batch * j->p->num_heads + item;
            float *to = (float *)j->present->data + matrix * n;
            for (int64_t k = 0; k < n; k++)
                to[k] = (float)kv_at(j, part, b, h, k / j->head, k % j->head);
        }
    }
}

/* x W scaled, plus bias, in j->qkv. */
static ps_status project(const ps_kernel_ctx *ctx, qattention_job *j, ps_error *err) {
    ps_stand_in s;
    PS_TRY(ps_widen(&j->x, ctx, ctx->in[QA_X], NULL, ps_in_tensor(ctx, QA_X_ZERO), 0, err));
    PS_TRY(ps_widen(&j->w, ctx, ctx->in[QA_W], NULL, ps_in_tensor(ctx, QA_W_ZERO), 1, err));
    const ps_shape shape = ps_shape_make(3, (int64_t[]) { j->batch, j->seq, 3 * j->hidden });
    PS_TRY(ps_widen_room(&j->qkv, ctx, PS_DTYPE_F64, &shape, err));
    ps_stand_in_init(&s, ctx->node, "MatMul", 13, NULL);
    ps_stand_in_tensor(&s, &j->x.t);
    ps_stand_in_tensor(&s, &j->w.t);
    ps_tensor *out = &j->qkv.t;
    PS_TRY(ps_stand_in_run(&s, ctx, &out, 1, err));
    const float x_scale = (float)ps_quant_at(ctx->in[QA_X_SCALE], 0, 1), *bias = ctx->in[QA_BIAS]->data;
    double *v = j->qkv.t.data;
    for (int64_t i = 0, n = (int64_t)ps_tensor_count(&j->qkv.t); i < n; i++) {
        const int64_t c = i % (3 * j->hidden);
        v[i] = (double)((float)v[i] * (x_scale * (float)ps_quant_at(ctx->in[QA_W_SCALE], c, 1)) + bias[c]);
    }
    return PS_OK;
}

static ps_status qattention_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    qattention_job j = { .p = ctx->params, .mask = ps_in_tensor(ctx, QA_MASK), .past = ps_in_tensor(ctx, QA_PAST) };
    const int64_t *x = ctx->in[QA_X]->shape.dims;
    j.batch = x[0];
    j.seq = x[1];
    j.hidden = ctx->in[QA_W]->shape.dims[1] / 3;
    j.head = j.hidden / j.p->num_heads;
    j.past_len = j.past ? j.past->shape.dims[3] : 0;
    j.total = j.past_len + j.seq;
    j.scale = j.p->scale != 0 ? (double)j.p->scale : 1 / sqrt((double)j.head);
    j.y = ctx->out[0];
    j.present = ctx->n_out > 1 ? ctx->out[1] : NULL;
    ps_status status = project(ctx, &j, err);
    const int64_t items = j.head ? j.batch * j.p->num_heads : 0;
    if (status == PS_OK && j.total)
        status = ps_parallel_scratch(ctx, items, 1, (size_t)j.total, &j.scratch, attend_heads, &j, err);
    ps_widened_release(&j.x);
    ps_widened_release(&j.w);
    ps_widened_release(&j.qkv);
    return status;
}

/* ---- QEmbedLayerNormalization ---- */

typedef struct qembed_params {
    float epsilon;
} qembed_params;

static const ps_attr_def qembed_attrs[] = { PS_A_FLOAT(qembed_params, epsilon, 1e-12f), PS_ATTRS_END };

enum { E_IDS, E_SEGMENT_IDS, E_WORD, E_POSITION, E_SEGMENT, E_GAMMA, E_BETA, E_MASK, E_SCALES, E_ZEROS = 13 };

/* The quantised tensors: words, positions, segments, gamma, beta. Scales and zero points come in this order. */
enum { N_TABLES = 5 };
static const size_t tables[N_TABLES] = { E_WORD, E_POSITION, E_SEGMENT, E_GAMMA, E_BETA };

static ps_status qembed_infer(const ps_node *node, ps_error *err) {
    int64_t hidden = PS_DIM_UNKNOWN, batch = PS_DIM_UNKNOWN, seq = PS_DIM_UNKNOWN;
    const bool segments = ps_has_in(node, E_SEGMENT_IDS);
    for (size_t k = 0; k < N_TABLES; k++) {
        const bool wanted = tables[k] != E_SEGMENT || segments;
        const size_t all[3] = { tables[k], E_SCALES + k, E_ZEROS + k };
        for (size_t i = 0; i < 3; i++)
            PS_NODE_FAIL_IF(ps_has_in(node, all[i]) != wanted, node, err, FORMAT, "input %zu is %s", all[i],
                            wanted ? "missing" : "there without segment_ids");
        if (!wanted) continue;
        PS_TRY(ps_check_8bit(node, tables[k], err));
        PS_TRY(ps_check_type(node, E_SCALES + k, PS_DTYPE_F32, err));
        PS_TRY(ps_check_same_type(node, E_ZEROS + k, tables[k], err));
        PS_TRY(ps_check_param(node, E_SCALES + k, 1, err));
        PS_TRY(ps_check_param(node, E_ZEROS + k, 1, err));
        const int rank = tables[k] < E_GAMMA ? 2 : 1;
        PS_TRY(ps_check_rank(node, tables[k], rank, err));
        PS_TRY(ps_check_dim(node, tables[k], rank - 1, hidden, "the hidden size", err));
        if (ps_in_known(node, tables[k])) hidden = ps_dim_merge(hidden, node->in[tables[k]]->shape.dims[rank - 1]);
    }
    static const size_t ids[] = { E_IDS, E_SEGMENT_IDS, E_MASK };
    for (size_t k = 0; k < 3; k++) {
        PS_TRY(ps_check_type(node, ids[k], PS_DTYPE_I32, err));
        PS_TRY(ps_check_rank(node, ids[k], 2, err));
        PS_TRY(ps_check_dim(node, ids[k], 0, batch, "the batch", err));
        PS_TRY(ps_check_dim(node, ids[k], 1, seq, "the sequence length", err));
        if (!ps_in_known(node, ids[k])) continue;
        batch = ps_dim_merge(batch, node->in[ids[k]]->shape.dims[0]);
        seq = ps_dim_merge(seq, node->in[ids[k]]->shape.dims[1]);
    }
    const ps_shape y = ps_shape_make(3, (int64_t[]) { batch, seq, hidden }), index = ps_shape_make(1, &batch);
    PS_TRY(ps_infer_checked(node, 0, PS_DTYPE_F32, &y, err));
    return ps_infer_checked(node, 1, PS_DTYPE_I32, &index, err);
}

/* Adds row `id` of a table to the sum. */
static ps_status add_row(const ps_kernel_ctx *ctx, size_t k, int64_t id, double *sum, double *row, int64_t hidden,
                         ps_error *err) {
    const ps_tensor *t = ctx->in[tables[k]];
    PS_NODE_FAIL_IF(id < 0 || id >= t->shape.dims[0], ctx->node, err, INVALID,
                    "id %lld is outside of the %lld rows of input %zu", (long long)id, (long long)t->shape.dims[0],
                    tables[k]);
    const float scale = (float)ps_quant_at(ctx->in[E_SCALES + k], 0, 1);
    const double zero = ps_quant_at(ctx->in[E_ZEROS + k], 0, 0);
    ps_row_load(row, t->dtype, t->data, id * hidden, 1, hidden);
    for (int64_t i = 0; i < hidden; i++)
        sum[i] += (double)((float)(row[i] - zero) * scale);
    return PS_OK;
}

/* Gamma (3) or beta (4) of hidden unit i. */
static double affine_at(const ps_kernel_ctx *ctx, size_t k, int64_t i) {
    double v;
    ps_row_load(&v, ctx->in[tables[k]]->dtype, ctx->in[tables[k]]->data, i, 1, 1);
    v -= ps_quant_at(ctx->in[E_ZEROS + k], 0, 0);
    return (double)((float)v * (float)ps_quant_at(ctx->in[E_SCALES + k], 0, 1));
}

static void normalize(const ps_kernel_ctx *ctx, const double *sum, int64_t hidden, float *y) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < hidden; i++)
        mean += sum[i];
    mean /= (double)hidden;
    for (int64_t i = 0; i < hidden; i++)
        variance += (sum[i] - mean) * (sum[i] - mean);
    const double factor = 1 / sqrt(variance / (double)hidden + (double)((const qembed_params *)ctx->params)->epsilon);
    for (int64_t i = 0; i < hidden; i++)
        y[i] = (float)((sum[i] - mean) * factor * affine_at(ctx, 3, i) + affine_at(ctx, 4, i));
}

static ps_status embed_rows(const ps_kernel_ctx *ctx, double *scratch, ps_error *err) {
    const ps_shape *s = &ctx->out[0]->shape;
    const int64_t seq = s->dims[1], hidden = s->dims[2];
    const int32_t *ids = ctx->in[E_IDS]->data, *segments = ctx->in[E_SEGMENT_IDS] ? ctx->in[E_SEGMENT_IDS]->data : NULL;
    double *sum = scratch, *row = scratch + hidden;
    for (int64_t r = 0; r < s->dims[0] * seq; r++) {
        memset(sum, 0, (size_t)hidden * sizeof *sum);
        PS_TRY(add_row(ctx, 0, ids[r], sum, row, hidden, err));
        PS_TRY(add_row(ctx, 1, r % seq, sum, row, hidden, err));
        if (segments) PS_TRY(add_row(ctx, 2, segments[r], sum, row, hidden, err));
        normalize(ctx, sum, hidden, (float *)ctx->out[0]->data + r * hidden);
    }
    return PS_OK;
}

static ps_status qembed_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_shape *s = &ctx->out[0]->shape;
    const int64_t batch = s->dims[0], seq = s->dims[1], hidden = s->dims[2];
    const int32_t *mask = ctx->in[E_MASK] ? ctx->in[E_MASK]->data : NULL;
    int32_t *index = ctx->out[1]->data;
    double *scratch = ps_alloc_array(ctx->alloc, 2 * (size_t)hidden + 1, sizeof *scratch);
    if (!scratch) return PS_FAIL_NOMEM(err, "an embedding");
    ps_status status = embed_rows(ctx, scratch, err);
    ps_free(ctx->alloc, scratch);
    for (int64_t b = 0; b < batch; b++) {
        index[b] = 0;
        for (int64_t i = 0; mask && i < seq; i++)
            index[b] += mask[b * seq + i] == 1;
    }
    return status;
}

/* ---- DynamicQuantizeLSTM ----
 * The weights are quantised and stored transposed. Implementations also quantise the activations on the way into each
 * product; that is a matter of speed, left to backends: here they keep their precision. */

enum { L_X, L_W, L_R, L_B, L_LENS, L_H, L_C, L_P, L_W_SCALE, L_W_ZERO, L_R_SCALE, L_R_ZERO, N_LSTM };

static const ps_attr_def lstm_attrs[] = {
    PS_A_STR(ps_lstm_params, direction, "forward"),    PS_A_INT_REQ(ps_lstm_params, hidden_size),
    PS_A_FLOAT(ps_lstm_params, clip, 0),               PS_A_STRINGS(ps_lstm_params, activations),
    PS_A_FLOATS(ps_lstm_params, activation_alpha),     PS_A_FLOATS(ps_lstm_params, activation_beta),
    PS_A_INT(ps_lstm_params, input_forget, 0),         PS_ATTRS_END,
};

/* Of [directions, in, 4 hidden]: what LSTM's weights look like. */
static ps_shape lstm_weights(const ps_shape *s) {
    return s->rank == 3 ? ps_shape_make(3, (int64_t[]) { s->dims[0], s->dims[2], s->dims[1] }) : ps_shape_unknown();
}

/* [directions] or [directions, 4 hidden] */
static ps_status check_lstm_param(const ps_node *node, size_t i, size_t of, ps_error *err) {
    if (!ps_in_known(node, i) || !ps_in_known(node, of)) return PS_OK;
    const ps_shape *s = &node->in[i]->shape, *w = &node->in[of]->shape;
    PS_NODE_FAIL_IF(s->rank != 1 && s->rank != 2, node, err, SHAPE, "input %zu has shape %s, it must have rank 1 or 2",
                    i, PS_SHAPE_TEXT(s));
    PS_TRY(ps_check_dim(node, i, 0, w->dims[0], "the number of directions", err));
    if (s->rank == 2) PS_TRY(ps_check_dim(node, i, 1, w->dims[2], "four times the hidden size", err));
    return PS_OK;
}

static ps_status lstm_infer(const ps_node *node, ps_error *err) {
    ps_stand_in s;
    ps_shape y;
    PS_TRY(ps_check_required(node, 0xF07, err)); /* x, w, r, and both pairs of scale and zero point */
    PS_TRY(ps_check_type(node, L_X, PS_DTYPE_F32, err));
    for (size_t i = L_W; i <= L_R; i++) {
        const size_t scale = i == L_W ? L_W_SCALE : L_R_SCALE;
        PS_TRY(ps_check_8bit(node, i, err));
        PS_TRY(ps_check_rank(node, i, 3, err));
        PS_TRY(ps_check_type(node, scale, PS_DTYPE_F32, err));
        PS_TRY(ps_check_same_type(node, scale + 1, i, err));
        PS_TRY(check_lstm_param(node, scale, i, err));
        PS_TRY(check_lstm_param(node, scale + 1, i, err));
    }
    ps_stand_in_init(&s, node, "LSTM", 14, node->params);
    for (size_t i = L_X; i <= L_P; i++) {
        const ps_value *v = ps_has_in(node, i) ? node->in[i] : NULL;
        const bool weights = i == L_W || i == L_R;
        ps_shape shape = !v ? ps_shape_unknown() : weights ? lstm_weights(&v->shape) : v->shape;
        ps_stand_in_add(&s, weights ? PS_DTYPE_F32 : v ? v->dtype : PS_DTYPE_UNDEFINED, v ? &shape : NULL);
    }
    PS_TRY(ps_stand_in_infer(&s, &y, err));
    for (uint32_t i = 0; i < node->n_out; i++)
        if (s.out[i]) ps_infer_set(node, i, PS_DTYPE_F32, &s.out[i]->shape);
    return PS_OK;
}

/* A scale or zero point as it broadcasts to [directions, in, 4 hidden]. */
static ps_tensor lstm_param(const ps_tensor *t) {
    const ps_shape *s = &t->shape;
    const ps_shape shape = ps_shape_make(3, (int64_t[]) { s->dims[0], 1, s->rank == 2 ? s->dims[1] : 1 });
    ps_tensor view;
    ps_tensor_init_view(&view, t->dtype, &shape, t->data);
    return view;
}

/* Dequantised and transposed. */
static ps_status lstm_widen(const ps_kernel_ctx *ctx, size_t i, size_t scale, ps_widened *ret, ps_error *err) {
    const ps_tensor s = lstm_param(ctx->in[scale]), z = lstm_param(ctx->in[scale + 1]);
    ps_widened w;
    PS_TRY(ps_widen(&w, ctx, ctx->in[i], &s, &z, -1, err));
    const ps_shape to = lstm_weights(&w.t.shape);
    ps_status status = ps_widen_room(ret, ctx, PS_DTYPE_F32, &to, err);
    if (status == PS_OK) {
        const int64_t rows = to.dims[1], columns = to.dims[2];
        ps_walk walk = { .rank = 0 };
        ps_walk_add(&walk, to.dims[0], rows * columns, rows * columns);
        ps_walk_add(&walk, rows, columns, 1);
        ps_walk_add(&walk, columns, 1, rows);
        ps_walk_copy(&walk, sizeof(float), ret->t.data, w.t.data, ctx->threads);
    }
    ps_widened_release(&w);
    return status;
}

static ps_status lstm_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_widened w = { 0 }, r = { 0 };
    ps_stand_in s;
    ps_status status = PS_OK;
    PS_TRY_OUT(lstm_widen(ctx, L_W, L_W_SCALE, &w, err));
    PS_TRY_OUT(lstm_widen(ctx, L_R, L_R_SCALE, &r, err));
    ps_stand_in_init(&s, ctx->node, "LSTM", 14, ctx->params);
    for (size_t i = L_X; i <= L_P; i++)
        ps_stand_in_tensor(&s, i == L_W ? &w.t : i == L_R ? &r.t : ctx->in[i]);
    status = ps_stand_in_run(&s, ctx, ctx->out, ctx->n_out, err);
out:
    ps_widened_release(&w);
    ps_widened_release(&r);
    return status;
}

#define MS "com.microsoft"
static const ps_op ops[] = {
    { "QAttention", MS, 1, 5, 9, 1, 2, qattention_attrs, sizeof(qattention_params), qattention_infer, qattention_ref,
      0 },
    { "QEmbedLayerNormalization", MS, 1, 1, 18, 2, 2, qembed_attrs, sizeof(qembed_params), qembed_infer, qembed_ref,
      0 },
    { "DynamicQuantizeLSTM", MS, 1, 3, 12, 0, 3, lstm_attrs, sizeof(ps_lstm_params), lstm_infer, lstm_ref, 0 },
};
const ps_op_family ps_ops_quantize_text = PS_OP_FAMILY("quantize_text", ops);
