/* json_reader.h - a strict pull reader of JSON text (RFC 8259) for request bodies.
 *
 * It walks the text once and builds no tree, so a body of a million numbers costs nothing but its tensor. The text need
 * not end in NUL. Errors name the byte. Not shared between threads. */
#ifndef PS_SERVER_JSON_READER_H
#define PS_SERVER_JSON_READER_H

#include "base/arena.h"
#include "base/error.h"
#include "polestar/tensor.h"

#define PS_JSON_MAX_DEPTH 32 /* of nested arrays and objects */

typedef struct ps_json {
    const char *begin, *p, *end;
    ps_arena *arena; /* for strings with escapes */
    int depth;
} ps_json;

/* Position inside one object or array. */
typedef struct ps_json_iter {
    char close;
    bool started;
} ps_json_iter;

void ps_json_init(ps_json *r, const char *text, size_t size, ps_arena *arena);
/* First character of the next value, '\0' at the end of the text. Skips white space. */
char ps_json_peek(ps_json *r);
size_t ps_json_offset(const ps_json *r);

/* Enters an object ('{') or array ('['). */
ps_status ps_json_enter(ps_json *r, char open, ps_json_iter *it, ps_error *err);
/* Moves to the next member or item; for objects key gets the name (data valid as long as text and arena). *ret_more is
 * false behind the last. */
ps_status ps_json_next(ps_json *r, ps_json_iter *it, ps_string *key, bool *ret_more, ps_error *err);

/* A whole object: `member` reads each member's value. A document of nothing else: follow with ps_json_finish. */
typedef ps_status (*ps_json_member)(ps_json *r, const ps_string *key, void *ctx, ps_error *err);
ps_status ps_json_object(ps_json *r, ps_json_member member, void *ctx, ps_error *err);

/* The next value, of a given kind. */
ps_status ps_json_string(ps_json *r, ps_string *ret, ps_error *err);
/* The same as a C string in the arena; refuses NUL inside. */
ps_status ps_json_cstring(ps_json *r, const char **ret, ps_error *err);
ps_status ps_json_int(ps_json *r, int64_t *ret, ps_error *err);
ps_status ps_json_uint(ps_json *r, uint64_t *ret, ps_error *err);
ps_status ps_json_bool(ps_json *r, bool *ret, ps_error *err);
/* Any value, checked and passed over. */
ps_status ps_json_skip(ps_json *r, ps_error *err);
/* Nothing but white space may follow. */
ps_status ps_json_finish(ps_json *r, ps_error *err);

bool ps_json_key_is(const ps_string *key, const char *name);

#endif
