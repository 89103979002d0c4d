/* program.c - a unit for one set of input shapes: passes, then the graph in items.
 *
 * Nodes get levels: one more than the level of a dynamic node that they depend on, however indirectly. The static nodes
 * of level 0 are one plan. Those of a later level are a unit: what they need is there once the dynamic nodes of the
 * level before have run, and a program of that unit is found by the shapes that came out. So a graph with any number of
 * dynamic nodes has as many items as its longest chain of them, and each part is compiled for its own inputs only. */
#include "ops/params.h"
#include "runtime/runtime_int.h"

#define NO_LEVEL UINT32_MAX

typedef PS_VEC(ps_value *) value_list;

typedef struct builder {
    ps_program *p;
    ps_graph *g; /* optimised, shapes as fixed as they get */
    ps_alloc_state *alloc;
    uint32_t *level;  /* by node id; NO_LEVEL: a node of a subgraph, or folded away */
    uint8_t *dynamic; /* by node id */
    uint8_t *known;   /* by value id: follows from shapes alone */
    uint32_t *slot;   /* by value id: PS_NONE if it needs none */
    uint8_t *seen;    /* by value id, scratch */
    uint32_t n_levels;
    size_t n_dynamic;
    PS_VEC(ps_item) items;
    PS_VEC(ps_constant_slot) constants;
    ps_error *err;
} builder;

/* ---- which nodes are dynamic ---- */

static bool touches_objects(const ps_node *n) {
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] && ps_dtype_is_object(n->in[i]->dtype)) return true;
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] && ps_dtype_is_object(n->out[i]->dtype)) return true;
    }
    return false;
}

static bool outputs_fixed(const ps_node *n) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        const ps_value *v = n->out[i];
        if (v && !v->constant && (!ps_shape_fixed(&v->shape) || v->dtype == PS_DTYPE_UNDEFINED)) return false;
    }
    return true;
}

static bool is_known(const builder *b, const ps_value *v) {
    return !v || v->constant || b->known[v->id];
}

/* Does the content of every output follow from shapes? */
static bool follows_from_shapes(const builder *b, const ps_node *n) {
    if (n->op->traits & (PS_OP_RANDOM | PS_OP_CONTROL)) return false;
    for (uint32_t i = n->op->traits & PS_OP_SHAPE_ONLY ? 1 : 0; i < n->n_in; i++) {
        if (!is_known(b, n->in[i])) return false;
    }
    return true;
}

static bool is_dynamic(const builder *b, const ps_node *n, uint32_t level) {
    if ((n->op->traits & (PS_OP_CONTROL | PS_OP_DATA_SHAPE)) || touches_objects(n)) return true;
    if (level == 0) return !outputs_fixed(n);
    uint32_t mask = ps_shape_inputs(n);
    for (uint32_t i = 0; i < n->n_in && i < 32; i++) {
        if ((mask >> i & 1) && !is_known(b, n->in[i])) return true;
    }
    return false;
}

static void raise_level(const builder *b, const ps_value *v, uint32_t *level) {
    if (!v || v->constant || !v->producer || b->level[v->producer->id] == NO_LEVEL) return;
    uint32_t from = b->level[v->producer->id] + b->dynamic[v->producer->id];
    if (from > *level) *level = from;
}

static ps_status classify_node(builder *b, const ps_node *n) {
    uint32_t level = 0;
    ps_value **captured = NULL;
    size_t count = 0;
    if (ps_node_has_subgraph(n)) PS_TRY(ps_node_captures(n, &captured, &count, b->err));
    for (uint32_t i = 0; i < n->n_in; i++)
        raise_level(b, n->in[i], &level);
    for (size_t i = 0; i < count; i++)
        raise_level(b, captured[i], &level);
    bool dynamic = is_dynamic(b, n, level);
    b->level[n->id] = level;
    b->dynamic[n->id] = dynamic;
    b->n_dynamic += dynamic;
    if (level + 1 > b->n_levels) b->n_levels = level + 1;
    if (dynamic || !follows_from_shapes(b, n)) return PS_OK;
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i]) b->known[n->out[i]->id] = 1;
    }
    return PS_OK;
}

