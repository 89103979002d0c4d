/* edit_graph.c - changing the nodes, initializers and tables of an opened model. See edit.h. */
#include <string.h>

#include "onnx/edit_int.h"

/* ---- pieces of messages ---- */

char *ps_onnx_edit_text(ps_onnx_edit *e, const char *s, ps_error *err) {
    char *copy = ps_strdup(e->alloc, s ? s : "");
    if (!copy) (void)PS_FAIL_NOMEM(err, "a name");
    return copy;
}

void ps_onnx_edit_free_text(ps_onnx_edit *e, char *s) {
    if (s && s != protobuf_c_empty_string) ps_free(e->alloc, s);
}

void ps_onnx_edit_free_message(ps_onnx_edit *e, ProtobufCMessage *m) {
    ProtobufCAllocator allocator;
    ps_onnx_proto_allocator(e->alloc, &allocator);
    if (m) protobuf_c_message_free_unpacked(m, &allocator);
}

/* A list of pointers with room for one more at `at`; *list and *n are of a message. */
ps_status ps_onnx_edit_open_gap(ps_onnx_edit *e, void ***list, size_t *n, size_t at, ps_error *err) {
    size_t bytes;
    void **grown = NULL;
    if (!ps_mul_overflow_size(*n + 1, sizeof(void *), &bytes)) grown = ps_realloc(e->alloc, *list, bytes);
    if (!grown) return PS_FAIL_NOMEM(err, "a list of the model");
    memmove(grown + at + 1, grown + at, (*n - at) * sizeof *grown);
    grown[at] = NULL;
    *list = grown;
    ++*n;
    return PS_OK;
}

static void close_gap(void **list, size_t *n, size_t at) {
    memmove(list + at, list + at + 1, (*n - at - 1) * sizeof *list);
    --*n;
}

static Onnx__GraphProto *graph_of(const ps_onnx_edit *e) {
    return ((Onnx__ModelProto *)e->proto.message)->graph;
}

/* ---- nodes ---- */

size_t ps_onnx_edit_node_count(const ps_onnx_edit *e) {
    return graph_of(e)->n_node;
}

ps_onnx_node_view ps_onnx_edit_node(const ps_onnx_edit *e, size_t index) {
    const Onnx__NodeProto *n = graph_of(e)->node[index];
    return (ps_onnx_node_view) {
        .op_type = ps_onnx_text(n->op_type),
        .domain = ps_onnx_domain(n->domain),
        .name = ps_onnx_text(n->name),
        .in = n->input,
        .out = n->output,
        .n_in = n->n_input,
        .n_out = n->n_output,
    };
}

static ps_status set_text(ps_onnx_edit *e, char **place, const char *s, ps_error *err) {
    char *copy = ps_onnx_edit_text(e, s, err);
    if (!copy) return PS_NO_MEMORY;
    ps_onnx_edit_free_text(e, *place);
    *place = copy;
    return PS_OK;
}

ps_status ps_onnx_edit_texts(ps_onnx_edit *e, char ***list, size_t *count, const char *const *from, size_t n,
                             ps_error *err) {
    if (!n) return PS_OK;
    *list = ps_alloc_zero(e->alloc, n * sizeof **list);
    if (!*list) return PS_FAIL_NOMEM(err, "a node");
    for (; *count < n; ++*count) {
        (*list)[*count] = ps_onnx_edit_text(e, from[*count], err);
        if (!(*list)[*count]) return PS_NO_MEMORY;
    }
    return PS_OK;
}

static ps_status fill_attr(ps_onnx_edit *e, Onnx__AttributeProto *a, const ps_onnx_attr_spec *spec, ps_error *err) {
    PS_TRY(set_text(e, &a->name, spec->name, err));
    a->has_type = 1;
    switch (spec->type) {
    case PS_ATTR_INT:
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
        a->has_i = 1;
        a->i = spec->i;
        return PS_OK;
    case PS_ATTR_FLOAT:
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
        a->has_f = 1;
        a->f = spec->f;
        return PS_OK;
    case PS_ATTR_STRING:
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
        a->s.data = (uint8_t *)ps_onnx_edit_text(e, spec->s, err);
        if (!a->s.data) return PS_NO_MEMORY;
        a->has_s = 1;
        a->s.len = strlen(spec->s);
        return PS_OK;
    case PS_ATTR_INTS:
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
        if (!spec->n) return PS_OK;
        a->ints = ps_alloc_array(e->alloc, spec->n, sizeof *a->ints);
        if (!a->ints) return PS_FAIL_NOMEM(err, "an attribute");
        memcpy(a->ints, spec->ints, spec->n * sizeof *a->ints);
        a->n_ints = spec->n;
        return PS_OK;
    default: return PS_FAIL(err, INTERNAL, "attribute '%s': this kind is not written", spec->name);
    }
}

