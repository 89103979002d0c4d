/* tensor_json.h - the "data" of one tensor as JSON text.
 *
 * JSON numbers: integers exact, floats correctly rounded; a float that is no number is one of the strings "NaN",
 * "Infinity" and
 * "-Infinity" (as in the JSON form of protocol buffers), because JSON has no other way. FP16 and BF16 have no JSON
 * form. */
#ifndef PS_SERVER_HTTP_TENSOR_JSON_H
#define PS_SERVER_HTTP_TENSOR_JSON_H

#include "server/core.h"
#include "server/json_reader.h"

/* Reads the array at the reader's position into t, whose dtype, shape and elements are set: flat, or nested as the
 * shape. */
ps_status ps_tensor_json_read(ps_json *r, ps_infer_tensor *t, ps_error *err);

/* Appends a flat array. */
ps_status ps_tensor_json_write(const ps_infer_tensor *t, ps_str *out, ps_error *err);

#endif
