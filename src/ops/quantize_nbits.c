/* quantize_nbits.c - of com.microsoft, weights of few bits in blocks: MatMulNBits, MatMulBnb4, MatMulFpQ4,
 * GatherBlockQuantized.
 *
 * A product unpacks one output column (a row of the stored matrix) at a time and multiplies it with every row of A, so
 * the weights are unpacked once and never stand in memory as floats. */
#include <math.h>

#include "ops/move.h"
#include "ops/quant.h"

/* ---- products ---- */

/* One column of K weights, unpacked. */
typedef struct nbits_job nbits_job;
typedef void (*column_fn)(const nbits_job *job, int64_t n, double *column);

struct nbits_job {
    const void *params;
    int64_t rows, n, k;
    ps_operand a;
    const ps_tensor *b, *scales, *zeros, *groups, *bias; /* the last three may be NULL */
    column_fn column;
    ps_tensor *y;
    double *scratch;
};

static double dot(const ps_operand *a, int64_t first, const double *w, int64_t n) {
    double sum = 0;
    if (a->f64) {
        const double *x = (const double *)a->data + first;
        for (int64_t i = 0; i < n; i++)
            sum += x[i] * w[i];
    } else {
        const float *x = (const float *)a->data + first;
        for (int64_t i = 0; i < n; i++)
            sum += (double)x[i] * w[i];
    }
    return sum;
}

static void columns(void *ctx, int64_t begin, int64_t end, int thread) {
    const nbits_job *j = ctx;
    double *column = j->scratch + (int64_t)thread * j->k;
    for (int64_t n = begin; n < end; n++) {
        j->column(j, n, column);
        double bias = ps_quant_at(j->bias, n, 0);
        for (int64_t m = 0; m < j->rows; m++) {
            double v = dot(&j->a, m * j->k, column, j->k) + bias;
            ps_row_store(j->y->data, j->y->dtype, m * j->n + n, 1, &v, 1);
        }
    }
}

static ps_status run_product(const ps_kernel_ctx *ctx, nbits_job *j, ps_error *err) {
    j->params = ctx->params;
    j->y = ctx->out[0];
    j->rows = ps_shape_product(&j->y->shape, 0, j->y->shape.rank - 1);
    PS_TRY(ps_operand_init(&j->a, ctx->in[0], ctx->alloc, err));
    ps_status status = ps_parallel_scratch(ctx, j->n, 1, (size_t)j->k, &j->scratch, columns, j, err);
    ps_operand_release(&j->a);
    return status;
}

/* [..., K] → [..., N] */
static ps_status product_shape(const ps_node *node, int64_t k, int64_t n, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    PS_NODE_FAIL_IF(k < 1 || n < 1 || k > INT32_MAX || n > INT32_MAX, node, err, LIMIT,
                    "K is %lld and N is %lld, they must be 1 to 2^31 - 1", (long long)k, (long long)n);
    ps_shape y = node->in[0]->shape;
    if (y.rank >= 0) {
        PS_NODE_FAIL_IF(y.rank == 0, node, err, SHAPE, "the input is a scalar, its last dim must be K = %lld",
                        (long long)k);
        PS_TRY(ps_check_dim(node, 0, y.rank - 1, k, "K", err));
        y.dims[y.rank - 1] = n;
    }
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    return PS_OK;
}

/* Input i must hold this many elements, in any shape. */
static ps_status check_count(const ps_node *node, size_t i, int64_t want, const char *what, ps_error *err) {
    int64_t count;
    if (!ps_in_known(node, i)) return PS_OK;
    const ps_shape *s = &node->in[i]->shape;
    if (!ps_shape_fixed(s) || !ps_shape_elements(s, &count)) return PS_OK;
    PS_NODE_FAIL_IF(count != want, node, err, SHAPE, "%s (input %zu) has shape %s, it must hold %lld elements", what, i,
                    PS_SHAPE_TEXT(s), (long long)want);
    return PS_OK;
}

