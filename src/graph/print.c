/* print.c - the text form of graphs; docs/graph-text.md has the grammar, parse.c the reader. */
#include <ctype.h>
#include <math.h>

#include "graph/graph.h"

#define MAX_INLINE_ELEMENTS 32

static void print_graph(const ps_graph *g, ps_str *out, int indent);

static bool bare(const char *name) {
    if (!name[0] || strcmp(name, "_") == 0) return false;
    for (const char *p = name; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("_./$%-", *p)) return false;
    }
    return true;
}

static void print_quoted(ps_str *out, const char *s, size_t n) {
    ps_str_char(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') ps_str_char(out, '\\');
        if (c < 32 || c == 127)
            ps_str_printf(out, "\\x%02x", c);
        else
            ps_str_char(out, (char)c);
    }
    ps_str_char(out, '"');
}

static void print_name(ps_str *out, const char *name) {
    if (bare(name))
        ps_str_append(out, name);
    else
        print_quoted(out, name, strlen(name));
}

static void print_dim(ps_str *out, const ps_graph *g, int64_t dim) {
    const char *symbol = ps_graph_symbol_name(g, dim);
    if (dim >= 0)
        ps_str_printf(out, "%lld", (long long)dim);
    else if (symbol)
        print_name(out, symbol);
    else
        ps_str_char(out, '?');
}

static void print_type(ps_str *out, const ps_graph *g, ps_dtype dtype, const ps_shape *shape) {
    ps_str_append(out, dtype == PS_DTYPE_UNDEFINED ? "?" : ps_dtype_name(dtype));
    if (shape->rank < 0) {
        ps_str_append(out, "[...]");
        return;
    }
    ps_str_char(out, '[');
    for (int i = 0; i < shape->rank; i++) {
        if (i) ps_str_char(out, ',');
        print_dim(out, g, shape->dims[i]);
    }
    ps_str_char(out, ']');
}

/* A float always shows a point, an exponent or a word, so that it is read back as a float. */
static void print_float(ps_str *out, double v, int digits) {
    char buf[40];
    ps_snprintf(buf, sizeof buf, "%.*g", digits, v);
    ps_str_append(out, buf);
    if (isfinite(v) && !strpbrk(buf, ".e")) ps_str_append(out, ".0");
}

static void print_element(ps_str *out, const ps_tensor *t, size_t i) {
    double v = 0;
    if (t->dtype == PS_DTYPE_STRING) {
        const ps_string *s = (const ps_string *)t->data + i;
        print_quoted(out, s->data ? s->data : "", s->size);
    } else if (t->dtype == PS_DTYPE_I64) {
        ps_str_printf(out, "%lld", (long long)((const int64_t *)t->data)[i]);
    } else if (t->dtype == PS_DTYPE_U64) {
        ps_str_printf(out, "%llu", (unsigned long long)((const uint64_t *)t->data)[i]);
    } else if (!ps_tensor_get_double(t, i, &v)) {
        ps_str_char(out, '?');
    } else if (t->dtype == PS_DTYPE_F64) {
        ps_str_printf(out, "%.17g", v);
    } else {
        ps_str_printf(out, "%.9g", v);
    }
}

static void print_content(ps_str *out, const ps_tensor *t) {
    size_t n = ps_tensor_count(t);
    if (n > MAX_INLINE_ELEMENTS || t->dtype == PS_DTYPE_C64 || t->dtype == PS_DTYPE_C128) {
        ps_str_printf(out, "#%016llx", (unsigned long long)ps_tensor_hash_once(t));
        return;
    }
    ps_str_char(out, '{');
    for (size_t i = 0; i < n; i++) {
        if (i) ps_str_append(out, ", ");
        print_element(out, t, i);
    }
    ps_str_char(out, '}');
}

static void print_tensor(ps_str *out, const ps_graph *g, const ps_tensor *t) {
    print_type(out, g, t->dtype, &t->shape);
    print_content(out, t);
}

static void print_list(ps_str *out, const ps_graph *g, const ps_attr *a, int indent) {
    static const char *const empty[] = { [PS_ATTR_INTS] = "ints",
                                         [PS_ATTR_FLOATS] = "floats",
                                         [PS_ATTR_STRINGS] = "strings",
                                         [PS_ATTR_GRAPHS] = "graphs",
                                         [PS_ATTR_TENSORS] = "tensors" };
    if (a->n == 0) ps_str_append(out, empty[a->type]);
    ps_str_char(out, '[');
    for (size_t i = 0; i < a->n; i++) {
        if (i) ps_str_char(out, ',');
        if (a->type == PS_ATTR_INTS)
            ps_str_printf(out, "%lld", (long long)a->u.ints[i]);
        else if (a->type == PS_ATTR_FLOATS)
            print_float(out, a->u.floats[i], 9);
        else if (a->type == PS_ATTR_STRINGS)
            print_quoted(out, a->u.strings[i], strlen(a->u.strings[i]));
        else if (a->type == PS_ATTR_TENSORS)
            print_tensor(out, g, a->u.tensors[i]);
        else
            print_graph(a->u.graphs[i], out, indent);
    }
    ps_str_char(out, ']');
}

