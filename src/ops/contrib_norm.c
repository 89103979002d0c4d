/* contrib_norm.c - normalisations of domain com.microsoft: sums of a row and its residuals that are normalised at once
 * (SkipLayerNormalization, SkipSimplifiedLayerNormalization, EmbedLayerNormalization), GroupNorm, SkipGroupNorm.
 *
 * Source: the operator schemas of ONNX Runtime 1.32. */
#include <math.h>

#include "ops/facts.h"
#include "ops/kernel_util.h"

static int64_t known_dim(const ps_node *node, size_t i, int d) {
    return ps_in_known(node, i) && d < node->in[i]->shape.rank ? node->in[i]->shape.dims[d] : PS_DIM_UNKNOWN;
}

static const ps_tensor *input(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_in ? ctx->in[i] : NULL;
}

static ps_tensor *output(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_out ? ctx->out[i] : NULL;
}

/* A vector of `width` entries. */
static ps_status check_vector(const ps_node *node, size_t i, int64_t width, ps_error *err) {
    PS_TRY(ps_check_same_type(node, i, 0, err));
    PS_TRY(ps_check_rank(node, i, 1, err));
    return ps_check_dim(node, i, 0, width, "the width of the input", err);
}

/* x = (x - mean) / deviation * gamma + beta; gamma and beta may be NULL. Without center the mean is taken as 0. */
static void normalize(double *x, int64_t n, double epsilon, bool center, const double *gamma, const double *beta,
                      double *ret_mean, double *ret_inv) {
    double mean = 0, square = 0;
    for (int64_t i = 0; center && i < n; i++)
        mean += x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++)
        square += (x[i] - mean) * (x[i] - mean);
    double inv = 1 / sqrt(square / (double)n + epsilon);
    for (int64_t i = 0; i < n; i++)
        x[i] = (x[i] - mean) * inv * (gamma ? gamma[i] : 1) + (beta ? beta[i] : 0);
    *ret_mean = mean;
    *ret_inv = inv;
}

/* ---- SkipLayerNormalization, SkipSimplifiedLayerNormalization ---- */

typedef struct epsilon_params {
    float epsilon;
} epsilon_params;

static const ps_attr_def skip_attrs[] = { PS_A_FLOAT(epsilon_params, epsilon, 1e-12f), PS_ATTRS_END };

static bool is_simplified(const ps_node *node) {
    return node->op->name[4] == 'S'; /* SkipS... */
}

static ps_status skip_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(ps_check_same_type(node, 1, 0, err));
    ps_shape stat = ps_shape_unknown();
    int64_t width = PS_DIM_UNKNOWN;
    if (ps_in_known(node, 0)) {
        stat = node->in[0]->shape;
        PS_NODE_FAIL_IF(stat.rank != 2 && stat.rank != 3, node, err, SHAPE,
                        "the input has rank %d, it must have 2 or 3", stat.rank);
        width = stat.dims[stat.rank - 1];
        stat.dims[stat.rank - 1] = 1;
        ps_shape both;
        const ps_shape *skip = &node->in[1]->shape, *x = &node->in[0]->shape;
        bool fits = skip->rank < 0 || (skip->rank <= x->rank && ps_shape_broadcast(skip, x, &both));
        for (int d = 0; fits && skip->rank >= 0 && d < x->rank; d++)
            fits = x->dims[d] < 0 || both.dims[d] < 0 || both.dims[d] == x->dims[d];
        PS_NODE_FAIL_IF(!fits, node, err, SHAPE, "the skip of shape %s does not broadcast to the input's %s",
                        PS_SHAPE_TEXT(skip), PS_SHAPE_TEXT(x));
    }
    for (size_t i = 2; i < node->n_in; i++)
        PS_TRY(check_vector(node, i, width, err));
    for (size_t i = 1; i <= 2; i++)
        if (ps_has_out(node, i)) ps_infer_set(node, i, PS_DTYPE_F32, &stat);
    if (ps_has_out(node, 3)) ps_infer_set(node, 3, node->in[0]->dtype, &node->in[0]->shape);
    return ps_infer_same(node, err);
}

