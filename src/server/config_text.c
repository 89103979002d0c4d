/* config_text.c - protocol buffers' text format, as far as configurations of models use it: fields, messages in { } or
 * < >, lists in [ ], strings of either quote with escapes, joined where they stand beside each other, numbers, words,
 * comments behind '#'. Extensions and Any ([name] as a field) are refused. */
#include <string.h>

#include "base/str.h"
#include "server/config_tree.h"

typedef struct reader {
    const char *p, *end;
    size_t line;
    ps_config_tree *tree;
} reader;

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_word(char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '+' || c == '-';
}

/* The next character that is neither space nor comment; '\0' at the end. A NUL byte in the text ends nothing: it is no
 * field and no value. */
static char peek(reader *r) {
    for (; r->p < r->end; r->p++) {
        if (*r->p == '\n')
            r->line++;
        else if (*r->p == '#')
            while (r->p + 1 < r->end && r->p[1] != '\n')
                r->p++;
        else if (*r->p != ' ' && *r->p != '\t' && *r->p != '\r')
            return *r->p;
    }
    return '\0';
}

static bool at_end(reader *r) {
    return peek(r) == '\0' && r->p == r->end;
}

static bool take(reader *r, char c) {
    if (peek(r) != c || r->p == r->end) return false;
    r->p++;
    return true;
}

static ps_status expected(const reader *r, const char *what, ps_error *err) {
    if (r->p == r->end) return PS_FAIL(err, FORMAT, "line %zu: the text ends where %s should be", r->line, what);
    return PS_FAIL(err, FORMAT, "line %zu: expected %s, found '%c'", r->line, what, *r->p);
}

/* ---- strings ---- */

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return 99;
}

/* A byte of up to `most` digits. */
static char byte_of(reader *r, int base, int most) {
    int v = 0;
    for (int i = 0; i < most && r->p < r->end && digit(*r->p) < base; i++)
        v = v * base + digit(*r->p++);
    return (char)(unsigned char)v;
}

/* Behind the backslash. */
static ps_status unescape(reader *r, ps_str *out, ps_error *err) {
    static const char from[] = "abfnrtv\\'\"?", to[] = "\a\b\f\n\r\t\v\\'\"?";
    if (r->p == r->end) return expected(r, "the end of a string", err);
    const char *known = *r->p ? strchr(from, *r->p) : NULL;
    if (known) {
        ps_str_char(out, to[known - from]);
        r->p++;
    } else if (digit(*r->p) < 8) {
        ps_str_char(out, byte_of(r, 8, 3));
    } else if (*r->p == 'x' && r->p + 1 < r->end && digit(r->p[1]) < 16) {
        r->p++;
        ps_str_char(out, byte_of(r, 16, 2));
    } else {
        return PS_FAIL(err, FORMAT, "line %zu: a string has an escape that is not known", r->line);
    }
    return PS_OK;
}

static ps_status read_quoted(reader *r, ps_str *out, ps_error *err) {
    char quote = *r->p++;
    while (r->p < r->end && *r->p != quote) {
        PS_FAIL_IF(*r->p == '\n', err, FORMAT, "line %zu: a string has no end", r->line);
        if (*r->p != '\\') {
            ps_str_char(out, *r->p++);
            continue;
        }
        r->p++;
        PS_TRY(unescape(r, out, err));
    }
    PS_FAIL_IF(r->p == r->end, err, FORMAT, "line %zu: a string has no end", r->line);
    r->p++;
    return PS_OK;
}

static ps_status read_string(reader *r, ps_config_node *node, ps_error *err) {
    ps_status status = PS_OK;
    ps_str s;
    ps_str_init(&s, r->tree->arena->alloc);
    while (status == PS_OK && (peek(r) == '"' || peek(r) == '\''))
        status = read_quoted(r, &s, err);
    if (status == PS_OK && s.failed) status = PS_FAIL_NOMEM(err, "a model's configuration");
    if (status == PS_OK) status = ps_config_set(r->tree, node, PS_CONFIG_STRING, s.data, s.size, err);
    ps_str_release(&s);
    return status;
}

