/* fuzz_tensor.c - any bytes as a TensorProto; what was read is written and read again. */
#include <stdlib.h>

#include "base/alloc.h"
#include "onnx/onnx.h"
#include "tensor/tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    ps_error error = PS_ERROR_INIT;
    ps_tensor *tensor = NULL, *again = NULL;
    void *written = NULL;
    size_t written_size = 0;
    if (ps_onnx_tensor_read(&alloc, data, size, &tensor, NULL, &error) == PS_OK) {
        if (ps_onnx_tensor_write(&alloc, tensor, "t", &written, &written_size, &error) == PS_OK &&
            ps_onnx_tensor_read(&alloc, written, written_size, &again, NULL, &error) != PS_OK)
            abort(); /* what we write we must read */
    } else if (!error.msg[0]) {
        abort();
    }
    ps_free(&alloc, written);
    ps_tensor_release(tensor);
    ps_tensor_release(again);
    if (alloc.bytes)
        abort(); /* a leak */
    return 0;
}
