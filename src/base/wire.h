/* wire.h - the protobuf wire format: varints, tags and lengths, read with bounds and written to sized buffers.
 *
 * Source: protobuf.dev, "Encoding". Groups (wire types 3 and 4), which proto3 does not have, are
 * refused. */
#ifndef PS_BASE_WIRE_H
#define PS_BASE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef enum ps_wire_type {
    PS_WIRE_VARINT = 0,
    PS_WIRE_I64 = 1,
    PS_WIRE_LEN = 2,
    PS_WIRE_I32 = 5,
} ps_wire_type;

/* The part of a message not read yet. */
typedef struct ps_wire {
    const uint8_t *at, *end;
} ps_wire;

typedef struct ps_wire_field {
    uint32_t number;
    ps_wire_type type;
    uint64_t value;       /* VARINT, I64, I32 */
    const uint8_t *data;  /* LEN: the content; otherwise the value's bytes */
    size_t size;          /* of data */
    const uint8_t *start; /* of the tag: [start, w->at) is the whole field */
} ps_wire_field;

void ps_wire_init(ps_wire *w, const void *data, size_t size);
/* Reads the next field; *ret_more is false at the end of the message. PS_FORMAT when the bytes are no field. */
ps_status ps_wire_next(ps_wire *w, ps_wire_field *ret, bool *ret_more, ps_error *err);
/* One varint of at most ten bytes; false when cut short or longer. */
bool ps_wire_varint(ps_wire *w, uint64_t *ret);
/* Number of varints that fill the content of a packed field exactly; false if they do not. */
bool ps_wire_count_varints(const void *data, size_t size, size_t *ret);

/* Writing: bytes needed, then the bytes; each put returns the position after what it wrote. */
size_t ps_wire_varint_size(uint64_t v);
size_t ps_wire_len_size(uint32_t number, size_t size); /* of a whole LEN field with content of this size */
uint8_t *ps_wire_put_varint(uint8_t *p, uint64_t v);
uint8_t *ps_wire_put_tag(uint8_t *p, uint32_t number, ps_wire_type type);
uint8_t *ps_wire_put_len(uint8_t *p, uint32_t number, const void *data, size_t size);

#endif
