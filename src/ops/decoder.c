/* decoder.c - what decoders of language models have around their attention: RotaryEmbedding, TensorScatter, SwiGLU,
 * LinearAttention, CausalConvWithState. */
#include <math.h>

#include "ops/attention_core.h"
#include "ops/facts.h"
#include "ops/move.h"

static int64_t known_dim(const ps_node *node, size_t i, int d) {
    return ps_in_known(node, i) ? node->in[i]->shape.dims[d] : PS_DIM_UNKNOWN;
}

static const ps_tensor *input(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_in ? ctx->in[i] : NULL;
}

static ps_status check_i64(const ps_node *node, size_t i, ps_error *err) {
    if (!ps_has_in(node, i)) return PS_OK;
    ps_dtype t = node->in[i]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_I64, node, err, TYPE, "input %zu is %s, it must be i64", i,
                    ps_dtype_name(t));
    return PS_OK;
}

/* ---- RotaryEmbedding (Su et al., arXiv:2104.09864) ---- */

typedef struct rotary_params {
    int64_t interleaved, rotary_embedding_dim, num_heads;
    float scale; /* com.microsoft */
} rotary_params;

#define ROTARY_ATTRS                                                                                                   \
    PS_A_INT(rotary_params, interleaved, 0), PS_A_INT(rotary_params, rotary_embedding_dim, 0),                         \
        PS_A_INT(rotary_params, num_heads, 0)
static const ps_attr_def rotary_attrs[] = { ROTARY_ATTRS, PS_ATTRS_END };
static const ps_attr_def rotary_ms_attrs[] = { ROTARY_ATTRS, PS_A_FLOAT(rotary_params, scale, 1), PS_ATTRS_END };

/* Where the inputs after X stand. */
typedef struct rotary_inputs {
    size_t cosine, sine, positions;
} rotary_inputs;

static bool is_ms(const ps_node *node) {
    return node->op->domain[0] != 0;
}

static rotary_inputs rotary_order(const ps_node *node) {
    return is_ms(node) ? (rotary_inputs) { 2, 3, 1 } : (rotary_inputs) { 1, 2, 3 };
}

/* Heads of a 3-D X. com.microsoft need not say: the caches tell then how long a head is. */
static int64_t rotary_heads(const rotary_params *p, int64_t width, int64_t half) {
    return p->num_heads || half <= 0 || width < 0 ? p->num_heads : width / (2 * half);
}

/* The length of what is rotated of each head; PS_DIM_UNKNOWN if that depends on unknown dims. */
static ps_status rotary_width(const ps_node *node, size_t cosine, int64_t *ret, ps_error *err) {
    const rotary_params *p = node->params;
    int rank = ps_in_known(node, 0) ? node->in[0]->shape.rank : 0;
    PS_NODE_FAIL_IF(rank && rank != 3 && rank != 4, node, err, SHAPE, "X has rank %d, it must have rank 3 or 4", rank);
    int64_t head = rank ? node->in[0]->shape.dims[rank - 1] : PS_DIM_UNKNOWN, heads = p->num_heads;
    if (rank == 3 && is_ms(node) && ps_in_known(node, cosine))
        heads = rotary_heads(p, head, node->in[cosine]->shape.dims[node->in[cosine]->shape.rank - 1]);
    PS_NODE_FAIL_IF(rank == 3 && heads < 1 && (head >= 0 || !is_ms(node)), node, err, INVALID,
                    "num_heads is %lld, it must be at least 1 where X has rank 3", (long long)heads);
    PS_NODE_FAIL_IF(rank == 3 && head >= 0 && head % heads, node, err, SHAPE,
                    "%lld heads do not divide the %lld columns of X", (long long)heads, (long long)head);
    if (rank == 3 && head >= 0) head /= heads;
    *ret = p->rotary_embedding_dim ? p->rotary_embedding_dim : head;
    if (*ret < 0 && !p->rotary_embedding_dim) {
        *ret = PS_DIM_UNKNOWN;
        return PS_OK;
    }
    PS_NODE_FAIL_IF(*ret < 0 || *ret % 2 || (head >= 0 && *ret > head), node, err, SHAPE,
                    "%lld columns of a head of %lld cannot be rotated in pairs", (long long)*ret, (long long)head);
    return PS_OK;
}

