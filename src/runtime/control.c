/* control.c - items with subgraphs: If, Loop, Scan, SequenceMap.
 *
 * Source: the ONNX operator specifications of If, Loop (1 to 25), Scan (8 to 25) and SequenceMap (17). */
#include "ops/params.h"
#include "runtime/runtime_int.h"

/* ---- what they share ---- */

static ps_status need_locals(ps_session *s, ps_item_state *is, size_t n, ps_error *err) {
    if (is->locals) return PS_OK;
    is->locals = ps_alloc_zero(s->alloc, (n + 1) * sizeof *is->locals);
    if (!is->locals) return PS_FAIL_NOMEM(err, "a loop's values");
    is->n_locals = n;
    return PS_OK;
}

void ps_item_release(ps_session *s, ps_item_state *is) {
    for (size_t i = 0; i < is->n_locals; i++)
        ps_slot_clear(&s->pool, &is->locals[i]);
}

/* The captured values stand behind the subgraph's own inputs. */
static void add_captures(const ps_state *st, const ps_body *body, ps_slot **in) {
    for (size_t i = 0; i < body->n_captures; i++)
        in[i] = st->slots[body->captures[i]];
}

static ps_status read_flag(const ps_item *item, const ps_slot *slot, const char *what, bool *ret, ps_error *err) {
    char label[160];
    ps_tensor view;
    ps_slot_view(slot, &view);
    PS_FAIL_IF(slot->dtype != PS_DTYPE_BOOL || ps_tensor_count(&view) != 1, err, SHAPE,
               "%s: the %s must be one bool, it is %s with %zu elements",
               ps_node_label(item->node, label, sizeof label), what, ps_dtype_name(slot->dtype),
               ps_tensor_count(&view));
    *ret = *(const uint8_t *)slot->data != 0;
    return PS_OK;
}

static ps_status run_body(ps_session *s, const ps_item *item, ps_item_state *is, int which, ps_slot **in, ps_slot **out,
                          int depth, ps_error *err) {
    return ps_unit_run(s, item->body[which].unit, &is->children[which], in, out, depth + 1, err);
}

static const ps_value *body_output(const ps_item *item, size_t i) {
    return item->body[0].unit->graph->outputs[i];
}

/* ---- If ---- */

ps_status ps_item_if(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, int depth, ps_error *err) {
    bool condition;
    PS_TRY(read_flag(item, st->slots[item->in[0]], "condition", &condition, err));
    const int which = condition ? 0 : 1;
    ps_slot **in = is->ends, **out = in + item->body[which].n_captures;
    add_captures(st, &item->body[which], in);
    for (uint32_t i = 0; i < item->n_out; i++)
        out[i] = st->slots[item->out[i]];
    return run_body(s, item, is, which, in, out, depth, err);
}

/* ---- values that grow by a slice in each iteration ---- */

static ps_status check_slice(const ps_item *item, size_t k, const ps_slot *slice, const ps_slot *sum, bool first,
                             ps_error *err) {
    char label[160], a[128], b[128];
    PS_FAIL_IF(ps_dtype_is_object(slice->dtype) || ps_dtype_size(slice->dtype) == 0, err, UNSUPPORTED,
               "%s: slices of %s cannot be stacked (output %zu)", ps_node_label(item->node, label, sizeof label),
               ps_dtype_name(slice->dtype), k);
    PS_FAIL_IF(slice->shape.rank + 1 > PS_MAX_RANK, err, LIMIT, "%s: output %zu has rank %d, over %d",
               ps_node_label(item->node, label, sizeof label), k, slice->shape.rank + 1, PS_MAX_RANK);
    PS_FAIL_IF(!first && (slice->dtype != sum->dtype || !ps_shape_equal(&slice->shape, &sum->shape)), err, SHAPE,
               "%s: the slices of output %zu have shapes %s and %s", ps_node_label(item->node, label, sizeof label), k,
               ps_shape_text(&sum->shape, a, sizeof a), ps_shape_text(&slice->shape, b, sizeof b));
    return PS_OK;
}

/* `sum` holds `count` slices and their shape; takes one more. */
static ps_status append_slice(ps_session *s, const ps_item *item, size_t k, ps_slot *sum, const ps_slot *slice,
                              int64_t count, ps_error *err) {
    ps_tensor view;
    ps_slot_view(slice, &view);
    PS_TRY(check_slice(item, k, slice, sum, count == 0, err));
    size_t used = (size_t)count * view.bytes; /* has been allocated, so it fits */
    PS_TRY(ps_pool_grow(&s->pool, &sum->buffer, used, view.bytes, err));
    if (view.bytes) memcpy((char *)sum->buffer.data + used, slice->data, view.bytes);
    sum->dtype = slice->dtype;
    sum->shape = slice->shape;
    return PS_OK;
}

static ps_shape with_dim(const ps_shape *slice, int axis, int64_t count) {
    ps_shape r = { slice->rank + 1, { 0 } };
    for (int d = 0, from = 0; d < r.rank; d++)
        r.dims[d] = d == axis ? count : slice->dims[from++];
    return r;
}

