/* error.c - status texts and the formatting of one-sentence errors. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *ps_status_text(ps_status status) {
    switch (status) {
#define PS_CASE(name, value, text)                                                                                     \
    case PS_##name: return text;
        PS_STATUS_MAP(PS_CASE)
#undef PS_CASE
    }
    return "unknown status";
}

const char *ps_status_name(ps_status status) {
    switch (status) {
#define PS_CASE(name, value, text)                                                                                     \
    case PS_##name: return #name;
        PS_STATUS_MAP(PS_CASE)
#undef PS_CASE
    }
    return "UNKNOWN";
}

/* Names in a message come from model files and requests: control characters must not break the one line that the
 * message is, and a cut must not leave half a UTF-8 sequence. */
static void tidy(char *msg, size_t room, size_t full_length) {
    for (char *p = msg; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    }
    if (full_length < room) return;
    size_t end = room - 4;
    while (end > 0 && ((unsigned char)msg[end] & 0xC0) == 0x80)
        end--;
    memcpy(msg + end, "...", 4);
}

ps_status ps_error_set(ps_error *err, const char *file, int line, ps_status status, const char *fmt, ...) {
    if (!err) return status;
    char msg[sizeof err->msg]; /* an argument may be err->msg itself */
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (n < 0) msg[0] = 0;
    tidy(msg, sizeof msg, n < 0 ? 0 : (size_t)n);
    err->status = status;
    err->file = file;
    err->line = line;
    memcpy(err->msg, msg, sizeof msg);
    return status;
}

void ps_error_prefix(ps_error *err, const char *fmt, ...) {
    if (!err) return;
    char msg[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    size_t used = (size_t)n < sizeof msg ? (size_t)n : sizeof msg - 1;
    int more = snprintf(msg + used, sizeof msg - used, ": %s", err->msg);
    tidy(msg, sizeof msg, (size_t)n + (size_t)(more > 0 ? more : 0));
    memcpy(err->msg, msg, sizeof msg);
}
