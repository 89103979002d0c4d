/* matmul.c - MatMul (numpy.matmul) and Gemm.
 *
 * Both are a batch of products y[m,n] = sum over k of a[m,k] b[k,n] with strided operands; a product_job says where
 * everything lies, one item is one row of y. Sums run over ascending k, so that transposing an operand changes no bit.
 */
#include "ops/matmul.h"

#include "ops/kernel_util.h"
#include "ops/params.h"

const ps_attr_def ps_gemm_attrs[] = {
    PS_A_FLOAT(ps_gemm_params, alpha, 1),
    PS_A_FLOAT(ps_gemm_params, beta, 1),
    PS_A_INT(ps_gemm_params, transA, 0),
    PS_A_INT(ps_gemm_params, transB, 0),
    PS_ATTRS_END,
};

static bool number_type(ps_dtype t) {
    return t == PS_DTYPE_UNDEFINED || ps_dtype_is_float(t) || ps_dtype_is_int(t);
}

static ps_status check_types(const ps_node *node, size_t n, ps_error *err) {
    ps_dtype t = node->in[0]->dtype;
    PS_NODE_FAIL_IF(!number_type(t), node, err, TYPE, "input 0 ('%s') is %s, the operator takes floats and integers",
                    node->in[0]->name, ps_dtype_name(t));
    for (size_t i = 1; i < n; i++)
        PS_TRY(ps_check_same_type(node, i, 0, err));
    return PS_OK;
}

/* ---- shape rules ---- */

/* The operand as a matrix with batch dims: a vector becomes [1, K] (left) or [K, 1] (right). */
static ps_shape promoted(const ps_shape *s, bool left) {
    if (s->rank != 1) return *s;
    return left ? ps_shape_make(2, (int64_t[]) { 1, s->dims[0] }) : ps_shape_make(2, (int64_t[]) { s->dims[0], 1 });
}

static ps_shape batch_dims(const ps_shape *s) {
    return ps_shape_make(s->rank - 2, s->dims);
}

