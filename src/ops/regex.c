/* regex.c - the program of a pattern, and the machine that runs it. */
#include "ops/regex.h"

#include <string.h>

#include "ops/regex_int.h"

/* ---- compiling ---- */

typedef struct compiler {
    const ps_re_tree *tree;
    PS_VEC(ps_re_inst) code;
    ps_error *err;
} compiler;

static ps_status emit(compiler *c, ps_re_op op, uint32_t x, uint32_t y, uint32_t *ret) {
    ps_re_inst inst = { op, x, y };
    PS_FAIL_IF(c->code.size >= PS_REGEX_MAX_PROGRAM, c->err, LIMIT, "the pattern needs more than %d steps",
               PS_REGEX_MAX_PROGRAM);
    *ret = (uint32_t)c->code.size;
    return ps_vec_push(c->tree->alloc, &c->code, inst) ? PS_OK : PS_FAIL_NOMEM(c->err, "a pattern's program");
}

static ps_status compile(compiler *c, uint32_t index, uint32_t next, uint32_t *ret);

/* From the last copy to the first: what may be there a limited number of times more, or a loop; then what must be. */
static ps_status compile_repeat(compiler *c, const ps_re_node *node, uint32_t next, uint32_t *ret) {
    uint32_t at = next, inner;
    if (node->b < 0) {
        PS_TRY(emit(c, PS_RE_OP_SPLIT, next, next, &at));
        PS_TRY(compile(c, node->child, at, &inner));
        c->code.data[at].x = inner;
    }
    for (int32_t k = node->a; k < node->b; k++) {
        PS_TRY(compile(c, node->child, at, &inner));
        PS_TRY(emit(c, PS_RE_OP_SPLIT, inner, next, &at));
    }
    for (int32_t k = 0; k < node->a; k++)
        PS_TRY(compile(c, node->child, at, &at));
    *ret = at;
    return PS_OK;
}

static ps_status compile_alternatives(compiler *c, const ps_re_node *node, uint32_t next, uint32_t *ret) {
    uint32_t at = PS_RE_NONE, one;
    for (uint32_t k = node->child; k != PS_RE_NONE; k = c->tree->nodes.data[k].next) {
        PS_TRY(compile(c, k, next, &one));
        if (at == PS_RE_NONE)
            at = one;
        else
            PS_TRY(emit(c, PS_RE_OP_SPLIT, one, at, &at));
    }
    *ret = at;
    return PS_OK;
}

/* The place to enter at for what `index` matches, followed by what is matched from `next` on. */
static ps_status compile(compiler *c, uint32_t index, uint32_t next, uint32_t *ret) {
    const ps_re_node *node = &c->tree->nodes.data[index];
    *ret = next;
    switch (node->kind) {
    case PS_RE_EMPTY: return PS_OK;
    case PS_RE_SET: return emit(c, PS_RE_OP_SET, (uint32_t)node->a, next, ret);
    case PS_RE_ASSERT: return emit(c, PS_RE_OP_ASSERT, (uint32_t)node->a, next, ret);
    case PS_RE_ALTERNATE: return compile_alternatives(c, node, next, ret);
    case PS_RE_REPEAT: return compile_repeat(c, node, next, ret);
    case PS_RE_CONCAT:
        for (uint32_t k = node->child; k != PS_RE_NONE; k = c->tree->nodes.data[k].next)
            PS_TRY(compile(c, k, *ret, ret));
        return PS_OK;
    }
    return PS_OK;
}

/* An array in the arena: what is empty needs none. */
static ps_status keep(ps_arena *arena, const void *data, size_t bytes, const void **ret, ps_error *err) {
    *ret = bytes ? ps_arena_memdup(arena, data, bytes) : NULL;
    return *ret || !bytes ? PS_OK : PS_FAIL_NOMEM(err, "a pattern's program");
}

static ps_status assemble(ps_arena *arena, compiler *c, const ps_regex **ret, ps_error *err) {
    const ps_re_tree *t = c->tree;
    ps_regex re = { .n = 0 };
    uint32_t match;
    PS_TRY(emit(c, PS_RE_OP_MATCH, 0, 0, &match));
    PS_TRY(compile(c, t->root, match, &re.start));
    re.n = (uint32_t)c->code.size;
    PS_TRY(keep(arena, c->code.data, c->code.size * sizeof *c->code.data, (const void **)&re.code, err));
    PS_TRY(keep(arena, t->sets.data, t->sets.size * sizeof *t->sets.data, (const void **)&re.sets, err));
    PS_TRY(keep(arena, t->ranges.data, t->ranges.size * sizeof *t->ranges.data, (const void **)&re.ranges, err));
    return keep(arena, &re, sizeof re, (const void **)ret, err);
}

