#include "torch/pickle.h"

#include <string.h>

#include "base/str.h"
#include "base/vec.h"

enum { MAX_STACK = 4096, MAX_TUPLE = 64, MAX_MEMO = 1 << 20 };

typedef enum kind { MARK, NOTHING, TRUTH, INTEGER, TEXT, FUNCTION, STORAGE_TYPE, TUPLE, STORAGE, TENSOR, DICT } kind;

/* What FUNCTION is. */
enum { REBUILD_TENSOR, REBUILD_PARAMETER, ORDERED_DICT };

typedef struct item {
    kind kind;
    ps_dtype dtype;   /* of STORAGE_TYPE and STORAGE */
    int64_t n;        /* INTEGER, TRUTH, which FUNCTION, size of TUPLE */
    const char *text; /* TEXT; key of a STORAGE */
    const struct item *items;
    const ps_torch_stored *tensor;
} item;

typedef struct machine {
    const uint8_t *at, *end;
    ps_arena *arena;
    ps_map *tensors;
    ps_error *err;
    PS_VEC(item) stack;
    PS_VEC(item) memo;
} machine;

#define DAMAGED(m)                                                                                                     \
    PS_FAIL((m)->err, FORMAT, "a pickle of weights is damaged at byte %zu before its end", (size_t)((m)->end - (m)->at))

/* ---- stack ---- */

static ps_status push(machine *m, item it) {
    PS_FAIL_IF(m->stack.size >= MAX_STACK, m->err, LIMIT, "a pickle of weights needs a stack above %d", MAX_STACK);
    if (!ps_vec_push(m->arena->alloc, &m->stack, it)) return PS_FAIL_NOMEM(m->err, "a pickle");
    return PS_OK;
}

static bool pop(machine *m, item *ret) {
    if (!m->stack.size) return false;
    *ret = m->stack.data[--m->stack.size];
    return true;
}

/* Number of items above the last mark, which goes. */
static bool to_mark(machine *m, size_t *ret_first, size_t *ret_n) {
    size_t i = m->stack.size;
    while (i && m->stack.data[i - 1].kind != MARK)
        i--;
    if (!i) return false;
    *ret_first = i;
    *ret_n = m->stack.size - i;
    return true;
}

static ps_status make_tuple(machine *m, size_t first, size_t n, bool mark) {
    item *copy = ps_arena_array(m->arena, n + 1, sizeof *copy);
    PS_FAIL_IF(n > MAX_TUPLE, m->err, LIMIT, "a pickle of weights holds a tuple of %zu", n);
    if (!copy) return PS_FAIL_NOMEM(m->err, "a pickle");
    if (n) memcpy(copy, m->stack.data + first, n * sizeof *copy);
    m->stack.size = first - mark;
    return push(m, (item) { .kind = TUPLE, .n = (int64_t)n, .items = copy });
}

static ps_status tuple_of(machine *m, size_t n) {
    if (m->stack.size < n) return DAMAGED(m);
    return make_tuple(m, m->stack.size - n, n, false);
}

static ps_status tuple_to_mark(machine *m) {
    size_t first, n;
    if (!to_mark(m, &first, &n)) return DAMAGED(m);
    return make_tuple(m, first, n, true);
}

/* ---- reading ---- */

static bool take(machine *m, size_t n, const uint8_t **ret) {
    if ((size_t)(m->end - m->at) < n) return false;
    *ret = m->at;
    m->at += n;
    return true;
}

/* Little endian, of n bytes. */
static bool take_number(machine *m, size_t n, uint64_t *ret) {
    const uint8_t *p;
    if (!take(m, n, &p)) return false;
    *ret = 0;
    for (size_t i = 0; i < n; i++)
        *ret |= (uint64_t)p[i] << (8 * i);
    return true;
}

static ps_status push_int(machine *m, size_t bytes, bool is_signed) {
    uint64_t v;
    if (bytes > 8 || !take_number(m, bytes, &v)) return DAMAGED(m);
    if (is_signed && bytes && bytes < 8 && v >> (8 * bytes - 1)) v |= ~UINT64_C(0) << (8 * bytes);
    return push(m, (item) { .kind = INTEGER, .n = (int64_t)v });
}

static ps_status push_long(machine *m) {
    uint64_t bytes;
    if (!take_number(m, 1, &bytes)) return DAMAGED(m);
    return push_int(m, (size_t)bytes, true);
}

static ps_status push_text(machine *m, size_t size_bytes) {
    uint64_t n;
    const uint8_t *p;
    if (!take_number(m, size_bytes, &n) || n > (uint64_t)(m->end - m->at) || !take(m, (size_t)n, &p)) return DAMAGED(m);
    char *text = ps_arena_text(m->arena, p, (size_t)n);
    if (!text) return PS_FAIL_NOMEM(m->err, "a pickle");
    PS_FAIL_IF(strlen(text) != n, m->err, FORMAT, "a pickle of weights holds a text with a NUL");
    return push(m, (item) { .kind = TEXT, .text = text });
}

