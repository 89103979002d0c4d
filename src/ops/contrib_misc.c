/* contrib_misc.c - operators of domain com.microsoft that belong to no other family: Inverse, CDist, Unique,
 * MurmurHash3, NGramRepeatBlock, UnfoldTensor, CropAndResize, Rfft, Irfft.
 *
 * Source: the operator schemas of ONNX Runtime 1.32. */
#include <math.h>
#include <stdlib.h>

#include "ops/facts.h"
#include "ops/kernel_util.h"
#include "ops/move.h"

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

/* ---- Inverse ---- */

static ps_status inverse_infer(const ps_node *node, ps_error *err) {
    PS_TRY(ps_check_float(node, 0, err));
    if (ps_in_known(node, 0)) {
        const ps_shape *s = &node->in[0]->shape;
        PS_NODE_FAIL_IF(s->rank < 2, node, err, SHAPE, "the input has rank %d, it must hold matrices", s->rank);
        PS_TRY(ps_check_dim(node, 0, s->rank - 1, s->dims[s->rank - 2], "the number of rows", err));
    }
    return ps_infer_same(node, err);
}

static void swap_rows(double *a, int64_t n, int64_t i, int64_t k) {
    for (int64_t c = 0; c < n; c++) {
        double t = a[i * n + c];
        a[i * n + c] = a[k * n + c];
        a[k * n + c] = t;
    }
}

static void subtract_row(double *a, int64_t n, int64_t from, int64_t row, double factor) {
    for (int64_t c = 0; c < n; c++)
        a[row * n + c] -= factor * a[from * n + c];
}

/* Gauss-Jordan with partial pivoting: a becomes the identity, inv the inverse. false if a is singular. */
static bool invert(double *a, double *inv, int64_t n) {
    for (int64_t i = 0; i < n * n; i++)
        inv[i] = i % (n + 1) == 0;
    for (int64_t c = 0; c < n; c++) {
        int64_t pivot = c;
        for (int64_t r = c + 1; r < n; r++)
            if (fabs(a[r * n + c]) > fabs(a[pivot * n + c])) pivot = r;
        double p = a[pivot * n + c];
        if (p == 0) return false;
        swap_rows(a, n, c, pivot);
        swap_rows(inv, n, c, pivot);
        for (int64_t k = 0; k < n; k++) {
            a[c * n + k] /= p;
            inv[c * n + k] /= p;
        }
        for (int64_t r = 0; r < n; r++) {
            double factor = a[r * n + c];
            if (r == c || factor == 0) continue;
            subtract_row(a, n, c, r, factor);
            subtract_row(inv, n, c, r, factor);
        }
    }
    return true;
}

static ps_status inverse_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    int64_t n = x->shape.dims[x->shape.rank - 1], count = (int64_t)ps_tensor_count(x);
    if (count == 0) return PS_OK;
    double *a = ps_alloc_array(ctx->alloc, (size_t)(n * n), 2 * sizeof(double)), *inv = a + n * n;
    if (!a) return PS_FAIL_NOMEM(err, "a matrix and its inverse");
    ps_status status = PS_OK;
    for (int64_t first = 0; first < count && status == PS_OK; first += n * n) {
        ps_row_load(a, x->dtype, x->data, first, 1, n * n);
        if (invert(a, inv, n))
            ps_row_store(ctx->out[0]->data, x->dtype, first, 1, inv, n * n);
        else
            status = PS_NODE_FAIL(ctx->node, err, INVALID, "matrix %lld is singular", (long long)(first / (n * n)));
    }
    ps_free(ctx->alloc, a);
    return status;
}

/* ---- CDist ---- */

typedef struct cdist_params {
    const char *metric;
} cdist_params;

static const ps_attr_def cdist_attrs[] = { PS_A_STR(cdist_params, metric, "sqeuclidean"), PS_ATTRS_END };

