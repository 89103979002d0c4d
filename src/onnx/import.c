/* GraphProto → ps_graph, subgraphs included. A graph is built in the order that lets every name be known before it is
 * read: initializers, inputs, the outputs of all nodes, then the nodes themselves (a file's node order need not be
 * topological, and a subgraph may read what its surroundings define further down). */
#include <string.h>

#include "base/str.h"
#include "onnx/onnx_int.h"
#include "ops/ops.h"

const char *ps_onnx_text(const char *s) {
    return s ? s : "";
}

const char *ps_onnx_domain(const char *s) {
    return !s || strcmp(s, "ai.onnx") == 0 ? "" : s;
}

/* Bytes of the UTF-8 sequence at p, 0 if it is none (RFC 3629; the NUL ends the string). */
static size_t utf8_step(const unsigned char *p) {
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
    }
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool surrogate = p[0] == 0xed && p[1] > 0x9f, beyond = p[0] == 0xf4 && p[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : n;
}

ps_status ps_onnx_check_name(const char *what, const char *name, ps_error *err) {
    const unsigned char *p = (const unsigned char *)name;
    while (*p) {
        size_t n = utf8_step(p);
        PS_FAIL_IF(n == 0, err, FORMAT, "a %s is not valid UTF-8", what);
        PS_FAIL_IF(*p < 0x20 || *p == 0x7f, err, FORMAT, "a %s contains the control character 0x%02x", what, *p);
        p += n;
    }
    return PS_OK;
}

/* "Conv 'features.0'", or by the first output where a node has no name. */
static void node_text(const Onnx__NodeProto *n, char *buf, size_t size) {
    const char *name = ps_onnx_text(n->name), *op = ps_onnx_text(n->op_type);
    if (name[0]) {
        ps_snprintf(buf, size, "%.60s '%.100s'", op, name);
    } else {
        ps_snprintf(buf, size, "%.60s producing '%.100s'", op, n->n_output ? n->output[0] : "");
    }
}

static bool is_constant(const Onnx__NodeProto *n) {
    return strcmp(n->op_type, "Constant") == 0 && !ps_onnx_domain(n->domain)[0];
}

/* Takes over the caller's reference to tensor, also on failure. */
static ps_status add_constant(ps_onnx_import *im, ps_graph *g, const char *name, const char *label, ps_tensor *tensor,
                              ps_error *err) {
    ps_value *v;
    ps_status status = ps_onnx_define(im, g, name, label, &v, err);
    if (status == PS_OK) {
        ps_value_set_constant(v, tensor);
        v->dtype = tensor->dtype;
        v->shape = tensor->shape;
    }
    ps_tensor_release(tensor);
    return status;
}

/* ---- initializers ---- */

static ps_status import_initializer(ps_onnx_import *im, const Onnx__TensorProto *t, ps_graph *g, ps_error *err) {
    char label[PS_ONNX_LABEL];
    const char *name = ps_onnx_text(t->name);
    PS_FAIL_IF(!name[0], err, FORMAT, "an initializer of graph '%s' has no name", g->name);
    PS_TRY(ps_onnx_check_name("initializer name", name, err));
    ps_snprintf(label, sizeof label, "initializer '%.120s'", name);
    ps_tensor *tensor;
    PS_TRY(ps_onnx_tensor_decode(im->proto, &im->external, t, label, &tensor, err));
    ps_status status = ps_onnx_pool_intern(&im->pool, &tensor, label, err);
    if (status != PS_OK) {
        ps_tensor_release(tensor);
        return status;
    }
    return add_constant(im, g, name, label, tensor, err);
}

static ps_status import_sparse(ps_onnx_import *im, const Onnx__SparseTensorProto *s, ps_graph *g, ps_error *err) {
    char label[PS_ONNX_LABEL];
    const char *name = s->values ? ps_onnx_text(s->values->name) : "";
    PS_FAIL_IF(!name[0], err, FORMAT, "a sparse initializer of graph '%s' has no name", g->name);
    PS_TRY(ps_onnx_check_name("initializer name", name, err));
    ps_snprintf(label, sizeof label, "sparse initializer '%.120s'", name);
    ps_tensor *tensor;
    PS_TRY(ps_onnx_sparse_decode(im->proto, &im->external, s, label, &im->sparse_budget, &tensor, err));
    ps_status status = ps_onnx_pool_intern(&im->pool, &tensor, label, err);
    if (status != PS_OK) {
        ps_tensor_release(tensor);
        return status;
    }
    return add_constant(im, g, name, label, tensor, err);
}

