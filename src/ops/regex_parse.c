/* regex_parse.c - a pattern becomes a tree.
 *
 * Source: the page "Syntax" of RE2's documentation. What RE2 lacks is refused here too (back references, look-around,
 * possessive repeats); \C (one byte) and classes of scripts (\p{Greek}) are refused although RE2 has them. */
#include <string.h>

#include "ops/regex_int.h"

enum { FOLD = 1, MULTI_LINE = 2, DOT_ALL = 4 };

typedef struct parser {
    ps_re_tree *tree;
    const char *begin, *at, *end;
    unsigned flags;
    int depth;
    bool quoted; /* between \Q and \E */
    ps_error *err;
} parser;

#define WRONG(p, code, ...) wrong((p), PS_FAIL((p)->err, code, __VA_ARGS__))

/* Says where. */
static ps_status wrong(const parser *p, ps_status status) {
    ps_error_prefix(p->err, "the pattern, byte %zu", (size_t)(p->at - p->begin));
    return status;
}

static ps_status no_memory(const parser *p) {
    return PS_FAIL(p->err, LIMIT, "out of memory for a pattern, or it has too many characters in classes");
}

static bool more(const parser *p) {
    return p->at < p->end;
}

static bool looking_at(const parser *p, const char *text) {
    size_t n = strlen(text);
    return (size_t)(p->end - p->at) >= n && memcmp(p->at, text, n) == 0;
}

static bool accept(parser *p, const char *text) {
    if (!looking_at(p, text)) return false;
    p->at += strlen(text);
    return true;
}

static ps_status add_node(parser *p, ps_re_kind kind, int32_t a, int32_t b, uint32_t child, uint32_t *ret) {
    ps_re_node node = { kind, a, b, child, PS_RE_NONE, 1 };
    *ret = (uint32_t)p->tree->nodes.size;
    return ps_vec_push(p->tree->alloc, &p->tree->nodes, node) ? PS_OK : no_memory(p);
}

static ps_re_node *node_at(parser *p, uint32_t index) {
    return &p->tree->nodes.data[index];
}

/* Hangs `child` in front of the children of a list. */
static void adopt(parser *p, uint32_t parent, uint32_t child) {
    ps_re_node *list = node_at(p, parent), *node = node_at(p, child);
    node->next = list->child;
    list->child = child;
    if (node->repeats > list->repeats) list->repeats = node->repeats;
}

static ps_status read_rune(parser *p, int32_t *ret) {
    size_t n;
    *ret = ps_rune_decode(p->at, (size_t)(p->end - p->at), &n);
    if (*ret < 0) return WRONG(p, FORMAT, "is not UTF-8");
    p->at += n;
    return PS_OK;
}

/* ---- escapes ---- */

static int digit(char c, int base) {
    int v = c >= '0' && c <= '9'   ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                   : 99;
    return v < base ? v : -1;
}

/* Behind \x: two digits, or any number in braces. */
static ps_status read_hex(parser *p, int32_t *ret) {
    int64_t v = 0;
    bool braces = accept(p, "{");
    int n = 0;
    for (; more(p) && digit(*p->at, 16) >= 0 && (braces ? v <= PS_RUNE_MAX : n < 2); n++)
        v = v * 16 + digit(*p->at++, 16);
    if (n == 0 || v > PS_RUNE_MAX || (braces ? !accept(p, "}") : n != 2))
        return WRONG(p, FORMAT, "\\x needs two digits, or a character's number in braces");
    *ret = (int32_t)v;
    return PS_OK;
}

static ps_status read_octal(parser *p, char first, int32_t *ret) {
    if (first != '0' && !(more(p) && digit(*p->at, 8) >= 0))
        return WRONG(p, UNSUPPORTED, "\\%c refers back to a group, which RE2 does not have", first);
    *ret = first - '0';
    for (int n = 0; n < 2 && more(p) && digit(*p->at, 8) >= 0; n++)
        *ret = *ret * 8 + digit(*p->at++, 8);
    return PS_OK;
}

/* One character behind a backslash. */
static ps_status read_escaped(parser *p, int32_t *ret) {
    static const char letters[] = "aftnrv", values[] = "\a\f\t\n\r\v";
    if (!more(p)) return WRONG(p, FORMAT, "ends in a backslash");
    char c = *p->at;
    const char *known = strchr(letters, c);
    if (c && known) {
        p->at++;
        *ret = values[known - letters];
        return PS_OK;
    }
    if (c == 'x') {
        p->at++;
        return read_hex(p, ret);
    }
    if (c >= '0' && c <= '7') {
        p->at++;
        return read_octal(p, c, ret);
    }
    if (c == 'C') return WRONG(p, UNSUPPORTED, "\\C, one byte, is not supported");
    bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if ((unsigned char)c >= 0x80 || word) return WRONG(p, FORMAT, "'\\%c' is no escape of RE2", word ? c : '?');
    return read_rune(p, ret);
}