ps_status ps_onnx_edit_add_attr(ps_onnx_edit *e, Onnx__NodeProto *n, const ps_onnx_attr_spec *spec, ps_error *err) {
    Onnx__AttributeProto *a = ps_alloc(e->alloc, sizeof *a);
    if (!a) return PS_FAIL_NOMEM(err, "an attribute");
    onnx__attribute_proto__init(a);
    ps_status status = fill_attr(e, a, spec, err);
    if (status == PS_OK)
        status = ps_onnx_edit_open_gap(e, (void ***)&n->attribute, &n->n_attribute, n->n_attribute, err);
    if (status != PS_OK) {
        ps_onnx_edit_free_message(e, &a->base);
        return status;
    }
    n->attribute[n->n_attribute - 1] = a;
    return PS_OK;
}

static ps_status fill_node(ps_onnx_edit *e, Onnx__NodeProto *n, const ps_onnx_node_spec *spec, ps_error *err) {
    PS_TRY(set_text(e, &n->op_type, spec->op_type, err));
    if (spec->domain && *spec->domain) PS_TRY(set_text(e, &n->domain, spec->domain, err));
    if (spec->name && *spec->name) PS_TRY(set_text(e, &n->name, spec->name, err));
    PS_TRY(ps_onnx_edit_texts(e, &n->input, &n->n_input, spec->in, spec->n_in, err));
    PS_TRY(ps_onnx_edit_texts(e, &n->output, &n->n_output, spec->out, spec->n_out, err));
    for (size_t i = 0; i < spec->n_attrs; i++)
        PS_TRY(ps_onnx_edit_add_attr(e, n, &spec->attrs[i], err));
    return PS_OK;
}

ps_status ps_onnx_edit_insert_into(ps_onnx_edit *e, Onnx__GraphProto *g, size_t index, const ps_onnx_node_spec *spec,
                                   ps_error *err) {
    Onnx__NodeProto *n = ps_alloc(e->alloc, sizeof *n);
    if (!n) return PS_FAIL_NOMEM(err, "a node");
    onnx__node_proto__init(n);
    ps_status status = fill_node(e, n, spec, err);
    if (status == PS_OK) status = ps_onnx_edit_open_gap(e, (void ***)&g->node, &g->n_node, index, err);
    if (status != PS_OK) {
        ps_onnx_edit_free_message(e, &n->base);
        return status;
    }
    g->node[index] = n;
    return PS_OK;
}

ps_status ps_onnx_edit_insert_node(ps_onnx_edit *e, size_t index, const ps_onnx_node_spec *spec, ps_error *err) {
    return ps_onnx_edit_insert_into(e, graph_of(e), index, spec, err);
}

ps_status ps_onnx_edit_set_input(ps_onnx_edit *e, size_t node, size_t index, const char *name, ps_error *err) {
    Onnx__NodeProto *n = graph_of(e)->node[node];
    if (index < n->n_input) return set_text(e, &n->input[index], name, err);
    char *copy = ps_onnx_edit_text(e, name, err);
    if (!copy) return PS_NO_MEMORY;
    ps_status status = ps_onnx_edit_open_gap(e, (void ***)&n->input, &n->n_input, n->n_input, err);
    if (status == PS_OK)
        n->input[n->n_input - 1] = copy;
    else
        ps_free(e->alloc, copy);
    return status;
}

ps_status ps_onnx_edit_set_output(ps_onnx_edit *e, size_t node, size_t index, const char *name, ps_error *err) {
    return set_text(e, &graph_of(e)->node[node]->output[index], name, err);
}

/* Initializers inside a removed node are forgotten too. */
static void forget_tensors(ps_onnx_edit *e, const Onnx__GraphProto *g) {
    for (size_t i = 0; i < g->n_initializer; i++) {
        for (size_t k = 0; k < e->tensors.size; k++) {
            if (e->tensors.data[k] != g->initializer[i]) continue;
            close_gap((void **)e->tensors.data, &e->tensors.size, k);
            break;
        }
    }
    for (size_t i = 0; i < g->n_node; i++) {
        const Onnx__NodeProto *n = g->node[i];
        for (size_t k = 0; k < n->n_attribute; k++) {
            if (n->attribute[k]->g) forget_tensors(e, n->attribute[k]->g);
            for (size_t j = 0; j < n->attribute[k]->n_graphs; j++)
                forget_tensors(e, n->attribute[k]->graphs[j]);
        }
    }
}