static ps_status check_block_size(const ps_node *node, int64_t size, ps_error *err) {
    PS_NODE_FAIL_IF(size < 16 || size > INT32_MAX || (size & (size - 1)), node, err, INVALID,
                    "block_size is %lld, it must be a power of two and at least 16", (long long)size);
    return PS_OK;
}

/* ---- MatMulNBits ---- */

typedef struct nbits_params {
    int64_t K, N, bits, block_size, accuracy_level, weight_prepacked;
} nbits_params;

static const ps_attr_def nbits_attrs[] = {
    PS_A_INT_REQ(nbits_params, K),
    PS_A_INT_REQ(nbits_params, N),
    PS_A_INT(nbits_params, bits, 4),
    PS_A_INT_REQ(nbits_params, block_size),
    PS_A_INT(nbits_params, accuracy_level, 0), /* how coarse a faster kernel may be; this one is exact */
    PS_A_INT(nbits_params, weight_prepacked, 0),
    PS_ATTRS_END,
};

enum { NB_A, NB_B, NB_SCALES, NB_ZEROS, NB_GROUPS, NB_BIAS };

static int64_t nbits_blocks(const nbits_params *p) {
    return (p->K - 1) / p->block_size + 1;
}

/* A projection left out: some dim of B is 0, and the result is 0 (plus bias). */
static bool is_omitted(const ps_shape *b) {
    for (int d = 0; d < b->rank; d++)
        if (b->dims[d] == 0) return true;
    return false;
}

static ps_status nbits_types(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_type(node, NB_B, PS_DTYPE_U8, err));
    PS_TRY(ps_check_same_type(node, NB_SCALES, NB_A, err));
    PS_TRY(ps_check_type(node, NB_GROUPS, PS_DTYPE_I32, err));
    PS_TRY(ps_check_same_type(node, NB_BIAS, NB_A, err));
    if (!ps_has_in(node, NB_ZEROS) || node->in[NB_ZEROS]->dtype == PS_DTYPE_U8) return PS_OK;
    return ps_check_same_type(node, NB_ZEROS, NB_A, err);
}

/* g_idx may also cover what fills the last block. */
static ps_status check_groups(const ps_node *node, int64_t k, int64_t padded, ps_error *err) {
    int64_t count;
    if (ps_in_known(node, NB_GROUPS) && ps_shape_elements(&node->in[NB_GROUPS]->shape, &count) && count == padded)
        return PS_OK;
    return check_count(node, NB_GROUPS, k, "g_idx", err);
}

static ps_status nbits_infer(const ps_node *node, ps_error *err) {
    const nbits_params *p = node->params;
    PS_TRY(nbits_types(node, err));
    PS_TRY(product_shape(node, p->K, p->N, err));
    PS_TRY(check_block_size(node, p->block_size, err));
    PS_NODE_FAIL_IF(p->bits != 2 && p->bits != 4 && p->bits != 8, node, err, UNSUPPORTED,
                    "bits is %lld, it must be 2, 4 or 8", (long long)p->bits);
    PS_NODE_FAIL_IF(p->weight_prepacked, node, err, UNSUPPORTED, "weight_prepacked is %lld, which is a GPU's layout",
                    (long long)p->weight_prepacked);
    const int64_t blocks = nbits_blocks(p), blob = p->block_size * p->bits / 8;
    int64_t want;
    PS_NODE_FAIL_IF(__builtin_mul_overflow(p->N * blocks, blob, &want), node, err, LIMIT, "the weights are too large");
    PS_TRY(check_count(node, NB_BIAS, p->N, "the bias", err));
    if (ps_in_known(node, NB_B) && is_omitted(&node->in[NB_B]->shape)) return PS_OK;
    PS_TRY(check_count(node, NB_B, want, "B", err));
    PS_TRY(check_count(node, NB_SCALES, p->N * blocks, "scales", err));
    if (ps_has_in(node, NB_ZEROS)) {
        bool packed = node->in[NB_ZEROS]->dtype == PS_DTYPE_U8;
        int64_t zeros = packed ? (blocks * p->bits + 7) / 8 : blocks;
        PS_TRY(check_count(node, NB_ZEROS, p->N * zeros, "zero_points", err));
    }
    return check_groups(node, p->K, blocks * p->block_size, err);
}