/* What a loop that never ran would have stacked: type and dims as far as they are known, else none. */
static ps_status empty_slice(const ps_item *item, size_t output, ps_dtype *dtype, ps_shape *shape, ps_error *err) {
    char label[160];
    const ps_value *v = body_output(item, output);
    *dtype = v->dtype;
    *shape = v->shape;
    PS_FAIL_IF(v->dtype == PS_DTYPE_UNDEFINED, err, UNSUPPORTED,
               "%s: runs no iteration, and the element type of '%s' is not known without one",
               ps_node_label(item->node, label, sizeof label), v->name);
    if (shape->rank < 0) *shape = ps_shape_make(0, NULL);
    for (int d = 0; d < shape->rank; d++)
        if (shape->dims[d] < 0) shape->dims[d] = 0;
    return PS_OK;
}

/* ---- Loop ---- */

typedef struct loop {
    size_t carried, stacked;
    int64_t trips; /* -1: no count given */
    bool go;
    ps_slot *iteration, *condition, *next_condition;
    ps_slot *set[2]; /* of carried values: written by even and by odd iterations */
    ps_slot *slices, *sums;
} loop;

static ps_status read_trips(const ps_item *item, const ps_slot *slot, int64_t *ret, ps_error *err) {
    char label[160];
    ps_tensor view;
    size_t n = 0;
    int64_t trips;
    *ret = -1;
    if (!slot) return PS_OK;
    ps_slot_view(slot, &view);
    PS_FAIL_IF(ps_tensor_count(&view) != 1 || !ps_tensor_get_ints(&view, &trips, 1, &n), err, SHAPE,
               "%s: the trip count must be one integer", ps_node_label(item->node, label, sizeof label));
    *ret = trips < 0 ? 0 : trips;
    return PS_OK;
}

static ps_status enter_loop(ps_session *s, const ps_state *st, const ps_item *item, ps_item_state *is, loop *l,
                            ps_error *err) {
    static const ps_shape scalar = { 0, { 0 } };
    const ps_slot *condition = item->n_in > 1 ? ps_state_slot(st, item->in[1]) : NULL;
    l->carried = item->n_in > 2 ? item->n_in - 2 : 0;
    l->stacked = item->n_out - l->carried;
    l->go = true;
    PS_TRY(read_trips(item, item->n_in > 0 ? ps_state_slot(st, item->in[0]) : NULL, &l->trips, err));
    if (condition) PS_TRY(read_flag(item, condition, "condition", &l->go, err));
    PS_TRY(need_locals(s, is, 3 + 2 * l->carried + 2 * l->stacked, err));
    l->iteration = is->locals;
    l->condition = is->locals + 1;
    l->next_condition = is->locals + 2;
    l->set[0] = is->locals + 3;
    l->set[1] = l->set[0] + l->carried;
    l->slices = l->set[1] + l->carried;
    l->sums = l->slices + l->stacked;
    PS_TRY(ps_slot_resolve(&s->pool, l->iteration, PS_DTYPE_I64, &scalar, err));
    PS_TRY(ps_slot_resolve(&s->pool, l->condition, PS_DTYPE_BOOL, &scalar, err));
    *(uint8_t *)l->condition->data = l->go;
    return PS_OK;
}

/* Ends of iteration i: what the one before made, or the initial values, comes in. */
static ps_slot **loop_ends(const ps_state *st, const ps_item *item, ps_item_state *is, const loop *l, int64_t i) {
    ps_slot **in = is->ends, **out = in + 2 + l->carried + item->body[0].n_captures;
    in[0] = l->iteration;
    in[1] = l->condition;
    out[0] = l->next_condition;
    for (size_t k = 0; k < l->carried; k++) {
        in[2 + k] = i ? &l->set[(i + 1) % 2][k] : st->slots[item->in[2 + k]];
        out[1 + k] = &l->set[i % 2][k];
    }
    add_captures(st, &item->body[0], in + 2 + l->carried);
    for (size_t k = 0; k < l->stacked; k++)
        out[1 + l->carried + k] = &l->slices[k];
    return out;
}

static ps_status leave_loop(ps_session *s, const ps_state *st, const ps_item *item, loop *l, int64_t count,
                            ps_error *err) {
    for (size_t k = 0; k < l->carried; k++) {
        ps_slot *to = st->slots[item->out[k]];
        if (count)
            PS_TRY(ps_slot_move(&s->pool, to, &l->set[(count + 1) % 2][k], err));
        else
            PS_TRY(ps_slot_copy(&s->pool, to, st->slots[item->in[2 + k]], err));
    }
    for (size_t k = 0; k < l->stacked; k++) {
        ps_slot *sum = &l->sums[k];
        if (!count) PS_TRY(empty_slice(item, 1 + l->carried + k, &sum->dtype, &sum->shape, err));
        if (!count) PS_TRY(ps_pool_grow(&s->pool, &sum->buffer, 0, 0, err));
        sum->shape = with_dim(&sum->shape, 0, count);
        sum->data = sum->buffer.data;
        PS_TRY(ps_slot_move(&s->pool, st->slots[item->out[l->carried + k]], sum, err));
    }
    return PS_OK;
}