static ps_status rotary_infer(const ps_node *node, ps_error *err) {
    const rotary_params *p = node->params;
    rotary_inputs in = rotary_order(node);
    int64_t width = PS_DIM_UNKNOWN, batch = known_dim(node, 0, 0);
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(check_i64(node, in.positions, err));
    PS_NODE_FAIL_IF(is_ms(node) && p->scale != 1, node, err, UNSUPPORTED, "a scale other than 1 is not supported");
    bool positions = ps_has_in(node, in.positions);
    for (size_t i = in.cosine; i <= in.sine; i++)
        PS_TRY(ps_check_rank(node, i, positions ? 2 : 3, err));
    PS_TRY(rotary_width(node, in.cosine, &width, err));
    int64_t rows = ps_in_known(node, 0) ? known_dim(node, 0, node->in[0]->shape.rank == 3 ? 1 : 2) : PS_DIM_UNKNOWN;
    for (size_t i = in.cosine; i <= in.sine; i++) {
        PS_TRY(ps_check_same_type(node, i, 0, err));
        PS_TRY(
            ps_check_dim(node, i, positions ? 1 : 2, width >= 0 ? width / 2 : width, "half of the rotated width", err));
        if (positions) continue;
        PS_TRY(ps_check_dim(node, i, 0, batch, "the batch of X", err));
        PS_TRY(ps_check_dim(node, i, 1, rows, "the length of X", err));
    }
    PS_TRY(ps_check_dim(node, in.sine, 0, known_dim(node, in.cosine, 0), "the length of cos_cache", err));
    if (is_ms(node) && ps_in_known(node, in.positions) && node->in[in.positions]->shape.rank == 1)
        PS_TRY(ps_check_dim(node, in.positions, 0, 1, "the number of first positions", err));
    else
        PS_TRY(ps_check_rank(node, in.positions, 2, err));
    if (ps_in_known(node, in.positions) && node->in[in.positions]->shape.rank == 2) {
        PS_TRY(ps_check_dim(node, in.positions, 0, batch, "the batch of X", err));
        PS_TRY(ps_check_dim(node, in.positions, 1, rows, "the length of X", err));
    }
    return ps_infer_same(node, err);
}

void ps_rotate(double *x, const double *cosine, const double *sine, int64_t width, bool interleaved) {
    int64_t half = width / 2, step = interleaved ? 2 : 1, apart = interleaved ? 1 : half;
    for (int64_t i = 0; i < half; i++) {
        double a = x[i * step], b = x[i * step + apart];
        x[i * step] = cosine[i] * a - sine[i] * b;
        x[i * step + apart] = sine[i] * a + cosine[i] * b;
    }
}

typedef struct rotary_job {
    ps_heads x;
    const ps_tensor *cosine, *sine, *positions;
    ps_tensor *y;
    int64_t width;
    bool interleaved;
    double *scratch;
} rotary_job;

/* The row of the caches for a token: given, counted from a first one, or its own. */
static int64_t rotary_position(const rotary_job *j, int64_t token) {
    const int64_t *ids = j->positions ? j->positions->data : NULL;
    if (!ids) return token;
    return j->positions->shape.rank == 1 ? ids[0] + token % j->x.rows : ids[token];
}

static ps_status rotary_check_positions(const ps_node *node, const rotary_job *j, ps_error *err) {
    const int64_t *ids = j->positions->data;
    int64_t after = j->positions->shape.rank == 1 ? j->x.rows - 1 : 0, limit = j->cosine->shape.dims[0];
    for (size_t i = 0; i < ps_tensor_count(j->positions); i++)
        PS_NODE_FAIL_IF(ids[i] < 0 || ids[i] >= limit - (after > 0 ? after : 0), node, err, INVALID,
                        "position %lld is outside of the cache's %lld rows", (long long)ids[i], (long long)limit);
    return PS_OK;
}

