/* Functions that give the same elements another shape, order or type, or pick some by position. */
#include <string.h>

#include "torch/aten.h"

static void out(ps_tb *b, ps_value *v) {
    ps_tb_out(b, 0, v);
}

/* ---- the tensor itself ---- */

static void identity(ps_tb *b) {
    out(b, ps_tb_self(b));
}

/* ps_tb_out casts to the type that the program gives. */
static void copy_into(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *src = ps_tb_tensor(b, "src");
    out(b, ps_tb_expand(b, ps_tb_cast(b, src, ps_tb_dtype(b, x)), ps_tb_shape(b, x)));
}

/* ---- shapes ---- */

static void view(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    if (strcmp(b->overload, "dtype") == 0) {
        PS_TB_FAIL(b, UNSUPPORTED, "%s: reading the same bytes as another type is not supported", b->label);
        return;
    }
    out(b, ps_tb_reshape(b, x, ps_tb_dims(b, ps_tb_has(b, "size") ? "size" : "shape")));
}

static void view_as(ps_tb *b) {
    out(b, ps_tb_reshape(b, ps_tb_self(b), ps_tb_shape(b, ps_tb_tensor(b, "other"))));
}

/* x with the dims [first, last] replaced by those of `middle` (a vector). */
static ps_value *replace_dims(ps_tb *b, ps_value *x, int first, int last, ps_value *middle) {
    ps_value *parts[PS_MAX_RANK + 2];
    size_t n = 0;
    int rank = ps_tb_rank(b, x);
    for (int i = 0; i < first; i++)
        parts[n++] = ps_tb_extent(b, x, i);
    parts[n++] = middle;
    for (int i = last + 1; i < rank; i++)
        parts[n++] = ps_tb_extent(b, x, i);
    return ps_tb_reshape(b, x, n == 1 ? middle : ps_tb_concat(b, parts, n, 0));
}

static ps_value *flattened(ps_tb *b, ps_value *x, int first, int last) {
    return first == last ? x : replace_dims(b, x, first, last, ps_tb_one(b, -1));
}

static void flatten(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int rank = ps_tb_rank(b, x);
    int first = (int)ps_tb_axis(b, "start_dim", 0, rank), last = (int)ps_tb_axis(b, "end_dim", -1, rank);
    if (rank == 0)
        out(b, ps_tb_unsqueeze(b, x, 0));
    else
        out(b, flattened(b, x, first, last));
}

static void ravel(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t all = -1;
    out(b, ps_tb_rank(b, x) == 1 ? x : ps_tb_reshape_to(b, x, &all, 1));
}

static void unflatten(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int axis = (int)ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x));
    out(b, replace_dims(b, x, axis, axis, ps_tb_dims(b, "sizes")));
}

static void unsqueeze(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, ps_tb_unsqueeze(b, x, ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x) + 1)));
}

/* Only dims of extent 1 go; a symbolic one is not 1, or the export would have fixed it. */
static void squeeze(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t given[PS_MAX_RANK], axes[PS_MAX_RANK];
    int rank = ps_tb_rank(b, x), axis;
    bool all = !ps_tb_has(b, "dim");
    size_t n = 0, count = ps_tb_ints(b, "dim", given, PS_MAX_RANK);
    for (int i = 0; all && i < rank; i++)
        given[count++] = i;
    for (size_t i = 0; i < count; i++) {
        if (rank && ps_axis_normalize(given[i], rank, &axis) && ps_tb_dim(b, x, axis) == 1) axes[n++] = axis;
    }
    out(b, n ? PS_OP(b, "Squeeze", x, ps_tb_vector(b, axes, n)) : x);
}

/* ---- order of dims ---- */

static void permute(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t perm[PS_MAX_RANK];
    int rank = ps_tb_rank(b, x), axis = 0;
    size_t n = ps_tb_ints(b, "dims", perm, PS_MAX_RANK);
    for (size_t i = 0; i < n; i++) {
        if (!ps_axis_normalize(perm[i], rank, &axis) || n != (size_t)rank)
            PS_TB_FAIL(b, FORMAT, "%s: dims are no order of the tensor's %d", b->label, rank);
        perm[i] = axis;
    }
    out(b, rank ? ps_tb_transpose(b, x, perm, n) : x);
}

