/* contrib_experts.c - small networks in one operator of domain com.microsoft: MoE (a mixture of experts) and
 * WordConvEmbedding.
 *
 * Source: the operator schemas of ONNX Runtime 1.32; where they are silent, what its CPU kernels compute. */
#include <math.h>

#include "ops/facts.h"
#include "ops/kernel_util.h"

static int64_t known_dim(const ps_node *node, size_t i, int d) {
    return ps_in_known(node, i) && d < node->in[i]->shape.rank ? node->in[i]->shape.dims[d] : PS_DIM_UNKNOWN;
}

static const ps_tensor *input(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_in ? ctx->in[i] : NULL;
}

/* ---- MoE (Switch transformer: Fedus et al., arXiv:2101.03961) ---- */

typedef struct moe_params {
    int64_t k, normalize_routing_weights, use_sparse_mixer, swiglu_fusion, swiglu_limit_after_activation;
    float activation_alpha, activation_beta, swiglu_limit; /* limit: infinity where it is not given */
    const char *activation_type;
} moe_params;

static const ps_attr_def moe_attrs[] = {
    PS_A_INT(moe_params, k, 1),
    PS_A_INT(moe_params, normalize_routing_weights, 0),
    PS_A_INT(moe_params, use_sparse_mixer, 0),
    PS_A_INT(moe_params, swiglu_fusion, 0),
    PS_A_INT(moe_params, swiglu_limit_after_activation, 0),
    PS_A_FLOAT(moe_params, activation_alpha, 1),
    PS_A_FLOAT(moe_params, activation_beta, 0),
    PS_A_FLOAT(moe_params, swiglu_limit, INFINITY),
    PS_A_STR(moe_params, activation_type, "relu"),
    PS_ATTRS_END,
};

enum { M_INPUT, M_ROUTER, M_FC1, M_FC1_BIAS, M_FC2, M_FC2_BIAS, M_FC3, M_FC3_BIAS };

static bool is_swiglu(const moe_params *p) {
    return strcmp(p->activation_type, "swiglu") == 0;
}

static ps_status moe_check(const ps_node *node, ps_error *err) {
    static const char *const known[] = { "relu", "gelu", "silu", "identity", "swiglu" };
    const moe_params *p = node->params;
    bool ok = false;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        ok |= strcmp(p->activation_type, known[i]) == 0;
    PS_NODE_FAIL_IF(!ok, node, err, UNSUPPORTED, "activation_type '%s' is not supported", p->activation_type);
    PS_NODE_FAIL_IF(p->use_sparse_mixer || p->swiglu_limit_after_activation, node, err, UNSUPPORTED,
                    "use_sparse_mixer and swiglu_limit_after_activation are not supported");
    PS_NODE_FAIL_IF(is_swiglu(p) && p->swiglu_fusion != 1 && p->swiglu_fusion != 2, node, err, UNSUPPORTED,
                    "swiglu_fusion is %lld, it must be 1 or 2", (long long)p->swiglu_fusion);
    PS_NODE_FAIL_IF(ps_has_in(node, M_FC3) || ps_has_in(node, M_FC3_BIAS), node, err, UNSUPPORTED,
                    "separate fc3 weights are not supported");
    PS_NODE_FAIL_IF(!ps_has_in(node, M_FC2), node, err, FORMAT, "fc2_experts_weights is required");
    return PS_OK;
}

