/* test_ops_cases.c - runs every case file of tests/data/ops through the operator table: shape rule and reference
 * kernel.
 *
 * A case is one node with inputs, attributes and the outputs that an independent implementation gave (the files are
 * written by tests/gen/ops_cases.py, which documents the format). Each case runs twice: with its `const` inputs as
 * constants of the graph, where the shape rule must tell every output's shape, and with all inputs as plain graph
 * inputs, where what it tells must not contradict the truth. Cases with strings, containers or prepared attributes run
 * once more for each allocation, which fails. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/ops.h"
#include "tensor/convert.h"
#include "test_alloc_fail.h"

enum { MAX_PORTS = 64, MAX_ATTRS = 24, MAX_TOLERANCES = 128, MAX_FILES = 256, MAX_WORDS = 1 << 17 };

typedef struct port {
    ps_tensor *tensor; /* NULL: omitted */
    bool is_const;
} port;

typedef struct tolerance {
    char op[64];
    double rtol, atol;
} tolerance;

typedef struct op_case {
    char name[128], op[64], domain[64];
    int64_t version;
    ps_status fails; /* PS_OK: it must work */
    bool has_tol;
    double rtol, atol;
    port in[MAX_PORTS], out[MAX_PORTS];
    size_t n_in, n_out;
    char *attr_lines[MAX_ATTRS]; /* parsed when the node exists: their payload lives in its arena */
    size_t n_attrs;
} op_case;

typedef struct reader {
    ps_test_alloc memory;
    ps_alloc_state alloc;
    FILE *file;
    const char *path;
    int line_no;
    char *line;
    size_t room;
    char **words;
    size_t n_words;
    tolerance tolerances[MAX_TOLERANCES];
    size_t n_tolerances;
} reader;

static char files[MAX_FILES][128];
static size_t n_files;

/* ---- reading a case file ---- */

#define MALFORMED(r, ...)                                                                                              \
    do {                                                                                                               \
        print_error("%s:%d: ", (r)->path, (r)->line_no);                                                               \
        print_error(__VA_ARGS__);                                                                                      \
        fail();                                                                                                        \
    } while (0)

static size_t split_words(char *line, char **words, size_t max) {
    size_t n = 0;
    for (char *save = NULL, *w = strtok_r(line, " \n", &save); w && n < max; w = strtok_r(NULL, " \n", &save))
        words[n++] = w;
    return n;
}

