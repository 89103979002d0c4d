/* reply.c - reads the replies of HTTP/1.1 that say their length. */
#define _GNU_SOURCE /* memmem */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "open_loop.h"

enum { FIRST_ROOM = 4096, MAX_HEAD = 64 << 10 };
static const size_t max_body = (size_t)1 << 30;

void ol_reply_reset(ol_reply *r) {
    r->size = r->head = r->body = r->json = 0;
    r->status = 0;
    r->close = false;
}

void ol_reply_release(ol_reply *r) {
    free(r->data);
    *r = (ol_reply) { 0 };
}

size_t ol_reply_reserve(ol_reply *r) {
    size_t need = r->head ? r->head + r->body : r->size + FIRST_ROOM / 2;
    if (need <= r->size) need = r->size + 1;
    if (need > r->room) {
        r->room = need < FIRST_ROOM ? FIRST_ROOM : need;
        r->data = ol_realloc(r->data, r->room, 1);
    }
    return r->room - r->size;
}

static bool read_length(const char *text, size_t *ret) {
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || value > max_body) return false;
    *ret = (size_t)value;
    return true;
}

/* The value of a header line "Name: value" if it has that name, else NULL. */
static const char *value_of(const char *line, size_t size, const char *name) {
    size_t n = strlen(name);
    if (size <= n || line[n] != ':' || strncasecmp(line, name, n) != 0) return NULL;
    for (line += n + 1; *line == ' '; line++)
        continue;
    return line;
}

/* One line of the head; it ends in CR LF. */
static bool read_header(ol_reply *r, const char *line, size_t size, bool *has_length) {
    const char *value;
    if ((value = value_of(line, size, "Content-Length"))) {
        *has_length = true;
        return read_length(value, &r->body);
    }
    if ((value = value_of(line, size, "Inference-Header-Content-Length"))) return read_length(value, &r->json);
    if ((value = value_of(line, size, "Connection"))) r->close = strncasecmp(value, "close", 5) == 0;
    return true;
}

static void read_head(ol_reply *r) {
    const char *end = r->data + r->head - 2, *line = memmem(r->data, r->head, "\r\n", 2);
    bool has_length = false;
    r->status = OL_UNREADABLE;
    if (strncmp(r->data, "HTTP/1.", 7) != 0 || r->data[8] != ' ') return;
    int status = (int)strtol(r->data + 9, NULL, 10);
    if (status < 100 || status > 999) return;
    for (line += 2; line < end;) {
        const char *stop = memmem(line, (size_t)(end - line) + 2, "\r\n", 2);
        if (!read_header(r, line, (size_t)(stop - line), &has_length)) return;
        line = stop + 2;
    }
    if (!has_length || r->json > r->body) return; /* chunked replies are none that we know */
    r->status = status;
}

bool ol_reply_complete(ol_reply *r) {
    if (!r->head) {
        const char *end = r->size ? memmem(r->data, r->size, "\r\n\r\n", 4) : NULL;
        if (!end) {
            if (r->size >= MAX_HEAD) r->status = OL_UNREADABLE;
            return r->status == OL_UNREADABLE;
        }
        r->head = (size_t)(end - r->data) + 4;
        read_head(r);
    }
    return r->status == OL_UNREADABLE || r->size >= r->head + r->body;
}