ps_status ps_regex_compile(ps_arena *arena, ps_alloc_state *scratch, const char *pattern, size_t size,
                           const ps_regex **ret, ps_error *err) {
    ps_re_tree tree = { .alloc = scratch };
    compiler c = { .tree = &tree, .err = err };
    ps_status status = ps_re_parse(&tree, pattern, size, err);
    if (status == PS_OK) status = assemble(arena, &c, ret, err);
    ps_vec_release(scratch, &c.code);
    ps_re_tree_release(&tree);
    return status;
}

/* ---- matching ---- */

/* Where the machine stands between two characters; -1: the text's end on that side, or a byte that is no character. */
typedef struct border {
    int32_t before, after;
    bool first, last;
} border;

typedef struct machine {
    const ps_regex *re;
    uint32_t *list, *next; /* instructions to be run on the next character; to be run on the one after it */
    uint32_t *mark;        /* round in which an instruction was last put on a list */
    uint32_t *stack;
    uint32_t n_list, n_next, round;
    bool matched; /* the end of the pattern was reached in this round */
} machine;

size_t ps_regex_work(const ps_regex *re) {
    return (size_t)re->n * 4 * sizeof(uint32_t);
}

static bool is_word(int32_t c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool holds(ps_re_place place, const border *b) {
    switch (place) {
    case PS_RE_TEXT_BEGIN: return b->first;
    case PS_RE_TEXT_END: return b->last;
    case PS_RE_LINE_BEGIN: return b->first || b->before == '\n';
    case PS_RE_LINE_END: return b->last || b->after == '\n';
    case PS_RE_WORD: return is_word(b->before) != is_word(b->after);
    default: return is_word(b->before) == is_word(b->after);
    }
}

static void visit(machine *m, uint32_t at, uint32_t *depth) {
    if (m->mark[at] == m->round) return;
    m->mark[at] = m->round;
    m->stack[(*depth)++] = at;
}

/* Puts on the next list what can be reached from an instruction without a character. */
static void follow(machine *m, uint32_t at, const border *b) {
    uint32_t depth = 0;
    visit(m, at, &depth);
    while (depth) {
        const uint32_t k = m->stack[--depth];
        const ps_re_inst *inst = &m->re->code[k];
        switch (inst->op) {
        case PS_RE_OP_SET: m->next[m->n_next++] = k; break;
        case PS_RE_OP_MATCH: m->matched = true; break;
        case PS_RE_OP_ASSERT:
            if (holds((ps_re_place)inst->x, b)) visit(m, inst->y, &depth);
            break;
        case PS_RE_OP_SPLIT:
            visit(m, inst->x, &depth);
            visit(m, inst->y, &depth);
            break;
        }
    }
}

static void begin_round(machine *m) {
    if (++m->round == 0) { /* after 2^32 characters */
        memset(m->mark, 0, m->re->n * sizeof *m->mark);
        m->round = 1;
    }
    m->n_next = 0;
    m->matched = false;
}

static void swap_lists(machine *m) {
    uint32_t *list = m->list;
    m->list = m->next;
    m->n_list = m->n_next;
    m->next = list;
}

bool ps_regex_match(const ps_regex *re, const char *text, size_t size, void *work) {
    uint32_t *block = work;
    machine m = { .re = re,
                  .list = block,
                  .next = block + re->n,
                  .mark = block + 2 * (size_t)re->n,
                  .stack = block + 3 * (size_t)re->n };
    size_t at = 0, n = 0;
    border b = { -1, size ? ps_rune_decode(text, size, &n) : -1, true, size == 0 };
    memset(m.mark, 0, re->n * sizeof *m.mark);
    begin_round(&m);
    follow(&m, re->start, &b);
    swap_lists(&m);
    while (at < size && m.n_list) {
        const int32_t rune = b.after;
        at += n;
        b = (border) { rune, at < size ? ps_rune_decode(text + at, size - at, &n) : -1, false, at == size };
        begin_round(&m);
        for (uint32_t k = 0; k < m.n_list; k++) {
            const ps_re_inst *inst = &re->code[m.list[k]];
            if (ps_re_set_has(&re->sets[inst->x], re->ranges, rune)) follow(&m, inst->y, &b);
        }
        swap_lists(&m);
    }
    return at == size && m.matched;
}