/* ---- inputs, outputs, value_info ---- */

/* An initializer that is listed as an input too (always so before IR 4, "has a default" since) is a constant here. */
static ps_status check_default(const ps_value *v, const Onnx__ValueInfoProto *p, ps_graph *g, const char *label,
                               ps_error *err) {
    ps_onnx_type t;
    PS_TRY(ps_onnx_type_read(g, p->type, label, &t, err));
    PS_FAIL_IF(t.dtype != PS_DTYPE_UNDEFINED && t.dtype != v->dtype, err, TYPE,
               "%s: is declared %s, its initializer is %s", label, ps_dtype_name(t.dtype), ps_dtype_name(v->dtype));
    return PS_OK;
}

static bool is_tensor(const Onnx__TypeProto *type) {
    return type && type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
}

static ps_status import_input(ps_onnx_import *im, const Onnx__ValueInfoProto *p, ps_graph *g, ps_error *err) {
    char label[PS_ONNX_LABEL];
    const char *name = ps_onnx_text(p->name);
    PS_FAIL_IF(!name[0], err, FORMAT, "an input of graph '%s' has no name", g->name);
    PS_TRY(ps_onnx_check_name("input name", name, err));
    ps_snprintf(label, sizeof label, "input '%.120s'", name);
    ps_value *v = ps_graph_find(g, name);
    if (v && v->constant) return check_default(v, p, g, label, err);

    ps_onnx_type t;
    PS_TRY(ps_onnx_define(im, g, name, label, &v, err));
    PS_TRY(ps_onnx_type_read(g, p->type, label, &t, err));
    v->dtype = t.dtype;
    v->elem = t.elem;
    v->shape = t.shape;
    if (g == im->root) {
        /* Subgraph inputs take their type from the node that feeds them. */
        PS_FAIL_IF(v->dtype == PS_DTYPE_UNDEFINED && !is_tensor(p->type), err, UNSUPPORTED,
                   "%s: is %s, which no operator takes", label, ps_onnx_type_kind(p->type));
        PS_FAIL_IF(v->dtype == PS_DTYPE_UNDEFINED, err, FORMAT, "%s: has no element type", label);
    }
    v->declared_dtype = v->dtype;
    v->declared_shape = v->shape;
    return ps_graph_add_input(g, v, err);
}

static ps_status declare(ps_graph *g, ps_value *v, const Onnx__ValueInfoProto *p, const char *label, ps_error *err) {
    ps_onnx_type t;
    PS_TRY(ps_onnx_type_read(g, p->type, label, &t, err));
    v->declared_dtype = t.dtype;
    v->declared_shape = t.shape;
    if (v->elem == PS_DTYPE_UNDEFINED) v->elem = t.elem;
    return PS_OK;
}

/* A subgraph may return a value of its surroundings; the graph then returns a copy of it, which is its own. */
static ps_status own_value(ps_graph *g, const char *name, ps_value **v, ps_error *err) {
    if ((*v)->graph == g) return PS_OK;
    ps_value *copy, *from = *v;
    PS_TRY(ps_graph_add_value(g, ps_graph_find(g, name) ? NULL : name, &copy, err));
    PS_TRY(ps_graph_add_node(g, NULL, "Identity", "", "", &from, 1, &copy, 1, NULL, err));
    *v = copy;
    return PS_OK;
}

