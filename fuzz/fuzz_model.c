/* fuzz_model.c - any bytes as an ONNX file: loading works or fails with a sentence; a loaded model prints and goes. */
#include <stddef.h>
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
    ps_error error = PS_ERROR_INIT;
    ps_model *model = NULL;
    if (ps_model_load_memory(engine, data, size, NULL, &model, &error) == PS_OK) {
        char *text = NULL;
        if (ps_model_print(model, &text, &error) == PS_OK)
            ps_text_free(model, text);
        ps_model_release(model);
    } else if (!error.msg[0]) {
        abort(); /* a failure without a sentence */
    }
    ps_engine_free(engine);
    return 0;
}
