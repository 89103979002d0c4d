/* scan.c - Scan: a body over slices of its inputs, all of one extent along their scan axes.
 *
 * Source: the ONNX operator specification of Scan, versions 8 (with a batch dim and lengths) and 9 to 25. */
#include "ops/params.h"
#include "runtime/runtime_int.h"

/* One scan input or output: `outer` blocks of `extent` slices of `inner` bytes. */
typedef struct scan_axis {
    int axis;
    bool backwards;
    size_t outer, inner;
    ps_shape slice;
} scan_axis;

typedef struct scan {
    ps_session *s;
    ps_state *st;
    const ps_item *item;
    ps_item_state *is;
    const ps_scan_params *params;
    size_t states, in, out;    /* states, scan inputs, scan outputs */
    int64_t extent;            /* slices of every input */
    ps_slot **from;            /* initial states, then scan inputs */
    ps_slot **to;              /* final states, then scan outputs */
    ps_slot *slices, *results; /* one a scan input, one a scan output */
    ps_slot *set[2];           /* states, written by even and by odd iterations */
    ps_slot *items;            /* version 8: one batch item of `from`, then of `to` */
    int depth;
    ps_error *err;
} scan;

static const char *label_of(const scan *c, char *buf, size_t size) {
    return ps_node_label(c->item->node, buf, size);
}
#define LABEL(c) label_of((c), (char[160]) { 0 }, 160)

static int64_t entry(const ps_ints *list, size_t i) {
    return i < list->n ? list->data[i] : 0;
}

/* Blocks and slices of `shape` cut along `axis`. */
static ps_status cut(const scan *c, ps_dtype dtype, const ps_shape *shape, int64_t axis, bool backwards,
                     scan_axis *ret) {
    size_t size = ps_dtype_size(dtype);
    PS_FAIL_IF(size == 0 || ps_dtype_is_container(dtype), c->err, UNSUPPORTED, "%s: cannot scan over a tensor of %s",
               LABEL(c), ps_dtype_name(dtype));
    PS_FAIL_IF(!ps_axis_normalize(axis, shape->rank, &ret->axis), c->err, SHAPE, "%s: axis %lld is outside [-%d, %d)",
               LABEL(c), (long long)axis, shape->rank, shape->rank);
    ret->backwards = backwards;
    ret->outer = (size_t)ps_shape_product(shape, 0, ret->axis);
    ret->inner = (size_t)ps_shape_product(shape, ret->axis + 1, shape->rank) * size;
    ret->slice = (ps_shape) { shape->rank - 1, { 0 } };
    for (int d = 0, to = 0; d < shape->rank; d++)
        if (d != ret->axis) ret->slice.dims[to++] = shape->dims[d];
    return PS_OK;
}

static size_t index_of(const scan_axis *a, int64_t i, int64_t extent) {
    return (size_t)(a->backwards ? extent - 1 - i : i);
}

/* Slice i of a whole: its own memory where slices are contiguous, else a copy. */
static ps_status take_slice(const scan *c, const scan_axis *a, const ps_slot *whole, int64_t i, ps_slot *slice) {
    size_t at = index_of(a, i, c->extent), row = (size_t)c->extent * a->inner;
    const char *from = (const char *)whole->data + at * a->inner;
    if (a->outer == 1) {
        ps_slot_borrow(slice, whole->dtype, &a->slice, (void *)(uintptr_t)from);
        return PS_OK;
    }
    PS_TRY(ps_pool_fit(&c->s->pool, &slice->buffer, a->outer * a->inner, c->err));
    for (size_t o = 0; o < a->outer; o++)
        memcpy((char *)slice->buffer.data + o * a->inner, from + o * row, a->inner);
    ps_slot_borrow(slice, whole->dtype, &a->slice, slice->buffer.data);
    return PS_OK;
}