static ps_status import_output(ps_onnx_import *im, const Onnx__ValueInfoProto *p, ps_graph *g, ps_error *err) {
    char label[PS_ONNX_LABEL];
    const char *name = ps_onnx_text(p->name);
    PS_FAIL_IF(!name[0], err, FORMAT, "an output of graph '%s' has no name", g->name);
    PS_TRY(ps_onnx_check_name("output name", name, err));
    ps_snprintf(label, sizeof label, "output '%.120s'", name);
    bool omitted;
    ps_value *v = ps_onnx_lookup(im, g, name, &omitted);
    PS_FAIL_IF(!v, err, FORMAT, "%s: is not defined by any node, input or initializer", label);
    if (g == im->root) {
        PS_FAIL_IF(v->n_outputs, err, FORMAT, "%s: is listed twice", label);
        PS_FAIL_IF(p->type && p->type->value_case == ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE, err, UNSUPPORTED,
                   "%s: is %s, which no operator makes", label, ps_onnx_type_kind(p->type));
    }
    PS_TRY(own_value(g, name, &v, err));
    PS_TRY(declare(g, v, p, label, err));
    return ps_graph_add_output(g, v, err);
}

static ps_status import_value_info(const Onnx__ValueInfoProto *p, ps_graph *g, ps_error *err) {
    ps_value *v = ps_graph_find(g, ps_onnx_text(p->name));
    if (!v || v->is_input || v->n_outputs) return PS_OK;
    char label[PS_ONNX_LABEL];
    ps_snprintf(label, sizeof label, "value_info of '%.120s'", p->name);
    return declare(g, v, p, label, err);
}

/* ---- nodes ---- */

static ps_status check_node(ps_onnx_import *im, const Onnx__NodeProto *n, ps_graph *g, const char *label,
                            ps_error *err) {
    PS_FAIL_IF(!ps_onnx_text(n->op_type)[0], err, FORMAT, "node '%.100s' of graph '%s' has no operator",
               ps_onnx_text(n->name), g->name);
    PS_TRY(ps_onnx_check_name("node name", ps_onnx_text(n->name), err));
    PS_TRY(ps_onnx_check_name("operator name", n->op_type, err));
    PS_TRY(ps_onnx_check_name("domain", ps_onnx_text(n->domain), err));
    const char *domain = ps_onnx_domain(n->domain);
    PS_FAIL_IF(strcmp(domain, "polestar") == 0, err, UNSUPPORTED,
               "%s: operators of the domain 'polestar' are made by the optimiser and stand in no file", label);
    PS_FAIL_IF(ps_onnx_opset(im, domain) <= 0, err, FORMAT, "%s: the model imports no opset of domain '%s'", label,
               domain[0] ? domain : "ai.onnx");
    size_t named = 0;
    for (size_t i = 0; i < n->n_output; i++)
        named += n->output[i][0] != '\0';
    PS_FAIL_IF(named == 0, err, FORMAT, "%s: has no outputs", label);
    return PS_OK;
}

static ps_status import_constant(ps_onnx_import *im, const Onnx__NodeProto *n, ps_graph *g, const char *label,
                                 ps_error *err) {
    PS_FAIL_IF(n->n_input || n->n_output != 1, err, FORMAT,
               "%s: a Constant has no inputs and one output, this has %zu and %zu", label, n->n_input, n->n_output);
    ps_tensor *tensor;
    PS_TRY(ps_onnx_constant_value(im, n, label, &tensor, err));
    return add_constant(im, g, n->output[0], label, tensor, err);
}

/* First visit: the values that the node defines. */
static ps_status define_outputs(ps_onnx_import *im, const Onnx__NodeProto *n, ps_graph *g, ps_error *err) {
    char label[PS_ONNX_LABEL];
    ps_value *v;
    node_text(n, label, sizeof label);
    PS_TRY(check_node(im, n, g, label, err));
    PS_FAIL_IF(++im->nodes > im->limits.nodes, err, LIMIT,
               "%s: the model has more than %zu nodes, counting those of called functions", label, im->limits.nodes);
    if (!im->call) PS_TRY(ps_onnx_info_count(im, n, err));
    if (is_constant(n)) return import_constant(im, n, g, label, err);
    for (size_t i = 0; i < n->n_output; i++) {
        if (n->output[i][0]) PS_TRY(ps_onnx_define(im, g, n->output[i], label, &v, err));
    }
    return PS_OK;
}