typedef struct skip_job {
    const ps_kernel_ctx *ctx;
    const ps_tensor *x, *gamma, *beta, *bias;
    ps_bcast skip;
    int64_t n;
    double epsilon;
    bool center;
    double *scratch;
} skip_job;

static void skip_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    skip_job *j = ctx;
    int64_t n = j->n;
    double *x = j->scratch + (int64_t)thread * 4 * n, *other = x + n, *gamma = other + n, *beta = gamma + n;
    ps_row_load(gamma, j->gamma->dtype, j->gamma->data, 0, 1, n);
    if (j->beta) ps_row_load(beta, j->beta->dtype, j->beta->data, 0, 1, n);
    for (int64_t item = begin; item < end; item++) {
        double mean, inv;
        ps_row_load(x, j->x->dtype, j->x->data, item * n, 1, n);
        ps_bcast_load(&j->skip, item * n, n, other);
        for (int64_t i = 0; i < n; i++)
            x[i] += other[i];
        if (j->bias) ps_row_load(other, j->bias->dtype, j->bias->data, 0, 1, n);
        for (int64_t i = 0; j->bias && i < n; i++)
            x[i] += other[i];
        ps_tensor *sum = output(j->ctx, 3), *y = j->ctx->out[0], *out;
        if (sum) ps_row_store(sum->data, sum->dtype, item * n, 1, x, n);
        normalize(x, n, j->epsilon, j->center, gamma, j->beta ? beta : NULL, &mean, &inv);
        ps_row_store(y->data, y->dtype, item * n, 1, x, n);
        if ((out = output(j->ctx, 1))) ps_row_store(out->data, out->dtype, item, 1, &mean, 1);
        if ((out = output(j->ctx, 2))) ps_row_store(out->data, out->dtype, item, 1, &inv, 1);
    }
}

static ps_status skip_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_shape *s = &ctx->in[0]->shape;
    bool simple = is_simplified(ctx->node);
    skip_job j = { .ctx = ctx,
                   .x = ctx->in[0],
                   .gamma = ctx->in[2],
                   .beta = simple ? NULL : input(ctx, 3),
                   .bias = input(ctx, simple ? 3 : 4),
                   .n = s->dims[s->rank - 1],
                   .center = !simple,
                   .epsilon = (double)((const epsilon_params *)ctx->params)->epsilon };
    if (!ps_bcast_init(&j.skip, ctx->in[1], s))
        return PS_NODE_FAIL(ctx->node, err, SHAPE, "the skip does not broadcast to the input");
    size_t room;
    if (ps_tensor_count(j.x) == 0) return PS_OK;
    if (ps_mul_overflow_size((size_t)j.n, 4, &room)) return PS_FAIL_NOMEM(err, "rows to normalise");
    return ps_parallel_scratch(ctx, ps_shape_product(s, 0, s->rank - 1), 1 + 1024 / j.n, room, &j.scratch, skip_rows,
                               &j, err);
}

/* ---- EmbedLayerNormalization ---- */

typedef struct embed_params {
    float epsilon;
    int64_t mask_index_type;
} embed_params;

static const ps_attr_def embed_attrs[] = {
    PS_A_FLOAT(embed_params, epsilon, 1e-12f),
    PS_A_INT(embed_params, mask_index_type, 0),
    PS_ATTRS_END,
};

enum { E_IDS, E_SEGMENTS, E_WORDS, E_PLACES, E_KINDS, E_GAMMA, E_BETA, E_MASK, E_POSITIONS };