static ps_status status_by_name(const char *name) {
#define STATUS_CASE(id, value, text)                                                                                   \
    if (strcmp(name, #id) == 0) return PS_##id;
    PS_STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    return PS_OK;
}

static bool parse_shape(const char *word, ps_shape *ret) {
    *ret = (ps_shape) { 0 };
    if (*word++ != '[') return false;
    while (*word != ']') {
        char *end;
        if (ret->rank == PS_MAX_RANK) return false;
        ret->dims[ret->rank++] = strtoll(word, &end, 10);
        if (end == word || (*end != ',' && *end != ']')) return false;
        word = *end == ',' ? end + 1 : end;
    }
    return true;
}

/* 'text with %XX escapes, in place. */
static size_t decode_string(char *word) {
    char *to = word;
    for (const char *from = word + 1; *from; from++, to++) {
        if (*from == '%' && from[1] && from[2]) {
            const char hex[3] = { from[1], from[2], 0 };
            *to = (char)strtol(hex, NULL, 16);
            from += 2;
        } else {
            *to = *from;
        }
    }
    *to = 0;
    return (size_t)(to - word);
}

static ps_dtype wide_dtype(ps_dtype t) {
    switch (t) {
    case PS_DTYPE_U64: return PS_DTYPE_U64;
    case PS_DTYPE_U8:
    case PS_DTYPE_I8:
    case PS_DTYPE_U16:
    case PS_DTYPE_I16:
    case PS_DTYPE_U32:
    case PS_DTYPE_I32:
    case PS_DTYPE_I64:
    case PS_DTYPE_BOOL:
    case PS_DTYPE_U4:
    case PS_DTYPE_I4:
    case PS_DTYPE_U2:
    case PS_DTYPE_I2: return PS_DTYPE_I64;
    default: return PS_DTYPE_F64;
    }
}

static void fill_tensor(reader *r, ps_tensor *t, char **words, size_t n) {
    if (t->dtype == PS_DTYPE_STRING) {
        for (size_t i = 0; i < n; i++) {
            const size_t size = decode_string(words[i]);
            assert_int_equal(ps_tensor_set_string(t, i, words[i], size, NULL), PS_OK);
        }
        return;
    }
    const ps_dtype wide = wide_dtype(t->dtype);
    uint64_t *values = calloc(n + 1, sizeof *values);
    for (size_t i = 0; i < n; i++) {
        const double f = wide == PS_DTYPE_F64 ? strtod(words[i], NULL) : 0;
        const uint64_t u = wide == PS_DTYPE_U64 ? strtoull(words[i], NULL, 10) : (uint64_t)strtoll(words[i], NULL, 10);
        memcpy(&values[i], wide == PS_DTYPE_F64 ? (const void *)&f : (const void *)&u, 8);
    }
    /* Values of the file are exact ones of the type: infinities stay. */
    if (!ps_convert(values, wide, t->data, t->dtype, n, false))
        MALFORMED(r, "cannot write %s\n", ps_dtype_name(t->dtype));
    free(values);
}

/* words: dtype, shape, then values, or elements of a container that are written the same way. */
static ps_tensor *parse_part(reader *r, char **words, size_t n, size_t *ret_used) {
    ps_shape shape;
    int64_t count;
    if (n < 2) MALFORMED(r, "a tensor needs a type and a shape\n");
    const ps_dtype dtype = ps_dtype_parse(words[0]);
    if (dtype == PS_DTYPE_UNDEFINED || !parse_shape(words[1], &shape)) MALFORMED(r, "%s %s\n", words[0], words[1]);
    if (!ps_shape_elements(&shape, &count) || (size_t)count > n - 2)
        MALFORMED(r, "%s holds %lld elements, the line has %zu\n", words[1], (long long)count, n - 2);
    ps_tensor *t = NULL;
    assert_int_equal(ps_tensor_new(&r->alloc, dtype, &shape, &t, NULL), PS_OK);
    *ret_used = 2;
    if (!ps_dtype_is_container(dtype)) {
        fill_tensor(r, t, words + 2, (size_t)count);
        *ret_used += (size_t)count;
        return t;
    }
    for (size_t i = 0, used; i < (size_t)count; i++, *ret_used += used)
        assert_int_equal(ps_container_take(t, i, parse_part(r, words + *ret_used, n - *ret_used, &used), NULL), PS_OK);
    return t;
}

static ps_tensor *parse_tensor(reader *r, char **words, size_t n) {
    size_t used;
    ps_tensor *t = parse_part(r, words, n, &used);
    if (used != n) MALFORMED(r, "%s %s and %zu words too many\n", words[0], words[1], n - used);
    return t;
}

static void parse_port(reader *r, port *ports, size_t *n, bool is_const) {
    if (*n == MAX_PORTS) MALFORMED(r, "too many inputs or outputs\n");
    port *p = &ports[(*n)++];
    p->is_const = is_const;
    p->tensor = strcmp(r->words[1], "-") == 0 ? NULL : parse_tensor(r, r->words + 1, r->n_words - 1);
}

static void parse_tolerance(reader *r) {
    if (r->n_words < 5 || r->n_tolerances == MAX_TOLERANCES) MALFORMED(r, "tolerance OP RTOL ATOL reason\n");
    tolerance *t = &r->tolerances[r->n_tolerances++];
    snprintf(t->op, sizeof t->op, "%s", r->words[1]);
    t->rtol = strtod(r->words[2], NULL);
    t->atol = strtod(r->words[3], NULL);
}

static bool next_line(reader *r) {
    do {
        if (getline(&r->line, &r->room, r->file) < 0) return false;
        r->line_no++;
    } while (r->line[0] == '#' || r->line[0] == '\n');
    return true;
}

/* Reads up to `end`; false at the end of the file. */
static bool next_case(reader *r, op_case *c) {
    *c = (op_case) { 0 };
    while (next_line(r)) {
        if (strncmp(r->line, "attr ", 5) == 0) {
            if (c->n_attrs == MAX_ATTRS) MALFORMED(r, "too many attributes\n");
            c->attr_lines[c->n_attrs++] = strdup(r->line + 5);
            continue;
        }
        r->n_words = split_words(r->line, r->words, MAX_WORDS);
        const char *key = r->words[0];
        if (strcmp(key, "end") == 0) return true;
        if (r->n_words < 2) MALFORMED(r, "'%s' alone\n", key);
        if (strcmp(key, "tolerance") == 0) {
            parse_tolerance(r);
        } else if (strcmp(key, "case") == 0) {
            snprintf(c->name, sizeof c->name, "%s", r->words[1]);
        } else if (strcmp(key, "op") == 0 && r->n_words >= 3) {
            snprintf(c->op, sizeof c->op, "%s", r->words[1]);
            c->version = strtoll(r->words[2], NULL, 10);
            snprintf(c->domain, sizeof c->domain, "%s", r->n_words > 3 ? r->words[3] : "");
        } else if (strcmp(key, "in") == 0 || strcmp(key, "const") == 0) {
            parse_port(r, c->in, &c->n_in, key[0] == 'c');
        } else if (strcmp(key, "out") == 0) {
            parse_port(r, c->out, &c->n_out, false);
        } else if (strcmp(key, "fails") == 0) {
            c->fails = status_by_name(r->words[1]);
            if (c->fails == PS_OK) MALFORMED(r, "unknown status %s\n", r->words[1]);
        } else if (strcmp(key, "tol") == 0 && r->n_words == 3) {
            c->has_tol = true;
            c->rtol = strtod(r->words[1], NULL);
            c->atol = strtod(r->words[2], NULL);
        } else {
            MALFORMED(r, "unknown line '%s'\n", key);
        }
    }
    return false;
}

static void release_case(op_case *c) {
    for (size_t i = 0; i < c->n_in; i++)
        ps_tensor_release(c->in[i].tensor);
    for (size_t i = 0; i < c->n_out; i++)
        ps_tensor_release(c->out[i].tensor);
    for (size_t i = 0; i < c->n_attrs; i++)
        free(c->attr_lines[i]);
}

/* ---- the one-node graph ---- */

static void set_list_attr(reader *r, ps_node *node, const char *name, const char *kind, char **words, size_t n) {
    ps_arena *arena = &node->graph->root->arena;
    int64_t *ints = calloc(n + 1, sizeof *ints);
    float *floats = calloc(n + 1, sizeof *floats);
    for (size_t i = 0; i < n && kind[0] != 's'; i++) {
        ints[i] = strtoll(words[i], NULL, 10);
        floats[i] = strtof(words[i], NULL);
    }
    if (kind[0] == 'i') {
        assert_int_equal(ps_node_set_ints(node, name, ints, n, NULL), PS_OK);
    } else if (kind[0] == 'f') {
        assert_int_equal(ps_node_set_floats(node, name, floats, n, NULL), PS_OK);
    } else {
        ps_attr attr = { .name = ps_arena_strdup(arena, name), .type = PS_ATTR_STRINGS, .n = n };
        attr.u.strings = ps_arena_array(arena, n + 1, sizeof *attr.u.strings);
        for (size_t i = 0; i < n; i++) {
            decode_string(words[i]);
            attr.u.strings[i] = ps_arena_strdup(arena, words[i]);
        }
        assert_int_equal(ps_node_set_attr(node, &attr, NULL), PS_OK);
    }
    free(ints);
    free(floats);
}

/* line: NAME KIND VALUES, KIND one of i f s t is fs ss. */
static void set_attr(reader *r, ps_node *node, const char *line) {
    char *copy = strdup(line);
    char **words = calloc(MAX_WORDS, sizeof *words);
    const size_t n = split_words(copy, words, MAX_WORDS);
    if (n < 2) MALFORMED(r, "attr NAME KIND VALUES\n");
    const char *name = words[0], *kind = words[1], *first = n > 2 ? words[2] : "";
    if (strcmp(kind, "i") == 0) {
        assert_int_equal(ps_node_set_int(node, name, strtoll(first, NULL, 10), NULL), PS_OK);
    } else if (strcmp(kind, "f") == 0) {
        assert_int_equal(ps_node_set_float(node, name, strtof(first, NULL), NULL), PS_OK);
    } else if (strcmp(kind, "s") == 0) {
        decode_string(words[2]);
        assert_int_equal(ps_node_set_string(node, name, words[2], NULL), PS_OK);
    } else if (strcmp(kind, "t") == 0) {
        ps_tensor *t = parse_tensor(r, words + 2, n - 2);
        const ps_attr attr = { .name = ps_arena_strdup(&node->graph->root->arena, name),
                               .type = PS_ATTR_TENSOR,
                               .u.tensor = t };
        assert_int_equal(ps_node_set_attr(node, &attr, NULL), PS_OK);
        ps_tensor_release(t);
    } else if (kind[1] == 's') {
        set_list_attr(r, node, name, kind, words + 2, n - 2);
    } else {
        MALFORMED(r, "attribute kind '%s'\n", kind);
    }
    free(words);
    free(copy);
}

static ps_value *make_input(ps_graph *g, const port *p, size_t index, bool constants) {
    ps_value *v = NULL;
    char name[16];
    if (!p->tensor) return NULL;
    snprintf(name, sizeof name, "in%zu", index);
    if (p->is_const && constants) {
        assert_int_equal(ps_graph_add_constant(g, name, p->tensor, &v, NULL), PS_OK);
    } else {
        assert_int_equal(ps_graph_add_value(g, name, &v, NULL), PS_OK);
        v->dtype = p->tensor->dtype;
        v->shape = p->tensor->shape;
        const ps_tensor *element = ps_tensor_element(p->tensor, p->tensor->dtype == PS_DTYPE_MAP); /* a map's values */
        if (element) v->elem = element->dtype;
        assert_int_equal(ps_graph_add_input(g, v, NULL), PS_OK);
    }
    return v;
}

static ps_graph *make_graph(reader *r, const op_case *c, bool constants, ps_node **ret_node) {
    ps_graph *g = NULL;
    ps_value *in[MAX_PORTS], *out[MAX_PORTS] = { 0 };
    assert_int_equal(ps_graph_new(&r->alloc, c->name, &g, NULL), PS_OK);
    g->opsets = ps_arena_array(&g->arena, 1, sizeof *g->opsets);
    g->opsets[0] = (ps_opset) { ps_arena_strdup(&g->arena, c->domain), c->version };
    g->n_opsets = 1;
    for (size_t i = 0; i < c->n_in; i++)
        in[i] = make_input(g, &c->in[i], i, constants);
    for (size_t i = 0; i < c->n_out; i++) {
        char name[16];
        snprintf(name, sizeof name, "out%zu", i);
        if (!c->out[i].tensor && !c->fails) continue;
        assert_int_equal(ps_graph_add_value(g, name, &out[i], NULL), PS_OK);
        out[i]->shape = ps_shape_unknown();
        assert_int_equal(ps_graph_add_output(g, out[i], NULL), PS_OK);
    }
    assert_int_equal(ps_graph_add_node(g, NULL, c->op, c->domain, c->name, in, c->n_in, out, c->n_out, ret_node, NULL),
                     PS_OK);
    for (size_t i = 0; i < c->n_attrs; i++)
        set_attr(r, *ret_node, c->attr_lines[i]);
    return g;
}

/* ---- comparing ---- */

static void case_tolerance(const reader *r, const op_case *c, ps_dtype dtype, double *ret_rtol, double *ret_atol) {
    /* One rounding step of the narrow types; a few of f32, for the order of additions; f64 oracles print 17 digits. */
    *ret_rtol = dtype == PS_DTYPE_F32 ? 1e-6 : dtype == PS_DTYPE_F16 ? 1e-3 : dtype == PS_DTYPE_BF16 ? 8e-3 : 0;
    *ret_atol = dtype == PS_DTYPE_F32 ? 1e-7 : dtype == PS_DTYPE_F16 ? 1e-6 : 0;
    if (dtype == PS_DTYPE_F64) *ret_rtol = 1e-13;
    for (size_t i = 0; i < r->n_tolerances; i++)
        if (strcmp(r->tolerances[i].op, c->op) == 0) {
            *ret_rtol = fmax(*ret_rtol, r->tolerances[i].rtol);
            *ret_atol = fmax(*ret_atol, r->tolerances[i].atol);
        }
    if (c->has_tol) {
        *ret_rtol = c->rtol;
        *ret_atol = c->atol;
    }
}

static bool equal_strings(const ps_tensor *a, const ps_tensor *b) {
    const ps_string *x = a->data, *y = b->data;
    for (size_t i = 0; i < ps_tensor_count(a); i++)
        if (x[i].size != y[i].size || (x[i].size && memcmp(x[i].data, y[i].data, x[i].size))) return false;
    return true;
}

static bool close_enough(double got, double want, double rtol, double atol) {
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got)) return got == want;
    return fabs(got - want) <= atol + rtol * fabs(want);
}

