/* Model-local functions (FunctionProto): a call is replaced by the function's nodes while the graph is built.
 *
 * A call opens a scope: the names of the body stand for values of the graph that holds the call (the host), its inputs
 * for what the call passes, its outputs for the call's outputs. Values and nodes of the body are named
 * "<call>/<name>". Subgraphs of the body have names of their own, and see the scope instead of the graphs around the
 * call.
 * Source: onnx docs, IR.md ("Functions"), and the comments of FunctionProto in onnx.proto. */
#include <string.h>

#include "base/str.h"
#include "onnx/onnx_int.h"
#include "ops/ops.h"

/* What a local name stands for. */
typedef struct binding {
    ps_value *value; /* NULL: an input that the call omits */
    bool given;      /* an output of the call that no node of the body has defined yet */
} binding;

/* ---- fields that schemas before 1.16 lack: protobuf-c's descriptors tell ---- */

static const void *field_of(const ProtobufCMessage *m, const char *name, size_t *ret_count) {
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);
    if (!f) return NULL;
    const char *base = (const char *)m;
    if (ret_count) *ret_count = *(const size_t *)(const void *)(base + f->quantifier_offset);
    return base + f->offset;
}

static const char *overload_of(const ProtobufCMessage *m) {
    const void *field = field_of(m, "overload", NULL);
    return field ? ps_onnx_text(*(char *const *)field) : "";
}

static const Onnx__AttributeProto *default_of(const Onnx__FunctionProto *f, const char *name) {
    size_t n = 0;
    const void *field = field_of(&f->base, "attribute_proto", &n);
    if (!field) return NULL;
    Onnx__AttributeProto *const *defaults = *(Onnx__AttributeProto *const *const *)field;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(ps_onnx_text(defaults[i]->name), name) == 0) return defaults[i];
    }
    return NULL;
}

/* ---- the functions of a model ---- */

/* "domain::name:overload", in the arena. */
static const char *function_key(ps_arena *arena, const char *domain, const char *name, const char *overload) {
    return ps_arena_printf(arena, "%s::%s%s%s", ps_onnx_domain(domain), name, overload[0] ? ":" : "", overload);
}

ps_status ps_onnx_functions_read(ps_onnx_import *im, ps_error *err) {
    for (size_t i = 0; i < im->model->n_functions; i++) {
        Onnx__FunctionProto *f = im->model->functions[i];
        const char *name = ps_onnx_text(f->name), *overload = overload_of(&f->base);
        PS_FAIL_IF(!name[0], err, FORMAT, "a function of the model has no name");
        PS_TRY(ps_onnx_check_name("function name", name, err));
        PS_TRY(ps_onnx_check_name("function's domain", ps_onnx_text(f->domain), err));
        PS_TRY(ps_onnx_check_name("function's overload", overload, err));
        const char *key = function_key(&im->root->arena, f->domain, name, overload);
        if (!key) return PS_FAIL_NOMEM(err, "the functions");
        PS_FAIL_IF(ps_map_get(&im->functions, key), err, FORMAT, "the function '%.200s' is defined twice", key);
        if (!ps_map_put(&im->functions, key, f)) return PS_FAIL_NOMEM(err, "the functions");
    }
    return PS_OK;
}

/* Domains whose operators are those of their specification, whatever a model says. */
static bool is_standard(const char *domain) {
    return !domain[0] || strcmp(domain, "ai.onnx.ml") == 0 || strcmp(domain, "com.microsoft") == 0;
}

ps_status ps_onnx_function_find(ps_onnx_import *im, const Onnx__NodeProto *n, const Onnx__FunctionProto **ret,
                                ps_error *err) {
    *ret = NULL;
    if (!im->functions.size) return PS_OK;
    const char *domain = ps_onnx_domain(n->domain);
    if (is_standard(domain) && ps_ops_find(n->op_type, domain, ps_onnx_opset(im, domain))) return PS_OK;
    ps_str key;
    ps_str_init(&key, im->alloc);
    const char *overload = overload_of(&n->base);
    ps_str_printf(&key, "%s::%s%s%s", domain, n->op_type, overload[0] ? ":" : "", overload);
    ps_status status = key.failed ? PS_FAIL_NOMEM(err, "a call") : PS_OK;
    if (status == PS_OK) *ret = ps_map_get(&im->functions, key.data);
    ps_str_release(&key);
    return status;
}

