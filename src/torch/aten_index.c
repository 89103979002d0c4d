/* Reading and writing by index tensors and masks. */
#include <string.h>

#include "torch/aten.h"

static void out(ps_tb *b, ps_value *v) {
    ps_tb_out(b, 0, v);
}

static int64_t axis_of(ps_tb *b, ps_value *x) {
    return ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x));
}

static ps_value *gathered(ps_tb *b, ps_value *x, ps_value *index, int64_t axis) {
    ps_value *r = PS_OP(b, "Gather", x, index);
    ps_tb_set_int(b, "axis", axis);
    return r;
}

static void embedding(ps_tb *b) {
    out(b, gathered(b, ps_tb_tensor(b, "weight"), ps_tb_tensor(b, "indices"), 0));
}

static void index_select(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *index = ps_tb_tensor(b, "index");
    if (ps_tb_rank(b, index) == 0) index = ps_tb_unsqueeze(b, index, 0);
    out(b, gathered(b, x, index, axis_of(b, x)));
}

static void take(ps_tb *b) {
    int64_t all = -1;
    out(b, gathered(b, ps_tb_reshape_to(b, ps_tb_self(b), &all, 1), ps_tb_tensor(b, "index"), 0));
}

/* A tensor without dims takes part as a vector of one. */
static ps_value *with_dim(ps_tb *b, ps_value *v) {
    return ps_tb_rank(b, v) == 0 ? ps_tb_unsqueeze(b, v, 0) : v;
}

static void gather(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *index = ps_tb_tensor(b, "index");
    int64_t axis = axis_of(b, x);
    bool scalar = ps_tb_rank(b, index) == 0;
    ps_value *r = PS_OP(b, "GatherElements", with_dim(b, x), with_dim(b, index));
    ps_tb_set_int(b, "axis", axis);
    out(b, scalar ? ps_tb_squeeze(b, r, 0) : r);
}

/* v spread to the shape of `like`, but for its own extent along the axis. */
static ps_value *spread_but(ps_tb *b, ps_value *v, ps_value *like, int64_t axis) {
    ps_value *parts[PS_MAX_RANK];
    int rank = ps_tb_rank(b, like);
    for (int i = 0; i < rank; i++)
        parts[i] = ps_tb_extent(b, i == axis ? v : like, i);
    return rank > 1 ? ps_tb_expand(b, v, ps_tb_concat(b, parts, (size_t)rank, 0)) : v;
}

static void take_along_dim(ps_tb *b) {
    int64_t all = -1;
    ps_value *x = ps_tb_self(b), *index = ps_tb_tensor(b, "indices");
    if (!ps_tb_has(b, "dim")) {
        x = ps_tb_reshape_to(b, x, &all, 1);
        index = ps_tb_reshape_to(b, index, &all, 1);
    }
    int64_t axis = axis_of(b, x);
    if (ps_tb_rank(b, x) != ps_tb_rank(b, index))
        PS_TB_FAIL(b, FORMAT, "%s: the ranks of tensor and index differ", b->label);
    index = spread_but(b, index, x, axis);
    ps_value *r = PS_OP(b, "GatherElements", spread_but(b, x, index, axis), index);
    ps_tb_set_int(b, "axis", axis);
    out(b, r);
}

/* ---- scatter ---- */

static const char *reduction(ps_tb *b) {
    if (strcmp(b->op->name, "scatter_add") == 0) return "add";
    const char *r = ps_tb_text(b, "reduce", NULL);
    if (!r) return NULL;
    static const char *const names[][2] = { { "add", "add" },  { "multiply", "mul" }, { "sum", "add" },
                                            { "prod", "mul" }, { "amax", "max" },     { "amin", "min" } };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(r, names[i][0]) == 0) return names[i][1];
    }
    PS_TB_FAIL(b, UNSUPPORTED, "%s: reduction '%.40s' is not supported", b->label, r);
    return NULL;
}

