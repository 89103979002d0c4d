/* The exported program into a graph: its signature, then node by node in the program's order. A name that is read must
 * have been defined before, so no cycle can come about. */
#include <stdlib.h>
#include <string.h>

#include "torch/aten.h"

typedef struct importer {
    ps_tb b;
    const json_t *graph, *signature;
    ps_torch_weights *weights;
    ps_onnx_info *info;
    ps_map counts; /* operator → ps_onnx_op_count */
} importer;

/* ---- names ---- */

static ps_torch_name *bind(ps_tb *b, const char *name, ps_value *v, bool number) {
    if (b->status != PS_OK) return NULL;
    if (ps_map_get(&b->scope->names, name)) {
        PS_TB_FAIL(b, FORMAT, "%s: the name '%.100s' is defined twice", b->label, name);
        return NULL;
    }
    ps_torch_name *n = PS_ARENA_NEW(&b->arena, ps_torch_name);
    if (n) n->name = ps_arena_strdup(&b->arena, name);
    if (!n || !n->name || !ps_map_put(&b->scope->names, n->name, n)) {
        ps_tb_no_memory(b);
        return NULL;
    }
    n->value = v;
    n->number = number;
    n->memory = ++b->n_memory;
    return n;
}

static ps_status fail_meta(ps_tb *b, const char *name) {
    return PS_FAIL(b->err, FORMAT, "the program does not say what '%.100s' is (tensor_values)", name);
}

/* What the program says about a tensor. */
static ps_status read_meta(ps_tb *b, const char *name, ps_dtype *ret_dtype, ps_shape *ret_shape) {
    char what[200];
    const json_t *meta = json_object_get(b->scope->tensors, name);
    if (!json_is_object(meta)) return fail_meta(b, name);
    ps_snprintf(what, sizeof what, "tensor '%.150s'", name);
    return ps_torch_meta(meta, what, b->g->root, ret_dtype, ret_shape, b->err);
}

/* ---- outputs of a node ---- */

static const json_t *out_arg(const ps_tb *b, size_t i, const char **ret_kind) {
    return ps_json_union(json_array_get(b->outputs, i), ret_kind);
}

size_t ps_tb_out_count(ps_tb *b) {
    return json_array_size(b->outputs);
}

static const char *tensor_name(const json_t *v) {
    return json_string_value(json_object_get(v, "name"));
}

/* Name of output i if it is a tensor; of its first member if it is a list. */
static const char *out_name(const ps_tb *b, size_t i) {
    const char *kind;
    const json_t *v = out_arg(b, i, &kind);
    if (!v) return NULL;
    if (strcmp(kind, "as_tensor") == 0) return tensor_name(v);
    if (strcmp(kind, "as_tensors") == 0) return tensor_name(json_array_get(v, 0));
    if (strcmp(kind, "as_optional_tensor") == 0) return tensor_name(json_object_get(v, "as_tensor"));
    return NULL;
}

ps_dtype ps_tb_out_dtype(ps_tb *b, size_t i) {
    ps_dtype dtype = PS_DTYPE_UNDEFINED;
    ps_shape shape;
    const char *name = out_name(b, i);
    if (b->status == PS_OK && name) b->status = read_meta(b, name, &dtype, &shape);
    return dtype;
}

const ps_shape *ps_tb_out_shape(ps_tb *b, size_t i, ps_shape *buf) {
    ps_dtype dtype;
    const char *name = out_name(b, i);
    *buf = ps_shape_unknown();
    if (b->status == PS_OK && name) b->status = read_meta(b, name, &dtype, buf);
    return buf;
}

/* Graph values get the program's names where those are free: one of an inlined part may not be. */
static void name_value(ps_tb *b, ps_value *v, const char *name) {
    if (v->name[0] != '_' || v->constant || v->is_input || ps_graph_lookup(b->g, name)) return;
    b->status = ps_value_rename(v, name, b->err);
}

static void bind_tensor(ps_tb *b, const char *name, ps_value *v) {
    ps_dtype dtype;
    ps_shape shape;
    if (b->status == PS_OK) b->status = ps_torch_check_name("name of a tensor", name, b->err);
    if (b->status == PS_OK) b->status = read_meta(b, name, &dtype, &shape);
    v = ps_tb_cast(b, v, dtype);
    if (!bind(b, name, v, false)) return;
    if (v->declared_shape.rank < 0) v->declared_shape = shape;
    if (v->declared_dtype == PS_DTYPE_UNDEFINED) v->declared_dtype = dtype;
    name_value(b, v, name);
}