int64_t ps_onnx_opset(const ps_onnx_import *im, const char *domain) {
    if (im->call) {
        const Onnx__FunctionProto *f = im->call->function;
        for (size_t i = 0; i < f->n_opset_import; i++) {
            if (strcmp(ps_onnx_domain(f->opset_import[i]->domain), domain) == 0) return f->opset_import[i]->version;
        }
    }
    return ps_graph_opset(im->root, domain);
}

/* ---- names ---- */

static bool in_host(const ps_onnx_import *im, const ps_graph *g) {
    return im->call && im->call->host == g;
}

ps_value *ps_onnx_lookup(const ps_onnx_import *im, const ps_graph *g, const char *name, bool *ret_omitted) {
    *ret_omitted = false;
    if (!im->call) return ps_graph_lookup(g, name);
    for (; g && g != im->call->host; g = g->parent ? g->parent->graph : NULL) {
        ps_value *v = ps_graph_find(g, name);
        if (v) return v;
    }
    const binding *b = ps_map_get(&im->call->names, name);
    if (b && !b->value) *ret_omitted = true;
    return b ? b->value : NULL;
}

ps_value *ps_onnx_find_output(const ps_onnx_import *im, const ps_graph *g, const char *name) {
    if (!in_host(im, g)) return ps_graph_find(g, name);
    const binding *b = ps_map_get(&im->call->names, name);
    return b ? b->value : NULL;
}

static ps_status bind(ps_onnx_import *im, ps_onnx_call *call, const char *name, ps_value *v, bool given,
                      ps_error *err) {
    binding *b = PS_ARENA_NEW(&im->root->arena, binding);
    if (b) *b = (binding) { v, given };
    if (!b || !ps_map_put(&call->names, name, b)) return PS_FAIL_NOMEM(err, "a call");
    return PS_OK;
}

/* "<call>/<name>", or NULL (a fresh name) where that is long or taken. */
static const char *inner_name(const ps_onnx_import *im, const ps_graph *g, const char *name, char *buf, size_t size) {
    if (strlen(im->call->prefix) + strlen(name) + 2 > size) return NULL;
    ps_snprintf(buf, size, "%s/%s", im->call->prefix, name);
    return ps_graph_lookup(g, buf) ? NULL : buf;
}

const char *ps_onnx_node_name(const ps_onnx_import *im, const ps_graph *g, const char *name, char *buf, size_t size) {
    if (!im->call || !name[0] || strlen(im->call->prefix) + strlen(name) + 2 > size) return name;
    ps_snprintf(buf, size, "%s/%s", im->call->prefix, name);
    return buf;
}

ps_status ps_onnx_define(ps_onnx_import *im, ps_graph *g, const char *name, const char *label, ps_value **ret,
                         ps_error *err) {
    PS_TRY(ps_onnx_check_name("value name", name, err));
    if (!in_host(im, g)) {
        PS_FAIL_IF(ps_graph_find(g, name), err, FORMAT, "%s: the name '%s' is already defined in graph '%s'", label,
                   name, g->name);
        return ps_graph_add_value(g, name, ret, err);
    }
    char buf[PS_ONNX_LABEL];
    binding *b = ps_map_get(&im->call->names, name);
    if (b && b->given) {
        b->given = false;
        *ret = b->value;
        return PS_OK;
    }
    PS_FAIL_IF(b, err, FORMAT, "%s: the name '%s' is already defined in the function", label, name);
    PS_TRY(ps_graph_add_value(g, inner_name(im, g, name, buf, sizeof buf), ret, err));
    return bind(im, im->call, name, *ret, false, err);
}

/* ---- attributes ---- */

static const Onnx__AttributeProto *passed(const Onnx__NodeProto *call, const char *name) {
    for (size_t i = 0; i < call->n_attribute; i++) {
        if (strcmp(ps_onnx_text(call->attribute[i]->name), name) == 0) return call->attribute[i];
    }
    return NULL;
}

const Onnx__AttributeProto *ps_onnx_attr_follow(const ps_onnx_import *im, const Onnx__AttributeProto *a,
                                                ps_onnx_call **ret_scope) {
    ps_onnx_call *scope = im->call;
    while (a && scope && ps_onnx_text(a->ref_attr_name)[0]) {
        const Onnx__AttributeProto *next = passed(scope->node, a->ref_attr_name);
        if (!next) {
            a = default_of(scope->function, a->ref_attr_name);
            break;
        }
        a = next;
        scope = scope->outer;
    }
    *ret_scope = scope;
    return a;
}

