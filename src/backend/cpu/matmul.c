/* matmul.c - MatMul and Gemm through oneDNN.
 *
 * A constant right side of rank 2 is packed once, and all leading dims of the left side become rows; otherwise both
 * sides are used as they lie, with batch dims broadcast. */
#ifdef PS_WITH_DNNL
#include "backend/cpu/dense.h"

static psd_md matrix(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride) {
    psd_md m = { .ndims = 2 };
    m.dims[0] = rows;
    m.dims[1] = cols;
    m.strides[0] = row_stride;
    m.strides[1] = col_stride;
    return m;
}

/* Under the flattened output [rows, N]: a row, one number, or the whole. */
static bool operand_flat(const ps_shape *s, const ps_shape *out, psd_md *ret) {
    int64_t all = ps_shape_product(s, 0, s->rank), last = s->rank ? s->dims[s->rank - 1] : 1;
    int64_t n = out->dims[out->rank - 1], rows = ps_shape_product(out, 0, out->rank - 1);
    if (all == last && (last == n || last == 1))
        *ret = matrix(1, last, last, 1);
    else if (ps_shape_equal(s, out))
        *ret = matrix(rows, n, n, 1);
    else
        return false;
    return true;
}

/* Row-major, with leading dims of 1 up to the rank. */
static psd_md batched(const ps_shape *s, int rank) {
    psd_md m = { .ndims = rank };
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; i--) {
        int k = i - (rank - s->rank);
        m.dims[i] = k < 0 ? 1 : s->dims[k];
        m.strides[i] = step;
        step *= m.dims[i];
    }
    return m;
}

/* Under an output of the same or a higher rank. */
static bool operand_batched(const ps_shape *s, const ps_shape *out, psd_md *ret) {
    if (s->rank > out->rank) return false;
    *ret = batched(s, out->rank);
    return true;
}

static bool is_empty(const ps_shape *s) {
    return ps_shape_product(s, 0, s->rank) == 0;
}

static bool all_f32(const ps_node *n) {
    for (uint32_t i = 0; i < 3 && i < n->n_in; i++) {
        if (n->in[i] && n->in[i]->dtype != PS_DTYPE_F32) return false;
    }
    return !is_empty(&n->in[0]->shape) && !is_empty(&n->in[1]->shape) && !is_empty(&n->out[0]->shape);
}

static void describe_flat(const ps_node *n, cpu_dense *what) {
    const ps_shape *a = &n->in[0]->shape, *b = &n->in[1]->shape;
    int64_t rows = ps_shape_product(a, 0, a->rank - 1), k = b->dims[0], cols = b->dims[1];
    what->desc.src = matrix(rows, k, k, 1);
    what->desc.weights = matrix(k, cols, 0, 0);
    what->desc.weights.any = 1;
    what->desc.dst = matrix(rows, cols, cols, 1);
    what->from = matrix(k, cols, cols, 1);
    what->weights = n->in[1]->constant;
    what->operand_md = operand_flat;
}

static void describe_batched(const ps_node *n, cpu_dense *what) {
    int rank = n->out[0]->shape.rank;
    what->desc.src = batched(&n->in[0]->shape, rank);
    what->desc.weights = batched(&n->in[1]->shape, rank);
    what->desc.dst = batched(&n->out[0]->shape, rank);
    what->operand_md = operand_batched;
}

ps_status cpu_lower_matmul(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_shape *a = &n->in[0]->shape, *b = &n->in[1]->shape;
    cpu_dense what = { .layout = PS_LAYOUT_PLAIN, .label = "matmul" };
    if (!all_f32(n) || a->rank < 2 || b->rank < 2 || n->out[0]->shape.rank > 5) return PS_OK;
    what.desc.kind = PSD_MATMUL;
    what.desc.threads = l->threads;
    what.desc.bias = ps_has_in(n, 2) && strcmp(n->domain, "polestar") == 0;
    if (n->in[1]->constant && b->rank == 2)
        describe_flat(n, &what);
    else
        describe_batched(n, &what);
    return cpu_lower_dense(device, l, &what, err);
}

/* alpha and beta other than 1, and a C that is no row, stay with the reference kernel: exporters do not write them. */
ps_status cpu_lower_gemm(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_gemm_params *p = n->params;
    cpu_dense what = { .layout = PS_LAYOUT_PLAIN, .label = "gemm", .operand_md = operand_flat };
    if (!all_f32(n) || p->alpha != 1.0f) return PS_OK;
    int64_t rows = n->out[0]->shape.dims[0], cols = n->out[0]->shape.dims[1];
    int64_t k = n->in[0]->shape.dims[p->transA ? 0 : 1];
    if (ps_has_in(n, 2)) {
        const ps_shape *c = &n->in[2]->shape;
        bool row = c->rank >= 1 && c->dims[c->rank - 1] == cols && ps_shape_product(c, 0, c->rank) == cols;
        if (!row || p->beta != 1.0f) return PS_OK;
    }
    what.desc.kind = PSD_MATMUL;
    what.desc.threads = l->threads;
    what.desc.bias = ps_has_in(n, 2);
    what.desc.src = p->transA ? matrix(rows, k, 1, rows) : matrix(rows, k, k, 1);
    what.desc.dst = matrix(rows, cols, cols, 1);
    what.from = p->transB ? matrix(k, cols, 1, k) : matrix(k, cols, cols, 1);
    what.desc.weights = what.from;
    what.weights = n->in[1]->constant;
    if (what.weights) {
        what.desc.weights = matrix(k, cols, 0, 0);
        what.desc.weights.any = 1;
    }
    return cpu_lower_dense(device, l, &what, err);
}

#endif