/* Value `i` of a row of packed unsigned numbers, low bits first. */
static unsigned unpack(const uint8_t *row, int64_t i, unsigned bits) {
    const unsigned per_byte = 8 / bits;
    return (unsigned)(row[(uint64_t)i / per_byte] >> ((uint64_t)i % per_byte * bits)) & ((1u << bits) - 1);
}

static double nbits_zero(const nbits_job *j, const nbits_params *p, int64_t n, int64_t block) {
    const int64_t blocks = nbits_blocks(p);
    if (!j->zeros) return (double)(1 << (p->bits - 1));
    if (j->zeros->dtype != PS_DTYPE_U8) return ps_quant_at(j->zeros, n * blocks + block, 0);
    const uint8_t *row = (const uint8_t *)j->zeros->data + n * ((blocks * p->bits + 7) / 8);
    return unpack(row, block, (unsigned)p->bits);
}

static void nbits_column(const nbits_job *j, int64_t n, double *column) {
    const nbits_params *p = j->params;
    const int64_t blocks = nbits_blocks(p), blob = p->block_size * p->bits / 8;
    const uint8_t *row = (const uint8_t *)j->b->data + n * blocks * blob;
    const int32_t *groups = j->groups ? j->groups->data : NULL;
    double scale = 0, zero = 0;
    for (int64_t k = 0, last = -1; k < p->K; k++) {
        const int64_t block = groups ? groups[k] : k / p->block_size;
        if (block != last) {
            scale = ps_quant_at(j->scales, n * blocks + block, 0);
            zero = nbits_zero(j, p, n, block);
            last = block;
        }
        column[k] = ((double)unpack(row, k, (unsigned)p->bits) - zero) * scale;
    }
}

/* The same for weights left out. */
static void zero_column(const nbits_job *j, int64_t n, double *column) {
    (void)n;
    for (int64_t k = 0; k < j->k; k++)
        column[k] = 0;
}

static ps_status nbits_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const nbits_params *p = ctx->params;
    nbits_job j = { .n = p->N, .k = p->K, .b = ctx->in[NB_B], .scales = ctx->in[NB_SCALES], .column = nbits_column };
    j.zeros = ps_in_tensor(ctx, NB_ZEROS);
    j.groups = ps_in_tensor(ctx, NB_GROUPS);
    j.bias = ps_in_tensor(ctx, NB_BIAS);
    if (is_omitted(&j.b->shape)) j.column = zero_column;
    for (int64_t k = 0; j.groups && j.column == nbits_column && k < p->K; k++) {
        const int32_t g = ((const int32_t *)j.groups->data)[k];
        PS_NODE_FAIL_IF(g < 0 || g >= nbits_blocks(p), ctx->node, err, INVALID,
                        "g_idx[%lld] is %d, it must be 0 to %lld", (long long)k, (int)g,
                        (long long)nbits_blocks(p) - 1);
    }
    return run_product(ctx, &j, err);
}

/* ---- MatMulBnb4: codes of a table of 16 numbers times the largest magnitude of their block ---- */

typedef struct bnb_params {
    int64_t K, N, block_size, quant_type, transB;
} bnb_params;

static const ps_attr_def bnb_attrs[] = {
    PS_A_INT_REQ(bnb_params, K),
    PS_A_INT_REQ(bnb_params, N),
    PS_A_INT_REQ(bnb_params, block_size),
    PS_A_INT_REQ(bnb_params, quant_type),
    PS_A_INT(bnb_params, transB, 1),
    PS_ATTRS_END,
};

/* Source: QLoRA (arXiv:2305.14314), appendix E, NF4; FP4 is its sign, two exponent bits and one of mantissa, divided by
 * the largest, 12. */
