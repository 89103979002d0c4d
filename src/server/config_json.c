/* config_json.c - the JSON mapping of a model's configuration. A list becomes members of one name; null is as good as
 * absent. */
#include "server/config_tree.h"
#include "server/json_reader.h"

typedef struct reader {
    ps_json json;
    ps_config_tree *tree;
    const char *counted; /* lines up to here are in `line` */
    size_t line;
} reader;

static size_t line_of(reader *r) {
    for (; r->counted < r->json.p; r->counted++)
        if (*r->counted == '\n') r->line++;
    return r->line;
}

static ps_status read_members(reader *r, ps_config_node *message, ps_error *err);

static ps_status read_scalar(reader *r, ps_config_node *node, ps_error *err) {
    ps_string s;
    if (ps_json_peek(&r->json) == '"') {
        PS_TRY(ps_json_string(&r->json, &s, err));
        return ps_config_set(r->tree, node, PS_CONFIG_STRING, s.data, s.size, err);
    }
    const char *start = r->json.p;
    PS_TRY(ps_json_skip(&r->json, err));
    return ps_config_set(r->tree, node, PS_CONFIG_WORD, start, (size_t)(r->json.p - start), err);
}

static bool is_null(reader *r) {
    return ps_json_peek(&r->json) == 'n';
}

static ps_status read_value(reader *r, ps_config_node ***last, const ps_string *key, ps_error *err) {
    ps_config_node *node;
    if (is_null(r)) return ps_json_skip(&r->json, err);
    PS_TRY(ps_config_add(r->tree, last, key->data, key->size, line_of(r), &node, err));
    return ps_json_peek(&r->json) == '{' ? read_members(r, node, err) : read_scalar(r, node, err);
}

/* Lists in lists mean nothing here. */
static ps_status read_list(reader *r, ps_config_node ***last, const ps_string *key, ps_error *err) {
    ps_json_iter it;
    ps_string none;
    bool more;
    PS_TRY(ps_json_enter(&r->json, '[', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(&r->json, &it, &none, &more, err));
        if (!more) return PS_OK;
        PS_FAIL_IF(ps_json_peek(&r->json) == '[', err, FORMAT, "line %zu: a list in a list", line_of(r));
        PS_TRY(read_value(r, last, key, err));
    }
}

static ps_status read_members(reader *r, ps_config_node *message, ps_error *err) {
    ps_config_node **last = &message->first;
    ps_json_iter it;
    ps_string key;
    bool more;
    message->kind = PS_CONFIG_MESSAGE;
    PS_TRY(ps_json_enter(&r->json, '{', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(&r->json, &it, &key, &more, err));
        if (!more) return PS_OK;
        if (ps_json_peek(&r->json) == '[')
            PS_TRY(read_list(r, &last, &key, err));
        else
            PS_TRY(read_value(r, &last, &key, err));
    }
}

ps_status ps_config_json_read(const char *text, size_t size, ps_arena *arena, ps_config_tree *ret, ps_error *err) {
    reader r = { .tree = ret, .counted = text, .line = 1 };
    ps_config_node **last;
    PS_FAIL_IF(size > PS_CONFIG_MAX_BYTES, err, LIMIT, "it has %zu bytes, allowed are %zu", size, PS_CONFIG_MAX_BYTES);
    *ret = (ps_config_tree) { .arena = arena, .json = true };
    last = &ret->root;
    ps_json_init(&r.json, text, size, arena);
    PS_TRY(ps_config_add(ret, &last, "", 0, 1, &ret->root, err));
    PS_TRY(read_members(&r, ret->root, err));
    return ps_json_finish(&r.json, err);
}