/* false after printing what differs. */
static bool compare(const reader *r, const op_case *c, size_t index, const ps_tensor *got, const ps_tensor *want) {
    char text[2][128];
    if (got->dtype != want->dtype || !ps_shape_equal(&got->shape, &want->shape)) {
        print_error("%s: output %zu is %s%s, not %s%s\n", c->name, index, ps_dtype_name(got->dtype),
                    ps_shape_text(&got->shape, text[0], sizeof text[0]), ps_dtype_name(want->dtype),
                    ps_shape_text(&want->shape, text[1], sizeof text[1]));
        return false;
    }
    if (ps_dtype_is_container(want->dtype)) {
        bool equal = true;
        for (size_t i = 0; i < ps_tensor_count(want) && equal; i++)
            equal = compare(r, c, index, ps_tensor_element(got, i), ps_tensor_element(want, i));
        return equal;
    }
    if (want->dtype == PS_DTYPE_STRING) {
        if (equal_strings(got, want)) return true;
        print_error("%s: output %zu: strings differ\n", c->name, index);
        return false;
    }
    if (!got->bytes || memcmp(got->data, want->data, want->bytes) == 0) return true;
    double rtol, atol, a = 0, b = 0;
    case_tolerance(r, c, want->dtype, &rtol, &atol);
    for (size_t i = 0; i < ps_tensor_count(want); i++) {
        const bool ok = ps_tensor_get_double(got, i, &a) && ps_tensor_get_double(want, i, &b);
        if (!ok || !close_enough(a, b, rtol, atol)) {
            print_error("%s: output %zu[%zu] is %.9g, not %.9g (rtol %g, atol %g)\n", c->name, index, i, a, b, rtol,
                        atol);
            return false;
        }
    }
    return true;
}

