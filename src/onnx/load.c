/* ModelProto → ps_graph and ps_onnx_info: what holds for the model as a whole. */
#include <string.h>

#include "onnx/onnx_int.h"

static ps_status check_model(const Onnx__ModelProto *m, ps_error *err) {
    PS_FAIL_IF(!m->has_ir_version || m->ir_version <= 0, err, FORMAT, "this is no ONNX model: it has no IR version");
    PS_FAIL_IF(m->ir_version > PS_ONNX_NEWEST_IR, err, UNSUPPORTED,
               "the model has IR version %lld, %d is the newest known", (long long)m->ir_version, PS_ONNX_NEWEST_IR);
    PS_FAIL_IF(!m->graph, err, FORMAT, "the model has no graph");
    PS_FAIL_IF(!m->n_opset_import, err, FORMAT, "the model imports no opset");
    PS_FAIL_IF(m->graph->n_output == 0, err, FORMAT, "the model has no outputs");
    return PS_OK;
}

static ps_status add_opset(ps_onnx_import *im, const Onnx__OperatorSetIdProto *o, ps_error *err) {
    ps_graph *root = im->root;
    const char *domain = ps_onnx_domain(o->domain);
    const char *shown = domain[0] ? domain : "ai.onnx";
    PS_TRY(ps_onnx_check_name("domain", domain, err));
    PS_FAIL_IF(!o->has_version || o->version < 1, err, FORMAT, "the opset of domain '%.100s' has version %lld", shown,
               (long long)o->version);
    PS_FAIL_IF(!domain[0] && o->version > PS_ONNX_NEWEST_OPSET, err, UNSUPPORTED,
               "the model uses opset %lld, %d is the newest known", (long long)o->version, PS_ONNX_NEWEST_OPSET);
    for (size_t i = 0; i < root->n_opsets; i++) {
        if (strcmp(root->opsets[i].domain, domain) != 0) continue;
        PS_FAIL_IF(root->opsets[i].version != o->version, err, FORMAT,
                   "the model imports opsets %lld and %lld of domain '%.100s'", (long long)root->opsets[i].version,
                   (long long)o->version, shown);
        return PS_OK;
    }
    const char *copy = ps_arena_strdup(&root->arena, domain);
    if (!copy) return PS_FAIL_NOMEM(err, "the opsets");
    root->opsets[root->n_opsets++] = (ps_opset) { copy, o->version };
    if (!domain[0]) im->info->opset = o->version;
    return PS_OK;
}

static ps_status read_opsets(ps_onnx_import *im, ps_error *err) {
    size_t n = im->model->n_opset_import;
    im->root->opsets = ps_arena_array(&im->root->arena, n, sizeof *im->root->opsets);
    if (!im->root->opsets) return PS_FAIL_NOMEM(err, "the opsets");
    for (size_t i = 0; i < n; i++)
        PS_TRY(add_opset(im, im->model->opset_import[i], err));
    return PS_OK;
}

static ps_status build(ps_onnx_import *im, ps_error *err) {
    PS_TRY(check_model(im->model, err));
    PS_TRY(ps_onnx_check_name("graph name", ps_onnx_text(im->model->graph->name), err));
    PS_TRY(ps_graph_new(im->alloc, ps_onnx_text(im->model->graph->name), &im->root, err));
    PS_TRY(read_opsets(im, err));
    PS_TRY(ps_onnx_functions_read(im, err));
    PS_TRY(ps_onnx_info_begin(im, err));
    PS_TRY(ps_onnx_import_graph(im, im->model->graph, im->root, err));
    PS_TRY(ps_onnx_info_finish(im, err));
    PS_TRY(ps_graph_sort(im->root, err));
    return ps_graph_verify(im->root, err);
}

static ps_onnx_limits with_defaults(const ps_onnx_limits *given) {
    ps_onnx_limits l = *given;
    if (!l.nodes) l.nodes = PS_ONNX_DEFAULT_NODES;
    if (l.depth <= 0 || l.depth > PS_MAX_SUBGRAPH_DEPTH) l.depth = PS_MAX_SUBGRAPH_DEPTH;
    if (!l.tensor_bytes) l.tensor_bytes = ps_memory_total();
    if (!l.total_bytes) l.total_bytes = ps_memory_total();
    return l;
}

static ps_status import_model(const ps_onnx_proto *proto, const ps_onnx_source *from, ps_graph **ret_graph,
                              ps_onnx_info *ret_info, ps_error *err) {
    ps_onnx_info info = { 0 };
    ps_onnx_import im = {
        .alloc = proto->alloc,
        .proto = proto,
        .model = (const Onnx__ModelProto *)proto->message,
        .sparse_budget = PS_ONNX_MAX_SPARSE,
        .info = &info,
        .depth = 1,
        .limits = with_defaults(&from->limits),
    };
    ps_arena_init(&info.arena, im.alloc);
    ps_map_init(&im.op_counts, im.alloc);
    ps_map_init(&im.functions, im.alloc);
    ps_map_init(&im.decoded, im.alloc);
    ps_onnx_pool_init(&im.pool, im.alloc, &im.limits);
    ps_status status = ps_onnx_external_init(&im.external, im.alloc, from->path, err);
    if (status == PS_OK) status = build(&im, err);
    info.external = im.external.files.size > 0;
    ps_onnx_external_release(&im.external);
    ps_onnx_pool_release(&im.pool);
    ps_map_release(&im.op_counts);
    ps_map_release(&im.functions);
    ps_map_release(&im.decoded);
    if (status != PS_OK) {
        ps_graph_free(im.root);
        ps_onnx_info_release(&info);
        return status;
    }
    *ret_graph = im.root;
    if (ret_info) {
        *ret_info = info;
    } else {
        ps_onnx_info_release(&info);
    }
    return PS_OK;
}

ps_status ps_onnx_load(ps_alloc_state *alloc, const ps_onnx_source *from, ps_graph **ret_graph, ps_onnx_info *ret_info,
                       ps_error *err) {
    ps_onnx_proto proto;
    const ProtobufCMessageDescriptor *kind = &onnx__model_proto__descriptor;
    ps_status status = from->path ? ps_onnx_proto_open_file(alloc, kind, from->path, &proto, err)
                                  : ps_onnx_proto_open_memory(alloc, kind, from->data, from->size, &proto, err);
    if (from->path && status == PS_FORMAT) ps_error_prefix(err, "this is no ONNX model, or a damaged one");
    if (status == PS_OK) status = import_model(&proto, from, ret_graph, ret_info, err);
    ps_onnx_proto_close(&proto);
    return status;
}

ps_status ps_onnx_load_file(ps_alloc_state *alloc, const char *path, ps_graph **ret_graph, ps_onnx_info *ret_info,
                            ps_error *err) {
    return ps_onnx_load(alloc, &(ps_onnx_source) { .path = path }, ret_graph, ret_info, err);
}

ps_status ps_onnx_load_memory(ps_alloc_state *alloc, const void *data, size_t size, ps_graph **ret_graph,
                              ps_onnx_info *ret_info, ps_error *err) {
    return ps_onnx_load(alloc, &(ps_onnx_source) { .data = data, .size = size }, ret_graph, ret_info, err);
}
