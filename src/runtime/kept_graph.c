/* kept_graph.c - a graph as bytes and back; see kept.h. It follows clone.c of src/graph: what that copies, this writes
 * and reads. */
#include "runtime/kept.h"

/* ---- numbers and texts ---- */

void ps_kept_put(ps_kept_out *o, uint64_t v) {
    uint8_t buf[10];
    ps_str_append_n(&o->bytes, buf, (size_t)(ps_wire_put_varint(buf, v) - buf));
}

void ps_kept_put_signed(ps_kept_out *o, int64_t v) {
    ps_kept_put(o, (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0));
}

void ps_kept_put_text(ps_kept_out *o, const char *text, size_t size) {
    ps_kept_put(o, size);
    ps_str_append_n(&o->bytes, text, size);
}

static void put_string(ps_kept_out *o, const char *text) {
    ps_kept_put_text(o, text, strlen(text));
}

void ps_kept_put_shape(ps_kept_out *o, const ps_shape *s) {
    ps_kept_put_signed(o, s->rank);
    for (int i = 0; i < s->rank; i++)
        ps_kept_put_signed(o, s->dims[i]);
}

ps_status ps_kept_broken(ps_error *err) {
    return PS_FAIL(err, FORMAT, "the model's entry in the cache is damaged");
}

ps_status ps_kept_get(ps_kept_in *in, uint64_t max, uint64_t *ret, ps_error *err) {
    return ps_wire_varint(&in->wire, ret) && *ret <= max ? PS_OK : ps_kept_broken(err);
}

ps_status ps_kept_get_signed(ps_kept_in *in, int64_t *ret, ps_error *err) {
    uint64_t v;
    PS_TRY(ps_kept_get(in, UINT64_MAX, &v, err));
    *ret = (int64_t)(v >> 1 ^ (v & 1 ? UINT64_MAX : 0));
    return PS_OK;
}

ps_status ps_kept_get_count(ps_kept_in *in, size_t *ret, ps_error *err) {
    uint64_t n;
    PS_TRY(ps_kept_get(in, UINT64_MAX, &n, err));
    if (n > (uint64_t)(in->wire.end - in->wire.at)) return ps_kept_broken(err);
    *ret = (size_t)n;
    return PS_OK;
}

ps_status ps_kept_get_text(ps_kept_in *in, const char **ret, size_t *ret_size, ps_error *err) {
    size_t n;
    PS_TRY(ps_kept_get_count(in, &n, err));
    *ret = ps_arena_text(in->arena, in->wire.at, n);
    if (!*ret) return PS_FAIL_NOMEM(err, "a model from the cache");
    in->wire.at += n;
    if (ret_size) *ret_size = n;
    return PS_OK;
}

ps_status ps_kept_get_shape(ps_kept_in *in, size_t n_symbols, ps_shape *ret, ps_error *err) {
    int64_t rank;
    PS_TRY(ps_kept_get_signed(in, &rank, err));
    if (rank < -1 || rank > PS_MAX_RANK) return ps_kept_broken(err);
    *ret = ps_shape_unknown();
    ret->rank = (int)rank;
    for (int i = 0; i < rank; i++) {
        PS_TRY(ps_kept_get_signed(in, &ret->dims[i], err));
        if (ret->dims[i] < PS_DIM_UNKNOWN && (uint64_t)(-2 - ret->dims[i]) >= n_symbols) return ps_kept_broken(err);
    }
    return PS_OK;
}

ps_status ps_kept_get_dtype(ps_kept_in *in, ps_dtype *ret, ps_error *err) {
    uint64_t v;
    PS_TRY(ps_kept_get(in, INT32_MAX, &v, err));
    *ret = (ps_dtype)v;
    bool known = *ret == PS_DTYPE_UNDEFINED || ps_dtype_valid((int)v) || ps_dtype_is_container(*ret);
    return known ? PS_OK : ps_kept_broken(err);
}

/* ---- writing a graph ---- */

static ps_status put_graph(ps_kept_out *o, const ps_graph *g, ps_error *err);

