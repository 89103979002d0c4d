/* infer_json.h - bytes of an HTTP inference request or reply ↔ ps_infer: the JSON form with the binary tensor
 * extension.
 *
 * A body is a JSON document, possibly followed by the raw tensors ("tail") of inputs that say binary_data_size, in the
 * order of the inputs: little-endian, row-major; BYTES as a 32-bit length and the bytes per element. Knows no model and
 * no socket. */
#ifndef PS_SERVER_HTTP_INFER_JSON_H
#define PS_SERVER_HTTP_INFER_JSON_H

#include "server/core.h"

/* Reads a body of `size` bytes, the first json_size of which are the JSON document. Tensors point into the body where
 * it is aligned for their type, else into infer's arena: the body must outlive the run. */
ps_status ps_infer_json_read(ps_infer *infer, const char *body, size_t size, size_t json_size, ps_error *err);

/* Appends the reply for infer->results. *ret_json_size is the length of the JSON part if a tail follows it, else 0.
 * PS_INVALID for values that JSON cannot carry (BYTES that are no UTF-8, FP16, BF16). */
ps_status ps_infer_json_write(const ps_infer *infer, ps_str *out, size_t *ret_json_size, ps_error *err);

#endif