/* ---- running ---- */

/* What the shape rule said must fit the truth, and be complete where the contract of ps_infer_fn asks for it. */
static bool check_inferred(const op_case *c, const ps_node *node, size_t i, bool constants) {
    const ps_value *v = node->out[i];
    const ps_tensor *want = c->out[i].tensor;
    char text[2][128];
    bool fits = v->dtype == want->dtype && (v->shape.rank == want->shape.rank || v->shape.rank < 0);
    for (int d = 0; fits && d < v->shape.rank; d++)
        fits = v->shape.dims[d] < 0 || v->shape.dims[d] == want->shape.dims[d];
    const ps_tensor *element = ps_tensor_element(want, 0);
    if (element && v->elem != PS_DTYPE_UNDEFINED) fits &= v->elem == element->dtype || want->dtype == PS_DTYPE_MAP;
    const bool must_tell = constants && !(node->op->traits & PS_OP_DATA_SHAPE);
    if (fits && (!must_tell || ps_shape_fixed(&v->shape))) return true;
    print_error("%s: the shape rule says %s%s of output %zu, which is %s%s\n", c->name, ps_dtype_name(v->dtype),
                ps_shape_text(&v->shape, text[0], sizeof text[0]), i, ps_dtype_name(want->dtype),
                ps_shape_text(&want->shape, text[1], sizeof text[1]));
    return false;
}