static ps_status cdist_infer(const ps_node *node, ps_error *err) {
    const char *metric = ((const cdist_params *)node->params)->metric;
    PS_NODE_FAIL_IF(strcmp(metric, "sqeuclidean") != 0 && strcmp(metric, "euclidean") != 0, node, err, UNSUPPORTED,
                    "metric '%s' is not supported; sqeuclidean and euclidean are", metric);
    PS_TRY(ps_check_floats(node, 2, err));
    PS_TRY(ps_check_rank(node, 0, 2, err));
    PS_TRY(ps_check_rank(node, 1, 2, err));
    PS_TRY(ps_check_dim(node, 1, 1, known_dim(node, 0, 1), "the number of columns of A", err));
    ps_shape y = ps_shape_make(2, (int64_t[]) { known_dim(node, 0, 0), known_dim(node, 1, 0) });
    return ps_infer_checked(node, 0, node->in[0]->dtype, &y, err);
}

static ps_status cdist_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *a = ctx->in[0], *b = ctx->in[1];
    ps_tensor *y = ctx->out[0];
    int64_t n = a->shape.dims[1], rows = a->shape.dims[0], others = b->shape.dims[0];
    bool root = ((const cdist_params *)ctx->params)->metric[0] == 'e';
    double *x = ps_alloc_array(ctx->alloc, (size_t)n, 2 * sizeof(double)), *z = x + n;
    if (!x) return PS_FAIL_NOMEM(err, "two points");
    for (int64_t i = 0; i < rows; i++) {
        ps_row_load(x, a->dtype, a->data, i * n, 1, n);
        for (int64_t k = 0; k < others; k++) {
            double sum = 0;
            ps_row_load(z, b->dtype, b->data, k * n, 1, n);
            for (int64_t d = 0; d < n; d++)
                sum += (x[d] - z[d]) * (x[d] - z[d]);
            if (root) sum = sqrt(sum);
            ps_row_store(y->data, y->dtype, i * others + k, 1, &sum, 1);
        }
    }
    ps_free(ctx->alloc, x);
    return PS_OK;
}

/* ---- Unique: in order of first occurrence ---- */

static ps_status unique_infer(const ps_node *node, ps_error *err) {
    ps_dtype t = node->in[0]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED &&
                        (!ps_dtype_is_float(t) && (!ps_dtype_is_int(t) || t == PS_DTYPE_I64 || t == PS_DTYPE_U64)),
                    node, err, TYPE, "elements of type %s are not supported", ps_dtype_name(t));
    PS_TRY(ps_check_rank(node, 0, 1, err));
    ps_shape open = ps_shape_make(1, (int64_t[]) { PS_DIM_UNKNOWN });
    ps_infer_set(node, 0, t, &open);
    ps_infer_set(node, 1, PS_DTYPE_I64, &node->in[0]->shape);
    ps_infer_set(node, 2, PS_DTYPE_I64, &open);
    return PS_OK;
}

typedef struct unique_entry {
    double value;
    int64_t at;
} unique_entry;

/* By value, NaN last, then by place. */
static int unique_compare(const void *a, const void *b) {
    const unique_entry *x = a, *y = b;
    if (isnan(x->value) != isnan(y->value)) return isnan(x->value) ? 1 : -1;
    if (x->value != y->value && !isnan(x->value)) return x->value < y->value ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* first[i] = the first place of the value at i; NaNs are all different. */
static void unique_firsts(unique_entry *e, int64_t n, int64_t *first) {
    qsort(e, (size_t)n, sizeof *e, unique_compare);
    for (int64_t i = 0, start = 0; i < n; i++) {
        if (i && !(e[i].value == e[i - 1].value)) start = i;
        first[e[i].at] = e[start].at;
    }
}

static ps_status unique_outputs(const ps_kernel_ctx *ctx, const int64_t *first, int64_t *rank, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    int64_t n = x->shape.dims[0], count = 0;
    for (int64_t i = 0; i < n; i++)
        rank[i] = first[i] == i ? count++ : rank[first[i]];
    ps_shape s = ps_shape_make(1, &count);
    PS_TRY(ps_kernel_output(ctx, 0, x->dtype, &s, err));
    PS_TRY(ps_kernel_output(ctx, 1, PS_DTYPE_I64, &x->shape, err));
    PS_TRY(ps_kernel_output(ctx, 2, PS_DTYPE_I64, &s, err));
    int64_t *counts = ctx->n_out > 2 && ctx->out[2] ? ctx->out[2]->data : NULL;
    size_t size = ps_dtype_size(x->dtype);
    for (int64_t i = 0; counts && i < count; i++)
        counts[i] = 0;
    for (int64_t i = 0; i < n; i++) {
        if (first[i] == i)
            memcpy((char *)ctx->out[0]->data + (size_t)rank[i] * size, (const char *)x->data + (size_t)i * size, size);
        if (ctx->n_out > 1 && ctx->out[1]) ((int64_t *)ctx->out[1]->data)[i] = rank[i];
        if (counts) counts[rank[i]]++;
    }
    return PS_OK;
}

static ps_status unique_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    int64_t n = x->shape.dims[0];
    unique_entry *e = ps_alloc_array(ctx->alloc, (size_t)n, sizeof *e);
    int64_t *first = ps_alloc_array(ctx->alloc, (size_t)n, 2 * sizeof *first);
    ps_status status = e && first ? PS_OK : PS_FAIL_NOMEM(err, "the values to sort");
    for (int64_t i = 0; status == PS_OK && i < n; i++) {
        ps_row_load(&e[i].value, x->dtype, x->data, i, 1, 1);
        e[i].at = i;
    }
    if (status == PS_OK) {
        unique_firsts(e, n, first);
        status = unique_outputs(ctx, first, first + n, err);
    }
    ps_free(ctx->alloc, e);
    ps_free(ctx->alloc, first);
    return status;
}

