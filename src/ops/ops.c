/* ops.c - the list of families, look-up, attribute parsing and running of reference kernels. */
#include "ops/ops.h"

#include "ops/families.h"

static const ps_op_family *const families[] = {
#define PS_LIST_FAMILY(name) &ps_ops_##name,
    PS_OP_FAMILIES(PS_LIST_FAMILY)
#undef PS_LIST_FAMILY
        NULL,
};

const ps_op_family *const *ps_ops_families(size_t *ret_n) {
    *ret_n = sizeof families / sizeof families[0] - 1;
    return families;
}

const ps_op *ps_ops_find(const char *name, const char *domain, int64_t version) {
    const ps_op *best = NULL;
    if (strcmp(domain, "ai.onnx") == 0) domain = "";
    for (const ps_op_family *const *f = families; *f; f++) {
        for (size_t i = 0; i < (*f)->n; i++) {
            const ps_op *op = &(*f)->ops[i];
            if (op->since > version || op->name[0] != name[0] || strcmp(op->name, name) != 0) continue;
            if (strcmp(op->domain ? op->domain : "", domain) != 0) continue;
            if (!best || op->since > best->since) best = op;
        }
    }
    return best;
}

bool ps_op_has_attr(const ps_op *op, const char *name) {
    for (const ps_attr_def *d = op->attrs; d && d->name; d++) {
        if (strcmp(d->name, name) == 0) return true;
    }
    return false;
}

/* ---- attributes ---- */

static void store_default(const ps_attr_def *d, void *field) {
    switch (d->type) {
    case PS_ATTR_INT: *(int64_t *)field = d->def_i; break;
    case PS_ATTR_FLOAT: *(float *)field = d->def_f; break;
    case PS_ATTR_STRING: *(const char **)field = d->def_s; break;
    default: break; /* lists, tensors and graphs: zero */
    }
}

static void store_attr(const ps_attr *a, void *field) {
    switch (a->type) {
    case PS_ATTR_INT: *(int64_t *)field = a->u.i; break;
    case PS_ATTR_FLOAT: *(float *)field = a->u.f; break;
    case PS_ATTR_STRING: *(const char **)field = a->u.s; break;
    case PS_ATTR_TENSOR: *(ps_tensor **)field = a->u.tensor; break;
    case PS_ATTR_GRAPH: *(ps_graph **)field = a->u.graph; break;
    case PS_ATTR_INTS: *(ps_ints *)field = (ps_ints) { a->n ? a->u.ints : NULL, a->n }; break;
    case PS_ATTR_FLOATS: *(ps_floats *)field = (ps_floats) { a->n ? a->u.floats : NULL, a->n }; break;
    case PS_ATTR_STRINGS: *(ps_strings *)field = (ps_strings) { a->n ? a->u.strings : NULL, a->n }; break;
    default: break;
    }
}

static const char *attr_type_name(ps_attr_type t) {
    static const char *const names[] = { "none", "int",    "float",   "string", "tensor", "graph",
                                         "ints", "floats", "strings", "graphs", "tensors" };
    return (size_t)t < sizeof names / sizeof names[0] ? names[t] : "?";
}

/* What exporters add beside an operator's attributes is ignored; but a graph would be part of the model. */
static ps_status refuse_graphs(const ps_node *node, const ps_op *op, ps_error *err) {
    char label[160];
    for (uint32_t i = 0; i < node->n_attrs; i++) {
        const ps_attr *a = &node->attrs[i];
        if (a->type != PS_ATTR_GRAPH && a->type != PS_ATTR_GRAPHS) continue;
        PS_FAIL_IF(!ps_op_has_attr(op, a->name), err, FORMAT, "%s: the operator takes no graph as attribute '%s'",
                   ps_node_label(node, label, sizeof label), a->name);
    }
    return PS_OK;
}

