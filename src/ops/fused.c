/* fused.c - the operators of domain "polestar" that passes make.
 *
 * Conv, ConvTranspose, Gemm and MatMul are the ONNX operator followed by post-operations (params.h); Pointwise is
 * post-operations alone. The kernels run the unfused kernel into the output and apply the post-operations there one
 * after the other, so that in f32 the result equals the unfused nodes bit for bit. Attention rounds to the output's
 * type where the unfused MatMul, Mul, Add, Softmax, MatMul would. */
#include <string.h>

#include "ops/conv.h"
#include "ops/kernel_util.h"
#include "ops/matmul.h"
#include "ops/params.h"
#include "ops/softmax.h"

enum { CHUNK = 1024 }; /* elements that post-operations treat at a time */

/* ---- post-operations ---- */

/* Inputs of the operator itself: post-operations of Conv, ConvTranspose, Gemm and MatMul read those after them. */
enum { PRODUCT_INPUTS = 3, POINTWISE_INPUTS = 0 };

/* The operand must exist and broadcast to the output without changing it. */
static ps_status check_operand(const ps_node *node, const ps_post *p, int own_inputs, ps_error *err) {
    PS_NODE_FAIL_IF(p->operand < own_inputs || !ps_has_in(node, (size_t)p->operand), node, err, INVALID,
                    "post-operation %s reads input %d, which is not there for it", ps_post_name(p->kind),
                    (int)p->operand);
    PS_TRY(ps_check_float(node, (size_t)p->operand, err));
    const ps_shape *s = &node->in[p->operand]->shape, *out = &node->out[0]->shape;
    if (s->rank < 0 || out->rank < 0) return PS_OK;
    char have[128], want[128];
    ps_shape both;
    bool ok = s->rank <= out->rank && ps_shape_broadcast(s, out, &both);
    for (int d = 0; ok && d < out->rank; d++)
        ok = out->dims[d] < 0 || both.dims[d] < 0 || both.dims[d] == out->dims[d];
    PS_NODE_FAIL_IF(!ok, node, err, SHAPE, "input %d of shape %s does not broadcast to the output's %s",
                    (int)p->operand, ps_shape_text(s, have, sizeof have), ps_shape_text(out, want, sizeof want));
    return PS_OK;
}

/* After out[0] was inferred. */
static ps_status check_posts(const ps_node *node, int own_inputs, ps_error *err) {
    ps_post posts[PS_MAX_POSTS];
    size_t n = ps_node_posts(node, posts);
    const ps_attr *attr = ps_node_attr(node, "post_op");
    PS_NODE_FAIL_IF(!n && attr && attr->n, node, err, INVALID, "post_op and post_arg do not describe post-operations");
    ps_dtype t = node->in[0]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_F32 && t != PS_DTYPE_F16 && t != PS_DTYPE_BF16, node, err,
                    TYPE, "input 0 is %s, fused operators take f32, f16 and bf16", ps_dtype_name(t));
    for (size_t i = 0; i < n; i++)
        if (ps_post_is_binary(posts[i].kind)) PS_TRY(check_operand(node, &posts[i], own_inputs, err));
    return PS_OK;
}

typedef struct post_job {
    ps_post posts[PS_MAX_POSTS];
    ps_bcast operands[PS_MAX_POSTS];
    size_t n;
    ps_bcast start; /* what the chain begins with; unused dims repeat */
    ps_tensor *y;
    int64_t total;
    double *scratch;
} post_job;

static void post_chunks(void *ctx, int64_t begin, int64_t end, int thread) {
    post_job *job = ctx;
    double *x = job->scratch + (int64_t)thread * 2 * CHUNK, *operand = x + CHUNK;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        int64_t first = chunk * CHUNK, n = job->total - first < CHUNK ? job->total - first : CHUNK;
        ps_bcast_load(&job->start, first, n, x);
        for (size_t k = 0; k < job->n; k++) {
            const ps_post *p = &job->posts[k];
            bool binary = ps_post_is_binary(p->kind);
            if (binary) ps_bcast_load(&job->operands[k], first, n, operand);
            for (int64_t i = 0; i < n; i++)
                x[i] =
                    (double)ps_post_apply(p->kind, (float)x[i], p->alpha, p->beta, binary ? (float)operand[i] : 0.0f);
        }
        ps_row_store(job->y->data, job->y->dtype, first, 1, x, n);
    }
}