/* ---- MurmurHash3 (x86, 32 bits; Appleby) ---- */

typedef struct murmur_params {
    int64_t positive, seed;
} murmur_params;

static const ps_attr_def murmur_attrs[] = {
    PS_A_INT(murmur_params, positive, 1),
    PS_A_INT(murmur_params, seed, 0),
    PS_ATTRS_END,
};

static ps_status murmur_infer(const ps_node *node, ps_error *err) {
    ps_dtype t = node->in[0]->dtype;
    bool ok = t == PS_DTYPE_UNDEFINED || t == PS_DTYPE_STRING || t == PS_DTYPE_F32 || t == PS_DTYPE_F64 ||
              t == PS_DTYPE_I32 || t == PS_DTYPE_U32 || t == PS_DTYPE_I64 || t == PS_DTYPE_U64;
    PS_NODE_FAIL_IF(!ok, node, err, TYPE, "elements of type %s have no hash here", ps_dtype_name(t));
    ps_dtype out = ((const murmur_params *)node->params)->positive ? PS_DTYPE_U32 : PS_DTYPE_I32;
    ps_infer_set(node, 0, out, &node->in[0]->shape);
    return PS_OK;
}

static uint32_t rotate_left(uint32_t x, int n) {
    return x << n | x >> (32 - n);
}

static uint32_t murmur(const uint8_t *data, size_t n, uint32_t h) {
    const uint32_t c1 = 0xcc9e2d51u, c2 = 0x1b873593u;
    uint32_t tail = 0;
    for (size_t i = 0; i + 4 <= n; i += 4) {
        uint32_t k =
            (uint32_t)data[i] | (uint32_t)data[i + 1] << 8 | (uint32_t)data[i + 2] << 16 | (uint32_t)data[i + 3] << 24;
        h = rotate_left(h ^ rotate_left(k * c1, 15) * c2, 13) * 5 + 0xe6546b64u;
    }
    for (size_t i = n & 3; i-- > 0;)
        tail = tail << 8 | data[(n & ~(size_t)3) + i];
    if (n & 3) h ^= rotate_left(tail * c1, 15) * c2;
    h ^= (uint32_t)n;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

static ps_status murmur_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    uint32_t *y = ctx->out[0]->data, seed = (uint32_t)((const murmur_params *)ctx->params)->seed;
    size_t size = ps_dtype_size(x->dtype);
    (void)err;
    for (size_t i = 0; i < ps_tensor_count(x); i++) {
        const ps_string *s = x->dtype == PS_DTYPE_STRING ? (const ps_string *)x->data + i : NULL;
        y[i] = s ? murmur((const uint8_t *)s->data, s->size, seed)
                 : murmur((const uint8_t *)x->data + i * size, size, seed);
    }
    return PS_OK;
}