static ps_status put_tensor(ps_kept_out *o, const ps_tensor *t, ps_error *err) {
    const char *key = ps_arena_printf(&o->arena, "%p", (const void *)t);
    if (!key) return PS_FAIL_NOMEM(err, "a model for the cache");
    uintptr_t place = (uintptr_t)ps_map_get(&o->places, key);
    if (!place) {
        if (!ps_vec_push(o->bytes.alloc, &o->tensors, t)) return PS_FAIL_NOMEM(err, "a model for the cache");
        place = o->tensors.size;
        if (!ps_map_put(&o->places, key, (void *)place)) return PS_FAIL_NOMEM(err, "a model for the cache");
    }
    ps_kept_put(o, place - 1);
    return PS_OK;
}

static ps_status put_definition(ps_kept_out *o, const ps_value *v, ps_error *err) {
    ps_kept_put(o, (uint64_t)v->graph->depth);
    put_string(o, v->name);
    ps_kept_put(o, (uint64_t)v->dtype);
    ps_kept_put(o, (uint64_t)v->elem);
    ps_kept_put_shape(o, &v->shape);
    ps_kept_put(o, (uint64_t)v->declared_dtype);
    ps_kept_put_shape(o, &v->declared_shape);
    ps_kept_put(o, v->constant != NULL);
    return v->constant ? put_tensor(o, v->constant, err) : PS_OK;
}

/* 0 for none, else its number plus 1; the first time its definition follows. */
static ps_status put_value(ps_kept_out *o, const ps_value *v, ps_error *err) {
    if (!v) {
        ps_kept_put(o, 0);
        return PS_OK;
    }
    if (o->values[v->id]) {
        ps_kept_put(o, o->values[v->id]);
        return PS_OK;
    }
    o->values[v->id] = ++o->n_values;
    ps_kept_put(o, o->n_values);
    return put_definition(o, v, err);
}

static ps_status put_values(ps_kept_out *o, ps_value *const *values, size_t n, ps_error *err) {
    ps_kept_put(o, n);
    for (size_t i = 0; i < n; i++)
        PS_TRY(put_value(o, values[i], err));
    return PS_OK;
}

static void put_float(ps_kept_out *o, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    ps_kept_put(o, bits);
}

static ps_status put_element(ps_kept_out *o, const ps_attr *a, size_t i, ps_error *err) {
    switch (a->type) {
    case PS_ATTR_INTS: ps_kept_put_signed(o, a->u.ints[i]); return PS_OK;
    case PS_ATTR_FLOATS: put_float(o, a->u.floats[i]); return PS_OK;
    case PS_ATTR_STRINGS: put_string(o, a->u.strings[i]); return PS_OK;
    case PS_ATTR_TENSORS: return put_tensor(o, a->u.tensors[i], err);
    default: return put_graph(o, a->u.graphs[i], err);
    }
}

static ps_status put_attr(ps_kept_out *o, const ps_attr *a, ps_error *err) {
    put_string(o, a->name);
    ps_kept_put(o, (uint64_t)a->type);
    switch (a->type) {
    case PS_ATTR_NONE: return PS_OK;
    case PS_ATTR_INT: ps_kept_put_signed(o, a->u.i); return PS_OK;
    case PS_ATTR_FLOAT: put_float(o, a->u.f); return PS_OK;
    case PS_ATTR_STRING: ps_kept_put_text(o, a->u.s, a->n); return PS_OK;
    case PS_ATTR_TENSOR: return put_tensor(o, a->u.tensor, err);
    case PS_ATTR_GRAPH: return put_graph(o, a->u.graph, err);
    default: break;
    }
    ps_kept_put(o, a->n);
    for (size_t i = 0; i < a->n; i++)
        PS_TRY(put_element(o, a, i, err));
    return PS_OK;
}

static ps_status put_node(ps_kept_out *o, const ps_node *n, ps_error *err) {
    put_string(o, n->op_type);
    put_string(o, n->domain);
    put_string(o, n->name);
    ps_kept_put(o, (uint64_t)n->op->since);
    put_string(o, n->note ? n->note : "");
    put_string(o, n->fused ? n->fused : "");
    PS_TRY(put_values(o, n->in, n->n_in, err));
    PS_TRY(put_values(o, n->out, n->n_out, err));
    ps_kept_put(o, n->n_attrs);
    for (uint32_t i = 0; i < n->n_attrs; i++)
        PS_TRY(put_attr(o, &n->attrs[i], err));
    return PS_OK;
}