static ps_status classify(builder *b) {
    for (uint32_t i = 0; i < b->g->n_node_ids; i++)
        b->level[i] = NO_LEVEL;
    for (const ps_node *n = b->g->first; n; n = n->next) {
        if (!ps_node_is_folded(n)) PS_TRY(classify_node(b, n));
    }
    return PS_OK;
}

/* ---- slots ---- */

static uint32_t new_slot(builder *b) {
    return b->p->n_slots++;
}

/* The slot of a value, made when first asked for; of a constant, one that is filled for good. */
static ps_status slot_of(builder *b, const ps_value *v, uint32_t *ret) {
    if (b->slot[v->id] == PS_NONE) {
        b->slot[v->id] = new_slot(b);
        ps_constant_slot c = { b->slot[v->id], v->constant };
        if (v->constant) PS_TRY(ps_weights_keep(v->constant, b->err));
        if (v->constant && !ps_vec_push(b->alloc, &b->constants, c)) return PS_FAIL_NOMEM(b->err, "a program");
    }
    *ret = b->slot[v->id];
    return PS_OK;
}

static uint32_t *new_list(builder *b, size_t n) {
    return ps_arena_array(&b->p->arena, n + 1, sizeof(uint32_t));
}

static ps_status slots_of(builder *b, ps_value *const *values, size_t n, uint32_t **ret) {
    uint32_t *list = new_list(b, n);
    if (!list) return PS_FAIL_NOMEM(b->err, "a program");
    for (size_t i = 0; i < n; i++) {
        list[i] = PS_NONE;
        if (values[i]) PS_TRY(slot_of(b, values[i], &list[i]));
    }
    *ret = list;
    return PS_OK;
}

/* Inputs first; then the outputs that some item can write straight to where the caller wants them. */
static ps_status claim_ends(builder *b, uint32_t *late) {
    ps_program *p = b->p;
    p->n_outputs = b->g->n_outputs;
    p->outputs = new_list(b, p->n_outputs);
    if (!p->outputs) return PS_FAIL_NOMEM(b->err, "a program");
    for (uint32_t i = 0; i < b->g->n_ids; i++)
        b->slot[i] = PS_NONE;
    for (size_t i = 0; i < b->g->n_inputs; i++)
        b->slot[b->g->inputs[i]->id] = new_slot(b);
    for (size_t i = 0; i < p->n_outputs; i++) {
        const ps_value *v = b->g->outputs[i];
        p->outputs[i] = new_slot(b);
        late[i] = v->constant || b->slot[v->id] != PS_NONE; /* an input, a constant, or named twice */
        if (!late[i]) b->slot[v->id] = p->outputs[i];
    }
    return PS_OK;
}

/* ---- items ---- */

static ps_status push_item(builder *b, const ps_item *item) {
    if (!ps_vec_push(b->alloc, &b->items, *item)) return PS_FAIL_NOMEM(b->err, "a program");
    return PS_OK;
}

static ps_status new_unit(builder *b, ps_graph *g, ps_unit **ret) {
    ps_unit *u = PS_ARENA_NEW(&b->p->arena, ps_unit);
    if (!u) {
        ps_graph_free(g);
        return PS_FAIL_NOMEM(b->err, "a program");
    }
    *u = (ps_unit) { .model = b->p->unit->model, .owner = b->p, .graph = g };
    *ret = u;
    return PS_OK;
}

/* Is one of the value's readers outside of the static nodes of its level? */
static bool leaves(const builder *b, const ps_value *v, uint32_t level) {
    if (v->n_outputs) return true;
    for (uint32_t i = 0; i < v->n_uses; i++) {
        const ps_node *n = v->uses[i].node;
        while (n->graph != b->g)
            n = n->graph->parent;
        if (b->dynamic[n->id] || b->level[n->id] != level) return true;
    }
    return false;
}

typedef struct segment {
    PS_VEC(ps_node *) nodes;
    value_list in, out;
} segment;

static bool inside(const builder *b, const ps_value *v, uint32_t level) {
    return v->producer && b->level[v->producer->id] == level && !b->dynamic[v->producer->id];
}