void ps_onnx_edit_remove_node(ps_onnx_edit *e, size_t index) {
    Onnx__GraphProto *g = graph_of(e);
    Onnx__NodeProto *n = g->node[index];
    Onnx__GraphProto alone = ONNX__GRAPH_PROTO__INIT;
    alone.node = &n;
    alone.n_node = 1;
    forget_tensors(e, &alone);
    close_gap((void **)g->node, &g->n_node, index);
    ps_onnx_edit_free_message(e, &n->base);
}

static bool graph_reads(const Onnx__GraphProto *g, const char *name);

static bool node_reads(const Onnx__NodeProto *n, const char *name) {
    for (size_t k = 0; k < n->n_input; k++)
        if (strcmp(n->input[k], name) == 0) return true;
    for (size_t k = 0; k < n->n_attribute; k++) {
        if (n->attribute[k]->g && graph_reads(n->attribute[k]->g, name)) return true;
        for (size_t j = 0; j < n->attribute[k]->n_graphs; j++)
            if (graph_reads(n->attribute[k]->graphs[j], name)) return true;
    }
    return false;
}

/* A name that a subgraph defines anew counts as read: that errs on the safe side. Recursion: bounded by cut.c. */
static bool graph_reads(const Onnx__GraphProto *g, const char *name) {
    for (size_t i = 0; i < g->n_output; i++)
        if (strcmp(ps_onnx_text(g->output[i]->name), name) == 0) return true;
    for (size_t i = 0; i < g->n_node; i++)
        if (node_reads(g->node[i], name)) return true;
    return false;
}

bool ps_onnx_edit_is_read(const ps_onnx_edit *e, const char *name) {
    return graph_reads(graph_of(e), name);
}

bool ps_onnx_edit_is_defined(const ps_onnx_edit *e, const char *name) {
    const Onnx__GraphProto *g = graph_of(e);
    for (size_t i = 0; i < g->n_input; i++)
        if (strcmp(ps_onnx_text(g->input[i]->name), name) == 0) return true;
    for (size_t i = 0; i < g->n_initializer; i++)
        if (strcmp(ps_onnx_text(g->initializer[i]->name), name) == 0) return true;
    for (size_t i = 0; i < g->n_node; i++)
        for (size_t k = 0; k < g->node[i]->n_output; k++)
            if (strcmp(g->node[i]->output[k], name) == 0) return true;
    return false;
}

/* ---- initializers ---- */

ps_status ps_onnx_edit_add_to(ps_onnx_edit *e, Onnx__GraphProto *g, const char *name, ps_tensor *t, ps_error *err) {
    Onnx__TensorProto *made = ps_alloc(e->alloc, sizeof *made);
    if (!made) return PS_FAIL_NOMEM(err, "a tensor");
    onnx__tensor_proto__init(made);
    ps_status status = set_text(e, &made->name, name, err);
    if (status == PS_OK && !ps_vec_push(e->alloc, &e->tensors, made))
        status = PS_FAIL_NOMEM(err, "the list of weights");
    if (status != PS_OK) {
        ps_onnx_edit_free_message(e, &made->base);
        return status;
    }
    status = ps_onnx_edit_replace(e, e->tensors.size - 1, t, err);
    if (status == PS_OK)
        status = ps_onnx_edit_open_gap(e, (void ***)&g->initializer, &g->n_initializer, g->n_initializer, err);
    if (status != PS_OK) {
        e->tensors.size--;
        ps_onnx_edit_free_message(e, &made->base);
        return status;
    }
    g->initializer[g->n_initializer - 1] = made;
    Onnx__ModelProto *m = (Onnx__ModelProto *)e->proto.message;
    if (m->ir_version >= 4) return PS_OK;
    m->has_ir_version = 1; /* before 4, every initializer had to be an input as well */
    m->ir_version = 4;
    return PS_OK;
}

ps_status ps_onnx_edit_add_initializer(ps_onnx_edit *e, const char *name, ps_tensor *t, ps_error *err) {
    return ps_onnx_edit_add_to(e, graph_of(e), name, t, err);
}