static ps_status embed_infer(const ps_node *node, ps_error *err) {
    int64_t width = known_dim(node, E_WORDS, 1), batch = known_dim(node, E_IDS, 0), rows = known_dim(node, E_IDS, 1);
    static const size_t numbers[] = { E_IDS, E_SEGMENTS, E_MASK, E_POSITIONS };
    for (size_t k = 0; k < 4; k++) {
        size_t i = numbers[k];
        if (!ps_has_in(node, i)) continue;
        ps_dtype t = node->in[i]->dtype;
        PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_I32, node, err, TYPE,
                        "input %zu is %s, it must be i32", i, ps_dtype_name(t));
        PS_TRY(ps_check_rank(node, i, 2, err));
        if (i != E_POSITIONS || known_dim(node, i, 0) != 1)
            PS_TRY(ps_check_dim(node, i, 0, batch, "the batch of the ids", err));
        PS_TRY(ps_check_dim(node, i, 1, rows, "the length of the ids", err));
    }
    PS_NODE_FAIL_IF(ps_has_in(node, E_SEGMENTS) != ps_has_in(node, E_KINDS), node, err, INVALID,
                    "segment_ids and segment_embedding must be given together");
    PS_NODE_FAIL_IF(!ps_has_in(node, E_WORDS) || !ps_has_in(node, E_PLACES) || !ps_has_in(node, E_GAMMA) ||
                        !ps_has_in(node, E_BETA),
                    node, err, FORMAT, "word_embedding, position_embedding, gamma and beta are required");
    for (size_t i = E_WORDS; i <= E_BETA; i++) {
        int rank = i < E_GAMMA ? 2 : 1;
        PS_TRY(ps_check_float(node, i, err));
        PS_TRY(ps_check_same_type(node, i, E_WORDS, err));
        PS_TRY(ps_check_rank(node, i, rank, err));
        PS_TRY(ps_check_dim(node, i, rank - 1, width, "the width of the words", err));
    }
    ps_shape y = ps_shape_make(3, (int64_t[]) { batch, rows, width }), index = ps_shape_make(1, &batch);
    PS_TRY(ps_infer_checked(node, 0, node->in[E_WORDS]->dtype, &y, err));
    if (ps_has_out(node, 1)) ps_infer_set(node, 1, PS_DTYPE_I32, &index);
    return ps_infer_checked(node, 2, node->in[E_WORDS]->dtype, &y, err);
}

/* Adds row `at` of a table; false if it has none. */
static bool add_row(const ps_tensor *table, int64_t at, double *x, double *buf, int64_t n) {
    if (at < 0 || at >= table->shape.dims[0]) return false;
    ps_row_load(buf, table->dtype, table->data, at * n, 1, n);
    for (int64_t i = 0; i < n; i++)
        x[i] += buf[i];
    return true;
}

static int64_t embed_position(const ps_tensor *positions, int64_t batch, int64_t row, int64_t rows) {
    if (!positions) return row;
    return ((const int32_t *)positions->data)[(positions->shape.dims[0] == 1 ? 0 : batch * rows) + row];
}

/* The number of words of each row that the mask lets through. */
static void embed_mask_index(const ps_tensor *mask, ps_tensor *index) {
    int64_t rows = mask ? mask->shape.dims[1] : 0;
    for (int64_t b = 0; b < index->shape.dims[0]; b++) {
        int32_t count = 0;
        for (int64_t s = 0; s < rows; s++)
            count += ((const int32_t *)mask->data)[b * rows + s] == 1;
        ((int32_t *)index->data)[b] = count;
    }
}

static ps_status embed_rows(const ps_kernel_ctx *ctx, double *x, int64_t n, ps_error *err) {
    const ps_tensor *ids = ctx->in[E_IDS], *segments = input(ctx, E_SEGMENTS);
    ps_tensor *y = ctx->out[0], *sum = output(ctx, 2);
    double *buf = x + n, *gamma = buf + n, *beta = gamma + n, mean, inv;
    int64_t rows = ids->shape.dims[1];
    ps_row_load(gamma, ctx->in[E_GAMMA]->dtype, ctx->in[E_GAMMA]->data, 0, 1, n);
    ps_row_load(beta, ctx->in[E_BETA]->dtype, ctx->in[E_BETA]->data, 0, 1, n);
    for (int64_t item = 0; item < ids->shape.dims[0] * rows; item++) {
        for (int64_t i = 0; i < n; i++)
            x[i] = 0;
        int64_t at = embed_position(input(ctx, E_POSITIONS), item / rows, item % rows, rows);
        bool ok = add_row(ctx->in[E_WORDS], ((const int32_t *)ids->data)[item], x, buf, n) &&
                  add_row(ctx->in[E_PLACES], at, x, buf, n) &&
                  (!segments || add_row(ctx->in[E_KINDS], ((const int32_t *)segments->data)[item], x, buf, n));
        PS_NODE_FAIL_IF(!ok, ctx->node, err, INVALID,
                        "the id, position or segment of token %lld is outside of its embedding", (long long)item);
        if (sum) ps_row_store(sum->data, sum->dtype, item * n, 1, x, n);
        normalize(x, n, (double)((const embed_params *)ctx->params)->epsilon, true, gamma, beta, &mean, &inv);
        ps_row_store(y->data, y->dtype, item * n, 1, x, n);
    }
    return PS_OK;
}

