/* str.c - the growing byte string. */
#include "base/str.h"

#include <stdio.h>
#include <string.h>

/* What `data` points to before the first allocation: never written, because room is 0 then. */
static const char empty[1] = "";

void ps_str_init(ps_str *s, ps_alloc_state *alloc) {
    *s = (ps_str) { .alloc = alloc, .data = (char *)empty };
}

void ps_str_release(ps_str *s) {
    if (s->room) ps_free(s->alloc, s->data);
    ps_str_init(s, s->alloc);
}

void ps_str_clear(ps_str *s) {
    s->size = 0;
    s->failed = false;
    if (s->room) s->data[0] = 0;
}

bool ps_str_reserve(ps_str *s, size_t extra) {
    size_t need;
    if (ps_add_overflow_size(s->size, extra, &need) || ps_add_overflow_size(need, 1, &need)) goto fail;
    if (need <= s->room) return true;
    size_t room = s->room ? s->room : 32;
    while (room < need) {
        if (ps_add_overflow_size(room, room, &room)) goto fail;
    }
    char *data = s->room ? ps_realloc(s->alloc, s->data, room) : ps_alloc(s->alloc, room);
    if (!data) goto fail;
    data[s->size] = 0;
    s->data = data;
    s->room = room;
    return true;
fail:
    s->failed = true;
    return false;
}

void ps_str_append_n(ps_str *s, const void *data, size_t n) {
    if (n == 0 || !ps_str_reserve(s, n)) return;
    memcpy(s->data + s->size, data, n);
    s->size += n;
    s->data[s->size] = 0;
}

void ps_str_append(ps_str *s, const char *text) {
    ps_str_append_n(s, text, strlen(text));
}

void ps_str_char(ps_str *s, char c) {
    ps_str_append_n(s, &c, 1);
}

void ps_str_vprintf(ps_str *s, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    size_t left = s->room - s->size;
    int n = vsnprintf(s->room ? s->data + s->size : NULL, left, fmt, ap);
    if (n < 0) {
        s->failed = true;
        if (s->room) s->data[s->size] = 0;
    } else if ((size_t)n < left) {
        s->size += (size_t)n;
    } else if (ps_str_reserve(s, (size_t)n)) {
        vsnprintf(s->data + s->size, (size_t)n + 1, fmt, again);
        s->size += (size_t)n;
    } else if (s->room) {
        s->data[s->size] = 0; /* the part that fitted is not wanted */
    }
    va_end(again);
}

void ps_str_printf(ps_str *s, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    ps_str_vprintf(s, fmt, ap);
    va_end(ap);
}

char *ps_str_take(ps_str *s) {
    char *data = NULL;
    if (!s->failed && (s->room || ps_str_reserve(s, 0))) {
        data = s->data;
        ps_str_init(s, s->alloc);
    } else {
        ps_str_release(s);
    }
    return data;
}

bool ps_size_parse(const char *text, size_t *ret) {
    static const char units[] = "KMGT";
    size_t n = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (ps_mul_overflow_size(n, 10, &n) || ps_add_overflow_size(n, (size_t)(*p - '0'), &n)) return false;
    const char *unit = *p && p > text ? strchr(units, *p >= 'a' ? *p - 32 : *p) : NULL;
    for (const char *u = units; unit && u <= unit; u++)
        if (ps_mul_overflow_size(n, 1024, &n)) return false;
    if (unit) p++;
    if (unit && *p == 'i') p++;
    if (*p == 'B') p++;
    *ret = n;
    return p > text && !*p && n > 0;
}

void ps_snprintf(char *buf, size_t size, const char *fmt, ...) {
    if (size == 0) return;
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(buf, size, fmt, ap) < 0) buf[0] = 0;
    va_end(ap);
}
