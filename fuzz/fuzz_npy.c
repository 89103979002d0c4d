/* fuzz_npy.c - any bytes as a .npy file; what was read is written and read again. */
#include <stdlib.h>

#include "io/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state heap;
    ps_tensor *t = NULL, *again = NULL;
    void *written = NULL;
    size_t n = 0;
    ps_error err = PS_ERROR_INIT;
    ps_alloc_state_init(&heap, NULL);
    if (ps_npy_read(&heap, data, size, &t, &err) == PS_OK) {
        if (ps_npy_write(&heap, t, &written, &n, &err) != PS_OK ||
            ps_npy_read(&heap, written, n, &again, &err) != PS_OK)
            abort(); /* what we read we must write, and read back */
        if (again->bytes != t->bytes || (t->bytes && memcmp(again->data, t->data, t->bytes) != 0)) abort();
    } else if (!err.msg[0]) {
        abort();
    }
    ps_free(&heap, written);
    ps_tensor_release(t);
    ps_tensor_release(again);
    if (atomic_load(&heap.bytes)) abort(); /* a leak */
    return 0;
}
