/* Functions that put tensors together, pad them, write parts of them, and shuffle blocks. */
#include <string.h>

#include "torch/aten.h"

static void out(ps_tb *b, ps_value *v) {
    ps_tb_out(b, 0, v);
}

/* Brings all to one type; drops the empty vectors that torch.cat ignores. */
static size_t promote_all(ps_tb *b, ps_value **list, size_t n, bool drop_empty) {
    size_t kept = 0;
    ps_torch_operand *o = b->status == PS_OK ? ps_arena_array(&b->arena, n + 1, sizeof *o) : NULL;
    if (!o) {
        ps_tb_no_memory(b);
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        o[i] = ps_tb_as_operand(list[i]);
    ps_dtype t = ps_tb_promote(b, o, n);
    for (size_t i = 0; i < n; i++) {
        if (drop_empty && ps_tb_rank(b, list[i]) == 1 && ps_tb_dim(b, list[i], 0) == 0) continue;
        list[kept++] = ps_tb_cast(b, list[i], t);
    }
    return kept;
}

static const char *list_name(ps_tb *b) {
    return ps_tb_has(b, "tensors") ? "tensors" : "arrays";
}

static void cat(ps_tb *b) {
    size_t n;
    ps_value **list = ps_tb_tensors(b, list_name(b), &n);
    ps_value *first = n ? list[0] : NULL;
    n = promote_all(b, list, n, true);
    if (!n) {
        out(b, first);
        return;
    }
    int64_t axis = ps_tb_axis(b, ps_tb_has(b, "axis") ? "axis" : "dim", 0, ps_tb_rank(b, list[0]));
    out(b, n == 1 ? list[0] : ps_tb_concat(b, list, n, axis));
}

static void stack(ps_tb *b) {
    size_t n;
    ps_value **list = ps_tb_tensors(b, list_name(b), &n);
    n = promote_all(b, list, n, false);
    int rank = n ? ps_tb_rank(b, list[0]) : 0;
    int64_t axis = ps_tb_axis(b, "dim", 0, rank + 1);
    for (size_t i = 0; i < n; i++)
        list[i] = ps_tb_unsqueeze(b, list[i], axis);
    if (b->status == PS_OK) out(b, ps_tb_concat(b, list, n, axis));
}

/* hstack, vstack, dstack: at least 1, 2, 3 dims, joined along the second, first, third. */
static void stack_as(ps_tb *b) {
    size_t n;
    int want = b->op->name[0] == 'h' ? 1 : b->op->name[0] == 'v' ? 2 : 3;
    ps_value **list = ps_tb_tensors(b, list_name(b), &n);
    n = promote_all(b, list, n, false);
    for (size_t i = 0; i < n; i++) {
        for (int rank = ps_tb_rank(b, list[i]); rank < want && b->status == PS_OK; rank++)
            list[i] = ps_tb_unsqueeze(b, list[i], rank == 2 ? 2 : 0);
    }
    int rank = n ? ps_tb_rank(b, list[0]) : 0;
    if (b->status == PS_OK) out(b, ps_tb_concat(b, list, n, want == 1 ? (rank > 1) : want == 2 ? 0 : 2));
}

static void roll(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *shape = NULL;
    int64_t shifts[PS_MAX_RANK], axes[PS_MAX_RANK] = { 0 }, all = -1;
    size_t n = ps_tb_ints(b, "shifts", shifts, PS_MAX_RANK), m = ps_tb_ints(b, "dims", axes, PS_MAX_RANK);
    if (!m) {
        shape = ps_tb_shape(b, x);
        x = ps_tb_reshape_to(b, x, &all, 1);
    }
    for (size_t i = 0; i < n && b->status == PS_OK; i++) {
        int64_t extent = ps_tb_dim(b, x, (int)axes[i]), by = shifts[i];
        if (extent == 0) continue;
        if (extent > 0) by %= extent;
        if (by == 0) continue;
        ps_value *halves[2] = { ps_tb_slice(b, x, axes[i], -by, INT64_MAX), ps_tb_slice(b, x, axes[i], 0, -by) };
        x = ps_tb_concat(b, halves, 2, axes[i]);
    }
    out(b, shape ? ps_tb_reshape(b, x, shape) : x);
}

/* Tensor i of n varies along dim i of an n-dimensional grid. */
static void meshgrid(ps_tb *b) {
    size_t n;
    ps_value **list = ps_tb_tensors(b, "tensors", &n), *extents[PS_MAX_RANK];
    bool xy = strcmp(ps_tb_text(b, "indexing", "ij"), "xy") == 0 && n >= 2;
    int64_t dims[PS_MAX_RANK], all = -1;
    if (n == 0 || n > PS_MAX_RANK) PS_TB_FAIL(b, LIMIT, "%s: a grid of %zu tensors", b->label, n);
    for (size_t i = 0; i < n && b->status == PS_OK; i++) {
        size_t at = xy && i < 2 ? 1 - i : i;
        list[i] = ps_tb_reshape_to(b, list[i], &all, 1);
        extents[at] = ps_tb_extent(b, list[i], 0);
        for (size_t d = 0; d < n; d++)
            dims[d] = d == at ? -1 : 1;
        list[i] = ps_tb_reshape_to(b, list[i], dims, n);
    }
    if (b->status != PS_OK) return;
    ps_value *shape = n == 1 ? extents[0] : ps_tb_concat(b, extents, n, 0);
    for (size_t i = 0; i < n; i++)
        list[i] = ps_tb_expand(b, list[i], shape);
    if (b->status == PS_OK) ps_tb_out_list(b, list, n);
}

static void broadcast_tensors(ps_tb *b) {
    size_t n;
    ps_value **list = ps_tb_tensors(b, "tensors", &n), *shape = NULL;
    for (size_t i = 0; i < n; i++) {
        /* The shape of a sum is what all broadcast to; its data is never made once shapes are known. */
        ps_value *zero = ps_tb_expand(b, ps_tb_scalar(b, PS_DTYPE_BOOL, 0), ps_tb_shape(b, list[i]));
        shape = shape ? PS_OP(b, "Or", shape, zero) : zero;
    }
    if (!shape) return;
    shape = ps_tb_shape(b, shape);
    for (size_t i = 0; i < n; i++)
        list[i] = ps_tb_expand(b, list[i], shape);
    if (b->status == PS_OK) ps_tb_out_list(b, list, n);
}

/* Differences of neighbours, n times over, with what is joined before and behind. */
static void diff(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *parts[3];
    size_t n = 0;
    int64_t axis = ps_tb_axis(b, "dim", -1, ps_tb_rank(b, x)), times = ps_tb_int(b, "n", 1);
    if (times < 0 || times > 64) PS_TB_FAIL(b, LIMIT, "%s: %lld times", b->label, (long long)times);
    if (ps_tb_has(b, "prepend")) parts[n++] = ps_tb_tensor(b, "prepend");
    parts[n++] = x;
    if (ps_tb_has(b, "append")) parts[n++] = ps_tb_tensor(b, "append");
    if (n > 1) x = ps_tb_concat(b, parts, promote_all(b, parts, n, false), axis);
    bool flags = ps_tb_dtype(b, x) == PS_DTYPE_BOOL;
    for (int64_t i = 0; i < times && b->status == PS_OK; i++) {
        ps_value *later = ps_tb_slice(b, x, axis, 1, INT64_MAX), *earlier = ps_tb_slice(b, x, axis, 0, -1);
        x = PS_OP(b, flags ? "Xor" : "Sub", later, earlier);
    }
    out(b, x);
}

/* ---- padding ---- */

/* PyTorch lists (before, after) from the last dim on; ONNX all befores, then all afters. */
static ps_value *onnx_pads(ps_tb *b, ps_value *pads, int rank) {
    int64_t n = ps_tb_dim(b, pads, 0), dims = n / 2, order[4 * PS_MAX_RANK], zeros[PS_MAX_RANK] = { 0 };
    if (n < 0 || n % 2 || dims > rank) PS_TB_FAIL(b, FORMAT, "%s: pads of %d dims are wrong", b->label, rank);
    if (b->status != PS_OK) return NULL;
    for (int64_t i = 0; i < dims; i++) {
        order[i] = 2 * (dims - 1 - i);
        order[dims + i] = order[i] + 1;
    }
    ps_value *turned = PS_OP(b, "Gather", pads, ps_tb_vector(b, order, (size_t)n));
    if (dims == rank) return turned;
    ps_value *none = ps_tb_vector(b, zeros, (size_t)(rank - dims));
    ps_value *parts[4] = { none, ps_tb_slice(b, turned, 0, 0, dims), none, ps_tb_slice(b, turned, 0, dims, n) };
    return ps_tb_concat(b, parts, 4, 0);
}

static void pad_with(ps_tb *b, const char *mode, ps_value *value) {
    ps_value *x = ps_tb_self(b);
    ps_value *pads = onnx_pads(b, ps_tb_dims(b, ps_tb_has(b, "pad") ? "pad" : "padding"), ps_tb_rank(b, x));
    ps_value *r = PS_OP(b, "Pad", x, pads, value);
    ps_tb_set_text(b, "mode", mode);
    out(b, r);
}

static void constant_pad(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    pad_with(b, "constant", ps_tb_scalar(b, ps_tb_dtype(b, x), ps_tb_double(b, "value", 0)));
}

static void mirror_pad(ps_tb *b) {
    pad_with(b, b->op->onnx, NULL);
}

static void pad(ps_tb *b) {
    const char *mode = ps_tb_text(b, "mode", "constant");
    if (strcmp(mode, "constant") == 0)
        constant_pad(b);
    else if (strcmp(mode, "reflect") == 0)
        pad_with(b, "reflect", NULL);
    else if (strcmp(mode, "replicate") == 0)
        pad_with(b, "edge", NULL);
    else if (strcmp(mode, "circular") == 0)
        pad_with(b, "wrap", NULL);
    else
        PS_TB_FAIL(b, UNSUPPORTED, "%s: padding mode '%.40s' is not supported", b->label, mode);
}

/* ---- writing a part ---- */

ps_value *ps_torch_write_slice(ps_tb *b, ps_value *x, ps_value *src) {
    int64_t axis = ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x));
    ps_value *start = ps_tb_size(b, "start", 0), *end = ps_tb_size(b, "end", INT64_MAX), *on = ps_tb_one(b, axis);
    if (ps_tb_int(b, "step", 1) == 1) {
        ps_value *parts[3] = { PS_OP(b, "Slice", x, ps_tb_one(b, 0), start, on), src,
                               PS_OP(b, "Slice", x, end, ps_tb_one(b, INT64_MAX), on) };
        return ps_tb_concat(b, parts, 3, axis);
    }
    /* Positions along the axis, cut like the axis itself. */
    ps_value *index = ps_tb_iota(b, ps_tb_extent(b, x, (int)axis));
    index = PS_OP(b, "Slice", index, start, end, ps_tb_one(b, 0), ps_tb_size(b, "step", 1));
    int64_t dims[PS_MAX_RANK];
    int rank = ps_tb_rank(b, x);
    for (int i = 0; i < rank; i++)
        dims[i] = i == axis ? -1 : 1;
    index = ps_tb_expand(b, ps_tb_reshape_to(b, index, dims, (size_t)rank), ps_tb_shape(b, src));
    ps_value *r = PS_OP(b, "ScatterElements", x, index, src);
    ps_tb_set_int(b, "axis", axis);
    return r;
}

