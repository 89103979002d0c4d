/* config_tree.h - a model's configuration file as a tree, before anybody asks what it means.
 *
 * Both forms that Triton's users write become the same tree: config.pbtxt (protocol buffers' text format) and
 * config.json (the JSON mapping of the same message). A field that repeats is several members of one name, and so is
 * each item of a list. A map is one message with a member per entry in JSON, {"k": v}, and one message per entry in
 * text, { key: "k" value: v }; ps_config_map reads both. Everything lies in the arena. Not shared between threads.
 *
 * Limits: PS_CONFIG_MAX_BYTES of text, PS_CONFIG_MAX_DEPTH levels, PS_CONFIG_MAX_NODES values. */
#ifndef PS_SERVER_CONFIG_TREE_H
#define PS_SERVER_CONFIG_TREE_H

#include "base/arena.h"
#include "base/error.h"
#include "polestar/tensor.h"

#define PS_CONFIG_MAX_BYTES ((size_t)1 << 20)
#define PS_CONFIG_MAX_DEPTH 30
#define PS_CONFIG_MAX_NODES 65536

typedef enum ps_config_kind {
    PS_CONFIG_MESSAGE,
    PS_CONFIG_STRING, /* in quotes */
    PS_CONFIG_WORD,   /* a number, a name of an enumeration, true or false */
} ps_config_kind;

typedef struct ps_config_node {
    const char *name; /* of the field; "" for the whole file */
    ps_config_kind kind;
    ps_string text; /* of scalars; NUL-terminated behind its size */
    struct ps_config_node *first, *next;
    size_t line; /* 1-based */
} ps_config_node;

/* Counts what a reader has made, against the limit. */
typedef struct ps_config_tree {
    ps_arena *arena;
    ps_config_node *root; /* a message */
    size_t nodes;
    bool json;
} ps_config_tree;

ps_status ps_config_text_read(const char *text, size_t size, ps_arena *arena, ps_config_tree *ret, ps_error *err);
ps_status ps_config_json_read(const char *text, size_t size, ps_arena *arena, ps_config_tree *ret, ps_error *err);

/* ---- for the two readers ---- */

/* Appends a member to what *last points to and moves *last. name is copied. */
ps_status ps_config_add(ps_config_tree *tree, ps_config_node ***last, const char *name, size_t name_size, size_t line,
                        ps_config_node **ret, ps_error *err);
/* Gives the node a copy of the text. */
ps_status ps_config_set(ps_config_tree *tree, ps_config_node *node, ps_config_kind kind, const char *text, size_t size,
                        ps_error *err);

/* ---- for whoever asks what it means: errors name line, field and value ---- */

bool ps_config_is(const ps_config_node *node, const char *name);
ps_status ps_config_message(const ps_config_node *node, ps_error *err);
ps_status ps_config_int(const ps_config_node *node, int64_t min, int64_t max, int64_t *ret, ps_error *err);
ps_status ps_config_bool(const ps_config_node *node, bool *ret, ps_error *err);
/* Not a number's text only: any string or word, without NUL. */
ps_status ps_config_string(const ps_config_node *node, const char **ret, ps_error *err);
/* Calls `entry` for each entry of a map that `node` has: the whole map in JSON, one entry in text. */
typedef ps_status (*ps_config_entry)(void *ctx, const char *key, const ps_config_node *value, ps_error *err);
ps_status ps_config_map(const ps_config_tree *tree, const ps_config_node *node, ps_config_entry entry, void *ctx,
                        ps_error *err);

#endif
