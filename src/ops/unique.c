/* unique.c - Unique: the different elements of a tensor, or its different slices along an axis.
 *
 * A tensor is seen as items [outer, items, inner]; without an axis every element is an item. Items are compared element
 * by element in row-major order, sorted by a stable merge sort, and runs of equal ones become one. NaN equals NaN and
 * comes last, as numpy has it. Source: ONNX operator spec Unique-11/28. */
#include <math.h>

#include "ops/move.h"
#include "tensor/convert.h"

typedef struct unique_params {
    int64_t axis, sorted;
} unique_params;

enum { FLAT = INT32_MAX }; /* no axis has this number */

static const ps_attr_def unique_attrs[] = {
    PS_A_INT(unique_params, axis, FLAT),
    PS_A_INT(unique_params, sorted, 1),
    PS_ATTRS_END,
};

static bool is_flat(const ps_node *node) {
    return !ps_node_attr(node, "axis");
}

static ps_status unique_infer(const ps_node *node, ps_error *err) {
    const unique_params *p = node->params;
    const ps_shape *x = &node->in[0]->shape;
    ps_dtype t = node->in[0]->dtype;
    PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && ps_dtype_size(t) == 0, err, TYPE, "%s: %s is packed below one byte",
               PS_LABEL(node), ps_dtype_name(t));
    ps_shape list = ps_shape_make(1, (int64_t[]) { PS_DIM_UNKNOWN }), y = list, inverse = list;
    if (x->rank >= 0 && is_flat(node)) {
        int64_t n;
        if (ps_shape_fixed(x) && ps_shape_elements(x, &n)) inverse.dims[0] = n;
    } else if (x->rank >= 0) {
        int axis;
        PS_TRY(ps_axis_check(node, p->axis, x->rank, &axis, err));
        y = *x;
        inverse.dims[0] = x->dims[axis];
        y.dims[axis] = PS_DIM_UNKNOWN;
    } else if (!is_flat(node)) {
        y = ps_shape_unknown();
    }
    ps_infer_set(node, 0, t, &y);
    ps_infer_set(node, 1, PS_DTYPE_I64, &list);
    ps_infer_set(node, 2, PS_DTYPE_I64, &inverse);
    ps_infer_set(node, 3, PS_DTYPE_I64, &list);
    return PS_OK;
}

/* ---- comparing ---- */
static int compare_real(double a, double b) {
    if (isnan(a) || isnan(b)) return isnan(a) - isnan(b);
    return (a > b) - (a < b);
}

static int compare_strings(const ps_string *a, const ps_string *b) {
    size_t n = a->size < b->size ? a->size : b->size;
    int order = n ? memcmp(a->data, b->data, n) : 0;
    return order ? order : (a->size > b->size) - (a->size < b->size);
}

#define COMPARE(tag, type)                                                                                             \
    case PS_DTYPE_##tag: {                                                                                             \
        const type *v = t->data;                                                                                       \
        return (v[a] > v[b]) - (v[a] < v[b]);                                                                          \
    }
#define COMPARE_PAIR(tag, type)                                                                                        \
    case PS_DTYPE_##tag: {                                                                                             \
        const type *v = t->data;                                                                                       \
        int order = compare_real((double)v[2 * a], (double)v[2 * b]);                                                  \
        return order ? order : compare_real((double)v[2 * a + 1], (double)v[2 * b + 1]);                               \
    }

static int compare_elements(const ps_tensor *t, int64_t a, int64_t b) {
    switch (t->dtype) {
        COMPARE(I8, int8_t)
        COMPARE(I16, int16_t)
        COMPARE(I32, int32_t)
        COMPARE(I64, int64_t)
        COMPARE(U8, uint8_t)
        COMPARE(BOOL, uint8_t)
        COMPARE(U16, uint16_t)
        COMPARE(U32, uint32_t)
        COMPARE(U64, uint64_t)
        COMPARE_PAIR(C64, float)
        COMPARE_PAIR(C128, double)
    case PS_DTYPE_STRING: return compare_strings((const ps_string *)t->data + a, (const ps_string *)t->data + b);
    default: break;
    }
    double x = 0, y = 0;
    size_t size = ps_dtype_size(t->dtype);
    ps_convert((const char *)t->data + (size_t)a * size, t->dtype, &x, PS_DTYPE_F64, 1, false);
    ps_convert((const char *)t->data + (size_t)b * size, t->dtype, &y, PS_DTYPE_F64, 1, false);
    return compare_real(x, y);
}

typedef struct unique_job {
    const ps_tensor *x;
    int64_t outer, items, inner;
    /* Scratch, each of `items`: */
    int64_t *order, *spare; /* items, sorted */
    int64_t *group;         /* of each item */
    int64_t *first, *count; /* of each group */
    int64_t groups;
} unique_job;

static int compare_items(const unique_job *job, int64_t a, int64_t b) {
    if (!job->inner) return 0; /* however many of them there are */
    for (int64_t o = 0; o < job->outer; o++) {
        for (int64_t i = 0; i < job->inner; i++) {
            int order =
                compare_elements(job->x, (o * job->items + a) * job->inner + i, (o * job->items + b) * job->inner + i);
            if (order) return order;
        }
    }
    return 0;
}