static void scatter(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *index = with_dim(b, ps_tb_tensor(b, "index"));
    ps_dtype t = ps_tb_dtype(b, x);
    int64_t axis = axis_of(b, x), begin[PS_MAX_RANK] = { 0 };
    const char *how = reduction(b);
    int rank = ps_tb_rank(b, index);
    ps_value *src;
    if (ps_tb_has(b, "src")) {
        /* src may be larger than the index. */
        ps_value *from = ps_tb_vector(b, begin, (size_t)rank);
        src = ps_tb_cast(b, with_dim(b, ps_tb_tensor(b, "src")), t);
        src = PS_OP(b, "Slice", src, from, ps_tb_shape(b, index), ps_tb_iota(b, ps_tb_one(b, rank)));
    } else {
        ps_torch_operand value = ps_tb_get(b, "value");
        src = ps_tb_expand(b, ps_tb_cast(b, value.v, t), ps_tb_shape(b, index));
    }
    if (how && !ps_tb_bool(b, "include_self", true))
        PS_TB_FAIL(b, UNSUPPORTED, "%s: include_self=False is not supported", b->label);
    ps_value *r = PS_OP(b, "ScatterElements", with_dim(b, x), index, src);
    ps_tb_set_int(b, "axis", axis);
    if (how) ps_tb_set_text(b, "reduction", how);
    out(b, ps_tb_rank(b, x) == 0 ? ps_tb_squeeze(b, r, 0) : r);
}

/* Rows along an axis: index [n] stands for all positions of the other axes. */
static ps_value *row_index(ps_tb *b, ps_value *index, ps_value *like, int64_t axis) {
    int64_t dims[PS_MAX_RANK];
    int rank = ps_tb_rank(b, like);
    for (int i = 0; i < rank; i++)
        dims[i] = i == axis ? -1 : 1;
    return ps_tb_expand(b, ps_tb_reshape_to(b, index, dims, (size_t)rank), ps_tb_shape(b, like));
}

static void index_rows(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *index = ps_tb_tensor(b, "index"), *src = ps_tb_tensor(b, "source");
    int64_t axis = axis_of(b, x);
    bool add = strcmp(b->op->name, "index_add") == 0;
    src = ps_tb_cast(b, src, ps_tb_dtype(b, x));
    double alpha = add ? ps_tb_double(b, "alpha", 1) : 1;
    if (alpha != 1) src = PS_OP(b, "Mul", src, ps_tb_scalar(b, ps_tb_dtype(b, x), alpha));
    ps_value *r = PS_OP(b, "ScatterElements", x, row_index(b, index, src, axis), src);
    ps_tb_set_int(b, "axis", axis);
    if (add) ps_tb_set_text(b, "reduction", "add");
    out(b, r);
}

static void index_fill(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *index = with_dim(b, ps_tb_tensor(b, "index"));
    int64_t axis = axis_of(b, x);
    ps_torch_operand value = ps_tb_get(b, "value");
    ps_value *rows = gathered(b, x, index, axis); /* for its shape */
    ps_value *src = ps_tb_expand(b, ps_tb_cast(b, value.v, ps_tb_dtype(b, x)), ps_tb_shape(b, rows));
    ps_value *r = PS_OP(b, "ScatterElements", x, row_index(b, index, rows, axis), src);
    ps_tb_set_int(b, "axis", axis);
    out(b, r);
}

/* ---- x[i, j, …] ---- */

/* Index tensors of the dims they stand for. */
typedef struct indices {
    ps_value *at[PS_MAX_RANK];
    int64_t dims[PS_MAX_RANK]; /* ascending */
    size_t n;
} indices;

/* A mask of k dims stands for k index tensors: the coordinates of what is true. */
static void add_mask(ps_tb *b, indices *ix, ps_value *mask, int64_t dim) {
    int rank = ps_tb_rank(b, mask);
    if (rank < 1 || ix->n + (size_t)rank > PS_MAX_RANK) {
        PS_TB_FAIL(b, UNSUPPORTED, "%s: a mask with %d dims", b->label, rank);
        return;
    }
    ps_value *found = PS_OP(b, "NonZero", mask); /* [rank, n] */
    for (int i = 0; i < rank; i++) {
        ix->dims[ix->n] = dim + i;
        ix->at[ix->n++] = gathered(b, found, ps_tb_scalar(b, PS_DTYPE_I64, i), 0);
    }
}