static const double fp4_table[16] = { 0,  0.0625 / 12, 8.0 / 12,  1,  4.0 / 12,  6.0 / 12,  2.0 / 12,  3.0 / 12,
                                      -0.0, -0.0625 / 12, -8.0 / 12, -1, -4.0 / 12, -6.0 / 12, -2.0 / 12, -3.0 / 12 };
static const double nf4_table[16] = { -1.0,
                                      -0.6961928009986877,
                                      -0.5250730514526367,
                                      -0.39491748809814453,
                                      -0.28444138169288635,
                                      -0.18477343022823334,
                                      -0.09105003625154495,
                                      0.0,
                                      0.07958029955625534,
                                      0.16093020141124725,
                                      0.24611230194568634,
                                      0.33791524171829224,
                                      0.44070982933044434,
                                      0.5626170039176941,
                                      0.7229568362236023,
                                      1.0 };

static ps_status bnb_infer(const ps_node *node, ps_error *err) {
    const bnb_params *p = node->params;
    PS_TRY(ps_check_type(node, 1, PS_DTYPE_U8, err));
    PS_TRY(ps_check_same_type(node, 2, 0, err));
    PS_NODE_FAIL_IF(p->quant_type != 0 && p->quant_type != 1, node, err, INVALID,
                    "quant_type is %lld, it must be 0 (FP4) or 1 (NF4)", (long long)p->quant_type);
    PS_TRY(check_block_size(node, p->block_size, err));
    PS_TRY(product_shape(node, p->transB ? p->K : p->N, p->transB ? p->N : p->K, err));
    PS_TRY(check_count(node, 1, (p->N * p->K + 1) / 2, "B", err));
    return check_count(node, 2, (p->N * p->K + p->block_size - 1) / p->block_size, "absmax", err);
}

/* Column n of the product's right side: row n of the stored [N, K] matrix, or its column n. */
static void bnb_column(const nbits_job *j, int64_t n, double *column) {
    const bnb_params *p = j->params;
    const double *table = p->quant_type ? nf4_table : fp4_table;
    for (int64_t k = 0; k < j->k; k++) {
        const int64_t i = p->transB ? n * p->K + k : k * p->K + n;
        const uint8_t byte = ((const uint8_t *)j->b->data)[i / 2];
        column[k] = table[i % 2 ? byte & 15 : byte >> 4] * ps_quant_at(j->scales, i / p->block_size, 0);
    }
}

static ps_status bnb_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const bnb_params *p = ctx->params;
    nbits_job j = { .b = ctx->in[1], .scales = ctx->in[2], .column = bnb_column };
    j.k = p->transB ? p->K : p->N;
    j.n = p->transB ? p->N : p->K;
    return run_product(ctx, &j, err);
}

/* ---- MatMulFpQ4: a blob of columns of blocks: scale (f32), zero point where the type has one, 16 bytes ----
 * Byte i of a block holds number i in its low half and number i + 16 in its high half. Found by asking ONNX Runtime,
 * whose kernel takes type 2 (documented as blocks of 64) for something else: that one is refused. */

enum { FPQ4_BLOCK = 32, FPQ4_SYMMETRIC = 0, FPQ4_ZERO_POINT = 1 };

typedef struct fpq4_params {
    int64_t blk_quant_type;
} fpq4_params;

static const ps_attr_def fpq4_attrs[] = { PS_A_INT(fpq4_params, blk_quant_type, FPQ4_ZERO_POINT), PS_ATTRS_END };

static int64_t fpq4_block_bytes(const fpq4_params *p) {
    return (int64_t)sizeof(float) + (p->blk_quant_type == FPQ4_ZERO_POINT) + FPQ4_BLOCK / 2;
}

