/* parse.c - reads the text form of graphs: a recursive-descent parser over one NUL-terminated text.
 *
 * Names may be used before the line that defines them (the graph is sorted at the end), so values are made at first
 * mention: in the innermost graph unless an enclosing one knows the name already. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "base/vec.h"
#include "graph/graph.h"
#include "graph/text_int.h"
#include "tensor/convert.h"

typedef PS_VEC(ps_value *) value_vec;

static ps_status parse_graph(ps_parser *p, ps_graph *g);

/* ---- values ---- */

static ps_status mention(ps_parser *p, ps_graph *g, const char *name, ps_value **ret) {
    *ret = ps_graph_lookup(g, name);
    return *ret ? PS_OK : ps_graph_add_value(g, name, ret, p->err);
}

/* The value that a line of g defines: one of g itself, whatever enclosing graphs hold. */
static ps_status define(ps_parser *p, ps_graph *g, const char *name, ps_value **ret) {
    *ret = ps_graph_find(g, name);
    return *ret ? PS_OK : ps_graph_add_value(g, name, ret, p->err);
}

static ps_status parse_typed(ps_parser *p, ps_graph *g, ps_value **ret) {
    char *name;
    PS_TRY(ps__parse_name(p, &name));
    if (strcmp(name, "_") == 0 && !p->quoted) {
        *ret = NULL;
        return PS_OK;
    }
    PS_TRY(define(p, g, name, ret));
    if (!ps__parse_take(p, ':')) return PS_OK;
    return ps__parse_type(p, &(*ret)->dtype, &(*ret)->shape);
}

static ps_status parse_constant(ps_parser *p, ps_value *v) {
    ps_tensor *t = NULL;
    PS_FAIL_IF(v->constant || v->producer, p->err, FORMAT, "line %d: '%s' is defined twice", p->line, v->name);
    PS_TRY(ps__parse_content(p, v->dtype, &v->shape, &t));
    ps_value_set_constant(v, t);
    ps_tensor_release(t);
    return PS_OK;
}

static ps_status parse_inputs(ps_parser *p, ps_graph *g) {
    PS_TRY(ps__parse_expect(p, '('));
    while (!ps__parse_take(p, ')')) {
        ps_value *v;
        if (g->n_inputs) PS_TRY(ps__parse_expect(p, ','));
        PS_TRY(parse_typed(p, g, &v));
        PS_FAIL_IF(!v, p->err, FORMAT, "line %d: an input needs a name", p->line);
        PS_TRY(ps_graph_add_input(g, v, p->err));
        v->declared_dtype = v->dtype;
        v->declared_shape = v->shape;
        if (ps__parse_take(p, '=')) PS_TRY(parse_constant(p, v));
    }
    return PS_OK;
}

static ps_status parse_output_names(ps_parser *p, value_vec *names, ps_graph *g) {
    PS_TRY(ps__parse_expect(p, '('));
    while (!ps__parse_take(p, ')')) {
        char *name;
        if (names->size) PS_TRY(ps__parse_expect(p, ','));
        PS_TRY(ps__parse_name(p, &name));
        /* Whether it is an outer value is known at the end of the body: keep the text as a pointer in the list. */
        if (!ps_vec_push(p->alloc, names, (ps_value *)(void *)name)) return PS_FAIL_NOMEM(p->err, "a graph");
    }
    return PS_OK;
}

/* ---- nodes ---- */

static ps_status parse_argument(ps_parser *p, ps_graph *g, ps_value **ret) {
    char *name;
    PS_TRY(ps__parse_name(p, &name));
    *ret = NULL;
    if (strcmp(name, "_") == 0 && !p->quoted) return PS_OK;
    char next = ps__parse_peek(p);
    if (p->quoted || (next != '[' && next != '{')) return mention(p, g, name, ret);
    ps_tensor *t;
    PS_TRY(ps__parse_tensor(p, name, &t));
    ps_status status = ps_graph_add_constant(g, NULL, t, ret, p->err);
    ps_tensor_release(t);
    return status;
}

static ps_status parse_arguments(ps_parser *p, ps_graph *g, value_vec *in) {
    PS_TRY(ps__parse_expect(p, '('));
    while (!ps__parse_take(p, ')')) {
        ps_value *v;
        if (in->size) PS_TRY(ps__parse_expect(p, ','));
        PS_TRY(parse_argument(p, g, &v));
        if (!ps_vec_push(p->alloc, in, v)) return PS_FAIL_NOMEM(p->err, "a node");
    }
    return PS_OK;
}

static ps_status parse_subgraph(ps_parser *p, ps_node *n, ps_graph **ret) {
    PS_TRY(ps_graph_new_sub(n->graph, n, "", ret, p->err));
    return parse_graph(p, *ret);
}

static ps_status parse_graph_list(ps_parser *p, ps_node *n, ps_attr *a) {
    ps_graph *graphs[64];
    a->type = PS_ATTR_GRAPHS;
    do {
        PS_FAIL_IF(a->n == 64 || !ps__parse_word(p, "graph"), p->err, FORMAT, "line %d: expected a list of graphs",
                   p->line);
        PS_TRY(parse_subgraph(p, n, &graphs[a->n++]));
    } while (ps__parse_take(p, ','));
    a->u.graphs = ps_arena_memdup(&p->root->arena, graphs, a->n * sizeof *graphs);
    if (!a->u.graphs) return PS_FAIL_NOMEM(p->err, "an attribute");
    return ps__parse_expect(p, ']');
}