static indices read_indices(ps_tb *b, ps_value *x) {
    indices ix = { .n = 0 };
    size_t n;
    int64_t dim = 0;
    ps_value **list = ps_tb_tensors(b, "indices", &n);
    int rank = ps_tb_rank(b, x);
    for (size_t i = 0; i < n && b->status == PS_OK; i++) {
        ps_value *v = list[i];
        ps_dtype t = v ? ps_tb_dtype(b, v) : PS_DTYPE_UNDEFINED;
        if (v && (t == PS_DTYPE_BOOL || t == PS_DTYPE_U8)) {
            int width = ps_tb_rank(b, v);
            add_mask(b, &ix, ps_tb_cast(b, v, PS_DTYPE_BOOL), dim);
            dim += width;
            continue;
        }
        if (v && ix.n < PS_MAX_RANK) {
            ix.dims[ix.n] = dim;
            ix.at[ix.n++] = ps_tb_cast(b, v, PS_DTYPE_I64);
        }
        dim++;
    }
    if (b->status == PS_OK && (ix.n == 0 || dim > rank))
        PS_TB_FAIL(b, FORMAT, "%s: indices for %lld dims of a tensor with %d", b->label, (long long)dim, rank);
    return ix;
}

/* All indices in one shape, joined in a last dim; *ret_rank of the common shape. */
static ps_value *join_indices(ps_tb *b, const indices *ix, int *ret_rank) {
    ps_value *shape = NULL, *parts[PS_MAX_RANK];
    int rank = 0;
    for (size_t i = 0; i < ix->n; i++) {
        int r = ps_tb_rank(b, ix->at[i]);
        rank = r > rank ? r : rank;
        /* The sum of all has the shape they broadcast to. */
        shape = shape ? PS_OP(b, "Add", shape, ix->at[i]) : ix->at[i];
    }
    shape = ix->n > 1 ? ps_tb_shape(b, shape) : NULL;
    for (size_t i = 0; i < ix->n; i++)
        parts[i] = ps_tb_unsqueeze(b, shape ? ps_tb_expand(b, ix->at[i], shape) : ix->at[i], rank);
    *ret_rank = rank;
    return ix->n == 1 ? parts[0] : ps_tb_concat(b, parts, ix->n, rank);
}

/* Order of dims that brings the indexed ones to the front. */
static bool front_order(const indices *ix, int rank, int64_t *perm) {
    size_t n = 0;
    bool same = true;
    for (size_t i = 0; i < ix->n; i++)
        perm[n++] = ix->dims[i];
    for (int d = 0; d < rank; d++) {
        bool indexed = false;
        for (size_t i = 0; i < ix->n; i++)
            indexed |= ix->dims[i] == d;
        if (!indexed) perm[n++] = d;
    }
    for (int d = 0; d < rank; d++)
        same &= perm[d] == d;
    return same;
}

static bool adjacent(const indices *ix) {
    return ix->dims[ix->n - 1] - ix->dims[0] + 1 == (int64_t)ix->n;
}

static void index_get(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t perm[PS_MAX_RANK], back[PS_MAX_RANK];
    int rank = ps_tb_rank(b, x), common;
    indices ix = read_indices(b, x);
    if (b->status != PS_OK) return;
    if (ix.n == 1) {
        out(b, gathered(b, x, ix.at[0], ix.dims[0]));
        return;
    }
    ps_value *front = front_order(&ix, rank, perm) ? x : ps_tb_transpose(b, x, perm, (size_t)rank);
    ps_value *r = PS_OP(b, "GatherND", front, join_indices(b, &ix, &common)); /* [common …, rest …] */
    int first = (int)ix.dims[0], result = common + rank - (int)ix.n;
    if (first == 0 || !adjacent(&ix) || b->status != PS_OK) {
        out(b, r);
        return;
    }
    if (result > PS_MAX_RANK) {
        PS_TB_FAIL(b, LIMIT, "%s: its result has %d dims", b->label, result);
        return;
    }
    /* Adjacent indices leave their dims where they were: behind the `first` ones. */
    for (int i = 0; i < result; i++)
        back[i] = i < first ? common + i : i < first + common ? i - first : i;
    out(b, ps_tb_transpose(b, r, back, (size_t)result));
}