/* A tensor for an output: filled with a pattern, so that an element the kernel forgot is seen; or, if the shape rule
 * could not tell its shape, and for what owns memory (strings, containers): one without data (`blank`). */
static ps_tensor *make_output(reader *r, const ps_value *v, ps_tensor *blank) {
    ps_tensor *t = NULL;
    if (!ps_shape_fixed(&v->shape) || ps_dtype_is_object(v->dtype)) {
        *blank = (ps_tensor) { .dtype = v->dtype, .shape = v->shape, .alloc = &r->alloc };
        return blank;
    }
    assert_int_equal(ps_tensor_new(&r->alloc, v->dtype, &v->shape, &t, NULL), PS_OK);
    if (t->bytes) memset(t->data, 0xA5, t->bytes);
    return t;
}

static void drop_output(reader *r, ps_tensor *t, const ps_tensor *blank) {
    if (t != blank) {
        ps_tensor_release(t);
        return;
    }
    if (t->owned) ps_tensor_clear_objects(t, &r->alloc);
    ps_free(&r->alloc, t->owned);
}

static bool run_kernel(reader *r, const op_case *c, const ps_node *node) {
    const ps_tensor *in[MAX_PORTS];
    ps_tensor blanks[MAX_PORTS], *out[MAX_PORTS];
    ps_error err = PS_ERROR_INIT;
    for (size_t i = 0; i < c->n_in; i++)
        in[i] = c->in[i].tensor;
    for (size_t i = 0; i < c->n_out; i++)
        out[i] = node->out[i] ? make_output(r, node->out[i], &blanks[i]) : NULL;
    bool ok = true;
    if (ps_ops_run_ref(node, in, out, &r->alloc, 2, &err) != PS_OK) {
        print_error("%s: kernel: %s\n", c->name, err.msg);
        ok = false;
    }
    for (size_t i = 0; i < c->n_out; i++) {
        if (ok && out[i]) ok = compare(r, c, i, out[i], c->out[i].tensor);
        if (out[i]) drop_output(r, out[i], &blanks[i]);
    }
    return ok;
}

