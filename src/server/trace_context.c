#include "server/trace_context.h"

#include <string.h>

enum { VERSION = 2, TRACE = 32, PARENT = 16, FLAGS = 2 };

/* n digits and then `after`, or the end where after is NUL. Moves *p past both. */
static bool take_hex(const char **p, size_t n, char after) {
    if (strspn(*p, "0123456789abcdef") != n || (*p)[n] != after) return false;
    *p += n + (after != '\0');
    return true;
}

bool ps_trace_context_parse(const char *text, char ret_trace[33], char ret_parent[17]) {
    const char *p = text, *trace = text + VERSION + 1, *parent = trace + TRACE + 1;
    if (!take_hex(&p, VERSION, '-') || strncmp(text, "ff", VERSION) == 0) return false;
    if (!take_hex(&p, TRACE, '-') || strspn(trace, "0") == TRACE) return false;
    if (!take_hex(&p, PARENT, '-') || strspn(parent, "0") == PARENT) return false;
    bool newer = strncmp(text, "00", VERSION) != 0;
    if (!take_hex(&p, FLAGS, '\0') && !(newer && take_hex(&p, FLAGS, '-'))) return false;
    memcpy(ret_trace, trace, TRACE);
    memcpy(ret_parent, parent, PARENT);
    ret_trace[TRACE] = ret_parent[PARENT] = '\0';
    return true;
}
