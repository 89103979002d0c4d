/* log.c - formatting of log lines. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void ps_log_line(const ps_log *log, ps_log_level level, const char *fmt, ...) {
    if (!log || !log->fn) return;
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    if ((size_t)n >= sizeof line) memcpy(line + sizeof line - 4, "...", 4);
    for (char *p = line; *p; p++) {
        if (*p == '\n' || *p == '\r') *p = ' ';
    }
    log->fn(log->ctx, level, line);
}

static bool needs_quotes(const char *value) {
    if (!*value) return true;
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (*p <= ' ' || *p == '"' || *p == '=' || *p == '\\' || *p == 0x7f) return true;
    }
    return false;
}

/* One character of a quoted value into out (room for 4 and no NUL); returns its length. */
static size_t escape(unsigned char c, char out[4]) {
    static const char hex[] = "0123456789abcdef";
    if (c == '"' || c == '\\' || c == '\n' || c == '\t') {
        out[0] = '\\';
        out[1] = c == '\n' ? 'n' : c == '\t' ? 't' : (char)c;
        return 2;
    }
    if (c < ' ' || c == 0x7f) {
        out[0] = '\\';
        out[1] = 'x';
        out[2] = hex[c >> 4];
        out[3] = hex[c & 15];
        return 4;
    }
    out[0] = (char)c;
    return 1;
}

const char *ps_log_quote(const char *value, char *buf, size_t size) {
    if (size == 0) return "";
    if (!needs_quotes(value)) {
        size_t n = strnlen(value, size - 1);
        memcpy(buf, value, n);
        buf[n] = '\0';
        return buf;
    }
    if (size < 3) {
        buf[0] = 0;
        return buf;
    }
    size_t at = 0;
    buf[at++] = '"';
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        char out[4];
        size_t n = escape(*p, out);
        if (at + n + 2 > size) break;
        memcpy(buf + at, out, n);
        at += n;
    }
    buf[at++] = '"';
    buf[at] = 0;
    return buf;
}
