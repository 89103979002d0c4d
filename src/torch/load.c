/* What kind of file this is, and the steps from an archive to a graph. */
#include <stdio.h>
#include <string.h>

#include "torch/program.h"

#define HOW "export it with torch.export.save(torch.export.export(model.eval(), example_inputs), 'model.pt2')"

#define OLDER "serialized_exported_program.json" /* up to PyTorch 2.7 */

/* Protocol 2 to 5 of a pickle that is no zip file: torch.save before 1.6. */
static bool is_pickle(const uint8_t *p, size_t size) {
    return size > 2 && p[0] == 0x80 && p[1] >= 2 && p[1] <= 5;
}

bool ps_torch_detect(const void *data, size_t size) {
    return ps_archive_is_zip(data, size) || is_pickle(data, size);
}

bool ps_torch_detect_file(const char *path) {
    ps_file_map map;
    if (ps_file_map_open(path, &map, NULL) != PS_OK) return false;
    bool found = ps_torch_detect(map.data, map.size);
    ps_file_map_close(&map);
    return found;
}

/* Everything that is a file of PyTorch's but no exported program is refused with what to do instead. */
static ps_status refuse_others(ps_archive *a, ps_error *err) {
    PS_FAIL_IF(ps_archive_find(a, "constants.pkl"), err, UNSUPPORTED,
               "this is a TorchScript archive, which holds code and not a graph: " HOW);
    PS_FAIL_IF(ps_archive_find(a, "data.pkl"), err, UNSUPPORTED,
               "this is a pickle of PyTorch's (.pt, .pth), which is never executed: " HOW);
    PS_FAIL_IF(!ps_archive_find(a, "archive_format") && !ps_archive_find(a, OLDER), err, UNSUPPORTED,
               "this is a zip file but no archive of torch.export (it has no archive_format)");
    return PS_OK;
}

static ps_status text_is(ps_archive *a, const char *name, const char *want, ps_error *err) {
    const uint8_t *data;
    const ps_archive_entry *e = ps_archive_find(a, name);
    if (!e) return PS_OK;
    PS_TRY(ps_archive_bytes(a, e, true, &data, err));
    PS_FAIL_IF(e->size != strlen(want) || memcmp(data, want, e->size) != 0, err, UNSUPPORTED,
               "the archive's '%s' is not '%s', which is what is read", name, want);
    return PS_OK;
}

/* The one models/NAME.json; *ret_name holds NAME. Older archives have no name for it. */
static ps_status find_program(const ps_archive *a, char *ret_name, size_t size, ps_error *err) {
    static const char folder[] = "models/", suffix[] = ".json";
    size_t found = 0;
    if (ps_archive_find(a, OLDER)) {
        ps_snprintf(ret_name, size, "model");
        return PS_OK;
    }
    for (size_t i = 0; i < a->n; i++) {
        const char *name = a->list[i]->name;
        size_t n = strlen(name), f = sizeof folder - 1, s = sizeof suffix - 1;
        if (n <= f + s || memcmp(name, folder, f) != 0 || strcmp(name + n - s, suffix) != 0) continue;
        PS_FAIL_IF(found++, err, UNSUPPORTED, "the archive holds several programs: save one a file");
        PS_FAIL_IF(n - f - s >= size, err, LIMIT, "the name of the program is longer than %zu bytes", size - 1);
        ps_snprintf(ret_name, size, "%.*s", (int)(n - f - s), name + f);
    }
    PS_FAIL_IF(!found, err, UNSUPPORTED, "the archive holds no exported program (models/*.json): %s",
               "compiled AOTInductor packages are not read; " HOW);
    return PS_OK;
}

static ps_status check_schema(const json_t *program, ps_error *err) {
    json_t *version;
    int64_t major;
    PS_TRY(ps_member_object(program, "schema_version", "the program", &version, err));
    PS_TRY(ps_member_int(version, "major", "the program's schema_version", &major, err));
    PS_FAIL_IF(major < PS_TORCH_OLDEST_SCHEMA || major > PS_TORCH_NEWEST_SCHEMA, err, UNSUPPORTED,
               "the program has schema version %lld, %d to %d are read", (long long)major, PS_TORCH_OLDEST_SCHEMA,
               PS_TORCH_NEWEST_SCHEMA);
    return PS_OK;
}