static void transpose(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int rank = ps_tb_rank(b, x);
    bool swapped = ps_tb_has(b, "axis0");
    int first = (int)ps_tb_axis(b, swapped ? "axis0" : "dim0", 0, rank);
    int second = (int)ps_tb_axis(b, swapped ? "axis1" : "dim1", 0, rank);
    out(b, rank < 2 ? x : ps_tb_swap(b, x, first, second));
}

static void matrix_transpose(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, ps_tb_rank(b, x) < 2 ? x : ps_tb_swap(b, x, -1, -2));
}

static void reverse_dims(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t perm[PS_MAX_RANK];
    int rank = ps_tb_rank(b, x);
    for (int i = 0; i < rank; i++)
        perm[i] = rank - 1 - i;
    out(b, rank < 2 ? x : ps_tb_transpose(b, x, perm, (size_t)rank));
}

static void movedim(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t from[PS_MAX_RANK], to[PS_MAX_RANK], perm[PS_MAX_RANK];
    int rank = ps_tb_rank(b, x), f, t;
    bool taken[PS_MAX_RANK] = { false };
    size_t n = ps_tb_ints(b, "source", from, PS_MAX_RANK), m = ps_tb_ints(b, "destination", to, PS_MAX_RANK);
    for (int i = 0; i < rank; i++)
        perm[i] = -1;
    for (size_t i = 0; i < n && i < m; i++) {
        if (!ps_axis_normalize(from[i], rank, &f) || !ps_axis_normalize(to[i], rank, &t) || taken[f] || perm[t] >= 0) {
            PS_TB_FAIL(b, FORMAT, "%s: source and destination do not fit %d dims", b->label, rank);
            return;
        }
        perm[t] = f;
        taken[f] = true;
    }
    for (int i = 0, next = 0; i < rank; i++) {
        if (perm[i] >= 0) continue;
        while (taken[next])
            next++;
        perm[i] = next++;
    }
    out(b, rank < 2 ? x : ps_tb_transpose(b, x, perm, (size_t)rank));
}

/* ---- repetition ---- */

/* -1 keeps an extent, as 1 does in ONNX; other sizes are not negative. */
static void expand(ps_tb *b) {
    out(b, ps_tb_expand(b, ps_tb_self(b), PS_OP(b, "Abs", ps_tb_dims(b, "size"))));
}

static void expand_as(ps_tb *b) {
    out(b, ps_tb_expand(b, ps_tb_self(b), ps_tb_shape(b, ps_tb_tensor(b, "other"))));
}

static void repeat(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *times = ps_tb_dims(b, ps_tb_has(b, "repeats") ? "repeats" : "dims");
    int rank = ps_tb_rank(b, x), n = (int)ps_tb_dim(b, times, 0);
    int64_t axes[PS_MAX_RANK * 2];
    if (b->status != PS_OK || n < 0 || n > PS_MAX_RANK * 2) {
        PS_TB_FAIL(b, LIMIT, "%s: repeats more than %d dims", b->label, PS_MAX_RANK);
        return;
    }
    for (int i = 0; i < n - rank; i++)
        axes[i] = i;
    if (n > rank) x = PS_OP(b, "Unsqueeze", x, ps_tb_vector(b, axes, (size_t)(n - rank)));
    for (int i = 0; i < rank - n; i++)
        axes[i] = 1;
    if (n < rank)
        times = n ? PS_OP(b, "Concat", ps_tb_vector(b, axes, (size_t)(rank - n)), times)
                  : ps_tb_vector(b, axes, (size_t)rank);
    if (n && n < rank) ps_tb_set_int(b, "axis", 0);
    out(b, PS_OP(b, "Tile", x, times));
}

