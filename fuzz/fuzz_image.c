/* fuzz_image.c - any bytes as a photo, prepared with resize and crop. */
#include <stdint.h>
#include <stdlib.h>

#include "polestar/polestar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_engine_options options = PS_ENGINE_OPTIONS_INIT;
    options.threads = 1;
    options.cache_dir = "";
    ps_engine *engine = NULL;
    if (ps_engine_create(&options, &engine, NULL) != PS_OK)
        abort();
    ps_preprocess preprocess;
    ps_preprocess_init(&preprocess);
    preprocess.resize = 20;
    preprocess.size = 16;
    ps_error error = PS_ERROR_INIT;
    ps_tensor *tensor = NULL;
    if (ps_image_decode(engine, data, size, &preprocess, &tensor, &error) == PS_OK)
        ps_tensor_release(tensor);
    else if (!error.msg[0])
        abort();
    ps_engine_free(engine);
    return 0;
}
