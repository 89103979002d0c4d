/* fuzz_ops.c - bytes as choices: a graph is built from rows of the operator table (types, dims, attributes, constants,
 * subgraphs as the bytes say), optimised, planned and run on small inputs. Whatever it is, it works or fails with a
 * sentence that is not an internal error. The same bytes give another graph when rows are added to the table. */
#include "run_model.h"

#include "graph/graph.h"
#include "ops/ops.h"
#include "runtime/runtime_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_VALUES = 64, MAX_DEPTH = 3, MAX_ARITY = 6, MAX_ROWS = 4096 };

typedef struct maker {
    const uint8_t *at, *end;
    ps_graph *root;
    const ps_op *rows[MAX_ROWS];
    size_t n_rows;
    int depth;
    ps_shape last;
    ps_error err;
} maker;

/* What a graph's nodes may read. */
typedef struct scope {
    ps_graph *g;
    ps_value *values[MAX_VALUES];
    size_t n;
} scope;

static unsigned next(maker *m) {
    return m->at < m->end ? *m->at++ : 0;
}

static unsigned pick(maker *m, unsigned n) {
    return next(m) % n;
}

static void add(scope *s, ps_value *v) {
    if (s->n < MAX_VALUES) s->values[s->n++] = v;
}

/* ---- types, dims, numbers: ordinary ones mostly ---- */

static ps_dtype pick_dtype(maker *m) {
    static const ps_dtype common[] = { PS_DTYPE_F32, PS_DTYPE_F32, PS_DTYPE_F32, PS_DTYPE_I64,
                                       PS_DTYPE_I64, PS_DTYPE_I32, PS_DTYPE_BOOL };
    unsigned b = next(m);
    if (b < 200) return common[b % (sizeof common / sizeof *common)];
    ps_dtype t = (ps_dtype)(1 + b % 26);
    return ps_dtype_valid((int)t) ? t : PS_DTYPE_F32;
}

static int64_t pick_int(maker *m) {
    static const int64_t odd[] = { INT64_MIN, INT64_MAX, INT32_MIN, INT32_MAX, 1 << 16, -(1 << 16), 255, 1000003 };
    unsigned b = next(m);
    return b < 224 ? (int64_t)(b % 9) - 3 : odd[b % 8];
}

static float pick_float(maker *m) {
    static const float known[] = { 0, 1, -1, 0.5f, 2, 1e-5f, 1e30f, -1e30f, 3.5f, 0.25f };
    unsigned b = next(m);
    if (b == 255) return (float)(0.0 / (double)(m->depth - m->depth)); /* NaN */
    return known[b % 10];
}

static ps_shape pick_shape(maker *m, bool fixed) {
    unsigned first = next(m);
    ps_shape s = { (int32_t)(first % 5), { 0 } };
    if (first >= 128 && ps_shape_fixed(&m->last)) return m->last; /* what fits together is worth more tries */
    for (int i = 0; i < s.rank; i++) {
        unsigned b = next(m);
        s.dims[i] = (int64_t)(b % 4) + (b < 240);
        if (!fixed && b >= 200 && b < 240) s.dims[i] = b < 220 ? PS_DIM_UNKNOWN : ps_graph_symbol(m->root, "n");
    }
    m->last = s;
    return s;
}

static ps_tensor *make_tensor(maker *m) {
    ps_dtype dtype = pick_dtype(m);
    ps_shape shape = pick_shape(m, true);
    ps_tensor *t = NULL;
    if (ps_tensor_new(m->root->alloc, dtype, &shape, &t, NULL) != PS_OK) return NULL;
    for (size_t i = 0; i < ps_tensor_count(t) && dtype != PS_DTYPE_STRING; i++) {
        if (dtype == PS_DTYPE_F32)
            ((float *)t->data)[i] = pick_float(m);
        else if (dtype == PS_DTYPE_I64)
            ((int64_t *)t->data)[i] = pick_int(m);
        else if (i < t->bytes)
            ((uint8_t *)t->data)[i] = dtype == PS_DTYPE_BOOL ? next(m) & 1 : (uint8_t)next(m);
    }
    return t;
}

/* ---- attributes ---- */

