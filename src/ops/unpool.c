/* unpool.c - MaxUnpool and Col2Im: values of windows put back where the windows lay.
 *
 * Source: ONNX operator specs MaxUnpool-9/11/22, Col2Im-18. */
#include "ops/kernel_util.h"
#include "ops/move.h"
#include "tensor/convert.h"

#define MAX_EXTENT (INT64_C(1) << 40) /* products of two stay below int64 */

/* One entry of an attribute list, within [min, 2^40]. */
static ps_status list_entry(const ps_node *node, const char *name, ps_ints list, size_t i, int64_t min, int64_t def,
                            int64_t *ret, ps_error *err) {
    *ret = i < list.n ? list.data[i] : def;
    PS_FAIL_IF(*ret < min || *ret > MAX_EXTENT, err, INVALID, "%s: %s[%zu] is %lld", PS_LABEL(node), name, i,
               (long long)*ret);
    return PS_OK;
}

static ps_status list_length(const ps_node *node, const char *name, ps_ints list, size_t n, ps_error *err) {
    PS_FAIL_IF(list.n && list.n != n, err, SHAPE, "%s: %s has %zu entries, must have %zu", PS_LABEL(node), name, list.n,
               n);
    return PS_OK;
}

/* ---- MaxUnpool ---- */
typedef struct unpool_params {
    ps_ints kernel_shape, strides, pads;
} unpool_params;

static const ps_attr_def unpool_attrs[] = {
    PS_A_INTS(unpool_params, kernel_shape),
    PS_A_INTS(unpool_params, strides),
    PS_A_INTS(unpool_params, pads),
    PS_ATTRS_END,
};

/* What the pool read: (in - 1) stride + kernel - pads in each spatial dim. */
static ps_status pooled_from(const ps_node *node, const ps_shape *x, ps_shape *ret, ps_error *err) {
    const unpool_params *p = node->params;
    size_t n = (size_t)x->rank - 2;
    *ret = *x;
    PS_FAIL_IF(p->kernel_shape.n != n, err, SHAPE, "%s: kernel_shape has %zu entries, must have %zu", PS_LABEL(node),
               p->kernel_shape.n, n);
    PS_TRY(list_length(node, "strides", p->strides, n, err));
    PS_TRY(list_length(node, "pads", p->pads, 2 * n, err));
    for (size_t d = 0; d < n; d++) {
        int64_t kernel, stride, pad[2], *out = &ret->dims[d + 2];
        PS_TRY(list_entry(node, "kernel_shape", p->kernel_shape, d, 1, 1, &kernel, err));
        PS_TRY(list_entry(node, "strides", p->strides, d, 1, 1, &stride, err));
        PS_TRY(list_entry(node, "pads", p->pads, d, 0, 0, &pad[0], err));
        PS_TRY(list_entry(node, "pads", p->pads, n + d, 0, 0, &pad[1], err));
        if (*out < 0) {
            *out = PS_DIM_UNKNOWN;
            continue;
        }
        bool fits = !__builtin_mul_overflow(*out - 1, stride, out) && !__builtin_add_overflow(*out, kernel, out);
        PS_FAIL_IF(!fits, err, LIMIT, "%s: dim %zu of the output overflows", PS_LABEL(node), d + 2);
        *out -= pad[0] + pad[1];
        PS_FAIL_IF(*out < 0, err, SHAPE, "%s: pads are larger than dim %zu of the output", PS_LABEL(node), d + 2);
    }
    return PS_OK;
}

/* inner: the shape that indices count in; out: at least as large in every dim. */
static ps_status unpool_resolve(const ps_facts *f, ps_shape *inner, ps_shape *out, ps_error *err) {
    ps_shape x = ps_facts_shape(f, 0), asked = ps_shape_unknown();
    size_t n;
    bool known;
    *inner = *out = ps_shape_unknown();
    PS_TRY(ps_facts_ints(f, 2, "output_shape", asked.dims, PS_MAX_RANK, &n, &known, err));
    if (x.rank < 0) return PS_OK;
    PS_FAIL_IF(x.rank < 3, err, SHAPE, "%s: input %s must have batch, channels and a spatial dim", PS_LABEL(f->node),
               PS_SHAPE_TEXT(&x));
    PS_TRY(pooled_from(f->node, &x, inner, err));
    *out = *inner;
    if (!ps_facts_has(f, 2)) return PS_OK;
    PS_FAIL_IF(known && n != (size_t)x.rank, err, SHAPE, "%s: output_shape has %zu entries, must have %d",
               PS_LABEL(f->node), n, x.rank);
    for (int d = 0; d < x.rank; d++) {
        PS_FAIL_IF(known && (asked.dims[d] < 0 || asked.dims[d] < inner->dims[d]), err, SHAPE,
                   "%s: output_shape[%d] is %lld, the pool's input had at least %lld", PS_LABEL(f->node), d,
                   (long long)asked.dims[d], (long long)inner->dims[d]);
        out->dims[d] = known ? asked.dims[d] : PS_DIM_UNKNOWN;
    }
    return PS_OK;
}