/* Each element `repeats` times: a new dim behind the axis, repeated and merged into it. */
static void repeat_interleave(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *times[PS_MAX_RANK + 1];
    int64_t all = -1;
    if (ps_tb_number(b, "repeats") == NULL) {
        PS_TB_FAIL(b, UNSUPPORTED, "%s: repeats that are a tensor are not supported", b->label);
        return;
    }
    if (!ps_tb_has(b, "dim")) x = ps_tb_reshape_to(b, x, &all, 1);
    int rank = ps_tb_rank(b, x), axis = (int)ps_tb_axis(b, "dim", 0, rank);
    if (rank >= PS_MAX_RANK) PS_TB_FAIL(b, LIMIT, "%s: too many dims", b->label);
    if (b->status != PS_OK) return;
    for (int i = 0; i <= rank; i++)
        times[i] = i == axis + 1 ? ps_tb_size(b, "repeats", 1) : ps_tb_one(b, 1);
    ps_value *wide = PS_OP(b, "Tile", ps_tb_unsqueeze(b, x, axis + 1), ps_tb_concat(b, times, (size_t)rank + 1, 0));
    ps_value *parts[PS_MAX_RANK];
    for (int i = 0; i < rank; i++)
        parts[i] = i == axis ? ps_tb_one(b, -1) : ps_tb_extent(b, x, i);
    out(b, ps_tb_reshape(b, wide, ps_tb_concat(b, parts, (size_t)rank, 0)));
}

/* ---- parts ---- */

static void slice(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t axis = ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x));
    ps_value *start = ps_tb_size(b, "start", 0), *end = ps_tb_size(b, "end", INT64_MAX);
    out(b, PS_OP(b, "Slice", x, start, end, ps_tb_one(b, axis), ps_tb_size(b, "step", 1)));
}

static void narrow(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t axis = ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x)), start = ps_tb_int(b, "start", 0);
    if (start < 0) start += ps_tb_dim(b, x, (int)axis);
    ps_value *from = ps_tb_one(b, start);
    out(b, PS_OP(b, "Slice", x, from, PS_OP(b, "Add", from, ps_tb_size(b, "length", 0)), ps_tb_one(b, axis)));
}

static void select_(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t axis = ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x));
    ps_value *r = PS_OP(b, "Gather", x, ps_tb_squeeze(b, ps_tb_size(b, "index", 0), 0));
    ps_tb_set_int(b, "axis", axis);
    out(b, r);
}

/* Names of the list that is output 0. */
static size_t list_size(ps_tb *b) {
    const char *kind;
    const json_t *list = ps_json_union(json_array_get(b->outputs, 0), &kind);
    return json_is_array(list) ? json_array_size(list) : 0;
}

static ps_value **new_list(ps_tb *b, size_t *ret_n) {
    *ret_n = list_size(b);
    ps_value **list = b->status == PS_OK ? ps_arena_array(&b->arena, *ret_n + 1, sizeof(ps_value *)) : NULL;
    if (!*ret_n) PS_TB_FAIL(b, FORMAT, "%s: its output is no list", b->label);
    if (!list) ps_tb_no_memory(b);
    return list;
}

static void unbind(ps_tb *b) {
    size_t n;
    ps_value *x = ps_tb_self(b), **list = new_list(b, &n);
    int64_t axis = ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x));
    for (size_t i = 0; i < n && b->status == PS_OK; i++) {
        list[i] = PS_OP(b, "Gather", x, ps_tb_scalar(b, PS_DTYPE_I64, (double)i));
        ps_tb_set_int(b, "axis", axis);
    }
    if (b->status == PS_OK) ps_tb_out_list(b, list, n);
}

/* Parts of the sizes that a vector lists. */
static void split_sizes(ps_tb *b, ps_value *x, int64_t axis, ps_value *sizes, ps_value **list, size_t n) {
    ps_value *in[2] = { x, sizes };
    ps_tb_emit_n(b, "Split", in, sizes ? 2 : 1, list, n);
    ps_tb_set_int(b, "axis", axis);
    if (!sizes) ps_tb_set_int(b, "num_outputs", (int64_t)n);
    if (b->status == PS_OK) ps_tb_out_list(b, list, n);
}

static void split_with_sizes(ps_tb *b) {
    size_t n;
    ps_value *x = ps_tb_self(b), **list = new_list(b, &n);
    int64_t axis = ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x));
    if (list)
        split_sizes(b, x, axis, ps_tb_dims(b, ps_tb_has(b, "split_sizes") ? "split_sizes" : "split_size"), list, n);
}