static ps_status collect(builder *b, segment *s, uint32_t level) {
    memset(b->seen, 0, b->g->n_ids);
    for (ps_node *n = b->g->first; n; n = n->next) {
        if (b->level[n->id] != level || b->dynamic[n->id]) continue;
        if (!ps_vec_push(b->alloc, &s->nodes, n)) return PS_FAIL_NOMEM(b->err, "a program");
        for (uint32_t i = 0; i < n->n_in; i++) {
            ps_value *v = n->in[i];
            if (!v || v->constant || b->seen[v->id] || inside(b, v, level)) continue;
            b->seen[v->id] = 1;
            if (!ps_vec_push(b->alloc, &s->in, v)) return PS_FAIL_NOMEM(b->err, "a program");
        }
        for (uint32_t i = 0; i < n->n_out; i++) {
            ps_value *v = n->out[i];
            if (!v || v->constant || !leaves(b, v, level)) continue;
            if (!ps_vec_push(b->alloc, &s->out, v)) return PS_FAIL_NOMEM(b->err, "a program");
        }
    }
    return PS_OK;
}

static ps_status segment_unit(builder *b, const segment *s, ps_graph *g, ps_item *item) {
    item->kind = PS_ITEM_UNIT;
    PS_TRY(new_unit(b, g, &item->unit));
    item->unit->by_value = ps_arena_array(&b->p->arena, s->in.size + 1, 1);
    if (!item->unit->by_value) return PS_FAIL_NOMEM(b->err, "a program");
    for (size_t i = 0; i < s->in.size; i++)
        item->unit->by_value[i] = b->known[s->in.data[i]->id];
    return PS_OK;
}

static ps_status add_segment(builder *b, const segment *s, uint32_t level) {
    ps_item item = { .n_in = (uint32_t)s->in.size, .n_out = (uint32_t)s->out.size };
    ps_graph *g;
    PS_TRY(slots_of(b, s->in.data, s->in.size, &item.in));
    PS_TRY(slots_of(b, s->out.data, s->out.size, &item.out));
    PS_TRY(ps_graph_extract(b->g, s->nodes.data, s->nodes.size, s->in.data, s->in.size, s->out.data, s->out.size, &g,
                            b->err));
    if (level) {
        PS_TRY(segment_unit(b, s, g, &item));
    } else {
        item.kind = PS_ITEM_PLAN;
        PS_TRY(ps_plan_compile(b->p->unit->model, g, b->p->threads, SIZE_MAX, &item.plan, b->err));
    }
    ps_status status = push_item(b, &item);
    if (status != PS_OK) {
        ps_plan_free(item.plan);
        if (item.unit) ps_graph_free(item.unit->graph);
    }
    return status;
}

static ps_status make_segment(builder *b, uint32_t level) {
    segment s = { { 0 }, { 0 }, { 0 } };
    ps_status status = collect(b, &s, level);
    if (status == PS_OK && s.out.size) status = add_segment(b, &s, level);
    ps_vec_release(b->alloc, &s.nodes);
    ps_vec_release(b->alloc, &s.in);
    ps_vec_release(b->alloc, &s.out);
    return status;
}

/* ---- control flow ---- */

static ps_status only_captures(builder *b, const ps_node *n, ps_graph *sub, ps_value ***ret, size_t *ret_n) {
    ps_node probe = *n;
    ps_attr only = { "body", PS_ATTR_GRAPH, 0, { .graph = sub } };
    size_t kept = 0;
    probe.attrs = &only;
    probe.n_attrs = 1;
    PS_TRY(ps_node_captures(&probe, ret, ret_n, b->err));
    for (size_t i = 0; i < *ret_n; i++) {
        if (!(*ret)[i]->constant) (*ret)[kept++] = (*ret)[i]; /* constants are shared by the extraction */
    }
    *ret_n = kept;
    return PS_OK;
}

static ps_status extract_body(builder *b, const ps_graph *sub, ps_value **captured, size_t count, ps_graph **ret) {
    size_t n_nodes = 0;
    ps_arena *arena = &b->p->arena;
    ps_node **nodes = ps_arena_array(arena, sub->n_nodes + 1, sizeof *nodes);
    ps_value **inputs = ps_arena_array(arena, sub->n_inputs + count + 1, sizeof *inputs);
    if (!nodes || !inputs) return PS_FAIL_NOMEM(b->err, "a program");
    for (ps_node *n = sub->first; n; n = n->next)
        nodes[n_nodes++] = n;
    for (size_t i = 0; i < sub->n_inputs; i++)
        inputs[i] = sub->inputs[i];
    for (size_t i = 0; i < count; i++)
        inputs[sub->n_inputs + i] = captured[i];
    return ps_graph_extract(sub, nodes, n_nodes, inputs, sub->n_inputs + count, sub->outputs, sub->n_outputs, ret,
                            b->err);
}