static void bind_number(ps_tb *b, const json_t *v, ps_value *value) {
    const char *name = json_string_value(json_object_get(v, "as_name"));
    if (name)
        bind(b, name, value, true);
    else
        PS_TB_FAIL(b, FORMAT, "%s: an output that is a number has no name", b->label);
}

void ps_tb_out(ps_tb *b, size_t i, ps_value *v) {
    const char *kind, *name = out_name(b, i);
    if (b->status != PS_OK) return;
    const json_t *arg = out_arg(b, i, &kind);
    if (!arg)
        PS_TB_FAIL(b, FORMAT, "%s: has no output %zu", b->label, i);
    else if (strncmp(kind, "as_sym_", 7) == 0)
        bind_number(b, arg, v);
    else if (name)
        bind_tensor(b, name, v);
    else if (strcmp(kind, "as_none") != 0 && strcmp(kind, "as_optional_tensor") != 0)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: output %zu is of kind '%.40s'", b->label, i, kind);
}

void ps_tb_out_list(ps_tb *b, ps_value *const *v, size_t n) {
    const char *kind;
    if (b->status != PS_OK) return;
    const json_t *list = out_arg(b, 0, &kind);
    if (!list || strcmp(kind, "as_tensors") != 0 || json_array_size(list) != n) {
        PS_TB_FAIL(b, FORMAT, "%s: its output is no list of %zu tensors", b->label, n);
        return;
    }
    for (size_t i = 0; i < n && b->status == PS_OK; i++) {
        const char *name = tensor_name(json_array_get(list, i));
        if (name)
            bind_tensor(b, name, v[i]);
        else
            PS_TB_FAIL(b, FORMAT, "%s: a tensor of its output has no name", b->label);
    }
}

/* ---- memory that names share, and operators that change it in place ---- */

static ps_torch_name *first_argument(ps_tb *b) {
    const char *kind;
    const json_t *v = ps_json_union(json_object_get(json_array_get(b->inputs, 0), "arg"), &kind);
    const char *name = v && strcmp(kind, "as_tensor") == 0 ? tensor_name(v) : NULL;
    return name ? ps_map_get(&b->scope->names, name) : NULL;
}

static void share_memory(ps_tb *b, ps_torch_name *from) {
    size_t i, k;
    const json_t *out, *item;
    json_array_foreach(b->outputs, i, out) {
        const char *kind;
        const json_t *v = ps_json_union(out, &kind), *list = json_is_array(v) ? v : NULL;
        if (v && !list && tensor_name(v)) {
            ps_torch_name *n = ps_map_get(&b->scope->names, tensor_name(v));
            if (n) n->memory = from->memory;
            if (n && i == 0) {
                n->of = from;
                n->made = b->node;
            }
        }
        json_array_foreach(list, k, item) {
            ps_torch_name *n = tensor_name(item) ? ps_map_get(&b->scope->names, tensor_name(item)) : NULL;
            if (n) n->memory = from->memory;
        }
    }
}

static void split_target(const char *target, char *name, size_t size, const char **ret_overload);

/* What the tensor behind a view is once the view is `value`; NULL where that is not known. */
static ps_value *behind_view(ps_tb *b, const ps_torch_name *view, ps_value *value) {
    char name[128];
    const char *overload;
    const json_t *node = b->node, *inputs = b->inputs;
    split_target(json_string_value(json_object_get(view->made, "target")), name, sizeof name, &overload);
    b->node = view->made;
    b->inputs = json_object_get(view->made, "inputs");
    ps_value *r = ps_torch_write_view(b, name, view->of->value, value);
    b->node = node;
    b->inputs = inputs;
    return r;
}

/* A name whose memory was changed. */
typedef struct change {
    ps_value *old, *now;
} change;

static void apply_changes(ps_tb *b, uint32_t memory, const change *c, size_t n, const ps_torch_name *result) {
    char *label = ps_arena_strdup(&b->arena, b->label);
    if (!label) {
        ps_tb_no_memory(b);
        return;
    }
    for (size_t i = 0; i < b->scope->names.room; i++) {
        ps_torch_name *name = b->scope->names.slots[i].value;
        if (!name || name == result || name->memory != memory) continue;
        size_t k = 0;
        while (k < n && name->value != c[k].old)
            k++;
        if (k < n)
            name->value = c[k].now;
        else
            name->stale = label;
    }
}

