/* fuzz_model.c - any bytes as an ONNX file: loading works or fails with a sentence; a loaded model prints, and runs
 * once on small inputs or fails with a sentence. libFuzzer changes the message, not its bytes (mutate_onnx.c). */
#include "run_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_engine *engine = limited_engine();
    ps_model_options options = PS_MODEL_OPTIONS_INIT;
    options.loop_limit = 1000;
    options.node_limit = 10000;
    ps_error error = PS_ERROR_INIT;
    ps_model *model = NULL;
    if (ps_model_load_memory(engine, data, size, &options, &model, &error) == PS_OK) {
        char *text = NULL;
        if (ps_model_print(model, &text, &error) == PS_OK)
            ps_text_free(model, text);
        run_once(engine, model, data[size - 1] & 1); /* a model has bytes */
        ps_model_release(model);
    } else if (error.status == PS_INTERNAL || !error.msg[0]) {
        abort(); /* our own fault, or a failure without a sentence */
    }
    ps_engine_free(engine);
    return 0;
}
