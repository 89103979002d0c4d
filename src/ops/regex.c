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

/* Threads: instructions that are reached, each with the place in the text where it began; the earliest first. */
typedef struct threads {
    uint32_t *inst;
    size_t *start;
    uint32_t n;
} threads;

typedef struct machine {
    const ps_regex *re;
    threads list, next; /* at this character, at the one after it */
    uint32_t *mark;     /* round in which an instruction was last put on a list */
    uint32_t *stack;    /* each instruction that is taken from it puts two on it at most */
    uint32_t round;
} machine;

enum { WORK_WORDS = 2 + 1 + 3 }; /* lists, marks, stack */

size_t ps_regex_work(const ps_regex *re) {
    return (size_t)re->n * (2 * sizeof(size_t) + WORK_WORDS * sizeof(uint32_t));
}

static void machine_init(machine *m, const ps_regex *re, void *work) {
    size_t *starts = work;
    uint32_t *words = (uint32_t *)(starts + 2 * (size_t)re->n);
    *m = (machine) { .re = re,
                     .list = { words, starts, 0 },
                     .next = { words + re->n, starts + re->n, 0 },
                     .mark = words + 2 * (size_t)re->n,
                     .stack = words + 3 * (size_t)re->n };
    memset(m->mark, 0, re->n * sizeof *m->mark);
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

/* Puts on the next list what can be reached from an instruction without a character. */
static void follow(machine *m, uint32_t at, size_t start, const border *b) {
    uint32_t depth = 0;
    m->stack[depth++] = at;
    while (depth) {
        const uint32_t k = m->stack[--depth];
        const ps_re_inst *inst = &m->re->code[k];
        if (m->mark[k] == m->round) continue; /* reached by a thread that began no later */
        m->mark[k] = m->round;
        switch (inst->op) {
        case PS_RE_OP_SET:
        case PS_RE_OP_MATCH:
            m->next.start[m->next.n] = start;
            m->next.inst[m->next.n++] = k;
            break;
        case PS_RE_OP_ASSERT:
            if (holds((ps_re_place)inst->x, b)) m->stack[depth++] = inst->y;
            break;
        case PS_RE_OP_SPLIT:
            m->stack[depth++] = inst->y;
            m->stack[depth++] = inst->x;
            break;
        }
    }
}

static void begin_round(machine *m) {
    if (++m->round == 0) { /* after 2^32 characters */
        memset(m->mark, 0, m->re->n * sizeof *m->mark);
        m->round = 1;
    }
    m->next.n = 0;
}

static void swap_lists(machine *m) {
    const threads list = m->list;
    m->list = m->next;
    m->next = list;
}

/* What stands at `at`, and its bytes. */
static border border_at(const char *text, size_t size, size_t at, int32_t before, size_t *ret_bytes) {
    *ret_bytes = 0;
    return (border) { before, at < size ? ps_rune_decode(text + at, size - at, ret_bytes) : -1, at == 0, at == size };
}

/* The character before `at`; at most four bytes back. */
static int32_t rune_before(const char *text, size_t at) {
    size_t from = at, n;
    if (!at) return -1;
    do
        from--;
    while (from && at - from < 4 && ((unsigned char)text[from] & 0xC0) == 0x80);
    const int32_t rune = ps_rune_decode(text + from, at - from, &n);
    return n == at - from ? rune : -1;
}

bool ps_regex_match(const ps_regex *re, const char *text, size_t size, void *work) {
    machine m;
    size_t at = 0, n;
    border b = border_at(text, size, 0, -1, &n);
    machine_init(&m, re, work);
    begin_round(&m);
    follow(&m, re->start, 0, &b);
    swap_lists(&m);
    while (at < size && m.list.n) {
        const int32_t rune = b.after;
        at += n;
        b = border_at(text, size, at, rune, &n);
        begin_round(&m);
        for (uint32_t k = 0; k < m.list.n; k++) {
            const ps_re_inst *inst = &re->code[m.list.inst[k]];
            if (inst->op == PS_RE_OP_SET && ps_re_set_has(&re->sets[inst->x], re->ranges, rune))
                follow(&m, inst->y, 0, &b);
        }
        swap_lists(&m);
    }
    bool matched = false;
    for (uint32_t k = 0; k < m.list.n; k++)
        matched |= re->code[m.list.inst[k]].op == PS_RE_OP_MATCH;
    return matched && at == size;
}

bool ps_regex_find(const ps_regex *re, const char *text, size_t size, size_t from, size_t *ret_begin, size_t *ret_end,
                   void *work) {
    machine m;
    bool found = false;
    size_t n;
    border b = border_at(text, size, from, rune_before(text, from), &n);
    machine_init(&m, re, work);
    begin_round(&m);
    follow(&m, re->start, from, &b);
    swap_lists(&m);
    for (size_t at = from;;) {
        size_t next;
        const border after = border_at(text, size, at + n, b.after, &next);
        begin_round(&m);
        for (uint32_t k = 0; k < m.list.n; k++) {
            const ps_re_inst *inst = &re->code[m.list.inst[k]];
            if (found && m.list.start[k] > *ret_begin) break; /* began behind a match */
            if (inst->op == PS_RE_OP_MATCH) {
                found = true;
                *ret_begin = m.list.start[k];
                *ret_end = at;
            } else if (at < size && ps_re_set_has(&re->sets[inst->x], re->ranges, b.after)) {
                follow(&m, inst->y, m.list.start[k], &after);
            }
        }
        if (at == size || (found && !m.next.n)) return found;
        if (!found) follow(&m, re->start, at + n, &after);
        swap_lists(&m);
        b = after;
        at += n;
        n = next;
    }
}
