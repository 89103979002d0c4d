/* AttributeProto → ps_attr. Payloads go into the graph's arena; tensors through the pool, so that equal ones are
 * shared. */
#include <string.h>

#include "base/str.h"
#include "onnx/onnx_int.h"

typedef Onnx__AttributeProto attr_proto;

enum { /* values of AttributeProto.AttributeType, given as numbers: the enum of an older schema lacks some */
       KIND_FLOAT = 1,
       KIND_INT = 2,
       KIND_STRING = 3,
       KIND_TENSOR = 4,
       KIND_GRAPH = 5,
       KIND_FLOATS = 6,
       KIND_INTS = 7,
       KIND_STRINGS = 8,
       KIND_TENSORS = 9,
       KIND_GRAPHS = 10,
       KIND_SPARSE = 11,
       KIND_TYPE = 13,
};

/* IR 1 had no type field: the field that is set tells. */
static int attr_kind(const attr_proto *a) {
    if (a->has_type && a->type != 0) return (int)a->type;
    if (a->has_f) return KIND_FLOAT;
    if (a->has_i) return KIND_INT;
    if (a->has_s) return KIND_STRING;
    if (a->t) return KIND_TENSOR;
    if (a->g) return KIND_GRAPH;
    if (a->n_floats) return KIND_FLOATS;
    if (a->n_ints) return KIND_INTS;
    if (a->n_strings) return KIND_STRINGS;
    if (a->n_tensors) return KIND_TENSORS;
    if (a->n_graphs) return KIND_GRAPHS;
    if (a->sparse_tensor) return KIND_SPARSE;
    return 0;
}

static ps_status decode_new(ps_onnx_import *im, const Onnx__TensorProto *t, const char *label, ps_tensor **ret,
                            ps_error *err) {
    ps_tensor *tensor;
    PS_TRY(ps_onnx_tensor_decode(im->proto, &im->external, t, label, &tensor, err));
    ps_status status = ps_onnx_pool_intern(&im->pool, &tensor, label, err);
    if (status != PS_OK) {
        ps_tensor_release(tensor);
        return status;
    }
    *ret = tensor;
    return PS_OK;
}

/* A function's tensors are asked for by every call of it, and decoded once. */
static ps_status decode(ps_onnx_import *im, const Onnx__TensorProto *t, const char *label, ps_tensor **ret,
                        ps_error *err) {
    PS_FAIL_IF(!t, err, FORMAT, "%s: a tensor attribute holds no tensor", label);
    if (!im->call) return decode_new(im, t, label, ret, err);
    char address[32];
    ps_snprintf(address, sizeof address, "%p", (const void *)t);
    ps_tensor *known = ps_map_get(&im->decoded, address);
    if (!known) {
        PS_TRY(decode_new(im, t, label, &known, err));
        const char *key = ps_arena_strdup(&im->root->arena, address);
        bool kept = key && ps_map_put(&im->decoded, key, known); /* the pool holds it as long */
        *ret = known;
        if (kept) return PS_OK;
        ps_tensor_release(known);
        return PS_FAIL_NOMEM(err, "the functions");
    }
    *ret = ps_tensor_retain(known);
    return PS_OK;
}

static ps_status set_tensors(ps_onnx_import *im, ps_node *node, const attr_proto *a, ps_attr *attr, const char *label,
                             ps_error *err) {
    ps_status status = PS_OK;
    size_t n = 0;
    attr->u.tensors = ps_arena_array(&im->root->arena, a->n_tensors, sizeof *attr->u.tensors);
    if (!attr->u.tensors && a->n_tensors) return PS_FAIL_NOMEM(err, "an attribute");
    attr->n = a->n_tensors;
    while (status == PS_OK && n < a->n_tensors) {
        status = decode(im, a->tensors[n], label, &attr->u.tensors[n], err);
        if (status == PS_OK) n++;
    }
    if (status == PS_OK) status = ps_node_set_attr(node, attr, err);
    while (n)
        ps_tensor_release(attr->u.tensors[--n]); /* the node holds them now, or nobody does */
    return status;
}