static ps_status make_body(builder *b, const ps_node *n, ps_graph *sub, ps_body *ret) {
    ps_value **captured;
    ps_graph *g;
    PS_TRY(only_captures(b, n, sub, &captured, &ret->n_captures));
    PS_TRY(slots_of(b, captured, ret->n_captures, &ret->captures));
    PS_TRY(extract_body(b, sub, captured, ret->n_captures, &g));
    return new_unit(b, g, &ret->unit);
}

/* The subgraphs of a control-flow node in the order of ps_item.body. */
static ps_status control_kind(builder *b, const ps_node *n, ps_item_kind *ret, ps_graph *subs[2]) {
    char label[160];
    subs[1] = NULL;
    if (strcmp(n->op_type, "If") == 0) {
        const ps_if_params *p = n->params;
        *ret = PS_ITEM_IF;
        subs[0] = p->then_branch;
        subs[1] = p->else_branch;
    } else if (strcmp(n->op_type, "Loop") == 0) {
        *ret = PS_ITEM_LOOP;
        subs[0] = ((const ps_loop_params *)n->params)->body;
    } else if (strcmp(n->op_type, "Scan") == 0) {
        *ret = PS_ITEM_SCAN;
        subs[0] = ((const ps_scan_params *)n->params)->body;
    } else if (strcmp(n->op_type, "SequenceMap") == 0) {
        *ret = PS_ITEM_SEQUENCE_MAP;
        subs[0] = ((const ps_loop_params *)n->params)->body;
    } else {
        return PS_FAIL(b->err, UNSUPPORTED, "%s: operator '%s' has subgraphs and no way to run them",
                       ps_node_label(n, label, sizeof label), n->op_type);
    }
    return PS_OK;
}

static void drop_bodies(ps_item *item) {
    for (int k = 0; k < 2; k++) {
        if (item->body[k].unit) ps_graph_free(item->body[k].unit->graph);
    }
}

static ps_status control_item(builder *b, const ps_node *n, ps_item *item) {
    ps_graph *subs[2];
    char label[160];
    PS_TRY(control_kind(b, n, &item->kind, subs));
    for (int k = 0; k < 2 && subs[k]; k++) {
        PS_FAIL_IF(item->kind == PS_ITEM_IF && subs[k]->n_outputs != n->n_out, b->err, FORMAT,
                   "%s has %u outputs, a branch of it has %zu", ps_node_label(n, label, sizeof label), n->n_out,
                   subs[k]->n_outputs);
        PS_TRY(make_body(b, n, subs[k], &item->body[k]));
    }
    return PS_OK;
}

static ps_status make_dynamic(builder *b, const ps_node *n) {
    char label[160];
    ps_item item = { .kind = PS_ITEM_KERNEL, .node = n, .n_in = n->n_in, .n_out = n->n_out };
    PS_FAIL_IF(!(n->op->traits & PS_OP_CONTROL) && !n->op->ref, b->err, UNSUPPORTED,
               "%s: operator '%s' cannot run where its shapes depend on data", ps_node_label(n, label, sizeof label),
               n->op_type);
    PS_TRY(slots_of(b, n->in, n->n_in, &item.in));
    PS_TRY(slots_of(b, n->out, n->n_out, &item.out));
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (item.out[i] == PS_NONE && (n->op->traits & PS_OP_CONTROL)) item.out[i] = new_slot(b); /* a body makes it */
    }
    ps_status status = n->op->traits & PS_OP_CONTROL ? control_item(b, n, &item) : PS_OK;
    if (status == PS_OK) status = push_item(b, &item);
    if (status != PS_OK) drop_bodies(&item);
    return status;
}

static ps_status make_copy(builder *b, const ps_value *v, uint32_t to) {
    ps_item item = { .kind = PS_ITEM_COPY, .n_in = 1, .n_out = 1 };
    item.in = new_list(b, 1);
    item.out = new_list(b, 1);
    if (!item.in || !item.out) return PS_FAIL_NOMEM(b->err, "a program");
    PS_TRY(slot_of(b, v, &item.in[0]));
    item.out[0] = to;
    return push_item(b, &item);
}