/* n - 1 parts of `size` and the rest; the number of parts is fixed by the export, the axis' extent need not be. */
static void split_every(ps_tb *b, ps_value *x, int64_t axis, int64_t size, ps_value **list, size_t n) {
    for (size_t i = 0; i < n && b->status == PS_OK; i++) {
        int64_t start, end;
        if (__builtin_mul_overflow((int64_t)i, size, &start) || __builtin_add_overflow(start, size, &end)) {
            PS_TB_FAIL(b, LIMIT, "%s: parts of %lld are too large", b->label, (long long)size);
            return;
        }
        list[i] = ps_tb_slice(b, x, axis, start, i + 1 == n ? INT64_MAX : end);
    }
    if (b->status == PS_OK) ps_tb_out_list(b, list, n);
}

static void split(ps_tb *b) {
    if (strcmp(b->overload, "sizes") == 0) {
        split_with_sizes(b);
        return;
    }
    size_t n;
    ps_value *x = ps_tb_self(b), **list = new_list(b, &n);
    int64_t axis = ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x)), size = ps_tb_int(b, "split_size", 0);
    if (size <= 0) PS_TB_FAIL(b, FORMAT, "%s: parts of %lld elements", b->label, (long long)size);
    if (b->status == PS_OK) split_every(b, x, axis, size, list, n);
}

static void chunk(ps_tb *b) {
    size_t n;
    ps_value *x = ps_tb_self(b), **list = new_list(b, &n);
    int64_t axis = ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x)), extent = ps_tb_dim(b, x, (int)axis);
    int64_t chunks = ps_tb_int(b, "chunks", 1);
    if (chunks <= 0) PS_TB_FAIL(b, FORMAT, "%s: into %lld chunks", b->label, (long long)chunks);
    if (b->status != PS_OK) return;
    if (extent > 0)
        split_every(b, x, axis, extent / chunks + (extent % chunks != 0), list, n);
    else
        split_sizes(b, x, axis, NULL, list, n); /* ONNX's rule for num_outputs is the same */
}

/* The first extent % n parts have one element more. */
static void tensor_split(ps_tb *b) {
    size_t n;
    ps_value *x = ps_tb_self(b), **list = new_list(b, &n);
    int64_t sizes[64], cuts[64], axis = ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x)), extent = ps_tb_dim(b, x, (int)axis);
    if (extent < 0 || n > 64)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: the extent must be known, the parts at most 64", b->label);
    size_t given = ps_tb_has(b, "indices") ? ps_tb_ints(b, "indices", cuts, 64) : 0;
    if (b->status != PS_OK) return;
    for (size_t i = 0; i < n; i++) {
        if (given) {
            int64_t from = i ? cuts[i - 1] : 0, to = i < given ? cuts[i] : extent;
            sizes[i] = to > from ? to - from : 0;
        } else {
            sizes[i] = extent / (int64_t)n + ((int64_t)i < extent % (int64_t)n);
        }
    }
    split_sizes(b, x, axis, ps_tb_vector(b, sizes, n), list, n);
}

/* Windows of `size` every `step` along an axis become a new last dim. */
static void unfold(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int rank = ps_tb_rank(b, x), axis = (int)ps_tb_axis(b, "dimension", 0, rank);
    int64_t extent = ps_tb_dim(b, x, axis), size = ps_tb_int(b, "size", 1), step = ps_tb_int(b, "step", 1);
    if (extent < 0 || size < 0 || step < 1 || size > extent || rank >= PS_MAX_RANK)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: windows of %lld every %lld do not fit an extent that is known to be %lld",
                   b->label, (long long)size, (long long)step, (long long)extent);
    if (b->status != PS_OK) return;
    ps_value *starts =
        PS_OP(b, "Range", ps_tb_scalar(b, PS_DTYPE_I64, 0), ps_tb_scalar(b, PS_DTYPE_I64, (double)(extent - size + 1)),
              ps_tb_scalar(b, PS_DTYPE_I64, (double)step));
    ps_value *index = PS_OP(b, "Add", ps_tb_unsqueeze(b, starts, 1), ps_tb_iota(b, ps_tb_one(b, size)));
    ps_value *r = PS_OP(b, "Gather", x, index); /* [.., n, size, ..] */
    ps_tb_set_int(b, "axis", axis);
    int64_t perm[PS_MAX_RANK];
    for (int i = 0, from = 0; i < rank; i++, from++) {
        if (from == axis + 1) from++;
        perm[i] = from;
    }
    perm[rank] = axis + 1;
    out(b, axis == rank - 1 ? r : ps_tb_transpose(b, r, perm, (size_t)rank + 1));
}

