/* infer_wire_int.h - inside the reader of ModelInferRequest: the data of one input given as InferTensorContents. */
#ifndef PS_SERVER_GRPC_INFER_WIRE_INT_H
#define PS_SERVER_GRPC_INFER_WIRE_INT_H

#include "base/wire.h"
#include "server/core.h"

enum { PS_WIRE_INPUT_CONTENTS = 5 }; /* its field in InferInputTensor */

/* t's name, type and shape are set; `input` is the whole InferInputTensor, which may have contents in several pieces.
 */
ps_status ps_infer_wire_contents(ps_arena *arena, ps_infer_tensor *t, const ps_wire *input, ps_error *err);

#endif