static ps_status embed_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    int64_t n = ctx->in[E_WORDS]->shape.dims[1];
    if (output(ctx, 1)) embed_mask_index(input(ctx, E_MASK), output(ctx, 1));
    if (ps_tensor_count(ctx->out[0]) == 0) return PS_OK;
    double *x = ps_alloc_array(ctx->alloc, (size_t)n, 4 * sizeof(double));
    if (!x) return PS_FAIL_NOMEM(err, "a row of embeddings");
    ps_status status = embed_rows(ctx, x, n, err);
    ps_free(ctx->alloc, x);
    return status;
}

/* ---- GroupNorm, SkipGroupNorm ---- */

typedef struct group_params {
    float epsilon;
    int64_t groups, activation, channels_last;
} group_params;

static const ps_attr_def group_attrs[] = {
    PS_A_FLOAT(group_params, epsilon, 1e-5f),
    PS_A_INT_REQ(group_params, groups),
    PS_A_INT_REQ(group_params, activation),
    PS_A_INT(group_params, channels_last, 1),
    PS_ATTRS_END,
};

enum { GN_X, GN_GAMMA, GN_BETA, GN_SKIP, GN_BIAS };

static ps_status group_infer(const ps_node *node, ps_error *err) {
    const group_params *p = node->params;
    PS_TRY(ps_check_float(node, GN_X, err));
    PS_TRY(ps_check_rank(node, GN_X, 4, err));
    int64_t channels = known_dim(node, GN_X, p->channels_last ? 3 : 1);
    PS_NODE_FAIL_IF(p->groups < 1 || (channels >= 0 && channels % p->groups), node, err, SHAPE,
                    "%lld groups do not divide %lld channels", (long long)p->groups, (long long)channels);
    PS_NODE_FAIL_IF(p->activation < 0 || p->activation > 1, node, err, INVALID, "activation is %lld, it must be 0 or 1",
                    (long long)p->activation);
    for (size_t i = GN_GAMMA; i < node->n_in; i++) {
        PS_TRY(ps_check_float(node, i, err));
        if (i == GN_SKIP) continue;
        PS_TRY(ps_check_rank(node, i, 1, err));
        PS_TRY(ps_check_dim(node, i, 0, channels, "the number of channels", err));
    }
    if (ps_in_known(node, GN_SKIP)) {
        const ps_shape *s = &node->in[GN_SKIP]->shape;
        PS_NODE_FAIL_IF(s->rank != 2 && s->rank != 4, node, err, SHAPE, "the skip has rank %d, it must have 2 or 4",
                        s->rank);
        PS_TRY(ps_check_dim(node, GN_SKIP, 0, known_dim(node, GN_X, 0), "the batch", err));
        int at = s->rank == 2 ? 1 : p->channels_last ? 3 : 1;
        PS_TRY(ps_check_dim(node, GN_SKIP, at, channels, "the number of channels", err));
        for (int d = 1; d < 4 && s->rank == 4; d++)
            if (d != at && s->dims[d] != 1)
                PS_TRY(ps_check_dim(node, GN_SKIP, d, known_dim(node, GN_X, d), "the same dim of the input", err));
    }
    if (ps_has_out(node, 1)) ps_infer_set(node, 1, node->in[0]->dtype, &node->in[0]->shape);
    return ps_infer_same(node, err);
}

/* Element of x: batch, channel, place in the plane. */
static int64_t group_offset(const ps_shape *s, bool last, int64_t b, int64_t c, int64_t at) {
    int64_t plane = last ? s->dims[1] * s->dims[2] : s->dims[2] * s->dims[3], channels = s->dims[last ? 3 : 1];
    return last ? (b * plane + at) * channels + c : (b * channels + c) * plane + at;
}