/* One mask over all dims and one number: no index is needed. */
static bool put_by_mask(ps_tb *b, ps_value *x, ps_value *values) {
    size_t n;
    ps_value **list = ps_tb_tensors(b, "indices", &n);
    if (n != 1 || !list || !list[0] || ps_tb_dtype(b, list[0]) != PS_DTYPE_BOOL || ps_tb_bool(b, "accumulate", false) ||
        ps_tb_rank(b, values) != 0)
        return false;
    int rank = ps_tb_rank(b, x), width = ps_tb_rank(b, list[0]);
    int64_t axes[PS_MAX_RANK];
    ps_value *mask = list[0];
    for (int i = width; i < rank; i++)
        axes[i - width] = i;
    if (rank > width) mask = PS_OP(b, "Unsqueeze", mask, ps_tb_vector(b, axes, (size_t)(rank - width)));
    out(b, PS_OP(b, "Where", mask, values, x));
    return true;
}

static void index_put(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *values = ps_tb_cast(b, ps_tb_tensor(b, "values"), ps_tb_dtype(b, x));
    int64_t perm[PS_MAX_RANK], back[PS_MAX_RANK];
    int rank = ps_tb_rank(b, x), common;
    if (put_by_mask(b, x, values)) return;
    indices ix = read_indices(b, x);
    if (b->status != PS_OK) return;
    bool same = front_order(&ix, rank, perm);
    ps_value *front = same ? x : ps_tb_transpose(b, x, perm, (size_t)rank);
    ps_value *index = join_indices(b, &ix, &common);
    int first = (int)ix.dims[0], rest = rank - (int)ix.n, wide = common + rest;
    if (wide > PS_MAX_RANK) PS_TB_FAIL(b, LIMIT, "%s: its values have %d dims", b->label, wide);
    if (b->status != PS_OK) return;
    ps_value *shape = ps_tb_slice(b, ps_tb_shape(b, index), 0, 0, common);
    if (rest) {
        ps_value *parts[2] = { shape, ps_tb_slice(b, ps_tb_shape(b, front), 0, (int64_t)ix.n, INT64_MAX) };
        shape = ps_tb_concat(b, parts, 2, 0);
    }
    if (first && adjacent(&ix) && ps_tb_rank(b, values) > rest) {
        /* Values come with the indexed dims behind the `first` ones: to the front with them. */
        int width = ps_tb_rank(b, values), lead = first < width ? first : width, moved = width - rest;
        for (int i = 0; i < width; i++)
            back[i] = i < moved ? lead + i : i < moved + lead ? i - moved : i;
        values = ps_tb_transpose(b, values, back, (size_t)width);
    }
    ps_value *r = PS_OP(b, "ScatterND", front, index, ps_tb_expand(b, values, shape));
    if (ps_tb_bool(b, "accumulate", false)) ps_tb_set_text(b, "reduction", "add");
    for (int i = 0; i < rank; i++)
        back[perm[i]] = i;
    out(b, same ? r : ps_tb_transpose(b, r, back, (size_t)rank));
}

/* ---- masks and classes ---- */

static void nonzero(ps_tb *b) {
    out(b, ps_tb_swap(b, PS_OP(b, "NonZero", with_dim(b, ps_tb_self(b))), 0, 1));
}

static void masked_select(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *mask = ps_tb_tensor(b, "mask");
    int64_t all = -1;
    ps_value *wide = PS_OP(b, "Expand", mask, ps_tb_shape(b, x));
    x = ps_tb_expand(b, x, ps_tb_shape(b, wide));
    out(b, PS_OP(b, "Compress", ps_tb_reshape_to(b, x, &all, 1), ps_tb_reshape_to(b, wide, &all, 1)));
}

/* What is true takes the elements of source in turn. */
static void masked_scatter(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *mask = ps_tb_expand(b, ps_tb_tensor(b, "mask"), ps_tb_shape(b, x));
    int64_t all = -1;
    ps_value *flat = ps_tb_cast(b, ps_tb_reshape_to(b, mask, &all, 1), PS_DTYPE_I64);
    ps_value *turn = PS_OP(b, "CumSum", flat, ps_tb_scalar(b, PS_DTYPE_I64, 0));
    ps_value *source = ps_tb_reshape_to(b, ps_tb_tensor(b, "source"), &all, 1);
    turn = PS_OP(b, "Max", PS_OP(b, "Sub", turn, ps_tb_scalar(b, PS_DTYPE_I64, 1)), ps_tb_scalar(b, PS_DTYPE_I64, 0));
    ps_value *last = PS_OP(b, "Sub", ps_tb_squeeze(b, ps_tb_extent(b, source, 0), 0), ps_tb_scalar(b, PS_DTYPE_I64, 1));
    ps_value *picked = gathered(b, source, PS_OP(b, "Min", turn, last), 0);
    out(b, PS_OP(b, "Where", mask, ps_tb_reshape(b, picked, ps_tb_shape(b, x)), x));
}