ps_value *ps_torch_write_select(ps_tb *b, ps_value *x, ps_value *src) {
    int64_t axis = ps_tb_axis(b, "dim", 0, ps_tb_rank(b, x)), index = ps_tb_int(b, "index", 0);
    ps_value *parts[3] = { ps_tb_slice(b, x, axis, 0, index), ps_tb_unsqueeze(b, src, axis),
                           ps_tb_slice(b, x, axis, index == -1 ? INT64_MAX : index + 1, INT64_MAX) };
    return ps_tb_concat(b, parts, 3, axis);
}

static void slice_scatter(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, ps_torch_write_slice(b, x, ps_tb_cast(b, ps_tb_tensor(b, "src"), ps_tb_dtype(b, x))));
}

static void select_scatter(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    out(b, ps_torch_write_select(b, x, ps_tb_cast(b, ps_tb_tensor(b, "src"), ps_tb_dtype(b, x))));
}

/* Views whose elements are all of x's, in x's order or with two dims exchanged, are turned back. */
ps_value *ps_torch_write_view(ps_tb *b, const char *op, ps_value *x, ps_value *view) {
    static const char *const shapes[] = { "view",    "reshape", "_unsafe_view", "unsqueeze",
                                          "squeeze", "flatten", "unflatten" };
    if (strcmp(op, "slice") == 0) return ps_torch_write_slice(b, x, view);
    if (strcmp(op, "select") == 0) return ps_torch_write_select(b, x, view);
    if (strcmp(op, "t") == 0) return ps_tb_rank(b, x) == 2 ? ps_tb_swap(b, view, 0, 1) : view;
    if (strcmp(op, "transpose") == 0) {
        int rank = ps_tb_rank(b, x);
        return ps_tb_swap(b, view, (int)ps_tb_axis(b, "dim0", 0, rank), (int)ps_tb_axis(b, "dim1", 0, rank));
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (strcmp(op, shapes[i]) == 0) return ps_tb_reshape(b, view, ps_tb_shape(b, x));
    }
    return NULL;
}