static ps_status set_tensor(ps_onnx_import *im, ps_node *node, const attr_proto *a, ps_attr *attr, const char *label,
                            ps_error *err) {
    PS_TRY(decode(im, a->t, label, &attr->u.tensor, err));
    ps_status status = ps_node_set_attr(node, attr, err);
    ps_tensor_release(attr->u.tensor);
    return status;
}

static ps_status read_subgraph(ps_onnx_import *im, ps_node *node, const Onnx__GraphProto *p, const char *label,
                               ps_graph **ret, ps_error *err) {
    PS_FAIL_IF(!p, err, FORMAT, "%s: a graph attribute holds no graph", label);
    PS_FAIL_IF(im->depth >= im->limits.depth, err, LIMIT, "%s: subgraphs nest deeper than %d levels", label,
               im->limits.depth);
    PS_TRY(ps_onnx_check_name("graph name", ps_onnx_text(p->name), err));
    PS_TRY(ps_graph_new_sub(node->graph, node, ps_onnx_text(p->name), ret, err));
    im->depth++;
    PS_TRY(ps_onnx_import_graph(im, p, *ret, err));
    im->depth--;
    return PS_OK;
}

static ps_status read_graphs(ps_onnx_import *im, ps_node *node, const attr_proto *a, const char *label, ps_attr *attr,
                             ps_error *err) {
    attr->u.graphs = ps_arena_array(&im->root->arena, a->n_graphs, sizeof *attr->u.graphs);
    if (!attr->u.graphs && a->n_graphs) return PS_FAIL_NOMEM(err, "an attribute");
    attr->n = a->n_graphs;
    for (size_t i = 0; i < a->n_graphs; i++) {
        PS_TRY(read_subgraph(im, node, a->graphs[i], label, &attr->u.graphs[i], err));
    }
    return PS_OK;
}

static ps_status read_strings(ps_arena *arena, const attr_proto *a, ps_attr *attr, ps_error *err) {
    attr->u.strings = ps_arena_array(arena, a->n_strings, sizeof *attr->u.strings);
    bool ok = attr->u.strings || !a->n_strings;
    attr->n = a->n_strings;
    for (size_t i = 0; ok && i < a->n_strings; i++) {
        attr->u.strings[i] =
            ps_arena_strndup(arena, a->strings[i].len ? (const char *)a->strings[i].data : "", a->strings[i].len);
        ok = attr->u.strings[i] != NULL;
    }
    return ok ? PS_OK : PS_FAIL_NOMEM(err, "an attribute");
}

static ps_status read_list(ps_arena *arena, const void *data, size_t n, size_t size, void **ret, ps_error *err) {
    /* At least one byte: a list attribute's pointer is never NULL, even when the list is empty. */
    char *p = ps_arena_alloc(arena, n ? n * size : 1); /* n * size: an array of this very size is in memory already */
    if (!p) return PS_FAIL_NOMEM(err, "an attribute");
    if (n) memcpy(p, data, n * size);
    *ret = p;
    return PS_OK;
}

static ps_status read_plain(ps_arena *arena, const attr_proto *a, int kind, ps_attr *attr, ps_error *err) {
    void *list = NULL;
    switch (kind) {
    case KIND_FLOAT: attr->u.f = a->f; return PS_OK;
    case KIND_INT: attr->u.i = a->i; return PS_OK;
    case KIND_STRING:
        attr->n = a->s.len;
        attr->u.s = ps_arena_text(arena, a->s.data, a->s.len);
        return attr->u.s ? PS_OK : PS_FAIL_NOMEM(err, "an attribute");
    case KIND_FLOATS:
        PS_TRY(read_list(arena, a->floats, a->n_floats, sizeof *a->floats, &list, err));
        attr->n = a->n_floats;
        attr->u.floats = list;
        return PS_OK;
    case KIND_INTS:
        PS_TRY(read_list(arena, a->ints, a->n_ints, sizeof *a->ints, &list, err));
        attr->n = a->n_ints;
        attr->u.ints = list;
        return PS_OK;
    default: return read_strings(arena, a, attr, err);
    }
}