/* The tensor that was changed, and those that it is a view of, have a new value from here on, under all their names;
 * other views of the same memory are stale. */
static void changed_in_place(ps_tb *b, ps_torch_name *self) {
    change c[PS_MAX_RANK * 4];
    size_t n = 0;
    const char *name = out_name(b, 0);
    ps_torch_name *result = name ? ps_map_get(&b->scope->names, name) : NULL;
    if (!result) return;
    ps_value *now = result->value;
    for (ps_torch_name *at = self; at && now && n < sizeof c / sizeof *c && b->status == PS_OK; at = at->of) {
        if (at->of && at->of->held) {
            PS_TB_FAIL(b, UNSUPPORTED, "%s: changes a part of '%.100s', a parameter, buffer or constant of the model",
                       b->label, at->of->name);
            return;
        }
        if (n == 0 || c[n - 1].old != at->value) c[n++] = (change) { at->value, now };
        if (at->of && at->of->value != at->value) now = behind_view(b, at, now);
    }
    result->memory = self->memory;
    result->of = self->of;
    result->made = self->made;
    if (b->status == PS_OK) apply_changes(b, self->memory, c, n, result);
}

/* ---- nodes ---- */

/* "torch.ops.aten.add.Tensor" → name "add", overload "Tensor"; other namespaces keep theirs. */
static void split_target(const char *target, char *name, size_t size, const char **ret_overload) {
    static const char ops[] = "torch.ops.", aten[] = "aten.";
    bool of_ops = strncmp(target, ops, sizeof ops - 1) == 0;
    if (of_ops) target += sizeof ops - 1;
    bool of_aten = of_ops && strncmp(target, aten, sizeof aten - 1) == 0;
    if (of_aten) target += sizeof aten - 1;
    const char *dot = of_aten ? strrchr(target, '.') : NULL;
    *ret_overload = dot ? dot + 1 : "";
    ps_snprintf(name, size, "%.*s", dot ? (int)(dot - target) : (int)strlen(target), target);
}

static void unknown_operator(ps_tb *b, const char *target, const char *name) {
    if (strncmp(target, "torch.ops.aten.", 15) != 0 && strncmp(target, "torch.ops.", 10) == 0)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: operator '%.100s' is not of ATen and has no mapping", b->label, name);
    else
        PS_TB_FAIL(
            b, UNSUPPORTED,
            "%s: operator '%.100s' has no mapping; run_decompositions() before torch.export.save may replace it by "
            "simpler ones",
            b->label, name);
}

static void map_node(ps_tb *b, const char *target) {
    char name[128];
    bool inplace;
    split_target(target, name, sizeof name, &b->overload);
    b->op = ps_torch_find(name, &inplace);
    if (!b->op) {
        unknown_operator(b, target, name);
        return;
    }
    ps_torch_name *self = inplace || (b->op->flags & PS_TORCH_VIEW) ? first_argument(b) : NULL;
    if (inplace && self && self->held) {
        PS_TB_FAIL(b, UNSUPPORTED,
                   "%s: changes '%.100s', a parameter, buffer or constant of the model: models have no state", b->label,
                   self->name);
        return;
    }
    if (!(b->op->flags & PS_TORCH_IGNORE)) b->op->map(b);
    if (b->status != PS_OK || !self) return;
    if (inplace)
        changed_in_place(b, self);
    else
        share_memory(b, self);
}

static void count(ps_tb *b, const char *target) {
    importer *im = (importer *)b; /* the builder is its first member */
    char name[128];
    const char *overload;
    split_target(target, name, sizeof name, &overload);
    size_t limit = im->weights->limits.nodes ? im->weights->limits.nodes : PS_ONNX_DEFAULT_NODES;
    if (++im->info->nodes > limit) {
        PS_TB_FAIL(b, LIMIT, "the program has more than %zu nodes", limit);
        return;
    }
    ps_onnx_op_count *c = ps_map_get(&im->counts, name);
    if (!c) {
        c = PS_ARENA_NEW(&im->info->arena, ps_onnx_op_count);
        if (c) c->name = ps_arena_strdup(&im->info->arena, name);
        if (!c || !c->name || !ps_map_put(&im->counts, c->name, c)) {
            ps_tb_no_memory(b);
            return;
        }
    }
    c->count++;
}