static ps_status moe_infer(const ps_node *node, ps_error *err) {
    const moe_params *p = node->params;
    PS_TRY(moe_check(node, err));
    PS_TRY(ps_check_floats(node, node->n_in, err));
    const ps_shape *x = &node->in[M_INPUT]->shape;
    PS_NODE_FAIL_IF(x->rank >= 0 && x->rank != 2 && x->rank != 3, node, err, SHAPE,
                    "the input has rank %d, it must have 2 or 3", x->rank);
    int64_t hidden = x->rank > 0 ? x->dims[x->rank - 1] : PS_DIM_UNKNOWN, experts = known_dim(node, M_ROUTER, 1),
            inner = known_dim(node, M_FC1, 1), tokens;
    PS_TRY(ps_check_rank(node, M_ROUTER, 2, err));
    if (x->rank > 0 && ps_shape_fixed(x)) {
        ps_shape rows = ps_shape_make(x->rank - 1, x->dims);
        if (ps_shape_elements(&rows, &tokens))
            PS_TRY(ps_check_dim(node, M_ROUTER, 0, tokens, "the number of tokens", err));
    }
    PS_NODE_FAIL_IF(p->k < 1 || (experts >= 0 && p->k > experts), node, err, INVALID, "k is %lld of %lld experts",
                    (long long)p->k, (long long)experts);
    for (size_t i = M_FC1; i <= M_FC2_BIAS; i++) {
        PS_TRY(ps_check_rank(node, i, i % 2 ? 2 : 3, err));
        PS_TRY(ps_check_dim(node, i, 0, experts, "the number of experts", err));
    }
    int64_t width = is_swiglu(p) && inner >= 0 ? inner / 2 : inner;
    PS_NODE_FAIL_IF(is_swiglu(p) && inner >= 0 && inner % 2, node, err, SHAPE, "%lld rows of fc1 cannot be halved",
                    (long long)inner);
    PS_TRY(ps_check_dim(node, M_FC1, 2, hidden, "the width of the input", err));
    PS_TRY(ps_check_dim(node, M_FC1_BIAS, 1, inner, "the number of rows of fc1", err));
    PS_TRY(ps_check_dim(node, M_FC2, 1, hidden, "the width of the input", err));
    PS_TRY(ps_check_dim(node, M_FC2, 2, width, "the width between the layers", err));
    PS_TRY(ps_check_dim(node, M_FC2_BIAS, 1, hidden, "the width of the input", err));
    return ps_infer_same(node, err);
}

typedef struct moe_job {
    const ps_kernel_ctx *ctx;
    const moe_params *p;
    int64_t hidden, experts, inner, width;
    double *scratch;
} moe_job;

/* y = W x + b of one expert; w has room for a row. */
static void layer(const ps_tensor *weights, const ps_tensor *bias, int64_t expert, const double *x, int64_t n_in,
                  double *y, int64_t n_out, double *w) {
    for (int64_t o = 0; o < n_out; o++)
        y[o] = 0;
    if (bias) ps_row_load(y, bias->dtype, bias->data, expert * n_out, 1, n_out);
    for (int64_t o = 0; o < n_out; o++) {
        ps_row_load(w, weights->dtype, weights->data, (expert * n_out + o) * n_in, 1, n_in);
        for (int64_t i = 0; i < n_in; i++)
            y[o] += w[i] * x[i];
    }
}

static double swiglu(const moe_params *p, double gate, double value) {
    double limit = (double)p->swiglu_limit;
    if (gate > limit) gate = limit;
    value = value > limit ? limit : value < -limit ? -limit : value;
    return gate / (1 + exp(-(double)p->activation_alpha * gate)) * (value + (double)p->activation_beta);
}

/* In place; swiglu halves the row: gates and values alternate, or follow each other. */
static void moe_activate(const moe_job *j, double *h) {
    const moe_params *p = j->p;
    const char *name = p->activation_type;
    if (is_swiglu(p)) {
        bool mixed = p->swiglu_fusion == 1;
        for (int64_t i = 0; i < j->width; i++)
            h[i] = swiglu(p, h[mixed ? 2 * i : i], h[mixed ? 2 * i + 1 : j->width + i]);
        return;
    }
    for (int64_t i = 0; i < j->inner; i++) {
        if (name[0] == 'r')
            h[i] = h[i] > 0 ? h[i] : 0;
        else if (name[0] == 's')
            h[i] = h[i] / (1 + exp(-h[i]));
        else if (name[0] == 'g')
            h[i] = 0.5 * h[i] * (1 + tanh(0.79788456080286536 * (h[i] + 0.044715 * h[i] * h[i] * h[i])));
    }
}

/* Weights of the k best experts of a token; the others become 0. Probabilities are over all experts. */
static void moe_route(const moe_job *j, double *prob) {
    double max = -INFINITY, sum = 0, kept = 0;
    for (int64_t e = 0; e < j->experts; e++)
        max = prob[e] > max ? prob[e] : max;
    for (int64_t e = 0; e < j->experts; e++)
        sum += prob[e] = exp(prob[e] - max);
    for (int64_t e = 0; e < j->experts; e++)
        prob[e] /= sum;
    for (int64_t taken = 0; taken < j->p->k; taken++) { /* chosen ones are negative meanwhile */
        int64_t best = -1;
        for (int64_t e = 0; e < j->experts; e++)
            if (prob[e] >= 0 && (best < 0 || prob[e] > prob[best])) best = e;
        if (best < 0) break;
        kept += prob[best];
        prob[best] = -1 - prob[best];
    }
    for (int64_t e = 0; e < j->experts; e++) {
        double chosen = prob[e] < 0 ? -1 - prob[e] : 0;
        prob[e] = j->p->normalize_routing_weights && kept > 0 ? chosen / kept : chosen;
    }
}

