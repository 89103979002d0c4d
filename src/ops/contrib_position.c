/* contrib_position.c - where tokens stand, in domain com.microsoft: RemovePadding, RestorePadding,
 * RelativePositionBias, GatedRelativePositionBias.
 *
 * Source: the operator schemas of ONNX Runtime 1.32. */
#include <math.h>

#include "ops/facts.h"
#include "ops/kernel_util.h"

static int64_t known_dim(const ps_node *node, size_t i, int d) {
    return ps_in_known(node, i) && d < node->in[i]->shape.rank ? node->in[i]->shape.dims[d] : PS_DIM_UNKNOWN;
}

static ps_status check_type(const ps_node *node, size_t i, ps_dtype want, ps_error *err) {
    if (!ps_has_in(node, i)) return PS_OK;
    ps_dtype t = node->in[i]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != want, node, err, TYPE, "input %zu is %s, it must be %s", i,
                    ps_dtype_name(t), ps_dtype_name(want));
    return PS_OK;
}

/* ---- RemovePadding, RestorePadding ---- */

static ps_status remove_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(check_type(node, 1, PS_DTYPE_I32, err));
    PS_TRY(ps_check_rank(node, 0, 3, err));
    PS_TRY(ps_check_rank(node, 1, 1, err));
    int64_t batch = known_dim(node, 0, 0);
    PS_TRY(ps_check_dim(node, 1, 0, batch, "the batch", err));
    ps_shape y = ps_shape_make(2, (int64_t[]) { PS_DIM_UNKNOWN, known_dim(node, 0, 2) });
    ps_shape offsets = ps_shape_make(2, (int64_t[]) { batch, known_dim(node, 0, 1) });
    ps_shape sums = ps_shape_make(1, (int64_t[]) { batch >= 0 ? batch + 1 : PS_DIM_UNKNOWN });
    ps_shape one = ps_shape_make(1, (int64_t[]) { 1 });
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    ps_infer_set(node, 1, PS_DTYPE_I32, &offsets);
    ps_infer_set(node, 2, PS_DTYPE_I32, &sums);
    ps_infer_set(node, 3, PS_DTYPE_I32, &one);
    return PS_OK;
}

/* Offsets of the words, then those of the padding; running sums of the counts; the largest count. */
static void remove_offsets(const ps_kernel_ctx *ctx, const int32_t *counts) {
    const int64_t *d = ctx->in[0]->shape.dims;
    int32_t *offsets = ctx->out[1]->data, *sums = ctx->out[2]->data, *most = ctx->out[3]->data;
    int64_t at = 0;
    for (int padding = 0; padding < 2; padding++)
        for (int64_t b = 0; b < d[0]; b++)
            for (int64_t s = padding ? counts[b] : 0; s < (padding ? d[1] : counts[b]); s++)
                offsets[at++] = (int32_t)(b * d[1] + s);
    sums[0] = *most = 0;
    for (int64_t b = 0; b < d[0]; b++) {
        sums[b + 1] = sums[b] + counts[b];
        if (counts[b] > *most) *most = counts[b];
    }
}

static ps_status remove_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    const int64_t *d = x->shape.dims;
    const int32_t *counts = ctx->in[1]->data;
    int64_t total = 0;
    for (int64_t b = 0; b < d[0]; b++) {
        PS_NODE_FAIL_IF(counts[b] < 0 || counts[b] > d[1], ctx->node, err, INVALID,
                        "sequence %lld has %d tokens of at most %lld", (long long)b, (int)counts[b], (long long)d[1]);
        total += counts[b];
    }
    ps_shape y = ps_shape_make(2, (int64_t[]) { total, d[2] });
    PS_TRY(ps_kernel_output(ctx, 0, x->dtype, &y, err));
    remove_offsets(ctx, counts);
    const int32_t *offsets = ctx->out[1]->data;
    size_t row = (size_t)d[2] * ps_dtype_size(x->dtype);
    for (int64_t i = 0; i < total && row; i++)
        memcpy((char *)ctx->out[0]->data + (size_t)i * row, (const char *)x->data + (size_t)offsets[i] * row, row);
    return PS_OK;
}

static ps_status restore_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(check_type(node, 1, PS_DTYPE_I32, err));
    PS_TRY(ps_check_rank(node, 0, 2, err));
    PS_TRY(ps_check_rank(node, 1, 2, err));
    ps_shape y = ps_shape_make(3, (int64_t[]) { known_dim(node, 1, 0), known_dim(node, 1, 1), known_dim(node, 0, 1) });
    return ps_infer_checked(node, 0, node->in[0]->dtype, &y, err);
}