/* Items are (batch, position, head). */
static void rotary_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    rotary_job *j = ctx;
    const ps_heads *x = &j->x;
    int64_t half = j->width / 2;
    double *row = j->scratch + (int64_t)thread * (x->depth + j->width), *c = row + x->depth, *s = c + half;
    for (int64_t item = begin; item < end; item++) {
        int64_t h = item % x->heads, token = item / x->heads, at = rotary_position(j, token);
        int64_t first = token / x->rows * x->batch_step + h * x->head_step + token % x->rows * x->row_step;
        ps_row_load(c, j->cosine->dtype, j->cosine->data, at * half, 1, half);
        ps_row_load(s, j->sine->dtype, j->sine->data, at * half, 1, half);
        ps_row_load(row, x->tensor->dtype, x->tensor->data, first, 1, x->depth);
        ps_rotate(row, c, s, j->width, j->interleaved);
        ps_row_store(j->y->data, j->y->dtype, first, 1, row, x->depth);
    }
}

static ps_status rotary_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const rotary_params *p = ctx->params;
    rotary_inputs in = rotary_order(ctx->node);
    const ps_tensor *x = ctx->in[0], *cosine = ctx->in[in.cosine];
    int64_t half = cosine->shape.dims[cosine->shape.rank - 1];
    rotary_job j = { .cosine = cosine,
                     .sine = ctx->in[in.sine],
                     .positions = input(ctx, in.positions),
                     .y = ctx->out[0],
                     .width = 2 * half,
                     .interleaved = p->interleaved != 0 };
    if (ps_tensor_count(x) == 0) return PS_OK;
    j.x = x->shape.rank == 3 ? ps_heads_3d(x, rotary_heads(p, x->shape.dims[2], half)) : ps_heads_4d(x);
    if (j.positions) PS_TRY(rotary_check_positions(ctx->node, &j, err));
    return ps_parallel_scratch(ctx, j.x.batch * j.x.rows * j.x.heads, 16, (size_t)(j.x.depth + j.width), &j.scratch,
                               rotary_rows, &j, err);
}

/* ---- TensorScatter ---- */

typedef struct scatter_params {
    const char *mode;
    int64_t axis;
} scatter_params;

static const ps_attr_def scatter_attrs[] = {
    PS_A_STR(scatter_params, mode, "linear"),
    PS_A_INT(scatter_params, axis, -2),
    PS_ATTRS_END,
};

static ps_status scatter_infer(const ps_node *node, ps_error *err) {
    const scatter_params *p = node->params;
    PS_NODE_FAIL_IF(strcmp(p->mode, "linear") != 0 && strcmp(p->mode, "circular") != 0, node, err, INVALID,
                    "mode is '%s', it must be linear or circular", p->mode);
    PS_TRY(ps_check_same_type(node, 1, 0, err));
    PS_TRY(check_i64(node, 2, err));
    PS_TRY(ps_check_rank(node, 2, 1, err));
    PS_TRY(ps_check_dim(node, 2, 0, known_dim(node, 0, 0), "the batch", err));
    if (ps_in_known(node, 0)) {
        const ps_shape *s = &node->in[0]->shape;
        int axis;
        PS_TRY(ps_axis_check(node, p->axis, s->rank, &axis, err));
        PS_NODE_FAIL_IF(axis == 0, node, err, INVALID, "axis 0 is the batch, it cannot be the sequence");
        PS_TRY(ps_check_rank(node, 1, s->rank, err));
        for (int d = 0; d < s->rank && ps_in_known(node, 1); d++) {
            int64_t have = node->in[1]->shape.dims[d], room = s->dims[d];
            PS_NODE_FAIL_IF(have >= 0 && room >= 0 && (d == axis ? have > room : have != room), node, err, SHAPE,
                            "dim %d of the update is %lld, of the cache %lld", d, (long long)have, (long long)room);
        }
    }
    return ps_infer_same(node, err);
}