static void run_node(ps_tb *b, const json_t *node) {
    const char *target = json_string_value(json_object_get(node, "target"));
    b->node = node;
    b->inputs = json_object_get(node, "inputs");
    b->outputs = json_object_get(node, "outputs");
    b->label[0] = '\0';
    if (!target || !json_is_array(b->inputs) || !json_is_array(b->outputs)) {
        PS_TB_FAIL(b, FORMAT, "a node of the program has no target, inputs or outputs");
        return;
    }
    b->status = ps_torch_check_name("target of a node", target, b->err);
    const char *out = json_string_value(json_object_get(node, "name"));
    if (!out) out = out_name(b, 0);
    if (b->status == PS_OK && out) b->status = ps_torch_check_name("name of a node", out, b->err);
    const char *shown = strncmp(target, "torch.ops.", 10) == 0 ? target + 10 : target;
    ps_snprintf(b->label, sizeof b->label, "%.90s '%.90s'", shown, out ? out : "");
    if (b->status == PS_OK) count(b, target);
    if (b->status == PS_OK) map_node(b, target);
}

static void run_nodes(ps_tb *b) {
    size_t i;
    const json_t *nodes = json_object_get(b->scope->graph, "nodes"), *node;
    if (!json_is_array(nodes)) PS_TB_FAIL(b, FORMAT, "a graph of the program has no list 'nodes'");
    json_array_foreach(nodes, i, node) {
        if (b->status != PS_OK) return;
        run_node(b, node);
    }
}

/* ---- subgraphs that run where they stand ---- */

/* The value that an argument of the outer scope names. */
static ps_torch_name *outer_name(ps_tb *b, const ps_torch_scope *outer, const json_t *arg) {
    const char *kind;
    const json_t *v = ps_json_union(arg, &kind);
    const char *text = v ? tensor_name(v) : NULL;
    if (v && !text) text = json_string_value(json_object_get(v, "as_name"));
    ps_torch_name *n = text ? ps_map_get(&outer->names, text) : NULL;
    if (!n || n->stale) PS_TB_FAIL(b, FORMAT, "%s: an argument of its subgraph is not defined", b->label);
    return b->status == PS_OK ? n : NULL;
}

static void bind_inputs(ps_tb *b, const ps_torch_scope *outer, const json_t *args, size_t first) {
    size_t i;
    const json_t *inputs = json_object_get(b->scope->graph, "inputs"), *input;
    if (!json_is_array(inputs) || json_array_size(inputs) + first > json_array_size(args)) {
        PS_TB_FAIL(b, FORMAT, "%s: its subgraph wants more arguments than there are", b->label);
        return;
    }
    json_array_foreach(inputs, i, input) {
        const char *kind;
        const json_t *v = ps_json_union(input, &kind);
        const char *name = tensor_name(v);
        if (v && !name) name = json_string_value(json_object_get(v, "as_name"));
        if (!name) continue; /* a plain number: nothing reads it by name */
        const ps_torch_name *from = outer_name(b, outer, json_object_get(json_array_get(args, first + i), "arg"));
        ps_torch_name *n = from ? bind(b, name, from->value, from->number) : NULL;
        if (n) n->held = from->held;
    }
}

static void give_outputs(ps_tb *b, const ps_torch_scope *inner) {
    size_t i;
    const json_t *outputs = json_object_get(inner->graph, "outputs"), *output;
    size_t n = json_array_size(outputs);
    const char *kind;
    const json_t *first = out_arg(b, 0, &kind);
    bool list = first && strcmp(kind, "as_tensors") == 0;
    ps_value **values = ps_arena_array(&b->arena, n + 1, sizeof(ps_value *));
    if (!values) {
        ps_tb_no_memory(b);
        return;
    }
    json_array_foreach(outputs, i, output) {
        const ps_torch_name *from = outer_name(b, inner, output);
        if (!from) return;
        values[i] = from->value;
        if (!list) ps_tb_out(b, i, from->value);
    }
    if (list) ps_tb_out_list(b, values, n);
}