static ps_status resolve_values(const ps_onnx_import *im, const ps_graph *g, const Onnx__NodeProto *n,
                                const char *label, ps_value **in, ps_value **out, ps_error *err) {
    bool omitted;
    for (size_t i = 0; i < n->n_input; i++) {
        if (!n->input[i][0]) continue;
        in[i] = ps_onnx_lookup(im, g, n->input[i], &omitted);
        PS_FAIL_IF(!in[i] && !omitted, err, FORMAT,
                   "%s: input '%.120s' is not defined by any node, input or initializer", label, n->input[i]);
    }
    for (size_t i = 0; i < n->n_output; i++) {
        if (n->output[i][0]) out[i] = ps_onnx_find_output(im, g, n->output[i]);
    }
    return PS_OK;
}

static ps_status add_attrs(ps_onnx_import *im, const Onnx__NodeProto *n, ps_node *node, const char *label,
                           ps_error *err) {
    const char *domain = node->domain;
    /* The body of a function has opsets of its own. */
    int64_t version = ps_onnx_opset(im, domain);
    if (version != ps_graph_opset(im->root, domain)) node->op = ps_ops_find(node->op_type, domain, version);
    for (size_t i = 0; i < n->n_attribute; i++)
        PS_TRY(ps_onnx_import_attr(im, node, n->attribute[i], label, err));
    return PS_OK;
}

static ps_status make_node(ps_onnx_import *im, const Onnx__NodeProto *n, ps_graph *g, ps_value **in, ps_value **out,
                           const char *label, ps_error *err) {
    char name[PS_ONNX_LABEL];
    const Onnx__FunctionProto *f;
    ps_node *node;
    PS_TRY(resolve_values(im, g, n, label, in, out, err));
    PS_TRY(ps_onnx_function_find(im, n, &f, err));
    if (f) return ps_onnx_function_call(im, f, n, g, in, out, label, err);
    PS_TRY(ps_graph_add_node(g, NULL, n->op_type, ps_onnx_domain(n->domain),
                             ps_onnx_node_name(im, g, ps_onnx_text(n->name), name, sizeof name), in, n->n_input, out,
                             n->n_output, &node, err));
    return add_attrs(im, n, node, label, err);
}

/* Second visit: the node, its attributes and their subgraphs. */
static ps_status import_node(ps_onnx_import *im, const Onnx__NodeProto *n, ps_graph *g, ps_error *err) {
    if (is_constant(n)) return PS_OK;
    char label[PS_ONNX_LABEL];
    size_t total = n->n_input + n->n_output, bytes;
    node_text(n, label, sizeof label);
    if (ps_mul_overflow_size(total, sizeof(ps_value *), &bytes)) return PS_FAIL_NOMEM(err, "a node");
    ps_value **values = ps_alloc_zero(im->alloc, bytes);
    if (!values) return PS_FAIL_NOMEM(err, "a node");
    ps_status status = make_node(im, n, g, values, values + n->n_input, label, err);
    ps_free(im->alloc, values);
    return status;
}

ps_status ps_onnx_import_nodes(ps_onnx_import *im, Onnx__NodeProto *const *nodes, size_t n, ps_graph *g,
                               ps_error *err) {
    for (size_t i = 0; i < n; i++)
        PS_TRY(define_outputs(im, nodes[i], g, err));
    for (size_t i = 0; i < n; i++)
        PS_TRY(import_node(im, nodes[i], g, err));
    return PS_OK;
}

/* ---- graphs ---- */

ps_status ps_onnx_import_graph(ps_onnx_import *im, const Onnx__GraphProto *p, ps_graph *g, ps_error *err) {
    for (size_t i = 0; i < p->n_initializer; i++)
        PS_TRY(import_initializer(im, p->initializer[i], g, err));
    for (size_t i = 0; i < p->n_sparse_initializer; i++)
        PS_TRY(import_sparse(im, p->sparse_initializer[i], g, err));
    for (size_t i = 0; i < p->n_input; i++)
        PS_TRY(import_input(im, p->input[i], g, err));
    PS_TRY(ps_onnx_import_nodes(im, p->node, p->n_node, g, err));
    for (size_t i = 0; i < p->n_output; i++)
        PS_TRY(import_output(im, p->output[i], g, err));
    for (size_t i = 0; i < p->n_value_info; i++)
        PS_TRY(import_value_info(p->value_info[i], g, err));
    return PS_OK;
}