/* Behind \p or \P. */
static ps_status read_property(parser *p, bool negated) {
    uint32_t set;
    const char *name = p->at, *end = name + 1;
    if (accept(p, "{")) {
        if (accept(p, "^")) negated = !negated;
        name = p->at;
        end = memchr(name, '}', (size_t)(p->end - name));
        if (!end) return WRONG(p, FORMAT, "the brace of \\p{ is not closed");
        p->at = end + 1;
    } else if (more(p)) {
        p->at++;
    } else {
        return WRONG(p, FORMAT, "\\p names no class");
    }
    int shown = end - name < 40 ? (int)(end - name) : 40;
    if (!ps_rune_category(name, (size_t)(end - name), &set))
        return WRONG(p, UNSUPPORTED, "\\p{%.*s}: only general categories (L, Lu, Nd …) are supported, no scripts",
                     shown, name);
    ps_re_set_categories(p->tree, set, negated);
    return PS_OK;
}

/* \d, \pL and their like, added to the set at hand; *ret_done is false if something else stands here. */
static ps_status read_class_escape(parser *p, bool *ret_done) {
    *ret_done = false;
    if (p->end - p->at < 2 || *p->at != '\\') return PS_OK;
    char c = p->at[1];
    if (c == 'p' || c == 'P') {
        p->at += 2;
        *ret_done = true;
        return read_property(p, c == 'P');
    }
    if (!ps_re_set_perl(p->tree, c, ret_done)) return no_memory(p);
    if (*ret_done) p->at += 2;
    return PS_OK;
}

/* ---- sets ---- */

/* One end of a range. */
static ps_status read_member(parser *p, int32_t *ret) {
    if (accept(p, "\\")) return read_escaped(p, ret);
    return read_rune(p, ret);
}

static ps_status read_named_class(parser *p, bool *ret_done) {
    *ret_done = false;
    if (!looking_at(p, "[:")) return PS_OK;
    const char *name = p->at + 2, *end = name;
    while (end + 1 < p->end && !(end[0] == ':' && end[1] == ']'))
        end++;
    if (end + 1 >= p->end) return PS_OK; /* no end: the bracket stands for itself */
    if (!ps_re_set_posix(p->tree, name, (size_t)(end - name), ret_done)) return no_memory(p);
    if (!*ret_done) return WRONG(p, FORMAT, "[:%.*s:] is no class", end - name < 40 ? (int)(end - name) : 40, name);
    p->at = end + 2;
    return PS_OK;
}

static ps_status read_range(parser *p) {
    int32_t low, high;
    PS_TRY(read_member(p, &low));
    high = low;
    if (p->end - p->at >= 2 && p->at[0] == '-' && p->at[1] != ']') {
        p->at++;
        PS_TRY(read_member(p, &high));
        if (high < low) return WRONG(p, FORMAT, "a range of characters runs backwards");
    }
    return ps_re_set_add(p->tree, low, high) ? PS_OK : no_memory(p);
}

/* Behind the bracket, to the one that closes it. */
static ps_status read_set(parser *p, uint32_t *ret) {
    if (!ps_re_set_open(p->tree, p->flags & FOLD)) return no_memory(p);
    bool negated = accept(p, "^"), done;
    for (bool first = true; first || !looking_at(p, "]"); first = false) {
        if (!more(p)) return WRONG(p, FORMAT, "a bracket is not closed");
        PS_TRY(read_named_class(p, &done));
        if (!done) PS_TRY(read_class_escape(p, &done));
        if (!done) PS_TRY(read_range(p));
    }
    p->at++;
    ps_re_set_close(p->tree);
    p->tree->sets.data[p->tree->sets.size - 1].negated = negated;
    return add_node(p, PS_RE_SET, (int32_t)p->tree->sets.size - 1, 0, PS_RE_NONE, ret);
}

static ps_status simple_set(parser *p, int32_t low, int32_t high, bool negated, bool fold, uint32_t *ret) {
    if (!ps_re_set_open(p->tree, fold) || !ps_re_set_add(p->tree, low, high)) return no_memory(p);
    ps_re_set_close(p->tree);
    p->tree->sets.data[p->tree->sets.size - 1].negated = negated;
    return add_node(p, PS_RE_SET, (int32_t)p->tree->sets.size - 1, 0, PS_RE_NONE, ret);
}

static ps_status literal(parser *p, int32_t rune, uint32_t *ret) {
    return simple_set(p, rune, rune, false, p->flags & FOLD, ret);
}

/* ---- groups ---- */

