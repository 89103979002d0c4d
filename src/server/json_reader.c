#include "server/json_reader.h"

#include <string.h>

#include "server/json_number.h"
#include "server/json_text.h"

void ps_json_init(ps_json *r, const char *text, size_t size, ps_arena *arena) {
    *r = (ps_json) { text, text, text + size, arena, 0 };
}

char ps_json_peek(ps_json *r) {
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
        r->p++;
    return r->p < r->end ? *r->p : '\0';
}

size_t ps_json_offset(const ps_json *r) {
    return (size_t)(r->p - r->begin);
}

bool ps_json_key_is(const ps_string *key, const char *name) {
    return strlen(name) == key->size && memcmp(key->data, name, key->size) == 0;
}

ps_status ps_json_enter(ps_json *r, char open, ps_json_iter *it, ps_error *err) {
    if (ps_json_peek(r) != open)
        return PS_FAIL(err, FORMAT, "JSON byte %zu: expected %s", ps_json_offset(r),
                       open == '{' ? "an object" : "an array");
    PS_FAIL_IF(r->depth == PS_JSON_MAX_DEPTH, err, FORMAT, "JSON byte %zu: nested deeper than %d levels",
               ps_json_offset(r), PS_JSON_MAX_DEPTH);
    r->depth++;
    r->p++;
    *it = (ps_json_iter) { open == '{' ? '}' : ']', false };
    return PS_OK;
}

ps_status ps_json_next(ps_json *r, ps_json_iter *it, ps_string *key, bool *ret_more, ps_error *err) {
    char c = ps_json_peek(r);
    if (c == it->close) {
        r->p++;
        r->depth--;
        *ret_more = false;
        return PS_OK;
    }
    if (it->started) {
        PS_FAIL_IF(c != ',', err, FORMAT, "JSON byte %zu: expected ',' or '%c'", ps_json_offset(r), it->close);
        r->p++;
    }
    it->started = true;
    *ret_more = true;
    if (it->close == ']') return PS_OK;
    PS_TRY(ps_json_string(r, key, err));
    PS_FAIL_IF(ps_json_peek(r) != ':', err, FORMAT, "JSON byte %zu: expected ':'", ps_json_offset(r));
    r->p++;
    return PS_OK;
}

ps_status ps_json_object(ps_json *r, ps_json_member member, void *ctx, ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    PS_TRY(ps_json_enter(r, '{', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(r, &it, &key, &more, err));
        if (!more) return PS_OK;
        PS_TRY(member(r, &key, ctx, err));
    }
}

/* ---- strings ---- */