/* K and N, which input 2 holds; *ret_known is false where it is not constant. */
static ps_status fpq4_extents(const ps_facts *f, int64_t ret[2], bool *ret_known, ps_error *err) {
    int64_t kn[2];
    size_t n;
    PS_TRY(ps_facts_ints(f, 2, "the shape of B", kn, 2, &n, ret_known, err));
    if (!*ret_known) return PS_OK;
    PS_NODE_FAIL_IF(n != 2 || kn[0] < 1 || kn[1] < 1 || kn[0] > INT32_MAX || kn[1] > INT32_MAX, f->node, err, SHAPE,
                    "the shape of B must be two numbers from 1 to 2^31 - 1");
    ret[0] = kn[0];
    ret[1] = kn[1];
    const ps_shape x = ps_facts_shape(f, 0);
    PS_NODE_FAIL_IF(x.rank == 0 || (x.rank > 0 && x.dims[x.rank - 1] >= 0 && x.dims[x.rank - 1] != kn[0]), f->node, err,
                    SHAPE, "the input has shape %s, its last dim must be K = %lld", PS_SHAPE_TEXT(&x),
                    (long long)kn[0]);
    const int64_t want = (kn[0] + FPQ4_BLOCK - 1) / FPQ4_BLOCK * kn[1] * fpq4_block_bytes(f->node->params);
    const int64_t have = ps_facts_length(f, 1);
    PS_NODE_FAIL_IF(have >= 0 && have != want, f->node, err, SHAPE,
                    "B holds %lld bytes, a matrix of %lld x %lld needs %lld", (long long)have, (long long)kn[0],
                    (long long)kn[1], (long long)want);
    return PS_OK;
}

static ps_status fpq4_infer(const ps_node *node, ps_error *err) {
    const fpq4_params *p = node->params;
    const ps_facts f = ps_facts_graph(node);
    int64_t kn[2];
    bool known;
    const bool ok = p->blk_quant_type == FPQ4_SYMMETRIC || p->blk_quant_type == FPQ4_ZERO_POINT;
    PS_NODE_FAIL_IF(!ok, node, err, UNSUPPORTED, "blk_quant_type is %lld, it must be 0 or 1",
                    (long long)p->blk_quant_type);
    PS_TRY(ps_check_type(node, 0, PS_DTYPE_F32, err));
    PS_TRY(ps_check_type(node, 1, PS_DTYPE_U8, err));
    PS_TRY(fpq4_extents(&f, kn, &known, err));
    ps_shape y = node->in[0]->shape;
    if (y.rank > 0) y.dims[y.rank - 1] = known ? kn[1] : PS_DIM_UNKNOWN;
    return ps_infer_checked(node, 0, PS_DTYPE_F32, &y, err);
}

static void fpq4_column(const nbits_job *j, int64_t n, double *column) {
    const fpq4_params *p = j->params;
    const int64_t size = fpq4_block_bytes(p), blocks = (j->k - 1) / FPQ4_BLOCK + 1;
    const uint8_t *block = (const uint8_t *)j->b->data + n * blocks * size;
    for (int64_t k = 0; k < j->k; k++) {
        const int64_t i = k % FPQ4_BLOCK;
        if (k && !i) block += size;
        float scale;
        memcpy(&scale, block, sizeof scale);
        const uint8_t *codes = block + size - FPQ4_BLOCK / 2, byte = codes[i % (FPQ4_BLOCK / 2)];
        const int zero = p->blk_quant_type == FPQ4_ZERO_POINT ? block[sizeof scale] : 8;
        column[k] = (double)((i < FPQ4_BLOCK / 2 ? byte & 15 : byte >> 4) - zero) * (double)scale;
    }
}

static ps_status fpq4_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_facts f = ps_facts_ctx(ctx);
    int64_t kn[2];
    bool known;
    PS_TRY(fpq4_extents(&f, kn, &known, err));
    nbits_job j = { .b = ctx->in[1], .column = fpq4_column, .k = kn[0], .n = kn[1] };
    ps_shape y = ctx->in[0]->shape;
    y.dims[y.rank - 1] = j.n;
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_F32, &y, err));
    return run_product(ctx, &j, err);
}

/* ---- GatherBlockQuantized ---- */

typedef struct gather_params {
    int64_t gather_axis, quantize_axis, block_size, bits;
} gather_params;