/* out[0] = post-operations of `start`, which broadcasts to out[0] and may be out[0] itself. */
static ps_status apply_posts(const ps_kernel_ctx *ctx, const ps_tensor *start, ps_error *err) {
    post_job job = { .y = ctx->out[0] };
    const ps_shape *s = &job.y->shape;
    job.n = ps_node_posts(ctx->node, job.posts);
    job.total = (int64_t)ps_tensor_count(job.y);
    bool ok = ps_bcast_init(&job.start, start, s);
    for (size_t i = 0; ok && i < job.n; i++)
        if (ps_post_is_binary(job.posts[i].kind))
            ok = (size_t)job.posts[i].operand < ctx->n_in && ctx->in[job.posts[i].operand] &&
                 ps_bcast_init(&job.operands[i], ctx->in[job.posts[i].operand], s);
    if (!ok) return PS_NODE_FAIL(ctx->node, err, SHAPE, "an operand does not broadcast to the output's shape");
    return ps_parallel_scratch(ctx, (job.total + CHUNK - 1) / CHUNK, 4, 2 * CHUNK, &job.scratch, post_chunks, &job,
                               err);
}

/* ---- the four products ---- */

static ps_status conv_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_conv_infer(node, err));
    return check_posts(node, PRODUCT_INPUTS, err);
}

static ps_status deconv_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_deconv_infer(node, err));
    return check_posts(node, PRODUCT_INPUTS, err);
}

static ps_status gemm_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_gemm_infer(node, err));
    return check_posts(node, PRODUCT_INPUTS, err);
}

static ps_status matmul_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_matmul_infer(node, err));
    const ps_shape *y = &node->out[0]->shape;
    PS_TRY(ps_check_rank(node, 2, 1, err));
    PS_NODE_FAIL_IF(y->rank == 0 && ps_has_in(node, 2), node, err, SHAPE,
                    "a bias has no columns to go to in a scalar product");
    if (y->rank > 0) PS_TRY(ps_check_dim(node, 2, 0, y->dims[y->rank - 1], "the number of output columns", err));
    return check_posts(node, PRODUCT_INPUTS, err);
}

static ps_status conv_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    PS_TRY(ps_conv_ref(ctx, err));
    return apply_posts(ctx, ctx->out[0], err);
}

static ps_status deconv_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    PS_TRY(ps_deconv_ref(ctx, err));
    return apply_posts(ctx, ctx->out[0], err);
}

static ps_status gemm_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    PS_TRY(ps_gemm_ref(ctx, err));
    return apply_posts(ctx, ctx->out[0], err);
}

/* y += bias along the last dim. */
static void add_bias(ps_tensor *y, const ps_bcast *bias, double *row) {
    int64_t n = (int64_t)ps_tensor_count(y);
    double *b = row + CHUNK;
    for (int64_t first = 0; first < n; first += CHUNK) {
        int64_t count = n - first < CHUNK ? n - first : CHUNK;
        ps_row_load(row, y->dtype, y->data, first, 1, count);
        ps_bcast_load(bias, first, count, b);
        for (int64_t i = 0; i < count; i++)
            row[i] = (double)((float)row[i] + (float)b[i]);
        ps_row_store(y->data, y->dtype, first, 1, row, count);
    }
}

static ps_status matmul_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    PS_TRY(ps_matmul_ref(ctx, err));
    if (ctx->n_in > 2 && ctx->in[2]) {
        ps_bcast bias;
        if (!ps_bcast_init(&bias, ctx->in[2], &ctx->out[0]->shape))
            return PS_NODE_FAIL(ctx->node, err, SHAPE, "the bias does not broadcast to the product");
        double *row = ps_alloc_array(ctx->alloc, 2 * CHUNK, sizeof(double));
        if (!row) return PS_FAIL_NOMEM(err, "a row of the product");
        add_bias(ctx->out[0], &bias, row);
        ps_free(ctx->alloc, row);
    }
    return apply_posts(ctx, ctx->out[0], err);
}

