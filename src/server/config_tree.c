#include "server/config_tree.h"

#include <inttypes.h>
#include <string.h>

#include "server/json_number.h"

#define SHOWN 64 /* bytes of a value in a sentence */

ps_status ps_config_add(ps_config_tree *tree, ps_config_node ***last, const char *name, size_t name_size, size_t line,
                        ps_config_node **ret, ps_error *err) {
    PS_FAIL_IF(tree->nodes == PS_CONFIG_MAX_NODES, err, LIMIT, "line %zu: there are more than %d values", line,
               PS_CONFIG_MAX_NODES);
    ps_config_node *node = PS_ARENA_NEW(tree->arena, ps_config_node);
    char *copy = ps_arena_strndup(tree->arena, name, name_size);
    if (!node || !copy) return PS_FAIL_NOMEM(err, "a model's configuration");
    *node = (ps_config_node) { .name = copy, .text = { "", 0 }, .line = line };
    tree->nodes++;
    **last = node;
    *last = &node->next;
    *ret = node;
    return PS_OK;
}

ps_status ps_config_set(ps_config_tree *tree, ps_config_node *node, ps_config_kind kind, const char *text, size_t size,
                        ps_error *err) {
    char *copy = ps_arena_text(tree->arena, text, size);
    if (!copy) return PS_FAIL_NOMEM(err, "a model's configuration");
    node->kind = kind;
    node->text = (ps_string) { copy, size };
    return PS_OK;
}

bool ps_config_is(const ps_config_node *node, const char *name) {
    return strcmp(node->name, name) == 0;
}

static int shown(const ps_config_node *node) {
    return (int)(node->text.size < SHOWN ? node->text.size : SHOWN);
}

ps_status ps_config_message(const ps_config_node *node, ps_error *err) {
    PS_FAIL_IF(node->kind != PS_CONFIG_MESSAGE, err, FORMAT, "line %zu: '%.64s' is a value, not a message { … }",
               node->line, node->name);
    return PS_OK;
}

static ps_status scalar(const ps_config_node *node, ps_error *err) {
    PS_FAIL_IF(node->kind == PS_CONFIG_MESSAGE, err, FORMAT, "line %zu: '%.64s' is a message, not a value", node->line,
               node->name);
    return PS_OK;
}

/* The JSON mapping writes numbers of 64 bits as strings. */
ps_status ps_config_int(const ps_config_node *node, int64_t min, int64_t max, int64_t *ret, ps_error *err) {
    ps_number n;
    PS_TRY(scalar(node, err));
    const char *end = node->text.data + node->text.size;
    bool ok = ps_number_scan(node->text.data, end, &n) == end && ps_number_i64(&n, ret);
    PS_FAIL_IF(!ok || *ret < min || *ret > max, err, FORMAT,
               "line %zu: '%.64s' is '%.*s', not a whole number from %" PRId64 " to %" PRId64, node->line, node->name,
               shown(node), node->text.data, min, max);
    return PS_OK;
}

static bool text_is(const ps_config_node *node, const char *word) {
    return node->text.size == strlen(word) && memcmp(node->text.data, word, node->text.size) == 0;
}

/* The words that protocol buffers take. */
ps_status ps_config_bool(const ps_config_node *node, bool *ret, ps_error *err) {
    PS_TRY(scalar(node, err));
    *ret = text_is(node, "true") || text_is(node, "True") || text_is(node, "t") || text_is(node, "1");
    bool off = text_is(node, "false") || text_is(node, "False") || text_is(node, "f") || text_is(node, "0");
    PS_FAIL_IF(!*ret && !off, err, FORMAT, "line %zu: '%.64s' is '%.*s', neither true nor false", node->line,
               node->name, shown(node), node->text.data);
    return PS_OK;
}

ps_status ps_config_string(const ps_config_node *node, const char **ret, ps_error *err) {
    PS_TRY(scalar(node, err));
    PS_FAIL_IF(strlen(node->text.data) != node->text.size, err, FORMAT, "line %zu: '%.64s' has a NUL byte", node->line,
               node->name);
    *ret = node->text.data;
    return PS_OK;
}

static ps_status text_entry(const ps_config_node *node, ps_config_entry entry, void *ctx, ps_error *err) {
    const ps_config_node *key = NULL, *value = NULL;
    const char *name;
    for (const ps_config_node *n = node->first; n; n = n->next) {
        if (ps_config_is(n, "key")) key = n;
        if (ps_config_is(n, "value")) value = n;
    }
    PS_FAIL_IF(!key || !value, err, FORMAT, "line %zu: an entry of '%.64s' has no %s", node->line, node->name,
               key ? "value" : "key");
    PS_TRY(ps_config_string(key, &name, err));
    return entry(ctx, name, value, err);
}

ps_status ps_config_map(const ps_config_tree *tree, const ps_config_node *node, ps_config_entry entry, void *ctx,
                        ps_error *err) {
    PS_TRY(ps_config_message(node, err));
    if (!tree->json) return text_entry(node, entry, ctx, err);
    for (const ps_config_node *n = node->first; n; n = n->next)
        PS_TRY(entry(ctx, n->name, n, err));
    return PS_OK;
}