/* ---- NGramRepeatBlock ---- */

typedef struct ngram_params {
    int64_t ngram_size;
} ngram_params;

static const ps_attr_def ngram_attrs[] = { PS_A_INT_REQ(ngram_params, ngram_size), PS_ATTRS_END };

static ps_status ngram_infer(const ps_node *node, ps_error *err) {
    const ngram_params *p = node->params;
    PS_NODE_FAIL_IF(p->ngram_size < 1, node, err, INVALID, "ngram_size is %lld, it must be at least 1",
                    (long long)p->ngram_size);
    PS_TRY(check_type(node, 0, PS_DTYPE_I64, err));
    PS_TRY(ps_check_float(node, 1, err));
    PS_TRY(ps_check_rank(node, 0, 2, err));
    PS_TRY(ps_check_rank(node, 1, 2, err));
    PS_TRY(ps_check_dim(node, 1, 0, known_dim(node, 0, 0), "the batch of the ids", err));
    ps_infer_set(node, 0, node->in[1]->dtype, &node->in[1]->shape);
    return PS_OK;
}

static ps_status ngram_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *ids = ctx->in[0], *scores = ctx->in[1];
    int64_t size = ((const ngram_params *)ctx->params)->ngram_size, length = ids->shape.dims[1],
            words = scores->shape.dims[1];
    double hidden = -INFINITY;
    if (scores->bytes) memcpy(ctx->out[0]->data, scores->data, scores->bytes);
    for (int64_t b = 0; b < ids->shape.dims[0]; b++) {
        const int64_t *row = (const int64_t *)ids->data + b * length;
        for (int64_t i = 0; i + size <= length; i++) {
            if (memcmp(row + i, row + length - size + 1, (size_t)(size - 1) * sizeof *row) != 0) continue;
            int64_t word = row[i + size - 1];
            PS_NODE_FAIL_IF(word < 0 || word >= words, ctx->node, err, INVALID, "id %lld is outside of %lld scores",
                            (long long)word, (long long)words);
            ps_row_store(ctx->out[0]->data, scores->dtype, b * words + word, 1, &hidden, 1);
        }
    }
    return PS_OK;
}

/* ---- UnfoldTensor ---- */

typedef struct unfold_params {
    int64_t dim, size, step;
} unfold_params;

static const ps_attr_def unfold_attrs[] = {
    PS_A_INT(unfold_params, dim, -1),
    PS_A_INT_REQ(unfold_params, size),
    PS_A_INT(unfold_params, step, 1),
    PS_ATTRS_END,
};

static ps_status unfold_shape(const ps_node *node, const ps_shape *x, int *ret_dim, ps_shape *y, ps_error *err) {
    const unfold_params *p = node->params;
    PS_NODE_FAIL_IF(p->size < 1 || p->step < 1, node, err, INVALID, "size %lld and step %lld must be at least 1",
                    (long long)p->size, (long long)p->step);
    *y = ps_shape_unknown();
    if (x->rank < 0) return PS_OK;
    PS_TRY(ps_axis_check(node, p->dim, x->rank, ret_dim, err));
    PS_NODE_FAIL_IF(x->rank == PS_MAX_RANK, node, err, LIMIT, "the output's rank is over %d", PS_MAX_RANK);
    int64_t have = x->dims[*ret_dim];
    PS_NODE_FAIL_IF(have >= 0 && have < p->size, node, err, SHAPE, "slices of %lld do not fit into a dim of %lld",
                    (long long)p->size, (long long)have);
    *y = *x;
    y->dims[*ret_dim] = have >= 0 ? (have - p->size) / p->step + 1 : PS_DIM_UNKNOWN;
    y->dims[y->rank++] = p->size;
    return PS_OK;
}