static ps_status scatter_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const scatter_params *p = ctx->params;
    const ps_tensor *cache = ctx->in[0], *update = ctx->in[1], *indices = input(ctx, 2);
    const ps_shape *s = &cache->shape;
    bool circular = strcmp(p->mode, "circular") == 0;
    int axis;
    PS_TRY(ps_axis_check(ctx->node, p->axis, s->rank, &axis, err));
    int64_t room = s->dims[axis], rows = update->shape.dims[axis], inner = ps_shape_product(s, axis + 1, s->rank),
            middle = ps_shape_product(s, 1, axis);
    ps_move m;
    size_t bytes;
    PS_TRY(ps_move_begin_rows(ctx, 0, cache->dtype, s, inner, &m, &bytes, err));
    if (cache->bytes) memcpy(m.dst, cache->data, cache->bytes);
    for (int64_t b = 0; b < s->dims[0] && ps_tensor_count(update); b++) {
        int64_t at = indices ? ((const int64_t *)indices->data)[b] : 0;
        if (circular && at >= 0) at %= room;
        if (at < 0 || (!circular && at > room - rows))
            return ps_move_end(&m,
                               PS_NODE_FAIL(ctx->node, err, INVALID,
                                            "write index %lld does not leave room for %lld of %lld positions",
                                            (long long)at, (long long)rows, (long long)room),
                               err);
        for (int64_t i = b * middle; i < (b + 1) * middle; i++)
            for (int64_t k = 0; k < rows; k++)
                memcpy(m.dst + (size_t)(i * room + (at + k) % room) * bytes,
                       (const uint8_t *)update->data + (size_t)(i * rows + k) * bytes, bytes);
    }
    return ps_move_end(&m, PS_OK, err);
}

/* ---- SwiGLU (Shazeer, arXiv:2002.05202) ---- */

typedef struct swiglu_params {
    float alpha;
} swiglu_params;

static const ps_attr_def swiglu_attrs[] = { PS_A_FLOAT(swiglu_params, alpha, 1), PS_ATTRS_END };

static ps_status swiglu_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_floats(node, 2, err));
    if (ps_in_known(node, 0)) {
        const ps_shape *s = &node->in[0]->shape;
        PS_TRY(ps_check_rank(node, 1, s->rank, err));
        for (int d = 0; d < s->rank; d++)
            PS_TRY(ps_check_dim(node, 1, d, s->dims[d], "the same dim of A", err));
    }
    return ps_infer_same(node, err);
}

enum { CHUNK = 1024 };

static ps_status swiglu_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const swiglu_params *p = ctx->params;
    const ps_tensor *a = ctx->in[0], *b = ctx->in[1];
    double x[CHUNK], y[CHUNK];
    int64_t total = (int64_t)ps_tensor_count(a);
    (void)err;
    for (int64_t first = 0; first < total; first += CHUNK) {
        int64_t n = total - first < CHUNK ? total - first : CHUNK;
        ps_row_load(x, a->dtype, a->data, first, 1, n);
        ps_row_load(y, b->dtype, b->data, first, 1, n);
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] / (1 + exp(-(double)p->alpha * x[i])) * y[i];
        ps_row_store(ctx->out[0]->data, a->dtype, first, 1, x, n);
    }
    return PS_OK;
}

/* ---- LinearAttention (gated delta rule: Yang et al., arXiv:2412.06464) ---- */

typedef struct linear_params {
    int64_t chunk_size, kv_num_heads, q_num_heads;
    float scale;
    const char *update_rule;
} linear_params;

static const ps_attr_def linear_attrs[] = {
    PS_A_INT(linear_params, chunk_size, 64),
    PS_A_INT_REQ(linear_params, kv_num_heads),
    PS_A_INT_REQ(linear_params, q_num_heads),
    PS_A_FLOAT(linear_params, scale, 0),
    PS_A_STR(linear_params, update_rule, "gated_delta"),
    PS_ATTRS_END,
};

enum { L_QUERY, L_KEY, L_VALUE, L_STATE, L_DECAY, L_BETA };

static bool is_gated(const linear_params *p) {
    return strncmp(p->update_rule, "gated", 5) == 0;
}