static const ps_attr_def gather_attrs[] = {
    PS_A_INT(gather_params, gather_axis, 0),
    PS_A_INT(gather_params, quantize_axis, 1),
    PS_A_INT(gather_params, block_size, 128),
    PS_A_INT(gather_params, bits, 4),
    PS_ATTRS_END,
};

enum { GB_DATA, GB_INDICES, GB_SCALES, GB_ZEROS };

static bool is_real_code(ps_dtype t) {
    return t == PS_DTYPE_F4E2M1 || (t >= PS_DTYPE_F8E4M3FN && t <= PS_DTYPE_F8E5M2FNUZ);
}

/* The data as numbers: bytes hold 8 / bits of them along the last dim. */
static ps_status logical_shape(const ps_node *node, ps_dtype t, const ps_shape *data, ps_shape *ret, ps_error *err) {
    const gather_params *p = node->params;
    *ret = *data;
    if (t != PS_DTYPE_U8 || data->rank < 1 || data->dims[data->rank - 1] < 0) return PS_OK;
    PS_NODE_FAIL_IF(__builtin_mul_overflow(data->dims[data->rank - 1], 8 / p->bits, &ret->dims[data->rank - 1]), node,
                    err, LIMIT, "the data is too large");
    return PS_OK;
}

static ps_status gather_types(const ps_node *node, ps_error *err) {
    const gather_params *p = node->params;
    const ps_dtype t = node->in[GB_DATA]->dtype, indices = node->in[GB_INDICES]->dtype;
    bool ok = t == PS_DTYPE_UNDEFINED || t == PS_DTYPE_U8 || t == PS_DTYPE_U4 || t == PS_DTYPE_I4 || is_real_code(t);
    PS_NODE_FAIL_IF(!ok, node, err, TYPE, "the data is %s, the operator takes u8, u4, i4, f8 and f4e2m1",
                    ps_dtype_name(t));
    PS_NODE_FAIL_IF(indices != PS_DTYPE_UNDEFINED && indices != PS_DTYPE_I32 && indices != PS_DTYPE_I64, node, err,
                    TYPE, "the indices are %s, they must be i32 or i64", ps_dtype_name(indices));
    PS_TRY(ps_check_float(node, GB_SCALES, err));
    PS_TRY(ps_check_same_type(node, GB_ZEROS, GB_DATA, err));
    PS_NODE_FAIL_IF(is_real_code(t) && ps_has_in(node, GB_ZEROS), node, err, INVALID,
                    "%s data has no zero points, input 3 must be absent", ps_dtype_name(t));
    PS_NODE_FAIL_IF(p->bits != 2 && p->bits != 4 && p->bits != 8, node, err, INVALID,
                    "bits is %lld, it must be 2, 4 or 8", (long long)p->bits);
    if (p->block_size == 0 && is_real_code(t)) return PS_OK;
    return check_block_size(node, p->block_size, err);
}

/* Scales: one for each block along the axis; elsewhere the data's dims, or 1, which repeats. */
static ps_status check_scales(const ps_node *node, const ps_shape *data, const ps_shape *s, int axis, ps_error *err) {
    const gather_params *p = node->params;
    PS_NODE_FAIL_IF(s->rank != data->rank, node, err, SHAPE, "the scales have shape %s, the data rank %d",
                    PS_SHAPE_TEXT(s), data->rank);
    for (int d = 0; d < data->rank; d++) {
        int64_t want = data->dims[d];
        if (want < 0 || s->dims[d] < 0 || (d != axis && s->dims[d] == 1)) continue;
        if (d == axis) want = p->block_size ? (want + p->block_size - 1) / p->block_size : want > 0;
        PS_NODE_FAIL_IF(s->dims[d] != want, node, err, SHAPE, "the scales have shape %s, dim %d must be %lld",
                        PS_SHAPE_TEXT(s), d, (long long)want);
    }
    return PS_OK;
}

