/* coding.h - the content codings of HTTP (RFC 9110): gzip and deflate (the zlib format), over zlib. */
#ifndef PS_SERVER_CODING_H
#define PS_SERVER_CODING_H

#include "base/error.h"
#include "base/str.h"

typedef enum ps_coding { PS_CODING_IDENTITY, PS_CODING_GZIP, PS_CODING_DEFLATE, PS_CODING_UNKNOWN } ps_coding;

/* Of a Content-Encoding header; NULL is identity. */
ps_coding ps_coding_parse(const char *text);
/* What an Accept-Encoding header prefers of the codings above (gzip among equals); identity if it wants none. */
ps_coding ps_coding_choose(const char *accept);
const char *ps_coding_name(ps_coding coding);

/* Takes a piece of output; false stops the work. */
typedef bool (*ps_coding_sink)(void *ctx, const char *data, size_t size);
/* Unpacks data, one stream and nothing behind it. Memory does not depend on its size. PS_LIMIT: the sink stopped;
 * PS_FORMAT: not of that coding, or cut off. */
ps_status ps_coding_unpack(ps_alloc_state *alloc, ps_coding coding, const char *data, size_t size, ps_coding_sink sink,
                           void *ctx, ps_error *err);
/* Replaces text by its packed form if that is smaller; false: text is as it was. */
bool ps_coding_pack(ps_str *text, ps_coding coding);

#endif