static double group_skip(const ps_tensor *skip, bool last, int64_t channels, int64_t b, int64_t c, int64_t at) {
    double v = 0;
    if (!skip) return 0;
    int64_t n = (int64_t)ps_tensor_count(skip);
    bool small = n == skip->shape.dims[0] * channels; /* one number a channel */
    int64_t i = small ? b * channels + c : group_offset(&skip->shape, last, b, c, at);
    ps_row_load(&v, skip->dtype, skip->data, i, 1, 1);
    return v;
}

/* One group of one image: the sum, its statistics, the result. */
static void group_one(const ps_kernel_ctx *ctx, int64_t b, int64_t g, double *x) {
    const group_params *p = ctx->params;
    const ps_tensor *t = ctx->in[GN_X], *bias = input(ctx, GN_BIAS);
    const ps_shape *s = &t->shape;
    bool last = p->channels_last != 0;
    int64_t channels = s->dims[last ? 3 : 1], each = channels / p->groups,
            plane = last ? s->dims[1] * s->dims[2] : s->dims[2] * s->dims[3];
    double mean, inv, gamma, beta, add;
    for (int64_t k = 0; k < each * plane; k++) {
        int64_t c = g * each + k / plane, at = group_offset(s, last, b, c, k % plane);
        ps_row_load(x + k, t->dtype, t->data, at, 1, 1);
        x[k] += group_skip(input(ctx, GN_SKIP), last, channels, b, c, k % plane);
        if (bias) {
            ps_row_load(&add, bias->dtype, bias->data, c, 1, 1);
            x[k] += add;
        }
        if (output(ctx, 1)) ps_row_store(output(ctx, 1)->data, t->dtype, at, 1, x + k, 1);
    }
    normalize(x, each * plane, (double)p->epsilon, true, NULL, NULL, &mean, &inv);
    for (int64_t k = 0; k < each * plane; k++) {
        int64_t c = g * each + k / plane;
        ps_row_load(&gamma, ctx->in[GN_GAMMA]->dtype, ctx->in[GN_GAMMA]->data, c, 1, 1);
        ps_row_load(&beta, ctx->in[GN_BETA]->dtype, ctx->in[GN_BETA]->data, c, 1, 1);
        double y = x[k] * gamma + beta;
        if (p->activation) y = y / (1 + exp(-y));
        ps_row_store(ctx->out[0]->data, t->dtype, group_offset(s, last, b, c, k % plane), 1, &y, 1);
    }
}

static ps_status group_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const group_params *p = ctx->params;
    const ps_shape *s = &ctx->in[GN_X]->shape;
    int64_t count = (int64_t)ps_tensor_count(ctx->in[GN_X]);
    if (count == 0) return PS_OK;
    double *x = ps_alloc_array(ctx->alloc, (size_t)(count / s->dims[0] / p->groups), sizeof(double));
    if (!x) return PS_FAIL_NOMEM(err, "a group of channels");
    for (int64_t b = 0; b < s->dims[0]; b++)
        for (int64_t g = 0; g < p->groups; g++)
            group_one(ctx, b, g, x);
    ps_free(ctx->alloc, x);
    return PS_OK;
}

#define MS "com.microsoft"
#define SKIP skip_attrs, sizeof(epsilon_params), skip_infer, skip_ref, 0
#define GROUP group_attrs, sizeof(group_params), group_infer, group_ref, 0
static const ps_op ops[] = {
    { "SkipLayerNormalization", MS, 1, 3, 5, 1, 4, SKIP },
    { "SkipSimplifiedLayerNormalization", MS, 1, 3, 4, 1, 4, SKIP },
    { "EmbedLayerNormalization", MS, 1, 1, 9, 1, 3, embed_attrs, sizeof(embed_params), embed_infer, embed_ref, 0 },
    { "GroupNorm", MS, 1, 3, 3, 1, 1, GROUP },
    { "SkipGroupNorm", MS, 1, 4, 5, 1, 2, GROUP },
};
const ps_op_family ps_ops_contrib_norm = PS_OP_FAMILY("contrib_norm", ops);
