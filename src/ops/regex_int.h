/* regex_int.h - what the parser, the compiler and the machine of regex.h share. */
#ifndef PS_OPS_REGEX_INT_H
#define PS_OPS_REGEX_INT_H

#include "base/vec.h"
#include "ops/regex.h"
#include "ops/unicode.h"

/* ---- sets of characters ---- */
typedef struct ps_re_range {
    int32_t low, high;
} ps_re_range;

typedef struct ps_re_set {
    uint32_t first, n;   /* of the ranges: ascending, apart from each other */
    uint32_t categories; /* of these as well … */
    uint32_t outside;    /* … and of all but these, if has_outside */
    bool has_outside, negated;
    bool fold; /* in as well: what differs from a character of the set in case only */
} ps_re_set;

/* ---- the tree of a pattern ---- */
typedef enum ps_re_kind {
    PS_RE_EMPTY,     /* the empty text */
    PS_RE_SET,       /* one character of set `a` */
    PS_RE_ASSERT,    /* a place: `a` is a ps_re_place */
    PS_RE_CONCAT,    /* children from the last to the first: `child`, then `next` of each */
    PS_RE_ALTERNATE, /* children in any order */
    PS_RE_REPEAT,    /* child, a to b times; b < 0: no limit */
} ps_re_kind;

typedef enum ps_re_place {
    PS_RE_TEXT_BEGIN,
    PS_RE_TEXT_END,
    PS_RE_LINE_BEGIN,
    PS_RE_LINE_END,
    PS_RE_WORD,
    PS_RE_NO_WORD
} ps_re_place;

#define PS_RE_NONE UINT32_MAX

typedef struct ps_re_node {
    ps_re_kind kind;
    int32_t a, b;
    uint32_t child, next; /* indices of nodes, or PS_RE_NONE */
    int32_t repeats;      /* the largest product of nested repeat counts inside, at least 1 */
} ps_re_node;

typedef struct ps_re_tree {
    ps_alloc_state *alloc;
    PS_VEC(ps_re_node) nodes;
    PS_VEC(ps_re_range) ranges;
    PS_VEC(ps_re_set) sets;
    uint32_t root;
} ps_re_tree;

/* regex_parse.c; the tree is zeroed but for its alloc, and to be released whatever comes out. */
ps_status ps_re_parse(ps_re_tree *tree, const char *pattern, size_t size, ps_error *err);
void ps_re_tree_release(ps_re_tree *tree);

/* regex_set.c: sets under construction are the last of the tree; false: out of memory, or more than fits. */
bool ps_re_set_open(ps_re_tree *tree, bool fold);
bool ps_re_set_add(ps_re_tree *tree, int32_t low, int32_t high);
/* What \d, \s, \w (a capital: all else) or [:name:], [:^name:] stand for. *ret_known is false if there is no such. */
bool ps_re_set_perl(ps_re_tree *tree, char letter, bool *ret_known);
bool ps_re_set_posix(ps_re_tree *tree, const char *name, size_t size, bool *ret_known);
void ps_re_set_categories(ps_re_tree *tree, uint32_t categories, bool negated);
void ps_re_set_close(ps_re_tree *tree);
bool ps_re_set_has(const ps_re_set *set, const ps_re_range *ranges, int32_t rune);

/* ---- the program ---- */
typedef enum ps_re_op {
    PS_RE_OP_SET,    /* a character of set x, then on at y */
    PS_RE_OP_ASSERT, /* at place x only, then on at y */
    PS_RE_OP_SPLIT,  /* on at x and at y */
    PS_RE_OP_MATCH
} ps_re_op;

typedef struct ps_re_inst {
    ps_re_op op;
    uint32_t x, y;
} ps_re_inst;

struct ps_regex {
    const ps_re_inst *code;
    const ps_re_set *sets;
    const ps_re_range *ranges;
    uint32_t n, start;
};

#endif