void ps_tb_inline(ps_tb *b, const json_t *graph, const json_t *args, size_t first) {
    ps_torch_scope inner = { .graph = graph, .tensors = json_object_get(graph, "tensor_values") }, *outer = b->scope;
    const json_t *node = b->node, *inputs = b->inputs, *outputs = b->outputs;
    const ps_torch_op *op = b->op;
    char label[sizeof b->label];
    memcpy(label, b->label, sizeof label);
    inner.depth = outer->depth + 1;
    if (inner.depth > PS_TORCH_MAX_DEPTH)
        PS_TB_FAIL(b, LIMIT, "%s: subgraphs are nested more than %d deep", b->label, PS_TORCH_MAX_DEPTH);
    if (b->status != PS_OK) return;
    ps_map_init(&inner.names, b->alloc);
    b->scope = &inner;
    bind_inputs(b, outer, args, first);
    if (b->status == PS_OK) run_nodes(b);
    b->scope = outer;
    b->node = node;
    b->inputs = inputs;
    b->outputs = outputs;
    b->op = op;
    memcpy(b->label, label, sizeof label);
    if (b->status == PS_OK) give_outputs(b, &inner);
    ps_map_release(&inner.names);
}

/* ---- the signature ---- */

static ps_status add_constant(importer *im, const json_t *spec, const char *key) {
    ps_tb *b = &im->b;
    const char *name, *target;
    json_t *arg;
    ps_tensor *t;
    ps_value *v;
    ps_dtype dtype;
    ps_shape shape;
    PS_TRY(ps_member_object(spec, "arg", "an input of the signature", &arg, b->err));
    PS_TRY(ps_member_text(arg, "name", "an input of the signature", &name, b->err));
    PS_TRY(ps_member_text(spec, key, "an input of the signature", &target, b->err));
    PS_TRY(ps_torch_check_name("name of a tensor", name, b->err));
    PS_TRY(ps_torch_check_name("name of a weight", target, b->err));
    PS_TRY(read_meta(b, name, &dtype, &shape));
    PS_TRY(ps_torch_weight(im->weights, target, &t, b->err));
    ps_status status = PS_OK;
    if (t->dtype != dtype || !ps_shape_equal(&t->shape, &shape))
        status = PS_FAIL(b->err, FORMAT,
                         "weight '%.150s': the program and the table of weights disagree on its type or shape", target);
    if (status == PS_OK) status = ps_graph_add_constant(b->g, name, t, &v, b->err);
    ps_tensor_release(t);
    if (status != PS_OK) return status;
    ps_torch_name *n = bind(b, name, v, false);
    if (n) n->held = true;
    return b->status;
}

static ps_status add_tensor_input(ps_tb *b, const char *name) {
    ps_value *v;
    PS_TRY(ps_graph_add_value(b->g, name, &v, b->err));
    PS_TRY(read_meta(b, name, &v->dtype, &v->shape));
    v->declared_dtype = v->dtype;
    v->declared_shape = v->shape;
    PS_TRY(ps_graph_add_input(b->g, v, b->err));
    bind(b, name, v, false);
    return b->status;
}

/* A SymInt … of the caller is a tensor without dims. */
static ps_status add_number_input(ps_tb *b, const char *name, const char *kind) {
    ps_value *v;
    PS_TRY(ps_graph_add_value(b->g, name, &v, b->err));
    v->dtype = strcmp(kind, "as_sym_int") == 0     ? PS_DTYPE_I64
               : strcmp(kind, "as_sym_float") == 0 ? PS_DTYPE_F64
                                                   : PS_DTYPE_BOOL;
    v->shape = ps_shape_make(0, NULL);
    v->declared_dtype = v->dtype;
    v->declared_shape = v->shape;
    PS_TRY(ps_graph_add_input(b->g, v, b->err));
    bind(b, name, ps_tb_unsqueeze(b, v, 0), true);
    return b->status;
}

static ps_status add_user_input(ps_tb *b, const json_t *spec) {
    const char *kind;
    const json_t *v = ps_json_union(json_object_get(spec, "arg"), &kind);
    PS_FAIL_IF(!v, b->err, FORMAT, "a user input of the signature has no argument");
    const char *name = tensor_name(v);
    bool number = strncmp(kind, "as_sym_", 7) == 0;
    if (number) name = json_string_value(json_object_get(v, "as_name"));
    if (!number && strcmp(kind, "as_tensor") != 0) {
        /* A plain number, text or None was part of the export: it is not asked for again. */
        return PS_OK;
    }
    PS_FAIL_IF(!name, b->err, FORMAT, "a user input of the signature has no name");
    PS_TRY(ps_torch_check_name("name of an input", name, b->err));
    return number ? add_number_input(b, name, kind) : add_tensor_input(b, name);
}