/* ---- blocks ---- */

static void pixel_shuffle(ps_tb *b) {
    ps_value *r = PS_OP(b, "DepthToSpace", ps_tb_self(b));
    ps_tb_set_int(b, "blocksize", ps_tb_int(b, "upscale_factor", 1));
    ps_tb_set_text(b, "mode", "CRD");
    out(b, r);
}

/* [N, C, H r, W r] → [N, C r r, H, W]; SpaceToDepth of ONNX orders the channels otherwise. */
static void pixel_unshuffle(ps_tb *b) {
    static const int64_t perm[] = { 0, 1, 3, 5, 2, 4 };
    ps_value *x = ps_tb_self(b);
    int64_t r = ps_tb_int(b, "downscale_factor", 1), c = ps_tb_dim(b, x, 1), h = ps_tb_dim(b, x, 2),
            w = ps_tb_dim(b, x, 3);
    if (ps_tb_rank(b, x) != 4 || r < 1 || c < 0 || h < 0 || w < 0)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: only tensors [N, C, H, W] of known extents are supported", b->label);
    if (b->status != PS_OK) return;
    int64_t split[] = { 0, c, h / r, r, w / r, r }, merged[] = { 0, c * r * r, h / r, w / r };
    out(b, ps_tb_reshape_to(b, ps_tb_transpose(b, ps_tb_reshape_to(b, x, split, 6), perm, 6), merged, 4));
}

