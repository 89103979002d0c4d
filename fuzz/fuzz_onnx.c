/* Any bytes as a model: refused with a sentence, or a graph that the verifier accepts. Nothing may leak. */
#include <stdlib.h>
#include <string.h>

#include "onnx/onnx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state a;
    ps_error err = PS_ERROR_INIT;
    ps_graph *g = NULL;
    ps_onnx_info info;
    ps_alloc_state_init(&a, NULL);
    ps_status status = ps_onnx_load_memory(&a, data, size, &g, &info, &err);
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