ps_status ps_matmul_infer(const ps_node *node, ps_error *err) {
    PS_TRY(check_types(node, 2, err));
    ps_shape y = ps_shape_unknown();
    if (!ps_in_known(node, 0) || !ps_in_known(node, 1)) {
        ps_infer_set(node, 0, node->in[0]->dtype, &y);
        return PS_OK;
    }
    const ps_shape *sa = &node->in[0]->shape, *sb = &node->in[1]->shape;
    char ta[128], tb[128];
    PS_NODE_FAIL_IF(sa->rank == 0 || sb->rank == 0, node, err, SHAPE, "operands %s and %s must not be scalars",
                    ps_shape_text(sa, ta, sizeof ta), ps_shape_text(sb, tb, sizeof tb));
    ps_shape a = promoted(sa, true), b = promoted(sb, false);
    int64_t ka = a.dims[a.rank - 1], kb = b.dims[b.rank - 2];
    PS_NODE_FAIL_IF(ka >= 0 && kb >= 0 && ka != kb, node, err, SHAPE,
                    "operands %s and %s do not multiply: %lld columns against %lld rows",
                    ps_shape_text(sa, ta, sizeof ta), ps_shape_text(sb, tb, sizeof tb), (long long)ka, (long long)kb);
    ps_shape batch_a = batch_dims(&a), batch_b = batch_dims(&b);
    PS_NODE_FAIL_IF(!ps_shape_broadcast(&batch_a, &batch_b, &y), node, err, SHAPE,
                    "the batch dims of %s and %s do not broadcast", ps_shape_text(sa, ta, sizeof ta),
                    ps_shape_text(sb, tb, sizeof tb));
    if (sa->rank > 1) y.dims[y.rank++] = a.dims[a.rank - 2];
    if (sb->rank > 1) y.dims[y.rank++] = b.dims[b.rank - 1];
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

ps_status ps_gemm_infer(const ps_node *node, ps_error *err) {
    const ps_gemm_params *p = node->params;
    PS_TRY(check_types(node, 3, err));
    PS_TRY(ps_check_rank(node, 0, 2, err));
    PS_TRY(ps_check_rank(node, 1, 2, err));
    ps_shape y = ps_shape_make(2, (int64_t[]) { PS_DIM_UNKNOWN, PS_DIM_UNKNOWN });
    int64_t ka = PS_DIM_UNKNOWN;
    if (ps_in_known(node, 0)) {
        const int64_t *d = node->in[0]->shape.dims;
        y.dims[0] = d[p->transA ? 1 : 0];
        ka = d[p->transA ? 0 : 1];
    }
    if (ps_in_known(node, 1)) {
        y.dims[1] = node->in[1]->shape.dims[p->transB ? 0 : 1];
        PS_TRY(ps_check_dim(node, 1, p->transB ? 1 : 0, ka, "the inner dim of input 0", err));
    }
    if (ps_in_known(node, 2)) {
        const ps_shape *c = &node->in[2]->shape;
        ps_shape both;
        char tc[128], ty[128];
        bool ok = c->rank <= 2 && ps_shape_broadcast(c, &y, &both);
        for (int d = 0; ok && d < 2; d++)
            ok = y.dims[d] < 0 || both.dims[d] == y.dims[d];
        PS_NODE_FAIL_IF(!ok, node, err, SHAPE, "C has shape %s, it must broadcast to the product's %s",
                        ps_shape_text(c, tc, sizeof tc), ps_shape_text(&y, ty, sizeof ty));
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

/* ---- kernels ---- */

typedef struct product_job {
    int64_t m, n, k;
    int64_t a_row, a_col, b_row, b_col;                 /* strides in elements */
    ps_shape batch;                                     /* broadcast batch dims */
    int64_t a_batch[PS_MAX_RANK], b_batch[PS_MAX_RANK]; /* strides over them */
    ps_operand a, b;                                    /* floats */
    const ps_tensor *ta, *tb, *tc;                      /* as given; tc: Gemm's C or NULL */
    float alpha, beta;
    ps_bcast c;
    ps_tensor *y;
    double *scratch;
} product_job;

static void batch_offsets(const product_job *job, int64_t batch, int64_t *ret_a, int64_t *ret_b) {
    *ret_a = *ret_b = 0;
    for (int d = job->batch.rank - 1; d >= 0; d--) {
        int64_t i = batch % job->batch.dims[d];
        batch /= job->batch.dims[d];
        *ret_a += i * job->a_batch[d];
        *ret_b += i * job->b_batch[d];
    }
}

static void row_float(const product_job *job, int64_t a, int64_t b, double *acc) {
    if (job->b_col == 1) {
        for (int64_t n = 0; n < job->n; n++)
            acc[n] = 0;
        for (int64_t k = 0; k < job->k; k++)
            ps_operand_axpy(acc, 1, &job->b, b + k * job->b_row, 1, ps_operand_at(&job->a, a + k * job->a_col), job->n);
        return;
    }
    for (int64_t n = 0; n < job->n; n++)
        acc[n] = ps_operand_dot(&job->a, a, job->a_col, &job->b, b + n * job->b_col, job->b_row, job->k);
}

/* y = alpha * acc + beta * C, rounded once. acc has room for two rows. */
static void finish_float(const product_job *job, int64_t item, double *acc) {
    double *c = acc + job->n;
    if (job->alpha != 1.0f)
        for (int64_t n = 0; n < job->n; n++)
            acc[n] *= (double)job->alpha;
    if (job->tc) {
        ps_bcast_load(&job->c, item * job->n, job->n, c);
        for (int64_t n = 0; n < job->n; n++)
            acc[n] += (double)job->beta * c[n];
    }
    ps_row_store(job->y->data, job->y->dtype, item * job->n, 1, acc, job->n);
}

static void product_float(void *ctx, int64_t begin, int64_t end, int thread) {
    product_job *job = ctx;
    double *acc = job->scratch + (int64_t)thread * 2 * job->n;
    for (int64_t item = begin; item < end; item++) {
        int64_t a, b;
        batch_offsets(job, item / job->m, &a, &b);
        row_float(job, a + item % job->m * job->a_row, b, acc);
        finish_float(job, item, acc);
    }
}

/* Integers modulo 2^64: truncation to the type gives its own wrap-around. */
static uint64_t int_at(const ps_tensor *t, int64_t i) {
    switch (t->dtype) {
    case PS_DTYPE_U8: return ((const uint8_t *)t->data)[i];
    case PS_DTYPE_I8: return (uint64_t)((const int8_t *)t->data)[i];
    case PS_DTYPE_U16: return ((const uint16_t *)t->data)[i];
    case PS_DTYPE_I16: return (uint64_t)((const int16_t *)t->data)[i];
    case PS_DTYPE_U32: return ((const uint32_t *)t->data)[i];
    case PS_DTYPE_I32: return (uint64_t)((const int32_t *)t->data)[i];
    default: return ((const uint64_t *)t->data)[i];
    }
}

static void int_put(ps_tensor *t, int64_t i, uint64_t v) {
    switch (ps_dtype_size(t->dtype)) {
    case 1: ((uint8_t *)t->data)[i] = (uint8_t)v; break;
    case 2: ((uint16_t *)t->data)[i] = (uint16_t)v; break;
    case 4: ((uint32_t *)t->data)[i] = (uint32_t)v; break;
    default: ((uint64_t *)t->data)[i] = v; break;
    }
}

/* Gemm's factors are floats; the usual 1 stays exact, others truncate toward zero. */
static uint64_t int_scaled(uint64_t v, float factor) {
    if (factor == 1.0f) return v;
    double scaled = (double)(int64_t)v * (double)factor;
    return scaled > -9.2e18 && scaled < 9.2e18 ? (uint64_t)(int64_t)scaled : 0;
}

static uint64_t int_bcast_at(const product_job *job, int64_t row, int64_t col) {
    return int_at(job->tc, row * job->c.strides[0] + col * job->c.strides[1]);
}

static void product_int(void *ctx, int64_t begin, int64_t end, int thread) {
    product_job *job = ctx;
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        int64_t a, b, row = item % job->m;
        batch_offsets(job, item / job->m, &a, &b);
        a += row * job->a_row;
        for (int64_t n = 0; n < job->n; n++) {
            uint64_t sum = 0;
            for (int64_t k = 0; k < job->k; k++)
                sum += int_at(job->ta, a + k * job->a_col) * int_at(job->tb, b + k * job->b_row + n * job->b_col);
            sum = int_scaled(sum, job->alpha);
            if (job->tc) sum += int_scaled(int_bcast_at(job, row, n), job->beta);
            int_put(job->y, item * job->n + n, sum);
        }
    }
}

static ps_status run_product(const ps_kernel_ctx *ctx, product_job *job, ps_error *err) {
    int64_t rows = ps_shape_product(&job->batch, 0, job->batch.rank) * job->m;
    if (rows == 0 || job->n == 0) return PS_OK;
    if (!ps_dtype_is_float(job->ta->dtype)) {
        ps_parallel_for(rows, 1, ctx->threads, product_int, job);
        return PS_OK;
    }
    ps_status status;
    PS_TRY_OUT(ps_operand_init(&job->a, job->ta, ctx->alloc, err));
    PS_TRY_OUT(ps_operand_init(&job->b, job->tb, ctx->alloc, err));
    status = ps_parallel_scratch(ctx, rows, 1, 2 * (size_t)job->n, &job->scratch, product_float, job, err);
out:
    ps_operand_release(&job->a);
    ps_operand_release(&job->b);
    return status;
}

/* Strides of an operand's batch dims over the broadcast batch; 0 repeats. */
static void batch_strides(const ps_shape *s, const ps_shape *batch, int64_t *strides) {
    int64_t own[PS_MAX_RANK];
    ps_shape_strides(s, own);
    int shift = batch->rank - (s->rank - 2);
    for (int d = 0; d < batch->rank; d++)
        strides[d] = d < shift || s->dims[d - shift] == 1 ? 0 : own[d - shift];
}

ps_status ps_matmul_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_shape a = promoted(&ctx->in[0]->shape, true), b = promoted(&ctx->in[1]->shape, false);
    product_job job = { .ta = ctx->in[0], .tb = ctx->in[1], .y = ctx->out[0], .alpha = 1, .beta = 1 };
    job.m = a.dims[a.rank - 2];
    job.k = a.dims[a.rank - 1];
    job.n = b.dims[b.rank - 1];
    job.a_row = job.k;
    job.a_col = job.b_col = 1;
    job.b_row = job.n;
    ps_shape batch_a = batch_dims(&a), batch_b = batch_dims(&b);
    if (!ps_shape_broadcast(&batch_a, &batch_b, &job.batch))
        return PS_NODE_FAIL(ctx->node, err, INTERNAL, "batch dims that the shape rule accepted do not broadcast");
    batch_strides(&a, &job.batch, job.a_batch);
    batch_strides(&b, &job.batch, job.b_batch);
    return run_product(ctx, &job, err);
}

ps_status ps_gemm_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_gemm_params *p = ctx->params;
    const ps_tensor *a = ctx->in[0], *b = ctx->in[1];
    product_job job = { .ta = a, .tb = b, .y = ctx->out[0], .alpha = p->alpha, .beta = p->beta };
    job.tc = ctx->n_in > 2 ? ctx->in[2] : NULL;
    int64_t a_cols = a->shape.dims[1], b_cols = b->shape.dims[1];
    job.m = a->shape.dims[p->transA ? 1 : 0];
    job.k = a->shape.dims[p->transA ? 0 : 1];
    job.n = b->shape.dims[p->transB ? 0 : 1];
    job.a_row = p->transA ? 1 : a_cols;
    job.a_col = p->transA ? a_cols : 1;
    job.b_row = p->transB ? 1 : b_cols;
    job.b_col = p->transB ? b_cols : 1;
    if (job.tc && !ps_bcast_init(&job.c, job.tc, &ctx->out[0]->shape))
        return PS_NODE_FAIL(ctx->node, err, SHAPE, "C does not broadcast to the product's shape");
    return run_product(ctx, &job, err);
}

static const ps_op ops[] = {
    { "MatMul", "", 1, 2, 2, 1, 1, NULL, 0, ps_matmul_infer, ps_matmul_ref, 0 },
    { "Gemm", "", 1, 3, 3, 1, 1, ps_gemm_attrs, sizeof(ps_gemm_params), ps_gemm_infer, ps_gemm_ref, 0 },
    { "Gemm", "", 7, 3, 3, 1, 1, ps_gemm_attrs, sizeof(ps_gemm_params), ps_gemm_infer, ps_gemm_ref, 0 },
    { "Gemm", "", 11, 2, 3, 1, 1, ps_gemm_attrs, sizeof(ps_gemm_params), ps_gemm_infer, ps_gemm_ref, 0 },
};
const ps_op_family ps_ops_matmul = PS_OP_FAMILY("matmul", ops);