/* ---- the whole ---- */

static ps_status build_items(builder *b) {
    uint32_t *late = new_list(b, b->g->n_outputs);
    if (!late) return PS_FAIL_NOMEM(b->err, "a program");
    PS_TRY(claim_ends(b, late));
    for (uint32_t level = 0; level < b->n_levels; level++) {
        PS_TRY(make_segment(b, level));
        for (const ps_node *n = b->g->first; n; n = n->next) {
            if (b->level[n->id] == level && b->dynamic[n->id]) PS_TRY(make_dynamic(b, n));
        }
    }
    for (size_t i = 0; i < b->g->n_outputs; i++) {
        if (late[i]) PS_TRY(make_copy(b, b->g->outputs[i], b->p->outputs[i]));
    }
    return PS_OK;
}

/* ---- slices ---- */

static ps_status optimize(const ps_unit *unit, ps_graph *g, ps_error *err) {
    const ps_model *m = unit->model;
    PS_TRY(ps_ops_resolve(g, err)); /* a clone's parsed attributes must be its own */
    return ps_passes_run(g, m->no_fusion ? PS_PASSES_BASIC : PS_PASSES_ALL, &m->caps, err);
}

static ps_status make_part(const ps_unit *unit, const ps_graph *whole, int64_t rows, ps_graph *g, ps_error *err) {
    for (size_t i = 0; i < g->n_inputs; i++) {
        g->inputs[i]->dtype = whole->inputs[i]->dtype;
        g->inputs[i]->shape = whole->inputs[i]->shape;
        g->inputs[i]->shape.dims[0] = rows;
    }
    return optimize(unit, g, err);
}

/* The same computation for fewer rows, as a graph; NULL: it is better, or has, to run at once, as on a device with
 * memory of its own, which wants much to do at a time. */
static ps_graph *find_part(const builder *b, int64_t *ret_slices) {
    const ps_unit *unit = b->p->unit;
    ps_graph *part = NULL;
    bool cached = !unit->owner && !unit->model->device->ops->memory; /* a GPU is better off with more at once */
    cached &= unit->model->shown_from == SIZE_MAX;                   /* a value is shown whole */
    int64_t batch, rows = cached ? ps_slice_rows(b->g, b->p->threads, &batch) : 0;
    if (!rows || ps_graph_clone(unit->graph, &part, NULL, NULL) != PS_OK) return NULL;
    *ret_slices = batch / rows;
    if (make_part(unit, b->g, rows, part, NULL) == PS_OK && ps_slice_is_same(b->g, part, batch, rows)) return part;
    ps_graph_free(part); /* that it cannot be made is no fault of the model */
    return NULL;
}

static ps_status compile_plan(builder *b, ps_plan **ret) {
    ps_program *p = b->p;
    int64_t slices = 1;
    const bool shows = !p->unit->owner && !p->unit->model->device->ops->memory;
    ps_graph *part = find_part(b, &slices);
    p->graph = NULL; /* the plan's from here on */
    if (part) ps_graph_free(b->g);
    PS_TRY(ps_plan_compile(p->unit->model, part ? part : b->g, p->threads,
                           shows ? p->unit->model->shown_from : SIZE_MAX, ret, b->err));
    if (part) ps_plan_slice(*ret, slices);
    return PS_OK;
}

/* Nothing dynamic: one plan, whose ends are those of the program. */
static ps_status build_plan(builder *b) {
    ps_program *p = b->p;
    ps_item item = { .kind = PS_ITEM_PLAN, .n_in = (uint32_t)b->g->n_inputs, .n_out = (uint32_t)b->g->n_outputs };
    p->n_outputs = b->g->n_outputs;
    p->n_slots = item.n_in + item.n_out;
    item.in = new_list(b, item.n_in);
    item.out = p->outputs = new_list(b, item.n_out);
    if (!item.in || !item.out) return PS_FAIL_NOMEM(b->err, "a program");
    for (uint32_t i = 0; i < item.n_in; i++)
        item.in[i] = i;
    for (uint32_t i = 0; i < item.n_out; i++)
        item.out[i] = item.n_in + i;
    PS_TRY(compile_plan(b, &item.plan));
    ps_status status = push_item(b, &item);
    if (status != PS_OK) ps_plan_free(item.plan);
    return status;
}