static ps_status unfold_infer(const ps_node *node, ps_error *err) {
    int dim = 0;
    ps_shape y;
    PS_TRY(unfold_shape(node, &node->in[0]->shape, &dim, &y, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &y, err);
}

static ps_status unfold_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    int64_t src[PS_MAX_RANK], dst[PS_MAX_RANK];
    int dim = 0;
    ps_shape y;
    ps_move m;
    ps_walk w = { 0 };
    PS_TRY(unfold_shape(ctx->node, &x->shape, &dim, &y, err));
    PS_TRY(ps_move_begin(ctx, 0, x->dtype, &y, &m, err));
    ps_shape_strides(&x->shape, src);
    ps_shape_strides(&y, dst);
    for (int d = 0; d < x->shape.rank; d++)
        ps_walk_add(&w, y.dims[d], dst[d], d == dim ? src[d] * ((const unfold_params *)ctx->params)->step : src[d]);
    ps_walk_add(&w, y.dims[y.rank - 1], 1, src[dim]);
    ps_walk_copy(&w, m.size, m.dst, x->data, ctx->threads);
    return ps_move_end(&m, PS_OK, err);
}

/* ---- CropAndResize ---- */

typedef struct crop_params {
    float extrapolation_value;
    const char *mode;
} crop_params;

static const ps_attr_def crop_attrs[] = {
    PS_A_FLOAT(crop_params, extrapolation_value, 0),
    PS_A_STR(crop_params, mode, "bilinear"),
    PS_ATTRS_END,
};

enum { C_IMAGE, C_BOXES, C_BATCH, C_SIZE };

static ps_status crop_size(const ps_facts *f, int64_t size[2], bool *known, ps_error *err) {
    size_t n = 0;
    size[0] = size[1] = PS_DIM_UNKNOWN;
    PS_TRY(ps_facts_ints(f, C_SIZE, "crop_size", size, 2, &n, known, err));
    PS_NODE_FAIL_IF(*known && (n != 2 || size[0] < 1 || size[1] < 1), f->node, err, INVALID,
                    "crop_size must be two positive numbers");
    return PS_OK;
}

static ps_status crop_infer(const ps_node *node, ps_error *err) {
    const crop_params *p = node->params;
    ps_facts f = ps_facts_graph(node);
    int64_t size[2];
    bool known;
    PS_NODE_FAIL_IF(strcmp(p->mode, "bilinear") != 0 && strcmp(p->mode, "nearest") != 0, node, err, INVALID,
                    "mode is '%s', it must be bilinear or nearest", p->mode);
    PS_TRY(ps_check_floats(node, 2, err));
    PS_TRY(ps_check_rank(node, C_IMAGE, 4, err));
    PS_TRY(ps_check_rank(node, C_BOXES, 2, err));
    PS_TRY(ps_check_dim(node, C_BOXES, 1, 4, "the number of coordinates of a box", err));
    PS_TRY(check_type(node, C_BATCH, PS_DTYPE_I32, err));
    PS_TRY(check_type(node, C_SIZE, PS_DTYPE_I32, err));
    PS_TRY(ps_check_rank(node, C_BATCH, 1, err));
    PS_TRY(ps_check_dim(node, C_BATCH, 0, known_dim(node, C_BOXES, 0), "the number of boxes", err));
    PS_TRY(crop_size(&f, size, &known, err));
    ps_shape y =
        ps_shape_make(4, (int64_t[]) { known_dim(node, C_BOXES, 0), known_dim(node, C_IMAGE, 1), size[0], size[1] });
    return ps_infer_checked(node, 0, node->in[0]->dtype, &y, err);
}

/* Source coordinate of output i of n: the corners of the crop are those of the box. In f32, as the oracle has it: mode
 * nearest rounds it. */
static double crop_coordinate(double from, double to, int64_t i, int64_t n, int64_t extent) {
    float a = (float)from, b = (float)to, last = (float)(extent - 1);
    if (n == 1) return (double)(0.5f * (a + b) * last);
    float step = (b - a) * last / (float)(n - 1);
    return (double)(a * last + (float)i * step);
}

static double crop_sample(const ps_tensor *x, int64_t plane, double y, double at, bool nearest) {
    int64_t w = x->shape.dims[3], top = (int64_t)floor(y), left = (int64_t)floor(at);
    double v[4];
    if (nearest) {
        ps_row_load(v, x->dtype, x->data, plane + (int64_t)round(y) * w + (int64_t)round(at), 1, 1);
        return v[0];
    }
    int64_t bottom = (int64_t)ceil(y), right = (int64_t)ceil(at);
    const int64_t places[] = { top * w + left, top * w + right, bottom * w + left, bottom * w + right };
    for (int k = 0; k < 4; k++)
        ps_row_load(v + k, x->dtype, x->data, plane + places[k], 1, 1);
    double fx = at - (double)left, fy = y - (double)top;
    return (v[0] * (1 - fx) + v[1] * fx) * (1 - fy) + (v[2] * (1 - fx) + v[3] * fx) * fy;
}