/* A type becomes the list of its kind and, of a container, the kind of its elements. */
static ps_status read_type(ps_onnx_import *im, const attr_proto *a, const char *label, ps_attr *attr, ps_error *err) {
    ps_onnx_type type;
    PS_FAIL_IF(!a->tp, err, FORMAT, "%s: holds no type", label);
    PS_TRY(ps_onnx_type_read(im->root, a->tp, label, &type, err));
    attr->n = 2;
    attr->u.ints = ps_arena_array(&im->root->arena, 2, sizeof *attr->u.ints);
    if (!attr->u.ints) return PS_FAIL_NOMEM(err, "an attribute");
    attr->u.ints[0] = type.dtype;
    attr->u.ints[1] = type.elem;
    return PS_OK;
}

static ps_attr_type attr_type(int kind) {
    static const ps_attr_type types[] = { PS_ATTR_NONE,    PS_ATTR_FLOAT,   PS_ATTR_INT,    PS_ATTR_STRING,
                                          PS_ATTR_TENSOR,  PS_ATTR_GRAPH,   PS_ATTR_FLOATS, PS_ATTR_INTS,
                                          PS_ATTR_STRINGS, PS_ATTR_TENSORS, PS_ATTR_GRAPHS };
    if (kind == KIND_TYPE) return PS_ATTR_INTS;
    return kind > 0 && kind <= KIND_GRAPHS ? types[kind] : PS_ATTR_NONE;
}

static ps_status check_name(const attr_proto *a, const char *label, ps_error *err) {
    const char *name = ps_onnx_text(a->name);
    PS_FAIL_IF(!name[0], err, FORMAT, "%s: an attribute has no name", label);
    return ps_onnx_check_name("attribute name", name, err);
}

static ps_status check_attr(const ps_node *node, const char *name, const attr_proto *a, const char *label,
                            ps_error *err) {
    int kind = attr_kind(a);
    PS_FAIL_IF(ps_onnx_text(a->ref_attr_name)[0], err, FORMAT,
               "%s: attribute '%s' refers to a function's attribute outside of a function", label, name);
    PS_FAIL_IF(kind == 0, err, FORMAT, "%s: attribute '%s' has no value", label, name);
    PS_FAIL_IF(attr_type(kind) == PS_ATTR_NONE, err, UNSUPPORTED,
               "%s: attribute '%s' is of kind %d, which is not supported", label, name, kind);
    PS_FAIL_IF(ps_node_attr(node, name), err, FORMAT, "%s: attribute '%s' is given twice", label, name);
    return PS_OK;
}

static ps_status set_attr(ps_onnx_import *im, ps_node *node, const char *name, const attr_proto *a, const char *label,
                          ps_error *err) {
    int kind = attr_kind(a);
    char where[PS_ONNX_LABEL];
    ps_snprintf(where, sizeof where, "%s attribute '%.60s'", label, name);
    ps_arena *arena = &im->root->arena;
    ps_attr attr = { .name = ps_arena_strdup(arena, name), .type = attr_type(kind) };
    if (!attr.name) return PS_FAIL_NOMEM(err, "an attribute");
    switch (kind) {
    case KIND_TENSOR: return set_tensor(im, node, a, &attr, where, err);
    case KIND_TENSORS: return set_tensors(im, node, a, &attr, where, err);
    case KIND_GRAPH: PS_TRY(read_subgraph(im, node, a->g, where, &attr.u.graph, err)); break;
    case KIND_GRAPHS: PS_TRY(read_graphs(im, node, a, where, &attr, err)); break;
    case KIND_TYPE: PS_TRY(read_type(im, a, where, &attr, err)); break;
    default: PS_TRY(read_plain(arena, a, kind, &attr, err)); break;
    }
    return ps_node_set_attr(node, &attr, err);
}

ps_status ps_onnx_import_attr(ps_onnx_import *im, ps_node *node, const Onnx__AttributeProto *given, const char *label,
                              ps_error *err) {
    ps_onnx_call *scope, *here = im->call;
    const attr_proto *a = ps_onnx_attr_follow(im, given, &scope);
    PS_TRY(check_name(given, label, err));
    if (!a) return PS_OK; /* the operator's own default holds */
    PS_TRY(check_attr(node, given->name, a, label, err));
    im->call = scope; /* a subgraph that a call passes sees what its caller sees */
    ps_status status = set_attr(im, node, given->name, a, label, err);
    im->call = here;
    return status;
}

/* ---- Constant ---- */