/* ---- failing allocations ---- */

/* What prepares its attributes or owns its elements allocates in more ways than a row of numbers does. */
static bool needs_sweep(const op_case *c, const ps_node *node) {
    bool needs = node->op->prepare != NULL;
    for (size_t i = 0; i < c->n_in; i++)
        needs |= c->in[i].tensor && ps_dtype_is_object(c->in[i].tensor->dtype);
    for (size_t i = 0; i < c->n_out; i++)
        needs |= c->out[i].tensor && ps_dtype_is_object(c->out[i].tensor->dtype);
    return needs;
}

static ps_status run_quietly(reader *r, const op_case *c, ps_graph *g, ps_node *node) {
    const ps_tensor *in[MAX_PORTS];
    ps_tensor blanks[MAX_PORTS], *out[MAX_PORTS];
    PS_TRY(ps_ops_resolve(g, NULL));
    PS_TRY(ps_ops_infer(g, NULL));
    for (size_t i = 0; i < c->n_in; i++)
        in[i] = c->in[i].tensor;
    for (size_t i = 0; i < c->n_out; i++) {
        const ps_value *v = node->out[i];
        if (v) blanks[i] = (ps_tensor) { .dtype = v->dtype, .shape = v->shape, .alloc = &r->alloc };
        out[i] = v ? &blanks[i] : NULL;
    }
    ps_status status = ps_ops_run_ref(node, in, out, &r->alloc, 1, NULL);
    for (size_t i = 0; i < c->n_out; i++)
        if (out[i]) drop_output(r, out[i], out[i]);
    return status;
}