/* ---- fields ---- */

/* Spaces may stand behind a minus. */
static ps_status read_word(reader *r, ps_config_node *node, ps_error *err) {
    char text[128];
    size_t n = 0;
    if (take(r, '-')) text[n++] = '-';
    (void)peek(r);
    if (r->p == r->end || !is_word(*r->p)) return expected(r, "a value", err);
    while (r->p < r->end && is_word(*r->p)) {
        PS_FAIL_IF(n == sizeof text, err, FORMAT, "line %zu: the value of '%.64s' is too long", r->line, node->name);
        text[n++] = *r->p++;
    }
    return ps_config_set(r->tree, node, PS_CONFIG_WORD, text, n, err);
}

static ps_status read_name(reader *r, const char **ret, size_t *ret_size, ps_error *err) {
    if (!is_letter(peek(r))) return expected(r, "the name of a field", err);
    *ret = r->p;
    while (r->p < r->end && (is_letter(*r->p) || (*r->p >= '0' && *r->p <= '9')))
        r->p++;
    *ret_size = (size_t)(r->p - *ret);
    return PS_OK;
}

static ps_status read_members(reader *r, ps_config_node *message, char close, int depth, ps_error *err);

static ps_status read_value(reader *r, ps_config_node *node, int depth, ps_error *err) {
    char c = peek(r);
    if (c == '"' || c == '\'') return read_string(r, node, err);
    if (c != '{' && c != '<') return read_word(r, node, err);
    r->p++;
    return read_members(r, node, c == '{' ? '}' : '>', depth + 1, err);
}

/* NAME [ item, item ]: a member of that name for each item. */
static ps_status read_list(reader *r, ps_config_node ***last, const char *name, size_t size, int depth, ps_error *err) {
    ps_config_node *node;
    if (take(r, ']')) return PS_OK;
    for (;;) {
        PS_TRY(ps_config_add(r->tree, last, name, size, r->line, &node, err));
        PS_TRY(read_value(r, node, depth, err));
        if (take(r, ']')) return PS_OK;
        if (!take(r, ',')) return expected(r, "',' or ']'", err);
    }
}

static ps_status read_field(reader *r, ps_config_node ***last, int depth, ps_error *err) {
    ps_config_node *node;
    const char *name;
    size_t size;
    PS_TRY(read_name(r, &name, &size, err));
    bool colon = take(r, ':');
    char c = peek(r);
    if (!colon && c != '{' && c != '<' && c != '[') return expected(r, "':' or '{'", err);
    if (take(r, '[')) return read_list(r, last, name, size, depth, err);
    PS_TRY(ps_config_add(r->tree, last, name, size, r->line, &node, err));
    return read_value(r, node, depth, err);
}

/* close '\0': to the end of the text. */
static ps_status read_members(reader *r, ps_config_node *message, char close, int depth, ps_error *err) {
    ps_config_node **last = &message->first;
    PS_FAIL_IF(depth > PS_CONFIG_MAX_DEPTH, err, LIMIT, "line %zu: messages are nested deeper than %d levels", r->line,
               PS_CONFIG_MAX_DEPTH);
    message->kind = PS_CONFIG_MESSAGE;
    for (;;) {
        if (close ? take(r, close) : at_end(r)) return PS_OK;
        PS_TRY(read_field(r, &last, depth, err));
        if (!take(r, ',')) (void)take(r, ';');
    }
}

ps_status ps_config_text_read(const char *text, size_t size, ps_arena *arena, ps_config_tree *ret, ps_error *err) {
    reader r = { text, text + size, 1, ret };
    ps_config_node **last;
    PS_FAIL_IF(size > PS_CONFIG_MAX_BYTES, err, LIMIT, "it has %zu bytes, allowed are %zu", size, PS_CONFIG_MAX_BYTES);
    *ret = (ps_config_tree) { .arena = arena };
    last = &ret->root;
    PS_TRY(ps_config_add(ret, &last, "", 0, 1, &ret->root, err));
    return read_members(&r, ret->root, '\0', 0, err);
}