/* A zeroed tensor of rank 0, or of rank 1 with n elements. */
static ps_status new_constant(ps_onnx_import *im, ps_dtype dtype, bool list, size_t n, ps_tensor **ret, ps_error *err) {
    int64_t dim = (int64_t)n;
    ps_shape shape = ps_shape_make(list ? 1 : 0, &dim);
    return ps_tensor_new(im->alloc, dtype, &shape, ret, err);
}

static ps_status number_tensor(ps_onnx_import *im, ps_dtype dtype, bool list, const void *data, size_t n,
                               ps_tensor **ret, ps_error *err) {
    PS_TRY(new_constant(im, dtype, list, n, ret, err));
    if (n) memcpy((*ret)->data, data, (*ret)->bytes);
    return PS_OK;
}

static ps_status string_tensor(ps_onnx_import *im, bool list, const ProtobufCBinaryData *s, size_t n, ps_tensor **ret,
                               ps_error *err) {
    PS_TRY(new_constant(im, PS_DTYPE_STRING, list, n, ret, err));
    for (size_t i = 0; i < n; i++) {
        ps_status status = ps_tensor_set_string(*ret, i, (const char *)s[i].data, s[i].len, err);
        if (status == PS_OK) continue;
        ps_tensor_release(*ret);
        return status;
    }
    return PS_OK;
}

static ps_status constant_attr(ps_onnx_import *im, const char *name, const attr_proto *a, const char *label,
                               ps_tensor **ret, ps_error *err) {
    int kind = attr_kind(a);
    if (strcmp(name, "value") == 0 && kind == KIND_TENSOR && a->t) return decode(im, a->t, label, ret, err);
    if (strcmp(name, "sparse_value") == 0 && kind == KIND_SPARSE && a->sparse_tensor) {
        return ps_onnx_sparse_decode(im->proto, &im->external, a->sparse_tensor, label, &im->sparse_budget, ret, err);
    }
    if (strcmp(name, "value_float") == 0 && kind == KIND_FLOAT) {
        return number_tensor(im, PS_DTYPE_F32, false, &a->f, 1, ret, err);
    }
    if (strcmp(name, "value_floats") == 0 && kind == KIND_FLOATS) {
        return number_tensor(im, PS_DTYPE_F32, true, a->floats, a->n_floats, ret, err);
    }
    if (strcmp(name, "value_int") == 0 && kind == KIND_INT) {
        return number_tensor(im, PS_DTYPE_I64, false, &a->i, 1, ret, err);
    }
    if (strcmp(name, "value_ints") == 0 && kind == KIND_INTS) {
        return number_tensor(im, PS_DTYPE_I64, true, a->ints, a->n_ints, ret, err);
    }
    if (strcmp(name, "value_string") == 0 && kind == KIND_STRING) return string_tensor(im, false, &a->s, 1, ret, err);
    if (strcmp(name, "value_strings") == 0 && kind == KIND_STRINGS) {
        return string_tensor(im, true, a->strings, a->n_strings, ret, err);
    }
    return PS_FAIL(err, FORMAT, "%s: attribute '%.60s' of kind %d is no constant's value", label, name, kind);
}

ps_status ps_onnx_constant_value(ps_onnx_import *im, const Onnx__NodeProto *n, const char *label, ps_tensor **ret,
                                 ps_error *err) {
    PS_FAIL_IF(n->n_attribute != 1, err, FORMAT, "%s: a Constant has exactly one value, this has %zu", label,
               n->n_attribute);
    const char *name = ps_onnx_text(n->attribute[0]->name);
    ps_onnx_call *scope;
    const attr_proto *a = ps_onnx_attr_follow(im, n->attribute[0], &scope);
    PS_FAIL_IF(!a, err, FORMAT, "%s: the attribute '%.60s' that it refers to is not given", label,
               n->attribute[0]->ref_attr_name);
    ps_tensor *tensor;
    PS_TRY(constant_attr(im, name, a, label, &tensor, err));
    ps_status status = ps_onnx_pool_intern(&im->pool, &tensor, label, err);
    if (status != PS_OK) {
        ps_tensor_release(tensor);
        return status;
    }
    *ret = tensor;
    return PS_OK;
}