static ps_status unpool_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    ps_shape inner, out;
    PS_TRY(ps_check_float(node, 0, err));
    ps_dtype t = node->in[1]->dtype;
    PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_I64, err, TYPE, "%s: the indices are %s, they must be i64",
               PS_LABEL(node), ps_dtype_name(t));
    if (ps_in_known(node, 0)) {
        PS_TRY(ps_check_rank(node, 1, node->in[0]->shape.rank, err));
        for (int d = 0; d < node->in[0]->shape.rank; d++)
            PS_TRY(ps_check_dim(node, 1, d, node->in[0]->shape.dims[d], "the values' extent", err));
    }
    PS_TRY(unpool_resolve(&f, &inner, &out, err));
    return ps_infer_checked(node, 0, node->in[0]->dtype, &out, err);
}

/* Element `index` of the inner shape, as an element of the output. */
static int64_t widen_index(const ps_shape *inner, const int64_t *out_strides, int64_t index) {
    int64_t at = 0;
    for (int d = inner->rank - 1; d >= 0; d--) {
        at += index % inner->dims[d] * out_strides[d];
        index /= inner->dims[d];
    }
    return at;
}

static ps_status unpool_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    const int64_t *index = ctx->in[1]->data;
    ps_facts f = ps_facts_ctx(ctx);
    ps_shape inner, shape;
    int64_t strides[PS_MAX_RANK], limit;
    PS_TRY(unpool_resolve(&f, &inner, &shape, err));
    PS_TRY(ps_move_output(ctx, 0, x->dtype, &shape, err));
    char *out = ctx->out[0]->data;
    if (ctx->out[0]->bytes) memset(out, 0, ctx->out[0]->bytes);
    ps_shape_strides(&shape, strides);
    PS_FAIL_IF(!ps_shape_elements(&inner, &limit), err, LIMIT, "%s: the pool's input overflows", PS_LABEL(ctx->node));
    size_t size = ps_dtype_size(x->dtype), n = ps_tensor_count(x);
    for (size_t k = 0; k < n; k++) {
        PS_FAIL_IF(index[k] < 0 || index[k] >= limit, err, INVALID, "%s: index %lld is outside [0, %lld)",
                   PS_LABEL(ctx->node), (long long)index[k], (long long)limit);
        memcpy(out + (size_t)widen_index(&inner, strides, index[k]) * size, (const char *)x->data + k * size, size);
    }
    return PS_OK;
}

/* ---- Col2Im ---- */
typedef struct col2im_params {
    ps_ints dilations, pads, strides;
} col2im_params;

static const ps_attr_def col2im_attrs[] = {
    PS_A_INTS(col2im_params, dilations),
    PS_A_INTS(col2im_params, pads),
    PS_A_INTS(col2im_params, strides),
    PS_ATTRS_END,
};

enum { MAX_SPACE = PS_MAX_RANK - 2 };

typedef struct col2im_form {
    int n;      /* spatial dims, or -1 */
    bool fixed; /* all extents are known */
    int64_t image[MAX_SPACE], block[MAX_SPACE], stride[MAX_SPACE], dilation[MAX_SPACE], pad[MAX_SPACE];
    int64_t count[MAX_SPACE]; /* of blocks */
    int64_t taps, blocks;
    ps_shape out;
} col2im_form;