static ps_status parse_attrs(ps_node *node, const ps_op *op, ps_error *err) {
    char label[160];
    node->params = NULL;
    PS_TRY(refuse_graphs(node, op, err));
    if (!op->params_size) return PS_OK;
    char *params = ps_arena_alloc(&node->graph->root->arena, op->params_size);
    if (!params) return PS_FAIL_NOMEM(err, "operator attributes");
    for (const ps_attr_def *d = op->attrs; d && d->name; d++) {
        const ps_attr *a = ps_node_attr(node, d->name);
        if (!a) {
            PS_FAIL_IF(d->flags & PS_ATTR_REQUIRED, err, FORMAT, "%s: attribute '%s' is missing",
                       ps_node_label(node, label, sizeof label), d->name);
            store_default(d, params + d->offset);
            continue;
        }
        PS_FAIL_IF(a->type != d->type, err, FORMAT, "%s: attribute '%s' is of kind %s, must be %s",
                   ps_node_label(node, label, sizeof label), d->name, attr_type_name(a->type), attr_type_name(d->type));
        store_attr(a, params + d->offset);
    }
    node->params = params;
    return op->prepare ? op->prepare(node, err) : PS_OK;
}

/* ---- resolving ---- */

const ps_op *ps_ops_row(const ps_node *node, int64_t *ret_version) {
    const char *domain = strcmp(node->domain, "ai.onnx") == 0 ? "" : node->domain;
    int64_t version = ps_graph_opset(node->graph, domain);
    if (version <= 0) version = 1; /* files older than the import list, and our own domain */
    if (ret_version) *ret_version = version;
    if (node->op && strcmp(node->op->name, node->op_type) == 0 &&
        strcmp(node->op->domain ? node->op->domain : "", domain) == 0) {
        return node->op;
    }
    return ps_ops_find(node->op_type, domain, version);
}

static ps_status find_row(ps_node *node, ps_error *err) {
    node->op = ps_ops_row(node, NULL);
    return node->op ? PS_OK : ps_ops_refuse(node, err);
}

/* An arity of PS_VARIADIC is no limit. Inputs and outputs below the minimum must be there, not only listed. */
static ps_status check_arity(const ps_node *node, ps_error *err) {
    char label[160];
    const ps_op *op = node->op;
    ps_node_label(node, label, sizeof label);
    PS_FAIL_IF(node->n_in < op->min_in || (op->max_in != PS_VARIADIC && node->n_in > op->max_in), err, FORMAT,
               "%s: %u inputs, the operator takes %d to %d", label, node->n_in, op->min_in, op->max_in);
    PS_FAIL_IF(node->n_out < op->min_out || (op->max_out != PS_VARIADIC && node->n_out > op->max_out), err, FORMAT,
               "%s: %u outputs, the operator gives %d to %d", label, node->n_out, op->min_out, op->max_out);
    for (uint32_t i = 0; i < op->min_in; i++) {
        PS_FAIL_IF(!node->in[i], err, FORMAT, "%s: input %u is required", label, i);
    }
    bool list = op->max_in == PS_VARIADIC && !(op->traits & PS_OP_CONTROL) && strcmp(node->domain, "polestar") != 0;
    for (uint32_t i = op->min_in; i < node->n_in && list; i++) {
        PS_FAIL_IF(!node->in[i], err, FORMAT, "%s: input %u is omitted from a list of inputs", label, i);
    }
    for (uint32_t i = 0; i < op->min_out && op->max_out != PS_VARIADIC; i++) {
        PS_FAIL_IF(!node->out[i], err, FORMAT, "%s: output %u is required", label, i);
    }
    return PS_OK;
}

ps_status ps_ops_resolve_node(ps_node *node, ps_error *err) {
    PS_TRY(find_row(node, err));
    PS_TRY(check_arity(node, err));
    return parse_attrs(node, node->op, err);
}

static ps_status resolve_graph(ps_graph *g, ps_error *err) {
    for (ps_node *n = g->first; n; n = n->next)
        PS_TRY(ps_ops_resolve_node(n, err));
    return PS_OK;
}

ps_status ps_ops_resolve(ps_graph *root, ps_error *err) {
    PS_TRY(resolve_graph(root, err));
    for (ps_graph *g = root->all_graphs; g; g = g->next_all)
        PS_TRY(resolve_graph(g, err));
    return PS_OK;
}

/* ---- running ---- */

