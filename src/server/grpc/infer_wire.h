/* infer_wire.h - bytes of a ModelInferRequest or ModelInferResponse ↔ ps_infer, without generated code and without
 * copies of tensor data where it lies aligned. Knows no model and no socket.
 *
 * Messages of protocol buffers: fields may come in any order, and repeated numbers packed or one by one. Unknown fields
 * are passed over. Tensor data is either in raw_input_contents, one for each input that is not in shared memory, in
 * order, or in the `contents` of each input, never in both. */
#ifndef PS_SERVER_GRPC_INFER_WIRE_H
#define PS_SERVER_GRPC_INFER_WIRE_H

#include "server/core.h"

/* What the request says about where it goes; in infer's arena. */
typedef struct ps_infer_wire_target {
    const char *model_name, *model_version; /* "" where there is none */
} ps_infer_wire_target;

/* Tensors point into the message where it is aligned for their type, else into infer's arena: the message must outlive
 * the run. *ret is filled as far as the message was read, also on failure. */
ps_status ps_infer_wire_read(ps_infer *infer, const void *data, size_t size, ps_infer_wire_target *ret, ps_error *err);
/* Where in the message the first of the raw_input_contents begins, if its first `size` bytes say so, else 0. */
size_t ps_infer_wire_raw_offset(const void *data, size_t size);

/* A reply whose sizes are known. */
typedef struct ps_infer_wire_reply {
    const ps_infer *infer;
    bool final; /* says triton_final_response: a stream's reply that no other follows */
    struct ps_infer_wire_output *outputs;
    size_t size;
} ps_infer_wire_reply;

/* Sizes of the reply for infer->results; outputs that are wanted in shared memory are put there now. */
ps_status ps_infer_wire_measure(ps_infer *infer, bool final, ps_infer_wire_reply *ret, ps_error *err);
/* Writes ret->size bytes; returns the position behind them. */
uint8_t *ps_infer_wire_put(const ps_infer_wire_reply *reply, uint8_t *p);

#endif