static ps_status read_alternatives(parser *p, uint32_t *ret);

/* Flags behind "(?", up to the colon or the parenthesis that ends them. */
static ps_status read_flags(parser *p, bool *ret_group) {
    bool on = true, any = false;
    unsigned flags = p->flags;
    for (; more(p); p->at++) {
        unsigned flag = *p->at == 'i' ? FOLD : *p->at == 'm' ? MULTI_LINE : *p->at == 's' ? DOT_ALL : 0;
        if (*p->at == ':' || *p->at == ')') break;
        if (*p->at == '-' && on) {
            on = any = false;
            continue;
        }
        if (!flag && *p->at != 'U') break; /* U swaps greedy and lazy */
        flags = on ? flags | flag : flags & ~flag;
        any = true;
    }
    if (!more(p) || (*p->at != ':' && *p->at != ')') || (!on && !any) || (*p->at == ')' && !any))
        return WRONG(p, FORMAT, "what stands behind '(?' is no group of RE2");
    *ret_group = *p->at++ == ':';
    p->flags = flags;
    return PS_OK;
}

static ps_status skip_name(parser *p) {
    const char *name = p->at;
    while (more(p) && *p->at != '>') {
        char c = *p->at++;
        bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!word) return WRONG(p, FORMAT, "a group's name holds more than letters, digits and '_'");
    }
    if (p->at == name || !accept(p, ">")) return WRONG(p, FORMAT, "a group's name is empty or not closed");
    return PS_OK;
}

/* Behind the parenthesis. A list of flags without a colon gives the empty text and holds to the end of its group. */
static ps_status read_group(parser *p, uint32_t *ret) {
    unsigned flags = p->flags;
    if (accept(p, "?P<") ||
        (looking_at(p, "?<") && !looking_at(p, "?<=") && !looking_at(p, "?<!") && accept(p, "?<"))) {
        PS_TRY(skip_name(p));
    } else if (accept(p, "?")) {
        bool group;
        PS_TRY(read_flags(p, &group));
        if (!group) return add_node(p, PS_RE_EMPTY, 0, 0, PS_RE_NONE, ret);
    }
    if (++p->depth > PS_REGEX_MAX_DEPTH)
        return WRONG(p, LIMIT, "more than %d groups in each other", PS_REGEX_MAX_DEPTH);
    PS_TRY(read_alternatives(p, ret));
    p->depth--;
    if (!accept(p, ")")) return WRONG(p, FORMAT, "a parenthesis is not closed");
    p->flags = flags;
    return PS_OK;
}

/* ---- repeats ---- */

static bool read_number(parser *p, int32_t *ret) {
    const char *from = p->at;
    *ret = 0;
    for (; more(p) && digit(*p->at, 10) >= 0; p->at++)
        if (*ret <= PS_REGEX_MAX_REPEAT) *ret = *ret * 10 + digit(*p->at, 10);
    return p->at > from;
}

/* {n}, {n,}, {n,m}; anything else in braces stands for itself. */
static bool read_counts(parser *p, int32_t *low, int32_t *high) {
    const char *from = p->at;
    if (accept(p, "{") && read_number(p, low)) {
        *high = *low;
        if (accept(p, ",") && !read_number(p, high)) *high = -1;
        if (accept(p, "}")) return true;
    }
    p->at = from;
    return false;
}

static bool read_repeat(parser *p, int32_t *low, int32_t *high) {
    if (!more(p)) return false;
    *low = *p->at == '+';
    *high = *p->at == '?' ? 1 : -1;
    if (*p->at == '*' || *p->at == '+' || *p->at == '?') {
        p->at++;
        return true;
    }
    return read_counts(p, low, high);
}

static ps_status repeat(parser *p, int32_t low, int32_t high, uint32_t *node) {
    int32_t most = high > low ? high : low, inner = node_at(p, *node)->repeats;
    if (low > PS_REGEX_MAX_REPEAT || high > PS_REGEX_MAX_REPEAT || (high >= 0 && high < low))
        return WRONG(p, FORMAT, "a repeat runs backwards or beyond %d", PS_REGEX_MAX_REPEAT);
    if (most < 1) most = 1;
    if ((int64_t)most * inner > PS_REGEX_MAX_REPEAT)
        return WRONG(p, LIMIT, "repeats in each other multiply to more than %d", PS_REGEX_MAX_REPEAT);
    PS_TRY(add_node(p, PS_RE_REPEAT, low, high, *node, node));
    node_at(p, *node)->repeats = most * inner;
    return PS_OK;
}