/* Attributes of one dim, and how many blocks fit. */
static ps_status col2im_dim(const ps_node *node, col2im_form *c, int d, ps_error *err) {
    const col2im_params *p = node->params;
    size_t n = (size_t)c->n, i = (size_t)d;
    int64_t end;
    PS_TRY(list_entry(node, "dilations", p->dilations, i, 1, 1, &c->dilation[d], err));
    PS_TRY(list_entry(node, "strides", p->strides, i, 1, 1, &c->stride[d], err));
    PS_TRY(list_entry(node, "pads", p->pads, i, 0, 0, &c->pad[d], err));
    PS_TRY(list_entry(node, "pads", p->pads, n + i, 0, 0, &end, err));
    if (!c->fixed) return PS_OK;
    bool fits =
        c->image[d] >= 0 && c->image[d] <= MAX_EXTENT && c->block[d] >= 1 && c->block[d] <= MAX_EXTENT / c->dilation[d];
    PS_FAIL_IF(!fits, err, SHAPE, "%s: an image of %lld and a block of %lld in spatial dim %d are out of range",
               PS_LABEL(node), (long long)c->image[d], (long long)c->block[d], d);
    int64_t room = c->image[d] + c->pad[d] + end - c->dilation[d] * (c->block[d] - 1) - 1;
    PS_FAIL_IF(room < 0, err, SHAPE, "%s: a block of %lld does not fit into spatial dim %d", PS_LABEL(node),
               (long long)c->block[d], d);
    c->count[d] = room / c->stride[d] + 1;
    fits = !__builtin_mul_overflow(c->taps, c->block[d], &c->taps) &&
           !__builtin_mul_overflow(c->blocks, c->count[d], &c->blocks);
    PS_FAIL_IF(!fits, err, LIMIT, "%s: the number of blocks overflows", PS_LABEL(node));
    return PS_OK;
}

static ps_status col2im_dims(const ps_facts *f, col2im_form *c, ps_error *err) {
    size_t n_image, n_block;
    bool image, block;
    PS_TRY(ps_facts_ints(f, 1, "image_shape", c->image, MAX_SPACE, &n_image, &image, err));
    PS_TRY(ps_facts_ints(f, 2, "block_shape", c->block, MAX_SPACE, &n_block, &block, err));
    int64_t n = ps_facts_length(f, 1), m = ps_facts_length(f, 2);
    PS_FAIL_IF(n >= 0 && m >= 0 && n != m, err, SHAPE, "%s: image_shape has %lld entries, block_shape %lld",
               PS_LABEL(f->node), (long long)n, (long long)m);
    n = n >= 0 ? n : m;
    PS_FAIL_IF(n == 0, err, SHAPE, "%s: image_shape is empty", PS_LABEL(f->node));
    c->n = (int)n;
    c->fixed = image && block;
    for (int d = 0; d < c->n && !image; d++)
        c->image[d] = PS_DIM_UNKNOWN;
    return PS_OK;
}

static ps_status col2im_resolve(const ps_facts *f, col2im_form *c, ps_error *err) {
    const col2im_params *p = f->node->params;
    ps_shape x = ps_facts_shape(f, 0);
    *c = (col2im_form) { .taps = 1, .blocks = 1, .out = ps_shape_unknown() };
    PS_FAIL_IF(x.rank >= 0 && x.rank != 3, err, SHAPE, "%s: input %s must have rank 3", PS_LABEL(f->node),
               PS_SHAPE_TEXT(&x));
    PS_TRY(col2im_dims(f, c, err));
    if (c->n < 0) return PS_OK;
    size_t n = (size_t)c->n;
    PS_TRY(list_length(f->node, "dilations", p->dilations, n, err));
    PS_TRY(list_length(f->node, "strides", p->strides, n, err));
    PS_TRY(list_length(f->node, "pads", p->pads, 2 * n, err));
    for (int d = 0; d < c->n; d++)
        PS_TRY(col2im_dim(f->node, c, d, err));
    c->out = ps_shape_make(2, (int64_t[]) { x.rank == 3 ? x.dims[0] : PS_DIM_UNKNOWN, PS_DIM_UNKNOWN });
    for (int d = 0; d < c->n; d++)
        c->out.dims[c->out.rank++] = c->image[d];
    if (!c->fixed || x.rank != 3) return PS_OK;
    bool fits = (x.dims[1] < 0 || x.dims[1] % c->taps == 0) && (x.dims[2] < 0 || x.dims[2] == c->blocks);
    PS_FAIL_IF(!fits, err, SHAPE, "%s: input %s does not hold a multiple of %lld rows of %lld blocks",
               PS_LABEL(f->node), PS_SHAPE_TEXT(&x), (long long)c->taps, (long long)c->blocks);
    if (x.dims[1] >= 0) c->out.dims[1] = x.dims[1] / c->taps;
    return PS_OK;
}