static void triangle(ps_tb *b) {
    ps_value *r = PS_OP(b, "Trilu", ps_tb_self(b), ps_tb_scalar(b, PS_DTYPE_I64, (double)ps_tb_int(b, "diagonal", 0)));
    ps_tb_set_int(b, "upper", strcmp(b->op->name, "triu") == 0);
    out(b, r);
}

/* Elements [.., i + max(0, -k), .., i + max(0, k), ..] in a new last dim. */
static void diagonal(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int rank = ps_tb_rank(b, x), first = (int)ps_tb_axis(b, "dim1", 0, rank),
        second = (int)ps_tb_axis(b, "dim2", 1, rank);
    int64_t k = ps_tb_int(b, "offset", 0), rows = ps_tb_dim(b, x, first), columns = ps_tb_dim(b, x, second);
    if (rows < 0 || columns < 0 || first == second || rank < 2)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: both extents must be known", b->label);
    if (b->status != PS_OK) return;
    int64_t perm[PS_MAX_RANK], n = 0;
    for (int i = 0; i < rank; i++) {
        if (i != first && i != second) perm[n++] = i;
    }
    perm[n++] = first;
    perm[n++] = second;
    int64_t row = k < 0 ? -k : 0, column = k > 0 ? k : 0,
            length = rows - row < columns - column ? rows - row : columns - column;
    if (length < 0) length = 0;
    ps_value *flat = ps_tb_transpose(b, x, perm, (size_t)rank);
    flat = replace_dims(b, flat, rank - 2, rank - 1, ps_tb_one(b, rows * columns));
    ps_value *step = ps_tb_scalar(b, PS_DTYPE_I64, (double)(columns + 1));
    ps_value *index = PS_OP(b, "Mul", ps_tb_iota(b, ps_tb_one(b, length)), step);
    index = PS_OP(b, "Add", index, ps_tb_scalar(b, PS_DTYPE_I64, (double)(row * columns + column)));
    ps_value *r = PS_OP(b, "Gather", flat, index);
    ps_tb_set_int(b, "axis", rank - 2);
    out(b, r);
}

static void flip(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t axes[PS_MAX_RANK], starts[PS_MAX_RANK], ends[PS_MAX_RANK], steps[PS_MAX_RANK];
    size_t n = ps_tb_ints(b, "dims", axes, PS_MAX_RANK);
    for (size_t i = 0; i < n; i++) {
        starts[i] = -1;
        ends[i] = INT64_MIN;
        steps[i] = -1;
    }
    if (b->status != PS_OK || !n) {
        out(b, x);
        return;
    }
    out(b, PS_OP(b, "Slice", x, ps_tb_vector(b, starts, n), ps_tb_vector(b, ends, n), ps_tb_vector(b, axes, n),
                 ps_tb_vector(b, steps, n)));
}

