/* str.h - a growing byte string for text output. `data` is never NULL and always NUL-terminated. */
#ifndef PS_BASE_STR_H
#define PS_BASE_STR_H

#include <stdarg.h>

#include "base/alloc.h"

typedef struct ps_str {
    ps_alloc_state *alloc;
    char *data;
    size_t size; /* without the NUL */
    size_t room; /* allocated */
    bool failed; /* an append ran out of memory: the content is incomplete */
} ps_str;

void ps_str_init(ps_str *s, ps_alloc_state *alloc);
void ps_str_release(ps_str *s);
void ps_str_clear(ps_str *s); /* empty again, memory kept */
bool ps_str_reserve(ps_str *s, size_t extra);
void ps_str_append(ps_str *s, const char *text);
void ps_str_append_n(ps_str *s, const void *data, size_t n);
void ps_str_char(ps_str *s, char c);
void ps_str_printf(ps_str *s, const char *fmt, ...) PS_PRINTF(2, 3);
void ps_str_vprintf(ps_str *s, const char *fmt, va_list ap);
/* Hands the buffer to the caller (ps_free) and resets s; NULL if an append failed. */
char *ps_str_take(ps_str *s);

/* "1234", "500M", "2GiB": K, M, G, T are powers of 1024. False: it is no size, 0 or too large. */
bool ps_size_parse(const char *text, size_t *ret);

/* snprintf that always terminates and truncates silently. */
void ps_snprintf(char *buf, size_t size, const char *fmt, ...) PS_PRINTF(3, 4);

#endif