static bool is_delta(const linear_params *p) {
    return strstr(p->update_rule, "delta") != NULL;
}

static ps_status linear_check_rule(const ps_node *node, ps_error *err) {
    static const char *const rules[] = { "linear", "gated", "delta", "gated_delta" };
    const linear_params *p = node->params;
    bool known = false;
    for (size_t i = 0; i < 4; i++)
        known |= strcmp(p->update_rule, rules[i]) == 0;
    PS_NODE_FAIL_IF(!known, node, err, INVALID, "update_rule is '%s', it must be linear, gated, delta or gated_delta",
                    p->update_rule);
    PS_NODE_FAIL_IF(is_gated(p) != ps_has_in(node, L_DECAY), node, err, INVALID, "update_rule %s goes %s a decay",
                    p->update_rule, is_gated(p) ? "with" : "without");
    PS_NODE_FAIL_IF(is_delta(p) != ps_has_in(node, L_BETA), node, err, INVALID, "update_rule %s goes %s a beta",
                    p->update_rule, is_delta(p) ? "with" : "without");
    PS_NODE_FAIL_IF(p->kv_num_heads < 1 || p->q_num_heads < 1 || p->q_num_heads % p->kv_num_heads, node, err, INVALID,
                    "%lld query heads cannot share %lld key heads", (long long)p->q_num_heads,
                    (long long)p->kv_num_heads);
    return PS_OK;
}

static ps_status per_head(const ps_node *node, size_t i, int64_t heads, int64_t *ret, ps_error *err) {
    int64_t width = known_dim(node, i, 2);
    PS_NODE_FAIL_IF(width >= 0 && width % heads, node, err, SHAPE,
                    "%lld heads do not divide the %lld columns of input %zu", (long long)heads, (long long)width, i);
    *ret = width >= 0 ? width / heads : PS_DIM_UNKNOWN;
    return PS_OK;
}

static ps_status linear_infer(const ps_node *node, ps_error *err) {
    const linear_params *p = node->params;
    int64_t depth = PS_DIM_UNKNOWN, depth_k = PS_DIM_UNKNOWN, depth_v = PS_DIM_UNKNOWN;
    PS_TRY(linear_check_rule(node, err));
    for (size_t i = 0; i < node->n_in; i++) {
        PS_TRY(ps_check_float(node, i, err));
        PS_TRY(ps_check_rank(node, i, i == L_STATE ? 4 : 3, err));
        PS_TRY(ps_check_dim(node, i, 0, known_dim(node, L_QUERY, 0), "the batch of the query", err));
        if (i == L_STATE) continue;
        PS_TRY(ps_check_same_type(node, i, L_QUERY, err));
        PS_TRY(ps_check_dim(node, i, 1, known_dim(node, L_QUERY, 1), "the length of the query", err));
    }
    PS_TRY(per_head(node, L_QUERY, p->q_num_heads, &depth, err));
    PS_TRY(per_head(node, L_KEY, p->kv_num_heads, &depth_k, err));
    PS_TRY(per_head(node, L_VALUE, p->kv_num_heads, &depth_v, err));
    PS_NODE_FAIL_IF(depth >= 0 && depth_k >= 0 && depth != depth_k, node, err, SHAPE,
                    "heads of the query have %lld columns, those of the key %lld", (long long)depth,
                    (long long)depth_k);
    depth = ps_dim_merge(depth, depth_k);
    int64_t gates = known_dim(node, L_DECAY, 2), rates = known_dim(node, L_BETA, 2);
    PS_NODE_FAIL_IF(gates >= 0 && gates != p->kv_num_heads && depth >= 0 && gates != p->kv_num_heads * depth, node, err,
                    SHAPE, "the decay has %lld columns, neither one a head nor one a column of the key",
                    (long long)gates);
    PS_NODE_FAIL_IF(rates >= 0 && rates != 1 && rates != p->kv_num_heads, node, err, SHAPE,
                    "beta has %lld columns, neither 1 nor one a head", (long long)rates);
    int64_t batch = known_dim(node, L_QUERY, 0);
    PS_TRY(ps_check_dim(node, L_STATE, 1, p->kv_num_heads, "the number of key heads", err));
    PS_TRY(ps_check_dim(node, L_STATE, 2, depth, "the head size of the key", err));
    PS_TRY(ps_check_dim(node, L_STATE, 3, depth_v, "the head size of the value", err));
    ps_dtype t = node->in[L_QUERY]->dtype;
    ps_shape y = ps_shape_make(3, (int64_t[]) { batch, known_dim(node, L_QUERY, 1),
                                                depth_v >= 0 ? p->q_num_heads * depth_v : PS_DIM_UNKNOWN });
    ps_shape s = ps_shape_make(4, (int64_t[]) { batch, p->kv_num_heads, depth, depth_v });
    PS_TRY(ps_infer_checked(node, 0, t, &y, err));
    return ps_infer_checked(node, 1, ps_has_in(node, L_STATE) ? node->in[L_STATE]->dtype : t, &s, err);
}