static void moe_tokens(void *ctx, int64_t begin, int64_t end, int thread) {
    moe_job *j = ctx;
    const ps_kernel_ctx *c = j->ctx;
    int64_t longest = j->hidden > j->inner ? j->hidden : j->inner;
    double *x = j->scratch + (int64_t)thread * (3 * j->hidden + j->inner + longest + j->experts), *out = x + j->hidden,
           *y = out + j->hidden, *h = y + j->hidden, *w = h + j->inner, *prob = w + longest;
    for (int64_t t = begin; t < end; t++) {
        ps_row_load(x, c->in[M_INPUT]->dtype, c->in[M_INPUT]->data, t * j->hidden, 1, j->hidden);
        ps_row_load(prob, c->in[M_ROUTER]->dtype, c->in[M_ROUTER]->data, t * j->experts, 1, j->experts);
        moe_route(j, prob);
        for (int64_t i = 0; i < j->hidden; i++)
            out[i] = 0;
        for (int64_t e = 0; e < j->experts; e++) {
            if (prob[e] == 0) continue;
            layer(c->in[M_FC1], input(c, M_FC1_BIAS), e, x, j->hidden, h, j->inner, w);
            moe_activate(j, h);
            layer(c->in[M_FC2], input(c, M_FC2_BIAS), e, h, j->width, y, j->hidden, w);
            for (int64_t i = 0; i < j->hidden; i++)
                out[i] += prob[e] * y[i];
        }
        ps_row_store(c->out[0]->data, c->out[0]->dtype, t * j->hidden, 1, out, j->hidden);
    }
}

static ps_status moe_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_shape *x = &ctx->in[M_INPUT]->shape;
    moe_job j = { .ctx = ctx,
                  .p = ctx->params,
                  .hidden = x->dims[x->rank - 1],
                  .experts = ctx->in[M_ROUTER]->shape.dims[1],
                  .inner = ctx->in[M_FC1]->shape.dims[1] };
    j.width = is_swiglu(j.p) ? j.inner / 2 : j.inner;
    if (ps_tensor_count(ctx->in[M_INPUT]) == 0) return PS_OK;
    size_t room = (size_t)(3 * j.hidden + j.inner + (j.hidden > j.inner ? j.hidden : j.inner) + j.experts);
    return ps_parallel_scratch(ctx, ps_shape_product(x, 0, x->rank - 1), 1, room, &j.scratch, moe_tokens, &j, err);
}

/* ---- WordConvEmbedding: characters, a convolution over windows of them, tanh, the largest per filter ---- */

typedef struct word_params {
    int64_t char_embedding_size, conv_window_size, embedding_size;
} word_params;

static const ps_attr_def word_attrs[] = {
    PS_A_INT(word_params, char_embedding_size, 0),
    PS_A_INT(word_params, conv_window_size, 0),
    PS_A_INT(word_params, embedding_size, 0),
    PS_ATTRS_END,
};

enum { W_WORDS, W_KERNEL, W_BIAS, W_CHARS };

static ps_status word_infer(const ps_node *node, ps_error *err) {
    const word_params *p = node->params;
    ps_dtype t = node->in[W_WORDS]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_I32, node, err, TYPE, "the words are %s, they must be i32",
                    ps_dtype_name(t));
    for (size_t i = W_KERNEL; i <= W_CHARS; i++) {
        PS_TRY(ps_check_float(node, i, err));
        PS_TRY(ps_check_same_type(node, i, W_KERNEL, err));
        PS_TRY(ps_check_rank(node, i, i == W_KERNEL ? 4 : i == W_BIAS ? 1 : 2, err));
    }
    int64_t filters = known_dim(node, W_KERNEL, 0);
    PS_TRY(ps_check_rank(node, W_WORDS, 2, err));
    PS_TRY(ps_check_dim(node, W_KERNEL, 1, 1, "the number of channels", err));
    PS_TRY(ps_check_dim(node, W_KERNEL, 3, known_dim(node, W_CHARS, 1), "the width of the characters", err));
    PS_TRY(ps_check_dim(node, W_BIAS, 0, filters, "the number of filters", err));
    if (p->embedding_size) PS_TRY(ps_check_dim(node, W_KERNEL, 0, p->embedding_size, "embedding_size", err));
    if (p->conv_window_size) PS_TRY(ps_check_dim(node, W_KERNEL, 2, p->conv_window_size, "conv_window_size", err));
    if (p->char_embedding_size)
        PS_TRY(ps_check_dim(node, W_CHARS, 1, p->char_embedding_size, "char_embedding_size", err));
    ps_shape y = node->in[W_WORDS]->shape;
    if (y.rank >= 0) {
        int64_t window = known_dim(node, W_KERNEL, 2), length = y.rank ? y.dims[y.rank - 1] : 0;
        PS_NODE_FAIL_IF(y.rank < 1 || (length >= 0 && window >= 0 && (window < 1 || length < window)), node, err, SHAPE,
                        "words of %lld characters have no window of %lld", (long long)length, (long long)window);
        y.dims[y.rank - 1] = filters;
    }
    return ps_infer_checked(node, 0, node->in[W_KERNEL]->dtype, &y, err);
}