static ps_status gather_axes(const ps_node *node, ps_dtype t, int rank, int *ret_gather, int *ret_quantize,
                             ps_error *err) {
    const gather_params *p = node->params;
    PS_TRY(ps_axis_check(node, p->gather_axis, rank, ret_gather, err));
    PS_TRY(ps_axis_check(node, p->quantize_axis, rank, ret_quantize, err));
    PS_NODE_FAIL_IF(t == PS_DTYPE_U8 && *ret_gather != 0, node, err, INVALID,
                    "gather_axis is %lld, it must be 0 for u8 data", (long long)p->gather_axis);
    return PS_OK;
}

/* Packed bytes of zero points: one code for each block, packed as the data. */
static ps_status check_zeros(const ps_node *node, ps_dtype t, const ps_shape *s, ps_error *err) {
    const gather_params *p = node->params;
    if (!ps_in_known(node, GB_ZEROS) || s->rank < 1 || !ps_shape_fixed(s)) return PS_OK;
    ps_shape want = *s;
    if (t == PS_DTYPE_U8) want.dims[s->rank - 1] = (s->dims[s->rank - 1] * p->bits + 7) / 8;
    const ps_shape *z = &node->in[GB_ZEROS]->shape;
    PS_NODE_FAIL_IF(ps_shape_fixed(z) && !ps_shape_equal(z, &want), node, err, SHAPE,
                    "the zero points have shape %s, they must have %s", PS_SHAPE_TEXT(z), PS_SHAPE_TEXT(&want));
    return PS_OK;
}

static ps_status gather_infer(const ps_node *node, ps_error *err) {
    const ps_dtype t = node->in[GB_DATA]->dtype;
    ps_shape data, y = ps_shape_unknown();
    int gather, quantize;
    PS_TRY(gather_types(node, err));
    PS_TRY(logical_shape(node, t, &node->in[GB_DATA]->shape, &data, err));
    if (data.rank >= 0) {
        PS_TRY(gather_axes(node, t, data.rank, &gather, &quantize, err));
        if (ps_in_known(node, GB_SCALES)) {
            PS_TRY(check_scales(node, &data, &node->in[GB_SCALES]->shape, quantize, err));
            PS_TRY(check_zeros(node, t, &node->in[GB_SCALES]->shape, err));
        }
    }
    if (data.rank >= 0 && ps_in_known(node, GB_INDICES)) {
        const ps_shape *i = &node->in[GB_INDICES]->shape;
        PS_NODE_FAIL_IF(i->rank + data.rank - 1 > PS_MAX_RANK, node, err, LIMIT, "the result has more than %d dims",
                        PS_MAX_RANK);
        y = ps_shape_make(gather, data.dims);
        for (int d = 0; d < i->rank; d++)
            y.dims[y.rank++] = i->dims[d];
        for (int d = gather + 1; d < data.rank; d++)
            y.dims[y.rank++] = data.dims[d];
    }
    return ps_infer_checked(node, 0, node->in[GB_SCALES]->dtype, &y, err);
}

typedef struct gather_job {
    const gather_params *p;
    const ps_tensor *data, *indices, *scales, *zeros;
    ps_shape shape; /* of the data as numbers */
    int gather, quantize;
    ps_tensor *y;
} gather_job;

/* Code i of packed or whole elements; u8 counts in numbers of `bits`. */
static double code_at(const gather_job *j, const ps_tensor *t, int64_t row, int64_t i, int64_t last) {
    double v;
    if (t->dtype == PS_DTYPE_U8) {
        const int64_t row_bytes = (last * j->p->bits + 7) / 8;
        return unpack((const uint8_t *)t->data + row * row_bytes, i, (unsigned)j->p->bits);
    }
    ps_row_load(&v, t->dtype, t->data, row * last + i, 1, 1);
    return v;
}