static ps_status restore_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    const int32_t *offsets = ctx->in[1]->data;
    int64_t places = (int64_t)ps_tensor_count(ctx->in[1]), tokens = x->shape.dims[0];
    size_t row = (size_t)x->shape.dims[1] * ps_dtype_size(x->dtype);
    if (ctx->out[0]->bytes) memset(ctx->out[0]->data, 0, ctx->out[0]->bytes);
    PS_NODE_FAIL_IF(tokens > places, ctx->node, err, SHAPE, "%lld tokens have %lld places", (long long)tokens,
                    (long long)places);
    for (int64_t i = 0; i < tokens && row; i++) {
        PS_NODE_FAIL_IF(offsets[i] < 0 || offsets[i] >= places, ctx->node, err, INVALID,
                        "token offset %d is outside of %lld places", (int)offsets[i], (long long)places);
        memcpy((char *)ctx->out[0]->data + (size_t)offsets[i] * row, (const char *)x->data + (size_t)i * row, row);
    }
    return PS_OK;
}

/* ---- RelativePositionBias (T5: Raffel et al., arXiv:1910.10683) ---- */

typedef struct relative_params {
    int64_t max_distance, is_bidirectional;
} relative_params;

static const ps_attr_def relative_attrs[] = {
    PS_A_INT_REQ(relative_params, max_distance),
    PS_A_INT(relative_params, is_bidirectional, 0),
    PS_ATTRS_END,
};

static ps_status relative_shape(const ps_facts *f, ps_shape *ret, bool *ret_known, ps_error *err) {
    int64_t length[2] = { PS_DIM_UNKNOWN, PS_DIM_UNKNOWN };
    ps_shape table = ps_facts_shape(f, 0);
    *ret_known = true;
    for (size_t i = 0; i < 2; i++) {
        size_t n = 0;
        bool known;
        PS_TRY(ps_facts_ints(f, i + 1, "a length", &length[i], 1, &n, &known, err));
        PS_NODE_FAIL_IF(known && (n != 1 || length[i] < 0), f->node, err, INVALID, "a length is no count");
        if (!known) length[i] = PS_DIM_UNKNOWN;
        *ret_known &= known;
    }
    *ret = ps_shape_make(4, (int64_t[]) { 1, table.rank == 2 ? table.dims[1] : PS_DIM_UNKNOWN, length[0], length[1] });
    return PS_OK;
}

static ps_status relative_infer(const ps_node *node, ps_error *err) {
    const relative_params *p = node->params;
    ps_facts f = ps_facts_graph(node);
    ps_shape y;
    bool known;
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(ps_check_rank(node, 0, 2, err));
    int64_t buckets = known_dim(node, 0, 0);
    PS_NODE_FAIL_IF(buckets >= 0 && (buckets < 4 || p->max_distance <= buckets / (p->is_bidirectional ? 4 : 2)), node,
                    err, INVALID, "%lld buckets and max_distance %lld leave no bucket for far distances",
                    (long long)buckets, (long long)p->max_distance);
    PS_TRY(relative_shape(&f, &y, &known, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &y, err);
}

/* Near distances have a bucket each, far ones share buckets of growing width. distance: key - query. */
static int64_t relative_bucket(int64_t distance, int64_t buckets, const relative_params *p) {
    int64_t first = 0, far = distance < 0 ? -distance : 0;
    if (p->is_bidirectional) {
        buckets /= 2;
        if (distance > 0) first = buckets;
        far = distance < 0 ? -distance : distance;
    }
    int64_t exact = buckets / 2;
    if (far < exact) return first + far;
    double share = log((double)far / (double)exact) / log((double)p->max_distance / (double)exact);
    return first + (share < 1 ? exact + (int64_t)(share * (double)(buckets - exact)) : buckets - 1);
}

static ps_status relative_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    const ps_tensor *table = ctx->in[0];
    int64_t buckets = table->shape.dims[0], n;
    ps_shape s;
    bool known;
    PS_TRY(relative_shape(&f, &s, &known, err));
    PS_NODE_FAIL_IF(!known || !ps_shape_elements(&s, &n), ctx->node, err, LIMIT,
                    "the lengths are not known or too large");
    PS_TRY(ps_kernel_output(ctx, 0, table->dtype, &s, err));
    size_t size = ps_dtype_size(table->dtype);
    for (int64_t i = 0; i < n; i++) {
        int64_t head = i / (s.dims[2] * s.dims[3]), q = i / s.dims[3] % s.dims[2], k = i % s.dims[3];
        /* The table lies column by column. */
        int64_t at = head * buckets + relative_bucket(k - q, buckets, ctx->params);
        memcpy((char *)ctx->out[0]->data + (size_t)i * size, (const char *)table->data + (size_t)at * size, size);
    }
    return PS_OK;
}

/* ---- GatedRelativePositionBias ---- */

typedef struct gated_params {
    int64_t num_heads;
} gated_params;

static const ps_attr_def gated_attrs[] = { PS_A_INT_REQ(gated_params, num_heads), PS_ATTRS_END };

enum { R_QUERY, R_QUERY_BIAS, R_POS, R_WEIGHT, R_BIAS, R_ECO, R_OFFSET };