static ps_status put_graph(ps_kept_out *o, const ps_graph *g, ps_error *err) {
    put_string(o, g->name);
    PS_TRY(put_values(o, g->inputs, g->n_inputs, err));
    ps_kept_put(o, g->n_nodes);
    for (const ps_node *n = g->first; n; n = n->next)
        PS_TRY(put_node(o, n, err));
    return put_values(o, g->outputs, g->n_outputs, err);
}

ps_status ps_kept_put_graph(ps_kept_out *o, const ps_graph *root, ps_error *err) {
    o->values = ps_arena_array(&o->arena, (size_t)root->n_ids + 1, sizeof *o->values);
    if (!o->values) return PS_FAIL_NOMEM(err, "a model for the cache");
    ps_kept_put(o, root->n_opsets);
    for (size_t i = 0; i < root->n_opsets; i++) {
        put_string(o, root->opsets[i].domain);
        ps_kept_put_signed(o, root->opsets[i].version);
    }
    ps_kept_put(o, root->n_symbols);
    for (size_t i = 0; i < root->n_symbols; i++)
        put_string(o, root->symbols[i]);
    ps_kept_put(o, root->n_fresh);
    return put_graph(o, root, err);
}

/* ---- reading a graph ---- */

static ps_status get_nodes(ps_kept_in *in, ps_graph *g, ps_error *err);

static ps_status get_tensor(ps_kept_in *in, ps_tensor **ret, ps_error *err) {
    uint64_t place;
    PS_TRY(ps_kept_get(in, UINT64_MAX, &place, err));
    if (place >= in->n_tensors) return ps_kept_broken(err);
    *ret = in->tensors[place];
    return PS_OK;
}

static ps_status get_constant(ps_kept_in *in, ps_value *v, ps_error *err) {
    uint64_t has;
    ps_tensor *t;
    PS_TRY(ps_kept_get(in, 1, &has, err));
    if (!has) return PS_OK;
    PS_TRY(get_tensor(in, &t, err));
    if (t->dtype != v->dtype || !ps_shape_equal(&t->shape, &v->shape)) return ps_kept_broken(err);
    ps_value_set_constant(v, t);
    return PS_OK;
}

/* g, or one around it. */
static ps_status get_definition(ps_kept_in *in, ps_graph *g, ps_value **ret, ps_error *err) {
    uint64_t depth;
    const char *name;
    ps_value *v;
    PS_TRY(ps_kept_get(in, (uint64_t)g->depth, &depth, err));
    while ((uint64_t)g->depth > depth)
        g = g->parent->graph;
    PS_TRY(ps_kept_get_text(in, &name, NULL, err));
    PS_TRY(ps_graph_add_value(g, name, &v, err));
    if (!ps_vec_push(g->root->alloc, &in->values, v)) return PS_FAIL_NOMEM(err, "a model from the cache");
    const size_t n_symbols = g->root->n_symbols;
    PS_TRY(ps_kept_get_dtype(in, &v->dtype, err));
    PS_TRY(ps_kept_get_dtype(in, &v->elem, err));
    PS_TRY(ps_kept_get_shape(in, n_symbols, &v->shape, err));
    PS_TRY(ps_kept_get_dtype(in, &v->declared_dtype, err));
    PS_TRY(ps_kept_get_shape(in, n_symbols, &v->declared_shape, err));
    *ret = v;
    return get_constant(in, v, err);
}

static ps_status get_value(ps_kept_in *in, ps_graph *g, ps_value **ret, ps_error *err) {
    uint64_t number;
    PS_TRY(ps_kept_get(in, in->values.size + 1, &number, err));
    *ret = NULL;
    if (number == in->values.size + 1) return get_definition(in, g, ret, err);
    if (number) *ret = in->values.data[number - 1];
    return PS_OK;
}