/* Puts result i into the whole, which the first one makes. */
static ps_status put_slice(const scan *c, size_t k, const ps_slot *slice, int64_t i, ps_slot *whole) {
    const ps_scan_params *p = c->params;
    int64_t axis = entry(&p->scan_output_axes, k);
    ps_shape shape = { slice->shape.rank + 1, { 0 } };
    scan_axis a;
    int at;
    PS_FAIL_IF(shape.rank > PS_MAX_RANK || ps_dtype_is_object(slice->dtype), c->err, UNSUPPORTED,
               "%s: results of rank %d and type %s cannot be stacked", LABEL(c), slice->shape.rank,
               ps_dtype_name(slice->dtype));
    PS_FAIL_IF(!ps_axis_normalize(axis, shape.rank, &at), c->err, SHAPE, "%s: output axis %lld is outside [-%d, %d)",
               LABEL(c), (long long)axis, shape.rank, shape.rank);
    for (int d = 0, from = 0; d < shape.rank; d++)
        shape.dims[d] = d == at ? c->extent : slice->shape.dims[from++];
    if (i == 0)
        PS_TRY(ps_slot_resolve(&c->s->pool, whole, slice->dtype, &shape, c->err));
    PS_FAIL_IF(whole->dtype != slice->dtype || !ps_shape_equal(&whole->shape, &shape), c->err, SHAPE,
               "%s: the slices of output %zu differ in type or shape", LABEL(c), c->states + k);
    PS_TRY(cut(c, slice->dtype, &shape, at, entry(&p->scan_output_directions, k) != 0, &a));
    char *to = (char *)whole->data + index_of(&a, i, c->extent) * a.inner;
    for (size_t o = 0; o < a.outer && a.inner; o++)
        memcpy(to + o * (size_t)c->extent * a.inner, (const char *)slice->data + o * a.inner, a.inner);
    return PS_OK;
}

/* ---- one pass over all slices ---- */

static ps_slot *scan_input(const scan *c, size_t k) {
    return c->from[c->states + k];
}

static ps_status find_extent(scan *c) {
    for (size_t k = 0; k < c->in; k++) {
        const ps_slot *v = scan_input(c, k);
        int axis;
        int64_t wanted = entry(&c->params->scan_input_axes, k);
        PS_FAIL_IF(!ps_axis_normalize(wanted, v->shape.rank, &axis), c->err, SHAPE,
                   "%s: axis %lld of scan input %zu is outside [-%d, %d)", LABEL(c), (long long)wanted, k,
                   v->shape.rank, v->shape.rank);
        int64_t extent = v->shape.dims[axis];
        PS_FAIL_IF(k && extent != c->extent, c->err, SHAPE, "%s: scan input %zu has %lld slices, the ones before %lld",
                   LABEL(c), k, (long long)extent, (long long)c->extent);
        c->extent = extent;
    }
    return PS_OK;
}

static ps_status iterate(scan *c, int64_t i) {
    const ps_body *body = &c->item->body[0];
    ps_slot **in = c->is->ends, **out = in + c->states + c->in + body->n_captures;
    for (size_t k = 0; k < c->states; k++) {
        in[k] = i ? &c->set[(i + 1) % 2][k] : c->from[k];
        out[k] = &c->set[i % 2][k];
    }
    for (size_t k = 0; k < c->in; k++) {
        const ps_slot *whole = scan_input(c, k);
        scan_axis a;
        PS_TRY(cut(c, whole->dtype, &whole->shape, entry(&c->params->scan_input_axes, k),
                   entry(&c->params->scan_input_directions, k) != 0, &a));
        PS_TRY(take_slice(c, &a, whole, i, &c->slices[k]));
        in[c->states + k] = &c->slices[k];
    }
    for (size_t k = 0; k < body->n_captures; k++)
        in[c->states + c->in + k] = c->st->slots[body->captures[k]];
    for (size_t k = 0; k < c->out; k++)
        out[c->states + k] = &c->results[k];
    PS_TRY(ps_check_stop(c->s, c->err));
    PS_TRY(ps_unit_run(c->s, body->unit, &c->is->children[0], in, out, c->depth + 1, c->err));
    for (size_t k = 0; k < c->out; k++)
        PS_TRY(put_slice(c, k, &c->results[k], i, c->to[c->states + k]));
    return PS_OK;
}