static ps_status gated_infer(const ps_node *node, ps_error *err) {
    const gated_params *p = node->params;
    PS_NODE_FAIL_IF(ps_has_in(node, R_OFFSET), node, err, UNSUPPORTED,
                    "packed tokens (token_offset) are not supported");
    PS_NODE_FAIL_IF(p->num_heads < 1, node, err, INVALID, "num_heads is %lld, it must be at least 1",
                    (long long)p->num_heads);
    PS_TRY(ps_check_floats(node, 6, err));
    PS_TRY(ps_check_rank(node, R_QUERY, 3, err));
    int64_t width = known_dim(node, R_QUERY, 2), rows = known_dim(node, R_QUERY, 1),
            gates = known_dim(node, R_WEIGHT, 1);
    PS_NODE_FAIL_IF(width >= 0 && width % p->num_heads, node, err, SHAPE, "%lld heads do not divide %lld columns",
                    (long long)p->num_heads, (long long)width);
    PS_NODE_FAIL_IF(gates >= 0 && gates % 2, node, err, SHAPE, "%lld columns of the weight cannot be halved",
                    (long long)gates);
    const int64_t pos[] = { 1, p->num_heads, rows, rows }, eco[] = { 1, p->num_heads, 1, 1 };
    PS_TRY(ps_check_rank(node, R_QUERY_BIAS, 1, err));
    PS_TRY(ps_check_dim(node, R_QUERY_BIAS, 0, width, "the width of the query", err));
    PS_TRY(ps_check_rank(node, R_WEIGHT, 2, err));
    PS_TRY(ps_check_dim(node, R_WEIGHT, 0, width >= 0 ? width / p->num_heads : width, "the head size", err));
    PS_TRY(ps_check_rank(node, R_BIAS, 1, err));
    PS_TRY(ps_check_dim(node, R_BIAS, 0, gates, "the number of columns of the weight", err));
    PS_TRY(ps_check_rank(node, R_POS, 4, err));
    PS_TRY(ps_check_rank(node, R_ECO, 4, err));
    for (int d = 0; d < 4; d++) {
        PS_TRY(ps_check_dim(node, R_POS, d, pos[d], "the same dim of (1, heads, length, length)", err));
        PS_TRY(ps_check_dim(node, R_ECO, d, eco[d], "the same dim of (1, heads, 1, 1)", err));
    }
    ps_shape y = ps_shape_make(4, (int64_t[]) { known_dim(node, R_QUERY, 0), p->num_heads, rows, rows });
    return ps_infer_checked(node, 0, node->in[0]->dtype, &y, err);
}

static double load_one(const ps_tensor *t, int64_t i) {
    double v;
    ps_row_load(&v, t->dtype, t->data, i, 1, 1);
    return v;
}

/* The factor of one query: both gates are sums over half of the projection's columns. */
static double gated_factor(const ps_kernel_ctx *ctx, int64_t b, int64_t h, int64_t row) {
    const int64_t *d = ctx->in[R_QUERY]->shape.dims;
    int64_t heads = ((const gated_params *)ctx->params)->num_heads, depth = d[2] / heads,
            gates = ctx->in[R_WEIGHT]->shape.dims[1];
    double gate[2] = { 0, 0 };
    for (int64_t g = 0; g < gates; g++) {
        double sum = load_one(ctx->in[R_BIAS], g);
        for (int64_t i = 0; i < depth; i++)
            sum += (load_one(ctx->in[R_QUERY], (b * d[1] + row) * d[2] + h * depth + i) +
                    load_one(ctx->in[R_QUERY_BIAS], h * depth + i)) *
                   load_one(ctx->in[R_WEIGHT], i * gates + g);
        gate[g >= gates / 2] += sum;
    }
    double u = 1 / (1 + exp(-gate[0])), r = 1 / (1 + exp(-gate[1]));
    return u * (r * load_one(ctx->in[R_ECO], h) - 1) + 2;
}

static ps_status gated_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const int64_t *d = ctx->out[0]->shape.dims;
    (void)err;
    for (int64_t item = 0; item < d[0] * d[1] * d[2]; item++) {
        int64_t row = item % d[2], h = item / d[2] % d[1];
        double factor = gated_factor(ctx, item / d[2] / d[1], h, row);
        for (int64_t k = 0; k < d[3]; k++) {
            double v = factor * load_one(ctx->in[R_POS], (h * d[2] + row) * d[3] + k);
            ps_row_store(ctx->out[0]->data, ctx->out[0]->dtype, item * d[3] + k, 1, &v, 1);
        }
    }
    return PS_OK;
}

#define MS "com.microsoft"
#define P(kind) kind##_attrs, sizeof(kind##_params), kind##_infer, kind##_ref
static const ps_op ops[] = {
    { "RemovePadding", MS, 1, 2, 2, 4, 4, NULL, 0, remove_infer, remove_ref, PS_OP_DATA_SHAPE },
    { "RestorePadding", MS, 1, 2, 2, 1, 1, NULL, 0, restore_infer, restore_ref, 0 },
    { "RelativePositionBias", MS, 1, 3, 3, 1, 1, P(relative), 0 },
    { "GatedRelativePositionBias", MS, 1, 6, 7, 1, 1, P(gated), 0 },
};
const ps_op_family ps_ops_contrib_position = PS_OP_FAMILY("contrib_position", ops);