static void print_attr(ps_str *out, const ps_graph *g, const ps_attr *a, int indent) {
    print_name(out, a->name);
    ps_str_char(out, '=');
    switch (a->type) {
    case PS_ATTR_NONE: ps_str_char(out, '?'); break;
    case PS_ATTR_INT: ps_str_printf(out, "%lld", (long long)a->u.i); break;
    case PS_ATTR_FLOAT: print_float(out, a->u.f, 9); break;
    case PS_ATTR_STRING: print_quoted(out, a->u.s, a->n); break;
    case PS_ATTR_TENSOR: print_tensor(out, g, a->u.tensor); break;
    case PS_ATTR_GRAPH: print_graph(a->u.graph, out, indent); break;
    default: print_list(out, g, a, indent); break;
    }
}

static void print_typed(ps_str *out, const ps_value *v) {
    print_name(out, v->name);
    if (v->dtype == PS_DTYPE_UNDEFINED && v->shape.rank < 0) return;
    ps_str_append(out, ": ");
    print_type(out, v->graph, v->dtype, &v->shape);
}

static void print_values(ps_str *out, ps_value *const *values, size_t n, bool typed) {
    for (size_t i = 0; i < n; i++) {
        if (i) ps_str_append(out, ", ");
        if (!values[i])
            ps_str_char(out, '_');
        else if (typed)
            print_typed(out, values[i]);
        else
            print_name(out, values[i]->name);
    }
}

static void print_node(const ps_node *n, ps_str *out, int indent) {
    ps_str_printf(out, "%*s", indent, "");
    print_values(out, n->out, n->n_out, true);
    ps_str_append(out, " = ");
    if (n->domain[0]) ps_str_printf(out, "%s.", n->domain);
    ps_str_append(out, n->op_type);
    ps_str_char(out, '(');
    print_values(out, n->in, n->n_in, false);
    ps_str_char(out, ')');
    for (uint32_t i = 0; i < n->n_attrs; i++) {
        ps_str_append(out, i ? ", " : " {");
        print_attr(out, n->graph, &n->attrs[i], indent);
    }
    if (n->n_attrs) ps_str_char(out, '}');
    if (n->name[0]) {
        ps_str_append(out, " @");
        print_name(out, n->name);
    }
    if (n->fused) ps_str_printf(out, "  # %s", n->fused);
    ps_str_char(out, '\n');
}

static void print_constant(const ps_value *v, ps_str *out, int indent) {
    ps_str_printf(out, "%*s", indent, "");
    print_typed(out, v);
    ps_str_append(out, " = ");
    print_content(out, v->constant);
    ps_str_char(out, '\n');
}

/* Prints the constants of g that are read and not yet printed; all_values is newest first, so they are gathered by id.
 */
static void print_constants(const ps_graph *g, ps_str *out, int indent) {
    const ps_graph *root = g->root;
    const ps_value **by_id = ps_alloc_zero(root->alloc, ((size_t)root->n_ids + 1) * sizeof *by_id);
    if (!by_id) {
        out->failed = true;
        return;
    }
    for (const ps_value *v = root->all_values; v; v = v->next_all) {
        if (v->graph == g && v->constant && !v->is_input && !v->producer && !ps_value_unused(v)) by_id[v->id] = v;
    }
    for (uint32_t i = 0; i < root->n_ids; i++) {
        if (by_id[i]) print_constant(by_id[i], out, indent);
    }
    ps_free(root->alloc, by_id);
}

static void print_opsets(const ps_graph *g, ps_str *out) {
    for (size_t i = 0; i < g->n_opsets; i++) {
        ps_str_append(out, i ? ", " : " opset ");
        if (g->opsets[i].domain[0]) {
            print_name(out, g->opsets[i].domain);
            ps_str_char(out, ' ');
        }
        ps_str_printf(out, "%lld", (long long)g->opsets[i].version);
    }
}

static void print_graph(const ps_graph *g, ps_str *out, int indent) {
    ps_str_append(out, "graph ");
    if (g->name[0]) {
        print_name(out, g->name);
        ps_str_char(out, ' ');
    }
    ps_str_char(out, '(');
    for (size_t i = 0; i < g->n_inputs; i++) {
        if (i) ps_str_append(out, ", ");
        print_typed(out, g->inputs[i]);
        if (!g->inputs[i]->constant) continue;
        ps_str_append(out, " = ");
        print_content(out, g->inputs[i]->constant);
    }
    ps_str_append(out, ") -> (");
    print_values(out, g->outputs, g->n_outputs, false);
    ps_str_char(out, ')');
    if (g == g->root) print_opsets(g, out);
    ps_str_append(out, " {\n");
    print_constants(g, out, indent + 2);
    for (const ps_node *n = g->first; n; n = n->next)
        print_node(n, out, indent + 2);
    ps_str_printf(out, "%*s}", indent, "");
}

void ps_graph_print(const ps_graph *root, ps_str *out) {
    print_graph(root, out, 0);
    ps_str_char(out, '\n');
}