static ps_status allocate(ps_tensor *t, ps_alloc_state *alloc, const char *label, ps_error *err) {
    int64_t n;
    size_t bytes;
    PS_FAIL_IF(!ps_shape_elements(&t->shape, &n) || !ps_dtype_bytes(t->dtype, n, &bytes), err, LIMIT,
               "%s: the size of an output overflows", label);
    void *data = ps_alloc_data(alloc, bytes);
    if (!data) return PS_FAIL(err, NO_MEMORY, "%s: out of memory for %zu bytes", label, bytes);
    memset(data, 0, bytes);
    t->data = t->owned = data;
    t->bytes = bytes;
    return PS_OK;
}

ps_status ps_kernel_output(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, ps_error *err) {
    char label[160];
    ps_tensor *t = i < ctx->n_out ? ctx->out[i] : NULL;
    if (!t) return PS_OK;
    ps_node_label(ctx->node, label, sizeof label);
    if (t->data) {
        PS_FAIL_IF(t->dtype != dtype || !ps_shape_equal(&t->shape, shape), err, INTERNAL,
                   "%s: output %zu was allocated with another type or shape", label, i);
        return PS_OK;
    }
    t->dtype = dtype;
    t->shape = *shape;
    return allocate(t, ctx->alloc, label, err);
}

/* Every output is there and empty. Kernels would go through the dims beside the 0, which may be beyond all counting. */
static bool nothing_to_make(const ps_node *node, ps_tensor *const *out) {
    bool any = false;
    for (uint32_t i = 0; i < node->n_out; i++) {
        if (!out[i]) continue;
        if (!out[i]->data || ps_tensor_count(out[i])) return false;
        any = true;
    }
    return any;
}

ps_status ps_ops_run_ref(const ps_node *node, const ps_tensor *const *in, ps_tensor *const *out, ps_alloc_state *alloc,
                         int threads, ps_error *err) {
    char label[160];
    ps_node_label(node, label, sizeof label);
    PS_FAIL_IF(!node->op || !node->op->ref, err, UNSUPPORTED, "%s: has no reference kernel", label);
    for (uint32_t i = 0; i < node->n_out; i++) {
        if (!out[i] || out[i]->data || out[i]->dtype == PS_DTYPE_UNDEFINED || !ps_shape_fixed(&out[i]->shape)) continue;
        PS_TRY(allocate(out[i], alloc, label, err));
    }
    if (nothing_to_make(node, out)) return PS_OK;
    ps_kernel_ctx ctx = { node, node->params, in, node->n_in, out, node->n_out, alloc, threads > 0 ? threads : 1 };
    PS_TRY(node->op->ref(&ctx, err));
    for (uint32_t i = 0; i < node->n_out; i++) {
        PS_FAIL_IF(out[i] && !out[i]->data, err, INTERNAL, "%s: the kernel made no output %u", label, i);
    }
    return PS_OK;
}

/* ---- the table as text ---- */

static void print_count(ps_str *out, int min, int max) {
    if (max == PS_VARIADIC)
        ps_str_printf(out, "%d…", min);
    else if (min == max)
        ps_str_printf(out, "%d", min);
    else
        ps_str_printf(out, "%d–%d", min, max);
}

static void print_row(const ps_op *op, ps_str *out) {
    const char *domain = op->domain ? op->domain : "";
    ps_str_printf(out, "| %s%s%s | %d | ", domain, domain[0] ? "." : "", op->name, op->since);
    print_count(out, op->min_in, op->max_in);
    ps_str_append(out, " | ");
    print_count(out, op->min_out, op->max_out);
    ps_str_append(out, " |");
    for (const ps_attr_def *d = op->attrs; d && d->name; d++) {
        ps_str_printf(out, "%s %s%s", d == op->attrs ? "" : ",", d->name,
                      d->flags & PS_ATTR_REQUIRED ? " (required)" : "");
    }
    ps_str_append(out, " |\n");
}

void ps_ops_print_table(ps_str *out) {
    for (const ps_op_family *const *f = families; *f; f++) {
        ps_str_printf(
            out, "## %s\n\n| operator | since | inputs | outputs | attributes |\n| --- | --- | --- | --- | --- |\n",
            (*f)->name);
        for (size_t i = 0; i < (*f)->n; i++)
            print_row(&(*f)->ops[i], out);
        ps_str_char(out, '\n');
    }
}
