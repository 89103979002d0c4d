/* fuzz_npy.c - libFuzzer entry for the .npy reader.
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined … (docs/testing.md), corpus: the .npy files of tests/data/io */
#include "io/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state heap;
    ps_tensor *t;
    ps_alloc_state_init(&heap, NULL);
    if (ps_npy_read(&heap, data, size, &t, NULL) != PS_OK) return 0;
    void *bytes;
    size_t n;
    if (ps_npy_write(&heap, t, &bytes, &n, NULL) == PS_OK) ps_free(&heap, bytes);
    ps_tensor_release(t);
    return 0;
}