static ps_status crop_box(const ps_kernel_ctx *ctx, int64_t box, ps_error *err) {
    const crop_params *p = ctx->params;
    const ps_tensor *x = ctx->in[C_IMAGE];
    ps_tensor *y = ctx->out[0];
    const int64_t *d = x->shape.dims, *o = y->shape.dims;
    int64_t batch = ((const int32_t *)ctx->in[C_BATCH]->data)[box];
    double b[4];
    PS_NODE_FAIL_IF(batch < 0 || batch >= d[0], ctx->node, err, INVALID, "batch index %lld is outside of %lld images",
                    (long long)batch, (long long)d[0]);
    ps_row_load(b, ctx->in[C_BOXES]->dtype, ctx->in[C_BOXES]->data, box * 4, 1, 4);
    for (int64_t i = 0; i < o[1] * o[2] * o[3]; i++) {
        int64_t c = i / (o[2] * o[3]), plane = (batch * d[1] + c) * d[2] * d[3];
        double v = (double)p->extrapolation_value, row = crop_coordinate(b[0], b[2], i / o[3] % o[2], o[2], d[2]),
               column = crop_coordinate(b[1], b[3], i % o[3], o[3], d[3]);
        if (row >= 0 && row <= (double)(d[2] - 1) && column >= 0 && column <= (double)(d[3] - 1))
            v = crop_sample(x, plane, row, column, p->mode[0] == 'n');
        ps_row_store(y->data, y->dtype, box * o[1] * o[2] * o[3] + i, 1, &v, 1);
    }
    return PS_OK;
}

static ps_status crop_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    int64_t size[2], boxes = ctx->in[C_BOXES]->shape.dims[0];
    bool known;
    PS_TRY(crop_size(&f, size, &known, err));
    ps_shape y = ps_shape_make(4, (int64_t[]) { boxes, ctx->in[C_IMAGE]->shape.dims[1], size[0], size[1] });
    int64_t n;
    PS_NODE_FAIL_IF(!ps_shape_elements(&y, &n), ctx->node, err, LIMIT, "the crops are too large");
    PS_TRY(ps_kernel_output(ctx, 0, ctx->in[C_IMAGE]->dtype, &y, err));
    for (int64_t box = 0; box < boxes; box++)
        PS_TRY(crop_box(ctx, box, err));
    return PS_OK;
}

/* ---- Rfft, Irfft: one dim, one side, not normalised ---- */

typedef struct fft_params {
    int64_t onesided, normalized, signal_ndim;
} fft_params;

static const ps_attr_def fft_attrs[] = {
    PS_A_INT(fft_params, onesided, 1),
    PS_A_INT(fft_params, normalized, 0),
    PS_A_INT(fft_params, signal_ndim, 1),
    PS_ATTRS_END,
};

static bool is_inverse(const ps_node *node) {
    return node->op->name[0] == 'I';
}

static ps_status fft_infer(const ps_node *node, ps_error *err) {
    const fft_params *p = node->params;
    PS_NODE_FAIL_IF(p->onesided != 1 || p->normalized != 0 || p->signal_ndim != 1, node, err, UNSUPPORTED,
                    "only onesided = 1, normalized = 0, signal_ndim = 1 are supported");
    PS_TRY(ps_check_float(node, 0, err));
    ps_shape y = node->in[0]->shape;
    if (y.rank >= 0 && is_inverse(node)) {
        PS_NODE_FAIL_IF(y.rank < 2, node, err, SHAPE, "the input has rank %d, it must have 2 or more", y.rank);
        PS_TRY(ps_check_dim(node, 0, y.rank - 1, 2, "the number of parts of a complex number", err));
        y.rank--;
        int64_t n = y.dims[y.rank - 1];
        PS_NODE_FAIL_IF(n == 0 || n > INT64_MAX / 4, node, err, SHAPE, "%lld frequencies have no signal", (long long)n);
        y.dims[y.rank - 1] = n > 0 ? 2 * (n - 1) : PS_DIM_UNKNOWN;
    } else if (y.rank >= 0) {
        PS_NODE_FAIL_IF(y.rank < 1 || y.rank == PS_MAX_RANK, node, err, SHAPE,
                        "the input has rank %d, it must have 1 to %d", y.rank, PS_MAX_RANK - 1);
        int64_t n = y.dims[y.rank - 1];
        y.dims[y.rank - 1] = n >= 0 ? n / 2 + 1 : PS_DIM_UNKNOWN;
        y.dims[y.rank++] = 2;
    }
    return ps_infer_checked(node, 0, node->in[0]->dtype, &y, err);
}

