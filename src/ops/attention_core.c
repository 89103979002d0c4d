/* attention_core.c - see attention_core.h. (Vaswani et al., arXiv:1706.03762; grouped heads: arXiv:2305.13245.) */
#include "ops/attention_core.h"

#include <math.h>

#include "ops/softmax.h"

ps_heads ps_heads_4d(const ps_tensor *t) {
    const int64_t *d = t->shape.dims;
    return (ps_heads) { t, d[0], d[1], d[2], d[3], 0, d[1] * d[2] * d[3], d[2] * d[3], d[3] };
}

ps_heads ps_heads_3d(const ps_tensor *t, int64_t heads) {
    const int64_t *d = t->shape.dims;
    int64_t depth = heads ? d[2] / heads : 0;
    return (ps_heads) { t, d[0], heads, d[1], depth, 0, d[1] * d[2], depth, d[2] };
}

ps_status ps_heads_alloc(ps_alloc_state *alloc, int64_t batch, int64_t heads, int64_t rows, int64_t depth, double **ret,
                         ps_error *err) {
    ps_shape s = ps_shape_make(4, (int64_t[]) { batch, heads, rows, depth });
    int64_t n;
    *ret = ps_shape_elements(&s, &n) ? ps_alloc_array(alloc, (size_t)n, sizeof(double)) : NULL;
    if (!*ret) return PS_FAIL_NOMEM(err, "attention heads");
    for (int64_t i = 0; i < n; i++)
        (*ret)[i] = 0;
    return PS_OK;
}

void ps_heads_load(const ps_heads *h, double *dst, int64_t total, int64_t at) {
    for (int64_t b = 0; b < h->batch; b++)
        for (int64_t k = 0; k < h->heads; k++)
            for (int64_t s = 0; s < h->rows; s++)
                ps_row_load(dst + ((b * h->heads + k) * total + at + s) * h->depth, h->tensor->dtype, h->tensor->data,
                            h->first + b * h->batch_step + k * h->head_step + s * h->row_step, 1, h->depth);
}

void ps_round_row(ps_dtype type, double *x, int64_t n) {
    uint16_t half;
    if (type != PS_DTYPE_F16 && type != PS_DTYPE_BF16) return;
    for (int64_t i = 0; i < n; i++) {
        ps_row_store(&half, type, 0, 1, x + i, 1);
        ps_row_load(x + i, type, &half, 0, 1, 1);
    }
}

void ps_attn_output_4d(ps_attn *a, ps_tensor *y) {
    a->y = y;
    a->y_row = a->depth_v;
    a->y_head = a->rows * a->depth_v;
    a->y_batch = a->heads * a->y_head;
}

void ps_attn_output_3d(ps_attn *a, ps_tensor *y) {
    a->y = y;
    a->y_head = a->depth_v;
    a->y_row = a->heads * a->depth_v;
    a->y_batch = a->rows * a->y_row;
}

ps_status ps_attn_set_bias(ps_attn *a, const ps_node *node, const ps_tensor *bias, ps_error *err) {
    a->bias = bias;
    if (!bias) return PS_OK;
    char text[128];
    int rank = bias->shape.rank;
    ps_shape to = ps_shape_make(4, (int64_t[]) { a->batch, a->heads, a->rows, a->cols });
    if (rank > 0 && bias->shape.dims[rank - 1] < a->cols) to.dims[3] = bias->shape.dims[rank - 1];
    PS_NODE_FAIL_IF(rank > 4 || !ps_bcast_init(&a->bias_view, bias, &to), node, err, SHAPE,
                    "the mask of shape %s does not broadcast to [%lld,%lld,%lld,%lld]",
                    ps_shape_text(&bias->shape, text, sizeof text), (long long)a->batch, (long long)a->heads,
                    (long long)a->rows, (long long)a->cols);
    return PS_OK;
}

/* What is added to the scores of one query. */
static void fill_bias(const ps_attn *a, int64_t item, double *bias) {
    int64_t row = item % a->rows, head = item / a->rows % a->heads, batch = item / a->rows / a->heads;
    int64_t given = a->bias ? a->bias_view.dims[3] : a->cols;
    for (int64_t j = 0; j < a->cols; j++)
        bias[j] = j < given ? 0 : -INFINITY;
    if (a->bias) ps_bcast_load(&a->bias_view, item * given, given, bias);
    if (a->bias && a->bias->dtype == PS_DTYPE_BOOL)
        for (int64_t j = 0; j < given; j++)
            bias[j] = bias[j] != 0 ? 0 : -INFINITY;
    if (a->mask) a->mask(a, batch, head, row, bias);
}