static ps_status add_input(importer *im, const json_t *spec) {
    const char *kind;
    const json_t *v = ps_json_union(spec, &kind);
    PS_FAIL_IF(!v, im->b.err, FORMAT, "an input of the signature is no union of one kind");
    if (strcmp(kind, "parameter") == 0) return add_constant(im, v, "parameter_name");
    if (strcmp(kind, "buffer") == 0) return add_constant(im, v, "buffer_name");
    if (strcmp(kind, "tensor_constant") == 0) return add_constant(im, v, "tensor_constant_name");
    if (strcmp(kind, "user_input") == 0) return add_user_input(&im->b, v);
    PS_FAIL_IF(strcmp(kind, "constant_input") != 0, im->b.err, UNSUPPORTED,
               "the program has an input of kind '%.40s': only tensors and numbers are supported", kind);
    return PS_OK;
}

/* A graph output is a value of its own under the program's name. */
static ps_status own_output(ps_tb *b, ps_value *v, const char *name, bool number) {
    ps_value *out, *shaped = number ? ps_tb_squeeze(b, v, 0) : v;
    if (b->status != PS_OK) return b->status;
    if (shaped->producer && !shaped->n_outputs && strcmp(shaped->name, name) == 0) {
        out = shaped;
    } else {
        bool taken = ps_graph_find(b->g, name) != NULL;
        PS_TRY(ps_graph_add_value(b->g, taken ? NULL : name, &out, b->err));
        PS_TRY(ps_graph_add_node(b->g, NULL, "Identity", "", "", &shaped, 1, &out, 1, NULL, b->err));
        out->declared_dtype = shaped->declared_dtype;
        out->declared_shape = shaped->declared_shape;
    }
    return ps_graph_add_output(b->g, out, b->err);
}

static ps_status add_user_output(ps_tb *b, const json_t *spec) {
    const char *kind;
    const json_t *v = ps_json_union(json_object_get(spec, "arg"), &kind);
    PS_FAIL_IF(!v, b->err, FORMAT, "a user output of the signature has no argument");
    const char *name = tensor_name(v);
    bool number = strncmp(kind, "as_sym_", 7) == 0;
    if (number) name = json_string_value(json_object_get(v, "as_name"));
    if (!name) return PS_OK; /* None, or a number that the export fixed */
    const ps_torch_name *n = ps_map_get(&b->scope->names, name);
    PS_FAIL_IF(!n, b->err, FORMAT, "output '%.100s': is not defined by any node or input", name);
    PS_FAIL_IF(n->stale, b->err, UNSUPPORTED,
               "output '%.80s': is a view of memory that %.100s changed: export with run_decompositions({})", name,
               n->stale);
    return own_output(b, n->value, name, n->number);
}

static ps_status add_output(ps_tb *b, const json_t *spec) {
    const char *kind;
    const json_t *v = ps_json_union(spec, &kind);
    PS_FAIL_IF(!v, b->err, FORMAT, "an output of the signature is no union of one kind");
    if (strcmp(kind, "user_output") == 0) return add_user_output(b, v);
    const char *buffer = json_string_value(json_object_get(v, "buffer_name"));
    PS_FAIL_IF(
        strcmp(kind, "buffer_mutation") == 0, b->err, UNSUPPORTED,
        "the program changes its buffer '%.100s' at each run: models have no state; export in eval mode, or pass the "
        "state in and out",
        buffer ? buffer : "");
    /* What it does to its caller's tensors stays with us: their memory is not written. */
    if (strcmp(kind, "user_input_mutation") == 0) return PS_OK;
    return PS_FAIL(b->err, UNSUPPORTED,
                   "the program has an output of kind '%.40s': only tensors and numbers are supported", kind);
}

static ps_status read_inputs(importer *im) {
    size_t i;
    json_t *specs;
    const json_t *spec;
    PS_TRY(ps_member_array(im->signature, "input_specs", "the signature", &specs, im->b.err));
    json_array_foreach(specs, i, spec) PS_TRY(add_input(im, spec));
    return PS_OK;
}

static ps_status read_outputs(importer *im) {
    size_t i;
    json_t *specs;
    const json_t *spec;
    PS_TRY(ps_member_array(im->signature, "output_specs", "the signature", &specs, im->b.err));
    json_array_foreach(specs, i, spec) PS_TRY(add_output(&im->b, spec));
    PS_FAIL_IF(im->b.g->n_outputs == 0, im->b.err, FORMAT, "the program has no outputs");
    return PS_OK;
}