static bool plannable_ends(const ps_graph *g) {
    for (size_t i = 0; i < g->n_inputs + g->n_outputs; i++) {
        const ps_value *v = i < g->n_inputs ? g->inputs[i] : g->outputs[i - g->n_inputs];
        if (ps_dtype_is_object(v->dtype) || !ps_shape_fixed(&v->shape)) return false;
    }
    return true;
}

static ps_status build(builder *b) {
    size_t n_ids, n_nodes;
    PS_TRY(optimize(b->p->unit, b->g, b->err));
    n_ids = (size_t)b->g->n_ids + 1;
    n_nodes = (size_t)b->g->n_node_ids + 1;
    b->level = ps_alloc_array(b->alloc, n_nodes, sizeof *b->level);
    b->dynamic = ps_alloc_zero(b->alloc, n_nodes);
    b->known = ps_alloc_zero(b->alloc, n_ids);
    b->slot = ps_alloc_array(b->alloc, n_ids, sizeof *b->slot);
    b->seen = ps_alloc_zero(b->alloc, n_ids);
    if (!b->level || !b->dynamic || !b->known || !b->slot || !b->seen) return PS_FAIL_NOMEM(b->err, "a program");
    PS_TRY(classify(b));
    return b->n_dynamic == 0 && plannable_ends(b->g) ? build_plan(b) : build_items(b);
}

static size_t count_bytes(const ps_program *p) {
    size_t n = sizeof *p + p->arena.bytes + (p->graph ? p->graph->arena.bytes : 0) + p->n_items * sizeof *p->items;
    for (size_t i = 0; i < p->n_items; i++) {
        const ps_item *it = &p->items[i];
        n += it->plan ? it->plan->bytes : 0;
        n += it->unit ? it->unit->graph->arena.bytes : 0;
        for (int k = 0; k < 2; k++)
            n += it->body[k].unit ? it->body[k].unit->graph->arena.bytes : 0;
    }
    return n;
}

/* ---- when a slot's value is read last ---- */

static void note_readers(const ps_item *item, uint32_t i, uint32_t *last) {
    for (uint32_t k = 0; k < item->n_in; k++)
        if (item->in[k] != PS_NONE) last[item->in[k]] = i;
    for (uint32_t k = 0; k < item->n_out; k++)
        if (item->out[k] != PS_NONE && last[item->out[k]] == PS_NONE) last[item->out[k]] = i; /* nobody's, so far */
    for (int w = 0; w < 2; w++) {
        for (size_t k = 0; k < item->body[w].n_captures; k++)
            last[item->body[w].captures[k]] = i;
    }
}

/* The caller's slots and constants stay. */
static void keep_ends(const builder *b, size_t n_inputs, uint32_t *last) {
    const ps_program *p = b->p;
    for (size_t i = 0; i < n_inputs; i++)
        last[i] = PS_NONE;
    for (size_t i = 0; i < p->n_outputs; i++)
        last[p->outputs[i]] = PS_NONE;
    for (size_t i = 0; i < b->constants.size; i++)
        last[b->constants.data[i].slot] = PS_NONE;
}

static ps_status find_last_uses(builder *b) {
    ps_program *p = b->p;
    uint32_t *last = new_list(b, p->n_slots);
    if (!last) return PS_FAIL_NOMEM(b->err, "a program");
    for (uint32_t i = 0; i < p->n_slots; i++)
        last[i] = PS_NONE;
    for (uint32_t i = 0; i < b->items.size; i++)
        note_readers(&b->items.data[i], i, last);
    keep_ends(b, p->unit->graph->n_inputs, last);
    for (uint32_t k = 0; k < p->n_slots; k++)
        if (last[k] != PS_NONE) b->items.data[last[k]].n_done++;
    for (size_t i = 0; i < b->items.size; i++) {
        ps_item *item = &b->items.data[i];
        item->done = new_list(b, item->n_done);
        item->n_done = 0;
        if (!item->done) return PS_FAIL_NOMEM(b->err, "a program");
    }
    for (uint32_t k = 0; k < p->n_slots; k++) {
        ps_item *item = last[k] != PS_NONE ? &b->items.data[last[k]] : NULL;
        if (item) item->done[item->n_done++] = k;
    }
    return PS_OK;
}