/* An optional repeat behind an atom. Two in a row are no pattern: a** is a slip of the pen, not (a*)*. */
static ps_status read_suffix(parser *p, uint32_t *node) {
    int32_t low, high;
    if (p->quoted && !accept(p, "\\E")) return PS_OK;
    p->quoted = false;
    if (!read_repeat(p, &low, &high)) return PS_OK;
    accept(p, "?"); /* lazy: decides nothing where the longest match is wanted */
    if (read_repeat(p, &(int32_t) { 0 }, &(int32_t) { 0 })) return WRONG(p, FORMAT, "a repeat follows a repeat");
    return repeat(p, low, high, node);
}

/* ---- atoms, sequences, alternatives ---- */

static ps_status place(parser *p, ps_re_place where, uint32_t *ret) {
    return add_node(p, PS_RE_ASSERT, where, 0, PS_RE_NONE, ret);
}

static ps_status read_escape_atom(parser *p, uint32_t *ret) {
    static const char letters[] = "AzbB";
    static const ps_re_place places[] = { PS_RE_TEXT_BEGIN, PS_RE_TEXT_END, PS_RE_WORD, PS_RE_NO_WORD };
    bool done;
    int32_t rune;
    if (p->end - p->at >= 2 && p->at[1] && strchr(letters, p->at[1])) {
        p->at += 2;
        return place(p, places[strchr(letters, p->at[-1]) - letters], ret);
    }
    if (!ps_re_set_open(p->tree, p->flags & FOLD)) return no_memory(p);
    PS_TRY(read_class_escape(p, &done));
    if (done) {
        ps_re_set_close(p->tree);
        return add_node(p, PS_RE_SET, (int32_t)p->tree->sets.size - 1, 0, PS_RE_NONE, ret);
    }
    p->tree->sets.size--;
    p->at++;
    PS_TRY(read_escaped(p, &rune));
    return literal(p, rune, ret);
}

static ps_status read_atom(parser *p, uint32_t *ret) {
    int32_t rune;
    if (!p->quoted) {
        if (read_repeat(p, &(int32_t) { 0 }, &(int32_t) { 0 }))
            return WRONG(p, FORMAT, "a repeat has nothing before it");
        if (*p->at == '\\') return read_escape_atom(p, ret);
        if (accept(p, "(")) return read_group(p, ret);
        if (accept(p, "[")) return read_set(p, ret);
        if (accept(p, "^")) return place(p, p->flags & MULTI_LINE ? PS_RE_LINE_BEGIN : PS_RE_TEXT_BEGIN, ret);
        if (accept(p, "$")) return place(p, p->flags & MULTI_LINE ? PS_RE_LINE_END : PS_RE_TEXT_END, ret);
        if (accept(p, "."))
            return p->flags & DOT_ALL ? simple_set(p, 0, PS_RUNE_MAX, false, false, ret)
                                      : simple_set(p, '\n', '\n', true, false, ret);
    }
    PS_TRY(read_rune(p, &rune));
    return literal(p, rune, ret);
}

/* Up to a bar, a parenthesis or the end. */
static ps_status read_sequence(parser *p, uint32_t *ret) {
    PS_TRY(add_node(p, PS_RE_CONCAT, 0, 0, PS_RE_NONE, ret));
    while (more(p)) {
        uint32_t atom;
        if (p->quoted ? accept(p, "\\E") : accept(p, "\\Q")) {
            p->quoted = !p->quoted;
            continue;
        }
        if (!p->quoted && (*p->at == '|' || *p->at == ')')) break;
        PS_TRY(read_atom(p, &atom));
        PS_TRY(read_suffix(p, &atom));
        adopt(p, *ret, atom);
    }
    return PS_OK;
}

static ps_status read_alternatives(parser *p, uint32_t *ret) {
    uint32_t first;
    PS_TRY(read_sequence(p, ret));
    if (!looking_at(p, "|")) return PS_OK;
    first = *ret;
    PS_TRY(add_node(p, PS_RE_ALTERNATE, 0, 0, PS_RE_NONE, ret));
    adopt(p, *ret, first);
    while (accept(p, "|")) {
        uint32_t next;
        PS_TRY(read_sequence(p, &next));
        adopt(p, *ret, next);
    }
    return PS_OK;
}

ps_status ps_re_parse(ps_re_tree *tree, const char *pattern, size_t size, ps_error *err) {
    parser p = { .tree = tree, .begin = pattern, .at = pattern, .end = pattern + size, .err = err };
    PS_TRY(read_alternatives(&p, &tree->root));
    if (more(&p)) return WRONG(&p, FORMAT, "a parenthesis is closed that is not open");
    return PS_OK;
}

void ps_re_tree_release(ps_re_tree *tree) {
    ps_vec_release(tree->alloc, &tree->nodes);
    ps_vec_release(tree->alloc, &tree->ranges);
    ps_vec_release(tree->alloc, &tree->sets);
}