/* ---- the whole ---- */

static int by_count_then_name(const void *a, const void *c) {
    const ps_onnx_op_count *x = a, *y = c;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return strcmp(x->name, y->name);
}

static ps_status finish_info(importer *im) {
    ps_onnx_info *info = im->info;
    if (!im->counts.size) return PS_OK;
    info->ops = ps_arena_array(&info->arena, im->counts.size, sizeof *info->ops);
    if (!info->ops) return PS_FAIL_NOMEM(im->b.err, "operator counts");
    for (size_t i = 0; i < im->counts.room; i++) {
        const ps_map_slot *s = &im->counts.slots[i];
        if (s->value) info->ops[info->n_ops++] = *(const ps_onnx_op_count *)s->value;
    }
    qsort(info->ops, info->n_ops, sizeof *info->ops, by_count_then_name);
    return PS_OK;
}

/* What our shape rules find must be what the program says: else a mapping or the file is wrong. */
static ps_status compare_types(const ps_graph *g, ps_error *err) {
    for (const ps_value *v = g->all_values; v; v = v->next_all) {
        if (!v->producer || v->declared_dtype == PS_DTYPE_UNDEFINED || v->dtype == PS_DTYPE_UNDEFINED) continue;
        PS_FAIL_IF(v->dtype != v->declared_dtype, err, FORMAT, "'%s' comes out as %s, the program says %s", v->name,
                   ps_dtype_name(v->dtype), ps_dtype_name(v->declared_dtype));
        const ps_shape *s = &v->shape, *d = &v->declared_shape;
        char a[96], c[96];
        bool same = s->rank < 0 || d->rank < 0 || s->rank == d->rank;
        for (int i = 0; same && s->rank >= 0 && i < d->rank; i++)
            same = s->dims[i] < 0 || d->dims[i] < 0 || s->dims[i] == d->dims[i];
        PS_FAIL_IF(!same, err, FORMAT, "'%s' comes out as %s, the program says %s", v->name,
                   ps_shape_text(s, a, sizeof a), ps_shape_text(d, c, sizeof c));
    }
    return PS_OK;
}

static ps_status build(importer *im) {
    ps_tb *b = &im->b;
    PS_TRY(read_inputs(im));
    run_nodes(b);
    PS_TRY(b->status);
    PS_TRY(read_outputs(im));
    PS_TRY(finish_info(im));
    PS_TRY(ps_graph_sort(b->g, b->err));
    PS_TRY(ps_ops_resolve(b->g, b->err));
    PS_TRY(ps_ops_infer(b->g, b->err));
    PS_TRY(compare_types(b->g, b->err));
    return ps_graph_verify(b->g, b->err);
}

static ps_status start(importer *im, const json_t *program) {
    json_t *module, *graph, *signature, *tensors;
    ps_error *err = im->b.err;
    PS_TRY(ps_member_object(program, "graph_module", "the program", &module, err));
    PS_TRY(ps_member_object(module, "graph", "the program's graph_module", &graph, err));
    PS_TRY(ps_member_object(module, "signature", "the program's graph_module", &signature, err));
    PS_TRY(ps_member_object(graph, "tensor_values", "the program's graph", &tensors, err));
    im->graph = graph;
    im->signature = signature;
    im->b.scope->graph = graph;
    im->b.scope->tensors = tensors;
    PS_TRY(ps_graph_new(im->b.alloc, im->info->graph_name, &im->b.g, err));
    return ps_graph_set_opset(im->b.g, "", PS_TORCH_OPSET, err);
}

ps_status ps_torch_import(ps_alloc_state *alloc, const json_t *program, ps_torch_weights *weights, ps_graph **ret,
                          ps_onnx_info *info, ps_error *err) {
    ps_torch_scope scope = { 0 };
    importer im = { .b = { .alloc = alloc, .err = err, .scope = &scope }, .weights = weights, .info = info };
    ps_arena_init(&im.b.arena, alloc);
    ps_map_init(&scope.names, alloc);
    ps_map_init(&im.counts, alloc);
    ps_status status = start(&im, program);
    if (status == PS_OK) status = build(&im);
    ps_map_release(&im.counts);
    ps_map_release(&scope.names);
    ps_arena_release(&im.b.arena);
    if (status == PS_OK)
        *ret = im.b.g;
    else
        ps_graph_free(im.b.g);
    return status;
}