static ps_status get_values(ps_kept_in *in, ps_graph *g, ps_value ***ret, size_t *ret_n, ps_error *err) {
    PS_TRY(ps_kept_get_count(in, ret_n, err));
    *ret = ps_arena_array(in->arena, *ret_n + 1, sizeof **ret);
    if (!*ret) return PS_FAIL_NOMEM(err, "a model from the cache");
    for (size_t i = 0; i < *ret_n; i++)
        PS_TRY(get_value(in, g, &(*ret)[i], err));
    return PS_OK;
}

static ps_status get_float(ps_kept_in *in, float *ret, ps_error *err) {
    uint64_t v;
    PS_TRY(ps_kept_get(in, UINT32_MAX, &v, err));
    const uint32_t bits = (uint32_t)v;
    memcpy(ret, &bits, sizeof bits);
    return PS_OK;
}

static ps_status get_sub(ps_kept_in *in, ps_node *n, ps_graph **ret, ps_error *err) {
    const char *name;
    PS_TRY(ps_kept_get_text(in, &name, NULL, err));
    PS_TRY(ps_graph_new_sub(n->graph, n, name, ret, err));
    return get_nodes(in, *ret, err);
}

static ps_status get_element(ps_kept_in *in, ps_node *n, ps_attr *a, size_t i, ps_error *err) {
    switch (a->type) {
    case PS_ATTR_INTS: return ps_kept_get_signed(in, &a->u.ints[i], err);
    case PS_ATTR_FLOATS: return get_float(in, &a->u.floats[i], err);
    case PS_ATTR_STRINGS: return ps_kept_get_text(in, &a->u.strings[i], NULL, err);
    case PS_ATTR_TENSORS: return get_tensor(in, &a->u.tensors[i], err);
    default: return get_sub(in, n, &a->u.graphs[i], err);
    }
}

static ps_status get_list(ps_kept_in *in, ps_node *n, ps_attr *a, ps_error *err) {
    PS_TRY(ps_kept_get_count(in, &a->n, err));
    void *list = ps_arena_array(in->arena, a->n + 1, 8); /* pointers and numbers of up to 8 bytes */
    if (!list) return PS_FAIL_NOMEM(err, "a model from the cache");
    switch (a->type) {
    case PS_ATTR_INTS: a->u.ints = list; break;
    case PS_ATTR_FLOATS: a->u.floats = list; break;
    case PS_ATTR_STRINGS: a->u.strings = list; break;
    case PS_ATTR_TENSORS: a->u.tensors = list; break;
    case PS_ATTR_GRAPHS: a->u.graphs = list; break;
    default: return ps_kept_broken(err);
    }
    for (size_t i = 0; i < a->n; i++)
        PS_TRY(get_element(in, n, a, i, err));
    return PS_OK;
}

static ps_status get_payload(ps_kept_in *in, ps_node *n, ps_attr *a, ps_error *err) {
    switch (a->type) {
    case PS_ATTR_NONE: return PS_OK;
    case PS_ATTR_INT: return ps_kept_get_signed(in, &a->u.i, err);
    case PS_ATTR_FLOAT: return get_float(in, &a->u.f, err);
    case PS_ATTR_STRING: return ps_kept_get_text(in, &a->u.s, &a->n, err);
    case PS_ATTR_TENSOR: return get_tensor(in, &a->u.tensor, err);
    case PS_ATTR_GRAPH: return get_sub(in, n, &a->u.graph, err);
    default: return get_list(in, n, a, err);
    }
}

static ps_status get_attr(ps_kept_in *in, ps_node *n, ps_error *err) {
    ps_attr a = { 0 };
    uint64_t type;
    PS_TRY(ps_kept_get_text(in, &a.name, NULL, err));
    PS_TRY(ps_kept_get(in, PS_ATTR_TENSORS, &type, err));
    if (ps_node_attr(n, a.name)) return ps_kept_broken(err);
    a.type = (ps_attr_type)type;
    PS_TRY(get_payload(in, n, &a, err));
    return ps_node_set_attr(n, &a, err);
}