static void one_hot(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    static const int64_t two = 2, values[2] = { 0, 1 };
    int64_t classes = ps_tb_int(b, "num_classes", -1);
    if (classes < 1) PS_TB_FAIL(b, UNSUPPORTED, "%s: num_classes must be given", b->label);
    out(b, PS_OP(b, "OneHot", x, ps_tb_scalar(b, PS_DTYPE_I64, (double)classes),
                 ps_tb_constant(b, PS_DTYPE_I64, &two, 1, values)));
}

/* How many boundaries lie below (or, from the right, not above) each value. */
static void bucketize(ps_tb *b) {
    bool search = strcmp(b->op->name, "searchsorted") == 0, right = ps_tb_bool(b, "right", false);
    ps_torch_operand o[2] = { ps_tb_get(b, "self"), ps_tb_as_operand(NULL) };
    o[1].v = ps_tb_tensor(b, search ? "sorted_sequence" : "boundaries");
    if (ps_tb_rank(b, o[1].v) != 1) PS_TB_FAIL(b, UNSUPPORTED, "%s: boundaries must be a vector", b->label);
    ps_dtype t = ps_tb_promote(b, o, 2);
    ps_value *x = ps_tb_unsqueeze(b, ps_tb_cast(b, o[0].v, t), -1);
    ps_value *below = PS_OP(b, right ? "GreaterOrEqual" : "Greater", x, ps_tb_cast(b, o[1].v, t));
    int64_t last = -1;
    out(b, ps_tb_reduce(b, "ReduceSum", ps_tb_cast(b, below, PS_DTYPE_I64), &last, 1, false));
}

static void isin(ps_tb *b) {
    ps_torch_operand o[2] = { ps_tb_get(b, ps_tb_has(b, "elements") ? "elements" : "element"),
                              ps_tb_get(b, ps_tb_has(b, "test_elements") ? "test_elements" : "test_element") };
    ps_dtype t = ps_tb_promote(b, o, 2);
    int64_t all = -1;
    ps_value *tests = ps_tb_reshape_to(b, ps_tb_cast(b, o[1].v, t), &all, 1);
    ps_value *hit = PS_OP(b, "Equal", ps_tb_unsqueeze(b, ps_tb_cast(b, o[0].v, t), -1), tests);
    ps_value *any = ps_tb_reduce(b, "ReduceMax", ps_tb_cast(b, hit, PS_DTYPE_I32), &all, 1, false);
    any = ps_tb_cast(b, any, PS_DTYPE_BOOL);
    out(b, ps_tb_bool(b, "invert", false) ? PS_OP(b, "Not", any) : any);
}

static const ps_torch_op ops[] = {
    { "embedding", embedding, NULL, 0 },
    { "index_select", index_select, NULL, 0 },
    { "take", take, NULL, 0 },
    { "gather", gather, NULL, 0 },
    { "take_along_dim", take_along_dim, NULL, 0 },
    { "scatter", scatter, NULL, 0 },
    { "scatter_add", scatter, NULL, 0 },
    { "scatter_reduce", scatter, NULL, 0 },
    { "index_add", index_rows, NULL, 0 },
    { "index_copy", index_rows, NULL, 0 },
    { "index_fill", index_fill, NULL, 0 },
    { "index", index_get, NULL, 0 },
    { "_unsafe_index", index_get, NULL, 0 },
    { "index_put", index_put, NULL, 0 },
    { "_unsafe_index_put", index_put, NULL, 0 },
    { "nonzero", nonzero, NULL, 0 },
    { "argwhere", nonzero, NULL, 0 },
    { "masked_select", masked_select, NULL, 0 },
    { "masked_scatter", masked_scatter, NULL, 0 },
    { "one_hot", one_hot, NULL, 0 },
    { "bucketize", bucketize, NULL, 0 },
    { "searchsorted", bucketize, NULL, 0 },
    { "isin", isin, NULL, 0 },
};

const ps_torch_family ps_torch_index = PS_TORCH_FAMILY("index", ops);