/* ---- a call ---- */

static ps_status bind_inputs(ps_onnx_import *im, ps_onnx_call *call, ps_value *const *in, const char *label,
                             ps_error *err) {
    const Onnx__FunctionProto *f = call->function;
    PS_FAIL_IF(call->node->n_input > f->n_input, err, FORMAT, "%s: %zu inputs, the function takes %zu", label,
               call->node->n_input, f->n_input);
    for (size_t i = 0; i < f->n_input; i++) {
        const char *name = ps_onnx_text(f->input[i]);
        PS_FAIL_IF(!name[0], err, FORMAT, "%s: input %zu of the function has no name", label, i);
        PS_FAIL_IF(ps_map_get(&call->names, name), err, FORMAT, "%s: the function has two inputs '%.100s'", label,
                   name);
        PS_TRY(bind(im, call, name, i < call->node->n_input ? in[i] : NULL, false, err));
    }
    return PS_OK;
}

static ps_status bind_outputs(ps_onnx_import *im, ps_onnx_call *call, ps_value *const *out, const char *label,
                              ps_error *err) {
    const Onnx__FunctionProto *f = call->function;
    PS_FAIL_IF(call->node->n_output > f->n_output, err, FORMAT, "%s: %zu outputs, the function gives %zu", label,
               call->node->n_output, f->n_output);
    for (size_t i = 0; i < call->node->n_output; i++) {
        /* An output that is an input, or listed twice, becomes a copy behind the body. */
        if (out[i] && !ps_map_get(&call->names, ps_onnx_text(f->output[i])))
            PS_TRY(bind(im, call, ps_onnx_text(f->output[i]), out[i], true, err));
    }
    return PS_OK;
}

static ps_status finish_outputs(ps_onnx_import *im, ps_onnx_call *call, ps_value *const *out, const char *label,
                                ps_error *err) {
    for (size_t i = 0; i < call->node->n_output; i++) {
        const char *name = ps_onnx_text(call->function->output[i]);
        binding *b = out[i] ? ps_map_get(&call->names, name) : NULL;
        if (!b) continue;
        PS_FAIL_IF(b->given, err, FORMAT, "%s: no node of the function makes its output '%.100s'", label, name);
        if (b->value == out[i]) continue;
        PS_FAIL_IF(!b->value, err, FORMAT, "%s: output '%.100s' is an input that the call omits", label, name);
        PS_TRY(ps_graph_add_node(call->host, NULL, "Identity", "", "", &b->value, 1, &out[i], 1, NULL, err));
    }
    return PS_OK;
}

static ps_status expand(ps_onnx_import *im, ps_onnx_call *call, ps_value *const *in, ps_value *const *out,
                        const char *label, ps_error *err) {
    PS_TRY(bind_inputs(im, call, in, label, err));
    PS_TRY(bind_outputs(im, call, out, label, err));
    im->call = call;
    ps_status status = ps_onnx_import_nodes(im, call->function->node, call->function->n_node, call->host, err);
    im->call = call->outer;
    return status == PS_OK ? finish_outputs(im, call, out, label, err) : status;
}

ps_status ps_onnx_function_call(ps_onnx_import *im, const Onnx__FunctionProto *f, const Onnx__NodeProto *n, ps_graph *g,
                                ps_value *const *in, ps_value *const *out, const char *label, ps_error *err) {
    char prefix[PS_ONNX_LABEL];
    const char *own = ps_onnx_text(n->name);
    for (size_t i = 0; i < n->n_output && !own[0]; i++)
        own = n->output[i];
    ps_onnx_call call = { .outer = im->call, .function = f, .node = n, .host = g };
    call.prefix = ps_onnx_node_name(im, g, own, prefix, sizeof prefix);
    call.depth = im->call ? im->call->depth + 1 : 1;
    PS_FAIL_IF(call.depth > PS_ONNX_MAX_CALL_DEPTH, err, LIMIT,
               "%s: calls of functions nest deeper than %d levels; a function may not call itself", label,
               PS_ONNX_MAX_CALL_DEPTH);
    ps_map_init(&call.names, im->alloc);
    ps_status status = expand(im, &call, in, out, label, err);
    ps_map_release(&call.names);
    if (status != PS_OK && status != PS_NO_MEMORY && call.depth == 1)
        ps_error_prefix(err, "function '%.60s' called by %.100s", ps_onnx_text(f->name), label);
    return status;
}
