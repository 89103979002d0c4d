/* linalg.c - Det: determinants of square matrices, by Gaussian elimination with row pivots in double.
 *
 * Source: ONNX operator spec Det-11/22. */
#include <math.h>

#include "ops/facts.h"
#include "ops/kernel_util.h"

static ps_status det_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    ps_shape y = ps_shape_unknown();
    if (ps_in_known(node, 0)) {
        const ps_shape *x = &node->in[0]->shape;
        bool square = x->rank >= 2 && (x->dims[x->rank - 1] == x->dims[x->rank - 2] || x->dims[x->rank - 1] < 0 ||
                                       x->dims[x->rank - 2] < 0);
        PS_FAIL_IF(!square, err, SHAPE, "%s: input %s does not hold square matrices", PS_LABEL(node), PS_SHAPE_TEXT(x));
        y = ps_shape_make(x->rank - 2, x->dims);
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

static int64_t pivot_row(const double *m, int64_t n, int64_t k) {
    int64_t best = k;
    for (int64_t i = k + 1; i < n; i++)
        if (fabs(m[i * n + k]) > fabs(m[best * n + k])) best = i;
    return best;
}

/* m [n, n] is overwritten. */
static double determinant(double *m, int64_t n) {
    double det = 1;
    for (int64_t k = 0; k < n; k++) {
        int64_t p = pivot_row(m, n, k);
        double pivot = m[p * n + k];
        if (pivot == 0) return 0;
        det *= p == k ? pivot : -pivot;
        for (int64_t j = k; p != k && j < n; j++) {
            double t = m[p * n + j];
            m[p * n + j] = m[k * n + j];
            m[k * n + j] = t;
        }
        for (int64_t i = k + 1; i < n; i++) {
            double factor = m[i * n + k] / pivot;
            for (int64_t j = k + 1; j < n; j++)
                m[i * n + j] -= factor * m[k * n + j];
        }
    }
    return det;
}

typedef struct det_job {
    const ps_tensor *x;
    ps_tensor *y;
    int64_t n;
    double *scratch;
} det_job;

static void det_matrices(void *ctx, int64_t begin, int64_t end, int thread) {
    const det_job *job = ctx;
    int64_t size = job->n * job->n;
    double *m = job->scratch + thread * size;
    for (int64_t i = begin; i < end; i++) {
        ps_row_load(m, job->x->dtype, job->x->data, i * size, 1, size);
        double v = determinant(m, job->n);
        ps_row_store(job->y->data, job->y->dtype, i, 1, &v, 1);
    }
}

static ps_status det_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_shape *s = &ctx->in[0]->shape;
    det_job job = { ctx->in[0], ctx->out[0], s->dims[s->rank - 1], NULL };
    return ps_parallel_scratch(ctx, ps_shape_product(s, 0, s->rank - 2), 1, (size_t)(job.n * job.n), &job.scratch,
                               det_matrices, &job, err);
}

static const ps_op ops[] = {
    { "Det", "", 11, 1, 1, 1, 1, NULL, 0, det_infer, det_ref, 0 },
};
const ps_op_family ps_ops_linalg = PS_OP_FAMILY("linalg", ops);
