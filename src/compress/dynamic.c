/* dynamic.c - INT8 weights with activations quantised at run time: DynamicQuantizeLinear and MatMulInteger. */
#include "compress/compress_int.h"

ps_status ps_emit_dynamic(ps_job *job, ps_onnx_edit *edit) {
    (void)edit;
    return PS_FAIL(job->err, UNSUPPORTED, "not written yet");
}
