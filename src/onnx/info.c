#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "onnx/onnx_int.h"

void ps_onnx_info_release(ps_onnx_info *info) {
    if (!info) return;
    if (info->arena.alloc) ps_arena_release(&info->arena);
    memset(info, 0, sizeof *info);
}

static ps_status copy_metadata(ps_onnx_info *info, const Onnx__ModelProto *m, ps_error *err) {
    info->n_metadata = m->n_metadata_props;
    if (!info->n_metadata) return PS_OK;
    info->metadata = ps_arena_array(&info->arena, info->n_metadata * 2, sizeof *info->metadata);
    if (!info->metadata) return PS_FAIL_NOMEM(err, "metadata");
    for (size_t i = 0; i < info->n_metadata; i++) {
        const char *key = ps_onnx_text(m->metadata_props[i]->key), *value = ps_onnx_text(m->metadata_props[i]->value);
        info->metadata[2 * i] = ps_arena_strdup(&info->arena, key);
        info->metadata[2 * i + 1] = ps_arena_strdup(&info->arena, value);
        if (!info->metadata[2 * i] || !info->metadata[2 * i + 1]) return PS_FAIL_NOMEM(err, "metadata");
    }
    return PS_OK;
}

ps_status ps_onnx_info_begin(ps_onnx_import *im, ps_error *err) {
    ps_onnx_info *info = im->info;
    const Onnx__ModelProto *m = im->model;
    const char *name = ps_onnx_text(m->producer_name), *version = ps_onnx_text(m->producer_version);
    info->producer = ps_arena_printf(&info->arena, "%s%s%s", name, name[0] && version[0] ? " " : "", version);
    info->graph_name = ps_arena_strdup(&info->arena, ps_onnx_text(m->graph->name));
    if (!info->producer || !info->graph_name) return PS_FAIL_NOMEM(err, "the model's names");
    info->ir_version = m->ir_version;
    info->file_bytes = im->proto->size;
    return copy_metadata(info, m, err);
}

ps_status ps_onnx_info_count(ps_onnx_import *im, const Onnx__NodeProto *n, ps_error *err) {
    char buf[256];
    const char *domain = ps_onnx_domain(n->domain), *name = n->op_type;
    if (domain[0]) {
        ps_snprintf(buf, sizeof buf, "%s::%s", domain, n->op_type);
        name = buf;
    }
    im->info->nodes++;
    ps_onnx_op_count *c = ps_map_get(&im->op_counts, name);
    if (!c) {
        c = PS_ARENA_NEW(&im->info->arena, ps_onnx_op_count);
        if (c) c->name = ps_arena_strdup(&im->info->arena, name);
        if (!c || !c->name || !ps_map_put(&im->op_counts, c->name, c)) return PS_FAIL_NOMEM(err, "operator counts");
    }
    c->count++;
    return PS_OK;
}

static int by_count_then_name(const void *a, const void *b) {
    const ps_onnx_op_count *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return strcmp(x->name, y->name);
}

ps_status ps_onnx_info_finish(ps_onnx_import *im, ps_error *err) {
    ps_onnx_info *info = im->info;
    info->parameters = im->pool.elements;
    info->weight_bytes = im->pool.bytes;
    if (!im->op_counts.size) return PS_OK;
    info->ops = ps_arena_array(&info->arena, im->op_counts.size, sizeof *info->ops);
    if (!info->ops) return PS_FAIL_NOMEM(err, "operator counts");
    for (size_t i = 0; i < im->op_counts.room; i++) {
        const ps_map_slot *s = &im->op_counts.slots[i];
        if (s->value) info->ops[info->n_ops++] = *(const ps_onnx_op_count *)s->value;
    }
    qsort(info->ops, info->n_ops, sizeof *info->ops, by_count_then_name);
    return PS_OK;
}