static double turn(int64_t k, int64_t i, int64_t n) {
    return 6.28318530717958648 * (double)((uint64_t)k * (uint64_t)i % (uint64_t)n) / (double)n;
}

static void forward(const double *x, int64_t n, double *y) {
    for (int64_t k = 0; k <= n / 2; k++) {
        y[2 * k] = y[2 * k + 1] = 0;
        for (int64_t i = 0; i < n; i++) {
            y[2 * k] += x[i] * cos(turn(k, i, n));
            y[2 * k + 1] -= x[i] * sin(turn(k, i, n));
        }
    }
}

/* The frequencies above half are the mirrored ones' conjugates. */
static void backward(const double *x, int64_t n, double *y) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = 0;
        for (int64_t k = 0; k <= n / 2; k++) {
            double part = x[2 * k] * cos(turn(k, i, n)) - x[2 * k + 1] * sin(turn(k, i, n));
            y[i] += k == 0 || 2 * k == n ? part : 2 * part;
        }
        y[i] /= (double)n;
    }
}

static ps_status fft_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    bool inverse = is_inverse(ctx->node);
    const ps_tensor *x = ctx->in[0];
    const ps_shape *s = inverse ? &ctx->out[0]->shape : &x->shape;
    int64_t n = s->dims[s->rank - 1], half = 2 * (n / 2 + 1), rows = ps_shape_product(s, 0, s->rank - 1);
    double *signal = ps_alloc_array(ctx->alloc, (size_t)(n + half), sizeof(double)), *parts = signal + n;
    if (!signal) return PS_FAIL_NOMEM(err, "a signal");
    for (int64_t r = 0; r < rows && n; r++) {
        ps_row_load(inverse ? parts : signal, x->dtype, x->data, r * (inverse ? half : n), 1, inverse ? half : n);
        if (inverse)
            backward(parts, n, signal);
        else
            forward(signal, n, parts);
        ps_row_store(ctx->out[0]->data, x->dtype, r * (inverse ? n : half), 1, inverse ? signal : parts,
                     inverse ? n : half);
    }
    ps_free(ctx->alloc, signal);
    return PS_OK;
}

#define MS "com.microsoft"
#define P(kind) kind##_attrs, sizeof(kind##_params), kind##_infer, kind##_ref
static const ps_op ops[] = {
    { "Inverse", MS, 1, 1, 1, 1, 1, NULL, 0, inverse_infer, inverse_ref, 0 },
    { "CDist", MS, 1, 2, 2, 1, 1, P(cdist), 0 },
    { "Unique", MS, 1, 1, 1, 1, 3, NULL, 0, unique_infer, unique_ref, PS_OP_DATA_SHAPE },
    { "MurmurHash3", MS, 1, 1, 1, 1, 1, P(murmur), 0 },
    { "NGramRepeatBlock", MS, 1, 2, 2, 1, 1, P(ngram), 0 },
    { "UnfoldTensor", MS, 1, 1, 1, 1, 1, P(unfold), 0 },
    { "CropAndResize", MS, 1, 4, 4, 1, 1, P(crop), 0 },
    { "Rfft", MS, 1, 1, 1, 1, 1, P(fft), 0 },
    { "Irfft", MS, 1, 1, 1, 1, 1, P(fft), 0 },
};
const ps_op_family ps_ops_contrib_misc = PS_OP_FAMILY("contrib_misc", ops);