static ps_status parse_attr(ps_parser *p, ps_node *n) {
    ps_attr a = { 0 };
    char *name;
    PS_TRY(ps__parse_name(p, &name));
    a.name = name;
    PS_TRY(ps__parse_expect(p, '='));
    if (ps__parse_word(p, "graph")) {
        a.type = PS_ATTR_GRAPH;
        PS_TRY(parse_subgraph(p, n, &a.u.graph));
        return ps_node_set_attr(n, &a, p->err);
    }
    bool list;
    PS_TRY(ps__parse_attr_value(p, &a, &list));
    if (list) PS_TRY(parse_graph_list(p, n, &a));
    ps_status status = ps_node_set_attr(n, &a, p->err);
    if (a.type == PS_ATTR_TENSOR) ps_tensor_release(a.u.tensor);
    return status;
}

static ps_status parse_attrs(ps_parser *p, ps_node *n) {
    if (!ps__parse_take(p, '{')) return PS_OK;
    while (!ps__parse_take(p, '}')) {
        if (n->n_attrs) PS_TRY(ps__parse_expect(p, ','));
        PS_TRY(parse_attr(p, n));
    }
    return PS_OK;
}

static ps_status parse_node_name(ps_parser *p, ps_node *n) {
    char *name;
    if (!ps__parse_take(p, '@')) return PS_OK;
    PS_TRY(ps__parse_name(p, &name));
    n->name = name;
    return PS_OK;
}

static ps_status parse_operator(ps_parser *p, ps_graph *g, const value_vec *out, value_vec *in) {
    char *op;
    const char *domain = "";
    PS_TRY(ps__parse_name(p, &op));
    char *dot = strrchr(op, '.');
    if (dot) {
        *dot = 0;
        domain = op;
        op = dot + 1;
    }
    ps_node *n;
    PS_TRY(parse_arguments(p, g, in));
    PS_TRY(ps_graph_add_node(g, NULL, op, domain, NULL, in->data, in->size, out->data, out->size, &n, p->err));
    PS_TRY(parse_attrs(p, n));
    return parse_node_name(p, n);
}

static ps_status parse_line(ps_parser *p, ps_graph *g) {
    value_vec out = { 0 }, in = { 0 };
    ps_status status = PS_OK;
    do {
        ps_value *v;
        PS_TRY_OUT(parse_typed(p, g, &v));
        if (!ps_vec_push(p->alloc, &out, v)) PS_FAIL_OUT(p->err, NO_MEMORY, "out of memory for a node");
    } while (ps__parse_take(p, ','));
    PS_TRY_OUT(ps__parse_expect(p, '='));
    char next = ps__parse_peek_raw(p);
    if (next == '{' || next == '#' || ps__parse_word(p, "random")) {
        if (out.size != 1 || !out.data[0]) PS_FAIL_OUT(p->err, FORMAT, "line %d: a constant needs one name", p->line);
        status = parse_constant(p, out.data[0]);
    } else {
        status = parse_operator(p, g, &out, &in);
    }
out:
    ps_vec_release(p->alloc, &out);
    ps_vec_release(p->alloc, &in);
    return status;
}

static ps_status parse_opsets(ps_parser *p) {
    if (!ps__parse_word(p, "opset")) return PS_OK;
    do {
        char *domain = (char *)"";
        int64_t version;
        if (!isdigit((unsigned char)ps__parse_peek(p))) PS_TRY(ps__parse_name(p, &domain));
        PS_TRY(ps__parse_int(p, &version));
        PS_TRY(ps_graph_set_opset(p->root, domain, version, p->err));
    } while (ps__parse_take(p, ','));
    return PS_OK;
}

static ps_status parse_body(ps_parser *p, ps_graph *g, value_vec *names) {
    PS_TRY(parse_inputs(p, g));
    PS_FAIL_IF(!ps__parse_take(p, '-') || !ps__parse_take(p, '>'), p->err, FORMAT, "line %d: expected '->'", p->line);
    PS_TRY(parse_output_names(p, names, g));
    if (g == p->root) PS_TRY(parse_opsets(p));
    PS_TRY(ps__parse_expect(p, '{'));
    while (!ps__parse_take(p, '}'))
        PS_TRY(parse_line(p, g));
    for (size_t i = 0; i < names->size; i++) {
        ps_value *v = ps_graph_lookup(g, (const char *)(void *)names->data[i]);
        PS_FAIL_IF(!v, p->err, FORMAT, "line %d: nothing defines output '%s'", p->line,
                   (const char *)(void *)names->data[i]);
        PS_TRY(ps_graph_add_output(g, v, p->err));
    }
    return PS_OK;
}

/* After the word "graph". */
static ps_status parse_graph(ps_parser *p, ps_graph *g) {
    if (ps__parse_peek(p) != '(') {
        char *name;
        PS_TRY(ps__parse_name(p, &name));
        g->name = name;
    }
    value_vec names = { 0 };
    ps_status status = parse_body(p, g, &names);
    ps_vec_release(p->alloc, &names);
    return status;
}

ps_status ps_graph_parse(ps_alloc_state *alloc, const char *text, ps_graph **ret, ps_error *err) {
    ps_parser p = { .alloc = alloc, .at = text, .line = 1, .err = err };
    PS_TRY(ps_graph_new(alloc, "", &p.root, err));
    ps_status status;
    if (!ps__parse_word(&p, "graph")) PS_FAIL_OUT(err, FORMAT, "line %d: expected 'graph'", p.line);
    PS_TRY_OUT(parse_graph(&p, p.root));
    if (ps__parse_peek(&p)) PS_FAIL_OUT(err, FORMAT, "line %d: text after the graph", p.line);
    PS_TRY_OUT(ps_graph_sort(p.root, err));
    PS_TRY_OUT(ps_graph_verify(p.root, err));
    *ret = p.root;
    return PS_OK;
out:
    ps_graph_free(p.root);
    return status;
}