static ps_status col2im_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    col2im_form c;
    ps_dtype t = node->in[0]->dtype;
    bool number = ps_dtype_is_float(t) || ps_dtype_is_int(t) || t == PS_DTYPE_BOOL || t == PS_DTYPE_UNDEFINED;
    PS_FAIL_IF(!number, err, TYPE, "%s: blocks of %s cannot be added", PS_LABEL(node), ps_dtype_name(t));
    PS_TRY(col2im_resolve(&f, &c, err));
    return ps_infer_checked(node, 0, t, &c.out, err);
}

/* Sums are kept as doubles, or as integers modulo 2^64. */
typedef union sum {
    double real;
    uint64_t whole;
} sum;

/* Where in an image the taps of one position in all blocks belong; -1: in the padding. */
static int64_t image_index(const col2im_form *c, const int64_t *tap, const int64_t *block) {
    int64_t at = 0;
    for (int d = 0; d < c->n; d++) {
        int64_t i = block[d] * c->stride[d] + tap[d] * c->dilation[d] - c->pad[d];
        if (i < 0 || i >= c->image[d]) return -1;
        at = at * c->image[d] + i;
    }
    return at;
}

static void next_position(int64_t *at, const int64_t *dims, int n) {
    for (int d = n - 1; d >= 0 && ++at[d] == dims[d]; d--)
        at[d] = 0;
}

/* image += the rows of one channel; `row` has room for one of them. */
static void add_channel(const col2im_form *c, const ps_tensor *x, int64_t first, ps_dtype wide, sum *row, sum *image) {
    int64_t tap[MAX_SPACE] = { 0 };
    for (int64_t t = 0; t < c->taps; t++) {
        int64_t block[MAX_SPACE] = { 0 };
        ps_convert((const char *)x->data + (size_t)(first + t * c->blocks) * ps_dtype_size(x->dtype), x->dtype, row,
                   wide, (size_t)c->blocks, false);
        for (int64_t b = 0; b < c->blocks; b++) {
            int64_t at = image_index(c, tap, block);
            if (at >= 0 && wide == PS_DTYPE_F64)
                image[at].real += row[b].real;
            else if (at >= 0)
                image[at].whole += row[b].whole;
            next_position(block, c->count, c->n);
        }
        next_position(tap, c->block, c->n);
    }
}

static ps_status col2im_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    ps_facts f = ps_facts_ctx(ctx);
    col2im_form c;
    PS_TRY(col2im_resolve(&f, &c, err));
    PS_TRY(ps_move_output(ctx, 0, x->dtype, &c.out, err));
    ps_dtype wide = ps_dtype_is_float(x->dtype) ? PS_DTYPE_F64 : PS_DTYPE_I64;
    int64_t plane = ps_shape_product(&c.out, 2, c.out.rank), planes = c.out.dims[0] * c.out.dims[1];
    sum *image = ps_alloc_array(ctx->alloc, (size_t)plane, sizeof(sum));
    sum *row = ps_alloc_array(ctx->alloc, (size_t)c.blocks, sizeof(sum));
    for (int64_t k = 0; image && row && k < planes; k++) {
        memset(image, 0, (size_t)plane * sizeof(sum));
        add_channel(&c, x, k * c.taps * c.blocks, wide, row, image);
        ps_convert(image, wide, (char *)ctx->out[0]->data + (size_t)(k * plane) * ps_dtype_size(x->dtype), x->dtype,
                   (size_t)plane, false);
    }
    ps_status status = image && row ? PS_OK : PS_FAIL_NOMEM(err, "the sums of an image");
    ps_free(ctx->alloc, image);
    ps_free(ctx->alloc, row);
    return status;
}

static const ps_op ops[] = {
    { "MaxUnpool", "", 9, 2, 3, 1, 1, unpool_attrs, sizeof(unpool_params), unpool_infer, unpool_ref, 0 },
    { "Col2Im", "", 18, 3, 3, 1, 1, col2im_attrs, sizeof(col2im_params), col2im_infer, col2im_ref, 0 },
};
const ps_op_family ps_ops_unpool = PS_OP_FAMILY("unpool", ops);
