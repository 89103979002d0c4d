#include "server/access_log.h"

#include <string.h>

#include "server/json_number.h"

/* Long names are cut off. By hand, as every request has one: printf takes longer than reading the request. */
typedef struct line {
    char text[1024];
    size_t size;
} line;

static void put(line *l, const char *text) {
    size_t n = strlen(text), room = sizeof l->text - 1 - l->size;
    if (n > room) n = room;
    memcpy(l->text + l->size, text, n);
    l->size += n;
}

enum { MAX_PATH = 320, MAX_MODEL = 264, MAX_ID = 136 }; /* quoted, with NUL */

static void put_quoted(line *l, const char *key, const char *value, size_t max) {
    char buf[MAX_PATH];
    put(l, key);
    put(l, ps_log_quote(value, buf, max));
}

static void put_number(line *l, const char *key, uint64_t value) {
    char buf[PS_NUMBER_TEXT];
    put(l, key);
    buf[ps_number_write_u64(buf, value)] = '\0';
    put(l, buf);
}

/* Milliseconds with three decimals. */
static void put_duration(line *l, const char *key, int64_t ns) {
    uint64_t us = ns > 0 ? ((uint64_t)ns + 500) / 1000 : 0, part = us % 1000;
    char decimals[] = { '.', (char)('0' + part / 100), (char)('0' + part / 10 % 10), (char)('0' + part % 10), '\0' };
    put_number(l, key, us / 1000);
    put(l, decimals);
}

void ps_access_log(const ps_log *log, const ps_access *a) {
    line l = { .size = 0 };
    if (!log->fn) return;
    put(&l, "event=request method=");
    put(&l, a->method);
    put_quoted(&l, " path=", a->path, MAX_PATH);
    put(&l, " status=");
    put(&l, a->status);
    put_number(&l, " in=", a->in);
    put_number(&l, " out=", a->out);
    put_duration(&l, " ms=", a->ns);
    put_quoted(&l, " model=", a->model, MAX_MODEL);
    put_quoted(&l, " id=", a->id, MAX_ID);
    if (*a->trace_id) put(&l, " trace=");
    put(&l, a->trace_id);
    if (*a->parent_id) put(&l, " parent=");
    put(&l, a->parent_id);
    if (a->aborted) put(&l, " aborted=true");
    l.text[l.size] = '\0';
    log->fn(log->ctx, PS_LOG_INFO, l.text);
}