/* Outputs of a scan over nothing: the dims that are known, 0 for the others. */
static ps_status empty_outputs(const scan *c) {
    for (size_t k = 0; k < c->out; k++) {
        const ps_value *v = c->item->body[0].unit->graph->outputs[c->states + k];
        ps_shape shape = { v->shape.rank < 0 ? 1 : v->shape.rank + 1, { 0 } };
        int at = 0;
        PS_FAIL_IF(v->dtype == PS_DTYPE_UNDEFINED || shape.rank > PS_MAX_RANK, c->err, UNSUPPORTED,
                   "%s: runs no iteration, and the type of '%s' is not known without one", LABEL(c), v->name);
        ps_axis_normalize(entry(&c->params->scan_output_axes, k), shape.rank, &at);
        for (int d = 0, from = 0; d < shape.rank; d++) {
            if (d == at) continue;
            shape.dims[d] = v->shape.dims[from] > 0 ? v->shape.dims[from] : 0;
            from++;
        }
        PS_TRY(ps_slot_resolve(&c->s->pool, c->to[c->states + k], v->dtype, &shape, c->err));
    }
    return PS_OK;
}

static ps_status run_once(scan *c) {
    for (int64_t i = 0; i < c->extent; i++)
        PS_TRY(iterate(c, i));
    for (size_t k = 0; k < c->states; k++) {
        if (c->extent)
            PS_TRY(ps_slot_move(&c->s->pool, c->to[k], &c->set[(c->extent + 1) % 2][k], c->err));
        else
            PS_TRY(ps_slot_copy(&c->s->pool, c->to[k], c->from[k], c->err));
    }
    return c->extent ? PS_OK : empty_outputs(c);
}

/* ---- version 8: every end has a batch dim in front, and each batch item a length ---- */

static ps_status batch_of(const scan *c, int64_t *ret) {
    for (size_t k = 0; k < c->states + c->in; k++) {
        const ps_slot *v = c->st->slots[c->item->in[1 + k]];
        int least = k < c->states ? 1 : 2;
        PS_FAIL_IF(v->shape.rank < least || ps_dtype_is_object(v->dtype) || !ps_dtype_size(v->dtype), c->err, SHAPE,
                   "%s: input %zu of type %s has rank %d, at least %d is needed", LABEL(c), 1 + k,
                   ps_dtype_name(v->dtype), v->shape.rank, least);
        PS_FAIL_IF(k && v->shape.dims[0] != *ret, c->err, SHAPE, "%s: input %zu has batch %lld, those before %lld",
                   LABEL(c), 1 + k, (long long)v->shape.dims[0], (long long)*ret);
        *ret = v->shape.dims[0];
    }
    return PS_OK;
}

static ps_status length_of(const scan *c, int64_t b, int64_t batch, int64_t longest, int64_t *ret) {
    const ps_slot *lengths = ps_state_slot(c->st, c->item->in[0]);
    ps_tensor view;
    *ret = longest;
    if (!lengths) return PS_OK;
    ps_slot_view(lengths, &view);
    PS_FAIL_IF(lengths->dtype != PS_DTYPE_I64 || (int64_t)ps_tensor_count(&view) != batch, c->err, SHAPE,
               "%s: sequence_lens must be %lld i64 numbers", LABEL(c), (long long)batch);
    *ret = ((const int64_t *)lengths->data)[b];
    PS_FAIL_IF(*ret < 0 || *ret > longest, c->err, INVALID, "%s: sequence length %lld is outside 0 … %lld", LABEL(c),
               (long long)*ret, (long long)longest);
    return PS_OK;
}

static size_t item_bytes(const ps_slot *v) {
    return (size_t)ps_shape_product(&v->shape, 1, v->shape.rank) * ps_dtype_size(v->dtype);
}

static void borrow_item(const ps_slot *whole, int64_t b, int64_t length, bool sequence, ps_slot *item) {
    ps_shape shape = { whole->shape.rank - 1, { 0 } };
    for (int d = 0; d < shape.rank; d++)
        shape.dims[d] = whole->shape.dims[d + 1];
    if (sequence) shape.dims[0] = length; /* of a scan input: its first slices */
    ps_slot_borrow(item, whole->dtype, &shape, (char *)whole->data + (size_t)b * item_bytes(whole));
}

static ps_shape with_batch(const ps_shape *item, int64_t batch, int64_t longest) {
    ps_shape r = { item->rank + 1, { batch } };
    for (int d = 0; d < item->rank && d + 1 < PS_MAX_RANK; d++)
        r.dims[d + 1] = d == 0 && longest >= 0 ? longest : item->dims[d];
    return r;
}

