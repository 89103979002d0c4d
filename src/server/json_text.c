#include "server/json_text.h"

#include <string.h>

static void write_escape(ps_str *out, unsigned char c) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *known = memchr(from, c, sizeof from - 1);
    if (known) {
        char pair[2] = { '\\', to[known - from] };
        ps_str_append_n(out, pair, 2);
    } else {
        ps_str_printf(out, "\\u%04x", c);
    }
}

void ps_json_write_string_n(ps_str *out, const char *text, size_t size) {
    size_t start = 0;
    ps_str_char(out, '"');
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        ps_str_append_n(out, text + start, i - start);
        write_escape(out, c);
        start = i + 1;
    }
    ps_str_append_n(out, text + start, size - start);
    ps_str_char(out, '"');
}

void ps_json_write_string(ps_str *out, const char *text) {
    ps_json_write_string_n(out, text, strlen(text));
}

void ps_json_write_error(ps_str *out, const char *text) {
    char clean[1024];
    ps_snprintf(clean, sizeof clean, "%s", text);
    if (!ps_utf8_valid(clean, strlen(clean))) /* bytes of the request, or a name cut in the middle of a character */
        for (char *p = clean; *p; p++)
            if ((unsigned char)*p >= 0x80) *p = '?';
    ps_str_append(out, "{\"error\":");
    ps_json_write_string(out, clean);
    ps_str_char(out, '}');
}

bool ps_utf8_valid(const char *data, size_t size) {
    const unsigned char *p = (const unsigned char *)data, *end = p + size;
    while (p < end) {
        uint32_t c = *p++, min;
        int more;
        if (c < 0x80) continue;
        if (c >= 0xc2 && c < 0xe0) {
            more = 1, min = 0x80, c &= 0x1f;
        } else if (c >= 0xe0 && c < 0xf0) {
            more = 2, min = 0x800, c &= 0x0f;
        } else if (c >= 0xf0 && c < 0xf5) {
            more = 3, min = 0x10000, c &= 0x07;
        } else {
            return false;
        }
        for (; more; more--, p++) {
            if (p == end || (*p & 0xc0) != 0x80) return false;
            c = c << 6 | (*p & 0x3f);
        }
        if (c < min || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
    }
    return true;
}
