/* The walk that cuts weights out of a model, alone. What it lets pass must be well-formed: a second walk over its own
 * output finds the same tensors, and each span lies inside of the input. */
#include <stdlib.h>

#include "onnx/onnx_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state a;
    ps_onnx_cut cut, again;
    ps_alloc_state_init(&a, NULL);
    if (ps_onnx_cut_message(&a, &onnx__model_proto__descriptor, data, size, &cut, NULL) == PS_OK) {
        for (size_t i = 0; i < cut.n_spans; i++) {
            if (cut.spans[i].offset > size || cut.spans[i].size > size - cut.spans[i].offset) abort();
        }
        if (ps_onnx_cut_message(&a, &onnx__model_proto__descriptor, cut.data, cut.size, &again, NULL) != PS_OK) abort();
        if (again.n_spans != cut.n_spans) abort();
        ps_onnx_cut_release(&a, &again);
        ps_onnx_cut_release(&a, &cut);
    }
    if (atomic_load(&a.bytes) != 0) abort();
    return 0;
}