static const char *pick_text(maker *m) {
    static const char *const known[] = {
        "",         "NOTSET",  "SAME_UPPER", "SAME_LOWER", "VALID",    "linear",        "nearest",       "cubic",
        "constant", "reflect", "edge",       "wrap",       "forward",  "reverse",       "bidirectional", "add",
        "mul",      "max",     "min",        "none",       "floor",    "ceil",          "sum",           "mean",
        "DCR",      "CRD",     "ij,jk->ik",  "...i->...",  "bilinear", "align_corners", "asymmetric",    "half_pixel",
        "avg",      "LEFT",    "tanh",       "LESS_EQUAL"
    };
    return known[pick(m, sizeof known / sizeof *known)];
}

static ps_graph *make_subgraph(maker *m, ps_node *n, const scope *outer);

static bool fill_attr(maker *m, ps_node *n, const scope *outer, ps_attr *a) {
    ps_arena *arena = &m->root->arena;
    size_t count = pick(m, 5);
    switch (a->type) {
    case PS_ATTR_INT: a->u.i = pick_int(m); return true;
    case PS_ATTR_FLOAT: a->u.f = pick_float(m); return true;
    case PS_ATTR_STRING:
        a->u.s = pick_text(m);
        a->n = strlen(a->u.s);
        return true;
    case PS_ATTR_INTS:
        a->u.ints = ps_arena_array(arena, count + 1, sizeof *a->u.ints);
        for (a->n = 0; a->u.ints && a->n < count; a->n++)
            a->u.ints[a->n] = pick_int(m);
        return a->u.ints != NULL;
    case PS_ATTR_FLOATS:
        a->u.floats = ps_arena_array(arena, count + 1, sizeof *a->u.floats);
        for (a->n = 0; a->u.floats && a->n < count; a->n++)
            a->u.floats[a->n] = pick_float(m);
        return a->u.floats != NULL;
    case PS_ATTR_STRINGS:
        a->u.strings = ps_arena_array(arena, count + 1, sizeof *a->u.strings);
        for (a->n = 0; a->u.strings && a->n < count; a->n++)
            a->u.strings[a->n] = pick_text(m);
        return a->u.strings != NULL;
    case PS_ATTR_TENSOR: return (a->u.tensor = make_tensor(m)) != NULL;
    case PS_ATTR_GRAPH: return (a->u.graph = make_subgraph(m, n, outer)) != NULL;
    default: return false;
    }
}

static bool set_attrs(maker *m, ps_node *n, const ps_op *op, const scope *outer) {
    for (const ps_attr_def *d = op->attrs; d && d->name; d++) {
        if (!(d->flags & PS_ATTR_REQUIRED) && pick(m, 3)) continue;
        ps_attr a = { .name = d->name, .type = d->type };
        if (!fill_attr(m, n, outer, &a)) return false;
        ps_status status = ps_node_set_attr(n, &a, &m->err);
        if (a.type == PS_ATTR_TENSOR) ps_tensor_release(a.u.tensor); /* the node holds it */
        if (status != PS_OK) return false;
    }
    return true;
}

/* ---- nodes and graphs ---- */

static size_t arity(maker *m, int least, int most) {
    if (most == PS_VARIADIC || most > least + 2) most = least + 2;
    if (most > MAX_ARITY) most = MAX_ARITY;
    return (size_t)least + (most > least ? pick(m, (unsigned)(most - least) + 1) : 0);
}

static bool make_node(maker *m, scope *s) {
    unsigned row = next(m) | next(m) << 8;
    const ps_op *op = m->rows[row % m->n_rows];
    ps_value *in[MAX_ARITY] = { NULL }, *out[MAX_ARITY] = { NULL };
    size_t n_in = arity(m, op->min_in, op->max_in), n_out = arity(m, op->min_out, op->max_out);
    ps_node *n;
    if (n_in > MAX_ARITY || n_out > MAX_ARITY || (op->traits & PS_OP_CONTROL && m->depth >= MAX_DEPTH)) return true;
    for (size_t i = 0; i < n_in; i++) {
        unsigned b = next(m);
        if (s->n && (i < op->min_in || b < 230)) in[i] = s->values[s->n - 1 - b % (s->n < 6 ? s->n : 6)];
    }
    for (size_t i = 0; i < n_out; i++) {
        if (ps_graph_add_value(s->g, NULL, &out[i], &m->err) != PS_OK) return false;
    }
    if (ps_graph_add_node(s->g, NULL, op->name, op->domain ? op->domain : "", "", in, n_in, out, n_out, &n, &m->err) !=
        PS_OK) {
        return false;
    }
    if (!set_attrs(m, n, op, s)) return false;
    for (size_t i = 0; i < n_out; i++)
        add(s, out[i]);
    return true;
}

