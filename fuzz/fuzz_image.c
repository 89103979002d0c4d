/* fuzz_image.c - libFuzzer entry for decoding, resizing and preparing photos.
 *   corpus: the files of fuzz/corpus/image, one or two a format */
#include "io/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state heap;
    ps_image image;
    ps_tensor *t;
    ps_preprocess p;
    ps_alloc_state_init(&heap, NULL);
    if (ps_image_read(&heap, data, size, &image, NULL) != PS_OK) return 0;
    ps_preprocess_init(&p);
    p.size = 17;
    p.gray = size & 1;
    p.bilinear = size & 2;
    /* large pictures cost the fuzzer time and teach it nothing about the resize */
    if ((size_t)image.width * (size_t)image.height < 1 << 16 && ps_image_prepare(&heap, &image, &p, &t, NULL) == PS_OK)
        ps_tensor_release(t);
    ps_image_release(&image);
    return 0;
}
