/* json_text.h - pieces of JSON output. */
#ifndef PS_SERVER_JSON_TEXT_H
#define PS_SERVER_JSON_TEXT_H

#include "base/str.h"

/* A quoted, escaped string. Text must be UTF-8 (bytes of 0x80 and above pass as they are). */
void ps_json_write_string(ps_str *out, const char *text);
void ps_json_write_string_n(ps_str *out, const char *text, size_t size);
/* true if data is well-formed UTF-8 (no surrogates, no overlong forms). */
bool ps_utf8_valid(const char *data, size_t size);
/* {"error":"text"} */
void ps_json_write_error(ps_str *out, const char *text);

#endif