static bool make_ends(maker *m, scope *s, bool inputs) {
    size_t n = 1 + pick(m, 3);
    for (size_t i = 0; i < n; i++) {
        ps_value *v = NULL;
        if (inputs) {
            if (ps_graph_add_value(s->g, NULL, &v, &m->err) != PS_OK) return false;
            v->dtype = v->declared_dtype = pick_dtype(m);
            v->shape = v->declared_shape = pick_shape(m, false);
            if (ps_graph_add_input(s->g, v, &m->err) != PS_OK) return false;
            add(s, v);
            continue;
        }
        v = s->n ? s->values[s->n - 1 - pick(m, s->n < 4 ? (unsigned)s->n : 4)] : NULL;
        if (!v || v->n_outputs || v->graph != s->g) continue;
        if (ps_graph_add_output(s->g, v, &m->err) != PS_OK) return false;
    }
    return true;
}

static bool make_constants(maker *m, scope *s) {
    for (size_t n = pick(m, 4); n > 0; n--) {
        ps_tensor *t = make_tensor(m);
        ps_value *v;
        ps_status status = t ? ps_graph_add_constant(s->g, NULL, t, &v, &m->err) : PS_NO_MEMORY;
        ps_tensor_release(t);
        if (status != PS_OK) return false;
        add(s, v);
    }
    return true;
}

static bool fill_graph(maker *m, scope *s, bool inputs) {
    if (inputs && !make_ends(m, s, true)) return false;
    if (!make_constants(m, s)) return false;
    static const uint8_t counts[] = { 1, 1, 1, 2, 2, 3, 4, 8 }; /* the longer, the less likely to pass inference */
    for (size_t n = counts[pick(m, sizeof counts)]; n > 0; n--) {
        if (!make_node(m, s)) return false;
    }
    return make_ends(m, s, false);
}

static ps_graph *make_subgraph(maker *m, ps_node *n, const scope *outer) {
    scope s = { 0 };
    if (ps_graph_new_sub(outer->g, n, "sub", &s.g, &m->err) != PS_OK) return NULL;
    memcpy(s.values, outer->values, sizeof s.values);
    s.n = outer->n;
    m->depth++;
    bool ok = fill_graph(m, &s, strcmp(n->op_type, "If") != 0);
    m->depth--;
    return ok ? s.g : NULL;
}

static void list_rows(maker *m) {
    size_t n;
    const ps_op_family *const *families = ps_ops_families(&n);
    for (size_t f = 0; f < n; f++) {
        for (size_t i = 0; i < families[f]->n && m->n_rows < MAX_ROWS; i++) {
            const ps_op *op = &families[f]->ops[i];
            if (!op->domain || strcmp(op->domain, "polestar") != 0) m->rows[m->n_rows++] = op;
        }
    }
}

static bool make_graph(maker *m, ps_alloc_state *alloc) {
    scope s = { 0 };
    int64_t opset = 7 + (int64_t)pick(m, 22);
    list_rows(m);
    if (ps_graph_new(alloc, "g", &m->root, &m->err) != PS_OK) return false;
    s.g = m->root;
    if (ps_graph_set_opset(m->root, "", opset, &m->err) != PS_OK) return false;
    for (size_t i = 0; i < m->n_rows; i++) {
        const char *domain = m->rows[i]->domain;
        if (domain && domain[0] && ps_graph_opset(m->root, domain) == 0 &&
            ps_graph_set_opset(m->root, domain, 5, &m->err) != PS_OK)
            return false;
    }
    return fill_graph(m, &s, true) && m->root->n_outputs;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_engine *engine = limited_engine();
    ps_model_options options = PS_MODEL_OPTIONS_INIT;
    ps_model *model = NULL;
    maker m = { .at = data, .end = data + size, .err = PS_ERROR_INIT };
    unsigned how = next(&m);
    options.loop_limit = 100;
    options.device = how & 1 ? "ref" : "cpu";
    options.no_fusion = how & 2;
    bool made = make_graph(&m, ps_engine_alloc(engine));
    if (!made) {
        ps_graph_free(m.root);
    } else if (ps_model_from_graph(engine, m.root, &options, &model, &m.err) == PS_OK) {
        run_once(engine, model, how & 4);
        ps_model_release(model);
    } else if (m.err.status == PS_INTERNAL || !m.err.msg[0]) {
        abort();
    }
    ps_engine_free(engine);
    return 0;
}