/* ---- Pointwise ---- */

static ps_status pointwise_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_infer_broadcast(node, err));
    return check_posts(node, POINTWISE_INPUTS, err);
}

static ps_status pointwise_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return apply_posts(ctx, ctx->in[0], err);
}

/* ---- Attention ---- */

static const ps_attr_def attention_attrs[] = {
    PS_A_INT_REQ(ps_attention_params, heads),
    PS_A_FLOAT(ps_attention_params, scale, 1),
    PS_ATTRS_END,
};

static int64_t known_dim(const ps_node *node, size_t i, int d) {
    return ps_in_known(node, i) ? node->in[i]->shape.dims[d] : PS_DIM_UNKNOWN;
}

static ps_status attention_infer(const ps_node *node, ps_error *err) {
    const ps_attention_params *p = node->params;
    PS_TRY(ps_check_floats(node, 4, err));
    PS_NODE_FAIL_IF(p->heads < 1, node, err, SHAPE, "heads is %lld, it must be at least 1", (long long)p->heads);
    for (size_t i = 0; i < 3; i++) {
        PS_TRY(ps_check_rank(node, i, 3, err));
        PS_TRY(ps_check_dim(node, i, 0, known_dim(node, 0, 0), "the batch of input 0", err));
        int64_t width = known_dim(node, i, 2);
        PS_NODE_FAIL_IF(width >= 0 && width % p->heads, node, err, SHAPE,
                        "%lld heads do not divide the %lld columns of input %zu", (long long)p->heads, (long long)width,
                        i);
    }
    PS_TRY(ps_check_dim(node, 1, 2, known_dim(node, 0, 2), "the width of input 0", err));
    PS_TRY(ps_check_dim(node, 2, 1, known_dim(node, 1, 1), "the length of input 1", err));
    int64_t batch = ps_dim_merge(known_dim(node, 0, 0), known_dim(node, 1, 0));
    int64_t rows = known_dim(node, 0, 1), cols = ps_dim_merge(known_dim(node, 1, 1), known_dim(node, 2, 1));
    ps_shape scores = ps_shape_make(4, (int64_t[]) { batch, p->heads, rows, cols }), both;
    if (ps_in_known(node, 3)) {
        const ps_shape *m = &node->in[3]->shape;
        char have[128], want[128];
        bool ok = m->rank <= 4 && ps_shape_broadcast(m, &scores, &both);
        for (int d = 0; ok && d < 4; d++)
            ok = scores.dims[d] < 0 || both.dims[d] < 0 || both.dims[d] == scores.dims[d];
        PS_NODE_FAIL_IF(!ok, node, err, SHAPE, "the mask of shape %s does not broadcast to the scores' %s",
                        ps_shape_text(m, have, sizeof have), ps_shape_text(&scores, want, sizeof want));
    }
    ps_shape y = ps_shape_make(3, (int64_t[]) { batch, rows, known_dim(node, 2, 2) });
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

typedef struct attention_job {
    ps_operand q, k, v;
    ps_bcast mask;
    bool has_mask;
    int64_t heads, rows, cols, depth, depth_v; /* depth: columns of one head */
    double scale;
    ps_tensor *y;
    double *scratch;
} attention_job;

/* Rounds a row to the output's type, as storing it would. buf: room for n doubles. */
static void round_row(ps_dtype dtype, double *row, int64_t n, double *buf) {
    ps_row_store(buf, dtype, 0, 1, row, n);
    ps_row_load(row, dtype, buf, 0, 1, n);
}

/* Items are rows of the scores: (batch, head, query). */
static void attention_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    attention_job *job = ctx;
    int64_t cols = job->cols, q_width = job->heads * job->depth, v_width = job->heads * job->depth_v;
    double *scores = job->scratch + (int64_t)thread * (2 * cols + job->depth_v), *buf = scores + cols,
           *acc = buf + cols;
    ps_dtype t = job->y->dtype;
    for (int64_t item = begin; item < end; item++) {
        int64_t row = item % job->rows, head = item / job->rows % job->heads, batch = item / job->rows / job->heads;
        int64_t q = (batch * job->rows + row) * q_width + head * job->depth;
        for (int64_t j = 0; j < cols; j++) {
            int64_t k = (batch * cols + j) * q_width + head * job->depth;
            scores[j] = ps_operand_dot(&job->q, q, 1, &job->k, k, 1, job->depth);
        }
        round_row(t, scores, cols, buf);
        for (int64_t j = 0; j < cols; j++)
            scores[j] *= job->scale;
        round_row(t, scores, cols, buf);
        if (job->has_mask) {
            ps_bcast_load(&job->mask, item * cols, cols, buf);
            for (int64_t j = 0; j < cols; j++)
                scores[j] += buf[j];
            round_row(t, scores, cols, buf);
        }
        ps_softmax_row(scores, cols);
        round_row(t, scores, cols, buf);
        memset(acc, 0, (size_t)job->depth_v * sizeof *acc);
        for (int64_t j = 0; j < cols; j++)
            ps_operand_axpy(acc, 1, &job->v, (batch * cols + j) * v_width + head * job->depth_v, 1, scores[j],
                            job->depth_v);
        ps_row_store(job->y->data, t, (batch * job->rows + row) * v_width + head * job->depth_v, 1, acc, job->depth_v);
    }
}