static ps_status get_node(ps_kept_in *in, ps_graph *g, ps_error *err) {
    const char *op_type, *domain, *name, *note, *fused;
    uint64_t since;
    ps_value **ins, **outs;
    size_t n_ins, n_outs, n_attrs;
    ps_node *n;
    PS_TRY(ps_kept_get_text(in, &op_type, NULL, err));
    PS_TRY(ps_kept_get_text(in, &domain, NULL, err));
    PS_TRY(ps_kept_get_text(in, &name, NULL, err));
    PS_TRY(ps_kept_get(in, INT32_MAX, &since, err));
    PS_TRY(ps_kept_get_text(in, &note, NULL, err));
    PS_TRY(ps_kept_get_text(in, &fused, NULL, err));
    PS_TRY(get_values(in, g, &ins, &n_ins, err));
    PS_TRY(get_values(in, g, &outs, &n_outs, err));
    PS_TRY(ps_graph_add_node(g, NULL, op_type, domain, name, ins, n_ins, outs, n_outs, &n, err));
    n->op = ps_ops_find(op_type, domain, (int64_t)since);
    if (!n->op || n->op->since != (int)since) return ps_kept_broken(err);
    n->note = *note ? note : NULL;
    n->fused = *fused ? fused : NULL;
    PS_TRY(ps_kept_get_count(in, &n_attrs, err));
    for (size_t i = 0; i < n_attrs; i++)
        PS_TRY(get_attr(in, n, err));
    return PS_OK;
}

/* All of a graph behind its name. */
static ps_status get_nodes(ps_kept_in *in, ps_graph *g, ps_error *err) {
    ps_value **values;
    size_t n, n_nodes;
    PS_TRY(get_values(in, g, &values, &n, err));
    for (size_t i = 0; i < n; i++) {
        if (!values[i] || values[i]->graph != g) return ps_kept_broken(err);
        PS_TRY(ps_graph_add_input(g, values[i], err));
    }
    PS_TRY(ps_kept_get_count(in, &n_nodes, err));
    for (size_t i = 0; i < n_nodes; i++)
        PS_TRY(get_node(in, g, err));
    PS_TRY(get_values(in, g, &values, &n, err));
    for (size_t i = 0; i < n; i++) {
        if (!values[i]) return ps_kept_broken(err);
        PS_TRY(ps_graph_add_output(g, values[i], err));
    }
    return PS_OK;
}

static ps_status get_head(ps_kept_in *in, ps_graph *root, ps_error *err) {
    size_t n;
    uint64_t n_fresh;
    PS_TRY(ps_kept_get_count(in, &n, err));
    for (size_t i = 0; i < n; i++) {
        const char *domain;
        int64_t version;
        PS_TRY(ps_kept_get_text(in, &domain, NULL, err));
        PS_TRY(ps_kept_get_signed(in, &version, err));
        PS_TRY(ps_graph_set_opset(root, domain, version, err));
    }
    PS_TRY(ps_kept_get_count(in, &n, err));
    for (size_t i = 0; i < n; i++) {
        const char *symbol;
        PS_TRY(ps_kept_get_text(in, &symbol, NULL, err));
        if (!ps_graph_symbol(root, symbol)) return PS_FAIL_NOMEM(err, "a symbol");
        if (root->n_symbols != i + 1) return ps_kept_broken(err); /* one name twice */
    }
    PS_TRY(ps_kept_get(in, UINT32_MAX, &n_fresh, err));
    root->n_fresh = (uint32_t)n_fresh;
    return PS_OK;
}

static ps_status get_root(ps_kept_in *in, ps_graph *root, ps_error *err) {
    in->arena = &root->arena;
    PS_TRY(get_head(in, root, err));
    PS_TRY(ps_kept_get_text(in, &root->name, NULL, err));
    PS_TRY(get_nodes(in, root, err));
    PS_TRY(ps_graph_verify(root, err));
    return ps_ops_resolve(root, err);
}

ps_status ps_kept_get_graph(ps_kept_in *in, ps_alloc_state *alloc, ps_graph **ret, ps_error *err) {
    ps_graph *root = NULL;
    ps_arena *texts = in->arena;
    PS_TRY(ps_graph_new(alloc, "", &root, err));
    ps_status status = get_root(in, root, err);
    in->arena = texts;
    ps_vec_release(alloc, &in->values);
    if (status != PS_OK) {
        ps_graph_free(root);
        return status;
    }
    *ret = root;
    return PS_OK;
}