static int hex4(const char *p, const char *end) {
    int v = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

static size_t put_utf8(char *out, uint32_t c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* \uXXXX at p (behind the u), a pair of surrogates included. Returns the position after it or NULL. */
static const char *unescape_unicode(const char *p, const char *end, char *out, size_t *used) {
    int high = hex4(p, end), low;
    if (high < 0 || (high >= 0xdc00 && high < 0xe000)) return NULL;
    p += 4;
    if (high < 0xd800 || high >= 0xe000) {
        *used += put_utf8(out + *used, (uint32_t)high);
        return p;
    }
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return NULL;
    low = hex4(p + 2, end);
    if (low < 0xdc00 || low >= 0xe000) return NULL;
    *used += put_utf8(out + *used, 0x10000u + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
    return p + 6;
}

/* Copies [p, end) resolving escapes; the result is never longer than the source. NULL: a bad escape, at *ret_bad. */
static const char *unescape(const char *p, const char *end, char *out, size_t *ret_size, const char **ret_bad) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    size_t used = 0;
    while (p < end) {
        const char *escape = p;
        if (*p != '\\') {
            out[used++] = *p++;
            continue;
        }
        const char *known = memchr(from, p[1], sizeof from - 1); /* a backslash is never the last byte */
        if (known) {
            out[used++] = to[known - from];
            p += 2;
            continue;
        }
        p = p[1] == 'u' ? unescape_unicode(p + 2, end, out, &used) : NULL;
        if (!p) {
            *ret_bad = escape;
            return NULL;
        }
    }
    *ret_size = used;
    return out;
}

ps_status ps_json_string(ps_json *r, ps_string *ret, ps_error *err) {
    const char *first, *bad = NULL;
    bool escapes = false, ascii = true;
    PS_FAIL_IF(ps_json_peek(r) != '"', err, FORMAT, "JSON byte %zu: expected a string", ps_json_offset(r));
    first = ++r->p;
    for (; r->p < r->end && *r->p != '"'; r->p++) {
        unsigned char c = (unsigned char)*r->p;
        PS_FAIL_IF(c < 0x20, err, FORMAT, "JSON byte %zu: control character in a string", ps_json_offset(r));
        ascii &= c < 0x80;
        if (c == '\\') {
            escapes = true;
            if (++r->p == r->end) break;
        }
    }
    PS_FAIL_IF(r->p >= r->end, err, FORMAT, "JSON byte %zu: string without end", (size_t)(first - 1 - r->begin));
    *ret = (ps_string) { first, (size_t)(r->p - first) };
    r->p++;
    PS_FAIL_IF(!ascii && !ps_utf8_valid(ret->data, ret->size), err, FORMAT, "JSON byte %zu: string is not UTF-8",
               (size_t)(first - r->begin));
    if (!escapes) return PS_OK;
    char *copy = ps_arena_alloc(r->arena, ret->size + 1);
    if (!copy) return PS_FAIL_NOMEM(err, "a string of the request");
    ret->data = unescape(ret->data, ret->data + ret->size, copy, &ret->size, &bad);
    PS_FAIL_IF(!ret->data, err, FORMAT, "JSON byte %zu: bad escape in a string", (size_t)(bad - r->begin));
    return PS_OK;
}

ps_status ps_json_cstring(ps_json *r, const char **ret, ps_error *err) {
    ps_string s;
    size_t at = ps_json_offset(r);
    PS_TRY(ps_json_string(r, &s, err));
    PS_FAIL_IF(memchr(s.data, '\0', s.size), err, FORMAT, "JSON byte %zu: NUL in a name", at);
    *ret = ps_arena_strndup(r->arena, s.data, s.size);
    return *ret ? PS_OK : PS_FAIL_NOMEM(err, "a string of the request");
}

/* ---- scalars ---- */

ps_status ps_json_int(ps_json *r, int64_t *ret, ps_error *err) {
    ps_number n;
    ps_json_peek(r);
    PS_FAIL_IF(!ps_number_scan(r->p, r->end, &n) || !ps_number_i64(&n, ret), err, FORMAT,
               "JSON byte %zu: expected an integer", ps_json_offset(r));
    r->p = n.end;
    return PS_OK;
}

ps_status ps_json_uint(ps_json *r, uint64_t *ret, ps_error *err) {
    ps_number n;
    ps_json_peek(r);
    PS_FAIL_IF(!ps_number_scan(r->p, r->end, &n) || !ps_number_u64(&n, ret), err, FORMAT,
               "JSON byte %zu: expected an integer that is not negative", ps_json_offset(r));
    r->p = n.end;
    return PS_OK;
}

static bool literal(ps_json *r, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(r->end - r->p) < len || memcmp(r->p, word, len) != 0) return false;
    r->p += len;
    return true;
}

ps_status ps_json_bool(ps_json *r, bool *ret, ps_error *err) {
    ps_json_peek(r);
    *ret = literal(r, "true");
    PS_FAIL_IF(!*ret && !literal(r, "false"), err, FORMAT, "JSON byte %zu: expected true or false", ps_json_offset(r));
    return PS_OK;
}

static ps_status skip_scalar(ps_json *r, ps_error *err) {
    ps_number n;
    ps_string s;
    char c = ps_json_peek(r);
    if (c == '"') return ps_json_string(r, &s, err);
    if (literal(r, "true") || literal(r, "false") || literal(r, "null")) return PS_OK;
    PS_FAIL_IF(!ps_number_scan(r->p, r->end, &n), err, FORMAT, "JSON byte %zu: expected a value", ps_json_offset(r));
    r->p = n.end;
    return PS_OK;
}

ps_status ps_json_skip(ps_json *r, ps_error *err) {
    ps_json_iter open[PS_JSON_MAX_DEPTH + 1];
    int level = 0;
    ps_string key;
    do {
        char c = ps_json_peek(r);
        bool more = true;
        if (c == '{' || c == '[')
            PS_TRY(ps_json_enter(r, c, &open[level++], err));
        else
            PS_TRY(skip_scalar(r, err));
        while (level > 0) {
            PS_TRY(ps_json_next(r, &open[level - 1], &key, &more, err));
            if (more) break;
            level--;
        }
    } while (level > 0);
    return PS_OK;
}

ps_status ps_json_finish(ps_json *r, ps_error *err) {
    ps_json_peek(r);
    PS_FAIL_IF(r->p != r->end, err, FORMAT, "JSON byte %zu: text behind the end of the document", ps_json_offset(r));
    return PS_OK;
}