typedef struct linear_job {
    const ps_kernel_ctx *ctx;
    int64_t rows, heads, kv_heads, depth, depth_v, gates, rates;
    bool gated, delta;
    double scale;
    double *scratch; /* state, one row of q, k, v, decay, and the output */
} linear_job;

static void load_row(const linear_job *j, size_t i, int64_t at, int64_t width, int64_t column, int64_t n, double *dst) {
    const ps_tensor *t = j->ctx->in[i];
    ps_row_load(dst, t->dtype, t->data, at * width + column, 1, n);
}

/* state = exp(g) state; v = beta (v - state^T k); state += k v^T */
static void linear_step(const linear_job *j, int64_t at, int64_t head, double *state, double *k, double *v, double *g) {
    int64_t dk = j->depth, dv = j->depth_v;
    load_row(j, L_KEY, at, j->kv_heads * dk, head * dk, dk, k);
    load_row(j, L_VALUE, at, j->kv_heads * dv, head * dv, dv, v);
    if (j->gated) {
        bool each = j->gates != j->kv_heads; /* a gate for each column of the key */
        load_row(j, L_DECAY, at, j->gates, each ? head * dk : head, each ? dk : 1, g);
        for (int64_t d = 0; d < dk; d++)
            for (int64_t m = 0; m < dv; m++)
                state[d * dv + m] *= exp(g[each ? d : 0]);
    }
    if (j->delta) {
        double beta;
        load_row(j, L_BETA, at, j->rates, j->rates == 1 ? 0 : head, 1, &beta);
        for (int64_t m = 0; m < dv; m++) {
            double seen = 0;
            for (int64_t d = 0; d < dk; d++)
                seen += state[d * dv + m] * k[d];
            v[m] = beta * (v[m] - seen);
        }
    }
    for (int64_t d = 0; d < dk; d++)
        for (int64_t m = 0; m < dv; m++)
            state[d * dv + m] += k[d] * v[m];
}

static void linear_read(const linear_job *j, int64_t at, int64_t head, const double *state, double *q, double *y) {
    int64_t dk = j->depth, dv = j->depth_v;
    load_row(j, L_QUERY, at, j->heads * dk, head * dk, dk, q);
    for (int64_t m = 0; m < dv; m++) {
        double sum = 0;
        for (int64_t d = 0; d < dk; d++)
            sum += q[d] * state[d * dv + m];
        y[m] = j->scale * sum;
    }
    ps_tensor *out = j->ctx->out[0];
    ps_row_store(out->data, out->dtype, (at * j->heads + head) * dv, 1, y, dv);
}