/* ---- what may be named ---- */

static ps_status find_global(machine *m, const char *module, const char *name, item *ret) {
    static const struct {
        const char *module, *name;
        kind kind;
        int64_t n;
        ps_dtype dtype;
    } known[] = {
        { "torch._utils", "_rebuild_tensor_v2", FUNCTION, REBUILD_TENSOR, 0 },
        { "torch._utils", "_rebuild_parameter", FUNCTION, REBUILD_PARAMETER, 0 },
        { "collections", "OrderedDict", FUNCTION, ORDERED_DICT, 0 },
        { "torch", "FloatStorage", STORAGE_TYPE, 0, PS_DTYPE_F32 },
        { "torch", "DoubleStorage", STORAGE_TYPE, 0, PS_DTYPE_F64 },
        { "torch", "HalfStorage", STORAGE_TYPE, 0, PS_DTYPE_F16 },
        { "torch", "BFloat16Storage", STORAGE_TYPE, 0, PS_DTYPE_BF16 },
        { "torch", "LongStorage", STORAGE_TYPE, 0, PS_DTYPE_I64 },
        { "torch", "IntStorage", STORAGE_TYPE, 0, PS_DTYPE_I32 },
        { "torch", "ShortStorage", STORAGE_TYPE, 0, PS_DTYPE_I16 },
        { "torch", "CharStorage", STORAGE_TYPE, 0, PS_DTYPE_I8 },
        { "torch", "ByteStorage", STORAGE_TYPE, 0, PS_DTYPE_U8 },
        { "torch", "BoolStorage", STORAGE_TYPE, 0, PS_DTYPE_BOOL },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(module, known[i].module) != 0 || strcmp(name, known[i].name) != 0) continue;
        *ret = (item) { .kind = known[i].kind, .n = known[i].n, .dtype = known[i].dtype };
        return PS_OK;
    }
    return PS_FAIL(m->err, UNSUPPORTED,
                   "a pickle of weights names '%.60s.%.60s': pickles are never executed, only tables of "
                   "plain tensors are read",
                   module, name);
}

static ps_status push_global(machine *m) {
    char part[2][128];
    item it;
    for (size_t i = 0; i < 2; i++) {
        const uint8_t *line = memchr(m->at, '\n', (size_t)(m->end - m->at));
        size_t n = line ? (size_t)(line - m->at) : sizeof part[i];
        if (n >= sizeof part[i]) return DAMAGED(m);
        memcpy(part[i], m->at, n);
        part[i][n] = '\0';
        m->at += n + 1;
    }
    PS_TRY(find_global(m, part[0], part[1], &it));
    return push(m, it);
}

/* ('storage', type, key, device, elements) */
static ps_status push_storage(machine *m) {
    item t;
    if (!pop(m, &t) || t.kind != TUPLE || t.n != 5 || t.items[0].kind != TEXT ||
        strcmp(t.items[0].text, "storage") != 0 || t.items[1].kind != STORAGE_TYPE || t.items[2].kind != TEXT)
        return DAMAGED(m);
    return push(m, (item) { .kind = STORAGE, .dtype = t.items[1].dtype, .text = t.items[2].text });
}

/* ---- calls ---- */

/* A tuple of numbers from 0. */
static bool sizes(const item *t, int64_t *ret) {
    if (t->kind != TUPLE || t->n > PS_MAX_RANK) return false;
    for (int64_t i = 0; i < t->n; i++) {
        if (t->items[i].kind != INTEGER || t->items[i].n < 0) return false;
        ret[i] = t->items[i].n;
    }
    return true;
}

/* (storage, offset, sizes, strides, requires_grad, hooks) */
static ps_status rebuild_tensor(machine *m, const item *a) {
    ps_torch_stored *s = PS_ARENA_NEW(m->arena, ps_torch_stored);
    if (!s) return PS_FAIL_NOMEM(m->err, "a pickle");
    if (a->n < 4 || a->items[0].kind != STORAGE || a->items[1].kind != INTEGER || a->items[1].n < 0 ||
        !sizes(&a->items[2], s->shape.dims) || !sizes(&a->items[3], s->strides) || a->items[2].n != a->items[3].n)
        return DAMAGED(m);
    s->key = a->items[0].text;
    s->dtype = a->items[0].dtype;
    s->offset = a->items[1].n;
    s->shape.rank = (int)a->items[2].n;
    return push(m, (item) { .kind = TENSOR, .tensor = s });
}

static ps_status call(machine *m) {
    item a, f;
    if (!pop(m, &a) || !pop(m, &f) || a.kind != TUPLE || f.kind != FUNCTION) return DAMAGED(m);
    if (f.n == REBUILD_TENSOR) return rebuild_tensor(m, &a);
    if (f.n == ORDERED_DICT) return push(m, (item) { .kind = DICT });
    if (a.n < 1 || a.items[0].kind != TENSOR) return DAMAGED(m);
    return push(m, a.items[0]);
}