static ps_status describe(const json_t *program, const char *name, const ps_archive *a, ps_onnx_info *info,
                          ps_error *err) {
    const char *version = json_string_value(json_object_get(program, "torch_version"));
    if (version) PS_TRY(ps_torch_check_name("torch_version", version, err));
    info->producer = ps_arena_printf(&info->arena, "pytorch %s", version ? version : "");
    info->graph_name = ps_arena_strdup(&info->arena, name);
    if (!info->producer || !info->graph_name) return PS_FAIL_NOMEM(err, "the model's names");
    info->opset = PS_TORCH_OPSET;
    info->file_bytes = a->size;
    return PS_OK;
}

static ps_status load_program(ps_archive *a, const char *name, const ps_onnx_limits *limits, ps_graph **ret,
                              ps_onnx_info *info, ps_error *err) {
    char entry[PS_ARCHIVE_MAX_NAME];
    ps_torch_weights weights;
    json_t *program;
    ps_snprintf(entry, sizeof entry, "models/%.200s.json", name);
    if (ps_archive_find(a, OLDER)) ps_snprintf(entry, sizeof entry, OLDER);
    PS_TRY(ps_json_entry(a, entry, &program, err));
    ps_status status = check_schema(program, err);
    if (status == PS_OK) status = describe(program, name, a, info, err);
    if (status == PS_OK) {
        status = ps_torch_weights_open(&weights, a, name, err);
        weights.limits = *limits;
        if (status == PS_OK) status = ps_torch_import(a->alloc, program, &weights, ret, info, err);
        info->parameters = weights.elements;
        info->weight_bytes = weights.bytes;
        ps_torch_weights_close(&weights);
        ps_archive_drop(a);
    }
    json_decref(program);
    return status;
}

static ps_status load(ps_archive *a, const ps_onnx_limits *limits, ps_graph **ret, ps_onnx_info *ret_info,
                      ps_error *err) {
    char name[201];
    ps_onnx_info info = { 0 };
    PS_TRY(refuse_others(a, err));
    PS_TRY(text_is(a, "archive_format", "pt2", err));
    PS_TRY(text_is(a, "archive_version", "0", err));
    PS_TRY(text_is(a, "byteorder", "little", err));
    PS_TRY(find_program(a, name, sizeof name, err));
    ps_arena_init(&info.arena, a->alloc);
    ps_status status = load_program(a, name, limits, ret, &info, err);
    if (status == PS_OK && ret_info)
        *ret_info = info;
    else
        ps_onnx_info_release(&info);
    return status;
}

static ps_status refuse_pickle(const void *data, size_t size, ps_error *err) {
    PS_FAIL_IF(size >= 2 && is_pickle(data, size), err, UNSUPPORTED,
               "this is a pickle of PyTorch's (.pt, .pth), which is never executed: " HOW);
    return PS_OK;
}

static ps_status open_archive(ps_alloc_state *alloc, const ps_onnx_source *from, ps_archive *ret, ps_error *err) {
    ps_file_map map;
    if (!from->path) {
        PS_TRY(refuse_pickle(from->data, from->size, err));
        return ps_archive_open_memory(alloc, from->data, from->size, ret, err);
    }
    PS_TRY(ps_file_map_open(from->path, &map, err));
    ps_status status = refuse_pickle(map.data, map.size, err);
    ps_file_map_close(&map);
    return status == PS_OK ? ps_archive_open_file(alloc, from->path, ret, err) : status;
}

ps_status ps_torch_load(ps_alloc_state *alloc, const ps_onnx_source *from, ps_graph **ret_graph, ps_onnx_info *ret_info,
                        ps_error *err) {
    ps_archive archive;
    PS_TRY(open_archive(alloc, from, &archive, err));
    ps_status status = load(&archive, &from->limits, ret_graph, ret_info, err);
    ps_archive_close(&archive);
    return status;
}