/* Items are (batch, key head). */
static void linear_heads(void *ctx, int64_t begin, int64_t end, int thread) {
    linear_job *j = ctx;
    int64_t dk = j->depth, dv = j->depth_v, size = dk * dv, group = j->heads / j->kv_heads;
    double *state = j->scratch + (int64_t)thread * (size + 3 * dk + 2 * dv + 1), *q = state + size, *k = q + dk,
           *g = k + dk, *v = g + dk + 1, *y = v + dv;
    const ps_tensor *past = input(j->ctx, L_STATE);
    ps_tensor *present = j->ctx->n_out > 1 ? j->ctx->out[1] : NULL;
    for (int64_t item = begin; item < end; item++) {
        int64_t batch = item / j->kv_heads, head = item % j->kv_heads;
        for (int64_t i = 0; i < size; i++)
            state[i] = 0;
        if (past) ps_row_load(state, past->dtype, past->data, item * size, 1, size);
        for (int64_t at = batch * j->rows; at < (batch + 1) * j->rows; at++) {
            linear_step(j, at, head, state, k, v, g);
            for (int64_t i = head * group; i < (head + 1) * group; i++)
                linear_read(j, at, i, state, q, y);
        }
        if (present) ps_row_store(present->data, present->dtype, item * size, 1, state, size);
    }
}

static ps_status linear_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const linear_params *p = ctx->params;
    const int64_t *q = ctx->in[L_QUERY]->shape.dims;
    linear_job j = { .ctx = ctx,
                     .rows = q[1],
                     .heads = p->q_num_heads,
                     .kv_heads = p->kv_num_heads,
                     .depth = q[2] / p->q_num_heads,
                     .depth_v = ctx->in[L_VALUE]->shape.dims[2] / p->kv_num_heads,
                     .gated = is_gated(p),
                     .delta = is_delta(p) };
    j.gates = j.gated ? ctx->in[L_DECAY]->shape.dims[2] : 0;
    j.rates = j.delta ? ctx->in[L_BETA]->shape.dims[2] : 0;
    j.scale = p->scale != 0 ? (double)p->scale : 1 / sqrt((double)j.depth);
    size_t room;
    if (ps_mul_overflow_size((size_t)j.depth, (size_t)j.depth_v, &room) ||
        ps_add_overflow_size(room, (size_t)(3 * j.depth + 2 * j.depth_v + 1), &room))
        return PS_FAIL_NOMEM(err, "the attention state");
    return ps_parallel_scratch(ctx, q[0] * j.kv_heads, 1, room, &j.scratch, linear_heads, &j, err);
}

/* ---- CausalConvWithState ---- */

typedef struct causal_params {
    const char *activation;
} causal_params;

static const ps_attr_def causal_attrs[] = { PS_A_STR(causal_params, activation, "none"), PS_ATTRS_END };

static ps_status causal_infer(const ps_node *node, ps_error *err) {
    const causal_params *p = node->params;
    PS_NODE_FAIL_IF(strcmp(p->activation, "none") != 0 && strcmp(p->activation, "silu") != 0 &&
                        strcmp(p->activation, "swish") != 0,
                    node, err, INVALID, "activation is '%s', it must be none, silu or swish", p->activation);
    PS_TRY(ps_check_floats(node, node->n_in, err));
    PS_TRY(ps_check_rank(node, 0, 3, err));
    PS_TRY(ps_check_rank(node, 1, 3, err));
    PS_TRY(ps_check_rank(node, 2, 1, err));
    PS_TRY(ps_check_rank(node, 3, 3, err));
    int64_t channels = ps_dim_merge(known_dim(node, 0, 1), known_dim(node, 1, 0)), k = known_dim(node, 1, 2);
    PS_NODE_FAIL_IF(k == 0, node, err, SHAPE, "the kernel has no elements");
    PS_TRY(ps_check_dim(node, 1, 0, channels, "the number of channels", err));
    PS_TRY(ps_check_dim(node, 1, 1, 1, "one channel a group", err));
    PS_TRY(ps_check_dim(node, 2, 0, channels, "the number of channels", err));
    PS_TRY(ps_check_dim(node, 3, 0, known_dim(node, 0, 0), "the batch", err));
    PS_TRY(ps_check_dim(node, 3, 1, channels, "the number of channels", err));
    PS_TRY(ps_check_dim(node, 3, 2, k > 0 ? k - 1 : PS_DIM_UNKNOWN, "the kernel less one", err));
    ps_dtype t = node->in[0]->dtype;
    ps_shape s = ps_shape_make(3, (int64_t[]) { known_dim(node, 0, 0), channels, k > 0 ? k - 1 : PS_DIM_UNKNOWN });
    PS_TRY(ps_infer_checked(node, 1, t, &s, err));
    return ps_infer_same(node, err);
}