static void put_scores(const ps_attn *a, ps_attn_stage stage, int64_t item, const double *scores) {
    if (a->scores && a->stage == stage)
        ps_row_store(a->scores->data, a->scores->dtype, item * a->cols, 1, scores, a->cols);
}

static void cap(const ps_attn *a, double *x) {
    if (a->softcap == 0) return;
    for (int64_t j = 0; j < a->cols; j++)
        x[j] /= a->softcap;
    ps_round_row(a->type, x, a->cols);
    for (int64_t j = 0; j < a->cols; j++)
        x[j] = tanh(x[j]);
    ps_round_row(a->type, x, a->cols);
    for (int64_t j = 0; j < a->cols; j++)
        x[j] *= a->softcap;
    ps_round_row(a->type, x, a->cols);
}

static bool all_hidden(const double *x, int64_t n) {
    for (int64_t j = 0; j < n; j++)
        if (x[j] != -INFINITY) return false;
    return true;
}

/* `x` has room for one more entry, where the logit of the sink stands meanwhile. */
static void normalize(const ps_attn *a, int64_t head, double *x) {
    int64_t n = a->cols;
    ps_round_row(a->softmax_type, x, n);
    if (a->sink || a->smooth) x[n++] = a->sink ? a->sink[head] : 0;
    if (all_hidden(x, n))
        memset(x, 0, (size_t)n * sizeof *x);
    else
        ps_softmax_row_as(a->softmax_type, x, n);
    ps_round_row(a->type, x, a->cols);
}

/* Items are (batch, head, query). */
static void attend(void *ctx, int64_t begin, int64_t end, int thread) {
    ps_attn *a = ctx;
    double *x = a->scratch + (int64_t)thread * (2 * a->cols + 1 + a->depth_v), *bias = x + a->cols + 1,
           *acc = bias + a->cols;
    for (int64_t item = begin; item < end; item++) {
        int64_t row = item % a->rows, head = item / a->rows % a->heads, batch = item / a->rows / a->heads;
        int64_t kv = batch * a->kv_heads + head / (a->heads / a->kv_heads);
        const double *q = a->q + item * a->depth, *k = a->k + kv * a->cols * a->depth,
                     *v = a->v + kv * a->cols * a->depth_v;
        for (int64_t j = 0; j < a->cols; j++) {
            double sum = 0;
            for (int64_t d = 0; d < a->depth; d++)
                sum += q[d] * k[j * a->depth + d];
            x[j] = sum;
        }
        ps_round_row(a->type, x, a->cols);
        if (a->scale != 1) {
            for (int64_t j = 0; j < a->cols; j++)
                x[j] *= a->scale;
            ps_round_row(a->type, x, a->cols);
        }
        put_scores(a, PS_ATTN_RAW, item, x);
        cap(a, x);
        put_scores(a, PS_ATTN_CAPPED, item, x);
        fill_bias(a, item, bias);
        for (int64_t j = 0; j < a->cols; j++)
            x[j] += bias[j];
        ps_round_row(a->type, x, a->cols);
        put_scores(a, PS_ATTN_BIASED, item, x);
        if (all_hidden(bias, a->cols)) /* also where a score is NaN or +inf */
            memset(x, 0, (size_t)a->cols * sizeof *x);
        else
            normalize(a, head, x);
        put_scores(a, PS_ATTN_SOFTMAX, item, x);
        for (int64_t d = 0; d < a->depth_v; d++)
            acc[d] = 0;
        for (int64_t j = 0; j < a->cols; j++)
            for (int64_t d = 0; d < a->depth_v; d++)
                acc[d] += x[j] * v[j * a->depth_v + d];
        ps_row_store(a->y->data, a->y->dtype, batch * a->y_batch + head * a->y_head + row * a->y_row, 1, acc,
                     a->depth_v);
    }
}

ps_status ps_attn_run(ps_attn *a, const ps_kernel_ctx *ctx, ps_error *err) {
    int64_t items = a->batch * a->heads * a->rows;
    size_t room;
    if (items == 0) return PS_OK;
    if (ps_mul_overflow_size((size_t)a->cols, 2, &room) || ps_add_overflow_size(room, (size_t)a->depth_v + 1, &room))
        return PS_FAIL_NOMEM(err, "attention scores");
    return ps_parallel_scratch(ctx, items, 1, room, &a->scratch, attend, a, err);
}

void ps_attn_free(ps_attn *a, ps_alloc_state *alloc) {
    ps_free(alloc, a->q);
    ps_free(alloc, a->k);
    ps_free(alloc, a->v);
    a->q = a->k = a->v = NULL;
}