static ps_status attention_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_attention_params *p = ctx->params;
    const int64_t *q = ctx->in[0]->shape.dims, *k = ctx->in[1]->shape.dims, *v = ctx->in[2]->shape.dims;
    const ps_tensor *mask = ctx->n_in > 3 ? ctx->in[3] : NULL;
    attention_job job = { .heads = p->heads,
                          .rows = q[1],
                          .cols = k[1],
                          .depth = q[2] / p->heads,
                          .depth_v = v[2] / p->heads,
                          .scale = (double)p->scale,
                          .y = ctx->out[0],
                          .has_mask = mask != NULL };
    ps_shape scores = ps_shape_make(4, (int64_t[]) { q[0], p->heads, job.rows, job.cols });
    if (mask && !ps_bcast_init(&job.mask, mask, &scores))
        return PS_NODE_FAIL(ctx->node, err, SHAPE, "the mask does not broadcast to the scores");
    if (ps_tensor_count(job.y) == 0) return PS_OK;
    ps_status status;
    PS_TRY_OUT(ps_operand_init(&job.q, ctx->in[0], ctx->alloc, err));
    PS_TRY_OUT(ps_operand_init(&job.k, ctx->in[1], ctx->alloc, err));
    PS_TRY_OUT(ps_operand_init(&job.v, ctx->in[2], ctx->alloc, err));
    status = ps_parallel_scratch(ctx, q[0] * p->heads * job.rows, 1, (size_t)(2 * job.cols + job.depth_v), &job.scratch,
                                 attention_rows, &job, err);
out:
    ps_operand_release(&job.q);
    ps_operand_release(&job.k);
    ps_operand_release(&job.v);
    return status;
}

static const ps_op ops[] = {
    { "Conv", "polestar", 1, 2, PS_VARIADIC, 1, 1, ps_conv_attrs, sizeof(ps_conv_params), conv_infer, conv_ref, 0 },
    { "ConvTranspose", "polestar", 1, 2, PS_VARIADIC, 1, 1, ps_deconv_attrs, sizeof(ps_conv_params), deconv_infer,
      deconv_ref, 0 },
    { "Gemm", "polestar", 1, 2, PS_VARIADIC, 1, 1, ps_gemm_attrs, sizeof(ps_gemm_params), gemm_infer, gemm_ref, 0 },
    { "MatMul", "polestar", 1, 2, PS_VARIADIC, 1, 1, NULL, 0, matmul_infer, matmul_ref, 0 },
    { "Pointwise", "polestar", 1, 1, PS_VARIADIC, 1, 1, NULL, 0, pointwise_infer, pointwise_ref, PS_OP_POINTWISE },
    { "Attention", "polestar", 1, 3, 4, 1, 1, attention_attrs, sizeof(ps_attention_params), attention_infer,
      attention_ref, 0 },
};
const ps_op_family ps_ops_fused = PS_OP_FAMILY("fused", ops);