typedef struct causal_job {
    const ps_kernel_ctx *ctx;
    int64_t channels, length, k;
    bool swish;
    double *scratch;
} causal_job;

/* Items are (batch, channel): the state, then the input, is one row. */
static void causal_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    causal_job *j = ctx;
    const ps_tensor *x = j->ctx->in[0], *w = j->ctx->in[1], *bias = input(j->ctx, 2), *past = input(j->ctx, 3);
    ps_tensor *y = j->ctx->out[0], *present = j->ctx->n_out > 1 ? j->ctx->out[1] : NULL;
    int64_t before = j->k - 1;
    double *row = j->scratch + (int64_t)thread * (before + 2 * j->length + j->k), *out = row + before + j->length,
           *weights = out + j->length;
    for (int64_t item = begin; item < end; item++) {
        int64_t channel = item % j->channels;
        double start = 0;
        for (int64_t i = 0; i < before; i++)
            row[i] = 0;
        if (past) ps_row_load(row, past->dtype, past->data, item * before, 1, before);
        ps_row_load(row + before, x->dtype, x->data, item * j->length, 1, j->length);
        ps_row_load(weights, w->dtype, w->data, channel * j->k, 1, j->k);
        if (bias) ps_row_load(&start, bias->dtype, bias->data, channel, 1, 1);
        for (int64_t i = 0; i < j->length; i++) {
            out[i] = start;
            for (int64_t d = 0; d < j->k; d++)
                out[i] += weights[d] * row[i + d];
        }
        ps_round_row(y->dtype, out, j->length); /* the activation is a node of its own in ONNX's function body */
        for (int64_t i = 0; j->swish && i < j->length; i++)
            out[i] = out[i] / (1 + exp(-out[i]));
        ps_row_store(y->data, y->dtype, item * j->length, 1, out, j->length);
        if (present) ps_row_store(present->data, present->dtype, item * before, 1, row + j->length, before);
    }
}

static ps_status causal_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const causal_params *p = ctx->params;
    const int64_t *x = ctx->in[0]->shape.dims;
    causal_job j = { .ctx = ctx,
                     .channels = x[1],
                     .length = x[2],
                     .k = ctx->in[1]->shape.dims[2],
                     .swish = strcmp(p->activation, "none") != 0 };
    size_t room;
    if (ps_mul_overflow_size((size_t)j.length + (size_t)j.k, 2, &room)) return PS_FAIL_NOMEM(err, "a row");
    return ps_parallel_scratch(ctx, x[0] * j.channels, 1, room, &j.scratch, causal_rows, &j, err);
}

static const ps_op ops[] = {
    { "RotaryEmbedding", "", 23, 3, 4, 1, 1, rotary_attrs, sizeof(rotary_params), rotary_infer, rotary_ref, 0 },
    { "RotaryEmbedding", "com.microsoft", 1, 4, 4, 1, 1, rotary_ms_attrs, sizeof(rotary_params), rotary_infer,
      rotary_ref, 0 },
    { "TensorScatter", "", 24, 2, 3, 1, 1, scatter_attrs, sizeof(scatter_params), scatter_infer, scatter_ref, 0 },
    { "SwiGLU", "", 28, 2, 2, 1, 1, swiglu_attrs, sizeof(swiglu_params), swiglu_infer, swiglu_ref, 0 },
    { "LinearAttention", "", 27, 3, 6, 1, 2, linear_attrs, sizeof(linear_params), linear_infer, linear_ref, 0 },
    { "CausalConvWithState", "", 27, 2, 4, 1, 2, causal_attrs, sizeof(causal_params), causal_infer, causal_ref, 0 },
};
const ps_op_family ps_ops_decoder = PS_OP_FAMILY("decoder", ops);
