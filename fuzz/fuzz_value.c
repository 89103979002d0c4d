/* fuzz_value.c - any bytes as a SequenceProto, OptionalProto or MapProto (the first byte tells); what was read is
 * written and read again. */
#include <stdlib.h>

#include "base/alloc.h"
#include "onnx/onnx.h"
#include "tensor/tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const ps_dtype kinds[] = { PS_DTYPE_SEQUENCE, PS_DTYPE_OPTIONAL, PS_DTYPE_MAP };
    if (!size) return 0;
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    ps_error error = PS_ERROR_INIT;
    ps_tensor *value = NULL, *again = NULL;
    void *written = NULL;
    size_t written_size = 0;
    const ps_dtype kind = kinds[data[0] % 3];
    if (ps_onnx_value_read(&alloc, data + 1, size - 1, kind, &value, &error) == PS_OK) {
        if (ps_onnx_value_write(&alloc, value, "v", &written, &written_size, &error) == PS_OK &&
            ps_onnx_value_read(&alloc, written, written_size, kind, &again, &error) != PS_OK)
            abort(); /* what we write we must read */
        if (again && ps_tensor_hash(again) != ps_tensor_hash(value)) abort();
    } else if (!error.msg[0]) {
        abort();
    }
    ps_free(&alloc, written);
    ps_tensor_release(value);
    ps_tensor_release(again);
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