/* Item b of an output [batch, …] or [batch, longest, …]; what is beyond an item's length is 0. */
static ps_status put_item(const scan *c, size_t k, const ps_slot *item, int64_t b, int64_t batch, int64_t longest) {
    ps_slot *whole = c->st->slots[c->item->out[k]];
    ps_shape shape = with_batch(&item->shape, batch, k < c->states ? -1 : longest);
    ps_tensor view;
    PS_FAIL_IF(shape.rank > PS_MAX_RANK || ps_dtype_is_object(item->dtype), c->err, UNSUPPORTED,
               "%s: output %zu has rank %d and type %s", LABEL(c), k, shape.rank, ps_dtype_name(item->dtype));
    if (b == 0) {
        PS_TRY(ps_slot_resolve(&c->s->pool, whole, item->dtype, &shape, c->err));
        ps_slot_view(whole, &view);
        if (view.bytes) memset(view.data, 0, view.bytes);
    }
    PS_FAIL_IF(whole->dtype != item->dtype || !ps_shape_equal(&whole->shape, &shape), c->err, SHAPE,
               "%s: the batch items of output %zu differ in type or shape", LABEL(c), k);
    ps_slot_view(item, &view);
    if (view.bytes) memcpy((char *)whole->data + (size_t)b * item_bytes(whole), item->data, view.bytes);
    return PS_OK;
}

static ps_status run_batch(scan *c) {
    int64_t batch = 0, longest;
    size_t ends = c->states + c->in;
    PS_TRY(batch_of(c, &batch));
    longest = c->st->slots[c->item->in[1 + c->states]]->shape.dims[1];
    PS_FAIL_IF(batch == 0, c->err, UNSUPPORTED, "%s: Scan of version 8 needs a batch of at least 1", LABEL(c));
    for (size_t k = 0; k < ends; k++)
        c->from[k] = &c->items[k];
    for (size_t k = 0; k < c->states + c->out; k++)
        c->to[k] = &c->items[ends + k];
    for (int64_t b = 0; b < batch; b++) {
        int64_t length;
        PS_TRY(length_of(c, b, batch, longest, &length));
        for (size_t k = 0; k < ends; k++)
            borrow_item(c->st->slots[c->item->in[1 + k]], b, length, k >= c->states, c->from[k]);
        PS_TRY(find_extent(c));
        PS_TRY(run_once(c));
        for (size_t k = 0; k < c->states + c->out; k++)
            PS_TRY(put_item(c, k, c->to[k], b, batch, longest));
    }
    return PS_OK;
}

/* ---- the item ---- */

static ps_status prepare(scan *c) {
    size_t from = c->states + c->in, to = c->states + c->out, n = 2 * c->states + c->in + c->out + from + to;
    if (!c->is->locals) {
        c->is->locals = ps_alloc_zero(c->s->alloc, (n + 1) * sizeof *c->is->locals);
        if (!c->is->locals) return PS_FAIL_NOMEM(c->err, "a scan's values");
        c->is->n_locals = n;
    }
    if (!c->is->scan_ends) {
        c->is->scan_ends = ps_alloc_zero(c->s->alloc, (from + to + 1) * sizeof(ps_slot *));
        if (!c->is->scan_ends) return PS_FAIL_NOMEM(c->err, "a scan's values");
    }
    c->from = c->is->scan_ends;
    c->to = c->from + from;
    c->set[0] = c->is->locals;
    c->set[1] = c->set[0] + c->states;
    c->slices = c->set[1] + c->states;
    c->results = c->slices + c->in;
    c->items = c->results + c->out;
    return PS_OK;
}

ps_status ps_item_scan(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, int depth, ps_error *err) {
    scan c = { .s = s, .st = st, .item = item, .is = is, .params = item->node->params, .depth = depth, .err = err };
    const bool batched = item->node->op->since < 9; /* its first input is sequence_lens */
    c.in = (size_t)c.params->num_scan_inputs;       /* the shape rule has compared it with the inputs */
    c.states = item->n_in - c.in - batched;
    c.out = item->n_out - c.states;
    PS_TRY(prepare(&c));
    if (batched) {
        PS_TRY(run_batch(&c));
        ps_item_release(s, is);
        return PS_OK;
    }
    for (size_t k = 0; k < c.states + c.in; k++)
        c.from[k] = st->slots[item->in[k]];
    for (size_t k = 0; k < c.states + c.out; k++)
        c.to[k] = st->slots[item->out[k]];
    PS_TRY(find_extent(&c));
    PS_TRY(run_once(&c));
    ps_item_release(s, is);
    return PS_OK;
}