bool ps_onnx_edit_remove_initializer(ps_onnx_edit *e, const char *name) {
    Onnx__GraphProto *g = graph_of(e);
    size_t at = 0;
    while (at < g->n_initializer && strcmp(ps_onnx_text(g->initializer[at]->name), name) != 0)
        at++;
    if (at == g->n_initializer) return false;
    Onnx__TensorProto *t = g->initializer[at];
    Onnx__GraphProto alone = ONNX__GRAPH_PROTO__INIT;
    alone.initializer = &t;
    alone.n_initializer = 1;
    forget_tensors(e, &alone);
    close_gap((void **)g->initializer, &g->n_initializer, at);
    for (size_t i = 0; i < g->n_input; i++) {
        if (strcmp(ps_onnx_text(g->input[i]->name), name) != 0) continue;
        ps_onnx_edit_free_message(e, &g->input[i]->base);
        close_gap((void **)g->input, &g->n_input, i);
        break;
    }
    ps_onnx_edit_free_message(e, &t->base); /* last: name may be its own */
    return true;
}

/* ---- the model ---- */

ps_status ps_onnx_edit_set_metadata(ps_onnx_edit *e, const char *key, const char *value, ps_error *err) {
    Onnx__ModelProto *m = (Onnx__ModelProto *)e->proto.message;
    for (size_t i = 0; i < m->n_metadata_props; i++) {
        if (strcmp(ps_onnx_text(m->metadata_props[i]->key), key) == 0)
            return set_text(e, &m->metadata_props[i]->value, value, err);
    }
    Onnx__StringStringEntryProto *entry = ps_alloc(e->alloc, sizeof *entry);
    if (!entry) return PS_FAIL_NOMEM(err, "metadata");
    onnx__string_string_entry_proto__init(entry);
    ps_status status = set_text(e, &entry->key, key, err);
    if (status == PS_OK) status = set_text(e, &entry->value, value, err);
    if (status == PS_OK)
        status = ps_onnx_edit_open_gap(e, (void ***)&m->metadata_props, &m->n_metadata_props, m->n_metadata_props, err);
    if (status != PS_OK) {
        ps_onnx_edit_free_message(e, &entry->base);
        return status;
    }
    m->metadata_props[m->n_metadata_props - 1] = entry;
    return PS_OK;
}

static Onnx__OperatorSetIdProto *find_opset(const ps_onnx_edit *e, const char *domain) {
    const Onnx__ModelProto *m = (const Onnx__ModelProto *)e->proto.message;
    for (size_t i = 0; i < m->n_opset_import; i++)
        if (strcmp(ps_onnx_domain(m->opset_import[i]->domain), domain) == 0) return m->opset_import[i];
    return NULL;
}

int64_t ps_onnx_edit_opset(const ps_onnx_edit *e, const char *domain) {
    const Onnx__OperatorSetIdProto *o = find_opset(e, domain);
    return o ? o->version : 0;
}

static ps_status add_opset(ps_onnx_edit *e, const char *domain, int64_t version, ps_error *err) {
    Onnx__ModelProto *m = (Onnx__ModelProto *)e->proto.message;
    Onnx__OperatorSetIdProto *o = ps_alloc(e->alloc, sizeof *o);
    if (!o) return PS_FAIL_NOMEM(err, "an opset");
    onnx__operator_set_id_proto__init(o);
    ps_status status = set_text(e, &o->domain, domain, err);
    if (status == PS_OK)
        status = ps_onnx_edit_open_gap(e, (void ***)&m->opset_import, &m->n_opset_import, m->n_opset_import, err);
    if (status != PS_OK) {
        ps_onnx_edit_free_message(e, &o->base);
        return status;
    }
    o->has_version = 1;
    o->version = version;
    m->opset_import[m->n_opset_import - 1] = o;
    return PS_OK;
}

/* Source: ONNX, docs/Versioning.md, the table of released versions. */
static int64_t oldest_ir(int64_t opset) {
    static const int8_t ir[] = { 3, 3, 4, 5, 6, 7, 7, 7, 8, 8, 8, 8, 9, 9, 10 }; /* of opset 7 … 21 */
    if (opset < 7) return 3;
    return opset > 21 ? 10 : ir[opset - 7];
}

ps_status ps_onnx_edit_set_opset(ps_onnx_edit *e, const char *domain, int64_t version, ps_error *err) {
    Onnx__ModelProto *m = (Onnx__ModelProto *)e->proto.message;
    Onnx__OperatorSetIdProto *o = find_opset(e, domain);
    if (!o) return add_opset(e, domain, version, err);
    o->has_version = 1;
    o->version = version;
    if (*domain || m->ir_version >= oldest_ir(version)) return PS_OK;
    m->has_ir_version = 1;
    m->ir_version = oldest_ir(version);
    return PS_OK;
}

uint64_t ps_onnx_edit_digest(const ps_onnx_edit *e) {
    return ps_onnx_proto_digest(&e->proto);
}