/* ---- sorting ---- */
static void merge(const unique_job *job, const int64_t *from, int64_t *to, int64_t begin, int64_t middle, int64_t end) {
    int64_t a = begin, b = middle;
    for (int64_t k = begin; k < end; k++) {
        bool left = a < middle && (b >= end || compare_items(job, from[a], from[b]) <= 0);
        to[k] = from[left ? a++ : b++];
    }
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void sort_items(unique_job *job) {
    int64_t n = job->items;
    for (int64_t k = 0; k < n; k++)
        job->order[k] = k;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t k = 0; k < n; k += 2 * width)
            merge(job, job->order, job->spare, k, smaller(k + width, n), smaller(k + 2 * width, n));
        int64_t *t = job->order;
        job->order = job->spare;
        job->spare = t;
    }
}

/* Runs of equal items in order; the sort is stable, so the first of a run is the first in the tensor. */
static void make_groups(unique_job *job) {
    for (int64_t k = 0; k < job->items; k++) {
        int64_t item = job->order[k];
        if (k == 0 || compare_items(job, job->order[k - 1], item) != 0) {
            job->first[job->groups] = item;
            job->count[job->groups++] = 0;
        }
        job->group[item] = job->groups - 1;
        job->count[job->groups - 1]++;
    }
}

/* Renumbers the groups by their first item. */
static void unsort_groups(unique_job *job) {
    int64_t *rank = job->order, *first = job->spare, n = 0; /* not needed any more */
    for (int64_t k = 0; k < job->items; k++) {
        if (job->first[job->group[k]] != k) continue;
        rank[job->group[k]] = n;
        first[n++] = k;
    }
    for (int64_t k = 0; k < job->items; k++)
        job->group[k] = rank[job->group[k]];
    memset(job->count, 0, (size_t)job->items * sizeof *job->count);
    for (int64_t k = 0; k < job->items; k++)
        job->count[job->group[k]]++;
    for (int64_t k = 0; k < n; k++)
        job->first[k] = first[k];
}

/* ---- outputs ---- */
static ps_status put_values(const ps_kernel_ctx *ctx, const unique_job *job, ps_error *err) {
    const unique_params *p = ctx->params;
    ps_shape shape = ps_shape_make(1, &job->groups);
    ps_move m;
    int axis;
    if (!is_flat(ctx->node)) {
        shape = job->x->shape;
        PS_TRY(ps_axis_check(ctx->node, p->axis, shape.rank, &axis, err));
        shape.dims[axis] = job->groups;
    }
    PS_TRY(ps_move_begin(ctx, 0, job->x->dtype, &shape, &m, err));
    size_t run = (size_t)job->inner * m.size;
    const char *src = job->x->data;
    for (int64_t o = 0; run && o < job->outer; o++)
        for (int64_t g = 0; g < job->groups; g++)
            memcpy(m.dst + (size_t)(o * job->groups + g) * run, src + (size_t)(o * job->items + job->first[g]) * run,
                   run);
    return ps_move_end(&m, PS_OK, err);
}

static ps_status put_list(const ps_kernel_ctx *ctx, size_t i, const int64_t *list, int64_t n, ps_error *err) {
    if (i >= ctx->n_out || !ctx->out[i]) return PS_OK;
    ps_shape shape = ps_shape_make(1, &n);
    PS_TRY(ps_move_output(ctx, i, PS_DTYPE_I64, &shape, err));
    if (n) memcpy(ctx->out[i]->data, list, (size_t)n * sizeof *list);
    return PS_OK;
}

static ps_status unique_run(const ps_kernel_ctx *ctx, unique_job *job, ps_error *err) {
    sort_items(job);
    make_groups(job);
    if (!((const unique_params *)ctx->params)->sorted) unsort_groups(job);
    if (ctx->out[0]) PS_TRY(put_values(ctx, job, err));
    PS_TRY(put_list(ctx, 1, job->first, job->groups, err));
    PS_TRY(put_list(ctx, 2, job->group, job->items, err));
    return put_list(ctx, 3, job->count, job->groups, err);
}

static ps_status unique_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    unique_job job = { .x = x, .outer = 1, .items = (int64_t)ps_tensor_count(x), .inner = 1 };
    int axis;
    if (!is_flat(ctx->node)) {
        PS_TRY(ps_axis_check(ctx->node, ((const unique_params *)ctx->params)->axis, x->shape.rank, &axis, err));
        job.outer = ps_shape_product(&x->shape, 0, axis);
        job.items = x->shape.dims[axis];
        job.inner = ps_shape_product(&x->shape, axis + 1, x->shape.rank);
    }
    size_t n = (size_t)job.items;
    int64_t *block = ps_alloc_array(ctx->alloc, n, 5 * sizeof *block);
    if (!block) return PS_FAIL_NOMEM(err, "sorting");
    job.order = block;
    job.spare = block + n;
    job.group = block + 2 * n;
    job.first = block + 3 * n;
    job.count = block + 4 * n;
    ps_status status = unique_run(ctx, &job, err);
    ps_free(ctx->alloc, block);
    return status;
}

static const ps_op ops[] = {
    { "Unique", "", 11, 1, 1, 1, 4, unique_attrs, sizeof(unique_params), unique_infer, unique_ref, PS_OP_DATA_SHAPE },
};
const ps_op_family ps_ops_unique = PS_OP_FAMILY("unique", ops);