/* Channels [g, C / g] → [C / g, g]. */
static void channel_shuffle(ps_tb *b) {
    static const int64_t perm[] = { 0, 2, 1, 3 };
    ps_value *x = ps_tb_self(b), *shape = ps_tb_shape(b, x);
    int64_t groups = ps_tb_int(b, "groups", 1), c = ps_tb_dim(b, x, 1);
    if (groups < 1 || c < 0 || c % groups)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: %lld groups do not divide the channels", b->label, (long long)groups);
    if (b->status != PS_OK) return;
    int64_t split[] = { 0, groups, c / groups, -1 };
    out(b, ps_tb_reshape(b, ps_tb_transpose(b, ps_tb_reshape_to(b, x, split, 4), perm, 4), shape));
}

static const ps_torch_op ops[] = {
    { "cat", cat, NULL, 0 },
    { "concat", cat, NULL, 0 },
    { "concatenate", cat, NULL, 0 },
    { "stack", stack, NULL, 0 },
    { "hstack", stack_as, NULL, 0 },
    { "vstack", stack_as, NULL, 0 },
    { "dstack", stack_as, NULL, 0 },
    { "diff", diff, NULL, 0 },
    { "roll", roll, NULL, 0 },
    { "meshgrid", meshgrid, NULL, PS_TORCH_VIEW },
    { "broadcast_tensors", broadcast_tensors, NULL, PS_TORCH_VIEW },
    { "constant_pad_nd", constant_pad, NULL, 0 },
    { "pad", pad, NULL, 0 },
    { "reflection_pad1d", mirror_pad, "reflect", 0 },
    { "reflection_pad2d", mirror_pad, "reflect", 0 },
    { "reflection_pad3d", mirror_pad, "reflect", 0 },
    { "replication_pad1d", mirror_pad, "edge", 0 },
    { "replication_pad2d", mirror_pad, "edge", 0 },
    { "replication_pad3d", mirror_pad, "edge", 0 },
    { "_pad_circular", mirror_pad, "wrap", 0 },
    { "slice_scatter", slice_scatter, NULL, 0 },
    { "select_scatter", select_scatter, NULL, 0 },
    { "pixel_shuffle", pixel_shuffle, NULL, 0 },
    { "pixel_unshuffle", pixel_unshuffle, NULL, 0 },
    { "channel_shuffle", channel_shuffle, NULL, 0 },
    { "native_channel_shuffle", channel_shuffle, NULL, 0 },
};

const ps_torch_family ps_torch_join = PS_TORCH_FAMILY("join", ops);