static const ps_torch_op ops[] = {
    { "clone", identity, NULL, 0 },
    { "contiguous", identity, NULL, PS_TORCH_VIEW },
    { "detach", identity, NULL, PS_TORCH_VIEW },
    { "detach_", identity, NULL, PS_TORCH_VIEW }, /* changes no element */
    { "detach_copy", identity, NULL, 0 },
    { "alias", identity, NULL, PS_TORCH_VIEW },
    { "alias_copy", identity, NULL, 0 },
    { "lift_fresh", identity, NULL, PS_TORCH_VIEW },
    { "lift_fresh_copy", identity, NULL, 0 },
    { "positive", identity, NULL, PS_TORCH_VIEW },
    { "resolve_conj", identity, NULL, PS_TORCH_VIEW },
    { "resolve_neg", identity, NULL, PS_TORCH_VIEW },
    { "real", identity, NULL, PS_TORCH_VIEW },
    { "requires_grad_", identity, NULL, PS_TORCH_VIEW },
    { "to", identity, NULL, PS_TORCH_VIEW },
    { "type_as", identity, NULL, PS_TORCH_VIEW },
    { "float", identity, NULL, PS_TORCH_VIEW },
    { "_to_copy", identity, NULL, 0 },
    { "_autocast_to_full_precision", identity, NULL, PS_TORCH_VIEW },
    { "copy", copy_into, NULL, 0 },
    { "view", view, NULL, PS_TORCH_VIEW },
    { "reshape", view, NULL, PS_TORCH_VIEW },
    { "_unsafe_view", view, NULL, PS_TORCH_VIEW },
    { "_reshape_alias", view, NULL, PS_TORCH_VIEW },
    { "view_copy", view, NULL, 0 },
    { "view_as", view_as, NULL, PS_TORCH_VIEW },
    { "reshape_as", view_as, NULL, PS_TORCH_VIEW },
    { "flatten", flatten, NULL, PS_TORCH_VIEW },
    { "ravel", ravel, NULL, PS_TORCH_VIEW },
    { "unflatten", unflatten, NULL, PS_TORCH_VIEW },
    { "unsqueeze", unsqueeze, NULL, PS_TORCH_VIEW },
    { "unsqueeze_copy", unsqueeze, NULL, 0 },
    { "squeeze", squeeze, NULL, PS_TORCH_VIEW },
    { "squeeze_copy", squeeze, NULL, 0 },
    { "permute", permute, NULL, PS_TORCH_VIEW },
    { "permute_copy", permute, NULL, 0 },
    { "transpose", transpose, NULL, PS_TORCH_VIEW },
    { "transpose_copy", transpose, NULL, 0 },
    { "swapaxes", transpose, NULL, PS_TORCH_VIEW },
    { "swapdims", transpose, NULL, PS_TORCH_VIEW },
    { "t", matrix_transpose, NULL, PS_TORCH_VIEW },
    { "mT", matrix_transpose, NULL, PS_TORCH_VIEW },
    { "adjoint", matrix_transpose, NULL, PS_TORCH_VIEW },
    { "numpy_T", reverse_dims, NULL, PS_TORCH_VIEW },
    { "movedim", movedim, NULL, PS_TORCH_VIEW },
    { "moveaxis", movedim, NULL, PS_TORCH_VIEW },
    { "expand", expand, NULL, PS_TORCH_VIEW },
    { "expand_copy", expand, NULL, 0 },
    { "broadcast_to", expand, NULL, PS_TORCH_VIEW },
    { "expand_as", expand_as, NULL, PS_TORCH_VIEW },
    { "repeat", repeat, NULL, 0 },
    { "tile", repeat, NULL, 0 },
    { "repeat_interleave", repeat_interleave, NULL, 0 },
    { "slice", slice, NULL, PS_TORCH_VIEW },
    { "slice_copy", slice, NULL, 0 },
    { "narrow", narrow, NULL, PS_TORCH_VIEW },
    { "select", select_, NULL, PS_TORCH_VIEW },
    { "select_copy", select_, NULL, 0 },
    { "unbind", unbind, NULL, PS_TORCH_VIEW },
    { "split", split, NULL, PS_TORCH_VIEW },
    { "split_with_sizes", split_with_sizes, NULL, PS_TORCH_VIEW },
    { "split_with_sizes_copy", split_with_sizes, NULL, 0 },
    { "unsafe_split", split, NULL, PS_TORCH_VIEW },
    { "chunk", chunk, NULL, PS_TORCH_VIEW },
    { "unsafe_chunk", chunk, NULL, PS_TORCH_VIEW },
    { "tensor_split", tensor_split, NULL, PS_TORCH_VIEW },
    { "unfold", unfold, NULL, PS_TORCH_VIEW },
    { "tril", triangle, NULL, 0 },
    { "triu", triangle, NULL, 0 },
    { "diagonal", diagonal, NULL, PS_TORCH_VIEW },
    { "diagonal_copy", diagonal, NULL, 0 },
    { "flip", flip, NULL, 0 },
};

const ps_torch_family ps_torch_view = PS_TORCH_FAMILY("view", ops);