/* The filter's largest response to a word; places: how many windows count. */
static double word_filter(const double *chars, const double *kernel, double bias, int64_t places, int64_t width,
                          int64_t taps) {
    double best = -INFINITY;
    for (int64_t at = 0; at < places; at++) {
        double sum = bias;
        for (int64_t i = 0; i < taps; i++)
            sum += kernel[i] * chars[at * width + i];
        if (tanh(sum) > best) best = tanh(sum);
    }
    return best;
}

static ps_status word_rows(const ps_kernel_ctx *ctx, double *chars, int64_t length, ps_error *err) {
    const ps_tensor *kernel = ctx->in[W_KERNEL], *bias = ctx->in[W_BIAS], *table = ctx->in[W_CHARS];
    int64_t filters = kernel->shape.dims[0], window = kernel->shape.dims[2], width = kernel->shape.dims[3],
            taps = window * width, words = (int64_t)ps_tensor_count(ctx->in[W_WORDS]) / length;
    double *weights = chars + length * width, b;
    for (int64_t i = 0; i < words; i++) {
        const int32_t *word = (const int32_t *)ctx->in[W_WORDS]->data + i * length;
        int64_t used = 0;
        for (int64_t k = 0; k < length; k++) {
            PS_NODE_FAIL_IF(word[k] < 0 || word[k] >= table->shape.dims[0], ctx->node, err, INVALID,
                            "character %d is outside of the table's %lld", (int)word[k],
                            (long long)table->shape.dims[0]);
            used += word[k] > 0;
            ps_row_load(chars + k * width, table->dtype, table->data, word[k] * width, 1, width);
        }
        int64_t places = used > window ? used - window + 1 : used ? 1 : 0;
        for (int64_t f = 0; f < filters; f++) {
            ps_row_load(weights, kernel->dtype, kernel->data, f * taps, 1, taps);
            ps_row_load(&b, bias->dtype, bias->data, f, 1, 1);
            double y = places ? word_filter(chars, weights, b, places, width, taps) : 0;
            ps_row_store(ctx->out[0]->data, ctx->out[0]->dtype, i * filters + f, 1, &y, 1);
        }
    }
    return PS_OK;
}

static ps_status word_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_shape *s = &ctx->in[W_WORDS]->shape, *k = &ctx->in[W_KERNEL]->shape;
    int64_t length = s->dims[s->rank - 1];
    size_t room;
    if (ps_tensor_count(ctx->out[0]) == 0) return PS_OK;
    if (ps_mul_overflow_size((size_t)length + (size_t)k->dims[2], (size_t)k->dims[3], &room))
        return PS_FAIL_NOMEM(err, "the characters of a word");
    double *chars = ps_alloc_array(ctx->alloc, room, sizeof(double));
    if (!chars) return PS_FAIL_NOMEM(err, "the characters of a word");
    ps_status status = word_rows(ctx, chars, length, err);
    ps_free(ctx->alloc, chars);
    return status;
}

#define MS "com.microsoft"
static const ps_op ops[] = {
    { "MoE", MS, 1, 3, 8, 1, 1, moe_attrs, sizeof(moe_params), moe_infer, moe_ref, 0 },
    { "WordConvEmbedding", MS, 1, 4, 4, 1, 1, word_attrs, sizeof(word_params), word_infer, word_ref, 0 },
};
const ps_op_family ps_ops_contrib_experts = PS_OP_FAMILY("contrib_experts", ops);