/* Each allocation of resolving, of the shape rule and of the kernel fails once: that is said, and nothing is left. */
static bool sweep_case(reader *r, const op_case *c) {
    bool ok = true;
    for (long nth = 0; ok; nth++) {
        ps_node *node = NULL;
        const long before = atomic_load(&r->memory.live);
        ps_graph *g = make_graph(r, c, true, &node);
        atomic_store(&r->memory.failed, false);
        atomic_store(&r->memory.left, nth);
        const ps_status status = run_quietly(r, c, g, node);
        atomic_store(&r->memory.left, -1);
        const bool failed = atomic_load(&r->memory.failed);
        ps_graph_free(g);
        /* a pattern's sets may be too many for memory or for their limit: one sentence for both */
        const bool told = failed ? status == PS_NO_MEMORY || status == PS_LIMIT : status == PS_OK;
        ok = told && atomic_load(&r->memory.live) == before;
        if (!ok)
            print_error("%s: allocation %ld failing: %s, %ld blocks left\n", c->name, nth, ps_status_name(status),
                        atomic_load(&r->memory.live) - before);
        if (!failed) return ok;
    }
    return false;
}

/* ---- one case, one file ---- */

static bool run_case(reader *r, const op_case *c, bool constants) {
    ps_error err = PS_ERROR_INIT;
    ps_node *node = NULL;
    ps_graph *g = make_graph(r, c, constants, &node);
    ps_status status = ps_ops_resolve(g, &err);
    if (status == PS_OK) status = ps_ops_infer(g, &err);
    bool ok = status == c->fails;
    if (!ok) print_error("%s: %s %s\n", c->name, ps_status_name(status), status == PS_OK ? "" : err.msg);
    for (size_t i = 0; ok && !c->fails && i < c->n_out; i++)
        if (c->out[i].tensor) ok = check_inferred(c, node, i, constants);
    if (ok && !c->fails) ok = run_kernel(r, c, node);
    const bool sweep = ok && !c->fails && constants && needs_sweep(c, node);
    ps_graph_free(g);
    return sweep ? sweep_case(r, c) : ok;
}

static void run_file(void **state) {
    reader r = { .path = *state };
    ps_test_alloc_init(&r.memory, -1);
    ps_alloc_state_init(&r.alloc, &r.memory.allocator);
    r.file = fopen(r.path, "r");
    assert_non_null(r.file);
    r.words = calloc(MAX_WORDS, sizeof *r.words);
    op_case *c = calloc(1, sizeof *c);
    size_t failed = 0, total = 0;
    while (next_case(&r, c)) {
        bool has_const = false;
        for (size_t i = 0; i < c->n_in; i++)
            has_const |= c->in[i].is_const;
        bool ok = run_case(&r, c, true);
        if (ok && has_const && !c->fails) ok = run_case(&r, c, false);
        failed += !ok;
        total++;
        release_case(c);
    }
    free(c);
    free(r.words);
    free(r.line);
    fclose(r.file);
    assert_int_equal(atomic_load(&r.alloc.bytes), 0);
    print_message("%s: %zu of %zu cases pass\n", r.path, total - failed, total);
    assert_int_equal(failed, 0);
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

static void find_files(const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *e; n_files < MAX_FILES && (e = readdir(dir));) {
        const size_t n = strlen(e->d_name);
        if (n > 4 && n < 128 && strcmp(e->d_name + n - 4, ".txt") == 0) memcpy(files[n_files++], e->d_name, n + 1);
    }
    closedir(dir);
    qsort(files, n_files, sizeof files[0], by_name);
}

/* Arguments: names of case files without .txt; none: all. */
int main(int argc, char **argv) {
    static struct CMUnitTest tests[MAX_FILES];
    static char paths[MAX_FILES][sizeof PS_TEST_DATA + 136];
    size_t n = 0;
    find_files(PS_TEST_DATA "/ops");
    for (size_t i = 0; i < n_files; i++) {
        bool wanted = argc < 2;
        for (int k = 1; k < argc; k++)
            wanted |= strncmp(files[i], argv[k], strlen(argv[k])) == 0;
        if (!wanted) continue;
        snprintf(paths[n], sizeof paths[n], PS_TEST_DATA "/ops/%.127s", files[i]);
        tests[n] = (struct CMUnitTest) { files[i], run_file, NULL, NULL, paths[n] };
        n++;
    }
    return _cmocka_run_group_tests("ops_cases", tests, n, NULL, NULL);
}
