/* Any bytes as an archive of torch.export, or, if they begin like JSON or a pickle, as the program or the table of
 * weights in one: refused with a sentence, or a graph that the verifier accepts. The checksums of an archive stop most
 * changes to a program inside it, so JSON by itself gets further; it finds no weights. */
#include <stdlib.h>
#include <string.h>

#include "torch/pickle.h"
#include "torch/program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ps_status load_json(ps_alloc_state *a, const uint8_t *data, size_t size, ps_graph **ret, ps_onnx_info *info,
                           ps_error *err) {
    ps_torch_weights none = { .alloc = a };
    json_t *program = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (!program) return PS_FAIL(err, FORMAT, "no JSON");
    memset(info, 0, sizeof *info);
    ps_arena_init(&info->arena, a);
    info->graph_name = "fuzz";
    ps_status status = ps_torch_import(a, program, &none, ret, info, err);
    json_decref(program);
    if (status != PS_OK) ps_onnx_info_release(info);
    return status;
}

/* A table of weights by itself makes no graph. */
static ps_status load_pickle(ps_alloc_state *a, const uint8_t *data, size_t size, ps_error *err) {
    ps_arena arena;
    ps_map tensors;
    ps_arena_init(&arena, a);
    ps_map_init(&tensors, a);
    ps_status status = ps_torch_unpickle(data, size, &arena, &tensors, err);
    ps_map_release(&tensors);
    ps_arena_release(&arena);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state a;
    ps_error err = PS_ERROR_INIT;
    ps_graph *g = NULL;
    ps_onnx_info info;
    ps_alloc_state_init(&a, NULL);
    ps_status status;
    if (size && data[0] == 0x80) {
        status = load_pickle(&a, data, size, &err);
        if (status != PS_OK && (status == PS_INTERNAL || strlen(err.msg) == 0)) abort();
        if (atomic_load(&a.bytes) != 0) abort();
        return 0;
    }
    status = size && data[0] == '{'
                 ? load_json(&a, data, size, &g, &info, &err)
                 : ps_torch_load(&a, &(ps_onnx_source) { .data = data, .size = size }, &g, &info, &err);
    if (status == PS_OK) {
        if (ps_graph_verify(g, &err) != PS_OK) abort();
        ps_graph_free(g);
        ps_onnx_info_release(&info);
    } else if (status == PS_INTERNAL || err.status != status || strlen(err.msg) == 0) {
        abort();
    }
    if (atomic_load(&a.bytes) != 0) abort();
    return 0;
}
