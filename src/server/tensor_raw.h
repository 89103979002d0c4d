/* tensor_raw.h - the data of one tensor as raw bytes: little-endian, row-major; BOOL as bytes (0 or not); BYTES as a
 * 32-bit length and the bytes per element. The same in bodies, messages and shared memory. */
#ifndef PS_SERVER_TENSOR_RAW_H
#define PS_SERVER_TENSOR_RAW_H

#include "server/core.h"

/* Bytes of one element in memory (of BYTES: a ps_string); 0 for a type that the protocol does not have. */
size_t ps_tensor_raw_element(ps_dtype dtype);
/* Takes t's data from `size` raw bytes: in place where aligned, else copied into the arena. */
ps_status ps_tensor_raw_read(ps_arena *arena, ps_infer_tensor *t, const void *data, size_t size, ps_error *err);
/* Bytes of the raw form; false on overflow. */
bool ps_tensor_raw_size(const ps_infer_tensor *t, size_t *ret);
/* Writes so many bytes; returns the position behind them. */
uint8_t *ps_tensor_raw_put(const ps_infer_tensor *t, uint8_t *p);
void ps_tensor_raw_write(const ps_infer_tensor *t, ps_str *out);

#endif