static ps_status set_pair(machine *m, const item *key, const item *value) {
    if (key->kind != TEXT) return DAMAGED(m);
    PS_FAIL_IF(value->kind != TENSOR, m->err, UNSUPPORTED, "a pickle of weights: '%.100s' is no tensor", key->text);
    PS_FAIL_IF(ps_map_get(m->tensors, key->text), m->err, FORMAT, "a pickle of weights lists '%.100s' twice",
               key->text);
    if (!ps_map_put(m->tensors, key->text, (void *)value->tensor)) return PS_FAIL_NOMEM(m->err, "a pickle");
    return PS_OK;
}

static ps_status set_items(machine *m, size_t first, size_t n, bool mark) {
    const item *p = m->stack.data + first;
    if (n % 2 || first < (size_t)mark + 1 || m->stack.data[first - 1 - mark].kind != DICT) return DAMAGED(m);
    for (size_t i = 0; i < n; i += 2)
        PS_TRY(set_pair(m, &p[i], &p[i + 1]));
    m->stack.size = first - mark;
    return PS_OK;
}

static ps_status set_item(machine *m) {
    return m->stack.size < 3 ? DAMAGED(m) : set_items(m, m->stack.size - 2, 2, false);
}

static ps_status set_to_mark(machine *m) {
    size_t first, n;
    return to_mark(m, &first, &n) ? set_items(m, first, n, true) : DAMAGED(m);
}

/* ---- memo ---- */

static ps_status remember(machine *m, size_t index_bytes) {
    uint64_t index;
    if (!m->stack.size || !take_number(m, index_bytes, &index)) return DAMAGED(m);
    /* The pickler numbers what it writes one by one. */
    if (index > m->memo.size || index > MAX_MEMO) return DAMAGED(m);
    item top = m->stack.data[m->stack.size - 1];
    if (index < m->memo.size) {
        m->memo.data[index] = top;
        return PS_OK;
    }
    if (!ps_vec_push(m->arena->alloc, &m->memo, top)) return PS_FAIL_NOMEM(m->err, "a pickle");
    return PS_OK;
}

static ps_status recall(machine *m, size_t index_bytes) {
    uint64_t index;
    if (!take_number(m, index_bytes, &index) || index >= m->memo.size) return DAMAGED(m);
    return push(m, m->memo.data[index]);
}

/* ---- the machine (opcodes: Python's pickletools) ---- */

static ps_status step(machine *m, uint8_t op) {
    item dropped;
    const uint8_t *skipped;
    switch (op) {
    case 0x80: return take(m, 1, &skipped) ? PS_OK : DAMAGED(m); /* PROTO */
    case '(': return push(m, (item) { .kind = MARK });
    case '}': return push(m, (item) { .kind = DICT });
    case ')': return make_tuple(m, m->stack.size, 0, false);
    case 0x85: return tuple_of(m, 1);
    case 0x86: return tuple_of(m, 2);
    case 0x87: return tuple_of(m, 3);
    case 't': return tuple_to_mark(m);
    case 'N': return push(m, (item) { .kind = NOTHING });
    case 0x88: return push(m, (item) { .kind = TRUTH, .n = 1 });
    case 0x89: return push(m, (item) { .kind = TRUTH });
    case 'K': return push_int(m, 1, false);
    case 'M': return push_int(m, 2, false);
    case 'J': return push_int(m, 4, true);
    case 0x8a: return push_long(m);
    case 'X': return push_text(m, 4);
    case 'c': return push_global(m);
    case 'Q': return push_storage(m);
    case 'R': return call(m);
    case 's': return set_item(m);
    case 'u': return set_to_mark(m);
    case 'q': return remember(m, 1);
    case 'r': return remember(m, 4);
    case 'h': return recall(m, 1);
    case 'j': return recall(m, 4);
    case 'b': return pop(m, &dropped) ? PS_OK : DAMAGED(m); /* BUILD: attributes of an OrderedDict */
    default:
        return PS_FAIL(m->err, UNSUPPORTED,
                       "a pickle of weights uses the instruction 0x%02x: pickles are never executed, "
                       "only tables of plain tensors are read",
                       op);
    }
}

static ps_status run(machine *m) {
    while (m->at < m->end) {
        uint8_t op = *m->at++;
        if (op == '.') {
            if (m->stack.size != 1 || m->stack.data[0].kind != DICT) return DAMAGED(m);
            return PS_OK;
        }
        PS_TRY(step(m, op));
    }
    return DAMAGED(m);
}

ps_status ps_torch_unpickle(const uint8_t *data, size_t size, ps_arena *arena, ps_map *tensors, ps_error *err) {
    machine m = { .at = data, .end = data + size, .arena = arena, .tensors = tensors, .err = err };
    ps_status status = run(&m);
    ps_vec_release(arena->alloc, &m.stack);
    ps_vec_release(arena->alloc, &m.memo);
    return status;
}