/* One number of the data at these coordinates. */
static double gather_one(const gather_job *j, const int64_t *at) {
    const int last = j->shape.rank - 1;
    const ps_shape *s = &j->scales->shape;
    int64_t row = 0, scale = 0, scale_row = 0, scale_last = 0;
    for (int d = 0; d < last; d++)
        row = row * j->shape.dims[d] + at[d];
    for (int d = 0; d <= last; d++) {
        int64_t i = d == j->quantize ? (j->p->block_size ? at[d] / j->p->block_size : 0) : at[d];
        if (s->dims[d] == 1) i = 0;
        scale = scale * s->dims[d] + i;
        if (d < last) scale_row = scale_row * s->dims[d] + i;
        if (d == last) scale_last = i;
    }
    double zero = j->data->dtype == PS_DTYPE_U8 ? (double)(1 << (j->p->bits - 1)) : 0;
    if (j->zeros) zero = code_at(j, j->zeros, scale_row, scale_last, s->dims[last]);
    return (code_at(j, j->data, row, at[last], j->shape.dims[last]) - zero) * ps_quant_at(j->scales, scale, 1);
}

/* Items are slices: what one index picks behind one position before the gathered axis. */
static void gather_slices(void *ctx, int64_t begin, int64_t end, int thread) {
    const gather_job *j = ctx;
    const int64_t n_indices = (int64_t)ps_tensor_count(j->indices), extent = j->shape.dims[j->gather];
    const int64_t inner = ps_shape_product(&j->shape, j->gather + 1, j->shape.rank);
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        int64_t at[PS_MAX_RANK] = { 0 }, outer = item / n_indices;
        int64_t index = j->indices->dtype == PS_DTYPE_I64 ? ((const int64_t *)j->indices->data)[item % n_indices]
                                                          : ((const int32_t *)j->indices->data)[item % n_indices];
        if (index < 0) index += extent;
        const bool inside = index >= 0 && index < extent; /* else zeros, as the operator's specification says */
        for (int d = j->gather - 1; d >= 0; d--) {
            at[d] = outer % j->shape.dims[d];
            outer /= j->shape.dims[d];
        }
        at[j->gather] = index;
        for (int64_t i = 0; i < inner; i++) {
            double v = inside ? gather_one(j, at) : 0;
            ps_row_store(j->y->data, j->y->dtype, item * inner + i, 1, &v, 1);
            for (int d = j->shape.rank - 1; d > j->gather && ++at[d] == j->shape.dims[d]; d--)
                at[d] = 0;
        }
    }
}

static ps_status gather_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    gather_job j = { .p = ctx->params, .data = ctx->in[GB_DATA], .indices = ctx->in[GB_INDICES] };
    j.scales = ctx->in[GB_SCALES];
    j.zeros = ps_in_tensor(ctx, GB_ZEROS);
    j.y = ctx->out[0];
    PS_TRY(logical_shape(ctx->node, j.data->dtype, &j.data->shape, &j.shape, err));
    PS_TRY(gather_axes(ctx->node, j.data->dtype, j.shape.rank, &j.gather, &j.quantize, err));
    PS_TRY(check_scales(ctx->node, &j.shape, &j.scales->shape, j.quantize, err));
    if (!ps_tensor_count(j.y)) return PS_OK;
    const int64_t slices = ps_shape_product(&j.shape, 0, j.gather) * (int64_t)ps_tensor_count(j.indices);
    ps_parallel_for(slices, 1, ctx->threads, gather_slices, &j);
    return PS_OK;
}

#define MS "com.microsoft"
static const ps_op ops[] = {
    { "MatMulNBits", MS, 1, 3, 6, 1, 1, nbits_attrs, sizeof(nbits_params), nbits_infer, nbits_ref, 0 },
    { "MatMulBnb4", MS, 1, 3, 3, 1, 1, bnb_attrs, sizeof(bnb_params), bnb_infer, bnb_ref, 0 },
    { "MatMulFpQ4", MS, 1, 3, 3, 1, 1, fpq4_attrs, sizeof(fpq4_params), fpq4_infer, fpq4_ref, 0 },
    { "GatherBlockQuantized", MS, 1, 3, 4, 1, 1, gather_attrs, sizeof(gather_params), gather_infer, gather_ref, 0 },
};
const ps_op_family ps_ops_quantize_nbits = PS_OP_FAMILY("quantize_nbits", ops);