static ps_status finish(builder *b, ps_status status) {
    ps_program *p = b->p;
    if (status == PS_OK) status = find_last_uses(b);
    p->items = b->items.data; /* the program's, whole or not */
    p->n_items = b->items.size;
    if (status == PS_OK) {
        p->n_constants = b->constants.size;
        p->constants = ps_arena_array(&p->arena, p->n_constants + 1, sizeof *p->constants);
        if (!p->constants)
            status = PS_FAIL_NOMEM(b->err, "a program");
        else if (p->n_constants)
            memcpy(p->constants, b->constants.data, p->n_constants * sizeof *p->constants);
    }
    void *scratch[] = { b->level, b->dynamic, b->known, b->slot, b->seen };
    for (size_t i = 0; i < sizeof scratch / sizeof *scratch; i++)
        ps_free(b->alloc, scratch[i]);
    ps_vec_release(b->alloc, &b->constants);
    if (status == PS_OK) p->bytes = count_bytes(p);
    return status;
}

/* Types and shapes of this run; small contents that only shapes decide become constants. Strings and containers keep
 * the shape they had: nothing is planned on it. */
static ps_status set_inputs(const ps_unit *unit, ps_graph *g, ps_slot *const *ends, ps_error *err) {
    for (size_t i = 0; i < g->n_inputs; i++) {
        ps_value *v = g->inputs[i];
        v->dtype = ends[i]->dtype;
        if (ps_dtype_is_object(v->dtype)) continue;
        v->shape = ends[i]->shape;
    }
    for (size_t i = 0; unit->by_value && i < g->n_inputs; i++) {
        ps_tensor view, *copy;
        ps_value *constant;
        if (!unit->by_value[i] || ps_dtype_is_object(ends[i]->dtype)) continue;
        ps_slot_view(ends[i], &view);
        if (view.bytes > PS_BY_VALUE) continue;
        PS_TRY(ps_tensor_copy(g->alloc, &view, &copy, err));
        ps_status status = ps_graph_add_constant(g, NULL, copy, &constant, err);
        ps_tensor_release(copy);
        if (status == PS_OK) status = ps_value_replace(g->inputs[i], constant, err);
        if (status != PS_OK) return status;
    }
    return PS_OK;
}

ps_status ps_program_compile(ps_unit *unit, ps_slot *const *ends, int threads, ps_program **ret, ps_error *err) {
    ps_model *m = unit->model;
    ps_program *p = ps_alloc_zero(m->alloc, sizeof *p);
    if (!p) return PS_FAIL_NOMEM(err, "a program");
    atomic_init(&p->refs, 1);
    atomic_init(&p->evicted, false);
    atomic_init(&p->used, false);
    ps_arena_init(&p->arena, m->alloc);
    p->unit = unit;
    p->threads = threads;
    ps_status status = ps_graph_clone(unit->graph, &p->graph, NULL, err);
    if (status == PS_OK) status = set_inputs(unit, p->graph, ends, err);
    if (status == PS_OK) {
        builder b = { .p = p, .g = p->graph, .alloc = m->alloc, .err = err };
        status = finish(&b, build(&b));
    }
    if (status != PS_OK) {
        ps_program_release(p);
        return status;
    }
    *ret = p;
    return PS_OK;
}

ps_program *ps_program_retain(ps_program *p) {
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

static void free_unit(ps_unit *u) {
    if (!u) return;
    ps_unit_clear(u);
    ps_graph_free(u->graph);
}

void ps_program_release(ps_program *p) {
    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) > 1) return;
    ps_alloc_state *alloc = p->unit->model->alloc;
    for (size_t i = 0; i < p->n_items; i++) {
        ps_plan_free(p->items[i].plan);
        free_unit(p->items[i].unit);
        free_unit(p->items[i].body[0].unit);
        free_unit(p->items[i].body[1].unit);
    }
    ps_free(alloc, p->items);
    ps_graph_free(p->graph);
    ps_arena_release(&p->arena);
    ps_free(alloc, p->key);
    ps_free(alloc, p);
}