ps_status ps_item_loop(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, int depth, ps_error *err) {
    char label[160];
    loop l;
    int64_t i = 0;
    PS_TRY(enter_loop(s, st, item, is, &l, err));
    for (; l.go && (l.trips < 0 || i < l.trips); i++) {
        PS_FAIL_IF(i >= s->model->loop_limit, err, LIMIT, "%s: more than %lld iterations (ps_model_options.loop_limit)",
                   ps_node_label(item->node, label, sizeof label), (long long)s->model->loop_limit);
        ps_slot **out = loop_ends(st, item, is, &l, i);
        PS_TRY(ps_check_stop(s, err));
        *(int64_t *)l.iteration->data = i;
        PS_TRY(run_body(s, item, is, 0, is->ends, out, depth, err));
        for (size_t k = 0; k < l.stacked; k++)
            PS_TRY(append_slice(s, item, l.carried + k, &l.sums[k], &l.slices[k], i, err));
        PS_TRY(read_flag(item, l.next_condition, "body's condition", &l.go, err));
        *(uint8_t *)l.condition->data = l.go;
    }
    PS_TRY(leave_loop(s, st, item, &l, i, err));
    ps_item_release(s, is);
    return PS_OK;
}

/* ---- SequenceMap ---- */

static ps_status map_input(const ps_item *item, ps_slot *whole, ps_slot *local, size_t i, size_t at, size_t n,
                           ps_slot **ret, ps_error *err) {
    char label[160];
    ps_tensor view;
    *ret = whole;
    if (whole->dtype != PS_DTYPE_SEQUENCE) return PS_OK; /* a tensor goes to every element whole */
    ps_slot_view(whole, &view);
    PS_FAIL_IF(ps_tensor_count(&view) != n, err, SHAPE, "%s: input %zu has %zu elements, input 0 has %zu",
               ps_node_label(item->node, label, sizeof label), i, ps_tensor_count(&view), n);
    const ps_tensor *e = ps_tensor_element(&view, at);
    PS_FAIL_IF(!e, err, INVALID, "%s: element %zu of input %zu is missing",
               ps_node_label(item->node, label, sizeof label), at, i);
    ps_slot_borrow(local, e->dtype, &e->shape, e->data);
    *ret = local;
    return PS_OK;
}

static ps_status map_element(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, size_t at, size_t n,
                             ps_tensor **sums, int depth, ps_error *err) {
    ps_slot **in = is->ends, **out = in + item->n_in + item->body[0].n_captures;
    for (uint32_t i = 0; i < item->n_in; i++)
        PS_TRY(map_input(item, st->slots[item->in[i]], &is->locals[i], i, at, n, &in[i], err));
    add_captures(st, &item->body[0], in + item->n_in);
    for (uint32_t i = 0; i < item->n_out; i++)
        out[i] = &is->locals[item->n_in + i];
    PS_TRY(run_body(s, item, is, 0, in, out, depth, err));
    for (uint32_t i = 0; i < item->n_out; i++) {
        ps_tensor view, *e;
        ps_slot_view(out[i], &view);
        if (out[i]->object)
            e = ps_tensor_retain(out[i]->object);
        else
            PS_TRY(ps_tensor_copy(s->alloc, &view, &e, err));
        ps_status status = ps_container_take(sums[i], at, e, err);
        if (status != PS_OK) ps_tensor_release(e);
        if (status != PS_OK) return status;
    }
    return PS_OK;
}

static ps_status map_all(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, ps_tensor **sums,
                         int depth, ps_error *err) {
    ps_tensor view;
    ps_slot_view(st->slots[item->in[0]], &view);
    size_t n = ps_tensor_count(&view);
    PS_TRY(need_locals(s, is, (size_t)item->n_in + item->n_out, err));
    for (uint32_t i = 0; i < item->n_out; i++)
        PS_TRY(ps_container_new(s->alloc, PS_DTYPE_SEQUENCE, n, &sums[i], err));
    for (size_t at = 0; at < n; at++) {
        PS_TRY(ps_check_stop(s, err));
        PS_TRY(map_element(s, st, item, is, at, n, sums, depth, err));
    }
    ps_item_release(s, is);
    return PS_OK;
}

ps_status ps_item_sequence_map(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, int depth,
                               ps_error *err) {
    char label[160];
    PS_FAIL_IF(st->slots[item->in[0]]->dtype != PS_DTYPE_SEQUENCE, err, TYPE, "%s: input 0 is %s, not a sequence",
               ps_node_label(item->node, label, sizeof label), ps_dtype_name(st->slots[item->in[0]]->dtype));
    ps_tensor **sums = ps_alloc_zero(s->alloc, ((size_t)item->n_out + 1) * sizeof *sums);
    if (!sums) return PS_FAIL_NOMEM(err, "a sequence");
    ps_status status = map_all(s, st, item, is, sums, depth, err);
    for (uint32_t i = 0; i < item->n_out; i++) {
        if (status == PS_OK)
            status = ps_slot_take(&s->pool, st->slots[item->out[i]], sums[i], err);
        else
            ps_tensor_release(sums[i]);
    }
    ps_free(s->alloc, sums);
    return status;
}
